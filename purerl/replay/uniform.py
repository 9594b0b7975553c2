"""Ring buffer of transitions that overwrites the oldest ones, sampled uniformly.

Rows are in order of time, and those of the N environments of a step lie side by side: the next step of the
environment in row `i` is in row `i + N`, modulo the capacity. Both flags are stored, and `next_obs` as it was
before any reset, so a row is exact also where an episode ends and where the ring closes.
"""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from purerl.types import Array, Key, PyTree, Transition


class State(NamedTuple):
    """Buffer, the slot that is written next, and the number of rows in use."""

    rows: Transition
    """Each leaf `[capacity, ...]`; `extras` is `()`."""
    head: Array
    """Scalar int32: slot of the next row."""
    size: Array
    """Scalar int32: rows written so far, at most the capacity."""
    priority: PyTree = ()
    """Priorities of a prioritised buffer: the one part that a scan may carry."""


class Batch(NamedTuple):
    """Sampled rows."""

    rows: Transition
    """Each leaf `[B, ...]`."""
    index: Array
    """`[B]` int32: slots of the rows."""
    weight: Array
    """`[B]` float32: weights of the rows in a loss; ones where sampling is uniform."""


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


def sample(state: State, key: Key, batch_size: int) -> Batch:
    """Return `batch_size` rows drawn uniformly with replacement; zeros from an empty buffer.

    The branch also keeps XLA:CPU from fusing the write before it into this gather, for which it would copy
    the whole buffer at every step.
    """
    index = jax.random.randint(key, (batch_size,), 0, state.size, jnp.int32)

    def gather() -> Transition:
        return jax.tree.map(lambda rows: rows[index], state.rows)

    def blank() -> Transition:
        return jax.tree.map(lambda rows: jnp.zeros((batch_size, *rows.shape[1:]), rows.dtype), state.rows)

    return Batch(jax.lax.cond(state.size > 0, gather, blank), index, jnp.ones(batch_size, jnp.float32))


def update(state: State, index: Array, td_error: Array) -> State:
    """Return `state`: uniform sampling ignores the TD errors `[B]` of the rows at `index [B]`."""
    chex.assert_equal_shape([index, td_error])
    return state
