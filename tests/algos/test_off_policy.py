"""Helpers of the off-policy family: settings, gradient steps on replayed batches, priorities, the program."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import AS_USERS_DO
from replayed import HISTORY, SPEC, Case, arrays, halves
from tiny import CAPACITY, tiny

import purerl
from purerl import registry
from purerl.algos import off_policy
from purerl.algos.learning import Learner
from purerl.replay.buffer import make_buffer
from purerl.replay.ring import Batch
from purerl.types import MaskedMetrics

MUTANTS = {
    "one batch for all gradient steps": (
        "algos/off_policy.py",
        "jax.random.fold_in(key, count)",
        "jax.random.fold_in(key, 0)",
        "test_every_gradient_step_has_its_own_batch",
    ),
    "the first index is forgotten": (
        "algos/off_policy.py",
        "batch, key_step, first + count)",
        "batch, key_step, count)",
        "test_every_gradient_step_has_its_own_batch",
    ),
    "one key for batch and noise": (
        "algos/off_policy.py",
        "batch, key_step, first",
        "batch, key_sample, first",
        "test_every_gradient_step_has_its_own_batch",
    ),
    "metrics of the last step": (
        "algos/off_policy.py",
        "priority=priority), mean_of_known(metrics)",
        "priority=priority), jax.tree.map(lambda leaf: leaf[-1], metrics)",
        "test_every_gradient_step_has_its_own_batch",
    ),
    "priorities of the first step only": (
        "algos/off_policy.py",
        "current = replay._replace(priority=priority)",
        "current = replay",
        "test_priorities_reach_the_next_gradient_step",
    ),
    "priorities are lost": (
        "algos/off_policy.py",
        "return learner, replay._replace(priority=priority), mean",
        "return learner, replay, mean",
        "test_priorities_reach_the_next_gradient_step",
    ),
    "steps counted by environment": (
        "algos/off_policy.py",
        "step // rollout * num_updates",
        "step * num_updates",
        "test_gradient_steps_are_numbered_through",
    ),
    "a buffer larger than the run": (
        "algos/off_policy.py",
        "min(cfg.buffer_size, cfg.total_timesteps)",
        "cfg.buffer_size",
        "test_the_buffer_holds_whole_vector_steps",
    ),
    "a warm-up that is cut": (
        "algos/off_policy.py",
        "-(-cfg.learning_starts // rollout) * rollout",
        "cfg.learning_starts // rollout * rollout",
        "test_the_warm_up_is_whole_vector_steps",
    ),
    "a run that learns nothing": (
        "algos/off_policy.py",
        "cfg.learning_starts >= cfg.total_timesteps",
        "cfg.learning_starts > cfg.total_timesteps",
        "test_what_does_not_fit_together_is_refused",
    ),
    "a batch beyond the buffer": (
        "algos/off_policy.py",
        "cfg.batch_size > cfg.buffer_size",
        "False",
        "test_what_does_not_fit_together_is_refused",
    ),
    "actions in a square": (
        "algos/off_policy.py",
        " or len(space.shape) != 1",
        "",
        "test_what_does_not_fit_together_is_refused",
    ),
    "twins with one start": (
        "networks.py",
        "for key in jax.random.split(key, size))",
        "for _ in range(size))",
        "test_networks_start_apart_and_targets_as_copies",
    ),
    "write and sample in one fusion": (
        "replay/n_step.py",
        "jax.lax.cond(state.size > 0, gather, blank)",
        "gather()",
        "test_the_program_never_copies_the_buffer",
    ),
    "rows in the carry": (
        "algos/off_policy.py",
        "(learner, priority), metrics = jax.lax.scan(step, (learner, replay.priority), counts)",
        "keep = lambda out, rows: ((out[0], jax.lax.optimization_barrier(rows)), out[1])\n"
        "    carry = ((learner, replay.priority), replay.rows)\n"
        "    step_all = lambda loop, count: keep(step(loop[0], count), loop[1])\n"
        "    ((learner, priority), _), metrics = jax.lax.scan(step_all, carry, counts)",
        "test_rows_are_never_carried",
    ),
}
ALGORITHMS = ("ddpg", "sac", "td3")


BUFFER = make_buffer(tiny("ddpg", num_envs=3, batch_size=5), off_policy.row(SPEC), 12)


def filled(writes):
    """Return a buffer of 12 rows after some steps of 3 environments."""
    state = BUFFER.init()
    for step in HISTORY[:writes]:
        state = BUFFER.add(state, step)
    return state


def take_steps(gradient_step, learner, replay, key, first, num_updates):
    """Call `replay_updates` with a uniform buffer."""
    sample = lambda replay, key: BUFFER.sample(replay, key, jnp.int32(0))
    return off_policy.replay_updates(
        gradient_step, learner, replay, sample, BUFFER.update, key, first, num_updates
    )


def test_every_gradient_step_has_its_own_batch():
    """Batch, key and number of each, and the mean of the metrics that have a value."""
    replay, key, seen = filled(4), jax.random.key(3), []

    def look(learner, batch, key, index):
        jax.debug.callback(
            lambda *values: seen.append([*map(np.asarray, values)]), *batch[1:3], key_data(key), index
        )
        metrics = MaskedMetrics({"all": index * 1.0, "odd": index * 1.0}, {"odd": index % 2 == 1})
        return learner + batch.rows.reward.sum(), batch.rows.reward, metrics

    key_data = jax.random.key_data
    total, after, metrics = take_steps(look, jnp.float32(0), replay, key, 10, 4)
    jax.effects_barrier()
    expected = []
    for count in range(4):
        key_sample, key_step = jax.random.split(jax.random.fold_in(key, count))
        index = np.asarray(jax.random.bits(key_sample, (5,), jnp.uint32)) % 12
        expected.append([index, np.ones(5), key_data(key_step), 10 + count])
    for found, known in zip(sorted(seen, key=lambda values: values[-1]), expected, strict=True):
        for x, y in zip(found, known, strict=True):
            np.testing.assert_array_equal(x, y)
    drawn = np.concatenate([replay.rows.reward[index] for index, *_ in expected])
    np.testing.assert_allclose(total, drawn.sum(), 1e-5)
    assert metrics == {"all": 11.5, "odd": 12.0}
    assert after.priority == ()


def first_priorities(state, key):
    """Sample the rows of the highest priority, each with its priority as its weight."""
    index = jnp.argsort(-state.priority)[:4].astype(jnp.int32)
    rows = jax.tree.map(lambda rows: rows[index], state.rows)
    return Batch(rows, index, state.priority[index], jnp.ones(4))


def last_errors(state, index, error):
    """Keep the last errors as priorities."""
    return state._replace(priority=state.priority.at[index].set(error))


def test_priorities_reach_the_next_gradient_step():
    """Errors shrink row by row, so each gradient step sees the next rows, and the buffer keeps the errors."""
    priority = jnp.arange(12.0, 0, -1)

    def shrink(learner, batch, key, index):
        return learner.at[index].set(batch.index), -batch.weight, {}

    visited, after, _ = jax.jit(
        lambda replay: off_policy.replay_updates(
            shrink,
            jnp.zeros((3, 4), jnp.int32),
            replay,
            first_priorities,
            last_errors,
            jax.random.key(0),
            0,
            3,
        )
    )(filled(4)._replace(priority=priority))
    np.testing.assert_array_equal(visited, np.arange(12).reshape(3, 4))
    np.testing.assert_array_equal(after.priority, -priority)


def test_rows_are_never_carried():
    replay = filled(4)

    def step(learner, batch, key, index):
        return learner + batch.rows.reward.sum(), batch.rows.reward, {}

    run = lambda replay: take_steps(step, jnp.float32(0), replay, jax.random.key(0), 0, 2)
    (scan,) = (e for e in jax.make_jaxpr(run)(replay).eqns if e.primitive.name == "scan")
    assert any(12 in variable.aval.shape for variable in scan.invars), "the buffer was not found"
    assert not any(12 in variable.aval.shape for variable in scan.outvars)


def test_gradient_steps_are_numbered_through():
    """Over updates, whatever the number of environments, and the buffer's functions are those given."""
    cfg = tiny("sac", num_envs=3, updates_per_step=2, batch_size=4)

    def report(learner, batch, key, index):
        return learner, batch.rows.reward, {"index": index * 1.0}

    init = lambda key: Learner({"q": jnp.zeros(2)}, {}, {})
    buffer = make_buffer(cfg, off_policy.row(SPEC), 9)
    algo = off_policy.make_off_policy(
        cfg, SPEC, init_learner=init, act=lambda: None, gradient_step=report, buffer=buffer
    )
    state, found = algo.init(jax.random.key(0)), []
    for i, step in enumerate(HISTORY[:3]):
        state, metrics = algo.update(state, step, jax.random.key(i), jnp.int32(12 + 3 * i))
        found.append(float(metrics["index"]))
    assert found == [8.5, 10.5, 12.5]
    assert state.replay.size == 9


