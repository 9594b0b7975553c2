"""`run`: train from the host, with logs, checkpoints and a live view."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from purerl.arguments import check_config
from purerl.config import Config, ConfigError, Rule, validate
from purerl.devices import choose_devices, divide_the_cpu
from purerl.experiment.display import Display
from purerl.experiment.loading import driver_of
from purerl.experiment.loop import Loop
from purerl.experiment.memory import disk_note, make_plan, refuse_if_too_large
from purerl.experiment.pace import make_outlook
from purerl.experiment.population import Population
from purerl.experiment.preconditions import allow_files, check_jax
from purerl.experiment.record import (
    changes_of,
    config_of,
    make_record,
    members_of,
    read_record,
    with_changes,
)
from purerl.experiment.signals import Interrupts, answering
from purerl.experiment.sinks import Sink, Sinks, check_sinks
from purerl.experiment.store import Store, holds_a_run
from purerl.experiment.untrusted import SchemaError
from purerl.machine import available_bytes
from purerl.make import env_for, named_after
from purerl.members import MAX_FIRST_SEED, Members, make_members
from purerl.own_parts import check_given, own_parts
from purerl.pbt import PBT, check_pbt, from_plain, to_plain
from purerl.programs import PIECE_STEPS, Pieces, Snapshot, make_pieces, make_programs
from purerl.python_envs import PYTHON_PIECE_STEPS, replace_steps
from purerl.schedule import rounding_note
from purerl.train import Driver
from purerl.types import Env, HostEnv, MaskedMetrics, TrainOutput, TrainState
from purerl.user_paths import user_path


class Run(NamedTuple):
    """The result of `run`; members are in the order of `members`."""

    state: TrainState
    """The final state of all members, each leaf `[S, ...]`."""
    metrics: dict[str, np.ndarray]
    """Each `[S, rows]`, NaN where an interval has none."""
    steps: np.ndarray
    """`[rows]`: environment steps of each member at the end of each row."""
    diverged_at: np.ndarray
    """`[S]`: the step by which a member's learning broke down, -1 for a healthy one."""
    members: list[dict[str, Any]]
    """`seed_index` and the values of the swept fields of each member."""
    logdir: Path | None
    compile_seconds: float
    run_seconds: float

    def __repr__(self) -> str:
        """Return the last returns, and the size of everything else: the numbers may be gigabytes."""
        metrics: Any = self.metrics
        out = TrainOutput(self.state, MaskedMetrics.of(metrics))
        sick = int((self.diverged_at >= 0).sum())
        facts = [f"{len(self.members)} members", f"{sick} diverged" * bool(sick), f"logdir={self.logdir}"]
        return f"Run({', '.join(filter(None, facts))}, {out})"


