"""The native MuJoCo engine and its tasks against Gymnasium's own, bit for bit where bits exist."""

import hashlib
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import gymnasium
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from scipy import stats

from purerl.config import ConfigError
from purerl.envs.mujoco import ant, build, half_cheetah, host, native
from purerl.envs.mujoco.options import ASSETS, load_model
from purerl.envs.mujoco.physics import EngineError

ROOT = Path(__file__).parents[2]
MODULES = {"ant": ant, "half_cheetah": half_cheetah}
IDS = {"ant": "Ant-v5", "half_cheetah": "HalfCheetah-v5"}
TRACKED = {"ant": "xpos", "half_cheetah": "qpos"}
ROW = mujoco.mjtState.mjSTATE_INTEGRATION
TASKS = sorted(MODULES)
UNUSUAL = {
    "ant": dict(
        frame_skip=3,
        forward_reward_weight=0.7,
        ctrl_cost_weight=0.3,
        contact_cost_weight=2e-3,
        healthy_reward=0.4,
        main_body="aux_1",
        terminate_when_unhealthy=False,
        healthy_z_range=(0.4, 0.8),
        contact_force_range=(-0.5, 0.7),
        reset_noise_scale=0.05,
        exclude_current_positions_from_observation=False,
        include_cfrc_ext_in_observation=False,
    ),
    "half_cheetah": dict(
        frame_skip=3,
        forward_reward_weight=0.7,
        ctrl_cost_weight=0.3,
        reset_noise_scale=0.05,
        exclude_current_positions_from_observation=False,
    ),
}


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    """MuJoCo appends to MUJOCO_LOG.TXT in the working directory: let that be a scratch folder."""
    monkeypatch.chdir(tmp_path)


def row_bits(model, data):
    row = np.zeros(mujoco.mj_stateSize(model, ROW))
    mujoco.mj_getState(model, data, row, ROW)
    return row.view(np.uint32)


def bits_of(task, gym_env):
    """What of a Gymnasium environment goes on: the bits of its state and of its tracked field."""
    model, data = gym_env.unwrapped.model, gym_env.unwrapped.data
    tracked = np.ascontiguousarray(getattr(data, TRACKED[task])).reshape(-1)
    return row_bits(model, data), tracked.copy().view(np.uint32)


def inject(state, row, tracked):
    """Our environment's state, standing where a Gymnasium environment stands."""
    return state._replace(physics=state.physics._replace(row=row, tracked=tracked))


def record(task, num_steps=1000, scale=1.0, far=0.0, **kwargs):
    """Gymnasium's own transitions under full-range random actions, stacked over time."""
    env = gymnasium.make(IDS[task], **kwargs)
    env.reset(seed=0)
    if far:
        data = env.unwrapped.data
        env.unwrapped.set_state(data.qpos + far * (np.arange(data.qpos.size) == 0), data.qvel)
    rng, steps, new = np.random.default_rng(0), [], True
    for _ in range(num_steps):
        action = scale * rng.uniform(env.action_space.low, env.action_space.high)
        action = action.astype(np.float32)
        before = bits_of(task, env)
        obs, reward, terminated, truncated, info = env.step(action)
        after = bits_of(task, env)
        cfrc_ext = env.unwrapped.data.cfrc_ext.copy()
        steps.append(
            dict(before=before, action=action, new=new, after=after, obs=obs, reward=reward)
            | dict(terminated=terminated, truncated=truncated, info=info, cfrc_ext=cfrc_ext)
        )
        new = terminated or truncated
        if new:
            env.reset()
    return jax.tree.map(lambda *leaves: np.stack(leaves), *steps)


@pytest.fixture(scope="module")
def recorded():
    """Recordings of this module, each made once."""
    made = {}

    def get(task, unusual=False):
        if (task, unusual) not in made:
            made[task, unusual] = record(task, **(UNUSUAL[task] if unusual else {}))
        return made[task, unusual]

    return get


