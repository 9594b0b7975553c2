"""The native MuJoCo engine: batches, threads, divergence, its build and its errors."""

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from compiling import AS_USERS_DO
from recorded import MODULES, assert_same, inject, record, vmapped_step

from purerl.config import ConfigError
from purerl.envs.mujoco.engine.physics import EngineError
from purerl.envs.mujoco.options import ASSETS, load_model
from purerl.envs.mujoco.tasks import ant, build, half_cheetah, host, native

ROOT = Path(__file__).parents[2]
both_routes = pytest.mark.parametrize("route", ["native", "callback"])


@pytest.mark.parametrize("shape", [(64,), (3, 16)], ids=["envs", "seeds x envs"])
@pytest.mark.parametrize("task", ["ant", "half_cheetah"])
@both_routes
def test_batches_of_any_shape(route, task, shape):
    gym = record(task, count := int(np.prod(shape)))
    result = vmapped_step(env := MODULES[task].make(route=route), len(shape))(
        env.default_params, jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), gym)
    )
    assert_same(task, jax.tree.map(lambda leaf: leaf.reshape(count, *leaf.shape[len(shape) :]), result), gym)


@pytest.mark.parametrize("shape", [(), (2, 3)])
@both_routes
def test_reset_only_where_needed(route, shape):
    env = half_cheetah.make(route=route)
    keys = jax.random.split(jax.random.key(0), shape)
    needed = jnp.arange(int(np.prod(shape))).reshape(shape) % 2 == 0
    everywhere, masked = env.reset, lambda key, needed: env.reset(key, None, needed)
    for _ in shape:
        everywhere, masked = jax.vmap(everywhere), jax.vmap(masked)
    full, some = jax.jit(everywhere)(keys), jax.jit(masked)(keys, needed)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[needed], b[needed]), full, some)
    assert not np.asarray(some[1].physics.row)[~np.asarray(needed)].any(), "physics was computed"
    program = str(jax.make_jaxpr(masked)(keys, needed))
    assert "cond[" in program, "where nothing ends, nothing should be drawn"


def test_time_limit():
    env = half_cheetah.make()
    _, state = env.reset(jax.random.key(0))
    action = jnp.zeros(env.action_space.shape)
    step = jax.jit(lambda time: env.step(jax.random.key(0), state._replace(time=time), action))
    assert [bool(step(jnp.int32(time))[4]) for time in (0, 998, 999, 1000)] == [0, 0, 1, 1]
    assert int(step(jnp.int32(7))[1].time) == 8


def test_termination_and_time_limit_may_coincide():
    env = ant.make(healthy_z_range=(5.0, 6.0))
    _, state = env.reset(jax.random.key(0))
    state = state._replace(time=jnp.int32(999))
    _, _, _, terminated, truncated, info = env.step(jax.random.key(0), state, jnp.zeros(8))
    assert terminated and truncated
    assert info["reward_survive"] == 0 and info["diverged"] == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
@both_routes
def test_actions_that_are_no_numbers_end_the_episode(route, bad):
    env = ant.make(route=route)
    _, state = env.reset(jax.random.key(0))
    action = jnp.zeros(8).at[3].set(bad)
    obs, state, reward, terminated, _, info = jax.jit(env.step)(jax.random.key(0), state, action)
    assert terminated and reward == 0 and info["diverged"] == 1
    assert np.isfinite(obs).all() and all(np.isfinite(value) for value in info.values())
    assert not Path("MUJOCO_LOG.TXT").exists()


@both_routes
def test_a_diverging_simulation_is_masked_and_alone(route):
    env = half_cheetah.make(route=route)
    _, states = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 8))
    step = jax.jit(jax.vmap(lambda state: env.step(jax.random.key(0), state, jnp.ones(6))))
    healthy = step(states)
    bits = np.array(states.physics.row)
    rows = bits.view(np.float64)  # time, qpos [9], qvel [9], ...
    rows[1, 1] = np.nan
    rows[3, 10] = 1e12
    # Crosses MuJoCo's bound of 1e10 in the last of five substeps, unseen by MuJoCo's own checks.
    rows[5, 1], rows[5, 10] = 1e10 - 45, 1000.0
    broken = step(inject(states, bits, states.physics.tracked))
    bad = np.isin(np.arange(8), (1, 3, 5))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[~bad], b[~bad]), healthy, broken)
    obs, state, reward, terminated, _, info = jax.tree.map(np.asarray, broken)
    np.testing.assert_array_equal(terminated, bad)
    np.testing.assert_array_equal(info["diverged"], np.float32(bad))
    assert not reward[bad].any() and np.isfinite(obs).all()
    assert np.isfinite(state.physics.qpos).all() and np.isfinite(state.physics.change["qpos"]).all()
    assert not Path("MUJOCO_LOG.TXT").exists()


