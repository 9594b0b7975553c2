"""Random orders, passes over a rollout, and rows that stay together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import workbench as wb
from workbench import KEY

from purerl import normalize
from purerl.algos import on_policy


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8, 9, 4096, 4097])
def test_a_permutation_has_every_number_once(rows):
    order = np.asarray(wb.permutations(KEY, 3, rows))
    assert order.dtype == np.int32
    assert (np.sort(order, -1) == np.arange(rows)).all()
    if rows > 8:
        assert len({one.tobytes() for one in order}) == 3
        assert all(len({*np.flatnonzero(one == np.arange(rows))}) < rows / 2 for one in order)


@pytest.mark.parametrize("rows, limit", [(2, 10.8), (5, 39.3)])
def test_every_number_is_everywhere_equally_often(rows, limit):
    """Chi-square with (rows - 1)^2 degrees of freedom; chance exceeds the limit one time in a thousand."""
    order = np.asarray(wb.permutations(KEY, 20_000, rows))
    found = np.array([[(order[:, place] == number).sum() for number in range(rows)] for place in range(rows)])
    expected = len(order) / rows
    assert (np.square(found - expected) / expected).sum() * (rows - 1) / rows < limit


def test_all_orders_of_four_are_equally_likely():
    order = np.asarray(wb.permutations(KEY, 24_000, 4))
    _, found = np.unique(order, axis=0, return_counts=True)
    assert len(found) == 24
    assert (np.square(found - 1000.0) / 1000.0).sum() < 49.8, "chi-square of 23, one in a thousand"


def test_flattening_takes_the_environments_of_a_step_first():
    ids = np.arange(6 * 5).reshape(6, 5)
    flat = on_policy.flatten_time({"scalar": jnp.asarray(ids), "row": jnp.asarray(np.stack([ids, ids], -1))})
    assert (flat["scalar"] == np.arange(30)).all() and flat["row"].shape == (30, 2)
    assert (flat["row"] == np.arange(30)[:, None]).all()


def test_an_epoch_takes_each_row_once():
    ids = jnp.arange(24.0).reshape(6, 4)  # t * N + n
    rollout = {"obs": jnp.stack([ids, ids], -1), "action": ids.astype(jnp.int32), "log_prob": ids}
    batch = on_policy.flatten_time(rollout) | {"advantage": jnp.arange(24.0)}

    def look(steps, minibatch):
        return steps + 1, minibatch

    @jax.jit
    def epochs(keys):
        one = lambda steps, key: on_policy.one_epoch(look, steps, batch, key, num_minibatches=4)
        return jax.lax.scan(one, jnp.int32(0), keys)

    steps, seen = epochs(jax.random.split(KEY, 3))
    assert steps == 12 and seen["action"].shape == (3, 4, 6)
    order = np.asarray(seen["action"]).reshape(3, 24)
    assert (np.sort(order, -1) == np.arange(24)).all(), "a row is missing, or comes twice"
    assert len({one.tobytes() for one in order}) == 3, "the same order again"
    for name in ("log_prob", "advantage"):
        assert (seen[name] == seen["action"]).all(), name
    assert (seen["obs"] == seen["action"][..., None]).all()


def test_rewards_are_scaled_and_never_centred():
    """A reward of 1 at every step stays positive, however well it is known."""
    bench = wb.Bench("vpg", "cartpole", normalize_reward=True)
    normalizer = normalize.init(bench.cfg, bench.spec)
    returns = normalizer.returns._replace(count=jnp.uint32(9), mean=jnp.float32(5), variance=jnp.float32(4))
    normalizer = normalizer._replace(returns=returns)
    scaled = normalize.normalize_reward(bench.cfg, normalizer, jnp.array([1.0, -3.0, 100.0, -100.0]))
    np.testing.assert_allclose(scaled, [0.5, -1.5, 10.0, -10.0], rtol=1e-6)


MUTANTS = {
    "permutation: numbers twice": (
        "algos/on_policy.py",
        "jnp.uint32) & ~numbers |",
        "jnp.uint32) & numbers |",
        "test_a_permutation_has_every_number_once",
    ),
    "permutation: in order": (
        "algos/on_policy.py",
        "jax.random.bits(key, (rows,), jnp.uint32) & ~numbers",
        "jnp.uint32(0)",
        "test_every_number_is_everywhere_equally_often",
    ),
    "permutation: two random bits": (
        "algos/on_policy.py",
        "jnp.uint32) & ~numbers |",
        "jnp.uint32) & ~numbers & jnp.uint32(3 << 30) |",
        "test_all_orders_of_four_are_equally_likely",
    ),
    "epoch: in the order of the rollout": (
        "algos/on_policy.py",
        "order = permutation(key, rows)",
        "order = jnp.arange(rows)",
        "test_an_epoch_takes_each_row_once",
    ),
    "epoch: rows drawn with replacement": (
        "algos/on_policy.py",
        "order = permutation(key, rows)",
        "order = jax.random.randint(key, (rows,), 0, rows)",
        "test_an_epoch_takes_each_row_once",
    ),
    "flatten: environments first": (
        "algos/on_policy.py",
        "leaf.reshape(-1, *leaf.shape[2:])",
        "jnp.swapaxes(leaf, 0, 1).reshape(-1, *leaf.shape[2:])",
        "test_flattening_takes_the_environments_of_a_step_first",
    ),
}
