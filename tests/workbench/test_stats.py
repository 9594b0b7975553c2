"""Statistics over runs and tasks against values by hand and against rliable's published definitions."""

import itertools

import numpy as np
import pytest
import scipy.stats

from purerl.config import ConfigError
from purerl.workbench.stats import (
    bootstrap_interval,
    improvement_interval,
    iqm,
    mean,
    median,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
    run_median,
)

SAMPLE = np.array(
    [
        [0.12, 1.31, 0.55, 2.40, 0.93],
        [0.31, 1.07, 0.55, 3.10, 0.88],
        [0.05, 0.92, 0.61, 0.20, 1.02],
        [0.44, 1.55, 0.49, 2.75, 0.97],
        [0.27, 1.18, 0.70, 2.10, 0.71],
        [0.19, 0.66, 0.58, 2.95, 1.00],
        [0.38, 1.42, 0.52, 0.35, 0.95],
    ]
)
"""Scores `[7, 5]`."""
OTHER = np.array(
    [
        [0.31, 1.10, 0.55, 2.20, 0.93],
        [0.22, 1.01, 0.50, 2.60, 0.99],
        [0.15, 0.80, 0.61, 1.90, 0.64],
        [0.47, 1.31, 0.43, 2.75, 0.90],
    ]
)
"""Scores `[4, 5]`, some of them equal to those of SAMPLE."""


def test_statistics_by_hand():
    scores = np.array([[0.0, 10.0], [1.0, 20.0], [2.0, 30.0], [5.0, 100.0]])
    assert iqm(scores) == (2 + 5 + 10 + 20) / 4  # two of eight are left out at either end
    assert mean(scores) == (2 + 40) / 2
    assert median(scores) == (2 + 40) / 2
    assert run_median(scores) == 7.5
    assert optimality_gap(scores, 10.0) == ((10 + 9 + 8 + 5) / 4 + 0) / 2
    assert performance_profile(scores, [1.0, 10.0]).tolist() == [(2 / 4 + 1) / 2, (0 + 3 / 4) / 2]
    assert probability_of_improvement([[1.0], [3.0]], [[0.0], [3.0], [4.0]]) == (1 + 1 + 0.5) / 6


def test_statistics_are_those_of_rliable():
    """On a stored sample, by the definitions of its module `metrics`, written again."""
    means = SAMPLE.mean(axis=0)
    expected = {
        iqm: np.sort(SAMPLE.ravel())[8:-8].mean(),
        mean: means.mean(),
        median: np.sort(means)[2],
        optimality_gap: 1 - np.minimum(SAMPLE, 1).mean(),
    }
    for statistic, value in expected.items():
        np.testing.assert_allclose(statistic(SAMPLE), value, rtol=1e-12, err_msg=statistic.__name__)
    taus = np.linspace(0, 3, 31)
    np.testing.assert_allclose(performance_profile(SAMPLE, taus), [(tau < SAMPLE).mean() for tau in taus])
    u = [
        scipy.stats.mannwhitneyu(SAMPLE[:, m], OTHER[:, m], alternative="greater").statistic for m in range(5)
    ]
    np.testing.assert_allclose(probability_of_improvement(SAMPLE, OTHER), np.mean(u) / (7 * 4), rtol=1e-12)
    assert probability_of_improvement(SAMPLE, SAMPLE) == 0.5


def test_tasks_may_have_unequal_numbers_of_runs():
    scores = {"ant": [1.0, 3.0], "hopper": [5.0, 7.0, 9.0]}
    assert mean(scores) == median(scores) == (2 + 7) / 2
    assert iqm(scores) == (3 + 5 + 7) / 3
    assert optimality_gap(scores, 4.0) == (3 + 1) / 2 / 2
    assert performance_profile(scores, [4.0]).tolist() == [0.5]
    x = {"hopper": [6.0], "ant": [2.0]}
    assert probability_of_improvement(x, scores) == pytest.approx((1 / 3 + 1 / 2) / 2)


def test_further_axes_are_kept():
    """Each point of curves has the statistic of that point alone."""
    curves = np.stack([SAMPLE, 2 * SAMPLE, SAMPLE**2], axis=-1)
    for statistic in (iqm, mean, median, run_median, optimality_gap):
        alone = [statistic(curves[..., i]) for i in range(3)]
        np.testing.assert_allclose(statistic(curves), alone, err_msg=statistic.__name__)
    assert performance_profile(curves, [0.5, 1.0]).shape == (3, 2)


