"""An environment from a task's two functions, with default parameters and a time limit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax.numpy as jnp
from gymnasium import spaces

from purerl.config import INT32_STEPS, ConfigError, Rule, did_you_mean, validate
from purerl.ops.arrays import without_float64
from purerl.types import EnvFunctions

ParamsT = TypeVar("ParamsT")


def functional_env(
    name: str,
    *,
    reset: Callable[..., Any],
    step: Callable[..., Any],
    observation_space: spaces.Space,
    action_space: spaces.Space,
    max_episode_steps: int,
    default_params: Any = (),
    render: Callable[..., Any] | None = None,
) -> EnvFunctions:
    """Return an environment from `reset` and `step`, which get explicit parameters and no time limit.

    Args:
        name: registry id.
        reset: `(key, params) -> (obs, state)`; `state.time` is int32 0.
        step: `(key, state, action, params) -> (obs, state, reward, terminated, info)`; adds 1 to
            `state.time`.
        observation_space: space of `obs`.
        action_space: space of `action`.
        max_episode_steps: the step at which an episode is truncated.
        default_params: parameters in place of `params=None`.
        render: draws states, see `EnvFunctions`.

    Raises:
        ConfigError: unless `max_episode_steps` is a positive whole number.
    """
    validate("max_episode_steps", max_episode_steps, Rule("count", 1, INT32_STEPS))

    def timed_step(key, state, action, params=None):
        params = default_params if params is None else without_float64(params)
        obs, state, reward, terminated, info = step(key, state, action, params)
        truncated = state.time >= max_episode_steps
        return obs, state, jnp.asarray(reward, jnp.float32), terminated, truncated, info

    def free_reset(key, params=None, needed=True):
        return reset(key, default_params if params is None else without_float64(params))

    return EnvFunctions(
        name,
        free_reset,
        timed_step,
        observation_space,
        action_space,
        max_episode_steps,
        default_params,
        render,
    )


def params_from(
    cls: type[ParamsT], env: str, values: Mapping[str, Any], others: Sequence[str] = ()
) -> ParamsT:
    """Return `cls(**values)` for a NamedTuple of real numbers, which may be traced.

    Raises ConfigError for a value that is not a finite number, or for an unknown name; the message lists
    the fields and the `others`, further options of `env`.
    """
    names = cls._fields  # type: ignore[attr-defined]
    for name, value in values.items():
        if name not in names:
            options = (*names, *others)
            allowed = f"one of the options of {env}: {', '.join(options)}"
            raise ConfigError(name, value, allowed, did_you_mean(name, options))
        validate(name, value, Rule("real"))
    return cls(**values)


def no_physics_engine(env: str, engine: str) -> None:
    """Raise ConfigError unless `engine` is auto: `env` is pure JAX and has no physics engine."""
    if engine != "auto":
        raise ConfigError("engine", engine, f"auto, because {env} is pure JAX")
