"""Swimmer: a snake of three links and two joints in a viscous fluid, rewarded for its speed.

Gymnasium's Swimmer-v5, after R. Coulom, "Reinforcement Learning Using Neural Networks, with
Applications to Motor Control" (PhD thesis, 2002).

    obs     = (qpos[2:], qvel)                                        [8]
    reward  = forward_reward_weight * x_velocity - ctrl_cost_weight * |action|^2
    start   : qpos and qvel uniform within reset_noise_scale
    end     : never; time limit 1,000 steps of 0.04 s
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

    xml_file: str = "swimmer.xml"
    frame_skip: int = 4
    """Physics steps of 0.01 s per environment step."""
    exclude_current_positions_from_observation: bool = True
    """Omit the x- and y-coordinates from the observation."""


class Params(NamedTuple):
    """Real-valued parameters; each may be batched."""

    forward_reward_weight: float = 1.0
    ctrl_cost_weight: float = 1e-4
    reset_noise_scale: float = 0.1


def make(engine: str = "auto", **task_kwargs: Any) -> EnvFunctions:
    """Return Swimmer on `engine`; keyword arguments are the fields of `Options`, `Params` and `Setup`."""
    options, params, setup = read_kwargs(Options(), Params(), Setup(engine), task_kwargs)
    model = load_model(options.xml_file)
    dt = model.opt.timestep * options.frame_skip
    skipped = 2 if options.exclude_current_positions_from_observation else 0

    def observe(params: Params, physics: Physics) -> Array:
        return jnp.concatenate([physics.qpos[skipped:], physics.qvel])

    def reward_and_termination(
        params: Params, physics: Physics, action: Array
    ) -> tuple[Array, Array, Metrics]:
        x_velocity, y_velocity = physics.change["qpos"][:2] / dt
        info = {
            "x_position": physics.qpos[0],
            "y_position": physics.qpos[1],
            "distance_from_origin": jnp.linalg.norm(physics.qpos[:2]),
            "x_velocity": x_velocity,
            "y_velocity": y_velocity,
            "reward_forward": params.forward_reward_weight * x_velocity,
            "reward_ctrl": -params.ctrl_cost_weight * jnp.sum(jnp.square(action)),
        }
        return info["reward_forward"] + info["reward_ctrl"], jnp.bool_(False), info

    task = Task(
        name="swimmer",
        model=model,
        source=options.xml_file,
        frame_skip=options.frame_skip,
        params=params,
        fields=(),
        tracked=("qpos",),
        draw=uniform(model),
        observe=observe,
        reward_and_termination=reward_and_termination,
    )
    return make_env(task, setup)
