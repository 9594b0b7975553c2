"""`run`: the same training as `make_train`, with files and a display around it."""

import json

import jax
import numpy as np
import pytest

import purerl
from purerl.experiment.program import seed_keys

TINY = dict(env="pendulum", total_timesteps=520, learning_starts=120, log_interval=100, num_envs=2)
TINY |= dict(eval_interval=200, eval_episodes=2, hidden_sizes=(8,), batch_size=8)


@pytest.fixture(scope="module")
def cfg():
    return purerl.make_config("sac", **TINY)


@pytest.fixture(scope="module")
def finished(cfg, tmp_path_factory):
    logdir = tmp_path_factory.mktemp("runs") / "one"
    return purerl.run(cfg, seeds=3, logdir=logdir, progress=False)


def test_agrees_with_the_one_program_form(cfg, finished):
    """The host loop must train exactly as `make_train` does: same keys, same rows, to rounding."""
    out = jax.jit(jax.vmap(purerl.make_train(cfg)))(seed_keys(cfg, 3))
    assert finished.steps.tolist() == np.asarray(out.metrics["step"][0]).tolist()
    for name, values in finished.metrics.items():
        np.testing.assert_allclose(values, out.metrics[name], rtol=2e-3, atol=2e-3, err_msg=name)


def test_a_seed_does_not_depend_on_how_many_there_are(cfg, finished):
    """Keys must come from `fold_in`, so that asking for more seeds keeps the old ones."""
    assert (jax.random.key_data(seed_keys(cfg, 3)) == jax.random.key_data(seed_keys(cfg, 9))[:3]).all()
    split = jax.random.split(jax.random.key(cfg.seed), 9)
    assert (jax.random.key_data(seed_keys(cfg, 9)) == jax.random.key_data(split)).all()


def test_seeds_differ(finished):
    """All seeds the same is the bug of purejaxrl's DQN."""
    assert len(set(finished.metrics["episode/return"][:, -1].tolist())) == 3


def test_warm_up_counts_and_totals_round_up_to_whole_rows(finished):
    """Steps must be counted once, over all environments, warm-up included."""
    assert finished.steps.tolist() == [120, 220, 320, 420, 520]
    assert np.isnan(finished.metrics["q/loss"][:, 0]).all(), "nothing is learned in warm-up"
    assert np.isfinite(finished.metrics["q/loss"][:, 1:]).all()


def test_evaluates_when_due_and_at_the_end(finished):
    """Evaluation at every multiple of eval_interval that a row passes, and after the last row."""
    known = np.isfinite(finished.metrics["eval/return"])
    assert known.tolist() == [[False, True, False, True, True]] * 3


@pytest.mark.parametrize("seed", range(3))
def test_every_seed_has_its_files(finished, cfg, seed):
    """One directory per seed, readable by Spinning Up's plotter; NaN blank in the table, null in JSON."""
    directory = finished.logdir / f"seed{seed}"
    config = json.loads((directory / "config.json").read_text())
    assert config["algo"] == "sac" and config["seed_index"] == seed and config["exp_name"] == "sac-pendulum"
    fields = {name: value for name, value in config.items() if name in purerl.config.to_dict(cfg)}
    assert purerl.make_config(**fields) == cfg
    header, *lines = [line.split("\t") for line in (directory / "progress.txt").read_text().splitlines()]
    assert {"Epoch", "AverageEpRet", "AverageTestEpRet", "TotalEnvInteracts", "Time"} <= set(header)
    table = {name: [line[i] for line in lines] for i, name in enumerate(header)}
    assert [int(step) for step in table["TotalEnvInteracts"]] == finished.steps.tolist()
    assert table["AverageTestEpRet"][0] == "" and table["LossQ"][0] == ""
    assert float(table["LossQ"][-1]) == pytest.approx(finished.metrics["q/loss"][seed, -1], rel=1e-4)
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == finished.steps.tolist() and {row["seed"] for row in rows} == {
        seed
    }
    assert rows[0]["q/loss"] is None
    assert rows[-1]["q/loss"] == pytest.approx(float(finished.metrics["q/loss"][seed, -1]))


def test_nothing_is_overwritten(finished, cfg):
    """A directory that holds a run is refused before anything is compiled, and stays as it is."""
    before = (finished.logdir / "seed0" / "progress.txt").read_bytes()
    with pytest.raises(purerl.ConfigError, match=r"logdir .* already holds a run"):
        purerl.run(cfg, seeds=3, logdir=finished.logdir, progress=False)
    assert (finished.logdir / "seed0" / "progress.txt").read_bytes() == before


@pytest.mark.parametrize("seeds", [0, -1, True, 1.5, "8"])
def test_a_bad_number_of_seeds_is_refused(cfg, seeds):
    """Bad arguments fail with their name and value, before compilation."""
    with pytest.raises(purerl.ConfigError, match="seeds = "):
        purerl.run(cfg, seeds=seeds, progress=False)


def test_stops_at_a_return_that_every_seed_has_reached(cfg):
    """An option that is silently ignored is a defect: any return is above -10,000, so it ends early."""
    run = purerl.run(cfg, seeds=2, stop_at_return=-1e4, progress=False)
    assert run.steps[-1] == 220 and run.metrics["eval/return"].shape == (2, 2)


def test_policies_of_a_run(finished, cfg):
    """`make_policy` picks one of many seeds, acts in the environment's units, and refuses a bad seed."""
    policies = [purerl.make_policy(cfg, finished.state, member=seed) for seed in range(3)]
    obs = jax.random.normal(jax.random.key(1), (5, 3))
    actions = [policy.act(policy.init(5), obs, jax.random.key(0))[0] for policy in policies]
    assert actions[0].shape == (5, 1) and float(abs(actions[0]).max()) <= 2.0
    assert not np.allclose(actions[0], actions[1])
    for seed in (None, 3, -1):
        with pytest.raises(ValueError, match="seeds 0 to 2"):
            purerl.make_policy(cfg, finished.state, member=seed)
    single = jax.tree.map(lambda leaf: leaf[1], finished.state)
    policy = purerl.make_policy(cfg, single)
    assert (policy.act((), obs, None)[0] == actions[1]).all()
    with pytest.raises(ValueError, match="a single seed"):
        purerl.make_policy(cfg, single, member=0)
