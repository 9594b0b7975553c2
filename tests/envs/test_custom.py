"""Tasks made by `mujoco_env`, and the rover, against geometry and MuJoCo itself."""

import itertools
import re
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from pages import ROOT, run_page
from scipy import stats

import purerl
from purerl.envs.mujoco import task
from purerl.envs.mujoco.engine import ffi
from purerl.envs.mujoco.options import ASSETS
from purerl.envs.mujoco.tasks import rover

PENDULUM = """
<mujoco>
  <option timestep="0.02"/>
  <worldbody>
    <body pos="0 0 1">
      <joint name="pole" axis="0 1 0" damping="0.05"/>
      <geom type="capsule" fromto="0 0 0 0 0 0.5" size="0.02" mass="1" contype="0"/>
    </body>
  </worldbody>
  <actuator> <motor joint="pole" gear="2" ctrlrange="-1 1"/> </actuator>
  <sensor> <jointpos name="angle" joint="pole"/> </sensor>
  <keyframe> <key name="hanging" qpos="3.14159265" qvel="0"/> </keyframe>
</mujoco>
"""

ENGINES = [
    dict(engine="mujoco", route="native"),
    dict(engine="mujoco", route="callback"),
    pytest.param(dict(engine="mjx"), marks=pytest.mark.slow),
]


@pytest.fixture
def pendulum_file(tmp_path):
    path = tmp_path / "pendulum.xml"
    path.write_text(PENDULUM)
    return path


def upright(params, physics, action):
    """Height of the tip, less the effort."""
    return jnp.cos(physics.qpos[0]) - 0.1 * jnp.square(action[0])


def fallen(params, physics):
    return jnp.abs(physics.qpos[0]) > 1.0


def make(path, reward=upright, terminated=fallen, **kwargs):
    return purerl.mujoco_env("mine", path, reward, terminated, **kwargs)


def test_a_pendulum_passes_check_env(pendulum_file):
    purerl.check_env(make(pendulum_file, max_episode_steps=50))


HOLDING = """
<mujoco>
  <worldbody>
    <body mocap="true"> <geom size="0.1" contype="0" conaffinity="0"/> </body>
    <body>
      <joint name="arm" axis="0 1 0" damping="0.1"/>
      <geom type="capsule" fromto="0 0 0 0.3 0 0" size="0.02" contype="0" conaffinity="0"/>
    </body>
  </worldbody>
  <actuator> <intvelocity joint="arm" kp="50" ctrlrange="-1 1" actrange="-3 3"/> </actuator>
  <keyframe>
    <key name="other"/>
    <key name="home" qpos="1" act="1" time="2.5" ctrl="0.5" mpos="0 1 2" mquat="0 1 0 0"/>
  </keyframe>
</mujoco>
"""


@pytest.mark.parametrize("setup", ENGINES)
def test_a_start_at_a_keyframe_is_all_of_it(setup, tmp_path):
    path = tmp_path / "arm.xml"
    path.write_text(HOLDING)
    names = dict(fields=("mocap_pos", "mocap_quat", "actuator_force"), reset_noise_scale=0.0)
    env = make(path, lambda params, physics, action: 0.0, None, start="home", **names, **setup)
    model = mujoco.MjModel.from_xml_path(str(path))
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, 1)
    mujoco.mj_forward(model, data)
    state = jax.jit(env.reset)(jax.random.key(0))[1]
    for name, value in state.physics.fields.items():
        np.testing.assert_allclose(value, getattr(data, name), atol=1e-5)
    step = jax.jit(env.step)
    data.ctrl[:] = 0
    for _ in range(20):
        mujoco.mj_step(model, data)
        state = step(jax.random.key(0), state, np.zeros(1, np.float32))[1]
    assert data.qpos[0] == pytest.approx(1.0, abs=0.02)
    np.testing.assert_allclose(state.physics.qpos, data.qpos, atol=1e-5)
    row = state.physics.row
    time = row["time"] if isinstance(row, dict) else np.asarray(row).view(np.float64)[0]
    assert time == pytest.approx(data.time)