def all_resamples(task):
    return np.array([np.take(task, rows) for rows in itertools.product(range(len(task)), repeat=len(task))])


def test_the_bootstrap_resamples_within_each_task():
    """The interval of two tasks with two and three runs is that of all 4 x 27 equally likely resamples."""
    scores = {"a": np.array([0.0, 1.0]), "b": np.array([10.0, 13.0, 19.0])}
    means = [all_resamples(task).mean(axis=1) for task in scores.values()]
    exact = (means[0][:, None] + means[1][None]).ravel() / 2
    low, high = bootstrap_interval(scores, mean, 0.9, samples=200_000)
    np.testing.assert_allclose([low, high], np.quantile(exact, [0.05, 0.95]), atol=0.3)
    low, high = bootstrap_interval({"a": [0.0, 1.0, 2.0], "b": [2.0, 1.0, 0.0]}, mean)
    assert low < 1 < high  # each task draws for itself
    drawn = bootstrap_interval(scores, mean, 1 - 1e-9, samples=20_000)
    np.testing.assert_allclose(
        drawn, [exact.min(), exact.max()]
    )  # no run of a task stands for one of another


def test_an_interval_is_near_that_of_scipy():
    data = np.random.default_rng(1).normal(size=(30, 1))
    ours = bootstrap_interval(data, mean, samples=20_000)
    scipys = scipy.stats.bootstrap((data[:, 0],), np.mean, n_resamples=20_000, method="percentile", rng=2)
    np.testing.assert_allclose(ours, [*scipys.confidence_interval], atol=0.015)


def test_all_points_of_a_curve_take_the_same_runs(monkeypatch):
    """A curve that is another plus a constant has its interval plus that constant, in blocks too."""
    curve = SAMPLE[:, :1] + np.arange(40.0)  # [runs, points]
    whole = bootstrap_interval({"": curve}, iqm, samples=500)
    np.testing.assert_allclose(whole.low - whole.low[0], np.arange(40.0), atol=1e-12)
    np.testing.assert_allclose(whole.high - whole.high[0], np.arange(40.0), atol=1e-12)
    monkeypatch.setattr("purerl.workbench.stats.BLOCK", 7 * 500 * 3)
    blocks = bootstrap_interval({"": curve}, iqm, samples=500)
    np.testing.assert_array_equal(blocks, whole)
    profile = bootstrap_interval({"": curve}, lambda s: performance_profile(s, [1.0, 20.0]), samples=500)
    assert profile.low.shape == (40, 2)


def test_a_seed_of_the_draws_fixes_the_interval():
    first, again = (bootstrap_interval(SAMPLE, iqm, seed=3) for _ in range(2))
    assert first == again
    assert first != bootstrap_interval(SAMPLE, iqm, seed=4)
    assert first.low < iqm(SAMPLE) < first.high
    wide, narrow = bootstrap_interval(SAMPLE, iqm, 0.99), bootstrap_interval(SAMPLE, iqm, 0.5)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_runs_of_both_sides_are_resampled_for_an_improvement():
    """All of X above all of Y is certain; overlapping runs are not, whichever side has one run only."""
    assert improvement_interval(SAMPLE + 10, OTHER) == (1.0, 1.0)
    low, high = improvement_interval(SAMPLE, OTHER)
    assert 0 < low < probability_of_improvement(SAMPLE, OTHER) < high < 1
    for x, y in ((SAMPLE[:1], OTHER), (SAMPLE, OTHER[:1])):
        low, high = improvement_interval(x, y)
        assert low < high


