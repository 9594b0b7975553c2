"""MJX's refusals: one small model for each feature of MuJoCo's XML reference, decided without MJX."""

# The names of the mujoco package come from compiled modules, which pyright cannot see into.
# pyright: reportAttributeAccessIssue=false

import types

import jax
import mujoco
import numpy as np
import pytest

import purerl
from purerl.envs.mujoco.engine import mjx_support

XML = """
<mujoco>
  <option {option}><flag {flag}/></option>
  <size {size}/>
  <asset>
    <material name="grey"/> {asset}
    <mesh name="tetra" vertex="0 0 0  0.1 0 0  0 0.1 0  0 0 0.1"/>
    <hfield name="hill" nrow="2" ncol="2" size="1 1 0.1 0.1" elevation="0 0 1 1"/>
  </asset>
  <worldbody>
    <geom name="floor" type="plane" size="5 5 1"/>
    <site name="fixed"/>
    <body name="base" pos="0 0 0.5" {body}>
      {root}
      <geom name="part" {geom}/>
      <body name="arm" pos="0.3 0 0">
        <joint name="arm" axis="0 1 0" {joint}/>
        <geom size="0.05" contype="0" conaffinity="0"/>
        <site name="tip" pos="0.1 0 0.1"/>
      </body>
    </body>
    {world}
  </worldbody>
  <tendon> <fixed name="cord" {cord}> <joint joint="arm" coef="1"/> </fixed> {tendon} </tendon>
  <actuator> <{actuator} ctrlrange="-1 1"/> {more} </actuator>
  {parts}
</mujoco>
"""
words = str.split

PLAIN = dict.fromkeys(words("option flag size asset body joint world cord tendon more parts"), "")
PLAIN |= dict(root="<freejoint/>", geom='size="0.1"', actuator='motor joint="arm"')


def sensor(text):
    return dict(parts=f"<sensor> <{text}/> </sensor>")


def actuator(text):
    return dict(actuator=text)


