"""A trial of an environment with Gymnasium's interface, to refuse one that breaks it or trains wrongly."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces, wrappers

from purerl.config import ConfigError
from purerl.shown import Words, shape_of

STEP = "(obs, reward, terminated, truncated, info)"
OLD_STEP = "Gym's old `done` is `terminated` and `truncated`, apart."
LEARNING = {
    wrappers.NormalizeObservation: "normalize_obs",
    wrappers.vector.NormalizeObservation: "normalize_obs",
    wrappers.NormalizeReward: "normalize_reward",
    wrappers.vector.NormalizeReward: "normalize_reward",
}
"""Wrappers with running statistics -> the field that does the same."""


def try_env(env: gymnasium.Env, name: str) -> None:
    """Reset `env`, take a step with a random action, and reset again, as copies in a vector do.

    Raises ConfigError about the environment `name` if `reset` takes no seed or options, or if either returns
    other values than its spaces say. Other errors of the environment pass through.
    """
    _try_reset(env, name, seed=0, options=None)
    env.action_space.seed(0)
    moved = env.step(env.action_space.sample())
    _check_values(f"step of {name}", moved, STEP)
    obs, reward, *flags, _ = moved
    _check_obs(f"obs of {name}'s step", obs, env.observation_space)
    if not _is_number(reward):
        raise ConfigError(f"reward of {name}'s step", reward, "a finite number, and no array of one")
    for flag, value in zip(("terminated", "truncated"), flags, strict=True):
        if not (isinstance(value, bool | np.bool_) or (_is_number(value) and value in (0, 1))):
            raise ConfigError(f"{flag} of {name}'s step", value, "True or False, and no array of one")
    _try_reset(env, name, seed=None, options={})


def refuse_running_statistics(env: Any) -> None:
    """Raise ConfigError if a wrapper of `env` learns statistics, which no checkpoint or policy would have."""
    wrapper = env
    while isinstance(wrapper, gymnasium.Wrapper | gymnasium.vector.VectorWrapper):
        for kind, field in LEARNING.items():
            if isinstance(wrapper, kind) and wrapper.update_running_mean:  # type: ignore[attr-defined]
                what = f"no wrapper {kind.__name__}, whose statistics are not saved and differ in evaluations"
                hint = f"Set {field} of an on-policy algorithm, or freeze it by update_running_mean = False."
                raise ConfigError("env", type(env.unwrapped).__name__, what, hint)
        wrapper = wrapper.env


def _try_reset(env: gymnasium.Env, name: str, **arguments: Any) -> None:
    try:
        started = env.reset(**arguments)
    except TypeError as error:
        if not any(argument in str(error) for argument in arguments):
            raise
        what = f"reset(*, seed=None, options=None), got {type(error).__name__}: {error}"
        raise ConfigError(f"reset of {name}", Words("a function"), what) from error
    _check_values(f"reset of {name}", started, "(obs, info)")
    _check_obs(f"obs of {name}'s reset", started[0], env.observation_space)


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
    """Return True for one finite number. A vector has no place for the axis of an array of one."""
    if isinstance(value, str | None):
        return False
    array = np.asarray(value)
    return array.ndim == 0 and array.dtype.kind in "biuf" and bool(np.isfinite(array).all())
