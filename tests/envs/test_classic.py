"""CartPole and Pendulum against Gymnasium, step for step."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import purerl
from purerl.envs.classic import cartpole, pendulum

IDS = {"cartpole": "CartPole-v1", "pendulum": "Pendulum-v1"}
STILL = {"cartpole": jnp.int32(0), "pendulum": jnp.zeros(1)}
STEPS = 10_000
# Both sides start each step from the same float32 numbers; they differ by our float32 arithmetic.
TOLERANCE = {"cartpole": dict(rtol=1e-5, atol=1e-6), "pendulum": dict(rtol=2e-5, atol=3e-5)}


def cartpole_states(rng):
    """Half from everyday play, half from all over, also beyond both limits."""
    near = rng.uniform(-0.3, 0.3, (STEPS // 2, 4)) * [8, 10, 0.7, 10]
    return np.concatenate([near, rng.normal(0, [2, 3, 0.3, 3], (STEPS // 2, 4))]).astype(np.float32)


def pendulum_states(rng):
    """Any angle of some turns, and speeds up to and at the limit."""
    theta, speed = rng.uniform(-20, 20, STEPS), np.clip(rng.uniform(-10, 10, STEPS), -8, 8)
    return np.stack([theta, speed], -1).astype(np.float32)


def gymnasium_steps(env, states, actions):
    """Gymnasium's own answers: `(obs, reward, terminated)` of every row."""
    env.reset(seed=0)
    rows = []
    for state, action in zip(states, actions, strict=True):
        env.state, env.steps_beyond_terminated = state.astype(np.float64), None
        obs, reward, terminated, _, _ = env.step(action)
        rows.append((obs, reward, terminated))
    return map(np.array, zip(*rows, strict=True))


def our_steps(name, env, states, actions):
    """The same rows in one program."""
    state = {"cartpole": cartpole, "pendulum": pendulum}[name].State(
        *states.T, jnp.zeros(len(states), jnp.int32)
    )
    step = jax.jit(jax.vmap(env.step, (None, 0, 0)))
    obs, _, reward, terminated, truncated, _ = step(jax.random.key(0), state, actions)
    return obs, reward, terminated, truncated


def random_rows(name, seed):
    rng = np.random.default_rng(seed)
    if name == "cartpole":
        return cartpole_states(rng), rng.integers(0, 2, STEPS)
    return pendulum_states(rng), rng.uniform(-3, 3, (STEPS, 1)).astype(np.float32)


def clear_of_thresholds(name, obs):
    """Not within 1e-6 of a limit, where float32 and float64 may fall on different sides."""
    if name == "pendulum":
        return np.ones(len(obs), bool)
    return (np.abs(np.abs(obs[:, [0, 2]]) - [2.4, np.pi / 15]) > 1e-6).all(-1)


@pytest.mark.parametrize("name", IDS)
def test_ten_thousand_steps_as_gymnasium(name):
    """Observation, reward and death of random steps from random states."""
    states, actions = random_rows(name, 0)
    oracle = gymnasium.make(IDS[name]).unwrapped
    obs, reward, terminated = gymnasium_steps(oracle, states, actions)
    got = our_steps(name, purerl.make_env(name), states, actions)
    np.testing.assert_allclose(got[0], obs, **TOLERANCE[name])
    np.testing.assert_allclose(got[1], reward, **TOLERANCE[name])
    clear = clear_of_thresholds(name, obs)
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(np.asarray(got[2])[clear], terminated[clear])
    assert name == "pendulum" or 0.1 < terminated.mean() < 0.9
    assert not got[3].any() and got[1].dtype == jnp.float32


@pytest.mark.parametrize(
    ("name", "ours", "theirs"),
    [
        ("cartpole", {"gravity": 5.0}, {"gravity": 5.0}),
        ("cartpole", {"force": 3.0, "tau": 0.05}, {"force_mag": 3.0, "tau": 0.05}),
        (
            "cartpole",
            {"half_length": 0.8, "mass_pole": 0.3, "mass_cart": 2.0},
            {"length": 0.8, "masspole": 0.3, "masscart": 2.0, "total_mass": 2.3, "polemass_length": 0.24},
        ),
        ("pendulum", {"g": 5.0, "mass": 2.0}, {"g": 5.0, "m": 2.0}),
        ("pendulum", {"length": 0.7, "dt": 0.02}, {"l": 0.7, "dt": 0.02}),
    ],
)
def test_parameters_mean_what_gymnasiums_do(name, ours, theirs):
    """Given to `make_env` or to `step`, each physical parameter reaches the equation it belongs to."""
    states, actions = (rows[::20] for rows in random_rows(name, 1))
    oracle = gymnasium.make(IDS[name]).unwrapped
    for field, value in theirs.items():
        assert hasattr(oracle, field)
        setattr(oracle, field, value)
    obs, reward, _ = gymnasium_steps(oracle, states, actions)
    got = our_steps(name, purerl.make_env(name, **ours), states, actions)
    np.testing.assert_allclose(got[0], obs, **TOLERANCE[name])
    np.testing.assert_allclose(got[1], reward, **TOLERANCE[name])