def test_a_keyframe_without_a_name_has_a_number(pendulum_file):
    pendulum_file.write_text(PENDULUM.replace('<key name="hanging"', "<key/> <key"))
    obs, _ = make(pendulum_file, start=1, reset_noise_scale=0.0).reset(jax.random.key(0))
    np.testing.assert_allclose(obs, [np.pi, 0], rtol=1e-6)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('<option><flag sleep="enable"/></option>', "'sleep'.* without <flag sleep"),
        ('<size memory="1K"/>', "cannot be read: mj_stackAlloc: out of memory"),
    ],
)
def test_a_model_that_cannot_run_is_refused_when_made(line, message, tmp_path):
    path = tmp_path / "robot.xml"
    body = '<geom type="plane" size="5 5 1"/><body><freejoint/><geom type="box" size="0.1 0.1 0.1"/></body>'
    text = PENDULUM.replace("<worldbody>", f"{line}<worldbody>{body}")
    path.write_text(re.sub("<keyframe>.*</keyframe>", "", text))
    with pytest.raises(purerl.ConfigError, match=message):
        make(path, engine="mujoco")


def test_a_file_named_like_an_asset_is_the_users(pendulum_file, monkeypatch):
    """Also when the engine reads it again."""
    monkeypatch.chdir(pendulum_file.parent)
    yours = pendulum_file.rename("ant.xml").absolute()
    read = []
    monkeypatch.setattr(task, "with_listed_pairs", lambda model, path: read.append(path) or model)
    assert make("ant.xml").action_space.shape == (1,)
    assert read == [yours]


def test_numbers_agree_with_mujoco(pendulum_file):
    def reward(params, physics, action):
        speed = physics.change["qpos"][0] / 0.06
        return -speed, {"angle": physics.fields["sensordata"][0], "late": True}

    names = dict(fields=("sensordata",), tracked=("qpos",))
    env = make(pendulum_file, reward, frame_skip=3, start="hanging", reset_noise_scale=0.5, **names)
    model = mujoco.MjModel.from_xml_string(PENDULUM)
    data = mujoco.MjData(model)
    obs, state = jax.jit(env.reset)(jax.random.key(3))
    data.qpos, data.qvel, data.ctrl = obs[0], obs[1], 0.7
    assert 0 < abs(obs[0] - np.pi) < 0.5 and 0 < abs(obs[1]) < 0.5
    mujoco.mj_step(model, data, 3)
    obs_1, _, value, terminated, truncated, info = jax.jit(env.step)(
        jax.random.key(0), state, jnp.float32([0.7])
    )
    np.testing.assert_allclose(obs_1, [*data.qpos, *data.qvel], rtol=1e-6)
    np.testing.assert_allclose(value, -(data.qpos[0] - float(obs[0])) / 0.06, rtol=1e-4)
    np.testing.assert_allclose(info["angle"], data.sensordata[0], rtol=1e-6)
    assert terminated and not truncated and info["late"] == 1 and value.dtype == jnp.float32
    assert env.action_space.low == -1 and env.name == "mine" and env.max_episode_steps == 1_000


def test_a_reward_is_enough(pendulum_file):
    env = make(pendulum_file, lambda params, physics, action: 1, terminated=None)
    obs, state = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 500))
    for column in obs.T:
        assert stats.kstest(column, stats.uniform(-0.01, 0.02).cdf).pvalue > 1e-4
    assert np.abs(np.corrcoef(obs.T)[0, 1]) < 0.2
    state = state._replace(physics=jax.tree.map(lambda leaf: leaf[0], state.physics), time=jnp.int32(0))
    step = jax.jit(env.step)
    for _ in range(100):  # falls right round
        obs, state, reward, terminated, *_ = step(jax.random.key(0), state, jnp.ones(1))
        assert reward == 1 and not terminated


def test_quaternions_start_normalized(tmp_path):
    xml = '<mujoco><worldbody><body><freejoint/><geom size="1"/><body><joint name="j"/><geom size="1"/>'
    xml += '<body><joint type="ball"/><geom size="1"/></body></body></body></worldbody>'
    xml += '<actuator><motor joint="j" ctrlrange="0 1"/></actuator></mujoco>'
    (tmp_path / "robot.xml").write_text(xml)
    env = make(Path("robot.xml"), reset_noise_scale=0.3)
    qpos = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 50))[1].physics.qpos
    for part in (qpos[:, 3:7], qpos[:, 8:12]):
        np.testing.assert_allclose(np.linalg.norm(part, axis=1), 1, rtol=1e-6)
        assert part.std(0).min() > 0.01
    for other in (qpos[:, :3], qpos[:, 7]):
        assert 0.25 < np.abs(other).max() <= 0.3


