"""A population: S members trained side by side by one set of compiled functions."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purerl import metrics
from purerl.experiment.members import Members
from purerl.health import split_replay
from purerl.metrics import Tallies
from purerl.train import Driver, Schedule
from purerl.types import Array, PyTree, TrainState

PIECE_ITERATIONS, PIECE_STEPS = 100, 10_000
"""The most iterations, and environment steps summed over members, of one call: a second or two on two
cores. Only between two calls can a run be watched, saved or stopped."""


class Best(NamedTuple):
    """The policy of each member's best evaluation so far."""

    algo: PyTree
    """The algorithm's State without its replay buffer, normaliser included, `[S, ...]`."""
    value: Array
    """`[S]`: its mean return; -inf before any evaluation."""
    step: Array
    """`[S]` int32: its step; -1 before any evaluation."""


class Snapshot(NamedTuple):
    """All that a run needs to go on exactly: arrays `[S, ...]`, and its position."""

    state: TrainState
    tallies: Tallies
    """Of the current row of metrics."""
    best: Best | tuple[()]
    """`()` where evaluation is off."""
    hyper: dict[str, Array]
    """The config's real-valued fields: scalars where all members agree, `[S]` elsewhere."""
    step: int = 0
    """Environment steps of each member."""
    rows: int = 0
    """Rows of metrics that are finished and logged."""
    elapsed: float = 0.0
    """Seconds of training, without compilation."""

    @property
    def arrays(self) -> dict[str, PyTree]:
        """The parts that are stored as arrays."""
        return {name: getattr(self, name) for name in ("state", "tallies", "best", "hyper")}


class Pieces(NamedTuple):
    """Iterations that one call takes."""

    warmup: int
    train: int


