"""InvertedDoublePendulum: two poles, one upon the other, on a cart, rewarded while the tip is high.

Gymnasium's InvertedDoublePendulum-v5, after Barto, Sutton and Anderson, "Neuronlike Adaptive Elements
That Can Solve Difficult Learning Control Problems" (1983).

    obs     = (cart's x, sin angles [2], cos angles [2], qvel within +-10 [3],
               constraint force on the cart within +-10)              [9]
    reward  = healthy_reward * (tip above 1 m) - 0.01 * tip_x^2 - (tip_z - 2)^2
              - 1e-3 * angular_velocity_1^2 - 5e-3 * angular_velocity_2^2
    start   : qpos uniform within, qvel normal with, reset_noise_scale
    end     : tip at 1 m or below; time limit 1,000 steps of 0.05 s
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from purerl.envs.mujoco.engine.physics import Physics
from purerl.envs.mujoco.options import Setup, load_model, read_kwargs
from purerl.envs.mujoco.task import Task, make_env, uniform_and_normal
from purerl.types import Array, EnvFunctions, Metrics

MIN_HEIGHT = 1.0
"""Height of the tip (m), exclusive."""


class Options(NamedTuple):
    """Static options, which shape the program."""

    xml_file: str = "inverted_double_pendulum.xml"
    frame_skip: int = 5
    """Physics steps of 0.01 s per environment step."""


class Params(NamedTuple):
    """Real-valued parameters; each may be batched."""

    healthy_reward: float = 10.0
    reset_noise_scale: float = 0.1


def make(engine: str = "auto", **task_kwargs: Any) -> EnvFunctions:
    """Return InvertedDoublePendulum on `engine`; keyword arguments: `Options`, `Params` and `Setup`."""
    options, params, setup = read_kwargs(Options(), Params(), Setup(engine), task_kwargs)
    model = load_model(options.xml_file)
    task = Task(
        name="inverted_double_pendulum",
        model=model,
        source=options.xml_file,
        frame_skip=options.frame_skip,
        params=params,
        fields=("site_xpos", "qfrc_constraint"),
        tracked=(),
        draw=uniform_and_normal(model),
        observe=_observe,
        reward_and_termination=_reward_and_termination,
        camera={"trackbodyid": 0, "distance": 4.1225, "lookat": (0.0, 0.0, 0.12250000000000005)},
    )
    return make_env(task, setup)


def _observe(params: Params, physics: Physics) -> Array:
    angles = physics.qpos[1:]
    bounded = lambda values: jnp.clip(values, -10.0, 10.0)
    force = physics.fields["qfrc_constraint"][:1]
    parts = [physics.qpos[:1], jnp.sin(angles), jnp.cos(angles), bounded(physics.qvel), bounded(force)]
    return jnp.concatenate(parts)


def _reward_and_termination(params: Params, physics: Physics, action: Array) -> tuple[Array, Array, Metrics]:
    x, _, z = physics.fields["site_xpos"][0]
    terminated = z <= MIN_HEIGHT
    info = {
        "reward_survive": params.healthy_reward * (~terminated).astype(jnp.float32),
        "distance_penalty": -(0.01 * x**2 + (z - 2.0) ** 2),
        "velocity_penalty": -(1e-3 * physics.qvel[1] ** 2 + 5e-3 * physics.qvel[2] ** 2),
    }
    reward = info["reward_survive"] + info["distance_penalty"] + info["velocity_penalty"]
    return reward, terminated, info
