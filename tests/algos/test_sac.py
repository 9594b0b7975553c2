"""SAC: an update and its actions are the plain ones."""

import jax
import numpy as np
import pytest
import replayed
from replayed import BATCH, Case, halves

MUTANTS = {
    "the larger target": (
        "algos/critics.py",
        "values(next_out.min(0))",
        "values(next_out.max(0))",
        "test_an_update_is_the_plain_one",
    ),
    "twin critics one and the same": (
        "algos/critics.py",
        "values(next_out.min(0))",
        "values(next_out[0])",
        "test_an_update_is_the_plain_one",
    ),
    "the actor climbs the larger critic": (
        "algos/sac.py",
        "policy.inputs(obs, action))).min(0)",
        "policy.inputs(obs, action))).max(0)",
        "test_an_update_is_the_plain_one",
    ),
    "the actor climbs one critic": (
        "algos/sac.py",
        "policy.inputs(obs, action))).min(0)",
        "policy.inputs(obs, action)))[0]",
        "test_an_update_is_the_plain_one",
    ),
    "the actor descends": (
        "algos/sac.py",
        "policy.values(value), probability",
        "policy.values(-value), probability",
        "test_an_update_is_the_plain_one",
    ),
    "a time limit is a death": (
        "algos/critics.py",
        "td_target(batch.rows.reward, batch.discount, value)",
        "td_target(batch.rows.reward, batch.discount * (1.0 - batch.rows.truncated), value)",
        "test_an_update_is_the_plain_one",
    ),
    "a death is none": (
        "replay/n_step.py",
        "return whole(state, rows), discount[0]",
        "return whole(state, rows), jnp.full_like(discount[0], gamma)",
        "test_an_update_is_the_plain_one",
    ),
    "no entropy in the target": (
        "algos/critics.py",
        "ahead.log_prob, alpha)",
        "ahead.log_prob, 0.0 * alpha)",
        "test_an_update_is_the_plain_one",
    ),
    "one key for both noises": (
        "algos/sac.py",
        "key_critic, key_actor = jax.random.split(key)",
        "key_critic = key_actor = key",
        "test_an_update_is_the_plain_one",
    ),
    "another aim of the entropy": (
        "algos/soft_policies.py",
        "target_entropy=-float(size)",
        "target_entropy=-1.0",
        "test_an_update_is_the_plain_one",
    ),
    "a temperature that is never learned": (
        "algos/sac.py",
        'learner = descend(learner, "log_alpha", adam, gradient)',
        "pass",
        "test_an_update_is_the_plain_one",
    ),
    "a fixed temperature of 1": (
        "algos/sac.py",
        "jnp.float32(cfg.ent_coef)",
        "jnp.float32(1.0)",
        "test_an_update_is_the_plain_one",
    ),
    "weights are ignored": (
        "algos/sac.py",
        "loss * batch.weight[None]",
        "loss",
        "test_weights_and_errors_of_a_prioritised_buffer",
    ),
    "the smaller error": (
        "algos/critics.py",
        "jnp.abs(error).max(0)",
        "jnp.abs(error).min(0)",
        "test_weights_and_errors_of_a_prioritised_buffer",
    ),
    "evaluation draws": (
        "algos/sac.py",
        "if explore else (policy.mode",
        "if True else (policy.mode",
        "test_actions_are_those_of_the_policy",
    ),
    "evaluation without tanh": (
        "algos/soft_policies.py",
        "mode=lambda outputs: jnp.tanh(outputs[0])",
        "mode=lambda outputs: outputs[0]",
        "test_actions_are_those_of_the_policy",
    ),
}


class Sample:
    """Actions of a squashed normal policy, their log-density, and what their gradients need."""

    def __init__(self, pi, obs, key):
        self.pi, (out, self.seen) = pi, replayed.forward(pi, obs)
        mean, log_std = np.split(out, 2, axis=-1)
        self.noise = replayed.double(jax.random.normal(key, (1, *mean.shape))[0])
        self.std, u = np.exp(log_std), mean + np.exp(log_std) * self.noise
        self.action = np.tanh(u)
        normal = -(self.noise**2) / 2 - log_std - np.log(2 * np.pi) / 2
        self.log_prob = (normal - np.log1p(-(self.action**2))).sum(-1)

    def gradient(self, of_action, of_log_prob):
        """Return the gradient of the policy's layers, from `[B, A]` and a number for every row."""
        of_u = of_action * (1 - self.action**2) + of_log_prob * 2 * self.action
        of_log_std = of_u * self.std * self.noise - of_log_prob
        return replayed.backward(self.pi, self.seen, np.concatenate([of_u, of_log_std], -1))[0]


def plain_update(case):
    """Return the learner, the metrics of each gradient step, and the last TD errors by slot."""
    cfg, errors, metrics = case.cfg, {}, []
    learner = replayed.Learner(case.updates[0].learner, cfg.learning_rate, cfg.tau)
    aim = -2.0 if cfg.target_entropy is None else cfg.target_entropy
    for rows in case.draws():
        key_critic, key_actor = jax.random.split(rows.key)
        params, log_alpha = learner.params, learner.params.get("log_alpha")
        alpha = cfg.ent_coef if log_alpha is None else np.exp(log_alpha[0])
        ahead = Sample(params["pi"], rows.next_obs, key_critic)
        next_q = [replayed.value(q, rows.next_obs, ahead.action) for q in halves(learner.target["q"])]
        soft = np.minimum(*next_q) - alpha * ahead.log_prob
        target = rows.reward + cfg.gamma * rows.future * soft
        error, report = learner.fit(halves(params["q"]), rows, target)
        errors |= dict(zip(rows.index.tolist(), np.abs(error).max(0), strict=True))

        now = Sample(params["pi"], rows.obs, key_actor)
        (q0, slope0), (q1, slope1) = (
            replayed.ascent(q, rows.obs, now.action) for q in halves(learner.params["q"])
        )
        slope = np.where((q0 < q1)[:, None], slope0, slope1)
        learner.descend("pi", now.gradient(-slope / BATCH, alpha / BATCH))
        entropy = -now.log_prob.mean()
        if log_alpha is not None:
            learner.descend("log_alpha", [entropy - aim])
        learner.follow()
        loss = (alpha * now.log_prob - np.minimum(q0, q1)).mean()
        metrics.append(report | {"pi/loss": loss, "pi/entropy": entropy, "pi/alpha": alpha})
    return learner, metrics, errors


@pytest.mark.parametrize("fields", [{}, {"target_entropy": 0.7}, {"ent_coef": 0.4}], ids=str)
def test_an_update_is_the_plain_one(fields):
    case = Case("sac", **fields)
    learner, metrics, _ = plain_update(case)
    case.check(learner, metrics)


def test_weights_and_errors_of_a_prioritised_buffer(monkeypatch):
    replayed.use_weights(monkeypatch)
    case = Case("sac")
    learner, metrics, errors = plain_update(case)
    case.check(learner, metrics)
    case.check_errors(errors)


def test_actions_are_those_of_the_policy():
    case, key = Case("sac"), jax.random.key(3)
    obs = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    explored, greedy = (
        case.algo.act(case.fresh, (), obs, key, 0, explore=explore)[0] for explore in (True, False)
    )
    pi = replayed.arrays(case.fresh.learner.params["pi"])
    np.testing.assert_allclose(explored, Sample(pi, obs, key).action, 1e-5, 1e-5)
    mean, _ = np.split(replayed.forward(pi, obs)[0], 2, axis=-1)
    np.testing.assert_allclose(greedy, np.tanh(mean), 1e-5, 1e-5)
