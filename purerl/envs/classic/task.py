"""The common part of the five classic tasks: their options, and the environment around the equations.

Each task is a file with its equations; `classic_env` makes an environment of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import jax.numpy as jnp
from gymnasium import spaces

from purerl.config import Rule, validate
from purerl.envs.classic.render import Pictures
from purerl.envs.functional import functional_env, no_physics_engine, params_from
from purerl.envs.wrappers import mask_observation
from purerl.types import Array, EnvFunctions


class Task(NamedTuple):
    """A task as pure functions of one unbatched state."""

    name: str
    """Registry id."""
    gymnasium_id: str
    """Gymnasium's id; its renderer draws the task."""
    params: type
    """NamedTuple of real numbers."""
    state: type
    """NamedTuple of float32 scalars, those of Gymnasium's state, and last `time`."""
    reset: Callable[..., Any]
    """See `functional_env`."""
    step: Callable[..., Any]
    """See `functional_env`; it also takes `options` by name."""
    observation_space: spaces.Box
    action_space: spaces.Space
    velocities: tuple[int, ...]
    """Entries of the observation that `mask_velocity` hides."""
    drawn: Mapping[str, str] = MappingProxyType({})
    """Parameters that change a picture, and their names in Gymnasium."""
    options: Mapping[str, Rule] = MappingProxyType({})
    """Static options of this task alone, and their rules."""


def classic_env(
    task: Task,
    params: Mapping[str, float],
    engine: str,
    max_episode_steps: int,
    mask_velocity: bool,
    **options: Any,
) -> EnvFunctions:
    """Return `task` as an environment.

    Args:
        task: the equations.
        params: fields of `task.params` with other values than the default.
        engine: auto; there is no physics engine.
        max_episode_steps: the step at which an episode is truncated.
        mask_velocity: set velocities in observations to 0, so that a policy needs a memory.
        **options: a value for each of `task.options`.

    Raises:
        ConfigError: for an unknown parameter or a value that is not allowed.
    """
    no_physics_engine(task.name, engine)
    default = params_from(
        task.params, task.name, params, ("max_episode_steps", "mask_velocity", *task.options)
    )
    for name, value in {"mask_velocity": mask_velocity, **options}.items():
        validate(name, value, task.options.get(name, Rule("switch")))
    drawn = tuple((attribute, getattr(default, name)) for name, attribute in task.drawn.items())
    env = functional_env(
        task.name,
        reset=task.reset,
        step=partial(task.step, **options),
        observation_space=task.observation_space,
        action_space=task.action_space,
        max_episode_steps=max_episode_steps,
        default_params=default,
        render=Pictures(task.gymnasium_id, task.state, drawn),
    )
    shown = [i not in task.velocities for i in range(task.observation_space.shape[0])]
    return mask_observation(env, shown) if mask_velocity else env


def wrap(angle: Array) -> Array:
    """Return the same angle in [-pi, pi]."""
    return angle - 2 * jnp.pi * jnp.round(angle / (2 * jnp.pi))
