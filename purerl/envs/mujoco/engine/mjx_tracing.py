"""MJX's import, and its functions that are replaced while physics is traced.

Beside the physics of `mjx_corrections.py`, two loops are others, which keeps programs small and avoids idle
work:

- The line search ends with the last active row of a batch; MJX always runs its full count.
- XLA may not fuse one link of the tree of bodies into the next: it would compute the first link again for
  every use by the second, and so on, which on a CPU made pusher's arm 500 times slower.
"""

# MJX's own modules have no public names for what is needed here, and pyright cannot see into mujoco's.
# pyright: reportPrivateUsage=false, reportAttributeAccessIssue=false

from __future__ import annotations

import contextlib
import functools
import io
import threading
import warnings
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import jax

from purerl.envs.mujoco.engine.mjx_corrections import (
    ON_PLANES,
    with_clamped_actuators,
    with_turning_constraints,
)


@functools.cache
def import_mjx() -> ModuleType:
    """Return MJX, whose import prints and takes seconds."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mujoco import mjx
    return mjx


_trace_lock = threading.RLock()


@contextlib.contextmanager
def tracing() -> Iterator[None]:
    """Trace physics with matrix products in full float32 and parts of MJX replaced."""
    import_mjx()
    from mujoco.mjx import GeomType
    from mujoco.mjx._src import collision_driver, derivative, forward, scan, solver

    colliders = collision_driver._COLLISION_FUNC
    ours = {(GeomType.PLANE, GeomType[shape]): collide for shape, collide in ON_PLANES.items()}
    with _trace_lock, jax.default_matmul_precision("highest"):
        originals = solver._while_loop_scan, scan.body_tree, forward.fwd_velocity, derivative.deriv_smooth_vel
        theirs = dict(colliders)
        solver._while_loop_scan = _while_loop
        scan.body_tree = functools.partial(_body_tree, scan.body_tree)
        forward.fwd_velocity = with_turning_constraints(forward.fwd_velocity)
        derivative.deriv_smooth_vel = with_clamped_actuators(derivative.deriv_smooth_vel)
        colliders.update(ours)
        try:
            yield
        finally:
            solver._while_loop_scan, scan.body_tree, forward.fwd_velocity, derivative.deriv_smooth_vel = (
                originals
            )
            colliders.update(theirs)


def _body_tree(body_tree: Callable, mx: Any, function: Callable, *args: Any, **kwargs: Any) -> Any:
    """Return the result of MJX's `body_tree`, computed one link after the other."""
    link = lambda *args: jax.lax.optimization_barrier(function(*args))
    return body_tree(mx, link, *args, **kwargs)


def _while_loop(cond: Callable, body: Callable, init: Any, max_iter: int) -> Any:
    """Return the result of MJX's `_while_loop_scan` without idle iterations."""
    going = lambda loop: (loop[0] < max_iter) & cond(loop[1])
    return jax.lax.while_loop(going, lambda loop: (loop[0] + 1, body(loop[1])), (0, init))[1]
