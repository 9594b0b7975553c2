"""Functions over members: one member as many, pieces of a run, and no copies of a replay buffer."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import AS_USERS_DO

import purerl
from purerl import programs
from purerl.experiment.population import Population
from purerl.members import Members
from purerl.programs import make_pieces, make_programs, over_members
from purerl.schedule import Schedule
from purerl.train import make_driver


def test_one_member_is_as_many():
    """The axis of members is there with one member too, and functions see what vmap shows them."""
    function = lambda a, b: {"sum": a["x"] + b, "shape": jnp.zeros(a["x"].shape)}
    x = jnp.arange(6.0).reshape(3, 2)
    many = over_members(function, (0, None), 3)({"x": x}, 1.0)
    alone = over_members(function, (0, None), 1)({"x": x[1:2]}, 1.0)
    jax.tree.map(lambda one, all: np.testing.assert_array_equal(one, all[1:2]), alone, many)


def test_pieces_divide_the_warm_up_and_the_rows(monkeypatch):
    monkeypatch.setattr(programs, "PIECE_ITERATIONS", 16)
    for iterations in (1, 7, 48, 101, 997):
        for members in (1, 5, 24):
            schedule = Schedule(4 * iterations, 4, iterations, 3)
            warmup, train = make_pieces(schedule, members, most_steps=2_000)
            assert iterations % warmup == iterations % train == 0
            assert train == 1 or (train * members <= 16 and train * members * 4 <= 2_000)
    assert [make_pieces(Schedule(0, 4, 48, 3), members) for members in (1, 2)] == [(1, 16), (1, 8)]


CAPACITY = 7_919
"""A size that no other axis has."""


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [1, 3])
def test_no_step_copies_the_replay_buffer(seeds):
    """Under a vmap of one member XLA:CPU copied two arrays of it at every step."""
    fields = dict(env="pendulum", total_timesteps=20_000, buffer_size=CAPACITY, hidden_sizes=(8,))
    driver, members = make_driver(purerl.make_config("sac", batch_size=8, **fields)), Members(seeds)
    pieces = make_pieces(driver.schedule, seeds)
    population = Population(driver, members, pieces, make_programs(driver, members, pieces))
    state, tallies, _, hyper = population.shapes.arrays.values()
    chunk = population._programs.chunk.lower(state, tallies, jax.ShapeDtypeStruct((), jnp.int32), hyper)
    text = chunk.compile(compiler_options=AS_USERS_DO).as_text()
    found = set(re.findall(rf"= \w+\[(?:\d+,)?{CAPACITY}[\d,]*\]\S* ([\w-]+)\(", text))
    assert found & {"dynamic-update-slice", "scatter"}, "the replay buffer was not found"
    assert "copy" not in found and "select" not in found
