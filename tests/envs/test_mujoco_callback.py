"""The callback route gives the bits of the native one, and runs only where that cannot.

Bits are compared between engines, whose numbers all come from the same C library: the inputs are NumPy
arrays, and the programs around the two calls only slice the results.
"""

import logging
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recorded import TASKS, description

import purerl
from purerl.envs.mujoco.engine import c, ffi
from purerl.envs.mujoco.engine.physics import EngineError
from purerl.envs.mujoco.options import ASSETS, load_model
from purerl.envs.mujoco.tasks import ant, half_cheetah

ROOT = Path(__file__).parents[2]
NUM_STEPS = 20
ROUTES = {"native": 1, "callback": 3}
"""Route -> number of threads."""
FIELDS = {"rover": (("sensordata",), ("qpos",))}
slow = pytest.mark.slow


@cache
def engine(task, route, num_axes=1):
    """Return a task's model and the `(reset, step)` of its engine, jitted, under `num_axes` vmaps."""
    if task in FIELDS:
        model, frame_skip, (fields, tracked) = load_model(ASSETS / f"{task}.xml"), 5, FIELDS[task]
    else:
        given = description(task)
        model, frame_skip, fields, tracked = given.model, given.frame_skip, given.fields, given.tracked
    made = c.make_engine(model, frame_skip, fields, tracked, ROUTES[route], route)
    reset, step = (lambda *args: made.reset(*args, {})), (lambda *args: made.step(*args, {}))
    for _ in range(num_axes):
        reset, step = jax.vmap(reset), jax.vmap(step)
    return model, jax.jit(reset), jax.jit(step)


def play(task, route, shape=(12,), num_steps=NUM_STEPS, seed=0):
    """Return everything that the engine reports under random actions, with random masked resets."""
    model, reset, step = engine(task, route, len(shape))
    rng, seen = np.random.default_rng(seed), []
    low, high = model.actuator_ctrlrange.astype(np.float32).T

    def start(needed):
        qpos = model.qpos0 + rng.uniform(-0.1, 0.1, (*shape, model.nq))
        qvel = rng.normal(size=(*shape, model.nv))
        return reset(needed, qpos.astype(np.float32), qvel.astype(np.float32))

    physics = start(np.ones(shape, bool))
    for _ in range(num_steps):
        scale = np.where(rng.random((*shape, 1)) < 0.1, 10, 1)
        ctrl = scale * rng.uniform(low, high, (*shape, model.nu))
        physics = step(physics, ctrl.astype(np.float32))
        ended = rng.random(shape) < 0.1
        fresh = start(ended)
        seen.append(jax.tree.map(np.asarray, (physics, fresh)))
        physics = jax.tree.map(partial(choose, ended), *seen[-1][::-1])
    return seen


def choose(ended, new, old):
    return np.where(ended.reshape(ended.shape + (1,) * (new.ndim - ended.ndim)), new, old)


