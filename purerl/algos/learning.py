"""Gradient steps of off-policy methods on networks that learn and networks that follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from purerl.ops.arrays import lenient
from purerl.replay.ring import Batch
from purerl.types import Array, Key, MaskedMetrics, Network, PyTree


class Learner(NamedTuple):
    """Networks in training, each part by the network's name."""

    params: dict[str, PyTree]
    target: dict[str, PyTree]
    """Slowly following copies of some of `params`."""
    opt_state: dict[str, optax.OptState]


GradientStep = Callable[[Learner, Batch, Key, Array], tuple[Learner, Array, Mapping[str, Array]]]
"""`(learner, batch [B, ...], key, index) -> (learner, td_error [B], metrics)`.

`index` numbers the gradient steps. It is never batched, so `lax.cond` on it stays a branch.
"""


def init_learner(
    params: dict[str, PyTree], targets: tuple[str, ...], optimizer: optax.GradientTransformation
) -> Learner:
    """Return a learner of `params` by network, with target networks for the `targets` among them."""
    target = {name: jax.tree.map(jnp.copy, params[name]) for name in targets}
    return Learner(params, target, {name: optimizer.init(part) for name, part in params.items()})


def descend(
    learner: Learner,
    name: str,
    optimizer: optax.GradientTransformation,
    gradient: PyTree,
    network: Network | None = None,
    statistics: PyTree = (),
) -> Learner:
    """Take a step of `optimizer` on the network `name`; one with statistics gets those of its pass."""
    steps, opt_state = lenient(optimizer.update)(gradient, learner.opt_state[name])
    params = optax.apply_updates(learner.params[name], steps)
    if network is not None and network.settle is not None:
        params = network.settle(params, statistics)
    return learner._replace(
        params=learner.params | {name: params}, opt_state=learner.opt_state | {name: opt_state}
    )


def every(
    period: int,
    index: Array,
    step: Callable[..., tuple[Learner, Mapping[str, Array]]],
    learner: Learner,
    *args: Any,
) -> tuple[Learner, Mapping[str, Array]]:
    """Take a `step` at every `period`-th gradient step; at the others its metrics have no value.

    Args:
        period: gradient steps.
        index: number of this one.
        step: `(learner, *args) -> (learner, metrics)`.
        learner: changed by `step`.
        args: for `step`.
    """
    if period == 1:
        return step(learner, *args)

    def wait(learner: Learner, *args: Any) -> tuple[Learner, Mapping[str, Array]]:
        shapes = jax.eval_shape(step, learner, *args)[1]
        return learner, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    due = (index + 1) % period == 0
    learner, metrics = jax.lax.cond(due, step, wait, learner, *args)
    return learner, MaskedMetrics(dict(metrics), dict.fromkeys(metrics, due))


def move_targets(learner: Learner, tau: float | Array) -> Learner:
    """Move every target network towards its network: `target += tau (params - target)`."""
    online = {name: learner.params[name] for name in learner.target}
    return learner._replace(target=optax.incremental_update(online, learner.target, tau))


def mean_of_known(metrics: Mapping[str, Array]) -> MaskedMetrics:
    """Return the mean of each metric `[U]` over the gradient steps that gave it a value."""
    metrics, means = MaskedMetrics.of(metrics), {}
    for name, values in metrics.numbers.items():
        known = jnp.broadcast_to(metrics.known.get(name, True), values.shape)
        means[name] = jnp.where(known, values, 0.0).sum() / jnp.maximum(known.sum(dtype=jnp.float32), 1.0)
    return MaskedMetrics(means, {name: known.any() for name, known in metrics.known.items()})
