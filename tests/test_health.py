"""Divergence: which numbers are seen. What becomes of the member is in tests/contracts/test_algorithms.py."""

import jax
import jax.numpy as jnp
import pytest

from purerl import health

SOUND = {"alpha": jnp.float32(0.5), "bias": jnp.ones(3), "kernel": jnp.ones((2, 3)), "count": jnp.int32(7)}
"""A scalar, a vector and a matrix of floats, and a whole number, as a learner has them."""


@pytest.mark.parametrize("number", [jnp.nan, jnp.inf, -jnp.inf])
@pytest.mark.parametrize("name", ["alpha", "bias", "kernel"])
def test_one_number_that_is_not_finite_is_seen(name, number):
    """The last one of a leaf of any rank, for the member that has it."""
    leaf = SOUND[name].ravel().at[-1].set(number).reshape(SOUND[name].shape)
    members = jax.tree.map(lambda *leaves: jnp.stack(leaves), SOUND, SOUND | {name: leaf}, SOUND)
    assert jax.vmap(health.all_finite)(members).tolist() == [True, False, True]


@pytest.mark.parametrize("tree", [{}, {"count": jnp.int32(7)}, {"kernel": jnp.ones((2, 3))}])
def test_a_learner_without_vectors_is_sound(tree):
    """Nor without any floats."""
    assert bool(health.all_finite(tree))


MUTANTS = {
    "no matrix is looked at": (
        "health.py",
        "[leaf for leaf in floats if leaf.ndim > 1] + (",
        "(",
        "test_one_number_that_is_not_finite_is_seen",
    ),
    "no scalar is looked at": (
        "health.py",
        "[leaf.ravel() for leaf in floats if leaf.ndim <= 1]",
        "[leaf.ravel() for leaf in floats if leaf.ndim == 1]",
        "test_one_number_that_is_not_finite_is_seen",
    ),
    "no vector is looked at": (
        "health.py",
        " + ([jnp.concatenate(vectors)] if vectors else [])",
        "",
        "test_one_number_that_is_not_finite_is_seen",
    ),
    "there are always vectors": (
        "health.py",
        "([jnp.concatenate(vectors)] if vectors else [])",
        "[jnp.concatenate(vectors)]",
        "test_a_learner_without_vectors_is_sound",
    ),
}
"""Breakages of `purerl` that a test here has to notice: see tests/mutants.py."""
