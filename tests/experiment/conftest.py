"""Fixtures of runs: shared programs, whole runs to compare with, and stopped ones to resume."""

import functools
import os
import shutil
import signal
from pathlib import Path

import lab
import pytest

from purerl.experiment.signals import Interrupted


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """Do not wait for the disk: no test cuts the power."""
    monkeypatch.setattr(os, "fsync", lambda number: None)


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """A directory of compiled programs for all workers and their child processes."""
    base = tmp_path_factory.getbasetemp()
    path = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "compiled"
    path.mkdir(exist_ok=True)
    return path


@pytest.fixture(scope="module", autouse=True)
def shared_programs(cache):
    with lab.shared_programs(cache):
        yield


@pytest.fixture(autouse=True)
def heard():
    """Let Ctrl-C and SIGHUP reach the tests, also where a script or nohup runs them in its background."""
    numbers = signal.SIGINT, signal.SIGHUP
    before = [signal.signal(number, signal.default_int_handler) for number in numbers]
    yield
    list(map(signal.signal, numbers, before))


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """Return the finished run of a case, which nothing stopped; ask for it before anything is patched."""
    path = tmp_path_factory.mktemp("whole")
    return functools.cache(lambda case: lab.go(case, path / case))


@pytest.fixture(scope="session")
def stopped(tmp_path_factory):
    """Return the directory of a run of a case that was stopped within its second row."""

    def begin(case):
        path = tmp_path_factory.mktemp("stopped") / case
        with pytest.MonkeyPatch.context() as patch:
            lab.once(patch, "training", lab.stops(case)["training"], lab.stop)
            with pytest.raises(Interrupted):
                lab.go(case, path)
        return path

    return functools.cache(begin)


@pytest.fixture
def halfway(stopped, tmp_path):
    """Return a copy of it."""
    return lambda case: Path(shutil.copytree(stopped(case), tmp_path / case))


@pytest.fixture
def finished(whole, tmp_path):
    """Return a copy of the directory of the finished run of a case."""
    return lambda case: Path(shutil.copytree(whole(case).logdir, tmp_path / case))
