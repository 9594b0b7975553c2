"""Recurrent PPO against a gated recurrent unit that is run by hand, one observation after the other."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import workbench as wb
from workbench import KEY, Bench

import purerl
from purerl.config import ConfigError

FIELDS = {"env_kwargs": {"mask_velocity": True, "max_episode_steps": 7, "angle_limit": 0.1}, "rnn_size": 5}


def remember(params, carry, obs, xp=np):
    """Return the RNN state after `obs` (Cho et al. 2014, with the reset gate of cuDNN)."""
    tree = params["core"]["params"]
    cell, x = tree["GRUCell_0"], obs
    for layer in wb.layers({"params": tree["encoder"]}):
        x = xp.tanh(x @ layer["kernel"] + layer["bias"])
    see = lambda gate: x @ cell[f"i{gate}"]["kernel"] + cell[f"i{gate}"]["bias"]
    recall = lambda gate: carry @ cell[f"h{gate}"]["kernel"]
    sigmoid = lambda z: 1 / (1 + xp.exp(-z))
    reset, keep = (sigmoid(see(gate) + recall(gate)) for gate in "rz")
    new = xp.tanh(see("n") + reset * (recall("n") + cell["hn"]["bias"]))
    return (1 - keep) * new + keep * carry


def memories(params, carry, obs, ended, xp=np):
    """After each observation `[T, N, O]`, `[T, N, H]`; nothing is left behind an end."""
    after = []
    for now, end in zip(obs, ended, strict=True):
        after.append(remember(params, carry, now, xp))
        carry = xp.where(end[:, None], 0.0, after[-1])
    return xp.stack(after)


def heads(params, x, xp=np):
    return wb.of_features(params["pi"], x, xp), wb.mlp(params["v"], x, xp)[..., 0]


def plain_loss(params, carry, obs, ended, action, log_prob, advantage, target, clip_eps, vf_coef, ent_coef):
    out, value = heads(params, memories(params, carry, obs, ended, jnp), jnp)
    ratio = jnp.exp(wb.log_prob(out, action, jnp) - log_prob)
    bounded = jnp.maximum(jnp.minimum(ratio, 1 + clip_eps), 1 - clip_eps)
    pi_loss = -jnp.minimum(ratio * advantage, bounded * advantage).mean()
    v_loss, entropy = ((value - target) ** 2).mean() / 2, wb.entropy(out, jnp).mean()
    metrics = {
        "pi/loss": pi_loss,
        "v/loss": v_loss,
        "pi/entropy": entropy,
        "pi/kl": (ratio - 1 - jnp.log(ratio)).mean(),
        "pi/clip_fraction": (jnp.abs(ratio - 1) > clip_eps).mean(),
    }
    return pi_loss + vf_coef * v_loss - ent_coef * entropy, metrics


plain_gradient = jax.jit(jax.grad(plain_loss, has_aux=True))


class Remembered(wb.Rollout):
    """The rollout with RNN states from its first carry on."""

    def __init__(self, cfg, state, history, **changes):
        super().__init__(cfg, history, **changes)
        self.params, self.shape = wb.double(state.learner.params), self.reward.shape
        self.ended = self.flags[0] | self.flags[1]
        self.carry = wb.double(history[-1].extras["carry"][0])
        self.memories = memories(self.params, self.carry, self.time_obs, self.ended)
        self.out, self.value = heads(self.params, self.memories)
        after = self.memories, self.time_next_obs
        beyond = np.stack([remember(self.params, *row) for row in zip(*after, strict=True)])
        self.next_value = heads(self.params, beyond)[1]
        self.log_prob = wb.log_prob(self.out, np.asarray(history[-1].action))
        _, *rest = self.estimates(self.value, self.next_value)
        self.advantage, self.target = (x.reshape(self.shape) for x in rest)


@pytest.fixture(scope="module")
def bench():
    return Bench("recurrent_ppo", "cartpole", **FIELDS)


@pytest.fixture(scope="module")
def played(bench):
    """The first run whose last rollout begins in mid-episode, and meets both kinds of ends on its way."""
    for seed in range(30):
        state, history = bench.played(3, seed)
        rollout = Remembered(bench.cfg, state, history)
        terminated, truncated = (flags[:-1] for flags in rollout.flags)
        both = (terminated & ~truncated).any() and (truncated & ~terminated).any()
        if both and (np.abs(rollout.carry).max(-1) > 0).any():
            return state, history, rollout
    raise AssertionError("there is none")


def test_acting_is_a_pass_through_each_episode_alone(played):
    """Every episode starts with zeros, and log-probabilities are those of one pass over it."""
    _, (*_, last), rollout = played
    for n in range(4):
        begins = [0, *(np.flatnonzero(rollout.ended[:-1, n]) + 1), len(rollout.ended)]
        for begin, end in itertools.pairwise(begins):
            carry = rollout.carry[n] if begin == 0 else np.zeros(5)
            for t in range(begin, end):
                np.testing.assert_allclose(last.extras["carry"][t, n], carry, rtol=1e-4, atol=1e-5)
                carry = remember(rollout.params, carry, rollout.time_obs[t, n])
                out, _ = heads(rollout.params, carry)
                log_prob = wb.log_prob(out, np.asarray(last.action[t, n]))
                np.testing.assert_allclose(last.extras["log_prob"][t, n], log_prob, rtol=1e-4, atol=1e-5)


def test_the_carry_is_zero_only_after_an_end(played):
    _, (*_, before, last), _ = played
    fresh = np.concatenate([np.ones((0, 4), bool), np.asarray(last.terminated | last.truncated)])[:-1]
    carry = np.asarray(last.extras["carry"][1:])
    assert (carry[fresh] == 0).all() and (np.abs(carry[~fresh]).max(-1) > 0).all()
    ended = np.asarray(before.terminated | before.truncated)[-1]
    assert ((np.abs(last.extras["carry"][0]).max(-1) > 0) == ~ended).all(), "it goes on between rollouts"
    assert not ended.all()


def test_the_first_minibatch_has_ratio_1_in_mid_episode(bench, played):
    state, history, rollout = played
    assert state.normalizer.obs.count == 96
    ratio = np.exp(rollout.log_prob - wb.double(history[-1].extras["log_prob"]))
    assert np.abs(ratio - 1).max() < 1e-5
    _, metrics = bench.update(state, history[-1])
    assert metrics["pi/kl"] < 1e-9 and metrics["pi/clip_fraction"] == 0


def test_the_next_value_uses_the_rnn_state_after_obs(bench, played):
    state, history, rollout = played
    _, metrics = bench.update(state, history[-1])
    error = np.square(rollout.value - rollout.target).mean() / 2
    np.testing.assert_allclose(metrics["v/loss"], error, rtol=1e-4)


@pytest.fixture(scope="module")
def optioned():
    options = {"num_epochs": 3, "num_minibatches": 2, "anneal_lr": True, "normalize_reward": True}
    return Bench("recurrent_ppo", "cartpole", **FIELDS, **options, value_lambda=0.6, ent_coef=0.02)


@pytest.mark.parametrize("step, changes", [(0, {}), (700, {"vf_coef": 0.1, "clip_eps": 0.02})])
def test_an_update_is_the_plain_one_on_whole_environments(optioned, played, step, changes):
    bench, (state, history, _) = optioned, played
    after, metrics = bench.update(state, history[-1], step=step, **changes)
    rollout = Remembered(bench.cfg, state, history, **changes)
    cfg, (params, opt_state), rows = rollout.cfg, state.learner, []
    left = 1 - step / cfg.total_timesteps if cfg.anneal_lr else 1
    rates = cfg.learning_rate * left, cfg.max_grad_norm
    by_time = rollout.time_obs, rollout.ended, np.asarray(history[-1].action), rollout.log_prob
    for order in wb.orders(KEY, cfg.num_epochs, cfg.num_envs, cfg.num_minibatches):
        for envs in order:
            advantage = wb.standardized(rollout.advantage[:, envs])
            batch = (rollout.carry[envs], *(x[:, envs] for x in by_time), advantage, rollout.target[:, envs])
            coefs = cfg.clip_eps, cfg.vf_coef, cfg.ent_coef
            gradient, row = plain_gradient(params, *wb.float32(batch), *map(jnp.float32, coefs))
            params, opt_state = wb.adam_step(*rates, gradient, opt_state, params)
            rows.append(row)
    assert wb.nothing_like(after.learner.params, state.learner.params)
    wb.assert_close(after.learner.params, params, rtol=1e-3, atol=5e-5)
    for name in rows[0]:
        expected = np.mean([row[name] for row in rows])
        np.testing.assert_allclose(metrics[name], expected, rtol=5e-3, atol=2e-5, err_msg=name)
    explained = 1 - np.var(rollout.target - rollout.value) / np.var(rollout.target)
    np.testing.assert_allclose(metrics["v/explained_variance"], explained, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("num_minibatches", [8, 5])
def test_minibatches_divide_the_environments(num_minibatches):
    """Also a number that divides the steps."""
    fields = {"num_envs": 4, "num_steps": 8, "num_minibatches": num_minibatches}
    cfg = purerl.make_config("recurrent_ppo", env="pendulum", **fields)
    with pytest.raises(ConfigError, match="num_envs = 4") as error:
        purerl.make_algorithm(cfg)
    assert error.value.field == "num_minibatches"


MUTANTS = {
    "recurrent: remembers through an end": (
        "algos/recurrent_ppo.py",
        "return jnp.where(ended[:, None], 0.0, after), (x, after)",
        "return after, (x, after)",
        "test_the_first_minibatch_has_ratio_1_in_mid_episode",
    ),
    "recurrent: remembers through a time limit": (
        "algos/recurrent_ppo.py",
        'transition.extras["carry"][0], transition.terminated | transition.truncated',
        'transition.extras["carry"][0], transition.terminated',
        "test_the_first_minibatch_has_ratio_1_in_mid_episode",
    ),
    "recurrent: remembers through a death": (
        "algos/recurrent_ppo.py",
        'transition.extras["carry"][0], transition.terminated | transition.truncated',
        'transition.extras["carry"][0], transition.truncated',
        "test_the_first_minibatch_has_ratio_1_in_mid_episode",
    ),
    "recurrent: every rollout begins afresh": (
        "algos/recurrent_ppo.py",
        'carry, ended = transition.extras["carry"][0]',
        'carry, ended = jnp.zeros_like(transition.extras["carry"][0])',
        "test_the_first_minibatch_has_ratio_1_in_mid_episode",
    ),
    "recurrent: what follows without a memory": (
        "algos/recurrent_ppo.py",
        "flatten_time((after, next_obs))",
        "flatten_time((0 * after, next_obs))",
        "test_the_next_value_uses_the_rnn_state_after_obs",
    ),
    "recurrent: hands on the memory after obs": (
        "algos/recurrent_ppo.py",
        '"log_prob": log_prob, "carry": carry}',
        '"log_prob": log_prob, "carry": after}',
        "test_acting_is_a_pass_through_each_episode_alone",
    ),
    "recurrent: rows of time": (
        "algos/recurrent_ppo.py",
        "by_env = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), by_time)",
        "by_env = jax.tree.map(lambda leaf: leaf.reshape(leaf.shape[1], leaf.sh"
        "ape[0], *leaf.shape[2:]), by_time)",
        "test_an_update_is_the_plain_one_on_whole_environments",
    ),
    "recurrent: every pass in the same order": (
        "algos/recurrent_ppo.py",
        "jax.random.split(key, cfg.num_epochs)",
        "jnp.broadcast_to(key, (cfg.num_epochs,))",
        "test_an_update_is_the_plain_one_on_whole_environments",
    ),
    "recurrent: the step size never falls": (
        "algos/recurrent_ppo.py",
        "cfg.learning_rate * left",
        "cfg.learning_rate",
        "test_an_update_is_the_plain_one_on_whole_environments",
    ),
    "recurrent: minibatches need not divide": (
        "algos/recurrent_ppo.py",
        "if cfg.num_envs % cfg.num_minibatches:",
        "if False:",
        "test_minibatches_divide_the_environments",
    ),
    "rollout: the memory outlives the episode": (
        "rollout.py",
        "_where(episodes.ended, jnp.zeros_like(leaf), leaf), carry)",
        "leaf, carry)",
        "test_the_carry_is_zero_only_after_an_end",
    ),
}
