"""PPO against the same updates in a plain loop, and what each of its options does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import workbench as wb
from workbench import KEY, NEVER, Bench

import purerl
from purerl.config import ConfigError


def plain_loss(params, batch, clip_eps, value_clip_eps, vf_coef, ent_coef, kl_coef):
    out, value = wb.outputs(params, batch["obs"], jnp), wb.values(params, batch["obs"], jnp)
    log_prob, advantage = wb.log_prob(out, batch["action"], jnp), batch["advantage"]
    ratio = jnp.exp(log_prob - batch["log_prob"])
    bounded = jnp.maximum(jnp.minimum(ratio, 1 + clip_eps), 1 - clip_eps)
    pi_loss = -jnp.minimum(ratio * advantage, bounded * advantage).mean()
    change = jnp.maximum(jnp.minimum(value - batch["value"], value_clip_eps), -value_clip_eps)
    worse = jnp.maximum((value - batch["target"]) ** 2, (batch["value"] + change - batch["target"]) ** 2)
    v_loss, entropy = worse.mean() / 2, wb.entropy(out, jnp).mean()
    metrics = {
        "pi/loss": pi_loss,
        "v/loss": v_loss,
        "pi/entropy": entropy,
        "pi/kl": (ratio - 1 - jnp.log(ratio)).mean(),
        "pi/clip_fraction": (jnp.abs(ratio - 1) > clip_eps).mean(),
    }
    penalty = wb.kl(batch["out"], out, jnp).mean()
    return pi_loss + vf_coef * v_loss - ent_coef * entropy + kl_coef * penalty, metrics


plain_gradient = jax.jit(jax.grad(plain_loss, has_aux=True))


def plain_ppo(bench, state, history, key=KEY, step=0, latch=True, **changes):
    """`(params, metrics of every gradient step, the critic's first estimates)` of one update."""
    rollout = wb.Rollout(bench.cfg, history, **changes)
    cfg, (params, opt_state) = rollout.cfg, state.learner
    left = max(1 - step / cfg.total_timesteps, 0)
    limit = NEVER if cfg.clip_eps is None else cfg.clip_eps * (left if cfg.anneal_clip else 1)
    learning_rate = cfg.learning_rate * (left if cfg.anneal_lr else 1)
    coefs = (
        limit,
        cfg.value_clip_eps or NEVER,
        cfg.vf_coef,
        cfg.ent_coef,
        state.kl_coef if cfg.kl_penalty_target else 0,
    )
    out = wb.outputs(wb.double(params), rollout.obs)
    log_prob, rows, going = wb.log_prob(out, rollout.action), [], True
    first = rollout.estimates_by(params)
    for order in wb.orders(key, cfg.num_epochs, len(log_prob), cfg.num_minibatches):
        _, advantage, target = rollout.estimates_by(params) if cfg.recompute_advantages else first
        for index in order:
            batch = {"obs": rollout.obs, "action": rollout.action, "log_prob": log_prob, "out": out}
            batch |= {"value": first[0], "target": target, "advantage": advantage}
            batch = jax.tree.map(lambda leaf, index=index: leaf[index], batch)
            batch["advantage"] = wb.standardized(batch["advantage"])
            gradient, metrics = plain_gradient(params, wb.float32(batch), *map(jnp.float32, coefs))
            quiet = metrics["pi/kl"] <= 1.5 * (cfg.early_stop_kl or NEVER)
            going = quiet and (going or not latch)
            rows.append(metrics | {"pi/stopped": 1.0 - going})
            if going:
                rates = learning_rate, cfg.max_grad_norm
                params, opt_state = wb.adam_step(*rates, gradient, opt_state, params)
    rows = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return params, rows, first


def assert_equal_to_plain(bench, played, step=0, **changes):
    state, history = played
    after, metrics = bench.update(state, history[-1], step=step, **changes)
    params, rows, first = plain_ppo(bench, state, history, step=step, **changes)
    assert wb.nothing_like(after.learner.params, state.learner.params)
    wb.assert_close(after.learner.params, params, rtol=1e-3, atol=2e-5)
    for name, row in rows.items():
        if name in metrics:
            np.testing.assert_allclose(metrics[name], row.mean(), rtol=2e-3, atol=2e-5, err_msg=name)
    explained = 1 - np.var(first[2] - first[0]) / np.var(first[2])
    np.testing.assert_allclose(metrics["v/explained_variance"], explained, rtol=1e-3, atol=1e-4)
    return metrics


OPTIONS = {
    "anneal_lr": True,
    "anneal_clip": True,
    "value_clip_eps": 0.05,
    "normalize_reward": True,
    "value_lambda": 0.5,
    "ent_coef": 0.02,
}


@pytest.fixture(scope="module")
def single():
    """One gradient step an update."""
    return {env: Bench("ppo", env) for env in ("pendulum", "cartpole")}


@pytest.fixture(scope="module")
def single_played(single):
    return {env: bench.played(3) for env, bench in single.items()}


@pytest.fixture(scope="module")
def pendulum_played(single_played):
    """State and rollouts for every bench on pendulum: their states have one structure."""
    return single_played["pendulum"]


@pytest.fixture(scope="module")
def optioned():
    return Bench("ppo", "pendulum", num_epochs=3, num_minibatches=2, **OPTIONS)


@pytest.mark.parametrize("env", ["pendulum", "cartpole"])
def test_the_first_minibatch_has_ratio_1(single, single_played, env):
    state, history = single_played[env]
    assert state.normalizer.obs.count == 96
    rollout = wb.Rollout(single[env].cfg, history)
    log_prob = wb.log_prob(wb.outputs(wb.double(state.learner.params), rollout.obs), rollout.action)
    ratio = np.exp(log_prob - wb.flat(history[-1].extras["log_prob"]))
    assert np.abs(ratio - 1).max() < 1e-5
    _, metrics = single[env].update(state, history[-1])
    assert metrics["pi/kl"] < 1e-9
    assert metrics["pi/clip_fraction"] == 0
    assert abs(metrics["pi/loss"]) < 1e-5, "the mean of standardised advantages"


@pytest.mark.parametrize("env", ["pendulum", "cartpole"])
def test_one_step_is_the_plain_one(single, single_played, env):
    assert_equal_to_plain(single[env], single_played[env])


def test_the_value_loss_by_hand(single, single_played):
    bench, (state, history) = single["pendulum"], single_played["pendulum"]
    rollout = wb.Rollout(bench.cfg, history)
    value, _, target = rollout.estimates_by(state.learner.params)
    _, metrics = bench.update(state, history[-1])
    np.testing.assert_allclose(metrics["v/loss"], np.square(value - target).mean() / 2, rtol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"value_clip_eps": NEVER},
        {"value_lambda": 0.95},
        {"clip_eps": 0.02},
        {"ent_coef": 0.5},
        {"vf_coef": 0.1, "max_grad_norm": 0.05},
    ],
    ids=lambda changes: ",".join(changes) or "as they are",
)
def test_every_option_reaches_the_loss(optioned, pendulum_played, changes):
    metrics = assert_equal_to_plain(optioned, pendulum_played, **changes)
    assert metrics["pi/kl"] > 1e-5


def test_the_options_matter(optioned, pendulum_played):
    state, history = pendulum_played
    _, usual = optioned.update(state, history[-1])
    for changes in ({"value_clip_eps": NEVER}, {"value_lambda": 0.95}):
        _, metrics = optioned.update(state, history[-1], **changes)
        assert abs(metrics["v/loss"] - usual["v/loss"]) > 1e-3
    unscaled = wb.Rollout(optioned.cfg, history)
    assert np.abs(unscaled.reward - wb.double(history[-1].reward)).max() > 0.1


@pytest.mark.parametrize("step", [500, 750])
def test_step_size_and_clip_fall_linearly(optioned, pendulum_played, step):
    assert_equal_to_plain(optioned, pendulum_played, step=step, clip_eps=0.05)


@pytest.mark.parametrize("step", [1000, 1500])
def test_nothing_is_learned_after_the_total(optioned, pendulum_played, step):
    state, history = pendulum_played
    after, _ = optioned.update(state, history[-1], step=step)
    assert wb.same_bits(after.learner.params, state.learner.params)
    assert after.normalizer.obs.count > state.normalizer.obs.count


# The penalty


@pytest.fixture(scope="module")
def penalty():
    return Bench("ppo", "pendulum", clip_eps=None, kl_penalty_target=0.01, num_epochs=3)


def test_the_coefficient_follows_the_exact_divergence(penalty, pendulum_played):
    state, history = pendulum_played
    obs = wb.Rollout(penalty.cfg, history).obs
    state = state._replace(kl_coef=jnp.float32(3.0))
    after, metrics = penalty.update(state, history[-1])
    kl = wb.mean_kl(state.learner.params, after.learner.params, obs)
    reverse = wb.mean_kl(after.learner.params, state.learner.params, obs)
    assert kl > 1e-4 and metrics["pi/kl_coef"] == 3.0
    assert abs(kl / reverse - 1) > 0.004, "or it could be either"
    for target, coef in ((1.5 * 1.002, 1.5), (1.5 * 0.998, 3.0), (1.002 / 1.5, 3.0), (0.998 / 1.5, 6.0)):
        after, _ = penalty.update(state, history[-1], kl_penalty_target=kl * target)
        assert after.kl_coef == coef, (kl, target)


@pytest.mark.parametrize("coef", [0.0, 1.0, 30.0])
def test_the_penalty_is_the_coefficient_times_the_divergence(penalty, pendulum_played, coef):
    state, history = pendulum_played
    assert_equal_to_plain(penalty, (state._replace(kl_coef=jnp.float32(coef)), history))


def test_the_next_update_uses_the_new_coefficient(penalty, pendulum_played):
    state, history = pendulum_played
    moved = []
    for coef in (0.0, 300.0):
        after, _ = penalty.update(state._replace(kl_coef=jnp.float32(coef)), history[-1])
        obs = wb.Rollout(penalty.cfg, history).obs
        moved.append(wb.mean_kl(state.learner.params, after.learner.params, obs))
    assert moved[1] < 0.7 * moved[0]


@pytest.mark.parametrize(
    "field, fields",
    [
        ("clip_eps", {"clip_eps": None}),
        ("anneal_clip", {"clip_eps": None, "kl_penalty_target": 0.01, "anneal_clip": True}),
        ("num_minibatches", {"num_envs": 4, "num_steps": 8, "num_minibatches": 5}),
    ],
)
def test_contradicting_options_are_refused(field, fields):
    with pytest.raises(ConfigError) as error:
        purerl.make_algorithm(purerl.make_config("ppo", env="pendulum", **fields))
    assert error.value.field == field


# Stopping early


@pytest.fixture(scope="module")
def stopping():
    return Bench("ppo", "pendulum", num_epochs=6, num_minibatches=2, early_stop_kl=NEVER, learning_rate=0.05)


def test_an_update_stops_for_good_at_the_kl_limit(stopping, pendulum_played):
    state, history = pendulum_played
    _, rows, _ = plain_ppo(stopping, state, history)
    levels = np.sort(rows["pi/kl"][2:])
    resumed = 0
    for target in (levels[:-1] + levels[1:])[:6] / 2 / 1.5:
        after, metrics = stopping.update(state, history[-1], early_stop_kl=target)
        params, rows, _ = plain_ppo(stopping, state, history, early_stop_kl=target)
        *_, other = plain_ppo(stopping, state, history, early_stop_kl=target, latch=False)[:2]
        resumed += (other["pi/stopped"] != rows["pi/stopped"]).any()
        np.testing.assert_allclose(metrics["pi/stopped"], rows["pi/stopped"].mean(), atol=1e-6)
        wb.assert_close(after.learner.params, params, rtol=1e-3, atol=2e-5)
    assert resumed, "no minibatch after the stop was quiet again"


def test_the_steps_before_the_stop_are_those_of_a_short_update(stopping, pendulum_played):
    """With no divergence allowed, only the first pass's first minibatch counts: it has none yet."""
    state, history = pendulum_played
    first, metrics = stopping.update(state, history[-1], early_stop_kl=1e-9)
    steps = stopping.cfg.num_epochs * stopping.cfg.num_minibatches
    np.testing.assert_allclose(metrics["pi/stopped"], 1 - 1 / steps, rtol=1e-6)
    params, rows, _ = plain_ppo(stopping, state, history, early_stop_kl=1e-9)
    assert rows["pi/stopped"].sum() == steps - 1
    wb.assert_close(first.learner.params, params, rtol=1e-4, atol=2e-6)
    other, _, _ = plain_ppo(stopping, state, history, early_stop_kl=NEVER)
    assert wb.nothing_like(first.learner.params, other)


