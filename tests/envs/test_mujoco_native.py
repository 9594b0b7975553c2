"""The native MuJoCo engine: batches, threads, divergence, its build and its errors."""

import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from recorded import MODULES, assert_same, inject, record, vmapped_step

from purerl.config import ConfigError
from purerl.envs.mujoco.engine import build, c, ffi
from purerl.envs.mujoco.engine.physics import EngineError
from purerl.envs.mujoco.options import ASSETS, load_model
from purerl.envs.mujoco.tasks import ant, half_cheetah

ROOT = Path(__file__).parents[2]
slow = pytest.mark.slow
both_routes = pytest.mark.parametrize("route", ["native", pytest.param("callback", marks=slow)])


@pytest.mark.parametrize("shape", [(64,), (3, 16)], ids=["envs", "seeds x envs"])
@pytest.mark.parametrize("task", [pytest.param("ant", marks=slow), "half_cheetah"])
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
    masked = lambda key, needed: env.reset(key, None, needed)
    for _ in shape:
        masked = jax.vmap(masked)
    run = jax.jit(masked)
    full, some = run(keys, jnp.ones_like(needed)), run(keys, needed)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[needed], b[needed]), full, some)
    assert not np.asarray(some[1].physics.row)[~np.asarray(needed)].any(), "physics was computed"
    program = str(jax.make_jaxpr(masked)(keys, needed))
    assert "cond[" in program, "a step without ends must not draw"


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


@both_routes
def test_infinite_actions_end_the_episode(route):
    env = ant.make(route=route)
    _, state = env.reset(jax.random.key(0))
    actions = np.zeros((5, 8), np.float32)
    actions[:4, 3] = np.nan, np.inf, -np.inf, 1e30
    step = jax.jit(jax.vmap(env.step, (None, None, 0)))
    obs, state, reward, terminated, _, info = step(jax.random.key(0), state, actions)
    assert terminated.tolist() == [True] * 4 + [False] and not reward[:4].any() and reward[4] != 0
    assert info["diverged"].tolist() == [1, 1, 1, 1, 0]
    assert np.isfinite(obs).all() and all(np.isfinite(value).all() for value in info.values())
    assert not Path("MUJOCO_LOG.TXT").exists()


@both_routes
def test_diverged_simulations_are_masked(route):
    env = half_cheetah.make(route=route)
    _, states = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 8))
    step = jax.jit(jax.vmap(lambda state: env.step(jax.random.key(0), state, jnp.ones(6))))
    healthy = step(states)
    bits = np.array(states.physics.row)
    rows = bits.view(np.float64)  # time, qpos [9], qvel [9], ...
    rows[1, 1] = np.nan
    rows[3, 10] = 1e12
    # Crosses MuJoCo's bound of 1e10 in the last of five substeps, after MuJoCo's own checks.
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
def test_errors_inside_mujoco_are_divergence(route):
    xml = (ASSETS / "ant.xml").read_text()
    xml = xml.replace("<default>", '<size memory="16K"/><default>', 1)  # too little for contacts
    model = mujoco.MjModel.from_xml_string(xml)
    engine = c.make_engine(model, 5, ("cfrc_ext",), ("xpos",), num_threads=1, route=route)
    high = np.float32([0, 0, 0.75, 1] + [0] * 11)
    low = high - np.float32(0.75) * (np.arange(15) == 2)
    qpos = np.stack([high, low, high])  # the last one reuses the MjData of the error
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
def test_warnings_of_other_simulations_remain(route, capfd):
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
        engine = c.make_engine(model, 5, ("cfrc_ext",), ("xpos",), num_threads, route)
        physics = jax.vmap(engine.reset)(np.ones(64, bool), qpos, qvel.astype(np.float32), {})
        step = jax.jit(jax.vmap(engine.step))  # the programs only slice numbers of the C library
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
        for _ in range(20):
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
@pytest.mark.parametrize("target", [ffi.STEP, ffi.RESET])
def test_wrong_buffers_raise(target, operand):
    env = half_cheetah.make()
    _, state = env.reset(jax.random.key(0))
    physics = state.physics
    if target == ffi.STEP:
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


