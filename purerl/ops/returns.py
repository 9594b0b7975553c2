"""Advantages and returns over a rollout that holds many episodes."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from purerl.types import Array


def gae(
    reward: Array,
    value: Array,
    next_value: Array,
    terminated: Array,
    truncated: Array,
    gamma: float | Array,
    gae_lambda: float | Array,
) -> tuple[Array, Array]:
    """Generalised advantage estimates and the value targets that belong to them.

    With `delta_t = r_t + gamma (1 - terminated_t) V(next_obs_t) - V(obs_t)`,
    `A_t = delta_t + gamma lambda (1 - terminated_t)(1 - truncated_t) A_{t+1}` and the target is
    `A_t + V(obs_t)` (Schulman et al. 2016, arXiv:1506.02438, eq. 16). A terminated step has no
    future; a truncated one has a future that this rollout does not follow.

    Args:
        reward: `[T, ...]` float32.
        value: `[T, ...]` values of `obs`.
        next_value: `[T, ...]` values of `next_obs`, the observation before any reset.
        terminated: `[T, ...]` bool.
        truncated: `[T, ...]` bool.
        gamma: discount.
        gae_lambda: 0 gives one-step errors, 1 gives returns minus values.

    Returns:
        `(advantage, target)`, each `[T, ...]` float32.
    """
    chex.assert_equal_shape([reward, value, next_value, terminated, truncated])
    delta = reward + gamma * jnp.where(terminated, 0.0, next_value) - value
    decay = gamma * gae_lambda * jnp.where(terminated | truncated, 0.0, 1.0)

    def backwards(advantage, step):
        delta, decay = step
        advantage = delta + decay * advantage
        return advantage, advantage

    _, advantage = jax.lax.scan(backwards, jnp.zeros_like(delta[0]), (delta, decay), reverse=True)
    return advantage, advantage + value
