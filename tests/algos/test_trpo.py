"""TRPO: its constraint holds after every update, and its step is the natural one of the whole matrix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import workbench as wb
from workbench import KEY, Bench

from purerl.ops import trust_region

FIELDS = {"hidden_sizes": (4,), "num_epochs": 2, "num_minibatches": 2, "gae_lambda": 0.9}
UPDATES = 20


def surrogate(before, after, rollout):
    """`mean(ratio A)` of `after` on a rollout by `before`; that of `before` is 0."""
    advantage = rollout.estimates_by(before)[1]
    old, new = (wb.log_prob(wb.outputs(wb.double(p), rollout.obs), rollout.action) for p in (before, after))
    return (np.exp(new - old) * wb.standardized(advantage)).mean()


@pytest.fixture(scope="module")
def benches():
    return {
        "pendulum": Bench("trpo", "pendulum", **FIELDS, normalize_reward=True),
        "cartpole": Bench("trpo", "cartpole", **FIELDS, cg_steps=30),
    }


@pytest.fixture(scope="module")
def runs(benches):
    """By environment, what every update saw and did: `(state, history, state, metrics)`."""
    return {env: list(run(bench, UPDATES, damping=(0.1, 1e-3))) for env, bench in benches.items()}


def run(bench, updates, damping):
    """Updates with one `damping` after the other: where it is small, the line search has work to do."""
    play, history = bench.begin(KEY), []
    for i in range(updates):
        play, transition = bench.collect(play, jax.random.fold_in(KEY, i))
        history.append(transition)
        after, metrics = bench.update(play.state, transition, cg_damping=damping[i % len(damping)])
        yield play.state, history.copy(), after, metrics
        play = play._replace(state=after)


@pytest.mark.parametrize("env", ["pendulum", "cartpole"])
def test_every_update_stays_in_the_trust_region_and_improves(benches, runs, env):
    limit, fractions = benches[env].cfg.target_kl, []
    for state, history, after, metrics in runs[env]:
        rollout = wb.Rollout(benches[env].cfg, history)
        kl = wb.mean_kl(state.params, after.params, rollout.obs)
        gain = surrogate(state.params, after.params, rollout)
        assert kl <= limit * (1 + 1e-3) and gain >= -1e-6
        np.testing.assert_allclose(metrics["pi/kl"], kl, rtol=1e-2, atol=1e-6)
        np.testing.assert_allclose(metrics["pi/improvement"], gain, rtol=1e-2, atol=1e-5)
        moved = not wb.same_bits(after.params["pi"], state.params["pi"])
        assert metrics["pi/accepted"] == (metrics["pi/step_fraction"] > 0) == moved
        fractions.append(float(metrics["pi/step_fraction"]))
    assert np.mean(np.array(fractions) > 0) >= 0.9
    assert 0 < np.mean(np.array(fractions) == 1) < 1, "the line search was never needed, or always"


@pytest.mark.parametrize("env", ["pendulum", "cartpole"])
def test_policy_and_critic_leave_each_other_alone(benches, runs, env):
    bench, (state, history, after, metrics) = benches[env], runs[env][4]
    other, _ = bench.update(state, history[-1], target_kl=1e-4)
    assert wb.same_bits(other.params["v"], after.params["v"])
    assert not wb.same_bits(other.params["pi"], after.params["pi"])
    blind, _ = bench.update(state, history[-1], value_learning_rate=0)
    assert wb.same_bits(blind.params["v"], state.params["v"])
    assert wb.same_bits(blind.params["pi"], after.params["pi"]), "the advantages are from before the passes"
    rollout = wb.Rollout(bench.cfg, history)
    value, _, target = rollout.estimates_by(state.params)
    v, _, error = wb.fitted_critic(rollout.cfg, state.params["v"], state.opt_state, rollout.obs, target, KEY)
    wb.assert_close(after.params["v"], v, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(metrics["v/loss"], error, rtol=1e-3)
    explained = 1 - np.var(target - value) / np.var(target)
    np.testing.assert_allclose(metrics["v/explained_variance"], explained, rtol=1e-3, atol=1e-4)


@jax.jit
def jacobian(pi, obs):
    return jax.jacobian(lambda pi: wb.outputs({"pi": pi}, obs, jnp))(pi)


def as_rows(tree, lead) -> np.ndarray:
    """Derivatives by each parameter, `[*lead, P]`."""
    return np.concatenate([leaf.reshape(*lead, -1) for leaf in jax.tree.leaves(wb.double(tree))], -1)


def natural_step(params, rollout, damping, limit):
    """`sqrt(2 limit / x'Ax) x`, `[P]`, where `A x = g` with the whole matrix A of Fisher and damping."""
    out, slopes = wb.outputs(wb.double(params), rollout.obs), jacobian(params["pi"], rollout.obs)
    advantage, rows = wb.standardized(rollout.estimates_by(params)[1]), len(rollout.obs)
    if isinstance(out, tuple):
        (mean, log_std), size = out, out[0].shape[-1]
        by_mean, by_std = (as_rows(slope, (rows, size)) for slope in slopes)
        error = (rollout.action - mean) / np.exp(log_std)
        scores = np.einsum("ba,bap->bp", error / np.exp(log_std), by_mean)
        scores += np.einsum("ba,bap->bp", error**2 - 1, by_std)
        fisher = np.einsum("bap,ba,baq->pq", by_mean, np.exp(-2 * log_std), by_mean)
        fisher += 2 * np.einsum("bap,baq->pq", by_std, by_std)
    else:
        p, by_logit = np.exp(wb.log_softmax(out)), as_rows(slopes, (rows, out.shape[-1]))
        hot = np.eye(out.shape[-1])[rollout.action]
        scores = np.einsum("bk,bkp->bp", hot - p, by_logit)
        inner = np.einsum("bk,kl->bkl", p, np.eye(out.shape[-1])) - np.einsum("bk,bl->bkl", p, p)
        fisher = np.einsum("bkp,bkl,blq->pq", by_logit, inner, by_logit)
    gradient = (scores * advantage[:, None]).mean(0)
    matrix = fisher / rows + damping * np.eye(len(gradient))
    direction = np.linalg.solve(matrix, gradient)
    return np.sqrt(2 * limit / (direction @ matrix @ direction)) * direction


@pytest.mark.parametrize("env", ["pendulum", "cartpole"])
def test_a_step_is_the_natural_gradient_of_the_whole_matrix(benches, runs, env):
    bench, found = benches[env], 0
    for state, history, after, metrics in runs[env][::2]:
        fraction = float(metrics["pi/step_fraction"])
        rollout = wb.Rollout(bench.cfg, history)
        step = natural_step(state.params, rollout, bench.cfg.cg_damping, bench.cfg.target_kl)
        assert len(step) < 100
        before, now = (as_rows(tree.params["pi"], ()) for tree in (state, after))
        np.testing.assert_allclose(now - before, fraction * step, rtol=0, atol=0.01 * np.abs(step).max())
        found += fraction == 1
    assert found >= 3


# A step that the line search does not like


@pytest.fixture(scope="module")
def stretched():
    """One update in which the step was `stretch` times the natural one."""
    bench, scale_to_limit = Bench("trpo", "cartpole", **FIELDS), trust_region.scale_to_limit

    def update(state, transition, stretch):
        def scaled(*args):
            return jax.tree.map(lambda leaf: stretch * leaf, scale_to_limit(*args))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(trust_region, "scale_to_limit", scaled)
            return bench.plain_update(state, transition, KEY, jnp.int32(0), bench.hyper())

    return jax.jit(update)


@pytest.mark.parametrize("stretch", [1e6, -0.01, np.nan], ids=["too far", "downhill", "not a number"])
def test_without_an_allowed_step_the_policy_stays(runs, stretched, stretch):
    state, history, *_ = runs["cartpole"][3]
    after, metrics = stretched(state, history[-1], stretch)
    assert wb.same_bits(after.params["pi"], state.params["pi"])
    assert metrics["pi/accepted"] == 0 and metrics["pi/step_fraction"] == 0
    assert metrics["pi/kl"] < 1e-7 and abs(metrics["pi/improvement"]) < 1e-7
    assert wb.nothing_like(after.params["v"], state.params["v"])


def test_a_step_that_is_too_long_is_shortened(benches, runs, stretched):
    state, history, *_ = runs["cartpole"][3]
    after, metrics = stretched(state, history[-1], 4.0)
    assert metrics["pi/accepted"] == 1
    tries = np.log(metrics["pi/step_fraction"]) / np.log(0.8)
    assert abs(tries - round(float(tries))) < 1e-4 and 2 < tries < 9
    obs, limit = wb.Rollout(benches["cartpole"].cfg, history).obs, benches["cartpole"].cfg.target_kl
    longer = jax.tree.map(lambda a, b: b + (a - b) / 0.8, after.params["pi"], state.params["pi"])
    assert wb.mean_kl(state.params, after.params, obs) <= limit * (1 + 1e-3)
    assert wb.mean_kl(state.params, {"pi": longer}, obs) > limit


@pytest.mark.slow
def test_most_steps_on_hopper_are_accepted():
    bench = Bench("trpo", "hopper", hidden_sizes=(16,), num_envs=8, num_steps=32)
    accepted = []
    for state, history, after, metrics in run(bench, 30, damping=[0.1]):
        obs = wb.Rollout(bench.cfg, history).obs
        limit = bench.cfg.target_kl * (1 + 1e-3)
        assert wb.mean_kl(state.params, after.params, obs) <= limit
        accepted.append(float(metrics["pi/accepted"]))
    assert np.mean(accepted) >= 0.9


MUTANTS = {
    "trpo: accepts any divergence": (
        "algos/trpo.py",
        "(mean_kl(candidate) <= cfg.target_kl) & (surrogate_loss(candidate) <= old_loss)",
        "(surrogate_loss(candidate) <= old_loss)",
        "test_a_step_that_is_too_long_is_shortened",
    ),
    "trpo: accepts a worse policy": (
        "algos/trpo.py",
        "(mean_kl(candidate) <= cfg.target_kl) & (surrogate_loss(candidate) <= old_loss)",
        "(mean_kl(candidate) <= cfg.target_kl)",
        "test_without_an_allowed_step_the_policy_stays",
    ),
    "trpo: accepts what is not a number": (
        "algos/trpo.py",
        "(mean_kl(candidate) <= cfg.target_kl) & (surrogate_loss(candidate) <= old_loss)",
        "~((mean_kl(candidate) > cfg.target_kl) | (surrogate_loss(candidate) > old_loss))",
        "test_without_an_allowed_step_the_policy_stays",
    ),
    "trpo: says a refused step was taken": (
        "algos/trpo.py",
        '"pi/accepted": (fraction > 0)',
        '"pi/accepted": (fraction >= 0)',
        "test_without_an_allowed_step_the_policy_stays",
    ),
    "trpo: climbs its loss": (
        "algos/trpo.py",
        "jax.tree.map(jnp.negative, gradient)",
        "gradient",
        "test_a_step_is_the_natural_gradient_of_the_whole_matrix",
    ),
    "trpo: the matrix undamped": (
        "algos/trpo.py",
        "mean_kl, pi_params, cfg.cg_damping",
        "mean_kl, pi_params, 0.0",
        "test_a_step_is_the_natural_gradient_of_the_whole_matrix",
    ),
    "trpo: the gradient itself": (
        "algos/trpo.py",
        "descent, cfg.cg_steps)",
        "descent, 1)",
        "test_a_step_is_the_natural_gradient_of_the_whole_matrix",
    ),
    "trpo: the divergence turned round": (
        "algos/trpo.py",
        'old.kl_divergence(model.policy({"pi": pi_params}, obs))',
        'model.policy({"pi": pi_params}, obs).kl_divergence(old)',
        "test_every_update_stays_in_the_trust_region_and_improves",
    ),
    "trpo: advantages as they come": (
        "algos/trpo.py",
        "losses.standardize(advantage))",
        "advantage)",
        "test_every_update_stays_in_the_trust_region_and_improves",
    ),
    "trpo: advantages of the fitted critic": (
        "algos/trpo.py",
        'pi, metrics = improve(state.params["pi"], obs',
        "critic = on_policy.fit_critic(cfg, value, (state.params['v'], state.op"
        "t_state), obs, target, key)[0]; advantage = on_policy.estimate(cfg, pa"
        "rtial(value, critic[0]), state.normalizer, observed.normalizer, transi"
        'tion).advantage; pi, metrics = improve(state.params["pi"], obs',
        "test_policy_and_critic_leave_each_other_alone",
    ),
}