def assert_same(result, gym):
    """Our `(obs, state, reward, terminated, truncated, info)` are Gymnasium's."""
    obs, state, reward, terminated, truncated, info = jax.tree.map(np.asarray, result)
    np.testing.assert_array_equal(state.physics.row, gym["after"][0])
    np.testing.assert_array_equal(state.physics.tracked, gym["after"][1])
    assert obs.dtype == np.float32
    np.testing.assert_array_equal(obs, gym["obs"].astype(np.float32))
    np.testing.assert_array_equal(terminated, gym["terminated"])
    np.testing.assert_array_equal(truncated, gym["truncated"])
    np.testing.assert_allclose(reward, gym["reward"], rtol=1e-5, atol=3e-6)
    assert set(info) == {*gym["info"], "diverged"}
    for name, value in gym["info"].items():
        assert info[name].dtype == np.float32
        np.testing.assert_allclose(info[name], value, rtol=2e-6, atol=1e-6, err_msg=name)
    assert not info["diverged"].any()


def follow(env, gym):
    """Our own 1,000 steps under the recorded actions, starting where Gymnasium's episodes start."""

    def step(state, at):
        start = inject(state, *at["before"])._replace(time=jnp.int32(0))
        state = jax.tree.map(lambda new, old: jnp.where(at["new"], new, old), start, state)
        result = env.step(jax.random.key(0), state, at["action"])
        return result[1], result

    _, state = env.reset(jax.random.key(0))
    inputs = {name: gym[name] for name in ("before", "action", "new")}
    return jax.jit(lambda state: jax.lax.scan(step, state, inputs)[1])(state)


@pytest.mark.parametrize("unusual", [False, True], ids=["default", "unusual"])
@pytest.mark.parametrize("task", TASKS)
def test_a_thousand_steps_are_gymnasiums(task, unusual, recorded):
    gym = recorded(task, unusual)
    env = MODULES[task].make(**(UNUSUAL[task] if unusual else {}))
    result = follow(env, gym)
    assert_same(result, gym)
    if task == "ant":
        contact = np.asarray(result[1].physics.fields["cfrc_ext"])
        np.testing.assert_array_equal(contact, gym["cfrc_ext"].astype(np.float32))
        assert (np.abs(gym["cfrc_ext"]).max((1, 2)) > 1).sum() > 50
        assert unusual or gym["terminated"].sum() >= 2
    else:
        assert gym["truncated"].sum() == 1


@pytest.mark.parametrize("shape", [(64,), (3, 16)], ids=["envs", "seeds x envs"])
@pytest.mark.parametrize("task", TASKS)
def test_batches_are_gymnasiums(task, shape, recorded):
    env = MODULES[task].make()
    count = int(np.prod(shape))
    gym = jax.tree.map(lambda leaf: leaf[:count].reshape(shape + leaf.shape[1:]), recorded(task))
    _, state = env.reset(jax.random.key(0))

    def step(row, tracked, action):
        return env.step(jax.random.key(0), inject(state, row, tracked), action)

    for _ in shape:
        step = jax.vmap(step)
    assert_same(jax.jit(step)(*gym["before"], gym["action"]), gym)


@pytest.mark.parametrize("task", TASKS)
def test_velocity_is_exact_far_from_the_origin(task):
    assert_same(follow(MODULES[task].make(), gym := record(task, 10, far=1e6)), gym)


@pytest.mark.parametrize("task", TASKS)
def test_actions_beyond_their_range_cost_what_they_are(task):
    gym = record(task, 5, scale=1e3)
    assert_same(follow(MODULES[task].make(), gym), gym)


