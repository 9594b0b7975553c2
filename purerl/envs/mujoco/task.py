"""From the description of a MuJoCo task to an environment, on any engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from jax.custom_batching import custom_vmap

from purerl.config import ConfigError, did_you_mean
from purerl.envs.mujoco.physics import Engine, Physics
from purerl.types import Array, EnvFunctions, Key, Metrics, PyTree


class Task(NamedTuple):
    """A task over the named physics fields of one model: pure functions of one simulation."""

    name: str
    model: Any
    """A `mujoco.MjModel`."""
    frame_skip: int
    """Physics steps per environment step."""
    params: PyTree
    """Defaults of the real-valued parameters, float32 leaves."""
    fields: tuple[str, ...]
    tracked: tuple[str, ...]
    """mjData arrays that the task reads in `Physics.fields` and in `Physics.change`."""
    draw: Callable[[PyTree, Key], tuple[Array, Array]]
    """`(params, key) -> (qpos [nq], qvel [nv])`, where an episode starts."""
    observe: Callable[[PyTree, Physics], Array]
    """`(params, physics) -> obs [O]` float32."""
    judge: Callable[[PyTree, Physics, Array], tuple[Array, Array, Metrics]]
    """`(params, physics after the step, action) -> (reward, terminated, info)`."""
    max_episode_steps: int = 1000


class State(NamedTuple):
    """The state of a MuJoCo environment."""

    physics: Physics
    time: Array
    """`[]` int32: environment steps since the reset."""


def make_env(task: Task, engine: str = "auto") -> EnvFunctions:
    """The environment of `task`. Raises ConfigError for an unknown engine."""
    physics_engine = _make_engine(task, engine)

    @_where_needed
    def place(needed: Array, key: Key, params: PyTree) -> Physics:
        return physics_engine.reset(needed, *task.draw(params, key))

    def reset(key: Key, params: PyTree = None, needed: Array | bool = True) -> tuple[Array, State]:
        params = task.params if params is None else params
        physics = place(jnp.asarray(needed), key, params)
        return task.observe(params, physics), State(physics, jnp.int32(0))

    def step(key: Key, state: State, action: Array, params: PyTree = None):
        del key  # the physics is deterministic
        params = task.params if params is None else params
        physics = physics_engine.step(state.physics, action)
        reward, terminated, info = task.judge(params, physics, action)
        # An infinite action makes a reward that is no number, even where the physics clamps it.
        diverged = physics.diverged | ~jnp.isfinite(reward)
        info = {name: jnp.where(diverged, 0.0, value) for name, value in info.items()}
        info["diverged"] = diverged.astype(jnp.float32)
        time = state.time + 1
        return (
            task.observe(params, physics),
            State(physics, time),
            jnp.where(diverged, 0.0, reward),
            terminated | diverged,
            time >= task.max_episode_steps,
            info,
        )

    obs, _ = jax.eval_shape(lambda: reset(jax.random.key(0)))  # nothing is compiled
    low, high = task.model.actuator_ctrlrange.astype(np.float32).T
    return EnvFunctions(
        name=task.name,
        reset=reset,
        step=step,
        observation_space=spaces.Box(-np.inf, np.inf, obs.shape, np.float32),
        action_space=spaces.Box(low, high, dtype=np.float32),
        max_episode_steps=task.max_episode_steps,
        default_params=task.params,
    )


def _make_engine(task: Task, engine: str) -> Engine:
    if engine == "mjx":
        raise ConfigError("engine", engine, "MJX is not available yet; use 'mujoco'")
    if engine not in ("auto", "mujoco"):
        options = ("auto", "mujoco", "mjx")
        raise ConfigError("engine", engine, f"one of {', '.join(options)}", did_you_mean(engine, options))
    from purerl.envs.mujoco import native

    return native.make_engine(task.model, task.frame_skip, task.fields, task.tracked)


def _where_needed(function: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """`function(needed, *args)`, run only if `needed` holds anywhere in the batch; else zeros.

    Episodes end rarely, so most steps of a rollout then pay neither for the draws of a reset nor
    for its physics. A plain `lax.cond` on each row's own flag would do so only until `vmap` turned
    it into a select that runs both sides; here every `vmap`, nested ones too, widens the question
    from "this row?" to "any row?" and the branch stays a branch.
    """

    @custom_vmap
    def run(needed, *args):
        result = jax.eval_shape(function, needed, *args)
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), result)
        return jax.lax.cond(jnp.any(needed), function, lambda *_: zeros, needed, *args)

    @run.def_vmap
    def run_batched(axis_size, in_batched, *args):
        axes = jax.tree.map(lambda batched: 0 if batched else None, tuple(in_batched))
        batched = jax.vmap(function, in_axes=axes, axis_size=axis_size)
        result = _where_needed(batched)(*args)
        return result, jax.tree.map(lambda _: True, result)

    return run


def uniform_and_normal(model: Any) -> Callable[[Any, Key], tuple[Array, Array]]:
    """A `Task.draw`: positions within, velocities normal with, `params.reset_noise_scale`."""
    init_qpos = np.asarray(model.qpos0, np.float32)

    def draw(params: Any, key: Key) -> tuple[Array, Array]:
        key_qpos, key_qvel = jax.random.split(key)
        scale = params.reset_noise_scale
        qpos = init_qpos + scale * jax.random.uniform(key_qpos, (model.nq,), minval=-1.0)
        return qpos, scale * jax.random.normal(key_qvel, (model.nv,))

    return draw
