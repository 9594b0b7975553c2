"""C MuJoCo as pure functions inside the XLA program: the default engine on a CPU.

A step is bit for bit what Gymnasium computes: the float64 state travels through the program as an
opaque row of uint32, and only what a task sees is rounded to float32. The same step has two routes:
`native.py`, a C++ handler that XLA calls, and `callback.py`, plain Python, for machines without a C++
compiler and for programs on an accelerator.
"""

# The names of the mujoco package come from compiled modules, which pyright cannot see into.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import copy
import functools
import logging
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purerl.config import ConfigError
from purerl.envs.mujoco.engine.physics import Engine, EngineError, Physics, field_shapes
from purerl.types import Array


class Plan(NamedTuple):
    """What to simulate and what to look at; both routes work from it."""

    model: Any
    """A `mujoco.MjModel`, nobody else's."""
    frame_skip: int
    fields: dict[str, tuple[int, ...]]
    """name -> mjData's shape of the arrays to hand out, in the order of `packed`."""
    tracked: dict[str, tuple[int, ...]]
    """The same of those whose change over a step follows them in `packed`."""
    num_threads: int

    @property
    def row_size(self) -> int:
        """Numbers in the mjSTATE_INTEGRATION row."""
        import mujoco

        return mujoco.mj_stateSize(self.model, mujoco.mjtState.mjSTATE_INTEGRATION)

    @property
    def tracked_size(self) -> int:
        """Numbers in the tracked fields."""
        return _size(self.tracked)

    @property
    def packed_size(self) -> int:
        """Numbers handed out: fields, changes, and whether the simulation broke down."""
        return _size(self.fields) + _size(self.tracked) + 1


class Route(NamedTuple):
    """One way to run a plan; results are `(row uint32, tracked uint32, packed float32)`."""

    step: Callable[..., Sequence[Array]]
    """`(results, row, tracked, ctrl)`, where `results` are the `jax.ShapeDtypeStruct`s."""
    reset: Callable[..., Sequence[Array]]
    """`(results, needed, qpos, qvel)`."""


def make_engine(
    model: Any,
    frame_skip: int,
    fields: Sequence[str] = (),
    tracked: Sequence[str] = (),
    num_threads: int | None = None,
    route: str = "auto",
) -> Engine:
    """The engine for one model; nothing is compiled before it is first used.

    Args:
        model: a `mujoco.MjModel`; later changes to it have no effect here.
        frame_skip: physics steps per environment step.
        fields: names of derived mjData arrays, to be found in `Physics.fields`.
        tracked: names of mjData arrays whose change a task needs, to be found in `Physics.change`.
        num_threads: None means one per CPU that this process may use. No result depends on it.
        route: native, callback, or auto: native where that is possible.

    Raises ValueError for an unknown field; in use, EngineError if the route does not work here.
    """
    names = ("qpos", "qvel", *(name for name in fields if name not in ("qpos", "qvel")))
    shapes = field_shapes(model, names), field_shapes(model, tracked)
    plan = Plan(copy.copy(model), frame_skip, *shapes, num_threads or usable_cpus())
    results = [
        jax.ShapeDtypeStruct((2 * plan.row_size,), jnp.uint32),
        jax.ShapeDtypeStruct((2 * plan.tracked_size,), jnp.uint32),
        jax.ShapeDtypeStruct((plan.packed_size,), jnp.float32),
    ]
    chosen = functools.cache(lambda: _choose(plan, route))

    def step(physics: Physics, ctrl: Array, overrides: dict[str, Array]) -> Physics:
        _refuse(overrides)
        if ctrl.shape != (model.nu,):
            raise ValueError(f"an action has shape ({model.nu},), not {ctrl.shape}; vmap adds axes")
        row, tracked_row = physics.row, physics.tracked
        return unpack(chosen().step(results, row, tracked_row, ctrl.astype(jnp.float32)))

    def reset(needed: Array, qpos: Array, qvel: Array, overrides: dict[str, Array]) -> Physics:
        _refuse(overrides)
        return unpack(chosen().reset(results, jnp.asarray(needed, bool), qpos, qvel))

    def unpack(returned: Sequence[Array]) -> Physics:
        row, tracked_row, packed = returned
        values, offset = _slices(packed, plan.fields, 0)
        change, offset = _slices(packed, plan.tracked, offset)
        derived = {name: values[name] for name in fields}
        return Physics(values["qpos"], values["qvel"], derived, change, row, tracked_row, packed[offset] > 0)

    return Engine(step, reset, jax.eval_shape(unpack, results), lambda num_sims: num_sims)


def _choose(plan: Plan, route: str) -> Route:
    """The route that `route` names, or the better of those that work here."""
    from purerl.envs.mujoco.engine import callback, ffi

    if route == "callback":
        return callback.make_route(plan)
    try:
        return ffi.make_route(plan)
    except EngineError as error:
        if route == "native":
            raise
        warn_once(str(error).splitlines()[0])
    return callback.make_route(plan)


@functools.cache
def warn_once(reason: str) -> None:
    """Tell why the slow route runs, however many environments of this process take it."""
    text = "MuJoCo runs through Python callbacks, with the same results but some ten times slower: %s"
    logging.getLogger(__name__).warning(text, reason)


def _refuse(overrides: dict[str, Array]) -> None:
    if overrides:
        what = (
            "physical parameters can vary on engine='mjx' only; engine='mujoco' has one model per environment"
        )
        raise ConfigError("model", ", ".join(overrides), what)


def _size(shapes: dict[str, tuple[int, ...]]) -> int:
    return sum(int(np.prod(shape)) for shape in shapes.values())


def _slices(packed: Array, shapes: dict[str, tuple[int, ...]], offset: int):
    values = {}
    for name, shape in shapes.items():
        size = int(np.prod(shape))
        values[name] = packed[offset : offset + size].reshape(shape)
        offset += size
    return values, offset


def usable_cpus() -> int:
    """How many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
