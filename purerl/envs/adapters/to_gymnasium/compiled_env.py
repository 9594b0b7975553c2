"""What the Gymnasium adapters run compiled: an environment's reset and step, for one row and for many.

Calling a compiled program costs some microseconds for each array that goes in or comes out, more than
the step of a small environment. So what goes in and out is packed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.vector import AutoresetMode

from purerl.types import Array, Env, Key, PyTree

SMALL = 4096
"""Bytes of an array that is packed; a larger one costs more to copy than to hand over."""


class Leaf(NamedTuple):
    """How one array is packed."""

    start: int
    """The first of its bytes; -1 if it is not packed."""
    dtype: Any
    shape: tuple[int, ...]
    key_impl: Any
    """Of a PRNG key, which is stored as its data; None of others."""

    def restore(self, array: Any) -> Any:
        return array if self.key_impl is None else jax.random.wrap_key_data(array, impl=self.key_impl)


@partial(jax.tree_util.register_dataclass, data_fields=["small", "large"], meta_fields=["leaves", "tree"])
@dataclass(slots=True)  # not frozen: that would double the time to make one
class Packed:
    """A tree of arrays, the small ones as one array of bytes."""

    small: Any
    large: list[Any]
    leaves: tuple[Leaf, ...]
    tree: Any

    def unpack(self) -> PyTree:
        """The tree again, inside a program."""

        def view(leaf):
            stop = leaf.start + math.prod(leaf.shape) * leaf.dtype.itemsize
            return self.small[leaf.start : stop].view(leaf.dtype).reshape(leaf.shape)

        return self._restore(view, self.large)

    def read(self) -> PyTree:
        """The tree in NumPy arrays of its own, which may be written to."""
        small = np.array(self.small)
        view = lambda leaf: np.ndarray(leaf.shape, leaf.dtype, small, leaf.start)
        return self._restore(view, map(np.array, self.large))

    def _restore(self, view: Callable[[Leaf], Any], large: Iterable[Any]) -> PyTree:
        large = iter(large)
        arrays = [next(large) if leaf.start < 0 else view(leaf) for leaf in self.leaves]
        pairs = zip(self.leaves, arrays, strict=True)
        return self.tree.unflatten([leaf.restore(array) for leaf, array in pairs])


def pack(tree: PyTree) -> Packed:
    """`tree` packed, inside a program."""
    arrays, structure = jax.tree.flatten(jax.tree.map(jnp.asarray, tree))
    is_key = [jnp.issubdtype(array.dtype, jax.dtypes.prng_key) for array in arrays]
    impls = [jax.random.key_impl(array) if key else None for array, key in zip(arrays, is_key, strict=True)]
    arrays = [jax.random.key_data(array) if key else array for array, key in zip(arrays, is_key, strict=True)]
    fits = lambda array: 0 < array.nbytes <= SMALL and array.dtype.kind in "biuf"
    small = [i for i, array in enumerate(arrays) if fits(array)]
    small.sort(key=lambda i: -arrays[i].dtype.itemsize)  # so that each lies where its dtype may
    starts, stop = [-1] * len(arrays), 0
    for i in small:
        starts[i], stop = stop, stop + arrays[i].nbytes
    leaves = [
        Leaf(start, array.dtype, array.shape, impl)
        for start, array, impl in zip(starts, arrays, impls, strict=True)
    ]
    data = [jnp.zeros(0, jnp.uint8), *(arrays[i].reshape(-1).view(jnp.uint8) for i in small)]
    large = [array for array, start in zip(arrays, starts, strict=True) if start < 0]
    return Packed(jnp.concatenate(data), large, tuple(leaves), structure)


class Row(NamedTuple):
    """One environment between two calls."""

    root: Key
    calls: Array
    """`[]` uint32: resets and steps since the seed."""
    state: PyTree


class Programs(NamedTuple):
    """The compiled functions of one environment, shared by all adapters of it.

    `row` and `rows [N]` are a packed `Row`. What is returned is packed.
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
    """`(rows, obs, chosen [N], params) -> (rows, obs)`: the rest stays."""
    reseed: Callable[..., Any]
    """`(rows, roots [N], chosen [N]) -> rows`"""
    step_all: Mapping[AutoresetMode, Callable[..., Any]]
    """`(rows, actions [N], waiting [N], params) -> (rows, obs, final_obs, (reward, ..., info))`

    `waiting` rows are reset in place of acting, in mode NEXT_STEP.
    """


