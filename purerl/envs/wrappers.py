"""Wrappers: functions that take an `Env` and return another.

They compose: `stack_frames(sticky_actions(env, 0.25), 4)`. A wrapper keeps its own data in its state, next to
the `inner` state of the wrapped environment; `params` are those of the wrapped environment. A real number
given to a wrapper may be traced, so that `vmap` makes many wrappers at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from purerl.config import INT32_STEPS, ConfigError, Rule, validate
from purerl.ops.arrays import without_float64
from purerl.spaces import boxes
from purerl.types import Array, Env, EnvFunctions, Key, PyTree


class Clocked(NamedTuple):
    """The state of an environment with a time limit."""

    inner: PyTree
    time: Array
    """Steps since the reset, int32."""


def time_limit(env: Env, max_episode_steps: int) -> EnvFunctions:
    """Return `env` with episodes truncated at `max_episode_steps`, or at its own limit if that is earlier.

    Raises ConfigError unless `max_episode_steps` is a positive whole number.
    """
    validate("max_episode_steps", max_episode_steps, Rule("count", 1, INT32_STEPS))

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
    """Return `env` that randomly repeats its last action (Machado et al. 2018, arXiv:1709.06009).

    The first step of an episode may repeat action 0.

    Args:
        env: an environment with a Discrete action space.
        probability: chance of repeating the last executed action, drawn in each step.

    Raises:
        ConfigError: if `probability` is not in [0, 1], or the actions are not Discrete.
    """
    validate("sticky_action_prob", probability, Rule("real", 0, 1))
    if not isinstance(env.action_space, spaces.Discrete):
        raise ConfigError("env", env.name, f"Discrete actions, got {env.action_space}")

    def reset(key, params=None, needed=True):
        obs, state = env.reset(key, params, needed)
        return obs, Sticky(state, jnp.int32(0))

    def step(key, state, action, params=None):
        key_stick, key_step = jax.random.split(key)
        sticks = jax.random.bernoulli(key_stick, jnp.float32(probability))
        action = jnp.where(sticks, state.last_action, action).astype(jnp.int32)
        obs, inner, *rest = env.step(key_step, state.inner, action, params)
        return obs, Sticky(inner, action), *rest

    return _wrapped(env, reset, step)


class Stacked(NamedTuple):
    """The state of an environment with stacked observations."""

    inner: PyTree
    frames: Array
    """`[K, ...]`, the newest last."""


def stack_frames(env: Env, num_frames: int) -> EnvFunctions:
    """Return `env` with its last K = `num_frames` observations stacked, `[K, ...]`, the newest last.

    After a reset all are the first one, as in Gymnasium's FrameStackObservation with `padding_type="reset"`.
    Raises ConfigError unless `num_frames` is a positive whole number.
    """
    validate("num_frames", num_frames, Rule("count", 1, INT32_STEPS))
    space = _box(env)
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
    """The state of an environment with episode statistics."""

    inner: PyTree
    episode_return: Array
    """Sum of rewards since the reset, float32."""
    episode_length: Array
    """Steps since the reset, int32."""


def episode_statistics(env: Env) -> EnvFunctions:
    """Return `env` with the undiscounted `episode_return` and `episode_length` so far in `info`."""

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
    """The state of an environment with random parameters."""

    inner: PyTree
    params: PyTree
    """Parameters of this episode."""


def randomize(env: Env, sample: Callable[[Key], PyTree]) -> EnvFunctions:
    """Return `env` with new random parameters in every episode (domain randomization).

    To choose the parameters of each environment instead, pass them to the environment itself:
    `jax.vmap(env.step)(keys, states, actions, params)`.

    Args:
        env: an environment with `params`.
        sample: `key -> params`, such as
            `lambda key: env.default_params._replace(gravity=jax.random.uniform(key, minval=5, maxval=15))`.

    Raises:
        ConfigError: unless `sample` returns the structure of `env.default_params`.
    """
    drawn = jax.eval_shape(sample, jax.random.key(0))
    like, got = (jax.tree.structure(tree) for tree in (env.default_params, drawn))
    if got != like:
        raise ConfigError("sample", got, f"the params of {env.name}: {like}")

    def reset(key, params=None, needed=True):
        key_params, key_reset = jax.random.split(key)
        drawn = without_float64(
            jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(x)), sample(key_params))
        )
        obs, state = env.reset(key_reset, drawn, needed)
        return obs, Randomized(state, drawn)

    def step(key, state, action, params=None):
        obs, inner, *rest = env.step(key, state.inner, action, state.params)
        return obs, Randomized(inner, state.params), *rest

    return _wrapped(env, reset, step, default_params=())


def mask_observation(env: Env, keep: Sequence[bool]) -> EnvFunctions:
    """Return `env` with entries of its observation `[O]` set to 0; the shape stays.

    The rest hides part of the state, so that a policy needs a memory.

    Args:
        env: an environment with observations `[O]`.
        keep: `[O]`, True for the entries that stay.

    Raises:
        ValueError: if `keep` has another length.
    """
    shown, space = np.asarray(keep, bool), _box(env)
    if shown.shape != space.shape:
        raise ValueError(f"keep: expected shape {space.shape} of observations, got {shown.shape}")
    low, high = (np.where(shown, bound, 0.0).astype(np.float32) for bound in (space.low, space.high))
    return map_observation(env, lambda obs: jnp.where(shown, obs, 0.0), spaces.Box(low, high))


def flatten_observation(env: Env) -> EnvFunctions:
    """Return `env` with its observation flattened to `[O]`; parts of a Dict in the order of their names."""
    parts = jax.tree.leaves(boxes(env.observation_space))
    low, high = (np.concatenate([getattr(part, b).ravel() for part in parts]) for b in ("low", "high"))

    def flatten(obs):
        return jnp.concatenate([leaf.ravel().astype(low.dtype) for leaf in jax.tree.leaves(obs)])

    return map_observation(env, flatten, spaces.Box(low, high, dtype=low.dtype))


def rescale_observation(env: Env, low: float = -1.0, high: float = 1.0) -> EnvFunctions:
    """Return `env` with the range of each entry of its observation scaled to `[low, high]`, float32.

    Raises ConfigError if a range is not finite, or unless `low` is below `high`.
    """
    space = _box(env)
    if not space.is_bounded():
        raise ConfigError("env", env.name, f"observations with finite bounds, got {space}")
    for name, value in (("low", low), ("high", high)):
        validate(name, value, Rule("real"))
    if not low < high:
        raise ConfigError("low", low, f"a number below high = {high}")
    first, span = space.low.astype(np.float32), space.high.astype(np.float32) - space.low
    gain = ((high - low) / np.where(span > 0, span, 1)).astype(np.float32)

    def rescale(obs):
        return low + (obs.astype(jnp.float32) - first) * gain

    return map_observation(env, rescale, spaces.Box(low, high, space.shape))


def scale_reward(env: Env, scale: float | Array) -> EnvFunctions:
    """Return `env` with rewards multiplied by `scale`. Raises ConfigError unless that is finite."""
    validate("scale", scale, Rule("real"))

    def step(key, state, action, params=None):
        obs, state, reward, *rest = env.step(key, state, action, params)
        return obs, state, (reward * scale).astype(jnp.float32), *rest

    return _like(env, step=step)


def map_observation(env: Env, function: Callable[[Array], Array], space: spaces.Box) -> EnvFunctions:
    """Return `env` with `function(obs)`, an element of `space`, in place of `obs`."""

    def reset(key, params=None, needed=True):
        obs, state = env.reset(key, params, needed)
        return function(obs), state

    def step(key, state, action, params=None):
        obs, *rest = env.step(key, state, action, params)
        return function(obs), *rest

    return _like(env, reset=reset, step=step, observation_space=space)


def _box(env: Env) -> spaces.Box:
    """Return the Box of an environment's observations. Raises ConfigError if they are a Dict."""
    space = env.observation_space
    if not isinstance(space, spaces.Box):
        what = f"observations in one Box, got {' '.join(str(space).split())}"
        raise ConfigError("env", env.name, what, "flatten_observation puts them into one.")
    return space


def _like(env: Env, **changes: Any) -> EnvFunctions:
    """Return `env` with the fields in `changes` replaced and the same states."""
    own: dict[str, Any] = {name: getattr(env, name, None) for name in EnvFunctions._fields}
    return EnvFunctions(**own | changes)


def _wrapped(env: Env, reset: Callable[..., Any], step: Callable[..., Any], **changes: Any) -> EnvFunctions:
    """Return `env` with the fields in `changes` replaced and states that have one of `env` as `inner`."""
    draw = getattr(env, "render", None)
    render = draw and (lambda states, **options: draw(states.inner, **options))
    return _like(env, reset=reset, step=step, render=render, **changes)