def test_user_parameters_vmap(pendulum_file):
    class Weights(NamedTuple):
        effort: float = 1.0
        pair: tuple = (2, 3.0)

    reward = lambda params, physics, action: params.effort * action[0] + params.pair[1]
    env = make(pendulum_file, reward, params=Weights())
    assert env.default_params == Weights() and env.default_params.pair[0].dtype == np.float32
    state = env.reset(jax.random.key(0))[1]
    step = lambda params: env.step(jax.random.key(0), state, jnp.ones(1), params)[2]
    params = Weights(jnp.float32([0.0, 2.0]), (0.0, 1.0))
    np.testing.assert_allclose(jax.vmap(step, (Weights(0, (None, None)),))(params), [1.0, 3.0])


@pytest.mark.parametrize("broken", ['gear="1e12"', 'gear="1" ctrlrange="-1 1" kp="1e9"', 'stiffness="1e9"'])
def test_an_unstable_robot_ends_its_episodes(broken, pendulum_file):
    kind = "position" if "kp" in broken else "motor"
    xml = PENDULUM.replace('<motor joint="pole" gear="2"', f'<{kind} joint="pole" gear="2"')
    old = {"g": 'gear="2"' + ' ctrlrange="-1 1"' * ("kp" in broken), "s": 'damping="0.05"'}[broken[0]]
    pendulum_file.write_text(xml.replace(old, broken))
    shares = lambda params, physics: physics.qpos / jnp.abs(physics.qpos)
    env = make(pendulum_file, lambda *_: (1.0, {"one": 1.0}), None, observation=shares, frame_skip=5)
    state = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 4))[1]
    step = jax.jit(jax.vmap(lambda state: env.step(jax.random.key(0), state, jnp.ones(1))))
    for _ in range(100):
        obs, state, reward, terminated, _, info = step(state)
        assert np.isfinite(obs).all()
        np.testing.assert_array_equal(reward, ~terminated)
        np.testing.assert_array_equal(info["one"], ~terminated)
        np.testing.assert_array_equal(info["diverged"], terminated)
        if terminated.any():
            break
    assert terminated.any()
    assert not Path("MUJOCO_LOG.TXT").exists()


@pytest.mark.slow
def test_the_example_in_the_docs_trains():
    """Runs the code on the page."""
    names = run_page(ROOT / "docs" / "own_robot.md")
    returns = names["out"].metrics["episode/return"]
    assert int(names["out"].state.diverged_at) == -1
    assert returns[-1] > 3 * returns[0]


def returns(value):
    return lambda *_: value


