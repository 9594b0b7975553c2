"""Pictures of recorded states of a MuJoCo environment, without a screen.

A picture equals the first one of Gymnasium's `render_mode="rgb_array"` for an environment set to that state,
so it depends on the state alone. (After a step, Gymnasium draws geoms at their places of one physics step
earlier; here they are drawn at their places in the state.)
"""

# The names of the mujoco package come from compiled modules, which pyright cannot see into.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from purerl.config import ConfigError, did_you_mean
from purerl.envs.mujoco import opengl
from purerl.envs.mujoco.engine.physics import Physics
from purerl.types import PyTree

MAX_SIZE = 4096
"""Largest width and height, pixels: with antialiasing such a picture takes 600 MB on the GPU."""
FREE, TRACKING, FIXED = range(3)
"""`type` of a `mujoco.MjvCamera`."""

Place = Callable[[Any, Any], None]


def make_render(model: Any, camera: Mapping[str, Any]) -> Callable[..., np.ndarray]:
    """Return `EnvFunctions.render` of a `mujoco.MjModel`, by default seen from `camera`.

    Raises ConfigError for fields of `camera` that a `mujoco.MjvCamera` cannot have.
    """
    default = _fields(model, camera)

    def render(
        states: PyTree,
        *,
        width: int = 480,
        height: int = 480,
        camera: str | int | Mapping[str, Any] | None = None,
    ) -> np.ndarray:
        """Return pictures of states, `[..., height, width, 3]` uint8, drawn on the host by any thread.

        The first picture of a size takes a second; later ones take milliseconds.

        Args:
            states: states of this environment, with any leading axes. The model is drawn as it was loaded:
                parameters that replace fields of it do not show.
            width: in pixels, at most 4,096.
            height: in pixels, at most 4,096.
            camera: a camera of the model, by name or number (`"track"` follows most of Gymnasium's
                robots); or fields of `mujoco.MjvCamera`, which by default looks, as in Gymnasium, at the
                median of all geoms from a distance of the model's extent. None is the task's own camera.

        Raises ConfigError for an argument that is not allowed; `opengl.RenderError` on a machine that
        cannot draw.
        """
        for name, size in (("width", width), ("height", height)):
            if not (_is_integer(size) and 0 < size <= MAX_SIZE):
                raise ConfigError(name, size, f"a positive integer, at most {MAX_SIZE:,}")
        fields = default if camera is None else _read_camera(model, camera)
        leading, places = _read_states(model, states)
        shape = math.prod(leading), int(height), int(width), 3
        frames = np.empty(shape, np.uint8)
        for i, place in enumerate(places):
            frames[i] = opengl.draw(model, int(width), int(height), place, _make_look(fields))
        return frames.reshape(*leading, *shape[1:])

    return render


def _read_states(model: Any, states: PyTree) -> tuple[tuple[int, ...], Iterable[Place]]:
    """Return the leading axes, and for each state a function that writes it into a `mujoco.MjData`."""
    import mujoco

    physics = getattr(states, "physics", None)
    if not isinstance(physics, Physics):
        allowed = "states of this environment from its reset and step, with any leading axes"
        raise ConfigError("states", type(states).__name__, allowed)
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(physics)):
        raise ConfigError("states", "a traced value", "arrays: pictures are drawn outside jit and vmap")
    if isinstance(physics.row, dict):
        qpos = _check("qpos", physics.qpos, model.nq, "float32")
        qvel = _check("qvel", physics.qvel, model.nv, "float32")
        if qpos.shape[:-1] != qvel.shape[:-1]:
            raise ConfigError("qvel of states", qvel.shape, f"the leading axes {qpos.shape[:-1]} of qpos")
        flat = zip(qpos.reshape(-1, model.nq), qvel.reshape(-1, model.nv), strict=True)
        return qpos.shape[:-1], (_place_at(*pose) for pose in flat)
    size = mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION)
    row = _check("row", physics.row, 2 * size, "uint32")
    flat = np.ascontiguousarray(row).view(np.float64).reshape(-1, size)
    return row.shape[:-1], (_place_row(numbers) for numbers in flat)


def _check(name: str, value: Any, size: int, dtype: str) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype != dtype or array.shape[-1:] != (size,):
        raise ConfigError(f"{name} of states", f"{array.dtype}{list(array.shape)}", f"{dtype}[..., {size}]")
    return array


