"""A first reset and step of an environment with Gymnasium's interface, to refuse one that breaks it."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from purerl.config import ConfigError
from purerl.shown import Words, shape_of

STEP = "(obs, reward, terminated, truncated, info)"
OLD_STEP = "Gym's old `done` is `terminated` and `truncated`, apart."


def try_env(env: gymnasium.Env, name: str) -> None:
    """Reset `env` and take a step with a random action.

    Raises ConfigError about the environment `name` if `reset` takes no seed, or if either returns other
    values than its spaces say. Other errors of the environment pass through.
    """
    try:
        started = env.reset(seed=0)
    except TypeError as error:
        if "seed" not in str(error):
            raise
        what = f"reset(*, seed=None, options=None), got {type(error).__name__}: {error}"
        raise ConfigError(f"reset of {name}", Words("a function"), what) from error
    _check_values(f"reset of {name}", started, "(obs, info)")
    _check_obs(f"obs of {name}'s reset", started[0], env.observation_space)
    env.action_space.seed(0)
    moved = env.step(env.action_space.sample())
    _check_values(f"step of {name}", moved, STEP)
    obs, reward, *flags, _ = moved
    _check_obs(f"obs of {name}'s step", obs, env.observation_space)
    if not _is_number(reward):
        raise ConfigError(f"reward of {name}'s step", reward, "a finite number")
    for flag, value in zip(("terminated", "truncated"), flags, strict=True):
        if not (isinstance(value, bool | np.bool_) or (_is_number(value) and value in (0, 1))):
            raise ConfigError(f"{flag} of {name}'s step", value, "True or False")


def _check_values(where: str, values: Any, expected: str) -> None:
    if isinstance(values, tuple) and len(values) == expected.count(",") + 1:
        if not isinstance(values[-1], dict):
            raise ConfigError(f"info of {where}", values[-1], "a dict")
        return
    found = f"{len(values)} values" if isinstance(values, tuple) else f"one {type(values).__name__}"
    hint = OLD_STEP if isinstance(values, tuple) and len(values) == 4 else ""
    raise ConfigError(f"results of {where}", Words(found), expected, hint)


def _check_obs(where: str, obs: Any, space: spaces.Space) -> None:
    if not isinstance(space, spaces.Box):
        if not space.contains(obs):
            raise ConfigError(where, obs, f"an element of observation_space, {' '.join(str(space).split())}")
        return
    what = f"{space.dtype}{list(space.shape)}, as in observation_space"
    try:
        found = np.asarray(obs)
    except ValueError as error:  # rows of unequal length
        raise ConfigError(where, obs, what) from error
    if found.shape != space.shape or not np.can_cast(found.dtype, space.dtype, "same_kind"):
        raise ConfigError(where, shape_of(found), what)


def _is_number(value: Any) -> bool:
    """Return True for one finite number, alone or in an array."""
    if isinstance(value, str | None):
        return False
    array = np.asarray(value)
    return array.size == 1 and array.dtype.kind in "biuf" and bool(np.isfinite(array).all())
