"""Explicit ranks and dtypes, so that programs are the same under JAX's global switches."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import jax
import jax.numpy as jnp

from purerl.types import Array, PyTree


def to_rank(array: Any, ndim: int) -> Array:
    """Return `array [*shape]` with leading axes of length 1 up to `ndim` axes: `[1, ..., *shape]`."""
    return array.reshape((1,) * (ndim - array.ndim) + array.shape)


def of_action(values: Array, action: Array) -> Array:
    """Return what belongs to the action of each row: `[B, K, ...]` and `[B]` int32 to `[B, ...]`."""
    index = action.reshape(-1, *[1] * (values.ndim - 1))
    return jnp.take_along_axis(values, index, axis=1)[:, 0]


def lenient(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function`, of a library that needs JAX's default promotion of ranks and dtypes."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
            return function(*args, **kwargs)

    return call


def without_float64(tree: PyTree) -> PyTree:
    """Return `tree` with float32 in the place of float64, which JAX has with `jax_enable_x64` only."""

    def narrowed(leaf: Any) -> Any:
        return jnp.asarray(leaf, jnp.float32) if getattr(leaf, "dtype", None) == jnp.float64 else leaf

    return jax.tree.map(narrowed, tree)
