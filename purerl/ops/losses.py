"""Losses that more than one algorithm names."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from purerl.types import Array

COEFFICIENT_MIN, COEFFICIENT_MAX = 1e-6, 1e6
"""Beyond these a penalty is already nothing or everything, and the way back would only be longer."""


def policy_gradient(log_prob: Array, advantage: Array) -> Array:
    """The loss whose gradient is the policy gradient's estimate, `-mean(log_prob A)`.

    Williams 1992; with a baseline, Sutton & Barto 2018, eq. 13.11. No gradient flows into the
    advantage.

    Args:
        log_prob: `[B]` of the actions taken.
        advantage: `[B]`.

    Returns:
        Scalar.
    """
    chex.assert_equal_shape([log_prob, advantage])
    return -(log_prob * jax.lax.stop_gradient(advantage)).mean()


def surrogate(log_prob: Array, old_log_prob: Array, advantage: Array) -> Array:
    """TRPO's policy loss `-mean(ratio A)`, without the constraint that keeps the ratio near 1.

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
    """PPO's clipped policy loss (Schulman et al. 2017, arXiv:1707.06347, eq. 7, negated).

    `-mean(min(ratio A, clip(ratio, 1 - eps, 1 + eps) A))` with `ratio = exp(log_prob - old_log_prob)`.

    Args:
        log_prob: `[B]` of the policy being optimised.
        old_log_prob: `[B]` of the policy that acted.
        advantage: `[B]`.
        clip_eps: how far the ratio may move and still gain.

    Returns:
        Scalar.
    """
    chex.assert_equal_shape([log_prob, old_log_prob, advantage])
    ratio = _ratio(log_prob, old_log_prob)
    clipped = jnp.clip(ratio, 1.0 - clip_eps, 1.0 + clip_eps)
    return -jnp.minimum(ratio * advantage, clipped * advantage).mean()


def _ratio(log_prob: Array, old_log_prob: Array) -> Array:
    """`exp(log_prob - old_log_prob)`, finite and with a finite gradient."""
    return jnp.exp(jnp.clip(log_prob - old_log_prob, -20.0, 20.0))  # exp overflows at 88: NaN gradients


def half_mean_square(error: Array) -> Array:
    """`mean(error^2) / 2`, whose gradient is `mean(error)`. Any shape to a scalar."""
    return 0.5 * jnp.square(error).mean()


def clipped_value_loss(value: Array, old_value: Array, target: Array, clip_eps: float | Array) -> Array:
    """PPO's value loss, which does not gain from moving further than `clip_eps` from the old value.

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
    """The KL penalty's coefficient for the next update: halved, doubled or as it was.

    Halved where `kl < kl_target / 1.5` and doubled where `kl > 1.5 kl_target` (Schulman et al. 2017,
    arXiv:1707.06347, section 4), but kept between `COEFFICIENT_MIN` and `COEFFICIENT_MAX`, so that
    it never reaches 0 or infinity. A KL that is NaN changes nothing. All scalars.
    """
    chex.assert_equal_shape([coef, kl])
    factor = jnp.where(kl < kl_target / 1.5, 0.5, jnp.where(kl > kl_target * 1.5, 2.0, 1.0))
    return jnp.clip(coef * factor, COEFFICIENT_MIN, COEFFICIENT_MAX)


def approximate_kl(log_prob: Array, old_log_prob: Array) -> Array:
    """KL(old || new) from samples of old: `mean(ratio - 1 - log ratio)`, never negative.

    Schulman's low-variance estimator (joschu.net/blog/kl-approx, "k3").

    Args:
        log_prob: `[B]` of the new policy.
        old_log_prob: `[B]` of the policy that the samples came from.

    Returns:
        Scalar.
    """
    chex.assert_equal_shape([log_prob, old_log_prob])
    log_ratio = log_prob - old_log_prob
    return (jnp.expm1(log_ratio) - log_ratio).mean()


def standardize(x: Array, eps: float = 1e-8) -> Array:
    """`x` to mean 0 and (population) standard deviation 1; a constant or single value gives 0.

    `[...]` to the same shape. `eps` is added to the variance.
    """
    centred = x - x.mean()
    centred = centred - centred.mean()  # the first mean of a large constant is off by a rounding
    return centred * jax.lax.rsqrt(jnp.square(centred).mean() + eps)


def explained_variance(prediction: Array, target: Array) -> Array:
    """`1 - Var(target - prediction) / Var(target)`: 1 is perfect, 0 no better than a constant.

    Both `[...]`; scalar, NaN where the target is constant.
    """
    chex.assert_equal_shape([prediction, target])
    variance = target.var()
    return jnp.where(variance > 0, 1.0 - (target - prediction).var() / variance, jnp.nan)


def soft_td_target(
    reward: Array,
    terminated: Array,
    next_q: Array,
    next_log_prob: Array,
    alpha: float | Array,
    gamma: float | Array,
) -> Array:
    """SAC's critic target `r + gamma (1 - terminated) (Q'(s', a') - alpha log pi(a'|s'))`.

    Haarnoja et al. 2018, arXiv:1812.05905, eq. 3 and 6. With `alpha = 0` the one-step TD target.

    Args:
        reward: `[B]`.
        terminated: `[B]` bool; truncated steps bootstrap like any other.
        next_q: `[B]` the smaller target critic at `next_obs` and `a' ~ pi`.
        next_log_prob: `[B]` log-density of that `a'`.
        alpha: temperature.
        gamma: discount.

    Returns:
        `[B]`.
    """
    chex.assert_equal_shape([reward, terminated, next_q, next_log_prob])
    return reward + gamma * jnp.where(terminated, 0.0, next_q - alpha * next_log_prob)


def temperature_loss(log_alpha: Array, entropy: Array, target_entropy: float | Array) -> Array:
    """`log alpha * (entropy - target)`: descending it raises alpha while entropy is short.

    Haarnoja et al. 2018, arXiv:1812.05905, eq. 18, with `log alpha` in the place of `alpha` as in
    the authors' code, so that the step does not vanish with alpha. All scalars; no gradient flows
    into `entropy`.
    """
    return log_alpha * jax.lax.stop_gradient(entropy - target_entropy)
