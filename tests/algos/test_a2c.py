"""A2C against one gradient step by hand: its advantages, its optimisers, and both kinds of ends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import workbench as wb
from workbench import Bench


@jax.jit
def plain_gradient(params, obs, action, advantage, target, vf_coef, ent_coef):
    def loss(params):
        out = wb.outputs(params, obs, jnp)
        pi_loss = -(wb.log_prob(out, action, jnp) * advantage).mean()
        v_loss = ((wb.values(params, obs, jnp) - target) ** 2).mean() / 2
        return pi_loss + vf_coef * v_loss - ent_coef * wb.entropy(out, jnp).mean()

    return jax.grad(loss)(params)


@pytest.fixture(scope="module")
def benches():
    adam = {"optimizer": "adam", "normalize_advantage": True, "shared_torso": True, "anneal_lr": True}
    return {
        "rmsprop": Bench("a2c", "cartpole"),
        "adam": Bench("a2c", "pendulum", **adam, gae_lambda=0.9, value_lambda=0.7, normalize_reward=True),
    }


@pytest.fixture(scope="module")
def played(benches):
    return {name: bench.played(3) for name, bench in benches.items()}


def rmsprop_by_hand(learning_rate, max_grad_norm, gradient, opt_state):
    """Decay 0.99, and an epsilon of 1e-5 under the root."""
    norm = np.sqrt(sum(np.square(leaf).sum() for leaf in jax.tree.leaves(gradient)))
    gradient = jax.tree.map(lambda g: g * min(1, max_grad_norm / norm), gradient)
    found = [tree.nu for tree in opt_state[1] if hasattr(tree, "nu")]
    square = jax.tree.map(lambda nu, g: 0.99 * nu + 0.01 * g**2, wb.double(found[0]), gradient)
    return jax.tree.map(lambda g, nu: -learning_rate * g / np.sqrt(nu + 1e-5), gradient, square)


@pytest.mark.parametrize("step, ent_coef", [(0, 0.0), (600, 0.2)])
@pytest.mark.parametrize("name", ["rmsprop", "adam"])
def test_an_update_is_the_plain_one(benches, played, name, step, ent_coef):
    bench, (state, history) = benches[name], played[name]
    after, metrics = bench.update(state, history[-1], step=step, ent_coef=ent_coef)
    rollout = wb.Rollout(bench.cfg, history)
    cfg = rollout.cfg
    value, advantage, target = rollout.estimates_by(state.params)
    scaled = wb.standardized(advantage) if cfg.normalize_advantage else advantage
    rows = wb.float32((rollout.obs, rollout.action, scaled, target))
    gradient = plain_gradient(state.params, *rows, cfg.vf_coef, ent_coef)
    rate = cfg.learning_rate * (1 - step / cfg.total_timesteps if cfg.anneal_lr else 1)
    if name == "adam":
        params, _ = wb.adam_step(rate, cfg.max_grad_norm, gradient, state.opt_state, state.params)
    else:
        step = rmsprop_by_hand(rate, cfg.max_grad_norm, wb.double(gradient), state.opt_state)
        params = jax.tree.map(np.add, wb.double(state.params), step)
    wb.assert_close(after.params, params, rtol=1e-3, atol=1e-5)
    assert wb.nothing_like(after.params, state.params)
    np.testing.assert_allclose(metrics["v/loss"], np.square(value - target).mean() / 2, rtol=1e-3)
    out = wb.outputs(wb.double(state.params), rollout.obs)
    log_prob = wb.log_prob(out, rollout.action)
    np.testing.assert_allclose(metrics["pi/loss"], -(log_prob * scaled).mean(), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(metrics["pi/entropy"], wb.entropy(out).mean(), rtol=1e-4)
    explained = 1 - np.var(target - value) / np.var(target)
    np.testing.assert_allclose(metrics["v/explained_variance"], explained, rtol=1e-3, atol=1e-4)


def test_targets_are_n_step_returns(benches, played):
    """Rewards up to the end of the episode or of the rollout, and the critic's word for what is beyond."""
    bench, (state, history) = benches["rmsprop"], played["rmsprop"]
    rollout, gamma = wb.Rollout(bench.cfg, history), bench.cfg.gamma
    assert bench.cfg.gae_lambda == 1.0
    params = wb.double(state.params)
    value, beyond = (wb.values(params, obs) for obs in (rollout.time_obs, rollout.time_next_obs))
    terminated, truncated = rollout.flags
    steps, num_envs = terminated.shape
    target = np.zeros((steps, num_envs))
    for t, n in np.ndindex(target.shape):
        stops = [s for s in range(t, steps) if terminated[s, n] or truncated[s, n] or s == steps - 1]
        last = stops[0]
        target[t, n] = sum(gamma ** (s - t) * rollout.reward[s, n] for s in range(t, last + 1))
        target[t, n] += gamma ** (last + 1 - t) * beyond[last, n] * (not terminated[last, n])
    _, metrics = bench.update(state, history[-1])
    np.testing.assert_allclose(metrics["v/loss"], np.square(value - target).mean() / 2, rtol=1e-4)
    log_prob = wb.log_prob(wb.outputs(params, rollout.obs), rollout.action)
    expected = -(log_prob * wb.flat(target - value)).mean()
    np.testing.assert_allclose(metrics["pi/loss"], expected, rtol=1e-3)