def _place_row(row: np.ndarray) -> Place:
    import mujoco

    def place(model: Any, data: Any) -> None:
        mujoco.mj_setState(model, data, row, mujoco.mjtState.mjSTATE_INTEGRATION)
        mujoco.mj_forward(model, data)

    return place


def _place_at(qpos: np.ndarray, qvel: np.ndarray) -> Place:
    import mujoco

    def place(model: Any, data: Any) -> None:
        mujoco.mj_resetData(model, data)
        data.qpos[:], data.qvel[:] = qpos, qvel
        mujoco.mj_forward(model, data)

    return place


def _make_look(fields: Mapping[str, Any]) -> Callable[[Any, Any], Any]:
    """Return `(model, data) -> MjvCamera`: Gymnasium's free camera with `fields` replaced."""
    import mujoco

    def look(model: Any, data: Any) -> Any:
        camera = mujoco.MjvCamera()
        if model.ngeom:
            camera.lookat = np.median(data.geom_xpos, axis=0)
        camera.distance = model.stat.extent
        for name, value in fields.items():
            setattr(camera, name, value)
        return camera

    return look


def _read_camera(model: Any, camera: Any) -> dict[str, Any]:
    """Return the fields of the `MjvCamera` described by `camera`."""
    if isinstance(camera, Mapping):
        return _fields(model, camera)
    names = [model.camera(i).name for i in range(model.ncam)]
    if isinstance(camera, str) and camera in names and camera:
        return {"type": FIXED, "fixedcamid": names.index(camera)}
    number: Any = camera
    if _is_integer(number) and 0 <= number < model.ncam:
        return {"type": FIXED, "fixedcamid": int(number)}
    known = ", ".join(f"{i} ({name!r})" if name else str(i) for i, name in enumerate(names))
    allowed = "None, a dict of fields of mujoco.MjvCamera, or a camera of the model: "
    allowed += f"one of {known}" if names else "it has no camera"
    hint = did_you_mean(camera, names) if isinstance(camera, str) else ""
    raise ConfigError("camera", camera, allowed, hint)


def _fields(model: Any, camera: Mapping[str, Any]) -> dict[str, Any]:
    """Return `camera` as plain values. Raises ConfigError for a field or value that is not allowed."""
    real = _is_real, float
    index = lambda low, high: (lambda value: _is_integer(value) and low <= operator.index(value) <= high, int)
    rules = {
        "type": (*index(FREE, FIXED), "0 (free), 1 (follows body `trackbodyid`) or 2 (`fixedcamid`)"),
        "trackbodyid": (*index(-1, model.nbody - 1), f"a body's number, at most {model.nbody - 1}, or -1"),
        "fixedcamid": (*index(-1, model.ncam - 1), f"a camera's number, at most {model.ncam - 1}, or -1"),
        "lookat": (_is_point, np.float64, "three finite numbers (m)"),
        "distance": (lambda value: _is_real(value) and value > 0, float, "a positive finite number (m)"),
        "azimuth": (*real, "a finite number (degrees)"),
        "elevation": (*real, "a finite number (degrees)"),
    }
    fields = {}
    for name, value in camera.items():
        if name not in rules:
            allowed = f"one of the fields {', '.join(rules)}"
            raise ConfigError("camera", name, allowed, did_you_mean(str(name), rules))
        fits, convert, allowed = rules[name]
        if not fits(value):
            raise ConfigError(f"camera {name}", value, allowed)
        fields[name] = convert(value)
    for kind, needed in ((TRACKING, "trackbodyid"), (FIXED, "fixedcamid")):
        if fields.get("type") == kind and fields.get(needed, -1) < 0:
            raise ConfigError("camera type", kind, f"{needed} as well, at least 0")
    return fields


def _is_integer(value: Any) -> bool:
    """Return True for an integer, including NumPy's and MuJoCo's enums."""
    try:
        operator.index(value)
    except TypeError:
        return False
    return not isinstance(value, bool | np.bool_ | np.ndarray | jax.Array)


def _is_real(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def _is_point(value: Any) -> bool:
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        return False
    return array.shape == (3,) and bool(np.isfinite(array).all())
