"""Populations: a sweep is one run and one program, and no member depends on another."""

import json

import jax
import jax.numpy as jnp
import lab
import numpy as np
import pytest
from lab import SWEEP_CASE, assert_same
from tiny import assert_close, lane, same_bits, seed_keys

import purerl
from purerl import ConfigError
from purerl.programs import Snapshot

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
RATES, GAMMAS = lab.SWEEP.values()
SETTINGS = [{"learning_rate": rate, "gamma": gamma} for rate in RATES for gamma in GAMMAS]


@pytest.fixture(scope="module")
def swept(whole):
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
    assert len(set(swept.metrics["pi/entropy"][:, -1].tolist())) == 24


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
    single = purerl.run(SWEEP_CASE.config(**SETTINGS[5]), 1, progress=False)
    assert_close(lane(single.state, 0), lane(swept.state, 15))
    (alone,) = lab.populations("sweep", seeds=1, **SETTINGS[5])
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
