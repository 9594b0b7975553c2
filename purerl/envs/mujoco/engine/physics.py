"""What a task sees of the physics, whichever engine computes it."""

# The names of the mujoco package come from compiled modules, which pyright cannot see into.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from purerl.types import Array

MAX_VALUE = 1e10
"""A simulation with a larger number has broken down: MuJoCo's own bound, mjMAXVAL."""


class Physics(NamedTuple):
    """The state of one simulation after a step or a reset; SI units, MuJoCo's own layout.

    Every float is finite: what diverged is replaced by zeros or by the model's initial state, and
    `diverged` says so.
    """

    qpos: Array
    """`[nq]` float32: generalized positions (m, rad, quaternions)."""
    qvel: Array
    """`[nv]` float32: generalized velocities (m/s, rad/s)."""
    fields: dict[str, Array]
    """The mjData fields that the task names, float32 in mjData's shape: `cfrc_ext [nbody, 6]`.

    As in Gymnasium, those that follow from positions alone are one substep old.
    """
    change: dict[str, Array]
    """What each tracked field gained over the last environment step, float32 in mjData's shape.

    Subtracted before rounding, so `change / dt` is a good velocity far from the origin too. Zero
    after a reset.
    """
    row: Any
    """What the engine itself goes on from. On `mujoco`, `[2 * size]` uint32: the bits of the float64
    mjSTATE_INTEGRATION. On `mjx`, a dict of float32 arrays."""
    tracked: Any
    """The tracked fields after the step. On `mujoco`, `[2 * size]` uint32: their float64 bits. On
    `mjx`, a dict of float32 arrays."""
    diverged: Array
    """`[]` bool: the simulation broke down during this step."""


class Engine(NamedTuple):
    """Physics of one model at one number of substeps, as pure functions that vmap.

    Static options of the model (solver, gravity, masses) are the engine's; no task sees them.
    """

    step: Callable[[Physics, Array, dict[str, Array]], Physics]
    """`(physics, ctrl [nu] float32, overrides) -> Physics`, one environment step later.

    `overrides` are fields of the model that differ from it, by name; `{}` if the model stands.
    """
    reset: Callable[[Array, Array, Array, dict[str, Array]], Physics]
    """`(needed [] bool, qpos [nq], qvel [nv], overrides) -> Physics` there, at time 0.

    Unspecified where `needed` is False, and there nothing is computed if the engine can help it.
    """
    shape: Physics
    """What both return, as `jax.ShapeDtypeStruct`s."""
    rows_at_once: Callable[[int], int]
    """How many of N simulations a reset should place at a time, where only some of N need it."""


def field_shapes(model: Any, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """name -> mjData's shape. Raises ValueError if it has no array of numbers of that name."""
    import mujoco

    shapes, data = {}, mujoco.MjData(model)
    for name in names:
        array = getattr(data, name, None)
        if not isinstance(array, np.ndarray) or array.dtype != np.float64:
            raise ValueError(f"mjData has no array of numbers named {name!r}")
        shapes[name] = array.shape
    return shapes


class EngineError(RuntimeError):
    """The physics engine cannot be used on this machine; the message says what to do."""