def programs_of(env: Env) -> Programs:
    """Those of `env`, made once, so that a second adapter compiles nothing."""
    try:
        return _programs(env.reset, env.step)
    except TypeError:  # functions without a hash
        return _programs.__wrapped__(env.reset, env.step)


@lru_cache(maxsize=64)
def _programs(reset: Callable[..., Any], step: Callable[..., Any]) -> Programs:
    def again(row, needed, params):
        obs, state = reset(jax.random.fold_in(row.root, row.calls), params, needed)
        return Row(row.root, row.calls + 1, state), obs

    def act(row, action, params):
        key = jax.random.fold_in(row.root, row.calls)
        obs, state, *out = step(key, row.state, action, params)
        return Row(row.root, row.calls + 1, state), obs, out

    def start(root, params):
        return again(Row(root, jnp.uint32(0), ()), True, params)

    def restart(row, params):
        return again(row, True, params)

    def step_alone(row, action, params):
        row, obs, out = act(row, action, params)
        return row, (obs, *out)

    act_all = jax.vmap(act, (0, 0, None))

    def restart_some(rows, chosen, otherwise, params):
        """`(rows, obs)`: a new episode in the chosen rows, and in the others what is given."""

        def draw(rows, chosen, otherwise):
            return _choose(chosen, jax.vmap(again, (0, 0, None))(rows, chosen, params), otherwise)

        keep = lambda rows, chosen, otherwise: otherwise
        return jax.lax.cond(chosen.any(), draw, keep, rows, chosen, otherwise)  # ends are rare

    def restart_all(rows, obs, chosen, params):
        return restart_some(rows, chosen, (rows, obs), params)

    def reseed(rows, roots, chosen):
        return (_choose(chosen, rows._replace(root=roots, calls=jnp.zeros_like(rows.calls)), rows),)

    def same_step(rows, action, waiting, params):
        rows, final, out = act_all(rows, action, params)
        rows, obs = restart_some(rows, out[1] | out[2], (rows, final), params)
        return rows, obs, final, out

    def next_step(rows, action, waiting, params):
        moved, obs, (reward, terminated, truncated, info) = act_all(rows, action, params)
        # A row's key of this call goes to step and reset alike, but only one of them is used.
        rows, obs = restart_some(rows, waiting, (moved, obs), params)
        reward = jnp.where(waiting, 0.0, reward)
        return rows, obs, (), (reward, ~waiting & terminated, ~waiting & truncated, info)

    def disabled(rows, action, waiting, params):
        rows, obs, out = act_all(rows, action, params)
        return rows, obs, (), out

    return Programs(
        _packed(start),
        _packed(restart),
        _packed(step_alone),
        _packed(jax.vmap(start, (0, None))),
        _packed(restart_all),
        _packed(reseed),
        {
            AutoresetMode.SAME_STEP: _packed(same_step),
            AutoresetMode.NEXT_STEP: _packed(next_step),
            AutoresetMode.DISABLED: _packed(disabled),
        },
    )


def _packed(function: Callable[..., tuple]) -> Callable[..., tuple[Packed, ...]]:
    """`function` compiled, with packed arguments, or plain ones, and packed results."""

    @jax.jit
    def call(*args):
        args = [arg.unpack() if isinstance(arg, Packed) else arg for arg in args]
        return tuple(pack(result) for result in function(*args))

    return call


def _choose(rows: Array, new: PyTree, old: PyTree) -> PyTree:
    """`new` in the `rows [N]` that hold, `old` elsewhere; leaves are `[N, ...]`."""
    return jax.vmap(lambda row, *pair: jax.tree.map(partial(jnp.where, row), *pair))(rows, new, old)


def roots_of(seeds: list[int]) -> Key:
    """`jax.random.key(seed)` of each, `[N]`; what a seed has beyond 32 bits is folded in, 32 at a time."""
    num_words = max(1, -(-max(seeds).bit_length() // 32))
    words = [[seed >> 32 * i & 0xFFFFFFFF for i in range(num_words)] for seed in seeds]
    return _roots(np.array(words, np.uint32))


@jax.jit
@jax.vmap
def _roots(words: Array) -> Key:
    root = jax.random.key(words[0])
    for i in range(1, words.shape[0]):  # by its own length, whatever the others have
        root = jnp.where(words[i:].any(), jax.random.fold_in(root, words[i]), root)
    return root
