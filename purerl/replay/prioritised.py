"""Draws from a replay buffer by priority (Schaul et al. 2016, arXiv:1511.05952).

Row `i` is drawn with probability `P(i) = p_i^alpha / sum_k p_k^alpha`, `p_i = |td_error_i| + 1e-6` (eq. 1),
and weighs `(size P(i))^-beta` in a loss, over the largest weight of its batch (section 3.4). A row that was
never drawn has the largest priority so far.

The sums are those of a tree whose nodes have 16 children. A node is always added up from its children, in one
fixed order, so that no rounding stays, however often priorities change.
"""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from purerl.replay import ring
from purerl.replay.ring import State
from purerl.types import Array, Key, Transition

WIDTH = 16
"""Children of a node, a power of two: they fill a cache line of 64 bytes."""
EPSILON = 1e-6
"""Priority of a row without an error."""


class Priorities(NamedTuple):
    """Priorities of all rows to the power of alpha, with their sums."""

    levels: tuple[Array, ...]
    """`[blocks, WIDTH]` float32 each: the rows' own first, then the sums of the blocks below; the last is one
    block. Slots without a row have 0."""
    largest: Array
    """Scalar: the largest priority so far, to the power of alpha."""


def init(state: State) -> State:
    """Return an empty buffer of `ring` with priorities."""
    levels, entries = [], len(state.rows.reward)
    while not levels or len(levels[-1]) > 1:
        levels.append(jnp.zeros((-(-entries // WIDTH), WIDTH), jnp.float32))
        entries = len(levels[-1])
    return state._replace(priority=Priorities(tuple(levels), jnp.float32(1)))


def add(state: State, transition: Transition) -> State:
    """Write a rollout `[T, N, ...]` as `ring.add` does, with the largest priority so far."""
    priorities, n = state.priority, transition.reward.size
    index = state.head + jnp.arange(n, dtype=jnp.int32)
    levels = set_priorities(priorities.levels, index, jnp.full(n, priorities.largest))
    return ring.add(state, transition)._replace(priority=priorities._replace(levels=levels))


def draw(state: State, key: Key, batch_size: int, beta: float | Array) -> tuple[Array, Array]:
    """Draw rows by priority with replacement; slot 0 where no row has one.

    Returns:
        `(index [B] int32, weight [B] float32)`.
    """
    levels = state.priority.levels
    index, priority = jnp.zeros(batch_size, jnp.int32), jnp.zeros(batch_size, jnp.float32)
    uniform = jax.random.uniform(key, (len(levels), batch_size), jnp.float32)  # new bits at every level
    for level, uniform_level in zip(reversed(levels), uniform, strict=True):
        child, priority = _child(uniform_level, level[index])
        index = WIDTH * index + child
    priority = jnp.maximum(priority, jnp.finfo(jnp.float32).tiny)
    return index, (priority / priority.min()) ** -beta  # the size and the sum of all priorities cancel


def _child(uniform: Array, block: Array) -> tuple[Array, Array]:
    """Draw a child of each `block [B, WIDTH]` in proportion to its number, by `uniform [B]` in [0, 1).

    A child with 0 is drawn only where all are 0, and is the first then, however sums are rounded.

    Returns:
        `(child [B] int32, its number [B])`.
    """
    children = block.T
    sums = jnp.where(children > 0, jnp.cumsum(children, axis=0), 0.0)
    total = sums.max(axis=0)
    inside = (sums > (uniform * total)[None]) | (sums == total[None])
    child = jnp.argmax(inside, axis=0).astype(jnp.int32)
    return child, jnp.take_along_axis(children, child[None], axis=0)[0]


def update(state: State, index: Array, td_error: Array, alpha: float | Array) -> State:
    """Return `state` with the TD errors `[B]` of the rows at `index [B]` as their priorities.

    Of a row that is there several times the largest counts. An error that is not finite gives the largest
    priority so far.
    """
    chex.assert_equal_shape([index, td_error])
    priority = (jnp.abs(td_error.astype(jnp.float32)) + EPSILON) ** alpha
    largest = state.priority.largest
    priority = jnp.where(jnp.isfinite(priority), priority, largest)
    levels = set_priorities(state.priority.levels, index, priority)
    return state._replace(priority=Priorities(levels, jnp.maximum(largest, priority.max())))


def set_priorities(levels: tuple[Array, ...], index: Array, priority: Array) -> tuple[Array, ...]:
    """Return `levels` with new priorities `[B]`, at least 0, of the rows at `index [B]`.

    A single row is written twice: XLA:CPU would fuse one write with the read for the sum above it, and copy
    the level at every step for that.
    """
    if len(index) == 1:
        index, priority = jnp.tile(index, 2), jnp.tile(priority, 2)
    block, child = index // WIDTH, index % WIDTH
    done = [levels[0].at[block, child].set(0.0).at[block, child].max(priority)]
    for level in levels[1:]:
        sums = _sum(done[-1][block])
        block, child = block // WIDTH, block % WIDTH
        done.append(level.at[block, child].set(sums))
    return tuple(done)


def _sum(block: Array) -> Array:
    """Return the sums of the last axis, `[..., WIDTH] -> [...]`, in one order, half onto half."""
    while block.shape[-1] > 1:
        half = block.shape[-1] // 2
        block = block[..., :half] + block[..., half:]
    return block[..., 0]


def annealed(beta: float | Array, step: Array, total_timesteps: int) -> Array:
    """Return the exponent of the weights at `step`: linear from `beta` to 1 at the end of the run."""
    done = jnp.minimum(step.astype(jnp.float32) / total_timesteps, 1.0)
    return beta + (1.0 - beta) * done
