"""Films of the policies that a run has trained: MP4 and GIF, drawn without a screen."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purerl import evaluate as inside
from purerl.config import Config, ConfigError, Rule, validate
from purerl.experiment.loading import load
from purerl.make import env_for, make_env, make_policy
from purerl.train import evaluation_key
from purerl.types import Env, HostEnv
from purerl.user_paths import user_path

SUFFIXES = (".mp4", ".gif")
Write = Callable[[np.ndarray], None]
"""Takes a frame, `[height, width, 3]` uint8."""
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
    for name, value in {"episodes": episodes, "max_steps": max_steps}.items():
        validate(name, value, Rule("count", 1, 100_000))
    validate("fps", fps, Rule("count", 1, 240))
    for name, value in {"width": width, "height": height}.items():
        validate(name, value, Rule("count", 16, 4096))
    place = user_path("path", path)
    if place.suffix.lower() not in SUFFIXES:
        raise ConfigError("path", str(place), f"a file that ends in {' or '.join(SUFFIXES)}")
    if not place.parent.is_dir():
        raise ConfigError("path", str(place), "a file in a directory that exists")
    imageio = _imageio()
    cfg, state = load(run_dir, best=best, itr=itr, policy_only=True, env=env, networks=networks)
    task = _drawn(cfg) if env is None else env_for(cfg, env)
    if not isinstance(task, HostEnv) and getattr(task, "render", None) is None:
        raise ConfigError("env", task.name, "an environment with pictures; this one has no render")
    policy = make_policy(cfg, state, member, task, networks, explore=stochastic)
    size: dict[str, Any] = {"width": width, "height": height}
    play: Any = _play_host if isinstance(task, HostEnv) else _play
    root, count, returns = jax.random.key(seed), 0, []

    def write(frame: np.ndarray) -> None:
        nonlocal count
        writer.append_data(frame)
        count += 1

    temporary = place.with_name(f".{place.stem}.tmp-{os.getpid()}{place.suffix}")
    options: dict[str, Any] = {"duration": 1000 / fps, "loop": 0}
    if place.suffix.lower() == ".mp4":
        options = {"fps": fps, "macro_block_size": 2}
    try:
        with warnings.catch_warnings(), _writer(imageio, temporary, options) as writer:
            for i in range(episodes):
                key = evaluation_key(root, jnp.int32(i), stochastic)
                returns.append(play(task, policy, key, max_steps, camera, size, write))
        os.replace(temporary, place)
    finally:
        temporary.unlink(missing_ok=True)
    return Film(place, count, returns)


def _writer(imageio: Any, path: Path, options: dict[str, Any]) -> Any:
    """Return a writer of frames, which starts the encoder as a process of its own."""
    # JAX's warning: the process is another program at once.
    warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
    return imageio.get_writer(path, **options)


def _imageio() -> Any:
    """Return the package that writes films. Raises ConfigError if it is not installed."""
    try:
        import imageio.v2 as imageio
        import imageio_ffmpeg  # noqa: F401
    except ImportError as error:
        raise ConfigError("path", "", "an installed imageio", 'Try pip install "purerl[video]".') from error
    return imageio


def _drawn(cfg: Config) -> Env | HostEnv:
    """Return the environment that `cfg` names; one of Gymnasium's so that it draws itself."""
    if cfg.env.startswith("gym:") and not cfg.env.startswith("gym:ALE/"):
        return make_env(cfg.env, cfg.engine, **{**cfg.env_kwargs, "render_mode": "rgb_array"})
    return env_for(cfg, None)


def _play(
    env: Any,
    policy: inside.Policy,
    key: Any,
    max_steps: int,
    camera: Any,
    size: Mapping[str, int],
    write: Write,
) -> float:
    """Write the frames of one episode inside the program, and return its return."""
    key_reset, key_steps = inside.keys_of(key)
    length = min(max_steps, env.max_episode_steps)

    def step(loop, time):
        obs, state, carry, alive = loop
        key_act, key_env = inside.keys_at(key_steps, time)
        row = jax.tree.map(lambda leaf: leaf[None], obs)
        action, carry = policy.act(carry, row, key_act)
        obs, state, reward, terminated, truncated, _ = env.step(key_env, state, action[0])
        still = alive & ~(terminated | truncated)
        return (obs, state, carry, still), (state, jnp.where(alive, reward, 0), alive)

    @jax.jit
    def episode():
        obs, state = env.reset(key_reset)
        loop = obs, state, policy.init(1), jnp.bool_(True)
        return state, jax.lax.scan(step, loop, jnp.arange(length))[1]

    first, (states, rewards, alive) = episode()
    shown = int(np.asarray(alive).sum())

    view = size if camera is None else {**size, "camera": camera}
    write(env.render(first, **view))
    for i in range(0, shown, BLOCK):
        part = slice(i, min(i + BLOCK, shown))
        for frame in env.render(jax.tree.map(lambda leaf, part=part: leaf[part], states), **view):
            write(frame)
    return float(np.asarray(rewards).sum())


def _play_host(
    env: HostEnv, policy: inside.Policy, key: Any, max_steps: int, camera: Any, size: Any, write: Write
) -> float:
    """Do the same with an environment that steps in Python, whose pictures have their own view and size."""
    key_reset, key_steps = inside.keys_of(key)
    act, total = jax.jit(policy.act), 0.0
    vector = env.make_vector(1, True)
    try:
        obs, carry = vector.reset([int(jax.random.randint(key_reset, (), 0, 2**31 - 1))]), policy.init(1)
        for time in range(min(max_steps, env.max_episode_steps)):
            write(vector.picture())
            action, carry = act(carry, obs, inside.keys_at(key_steps, time)[0])
            obs, reward, terminated, truncated = vector.step(np.asarray(action))
            total += float(reward[0])
            if terminated[0] or truncated[0]:
                break
    finally:
        vector.close()
    return total
