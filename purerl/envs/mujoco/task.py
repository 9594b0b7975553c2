"""A MuJoCo task as data and pure functions, and the environment built from it on either engine."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from purerl.envs.masked_vmap import where_needed
from purerl.envs.mujoco.engine import c, mjx, outline
from purerl.envs.mujoco.engine.collision_pairs import with_listed_pairs
from purerl.envs.mujoco.engine.physics import Engine, Physics
from purerl.envs.mujoco.options import Setup, choose_engine, find_file
from purerl.envs.mujoco.render import make_render
from purerl.types import Array, EnvFunctions, Key, Metrics, PyTree


class Task(NamedTuple):
    """A task over the named physics fields of one model: pure functions of one simulation."""

    name: str
    model: Any
    """A `mujoco.MjModel`."""
    source: Any
    """The file or the `mujoco.MjSpec` from which it was compiled; None if neither is known."""
    frame_skip: int
    """Physics steps per environment step."""
    params: PyTree
    """Defaults of the real-valued parameters, float32 leaves."""
    fields: tuple[str, ...]
    tracked: tuple[str, ...]
    """mjData arrays that the task reads from `Physics.fields` and from `Physics.change`."""
    draw: Callable[[PyTree, Key], tuple[Array, Array]]
    """`(params, key) -> (qpos [nq], qvel [nv])`, the start of an episode."""
    observe: Callable[[PyTree, Physics], Array]
    """`(params, physics) -> obs [O]` float32."""
    reward_and_termination: Callable[[PyTree, Physics, Array], tuple[Array, Array, Metrics]]
    """`(params, physics after the step, action) -> (reward, terminated, info)`."""
    keyframe: int = -1
    """Number of the model's keyframe that sets the rest of the state at a start: activations, mocap bodies,
    time. -1 is the model's own initial state."""
    camera: Mapping[str, Any] = MappingProxyType({})
    """Default viewpoint of pictures: fields of `mujoco.MjvCamera`."""


class PhysicalParams(NamedTuple):
    """Parameters of a task and replaced fields of its model: see `with_model`."""

    task: PyTree
    model: dict[str, Array]


class State(NamedTuple):
    """The state of a MuJoCo environment."""

    physics: Physics
    time: Array
    """`[]` int32: environment steps since the reset."""


def make_env(task: Task, setup: Setup) -> EnvFunctions:
    """Return the environment of `task`, simulated according to `setup`."""
    engine = _make_engine(task, setup)

    def place(needed: Array, key: Key, params: PhysicalParams) -> Physics:
        return engine.reset(needed, *task.draw(params.task, key), params.model)

    place_some = where_needed(place, engine.rows_at_once)

    def reset(key: Key, params: PyTree = None, needed: Array | bool = True) -> tuple[Array, State]:
        params = split(params)
        physics = (place if outline.is_wanted() else place_some)(jnp.asarray(needed), key, params)
        return task.observe(params.task, physics), State(physics, jnp.int32(0))

    def step(key: Key, state: State, action: Array, params: PyTree = None):
        del key  # the physics is deterministic
        params = split(params)
        physics = engine.step(state.physics, action, params.model)
        reward, terminated, info = task.reward_and_termination(params.task, physics, action)
        # An infinite action gives a reward that is not finite, even where the physics clamps it.
        diverged = physics.diverged | ~jnp.isfinite(reward)
        info = {name: jnp.where(diverged, 0.0, value) for name, value in info.items()}
        info["diverged"] = diverged.astype(jnp.float32)
        time = state.time + 1
        return (
            task.observe(params.task, physics),
            State(physics, time),
            jnp.where(diverged, 0.0, reward),
            terminated | diverged,
            time >= setup.max_episode_steps,
            info,
        )

    def split(params: PyTree) -> PhysicalParams:
        if isinstance(params, PhysicalParams):
            return params._replace(task=task.params if params.task is None else params.task)
        return PhysicalParams(task.params if params is None else params, {})

    obs = jax.eval_shape(task.observe, task.params, engine.shape)  # nothing is compiled
    low, high = task.model.actuator_ctrlrange.astype(np.float32).T
    return EnvFunctions(
        name=task.name,
        reset=reset,
        step=step,
        observation_space=spaces.Box(-np.inf, np.inf, obs.shape, np.float32),
        action_space=spaces.Box(low, high, dtype=np.float32),
        max_episode_steps=setup.max_episode_steps,
        default_params=task.params,
        render=make_render(task.model, task.camera),
    )


def with_model(params: PyTree, **fields: Array) -> PhysicalParams:
    """Return parameters for `reset` and `step` that also replace fields of the physical model.

    Args:
        params: the task's own parameters; None for its defaults.
        **fields: arrays of mjModel by name, in its shape: `body_mass`, `geom_friction`,
            `opt_gravity` for `opt.gravity`. Each may be batched with `vmap`. Numbers that MuJoCo derives
            from them when it compiles a model (such as `body_invweight0`) keep their values.

    For engine `mjx` only; `reset` and `step` on `mujoco` raise ConfigError.
    """
    return PhysicalParams(params, fields)


def _make_engine(task: Task, setup: Setup) -> Engine:
    on_c = choose_engine(setup, task.model) == "mujoco"
    model, source = task.model, task.source
    if on_c and source is not None:
        model = with_listed_pairs(model, find_file(source) if isinstance(source, str | Path) else source)
    arguments = _with_iterations(model, setup), task.frame_skip, task.fields, task.tracked
    if on_c:
        engine = c.make_engine(*arguments, setup.num_threads, setup.route or "auto", task.keyframe)
    else:
        engine = mjx.make_engine(*arguments, setup.impl or "jax", task.keyframe, setup.contacts)
    plain = _with_iterations(task.model, setup)
    facts = plain, source, task.frame_skip, task.keyframe, engine.shape, task.camera
    return outline.with_outline(engine, outline.Outline(*facts))


def _with_iterations(model: Any, setup: Setup) -> Any:
    """Return a copy of a `mujoco.MjModel` with the iterations of `setup`."""
    model = copy.copy(model)
    if setup.solver_iterations is not None:
        model.opt.iterations = setup.solver_iterations
    if setup.ls_iterations is not None:
        model.opt.ls_iterations = setup.ls_iterations
    return model


def uniform(model: Any) -> Callable[[Any, Key], tuple[Array, Array]]:
    """Return a `Task.draw`: positions and velocities uniform within `params.reset_noise_scale`."""
    return _near_the_start(model, partial(jax.random.uniform, dtype=jnp.float32, minval=-1.0))


def uniform_and_normal(model: Any) -> Callable[[Any, Key], tuple[Array, Array]]:
    """Return a `Task.draw`: positions uniform within, velocities normal with, `reset_noise_scale`."""
    return _near_the_start(model, partial(jax.random.normal, dtype=jnp.float32))


def _near_the_start(model: Any, draw_velocity: Callable) -> Callable[[Any, Key], tuple[Array, Array]]:
    init_qpos = np.asarray(model.qpos0, np.float32)

    def draw(params: Any, key: Key) -> tuple[Array, Array]:
        key_qpos, key_qvel = jax.random.split(key)
        scale = params.reset_noise_scale
        qpos = init_qpos + scale * jax.random.uniform(key_qpos, (model.nq,), jnp.float32, -1.0)
        return qpos, scale * draw_velocity(key_qvel, (model.nv,))

    return draw
