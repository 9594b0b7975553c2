"""The interface of a physics engine: the state that a task reads, and the functions of an engine."""

# The names of the mujoco package come from compiled modules, which pyright cannot see into.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from purerl.types import Array

MAX_VALUE = 1e10
"""A simulation with a larger number has diverged: MuJoCo's own bound, mjMAXVAL."""


class Physics(NamedTuple):
    """The state of one simulation after a step or a reset; SI units, MuJoCo's own layout.

    Every float is finite: a diverged simulation reports zeros or the model's initial state, and sets
    `diverged`.
    """

    qpos: Array
    """`[nq]` float32: generalized positions (m, rad, quaternions)."""
    qvel: Array
    """`[nv]` float32: generalized velocities (m/s, rad/s)."""
    fields: dict[str, Array]
    """The requested mjData fields, float32 in mjData's shape: `cfrc_ext [nbody, 6]`, `time []`.

    As in Gymnasium, fields that depend on positions alone are one substep old. `time` (s) belongs to `qpos`
    and `qvel`: it is not.
    """
    change: dict[str, Array]
    """Change of each tracked field over the last environment step, float32 in mjData's shape.

    On `mujoco` it is subtracted before rounding, so `change / dt` is an accurate velocity far from the origin
    too. Zero after a reset.
    """
    row: Any
    """The engine's own state. On `mujoco`, `[2 * size]` uint32: the bits of the float64
    mjSTATE_INTEGRATION. On `mjx`, a dict of float32 arrays."""
    tracked: Any
    """The tracked fields after the step. On `mujoco`, `[2 * size]` uint32: their float64 bits. On
    `mjx`, a dict of float32 arrays."""
    diverged: Array
    """`[]` bool: the simulation diverged during this step."""


class Engine(NamedTuple):
    """Physics of one model at one number of substeps, as pure functions that vmap.

    Static options of the model (solver, gravity, masses) belong to the engine; no task reads them.
    """

    step: Callable[[Physics, Array, dict[str, Array]], Physics]
    """`(physics, ctrl [nu] float32, overrides) -> Physics`, one environment step later.

    `overrides` replaces fields of the model, by name; `{}` leaves it as it is.
    """
    reset: Callable[[Array, Array, Array, dict[str, Array]], Physics]
    """`(needed [] bool, qpos [nq], qvel [nv], overrides) -> Physics` at that state and time 0.

    Unspecified where `needed` is False; the C engine computes nothing there.
    """
    shape: Physics
    """Shapes of both results, as `jax.ShapeDtypeStruct`s."""
    rows_at_once: Callable[[int], int]
    """`N -> number of simulations` to reset at a time, where only some of N need it."""


def field_shapes(model: Any, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Return mjData's shape of each name, `()` for time.

    Raises ValueError for another name without an array of numbers.
    """
    import mujoco

    shapes, data = {}, mujoco.MjData(model)
    for name in names:
        array: Any = getattr(data, name, None)
        if name != "time" and (not isinstance(array, np.ndarray) or array.dtype != np.float64):
            raise ValueError(f"mjData has no array of numbers named {name!r}")
        shapes[name] = np.shape(array)
    return shapes


class EngineError(RuntimeError):
    """The physics engine cannot be used on this machine; the message contains the remedy."""