@jax.transfer_guard("allow")  # of numbers between host and device, by which the loop here works
def run(
    cfg: Config,
    seeds: int = 1,
    logdir: str | os.PathLike[str] | None = None,
    *,
    sweep: Mapping[str, Sequence[float]] | None = None,
    combine: str = "product",
    pbt: PBT | None = None,
    first_seed: int = 0,
    exp_name: str | None = None,
    sinks: Sequence[str | Sink] = (),
    env: Env | HostEnv | None = None,
    networks: Mapping[str, Any] | None = None,
    stop_at_return: float | None = None,
    devices: int | str | None = None,
    resume: bool = False,
    allow_changes: bool = False,
    progress: bool = True,
) -> Run:
    """Train a population side by side in one program, with progress, logs and checkpoints.

    A run that was stopped, however it was stopped, goes on with `resume=True` and ends with the very
    bits of one that never was, on the same machine, devices and versions. A member that diverges stays as it
    was before; the others go on.

    Args:
        cfg: from `purerl.make_config`.
        seeds: seeds of every setting; seed i starts from `fold_in(key(cfg.seed), i)`.
        logdir: gets one directory per member, and the checkpoints; None writes nothing. A relative one is
            fixed when `run` is called, whatever an environment does.
        sweep: real-valued fields and the values to try, such as `{"learning_rate": [1e-4, 1e-3]}`. Every
            setting is trained with every seed; a resumed run has its own where this is None.
        combine: "product" tries every combination of the values, "zip" the first of all fields, then the
            second, and so on.
        pbt: population-based training: members go on from each other, and fields change on the way. A resumed
            run has its own where this is None.
        first_seed: index i of the first seed, to add seeds to those of another run.
        exp_name: name of the run in its logs and plots; ALGO-ENV if None, or that of a resumed run.
        sinks: where the metrics go beside the files: "tensorboard", "wandb:PROJECT", or a function of each
            finished row, a dict of arrays `[S]`.
        env: the task; made from `cfg` if None. One that steps in Python is welcome; its own state cannot be
            saved, so that a resumed run begins new episodes.
        networks: `(init, apply)` pairs by name, in place of the algorithm's own.
        stop_at_return: end early once the latest return of every healthy member is at least this: that
            of evaluations where they are on, of training episodes otherwise.
        devices: the most of JAX's local devices over which members are spread evenly, or "all"; 1 if None, or
            as many as a resumed run had. A CPU becomes as many, unless JAX has begun. Bits depend on their
            number, as on that of members.
        resume: go on with the run in `logdir`, from its newest sound checkpoint.
        allow_changes: let a resumed run go on with another `cfg`, where its checkpoint fits it; the
            change is recorded.
        progress: show a live view, or lines where there is neither a terminal nor a notebook.

    Raises:
        ConfigError: for anything wrong in the arguments, before any compilation.
        CheckpointError: if no checkpoint can be read, or its logs are not all there, or the last one cannot
            be written.
        Interrupted: after Ctrl-C, SIGTERM or SIGHUP, once the state is saved. It is a KeyboardInterrupt.
    """
    check_config(cfg)
    validate("seeds", seeds, Rule("count", 1, 2**16))
    validate("first_seed", first_seed, Rule("count", 0, MAX_FIRST_SEED))
    validate("exp_name", exp_name, Rule("text", optional=True))
    validate("stop_at_return", stop_at_return, Rule("real", optional=True))
    if isinstance(resume, str | os.PathLike):
        raise ConfigError("resume", resume, "True or False", "The directory is logdir.")
    for name, value in {"resume": resume, "allow_changes": allow_changes, "progress": progress}.items():
        validate(name, value, Rule("switch"))
    path = None if logdir is None else user_path("logdir", logdir)
    if resume and path is None:
        raise ConfigError("logdir", None, "the directory of the run to resume")
    check_sinks(sinks, path)
    old = read_record(path) if resume and path else None
    wanted = devices if devices is not None else old["devices"] if old else 1
    divide_the_cpu(wanted)
    check_jax()
    path = path and path.absolute()  # an environment may change the working directory
    if old:
        check_given(old, env, networks)
        if exp_name not in (None, old["exp_name"]):
            raise ConfigError("exp_name", exp_name, "no value, since the run has its own", old["exp_name"])
    given, env = env, env_for(cfg, env)
    if given is not None and (not old or "env" in old.get("own", {})):
        cfg = named_after(cfg, env)
    own = own_parts(type(cfg), given, networks)
    members = make_members(cfg, int(seeds), sweep, combine, int(first_seed))
    if old and sweep is None:
        members = members._replace(settings=members_of(old).settings)
    pbt = _pbt_of(pbt, old, cfg, members)
    together = "with PBT, whose members go on from each other" if pbt else ""
    together = "for an environment that steps in Python" if isinstance(env, HostEnv) else together
    devices = choose_devices(wanted, members.size, together)
    driver = driver_of(cfg, env, networks, members)
    schedule, plan = driver.schedule, make_plan(driver, members)
    refuse_if_too_large(plan, available_bytes(devices=devices))
    most_steps = PYTHON_PIECE_STEPS if isinstance(env, HostEnv) else PIECE_STEPS
    record = make_record(driver, members, make_pieces(schedule, members.size, most_steps), own)
    record |= {"pbt": to_plain(pbt) if pbt else {}, "devices": devices}
    record["exp_name"] = exp_name or f"{cfg.algo}-{driver.env.name}"
    if path:
        allow_files(members)
    with ExitStack() as stack:
        store = _open_store(stack, path, resume)
        changed = changes_of(store.path, old, record, allow_changes) if store and old else {}
        if old:
            record = {**with_changes(old, record, changed), "devices": devices}
            members = members_of(old)
        if old and changed:
            _check_rows(changed, driver_of(config_of(old), env, networks, members), driver)
        population = _population(driver, env, members, Pieces(*record["pieces"]), pbt, devices)
        stack.callback(population.close)
        title = f"{driver.cfg.algo} on {driver.env.name}, {members.describe()}"
        outlook = make_outlook(driver.cfg, schedule, plan.total, path)
        display = stack.enter_context(Display(title, schedule.total_steps, members.size, progress, outlook))
        interrupts = stack.enter_context(Interrupts(display.say))
        saved, rows = None, []
        if store:
            if old:
                with display.doing("reading the newest checkpoint"), interrupts.leaving():
                    saved = _load(store, record, population, changed)
            store.write_record(record)
            rows = store.open_logs(population, saved.rows if saved else 0)
        if schedule.total_steps != driver.cfg.total_timesteps:
            display.say(rounding_note(driver.cfg, schedule))
        display.say(plan.describe())
        if wanted != 1:
            display.say(f"devices: {devices}, the most of {wanted} that divide {members.size} members")
        if store:
            display.say(disk_note(store.path, population.shapes, cfg, schedule))
        display.phase("compiling")
        snapshot = saved or population.start()  # fills a replay buffer of gigabytes while the rest compiles
        population.compile(interrupts.check)
        working = population.bytes * devices
        display.compiled(population.seconds, working)
        if saved:
            display.say(f"resumed at step {saved.step:,}")
            if isinstance(env, HostEnv):
                display.say(f"{env.name} cannot be saved: its episodes begin again")
        snapshot = population.enter(snapshot)
        answering(lambda: jax.block_until_ready(snapshot.state))
        refuse_if_too_large(plan, available_bytes(devices=devices), working)
        facts: Any = {"path": path, "cfg": cfg, "members": members, "exp_name": record["exp_name"]}
        outlets = Sinks(sinks, display.say, step=snapshot.step, **facts)
        stack.callback(outlets.close)
        loop = Loop(population, store, display, interrupts, rows, stop_at_return, outlets.write)
        snapshot = loop.train(snapshot)
        display.say(f"{title}: {loop.summary(snapshot)}")
    return Run(
        state=snapshot.state,
        metrics={
            name: np.stack([row[name] for row in rows], axis=1, dtype=np.float32)
            for name in population.metrics
        },
        steps=np.array([row["step"][0] for row in rows]),
        diverged_at=np.asarray(snapshot.state.diverged_at),
        members=members.facts,
        logdir=store.path if store else None,
        compile_seconds=population.seconds,
        run_seconds=snapshot.elapsed,
    )


