"""A population: S members trained side by side by one set of compiled functions."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purerl.experiment.signals import answering
from purerl.members import Members
from purerl.programs import Pieces, Programs, Snapshot
from purerl.train import Driver
from purerl.types import Array


class Population:
    """The compiled functions of a run: they take it from one snapshot to the next.

    `programs` are from `make_programs`, or those of environments that step in Python.
    """

    def __init__(self, driver: Driver, members: Members, pieces: Pieces, programs: Programs):
        self.cfg, self.schedule, self.env_name = driver.cfg, driver.schedule, driver.env.name
        self.members, self.pieces, self._programs = members, pieces, programs
        keys, hyper = jax.eval_shape(self._keys_and_hyper)
        self.shapes = Snapshot(*jax.eval_shape(programs.start, keys, hyper), hyper=hyper)
        """The run's snapshots as `jax.ShapeDtypeStruct`s."""
        shapes = self.shapes.tallies, self.shapes.state.diverged_at
        self.metrics = tuple(jax.eval_shape(programs.finish, *shapes)[0])
        """Names of the metrics of every row."""
        self.seconds = 0.0
        """Duration of `compile`."""
        self.bytes = 0
        """Memory that the fullest call needs beside the snapshot, known once compiled."""

    def _keys_and_hyper(self) -> tuple[Any, dict[str, Array]]:
        return self.members.keys(self.cfg), self.members.hyper(self.cfg)

    def start(self) -> Snapshot:
        """Return the snapshot of a run that begins; it may not be computed yet."""
        keys, hyper = self._keys_and_hyper()
        return Snapshot(*self._programs.start(keys, hyper), hyper=hyper)

    def enter(self, snapshot: Snapshot) -> Snapshot:
        """Return `snapshot`, new or loaded, ready to go on from, with this run's hyperparameters."""
        state = self._programs.enter(snapshot.state, jnp.int32(snapshot.step))
        return snapshot._replace(state=state, hyper=self.members.hyper(self.cfg))

    def close(self) -> None:
        """Release what the environments hold outside the state."""
        self._programs.close()

    def compile(self, poll: Callable[[], None] = lambda: None) -> None:
        """Compile everything before the first step; `poll` is called in between, and may raise."""
        began, programs, step = time.monotonic(), self._programs, jax.ShapeDtypeStruct((), jnp.int32)
        state, tallies, best, hyper = self.shapes.arrays.values()

        def compiled(function: Any, *args: Any) -> Callable[..., Any]:
            poll()
            if not hasattr(function, "lower"):  # the loop over environments that step in Python
                return function
            lowered = function.lower(*args)
            program = answering(lowered.compile)
            if usage := program.memory_analysis():
                out = usage.output_size_in_bytes - usage.alias_size_in_bytes
                self.bytes = max(self.bytes, usage.temp_size_in_bytes + out)
            return program

        if self.schedule.warmup_steps:
            self._warmup = compiled(programs.warmup, state, tallies, step, hyper)
        self._chunk = compiled(programs.chunk, state, tallies, step, hyper)
        if self.cfg.eval_interval:
            self._evaluate = compiled(programs.evaluate, state, tallies, best, step, hyper)
        self._finish = compiled(programs.finish, tallies, state.diverged_at)
        self.seconds = time.monotonic() - began

    def is_done(self, snapshot: Snapshot) -> bool:
        """Return True at the end of the run."""
        return snapshot.step >= self.schedule.total_steps and not self.has_row(snapshot)

    def has_row(self, snapshot: Snapshot) -> bool:
        """Return True if a row of metrics is complete and not finished yet."""
        return snapshot.rows < self.schedule.rows_by(snapshot.step)

    def advance(self, snapshot: Snapshot) -> Snapshot:
        """Train for one piece. The state of `snapshot` is donated: it is gone afterwards."""
        warm = snapshot.step < self.schedule.warmup_steps
        program, iterations = (self._warmup, self.pieces.warmup) if warm else (self._chunk, self.pieces.train)
        step = jnp.int32(snapshot.step)
        state, tallies = program(snapshot.state, snapshot.tallies, step, snapshot.hyper)
        answering(lambda: jax.block_until_ready(tallies))
        taken = iterations * self.schedule.iteration_steps
        return snapshot._replace(state=state, tallies=tallies, step=snapshot.step + taken)

    def finish_row(self, snapshot: Snapshot) -> tuple[Snapshot, dict[str, np.ndarray]]:
        """Finish the current row of metrics, after an evaluation if one is due.

        Returns the snapshot with the next row begun, and the finished row: each metric `[S]`. `snapshot`
        itself stays valid.
        """
        state, tallies, best, hyper = snapshot.arrays.values()
        step = snapshot.step
        if step > self.schedule.warmup_steps and self.schedule.evaluates_at(self.cfg, step):
            tallies, best = self._evaluate(state, tallies, best, jnp.int32(step), hyper)
        row, tallies = self._finish(tallies, state.diverged_at)
        answering(lambda: jax.block_until_ready(row))
        row = {name: np.array(value) for name, value in row.items()}  # a view would keep the device's buffer
        return snapshot._replace(tallies=tallies, best=best, rows=snapshot.rows + 1), row