@pytest.mark.parametrize(
    "terminated, truncated, bootstraps",
    [(False, True, True), (True, False, False), (True, True, False)],
)
def test_only_a_time_limit_has_a_future(benches, played, terminated, truncated, bootstraps):
    bench, (state, history) = benches["rmsprop"], played["rmsprop"]
    fill = lambda value: jnp.full(history[-1].reward.shape, value)
    last = history[-1]._replace(terminated=fill(terminated), truncated=fill(truncated))
    rollout = wb.Rollout(bench.cfg, [*history[:-1], last])
    params = wb.double(state.params)
    value, beyond = (wb.values(params, obs) for obs in (rollout.time_obs, rollout.time_next_obs))
    target = rollout.reward + bench.cfg.gamma * beyond * bootstraps
    _, metrics = bench.update(state, last)
    np.testing.assert_allclose(metrics["v/loss"], np.square(value - target).mean() / 2, rtol=1e-4)


def test_entropy_alone_moves_a_policy_without_rewards(benches, played):
    state, history = played["rmsprop"]
    wb.assert_only_the_entropy_bonus_moves(benches["rmsprop"], state, history[-1])


MUTANTS = {
    "estimate: rewards scaled as before the rollout": (
        "algos/on_policy.py",
        "next_values, observed, transition)",
        "next_values, normalizer, transition)",
        "test_an_update_is_the_plain_one",
    ),
    "estimate: next_obs as it comes": (
        "algos/on_policy.py",
        "normalize_obs(cfg, normalizer, flatten_time(o)) for o in (transition.obs, transition.next_obs)",
        "normalize_obs(cfg, normalizer, flatten_time(transition.obs)), flatten_time(transition.next_obs)",
        "test_targets_are_n_step_returns",
    ),
    "gradients: clipped one by one": (
        "algos/on_policy.py",
        "optax.clip_by_global_norm(cfg.max_grad_norm)",
        "optax.clip(cfg.max_grad_norm)",
        "test_an_update_is_the_plain_one",
    ),
    "a2c: forgets the entropy": (
        "algos/a2c.py",
        " - cfg.ent_coef * entropy, metrics",
        ", metrics",
        "test_entropy_alone_moves_a_policy_without_rewards",
    ),
    "a2c: rmsprop always": (
        "algos/a2c.py",
        'if cfg.optimizer == "adam":',
        "if False:",
        "test_an_update_is_the_plain_one",
    ),
    "a2c: epsilon beside the root": (
        "algos/a2c.py",
        "decay=0.99, eps=1e-5)",
        "decay=0.99, eps=1e-5, eps_in_sqrt=False)",
        "test_an_update_is_the_plain_one",
    ),
    "a2c: advantages as they come": (
        "algos/a2c.py",
        "losses.standardize(advantage) if cfg.normalize_advantage else advantage",
        "advantage",
        "test_an_update_is_the_plain_one",
    ),
    "a2c: returns of fewer steps": (
        "algos/a2c.py",
        "gae_lambda: float = real(1.0",
        "gae_lambda: float = real(0.95",
        "test_targets_are_n_step_returns",
    ),
    "a2c: a time limit is a death": (
        "algos/a2c.py",
        "observed.normalizer, transition)\n        left",
        "observed.normalizer, transition._replace(terminated=transition.termina"
        "ted | transition.truncated))\n        left",
        "test_only_a_time_limit_has_a_future",
    ),
    "a2c: a death at the time limit is none": (
        "algos/a2c.py",
        "observed.normalizer, transition)\n        left",
        "observed.normalizer, transition._replace(terminated=transition.termina"
        "ted & ~transition.truncated))\n        left",
        "test_only_a_time_limit_has_a_future",
    ),
}
