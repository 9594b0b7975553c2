"""Acrobot-v1 (Sutton 1996; Sutton & Barto 1998, section 11.3), as Gymnasium computes it."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from purerl.config import Rule
from purerl.envs.classic.task import Task, classic_env, wrap
from purerl.types import Array, EnvFunctions, Key

MAX_SPEED_1, MAX_SPEED_2 = 4 * math.pi, 9 * math.pi

Motion = tuple[Array, Array, Array, Array]
"""Two angles and two angular velocities, or their derivatives in time."""


class Params(NamedTuple):
    """Two links, the first hanging from a fixed joint, in SI units."""

    gravity: float = 9.8
    mass_1: float = 1.0
    mass_2: float = 1.0
    length_1: float = 1.0
    center_1: float = 0.5
    """From the first joint to the first link's centre of mass."""
    center_2: float = 0.5
    """From the second joint to the second link's centre of mass."""
    moment: float = 1.0
    """Moment of inertia of each link about its centre of mass."""
    torque: float = 1.0
    """Torque of actions 0 and 2, at the joint between the links."""
    torque_noise_max: float = 0.0
    """A number uniform in [-torque_noise_max, torque_noise_max] is added to the torque of each step."""
    dt: float = 0.2
    """Seconds between two states."""


class State(NamedTuple):
    """Angles in [-pi, pi], the first from straight down, the second from the first link; speeds; time."""

    theta_1: Array
    theta_2: Array
    theta_dot_1: Array
    theta_dot_2: Array
    time: Array


def observe(state: State) -> Array:
    """Return cosine and sine of theta_1, those of theta_2, theta_dot_1, theta_dot_2: `[6]` float32."""
    first, second, speed_1, speed_2, _ = state
    return jnp.stack([jnp.cos(first), jnp.sin(first), jnp.cos(second), jnp.sin(second), speed_1, speed_2])


def reset(key: Key, params: Params) -> tuple[Array, State]:
    """Draw all four numbers uniformly from [-0.1, 0.1]: hanging, almost at rest."""
    state = State(*jax.random.uniform(key, (4,), jnp.float32, -0.1, 0.1), time=jnp.int32(0))
    return observe(state), state


def derivative(motion: Motion, torque: Array, params: Params, book_or_nips: str) -> Motion:
    """Return the time derivative of `motion` under `torque`; the paper lacks a term that the book has."""
    p = params
    theta_1, theta_2, speed_1, speed_2 = motion
    cos_2, sin_2 = jnp.cos(theta_2), jnp.sin(theta_2)
    lever = p.mass_2 * p.length_1 * p.center_2
    inertia = p.mass_2 * p.center_2**2 + p.moment
    d_1 = p.mass_1 * p.center_1**2 + p.mass_2 * p.length_1**2 + p.moment + inertia + 2 * lever * cos_2
    d_2 = inertia + lever * cos_2
    phi_2 = p.mass_2 * p.center_2 * p.gravity * jnp.sin(theta_1 + theta_2)
    weight_1 = (p.mass_1 * p.center_1 + p.mass_2 * p.length_1) * p.gravity * jnp.sin(theta_1)
    phi_1 = weight_1 + phi_2 - lever * sin_2 * speed_2 * (speed_2 + 2 * speed_1)
    centrifugal = 0.0 if book_or_nips == "nips" else lever * sin_2 * speed_1**2
    ratio = d_2 / d_1
    acceleration_2 = (torque + ratio * phi_1 - centrifugal - phi_2) / (inertia - ratio * d_2)
    acceleration_1 = -(ratio * acceleration_2 + phi_1 / d_1)
    return speed_1, speed_2, acceleration_1, acceleration_2


def integrate(motion: Motion, torque: Array, params: Params, book_or_nips: str) -> Motion:
    """Return `motion` after one step of the classical Runge-Kutta method, of length `params.dt`."""
    dt = params.dt
    slope = lambda at: derivative(at, torque, params, book_or_nips)
    ahead = lambda change, time: tuple(x + time * d for x, d in zip(motion, change, strict=True))
    k_1 = slope(motion)
    k_2 = slope(ahead(k_1, dt / 2))
    k_3 = slope(ahead(k_2, dt / 2))
    k_4 = slope(ahead(k_3, dt))
    return ahead([a + 2 * b + 2 * c + d for a, b, c, d in zip(k_1, k_2, k_3, k_4, strict=True)], dt / 6)


def torque_noise(key: Key, largest: float) -> Array | float:
    """Return a number uniform in [-largest, largest]; nothing is drawn for the default, a static 0."""
    if not isinstance(largest, jax.Array) and largest == 0:
        return 0.0
    return jax.random.uniform(key, (), jnp.float32, -1.0) * largest


def step(key: Key, state: State, action: Array, params: Params, book_or_nips: str):
    """Take one step under torque -1 (0), 0 (1) or +1 (2) times `torque`; reward -1 until the goal, then 0.

    At the goal the free end, of links of length 1, is more than 1 above the first joint.
    """
    torque = (jnp.float32(action) - 1) * params.torque + torque_noise(key, params.torque_noise_max)
    theta_1, theta_2, speed_1, speed_2 = integrate(state[:4], torque, params, book_or_nips)
    state = State(
        wrap(theta_1),
        wrap(theta_2),
        jnp.clip(speed_1, -MAX_SPEED_1, MAX_SPEED_1),
        jnp.clip(speed_2, -MAX_SPEED_2, MAX_SPEED_2),
        state.time + 1,
    )
    terminated = -jnp.cos(state.theta_1) - jnp.cos(state.theta_1 + state.theta_2) > 1.0
    return observe(state), state, jnp.where(terminated, 0.0, -1.0), terminated, {}


def make(
    engine: str = "auto",
    max_episode_steps: int = 500,
    mask_velocity: bool = False,
    book_or_nips: str = "book",
    **params: float,
) -> EnvFunctions:
    """Return acrobot; `params` are fields of `Params`, options and errors those of `classic_env`.

    `book_or_nips` chooses the equations of the book or those of the paper (Sutton, NIPS 1995).
    """
    high = np.array([1.0, 1.0, 1.0, 1.0, MAX_SPEED_1, MAX_SPEED_2], np.float32)
    task = Task(
        "acrobot",
        "Acrobot-v1",
        Params,
        State,
        reset,
        step,
        observation_space=spaces.Box(-high, high),
        action_space=spaces.Discrete(3),
        velocities=(4, 5),
        drawn={"length_1": "LINK_LENGTH_1"},
        options={"book_or_nips": Rule("choice", options=("book", "nips"))},
    )
    return classic_env(task, params, engine, max_episode_steps, mask_velocity, book_or_nips=book_or_nips)
