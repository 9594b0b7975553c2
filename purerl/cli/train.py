"""`purerl train` and `purerl resume`: options in, a run out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from purerl.cli.compilation_cache import use_compilation_cache
from purerl.cli.configure import devices_of, directory_of, parse, sinks_of
from purerl.cli.ending import ending
from purerl.config import ConfigError
from purerl.experiment.display import Lasting
from purerl.experiment.logs import final_return
from purerl.experiment.record import members_of, read_record
from purerl.experiment.runner import run
from purerl.experiment.signals import SecondEndsAtOnce
from purerl.experiment.sweep import is_sweep
from purerl.user_paths import user_path
from purerl.workbench.video import film_writer, record_video


def train(argv: Sequence[str]) -> int:
    """Train as `argv` says, and return 3 if a member diverged, 0 otherwise."""
    options, cfg = parse(argv, "purerl train")
    if options.film:
        film_writer()
    use_compilation_cache(options.compilation_cache)
    with SecondEndsAtOnce():
        result = run(
            cfg,
            options.seeds,
            options.resume or directory_of(options, f"{cfg.algo}-{cfg.env}"),
            first_seed=options.first_seed,
            exp_name=options.exp_name,
            sinks=sinks_of(options),
            resume=options.resume is not None,
            allow_changes=options.allow_changes,
            stop_at_return=options.stop_at_return,
            devices=devices_of(options),
            progress=not options.quiet,
        )
    if not options.quiet and sys.stderr is not None:
        plain = "utf" not in (sys.stderr.encoding or "").lower()
        if last := ending(result, plain):
            print(last, file=Lasting(sys.stderr))
    if options.film and result.logdir:
        _film(result.logdir)
    return 3 if (result.diverged_at >= 0).any() else 0


def _film(place: Path) -> None:
    """Film the member with the highest final return, and say where the film is, or why there is none."""
    try:
        names = members_of(read_record(place, "run")).names
        returns = [final_return(place / name / "metrics.jsonl") for name in names]
        best = int(np.argmax(np.nan_to_num(returns, nan=-np.inf)))
        film = record_video(place, place / "film.mp4", member=best)
        text = f"{film.path}: {film.frames:,} frames, return {film.returns[0]:,.1f}"
    except Exception as error:  # drivers, encoders and environments raise many kinds
        text = f"no film: {str(error) or type(error).__name__}"
    print(text, file=Lasting(sys.stderr))


def resume(argv: Sequence[str]) -> int:
    """Go on with the run or the sweep whose directory is the first word of `argv`."""
    if argv and not argv[0].startswith("-"):
        path, options = argv[0], argv[1:]
        if is_sweep(user_path("run", path)):
            from purerl.cli.sweep import resume_sweep

            return resume_sweep(path, options)
        return train(["--resume", path, *options])
    if {"-h", "--help", "--help-all"} & {*argv}:
        print("usage: purerl resume RUN [--option value ...]\n\nOptions are those of purerl train.")
        return 0
    raise ConfigError("run", argv[0] if argv else "", "a directory first, as in purerl resume runs/one")
