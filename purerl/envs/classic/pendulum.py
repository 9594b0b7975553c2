"""Pendulum-v1, the torque-limited swing-up, as Gymnasium computes it."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from purerl.envs.classic.task import Task, classic_env, wrap
from purerl.types import Array, EnvFunctions, Key

MAX_SPEED = 8.0
MAX_TORQUE = 2.0


class Params(NamedTuple):
    """The pendulum, in SI units."""

    g: float = 10.0
    mass: float = 1.0
    length: float = 1.0
    dt: float = 0.05
    """Seconds between two states."""


class State(NamedTuple):
    """The angle from upright, in radians and never wrapped, its speed, and the steps taken."""

    theta: Array
    theta_dot: Array
    time: Array


def observe(state: State) -> Array:
    """Return `[cos theta, sin theta, theta_dot]`, `[3]` float32."""
    return jnp.stack([jnp.cos(state.theta), jnp.sin(state.theta), state.theta_dot])


def reset(key: Key, params: Params) -> tuple[Array, State]:
    """Draw an angle uniformly from all, and a speed uniformly from [-1, 1]."""
    high = jnp.array([jnp.pi, 1.0], jnp.float32)
    state = State(*jax.random.uniform(key, (2,), jnp.float32, -high, high), time=jnp.int32(0))
    return observe(state), state


def step(key: Key, state: State, action: Array, params: Params):
    """Take one step under the torque `action [1]`; the cost is that of the state before it."""
    p = params
    torque = jnp.clip(action[0], -MAX_TORQUE, MAX_TORQUE)
    cost = wrap(state.theta) ** 2 + 0.1 * state.theta_dot**2 + 0.001 * torque**2
    acceleration = 3 * p.g / (2 * p.length) * jnp.sin(state.theta) + 3 / (p.mass * p.length**2) * torque
    theta_dot = jnp.clip(state.theta_dot + acceleration * p.dt, -MAX_SPEED, MAX_SPEED)
    state = State(state.theta + theta_dot * p.dt, theta_dot, state.time + 1)
    return observe(state), state, -cost, jnp.bool(False), {}


def make(
    engine: str = "auto", max_episode_steps: int = 200, mask_velocity: bool = False, **params: float
) -> EnvFunctions:
    """Return pendulum; `params` are fields of `Params`, options and errors those of `classic_env`."""
    high = np.array([1.0, 1.0, MAX_SPEED], np.float32)
    task = Task(
        "pendulum",
        "Pendulum-v1",
        Params,
        State,
        reset,
        step,
        observation_space=spaces.Box(-high, high),
        action_space=spaces.Box(-MAX_TORQUE, MAX_TORQUE, (1,)),
        velocities=(2,),
    )
    return classic_env(task, params, engine, max_episode_steps, mask_velocity)
