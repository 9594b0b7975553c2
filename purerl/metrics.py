"""Metrics: tallies kept on the device, and the rows that they become."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from purerl.ops import statistics
from purerl.rollout import Episodes
from purerl.types import Array, MaskedMetrics

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


def update_tallies(metrics: Mapping[str, Array]) -> Tallies:
    """Tally the metrics of updates, `[iterations]` each, where they have a value that is finite."""
    metrics, tallies = MaskedMetrics.of(metrics), {}
    for name, value in metrics.numbers.items():
        known = jnp.isfinite(value) & metrics.known.get(name, True)
        tallies[name] = statistics.tally(value.astype(jnp.float32), known)
    return tallies


def only_where(healthy: Array, tallies: Tallies) -> Tallies:
    """Return `tallies` where `healthy`, and empty ones elsewhere."""
    return jax.tree.map(lambda known, none: jnp.where(healthy, known, none), tallies, empty(tallies))


def empty(shapes: Tallies) -> Tallies:
    """Return empty tallies of the shapes of `shapes`."""

    def one(tally: statistics.Tally) -> statistics.Tally:
        zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), tally)
        return zero._replace(low=zero.low + statistics.LARGEST, high=zero.high - statistics.LARGEST)

    return {name: one(tally) for name, tally in shapes.items()}


def merge(tallies: Tallies, more: Tallies) -> Tallies:
    """Merge into `tallies` those of `more`, which may have fewer."""
    return tallies | {name: statistics.merge_tallies(tallies[name], tally) for name, tally in more.items()}


def summarise(tallies: Tallies, diverged_at: Array, **more: Array) -> MaskedMetrics:
    """Return a row of metrics: means under their own names, and the spread of returns beside them.

    Args:
        tallies: of one member.
        diverged_at: `TrainState.diverged_at` at the end of the row.
        more: further metrics.
    """
    row, known = dict(more), {}
    for name, tally in tallies.items():
        parts = {name: tally.mean}
        if name in ("episode/return", "eval/return", "eval_stochastic/return"):
            spread = {"std": jnp.sqrt(tally.variance), "min": tally.low, "max": tally.high}
            parts |= {f"{name}_{part}": value for part, value in spread.items()}
        row |= parts
        known |= dict.fromkeys(parts, tally.count > 0)
    row["episode/count"] = tallies["episode/return"].count.astype(jnp.float32)
    diverged = tallies["episode/diverged"]
    row["episode/diverged"] = jnp.round(diverged.mean * diverged.count.astype(jnp.float32))
    row["seed/diverged"] = (diverged_at >= 0).astype(jnp.float32)
    del known["episode/diverged"]
    return MaskedMetrics(row, known)


def prepend(first: MaskedMetrics, rows: MaskedMetrics) -> MaskedMetrics:
    """Return `rows [R]` after the row `first`, which may lack some metrics."""

    def column(first: dict[str, Array], rows: dict[str, Array], missing: Array) -> dict[str, Array]:
        return {name: jnp.append(first.get(name, missing), rows[name]) for name in rows}

    numbers = column(first.numbers, rows.numbers, jnp.float32(0))
    return MaskedMetrics(numbers, column(first.known, rows.known, jnp.bool_(False)))
