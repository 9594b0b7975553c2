"""Metrics: tallies kept on the device, and the rows that they become."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from purerl.ops import statistics
from purerl.rollout import Episodes
from purerl.types import Array, Metrics

Tallies = dict[str, statistics.Tally]
"""By the metric's name; scalars, or `[S]` each."""


def episode_tallies(episodes: Episodes) -> Tallies:
    """Tally the episodes `[T, N]` or `[iterations, T, N]` that ended in a rollout."""
    return {
        "episode/return": statistics.tally(episodes.returns, episodes.ended),
        "episode/length": statistics.tally(episodes.lengths.astype(jnp.float32), episodes.ended),
        "episode/diverged": statistics.tally(episodes.diverged, jnp.ones_like(episodes.ended)),
    }


def evaluation_tallies(name: str, returns: Array, lengths: Array) -> Tallies:
    """Tally whole episodes `[E]` as `name/return` and `name/length`."""
    every = jnp.ones_like(returns, bool)
    return {
        f"{name}/return": statistics.tally(returns, every),
        f"{name}/length": statistics.tally(lengths.astype(jnp.float32), every),
    }


def update_tallies(metrics: Metrics) -> Tallies:
    """Tally the metrics of updates, `[iterations]` each; an update without one has NaN."""
    return {
        name: statistics.tally(value.astype(jnp.float32), jnp.isfinite(value))
        for name, value in metrics.items()
    }


def only_where(healthy: Array, tallies: Tallies) -> Tallies:
    """Return `tallies` where `healthy`, and empty ones elsewhere."""
    return jax.tree.map(lambda known, none: jnp.where(healthy, known, none), tallies, empty(tallies))


def empty(shapes: Tallies) -> Tallies:
    """Return empty tallies of the shapes of `shapes`."""

    def one(tally: statistics.Tally) -> statistics.Tally:
        zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), tally)
        return zero._replace(low=zero.low + jnp.inf, high=zero.high - jnp.inf)

    return {name: one(tally) for name, tally in shapes.items()}


def merge(tallies: Tallies, more: Tallies) -> Tallies:
    """Merge into `tallies` those of `more`, which may have fewer."""
    return tallies | {name: statistics.merge_tallies(tallies[name], tally) for name, tally in more.items()}


def summarise(tallies: Tallies, diverged_at: Array) -> Metrics:
    """Return a row of metrics: means under their own names, and the spread of returns beside them.

    Args:
        tallies: of one member.
        diverged_at: `TrainState.diverged_at` at the end of the row.
    """
    row = {name: jnp.where(tally.count > 0, tally.mean, jnp.nan) for name, tally in tallies.items()}
    for name in ("episode/return", "eval/return", "eval_stochastic/return"):
        if name in tallies:
            tally, known = tallies[name], tallies[name].count > 0
            row[f"{name}_std"] = jnp.where(known, jnp.sqrt(tally.variance), jnp.nan)
            row[f"{name}_min"] = jnp.where(known, tally.low, jnp.nan)
            row[f"{name}_max"] = jnp.where(known, tally.high, jnp.nan)
    row["episode/count"] = tallies["episode/return"].count.astype(jnp.float32)
    diverged = tallies["episode/diverged"]
    row["episode/diverged"] = jnp.round(diverged.mean * diverged.count)
    row["seed/diverged"] = (diverged_at >= 0).astype(jnp.float32)
    return row
