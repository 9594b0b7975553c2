"""The compiled pieces of a run of many seeds, and what the run knows between two of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purerl import metrics
from purerl.config import Config, leaves
from purerl.experiment.pages import untouched
from purerl.health import split_replay
from purerl.metrics import Tallies
from purerl.train import Driver, Schedule
from purerl.types import Array, Key, PyTree, TrainState

PIECE_ITERATIONS, PIECE_STEPS = 100, 10_000
"""The most iterations, and environment steps, summed over seeds, that one call of a program takes:
a second or two on two cores. Only between two calls can a run be watched, saved or stopped."""


class Best(NamedTuple):
    """The policy of each seed's best evaluation so far."""

    algo: PyTree
    """The algorithm's State without its memory, normaliser included, `[S, ...]`."""
    value: Array
    """`[S]`: its mean return; -inf before any evaluation."""
    step: Array
    """`[S]` int32: when; -1 before any evaluation."""


class Snapshot(NamedTuple):
    """All that a run needs to go on exactly: arrays `[S, ...]`, and where it stands."""

    state: TrainState
    tallies: Tallies
    """Of the row of metrics under way."""
    best: Best | tuple[()]
    """`()` where evaluation is off."""
    hyper: dict[str, Array]
    """The config's real-valued fields, scalars."""
    step: int = 0
    """Environment steps of each seed."""
    rows: int = 0
    """Rows of metrics that are finished and logged."""
    elapsed: float = 0.0
    """Seconds of training, compilation not counted."""

    @property
    def arrays(self) -> dict[str, PyTree]:
        """What has to be stored as arrays."""
        return {name: getattr(self, name) for name in ("state", "tallies", "best", "hyper")}


class Pieces(NamedTuple):
    """Iterations that one call of a program takes."""

    warmup: int
    train: int


