"""Populations: a sweep is one run and one program, and no member depends on another."""

import json
import re

import jax
import jax.numpy as jnp
import lab
import numpy as np
import pytest
from compiling import AS_USERS_DO
from lab import SWEEP_CASE, assert_same
from tiny import assert_close, lane, same_bits, seed_keys

import purerl
from purerl import ConfigError
from purerl.experiment.population import Population
from purerl.members import Members
from purerl.programs import Snapshot, make_pieces, make_programs, over_members
from purerl.schedule import Schedule
from purerl.train import make_driver

MUTANTS = {
    "one hyper for all": (
        "programs.py",
        "learn = mapped(lambda *args: driver.chunk(*args, pieces.train), 0, None, axes)",
        "def one(state, step, hyper):\n"
        "        hyper = {name: value.ravel()[0] for name, value in hyper.items()}\n"
        "        return driver.chunk(state, step, hyper, pieces.train)\n\n"
        "    learn = mapped(one, 0, None, None)",
        "test_each_member_is_the_run_of_its_values",
    ),
    "best of any member": (
        "programs.py",
        "better = value > best.value",
        "better = (value > best.value).any() | jnp.zeros_like(value, bool)",
        "test_each_member_is_the_run_of_its_values",
    ),
    "recorded sweep forgotten": (
        "experiment/runner.py",
        "members = members._replace(settings=members_of(old).settings)",
        "pass",
        "test_a_stopped_sweep_resumes_its_recorded_settings",
    ),
}
RATES, GAMMAS = lab.SWEEP.values()
SETTINGS = [{"learning_rate": rate, "gamma": gamma} for rate in RATES for gamma in GAMMAS]


@pytest.fixture(scope="module")
def swept(whole):
    """The sweep of 4 learning rates x 2 gammas x 3 seeds."""
    return whole("sweep")


def test_a_sweep_is_one_run_of_one_program(swept):
    """24 members, and a single compilation of each function."""
    assert swept.metrics["episode/return"].shape == (24, 5) and swept.diverged_at.shape == (24,)
    (population,) = lab.populations("sweep")
    assert population.members.size == 24 and population.compiled == ["chunk", "evaluate", "finish"]
    assert swept.members == [{"seed_index": i, **setting} for setting in SETTINGS for i in range(3)]
    assert jax.tree.leaves(swept.state.algo)[0].shape[0] == 24
    batched = {name for name, value in population.shapes.hyper.items() if value.shape}
    assert batched == {"learning_rate", "gamma"}, "equal values stay scalars"


def test_plain_seeds_have_scalar_hyper(whole):
    whole("sac-1")
    (population,) = lab.populations("sac-1")
    assert all(value.shape == () for value in population.shapes.hyper.values())


def test_files_of_each_member_have_its_values(swept):
    found = {path.name for path in swept.logdir.iterdir() if path.is_dir()} - {"checkpoints"}
    prefixes = [f"learning_rate={s['learning_rate']}_gamma={s['gamma']}_" for s in SETTINGS]
    names = [f"{prefix}seed{i}" for prefix in prefixes for i in range(3)]
    assert len(found) == 24 and found == set(names)
    for i, name in enumerate(names):
        config = json.loads((swept.logdir / name / "config.json").read_text())
        values = {field: config[field] for field in ("seed_index", "learning_rate", "gamma")}
        assert values == swept.members[i]
        rows = [json.loads(line) for line in (swept.logdir / name / "metrics.jsonl").read_text().splitlines()]
        returns = [row["episode/return"] for row in rows]
        np.testing.assert_array_equal(np.float32(returns), swept.metrics["episode/return"][i])


@pytest.fixture(scope="module")
def single(swept):
    """The run of a single member: the first seed of one setting of the sweep."""
    cfg = SWEEP_CASE.config(**SETTINGS[5])
    return purerl.run(cfg, 1, progress=False)


def trained(population, keys, hyper):
    """Return the final snapshot of a compiled population from these keys and values."""
    snapshot = Snapshot(*population._programs.start(keys, hyper), hyper=hyper)
    while not population.is_done(snapshot):
        if population.has_row(snapshot):
            snapshot, _ = population.finish_row(snapshot)
        else:
            snapshot = population.advance(snapshot)
    return snapshot


