"""Statistics over runs and tasks, with bootstrap intervals (Agarwal et al. 2021, arXiv:2108.13264).

Scores are an array `[runs, tasks, ...]`, or a mapping from each task to its own `[runs, ...]`; then tasks may
have unequal numbers of runs. A statistic reduces runs and tasks and keeps all further axes, such as the
points of a curve.
Every function raises ConfigError for scores that are not finite: a member that has diverged has none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from purerl.config import ConfigError

Scores = np.ndarray | Mapping[str, Any]
"""Array `[runs, tasks, ...]`, or task -> array `[runs, ...]`."""
Statistic = Callable[[Scores], Any]
"""Function from scores to `[...]`."""
BLOCK = 2**22
"""Numbers that are resampled at a time."""


class Interval(NamedTuple):
    """Ends of a confidence interval, each of the statistic's shape."""

    low: np.ndarray
    high: np.ndarray


def iqm(scores: Scores) -> np.ndarray:
    """Return the interquartile mean, `[...]`: that of the middle half of all runs of all tasks (section 4.3).

    A quarter of the scores, rounded down, is left out at either end. A task with more runs has more weight.
    """
    from scipy.stats import trim_mean

    return np.asarray(trim_mean(np.concatenate(_by_task(scores)), 0.25, axis=0))


def mean(scores: Scores) -> np.ndarray:
    """Return the mean over tasks of each task's mean over runs, `[...]`."""
    return _task_means(scores).mean(axis=0)


def median(scores: Scores) -> np.ndarray:
    """Return the median over tasks of each task's mean over runs, `[...]`, as in the paper.

    Of a single task that is its mean: `run_median` is the median over runs.
    """
    return np.median(_task_means(scores), axis=0)


def run_median(scores: Scores) -> np.ndarray:
    """Return the median of all runs of all tasks, `[...]`."""
    return np.median(np.concatenate(_by_task(scores)), axis=0)


def optimality_gap(scores: Scores, target: float = 1.0) -> np.ndarray:
    """Return the mean shortfall of the scores below `target`, `[...]`; scores above it count as equal to it.

    It is the mean over tasks of each task's mean over runs of `target - min(score, target)` (section 4.3).
    """
    return mean({str(i): np.maximum(target - part, 0) for i, part in enumerate(_by_task(scores))})


