"""Losses that more than one algorithm names."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from purerl.ops.arrays import to_rank
from purerl.types import Array

COEFFICIENT_MIN, COEFFICIENT_MAX = 1e-6, 1e6
"""Bounds of a penalty's coefficient; without them its recovery could take many updates."""


def policy_gradient(log_prob: Array, advantage: Array) -> Array:
    """Return the loss `-mean(log_prob A)`, whose gradient estimates the negative policy gradient.

    Williams 1992; with a baseline, Sutton & Barto 2018, eq. 13.11. No gradient flows into the advantage.

    Args:
        log_prob: `[B]` of the actions taken.
        advantage: `[B]`.

    Returns:
        Scalar.
    """
    chex.assert_equal_shape([log_prob, advantage])
    return -(log_prob * jax.lax.stop_gradient(advantage)).mean()


def surrogate(log_prob: Array, old_log_prob: Array, advantage: Array) -> Array:
    """Return TRPO's policy loss `-mean(ratio A)`; the constraint on the KL is not part of it.

    Schulman et al. 2015, arXiv:1502.05477, eq. 14, negated, with actions drawn from the old policy.

    Args:
        log_prob: `[B]` of the policy being optimised.
        old_log_prob: `[B]` of the policy that acted.
        advantage: `[B]`.

    Returns:
        Scalar.
    """
    chex.assert_equal_shape([log_prob, old_log_prob, advantage])
    return -(_ratio(log_prob, old_log_prob) * advantage).mean()


def clipped_surrogate(
    log_prob: Array, old_log_prob: Array, advantage: Array, clip_eps: float | Array
) -> Array:
    """Return PPO's clipped policy loss (Schulman et al. 2017, arXiv:1707.06347, eq. 7, negated).

    `-mean(min(ratio A, clip(ratio, 1 - eps, 1 + eps) A))` with `ratio = exp(log_prob - old_log_prob)`.

    Args:
        log_prob: `[B]` of the policy being optimised.
        old_log_prob: `[B]` of the policy that acted.
        advantage: `[B]`.
        clip_eps: distance from 1 at which the ratio is clipped.

    Returns:
        Scalar.
    """
    chex.assert_equal_shape([log_prob, old_log_prob, advantage])
    ratio = _ratio(log_prob, old_log_prob)
    clipped = jnp.clip(ratio, 1.0 - clip_eps, 1.0 + clip_eps)
    return -jnp.minimum(ratio * advantage, clipped * advantage).mean()


def _ratio(log_prob: Array, old_log_prob: Array) -> Array:
    """Return `exp(log_prob - old_log_prob)`, finite and with a finite gradient."""
    return jnp.exp(jnp.clip(log_prob - old_log_prob, -20.0, 20.0))  # exp overflows at 88: NaN gradients


def half_mean_square(error: Array, weight: Array | float = 1.0) -> Array:
    """Return the scalar `mean(weight error^2) / 2` of errors of any shape.

    Args:
        error: `[..., B]`.
        weight: `[B]`, such as the weights of rows that a prioritised replay buffer draws.
    """
    weight = weight if isinstance(weight, float) else to_rank(weight, error.ndim)
    return 0.5 * (weight * jnp.square(error)).mean()


def clipped_value_loss(value: Array, old_value: Array, target: Array, clip_eps: float | Array) -> Array:
    """Return PPO's clipped value loss: no gain from a change of the value beyond `clip_eps`.

    `mean(max((V - target)^2, (V_old + clip(V - V_old, -eps, eps) - target)^2)) / 2`. Not in the
    paper but in its authors' code (Engstrom et al. 2020, arXiv:2005.12729, section 3).

    Args:
        value: `[B]` of the parameters being optimised.
        old_value: `[B]` of the parameters that acted.
        target: `[B]`.
        clip_eps: in units of the value.

    Returns:
        Scalar.
    """
    chex.assert_equal_shape([value, old_value, target])
    clipped = old_value + jnp.clip(value - old_value, -clip_eps, clip_eps)
    larger = jnp.maximum(jnp.square(value - target), jnp.square(clipped - target))
    return 0.5 * larger.mean()


