"""Pictures of recorded states of a MuJoCo environment, without a screen.

A picture is that which Gymnasium's `render_mode="rgb_array"` would show first, of an environment set to
that state: so it depends on the state alone. (After a step, Gymnasium draws geoms where they were one
physics step earlier; here they are where the state says.)
"""

# The names of the mujoco package come from compiled modules, which pyright cannot see into.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.core import Tracer

from purerl.config import ConfigError, did_you_mean
from purerl.envs.mujoco import opengl
from purerl.envs.mujoco.engine.physics import Physics
from purerl.types import PyTree

if TYPE_CHECKING:
    from purerl.envs.mujoco.task import Task

MAX_SIZE = 4096
"""Largest width and height, pixels: with antialiasing a picture then takes 600 MB of graphics memory."""
FREE, TRACKING, FIXED = range(3)
"""`type` of a `mujoco.MjvCamera`."""

Place = Callable[[Any, Any], None]


def make_render(task: Task) -> Callable[..., np.ndarray]:
    """`EnvFunctions.render` of a task. Raises ConfigError if the task's own camera makes no sense."""
    model = task.model
    default = _fields(model, task.camera)

    def render(
        states: PyTree,
        *,
        width: int = 480,
        height: int = 480,
        camera: str | int | Mapping[str, Any] | None = None,
    ) -> np.ndarray:
        """Pictures of states, `[..., height, width, 3]` uint8, drawn on the host.

        The first picture of a size takes a second; then many follow in one. Any thread may ask.

        Args:
            states: states of this environment, with any leading axes. Parameters that vary the physical
                model do not show: what is drawn is the model as it was made.
            width: in pixels, at most 4,096.
            height: in pixels, at most 4,096.
            camera: a camera of the model, by name or number (`"track"` goes along with most of
                Gymnasium's robots); or fields of `mujoco.MjvCamera`: those left out aim, as in
                Gymnasium, at the median of all geoms from a distance of the model's extent. None is
                the task's own camera.

        Raises ConfigError for any of them that cannot be; `opengl.RenderError` on a machine that cannot
        draw.
        """
        for name, size in (("width", width), ("height", height)):
            if not (_is_integer(size) and 0 < size <= MAX_SIZE):
                raise ConfigError(name, size, f"it must be a positive integer, at most {MAX_SIZE:,}")
        fields = default if camera is None else _read_camera(model, camera)
        leading, places = _read_states(model, states)
        shape = math.prod(leading), int(height), int(width), 3
        frames = np.empty(shape, np.uint8)
        for i, place in enumerate(places):
            frames[i] = opengl.draw(model, int(width), int(height), place, _make_look(fields))
        return frames.reshape(*leading, *shape[1:])

    return render


def _read_states(model: Any, states: PyTree) -> tuple[tuple[int, ...], Iterable[Place]]:
    """The leading axes, and for each state in turn a function that puts it into a `mujoco.MjData`."""
    import mujoco

    physics = getattr(states, "physics", None)
    if not isinstance(physics, Physics):
        what = (
            "it must be states of this environment, as its reset and step return them, with any leading axes"
        )
        raise ConfigError("states", type(states).__name__, what)
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(physics)):
        raise ConfigError("states", "a traced value", "pictures are drawn on the host, outside jit and vmap")
    if isinstance(physics.row, dict):
        qpos = _check("qpos", physics.qpos, model.nq, "float32")
        qvel = _check("qvel", physics.qvel, model.nv, "float32")
        if qpos.shape[:-1] != qvel.shape[:-1]:
            what = f"qpos has leading axes {qpos.shape[:-1]} and must have the same"
            raise ConfigError("qvel of states", qvel.shape, what)
        flat = zip(qpos.reshape(-1, model.nq), qvel.reshape(-1, model.nv), strict=True)
        return qpos.shape[:-1], (_place_at(*pose) for pose in flat)
    size = mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION)
    row = _check("row", physics.row, 2 * size, "uint32")
    flat = np.ascontiguousarray(row).view(np.float64).reshape(-1, size)
    return row.shape[:-1], (_place_row(numbers) for numbers in flat)


def _check(name: str, value: Any, size: int, dtype: str) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype != dtype or array.shape[-1:] != (size,):
        given = f"{array.dtype}{list(array.shape)}"
        raise ConfigError(f"{name} of states", given, f"those of this environment are {dtype}[..., {size}]")
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
    """`(model, data) -> MjvCamera`: Gymnasium's free camera, but for `fields`."""
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
    """The fields of the `MjvCamera` that the user means."""
    if isinstance(camera, Mapping):
        return _fields(model, camera)
    names = [model.camera(i).name for i in range(model.ncam)]
    if isinstance(camera, str) and camera in names and camera:
        return {"type": FIXED, "fixedcamid": names.index(camera)}
    number: Any = camera
    if _is_integer(number) and 0 <= number < model.ncam:
        return {"type": FIXED, "fixedcamid": int(number)}
    ours = ", ".join(f"{i} ({name!r})" if name else str(i) for i, name in enumerate(names))
    what = f"the model's cameras are {ours}" if names else "the model has no camera"
    what += "; a dict of fields of mujoco.MjvCamera looks from elsewhere, and None from the task's own place"
    raise ConfigError("camera", camera, what, did_you_mean(camera, names) if isinstance(camera, str) else "")


def _fields(model: Any, camera: Mapping[str, Any]) -> dict[str, Any]:
    """`camera` as plain values. Raises ConfigError unless all are fields of a `MjvCamera` that works."""
    real = _is_real, float
    index = lambda low, high: (lambda value: _is_integer(value) and low <= operator.index(value) <= high, int)
    rules = {
        "type": (*index(FREE, FIXED), "0 (free), 1 (goes along with body `trackbodyid`) or 2 (`fixedcamid`)"),
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
            what = f"the fields of a camera that count are {', '.join(rules)}"
            raise ConfigError("camera", name, what, did_you_mean(str(name), rules))
        fits, convert, what = rules[name]
        if not fits(value):
            raise ConfigError(f"camera {name}", value, f"it must be {what}")
        fields[name] = convert(value)
    for kind, needed in ((TRACKING, "trackbodyid"), (FIXED, "fixedcamid")):
        if fields.get("type") == kind and fields.get(needed, -1) < 0:
            raise ConfigError("camera type", kind, f"it needs {needed} as well, at least 0")
    return fields


def _is_integer(value: Any) -> bool:
    """Whether `value` is an integer, among them NumPy's and MuJoCo's enums."""
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
