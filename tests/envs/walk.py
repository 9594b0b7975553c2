"""A correct environment, and functions that change one of its parts."""

from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from gymnasium import spaces

from purerl.types import EnvFunctions

LIMIT = 5
NAMES = ("obs", "state", "reward", "terminated", "truncated", "info")


class Params(NamedTuple):
    speed: float = 0.1
    goal: float = 0.6


class State(NamedTuple):
    position: jax.Array
    time: jax.Array


def observe(state):
    return jnp.append(state.position, jnp.minimum(state.time / LIMIT, 1.0)).astype(jnp.float32)


def reset(key, params=None, needed=True):
    position = jax.random.key_data(key) / 2.0**32 - 0.5  # as good as random, and quick to compile
    state = State(position.astype(jnp.float32), jnp.int32(0))
    return observe(state), state


def step(key, state, action, params=None):
    params = Params() if params is None else params
    position = jnp.clip(state.position + params.speed * action, -1.0, 1.0).astype(jnp.float32)
    state = State(position, state.time + 1)
    reward = -jnp.sum(jnp.square(position))
    return observe(state), state, reward, position[0] > params.goal, state.time >= LIMIT, {"x": position[0]}


WALK = EnvFunctions(
    "walk", reset, step, spaces.Box(-1.0, 1.0, (3,)), spaces.Box(-1.0, 1.0, (2,)), LIMIT, Params()
)
"""Towards a goal, on a square; most episodes of random actions run out of time."""


def stepping(**changes):
    """Return WALK whose step returns `changes[name](value)` for its value of that name."""

    def changed(key, state, action, params=None):
        values = zip(NAMES, step(key, state, action, params), strict=True)
        return tuple(changes[name](value) if name in changes else value for name, value in values)

    return WALK._replace(step=changed)


def resetting(obs=lambda obs: obs, state=lambda state: state, env=WALK):
    """Return `env` whose reset returns other values."""

    def changed(key, params=None, needed=True):
        values = reset(key)
        return obs(values[0]), state(values[1])

    return env._replace(reset=changed)


def observing(change, **parts):
    """Return WALK with another observation."""
    return resetting(obs=change, env=stepping(obs=change))._replace(**parts)


def at(time, broken, whole):
    """Return `broken` where the observation shows that time, else `whole`."""
    return lambda obs: jnp.where(jnp.round(obs[2] * LIMIT) == time, broken, whole(obs))


def without(name):
    return SimpleNamespace(**{part: value for part, value in WALK._asdict().items() if part != name})


def obeying(key, params=None, needed=True):
    """Return a reset of WALK where `needed`, else zeros."""
    zeros = jnp.zeros(3), State(jnp.zeros(2), jnp.int32(0))
    return jax.tree.map(lambda value, zero: jnp.where(needed, value, zero), reset(key), zeros)
