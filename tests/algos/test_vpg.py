"""VPG against one step of the policy and passes of the critic written out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import workbench as wb
from workbench import KEY, Bench

FIELDS = {"num_epochs": 3, "num_minibatches": 2}


@jax.jit
def plain_gradient(pi, obs, action, advantage, ent_coef):
    def loss(pi):
        out = wb.outputs({"pi": pi}, obs, jnp)
        return -(wb.log_prob(out, action, jnp) * advantage).mean() - ent_coef * wb.entropy(out, jnp).mean()

    return jax.grad(loss)(pi)


@pytest.fixture(scope="module")
def benches():
    options = {"anneal_lr": True, "normalize_reward": True}
    return {
        "pendulum": Bench("vpg", "pendulum", **FIELDS, **options, value_lambda=None),
        "cartpole": Bench("vpg", "cartpole", **FIELDS),
    }


@pytest.fixture(scope="module")
def played(benches):
    return {env: bench.played(3) for env, bench in benches.items()}


@pytest.fixture(params=["pendulum", "cartpole"])
def case(request, benches, played):
    return benches[request.param], *played[request.param]


@pytest.mark.parametrize("step, ent_coef", [(0, 0.0), (400, 0.1)])
def test_an_update_is_the_plain_one(case, step, ent_coef):
    bench, state, history = case
    after, metrics = bench.update(state, history[-1], step=step, ent_coef=ent_coef)
    rollout = wb.Rollout(bench.cfg, history)
    cfg, pi = rollout.cfg, state.params["pi"]
    value, advantage, target = rollout.estimates_by(state.params)
    rows = rollout.obs, rollout.action, wb.standardized(advantage)
    gradient = plain_gradient(pi, *wb.float32(rows), ent_coef)
    left = 1 - step / cfg.total_timesteps if cfg.anneal_lr else 1
    rates = cfg.learning_rate * left, cfg.max_grad_norm
    pi, opt_state = wb.adam_step(*rates, gradient, state.opt_state["pi"], pi)
    wb.assert_close(after.params["pi"], pi, rtol=1e-3, atol=1e-5)
    wb.assert_close(after.opt_state["pi"], opt_state, rtol=1e-3, atol=1e-5)
    critic = state.params["v"], state.opt_state["v"]
    v, _, error = wb.fitted_critic(cfg, *critic, rollout.obs, target, KEY)
    wb.assert_close(after.params["v"], v, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(metrics["v/loss"], error, rtol=1e-3)
    kl = wb.mean_kl(state.params, after.params, rollout.obs)
    np.testing.assert_allclose(metrics["pi/kl"], kl, rtol=1e-2, atol=1e-7)
    explained = 1 - np.var(target - value) / np.var(target)
    np.testing.assert_allclose(metrics["v/explained_variance"], explained, rtol=1e-3, atol=1e-4)


def test_actor_and_critic_learn_apart(case):
    bench, state, history = case
    both, _ = bench.update(state, history[-1])
    still, _ = bench.update(state, history[-1], learning_rate=0)
    assert wb.same_bits(still.params["pi"], state.params["pi"])
    assert wb.same_bits(still.params["v"], both.params["v"])
    blind, _ = bench.update(state, history[-1], value_learning_rate=0)
    assert wb.same_bits(blind.params["v"], state.params["v"])
    assert wb.same_bits(blind.params["pi"], both.params["pi"]), "the advantages are from before the passes"
    assert wb.nothing_like(both.params, state.params)


def test_entropy_alone_moves_a_policy_without_rewards(benches, played):
    state, history = played["cartpole"]
    wb.assert_only_the_entropy_bonus_moves(benches["cartpole"], state, history[-1])


MUTANTS = {
    "critic: every pass in the same order": (
        "algos/on_policy.py",
        "jax.random.split(key, cfg.num_epochs)",
        "jnp.broadcast_to(key, (cfg.num_epochs,))",
        "test_an_update_is_the_plain_one",
    ),
    "vpg: advantages of the fitted critic": (
        "algos/vpg.py",
        "pi, pi_opt, metrics = ascend(",
        "critic = on_policy.fit_critic(cfg, value, (state.params['v'], state.op"
        "t_state['v']), obs, target, key)[0]; advantage = on_policy.estimate(cf"
        "g, partial(value, critic[0]), state.normalizer, observed.normalizer, t"
        "ransition).advantage; pi, pi_opt, metrics = ascend(",
        "test_actor_and_critic_learn_apart",
    ),
    "vpg: advantages as they come": (
        "algos/vpg.py",
        "losses.standardize(advantage), step)",
        "advantage, step)",
        "test_an_update_is_the_plain_one",
    ),
    "vpg: ascends against entropy": (
        "algos/vpg.py",
        "loss - cfg.ent_coef * entropy",
        "loss + cfg.ent_coef * entropy",
        "test_entropy_alone_moves_a_policy_without_rewards",
    ),
    "vpg: the step size never falls": (
        "algos/vpg.py",
        "cfg.learning_rate * left",
        "cfg.learning_rate",
        "test_an_update_is_the_plain_one",
    ),
}
