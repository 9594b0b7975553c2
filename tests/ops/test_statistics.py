"""Running moments and tallies against NumPy in float64, however the data is split."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl.ops import statistics
from purerl.ops.statistics import COUNT_LIMIT, RunningMoments

update, merge = jax.jit(statistics.update), jax.jit(statistics.merge)


def moments(count, mean, variance):
    return RunningMoments(jnp.uint32(count), jnp.float32(mean), jnp.float32(variance))


def fold(parts):
    """Moments of `parts`, one after the other."""
    result = statistics.init(parts[0].shape[1:])
    for part in parts:
        result = update(result, part)
    return result


def assert_moments(got, data, rtol=1e-5):
    data = np.asarray(data, np.float64).reshape(-1, *got.mean.shape)
    assert got.count.dtype == jnp.uint32 and got.count == len(data)
    np.testing.assert_allclose(got.mean, data.mean(0), rtol=rtol, atol=1e-6)
    np.testing.assert_allclose(got.variance, data.var(0), rtol=rtol)


@pytest.mark.parametrize("cuts", [[], [1], [599], [100, 200, 300], [7, 8, 350], list(range(20, 600, 20))])
def test_any_split_equals_the_pooled_sample(cuts):
    """Averaging variances, or weighing batches alike, shows as soon as the parts are unequal."""
    rng = np.random.default_rng(0)
    data = rng.normal(size=(600, 3)) * [0.1, 1, 30] + [5, 0, -100] + np.linspace(0, 1, 600)[:, None]
    data = data.astype(np.float32)
    assert_moments(fold(np.split(data, cuts)), data)


def test_two_batches_by_hand():
    """1, 2, 3 and 10, 20: mean 7.2 and variance 50.96, where the mean of variances is 12.83."""
    got = fold([jnp.array([1.0, 2.0, 3.0]), jnp.array([10.0, 20.0])])
    np.testing.assert_allclose((got.mean, got.variance), (7.2, 50.96), rtol=1e-6)


def test_leading_axes_are_all_rows():
    """[T, N, O] counts T * N rows of shape [O]."""
    batch = np.random.default_rng(1).normal(size=(4, 5, 2, 3)).astype(np.float32)
    assert_moments(update(statistics.init((2, 3)), batch), batch)
    with pytest.raises(AssertionError):
        statistics.update(statistics.init((4,)), batch)


def test_merging_commutes_and_associates():
    """The order in which devices or chunks are merged does not matter."""
    rng = np.random.default_rng(2)
    parts = [np.float32(rng.normal(i, i + 1, (50 * i + 3, 2))) for i in range(3)]
    a, b, c = (fold([part]) for part in parts)
    for got in (merge(merge(a, b), c), merge(a, merge(b, c)), merge(c, merge(b, a))):
        assert_moments(got, np.concatenate(parts))


@pytest.mark.parametrize("empty_first", [True, False])
def test_merging_with_nothing_changes_nothing(empty_first):
    """Count 0 has no weight, and two empty ones make no 0 / 0."""
    nothing, some = moments(0, 0, 0), moments(3, 2.5, 0.75)
    pair = (nothing, some) if empty_first else (some, nothing)
    assert merge(*pair) == some
    assert merge(nothing, nothing) == nothing


def test_a_small_spread_around_1_survives_float32():
    """The difference of mean square and squared mean would be rounding noise here."""
    data = np.float32(1 + 1e-4 * np.random.default_rng(3).standard_normal((4000, 1)))
    got = fold(np.split(data, 40))
    np.testing.assert_allclose(np.sqrt(got.variance), 1e-4, rtol=0.03)


@pytest.mark.parametrize("count", [2**24, 2**30, COUNT_LIMIT - 1])
def test_the_count_goes_on_beyond_float32(count):
    """A float32 count sticks at 2**24, where adding 1 changes nothing; this one stops at its limit."""
    got = update(moments(count, 0, 1), jnp.ones(1))
    assert int(got.count) == count + 1


def test_data_still_counts_beyond_float32():
    """After 2**25 rows, as many again of another mean move it to the middle."""
    got = merge(moments(2**25, 0, 1), moments(2**25, 1, 1))
    assert got == moments(2**26, 0.5, 1.25)


@pytest.mark.parametrize("rows", [1, 1000])
def test_the_count_saturates(rows):
    """At its limit the count stays, and does not wrap to 0."""
    got = update(moments(COUNT_LIMIT, 1, 0), jnp.ones(rows))
    assert int(got.count) == COUNT_LIMIT
    np.testing.assert_allclose(got.mean, 1.0, rtol=1e-6)


@pytest.mark.parametrize("count", [COUNT_LIMIT - 1, COUNT_LIMIT])
def test_two_full_counts_merge(count):
    """Two long runs together are still one: the sum of counts must not wrap on the way."""
    got = merge(moments(count, 0, 0), moments(COUNT_LIMIT, 1, 0))
    assert int(got.count) == COUNT_LIMIT
    np.testing.assert_allclose((got.mean, got.variance), (0.5, 0.25), rtol=1e-6)


def test_normalize():
    """Centre, divide by the standard deviation (not the variance), clip; nothing before data."""
    x = jnp.array([[-3.0, 5.0], [4.0, 1e6]])
    empty = statistics.init((2,))
    np.testing.assert_array_equal(statistics.normalize(empty, x), x)
    known = RunningMoments(jnp.uint32(9), jnp.array([1.0, 5.0]), jnp.array([4.0, 0.25]))
    np.testing.assert_allclose(statistics.normalize(known, x), [[-2, 0], [1.5, 10]], rtol=1e-6)
    np.testing.assert_allclose(statistics.normalize(known, x, clip=1.0), [[-1, 0], [1, 1]])


def test_normalize_a_feature_that_never_varies():
    """Variance 0 gives 0 at the mean and the clip away from it, not infinity or NaN."""
    still = moments(100, 2.0, 0.0)
    got = statistics.normalize(still, jnp.array([2.0, 2.5, 0.0]))
    np.testing.assert_array_equal(got, [0.0, 10.0, -10.0])


def assert_tally(got, kept):
    kept = np.asarray(kept, np.float64)
    assert got.count == len(kept)
    expected = kept.mean(), kept.var(), kept.min(), kept.max()
    np.testing.assert_allclose(got[1:], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rate", [0.02, 0.5, 1.0])
def test_tally_of_the_marked_values(rate):
    """Only what is marked counts, also when the rest is NaN or huge."""
    rng = np.random.default_rng(4)
    values, where = np.float32(rng.normal(3, 2, (20, 10))), rng.random((20, 10)) < rate
    got = statistics.tally(jnp.where(where, values, jnp.nan), where)
    assert_tally(got, values[where])


def test_tallies_merge_like_one_stream():
    """Whole-run metrics are those of all episodes, not means of means."""
    rng = np.random.default_rng(5)
    values, where = np.float32(rng.normal(size=(3, 40))), rng.random((3, 40)) < 0.4
    where[1] = False  # an interval without an episode
    first, second, third = (statistics.tally(v, w) for v, w in zip(values, where, strict=True))
    for got in (
        statistics.merge_tallies(statistics.merge_tallies(first, second), third),
        statistics.merge_tallies(third, statistics.merge_tallies(second, first)),
    ):
        assert_tally(got, values[where])


def test_an_empty_tally_has_count_0_and_finite_moments():
    """No episode ended: the row says so by its count, and merging it poisons nothing."""
    got = statistics.tally(jnp.full(5, jnp.nan), jnp.zeros(5, bool))
    assert (got.count, got.mean, got.variance) == (0, 0, 0)
    both = statistics.merge_tallies(got, got)
    assert (both.count, both.mean, both.variance) == (0, 0, 0)


MUTANTS = {
    "moments: mean of variances": (
        "ops/statistics.py",
        " + weight * (1 - weight) * jnp.square(delta)",
        "",
        "test_two_batches_by_hand",
    ),
    "moments: batches weigh alike": (
        "ops/statistics.py",
        "b.count / jnp.maximum(total, 1)",
        "0.5",
        "test_two_batches_by_hand",
    ),
    "moments: difference of squares": (
        "ops/statistics.py",
        "batch.var(axes)",
        "jnp.square(batch).mean(axes) - jnp.square(batch.mean(axes))",
        "test_a_small_spread_around_1_survives_float32",
    ),
    "moments: float32 count": (
        "ops/statistics.py",
        "jnp.minimum(total, jnp.uint32(COUNT_LIMIT))",
        "jnp.minimum(jnp.float32(total), COUNT_LIMIT - 128).astype(jnp.uint32)",
        "test_the_count_goes_on_beyond_float32",
    ),
    "moments: the count is not held": (
        "ops/statistics.py",
        "jnp.minimum(total, jnp.uint32(COUNT_LIMIT))",
        "total",
        "test_the_count_saturates",
    ),
    "moments: nothing has a weight": (
        "ops/statistics.py",
        "total > 0, b.count",
        "total < 0, b.count",
        "test_merging_with_nothing_changes_nothing",
    ),
    "normalize: by the variance": (
        "ops/statistics.py",
        "jnp.sqrt(variance + eps)",
        "(variance + eps)",
        "test_normalize",
    ),
    "normalize: not centred": ("ops/statistics.py", "(x - mean)", "(x)", "test_normalize"),
    "normalize: not clipped": (
        "ops/statistics.py",
        "jnp.clip(scaled, -clip, clip)",
        "scaled",
        "test_normalize",
    ),
    "normalize: before any data": (
        "ops/statistics.py",
        "moments.count > 0, jnp.clip",
        "moments.count >= 0, jnp.clip",
        "test_normalize",
    ),
    "normalize: 0 / 0": (
        "ops/statistics.py",
        "jnp.sqrt(variance + eps)",
        "jnp.sqrt(variance)",
        "test_normalize_a_feature_that_never_varies",
    ),
    "tally: counts what is not marked": (
        "ops/statistics.py",
        "jnp.where(where, values, 0.0).sum()",
        "values.sum()",
        "test_tally_of_the_marked_values",
    ),
    "tally: lowest of all": (
        "ops/statistics.py",
        "jnp.where(where, values, LARGEST).min(",
        "jnp.where(where, values, 0.0).min(",
        "test_tally_of_the_marked_values",
    ),
    "tally: empty is 0 / 0": (
        "ops/statistics.py",
        "jnp.maximum(count, 1)",
        "count",
        "test_an_empty_tally_has_count_0_and_finite_moments",
    ),
    "tally: highest is lost in merging": (
        "ops/statistics.py",
        "jnp.maximum(a.high, b.high)",
        "a.high",
        "test_tallies_merge_like_one_stream",
    ),
}
