"""The callback route gives the bits of the native one, and steps in only where that cannot run."""

import logging
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import AS_USERS_DO
from recorded import TASKS

import purerl
from purerl.envs.mujoco.engine.physics import EngineError
from purerl.envs.mujoco.tasks import ant, half_cheetah, host, native

ROOT = Path(__file__).parents[2]
NUM_STEPS = 30
as_users_do = partial(jax.jit, compiler_options=AS_USERS_DO)


def make(task, **kwargs):
    return purerl.make_env(task, engine="mujoco", **kwargs)


def same(a, b):
    """Every leaf, in its bits: NaN is NaN, and 0 is not -0."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    leaves = (map(np.asarray, jax.tree.leaves(tree)) for tree in (a, b))
    for one, other in zip(*leaves, strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert one.tobytes() == other.tobytes()


def rollout(env, shape, scale=1.0):
    """All that comes of random actions, a tenth of them `scale` times as large, with masked resets."""
    reset, step = (lambda key, needed: env.reset(key, None, needed)), env.step
    for _ in shape:
        reset, step = jax.vmap(reset), jax.vmap(step)
    low, high = env.action_space.low, env.action_space.high

    def advance(carry, key):
        state, over = carry
        key_reset, key_act, key_large, key_step = jax.random.split(key, 4)
        start = reset(jax.random.split(key_reset, shape), over)
        over_like = lambda leaf: over.reshape(over.shape + (1,) * (leaf.ndim - over.ndim))
        start = jax.tree.map(lambda leaf: jnp.where(over_like(leaf), leaf, jnp.zeros_like(leaf)), start)
        pick = lambda new, old: jnp.where(over_like(new), new, old)
        state = jax.tree.map(pick, start[1], state)
        action = jax.random.uniform(key_act, (*shape, *low.shape), minval=low, maxval=high)
        large = jax.random.bernoulli(key_large, 0.1, (*shape, 1))
        action = jnp.where(large, scale * action, action)
        result = step(jax.random.split(key_step, shape), state, action)
        over = result[3] | jax.random.bernoulli(key, 0.1, shape)
        return (result[1], over), (start, result)

    @as_users_do
    def run(key):
        state = reset(jax.random.split(key, shape), jnp.ones(shape, bool))[1]
        return jax.lax.scan(advance, (state, jnp.zeros(shape, bool)), jax.random.split(key, NUM_STEPS))[1]

    return jax.tree.map(np.asarray, run(jax.random.key(7)))


@pytest.mark.parametrize("task", [*TASKS, "rover"])
def test_the_routes_are_equal_to_the_bit(task):
    """Nested, in three threads and in one, resets where they are needed."""
    ours = rollout(make(task, route="callback", num_threads=3), (2, 6), scale=10.0)
    theirs = rollout(make(task, route="native", num_threads=1), (2, 6), scale=10.0)
    same(ours, theirs)
    obs, state = ours[1][:2]
    assert np.isfinite(obs).all() and len(np.unique(state.physics.row[:, 0], axis=0)) == NUM_STEPS


def test_the_routes_are_equal_without_vmap_and_without_jit():
    seen = {}
    for route in ("native", "callback"):
        env = make("half_cheetah", route=route)
        _, state = start = env.reset(jax.random.key(3))
        step = env.step(jax.random.key(0), state, jnp.full(6, 0.3))
        rows = jax.vmap(env.reset)(jax.random.split(jax.random.key(1), 6))
        seen[route] = start, step, rows, rollout(env, ())
    same(seen["callback"], seen["native"])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30, 1e9])
def test_the_routes_break_down_alike(bad):
    """Under actions that are no numbers, and from states that are none."""
    seen = {}
    for route in ("native", "callback"):
        env = make("half_cheetah", route=route, num_threads=2)
        _, states = as_users_do(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 24))
        actions = np.zeros((24, 6), np.float32)
        actions[::5, 2] = bad
        bits, tracked = np.array(states.physics.row), np.array(states.physics.tracked)
        for sim in range(12):
            bits.view(np.float64)[sim, sim] = bad  # time, qpos [9], qvel [9], ...
        tracked.view(np.float64)[12:16, 0] = bad
        states = states._replace(physics=states.physics._replace(row=bits, tracked=tracked))
        seen[route] = as_users_do(jax.vmap(env.step, in_axes=(None, 0, 0)))(
            jax.random.key(0), states, actions
        )
    same(seen["callback"], seen["native"])
    diverged = np.asarray(seen["native"][5]["diverged"])
    assert diverged[1:12].any() and not diverged[[16, 17, 18, 19]].any()
    assert not Path("MUJOCO_LOG.TXT").exists()


def test_calls_from_several_threads_do_not_mix():
    """One plan, calls of several sizes at once."""
    env = make("half_cheetah", route="callback", num_threads=2)
    run = lambda size: rollout(env, (size,))
    sizes = [1, 3, 8, 17]
    alone = [run(size) for size in sizes]
    with ThreadPoolExecutor(len(sizes)) as pool:
        together = list(pool.map(run, sizes, timeout=120))
    same(together, alone)


@pytest.fixture
def no_compiler(monkeypatch):
    def refuse(plan):
        raise EngineError("no compiler was found, so\nthe advice is long")

    host.warn_once.cache_clear()
    monkeypatch.setattr(native, "make_route", refuse)
    yield
    host.warn_once.cache_clear()


def test_without_the_native_route_one_line_says_so(no_compiler, caplog):
    for _ in range(2):
        env = half_cheetah.make()
        for seed in range(2):
            _, state = env.reset(jax.random.key(seed))
            env.step(jax.random.key(0), state, jnp.zeros(6))
    assert len(caplog.records) == 1
    record = caplog.records[0]
    assert record.levelno == logging.WARNING and record.name == "purerl.envs.mujoco.engine.c"
    text = record.getMessage()
    assert "\n" not in text and "Python callbacks" in text and text.endswith("no compiler was found, so")
    ours, theirs = as_users_do(env.reset)(jax.random.key(0)), make("half_cheetah", route="callback")
    same(ours, as_users_do(theirs.reset)(jax.random.key(0)))


def test_the_native_route_by_name_is_that_or_an_error(no_compiler, caplog):
    with pytest.raises(EngineError, match="the advice is long"):
        ant.make(route="native").reset(jax.random.key(0))
    assert not caplog.records


def run_python(code, **environment):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_without_a_compiler_an_environment_still_runs(tmp_path):
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
    told = done.stderr.splitlines()
    assert len(told) == 1 and "Python callbacks" in told[0] and "no C++ compiler was found" in told[0]


def test_training_through_callbacks_ends():
    """In a process of its own: what it guards against is a program that waits for its own callback."""
    code = """if True:
        import faulthandler
        faulthandler.dump_traceback_later(110, exit=True)
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