@pytest.mark.parametrize(
    ("buffer_size", "total_timesteps", "num_envs", "expected"),
    [(100, 1_000, 1, 100), (100, 1_000, 3, 102), (100, 40, 3, 42), (2, 40, 8, 8)],
)
def test_the_buffer_holds_whole_vector_steps(buffer_size, total_timesteps, num_envs, expected):
    cfg = tiny("td3", buffer_size=buffer_size, total_timesteps=total_timesteps, num_envs=num_envs)
    assert off_policy.capacity(cfg) == expected


@pytest.mark.parametrize("algo", ALGORITHMS)
@pytest.mark.parametrize(("learning_starts", "num_envs", "expected"), [(0, 2, 0), (7, 2, 8), (8, 2, 8)])
def test_the_warm_up_is_whole_vector_steps(algo, learning_starts, num_envs, expected):
    cfg = tiny(algo, learning_starts=learning_starts, num_envs=num_envs)
    assert purerl.make_algorithm(cfg).warmup_steps == expected


@pytest.mark.parametrize("algo", ALGORITHMS)
@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        ({"env": "cartpole"}, "env", "continuous actions, a flat Box with finite bounds, got Discrete(2)"),
        ({"learning_starts": 40}, "learning_starts", "a whole number below total_timesteps = 40"),
        ({"batch_size": 9, "buffer_size": 8}, "batch_size", "a whole number, at most buffer_size = 8"),
    ],
)
def test_what_does_not_fit_together_is_refused(algo, fields, field, message):
    if algo == "sac" and field == "env":
        return  # which takes discrete actions
    with pytest.raises(purerl.ConfigError, match=re.escape(message)) as error:
        purerl.make_algorithm(tiny(algo, **({"env": "pendulum"} | fields)))
    assert error.value.field == field
    square = SPEC._replace(action_space=type(SPEC.action_space)(-1, 1, (2, 2)))
    with pytest.raises(purerl.ConfigError, match="a flat Box"):
        registry.algorithm_module(tiny(algo)).validate(tiny(algo, "pendulum"), square)


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_networks_start_apart_and_targets_as_copies(algo):
    learner = Case(algo).fresh.learner
    if algo != "ddpg":
        first, second = halves(arrays(learner.params["q"]))
        assert all((x != y).any() for x, y in zip(first[::2], second[::2], strict=True))
    assert set(learner.target) == ({"q"} if algo == "sac" else {"pi", "q"})
    for name, target in learner.target.items():
        pairs = zip(jax.tree.leaves(target), jax.tree.leaves(learner.params[name]), strict=True)
        assert all((x == y).all() and x is not y for x, y in pairs)


