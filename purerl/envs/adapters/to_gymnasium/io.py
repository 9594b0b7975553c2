"""What crosses between Gymnasium and compiled programs: actions, seeds and masks in, infos out.

What cannot be is refused here, before anything is computed: a program would clamp an index, and carry on.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from purerl.config import ConfigError, did_you_mean

READY = 64
"""Of so many indices at most, each is kept on the device: an array of NumPy's own takes longer to go in."""
INTEGERS = int, np.integer
PYTHON = {"f": np.float64, "i": np.int64, "u": np.int64}
"""Kind of a dtype -> dtype of an array of Python's own numbers."""


class Actions:
    """Reads actions as the environment takes them, int32 or float32, and refuses all others.

    Args:
        space: of one action.
        rows: leading axes.
    """

    def __init__(self, space: spaces.Box | spaces.Discrete, rows: tuple[int, ...]):
        self._shape = (*rows, *(space.shape or ()))
        self._ready: dict[int, jax.Array] = {}
        if isinstance(space, spaces.Discrete):
            low, high = int(space.start), int(space.start + space.n - 1)
            self._kinds, self._dtype = "iu", np.dtype(np.int32)
            if rows == () and space.n <= READY:
                self._ready = {i: jnp.int32(i) for i in range(low, high + 1)}
        else:
            low, high = (np.nan_to_num(bound.astype(np.float32)) for bound in (space.low, space.high))
            self._kinds, self._dtype = "fiu", np.dtype(np.float32)
        self._low, self._high = low, high

    def read(self, action: Any, live: np.ndarray | None = None) -> np.ndarray | jax.Array:
        """`action`, which must be in the space wherever a row is `live`. Raises ConfigError."""
        if isinstance(action, INTEGERS) and not isinstance(action, bool) and int(action) in self._ready:
            return self._ready[int(action)]
        try:
            array = np.asarray(action)
        except (TypeError, ValueError):
            array = np.array(None)
        if array.dtype.kind not in self._kinds or array.shape != self._shape:
            found = f"{array.dtype} of shape {array.shape}"
            raise ConfigError("action", action, f"it is {found}, and must be {self._allowed()}")
        if self._dtype == np.float32 and array.dtype != np.float32:
            with np.errstate(over="ignore"):  # an infinity, which does not fit
                array = array.astype(np.float32)
        fits = (self._low <= array) & (array <= self._high)  # NaN does not
        if not fits.all():
            self._refuse(array, fits, live)
        return array.astype(self._dtype, copy=False)

    def _refuse(self, array: np.ndarray, fits: np.ndarray, live: np.ndarray | None) -> None:
        if live is None:
            raise ConfigError("action", array.tolist(), f"it must be {self._allowed()}")
        wrong = np.flatnonzero(live & ~fits.reshape(len(live), -1).all(1))
        if len(wrong):
            what = f"that of row {wrong[0]} is out of range, and all must be {self._allowed()}"
            raise ConfigError("action", array[wrong[0]].tolist(), what)

    def _allowed(self) -> str:
        kind = "integers" if self._dtype == np.int32 else "finite numbers"
        low, high = (
            b.flat[0] if b.size and np.ptp(b) == 0 else b for b in map(np.array, (self._low, self._high))
        )
        return f"{kind} of shape {self._shape} from {low} to {high}"


def row_seeds(seed: Any, num_rows: int) -> list[int | None]:
    """The seed of each row: `seed`, `seed + 1`, ..., or what `seed` lists. Raises ConfigError."""
    if seed is None:
        return [None] * num_rows
    try:
        if np.ndim(seed) == 0:
            return [_seed(seed) + i for i in range(num_rows)]
        seeds = [None if own is None else _seed(own) for own in seed]
    except (TypeError, ValueError):
        what = "a whole number of at least 0, or a list with one for each row, in which None goes on"
        raise ConfigError("seed", seed, what) from None
    if len(seeds) != num_rows:
        raise ConfigError("seed", seed, f"one for each of {num_rows} rows, and these are {len(seeds)}")
    return seeds


def _seed(seed: Any) -> int:
    value = operator.index(seed)
    if value < 0 or isinstance(seed, bool):
        raise ValueError(value)
    return value


def entropy(env: Any) -> int:
    """The seed of a Gymnasium `env` that was given none: `env.np_random_seed`, where it can be looked up."""
    seed = env.np_random_seed
    return seed if seed >= 0 else int(env.np_random.integers(2**32))  # -1: of a generator of the user's own


def reset_mask(options: Mapping[str, Any] | None, num_rows: int) -> np.ndarray:
    """Which rows to reset, `[num_rows]` bool. Raises ConfigError for any other option."""
    for name in options or {}:
        if name != "reset_mask":
            raise ConfigError(
                "options", name, "the only one is reset_mask", did_you_mean(name, ["reset_mask"])
            )
    mask = np.asarray((options or {}).get("reset_mask", np.ones(num_rows, bool)))
    if mask.dtype != bool or mask.shape != (num_rows,) or not mask.any():
        raise ConfigError("reset_mask", mask, f"bool[{num_rows}], somewhere True")
    return mask


# Infos of many rows, in Gymnasium's layout: beside each entry, `_entry` says which rows have it


def final_infos(obs: np.ndarray, info: dict[str, Any], ended: np.ndarray) -> dict[str, Any]:
    """What the steps of the `ended [N]` rows led to; nothing if there are none."""
    if not ended.any():
        return {}
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
    """`info`, each leaf `[N, ...]`, of the `rows [N]`, and 0 in the others; nothing if there are none."""
    infos = {}
    for name, value in info.items() if rows.any() else ():
        own = isinstance(value, dict)
        infos[name] = masked(value, rows) if own else jax.tree.map(lambda leaf: _masked(leaf, rows), value)
        infos[f"_{name}"] = rows.copy()
    return infos


def _masked(leaf: np.ndarray, rows: np.ndarray) -> np.ndarray:
    if leaf.ndim == 1:  # of one row it is a Python number
        leaf = leaf.astype(PYTHON.get(leaf.dtype.kind, leaf.dtype))
    return np.where(rows.reshape(-1, *[1] * (leaf.ndim - 1)), leaf, np.zeros((), leaf.dtype))


def plain(info: dict[str, Any]) -> dict[str, Any]:
    """`info` of one row, its scalars Python numbers."""
    return info and jax.tree.map(lambda leaf: leaf.item() if leaf.ndim == 0 else leaf, info)
