"""DDPG's Ornstein-Uhlenbeck noise: its law over a long stream, and the ends of episodes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from tiny import tiny

from purerl import config, rollout
from purerl.algos import ddpg
from purerl.types import EnvFunctions, EnvSpec

MUTANTS = {
    "theta is what stays": (
        "algos/ddpg.py",
        "(1 - cfg.noise_theta) * noise + jump",
        "cfg.noise_theta * noise + jump",
        "test_stationary_deviation_and_autocorrelation",
    ),
    "noise of a fixed deviation": (
        "algos/ddpg.py",
        "(1 - cfg.noise_theta) * noise + jump",
        "(1 - cfg.noise_theta) * noise + (cfg.noise_theta * (2 - cfg.noise_theta)) ** 0.5 * jump",
        "test_stationary_deviation_and_autocorrelation",
    ),
    "independent noise": (
        "algos/ddpg.py",
        "(1 - cfg.noise_theta) * noise + jump",
        "jump",
        "test_stationary_deviation_and_autocorrelation",
    ),
    "one process for all environments": (
        "algos/ddpg.py",
        "jax.random.normal(key, noise.shape, ",
        "jax.random.normal(key, noise.shape[1:], ",
        "test_every_environment_and_dimension_has_its_own_process",
    ),
    "one process for all dimensions": (
        "algos/ddpg.py",
        "jax.random.normal(key, noise.shape, ",
        "jax.random.normal(key, (len(noise), 1), ",
        "test_every_environment_and_dimension_has_its_own_process",
    ),
    "one end is that of all episodes": (
        "rollout.py",
        "_where(episodes.ended, jnp.zeros_like(leaf), leaf)",
        "_where(episodes.ended | episodes.ended.any(), jnp.zeros_like(leaf), leaf)",
        "test_noise_is_fresh_where_an_episode_ended_and_nowhere_else",
    ),
    "noise goes on after an episode": (
        "rollout.py",
        "carry = jax.tree.map(lambda leaf: _where(episodes.ended, jnp.zeros_like(leaf), leaf), carry)",
        "pass",
        "test_noise_is_fresh_where_an_episode_ended_and_nowhere_else",
    ),
    "the clipped action is the process": (
        "algos/ddpg.py",
        "return jnp.clip(action + noise, -1.0, 1.0), noise, ()",
        "return jnp.clip(action + noise, -1.0, 1.0), jnp.clip(noise, -1.0, 1.0), ()",
        "test_stationary_deviation_and_autocorrelation",
    ),
}
SPEC = EnvSpec("invented", spaces.Box(-np.inf, np.inf, (1,)), spaces.Box(-1.0, 1.0, (2,)))
NETWORKS = {
    "pi": (lambda key, obs: jnp.zeros(2), lambda params, obs: jnp.tile(params, (len(obs), 1))),
    "q": (lambda key, obs, action: jnp.zeros(2), lambda params, obs, action: action @ params),
}
"""A policy that acts 0, so that actions are noise."""
ENVS, SIGMA, STEPS, WARM_UP = 4, 0.3, 20_000, 200
THETAS = (0.15, 0.5, 1.0)


def algorithm(**fields):
    cfg = tiny("ddpg", "pendulum", num_envs=ENVS)
    return ddpg.make(config.replace(cfg, fields), SPEC, NETWORKS)


@pytest.fixture(scope="module")
def streams():
    """Return the noise `[STEPS, ENVS, 2]` of one endless episode for each theta."""

    @jax.jit
    @jax.vmap
    def play(theta):
        algo = algorithm(exploration_noise=SIGMA, noise_theta=theta)
        state, obs = algo.init(jax.random.key(0)), jnp.zeros((ENVS, 1))

        def step(noise, key):
            noise = algo.act(state, noise, obs, key, 0, explore=True)[1]
            return noise, noise

        return jax.lax.scan(step, algo.init_carry(ENVS), jax.random.split(jax.random.key(1), STEPS))[1]

    noise = np.float64(play(jnp.float32(THETAS)))[:, WARM_UP:]
    return dict(zip(THETAS, noise, strict=True))


@pytest.mark.parametrize("theta", THETAS)
def test_stationary_deviation_and_autocorrelation(streams, theta):
    """sigma / sqrt(1 - (1 - theta)^2) and (1 - theta)^k; with theta = 1 steps are independent."""
    noise, stays = streams[theta], 1 - theta
    deviation = SIGMA / np.sqrt(1 - stays**2)
    assert noise.mean() == pytest.approx(0, abs=0.03)
    assert noise.std() == pytest.approx(deviation, rel=0.02)
    for lag in (1, 2, 5, 10, 30):
        correlation = (noise[lag:] * noise[:-lag]).mean() / deviation**2
        assert correlation == pytest.approx(stays**lag, abs=0.03), lag


@pytest.mark.parametrize("theta", THETAS)
def test_every_environment_and_dimension_has_its_own_process(streams, theta):
    processes = streams[theta].reshape(-1, 2 * ENVS).T
    np.testing.assert_allclose(np.corrcoef(processes), np.eye(2 * ENVS), atol=0.08)


def test_noise_is_fresh_where_an_episode_ended_and_nowhere_else():
    """Episodes have lengths of their own, from 2 to 9 steps; sigma is small, so that nothing is clipped."""
    sigma, theta, steps = 0.01, 0.15, 60

    def reset(key, params=None, needed=True):
        return jnp.zeros(1), jax.random.randint(key, (), 2, 10, jnp.int32)

    def step(key, left, action, params=None):
        return jnp.zeros(1), left - 1, action[0], left == 1, jnp.array(False), {}

    env = EnvFunctions("lengths", reset, step, SPEC.observation_space, SPEC.action_space, 10)
    algo = algorithm(exploration_noise=sigma, noise_theta=theta)
    policy = partial(algo.act, algo.init(jax.random.key(0)), step=jnp.int32(0), explore=True)
    start, key = rollout.start(env, jax.random.key(1), ENVS), jax.random.key(2)
    played = jax.jit(lambda key: rollout.unroll(env, policy, start, algo.init_carry(ENVS), key, steps))(key)
    action, ended = np.float64(played[2].action), np.asarray(played[3].ended)
    assert {0, 1} < {*ended.sum(1)}, "some steps end one episode, and some none or several"
    noise, keys = np.zeros((ENVS, 2)), rollout.step_keys(key, steps, ENVS).act
    for t in range(steps):
        noise = (1 - theta) * noise + sigma * np.float64(jax.random.normal(keys[t], (ENVS, 2)))
        np.testing.assert_allclose(action[t], noise, rtol=1e-4, atol=1e-7)
        noise[ended[t]] = 0
