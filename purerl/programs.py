"""The programs of a population: the driver's functions over S members, and what goes through them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purerl import metrics
from purerl.devices import over_devices
from purerl.health import split_replay
from purerl.members import Members
from purerl.metrics import Tallies
from purerl.ops.statistics import LARGEST
from purerl.schedule import Schedule
from purerl.train import Driver
from purerl.types import Array, PyTree, TrainState

PIECE_ITERATIONS, PIECE_STEPS = 100, 10_000
"""The most iterations, and environment steps summed over members, of one call: a second or two on two
cores. Only between two calls can a run be watched, saved or stopped."""


class Best(NamedTuple):
    """The policy of each member's best evaluation so far."""

    algo: PyTree
    """The algorithm's State without its replay buffer, normaliser included, `[S, ...]`."""
    value: Array
    """`[S]`: its mean return; the lowest number of float32 before any evaluation."""
    step: Array
    """`[S]` int32: its step; -1 before any evaluation."""


class Snapshot(NamedTuple):
    """All that a run needs to go on exactly: arrays `[S, ...]`, and its position."""

    state: TrainState
    tallies: Tallies
    """Tallies of the current row of metrics."""
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

    def first(axis: int | None, part: PyTree) -> PyTree:
        return part if axis is None else jax.tree.map(lambda leaf: leaf[0], part)

    def alone(*args):
        args = jax.tree.map(first, in_axes, args, is_leaf=lambda axis: axis is None)
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


class HostLoop(NamedTuple):
    """A loop in Python over jitted functions: lowered, compiled and called as if it were jitted whole."""

    run: Callable[..., Any]
    """`(functions, *args)`: the loop."""
    functions: tuple[Any, ...]
    """Jitted ones and loops; once compiled, what they became."""
    shapes_of: Callable[..., tuple[tuple[Any, ...], ...]]
    """`(*args) -> the arguments of each function`, all of them shapes."""

    def __call__(self, *args: Any) -> Any:
        return self.run(self.functions, *args)

    def lower(self, *args: Any) -> HostLoop:
        """Lower every function for `args`, which are shapes."""
        pairs = zip(self.functions, self.shapes_of(*args), strict=True)
        return self._replace(functions=tuple(function.lower(*shapes) for function, shapes in pairs))

    def compile(self) -> HostLoop:
        """Compile every function."""
        return self._replace(functions=tuple(lowered.compile() for lowered in self.functions))

    def memory_analysis(self) -> Any:
        """Return XLA's figures for the function that needs most beside its arguments; None if unknown."""
        known = filter(None, (function.memory_analysis() for function in self.functions))
        return max(known, key=working_bytes, default=None)


def working_bytes(usage: Any) -> int:
    """Return the bytes that a call needs beside its arguments, by XLA's `usage` of the compiled program."""
    return usage.temp_size_in_bytes + usage.output_size_in_bytes - usage.alias_size_in_bytes


def make_programs(driver: Driver, members: Members, pieces: Pieces, devices: int = 1) -> Programs:
    """Return the functions of a population on environments inside the program.

    Each of the devices, which divide the members evenly, runs them for its share.
    """
    axes = members.axes(driver.cfg)

    def mapped(function: Callable[..., Any], *in_axes: Any) -> Callable[..., Any]:
        # Inlined where it is used; traced once, however often its shapes are asked for.
        return jax.jit(over_members(function, in_axes, members.size // devices), inline=True)

    def jitted(function: Callable[..., Any], *in_axes: Any, donate: tuple[int, ...] = ()) -> Any:
        return jax.jit(over_devices(function, in_axes, devices), donate_argnums=donate)

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
            best = Best(
                algo, jnp.full(keys.shape, -LARGEST, jnp.float32), jnp.full(keys.shape, -1, jnp.int32)
            )
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
        start=jitted(start, 0, axes),
        warmup=jitted(warmup, 0, 0, None, axes, donate=(0, 1)),
        chunk=jitted(chunk, 0, 0, None, axes, donate=(0, 1)),
        evaluate=jitted(evaluate, 0, 0, 0, None, axes),
        finish=jitted(finish, 0, 0),
    )


def keep_best(
    state: TrainState, tallies: Tallies, best: Best, step: Array, played: Tallies
) -> tuple[Tallies, Best]:
    """Add an evaluation at `step` to `tallies`, and keep each member's better policy."""
    value = jnp.where(played["eval/return"].count > 0, played["eval/return"].mean, -LARGEST)
    now = Best(split_replay(state.algo)[0], value, jnp.full_like(best.step, step))
    better = value > best.value

    def select(new: Array, old: Array) -> Array:
        return jnp.where(better.reshape(better.shape + (1,) * (new.ndim - 1)), new, old)

    return metrics.merge(tallies, played), jax.tree.map(select, now, best)
