"""The orthogonal initialiser: orthogonal, Haar-distributed, and without LAPACK."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from purerl.ops.initializers import orthogonal

SQUARE = 4


@pytest.fixture(scope="module")
def samples():
    """2,000 square matrices of ours, and as many Haar-distributed ones, which flax's are too."""
    keys = jax.random.split(jax.random.key(0), 2000)
    ours = jax.jit(jax.vmap(lambda key: orthogonal()(key, (SQUARE, SQUARE))))(keys)
    return np.asarray(ours), stats.ortho_group.rvs(SQUARE, size=2000, random_state=1)


@pytest.mark.parametrize("shape", [(256, 256), (256, 17), (1, 5), (3, 3, 4, 8), (2, 3, 32)], ids=str)
def test_columns_or_rows_are_orthonormal(shape):
    """To 1e-5, which one pass of Gram-Schmidt does not reach, with the axes flattened as in flax."""
    matrix = np.asarray(jax.jit(orthogonal(), static_argnums=1)(jax.random.key(0), shape))
    assert matrix.shape == shape and matrix.dtype == np.float32
    matrix = matrix.reshape(-1, shape[-1]).astype(np.float64)
    gram = matrix.T @ matrix if matrix.shape[0] >= matrix.shape[1] else matrix @ matrix.T
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-5)


def test_scale_multiplies():
    """The scale is of the matrix, so that a policy's last layer really is small."""
    plain, scaled = (orthogonal(s)(jax.random.key(3), (6, 4)) for s in (1.0, 0.01))
    np.testing.assert_allclose(scaled, 0.01 * plain, rtol=1e-6)


def test_keys_differ():
    """Two layers do not start alike."""
    first, second = (orthogonal()(jax.random.key(seed), (4, 4)) for seed in (0, 1))
    assert np.abs(first - second).max() > 0.1


def test_entries_are_those_of_a_haar_matrix(samples):
    """Every entry has mean 0 and variance 1 / n, and its square is Beta(1/2, (n - 1) / 2)."""
    ours, _ = samples
    np.testing.assert_allclose(ours.mean(0), 0, atol=5 * np.sqrt(1 / SQUARE / len(ours)))
    np.testing.assert_allclose((ours**2).mean(0), 1 / SQUARE, atol=0.03)
    haar = stats.beta(0.5, (SQUARE - 1) / 2)
    for entry in np.ndindex(SQUARE, SQUARE):
        assert stats.kstest(ours[:, *entry] ** 2, haar.cdf).pvalue > 1e-4, entry


@pytest.mark.parametrize(
    "statistic",
    [
        lambda q: np.trace(q, axis1=1, axis2=2),
        lambda q: np.trace(q @ q, axis1=1, axis2=2),
        lambda q: q[:, 0, 0] * q[:, 1, 1],
        lambda q: np.trace(q @ q @ q, axis1=1, axis2=2),
    ],
    ids=["trace", "trace of square", "product", "trace of cube"],
)
def test_distributed_as_haar_matrices(samples, statistic):
    """Statistics of whole matrices agree too: a wrong sign convention shows in the trace."""
    ours, haar = map(statistic, samples)
    assert stats.ks_2samp(ours, haar).pvalue > 1e-3


def test_both_orientations_occur(samples):
    """Half of all matrices are rotations and half reflections."""
    rotations = (np.linalg.det(samples[0]) > 0).mean()
    assert abs(rotations - 0.5) < 0.05


def test_same_under_vmap_and_without_lapack():
    """A seed starts alike alone and among others, and no batched LAPACK call can hang."""
    init, keys = lambda key: orthogonal(1.4)(key, (64, 32)), jax.random.split(jax.random.key(0), 3)
    program = jax.jit(jax.vmap(init)).lower(keys).compile()
    together, alone = program(keys), jnp.stack([jax.jit(init)(key) for key in keys])
    np.testing.assert_allclose(together, alone, atol=2e-6)
    calls = re.findall(r'custom_call_target="([^"]*)"', program.as_text())
    assert not [name for name in calls if name.startswith("lapack_")]


MUTANTS = {
    "orthogonal: one pass": (
        "ops/initializers.py",
        "range(2)",
        "range(1)",
        "test_columns_or_rows_are_orthonormal",
    ),
    "orthogonal: wide is scrambled": (
        "ops/initializers.py",
        "(basis if rows >= columns else basis.T)",
        "basis",
        "test_columns_or_rows_are_orthonormal",
    ),
    "orthogonal: no scale": (
        "ops/initializers.py",
        "return jnp.asarray(scale, dtype) * (",
        "return (",
        "test_scale_multiplies",
    ),
    "orthogonal: not Haar": (
        "ops/initializers.py",
        "jax.random.normal(key, (max",
        "jax.random.uniform(key, (max",
        "test_entries_are_those_of_a_haar_matrix",
    ),
    "orthogonal: QR's signs": (
        "ops/initializers.py",
        "vector / jnp.linalg.norm(vector)",
        "vector / jnp.linalg.norm(vector) * -jnp.sign(vector[i])",
        "test_distributed_as_haar_matrices",
    ),
    "orthogonal: LAPACK": (
        "ops/initializers.py",
        "= _gram_schmidt(gaussian)",
        "= jnp.linalg.qr(gaussian)[0]",
        "test_same_under_vmap_and_without_lapack",
    ),
}
