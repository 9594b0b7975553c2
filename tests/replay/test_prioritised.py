"""Draws by priority against their probabilities, the paper's formulas in float64, and a dict of rows."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from purerl.replay import prioritised, ring
from purerl.replay.buffer import make_buffer
from purerl.types import Transition

pytestmark = pytest.mark.usefixtures("strict_ranks")

ROW = Transition(jnp.zeros(2), jnp.zeros(1), jnp.float32(0), jnp.zeros(2), jnp.bool(0), jnp.bool(0))
add = jax.jit(prioritised.add)
draw = jax.jit(prioritised.draw, static_argnums=2)
update = jax.jit(prioritised.update)
set_priorities = jax.jit(prioritised.set_priorities)
child = jax.jit(prioritised._child)


def empty(capacity):
    return prioritised.init(ring.init(ROW, capacity))


def rollout(steps=1, envs=1):
    return jax.tree.map(lambda leaf: jnp.zeros((steps, envs, *leaf.shape), leaf.dtype), ROW)


def with_priorities(priority, size=None):
    """Return a buffer with these priorities `[capacity]`, to the power of alpha, and `size` rows."""
    state = empty(len(priority))
    levels = set_priorities(state.priority.levels, jnp.arange(len(priority)), jnp.float32(priority))
    priorities = prioritised.Priorities(levels, jnp.float32(priority.max()))
    size = jnp.int32(len(priority) if size is None else size)
    return state._replace(priority=priorities, size=size, head=size % len(priority))


def priorities_of(state):
    """Return the priority of every slot `[capacity]`; those beyond it must be 0."""
    own = np.asarray(state.priority.levels[0]).ravel()
    assert not own[len(state.rows.reward) :].any()
    return own[: len(state.rows.reward)]


def random_priorities(capacity, seed=0):
    """Return float32 numbers over three decades, a tenth of them 1e-6, and a tenth 0."""
    noise = np.random.default_rng(seed)
    priority = np.exp(noise.uniform(-3.5, 3.5, capacity))
    kind = noise.permutation(capacity) % 10
    return np.where(kind == 0, 0.0, np.where(kind == 1, 1e-6, priority)).astype(np.float32)


def assert_follows(counts, weight):
    """Chi-square of `counts` against numbers in proportion to `weight`, the small ones in one class."""
    expected = counts.sum() * np.float64(weight) / np.float64(weight).sum()
    assert not counts[weight == 0].any()
    rare = expected < 10
    assert counts[rare].sum() <= expected[rare].sum() + 5 * np.sqrt(expected[rare].sum()) + 1
    expected *= counts[~rare].sum() / expected[~rare].sum()
    assert (~rare).sum() == 1 or stats.chisquare(counts[~rare], expected[~rare]).pvalue > 1e-3


@pytest.mark.parametrize(
    "priority",
    [[1, 2, 4], [0, 1, 3], [1, 0, 0], [1e-6, 5, 1e-6], [0, 0, 1e-6]],
    ids=lambda priority: "-".join(map(str, priority)),
)
def test_three_rows_follow_their_priorities(priority):
    index, _ = draw(with_priorities(np.float32(priority)), jax.random.key(1), 10_000, 0.5)
    assert_follows(np.bincount(index, minlength=3), np.float32(priority))


@pytest.mark.parametrize("repeated", [False, True])
def test_a_thousand_rows_follow_their_priorities(repeated):
    """Each row by itself; also after updates that name rows several times."""
    priority = random_priorities(1_000)
    state = with_priorities(priority)
    if repeated:
        noise = np.random.default_rng(2)
        for _ in range(20):
            index = noise.integers(300, 420, 256)
            new = np.exp(noise.uniform(-3.5, 3.5, 256)).astype(np.float32)
            levels = set_priorities(state.priority.levels, jnp.int32(index), jnp.float32(new))
            state = state._replace(priority=state.priority._replace(levels=levels))
            priority[index] = 0
            np.maximum.at(priority, index, new)
        np.testing.assert_array_equal(priorities_of(state), priority)
    index, _ = draw(state, jax.random.key(3), 200_000, 0.5)
    assert_follows(np.bincount(index, minlength=1_000), priority)


def test_a_million_rows_follow_their_priorities():
    """By node of each level, by position within a block, and rows by themselves where they are large."""
    priority = random_priorities(1_000_000)
    large = np.random.default_rng(4).choice(1_000_000, 500, replace=False)
    priority[large] = 20_000
    index, _ = draw(with_priorities(priority), jax.random.key(5), 250_000, 0.5)
    counts = np.bincount(index, minlength=1_000_000)
    assert_follows(counts[large], priority[large])
    rest = np.where(np.isin(np.arange(1_000_000), large), 0, 1)
    for group in (np.arange(1_000_000) // 4096, np.arange(1_000_000) % 16, np.arange(1_000_000) // 16 % 256):
        for rows in (rest, 1 - rest):
            by_group = lambda leaf, group=group, rows=rows: np.bincount(group, leaf * rows)
            assert_follows(by_group(counts), by_group(np.float64(priority)))


EDGES = np.float32([0, 2**-23, 0.25, 0.5, 1 - 2**-23, 1 - 2**-24])
"""Uniform numbers: the first and the last that there are among them, and one beyond."""


def test_a_child_is_where_its_sum_begins():
    """Numbers whose sums have no rounding: child `i` is drawn from sum `i` on, and before the next."""
    block = np.random.default_rng(0).integers(0, 4, (64, prioritised.WIDTH)).astype(np.float32)
    block[:, 5] = 64 - np.delete(block, 5, axis=1).sum(-1)  # so that 1 / 64 is a step of 1
    block, uniform = np.repeat(block, 64, axis=0), np.tile(np.arange(64, dtype=np.float32) / 64, 64)
    found, number = child(uniform, block)
    sums = np.cumsum(block, -1)
    expected = [np.searchsorted(row, 64 * u, side="right") for row, u in zip(sums, uniform, strict=True)]
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(number, block[np.arange(len(block)), expected])


@pytest.mark.parametrize("scale", [1.0, 1e-45, 1e-30, 3e38])
def test_no_uniform_number_draws_a_zero(scale):
    """Also where sums are denormal, or beyond float32, and where zeros are first and last."""
    noise = np.random.default_rng(1)
    block = (noise.random((200, prioritised.WIDTH)) < 0.3) * noise.choice([1.0, 1e-6, 1.0], (200, 16)) * scale
    block = block.astype(np.float32)
    block[:3] = 0
    block[1, -1] = block[2, 0] = scale
    for edge in EDGES:
        found, number = map(np.asarray, child(np.full(200, edge), block))
        some = np.where(block >= np.finfo(np.float32).tiny, block, 0).any(
            -1
        )  # a processor may flush the others
        assert (number[some] > 0).all()
        assert ((found >= 0) & (found < prioritised.WIDTH)).all()
        assert (found[~block.any(-1)] == 0).all()


def test_a_sum_that_grows_by_rounding_draws_no_zero(monkeypatch):
    """Other processors may add up in another order, so that a sum is larger behind a child of 0."""
    block = np.zeros((1, prioritised.WIDTH), np.float32)
    block[0, [1, 3]] = 1.0  # sums 0, 1, 1, 2, 2, ...
    factor = np.where(np.arange(prioritised.WIDTH) == 2, 1 + 2**-23, 1).astype(np.float32)
    monkeypatch.setattr(jnp, "cumsum", lambda x, axis: jnp.asarray(np.cumsum(x, axis) * factor[:, None]))
    found, number = prioritised._child(jnp.float32([0.5]), jnp.asarray(block))
    assert (found.item(), number.item()) == (3, 1.0)


def test_slots_without_a_row_are_never_drawn():
    """Before the ring has closed, with one row and with some, in a capacity that fills no block."""
    state = empty(37)
    for written in range(1, 30):
        state = add(state, rollout())
        if written in (1, 2, 16, 17, 29):
            index, weight = draw(state, jax.random.key(written), 2_000, 0.5)
            assert set(index.tolist()) == set(range(written))
            assert (weight == np.ones(2_000)).all()


def test_an_empty_buffer_gives_its_first_slot():
    for capacity in (1, 40, 300):
        index, weight = draw(empty(capacity), jax.random.key(0), 5, 0.5)
        assert (index == np.zeros(5)).all() and (weight == np.ones(5)).all()


@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
def test_weights_are_the_papers(beta):
    """`(N P(i))^-beta` over the largest of the batch, in float64 (Schaul et al. 2016, section 3.4)."""
    priority = random_priorities(700)
    priority[600:] = 0
    state = with_priorities(priority, size=600)
    index, weight = draw(state, jax.random.key(0), 512, beta)
    chance = np.float64(priority) / np.float64(priority).sum()
    expected = (600 * chance[index]) ** -beta
    np.testing.assert_allclose(weight, expected / expected.max(), rtol=1e-5)
    assert index.dtype == jnp.int32 and weight.dtype == jnp.float32 and index.shape == weight.shape == (512,)


def test_weights_undo_the_draws():
    """With beta = 1 the weighted mean of anything is its mean over all rows."""
    priority = random_priorities(500)
    priority = np.where(priority < 1e-3, 1, priority)
    value = np.random.default_rng(0).normal(3, 1, 500)
    index, weight = draw(with_priorities(priority), jax.random.key(0), 200_000, 1.0)
    found = np.average(value[index], weights=np.float64(weight))
    assert found == pytest.approx(value.mean(), abs=0.02)


SETTINGS = SimpleNamespace(
    num_envs=1,
    batch_size=64,
    total_timesteps=1_000,
    gamma=0.9,
    frame_stack=0,
    n_step=1,
    prioritised=True,
    priority_alpha=0.7,
    priority_beta=0.4,
)


def test_beta_ends_at_one():
    """Linear from its first value, and 1 from the end of the run on."""
    steps = jnp.int32([0, 250, 500, 1_000, 1_700])
    beta = prioritised.annealed(0.4, steps, 1_000)
    np.testing.assert_allclose(beta, [0.4, 0.55, 0.7, 1.0, 1.0], rtol=1e-6)
    state, buffer = with_priorities(random_priorities(100)), make_buffer(SETTINGS, ROW, 100)
    for step, exponent in zip(steps, beta, strict=True):
        batch = jax.jit(buffer.sample)(state, jax.random.key(1), step)
        index, weight = draw(state, jax.random.key(1), 64, exponent)
        assert (batch.index == index).all()
        np.testing.assert_allclose(batch.weight, weight, rtol=1e-5)


@pytest.mark.parametrize(("steps", "envs"), [(1, 1), (1, 3), (2, 3), (4, 6)])
def test_new_rows_have_the_largest_priority_so_far(steps, envs):
    """1 before any update; then that of any update, whose row may be gone; also where the ring closes."""
    state, rows = empty(48), steps * envs
    expected = np.zeros(48)
    for write in range(3 * 48 // rows):
        state = add(state, rollout(steps, envs))
        slots = (write * rows + np.arange(rows)) % 48
        expected[slots] = 3.0**0.7 if write > 1 else 1.0
        if write == 1:
            state = update(state, jnp.int32(slots[:2]), jnp.float32([-3, 0.1])[:rows], 0.7)
            expected[slots[:2]] = np.array([3.0, 0.1])[:rows] ** 0.7
            largest = state
            state = update(state, jnp.int32(slots[:1]), jnp.float32([2.0]), 0.7)
            expected[slots[0]] = 2.0**0.7
            assert state.priority.largest == largest.priority.largest
        np.testing.assert_allclose(priorities_of(state), expected, rtol=1e-5)
    assert state.size == 48


def test_updates_are_those_of_a_dict():
    """`(|error| + 1e-6)^alpha`; of a row that is there several times the largest counts, in any order."""
    noise = np.random.default_rng(0)
    state, plain = empty(50), {}
    for _ in range(50):
        state = add(state, rollout())
    for _ in range(30):
        index, error = noise.integers(0, 50, 16), noise.normal(0, 2, 16).astype(np.float32)
        error[0] = 0
        order = noise.permutation(16)
        other = update(state, jnp.int32(index[order]), jnp.float32(error[order]), 0.6)
        state = update(state, jnp.int32(index), jnp.float32(error), 0.6)
        new = {}
        for i, e in zip(index.tolist(), error.tolist(), strict=True):
            new[i] = max(new.get(i, 0.0), (abs(e) + 1e-6) ** 0.6)
        plain |= new
        expected = [plain.get(i, 1.0) for i in range(50)]
        np.testing.assert_allclose(priorities_of(state), expected, rtol=1e-5)
        for a, b in zip(jax.tree.leaves(state.priority), jax.tree.leaves(other.priority), strict=True):
            np.testing.assert_array_equal(a, b)


def test_errors_that_are_not_finite_count_as_the_largest():
    state = update(with_priorities(np.ones(40, np.float32)), jnp.arange(2), jnp.float32([5.0, 0.5]), 0.6)
    bad = jnp.float32([np.nan, np.inf, -np.inf, 0.1, np.nan])
    state = update(state, jnp.int32([10, 11, 12, 13, 13]), bad, 0.6)
    found = priorities_of(state)
    np.testing.assert_allclose(found[[0, 10, 11, 12, 13]], 5.0**0.6, rtol=1e-5)
    np.testing.assert_allclose(found[1], 0.5**0.6, rtol=1e-5)
    assert state.priority.largest == found[0]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.priority))


def test_alpha_zero_draws_uniformly():
    """Whatever the errors, and with weights of 1."""
    state = empty(60)
    for _ in range(60):
        state = add(state, rollout())
    error = jnp.float32([np.nan, np.inf, 0.0, 1e-9, 1e9] * 12)
    state = update(state, jnp.arange(60), error, 0.0)
    index, weight = draw(state, jax.random.key(0), 60_000, 0.7)
    assert stats.chisquare(np.bincount(index, minlength=60)).pvalue > 1e-3
    assert (weight == np.ones(60_000)).all()


def test_the_key_decides_the_draws():
    state = with_priorities(random_priorities(300))
    first, again, other = (draw(state, jax.random.key(k), 20, 0.5)[0] for k in (0, 0, 1))
    assert (first == again).all() and (first != other).any()


def test_a_member_under_vmap_equals_itself_alone():
    """Where heads, sizes and priorities differ; members write, draw and update."""
    alone = []
    for seed in range(3):
        state = empty(300)
        for _ in range(40 + 110 * seed):
            state = add(state, rollout(envs=2))
        error = jnp.float32(np.random.default_rng(seed).normal(size=32))
        alone.append(update(state, jnp.arange(32) * (seed + 1), error, 0.6))
    stack = lambda trees: jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
    keys = jax.random.split(jax.random.key(0), 3)

    def step(state, key):
        state = prioritised.add(state, rollout(envs=2))
        index, weight = prioritised.draw(state, key, 64, 0.5)
        return prioritised.update(state, index, weight + index.astype(jnp.float32) / 50, 0.6), index, weight

    together = jax.jit(jax.vmap(step))(stack(alone), keys)
    single = jax.jit(step)
    for i in range(3):
        for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(single(alone[i], keys[i])), strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-5)


MUTANTS = {
    "rows without a priority are drawn": (
        "replay/prioritised.py",
        "jnp.where(children > 0, jnp.cumsum(children, axis=0), 0.0)",
        "jnp.cumsum(children, axis=0)",
        "test_a_sum_that_grows_by_rounding_draws_no_zero",
    ),
    "the sum of all begins a child": (
        "replay/prioritised.py",
        " | (sums == total[None])",
        "",
        "test_no_uniform_number_draws_a_zero",
    ),
    "the first child always": (
        "replay/prioritised.py",
        "inside = (sums > (uniform * total)[None])",
        "inside = (sums > 0.0)",
        "test_three_rows_follow_their_priorities[1-2-4]",
    ),
    "a child begins behind its sum": (
        "replay/prioritised.py",
        "inside = (sums > (uniform * total)[None])",
        "inside = (sums >= (uniform * total)[None])",
        "test_a_child_is_where_its_sum_begins",
    ),
    "one number for all levels": (
        "replay/prioritised.py",
        "_child(uniform_level, level[index])",
        "_child(uniform[0], level[index])",
        "test_a_thousand_rows_follow_their_priorities",
    ),
    "nodes in another order": (
        "replay/prioritised.py",
        "index = WIDTH * index + child",
        "index = index + WIDTH * child",
        "test_a_thousand_rows_follow_their_priorities",
    ),
    "weights without their exponent": (
        "replay/prioritised.py",
        "(priority / priority.min()) ** -beta",
        "(priority / priority.min()) ** -1.0",
        "test_weights_are_the_papers",
    ),
    "weights grow with the priority": (
        "replay/prioritised.py",
        "(priority / priority.min()) ** -beta",
        "(priority / priority.max()) ** beta",
        "test_weights_undo_the_draws",
    ),
    "weights over those of the rows": (
        "replay/prioritised.py",
        "(priority / priority.min()) ** -beta",
        "(priority / priority.mean()) ** -beta",
        "test_weights_are_the_papers",
    ),
    "the exponent of the weights stays": (
        "replay/prioritised.py",
        "return beta + (1.0 - beta) * done",
        "return beta + 0.0 * done",
        "test_beta_ends_at_one",
    ),
    "the exponent of the weights exceeds 1": (
        "replay/prioritised.py",
        "jnp.minimum(step.astype(jnp.float32) / total_timesteps, 1.0)",
        "step.astype(jnp.float32) / total_timesteps",
        "test_beta_ends_at_one",
    ),
    "a buffer without a schedule": (
        "replay/buffer.py",
        "beta = prioritised.annealed(first_beta, step, cfg.total_timesteps)",
        "beta = first_beta",
        "test_beta_ends_at_one",
    ),
    "new rows have priority 1": (
        "replay/prioritised.py",
        "jnp.full(n, priorities.largest)",
        "jnp.ones(n)",
        "test_new_rows_have_the_largest_priority_so_far",
    ),
    "the row behind has the priority": (
        "replay/prioritised.py",
        "index = state.head + jnp.arange(n, dtype=jnp.int32)",
        "index = state.head + 1 + jnp.arange(n, dtype=jnp.int32)",
        "test_new_rows_have_the_largest_priority_so_far",
    ),
    "the largest priority of the last update": (
        "replay/prioritised.py",
        "Priorities(levels, jnp.maximum(largest, priority.max()))",
        "Priorities(levels, priority.max())",
        "test_new_rows_have_the_largest_priority_so_far",
    ),
    "the last of several errors": (
        "replay/prioritised.py",
        ".set(0.0).at[block, child].max(priority)",
        ".set(priority)",
        "test_updates_are_those_of_a_dict",
    ),
    "priorities only grow": (
        "replay/prioritised.py",
        ".at[block, child].set(0.0).at[block, child].max(priority)",
        ".at[block, child].max(priority)",
        "test_updates_are_those_of_a_dict",
    ),
    "a row without an error is never drawn again": (
        "replay/prioritised.py",
        " + EPSILON) ** alpha",
        ") ** alpha",
        "test_updates_are_those_of_a_dict",
    ),
    "the sign of an error counts": (
        "replay/prioritised.py",
        "(jnp.abs(td_error.astype(jnp.float32)) + EPSILON)",
        "(jnp.maximum(td_error.astype(jnp.float32), 0.0) + EPSILON)",
        "test_updates_are_those_of_a_dict",
    ),
    "errors that are no numbers": (
        "replay/prioritised.py",
        "jnp.where(jnp.isfinite(priority), priority, largest)",
        "priority",
        "test_errors_that_are_not_finite_count_as_the_largest",
    ),
    "errors without alpha": (
        "replay/prioritised.py",
        "+ EPSILON) ** alpha",
        "+ EPSILON)",
        "test_alpha_zero_draws_uniformly",
    ),
    "members share their draws": (
        "replay/prioritised.py",
        "jax.random.uniform(key, (len(levels), batch_size), jnp.float32)",
        "jax.random.uniform(jax.random.key(0), (len(levels), batch_size), jnp.float32)",
        "test_the_key_decides_the_draws",
    ),
}
