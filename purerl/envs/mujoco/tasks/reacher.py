"""Reacher: an arm of two joints in the plane, rewarded for bringing its fingertip near a target.

Gymnasium's Reacher-v5. The target is part of the state: its place is qpos[2:].

    obs     = (cos angles [2], sin angles [2], target [2], angular velocities [2],
               fingertip - target in the plane [2])                   [10]
    reward  = -reward_dist_weight * |fingertip - target| - reward_control_weight * |action|^2
    start   : angles uniform within 0.1 rad, angular velocities within 0.005 rad/s; the target anywhere
              on a disc of radius 0.2 m, at rest
    end     : never; time limit 50 steps of 0.02 s
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purerl.envs.mujoco.engine.physics import Physics
from purerl.envs.mujoco.options import Setup, find_body, load_model, read_kwargs
from purerl.envs.mujoco.task import Task, make_env
from purerl.types import Array, EnvFunctions, Key, Metrics

REACH = 0.2
"""Radius (m) of the disc of targets."""


class Options(NamedTuple):
    """Static options, which shape the program."""

    xml_file: str = "reacher.xml"
    frame_skip: int = 2
    """Physics steps of 0.01 s per environment step."""


class Params(NamedTuple):
    """Real-valued parameters; each may be batched."""

    reward_dist_weight: float = 1.0
    reward_control_weight: float = 1.0


def make(engine: str = "auto", **task_kwargs: Any) -> EnvFunctions:
    """Return Reacher on `engine`; keyword arguments are the fields of `Options`, `Params` and `Setup`."""
    setup = Setup(engine, max_episode_steps=50)
    options, params, setup = read_kwargs(Options(), Params(), setup, task_kwargs)
    model = load_model(options.xml_file)
    find = lambda name: find_body(model, name, "xml_file", options.xml_file)
    fingertip, target = find("fingertip"), find("target")

    def way(physics: Physics) -> Array:
        return physics.fields["xpos"][fingertip] - physics.fields["xpos"][target]

    def observe(params: Params, physics: Physics) -> Array:
        angles, place = physics.qpos[:2], physics.qpos[2:]
        return jnp.concatenate([jnp.cos(angles), jnp.sin(angles), place, physics.qvel[:2], way(physics)[:2]])

    def reward_and_termination(
        params: Params, physics: Physics, action: Array
    ) -> tuple[Array, Array, Metrics]:
        info = {
            "reward_dist": -params.reward_dist_weight * jnp.linalg.norm(way(physics)),
            "reward_ctrl": -params.reward_control_weight * jnp.sum(jnp.square(action)),
        }
        return info["reward_dist"] + info["reward_ctrl"], jnp.bool_(False), info

    task = Task(
        name="reacher",
        model=model,
        source=options.xml_file,
        frame_skip=options.frame_skip,
        params=params,
        fields=("xpos",),
        tracked=(),
        draw=_make_draw(model),
        observe=observe,
        reward_and_termination=reward_and_termination,
        camera={"trackbodyid": 0},
    )
    return make_env(task, setup)


def _make_draw(model: Any):
    init_qpos = np.asarray(model.qpos0, np.float32)

    def draw(params: Params, key: Key) -> tuple[Array, Array]:
        key_qpos, key_qvel, key_radius, key_angle = jax.random.split(key, 4)
        noise = jax.random.uniform(key_qpos, (model.nq,), jnp.float32, -0.1, 0.1)
        qvel = jax.random.uniform(key_qvel, (model.nv,), jnp.float32, -0.005, 0.005)
        # Gymnasium draws from the square until a point lies on the disc. The area of a disc grows with the
        # squared radius, so the root of a uniform number has the same distribution.
        radius = REACH * jnp.sqrt(jax.random.uniform(key_radius, dtype=jnp.float32))
        angle = 2 * jnp.pi * jax.random.uniform(key_angle, dtype=jnp.float32)
        goal = radius * jnp.stack([jnp.cos(angle), jnp.sin(angle)])
        return (noise + init_qpos).at[-2:].set(goal), qvel.at[-2:].set(0.0)

    return draw
