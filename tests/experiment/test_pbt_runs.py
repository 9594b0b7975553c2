"""Runs with population-based training: exact to resume, logged, and from the command line."""

import json

import lab
import numpy as np
import pytest
from tiny import tiny

import purerl
from purerl import PBT, Range
from purerl.cli import main
from purerl.config import ConfigError
from purerl.experiment.signals import Interrupted

MUTANTS = {
    "fields are the first ones again": (
        "experiment/population.py",
        "hyper = snapshot.hyper if self.pbt else self.members.hyper(self.cfg)",
        "hyper = self.members.hyper(self.cfg)",
        "test_a_resumed_run_is_that_of_one_that_was_not_stopped",
    ),
    "one key for all rounds": (
        "experiment/population.py",
        "STREAM), snapshot.step)",
        "STREAM), 0)",
        "test_rounds_have_keys_of_their_own",
    ),
    "the round before the row is missed": (
        "experiment/loop.py",
        "        self._remember(row)\n        self._rank(row)\n        measured",
        "        self._remember(row)\n        measured",
        "test_rounds_are_by_the_newest_returns",
    ),
    "a copy counts with its own old return": (
        "experiment/loop.py",
        "row |= chosen\n            self._rank(row)",
        "row |= chosen",
        "test_between_two_evaluations_a_copy_counts_as_its_parent",
    ),
    "a resumed run ranks copies by their own old returns": (
        "experiment/loop.py",
        "            self._rank(row)\n            display",
        "            display",
        "test_between_two_evaluations_a_copy_counts_as_its_parent",
    ),
    "the carry of a member that diverged stays": (
        "experiment/population.py",
        "carry=found.carry, ",
        "",
        "test_a_member_that_diverged_learns_on_from_another",
    ),
    "the record forgets": (
        "experiment/runner.py",
        '"pbt": to_plain(pbt) if pbt else {}',
        '"pbt": {}',
        "test_a_resumed_run_is_that_of_one_that_was_not_stopped",
    ),
}
RATES = [1e-4, 1e-3, 1e-2, 1e-1]
SETTINGS = PBT({"learning_rate": Range(1e-5, 0.5, True)}, 32, fraction=0.5)


def config(algo, **fields):
    own = dict(total_timesteps=240, checkpoint_interval=32, eval_interval=32, log_interval=16)
    return tiny(algo, "pendulum" if algo == "sac" else "cartpole", **(own | fields))


def go(algo, path, **options):
    sweep = None if options.get("resume") else {"learning_rate": RATES}
    pbt = None if options.get("resume") else SETTINGS
    return purerl.run(config(algo), 1, path, sweep=sweep, pbt=pbt, progress=False, **options)


@pytest.mark.parametrize("algo", ["a2c", pytest.param("sac", marks=pytest.mark.slow)])
def test_a_resumed_run_is_that_of_one_that_was_not_stopped(algo, tmp_path, monkeypatch):
    """To the bit, wherever it was stopped: fields that changed, parents and what is learned included."""
    whole = go(algo, tmp_path / "whole")
    parents = whole.metrics["pbt/parent"]
    assert np.isfinite(parents).any() and len(np.unique(whole.metrics["hyper/learning_rate"])) > 4
    for i, (phase, step) in enumerate(
        [("training", 60), ("evaluation", 96), ("logging", 128), ("saving", 160)]
    ):
        path = tmp_path / f"stopped{i}"
        with monkeypatch.context() as patch, pytest.raises(Interrupted):
            lab.once(patch, phase, step, lab.stop)
            go(algo, path)
        lab.assert_same(go(algo, path, resume=True), whole)