@pytest.mark.parametrize("task", TASKS)
def test_reset_is_gymnasiums(task, recorded):
    env = MODULES[task].make()
    key = jax.random.key(3)
    gym = recorded(task)
    hit = np.abs(gym["cfrc_ext"]).max((1, 2)).argmax()
    row, tracked = gym["before"][0][hit], gym["before"][1][hit]
    used = env.step(key, inject(env.reset(key)[1], row, tracked), gym["action"][hit])[1]
    assert jax.tree.all(jax.tree.map(jnp.any, used.physics.fields)), "contact, to be forgotten"
    gym_env = gymnasium.make(IDS[task]).unwrapped
    gym_env.reset(seed=0)
    gym_env.step(gym_env.action_space.sample())
    obs, state = jax.jit(env.reset)(key)
    mujoco.mj_resetData(gym_env.model, gym_env.data)
    gym_env.set_state(np.float64(state.physics.qpos), np.float64(state.physics.qvel))
    row, tracked = bits_of(task, gym_env)
    np.testing.assert_array_equal(state.physics.row, row)
    np.testing.assert_array_equal(state.physics.tracked, tracked)
    np.testing.assert_array_equal(obs, gym_env._get_obs().astype(np.float32))
    assert state.time == 0 and not state.physics.diverged
    assert all((np.asarray(change) == 0).all() for change in state.physics.change.values())


@pytest.mark.parametrize("task", TASKS)
def test_reset_draws_from_gymnasiums_distribution(task):
    env = MODULES[task].make(reset_noise_scale=0.2)
    obs, state = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 1000))
    model = gymnasium.make(IDS[task]).unwrapped.model
    position = np.asarray(state.physics.qpos) - model.qpos0
    velocity = np.asarray(state.physics.qvel)
    assert len(np.unique(obs, axis=0)) == 1000
    assert np.abs(position).max() <= 0.2 + 1e-6
    for column in position.T:
        assert stats.kstest(column, stats.uniform(-0.2, 0.4).cdf).pvalue > 1e-4
    for column in velocity.T:
        assert stats.kstest(column, stats.norm(0, 0.2).cdf).pvalue > 1e-4
    correlation = np.corrcoef(np.hstack([position, velocity]).T) - np.eye(model.nq + model.nv)
    assert np.abs(correlation).max() < 0.15


@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_reset_only_where_needed(shape):
    env = half_cheetah.make()
    keys = jax.random.split(jax.random.key(0), shape)
    needed = jnp.arange(int(np.prod(shape))).reshape(shape) % 2 == 0
    everywhere, masked = env.reset, lambda key, needed: env.reset(key, None, needed)
    for _ in shape:
        everywhere, masked = jax.vmap(everywhere), jax.vmap(masked)
    full, some = jax.jit(everywhere)(keys), jax.jit(masked)(keys, needed)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[needed], b[needed]), full, some)
    assert not np.asarray(some[1].physics.row)[~np.asarray(needed)].any(), "physics was computed"
    program = str(jax.make_jaxpr(masked)(keys, needed))
    assert "while[" in program, "where nothing ends, nothing should be drawn"


@pytest.mark.parametrize("task", TASKS)
def test_time_limit(task):
    env = MODULES[task].make()
    _, state = env.reset(jax.random.key(0))
    action = jnp.zeros(env.action_space.shape)
    step = jax.jit(lambda time: env.step(jax.random.key(0), state._replace(time=time), action))
    assert env.max_episode_steps == 1000
    assert [bool(step(jnp.int32(time))[4]) for time in (0, 998, 999, 1000)] == [0, 0, 1, 1]
    assert int(step(jnp.int32(7))[1].time) == 8


def test_termination_and_time_limit_may_coincide():
    env = ant.make(healthy_z_range=(5.0, 6.0))
    _, state = env.reset(jax.random.key(0))
    state = state._replace(time=jnp.int32(999))
    _, _, _, terminated, truncated, info = env.step(jax.random.key(0), state, jnp.zeros(8))
    assert terminated and truncated
    assert info["reward_survive"] == 0 and info["diverged"] == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_actions_that_are_no_numbers_end_the_episode(bad):
    env = ant.make()
    _, state = env.reset(jax.random.key(0))
    action = jnp.zeros(8).at[3].set(bad)
    obs, state, reward, terminated, _, info = jax.jit(env.step)(jax.random.key(0), state, action)
    assert terminated and reward == 0 and info["diverged"] == 1
    assert np.isfinite(obs).all() and all(np.isfinite(value) for value in info.values())
    assert not Path("MUJOCO_LOG.TXT").exists()


def test_a_diverging_simulation_is_masked_and_alone():
    env = half_cheetah.make()
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


