"""One-line breakages of purerl, each with the test that must notice it.

    python tests/mutants.py [--only NAME] [--jobs N]

Copies the repository to a scratch folder, breaks one line there, runs the one test, and lists the
mutants that survive. Exit status 1 if any does, or if a test fails without a mutant.
"""
# ruff: noqa: E501  (a mutant a line)

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from mutants_of_worlds import WORLDS

ROOT = Path(__file__).resolve().parents[1]
TIME_LIMIT = 600
"""Seconds for one test; a mutant that hangs is noticed too."""


class Mutant(NamedTuple):
    """`old` occurs once in `purerl/{file}`; with `new` in its place `tests/{test}` fails."""

    name: str
    file: str
    old: str
    new: str
    test: str


RETURNS, LOSSES = "ops/test_returns.py::test_", "ops/test_losses.py::test_"
TRUST_REGION, FISHER = "ops/test_trust_region.py::test_", "ops/test_trust_region.py::test_fisher_"
STATISTICS, INITIALIZERS = "ops/test_statistics.py::test_", "ops/test_initializers.py::test_"
RING, DISTRIBUTIONS = "replay/test_ring.py::test_", "test_distributions.py::test_"
ROLLOUT, EVALUATE = "test_rollout.py::test_", "test_evaluate.py::test_"
CONFIG, CLASSIC = "test_config.py::test_", "envs/test_classic.py::test_"
NATIVE, TASKS = "envs/test_mujoco_native.py::test_", "envs/test_mujoco_tasks.py::test_"
STEP, HEALTH = TASKS + "a_step_from_each_state_is_gymnasiums", TASKS + "where_health_ends"
LEAN, CALLBACK = "envs/test_lean.py::test_", "envs/test_mujoco_callback.py::test_"
MJX, LAZILY = "envs/test_mjx.py::test_", "envs/test_lazily.py::test_"
BATTERY, PROBES = "contracts/test_algorithms.py::test_", "contracts/test_probes.py::test_"
CUSTOM = "envs/test_custom.py::test_"
RENDER = "envs/test_render.py::test_"
STRUCTURE = "contracts/test_structure.py::test_"
MISTAKES, CLI = "experiment/test_mistakes.py::test_", "experiment/test_cli.py::test_"
REFUSED, STRANGER = MISTAKES + "a_mistake_is_one_paragraph", MISTAKES + "a_file_from_a_stranger_does_no_harm"
CHECK_BROKEN = "envs/test_check.py::test_a_broken_environment_is_told_how"
CHECK_GOOD = "envs/test_check.py::test_a_good_environment_passes"
CHECKPOINT = "experiment/test_checkpoint.py::test_"
HOSTILE = CHECKPOINT + "a_hostile_directory_is_an_error_and_nothing_else"
LOAD, RUN = "experiment/test_load.py::test_", "experiment/test_run.py::test_"
PAGES, PROGRAM = "experiment/test_pages.py::test_", "experiment/test_program.py::test_"
PPO, A2C = "algos/test_ppo.py::test_", "algos/test_a2c.py::test_"
VPG, TRPO = "algos/test_vpg.py::test_", "algos/test_trpo.py::test_"
RECURRENT, ORDERS = "algos/test_recurrent_ppo.py::test_", "algos/test_on_policy.py::test_"
NETWORKS, ANEW = (
    "algos/test_networks_and_masks.py::test_",
    PPO + "advantages_estimated_anew_are_those_of_the_plain_loop",
)
PLAIN, STOPS = (
    PPO + "every_option_reaches_the_loss",
    PPO + "an_update_stops_for_good_where_the_divergence_is_too_large",
)
SEARCH, WHOLE = (
    TRPO + "where_no_step_is_allowed_the_policy_stays_to_the_bit",
    TRPO + "a_whole_step_is_the_natural_gradient_of_the_explicit_matrix",
)
KNOWN, BEST = PROBES + "the_value_is_the_known_one", PROBES + "the_action_is_the_rewarded_one"

SQUASH = "return cast(Distribution, squashed).sample_and_log_prob(seed=key)"
NORMAL = "(*diagonal_normal(mean, log_std).sample_and_log_prob(seed=key))"
SLOPE = "2 * (jnp.log(2.0) - u + jnp.log(1 / (1 + jnp.exp(-2 * u))))"
CUT = "jnp.where(terminated | truncated, 0.0, 1.0)"
FUTURE = "jnp.where(terminated, 0.0, next_value)"
BRACKET = "jnp.where(terminated, 0.0, future)"
HALVED = "jnp.where(kl < kl_target / 1.5, 0.5, jnp.where(kl > kl_target * 1.5, 2.0, 1.0))"
CURVED = "stop = (curvature <= 0) | (square <= 0)"
SOFT = "jnp.where(terminated, 0.0, next_q - alpha * next_log_prob)"
NEXT = "Transition(rollout.obs, action, reward, next_obs, terminated, truncated)"
RESET = NEXT.replace("next_obs", "_where(ended, fresh_obs, next_obs)")
KEPT = "kept = Row(*(getattr(transition, name) for name in Row._fields))"
EPOCHS = "jax.random.split(key, cfg.num_epochs)"
SAME = "jnp.broadcast_to(key, (cfg.num_epochs,))"
RAW = "reward / jnp.sqrt(normalizer.returns.variance"
ACCEPT = "(mean_kl(candidate) <= cfg.target_kl) & (surrogate_loss(candidate) <= old_loss)"
FITTED = "critic = on_policy.fit_critic(cfg, value, (state.params['v'], OPT), obs, target, key)[0]; advantage = on_policy.estimate(cfg, partial(value, critic[0]), state.normalizer, observed.normalizer, transition).advantage; "
ASCENT, IMPROVEMENT = "pi, pi_opt, metrics = ascend(", 'pi, metrics = improve(state.params["pi"], obs'
A2C_ESTIMATE = "observed.normalizer, transition)\n        left"
ERASED = (
    "jax.tree.map(lambda leaf: jnp.where(metrics['q/loss'] < 1e9, leaf, jnp.zeros_like(leaf)), state.memory)"
)

