"""Figures of learning curves and of scores over tasks, as PNG and SVG.

Settings differ in colour (Okabe and Ito's palette, for all kinds of colour vision), in line style and in
marker, so that black and white is enough. Nothing here uses or changes the figures of pyplot.
"""

from __future__ import annotations

import io
import math
import os
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from purerl.config import ConfigError
from purerl.experiment.atomic import write_whole
from purerl.user_paths import user_path
from purerl.workbench.curves import Line
from purerl.workbench.stats import (
    Scores,
    Statistic,
    bootstrap_interval,
    iqm,
    mean,
    median,
    optimality_gap,
    performance_profile,
)

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette without its yellow, which is too light for lines on white."""
STYLES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
FORMATS = (".png", ".svg")
WIDTH, HEIGHT = 6.4, 4.0
"""Inches of a figure with one panel."""
RESOLUTION = 200
"""Dots per inch of a PNG."""
MARKS = 8
"""Markers on a line."""
LEGEND_ROW = 84
"""Characters in a row of the legend."""
LEGEND_LINE = 0.17
"""Inches of a row of the legend."""
RC = {"font.size": 9, "svg.hashsalt": "purerl", "axes.grid": True, "grid.alpha": 0.3, "axes.axisbelow": True}


def outputs(path: str | os.PathLike[str] | None = None) -> list[Path]:
    """Return the files of a figure: `path`, or both `path.png` and `path.svg` if it has neither suffix.

    Of a directory, and of None for the working directory, these are `plot.png` and `plot.svg` in it. Raises
    ConfigError for another format, or a directory that does not exist.
    """
    given = Path() if path is None else user_path("out", path)
    given = given / "plot" if given.is_dir() else given
    if not given.parent.is_dir():
        raise ConfigError("out", str(path), f"a file in a directory that exists; {given.parent} does not")
    if given.suffix.lower() in (".pdf", ".eps", ".jpg", ".jpeg", ".gif", ".webp", ".tif", ".tiff"):
        raise ConfigError(
            "out", str(path), f"a file that ends in {' or '.join(FORMATS)}, or in neither for both"
        )
    if given.suffix.lower() in FORMATS:
        return [given]
    return [given.with_name(given.name + suffix) for suffix in FORMATS]


def save(figure: Any, files: Sequence[Path]) -> None:
    """Write a figure to files, each whole; the suffix is its format. Raises OSError."""
    matplotlib = _matplotlib()
    with matplotlib.rc_context(RC):
        for file in files:
            content = io.BytesIO()
            kind = file.suffix.lower().removeprefix(".")
            metadata = {"Date": None} if kind == "svg" else None  # so that equal figures are equal files
            figure.savefig(content, format=kind, dpi=RESOLUTION, metadata=metadata)
            write_whole(file, content.getvalue())


def curves_figure(panels: Mapping[str, Sequence[Line]], x_label: str, title: str) -> Any:
    """Return a figure of learning curves, one panel for each label of its y-axis, with intervals shaded."""
    with _matplotlib().rc_context(RC):
        figure, axes = _figure(len(panels), title)
        for ax, (label, lines) in zip(axes, panels.items(), strict=True):
            for i, line in enumerate(lines):
                marks = (i * max(1, len(line.x) // MARKS) // len(lines), max(1, len(line.x) // MARKS))
                ax.plot(line.x, line.y, markevery=marks, **_look(i))
                if line.members > 1:
                    ax.fill_between(line.x, line.low, line.high, color=_colour(i), alpha=0.18, linewidth=0)
            ax.set_xlabel(x_label, parse_math=False)
            ax.set_ylabel(label, parse_math=False)
            _short_numbers(ax.xaxis)
            _short_numbers(ax.yaxis)
        _legend(figure, [line.label for line in next(iter(panels.values()))])
        return figure


def profile_figure(
    scores: Mapping[str, Scores], thresholds: Sequence[float] | np.ndarray, title: str = ""
) -> Any:
    """Return a figure of performance profiles with 95% intervals, one for each label of `scores`.

    The scores are those of `purerl.workbench.stats`; `thresholds` is `[thresholds]`, in rising order.
    """
    limits = np.asarray(thresholds, float)
    profile = lambda one: performance_profile(one, limits)
    with _matplotlib().rc_context(RC):
        figure, (ax,) = _figure(1, title)
        for i, one in enumerate(scores.values()):
            marks = (i * max(1, len(limits) // MARKS) // len(scores), max(1, len(limits) // MARKS))
            ax.plot(limits, profile(one), markevery=marks, **_look(i))
            ax.fill_between(
                limits, *bootstrap_interval(one, profile), color=_colour(i), alpha=0.18, linewidth=0
            )
        ax.set(xlabel="score", ylabel="part of the runs above it", ylim=(-0.02, 1.02))
        _legend(figure, list(scores))
        return figure


def aggregate_figure(scores: Mapping[str, Scores], target: float = 1.0, title: str = "") -> Any:
    """Return a figure of median, IQM, mean and optimality gap over tasks, with 95% intervals.

    One row for each label of `scores`; `target` is that of the optimality gap.
    """
    gap = lambda one: optimality_gap(one, target)
    statistics = {"median": median, "IQM": iqm, "mean": mean, f"optimality gap to {target:g}": gap}
    with _matplotlib().rc_context(RC):
        figure, axes = _figure(len(statistics), title, (1.6 * WIDTH, 1.2 + 0.35 * len(scores)), columns=4)
        for ax, (name, statistic) in zip(axes, statistics.items(), strict=True):
            for i, one in enumerate(scores.values()):
                _bar(ax, i, one, statistic, MARKERS[i % len(MARKERS)], _colour(i))
            ax.set_title(name, fontsize=9)
            _rows(ax, len(scores))
            ax.locator_params(axis="x", nbins=4)
        texts = [textwrap.shorten(label, 40, placeholder="...") for label in scores]
        axes[0].set_yticks(range(len(scores)), texts, parse_math=False)
        return figure


def intervals_figure(
    panels: Mapping[str, Mapping[str, Scores]], x_label: str, title: str = "", reference: str = ""
) -> Any:
    """Return a figure of means with 95% intervals, one panel for each name of `panels`.

    One row for each label of their scores, which are those of `purerl.workbench.stats`. A row that one panel
    lacks is empty there. A line is drawn at the mean of the label `reference`.
    """
    labels = [*dict.fromkeys(label for scores in panels.values() for label in scores)]
    size = (1.6 * WIDTH, 1.0 + 0.27 * len(labels))
    with _matplotlib().rc_context(RC):
        figure, axes = _figure(len(panels), title, size, columns=len(panels))
        for ax, (name, scores) in zip(axes, panels.items(), strict=True):
            for i, label in enumerate(labels):
                if label in scores:
                    _bar(ax, i, scores[label], mean, MARKERS[0], _colour(0))
            if reference in scores:
                ax.axvline(mean(scores[reference]), color="0.4", linestyle=":", linewidth=1.2)
            ax.set_title(name, fontsize=9, parse_math=False)
            ax.set_xlabel(x_label, parse_math=False)
            _rows(ax, len(labels))
        axes[0].set_yticks(range(len(labels)), labels, parse_math=False)
        return figure


def _matplotlib() -> Any:
    """Return Matplotlib. Raises ConfigError if it is not installed."""
    try:
        import matplotlib
    except ImportError as error:
        hint = 'Install it: pip install "purerl[plot]".'
        raise ConfigError("plot", "matplotlib", "an installed package", hint) from error
    return matplotlib


def _figure(
    panels: int, title: str, size: tuple[float, float] | None = None, columns: int | None = None
) -> tuple[Any, list[Any]]:
    """Return a figure that pyplot does not know, and the axes of its panels."""
    from matplotlib.figure import Figure

    columns = columns or math.ceil(math.sqrt(panels))
    rows = math.ceil(panels / columns)
    wider = 1 if columns == 1 else 0.8 * columns
    size = size or (WIDTH * wider, HEIGHT * (1 if rows == 1 else 0.8 * rows))
    figure = Figure(figsize=size, layout="constrained")
    if title:
        figure.suptitle(title, fontsize=10, parse_math=False)
    return figure, [figure.add_subplot(rows, columns, i + 1) for i in range(panels)]


def _bar(ax: Any, row: int, scores: Scores, statistic: Statistic, marker: str, colour: str) -> None:
    """Draw a statistic and its 95% interval in a row."""
    low, high = bootstrap_interval(scores, statistic)
    ax.barh(row, high - low, left=low, height=0.6, color=colour, alpha=0.35)
    ax.plot(statistic(scores), row, marker, color=colour)


def _rows(ax: Any, count: int) -> None:
    """Give every row its place, from the top, and no label."""
    ax.use_sticky_edges = False  # bars would end at the panel's edge
    ax.autoscale_view()
    ax.set_ylim(count - 0.5, -0.5)
    ax.set_yticks(range(count), [""] * count)


def _colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]


def _look(i: int) -> dict[str, Any]:
    """Return colour, line style and marker of the i-th setting; they agree in all three after 245."""
    style, marker = STYLES[i % len(STYLES)], MARKERS[(i + i // 35) % len(MARKERS)]
    return {"color": _colour(i), "linestyle": style, "marker": marker, "markersize": 4, "linewidth": 1.6}


def _legend(figure: Any, labels: Sequence[str]) -> None:
    """Add a legend below the panels, unless there is one label only."""
    from matplotlib.lines import Line2D

    if len(labels) < 2:
        return
    per_row = int(LEGEND_ROW * figure.get_figwidth() / WIDTH) // (max(map(len, labels)) + 9)
    columns = max(1, min(len(labels), per_row))
    figure.set_figheight(figure.get_figheight() + LEGEND_LINE * math.ceil(len(labels) / columns))
    handles = [Line2D([], [], **_look(i)) for i in range(len(labels))]
    blank = [f"{i}" for i in range(len(labels))]  # a label that begins with _ would be left out
    legend = figure.legend(
        handles, blank, loc="outside lower center", ncols=columns, fontsize=8, handlelength=4
    )
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set_parse_math(False)
        text.set_text(label)
    figure.draw_without_rendering()  # a second layout knows the size of the legend


def _short_numbers(axis: Any) -> None:
    """Write large numbers of an axis as 20k or 0.2M."""
    from matplotlib.ticker import FuncFormatter, ScalarFormatter

    low, high = axis.get_view_interval()
    largest = max(abs(low), abs(high))
    unit, letter = next(((u, c) for u, c in ((1e9, "G"), (1e6, "M"), (1e4, "k")) if largest >= u), (1, ""))
    unit = 1e3 if letter == "k" else unit
    short = FuncFormatter(lambda value, _: f"{value / unit:g}{letter}" if value else "0")
    axis.set_major_formatter(short if letter else ScalarFormatter(useOffset=False))
