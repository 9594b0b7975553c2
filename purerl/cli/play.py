"""`purerl play`: a trained policy, as a film or in a window."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence

from purerl.cast import cast
from purerl.cli.compilation_cache import use_compilation_cache
from purerl.cli.configure import HELP, user_defaults
from purerl.cli.options import help_text, one_directory, read_options
from purerl.config import ConfigError, count, from_dict, switch, text
from purerl.experiment.display import Lasting
from purerl.workbench.video import record_video
from purerl.workbench.window import watch


@dataclasses.dataclass(frozen=True)
class PlayOptions:
    """Options of the film, or of the window."""

    out: str | None = text(None, optional=True)
    """File to write, film.mp4 by default; .mp4 or .gif is its format."""
    window: bool = switch(False)
    """Show the policy in a window, in place of a film."""
    member: int = count(0, low=0)
    """Index of the member: the seed's, without a sweep."""
    episodes: int | None = count(None, optional=True)
    """Episodes, one after the other; by default 1 in a film, and any number until the window is closed."""
    max_steps: int = count(1000)
    """Longest part of an episode that is shown."""
    best: bool = switch(False)
    """Play the policy of the best evaluation, in place of the newest."""
    itr: int | None = count(None, low=0, optional=True)
    """Play the policy of this epoch, which the run has kept: see --snapshot-interval."""
    stochastic: bool = switch(False)
    """Act with exploration, as in training."""
    seed: int = count(0, low=0, high=2**32 - 1)
    """Root of the random numbers."""
    fps: int = count(30)
    """Frames per second; each is a step of the environment."""
    width: int = count(480)
    """Width of a frame in pixels; environments of Gymnasium have their own."""
    height: int = count(480)
    """Height of a frame in pixels."""
    camera: str | None = text(None, optional=True)
    """Camera of a MuJoCo task, such as track."""
    compilation_cache: str = text("auto")
    """Directory of compiled programs; auto for one in the user's cache directory, none for no cache."""


def play(argv: Sequence[str]) -> int:
    """Film or show the run whose directory is in `argv`, say what was played, and return 0.

    Raises ConfigError for an unknown option, a run without pictures, or a window without a display.
    """
    if HELP & {*argv}:
        print(help_text("purerl play", PlayOptions(), usage="%(prog)s RUN [--option value ...]"), end="")
        return 0
    given, words = read_options(argv, PlayOptions)
    run = one_directory(words, "play", PlayOptions)
    fields = dataclasses.asdict(from_dict(PlayOptions, user_defaults(PlayOptions) | cast(PlayOptions, given)))
    out, in_window, episodes = (fields.pop(name) for name in ("out", "window", "episodes"))
    if in_window and out is not None:
        raise ConfigError("window", True, f"False beside out = {out!r}", "Play is a film or a window.")
    use_compilation_cache(fields.pop("compilation_cache"))
    if in_window:
        returns = watch(run, episodes=episodes, **fields)
        what = f"{len(returns):,} episode{'s' * (len(returns) != 1)}"
    else:
        film = record_video(run, out or "film.mp4", episodes=episodes or 1, **fields)
        returns, what = film.returns, f"{film.path}: {film.frames:,} frames"
    text = ", ".join(f"{value:,.1f}" for value in returns) or "unknown"
    print(f"{what}, return {text}", file=Lasting(sys.stdout))
    return 0
