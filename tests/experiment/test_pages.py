"""Replay memories that take up room only as they fill: the same zeros, and no time to write them."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl.envs.mujoco import native
from purerl.envs.mujoco.engine.physics import EngineError
from purerl.experiment import pages
from purerl.replay import ring

ROWS = 2**20
"""Of 1,024 + 12 bytes: more than a gigabyte."""


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def start(rows: int = ROWS):
    row = {"obs": jax.ShapeDtypeStruct((256,), jnp.float32), "small": jax.ShapeDtypeStruct((3,), jnp.int32)}
    state = {"memory": ring.init(row, rows), "other": jnp.ones((1_024, 1_024))}
    return pages.untouched(state)


def test_a_gigabyte_costs_nothing_before_it_is_used():
    """Zeros must be zeros also where the allocator hands out what somebody else has written to."""
    dirty = jax.block_until_ready(jnp.full((ROWS, 256), 7.0))
    del dirty
    before = resident()
    state = jax.block_until_ready(jax.jit(start)())
    assert resident() - before < 100e6
    obs = state["memory"].data["obs"]
    assert obs.shape == (ROWS, 256) and obs.dtype == jnp.float32
    assert not np.asarray(obs).any() and not np.asarray(state["memory"].data["small"]).any()
    assert (state["other"] == 1).all() and state["memory"].size == 0


def test_it_is_written_in_place():
    """The first write must not touch the rest: donated, the memory stays where it is."""
    state = jax.block_until_ready(jax.jit(start)())["memory"]
    add = jax.jit(ring.add, donate_argnums=0)
    rows = {"obs": jnp.full((2, 256), 3.0), "small": jnp.ones((2, 3), jnp.int32)}
    before = resident()
    state = jax.block_until_ready(add(state, rows))
    assert resident() - before < 100e6
    assert (state.data["obs"][:2] == 3).all() and state.size == 2 and not state.data["obs"][2:100].any()


@pytest.mark.parametrize("reason", ["small", "no compiler"])
def test_otherwise_it_is_as_it_was(monkeypatch, reason):
    """Small memories, and machines without a compiler, get plain zeros."""

    def fail():
        assert reason == "no compiler", "nothing is compiled for a small memory"
        raise EngineError("no C++ compiler was found")

    monkeypatch.setattr(native, "_library", fail)
    if reason == "no compiler":
        monkeypatch.setattr(pages, "LARGE", 0)
    state = jax.jit(lambda: start(100))()  # a trace of its own
    assert state["memory"].data["obs"].shape == (100, 256) and not state["memory"].data["obs"].any()
