"""Fixtures that several test files share."""

import jax
import pytest


@pytest.fixture
def strict_ranks():
    """Refuse arithmetic on unequal ranks: `[B, 1] - [B]` is `[B, B]`, and its loss still falls.

    For the files of `ops` and `replay` only, since distrax itself relies on such arithmetic.
    """
    with jax.numpy_rank_promotion("raise"):
        yield
