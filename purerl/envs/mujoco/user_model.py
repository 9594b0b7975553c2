"""The model of a user's task, from a file, XML text, an `MjSpec` or an `MjModel`, with bounds of actions."""

# The names of the mujoco package come from compiled modules, which pyright cannot see into.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from purerl.config import ConfigError, did_you_mean
from purerl.envs.mujoco.options import MAX_FLOAT32, find_file, tried
from purerl.shown import Words, shorten

OTHERS = "XML text, a mujoco.MjSpec or a mujoco.MjModel"
MORE_BOUNDS = "or give action_bounds=(LOW, HIGH) or {NAME: (LOW, HIGH)}."


def load(given: Any, assets: Any, action_bounds: Any) -> tuple[Any, Any]:
    """Return a `mujoco.MjModel` whose actions are bounded, and the file or `mujoco.MjSpec` it comes from.

    Args:
        given: `model` of `mujoco_env`; an object stays as it is.
        assets: names and contents of the files that XML text names; None for none.
        action_bounds: as in `mujoco_env`.

    Raises ConfigError for anything that is not a usable model with bounds.
    """
    model, source, shown = _compile(given, _files(given, assets))
    if not model.nu:
        raise ConfigError("model", shown, "a model with actuators; this one has none")
    if action_bounds is not None:
        _set_bounds(model, action_bounds)
    unbounded, off = _missing(model)
    if unbounded.any():
        hint = f"Give each a ctrlrange='LOW HIGH', {MORE_BOUNDS}"
        raise _refused(shown, model, unbounded, "none", hint)
    if off.any():
        hint = f"Set ctrllimited='true' in each, {MORE_BOUNDS}"
        raise _refused(shown, model, off, "a ctrlrange that is off", hint)
    return model, source


def _is_text(given: Any) -> bool:
    return isinstance(given, str) and given.lstrip("\ufeff").lstrip().startswith("<")


def _files(given: Any, assets: Any) -> dict[str, bytes]:
    if assets is None:
        return {}
    if not _is_text(given):
        hint = "A file and an MjSpec find their own files, and an MjModel contains them."
        raise ConfigError("assets", assets, "None, unless `model` is XML text", hint)
    if not isinstance(assets, Mapping):
        raise ConfigError("assets", assets, "a dict from file names to their contents, bytes")
    for name, content in assets.items():
        if not isinstance(name, str) or not isinstance(content, bytes):
            raise ConfigError(f"assets[{name!r}]", content, "the content of a file, bytes, under its name")
    return dict(assets)


def _compile(given: Any, assets: dict[str, bytes]) -> tuple[Any, Any, str]:
    """Return a private model, its source, and `given` as messages show it."""
    import mujoco

    if isinstance(given, mujoco.MjModel):
        shown = Words("an MjModel")
        return tried("model", shown, lambda: _copy(given), "a sound one; MuJoCo refuses this"), None, shown
    if isinstance(given, mujoco.MjSpec):
        shown, missing = Words("an MjSpec"), "Set its `modelfiledir` or `assets`."
        expected = "one that compiles; this one does not"
        model = tried("model", shown, lambda: given.copy().compile(), expected, missing)
        return model, given.copy(), shown
    if not _is_text(given):
        path, shown = _path(given), str(given)
        load = lambda: mujoco.MjModel.from_xml_path(str(find_file(path)))
        return tried("model", shown, load, "an MJCF file; this one cannot be read"), path, shown
    shown = Words("XML text")
    missing = "Give its content in assets={NAME: BYTES}, or `model` as the path of a file beside it."
    load = lambda: mujoco.MjModel.from_xml_string(given, assets)
    model = tried("model", shown, load, "MJCF; this text cannot be read", missing)
    return model, _spec(given, assets), shown


def _spec(text: str, assets: dict[str, bytes]) -> Any:
    """Return the `mujoco.MjSpec` of a model's text, or None where MuJoCo reads it only as a model."""
    import mujoco

    try:
        return mujoco.MjSpec.from_string(text, include=assets, assets=assets)
    except ValueError:
        return None


