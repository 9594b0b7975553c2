"""Memory of a run: what is exact before anything is traced, and what XLA reports once it has compiled.

Python, JAX and the compiler take 0.7 to 1.1 GB beside.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purerl.config import Config, ConfigError
from purerl.experiment.policies import policy_of
from purerl.health import split_replay
from purerl.machine import format_bytes
from purerl.members import Members
from purerl.programs import Snapshot
from purerl.schedule import Schedule
from purerl.train import Driver
from purerl.types import PyTree

EPISODE_BYTES = 13
"""Bytes of `rollout.Episodes` of one step of one environment."""
ROW_BYTES = 400
"""Bytes of a row of metrics of one member, roughly."""


class Plan(NamedTuple):
    """Arrays that a run holds between two calls of its programs, and a rollout."""

    parts: dict[str, tuple[int, dict[str, Any]]]
    """By name: bytes of all members, and the config fields that make it smaller with their values."""
    members: Members

    @property
    def total(self) -> int:
        """Bytes of all parts."""
        return sum(size for size, _ in self.parts.values())

    def describe(self) -> str:
        """Return one line: the total, then the parts of at least 1%, largest first."""
        named = sorted((-size, name) for name, (size, _) in self.parts.items() if size >= self.total / 100)
        parts = ", ".join(f"{name} {format_bytes(-size)}" for size, name in named)
        return f"memory: {format_bytes(self.total)} for {self.members.describe()}: {parts}"


def make_plan(driver: Driver, members: Members) -> Plan:
    """Return the plan of a run; only shapes are computed."""
    algo, schedule, cfg = driver.algo, driver.schedule, driver.cfg
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(driver.init, key, {})
    learned, replay = split_replay(state.algo)
    obs: Any = state.env.obs
    act = lambda *args: driver.training.act(*args, {})
    action, _, extras = jax.eval_shape(act, state.algo, state.carry, obs, key, jnp.int32(0))
    step_bytes = tree_bytes((obs, action, obs, extras)) + algo.num_envs * (4 + 2 + EPISODE_BYTES)
    copies = 3 if cfg.eval_interval else 2  # the run's own, one within a call, and the best policy
    sizes = {
        "replay": (tree_bytes(replay), ("buffer_size", "total_timesteps")),
        "parameters": (copies * tree_bytes(learned), ("hidden_sizes",)),
        "environments": (2 * tree_bytes((state.env, state.carry)), ("num_envs",)),
        "rollout": (algo.num_steps * step_bytes, ("num_steps", "num_envs")),
        "metrics": (schedule.rows * ROW_BYTES, ("total_timesteps",)),
    }
    values = lambda names: {name: getattr(cfg, name) for name in names if hasattr(cfg, name)}
    parts = {name: (members.size * size, values(fields)) for name, (size, fields) in sizes.items() if size}
    return Plan(parts, members)


def disk_note(path: Path, shapes: Snapshot, cfg: Config, schedule: Schedule) -> str:
    """Return one line about what a run with snapshots of `shapes` saves in `path`, and the room there."""
    minutes, steps, interval = cfg.checkpoint_minutes, cfg.checkpoint_interval, cfg.snapshot_interval
    largest = tree_bytes(shapes.arrays)
    often = [f"every {minutes} minutes"] * (minutes > 0) + [f"every {steps:,} steps"] * (steps > 0)
    when = " and ".join(often) or "at the end"
    text = f"disk: a checkpoint {when}, of at most {format_bytes(largest)}; the newest two stay"
    needed = 3 * largest  # the third is the one that is being written
    if interval:
        size = tree_bytes(policy_of(shapes.state))
        most = 1 + min(schedule.rows, -(-schedule.total_steps // interval))
        text += f"; at most {most:,} policies of {format_bytes(size)}"
        needed += most * size
    if needed > (free := shutil.disk_usage(path).free):
        text += f", which may not fit: {format_bytes(free)} are free in {path}"
    return text


def refuse_if_too_large(plan: Plan, available: int | None, compiled: int = 0) -> None:
    """Raise ConfigError if a run needs more than the `available` bytes; None is unknown, and enough.

    `compiled` are the bytes that its programs need, once the plan's arrays are allocated; 0 before.
    """
    needed, members = compiled or plan.total, plan.members
    if available is None or needed <= available:
        return
    name, (size, fields) = max(plan.parts.items(), key=lambda part: part[1][0])
    field, value = next(iter(fields.items()), ("seeds", members.seeds))
    what = f"a run that fits the {format_bytes(available)} of memory available; "
    if compiled:
        what += f"its programs need {format_bytes(compiled)} beside {format_bytes(plan.total)} of arrays"
    else:
        what += f"it needs {format_bytes(needed)}, {name} {format_bytes(size)} for {members.describe()}"
    hints = [f"lower {' or '.join(fields)}"] if fields else []
    if 0 < (fewer := int(members.size * available / needed)) < members.size:
        hints.append(f"train at most {fewer:,} members in one run")
    hint = ", or ".join(hints) or "use a larger machine"
    raise ConfigError(field, value, what, f"{hint[0].upper()}{hint[1:]}.")


def tree_bytes(tree: PyTree) -> int:
    """Return the bytes of all arrays in `tree`, which may be `jax.ShapeDtypeStruct`s and typed keys."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