# fmt: off
MUTANTS = [
    # Advantages
    Mutant("gae: a time limit is a death", "ops/returns", FUTURE, FUTURE.replace("terminated", "terminated | truncated"), RETURNS + "one_row_by_hand"),
    Mutant("gae: a death at the time limit is none", "ops/returns", FUTURE, FUTURE.replace("terminated", "terminated & ~truncated"), RETURNS + "one_row_by_hand"),
    Mutant("gae: bootstraps from the value before", "ops/returns", FUTURE, "jnp.where(terminated, 0.0, value)", RETURNS + "one_row_by_hand"),
    Mutant("gae: leaks across a time limit", "ops/returns", CUT, "jnp.where(terminated, 0.0, 1.0)", RETURNS + "nothing_leaks_across_the_end_of_an_episode"),
    Mutant("gae: leaks across a death", "ops/returns", CUT, "jnp.where(truncated, 0.0, 1.0)", RETURNS + "nothing_leaks_across_the_end_of_an_episode"),
    Mutant("gae: cuts one step early", "ops/returns", CUT, f"jnp.roll({CUT}, -1, 0)", RETURNS + "nothing_leaks_across_the_end_of_an_episode"),
    Mutant("gae: without lambda", "ops/returns", "gamma * gae_lambda *", "gamma *", RETURNS + "equals_the_plain_loop"),
    Mutant("gae: runs forwards", "ops/returns", "(delta, decay), reverse=True", "(delta, decay)", RETURNS + "equals_rlax_on_every_episode"),
    Mutant("gae: target of the next state", "ops/returns", "advantage + value", "advantage + next_value", RETURNS + "one_row_by_hand"),
    # Other returns
    Mutant("lambda return: a time limit is a death", "ops/returns", BRACKET, BRACKET.replace("terminated", "terminated | truncated"), RETURNS + "lambda_returns_by_hand"),
    Mutant("lambda return: a death at the time limit is none", "ops/returns", BRACKET, BRACKET.replace("terminated", "terminated & ~truncated"), RETURNS + "lambda_returns_by_hand"),
    Mutant("lambda return: the dead go on", "ops/returns", BRACKET, "future", RETURNS + "lambda_returns_by_hand"),
    Mutant("lambda return: 0 times NaN", "ops/returns", BRACKET, "(1.0 - terminated) * future", RETURNS + "lambda_returns_hear_nothing_from_beyond_an_end"),
    Mutant("lambda return: leaks across a time limit", "ops/returns", "jnp.where(truncated, next_value, mixed)", "mixed", RETURNS + "lambda_returns_equal_the_plain_loop"),
    Mutant("lambda return: cuts one step early", "ops/returns", "rows = (reward, next_value, terminated, truncated)", "rows = (reward, next_value, terminated, jnp.roll(truncated, -1, 0))", RETURNS + "lambda_returns_are_the_targets_of_gae"),
    Mutant("lambda return: lambda turned round", "ops/returns", "(1.0 - lambda_) * next_value + lambda_ * following", "lambda_ * next_value + (1.0 - lambda_) * following", RETURNS + "lambda_returns_are_the_targets_of_gae"),
    Mutant("lambda return: nothing after the rollout", "ops/returns", "jnp.asarray(next_value[-1]), rows", "jnp.zeros_like(next_value[-1]), rows", RETURNS + "lambda_returns_by_hand"),
    Mutant("lambda return: runs forwards", "ops/returns", "rows, reverse=True", "rows", RETURNS + "lambda_returns_equal_the_plain_loop"),
    Mutant("lambda return: any shape", "ops/returns", "    chex.assert_equal_shape([reward, next_value, terminated, truncated])\n", "", RETURNS + "lambda_returns_refuse_a_stray_axis"),
    Mutant("so far: never starts anew", "ops/returns", "return jnp.where(ended, 0.0, so_far), so_far", "return so_far, so_far", RETURNS + "sums_so_far_by_hand"),
    Mutant("so far: starts anew a step early", "ops/returns", "return jnp.where(ended, 0.0, so_far), so_far", "return so_far * ~ended, so_far * ~ended", RETURNS + "sums_so_far_by_hand"),
    Mutant("so far: every rollout starts anew", "ops/returns", "jnp.asarray(before), (reward, ended)", "jnp.zeros_like(before), (reward, ended)", RETURNS + "sums_so_far_however_the_stream_is_cut"),
    Mutant("so far: discounts the present", "ops/returns", "reward + gamma * before", "gamma * (reward + before)", RETURNS + "sums_so_far_are_gymnasiums"),
    Mutant("so far: runs backwards", "ops/returns", "(reward, ended))\n    return sums", "(reward, ended), reverse=True)\n    return sums", RETURNS + "sums_so_far_are_gymnasiums"),
    Mutant("so far: any shape", "ops/returns", "    chex.assert_equal_shape([reward[0], before])\n", "", RETURNS + "sums_so_far_refuse_a_stray_axis"),
    # Losses
    Mutant("surrogate: maximum", "ops/losses", "-jnp.minimum(ratio", "-jnp.maximum(ratio", LOSSES + "clipped_surrogate_equals_rlax"),
    Mutant("surrogate: ascends", "ops/losses", "return -jnp.minimum", "return jnp.minimum", LOSSES + "clipped_surrogate_equals_rlax"),
    Mutant("surrogate: ratio upside down", "ops/losses", "jnp.clip(log_prob - old_log_prob,", "jnp.clip(old_log_prob - log_prob,", LOSSES + "clipped_surrogate_stops_pushing_where_it_has_gained"),
    Mutant("surrogate: clips one side", "ops/losses", "jnp.clip(ratio, 1.0 - clip_eps, ", "jnp.clip(ratio, 0.0, ", LOSSES + "clipped_surrogate_stops_pushing_where_it_has_gained"),
    Mutant("surrogate: clips everything", "ops/losses", "jnp.minimum(ratio * advantage, clipped * advantage)", "(clipped * advantage)", LOSSES + "clipped_surrogate_stops_pushing_where_it_has_gained"),
    Mutant("surrogate: infinite ratios", "ops/losses", "jnp.clip(log_prob - old_log_prob, -20.0, 20.0)", "(log_prob - old_log_prob)", LOSSES + "ratios_that_overflow_leave_finite_gradients"),
    Mutant("plain surrogate: ascends", "ops/losses", "return -(_ratio", "return (_ratio", LOSSES + "surrogate_by_hand"),
    Mutant("plain surrogate: the log ratio", "ops/losses", "(_ratio(log_prob, old_log_prob) * adv", "((log_prob - old_log_prob) * adv", LOSSES + "surrogate_starts_out_as_the_policy_gradient"),
    Mutant("plain surrogate: any shape", "ops/losses", "    chex.assert_equal_shape([log_prob, old_log_prob, advantage])\n    return", "    return", LOSSES + "losses_refuse_a_stray_axis"),
    Mutant("policy gradient: ascends", "ops/losses", "return -(log_prob * jax", "return (log_prob * jax", LOSSES + "policy_gradient_of_a_softmax_bandit_is_exact"),
    Mutant("policy gradient: sum", "ops/losses", "jax.lax.stop_gradient(advantage)).mean()", "jax.lax.stop_gradient(advantage)).sum()", LOSSES + "policy_gradient_equals_rlax"),
    Mutant("policy gradient: pulls at the critic", "ops/losses", "jax.lax.stop_gradient(advantage)", "(advantage)", LOSSES + "policy_gradient_leaves_the_advantage_alone"),
    Mutant("policy gradient: any shape", "ops/losses", "    chex.assert_equal_shape([log_prob, advantage])\n", "", LOSSES + "losses_refuse_a_stray_axis"),
    Mutant("value clip: minimum", "ops/losses", "jnp.maximum(jnp.square(value", "jnp.minimum(jnp.square(value", LOSSES + "clipped_value_loss_by_hand"),
    Mutant("value clip: hides the wrong way", "ops/losses", "jnp.maximum(jnp.square(value - target), jnp.square(clipped - target))", "jnp.square(clipped - target)", LOSSES + "clipped_value_loss_by_hand"),
    Mutant("value clip: about 0", "ops/losses", "jnp.clip(value - old_value, -clip_eps", "jnp.clip(value, -clip_eps", LOSSES + "clipped_value_loss_by_hand"),
    Mutant("value clip: not clipped", "ops/losses", "old_value + jnp.clip(value - old_value, -clip_eps, clip_eps)", "value", LOSSES + "clipped_value_loss_has_no_gradient_where_it_has_gained"),
    Mutant("value clip: no half", "ops/losses", "return 0.5 * larger", "return larger", LOSSES + "clipped_value_loss_by_hand"),
    Mutant("value clip: any shape", "ops/losses", "    chex.assert_equal_shape([value, old_value, target])\n", "", LOSSES + "losses_refuse_a_stray_axis"),
    Mutant("coefficient: halves for doubles", "ops/losses", HALVED, HALVED.replace("0.5", "two").replace("2.0", "0.5").replace("two", "2.0"), LOSSES + "the_coefficient_follows_the_kl"),
    Mutant("coefficient: halves below a half", "ops/losses", "(kl < kl_target / 1.5", "(kl < kl_target / 2.0", LOSSES + "the_coefficient_follows_the_kl"),
    Mutant("coefficient: doubles above the double", "ops/losses", "kl_target * 1.5", "kl_target * 2.0", LOSSES + "the_coefficient_follows_the_kl"),
    Mutant("coefficient: down to 0", "ops/losses", "jnp.clip(coef * factor, COEFFICIENT_MIN, COEFFICIENT_MAX)", "jnp.minimum(coef * factor, COEFFICIENT_MAX)", LOSSES + "the_coefficient_stays_finite_and_finds_back"),
    Mutant("coefficient: up to infinity", "ops/losses", "jnp.clip(coef * factor, COEFFICIENT_MIN, COEFFICIENT_MAX)", "jnp.maximum(coef * factor, COEFFICIENT_MIN)", LOSSES + "the_coefficient_stays_finite_and_finds_back"),
    Mutant("coefficient: NaN is small", "ops/losses", HALVED, "jnp.where(kl > kl_target * 1.5, 2.0, jnp.where(kl >= kl_target / 1.5, 1.0, 0.5))", LOSSES + "a_kl_that_is_not_a_number_changes_nothing"),
    Mutant("kl: the estimator that can be negative", "ops/losses", "(jnp.expm1(log_ratio) - log_ratio)", "(-log_ratio)", LOSSES + "approximate_kl_is_never_negative"),
    Mutant("kl: of new to old", "ops/losses", "log_ratio = log_prob - old_log_prob", "log_ratio = old_log_prob - log_prob", LOSSES + "approximate_kl_is_of_old_to_new"),
    Mutant("standardize: ddof 1", "ops/losses", "jnp.square(centred).mean()", "jnp.square(centred).sum() / (x.size - 1)", LOSSES + "standardize_without_spread_gives_zero_and_a_finite_gradient"),
    Mutant("standardize: no eps", "ops/losses", ".mean() + eps)", ".mean())", LOSSES + "standardize_without_spread_gives_zero_and_a_finite_gradient"),
    Mutant("standardize: divides by the variance", "ops/losses", "centred * jax.lax.rsqrt(", "centred / (", LOSSES + "standardize_to_mean_0_and_deviation_1"),
    Mutant("explained variance: an offset counts", "ops/losses", "(target - prediction).var() /", "jnp.square(target - prediction).mean() /", LOSSES + "explained_variance"),
    Mutant("half mean square: no half", "ops/losses", "return 0.5 * jnp", "return jnp", LOSSES + "half_mean_square"),
    Mutant("soft target: a death goes on", "ops/losses", SOFT, "(next_q - alpha * next_log_prob)", LOSSES + "soft_td_target_by_hand"),
    Mutant("soft target: the dead have entropy", "ops/losses", SOFT, "(jnp.where(terminated, 0.0, next_q) - alpha * next_log_prob)", LOSSES + "soft_td_target_by_hand"),
    Mutant("soft target: 0 times NaN", "ops/losses", SOFT, "(1.0 - terminated) * (next_q - alpha * next_log_prob)", LOSSES + "soft_td_target_of_a_death_ignores_what_follows"),
    Mutant("soft target: entropy is a cost", "ops/losses", SOFT, SOFT.replace("-", "+"), LOSSES + "soft_td_target_by_hand"),
    Mutant("temperature: wrong way", "ops/losses", "(entropy - target_entropy)", "(target_entropy - entropy)", LOSSES + "temperature_rises_while_entropy_is_short"),
    Mutant("temperature: sign of the target", "ops/losses", "(entropy - target_entropy)", "(entropy + target_entropy)", LOSSES + "temperature_rises_while_entropy_is_short"),
    Mutant("temperature: pulls at the policy", "ops/losses", "jax.lax.stop_gradient(entropy - target_entropy)", "(entropy - target_entropy)", LOSSES + "temperature_loss_leaves_the_policy_alone"),
    # Trust region
    Mutant("fisher: no damping", "ops/trust_region", "fv + damping * v", "fv", TRUST_REGION + "damping_adds_exactly_so_much_of_the_vector"),
    Mutant("fisher: damping stretches", "ops/trust_region", "fv + damping * v", "fv + damping * fv", TRUST_REGION + "damping_adds_exactly_so_much_of_the_vector"),
    Mutant("fisher: both stopped", "ops/trust_region", "jax.grad(mean_kl), params)", "jax.grad(lambda x: mean_kl(jax.lax.stop_gradient(x))), params)", FISHER + "is_positive_and_not_small"),
    Mutant("fisher: wrong sign", "ops/trust_region", "jax.grad(mean_kl), params)", "jax.grad(lambda x: -mean_kl(x)), params)", FISHER + "is_positive_and_not_small"),
    Mutant("fisher: half of it", "ops/trust_region", "fv + damping * v", "0.5 * fv + damping * v", FISHER + "products_are_those_of_the_explicit_matrix"),
    Mutant("fisher: elsewhere", "ops/trust_region", "jax.grad(mean_kl), params)", "jax.grad(mean_kl), jax.tree.map(lambda x: 0.9 * x, params))", FISHER + "products_are_those_of_the_explicit_matrix"),
    Mutant("fisher: the KL anew for every product", "ops/trust_region", "hessian_product(vector), vector)", "jax.jvp(jax.grad(mean_kl), (params,), (vector,))[1], vector)", TRUST_REGION + "products_share_the_work_at_params"),
    Mutant("fisher: any shape", "ops/trust_region", "        chex.assert_trees_all_equal_shapes(params, vector)\n", "", TRUST_REGION + "shapes_must_agree"),
    Mutant("cg: steepest descent", "ops/trust_region", "_add(residual, beta, direction))", "residual)", TRUST_REGION + "conjugate_gradient_ends_after_as_many_steps_as_eigenvalues"),
    Mutant("cg: beta turned round", "ops/trust_region", "new_square / jnp.where(stop, 1.0, square)", "square / jnp.where(stop, 1.0, new_square)", TRUST_REGION + "conjugate_gradient_solves"),
    Mutant("cg: the residual grows", "ops/trust_region", "_add(residual, -alpha, product)", "_add(residual, alpha, product)", TRUST_REGION + "conjugate_gradient_solves"),
    Mutant("cg: one step short", "ops/trust_region", "fori_loop(0, num_iters", "fori_loop(1, num_iters", TRUST_REGION + "conjugate_gradient_ends_after_as_many_steps_as_eigenvalues"),
    Mutant("cg: one leaf for all", "ops/trust_region", "jnp.stack(jax.tree.leaves(products)).sum()", "jax.tree.leaves(products)[0]", TRUST_REGION + "conjugate_gradient_takes_pytrees"),
    Mutant("cg: squares underflow", "ops/trust_region", "residual, scale = _over_largest(b)", "residual, scale = b, 1.0", TRUST_REGION + "conjugate_gradient_solves"),
    Mutant("cg: of length 1 for ever", "ops/trust_region", "lambda leaf: scale * leaf, x)", "lambda leaf: leaf, x)", TRUST_REGION + "conjugate_gradient_solves"),
    Mutant("cg: 0 / 0 at once", "ops/trust_region", "jnp.where(largest < jnp.finfo(jnp.float32).tiny, 1.0, largest)", "largest", TRUST_REGION + "conjugate_gradient_of_nothing_is_nothing"),
    Mutant("cg: 0 / 0 at the solution", "ops/trust_region", CURVED, "stop = curvature < 0", TRUST_REGION + "conjugate_gradient_goes_on_after_the_solution"),
    Mutant("cg: the residual underflows first", "ops/trust_region", CURVED, "stop = curvature <= 0", TRUST_REGION + "conjugate_gradient_goes_on_after_the_solution"),
    Mutant("cg: up a hill", "ops/trust_region", CURVED, "stop = (curvature == 0) | (square <= 0)", TRUST_REGION + "conjugate_gradient_stops_where_the_curvature_is_not_positive"),
    Mutant("cg: goes on beyond a hill", "ops/trust_region", "jnp.where(stop, 0.0, p)", "p", TRUST_REGION + "conjugate_gradient_stops_where_the_curvature_is_not_positive"),
    Mutant("cg: hides a NaN", "ops/trust_region", CURVED, "stop = ~(curvature > 0) | ~(square > 0)", TRUST_REGION + "what_is_not_a_number_stays_one"),
    Mutant("limit: no 2", "ops/trust_region", "jnp.sqrt(2.0 * limit /", "jnp.sqrt(limit /", TRUST_REGION + "the_step_has_the_length_that_the_limit_allows"),
    Mutant("limit: no root", "ops/trust_region", "jnp.sqrt(2.0 * limit /", "(2.0 * limit /", TRUST_REGION + "the_kl_of_the_step_is_nearly_the_limit"),
    Mutant("limit: curvature underflows", "ops/trust_region", "    direction, _ = _over_largest(direction)\n", "", TRUST_REGION + "the_step_has_the_length_that_the_limit_allows"),
    Mutant("limit: without curvature", "ops/trust_region", "flat = curvature <= 0", "flat = jnp.bool_(False)", TRUST_REGION + "no_direction_no_step"),
    Mutant("limit: hides a NaN", "ops/trust_region", "flat = curvature <= 0", "flat = ~(curvature > 0)", TRUST_REGION + "what_is_not_a_number_stays_one"),
    Mutant("search: skips the whole step", "ops/trust_region", "jnp.float32(backtrack) ** tries", "jnp.float32(backtrack) ** (tries + 1)", TRUST_REGION + "the_first_fraction_that_passes_is_taken"),
    Mutant("search: one try too many", "ops/trust_region", "tries < num_steps", "tries <= num_steps", TRUST_REGION + "no_more_tries_than_allowed"),
    Mutant("search: down to the smallest", "ops/trust_region", "~accepted & (tries", "(tries", TRUST_REGION + "the_first_fraction_that_passes_is_taken"),
    Mutant("search: goes on after a success", "ops/trust_region", "~accepted & (tries", "(tries", TRUST_REGION + "no_more_tries_than_allowed"),
    Mutant("search: skips every other", "ops/trust_region", "return tries + 1, accepted", "return tries + 2, accepted", TRUST_REGION + "the_first_fraction_that_passes_is_taken"),
    Mutant("search: the last try stays", "ops/trust_region", "jnp.where(accepted, new, old)", "new", TRUST_REGION + "params_stay_to_the_bit_where_none_passes"),
    Mutant("search: nearly as before", "ops/trust_region", "jnp.where(accepted, new, old)", "old + accepted * (new - old)", TRUST_REGION + "params_stay_to_the_bit_where_none_passes"),
    Mutant("search: 0 times NaN", "ops/trust_region", "jnp.where(accepted, new, old)", "accepted * new + (1.0 - accepted) * old", TRUST_REGION + "a_step_that_is_not_a_number_is_not_taken"),
    Mutant("search: a failure has a fraction", "ops/trust_region", "jnp.where(accepted, fraction, 0.0)", "fraction", TRUST_REGION + "seeds_search_on_their_own"),
    Mutant("search: against the step", "ops/trust_region", "candidate = _add(params, fraction, step)", "candidate = _add(params, -fraction, step)", TRUST_REGION + "seeds_search_on_their_own"),
    Mutant("search: any shape", "ops/trust_region", "    chex.assert_trees_all_equal_shapes(params, step)\n", "", TRUST_REGION + "shapes_must_agree"),
    # Statistics
    Mutant("moments: mean of variances", "ops/statistics", " + weight * (1 - weight) * jnp.square(delta)", "", STATISTICS + "two_batches_by_hand"),
    Mutant("moments: batches weigh alike", "ops/statistics", "b.count / jnp.maximum(total, 1)", "0.5", STATISTICS + "two_batches_by_hand"),
    Mutant("moments: difference of squares", "ops/statistics", "batch.var(axes)", "jnp.square(batch).mean(axes) - jnp.square(batch.mean(axes))", STATISTICS + "a_small_spread_around_1_survives_float32"),
    Mutant("moments: float32 count", "ops/statistics", "jnp.minimum(total, jnp.uint32(COUNT_LIMIT))", "jnp.minimum(jnp.float32(total), COUNT_LIMIT - 128).astype(jnp.uint32)", STATISTICS + "the_count_goes_on_beyond_float32"),
    Mutant("moments: the count is not held", "ops/statistics", "jnp.minimum(total, jnp.uint32(COUNT_LIMIT))", "total", STATISTICS + "the_count_saturates"),
    Mutant("moments: nothing has a weight", "ops/statistics", "total > 0, b.count", "total < 0, b.count", STATISTICS + "merging_with_nothing_changes_nothing"),
    Mutant("normalize: by the variance", "ops/statistics", "jnp.sqrt(moments.variance + eps)", "(moments.variance + eps)", STATISTICS + "normalize"),
    Mutant("normalize: not centred", "ops/statistics", "(x - moments.mean)", "(x)", STATISTICS + "normalize"),
    Mutant("normalize: not clipped", "ops/statistics", "jnp.clip(scaled, -clip, clip)", "scaled", STATISTICS + "normalize"),
    Mutant("normalize: before any data", "ops/statistics", "moments.count > 0, jnp.clip", "moments.count >= 0, jnp.clip", STATISTICS + "normalize"),
    Mutant("normalize: 0 / 0", "ops/statistics", "moments.variance + eps", "moments.variance", STATISTICS + "normalize_a_feature_that_never_varies"),
    Mutant("tally: counts what is not marked", "ops/statistics", "jnp.where(where, values, 0.0).sum()", "values.sum()", STATISTICS + "tally_of_the_marked_values"),
    Mutant("tally: lowest of all", "ops/statistics", "jnp.where(where, values, jnp.inf).min(", "jnp.where(where, values, 0.0).min(", STATISTICS + "tally_of_the_marked_values"),
    Mutant("tally: empty is 0 / 0", "ops/statistics", "jnp.maximum(where.sum(), 1)", "where.sum()", STATISTICS + "an_empty_tally_has_count_0_and_finite_moments"),
    Mutant("tally: highest is lost in merging", "ops/statistics", "jnp.maximum(a.high, b.high)", "a.high", STATISTICS + "tallies_merge_like_one_stream"),
    # Initialisers
    Mutant("orthogonal: one pass", "ops/initializers", "range(2)", "range(1)", INITIALIZERS + "columns_or_rows_are_orthonormal"),
    Mutant("orthogonal: wide is scrambled", "ops/initializers", "(basis if rows >= columns else basis.T)", "basis", INITIALIZERS + "columns_or_rows_are_orthonormal"),
    Mutant("orthogonal: no scale", "ops/initializers", "return scale * (", "return (", INITIALIZERS + "scale_multiplies"),
    Mutant("orthogonal: not Haar", "ops/initializers", "jax.random.normal(key, (max", "jax.random.uniform(key, (max", INITIALIZERS + "entries_are_those_of_a_haar_matrix"),
    Mutant("orthogonal: QR's signs", "ops/initializers", "vector / jnp.linalg.norm(vector)", "vector / jnp.linalg.norm(vector) * -jnp.sign(vector[i])", INITIALIZERS + "distributed_as_haar_matrices"),
    Mutant("orthogonal: LAPACK", "ops/initializers", "= _gram_schmidt(gaussian)", "= jnp.linalg.qr(gaussian)[0]", INITIALIZERS + "same_under_vmap_and_without_lapack"),
    # Replay
    Mutant("ring: empty slots", "replay/ring", "0, state.size)", "0, jax.tree.leaves(state.data)[0].shape[0])", RING + "a_ring_half_full_never_gives_an_empty_slot"),
    Mutant("ring: one slot is never drawn", "replay/ring", "0, state.size)", "0, state.size - 1)", RING + "after_wraps_every_sample_is_a_whole_recent_row"),
    Mutant("ring: blends across slots", "replay/ring", "data[index]", "data[(index + data.ndim) % data.shape[0]]", RING + "after_wraps_every_sample_is_a_whole_recent_row"),
    Mutant("ring: size is not held", "replay/ring", "jnp.minimum(state.size + n, capacity)", "state.size + n", RING + "slots_head_and_size"),
    Mutant("ring: head wraps early", "replay/ring", "(state.head + n) % capacity", "(state.head + n) % (capacity - n)", RING + "slots_head_and_size"),
    Mutant("ring: a write may wrap", "replay/ring", "chex.assert_is_divisible(capacity, n)", "pass", RING + "a_write_that_would_wrap_is_refused"),
    Mutant("ring: all floats", "replay/ring", "(capacity, *leaf.shape), leaf.dtype)", "(capacity, *leaf.shape))", RING + "dtypes_and_shapes_survive"),
    Mutant("ring: favours the old", "replay/ring", "return jax.tree.map(lambda data: data[index]", "return jax.tree.map(lambda data: data[index * index // state.size]", RING + "sampling_is_uniform"),
    # Distributions
    Mutant("normal: log_std is std", "distributions", "(mean, jnp.exp(log_std))", "(mean, log_std)", DISTRIBUTIONS + "normal_log_prob_entropy_and_mode"),
    Mutant("squash: added 1e-6", "distributions", SQUASH, f"return (lambda u, p: (jnp.tanh(u), p - jnp.log(1 - jnp.tanh(u) ** 2 + 1e-6).sum(-1))){NORMAL}", DISTRIBUTIONS + "squashed_log_prob_by_hand"),
    Mutant("squash: 1 - tanh**2", "distributions", SQUASH, f"return (lambda u, p: (jnp.tanh(u), p - jnp.log(1 - jnp.tanh(u) ** 2).sum(-1))){NORMAL}", DISTRIBUTIONS + "squashed_log_prob_however_far_out"),
    Mutant("squash: no correction", "distributions", SQUASH, f"return (lambda u, p: (jnp.tanh(u), p)){NORMAL}", DISTRIBUTIONS + "squashed_density_integrates_to_1"),
    Mutant("squash: mean over the action", "distributions", SQUASH, f"return (lambda u, p: (jnp.tanh(u), p - ({SLOPE}).mean(-1))){NORMAL}", DISTRIBUTIONS + "squashed_log_prob_sums_over_the_action"),
    Mutant("squash: not squashed", "distributions", "distrax.Block(distrax.Tanh(), 1)", "distrax.Block(distrax.Lambda(lambda x: x), 1)", DISTRIBUTIONS + "squashed_log_prob_however_far_out"),
    # Rollout
    Mutant("rollout: next_obs of the reset", "rollout", "action, reward, next_obs,", "action, reward, _where(ended, fresh_obs, next_obs),", ROLLOUT + "next_obs_is_that_of_the_step_and_obs_that_of_the_reset"),
    Mutant("rollout: never starts again", "rollout", "        _where(ended, fresh_obs, next_obs),", "        next_obs,", ROLLOUT + "next_obs_is_that_of_the_step_and_obs_that_of_the_reset"),
    Mutant("rollout: one reset for ever", "rollout", "jax.random.split(key_reset, num_envs)", "jax.random.split(jax.random.key(0), num_envs)", ROLLOUT + "every_reset_is_a_fresh_draw"),
    Mutant("rollout: one reset for all", "rollout", "jax.random.split(key_reset, num_envs)", "jnp.broadcast_to(key_reset, (num_envs,))", ROLLOUT + "every_reset_is_a_fresh_draw"),
    Mutant("rollout: one start for all", "rollout", "(env.reset)(jax.random.split(key, num_envs))", "(env.reset)(jnp.broadcast_to(key, (num_envs,)))", ROLLOUT + "all_environments_start_differently"),
    Mutant("rollout: one key for all steps", "rollout", "jax.random.split(key, num_steps)", "jnp.broadcast_to(key, (num_steps,))", ROLLOUT + "every_step_and_row_has_its_own_noise"),
    Mutant("rollout: goes on after a time limit", "rollout", "ended = terminated | truncated", "ended = terminated", ROLLOUT + "flags_are_the_environments"),
    Mutant("rollout: flags swapped", "rollout", "next_obs, terminated, truncated)\n", "next_obs, truncated, terminated)\n", ROLLOUT + "flags_are_the_environments"),
    Mutant("rollout: stores the clipped action", "rollout", "Transition(rollout.obs, action,", "Transition(rollout.obs, jnp.clip(action, -1, 1),", ROLLOUT + "the_action_is_stored_as_the_policy_gave_it_and_applied_in_range"),
    Mutant("rollout: memory survives a time limit", "rollout", "_where(episodes.ended, jnp.zeros_like(leaf)", "_where(transition.terminated, jnp.zeros_like(leaf)", ROLLOUT + "memory_is_zeroed_where_an_episode_ended_and_only_there"),
    Mutant("rollout: memory is zeroed for all", "rollout", "_where(episodes.ended, jnp.zeros_like(leaf)", "_where(episodes.ended.any()[None], jnp.zeros_like(leaf)", ROLLOUT + "memory_is_zeroed_where_an_episode_ended_and_only_there"),
    Mutant("rollout: return is not reset", "rollout", "jnp.where(ended, 0.0, returns)", "returns", ROLLOUT + "returns_and_lengths_equal_a_plain_loop"),
    Mutant("rollout: length is not reset", "rollout", "jnp.where(ended, 0, lengths)", "lengths", ROLLOUT + "returns_and_lengths_equal_a_plain_loop"),
    Mutant("rollout: return without the last reward", "rollout", "Episodes(ended, returns,", "Episodes(ended, rollout.episode_return,", ROLLOUT + "returns_and_lengths_equal_a_plain_loop"),
    Mutant("action: not clipped", "rollout", "return jnp.clip((high + low) / 2 + (high - low) / 2 * action, low, high)", "return (high + low) / 2 + (high - low) / 2 * action", ROLLOUT + "env_action_clips_then_stretches"),
    Mutant("action: box around 0", "rollout", "jnp.clip((high + low) / 2 + (high", "jnp.clip((high", ROLLOUT + "env_action_clips_then_stretches"),
    Mutant("action: half bounded is bounded", "rollout", "bool(space.is_bounded())", 'bool(space.is_bounded("below"))', ROLLOUT + "env_action_leaves_indices_and_unbounded_boxes_alone"),
    Mutant("warm-up: half the range", "rollout", "minval=-1.0", "minval=0.0", ROLLOUT + "uniform_action_fills_the_policys_range"),
    # Evaluation
    Mutant("evaluate: counts beyond the end", "evaluate", "jnp.where(alive, reward, 0.0)", "reward", EVALUATE + "episodes_end_one_by_one"),
    Mutant("evaluate: steps beyond the end", "evaluate", "lengths + alive", "lengths + 1", EVALUATE + "episodes_end_one_by_one"),
    Mutant("evaluate: goes on after a time limit", "evaluate", "~(terminated | truncated)", "~terminated", EVALUATE + "returns_and_lengths_of_known_episodes"),
    Mutant("evaluate: the last reward is lost", "evaluate", "jnp.where(alive, reward", "jnp.where(alive & ~terminated & ~truncated, reward", EVALUATE + "returns_and_lengths_of_known_episodes"),
    Mutant("evaluate: always to the limit", "evaluate", "alive.any() & (time", "(time", EVALUATE + "it_stops_when_all_have_ended"),
    Mutant("evaluate: one key for all steps", "evaluate", "jax.random.fold_in(key_loop, time)", "key_loop", EVALUATE + "the_policy_keeps_its_memory_and_gets_a_new_key_each_step"),
    Mutant("evaluate: explores", "evaluate", "explore=False", "explore=True", EVALUATE + "the_deterministic_policy_does_not_explore_and_acts_in_the_tasks_range"),
    Mutant("evaluate: in the policy's units", "evaluate", "return env_action(env.action_space, action), carry", "return action, carry", EVALUATE + "the_deterministic_policy_does_not_explore_and_acts_in_the_tasks_range"),
    # Configuration
    Mutant("config: True is 1", "config", "and not isinstance(value, bool) and _within", "and _within", CONFIG + "a_bad_value_is_refused"),
    Mutant("config: infinity is a number", "config", "and bool(np.isfinite(np.float32(array)))", "", CONFIG + "environment_options_are_checked"),
    Mutant("config: open bounds are closed", "config", "value > rule.low if rule.low_open else value >= rule.low", "value >= rule.low", CONFIG + "a_bad_value_is_refused"),
    Mutant("config: no upper bounds", "config", "return above and below", "return above", CONFIG + "a_bad_value_is_refused"),
    Mutant("config: None is always allowed", "config", "return rule.optional", "return True", CONFIG + "a_bad_value_is_refused"),
    Mutant("config: no check by from_dict", "config", "    check(cfg)\n    return cfg", "    return cfg", CONFIG + "a_bad_value_is_refused"),
    Mutant("config: no check of one made by hand", "make", "    check(cfg)\n", "", CONFIG + "the_checks_run_on_a_config_made_by_hand"),
    Mutant("config: unknown fields pass", "config", "if name not in names:", "if False:", CONFIG + "an_unknown_field_names_the_nearest"),
    Mutant("config: no aliases", "config", "if ALIASES.get(plain) in allowed", "if False", CONFIG + "an_unknown_field_names_the_nearest"),
    Mutant("config: static hyper", "config", "if name not in allowed:", "if False:", CONFIG + "hyper_takes_only_leaves"),
    Mutant("config: lists stay lists", "config", "return tuple(freeze(item) for item in value)", "return value", CONFIG + "configs_are_frozen_and_hashable"),
    Mutant("config: None is a leaf", "config", "and (value := getattr(cfg, field.name)) is not None", "and [value := getattr(cfg, field.name)]", CONFIG + "leaves_are_the_numbers_that_are_switched_on"),
    Mutant("ppo: minibatches need not divide", "algos/on_policy", 'if rows % getattr(cfg, "num_minibatches", 1):', "if False:", CONFIG + "what_does_not_fit_together_is_refused"),
    Mutant("sac: nothing is learned", "algos/sac", "cfg.learning_starts >= cfg.total", "cfg.learning_starts > cfg.total", CONFIG + "what_does_not_fit_together_is_refused"),
    Mutant("classic: any engine", "envs/functional", 'if engine != "auto":', "if False:", CONFIG + "environment_options_are_checked"),
    # Classic control
    Mutant("cartpole: semi-implicit", "envs/classic/cartpole", "state.x + p.tau * state.x_dot,", "state.x + p.tau * (state.x_dot + p.tau * x_acc),", CLASSIC + "ten_thousand_steps_as_gymnasium"),
    Mutant("cartpole: limits on one side", "envs/classic/cartpole", "jnp.abs(state.theta) >", "state.theta >", CLASSIC + "ten_thousand_steps_as_gymnasium"),
    Mutant("pendulum: any torque", "envs/classic/pendulum", "jnp.clip(action[0], -MAX_TORQUE, MAX_TORQUE)", "action[0]", CLASSIC + "ten_thousand_steps_as_gymnasium"),
    Mutant("pendulum: moves with the old speed", "envs/classic/pendulum", "state.theta + theta_dot * p.dt", "state.theta + state.theta_dot * p.dt", CLASSIC + "ten_thousand_steps_as_gymnasium"),
    Mutant("pendulum: mass is 1", "envs/classic/pendulum", "(p.mass * p.length**2)", "p.length**2", CLASSIC + "parameters_mean_what_gymnasiums_do"),
    Mutant("time limit: one step late", "envs/functional", "state.time >= max_episode_steps", "state.time > max_episode_steps", CLASSIC + "the_time_limit_is_exact"),
    Mutant("time limit: hides a death", "envs/functional", "reward, jnp.float32), terminated, truncated", "reward, jnp.float32), terminated & ~truncated, truncated", CLASSIC + "the_time_limit_is_exact"),
    Mutant("parameters: always the defaults", "envs/functional", "params = default_params if params is None else params\n", "params = default_params\n", CLASSIC + "parameters_vmap"),
    # MuJoCo
    Mutant('engine: no contact forces', 'envs/mujoco/native.cc', 'if (plan.body_forces) mj_rnePostConstraint(m, d);  //', '//', STEP + '[ant-default-plain]'),
    Mutant('engine: velocity in float32', 'envs/mujoco/native.cc', 'Checked(values[i] - *previous++, &diverged)', 'Checked((float)values[i] - (float)*previous++, &diverged)', TASKS + 'velocity_is_exact_far_from_the_origin[half_cheetah]'),
    Mutant('engine: warnings are not seen', 'envs/mujoco/native.cc', 'diverged |= d->warning[w].number > 0;', '(void)w;', NATIVE + 'a_diverging_simulation_is_masked_and_alone'),
    Mutant('engine: infinities leave it', 'envs/mujoco/native.cc', 'if (!mju_isBad(value)) return', 'if (true) return', NATIVE + 'a_diverging_simulation_is_masked_and_alone'),
    Mutant('engine: litters the folder', 'envs/mujoco/native.cc', 'if (in_engine) return;', '', NATIVE + 'a_diverging_simulation_is_masked_and_alone'),
    Mutant('engine: silences everybody', 'envs/mujoco/native.cc', 'mju_writeLog("WARNING", message);', '', NATIVE + 'warnings_of_other_simulations_still_go_where_they_went'),
    Mutant('engine: reset on old data', 'envs/mujoco/native.cc', '  mj_resetData(m, d);\n', '', TASKS + 'a_reset_is_gymnasiums[ant]'),
    Mutant('engine: buffers of any size', 'envs/mujoco/native.cc', 'if (buffer.element_count() != n * size) {', 'if (false) {', NATIVE + 'wrong_buffers_raise'),
    Mutant('engine: errors are no divergence', 'envs/mujoco/native.cc', '- 1] = diverged;', '- 1] = false;', NATIVE + 'an_error_inside_mujoco_is_a_diverged_simulation'),
    Mutant('engine: resets all', 'envs/mujoco/native.cc', 'if (needed.typed_data()[sim]) {', 'if (true) {', NATIVE + 'reset_only_where_needed'),
    Mutant('engine: forgets the warm start', 'envs/mujoco/native.cc', 'plan.row_size, mjSTATE_INTEGRATION);\n  const float* ctrl', 'plan.row_size, mjSTATE_FULLPHYSICS);\n  const float* ctrl', STEP + '[ant-default-plain]'),
    Mutant('engine: calls share a batch', 'envs/mujoco/native.cc', '      idle.erase(std::next(it).base());\n', '', NATIVE + 'concurrent_calls_do_not_mix'),
    Mutant('engine: address in the program', 'envs/mujoco/native.py', 'plan_id = np.frombuffer(digest[:8], np.int64)[0]', 'plan_id = np.int64(plan.model._address)', NATIVE + 'the_program_is_the_same_in_every_process'),
    Mutant('engine: frame skip not in the hash', 'envs/mujoco/native.py', 'spec = repr((plan.frame_skip, ', 'spec = repr((', TASKS + 'every_unusual_argument_matters[inverted_pendulum]'),
    Mutant('task: time limit one late', 'envs/mujoco/task.py', 'time >= setup.max_episode_steps', 'time > setup.max_episode_steps', NATIVE + 'time_limit'),
    Mutant('task: divergence goes on', 'envs/mujoco/task.py', 'terminated | diverged,', 'terminated,', NATIVE + 'a_diverging_simulation_is_masked_and_alone'),
    Mutant('task: diverged reward', 'envs/mujoco/task.py', 'jnp.where(diverged, 0.0, reward)', 'reward', NATIVE + 'actions_that_are_no_numbers_end_the_episode'),
    Mutant('task: NaN actions go on', 'envs/mujoco/task.py', ' | ~jnp.isfinite(reward)', '', NATIVE + 'actions_that_are_no_numbers_end_the_episode'),
    Mutant('task: every step pays for a reset', 'envs/mujoco/task.py', '    place = where_needed(place, engine.rows_at_once)\n', '', NATIVE + 'reset_only_where_needed'),
    Mutant('task: one key twice', 'envs/mujoco/task.py', 'draw_velocity(key_qvel', 'draw_velocity(key_qpos', TASKS + 'resets_are_drawn_from_gymnasiums_distribution[ant]'),
    Mutant('task: noise on one side', 'envs/mujoco/task.py', 'jax.random.uniform(key_qpos, (model.nq,), minval=-1.0)', 'jax.random.uniform(key_qpos, (model.nq,))', TASKS + 'resets_are_drawn_from_gymnasiums_distribution[ant]'),
    Mutant('ant: may jump', 'envs/mujoco/ant.py', ' & (physics.qpos[2] <= high)', '', STEP + '[ant-unusual-plain]'),
    Mutant('ant: always body 1', 'envs/mujoco/ant.py', 'change["xpos"][body, :2]', 'change["xpos"][1, :2]', STEP + '[ant-unusual-plain]'),
    Mutant('half_cheetah: cost of the clipped action', 'envs/mujoco/half_cheetah.py', 'jnp.sum(jnp.square(action))', 'jnp.sum(jnp.square(jnp.clip(action, -1, 1)))', TASKS + 'actions_beyond_their_range_cost_what_they_are[half_cheetah]'),
    Mutant('build: stale', 'envs/mujoco/build.py', '        SOURCE.read_text(),\n', '', NATIVE + 'a_changed_source_is_built_anew'),
    Mutant('half_cheetah: heavier', 'envs/mujoco/assets/half_cheetah.xml', 'mass="6.', 'mass="7.', TASKS + 'our_model_is_gymnasiums_to_the_last_byte[half_cheetah]'),
    Mutant('ant: ends are unhealthy', 'envs/mujoco/ant.py', '(low <= physics.qpos[2])', '(low < physics.qpos[2])', HEALTH),
    Mutant('hopper: ends are healthy', 'envs/mujoco/hopper.py', '(bounds[0] < value)', '(bounds[0] <= value)', HEALTH),
    Mutant('hopper: any speed is healthy', 'envs/mujoco/hopper.py', '        & inside(physics.qvel, params.healthy_state_range)\n', '', HEALTH),
    Mutant('hopper: velocities without bounds', 'envs/mujoco/hopper.py', 'jnp.clip(physics.qvel, -10.0, 10.0)', 'physics.qvel', STEP + '[hopper-default-thrown]'),
    Mutant('hopper: height above the floor', 'envs/mujoco/hopper.py', 'physics.qpos[1] - init_z', 'physics.qpos[1]', STEP + '[hopper-default-plain]'),
    Mutant('walker2d: may fall forwards', 'envs/mujoco/walker2d.py', ' & (angle < high_angle)', '', HEALTH),
    Mutant('walker2d: always 4 physics steps', 'envs/mujoco/walker2d.py', 'model.opt.timestep * options.frame_skip', 'model.opt.timestep * 4', STEP + '[walker2d-unusual-plain]'),
    Mutant('walker2d: effort costs more', 'envs/mujoco/walker2d.py', 'ctrl_cost_weight: float = 1e-3', 'ctrl_cost_weight: float = 1e-2', TASKS + 'arguments_are_gymnasiums[walker2d]'),
    Mutant('humanoid: velocity of the torso', 'envs/mujoco/humanoid.py', 'jnp.sum(share * physics.change["xipos"], axis=0)[:2]', 'physics.change["xipos"][1, :2]', STEP + '[humanoid-default-plain]'),
    Mutant('humanoid: ends are healthy', 'envs/mujoco/humanoid.py', '(physics.qpos[2] < high)', '(physics.qpos[2] <= high)', HEALTH),
    Mutant('humanoid: any cost of contact', 'envs/mujoco/humanoid_body.py', 'jnp.clip(weight * jnp.sum(jnp.square(physics.fields["cfrc_ext"])), low, high)', 'weight * jnp.sum(jnp.square(physics.fields["cfrc_ext"]))', STEP + '[humanoid-unusual-plain]'),
    Mutant('humanoid: contact forces from the world on', 'envs/mujoco/humanoid_body.py', 'physics.fields["cfrc_ext"][1:]', 'physics.fields["cfrc_ext"][:-1]', STEP + '[humanoid-default-plain]'),
    Mutant('humanoid: the root is actuated', 'envs/mujoco/humanoid_body.py', '["qfrc_actuator"][ROOT:]', '["qfrc_actuator"][:-ROOT]', STEP + '[humanoid_standup-default-plain]'),
    Mutant('humanoid: looks away', 'envs/mujoco/humanoid_standup.py', '"lookat": (0.0, 0.0, 0.8925)', '"lookat": (0.0, 0.0, 2.0)', TASKS + 'the_camera_is_gymnasiums[humanoid_standup]'),
    Mutant('humanoid_standup: by the environment step', 'envs/mujoco/humanoid_standup.py', '/ model.opt.timestep,', '/ (model.opt.timestep * options.frame_skip),', STEP + '[humanoid_standup-default-plain]'),
    Mutant('humanoid_standup: nothing for being there', 'envs/mujoco/humanoid_standup.py', 'terms["reward_impact"] + 1.0', 'terms["reward_impact"]', STEP + '[humanoid_standup-default-plain]'),
    Mutant('inverted_pendulum: paid for the fall', 'envs/mujoco/inverted_pendulum.py', '(~terminated).astype', '(terminated | True).astype', STEP + '[inverted_pendulum-default-plain]'),
    Mutant('inverted_pendulum: ends are unhealthy', 'envs/mujoco/inverted_pendulum.py', '> MAX_ANGLE', '>= MAX_ANGLE', HEALTH),
    Mutant('inverted_double_pendulum: angles for cosines', 'envs/mujoco/inverted_double_pendulum.py', 'jnp.cos(angles)', 'angles', STEP + '[inverted_double_pendulum-default-plain]'),
    Mutant('inverted_double_pendulum: any force', 'envs/mujoco/inverted_double_pendulum.py', 'bounded(force)', 'force', STEP + '[inverted_double_pendulum-default-thrown]'),
    Mutant('inverted_double_pendulum: ends are healthy', 'envs/mujoco/inverted_double_pendulum.py', 'z <= MIN_HEIGHT', 'z < MIN_HEIGHT', HEALTH),
    Mutant('pusher: the cylinder at its goal', 'envs/mujoco/pusher.py', '> APART)', '> 0.0)', TASKS + 'where_things_are_put[pusher]'),
    Mutant('pusher: one candidate', 'envs/mujoco/pusher.py', 'CANDIDATES = 32', 'CANDIDATES = 1', TASKS + 'where_things_are_put[pusher]'),
    Mutant('pusher: the cylinder rolls away', 'envs/mujoco/pusher.py', 'qvel.at[-4:].set(0.0)', 'qvel.at[-2:].set(0.0)', TASKS + 'resets_are_drawn_from_gymnasiums_distribution[pusher]'),
    Mutant('pusher: near the goal', 'envs/mujoco/pusher.py', 'jnp.linalg.norm(cylinder - tip)', 'jnp.linalg.norm(goal - tip)', STEP + '[pusher-default-plain]'),
    Mutant('reacher: targets crowd in the middle', 'envs/mujoco/reacher.py', 'jnp.sqrt(jax.random.uniform(key_radius))', 'jax.random.uniform(key_radius)', TASKS + 'where_things_are_put[reacher]'),
    Mutant('reacher: the target moves', 'envs/mujoco/reacher.py', 'qvel.at[-2:].set(0.0)', 'qvel', TASKS + 'resets_are_drawn_from_gymnasiums_distribution[reacher]'),
    Mutant('reacher: one step more', 'envs/mujoco/reacher.py', 'max_episode_steps=50', 'max_episode_steps=51', TASKS + 'spaces_and_the_clock[reacher]'),
    Mutant('swimmer: swims sideways', 'envs/mujoco/swimmer.py', 'physics.change["qpos"][:2]', 'physics.change["qpos"][1::-1]', STEP + '[swimmer-default-plain]'),
    Mutant('swimmer: sees its y', 'envs/mujoco/swimmer.py', 'skipped = 2 if', 'skipped = 1 if', TASKS + 'spaces_and_the_clock[swimmer]'),
    # What is learned, and the contract
    Mutant("rollout: next obs is the next episode's (shown)", "rollout", NEXT, RESET, PROBES + "a_rollout_never_shows_the_next_episode_as_the_next_observation"),
    Mutant("rollout: next obs is the next episode's (learned)", "rollout", NEXT, RESET, KNOWN + "[0-ppo_discrete-far]"),
    Mutant("gae: a time limit is a death (learned)", "ops/returns", FUTURE, "jnp.where(terminated | truncated, 0.0, next_value)", KNOWN + "[0-ppo_discrete-ring]"),
    Mutant("gae: a death at the time limit is none (learned)", "ops/returns", FUTURE, "jnp.where(terminated & ~truncated, 0.0, next_value)", KNOWN + "[0-ppo_discrete-ring_both]"),
    Mutant("gae: bootstraps from the value before (learned)", "ops/returns", FUTURE, "jnp.where(terminated, 0.0, value)", KNOWN + "[0-ppo_discrete-far]"),
    Mutant("gae: no discount (learned)", "ops/returns", "delta = reward + gamma *", "delta = reward +", KNOWN + "[0-ppo-delay]"),
    Mutant("sac: a time limit is a death (learned)", "algos/off_policy", KEPT, KEPT + "._replace(terminated=transition.terminated | transition.truncated)", KNOWN + "[0-sac-ring]"),
    Mutant("sac: a death at the time limit is none (learned)", "algos/off_policy", KEPT, KEPT + "._replace(terminated=transition.terminated & ~transition.truncated)", KNOWN + "[0-sac-ring_both]"),
    Mutant("sac: death is ignored (learned)", "ops/losses", SOFT, "(next_q - alpha * next_log_prob)", KNOWN + "[0-sac-constant]"),
    Mutant("ppo: the surrogate's sign (learned)", "ops/losses", "return -jnp.minimum(ratio", "return jnp.minimum(ratio", BEST + "[0-ppo_discrete]"),
    Mutant("sac: the actor descends the value (learned)", "algos/sac", "* log_prob - value).mean()", "* log_prob + value).mean()", BEST + "[0-sac]"),
    Mutant("ppo: all seeds start alike", "algos/actor_critic", "jax.random.split(key, len(chosen))", "jax.random.split(jax.random.key(0), len(chosen))", BATTERY + "different_keys_give_different_parameters_actions_and_returns[ppo-cartpole]"),
    Mutant("sac: one key used twice", "algos/sac", "key_critic, key_actor = jax.random.split(key)", "key_critic = key_actor = key", BATTERY + "no_key_is_used_twice[sac-pendulum]"),
    Mutant("train: every chunk meets the same noise", "train", "jax.random.split(jax.random.fold_in(root, now))", "jax.random.split(jax.random.fold_in(root, i))", BATTERY + "the_same_state_meets_other_noise_at_another_step[ppo-cartpole]"),
    Mutant("ppo: explores in evaluation", "algos/ppo", "return distribution.mode(), carry, {}", "return distribution.sample_and_log_prob(seed=key)[0], carry, {}", BATTERY + "the_deterministic_policy_ignores_the_key[ppo-cartpole]"),
    Mutant("sac: target aliases the critic", "algos/sac", 'target_q = jax.tree.map(jnp.copy, params["q"])', 'target_q = params["q"]', BATTERY + "a_fresh_state_names_no_array_twice[sac-pendulum]"),
    Mutant("sac: a weakly typed parameter", "algos/sac", 'params["log_alpha"] = jnp.zeros(())', 'params["log_alpha"] = jnp.asarray(0.0)', BATTERY + "observe_and_update_keep_the_state_as_it_is[sac-pendulum]"),
    Mutant("rollout: a weakly typed tally traces twice", "rollout", "return Rollout(state, obs, jnp.zeros(num_envs), ", "return Rollout(state, obs, jnp.full(num_envs, 0.0), ", BATTERY + "other_values_do_not_trace_again[ppo-cartpole]"),
    Mutant("ppo: a leaf without effect", "algos/ppo", "cfg.vf_coef * v_loss", "0.5 * v_loss", BATTERY + "every_leaf_has_an_effect[ppo-cartpole]"),
    Mutant("sac: a variant's leaf without effect", "algos/sac", "jnp.asarray(cfg.ent_coef)", "jnp.float32(0.2)", BATTERY + "every_leaf_of_a_variant_has_an_effect[sac-fixed_temperature]"),
    Mutant("train: step is batched", "train", "now = step + i * schedule.iteration_steps\n", "now = step + i * schedule.iteration_steps + 0 * state.env.episode_length[0]\n", BATTERY + "the_delayed_update_stays_a_branch[td3-pendulum]"),
    Mutant("ring: write fused into the sample", "replay/ring", "return jax.lax.cond(state.size > 0, draw, blank)", "return draw()", BATTERY + "only_the_write_touches_the_whole_memory[sac-pendulum-alone]"),
    Mutant("sac: a select over the memory", "algos/sac", "        return State(learner, state.memory), metrics", f"        return State(learner, {ERASED}), metrics", BATTERY + "only_the_write_touches_the_whole_memory[sac-pendulum-side by side]"),
    Mutant("ppo: orthogonal by LAPACK", "algos/actor_critic", "from purerl.ops.initializers import orthogonal", "from flax.linen.initializers import orthogonal", BATTERY + "no_lapack_and_no_fft_in_any_program[ppo-cartpole]"),
    Mutant("sac: an unbounded spread overflows", "algos/sac", "log_std_range=(-20.0, 2.0)", "log_std_range=(-200.0, 200.0)", BATTERY + "saturated_networks_give_finite_losses[sac-pendulum]"),
    Mutant("train: evaluations share their starts", "train", "jax.random.fold_in(streams(state.key).evaluate, step)", "jax.random.fold_in(streams(state.key).evaluate, 0)", BATTERY + "evaluation_depends_on_nothing_but_its_arguments[sac-pendulum]"),
    Mutant("train: rows are rounded down", "train", "rows = -(-wanted // (iterations * iteration_steps))", "rows = wanted // (iterations * iteration_steps)", BATTERY + "steps_are_counted_as_they_are_made[ppo-cartpole]"),
    Mutant("train: warm-up not counted in one program", "train", "start = schedule.warmup_steps + i * schedule.row_steps", "start = i * schedule.row_steps", BATTERY + "a_seed_alone_in_one_program_agrees_with_the_chunks_of_many[sac-pendulum]"),
    Mutant("rollout: episode length is always 1", "rollout", "rollout.episode_length + 1", "jnp.ones_like(rollout.episode_length)", BATTERY + "steps_are_counted_as_they_are_made[ppo-cartpole]"),
    Mutant("ops import upwards", "ops/returns", "from purerl.types import Array", "from purerl.rollout import Array", STRUCTURE + "imports_go_one_way[purerl/ops/returns.py]"),
    Mutant("a pickle comes in", "ops/returns", "import chex", "import pickle\nimport chex", STRUCTURE + "nothing_runs_code_from_files[purerl/ops/returns.py]"),
    Mutant("networks import distrax", "networks", "import flax.linen as nn", "import flax.linen as nn\nimport distrax", STRUCTURE + "only_distributions_imports_distrax[purerl/networks.py]"),
    Mutant("import purerl is heavy", "__init__", "import importlib", "import importlib\nimport distrax", STRUCTURE + "heavy_packages_wait_until_they_are_needed[import]"),
    # The rim
    Mutant("run: evaluates too late", "train", "passed = step // cfg.eval_interval > (step", "passed = step // cfg.eval_interval > (self.row_steps + step", "experiment/test_run.py::test_evaluates_when_due_and_at_the_end"),
    Mutant("logger: NaN in the table", "experiment/logger", "    if not math.isfinite(value):\n        return \"\"\n", "", "experiment/test_logger.py::test_rows_are_on_disk_as_soon_as_they_are_written"),
    Mutant("logger: rows wait", "experiment/logger", "        self._progress.flush()\n", "", "experiment/test_logger.py::test_rows_are_on_disk_as_soon_as_they_are_written"),
    # Runs
    Mutant("run: overwrites", "experiment/run", "if not resume and holds_a_run(path):", "if False:", RUN + "nothing_is_overwritten"),
    Mutant("run: never stops early", "experiment/loop", "enough = np.inf if self._stop_at_return is None else self._stop_at_return", "enough = np.inf", RUN + "stops_at_a_return_that_every_seed_has_reached"),
    Mutant("run: the best policy is the newest", "experiment/program", "_select(value > best.value, now, best)", "now", LOAD + "the_best_policy_has_the_normaliser_of_its_own_evaluation"),
    Mutant("run: one seed under vmap", "experiment/program", "if seeds > 1:\n        return", "if seeds > 0:\n        return", PROGRAM + "no_step_copies_the_whole_memory[1]"),
    Mutant("pages: zeros are written", "experiment/pages", "if zeros.nbytes < LARGE:", "if True:", PAGES + "a_gigabyte_costs_nothing_before_it_is_used"),
    Mutant("pages: needs a compiler", "experiment/pages", "except EngineError:", "except KeyError:", PAGES + "otherwise_it_is_as_it_was"),
    Mutant("cache: one for all processors", "experiment/cache", "_processor().encode()", "b''", "experiment/test_cache.py::test_each_kind_of_processor_has_its_own"),
    Mutant("cache: none is one", "experiment/cache", "if where == \"none\" or", "if", "experiment/test_cache.py::test_it_can_be_switched_off_and_be_elsewhere"),
    Mutant("train: a diverged seed learns on", "train", "healthy = was_healthy & all_finite(learned)", "healthy = all_finite(learned)", BATTERY + "a_seed_that_diverges_falls_back_to_what_it_knew[ppo-cartpole]"),
    Mutant("train: a diverged seed is not seen", "train", "healthy = was_healthy & all_finite(learned)", "healthy = was_healthy", BATTERY + "a_seed_that_diverges_falls_back_to_what_it_knew[ppo-cartpole]"),
    Mutant("metrics: a diverged seed has rows", "metrics", "jnp.where(healthy, known, none)", "known", BATTERY + "a_neighbour_of_nans_does_not_change_a_seed[ppo-cartpole]"),
    # Mistakes
    Mutant("config: what does not print is printed", "config", 'super().__init__("".join(printed))', "super().__init__(message)", CONFIG + "a_message_is_one_line_whatever_was_given"),
    Mutant("config: a long value is shown whole", "config", 'return text if len(text) <= limit else text[: limit - 3] + "..."', "return text", CONFIG + "a_message_is_one_line_whatever_was_given"),
    Mutant("config: a value without words for itself", "config", "    except Exception:  # an integer", "    except RecursionError:  # an integer", CONFIG + "a_message_is_one_line_whatever_was_given"),
    Mutant("config: two full stops", "config", "{allowed.rstrip('.')}.", "{allowed}.", CONFIG + "a_message_is_one_line_whatever_was_given"),
    Mutant("config: a mapping is shown frozen", "config", "repr(_plain(value) if isinstance(value, Mapping) else value)", "repr(value)", MISTAKES + "a_mapping_is_shown_as_it_was_given"),
    Mutant("config: any number of layers", "config", "isinstance(value, tuple) and len(value) <= MAX_LAYERS", "isinstance(value, tuple)", CONFIG + "a_bad_value_is_refused"),
    Mutant("config: empty text", "config", "return isinstance(value, str) and bool(value)", "return isinstance(value, str)", REFUSED),
    Mutant("config: no nearest choice", "config", 'hint = did_you_mean(value, rule.options) if isinstance(value, str) else ""', 'hint = ""', REFUSED),
    Mutant("config: a key array is read", "config", 'freeze(value.tolist()) if hasattr(value, "tolist") else value', "freeze(value.tolist())", CONFIG + "a_bad_value_is_refused"),
    Mutant("config: rows of any length", "config", "count(1_000, high=MAX_INTERVAL)", "count(1_000)", CONFIG + "a_bad_value_is_refused"),
    Mutant("ppo: rows of any length", "algos/on_policy", "count(10_000, high=MAX_INTERVAL)", "count(10_000)", CONFIG + "a_bad_value_is_refused"),
    Mutant("ppo: a rollout of any size", "algos/on_policy", "if rows > MAX_ROWS:", "if False:", CONFIG + "what_does_not_fit_together_is_refused"),
    Mutant("sac: a batch beyond the memory", "algos/sac", "if cfg.batch_size > cfg.buffer_size:", "if False:", CONFIG + "what_does_not_fit_together_is_refused"),
    Mutant("classic: one option is never meant", "envs/functional", "did_you_mean(name, options)", "did_you_mean(name, names)", CONFIG + "environment_options_are_checked"),
    Mutant("mujoco: more than float32 holds", "envs/mujoco/options", "(-MAX_FLOAT32 <= value <= MAX_FLOAT32 or value in (-math.inf, math.inf))", "value == value", CONFIG + "environment_options_are_checked"),
    Mutant("mujoco: an infinite weight", "envs/mujoco/options", "return _is_number(value) and value not in (-math.inf, math.inf)", "return _is_number(value)", CONFIG + "environment_options_are_checked"),
    Mutant("mujoco: any number of frames", "envs/mujoco/options", "0 < value <= COUNTS[name]", "0 < value", CONFIG + "environment_options_are_checked"),
    Mutant("mujoco: XML that is none", "envs/mujoco/options", "except (ValueError, RuntimeError, OSError) as error:", "except RuntimeError as error:", CONFIG + "environment_options_are_checked"),
    Mutant("cli: tyro explains a missing value", "experiment/cli", 'nargs="*",', "nargs=1,", REFUSED),
    Mutant("cli: tyro takes orders", "experiment/cli", 'args=["", *argv],', 'args=[*argv, ""],', REFUSED),
    Mutant("cli: unknown words pass", "experiment/cli", "    if unknown:\n", "    if False:\n", CLI + "words_without_a_meaning_are_refused"),
    Mutant("cli: an option belongs to nobody", "experiment/cli", "elif owners and cls.algo not in owners:", "elif False:", REFUSED),
    Mutant("cli: an algorithm is no option", "experiment/cli", 'hint = f"Did you mean --{named[0]}?" if named else ""', 'hint = ""', REFUSED),
    Mutant("cli: a file's option of the command line", "experiment/cli", "if field in _names(RunOptions) and field not in names:", "if False:", REFUSED),
    Mutant("cli: a switch is a flag", "experiment/cli", "(tyro.conf.OmitArgPrefixes, tyro.conf.FlagConversionOff)", "(tyro.conf.OmitArgPrefixes,)", REFUSED),
    Mutant("cli: --no-switch is nothing", "experiment/cli", 'if prefix == "--no-" and name in switches else word', "if False else word", CLI + "values_are_read_as_people_write_them"),
    Mutant("cli: a bare switch is empty", "experiment/cli", '" ".join(words or bare)', '" ".join(words)', CLI + "values_are_read_as_people_write_them"),
    Mutant("cli: the file's algorithm wins", "experiment/cli", 'values.pop("algo", "ppo") if first.algo is None else first.algo', 'values.pop("algo", first.algo or "ppo")', CLI + "command_line_wins_over_file_wins_over_defaults"),
    Mutant("cli: the file wins", "experiment/cli", "base = from_dict(cls, cast(cls, values))", "base = from_dict(cls, {})", CLI + "command_line_wins_over_file_wins_over_defaults"),
    Mutant("config file: runs what it says", "experiment/config_file", "class _Loader(yaml.SafeLoader):", "class _Loader(yaml.UnsafeLoader):", STRANGER),
    Mutant("config file: a bomb goes off", "experiment/config_file", "if self.check_event(yaml.AliasEvent):", "if False:", STRANGER),
    Mutant("config file: a name twice", "experiment/config_file", "if name in values:", "if False:", STRANGER),
    Mutant("config file: a number for a name", "experiment/config_file", 'if name.tag != "tag:yaml.org,2002:str":', "if False:", STRANGER),
    Mutant("config file: any size", "experiment/config_file", "if len(content) > LARGEST:", "if False:", STRANGER),
    Mutant("config file: any depth", "experiment/config_file", "if _depth(values) > DEEPEST:", "if False:", STRANGER),
    Mutant("config file: every YAML node is deeper", "experiment/config_file", "self.depth -= 1", "pass", MISTAKES + "the_largest_file_there_may_be_is_read_soon"),
    Mutant("config file: a name of any depth", "experiment/config_file", 'if max(line.count(".") for line in text.split("\\n")) > 100:', "if False:", STRANGER),
    Mutant("config file: a reader's own errors", "experiment/config_file", "except Exception as error:  # what", "except (OSError, UnicodeError) as error:  # what", STRANGER),
    Mutant("config file: a link is no file", "experiment/config_file", "open_regular(path.resolve())", "open_regular(path)", MISTAKES + "only_a_regular_file_is_opened"),
    Mutant("config file: a byte order mark", "experiment/config_file", '"utf-8-sig"', '"utf-8"', CLI + "numbers_in_files_are_read_as_people_write_them"),
    Mutant("config file: 3e-4 is text", "experiment/config_file", "[eE][-+]?", "[E][-+]?", CLI + "numbers_in_files_are_read_as_people_write_them"),
    Mutant("config file: 1e6 is no whole number", "experiment/config_file", "exact = isinstance(number, float)", "exact = isinstance(value, float)", CLI + "values_are_read_as_people_write_them"),
    Mutant("config file: 1e30 is not exact", "experiment/config_file", " and abs(number) < 2**53", "", REFUSED),
    Mutant("config file: no sizes", "experiment/config_file", "return sizes if sizes and all(", "return sizes if all(", REFUSED),
    Mutant("config file: None is text", "experiment/config_file", 'return None if rule.optional and value.lower() in ("none", "null") else _real(value)', "return _real(value)", CLI + "options_become_fields"),
    Mutant("config file: a record is none", "experiment/config_file", "if name not in RECORDED}", "if True}", CLI + "the_script_trains_and_ends_by_itself"),
    # The contract of users' environments
    Mutant("check: any action space from anywhere", "envs/check", "value.start == 0", "True", CHECK_BROKEN + "[actions from 1]"),
    Mutant("check: True steps are a time limit", "envs/check", " and not isinstance(value, bool) and value > 0", " and value > 0", CHECK_BROKEN + "[a time limit of True]"),
    Mutant("check: a name that raises escapes", "envs/check", "        except Exception as error:\n            what =", "        except AttributeError as error:\n            what =", CHECK_BROKEN + "[a name that raises]"),
    Mutant("check: params of any kind", "envs/check", "    if not (yield from _attempt(\"params\", partial(fits, params))):", "    if False:", "envs/test_check.py::test_given_parameters_of_the_wrong_kind"),
    Mutant("check: the given params are ignored", "envs/check", "_Task(default if params is None else params,", "_Task(default,", "envs/test_check.py::test_the_given_parameters_are_those_that_are_checked"),
    Mutant("check: arguments by position only", "envs/check", "(required + optional, ()), (required, optional))", "(required + optional, ()))", CHECK_BROKEN + "[reset by other names]"),
    Mutant("check: needed is not traced", "envs/check", "needed = (True,) if task.takes_needed else ()", "needed = ()", CHECK_BROKEN + "[if needed]"),
    Mutant("check: needed is not passed", "envs/check", "*([np.ones(num, bool)] * task.takes_needed)", "*()", CHECK_BROKEN + "[a traced needed is not True]"),
    Mutant("check: weak types pass", "envs/check", "        elif leaf.weak:", "        elif False:", CHECK_BROKEN + "[weak state]"),
    Mutant("check: Python's bool is a flag", "envs/check", "aval.weak_type or type(value) in PYTHON", "aval.weak_type", CHECK_BROKEN + "[Python's terminated]"),
    Mutant("check: a reward of any shape", "envs/check", "(str(leaf.dtype), leaf.shape) != (dtype, ())", "str(leaf.dtype) != dtype", CHECK_BROKEN + "[rewards]"),
    Mutant("check: shapes may change", "envs/check", 'f"{leaf.dtype}{list(leaf.shape)}" for name', 'f"{leaf.dtype}" for name', CHECK_BROKEN + "[state changes shape]"),
    Mutant("check: dtypes may change", "envs/check", 'f"{leaf.dtype}{list(leaf.shape)}" for name', 'f"{leaf.shape}" for name', CHECK_BROKEN + "[state changes type]"),
    Mutant("check: trees may change", "envs/check", "    if not names and one != two:", "    if False:", CHECK_BROKEN + "[state changes its tree]"),
    Mutant("check: float64 fits a space of float64", "envs/check", '"float64": "float32"', '"float64": "float64"', CHECK_GOOD + "[class]"),
    Mutant("check: no word on legacy keys", "envs/check", "        if not [*_attempt(name, partial(_trace, function, legacy, *args[1:]))]:", "        if False:", CHECK_BROKEN + "[legacy keys]"),
    Mutant("check: a program may change", "envs/check", "traces[0][1] != traces[1][1]", "traces[0][1] != traces[0][1]", CHECK_BROKEN + "[NumPy's random numbers]"),
    Mutant("check: constants may change", "envs/check", "(str(jaxpr), *(_plain(const).tobytes() for const in jaxpr.consts))", "(str(jaxpr),)", CHECK_BROKEN + "[NumPy's random arrays]"),
    Mutant("check: variables may change", "envs/check", "after[name] != before.get(name) or ", "", CHECK_BROKEN + "[a list on the host]"),
    Mutant("check: tracers may leak", "envs/check", ' or "Tracer(" in after[name]]', "]", CHECK_BROKEN + "[a state on the host]"),
    Mutant("check: one vmap is enough", "envs/check", "jax.vmap(batch), _arrays(args, 2, 3)", "batch, _arrays(args, 2)", CHECK_BROKEN + "[no vmap of vmap]"),
    Mutant("check: params need not batch", "envs/check", "        if jax.tree.leaves(params):", "        if False:", CHECK_BROKEN + "[no vmap over params]"),
    Mutant("check: None may mean anything", "envs/check", "if one is None or two is None or one[1] == two[1]:", "if True:", CHECK_BROKEN + "[None means other parameters]"),
    Mutant("check: None is compared by program", "envs/check", "if not _close(pair[0][name], pair[1][name])]", "]", CHECK_GOOD + "[None in another way]"),
    Mutant("check: bits may change", "envs/check", "if runs[0][name].tobytes() != again[name].tobytes()]", "if False]", CHECK_BROKEN + "[a host function that counts]"),
    Mutant("check: rows may differ", "envs/check", "if name not in (*changing, *same)]", "if False]", CHECK_BROKEN + "[rows mixed by vmap]"),
    Mutant("check: one start for all", "envs/check", "if len(starts) == 1 and not deterministic_reset:", "if False:", CHECK_BROKEN + "[one start for every key]"),
    Mutant("check: one start for all is never allowed", "envs/check", "if len(starts) == 1 and not deterministic_reset:", "if len(starts) == 1:", "envs/test_check.py::test_one_start_for_every_key_can_be_allowed"),
    Mutant("check: observations may be NaN", "envs/check", "    if not finite.all():", "    if False:", CHECK_BROKEN + "[NaN]"),
    Mutant("check: rewards beyond death count", "envs/check", "episodes.reward_finite[alive].all()", "episodes.reward_finite.all()", CHECK_GOOD + "[rotten beyond the end]"),
    Mutant("check: no lower bound", "envs/check", "jnp.maximum(low - obs, obs - high)", "obs - high", CHECK_BROKEN + "[a start out of the space]"),
    Mutant("check: no rounding at the bounds", "envs/check", "if excess[worst] > 1e-5 * (1 + abs(value[worst])):", "if excess[worst] > 0:", CHECK_GOOD + "[rounding at the bounds]"),
    Mutant("check: early truncation passes", "envs/check", "[:, : (horizon or 1) - 1].any(0)", "[:, :0].any(0)", CHECK_BROKEN + "[truncated one step early]"),
    Mutant("check: late truncation passes", "envs/check", "[:, horizon - 1 : horizon].any()", "[:, horizon : horizon + 1].any()", CHECK_BROKEN + "[truncated one step late]"),
    Mutant("check: step may reset itself", "envs/check", "    if rows.sum() < 2:", "    if True:", CHECK_BROKEN + "[step resets]"),
    Mutant("check: one clock going round is a reset", "envs/check", "[:, clocks].all())", "[:, clocks].any())", CHECK_GOOD + "[day]"),
    Mutant("check: what never changes is a clock", "envs/check", "clocks = as_first[:, 0].all(0) & ~again", "clocks = as_first[:, 0].all(0)", CHECK_GOOD + "[hidden clock]"),
    Mutant("check: observations beyond death count", "envs/check", "(fact[alive] for fact in episodes.in_space)", "(fact.ravel() for fact in episodes.in_space)", CHECK_GOOD + "[rotten beyond the end]"),
    # Checkpoints
    Mutant("checkpoint: no checksum", "experiment/checkpoint", "if digest.hexdigest() != entry[\"sha256\"]:", "if False:", CHECKPOINT + "a_flipped_byte_is_never_another_value[arrays.bin]"),
    Mutant("checkpoint: any size", "experiment/checkpoint", "if found != written:", "if False:", CHECKPOINT + "a_truncated_file_is_never_used[arrays.bin]"),
    Mutant("checkpoint: more arrays", "experiment/checkpoint", "if not partly and (extra", "if partly and (extra", CHECKPOINT + "what_belongs_to_something_else_is_an_error[an array more]"),
    Mutant("checkpoint: any shape", "experiment/checkpoint", "if found != (str(leaf.dtype), leaf.shape):", "if found[0] != str(leaf.dtype):", CHECKPOINT + "what_belongs_to_something_else_is_an_error[another shape]"),
    Mutant("checkpoint: any type", "experiment/checkpoint", "if found != (str(leaf.dtype), leaf.shape):", "if found[1] != leaf.shape:", CHECKPOINT + "what_belongs_to_something_else_is_an_error[another type]"),
    Mutant("checkpoint: through a link", "experiment/checkpoint", "if path.is_symlink():", "if False:", HOSTILE + "[a checkpoint that is a link-load]"),
    Mutant("checkpoint: any format", "experiment/checkpoint", "if values[\"format\"] > FORMAT:", "if False:", CHECKPOINT + "a_newer_format_is_named_with_both_versions"),
    Mutant("checkpoint: true is a format", "experiment/checkpoint", "type(values.get(\"format\")) is not int", "not isinstance(values.get(\"format\"), int)", HOSTILE + "[format True-load]"),
    Mutant("checkpoint: negative sizes", "experiment/checkpoint", "0 <= size <= MAX_SIZE", "size <= MAX_SIZE", CHECKPOINT + "what_is_not_as_it_was_written_is_passed_over[a negative size]"),
    Mutant("checkpoint: any number of axes", "experiment/checkpoint", "        and len(entry[\"shape\"]) <= MAX_NDIM\n", "", HOSTILE + "[one more array, of 20,000 axes-load]"),
    Mutant("checkpoint: any digits in a name", "experiment/checkpoint", "re.compile(\"step-[0-9]{12}\")", "re.compile(r\"step-\\d{12}\")", CHECKPOINT + "the_newest_stay"),
    Mutant("checkpoint: keeps one", "experiment/checkpoint", "newest_first(directory)[keep:]", "newest_first(directory)[keep - 1 :]", CHECKPOINT + "the_newest_stay"),
    Mutant("checkpoint: oldest first", "experiment/checkpoint", "names), reverse=True)", "names), reverse=False)", CHECKPOINT + "the_newest_stay"),
    Mutant("checkpoint: arrays not synced", "experiment/checkpoint", "        os.fsync(file.fileno())\n", "", CHECKPOINT + "what_has_a_name_is_on_the_disk"),
    Mutant("checkpoint: name not synced", "experiment/checkpoint", "        sync_directory(directory)\n", "", CHECKPOINT + "what_has_a_name_is_on_the_disk"),
    Mutant("checkpoint: litter", "experiment/checkpoint", "    finally:\n        shutil.rmtree(temporary, ignore_errors=True)\n", "    finally:\n        pass\n", CHECKPOINT + "an_error_at_any_moment_leaves_what_was_there[fsync-1-new]"),
    Mutant("checkpoint: the replaced one is lost", "experiment/checkpoint", "            os.replace(old, path)\n", "            pass\n", CHECKPOINT + "an_error_at_any_moment_leaves_what_was_there[replace-2-again]"),
    Mutant("checkpoint: lost between two renames", "experiment/checkpoint", "os.replace(old, directory / name[0])", "pass", CHECKPOINT + "a_kill_between_two_renames_loses_nothing"),
    Mutant("checkpoint: old ones come back", "experiment/checkpoint", "if name and all(name[0] > path.name for path in newest_first(directory)):", "if name:", CHECKPOINT + "a_kill_between_two_renames_loses_nothing"),
    Mutant("checkpoint: saves what it cannot load", "experiment/checkpoint", "if str(leaf.dtype) not in ITEM_BYTES:", "if False:", CHECKPOINT + "what_could_not_be_read_again_is_not_written[tree0-record0-complex64]"),
    Mutant("checkpoint: keys of the default kind", "experiment/checkpoint", ", impl=KEYS[str(like.dtype)])", ")", CHECKPOINT + "every_type_comes_back[rbg]"),
    Mutant("checkpoint: a bool of 7", "experiment/checkpoint", "values = content != 0 if", "values = content.view(bool) if", CHECKPOINT + "a_bool_is_true_or_false"),
    Mutant("checkpoint: errors as they come", "experiment/checkpoint", "super().__init__(one_line(message))", "super().__init__(message)", CHECKPOINT + "errors_are_one_line_for_a_terminal"),
    Mutant("checkpoint: seals are not those of the arrays", "experiment/checkpoint", "                digest.update(block)\n                file.write(block)", "                file.write(block)", CHECKPOINT + "every_type_comes_back[threefry2x32]"),
    # Files
    Mutant("files: follow links", "experiment/files", "os.O_RDONLY | os.O_NOFOLLOW |", "os.O_RDONLY |", HOSTILE + "[manifest.json as_link-load]"),
    Mutant("files: wait for a pipe", "experiment/files", " | os.O_NONBLOCK", "", HOSTILE + "[manifest.json as_fifo-load]"),
    Mutant("files: anything is a file", "experiment/files", "if not stat.S_ISREG(os.fstat(number).st_mode):", "if False:", CHECKPOINT + "only_regular_files_are_opened"),
    Mutant("files: any size of JSON", "experiment/files", "if len(content) > JSON_LIMIT:", "if False:", CHECKPOINT + "what_could_not_be_read_again_is_not_written[tree2-record2-more than 2,097,152 bytes]"),
    Mutant("files: any number of lists", "experiment/files", "b\",\"))) > MARKS:", "b\",\"))) > 10 * MARKS:", CHECKPOINT + "what_could_not_be_read_again_is_not_written[tree3-record3-brackets]"),
    Mutant("files: any depth", "experiment/files", "    if level:\n", "    if False:\n", CHECKPOINT + "what_could_not_be_read_again_is_not_written[tree4-record4-nested]"),
    Mutant("files: any number of digits", "experiment/files", "if len(text) > 20:", "if len(text) > 2000:", CHECKPOINT + "what_could_not_be_read_again_is_not_written[tree5-record5-digits]"),
    Mutant("files: NaN", "experiment/files", "if text == \"NaN\":", "if False:", CHECKPOINT + "what_could_not_be_read_again_is_not_written[tree1-record1-could not be read again]"),
    Mutant("files: the last of two names", "experiment/files", "if len(values) != len(pairs):", "if False:", CHECKPOINT + "json_that_nobody_here_writes[a name twice]"),
    Mutant("files: infinity is a number", "experiment/files", " or not math.isfinite(float(text)):", ":", CHECKPOINT + "json_that_nobody_here_writes[a number beyond all]"),
    Mutant("files: any seal", "experiment/files", "if values.pop(\"sha256\", None) != _seal(values):", "if values.pop(\"sha256\", None) is None:", CHECKPOINT + "a_seal_is_of_the_values"),
    Mutant("files: litter stops a write", "experiment/files", "    temporary.unlink(missing_ok=True)  # of a killed process that had our number\n", "", CHECKPOINT + "a_file_is_not_written_through_a_link"),
    Mutant("files: a name without contents", "experiment/files", "            os.fsync(file.fileno())\n", "", CHECKPOINT + "what_has_a_name_is_on_the_disk"),
    Mutant("files: names not synced", "experiment/files", "    sync_directory(path.parent)\n", "", CHECKPOINT + "what_has_a_name_is_on_the_disk"),
    Mutant("files: control characters", "experiment/files", "c if c.isprintable() else c.encode(\"unicode_escape\").decode() for c in text", "c for c in text", CHECKPOINT + "errors_are_one_line_for_a_terminal"),
    # The directory of a run
    Mutant("directory: a lock through a link", "experiment/directory", " | os.O_NOFOLLOW", "", CHECKPOINT + "a_lock_that_is_no_file_is_refused"),
    Mutant("directory: a failure keeps the lock", "experiment/directory", "        except BaseException:\n            self.close()\n", "        except BaseException:\n", CHECKPOINT + "a_lock_that_is_no_file_is_refused"),
    Mutant("directory: logs through a link", "experiment/directory", "        _refuse_links(path)\n", "", HOSTILE + "[a seed that is a link-resume]"),
    Mutant("directory: litter stays", "experiment/directory", "            checkpoint.clean(self._checkpoints)\n", "", CHECKPOINT + "what_a_killed_process_left_is_removed_by_the_next_run"),
    Mutant("directory: damage in silence", "experiment/directory", "            logger.warning(\"%s\", error)\n", "", CHECKPOINT + "a_truncated_file_is_never_used[manifest.json]"),
    Mutant("directory: passes over another schema", "experiment/directory", "        except SchemaError:\n            raise\n", "", CHECKPOINT + "what_belongs_to_something_else_is_an_error[an array less]"),
    Mutant("directory: damaged ones stay in the way", "experiment/directory", "                _set_aside(path)\n", "                pass\n", CHECKPOINT + "what_is_damaged_is_set_aside_as_a_run_goes_on"),
    Mutant("directory: sets aside what it uses", "experiment/directory", "if path.name > manifest.path.name:", "if path.name >= manifest.path.name:", CHECKPOINT + "what_is_damaged_is_set_aside_as_a_run_goes_on"),
    Mutant("directory: sets aside once", "experiment/directory", "next(name for name in names if not os.path.lexists(name))", "next(names)", CHECKPOINT + "what_is_damaged_is_set_aside_as_a_run_goes_on"),
    Mutant("directory: tries every checkpoint", "experiment/directory", "[:CANDIDATES]:\n        try:", ":\n        try:", CHECKPOINT + "of_many_forged_checkpoints_few_are_opened"),
    Mutant("directory: a healthy seed of NaN", "experiment/directory", "if (seeds & ~finite).any():", "if False:", CHECKPOINT + "numbers_that_are_not_finite_are_damage"),
    Mutant("directory: a diverged seed is damage", "experiment/directory", "if (seeds & ~finite).any():", "if (~finite).any():", CHECKPOINT + "numbers_that_are_not_finite_are_damage"),
    Mutant("directory: a best policy of NaN", "experiment/directory", "    if best:\n        _check", "    if False:\n        _check", CHECKPOINT + "numbers_that_are_not_finite_are_damage"),
    Mutant("directory: a checkpoint of any run", "experiment/directory", "    if not same:\n", "    if False:\n", CHECKPOINT + "a_checkpoint_of_another_run_is_refused"),
    Mutant("directory: any name", "experiment/directory", "if place[\"step\"] != manifest.step or path.name", "if place[\"step\"] != manifest.step and path.name", HOSTILE + "[a step under another name-load]"),
    Mutant("directory: endless time", "experiment/directory", "not 0 <= place[name] < math.inf:", "place[name] < 0:", HOSTILE + "[elapsed infinite-load]"),
    Mutant("directory: beyond the end", "experiment/directory", "return step <= schedule.total_steps and learned", "return learned", CHECKPOINT + "places_where_a_run_can_stand"),
    Mutant("directory: within a piece", "experiment/directory", "learned % train == 0 and finished", "finished", CHECKPOINT + "places_where_a_run_can_stand"),
    Mutant("directory: within a piece of warm-up", "experiment/directory", "return step % warmup == 0 and rows == 0", "return rows == 0", CHECKPOINT + "places_where_a_run_can_stand"),
    Mutant("directory: fewer rows", "experiment/directory", "finished - unfinished <= rows <= finished", "rows <= finished", CHECKPOINT + "places_where_a_run_can_stand"),
    Mutant("directory: no row waits", "experiment/directory", "finished - unfinished <= rows <= finished", "rows == finished", CHECKPOINT + "places_where_a_run_can_stand"),
    Mutant("directory: pieces that do not divide", "experiment/directory", "if schedule.warmup_steps % warmup or schedule.row_steps % train:", "if False:", CHECKPOINT + "places_where_a_run_can_stand"),
    Mutant("directory: rows of anything", "experiment/directory", "if not {\"epoch\", \"step\", \"time\", *names} <= numbers:", "if False:", HOSTILE + "[metrics.jsonl with too little-resume]"),
    Mutant("run: opens a stranger's model", "experiment/run", "    if env is None:\n        refuse_files(", "    if False:\n        refuse_files(", CHECKPOINT + "a_model_of_ones_own_comes_as_an_environment"),
    Mutant("scan: calls only by their own name", "experiment/files", "import hashlib\n", "import hashlib\nfrom os import system as go\n", STRUCTURE + "nothing_runs_code_from_files[purerl/experiment/files.py]"),
    # Stopping and going on
    Mutant("loop: signals are not asked for", "experiment/loop", "while not (self._interrupts.pending or self._is_over(snapshot)):", "while not self._is_over(snapshot):", "experiment/test_resume.py::test_signals_in_every_phase[sac-1]"),
    Mutant("loop: a signal at the end is swallowed", "experiment/loop", "        if self._interrupts.pending:\n            raise", "        if False:\n            raise", "experiment/test_resume.py::test_a_signal_at_the_very_end_is_not_swallowed"),
    Mutant("loop: nothing is saved at an end", "experiment/loop", "        self._save(snapshot)\n        if self._interrupts", "        if self._interrupts", "experiment/test_resume.py::test_signals_in_every_phase[sac-1]"),
    Mutant("loop: no checkpoint between the ends", "experiment/loop", "(step // interval + 1) * interval if interval else math.inf", "math.inf", "experiment/test_resume.py::test_a_second_signal_does_not_wait"),
    Mutant("loop: a checkpoint before its row", "experiment/loop", "if snapshot.step >= due and not self._program.has_row(snapshot):", "if snapshot.step >= due:", "experiment/test_resume.py::test_a_checkpoint_has_the_row_that_ends_with_it"),
    Mutant("loop: a checkpoint a piece late", "experiment/loop", "if snapshot.step >= due and", "if snapshot.step > due + 20 and", "experiment/test_resume.py::test_a_second_signal_does_not_wait"),
    Mutant("loop: nothing is saved after an error", "experiment/loop", "                self._save_or_warn(snapshot)\n            raise", "                pass\n            raise", "experiment/test_resume.py::test_an_error_at_a_row_loses_none"),
    Mutant("loop: a full disk ends training", "experiment/loop", "except CheckpointError as error:", "except ZeroDivisionError as error:", "experiment/test_resume.py::test_a_full_disk_does_not_end_training"),
    Mutant("loop: a failing last save passes", "experiment/loop", "        self._save(snapshot)\n        if self._interrupts", "        self._save_or_warn(snapshot)\n        if self._interrupts", "experiment/test_resume.py::test_a_full_disk_at_the_end_is_an_error"),
    Mutant("loop: goes on without a living seed", "experiment/loop", '(self.latest["seed/diverged"] > 0) | ', "", "experiment/test_resume.py::test_a_run_of_which_no_seed_is_left_ends_with_its_row"),
    Mutant("loop: one sick seed ends all", "experiment/loop", ">= enough)).all())", ">= enough)).any())", "experiment/test_resume.py::test_a_seed_that_diverges_is_alone[sac-8-memory-260-4-2]"),
    Mutant("loop: the clock starts anew", "experiment/loop", "began = time.monotonic() - snapshot.elapsed", "began = time.monotonic()", "experiment/test_resume.py::test_the_clock_goes_on"),
    Mutant("run: changes have no effect", "experiment/run", "return saved and saved._replace(hyper=make_hyper(program.cfg))", "return saved", "experiment/test_resume.py::test_another_learning_rate_is_used_and_recorded"),
    Mutant("run: changes are not recorded", "experiment/run", '[*old["changes"], entry | {"after": changed}]', 'old["changes"]', "experiment/test_resume.py::test_another_learning_rate_is_used_and_recorded"),
    Mutant("run: other pieces on resuming", "experiment/run", "    if not changed:\n        return old\n", "    if not changed:\n        return new\n", "experiment/test_resume.py::test_pieces_of_another_size"),
    Mutant("run: another seed goes on", "experiment/run", "if name in FIXED:", "if False:", "experiment/test_resume.py::test_what_does_not_fit_is_refused_and_nothing_touched[seed]"),
    Mutant("run: changes need no leave", "experiment/run", "if not allow_changes:", "if False:", "experiment/test_resume.py::test_what_does_not_fit_is_refused_and_nothing_touched[learning_rate]"),
    Mutant("run: shapes are not compared", "experiment/run", "return structure, [(leaf.shape, leaf.dtype) for leaf in leaves], driver", "return structure, driver", "experiment/test_resume.py::test_what_does_not_fit_is_refused_and_nothing_touched[hidden_sizes]"),
    Mutant("run: rows of another length", "experiment/run", "for leaf in leaves], driver.schedule._replace(rows=0)", "for leaf in leaves]", "experiment/test_resume.py::test_what_does_not_fit_is_refused_and_nothing_touched[log_interval]"),
    Mutant("run: other seeds go on", "experiment/run", 'if new["seeds"] != old["seeds"]:', "if False:", "experiment/test_resume.py::test_what_does_not_fit_is_refused_and_nothing_touched[seeds]"),
    Mutant("run: resumed metrics are of another type", "experiment/run", "axis=1, dtype=np.float32)", "axis=1)", "experiment/test_resume.py::test_a_finished_run_is_left_as_it_is"),
    Mutant("directory: the lock is shared", "experiment/directory", "fcntl.LOCK_EX | fcntl.LOCK_NB", "fcntl.LOCK_SH | fcntl.LOCK_NB", "experiment/test_resume.py::test_a_directory_has_one_run_at_a_time"),
    Mutant("directory: a checkpoint without its last row stays", "experiment/directory", "return (snapshot.step, snapshot.rows) == self._saved", "return snapshot.step == self._saved[0]", "experiment/test_resume.py::test_an_error_at_a_row_loses_none"),
    Mutant("directory: a loaded state is saved again", "experiment/directory", "        self._saved = snapshot.step, snapshot.rows\n        return snapshot", "        return snapshot", "experiment/test_resume.py::test_a_finished_run_is_left_as_it_is"),
    Mutant("directory: a full disk under the logs", "experiment/directory", "        except OSError as error:\n            raise CheckpointError(f\"the logs", "        except ZeroDivisionError as error:\n            raise CheckpointError(f\"the logs", "experiment/test_resume.py::test_a_full_disk_does_not_end_training[fsync]"),
    Mutant("logger: the header comes twice", "experiment/logger", 'self._columns = _names_of(table[0].split("\\t")) if table else []', "self._columns = []", "experiment/test_resume.py::test_what_a_killed_process_left_is_cleared_away"),
    Mutant("logger: old rows stay", "experiment/logger", 'write_whole(path, "".join(line + "\\n" for line in kept))', "pass", "experiment/test_resume.py::test_what_a_killed_process_left_is_cleared_away"),
    Mutant("logger: gone rows are not missed", "experiment/logger", "if len(kept) < lines:", "if False:", "experiment/test_resume.py::test_rows_that_are_gone_are_an_error"),
    Mutant("logger: closing hides the error", "experiment/logger", "with suppress(OSError):  # a row", "with suppress():  # a row", "experiment/test_resume.py::test_logs_that_cannot_be_written_end_the_run_and_free_the_directory"),
    Mutant("interrupts: the second waits", "experiment/interrupts", "            raise KeyboardInterrupt\n", "            pass\n", "experiment/test_resume.py::test_a_second_signal_does_not_wait"),
    Mutant("interrupts: handlers stay", "experiment/interrupts", "            signal.signal(number, handler or signal.SIG_DFL)", "            pass", "experiment/test_resume.py::test_signals_in_every_phase[sac-1]"),
    Mutant("interrupts: what is ignored is heard", "experiment/interrupts", "if signal.getsignal(number) is not signal.SIG_IGN", "if True", "experiment/test_resume.py::test_signals_that_are_ignored_stay_ignored"),
    Mutant("interrupts: compilation is not stopped", "experiment/interrupts", "        if self.pending:\n            raise Interrupted", "        if False:\n            raise Interrupted", "experiment/test_resume.py::test_signals_in_every_phase[ppo-1]"),
    Mutant("interrupts: the first ends at once", "experiment/interrupts", "if seen == 2:", "if seen == 1:", "experiment/test_resume.py::test_the_second_signal_ends_a_command_deep_in_compiled_code"),
    Mutant("interrupts: the second ends nothing", "experiment/interrupts", "if seen == 2:", "if seen == 3:", "experiment/test_resume.py::test_the_second_signal_ends_a_command_deep_in_compiled_code"),
    Mutant("interrupts: the wake-up pipe stays", "experiment/interrupts", "        signal.set_wakeup_fd(self._previous)\n", "", "experiment/test_resume.py::test_commands_give_the_wake_up_pipe_back"),
    Mutant("program: the warm-up does not know its step", "experiment/program", "        step = jnp.int32(snapshot.step)\n", "        step = jnp.int32(snapshot.step * (not warm))\n", "experiment/test_resume.py::test_pieces_of_another_size"),
    Mutant("train: every piece of the warm-up is alike", "train", "jax.random.fold_in(root, first + i)", "jax.random.fold_in(root, i)", "experiment/test_resume.py::test_pieces_of_another_size"),
    Mutant("train: a sick seed forgets what it knew", "train", "kept = jax.tree.map(lambda new, old: jnp.where(healthy, new, old), learned, known)", "kept = learned", "experiment/test_resume.py::test_a_seed_that_diverges_is_alone[sac-8-memory-260-4-2]"),
    Mutant("train: a sick seed learns again", "train", "healthy = was_healthy & all_finite(learned)", "healthy = all_finite(learned)", "experiment/test_resume.py::test_a_seed_that_diverges_is_alone[sac-8-memory-260-4-2]"),
    Mutant("train: a sick seed is sick anew", "train", "jnp.where(healthy | ~was_healthy, before.diverged_at, step)", "jnp.where(healthy, before.diverged_at, step)", "experiment/test_resume.py::test_a_seed_that_diverges_is_alone[ppo-8-params-704-64-1]"),
    Mutant("train: a sick seed has metrics", "train", "return after, metrics.only_where(before.diverged_at < 0, tallies)", "return after, tallies", "experiment/test_resume.py::test_a_seed_that_diverges_is_alone[ppo-8-params-704-64-1]"),
    Mutant("train: a sick seed is evaluated", "train", "        return metrics.only_where(state.diverged_at < 0, tallies)\n", "        return tallies\n", "experiment/test_resume.py::test_a_seed_that_diverges_is_alone[ppo-8-params-704-64-1]"),
    Mutant("train: nobody is sick", "train", "jnp.all(jnp.array([jnp.isfinite(leaf).all()", "jnp.any(jnp.array([jnp.isfinite(leaf).any()", "experiment/test_resume.py::test_a_seed_that_diverges_is_alone[ppo-8-params-704-64-1]"),
    # Simulations that break down
    Mutant("contain: only rewards are looked at", "rollout", "if jnp.issubdtype(next_obs.dtype, jnp.floating):", "if False:", ROLLOUT + "contain"),
    Mutant("contain: infinity is sound", "rollout", "sound = jnp.isfinite(reward)", "sound = ~jnp.isnan(reward)", ROLLOUT + "contain"),
    Mutant("contain: one number is enough", "rollout", "jnp.isfinite(next_obs).all(", "jnp.isfinite(next_obs).any(", ROLLOUT + "contain"),
    Mutant("contain: the observation stays", "rollout", "next_obs, reward = _where(sound, next_obs, obs), jnp", "next_obs, reward = next_obs, jnp", ROLLOUT + "nothing_broken_reaches_the_learner"),
    Mutant("contain: the reward stays", "rollout", "jnp.where(sound, reward, 0.0)", "reward", ROLLOUT + "nothing_broken_reaches_the_learner"),
    Mutant("contain: the episode goes on", "rollout", "terminated | ~sound, 1.0", "terminated, 1.0", ROLLOUT + "a_simulation_that_breaks_down_is_ended_and_counted"),
    Mutant("contain: nothing is counted", "rollout", "1.0 - sound.astype(jnp.float32)", "0.0 * sound.astype(jnp.float32)", ROLLOUT + "a_simulation_that_breaks_down_is_ended_and_counted"),
    Mutant("contain: one ends all", "rollout", "sound &= jnp.isfinite(next_obs).all(axis=tuple(range(1, next_obs.ndim)))", "sound &= jnp.isfinite(next_obs).all()", ROLLOUT + "a_simulation_that_breaks_down_leaves_the_others_alone"),
    # Robots of the user's own, and the rover
    Mutant("own robot: what broke down is shown", "envs/mujoco/checked", "jnp.where(physics.diverged & ~jnp.isfinite(obs), 0.0, obs)", "obs", CUSTOM + "an_unstable_robot_ends_its_episodes"),
    Mutant("own robot: a number is a flag", "envs/mujoco/checked", "flag = lambda array: array.ndim == 0 and array.dtype == bool", "flag = lambda array: array.ndim == 0", CUSTOM + "a_mistake_is_told_before_anything_is_compiled"),
    Mutant("own robot: nothing is tried at once", "envs/mujoco/custom", "    checked.trace(task, shapes)\n", "", CUSTOM + "a_mistake_is_told_before_anything_is_compiled"),
    Mutant("own robot: a range need not hold", "envs/mujoco/custom", "bounded = model.actuator_ctrllimited.astype(bool) & (width > 0)", "bounded = (width > 0)", CUSTOM + "a_mistake_is_told_before_anything_is_compiled"),
    Mutant("own robot: a position is a quaternion", "envs/mujoco/custom", "int(first) + 3 * (kind == 0)", "int(first)", CUSTOM + "quaternions_start_normalised"),
    Mutant("own robot: noise on one side", "envs/mujoco/custom", "jax.random.uniform(key_qpos, qpos.shape, minval=-1.0)", "jax.random.uniform(key_qpos, qpos.shape)", CUSTOM + "nothing_but_a_reward_is_needed"),
    Mutant("own robot: always at the reference pose", "envs/mujoco/custom", "pose = model.key(keyframe).qpos,", "pose = model.qpos0,", CUSTOM + "the_numbers_are_those_of_mujoco"),
    Mutant("rover: things come too near", "envs/mujoco/rover", "centres + SPREAD * jax", "centres + 1.2 * SPREAD * jax", CUSTOM + "starts_are_free_of_overlap_and_as_documented"),
    Mutant("rover: the goal has its favourites", "envs/mujoco/rover", "jax.random.permutation(key_cell, GRID * GRID)", "jnp.roll(jnp.arange(GRID * GRID), jax.random.randint(key_cell, (), 0, GRID * GRID))", CUSTOM + "starts_are_free_of_overlap_and_as_documented"),
    Mutant("rover: no progress", "envs/mujoco/rover", '(position - physics.change["qpos"][:2])', "position", CUSTOM + "progress_telescopes"),
    Mutant("rover: walls are air", "envs/mujoco/rover", "jnp.minimum(to_pillars.min(), to_walls.min())", "to_pillars.min()", CUSTOM + "arrivals_and_collisions"),
    Mutant("rover: nothing met is near", "envs/mujoco/rover", "jnp.where(ranges < 0, MAX_RANGE, ranges)", "ranges", CUSTOM + "arrivals_and_collisions"),
    Mutant("rover: beams run to the right", "envs/mujoco/assets/rover.xml", 'euler="0 0 22.5"', 'euler="0 0 -22.5"', CUSTOM + "readings_are_what_the_beams_meet"),
    Mutant("rover: beams at wheel height", "envs/mujoco/assets/rover.xml", '<site name="beam" pos="0 0 0.16"', '<site name="beam" pos="0 0 0.06"', CUSTOM + "in_motion_the_rover_does_not_see_itself"),
    Mutant('mjx: stages elsewhere', 'envs/mujoco/mjx.py', 'np.array([0, 3, 3, 6], np.float32) / 6', 'np.array([0, 3, 3, 3], np.float32) / 6', MJX + 'a_free_body_moves_as_on_c_mujoco'),
    Mutant('mjx: stages weigh otherwise', 'envs/mujoco/mjx.py', 'np.array([1, 2, 2, 1], np.float32) / 6', 'np.array([2, 1, 1, 2], np.float32) / 6', MJX + 'a_free_body_moves_as_on_c_mujoco'),
    Mutant('mjx: shows a stage for the step', 'envs/mujoco/mjx.py', 'return state, {name: state.get(name, value) for name, value in seen.items()}', 'return state, seen', MJX + 'a_free_body_moves_as_on_c_mujoco'),
    Mutant('mjx: contact forces of the first step', 'envs/mujoco/mjx.py', '(i == frame_skip - 1) & now', '(i == 0) & now', MJX + 'one_step_is_c_mujocos'),
    Mutant('mjx: any action is one', 'envs/mujoco/mjx.py', 'ctrl_is_bad = ~(jnp.abs(ctrl) <= MAX_VALUE).all()', 'ctrl_is_bad = jnp.bool_(False)', MJX + 'what_is_not_a_number_ends_the_episode_and_stays_alone'),
    Mutant('mjx: shows what is no number', 'envs/mujoco/mjx.py', 'jnp.where(diverged, other, value)', 'value', MJX + 'what_is_not_a_number_ends_the_episode_and_stays_alone'),
    Mutant('mjx: resets all at once', 'envs/mujoco/mjx.py', '-(-num_sims // RESET_SHARE)', 'num_sims', MJX + 'each_reset_is_a_draw_of_its_own'),
    Mutant('mjx: rounded products', 'envs/mujoco/mjx.py', 'jax.default_matmul_precision("highest")', 'jax.default_matmul_precision("default")', MJX + 'physics_is_traced_in_full_precision'),
    Mutant('mjx: leaves its loops in MJX', 'envs/mujoco/mjx.py', '            solver._while_loop_scan, scan.body_tree = theirs', '            pass', MJX + 'mjx_itself_is_left_as_it_was'),
    Mutant('mjx: no PGS', 'envs/mujoco/mjx.py', 'model.opt.solver = mujoco.mjtSolver.mjSOL_NEWTON', 'pass', MJX + 'a_free_body_moves_as_on_c_mujoco'),
    Mutant('mjx: one physics for all', 'envs/mujoco/mjx.py', 'else name: value})', 'else name: stands})', MJX + 'physical_parameters_vmap'),
    Mutant('mujoco: physical parameters ignored', 'envs/mujoco/host.py', '    if overrides:', '    if False:', MJX + 'c_mujoco_refuses_physical_parameters'),
    Mutant('lazily: fills up with a row', 'envs/mujoco/lazily.py', 'fill_value=num_rows)[0]', 'fill_value=0)[0]', LAZILY + 'rows_that_need_it_get_their_own_result'),
    Mutant('lazily: the first rows for all', 'envs/mujoco/lazily.py', 'leaf.at[rows].get(mode="clip")', 'leaf[:chunk]', LAZILY + 'rows_that_need_it_get_their_own_result'),
    Mutant('lazily: every row in every round', 'envs/mujoco/lazily.py', 'min(num_rows, rows_at_once(num_rows))', 'num_rows', LAZILY + 'no_more_rounds_than_the_rows_take'),
    Mutant('lazily: a loop for a branch', 'envs/mujoco/lazily.py', 'return jax.lax.cond(needed.any(), run, lambda *_: zeros, needed, *args)', 'return jax.lax.while_loop(lambda loop: loop[0].any(), lambda _: (jnp.zeros_like(needed), run(needed, *args)), (needed, zeros))[1]', LAZILY + 'a_reset_that_none_needs_is_not_in_the_step'),
    Mutant("render: upside down", "envs/mujoco/opengl", "return self.pixels[::-1].copy()", "return self.pixels.copy()", RENDER + "frames_are_gymnasiums_to_the_bit"),
    Mutant("render: every state is the first", "envs/mujoco/opengl", "        place(self.model, self.data)\n", "        place(self.model, self.data) if not self.data.qpos.any() else None\n", RENDER + "states_may_have_any_leading_axes"),
    Mutant("render: pictures of a width share a canvas", "envs/mujoco/opengl", "key = id(model), width, height", "key = id(model), width, width", RENDER + "pictures_have_the_size_asked_for"),
    Mutant("render: canvases grow without end", "envs/mujoco/opengl", "len(canvases) > MAX_CANVASES", "len(canvases) > 99", RENDER + "canvases_are_kept_and_the_oldest_freed"),
    Mutant("render: PyOpenGL stays with what failed", "envs/mujoco/opengl", "                del sys.modules[name]\n", "                pass\n", RENDER + "a_backend_that_fails_leaves_room_for_the_next"),
    Mutant("render: geoms stay at rest", "envs/mujoco/render", "        data.qpos[:], data.qvel[:] = qpos, qvel\n        mujoco.mj_forward(model, data)\n", "        data.qpos[:], data.qvel[:] = qpos, qvel\n", RENDER + "states_of_mjx_are_drawn_alike"),
    Mutant("render: looks at the mean", "envs/mujoco/render", "np.median(data.geom_xpos, axis=0)", "np.mean(data.geom_xpos, axis=0)", RENDER + "frames_are_gymnasiums_to_the_bit"),
    Mutant("render: a camera below 0", "envs/mujoco/render", "_is_integer(number) and 0 <= number < model.ncam", "_is_integer(number) and number < model.ncam", RENDER + "what_cannot_be_drawn_is_told"),
    Mutant('own robot: a file of ours for yours', 'envs/mujoco/custom.py', 'xml_file=Path(xml_file).expanduser().absolute(),', 'xml_file=xml_file,', CUSTOM + 'a_file_named_as_one_of_ours_is_still_yours'),
    Mutant('lean: the larger margin', 'envs/mujoco/lean.py', 'model.geom_margin[both].sum()', 'model.geom_margin[both].max()', LEAN + 'random_models_step_to_the_same_bits'),
    Mutant('lean: the smaller friction', 'envs/mujoco/lean.py', 'model.geom_friction[both].max(0)', 'model.geom_friction[both].min(0)', LEAN + 'random_models_step_to_the_same_bits'),
    Mutant('lean: priorities turned round', 'envs/mujoco/lean.py', 'int(priority[1] > priority[0])', 'int(priority[1] < priority[0])', LEAN + 'random_models_step_to_the_same_bits'),
    Mutant('lean: solvers mixed half and half', 'envs/mujoco/lean.py', 'mix = weight[0] / (weight[0] + weight[1])', 'mix = 0.5', LEAN + 'random_models_step_to_the_same_bits'),
    Mutant('lean: parents collide', 'envs/mujoco/lean.py', ' or (related and not parents_pass)', '', LEAN + 'random_models_step_to_the_same_bits'),
    Mutant('lean: contacts in any order', 'envs/mujoco/lean.py', 'yield from sorted(pairs) if', 'yield from sorted(pairs, reverse=True) if', LEAN + 'random_models_step_to_the_same_bits'),
    Mutant('lean: any model passes', 'envs/mujoco/lean.py', '    if _differences(model, laid_out):', '    if False:', LEAN + 'a_model_that_was_changed_stays_as_it_is'),
    Mutant('callback: no contact forces', 'envs/mujoco/callback.py', '            if body_forces:', '            if False:', CALLBACK + 'the_routes_are_equal_to_the_bit'),
    Mutant('callback: velocity from the start', 'envs/mujoco/callback.py', 'else tracked - previous', 'else tracked', CALLBACK + 'the_routes_are_equal_to_the_bit'),
    Mutant('callback: warnings are not seen', 'envs/mujoco/callback.py', 'bad.any() or data.warning.number[_breakdowns()].any()', 'bad.any()', CALLBACK + 'the_routes_break_down_alike'),
    Mutant('callback: one simulation for all', 'envs/mujoco/callback.py', '            self.idle.put(data)', '            self.idle.put(data), self.idle.put(data)', CALLBACK + 'calls_from_several_threads_do_not_mix'),
    Mutant('mujoco: falls back in silence', 'envs/mujoco/host.py', '        warn_once(str(error).splitlines()[0])', '        pass', CALLBACK + 'without_the_native_route_one_line_says_so'),
    # The on-policy family, against the same updates in plain loops
    Mutant("ppo: normalises by what it has just seen", "algos/ppo", "obs = on_policy.normalize_obs(cfg, state.normalizer, steps.obs)", "obs = on_policy.normalize_obs(cfg, observed.normalizer, steps.obs)", PPO + "the_first_minibatch_has_ratio_1"),
    Mutant("ppo: the penalty has no coefficient", "algos/ppo", "total += kl_coef * model", "total += model", PPO + "the_penalty_is_the_coefficient_times_the_divergence"),
    Mutant("ppo: the penalty turned round", "algos/ppo", "model.distribution(batch.outputs).kl_divergence(policy)", "policy.kl_divergence(model.distribution(batch.outputs))", PPO + "the_penalty_is_the_coefficient_times_the_divergence"),
    Mutant("ppo: the coefficient never changes", "algos/ppo", "state = state._replace(kl_coef=losses.adapted_coefficient(state.kl_coef, kl, cfg.kl_target))", "pass", PPO + "the_coefficient_follows_the_exact_divergence"),
    Mutant("ppo: the coefficient follows the divergence turned round", "algos/ppo", "kl = model.distribution(outputs).kl_divergence(new).mean()", "kl = new.kl_divergence(model.distribution(outputs)).mean()", PPO + "the_coefficient_follows_the_exact_divergence"),
    Mutant("ppo: stops where the divergence is small", "algos/ppo", 'going &= metrics["pi/kl"] <= 1.5', 'going &= metrics["pi/kl"] >= 1.5', STOPS),
    Mutant("ppo: stops at the target itself", "algos/ppo", "<= 1.5 * cfg.target_kl", "<= cfg.target_kl", STOPS),
    Mutant("ppo: goes on after the stop", "algos/ppo", "going &= metrics", "going = metrics", STOPS),
    Mutant("ppo: takes the step that is too far", "algos/ppo", "jnp.where(going, new, old), learner", "jnp.where(loop[1], new, old), learner", STOPS),
    Mutant("ppo: says what it did not skip", "algos/ppo", 'metrics["pi/stopped"] = 1.0 - going', 'metrics["pi/stopped"] = 1.0 * going', STOPS),
    Mutant("ppo: estimates anew with stale parameters", "algos/ppo", "estimates(loop[0].params)", "estimates(state.learner.params)", ANEW),
    Mutant("ppo: clips the value about a new one", "algos/ppo", "._replace(value=batch.estimates.value)", "", ANEW),
    Mutant("ppo: every pass in the same order", "algos/ppo", EPOCHS, SAME, PLAIN),
    Mutant("ppo: the step size never falls", "algos/ppo", "cfg.learning_rate * left if cfg.anneal_lr else cfg.learning_rate", "cfg.learning_rate", PPO + "nothing_is_learned_after_the_end"),
    Mutant("ppo: the clip never falls", "algos/ppo", "cfg.clip_eps * left if", "cfg.clip_eps if", PPO + "step_size_and_clip_fall_linearly"),
    Mutant("ppo: clips the value about its target", "algos/ppo", "losses.clipped_value_loss(value, old_value,", "losses.clipped_value_loss(value, target,", PLAIN),
    Mutant("ppo: advantages as they come", "algos/ppo", "losses.standardize(advantage), model.value", "advantage, model.value", PPO + "one_step_is_the_plain_one"),
    Mutant("ppo: ascends against entropy", "algos/ppo", "- cfg.ent_coef * entropy", "+ cfg.ent_coef * entropy", PLAIN),
    Mutant("ppo: nothing holds it back", "algos/ppo", "if cfg.clip_eps is None and cfg.kl_target is None:", "if False:", PPO + "what_does_not_fit_together_is_refused"),
    Mutant("ppo: anneals nothing", "algos/ppo", "if cfg.clip_eps is None and cfg.anneal_clip:", "if False:", PPO + "what_does_not_fit_together_is_refused"),
    Mutant("permutation: numbers twice", "algos/on_policy", "jnp.uint32) & ~numbers |", "jnp.uint32) & numbers |", ORDERS + "a_permutation_has_every_number_once"),
    Mutant("permutation: in order", "algos/on_policy", "jax.random.bits(key, (rows,), jnp.uint32) & ~numbers", "jnp.uint32(0)", ORDERS + "every_number_is_everywhere_equally_often"),
    Mutant("permutation: two random bits", "algos/on_policy", "jnp.uint32) & ~numbers |", "jnp.uint32) & ~numbers & jnp.uint32(3 << 30) |", ORDERS + "all_orders_of_four_are_equally_likely"),
    Mutant("epoch: in the order of the rollout", "algos/on_policy", "order = permutation(key, rows)", "order = jnp.arange(rows)", ORDERS + "an_epoch_takes_each_row_once_and_keeps_its_leaves_together"),
    Mutant("epoch: rows drawn with replacement", "algos/on_policy", "order = permutation(key, rows)", "order = jax.random.randint(key, (rows,), 0, rows)", ORDERS + "an_epoch_takes_each_row_once_and_keeps_its_leaves_together"),
    Mutant("flatten: environments first", "algos/on_policy", "leaf.reshape(-1, *leaf.shape[2:])", "jnp.swapaxes(leaf, 0, 1).reshape(-1, *leaf.shape[2:])", ORDERS + "flattening_goes_through_the_environments_of_a_step_first"),
    Mutant("reward: centred", "algos/on_policy", RAW, RAW.replace("reward", "(reward - normalizer.returns.mean)", 1), ORDERS + "rewards_are_scaled_and_never_centred"),
    Mutant("reward: without limits", "algos/on_policy", ", -10.0, 10.0)", ", -1e9, 1e9)", ORDERS + "rewards_are_scaled_and_never_centred"),
    Mutant("estimate: rewards scaled as before the rollout", "algos/on_policy", "next_values, observed, transition)", "next_values, normalizer, transition)", A2C + "an_update_is_the_plain_one"),
    Mutant("estimate: next_obs as it comes", "algos/on_policy", "normalize_obs(cfg, normalizer, flatten_time(o)) for o in (transition.obs, transition.next_obs)", "normalize_obs(cfg, normalizer, flatten_time(transition.obs)), flatten_time(transition.next_obs)", A2C + "targets_are_n_step_returns"),
    Mutant("estimate: the critic's lambda without effect", "algos/on_policy", "if cfg.value_lambda is not None:", "if False:", PPO + "the_options_matter"),
    Mutant("remaining: less than nothing", "algos/on_policy", "jnp.maximum(1.0 - step / cfg.total_timesteps, 0.0)", "1.0 - step / cfg.total_timesteps", PPO + "nothing_is_learned_after_the_end"),
    Mutant("gradients: clipped one by one", "algos/on_policy", "optax.clip_by_global_norm(cfg.max_grad_norm)", "optax.clip(cfg.max_grad_norm)", A2C + "an_update_is_the_plain_one"),
    Mutant("critic: every pass in the same order", "algos/on_policy", EPOCHS, SAME, VPG + "an_update_is_the_plain_one"),
    Mutant("vpg: advantages of the fitted critic", "algos/vpg", ASCENT, FITTED.replace("OPT", "state.opt_state['v']") + ASCENT, VPG + "actor_and_critic_learn_apart"),
    Mutant("vpg: advantages as they come", "algos/vpg", "losses.standardize(advantage), step)", "advantage, step)", VPG + "an_update_is_the_plain_one"),
    Mutant("vpg: ascends against entropy", "algos/vpg", "loss - cfg.ent_coef * entropy", "loss + cfg.ent_coef * entropy", VPG + "entropy_alone_moves_a_policy_without_rewards"),
    Mutant("vpg: the step size never falls", "algos/vpg", "cfg.learning_rate * left", "cfg.learning_rate", VPG + "an_update_is_the_plain_one"),
    Mutant("a2c: forgets the entropy", "algos/a2c", " - cfg.ent_coef * entropy, metrics", ", metrics", A2C + "entropy_alone_moves_a_policy_without_rewards"),
    Mutant("a2c: rmsprop always", "algos/a2c", 'if cfg.optimizer == "adam":', "if False:", A2C + "an_update_is_the_plain_one"),
    Mutant("a2c: epsilon beside the root", "algos/a2c", "decay=0.99, eps=1e-5)", "decay=0.99, eps=1e-5, eps_in_sqrt=False)", A2C + "an_update_is_the_plain_one"),
    Mutant("a2c: advantages as they come", "algos/a2c", "losses.standardize(advantage) if cfg.normalize_advantage else advantage", "advantage", A2C + "an_update_is_the_plain_one"),
    Mutant("a2c: returns of fewer steps", "algos/a2c", "gae_lambda: float = real(1.0", "gae_lambda: float = real(0.95", A2C + "targets_are_n_step_returns"),
    Mutant("a2c: a time limit is a death", "algos/a2c", A2C_ESTIMATE, A2C_ESTIMATE.replace("transition)", "transition._replace(terminated=transition.terminated | transition.truncated))"), A2C + "only_a_time_limit_has_a_future"),
    Mutant("a2c: a death at the time limit is none", "algos/a2c", A2C_ESTIMATE, A2C_ESTIMATE.replace("transition)", "transition._replace(terminated=transition.terminated & ~transition.truncated))"), A2C + "only_a_time_limit_has_a_future"),
    Mutant("trpo: accepts any divergence", "algos/trpo", ACCEPT, "(surrogate_loss(candidate) <= old_loss)", TRPO + "a_step_that_is_too_long_is_shortened"),
    Mutant("trpo: accepts a worse policy", "algos/trpo", ACCEPT, "(mean_kl(candidate) <= cfg.target_kl)", SEARCH),
    Mutant("trpo: accepts what is not a number", "algos/trpo", ACCEPT, "~((mean_kl(candidate) > cfg.target_kl) | (surrogate_loss(candidate) > old_loss))", SEARCH),
    Mutant("trpo: says a refused step was taken", "algos/trpo", '"pi/accepted": (fraction > 0)', '"pi/accepted": (fraction >= 0)', SEARCH),
    Mutant("trpo: climbs its loss", "algos/trpo", "jax.tree.map(jnp.negative, gradient)", "gradient", WHOLE),
    Mutant("trpo: the matrix undamped", "algos/trpo", "mean_kl, pi_params, cfg.cg_damping", "mean_kl, pi_params, 0.0", WHOLE),
    Mutant("trpo: the gradient itself", "algos/trpo", "descent, cfg.cg_steps)", "descent, 1)", WHOLE),
    Mutant("trpo: the divergence turned round", "algos/trpo", 'old.kl_divergence(model.policy({"pi": pi_params}, obs))', 'model.policy({"pi": pi_params}, obs).kl_divergence(old)', TRPO + "no_update_leaves_the_trust_region_or_makes_it_worse"),
    Mutant("trpo: advantages as they come", "algos/trpo", "losses.standardize(advantage))", "advantage)", TRPO + "no_update_leaves_the_trust_region_or_makes_it_worse"),
    Mutant("trpo: advantages of the fitted critic", "algos/trpo", IMPROVEMENT, FITTED.replace("OPT", "state.opt_state") + IMPROVEMENT, TRPO + "policy_and_critic_leave_each_other_alone"),
    Mutant("recurrent: remembers through an end", "algos/recurrent_ppo", "return jnp.where(ended[:, None], 0.0, after), (x, after)", "return after, (x, after)", RECURRENT + "the_first_minibatch_has_ratio_1_in_mid_episode"),
    Mutant("recurrent: remembers through a time limit", "algos/recurrent_ppo", 'transition.extras["carry"][0], transition.terminated | transition.truncated', 'transition.extras["carry"][0], transition.terminated', RECURRENT + "the_first_minibatch_has_ratio_1_in_mid_episode"),
    Mutant("recurrent: remembers through a death", "algos/recurrent_ppo", 'transition.extras["carry"][0], transition.terminated | transition.truncated', 'transition.extras["carry"][0], transition.truncated', RECURRENT + "the_first_minibatch_has_ratio_1_in_mid_episode"),
    Mutant("recurrent: every rollout begins afresh", "algos/recurrent_ppo", 'carry, ended = transition.extras["carry"][0]', 'carry, ended = jnp.zeros_like(transition.extras["carry"][0])', RECURRENT + "the_first_minibatch_has_ratio_1_in_mid_episode"),
    Mutant("recurrent: normalises by what it has just seen", "algos/recurrent_ppo", "on_policy.normalize_obs(cfg, state.normalizer, o) for", "on_policy.normalize_obs(cfg, observed.normalizer, o) for", RECURRENT + "the_first_minibatch_has_ratio_1_in_mid_episode"),
    Mutant("recurrent: what follows without a memory", "algos/recurrent_ppo", "flatten_time((after, next_obs))", "flatten_time((0 * after, next_obs))", RECURRENT + "the_value_of_what_follows_is_that_of_the_memory_after_obs"),
    Mutant("recurrent: hands on the memory after obs", "algos/recurrent_ppo", '"log_prob": log_prob, "carry": carry}', '"log_prob": log_prob, "carry": after}', RECURRENT + "acting_is_a_pass_through_each_episode_alone"),
    Mutant("recurrent: rows of time", "algos/recurrent_ppo", "by_env = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), by_time)", "by_env = jax.tree.map(lambda leaf: leaf.reshape(leaf.shape[1], leaf.shape[0], *leaf.shape[2:]), by_time)", RECURRENT + "an_update_is_the_plain_one_on_whole_environments"),
    Mutant("recurrent: every pass in the same order", "algos/recurrent_ppo", EPOCHS, SAME, RECURRENT + "an_update_is_the_plain_one_on_whole_environments"),
    Mutant("recurrent: the step size never falls", "algos/recurrent_ppo", "cfg.learning_rate * left", "cfg.learning_rate", RECURRENT + "an_update_is_the_plain_one_on_whole_environments"),
    Mutant("recurrent: minibatches need not divide", "algos/recurrent_ppo", "if cfg.num_envs % cfg.num_minibatches:", "if False:", RECURRENT + "minibatches_divide_the_environments"),
    Mutant("rollout: the memory outlives the episode", "rollout", "_where(episodes.ended, jnp.zeros_like(leaf), leaf), carry)", "leaf, carry)", RECURRENT + "the_carry_is_nothing_after_an_end_and_something_elsewhere"),
    Mutant("mask: shows all at a reset", "envs/wrappers", "return function(obs), state\n", "return obs, state\n", NETWORKS + "velocities_read_0_and_nothing_else_changes"),
    Mutant("mask: shows all in a step", "envs/wrappers", "return function(obs), *rest\n", "return obs, *rest\n", NETWORKS + "velocities_read_0_and_nothing_else_changes"),
    Mutant("mask: bounds as they were", "envs/wrappers", "np.where(shown, bound, 0.0)", "np.where(True, bound, 0.0)", NETWORKS + "velocities_read_0_and_nothing_else_changes"),
    Mutant("mask: of any length", "envs/wrappers", "if shown.shape != space.shape:", "if False:", NETWORKS + "a_mask_of_the_wrong_length_is_refused"),
    Mutant("layer norm: behind the nonlinearity", "networks", "ACTIVATIONS[self.activation](nn.LayerNorm()(x) if self.layer_norm else x)", "(nn.LayerNorm() if self.layer_norm else lambda x: x)(ACTIVATIONS[self.activation](x))", NETWORKS + "hidden_layers_are_normalised_where_layer_norm_is_on"),
    Mutant("layer norm: not in a shared torso", "algos/actor_critic", ", orthogonal(np.sqrt(2)), layer_norm=cfg.layer_norm)", ", orthogonal(np.sqrt(2)))", NETWORKS + "a_shared_torso_can_be_normalised_too"),
    Mutant("heads: hidden layers on a shared torso", "algos/actor_critic", '"torso": nets.network(torso(cfg)), **heads(cfg, spec, ())', '"torso": nets.network(torso(cfg)), **heads(cfg, spec, cfg.hidden_sizes)', NETWORKS + "a_shared_torso_is_all_hidden_layers_once"),
    Mutant("spread: a fixed one starts at 1", "algos/actor_critic", "mlp(space.shape[0], cfg.pi_init_scale), cfg.init_log_std)", "mlp(space.shape[0], cfg.pi_init_scale))", NETWORKS + "the_first_policy_is_as_wide_and_as_flat_as_the_config_says"),
    Mutant("spread: one of the state starts at 1", "algos/actor_critic", "LOG_STD_RANGE, cfg.init_log_std)", "LOG_STD_RANGE)", NETWORKS + "the_first_policy_is_as_wide_and_as_flat_as_the_config_says"),
    Mutant("spread: without limits", "networks", "jnp.clip(self.init_log_std + log_std, *self.log_std_range)", "self.init_log_std + log_std", NETWORKS + "a_spread_that_depends_on_the_state"),
    Mutant("pi: a last layer of any scale", "algos/actor_critic", "mlp(space.shape[0], cfg.pi_init_scale)", "mlp(space.shape[0], 0.01)", NETWORKS + "the_first_policy_is_as_wide_and_as_flat_as_the_config_says"),
]
# fmt: on
MUTANTS += [Mutant(*fields) for fields in WORLDS]