def test_a_high_limit_does_not_stop_an_update(stopping, pendulum_played):
    """The update is the one without early stopping, another program."""
    state, history = pendulum_played
    unhindered, metrics = stopping.update(state, history[-1], early_stop_kl=NEVER)
    assert metrics["pi/stopped"] == 0
    free = Bench("ppo", "pendulum", num_epochs=6, num_minibatches=2, learning_rate=0.05)
    same, _ = free.update(state, history[-1])
    wb.assert_close(unhindered.learner.params, same.learner.params, rtol=1e-4, atol=2e-6)
    assert wb.nothing_like(same.learner.params, state.learner.params)


# Advantages again


def test_recomputed_advantages_are_those_of_the_plain_loop(single_played):
    bench = Bench("ppo", "cartpole", num_epochs=4, recompute_advantages=True, value_clip_eps=0.02)
    state, history = single_played["cartpole"]
    metrics = assert_equal_to_plain(bench, (state, history))
    for changes in ({"recompute_advantages": False}, {"value_clip_eps": NEVER}):
        _, rows, _ = plain_ppo(bench, state, history, **changes)
        assert abs(metrics["v/loss"] / rows["v/loss"].mean() - 1) > 5e-3, changes


def test_one_pass_recomputes_nothing(single, single_played):
    state, history = single_played["cartpole"]
    usual, _ = single["cartpole"].update(state, history[-1])
    again, _ = Bench("ppo", "cartpole", recompute_advantages=True).update(state, history[-1])
    wb.assert_close(again.learner.params, usual.learner.params, rtol=1e-6, atol=1e-7)


