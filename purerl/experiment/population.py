"""A population: S members trained side by side by one set of compiled functions."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purerl.experiment.signals import answering
from purerl.health import split_replay
from purerl.members import Members
from purerl.pbt import HYPER, PARENT, PBT, STREAM, exploit_and_explore
from purerl.programs import Pieces, Programs, Snapshot, working_bytes
from purerl.train import Driver
from purerl.types import Array


class Population:
    """The compiled functions of a run: they take it from one snapshot to the next.

    `programs` are from `make_programs`, or those of environments that step in Python; with `pbt` members go
    on from each other.
    """

    def __init__(
        self, driver: Driver, members: Members, pieces: Pieces, programs: Programs, pbt: PBT | None = None
    ):
        self.cfg, self.schedule, self.env_name = driver.cfg, driver.schedule, driver.env.name
        self.members, self.pieces, self._programs, self.pbt = members, pieces, programs, pbt
        keys, hyper = jax.eval_shape(self._keys_and_hyper)
        self.shapes = Snapshot(*jax.eval_shape(programs.start, keys, hyper), hyper=hyper)
        """The run's snapshots as `jax.ShapeDtypeStruct`s."""
        shapes = self.shapes.tallies, self.shapes.state.diverged_at
        self.metrics = tuple(jax.eval_shape(programs.finish, *shapes)[0])
        """Names of the metrics of every row."""
        if pbt:
            self.metrics += (PARENT, *(HYPER + name for name in pbt.space))
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
        hyper = snapshot.hyper if self.pbt else self.members.hyper(self.cfg)
        return snapshot._replace(state=state, hyper=hyper)

    def close(self) -> None:
        """Release what the environments hold outside the state."""
        self._programs.close()

    def compile(self, poll: Callable[[], None] = lambda: None) -> None:
        """Compile everything before the first step; `poll` is called in between, and may raise."""
        began, programs, step = time.monotonic(), self._programs, jax.ShapeDtypeStruct((), jnp.int32)
        state, tallies, best, hyper = self.shapes.arrays.values()

        def compiled(function: Any, *args: Any) -> Callable[..., Any]:
            poll()
            lowered = function.lower(*args)
            program = answering(lowered.compile)
            if usage := program.memory_analysis():
                self.bytes = max(self.bytes, working_bytes(usage))
            return program

        if self.schedule.warmup_steps:
            self._warmup = compiled(programs.warmup, state, tallies, step, hyper)
        self._chunk = compiled(programs.chunk, state, tallies, step, hyper)
        if self.cfg.eval_interval:
            self._evaluate = compiled(programs.evaluate, state, tallies, best, step, hyper)
        self._finish = compiled(programs.finish, tallies, state.diverged_at)
        if self.pbt:
            learned, score = (
                split_replay(state.algo)[0],
                jax.ShapeDtypeStruct((self.members.size,), jnp.float32),
            )
            key = jax.eval_shape(lambda: jax.random.key(0))
            evolve = jax.jit(partial(exploit_and_explore, self.pbt))
            self._evolve = compiled(evolve, learned, hyper, state.diverged_at, state.carry, score, key)
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

    def evolve(self, snapshot: Snapshot, score: np.ndarray) -> tuple[Snapshot, dict[str, np.ndarray]]:
        """Play a round of `pbt` by the returns `score [S]`.

        Returns the snapshot to go on from, and the metrics of the round, each `[S]`.
        """
        assert self.pbt
        learned, replay = split_replay(snapshot.state.algo)
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(self.cfg.seed), STREAM), snapshot.step)
        state = snapshot.state
        args = learned, snapshot.hyper, state.diverged_at, state.carry, jnp.asarray(score, jnp.float32)
        found = self._evolve(*args, key)
        algo = found.learned if replay == () else found.learned._replace(replay=replay)
        state = state._replace(algo=algo, carry=found.carry, diverged_at=found.diverged_at)
        parent = np.array(found.parent)
        own = parent == np.arange(parent.size)
        row = {PARENT: np.where(own, np.float32(np.nan), parent.astype(np.float32))}
        return snapshot._replace(state=state, hyper=found.hyper), row

    def hyper_row(self, snapshot: Snapshot) -> dict[str, np.ndarray]:
        """Return the values of the fields that `pbt` changes, each `[S]`; nothing without it."""
        space = self.pbt.space if self.pbt else {}
        unchanged = {PARENT: np.full(self.members.size, np.nan, np.float32)} if self.pbt else {}
        return unchanged | {HYPER + name: np.array(snapshot.hyper[name]) for name in space}

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
