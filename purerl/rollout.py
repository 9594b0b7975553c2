"""Many copies of an environment stepped by a policy, each reset where its episode ended.

The one place where actions leave the policy's units, where episodes restart, and where returns are
counted. `next_obs` is always what the step led to; the observation after a reset is the next `obs`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from purerl.types import Array, Env, Key, PyTree, Transition


class Rollout(NamedTuple):
    """The state of N environments between two rollouts; every leaf is `[N, ...]`."""

    state: PyTree
    obs: Array
    episode_return: Array
    """Undiscounted reward since the last reset, float32."""
    episode_length: Array
    """Steps since the last reset, int32."""


class Episodes(NamedTuple):
    """What the rollout learned of episodes, each `[T, N]`; valid where `ended`."""

    ended: Array
    returns: Array
    lengths: Array
    diverged: Array
    """Where the simulation broke down, which ended the episode (float32 0 or 1)."""


def env_action(space: spaces.Space, action: Array) -> Array:
    """A policy's action `[..., A]` in the units of `space`.

    Policies act in units where [-1, 1] spans a bounded Box: what lies outside is clipped, then the
    interval is stretched to `[low, high]`. Indices and unbounded boxes pass unchanged.
    """
    if not is_bounded(space):
        return action
    low, high = np.asarray(space.low), np.asarray(space.high)
    return jnp.clip((high + low) / 2 + (high - low) / 2 * action, low, high)


def is_bounded(space: spaces.Space) -> TypeGuard[spaces.Box]:
    """Whether `space` is a Box with finite bounds on every side."""
    return isinstance(space, spaces.Box) and bool(space.is_bounded())


def uniform_action(space: spaces.Space, key: Key, num_envs: int) -> Array:
    """Actions `[N, A]` drawn uniformly, in the policy's units (see `env_action`)."""
    if isinstance(space, spaces.Discrete):
        return jax.random.randint(key, (num_envs,), 0, int(space.n))
    return jax.random.uniform(key, (num_envs, *(space.shape or ())), minval=-1.0, maxval=1.0)


def start(env: Env, key: Key, num_envs: int) -> Rollout:
    """N freshly reset environments."""
    obs, state = jax.vmap(env.reset)(jax.random.split(key, num_envs))
    return Rollout(state, obs, jnp.zeros(num_envs), jnp.zeros(num_envs, jnp.int32))


def unroll(
    env: Env,
    policy: Callable[[PyTree, Array, Key], tuple[Array, PyTree, PyTree]],
    rollout: Rollout,
    carry: PyTree,
    key: Key,
    num_steps: int,
) -> tuple[Rollout, PyTree, Transition, Episodes]:
    """Step all environments `num_steps` times.

    Args:
        env: the task.
        policy: `(carry, obs [N, O], key) -> (action [N, A], carry, extras)`.
        rollout: where the environments stand.
        carry: the policy's memory, each leaf `[N, ...]`; rows whose episode ended become zero.
        key: consumed.
        num_steps: T.

    Returns:
        `(rollout, carry, Transition [T, N, ...], Episodes [T, N])`.
    """

    num_envs = rollout.episode_length.shape[0]

    def keys_of_step(key):
        key_act, key_step, key_reset = jax.random.split(key, 3)
        return key_act, jax.random.split(key_step, num_envs), jax.random.split(key_reset, num_envs)

    def step(loop, keys):
        rollout, carry = loop
        key_act, keys_step, keys_reset = keys
        action, carry, extras = policy(carry, rollout.obs, key_act)
        rollout, transition, episodes = _step(env, rollout, action, keys_step, keys_reset)
        carry = jax.tree.map(lambda leaf: _where(episodes.ended, jnp.zeros_like(leaf), leaf), carry)
        return (rollout, carry), (transition._replace(extras=extras), episodes)

    keys = jax.vmap(keys_of_step)(jax.random.split(key, num_steps))  # at once: a step would split slowly
    (rollout, carry), (transitions, episodes) = jax.lax.scan(step, (rollout, carry), keys)
    return rollout, carry, transitions, episodes


def _step(env: Env, rollout: Rollout, action: Array, keys_step: Key, keys_reset: Key):
    """One step of every environment, and a fresh start where that ended the episode."""
    next_obs, state, reward, terminated, truncated, info = jax.vmap(env.step)(
        keys_step, rollout.state, env_action(env.action_space, action)
    )
    next_obs, reward, terminated, broken = contain(rollout.obs, next_obs, reward, terminated)
    ended = terminated | truncated
    fresh_obs, fresh_state = jax.vmap(env.reset, in_axes=(0, None, 0))(keys_reset, None, ended)
    returns, lengths = rollout.episode_return + reward, rollout.episode_length + 1
    transition = Transition(rollout.obs, action, reward, next_obs, terminated, truncated)
    diverged = jnp.maximum(broken, info.get("diverged", jnp.zeros_like(reward)))
    episodes = Episodes(ended, returns, lengths, diverged)
    rollout = Rollout(
        jax.tree.map(lambda new, old: _where(ended, new, old), fresh_state, state),
        _where(ended, fresh_obs, next_obs),
        jnp.where(ended, 0.0, returns),
        jnp.where(ended, 0, lengths),
    )
    return rollout, transition, episodes


def contain(obs: Array, next_obs: Array, reward: Array, terminated: Array):
    """End the episodes whose simulation broke down, so that no number of theirs reaches the learner.

    A row with a reward or an observation that is not finite has reward 0, leads to `obs` again, the
    last observation that was sound, and is terminated.

    Returns:
        `(next_obs [N, O], reward [N], terminated [N], broken [N] float32)`.
    """
    sound = jnp.isfinite(reward)
    if jnp.issubdtype(next_obs.dtype, jnp.floating):
        sound &= jnp.isfinite(next_obs).all(axis=tuple(range(1, next_obs.ndim)))
    next_obs, reward = _where(sound, next_obs, obs), jnp.where(sound, reward, 0.0)
    return next_obs, reward, terminated | ~sound, 1.0 - sound.astype(jnp.float32)


def _where(rows: Array, new: Array, old: Array) -> Array:
    """`new` in the `rows [N]` that hold, `old` elsewhere; leaves are `[N, ...]`."""
    return jnp.where(rows.reshape(rows.shape + (1,) * (old.ndim - rows.ndim)), new, old)
