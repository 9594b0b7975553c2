"""Humanoid: a body of 17 actuated joints, rewarded for its speed and for staying upright.

Gymnasium's Humanoid-v5, after Tassa, Erez and Todorov, "Synthesis and Stabilization of Complex
Behaviors through Online Trajectory Optimization" (IROS 2012).

    obs     = (qpos[2:], qvel, inertias, velocities, actuator and contact forces of the bodies) [348]
    reward  = forward_reward_weight * x_velocity + healthy_reward * healthy
              - ctrl_cost_weight * |action|^2
              - contact_cost_weight * |contact forces|^2 within contact_cost_range
    healthy : torso height within healthy_z_range
    start   : qpos and qvel uniform within reset_noise_scale; the quaternion is not normalized again
    end     : not healthy; time limit 1,000 steps of 0.015 s
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from purerl.envs.mujoco.engine.physics import Physics
from purerl.envs.mujoco.options import Setup, load_model, read_kwargs
from purerl.envs.mujoco.task import Task, make_env, uniform
from purerl.envs.mujoco.tasks.humanoid_body import FIELDS, body_info, contact_cost, observe_body
from purerl.types import Array, EnvFunctions, Metrics


class Options(NamedTuple):
    """Static options, which shape the program."""

    xml_file: str = "humanoid.xml"
    frame_skip: int = 5
    """Physics steps of 0.003 s per environment step."""
    terminate_when_unhealthy: bool = True
    exclude_current_positions_from_observation: bool = True
    """Omit the x- and y-coordinates from the observation."""
    include_cinert_in_observation: bool = True
    include_cvel_in_observation: bool = True
    include_qfrc_actuator_in_observation: bool = True
    include_cfrc_ext_in_observation: bool = True


class Params(NamedTuple):
    """Real-valued parameters; each may be batched."""

    forward_reward_weight: float = 1.25
    ctrl_cost_weight: float = 0.1
    contact_cost_weight: float = 5e-7
    contact_cost_range: tuple[float, float] = (-float("inf"), 10.0)
    """Range to which the weighted cost of contact is clipped."""
    healthy_reward: float = 5.0
    healthy_z_range: tuple[float, float] = (1.0, 2.0)
    """Torso height (m), without the ends."""
    reset_noise_scale: float = 1e-2


def make(engine: str = "auto", **task_kwargs: Any) -> EnvFunctions:
    """Return Humanoid on `engine`; keyword arguments are the fields of `Options`, `Params` and `Setup`."""
    options, params, setup = read_kwargs(Options(), Params(), Setup(engine), task_kwargs)
    model = load_model(options.xml_file)
    task = Task(
        name="humanoid",
        model=model,
        source=options.xml_file,
        frame_skip=options.frame_skip,
        params=params,
        fields=FIELDS,
        tracked=("xipos",),
        draw=uniform(model),
        observe=lambda params, physics: observe_body(options, physics),
        reward_and_termination=_make_reward_and_termination(options, model),
        camera={"trackbodyid": 1, "distance": 4.0, "lookat": (0.0, 0.0, 2.0), "elevation": -20.0},
    )
    return make_env(task, setup)


def _make_reward_and_termination(options: Options, model: Any):
    dt = model.opt.timestep * options.frame_skip
    share = (model.body_mass / model.body_mass.sum()).astype(np.float32)[:, None]

    def reward_and_termination(
        params: Params, physics: Physics, action: Array
    ) -> tuple[Array, Array, Metrics]:
        # Velocity of the centre of mass of the whole body.
        x_velocity, y_velocity = jnp.sum(share * physics.change["xipos"], axis=0)[:2] / dt
        low, high = params.healthy_z_range
        healthy = (low < physics.qpos[2]) & (physics.qpos[2] < high)
        terms = {
            "reward_survive": params.healthy_reward * healthy.astype(jnp.float32),
            "reward_forward": params.forward_reward_weight * x_velocity,
            "reward_ctrl": -params.ctrl_cost_weight * jnp.sum(jnp.square(action)),
            "reward_contact": -contact_cost(params.contact_cost_weight, params.contact_cost_range, physics),
        }
        info = {
            "distance_from_origin": jnp.linalg.norm(physics.qpos[:2]),
            "x_velocity": x_velocity,
            "y_velocity": y_velocity,
        }
        gain = terms["reward_forward"] + terms["reward_survive"]
        reward = gain + (terms["reward_ctrl"] + terms["reward_contact"])
        return reward, ~healthy & options.terminate_when_unhealthy, body_info(physics) | info | terms

    return reward_and_termination
