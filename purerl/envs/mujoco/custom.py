"""Tasks of a user's own robot: a model and two short functions, on every physics engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purerl.config import ConfigError
from purerl.envs.mujoco import user_model, user_task_checks
from purerl.envs.mujoco.engine.physics import Physics
from purerl.envs.mujoco.options import Setup, read_kwargs
from purerl.envs.mujoco.task import Task, make_env
from purerl.types import Array, EnvFunctions, Key, PyTree


class Options(NamedTuple):
    """Static options, which shape the program."""

    frame_skip: int = 1
    reset_noise_scale: float = 0.01


def mujoco_env(
    name: str,
    model: Any,
    reward: Callable[..., Any],
    terminated: Callable[..., Any] | None = None,
    *,
    observation: Callable[..., Any] | None = None,
    start: Callable[..., Any] | str | int | None = None,
    fields: Sequence[str] = (),
    tracked: Sequence[str] = (),
    frame_skip: int = 1,
    reset_noise_scale: float = 0.01,
    params: PyTree = (),
    camera: Mapping[str, Any] | None = None,
    action_bounds: Any = None,
    assets: Mapping[str, bytes] | None = None,
    engine: str = "auto",
    **setup: Any,
) -> EnvFunctions:
    """Return a task described by a model and pure JAX functions, for `make_train` and `run`.

    The functions take one simulation, as `purerl.envs.mujoco.engine.physics.Physics`: `physics.qpos [nq]`,
    `physics.qvel [nv]`, `physics.fields` and `physics.change`, float32, in MuJoCo's layout and units.

    Args:
        name: name of the environment.
        model: the path of an MJCF file; MJCF as text, which begins with "<"; a `mujoco.MjSpec`; or a
            `mujoco.MjModel`, which is simulated as it is. Objects are copied and stay as they are.
        reward: `(params, physics after the step, action [nu]) -> reward`, or `(reward, info)` with
            `info` a dict of further numbers to report.
        terminated: `(params, physics after the step) -> bool`, the end of the task itself; None never ends
            it. `max_episode_steps` is the time limit; a diverged simulation is terminated in any case.
        observation: `(params, physics) -> [O]`; None gives `qpos` and `qvel`.
        start: `(params, key) -> (qpos [nq], qvel [nv])`; or the name or number of a keyframe of the model;
            or None for its reference pose. A keyframe also sets activations, mocap bodies and the time. A
            pose gets uniform noise on every position and velocity, as is usual in Gymnasium, with
            quaternions normalized.
        fields: "time" (s), and float arrays of mjData, that the functions read from `physics.fields`, such as
            "sensordata", "site_xpos" or "cfrc_ext". As in Gymnasium, those that depend on positions
            alone are one physics step old.
        tracked: arrays whose change over the step the functions read from `physics.change`; divided by
            the duration of the step (s) it is a velocity.
        frame_skip: physics steps per environment step.
        reset_noise_scale: half the width of the noise around a pose.
        params: real numbers for the functions, in any pytree; each may be batched by `vmap`.
        action_bounds: bounds of actuators, each of which needs a `ctrlrange` or bounds from here. A pair
            `(low, high)` is for those without a `ctrlrange` in force; a dict from names to pairs is for the
            actuators that it names, and an array `[nu, 2]` for all, also in place of a `ctrlrange`.
        assets: contents of the files that XML text names, such as meshes, by these names. Others are
            looked for in the working directory.
        camera: default viewpoint of pictures: fields of `mujoco.MjvCamera`.
        engine: auto, mujoco or mjx.
        **setup: `max_episode_steps` (1,000) and the other fields of `purerl.envs.mujoco.options.Setup`.

    Raises ConfigError, before anything is compiled, for a model that cannot be used and for functions
    with other results. Errors raised by the functions themselves pass through.
    """
    given = dict(frame_skip=frame_skip, reset_noise_scale=reset_noise_scale, engine=engine, **setup)
    options, _, how = read_kwargs(Options(), _NoParams(), Setup(), given)
    functions = dict(reward=reward, terminated=terminated, observation=observation)
    for argument, function in functions.items():
        if not callable(function) and (function is not None or argument == "reward"):
            raise ConfigError(argument, function, "a function")
    model, source = user_model.load(model, assets, action_bounds)
    shapes = user_task_checks.shapes_of(model)
    keyframe = -1
    if not callable(start):
        keyframe = -1 if start is None else _find_keyframe(model, start)
        start = _start_near(model, keyframe, options.reset_noise_scale)
    task = Task(
        name=name,
        model=model,
        source=source,
        frame_skip=options.frame_skip,
        params=jax.tree_util.tree_map_with_path(user_task_checks.float32, params),
        fields=user_task_checks.names_of("fields", fields, shapes),
        tracked=user_task_checks.names_of("tracked", tracked, shapes),
        draw=user_task_checks.draw(start, model.nq, model.nv),
        observe=user_task_checks.observe(observation or _positions_and_velocities),
        reward_and_termination=user_task_checks.reward_and_termination(
            reward, terminated or (lambda params, physics: False)
        ),
        keyframe=keyframe,
        camera=camera or {},
    )
    user_task_checks.trace(task, shapes)
    return make_env(task, how)


class _NoParams(NamedTuple):
    """An empty set of parameters for `read_kwargs`: the user's parameters have their own checks."""


def _find_keyframe(model: Any, start: Any) -> int:
    names = [model.key(i).name for i in range(model.nkey)]
    if isinstance(start, str) and start and start in names:
        return names.index(start)
    if isinstance(start, int) and not isinstance(start, bool) and 0 <= start < len(names):
        return start
    known = ", ".join(filter(None, names)) + (", or " if any(names) else "")
    known = f"{known}its number, 0 to {len(names) - 1}" if names else "it has none"
    raise ConfigError("start", start, f"a function, None, or a keyframe of the model: {known}")


def _start_near(model: Any, keyframe: int, scale: float) -> Callable[[Any, Key], tuple[Array, Array]]:
    pose = model.qpos0, np.zeros(model.nv)
    if keyframe >= 0:
        pose = model.key(keyframe).qpos, model.key(keyframe).qvel
    qpos, qvel = (np.array(part, np.float32) for part in pose)
    joints = zip(model.jnt_type, model.jnt_qposadr, strict=True)
    # A quaternion follows the position of a free joint (type 0), and is all of a ball joint (type 1).
    places = [int(first) + 3 * (kind == 0) for kind, first in joints if kind < 2]

    def draw(params: Any, key: Key) -> tuple[Array, Array]:
        key_qpos, key_qvel = jax.random.split(key)
        near = jnp.add(qpos, scale * jax.random.uniform(key_qpos, qpos.shape, jnp.float32, -1.0))
        for i in places if scale else ():
            near = near.at[i : i + 4].divide(jnp.linalg.norm(near[i : i + 4]))
        return near, jnp.add(qvel, scale * jax.random.uniform(key_qvel, qvel.shape, jnp.float32, -1.0))

    return draw


def _positions_and_velocities(params: Any, physics: Physics) -> Array:
    return jnp.concatenate([physics.qpos, physics.qvel])
