"""Tiny runs to be stopped, and a process that trains one of them and says what it is doing.

    python victim.py CASE

Waits for a line of input, the run's directory; trains there, or goes on with the run that is there.
Every line it prints says what comes next, and from which step: `train 140`. It is slowed down, so
that there is time to kill it in every phase.
"""

import importlib
import os
import sys
import time
from pathlib import Path

import jax

import purerl
from purerl.experiment import checkpoint, program
from purerl.experiment.directory import RunDirectory
from purerl.experiment.program import Program

SAC = dict(algo="sac", env="pendulum", num_envs=2, total_timesteps=520, learning_starts=120, batch_size=8)
SAC |= dict(buffer_size=200)  # which wraps
SAC |= dict(log_interval=100, eval_interval=200, eval_episodes=2, checkpoint_interval=150, hidden_sizes=(8,))
PPO = dict(algo="ppo", env="cartpole", num_envs=4, total_timesteps=2560, num_steps=8, num_minibatches=2)
PPO |= dict(num_epochs=2, normalize_obs=True, anneal_lr=True)
PPO |= dict(log_interval=640, eval_interval=1280, eval_episodes=2, checkpoint_interval=500, hidden_sizes=(8,))
CASES = {f"{fields['algo']}-{seeds}": (fields, seeds) for fields in (SAC, PPO) for seeds in (1, 8)}
"""By name: fields of the config, and the number of seeds."""
PIECE_ITERATIONS = 16
"""So that a row of metrics takes several pieces."""
PAUSES = {"compile": 0.02, "warmup": 0.03, "train": 0.03, "evaluate": 0.1, "log": 0.02}
"""Seconds that each phase takes longer."""
SYNC_PAUSE = 0.005
"""Seconds that each file takes longer to reach the disk; a checkpoint has several."""


def config(case, **changes):
    """The configuration of a case, and its number of seeds."""
    fields, seeds = CASES[case]
    return purerl.make_config(**fields | changes), seeds


def say(phase, step=0):
    """Report; it is out before anything else happens to this process."""
    os.write(1, f"{phase} {step}\n".encode())


def announced(function, report_of):
    """`function`, which first says what `report_of(*args)` gives, and takes longer."""

    def wrapped(*args, **kwargs):
        phase, step = report_of(*args)
        say(phase, step)
        time.sleep(PAUSES.get(phase, 0))
        return function(*args, **kwargs)

    return wrapped


def piece(program, snapshot):
    return "warmup" if snapshot.step < program.schedule.warmup_steps else "train", snapshot.step


def main(case):
    """Train the case in the directory that comes in, reporting."""
    cfg, seeds = config(case)
    for module in ("distrax", type(cfg).__module__, "purerl.experiment.run"):  # what takes long to load
        importlib.import_module(module)
    program.PIECE_ITERATIONS = PIECE_ITERATIONS
    jax.stages.Lowered.compile = announced(jax.stages.Lowered.compile, lambda *args: ("compile", 0))
    Program.advance = announced(Program.advance, piece)
    Program.finish_row = announced(Program.finish_row, lambda self, at: ("evaluate", at.step))
    RunDirectory.log = announced(RunDirectory.log, lambda self, row: ("log", row[0]["step"]))
    checkpoint.save = announced(checkpoint.save, lambda directory, step, *rest: ("save", step))
    save, fsync = RunDirectory.save, os.fsync

    def save_and_say(self, snapshot):
        save(self, snapshot)
        say("saved", snapshot.step)

    def slow_fsync(number):
        time.sleep(SYNC_PAUSE)
        fsync(number)

    RunDirectory.save, os.fsync = save_and_say, slow_fsync
    path = sys.stdin.readline().strip()
    say("start")
    purerl.run(cfg, seeds, path, resume=Path(path, "run.json").exists(), progress=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
