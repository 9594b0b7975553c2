"""Divergence: a member whose parameters are no longer finite is frozen, and the others go on."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from purerl import metrics
from purerl.metrics import Tallies
from purerl.rollout import Episodes
from purerl.types import Array, PyTree, TrainState

LARGE = ("rows", "priority", "frames")
"""Fields of a replay buffer's State with an entry for each row or frame."""


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


def with_learned(state: TrainState, algo: PyTree) -> TrainState:
    """Return `state` with what its algorithm made of a rollout; a diverged member's replay buffer stays.

    A member that diverges between two calls of `settle` is known by its vectors: a gradient that is not
    finite reaches every bias of a network, and these few numbers cost nothing to look at.

    Only the position is kept: rows, priorities and frames are large, and a select would copy them. Where the
    buffer is full its oldest rows give way to steps that were really taken, all at the same place.
    """
    learned, replay = split_replay(algo)
    if replay == ():
        return state._replace(algo=algo)
    known, before = split_replay(state.algo)
    vectors = [leaf for leaf in jax.tree.leaves(known) if leaf.ndim <= 1]
    sound = (state.diverged_at < 0) & all_finite(vectors)
    small = {name: value for name, value in replay._asdict().items() if name not in LARGE}
    kept = {
        name: jax.tree.map(lambda new, old: jnp.where(sound, new, old), value, getattr(before, name))
        for name, value in small.items()
    }
    return state._replace(algo=learned._replace(replay=replay._replace(**kept)))


def all_finite(tree: PyTree) -> Array:
    """Return a scalar bool: every number in the float leaves of `tree` is finite.

    Vectors are looked at as one: `with_learned` looks after every update, at three operations a look.
    True with `jax_debug_nans`, so that nothing is put in the place of a number that the switch should find.
    """
    if jax.config.jax_debug_nans:  # type: ignore[attr-defined]
        return jnp.bool_(True)
    floats = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    vectors = [leaf.ravel() for leaf in floats if leaf.ndim <= 1]
    parts = [leaf for leaf in floats if leaf.ndim > 1] + ([jnp.concatenate(vectors)] if vectors else [])
    return jnp.all(jnp.array([jnp.isfinite(part).all() for part in parts]))
