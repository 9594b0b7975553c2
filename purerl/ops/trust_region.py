"""Natural gradient step of TRPO: Fisher products, conjugate gradients, line search.

Vectors are pytrees with the shapes of the parameters; no matrix is formed.
"""

from __future__ import annotations

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from purerl.types import Array, PyTree

Matvec = Callable[[PyTree], PyTree]
"""`vector -> matrix @ vector`, for a symmetric positive definite matrix."""


def fisher_vector_product(
    mean_kl: Callable[[PyTree], Array], params: PyTree, damping: float | Array
) -> Matvec:
    """Return the product with the damped Fisher matrix, `v -> F v + damping v`.

    At the old parameters the Hessian of KL(old || new) is the Fisher matrix (Schulman et al. 2015,
    arXiv:1502.05477, appendix C.1). The gradient is linearised once, so that all products share
    its forward and backward pass.

    Args:
        mean_kl: `params -> scalar`, the mean over states of KL(old || params).
        params: the old parameters.
        damping: added to the diagonal of F.

    Returns:
        `vector -> vector`.
    """
    _, hessian_product = jax.linearize(jax.grad(mean_kl), params)

    def product(vector: PyTree) -> PyTree:
        chex.assert_trees_all_equal_shapes(params, vector)
        return jax.tree.map(lambda fv, v: fv + damping * v, hessian_product(vector), vector)

    return product


def conjugate_gradient(matvec: Matvec, b: PyTree, num_iters: int) -> PyTree:
    """Return `x` with `A x = b`, by conjugate gradients from 0 (Hestenes & Stiefel 1952, sec. 3).

    Schulman et al. 2015, arXiv:1502.05477, appendix C. `b` is divided by its largest element first, so that
    small gradients do not underflow. The iteration stops at a residual of 0 or a curvature that is not
    positive; NaN propagates.

    Args:
        matvec: `v -> A v`.
        b: the right-hand side; 0 gives exactly 0.
        num_iters: products with A.

    Returns:
        `x`, shaped as `b`.
    """
    residual, scale = _over_largest(b)

    def iterate(_, carry):
        x, residual, direction, square = carry
        product = matvec(direction)
        chex.assert_trees_all_equal_shapes(product, b)
        curvature = _dot(direction, product)
        stop = (curvature <= 0) | (square <= 0)
        alpha = jnp.where(stop, 0.0, square / jnp.where(stop, 1.0, curvature))
        x = _add(x, alpha, direction)
        residual = _add(residual, -alpha, product)
        new_square = _dot(residual, residual)
        beta = new_square / jnp.where(stop, 1.0, square)
        direction = jax.tree.map(lambda p: jnp.where(stop, 0.0, p), _add(residual, beta, direction))
        return x, residual, direction, new_square

    start = (jax.tree.map(jnp.zeros_like, residual), residual, residual, _dot(residual, residual))
    x, *_ = jax.lax.fori_loop(0, num_iters, iterate, start)
    return jax.tree.map(lambda leaf: scale * leaf, x)


def scale_to_limit(matvec: Matvec, direction: PyTree, limit: float | Array) -> PyTree:
    """Return the multiple `s = sqrt(2 limit / x'F x) x` of a direction `x`, for which `s'F s / 2 = limit`.

    Schulman et al. 2015, arXiv:1502.05477, appendix C: to second order the KL of that step is
    `limit`. The result does not depend on the length of `x`; small lengths do not underflow.

    Args:
        matvec: `v -> F v`.
        direction: `x`; if it is 0, or the curvature along it is not positive, the step is 0.
        limit: KL in nats, not negative.

    Returns:
        The step, shaped as `direction`; NaN propagates.
    """
    direction, _ = _over_largest(direction)
    curvature = _dot(direction, matvec(direction))
    flat = curvature <= 0
    factor = jnp.where(flat, 0.0, jnp.sqrt(2.0 * limit / jnp.where(flat, 1.0, curvature)))
    return jax.tree.map(lambda x: factor * x, direction)


def line_search(
    accept: Callable[[PyTree], Array],
    params: PyTree,
    step: PyTree,
    backtrack: float | Array,
    num_steps: int | Array,
) -> tuple[PyTree, Array]:
    """Return the first accepted of `params + backtrack**i step`, i = 0, 1, ....

    Schulman et al. 2015, arXiv:1502.05477, appendix C. It is needed because the linear model of the
    surrogate and the quadratic model of the KL hold near `params` only.

    Args:
        accept: `params -> scalar bool`; must be False for NaN.
        params: the start.
        step: shaped as `params`.
        backtrack: factor between two tries, between 0 and 1.
        num_steps: most tries.

    Returns:
        `(params, fraction)` with the scalar float32 `backtrack**i`; the unchanged params and 0 if none is
        accepted.
    """
    chex.assert_trees_all_equal_shapes(params, step)

    def searching(carry):
        tries, accepted, *_ = carry
        return ~accepted & (tries < num_steps)

    def attempt(carry):
        tries, _, _, params = carry
        fraction = jnp.float32(backtrack) ** tries.astype(jnp.float32)
        candidate = _add(params, fraction, step)
        accepted = accept(candidate)
        chex.assert_shape(accepted, ())
        params = jax.tree.map(lambda new, old: jnp.where(accepted, new, old), candidate, params)
        return tries + 1, accepted, jnp.where(accepted, fraction, 0.0), params

    start = (jnp.int32(0), jnp.bool_(False), jnp.float32(0.0), jax.tree.map(jnp.asarray, params))
    *_, fraction, params = jax.lax.while_loop(searching, attempt, start)
    return params, fraction


def _over_largest(tree: PyTree) -> tuple[PyTree, Array]:
    """Return `tree` over its largest absolute element, and that element; 1 in its place for a zero tree."""
    largest = jnp.stack([jnp.abs(leaf).max(initial=0.0) for leaf in jax.tree.leaves(tree)]).max()
    scale = jnp.where(largest < jnp.finfo(jnp.float32).tiny, 1.0, largest)
    return jax.tree.map(lambda leaf: leaf / scale, tree), scale


def _dot(a: PyTree, b: PyTree) -> Array:
    """Return the inner product of two pytrees; elementwise, since a matrix unit may round to 8 bits."""
    products = jax.tree.map(lambda x, y: (x * y).sum(), a, b)
    return jnp.stack(jax.tree.leaves(products)).sum()


def _add(a: PyTree, factor: Array, b: PyTree) -> PyTree:
    """Return `a + factor b`."""
    return jax.tree.map(lambda x, y: x + factor * y, a, b)
