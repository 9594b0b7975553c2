"""Models that MJX simulates as C MuJoCo does; every other one is refused by name when it is made.

MJX accepts many a model and ignores parts of it. The decision is made from the compiled model's own fields,
without MJX: a value, a flag or a field that stands in no list below is refused.
"""

# The names of the mujoco package come from compiled modules, which pyright cannot see into.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from purerl.config import ConfigError
from purerl.envs.mujoco.engine.mjx_contacts import inexact, touching, unsupported

AGREES = {
    "actuator_trntype": ("mjTRN_", "JOINT JOINTINPARENT TENDON SITE"),
    "actuator_dyntype": ("mjDYN_", "NONE INTEGRATOR FILTER FILTEREXACT MUSCLE"),
    "actuator_gaintype": ("mjGAIN_", "FIXED AFFINE MUSCLE"),
    "actuator_biastype": ("mjBIAS_", "NONE AFFINE MUSCLE"),
    "jnt_type": ("mjJNT_", "FREE BALL SLIDE HINGE"),
    "eq_type": ("mjEQ_", "CONNECT WELD JOINT TENDON"),
    "wrap_type": ("mjWRAP_", "JOINT PULLEY SITE SPHERE CYLINDER"),
    "sensor_type": (
        "mjSENS_",
        "MAGNETOMETER CAMPROJECTION RANGEFINDER JOINTPOS TENDONPOS ACTUATORPOS BALLQUAT FRAMEPOS FRAMEXAXIS "
        "FRAMEYAXIS FRAMEZAXIS FRAMEQUAT SUBTREECOM CLOCK VELOCIMETER GYRO JOINTVEL TENDONVEL ACTUATORVEL "
        "BALLANGVEL FRAMELINVEL FRAMEANGVEL SUBTREELINVEL SUBTREEANGMOM TOUCH CONTACT ACCELEROMETER FORCE "
        "TORQUE ACTUATORFRC JOINTACTFRC TENDONACTFRC FRAMELINACC FRAMEANGACC",
    ),
    "opt.integrator": ("mjINT_", "EULER RK4 IMPLICITFAST"),
    "opt.cone": ("mjCONE_", "PYRAMIDAL ELLIPTIC"),
    "opt.solver": ("mjSOL_", "PGS CG NEWTON"),  # PGS is replaced by Newton
    "opt.jacobian": ("mjJAC_", "DENSE SPARSE AUTO"),
    "opt.disableflags": (
        "mjDSBL_",
        # With SPRING or DAMPER alone MJX drops all passive forces.
        "CONSTRAINT EQUALITY FRICTIONLOSS LIMIT CONTACT GRAVITY CLAMPCTRL WARMSTART ACTUATION REFSAFE SENSOR "
        "EULERDAMP FILTERPARENT MIDPHASE AUTORESET ISLAND",
    ),
    "opt.enableflags": ("mjENBL_", "INVDISCRETE ENERGY FWDINV"),  # which change no motion
}
"""Fields of a kind: the prefix of the enumeration's names, and those that MJX computes."""

IGNORED = {
    "nplugin": "plugins",
    "nflex": "flexes",
    "nhistory": "delays and histories of actuators and sensors",
    "actuator_delay": "the delay of an actuator",
    "actuator_history": "the history of an actuator",
    "actuator_damping": "the damping of an actuator",
    "actuator_dampingpoly": "the damping of an actuator",
    "actuator_armature": "the armature of an actuator",
    "actuator_actearly": "actearly of an actuator",
    "jnt_stiffnesspoly": "polynomial stiffness of a joint",
    "dof_dampingpoly": "polynomial damping of a joint",
    "tendon_stiffnesspoly": "polynomial stiffness of a tendon",
    "tendon_dampingpoly": "polynomial damping of a tendon",
    "geom_fluid": "the ellipsoid fluid model of a geom",
    "geom_adhesion": "the adhesion of a geom",
    "geom_surfacevel": "the surface velocity of a geom",
    "pair_adhesion": "the adhesion of a contact pair",
    "sensor_delay": "the delay of a sensor",
    "sensor_history": "the history of a sensor",
    "sensor_interval": "the interval of a sensor",
    "opt.disableactuator": "disabled groups of actuators",
    "opt.noslip_iterations": "the noslip solver",
}
"""Fields that MJX ignores, refused unless they are all zero."""

