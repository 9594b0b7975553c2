"""The loop that on-policy algorithms share: epochs of shuffled minibatches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import chex
import jax
import jax.numpy as jnp

from purerl.types import Key, Metrics, PyTree

Learner = TypeVar("Learner")


def flatten_time(tree: PyTree) -> PyTree:
    """Merge the two leading axes of every leaf: `[T, N, ...] -> [T * N, ...]`."""
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), tree)


def minibatch_epochs(
    gradient_step: Callable[[Learner, PyTree], tuple[Learner, Metrics]],
    learner: Learner,
    batch: PyTree,
    key: Key,
    *,
    num_epochs: int,
    num_minibatches: int,
) -> tuple[Learner, Metrics]:
    """Pass over `batch` `num_epochs` times, each time in a new order, one minibatch at a time.

    Args:
        gradient_step: `(learner, minibatch) -> (learner, metrics)`.
        learner: what the gradient steps change.
        batch: each leaf `[B, ...]`; every row is used exactly once an epoch.
        key: consumed.
        num_epochs: passes over the batch.
        num_minibatches: gradient steps per pass; must divide B.

    Returns:
        `(learner, metrics)`, each metric the mean over all gradient steps.
    """
    rows = jax.tree.leaves(batch)[0].shape[0]
    chex.assert_is_divisible(rows, num_minibatches)

    def epoch(learner: Learner, key: Key) -> tuple[Learner, Any]:
        order = jax.random.permutation(key, rows).reshape(num_minibatches, -1)

        def step(learner, index):
            return gradient_step(learner, jax.tree.map(lambda leaf: jnp.take(leaf, index, 0), batch))

        return jax.lax.scan(step, learner, order)

    learner, metrics = jax.lax.scan(epoch, learner, jax.random.split(key, num_epochs))
    return learner, jax.tree.map(jnp.mean, metrics)
