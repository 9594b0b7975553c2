"""The command line: options in, a run out."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import tyro

from purerl import registry
from purerl.config import (
    ALIASES,
    Config,
    ConfigError,
    check,
    count,
    did_you_mean,
    from_dict,
    real,
    switch,
    text,
)
from purerl.experiment.config_file import cast, read_config


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """What to run, and how; each field has a rule, as those of a Config do."""

    algo: str = text("ppo")
    """Algorithm: one of those in purerl/registry.py, such as ppo or sac."""
    config: str | None = text(None, optional=True)
    """JSON, YAML or TOML file of fields; what the command line says wins over it."""
    seeds: int = count(1)
    """Seeds trained side by side in one program."""
    logdir: str | None = text(None, optional=True)
    """Directory of the run, with one directory per seed in it; by default runs/ALGO-ENV-DATE-TIME."""
    stop_at_return: float | None = real(None, optional=True)
    """End early once every seed's latest return, of evaluations where they are on, is at least this."""
    quiet: bool = switch(False)
    """Show no progress."""


def train(argv: Sequence[str] | None = None) -> int:
    """Parse `argv`, train, and return the exit code: 0, 2 for a bad option, 130 for Ctrl-C."""
    try:
        options, cfg = parse(sys.argv[1:] if argv is None else argv)
        from purerl.experiment.run import run  # after parsing: errors and --help do not wait for it

        logdir = options.logdir or f"runs/{cfg.algo}-{cfg.env}-{time.strftime('%Y%m%d-%H%M%S')}"
        run(cfg, options.seeds, logdir, stop_at_return=options.stop_at_return, progress=not options.quiet)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; every row shown is in the logs", file=sys.stderr)
        return 130
    return 0


def parse(argv: Sequence[str]) -> tuple[RunOptions, Config]:
    """The options of `argv`. What it says wins over `--config FILE`, which wins over the defaults.

    Of an option that is given twice, the last value counts. `--quiet`, `--quiet True` and
    `--no-quiet` set a switch.

    Raises:
        ConfigError: for an unknown option, a bad value or a bad file.
        SystemExit: for `--help` (0).
    """
    argv = [_spelt_out(token) for token in argv]
    options, _ = _tyro(RunOptions(), argv, add_help=False)
    values = read_config(Path(options.config)) if options.config else {}
    algo = values.pop("algo", options.algo) if options.algo == RunOptions.algo else options.algo
    ...
