"""Sums of priorities: exact to the bit however often they change, never copied, and of one dtype."""

import itertools
import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import AS_USERS_DO

from purerl.replay import prioritised, ring
from purerl.replay.buffer import make_buffer
from purerl.types import Transition

pytestmark = pytest.mark.usefixtures("strict_ranks")

ROW = Transition(jnp.zeros(2), jnp.zeros(1), jnp.float32(0), jnp.zeros(2), jnp.bool(0), jnp.bool(0))
CAPACITIES = (1, 3, 15, 16, 17, 255, 256, 257, 1_000, 4_097)
SETTINGS = {
    "num_envs": 1,
    "batch_size": 8,
    "total_timesteps": 1_000,
    "gamma": 0.9,
    "frame_stack": 0,
    "n_step": 2,
    "prioritised": True,
    "priority_alpha": 0.7,
    "priority_beta": 0.4,
}


def filled(capacity):
    """Return a buffer whose rows have the priority 1."""
    state = prioritised.init(ring.init(ROW, capacity))
    new = jax.tree.map(lambda leaf: jnp.zeros((capacity, 1, *leaf.shape), leaf.dtype), ROW)
    return jax.jit(prioritised.add)(state, new)


def added_up(block):
    """Return the sums of the last axis in float32, half onto half."""
    while block.shape[-1] > 1:
        half = block.shape[-1] // 2
        block = block[..., :half] + block[..., half:]
    return block[..., 0]


def assert_sums_are_exact(levels, capacity):
    """Each number above the rows is that of its block, built again from below in NumPy, to the bit."""
    levels = [*map(np.asarray, levels)]
    assert len(levels[-1]) == 1 and levels[0].size >= capacity and not levels[0].ravel()[capacity:].any()
    for below, above in itertools.pairwise(levels):
        sums = np.zeros(above.size, np.float32)
        sums[: len(below)] = added_up(below)
        np.testing.assert_array_equal(above.ravel(), sums)
    total = np.float64(levels[0]).sum()
    assert levels[-1].sum(dtype=np.float64) == pytest.approx(total, rel=1e-6)


def updated(capacity, updates, batch):
    """Return the levels after updates of random rows, with errors over ten decades."""

    def step(state, key):
        key_index, key_error = jax.random.split(key)
        index = jax.random.randint(key_index, (batch,), 0, capacity, jnp.int32)
        error = 10 ** jax.random.uniform(key_error, (batch,), jnp.float32, -6, 4)
        return prioritised.update(state, index, error, 0.6), None

    run = jax.jit(lambda state, keys: jax.lax.scan(step, state, keys)[0], donate_argnums=0)
    return run(filled(capacity), jax.random.split(jax.random.key(capacity), updates)).priority.levels


@pytest.mark.parametrize("capacity", CAPACITIES)
def test_sums_are_exact(capacity):
    """In every shape of the tree: also where blocks are not full, and with rows that are named again."""
    levels = updated(capacity, 30, 64)
    assert_sums_are_exact(levels, capacity)


@pytest.mark.slow
def test_sums_are_exact_after_ten_million_updates():
    """Where a float32 that is corrected by differences is off by more than the smallest priorities."""
    assert_sums_are_exact(updated(1_000, 40_000, 256), 1_000)


@pytest.mark.parametrize("batch", [1, 2, 40])
def test_a_written_row_changes_its_own_sums(batch):
    """Rows of any number, at the head too, and no other node."""
    capacity, state = 300, filled(300)
    state = jax.jit(prioritised.update)(state, jnp.arange(batch), jnp.full(batch, 3.0), 1.0)
    new = jax.tree.map(lambda leaf: jnp.zeros((1, batch, *leaf.shape), leaf.dtype), ROW)
    for _ in range(3 if capacity % batch == 0 else 0):
        state = jax.jit(prioritised.add)(state, new)
        assert_sums_are_exact(state.priority.levels, capacity)
    plain = np.ones(capacity, np.float32)
    plain[:batch] = 3 + 1e-6
    if capacity % batch == 0:
        plain[: 3 * batch] = 3 + 1e-6
    np.testing.assert_allclose(np.asarray(state.priority.levels[0]).ravel()[:capacity], plain, rtol=1e-6)
    assert_sums_are_exact(state.priority.levels, capacity)


def looped(capacity, envs, updates):
    """Return a scan of writing, drawing and updating, and the state that it takes; errors ignore weights."""
    cfg = SimpleNamespace(**SETTINGS | {"num_envs": envs})
    buffer = make_buffer(cfg, ROW, capacity)

    def learn(state, carry, key):
        total, priority = carry
        state = state._replace(priority=priority)
        batch = buffer.sample(state, key, jnp.int32(0))
        total += (batch.weight * batch.rows.obs.sum(-1)).sum()
        return total, buffer.update(state, batch.index, batch.rows.reward + batch.discount).priority

    def step(carry, key):
        state, total = carry
        key_row, key_learn = jax.random.split(key)
        new = jax.tree.map(lambda leaf: jnp.zeros((1, envs, *leaf.shape), leaf.dtype), ROW)
        new = new._replace(obs=jax.random.normal(key_row, new.obs.shape), reward=jnp.ones_like(new.reward))
        state = buffer.add(state, new)
        rows = lambda carry, key: (learn(state, carry, key), None)
        keys = jax.random.split(key_learn, updates)
        (total, priority), _ = jax.lax.scan(rows, (total, state.priority), keys)
        return (state._replace(priority=priority), total), None

    def loop(state, key):
        return jax.lax.scan(step, (state, jnp.float32(0)), jax.random.split(key, 3))[0]

    return loop, buffer.init


