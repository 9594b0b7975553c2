"""Arrays of a pytree by name, for files that other programs read."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from purerl.config import ConfigError
from purerl.types import PyTree


def named_arrays(tree: PyTree) -> dict[str, np.ndarray]:
    """Return the leaves of `tree` by their paths, such as `params.Dense_0.kernel`; JAX's keys as their bits.

    Raises ConfigError for a leaf that is no array of numbers.
    """
    arrays = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path, simple=True, separator=".") or "state"
        typed = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        arrays[name] = np.ascontiguousarray(jax.random.key_data(leaf) if typed else leaf)
        if arrays[name].dtype == object:
            raise ConfigError("state", name, "a pytree of arrays and numbers")
    return arrays
