"""Curves of a report: every metric of every setting, with intervals and all seeds, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from purerl.config import ConfigError
from purerl.experiment.logs import SPINNING_UP
from purerl.experiment.untrusted import one_line
from purerl.shown import shorten
from purerl.workbench.curves import diverged, make_curve, summarise
from purerl.workbench.member_logs import Log, Setting

FIRST = ("eval/return", "episode/return", "eval/length", "episode/length")
"""Metrics at the top of the list, in this order, where a log has them."""
NO_METRICS = {"epoch", "step", "time", "seed", "seed/diverged"}
"""Columns that are no result."""
BUDGET, FEWEST, MOST = 1_000_000, 25, 500
"""Numbers in a page, roughly, and the limits of the points of a curve."""


class Chart(NamedTuple):
    """The curve of one metric of one setting, numbers with 6 digits as the logs have them."""

    x: list[float]
    """Environment steps, `[points]`."""
    y: list[float]
    """Mean over seeds, `[points]`."""
    low: list[float]
    """Lower end of its 95% bootstrap interval, `[points]`."""
    high: list[float]
    """Upper end, `[points]`."""
    seeds: list[list[float]]
    """Values of every member that has not diverged, `[members, points]`."""


Charts = Mapping[str, Mapping[int, Chart]]
"""Metric -> index of the setting -> its curve; a setting without the metric is missing."""


def charts_of(settings: Sequence[Setting]) -> tuple[dict[str, dict[int, Chart]], list[str]]:
    """Return the curves of all metrics of some settings, and sentences about what has none.

    Curves of large populations have fewer points, the last always among them, so that a page stays small.
    """
    members = sum(len(setting.logs) for setting in settings)
    names = list(dict.fromkeys(name for setting in settings for name in _metrics(setting)))
    names.sort(key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name))
    points = int(np.clip(BUDGET // max(1, (members + 4 * len(settings)) * len(names)), FEWEST, MOST))
    charts: dict[str, dict[int, Chart]] = {name: {} for name in names}
    notes = []
    for i, setting in enumerate(settings):
        reasons = []
        for name in _metrics(setting):
            try:
                charts[name][i] = _chart(setting, name, points)
            except ConfigError as error:  # such as a column that one member does not have
                reasons.append(str(error))
        if all(map(diverged, setting.logs)):
            notes.append(f"{setting.label} has no curve: every member diverged")
        elif not any(i in lines for lines in charts.values()):
            reason = reasons[0] if reasons else "its logs have no rows"
            notes.append(f"{setting.label} has no curve: {reason}")
    return {name: lines for name, lines in charts.items() if lines}, notes


def seed_of(log: Log) -> str:
    """Return the seed of a member in words."""
    seed = log.config.get("seed_index", log.config.get("seed"))
    return log.path.name if seed is None else f"seed {shorten(one_line(str(seed)), 20)}"


def last_of(log: Log, name: str) -> float:
    """Return the last value of a metric that a member has; NaN without any."""
    values = log.columns.get(SPINNING_UP.get(name, name), np.array([]))
    there = values[np.isfinite(values)]
    return float(there[-1]) if len(there) else np.nan


def _metrics(setting: Setting) -> list[str]:
    """Return the metrics of which a healthy member has a value."""
    names = {column: name for name, column in SPINNING_UP.items()}
    found: dict[str, Any] = {}
    for log in setting.logs:
        if not diverged(log):
            found |= {names.get(c, c): None for c, values in log.columns.items() if np.isfinite(values).any()}
    return [name for name in found if name not in NO_METRICS]


def _chart(setting: Setting, name: str, points: int) -> Chart:
    curve = make_curve(setting, "step", name)
    rows = np.unique(np.linspace(0, len(curve.x) - 1, points).round().astype(int))
    with np.errstate(over="ignore", invalid="ignore"):  # of numbers near the largest
        line = summarise(curve._replace(x=curve.x[rows], y=curve.y[:, rows]))
    parts = (line.x, line.y, line.low, line.high)
    if not all(np.isfinite(part).all() for part in parts):
        raise ConfigError("y", name, "numbers whose sum over seeds is finite")
    x, y, low, high = map(_short, parts)
    return Chart(x, y, low, high, [_short(row) for row in curve.y[:, rows]])


def _short(values: np.ndarray) -> list[Any]:
    """Return numbers with 6 digits, or all digits of a whole number, as JSON writes them briefly."""
    return [int(v) if v.is_integer() and abs(v) < 1e15 else float(f"{v:.6g}") for v in values.tolist()]
