"""Environments made of other environments: each function takes an `Env` and gives one back.

They compose: `stack_frames(sticky_actions(env, 0.25), 4)`. What a wrapper must remember is in its state,
beside the `inner` state of the environment it wraps; `params` are that environment's throughout. A real
number that a wrapper takes may be traced, so that a `vmap` makes many of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from purerl.config import ConfigError, count, real, validate_value
from purerl.types import Array, Env, EnvFunctions, Key, PyTree


class Clocked(NamedTuple):
    """The state of an environment with a time limit."""

    inner: PyTree
    time: Array
    """Steps since the reset, int32."""


def time_limit(env: Env, max_episode_steps: int) -> EnvFunctions:
    """`env` with episodes truncated at `max_episode_steps` at the latest; its own limit stays.

    Raises ConfigError if `max_episode_steps` is not a positive whole number.
    """
    validate_value("max_episode_steps", max_episode_steps, count(1))

    def reset(key, params=None, needed=True):
        obs, state = env.reset(key, params, needed)
        return obs, Clocked(state, jnp.int32(0))

    def step(key, state, action, params=None):
        obs, inner, reward, terminated, truncated, info = env.step(key, state.inner, action, params)
        state = Clocked(inner, state.time + 1)
        return obs, state, reward, terminated, truncated | (state.time >= max_episode_steps), info

    limit = min(env.max_episode_steps, max_episode_steps)
    return _wrapped(env, reset, step, max_episode_steps=limit)


class Sticky(NamedTuple):
    """The state of an environment with sticky actions."""

    inner: PyTree
    last_action: Array


def sticky_actions(env: Env, probability: float | Array) -> EnvFunctions:
    """`env` that now and then repeats the action of the step before (Machado et al. 2018, arXiv:1709.06009).

    In the first step of an episode that is action 0.

    Args:
        env: with a Discrete action space.
        probability: of repeating, each step anew.

    Raises:
        ConfigError: if `probability` is not in [0, 1], or the actions are not indices.
    """
    validate_value("sticky_action_prob", probability, real(None, low=0, high=1))
    if not isinstance(env.action_space, spaces.Discrete):
        what = f"sticky actions are indices, and its actions are {env.action_space}"
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

    return _wrapped(env, reset, step)


class Stacked(NamedTuple):
    """The state of an environment that shows several observations at once."""

    inner: PyTree
    frames: Array
    """`[K, O]`, the newest last."""


def stack_frames(env: Env, num_frames: int) -> EnvFunctions:
    """`env` that shows its last `num_frames` observations, `[K, O]`, the newest last.

    After a reset all are the first one, as in Gymnasium's FrameStackObservation with `padding_type="reset"`.
    Raises ConfigError if `num_frames` is not a positive whole number.
    """
    validate_value("num_frames", num_frames, count(1))
    space = env.observation_space
    low, high = (np.repeat(bound[None], num_frames, 0) for bound in (space.low, space.high))

    def reset(key, params=None, needed=True):
        obs, state = env.reset(key, params, needed)
        frames = jnp.repeat(obs[None], num_frames, 0)
        return frames, Stacked(state, frames)

    def step(key, state, action, params=None):
        obs, inner, *rest = env.step(key, state.inner, action, params)
        frames = jnp.concatenate([state.frames[1:], obs[None]])
        return frames, Stacked(inner, frames), *rest

    return _wrapped(env, reset, step, observation_space=spaces.Box(low, high, dtype=space.dtype))


class Counted(NamedTuple):
    """The state of an environment that keeps count of its episode."""

    inner: PyTree
    episode_return: Array
    """Sum of rewards since the reset, float32."""
    episode_length: Array
    """Steps since the reset, int32."""


def episode_statistics(env: Env) -> EnvFunctions:
    """`env` whose `info` has the `episode_return`, undiscounted, and the `episode_length` so far."""

    def reset(key, params=None, needed=True):
        obs, state = env.reset(key, params, needed)
        return obs, Counted(state, jnp.float32(0), jnp.int32(0))

    def step(key, state, action, params=None):
        obs, inner, reward, terminated, truncated, info = env.step(key, state.inner, action, params)
        state = Counted(inner, state.episode_return + reward, state.episode_length + 1)
        info = info | {"episode_return": state.episode_return, "episode_length": state.episode_length}
        return obs, state, reward, terminated, truncated, info

    return _wrapped(env, reset, step)


class Randomized(NamedTuple):
    """The state of an environment that is another one in each episode."""

    inner: PyTree
    params: PyTree
    """Of this episode."""


def randomize(env: Env, sample: Callable[[Key], PyTree]) -> EnvFunctions:
    """`env` with parameters drawn anew for every episode (domain randomisation).

    `vmap` over copies of it is a `vmap` over their `params`. To give each copy parameters of your choice,
    pass them: `jax.vmap(env.step)(keys, states, actions, params)`.

    Args:
        env: whose `params` can vary.
        sample: `key -> params`, such as
            `lambda key: env.default_params._replace(gravity=jax.random.uniform(key, minval=5, maxval=15))`.

    Raises:
        ConfigError: if what `sample` draws is not built as `env.default_params` is.
    """
    drawn = jax.eval_shape(sample, jax.random.key(0))
    like, got = (jax.tree.structure(tree) for tree in (env.default_params, drawn))
    if got != like:
        raise ConfigError("sample", got, f"it must draw params as {env.name} has them: {like}")

    def reset(key, params=None, needed=True):
        key_params, key_reset = jax.random.split(key)
        drawn = jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(x)), sample(key_params))
        obs, state = env.reset(key_reset, drawn, needed)
        return obs, Randomized(state, drawn)

    def step(key, state, action, params=None):
        obs, inner, *rest = env.step(key, state.inner, action, state.params)
        return obs, Randomized(inner, state.params), *rest

    return _wrapped(env, reset, step, default_params=())


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
    return map_observation(env, lambda obs: jnp.where(shown, obs, 0.0), spaces.Box(low, high))


def flatten_observation(env: Env) -> EnvFunctions:
    """`env` with its observation in one row, `[O]`."""
    space = env.observation_space
    flat = spaces.Box(space.low.ravel(), space.high.ravel(), dtype=space.dtype)
    return map_observation(env, jnp.ravel, flat)


def rescale_observation(env: Env, low: float = -1.0, high: float = 1.0) -> EnvFunctions:
    """`env` with the range of each entry of its observation stretched to `[low, high]`, float32.

    Raises ConfigError if a range is not finite, or `low` is not below `high`.
    """
    space = env.observation_space
    if not space.is_bounded():
        raise ConfigError("env", env.name, f"its observations must have finite bounds, and are {space}")
    for name, value in (("low", low), ("high", high)):
        validate_value(name, value, real(None))
    if not low < high:
        raise ConfigError("low", low, f"it must be below high = {high}")
    first, span = space.low.astype(np.float32), space.high.astype(np.float32) - space.low
    gain = ((high - low) / np.where(span > 0, span, 1)).astype(np.float32)

    def rescale(obs):
        return low + (obs.astype(jnp.float32) - first) * gain

    return map_observation(env, rescale, spaces.Box(low, high, space.shape))


def scale_reward(env: Env, scale: float | Array) -> EnvFunctions:
    """`env` with its rewards multiplied by `scale`. Raises ConfigError if that is not a finite number."""
    validate_value("scale", scale, real(None))

    def step(key, state, action, params=None):
        obs, state, reward, *rest = env.step(key, state, action, params)
        return obs, state, (reward * scale).astype(jnp.float32), *rest

    return _like(env, step=step)


def map_observation(env: Env, function: Callable[[Array], Array], space: spaces.Box) -> EnvFunctions:
    """`env` that shows `function(obs)` in place of `obs`; `space` is where that lies."""

    def reset(key, params=None, needed=True):
        obs, state = env.reset(key, params, needed)
        return function(obs), state

    def step(key, state, action, params=None):
        obs, *rest = env.step(key, state, action, params)
        return function(obs), *rest

    return _like(env, reset=reset, step=step, observation_space=space)


def _like(env: Env, **changes: Any) -> EnvFunctions:
    """`env` with what `changes` says in place of its own; its states stay as they are."""
    own: dict[str, Any] = {name: getattr(env, name, None) for name in EnvFunctions._fields}
    return EnvFunctions(**own | changes)


def _wrapped(env: Env, reset: Callable[..., Any], step: Callable[..., Any], **changes: Any) -> EnvFunctions:
    """As `_like`, with states that have one of `env`'s as `inner`."""
    draw = getattr(env, "render", None)
    render = draw and (lambda states, **options: draw(states.inner, **options))
    return _like(env, reset=reset, step=step, render=render, **changes)
