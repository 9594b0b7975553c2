"""Functions over members: pieces of a run, members that depend on no other, no copies of a replay buffer."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import AS_USERS_DO
from tiny import assert_close, lane, same_bits, seed_keys, tiny

import purerl
from purerl import programs
from purerl.experiment.population import Population
from purerl.members import make_members
from purerl.programs import Snapshot, make_pieces, make_programs, over_members
from purerl.schedule import Schedule
from purerl.train import make_driver

MUTANTS = {
    "one hyper for all": (
        "programs.py",
        "mapped(lambda *args: driver.chunk(*args, pieces.train), 0, None, axes)",
        "mapped(lambda s, t, h: driver.chunk(s, t, {n: v.ravel()[0] for n, v in h.items()}, pieces.train),"
        " 0, None, None)",
        "test_each_member_is_the_run_of_its_values",
    ),
    "best of any member": (
        "programs.py",
        "better = value > best.value",
        "better = (value > best.value).any() | jnp.zeros_like(value, bool)",
        "test_each_member_is_the_run_of_its_values",
    ),
}


def population_of(cfg, seeds=1, sweep=None):
    driver, members = make_driver(cfg), make_members(cfg, seeds, sweep)
    pieces = make_pieces(driver.schedule, members.size)
    return Population(driver, members, pieces, make_programs(driver, members, pieces))


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


SETTING = {"learning_rate": 3e-3, "gamma": 0.99}
SWEEP = {"learning_rate": [1e-4, 1e-3, 3e-3, 1e-2], "gamma": [0.9, 0.99]}


def swept_config(**values):
    fields = dict(total_timesteps=160, log_interval=32, eval_interval=32, hidden_sizes=(4,))
    return tiny("ppo", normalize_obs=True, anneal_lr=True, **fields, **values)


@pytest.fixture(scope="module")
def swept():
    """Return a compiled population of 24 members, its keys and values, and its final snapshot."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(programs, "PIECE_ITERATIONS", 16)
        population = population_of(swept_config(), 3, SWEEP)
    population.compile()
    keys, hyper = population.members.keys(population.cfg), population.members.hyper(population.cfg)
    return population, keys, hyper, trained(population, keys, hyper)


def trained(population, keys, hyper):
    """Return the final snapshot of a compiled population from these keys and values."""
    snapshot = Snapshot(*population._programs.start(keys, hyper), hyper=hyper)
    while not population.is_done(snapshot):
        if population.has_row(snapshot):
            snapshot, _ = population.finish_row(snapshot)
        else:
            snapshot = population.advance(snapshot)
    return snapshot


def test_each_member_is_the_run_of_its_values(swept):
    """All 24, against one program of one member, which takes the values as arguments."""
    population, _, _, together = swept
    alone = population_of(swept_config(**SETTING))
    alone.compile()
    values = alone.members.hyper(alone.cfg)
    for i, facts in enumerate(population.members.facts):
        hyper = {name: jnp.float32(facts.get(name, value)) for name, value in values.items()}
        single = trained(alone, seed_keys(facts["seed_index"]), hyper)
        assert_close(lane(single.state, 0), lane(together.state, i))
        assert_close(lane(single.best.algo, 0), lane(together.best.algo, i))
    assert not same_bits(lane(together.state.algo, 0), lane(together.state.algo, 6)), "settings differ"


def test_a_member_does_not_depend_on_its_neighbours(swept):
    """Every second member keeps its bits while the others get other values, other keys and NaN."""
    population, keys, hyper, before = swept
    odd = np.arange(24) % 2 == 1
    other = jax.tree.map(lambda value: jnp.where(odd, value[::-1], value) if value.ndim else value, hyper)
    other["learning_rate"] = other["learning_rate"].at[5].set(jnp.nan)
    moved = jax.vmap(jax.random.fold_in)(keys, jnp.where(odd, 7, 0))
    mixed = jax.tree.map(lambda new, old: jnp.where(odd, new, old), moved, keys)
    after = trained(population, mixed, other)
    assert after.state.diverged_at.tolist() == [8 if i == 5 else -1 for i in range(24)]
    for i in range(24):
        assert same_bits(lane(after.state, i), lane(before.state, i)) == (i % 2 == 0), i


CAPACITY = 7_919
"""A size that no other axis has."""


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [1, 3])
def test_no_step_copies_the_replay_buffer(seeds):
    """Under a vmap of one member XLA:CPU copied two arrays of it at every step."""
    fields = dict(env="pendulum", total_timesteps=20_000, buffer_size=CAPACITY, hidden_sizes=(8,))
    population = population_of(purerl.make_config("sac", batch_size=8, **fields), seeds)
    state, tallies, _, hyper = population.shapes.arrays.values()
    chunk = population._programs.chunk.lower(state, tallies, jax.ShapeDtypeStruct((), jnp.int32), hyper)
    text = chunk.compile(compiler_options=AS_USERS_DO).as_text()
    found = set(re.findall(rf"= \w+\[(?:\d+,)?{CAPACITY}[\d,]*\]\S* ([\w-]+)\(", text))
    assert found & {"dynamic-update-slice", "scatter"}, "the replay buffer was not found"
    assert "copy" not in found and "select" not in found
