"""Rover: a robot on two driven wheels drives to a goal among pillars, by range readings.

This task of purerl is the example of `purerl.mujoco_env`: a user would write the same.

    obs     = (16 ranges / 3 m, goal distance / 5 m, cos and sin of the goal's bearing,
               forward speed in m/s, turning rate / 5 rad/s, two wheel speeds / 10 rad/s)   [23]
    action  = two wheel speeds, within 10 rad/s (1 m/s forward)                             [2]
    reward  = progress_weight * (metres nearer to the goal) + arrival_bonus * arrived
              - collision_cost * collided - ctrl_cost_weight * mean((action / 10)^2)
    start   : the 5 m x 5 m arena has 4 x 4 cells; rover, goal and eight pillars get one each, up to
              0.2 m from its centre in x and in y; the rover has a random heading
    end     : arrived, centre within 0.2 m of the goal; collided, 0.18 m or less from a pillar or a
              wall; time limit 200 steps of 0.1 s

Pillars have no contacts, so a collision is computed from the geometry, and the physics has three contacts.
The gap between two pillars is at least 0.45 m and the rover 0.36 m wide, so every goal can be reached. As on
a real robot, sensor readings are one physics step (0.02 s) old.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purerl.envs.mujoco.custom import mujoco_env
from purerl.envs.mujoco.engine.physics import Physics
from purerl.envs.mujoco.options import ASSETS, Setup, read_kwargs
from purerl.types import Array, EnvFunctions, Key, Metrics

NUM_PILLARS, GRID, CELL, SPREAD = 8, 4, 1.25, 0.2
"""Number of pillars; cells along a side; width of a cell (m); largest offset from its centre (m)."""
ROVER_RADIUS, PILLAR_RADIUS, GOAL_RADIUS, AXLE_HEIGHT = 0.18, 0.2, 0.2, 0.1
MAX_RANGE, MAX_WHEEL_SPEED = 3.0, 10.0


class Options(NamedTuple):
    """Static options, which shape the program."""

    frame_skip: int = 5
    """Physics steps of 0.02 s per environment step."""


class Params(NamedTuple):
    """Real-valued parameters; each may be batched."""

    progress_weight: float = 5.0
    arrival_bonus: float = 5.0
    collision_cost: float = 5.0
    ctrl_cost_weight: float = 0.02


def make(engine: str = "auto", **task_kwargs: Any) -> EnvFunctions:
    """Return Rover on `engine`; keyword arguments are the fields of `Options`, `Params` and `Setup`."""
    defaults = Options(), Params(), Setup(engine, max_episode_steps=200)
    options, params, setup = read_kwargs(*defaults, task_kwargs)
    return mujoco_env(
        "rover",
        ASSETS / "rover.xml",
        reward,
        terminated,
        observation=observation,
        start=start,
        fields=("sensordata",),
        tracked=("qpos",),
        params=params,
        **options._asdict(),
        **setup._asdict(),
    )


def start(params: Params, key: Key) -> tuple[Array, Array]:
    """Draw rover, goal and pillars, each in a different cell."""
    key_cell, key_place, key_heading = jax.random.split(key, 3)
    num_things = 2 + NUM_PILLARS
    cells = jax.random.permutation(key_cell, jnp.arange(GRID * GRID, dtype=jnp.int32))[:num_things]
    centres = (jnp.stack([cells // GRID, cells % GRID], 1).astype(jnp.float32) - (GRID - 1) / 2) * CELL
    places = centres + SPREAD * jax.random.uniform(key_place, (num_things, 2), jnp.float32, -1.0)
    half = jnp.pi * jax.random.uniform(key_heading, (), jnp.float32, -0.5, 0.5)
    pose = [places[0], jnp.array([AXLE_HEIGHT]), jnp.stack([jnp.cos(half), 0.0, 0.0, jnp.sin(half)])]
    qpos = jnp.concatenate([*pose, jnp.zeros(2), places[1:].reshape(-1)])
    return qpos, jnp.zeros(6 + 2 + 2 * (1 + NUM_PILLARS))


def observation(params: Params, physics: Physics) -> Array:
    """Return the sensor readings, in the order of the MJCF file, scaled to about 1."""
    goal, velocity, turn, wheels, ranges = jnp.split(physics.fields["sensordata"], (3, 6, 9, 11))
    ranges = jnp.where(ranges < 0, MAX_RANGE, ranges)  # -1: the beam hits nothing
    distance = jnp.linalg.norm(goal[:2])
    bearing = goal[:2] / jnp.maximum(distance, 1e-6)
    parts = ranges / MAX_RANGE, distance[None] / 5.0, bearing, velocity[:1], turn[2:] / 5.0
    return jnp.concatenate([*parts, wheels / MAX_WHEEL_SPEED])


def reward(params: Params, physics: Physics, action: Array) -> tuple[Array, Metrics]:
    """Return the reward for progress and arrival minus the costs of collisions and fast wheels."""
    position, goal = physics.qpos[:2], physics.qpos[9:11]
    distance = jnp.linalg.norm(goal - position)
    progress = jnp.linalg.norm(goal - (position - physics.change["qpos"][:2])) - distance
    success = arrived(physics).astype(jnp.float32)
    cost = jnp.mean(jnp.square(action / MAX_WHEEL_SPEED))
    terms = {
        "reward_progress": params.progress_weight * progress,
        "reward_arrival": params.arrival_bonus * success,
        "reward_collision": -params.collision_cost * collided(physics).astype(jnp.float32),
        "reward_ctrl": -params.ctrl_cost_weight * cost,
    }
    total = jnp.stack(list(terms.values())).sum()
    return total, terms | {"success": success, "distance": distance}


def terminated(params: Params, physics: Physics) -> Array:
    """Return True if the rover has arrived or collided."""
    return arrived(physics) | collided(physics)


def arrived(physics: Physics) -> Array:
    """Return True if the rover's centre is over the goal."""
    return jnp.linalg.norm(physics.qpos[9:11] - physics.qpos[:2]) <= GOAL_RADIUS


def collided(physics: Physics) -> Array:
    """Return True if the rover, seen from above, overlaps a pillar or a wall."""
    position, pillars = physics.qpos[:2], physics.qpos[11:].reshape(NUM_PILLARS, 2)
    to_pillars = jnp.linalg.norm(pillars - position[None], axis=1) - PILLAR_RADIUS
    to_walls = GRID * CELL / 2 - jnp.abs(position)
    return jnp.minimum(to_pillars.min(), to_walls.min()) <= ROVER_RADIUS
