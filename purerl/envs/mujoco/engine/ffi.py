"""The native route of the C engine: a C++ handler around MuJoCo's batch API, which XLA calls.

No Python and no GIL on the way. See `native.cc`; `build.py` compiles it at first use.
"""

# The names of the mujoco package come from compiled modules, which pyright cannot see into.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import ctypes
import functools
import hashlib
from typing import Any

import jax
import numpy as np

from purerl.envs.mujoco.engine.build import load_library
from purerl.envs.mujoco.engine.c import Plan, Route
from purerl.envs.mujoco.engine.physics import EngineError
from purerl.types import Array

STEP, RESET, ZEROS = "purerl_mujoco_step", "purerl_mujoco_reset", "purerl_zeros"


def make_route(plan: Plan) -> Route:
    """Run `plan` by the native library.

    Raises EngineError without a compiler, or where JAX's programs do not run on a CPU.
    """
    if jax.default_backend() != "cpu":
        raise EngineError(
            f"the native engine runs inside CPU programs only, but JAX's default backend is "
            f"{jax.default_backend()!r}. Set JAX_PLATFORMS=cpu, or take engine='mjx'."
        )
    plan_id = _register(_library(), plan)

    def call(target: str, results, *operands: Array):
        return jax.ffi.ffi_call(target, results, vmap_method="broadcast_all")(*operands, plan=plan_id)

    return Route(functools.partial(call, STEP), functools.partial(call, RESET))


def untouched_zeros(shape: tuple[int, ...], dtype: Any) -> Array:
    """Zeros, in pages of memory that take none before they are written; for one call per buffer.

    Raises EngineError without a compiler. For CPU programs.
    """
    _library()
    return jax.ffi.ffi_call(ZEROS, jax.ShapeDtypeStruct(shape, dtype))()


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


def _register(library: ctypes.CDLL, plan: Plan) -> np.int64:
    """Make the plan known to the native side; returns its id.

    The id is a hash of content and goes into the program as a constant: were it an address or a
    counter, no process could reuse what JAX's compilation cache holds of another.
    """
    import mujoco

    image = np.zeros(mujoco.mj_sizeModel(plan.model), np.uint8)
    mujoco.mj_saveModel(plan.model, None, image)
    spec = repr((plan.frame_skip, tuple(plan.fields), tuple(plan.tracked), plan.num_threads))
    digest = hashlib.sha256(image.tobytes() + spec.encode()).digest()
    plan_id = np.frombuffer(digest[:8], np.int64)[0]
    error = ctypes.create_string_buffer(256)
    packed_size = library.PurerlRegister(
        int(plan_id),
        plan.model._address,
        plan.frame_skip,
        plan.num_threads,
        ",".join(plan.fields).encode(),
        ",".join(plan.tracked).encode(),
        error,
        len(error),
    )
    if packed_size != plan.packed_size:
        raise EngineError(f"the native engine does not see the model as Python does: {error.value.decode()}")
    return plan_id
