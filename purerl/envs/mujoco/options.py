"""A task's keyword arguments, checked before anything is compiled."""

# The names of the mujoco package come from compiled modules, which pyright cannot see into.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import math
import numbers
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from purerl.config import ConfigError, did_you_mean, shorten

ASSETS = Path(__file__).parents[0] / "assets"
COUNTS = {
    "frame_skip": 1_000,
    "max_episode_steps": 2**31 - 1,
    "num_threads": 1_024,
    "solver_iterations": 10_000,
    "ls_iterations": 10_000,
}
"""Positive whole numbers and the largest value of each."""
CHOICES = {
    "engine": ("auto", "mujoco", "mjx"),
    "route": ("auto", "native", "callback"),
    "impl": ("jax",),
}
MAX_BODY = 1_000_000
MAX_FLOAT32 = float(np.finfo(np.float32).max)


class Setup(NamedTuple):
    """How a task is simulated. Every MuJoCo task takes these beside its own arguments."""

    engine: str = "auto"
    """mujoco (C) or mjx (MuJoCo in JAX); auto takes mjx on an accelerator."""
    max_episode_steps: int = 1_000
    solver_iterations: int | None = None
    """At most so many iterations of the constraint solver; None leaves the model's own."""
    ls_iterations: int | None = None
    """At most so many steps of its line search; None leaves the model's own."""
    num_threads: int | None = None
    """Of engine mujoco; None takes one per CPU. No result depends on it."""
    route: str | None = None
    """Of engine mujoco: native (compiled C++), callback (Python), or auto, the better that works."""
    impl: str | None = None
    """Of engine mjx: its implementation, jax."""


ONE_ENGINE = {"num_threads": "mujoco", "route": "mujoco", "impl": "mjx"}
"""Arguments that only one engine has."""

OptionsT = TypeVar("OptionsT", bound=NamedTuple)
ParamsT = TypeVar("ParamsT", bound=NamedTuple)


def read_kwargs(
    options: OptionsT, params: ParamsT, setup: Setup, kwargs: dict[str, Any]
) -> tuple[OptionsT, ParamsT, Setup]:
    """`kwargs` sorted into a task's static options, its real-valued parameters, and the setup.

    Args:
        options: the defaults of what shapes the program: files, counts and switches.
        params: the defaults of what is a number to it: floats, and pairs of floats for ranges.
        setup: the defaults of how it is simulated, and the engine.
        kwargs: what the user gave.

    Returns:
        `(options, params, setup)`, the leaves of `params` as float32 scalars, the engine settled.

    Raises ConfigError for an unknown name, a value of the wrong kind, or an argument of the other
    engine.
    """
    defaults = {**options._asdict(), **params._asdict(), **setup._asdict()}
    for name, value in kwargs.items():
        if name not in defaults:
            what = f"the task's arguments are {', '.join(defaults)}"
            raise ConfigError(name, value, what, did_you_mean(name, defaults))
        if not (value is None and defaults[name] is None):
            _check(name, value, defaults[name])
    _check("engine", setup.engine, "")
    values = {**defaults, **kwargs}
    if values["engine"] == "auto":
        values["engine"] = "mujoco" if jax.default_backend() == "cpu" else "mjx"
    for name, engine in ONE_ENGINE.items():
        if values[name] is not None and values["engine"] != engine:
            raise ConfigError(
                name, values[name], f"only engine={engine!r} has it, and this is {values['engine']!r}"
            )
    pick = lambda fields: {name: values[name] for name in fields}
    leaves = {name: _float32(values[name]) for name in params._fields}
    return options._replace(**pick(options._fields)), params._replace(**leaves), Setup(**pick(Setup._fields))


def _float32(value: Any) -> Any:
    return tuple(map(np.float32, value)) if np.ndim(value) else np.float32(value)


def _check(name: str, value: Any, default: Any) -> None:
    """Raise ConfigError unless `value` is of the kind of `default`."""
    if isinstance(default, bool):
        ok, what = isinstance(value, bool | np.bool_), "it must be True or False"
    elif name in COUNTS:
        ok = _is_integer(value) and 0 < value <= COUNTS[name]
        what = f"it must be a positive integer, at most {COUNTS[name]:,}"
    elif name in CHOICES:
        ok, what = value in CHOICES[name], f"one of {', '.join(CHOICES[name])}"
    elif name == "main_body":
        ok = isinstance(value, str) or (_is_integer(value) and 0 <= value <= MAX_BODY)
        what = f"it must be a body's name, or its number, at least 0, at most {MAX_BODY:,}"
    elif isinstance(default, str):
        ok, what = isinstance(value, str | Path), "it must be a path"
    elif isinstance(default, tuple):
        ok, what = _is_range(value), "it must be a pair (low, high) of numbers with low <= high"
    elif name == "reset_noise_scale":
        ok, what = _is_finite(value) and value >= 0, "it must be a finite number, at least 0"
    else:
        ok, what = _is_finite(value), "it must be a finite number"
    if not ok:
        hint = did_you_mean(value, CHOICES[name]) if name in CHOICES and isinstance(value, str) else ""
        raise ConfigError(name, value, what, hint)


def _is_integer(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    """Whether `value` is a real number that float32 can hold, or an infinity."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return real and (-MAX_FLOAT32 <= value <= MAX_FLOAT32 or value in (-math.inf, math.inf))  # type: ignore


def _is_finite(value: Any) -> bool:
    return _is_number(value) and value not in (-math.inf, math.inf)


def _is_range(value: Any) -> bool:
    if not isinstance(value, tuple | list) or len(value) != 2 or not all(map(_is_number, value)):
        return False
    return value[0] <= value[1]


def load_model(xml_file: str | Path) -> Any:
    """The `mujoco.MjModel` of one of our assets, or of any other file.

    Raises ConfigError if there is no such file, or no model in it.
    """
    import mujoco

    try:
        return mujoco.MjModel.from_xml_path(str(find_file(xml_file)))
    except ConfigError:
        raise
    except (ValueError, RuntimeError, OSError) as error:  # bad XML, ~nobody, a name that is too long
        reason = " ".join(str(error).split())
        raise ConfigError("xml_file", str(xml_file), f"it cannot be read: {shorten(reason, 300)}") from error


def find_file(xml_file: str | Path) -> Path:
    """Where `xml_file` is: one of our assets, or any other file. Raises ConfigError if nowhere."""
    for path in (ASSETS / xml_file, Path(xml_file).expanduser()):
        if path.is_file():
            return path.resolve()
    ours = sorted(asset.name for asset in ASSETS.glob("*.xml"))
    what = f"there is no such file; it can be a path, or one of {', '.join(ours)}"
    raise ConfigError("xml_file", str(xml_file), what, did_you_mean(str(xml_file), ours))


def find_body(model: Any, body: int | str, field: str, given: Any) -> int:
    """The number of a body, given by it or by its name.

    Raises ConfigError about `field`, for which the user has `given` a value, if there is none.
    """
    try:
        return model.body(body).id
    except (KeyError, IndexError) as error:
        names = ", ".join(model.body(i).name for i in range(model.nbody) if model.body(i).name)
        what = f"the model has no body {body!r}, but bodies 0 to {model.nbody - 1}, among them {names}"
        raise ConfigError(field, str(given) if isinstance(given, Path) else given, what) from error