# Networks


def test_a_shared_torso_learns_from_both_losses(single_played):
    bench = Bench("ppo", "cartpole", shared_torso=True, num_epochs=2, pi_init_scale=1.0)
    state, (*_, last) = jax.jit(bench.algo.init)(KEY), single_played["cartpole"][1]
    out = wb.outputs(wb.double(state.learner.params), wb.double(last.obs))
    last = last._replace(extras={"log_prob": jnp.float32(wb.log_prob(out, np.asarray(last.action)))})
    history = [last]
    assert set(state.learner.params) == {"torso", "pi", "v"}
    assert len(wb.layers(state.learner.params["torso"])) == 1
    assert_equal_to_plain(bench, (state, history))
    rollout = wb.Rollout(bench.cfg, history)
    value, _, target = rollout.estimates_by(state.learner.params)
    batch = {"obs": rollout.obs, "action": rollout.action, "value": value, "target": target}
    batch["out"] = wb.outputs(wb.double(state.learner.params), rollout.obs)
    batch["log_prob"] = wb.log_prob(batch["out"], rollout.action)
    for advantage, vf_coef in ((1.0, 0.0), (0.0, 1.0)):
        batch["advantage"] = np.full(len(value), advantage)
        args = state.learner.params, wb.float32(batch), *map(jnp.float32, (NEVER, NEVER, vf_coef, 0, 0))
        gradient, _ = plain_gradient(*args)
        assert all(np.abs(leaf).max() > 1e-5 for leaf in jax.tree.leaves(gradient["torso"]))


