"""`run`: the training loop driven from the host, with logs and a progress bar between its chunks."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import purerl
from purerl.config import Config, ConfigError, count, leaves, real, to_dict, validate_value
from purerl.experiment.console import Display, spread
from purerl.experiment.logger import SeedLog
from purerl.ops import statistics
from purerl.train import Driver, Schedule, make_driver, rounding_note, summarise
from purerl.types import Env, Key, TrainState

PIECE = 100
"""Iterations, summed over seeds, between two looks at the clock: a second or so on two cores."""


class Run(NamedTuple):
    """What `run` returns."""

    state: TrainState
    """The final state of all seeds, each leaf `[S, ...]`."""
    metrics: dict[str, np.ndarray]
    """Each `[S, rows]`, NaN where an interval has none."""
    steps: np.ndarray
    """`[rows]`: environment steps per seed at the end of each row."""
    logdir: Path | None
    compile_seconds: float
    run_seconds: float


def run(
    cfg: Config,
    seeds: int = 1,
    logdir: str | os.PathLike[str] | None = None,
    *,
    env: Env | None = None,
    networks: Mapping[str, Any] | None = None,
    stop_at_return: float | None = None,
    progress: bool = True,
) -> Run:
    """Train `seeds` seeds side by side in one program, with progress and logs.

    Args:
        cfg: from `purerl.make_config`.
        seeds: how many; seed i starts from `fold_in(key(cfg.seed), i)`, however many there are.
        logdir: gets one directory per seed; None writes nothing.
        env: the task; made from `cfg` if None.
        networks: `(init, apply)` pairs by name, in place of the algorithm's own.
        stop_at_return: end early once every seed's latest return is at least this: that of
            evaluations where they are on, of training episodes otherwise.
        progress: show a bar, or lines where there is no terminal.

    Raises:
        ConfigError: for anything wrong in the arguments, before any compilation.
    """
    validate_value("seeds", seeds, count(1, high=2**16))
    validate_value("stop_at_return", stop_at_return, real(None, optional=True))
    driver = make_driver(cfg, env, networks)
    schedule = driver.schedule
    headline = "eval/return" if cfg.eval_interval else "episode/return"
    title = f"{cfg.algo} on {driver.env.name}, {seeds} seed{'s' if seeds > 1 else ''}"
    with ExitStack() as stack:
        logs = _open_logs(stack, cfg, driver.env, seeds, logdir)
        display = stack.enter_context(Display(title, schedule.total_steps, seeds, progress))
        if schedule.total_steps != cfg.total_timesteps:
            display.say(rounding_note(cfg, schedule))
        program = _compile(driver, cfg, seeds, display)
        display.say(f"compiled in {program.seconds:.1f} s")
        began = time.monotonic()
        rows: list[dict[str, np.ndarray]] = []
        steps: list[int] = []
        latest: dict[str, Any] = {}
        for step, state, metrics in _rows(program, cfg, schedule, display):  # noqa: B007 - state is returned
            elapsed = time.monotonic() - began
            rows.append(metrics)
            steps.append(step)
            for i, log in enumerate(logs):
                values = {name: float(value[i]) for name, value in metrics.items()}
                log.write({"epoch": len(rows), "seed": i, "step": step, "time": elapsed} | values)
            latest = {
                name: np.where(np.isfinite(new), new, latest.get(name, new)) for name, new in metrics.items()
            }
            display.row(step, latest)  # after the logs: what is shown is on disk
            if stop_at_return is not None and (latest[headline] >= stop_at_return).all():
                display.say(f"every seed has reached a return of {stop_at_return:g} at step {step:,}")
                break
        elapsed = time.monotonic() - began
        display.say(
            f"{title}: {step:,} steps each in {elapsed:.1f} s ({step * seeds / elapsed:,.0f} steps/s), "
            f"compiled in {program.seconds:.1f} s; return {spread(latest[headline])}"
            + (f"; logs in {logdir}" if logs else "")
        )
    table = {name: np.stack([row[name] for row in rows], axis=1) for name in rows[0]}
    return Run(state, table, np.array(steps), Path(logdir) if logdir else None, program.seconds, elapsed)


class _Program(NamedTuple):
    """The compiled pieces, for all seeds."""

    state: TrainState
    hyper: dict[str, Any]
    warmup: Callable[..., Any] | None
    chunk: Callable[..., Any]
    evaluate: Callable[..., Any] | None
    pieces: int
    """Chunks per row."""
    names: tuple[str, ...]
    """The metrics of every row; NaN where a row has no such thing."""
    seconds: float


def seed_keys(cfg: Config, seeds: int) -> Key:
    """The root keys of seeds 0 to `seeds - 1`."""
    root = jax.random.key(cfg.seed)
    return jax.vmap(lambda i: jax.random.fold_in(root, i))(jnp.arange(seeds))


def _compile(driver: Driver, cfg: Config, seeds: int, display: Display) -> _Program:
    """Compile every piece before the first step, so that its time is told apart."""
    began = time.monotonic()
    display.phase("compiling")
    schedule, step = driver.schedule, jnp.int32(0)
    hyper = {name: jnp.float32(value) for name, value in leaves(cfg).items()}
    length = _largest_divisor(schedule.iterations, max(1, PIECE // seeds))

    init = jax.vmap(driver.init, in_axes=(0, None))
    warmup = jax.vmap(driver.warmup, in_axes=(0, None))
    chunk = jax.vmap(
        lambda state, step, hyper: driver.chunk(state, step, hyper, length), in_axes=(0, None, None)
    )
    evaluate = jax.vmap(driver.evaluate, in_axes=(0, None, None))

    state = jax.jit(init)(seed_keys(cfg, seeds), hyper)
    tallies = jax.eval_shape(chunk, state, step, hyper)[1]
    tallies |= jax.eval_shape(evaluate, state, step, hyper) if cfg.eval_interval else {}
    return _Program(
        state,
        hyper,
        jax.jit(warmup, donate_argnums=0).lower(state, hyper).compile() if schedule.warmup_steps else None,
        jax.jit(chunk, donate_argnums=0).lower(state, step, hyper).compile(),
        jax.jit(evaluate).lower(state, step, hyper).compile() if cfg.eval_interval else None,
        schedule.iterations // length,
        tuple(jax.eval_shape(jax.vmap(summarise), tallies)),
        time.monotonic() - began,
    )


def _rows(program: _Program, cfg: Config, schedule: Schedule, display: Display):
    """Run to the end; yield `(step, state, metrics)` at the end of every row, metrics `[S]` each."""
    merge, summary = jax.jit(_merge), jax.jit(jax.vmap(summarise))
    state, step = program.state, 0

    def finish(tallies):
        known = jax.device_get(summary(tallies))
        return {name: known.get(name, np.full(state.key.shape, np.nan)) for name in program.names}

    if program.warmup:
        state, tallies = program.warmup(state, program.hyper)
        step = schedule.warmup_steps
        yield step, state, finish(tallies)
    else:
        display.step(0)
    for _ in range(schedule.rows):
        tallies = None
        for _ in range(program.pieces):
            state, more = program.chunk(state, jnp.int32(step), program.hyper)
            tallies = more if tallies is None else merge(tallies, more)
            jax.block_until_ready(tallies)
            step += schedule.row_steps // program.pieces
            display.step(step)
        if program.evaluate and schedule.evaluates_at(cfg, step):
            tallies |= program.evaluate(state, jnp.int32(step), program.hyper)
        yield step, state, finish(tallies)


def _merge(a, b):
    return jax.tree.map(
        statistics.merge_tallies, a, b, is_leaf=lambda node: isinstance(node, statistics.Tally)
    )


def _largest_divisor(n: int, limit: int) -> int:
    return max(d for d in range(1, min(n, limit) + 1) if n % d == 0)


def _open_logs(stack: ExitStack, cfg: Config, env: Env, seeds: int, logdir: Any) -> list[SeedLog]:
    if logdir is None:
        return []
    directories = [Path(logdir) / f"seed{i}" for i in range(seeds)]
    for directory in directories:
        if directory.exists() and any(directory.iterdir()):
            what = f"{directory} already holds files, and nothing is overwritten"
            raise ConfigError("logdir", str(logdir), what)
    logs = [SeedLog(directory, _record(cfg, env, i)) for i, directory in enumerate(directories)]
    for log in logs:
        stack.callback(log.close)
    return logs


def _record(cfg: Config, env: Env, seed_index: int) -> dict[str, Any]:
    """What `config.json` says: every field, which seed this is, and what it ran on."""
    device = jax.devices()[0]
    return to_dict(cfg) | {
        "exp_name": f"{cfg.algo}-{env.name}",
        "seed_index": seed_index,
        "versions": {
            "purerl": purerl.__version__,
            "jax": jax.__version__,
            "python": platform.python_version(),
        },
        "device": f"{device.platform}: {device.device_kind}",
    }
