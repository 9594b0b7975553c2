"""Uniform draws from a replay buffer."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from purerl.replay.ring import State
from purerl.types import Array, Key


def draw(state: State, key: Key, batch_size: int) -> tuple[Array, Array]:
    """Draw rows uniformly with replacement; slot 0 of an empty buffer.

    A row takes 32 random bits, half of those that `jax.random.randint` takes, and its probability is off by
    at most `size / 2^32` of itself.

    Returns:
        `(index [B] int32, weight [B] float32)`; the weights are ones.
    """
    size, capacity = jnp.maximum(state.size, 1).astype(jnp.uint32), len(state.rows.reward)
    number = (jax.random.bits(key, (batch_size,), jnp.uint32) % size).astype(jnp.int32)
    index = number + jnp.where(state.size < capacity, state.head - state.size, 0)
    index = jnp.where(index < 0, index + capacity, index)
    return index, jnp.ones(batch_size, jnp.float32)


def update(state: State, index: Array, td_error: Array) -> State:
    """Return `state`: uniform draws ignore the TD errors `[B]` of the rows at `index [B]`."""
    chex.assert_equal_shape([index, td_error])
    return state