@both_routes
def test_an_error_inside_mujoco_is_a_diverged_simulation(route):
    xml = (ASSETS / "ant.xml").read_text()
    xml = xml.replace("<default>", '<size memory="16K"/><default>', 1)  # too little for contacts
    model = mujoco.MjModel.from_xml_string(xml)
    engine = host.make_engine(model, 5, ("cfrc_ext",), ("xpos",), num_threads=1, route=route)
    high = np.float32([0, 0, 0.75, 1] + [0] * 11)
    low = high - np.float32(0.75) * (np.arange(15) == 2)
    qpos = np.stack([high, low, high])  # the last one in the memory in which the error was
    physics = jax.vmap(engine.reset)(jnp.ones(3, bool), qpos, jnp.zeros((3, 14)), {})
    np.testing.assert_array_equal(physics.diverged, [False, True, False])
    in_the_floor = np.array(physics.row)
    in_the_floor.view(np.float64)[:, 1:16] = qpos
    for _ in range(3):
        after = jax.vmap(engine.step)(physics._replace(row=in_the_floor), jnp.zeros((3, 8)), {})
        np.testing.assert_array_equal(after.diverged, [False, True, False])
        jax.tree.map(lambda leaf: np.testing.assert_array_equal(leaf, np.nan_to_num(leaf)), after)
        jax.tree.map(lambda leaf: np.testing.assert_array_equal(leaf[0], leaf[2]), after)


@both_routes
def test_warnings_of_other_simulations_still_go_where_they_went(route, capfd):
    half_cheetah.make(route=route).reset(jax.random.key(0))
    capfd.readouterr()
    model = load_model("half_cheetah.xml")
    data = mujoco.MjData(model)
    data.qpos[0] = np.nan
    mujoco.mj_step(model, data)
    assert "Nan, Inf or huge value in QPOS" in Path("MUJOCO_LOG.TXT").read_text()
    assert "Nan, Inf or huge value in QPOS" in capfd.readouterr().out


def test_parameters_vmap():
    env = half_cheetah.make()
    _, state = env.reset(jax.random.key(0))
    weights = np.float32([0.0, 0.5])
    params = env.default_params._replace(ctrl_cost_weight=weights)
    axes = type(params)(*(0 if name == "ctrl_cost_weight" else None for name in params._fields))
    step = jax.vmap(env.step, in_axes=(None, None, None, axes))
    info = step(jax.random.key(0), state, jnp.ones(6), params)[5]
    np.testing.assert_allclose(info["reward_ctrl"], -6 * weights)


@both_routes
def test_thread_count_changes_no_bits(route):
    model = load_model("ant.xml")
    rng = np.random.default_rng(0)
    qpos = (model.qpos0 + rng.uniform(-0.1, 0.1, (64, model.nq))).astype(np.float32)
    qvel, ctrl = rng.normal(size=(64, model.nv)), rng.normal(size=(64, model.nu))

    def run(num_threads):
        engine = host.make_engine(model, 5, ("cfrc_ext",), ("xpos",), num_threads, route)
        physics = jax.vmap(engine.reset)(np.ones(64, bool), qpos, qvel.astype(np.float32), {})
        step = jax.jit(jax.vmap(engine.step), compiler_options=AS_USERS_DO)
        for _ in range(20):
            physics = step(physics, ctrl.astype(np.float32), {})
        return physics

    one = run(1)
    for num_threads in (2, 5):
        jax.tree.map(np.testing.assert_array_equal, one, run(num_threads))