@pytest.mark.parametrize(("name", "field"), [("cartpole", "gravity"), ("pendulum", "g")])
def test_parameters_vmap(name, field):
    """A population of tasks is one program, and each member gets its own parameter."""
    env, key = purerl.make_env(name), jax.random.key(0)
    _, state = env.reset(key)
    values = jnp.array([2.0, 10.0, 50.0])
    axes = env.default_params._replace(**dict.fromkeys(env.default_params._fields))._replace(**{field: 0})
    action = STILL[name]
    step = jax.jit(jax.vmap(env.step, (None, None, None, axes)))
    together, *_ = step(key, state, action, env.default_params._replace(**{field: values}))
    for row, value in zip(together, values, strict=True):
        alone, *_ = purerl.make_env(name, **{field: float(value)}).step(key, state, action)
        np.testing.assert_allclose(row, alone, rtol=1e-6)
    assert len(np.unique(np.asarray(together), axis=0)) == 3


@pytest.mark.parametrize("name", IDS)
def test_spaces_and_time_limit_are_gymnasiums(name):
    """Bounds and dtypes of both spaces, and the length of an episode."""
    env, oracle = purerl.make_env(name), gymnasium.make(IDS[name])
    assert env.observation_space == oracle.observation_space
    assert env.action_space == oracle.action_space
    assert env.max_episode_steps == oracle.spec.max_episode_steps


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("limit", [None, 7])
def test_the_time_limit_is_exact(name, limit):
    """Truncated at the limit, not one step before, and also where the pole falls on it."""
    env = purerl.make_env(name, **({} if limit is None else {"max_episode_steps": limit}))
    last = env.max_episode_steps - 1
    key, action = jax.random.key(0), STILL[name]
    step = jax.jit(env.step)
    _, state = env.reset(key)
    assert state.time == 0
    for time, expected in ((last - 1, False), (last, True)):
        _, after, _, terminated, truncated, _ = step(key, state._replace(time=jnp.int32(time)), action)
        assert (bool(terminated), bool(truncated), int(after.time)) == (False, expected, time + 1)
    if name == "cartpole":
        fallen = state._replace(time=jnp.int32(last), theta=jnp.float32(1.0))
        _, _, reward, terminated, truncated, _ = step(key, fallen, action)
        assert terminated and truncated and reward == 1.0


@pytest.mark.parametrize("name", IDS)
def test_a_thousand_resets_are_a_thousand_draws(name):
    """From Gymnasium's distribution (Kolmogorov-Smirnov), with components independent of each other."""
    env, width = purerl.make_env(name), {"cartpole": [0.05] * 4, "pendulum": [np.pi, 1.0]}[name]
    obs, state = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 1000))
    values = np.stack(state[: len(width)], -1)
    assert len(np.unique(values, axis=0)) == 1000
    for column, high in zip(values.T, width, strict=True):
        assert stats.kstest(column, stats.uniform(-high, 2 * high).cdf).pvalue > 1e-3
    assert np.abs(np.corrcoef(values.T) - np.eye(len(width))).max() < 0.12
    theta = values[:, 0]
    expected = values if name == "cartpole" else np.stack([np.cos(theta), np.sin(theta), values[:, 1]], -1)
    np.testing.assert_allclose(obs, expected, atol=1e-6)


@pytest.mark.parametrize("name", IDS)
def test_one_program_for_all_steps(name):
    """What a step returns goes into the next with no new trace, and with float32 observations."""
    env, key = purerl.make_env(name), jax.random.key(0)
    step = jax.jit(env.step)
    obs, state = env.reset(key)
    action = STILL[name]
    for _ in range(3):
        new, state, reward, terminated, truncated, _ = step(key, state, action)
        assert (new.shape, new.dtype) == (obs.shape, jnp.float32)
        assert (reward.dtype, terminated.dtype, truncated.dtype) == (jnp.float32, bool, bool)
    assert step._cache_size() == 1
