"""Parts of the return that a value-based method learns: its mean, its distribution, or its quantiles."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from purerl.algos.off_policy import OffPolicyConfig
from purerl.config import ConfigError, choice, count, real, refuse_unused
from purerl.ops import distributional
from purerl.ops.losses import soft_value, td_target
from purerl.replay.ring import Batch
from purerl.types import Array, Key


class Ahead(NamedTuple):
    """The policy at the next observation: k actions, each with its probability."""

    out: Array
    """`[B, k, M]` outputs of the target network."""
    probability: Array
    """`[B, k]`, with sum 1; ones where k = 1 greedy action was taken."""
    penalty: Array
    """`[B, k]` by which each return is less: an entropy bonus, or zeros."""


class ReturnModel(NamedTuple):
    """Pure functions of a network's outputs."""

    size: int
    """Outputs of the network for each action; of an implicit one, for each action and fraction."""
    mean: Callable[[Array], Array]
    """`[B, K, M] -> [B, K]` action values, with M outputs or quantiles of each."""
    target: Callable[[Ahead, Batch], Array]
    """`(policy ahead, batch) -> [B, M]`, or `[B]` of a mean: what the outputs should be."""
    loss: Callable[[Array, Array, Array | None], tuple[Array, Array]]
    """`(outputs of the actions taken [B, M], target, fractions) -> (loss [B], td_error [B])`."""
    fractions: Callable[[int, Key | None], Array | None] = lambda rows, key: None
    """`(rows, key) -> [rows, M]`, inputs of an implicit network; evenly spaced without a key."""


V_MIN, V_MAX = -10.0, 10.0
"""Ends of the atoms where a configuration has none (arXiv:1707.06887)."""
CRITICS = {
    "scalar": ("num_atoms", "v_min", "v_max", "num_quantiles"),
    "categorical": ("num_quantiles", "huber_delta", "loss"),
    "quantile": ("num_atoms", "v_min", "v_max", "loss"),
    "implicit": ("num_atoms", "v_min", "v_max", "loss"),
}
"""Kinds of critics, and the fields that each leaves without effect."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReturnConfig(OffPolicyConfig):
    """Fields about the part of the return that is learned."""

    critic: str = choice("scalar", CRITICS)
    """Part of the return that is learned: its mean, C51's distribution, QR-DQN's quantiles, or IQN's."""
    loss: str = choice("huber", ("huber", "square"))
    """Loss of a scalar critic's error; quantiles have the Huber loss, atoms the cross-entropy."""
    huber_delta: float | None = real(None, above=0, optional=True)
    """Error from which on the Huber loss grows linearly; None: 1."""
    num_atoms: int = count(51, low=2, high=10_001)
    """Atoms of a categorical critic."""
    v_min: float | None = real(None, optional=True)
    """Smallest atom; None: -10."""
    v_max: float | None = real(None, optional=True)
    """Largest atom; None: 10."""
    num_quantiles: int = count(32, high=10_000)
    """Quantiles of a quantile or implicit critic."""


def validate(cfg: ReturnConfig) -> None:
    """Raise ConfigError for fields without effect, or atoms in the wrong order."""
    refuse_unused(cfg, f"critic = {cfg.critic}", *CRITICS[cfg.critic])
    low, high = ends(cfg)
    if cfg.critic == "categorical" and not low < high:
        raise ConfigError("v_min", low, f"a number below v_max = {high}")
    if cfg.loss == "square":
        refuse_unused(cfg, "loss = square", "huber_delta")


def ends(cfg: ReturnConfig) -> tuple[float, float]:
    """Return the smallest and the largest atom."""
    return (V_MIN if cfg.v_min is None else cfg.v_min), (V_MAX if cfg.v_max is None else cfg.v_max)


def return_model(cfg: ReturnConfig) -> ReturnModel:
    """Return the functions of the critic that `cfg` asks for."""
    delta = 1.0 if cfg.huber_delta is None else cfg.huber_delta
    if cfg.critic == "scalar":
        return scalar(None if cfg.loss == "square" else delta)
    if cfg.critic == "categorical":
        return categorical(distributional.atoms(*ends(cfg), cfg.num_atoms))
    return quantiles(cfg.num_quantiles, delta, implicit=cfg.critic == "implicit")


def scalar(delta: float | Array | None) -> ReturnModel:
    """Return the mean, `y = r + discount V(s')`, trained on the Huber or, without a delta, squared error.

    Mnih et al. 2015, doi:10.1038/nature14236, algorithm 1.
    """

    def target(ahead: Ahead, batch: Batch) -> Array:
        value = soft_value(ahead.out[..., 0], ahead.probability, ahead.penalty, 1.0)
        return td_target(batch.rows.reward, batch.discount, value)

    def loss(out: Array, target: Array, fractions: Array | None) -> tuple[Array, Array]:
        error = out[:, 0] - target
        square = 0.5 * jnp.square(error)
        rows = square if delta is None else optax.huber_loss(error, delta=delta)
        return rows, jnp.abs(error)

    return ReturnModel(1, lambda out: out[..., 0], target, loss)


def categorical(support: Array) -> ReturnModel:
    """Return logits over the atoms `support [size]`, trained on the cross-entropy (C51).

    Bellemare et al. 2017, arXiv:1707.06887, algorithm 1. The target is the mixture over actions of the
    atoms `r + discount (z - penalty)`, each projected.
    """

    def target(ahead: Ahead, batch: Batch) -> Array:
        mass = ahead.probability[..., None] * jax.nn.softmax(ahead.out)
        moved = support[None, None] - ahead.penalty[..., None]
        moved = batch.rows.reward[:, None, None] + batch.discount[:, None, None] * moved
        moved = jnp.broadcast_to(moved, mass.shape)
        rows = len(mass)
        return distributional.project(mass.reshape(rows, -1), moved.reshape(rows, -1), support)

    def loss(out: Array, target: Array, fractions: Array | None) -> tuple[Array, Array]:
        rows = distributional.cross_entropy(out, target)
        return rows, rows

    return ReturnModel(len(support), lambda out: distributional.mean(out, support), target, loss)


def quantiles(size: int, delta: float | Array, *, implicit: bool) -> ReturnModel:
    """Return quantiles of the return: at fixed fractions (QR-DQN), or at drawn ones (IQN, `implicit`).

    Dabney et al. 2018, arXiv:1710.10044, algorithm 1, and arXiv:1806.06923, section 3. The target is
    `r + discount sum_a pi(a) (z(a) - penalty(a))`, quantile by quantile (arXiv:2007.14430, section 4.2).
    """

    def fractions(rows: int, key: Key | None) -> Array:
        if key is not None:
            return jax.random.uniform(key, (rows, size), jnp.float32)
        middle = (jnp.arange(size, dtype=jnp.float32) + 0.5) / size
        return jnp.broadcast_to(middle[None], (rows, size))

    def target(ahead: Ahead, batch: Batch) -> Array:
        value = (ahead.probability[..., None] * (ahead.out - ahead.penalty[..., None])).sum(1)
        discount = jnp.broadcast_to(batch.discount[:, None], value.shape)
        return td_target(jnp.broadcast_to(batch.rows.reward[:, None], value.shape), discount, value)

    def loss(out: Array, target: Array, drawn: Array | None) -> tuple[Array, Array]:
        at = fractions(len(out), None) if drawn is None else drawn
        rows = distributional.quantile_huber(out, at, target, delta)
        return rows, rows

    mean = lambda out: out.mean(-1)
    if implicit:
        return ReturnModel(1, mean, target, loss, fractions)
    return ReturnModel(size, mean, target, loss)
