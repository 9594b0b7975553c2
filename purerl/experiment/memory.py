"""How much memory a run needs, known before anything is compiled or allocated.

Counted is what all seeds hold between two calls of the run's programs, and what the fullest call needs
beside that. Not counted are Python and JAX (some 0.3 GB), the compiler while it works (some 0.4 GB) and
the data of a physics engine on the host. A checkpoint needs nothing: it is streamed. Rows of metrics are
counted wherever the run is, though they are always on the host.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purerl.algos import off_policy
from purerl.config import Config, ConfigError
from purerl.experiment.buffers import peak_bytes, tree_bytes
from purerl.health import split_replay
from purerl.train import Driver
from purerl.types import PyTree, TrainState, Transition

EPISODE_BYTES = 13
"""What a rollout tells of episodes at each step (`rollout.Episodes`)."""
OTHER_METRICS = 16
"""Values in a row of metrics beside those that the algorithm reports."""
SEED_BYTES, VALUE_BYTES = 10, 200
"""A value in a row of metrics on the host: for each seed, and for the array that holds all seeds'."""
MARGIN = 0.9
"""The share of what is available that a suggestion fills at most."""


class Item(NamedTuple):
    """One part of what a run needs."""

    name: str
    bytes_per_seed: int
    knobs: tuple[str, ...]
    """The config fields it is about proportional to, the one to turn first; "seeds" if there is none."""
    amount: Any
    """What the first comes to; a memory, say, never holds more than the run has steps."""
    what: str
    """What the bytes hold, such as "1,000,000 transitions"."""


class Plan(NamedTuple):
    """What a run needs."""

    items: tuple[Item, ...]
    seeds: int

    @property
    def total(self) -> int:
        """Bytes of all items and seeds."""
        return self.seeds * sum(item.bytes_per_seed for item in self.items)

    @property
    def largest(self) -> Item:
        """The item with the most bytes."""
        return max(self.items, key=lambda item: item.bytes_per_seed)

    def describe(self) -> str:
        """One line: the total, then the items, largest first; those under 1% together are "other"."""
        named = [item for item in self.items if self.seeds * item.bytes_per_seed >= self.total / 100]
        named.sort(key=lambda item: -item.bytes_per_seed)
        parts = [f"{item.name} {format_bytes(self.seeds * item.bytes_per_seed)}" for item in named]
        parts[0] += f" ({self.seeds} seeds x {named[0].what})" if self.seeds > 1 else f" ({named[0].what})"
        other = self.total - self.seeds * sum(item.bytes_per_seed for item in named)
        if other > self.total / 1000:
            parts.append(f"other {format_bytes(other)}")
        seeds = f"{self.seeds} seeds" if self.seeds > 1 else "1 seed"
        return f"memory: {format_bytes(self.total)} for {seeds}: {', '.join(parts)}"


