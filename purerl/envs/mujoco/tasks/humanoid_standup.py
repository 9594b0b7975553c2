"""HumanoidStandup: the humanoid, flat on its back, rewarded for the height of its torso.

Gymnasium's HumanoidStandup-v5, after Tassa, Erez and Todorov, "Synthesis and Stabilization of Complex
Behaviors through Online Trajectory Optimization" (IROS 2012).

    obs     = (qpos[2:], qvel, inertias, velocities, actuator and contact forces of the bodies) [348]
    reward  = 1 + torso height / physics step - ctrl_cost_weight * |action|^2
              - impact_cost_weight * |contact forces|^2 within impact_cost_range
    start   : qpos and qvel uniform within reset_noise_scale; the quaternion is not normalized again
    end     : never; time limit 1,000 steps of 0.015 s
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from purerl.envs.mujoco.engine.physics import Physics
from purerl.envs.mujoco.options import Setup, load_model, read_kwargs
from purerl.envs.mujoco.task import Task, make_env, uniform
from purerl.envs.mujoco.tasks.humanoid_body import FIELDS, body_info, contact_cost, observe_body
from purerl.types import Array, EnvFunctions, Metrics


class Options(NamedTuple):
    """Static options, which shape the program."""

    xml_file: str = "humanoidstandup.xml"
    frame_skip: int = 5
    """Physics steps of 0.003 s per environment step."""
    exclude_current_positions_from_observation: bool = True
    """Omit the x- and y-coordinates from the observation."""
    include_cinert_in_observation: bool = True
    include_cvel_in_observation: bool = True
    include_qfrc_actuator_in_observation: bool = True
    include_cfrc_ext_in_observation: bool = True


class Params(NamedTuple):
    """Real-valued parameters; each may be batched."""

    uph_cost_weight: float = 1.0
    """Accepted without effect, as in Gymnasium."""
    ctrl_cost_weight: float = 0.1
    impact_cost_weight: float = 0.5e-6
    impact_cost_range: tuple[float, float] = (-float("inf"), 10.0)
    """Range to which the weighted cost of contact is clipped."""
    reset_noise_scale: float = 1e-2


def make(engine: str = "auto", **task_kwargs: Any) -> EnvFunctions:
    """Return HumanoidStandup on `engine`; keyword arguments are fields of `Options`, `Params` and `Setup`."""
    options, params, setup = read_kwargs(Options(), Params(), Setup(engine), task_kwargs)
    model = load_model(options.xml_file)
    init_z = float(model.qpos0[2])

    def reward_and_termination(
        params: Params, physics: Physics, action: Array
    ) -> tuple[Array, Array, Metrics]:
        terms = {
            # Divided by the physics step, not by the environment's, as in Gymnasium.
            "reward_linup": physics.qpos[2] / model.opt.timestep,
            "reward_quadctrl": -params.ctrl_cost_weight * jnp.sum(jnp.square(action)),
            "reward_impact": -contact_cost(params.impact_cost_weight, params.impact_cost_range, physics),
        }
        info = {"z_distance_from_origin": physics.qpos[2] - init_z}
        reward = terms["reward_linup"] + terms["reward_quadctrl"] + terms["reward_impact"] + 1.0
        return reward, jnp.bool_(False), body_info(physics) | info | terms

    task = Task(
        name="humanoid_standup",
        model=model,
        source=options.xml_file,
        frame_skip=options.frame_skip,
        params=params,
        fields=FIELDS,
        tracked=(),
        draw=uniform(model),
        observe=lambda params, physics: observe_body(options, physics),
        reward_and_termination=reward_and_termination,
        camera={"trackbodyid": 1, "distance": 4.0, "lookat": (0.0, 0.0, 0.8925), "elevation": -20.0},
    )
    return make_env(task, setup)
