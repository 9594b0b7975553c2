"""MountainCarContinuous-v0: the mountain car with a continuous force, as Gymnasium computes it."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from gymnasium import spaces

from purerl.envs.classic.mountain_car import State, drive, observation_space, observe, reset
from purerl.envs.classic.task import Task, classic_env
from purerl.types import Array, EnvFunctions, Key


class Params(NamedTuple):
    """The car and its goal; the time between two states is 1."""

    power: float = 0.0015
    """Acceleration of the engine under a force of 1."""
    gravity: float = 0.0025
    """Acceleration on the steepest slope."""
    goal_position: float = 0.45
    goal_velocity: float = 0.0
    """Least velocity with which the goal counts as reached."""


def step(key: Key, state: State, action: Array, params: Params):
    """Take one step under the force `action [1]`: reward 100 at the goal, minus 0.1 `action` squared.

    The force is clipped to [-1, 1]; the action in its cost is not.
    """
    state = drive(state, jnp.clip(action[0], -1.0, 1.0) * params.power, params.gravity)
    terminated = (state.position >= params.goal_position) & (state.velocity >= params.goal_velocity)
    reward = jnp.where(terminated, 100.0, 0.0) - 0.1 * action[0] ** 2
    return observe(state), state, reward, terminated, {}


def make(
    engine: str = "auto", max_episode_steps: int = 999, mask_velocity: bool = False, **params: float
) -> EnvFunctions:
    """Return the continuous mountain car; `params` are fields of `Params`, see `classic_env`."""
    task = Task(
        "mountain_car_continuous",
        "MountainCarContinuous-v0",
        Params,
        State,
        reset,
        step,
        observation_space=observation_space(),
        action_space=spaces.Box(-1.0, 1.0, (1,)),
        velocities=(1,),
        drawn={"goal_position": "goal_position"},
    )
    return classic_env(task, params, engine, max_episode_steps, mask_velocity)
