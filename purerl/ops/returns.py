"""Advantages and returns over a rollout of many episodes."""

from __future__ import annotations

from functools import partial

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
    """Return generalised advantage estimates and their value targets.

    With `delta_t = r_t + gamma (1 - terminated_t) V(next_obs_t) - V(obs_t)`,
    `A_t = delta_t + gamma lambda (1 - terminated_t)(1 - truncated_t) A_{t+1}` and the target is
    `A_t + V(obs_t)` (Schulman et al. 2016, arXiv:1506.02438, eq. 16). A terminated step does not
    bootstrap; a truncated one bootstraps, and the recursion stops at both.

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


def lambda_returns(
    reward: Array,
    next_value: Array,
    terminated: Array,
    truncated: Array,
    gamma: float | Array,
    lambda_: float | Array,
) -> Array:
    """Return the lambda-return of every step, a target for the value of `obs`.

    `G_t = r_t + gamma (1 - terminated_t) [(1 - lambda_t) V(next_obs_t) + lambda_t G_{t+1}]` (Sutton
    & Barto 2018, eq. 12.18), where `lambda_t` is `lambda_`, but 0 if the next row does not continue the
    episode: at a truncated step and at the last row.

    Args:
        reward: `[T, ...]` float32.
        next_value: `[T, ...]` values of `next_obs`, the observation before any reset.
        terminated: `[T, ...]` bool.
        truncated: `[T, ...]` bool.
        gamma: discount.
        lambda_: 0 gives one-step targets, 1 the discounted rewards to go.

    Returns:
        `[T, ...]` float32; equal to the target of `gae` if `next_value[t]` is the value of row `t + 1`.
    """
    chex.assert_equal_shape([reward, next_value, terminated, truncated])

    def backwards(following, step):
        reward, next_value, terminated, truncated = step
        mixed = (1.0 - lambda_) * next_value + lambda_ * following
        future = jnp.where(truncated, next_value, mixed)
        target = reward + gamma * jnp.where(terminated, 0.0, future)
        return target, target

    rows = (reward, next_value, terminated, truncated)
    _, target = jax.lax.scan(backwards, jnp.asarray(next_value[-1]), rows, reverse=True)
    return target


def discounted_so_far(
    reward: Array, ended: Array, gamma: float | Array, before: Array
) -> tuple[Array, Array]:
    """Return the discounted sum of an episode's rewards up to each step, `S_t = r_t + gamma S_{t-1}`.

    Reward scaling divides by their standard deviation (Engstrom et al. 2020, arXiv:2005.12729, alg. 1).
    `S_{t-1}` is 0 at the first step of an episode.

    Args:
        reward: `[T, N]` float32.
        ended: `[T, N]` bool, terminated or truncated.
        gamma: discount.
        before: `[N]` the `after` of the previous rollout, 0 for the first one.

    Returns:
        `(sums [T, N], after [N])`.
    """
    chex.assert_equal_shape([reward, ended])
    chex.assert_equal_shape([reward[0], before])

    def forwards(before, step):
        reward, ended = step
        so_far = reward + gamma * before
        return jnp.where(ended, 0.0, so_far), so_far

    after, sums = jax.lax.scan(forwards, jnp.asarray(before), (reward, ended))
    return sums, after


def n_step(
    reward: Array, terminated: Array, truncated: Array, gamma: float | Array, n: int
) -> tuple[Array, Array, Array]:
    """Return the discounted sum of up to `n` rewards from every step on, and what follows them.

    `R_t = sum_{i < k} gamma^i r_{t+i}`, over the `k` steps up to the `n`-th, the end of the episode or the
    last row, whichever comes first; `R_t + discount_t V(next_obs_{t+k-1})` is the n-step return (Sutton &
    Barto 2018, eq. 7.1).

    Args:
        reward: `[T, ...]` float32.
        terminated: `[T, ...]` bool.
        truncated: `[T, ...]` bool: ends the sum, and does not end the future.
        gamma: discount.
        n: most rewards of a sum.

    Returns:
        `(sum [T, ...], discount [T, ...], last [T, ...] int32)`: `discount` is `gamma^k`, or 0 if the last of
        these steps terminated, and `last` is `t + k - 1`.
    """
    chex.assert_equal_shape([reward, terminated, truncated])
    ended = (terminated | truncated).at[-1].set(True)  # no sum goes beyond the last row
    total, discount = jnp.zeros_like(reward), jnp.ones_like(reward)
    running, dead = jnp.ones_like(ended), jnp.zeros_like(ended)
    steps = jnp.full(reward.shape, -1, jnp.int32)
    for i in range(min(n, len(reward))):
        ahead = partial(jnp.roll, shift=-i, axis=0)
        total += jnp.where(running, discount * ahead(reward), 0.0)
        discount = jnp.where(running, discount * gamma, discount)
        steps += running.astype(jnp.int32)
        dead |= running & ahead(terminated)
        running &= ~ahead(ended)
    row = jnp.arange(len(reward), dtype=jnp.int32).reshape(-1, *[1] * (reward.ndim - 1))
    return total, jnp.where(dead, 0.0, discount), row + steps
