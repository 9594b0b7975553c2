"""Parts of C MuJoCo's physics that MJX lacks, for functions of MJX to be replaced while physics is traced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purerl.types import Array

Points = Callable[[Array, Array, Array], Array]
"""`(normal [P, 3], orientation [P, 3, 3], size [P, 3]) -> [P, N, 3]`: for each of P pairs, the N points of a
shape that may touch the plane, from its centre."""


def capsule_points(normal: Array, orientation: Array, size: Array) -> Array:
    """Return the lowest point of either end."""
    half = orientation[:, :, 2] * size[:, 1:2]
    return jnp.stack([half, -half], 1) - (normal * size[:, :1])[:, None]


def box_points(normal: Array, orientation: Array, size: Array) -> Array:
    """Return the four lower corners, one of each pair of opposite ones; MJX takes the lowest millimetre."""
    signs = jnp.array([[1, 1, 1], [1, 1, -1], [1, -1, 1], [-1, 1, 1]], jnp.float32)
    corners = jnp.einsum("pij,pcj->pci", orientation, signs * size[:, None])
    return jnp.where(jnp.einsum("pci,pi->pc", corners, normal)[..., None] > 0, -corners, corners)


def cylinder_points(normal: Array, orientation: Array, size: Array) -> Array:
    """Return a triangle on the lower rim and the lowest point of the upper one, which MJX leaves out."""
    axis = orientation[:, :, 2]
    axis = jnp.where((axis * normal).sum(1, keepdims=True) > 0, -axis, axis)
    cosine = -(axis * normal).sum(1, keepdims=True)
    level = axis + cosine * normal  # of an upright cylinder nearly 0, yet accurate
    down = -cosine * level - jnp.square(level).sum(1, keepdims=True) * normal
    radius, half = size[:, :1], axis * size[:, 1:2]
    lowest = _unit(down, orientation[:, :, 0]) * radius
    sideways = _unit(jnp.cross(lowest, axis), jnp.zeros_like(axis)) * radius * (3**0.5 / 2)
    rim = [lowest, sideways - lowest / 2, -sideways - lowest / 2]
    return jnp.stack([*(half + point for point in rim), lowest - half], 1)


def _unit(vector: Array, otherwise: Array) -> Array:
    length = jnp.linalg.norm(vector, axis=1, keepdims=True)
    return jnp.where(length > 0, vector / jnp.where(length > 0, length, 1.0), otherwise)


def on_plane(points: Points, num_points: int, along_axis: bool = False) -> Callable:
    """Return a collision function of MJX for planes and another shape.

    The first axis of friction, on which a pyramid of friction depends, is the shape's own with `along_axis`.
    """

    def collide(mx: Any, data: Any, key: Any, geoms: Array) -> tuple[Array, Array, Array]:
        from mujoco.mjx._src import math

        plane, shape = geoms.T
        normal, orientation = data.geom_xmat[plane][:, :, 2], data.geom_xmat[shape]
        places = data.geom_xpos[shape][:, None] + points(normal, orientation, mx.geom_size[shape])
        dist = ((places - data.geom_xpos[plane][:, None]) * normal[:, None]).sum(2)
        pos = places - 0.5 * dist[..., None] * normal[:, None]
        if along_axis:
            axis = orientation[:, :, 2]
            first = axis - (axis * normal).sum(1, keepdims=True) * normal
            first = _unit(first, jnp.broadcast_to(jnp.array([1.0, 0.0, 0.0]), first.shape))
            frame = jnp.stack([normal, first, jnp.cross(normal, first)], 1)
        else:
            frame = jax.vmap(math.make_frame)(normal)
        return dist.reshape(-1), pos.reshape(-1, 3), jnp.repeat(frame, num_points, axis=0)

    collide.ncon = num_points  # type: ignore[attr-defined]
    return collide


ON_PLANES = {
    "CAPSULE": on_plane(capsule_points, 2, along_axis=True),
    "BOX": on_plane(box_points, 4),
    "CYLINDER": on_plane(cylinder_points, 4),
}
"""The contacts of C MuJoCo between planes and the shapes for which MJX has others."""


def with_clamped_actuators(derivative: Callable) -> Callable:
    """Return MJX's derivative of forces by velocities, in which a force at the end of its range is constant.

    The integrator implicitfast uses it; MJX leaves the range out.
    """

    def clamped(mx: Any, data: Any) -> Any:
        low, high = mx.actuator_forcerange.T
        free = ~mx.actuator_forcelimited | ((data.actuator_force > low) & (data.actuator_force < high))
        by_velocity = lambda parameters: parameters.at[:, 2].multiply(free)
        gain, bias = by_velocity(mx.actuator_gainprm), by_velocity(mx.actuator_biasprm)
        return derivative(mx.replace(actuator_gainprm=gain, actuator_biasprm=bias), data)

    return clamped


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


def _bodies(mx: Any, i: int) -> tuple[bool, tuple[Any, Any], tuple[Any, Any]]:
    """Return whether an equality is of sites, its two objects, and their two bodies."""
    from mujoco.mjx import ObjType

    of_sites = bool(mx.eq_objtype[i] == ObjType.SITE)
    objects = int(mx.eq_obj1id[i]), int(mx.eq_obj2id[i])
    bodies = tuple(int(mx.site_bodyid[site]) for site in objects) if of_sites else objects
    return of_sites, objects, (bodies[0], bodies[1])


def _translation(mx: Any, data: Any, i: int, first: int) -> Array:
    """Return (dJ/dt) v `[3]` of the distance of two points, the first of which begins at eq_data[first]."""
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
    accelerations = [support.jac_dot(mx, data, data.xpos[body], body)[1].T @ data.qvel for body in bodies]

    def velocity(quat1: Array, quat2: Array, spin: Array) -> Array:
        turned = math.quat_mul(math.quat_mul(math.quat_inv(quat2), pure(spin)), quat1)
        return 0.5 * mx.eq_data[i, 10] * turned[1:]

    primals = *quats, spins[0] - spins[1]
    tangents = [0.5 * math.quat_mul(pure(spin), quat) for spin, quat in zip(spins, quats, strict=True)]
    return jax.jvp(velocity, primals, (*tangents, accelerations[0] - accelerations[1]))[1]