def test_concurrent_calls_do_not_mix():
    env = half_cheetah.make()
    step = jax.jit(jax.vmap(lambda state: env.step(jax.random.key(0), state, jnp.ones(6))[1]))

    reset = jax.jit(jax.vmap(env.reset))

    def run(seed):
        num_envs = (4, 4, 1, 64)[seed % 4]
        _, state = reset(jax.random.split(jax.random.key(seed), num_envs))
        for _ in range(50):
            state = step(state)
        return np.asarray(state.physics.row)

    alone = [run(seed) for seed in range(8)]
    together = [None] * 8
    work = lambda seed: together.__setitem__(seed, run(seed))
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    jax.tree.map(np.testing.assert_array_equal, alone, together)


@pytest.mark.parametrize("operand", range(3))
@pytest.mark.parametrize("target", [native.STEP, native.RESET])
def test_wrong_buffers_raise(target, operand):
    env = half_cheetah.make()
    _, state = env.reset(jax.random.key(0))
    physics = state.physics
    if target == native.STEP:
        operands = [physics.row, physics.tracked, jnp.zeros(6)]
    else:
        operands = [jnp.ones(1, bool), physics.qpos, physics.qvel]
    program = str(jax.make_jaxpr(env.step)(jax.random.key(0), state, jnp.zeros(6)))
    plan = np.int64(re.search(r"plan['\"]?[,:=]\s*(?:np\.int64\()?(-?\d+)", program)[1])
    packed = (9 + 9 + 9 + 1,)
    results = [
        jax.ShapeDtypeStruct(like.shape, like.dtype)
        for like in (physics.row, physics.tracked, jnp.zeros(packed))
    ]
    call = lambda operands, plan: jax.ffi.ffi_call(target, results)(*operands, plan=plan)
    jax.block_until_ready(call(operands, plan))
    with pytest.raises(Exception, match="not registered in this process"):
        jax.block_until_ready(call(operands, np.int64(1)))
    operands[operand] = jnp.concatenate([operands[operand]] * 2)
    with pytest.raises(Exception, match=r"expected|one element per simulation"):
        jax.block_until_ready(call(operands, plan))


LOWER = """
import hashlib, jax
from purerl.envs.mujoco.tasks import ant
env = ant.make()
key = jax.random.key(0)
step = lambda key: env.step(key, env.reset(key)[1], jax.numpy.zeros(8))
text = jax.jit(step).lower(key).as_text()
assert "purerl_mujoco_step" in text
print(hashlib.sha256(text.encode()).hexdigest())
"""


def run_python(code, **environment):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_the_program_is_the_same_in_every_process():
    ours = {}
    exec(LOWER, {"print": lambda text: ours.setdefault("hash", text)})
    other = run_python("import mujoco; x = [bytearray(10**6)] * 3\n" + LOWER, PYTHONHASHSEED="7")
    assert other.stdout.strip() == ours["hash"], other.stderr


def test_without_a_compiler_the_error_says_what_to_install(tmp_path):
    pytest.importorskip("mujoco")
    code = """if True:
        import sys
        sys.modules["ziglang"] = None
        import jax
        from purerl.envs.mujoco.tasks import ant
        ant.make(route="native").reset(jax.random.key(0))
    """
    done = run_python(code, PATH="", CXX="", XDG_CACHE_HOME=str(tmp_path), HOME=str(tmp_path))
    assert done.returncode != 0 and "EngineError" in done.stderr
    for advice in ("apt-get install g++", "xcode-select", "cxx-compiler", "pip install ziglang"):
        assert advice in done.stderr
    assert not list(tmp_path.rglob("*.so"))


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    """A compiler that takes no time: it copies the library that this machine has built already."""
    library = build.load_library()._name
    script = tmp_path / "compiler"
    script.write_text(f'#!/bin/sh\nfor last; do :; done\nsleep 0.2\ncp "{library}" "$last"\n')
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return script


