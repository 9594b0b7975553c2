"""Environments made of other environments: each function takes an `Env` and gives one back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from purerl.config import ConfigError, real, validate_value
from purerl.types import Array, Env, EnvFunctions, PyTree


class Sticky(NamedTuple):
    """The state of an environment with sticky actions."""

    inner: PyTree
    """Of the environment itself."""
    last_action: Array


def sticky_actions(env: Env, probability: float | Array) -> EnvFunctions:
    """`env` that now and then repeats the action of the step before (Machado et al. 2018, arXiv:1709.06009).

    In the first step of an episode that is action 0.

    Args:
        env: with a Discrete action space.
        probability: of repeating, each step anew; it may be traced.

    Raises:
        ConfigError: if `probability` is not in [0, 1], or the actions are not indices.
    """
    validate_value("sticky_action_prob", probability, real(None, low=0, high=1))
    if not isinstance(env.action_space, spaces.Discrete):
        what = f"sticky actions are indices, and the actions of {env.name} are {env.action_space}"
        raise ConfigError("env", env.name, what)

    def reset(key, params=None, needed=True):
        obs, state = env.reset(key, params, needed)
        return obs, Sticky(state, jnp.int32(0))

    def step(key, state, action, params=None):
        key_stick, key_step = jax.random.split(key)
        sticks = jax.random.bernoulli(key_stick, probability)
        action = jnp.where(sticks, state.last_action, action).astype(jnp.int32)
        obs, inner, *rest = env.step(key_step, state.inner, action, params)
        return obs, Sticky(inner, action), *rest

    return _like(env, reset=reset, step=step, render=_render_inner(env))


def mask_observation(env: Env, keep: Sequence[bool]) -> EnvFunctions:
    """`env` with the entries of its observation `[O]` that are not kept always 0.

    What is left hides the state, so that only a policy with a memory can tell it. The shape stays.

    Args:
        env: with observations `[O]`, O = len(keep).
        keep: which entries show.

    Raises:
        ValueError: if there is not one of `keep` for each entry.
    """
    shown, space = np.asarray(keep, bool), env.observation_space
    if shown.shape != space.shape:
        raise ValueError(f"keep has shape {shown.shape}, and the observations of {env.name} {space.shape}")
    low, high = (np.where(shown, bound, 0.0).astype(np.float32) for bound in (space.low, space.high))

    def masked(obs):
        return jnp.where(shown, obs, 0.0)

    def reset(key, params=None, needed=True):
        obs, state = env.reset(key, params, needed)
        return masked(obs), state

    def step(key, state, action, params=None):
        obs, state, reward, terminated, truncated, info = env.step(key, state, action, params)
        return masked(obs), state, reward, terminated, truncated, info

    return _like(env, reset=reset, step=step, observation_space=spaces.Box(low, high))


def _like(env: Env, **changes: Any) -> EnvFunctions:
    """`env` with what `changes` says in place of its own."""
    own = {name: getattr(env, name, None) for name in EnvFunctions._fields}
    return EnvFunctions(**own | changes)


def _render_inner(env: Env) -> Callable[..., Any] | None:
    """The pictures of `env`, of states that have one of `env`'s as `inner`."""
    render = getattr(env, "render", None)
    return render and (lambda states, **options: render(states.inner, **options))
