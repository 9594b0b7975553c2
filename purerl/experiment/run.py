"""`run`: train from the host, with logs, checkpoints and a progress bar; `load`: what a run has learned."""

from __future__ import annotations

import dataclasses
import os
import platform
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import purerl
from purerl.config import Config, ConfigError, count, from_dict, real, shorten, to_dict, validate_value
from purerl.experiment.available import available_bytes
from purerl.experiment.checkpoint import CheckpointError
from purerl.experiment.console import Display, spread
from purerl.experiment.directory import (
    FIXED,
    RunDirectory,
    holds_a_run,
    load_newest,
    read_record,
    refuse_files,
)
from purerl.experiment.host import HOST_PIECE_STEPS, Host
from purerl.experiment.interrupts import Interrupts
from purerl.experiment.loop import Loop
from purerl.experiment.memory import make_plan, refuse_if_too_large
from purerl.experiment.program import (
    PIECE_STEPS,
    Best,
    Pieces,
    Program,
    Snapshot,
    make_hyper,
    make_pieces,
    seed_keys,
)
from purerl.experiment.worlds import outline
from purerl.health import split_replay
from purerl.make import env_of
from purerl.registry import config_class
from purerl.train import Driver, make_driver, rounding_note
from purerl.types import Env, HostEnv, TrainState


class Run(NamedTuple):
    """What `run` returns."""

    state: TrainState
    """The final state of all seeds, each leaf `[S, ...]`."""
    metrics: dict[str, np.ndarray]
    """Each `[S, rows]`, NaN where an interval has none."""
    steps: np.ndarray
    """`[rows]`: environment steps per seed at the end of each row."""
    diverged_at: np.ndarray
    """`[S]`: the step by which a seed's learning broke down, -1 for a healthy one."""
    logdir: Path | None
    compile_seconds: float
    run_seconds: float


def run(
    cfg: Config,
    seeds: int = 1,
    logdir: str | os.PathLike[str] | None = None,
    *,
    env: Env | HostEnv | None = None,
    networks: Mapping[str, Any] | None = None,
    stop_at_return: float | None = None,
    resume: bool = False,
    allow_changes: bool = False,
    progress: bool = True,
) -> Run:
    """Train `seeds` seeds side by side in one program, with progress, logs and checkpoints.

    A run that was stopped, however it was stopped, goes on with `resume=True` and ends with the very
    bits of one that never was, on the same machine and versions. A seed that diverges stays as it
    was before; the others go on.

    Args:
        cfg: from `purerl.make_config`.
        seeds: how many; seed i starts from `fold_in(key(cfg.seed), i)`, however many there are.
        logdir: gets one directory per seed, and the checkpoints; None writes nothing.
        env: the task; made from `cfg` if None. One that steps in Python is welcome; its own state cannot be
            saved, so that a resumed run begins new episodes.
        networks: `(init, apply)` pairs by name, in place of the algorithm's own.
        stop_at_return: end early once the latest return of every healthy seed is at least this: that
            of evaluations where they are on, of training episodes otherwise.
        resume: go on with the run in `logdir`, from its newest sound checkpoint.
        allow_changes: let a resumed run go on with another `cfg`, where what is saved fits it; the
            change is recorded.
        progress: show a bar, or lines where there is no terminal.

    Raises:
        ConfigError: for anything wrong in the arguments, before any compilation.
        CheckpointError: if no checkpoint can be read, or its logs are not all there, or the last one cannot
            be written.
        Interrupted: after Ctrl-C or SIGTERM, once the state is saved. It is a KeyboardInterrupt.
    """
    validate_value("seeds", seeds, count(1, high=2**16))
    validate_value("stop_at_return", stop_at_return, real(None, optional=True))
    if resume and logdir is None:
        raise ConfigError("logdir", None, "a run to resume has a directory")
    env = env_of(cfg) if env is None else env
    driver = _driver(cfg, env, networks)
    schedule, plan = driver.schedule, make_plan(driver, cfg, seeds)
    refuse_if_too_large(plan, cfg, available_bytes())
    title = f"{cfg.algo} on {driver.env.name}, {seeds} seed{'s' if seeds > 1 else ''}"
    most_steps = HOST_PIECE_STEPS if isinstance(env, HostEnv) else PIECE_STEPS
    pieces = make_pieces(schedule, seeds, most_steps)
    record = {"config": to_dict(cfg), "seeds": seeds, "pieces": pieces, "changes": []}
    with ExitStack() as stack:
        directory = _open_directory(stack, logdir, resume)
        if directory and resume:
            record = _resumed(directory.path, record, allow_changes, env, networks)
        program = _program(driver, env, cfg, seeds, Pieces(*record["pieces"]))
        stack.callback(program.close)
        saved = _load(directory, record, program) if directory and resume else None
        rows = []
        if directory:
            directory.write_record(record)
            configs = [_config_json(cfg, driver.env, i) for i in range(seeds)]
            rows = directory.open_logs(configs, saved.rows if saved else 0, program.metrics)
        interrupts = stack.enter_context(Interrupts())
        display = stack.enter_context(Display(title, schedule.total_steps, seeds, progress))
        if schedule.total_steps != cfg.total_timesteps:
            display.say(rounding_note(cfg, schedule))
        display.say(plan.describe())
        display.phase("compiling")
        snapshot = saved or program.start()  # fills a memory of gigabytes while the rest is compiled
        program.compile(interrupts.check)
        display.say(f"compiled in {program.seconds:.1f} s")
        if saved:
            display.say(f"resumed at step {saved.step:,}")
            if isinstance(env, HostEnv):
                display.say(f"{env.name} cannot be saved: its episodes begin anew")
        snapshot = program.enter(snapshot)
        jax.block_until_ready(snapshot.state)
        loop = Loop(program, directory, display, interrupts, rows, stop_at_return)
        snapshot = loop.train(snapshot)
        display.say(_summary(title, snapshot, seeds, program.seconds, loop, logdir))
    return Run(
        snapshot.state,
        {name: np.stack([row[name] for row in rows], axis=1, dtype=np.float32) for name in program.metrics},
        np.array([row["step"][0] for row in rows]),
        np.asarray(snapshot.state.diverged_at),
        directory.path if directory else None,
        program.seconds,
        snapshot.elapsed,
    )


