"""MuJoCo in JAX against C MuJoCo.

MJX's factorisations can deadlock with few threads of XLA, whose number is fixed when JAX starts. So the first
test runs all others in a process of its own with NPROC=8; elsewhere they are skipped.
"""

import importlib
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

import purerl
from purerl.config import ConfigError
from purerl.envs.mujoco.engine import c, mjx, mjx_tracing
from purerl.envs.mujoco.options import load_model
from purerl.envs.mujoco.task import with_model
from purerl.envs.mujoco.tasks import half_cheetah, inverted_pendulum

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
BALL = """<mujoco>
  <option timestep="0.01" {option}/>
  <worldbody>
    <geom type="plane" size="5 5 1"/>
    <body pos="0 0 0.3">
      <freejoint/>
      <geom type="sphere" size="0.1"/>
      <body pos="0.2 0 0">
        <joint name="arm" axis="0 1 0" damping="0.1"/>
        <geom type="sphere" size="0.05"/>
      </body>
    </body>
  </worldbody>
  <actuator><motor joint="arm" ctrlrange="-1 1" ctrllimited="true"/></actuator>
</mujoco>"""

alone = pytest.mark.skipif("NPROC" not in os.environ, reason="runs in a process of its own, with NPROC=8")


@pytest.mark.skipif("NPROC" in os.environ, reason="this is the process")
def test_all_in_a_process_with_eight_threads():
    options = ["-q", "-m", "slow", "-p", "no:cacheprovider", "-p", "no:xdist"]
    command = [sys.executable, "-m", "pytest", *options, __file__]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["NPROC"] = "8"
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1500, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "26 passed" in done.stdout, done.stdout


