"""The command `purerl`: a verb and its options in, an exit code out."""

from __future__ import annotations

import os
import platform
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import metadata

from purerl.config import ConfigError, did_you_mean
from purerl.experiment.display import Lasting
from purerl.experiment.signals import Interrupted
from purerl.experiment.untrusted import CheckpointError
from purerl.files import DamagedFile
from purerl.registry import find_place

Verb = Callable[[Sequence[str]], int]
"""Takes the words after its name, returns the exit code."""
VERBS = {
    "train": ("train:train", "train an agent, many seeds side by side in one program"),
    "resume": ("train:resume", "go on with a run or a sweep from its newest checkpoint"),
    "sweep": ("sweep:sweep", "train with several values of hyperparameters, in few programs"),
    "eval": ("evaluate:evaluate", "play whole episodes with the policies of a run"),
    "play": ("play:play", "film a trained policy, or show it in a window"),
    "plot": ("plot:plot", "draw learning curves of runs, with confidence intervals"),
    "report": ("report:report", "write one HTML file about runs, with curves to point at"),
    "export": ("export:export", "write a trained policy for other programs, or as a web page"),
    "list": ("listing:show", "show algorithms, environments, presets and runs by name"),
}
"""Verb -> "module:function" below purerl.cli, and a line of help."""
EXAMPLES = """\
examples:
  purerl train --algo ppo --env cartpole --seeds 5 --total-timesteps 150000
  purerl resume runs/ppo-cartpole-20261130-120000
  purerl sweep --algo ppo --env cartpole --learning-rate 3e-4 1e-3 --seeds 4
  purerl eval runs/ppo-cartpole-20261130-120000 --episodes 100
  purerl plot runs/ppo-cartpole-20261130-120000
  purerl list pendulum

purerl COMMAND --help shows the main options, --help-all every one.
"""
SHOWN_VERSIONS = ("jax", "mujoco", "gymnasium", "numpy")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command in `argv`, by default that of this process, and exit with its code."""
    # A closed stream is None: the next file that is opened would get its number, and what libraries print.
    streams = zip((sys.stdin, sys.stdout, sys.stderr), "rww", strict=True)
    sys.stdin, sys.stdout, sys.stderr = (s or open(os.devnull, mode) for s, mode in streams)  # noqa: SIM115
    code = command(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # at which Python itself would exit with 120
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    if code > 128:  # at once: Python's own end would wait for an evaluation that was left in compiled code
        os._exit(code)
    sys.exit(code)


def command(argv: Sequence[str]) -> int:
    """Run the command in `argv` and return the exit code.

    0: done. 1: a file could not be read or written. 2: an option that cannot work. 3: trained to the end,
    but a member diverged. 129, 130, 143: ended early by SIGHUP, Ctrl-C or SIGTERM.
    """
    try:
        if not argv or argv[0] in ("-h", "--help", "help"):
            print(overview(), end="")
            return 0
        if argv[0] == "--version":
            print(versions())
            return 0
        return _verb(argv[0])(argv[1:])
    except ConfigError as error:
        return _fail(2, f"error: {error}")
    except BrokenPipeError:  # of `purerl list | head`, which has what it wants
        return 0
    except (CheckpointError, DamagedFile, OSError) as error:
        return _fail(1, f"error: {error}")
    except Interrupted as error:
        return _fail(128 + error.signum, str(error))
    except KeyboardInterrupt as error:
        return _fail(128 + next(iter(error.args), signal.SIGINT), "interrupted")


def overview() -> str:
    """Return the help text of the command as a whole."""
    width = max(map(len, VERBS))
    lines = [f"  {name:<{width}}  {what}" for name, (_, what) in VERBS.items()]
    return "\n".join(["usage: purerl COMMAND [--option value ...]", "", "commands:", *lines, "", EXAMPLES])


def versions() -> str:
    """Return one line with the versions of purerl, Python and the packages that numbers depend on."""
    import purerl

    found = [f"{name} {metadata.version(name)}" for name in SHOWN_VERSIONS]
    return ", ".join([f"purerl {purerl.__version__}", f"Python {platform.python_version()}", *found])


def _verb(name: str) -> Verb:
    """Return the function of a verb, whose module is imported now. Raises ConfigError for an unknown one."""
    if name in VERBS:
        return find_place("command", f"purerl.cli.{VERBS[name][0]}")
    hint = f"Write: purerl train {name} ..." if name.startswith("--") else did_you_mean(name, VERBS)
    raise ConfigError("command", name, f"one of {', '.join(VERBS)}", hint)


def _fail(code: int, reason: str) -> int:
    print(reason, file=Lasting(sys.stderr))
    return code