def make_plan(driver: Driver, cfg: Config, seeds: int) -> Plan:
    """What a run of `driver`, made from `cfg`, needs for `seeds` seeds; only shapes are computed."""
    algo, schedule = driver.algo, driver.schedule
    state = jax.eval_shape(driver.init, _key(), {})
    learned, memory = split_replay(state.algo)
    capacity = off_policy.capacity(cfg, getattr(cfg, "buffer_size", cfg.total_timesteps))
    rollout, acting, update, reported = _training(driver, state)
    evaluation = _evaluation(driver, cfg, state) - rollout - max(acting, update)
    copies = 3 if cfg.eval_interval else 2  # the run's own, one within a call, and the best policy's
    rows = schedule.rows + (schedule.warmup_steps > 0)
    value_bytes = SEED_BYTES + -(-VALUE_BYTES // seeds)
    shape = ("num_steps", "num_envs") if algo.num_steps > algo.num_envs else ("num_envs", "num_steps")
    batch = ("batch_size",) if hasattr(cfg, "batch_size") else shape
    # By name: bytes per seed, the fields they are proportional to, and what they hold.
    sizes: dict[str, tuple[int, tuple[str, ...], str]] = {
        "replay": (tree_bytes(memory), ("buffer_size", "total_timesteps"), f"{capacity:,} transitions"),
        "networks": (copies * tree_bytes(learned), ("hidden_sizes",), f"{copies} copies of what is learned"),
        "environments": (2 * _world_bytes(state), ("num_envs",), f"{algo.num_envs:,} environments"),
        "rollout": (rollout, shape, f"{algo.num_steps:,} x {algo.num_envs:,} steps"),
        "update": (update, (*batch, "hidden_sizes"), "batches, activations and gradients"),
        "acting": (acting - update, ("num_envs", "hidden_sizes"), f"{algo.num_envs:,} environments"),
        "evaluation": (evaluation, ("eval_episodes",), f"{cfg.eval_episodes:,} episodes"),
        "metrics": (rows * (reported + OTHER_METRICS) * value_bytes, ("log_interval",), f"{rows:,} rows"),
    }
    amounts = {"buffer_size": capacity, "log_interval": schedule.row_steps, "seeds": seeds}
    items = []
    for name, (size, fields, what) in sizes.items():
        knobs = tuple(field for field in fields if hasattr(cfg, field)) or ("seeds",)
        amount = amounts[knobs[0]] if knobs[0] in amounts else getattr(cfg, knobs[0])
        items += [Item(name, size, knobs, amount, what)] if size > 0 else []
    return Plan(tuple(items), seeds)


def refuse_if_too_large(plan: Plan, cfg: Config, available: int | None) -> None:
    """Raises ConfigError if `plan` needs more than `available` bytes; None is unknown, and enough."""
    if available is None or plan.total <= available:
        return
    item, seeds = plan.largest, plan.seeds
    what = f"the run needs {format_bytes(plan.total)} of memory, and {format_bytes(available)} is available; "
    what += f"the largest part is {item.name}, {format_bytes(item.bytes_per_seed)} a seed ({item.what})"
    what += f" and {format_bytes(seeds * item.bytes_per_seed)} for {seeds} seeds" if seeds > 1 else ""
    fewer = int(MARGIN * available * seeds / plan.total)
    hints = [_smaller(plan, cfg, MARGIN * available), f"run at most {fewer} seeds" if fewer > 1 else ""]
    hint = ", or ".join(filter(None, hints)) or ("run fewer seeds" if seeds > 1 else "use a larger machine")
    raise ConfigError(item.knobs[0], getattr(cfg, item.knobs[0], seeds), what, f"{hint.capitalize()}.")


def _smaller(plan: Plan, cfg: Config, budget: float) -> str:
    """A value of the largest item's knob with which the run takes at most `budget` bytes, in words.

    Nothing if there is none. Weights shrink faster than the widths of layers, so for these the value is
    on the safe side.
    """
    knob, amount = plan.largest.knobs[0], plan.largest.amount
    moved = plan.seeds * sum(item.bytes_per_seed for item in plan.items if knob in item.knobs)
    share = (budget - plan.total + moved) / moved
    if knob == "seeds" or share <= 0:
        return ""
    if knob == "log_interval":
        return f"set {knob} to {_two_digits(math.ceil(amount / share), up=True):,} or more"
    if isinstance(amount, tuple):
        widths = tuple(_two_digits(int(width * share)) for width in amount)
        return f"set {knob} to {widths} or less" if widths and all(widths) else ""
    value = _two_digits(int(amount * share))
    value -= value % _unit(cfg, knob)
    least = getattr(cfg, "batch_size", 1) if knob == "buffer_size" else 1
    return f"set {knob} to {value:,} or less" if value >= least else ""


def _two_digits(value: int, up: bool = False) -> int:
    """`value >= 0` rounded to two significant digits, down or up."""
    scale = 10 ** max(len(str(value)) - 2, 0)
    return (-(-value // scale) if up else value // scale) * scale


def _unit(cfg: Config, knob: str) -> int:
    """What a value of `knob` has to be a multiple of: minibatches are of equal size, writes never wrap."""
    if knob == "buffer_size":
        return cfg.num_envs
    if knob in ("num_envs", "num_steps") and hasattr(cfg, "num_minibatches"):
        other = getattr(cfg, "num_steps" if knob == "num_envs" else "num_envs")
        return cfg.num_minibatches // math.gcd(cfg.num_minibatches, other)  # type: ignore[attr-defined]
    return 1


def _training(driver: Driver, state: TrainState) -> tuple[int, int, int, int]:
    """Bytes of a rollout, and what acting and then learning from it need beside it; values reported."""
    algo, steps = driver.algo, driver.schedule.iteration_steps
    acting, (action, _, extras) = _acting(driver, state, True)
    obs: Any = state.env.obs
    reward, ended = (jax.ShapeDtypeStruct((algo.num_envs,), dtype) for dtype in (jnp.float32, jnp.bool_))
    rollout: Any = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((algo.num_steps, *leaf.shape), leaf.dtype),
        (obs, action, reward, obs, ended, ended, extras),
    )
    rollout = Transition(*rollout)
    step = jax.ShapeDtypeStruct((), jnp.int32)
    update, (_, report) = peak_bytes(algo.update, state.algo, rollout, _key(), step)
    return tree_bytes(rollout) + EPISODE_BYTES * steps, acting, update, len(report)


def _evaluation(driver: Driver, cfg: Config, state: TrainState) -> int:
    """Bytes of the environments that an evaluation steps, and what acting in them needs."""
    if not cfg.eval_interval:
        return 0
    env, carry = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((cfg.eval_episodes, *leaf.shape[1:]), leaf.dtype),
        (state.env, state.carry),
    )
    judged = state._replace(env=env, carry=carry)
    return 2 * _world_bytes(judged) + _acting(driver, judged, False)[0]


def _acting(driver: Driver, state: TrainState, explore: bool) -> tuple[int, PyTree]:
    """Bytes that a step of the policy needs beside `state`, and the shapes of what it returns."""
    inputs = state.algo, state.carry, state.env.obs, _key()
    return peak_bytes(lambda inputs: driver.algo.act(*inputs, explore=explore), inputs)


def _world_bytes(state: TrainState) -> int:
    """Bytes of the environments and the actor's memory; a step needs as much again."""
    return tree_bytes((state.env, state.carry))


def _key() -> PyTree:
    return jax.eval_shape(lambda: jax.random.key(0))


def format_bytes(size: float) -> str:
    """`size` in decimal units: "7.0 GB" is 7,000,000,000 bytes."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.1f} {unit}" if 0 < size < 9.95 and unit != "B" else f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"
