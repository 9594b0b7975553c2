"""TD3: an update and the noise of its actions are the plain ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import replayed
from replayed import BATCH, FIRST, Case, halves

MUTANTS = {
    "the larger target": ("algos/td3.py", ".min(0)", ".max(0)", "test_an_update_is_the_plain_one"),
    "target noise without a limit": (
        "algos/td3.py",
        "noise = jnp.clip(noise, -cfg.noise_clip, cfg.noise_clip)",
        "pass",
        "test_an_update_is_the_plain_one",
    ),
    "target actions without limits": (
        "algos/td3.py",
        'jnp.clip(jnp.tanh(pi.apply(target["pi"], rows.next_obs)) + noise, -1.0, 1.0)',
        'jnp.tanh(pi.apply(target["pi"], rows.next_obs)) + noise',
        "test_an_update_is_the_plain_one",
    ),
    "one noise for all rows": (
        "algos/td3.py",
        "jax.random.normal(key, rows.action.shape, ",
        "jax.random.normal(key, rows.action.shape[1:], ",
        "test_an_update_is_the_plain_one",
    ),
    "a time limit is a death": (
        "algos/td3.py",
        "batch.discount, next_q",
        "batch.discount * (1.0 - rows.truncated), next_q",
        "test_an_update_is_the_plain_one",
    ),
    "a death is none": (
        "algos/td3.py",
        "batch.discount, next_q",
        "cfg.gamma + 0 * batch.discount, next_q",
        "test_an_update_is_the_plain_one",
    ),
    "no delay": (
        "algos/learning.py",
        "(index + 1) % period == 0",
        "index >= 0",
        "test_an_update_is_the_plain_one",
    ),
    "every delay is 1 late": (
        "algos/learning.py",
        "(index + 1) % period",
        "index % period",
        "test_an_update_is_the_plain_one",
    ),
    "targets move at every step": (
        "algos/td3.py",
        'learner = descend(learner, "q", adam, gradient)',
        'learner = move_targets(descend(learner, "q", adam, gradient), cfg.tau)',
        "test_an_update_is_the_plain_one",
    ),
    "the actor climbs the other critic": (
        "algos/td3.py",
        "jnp.tanh(pi.apply(pi_params, obs)))[0]",
        "jnp.tanh(pi.apply(pi_params, obs)))[1]",
        "test_an_update_is_the_plain_one",
    ),
    "the actor descends": (
        "algos/td3.py",
        "return -q.apply(q_params, obs",
        "return q.apply(q_params, obs",
        "test_an_update_is_the_plain_one",
    ),
    "weights are ignored": (
        "algos/td3.py",
        "half_mean_square(error, batch.weight)",
        "half_mean_square(error)",
        "test_weights_and_errors_of_a_prioritised_buffer",
    ),
    "the smaller error": (
        "algos/td3.py",
        "jnp.abs(error).max(0)",
        "jnp.abs(error).min(0)",
        "test_weights_and_errors_of_a_prioritised_buffer",
    ),
    "no exploration": (
        "algos/td3.py",
        "        if explore:\n",
        "        if False:\n",
        "test_actions_are_those_of_the_policy_and_noise",
    ),
    "noisy evaluation": (
        "algos/td3.py",
        "        if explore:\n",
        "        if True:\n",
        "test_actions_are_those_of_the_policy_and_noise",
    ),
    "one action noise for all": (
        "algos/td3.py",
        "jax.random.normal(key, action.shape, ",
        "jax.random.normal(key, action.shape[1:], ",
        "test_actions_are_those_of_the_policy_and_noise",
    ),
}


def plain_update(case):
    """Return the learner, the metrics of each gradient step, and the last TD errors by slot."""
    cfg, errors, metrics = case.cfg, {}, []
    learner = replayed.Learner(case.updates[0].learner, cfg.learning_rate, cfg.tau)
    for index, rows in enumerate(case.draws(), FIRST):
        noise = cfg.target_noise * replayed.double(jax.random.normal(rows.key, (BATCH, 2)))
        noise = np.clip(noise, -cfg.noise_clip, cfg.noise_clip)
        next_action = np.clip(policy(learner.target["pi"], rows.next_obs) + noise, -1, 1)
        next_q = [replayed.value(q, rows.next_obs, next_action) for q in halves(learner.target["q"])]
        target = rows.reward + cfg.gamma * rows.future * np.minimum(*next_q)
        error, report = learner.fit(halves(learner.params["q"]), rows, target)
        errors |= dict(zip(rows.index.tolist(), np.abs(error).max(0), strict=True))
        if (index + 1) % cfg.policy_delay == 0:
            report["pi/loss"] = climb(learner, rows)
            learner.follow()
        metrics.append(report)
    return learner, metrics, errors


def policy(net, obs):
    return np.tanh(replayed.forward(net, obs)[0])


def climb(learner, rows):
    """Take a step of the actor on `-mean Q_1(s, pi(s))`, and return that loss."""
    pi, critic = learner.params["pi"], halves(learner.params["q"])[0]
    out, seen = replayed.forward(pi, rows.obs)
    q, slope = replayed.ascent(critic, rows.obs, np.tanh(out))
    learner.descend("pi", replayed.backward(pi, seen, -slope * (1 - np.tanh(out) ** 2) / BATCH)[0])
    return -q.mean()


@pytest.mark.parametrize("policy_delay", [1, 3])
def test_an_update_is_the_plain_one(policy_delay):
    case = Case("td3", policy_delay=policy_delay, target_noise=2.0, noise_clip=1.2)
    learner, metrics, _ = plain_update(case)
    assert ["pi/loss" in step for step in metrics] == [policy_delay == 1, True]
    case.check(learner, metrics)


def test_weights_and_errors_of_a_prioritised_buffer(monkeypatch):
    replayed.use_weights(monkeypatch)
    case = Case("td3")
    learner, metrics, errors = plain_update(case)
    case.check(learner, metrics)
    case.check_errors(errors)


def test_actions_are_those_of_the_policy_and_noise():
    case = Case("td3", exploration_noise=2.0)
    obs, key = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32), jax.random.key(3)
    act = lambda explore: case.algo.act(case.fresh, (), jnp.asarray(obs), key, 0, explore=explore)[0]
    mean = policy(replayed.arrays(case.fresh.learner.params["pi"]), obs)
    np.testing.assert_allclose(act(False), mean, 1e-5, 1e-5)
    noise = 2 * np.asarray(jax.random.normal(key, (3, 2)))
    assert (np.abs(mean + noise) > 1).any()
    np.testing.assert_allclose(act(True), np.clip(mean + noise, -1, 1), 1e-5, 1e-5)
