"""SIGKILL, which cannot be caught: the newest checkpoint loads, and the run ends as if never killed."""

import functools
import itertools
import os
import signal
import socket
import time
from collections import Counter
from contextlib import ExitStack

import lab
import numpy as np
import pytest
import victim
from lab import CASES, assert_same, go, newest, step_of

import purerl
from purerl import ConfigError
from purerl.experiment.untrusted import CheckpointError

KILLS = int(os.environ.get("PURERL_KILLS", "6"))
"""Kills of each case in the slow tests. With 100, and programs as users compile them:

XLA_FLAGS= PURERL_KILLS=100 pytest -s -m slow tests/experiment/test_kills.py
"""


def victims(case, cache, errors):
    """Start a victim, which waits for its directory."""
    return lab.process(victim.__file__, case, cache=cache, errors=errors)


def watch(process, path, phase, number, delay, meet=lambda: None):
    """Let a victim train in `path`, and kill it `delay` seconds after its `number`-th report of `phase`.

    Returns its reports as `(phase, step, time)`.
    """
    reports = []
    print(path, file=process.stdin, flush=True)
    for line in process.stdout:
        name, step = line.split()
        reports.append((name, int(step), time.monotonic()))
        number -= name == phase
        if name == phase and number == 0:
            time.sleep(delay)
            meet()
            process.kill()
    process.wait()
    return reports


def test_a_killed_sweep_ends_with_the_same_bits(whole, cache, tmp_path):
    """24 members, killed between two checkpoints with a row logged that the newest one does not know.

    As long as it lives, nobody else may write there; its lock dies with it.
    """
    expected, path = whole("sweep"), tmp_path / "run"

    def meet():
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(ConfigError, match=rf"logdir = .*process {process.pid} on {socket.gethostname()}"):
            go("sweep", path, resume=True)

    with (tmp_path / "errors").open("w") as errors, victims("sweep", cache, errors) as process:
        reports = watch(process, path, "train", 9, 0.0, meet)
    assert process.returncode == -signal.SIGKILL, (tmp_path / "errors").read_text()
    assert ("saved", 48) in [report[:2] for report in reports] and step_of(path) == 48
    known, logged = newest(path).record["rows"], [len(rows) for rows in lab.rows_of(path).values()]
    assert len(logged) == 48 and set(logged) == {known + 1}
    assert_same(go("sweep", path, resume=True), expected)


def plans(case, lives):
    """Yield moments to kill at: half of them anywhere, half early in a phase, so that rare ones are met."""
    rng = np.random.default_rng(list(map(ord, case)))
    phases = ["save", "train", "evaluate", "log", *["warmup"] * ("learning_starts" in CASES[case].fields)]
    for phase in itertools.cycle(phases):
        length = 0.06 if phase == "save" else victim.PAUSES[phase] + 0.01
        yield phase, rng.integers(1, 4), rng.uniform(0, length)
        yield "start", 1, rng.uniform(0, np.median(lives))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_kills_at_random_moments(case, whole, cache, tmp_path, caplog, record_property):
    """The newest checkpoint is as new as promised, damage is never met, and nothing half is left."""
    expected, interval = whole(case), CASES[case].config().checkpoint_interval
    lives, deaths, kills, path, promised = [5.0], Counter(), 0, tmp_path / "0", -1
    with ExitStack() as stack:
        errors = stack.enter_context((tmp_path / "errors").open("w"))
        spawn = functools.partial(victims, case, cache, errors)
        waiting = [stack.enter_context(spawn())]
        for plan in plans(case, lives):
            if kills == KILLS:
                break
            waiting.append(stack.enter_context(spawn()))
            process = waiting.pop(0)
            reports = watch(process, path, *plan)
            assert process.returncode in (0, -signal.SIGKILL), (tmp_path / "errors").read_text()
            kills += process.returncode != 0
            deaths[reports[-1][0] if process.returncode else "end"] += 1
            pieces = [(step, moment) for name, step, moment in reports if name in ("warmup", "train")]
            lives += [moment - reports[0][2] + 3 for _, moment in pieces[:1]]  # 3 seconds of training
            due = [step // interval * interval for step, _ in pieces if step >= interval]
            promised = max([promised, *due, *(step for name, step, _ in reports if name == "saved")])
            try:
                purerl.load(path)
                assert step_of(path) >= promised
            except (ConfigError, CheckpointError):
                assert promised == -1
            assert not [record for record in caplog.records if record.name == "purerl"], "damage was met"
            if process.returncode == 0:  # it came to its end first: begin another run
                assert_same(go(case, path, resume=True), expected)
                path, promised = tmp_path / str(deaths["end"]), -1
    assert_same(go(case, path, resume=(path / "run.json").exists()), expected)
    assert not list(path.rglob(".*")), "litter is left"
    record_property("kills", f"{case}: {dict(deaths)}")
    print(f"{case}: {dict(deaths)}")