def same(a, b):
    """Check the bits of every leaf: NaN equals NaN, and 0 differs from -0."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    leaves = (map(np.asarray, jax.tree.leaves(tree)) for tree in (a, b))
    for one, other in zip(*leaves, strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize(
    "task", [pytest.param(task, marks=[slow] * (task not in ("ant", "rover"))) for task in (*TASKS, "rover")]
)
def test_routes_give_the_same_bits(task):
    """In one thread and in three, with resets where they are needed."""
    ours, native = play(task, "callback"), play(task, "native")
    same(ours, native)
    assert len({physics.row.tobytes() for physics, _ in ours}) == NUM_STEPS
    assert all(np.isfinite(physics.qpos).all() for physics, _ in ours)


@pytest.mark.parametrize("shape", [(), (2, 6)])
def test_routes_agree_on_any_axes(shape):
    same(play("half_cheetah", "callback", shape, 5), play("half_cheetah", "native", shape, 5))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30, 1e9])
def test_routes_diverge_alike(bad):
    """Under actions that are not finite, and from states that are not."""
    seen = {}
    for route in ROUTES:
        model, reset, step = engine("half_cheetah", route)
        physics = reset(np.ones(24, bool), np.tile(np.float32(model.qpos0), (24, 1)), np.ones((24, 9), "f4"))
        ctrl = np.zeros((24, 6), np.float32)
        ctrl[::5, 2] = bad
        bits, tracked = np.array(physics.row), np.array(physics.tracked)
        for sim in range(12):
            bits.view(np.float64)[sim, sim] = bad  # time, qpos [9], qvel [9], ...
        tracked.view(np.float64)[12:16, 0] = bad
        seen[route] = step(physics._replace(row=bits, tracked=tracked), ctrl)
    same(seen["callback"], seen["native"])
    diverged = np.asarray(seen["native"].diverged)
    assert diverged[1:12].any() and not diverged[[16, 17, 18, 19]].any()
    assert not Path("MUJOCO_LOG.TXT").exists()


def test_calls_from_several_threads_do_not_mix():
    """One plan, calls of several sizes at once, each the same program as alone."""
    sizes = [1, 3, 8, 17]
    run = lambda size: play("half_cheetah", "callback", (size,), seed=size)
    alone = [run(size) for size in sizes]
    with ThreadPoolExecutor(len(sizes)) as pool:
        same(list(pool.map(run, sizes, timeout=120)), alone)


@pytest.fixture
def no_compiler(monkeypatch):
    def refuse(plan):
        raise EngineError("no compiler was found, so\nthe advice is long")

    c.warn_once.cache_clear()
    monkeypatch.setattr(ffi, "make_route", refuse)
    yield
    c.warn_once.cache_clear()


def test_one_warning_without_the_native_route(no_compiler, caplog):
    for _ in range(2):
        env = half_cheetah.make()
        for seed in range(2):
            _, state = env.reset(jax.random.key(seed))
    assert len(caplog.records) == 1
    record = caplog.records[0]
    assert record.levelno == logging.WARNING and record.name == "purerl.envs.mujoco.engine.c"
    text = record.getMessage()
    assert "\n" not in text and "Python callbacks" in text and text.endswith("no compiler was found, so")
    jax.block_until_ready(env.step(jax.random.key(0), state, jnp.zeros(6)))


def test_the_native_route_by_name_has_no_fallback(no_compiler, caplog):
    with pytest.raises(EngineError, match="the advice is long"):
        ant.make(route="native").reset(jax.random.key(0))
    assert not caplog.records


def run_python(code, **environment):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


@slow
def test_environments_run_without_a_compiler(tmp_path):
    code = """if True:
        import sys
        sys.modules["ziglang"] = None
        import jax
        from purerl.envs.mujoco.tasks import ant
        env = ant.make()
        state = env.reset(jax.random.key(0))[1]
        print(env.step(jax.random.key(0), state, jax.numpy.zeros(8))[0].shape)
    """
    done = run_python(code, PATH="", CXX="", XDG_CACHE_HOME=str(tmp_path), HOME=str(tmp_path))
    assert done.returncode == 0 and done.stdout == "(105,)\n", done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and "Python callbacks" in lines[0] and "no C++ compiler was found" in lines[0]


@slow
def test_training_through_callbacks_ends():
    """In a process of its own, because the failure is a program that waits for its own callback."""
    code = """if True:
        import faulthandler
        faulthandler.dump_traceback_later(280, exit=True)
        import jax, purerl
        cfg = purerl.make_config(
            "ppo", env="hopper", env_kwargs={"route": "callback", "num_threads": 2}, num_envs=8, num_steps=64,
            num_minibatches=2, num_epochs=2, hidden_sizes=(16,), total_timesteps=4096, log_interval=1024,
            eval_interval=2048, eval_episodes=2,
        )
        out = jax.jit(jax.vmap(purerl.make_train(cfg)))(jax.random.split(jax.random.key(0), 2))
        print("finished", out.metrics["step"].shape, bool((out.state.diverged_at < 0).all()))
    """
    done = run_python(code)
    assert done.stdout == "finished (2, 4) True\n", done.stderr


def test_both_routes_run_a_whole_environment():
    """Rewards of XLA's arithmetic agree to rounding, under masked resets."""
    seen = []
    for route in ROUTES:
        env = purerl.make_env("ant", engine="mujoco", route=route)
        keys = jax.random.split(jax.random.key(0), 3)
        _, state = jax.jit(jax.vmap(env.reset, (0, None, 0)))(keys, None, np.array([True, False, True]))
        action = np.full((3, 8), 0.3, np.float32)
        result = jax.jit(jax.vmap(env.step))(keys, state, action)
        seen.append(jax.tree.map(lambda leaf: np.asarray(leaf)[[0, 2]], (*result[:1], *result[2:])))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), *seen)
