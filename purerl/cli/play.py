"""`purerl play`: a film of a trained policy."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence

from purerl.cast import cast
from purerl.cli.compilation_cache import use_compilation_cache
from purerl.cli.configure import HELP, user_defaults
from purerl.cli.options import help_text, one_directory, read_options
from purerl.config import count, from_dict, switch, text
from purerl.experiment.display import Lasting
from purerl.workbench.video import record_video


@dataclasses.dataclass(frozen=True)
class PlayOptions:
    """Options of the film."""

    out: str = text("film.mp4")
    """File to write; .mp4 or .gif is its format."""
    member: int = count(0, low=0)
    """Index of the member: the seed's, without a sweep."""
    episodes: int = count(1)
    """Episodes, one after the other."""
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
    """Write a film of the run whose directory is in `argv`, say where it is, and return 0.

    Raises ConfigError for an unknown option, or a run without pictures.
    """
    if HELP & {*argv}:
        print(help_text("purerl play", PlayOptions(), usage="%(prog)s RUN [--option value ...]"), end="")
        return 0
    given, words = read_options(argv, PlayOptions)
    run = one_directory(words, "play", PlayOptions)
    fields = dataclasses.asdict(from_dict(PlayOptions, user_defaults(PlayOptions) | cast(PlayOptions, given)))
    use_compilation_cache(fields.pop("compilation_cache"))
    film = record_video(run, fields.pop("out"), **fields)
    returns = ", ".join(f"{value:,.1f}" for value in film.returns)
    print(f"{film.path}: {film.frames:,} frames, return {returns}", file=Lasting(sys.stdout))
    return 0