READ = """
actuator_acc0 actuator_actadr actuator_actlimited actuator_actnum actuator_actrange actuator_biasprm
actuator_cranklength actuator_ctrladr actuator_ctrllimited actuator_ctrlnum actuator_ctrlrange
actuator_ctrlspec actuator_dynprm actuator_forcelimited actuator_forcerange actuator_gainprm actuator_gear
actuator_group actuator_historyadr actuator_length0 actuator_lengthrange actuator_outadr actuator_outnum
actuator_plugin actuator_trnid actuator_user
body_bvhadr body_bvhnum body_conaffinity body_contype body_dofadr body_dofnum body_geomadr body_geomnum
body_gravcomp body_inertia body_invweight0 body_ipos body_iquat body_jntadr body_jntnum body_margin
body_mass body_mocapid body_parentid body_plugin body_pos body_quat body_rootid body_sameframe body_simple
body_subtreemass body_treeid body_user body_weldid
dof_M0 dof_Madr dof_armature dof_bodyid dof_damping dof_frictionloss dof_invweight0 dof_jntid dof_length
dof_parentid dof_simplenum dof_solimp dof_solref dof_treeid
eq_active0 eq_data eq_obj1id eq_obj2id eq_objtype eq_solimp eq_solref
exclude_signature
flg_adhesion flg_gravcomp flg_surfacevel
geom_aabb geom_bodyid geom_conaffinity geom_condim geom_contype geom_dataid geom_friction geom_gap
geom_group geom_margin geom_matid geom_plugin geom_pos geom_priority geom_quat geom_rbound geom_rgba
geom_sameframe geom_size geom_solimp geom_solmix geom_solref geom_type geom_user
jnt_actfrclimited jnt_actfrcrange jnt_actgravcomp jnt_actuatorid jnt_axis jnt_bodyid jnt_dofadr jnt_group
jnt_limited jnt_margin jnt_pos jnt_qposadr jnt_range jnt_solimp jnt_solref jnt_stiffness jnt_user
pair_dim pair_friction pair_gap pair_geom1 pair_geom2 pair_margin pair_signature pair_solimp pair_solref
pair_solreffriction
qpos0
qpos_spring
signature
sensor_adr sensor_cutoff sensor_datatype sensor_dim sensor_historyadr sensor_intprm sensor_needstage
sensor_noise sensor_objid sensor_objtype sensor_plugin sensor_refid sensor_reftype sensor_user
tendon_actfrclimited tendon_actfrcrange tendon_actuatorid tendon_adr tendon_armature tendon_damping
tendon_frictionloss tendon_group tendon_invweight0 tendon_length0 tendon_lengthspring tendon_limited
tendon_margin tendon_matid tendon_num tendon_range tendon_rgba tendon_solimp_fri tendon_solimp_lim
tendon_solref_fri tendon_solref_lim tendon_stiffness tendon_treeid tendon_treenum tendon_user tendon_width
opt.ccd_iterations opt.ccd_tolerance opt.density opt.gravity opt.impratio opt.iterations opt.ls_iterations
opt.ls_tolerance opt.magnetic opt.noslip_tolerance opt.o_friction opt.o_margin opt.o_solimp opt.o_solref
opt.sdf_initpoints opt.sdf_iterations opt.sleep_tolerance opt.timestep opt.tolerance opt.viscosity opt.wind
"""
"""Fields that MJX reads, that follow from others, or that have an effect only with a refused flag."""
NETFORCE = 3
"""The value of sensor_intprm[1] for reduce="netforce"."""
OTHER = (
    *("B_", "D_", "M_", "map", "efm", "ten_J", "tree_", "wrap_"),  # structure
    *("bvh_", "oct_", "mesh_", "hfield_", "site_", "cam_", "light_", "mat_", "tex_", "skin_", "flex"),
    *("key_", "name", "text_", "tuple_", "numeric_", "plugin", "path"),
)
"""Beginnings of further fields: structure, shapes, pictures, names, and what belongs to `IGNORED`."""


