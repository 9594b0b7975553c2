"""The replay buffer against a ring of NumPy rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from purerl.replay import n_step, ring, uniform
from purerl.types import Transition

pytestmark = pytest.mark.usefixtures("strict_ranks")

MUTANTS = {
    "a write goes one slot too far": (
        "replay/ring.py",
        "new, state.head, 0)",
        "new, state.head + 1, 0)",
        "test_rows_are_those_of_a_plain_ring",
    ),
    "the head wraps early": (
        "replay/ring.py",
        "(state.head + n) % capacity",
        "(state.head + n) % (capacity - n)",
        "test_rows_are_those_of_a_plain_ring",
    ),
    "the size exceeds the capacity": (
        "replay/ring.py",
        "jnp.minimum(state.size + n, capacity)",
        "state.size + n",
        "test_rows_are_those_of_a_plain_ring",
    ),
    "environments before steps": (
        "replay/ring.py",
        "new = new.reshape(n, *new.shape[2:])",
        "new = new.swapaxes(0, 1).reshape(n, *new.shape[2:])",
        "test_the_next_step_is_n_rows_later",
    ),
    "rows are not those of the index": (
        "replay/n_step.py",
        "state.rows.action[index]",
        "state.rows.action[index - 1]",
        "test_rows_are_those_of_a_plain_ring",
    ),
    "empty slots are drawn": (
        "replay/uniform.py",
        "jnp.maximum(state.size, 1)",
        "jnp.int32(len(state.rows.reward))",
        "test_empty_slots_are_never_drawn",
    ),
    "one slot is never drawn": (
        "replay/uniform.py",
        "jnp.maximum(state.size, 1)",
        "jnp.maximum(state.size - 1, 1)",
        "test_sampling_is_uniform",
    ),
    "old rows are drawn more often": (
        "replay/uniform.py",
        "% size).astype(jnp.int32)",
        "% size).astype(jnp.int32)\n    number = number * number // state.size",
        "test_sampling_is_uniform",
    ),
    "a write may wrap": (
        "replay/ring.py",
        "chex.assert_is_divisible(capacity, n)",
        "pass",
        "test_a_write_that_would_wrap_is_refused",
    ),
    "everything is float32": (
        "replay/ring.py",
        "(capacity, *leaf.shape), leaf.dtype)",
        "(capacity, *leaf.shape))",
        "test_dtypes_and_shapes_are_kept",
    ),
}


def drawn(state, key, batch_size):
    """Return a batch of single steps, drawn uniformly."""
    index, weight = uniform.draw(state, key, batch_size)
    return ring.Batch(*read_one(state, index, weight))


def read_one(state, index, weight):
    rows, discount = n_step.read(state, index, 1, 1, 0.5)
    return rows, index, weight, discount


add, sample = jax.jit(ring.add), jax.jit(drawn, static_argnums=2)
ROW = Transition(jnp.zeros(2), jnp.zeros(1), jnp.float32(0), jnp.zeros(2), jnp.bool(0), jnp.bool(0))


def rollout(start, steps, envs):
    """Return a Transition `[T, N]` whose step `t` of environment `n` is numbered `start + t`, `n`."""
    time, env = np.mgrid[start : start + steps, 0:envs].astype(np.float32)
    obs, next_obs = np.stack([time, env], -1), np.stack([time + 1, env], -1)
    ends = (time + env) % 5 == 3, (time + env) % 7 == 2
    return Transition(obs, -obs[..., :1], 10 * time + env, next_obs, *ends, {"log_prob": time})


def filled(capacity, writes, steps=1, envs=1):
    """Return a buffer after some rollouts, and its slots in a plain ring: None where nothing was written."""
    state, slots, head = ring.init(ROW, capacity), [None] * capacity, 0
    for write in range(writes):
        new = rollout(write * steps, steps, envs)
        state = add(state, new)
        for t in range(steps):
            for n in range(envs):
                slots[head] = jax.tree.map(lambda leaf, at=(t, n): leaf[at], new._replace(extras=()))
                head = (head + 1) % capacity
    assert state.head == head
    return state, slots


@pytest.mark.parametrize(
    ("capacity", "writes", "steps", "envs"),
    [(12, 5, 1, 1), (12, 12, 1, 1), (12, 3, 1, 3), (12, 7, 1, 3), (12, 5, 2, 3), (12, 3, 4, 3)],
)
def test_rows_are_those_of_a_plain_ring(capacity, writes, steps, envs):
    """Every leaf of every slot, and of every sample, flags included."""
    state, slots = filled(capacity, writes, steps, envs)
    known = [slot for slot in slots if slot is not None]
    assert state.size == len(known)
    batch = sample(state, jax.random.key(0), 400)
    assert set(batch.index.tolist()) == set(range(len(known)))
    assert batch.index.dtype == jnp.int32 and batch.index.shape == (400,)
    assert batch.weight.dtype == jnp.float32 and (batch.weight == np.ones(400)).all()
    assert batch.rows.extras == ()
    for name in Transition._fields[:-1]:
        plain = np.stack([getattr(slot, name) for slot in known])
        np.testing.assert_array_equal(getattr(state.rows, name)[: len(known)], plain)
        np.testing.assert_array_equal(getattr(batch.rows, name), plain[batch.index])


@pytest.mark.parametrize(("steps", "envs", "writes"), [(1, 1, 29), (1, 3, 11), (2, 3, 7)])
def test_the_next_step_is_n_rows_later(steps, envs, writes):
    """So that n-step returns can follow an environment, and stop at both kinds of ends."""
    state, _ = filled(24, writes, steps, envs)
    rows, newest = jax.tree.map(np.asarray, state.rows), (int(state.head) - np.arange(1, envs + 1)) % 24
    others = np.setdiff1d(np.arange(int(state.size)), newest)
    after = (others + envs) % 24
    np.testing.assert_array_equal(rows.obs[after], rows.next_obs[others])
    time, env = rows.obs[:, 0], rows.obs[:, 1]
    np.testing.assert_array_equal(rows.terminated, (time + env) % 5 == 3)
    np.testing.assert_array_equal(rows.truncated, (time + env) % 7 == 2)


def test_empty_slots_are_never_drawn():
    state, _ = filled(64, writes=4)
    assert set(sample(state, jax.random.key(1), 500).index.tolist()) == {0, 1, 2, 3}


def test_an_empty_buffer_gives_zeros():
    batch = sample(ring.init(ROW, 8), jax.random.key(1), 5)
    assert not any(leaf.any() for leaf in jax.tree.leaves((batch.rows, batch.index)))


@pytest.mark.parametrize("writes", [7, 18])
def test_sampling_is_uniform(writes):
    """Chi-square over 100,000 draws of 35 of 50 rows, and of all 50 after the ring has closed."""
    state, slots = filled(50, writes, envs=5)
    index = sample(state, jax.random.key(2), 100_000).index
    counts = np.bincount(index, minlength=sum(slot is not None for slot in slots))
    assert stats.chisquare(counts).pvalue > 1e-3


def test_the_key_decides_the_batch():
    state, _ = filled(30, 10, envs=3)
    first, again, other = (sample(state, jax.random.key(k), 20).index for k in (0, 0, 1))
    assert (first == again).all() and (first != other).any()


@pytest.mark.parametrize(("capacity", "steps", "envs"), [(10, 1, 3), (9, 2, 3), (4, 1, 8)])
def test_a_write_that_would_wrap_is_refused(capacity, steps, envs):
    """`dynamic_update_slice` would shift it silently."""
    with pytest.raises(AssertionError):
        ring.add(ring.init(ROW, capacity), rollout(0, steps, envs))


def test_uniform_sampling_ignores_td_errors():
    state, _ = filled(8, 4)
    assert uniform.update(state, jnp.arange(3), jnp.ones(3)) is state
    assert state.priority == ()


def test_members_under_vmap_keep_their_own_rows():
    """Also where the members' heads and sizes differ."""
    states = [filled(30, writes, envs=3)[0] for writes in (2, 10, 17)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    new = [rollout(start, 1, 3) for start in (100, 200, 300)]
    stacked = jax.jit(jax.vmap(ring.add))(stacked, jax.tree.map(lambda *leaves: jnp.stack(leaves), *new))
    keys = jax.random.split(jax.random.key(0), 3)
    batches = jax.jit(jax.vmap(lambda state, key: drawn(state, key, 64)))(stacked, keys)
    for member, state in enumerate(states):
        alone = add(state, new[member])
        expected = sample(alone, keys[member], 64)
        assert (batches.index[member] == expected.index).all()
        np.testing.assert_array_equal(batches.rows.obs[member], expected.rows.obs)
        np.testing.assert_array_equal(stacked.rows.reward[member], alone.rows.reward)


def test_dtypes_and_shapes_are_kept():
    """Pixels stay bytes, and a row may be given by shapes alone."""
    pixels, flag = jax.ShapeDtypeStruct((4, 4), jnp.uint8), jax.ShapeDtypeStruct((), jnp.bool)
    scalar = jax.ShapeDtypeStruct((), jnp.float32)
    row = Transition(pixels, jax.ShapeDtypeStruct((), jnp.int32), scalar, pixels, flag, flag)
    new = jax.tree.map(lambda leaf: jnp.ones((2, 1, *leaf.shape), leaf.dtype), row)
    batch = drawn(ring.add(ring.init(row, 6), new), jax.random.key(0), 5)
    for leaf, like in zip(jax.tree.leaves(batch.rows), jax.tree.leaves(row), strict=True):
        assert leaf.dtype == like.dtype and leaf.shape == (5, *like.shape)
        assert (leaf == 1).all()
