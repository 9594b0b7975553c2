"""CartPole-v1 (Barto, Sutton & Anderson 1983), as Gymnasium computes it."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from purerl.config import Rule
from purerl.envs.classic.task import Task, classic_env
from purerl.types import Array, EnvFunctions, Key


class Params(NamedTuple):
    """The cart, the pole and the limits, in SI units and radians."""

    gravity: float = 9.8
    mass_cart: float = 1.0
    mass_pole: float = 0.1
    half_length: float = 0.5
    force: float = 10.0
    """Newtons of one push."""
    tau: float = 0.02
    """Seconds between two states."""
    angle_limit: float = math.pi / 15
    position_limit: float = 2.4


class State(NamedTuple):
    """Cart and pole, each a float32 scalar, and the steps taken."""

    x: Array
    x_dot: Array
    theta: Array
    theta_dot: Array
    time: Array


def observe(state: State) -> Array:
    """Return `[x, x_dot, theta, theta_dot]`, `[4]` float32."""
    return jnp.stack(state[:4])


def reset(key: Key, params: Params) -> tuple[Array, State]:
    """Draw all four numbers uniformly from [-0.05, 0.05]."""
    state = State(*jax.random.uniform(key, (4,), jnp.float32, -0.05, 0.05), time=jnp.int32(0))
    return observe(state), state


def step(key: Key, state: State, action: Array, params: Params, sutton_barto_reward: bool):
    """Push left (0) or right (1) for one step; reward 1, also on the terminal step."""
    p = params
    force = jnp.where(action == 1, p.force, -p.force)
    total_mass = p.mass_cart + p.mass_pole
    pole_moment = p.mass_pole * p.half_length
    cos, sin = jnp.cos(state.theta), jnp.sin(state.theta)
    push = (force + pole_moment * state.theta_dot**2 * sin) / total_mass
    inertia = p.half_length * (4.0 / 3.0 - p.mass_pole * cos**2 / total_mass)
    theta_acc = (p.gravity * sin - cos * push) / inertia
    x_acc = push - pole_moment * theta_acc * cos / total_mass
    state = State(  # explicit Euler: positions move with the old velocities
        state.x + p.tau * state.x_dot,
        state.x_dot + p.tau * x_acc,
        state.theta + p.tau * state.theta_dot,
        state.theta_dot + p.tau * theta_acc,
        state.time + 1,
    )
    terminated = (jnp.abs(state.x) > p.position_limit) | (jnp.abs(state.theta) > p.angle_limit)
    reward = jnp.where(terminated, -1.0, 0.0) if sutton_barto_reward else 1.0
    return observe(state), state, reward, terminated, {}


def make(
    engine: str = "auto",
    max_episode_steps: int = 500,
    mask_velocity: bool = False,
    sutton_barto_reward: bool = False,
    **params: float,
) -> EnvFunctions:
    """Return cart-pole; `params` are fields of `Params`, options and errors those of `classic_env`.

    With `sutton_barto_reward`, the terminal step is rewarded with -1, and every other step with 0.
    """
    high = np.array([4.8, np.inf, 2 * math.pi / 15, np.inf], np.float32)
    task = Task(
        "cartpole",
        "CartPole-v1",
        Params,
        State,
        reset,
        step,
        observation_space=spaces.Box(-high, high),
        action_space=spaces.Discrete(2),
        velocities=(1, 3),
        drawn={"half_length": "length", "position_limit": "x_threshold"},
        options={"sutton_barto_reward": Rule("switch")},
    )
    return classic_env(
        task, params, engine, max_episode_steps, mask_velocity, sutton_barto_reward=sutton_barto_reward
    )
