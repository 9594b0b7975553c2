"""Ring of transitions that overwrites the oldest ones: the storage of every replay buffer.

Rows are in order of time, and those of the N environments of a step lie side by side: the next step of the
environment in row `i` is in row `i + N`, modulo the capacity. Both flags are stored, and `next_obs` as it was
before any reset, so a row is exact also where an episode ends and where the ring closes.
"""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from purerl.types import Array, PyTree, Transition


class State(NamedTuple):
    """Buffer, the slot that is written next, and the number of rows in use."""

    rows: Transition
    """Each leaf `[capacity, ...]`; `extras` is `()`."""
    head: Array
    """Scalar int32: slot of the next row."""
    size: Array
    """Scalar int32: rows in use, the last ones before `head`; the capacity once it has been reached, unless
    `frames` run out."""
    priority: PyTree = ()
    """Priorities of a prioritised buffer: the one part that a scan may carry."""
    frames: PyTree = ()
    """`frames.Frames`, where observations are stacks of them; `obs` and `next_obs` are slots then."""
    newest: PyTree = ()
    """`[N]` int32: slot of the newest frame of each environment."""


class Batch(NamedTuple):
    """Sampled rows, and the returns that start there."""

    rows: Transition
    """Each leaf `[B, ...]`: `obs` and `action` of the row, the discounted sum of `k` rewards, and `next_obs`
    and both flags of the last of these steps."""
    index: Array
    """`[B]` int32: slots of the rows."""
    weight: Array
    """`[B]` float32: weights of the rows in a loss; ones where sampling is uniform."""
    discount: Array
    """`[B]` float32: factor of the value of `next_obs`, `gamma^k`, and 0 where the task ended."""


def init(row: Transition, capacity: int) -> State:
    """Return an empty buffer for rows like `row`: arrays or `jax.ShapeDtypeStruct`s of one transition."""
    rows = jax.tree.map(lambda leaf: jnp.zeros((capacity, *leaf.shape), leaf.dtype), row)
    return State(rows, jnp.int32(0), jnp.int32(0))


def add(state: State, transition: Transition) -> State:
    """Write a rollout `[T, N, ...]` without its `extras` over the oldest rows.

    The capacity must be a multiple of `T * N`.
    """
    new = transition._replace(extras=())
    chex.assert_equal_shape_prefix(jax.tree.leaves(new), 2)
    capacity, n = len(state.rows.reward), transition.reward.size
    chex.assert_is_divisible(capacity, n)  # a write never wraps, so it is one slice

    def write(rows: Array, new: Array) -> Array:
        new = new.reshape(n, *new.shape[2:]).astype(rows.dtype)
        return jax.lax.dynamic_update_slice_in_dim(rows, new, state.head, 0)

    return state._replace(
        rows=jax.tree.map(write, state.rows, new),
        head=(state.head + n) % capacity,
        size=jnp.minimum(state.size + n, capacity),
    )


def end_episodes(state: State, num_envs: int) -> State:
    """Mark the newest row of each of N environments as truncated: what comes next begins a new episode."""
    capacity = len(state.rows.reward)
    newest = (state.head - 1 - jnp.arange(num_envs, dtype=jnp.int32)) % capacity
    truncated = state.rows.truncated.at[newest].max(state.size > 0)
    return state._replace(rows=state.rows._replace(truncated=truncated))