def adapted_coefficient(coef: Array, kl: Array, kl_target: float | Array) -> Array:
    """Return the KL penalty's coefficient for the next update.

    Half of `coef` if `kl < kl_target / 1.5`, twice `coef` if `kl > 1.5 kl_target` (Schulman et al. 2017,
    arXiv:1707.06347, section 4), within `COEFFICIENT_MIN` and `COEFFICIENT_MAX`. Unchanged if the KL is NaN.
    All scalars.
    """
    chex.assert_equal_shape([coef, kl])
    factor = jnp.where(kl < kl_target / 1.5, 0.5, jnp.where(kl > kl_target * 1.5, 2.0, 1.0))
    return jnp.clip(coef * factor, COEFFICIENT_MIN, COEFFICIENT_MAX)


def approximate_kl(log_prob: Array, old_log_prob: Array) -> Array:
    """Return an estimate of KL(old || new) from samples of old: `mean(ratio - 1 - log ratio)`, at least 0.

    Schulman's low-variance estimator (joschu.net/blog/kl-approx, "k3").

    Args:
        log_prob: `[B]` of the new policy.
        old_log_prob: `[B]` of the policy that acted.

    Returns:
        Scalar.
    """
    chex.assert_equal_shape([log_prob, old_log_prob])
    log_ratio = log_prob - old_log_prob
    return (jnp.expm1(log_ratio) - log_ratio).mean()


def standardize(x: Array, eps: float = 1e-8) -> Array:
    """Return `x [...]` with mean 0 and population standard deviation 1; a constant or single value gives 0.

    `eps` is added to the variance.
    """
    centred = x - x.mean()
    centred = centred - centred.mean()  # the mean of a large constant has a rounding error
    return centred * jax.lax.rsqrt(jnp.square(centred).mean() + eps)


def explained_variance(prediction: Array, target: Array) -> Array:
    """Return `1 - Var(target - prediction) / Var(target)`: 1 is perfect, 0 no better than a constant.

    Both `[...]`, to a scalar; without a meaning, and 0, if the target is constant.
    """
    chex.assert_equal_shape([prediction, target])
    variance = target.var()
    left = (target - prediction).var() / jnp.where(variance > 0, variance, 1.0)
    return jnp.where(variance > 0, 1.0 - left, 0.0)


def td_target(reward: Array, discount: Array, next_value: Array) -> Array:
    """Return the TD target `r + discount V(s')`, where `discount` is `gamma (1 - terminated)` for one step.

    Sutton & Barto 2018, eq. 6.2; with `V(s') = Q'(s', pi'(s'))` the critic target of DDPG (Lillicrap et al.
    2016, arXiv:1509.02971, algorithm 1).

    Args:
        reward: `[B]`, of one step or the discounted sum of several.
        discount: `[B]`; 0 where the task ended, and the value of `s'` then counts for nothing, also NaN.
        next_value: `[B]` value of `next_obs`.

    Returns:
        `[B]`.
    """
    chex.assert_equal_shape([reward, discount, next_value])
    return reward + jnp.where(discount == 0, 0.0, discount * next_value)


def soft_value(q: Array, probability: Array, log_prob: Array, alpha: float | Array) -> Array:
    """Return the soft state value `E_{a ~ pi}[Q(s, a) - alpha log pi(a|s)]`.

    Haarnoja et al. 2018, arXiv:1812.05905, eq. 3; exact over all actions of a discrete space (Christodoulou
    2019, arXiv:1910.07207, eq. 10). With `alpha = 0` the expected action value.

    Args:
        q: `[B, K]` values of K actions.
        probability: `[B, K]` of these actions, with sum 1; ones where K = 1 action was drawn.
        log_prob: `[B, K]` log-probability or log-density of each.
        alpha: temperature.

    Returns:
        `[B]`.
    """
    chex.assert_equal_shape([q, probability, log_prob])
    return (probability * (q - alpha * log_prob)).sum(-1)


def temperature_loss(log_alpha: Array, entropy: Array, target_entropy: float | Array) -> Array:
    """Return `log alpha * (entropy - target)`, whose descent raises alpha while entropy is below its target.

    Haarnoja et al. 2018, arXiv:1812.05905, eq. 18, with `log alpha` in the place of `alpha` as in
    the authors' code, so that the step does not vanish with alpha. All scalars; no gradient flows
    into `entropy`.
    """
    return log_alpha * jax.lax.stop_gradient(entropy - target_entropy)
