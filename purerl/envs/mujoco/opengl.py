"""OpenGL without a screen, on a thread of its own.

A GL context is current on one thread at a time, and a thread has one current context. With a private thread,
pictures can be requested from any thread, and no other GL program of the process (Gymnasium's renderer, a
viewer) loses its context.
"""

# The names of the mujoco package come from compiled modules, which pyright cannot see into.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import atexit
import copy
import os
import queue
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from ctypes.util import find_library
from typing import Any

import numpy as np

from purerl.shown import shorten

MAX_CANVASES = 8
"""Canvases that are kept for their next use; making one takes a second or so."""
MAX_GEOMS = 10_000
"""Geoms in one picture: MuJoCo's own bound."""
ADVICE = (
    "no OpenGL context can be made: {reason}. Install EGL (apt-get install libegl1 libgl1) or OSMesa (apt-get"
    " install libosmesa6); MUJOCO_GL=egl or osmesa, set before Python starts, chooses one."
)


class RenderError(RuntimeError):
    """This machine cannot draw; the message contains the remedy."""


class Canvas:
    """One model drawn at one size. Only the drawing thread may touch it."""

    def __init__(self, model: Any, width: int, height: int):
        import mujoco

        self.source = model  # kept alive, because its address is its name
        self.model = copy.copy(model)
        self.model.vis.global_.offwidth, self.model.vis.global_.offheight = width, height
        self.data = mujoco.MjData(self.model)
        self.scene = mujoco.MjvScene(self.model, MAX_GEOMS)
        self.pixels = np.empty((height, width, 3), np.uint8)
        self.gl, self.context = _open(self.model)

    def draw(self, place: Callable[[Any, Any], None], look: Callable[[Any, Any], Any]) -> np.ndarray:
        """See `draw`."""
        import mujoco

        place(self.model, self.data)
        camera, everything = look(self.model, self.data), mujoco.mjtCatBit.mjCAT_ALL
        option, perturbation = mujoco.MjvOption(), mujoco.MjvPerturb()
        mujoco.mjv_updateScene(self.model, self.data, option, perturbation, camera, everything, self.scene)
        self.gl.make_current()
        height, width, _ = self.pixels.shape
        whole = mujoco.MjrRect(0, 0, width, height)
        mujoco.mjr_render(whole, self.scene, self.context)
        mujoco.mjr_readPixels(self.pixels, None, whole, self.context)
        return self.pixels[::-1].copy()  # OpenGL's first row is the lowest

    def free(self) -> None:
        """Release the context."""
        self.gl.make_current()
        self.context.free()
        self.gl.free()


def draw(
    model: Any,
    width: int,
    height: int,
    place: Callable[[Any, Any], None],
    look: Callable[[Any, Any], Any],
) -> np.ndarray:
    """Return one picture of `model`, `[height, width, 3]` uint8; safe to call from any thread.

    Args:
        model: a `mujoco.MjModel`; changes after the first picture have no effect.
        width: in pixels.
        height: in pixels.
        place: `(model, data)`, writes the state to draw into a `mujoco.MjData`.
        look: `(model, data) -> mujoco.MjvCamera`, called after `place`.

    Raises RenderError where no OpenGL context can be made.
    """
    return _thread.run(_draw, model, width, height, place, look)


Canvases = OrderedDict[tuple[int, int, int], Canvas]


class _Thread:
    """The drawing thread, started at its first use; a forked process starts its own."""

    def __init__(self):
        self.lock, self.thread = threading.Lock(), None
        self.tasks: queue.SimpleQueue = queue.SimpleQueue()

    def run(self, function: Callable, *args: Any) -> Any:
        """Return `function(canvases, *args)`, run on the thread."""
        with self.lock:
            if self.thread is None or not self.thread.is_alive():
                self.tasks = queue.SimpleQueue()
                self.thread = threading.Thread(target=self._work, name="purerl-render", daemon=True)
                self.thread.start()
        future = Future()
        self.tasks.put((future, function, args))
        return future.result()

    def close(self) -> None:
        if self.thread is not None and self.thread.is_alive():
            self.run(_free)

    def _work(self) -> None:
        canvases: Canvases = OrderedDict()
        while True:
            future, function, args = self.tasks.get()
            try:
                future.set_result(function(canvases, *args))
            except BaseException as error:
                future.set_exception(error)
            del future, function, args  # or they would live until the next task


_thread = _Thread()


def _draw(canvases: Canvases, model: Any, width: int, height: int, place: Callable, look: Callable) -> Any:
    key = id(model), width, height
    if key not in canvases:
        canvases[key] = Canvas(model, width, height)
        atexit.register(_thread.close)  # registered after EGL's own end, and so called before it
    canvases.move_to_end(key)
    if len(canvases) > MAX_CANVASES:
        canvases.popitem(last=False)[1].free()
    return canvases[key].draw(place, look)


def _free(canvases: Canvases) -> None:
    while canvases:
        canvases.popitem()[1].free()


def _open(model: Any) -> tuple[Any, Any]:
    """Return `(GLContext, MjrContext)`, the first current on this thread. Raises RenderError."""
    import mujoco

    size = model.vis.global_
    try:
        gl = _context_class()(size.offwidth, size.offheight)
        gl.make_current()
        context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_150)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, context)
    except RenderError:
        raise
    except Exception as error:  # drivers and PyOpenGL raise many kinds
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise RenderError(ADVICE.format(reason=shorten(reason, 300).rstrip("."))) from error
    return gl, context


def _context_class() -> Any:
    """Return MuJoCo's GLContext of EGL where it is installed, else of OSMesa, else of a screen.

    A value of MUJOCO_GL has made MuJoCo choose when it was imported. PyOpenGL loads one backend per process,
    so the libraries are looked up here before one of them is imported.
    """
    import mujoco

    if sys.platform == "linux" and not os.environ.get("MUJOCO_GL"):
        if find_library("EGL"):
            from mujoco.egl import GLContext

            return GLContext
        if find_library("OSMesa"):
            from mujoco.osmesa import GLContext

            return GLContext
        if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise RenderError(ADVICE.format(reason="neither EGL nor OSMesa is installed"))
    if not hasattr(mujoco, "GLContext"):
        value = os.environ.get("MUJOCO_GL", "")
        raise RenderError(f"MUJOCO_GL={value} switches drawing off: unset it before Python starts")
    return mujoco.GLContext
