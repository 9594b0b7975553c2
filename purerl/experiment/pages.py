"""Replay memories that take up room only as they fill."""

from __future__ import annotations

import jax

from purerl.envs.mujoco.engine.physics import EngineError
from purerl.replay import ring
from purerl.types import PyTree

LARGE = 2**28
"""Bytes from which on an array is worth it: writing zeros takes a second per gigabyte, or many."""


def untouched(state: PyTree) -> PyTree:
    """`state` as an algorithm's `init` makes it, with the empty rows of its memories not yet written.

    What the program sees are the same zeros. On a CPU the pages behind them are the kernel's until a
    transition is stored in them, so that a run starts at once, however large its memory is.
    """
    if jax.default_backend() != "cpu":
        return state

    def one(node):
        if not isinstance(node, ring.State):
            return node
        return node._replace(data=jax.tree.map(_untouched_if_large, node.data))

    return jax.tree.map(one, state, is_leaf=lambda node: isinstance(node, ring.State))


def _untouched_if_large(zeros: jax.Array) -> jax.Array:
    if zeros.nbytes < LARGE:
        return zeros
    from purerl.envs.mujoco import native

    try:
        return native.untouched_zeros(zeros.shape, zeros.dtype)
    except EngineError:  # no compiler
        return zeros
