"""Random search and Optuna's, batch by batch in one program each, exact to resume."""

import math

import numpy as np
import pytest
from tiny import tiny

from purerl.cli import main
from purerl.cli import sweep as cli
from purerl.config import ConfigError
from purerl.experiment import sweep
from purerl.experiment.search import Search, from_plain, propose, to_plain
from purerl.experiment.sweep import make_search, read_sweep, run_sweep, write_sweep
from purerl.search_space import Range, parse_range
from purerl.workbench.sweep_table import results_of

MUTANTS = {
    "logarithms are forgotten": (
        "experiment/search.py",
        "    if ends.log:\n        return",
        "    if False:\n        return",
        "test_random_settings_fill_their_ranges",
    ),
    "the same settings again": (
        "experiment/search.py",
        "default_rng([search.seed, len(results)])",
        "default_rng(search.seed)",
        "test_random_settings_fill_their_ranges",
    ),
    "the search is for the worst": (
        "experiment/search.py",
        'direction="maximize"',
        'direction="minimize"',
        "test_the_estimator_moves_to_the_best",
    ),
    "results are not learned from": (
        "experiment/search.py",
        "    for setting, value in results:\n",
        "    for setting, value in []:\n",
        "test_the_estimator_moves_to_the_best",
    ),
    "a batch too many": (
        "experiment/sweep.py",
        "if len(results) >= search.trials:",
        "if len(results) > search.trials:",
        "test_a_search_goes_on_where_it_was_stopped",
    ),
    "the search is not saved": (
        "experiment/sweep.py",
        "sweep.search and to_plain(sweep.search)",
        "None",
        "test_a_search_goes_on_where_it_was_stopped",
    ),
}
SPACE = {"learning_rate": Range(1e-5, 1e-1, True), "gamma": Range(0.8, 0.999)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0.9:0.99", Range(0.9, 0.99)), ("1e-5:1e-2:log", Range(1e-5, 1e-2, True)), ("-1:1", Range(-1, 1))],
)
def test_ranges_are_read(text, expected):
    assert parse_range("gamma", text) == expected


@pytest.mark.parametrize("text", ["0.9", "1:0", "0:1:log", "a:b", "0:1:lin", "0:1:2:3", "nan:1", "1:1", ":"])
def test_what_is_no_range_is_refused(text):
    with pytest.raises(ConfigError, match=r"gamma = .*: expected a range such as"):
        parse_range("gamma", text)


def test_random_settings_fill_their_ranges():
    """Evenly, in the logarithm where asked for; others in every batch, the same from the same seed."""
    search = Search(SPACE, 4000, 2000)
    first = propose(search, 2000, [])
    second = propose(search, 2000, [(setting, 0.0) for setting in first])
    assert first == propose(search, 2000, []) and first[0] not in second
    assert propose(search._replace(seed=1), 1, []) != first[:1]
    rates = np.log10([setting["learning_rate"] for setting in first])
    gammas = np.array([setting["gamma"] for setting in first])
    for values, low, high in ((rates, -5, -1), (gammas, 0.8, 0.999)):
        counts = np.histogram(values, np.linspace(low, high, 5))[0]
        assert counts.sum() == 2000 and abs(counts - 500).max() < 90


def test_the_estimator_moves_to_the_best():
    """From results that are best at 1e-3; failed ones count as failures, and nothing else is remembered."""
    search = Search(SPACE, 80, 8, "tpe")
    results = []
    for _ in range(10):
        batch = propose(search, 8, results)
        assert batch == propose(search, 8, results)
        for i, setting in enumerate(batch):
            value = -((math.log10(setting["learning_rate"]) + 3) ** 2)
            results.append((setting, math.nan if i == 7 else value))
    far = [abs(math.log10(setting["learning_rate"]) + 3) for setting, _ in results]
    assert np.mean(far[-16:]) < 0.6 * np.mean(far[:16])
    assert all(1e-5 <= s["learning_rate"] <= 1e-1 and 0.8 <= s["gamma"] <= 0.999 for s, _ in results)


