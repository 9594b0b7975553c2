"""Critics of soft methods: scalars, or distributions over atoms; plain, or normalised over the batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from gymnasium import spaces

from purerl.algos.off_policy import OffPolicyConfig
from purerl.algos.soft_policies import Actions
from purerl.config import ConfigError, choice, count, real, refuse_unused
from purerl.normalize import RETURN_BOUND
from purerl.ops import distributional
from purerl.ops.losses import soft_value, td_target
from purerl.replay.ring import Batch
from purerl.types import Array, Network, PyTree


@dataclasses.dataclass(frozen=True, kw_only=True)
class CriticConfig(OffPolicyConfig):
    """Fields that say what the critics are."""

    norm: str = choice("none", ("none", "layer", "batch"))
    """Normalisation of all hidden layers; batch: of the inputs too, weights of length 1, no biases."""
    critic: str = choice("scalar", ("scalar", "categorical"))
    """Output of a critic: a value, or a distribution over atoms, which needs `normalize_reward` as a rule."""
    num_atoms: int = count(101, low=2, high=10_001)
    """Atoms of a categorical critic."""
    v_min: float | None = real(None, optional=True)
    """Smallest atom; None: -5."""
    v_max: float | None = real(None, optional=True)
    """Largest atom; None: 5."""


def validate(cfg: CriticConfig, space: spaces.Space) -> None:
    """Raise ConfigError for statistics of one row, atoms in the wrong order, or atoms of discrete actions."""
    if cfg.norm == "batch" and cfg.batch_size < 2:
        raise ConfigError("batch_size", cfg.batch_size, "at least 2 rows for norm = batch")
    if cfg.critic == "scalar":
        refuse_unused(cfg, "critic = scalar", "num_atoms", "v_min", "v_max")
        return
    if isinstance(space, spaces.Discrete):
        raise ConfigError("critic", cfg.critic, "scalar for discrete actions")
    low, high = ends(cfg)
    if not low < high:
        raise ConfigError("v_min", low, f"a number below v_max = {high}")


def ends(cfg: CriticConfig) -> tuple[float, float]:
    """Return the smallest and the largest atom."""
    low = -RETURN_BOUND if cfg.v_min is None else cfg.v_min
    return low, RETURN_BOUND if cfg.v_max is None else cfg.v_max


class Critic(NamedTuple):
    """Pure functions of the outputs of twin critics."""

    value: Callable[[Array], Array]
    """`out [2, B, ...] -> [2, B, ...]` action values."""
    target: Callable[[Array, Batch, Actions, Array, Callable[[Array], Array]], Array]
    """`(next_out, batch, actions, alpha, values) -> target`: of the critic that is smaller at `next_obs`."""
    loss: Callable[[Array, Array], tuple[Array, Array]]
    """`(out, target) -> (loss [2, B], td_error [B])`; priorities follow the error."""


def scalar() -> Critic:
    """Return critics whose output is the action value, trained on the squared error.

    Haarnoja et al. 2018, arXiv:1812.05905, eq. 5, with `y = r + discount (min_i Q'_i - alpha log pi)`.
    """

    def target(next_out: Array, batch: Batch, ahead: Actions, alpha: Array, values: Callable) -> Array:
        value = soft_value(values(next_out.min(0)), ahead.probability, ahead.log_prob, alpha)
        return td_target(batch.rows.reward, batch.discount, value)

    def loss(out: Array, target: Array) -> tuple[Array, Array]:
        error = out - target[None]
        return 0.5 * jnp.square(error), jnp.abs(error).max(0)

    return Critic(lambda out: out, target, loss)


def categorical(support: Array) -> Critic:
    """Return critics whose outputs are logits over the atoms `support [K]`, trained on the cross-entropy.

    Bellemare et al. 2017, arXiv:1707.06887, with the distribution of the critic that has the smaller mean,
    moved to the atoms `r + discount (z - alpha log pi)`.
    """

    def target(next_out: Array, batch: Batch, ahead: Actions, alpha: Array, values: Callable) -> Array:
        mean = distributional.mean(next_out, support)  # [2, B]
        probs = jax.nn.softmax(jnp.where((mean[0] <= mean[1])[:, None], next_out[0], next_out[1]))
        moved = support[None] - alpha * ahead.log_prob
        moved = batch.rows.reward[:, None] + batch.discount[:, None] * moved
        return distributional.project(probs, moved, support)

    def loss(out: Array, target: Array) -> tuple[Array, Array]:
        rows = distributional.cross_entropy(out, jnp.broadcast_to(target[None], out.shape))
        return rows, rows.max(0)

    return Critic(lambda out: distributional.mean(out, support), target, loss)


def make_critic(cfg: CriticConfig) -> Critic:
    """Return the functions of the critics that `cfg` asks for."""
    if cfg.critic == "scalar":
        return scalar()
    return categorical(distributional.atoms(*ends(cfg), cfg.num_atoms))


def outputs(
    q: Network, params: PyTree, target: PyTree, now: tuple[Array, ...], ahead: tuple[Array, ...]
) -> tuple[Array, Array, PyTree]:
    """Return the critics' outputs `now`, the target critics' `ahead`, and new statistics.

    Critics with batch normalisation see both batches in one pass, since policy and replay buffer give actions
    of different distributions (Bhatt et al. 2024, arXiv:1902.05605, section 3).

    Args:
        q: twin critics.
        params: of the critics.
        target: parameters of the target critics.
        now: inputs, `[B, ...]` each.
        ahead: inputs of the next step.
    """
    if q.train is None:
        return q.apply(params, *now), q.apply(target, *ahead), ()
    rows, both = len(now[0]), [jnp.concatenate(pair) for pair in zip(now, ahead, strict=True)]
    out, statistics = q.train(params, *both)
    return out[:, :rows], q.train(target, *both)[0][:, rows:], statistics
