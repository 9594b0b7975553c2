"""A function that runs only for the rows of a batch that need it, under any number of `vmap`s."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

from purerl.types import Array, PyTree


def where_needed(
    function: Callable[..., PyTree], rows_at_once: Callable[[int], int]
) -> Callable[..., PyTree]:
    """Return `function(needed, *args)`, run only on rows where `needed []` is True; zeros elsewhere.

    Episodes end rarely, so most steps of a rollout then pay neither for the random draws of a reset nor for
    its physics. `vmap` would turn a plain `lax.cond` on each row's flag into a select that runs both sides.
    Here every `vmap`, nested ones too, adds its axis to one list of rows; the rows that need it are gathered
    and run, some at a time, until none is left.

    Args:
        function: a function of one row.
        rows_at_once: number of rows -> number to run at a time. All of them, where a row that does not need
            it is nearly free; a few, where every row costs the same.
    """

    def over(num_axes: int) -> Callable[..., PyTree]:
        @custom_vmap
        def run(needed, *args):
            shape = needed.shape
            rows = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[num_axes:]), args)
            result = _run_rows(function, needed.reshape(-1), rows, rows_at_once)
            return jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), result)

        @run.def_vmap
        def run_batched(axis_size, in_batched, *args):
            def widen(leaf, batched):
                return leaf if batched else jnp.broadcast_to(leaf, (axis_size, *jnp.shape(leaf)))

            result = over(num_axes + 1)(*jax.tree.map(widen, args, tuple(in_batched)))
            return result, jax.tree.map(lambda _: True, result)

        return run

    return over(0)


def _run_rows(function: Callable, needed: Array, args: PyTree, rows_at_once: Callable[[int], int]) -> PyTree:
    """Return `function` of the rows of `args [M, ...]` where `needed [M]`; zeros elsewhere."""
    num_rows = needed.shape[0]
    chunk = max(1, min(num_rows, rows_at_once(num_rows)))
    run = jax.jit(jax.vmap(function))  # traced once, for its shapes and its program
    result = jax.eval_shape(run, *jax.tree.map(lambda leaf: leaf[:chunk], (needed, *args)))
    zeros = jax.tree.map(lambda leaf: jnp.zeros((num_rows, *leaf.shape[1:]), leaf.dtype), result)
    if chunk == num_rows:  # no loop: XLA would hoist the invariant work from it
        return jax.lax.cond(needed.any(), run, lambda *_: zeros, needed, *args)

    def body(loop):
        pending, result = loop
        rows = jnp.nonzero(pending, size=chunk, fill_value=num_rows)[0]
        picked = jax.tree.map(lambda leaf: leaf.at[rows].get(mode="clip"), args)
        new = run(rows < num_rows, *picked)
        result = jax.tree.map(lambda old, leaf: old.at[rows].set(leaf, mode="drop"), result, new)
        return pending.at[rows].set(False, mode="drop"), result

    return jax.lax.while_loop(lambda loop: loop[0].any(), body, (needed, zeros))[1]