@pytest.mark.parametrize("members", [None, 8])
def test_the_program_never_copies_the_buffer(members):
    """Of acting, storing and learning in a scan, with the optimisations that users get."""
    cfg = tiny("ddpg", num_envs=2)
    algo = registry.algorithm_module(cfg).make(cfg, SPEC)

    def loop(state, key):
        def step(state, key):
            key_obs, key_act, key_update = jax.random.split(key, 3)
            obs, flags = jax.random.normal(key_obs, (1, 2, 3)), jnp.zeros((1, 2), bool)
            action = algo.act(state, algo.init_carry(2), obs[0], key_act, jnp.int32(0), explore=True)[0]
            transition = HISTORY[0]._replace(
                obs=obs,
                action=action[None],
                reward=obs[..., 0],
                next_obs=-obs,
                terminated=flags,
                truncated=flags,
            )
            return algo.update(state, transition, key_update, jnp.int32(10))

        return jax.lax.scan(step, state, jax.random.split(key, 3))

    key, init = jax.random.key(0), algo.init
    if members:
        loop, init, key = jax.vmap(loop), jax.vmap(init), jax.random.split(key, members)
    state = jax.eval_shape(init, key)
    assert state.replay.priority == ()
    program = jax.jit(loop, donate_argnums=0, compiler_options=AS_USERS_DO).lower(state, key).compile()
    shape = rf"\w+\[(?:{members},)?{CAPACITY}[\d,]*\]"
    found = set(re.findall(rf"= {shape}\S* ([\w-]+)\(", program.as_text()))
    writes = {"scatter", "dynamic-update-slice"}
    assert found & writes, "the buffer was not found"
    assert found <= writes | {"parameter", "get-tuple-element", "fusion", "bitcast"}
