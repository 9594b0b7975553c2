"""Running moments for normalisers and tallies for metrics, mergeable in any order."""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax.numpy as jnp

from purerl.types import Array

COUNT_LIMIT = 2**31 - 1
"""Counts stop here, so that two of them fit into uint32; from then on the oldest data slowly fades."""


class RunningMoments(NamedTuple):
    """Mean and population variance of everything seen so far, per element.

    The count is an integer, because float32 cannot count past 2**24, and the variance is kept as a
    mean rather than a sum, so that it does not outgrow float32 either.
    """

    count: Array
    """Scalar uint32."""
    mean: Array
    variance: Array


def init(shape: tuple[int, ...]) -> RunningMoments:
    """Moments of nothing: count 0."""
    return RunningMoments(jnp.uint32(0), jnp.zeros(shape), jnp.zeros(shape))


def of_batch(batch: Array, event_ndim: int) -> RunningMoments:
    """Moments of `batch` over all but its last `event_ndim` axes."""
    axes = tuple(range(batch.ndim - event_ndim))
    rows = 1
    for axis in axes:
        rows *= batch.shape[axis]
    return RunningMoments(jnp.uint32(rows), batch.mean(axes), batch.var(axes))


def merge(a: RunningMoments, b: RunningMoments) -> RunningMoments:
    """Moments of both samples together (Chan, Golub & LeVeque 1979); shapes broadcast."""
    total = a.count + b.count
    weight = jnp.where(total > 0, b.count / jnp.maximum(total, 1), 0.0)
    delta = b.mean - a.mean
    return RunningMoments(
        jnp.minimum(total, jnp.uint32(COUNT_LIMIT)),
        a.mean + weight * delta,
        a.variance + weight * (b.variance - a.variance) + weight * (1 - weight) * jnp.square(delta),
    )


def update(moments: RunningMoments, batch: Array) -> RunningMoments:
    """`moments` with the rows of `batch [..., *shape]` added."""
    chex.assert_equal(batch.shape[batch.ndim - moments.mean.ndim :], moments.mean.shape)
    return merge(moments, of_batch(batch, moments.mean.ndim))


def normalize(moments: RunningMoments, x: Array, clip: float = 10.0, eps: float = 1e-8) -> Array:
    """`x [..., *shape]` centred and scaled, clipped to `[-clip, clip]`; unchanged before any data."""
    scaled = (x - moments.mean) / jnp.sqrt(moments.variance + eps)
    return jnp.where(moments.count > 0, jnp.clip(scaled, -clip, clip), x)


class Tally(NamedTuple):
    """What a stream of scalars amounts to; means nothing where the count is 0."""

    count: Array
    mean: Array
    variance: Array
    low: Array
    high: Array


def tally(values: Array, where: Array) -> Tally:
    """The tally of those `values` for which `where` holds; same shape `[...]` to scalars."""
    chex.assert_equal_shape([values, where])
    kept = jnp.maximum(where.sum(), 1)
    mean = jnp.where(where, values, 0.0).sum() / kept
    variance = jnp.where(where, jnp.square(values - mean), 0.0).sum() / kept
    low = jnp.where(where, values, jnp.inf).min(initial=jnp.inf)
    high = jnp.where(where, values, -jnp.inf).max(initial=-jnp.inf)
    return Tally(where.sum().astype(jnp.uint32), mean, variance, low, high)


def merge_tallies(a: Tally, b: Tally) -> Tally:
    """The tally of both streams together."""
    moments = merge(RunningMoments(*a[:3]), RunningMoments(*b[:3]))
    return Tally(*moments, jnp.minimum(a.low, b.low), jnp.maximum(a.high, b.high))
