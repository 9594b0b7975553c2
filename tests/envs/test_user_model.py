"""Models, bounds of actions and the time of `mujoco_env`, against MuJoCo itself."""

import dataclasses
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from tiny import same_bits, tiny

import purerl
from purerl.envs.mujoco import task

TETRAHEDRON = b"v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n"
FILES = {"meshes/solid.obj": TETRAHEDRON, "option.xml": b'<mujoco><option timestep="0.004"/></mujoco>'}

GRIPPER = """
<mujoco model="gripper">
  <option timestep="0.002" integrator="implicitfast"/>
  <worldbody>
    <body pos="0 0 0.3">
      <geom type="box" size="0.05 0.05 0.02" contype="0" conaffinity="0"/>
      <body pos="0.03 0 0.05">
        <joint name="left" type="slide" axis="1 0 0" range="-0.03 0" damping="5"/>
        <geom type="box" size="0.005 0.02 0.04" mass="0.1" contype="0" conaffinity="0"/>
      </body>
      <body pos="-0.03 0 0.05">
        <joint name="right" type="slide" axis="-1 0 0" range="-0.03 0" damping="5"/>
        <geom type="box" size="0.005 0.02 0.04" mass="0.1" contype="0" conaffinity="0"/>
      </body>
    </body>
  </worldbody>
  <equality> <joint joint1="left" joint2="right"/> </equality>
  <actuator>
    <position name="left" joint="left" kp="50" RANGE/> <position name="right" joint="right" kp="50" RANGE/>
  </actuator>
</mujoco>
"""

HULL = """
<mujoco>
  <option timestep="0.005"/>
  <worldbody>
    <camera name="track" pos="0 -3 1"/>
    <geom type="plane" size="5 5 1"/>
    <body name="hull" pos="0 0 0.3">
      <freejoint/>
      <geom type="sphere" size="0.1" mass="1"/>
      <site name="rotor"/>
    </body>
  </worldbody>
  <actuator>
    <motor name="lift" site="rotor" gear="0 0 1 0 0 0" RANGE/>
    <motor name="turn" site="rotor" gear="0 0 0 0 0 0.01" ctrlrange="-1 1"/>
  </actuator>
  <sensor> <clock/> </sensor>
</mujoco>
"""

TENDON = """
<mujoco>
  <option timestep="0.004" integrator="RK4"/>
  <worldbody>
    <body>
      <joint name="a" axis="0 1 0" damping="0.1"/>
      <geom type="capsule" fromto="0 0 0 0.3 0 0" size="0.02" contype="0"/>
      <body pos="0.3 0 0">
        <joint name="b" axis="0 1 0" damping="0.1"/>
        <geom type="capsule" fromto="0 0 0 0.3 0 0" size="0.02" contype="0"/>
      </body>
    </body>
  </worldbody>
  <tendon> <fixed name="t"> <joint joint="a" coef="1"/> <joint joint="b" coef="-0.5"/> </fixed> </tendon>
  <actuator> <motor tendon="t" gear="2" RANGE/> </actuator>
</mujoco>
"""

LATE = """
<mujoco>
  <worldbody>
    <body pos="0 0 1">
      <joint name="pole" axis="0 1 0" damping="0.05"/>
      <geom type="capsule" fromto="0 0 0 0 0 0.5" size="0.02" mass="1" contype="0"/>
    </body>
  </worldbody>
  <actuator> <motor name="pole" joint="pole" RANGE/> </actuator>
  <keyframe> <key name="start" time="2.5" qpos="1"/> </keyframe>
</mujoco>
"""

MESH = """
<mujoco>
  <include file="option.xml"/>
  <compiler meshdir="meshes"/>
  <asset> <mesh name="solid" file="solid.obj" scale="0.1 0.1 0.1"/> </asset>
  <worldbody>
    <body>
      <joint name="swing" axis="0 1 0" armature="0.1"/>
      <geom type="mesh" mesh="solid" contype="0" conaffinity="0"/>
    </body>
  </worldbody>
  <actuator> <velocity joint="swing" kv="1" RANGE/> </actuator>
</mujoco>
"""

ROBOTS = {
    "gripper": (GRIPPER, (-0.03, 0.0)),
    "hull": (HULL, {"lift": (-5, 20)}),
    "tendon": (TENDON, np.array([-1, 1])),
    "late": (LATE, [[-3.0, 3.0]]),
    "mesh": (MESH, (-1, 1)),
}
"""Models without bounds, and bounds in one of their forms."""
FORMS = ("path", "text", "spec", "model")
ENGINES = [
    dict(engine="mujoco", route="native"),
    pytest.param(dict(engine="mjx"), marks=pytest.mark.slow),
]


