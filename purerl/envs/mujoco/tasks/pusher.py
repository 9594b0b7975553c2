"""Pusher: an arm of seven joints over a table, rewarded for pushing a cylinder to its goal.

Gymnasium's Pusher-v5. The cylinder and the goal are part of the state: their places are qpos[7:].

    obs     = (arm's qpos [7], arm's qvel [7], places of its tip, the cylinder and the goal [3 each]) [23]
    reward  = -reward_near_weight * |cylinder - tip| - reward_dist_weight * |cylinder - goal|
              - reward_control_weight * |action|^2
    start   : the arm at its place, its velocities uniform within 0.005 rad/s; the cylinder on a
              rectangle beside the goal, more than 0.17 m from it; both at rest
    end     : never; time limit 100 steps of 0.05 s
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purerl.envs.mujoco.engine.physics import Physics
from purerl.envs.mujoco.options import Setup, find_body, load_model, read_kwargs
from purerl.envs.mujoco.task import Task, make_env
from purerl.types import Array, EnvFunctions, Key, Metrics

LOW, HIGH, APART = np.array([-0.3, -0.2]), np.array([0.0, 0.2]), 0.17
"""Corners of the cylinder's rectangle, and its least distance from the goal (m)."""
CANDIDATES = 32
"""Places drawn at once. 38 % are too near, so all 32 are once in 3e13 resets."""


class Options(NamedTuple):
    """Static options, which shape the program."""

    xml_file: str = "pusher_v5.xml"
    frame_skip: int = 5
    """Physics steps of 0.01 s per environment step."""


class Params(NamedTuple):
    """Real-valued parameters; each may be batched."""

    reward_near_weight: float = 0.5
    reward_dist_weight: float = 1.0
    reward_control_weight: float = 0.1


def make(engine: str = "auto", **task_kwargs: Any) -> EnvFunctions:
    """Return Pusher on `engine`; keyword arguments are the fields of `Options`, `Params` and `Setup`."""
    setup = Setup(engine, max_episode_steps=100, contacts="approximate")  # of the arm and the object
    options, params, setup = read_kwargs(Options(), Params(), setup, task_kwargs)
    model = load_model(options.xml_file)
    find = lambda name: find_body(model, name, "xml_file", options.xml_file)
    bodies = np.array([find(name) for name in ("tips_arm", "object", "goal")])

    def observe(params: Params, physics: Physics) -> Array:
        places = physics.fields["xpos"][bodies].reshape(-1)
        return jnp.concatenate([physics.qpos[:7], physics.qvel[:7], places])

    def reward_and_termination(
        params: Params, physics: Physics, action: Array
    ) -> tuple[Array, Array, Metrics]:
        tip, cylinder, goal = physics.fields["xpos"][bodies]
        info = {
            "reward_dist": -params.reward_dist_weight * jnp.linalg.norm(cylinder - goal),
            "reward_ctrl": -params.reward_control_weight * jnp.sum(jnp.square(action)),
            "reward_near": -params.reward_near_weight * jnp.linalg.norm(cylinder - tip),
        }
        return info["reward_dist"] + info["reward_ctrl"] + info["reward_near"], jnp.bool_(False), info

    task = Task(
        name="pusher",
        model=model,
        source=options.xml_file,
        frame_skip=options.frame_skip,
        params=params,
        fields=("xpos",),
        tracked=(),
        draw=_make_draw(model),
        observe=observe,
        reward_and_termination=reward_and_termination,
        camera={"trackbodyid": -1, "distance": 4.0},
    )
    return make_env(task, setup)


def _make_draw(model: Any):
    init_qpos = np.asarray(model.qpos0, np.float32)

    def draw(params: Params, key: Key) -> tuple[Array, Array]:
        key_place, key_qvel = jax.random.split(key)
        places = jax.random.uniform(key_place, (CANDIDATES, 2), jnp.float32, LOW, HIGH)
        place = places[jnp.argmax(jnp.linalg.norm(places, axis=1) > APART)]  # first far enough
        qpos = jnp.asarray(init_qpos).at[-4:-2].set(place).at[-2:].set(0.0)
        qvel = jax.random.uniform(key_qvel, (model.nv,), jnp.float32, -0.005, 0.005)
        return qpos, qvel.at[-4:].set(0.0)

    return draw
