"""One small MJCF model for each feature of MuJoCo's XML reference, for benchmarks/features.py and its test.

All are one template, a body with an arm above a floor, with other parts. `FEATURES` names the parts of each,
and those of the model beside it, which lacks the feature only.
"""

from __future__ import annotations

TEMPLATE = """
<mujoco>
  <compiler {compiler}/>
  <option timestep="{timestep}" {option}><flag {flag}/></option>
  <size {size}/>
  {extension}
  <asset>
    {asset}
    <mesh name="cube" scale="0.1 0.1 0.1" vertex="-1 -1 -1 1 -1 -1 -1 1 -1 1 1 -1 -1 -1 1 1 -1 1 -1 1 1 1 1 1"/>
    <hfield name="hill" nrow="3" ncol="3" size="0.6 0.6 0.05 0.1" elevation="0 0.4 1 0.1 0.5 0.7 0 0.6 1"/>
  </asset>
  <worldbody>
    <geom name="floor" {floor}/>
    <site name="fixed" pos="0.1 0.2 0.6"/>
    {world}
    <body name="base" pos="0 0 0.1" {base}>
      {root}
      <geom name="part" {part}/>
      <body name="arm" pos="0.3 0 0.05">
        <joint name="arm" axis="0 1 0" {joint}/>
        <geom name="arm" type="capsule" {link} size="0.03"/>
        <site name="tip" pos="0.2 0.02 0.05" size="0.02"/>
        {arm}
      </body>
    </body>
  </worldbody>
  <tendon><fixed name="cord" {cord}><joint joint="arm" coef="1.5"/></fixed> {tendon}</tendon>
  <actuator>{actuator}</actuator>
  {parts}
</mujoco>
"""
PLAIN = dict.fromkeys(
    [
        "compiler",
        "option",
        "flag",
        "size",
        "extension",
        "asset",
        "world",
        "base",
        "joint",
        "arm",
        "cord",
        "tendon",
        "parts",
    ],
    "",
)
PLAIN |= dict(
    floor='type="plane" size="5 5 1"',
    timestep="0.005",
    root="<freejoint/>",
    link='fromto="0 0 0 0.2 0 0" contype="0" conaffinity="0"',
    part='size="0.1"',
    actuator='<motor name="act" joint="arm" gear="0.5" ctrlrange="-1 1"/>',
)

Parts = dict[str, str]


def on_joint(text: str, bounds: str = 'ctrlrange="-1 1"') -> Parts:
    """Return the template's parts with another actuator of the arm's joint."""
    return dict(actuator=f'<{text} name="act" joint="arm" {bounds}/>')


def on(place: str, text: str) -> Parts:
    """Return the template's parts with another actuator of something else, with two inputs at most."""
    return dict(actuator=f'<{text} name="act" {place} ctrlrange="-1 1"/>')


def sensor(text: str, **parts: str) -> Parts:
    """Return the template's parts with a sensor."""
    return dict(parts=f"<sensor><{text}/></sensor>") | parts


def plugin(name: str, **parts: str) -> Parts:
    """Return the template's parts with an extension."""
    return dict(extension=f'<extension><plugin plugin="{name}"/></extension>') | parts


SERVO = on_joint('position kp="5" kv="0.3"')


def rope(around: str) -> str:
    """Return a springy tendon from the fixed site to the tip."""
    return (
        f'<spatial stiffness="40" springlength="0.2"><site site="fixed"/>{around}<site site="tip"/></spatial>'
    )


POST = '<geom name="post" pos="0.25 0.1 0.35" size="0.1" contype="0" conaffinity="0"/>'
LIMITED = dict(joint='limited="true" range="-5 5" solreflimit="0.03 1"')
STRINGED = dict(joint='stiffness="4" damping="0.2"')
ROLLING = dict(part='size="0.1" condim="6" friction="1 0.02 0.02"')
BALL = dict(root='<joint name="ball" type="ball"/>')
MATERIAL = dict(asset='<material name="grey"/>')
CORD = dict(
    tendon='<spatial name="rope" stiffness="40" springlength="0.2"><site site="fixed"/><site site="tip"/></spatial>'
)
MUSCLE = on_joint('muscle lengthrange="-1 1" force="3"', 'ctrlrange="0 1"')
SHAPES = {
    "sphere": 'type="sphere" size="0.1"',
    "capsule": 'type="capsule" size="0.08 0.06"',
    "ellipsoid": 'type="ellipsoid" size="0.12 0.09 0.1"',
    "cylinder": 'type="cylinder" size="0.1 0.1"',
    "box": 'type="box" size="0.1 0.09 0.1"',
    "mesh": 'type="mesh" mesh="cube"',
}
"""Shapes of the body, 0.1 m above its lowest point."""
GROUNDS = {
    "plane": 'type="plane" size="5 5 1"',
    "hfield": 'type="hfield" hfield="hill" pos="0 0 -0.03"',
    "sphere": 'type="sphere" size="0.4" pos="0.02 0.01 -0.4"',
    "capsule": 'type="capsule" size="0.2 0.4" pos="0.02 0.01 -0.2" euler="0 90 0"',
    "ellipsoid": 'type="ellipsoid" size="0.4 0.3 0.2" pos="0.02 0.01 -0.2"',
    "cylinder": 'type="cylinder" size="0.4 0.1" pos="0.02 0.01 -0.1"',
    "box": 'type="box" size="0.4 0.3 0.1" pos="0.02 0.01 -0.1"',
    "mesh": 'type="mesh" mesh="slab" pos="0.02 0.01 -0.1"',
}
"""Shapes below it, of which the highest point is at 0."""
SLAB = '<mesh name="slab" scale="0.4 0.3 0.1" vertex="-1 -1 -1 1 -1 -1 -1 1 -1 1 1 -1 -1 -1 1 1 -1 1 -1 1 1 1 1 1"/>'
ORDER = ["plane", "hfield", *SHAPES]

