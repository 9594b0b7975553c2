"""Attributes that an environment must have, and the wording of faults."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import jax
import numpy as np
from gymnasium import spaces

from purerl.spaces import CHOICES, first_choice
from purerl.types import PyTree

Check = Generator[str, None, Any]
"""Checks: they yield faults, and return what later checks need."""
OBS_DTYPES = {"float32": "float32", "float64": "float32", "uint8": "uint8"}
"""dtype of a space -> dtype of its observations; many libraries default to float64."""
PURITY = "What changes belongs in the state, and chance comes from the key."
TRACING = "Use jnp instead of np, and jnp.where instead of if."
HINTS = {
    jax.errors.ConcretizationTypeError: TRACING,
    jax.errors.TracerArrayConversionError: TRACING,
    jax.errors.TracerIntegerConversionError: TRACING,
    jax.errors.UnexpectedTracerError: PURITY,
}


class Task(NamedTuple):
    """Parts of the environment under check; None for one that is missing or invalid."""

    reset: Any
    step: Any
    observation_space: Any
    action_space: Any
    max_episode_steps: Any
    default_params: PyTree
    given: PyTree = None
    """Parameters to check with; `default_params` if None."""

    @property
    def params(self) -> PyTree:
        return self.default_params if self.given is None else self.given


def fault(where: str, expected: str, found: str, hint: str = "") -> str:
    """Return the sentence of a fault, as all checks word it."""
    return f"{where}: expected {expected}, got {found}." + (hint and f" {hint}")


def attempt(call: str, function: Callable[[], Any]) -> Check:
    """Return `function()`, or None after a fault if it raises."""
    try:
        return function()
    except Exception as error:
        first, *rest = str(error).splitlines() or [""]
        message = rest[-1] if first.endswith("(most recent call last):") else first.rstrip(".")
        hint = next((hint for kind, hint in HINTS.items() if isinstance(error, kind)), "")
        yield fault(call, "no exception", f"{type(error).__name__}: {message}", hint)
        return None


def check_interface(env: Any, params: PyTree) -> tuple[Task, list[str]]:
    """Return the attributes of `env` as a `Task`, and the faults of the others."""
    good, faults = {}, []
    for name, (fits, expected) in ATTRIBUTES.items():
        try:
            value = getattr(env, name)
            found = None if fits(value) else repr(value)
        except Exception as error:
            found = "nothing" if isinstance(error, AttributeError) else repr(error)
        if found is None:
            good[name] = value
        else:
            faults.append(fault(name, expected, found))
    fits, expected = ATTRIBUTES["default_params"]
    if params is not None and not fits(params):
        faults.append(fault("params", expected, repr(params)))
        params = None
    return Task(*map(good.get, Task._fields[:-1]), given=params), faults


def _is_observation_space(value: Any) -> bool:
    if isinstance(value, spaces.Dict):
        return bool(value.spaces) and all(
            isinstance(part, spaces.Box) and _is_observation_space(part) for part in value.spaces.values()
        )
    return isinstance(value, spaces.Box) and str(value.dtype) in OBS_DTYPES


def _is_action_space(value: Any) -> bool:
    if isinstance(value, CHOICES):
        return bool(np.all(first_choice(value) == 0)) and len(value.shape or ()) < 2
    return isinstance(value, spaces.Box) and bool(np.issubdtype(value.dtype, np.floating))


def _is_positive_count(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value > 0)


def _is_numeric_pytree(value: Any) -> bool:
    try:
        return all(jax.typeof(leaf) is not None for leaf in jax.tree.leaves(value))
    except TypeError:
        return False


ATTRIBUTES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "name": (lambda value: isinstance(value, str) and value != "", "a non-empty string"),
    "observation_space": (
        _is_observation_space,
        "a gymnasium.spaces.Box of floats, or of uint8 for pixels, or a flat Dict of such",
    ),
    "action_space": (
        _is_action_space,
        "a Box of floats, a Discrete or flat MultiDiscrete that starts at 0, or a flat MultiBinary, "
        "of gymnasium.spaces",
    ),
    "max_episode_steps": (_is_positive_count, "a positive whole number, the step that is `truncated`"),
    "default_params": (_is_numeric_pytree, "a pytree of numbers and arrays, () if there are none"),
    "reset": (callable, "a function of (key, params=None, needed=True)"),
    "step": (callable, "a function of (key, state, action, params=None)"),
}
"""Attribute -> predicate of a valid value, and what is expected."""
