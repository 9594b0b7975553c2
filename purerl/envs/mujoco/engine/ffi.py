"""The native route of the C engine: a C++ handler around MuJoCo's batch API, which XLA calls.

A step runs neither Python nor the GIL. See `native.cc`; `build.py` compiles it at first use.
"""

# The names of the mujoco package come from compiled modules, which pyright cannot see into.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import ctypes
import functools
import hashlib

import jax
import numpy as np

from purerl.envs.mujoco.engine.build import load_library
from purerl.envs.mujoco.engine.physics import EngineError
from purerl.envs.mujoco.engine.plan import Plan, Route
from purerl.types import Array

STEP, RESET = "purerl_mujoco_step", "purerl_mujoco_reset"


def make_route(plan: Plan) -> Route:
    """Return the route of `plan` through the native library.

    Raises EngineError without a compiler, or where JAX's programs do not run on a CPU.
    """
    if jax.default_backend() != "cpu":
        raise EngineError(
            f"the native engine runs inside CPU programs only, but JAX's default backend is "
            f"{jax.default_backend()!r}. Set JAX_PLATFORMS=cpu, or use engine='mjx'."
        )
    plan_id = _register(_library(), plan)

    def call(target: str, results, *operands: Array):
        return jax.ffi.ffi_call(target, results, vmap_method="broadcast_all")(*operands, plan=plan_id)

    return Route(functools.partial(call, STEP), functools.partial(call, RESET))


@functools.cache
def _library() -> ctypes.CDLL:
    """Return the loaded library, its functions registered with XLA."""
    library = load_library()
    text, integer = ctypes.c_char_p, ctypes.c_int
    library.PurerlRegister.argtypes = [
        *(ctypes.c_int64, ctypes.c_void_p, integer, integer, integer),
        *(text, text, text, integer),
    ]
    for name, symbol in ((STEP, library.PurerlStep), (RESET, library.PurerlReset)):
        jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(symbol), platform="cpu")
    return library


def _register(library: ctypes.CDLL, plan: Plan) -> np.int64:
    """Register the plan with the native library and return its id.

    The id is a hash of the content, because it is a constant of the program: with an address or a counter,
    a process could not use programs that another left in JAX's compilation cache.
    """
    import mujoco

    image = np.zeros(mujoco.mj_sizeModel(plan.model), np.uint8)
    mujoco.mj_saveModel(plan.model, None, image)
    spec = repr((plan.frame_skip, tuple(plan.fields), tuple(plan.tracked), plan.num_threads, plan.keyframe))
    digest = hashlib.sha256(image.tobytes() + spec.encode()).digest()
    plan_id = np.frombuffer(digest[:8], np.int64)[0]
    error = ctypes.create_string_buffer(256)
    packed_size = library.PurerlRegister(
        int(plan_id),
        plan.model._address,
        plan.frame_skip,
        plan.num_threads,
        plan.keyframe,
        ",".join(plan.fields).encode(),
        ",".join(plan.tracked).encode(),
        error,
        len(error),
    )
    if packed_size != plan.packed_size:
        reason = error.value.decode()
        raise EngineError(f"the native library and the mujoco package disagree on the model: {reason}")
    return plan_id
