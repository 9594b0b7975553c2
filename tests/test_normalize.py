"""Running statistics of observations and returns against NumPy."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

from purerl import normalize
from purerl.types import EnvSpec, Transition

SPEC = EnvSpec("two numbers", spaces.Box(-9, 9, (2,)), spaces.Discrete(2))
CFG = SimpleNamespace(num_envs=3, gamma=0.5, normalize_obs=True, normalize_reward=True)
OFF = SimpleNamespace(num_envs=3, gamma=0.5, normalize_obs=False, normalize_reward=False)


@pytest.fixture(scope="module")
def rollouts():
    """Two rollouts `[4, 3]` with ends of both kinds."""
    draw = np.random.default_rng(0)
    made = []
    for _ in range(2):
        obs = draw.normal(3.0, 2.0, (4, 3, 2)).astype(np.float32)
        reward = draw.normal(1.0, 1.0, (4, 3)).astype(np.float32)
        terminated, truncated = draw.random((2, 4, 3)) < 0.3
        row = Transition(obs, np.zeros((4, 3)), reward, obs + 1, terminated, truncated)
        made.append(Transition(*map(jnp.asarray, row[:6])))
    return made


@pytest.fixture(scope="module")
def observed(rollouts):
    normalizer = normalize.init(CFG, SPEC)
    for rollout in rollouts:
        normalizer = normalize.observe(CFG, normalizer, rollout)
    return normalizer


def plain(rollouts):
    """Return all observations `[24, 2]`, all returns so far `[8, 3]`, and those that go on `[3]`."""
    obs = np.concatenate([np.asarray(rollout.obs) for rollout in rollouts]).reshape(-1, 2)
    so_far, sums = np.zeros(3), []
    for rollout in rollouts:
        for reward, ended in zip(rollout.reward, rollout.terminated | rollout.truncated, strict=True):
            so_far = np.asarray(reward) + 0.5 * so_far
            sums.append(so_far)
            so_far = np.where(ended, 0.0, so_far)
    return obs, np.array(sums), so_far


def test_statistics_are_those_of_all_rollouts(rollouts, observed):
    obs, sums, so_far = plain(rollouts)
    assert observed.obs.count == observed.returns.count == 24
    np.testing.assert_allclose(observed.obs.mean, obs.mean(0), rtol=1e-5)
    np.testing.assert_allclose(observed.obs.variance, obs.var(0), rtol=1e-5)
    np.testing.assert_allclose(observed.returns.variance, sums.var(), rtol=1e-5)
    np.testing.assert_allclose(observed.so_far, so_far, rtol=1e-5)


def test_observations_are_standardised(rollouts, observed):
    obs, *_ = plain(rollouts)
    expected = (obs - obs.mean(0)) / obs.std(0)
    np.testing.assert_allclose(normalize.normalize_obs(CFG, observed, obs), expected, rtol=1e-4, atol=1e-5)
    far = normalize.normalize_obs(CFG, observed, jnp.full(2, 1e6))
    assert far.tolist() == [10.0, 10.0]


def test_rewards_are_divided_and_not_centred(rollouts, observed):
    _, sums, _ = plain(rollouts)
    reward = np.array([1.0, -2.0, 1e6], np.float32)
    expected = [1.0 / sums.std(), -2.0 / sums.std(), 10.0]
    np.testing.assert_allclose(normalize.normalize_reward(CFG, observed, reward), expected, rtol=1e-5)


def test_empty_statistics_leave_observations_unchanged():
    obs = jnp.array([[1.0, -700.0]])
    empty = normalize.init(CFG, SPEC)
    assert (normalize.normalize_obs(CFG, empty, obs) == obs).all()


def test_a_switch_that_is_off_changes_nothing(observed):
    x = jnp.array([[1.0, -700.0]])
    assert normalize.normalize_obs(OFF, observed, x) is x
    assert normalize.normalize_reward(OFF, observed, x) is x


MUTANTS = {
    "a return goes on after a time limit": (
        "normalize.py",
        "transition.terminated | transition.truncated\n    sums, so_far = returns.discounted_so_far("
        "transition.reward, ended, cfg.gamma",
        "transition.terminated\n    sums, so_far = returns.discounted_so_far("
        "transition.reward, ended, cfg.gamma",
        "test_statistics_are_those_of_all_rollouts",
    ),
    "statistics of the next observations": (
        "normalize.py",
        "jax.tree.map(observed, normalizer.obs, transition.obs, is_leaf",
        "jax.tree.map(observed, normalizer.obs, transition.next_obs, is_leaf",
        "test_statistics_are_those_of_all_rollouts",
    ),
    "returns do not go on in the next rollout": (
        "normalize.py",
        "cfg.gamma, normalizer.so_far)",
        "cfg.gamma, jnp.zeros_like(normalizer.so_far))",
        "test_statistics_are_those_of_all_rollouts",
    ),
    "rewards are centred": (
        "normalize.py",
        "jnp.clip(reward / ",
        "jnp.clip((reward - normalizer.returns.mean) / ",
        "test_rewards_are_divided_and_not_centred",
    ),
    "observations are always normalised": (
        "normalize.py",
        "if not cfg.normalize_obs:\n        return obs",
        "",
        "test_a_switch_that_is_off_changes_nothing",
    ),
}
