"""Terminals, pipes and logs that are gone: a training goes on, and signals have their exit codes."""

import errno
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from purerl.experiment.display import Display
from purerl.experiment.signals import Interrupts, SecondEndsAtOnce

REPOSITORY = Path(__file__).parents[1]


class Dead:
    """A stream on which every write fails, until `error` is None."""

    encoding = "utf-8"

    def __init__(self, error, live):
        self.error, self.live, self.text, self.tried = error, live, "", 0

    def isatty(self):
        return self.live

    def write(self, text):
        self.flush()
        self.text += text

    def flush(self):
        self.tried += 1
        if self.error:
            raise self.error


ERRORS = {
    "broken pipe": BrokenPipeError(errno.EPIPE, "Broken pipe"),
    "hung up": OSError(errno.EIO, "Input/output error"),
    "full disk": OSError(errno.ENOSPC, "No space left on device"),
    "closed": ValueError("I/O operation on closed file"),
}


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_a_display_outlives_its_terminal(error, live, monkeypatch):
    """Nothing is raised, in no thread; and what can be written again is."""
    stream = Dead(None, live)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    with Display("ppo on cartpole", 100, 1) as display:
        stream.error = error
        display.phase("compiling")
        with display.doing("saving"):
            display.say("a line")
        display.step(0)
        display.row(50, {"episode/return": np.ones(1)})
        tried = stream.tried
        time.sleep(0.5 * live)  # the view is drawn five times a second
        assert stream.tried > tried or not live
        stream.error = None
        display.say("the summary")
        stream.error = error
    assert "the summary" in stream.text and "a line" not in stream.text


def test_a_display_without_a_terminal_prints_nothing(monkeypatch, capsys):
    """A shell has closed it; it is not standard output that gets its lines."""
    monkeypatch.setattr(sys, "stderr", None)
    with Display("ppo on cartpole", 100, 1) as display:
        display.say("a line")
    assert capsys.readouterr().out == ""


COMMAND = """
import importlib, os, sys, types
command = importlib.import_module("purerl.cli.train")
from purerl.cli.main import main
from purerl.experiment.signals import Interrupted
def run(*args, **options):
    os.write(int(sys.argv[1]), b"%d" % os.open(os.devnull, os.O_RDONLY))
    print("of an environment")
    if int(sys.argv[2]) == 3:
        return types.SimpleNamespace(diverged_at=__import__("numpy").zeros(1), metrics={}, logdir=None)
    raise Interrupted(int(sys.argv[2]) - 128, "saved")
cfg = types.SimpleNamespace(algo="ppo", env="cartpole")
command.run, command.parse = run, lambda *args: (types.SimpleNamespace(**OPTIONS), cfg)
main(["train"])
"""
OPTIONS = dict.fromkeys(["seeds", "first_seed", "logdir", "allow_changes", "stop_at_return", "quiet"], 1)
OPTIONS |= dict(
    compilation_cache="none",
    devices=None,
    resume=None,
    exp_name=None,
    tensorboard=False,
    wandb=None,
    film=False,
)


@pytest.mark.parametrize(("redirection", "code"), [("> /dev/full", 3), ("> /dev/full", 143), (">&-", 129)])
def test_a_command_keeps_its_exit_code(redirection, code):
    """Its last message may be lost; no file gets the number of a closed stream, to which libraries print."""
    reader, writer = os.pipe()
    words = [sys.executable, "-c", f"OPTIONS = {OPTIONS}\n{COMMAND}", str(writer), str(code)]
    shell = f'exec "$@" <&- {redirection} 2{redirection}'
    env = os.environ | {
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONUNBUFFERED": "",
    }  # so that text is left at the end
    process = subprocess.run(
        ["bash", "-c", shell, "-", *words], env=env, pass_fds=[writer], timeout=120, check=False
    )
    os.close(writer)
    with os.fdopen(reader) as pipe:
        assert int(pipe.read()) > 2
    assert process.returncode == code


# SIGHUP