def check(model: Any, contacts: str = "exact") -> None:
    """Raise ConfigError with the names of all parts of a `mujoco.MjModel` that MJX would not simulate.

    Contacts "approximate" accepts those of `mjx_contacts.APPROXIMATE` and `mjx_contacts.LIMITS`.
    """
    if found := missing(model, contacts):
        allowed = f"mujoco for this model, because of parts that MJX does not simulate: {', '.join(found)}"
        more = (
            "contacts='approximate' accepts other contacts." if found != missing(model, "approximate") else ""
        )
        raise ConfigError("engine", "mjx", allowed, more)


def missing(model: Any, contacts: str = "exact") -> list[str]:
    """Return the names of all parts of a `mujoco.MjModel` that MJX would not simulate."""
    parts = [*_kinds(model), *_ignored(model), *_combinations(model), *_sensors(model)]
    parts += unsupported(model)
    exact = [*inexact(model)] if contacts == "exact" else []
    return list(dict.fromkeys(parts + exact))


def _value(model: Any, field: str) -> np.ndarray:
    place, name = (model.opt, field[4:]) if field.startswith("opt.") else (model, field)
    return np.asarray(getattr(place, name, 0))


def _kinds(model: Any) -> Iterator[str]:
    """Yield the values of enumerations that are not in `AGREES`."""
    import mujoco

    enumerations = {
        "actuator_trntype": mujoco.mjtTrn,
        "actuator_dyntype": mujoco.mjtDyn,
        "actuator_gaintype": mujoco.mjtGain,
        "actuator_biastype": mujoco.mjtBias,
        "jnt_type": mujoco.mjtJoint,
        "eq_type": mujoco.mjtEq,
        "wrap_type": mujoco.mjtWrap,
        "sensor_type": mujoco.mjtSensor,
        "opt.integrator": mujoco.mjtIntegrator,
        "opt.cone": mujoco.mjtCone,
        "opt.solver": mujoco.mjtSolver,
        "opt.jacobian": mujoco.mjtJacobian,
        "opt.disableflags": mujoco.mjtDisableBit,
        "opt.enableflags": mujoco.mjtEnableBit,
    }
    for field, (prefix, names) in AGREES.items():
        members = enumerations[field].__members__
        known = {int(members[prefix + name]) for name in names.split() if prefix + name in members}
        given = set(map(int, np.unique(_value(model, field))))
        if field.endswith("flags"):
            given = {1 << bit for bit in range(32) for flags in given if flags >> bit & 1}
        titles = {int(member): name.removeprefix(prefix).lower() for name, member in members.items()}
        for value in sorted(given - known):
            yield f"{field.removeprefix('opt.')} {titles.get(value, value)}"


def _ignored(model: Any) -> Iterator[str]:
    """Yield the fields in `IGNORED`, and those in no list, that are not zero."""
    import mujoco

    for field, meaning in IGNORED.items():
        if _value(model, field).any():
            yield meaning
    listed = {*AGREES, *IGNORED, *READ.split()}
    numbers = lambda place: [name for name in dir(place) if _is_number(place, name)]
    for name in numbers(model):
        counts = name[0] == "n" or name.startswith(OTHER)
        if name not in listed and not counts and np.any(getattr(model, name)):
            yield f"mjModel.{name}"
    default = mujoco.MjOption()
    for name in numbers(model.opt):
        same = np.array_equal(getattr(model.opt, name), getattr(default, name, 0))
        if f"opt.{name}" not in listed and not same:
            yield f"mjOption.{name}"


def _is_number(place: Any, name: str) -> bool:
    return not name.startswith("_") and isinstance(getattr(place, name), int | float | np.ndarray)


