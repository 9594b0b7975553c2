"""Walker2d: a planar robot of two legs and six joints, rewarded for its speed and for staying upright.

Gymnasium's Walker2d-v5: the hopper with a second leg, after Erez, Tassa and Todorov,
"Infinite-Horizon Model Predictive Control for Periodic Tasks with Contacts" (RSS 2011).

    obs     = (qpos[1:], qvel within +-10)                            [17]
    reward  = forward_reward_weight * x_velocity + healthy_reward * healthy
              - ctrl_cost_weight * |action|^2
    healthy : torso height and torso angle within their ranges
    start   : qpos and qvel uniform within reset_noise_scale
    end     : not healthy; time limit 1,000 steps of 0.008 s
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from purerl.envs.mujoco.engine.physics import Physics
from purerl.envs.mujoco.options import Setup, load_model, read_kwargs
from purerl.envs.mujoco.task import Task, make_env, uniform
from purerl.types import Array, EnvFunctions, Metrics


class Options(NamedTuple):
    """Static options, which shape the program."""

    xml_file: str = "walker2d_v5.xml"
    frame_skip: int = 4
    """Physics steps of 0.002 s per environment step."""
    terminate_when_unhealthy: bool = True
    exclude_current_positions_from_observation: bool = True
    """Omit the x-coordinate from the observation."""


class Params(NamedTuple):
    """Real-valued parameters; each may be batched. No range includes its ends."""

    forward_reward_weight: float = 1.0
    ctrl_cost_weight: float = 1e-3
    healthy_reward: float = 1.0
    healthy_z_range: tuple[float, float] = (0.8, 2.0)
    """Torso height (m)."""
    healthy_angle_range: tuple[float, float] = (-1.0, 1.0)
    """Angle of the torso (rad)."""
    reset_noise_scale: float = 5e-3


def make(engine: str = "auto", **task_kwargs: Any) -> EnvFunctions:
    """Return Walker2d on `engine`; keyword arguments are the fields of `Options`, `Params` and `Setup`."""
    options, params, setup = read_kwargs(Options(), Params(), Setup(engine), task_kwargs)
    model = load_model(options.xml_file)
    dt, init_z = model.opt.timestep * options.frame_skip, float(model.qpos0[1])
    skipped = 1 if options.exclude_current_positions_from_observation else 0

    def observe(params: Params, physics: Physics) -> Array:
        return jnp.concatenate([physics.qpos[skipped:], jnp.clip(physics.qvel, -10.0, 10.0)])

    def reward_and_termination(
        params: Params, physics: Physics, action: Array
    ) -> tuple[Array, Array, Metrics]:
        x_velocity = physics.change["qpos"][0] / dt
        low_z, high_z = params.healthy_z_range
        low_angle, high_angle = params.healthy_angle_range
        _, z, angle = physics.qpos[:3]
        healthy = (low_z < z) & (z < high_z) & (low_angle < angle) & (angle < high_angle)
        info = {
            "x_position": physics.qpos[0],
            "z_distance_from_origin": z - init_z,
            "x_velocity": x_velocity,
            "reward_forward": params.forward_reward_weight * x_velocity,
            "reward_ctrl": -params.ctrl_cost_weight * jnp.sum(jnp.square(action)),
            "reward_survive": params.healthy_reward * healthy.astype(jnp.float32),
        }
        reward = info["reward_forward"] + info["reward_survive"] + info["reward_ctrl"]
        return reward, ~healthy & options.terminate_when_unhealthy, info

    task = Task(
        name="walker2d",
        model=model,
        source=options.xml_file,
        frame_skip=options.frame_skip,
        params=params,
        fields=(),
        tracked=("qpos",),
        draw=uniform(model),
        observe=observe,
        reward_and_termination=reward_and_termination,
        camera={"trackbodyid": 2, "distance": 4.0, "lookat": (0.0, 0.0, 1.15), "elevation": -20.0},
    )
    return make_env(task, setup)
