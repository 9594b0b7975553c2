"""Films of the policies that a run has trained: MP4 and GIF, drawn without a screen."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from purerl.config import ConfigError, Rule, validate
from purerl.types import Env, HostEnv
from purerl.user_paths import user_path
from purerl.workbench.episodes import make_player

SUFFIXES = (".mp4", ".gif")
BLOCK = 100
"""Frames drawn at a time: 70 MB at 480 x 480."""


class Film(NamedTuple):
    """A film that was written."""

    path: Path
    frames: int
    returns: list[float]
    """Undiscounted return of each episode, as far as it is shown."""


@jax.transfer_guard("allow")
def record_video(
    run_dir: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    member: int = 0,
    episodes: int = 1,
    max_steps: int = 1000,
    best: bool = False,
    itr: int | None = None,
    stochastic: bool = False,
    seed: int = 0,
    fps: int = 30,
    width: int = 480,
    height: int = 480,
    camera: Any = None,
    env: Env | HostEnv | None = None,
    networks: Mapping[str, Any] | None = None,
) -> Film:
    """Write a film of a member's policy, one episode after the other.

    Args:
        run_dir: the `logdir` of `purerl.run`.
        path: of the film; its suffix, .mp4 or .gif, is the format.
        member: index of the member.
        episodes: number of episodes.
        max_steps: longest part of an episode that is shown.
        best: the policy of the best evaluation, in place of the newest.
        itr: the policy of this epoch, which the run has kept, in place of the newest.
        stochastic: act as in training, with exploration.
        seed: root of the random numbers.
        fps: frames per second; each is one step of the environment.
        width: of a frame, in pixels; those of an environment that steps in Python have its own size.
        height: of a frame, in pixels.
        camera: as in the environment's `render`.
        env: the task; the run's own if None.
        networks: those the run was trained with, if not the algorithm's own.

    Raises:
        ConfigError: for an argument that is not allowed, or an environment without pictures.
        CheckpointError: if there is no checkpoint that can be read.
    """
    validate("episodes", episodes, Rule("count", 1, 100_000))
    validate("fps", fps, Rule("count", 1, 240))
    imageio, place = film_writer(), user_path("path", path)
    if place.suffix.lower() not in SUFFIXES:
        raise ConfigError("path", str(place), f"a file that ends in {' or '.join(SUFFIXES)}")
    if not place.parent.is_dir():
        raise ConfigError("path", str(place), "a file in a directory that exists")
    asked: dict[str, Any] = {"member": member, "max_steps": max_steps, "best": best, "itr": itr}
    asked |= {"stochastic": stochastic, "width": width, "height": height, "camera": camera}
    player = make_player(run_dir, **asked, env=env, networks=networks, block=BLOCK)
    count, returns = 0, []
    temporary = place.with_name(f".{place.stem}.tmp-{os.getpid()}{place.suffix}")
    options: dict[str, Any] = {"duration": 1000 / fps, "loop": 0}
    if place.suffix.lower() == ".mp4":
        options = {"fps": fps, "macro_block_size": 2}
    try:
        with warnings.catch_warnings(), _writer(imageio, temporary, options) as writer:
            for i in range(episodes):
                for frame in player.episode(seed, i, stochastic):
                    if frame.draw:
                        writer.append_data(frame.draw())
                        count += 1
                returns.append(frame.total)
        os.replace(temporary, place)
    finally:
        player.close()
        temporary.unlink(missing_ok=True)
    return Film(place, count, returns)


def _writer(imageio: Any, path: Path, options: dict[str, Any]) -> Any:
    """Return a writer of frames, which starts the encoder as a process of its own."""
    # JAX's warning: the process is another program at once.
    warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
    return imageio.get_writer(path, **options)


def film_writer() -> Any:
    """Return the package that writes films. Raises ConfigError if it is not installed."""
    try:
        import imageio.v2 as imageio
        import imageio_ffmpeg  # noqa: F401
    except ImportError as error:
        raise ConfigError("path", "", "an installed imageio", 'Try pip install "purerl[video]".') from error
    return imageio