AGREE = {
    "plain": {},
    "integrator RK4": dict(option='integrator="RK4"'),
    "integrator implicitfast": dict(option='integrator="implicitfast"'),
    "cone elliptic": dict(option='cone="elliptic"'),
    "solver CG": dict(option='solver="CG"'),
    "solver PGS": dict(option='solver="PGS"'),
    "jacobian sparse": dict(option='jacobian="sparse"'),
    "fluid": dict(option='density="1" viscosity="0.1" wind="1 0 0"'),
    **{
        f"without {flag}": dict(flag=f'{flag}="disable"')
        for flag in [
            "constraint",
            "equality",
            "frictionloss",
            "limit",
            "contact",
            "gravity",
            "clampctrl",
            "warmstart",
            "filterparent",
            "actuation",
            "refsafe",
            "sensor",
            "midphase",
            "eulerdamp",
            "nativeccd",
            "island",
            "autoreset",
        ]
    },
    "position": actuator('position joint="arm" kp="5" kv="1"'),
    "velocity": actuator('velocity joint="arm" kv="5"'),
    "intvelocity": actuator('intvelocity joint="arm" kp="5" actrange="-1 1"'),
    "damper": dict(more='<damper joint="arm" kv="5" ctrlrange="0 1"/>'),
    "cylinder": actuator('cylinder joint="arm" timeconst="0.1" area="1"'),
    "muscle": actuator('muscle joint="arm" lengthrange="0 1" force="5"'),
    "filter": actuator('general joint="arm" dyntype="filter" dynprm="0.1"'),
    "filterexact": actuator('general joint="arm" dyntype="filterexact" dynprm="0.1"'),
    "integrator": actuator('general joint="arm" dyntype="integrator" actlimited="true" actrange="-1 1"'),
    "forcerange": actuator('motor joint="arm" forcerange="-1 1"'),
    "jointinparent": actuator('motor jointinparent="arm"'),
    "actuator of a tendon": actuator('motor tendon="cord"'),
    "actuator of a site": actuator('motor site="tip" gear="0 0 1 0 0 0"'),
    "ball joint": dict(root='<joint type="ball" damping="1"/>'),
    "slide joint": dict(root='<joint type="slide" axis="0 0 1"/>'),
    "limit": dict(joint='range="-30 30" limited="true" solreflimit="0.02 1" margin="0.01"'),
    "spring": dict(joint='stiffness="2" springref="10"'),
    "frictionloss": dict(joint='frictionloss="0.1"'),
    "armature": dict(joint='armature="0.1"'),
    "actuatorfrcrange": dict(joint='actuatorfrcrange="-1 1"'),
    "gravcomp": dict(body='gravcomp="1"'),
    "tendon spring": dict(cord='stiffness="5" springlength="0.1" damping="1"'),
    "tendon limit": dict(cord='range="-1 1" limited="true" frictionloss="0.1" armature="0.1"'),
    "spatial tendon": dict(tendon='<spatial> <site site="fixed"/> <site site="tip"/> </spatial>'),
    "wrapping": dict(
        tendon='<spatial> <site site="fixed"/> <geom geom="part"/> <site site="tip"/> </spatial>'
    ),
    "connect": dict(parts='<equality><connect body1="base" anchor="0 0 0"/></equality>'),
    "weld": dict(parts='<equality><weld body1="base"/></equality>'),
    "equality of a joint": dict(parts='<equality><joint joint1="arm" polycoef="0.1"/></equality>'),
    "equality of a tendon": dict(parts='<equality><tendon tendon1="cord"/></equality>'),
    "gap and margin": dict(geom='size="0.1" margin="0.1" gap="0.05"'),
    "condim 1": dict(geom='size="0.1" condim="1"'),
    "condim 6": dict(geom='size="0.1" condim="6" priority="1" solref="0.01 1" friction="1 0.1 0.1"'),
    "pair": dict(parts='<contact><pair geom1="floor" geom2="part" condim="4"/></contact>'),
    "exclude": dict(parts='<contact><exclude body1="base" body2="arm"/></contact>'),
    "mocap": dict(world='<body mocap="true"><geom size="0.1" contype="0" conaffinity="0"/></body>'),
    "keyframe": dict(parts='<keyframe><key time="1"/></keyframe>'),
    "user data": dict(size='nuserdata="3"'),
    **{
        f"plane and {shape.split()[0]}": dict(geom=f'type="{shape}')
        for shape in (
            *('capsule" size="0.1 0.1"', 'box" size="0.1 0.1 0.1"', 'cylinder" size="0.1 0.1"'),
            *('ellipsoid" size="0.1 0.2 0.1"', 'mesh" mesh="tetra"'),
        )
    },
    **{
        f"sensor {kind}": sensor(f'{kind} site="tip"')
        for kind in [
            "touch",
            "accelerometer",
            "velocimeter",
            "gyro",
            "force",
            "torque",
            "magnetometer",
            "rangefinder",
        ]
    },
    **{
        f"sensor {kind}": sensor(f'{kind} joint="arm"')
        for kind in ("jointpos", "jointvel", "jointactuatorfrc")
    },
    **{f"sensor {kind}": sensor(f'{kind} tendon="cord"') for kind in ("tendonpos", "tendonvel")},
    **{
        f"sensor {kind}": sensor(f'{kind} objtype="site" objname="tip"')
        for kind in [
            "framepos",
            "framequat",
            "framexaxis",
            "framelinvel",
            "frameangvel",
            "framelinacc",
            "frameangacc",
        ]
    },
    **{f"sensor {kind}": sensor(f'{kind} body="base"') for kind in ("subtreecom", "subtreelinvel")},
    "sensor clock": sensor("clock"),
}
REFUSED = {
    "integrator implicit": (dict(option='integrator="implicit"'), "integrator implicit"),
    "integrator discrete": (dict(option='integrator="discrete"'), "integrator discrete"),
    "noslip": (dict(option='noslip_iterations="3"'), "the noslip solver"),
    "disabled actuators": (dict(option='actuatorgroupdisable="0"'), "disabled groups of actuators"),
    "without springs": (dict(flag='spring="disable"'), "disableflags spring"),
    "without dampers": (dict(flag='damper="disable"'), "disableflags damper"),
    "multiccd": (dict(flag='multiccd="disable"'), "disableflags multiccd"),
    "override": (dict(flag='override="enable"'), "enableflags override"),
    "energy": (dict(flag='energy="enable"'), "enableflags energy"),
    "fwdinv": (dict(flag='fwdinv="enable"'), "enableflags fwdinv"),
    "sleep": (dict(flag='sleep="enable"'), "enableflags sleep"),
    "diagexact": (dict(flag='diagexact="enable"'), "enableflags diagexact"),
    "delay": (actuator('motor joint="arm" delay="0.01" nsample="4"'), "the delay of an actuator"),
    "damping": (actuator('motor joint="arm" damping="1"'), "the damping of an actuator"),
    "armature": (actuator('motor joint="arm" armature="1"'), "the armature of an actuator"),
    "actearly": (
        actuator('general joint="arm" dyntype="filter" dynprm="1" actearly="true"'),
        "actearly of an actuator",
    ),
    "adhesion": (dict(more='<adhesion body="base" gain="1" ctrlrange="0 1"/>'), "actuator_trntype body"),
    "slider-crank": (
        actuator('motor cranksite="tip" slidersite="fixed" cranklength="1"'),
        "actuator_trntype slidercrank",
    ),
    "user dynamics": (actuator('general joint="arm" dyntype="user" actdim="1"'), "actuator_dyntype user"),
    "implicitfast with a fluid": (dict(option='integrator="implicitfast" density="1"'), "a fluid"),
    "implicitfast with a forcerange": (
        dict(option='integrator="implicitfast"', actuator='velocity joint="arm" forcerange="-1 1"'),
        "a forcerange of an actuator",
    ),
    "ellipsoid fluid": (dict(geom='size="0.1" fluidshape="ellipsoid"'), "the ellipsoid fluid model"),
    "hfield and cylinder": (
        dict(geom='type="cylinder" size="0.1 0.1"', world='<geom type="hfield" hfield="hill"/>'),
        "contacts of hfield and cylinder",
    ),
    "mesh margin": (dict(geom='type="mesh" mesh="tetra" margin="0.01"'), "a margin of plane and mesh"),
    "sensor jointlimitpos": (
        dict(joint='range="0 1" limited="true"') | sensor('jointlimitpos joint="arm"'),
        "sensor_type jointlimitpos",
    ),
    "sensor distance": (sensor('distance geom1="part" geom2="floor"'), "sensor_type geomdist"),
    "sensor e_kinetic": (sensor("e_kinetic"), "sensor_type e_kinetic"),
    "sensor user": (sensor('user dim="1"'), "sensor_type user"),
    "sensor without constraints": (
        dict(flag='contact="disable"') | sensor('accelerometer site="tip"'),
        "without constraints",
    ),
    "flex": (
        dict(world='<flexcomp name="f" type="grid" count="3 3 1" spacing=".1 .1 .1" radius=".01" dim="2"/>'),
        "flexes",
    ),
}


