"""The command that trains: options in, a run out."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Sequence

from purerl.cli.compilation_cache import use_compilation_cache
from purerl.cli.configure import parse
from purerl.config import ConfigError
from purerl.experiment.display import Lasting
from purerl.experiment.runner import run
from purerl.experiment.signals import Interrupted, SecondEndsAtOnce
from purerl.experiment.untrusted import CheckpointError


def train(argv: Sequence[str] | None = None) -> int:
    """Parse `argv`, train, and return the exit code.

    0: trained to the end. 1: a file could not be read or written. 2: an option that cannot work.
    3: trained to the end, but a seed diverged. 129, 130, 143: ended early by SIGHUP, Ctrl-C or SIGTERM.
    """
    try:
        options, cfg = parse(sys.argv[1:] if argv is None else argv)
        use_compilation_cache(options.compilation_cache)
        with SecondEndsAtOnce():
            result = run(
                cfg,
                options.seeds,
                options.resume or options.logdir or _new_directory(cfg.algo, cfg.env),
                first_seed=options.first_seed,
                resume=options.resume is not None,
                allow_changes=options.allow_changes,
                stop_at_return=options.stop_at_return,
                progress=not options.quiet,
            )
    except ConfigError as error:
        return _fail(2, f"error: {error}")
    except (CheckpointError, OSError) as error:
        return _fail(1, f"error: {error}")
    except Interrupted as error:
        return _fail(128 + error.signum, str(error))
    except KeyboardInterrupt as error:
        return _fail(128 + next(iter(error.args), signal.SIGINT), "interrupted")
    return 3 if (result.diverged_at >= 0).any() else 0


def main() -> None:
    """Train, and exit with the code of `train`."""
    # A closed stream is None: the next file that is opened would get its number, and what libraries print.
    streams = zip((sys.stdin, sys.stdout, sys.stderr), "rww", strict=True)
    sys.stdin, sys.stdout, sys.stderr = (s or open(os.devnull, mode) for s, mode in streams)  # noqa: SIM115
    code = train()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # at which Python itself would exit with 120
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    if code > 128:  # at once: Python's own end would wait for an evaluation that was left in compiled code
        os._exit(code)
    sys.exit(code)


def _new_directory(algo: str, env: str) -> str:
    name = re.sub(r"[^\w.-]+", "-", f"{algo}-{env}")  # ids such as gym:ALE/Breakout-v5
    return f"runs/{name}-{time.strftime('%Y%m%d-%H%M%S')}"


def _fail(code: int, reason: str) -> int:
    print(reason, file=Lasting(sys.stderr))
    return code
