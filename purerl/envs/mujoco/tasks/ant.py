"""Ant: a torso on four legs of two joints each, rewarded for its speed and for staying upright.

Gymnasium's Ant-v5, after Schulman et al., "High-Dimensional Continuous Control Using Generalized
Advantage Estimation" (2015, arXiv:1506.02438).

    obs     = (qpos[2:], qvel, contact forces of all bodies except the static one)  [105]
    reward  = forward_reward_weight * x_velocity + healthy_reward * healthy
              - ctrl_cost_weight * |action|^2 - contact_cost_weight * |contact forces|^2
    healthy : torso height within healthy_z_range
    start   : qpos uniform within, qvel normal with, reset_noise_scale
    end     : not healthy; time limit 1,000 steps of 0.05 s
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from purerl.envs.mujoco.engine.physics import Physics
from purerl.envs.mujoco.options import Setup, find_body, load_model, read_kwargs
from purerl.envs.mujoco.task import Task, make_env, uniform_and_normal
from purerl.types import Array, EnvFunctions, Metrics


class Options(NamedTuple):
    """Static options, which shape the program."""

    xml_file: str = "ant.xml"
    frame_skip: int = 5
    """Physics steps of 0.01 s per environment step."""
    main_body: int | str = 1
    """The body whose velocity is rewarded."""
    terminate_when_unhealthy: bool = True
    exclude_current_positions_from_observation: bool = True
    """Omit the x- and y-coordinates from the observation."""
    include_cfrc_ext_in_observation: bool = True


class Params(NamedTuple):
    """Real-valued parameters; each may be batched."""

    forward_reward_weight: float = 1.0
    ctrl_cost_weight: float = 0.5
    contact_cost_weight: float = 5e-4
    healthy_reward: float = 1.0
    healthy_z_range: tuple[float, float] = (0.2, 1.0)
    """Torso height (m), both ends included."""
    contact_force_range: tuple[float, float] = (-1.0, 1.0)
    """Range to which contact forces are clipped."""
    reset_noise_scale: float = 0.1


def make(engine: str = "auto", **task_kwargs: Any) -> EnvFunctions:
    """Return Ant on `engine`; keyword arguments are the fields of `Options`, `Params` and `Setup`."""
    options, params, setup = read_kwargs(Options(), Params(), Setup(engine), task_kwargs)
    model = load_model(options.xml_file)
    body = find_body(model, options.main_body, "main_body", options.main_body)
    task = Task(
        name="ant",
        model=model,
        source=options.xml_file,
        frame_skip=options.frame_skip,
        params=params,
        fields=("cfrc_ext",),
        tracked=("xpos",),
        draw=uniform_and_normal(model),
        observe=_make_observe(options),
        reward_and_termination=_make_reward_and_termination(
            options, body, model.opt.timestep * options.frame_skip
        ),
        camera={"distance": 4.0},
    )
    return make_env(task, setup)


def _make_observe(options: Options):
    skipped = 2 if options.exclude_current_positions_from_observation else 0

    def observe(params: Params, physics: Physics) -> Array:
        parts = [physics.qpos[skipped:], physics.qvel]
        if options.include_cfrc_ext_in_observation:
            parts.append(_contact_forces(params, physics)[1:].reshape(-1))
        return jnp.concatenate(parts)

    return observe


def _make_reward_and_termination(options: Options, body: int, dt: float):
    def reward_and_termination(
        params: Params, physics: Physics, action: Array
    ) -> tuple[Array, Array, Metrics]:
        x_velocity, y_velocity = physics.change["xpos"][body, :2] / dt
        low, high = params.healthy_z_range
        healthy = (low <= physics.qpos[2]) & (physics.qpos[2] <= high)
        contact_cost = jnp.sum(jnp.square(_contact_forces(params, physics)))
        terms = {
            "reward_forward": params.forward_reward_weight * x_velocity,
            "reward_survive": params.healthy_reward * healthy.astype(jnp.float32),
            "reward_ctrl": -params.ctrl_cost_weight * jnp.sum(jnp.square(action)),
            "reward_contact": -params.contact_cost_weight * contact_cost,
        }
        info = {
            "x_position": physics.qpos[0],
            "y_position": physics.qpos[1],
            "distance_from_origin": jnp.linalg.norm(physics.qpos[:2]),
            "x_velocity": x_velocity,
            "y_velocity": y_velocity,
        }
        terminated = ~healthy & options.terminate_when_unhealthy
        gain = terms["reward_forward"] + terms["reward_survive"]
        reward = gain + (terms["reward_ctrl"] + terms["reward_contact"])
        return reward, terminated, info | terms

    return reward_and_termination


def _contact_forces(params: Params, physics: Physics) -> Array:
    """Return clipped contact torques and forces on each body, `[nbody, 6]` (N m, N); zero for body 0."""
    low, high = params.contact_force_range
    return jnp.clip(physics.fields["cfrc_ext"], low, high)