def make_pieces(schedule: Schedule, seeds: int, most_steps: int = PIECE_STEPS) -> Pieces:
    """Pieces of a second or two that divide the warm-up, and the rows, evenly."""
    limit = max(1, min(PIECE_ITERATIONS, most_steps // schedule.iteration_steps) // seeds)
    warmup = schedule.warmup_steps // schedule.iteration_steps
    return Pieces(_largest_divisor(warmup, limit), _largest_divisor(schedule.iterations, limit))


def _largest_divisor(n: int, limit: int) -> int:
    return max((d for d in range(1, min(n, limit) + 1) if n % d == 0), default=1)


def seed_keys(cfg: Config, seeds: int) -> Key:
    """The root keys of seeds 0 to `seeds - 1`."""
    root = jax.random.key(cfg.seed)
    return jax.vmap(lambda i: jax.random.fold_in(root, i))(jnp.arange(seeds))


class Functions(NamedTuple):
    """The pieces of a run as jitted functions of all seeds; nothing is compiled yet.

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
    """`(tallies, diverged_at) -> (row of metrics, tallies of nothing)`."""
    enter: Callable[..., Any] = lambda state, step: state
    """`(state, step) -> state` before the first of these, and where a run goes on: what environments need
    that are not all in the state."""
    close: Callable[[], None] = lambda: None
    """Once nothing is called any more."""


def over_seeds(
    function: Callable[..., Any], in_axes: tuple[int | None, ...], seeds: int
) -> Callable[..., Any]:
    """`function` of one seed for `seeds` of them: `vmap`, except that a single one goes without.

    The result has the axis `S` all the same. XLA:CPU would copy a memory `[1, capacity, ...]` at every
    step, and does not copy one without that axis.
    """
    if seeds > 1:
        return jax.vmap(function, in_axes=in_axes)

    def alone(*args):
        first = lambda leaf: leaf[0]
        args = [
            jax.tree.map(first, arg) if axis == 0 else arg for arg, axis in zip(args, in_axes, strict=True)
        ]
        return jax.tree.map(lambda leaf: leaf[None], function(*args))

    return alone


def make_functions(driver: Driver, cfg: Config, pieces: Pieces, seeds: int) -> Functions:
    """The pieces of the run that `driver` and `cfg` describe."""

    def of_all(function: Callable[..., Any], in_axes: tuple[int | None, ...]) -> Callable[..., Any]:
        # Inlined where it is used; traced once, however often its shapes are asked for.
        return jax.jit(over_seeds(function, in_axes, seeds), inline=True)

    def fixed(function: Callable[..., Any], iterations: int) -> Callable[..., Any]:
        return of_all(lambda *args: function(*args, iterations), (0, None, None))

    init = of_all(driver.init, (0, None))
    warm, learn = fixed(driver.warmup, pieces.warmup), fixed(driver.chunk, pieces.train)
    judge = of_all(driver.evaluate, (0, None, None))

    def start(keys, hyper):
        state, step = untouched(init(keys, hyper)), jnp.int32(0)
        shapes = jax.eval_shape(learn, state, step, hyper)[1]
        best: Any = ()
        if cfg.eval_interval:
            shapes |= jax.eval_shape(judge, state, step, hyper)
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
        return keep_best(state, tallies, best, step, judge(state, step, hyper))

    def finish(tallies, diverged_at):
        return jax.vmap(metrics.summarise)(tallies, diverged_at), metrics.empty(tallies)

    return Functions(
        jax.jit(start),
        jax.jit(warmup, donate_argnums=(0, 1)),
        jax.jit(chunk, donate_argnums=(0, 1)),
        jax.jit(evaluate),
        jax.jit(finish),
    )


def keep_best(
    state: TrainState, tallies: Tallies, best: Best, step: Array, judged: Tallies
) -> tuple[Tallies, Best]:
    """`tallies` with an evaluation at `step` added, and the better of its policies and the `best`."""
    value = jnp.where(judged["eval/return"].count > 0, judged["eval/return"].mean, -jnp.inf)
    now = Best(split_replay(state.algo)[0], value, jnp.full_like(best.step, step))
    return metrics.merge(tallies, judged), _select(value > best.value, now, best)


def _select(rows: Array, new: PyTree, old: PyTree) -> PyTree:
    """`new` for the seeds `[S]` that hold, `old` for the others."""
    return jax.tree.map(
        lambda a, b: jnp.where(rows.reshape(rows.shape + (1,) * (a.ndim - rows.ndim)), a, b), new, old
    )


def make_hyper(cfg: Config) -> dict[str, Array]:
    """The real-valued fields of `cfg`, as the programs take them."""
    return {name: jnp.float32(value) for name, value in leaves(cfg).items()}


class Program:
    """A run's pieces, compiled by `compile`: they take it from one snapshot to the next.

    Args:
        driver: from `make_driver`.
        cfg: the run's configuration.
        seeds: S.
        pieces: how much is done at a time.
        adapt: what to change in the functions that `make_functions` makes.
    """

    def __init__(
        self,
        driver: Driver,
        cfg: Config,
        seeds: int,
        pieces: Pieces,
        adapt: Callable[[Functions], Functions] = lambda functions: functions,
    ):
        self.schedule, self.cfg, self.seeds, self.pieces = driver.schedule, cfg, seeds, pieces
        self._functions = adapt(make_functions(driver, cfg, pieces, seeds))
        keys, hyper = jax.eval_shape(lambda: (seed_keys(cfg, seeds), make_hyper(cfg)))
        state, tallies, best = jax.eval_shape(self._functions.start, keys, hyper)
        self.shapes = Snapshot(state, tallies, best, hyper)
        """What the run's snapshots look like, as `jax.ShapeDtypeStruct`s."""
        self.metrics = tuple(jax.eval_shape(self._functions.finish, tallies, state.diverged_at)[0])
        """Names of the metrics of every row."""
        self.seconds = 0.0
        """How long `compile` took."""

    def start(self) -> Snapshot:
        """The snapshot of a run that begins. It may be returned before it is computed."""
        hyper = make_hyper(self.cfg)
        state, tallies, best = self._functions.start(seed_keys(self.cfg, self.seeds), hyper)
        return Snapshot(state, tallies, best, hyper)

    def enter(self, snapshot: Snapshot) -> Snapshot:
        """`snapshot`, new or loaded, ready to go on from."""
        return snapshot._replace(state=self._functions.enter(snapshot.state, jnp.int32(snapshot.step)))

    def close(self) -> None:
        """Let go of what the environments hold outside the state."""
        self._functions.close()

    def compile(self, poll: Callable[[], None] = lambda: None) -> None:
        """Compile everything before the first step, so that its time is told apart.

        Args:
            poll: called between two compilations; what it raises ends them.
        """
        began = time.monotonic()
        functions, shapes, step = self._functions, self.shapes, jax.ShapeDtypeStruct((), jnp.int32)
        state, tallies, best, hyper = shapes[:4]

        def compiled(function: Any, *args: Any) -> Callable[..., Any]:
            poll()
            return function.lower(*args).compile() if hasattr(function, "lower") else function

        if self.schedule.warmup_steps:
            self._warmup = compiled(functions.warmup, state, tallies, step, hyper)
        self._chunk = compiled(functions.chunk, state, tallies, step, hyper)
        if self.cfg.eval_interval:
            self._evaluate = compiled(functions.evaluate, state, tallies, best, step, hyper)
        self._finish = compiled(functions.finish, tallies, state.diverged_at)
        self.seconds = time.monotonic() - began

    def rows_by(self, step: int) -> int:
        """Rows of metrics that are complete by `step`."""
        warm = self.schedule.warmup_steps
        return 0 if step < warm else bool(warm) + (step - warm) // self.schedule.row_steps

    def is_done(self, snapshot: Snapshot) -> bool:
        """Whether the run has reached its end."""
        return snapshot.step >= self.schedule.total_steps and not self.has_row(snapshot)

    def has_row(self, snapshot: Snapshot) -> bool:
        """Whether a row of metrics is complete and not yet finished."""
        return snapshot.rows < self.rows_by(snapshot.step)

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
        """Close the row of metrics under way, after an evaluation if one is due.

        Returns:
            The snapshot with the next row begun, and the finished row: each metric `[S]`. `snapshot`
            itself stays valid.
        """
        state, tallies, best, hyper, step = snapshot[:5]
        if step > self.schedule.warmup_steps and self.schedule.evaluates_at(self.cfg, step):
            tallies, best = self._evaluate(state, tallies, best, jnp.int32(step), hyper)
        row, tallies = self._finish(tallies, state.diverged_at)
        row = {name: np.array(value) for name, value in row.items()}  # a view would keep the device's buffer
        return snapshot._replace(tallies=tallies, best=best, rows=snapshot.rows + 1), row
