"""Compiler flags and fixtures of all tests."""

import os

import jax
import pytest
from compiling import FLAGS

os.environ.setdefault("XLA_FLAGS", FLAGS)  # read when the first program is compiled


@pytest.fixture
def strict_ranks():
    """Refuse arithmetic on unequal ranks: `[B, 1] - [B]` is `[B, B]`, and its loss still falls.

    For the files of `ops` and `replay` only, since distrax itself relies on such arithmetic.
    """
    with jax.numpy_rank_promotion("raise"):
        yield
