"""Compiled reset and step of an environment for the Gymnasium adapters, of one row and of many.

The programs of one row take and return packed trees: each array that enters or leaves a program costs some
microseconds, and so the arrays of a small environment, one by one, would take as long as its step again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.vector import AutoresetMode

from purerl.types import Array, Env, Key, PyTree


class Leaf(NamedTuple):
    """Layout of one array in `Packed`."""

    dtype: Any
    shape: tuple[int, ...]
    key_impl: Any
    """Implementation of a PRNG key, which is stored as its data; None for a number."""

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def restore(self, array: Any) -> Any:
        return array if self.key_impl is None else jax.random.wrap_key_data(array, impl=self.key_impl)


@partial(jax.tree_util.register_dataclass, data_fields=["data"], meta_fields=["leaves", "tree"])
@dataclass(slots=True)  # not frozen, which would double the time to make one
class Packed:
    """A tree of arrays as one array of bytes."""

    data: Any
    leaves: tuple[Leaf, ...]
    tree: Any

    def unpack(self) -> PyTree:
        """Return the tree, inside a program."""
        return self._restore(
            lambda leaf, start: self.data[start : start + leaf.num_bytes].view(leaf.dtype).reshape(leaf.shape)
        )

    def read(self) -> PyTree:
        """Return the tree in NumPy arrays of its own, which may be written to."""
        data = np.asarray(self.data)
        return self._restore(lambda leaf, start: np.ndarray(leaf.shape, leaf.dtype, data, start).copy())

    def _restore(self, view: Callable[[Leaf, int], Any]) -> PyTree:
        arrays, start = [], 0
        for leaf in self.leaves:
            arrays.append(leaf.restore(view(leaf, start)))
            start += leaf.num_bytes
        return self.tree.unflatten(arrays)


def pack(tree: PyTree) -> Packed:
    """Return `tree` packed, inside a program."""
    arrays, structure = jax.tree.flatten(jax.tree.map(jnp.asarray, tree))
    keys = [jnp.issubdtype(array.dtype, jax.dtypes.prng_key) for array in arrays]
    impls = [jax.random.key_impl(array) if key else None for array, key in zip(arrays, keys, strict=True)]
    arrays = [jax.random.key_data(array) if key else array for array, key in zip(arrays, keys, strict=True)]
    leaves = [Leaf(array.dtype, array.shape, impl) for array, impl in zip(arrays, impls, strict=True)]
    data = [jnp.zeros(0, jnp.uint8), *(array.reshape(-1).view(jnp.uint8) for array in arrays)]
    return Packed(jnp.concatenate(data), tuple(leaves), structure)


class Row(NamedTuple):
    """One environment between two calls."""

    root: Key
    calls: Array
    """`[]` uint32: resets and steps since the seed."""
    state: PyTree


class Programs(NamedTuple):
    """Compiled functions of one environment, shared by all adapters of it.

    Of one row, all but `root`, `action` and `params` is packed; of many, nothing is.
    """

    start: Callable[..., Any]
    """`(root, params) -> (row, obs)`"""
    restart: Callable[..., Any]
    """`(row, params) -> (row, obs)`"""
    step: Callable[..., Any]
    """`(row, action, params) -> (row, (obs, reward, terminated, truncated, info))`"""
    start_all: Callable[..., Any]
    """`(roots [N], params) -> (rows, obs)`"""
    restart_all: Callable[..., Any]
    """`(rows, obs, chosen [N], params) -> (rows, obs)`: a new episode in the chosen rows."""
    reseed: Callable[..., Any]
    """`(rows, roots [N], chosen [N]) -> rows`"""
    step_all: Mapping[AutoresetMode, Callable[..., Any]]
    """`(rows, actions [N], waiting [N], params) -> (rows, obs, final_obs, (reward, ..., info))`

    `waiting` rows are reset instead of stepped in mode NEXT_STEP.
    """


def programs_of(env: Env) -> Programs:
    """Return the programs of `env`; a second adapter of the same environment compiles nothing."""
    try:
        return _programs(env.reset, env.step)
    except TypeError:  # functions without a hash
        return _programs.__wrapped__(env.reset, env.step)


@lru_cache(maxsize=64)
def _programs(reset: Callable[..., Any], step: Callable[..., Any]) -> Programs:
    def draw(row, needed, params):
        obs, state = reset(jax.random.fold_in(row.root, row.calls), params, needed)
        return Row(row.root, row.calls + 1, state), obs

    def start(root, params):
        return draw(Row(root, jnp.uint32(0), ()), True, params)

    def start_one(root, params):
        return tuple(map(pack, start(root, params)))

    def restart_one(row, params):
        return tuple(map(pack, draw(row.unpack(), True, params)))

    def act(row, action, params):
        key = jax.random.fold_in(row.root, row.calls)
        obs, state, *out = step(key, row.state, action, params)
        return Row(row.root, row.calls + 1, state), obs, out

    def step_one(row, action, params):
        row, obs, out = act(row.unpack(), action, params)
        return pack(row), pack((obs, *out))

    act_all, draw_all = jax.vmap(act, (0, 0, None)), jax.vmap(draw, (0, 0, None))

    def restart_some(rows, chosen, otherwise, params):
        """Return `(rows, obs)`: a new episode in the chosen rows, `otherwise` in the others."""
        fresh = lambda: _choose(chosen, draw_all(rows, chosen, params), otherwise)
        return jax.lax.cond(chosen.any(), fresh, lambda: otherwise)  # episodes rarely end

    def restart_all(rows, obs, chosen, params):
        return restart_some(rows, chosen, (rows, obs), params)

    def reseed(rows, roots, chosen):
        return _choose(chosen, rows._replace(root=roots, calls=jnp.zeros_like(rows.calls)), rows)

    def same_step(rows, action, waiting, params):
        rows, final, out = act_all(rows, action, params)
        rows, obs = restart_some(rows, out[1] | out[2], (rows, final), params)
        return rows, obs, final, out

    def next_step(rows, action, waiting, params):
        moved, obs, (reward, terminated, truncated, info) = act_all(rows, action, params)
        # Step and reset share the key of a call; each row uses only one of the two results.
        rows, obs = restart_some(rows, waiting, (moved, obs), params)
        reward = jnp.where(waiting, 0.0, reward)
        return rows, obs, (), (reward, ~waiting & terminated, ~waiting & truncated, info)

    def disabled(rows, action, waiting, params):
        rows, obs, out = act_all(rows, action, params)
        return rows, obs, (), out

    return Programs(
        jax.jit(start_one),
        jax.jit(restart_one),
        jax.jit(step_one),
        jax.jit(jax.vmap(start, (0, None))),
        jax.jit(restart_all),
        jax.jit(reseed),
        {
            AutoresetMode.SAME_STEP: jax.jit(same_step),
            AutoresetMode.NEXT_STEP: jax.jit(next_step),
            AutoresetMode.DISABLED: jax.jit(disabled),
        },
    )


def _choose(rows: Array, new: PyTree, old: PyTree) -> PyTree:
    """Return `new` in the `rows [N]` that are True and `old` elsewhere; leaves are `[N, ...]`."""
    return jax.vmap(lambda row, *pair: jax.tree.map(partial(jnp.where, row), *pair))(rows, new, old)


def roots_of(seeds: list[int]) -> Key:
    """Return `jax.random.key(seed)` of each seed, `[N]`; bits beyond 32 are folded in, 32 at a time."""
    num_words = max(1, -(-max(seeds).bit_length() // 32))
    words = [[seed >> 32 * i & 0xFFFFFFFF for i in range(num_words)] for seed in seeds]
    return _roots(np.array(words, np.uint32))


@jax.jit
@jax.vmap
def _roots(words: Array) -> Key:
    root = jax.random.key(words[0])
    for i in range(1, words.shape[0]):  # words beyond a seed's own length are 0 and change nothing
        root = jnp.where(words[i:].any(), jax.random.fold_in(root, words[i]), root)
    return root
