"""TD3's delay and noises: what rests between delay steps, and the actions that critics and environments see.

The critics are linear in the action and the policy repeats its observation, so that TD errors reveal the
target actions.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from scipy import stats
from tiny import same_bits, tiny

import purerl
from purerl import rollout
from purerl.algos import off_policy, td3
from purerl.replay.ring import Batch
from purerl.types import EnvFunctions, EnvSpec, Transition

MUTANTS = {
    "targets creep between delay steps": (
        "algos/learning.py",
        "return learner, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)",
        "return move_targets(learner, 1e-6), "
        "jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)",
        "test_actor_and_targets_rest_between_delay_steps",
    ),
    "every delay is 1 early": (
        "algos/learning.py",
        "(index + 1) % period == 0",
        "(index + 2) % period == 0",
        "test_actor_and_targets_rest_between_delay_steps",
    ),
    "targets keep tau": (
        "algos/learning.py",
        "optax.incremental_update(online, learner.target, tau)",
        "optax.incremental_update(learner.target, online, tau)",
        "test_actor_and_targets_rest_between_delay_steps",
    ),
    "one smoothing noise for all rows": (
        "algos/td3.py",
        "jax.random.normal(key, rows.action.shape, ",
        "jax.random.normal(key, rows.action.shape[1:], ",
        "test_smoothing_noise_is_a_clipped_normal_of_each_row_and_dimension",
    ),
    "one smoothing noise for all dimensions": (
        "algos/td3.py",
        "jax.random.normal(key, rows.action.shape, ",
        "jax.random.normal(key, (len(rows.action), 1), ",
        "test_smoothing_noise_is_a_clipped_normal_of_each_row_and_dimension",
    ),
    "smoothing noise is a variance": (
        "algos/td3.py",
        "noise = cfg.target_noise * jax",
        "noise = cfg.target_noise**0.5 * jax",
        "test_smoothing_noise_is_a_clipped_normal_of_each_row_and_dimension",
    ),
    "smoothing noise is clipped after it is added": (
        "algos/td3.py",
        "noise = jnp.clip(noise, -cfg.noise_clip, cfg.noise_clip)",
        "pass",
        "test_target_actions_end_where_the_range_does",
    ),
    "target actions leave the range": (
        "algos/td3.py",
        'jnp.clip(jnp.tanh(pi.apply(target["pi"], rows.next_obs)) + noise, -1.0, 1.0)',
        'jnp.tanh(pi.apply(target["pi"], rows.next_obs)) + noise',
        "test_target_actions_end_where_the_range_does",
    ),
    "actions that are stored leave the range": (
        "algos/td3.py",
        "action = jnp.clip(action + noise, -1.0, 1.0)",
        "action = action + noise",
        "test_exploration_fills_an_asymmetric_box",
    ),
    "the range is symmetric": (
        "rollout.py",
        "np.float32((high + low) / 2) + np.float32((high - low) / 2) * action",
        "np.float32(high) * action",
        "test_exploration_fills_an_asymmetric_box",
    ),
    "exploration noise is a variance": (
        "algos/td3.py",
        "cfg.exploration_noise * jax",
        "cfg.exploration_noise**2 * jax",
        "test_exploration_noise_is_in_units_of_the_range",
    ),
}
BOX = spaces.Box(np.float32([-0.4, -3.0]), np.float32([1.0, 0.5]))
SPEC = EnvSpec("invented", spaces.Box(-np.inf, np.inf, (4,)), BOX)
NETWORKS = {
    "pi": (lambda key, obs: jnp.zeros(2), lambda params, obs: jnp.arctanh(obs[:, :2]) + params),
    "q": (lambda key, obs, action: jnp.zeros(2), lambda params, obs, action: action @ params),
}
"""A policy whose action, behind its tanh, is the first half of its observation, and a linear critic."""
MEAN = np.float32([0.3, -0.2])
ROWS, SIGMA, LIMIT = 20_000, 0.4, 0.5


def test_actor_and_targets_rest_between_delay_steps():
    """Not one bit moves there; at every third step targets go the share tau of their way."""
    cfg = tiny("td3", "pendulum", num_envs=1, policy_delay=3, tau=0.3)
    algo = purerl.make_algorithm(cfg)
    update, state = jax.jit(algo.update), jax.jit(algo.init)(jax.random.key(0))
    flag = jnp.zeros((1, 1), bool)
    rollout = Transition(jnp.ones((1, 1, 3)), jnp.ones((1, 1, 1)), jnp.ones((1, 1)), *[flag] * 3)
    rollout = rollout._replace(next_obs=-rollout.obs)
    for index in range(7):
        old = state.learner
        state, metrics = update(state, rollout, jax.random.key(index), jnp.int32(index))
        new, due = state.learner, index in (2, 5)
        assert not same_bits(new.params["q"], old.params["q"])
        for before, after in ((old.params, new.params), (old.opt_state, new.opt_state)):
            assert same_bits(after["pi"], before["pi"]) != due
        assert same_bits(new.target, old.target) != due
        assert np.isfinite(metrics["pi/loss"]) == due
        if due:
            expected = jax.tree.map(lambda x, y: 0.3 * x + 0.7 * y, new.params, old.target)
            jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), new.target, expected)


@pytest.fixture
def target_actions(monkeypatch):
    """Return `pi'(s') [B, 2] -> target actions [B, 2]`, from the TD errors of linear critics."""
    monkeypatch.setattr(off_policy, "make_off_policy", lambda cfg, spec, **parts: parts)
    cfg = tiny("td3", "pendulum", target_noise=SIGMA, noise_clip=LIMIT, policy_delay=2)
    parts = td3.make(cfg, SPEC, NETWORKS)
    step, learner = jax.jit(parts["gradient_step"]), parts["init_learner"](jax.random.key(0))

    def actions(mean):
        next_obs, flag = jnp.float32(np.tile(mean, (1, 2))), jnp.zeros(ROWS, bool)
        reward = jnp.full(ROWS, 2.0)  # more than any target action, so that errors are positive
        rows = Transition(next_obs, 0 * next_obs[:, :2], reward, next_obs, flag, flag)
        batch = Batch(rows, jnp.arange(ROWS), jnp.ones(ROWS), jnp.ones(ROWS))
        columns = []
        for weight in jnp.eye(2):
            one = learner._replace(target=learner.target | {"q": (weight, weight)})
            columns.append(step(one, batch, jax.random.key(1), jnp.int32(0))[1] - 2.0)
        return np.stack(columns, -1).astype(np.float64)

    return actions


def test_smoothing_noise_is_a_clipped_normal_of_each_row_and_dimension(target_actions):
    """In the policy's units, where the range is [-1, 1], whatever the box."""
    noise = target_actions(np.zeros((ROWS, 2)))
    assert np.abs(noise).max() == pytest.approx(LIMIT, abs=1e-6)
    at_the_limit = np.abs(noise) > LIMIT - 1e-6
    np.testing.assert_allclose(at_the_limit.mean(0), 2 * stats.norm.sf(LIMIT / SIGMA), atol=0.015)
    for column, ends in zip(noise.T, at_the_limit.T, strict=True):
        inside = stats.truncnorm(-LIMIT / SIGMA, LIMIT / SIGMA, scale=SIGMA)
        assert stats.kstest(column[~ends], inside.cdf).pvalue > 1e-3
    neighbours = np.stack([*noise[1:].T, *noise[:-1].T])
    np.testing.assert_allclose(np.corrcoef(neighbours), np.eye(4), atol=0.03)