@pytest.mark.parametrize("sampler", [pytest.param("random", marks=pytest.mark.slow), "tpe"])
def test_a_search_goes_on_where_it_was_stopped(sampler, tmp_path, monkeypatch):
    """With the proposals and the results of one that was never stopped."""
    cfg = tiny("a2c", eval_interval=0)
    search = Search({"learning_rate": Range(1e-4, 1e-1, True)}, 5, 2, sampler)
    made = make_search(cfg, search, seeds=2)
    for name in ("whole", "stopped"):
        write_sweep(tmp_path / name, made)
    run_sweep(tmp_path / "whole", made, progress=False)
    done = read_sweep(tmp_path / "whole")
    assert [(part.name, part.members.size) for part in done.parts] == [
        ("batch0", 4),
        ("batch1", 4),
        ("batch2", 2),
    ]
    results, run, calls = results_of(tmp_path / "whole", done), sweep.run, []
    assert len(results) == 5 and all(result.returns.shape == (2,) for result in results)

    def stopped(*args, **options):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return run(*args, **options)

    monkeypatch.setattr(sweep, "run", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_sweep(tmp_path / "stopped", made, progress=False)
    run_sweep(tmp_path / "stopped", read_sweep(tmp_path / "stopped"), progress=False)
    assert str(results_of(tmp_path / "stopped", read_sweep(tmp_path / "stopped"))) == str(results)


def test_a_search_is_written_and_read():
    search = Search(SPACE, 40, 8, "tpe", 3)
    assert from_plain(to_plain(search)) == search
    for change in ({"trials": 0}, {"sampler": "x"}, {"seed": -1}, {"batch": 1.5}, {"space": 3}, {"more": 1}):
        with pytest.raises((ValueError, TypeError, AttributeError)):
            from_plain(to_plain(search) | change)


def test_options_of_a_search():
    words = "--algo ppo --env cartpole --learning-rate 1e-5:1e-2:log --gamma 0.9:0.99 --trials 6"
    made = cli.plan(*cli.parse(words.split()))
    assert made.search == Search({"learning_rate": Range(1e-5, 1e-2, True), "gamma": Range(0.9, 0.99)}, 6, 6)
    assert [part.members.size for part in made.parts] == [6]
    made = cli.plan(*cli.parse([*words.split(), "--sampler", "tpe", "--trials", "20", "--search-seed", "3"]))
    assert (made.search.batch, made.search.sampler, made.search.seed) == (8, "tpe", 3)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("--gamma 0.9:0.99", "Add --trials 16."),
        ("--trials 4", "at least one range to search"),
        ("--trials 4 --gamma 0.9:1.5", "gamma = 1.5: expected a finite number, at least 0, at most 1"),
        ("--trials 4 --gamma 0.9:0.99 --learning-rate 1 2", "ranges of real-valued fields alone"),
        ("--trials 4 --gamma 0.9:0.99 --num-envs 8 16", "one value of every other option"),
        ("--gamma 0.9 0.99 --sampler tpe", "no value without --trials"),
        ("--trials 4 --gamma 0.99:0.9", "a range such as"),
        ("--trials 4 --gamma 0.9:0.99 --sampler bayes", "sampler = 'bayes': expected one of random, tpe"),
    ],
)
def test_mistakes_are_one_line(words, part, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main.command(["sweep", *words.split(), "--compilation-cache", "none"]) == 2
    text = capsys.readouterr().err
    assert part in text and text.count("\n") == 1 and not list(tmp_path.iterdir())


def test_a_batch_that_does_not_fit_is_refused():
    cfg = tiny("sac", buffer_size=10_000, total_timesteps=10_000, log_interval=1_000)
    with pytest.raises(ConfigError, match="batch = 4: expected a batch that fits in memory"):
        make_search(cfg, Search(SPACE, 8, 4), available=1_000_000)
