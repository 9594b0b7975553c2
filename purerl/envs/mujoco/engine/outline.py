"""The physics of a task as two named steps of a traced program, for programs that simulate it elsewhere.

Inside `outlined()` a trace of an environment's functions has the steps `mujoco_reset` and `mujoco_step` in
the place of an engine's own operations. Their parameter `physics`, an `Outline`, says what they stand for;
their results are the leaves of a `Physics`, in order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import jax
from jax.core import ShapedArray
from jax.extend.core import Primitive

from purerl.envs.mujoco.engine.physics import Engine, Physics
from purerl.types import Array

RESET, STEP = Primitive("mujoco_reset"), Primitive("mujoco_step")
"""`(qpos [nq], qvel [nv]) -> Physics` and `(ctrl [nu]) -> Physics`."""
_wanted: ContextVar[bool] = ContextVar("outlined", default=False)


@dataclass(frozen=True, eq=False)  # by identity, because parameters of a step are hashed
class Outline:
    """A description of the physics of a task."""

    model: Any
    """The `mujoco.MjModel` that is simulated."""
    source: Any
    """The file or the `mujoco.MjSpec` from which it was compiled; None if neither is known."""
    frame_skip: int
    """Physics steps per environment step."""
    keyframe: int
    """Number of the model's keyframe at which resets begin; -1 is the model's own initial state."""
    shape: Physics
    """Shapes of the results."""
    camera: Any
    """Default viewpoint: fields of `mujoco.MjvCamera`."""


@contextmanager
def outlined() -> Iterator[None]:
    """Let environments be traced with named steps in the place of their physics."""
    token = _wanted.set(True)
    try:
        yield
    finally:
        _wanted.reset(token)


def is_wanted() -> bool:
    """Return True inside `outlined()`."""
    return _wanted.get()


def with_outline(engine: Engine, outline: Outline) -> Engine:
    """Return `engine`, whose functions are the named steps inside `outlined()`."""

    def reset(needed: Array, qpos: Array, qvel: Array, overrides: dict[str, Array]) -> Physics:
        if is_wanted():
            return _bind(RESET, outline, qpos, qvel)
        return engine.reset(needed, qpos, qvel, overrides)

    def step(physics: Physics, ctrl: Array, overrides: dict[str, Array]) -> Physics:
        if is_wanted():
            return _bind(STEP, outline, ctrl)
        return engine.step(physics, ctrl, overrides)

    return engine._replace(reset=reset, step=step)


def _bind(primitive: Primitive, outline: Outline, *inputs: Any) -> Physics:
    leaves = primitive.bind(*(jax.numpy.asarray(value, "float32") for value in inputs), physics=outline)
    return jax.tree.unflatten(jax.tree.structure(outline.shape), leaves)


def _shapes(*inputs: Any, physics: Outline) -> Sequence[Any]:
    return [ShapedArray(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(physics.shape)]


for _primitive in (RESET, STEP):
    _primitive.multiple_results = True
    _primitive.def_abstract_eval(_shapes)
