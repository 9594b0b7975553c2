"""Whole episodes of a policy, inside jit. A policy is all that evaluation knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from purerl.rollout import contain, env_action
from purerl.types import Algorithm, Array, Env, HostEnv, Key, PyTree


class Policy(NamedTuple):
    """How to act: the actor's memory at the start, and one step."""

    init: Callable[[int], PyTree]
    """`num_envs -> carry`."""
    act: Callable[[PyTree, Array, Key], tuple[Array, PyTree]]
    """`(carry, obs [N, O], key) -> (action [N, A] in the environment's units, carry)`."""


def deterministic_policy(algo: Algorithm, state: PyTree, env: Env | HostEnv) -> Policy:
    """The policy that `state` has learned, without exploration noise."""

    def act(carry, obs, key):
        action, carry, _ = algo.act(state, carry, obs, key, explore=False)
        return env_action(env.action_space, action), carry

    return Policy(algo.init_carry, act)


def evaluate(env: Env, policy: Policy, key: Key, num_episodes: int) -> tuple[Array, Array]:
    """Play `num_episodes` whole episodes side by side.

    Args:
        env: the task; its `max_episode_steps` bounds the loop.
        policy: what acts.
        key: consumed.
        num_episodes: E.

    Returns:
        `(returns, lengths)`: undiscounted, each `[E]`, float32 and int32.
    """
    key_reset, key_loop = jax.random.split(key)
    obs, state = jax.vmap(env.reset)(jax.random.split(key_reset, num_episodes))
    alive = jnp.ones(num_episodes, bool)
    tallies = jnp.zeros(num_episodes), jnp.zeros(num_episodes, jnp.int32)

    def unfinished(loop):
        time, alive = loop[0], loop[1]
        return alive.any() & (time < env.max_episode_steps)

    def step(loop):
        time, alive, obs, state, carry, (returns, lengths) = loop
        key_act, key_step = jax.random.split(jax.random.fold_in(key_loop, time))
        action, carry = policy.act(carry, obs, key_act)
        next_obs, state, reward, terminated, truncated, _ = jax.vmap(env.step)(
            jax.random.split(key_step, num_episodes), state, action
        )
        obs, reward, terminated, _ = contain(obs, next_obs, reward, terminated)
        tallies = returns + jnp.where(alive, reward, 0.0), lengths + alive
        return time + 1, alive & ~(terminated | truncated), obs, state, carry, tallies

    loop = (jnp.int32(0), alive, obs, state, policy.init(num_episodes), tallies)
    return jax.lax.while_loop(unfinished, step, loop)[-1]
