"""DDPG: an update and the noise of its actions are the plain ones."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import replayed
from replayed import BATCH, Case
from tiny import tiny

import purerl
from purerl import rollout

MUTANTS = {
    "a time limit is a death": (
        "algos/ddpg.py",
        "batch.discount, next_q",
        "batch.discount * (1.0 - rows.truncated), next_q",
        "test_an_update_is_the_plain_one",
    ),
    "a death is none": (
        "algos/ddpg.py",
        "batch.discount, next_q",
        "cfg.gamma + 0 * batch.discount, next_q",
        "test_an_update_is_the_plain_one",
    ),
    "no target critic": (
        "algos/ddpg.py",
        'q.apply(target["q"]',
        "q.apply(q_params",
        "test_an_update_is_the_plain_one",
    ),
    "the actor of the last update": (
        "algos/ddpg.py",
        'learner.params["q"], batch.rows.obs',
        'params["q"], batch.rows.obs',
        "test_an_update_is_the_plain_one",
    ),
    "the actor descends": (
        "algos/ddpg.py",
        "return -q.apply(q_params, obs",
        "return q.apply(q_params, obs",
        "test_an_update_is_the_plain_one",
    ),
    "weights are ignored": (
        "algos/ddpg.py",
        "half_mean_square(td_error, batch.weight)",
        "half_mean_square(td_error)",
        "test_weights_and_errors_of_a_prioritised_buffer",
    ),
    "errors of another batch": (
        "algos/ddpg.py",
        "cfg.tau), td_error, metrics",
        "cfg.tau), td_error[::-1], metrics",
        "test_weights_and_errors_of_a_prioritised_buffer",
    ),
    "noise goes on after an episode": (
        "rollout.py",
        "carry = jax.tree.map(lambda leaf: _where(episodes.ended, jnp.zeros_like(leaf), leaf), carry)",
        "pass",
        "test_noise_is_0_at_the_start_of_an_episode",
    ),
    "independent noise": (
        "algos/ddpg.py",
        "(1 - cfg.noise_theta) * noise + jump",
        "jump",
        "test_noise_is_0_at_the_start_of_an_episode",
    ),
    "one noise for all": (
        "algos/ddpg.py",
        "jax.random.normal(key, noise.shape, ",
        "jax.random.normal(key, noise.shape[1:], ",
        "test_noise_is_0_at_the_start_of_an_episode",
    ),
    "noisy evaluation": (
        "algos/ddpg.py",
        "        if not explore:\n",
        "        if False:\n",
        "test_evaluation_is_without_noise",
    ),
}


def plain_update(case):
    """Return the learner, the metrics of each gradient step, and the last TD errors by slot."""
    cfg, errors, metrics = case.cfg, {}, []
    learner = replayed.Learner(case.updates[0].learner, cfg.learning_rate, cfg.tau)
    for rows in case.draws():
        next_action = policy(learner.target["pi"], rows.next_obs)
        next_q = replayed.value(learner.target["q"], rows.next_obs, next_action)
        target = rows.reward + cfg.gamma * rows.future * next_q
        error, report = learner.fit((learner.params["q"],), rows, target)
        errors |= dict(zip(rows.index.tolist(), -error[0], strict=True))
        pi = learner.params["pi"]
        out, seen = replayed.forward(pi, rows.obs)
        q, slope = replayed.ascent(learner.params["q"], rows.obs, np.tanh(out))
        learner.descend("pi", replayed.backward(pi, seen, -slope * (1 - np.tanh(out) ** 2) / BATCH)[0])
        learner.follow()
        metrics.append(report | {"pi/loss": -q.mean()})
    return learner, metrics, errors


def policy(net, obs):
    return np.tanh(replayed.forward(net, obs)[0])


def test_an_update_is_the_plain_one():
    case = Case("ddpg")
    learner, metrics, _ = plain_update(case)
    case.check(learner, metrics)


def test_weights_and_errors_of_a_prioritised_buffer(monkeypatch):
    replayed.use_weights(monkeypatch)
    case = Case("ddpg")
    learner, metrics, errors = plain_update(case)
    case.check(learner, metrics)
    case.check_errors(errors)


def test_noise_is_0_at_the_start_of_an_episode():
    """The Ornstein-Uhlenbeck process of every environment, whose episodes take 3 steps."""
    cfg = tiny(
        "ddpg", "pendulum", env_kwargs={"max_episode_steps": 3}, exploration_noise=0.3, noise_theta=0.15
    )
    algo, env = purerl.make_algorithm(cfg), purerl.make_env("pendulum", max_episode_steps=3)
    state, start = algo.init(jax.random.key(0)), rollout.start(env, jax.random.key(1), 2)
    act = partial(algo.act, state, step=jnp.int32(0), explore=True)
    key, steps = jax.random.key(2), 8
    _, carry, transition, episodes = jax.jit(
        lambda key: rollout.unroll(env, act, start, algo.init_carry(2), key, steps)
    )(key)
    assert episodes.ended.sum(0).tolist() == [2, 2]
    noise, keys = np.zeros((2, 1)), rollout.step_keys(key, steps, 2).act
    for t in range(steps):
        noise = 0.85 * noise + 0.3 * np.asarray(jax.random.normal(keys[t], (2, 1)))
        action = policy(replayed.arrays(state.learner.params["pi"]), np.asarray(transition.obs[t]))
        np.testing.assert_allclose(transition.action[t], np.clip(action + noise, -1, 1), 1e-5, 1e-5)
        noise = noise * (1 - episodes.ended[t][:, None])
    np.testing.assert_allclose(carry, noise, 1e-5, 1e-5)


def test_evaluation_is_without_noise():
    case = Case("ddpg")
    obs = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    noise = jnp.full((3, 2), 0.3)
    action, after, _ = case.algo.act(case.fresh, noise, obs, jax.random.key(3), 0, explore=False)
    mean = policy(replayed.arrays(case.fresh.learner.params["pi"]), obs)
    np.testing.assert_allclose(action, mean, 1e-5, 1e-5)
    assert after is noise