MUTANTS = {
    "stops at the target itself": (
        "algos/ppo.py",
        "<= 1.5 * cfg.early_stop_kl",
        "<= cfg.early_stop_kl",
        "test_an_update_stops_for_good_at_the_kl_limit",
    ),
    "normalises by new observations": (
        "algos/ppo.py",
        "obs = normalize.normalize_obs(cfg, state.normalizer, steps.obs)",
        "obs = normalize.normalize_obs(cfg, observe(state, transition).normalizer, steps.obs)",
        "test_one_step_is_the_plain_one",
    ),
    "never stops": (
        "algos/ppo.py",
        'going &= metrics["pi/kl"]',
        'going |= metrics["pi/kl"]',
        "test_the_steps_before_the_stop_are_those_of_a_short_update",
    ),
    "the step at the stop counts": (
        "algos/ppo.py",
        "<= 1.5 * cfg.early_stop_kl",
        "<= 1e9 * cfg.early_stop_kl",
        "test_the_steps_before_the_stop_are_those_of_a_short_update",
    ),
    "ppo: the penalty has no coefficient": (
        "algos/ppo.py",
        "total += kl_coef * model",
        "total += model",
        "test_the_penalty_is_the_coefficient_times_the_divergence",
    ),
    "ppo: the penalty turned round": (
        "algos/ppo.py",
        "model.distribution(batch.outputs).kl_divergence(policy)",
        "policy.kl_divergence(model.distribution(batch.outputs))",
        "test_the_penalty_is_the_coefficient_times_the_divergence",
    ),
    "ppo: the coefficient follows the divergence turned round": (
        "algos/ppo.py",
        "kl = model.distribution(outputs).kl_divergence(new).mean()",
        "kl = new.kl_divergence(model.distribution(outputs)).mean()",
        "test_the_coefficient_follows_the_exact_divergence",
    ),
    "ppo: stops where the divergence is small": (
        "algos/ppo.py",
        'going &= metrics["pi/kl"] <= 1.5',
        'going &= metrics["pi/kl"] >= 1.5',
        "test_an_update_stops_for_good_at_the_kl_limit",
    ),
    "ppo: goes on after the stop": (
        "algos/ppo.py",
        "going &= metrics",
        "going = metrics",
        "test_an_update_stops_for_good_at_the_kl_limit",
    ),
    "ppo: takes the step that is too far": (
        "algos/ppo.py",
        "jnp.where(going, new, old), learner",
        "jnp.where(loop[1], new, old), learner",
        "test_an_update_stops_for_good_at_the_kl_limit",
    ),
    "ppo: says what it did not skip": (
        "algos/ppo.py",
        'metrics["pi/stopped"] = jnp.float32(~going)',
        'metrics["pi/stopped"] = jnp.float32(going)',
        "test_an_update_stops_for_good_at_the_kl_limit",
    ),
    "ppo: estimates anew with stale parameters": (
        "algos/ppo.py",
        "estimates(loop[0].params)",
        "estimates(state.learner.params)",
        "test_recomputed_advantages_are_those_of_the_plain_loop",
    ),
    "ppo: clips the value about a new one": (
        "algos/ppo.py",
        "._replace(value=batch.estimates.value)",
        "",
        "test_recomputed_advantages_are_those_of_the_plain_loop",
    ),
    "ppo: every pass in the same order": (
        "algos/ppo.py",
        "jax.random.split(key, cfg.num_epochs)",
        "jnp.broadcast_to(key, (cfg.num_epochs,))",
        "test_every_option_reaches_the_loss",
    ),
    "ppo: the step size never falls": (
        "algos/ppo.py",
        "cfg.learning_rate * left if cfg.anneal_lr else cfg.learning_rate",
        "cfg.learning_rate",
        "test_nothing_is_learned_after_the_total",
    ),
    "ppo: the clip never falls": (
        "algos/ppo.py",
        "cfg.clip_eps * left if",
        "cfg.clip_eps if",
        "test_step_size_and_clip_fall_linearly",
    ),
    "ppo: clips the value about its target": (
        "algos/ppo.py",
        "losses.clipped_value_loss(value, old_value,",
        "losses.clipped_value_loss(value, target,",
        "test_every_option_reaches_the_loss",
    ),
    "ppo: advantages as they come": (
        "algos/ppo.py",
        "losses.standardize(advantage), model.value",
        "advantage, model.value",
        "test_one_step_is_the_plain_one",
    ),
    "ppo: ascends against entropy": (
        "algos/ppo.py",
        "- cfg.ent_coef * entropy",
        "+ cfg.ent_coef * entropy",
        "test_every_option_reaches_the_loss",
    ),
    "ppo: anneals nothing": (
        "algos/ppo.py",
        "if cfg.clip_eps is None and cfg.anneal_clip:",
        "if False:",
        "test_contradicting_options_are_refused",
    ),
    "estimate: the critic's lambda without effect": (
        "algos/on_policy.py",
        "if cfg.value_lambda is not None:",
        "if False:",
        "test_the_options_matter",
    ),
    "remaining: less than nothing": (
        "algos/on_policy.py",
        "jnp.maximum(1.0 - step / cfg.total_timesteps, 0.0)",
        "1.0 - step / cfg.total_timesteps",
        "test_nothing_is_learned_after_the_total",
    ),
}
