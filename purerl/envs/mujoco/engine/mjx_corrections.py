"""Two parts of C MuJoCo's physics that MJX lacks: both wrap a function of MJX while physics is traced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purerl.types import Array


def with_capsule_axes(plane_capsule: Callable) -> Callable:
    """Return MJX's contacts of planes and capsules with C's axes of friction.

    A pyramid of friction depends on its axes. C aligns the first with the capsule at every angle, MJX only
    with a capsule that lies within 60 degrees of the plane.
    """

    def collide(mx: Any, data: Any, key: Any, geoms: Array) -> tuple[Array, Array, Array]:
        dist, pos, _ = plane_capsule(mx, data, key, geoms)
        normal, axis = (data.geom_xmat[geom][:, :, 2] for geom in geoms.T)  # [pairs, 3] each
        first = axis - (axis * normal).sum(1, keepdims=True) * normal
        length = jnp.linalg.norm(first, axis=1, keepdims=True)
        upright = jnp.array([1.0, 0.0, 0.0])
        first = jnp.where(length > 0, first / jnp.where(length > 0, length, 1.0), upright)
        frame = jnp.stack([normal, first, jnp.cross(normal, first)], 1)
        return dist, pos, jnp.repeat(frame, 2, axis=0)

    collide.ncon = plane_capsule.ncon  # type: ignore[attr-defined]
    return collide


def with_turning_constraints(fwd_velocity: Callable) -> Callable:
    """Return MJX's velocity stage, with the accelerations that connect and weld owe to their own turning.

    With the Jacobian J of a constraint's residual and velocities v, C's reference acceleration is
    a = -b J v - k r - (dJ/dt) v. MJX leaves out the last term.
    """

    def stage(mx: Any, data: Any) -> Any:
        data = fwd_velocity(mx, data)
        if turning := [*_connects(mx, data), *_welds(mx, data)]:
            turning = jnp.concatenate(turning)
            aref = data._impl.efc_aref.at[: turning.size].add(-turning)  # MJX's first rows, in this order
            data = data.tree_replace({"_impl.efc_aref": aref})
        return data

    return stage


def _connects(mx: Any, data: Any) -> list[Array]:
    return [_active(data, i, _translation(mx, data, i, first=0)) for i in _equalities(mx, "CONNECT")]


def _welds(mx: Any, data: Any) -> list[Array]:
    rows = lambda i: jnp.concatenate([_translation(mx, data, i, first=3), _rotation(mx, data, i)])
    return [_active(data, i, rows(i)) for i in _equalities(mx, "WELD")]


def _equalities(mx: Any, kind: str) -> list[int]:
    from mujoco.mjx import DisableBit, EqType

    off = mx.opt.disableflags & (DisableBit.EQUALITY | DisableBit.CONSTRAINT)
    return [] if off else [int(i) for i in np.flatnonzero(mx.eq_type == EqType[kind])]


def _active(data: Any, i: int, value: Array) -> Array:
    return value * data.eq_active[i]


def _bodies(mx: Any, i: int) -> tuple[bool, tuple[int, int], tuple[int, int]]:
    """Return whether an equality is of sites, its two objects, and their two bodies."""
    from mujoco.mjx import ObjType

    of_sites = bool(mx.eq_objtype[i] == ObjType.SITE)
    objects = int(mx.eq_obj1id[i]), int(mx.eq_obj2id[i])
    bodies = tuple(int(mx.site_bodyid[site]) for site in objects) if of_sites else objects
    return of_sites, objects, bodies  # type: ignore[return-value]


def _translation(mx: Any, data: Any, i: int, first: int) -> Array:
    """Return (dJ/dt) v `[3]` of the distance of two points; the first one's place begins at eq_data[first]."""
    from mujoco.mjx._src import support

    of_sites, objects, bodies = _bodies(mx, i)
    starts = first, 3 - first
    points = [
        data.site_xpos[site] if of_sites else data.xpos[body] + data.xmat[body] @ mx.eq_data[i, at : at + 3]
        for site, body, at in zip(objects, bodies, starts, strict=True)
    ]
    moved = [support.jac_dot(mx, data, point, body)[0] for point, body in zip(points, bodies, strict=True)]
    return (moved[0] - moved[1]).T @ data.qvel


def _rotation(mx: Any, data: Any, i: int) -> Array:
    """Return (dJ/dt) v `[3]` of the difference of two orientations.

    J v = (s / 2) vec(q2* w q1), with the angular velocity w of the first body in the second's, and the
    torquescale s; its derivative with w' = (dJr/dt) v and q' = w q / 2.
    """
    from mujoco.mjx._src import math, support

    of_sites, objects, bodies = _bodies(mx, i)
    turns = [mx.eq_data[i, 6:10], jnp.array([1.0, 0.0, 0.0, 0.0])]
    if of_sites:
        turns = [mx.site_quat[site] for site in objects]
    quats = [math.quat_mul(data.xquat[body], turn) for body, turn in zip(bodies, turns, strict=True)]
    pure = lambda vector: jnp.concatenate([jnp.zeros(1), vector])
    spins = [data.cvel[body, :3] for body in bodies]
    accelerations = [
        support.jac_dot(mx, data, data.xpos[body], body)[1].T @ data.qvel for body in bodies
    ]

    def velocity(quat1: Array, quat2: Array, spin: Array) -> Array:
        turned = math.quat_mul(math.quat_mul(math.quat_inv(quat2), pure(spin)), quat1)
        return 0.5 * mx.eq_data[i, 10] * turned[1:]

    primals = *quats, spins[0] - spins[1]
    tangents = [0.5 * math.quat_mul(pure(spin), quat) for spin, quat in zip(spins, quats, strict=True)]
    return jax.jvp(velocity, primals, (*tangents, accelerations[0] - accelerations[1]))[1]
