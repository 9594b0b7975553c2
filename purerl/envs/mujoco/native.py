"""C MuJoCo as pure functions inside the XLA program: the default engine on a CPU.

A step is bit for bit what Gymnasium computes: the float64 state travels through the program as an
opaque row of uint32, and only what a task sees is rounded to float32. See `native.cc`.
"""

# The names of the mujoco package come from compiled modules, which pyright cannot see into.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purerl.envs.mujoco.build import load_library
from purerl.envs.mujoco.physics import Engine, EngineError, Physics
from purerl.types import Array

STEP, RESET, ZEROS = "purerl_mujoco_step", "purerl_mujoco_reset", "purerl_zeros"


class Layout(NamedTuple):
    """Sizes of the native functions' results, and what lies where in `packed`."""

    row: int
    tracked: int
    packed: int
    fields: dict[str, tuple[int, ...]]
    """name -> mjData's shape, in the order of `packed`."""
    changes: dict[str, tuple[int, ...]]


def make_engine(
    model: Any,
    frame_skip: int,
    fields: tuple[str, ...] = (),
    tracked: tuple[str, ...] = (),
    num_threads: int = 0,
) -> Engine:
    """The engine for one model.

    Args:
        model: a `mujoco.MjModel`; later changes to it have no effect here.
        frame_skip: physics steps per environment step.
        fields: names of derived mjData arrays, to be found in `Physics.fields`.
        tracked: names of mjData arrays whose change a task needs, to be found in `Physics.change`.
        num_threads: 0 means one per CPU that this process may use. No result depends on it.

    Raises EngineError without a CPU backend or a compiler, ValueError for an unknown field.
    """
    if jax.default_backend() != "cpu":
        raise EngineError(
            f"engine='mujoco' runs inside CPU programs only, but JAX's default backend is "
            f"{jax.default_backend()!r}. Set JAX_PLATFORMS=cpu."
        )
    library = _library()
    names = ("qpos", "qvel", *(name for name in fields if name not in ("qpos", "qvel")))
    plan, packed_size = _register(library, model, frame_skip, names, tracked, num_threads)
    layout = _layout(model, names, tracked, packed_size)

    def step(physics: Physics, ctrl: Array) -> Physics:
        if ctrl.shape != (model.nu,):
            raise ValueError(f"an action has shape ({model.nu},), not {ctrl.shape}; vmap adds axes")
        return unpack(call(STEP, physics.row, physics.tracked, ctrl.astype(jnp.float32)))

    def reset(needed: Array, qpos: Array, qvel: Array) -> Physics:
        return unpack(call(RESET, jnp.asarray(needed, bool), qpos, qvel))

    def call(target: str, *operands: Array) -> Sequence[Array]:
        results = [
            jax.ShapeDtypeStruct((layout.row,), jnp.uint32),
            jax.ShapeDtypeStruct((layout.tracked,), jnp.uint32),
            jax.ShapeDtypeStruct((layout.packed,), jnp.float32),
        ]
        return jax.ffi.ffi_call(target, results, vmap_method="broadcast_all")(*operands, plan=plan)

    def unpack(results: Sequence[Array]) -> Physics:
        row, tracked_row, packed = results
        values, offset = _slices(packed, layout.fields, 0)
        change, offset = _slices(packed, layout.changes, offset)
        qpos, qvel = values["qpos"], values["qvel"]
        derived = {name: values[name] for name in fields}
        return Physics(qpos, qvel, derived, change, row, tracked_row, packed[offset] > 0)

    return Engine(step, reset)


def untouched_zeros(shape: tuple[int, ...], dtype: Any) -> Array:
    """Zeros, in pages of memory that take none before they are written; for one call per buffer.

    Raises EngineError without a compiler. For CPU programs.
    """
    _library()
    return jax.ffi.ffi_call(ZEROS, jax.ShapeDtypeStruct(shape, dtype))()


def _slices(packed: Array, shapes: dict[str, tuple[int, ...]], offset: int):
    values = {}
    for name, shape in shapes.items():
        size = int(np.prod(shape))
        values[name] = packed[offset : offset + size].reshape(shape)
        offset += size
    return values, offset


@functools.cache
def _library() -> ctypes.CDLL:
    """The loaded library, its functions known to XLA."""
    library = load_library()
    text, integer = ctypes.c_char_p, ctypes.c_int
    library.PurerlRegister.argtypes = [
        *(ctypes.c_int64, ctypes.c_void_p, integer, integer),
        *(text, text, text, integer),
    ]
    targets = {STEP: library.PurerlStep, RESET: library.PurerlReset, ZEROS: library.PurerlZeros}
    for name, symbol in targets.items():
        jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(symbol), platform="cpu")
    return library


def _register(library, model, frame_skip, fields, tracked, num_threads) -> tuple[np.int64, int]:
    """Make the plan known to the native side; returns `(id, size of packed)`.

    The id is a hash of content and goes into the program as a constant: were it an address or a
    counter, no process could reuse what JAX's compilation cache holds of another.
    """
    import mujoco

    image = np.zeros(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, image)
    spec = repr((int(frame_skip), tuple(fields), tuple(tracked), int(num_threads)))
    digest = hashlib.sha256(image.tobytes() + spec.encode()).digest()
    plan = np.frombuffer(digest[:8], np.int64)[0]
    error = ctypes.create_string_buffer(256)
    packed_size = library.PurerlRegister(
        int(plan),
        model._address,
        frame_skip,
        num_threads or _usable_cpus(),
        ",".join(fields).encode(),
        ",".join(tracked).encode(),
        error,
        len(error),
    )
    if packed_size < 0:
        raise ValueError(error.value.decode())
    return plan, packed_size


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _layout(model, fields, tracked, packed_size) -> Layout:
    import mujoco

    data = mujoco.MjData(model)
    changes = {name: np.shape(getattr(data, name)) for name in tracked}
    return Layout(
        row=2 * mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION),
        tracked=2 * sum(int(np.prod(shape)) for shape in changes.values()),
        packed=packed_size,
        fields={name: np.shape(getattr(data, name)) for name in fields},
        changes=changes,
    )
