"""Compiler flags and fixtures of all tests."""

import gc
import os

import jax
import pytest
from compiling import FLAGS

os.environ.setdefault("XLA_FLAGS", FLAGS)  # read when the first program is compiled
jax.config.update("jax_num_cpu_devices", 2)  # the second one for runs whose members are spread


@pytest.fixture
def strict_ranks():
    """Refuse arithmetic on unequal ranks: `[B, 1] - [B]` is `[B, B]`, and its loss still falls.

    For the files of `ops` and `replay` only, since distrax itself relies on such arithmetic.
    """
    with jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture(scope="module")
def compiled():
    """A list that grows with every compilation by XLA."""
    events = []
    listen = lambda event, seconds, **_: events.append(event) if "backend_compile" in event else None
    jax.monitoring.register_event_duration_secs_listener(listen)
    jax.jit(lambda x: x + 12345).lower(0.0).compile()
    assert events, "the listener hears nothing"
    yield events
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.fixture
def no_collection():
    """Keep the garbage collector, which late in a session takes a second, out of what a test measures."""
    gc.disable()
    yield
    gc.enable()