def test_an_error_inside_mujoco_is_a_diverged_simulation():
    xml = (ASSETS / "ant.xml").read_text()
    xml = xml.replace("<default>", '<size memory="16K"/><default>', 1)  # too little for contacts
    engine = host.make_engine(mujoco.MjModel.from_xml_string(xml), 5, ("cfrc_ext",), ("xpos",))
    qpos = np.float32([0, 0, 0.75, 1] + [0] * 11)
    qpos = np.stack([qpos, qpos - np.float32(0.75) * (np.arange(15) == 2)])
    physics = jax.vmap(engine.reset)(jnp.ones(2, bool), qpos, jnp.zeros((2, 14)), {})
    np.testing.assert_array_equal(physics.diverged, [False, True])
    in_the_floor = np.array(physics.row)
    in_the_floor.view(np.float64)[:, 1:16] = qpos
    physics = jax.vmap(engine.step)(physics._replace(row=in_the_floor), jnp.zeros((2, 8)), {})
    np.testing.assert_array_equal(physics.diverged, [False, True])
    jax.tree.map(lambda leaf: np.testing.assert_array_equal(leaf, np.nan_to_num(leaf)), physics)


def test_warnings_of_other_simulations_still_go_where_they_went(capfd):
    half_cheetah.make()
    model = load_model("half_cheetah.xml")
    data = mujoco.MjData(model)
    data.qpos[0] = np.nan
    mujoco.mj_step(model, data)
    assert Path("MUJOCO_LOG.TXT").exists()


def test_parameters_vmap():
    env = half_cheetah.make()
    _, state = env.reset(jax.random.key(0))
    weights = np.float32([0.0, 0.5])
    params = env.default_params._replace(ctrl_cost_weight=weights)
    axes = type(params)(*(0 if name == "ctrl_cost_weight" else None for name in params._fields))
    step = jax.vmap(env.step, in_axes=(None, None, None, axes))
    info = step(jax.random.key(0), state, jnp.ones(6), params)[5]
    np.testing.assert_allclose(info["reward_ctrl"], -6 * weights)


def test_thread_count_changes_no_bits():
    model = load_model("ant.xml")
    rng = np.random.default_rng(0)
    qpos = (model.qpos0 + rng.uniform(-0.1, 0.1, (64, model.nq))).astype(np.float32)
    qvel, ctrl = rng.normal(size=(64, model.nv)), rng.normal(size=(64, model.nu))

    def run(num_threads):
        engine = host.make_engine(model, 5, ("cfrc_ext",), ("xpos",), num_threads)
        physics = jax.vmap(engine.reset)(np.ones(64, bool), qpos, qvel.astype(np.float32), {})
        step = jax.jit(jax.vmap(engine.step))
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
        _, state = reset(jax.random.split(jax.random.key(seed), 4))
        for _ in range(50):
            state = step(state)
        return np.asarray(state.physics.row)

    alone = [run(seed) for seed in range(4)]
    together = [None] * 4
    work = lambda seed: together.__setitem__(seed, run(seed))
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    np.testing.assert_array_equal(alone, together)


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
from purerl.envs.mujoco import ant
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
        from purerl.envs.mujoco import ant
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


@pytest.mark.parametrize("task", TASKS)
def test_our_model_is_gymnasiums_to_the_last_byte(task, capfd):
    def image(path):
        model = mujoco.MjModel.from_xml_path(str(path))
        buffer = np.zeros(mujoco.mj_sizeModel(model), np.uint8)
        mujoco.mj_saveModel(model, None, buffer)
        return hashlib.sha256(buffer).hexdigest()

    ours = image(ASSETS / f"{task}.xml")
    assert capfd.readouterr() == ("", ""), "loading our model should print nothing"
    folder = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"
    assert ours == image(folder / f"{task}.xml")


@pytest.mark.parametrize("task", TASKS)
def test_spaces(task):
    env, gym_env = MODULES[task].make(), gymnasium.make(IDS[task])
    assert env.action_space == gym_env.action_space
    assert env.observation_space.shape == gym_env.observation_space.shape
    assert env.observation_space.dtype == np.float32
    assert env.name == task


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
