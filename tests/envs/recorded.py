"""Recordings of Gymnasium's MuJoCo tasks, and comparisons of purerl's tasks with them.

Rows and tracked fields come from the same C library on both sides, so their bits are compared. Numbers that
XLA computes (rewards, sums) are compared within a tolerance.
"""

import importlib
from unittest import mock

import gymnasium
import jax
import jax.numpy as jnp
import mujoco
import numpy as np

IDS = {
    "ant": "Ant-v5",
    "half_cheetah": "HalfCheetah-v5",
    "hopper": "Hopper-v5",
    "humanoid": "Humanoid-v5",
    "humanoid_standup": "HumanoidStandup-v5",
    "inverted_double_pendulum": "InvertedDoublePendulum-v5",
    "inverted_pendulum": "InvertedPendulum-v5",
    "pusher": "Pusher-v5",
    "reacher": "Reacher-v5",
    "swimmer": "Swimmer-v5",
    "walker2d": "Walker2d-v5",
}
TASKS = tuple(IDS)
MODULES = {task: importlib.import_module(f"purerl.envs.mujoco.tasks.{task}") for task in TASKS}
ROW = mujoco.mjtState.mjSTATE_INTEGRATION
COMPUTED = {"inverted_double_pendulum": [1, 2, 3, 4], "reacher": [0, 1, 2, 3, 8, 9]}
"""Entries of observations that XLA computes; the others are rounded by the engine."""


def make_gym(task, **kwargs):
    return gymnasium.make(IDS[task], disable_env_checker=True, **kwargs)


def description(task, **kwargs):
    """Return the `Task` that purerl's task passes to `make_env`."""
    with mock.patch.object(MODULES[task], "make_env", lambda task, setup: task):
        return MODULES[task].make(**kwargs)


def bits_of(gym_env, tracked):
    """Return the bits of a Gymnasium environment's state and of its tracked fields."""
    model, data = gym_env.unwrapped.model, gym_env.unwrapped.data
    row = np.zeros(mujoco.mj_stateSize(model, ROW))
    mujoco.mj_getState(model, data, row, ROW)
    values = np.concatenate([np.zeros(0), *(np.ravel(getattr(data, name)) for name in tracked)])
    return row.view(np.uint32), values.view(np.uint32)


def inject(state, row, tracked):
    """Return `state` with the physics of a Gymnasium environment."""
    return state._replace(physics=state.physics._replace(row=row, tracked=tracked))


def blank(env):
    """Return a state of zeros."""
    shapes = jax.eval_shape(env.reset, jax.random.key(0))[1]
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


def record(task, num_steps, scale=1.0, far=0.0, speed=0.0, **kwargs):
    """Return Gymnasium's transitions under full-range random actions, stacked over time.

    Actions are multiplied by `scale`. Episodes start `far` along the first coordinate, and with
    velocities normal with `speed` beside the task's own.
    """
    env, tracked = make_gym(task, **kwargs), description(task).tracked
    rng, steps, time = np.random.default_rng(0), [], 0
    env.reset(seed=0)
    for _ in range(num_steps):
        if time == 0 and (far or speed):
            data = env.unwrapped.data
            qpos = data.qpos + far * (np.arange(data.qpos.size) == 0)
            env.unwrapped.set_state(qpos, data.qvel + speed * rng.normal(size=data.qvel.size))
        action = scale * rng.uniform(env.action_space.low, env.action_space.high)
        action = action.astype(np.float32)
        before = bits_of(env, tracked)
        obs, reward, terminated, truncated, info = env.step(action)
        data = env.unwrapped.data
        steps.append(
            dict(before=before, action=action, time=time, after=bits_of(env, tracked), obs=obs)
            | dict(reward=reward, terminated=terminated, truncated=truncated, info=info)
            | dict(qpos=data.qpos.copy(), qvel=data.qvel.copy(), cfrc_ext=data.cfrc_ext.copy())
        )
        time += 1
        if terminated or truncated:
            env.reset()
            time = 0
    return jax.tree.map(lambda *leaves: np.stack(leaves), *steps)


def assert_same_obs(task, obs, theirs, qpos):
    """Check bits of rounded entries, and a tolerance for computed ones: sines of large angles lose most."""
    assert obs.dtype == np.float32
    theirs, columns = theirs.astype(np.float32), COMPUTED.get(task, [])
    np.testing.assert_array_equal(*(np.delete(x, columns, axis=-1) for x in (obs, theirs)))
    allowed = 2e-7 + 6e-8 * np.abs(qpos).max(-1, keepdims=True)
    assert (np.abs(obs - theirs)[..., columns] <= allowed).all()


def assert_same(task, result, gym):
    """Check `(obs, state, reward, terminated, truncated, info)` against Gymnasium's."""
    obs, state, reward, terminated, truncated, info = jax.tree.map(np.asarray, result)
    np.testing.assert_array_equal(state.physics.row, gym["after"][0])
    np.testing.assert_array_equal(state.physics.tracked, gym["after"][1])
    assert_same_obs(task, obs, gym["obs"], gym["qpos"])
    np.testing.assert_array_equal(terminated, gym["terminated"])
    np.testing.assert_array_equal(truncated, gym["truncated"])
    np.testing.assert_allclose(reward, gym["reward"], rtol=1e-5, atol=3e-6)
    assert set(info) == {*gym["info"], "diverged"}
    for name, value in gym["info"].items():
        assert info[name].dtype == np.float32
        np.testing.assert_allclose(info[name], value, rtol=2e-6, atol=1e-6, err_msg=name)
    assert not info["diverged"].any()


def follow(env, gym):
    """Return purerl's steps under the recorded actions, from the starts of Gymnasium's episodes."""

    def step(state, at):
        start = inject(state, *at["before"])._replace(time=jnp.int32(0))
        state = jax.tree.map(lambda new, old: jnp.where(at["time"] == 0, new, old), start, state)
        result = env.step(jax.random.key(0), state, at["action"])
        return result[1], result

    inputs = {name: gym[name] for name in ("before", "action", "time")}
    return jax.jit(lambda state: jax.lax.scan(step, state, inputs)[1])(blank(env))


def vmapped_step(env, num_axes=1):
    """Return `(params, gym) -> result` of one step from each recorded state, as NumPy arrays."""

    def step(params, before, time, action):
        state = inject(blank(env), *before)._replace(time=jnp.asarray(time, jnp.int32))
        return env.step(jax.random.key(0), state, action, params)

    for _ in range(num_axes):
        step = jax.vmap(step, in_axes=(None, 0, 0, 0))
    run = jax.jit(step)
    inputs = lambda gym: (gym["before"], gym["time"], gym["action"])
    return lambda params, gym: jax.tree.map(np.asarray, run(params, *inputs(gym)))