@slow
def test_the_program_is_the_same_in_every_process():
    ours = {}
    exec(LOWER, {"print": lambda text: ours.setdefault("hash", text)})
    other = run_python("import mujoco; x = [bytearray(10**6)] * 3\n" + LOWER, PYTHONHASHSEED="7")
    assert other.stdout.strip() == ours["hash"], other.stderr


@slow
def test_without_a_compiler_the_error_names_packages(tmp_path):
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
    """A fake compiler that copies the library that this machine has built already."""
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


def test_an_unwritable_cache(compiler, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/nowhere")
    assert build.load_library.__wrapped__().PurerlStep


def test_changed_sources_are_built_again(compiler, tmp_path, monkeypatch):
    """Every C++ file beside the module is part of the library's name."""
    sources = {path.name for path in build.FOLDER.iterdir() if path.suffix in (".cc", ".h")}
    assert set(build.SOURCES) == sources
    paths = {build._library_path()}
    for name in sources:
        shutil.copy(build.FOLDER / name, tmp_path / name)
    monkeypatch.setattr(build, "FOLDER", tmp_path)
    assert build._library_path() in paths
    for name in sources:
        (tmp_path / name).write_text((tmp_path / name).read_text() + "\n")
        paths.add(build._library_path())
    assert len(paths) == 1 + len(sources)


def test_a_failing_compiler_shows_its_error(compiler):
    compiler.write_text("#!/bin/sh\necho 'fatal error: no such header' >&2\nexit 1\n")
    with pytest.raises(EngineError, match="fatal error: no such header"):
        build.load_library.__wrapped__()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(helthy_reward=1.0), "Did you mean healthy_reward"),
        (dict(xml_file="antt.xml"), "a file that exists.*Did you mean ant.xml"),
        (dict(healthy_z_range=(0.2, 0.5, 1.0)), "healthy_z_range.*pair"),
        (dict(healthy_z_range=(1.0, 0.2)), "low <= high"),
        (dict(frame_skip=-1), "frame_skip.* = -1.*positive integer"),
        (dict(frame_skip=2.5), "positive integer"),
        (dict(ctrl_cost_weight="much"), "finite number"),
        (dict(terminate_when_unhealthy=1), "True or False"),
        (dict(reset_noise_scale=-0.1), "at least 0"),
        (dict(main_body="head"), "main_body.*front_left_leg"),
        (dict(engine="bullet"), "one of auto, mujoco, mjx"),
        (dict(engine="mujco"), "Did you mean mujoco"),
        (dict(route="python"), "one of auto, native, callback"),
        (dict(impl="jax"), "engine='mujoco'; it belongs to engine='mjx'"),
        (dict(engine="mjx", num_threads=2), "engine='mjx'; it belongs to engine='mujoco'"),
        (dict(num_threads=0), "positive integer, at most 1,024"),
        (dict(solver_iterations=1.5), "positive integer"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ConfigError, match=message):
        ant.make(**kwargs)


def test_wrong_action_shapes_raise():
    env = half_cheetah.make()
    _, state = env.reset(jax.random.key(0))
    with pytest.raises(ValueError, match=r"shape \(6,\), got \(7,\)"):
        env.step(jax.random.key(0), state, jnp.zeros(7))


def test_unknown_fields_raise():
    with pytest.raises(ValueError, match="'cfrc_exterior'"):
        c.make_engine(load_model("ant.xml"), 5, ("cfrc_exterior",))


