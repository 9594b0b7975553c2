"""InvertedPendulum: a pole hinged on a cart that is pushed along a rail, rewarded while it stands.

Gymnasium's InvertedPendulum-v5, after Barto, Sutton and Anderson, "Neuronlike Adaptive Elements That
Can Solve Difficult Learning Control Problems" (1983).

    obs     = (qpos, qvel)                                            [4]
    reward  = 1 while |angle| <= 0.2 rad, else 0
    start   : qpos and qvel uniform within reset_noise_scale
    end     : |angle| > 0.2 rad; time limit 1,000 steps of 0.04 s
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from purerl.envs.mujoco.engine.physics import Physics
from purerl.envs.mujoco.options import Setup, load_model, read_kwargs
from purerl.envs.mujoco.task import Task, make_env, uniform
from purerl.types import Array, EnvFunctions, Metrics

MAX_ANGLE = 0.2
"""Angle of the pole from upright (rad), inclusive."""


class Options(NamedTuple):
    """Static options, which shape the program."""

    xml_file: str = "inverted_pendulum.xml"
    frame_skip: int = 2
    """Physics steps of 0.02 s per environment step."""


class Params(NamedTuple):
    """Real-valued parameters; each may be batched."""

    reset_noise_scale: float = 0.01


def make(engine: str = "auto", **task_kwargs: Any) -> EnvFunctions:
    """Return InvertedPendulum on `engine`; keyword arguments: `Options`, `Params` and `Setup`."""
    options, params, setup = read_kwargs(Options(), Params(), Setup(engine), task_kwargs)
    model = load_model(options.xml_file)

    def observe(params: Params, physics: Physics) -> Array:
        return jnp.concatenate([physics.qpos, physics.qvel])

    def reward_and_termination(
        params: Params, physics: Physics, action: Array
    ) -> tuple[Array, Array, Metrics]:
        terminated = jnp.abs(physics.qpos[1]) > MAX_ANGLE
        reward = (~terminated).astype(jnp.float32)
        return reward, terminated, {"reward_survive": reward}

    task = Task(
        name="inverted_pendulum",
        model=model,
        source=options.xml_file,
        frame_skip=options.frame_skip,
        params=params,
        fields=(),
        tracked=(),
        draw=uniform(model),
        observe=observe,
        reward_and_termination=reward_and_termination,
        camera={"trackbodyid": 0, "distance": 2.04},
    )
    return make_env(task, setup)