ONES = np.ones(2, np.float32)
BAD = {
    "no file": (dict(model="robot.xml"), r"model.* = 'robot.xml'.* a file that exists"),
    "no path": (dict(model=None), "model.* = None.* the path of a file"),
    "too long a path": (dict(model="x" * 5000), "model.* = 'xxx.* the path of a file, .*: .Errno.*too long"),
    "an asset": (dict(model="ant.xml"), "a file that exists"),
    "no XML": (dict(xml="<mujoco>"), "model.* cannot be read: .*XML"),
    "no MJCF": (dict(xml="<mujoco><robot/></mujoco>"), "cannot be read: .*robot"),
    "no actuators": (dict(xml=PENDULUM.split("<actuator>")[0] + "</mujoco>"), "a model with actuators"),
    "no range": (
        dict(xml=PENDULUM.replace('ctrlrange="-1 1"', "")),
        "number 0. Give each a ctrlrange=",
    ),
    "endless range": (dict(xml=PENDULUM.replace('"-1 1"', '"-1 inf"')), "these have none: number 0"),
    "range not in force": (
        dict(xml=PENDULUM.replace('ctrlrange="-1 1"', 'ctrlrange="-1 1" ctrllimited="false" name="elbow"')),
        "these have a ctrlrange that is off: elbow. Set ctrllimited='true' in each, or",
    ),
    "no range of two inputs": (
        dict(xml=PENDULUM.replace("<motor", '<pid name="wrist" joint="pole"/> <pid joint="pole"/> <motor')),
        "these have none: wrist, number 1. Give",
    ),
    "field": (dict(fields=("sensor_data",)), r"fields.* = 'sensor_data'.* Did you mean sensordata"),
    "field of integers": (dict(fields=("ten_wrapnum",)), "an array of floats"),
    "field that grows": (dict(fields=("efc_force",)), "not empty for this model"),
    "field not in a tuple": (dict(tracked="qpos"), r"tracked.* = 'qpos'.* tuple of names: \('qpos',\)"),
    "field not asked for": (
        dict(observation=lambda params, physics: physics.fields["xpos"][1], fields=("xquat",)),
        r"fields.* = \('xquat',\).*'xpos' too",
    ),
    "change not asked for": (
        dict(reward=lambda p, physics, a: physics.change["qpos"][0]),
        r"tracked.* = \(\).*'qpos' too",
    ),
    "reward is no function": (dict(reward=None), "reward.* = None.* a function"),
    "terminated is no function": (dict(terminated=False), "terminated.* = False.* a function"),
    "reward per axis": (
        dict(reward=returns(ONES)),
        r"result of reward.* = 'float32\[2\]'.* one real number",
    ),
    "no reward": (dict(reward=returns(None)), "result of reward.* = None"),
    "complex reward": (dict(reward=returns(np.complex64(1))), r"complex64\[\]"),
    "reward and list": (dict(reward=returns((1.0, [2.0]))), "result of reward.* dict"),
    "info of arrays": (
        dict(reward=returns((1.0, {"v": ONES}))),
        r"result of reward \(info 'v'\).* = 'float32\[2\]'",
    ),
    "info in info": (dict(reward=returns((1.0, {"v": {"x": 1.0}}))), r"reward \(info 'v'\)"),
    "info of the engine": (dict(reward=returns((1.0, {"diverged": 0.0}))), "a name of the engine"),
    "terminated is a number": (dict(terminated=returns(1.0)), "result of terminated.* = 1.0.* one bool"),
    "terminated per axis": (dict(terminated=returns(ONES > 0)), r"result of terminated.* = 'bool\[2\]'"),
    "observation of integers": (
        dict(observation=returns(np.arange(3))),
        r"result of observation.* = 'int.*\[3\]'",
    ),
    "observation of two axes": (dict(observation=returns(np.ones((2, 2)))), r"\[2, 2\]'.* shape \(O,\)"),
    "observation of nothing": (dict(observation=returns(ONES[:0])), r"float32\[0\]"),
    "observation of strings": (dict(observation=returns("qpos")), "result of observation.* = 'qpos'"),
    "start of one part": (dict(start=returns(ONES)), r"result of start.* shapes \(1,\) and \(1,\)"),
    "start of another size": (dict(start=returns((ONES, ONES[:1]))), r"result of start.* = 'float32\[2\]'"),
    "start of velocities": (dict(start=returns((ONES[:1], ONES))), r"result of start.* = 'float32\[2\]'"),
    "start at no keyframe": (dict(start="home"), "start.* = 'home'.* keyframe of the model: hanging"),
    "number of no keyframe": (dict(start=1), "start.* = 1.* of the model: hanging, or its number, 0 to 0"),
    "start before all keyframes": (dict(start=-1), "start.* = -1.* of the model"),
    "start is a switch": (dict(start=False), "start.* = False.* of the model"),
    "keyframes without a name": (
        dict(start="", xml=PENDULUM.replace('<key name="hanging"', "<key/> <key")),
        "start.* = ''.* of the model: its number, 0 to 1",
    ),
    "no keyframes": (
        dict(start=0, xml=re.sub("<keyframe>.*</keyframe>", "", PENDULUM)),
        "start.* = 0.* of the model: it has none",
    ),
    "params": (dict(params={"goal": "far"}), r"params\['goal'\].* = 'far'.* real number"),
    "params that are flags": (dict(params=(1.0, True)), r"params\[1\].* = True"),
    "frame_skip": (dict(frame_skip=0), "frame_skip.* = 0.* positive integer"),
    "noise": (dict(reset_noise_scale=-1.0), "reset_noise_scale.* = -1.0"),
    "setup": (dict(max_steps=5), "Did you mean max_episode_steps"),
    "engine": (dict(engine="bullet"), "one of auto, mujoco, mjx"),
}


@pytest.mark.parametrize("case", BAD)
def test_mistakes_raise_before_compiling(case, tmp_path, monkeypatch):
    monkeypatch.setattr(ffi, "load_library", lambda: pytest.fail("compiled"))
    kwargs, message = BAD[case]
    (tmp_path / "pendulum.xml").write_text(kwargs.get("xml", PENDULUM))
    kwargs = dict(model="pendulum.xml", reward=upright, terminated=fallen) | kwargs
    kwargs.pop("xml", None)
    with pytest.raises(purerl.ConfigError, match=message):
        purerl.mujoco_env("mine", **kwargs)


