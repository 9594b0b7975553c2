"""A task's keyword arguments and its model, checked before anything is compiled."""

# The names of the mujoco package come from compiled modules, which pyright cannot see into.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import logging
import math
import numbers
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from purerl.config import ConfigError, did_you_mean
from purerl.envs.mujoco.engine import mjx_support
from purerl.shown import shorten

logger = logging.getLogger(__name__)

ASSETS = Path(__file__).parents[0] / "assets"
COUNTS = {
    "frame_skip": 1_000,
    "max_episode_steps": 2**31 - 1,
    "num_threads": 1_024,
    "solver_iterations": 10_000,
    "ls_iterations": 10_000,
}
"""Arguments that are positive integers, and the largest value of each."""
CHOICES = {
    "engine": ("auto", "mujoco", "mjx"),
    "route": ("auto", "native", "callback"),
    "impl": ("jax",),
    "contacts": ("exact", "approximate"),
}
MAX_BODY = 1_000_000
MAX_FLOAT32 = float(np.finfo(np.float32).max)


class Setup(NamedTuple):
    """Simulation settings. Every MuJoCo task takes these in addition to its own arguments."""

    engine: str = "auto"
    """mujoco (C) or mjx (MuJoCo in JAX); auto takes mjx on an accelerator."""
    max_episode_steps: int = 1_000
    solver_iterations: int | None = None
    """Maximum iterations of the constraint solver; None keeps the model's own."""
    ls_iterations: int | None = None
    """Maximum steps of the solver's line search; None keeps the model's own."""
    num_threads: int | None = None
    """Threads of engine mujoco; None means one per CPU. No result depends on it."""
    route: str | None = None
    """Route of engine mujoco: native (C++), callback (Python), or auto, native if possible."""
    impl: str | None = None
    """Implementation of engine mjx: jax."""
    contacts: str = "exact"
    """approximate lets engine mjx simulate contacts that it only approximates; exact refuses such models."""


MISSING = (
    "engine auto takes mujoco for this model, slowly, because mjx does not simulate: %s. "
    "On a CPU it is fast: set JAX_PLATFORMS=cpu."
)
ONE_ENGINE = {"num_threads": "mujoco", "route": "mujoco", "impl": "mjx"}
"""Arguments of a single engine."""

OptionsT = TypeVar("OptionsT", bound=NamedTuple)
ParamsT = TypeVar("ParamsT", bound=NamedTuple)


def read_kwargs(
    options: OptionsT, params: ParamsT, setup: Setup, kwargs: dict[str, Any]
) -> tuple[OptionsT, ParamsT, Setup]:
    """Sort `kwargs` into a task's static options, its real-valued parameters, and the setup.

    Args:
        options: defaults of the arguments that shape the program: files, counts and switches.
        params: defaults of the numbers: floats, and pairs of floats for ranges.
        setup: defaults of the simulation, with the engine.
        kwargs: the user's arguments.

    Returns:
        `(options, params, setup)`, with float32 scalars in `params`.

    Raises ConfigError for an unknown name or a value of the wrong type.
    """
    defaults = {**options._asdict(), **params._asdict(), **setup._asdict()}
    for name, value in kwargs.items():
        if name not in defaults:
            allowed = f"one of the task's arguments {', '.join(defaults)}"
            raise ConfigError(name, value, allowed, did_you_mean(name, defaults))
        if not (value is None and defaults[name] is None):
            _check(name, value, defaults[name])
    _check("engine", setup.engine, "")
    values = {**defaults, **kwargs}
    pick = lambda fields: {name: values[name] for name in fields}
    leaves = {name: _float32(values[name]) for name in params._fields}
    return options._replace(**pick(options._fields)), params._replace(**leaves), Setup(**pick(Setup._fields))


def choose_engine(setup: Setup, model: Any) -> str:
    """Return the engine, mujoco or mjx, that simulates a `mujoco.MjModel`.

    auto is mujoco on a CPU, and mjx on an accelerator if mjx simulates the whole model; a warning says which
    parts it does not. Raises ConfigError for an argument of the other engine.
    """
    chosen = setup.engine
    if chosen == "auto":
        chosen = "mujoco" if jax.default_backend() == "cpu" else "mjx"
        if chosen == "mjx" and (missing := mjx_support.missing(model, setup.contacts)):
            chosen = "mujoco"
            logger.warning(MISSING, ", ".join(missing))
    for name, engine in ONE_ENGINE.items():
        value = getattr(setup, name)
        if value is not None and chosen != engine:
            raise ConfigError(name, value, f"None with engine={chosen!r}; it belongs to engine={engine!r}")
    return chosen


