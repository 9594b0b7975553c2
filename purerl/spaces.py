"""One check of an environment's spaces, for every algorithm."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from purerl.config import ConfigError
from purerl.types import Array, EnvSpec, PyTree

ACTIONS = "a Discrete, MultiDiscrete, MultiBinary or flat Box"
CONTINUOUS = "continuous actions, a flat Box with finite bounds"
CHOICES = (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
"""Spaces of actions that are one choice, or several at once."""
SEVERAL = (spaces.MultiDiscrete, spaces.MultiBinary)
HINTS: dict[type, str] = {
    spaces.Tuple: "Concatenate its parts into one array in reset and step.",
    spaces.Discrete: "Return jax.nn.one_hot(index, n) in reset and step.",
    spaces.MultiDiscrete: "Return numbers or one-hot rows as float32 in reset and step.",
    spaces.MultiBinary: "Return the switches as float32 in reset and step.",
}
"""Advice about observations in other spaces."""


def check_spaces(spec: EnvSpec) -> None:
    """Raise ConfigError unless some algorithm can use both spaces of an environment.

    Observations are a Box of floats or of uint8 with at least one number, or a Dict of such. Actions are a
    Discrete or a flat MultiDiscrete that start at 0, a flat MultiBinary, or a Box of floats with one axis:
    bounded on every side, each low below its high, or on none.
    """
    _check_observations(spec.name, spec.observation_space)
    _check_actions(spec.name, spec.action_space)


def boxes(space: spaces.Space) -> Any:
    """Return the Boxes of an observation space as a pytree like its observations: one, or a dict of them."""
    return dict(space.spaces) if isinstance(space, spaces.Dict) else space


def shapes(space: spaces.Space, *lead: int) -> PyTree:
    """Return the shapes `[*lead, ...]` and dtypes of elements of a space in a program."""
    one = lambda box: jax.ShapeDtypeStruct((*lead, *(box.shape or ())), dtype_of(box))
    return jax.tree.map(one, boxes(space))


def num_rows(obs: PyTree) -> int:
    """Return B of observations `[B, O]`."""
    return jax.tree.leaves(obs)[0].shape[0]


def zeros(space: spaces.Space, *lead: int) -> PyTree:
    """Return zeros `[*lead, ...]` in the place of elements of a space."""
    return jax.tree.map(lambda one: jnp.zeros(one.shape, one.dtype), shapes(space, *lead))


def as_floats(obs: PyTree) -> PyTree:
    """Return `obs` as float32, as networks behind a normaliser have it."""
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), obs)


def dtype_of(space: spaces.Space) -> Any:
    """Return the dtype of a space's elements in a program: that of the space, but never of 64 bits.

    Choices are int32.
    """
    if isinstance(space, CHOICES):
        return jnp.int32
    return {"float64": jnp.float32, "int64": jnp.int32}.get(str(space.dtype), space.dtype)


def algorithm_hint(space: spaces.Space) -> str:
    """Return the advice which algorithm takes a space of actions."""
    if isinstance(space, SEVERAL):
        return "Use ppo, a2c, trpo or vpg for several choices at once."
    fitting = "dqn for discrete" if isinstance(space, spaces.Discrete) else "sac for continuous"
    return f"Use {fitting} actions."


def num_logits(space: Any) -> int:
    """Return the outputs of a policy network for a space of `CHOICES`: all choices side by side."""
    if isinstance(space, spaces.MultiDiscrete):
        return int(space.nvec.sum())
    return int(space.n)


def first_choice(space: spaces.Space) -> Any:
    """Return the element with which a space of choices starts, an int or `[A]`; 0 for other spaces."""
    return getattr(space, "start", 0)


def vector_size(space: spaces.Space) -> int:
    """Return the number of entries of `as_vector`."""
    return int(space.n) if isinstance(space, spaces.Discrete) else math.prod(space.shape or ())


def as_vector(space: spaces.Space, action: Array) -> Array:
    """Return an action `[..., A]` as floats for a network: an index as a vector with a single 1."""
    if isinstance(space, spaces.Discrete):
        return jax.nn.one_hot(action, int(space.n), dtype=jnp.float32)
    return action


def float32_bounds(space: spaces.Box) -> tuple[np.ndarray, np.ndarray]:
    """Return the least and the greatest float32 within the bounds of `space`, each `[*A]`."""
    with np.errstate(over="ignore"):  # bounds beyond float32 become infinite
        low, high = space.low.astype(np.float32), space.high.astype(np.float32)
        low = np.where(low < space.low, np.nextafter(low, np.float32(np.inf)), low)
        high = np.where(high > space.high, np.nextafter(high, np.float32(-np.inf)), high)
    return low, high


def _check_observations(name: str, space: Any) -> None:
    """Raise ConfigError unless observations are a Box that some algorithm can use, or a Dict of such."""
    if isinstance(space, spaces.Dict):
        if not space.spaces:
            raise ConfigError("env", name, "an environment with at least one part of its observations")
        for part, inner in space.spaces.items():
            if isinstance(inner, spaces.Dict):
                what = f"an environment whose Dict observation space is flat, got a Dict in {part!r}"
                raise ConfigError("env", name, what)
            _check_observations(name, inner)
        return

    def refuse(what: str, hint: str = "") -> None:
        raise ConfigError("env", name, f"an environment with {what}, got {_name(space)}", hint)

    if not isinstance(space, spaces.Box):
        refuse("a Box observation space of gymnasium.spaces, or a Dict of Boxes", HINTS.get(type(space), ""))
    elif str(space.dtype) not in ("float32", "float64", "uint8"):
        refuse("observations of float32, or uint8 for pixels", "Convert them in reset and step.")
    elif 0 in space.shape:
        refuse("at least one number in an observation")
    elif np.isnan(space.low).any() or np.isnan(space.high).any() or (space.low > space.high).any():
        refuse("an observation space whose low is at most its high")


def _check_actions(name: str, space: Any) -> None:
    def refuse(what: str, hint: str = "") -> None:
        raise ConfigError("env", name, f"an environment with {what}, got {_name(space)}", hint)

    if isinstance(space, CHOICES):
        kind = type(space).__name__
        if np.any(first_choice(space) != 0):
            refuse(f"a {kind} action space that starts at 0", "Add the start to the action in step.")
        elif len(space.shape or ()) > 1:
            refuse(f"a flat {kind} action space, of one axis", "Reshape the action in step.")
        elif 0 in (space.shape or ()):
            refuse("at least one choice in an action")
    elif not isinstance(space, spaces.Box):
        refuse(f"{ACTIONS} action space of gymnasium.spaces")
    elif not np.issubdtype(space.dtype, np.floating):
        refuse("a Box action space of floats", "Whole numbers are a Discrete, or rounded in step.")
    elif len(space.shape) != 1:
        refuse("a flat Box action space, of one axis", "Reshape the action in step.")
    elif 0 in space.shape:
        refuse("at least one number in an action")
    else:
        _check_bounds(space, refuse)


def _check_bounds(space: spaces.Box, refuse: Any) -> None:
    low, high = float32_bounds(space)
    with np.errstate(over="ignore", invalid="ignore"):
        width = high - low
    if np.isneginf(low).all() and np.isposinf(high).all():
        return
    if not np.isfinite(width).all():
        what = "actions that are bounded on every side, by bounds whose distance float32 can hold, or on none"
        refuse(what)
    if not (width > 0).all():
        refuse("an action space whose low is below its high in every entry")


def _name(space: Any) -> str:
    """Return a space in words; one of another library as its type."""
    kind = type(space)
    if space is None:
        return "None"
    return (
        " ".join(str(space).split())
        if isinstance(space, spaces.Space)
        else f"a {kind.__module__}.{kind.__name__}"
    )
