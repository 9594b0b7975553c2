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
        if turning := [*_turning(mx, data, "CONNECT"), *_turning(mx, data, "WELD")]:
            turning = jnp.concatenate(turning)
            aref = data._impl.efc_aref.at[: turning.size].add(-turning)  # MJX's first rows, in this order
            data = data.tree_replace({"_impl.efc_aref": aref})
        return data

    return stage


def _turning(mx: Any, data: Any, kind: str) -> list[Array]:
    """Return (dJ/dt) v of the rows of all equalities of a kind, in MJX's order; [] if there are none."""
    from mujoco.mjx import DisableBit, EqType, ObjType
    from mujoco.mjx._src import math, support

    ids = np.flatnonzero(mx.eq_type == EqType[kind])
    if mx.opt.disableflags & (DisableBit.EQUALITY | DisableBit.CONSTRAINT) or not ids.size:
        return []
    of_sites = mx.eq_objtype[ids] == ObjType.SITE
    objects = np.stack([mx.eq_obj1id, mx.eq_obj2id])[:, ids]
    sites = np.where(of_sites, objects, 0)
    bodies = np.where(of_sites, mx.site_bodyid[sites], objects) if of_sites.any() else objects
    given = mx.eq_data[ids]
    # The points and the orientations that are held together, of either object.
    anchors = [given[:, 0:3], given[:, 3:6]][:: 1 if kind == "CONNECT" else -1]
    turns = [given[:, 6:10], jnp.tile(jnp.array([1.0, 0.0, 0.0, 0.0]), (ids.size, 1))]
    if of_sites.any():
        place = lambda stands, own: jnp.where(of_sites[:, None], stands, own)
        anchors = [place(mx.site_pos[site], own) for site, own in zip(sites, anchors, strict=True)]
        turns = [place(mx.site_quat[site], own) for site, own in zip(sites, turns, strict=True)]

    def rows(bodies: Array, anchors: list[Array], turns: list[Array], scale: Array, active: Array) -> Array:
        points = [data.xpos[body] + data.xmat[body] @ at for body, at in zip(bodies, anchors, strict=True)]
        moves = [support.jac_dot(mx, data, point, body) for point, body in zip(points, bodies, strict=True)]
        (linear1, angular1), (linear2, angular2) = moves
        turning = (linear1 - linear2).T @ data.qvel
        if kind == "WELD":
            quats = [math.quat_mul(data.xquat[body], turn) for body, turn in zip(bodies, turns, strict=True)]
            spins = data.cvel[bodies, :3]
            turned = scale * _turned(quats, spins, (angular1 - angular2).T @ data.qvel)
            turning = jnp.concatenate([turning, turned])
        return active * turning

    arguments = jnp.asarray(bodies.T), anchors, turns, given[:, 10], data.eq_active[ids]
    return [jax.vmap(rows)(*arguments).reshape(-1)]


def _turned(quats: list[Array], spins: Array, acceleration: Array) -> Array:
    """Return the change `[3]` by time of vec(q2* w q1) / 2.

    The velocity of the difference of two orientations q1 and q2: w is the angular velocity `[3]` of the first
    body in the second's, `acceleration` its change, and q' = w q / 2.
    """
    from mujoco.mjx._src import math

    pure = lambda vector: jnp.concatenate([jnp.zeros(1), vector])

    def velocity(quat1: Array, quat2: Array, spin: Array) -> Array:
        return 0.5 * math.quat_mul(math.quat_mul(math.quat_inv(quat2), pure(spin)), quat1)[1:]

    changes = [0.5 * math.quat_mul(pure(spin), quat) for spin, quat in zip(spins, quats, strict=True)]
    return jax.jvp(velocity, (*quats, spins[0] - spins[1]), (*changes, acceleration))[1]