def performance_profile(scores: Scores, thresholds: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return the part of the runs that score above each threshold, averaged over tasks: `[..., thresholds]`.

    This is the paper's run-score distribution (section 4.2); `thresholds` is `[thresholds]`.
    """
    limits = np.asarray(thresholds, float)
    return mean({str(i): part[..., None] > limits for i, part in enumerate(_by_task(scores))})


def probability_of_improvement(x: Scores, y: Scores) -> np.ndarray:
    """Return the probability that a run of X scores above one of Y on the same task, `[...]`.

    It is the mean over tasks of the Mann-Whitney U statistic over the number of pairs, where a tie counts
    one half (section 4.3). Both must have the same tasks, with any number of runs.
    """
    return _improvement(*_pairs(x, y))


def bootstrap_interval(
    scores: Scores, statistic: Statistic, confidence: float = 0.95, samples: int = 2000, seed: int = 0
) -> Interval:
    """Return the percentile interval of a statistic by the bootstrap, stratified by task (section 4.1).

    Args:
        scores: `[runs, tasks, ...]`, or task -> `[runs, ...]`.
        statistic: function of this module, or any that maps scores to `[...]`.
        confidence: part of the resampled statistics within the interval.
        samples: number of resamples. Each draws, for every task, as many of its runs as it has, with
            replacement, and takes them along all further axes: the same runs for every point of a curve.
        seed: of the draws; the same seed gives the same interval.

    Returns:
        Ends of the interval, each `[...]`; of a single run of a single task both are its value.
    """
    parts = _by_task(scores)
    tails, rows = _checked(confidence, samples), _draw(parts, samples, seed)
    shape = parts[0].shape[1:]
    flat = [part.reshape(len(part), -1) for part in parts]
    points = max(1, BLOCK // (samples * sum(map(len, parts))))
    found = []
    for start in range(0, math.prod(shape), points):
        block = [part[:, start : start + points][row] for part, row in zip(flat, rows, strict=True)]
        values = np.asarray(statistic({str(i): part for i, part in enumerate(block)}))
        found.append(np.quantile(values, tails, axis=0))
    ends = np.concatenate(found, axis=1)
    return Interval(*ends.reshape(2, *shape, *ends.shape[2:]))


def improvement_interval(
    x: Scores, y: Scores, confidence: float = 0.95, samples: int = 2000, seed: int = 0
) -> Interval:
    """Return the interval of `probability_of_improvement`: the runs of X and of Y are resampled apart.

    The arguments are those of `bootstrap_interval`; further axes are not allowed.
    """
    tails, (of_x, of_y) = _checked(confidence, samples), _pairs(x, y)
    if of_x[0].ndim > 1:
        raise ConfigError("x", np.asarray(of_x[0]), "scores without axes beyond runs and tasks")
    drawn = _draw([*of_x, *of_y], samples, seed)
    again = [part[row] for part, row in zip([*of_x, *of_y], drawn, strict=True)]
    return Interval(*np.quantile(_improvement(again[: len(of_x)], again[len(of_x) :]), tails, axis=0))


def _by_task(scores: Scores) -> list[np.ndarray]:
    """Return the scores of every task, `[runs, ...]` float64. Raises ConfigError unless all are finite."""
    if isinstance(scores, Mapping):
        parts = {str(task): np.asarray(part, float) for task, part in scores.items()}
    else:
        array = np.asarray(scores, float)
        if array.ndim < 2:
            raise ConfigError("scores", array, "an array [runs, tasks, ...], or a mapping from tasks to runs")
        parts = {str(task): array[:, task] for task in range(array.shape[1])}
    if not parts:
        raise ConfigError("scores", scores, "scores of at least one task")
    shape = next(iter(parts.values())).shape[1:]
    for task, part in parts.items():
        if not part.ndim or not len(part) or part.shape[1:] != shape:
            raise ConfigError(
                f"scores of task {task}", part, "[runs, ...], at least 1 run, and equal further axes"
            )
        if not (finite := np.isfinite(part)).all():
            bad = np.flatnonzero(~finite.reshape(len(part), -1).all(axis=1)).tolist()
            hint = "A member that has diverged has no score: give it one, or leave it out and report that."
            raise ConfigError(f"scores of task {task}, runs {bad}", part[bad[0]], "finite numbers", hint)
    return list(parts.values())


def _task_means(scores: Scores) -> np.ndarray:
    return np.stack([part.mean(axis=0) for part in _by_task(scores)])


def _pairs(x: Scores, y: Scores) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the scores of X and of Y, task by task."""
    if isinstance(x, Mapping) and isinstance(y, Mapping):
        if x.keys() != y.keys():
            raise ConfigError("y", sorted(y), f"scores of the tasks of x, {sorted(x)}")
        y = {task: y[task] for task in x}
    of_x, of_y = _by_task(x), _by_task(y)
    if len(of_x) != len(of_y) or isinstance(x, Mapping) != isinstance(y, Mapping):
        raise ConfigError(
            "y", f"{len(of_y)} tasks", f"scores of the tasks of x, {len(of_x)}, in the same form"
        )
    return of_x, of_y


def _improvement(x: list[np.ndarray], y: list[np.ndarray]) -> np.ndarray:
    wins = [np.sign(a[:, None] - b[None]).mean(axis=(0, 1)) for a, b in zip(x, y, strict=True)]
    return (np.mean(wins, axis=0) + 1) / 2


def _checked(confidence: float, samples: int) -> tuple[float, float]:
    """Return the quantiles at the ends of the interval. Raises ConfigError for arguments out of range."""
    if not 0 < confidence < 1:
        raise ConfigError("confidence", confidence, "a number above 0 and below 1")
    if samples < 1:
        raise ConfigError("samples", samples, "a whole number, at least 1")
    return (1 - confidence) / 2, (1 + confidence) / 2


def _draw(parts: list[np.ndarray], samples: int, seed: int) -> list[np.ndarray]:
    """Return the rows that each resample takes of every task, `[runs, samples]` each."""
    random = np.random.default_rng(seed)
    return [random.integers(len(part), size=(len(part), samples)) for part in parts]
