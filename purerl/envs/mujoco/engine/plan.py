"""A model, its substeps and the fields to report: the input of both routes of the C engine."""

# The names of the mujoco package come from compiled modules, which pyright cannot see into.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from purerl.types import Array

Shapes = dict[str, tuple[int, ...]]
"""mjData's shape of each named array."""


class Plan(NamedTuple):
    """Everything that a route needs to step one model."""

    model: Any
    """A private copy of the `mujoco.MjModel`."""
    frame_skip: int
    fields: Shapes
    """Arrays to report, in the order of `packed`."""
    tracked: Shapes
    """Arrays whose change over a step follows the fields in `packed`."""
    num_threads: int
    keyframe: int = -1
    """Number of the model's keyframe at which resets begin; -1 is the model's own initial state."""

    @property
    def row_size(self) -> int:
        """Length of the mjSTATE_INTEGRATION row."""
        import mujoco

        return mujoco.mj_stateSize(self.model, mujoco.mjtState.mjSTATE_INTEGRATION)

    @property
    def tracked_size(self) -> int:
        """Length of the tracked fields."""
        return _size(self.tracked)

    @property
    def packed_size(self) -> int:
        """Length of a report: fields, changes, and one flag for a diverged simulation."""
        return _size(self.fields) + _size(self.tracked) + 1


class Route(NamedTuple):
    """One way to run a plan; results are `(row uint32, tracked uint32, packed float32)`."""

    step: Callable[..., Sequence[Array]]
    """`(results, row, tracked, ctrl)`, where `results` are the `jax.ShapeDtypeStruct`s."""
    reset: Callable[..., Sequence[Array]]
    """`(results, needed, qpos, qvel)`."""


def usable_cpus() -> int:
    """Return the number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _size(shapes: Shapes) -> int:
    return sum(math.prod(shape) for shape in shapes.values())
