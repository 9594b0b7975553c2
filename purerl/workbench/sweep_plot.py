"""The figure of a sweep: learning curves of its best settings."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from purerl.config import ConfigError
from purerl.workbench.curves import Line, diverged, make_curve, summarise
from purerl.workbench.member_logs import find_settings
from purerl.workbench.plot import curves_figure, outputs, save

MOST_LINES = 8
"""Settings of a figure: more lines would look alike."""


def draw_sweep(path: Path) -> list[Path]:
    """Draw the learning curves of the best settings of the sweep in `path`, and return the files in it.

    The best are those with the highest return at the end of their curves; members that have diverged are left
    out. Raises ConfigError if there is nothing to draw, or Matplotlib is not installed.
    """
    files = outputs(path)
    lines = [line for line in _lines(path) if np.isfinite(line.y[-1])]
    if not lines:
        raise ConfigError("logdir", str(path), "a sweep with returns")
    lines.sort(key=lambda line: -line.y[-1])
    shown = lines[:MOST_LINES]
    members = sorted({line.members for line in shown})
    seeds = "1 seed" if members == [1] else f"{members[-1]} seeds"
    of_all = f"the best {len(shown)} of {len(lines)} settings, " if len(lines) > len(shown) else ""
    interval = ", with 95% bootstrap interval" if members[-1] > 1 else ""
    title = f"{of_all}mean of {seeds}{interval}"
    save(curves_figure({"return": shown}, "environment steps", title), files)
    return files


def _lines(path: Path) -> list[Line]:
    settings = find_settings([str(path)])
    healthy = [setting for setting in settings if not all(map(diverged, setting.logs))]
    return [summarise(make_curve(setting)) for setting in healthy]
