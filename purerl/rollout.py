"""Vectorised environments stepped by a policy, each reset where its episode ended.

The one place where actions leave the policy's units, where episodes restart, and where returns are
counted. `next_obs` is always what the step led to; the observation after a reset is the next `obs`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from purerl.ops.arrays import to_rank
from purerl.spaces import CHOICES, first_choice, float32_bounds
from purerl.types import Array, Env, Key, PyTree, Transition


class VectorState(NamedTuple):
    """State of N environments between two rollouts; every leaf is `[N, ...]`."""

    state: PyTree
    obs: PyTree
    episode_return: Array
    """Undiscounted reward since the last reset, float32."""
    episode_length: Array
    """Steps since the last reset, int32."""


class StepKeys(NamedTuple):
    """Keys of a rollout of T steps of N environments."""

    act: Key
    """`[T]`."""
    step: Key
    """`[T, N]`."""
    reset: Key
    """`[T, N]`."""


class Episodes(NamedTuple):
    """Episode statistics of a rollout, each `[T, N]`; valid where `ended`."""

    ended: Array
    returns: Array
    lengths: Array
    diverged: Array
    """1.0 where the simulation broke down, which ended the episode, else 0.0 (float32)."""


def env_action(space: spaces.Space, action: Array) -> Array:
    """Convert a policy's action `[..., A]` to the units of `space`.

    Policies act in units where [-1, 1] spans a bounded Box: what lies outside is clipped, then the
    interval is stretched to the float32 numbers in `[low, high]`. An index counts from the first action of
    `space`. Unbounded boxes pass unchanged.
    """
    if isinstance(space, CHOICES):
        first = np.asarray(first_choice(space), np.int32)
        return action + to_rank(first, action.ndim) if first.any() else action
    if not is_bounded(space):
        return action
    low, high = (to_rank(np.asarray(bound), action.ndim) for bound in (space.low, space.high))
    stretched = np.float32((high + low) / 2) + np.float32((high - low) / 2) * action
    return jnp.clip(stretched, *(to_rank(bound, action.ndim) for bound in float32_bounds(space)))


def is_bounded(space: spaces.Space) -> TypeGuard[spaces.Box]:
    """Return True if `space` is a Box with finite bounds on every side."""
    return isinstance(space, spaces.Box) and bool(space.is_bounded())


def uniform_action(space: spaces.Space, key: Key, num_envs: int) -> Array:
    """Draw actions `[N, A]` uniformly, in the policy's units (see `env_action`)."""
    if isinstance(space, spaces.Discrete):
        return jax.random.randint(key, (num_envs,), 0, int(space.n), jnp.int32)
    if isinstance(space, CHOICES):
        most = np.asarray(getattr(space, "nvec", 2), np.int32)
        return jax.random.randint(key, (num_envs, *(space.shape or ())), 0, to_rank(most, 2), jnp.int32)
    return jax.random.uniform(key, (num_envs, *(space.shape or ())), jnp.float32, -1.0, 1.0)


def finite_action(action: Array) -> Array:
    """Return `action [..., A]` with 0, the middle of the range, for numbers that are not finite."""
    return jnp.where(jnp.isfinite(action), action, jnp.zeros_like(action))


def start(env: Env, key: Key, num_envs: int) -> VectorState:
    """Reset N environments."""
    obs, state = jax.vmap(env.reset)(jax.random.split(key, num_envs))
    return VectorState(state, obs, jnp.zeros(num_envs, jnp.float32), jnp.zeros(num_envs, jnp.int32))


def step_keys(key: Key, num_steps: int, num_envs: int) -> StepKeys:
    """Return the keys of every step of a rollout, all split at once: a split in each step is slow."""

    def one(key):
        key_act, key_step, key_reset = jax.random.split(key, 3)
        return StepKeys(key_act, jax.random.split(key_step, num_envs), jax.random.split(key_reset, num_envs))

    return jax.vmap(one)(jax.random.split(key, num_steps))


