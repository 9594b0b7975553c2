"""Evaluation of a policy on whole episodes, inside jit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purerl.config import ConfigError
from purerl.rollout import contain, env_action
from purerl.shown import shape_of, shapes_of
from purerl.spaces import boxes
from purerl.types import Algorithm, Array, Env, HostEnv, Key, PyTree


class Policy(NamedTuple):
    """A policy as two functions: its recurrent state at an episode's start, and one step."""

    init: Callable[[int], PyTree]
    """`num_envs -> carry`."""
    act: Callable[[PyTree, Array, Key], tuple[Array, PyTree]]
    """`(carry, obs [N, O], key) -> (action [N, A] in the environment's units, carry)`.

    Outside `jit` a call takes milliseconds: use `jax.jit(policy.act)`. Raises ConfigError for an `obs`
    without the axis N.
    """


class Progress(NamedTuple):
    """First episode of each environment so far, each `[..., E]`."""

    alive: Any
    """bool: the episode goes on."""
    returns: Any
    """Undiscounted, float32."""
    lengths: Any
    """Steps, int32."""


def policy_of(
    algo: Algorithm, state: PyTree, env: Env | HostEnv, step: Array | int, explore: bool = False
) -> Policy:
    """Return the policy of the algorithm's `state`, its schedules at `step`; greedy unless `explore`."""

    def act(carry, obs, key):
        check_rows(env, carry, obs)
        obs = dict(obs) if isinstance(obs, Mapping) else obs
        action, carry, _ = algo.act(state, carry, obs, key, step, explore=explore)
        return env_action(env.action_space, action), carry

    return Policy(algo.init_carry, act)


def check_rows(env: Env | HostEnv, carry: PyTree, obs: PyTree) -> None:
    """Raise ConfigError unless `obs` has one row `[O]` for each environment, as `carry` has."""
    expected = boxes(env.observation_space)
    rows = [("obs", obs, expected)]
    if isinstance(expected, dict):
        if not isinstance(obs, Mapping) or obs.keys() != expected.keys():
            raise ConfigError("obs", shapes_of(obs), f"a mapping with the parts {', '.join(expected)}")
        rows = [(f"obs[{name!r}]", obs[name], box) for name, box in expected.items()]
    for name, part, box in rows:
        shape = np.shape(part)
        if shape[1:] != box.shape or not shape:
            hint = ""
            if shape == box.shape:
                hint = "For one observation: action, carry = act(carry, obs[None], key), and then action[0]."
            what = f"a row of shape {box.shape} per environment, [N{''.join(f', {n}' for n in box.shape)}]"
            raise ConfigError(name, shape_of(part), what, hint)
    count = np.shape(rows[0][1])[0]
    others = [(name, part) for name, part, _ in rows[1:]]
    for name, leaf in [*others, *(("carry", leaf) for leaf in jax.tree.leaves(carry))]:
        if np.shape(leaf)[:1] != (count,):
            what = f"a row for each of the {count} observations, as init({count}) gives it"
            raise ConfigError(name, shape_of(leaf), what)


def begin(*shape: int) -> Progress:
    """Return the progress of `shape` episodes before their first step, as NumPy arrays."""
    return Progress(np.ones(shape, bool), np.zeros(shape, np.float32), np.zeros(shape, np.int32))


def count_step(
    progress: Progress, reward: Any, ended: Any, where: Callable[..., Any] = jnp.where
) -> Progress:
    """Add a step to the episodes that go on; `where` is `numpy.where` on the host."""
    returns = progress.returns + where(progress.alive, reward, np.float32(0))
    return Progress(progress.alive & ~ended, returns, progress.lengths + progress.alive.astype(np.int32))


def keys_of(key: Key) -> tuple[Key, Key]:
    """Return `(key of the resets, key of the steps)` of one evaluation."""
    key_reset, key_steps = jax.random.split(key)
    return key_reset, key_steps


def keys_at(key_steps: Key, time: Array | int) -> tuple[Key, Key]:
    """Return `(key to act with, key of the environments)` at one time step."""
    key_act, key_env = jax.random.split(jax.random.fold_in(key_steps, time))
    return key_act, key_env


def evaluate(env: Env, policy: Policy, key: Key, num_episodes: int) -> tuple[Array, Array]:
    """Play `num_episodes` whole episodes side by side.

    Args:
        env: the task; its `max_episode_steps` bounds the loop.
        policy: chooses the actions.
        key: consumed.
        num_episodes: E.

    Returns:
        `(returns, lengths)`: undiscounted, each `[E]`, float32 and int32.
    """
    key_reset, key_steps = keys_of(key)
    obs, state = jax.vmap(env.reset)(jax.random.split(key_reset, num_episodes))

    def unfinished(loop):
        time, progress = loop[:2]
        return progress.alive.any() & (time < env.max_episode_steps)

    def step(loop):
        time, progress, obs, state, carry = loop
        key_act, key_env = keys_at(key_steps, time)
        action, carry = policy.act(carry, obs, key_act)
        next_obs, state, reward, terminated, truncated, _ = jax.vmap(env.step)(
            jax.random.split(key_env, num_episodes), state, action
        )
        obs, reward, terminated, _ = contain(obs, next_obs, reward, terminated)
        return time + 1, count_step(progress, reward, terminated | truncated), obs, state, carry

    progress = jax.tree.map(jnp.asarray, begin(num_episodes))
    loop = (jnp.int32(0), progress, obs, state, policy.init(num_episodes))
    progress = jax.lax.while_loop(unfinished, step, loop)[1]
    return progress.returns, progress.lengths