def _float32(value: Any) -> Any:
    return tuple(map(np.float32, value)) if np.ndim(value) else np.float32(value)


def _check(name: str, value: Any, default: Any) -> None:
    """Raise ConfigError unless `value` has the type of `default` and is in range."""
    if isinstance(default, bool):
        ok, allowed = isinstance(value, bool | np.bool_), "True or False"
    elif name in COUNTS:
        ok = _is_integer(value) and 0 < value <= COUNTS[name]
        allowed = f"a positive integer, at most {COUNTS[name]:,}"
    elif name in CHOICES:
        ok, allowed = value in CHOICES[name], f"one of {', '.join(CHOICES[name])}"
    elif name == "main_body":
        ok = isinstance(value, str) or (_is_integer(value) and 0 <= value <= MAX_BODY)
        allowed = f"a body's name, or its number, at least 0, at most {MAX_BODY:,}"
    elif isinstance(default, str):
        ok, allowed = isinstance(value, str | Path), "a path"
    elif isinstance(default, tuple):
        ok, allowed = _is_range(value), "a pair (low, high) of numbers with low <= high"
    elif name == "reset_noise_scale":
        ok, allowed = _is_finite(value) and value >= 0, "a finite number, at least 0"
    else:
        ok, allowed = _is_finite(value), "a finite number"
    if not ok:
        hint = did_you_mean(value, CHOICES[name]) if name in CHOICES and isinstance(value, str) else ""
        raise ConfigError(name, value, allowed, hint)


def _is_integer(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    """Return True for a real number that float32 can represent, or an infinity."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return real and (-MAX_FLOAT32 <= value <= MAX_FLOAT32 or value in (-math.inf, math.inf))  # type: ignore


def _is_finite(value: Any) -> bool:
    return _is_number(value) and value not in (-math.inf, math.inf)


def _is_range(value: Any) -> bool:
    if not isinstance(value, tuple | list) or len(value) != 2 or not all(map(_is_number, value)):
        return False
    return value[0] <= value[1]


def load_model(xml_file: str | Path) -> Any:
    """Return the `mujoco.MjModel` of an asset of this package, or of any other file.

    Raises ConfigError for a file that is missing or contains no model.
    """
    import mujoco

    load = lambda: mujoco.MjModel.from_xml_path(str(find_file(xml_file)))
    return tried("xml_file", str(xml_file), load, "an MJCF file; this one cannot be read")


def tried(field: str, value: Any, load: Callable[[], Any], expected: str, missing: str = "") -> Any:
    """Return the `mujoco.MjModel` that `load` returns, simulated once.

    If MuJoCo refuses it, raises ConfigError about `field`, whose value is `value`: `expected`, followed by
    the reason, and the hint `missing` if a file cannot be opened.
    """
    import mujoco

    try:
        model = load()
        mujoco.mj_forward(model, mujoco.MjData(model))  # for which <size memory=""/> may be too small
        return model
    except ConfigError:
        raise
    # Bad XML, an unknown ~user, a name that is too long.
    except (ValueError, RuntimeError, OSError, mujoco.FatalError) as error:
        reason = " ".join(str(error).split())
        hint = missing if "opening file" in reason else ""
        raise ConfigError(field, value, f"{expected}: {shorten(reason, 300)}", hint) from error


def find_file(xml_file: str | Path) -> Path:
    """Return the path of an asset of this package, or of any other file. Raises ConfigError if missing."""
    for path in (ASSETS / xml_file, Path(xml_file).expanduser()):
        if path.is_file():
            return path.resolve()
    names = sorted(asset.name for asset in ASSETS.glob("*.xml"))
    allowed = f"the path of a file that exists, or one of {', '.join(names)}"
    raise ConfigError("xml_file", str(xml_file), allowed, did_you_mean(str(xml_file), names))


def find_body(model: Any, body: int | str, field: str, given: Any) -> int:
    """Return the number of a body, given by number or name.

    If there is none, raises ConfigError about `field`, whose value is `given`.
    """
    try:
        return model.body(body).id
    except (KeyError, IndexError) as error:
        names = ", ".join(model.body(i).name for i in range(model.nbody) if model.body(i).name)
        allowed = f"a model with body {body!r}; this one has 0 to {model.nbody - 1}, among them {names}"
        raise ConfigError(field, str(given) if isinstance(given, Path) else given, allowed) from error
