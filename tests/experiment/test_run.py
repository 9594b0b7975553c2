"""`run`: the same training as `make_train`, with files and a display around it."""

import json

import jax
import numpy as np
import pytest
from lab import CASES, go, rows_of
from tiny import seed_keys

import purerl
from purerl.experiment.loop import Loop


@pytest.mark.parametrize("case", ["sac-1", pytest.param("ppo-8", marks=pytest.mark.slow)])
def test_agrees_with_the_one_program_form(case, whole):
    """Same keys, same rows, to rounding."""
    finished, cfg, seeds = whole(case), CASES[case].config(), CASES[case].seeds
    train = purerl.make_train(cfg)
    if seeds == 1:
        out = jax.tree.map(lambda leaf: leaf[None], jax.jit(train)(seed_keys(0)[0]))
    else:
        out = jax.jit(jax.vmap(train))(seed_keys(*range(seeds)))
    assert finished.steps.tolist() == np.asarray(out.metrics["step"][0]).tolist()
    for name, values in finished.metrics.items():
        np.testing.assert_allclose(values, out.metrics[name], rtol=2e-3, atol=2e-3, err_msg=name)


def test_steps_and_rows(whole):
    """Steps are counted over all environments, warm-up included; evaluations are when due and at the end."""
    finished = whole("sac-1")
    assert finished.steps.tolist() == [120, 220, 320, 420, 520]
    assert np.isnan(finished.metrics["q/loss"][:, 0]).all()
    assert np.isfinite(finished.metrics["q/loss"][:, 1:]).all()
    known = np.isfinite(finished.metrics["eval/return"])
    assert known.tolist() == [[False, True, False, True, True]]


def test_every_seed_has_its_files(whole):
    """One directory per seed, readable by Spinning Up's plotter."""
    finished, cfg = whole("sac-1"), CASES["sac-1"].config()
    config = json.loads((finished.logdir / "seed0" / "config.json").read_text())
    assert config["seed_index"] == 0 and config["exp_name"] == "sac-pendulum"
    fields = {name: value for name, value in config.items() if name in purerl.config.to_dict(cfg)}
    assert purerl.make_config(**fields) == cfg
    rows, table = rows_of(finished.logdir).values()
    assert {"Epoch", "AverageEpRet", "AverageTestEpRet", "TotalEnvInteracts"} <= table[0].keys()
    assert [int(row["TotalEnvInteracts"]) for row in table] == finished.steps.tolist()
    assert [row["step"] for row in rows] == finished.steps.tolist() and {row["seed"] for row in rows} == {0}
    loss = pytest.approx(finished.metrics["q/loss"][0, -1], rel=1e-5)  # the table has six digits
    assert rows[0]["q/loss"] is None and rows[-1]["q/loss"] == loss
    assert table[0]["LossQ"] == "" and float(table[-1]["LossQ"]) == loss


def test_stops_at_a_return_that_every_member_has_reached(whole):
    """The worst counts; and a run without a directory is the same run."""
    returns = whole("sweep").metrics["eval/return"]
    worst = float(returns[:, 1].min())
    early = go("sweep", None, stop_at_return=worst)
    assert early.steps[-1] == (64 if worst > returns[:, 0].min() else 32) and early.logdir is None
    np.testing.assert_array_equal(early.metrics["eval/return"], returns[:, : len(early.steps)])
    assert go("sweep", None, stop_at_return=1e9).steps[-1] == 160


def test_a_run_keeps_no_more_arrays_the_longer_it_goes_on(whole, monkeypatch):
    """Metrics leave the device row by row, and no state outlives its piece."""
    whole("sweep")
    live, finish_row = [], Loop._finish_row
    count = lambda *args: (live.append(len(jax.live_arrays())), finish_row(*args))[1]
    monkeypatch.setattr(Loop, "_finish_row", count)
    go("sweep", None)
    assert len(live) == 5 and len(set(live[1:])) == 1
