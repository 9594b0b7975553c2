"""Types, spaces and names that the adapters of other libraries share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from purerl.config import ConfigError, did_you_mean
from purerl.types import Array, PyTree

INFINITE = 0.99 * np.finfo(np.float32).max
"""Larger bounds count as infinite, since many libraries write float32's maximum."""


class Timed(NamedTuple):
    """State of another library's environment, and the clock of the episode."""

    inner: PyTree
    time: Array
    """`[]` int32: steps since the reset."""


def same_types(name: str, started: PyTree, moved: Callable[[PyTree], PyTree]) -> PyTree:
    """Return the shapes and dtypes that a state keeps over a step, as `jax.ShapeDtypeStruct`s.

    Where a reset gives an int and a step a float, it is the float; nothing is weakly typed.

    Args:
        name: of the environment.
        started: the state after a reset, as `jax.eval_shape` gives it.
        moved: state -> the state after a step; it is traced.

    Raises:
        ConfigError: if the state has another structure or other shapes after a step.
    """
    state = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), started)
    while True:  # ends, since dtypes only widen
        after = jax.eval_shape(moved, state)
        _check_structure(name, state, after)
        joint = jax.tree.map(_wider, state, after)
        if jax.tree.leaves(joint) == jax.tree.leaves(state):
            return joint
        state = joint


def _check_structure(name: str, state: PyTree, after: PyTree) -> None:
    before, now = (
        {jax.tree_util.keystr(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
        for tree in (state, after)
    )
    wrong = [path for path in before | now if before.get(path) != now.get(path)]
    if wrong or jax.tree.structure(state) != jax.tree.structure(after):
        where = ", ".join(wrong[:3]) or "the types of its containers"
        what = f"a step that keeps the structure and the shapes of its state, got other ones: {where}"
        raise ConfigError("env", name, what)


def _wider(one: Any, two: Any) -> jax.ShapeDtypeStruct:
    dtype = one.dtype if one.dtype == two.dtype else jnp.promote_types(one.dtype, two.dtype)
    return jax.ShapeDtypeStruct(one.shape, dtype)


def cast(tree: PyTree, like: PyTree) -> PyTree:
    """Return `tree` with the dtypes of `like`, none of them weak."""
    return jax.tree.map(lambda leaf, to: jnp.asarray(leaf, to.dtype), tree, like)


def as_observation(obs: Array) -> Array:
    """Return `obs` as float32, or as it is if uint8."""
    return obs if obs.dtype == jnp.uint8 else jnp.asarray(obs, jnp.float32)


def box(low: Any, high: Any, shape: tuple[int, ...], dtype: Any = np.float32) -> spaces.Box:
    """Return a Box of `shape` between bounds that broadcast to it: uint8 if `dtype` is, else float32."""

    def bound(value: Any) -> np.ndarray:
        value = np.broadcast_to(np.asarray(value, np.float64), shape)
        return np.where(np.abs(value) > INFINITE, np.copysign(np.inf, value), value).astype(ours)

    ours = np.uint8 if dtype == np.uint8 else np.float32
    return spaces.Box(bound(low), bound(high), dtype=ours)


def name_of(library: str, env: Any) -> str:
    """Return the id of the environment `env` of `library`, for `make_env`.

    Raises ConfigError unless `env` is a plain name: an id may not name a module to import.
    """
    if not isinstance(env, str) or not env or any(c in env for c in ":/\\"):
        raise ConfigError("env", env, f"the name of an environment of {library}, without a module or a path")
    return f"{library}:{env}"


def known_id(library: str, env: str, known: Iterable[str]) -> None:
    """Raise ConfigError, with the nearest id, if `env` is not among the `known` ones of `library`."""
    known = sorted(known)
    if env not in known:
        nearest = did_you_mean(env, known).replace("mean ", f"mean {library}:")
        raise ConfigError("env", f"{library}:{env}", f"one of {library}'s {', '.join(known)}", nearest)


def missing(name: str, package: str, error: ImportError) -> ConfigError:
    """Return the error for the environment `name` whose library cannot be imported."""
    what = f"an environment whose package {package} is installed"
    return ConfigError("env", name, what, f"Try pip install {package} ({error}).")


def made(name: str, make: Callable[[], Any]) -> Any:
    """Return `make()`. Raise ConfigError with the reason if its options are invalid."""
    try:
        return make()
    except (AttributeError, KeyError, TypeError, ValueError, NotImplementedError) as error:
        what = f"an environment that can be made with these options, got {type(error).__name__}: {error}"
        raise ConfigError("env", name, what) from error
