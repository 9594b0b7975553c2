"""A ring buffer that overwrites its oldest rows, sampled uniformly.

Rows are stored whole, `next_obs` included, so that what comes out is exactly what went in, also
across episode ends and the ring's own seam.
"""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from purerl.types import Array, Key, PyTree


class State(NamedTuple):
    """The memory: the rows, where the next one goes, and how many are valid."""

    data: PyTree
    """Each leaf `[capacity, ...]`."""
    head: Array
    """Scalar int32: the slot that is written next."""
    size: Array
    """Scalar int32: rows written so far, at most the capacity."""


def init(row: PyTree, capacity: int) -> State:
    """An empty memory for rows like `row` (arrays or `jax.ShapeDtypeStruct`s, unbatched)."""
    data = jax.tree.map(lambda leaf: jnp.zeros((capacity, *leaf.shape), leaf.dtype), row)
    return State(data, jnp.int32(0), jnp.int32(0))


def add(state: State, rows: PyTree) -> State:
    """Write `rows [n, ...]` over the oldest ones; the capacity must be a multiple of n."""
    capacity = jax.tree.leaves(state.data)[0].shape[0]
    n = jax.tree.leaves(rows)[0].shape[0]
    chex.assert_is_divisible(capacity, n)  # a write never wraps, so it is one slice

    def write(data, new):
        return jax.lax.dynamic_update_slice_in_dim(data, new.astype(data.dtype), state.head, 0)

    return State(
        jax.tree.map(write, state.data, rows),
        (state.head + n) % capacity,
        jnp.minimum(state.size + n, capacity),
    )


def sample(state: State, key: Key, batch_size: int) -> PyTree:
    """`batch_size` rows drawn uniformly with replacement: each leaf `[batch_size, ...]`.

    Zeros from an empty memory. That branch also keeps XLA:CPU from fusing the write before it into
    this gather, for which it would copy the whole memory at every step.
    """

    def draw():
        index = jax.random.randint(key, (batch_size,), 0, state.size)
        return jax.tree.map(lambda data: data[index], state.data)

    def blank():
        return jax.tree.map(lambda data: jnp.zeros((batch_size, *data.shape[1:]), data.dtype), state.data)

    return jax.lax.cond(state.size > 0, draw, blank)