def test_each_member_is_the_run_of_its_values(swept, single):
    """All 24, against one program of one member, which takes the values as arguments."""
    assert_close(lane(single.state, 0), lane(swept.state, 15))
    known = [one for one in lab.KNOWN.values() if isinstance(one, Population)]
    (alone,) = (one for one in known if one.cfg == SWEEP_CASE.config(**SETTINGS[5]))
    values = alone.members.hyper(alone.cfg)
    best = purerl.load(swept.logdir, best=True)[1]
    for i, facts in enumerate(swept.members):
        hyper = {name: jnp.float32(facts.get(name, value)) for name, value in values.items()}
        snapshot = trained(alone, seed_keys(facts["seed_index"]), hyper)
        assert_close(lane(snapshot.state, 0), lane(swept.state, i))
        assert_close(lane(snapshot.best.algo, 0), lane(best.algo, i))
    assert not same_bits(lane(swept.state.algo, 0), lane(swept.state.algo, 6)), "settings differ"


def test_a_member_does_not_depend_on_its_neighbours(swept):
    """Every second member keeps its bits while the others get other values, other keys and NaN."""
    (population,) = lab.populations("sweep")
    keys, hyper = population.members.keys(population.cfg), population.members.hyper(population.cfg)
    odd = np.arange(24) % 2 == 1
    other = jax.tree.map(lambda value: jnp.where(odd, value[::-1], value) if value.ndim else value, hyper)
    other["learning_rate"] = other["learning_rate"].at[5].set(jnp.nan)
    moved = jax.vmap(jax.random.fold_in)(keys, jnp.where(odd, 7, 0))
    mixed = jax.tree.map(lambda new, old: jnp.where(odd, new, old), moved, keys)
    snapshot = trained(population, mixed, other)
    assert snapshot.state.diverged_at.tolist() == [8 if i == 5 else -1 for i in range(24)]
    for i in range(24):
        assert same_bits(lane(snapshot.state, i), lane(swept.state, i)) == (i % 2 == 0), i


def test_a_stopped_sweep_resumes_its_recorded_settings(swept, halfway):
    """Without `sweep`, or with the same again; another one is refused."""
    path = halfway("sweep")
    cfg = SWEEP_CASE.config()
    for sweep in ({"gamma": [0.9, 0.99]}, lab.SWEEP | {"gamma": [0.9, 0.95]}):
        with pytest.raises(ConfigError, match="settings = "):
            purerl.run(cfg, 3, path, sweep=sweep, resume=True, progress=False)
    with pytest.raises(ConfigError, match="seeds = 2"):
        purerl.run(cfg, 2, path, resume=True, progress=False)
    assert_same(purerl.run(cfg, 3, path, resume=True, progress=False), swept)
    assert_same(purerl.run(cfg, 3, path, sweep=lab.SWEEP, resume=True, progress=False), swept)


def test_policies_and_best_policies_of_a_sweep(swept):
    cfg, state = purerl.load(swept.logdir)
    assert cfg == SWEEP_CASE.config() and same_bits(state, swept.state)
    best = purerl.load(swept.logdir, best=True)[1]
    obs = jax.random.normal(jax.random.key(1), (64, 4))
    for tree in (state, best):
        acts = [purerl.make_policy(cfg, tree, member=i) for i in (0, 23)]
        actions = [policy.act(policy.init(64), obs, jax.random.key(0))[0] for policy in acts]
        assert actions[0].shape == (64,) and (actions[0] != actions[1]).any()
    with pytest.raises(ConfigError, match="member = 24: expected 0 to 23"):
        purerl.make_policy(cfg, state, member=24)


# Functions over members


def test_one_member_is_as_many():
    """The axis of members is there with one member too, and functions see what vmap shows them."""
    function = lambda a, b: {"sum": a["x"] + b, "shape": jnp.zeros(a["x"].shape)}
    x = jnp.arange(6.0).reshape(3, 2)
    many = over_members(function, (0, None), 3)({"x": x}, 1.0)
    alone = over_members(function, (0, None), 1)({"x": x[1:2]}, 1.0)
    jax.tree.map(lambda one, all: np.testing.assert_array_equal(one, all[1:2]), alone, many)


def test_pieces_divide_the_warm_up_and_the_rows():
    for iterations in (1, 7, 48, 101, 997):
        for members in (1, 5, 24):
            schedule = Schedule(4 * iterations, 4, iterations, 3)
            warmup, train = make_pieces(schedule, members, most_steps=2_000)
            assert iterations % warmup == iterations % train == 0
            assert train == 1 or (train * members <= lab.PIECE_ITERATIONS and train * members * 4 <= 2_000)
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
