"""OpenGL without a screen, on a thread of its own.

A GL context belongs to one thread at a time, and a thread has one current context. Drawn on a thread
that nobody else sees, pictures can be asked for from any thread, and disturb no other GL program of the
process, such as Gymnasium's renderer or a viewer.
"""

# The names of the mujoco package come from compiled modules, which pyright cannot see into.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import atexit
import copy
import os
import platform
import queue
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np

from purerl.config import ConfigError, did_you_mean, shorten

MAX_CANVASES = 8
"""Kept for their next use; making one takes a second or so."""
MAX_GEOMS = 10_000
"""In one picture: MuJoCo's own bound."""
BACKENDS = {"Linux": ("egl", "osmesa", "glfw"), "Darwin": ("cgl", "glfw")}
"""System -> what can draw there, in the order in which it is tried; elsewhere it is glfw."""
ALIASES = {"glx": "glfw", "wgl": "glfw"}
ON, OFF = ("", "enable", "enabled", "on", "true", "1"), ("disable", "disabled", "off", "false", "0")
ADVICE = """\
no OpenGL context without a screen could be made here:
{failures}
Install either of
  EGL      Debian, Ubuntu: apt-get install libegl1 libgl1 (with a GPU, its driver)
  OSMesa   Debian, Ubuntu: apt-get install libosmesa6
and leave MUJOCO_GL unset, or set it to egl or osmesa."""


class RenderError(RuntimeError):
    """This machine cannot draw; the message says what to do."""


class Canvas:
    """Where one model is drawn at one size. Only the drawing thread may touch it."""

    def __init__(self, model: Any, width: int, height: int):
        import mujoco

        self.source = model  # kept alive: it is known by its address
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
        option, nobody = mujoco.MjvOption(), mujoco.MjvPerturb()
        mujoco.mjv_updateScene(self.model, self.data, option, nobody, camera, everything, self.scene)
        self.gl.make_current()
        height, width, _ = self.pixels.shape
        whole = mujoco.MjrRect(0, 0, width, height)
        mujoco.mjr_render(whole, self.scene, self.context)
        mujoco.mjr_readPixels(self.pixels, None, whole, self.context)
        return self.pixels[::-1].copy()  # OpenGL's first row is the lowest

    def free(self) -> None:
        """Give the context back."""
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
    """One picture of `model`, `[height, width, 3]` uint8; safe to call from any thread.

    Args:
        model: a `mujoco.MjModel`; changes after the first picture have no effect.
        width: in pixels.
        height: in pixels.
        place: `(model, data)`, puts the state to be drawn into a `mujoco.MjData`.
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
        """`function(canvases, *args)` on the thread; waits for its result."""
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
        atexit.register(_thread.close)  # after EGL has registered its own end, and so before it
    canvases.move_to_end(key)
    if len(canvases) > MAX_CANVASES:
        canvases.popitem(last=False)[1].free()
    return canvases[key].draw(place, look)


def _free(canvases: Canvases) -> None:
    while canvases:
        canvases.popitem()[1].free()


def _open(model: Any) -> tuple[Any, Any]:
    """`(GLContext, MjrContext)` of the first backend that works. Raises RenderError."""
    failures = []
    for backend in _backends():
        try:
            return _open_with(backend, model)
        except Exception as error:  # whatever a driver or PyOpenGL may raise
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            failures.append(f"  {backend:8} {shorten(reason, 300)}")
    raise RenderError(ADVICE.format(failures="\n".join(failures)))


def _backends() -> tuple[str, ...]:
    """What to try: what the environment variable MUJOCO_GL names, or all there is."""
    known = BACKENDS.get(platform.system(), ("glfw",))
    wanted = os.environ.get("MUJOCO_GL", "").lower().strip()
    wanted = ALIASES.get(wanted, wanted)
    if wanted in OFF:
        raise RenderError(f"the environment variable MUJOCO_GL={wanted} switches drawing off: unset it")
    if wanted in known:
        return (wanted,)
    if wanted not in ON:
        what = f"this environment variable can be {', '.join(known)}, or unset"
        raise ConfigError("MUJOCO_GL", os.environ["MUJOCO_GL"], what, did_you_mean(wanted, known))
    has_screen = "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ or platform.system() != "Linux"
    return known if has_screen else tuple(name for name in known if name != "glfw")


def _open_with(backend: str, model: Any) -> tuple[Any, Any]:
    """`(GLContext, MjrContext)`, the first current on this thread; leaves nothing behind if it fails.

    MuJoCo's own choice of a backend is made when mujoco is imported, and needs MUJOCO_GL by then: this
    asks the backend itself.
    """
    import mujoco

    modules, opengl_platform, gl = set(sys.modules), os.environ.get("PYOPENGL_PLATFORM"), None
    size = model.vis.global_
    try:
        gl = _context_of(backend)(size.offwidth, size.offheight)
        gl.make_current()
        context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_150)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, context)
        return gl, context
    except BaseException:
        if gl is not None:
            gl.free()
        # PyOpenGL settles on a backend when it is imported: let the next one import it anew.
        for name in set(sys.modules) - modules:
            if name.split(".")[0] == "OpenGL" or name.startswith(f"mujoco.{backend}"):
                del sys.modules[name]
        os.environ.pop("PYOPENGL_PLATFORM", None)
        if opengl_platform is not None:
            os.environ["PYOPENGL_PLATFORM"] = opengl_platform
        raise


def _context_of(backend: str) -> Any:
    """Its class GLContext; importing it loads the system's library."""
    if backend == "egl":
        from mujoco.egl import GLContext
    elif backend == "osmesa":
        from mujoco.osmesa import GLContext
    elif backend == "cgl":
        from mujoco.cgl import GLContext  # pyright: ignore[reportMissingImports]
    else:
        from mujoco.glfw import GLContext
    return GLContext