STATISTICS = [iqm, mean, median, run_median, optimality_gap, lambda s: performance_profile(s, [1.0])]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_refused(bad):
    scores = SAMPLE.copy()
    scores[4, 2] = bad
    calls = [lambda s, one=one: one(s) for one in STATISTICS]
    calls += [lambda s: bootstrap_interval(s, mean), lambda s: probability_of_improvement(OTHER, s)]
    for call in calls:
        with pytest.raises(ConfigError, match=r"scores of task 2, runs \[4\] = .*diverged"):
            call(scores)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean([1.0, 2.0]), "tasks"),
        (lambda: mean({}), "at least one task"),
        (lambda: mean({"a": []}), "at least 1 run"),
        (lambda: mean({"a": np.ones((2, 3)), "b": np.ones((2, 4))}), "equal further axes"),
        (lambda: probability_of_improvement(SAMPLE, OTHER[:, :4]), "the tasks of x, 5"),
        (lambda: probability_of_improvement({"a": [1]}, {"b": [1]}), "the tasks of x, .*a"),
        (lambda: probability_of_improvement({"a": [1]}, [[1]]), "same form"),
        (lambda: improvement_interval(SAMPLE[..., None], OTHER[..., None]), "without axes"),
        (lambda: bootstrap_interval(SAMPLE, mean, confidence=95), "confidence = 95"),
        (lambda: bootstrap_interval(SAMPLE, mean, samples=0), "samples = 0"),
    ],
)
def test_arguments_that_cannot_work_are_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call()


MUTANTS = {
    "the middle half is of each task alone": (
        "workbench/stats.py",
        "trim_mean(np.concatenate(_by_task(scores)), 0.25, axis=0)",
        "np.mean([trim_mean(part, 0.25, axis=0) for part in _by_task(scores)], axis=0)",
        "test_statistics_are_those_of_rliable",
    ),
    "a fifth is left out at either end": (
        "workbench/stats.py",
        "0.25, axis=0",
        "0.2, axis=0",
        "test_statistics_by_hand",
    ),
    "the median is over runs": (
        "workbench/stats.py",
        "np.median(_task_means(scores), axis=0)",
        "np.median(np.concatenate(_by_task(scores)), axis=0)",
        "test_statistics_are_those_of_rliable",
    ),
    "tasks are weighted by their runs": (
        "workbench/stats.py",
        "return _task_means(scores).mean(axis=0)",
        "return np.concatenate(_by_task(scores)).mean(axis=0)",
        "test_tasks_may_have_unequal_numbers_of_runs",
    ),
    "scores above the target make up for others": (
        "workbench/stats.py",
        "np.maximum(target - part, 0)",
        "target - part",
        "test_statistics_by_hand",
    ),
    "a score at the threshold counts": (
        "workbench/stats.py",
        "part[..., None] > limits",
        "part[..., None] >= limits",
        "test_statistics_by_hand",
    ),
    "a tie is a loss": (
        "workbench/stats.py",
        "np.sign(a[:, None] - b[None])",
        "np.where(a[:, None] > b[None], 1, -1)",
        "test_statistics_by_hand",
    ),
    "tasks are paired by their order": (
        "workbench/stats.py",
        "y = {task: y[task] for task in x}",
        "pass",
        "test_tasks_may_have_unequal_numbers_of_runs",
    ),
    "a resample takes one run for all tasks": (
        "workbench/stats.py",
        "    random = np.random.default_rng(seed)\n    return [random.integers",
        "    return [np.random.default_rng(seed).integers",
        "test_the_bootstrap_resamples_within_each_task",
    ),
    "a resample has one run less": (
        "workbench/stats.py",
        "size=(len(part), samples)",
        "size=(max(1, len(part) - 1), samples)",
        "test_the_bootstrap_resamples_within_each_task",
    ),
    "points draw apart": (
        "workbench/stats.py",
        "for part, row in zip(flat, rows, strict=True)]",
        "for part, row in zip(flat, _draw(parts, samples, seed + start), strict=True)]",
        "test_all_points_of_a_curve_take_the_same_runs",
    ),
    "draws differ from call to call": (
        "workbench/stats.py",
        "np.random.default_rng(seed)",
        "np.random.default_rng()",
        "test_a_seed_of_the_draws_fixes_the_interval",
    ),
    "the interval is one-sided": (
        "workbench/stats.py",
        "return (1 - confidence) / 2, (1 + confidence) / 2",
        "return 1 - confidence, confidence",
        "test_an_interval_is_near_that_of_scipy",
    ),
    "only the runs of X are resampled": (
        "workbench/stats.py",
        "again[len(of_x) :]), tails",
        "[part[:, None] for part in of_y]), tails",
        "test_runs_of_both_sides_are_resampled_for_an_improvement",
    ),
    "NaN passes": (
        "workbench/stats.py",
        "if not (finite := np.isfinite(part)).all():",
        "if not (finite := np.isfinite(part) | True).all():",
        "test_scores_that_are_not_finite_are_refused",
    ),
}
