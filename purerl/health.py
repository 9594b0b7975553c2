"""Divergence: a member whose parameters are no longer finite is frozen, and the others go on."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from purerl import metrics
from purerl.metrics import Tallies
from purerl.rollout import Episodes
from purerl.types import Array, PyTree, TrainState


def settle(
    before: TrainState, after: TrainState, episodes: Episodes, report: Mapping[str, Array], step: Array
) -> tuple[TrainState, Tallies]:
    """Close a piece of training: freeze the member if it diverged, and tally what was measured.

    Args:
        before: the state at the start of the piece.
        after: the state at its end.
        episodes: `[..., T, N]` of its rollouts.
        report: metrics of its updates, `[iterations]` each.
        step: environment steps at its end.
    """
    tallies = metrics.episode_tallies(episodes) | metrics.update_tallies(report)
    after = freeze_if_diverged(before, after, step)
    return after, metrics.only_where(before.diverged_at < 0, tallies)


def split_replay(algo: PyTree) -> tuple[PyTree, PyTree]:
    """Split an algorithm's State into all but its replay buffer, and that buffer; `()` without one."""
    if not hasattr(algo, "replay"):
        return algo, ()
    return algo._replace(replay=()), algo.replay


def freeze_if_diverged(before: TrainState, after: TrainState, step: Array) -> TrainState:
    """Return `after`, with what is learned from `before` if any of it is not finite.

    A diverged member stays frozen for good. The replay buffer is neither read nor selected from: it
    is large, and a select would copy it.
    """
    learned, replay = split_replay(after.algo)
    known, _ = split_replay(before.algo)
    was_healthy = before.diverged_at < 0
    healthy = was_healthy & all_finite(learned)
    kept = jax.tree.map(lambda new, old: jnp.where(healthy, new, old), learned, known)
    return after._replace(
        algo=kept if replay == () else kept._replace(replay=replay),
        diverged_at=jnp.where(healthy | ~was_healthy, before.diverged_at, step),
    )


def all_finite(tree: PyTree) -> Array:
    """Return a scalar bool: every number in the float leaves of `tree` is finite.

    True with `jax_debug_nans`, so that nothing is put in the place of a number that the switch should find.
    """
    if jax.config.jax_debug_nans:  # type: ignore[attr-defined]
        return jnp.bool_(True)
    floats = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.all(jnp.array([jnp.isfinite(leaf).all() for leaf in floats]))
