"""The compiled pieces of a run."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import AS_USERS_DO

import purerl
from purerl.experiment.program import Program, make_pieces, over_seeds

CAPACITY = 7_919
"""A size that no other axis has."""


def memory_operations(seeds: int) -> set[str]:
    """What a run's compiled chunk makes arrays of the memory's size with."""
    fields = dict(env="pendulum", total_timesteps=20_000, buffer_size=CAPACITY, hidden_sizes=(8,))
    cfg = purerl.make_config("sac", batch_size=8, **fields)
    driver = purerl.make_driver(cfg)
    program = Program(driver, cfg, seeds, make_pieces(driver.schedule, seeds))
    state, tallies, _, hyper = program.shapes[:4]
    chunk = program._functions.chunk.lower(state, tallies, jax.ShapeDtypeStruct((), jnp.int32), hyper)
    text = chunk.compile(compiler_options=AS_USERS_DO).as_text()
    return set(re.findall(rf"= \w+\[(?:\d+,)?{CAPACITY}[\d,]*\]\S* ([\w-]+)\(", text))


@pytest.mark.parametrize("seeds", [1, 3])
def test_no_step_copies_the_whole_memory(seeds):
    """Under a vmap of one seed XLA:CPU copied two arrays of the memory at every step."""
    found = memory_operations(seeds)
    assert found & {"dynamic-update-slice", "scatter"}, "the memory was not found"
    assert "copy" not in found and "select" not in found


def test_one_seed_is_as_many():
    """The axis of seeds is there with one seed too, and functions see what vmap shows them."""
    function = lambda a, b: {"sum": a["x"] + b, "shape": jnp.zeros(a["x"].shape)}
    x = jnp.arange(6.0).reshape(3, 2)
    many = over_seeds(function, (0, None), 3)({"x": x}, 1.0)
    alone = over_seeds(function, (0, None), 1)({"x": x[1:2]}, 1.0)
    jax.tree.map(lambda one, all: np.testing.assert_array_equal(one, all[1:2]), alone, many)
