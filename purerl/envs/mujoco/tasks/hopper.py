"""Hopper: a planar robot of one leg and three joints, rewarded for its speed and for staying upright.

Gymnasium's Hopper-v5, after Erez, Tassa and Todorov, "Infinite-Horizon Model Predictive Control for
Periodic Tasks with Contacts" (RSS 2011).

    obs     = (qpos[1:], qvel within +-10)                            [11]
    reward  = forward_reward_weight * x_velocity + healthy_reward * healthy
              - ctrl_cost_weight * |action|^2
    healthy : torso height, torso angle and every other coordinate and velocity within their ranges
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

    xml_file: str = "hopper.xml"
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
    healthy_state_range: tuple[float, float] = (-100.0, 100.0)
    """Range of every position except the torso's x and z, and of every velocity (m, rad, s)."""
    healthy_z_range: tuple[float, float] = (0.7, float("inf"))
    """Torso height (m)."""
    healthy_angle_range: tuple[float, float] = (-0.2, 0.2)
    """Angle of the torso (rad)."""
    reset_noise_scale: float = 5e-3


def make(engine: str = "auto", **task_kwargs: Any) -> EnvFunctions:
    """Return Hopper on `engine`; keyword arguments are the fields of `Options`, `Params` and `Setup`."""
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
        healthy = _is_healthy(params, physics)
        info = {
            "x_position": physics.qpos[0],
            "z_distance_from_origin": physics.qpos[1] - init_z,
            "x_velocity": x_velocity,
            "reward_forward": params.forward_reward_weight * x_velocity,
            "reward_ctrl": -params.ctrl_cost_weight * jnp.sum(jnp.square(action)),
            "reward_survive": params.healthy_reward * healthy.astype(jnp.float32),
        }
        reward = info["reward_forward"] + info["reward_survive"] + info["reward_ctrl"]
        return reward, ~healthy & options.terminate_when_unhealthy, info

    task = Task(
        name="hopper",
        model=model,
        source=options.xml_file,
        frame_skip=options.frame_skip,
        params=params,
        fields=(),
        tracked=("qpos",),
        draw=uniform(model),
        observe=observe,
        reward_and_termination=reward_and_termination,
        camera={"trackbodyid": 2, "distance": 3.0, "lookat": (0.0, 0.0, 1.15), "elevation": -20.0},
    )
    return make_env(task, setup)


def _is_healthy(params: Params, physics: Physics) -> Array:
    inside = lambda value, bounds: jnp.all((bounds[0] < value) & (value < bounds[1]))
    return (
        inside(physics.qpos[2:], params.healthy_state_range)
        & inside(physics.qvel, params.healthy_state_range)
        & inside(physics.qpos[1], params.healthy_z_range)
        & inside(physics.qpos[2], params.healthy_angle_range)
    )
