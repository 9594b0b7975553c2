"""Draws by priority: their frequencies, their weights, and sums that stay exact."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from purerl.replay import prioritised, ring
from purerl.types import Transition

pytestmark = pytest.mark.usefixtures("strict_ranks")
ROW = Transition(jnp.zeros(2), jnp.zeros(1), jnp.float32(0), jnp.zeros(2), jnp.bool(0), jnp.bool(0))
draw = jax.jit(prioritised.draw, static_argnums=2)
set_priorities = jax.jit(prioritised.set_priorities)


def rollout(steps, envs):
    number = np.arange(steps * envs, dtype=np.float32).reshape(steps, envs)
    obs, no = np.stack([number, number], -1), np.zeros((steps, envs), bool)
    return Transition(obs, obs[..., :1], number, obs, no, no)


def full(capacity, priorities):
    """Return a buffer in which every slot is in use, with these priorities to the power of alpha."""
    state = jax.eval_shape(lambda: prioritised.init(ring.init(ROW, capacity)))
    state = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), state)
    levels = set_priorities(
        state.priority.levels, jnp.arange(capacity, dtype=jnp.int32), jnp.asarray(priorities, jnp.float32)
    )
    priority = state.priority._replace(levels=levels)
    return state._replace(size=jnp.int32(capacity), priority=priority)


def rebuilt(leaves):
    """Return all levels from the first, block by block, half onto half in float32."""
    levels = [leaves]
    while len(levels[-1]) > 1:
        sums = levels[-1]
        while sums.shape[1] > 1:
            sums = sums[:, : sums.shape[1] // 2] + sums[:, sums.shape[1] // 2 :]
        blocks = -(-len(sums) // prioritised.WIDTH)
        level = np.zeros(blocks * prioritised.WIDTH, np.float32)
        level[: len(sums)] = sums[:, 0]
        levels.append(level.reshape(blocks, prioritised.WIDTH))
    return levels


def assert_exact(levels):
    """Raise AssertionError unless every sum is that of its children, to the bit."""
    for found, expected in zip(levels, rebuilt(np.asarray(levels[0])), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("capacity", [3, 1_000, 1_000_000])
def test_draws_follow_the_priorities(capacity):
    """Chi-square over 500,000 draws by groups of rows; a third have priority 0, a third a tiny one."""
    noise = np.random.default_rng(capacity)
    priorities = noise.uniform(0.1, 2.0, capacity).astype(np.float32)
    priorities[0::3], priorities[1::3] = 0.0, priorities[1::3] * (1.0 if capacity < 10 else 1e-6)
    state = full(capacity, priorities)
    keys = jax.random.split(jax.random.key(1), 8)
    index = np.concatenate([draw(state, key, 65_536, 0.4)[0] for key in keys])
    assert (priorities[index] > 0).all() and index.min() >= 0 and index.max() < capacity
    groups = np.minimum(np.arange(capacity) * 500 // capacity, 499)
    chances = np.bincount(groups, priorities.astype(np.float64))
    counts = np.bincount(groups[index], minlength=len(chances))
    used = chances > 0
    expected = chances[used] / chances.sum() * len(index)
    assert stats.chisquare(counts[used], expected).pvalue > 1e-3
    tiny = (priorities > 0) & (priorities < 1e-5)
    if capacity == 1_000:
        assert abs((tiny[index]).sum() - len(index) * priorities[tiny].sum() / priorities.sum()) < 12


@pytest.mark.parametrize("capacity", [1, 15, 16, 17, 300])
def test_slots_without_a_row_are_never_drawn(capacity):
    envs = 3 if capacity % 3 == 0 else 1
    state = prioritised.init(ring.init(ROW, capacity))
    assert (draw(state, jax.random.key(0), 8, 0.4)[0] == 0).all()
    state = prioritised.add(state, rollout(1, envs))
    index, weight = draw(state, jax.random.key(1), 500, 0.4)
    assert set(index.tolist()) == set(range(envs)) and (weight == 1).all()


def test_a_draw_at_either_end_has_a_priority():
    """Also if the uniform number is the largest below 1, and the last numbers are too small to be added."""
    block = jnp.array(
        [[0.0, 1e30, 1.0, 0.0] + [0.0] * 12, [0.0, 0.0, 1.0, 1.0] + [0.0] * 12, [0.0] * 16], jnp.float32
    )
    for uniform in (0.0, np.nextafter(np.float32(1), np.float32(0))):
        child, priority = prioritised._child(jnp.full(3, uniform, jnp.float32), block)
        assert (priority[:2] > 0).all() and child[2] == 0
        np.testing.assert_array_equal(priority, block[jnp.arange(3), child])


def test_weights_are_those_of_the_paper():
    priorities = np.random.default_rng(0).uniform(0.01, 3.0, 200).astype(np.float32)
    state = full(200, priorities)
    for beta in (0.0, 0.4, 1.0):
        index, weight = draw(state, jax.random.key(3), 64, beta)
        chance = priorities.astype(np.float64)[index] / priorities.astype(np.float64).sum()
        expected = (200 * chance) ** -beta
        np.testing.assert_allclose(weight, expected / expected.max(), 1e-5)


def test_with_beta_1_a_weighted_mean_is_the_uniform_one():
    priorities = np.random.default_rng(1).uniform(0.2, 3.0, 50).astype(np.float32)
    index, weight = draw(full(50, priorities), jax.random.key(4), 400_000, 1.0)
    values = np.arange(50.0)
    assert abs((values[index] * weight).sum() / weight.sum() - values.mean()) < 0.15


def test_the_exponent_of_the_weights_ends_at_1():
    found = [float(prioritised.annealed(0.4, jnp.int32(step), 1_000)) for step in (0, 250, 500, 1_000, 2_000)]
    np.testing.assert_allclose(found, [0.4, 0.55, 0.7, 1.0, 1.0], 1e-6)


def test_new_rows_have_the_largest_priority_so_far():
    state = prioritised.init(ring.init(ROW, 40))
    state = prioritised.add(state, rollout(2, 4))
    state = prioritised.update(state, jnp.array([1, 2]), jnp.array([-3.0, 0.5]), 0.5)
    state = prioritised.update(state, jnp.array([1]), jnp.array([0.1]), 0.5)
    state = prioritised.add(state, rollout(2, 4))
    found = np.asarray(state.priority.levels[0]).reshape(-1)
    np.testing.assert_allclose(found[[0, 1, 2]], [1.0, 0.1**0.5, 0.5**0.5], 1e-4)
    np.testing.assert_allclose(found[8:16], 3.0**0.5, 1e-6)
    assert (found[16:] == 0).all() and state.size == 16
    assert_exact(state.priority.levels)


def test_of_a_row_that_is_there_several_times_the_largest_counts():
    state = full(20, np.full(20, 5.0))
    state = prioritised.update(state, jnp.array([3, 7, 3, 3]), jnp.array([0.2, 1.0, 0.9, 0.1]), 1.0)
    found = np.asarray(state.priority.levels[0]).reshape(-1)
    np.testing.assert_allclose(found[[3, 7, 8]], [0.9, 1.0, 5.0], 1e-5)
    assert_exact(state.priority.levels)


def test_an_error_that_is_no_number_leaves_the_sums_finite():
    state = prioritised.init(ring.init(ROW, 20))
    state = prioritised.add(state, rollout(4, 5))
    errors = jnp.array([jnp.nan, jnp.inf, 2.0, -jnp.inf])
    state = prioritised.update(state, jnp.arange(4), errors, 1.0)
    found = np.asarray(state.priority.levels[0]).reshape(-1)
    np.testing.assert_allclose(found[:5], [1.0, 1.0, 2.0, 1.0, 1.0], 1e-5)
    assert_exact(state.priority.levels)


def test_alpha_0_is_uniform():
    state = prioritised.init(ring.init(ROW, 50))
    state = prioritised.add(state, rollout(10, 5))
    state = prioritised.update(state, jnp.arange(50), jnp.linspace(0.0, 9.0, 50), 0.0)
    index, weight = draw(state, jax.random.key(5), 100_000, 0.4)
    assert (weight == 1).all()
    assert stats.chisquare(np.bincount(index, minlength=50)).pvalue > 1e-3


def updated_often(capacity, batch, times):
    """Return the levels after `times` updates of `batch` random rows of a full buffer."""

    def step(levels, key):
        key_index, key_priority = jax.random.split(key)
        index = jax.random.randint(key_index, (batch,), 0, capacity, jnp.int32)
        priority = jnp.exp(8.0 * jax.random.normal(key_priority, (batch,)))
        return prioritised.set_priorities(levels, index, priority), None

    keys = jax.random.split(jax.random.key(6), times)
    return jax.jit(lambda levels: jax.lax.scan(step, levels, keys)[0])(
        full(capacity, np.ones(capacity)).priority.levels
    )


@pytest.mark.parametrize(
    ("capacity", "times"), [(1_000, 400), pytest.param(5_000, 40_000, marks=pytest.mark.slow)]
)
def test_sums_stay_exact(capacity, times):
    """The second are 10 million priorities, over 14 orders of magnitude."""
    levels = updated_often(capacity, 256, times)
    assert_exact(levels)
    np.testing.assert_allclose(
        np.asarray(levels[-1], np.float64).sum(), np.asarray(levels[0], np.float64).sum(), 1e-6
    )


def test_members_under_vmap_are_as_alone():
    priorities = np.random.default_rng(2).uniform(0.1, 2.0, (3, 90)).astype(np.float32)
    states = [full(90, row) for row in priorities]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    keys = jax.random.split(jax.random.key(7), 3)

    def one(state, key):
        index, weight = prioritised.draw(state, key, 32, 0.4)
        state = prioritised.update(prioritised.add(state, rollout(1, 3)), index, weight, 0.6)
        return index, weight, state.priority

    together = jax.jit(jax.vmap(one))(stacked, keys)
    alone = jax.jit(one)
    for i, state in enumerate(states):
        index, weight, priority = alone(state, keys[i])
        np.testing.assert_array_equal(together[0][i], index)
        np.testing.assert_allclose(together[1][i], weight, 1e-6)
        for a, b in zip(together[2].levels, priority.levels, strict=True):
            np.testing.assert_allclose(a[i], b, 1e-6)


MUTANTS = {
    "the first child always": (
        "replay/prioritised.py",
        "inside = (sums > (uniform * total)[None])",
        "inside = (sums > 0.0)",
        "test_draws_follow_the_priorities[1000]",
    ),
    "weights without their exponent": (
        "replay/prioritised.py",
        "(priority / priority.min()) ** -beta",
        "(priority / priority.min()) ** -1.0",
        "test_weights_are_those_of_the_paper",
    ),
    "the smallest of several errors": (
        "replay/prioritised.py",
        ".set(0.0).at[block, child].max(priority)",
        ".set(9.0).at[block, child].min(priority)",
        "test_of_a_row_that_is_there_several_times_the_largest_counts",
    ),
    "sums change by differences": (
        "replay/prioritised.py",
        "done.append(level.at[block, child].set(sums))",
        "done.append(level.at[block, child].set(level[block, child] + (sums - level[block, child])))",
        "test_sums_stay_exact[1000-400]",
    ),
    "the exponent of the weights stays": (
        "replay/prioritised.py",
        "return beta + (1.0 - beta) * done",
        "return beta + 0.0 * done",
        "test_the_exponent_of_the_weights_ends_at_1",
    ),
    "new rows have priority 1": (
        "replay/prioritised.py",
        "jnp.full(n, priorities.largest)",
        "jnp.ones(n)",
        "test_new_rows_have_the_largest_priority_so_far",
    ),
    "errors without alpha": (
        "replay/prioritised.py",
        "(jnp.abs(td_error) + EPSILON) ** alpha",
        "(jnp.abs(td_error) + EPSILON)",
        "test_alpha_0_is_uniform",
    ),
    "errors that are no numbers": (
        "replay/prioritised.py",
        "jnp.where(jnp.isfinite(priority), priority, largest)",
        "priority",
        "test_an_error_that_is_no_number_leaves_the_sums_finite",
    ),
}
