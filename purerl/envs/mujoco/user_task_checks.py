"""Checks of the arguments of `mujoco_env`; functions are checked while they are traced."""

# The names of the mujoco package come from compiled modules, which pyright cannot see into.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purerl.config import ConfigError, did_you_mean
from purerl.envs.mujoco.engine.physics import Physics
from purerl.envs.mujoco.task import Task
from purerl.types import Array, Key, Metrics, PyTree

Check = Callable[[Array], Any]


def shapes_of(model: Any) -> dict[str, tuple[int, ...]]:
    """Return the shapes of mjData's time and float arrays by name, without empty ones, which may grow."""
    import mujoco

    data = mujoco.MjData(model)
    arrays = {name: getattr(data, name) for name in dir(data) if not name.startswith("_")}
    floats = {k: v for k, v in arrays.items() if isinstance(v, np.ndarray) and v.dtype == np.float64}
    return {name: array.shape for name, array in floats.items() if array.size} | {"time": ()}


def names_of(argument: str, names: Any, known: dict[str, tuple[int, ...]]) -> tuple[str, ...]:
    """Return `names` as a tuple. Raises ConfigError for one that is not in `known`."""
    if isinstance(names, str):
        raise ConfigError(argument, names, f"a tuple of names: ({names!r},)")
    for name in names:
        if name not in known:
            allowed = "time, or an array of floats of mjData that is not empty for this model"
            raise ConfigError(argument, name, allowed, did_you_mean(str(name), known))
    return tuple(names)


def float32(path: Any, leaf: Any) -> np.ndarray:
    """Return one leaf of the user's parameters as float32. Raises ConfigError that names its `path`."""
    if np.asarray(leaf).dtype.kind not in "fiu":
        where = f"params{jax.tree_util.keystr(path)}"
        raise ConfigError(where, leaf, "a real number, or an array of them")
    return np.asarray(leaf, np.float32)


def draw(start: Callable[..., Any], nq: int, nv: int) -> Callable[[PyTree, Key], tuple[Array, Array]]:
    """Return a `Task.draw` that checks `start(params, key)`."""
    allowed = f"(qpos, qvel), real numbers of shapes ({nq},) and ({nv},)"

    def checked(params: PyTree, key: Key) -> tuple[Array, Array]:
        pair = start(params, key)
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise _refusal("start", pair, allowed)
        qpos = _accept("start", pair[0], lambda array: array.shape == (nq,) and _is_real(array), allowed)
        qvel = _accept("start", pair[1], lambda array: array.shape == (nv,) and _is_real(array), allowed)
        return qpos.astype(jnp.float32), qvel.astype(jnp.float32)

    return checked


def observe(observation: Callable[..., Any]) -> Callable[[PyTree, Physics], Array]:
    """Return a `Task.observe` that checks `observation(params, physics)`."""
    ok = lambda array: array.ndim == 1 and array.size > 0 and jnp.issubdtype(array.dtype, jnp.floating)

    def checked(params: PyTree, physics: Physics) -> Array:
        result = observation(params, _readable(physics))
        obs = _accept("observation", result, ok, "floats of shape (O,)")
        # A diverged simulation reports zeros, whose quotient is NaN.
        return jnp.where(physics.diverged & ~jnp.isfinite(obs), 0.0, obs).astype(jnp.float32)

    return checked


def reward_and_termination(reward: Callable[..., Any], terminated: Callable[..., Any]) -> Callable[..., Any]:
    """Return a `Task.reward_and_termination` that checks both functions."""
    number = lambda array: array.ndim == 0 and (array.dtype == bool or _is_real(array))
    flag = lambda array: array.ndim == 0 and array.dtype == bool
    allowed = "one real number, or a pair of it and a dict of such numbers"

    def checked(params: PyTree, physics: Physics, action: Array) -> tuple[Array, Array, Metrics]:
        physics = _readable(physics)
        result = reward(params, physics, action)
        value, info = result if isinstance(result, tuple) and len(result) == 2 else (result, {})
        value = _accept("reward", value, number, allowed)
        if not isinstance(info, dict):
            raise _refusal("reward", result, allowed)
        if "diverged" in info:
            raise _refusal("reward", result, "an info without 'diverged', a name of the engine")
        info = {name: _accept(f"reward (info {name!r})", info[name], number, allowed) for name in info}
        end = _accept("terminated", terminated(params, physics), flag, "one bool")
        return value.astype(jnp.float32), end, {name: info[name].astype(jnp.float32) for name in info}

    return checked


def trace(task: Task, shapes: dict[str, tuple[int, ...]]) -> None:
    """Trace the functions of `task`, which checks them without compiling; `shapes` are those of mjData."""

    def like(name: str) -> Any:
        return jax.ShapeDtypeStruct(shapes[name], jnp.float32)

    flag: Any = jax.ShapeDtypeStruct((), bool)
    fields, change = ({name: like(name) for name in names} for names in (task.fields, task.tracked))
    physics = Physics(like("qpos"), like("qvel"), fields, change, (), (), flag)
    jax.eval_shape(task.draw, task.params, jax.eval_shape(lambda: jax.random.key(0)))
    jax.eval_shape(task.observe, task.params, physics)
    jax.eval_shape(task.reward_and_termination, task.params, physics, like("ctrl"))


class _Named(dict):
    """A dict whose missing names raise ConfigError with the argument that requests them."""

    argument = "fields"

    def __missing__(self, name: str) -> Any:
        raise ConfigError(self.argument, tuple(self), f"{name!r} too, which the task's functions read")


class _Tracked(_Named):
    argument = "tracked"


def _readable(physics: Physics) -> Physics:
    return physics._replace(fields=_Named(physics.fields), change=_Tracked(physics.change))


def _accept(function: str, value: Any, ok: Check, allowed: str) -> Array:
    """Return `value`, a result of `function`, as an array. Raises ConfigError unless it is `ok`."""
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError) as error:  # None, a string, rows of different lengths
        raise _refusal(function, value, allowed) from error
    if not ok(array):
        raise _refusal(function, value, allowed)
    return array


def _refusal(function: str, value: Any, allowed: str) -> ConfigError:
    show = lambda leaf: f"{leaf.dtype}{list(leaf.shape)}" if hasattr(leaf, "dtype") else leaf
    return ConfigError(f"result of {function}", jax.tree.map(show, value), allowed)


def _is_real(array: Array) -> bool:
    return jnp.issubdtype(array.dtype, jnp.floating) or jnp.issubdtype(array.dtype, jnp.integer)
