"""One battery for every algorithm of the registry.

The quick tests compile three programs for each algorithm, on one environment. The slow ones repeat them on
the other environment, with other switches, and with the optimisations that users get.
"""

import collections
import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from battery import SEEDS, Lab, avals, changed_floats, equations, pairs
from cases import FIRST, REFUSED, RUNS
from compiling import AS_USERS_DO
from gymnasium import spaces
from tiny import CAPACITY, lane, on_device, plain, same_bits, seed_keys

from purerl import registry
from purerl.config import leaves
from purerl.health import split_replay

ONLY_CONTINUOUS = {"init_log_std"}
"""Leaves without effect on a policy over indices."""


def params():
    """Yield `(config, compiler options)` of each lab."""
    for name, cfg in RUNS.items():
        yield pytest.param((cfg, None), id=name, marks=[] if name in FIRST else [pytest.mark.slow])
    for name in FIRST:
        yield pytest.param((RUNS[name], AS_USERS_DO), id=f"{name}-optimised", marks=pytest.mark.slow)


@pytest.fixture(scope="module", params=params())
def lab(request):
    return Lab(*request.param)


def test_every_algorithm_has_a_run():
    assert {cfg.algo for cfg in RUNS.values()} == set(registry.ALGORITHMS)
    assert {RUNS[name].algo for name in FIRST} == set(registry.ALGORITHMS)


def test_every_optional_leaf_is_tried():
    tried = collections.defaultdict(set)
    for cfg in RUNS.values():
        tried[type(cfg)] |= set(leaves(cfg))
    for cls, names in tried.items():
        real = {f.name for f in dataclasses.fields(cls) if f.metadata["rule"].kind == "real"}
        assert names == real - REFUSED.get(cls.algo, set())


# Shapes and types


def test_act_keeps_the_carry_and_gives_valid_actions(lab):
    env, num_envs, space = lab.driver.env, lab.algo.num_envs, lab.space
    obs = jax.ShapeDtypeStruct((num_envs, *env.observation_space.shape), env.observation_space.dtype)
    for explore in (True, False):
        args = lab.single.algo, lab.carry(), obs, lab.keys[0]
        action, carry, extras = jax.eval_shape(lab.act(explore), *args)
        assert action.shape == (num_envs, *space.shape)
        assert action.dtype == (jnp.int32 if isinstance(space, spaces.Discrete) else jnp.float32)
        assert avals(carry) == avals(lab.carry())
        assert all(leaf.shape[0] == num_envs for leaf in jax.tree.leaves((carry, extras)))
    assert not any(leaf.any() for leaf in jax.tree.leaves(lab.carry())), "zeros mean fresh"


def test_observe_and_update_keep_the_states_types(lab):
    state, transition = jax.eval_shape(lab.algo.init, lab.keys[0]), lab.transition
    updated, metrics = jax.eval_shape(lab.algo.update, state, transition, lab.keys[0], jnp.int32(8))
    observed = jax.eval_shape(lab.algo.observe, state, transition)
    warm = jax.eval_shape(lab.algo.observe, state, transition._replace(extras=()))
    assert avals(updated) == avals(observed) == avals(warm) == avals(state)
    assert metrics and all(leaf.shape == () and leaf.dtype == jnp.float32 for leaf in metrics.values())
    assert not any(weak_type for _, _, weak_type in avals(state)[1])


def test_a_chunk_returns_what_it_takes(lab):
    """So that the second call does not compile again."""
    taken, given = lab.baseline.start, lab.baseline.states[0]
    assert avals(taken) == avals(given)
    assert not any(weak_type for _, _, weak_type in avals(given)[1])


