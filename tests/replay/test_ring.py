"""The ring: what comes out is what went in, and each of the newest rows as often as any other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from purerl.replay import ring

pytestmark = pytest.mark.usefixtures("strict_ranks")

ROW = {"id": jnp.int32(0), "next": jnp.zeros(2)}
add, sample = jax.jit(ring.add), jax.jit(ring.sample, static_argnums=2)


def rows(start, n):
    """`n` rows that say which they are, and which comes next."""
    ids = start + jnp.arange(n)
    return {"id": ids, "next": jnp.stack([ids + 1.0, ids + 1.0], -1)}


def filled(total, capacity, n):
    """A ring after `total` rows, `n` at a time."""
    state = ring.init(ROW, capacity)
    for start in range(0, total, n):
        state = add(state, rows(start, n))
    return state


@pytest.mark.parametrize("n", [1, 3, 10])
def test_after_wraps_every_sample_is_a_whole_recent_row(n):
    """After 3.7 wraps no row is a blend of two across the seam, and none is one overwritten."""
    total = 111 if n < 10 else 110
    state = filled(total, 30, n)
    batch = sample(state, jax.random.key(0), 2000)
    np.testing.assert_array_equal(batch["next"], np.stack([batch["id"] + 1.0] * 2, -1))
    assert set(batch["id"].tolist()) == set(range(total - 30, total))


@pytest.mark.parametrize(
    ("total", "head", "size", "ids"),
    [
        (0, 0, 0, [0, 0, 0, 0]),
        (2, 2, 2, [0, 1, 0, 0]),
        (4, 0, 4, [0, 1, 2, 3]),
        (6, 2, 4, [4, 5, 2, 3]),
        (14, 2, 4, [12, 13, 10, 11]),
    ],
)
def test_slots_head_and_size(total, head, size, ids):
    """The newest rows overwrite the oldest, in order, and the size stops at the capacity."""
    state = filled(total, 4, 2)
    assert (state.head, state.size) == (head, size)
    assert state.data["id"].tolist() == ids


def test_a_ring_half_full_never_gives_an_empty_slot():
    """Zeros that nobody stored must not be learned from."""
    state = add(ring.init(ROW, 64), rows(100, 4))
    assert set(sample(state, jax.random.key(1), 500)["id"].tolist()) == {100, 101, 102, 103}


@pytest.mark.parametrize("total", [35, 90])
def test_sampling_is_uniform(total):
    """Neither the newest nor the oldest row is drawn more often (chi-square over 100,000 draws)."""
    state = filled(total, 50, 5)
    ids = np.asarray(sample(state, jax.random.key(2), 100_000)["id"])
    counts = np.bincount(ids)[max(0, total - 50) :]
    assert len(counts) == min(total, 50)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_keys_make_the_batch():
    """The same key gives the same batch, another key another."""
    state = filled(30, 30, 3)
    first, again, other = (sample(state, jax.random.key(k), 20)["id"] for k in (0, 0, 1))
    assert (first == again).all() and (first != other).any()


def test_a_full_ring_at_once():
    """As many rows as there are slots replace everything."""
    state = add(filled(8, 8, 4), rows(50, 8))
    assert state.data["id"].tolist() == list(range(50, 58))
    assert (state.head, state.size) == (0, 8)


@pytest.mark.parametrize(("capacity", "n"), [(10, 3), (4, 8)])
def test_a_write_that_would_wrap_is_refused(capacity, n):
    """`dynamic_update_slice` would shift it in silence."""
    with pytest.raises(AssertionError):
        ring.add(ring.init(ROW, capacity), rows(0, n))


def test_seeds_under_vmap_keep_their_own_rows():
    """Each seed reads what it wrote, also where the seeds stand at different places."""
    states = [filled(total, 30, 3) for total in (6, 30, 51)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    starts = jnp.array([1000, 2000, 3000])
    stacked = jax.jit(jax.vmap(ring.add))(stacked, jax.vmap(lambda s: rows(s, 3))(starts))
    keys = jax.random.split(jax.random.key(0), 3)
    batches = jax.jit(jax.vmap(lambda state, key: ring.sample(state, key, 64)))(stacked, keys)
    for seed, state in enumerate(states):
        alone = add(state, rows(starts[seed], 3))
        expected = sample(alone, keys[seed], 64)
        assert (batches["id"][seed] == expected["id"]).all()
        assert (stacked.data["next"][seed] == alone.data["next"]).all()


def test_dtypes_and_shapes_survive():
    """Pixels stay bytes, flags stay flags, and a row given by shape alone will do."""
    row = {
        "pixels": jax.ShapeDtypeStruct((4, 4), jnp.uint8),
        "flag": jax.ShapeDtypeStruct((), jnp.bool),
        "index": jax.ShapeDtypeStruct((), jnp.int32),
        "obs": jax.ShapeDtypeStruct((3,), jnp.float32),
    }
    new = jax.tree.map(lambda leaf: jnp.ones((2, *leaf.shape), leaf.dtype), row)
    batch = ring.sample(ring.add(ring.init(row, 6), new), jax.random.key(0), 5)
    for name, leaf in row.items():
        assert batch[name].dtype == leaf.dtype and batch[name].shape == (5, *leaf.shape)
        assert (batch[name] == 1).all()
