"""Running moments for normalisers and tallies for metrics, mergeable in any order."""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax.numpy as jnp

from purerl.ops.arrays import to_rank
from purerl.types import Array

COUNT_LIMIT = 2**31 - 1
"""Largest count, so that the sum of two fits into uint32; beyond it the oldest data slowly fades."""


LARGEST = float(jnp.finfo(jnp.float32).max)
"""Lowest number so far of no numbers at all, and minus the highest: finite, for `jax_debug_infs`."""


class RunningMoments(NamedTuple):
    """Running mean and population variance, per element.

    The count is an integer because float32 cannot count past 2**24; the variance is a mean, not a sum, so
    that it stays within float32.
    """

    count: Array
    """Scalar uint32."""
    mean: Array
    variance: Array


def init(shape: tuple[int, ...]) -> RunningMoments:
    """Return empty moments, with count 0."""
    return RunningMoments(jnp.uint32(0), *jnp.zeros((2, *shape), jnp.float32))


def of_batch(batch: Array, event_ndim: int) -> RunningMoments:
    """Return the moments of `batch` over all but its last `event_ndim` axes."""
    axes = tuple(range(batch.ndim - event_ndim))
    rows = 1
    for axis in axes:
        rows *= batch.shape[axis]
    return RunningMoments(jnp.uint32(rows), batch.mean(axes), batch.var(axes))


def merge(a: RunningMoments, b: RunningMoments) -> RunningMoments:
    """Return the moments of the union of both samples (Chan, Golub & LeVeque 1979); shapes broadcast."""
    total = a.count + b.count
    weight = jnp.where(total > 0, b.count / jnp.maximum(total, 1), 0.0)
    delta = b.mean - a.mean
    return RunningMoments(
        jnp.minimum(total, jnp.uint32(COUNT_LIMIT)),
        a.mean + weight * delta,
        a.variance + weight * (b.variance - a.variance) + weight * (1 - weight) * jnp.square(delta),
    )


def update(moments: RunningMoments, batch: Array) -> RunningMoments:
    """Return `moments` with the rows of `batch [..., *shape]` added."""
    chex.assert_equal(batch.shape[batch.ndim - moments.mean.ndim :], moments.mean.shape)
    return merge(moments, of_batch(batch, moments.mean.ndim))


def normalize(moments: RunningMoments, x: Array, clip: float = 10.0, eps: float = 1e-8) -> Array:
    """Return `x [..., *shape]` standardised and clipped to `[-clip, clip]`; unchanged if the count is 0."""
    mean, variance = (to_rank(moment, x.ndim) for moment in moments[1:])
    scaled = (x - mean) / jnp.sqrt(variance + eps)
    return jnp.where(moments.count > 0, jnp.clip(scaled, -clip, clip), x)


class Tally(NamedTuple):
    """Count, moments and extremes of a stream of scalars; all but the count are unspecified if it is 0."""

    count: Array
    mean: Array
    variance: Array
    low: Array
    high: Array


def tally(values: Array, where: Array) -> Tally:
    """Return the tally of the `values` with `where` true; both `[...]`, to scalars."""
    chex.assert_equal_shape([values, where])
    count = where.sum(dtype=jnp.int32)
    kept = jnp.maximum(count, 1).astype(jnp.float32)
    mean = jnp.where(where, values, 0.0).sum() / kept
    variance = jnp.where(where, jnp.square(values - mean), 0.0).sum() / kept
    low = jnp.where(where, values, LARGEST).min(initial=LARGEST)
    high = jnp.where(where, values, -LARGEST).max(initial=-LARGEST)
    return Tally(count.astype(jnp.uint32), mean, variance, low, high)


def merge_tallies(a: Tally, b: Tally) -> Tally:
    """Return the tally of the union of both streams."""
    moments = merge(RunningMoments(*a[:3]), RunningMoments(*b[:3]))
    return Tally(*moments, jnp.minimum(a.low, b.low), jnp.maximum(a.high, b.high))