def test_steps_are_counted_as_they_are_made(lab):
    schedule, trained = lab.schedule, lab.baseline
    assert schedule.total_steps >= lab.cfg.total_timesteps > schedule.total_steps - schedule.row_steps
    assert schedule.warmup_steps == lab.algo.warmup_steps
    assert schedule.warmup_steps % schedule.iteration_steps == 0
    running = plain(trained.start.env.episode_length).sum(-1)
    for state, tallies in zip(trained.states, trained.tallies, strict=True):
        length = tallies["episode/length"]
        finished = np.where(length.count, np.round(length.mean * length.count), 0)
        after = plain(state.env.episode_length).sum(-1)
        assert (running + schedule.row_steps == finished + after).all()
        running = after


# Random numbers


def test_the_same_keys_give_the_same_bits(lab):
    assert same_bits(lab.train(lab.keys), lab.baseline)


def test_members_with_different_keys_differ(lab):
    last = lab.baseline.states[-1]
    returns = np.stack([tallies["episode/return"].mean for tallies in lab.baseline.tallies], axis=1)
    lived = np.concatenate([returns, plain(last.env.obs).reshape(SEEDS, -1)], axis=1)
    first = jax.tree.leaves_with_path(lab.baseline.start.algo)  # training soon tells all members apart
    kernels = [plain(leaf) for path, leaf in first if "kernel" in jax.tree_util.keystr(path)]
    assert kernels
    for i, j in pairs():
        assert all((kernel[i] != kernel[j]).any() or not kernel.any() for kernel in kernels)
        assert (lived[i] != lived[j]).any()


def test_only_exploration_depends_on_the_key(lab):
    carry = lab.algo.init_carry(32)
    obs = jax.random.normal(jax.random.key(3), (32, *lab.driver.env.observation_space.shape))

    @jax.jit
    @jax.vmap
    def actions(state, key):
        return [lab.act(explore)(state, carry, obs, key)[0] for explore in (True, False)]

    untrained = lab.baseline.start.algo  # training may have made up its mind
    same_state = jax.tree.map(lambda leaf: jnp.asarray(plain(leaf)[[0] * SEEDS]), split_replay(untrained)[0])
    explored, greedy = map(plain, actions(same_state, lab.keys))
    assert (greedy == greedy[0]).all()
    trained, _ = map(plain, actions(split_replay(lab.baseline.states[-1].algo)[0], lab.keys))
    for i, j in pairs():
        assert (explored[i] != explored[j]).any() and (trained[i] != trained[j]).any()


def test_another_step_brings_other_noise(lab):
    (first, _), (second, _) = (lab.row(lab.baseline.start, row) for row in range(2))
    assert (plain(first.env.obs) != plain(second.env.obs)).any(axis=(1, 2)).all()


@pytest.mark.parametrize("name", ["start", "chunk", "evaluate"])
def test_no_key_is_used_twice(lab, name):
    """The programs of one member contain `init`, `act`, `observe` and `update`."""
    function, args = lab.plain[name]
    with jax.debug_key_reuse(True):
        jax.jit(function).lower(*args)


# Evaluation


def test_evaluation_depends_only_on_its_arguments(lab):
    state, hyper = lab.baseline.states[0], lab.hyper()
    before = lab.copy(state)
    first, again = (lab.evaluate(state, lab.step(1), hyper) for _ in range(2))
    later = lab.evaluate(state, lab.step(2), hyper)
    assert same_bits(state, before) and same_bits(first, again)
    assert np.isfinite(first["eval/return"].mean).all()
    if lab.cfg.env == "pendulum":
        assert (first["eval/return"].mean != later["eval/return"].mean).all()


# Members side by side


def test_a_saved_state_goes_on_exactly(lab):
    state = lab.baseline.states[0]
    saved = jax.tree.map(plain, state)
    restored = on_device(saved, state)
    for row in range(1, lab.schedule.rows):
        restored, tallies = lab.row(restored, row)
    assert same_bits((restored, tallies), (lab.baseline.states[-1], lab.baseline.tallies[-1]))