def test_errors_of_user_functions_pass_through(pendulum_file):
    def reward(params, physics, action):
        raise LookupError("an error of the user")

    with pytest.raises(LookupError, match="an error of the user"):
        make(pendulum_file, reward)


# The rover


@pytest.fixture(scope="module")
def starts():
    """Return observations and states of 2,000 new episodes."""
    env = rover.make()
    return jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 2_000))


@pytest.fixture(scope="module")
def step():
    env = rover.make()
    return jax.jit(jax.vmap(lambda state, action: env.step(jax.random.key(0), state, action)))


def places(qpos):
    """Return the places of rover, goal and pillars, `[N, 10, 2]`."""
    return np.concatenate([qpos[:, None, :2], np.reshape(qpos[:, 9:], (len(qpos), -1, 2))], 1)


def seen_by_beams(qpos):
    """Return ranges of 16 horizontal beams within 3 m, as rays against circles and half-planes."""
    yaw = 2 * np.arctan2(qpos[:, 6], qpos[:, 3])
    angle = yaw[:, None] + np.arange(16) * 2 * np.pi / 16
    beam = np.stack([np.cos(angle), np.sin(angle)], -1)  # [N, 16, 2]
    centre = (places(qpos)[:, 2:] - qpos[:, None, :2])[:, None]  # [N, 1, 8, 2]
    along = (centre * beam[:, :, None]).sum(-1)
    missed_by = (centre**2).sum(-1) - along**2
    hit = (missed_by < 0.2**2) & (along > 0)
    to_pillar = np.where(hit, along - np.sqrt(np.where(hit, 0.2**2 - missed_by, 0)), np.inf).min(-1)
    with np.errstate(divide="ignore"):
        to_wall = ((2.5 * np.sign(beam) - qpos[:, None, :2]) / beam).min(-1)
    return np.minimum(np.minimum(to_pillar, to_wall), 3.0)


def test_ranges_agree_with_the_geometry(starts):
    obs, state = starts
    expected = seen_by_beams(np.float64(state.physics.qpos))
    error = np.abs(3 * obs[:, :16] - expected)
    assert np.quantile(error, 0.999) < 1e-4  # grazing beams are ill-conditioned
    assert expected.min() < 0.7 and (expected == 3).mean() > 0.01


@pytest.mark.slow
def test_a_moving_rover_does_not_see_itself(starts, step):
    state, rng = jax.tree.map(lambda leaf: leaf[:300], starts[1]), np.random.default_rng(0)
    clean = np.ones(300, bool)
    for _ in range(20):
        obs, state, _, terminated, *_ = step(state, rng.choice([-10, 10], (300, 2)).astype(np.float32))
        clean &= ~np.asarray(terminated)
        error = 3 * obs[:, :16] - seen_by_beams(np.float64(state.physics.qpos))
        assert np.quantile(np.abs(error)[clean], 0.9) < 0.15  # 0.02 s at up to 1 m/s and 6 rad/s
        assert np.median(error[clean]) < 0.01
        assert obs[clean, :16].min() * 3 > 0.16
    assert clean.mean() > 0.5


def test_the_rest_of_the_observation(starts, step):
    obs, state = starts
    qpos = np.float64(state.physics.qpos)
    yaw, toward = 2 * np.arctan2(qpos[:, 6], qpos[:, 3]), qpos[:, 9:11] - qpos[:, :2]
    bearing = np.arctan2(toward[:, 1], toward[:, 0]) - yaw
    np.testing.assert_allclose(obs[:, 16], np.linalg.norm(toward, axis=1) / 5, atol=1e-6)
    np.testing.assert_allclose(obs[:, 17:19], np.stack([np.cos(bearing), np.sin(bearing)], 1), atol=1e-5)
    assert not np.asarray(obs[:, 19:]).any()
    state = jax.tree.map(lambda leaf: leaf[:2], state)
    for _ in range(10):  # one turns left on the spot, one drives straight ahead
        obs, state, *_ = step(state, jnp.float32([[-4.0, 4.0], [5.0, 5.0]]))
    turning, driving = np.asarray(obs[:, 19:])
    np.testing.assert_allclose(driving, [0.5, 0, 0.5, 0.5], atol=0.06)
    np.testing.assert_allclose(turning, [0, 2 * 0.4 / 0.28 / 5, -0.4, 0.4], atol=0.09)
    np.testing.assert_allclose(state.physics.qvel[:, 5] / 5, obs[:, 20], atol=0.02)


