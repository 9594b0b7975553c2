"""SAC with each of its switches, and with all of the efficient critic's: an update is the plain one."""

import functools

import jax
import numpy as np
import pytest
from plain_networks import flat
from plain_replay import BOX, DISCRETE, UPDATES, Play
from plain_sac import Plain
from tiny import same_bits, tiny

from purerl.algos import off_policy, sac

ATOMS = {"critic": "categorical", "num_atoms": 11, "v_min": -2.0, "v_max": 3.0}
ATOMS |= {"weights": 3}  # with which either critic is the smaller one for some rows
CASES = {
    "layer": {"norm": "layer"},
    "batch": {"norm": "batch"},
    "categorical": ATOMS,
    "reward": {"normalize_reward": True},
    "delay": {"actor_every": 2, "updates_per_step": 1},
    "replay": {"n_step": 3, "prioritised": True, "priority_alpha": 0.7, "priority_beta": 0.5},
    "half an update": {"updates_per_step": 0.5, "num_envs": 20, "buffer_size": 70},
    "one and a half": {"updates_per_step": 1.5, "actor_every": 2},
    "discrete": {"spec": DISCRETE},
    "discrete, fixed": {"spec": DISCRETE, "ent_coef": 0.3, "norm": "batch"},
    "efficient": ATOMS
    | {"norm": "batch", "normalize_reward": True, "actor_every": 2, "init_ent_coef": 0.01}
    | {"target_entropy_factor": 0.5, "noise_repeat": 16},
}


@functools.cache
def played(case):
    return Play(**CASES[case])


@pytest.mark.parametrize("case", CASES)
def test_an_update_is_the_plain_one(case):
    """The last two of them: with a delay the actor may rest in one."""
    for update in (UPDATES - 2, UPDATES - 1):
        Plain(played(case), update).check()


def test_weights_have_length_1_from_the_start():
    """Those into each unit; the last layer alone has a bias."""
    fresh, last = played("batch").trace[0], played("batch").state(-1)
    for learner in (fresh.learner, last.learner):
        for name in ("pi", "q"):
            net = flat(learner.params[name])
            kernels = {path: leaf for path, leaf in net.items() if path.endswith("kernel")}
            assert len(kernels) == 3 * (2 if name == "q" else 1)
            for path, kernel in kernels.items():
                np.testing.assert_allclose(np.linalg.norm(kernel, axis=0), 1, 1e-6, err_msg=path)
    assert same_bits(fresh.learner.params["q"], fresh.learner.target["q"])
    biases = {path for path in flat(fresh.learner.params["pi"]) if "Dense" in path and "bias" in path}
    assert biases == {"params/torso/Dense_2/bias"}