def test_neighbours_do_not_change_a_member(lab):
    base = lab.baseline
    for seeds in ((0, 7, 8, 9), (2, 0, 3, 1)):
        other = lab.train(seed_keys(*seeds))
        for i, seed in enumerate(seeds):
            if seed < SEEDS:
                assert same_bits(lane(other, i), lane(base, seed))


def test_a_neighbour_of_nans_does_not_change_a_member(lab):
    sick = 1
    start = lab.baseline.start
    rows = np.arange(SEEDS) == sick
    poison = lambda leaf: np.where(rows.reshape(-1, *[1] * (leaf.ndim - 1)), np.float32(np.nan), leaf)
    state = start._replace(algo=changed_floats(start.algo, poison))
    for row in range(lab.schedule.rows):
        state, tallies = lab.row(state, row)
    assert any(np.isnan(leaf).any() for leaf in jax.tree.leaves(lane(state.algo, sick)))
    first_chunk = int(lab.step(1))
    assert state.diverged_at.tolist() == [first_chunk if i == sick else -1 for i in range(SEEDS)]
    assert not any(tally.count[sick] for tally in tallies.values()), "its later rows are blank"
    for i in {*range(SEEDS)} - {sick}:
        well = lane((state, tallies), i)
        assert same_bits(well, lane((lab.baseline.states[-1], lab.baseline.tallies[-1]), i))


def test_a_member_that_diverges_is_frozen(lab):
    """With an infinite learning rate it falls back to the chunk's start, and stays there."""
    sick, known = 2, lab.baseline.states[0]
    rate = "learning_rate" if "learning_rate" in leaves(lab.cfg) else "value_learning_rate"
    rates = np.full(SEEDS, leaves(lab.cfg)[rate])
    rates[sick] = np.inf
    state, tallies = lab.row(known, 1, lab.hyper(**{rate: rates}))
    before, after = (split_replay(lane(s.algo, sick))[0] for s in (known, state))
    assert same_bits(after, before)
    assert state.diverged_at.tolist() == [int(lab.step(2)) if i == sick else -1 for i in range(SEEDS)]
    assert tallies["episode/return"].count[sick] > 0, "the row in which it happened is shown"
    later, _ = lab.row(state, 2)
    assert same_bits(split_replay(lane(later.algo, sick))[0], before)
    assert (later.diverged_at == state.diverged_at).all()


def test_a_member_that_diverges_stores_no_more(lab):
    """The rollout in which it broke down is its last; all that is stored is finite, actions included."""
    sick, known = 2, lab.baseline.states[0]
    if not hasattr(known.algo, "replay"):
        return
    rates = np.full(SEEDS, lab.cfg.learning_rate)
    rates[sick] = np.inf
    state, _ = lab.row(known, 1, lab.hyper(learning_rate=rates))
    later, _ = lab.row(state, 2)
    heads = [lane(s.algo.replay.head, sick) for s in (known, state, later)]
    assert (heads[1] - heads[0]) % CAPACITY == lab.schedule.iteration_steps and heads[2] == heads[1]
    for replay in (state.algo.replay, later.algo.replay):
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(lane(replay.rows, sick)))
    assert lane(state.algo.replay.head, 0) == lane(lab.baseline.states[1].algo.replay.head, 0)


# Hyperparameters


def test_every_leaf_has_an_effect(lab):
    """Each member has another value of one leaf, and the same key."""
    discrete = isinstance(lab.space, spaces.Discrete)
    useless, names = [], sorted(set(leaves(lab.cfg)) - (ONLY_CONTINUOUS if discrete else set()))
    assert "gamma" in names
    for three in (names[i : i + SEEDS - 1] for i in range(0, len(names), SEEDS - 1)):
        values = {name: np.full(SEEDS, leaves(lab.cfg)[name]) for name in three}
        for i, name in enumerate(three):
            values[name][i + 1] = 0.1 * values[name][0] or 0.5
        trained = lab.train(seed_keys(0, 0, 0, 0), lab.hyper(**values))
        members = [lane(trained.states[-1], i) for i in range(SEEDS)]
        useless += [name for i, name in enumerate(three) if same_bits(members[i + 1], members[0])]
        for i in range(len(three) + 1, SEEDS):
            assert same_bits(lane(trained, i), lane(trained, 0))
    assert useless == []


