"""The common part of humanoid and humanoid_standup: observation and cost of contacts."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from purerl.envs.mujoco.engine.physics import Physics
from purerl.types import Array, Metrics

FIELDS = ("cinert", "cvel", "qfrc_actuator", "cfrc_ext", "ten_length", "ten_velocity")
"""Inertias and velocities about the centre of mass, forces of actuators and contacts, tendons."""
ROOT = 6
"""Degrees of freedom of the torso in space, which have no actuator."""


def observe_body(options: Any, physics: Physics) -> Array:
    """Return the observation with the parts switched on in `options`, `[348]` by default.

    Body 0, which neither moves nor collides, is left out.
    """
    parts = [physics.qpos[2 if options.exclude_current_positions_from_observation else 0 :], physics.qvel]
    if options.include_cinert_in_observation:
        parts.append(physics.fields["cinert"][1:].reshape(-1))
    if options.include_cvel_in_observation:
        parts.append(physics.fields["cvel"][1:].reshape(-1))
    if options.include_qfrc_actuator_in_observation:
        parts.append(physics.fields["qfrc_actuator"][ROOT:])
    if options.include_cfrc_ext_in_observation:
        parts.append(physics.fields["cfrc_ext"][1:].reshape(-1))
    return jnp.concatenate(parts)


def contact_cost(weight: float, cost_range: tuple[float, float], physics: Physics) -> Array:
    """Return `weight` times the squared contact torques and forces, clipped to `cost_range`."""
    low, high = cost_range
    return jnp.clip(weight * jnp.sum(jnp.square(physics.fields["cfrc_ext"])), low, high)


def body_info(physics: Physics) -> Metrics:
    """Return the torso's position and the two tendons from hips to knees, `[2]` each (rad, rad/s)."""
    return {
        "x_position": physics.qpos[0],
        "y_position": physics.qpos[1],
        "tendon_length": physics.fields["ten_length"],
        "tendon_velocity": physics.fields["ten_velocity"],
    }