@pytest.fixture(scope="module")
def benchmark():
    """Return a function that imports a module of benchmarks/."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module


@pytest.fixture
def fidelity(benchmark):
    return benchmark("fidelity")


@alone
@pytest.mark.parametrize("task", ["half_cheetah", "ant-elliptic"])
def test_one_step_agrees_with_c_mujoco(task, fidelity, tmp_path):
    """From 300 visited states: half_cheetah has Euler, ant RK4 and contact forces."""
    name, _, cone = task.partition("-")
    kwargs = {"xml_file": fidelity.elliptic(name, tmp_path)} if cone else {}
    report = fidelity.compare(name, **kwargs)
    assert not fidelity.failures(report, fidelity.TOLERANCES[task])
    assert report["obs"]["max"] > 0, "two engines were compared"


@alone
@pytest.mark.parametrize(
    "name",
    [
        "connects and welds of bodies and sites",
        "plane and cylinder",
        "margin of a box",
        "muscle of a tendon",
        "contact",
        "framelinacc of a geom",
    ],
)
def test_a_feature_agrees_with_c_mujoco(name, benchmark):
    """Some of those in benchmarks/features.py, which has them all."""
    features = benchmark("features")
    assert not features.faults(features.compare(name))


@alone
def test_the_recorded_run_is_within_tolerances(fidelity):
    record = json.loads((BENCHMARKS / "results" / "fidelity.json").read_text())
    assert record["tolerances"] == json.loads(json.dumps(fidelity.TOLERANCES))
    names = {result["task"] for result in record["results"]}
    assert names == {*fidelity.TOLERANCES} and len(names - {"ant-elliptic"}) == 11
    for result in record["results"]:
        assert not fidelity.failures(result, fidelity.TOLERANCES[result["task"]])
        assert result["states"] == 300


class Pendulum:
    """inverted_pendulum on MJX, its functions compiled once for 64 environments."""

    def __init__(self):
        self.env = inverted_pendulum.make(engine="mjx")
        masked = lambda key, needed: self.env.reset(key, None, needed)
        self.traced = jax.jit(jax.vmap(masked)).trace(self.keys(0), jnp.ones(64, bool))
        self.reset = self.traced.lower().compile()
        self.step = jax.jit(jax.vmap(self.env.step, in_axes=(None, 0, 0)))

    def keys(self, seed):
        return jax.random.split(jax.random.key(seed), 64)


@pytest.fixture(scope="module")
def pendulum():
    return Pendulum()


@alone
def test_each_reset_is_a_new_draw(pendulum):
    needed = jnp.arange(64) % 3 == 0
    obs, state = pendulum.reset(pendulum.keys(0), needed)
    again, _ = pendulum.reset(pendulum.keys(0), jnp.ones(64, bool))
    np.testing.assert_array_equal(obs[needed], again[needed])  # of the same program
    assert not np.asarray(obs)[~np.asarray(needed)].any(), "computed where it was not needed"
    assert len(np.unique(again, axis=0)) == 64
    assert (state.time == 0).all() and not state.physics.diverged.any()
    engine = mjx.make_engine(load_model("inverted_pendulum.xml"), 1)
    assert [engine.rows_at_once(num) for num in (1, 64, 100)] == [1, 2, 4]


@alone
def test_infinite_numbers_end_their_own_episode(pendulum):
    _, state = pendulum.reset(pendulum.keys(0), jnp.ones(64, bool))
    action = np.zeros((64, 1), np.float32)
    healthy = pendulum.step(jax.random.key(0), state, action)
    action[1:4, 0] = np.nan, np.inf, 1e30
    qvel = np.array(state.physics.qvel)
    qvel[4, 0], qvel[5, 1] = np.nan, 1e12
    state = state._replace(physics=state.physics._replace(qvel=qvel))
    broken = pendulum.step(jax.random.key(0), state, action)
    bad = (np.arange(64) >= 1) & (np.arange(64) <= 5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[~bad], b[~bad], rtol=1e-6), healthy, broken)
    obs, state, reward, terminated, _, info = jax.tree.map(np.asarray, broken)
    np.testing.assert_array_equal(terminated, bad)
    np.testing.assert_array_equal(info["diverged"], np.float32(bad))
    assert not reward[bad].any()
    jax.tree.map(lambda leaf: np.testing.assert_array_equal(leaf, np.nan_to_num(leaf)), (obs, state, info))


@alone
def test_large_actions_are_clamped_by_the_model(pendulum):
    _, state = pendulum.reset(pendulum.keys(0), jnp.ones(64, bool))
    edge, beyond = (pendulum.step(jax.random.key(0), state, np.full((64, 1), a, np.float32)) for a in (3, 30))
    np.testing.assert_array_equal(edge[0], beyond[0])


@alone
@pytest.mark.parametrize("option", ['integrator="RK4"', 'integrator="implicitfast" solver="PGS"'])
def test_a_free_body_moves_as_on_c_mujoco(option):
    """Over 60 steps through a bounce on the floor; a rotating free joint shows the stages of RK4."""
    model = mujoco.MjModel.from_xml_string(BALL.format(option=option))
    fields = ("xpos", "cfrc_ext", "cvel")
    qpos = np.float32([0, 0, 0.3, 0.8, 0.6, 0, 0, 0.4])
    qvel = np.float32([0.5, 0, 0, 3, -2, 1, 5])
    paths = []
    for engine in (c, mjx):
        made = engine.make_engine(model, 2, fields, ("qpos",))

        def play(physics, ctrl, made=made):
            physics = made.step(physics, ctrl, {})
            return physics, physics

        start = made.reset(jnp.bool_(True), qpos, qvel, {})
        np.testing.assert_array_equal(start.qpos, qpos)
        ctrl = jnp.sin(jnp.arange(30.0))[:, None]
        paths.append(jax.jit(lambda start, ctrl, play=play: jax.lax.scan(play, start, ctrl)[1])(start, ctrl))
    exact, ours = paths
    force = np.abs(exact.fields["cfrc_ext"])
    assert force.max() > 10 and model.opt.solver in (
        mujoco.mjtSolver.mjSOL_NEWTON,
        mujoco.mjtSolver.mjSOL_PGS,
    )
    before = slice(0, int((force.max((1, 2)) > 0).argmax()))  # a bounce magnifies rounding
    for name, atol in (("qpos", 2e-5), ("qvel", 2e-4)):
        np.testing.assert_allclose(getattr(ours, name)[before], getattr(exact, name)[before], atol=atol)
        np.testing.assert_allclose(getattr(ours, name), getattr(exact, name), atol=100 * atol)
    for name in fields:
        np.testing.assert_allclose(ours.fields[name][before], exact.fields[name][before], atol=2e-4)
    np.testing.assert_allclose(ours.change["qpos"][before], exact.change["qpos"][before], atol=1e-6)


@alone
def test_physical_parameters_vmap(pendulum):
    """A pole in three gravities and with three masses agrees with C MuJoCo."""
    env = pendulum.env
    gravity = np.float32([[0, 0, -9.81], [0, 0, -1.6], [0, 0, -25]])
    mass = np.float32(load_model("inverted_pendulum.xml").body_mass * [[1], [2], [3]])

    def play(gravity, mass):
        params = with_model(None, opt_gravity=gravity, body_mass=mass)
        _, state = env.reset(jax.random.key(1), params)
        return env.step(jax.random.key(0), state, jnp.ones(1), params)[0]

    ours = jax.jit(jax.vmap(play))(gravity, mass)
    for row in range(3):
        model = load_model("inverted_pendulum.xml")
        model.opt.gravity[:], model.body_mass[:] = gravity[row], mass[row]
        engine = c.make_engine(model, 2)
        _, start = env.reset(jax.random.key(1))
        physics = engine.reset(jnp.bool_(True), start.physics.qpos, start.physics.qvel, {})
        physics = engine.step(physics, jnp.ones(1), {})
        expected = np.concatenate([physics.qpos, physics.qvel])
        np.testing.assert_allclose(ours[row], expected, rtol=1e-4, atol=1e-5)
    assert np.abs(np.diff(ours, axis=0)).max() > 1e-2


@alone
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(body_mas=np.zeros(3, np.float32)), "body_mas.*Did you mean body_mass"),
        (dict(opt_gravty=np.zeros(3, np.float32)), "Did you mean opt_gravity"),
        (dict(body_mass=np.zeros(4, np.float32)), r"model body_mass.* = \(4,\).*the shape \(3,\)"),
        (dict(jnt_type=np.zeros(2, np.int32)), "an array of numbers of MJX's model"),
    ],
)
def test_wrong_physical_parameters_raise(fields, message, pendulum):
    with pytest.raises(ConfigError, match=message):
        pendulum.env.reset(jax.random.key(0), with_model(None, **fields))


@alone
def test_c_mujoco_refuses_physical_parameters():
    env = half_cheetah.make(engine="mujoco")
    _, state = env.reset(jax.random.key(0))
    params = with_model(None, body_mass=np.ones(8, np.float32))
    with pytest.raises(ConfigError, match=r"body_mass.*use engine='mjx'"):
        jax.vmap(env.step, in_axes=(None, None, 0, None))(jax.random.key(0), state, jnp.ones((2, 6)), params)


@alone
def test_physics_is_traced_in_full_precision(pendulum):
    program = str(pendulum.traced.jaxpr)
    assert "dot_general" in program
    assert program.count("dot_general[") == program.count("precision=(Precision.HIGHEST, Precision.HIGHEST)")


@alone
def test_mjx_itself_is_restored(pendulum):
    from mujoco.mjx._src import scan, solver

    assert solver._while_loop_scan.__module__ == solver.__name__
    assert scan.body_tree.__module__ == scan.__name__
    with pytest.raises(ValueError, match="an action of shape"):
        pendulum.env.step(jax.random.key(0), pendulum.env.reset(jax.random.key(0))[1], jnp.zeros(2))
    with pytest.raises(ZeroDivisionError), mjx_tracing.tracing():
        raise ZeroDivisionError
    assert solver._while_loop_scan.__module__ == solver.__name__
    assert scan.body_tree.__module__ == scan.__name__


@alone
def test_an_unknown_field_is_refused():
    model = mujoco.MjModel.from_xml_string(BALL.format(option=""))
    with pytest.raises(ValueError, match="'cfrc_exterior'"):
        mjx.make_engine(model, 1, ("cfrc_exterior",))


@alone
def test_the_engine_fits_the_machine(monkeypatch):
    assert inverted_pendulum.make().reset(jax.random.key(0))[1].physics.row.dtype == jnp.uint32
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert isinstance(inverted_pendulum.make().reset(jax.random.key(0))[1].physics.row, dict)


@alone
def test_few_cpus_give_a_warning(monkeypatch, caplog):
    monkeypatch.delenv("NPROC", raising=False)
    monkeypatch.setattr(mjx, "usable_cpus", lambda: 2)
    model = load_model("inverted_pendulum.xml")
    with caplog.at_level(logging.WARNING):
        engine = mjx.make_engine(model, 1)
        engine.reset(jnp.bool_(True), np.float32(model.qpos0), np.zeros(2, np.float32), {})
    assert "NPROC=8" in caplog.text


@alone
def test_ppo_trains():
    cfg = purerl.make_config(
        "ppo", env="inverted_pendulum", engine="mjx", num_envs=8, num_steps=16, num_minibatches=4,
        num_epochs=2, total_timesteps=512, log_interval=128, eval_interval=0,
    )  # fmt: skip
    out = jax.jit(purerl.make_train(cfg))(jax.random.key(0))
    assert np.isfinite(out.metrics["pi/entropy"]).all() and int(out.state.diverged_at) == -1
    assert np.nansum(out.metrics["episode/length"]) > 0