FEATURES: dict[str, dict[str, Parts | tuple[Parts, Parts]]] = {
    "compiled away": {
        "plain model": {},
        "compiler settotalmass": dict(compiler='settotalmass="3"'),
        "compiler autolimits, radian": dict(compiler='angle="radian"', joint='range="-0.1 0.1"'),
        "default classes": dict(extension='<default><geom density="300"/><joint damping="0.3"/></default>'),
        "frame and replicate": dict(
            arm='<replicate count="2" euler="0 0 90"><frame pos="0.1 0 0"><geom size="0.02" contype="0"/></frame></replicate>'
        ),
        "inertial": dict(arm='<inertial pos="0.1 0 0" mass="0.3" fullinertia="0.01 0.02 0.02 0.001 0 0"/>'),
        "composite cable without a plugin": dict(
            world='<composite type="cable" curve="s" count="4 1 1" size="0.3" offset="0 1 0.5" initial="none"><joint kind="main" damping="0.01"/><geom type="capsule" size="0.01" contype="0" conaffinity="0"/></composite>'
        ),
        "mesh inertia shell": dict(
            asset='<mesh name="shell" inertia="shell" scale="0.1 0.1 0.1" vertex="-1 -1 -1 1 -1 -1 -1 1 -1 1 1 -1 -1 -1 1 1 -1 1 -1 1 1 1 1 1"/>',
            part='type="mesh" mesh="shell" contype="0" conaffinity="0"',
        ),
        "camera, light, texture, skin-free pictures": dict(
            asset='<texture name="t" type="2d" builtin="checker" width="8" height="8"/><material name="m" texture="t"/>',
            world='<camera pos="0 0 1"/><light pos="0 0 3"/>',
        ),
        "custom numeric, text, tuple": dict(
            parts='<custom><numeric name="n" data="1 2"/><text name="t" data="x"/></custom>'
        ),
        "user data": dict(size='nuserdata="3" nuser_geom="1"'),
    },
    "options": {
        "timestep": dict(timestep="0.008"),
        "gravity": dict(option='gravity="1 0 -3"'),
        "impratio": dict(option='impratio="10" cone="elliptic"'),
        "integrator RK4": dict(option='integrator="RK4"'),
        "integrator implicit": dict(option='integrator="implicit"'),
        "integrator implicitfast": (SERVO, SERVO | dict(option='integrator="implicitfast"')),
        "integrator discrete": dict(option='integrator="discrete"'),
        "cone elliptic": dict(option='cone="elliptic"'),
        "jacobian dense": dict(option='jacobian="dense"'),
        "jacobian sparse": dict(option='jacobian="sparse"'),
        "solver CG": dict(option='solver="CG"'),
        "solver PGS": dict(option='solver="PGS" iterations="500" tolerance="0"'),
        "fewer iterations": dict(option='iterations="6" ls_iterations="10"'),
        "noslip": dict(option='noslip_iterations="5"'),
        "density and viscosity": dict(option='density="50" viscosity="0.5"'),
        "wind": dict(option='density="50" wind="3 1 0"'),
        "density with implicitfast": (
            dict(option='integrator="implicitfast"'),
            dict(option='integrator="implicitfast" density="50"'),
        ),
        "disabled groups of actuators": dict(option='actuatorgroupdisable="0"'),
        "override": dict(option='o_margin="0.01" o_solref="0.05 1"', flag='override="enable"'),
        "without constraint": dict(flag='constraint="disable"'),
        "without equality": (
            dict(parts='<equality><joint joint1="arm" polycoef="0.1"/></equality>'),
            dict(
                parts='<equality><joint joint1="arm" polycoef="0.1"/></equality>', flag='equality="disable"'
            ),
        ),
        "without frictionloss": (
            dict(joint='frictionloss="0.3"'),
            dict(joint='frictionloss="0.3"', flag='frictionloss="disable"'),
        ),
        "without limit": (LIMITED, LIMITED | dict(flag='limit="disable"')),
        "without contact": dict(flag='contact="disable"'),
        "without spring": (STRINGED, STRINGED | dict(flag='spring="disable"')),
        "without damper": (STRINGED, STRINGED | dict(flag='damper="disable"')),
        "without spring and damper": (STRINGED, STRINGED | dict(flag='spring="disable" damper="disable"')),
        "without gravity": dict(flag='gravity="disable"'),
        "without clampctrl": dict(flag='clampctrl="disable"'),
        "without warmstart": dict(flag='warmstart="disable"'),
        "without filterparent": (
            dict(link='fromto="-0.22 0 0 0.2 0 0"'),
            dict(link='fromto="-0.22 0 0 0.2 0 0"', flag='filterparent="disable"'),
        ),
        "without actuation": dict(flag='actuation="disable"'),
        "without refsafe": (
            dict(part='size="0.1" priority="1" solref="0.006 1"'),
            dict(part='size="0.1" priority="1" solref="0.006 1"', flag='refsafe="disable"'),
        ),
        "without sensor": (
            sensor('jointpos joint="arm"'),
            sensor('jointpos joint="arm"', flag='sensor="disable"'),
        ),
        "without midphase": dict(flag='midphase="disable"'),
        "without eulerdamp": (STRINGED, STRINGED | dict(flag='eulerdamp="disable"')),
        "without nativeccd": (
            dict(floor=GROUNDS["sphere"], part=SHAPES["mesh"]),
            dict(floor=GROUNDS["sphere"], part=SHAPES["mesh"], flag='nativeccd="disable"'),
        ),
        "without island": dict(flag='island="disable"'),
        "without autoreset": dict(flag='autoreset="disable"'),
        "without multiccd": dict(flag='multiccd="disable"'),
        "diagexact": dict(flag='diagexact="enable"'),
        "energy": dict(flag='energy="enable"'),
        "fwdinv": dict(flag='fwdinv="enable"'),
        "invdiscrete": dict(flag='invdiscrete="enable"'),
        "sleep": dict(flag='sleep="enable"'),
    },
    "joints and bodies": {
        "hinge at the root": dict(root='<joint type="hinge" axis="0 1 1"/>'),
        "slide joint": dict(root='<joint type="slide" axis="0 0.2 1"/>'),
        "ball joint": BALL,
        "several joints": dict(
            root='<joint type="slide" axis="1 0 0"/><joint type="slide" axis="0 0 1"/><joint axis="0 1 0"/>'
        ),
        "position and ref of a joint": dict(joint='pos="0.05 0 0.02" ref="20"'),
        "damping": dict(joint='damping="0.5"'),
        "stiffness and springref": dict(joint='stiffness="4" springref="20"'),
        "springdamper": dict(joint='springdamper="0.1 1"'),
        "stiffness of a ball joint": (BALL, dict(root='<joint type="ball" stiffness="5"/>')),
        "stiffness of a free joint": dict(root='<joint type="free" stiffness="50" damping="1"/>'),
        "polynomial stiffness": dict(joint='stiffness="4 2 1"'),
        "polynomial damping": dict(joint='damping="0.2 0.2 0.1"'),
        "armature": dict(joint='armature="0.05"'),
        "frictionloss": dict(joint='frictionloss="0.3" solreffriction="0.05 1"'),
        "frictionloss of a ball joint": (BALL, dict(root='<joint type="ball" frictionloss="0.3"/>')),
        "limit": LIMITED,
        "limit with a margin": dict(
            joint='limited="true" range="-5 5" margin="0.05" solimplimit="0.5 0.9 0.1"'
        ),
        "limit with both sides in its margin": dict(joint='limited="true" range="-5 5" margin="0.1"'),
        "limit of a slide joint": dict(
            floor='type="plane" size="1 1 1" contype="0"',
            root='<joint type="slide" axis="0 0 1" limited="true" range="-0.01 1"/>',
        ),
        "limit of a ball joint": (BALL, dict(root='<joint type="ball" limited="true" range="0 3"/>')),
        "actuatorfrcrange": dict(joint='actuatorfrcrange="-0.1 0.1"'),
        "gravcomp": dict(arm='<body gravcomp="1"><geom size="0.05" contype="0" conaffinity="0"/></body>'),
        "actuatorgravcomp": dict(
            joint='actuatorgravcomp="true" actuatorfrcrange="-1 1"',
            arm='<body gravcomp="1"><geom size="0.05" contype="0" conaffinity="0"/></body>',
        ),
        "mocap": dict(
            world='<body mocap="true" name="hand" pos="0.2 0 0.4"><geom size="0.05" contype="0" conaffinity="0"/></body>',
            parts='<equality><weld body1="hand" body2="arm"/></equality>',
        ),
        "mocap that pushes": dict(
            world='<body mocap="true" name="hand" pos="0 0.15 0.12"><geom size="0.08"/></body>',
        ),
        "keyframe": dict(
            parts='<keyframe><key name="home" qpos="0 0 0.11 1 0 0 0 0.3" qvel="1 0 0 0 0 0 1" time="1"/></keyframe><sensor><clock/></sensor>',
        ),
        "keyframe with activations": on_joint('intvelocity kp="5" kv="0.5" actrange="-3 3"')
        | dict(
            parts='<keyframe><key name="home" qpos="0 0 0.11 1 0 0 0 0.3" act="1"/></keyframe>',
        ),
        "keyframe with mocap": dict(
            world='<body mocap="true" name="hand" pos="0.2 0 0.4"><geom size="0.05" contype="0" conaffinity="0"/></body>',
            parts='<equality><weld body1="hand" body2="arm"/></equality><keyframe><key name="home" qpos="0 0 0.11 1 0 0 0 0.3" mpos="0.2 0.1 0.5"/></keyframe>',
        ),
        "ellipsoid fluid": dict(option='density="50"', part='size="0.1" fluidshape="ellipsoid"'),
        "sleep policy": dict(base='sleep="never"'),
    },
    "contacts": {
        "condim 1": dict(part='size="0.1" condim="1"', floor='type="plane" size="5 5 1" condim="1"'),
        "condim 4": dict(part='size="0.1" condim="4" friction="1 0.05 0.001"'),
        "condim 6": ROLLING,
        "condim 6 with an elliptic cone": ROLLING | dict(option='cone="elliptic"'),
        "friction": dict(part='size="0.1" friction="0.1"', floor='type="plane" size="5 5 1" friction="0.1"'),
        "priority": dict(part='size="0.1" priority="1" friction="0.1"'),
        "solmix": dict(part='size="0.1" solmix="3" solref="0.05 1"'),
        "solref and solimp": dict(part='size="0.1" solref="0.05 0.5" solimp="0.5 0.8 0.01"'),
        "negative solref": dict(part='size="0.1" priority="1" solref="-1000 -20"'),
        "margin": dict(part='size="0.1" margin="0.05"'),
        "gap": (dict(part='size="0.1" margin="0.05"'), dict(part='size="0.1" margin="0.05" gap="0.05"')),
        "contype and conaffinity": dict(part='size="0.1" contype="2" conaffinity="2"'),
        "adhesion of a geom": dict(part='size="0.1" adhesion="50"'),
        "surfacevel": dict(floor='type="plane" size="5 5 1" surfacevel="1 0 0"'),
        "pair": dict(
            part='size="0.1" contype="0" conaffinity="0"',
            parts='<contact><pair geom1="floor" geom2="part" condim="4" friction="0.3 0.3 0.01 0 0" solref="0.03 1"/></contact>',
        ),
        "pair with solreffriction": dict(
            option='cone="elliptic"',
            parts='<contact><pair geom1="floor" geom2="part" solreffriction="0.05 1"/></contact>',
        ),
        "adhesion of a pair": dict(
            parts='<contact><pair geom1="floor" geom2="part" adhesion="50"/></contact>'
        ),
        "exclude": dict(
            parts='<contact><exclude body1="world" body2="base"/></contact>',
        ),
        **{
            f"{low} and {high}": dict(
                floor=GROUNDS[low],
                part=SHAPES[high],
                asset=SLAB,
            )
            for i, low in enumerate(ORDER)
            for high in ORDER[max(i, 2) :]
        },
        "numeric max_contact_points": dict(
            parts='<custom><numeric name="max_contact_points" data="1"/></custom>', part=SHAPES["box"]
        ),
        "margin of a box": dict(part=SHAPES["box"] + ' margin="0.05"'),
        "margin of a mesh": dict(part=SHAPES["mesh"] + ' margin="0.05"'),
        "margin of a cylinder": dict(part=SHAPES["cylinder"] + ' margin="0.05"'),
        "plugin for a signed distance": plugin(
            "mujoco.sdf.torus",
            extension='<extension><plugin plugin="mujoco.sdf.torus"><instance name="torus"><config key="radius1" value="0.1"/><config key="radius2" value="0.05"/></instance></plugin></extension>',
            asset='<mesh name="torus"><plugin instance="torus"/></mesh>',
            part='type="sdf" mesh="torus"',
            arm='<geom type="sdf" mesh="torus"><plugin instance="torus"/></geom>',
        ),
    },
    "equalities": {
        "connect": dict(parts='<equality><connect body1="arm" anchor="0.2 0 0"/></equality>'),
        "connect of two bodies": dict(
            world='<body name="free" pos="0 0.3 0.3"><freejoint/><geom size="0.05"/></body>',
            parts='<equality><connect body1="base" body2="free" anchor="0 0.2 0.1"/></equality>',
        ),
        "connect of sites": dict(parts='<equality><connect site1="tip" site2="fixed"/></equality>'),
        "weld": dict(parts='<equality><weld body1="arm"/></equality>'),
        "weld with relpose and torquescale": dict(
            parts='<equality><weld body1="base" relpose="0 0 -0.2 1 0.1 0 0" torquescale="0.2"/></equality>'
        ),
        "weld of sites": dict(parts='<equality><weld site1="tip" site2="fixed"/></equality>'),
        "joint": dict(parts='<equality><joint joint1="arm" polycoef="0.2"/></equality>'),
        "joint and joint": dict(
            arm='<body pos="0.2 0 0"><joint name="wrist"/><geom size="0.04" contype="0" conaffinity="0"/></body>',
            parts='<equality><joint joint1="wrist" joint2="arm" polycoef="0.1 -1 0.5" solref="0.03 1"/></equality>',
        ),
        "tendon": dict(parts='<equality><tendon tendon1="cord" polycoef="0.2"/></equality>'),
        "tendon and tendon": dict(
            tendon='<spatial name="rope"><site site="fixed"/><site site="tip"/></spatial>',
            parts='<equality><tendon tendon1="rope" tendon2="cord" polycoef="0.05 0.2"/></equality>',
        ),
        "connects and welds of bodies and sites": dict(
            world='<body name="free" pos="0 0.3 0.3"><freejoint/><geom size="0.05"/><site name="grip" pos="0 0.1 0"/></body>',
            parts='<equality><weld body1="free" body2="arm" anchor="0.1 0 0.05" torquescale="0.5"/><connect site1="grip" site2="fixed"/>'
            '<weld site1="tip" site2="grip"/><connect body1="base" anchor="0 0.1 0"/><joint joint1="arm" polycoef="0.1"/></equality>',
        ),
        "equality that is not active": dict(parts='<equality><weld body1="arm" active="false"/></equality>'),
    },
    "tendons": {
        "spring of a fixed tendon": dict(cord='stiffness="5" springlength="0.3" damping="0.2"'),
        "springlength with a dead band": dict(cord='stiffness="20" springlength="-0.05 0.05"'),
        "limit of a tendon": dict(
            cord='limited="true" range="-0.05 0.05" margin="0.01" solreflimit="0.03 1"'
        ),
        "limit of a tendon with both sides in its margin": dict(
            cord='limited="true" range="-0.05 0.05" margin="0.1"'
        ),
        "frictionloss of a tendon": dict(cord='frictionloss="0.2"'),
        "armature of a tendon": dict(cord='armature="0.05"'),
        "actuatorfrcrange of a tendon": (
            on('tendon="cord"', "motor"),
            on('tendon="cord"', "motor") | dict(cord='actuatorfrcrange="-0.1 0.1"'),
        ),
        "polynomial stiffness of a tendon": dict(cord='stiffness="5 1 1" springlength="0.3"'),
        "polynomial damping of a tendon": dict(cord='damping="0.2 0.2 0.1"'),
        "spatial tendon": CORD,
        "armature of a spatial tendon": (
            CORD,
            dict(
                tendon='<spatial stiffness="40" springlength="0.2" armature="0.5"><site site="fixed"/><site site="tip"/></spatial>'
            ),
        ),
        "pulley": dict(
            tendon='<spatial stiffness="40" springlength="0.2"><site site="fixed"/><site site="tip"/><pulley divisor="2"/><site site="fixed"/><site site="centre"/></spatial>',
            arm='<site name="centre"/>',
        ),
        "wrapping around a sphere": dict(
            world=POST,
            tendon=rope('<geom geom="post"/>'),
        ),
        "wrapping around a cylinder": dict(
            world='<geom name="post" type="cylinder" pos="0.25 0.1 0.35" size="0.1 0.2" euler="90 0 20" contype="0" conaffinity="0"/>',
            tendon=rope('<geom geom="post"/>'),
        ),
        "wrapping with a sidesite": dict(
            world=POST + '<site name="side" pos="0.25 0.1 0.2"/>',
            tendon=rope('<geom geom="post" sidesite="side"/>'),
        ),
        "sidesite on another body": dict(
            world=POST,
            arm='<site name="side" pos="0 0.1 0"/>',
            tendon=rope('<geom geom="post" sidesite="side"/>'),
        ),
        "wrapping inside": dict(
            world='<geom name="post" pos="0.25 0.1 0.35" size="0.12" contype="0" conaffinity="0"/><site name="side" pos="0.26 0.1 0.36"/>',
            tendon=rope('<geom geom="post" sidesite="side"/>'),
        ),
    },
    "actuators": {
        "motor": on_joint('motor gear="2"'),
        "forcerange": on_joint('motor gear="2" forcerange="-0.2 0.2"'),
        "position": on_joint('position kp="5" kv="0.5"'),
        "position with dampratio": on_joint('position kp="5" dampratio="1"'),
        "position with timeconst": on_joint('position kp="5" kv="0.5" timeconst="0.05"'),
        "velocity": on_joint('velocity kv="0.2"'),
        "intvelocity": on_joint('intvelocity kp="5" kv="0.5" actrange="-1 1"'),
        "damper": on_joint('damper kv="2"', 'ctrlrange="0 1"'),
        "cylinder": on_joint('cylinder timeconst="0.05" area="2" bias="0.1 -1 -0.2"'),
        "muscle": MUSCLE,
        "muscle with tausmooth": on_joint(
            'muscle lengthrange="-1 1" force="3" tausmooth="0.3" timeconst="0.02 0.05"', 'ctrlrange="0 1"'
        ),
        "muscle of a tendon": dict(
            tendon='<spatial name="rope"><site site="fixed"/><site site="tip"/></spatial>',
            actuator='<muscle name="act" tendon="rope" lengthrange="0.3 0.8" force="20" ctrlrange="0 1"/>',
        ),
        "adhesion": dict(actuator='<adhesion name="act" body="base" gain="30" ctrlrange="0 1"/>'),
        "pid": on_joint('pid kp="5" ki="2" kv="0.2"'),
        "orientation": (
            BALL,
            dict(
                root='<joint name="ball" type="ball"/>',
                actuator='<orientation name="act" joint="ball" kp="3" kv="0.1"/>',
            ),
        ),
        "dcmotor": on_joint('dcmotor motorconst="0.5" resistance="1"'),
        "general affine": on_joint(
            'general gaintype="affine" gainprm="2 0.5 0.2" biastype="affine" biasprm="0.1 -1 -0.1"'
        ),
        "dyntype integrator": on_joint('general dyntype="integrator" gainprm="3"'),
        "dyntype integrator with a dynprm": on_joint('general dyntype="integrator" dynprm="4" gainprm="3"'),
        "dyntype filter": on_joint('general dyntype="filter" dynprm="0.05" gainprm="1"'),
        "dyntype filterexact": on_joint('general dyntype="filterexact" dynprm="0.05" gainprm="1"'),
        "dyntype muscle": on_joint('general dyntype="muscle" dynprm="0.02 0.05 0" gainprm="1"'),
        "dyntype user": on_joint('general dyntype="user" actdim="1" gainprm="1"'),
        "gaintype muscle": on_joint(
            'general gaintype="muscle" lengthrange="-1 1" gainprm="0.75 1.05 3 200 0.5 1.6 1.5 1.3 1.2"'
        ),
        "gaintype user": on_joint('general gaintype="user"'),
        "biastype user": on_joint('general biastype="user"'),
        "actlimited": on_joint(
            'general dyntype="integrator" actlimited="true" actrange="-0.02 0.02" gainprm="10"'
        ),
        "actlimited filterexact": on_joint(
            'general dyntype="filterexact" dynprm="0.05" actlimited="true" actrange="-0.02 0.02" gainprm="10"'
        ),
        "actearly": on_joint('general dyntype="filter" dynprm="0.05" gainprm="1" actearly="true"'),
        "actdim": on_joint('general dyntype="user" actdim="2"'),
        "group": on_joint('motor gear="0.5" group="3"'),
        "damping of an actuator": on_joint('motor gear="0.5" damping="2"'),
        "armature of an actuator": on_joint('motor gear="0.5" armature="0.2"'),
        "delay": on_joint('motor gear="0.5" delay="0.02" nsample="8"'),
        "history": on_joint('motor gear="0.5" nsample="4"'),
        "inheritrange": dict(
            joint='range="-30 30"', actuator='<position name="act" joint="arm" kp="5" inheritrange="1"/>'
        ),
        "jointinparent": on('jointinparent="arm"', 'motor gear="0.5"'),
        "motor of a ball joint": (BALL, BALL | on('joint="ball"', 'motor gear="1 0.5 0.2"')),
        "motor of a ball joint in its parent": (
            BALL,
            BALL | on('jointinparent="ball"', 'motor gear="1 0.5 0.2"'),
        ),
        "position of a ball joint": (BALL, BALL | on('joint="ball"', 'position kp="5" gear="1 0.5 0.2"')),
        "motor of a free joint": dict(root='<freejoint name="root"/>')
        | on('joint="root"', 'motor gear="1 0.5 0.2 1 0.5 0.2"'),
        "motor of a tendon": on('tendon="cord"', 'motor gear="0.5"'),
        "position of a tendon": on('tendon="cord"', 'position kp="5"'),
        "motor of a site": on('site="tip"', 'motor gear="1 2 3 0.1 0.2 0.3"'),
        "position of a site": on('site="tip" refsite="fixed"', 'position kp="5" gear="1 2 0 0.1 0 0.2"'),
        "slider-crank": dict(
            actuator='<motor name="act" cranksite="tip" slidersite="fixed" cranklength="1" ctrlrange="-1 1"/>'
        ),
        "velocity with implicitfast": (
            dict(option='integrator="implicitfast"'),
            dict(option='integrator="implicitfast"') | on_joint('velocity kv="2"'),
        ),
        "position with implicitfast": (
            dict(option='integrator="implicitfast"'),
            dict(option='integrator="implicitfast"') | on_joint('position kp="5" kv="2"'),
        ),
        "forcerange with kv and implicitfast": (
            dict(option='integrator="implicitfast"'),
            dict(option='integrator="implicitfast"') | on_joint('velocity kv="2" forcerange="-0.2 0.2"'),
        ),
        "muscle with implicitfast": (
            dict(option='integrator="implicitfast"'),
            dict(option='integrator="implicitfast"') | MUSCLE,
        ),
        "plugin pid": plugin(
            "mujoco.pid",
            actuator='<plugin name="act" plugin="mujoco.pid" joint="arm" actdim="1" ctrlrange="-1 1"><config key="kp" value="5"/><config key="ki" value="2"/><config key="kd" value="0.2"/></plugin>',
        ),
    },
    "sensors": {
        **{
            kind: sensor(f'{kind} site="tip"')
            for kind in ["accelerometer", "velocimeter", "gyro", "force", "torque"]
        },
        "touch": sensor(
            'touch site="foot"', root='<freejoint/><site name="foot" pos="0 0 -0.08" size="0.05"/>'
        ),
        "magnetometer": sensor('magnetometer site="tip"', option='magnetic="0.3 -0.5 0.2"'),
        "camprojection": sensor(
            'camprojection site="tip" camera="eye"',
            world='<camera name="eye" pos="0 -1 0.3" xyaxes="1 0 0 0 0 1" resolution="64 64"/>',
        ),
        "rangefinder": sensor(
            'rangefinder site="beam"', arm='<site name="beam" pos="0.2 0 0" euler="170 0 0"/>'
        )
        | MATERIAL,
        "rangefinder without a material": sensor(
            'rangefinder site="beam"', arm='<site name="beam" pos="0.2 0 0" euler="170 0 0"/>'
        ),
        "rangefinder of a camera": sensor(
            'rangefinder camera="eye"', world='<camera name="eye" pos="0 0 1" resolution="2 2"/>'
        )
        | MATERIAL,
        "rangefinder with data": sensor(
            'rangefinder site="beam" data="dist point"',
            arm='<site name="beam" pos="0.2 0 0" euler="170 0 0"/>',
        )
        | MATERIAL,
        "jointpos and jointvel": dict(
            parts='<sensor><jointpos joint="arm"/><jointvel joint="arm"/></sensor>'
        ),
        "jointactuatorfrc": sensor('jointactuatorfrc joint="arm"'),
        "tendonpos and tendonvel": dict(
            parts='<sensor><tendonpos tendon="rope"/><tendonvel tendon="rope"/></sensor>'
        )
        | dict(tendon='<spatial name="rope"><site site="fixed"/><site site="tip"/></spatial>'),
        "tendonactuatorfrc": on('tendon="cord"', 'motor gear="0.5"')
        | sensor('tendonactuatorfrc tendon="cord"'),
        "actuatorpos, actuatorvel, actuatorfrc": dict(
            parts='<sensor><actuatorpos actuator="act"/><actuatorvel actuator="act"/><actuatorfrc actuator="act"/></sensor>'
        ),
        "ballquat and ballangvel": BALL
        | dict(parts='<sensor><ballquat joint="ball"/><ballangvel joint="ball"/></sensor>'),
        **{
            f"jointlimit{kind}": LIMITED | sensor(f'jointlimit{kind} joint="arm"')
            for kind in ("pos", "vel", "frc")
        },
        **{
            f"tendonlimit{kind}": dict(cord='limited="true" range="-0.05 0.05"')
            | sensor(f'tendonlimit{kind} tendon="cord"')
            for kind in ("pos", "vel", "frc")
        },
        **{
            f"frame{kind} of a {what}": sensor(f'frame{kind} objtype="{what}" objname="{name}"')
            for kind, what, name in [
                *[
                    (kind, "site", "tip")
                    for kind in [
                        "pos",
                        "quat",
                        "xaxis",
                        "yaxis",
                        "zaxis",
                        "linvel",
                        "angvel",
                        "linacc",
                        "angacc",
                    ]
                ],
                *[(kind, "body", "arm") for kind in ["pos", "quat", "linvel", "linacc"]],
                *[(kind, "xbody", "arm") for kind in ["pos", "quat", "linvel", "angacc"]],
                *[(kind, "geom", "arm") for kind in ["pos", "quat", "linvel", "linacc"]],
            ]
        },
        "framepos of a camera": sensor(
            'framepos objtype="camera" objname="eye"', arm='<camera name="eye" pos="0.1 0 0"/>'
        ),
        **{
            f"frame{kind} in another frame": sensor(
                f'frame{kind} objtype="site" objname="tip" reftype="body" refname="base"'
            )
            for kind in ["pos", "quat", "xaxis", "linvel", "angvel"]
        },
        **{f"subtree{kind}": sensor(f'subtree{kind} body="base"') for kind in ("com", "linvel", "angmom")},
        "insidesite": sensor(
            'insidesite site="zone" objtype="site" objname="tip"',
            world='<site name="zone" type="box" size="1 1 0.15" pos="0 0 0.1"/>',
        ),
        "distance": sensor('distance geom1="arm" geom2="floor" cutoff="1"'),
        "normal": sensor('normal geom1="arm" geom2="floor" cutoff="1"'),
        "fromto": sensor('fromto geom1="arm" geom2="floor" cutoff="1"'),
        "contact": sensor('contact geom1="part" geom2="floor" data="found force dist pos normal" num="1"'),
        "contact of several": sensor(
            'contact geom1="part" geom2="floor" data="found force pos" num="3" reduce="maxforce"',
            part=SHAPES["box"],
        ),
        "contact of a body": sensor('contact body1="base" data="found force"'),
        "contact in a site": sensor('contact site="tip" data="found force"'),
        "contact of a subtree, netforce": sensor(
            'contact subtree1="base" data="force torque" num="1" reduce="netforce"', part=SHAPES["box"]
        ),
        "e potential": sensor("e_potential"),
        "e kinetic": sensor("e_kinetic"),
        "clock": sensor("clock"),
        "user sensor": sensor('user dim="1"'),
        "cutoff": sensor('jointvel joint="arm" cutoff="0.1"'),
        "cutoff of framelinacc": sensor('framelinacc objtype="site" objname="tip" cutoff="1"'),
        "rangefinder of a cylinder": sensor(
            'rangefinder site="beam"', arm='<site name="beam" pos="0.2 0 0" euler="170 0 0"/>'
        )
        | MATERIAL
        | dict(world='<geom type="cylinder" size="0.1 0.1" pos="0 1 0.1"/>'),
        "touch in a cylinder": sensor(
            'touch site="foot"', root='<freejoint/><site name="foot" type="cylinder" size="0.1 0.1"/>'
        ),
        "touch without contacts": LIMITED | sensor('touch site="tip"', flag='contact="disable"'),
        "accelerometer on a still body": sensor('accelerometer site="fixed"'),
        "sensors with RK4": dict(
            option='integrator="RK4"',
            parts='<sensor><jointvel joint="arm"/><accelerometer site="tip"/></sensor>',
        ),
        "noise": sensor('jointvel joint="arm" noise="0.5"'),
        "delay of a sensor": sensor('jointvel joint="arm" delay="0.02" nsample="8"'),
        "interval of a sensor": sensor('jointvel joint="arm" interval="0.02" nsample="8"'),
        "sensor of accelerations without constraints": sensor(
            'accelerometer site="tip"', flag='contact="disable"'
        ),
        "plugin touch_grid": plugin(
            "mujoco.sensor.touch_grid",
            arm='<site name="skin" pos="0 0 0"/>',
            parts='<sensor><plugin plugin="mujoco.sensor.touch_grid" objtype="site" objname="tip"><config key="size" value="4 4"/><config key="fov" value="40 40"/><config key="gamma" value="0"/><config key="nchannel" value="1"/></plugin></sensor>',
        ),
    },
    "deformables": {
        "flex": dict(
            world='<flexcomp name="cloth" type="grid" count="3 3 1" spacing=".1 .1 .1" radius=".01" dim="2" mass="0.1" pos="0 0 0.6"/>'
        ),
        "flex with a plugin or elasticity": dict(
            world='<flexcomp name="jelly" type="grid" count="2 2 2" spacing=".1 .1 .1" radius=".01" dim="3" mass="0.1" pos="0 0 0.6"><elasticity young="1e4" poisson="0.2"/></flexcomp>'
        ),
        "plugin cable": plugin(
            "mujoco.elasticity.cable",
            world='<composite type="cable" curve="s" count="4 1 1" size="0.3" offset="0 1 0.5" initial="none"><plugin plugin="mujoco.elasticity.cable"><config key="twist" value="1e4"/><config key="bend" value="1e4"/></plugin><joint kind="main" damping="0.01"/><geom type="capsule" size="0.01" contype="0" conaffinity="0"/></composite>',
        ),
    },
}
INERT = (
    "plain model",
    "camera, light, texture, skin-free pictures",
    "custom numeric, text, tuple",
    "user data",
    "jacobian dense",
    "jacobian sparse",
    "solver CG",
    "solver PGS",
    "without warmstart",
    "without island",
    "without midphase",
    "without autoreset",
    "without sensor",
    "invdiscrete",
    "energy",
    "fwdinv",
    "sleep policy",
    "plane and sphere",
    "equality that is not active",
    "group",
    "gap",
    "jointinparent",
    "fewer iterations",
)
"""Features that change no number of a simulation, or none beyond its accuracy."""


def mjcf(parts: Parts) -> str:
    """Return the MJCF of the template with other parts."""
    return TEMPLATE.format(**PLAIN | parts)
