"""Population-based training (Jaderberg et al. 2017, arXiv:1711.09846): poor members continue from good ones.

Every `interval` steps the members are ranked by return. Each of the last takes over what one of the first has
learned, its hyperparameters included (exploit), and changes these (explore). Until it has a return of its own
it counts with that of its parent. Environments, random numbers and the replay buffer stay a member's own: no
buffer is copied. The carry begins afresh: that of another network, or of one that diverged, means nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purerl import search_space
from purerl.config import Config, ConfigError, Rule, validate
from purerl.search_space import Range, check_space
from purerl.types import Array, Key, PyTree

STREAM = 2**31 - 1
"""Fold of the root key that no member has."""
HYPER = "hyper/"
"""Beginning of the metrics that hold the values of the fields that change."""
PARENT = "pbt/parent"
"""Metric: the member from which one goes on after this row; NaN if it goes on by itself."""


class PBT(NamedTuple):
    """Settings of population-based training."""

    space: dict[str, Range]
    """Ranges of the real-valued fields that change."""
    interval: int
    """Environment steps of each member between two rounds, which come with the first row at or after them."""
    fraction: float = 0.25
    """Share of the members that is replaced; at least one, at most half."""
    step: float = 0.1
    """Change of a field, up or down, as a share of its range; in the logarithm where the range is."""
    resample: float = 0.1
    """Probability that a field is drawn from its range again, in the place of a change."""


class Round(NamedTuple):
    """Result of one round."""

    learned: PyTree
    """Learned state of the members, `[S, ...]`, without replay buffers."""
    hyper: dict[str, Array]
    diverged_at: Array
    carry: PyTree
    """The actors' carry, `[S, N, ...]`, zeros for a member that was replaced."""
    parent: Array
    """`[S]` int32: the member from which each goes on; its own index where it was not replaced."""


def check_pbt(pbt: PBT, cfg: Config, members: int) -> None:
    """Raise ConfigError if `pbt` does not fit `cfg`, or `members` are too few."""
    check_space(pbt.space, cfg)
    validate("interval", pbt.interval, Rule("count", 1))
    validate("fraction", pbt.fraction, Rule("real", 0, 0.5, low_open=True))
    validate("step", pbt.step, Rule("real", 0, 1, low_open=True))
    validate("resample", pbt.resample, Rule("real", 0, 1))
    if cfg.eval_interval > pbt.interval:
        what = f"at least eval_interval = {cfg.eval_interval:,}, since evaluations rank the members"
        hint = "Evaluate as often as that, or never (0): then returns of training episodes rank them."
        raise ConfigError("interval", pbt.interval, what, hint)
    if not pbt.space:
        raise ConfigError("space", pbt.space, "at least one real-valued field with its range")
    if members < 2:
        raise ConfigError("members", members, "at least 2 members, of which one can go on from the other")


def exploit_and_explore(
    pbt: PBT,
    learned: PyTree,
    hyper: Mapping[str, Array],
    diverged_at: Array,
    carry: PyTree,
    score: Array,
    key: Key,
) -> Round:
    """Play one round.

    Args:
        pbt: its settings.
        learned: of all members, `[S, ...]`, without replay buffers.
        hyper: real-valued fields; those of `pbt.space` `[S]`.
        diverged_at: `[S]`, -1 for a healthy member; others count as the last.
        carry: of the actors, each leaf `[S, N, ...]`.
        score: `[S]`: returns; NaN counts as the last.
        key: consumed.
    """
    size = score.shape[0]
    count = max(1, min(size // 2, math.floor(pbt.fraction * size)))
    key_parent, key_explore = jax.random.split(key)
    score = jnp.where(jnp.isnan(score) | (diverged_at >= 0), -jnp.inf, score)
    order = jnp.argsort(score)  # stable: of equal members the earlier is the worse
    worst, top = order[:count], order[size - count :]
    drawn = top[jax.random.randint(key_parent, (count,), 0, count)]
    better = score[drawn] > score[worst]
    parent = jnp.arange(size).at[worst].set(jnp.where(better, drawn, worst))
    replaced = parent != jnp.arange(size)
    take = lambda leaf: leaf[parent]
    hyper = dict(hyper)
    for i, (name, ends) in enumerate(pbt.space.items()):
        copied = hyper[name][parent]
        explored = _explored(pbt, ends, copied, jax.random.fold_in(key_explore, i))
        hyper[name] = jnp.where(replaced, explored, copied)
    fresh = lambda leaf: _where(replaced, jnp.zeros_like(leaf), leaf)
    learned, carry = jax.tree.map(take, learned), jax.tree.map(fresh, carry)
    return Round(learned, hyper, take(diverged_at), carry, parent.astype(jnp.int32))


def inherited(score: np.ndarray, parent: np.ndarray) -> np.ndarray:
    """Return the returns `score [S]` after a round: that of its parent for a member that was replaced.

    `parent` is the metric `PARENT`, `[S]`.
    """
    goes_on = np.isfinite(parent)
    return np.where(goes_on, score[np.where(goes_on, parent, 0).astype(int)], score)


def _where(flag: Array, one: Array, other: Array) -> Array:
    """Select rows of `[S, ...]` by `flag [S]`."""
    return jnp.where(flag.reshape(-1, *[1] * (one.ndim - 1)), one, other)


def _explored(pbt: PBT, ends: Range, value: Array, key: Key) -> Array:
    """Return `value [S]`, changed within a range."""
    low, high = (math.log(end) if ends.log else end for end in (ends.low, ends.high))
    key_side, key_again, key_draw = jax.random.split(key, 3)
    place = jnp.log(value) if ends.log else value
    side = jax.random.rademacher(key_side, value.shape, jnp.float32)
    moved = place + side * pbt.step * (high - low)
    again = jax.random.uniform(key_again, value.shape) < pbt.resample
    place = jnp.where(again, jax.random.uniform(key_draw, value.shape, minval=low, maxval=high), moved)
    return jnp.clip(jnp.exp(place) if ends.log else place, ends.low, ends.high).astype(jnp.float32)


def to_plain(pbt: PBT) -> dict[str, Any]:
    """Return `pbt` as plain values."""
    return pbt._asdict() | {"space": search_space.to_plain(pbt.space)}


def from_plain(values: Mapping[str, Any]) -> PBT:
    """Return the settings in values of `to_plain`, which may be untrusted. Raises TypeError or ValueError."""
    return PBT(**{**values, "space": search_space.from_plain(values["space"])})