def make_pieces(schedule: Schedule, members: int, most_steps: int = PIECE_STEPS) -> Pieces:
    """Return pieces of a second or two that divide the warm-up, and the rows, evenly."""
    limit = max(1, min(PIECE_ITERATIONS, most_steps // schedule.iteration_steps) // members)
    warmup = schedule.warmup_steps // schedule.iteration_steps
    return Pieces(_largest_divisor(warmup, limit), _largest_divisor(schedule.iterations, limit))


def _largest_divisor(n: int, limit: int) -> int:
    return max((d for d in range(1, min(n, limit) + 1) if n % d == 0), default=1)


def over_members(function: Callable[..., Any], in_axes: tuple[Any, ...], size: int) -> Callable[..., Any]:
    """Map a function of one member over `size` of them; a single one goes without `vmap`.

    The result has the axis `S` all the same. XLA:CPU would copy a replay buffer `[1, capacity, ...]` at
    every step, and does not copy one without that axis.
    """
    if size > 1:
        return jax.vmap(function, in_axes=in_axes)

    def alone(*args):
        first = lambda leaf: leaf[0]
        args = [
            jax.tree.map(first, arg) if axis == 0 else arg for arg, axis in zip(args, in_axes, strict=True)
        ]
        return jax.tree.map(lambda leaf: leaf[None], function(*args))

    return alone


class Programs(NamedTuple):
    """The jitted functions of a population; nothing is compiled yet.

    `tallies` go in and come out with what was added. States are donated to what returns one.
    """

    start: Callable[..., Any]
    """`(keys, hyper) -> (state, tallies, best)`."""
    warmup: Callable[..., Any]
    """`(state, tallies, step, hyper) -> (state, tallies)`."""
    chunk: Callable[..., Any]
    """`(state, tallies, step, hyper) -> (state, tallies)`."""
    evaluate: Callable[..., Any]
    """`(state, tallies, best, step, hyper) -> (tallies, best)`."""
    finish: Callable[..., Any]
    """`(tallies, diverged_at) -> (row of metrics, empty tallies)`."""
    enter: Callable[..., Any] = lambda state, step: state
    """`(state, step) -> state`: begin or resume what environments hold outside the state."""
    close: Callable[[], None] = lambda: None
    """Release it."""


def hyper_axes(hyper: dict[str, Array]) -> dict[str, int | None]:
    """Return the axis of members of every real-valued field: 0, or None for a scalar."""
    return {name: 0 if value.ndim else None for name, value in hyper.items()}


def make_programs(driver: Driver, members: Members, pieces: Pieces) -> Programs:
    """Return the functions of a population on environments inside the program."""
    axes = hyper_axes(jax.eval_shape(lambda: members.hyper(driver.cfg)))

    def mapped(function: Callable[..., Any], *in_axes: Any) -> Callable[..., Any]:
        # Inlined where it is used; traced once, however often its shapes are asked for.
        return jax.jit(over_members(function, in_axes, members.size), inline=True)

    init = mapped(driver.init, 0, axes)
    warm = mapped(lambda *args: driver.warmup(*args, pieces.warmup), 0, None, axes)
    learn = mapped(lambda *args: driver.chunk(*args, pieces.train), 0, None, axes)
    play = mapped(driver.evaluate, 0, None, axes)

    def start(keys, hyper):
        state, step = init(keys, hyper), jnp.int32(0)
        shapes = jax.eval_shape(learn, state, step, hyper)[1]
        best: Any = ()
        if driver.cfg.eval_interval:
            shapes |= jax.eval_shape(play, state, step, hyper)
            algo = jax.tree.map(jnp.copy, split_replay(state.algo)[0])
            best = Best(algo, jnp.full(keys.shape, -jnp.inf), jnp.full(keys.shape, -1))
        return state, metrics.empty(shapes), best

    def warmup(state, tallies, step, hyper):
        state, more = warm(state, step, hyper)
        return state, metrics.merge(tallies, more)

    def chunk(state, tallies, step, hyper):
        state, more = learn(state, step, hyper)
        return state, metrics.merge(tallies, more)

    def evaluate(state, tallies, best, step, hyper):
        return keep_best(state, tallies, best, step, play(state, step, hyper))

    def finish(tallies, diverged_at):
        return jax.vmap(metrics.summarise)(tallies, diverged_at), metrics.empty(tallies)

    return Programs(
        start=jax.jit(start),
        warmup=jax.jit(warmup, donate_argnums=(0, 1)),
        chunk=jax.jit(chunk, donate_argnums=(0, 1)),
        evaluate=jax.jit(evaluate),
        finish=jax.jit(finish),
    )


def keep_best(
    state: TrainState, tallies: Tallies, best: Best, step: Array, played: Tallies
) -> tuple[Tallies, Best]:
    """Add an evaluation at `step` to `tallies`, and keep each member's better policy."""
    value = jnp.where(played["eval/return"].count > 0, played["eval/return"].mean, -jnp.inf)
    now = Best(split_replay(state.algo)[0], value, jnp.full_like(best.step, step))
    better = value > best.value

    def select(new: Array, old: Array) -> Array:
        return jnp.where(better.reshape(better.shape + (1,) * (new.ndim - 1)), new, old)

    return metrics.merge(tallies, played), jax.tree.map(select, now, best)


class Population:
    """The compiled functions of a run: they take it from one snapshot to the next.

    Args:
        driver: the functions of one member.
        members: seeds and swept values.
        pieces: iterations per call.
        programs: from `make_programs`, or those of environments that step in Python.
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
        """Compile everything before the first step, so that its time is reported apart.

        Args:
            poll: called between two compilations; an exception of it ends them.
        """
        began, programs, step = time.monotonic(), self._programs, jax.ShapeDtypeStruct((), jnp.int32)
        state, tallies, best, hyper = self.shapes.arrays.values()

        def compiled(function: Any, *args: Any) -> Callable[..., Any]:
            poll()
            if not hasattr(function, "lower"):  # the loop over environments that step in Python
                return function
            program = function.lower(*args).compile()
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
        jax.block_until_ready(tallies)
        taken = iterations * self.schedule.iteration_steps
        return snapshot._replace(state=state, tallies=tallies, step=snapshot.step + taken)

    def finish_row(self, snapshot: Snapshot) -> tuple[Snapshot, dict[str, np.ndarray]]:
        """Finish the current row of metrics, after an evaluation if one is due.

        Returns:
            The snapshot with the next row begun, and the finished row: each metric `[S]`. `snapshot`
            itself stays valid.
        """
        state, tallies, best, hyper = snapshot.arrays.values()
        step = snapshot.step
        if step > self.schedule.warmup_steps and self.schedule.evaluates_at(self.cfg, step):
            tallies, best = self._evaluate(state, tallies, best, jnp.int32(step), hyper)
        row, tallies = self._finish(tallies, state.diverged_at)
        row = {name: np.array(value) for name, value in row.items()}  # a view would keep the device's buffer
        return snapshot._replace(tallies=tallies, best=best, rows=snapshot.rows + 1), row
