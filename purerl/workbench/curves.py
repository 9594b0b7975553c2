"""Learning curves: a column of the logs of all members of a setting, over one axis."""

from __future__ import annotations

import difflib
from typing import NamedTuple

import numpy as np

from purerl.config import ConfigError
from purerl.experiment.logs import SPINNING_UP
from purerl.shown import shorten
from purerl.workbench.member_logs import Log, Setting
from purerl.workbench.stats import bootstrap_interval, iqm, mean, run_median

MAX_POINTS = 500
"""Points of the longest curve; more would not be visible."""
ESTIMATORS = {"mean": mean, "iqm": iqm, "median": run_median}
"""Statistics over the members of a setting."""
TEST_RETURN, TRAINING_RETURN = SPINNING_UP["eval/return"], SPINNING_UP["episode/return"]


class Curve(NamedTuple):
    """A column of all members of a setting over a common axis."""

    label: str
    column: str
    x: np.ndarray
    """Points of the axis, `[points]`."""
    y: np.ndarray
    """Values, `[members, points]`."""
    longest: float
    """End of the longest member; the curve ends where the shortest does."""


class Line(NamedTuple):
    """A statistic over the members of a curve, with its interval."""

    label: str
    members: int
    x: np.ndarray
    """Points of the axis, `[points]`."""
    y: np.ndarray
    """The statistic, `[points]`."""
    low: np.ndarray
    """Lower end of the interval, `[points]`; of one member it is `y`."""
    high: np.ndarray
    """Upper end, `[points]`."""


def make_curve(
    setting: Setting, x: str = "TotalEnvInteracts", y: str = "Performance", smooth: int = 1
) -> Curve:
    """Return the curve of a setting.

    Args:
        setting: of `find_settings`.
        x: column, or metric such as `step`, of the axis.
        y: column or metric; `Performance` is the return of evaluations where there are any, else that of
            training episodes. Rows without a value count for nothing.
        smooth: rows of the window, centred and shorter at the ends, over which each member is averaged.

    Returns:
        Curve of the members that have not diverged, over the part of the axis that all of them have. Where
        their axes differ, values in between are interpolated.

    Raises:
        ConfigError: for an unknown column, or one without values.
    """
    healthy = [log for log in setting.logs if not diverged(log)]
    if not healthy:
        raise ConfigError("logdir", setting.label, "at least one member that has not diverged")
    column = _performance(setting) if y == "Performance" else SPINNING_UP.get(y, y)
    lines = [_line(log, SPINNING_UP.get(x, x), column, smooth) for log in healthy]
    low, high = max(line[0][0] for line in lines), min(line[0][-1] for line in lines)
    if low > high:
        raise ConfigError("x", x, f"a part of the axis that all members of {setting.label} have")
    longest = max(line[0][-1] for line in lines)
    grid = lines[0][0]
    if any(not np.array_equal(line[0], grid) for line in lines):
        grid = np.unique(np.concatenate([line[0] for line in lines]))
        grid = grid[(grid >= low) & (grid <= high)]
    if len(grid) > MAX_POINTS:
        grid = np.linspace(low, high, MAX_POINTS)
    rows = np.stack([np.interp(grid, *line) for line in lines])
    return Curve(setting.label, column, grid, rows, longest)


def summarise(curve: Curve, estimator: str = "mean", confidence: float = 0.95) -> Line:
    """Return the mean, IQM or median over members, with its bootstrap interval at every point.

    The same members are resampled for all points. Raises ConfigError for an unknown estimator.
    """
    if estimator not in ESTIMATORS:
        raise ConfigError("est", estimator, f"one of {', '.join(ESTIMATORS)}")
    scores, statistic = {curve.label: curve.y}, ESTIMATORS[estimator]
    low, high = bootstrap_interval(scores, statistic, confidence)
    return Line(curve.label, len(curve.y), curve.x, statistic(scores), low, high)


def diverged(log: Log) -> bool:
    """Return True if the last row of a log says that its member has diverged."""
    flags = log.columns.get("seed/diverged")
    return flags is not None and len(flags) > 0 and bool(flags[-1] > 0)


def _performance(setting: Setting) -> str:
    tested = (log.columns[TEST_RETURN] for log in setting.logs if TEST_RETURN in log.columns)
    return TEST_RETURN if any(np.isfinite(values).any() for values in tested) else TRAINING_RETURN


def _column(log: Log, axis: str, name: str) -> np.ndarray:
    if name in log.columns:
        return log.columns[name]
    if not any(map(len, log.columns.values())):
        raise ConfigError("logdir", str(log.path), "a run with at least one row in its progress.txt")
    metrics = [metric for metric, column in SPINNING_UP.items() if column in log.columns]
    known = {known.lower(): known for known in [*metrics, *log.columns, "Performance"]}
    near = difflib.get_close_matches(name.lower(), known, 1)
    hint = f"Did you mean {known[near[0]]}? " if near else ""
    hint += f"It has {', '.join(shorten(column) for column in log.columns)}."
    raise ConfigError(axis, name, f"a column of {log.path / 'progress.txt'}", shorten(hint, 600))


def _line(log: Log, x: str, y: str, smooth: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the points of a member that have a value, `[rows]` each, smoothed; equal x are one point."""
    across, up = _column(log, "x", x), _column(log, "y", y)
    there = np.isfinite(across) & np.isfinite(up)
    across, up = across[there], up[there]
    if not len(across):
        raise ConfigError("y", y, f"a column with values; it is blank in {log.path / 'progress.txt'}")
    if (np.diff(across) < 0).any():
        raise ConfigError("x", x, f"a column that never falls; it does in {log.path / 'progress.txt'}")
    width = min(smooth, 2 * len(up) - 1)  # which reaches from any row to all others
    window, rows = np.ones(width), slice((width - 1) // 2, (width - 1) // 2 + len(up))
    up = np.convolve(up, window)[rows] / np.convolve(np.ones(len(up)), window)[rows]
    last = np.append(np.diff(across) > 0, True)
    return across[last], up[last]