def _combinations(model: Any) -> Iterator[str]:
    """Yield features that agree alone but not together."""
    import mujoco

    if model.nu and (np.asarray(getattr(model, "actuator_ctrlnum", 1)) != 1).any():
        yield "an actuator of several inputs"
    implicit = model.opt.integrator == mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    if implicit and (model.opt.density > 0 or model.opt.viscosity > 0 or model.opt.wind.any()):
        yield "a fluid with the integrator implicitfast"
    if implicit and (model.actuator_gaintype == mujoco.mjtGain.mjGAIN_MUSCLE).any():
        yield "a muscle with the integrator implicitfast"
    for kind, of in (("jnt", "a joint"), ("tendon", "a tendon")):
        limited, margin, ends = (getattr(model, f"{kind}_{name}") for name in ("limited", "margin", "range"))
        if (limited.astype(bool) & (np.diff(ends)[:, 0] < 2 * margin)).any():
            yield f"a limit of {of} with both sides within its margin"
    around = np.isin(model.wrap_type, (mujoco.mjtWrap.mjWRAP_SPHERE, mujoco.mjtWrap.mjWRAP_CYLINDER))
    beside = around & (model.wrap_prm >= 0)
    sites = model.wrap_prm[beside].round().astype(int)
    if (model.site_bodyid[sites] != model.geom_bodyid[model.wrap_objid[beside]]).any():
        yield "a sidesite on another body than the geom that a tendon wraps"


def _sensors(model: Any) -> Iterator[str]:
    """Yield sensors that MJX does not compute in such a model."""
    import mujoco

    ranges = model.sensor_type == mujoco.mjtSensor.mjSENS_RANGEFINDER
    if model.nmat == 0 and ranges.any():
        yield "a rangefinder in a model without <material>"
    sites = model.sensor_objtype == mujoco.mjtObj.mjOBJ_SITE
    if (ranges & ~(sites & (model.sensor_dim == 1))).any():
        yield "a rangefinder of a camera, or with more than the distance"
    solids = mujoco.mjtGeom
    unseen = (solids.mjGEOM_CYLINDER, solids.mjGEOM_HFIELD, solids.mjGEOM_SDF)
    bodies = model.geom_bodyid[np.isin(model.geom_type, unseen)]
    own = model.site_bodyid[model.sensor_objid[ranges & sites]]  # whose geoms no ray meets
    if (bodies != own[:, None]).any():
        yield "a rangefinder in a model with cylinders or height fields"
    touches = model.sensor_type == mujoco.mjtSensor.mjSENS_TOUCH
    if np.isin(model.site_type[model.sensor_objid[touches]], unseen).any():
        yield "a touch sensor whose site is a cylinder"
    if touches.any() and not touching(model):
        yield "a touch sensor in a model without contacts"
    still = model.site_bodyid[model.sensor_objid[model.sensor_type == mujoco.mjtSensor.mjSENS_ACCELEROMETER]]
    if (model.body_weldid[still] == 0).any():
        yield "an accelerometer on a body that cannot move"
    kinds = mujoco.mjtSensor.mjSENS_FRAMELINACC, mujoco.mjtSensor.mjSENS_FRAMEANGACC
    if (np.isin(model.sensor_type, kinds) & (model.sensor_cutoff > 0)).any():
        yield "a cutoff of framelinacc or frameangacc"
    of_contacts = model.sensor_type == mujoco.mjtSensor.mjSENS_CONTACT
    kinds = [*model.sensor_objtype[of_contacts], *model.sensor_reftype[of_contacts]]
    objects = mujoco.mjtObj
    if np.isin(kinds, (objects.mjOBJ_SITE, objects.mjOBJ_BODY, objects.mjOBJ_XBODY)).any():
        yield "a contact sensor of a body, a subtree or a site"
    if (model.sensor_intprm[of_contacts, 1] == NETFORCE).any():
        yield "a contact sensor of the net force"
    if (model.sensor_needstage == mujoco.mjtStage.mjSTAGE_ACC).any() and not _constrained(model):
        yield "sensors of accelerations and forces in a model without constraints"


def _constrained(model: Any) -> bool:
    """Return True if MJX's solver runs for the model; without it MJX leaves such sensors at 0."""
    import mujoco

    off = lambda name: model.opt.disableflags & getattr(mujoco.mjtDisableBit, f"mjDSBL_{name}")
    friction = (model.dof_frictionloss > 0).any() or (model.tendon_frictionloss > 0).any()
    parts = {
        "EQUALITY": model.neq,
        "FRICTIONLOSS": friction,
        "LIMIT": model.jnt_limited.any() or model.tendon_limited.any(),
        "CONTACT": touching(model),
    }
    return not off("CONSTRAINT") and any(part and not off(name) for name, part in parts.items())