def load(
    run_dir: str | os.PathLike[str],
    *,
    best: bool = False,
    env: Env | HostEnv | None = None,
    networks: Mapping[str, Any] | None = None,
) -> tuple[Config, TrainState]:
    """The configuration and the newest sound state of the run in `run_dir`, for `purerl.make_policy`.

    Only arrays and plain values are read, of the shapes that the configuration asks for: a directory
    from a stranger can execute nothing.

    Args:
        run_dir: what `purerl.run` had as `logdir`.
        best: the policy of each seed's best evaluation, with the normaliser it had then, in place of
            the newest; such a state has neither memory nor environments.
        env: the task, if the run had one of its own, or one with a model file of its own.
        networks: those the run was trained with, if not the algorithm's own.

    Returns:
        `(cfg, state)`, the state of all seeds: each leaf `[S, ...]`.

    Raises:
        ConfigError: if there is no run, or its configuration does not fit this purerl.
        CheckpointError: if there is no checkpoint that can be read, or no evaluation for `best`.
    """
    path = Path(run_dir)
    record = read_record(path, "run_dir")
    cfg = config_of(record)
    if env is None:
        refuse_files(cfg.env, cfg.env_kwargs, "Make the environment, and pass it as env.")
    driver = _driver(cfg, env, networks)
    state = _state_shapes(driver, cfg, record["seeds"])
    arrays: dict[str, Any] = {"state": state}
    if best:
        if not cfg.eval_interval:
            raise CheckpointError(f"{path} has no best policy: its run did not evaluate")
        value: Any = jax.ShapeDtypeStruct(state.diverged_at.shape, jnp.float32)
        best_state = Best(split_replay(state.algo)[0], value, state.diverged_at)
        arrays = {"state": state._replace(algo=(), env=(), carry=()), "best": best_state}
    found = load_newest(path, record, driver.schedule, arrays, partly=True)
    if found is None:
        raise CheckpointError(f"{path} has no checkpoint yet")
    arrays = found[1]
    return cfg, arrays["state"]._replace(algo=arrays["best"].algo) if best else arrays["state"]


def _driver(cfg: Config, env: Env | HostEnv | None, networks: Mapping[str, Any] | None) -> Driver:
    """The pieces of a run; of the outline of an environment that steps in Python."""
    env = env_of(cfg) if env is None else env
    return make_driver(cfg, outline(env) if isinstance(env, HostEnv) else env, networks)