def _pbt_of(given: PBT | None, old: dict[str, Any] | None, cfg: Config, members: Members) -> PBT | None:
    """Return the settings of a run: those given, or those of the `old` record. Raises ConfigError."""
    known = None
    try:
        known = from_plain(old["pbt"]) if old and old["pbt"] else None
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise ConfigError("resume", "pbt", f"a run's settings of PBT: {error}") from error
    if old and given not in (None, known):
        raise ConfigError("pbt", given, "None, since a resumed run has its own")
    pbt = known or given
    if pbt is None:
        return None
    if not isinstance(pbt, PBT):
        raise ConfigError("pbt", pbt, "a purerl.PBT")
    check_pbt(pbt, cfg, members.size)
    axes = members.axes(cfg)
    for name in pbt.space:
        if axes[name] is None:
            raise ConfigError("sweep", name, "a first value for each setting of every field that PBT changes")
    return pbt


def _population(
    driver: Driver, env: Env | HostEnv, members: Members, pieces: Pieces, pbt: PBT | None, devices: int
) -> Population:
    programs = make_programs(driver, members, pieces, devices)
    if isinstance(env, HostEnv):
        programs = replace_steps(programs, driver, env, members, pieces)
    return Population(driver, members, pieces, programs, pbt)


def _open_store(stack: ExitStack, path: Path | None, resume: bool) -> Store | None:
    if path is None:
        return None
    try:
        store = Store(path)
    except OSError as error:
        raise ConfigError("logdir", str(path), f"a directory to write in: {error}") from error
    stack.callback(store.close)
    if not resume and holds_a_run(path):
        what = "a directory without a run, since nothing is overwritten"
        raise ConfigError("logdir", str(path), what, "Resume that run, or choose another directory.")
    return store


def _check_rows(changed: dict[str, Any], old: Driver, new: Driver) -> None:
    """Raise ConfigError if `changed` fields move the steps at which the warm-up and the rows end."""
    if old.schedule._replace(rows=0) != new.schedule._replace(rows=0):
        what = "values that keep the steps at which the warm-up and each row of metrics end"
        raise ConfigError(", ".join(changed), [*changed.values()], what)


def _load(store: Store, record: dict[str, Any], population: Population, changed: dict) -> Snapshot | None:
    """Read the newest checkpoint. Raises ConfigError if it does not fit the `changed` fields."""
    try:
        return store.load(record, population)
    except SchemaError as error:
        if not changed:
            raise
        what = f"values that fit the checkpoint of the run: {error}"
        raise ConfigError(", ".join(changed), [*changed.values()], what) from error
