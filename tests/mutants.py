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
STATISTICS, INITIALIZERS = "ops/test_statistics.py::test_", "ops/test_initializers.py::test_"
RING, DISTRIBUTIONS = "replay/test_ring.py::test_", "test_distributions.py::test_"
ROLLOUT, EVALUATE = "test_rollout.py::test_", "test_evaluate.py::test_"
CONFIG, CLASSIC = "test_config.py::test_", "envs/test_classic.py::test_"
NATIVE = "envs/test_mujoco_native.py::test_"
BATTERY, PROBES = "contracts/test_algorithms.py::test_", "contracts/test_probes.py::test_"
STRUCTURE = "contracts/test_structure.py::test_"
KNOWN, BEST = PROBES + "the_value_is_the_known_one", PROBES + "the_action_is_the_rewarded_one"

SQUASH = "return cast(Distribution, squashed).sample_and_log_prob(seed=key)"
NORMAL = "(*diagonal_normal(mean, log_std).sample_and_log_prob(seed=key))"
SLOPE = "2 * (jnp.log(2.0) - u + jnp.log(1 / (1 + jnp.exp(-2 * u))))"
CUT = "jnp.where(terminated | truncated, 0.0, 1.0)"
FUTURE = "jnp.where(terminated, 0.0, next_value)"
SOFT = "jnp.where(terminated, 0.0, next_q - alpha * next_log_prob)"
NEXT = "Transition(rollout.obs, action, reward, next_obs, terminated, truncated)"
RESET = NEXT.replace("next_obs", "_where(ended, fresh_obs, next_obs)")
KEPT = "kept = Row(*(getattr(transition, name) for name in Row._fields))"
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
    Mutant("gae: runs forwards", "ops/returns", "reverse=True", "reverse=False", RETURNS + "equals_rlax_on_every_episode"),
    Mutant("gae: target of the next state", "ops/returns", "advantage + value", "advantage + next_value", RETURNS + "one_row_by_hand"),
    # Losses
    Mutant("surrogate: maximum", "ops/losses", "-jnp.minimum(ratio", "-jnp.maximum(ratio", LOSSES + "clipped_surrogate_equals_rlax"),
    Mutant("surrogate: ascends", "ops/losses", "return -jnp.minimum", "return jnp.minimum", LOSSES + "clipped_surrogate_equals_rlax"),
    Mutant("surrogate: ratio upside down", "ops/losses", "jnp.clip(log_prob - old_log_prob,", "jnp.clip(old_log_prob - log_prob,", LOSSES + "clipped_surrogate_stops_pushing_where_it_has_gained"),
    Mutant("surrogate: clips one side", "ops/losses", "jnp.clip(ratio, 1.0 - clip_eps, ", "jnp.clip(ratio, 0.0, ", LOSSES + "clipped_surrogate_stops_pushing_where_it_has_gained"),
    Mutant("surrogate: clips everything", "ops/losses", "jnp.minimum(ratio * advantage, clipped * advantage)", "(clipped * advantage)", LOSSES + "clipped_surrogate_stops_pushing_where_it_has_gained"),
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
    Mutant("ppo: minibatches need not divide", "algos/ppo", "if rows % cfg.num_minibatches:", "if False:", CONFIG + "what_does_not_fit_together_is_refused"),
    Mutant("sac: nothing is learned", "algos/sac", "cfg.learning_starts >= cfg.total", "cfg.learning_starts > cfg.total", CONFIG + "what_does_not_fit_together_is_refused"),
    Mutant("classic: any engine", "envs/functional", 'if engine != "auto":', "if False:", CONFIG + "environment_options_are_checked"),
    # Classic control
    Mutant("cartpole: semi-implicit", "envs/classic/cartpole", "state.x + p.tau * state.x_dot,", "state.x + p.tau * (state.x_dot + p.tau * x_acc),", CLASSIC + "ten_thousand_steps_as_gymnasium"),
    Mutant("cartpole: no reward for the fall", "envs/classic/cartpole", "state, 1.0, terminated", "state, 1.0 - terminated, terminated", CLASSIC + "ten_thousand_steps_as_gymnasium"),
    Mutant("cartpole: limits on one side", "envs/classic/cartpole", "jnp.abs(state.theta) >", "state.theta >", CLASSIC + "ten_thousand_steps_as_gymnasium"),
    Mutant("cartpole: starts on one side", "envs/classic/cartpole", "minval=-0.05", "minval=0.0", CLASSIC + "a_thousand_resets_are_a_thousand_draws"),
    Mutant("pendulum: the angle is not wrapped", "envs/classic/pendulum", "(state.theta + jnp.pi) % (2 * jnp.pi) - jnp.pi", "state.theta", CLASSIC + "ten_thousand_steps_as_gymnasium"),
    Mutant("pendulum: any torque", "envs/classic/pendulum", "jnp.clip(action[0], -MAX_TORQUE, MAX_TORQUE)", "action[0]", CLASSIC + "ten_thousand_steps_as_gymnasium"),
    Mutant("pendulum: moves with the old speed", "envs/classic/pendulum", "state.theta + theta_dot * p.dt", "state.theta + state.theta_dot * p.dt", CLASSIC + "ten_thousand_steps_as_gymnasium"),
    Mutant("pendulum: mass is 1", "envs/classic/pendulum", "(p.mass * p.length**2)", "p.length**2", CLASSIC + "parameters_mean_what_gymnasiums_do"),
    Mutant("time limit: one step late", "envs/functional", "state.time >= max_episode_steps", "state.time > max_episode_steps", CLASSIC + "the_time_limit_is_exact"),
    Mutant("time limit: hides a death", "envs/functional", "reward, jnp.float32), terminated, truncated", "reward, jnp.float32), terminated & ~truncated, truncated", CLASSIC + "the_time_limit_is_exact"),
    Mutant("parameters: always the defaults", "envs/functional", "params = default_params if params is None else params\n", "params = default_params\n", CLASSIC + "parameters_vmap"),
    # MuJoCo
    Mutant('engine: no contact forces', 'envs/mujoco/native.cc', '  mj_rnePostConstraint(m, d);  //', '  //', NATIVE + 'a_thousand_steps_are_gymnasiums'),
    Mutant('engine: velocity in float32', 'envs/mujoco/native.cc', 'Checked(values[i] - *previous++, &diverged)', 'Checked((float)values[i] - (float)*previous++, &diverged)', NATIVE + 'velocity_is_exact_far_from_the_origin'),
    Mutant('engine: warnings are not seen', 'envs/mujoco/native.cc', 'diverged |= d->warning[w].number > 0;', '(void)w;', NATIVE + 'a_diverging_simulation_is_masked_and_alone'),
    Mutant('engine: infinities leave it', 'envs/mujoco/native.cc', 'if (!mju_isBad(value)) return', 'if (true) return', NATIVE + 'a_diverging_simulation_is_masked_and_alone'),
    Mutant('engine: litters the folder', 'envs/mujoco/native.cc', 'if (in_engine) return;', '', NATIVE + 'a_diverging_simulation_is_masked_and_alone'),
    Mutant('engine: silences everybody', 'envs/mujoco/native.cc', 'mju_writeLog("WARNING", message);', '', NATIVE + 'warnings_of_other_simulations_still_go_where_they_went'),
    Mutant('engine: reset on old data', 'envs/mujoco/native.cc', '  mj_resetData(m, d);\n', '', NATIVE + 'reset_is_gymnasiums'),
    Mutant('engine: buffers of any size', 'envs/mujoco/native.cc', 'if (buffer.element_count() != n * size) {', 'if (false) {', NATIVE + 'wrong_buffers_raise'),
    Mutant('engine: errors are no divergence', 'envs/mujoco/native.cc', '- 1] = diverged;', '- 1] = false;', NATIVE + 'an_error_inside_mujoco_is_a_diverged_simulation'),
    Mutant('engine: resets all', 'envs/mujoco/native.cc', 'if (needed.typed_data()[sim]) {', 'if (true) {', NATIVE + 'reset_only_where_needed'),
    Mutant('engine: forgets the warm start', 'envs/mujoco/native.cc', 'plan.row_size, mjSTATE_INTEGRATION);\n  const float* ctrl', 'plan.row_size, mjSTATE_FULLPHYSICS);\n  const float* ctrl', NATIVE + 'batches_are_gymnasiums'),
    Mutant('engine: calls share a batch', 'envs/mujoco/native.cc', '      idle.erase(std::next(it).base());\n', '', NATIVE + 'concurrent_calls_do_not_mix'),
    Mutant('engine: address in the program', 'envs/mujoco/native.py', 'plan = np.frombuffer(digest[:8], np.int64)[0]', 'plan = np.int64(model._address)', NATIVE + 'the_program_is_the_same_in_every_process'),
    Mutant('engine: frame skip not in the hash', 'envs/mujoco/native.py', 'spec = repr((int(frame_skip), ', 'spec = repr((', NATIVE + 'a_thousand_steps_are_gymnasiums'),
    Mutant('task: time limit one late', 'envs/mujoco/task.py', 'time >= task.max_episode_steps', 'time > task.max_episode_steps', NATIVE + 'time_limit'),
    Mutant('task: divergence goes on', 'envs/mujoco/task.py', 'terminated | diverged,', 'terminated,', NATIVE + 'a_diverging_simulation_is_masked_and_alone'),
    Mutant('task: diverged reward', 'envs/mujoco/task.py', 'jnp.where(diverged, 0.0, reward)', 'reward', NATIVE + 'actions_that_are_no_numbers_end_the_episode'),
    Mutant('task: NaN actions go on', 'envs/mujoco/task.py', ' | ~jnp.isfinite(reward)', '', NATIVE + 'actions_that_are_no_numbers_end_the_episode'),
    Mutant('task: every step pays for a reset', 'envs/mujoco/task.py', '_where_needed(batched)(*args)', 'batched(*args)', NATIVE + 'reset_only_where_needed'),
    Mutant('task: one key twice', 'envs/mujoco/task.py', 'jax.random.normal(key_qvel', 'jax.random.normal(key_qpos', NATIVE + 'reset_draws_from_gymnasiums_distribution'),
    Mutant('task: noise on one side', 'envs/mujoco/task.py', 'minval=-1.0)', 'minval=0.0)', NATIVE + 'reset_draws_from_gymnasiums_distribution'),
    Mutant('ant: may jump', 'envs/mujoco/ant.py', ' & (physics.qpos[2] <= high)', '', NATIVE + 'a_thousand_steps_are_gymnasiums'),
    Mutant('ant: always body 1', 'envs/mujoco/ant.py', 'change["xpos"][body, :2]', 'change["xpos"][1, :2]', NATIVE + 'a_thousand_steps_are_gymnasiums'),
    Mutant('half_cheetah: cost of the clipped action', 'envs/mujoco/half_cheetah.py', 'jnp.sum(jnp.square(action))', 'jnp.sum(jnp.square(jnp.clip(action, -1, 1)))', NATIVE + 'actions_beyond_their_range_cost_what_they_are'),
    Mutant('build: stale', 'envs/mujoco/build.py', '        SOURCE.read_text(),\n', '', NATIVE + 'a_changed_source_is_built_anew'),
    Mutant('half_cheetah: heavier', 'envs/mujoco/assets/half_cheetah.xml', 'mass="6.', 'mass="7.', NATIVE + 'our_model_is_gymnasiums_to_the_last_byte'),
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
    Mutant("ppo: all seeds start alike", "algos/ppo", "key_pi, key_v = jax.random.split(key)", "key_pi, key_v = jax.random.split(jax.random.key(0))", BATTERY + "different_keys_give_different_parameters_actions_and_returns[ppo-cartpole]"),
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
    Mutant("ppo: orthogonal by LAPACK", "algos/ppo", "from purerl.ops.initializers import orthogonal", "from flax.linen.initializers import orthogonal", BATTERY + "no_lapack_and_no_fft_in_any_program[ppo-cartpole]"),
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
    Mutant("run: overwrites", "experiment/run", "if directory.exists() and any(directory.iterdir()):", "if False:", "experiment/test_run.py::test_nothing_is_overwritten"),
    Mutant("run: never stops early", "experiment/run", "if stop_at_return is not None and", "if stop_at_return is None and", "experiment/test_run.py::test_stops_at_a_return_that_every_seed_has_reached"),
    Mutant("run: evaluates too late", "train", "passed = step // cfg.eval_interval > (step", "passed = step // cfg.eval_interval > (self.row_steps + step", "experiment/test_run.py::test_evaluates_when_due_and_at_the_end"),
    Mutant("logger: NaN in the table", "experiment/logger", "    if not math.isfinite(value):\n        return \"\"\n", "", "experiment/test_logger.py::test_rows_are_on_disk_as_soon_as_they_are_written"),
    Mutant("logger: rows wait", "experiment/logger", "        self._progress.flush()\n", "", "experiment/test_logger.py::test_rows_are_on_disk_as_soon_as_they_are_written"),
    Mutant("cli: the file wins", "experiment/cli", "base = from_dict(cls, _cast(cls, values))", "base = from_dict(cls, {})", "experiment/test_cli.py::test_command_line_wins_over_file_wins_over_defaults"),
]
# fmt: on


@contextmanager
def copy_of_the_repository() -> Iterator[Path]:
    """A scratch copy, removed afterwards."""
    ignore = shutil.ignore_patterns(".*", "__pycache__", "runs", "build", "dist")
    with tempfile.TemporaryDirectory(prefix="mutant-") as scratch:
        for name in ("purerl", "tests"):
            shutil.copytree(ROOT / name, Path(scratch, name), ignore=ignore)
        shutil.copy(ROOT / "pyproject.toml", scratch)
        yield Path(scratch)


def run(repository: Path, *nodes: str) -> tuple[int, str]:
    """pytest's exit status and output in that copy; status 1 where the time ran out."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *nodes]
    env = os.environ | {"PYTHONPATH": str(repository), "PYTHONDONTWRITEBYTECODE": "1"}
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
