"""Sweeps: one run of one program, with the settings and the files of every member."""

import json

import jax
import lab
import numpy as np
import pytest
from lab import SWEEP_CASE, assert_same
from tiny import assert_close, lane

import purerl
from purerl import ConfigError

RATES, GAMMAS = lab.SWEEP.values()
SETTINGS = [{"learning_rate": rate, "gamma": gamma} for rate in RATES for gamma in GAMMAS]


@pytest.fixture(scope="module")
def swept(whole):
    return whole("sweep")


def test_a_sweep_is_one_run_of_one_program(swept):
    """24 members, a single compilation of each function, and the training of a run of one member."""
    assert swept.metrics["episode/return"].shape == (24, 5) and swept.diverged_at.shape == (24,)
    population = lab.population_of("sweep")
    programs = [name for name, value in vars(population).items() if isinstance(value, jax.stages.Compiled)]
    assert population.members.size == 24 and programs == ["_chunk", "_evaluate", "_finish"]
    assert swept.members == [{"seed_index": i, **setting} for setting in SETTINGS for i in range(3)]
    assert jax.tree.leaves(swept.state.algo)[0].shape[0] == 24
    batched = {name for name, value in population.shapes.hyper.items() if value.shape}
    assert batched == {"learning_rate", "gamma"}, "equal values stay scalars"
    assert len(set(swept.metrics["pi/entropy"][:, -1].tolist())) == 24
    alone = purerl.run(SWEEP_CASE.config(**SETTINGS[5]), 1, progress=False)
    assert_close(lane(alone.state, 0), lane(swept.state, 15))


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


def test_a_stopped_sweep_resumes_its_recorded_settings(swept, halfway):
    """Without `sweep`, or with the same again; another one is refused."""
    path = halfway("sweep")
    cfg = SWEEP_CASE.config()
    for sweep in ({"gamma": [0.9, 0.99]}, lab.SWEEP | {"gamma": [0.9, 0.95]}):
        with pytest.raises(ConfigError, match="settings = "):
            purerl.run(cfg, 3, path, sweep=sweep, resume=True, progress=False)
    assert_same(purerl.run(cfg, 3, path, resume=True, progress=False), swept)
    assert_same(purerl.run(cfg, 3, path, sweep=lab.SWEEP, resume=True, progress=False), swept)