@pytest.mark.parametrize("members", [None, 8])
@pytest.mark.parametrize(("envs", "updates"), [(1, 1), (1, 3), (4, 2)])
def test_the_program_never_copies_rows_or_priorities(members, envs, updates):
    """Of storing, drawing and updating in a scan, with the optimisations that users get."""
    capacity = 50_000
    loop, init = looped(capacity, envs, updates)
    key, make = jax.random.key(0), lambda key: init()
    if members:
        loop, make, key = jax.vmap(loop), jax.vmap(make), jax.random.split(key, members)
    state = jax.eval_shape(make, key)
    program = jax.jit(loop, donate_argnums=0, compiler_options=AS_USERS_DO).lower(state, key).compile()
    text = program.as_text()
    for entries in (capacity, -(-capacity // prioritised.WIDTH)):
        shape = rf"\w+\[(?:{members},)?{entries}[\d,]*\]"
        found = set(re.findall(rf"= {shape}\S* ([\w-]+)\(", text))
        assert found & {"scatter", "dynamic-update-slice"}, "the buffer was not found"
        assert not found & {"copy", "select", "broadcast", "add", "multiply"}, found


@pytest.mark.parametrize("fields", [{}, {"prioritised": False}, {"n_step": 1}])
@pytest.mark.parametrize("mode", ["strict promotion", "64 bits"])
def test_dtypes_are_the_same_everywhere(mode, fields):
    """Nothing is promoted silently; a 64-bit program has the same state and batches."""
    strict, wide = jax.numpy_dtype_promotion("strict"), jax.enable_x64(True)
    with strict if mode == "strict promotion" else wide:
        buffer = make_buffer(SimpleNamespace(**SETTINGS | fields), jax.eval_shape(lambda: ROW), 40)
        kinds = lambda tree: jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)
        state = buffer.init()
        known = kinds(state)
        new = jax.tree.map(lambda leaf: jnp.ones((1, 1, *leaf.shape), leaf.dtype), ROW)
        state = buffer.add(buffer.add(state, new), new)
        batch = buffer.sample(state, jax.random.key(0), jnp.int32(10))
        error = batch.rows.reward if mode == "strict promotion" else batch.rows.reward.astype(float)
        state = buffer.update(state, batch.index, error)
        assert kinds(state) == known
        assert kinds(batch.rows) == kinds(
            jax.tree.map(lambda leaf: jnp.zeros((8, *leaf.shape), leaf.dtype), ROW)
        )
        assert [leaf.dtype for leaf in batch[1:]] == [jnp.int32, jnp.float32, jnp.float32]


MUTANTS = {
    "sums change by differences": (
        "replay/prioritised.py",
        "done.append(level.at[block, child].set(sums))",
        "done.append(level.at[block, child].set(level[block, child] + (sums - level[block, child])))",
        "test_sums_are_exact",
    ),
    "sums are added to": (
        "replay/prioritised.py",
        "done.append(level.at[block, child].set(sums))",
        "done.append(level.at[block, child].add(sums))",
        "test_a_written_row_changes_its_own_sums",
    ),
    "sums of the level before its change": (
        "replay/prioritised.py",
        "sums = _sum(done[-1][block])",
        "sums = _sum(levels[len(done) - 1][block])",
        "test_a_written_row_changes_its_own_sums",
    ),
    "sums in the order of the day": (
        "replay/prioritised.py",
        "block[..., :half] + block[..., half:]",
        "block[..., ::2] + block[..., 1::2]",
        "test_sums_are_exact",
    ),
    "a row is written once": (
        "replay/prioritised.py",
        "    if len(index) == 1:\n",
        "    if False:\n",
        "test_the_program_never_copies_rows_or_priorities[1-1-None]",
    ),
    "the weight reads the priority once more": (
        "replay/prioritised.py",
        "jnp.maximum(priority, jnp.finfo(jnp.float32).tiny)",
        "jnp.maximum(levels[0].reshape(-1)[index], jnp.finfo(jnp.float32).tiny)",
        "test_the_program_never_copies_rows_or_priorities[4-2-None]",
    ),
    "errors of 64 bits": (
        "replay/prioritised.py",
        "td_error.astype(jnp.float32)",
        "td_error",
        "test_dtypes_are_the_same_everywhere[64 bits-fields0]",
    ),
}