@contextmanager
def copy_of_the_repository() -> Iterator[Path]:
    """A scratch copy, removed afterwards."""
    ignore = shutil.ignore_patterns(".*", "__pycache__", "runs", "build", "dist")
    with tempfile.TemporaryDirectory(prefix="mutant-") as scratch:
        for name in ("purerl", "tests", "benchmarks"):
            shutil.copytree(ROOT / name, Path(scratch, name), ignore=ignore)
        shutil.copy(ROOT / "pyproject.toml", scratch)
        yield Path(scratch)


def run(repository: Path, *nodes: str) -> tuple[int, str]:
    """pytest's exit status and output in that copy; status 1 where the time ran out."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *nodes]
    env = os.environ | {"PYTHONPATH": str(repository), "PYTHONDONTWRITEBYTECODE": "1"}
    if any("test_mjx" in node for node in nodes):
        env["NPROC"] = "8"
    try:
        done = subprocess.run(
            command, cwd=repository, env=env, capture_output=True, text=True, timeout=TIME_LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        return 1, "timed out"
    return done.returncode, done.stdout + done.stderr


def outcome(mutant: Mutant) -> str:
    """ "killed", "SURVIVED", or what is wrong with the mutant itself."""
    with copy_of_the_repository() as repository:
        name = mutant.file if Path(mutant.file).suffix else f"{mutant.file}.py"
        path = repository / "purerl" / name
        source = path.read_text()
        if (times := source.count(mutant.old)) != 1:
            return f"BROKEN: its line occurs {times} times in {mutant.file}"
        path.write_text(source.replace(mutant.old, mutant.new))
        status, output = run(repository, f"tests/{mutant.test}")
    return {0: "SURVIVED", 1: "killed"}.get(status, f"BROKEN: pytest gave {status}\n{output[-2000:]}")


def main() -> int:
    """Run the chosen mutants; 0 if every one was killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", default="", help="mutants whose name contains this")
    parser.add_argument("--jobs", type=int, default=1, help="tests to run side by side")
    args = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if args.only in mutant.name]
    tests = sorted({f"tests/{mutant.test}" for mutant in chosen})
    with copy_of_the_repository() as repository:
        status, output = run(repository, *tests)
    if status:
        print(output[-4000:], "\nthese tests must pass without a mutant first", sep="")
        return 1
    print(f"{len(tests)} tests pass without a mutant; {len(chosen)} mutants", flush=True)
    survivors, begun = 0, time.monotonic()
    with ThreadPoolExecutor(args.jobs) as pool:
        for mutant, result in zip(chosen, pool.map(outcome, chosen), strict=True):
            survivors += result != "killed"
            print(f"{time.monotonic() - begun:5.0f} s  {result:8}  {mutant.name}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} killed")
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main())
