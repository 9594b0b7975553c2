"""HalfCheetah: a planar runner of 14 kg and six joints, rewarded for its speed.

Gymnasium's HalfCheetah-v5, after P. Wawrzyński, "A Cat-Like Robot Real-Time Learning to Run"
(2009).

    obs     = (qpos[1:], qvel)                                        [17]
    reward  = forward_reward_weight * x_velocity - ctrl_cost_weight * |action|^2
    start   : qpos uniform within, qvel normal with, reset_noise_scale
    end     : never; time limit 1,000 steps of 0.05 s
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from purerl.envs.mujoco.engine.physics import Physics
from purerl.envs.mujoco.options import Setup, load_model, read_kwargs
from purerl.envs.mujoco.task import Task, make_env, uniform_and_normal
from purerl.types import Array, EnvFunctions, Metrics


class Options(NamedTuple):
    """Static options, which shape the program."""

    xml_file: str = "half_cheetah.xml"
    frame_skip: int = 5
    """Physics steps of 0.01 s per environment step."""
    exclude_current_positions_from_observation: bool = True
    """Omit the x-coordinate from the observation."""


class Params(NamedTuple):
    """Real-valued parameters; each may be batched."""

    forward_reward_weight: float = 1.0
    ctrl_cost_weight: float = 0.1
    reset_noise_scale: float = 0.1


def make(engine: str = "auto", **task_kwargs: Any) -> EnvFunctions:
    """Return HalfCheetah on `engine`; keyword arguments are the fields of `Options`, `Params` and `Setup`."""
    options, params, setup = read_kwargs(Options(), Params(), Setup(engine), task_kwargs)
    model = load_model(options.xml_file)
    dt = model.opt.timestep * options.frame_skip
    skipped = 1 if options.exclude_current_positions_from_observation else 0

    def observe(params: Params, physics: Physics) -> Array:
        return jnp.concatenate([physics.qpos[skipped:], physics.qvel])

    def reward_and_termination(
        params: Params, physics: Physics, action: Array
    ) -> tuple[Array, Array, Metrics]:
        x_velocity = physics.change["qpos"][0] / dt
        info = {
            "x_position": physics.qpos[0],
            "x_velocity": x_velocity,
            "reward_forward": params.forward_reward_weight * x_velocity,
            "reward_ctrl": -params.ctrl_cost_weight * jnp.sum(jnp.square(action)),
        }
        return info["reward_forward"] + info["reward_ctrl"], jnp.bool_(False), info

    task = Task(
        name="half_cheetah",
        model=model,
        source=options.xml_file,
        frame_skip=options.frame_skip,
        params=params,
        fields=(),
        tracked=("qpos",),
        draw=uniform_and_normal(model),
        observe=observe,
        reward_and_termination=reward_and_termination,
        camera={"distance": 4.0},
    )
    return make_env(task, setup)