def test_actor_and_temperature_rest_to_the_bit():
    """In a step without them; the target critics move, and what is unknown is NaN."""
    play, rested = played("delay"), []
    for i in range(UPDATES):
        before, after = play.state(i).learner, play.state(i + 1).learner
        parts = [(learner.params, learner.opt_state) for learner in (before, after)]
        for name in ("pi", "log_alpha"):
            old, new = ([part[name] for part in both] for both in parts)
            rested.append(same_bits(old, new))
        metrics = play.metrics(i)
        assert np.isnan([metrics["pi/loss"], metrics["pi/entropy"]]).tolist() == [rested[-1]] * 2
        assert np.isfinite([metrics[name] for name in ("q/loss", "q/mean", "pi/alpha")]).all()
        pairs = zip(jax.tree.leaves(before.target), jax.tree.leaves(after.target), strict=True)
        assert all((x != y).any() for x, y in pairs)
    due = [(step // play.cfg.num_envs + 1) % 2 == 0 for step in play.steps]
    assert rested == [not acts for acts in due for _ in range(2)] and len(set(due)) == 2


def test_the_temperature_starts_where_it_is_told():
    log_alpha = played("efficient").trace[0].learner.params["log_alpha"]
    assert log_alpha == pytest.approx(np.log(0.01), rel=1e-6)


@pytest.mark.parametrize(
    ("fields", "steps", "warmup", "rows"),
    [
        ({"updates_per_step": 0.5, "num_envs": 20}, 2, 80, 80),
        ({"updates_per_step": 0.3333, "num_envs": 1}, 3, 42, 51),
        ({"updates_per_step": 1.5, "num_envs": 2}, 2, 44, 52),
        ({"updates_per_step": 4, "num_envs": 3}, 1, 42, 51),
    ],
    ids=str,
)
def test_warm_up_and_buffer_are_whole_rollouts(fields, steps, warmup, rows):
    cfg = tiny("sac", "pendulum", buffer_size=50, total_timesteps=90, learning_starts=41, **fields)
    algo = sac.make(cfg, BOX)
    assert (algo.num_steps, algo.warmup_steps) == (steps, warmup)
    assert off_policy.capacity(cfg) == rows
    assert len(jax.eval_shape(algo.init, jax.random.key(0)).replay.rows.reward) == rows


MUTANTS = {
    "layers of the actor are plain": (
        "algos/sac.py",
        "outputs, norm=cfg.norm), partial",
        "outputs), partial",
        "test_an_update_is_the_plain_one[layer]",
    ),
    "layers of the critics are plain": (
        "algos/sac.py",
        "partial(nets.torso, cfg, spec, norm=cfg.norm)",
        "partial(nets.torso, cfg, spec)",
        "test_an_update_is_the_plain_one[layer]",
    ),
    "the target has running statistics": (
        "algos/critics.py",
        "q.train(target, *both)[0][:, rows:]",
        "q.apply(target, *ahead)",
        "test_an_update_is_the_plain_one[batch]",
    ),
    "the target critics see the next batch alone": (
        "algos/critics.py",
        "q.train(target, *both)[0][:, rows:]",
        "q.train(target, *ahead)[0]",
        "test_an_update_is_the_plain_one[batch]",
    ),
    "the critics see this batch alone": (
        "algos/critics.py",
        "q.train(params, *both)",
        "q.train(params, *now)",
        "test_an_update_is_the_plain_one[batch]",
    ),
    "the halves of a joint pass are swapped": (
        "algos/critics.py",
        "return out[:, :rows], q.train(target, *both)[0][:, rows:], statistics",
        "return out[:, rows:], q.train(target, *both)[0][:, :rows], statistics",
        "test_an_update_is_the_plain_one[batch]",
    ),
    "weights are free after a step": (
        "algos/learning.py",
        "params = network.settle(params, statistics)",
        "params = params | statistics if isinstance(params, dict) else "
        "tuple(p | s for p, s in zip(params, statistics, strict=True))",
        "test_an_update_is_the_plain_one[batch]",
    ),
    "weights are free at the start": (
        "networks.py",
        'return settle(variables, {"batch_stats": variables["batch_stats"]})',
        "return variables",
        "test_weights_have_length_1_from_the_start",
    ),
    "weights out of each unit have length 1": (
        "networks.py",
        "jnp.square(leaf).sum(0, keepdims=True)",
        "jnp.square(leaf).sum(1, keepdims=True)",
        "test_an_update_is_the_plain_one[batch]",
    ),
    "statistics are forgotten": (
        "networks.py",
        'variables["params"])} | dict(statistics)',
        'variables["params"])} | {"batch_stats": variables["batch_stats"]}',
        "test_an_update_is_the_plain_one[batch]",
    ),
    "the actor learns with running statistics": (
        "algos/sac.py",
        "nets.in_training(pi, pi_params, obs)",
        'pi.apply(pi_params, obs), {"batch_stats": pi_params["batch_stats"]}',
        "test_an_update_is_the_plain_one[batch]",
    ),
    "the next action has the statistics of its batch": (
        "algos/sac.py",
        'pi.apply(learner.params["pi"], rows.next_obs)',
        'nets.in_training(pi, learner.params["pi"], rows.next_obs)[0]',
        "test_an_update_is_the_plain_one[batch]",
    ),
    "the actor's critics have the statistics of its batch": (
        "algos/sac.py",
        'q.apply(learner.params["q"], *policy.inputs(obs, action))',
        'nets.in_training(q, learner.params["q"], *policy.inputs(obs, action))[0]',
        "test_an_update_is_the_plain_one[batch]",
    ),
    "running statistics are short of memory": (
        "layers.py",
        "MOMENTUM, EPSILON = 0.99, 1e-3",
        "MOMENTUM, EPSILON = 0.9, 1e-3",
        "test_an_update_is_the_plain_one[batch]",
    ),
    "hidden layers have biases": (
        "layers.py",
        "nn.Dense(size, use_bias=False,",
        "nn.Dense(size,",
        "test_weights_have_length_1_from_the_start",
    ),
    "the distribution with the larger mean": (
        "algos/critics.py",
        "mean[0] <= mean[1]",
        "mean[0] >= mean[1]",
        "test_an_update_is_the_plain_one[categorical]",
    ),
    "the mean of both distributions": (
        "algos/critics.py",
        "jax.nn.softmax(jnp.where((mean[0] <= mean[1])[:, None], next_out[0], next_out[1]))",
        "jax.nn.softmax(next_out).mean(0)",
        "test_an_update_is_the_plain_one[categorical]",
    ),
    "no entropy in the atoms": (
        "algos/critics.py",
        "support[None] - alpha * ahead.log_prob",
        "support[None] + 0.0 * ahead.log_prob",
        "test_an_update_is_the_plain_one[categorical]",
    ),
    "entropy is a cost in the atoms": (
        "algos/critics.py",
        "support[None] - alpha * ahead.log_prob",
        "support[None] + alpha * ahead.log_prob",
        "test_an_update_is_the_plain_one[categorical]",
    ),
    "the mean loss of both critics": (
        "algos/sac.py",
        "(loss * batch.weight[None]).mean(1).sum()",
        "(loss * batch.weight[None]).mean()",
        "test_an_update_is_the_plain_one[categorical]",
    ),
    "the actor climbs the larger mean": (
        "algos/sac.py",
        "*policy.inputs(obs, action))).min(0)",
        "*policy.inputs(obs, action))).max(0)",
        "test_an_update_is_the_plain_one[categorical]",
    ),
    "twin critics are one and the same": (
        "networks.py",
        "for key in jax.random.split(key, size))",
        "for _ in range(size))",
        "test_an_update_is_the_plain_one[categorical]",
    ),
    "all gradient steps draw one batch": (
        "algos/off_policy.py",
        "jax.random.fold_in(key, count)",
        "jax.random.fold_in(key, 0)",
        "test_an_update_is_the_plain_one[categorical]",
    ),
    "rewards are not scaled": (
        "algos/off_policy.py",
        "batch.rows.reward / normalize.reward_scale(state.returns)",
        "batch.rows.reward",
        "test_an_update_is_the_plain_one[reward]",
    ),
    "the scale is that of the start": (
        "algos/off_policy.py",
        "memory.add(state.replay, transition), returns=returns)",
        "memory.add(state.replay, transition), returns=state.returns)",
        "test_an_update_is_the_plain_one[reward]",
    ),
    "returns are not discounted": (
        "algos/off_policy.py",
        "normalize.observe_returns(state.returns, transition, cfg.gamma)",
        "normalize.observe_returns(state.returns, transition, 1.0)",
        "test_an_update_is_the_plain_one[reward]",
    ),
    "a return goes on after a terminal state": (
        "normalize.py",
        "ended = transition.terminated | transition.truncated\n    sums, so_far = returns.discounted_so_far("
        "transition.reward, ended, gamma,",
        "ended = transition.truncated\n    sums, so_far = returns.discounted_so_far("
        "transition.reward, ended, gamma,",
        "test_an_update_is_the_plain_one[reward]",
    ),
    "the actor moves in every step": (
        "algos/sac.py",
        "every(cfg.actor_every, index,",
        "every(1, index,",
        "test_an_update_is_the_plain_one[delay]",
    ),
    "the temperature moves in every step": (
        "algos/sac.py",
        "learner, more = every(",
        "hasty = learn_policy(learner, batch.rows.obs, key_actor)[0].params['log_alpha']\n"
        "        learner = learner._replace(params=learner.params | {'log_alpha': hasty})\n"
        "        learner, more = every(",
        "test_actor_and_temperature_rest_to_the_bit",
    ),
    "the actor is late": (
        "algos/learning.py",
        "due = (index + 1) % period == 0",
        "due = index % period == 0",
        "test_an_update_is_the_plain_one[delay]",
    ),
    "metrics of a step that was skipped": (
        "algos/learning.py",
        "MaskedMetrics(dict(metrics), dict.fromkeys(metrics, due))",
        "MaskedMetrics(dict(metrics), {})",
        "test_actor_and_temperature_rest_to_the_bit",
    ),
    "targets rest with the actor": (
        "algos/sac.py",
        "return move_targets(learner, cfg.tau), td_error, metrics",
        "tau = jnp.where((index + 1) % cfg.actor_every == 0, cfg.tau, 0.0)\n"
        "        return move_targets(learner, tau), td_error, metrics",
        "test_actor_and_temperature_rest_to_the_bit",
    ),
    "the discount of one step": (
        "replay/n_step.py",
        "return whole(state, rows), discount[0]",
        "return whole(state, rows), jnp.where(rows.terminated, 0.0, jnp.ones_like(discount[0]) * gamma)",
        "test_an_update_is_the_plain_one[replay]",
    ),
    "weights are ignored": (
        "algos/sac.py",
        "loss * batch.weight[None]",
        "loss",
        "test_an_update_is_the_plain_one[replay]",
    ),
    "errors are not given back": (
        "algos/off_policy.py",
        "give_back(current, batch.index, td_error).priority",
        "current.priority",
        "test_an_update_is_the_plain_one[replay]",
    ),
    "the smaller error": (
        "algos/critics.py",
        "jnp.abs(error).max(0)",
        "jnp.abs(error).min(0)",
        "test_an_update_is_the_plain_one[replay]",
    ),
    "gradient steps are numbered by vector steps": (
        "algos/off_policy.py",
        "step // rollout * num_updates",
        "step // cfg.num_envs * num_updates",
        "test_an_update_is_the_plain_one[one and a half]",
    ),
    "one gradient step where half is asked": (
        "algos/off_policy.py",
        "return as_fraction(cfg.updates_per_step).denominator",
        "return 1",
        "test_warm_up_and_buffer_are_whole_rollouts",
    ),
    "a buffer of whole vector steps": (
        "algos/off_policy.py",
        "rollout = cfg.num_envs * num_steps(cfg)",
        "rollout = cfg.num_envs",
        "test_warm_up_and_buffer_are_whole_rollouts",
    ),
    "a warm-up of whole vector steps": (
        "algos/off_policy.py",
        "-(-cfg.learning_starts // rollout) * rollout",
        "-(-cfg.learning_starts // cfg.num_envs) * cfg.num_envs",
        "test_warm_up_and_buffer_are_whole_rollouts",
    ),
    "actions of equal probability": (
        "algos/soft_policies.py",
        "Actions(None, jnp.exp(log_prob), log_prob)",
        "Actions(None, jnp.full_like(log_prob, 1 / log_prob.shape[-1]), log_prob)",
        "test_an_update_is_the_plain_one[discrete]",
    ),
    "the value of another action": (
        "algos/soft_policies.py",
        "jnp.take_along_axis(out, action[None, :, None], -1)[..., 0]",
        "out[..., 0]",
        "test_an_update_is_the_plain_one[discrete]",
    ),
    "discrete actions aim at another entropy": (
        "algos/soft_policies.py",
        "0.5 * math.log(space.n)",
        "0.98 * math.log(space.n)",
        "test_an_update_is_the_plain_one[discrete]",
    ),
    "a fixed temperature of 1": (
        "algos/sac.py",
        "jnp.float32(cfg.ent_coef)",
        "jnp.float32(1.0)",
        "test_an_update_is_the_plain_one[discrete, fixed]",
    ),
    "the factor of the target is ignored": (
        "algos/soft_policies.py",
        "return factor * soft_policy",
        "return soft_policy",
        "test_an_update_is_the_plain_one[efficient]",
    ),
    "the temperature starts at 1": (
        "algos/soft_policies.py",
        "1.0 if cfg.init_ent_coef is None else cfg.init_ent_coef",
        "1.0",
        "test_the_temperature_starts_where_it_is_told",
    ),
}
