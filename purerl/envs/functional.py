"""From a task's own two functions to an environment: default parameters and the time limit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax.numpy as jnp
from gymnasium import spaces

from purerl.config import ConfigError, count, did_you_mean, real, validate_value
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
    """An environment out of `reset` and `step` that always get their parameters and know no clock.

    Args:
        name: registry id.
        reset: `(key, params) -> (obs, state)`; `state.time` is int32 0.
        step: `(key, state, action, params) -> (obs, state, reward, terminated, info)`; adds 1 to
            `state.time`.
        observation_space: of `obs`.
        action_space: of `action`.
        max_episode_steps: the step at which an episode is truncated.
        default_params: what `params=None` means.
        render: pictures of states, see `EnvFunctions`.

    Raises:
        ConfigError: if `max_episode_steps` is not a positive whole number.
    """
    validate_value("max_episode_steps", max_episode_steps, count(1))

    def timed_step(key, state, action, params=None):
        params = default_params if params is None else params
        obs, state, reward, terminated, info = step(key, state, action, params)
        truncated = state.time >= max_episode_steps
        return obs, state, jnp.asarray(reward, jnp.float32), terminated, truncated, info

    def free_reset(key, params=None, needed=True):
        return reset(key, default_params if params is None else params)

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
    """`cls(**values)` for a NamedTuple of real numbers, which may be traced.

    Raises ConfigError for an unknown name, with the names of the `others` that `env` takes beside them, or
    for a value that is not a finite number.
    """
    names = cls._fields  # type: ignore[attr-defined]
    for name, value in values.items():
        if name not in names:
            options = (*names, *others)
            what = f"the options of {env} are {', '.join(options)}"
            raise ConfigError(name, value, what, did_you_mean(name, options))
        validate_value(name, value, real(None))
    return cls(**values)


def no_physics_engine(env: str, engine: str) -> None:
    """Raises ConfigError unless `engine` is auto: `env` is pure JAX and has no physics engine."""
    if engine != "auto":
        raise ConfigError("engine", engine, f"{env} is pure JAX and takes only auto")