def test_target_actions_end_where_the_range_does(target_actions):
    """The noise is clipped before it is added, and the sum again."""
    mean = np.float32([0.9, -0.8])
    action = target_actions(np.tile(mean, (ROWS, 1)))
    np.testing.assert_allclose(action.min(0), [0.9 - LIMIT, -1.0], atol=1e-6)
    np.testing.assert_allclose(action.max(0), [1.0, -0.8 + LIMIT], atol=1e-6)
    beyond = (np.abs(action) > 1 - 1e-6).mean(0)
    np.testing.assert_allclose(beyond, stats.norm.sf(np.array([0.1, 0.2]) / SIGMA), atol=0.015)


@pytest.fixture(scope="module")
def explored():
    """Return `exploration_noise -> (stored actions, actions in the environment)`, each `[T * N, 2]`."""
    never = jnp.array(False)

    def step(key, state, action, params=None):
        return jnp.concatenate([MEAN, action]), state, action[0], never, never, {}

    reset = lambda key, params=None, needed=True: (jnp.concatenate([MEAN, jnp.zeros(2)]), ())
    env = EnvFunctions("echo", reset, step, SPEC.observation_space, BOX, 1_000)
    cfg = tiny("td3", "pendulum", num_envs=4)

    @jax.jit
    def play(noise):
        algo = td3.make(dataclasses.replace(cfg, exploration_noise=noise), SPEC, NETWORKS)
        policy = partial(algo.act, algo.init(jax.random.key(0)), step=jnp.int32(0), explore=True)
        start = rollout.start(env, jax.random.key(1), 4)
        played = rollout.unroll(env, policy, start, (), jax.random.key(2), 3_000)[2]
        return played.action.reshape(-1, 2), played.next_obs[..., 2:].reshape(-1, 2)

    return lambda noise: [np.asarray(leaf) for leaf in play(jnp.float32(noise))]


def test_exploration_fills_an_asymmetric_box(explored):
    """With much noise the environment sees both ends of every dimension, and nothing beyond them."""
    stored, seen = explored(2.0)
    assert np.abs(stored).max() == 1.0
    assert (seen >= BOX.low).all() and (seen <= BOX.high).all()
    np.testing.assert_allclose([seen.min(0), seen.max(0)], [BOX.low, BOX.high], rtol=1e-6)
    np.testing.assert_allclose(seen, BOX.low + (stored + 1) / 2 * (BOX.high - BOX.low), atol=1e-6)


def test_exploration_noise_is_in_units_of_the_range(explored):
    """A deviation of 1 is half of the range, in every dimension."""
    _, seen = explored(0.05)
    half = (BOX.high - BOX.low) / 2
    np.testing.assert_allclose(seen.std(0), 0.05 * half, rtol=0.03)
    np.testing.assert_allclose(seen.mean(0), BOX.low + half * (1 + MEAN), atol=0.005)
    assert abs(np.corrcoef(seen.T)[0, 1]) < 0.05
