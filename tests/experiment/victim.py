"""A process that trains a case of `lab`, to be killed; it says what comes next, and from which step.

    python victim.py CASE

It waits for a line of input, the run's directory, and starts or resumes the run there. Pauses make every
phase long enough to be met by a kill.
"""

import importlib
import os
import sys
import time
from pathlib import Path

import lab

import purerl
from purerl import programs
from purerl.experiment import checkpoint
from purerl.experiment.population import Population
from purerl.experiment.store import Store

PAUSES = {"warmup": 0.03, "train": 0.03, "evaluate": 0.1, "log": 0.02}
"""Seconds that each phase takes longer."""
SYNC_PAUSE = 0.005
"""Seconds that each sync takes longer; a checkpoint has several."""


def say(phase, step=0):
    """Report; it is written before anything else happens to this process."""
    os.write(1, f"{phase} {step}\n".encode())


def announced(function, report_of):
    """Return `function` with `report_of(*args)` said before, and a pause."""

    def wrapped(*args, **kwargs):
        phase, step = report_of(*args)
        say(phase, step)
        time.sleep(PAUSES.get(phase, 0))
        return function(*args, **kwargs)

    return wrapped


def main(name):
    """Train the case in the directory that comes in."""
    case = lab.CASES[name]
    cfg = case.config()
    importlib.import_module("distrax")  # which is slow
    programs.PIECE_ITERATIONS = lab.PIECE_ITERATIONS
    phase = lambda self, at: ("warmup" if at.step < self.schedule.warmup_steps else "train", at.step)
    Population.advance = announced(Population.advance, phase)
    Population.finish_row = announced(Population.finish_row, lambda self, at: ("evaluate", at.step))
    Store.log = announced(Store.log, lambda self, row: ("log", int(row["step"][0])))
    checkpoint.save = announced(checkpoint.save, lambda path, tree, record: ("save", record["step"]))
    save, fsync = Store.save, os.fsync

    def save_and_say(self, snapshot):
        save(self, snapshot)
        say("saved", snapshot.step)

    def slow_fsync(number):
        time.sleep(SYNC_PAUSE)
        fsync(number)

    Store.save, os.fsync = save_and_say, slow_fsync
    path = Path(sys.stdin.readline().strip())
    say("start")
    resume = (path / "run.json").exists()
    sweep = None if resume else case.sweep
    purerl.run(cfg, case.seeds, path, sweep=sweep, resume=resume, progress=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
