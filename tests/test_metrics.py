"""Metrics that may lack a value: NaN for a reader, and never a NaN that a program returns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl import metrics
from purerl.ops import statistics
from purerl.types import MaskedMetrics


def some():
    return MaskedMetrics({"a": jnp.arange(3.0), "step": jnp.arange(3)}, {"a": jnp.array([True, False, True])})


def test_a_reader_finds_nan_where_there_is_no_value():
    """In NumPy, without an operation of JAX's that the switch would stop at."""
    with jax.debug_nans(True):
        known = some()
        assert dict(known).keys() == {"a", "step"} and len(known) == 2
        np.testing.assert_array_equal(known["a"], [0, np.nan, 2])
        assert isinstance(known["a"], np.ndarray) and known["a"].dtype == np.float32
        assert (
            known["step"].tolist() == [0, 1, 2]
            and repr(known) == "MaskedMetrics(2 metrics of shape [3]: a, step)"
        )
        with pytest.raises(KeyError):
            known["b"]


def test_a_program_returns_no_nan_for_it():
    """Through jit and vmap, and with a NaN in between for who reads inside."""
    with jax.debug_nans(True):
        out = jax.jit(jax.vmap(lambda row: row))(some())
        means = jax.jit(lambda rows: jnp.nanmean(rows["a"]))(some())
    np.testing.assert_array_equal(out["a"], [0, np.nan, 2])
    assert means == 1.0
    shape = jax.eval_shape(lambda row: row, out)["a"]
    assert (shape.shape, shape.dtype) == ((3,), np.float32)


def test_a_row_without_episodes():
    episodes = statistics.tally(jnp.full(4, jnp.inf), jnp.zeros(4, bool))
    tallies = {"episode/return": episodes, "episode/diverged": episodes, "v/loss": episodes}
    with jax.debug_nans(True), jax.debug_infs(True):
        row = jax.jit(metrics.summarise)(tallies, jnp.int32(-1))
        empty = jax.jit(metrics.summarise)(metrics.empty(tallies), jnp.int32(-1))
    for found in (row, empty):
        blank = {name for name, value in found.items() if np.isnan(value)}
        assert blank == {"v/loss", "episode/return"} | {
            f"episode/return_{part}" for part in ("std", "min", "max")
        }
        assert (found["episode/count"], found["episode/diverged"], found["seed/diverged"]) == (0, 0, 0)


def test_the_first_row_may_lack_metrics():
    first = MaskedMetrics({"step": jnp.int32(4)}, {})
    rows = metrics.prepend(first, some())
    np.testing.assert_array_equal(rows["a"], [np.nan, 0, np.nan, 2])
    assert rows["step"].tolist() == [4, 0, 1, 2]


def test_updates_are_tallied_where_they_have_a_value():
    plain = metrics.update_tallies({"a": jnp.array([1.0, jnp.nan, 3.0])})
    known = metrics.update_tallies(some())
    for tally, mean in ((plain["a"], 2.0), (known["a"], 1.0)):
        assert (tally.count, tally.mean) == (2, mean)


MUTANTS = {
    "a program returns NaN for no value": (
        "metrics.py",
        "return MaskedMetrics(row, known)",
        "return MaskedMetrics({n: jnp.where(known.get(n, True), v, jnp.nan) for n, v in row.items()}, known)",
        "test_a_row_without_episodes",
    ),
    "an empty tally is infinite": (
        "metrics.py",
        "low=zero.low + statistics.LARGEST",
        "low=zero.low + jnp.inf",
        "test_a_row_without_episodes",
    ),
    "an update without a value counts": (
        "metrics.py",
        "jnp.isfinite(value) & metrics.known.get(name, True)",
        "jnp.isfinite(value)",
        "test_updates_are_tallied_where_they_have_a_value",
    ),
}