@pytest.fixture
def hangup():
    """Let SIGHUP reach the test, also under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def test_a_terminal_hangs_up_more_than_once(hangup, monkeypatch):
    """The shell sends SIGHUP, and the kernel another one: together they are the first signal."""
    ended, said = [], []
    monkeypatch.setattr(os, "_exit", ended.append)
    with SecondEndsAtOnce(), Interrupts(said.append) as interrupts:
        assert signal.getsignal(signal.SIGHUP) is not signal.SIG_DFL
        try:
            for _ in range(3):
                signal.raise_signal(signal.SIGHUP)
        except KeyboardInterrupt:  # which would end pytest
            pytest.fail("the second counts")
        assert interrupts.pending == signal.SIGHUP
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        until = time.monotonic() + 60
        while not ended and time.monotonic() < until:
            time.sleep(0.01)
    assert ended == [128 + signal.SIGTERM]
    assert said == ["SIGHUP: ending cleanly; once more ends at once"]
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


def test_nohup_is_respected(hangup):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with Interrupts(print) as interrupts:
        signal.raise_signal(signal.SIGHUP)
    assert interrupts.pending is None


LAUNCHER = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGHUP, signal.SIG_IGN if sys.argv[1] == "nohup" else signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
FIELDS = "--algo a2c --env cartpole --log-interval 1000 --eval-interval 0 --hidden-sizes 8"


@pytest.mark.slow
@pytest.mark.parametrize(("how", "code"), [("hang up", 129), ("nohup", 143)])
def test_a_training_outlives_its_terminal(how, code, tmp_path):
    """A terminal that is closed ends a run with a checkpoint; under nohup it goes on, until SIGTERM."""
    words = [str(REPOSITORY / "scripts" / "train.py"), *FIELDS.split(), "--total-timesteps", "1e9"]
    words += ["--logdir", str(tmp_path / "run"), "--compilation-cache", "none"]
    env = os.environ | {"PYTHONPATH": str(REPOSITORY), "TERM": "xterm"}
    terminal, end = pty.openpty()
    streams = dict(stdin=end, stdout=end, stderr=end, start_new_session=True)
    table, until = tmp_path / "run" / "seed0" / "progress.txt", time.monotonic() + 300
    rows = lambda: table.read_text().count("\n") if table.exists() else 0
    with subprocess.Popen([sys.executable, "-c", LAUNCHER, how, *words], env=env, **streams) as process:
        os.close(end)
        while rows() < 2:
            os.read(terminal, 10_000)  # a terminal that is not read lets the process wait
        os.close(terminal)
        if how == "nohup":
            known = rows()
            while rows() < known + 5 and time.monotonic() < until:
                time.sleep(0.1)
            process.terminate()
        assert process.wait(timeout=300) == code
    assert any((tmp_path / "run" / "checkpoints").glob("step-*/manifest.json"))


@pytest.mark.slow
def test_a_training_outlives_its_pipe(tmp_path):
    """It ends as it would, its last checkpoint included."""
    words = [str(REPOSITORY / "scripts" / "train.py"), *FIELDS.split(), "--total-timesteps", "2000"]
    env = os.environ | {"PYTHONPATH": str(REPOSITORY), "XDG_CACHE_HOME": str(tmp_path)}
    reader, writer = os.pipe()
    os.close(reader)
    streams = dict(stdout=writer, stderr=writer, cwd=tmp_path, timeout=300)
    assert subprocess.run([sys.executable, *words], check=False, env=env, **streams).returncode == 0
    os.close(writer)
    assert list(tmp_path.glob("runs/*/checkpoints/step-*/manifest.json"))


MUTANTS = {
    "a display ends with its terminal": (
        "experiment/display.py",
        "        with suppress(OSError, ValueError):  # ValueError: it was closed\n",
        "        if True:\n",
        "test_a_display_outlives_its_terminal",
    ),
    "what is buffered ends a display": (
        "experiment/display.py",
        "        with suppress(OSError, ValueError):\n            self._stream.flush()",
        "        if True:\n            self._stream.flush()",
        "test_a_display_outlives_its_terminal",
    ),
    "lines for no terminal go to standard output": (
        "experiment/display.py",
        "enabled and sys.stderr is not None",
        "enabled",
        "test_a_display_without_a_terminal_prints_nothing",
    ),
    "a message that cannot be printed": (
        "cli/main.py",
        "file=Lasting(sys.stderr)",
        "file=sys.stderr",
        "test_a_command_keeps_its_exit_code[> /dev/full-143]",
    ),
    "a stream that cannot be flushed": (
        "cli/main.py",
        "        except OSError:  # at which Python itself would exit with 120",
        "        except EOFError:",
        "test_a_command_keeps_its_exit_code[> /dev/full-3]",
    ),
    "a file has the number of a closed stream": (
        "cli/main.py",
        "(s or open(os.devnull, mode) for s, mode in streams)",
        "(s for s, mode in streams)",
        "test_a_command_keeps_its_exit_code[>&--129]",
    ),
    "SIGHUP kills": (
        "experiment/signals.py",
        "SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)",
        "SIGNALS = (signal.SIGINT, signal.SIGTERM)",
        "test_a_terminal_hangs_up_more_than_once",
    ),
    "SIGHUP twice ends at once": (
        "experiment/signals.py",
        " and signum != signal.SIGHUP",
        "",
        "test_a_terminal_hangs_up_more_than_once",
    ),
    "nohup is not respected": (
        "experiment/signals.py",
        " if signal.getsignal(number) is not signal.SIG_IGN",
        "",
        "test_nohup_is_respected",
    ),
}