def unroll(
    env: Env,
    policy: Callable[[PyTree, Array, Key], tuple[Array, PyTree, PyTree]],
    vector: VectorState,
    carry: PyTree,
    key: Key,
    num_steps: int,
) -> tuple[VectorState, PyTree, Transition, Episodes]:
    """Step all environments `num_steps` times.

    Args:
        env: the task.
        policy: `(carry, obs [N, O], key) -> (action [N, A], carry, extras)`.
        vector: the environments' state.
        carry: the policy's recurrent state, each leaf `[N, ...]`; rows whose episode ended become zero.
        key: consumed.
        num_steps: T.

    Returns:
        `(vector, carry, Transition [T, N, ...], Episodes [T, N])`.
    """

    def step(loop, keys: StepKeys):
        vector, carry = loop
        action, carry, extras = policy(carry, vector.obs, keys.act)
        vector, transition, episodes = _step(env, vector, action, keys)
        carry = jax.tree.map(lambda leaf: _where(episodes.ended, jnp.zeros_like(leaf), leaf), carry)
        return (vector, carry), (transition._replace(extras=extras), episodes)

    keys = step_keys(key, num_steps, vector.episode_length.shape[0])
    (vector, carry), (transitions, episodes) = jax.lax.scan(step, (vector, carry), keys)
    return vector, carry, transitions, episodes


def _step(env: Env, vector: VectorState, action: Array, keys: StepKeys):
    """Step every environment, and reset those whose episode ended."""
    next_obs, state, reward, terminated, truncated, info = jax.vmap(env.step)(
        keys.step, vector.state, env_action(env.action_space, action)
    )
    next_obs, reward, terminated, broken = contain(vector.obs, next_obs, reward, terminated)
    ended = terminated | truncated
    fresh_obs, fresh_state = jax.vmap(env.reset, in_axes=(0, None, 0))(keys.reset, None, ended)
    transition = Transition(vector.obs, action, reward, next_obs, terminated, truncated)
    diverged = jnp.maximum(broken, info.get("diverged", jnp.zeros_like(reward)))
    episodes, returns, lengths = count_step(vector, reward, ended, diverged)
    vector = VectorState(
        jax.tree.map(lambda new, old: _where(ended, new, old), fresh_state, state),
        jax.tree.map(lambda new, old: _where(ended, new, old), fresh_obs, next_obs),
        returns,
        lengths,
    )
    return vector, transition, episodes


def count_step(
    vector: VectorState, reward: Any, ended: Any, diverged: Any, where: Callable[..., Any] = jnp.where
) -> tuple[Episodes, Any, Any]:
    """Add a step to the returns and lengths of the running episodes.

    Args:
        vector: holds both, before the step.
        reward: `[..., N]`, as all that follows.
        ended: episodes that the step ended.
        diverged: 1.0 where the simulation broke down.
        where: `numpy.where` for environments that step in Python.

    Returns:
        `(Episodes, episode_return, episode_length)`, the last two 0 where an episode ended.
    """
    returns, lengths = vector.episode_return + reward, vector.episode_length + 1
    episodes = Episodes(ended, returns, lengths, diverged)
    return episodes, where(ended, np.float32(0), returns), where(ended, np.int32(0), lengths)


def contain(obs: PyTree, next_obs: PyTree, reward: Array, terminated: Array):
    """End the episodes whose simulation broke down, so that no number of theirs reaches the learner.

    A row with a reward or an observation that is not finite has reward 0, leads to `obs` again, the
    last observation that was sound, and is terminated.

    Returns:
        `(next_obs [N, O], reward [N], terminated [N], broken [N] float32)`.
    """
    sound = jnp.isfinite(reward)
    for part in jax.tree.leaves(next_obs):
        if jnp.issubdtype(part.dtype, jnp.floating):
            sound &= jnp.isfinite(part).all(axis=tuple(range(1, part.ndim)))
    next_obs = jax.tree.map(lambda new, old: _where(sound, new, old), next_obs, obs)
    reward = jnp.where(sound, reward, 0.0)
    return next_obs, reward, terminated | ~sound, 1.0 - sound.astype(jnp.float32)


def _where(rows: Array, new: Array, old: Array) -> Array:
    """Select `new` in the `rows [N]` that are True and `old` elsewhere; leaves are `[N, ...]`."""
    return jnp.where(rows.reshape(rows.shape + (1,) * (old.ndim - rows.ndim)), new, old)
