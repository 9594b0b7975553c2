"""Draws from a replay buffer by priority (Schaul et al. 2016, arXiv:1511.05952).

Row `i` is drawn with probability `P(i) = p_i^alpha / sum_k p_k^alpha`, `p_i = |td_error_i| + 1e-6` (eq. 1),
and weighs `(size P(i))^-beta` in a loss, over the largest weight of its batch (section 3.4). A row that was
never drawn has the largest priority so far.

The sums are those of a tree whose nodes have 128 children. A node is always added up from its children, in
one fixed order, so that no rounding stays, however often priorities change.
"""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from purerl.replay import ring
from purerl.replay.ring import State
from purerl.types import Array, Key, Transition

WIDTH = 128
"""Children of a node, a power of two."""
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
    first, *above = priorities.levels
    new = jnp.full(n, priorities.largest)
    first = jax.lax.dynamic_update_slice_in_dim(first.reshape(-1), new, state.head, 0).reshape(first.shape)
    blocks = state.head // WIDTH + jnp.arange(
        (n - 2) // WIDTH + 2, dtype=jnp.int32
    )  # all that n rows can touch
    blocks = jnp.minimum(blocks, (state.head + n - 1) // WIDTH)
    levels = _added_up((first, *above), blocks)
    return ring.add(state, transition)._replace(priority=priorities._replace(levels=levels))


def draw(state: State, key: Key, batch_size: int, beta: float | Array) -> tuple[Array, Array]:
    """Draw rows by priority with replacement; slot 0 where no row has one.

    Returns:
        `(index [B] int32, weight [B] float32)`.
    """
    levels = state.priority.levels
    index = jnp.zeros(batch_size, jnp.int32)
    for key_level, level in zip(jax.random.split(key, len(levels)), reversed(levels), strict=True):
        index = WIDTH * index + _child(key_level, level[index])
    chance = levels[0].reshape(-1)[index] / jnp.maximum(_sum(levels[-1][0]), jnp.finfo(jnp.float32).tiny)
    weight = (jnp.maximum(chance, 1e-30) * state.size.astype(jnp.float32)) ** -beta
    return index, weight / weight.max()


def _child(key: Key, block: Array) -> Array:
    """Draw a child of each `block [B, WIDTH]` in proportion to its number; never one with 0 beside others."""
    sums = jnp.cumsum(block, axis=-1)
    mass = jax.random.uniform(key, (len(block), 1), jnp.float32) * sums[:, -1:]
    inside = (sums > mass) & (block > 0)
    last = WIDTH - 1 - jnp.argmax(block[:, ::-1] > 0, axis=-1)  # where rounding leaves nothing inside
    child = jnp.where(inside.any(-1), jnp.argmax(inside, axis=-1), last)
    return jnp.where((block > 0).any(-1), child, 0).astype(jnp.int32)


def update(state: State, index: Array, td_error: Array, alpha: float | Array) -> State:
    """Return `state` with the TD errors `[B]` of the rows at `index [B]` as their priorities.

    Of a row that is there several times the largest counts. An error that is not finite gives the largest
    priority so far.
    """
    chex.assert_equal_shape([index, td_error])
    priority = (jnp.abs(td_error) + EPSILON) ** alpha
    largest = state.priority.largest
    priority = jnp.where(jnp.isfinite(priority), priority, largest)
    levels = set_priorities(state.priority.levels, index, priority)
    return state._replace(priority=Priorities(levels, jnp.maximum(largest, priority.max())))


def set_priorities(levels: tuple[Array, ...], index: Array, priority: Array) -> tuple[Array, ...]:
    """Return `levels` with new priorities `[B]`, at least 0, of the rows at `index [B]`."""
    first, *above = levels
    flat = first.reshape(-1).at[index].set(0.0).at[index].max(priority)
    return _added_up((flat.reshape(first.shape), *above), index // WIDTH)


def _added_up(levels: tuple[Array, ...], blocks: Array) -> tuple[Array, ...]:
    """Return `levels` with the sums above these `blocks [B]` of the first level."""
    done = [levels[0]]
    for above in levels[1:]:
        sums = _sum(done[-1][blocks])
        done.append(above.reshape(-1).at[blocks].set(sums).reshape(above.shape))
        blocks = blocks // WIDTH
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