def test_starts_do_not_overlap(starts):
    qpos = np.asarray(starts[1].physics.qpos)
    things = places(qpos)
    cell = np.rint(things / 1.25 + 1.5).astype(int)
    offset = things - (cell - 1.5) * 1.25
    assert np.abs(offset).max() <= 0.2 + 1e-5
    for column in offset.reshape(len(things), -1).T:
        assert stats.kstest(column, stats.uniform(-0.2, 0.4).cdf).pvalue > 1e-5
    number = cell @ [4, 1]
    assert all(len(set(row)) == 10 for row in number) and number.min() == 0 and number.max() == 15
    assert stats.chisquare(np.bincount(number[:, 0], minlength=16)).pvalue > 1e-4
    pairs = [
        np.sum((number[:, 0] == a) & (number[:, 1] == b)) for a, b in itertools.permutations(range(16), 2)
    ]
    assert stats.chisquare(pairs).pvalue > 1e-4
    assert stats.chisquare(np.bincount(number[:, 2:].ravel(), minlength=16)).pvalue > 1e-4
    yaw = 2 * np.arctan2(qpos[:, 6], qpos[:, 3])
    assert stats.kstest(yaw, stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > 1e-4
    gaps = np.linalg.norm(things[:, :, None] - things[:, None], axis=-1) + 9 * np.eye(10)
    assert gaps.min() >= 1.25 - 2 * 0.2 - 1e-5 > 2 * (0.2 + 0.18)
    assert not np.asarray(starts[1].physics.qvel).any()


def test_progress_telescopes(starts, step):
    state, rng = jax.tree.map(lambda leaf: leaf[:100], starts[1]), np.random.default_rng(1)
    gained = lambda state: np.linalg.norm(state.physics.qpos[:, 9:11] - state.physics.qpos[:, :2], axis=1)
    before, progress = gained(state), 0
    for _ in range(40):
        action = rng.uniform(-10, 10, (100, 2)).astype(np.float32)
        _, state, reward, _, _, info = step(state, action)
        progress += info["reward_progress"]
        np.testing.assert_allclose(info["reward_ctrl"], -0.02 * np.mean((action / 10) ** 2, 1), rtol=1e-5)
        total = sum(info[name] for name in info if name.startswith("reward_"))
        np.testing.assert_allclose(reward, total, atol=1e-5)
        np.testing.assert_allclose(info["distance"], gained(state), atol=1e-6)
    np.testing.assert_allclose(progress, 5 * (before - gained(state)), atol=1e-3)
    assert np.abs(progress).max() > 0.5


ENDS = {  # rover, goal, pillar -> success, collision
    "far from all": ((0, 0), (0.22, 0), (0.4, 0), 0, 0),
    "arrived": ((0, 0), (0.1, -0.16), (2, 2), 1, 0),
    "at a pillar": ((1, 1), (-1, 1), (1, 0.64), 0, 1),
    "at the east wall": ((2.34, 0), (-1, 1), (1, 1), 0, 1),
    "near the east wall": ((2.3, 0), (-1, 1), (1, 1), 0, 0),
    "at the south wall": ((0, -2.34), (-1, 1), (1, 1), 0, 1),
    "arrived at a wall": ((0, 2.34), (0, 2.2), (1, 1), 1, 1),
    "beyond the walls": ((4, 4), (-1, 1), (1, 1), 0, 1),
}


def test_arrivals_and_collisions(starts, step):
    state = jax.tree.map(lambda leaf: leaf[: len(ENDS)], starts[1])
    row, tracked = np.array(state.physics.row), np.array(state.physics.tracked)
    for i, (position, goal, pillar, _, _) in enumerate(ENDS.values()):
        qpos = row.view(np.float64)[i, 1:28]  # after the time
        qpos[:2], qpos[9:11], qpos[11:], qpos[11:13] = position, goal, -9, pillar
        tracked.view(np.float64)[i] = qpos
    state = state._replace(physics=state.physics._replace(row=row, tracked=tracked))
    obs, _, reward, terminated, _, info = step(state, np.zeros((len(ENDS), 2), np.float32))
    success, collision = np.float32([case[3:] for case in ENDS.values()]).T
    np.testing.assert_array_equal(info["success"], success)
    np.testing.assert_array_equal(info["reward_arrival"], 5 * success)
    np.testing.assert_array_equal(info["reward_collision"], -5 * collision)
    np.testing.assert_array_equal(terminated, (success + collision) > 0)
    np.testing.assert_allclose(reward, 5 * success - 5 * collision, atol=0.02)
    np.testing.assert_array_equal(obs[-1, :16], 1)  # behind a wall the beams hit nothing


def test_the_rovers_constants_are_its_models():
    model = mujoco.MjModel.from_xml_path(str(ASSETS / "rover.xml"))
    sensors = [model.sensor(i).name for i in range(model.nsensor)]
    assert sensors == ["goal", "velocity", "turn", "left", "right", *(f"range{i:02d}" for i in range(16))]
    joints = [model.joint(i).name for i in range(model.njnt)]
    assert joints[:5] == ["chassis", "left_wheel", "right_wheel", "goal_x", "goal_y"]
    assert joints[5:] == [f"pillar_{axis}{i}" for i in range(rover.NUM_PILLARS) for axis in "xy"]
    pillars = [model.geom(f"pillar{i}") for i in range(rover.NUM_PILLARS)]
    assert all(pillar.size[0] == rover.PILLAR_RADIUS for pillar in pillars)
    assert model.geom("deck").size[0] == rover.ROVER_RADIUS
    assert model.site("goal").size[0] == rover.GOAL_RADIUS
    assert model.body("chassis").pos[2] == rover.AXLE_HEIGHT
    walls = [model.geom(name).pos for name in ("east", "west", "north", "south")]
    assert np.abs(walls)[:, :2].max(1).tolist() == [rover.GRID * rover.CELL / 2] * 4
    assert (model.actuator_ctrlrange == [-rover.MAX_WHEEL_SPEED, rover.MAX_WHEEL_SPEED]).all()
    ranges = [model.sensor(f"range{i:02d}").cutoff[0] for i in range(16)]
    assert ranges == [rover.MAX_RANGE] * 16


MUTANTS = {
    "a range need not be in force": (
        "envs/mujoco/user_model.py",
        "    if off.any():",
        "    if False:",
        "test_mistakes_raise_before_compiling[range not in force]",
    ),
    "every actuator has one input": (
        "envs/mujoco/user_model.py",
        "np.repeat(np.arange(model.nactuator), model.actuator_ctrlnum)",
        "np.arange(model.nu)",
        "test_mistakes_raise_before_compiling[no range of two inputs]",
    ),
    "a switch is a keyframe": (
        "envs/mujoco/custom.py",
        " and not isinstance(start, bool)",
        "",
        "test_mistakes_raise_before_compiling[start is a switch]",
    ),
    "no name is a name": (
        "envs/mujoco/custom.py",
        "isinstance(start, str) and start and start in names",
        "start in names",
        "test_mistakes_raise_before_compiling[keyframes without a name]",
    ),
    "keyframes have no numbers": (
        "envs/mujoco/custom.py",
        "0 <= start < len(names)",
        "False",
        "test_a_keyframe_without_a_name_has_a_number",
    ),
    "keyframes are counted from the end": (
        "envs/mujoco/custom.py",
        "0 <= start < len(names)",
        "start < len(names)",
        "test_mistakes_raise_before_compiling[start before all keyframes]",
    ),
    "the native route starts at no keyframe": (
        "envs/mujoco/engine/native_plan.h",
        "mj_resetDataKeyframe(m, d, call.plan->keyframe)",
        "mj_resetData(m, d)",
        "test_a_start_at_a_keyframe_is_all_of_it[setup0]",
    ),
    "the callback route starts at no keyframe": (
        "envs/mujoco/engine/callback.py",
        "if self.plan.keyframe >= 0:",
        "if False:",
        "test_a_start_at_a_keyframe_is_all_of_it[setup1]",
    ),
    "MJX starts at no keyframe": (
        "envs/mujoco/engine/mjx.py",
        "mj_resetDataKeyframe(model, start, keyframe)",
        "mj_resetData(model, start)",
        "test_a_start_at_a_keyframe_is_all_of_it[setup2]",
    ),
    "a model whose bodies sleep is made": (
        "envs/mujoco/engine/c.py",
        "mujoco.mjtEnableBit.mjENBL_SLEEP",
        "0",
        "test_a_model_that_cannot_run_is_refused_when_made",
    ),
}