# Buffers and robustness


def test_the_state_can_be_donated(lab):
    state = lab.start(lab.keys, lab.hyper())
    once, _ = lab.chunk(state, lab.step(0), lab.hyper())
    kernel = jax.tree.leaves(once.algo)[0]
    twice, _ = lab.chunk(once, lab.step(1), lab.hyper())
    assert kernel.is_deleted()
    assert same_bits(twice, lab.baseline.states[1])


def test_a_fresh_state_names_no_array_twice(lab):
    variables = jax.make_jaxpr(lab.algo.init)(lab.keys[0]).jaxpr.outvars
    assert len(set(map(id, variables))) == len(variables)


def test_saturated_networks_give_finite_losses(lab):
    start = lab.baseline.start
    algo = changed_floats(start.algo, lambda leaf: leaf * np.float32(1e3), lambda path: "params" in path)
    state = start._replace(algo=algo)
    for row in range(lab.schedule.rows):
        state, tallies = lab.row(state, row)
        for name, tally in tallies.items():
            if not name.startswith("episode/"):
                assert (tally.count >= 1).all() and np.isfinite(tally.mean).all(), name
    for path, leaf in jax.tree.leaves_with_path(state.algo):
        assert np.isfinite(plain(leaf)).all(), jax.tree_util.keystr(path)


# The programs themselves


def conditionals(lab):
    """Return the branches of the chunk."""
    found = equations(lab.chunk.traced.jaxpr.jaxpr)
    return [equation for equation in found if equation.primitive.name == "cond"]


def test_no_branch_returns_the_replay_buffer(lab):
    """Neither rows nor priorities: they would be copied."""
    held = jax.tree.leaves(getattr(lab.baseline.start.algo, "replay", ()))
    large = {leaf.shape for leaf in held if leaf.size >= 16 * SEEDS}
    assert large or not held
    for equation in conditionals(lab):
        shapes = [variable.aval.shape for variable in equation.outvars]
        assert not any(CAPACITY in shape or shape in large for shape in shapes), equation


def test_the_delayed_update_stays_a_branch(lab):
    if not hasattr(lab.cfg, "policy_delay"):
        pytest.skip("has no delayed update")
    kernels = [e for e in conditionals(lab) if any(len(v.aval.shape) >= 3 for v in e.outvars)]
    assert len(kernels) == 1
    assert kernels[0].invars[0].aval.shape == ()


@pytest.mark.parametrize("name", ["start", "chunk", "evaluate"])
def test_no_program_calls_lapack_or_fft(lab, name):
    text = lab.programs[name].lowered.as_text()
    assert not re.findall(r"lapack_\w+|blas_\w+|stablehlo\.(?:fft|cholesky|triangular_solve)", text)
    assert not re.findall(r"custom_call @(?!Sharding)\w+", text)