def test_gpu_backends_are_refused(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    env = ant.make(engine="mujoco", route="native")
    with pytest.raises(EngineError, match="JAX_PLATFORMS=cpu"):
        env.reset(jax.random.key(0))


def test_making_an_environment_compiles_nothing(monkeypatch):
    monkeypatch.setattr(ffi, "load_library", lambda: pytest.fail("compiled"))
    env = ant.make()
    assert env.observation_space.shape == (105,)


FORK = """
import os, signal, warnings
warnings.simplefilter("ignore")  # JAX warns of forks, because its own larger programs then deadlock
import jax, numpy as np
from purerl.envs.mujoco.engine import c
from purerl.envs.mujoco.options import load_model
jax.config.update("jax_cpu_enable_async_dispatch", False)
model = load_model("half_cheetah.xml")
engine = c.make_engine(model, 5, num_threads=2)
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
print("both step", flush=True)
os._exit(0)
"""


def test_a_forked_child_can_step():
    """XLA's threads do not exist there, so the helpers of a batch never start."""
    done = run_python(FORK)
    assert done.stdout.strip() == "both step", done.stderr


ROWS = """
import jax, jax.numpy as jnp, numpy as np, purerl
from purerl import rollout
env, numbers = purerl.make_env("half_cheetah"), np.random.default_rng(0)
start = rollout.start(env, jax.random.key(0), 8).state
step = jax.jit(jax.vmap(env.step))
keys, action = jax.random.split(jax.random.key(1), 8), jnp.ones((8, 6))
sound = np.asarray(start.physics.row).view(np.float64)
for attempt in range(100):
    row = sound.copy()
    where = numbers.random(row.shape) < 0.2
    row[where] = (numbers.normal(size=row.shape) * 10 ** numbers.uniform(-9, 99, row.shape))[where]
    row[numbers.random(row.shape) < 0.02 * (attempt % 3)] = (np.nan, np.inf, -np.inf)[attempt % 3]
    bits = lambda like: numbers.integers(0, 2**32, like.shape, np.uint32)
    row = row.view(np.uint32) if attempt % 2 else bits(start.physics.row)
    tracked = bits(start.physics.tracked)
    row[4:], tracked[4:] = start.physics.row[4:], start.physics.tracked[4:]
    state = start._replace(physics=start.physics._replace(row=jnp.array(row), tracked=jnp.array(tracked)))
    seen = []
    for _ in range(3):
        obs, state, reward, *_ = step(keys, state, action)
        assert np.isfinite(obs).all() and np.isfinite(reward).all()
        seen.append(np.asarray(obs[4:]))
    if attempt:
        assert (np.array(seen) == known).all()
    known = np.array(seen)
print("survived")
"""


@slow
def test_no_row_of_bits_ends_the_process():
    """C MuJoCo gets back a checkpoint's opaque rows: no bits crash it, hang it or reach a neighbour."""
    done = run_python(ROWS, JAX_PLATFORMS="cpu", PYTHONWARNINGS="ignore")
    assert (done.returncode, done.stdout) == (0, "survived\n"), done.stderr[-2000:]


WITHOUT_MUJOCO = """
import sys
import jax
import purerl
from purerl.experiment.population import Population
def started(self, poll):
    raise SystemExit(0)
Population.compile = started
start = Population.start
def start_and_look(self):
    snapshot = jax.block_until_ready(start(self))
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(snapshot.state.algo.replay)) > 1e8
    print([name for name in sys.modules if name.split(".")[0] in ("mujoco", "mujoco_mjx")])
    print(sum("mujoco" in line for line in open("/proc/self/maps")))
    return snapshot
Population.start = start_and_look
fields = dict(env="pendulum", buffer_size=4_000_000, total_timesteps=4_000_000, hidden_sizes=(4,))
purerl.run(purerl.make_config("sac", **fields), progress=False)
"""


@slow
def test_a_large_replay_buffer_needs_no_mujoco():
    """Neither its library nor a build of the native engine."""
    done = run_python(WITHOUT_MUJOCO)
    assert (done.returncode, done.stdout.split("\n")) == (0, ["[]", "0", ""]), done.stderr[-2000:]