def still(params, physics, action):
    return 0.0


def model_in(form, xml):
    """Return the arguments of `mujoco_env` for a model in one of `FORMS`."""
    text, assets = xml.replace("RANGE", ""), FILES if xml is MESH else None
    if form == "text":
        return dict(model=text, assets=assets)
    if form == "model":
        return dict(model=mujoco.MjModel.from_xml_string(text, assets))
    if form == "spec":
        return dict(model=mujoco.MjSpec.from_string(text, include=assets, assets=assets))
    for name, content in FILES.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(content)
    Path("robot.xml").write_text(text)
    return dict(model="robot.xml")


def image(model):
    """Return the bytes of a model."""
    values = np.zeros(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, values)
    return values.tobytes()


def check_steps(xml, bounds, exact, **kwargs):
    """Compare 50 steps, with actions beyond the bounds, with the model that has the bounds in its XML."""
    pair = next(iter(bounds.values())) if isinstance(bounds, dict) else np.ravel(bounds)
    low, high = pair
    model = mujoco.MjModel.from_xml_string(xml.replace("RANGE", f'ctrlrange="{low} {high}"'), FILES)
    start = "start" if model.nkey else None
    names = dict(fields=("qacc", "time"), tracked=("time",))
    env = purerl.mujoco_env(
        "robot", reward=still, start=start, frame_skip=3, action_bounds=bounds, **names, **kwargs
    )
    np.testing.assert_array_equal(np.float32(model.actuator_ctrlrange.T), np.stack(box(env)))
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, model.nkey - 1)
    started, duration = data.time, 3 * model.opt.timestep
    obs, state = jax.jit(env.reset)(jax.random.key(0))
    data.qpos, data.qvel = obs[: model.nq], obs[model.nq :]
    mujoco.mj_forward(model, data)
    assert state.physics.fields["time"] == started
    step, generator = jax.jit(env.step), np.random.default_rng(0)
    same = np.testing.assert_array_equal if exact else close
    for i in range(1, 51):
        action = np.float32(generator.uniform(*box(env)) * 1.5)
        data.ctrl = action
        mujoco.mj_step(model, data, 3)
        obs, state, *_, info = step(jax.random.key(0), state, action)
        same(obs, np.float32([*data.qpos, *data.qvel]))
        same(state.physics.fields["qacc"], np.float32(data.qacc))
        same(state.physics.fields["time"], np.float32(data.time))
        np.testing.assert_allclose(state.physics.fields["time"], started + i * duration, rtol=1e-5)
        np.testing.assert_allclose(state.physics.change["time"], duration, rtol=1e-3)
        assert not info["diverged"]


def box(env):
    return env.action_space.low, env.action_space.high


def close(one, other):
    scale = max(1, np.abs(other).max())
    np.testing.assert_allclose(np.asarray(one) / scale, other / scale, atol=2e-3)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("robot", ROBOTS)
def test_every_form_of_a_model_steps_as_mujoco(robot, form):
    check_steps(*ROBOTS[robot], True, engine="mujoco", route="native", **model_in(form, ROBOTS[robot][0]))