MUTANTS = {
    "priorities are copied out of a branch": (
        "algos/off_policy.py",
        "            memory.update,\n",
        "            lambda *args: jax.lax.cond(\n"
        "                step < 9, memory.update, lambda *a: jax.tree.map(jnp.copy, a[0]), *args\n"
        "            ),\n",
        "test_no_branch_returns_the_replay_buffer[dqn-rainbow]",
    ),
    "every chunk has the same noise": (
        "train.py",
        "jax.random.fold_in(streams(root).train, step)",
        "streams(root).train",
        "test_another_step_brings_other_noise[ppo-cartpole]",
    ),
    "evaluations share their starts": (
        "train.py",
        "jax.random.fold_in(streams(root).evaluate, step)",
        "streams(root).evaluate",
        "test_evaluation_depends_only_on_its_arguments[sac-pendulum]",
    ),
    "warm-up is not counted": (
        "schedule.py",
        "wanted = max(cfg.total_timesteps - algo.warmup_steps, 1)",
        "wanted = cfg.total_timesteps",
        "test_steps_are_counted_as_they_are_made[sac-pendulum]",
    ),
    "an episode has one length": (
        "rollout.py",
        "vector.episode_length + 1",
        "1 + 0 * vector.episode_length",
        "test_steps_are_counted_as_they_are_made[ppo-cartpole]",
    ),
    "a diverged member learns on": (
        "health.py",
        "healthy = was_healthy & all_finite(learned)",
        "healthy = all_finite(learned)",
        "test_a_member_that_diverges_is_frozen[ppo-cartpole]",
    ),
    "a diverged member stores": (
        "health.py",
        "sound = (state.diverged_at < 0) & all_finite(vectors)",
        "sound = state.diverged_at < 0",
        "test_a_member_that_diverges_stores_no_more[sac-pendulum]",
    ),
    "a diverged member stores in the next piece": (
        "health.py",
        "sound = (state.diverged_at < 0) & all_finite(vectors)",
        "sound = all_finite(vectors)",
        "test_a_member_that_diverges_stores_no_more[sac-pendulum]",
    ),
    "actions of NaN are stored": (
        "rollout.py",
        "jnp.where(jnp.isfinite(action), action, jnp.zeros_like(action))",
        "action",
        "test_a_member_that_diverges_stores_no_more[sac-pendulum]",
    ),
    "a divergence is not seen": (
        "health.py",
        "healthy = was_healthy & all_finite(learned)",
        "healthy = was_healthy",
        "test_a_member_that_diverges_is_frozen[ppo-cartpole]",
    ),
    "the targets name the critics": (
        "algos/learning.py",
        "jax.tree.map(jnp.copy,",
        "jax.tree.map(lambda leaf: leaf,",
        "test_a_fresh_state_names_no_array_twice[sac-pendulum]",
    ),
    "ppo: all seeds start alike": (
        "algos/actor_critic.py",
        "jax.random.split(key, len(chosen))",
        "jax.random.split(jax.random.key(0), len(chosen))",
        "test_members_with_different_keys_differ[ppo-cartpole]",
    ),
    "sac: one key used twice": (
        "algos/sac.py",
        "key_critic, key_actor = jax.random.split(key)",
        "key_critic = key_actor = key",
        "test_no_key_is_used_twice[sac-pendulum-chunk]",
    ),
    "ppo: explores in evaluation": (
        "algos/ppo.py",
        "return distribution.mode(), carry, {}",
        "return distribution.sample_and_log_prob(seed=key)[0], carry, {}",
        "test_only_exploration_depends_on_the_key[ppo-cartpole]",
    ),
    "sac: a weakly typed parameter": (
        "algos/sac.py",
        'params["log_alpha"] = soft_policies.init_log_alpha(cfg)',
        'params["log_alpha"] = jnp.asarray(0.0)',
        "test_observe_and_update_keep_the_states_types[sac-pendulum]",
    ),
    "ppo: a leaf without effect": (
        "algos/ppo.py",
        "cfg.vf_coef * v_loss",
        "0.5 * v_loss",
        "test_every_leaf_has_an_effect[ppo-cartpole]",
    ),
    "train: step is batched": (
        "train.py",
        "now = step + i * schedule.iteration_steps\n",
        "now = step + i * schedule.iteration_steps + 0 * state.env.episode_length[0]\n",
        "test_the_delayed_update_stays_a_branch[td3-pendulum]",
    ),
    "metrics: a diverged seed has rows": (
        "metrics.py",
        "jnp.where(healthy, known, none)",
        "known",
        "test_a_neighbour_of_nans_does_not_change_a_member[ppo-cartpole]",
    ),
}