def test_two_builds_at_once_and_a_damaged_cache(compiler, tmp_path):
    path = build._library_path()
    threads = [threading.Thread(target=build._build, args=(path,)) for _ in range(2)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert list((tmp_path / "cache").rglob("*.so")) == [path]
    path.unlink()
    path.write_bytes(b"damaged")
    build.load_library.__wrapped__()
    assert path.stat().st_size > 1000


def test_a_cache_that_cannot_be_written(compiler, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/nowhere")
    assert build.load_library.__wrapped__().PurerlStep


def test_a_changed_source_is_built_anew(compiler, tmp_path, monkeypatch):
    before = build._library_path()
    changed = tmp_path / "native.cc"
    changed.write_text(build.SOURCE.read_text() + "\n")
    monkeypatch.setattr(build, "SOURCE", changed)
    assert build._library_path() != before


def test_a_failing_compiler_shows_its_last_words(compiler):
    compiler.write_text("#!/bin/sh\necho 'fatal error: no such header' >&2\nexit 1\n")
    with pytest.raises(EngineError, match="fatal error: no such header"):
        build.load_library.__wrapped__()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(helthy_reward=1.0), "Did you mean healthy_reward"),
        (dict(xml_file="antt.xml"), "no such file.*Did you mean ant.xml"),
        (dict(healthy_z_range=(0.2, 0.5, 1.0)), "healthy_z_range.*pair"),
        (dict(healthy_z_range=(1.0, 0.2)), "low <= high"),
        (dict(frame_skip=-1), "frame_skip = -1 .*positive integer"),
        (dict(frame_skip=2.5), "positive integer"),
        (dict(ctrl_cost_weight="much"), "finite number"),
        (dict(terminate_when_unhealthy=1), "True or False"),
        (dict(reset_noise_scale=-0.1), "at least 0"),
        (dict(main_body="head"), "main_body.*front_left_leg"),
        (dict(engine="bullet"), "one of auto, mujoco, mjx"),
        (dict(engine="mujco"), "Did you mean mujoco"),
        (dict(route="python"), "one of auto, native, callback"),
        (dict(impl="jax"), "only engine='mjx' has it, and this is 'mujoco'"),
        (dict(engine="mjx", num_threads=2), "only engine='mujoco' has it, and this is 'mjx'"),
        (dict(num_threads=0), "positive integer, at most 1,024"),
        (dict(solver_iterations=1.5), "positive integer"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ConfigError, match=message):
        ant.make(**kwargs)


def test_an_action_of_the_wrong_shape():
    env = half_cheetah.make()
    _, state = env.reset(jax.random.key(0))
    with pytest.raises(ValueError, match=r"shape \(6,\), not \(7,\)"):
        env.step(jax.random.key(0), state, jnp.zeros(7))


def test_an_unknown_field_is_named():
    with pytest.raises(ValueError, match="'cfrc_exterior'"):
        host.make_engine(load_model("ant.xml"), 5, ("cfrc_exterior",))


def test_gpu_backends_are_refused(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    env = ant.make(engine="mujoco", route="native")
    with pytest.raises(EngineError, match="JAX_PLATFORMS=cpu"):
        env.reset(jax.random.key(0))


def test_a_wrong_argument_is_refused_before_the_compiler_runs(monkeypatch):
    monkeypatch.setattr(native, "load_library", lambda: pytest.fail("compiled"))
    env = ant.make()
    assert env.observation_space.shape == (105,)


FORK = """
import os, signal, warnings
warnings.simplefilter("ignore")  # JAX warns of forks, and rightly: its own larger programs then wait for ever
import jax, numpy as np
from purerl.envs.mujoco.engine import c as host
from purerl.envs.mujoco.options import load_model
jax.config.update("jax_cpu_enable_async_dispatch", False)
model = load_model("half_cheetah.xml")
engine = host.make_engine(model, 5, num_threads=2)
place = jax.jit(jax.vmap(lambda qpos, qvel: engine.reset(True, qpos, qvel, {}).row))
qpos, qvel = np.tile(np.float32(model.qpos0), (64, 1)), np.ones((64, model.nv), np.float32)
rows = lambda: np.asarray(place(qpos, qvel))
before = rows()
child = os.fork()
if child == 0:
    signal.alarm(60)
    os._exit(0 if (rows() == before).all() else 3)
assert os.waitpid(child, 0)[1] == 0
assert (rows() == before).all()
print("both go on", flush=True)
os._exit(0)
"""


def test_a_forked_child_can_go_on():
    """XLA's threads are gone there, so the helpers that a batch asks for never come."""
    done = run_python(FORK)
    assert done.stdout.strip() == "both go on", done.stderr
