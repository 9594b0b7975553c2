"""MountainCar-v0 (Moore 1990; Sutton & Barto, example 10.1), as Gymnasium computes it."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from purerl.envs.classic.task import Task, classic_env
from purerl.types import Array, EnvFunctions, Key

MIN_POSITION, MAX_POSITION = -1.2, 0.6
MAX_SPEED = 0.07


class Params(NamedTuple):
    """The car and its goal; the time between two states is 1."""

    force: float = 0.001
    """Acceleration of the engine."""
    gravity: float = 0.0025
    """Acceleration on the steepest slope."""
    goal_position: float = 0.5
    goal_velocity: float = 0.0
    """Least velocity with which the goal counts as reached."""


class State(NamedTuple):
    """Position and velocity of the car, each a float32 scalar, and the steps taken."""

    position: Array
    velocity: Array
    time: Array


def observation_space() -> spaces.Box:
    """Return the bounds of position and velocity."""
    low, high = (MIN_POSITION, -MAX_SPEED), (MAX_POSITION, MAX_SPEED)
    return spaces.Box(np.array(low, np.float32), np.array(high, np.float32))


def observe(state: State) -> Array:
    """Return `[position, velocity]`, `[2]` float32."""
    return jnp.stack(state[:2])


def reset(key: Key, params: NamedTuple) -> tuple[Array, State]:
    """Draw a position uniformly from [-0.6, -0.4]; the velocity is 0."""
    position = jax.random.uniform(key, (), jnp.float32, -0.6, -0.4)
    state = State(position, jnp.float32(0.0), jnp.int32(0))
    return observe(state), state


def drive(state: State, acceleration: Array, gravity: float) -> State:
    """Take one step under `acceleration` of the engine; a wall on the left stops the car."""
    velocity = state.velocity + acceleration - gravity * jnp.cos(3 * state.position)
    velocity = jnp.clip(velocity, -MAX_SPEED, MAX_SPEED)
    position = jnp.clip(state.position + velocity, MIN_POSITION, MAX_POSITION)
    stopped = (position == MIN_POSITION) & (velocity < 0)
    return State(position, jnp.where(stopped, 0.0, velocity), state.time + 1)


def step(key: Key, state: State, action: Array, params: Params):
    """Accelerate to the left (0), not at all (1) or to the right (2); the reward is -1."""
    state = drive(state, (jnp.float32(action) - 1) * params.force, params.gravity)
    terminated = (state.position >= params.goal_position) & (state.velocity >= params.goal_velocity)
    return observe(state), state, -1.0, terminated, {}


def make(
    engine: str = "auto", max_episode_steps: int = 200, mask_velocity: bool = False, **params: float
) -> EnvFunctions:
    """Return mountain car; `params` are fields of `Params`, options and errors those of `classic_env`."""
    task = Task(
        "mountain_car",
        "MountainCar-v0",
        Params,
        State,
        reset,
        step,
        observation_space=observation_space(),
        action_space=spaces.Discrete(3),
        velocities=(1,),
        drawn={"goal_position": "goal_position"},
    )
    return classic_env(task, params, engine, max_episode_steps, mask_velocity)
