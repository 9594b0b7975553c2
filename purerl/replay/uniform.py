"""Uniform draws from a replay buffer."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from purerl.replay.ring import State
from purerl.types import Array, Key


def draw(state: State, key: Key, batch_size: int) -> tuple[Array, Array]:
    """Draw rows uniformly with replacement.

    Returns:
        `(index [B] int32, weight [B] float32)`; the weights are ones.
    """
    number = jax.random.randint(key, (batch_size,), 0, state.size, jnp.int32)
    capacity = len(state.rows.reward)
    first = jnp.where(state.size < capacity, state.head - state.size, 0)
    index = (first + number) % capacity
    return index, jnp.ones(batch_size, jnp.float32)


def update(state: State, index: Array, td_error: Array) -> State:
    """Return `state`: uniform draws ignore the TD errors `[B]` of the rows at `index [B]`."""
    chex.assert_equal_shape([index, td_error])
    return state
