"""Contacts in a model: those that MJX finds as C MuJoCo does, finds otherwise, or does not find."""

# The names of the mujoco package come from compiled modules, which pyright cannot see into.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from purerl.envs.mujoco.engine.collision_pairs import colliding_pairs

EXACT = {
    "PLANE": "SPHERE CAPSULE ELLIPSOID CYLINDER BOX",
    "SPHERE": "SPHERE CAPSULE BOX MESH",
    "CAPSULE": "CAPSULE",
}
"""Types of geoms whose contacts are those of C MuJoCo."""
APPROXIMATE = {
    "PLANE": "MESH",
    "HFIELD": "SPHERE CAPSULE BOX MESH",
    "SPHERE": "ELLIPSOID CYLINDER",
    "CAPSULE": "ELLIPSOID CYLINDER BOX MESH",
    "ELLIPSOID": "ELLIPSOID CYLINDER",
    "CYLINDER": "CYLINDER",
    "BOX": "BOX MESH",
    "MESH": "MESH",
}
"""Types of geoms between which MJX finds other contacts, fewer or in other places."""
LIMITS = ("max_contact_points", "max_geom_pairs")
"""Numerics in `<custom>` that let MJX leave out contacts."""


def unsupported(model: Any) -> Iterator[str]:
    """Yield the pairs of geom types between which MJX finds no contacts, and margins that it ignores."""
    for one, two, margin in _pairs(model):
        if two not in (EXACT.get(one, "") + " " + APPROXIMATE.get(one, "")).split():
            yield f"contacts of {one.lower()} and {two.lower()}"
        elif margin and {one, two} & {"MESH", "HFIELD"}:
            yield f"a margin of {one.lower()} and {two.lower()}"


def inexact(model: Any) -> Iterator[str]:
    """Yield the contacts that MJX approximates."""
    for one, two, _ in _pairs(model):
        if two in APPROXIMATE.get(one, "").split():
            yield f"exact contacts of {one.lower()} and {two.lower()}"
    for number in range(model.nnumeric):
        if (name := model.numeric(number).name) in LIMITS:
            yield f"exact contacts, because of the numeric {name}"


def touching(model: Any) -> bool:
    """Return True if some geoms may touch and contacts are not switched off."""
    import mujoco

    off = mujoco.mjtDisableBit.mjDSBL_CONTACT | mujoco.mjtDisableBit.mjDSBL_CONSTRAINT
    return not model.opt.disableflags & off and any(True for _ in _pairs(model))


def _pairs(model: Any) -> Iterator[tuple[str, str, float]]:
    """Yield the names of the two types and the margin of all pairs of geoms that may collide."""
    import mujoco

    name = lambda geom: mujoco.mjtGeom(int(model.geom_type[geom])).name.removeprefix("mjGEOM_")
    listed = zip(model.pair_geom1, model.pair_geom2, model.pair_margin, strict=True)
    searched = ((*pair, model.geom_margin[list(pair)].sum()) for pair in colliding_pairs(model))
    for geom1, geom2, margin in [*listed, *searched]:
        one, two = sorted((geom1, geom2), key=lambda geom: model.geom_type[geom])
        yield name(one), name(two), margin
