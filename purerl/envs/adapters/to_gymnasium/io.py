"""Conversions between Gymnasium and compiled programs: actions, seeds and masks in; arrays and infos out.

Invalid values are refused before anything is computed, because a program would clamp an index and go on.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from purerl.config import ConfigError, did_you_mean
from purerl.spaces import ACTIONS, CHOICES, SEVERAL, first_choice
from purerl.types import Array

PARTS = ("name", "observation_space", "action_space", "reset", "step")
READY = 64
"""Most actions of which arrays are kept: they are on the device, and spare a step the way there."""
PYTHON_DTYPES = {"f": np.float64, "i": np.int64, "u": np.int64}
"""Kind of a dtype -> dtype that NumPy gives Python numbers of that kind."""


def check_spaces(env: Any) -> None:
    """Raise ConfigError unless `env` is an environment of purerl with spaces that Gymnasium can have."""
    if any(not hasattr(env, name) for name in PARTS):
        what = f"an environment of purerl, as purerl.make_env makes them, with {', '.join(PARTS)}"
        raise ConfigError("env", env, what)
    if not isinstance(env.observation_space, spaces.Box):
        raise ConfigError("env", env.name, f"observations in a Box, got {env.observation_space}")
    if not isinstance(env.action_space, (spaces.Box, *CHOICES)):
        raise ConfigError("env", env.name, f"actions in {ACTIONS}, got {env.action_space}")


class Actions:
    """Reader of actions: returns them as int32 or float32 and refuses those outside the space.

    Args:
        space: of one action.
        rows: leading axes.
    """

    def __init__(self, space: Any, rows: tuple[int, ...]):
        self._shape = (*rows, *(space.shape or ()))
        self._ready: dict[Any, Array] = {}
        if isinstance(space, spaces.Discrete):
            self._kinds, self._dtype = "iu", np.dtype(np.int32)
            self._low, self._high = int(space.start), int(space.start + space.n - 1)
            if not rows and space.n <= READY:
                self._ready = {i: jnp.int32(i) for i in range(self._low, self._high + 1)}
        elif isinstance(space, SEVERAL):
            self._kinds, self._dtype = "iu", np.dtype(np.int32)
            self._low = np.broadcast_to(first_choice(space), space.shape)
            self._high = self._low + getattr(space, "nvec", 2) - 1
        else:
            self._kinds, self._dtype = "fiu", np.dtype(np.float32)
            bounds = (bound.astype(np.float32) for bound in (space.low, space.high))
            self._low, self._high = map(np.nan_to_num, bounds)

    def read(self, action: Any, live: np.ndarray | None = None) -> np.ndarray | Array:
        """Return `action`; raise ConfigError if a row that is `live`, or any if None, is not in the space."""
        if isinstance(action, int | np.integer) and not isinstance(action, bool) and action in self._ready:
            return self._ready[action]
        try:
            array = np.asarray(action)
        except (TypeError, ValueError):
            array = np.array(None)
        if array.dtype.kind not in self._kinds or array.shape != self._shape:
            raise ConfigError(
                "action", action, f"{self._allowed()}, got {array.dtype} of shape {array.shape}"
            )
        if self._dtype == np.float32 and array.dtype != np.float32:
            with np.errstate(over="ignore"):  # an infinity, which is refused below
                array = array.astype(np.float32)
        fits = (self._low <= array) & (array <= self._high)  # False for NaN
        if not fits.all():
            self._refuse(array, fits, live)
        return array.astype(self._dtype, copy=False)

    def _refuse(self, array: np.ndarray, fits: np.ndarray, live: np.ndarray | None) -> None:
        if live is None:
            raise ConfigError("action", array.tolist(), self._allowed())
        wrong = np.flatnonzero(live & ~fits.reshape(len(live), -1).all(1))
        if len(wrong):
            raise ConfigError("action", array[wrong[0]].tolist(), f"in row {wrong[0]} {self._allowed()}")

    def _allowed(self) -> str:
        kind = "integers" if self._dtype == np.int32 else "finite numbers"
        bounds = map(np.array, (self._low, self._high))
        low, high = (b.flat[0] if b.size and np.ptp(b) == 0 else b for b in bounds)
        return f"{kind} of shape {self._shape} from {low} to {high}"


def row_seeds(seed: Any, num_rows: int) -> list[int | None]:
    """Return the seed of each row: `seed`, `seed + 1`, ..., or those that `seed` lists.

    Raises ConfigError for an invalid one.
    """
    if seed is None:
        return [None] * num_rows
    try:
        if np.ndim(seed) == 0:
            return [_seed(seed) + i for i in range(num_rows)]
        seeds = [None if own is None else _seed(own) for own in seed]
    except (TypeError, ValueError):
        what = "a whole number of at least 0, or a list with one or None for each row"
        raise ConfigError("seed", seed, what) from None
    if len(seeds) != num_rows:
        raise ConfigError("seed", seed, f"one for each of {num_rows} rows, got {len(seeds)}")
    return seeds


def _seed(seed: Any) -> int:
    value = operator.index(seed)
    if value < 0 or isinstance(seed, bool):
        raise ValueError(value)
    return value


def entropy(env: gymnasium.Env | gymnasium.vector.VectorEnv) -> int:
    """Return the seed of a Gymnasium `env` that was given none: `env.np_random_seed` where it is known."""
    seed: Any = env.np_random_seed
    return seed if seed >= 0 else int(env.np_random.integers(2**32))  # -1 for a generator set by the user


def reset_mask(options: Mapping[str, Any] | None, num_rows: int) -> np.ndarray:
    """Return the rows to reset, `[num_rows]` bool. Raises ConfigError for any other option."""
    for name in options or {}:
        if name != "reset_mask":
            raise ConfigError("options", name, "only reset_mask", did_you_mean(name, ["reset_mask"]))
    mask = np.asarray((options or {}).get("reset_mask", np.ones(num_rows, bool)))
    if mask.dtype != bool or mask.shape != (num_rows,) or not mask.any():
        raise ConfigError("reset_mask", mask, f"bool[{num_rows}] with at least one True")
    return mask


def observation(obs: Array, space: spaces.Space) -> np.ndarray:
    """Return `obs` as a writable NumPy array of the dtype of `space`."""
    return np.array(obs, space.dtype)


def plain(info: dict[str, Any]) -> dict[str, Any]:
    """Return the `info` of one row with its scalars as Python numbers."""
    return info and jax.tree.map(lambda leaf: leaf.item() if leaf.ndim == 0 else leaf, info)


# Infos of many rows, in Gymnasium's layout: beside each entry, `_entry` says which rows have it


def final_infos(obs: np.ndarray, info: dict[str, Any], ended: np.ndarray) -> dict[str, Any]:
    """Return what the steps of the `ended [N]` rows led to."""
    final_obs = np.full(len(ended), None, object)
    for i in np.flatnonzero(ended):
        final_obs[i] = obs[i]
    return {
        "final_obs": final_obs,
        "_final_obs": ended.copy(),
        "final_info": masked(info, ended),
        "_final_info": ended.copy(),
    }


def masked(info: dict[str, Any], rows: np.ndarray) -> dict[str, Any]:
    """Return the `info`, leaves `[N, ...]`, of the `rows [N]`, 0 in the others; {} if there are none."""
    infos = {}
    for name, value in info.items() if rows.any() else ():
        nested = isinstance(value, dict)
        infos[name] = masked(value, rows) if nested else jax.tree.map(lambda leaf: _masked(leaf, rows), value)
        infos[f"_{name}"] = rows.copy()
    return infos


def _masked(leaf: np.ndarray, rows: np.ndarray) -> np.ndarray:
    if leaf.ndim == 1:  # Gymnasium collects the Python numbers of single environments
        leaf = leaf.astype(PYTHON_DTYPES.get(leaf.dtype.kind, leaf.dtype))
    return np.where(rows.reshape(-1, *[1] * (leaf.ndim - 1)), leaf, np.zeros((), leaf.dtype))