def _program(driver: Driver, env: Env | HostEnv, cfg: Config, seeds: int, pieces: Pieces) -> Program:
    """The program of a run of `driver`, on `env`."""
    if not isinstance(env, HostEnv):
        return Program(driver, cfg, seeds, pieces)
    return Program(driver, cfg, seeds, pieces, Host(driver, env, cfg, pieces, seeds).adapt)


def _state_shapes(driver: Driver, cfg: Config, seeds: int) -> TrainState:
    """What the state of so many seeds looks like, as `jax.ShapeDtypeStruct`s; training is not traced."""
    keys, hyper = jax.eval_shape(lambda: (seed_keys(cfg, seeds), make_hyper(cfg)))
    return jax.eval_shape(jax.vmap(driver.init, in_axes=(0, None)), keys, hyper)


def config_of(record: Mapping[str, Any]) -> Config:
    """The configuration in a run's record. Raises ConfigError if it is none of this purerl's."""
    values = dict(record["config"])
    return from_dict(config_class(values.pop("algo", None)), values)


def _open_directory(stack: ExitStack, logdir: Any, resume: bool) -> RunDirectory | None:
    if logdir is None:
        return None
    path = Path(logdir)
    if resume and not os.path.isdir(path):
        raise ConfigError("resume", str(path), "it must be the directory of a run")
    try:
        directory = RunDirectory(path)
    except OSError as error:
        raise ConfigError("logdir", str(path), f"it must be a directory to write in: {error}") from error
    stack.callback(directory.close)
    if not resume and holds_a_run(path):
        what = "it already holds a run, and nothing is overwritten"
        raise ConfigError("logdir", str(path), what, "Resume that run, or choose another directory.")
    return directory


def _resumed(
    path: Path,
    new: dict[str, Any],
    allow_changes: bool,
    env: Env | HostEnv | None,
    networks: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The record of the resumed run in `path`, with what `new` changes. Raises ConfigError if it may not."""
    old = read_record(path)
    if new["seeds"] != old["seeds"]:
        raise ConfigError("seeds", new["seeds"], f"the run in {path} has {old['seeds']}")
    cfg = config_of(old)
    before = to_dict(cfg)
    changed = {name: value for name, value in new["config"].items() if value != before.get(name)}
    for name, value in changed.items():
        what = f"the run in {path} has {shorten(repr(before.get(name)))}"
        if name in FIXED:
            raise ConfigError(name, value, f"{what}, and that cannot change")
        if not allow_changes:
            raise ConfigError(name, value, what, "To go on with another value, allow changes.")
        one = dataclasses.replace(cfg, **{name: getattr(config_of(new), name)})
        if _layout(one, old, env, networks) != _layout(cfg, old, env, networks):
            raise ConfigError(name, value, f"{what}, and what it saved does not fit another value")
    if not changed:
        return old
    entry = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "before": {name: before[name] for name in changed}}
    return old | {"config": new["config"], "changes": [*old["changes"], entry | {"after": changed}]}


def _layout(cfg: Config, record: Mapping[str, Any], env: Env | HostEnv | None, networks: Any) -> Any:
    """What a checkpoint fixes of a run: every array's shape, and where its rows begin and end."""
    driver = _driver(cfg, env, networks)
    program = Program(driver, cfg, record["seeds"], Pieces(*record["pieces"]))
    leaves, structure = jax.tree.flatten(program.shapes.arrays)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves], driver.schedule._replace(rows=0)


def _load(directory: RunDirectory, record: dict[str, Any], program: Program) -> Snapshot | None:
    """The snapshot to go on from, with the values of the config; None where the run has saved none yet."""
    saved = directory.load(record, program.schedule, program.shapes)
    return saved and saved._replace(hyper=make_hyper(program.cfg))


def _config_json(cfg: Config, env: Env, seed_index: int) -> dict[str, Any]:
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


def _summary(
    title: str, snapshot: Snapshot, seeds: int, compile_seconds: float, loop: Loop, logdir: Any
) -> str:
    rate = snapshot.step * seeds / max(snapshot.elapsed, 1e-9)
    text = (
        f"{title}: {snapshot.step:,} steps each in {snapshot.elapsed:.1f} s ({rate:,.0f} steps/s), "
        f"compiled in {compile_seconds:.1f} s; return {spread(loop.latest[loop.headline])}"
    )
    sick = np.flatnonzero(np.asarray(snapshot.state.diverged_at) >= 0)
    if sick.size:
        text += f"; {sick.size} of {seeds} seeds diverged: {', '.join(map(str, sick))}"
    return text + (f"; in {logdir}" if logdir else "")