def test_rounds_are_by_the_newest_returns(tmp_path):
    """Parents have at that row a better return than the members that go on from them."""
    run = go("a2c", tmp_path / "run")
    returns, parents = run.metrics["eval/return"], run.metrics["pbt/parent"]
    latest = np.array(
        [
            [
                r[np.isfinite(r)][-1] if np.isfinite(r).any() else np.nan
                for r in (row[: i + 1] for i in range(len(row)))
            ]
            for row in returns
        ]
    )
    found = [(i, int(parents[i, t]), t) for i, t in np.argwhere(np.isfinite(parents))]
    assert found and all(latest[parent, t] > latest[i, t] for i, parent, t in found)
    due = {int(t) for _, _, t in found}
    assert all(run.steps[t] // 32 > (run.steps[t] - 16) // 32 for t in due) and len(run.steps) - 1 not in due


def test_between_two_evaluations_a_copy_counts_as_its_parent(tmp_path, monkeypatch):
    """The round at 320 comes before the evaluation after that of 288; old returns of copies count no more."""
    fields = dict(total_timesteps=352, eval_interval=36, log_interval=16, checkpoint_interval=16)
    cfg, pbt = tiny("a2c", "pendulum", **fields), SETTINGS._replace(interval=40)
    options = dict(sweep={"learning_rate": RATES}, progress=False)
    run = purerl.run(cfg, 1, tmp_path / "run", pbt=pbt, **options)
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        lab.once(patch, "training", 300, lab.stop)
        purerl.run(cfg, 1, tmp_path / "stopped", pbt=pbt, **options)
    lab.assert_same(purerl.run(cfg, 1, tmp_path / "stopped", resume=True, **options), run)
    returns, parents = run.metrics["eval/return"], run.metrics["pbt/parent"]
    evaluated = run.steps[np.isfinite(returns[0])].tolist()
    assert 288 in evaluated and not {304, 320} & {*evaluated}
    score = np.full(4, -np.inf)
    for t, step in enumerate(run.steps.tolist()):
        score = np.where(np.isfinite(returns[:, t]), returns[:, t], score)
        replaced, best = np.isfinite(parents[:, t]), np.argsort(score, kind="stable")[2:]
        for i in np.flatnonzero(replaced):
            assert i not in best and int(parents[i, t]) in best, step
            assert score[int(parents[i, t])] > score[i], step
        score = np.where(replaced, score[np.where(replaced, parents[:, t], 0).astype(int)], score)


def test_a_member_that_diverged_learns_on_from_another(tmp_path):
    """Its RNN state, which was no longer finite in the middle of an episode, does not break it again."""
    rates = {"learning_rate": [1e38, 1e-3, 1e-2, 1e-4]}
    pbt = PBT({"learning_rate": Range(1e-5, 1e-2, True)}, 32)
    cfg = tiny("recurrent_ppo", "pendulum", total_timesteps=80, eval_interval=0, log_interval=16)
    run = purerl.run(cfg, 1, tmp_path / "run", sweep=rates, pbt=pbt, progress=False)
    assert run.steps.tolist() == [16, 32, 48, 64, 80] and np.isfinite(run.metrics["pbt/parent"][0, 1])
    assert run.metrics["seed/diverged"][0].tolist() == [1, 1, 0, 0, 0]


def test_fields_are_logged_as_they_were_in_the_row(tmp_path):
    """The first rows have the first values; a member that stays keeps its own."""
    run = go("a2c", tmp_path / "run")
    rates, parents = run.metrics["hyper/learning_rate"], run.metrics["pbt/parent"]
    np.testing.assert_allclose(rates[:, 0], RATES, rtol=1e-6)
    stays = ~np.isfinite(parents[:, :-1])
    np.testing.assert_array_equal(rates[:, 1:][stays], rates[:, :-1][stays])
    assert (rates[:, 1:][~stays] != rates[:, :-1][~stays]).mean() > 0.5
    row = json.loads((run.logdir / "learning_rate=0.001_seed0" / "metrics.jsonl").read_text().splitlines()[0])
    assert row["hyper/learning_rate"] == pytest.approx(1e-3) and row["pbt/parent"] is None


def test_rounds_have_keys_of_their_own(tmp_path):
    """With the same returns in every round, other members are drawn."""
    population = []

    def keep(*args, **options):
        population.append(original(*args, **options))
        return population[-1]

    original = purerl.experiment.runner.Population
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("purerl.experiment.runner.Population", keep)
        patch.setattr(
            "purerl.experiment.runner._population", purerl.experiment.runner._population.__wrapped__
        )
        go("a2c", tmp_path / "run")
    (made,) = population
    snapshot = made.start()
    chosen = [
        made.evolve(snapshot._replace(step=step), np.arange(4.0))[0].hyper["learning_rate"][:2].tolist()
        for step in range(32, 320, 32)
    ]
    assert len({tuple(one) for one in chosen}) > 3


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"sweep": None}, "sweep = 'learning_rate': expected a first value for each setting"),
        ({"pbt": {"space": {}}}, "a purerl.PBT"),
        ({"pbt": SETTINGS._replace(interval=0)}, "interval = 0"),
    ],
)
def test_what_does_not_fit_is_refused(options, part):
    given = {"sweep": {"learning_rate": RATES}, "pbt": SETTINGS} | options
    with pytest.raises(ConfigError, match=part):
        purerl.run(config("a2c"), 2, progress=False, **given)


def test_other_settings_are_refused_on_resume(tmp_path):
    go("a2c", tmp_path / "run", stop_at_return=-1e9)
    with pytest.raises(ConfigError, match=r"pbt = .*: expected None, since a resumed run has its own"):
        purerl.run(config("a2c"), 1, tmp_path / "run", resume=True, pbt=SETTINGS._replace(interval=64))


def test_from_the_command_line(tmp_path, capsys):
    words = (
        "sweep --algo a2c --env cartpole --total-timesteps 400 --num-envs 2 --num-steps 4 --log-interval 40"
    )
    words += " --eval-interval 0 --hidden-sizes 8 --learning-rate 1e-4:1e-1:log --trials 4 --pbt-interval 80"
    argv = [*words.split(), "--quiet", "--compilation-cache", "none", "--logdir", str(tmp_path / "s")]
    assert main.command(argv) == 0
    text = capsys.readouterr().out
    assert "Members went on from each other" in text and "chosen on these seeds" not in text
    log = next((tmp_path / "s" / "batch0").glob("*seed0/metrics.jsonl"))
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert "hyper/learning_rate" in rows[0] and "pbt/parent" in rows[0]
    assert main.command(["sweep", *words.split()[1:], "--sampler", "tpe"]) == 2
    assert "all trials in one batch of random settings" in capsys.readouterr().err