@pytest.mark.parametrize("robot", ["late", "mesh"])
def test_the_callback_route_steps_as_mujoco(robot):
    check_steps(*ROBOTS[robot], True, engine="mujoco", route="callback", **model_in("text", ROBOTS[robot][0]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("robot", "form"), [*itertools.product(ROBOTS, ["text"]), ("hull", "spec"), ("late", "model")]
)
def test_mjx_steps_as_mujoco(robot, form):
    check_steps(*ROBOTS[robot], False, engine="mjx", **model_in(form, ROBOTS[robot][0]))


@pytest.mark.parametrize("setup", ENGINES)
def test_time_is_that_of_the_state_and_clocks_are_older(setup):
    """Also after an auto-reset, which starts at 0 again."""
    reward = lambda params, physics, action: (
        physics.fields["time"],
        {"clock": physics.fields["sensordata"][0]},
    )
    names = dict(fields=("time", "sensordata"), action_bounds=(0, 1), frame_skip=3)
    env = purerl.mujoco_env("hull", HULL.replace("RANGE", ""), reward, **names, **setup)
    reset, step = jax.jit(env.reset), jax.jit(env.step)
    for _ in range(2):
        state = reset(jax.random.key(0))[1]
        assert state.physics.fields["time"] == 0
        for i in (1, 2):
            _, state, time, *_, info = step(jax.random.key(0), state, jnp.zeros(2))
            assert time.shape == () and time.dtype == jnp.float32
            np.testing.assert_allclose((time, info["clock"]), (i * 0.015, i * 0.015 - 0.005), rtol=1e-5)


@pytest.mark.parametrize("form", ["text", "spec"])
def test_bounds_leave_the_faster_model(form, monkeypatch):
    """The one with listed pairs of geoms and without cameras."""
    made, make = [], task.with_listed_pairs
    monkeypatch.setattr(task, "with_listed_pairs", lambda *given: made.append(make(*given)) or made[-1])
    env = purerl.mujoco_env("hull", reward=still, action_bounds=(0, 1), **model_in(form, HULL))
    assert made[0].npair == 1 and made[0].ncam == 0
    np.testing.assert_array_equal(made[0].actuator_ctrlrange, np.transpose(box(env)))
    assert made[0].actuator_ctrllimited.all()


def test_text_with_includes_has_the_faster_model(monkeypatch):
    """Contacts are off in it, since no geoms of the mesh's model can collide."""
    made, make = [], task.with_listed_pairs
    monkeypatch.setattr(task, "with_listed_pairs", lambda *given: made.append(make(*given)) or made[-1])
    purerl.mujoco_env("swing", reward=still, action_bounds=(0, 1), **model_in("text", MESH))
    assert made[0].opt.disableflags & mujoco.mjtDisableBit.mjDSBL_CONTACT


def test_listing_leaves_the_spec():
    spec = model_in("spec", HULL)["model"]
    model = spec.copy().compile()
    for _ in range(2):
        assert task.with_listed_pairs(model, spec).npair == 1
    assert len(spec.cameras) == 1 and not list(spec.pairs)


def test_objects_of_the_user_stay_as_they_are():
    model, spec = (model_in(form, HULL)["model"] for form in ("model", "spec"))
    before, numbers = image(model), [geom.id for geom in spec.geoms]
    envs = [purerl.mujoco_env("hull", form, still, action_bounds=(-5, 20)) for form in (model, spec)]
    assert image(model) == before
    assert [geom.id for geom in spec.geoms] == numbers == [-1, -1]  # not compiled
    assert len(spec.cameras) == 1 and not list(spec.pairs)
    model.body_mass[:], spec.option.gravity = 100, [0, 0, 0]
    for env in envs:
        state = jax.jit(env.reset)(jax.random.key(0))[1]
        state = jax.jit(env.step)(jax.random.key(0), state, jnp.zeros(2))[1]
        assert state.physics.qvel[2] < -0.03


def test_a_model_changed_in_python_is_simulated_as_it_is():
    model = model_in("model", LATE)["model"]
    model.opt.gravity[:] = 0
    env = purerl.mujoco_env("late", model, still, start="start", reset_noise_scale=0, action_bounds=(-1, 1))
    state = jax.jit(env.reset)(jax.random.key(0))[1]
    assert jax.jit(env.step)(jax.random.key(0), state, jnp.zeros(1))[1].physics.qvel[0] == 0


def program(model, **kwargs):
    """Return the text of the program of a step."""
    env = purerl.mujoco_env("robot", model, still, route="native", **kwargs)
    states = jax.eval_shape(env.reset, jax.random.key(0))[1]
    return jax.jit(env.step).lower(jax.random.key(0), states, np.zeros(1, np.float32)).as_text()


def test_programs_are_shared_by_equal_models_alone():
    text, first = (
        model_in("text", LATE)["model"],
        program(model_in("text", LATE)["model"], action_bounds=(-1, 1)),
    )
    assert program(f"\ufeff \n{text}", action_bounds=(-1, 1)) == first
    assert program(model_in("spec", LATE)["model"], action_bounds=(-1, 1)) == first
    assert program(LATE.replace("RANGE", 'ctrlrange="-1 1"')) == first
    assert program(text, action_bounds=(-1, 2)) != first
    assert program(text.replace('mass="1"', 'mass="2"'), action_bounds=(-1, 1)) != first


@pytest.mark.slow
def test_a_second_process_compiles_nothing():
    code = f"""
import sys, jax, mujoco, purerl
missed = []
def listen(event, **_):
    if "cache_misses" in event:
        missed.append(event)
jax.monitoring.register_event_listener(listen)
text = {model_in("text", LATE)["model"]!r}
for model in (text, mujoco.MjSpec.from_string(text), mujoco.MjModel.from_xml_string(text)):
    env = purerl.mujoco_env("late", model, lambda *_: 0.0, action_bounds=(-1, 1))
    obs, state = jax.jit(env.reset)(jax.random.key(0))
    obs = jax.jit(env.step)(jax.random.key(0), state, jax.numpy.ones(1))[0]
print(len(missed), obs.tolist())
"""
    settings = {
        "JAX_COMPILATION_CACHE_DIR": str(Path("xla").absolute()),
        "PYTHONPATH": str(Path(purerl.__file__).parents[1]),
    }
    settings["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    command = [sys.executable, "-c", code]
    texts = [
        subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=True).stdout
        for _ in "12"
    ]
    (before, obs), (after, same) = (text.split(" ", 1) for text in texts)
    assert int(before) > 2 and int(after) == 0 and obs == same


def lift():
    text = HULL.replace("RANGE", "")
    return purerl.mujoco_env("lift", text, still, action_bounds=(0, 1), max_episode_steps=9)


def run(tmp_path):
    """Run 16 steps and return the configuration."""
    cfg = tiny("vpg", total_timesteps=16, eval_interval=0, checkpoint_interval=16)
    purerl.run(cfg, logdir=tmp_path / "run", env=lift(), progress=False)
    return cfg


def test_a_run_on_a_model_from_text_needs_its_environment_again(tmp_path):
    run(tmp_path)
    with pytest.raises(purerl.ConfigError, match="environment of your own, 'lift': pass it as env="):
        purerl.load(tmp_path / "run")
    saved, _ = purerl.load(tmp_path / "run", env=lift())
    assert saved.env == "lift" and saved.env_kwargs == {}


@pytest.mark.slow
def test_a_run_on_a_model_from_text_resumes(tmp_path):
    longer = dataclasses.replace(run(tmp_path), total_timesteps=32)
    _, before = purerl.load(tmp_path / "run", env=lift())
    how = dict(resume=True, allow_changes=True, progress=False)
    again = purerl.run(longer, logdir=tmp_path / "run", env=lift(), **how)
    assert again.steps.tolist() == [16, 32]
    assert not same_bits(again.state.algo, before.algo)


PAIRS = re.escape("a pair (low, high) of finite numbers with low < high")
PLAIN = LATE.replace("RANGE", "")
TWO = GRIPPER.replace("RANGE", "")
BOUNDS = {
    "a pair fills": (HULL.replace("RANGE", ""), (-5, 20), [[-5, 20], [-1, 1]]),
    "a dict fills": (HULL.replace("RANGE", ""), {"lift": (-5, 20)}, [[-5, 20], [-1, 1]]),
    "a dict replaces": (HULL.replace("RANGE", ""), {"turn": (0, 3), "lift": [0, 1]}, [[0, 1], [0, 3]]),
    "an array replaces": (HULL.replace("RANGE", ""), np.array([[0, 1], [2, 3]]), [[0, 1], [2, 3]]),
    "an array of jax": (TWO, jnp.array([[0.0, 1], [2, 3]]), [[0, 1], [2, 3]]),
    "no bounds are needed": (LATE.replace("RANGE", 'ctrlrange="-2 1"'), {}, [[-2, 1]]),
    "a range that is off": (LATE.replace("RANGE", 'ctrlrange="-2 1" ctrllimited="false"'), (0, 1), [[0, 1]]),
    "an endless range": (LATE.replace("RANGE", 'ctrlrange="-2 inf"'), (0, 1), [[0, 1]]),
    "a range beyond float32": (LATE.replace("RANGE", 'ctrlrange="-1e300 1"'), (0, 1), [[0, 1]]),
    "several inputs": (
        PLAIN.replace("<motor", '<pid name="wrist" joint="pole"/> <motor'),
        {"wrist": (-1, 1), "pole": (-3, 3)},
        [[-1, 1], [-1, 1], [-3, 3]],
    ),
    "each of several inputs": (
        PLAIN.replace("<motor", '<pid name="wrist" joint="pole"/> <motor'),
        {"wrist": [(-1, 1), (-2, 2)], "pole": (-3, 3)},
        [[-1, 1], [-2, 2], [-3, 3]],
    ),
}


@pytest.mark.parametrize("case", BOUNDS)
def test_bounds_in_all_their_forms(case):
    text, bounds, expected = BOUNDS[case]
    env = purerl.mujoco_env("robot", text, still, action_bounds=bounds)
    np.testing.assert_array_equal(np.transpose(box(env)), expected)


def broken():
    """Return a model one of whose joints belongs to no body."""
    model = mujoco.MjModel.from_xml_string(PLAIN)
    model.jnt_bodyid[0] = 1_000_000
    return model


MASSLESS = "<mujoco><worldbody><body><joint/></body></worldbody></mujoco>"
MESHES = "Error opening file.*Give its content in assets={NAME: BYTES}, or `model` as the path of a file"
BAD = {
    "a tag that does not close": (dict(model="<mujoco>\n<worldbody>"), "model = XML text: .*Line number=2"),
    "an unknown element": (
        dict(model="\n<mujoco>\n <worldbody>\n  <bdy/>\n </worldbody>\n</mujoco>"),
        "MJCF; this text cannot be read: .*'bdy', line 4",
    ),
    "another language": (dict(model="<html/>"), "Unrecognized XML model type: 'html'"),
    "text without actuators": (dict(model="<mujoco/>"), "a model with actuators; this one has none"),
    "text behind other text": (
        dict(model="robot: <mujoco/>"),
        "a file that exists.*XML text begins with '<'",
    ),
    "bytes": (dict(model=b"<mujoco/>"), "the path of a file, XML text, a mujoco.MjSpec or a mujoco.MjModel"),
    "data": (dict(model=mujoco.MjData(mujoco.MjModel.from_xml_string("<mujoco/>"))), "a mujoco.MjModel: "),
    "a folder": (dict(model="."), "the path of a file that exists"),
    "no such mesh": (
        dict(model=MESH.replace("RANGE", ""), assets={"option.xml": FILES["option.xml"]}),
        MESHES,
    ),
    "no such include": (dict(model=MESH.replace("RANGE", "")), MESHES),
    "a spec that does not compile": (
        dict(model=mujoco.MjSpec.from_string(MASSLESS)),
        "model = an MjSpec: expected one that compiles; this one does not: .*mass and inertia",
    ),
    "a spec without its files": (
        dict(
            model=mujoco.MjSpec.from_string(
                MESH.replace("RANGE", "").replace('<include file="option.xml"/>', "")
            )
        ),
        "Error opening file.*Set its `modelfiledir` or `assets`",
    ),
    "a model with a reference to nothing": (dict(model=broken()), "a sound one; MuJoCo refuses this"),
    "assets of a path": (dict(model="robot.xml", assets={}), "assets.*None, unless `model` is XML text"),
    "assets in a list": (dict(assets=["a"]), "assets = .*dict from file names to their contents, bytes"),
    "assets as text": (dict(assets={"a.obj": "v 0"}), r"assets\['a.obj'\] = 'v 0': .*bytes"),
    "no bounds": (dict(action_bounds=None), "none: pole. Give each a ctrlrange.* or give action_bounds="),
    "no bounds of one": (dict(model=TWO, action_bounds={"left": (0, 1)}), "these have none: right. Give"),
    "a range that is off": (
        dict(model=LATE.replace("RANGE", 'ctrlrange="-2 1" ctrllimited="false"'), action_bounds=None),
        "a ctrlrange that is off: pole. Set ctrllimited='true' in each, or give action_bounds=",
    ),
    "no such actuator": (
        dict(action_bounds={"poles": (0, 1)}),
        "action_bounds = 'poles': expected the name of an actuator of the model: pole. Did you mean pole",
    ),
    "an actuator by number": (dict(action_bounds={0: (0, 1)}), "action_bounds = 0: .* the name of an act"),
    "an actuator without a name": (
        dict(model=TENDON.replace("RANGE", ""), action_bounds={"": (0, 1)}),
        "= '': .* none of its actuators has a name",
    ),
    "bounds that are not numbers": (dict(action_bounds=(0, float("nan"))), rf"= \(0.0, nan\): .*{PAIRS}"),
    "bounds without end": (dict(action_bounds=(0, np.inf)), PAIRS),
    "bounds beyond float32": (dict(action_bounds=(0, 1e39)), PAIRS),
    "bounds in the wrong order": (dict(action_bounds=(2, 1)), rf"= \(2.0, 1.0\): .*{PAIRS}"),
    "bounds without room": (dict(action_bounds=(1, 1)), PAIRS),
    "bounds without room in float32": (dict(action_bounds=(1, 1 + 1e-12)), "low < high, also as float32"),
    "one number": (dict(action_bounds=1.0), rf"action_bounds = 1.0: expected {PAIRS}"),
    "three numbers": (dict(action_bounds=(1, 2, 3)), PAIRS),
    "two rows for one input": (dict(action_bounds=[(0, 1), (0, 1)]), PAIRS),
    "one row for two inputs": (dict(model=TWO, action_bounds=[(0, 1)]), r"\[2, 2\], one for each input"),
    "rows of other lengths": (dict(model=TWO, action_bounds=[(0, 1), (0,)]), r"\[2, 2\], one for each"),
    "a wrong row": (dict(model=TWO, action_bounds=[(0, 1), (3, 2)]), r"action_bounds\[1\] = \(3.0, 2.0\)"),
    "bounds as text": (dict(action_bounds=("-1", "1")), PAIRS),
    "switches": (dict(action_bounds=(False, True)), PAIRS),
    "a dict of no pair": (dict(action_bounds={"pole": None}), r"action_bounds\['pole'\] = None"),
    "a set": (dict(action_bounds={1, 2}), PAIRS),
    "huge integers": (dict(action_bounds=(0, 10**400)), PAIRS),
}


@pytest.mark.parametrize("case", BAD)
def test_mistakes_are_refused_when_made(case, monkeypatch):
    kwargs, message = BAD[case]
    Path("robot.xml").write_text(PLAIN)
    with pytest.raises(purerl.ConfigError, match=message) as error:
        purerl.mujoco_env("robot", reward=still, **dict(model=PLAIN, action_bounds=(-1, 1)) | kwargs)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600


MUTANTS = {
    "XML text is a path": (
        "envs/mujoco/user_model.py",
        '.lstrip().startswith("<")',
        '.startswith("<")',
        "test_every_form_of_a_model_steps_as_mujoco[late-text]",
    ),
    "a byte order mark is text": (
        "envs/mujoco/user_model.py",
        '.lstrip("\\ufeff")',
        "",
        "test_programs_are_shared_by_equal_models_alone",
    ),
    "text has no files": (
        "envs/mujoco/user_model.py",
        "from_xml_string(given, assets)",
        "from_xml_string(given)",
        "test_every_form_of_a_model_steps_as_mujoco[mesh-text]",
    ),
    "a spec of text has no includes": (
        "envs/mujoco/user_model.py",
        "include=assets, assets=assets",
        "assets=assets",
        "test_text_with_includes_has_the_faster_model",
    ),
    "a spec is compiled itself": (
        "envs/mujoco/user_model.py",
        "given.copy().compile()",
        "given.compile()",
        "test_objects_of_the_user_stay_as_they_are",
    ),
    "the pairs are listed in the user's spec": (
        "envs/mujoco/engine/collision_pairs.py",
        "else source.copy()",
        "else source",
        "test_listing_leaves_the_spec",
    ),
    "a model is not copied": (
        "envs/mujoco/user_model.py",
        "lambda: _copy(given)",
        "lambda: given",
        "test_objects_of_the_user_stay_as_they_are",
    ),
    "a model's references are not checked": (
        "envs/mujoco/user_model.py",
        'return mujoco.MjModel.from_binary_path("model.mjb", {"model.mjb": image.tobytes()})',
        "return __import__('copy').copy(model)",
        "test_mistakes_are_refused_when_made[a model with a reference to nothing]",
    ),
    "bounds do not limit": (
        "envs/mujoco/user_model.py",
        "model.actuator_ctrllimited[inputs] = True",
        "pass",
        "test_bounds_in_all_their_forms[a pair fills]",
    ),
    "a pair replaces all ranges": (
        "envs/mujoco/user_model.py",
        "np.logical_or(*_missing(model)) if ranges.ndim == 1 else np.ones(model.nu, bool)",
        "np.ones(model.nu, bool)",
        "test_bounds_in_all_their_forms[a pair fills]",
    ),
    "an array fills only": (
        "envs/mujoco/user_model.py",
        "np.logical_or(*_missing(model)) if ranges.ndim == 1 else np.ones(model.nu, bool)",
        "np.logical_or(*_missing(model))",
        "test_bounds_in_all_their_forms[an array replaces]",
    ),
    "a range that is off stays off": (
        "envs/mujoco/user_model.py",
        "np.logical_or(*_missing(model))",
        "_missing(model)[0]",
        "test_bounds_in_all_their_forms[a range that is off]",
    ),
    "bounds of another actuator": (
        "envs/mujoco/user_model.py",
        "names.index(name)",
        "len(names) - 1 - names.index(name)",
        "test_bounds_in_all_their_forms[a dict replaces]",
    ),
    "every named actuator has one input": (
        "envs/mujoco/user_model.py",
        "np.repeat(np.arange(model.nactuator), model.actuator_ctrlnum)",
        "np.arange(model.nu)",
        "test_bounds_in_all_their_forms[several inputs]",
    ),
    "ranges of models may exceed float32": (
        "envs/mujoco/user_model.py",
        "(np.abs(model.actuator_ctrlrange) <= MAX_FLOAT32).all(1)",
        "np.isfinite(model.actuator_ctrlrange).all(1)",
        "test_bounds_in_all_their_forms[a range beyond float32]",
    ),
    "bounds may be infinite": (
        "envs/mujoco/user_model.py",
        "finite and np.float32(low)",
        "np.float32(low)",
        "test_mistakes_are_refused_when_made[bounds without end]",
    ),
    "bounds are compared in float64": (
        "envs/mujoco/user_model.py",
        "np.float32(low) < np.float32(high)",
        "low < high",
        "test_mistakes_are_refused_when_made[bounds without room in float32]",
    ),
    "text is a number": (
        "envs/mujoco/user_model.py",
        'array.dtype.kind in "fiu" and array.shape',
        "array.shape",
        "test_mistakes_are_refused_when_made[switches]",
    ),
    "the faster model has no bounds": (
        "envs/mujoco/engine/collision_pairs.py",
        "    compiled.actuator_ctrlrange[:] = model.actuator_ctrlrange\n",
        "",
        "test_bounds_leave_the_faster_model[text]",
    ),
    "the faster model is not limited": (
        "envs/mujoco/engine/collision_pairs.py",
        "    compiled.actuator_ctrllimited[:] = model.actuator_ctrllimited\n",
        "",
        "test_bounds_leave_the_faster_model[spec]",
    ),
    "programs carry an address": (
        "envs/mujoco/engine/ffi.py",
        "image.tobytes() + spec.encode()",
        "repr(plan.model._address).encode()",
        "test_programs_are_shared_by_equal_models_alone",
    ),
    "programs carry no model": (
        "envs/mujoco/engine/ffi.py",
        "image.tobytes() + spec.encode()",
        "spec.encode()",
        "test_programs_are_shared_by_equal_models_alone",
    ),
    "programs carry their process": (
        "envs/mujoco/engine/ffi.py",
        "image.tobytes() + spec.encode()",
        "image.tobytes() + str(__import__('os').getpid()).encode()",
        "test_a_second_process_compiles_nothing",
    ),
    "the callback route has no time": (
        "envs/mujoco/engine/callback.py",
        "values = [np.ravel(getattr(data, name)) for name in self.plan.fields]",
        "values = [np.ravel(getattr(data, name)) * (name != 'time') for name in self.plan.fields]",
        "test_the_callback_route_steps_as_mujoco[late]",
    ),
    "a run does not record its own environment": (
        "own_parts.py",
        'own["env"] = env.name',
        "pass",
        "test_a_run_on_a_model_from_text_needs_its_environment_again",
    ),
    "gravity is that of Earth": (
        "envs/mujoco/user_model.py",
        "    if not model.nu:\n",
        "    model.opt.gravity[2] = -9.81\n    if not model.nu:\n",
        "test_a_model_changed_in_python_is_simulated_as_it_is",
    ),
    "time is a pointer": (
        "envs/mujoco/engine/native_plan.h",
        "*field = {offsetof(mjData, time), 1, true};",
        "*field = {offsetof(mjData, qpos), 1, false};",
        "test_time_is_that_of_the_state_and_clocks_are_older[setup0]",
    ),
    "time on MJX is that before the step": (
        "envs/mujoco/engine/mjx.py",
        "{name: state.get(name, value) for name, value in seen.items()}",
        "{name: loop[0].get(name, value) for name, value in seen.items()}",
        "test_time_is_that_of_the_state_and_clocks_are_older[setup1]",
    ),
}
