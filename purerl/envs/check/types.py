"""Shapes and dtypes of what `reset` and `step` return; the functions are traced and not run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from gymnasium import spaces

from purerl.envs.check.interface import OBS_DTYPES, Check, Task, attempt, fault
from purerl.rollout import env_action, uniform_action
from purerl.types import PyTree

Shape = jax.ShapeDtypeStruct
IMPL = "threefry2x32"
"""Generator of all keys: with others a row's numbers depend on the batch it is drawn in."""
SCALARS = {"reward": "float32", "terminated": "bool", "truncated": "bool"}


class Result(NamedTuple):
    """Values that `reset` returned, or `step` without `info`."""

    obs: Any
    state: Any
    reward: Any = None
    terminated: Any = None
    truncated: Any = None


def named(function: str, result: Result) -> dict[str, Any]:
    """Return the leaves of `result` by the names that faults call them, such as "step's state.time"."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(result)
    return {f"{function}'s {jax.tree_util.keystr(path)[1:]}": leaf for path, leaf in leaves}


def random_actions(task: Task, key: jax.Array, num: int) -> jax.Array:
    """Draw actions `[num, A]` in the units of the environment."""
    return env_action(task.action_space, uniform_action(task.action_space, key, num))


def check_types(task: Task) -> Check:
    """Check the traced results of `reset` and `step`, alone and under `vmap`."""
    key = jax.random.key(0, impl=IMPL)
    reset = lambda key, needed: task.reset(key, params=task.params, needed=needed)
    values = yield from _trace("reset", "(obs, state)", reset, key, True)
    if values is None:
        return
    started = Result(*values)
    yield from _check_observation(started.obs, task.observation_space)
    yield from _check_strong("reset", started)
    step = lambda key, state, action: task.step(key, state, action, params=task.params)
    action = jax.eval_shape(lambda key: random_actions(task, key, 1)[0], key)
    args = (key, _batched(started.state), action)
    values = yield from _trace("step", "(obs, state, reward, terminated, truncated, info)", step, *args)
    if values is None:
        return
    yield from _check_same(Result(*values[:2]), started)
    yield from _check_strong("step", Result(*values[:2]))
    for (name, dtype), value in zip(SCALARS.items(), values[2:5], strict=True):
        if (found := _type(value)) != f"{dtype}[]":
            yield fault(f"step's {name}", f"{dtype}[]", found, f"Return jnp.asarray({name}, {dtype!r}).")
    if not isinstance(values[5], dict):
        yield fault("step's info", "a dict", _type(values[5]))
    yield from _check_batches("reset", lambda params, key: task.reset(key, params), task.params, args[:1])
    yield from _check_batches("step", lambda params, *args: task.step(*args, params)[:5], task.params, args)


def _trace(name: str, expected: str, function: Callable, *args: Any) -> Check:
    """Return the shapes of `function(*args)`, or None if there are not as many values as expected."""
    values = yield from attempt(name, lambda: (jax.eval_shape(function, *args),))
    if values is None:
        return None
    (values,) = values
    found = f"{len(values)} values" if isinstance(values, tuple | list) else _type(values)
    if found == f"{expected.count(',') + 1} values":
        return values
    yield fault(name, expected, found)
    return None


def _type(value: Any) -> str:
    if not isinstance(value, Shape):
        return f"a {type(value).__name__}"
    return f"{'weakly typed ' if value.weak_type else ''}{value.dtype}{list(value.shape)}"


def _check_observation(obs: Any, space: Any, name: str = "reset's obs") -> Iterator[str]:
    if isinstance(space, spaces.Dict):
        parts = ", ".join(space.spaces)
        if not isinstance(obs, dict) or obs.keys() != space.spaces.keys():
            found = f"one with {', '.join(map(str, obs))}" if isinstance(obs, dict) else _type(obs)
            yield fault(name, f"a dict with {parts}, as in observation_space", found)
            return
        for part, box in space.spaces.items():
            yield from _check_observation(obs[part], box, f"{name}[{part!r}]")
        return
    allowed = [OBS_DTYPES[str(space.dtype)]] if space else ["float32", "uint8"]
    if not isinstance(obs, Shape):
        yield fault(name, "one array", _type(obs))
    elif str(obs.dtype) not in allowed:
        yield fault(name, f"{' or '.join(allowed)}, to fit observation_space", _type(obs))
    elif space and obs.shape != space.shape:
        yield fault(name, f"shape {space.shape}, as in observation_space", f"shape {obs.shape}")


def _check_strong(function: str, result: Result) -> Iterator[str]:
    """Check that no leaf is weakly typed: its dtype could change, and programs would compile again."""
    for name, leaf in named(function, result).items():
        if leaf.weak_type:
            yield fault(name, "a strong type", _type(leaf), f"Return jnp.asarray(..., {str(leaf.dtype)!r}).")


def _check_same(moved: Result, started: Result) -> Iterator[str]:
    """Check that trees, shapes and dtypes agree after a step and after a reset."""
    ours, theirs = (
        {name: f"{leaf.dtype}{list(leaf.shape)}" for name, leaf in named("step", result).items()}
        for result in (moved, started)
    )
    names = [name for name in theirs | ours if ours.get(name) != theirs.get(name)]
    for name in names:
        yield fault(name, f"{theirs.get(name, 'nothing')} as from reset", ours.get(name, "nothing"))
    one, two = (str(jax.tree.structure(result)) for result in (moved, started))
    if not names and one != two:
        yield fault("step's obs and state", f"the tree {two} as from reset", one)


def _batched(tree: PyTree, *axes: int) -> PyTree:
    """Return the shapes of `tree` after leading `axes`, strongly typed."""
    return jax.tree.map(lambda leaf: Shape((*axes, *np.shape(leaf)), jax.typeof(leaf).dtype), tree)


def _check_batches(name: str, function: Callable, params: PyTree, args: tuple) -> Iterator[str]:
    """Check that `vmap` adds one axis, two axes, and an axis of the parameters; stop at the first fault."""
    batch = jax.vmap(partial(function, params))
    calls = [(f"vmap({name})", batch, _batched(args, 2))]
    calls += [(f"vmap(vmap({name}))", jax.vmap(batch), _batched(args, 2, 3))]
    if jax.tree.leaves(params):
        over = jax.vmap(function, (0, *[None] * len(args)))
        calls += [(f"vmap({name}) over params", over, (_batched(params, 2), *args))]
    for call, batched, shapes in calls:
        if faults := [*attempt(call, partial(jax.eval_shape, batched, *shapes))]:
            yield from faults
            return
