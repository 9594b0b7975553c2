"""Weight initialisers without LAPACK.

`orthogonal` of JAX and flax factorises by QR. XLA:CPU runs a *batched* QR on the thread pool that waits for
it, so that a program vmapped over seeds can deadlock on a machine with few cores.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from purerl.types import Array, Key


def orthogonal(scale: float = 1.0) -> Callable[..., Array]:
    """Return an initialiser of Haar-distributed orthogonal matrices times `scale` (arXiv:1312.6120).

    Gram-Schmidt on the columns of a Gaussian matrix, each projected twice, which keeps `Q'Q = I` to about
    1e-6 in float32 (Giraud et al. 2005). As in flax, axes before the last are flattened, and a wide matrix
    has orthonormal rows.

    Returns:
        `init(key, shape, dtype=float32) -> [*shape]`.
    """

    def init(key: Key, shape: tuple[int, ...], dtype=jnp.float32) -> Array:
        columns = shape[-1]
        rows = 1
        for size in shape[:-1]:
            rows *= size
        gaussian = jax.random.normal(key, (max(rows, columns), min(rows, columns)), dtype)
        basis = _gram_schmidt(gaussian)
        return jnp.asarray(scale, dtype) * (basis if rows >= columns else basis.T).reshape(shape)

    return init


def _gram_schmidt(matrix: Array) -> Array:
    """Return orthonormal columns with the span of those of `matrix [m, n]`, m >= n, by Gram-Schmidt."""

    def column(i, basis):
        vector = jax.lax.dynamic_index_in_dim(matrix, i, 1, keepdims=False)
        for _ in range(2):  # a single projection has an error that grows with the condition number
            vector = vector - basis @ (basis.T @ vector)
        vector = vector / jnp.linalg.norm(vector)
        return jax.lax.dynamic_update_index_in_dim(basis, vector, i, 1)

    return jax.lax.fori_loop(0, matrix.shape[1], column, jnp.zeros_like(matrix))