def _copy(model: Any) -> Any:
    """Return a copy of a `mujoco.MjModel`, read as a file is, which checks its references."""
    import mujoco

    image = np.zeros(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, image)
    return mujoco.MjModel.from_binary_path("model.mjb", {"model.mjb": image.tobytes()})


def _path(given: Any) -> Path:
    """Return the absolute path of the file `given`, which is never an asset of the same name."""
    try:
        path = Path(given).expanduser().absolute()
        found = path.is_file()
    except (TypeError, ValueError, RuntimeError, OSError) as error:  # no path, an unknown ~user, a long name
        raise ConfigError("model", given, f"the path of a file, {OTHERS}: {shorten(str(error))}") from error
    if not found:
        hint = "XML text begins with '<'." if "<" in str(given) else ""
        raise ConfigError("model", str(given), f"the path of a file that exists, {OTHERS}", hint)
    return path


def _missing(model: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the inputs `[nu]` that have no finite range, and those whose range is not in force."""
    low, high = model.actuator_ctrlrange.T
    bounded = (np.abs(model.actuator_ctrlrange) <= MAX_FLOAT32).all(1) & (low < high)
    return ~bounded, model.actuator_ctrllimited == 0


def _set_bounds(model: Any, bounds: Any) -> None:
    """Set the ranges of inputs of `model`: those that `bounds` names, or those that have none."""
    if not isinstance(bounds, Mapping):
        ranges = _read_bounds("action_bounds", bounds, model.nu)
        inputs = np.logical_or(*_missing(model)) if ranges.ndim == 1 else np.ones(model.nu, bool)
        return _write(model, inputs, np.broadcast_to(ranges, (model.nu, 2))[inputs])
    names = [model.actuator(i).name for i in range(model.nactuator)]
    for name, pair in bounds.items():
        if not name or name not in names:
            known = ", ".join(filter(None, names)) or "none of its actuators has a name"
            hint = did_you_mean(str(name), filter(None, names))
            raise ConfigError("action_bounds", name, f"the name of an actuator of the model: {known}", hint)
        inputs = _owners(model) == names.index(name)
        _write(model, inputs, _read_bounds(f"action_bounds[{name!r}]", pair, int(inputs.sum())))


def _write(model: Any, inputs: np.ndarray, ranges: np.ndarray) -> None:
    model.actuator_ctrlrange[inputs] = ranges
    model.actuator_ctrllimited[inputs] = True


def _read_bounds(field: str, given: Any, count: int) -> np.ndarray:
    """Return `given` as an array, `[2]` or `[count, 2]`. Raises ConfigError about `field` if it is none."""
    pair = "a pair (low, high) of finite numbers with low < high"
    several = f", or an array of such pairs, [{count}, 2], one for each input" if count > 1 else ""
    try:
        array = np.asarray(given)
        fits = array.dtype.kind in "fiu" and array.shape in ((2,), (count, 2))
    except (TypeError, ValueError) as error:  # rows of different lengths, a traced value
        raise ConfigError(field, given, pair + several) from error
    if not fits:
        raise ConfigError(field, given, pair + several)
    for i, (low, high) in enumerate(np.atleast_2d(array)):
        finite = abs(low) <= MAX_FLOAT32 and abs(high) <= MAX_FLOAT32
        if not (finite and np.float32(low) < np.float32(high)):
            where = f"{field}[{i}]" if array.ndim == 2 else field
            raise ConfigError(where, (float(low), float(high)), f"{pair}, also as float32")
    return array.astype(np.float64)


def _owners(model: Any) -> np.ndarray:
    """Return the number of the actuator of each input, `[nu]`."""
    return np.repeat(np.arange(model.nactuator), model.actuator_ctrlnum)


def _refused(shown: str, model: Any, inputs: np.ndarray, bounds: str, hint: str) -> ConfigError:
    """Return the error about the actuators of some `inputs [nu]`, of which each has one or several."""
    numbers = np.unique(_owners(model)[inputs])
    names = ", ".join(model.actuator(i).name or f"number {i}" for i in numbers)
    return ConfigError("model", shown, f"actuators with bounds; these have {bounds}: {names}", hint)
