"""C MuJoCo as pure functions inside the XLA program: the default engine on a CPU.

A step is bit for bit Gymnasium's: the float64 state travels through the program as an opaque row of
uint32, and only the fields that a task reads are rounded to float32. The step has two routes: `ffi.py`, a
C++ handler that XLA calls, and `callback.py`, plain Python, for machines without a C++ compiler and for
programs on an accelerator.
"""

# The names of the mujoco package come from compiled modules, which pyright cannot see into.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import copy
import functools
import logging
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from purerl.config import ConfigError
from purerl.envs.mujoco.engine import callback, ffi
from purerl.envs.mujoco.engine.physics import Engine, EngineError, Physics, field_shapes
from purerl.envs.mujoco.engine.plan import Plan, Route, Shapes, usable_cpus
from purerl.types import Array


def make_engine(
    model: Any,
    frame_skip: int,
    fields: Sequence[str] = (),
    tracked: Sequence[str] = (),
    num_threads: int | None = None,
    route: str = "auto",
    keyframe: int = -1,
) -> Engine:
    """Return the engine for one model; nothing is compiled before its first use.

    Args:
        model: a `mujoco.MjModel`; later changes to it have no effect here.
        frame_skip: physics steps per environment step.
        fields: names of derived mjData arrays, reported in `Physics.fields`.
        tracked: names of mjData arrays whose change is reported in `Physics.change`.
        num_threads: None means one per CPU that this process may use. No result depends on it.
        route: native, callback, or auto: native where that is possible.
        keyframe: number of the keyframe at which resets begin; -1 is the model's own initial state.

    Raises ValueError for an unknown field and ConfigError for a model whose bodies may sleep; in use,
    EngineError if the route does not work here.
    """
    import mujoco

    if model.opt.enableflags & mujoco.mjtEnableBit.mjENBL_SLEEP:
        allowed = "a model without <flag sleep='enable'/>: a step would depend on more than the state"
        raise ConfigError("model", "sleep", allowed)
    names = ("qpos", "qvel", *(name for name in fields if name not in ("qpos", "qvel")))
    shapes = field_shapes(model, names), field_shapes(model, tracked)
    plan = Plan(copy.copy(model), frame_skip, *shapes, num_threads or usable_cpus(), keyframe)
    results = [
        jax.ShapeDtypeStruct((2 * plan.row_size,), jnp.uint32),
        jax.ShapeDtypeStruct((2 * plan.tracked_size,), jnp.uint32),
        jax.ShapeDtypeStruct((plan.packed_size,), jnp.float32),
    ]
    chosen = functools.cache(lambda: _choose(plan, route))

    def step(physics: Physics, ctrl: Array, overrides: dict[str, Array]) -> Physics:
        _refuse(overrides)
        if ctrl.shape != (model.nu,):
            raise ValueError(f"expected an action of shape ({model.nu},), got {ctrl.shape}; vmap adds axes")
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
    """Return the route named by `route`; auto is native where that works."""
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
    """Warn that the slow route runs, once per process and reason."""
    text = "MuJoCo runs through Python callbacks, with the same results but some ten times slower: %s"
    logging.getLogger(__name__).warning(text, reason)


def _refuse(overrides: dict[str, Array]) -> None:
    if overrides:
        allowed = "none with engine='mujoco', which has one model per environment: use engine='mjx'"
        raise ConfigError("model", ", ".join(overrides), allowed)


def _slices(packed: Array, shapes: Shapes, offset: int) -> tuple[dict[str, Array], int]:
    values = {}
    for name, shape in shapes.items():
        size = math.prod(shape)
        values[name] = packed[offset : offset + size].reshape(shape)
        offset += size
    return values, offset
