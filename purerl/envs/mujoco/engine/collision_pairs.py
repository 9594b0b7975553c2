"""An equivalent model with its collision pairs listed, which C MuJoCo steps faster to the same bits.

- At every evaluation of the forces MuJoCo sorts all bodies along an axis to find those that may touch, and
  then filters most of them out: for an ant, whose legs collide only with the floor, this takes a sixth of a
  step. A model in which few pairs of geoms can collide lists them as `<pair>` elements instead, with the
  parameters that MuJoCo would mix. The contacts are the same, in the same order; a test checks this over
  random models. A model without such pairs has contacts switched off.
- Cameras and lights, which MuJoCo moves at every evaluation, are left out.
"""

# The names of the mujoco package come from compiled modules, which pyright cannot see into.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

MAX_PAIRS = 32
"""More pairs take longer than MuJoCo's own search (a humanoid has some 130)."""
CHANGED = (
    *("contype", "conaffinity", "pair", "bvh", "cam", "light"),
    *("name", "sizes", "buffer", "signature", "path"),
)
"""Substrings of the mjModel fields that may differ between the two models."""
PARAMETERS = (
    *("adhesion", "dim", "friction", "gap", "geom1", "geom2", "margin"),
    *("signature", "solimp", "solref", "solreffriction"),
)
"""Fields of a pair, all of which are known here: a model of a MuJoCo with others is left as it is."""


def with_listed_pairs(model: Any, source: Any) -> Any:
    """Return an equivalent of `model` that steps faster, or `model` itself where there is none.

    Args:
        model: a `mujoco.MjModel`.
        source: the file or the `mujoco.MjSpec` from which it was compiled, which is not changed; bounds of
            actions may have been given to the model since.
    """
    import mujoco

    try:
        spec = mujoco.MjSpec.from_file(str(source)) if isinstance(source, Path) else source.copy()
    except ValueError:
        return model
    geoms = list(spec.geoms)
    if len(geoms) != model.ngeom:
        return model
    for item in [*spec.cameras, *spec.lights]:
        spec.delete(item)
    for number, geom in enumerate(geoms):
        geom.name = geom.name or f"purerl_{number}"
    try:
        listed = _compile(spec, model)  # numbers the geoms, too
        pairs = list(colliding_pairs(model))
        # With an overriding margin MuJoCo's search finds fewer contacts than listed pairs do.
        overridden = model.opt.enableflags & mujoco.mjtEnableBit.mjENBL_OVERRIDE
        fields = {name.removeprefix("pair_") for name in dir(model) if name.startswith("pair_")}
        plain = not (model.npair or model.nflex or overridden or fields - {*PARAMETERS})
        if plain and len(pairs) <= MAX_PAIRS:
            names = {geom.id: geom.name for geom in geoms}
            for geom in geoms:
                geom.contype = geom.conaffinity = 0
            for geom1, geom2 in pairs:
                spec.add_pair(geomname1=names[geom1], geomname2=names[geom2])
            listed = _compile(spec, model)
            for row, pair in enumerate(pairs):
                if {listed.pair_geom1[row], listed.pair_geom2[row]} != set(pair):
                    return model
                _mix(model, *pair, listed, row)
    except ValueError:  # for example a sensor of a camera
        return model
    if differences(model, listed):
        return model
    if not pairs and not model.npair and not model.nflex:
        listed.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT
    return listed


def _compile(spec: Any, model: Any) -> Any:
    """Return the compiled `spec` with the bounds of `model`, without warnings that were given already."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = spec.compile()
    compiled.actuator_ctrlrange[:] = model.actuator_ctrlrange
    compiled.actuator_ctrllimited[:] = model.actuator_ctrllimited
    return compiled


def colliding_pairs(model: Any) -> Iterator[tuple[int, int]]:
    """Yield the pairs of geoms that pass MuJoCo's filters, in the order of their contacts.

    The first geom of a pair has the smaller type.
    """
    import mujoco

    parents_pass = model.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_FILTERPARENT
    excluded = set(model.exclude_signature.tolist())
    searched = not model.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_MIDPHASE
    weld, parent = model.body_weldid, model.body_parentid
    geoms = [
        range(start, start + num) for start, num in zip(model.body_geomadr, model.body_geomnum, strict=True)
    ]
    contype, conaffinity = model.geom_contype, model.geom_conaffinity
    for body1 in range(model.nbody):
        for body2 in range(body1 + 1, model.nbody):
            one, two = weld[body1], weld[body2]
            related = one and two and (weld[parent[one]] == two or weld[parent[two]] == one)
            if one == two or (body1 << 16) + body2 in excluded or (related and not parents_pass):
                continue
            pairs = [
                (geom1, geom2) if model.geom_type[geom1] <= model.geom_type[geom2] else (geom2, geom1)
                for geom1, geom2 in itertools.product(geoms[body1], geoms[body2])
                if contype[geom1] & conaffinity[geom2] or contype[geom2] & conaffinity[geom1]
            ]
            # MuJoCo sorts the contacts that it finds in two bodies' bounding volume hierarchies.
            yield from sorted(pairs) if searched and min(model.body_bvhadr[[body1, body2]]) >= 0 else pairs


def _mix(model: Any, geom1: int, geom2: int, paired: Any, row: int) -> None:
    """Set the parameters of pair `row` of `paired` to those that MuJoCo would mix for the geoms."""
    import mujoco

    both = [geom1, geom2]
    priority, solref = model.geom_priority[both], model.geom_solref[both]
    if priority[0] != priority[1]:
        first = both[int(priority[1] > priority[0])]
        paired.pair_dim[row] = model.geom_condim[first]
        paired.pair_solref[row], paired.pair_solimp[row] = model.geom_solref[first], model.geom_solimp[first]
        friction, adhesion = model.geom_friction[first], model.geom_adhesion[first]
    else:
        weight, least = model.geom_solmix[both], mujoco.mjMINVAL
        if (weight >= least).all():
            mix = weight[0] / (weight[0] + weight[1])
        else:
            mix = 0.5 if (weight < least).all() else float(weight[0] >= least)
        blend = lambda values: mix * values[0] + (1 - mix) * values[1]
        paired.pair_dim[row] = model.geom_condim[both].max()
        paired.pair_solref[row] = blend(solref) if (solref[:, 0] > 0).all() else solref.min(0)
        paired.pair_solimp[row] = blend(model.geom_solimp[both])
        friction, adhesion = model.geom_friction[both].max(0), model.geom_adhesion[both].sum()
    paired.pair_friction[row] = friction[[0, 0, 1, 2, 2]]
    paired.pair_solreffriction[row] = 0
    paired.pair_adhesion[row] = adhesion
    paired.pair_margin[row] = model.geom_margin[both].sum()
    paired.pair_gap[row] = model.geom_gap[both].sum()


def differences(model: Any, paired: Any) -> list[str]:
    """Return the fields in which two models differ, without those of `CHANGED`."""
    names = [name for name in dir(model) if not name.startswith("_") and not any(c in name for c in CHANGED)]
    values = ((name, getattr(model, name), getattr(paired, name)) for name in names)
    arrays = [(name, a, b) for name, a, b in values if isinstance(a, np.ndarray | int)]
    options = [(name, getattr(model.opt, name), getattr(paired.opt, name)) for name in dir(model.opt)]
    options = [(name, a, b) for name, a, b in options if isinstance(a, np.ndarray | int | float)]
    return [name for name, a, b in arrays + options if not np.array_equal(a, b)]