def model_of(parts):
    return mujoco.MjModel.from_xml_string(XML.format(**PLAIN | parts))


@pytest.mark.parametrize("name", AGREE)
def test_a_model_that_agrees_is_accepted(name):
    mjx_support.check(model_of(AGREE[name]))


@pytest.mark.parametrize("name", REFUSED)
def test_a_feature_that_mjx_does_not_compute_is_refused_by_name(name):
    parts, message = REFUSED[name]
    with pytest.raises(purerl.ConfigError, match=message):
        mjx_support.check(model_of(parts))


@pytest.mark.parametrize("place", ["mjModel", "mjOption"])
def test_a_field_in_no_list_is_refused_unless_it_is_zero(place):
    plain = model_of({})
    names = [name for name in dir(plain) if not name.startswith("_")]
    model = types.SimpleNamespace(**{name: getattr(plain, name) for name in names})
    option = {name: getattr(plain.opt, name) for name in dir(plain.opt) if not name.startswith("_")}
    model.opt = types.SimpleNamespace(**option)
    model.geom_stickiness = np.zeros(2)
    mjx_support.check(model)
    if place == "mjModel":
        model.geom_stickiness[1] = 1
    else:
        model.opt.stickiness = 1.0
    with pytest.raises(purerl.ConfigError, match=rf"does not simulate: {place}\.\w*stickiness"):
        mjx_support.check(model)


def test_an_environment_is_refused_when_it_is_made(tmp_path):
    path = tmp_path / "robot.xml"
    path.write_text(XML.format(**PLAIN | REFUSED["delay"][0]))
    with pytest.raises(purerl.ConfigError, match="the delay of an actuator"):
        purerl.mujoco_env("robot", path, lambda params, physics, action: 0.0, engine="mjx")


def test_on_an_accelerator_auto_takes_the_engine_that_simulates_the_whole_model(
    tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    physics = {}
    for name, parts in dict(plain={}, delayed=REFUSED["delay"][0]).items():
        path = tmp_path / f"{name}.xml"
        path.write_text(XML.format(**PLAIN | parts))
        env = purerl.mujoco_env(name, path, lambda params, physics, action: 0.0)
        physics[name] = jax.eval_shape(env.reset, jax.random.key(0))[1].physics
    assert isinstance(physics["plain"].row, dict) and not isinstance(physics["delayed"].row, dict)
    (record,) = [record for record in caplog.records if "engine auto" in record.message]
    assert "takes mujoco for this model" in record.message and "the delay of an actuator" in record.message


MUTANTS = {
    "auto takes MJX for every model": (
        "envs/mujoco/options.py",
        'chosen = "mujoco"\n            logger',
        "logger",
        "test_on_an_accelerator_auto_takes_the_engine_that_simulates_the_whole_model",
    ),
    "MJX takes every model": (
        "envs/mujoco/engine/mjx.py",
        "    mjx_support.check(model)\n",
        "",
        "test_an_environment_is_refused_when_it_is_made",
    ),
    "a field in no list is accepted": (
        "envs/mujoco/engine/mjx_support.py",
        'yield f"mjModel.{name}"',
        "pass",
        "test_a_field_in_no_list_is_refused_unless_it_is_zero[mjModel]",
    ),
}
