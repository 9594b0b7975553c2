"""The C engine's fall-back route: the same step in Python, which the XLA program calls back.

For machines without a C++ compiler and for programs on an accelerator. A callback uses NumPy only: a JAX
call inside it can deadlock.
"""

# The names of the mujoco package come from compiled modules, which pyright cannot see into.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import ctypes
import functools
import math
import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import jax
import numpy as np

from purerl.envs.mujoco.engine.build import load_mujoco
from purerl.envs.mujoco.engine.physics import MAX_VALUE, EngineError
from purerl.envs.mujoco.engine.plan import Plan, Route
from purerl.types import Array

_in_engine = threading.local()


def make_route(plan: Plan) -> Route:
    """Return the route of `plan` through Python."""
    _silence()
    simulations = _Simulations(plan)

    def step(results, row: Array, tracked: Array, ctrl: Array):
        return call(simulations.step, results, row, tracked, ctrl)

    def reset(results, needed: Array, qpos: Array, qvel: Array):
        return call(simulations.reset, results, needed, qpos, qvel)

    def call(function, results, *operands: Array):
        return jax.pure_callback(function, results, *operands, vmap_method="broadcast_all")

    return Route(step, reset)


class _Simulations:
    """The MjData objects and threads of one plan."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self.idle = queue.SimpleQueue()
        self.process, self.threads = 0, None

    def step(self, row: Any, tracked: Any, ctrl: Any) -> tuple[np.ndarray, ...]:
        """Advance `(row [..., 2 R], tracked [..., 2 K])` by one environment step under `ctrl [..., nu]`."""
        import mujoco

        model, plan = self.plan.model, self.plan
        body_forces = {"cacc", "cfrc_int", "cfrc_ext"} & {*plan.fields, *plan.tracked}
        leading = ctrl.shape[:-1]
        rows = _flat(row, np.float64, leading, plan.row_size)
        tracked_rows = _flat(tracked, np.float64, leading, plan.tracked_size)
        ctrls = _flat(ctrl, np.float32, leading, model.nu)

        def one(data, sim):
            mujoco.mj_setState(model, data, rows[sim], mujoco.mjtState.mjSTATE_INTEGRATION)
            data.ctrl[:] = ctrls[sim]
            data.warning.number[:] = 0
            mujoco.mj_step(model, data, plan.frame_skip)
            if body_forces:
                mujoco.mj_rnePostConstraint(model, data)  # after the steps, as Gymnasium does
            return tracked_rows[sim]

        return self._run(one, leading, np.ones(len(ctrls), bool))

    def reset(self, needed: Any, qpos: Any, qvel: Any) -> tuple[np.ndarray, ...]:
        """Place simulations at `(qpos [..., nq], qvel [..., nv])` where `needed [...]`; zeros elsewhere."""
        import mujoco

        model = self.plan.model
        positions = _flat(qpos, np.float32, needed.shape, model.nq)
        velocities = _flat(qvel, np.float32, needed.shape, model.nv)

        def one(data, sim):
            mujoco.mj_resetData(model, data)
            if self.plan.keyframe >= 0:
                mujoco.mj_resetDataKeyframe(model, data, self.plan.keyframe)
            data.qpos[:], data.qvel[:] = positions[sim], velocities[sim]
            mujoco.mj_forward(model, data)  # contact forces stay 0 in a reset, as in Gymnasium

        return self._run(one, needed.shape, np.asarray(needed).reshape(-1))

    def _run(self, one: Callable, leading: tuple[int, ...], wanted: np.ndarray):
        """`one(data, sim)` where `wanted [N]`, over the threads; its results in their shapes."""
        num = len(wanted)
        rows = np.zeros((num, self.plan.row_size))
        tracked = np.zeros((num, self.plan.tracked_size))
        packed = np.zeros((num, self.plan.packed_size), np.float32)

        def work(sims):
            data = self._take()
            _in_engine.now = True
            for sim in sims:
                self._advance(one, data, sim, rows[sim], tracked[sim], packed[sim])
            _in_engine.now = False
            self.idle.put(data)

        sims = np.flatnonzero(wanted)
        num_parts = min(self.plan.num_threads, len(sims) // 4)  # waking a thread costs a small step
        helpers = []
        with suppress(RuntimeError):  # threads are no longer started: the interpreter is shutting down
            for part in reversed(np.array_split(sims, max(num_parts, 1))[1:]):
                helpers.append(self._pool().submit(work, part))
                sims = sims[: -len(part)]
        if len(sims):
            work(sims)
        for helper in helpers:
            helper.result()
        bits = (rows.view(np.uint32), tracked.view(np.uint32), packed)
        return tuple(array.reshape(*leading, array.shape[-1]) for array in bits)

    def _advance(self, one, data, sim, row, tracked, packed) -> None:
        """Run `one` and write its result."""
        import mujoco

        try:
            previous = one(data, sim)
        except mujoco.FatalError:  # the result stays zero
            packed[-1] = 1
            return
        mujoco.mj_getState(self.plan.model, data, row, mujoco.mjtState.mjSTATE_INTEGRATION)
        values = [np.ravel(getattr(data, name)) for name in self.plan.fields]
        now = [np.ravel(getattr(data, name)) for name in self.plan.tracked]
        tracked[:] = np.concatenate(now) if now else 0
        # Subtracted in float64, so that velocities are exact far from the origin too.
        with np.errstate(invalid="ignore"):  # inf - inf
            change = np.zeros_like(tracked) if previous is None else tracked - previous
        report = np.concatenate([*values, change])
        bad = ~(np.abs(report) <= MAX_VALUE)
        packed[:-1] = np.where(bad, 0, report)
        packed[-1] = bad.any() or data.warning.number[_breakdowns()].any()

    def _take(self) -> Any:
        import mujoco

        try:
            return self.idle.get_nowait()
        except queue.Empty:
            return mujoco.MjData(self.plan.model)

    def _pool(self) -> ThreadPoolExecutor:
        """Return the threads of this process: a fork leaves those of the parent behind."""
        if self.process != os.getpid() or self.threads is None:
            self.process, self.threads = os.getpid(), ThreadPoolExecutor(self.plan.num_threads)
        return self.threads


def _flat(array: Any, dtype: Any, leading: tuple[int, ...], size: int) -> np.ndarray:
    """Return the bits of `array [*leading, *]` as `[N, size]` of `dtype`."""
    return np.ascontiguousarray(array).view(dtype).reshape(math.prod(leading), size)


@functools.cache
def _breakdowns() -> list[int]:
    from mujoco import mjtWarning as w

    return list(map(int, (w.mjWARN_BADQPOS, w.mjWARN_BADQVEL, w.mjWARN_BADQACC, w.mjWARN_BADCTRL)))


@functools.cache
def _silence() -> None:
    """Keep MuJoCo from writing MUJOCO_LOG.TXT about divergence, which the program reports itself.

    Warnings of other simulations in this process go to the handler that was there before.
    """
    import mujoco

    previous = mujoco.get_mju_user_warning() or _compiled_handler()

    def on_warning(message: str) -> None:
        if getattr(_in_engine, "now", False):
            return
        if previous:
            previous(message)
        else:
            mujoco.mju_writeLog("WARNING", message)
            print(f"WARNING: {message}\n")

    mujoco.set_mju_user_warning(on_warning)


def _compiled_handler() -> Callable[[str], None] | None:
    """Return MuJoCo's warning handler in C, such as that of the native route."""
    try:
        address = ctypes.c_void_p.in_dll(load_mujoco(), "mju_user_warning").value
    except (EngineError, ValueError):
        return None
    if not address:
        return None
    handler = ctypes.CFUNCTYPE(None, ctypes.c_char_p)(address)
    return lambda message: handler(message.encode())
