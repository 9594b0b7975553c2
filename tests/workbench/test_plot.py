"""Figures, and the command that draws them: what they show, where they lie, and what is refused."""

import importlib
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from purerl.cli.plot import plot
from purerl.config import ConfigError
from purerl.experiment.logs import MemberLog
from purerl.workbench.curves import Line
from purerl.workbench.plot import (
    COLOURS,
    aggregate_figure,
    curves_figure,
    intervals_figure,
    outputs,
    profile_figure,
    save,
)
from purerl.workbench.sweep_plot import draw_sweep

command = importlib.import_module("purerl.cli.plot")
PNG = b"\x89PNG\r\n\x1a\n"


def members(path, exp_name="sac", seeds=3, last=100, **fields):
    """Write a run of ours whose seed i ends with the return `last + i * i`."""
    for seed in range(seeds):
        config = {"exp_name": exp_name, "seed": 0, "seed_index": seed} | fields
        log = MemberLog(path / f"seed{seed}", config)
        for i in range(1, 11):
            row = {"epoch": i, "episode/return": i * (last + seed**2) / 10, "episode/length": 5.0}
            log.write(row | {"step": 1000 * i, "seed/diverged": 0.0, "pi/kl": 0.01})
        log.close()
    return path


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Two runs, in an otherwise empty working directory."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    members(tmp_path / "sac")
    members(tmp_path / "td3", "td3", seeds=2, last=50)
    return tmp_path


@pytest.fixture
def figures(monkeypatch):
    """A list of the figures that the command draws."""
    drawn, draw = [], curves_figure
    keep = lambda *args: drawn.append(draw(*args)) or drawn[-1]
    monkeypatch.setattr(command, "curves_figure", keep)
    return drawn


def texts_of(figure):
    figure.canvas.draw()
    (legend,) = figure.legends or [None]
    return [text.get_text() for text in legend.get_texts()] if legend else []


def test_the_command_writes_both_files_and_a_table(runs, figures, capsys):
    assert plot([str(runs / "sac"), str(runs / "td3")]) == 0
    assert sorted(path.name for path in Path().iterdir()) == ["plot.png", "plot.svg"]
    assert Path("plot.png").read_bytes().startswith(PNG)
    assert ET.parse("plot.svg").getroot().tag.endswith("svg")
    out = capsys.readouterr().out
    assert re.search(r"^  setting +seeds +environment steps +mean \[95% interval\]$", out, re.MULTILINE)
    assert re.search(r"^  sac +3 +10,000 +101\.7 \[100, 104\]$", out, re.MULTILINE)
    assert re.search(r"^  td3 +2 +10,000 +50.5 \[50, 51\]$", out, re.MULTILINE)
    assert out.endswith("Written: plot.png, plot.svg\n")
    (figure,) = figures
    assert figure.get_suptitle() == "mean of 2 to 3 seeds, with 95% bootstrap interval"
    assert texts_of(figure) == ["sac (3 seeds)", "td3 (2 seeds)"]


def test_a_figure_shows_lines_and_intervals(runs, figures):
    plot([str(runs)])
    (ax,) = figures[0].axes
    np.testing.assert_allclose(ax.lines[0].get_ydata(), np.arange(1, 11) * 30.5 / 3)
    np.testing.assert_allclose(ax.lines[0].get_xdata(), np.arange(1, 11) * 1000)
    ends = ax.collections[0].get_paths()[0].vertices
    assert {100.0, 104.0} <= {round(y, 6) for x, y in ends if x == 10_000}
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("environment steps", "return of training episodes")
    assert all(text in {"0", "2k", "4k", "6k", "8k", "10k"} for text in labels_of(figures[0], ax.xaxis))


def labels_of(figure, axis):
    figure.canvas.draw()
    low, high = axis.get_view_interval()
    place = lambda text: text.get_position()[axis.axis_name == "y"]
    return [text.get_text() for text in axis.get_ticklabels() if low <= place(text) <= high]


def test_every_column_has_a_panel(runs, figures, capsys):
    options = ["-y", "episode/return", "KL", "EpLen", "-x", "epoch", "-s", "3", "--est", "median"]
    assert plot([str(runs / "sac"), *options, "--title", "SAC, again"]) == 0
    assert [ax.get_ylabel() for ax in figures[0].axes] == [
        "return of training episodes",
        "KL",
        "length of training episodes, steps",
    ]
    assert figures[0].get_suptitle() == "SAC, again\nmedian of 3 seeds, with 95% bootstrap interval"
    np.testing.assert_allclose(figures[0].axes[0].lines[0].get_ydata()[[0, 1, -1]], [15.15, 20.2, 95.95])
    np.testing.assert_allclose(figures[0].axes[1].lines[0].get_ydata(), 0.01)
    assert texts_of(figures[0]) == []  # the title names a single setting
    assert "row of the log" in capsys.readouterr().out


def test_the_figure_of_a_sweep_has_its_best_settings(tmp_path, monkeypatch):
    """Best first, at most as many as can be told apart, and none that has diverged."""
    for i in range(10):
        members(tmp_path / f"lr={i}", learning_rate=float(i), seeds=2, last=100 * (i % 4) + i)
    broken = tmp_path / "lr=9" / "seed0"
    log = MemberLog(broken.with_name("seed2"), {"exp_name": "sac", "seed": 0, "learning_rate": 99.0})
    log.write({"epoch": 1, "step": 1000, "episode/return": 1e6, "episode/length": 5.0, "seed/diverged": 1.0})
    log.close()
    drawn = []
    keep = lambda *args: drawn.append(curves_figure(*args)) or drawn[-1]
    monkeypatch.setattr("purerl.workbench.sweep_plot.curves_figure", keep)
    files = draw_sweep(tmp_path)
    assert files == [tmp_path / "plot.png", tmp_path / "plot.svg"] and all(f.stat().st_size for f in files)
    labels = texts_of(drawn[0])
    assert len(labels) == 8 and [label[-3:] for label in labels[:3]] == ["7.0", "3.0", "6.0"]
    assert drawn[0].get_suptitle().startswith("the best 8 of 10 settings, mean of 2 seeds")


def test_a_sweep_without_returns_has_no_figure(tmp_path):
    with pytest.raises(ConfigError, match="logdir"):
        draw_sweep(tmp_path)


def test_count_draws_every_member(runs, figures, capsys):
    plot([str(runs / "sac"), "--count", "--out", "all.svg"])
    assert texts_of(figures[0]) == ["sac seed 0", "sac seed 1", "sac seed 2"]
    assert figures[0].get_suptitle() == "3 seeds, each a curve"
    assert not figures[0].axes[0].collections
    assert [path.name for path in Path().iterdir()] == ["all.svg"]
    assert re.search(r"^  sac seed 2 +1 +10,000 +104$", capsys.readouterr().out, re.MULTILINE)


def test_labels_are_those_given(runs, figures):
    members(runs / "sac-2", seeds=1)
    plot([str(runs / "sac"), str(runs / "td3"), "-l", "$x_1$", "_y", "--exclude", "sac-2"])
    assert texts_of(figures[0]) == ["$x_1$ (3 seeds)", "_y (2 seeds)"]
    assert not any(text.get_parse_math() for text in figures[0].legends[0].get_texts())  # no formula


def test_what_is_left_out_is_said(runs, figures, capsys):
    """Diverged members, shorter ones, and seeds that are there twice."""
    log = MemberLog(runs / "sac" / "seed3", {"exp_name": "sac", "seed": 0, "seed_index": 3})
    log.write({"step": 1000, "episode/return": np.nan, "seed/diverged": 1.0})
    log.close()
    members(runs / "td3" / "again", "td3", seeds=1)
    file = runs / "td3" / "seed1" / "progress.txt"
    file.write_text("\n".join(file.read_text().splitlines()[:6]) + "\n")
    plot([str(runs / "sac"), str(runs / "td3")])
    notes = capsys.readouterr().out.splitlines()[-4:-1]
    assert notes == [
        "sac: 1 of 4 members diverged, left out: seed3",
        "td3: seed 0 is there twice, and counts twice; --legend tells directories apart",
        "td3: ends at 5,000, as its shortest member does; its longest goes to 10,000",
    ]
    assert figures[0].get_suptitle().endswith("with 95% bootstrap interval, without 1 diverged")
    for path in (runs / "sac").glob("seed[012]"):
        (path / "progress.txt").unlink()
    with pytest.raises(ConfigError, match="at least one member that has not diverged"):
        plot([str(runs / "sac")])
    plot([str(runs / "sac"), str(runs / "td3")])
    out = capsys.readouterr().out
    assert "sac: 1 of 1 members diverged" in out and not re.search("^  sac", out, re.MULTILINE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "logdir = .*: expected at least one directory .*Give the directories first"),
        (["-y", "KL", "RUNS"], "logdir = .*Give the directories first"),
        (["no/such"], "logdir = 'no/such': expected runs, with a progress.txt"),
        (["RUNS", "-y", "eval/retrun"], "y = 'eval/retrun'"),
        (["RUNS", "-y", "averageepre"], "y = 'averageepre': .*Did you mean AverageEpRet"),
        (["RUNS", "-y", "Performance", "-x", "Steps"], "x = 'Steps'"),
        (["RUNS", "-l", "a", "b"], r"legend = \['a', 'b'\]: expected 1 labels"),
        (["RUNS", "-s", "0"], "smooth = '0': expected a whole number of rows, at least 1"),
        (["RUNS", "-s", "x"], "smooth = 'x'"),
        (["RUNS", "--est", "max"], "est = 'max': expected one of mean, iqm, median"),
        (["RUNS", "--exlude", "x"], "argument = '--exlude': .*Did you mean --exclude"),
        (["RUNS", "--count=1"], "count"),
        (["RUNS", "--out"], "out"),
        (["RUNS", "--select", "no-such"], "--select and --exclude"),
        (["RUNS", "--out", "no/such/x.png"], "out = 'no/such/x.png': .*no/such does not"),
        (["RUNS", "--out", "x.pdf"], "out = 'x.pdf': expected a file that ends in .png or .svg"),
        (["RUNS", "-y", *map(str, range(17))], "value = 17: expected at most 16 columns"),
    ],
)
def test_a_mistake_is_refused_before_anything_is_written(options, message, runs):
    with pytest.raises(ConfigError, match=message):
        plot([str(runs) if word == "RUNS" else word for word in options])
    assert not list(Path().iterdir())


def test_the_help_fits_a_terminal(capsys):
    with pytest.raises(SystemExit) as end:
        plot(["--help"])
    text = capsys.readouterr().out
    assert end.value.code == 0 and max(map(len, text.splitlines())) <= 80
    flags = "-x -y -s -l --select --exclude --legend --count --est --out --title"
    assert {*flags.split()} <= {*re.findall(r"-[-\w]+", text)}
    assert "%%" not in text and re.search(r"95%\s+bootstrap", text)


def test_files_of_a_figure(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = lambda path: [str(file) for file in outputs(path)]
    assert names(None) == ["plot.png", "plot.svg"]
    assert names("a.png") == ["a.png"] and names("a.SVG") == ["a.SVG"]
    assert names("lr0.001") == ["lr0.001.png", "lr0.001.svg"]
    (tmp_path / "b").mkdir()
    assert names("b") == ["b/plot.png", "b/plot.svg"]


def line(i, members=3):
    x = np.linspace(0, 2e6, 100)
    y = 500 * x / 2e6 + 10 * i
    return Line(f"setting {i}", members, x, y, y - 5, y + 5)


def test_settings_differ_without_colours(tmp_path):
    """Up to 35 have style and marker of their own, and all have a colour that is not light."""
    figure = curves_figure({"return": [line(i) for i in range(35)]}, "steps", "")
    looks = [(one.get_linestyle(), str(one._dash_pattern), one.get_marker()) for one in figure.axes[0].lines]
    assert len(set(looks)) == 35
    channels = [[int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] for colour in COLOURS]
    assert all(0.2126 * r + 0.7152 * g + 0.0722 * b < 0.7 for r, g, b in channels)
    assert set(labels_of(figure, figure.axes[0].xaxis)) >= {"0", "0.5M", "1M", "1.5M", "2M"}
    marks = {one.get_markevery()[0] for one in figure.axes[0].lines}
    assert len(marks) > 8  # so that the markers of lines that coincide do not


def test_nothing_is_cut_off(tmp_path):
    """Legend, title and labels lie within the figure and beside the panels."""
    long = lambda i: line(i)._replace(label=f"setting {i} with a long name, of many words, number {i}")
    panels = {label: [long(i) for i in range(9)] for label in ("return", "length", "loss")}
    figure = curves_figure(panels, "steps", "A title\nof two lines")
    figure.canvas.draw()
    whole, legend = figure.bbox, figure.legends[0].get_window_extent()
    boxes = [ax.get_tightbbox() for ax in figure.axes]
    for box in [legend, figure._suptitle.get_window_extent(), *boxes]:
        assert whole.x0 <= box.x0 and box.x1 <= whole.x1 and whole.y0 <= box.y0 and box.y1 <= whole.y1
    assert all(legend.y1 <= box.y0 for box in boxes)
    assert all(ax.get_window_extent().height > 150 for ax in figure.axes)


def test_equal_figures_are_equal_files(tmp_path):
    for name in ("a", "b"):
        save(curves_figure({"return": [line(0), line(1)]}, "steps", "t"), outputs(tmp_path / name))
    for suffix in (".png", ".svg"):
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "a.svg", "b.png", "b.svg"]


def test_figures_over_tasks(tmp_path):
    random = np.random.default_rng(0)
    scores = {"sac": random.normal(1, 0.3, (5, 4)), "td3": {"ant": [0.2, 0.4], "hopper": [0.9, 1.1, 1.0]}}
    profile = profile_figure(scores, np.linspace(0, 2, 21), "profiles")
    np.testing.assert_allclose(profile.axes[0].lines[1].get_ydata()[[0, 5, 20]], [1, 0.5, 0])
    assert texts_of(profile) == ["sac", "td3"] and len(profile.axes[0].collections) == 2
    bars = aggregate_figure(scores, target=1.0)
    assert [ax.get_title() for ax in bars.axes] == ["median", "IQM", "mean", "optimality gap to 1"]
    assert [text.get_text() for text in bars.axes[0].get_yticklabels()] == ["sac", "td3"]
    (point,) = bars.axes[3].lines[1].get_xdata()
    assert point == pytest.approx((0.7 + 0.1 / 3) / 2)
    bar = bars.axes[3].patches[1]
    assert bar.get_x() <= point <= bar.get_x() + bar.get_width() and bar.get_width() > 0
    for figure in (profile, bars):
        save(figure, outputs(tmp_path / "x"))


def test_figure_of_intervals(tmp_path):
    """A panel for each task; a row that a panel lacks is empty; a line at the mean of the reference."""
    panels = {"ant": {"sac": [[1.0], [3.0]], "td3": [[4.0]]}, "hopper": {"td3": [[5.0], [6.0]]}}
    ant, hopper = (figure := intervals_figure(panels, "return", "means", "td3")).axes
    assert [text.get_text() for text in ant.get_yticklabels()] == ["sac", "td3"]
    assert [line.get_xdata()[0] for line in ant.lines] == [2, 4, 4] and ant.lines[1].get_ydata()[0] == 1
    assert [line.get_xdata()[0] for line in hopper.lines] == [5.5, 5.5] and hopper.lines[0].get_ydata()[
        0
    ] == 1
    assert (ant.patches[0].get_x(), ant.patches[0].get_width()) == (1, 2)
    save(figure, outputs(tmp_path / "x"))


def test_pyplot_and_its_settings_stay_as_they_are(runs):
    """Nor is a display opened; without Matplotlib one sentence says what to install."""
    code = """
import sys, matplotlib
from purerl.cli.plot import plot
from purerl.config import ConfigError
settings = lambda: {name: matplotlib.rcParams[name] for name in matplotlib.rcParams if name != "backend"}
before = settings()
plot(sys.argv[1:])
assert "matplotlib.pyplot" not in sys.modules
assert settings() == before
sys.modules["matplotlib"] = None
try:
    plot(sys.argv[1:] + ["--out", "second"])
except ConfigError as error:
    print(error)
"""
    words = [sys.executable, "-c", code, str(runs / "sac")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert 'pip install "purerl[plot]"' in done.stdout.splitlines()[-1]
    assert sorted(path.name for path in Path().iterdir()) == ["plot.png", "plot.svg"]


MUTANTS = {
    "the table shows the first value": (
        "cli/plot.py",
        'f"{line.y[-1]:,.4g}{ends}"',
        'f"{line.y[0]:,.4g}{ends}"',
        "test_the_command_writes_both_files_and_a_table",
    ),
    "rows are those of each panel": (
        "workbench/plot.py",
        "labels = [*dict.fromkeys(label for scores in panels.values() for label in scores)]",
        "labels = [*next(iter(reversed(panels.values())))]",
        "test_figure_of_intervals",
    ),
    "the line is at the first row": (
        "workbench/plot.py",
        "ax.axvline(mean(scores[reference])",
        "ax.axvline(mean(next(iter(scores.values())))",
        "test_figure_of_intervals",
    ),
    "the interval is that of another line": (
        "workbench/plot.py",
        "ax.fill_between(line.x, line.low, line.high,",
        "ax.fill_between(line.x, lines[-1].low, lines[-1].high,",
        "test_a_figure_shows_lines_and_intervals",
    ),
    "the estimator is not used": (
        "cli/plot.py",
        "summarise(curve, options.est)",
        "summarise(curve)",
        "test_every_column_has_a_panel",
    ),
    "the axis is not used": (
        "cli/plot.py",
        "make_curve(setting, options.xaxis, y, options.smooth)",
        'make_curve(setting, "step", y, options.smooth)',
        "test_a_mistake_is_refused_before_anything_is_written",
    ),
    "curves are not smoothed": (
        "cli/plot.py",
        "options.xaxis, y, options.smooth)",
        "options.xaxis, y)",
        "test_every_column_has_a_panel",
    ),
    "every panel has the first column": (
        "cli/plot.py",
        "make_curve(setting, options.xaxis, y,",
        "make_curve(setting, options.xaxis, options.value[0],",
        "test_every_column_has_a_panel",
    ),
    "members are not drawn apart": (
        "cli/plot.py",
        "separate(settings) if options.count else settings",
        "settings",
        "test_count_draws_every_member",
    ),
    "a diverged member is not reported": (
        "cli/plot.py",
        "if diverged(log)]:",
        "if False]:",
        "test_what_is_left_out_is_said",
    ),
    "a figure does not count diverged members": (
        "cli/plot.py",
        'f", without {bad} diverged" if bad else ""',
        '""',
        "test_what_is_left_out_is_said",
    ),
    "repeated seeds are not reported": (
        "cli/plot.py",
        "if twice := repeated_seeds(setting):",
        "if twice := []:",
        "test_what_is_left_out_is_said",
    ),
    "a shorter member is not reported": (
        "cli/plot.py",
        "if curve.longest <= curve.x[-1]:",
        "if curve.longest >= curve.x[-1]:",
        "test_what_is_left_out_is_said",
    ),
    "a directory that does not exist is met when the figure is written": (
        "workbench/plot.py",
        "if not given.parent.is_dir():",
        "if not given.parent:",
        "test_a_mistake_is_refused_before_anything_is_written",
    ),
    "a window of no rows": (
        "cli/plot.py",
        "int(options.smooth) >= 1",
        "int(options.smooth) >= 0",
        "test_a_mistake_is_refused_before_anything_is_written",
    ),
    "labels are formulas": (
        "workbench/plot.py",
        "        text.set_parse_math(False)\n",
        "",
        "test_labels_are_those_given",
    ),
    "a dot in a name begins a suffix": (
        "workbench/plot.py",
        "given.with_name(given.name + suffix)",
        "given.with_suffix(suffix)",
        "test_files_of_a_figure",
    ),
    "marker and style repeat together": (
        "workbench/plot.py",
        "MARKERS[(i + i // 35) % len(MARKERS)]",
        "MARKERS[i % len(STYLES)]",
        "test_settings_differ_without_colours",
    ),
    "markers coincide": (
        "workbench/plot.py",
        "marks = (i * max(1, len(line.x) // MARKS) // len(lines),",
        "marks = (0,",
        "test_settings_differ_without_colours",
    ),
    "yellow is a colour of lines": (
        "workbench/plot.py",
        '"#000000")',
        '"#F0E442")',
        "test_settings_differ_without_colours",
    ),
    "large numbers are long": (
        "workbench/plot.py",
        '(1e6, "M")',
        '(1e6, "k")',
        "test_settings_differ_without_colours",
    ),
    "the layout does not know the legend": (
        "workbench/plot.py",
        "    figure.draw_without_rendering()",
        "    pass",
        "test_nothing_is_cut_off",
    ),
    "a legend takes its room from the panels": (
        "workbench/plot.py",
        "+ LEGEND_LINE * math.ceil",
        "- 3 * LEGEND_LINE * math.ceil",
        "test_nothing_is_cut_off",
    ),
    "an SVG has its date": (
        "workbench/plot.py",
        '{"Date": None} if kind == "svg" else None',
        '{"Date": str(id(content))} if kind == "svg" else None',
        "test_equal_figures_are_equal_files",
    ),
    "the target of the gap is not used": (
        "workbench/plot.py",
        "optimality_gap(one, target)",
        "optimality_gap(one, 2 * target)",
        "test_figures_over_tasks",
    ),
    "pyplot draws": (
        "workbench/plot.py",
        "    from matplotlib.figure import Figure",
        "    from matplotlib.pyplot import Figure",
        "test_pyplot_and_its_settings_stay_as_they_are",
    ),
    "a missing package is any error": (
        "workbench/plot.py",
        'raise ConfigError("plot", "matplotlib", "an installed package", hint) from error',
        "raise",
        "test_pyplot_and_its_settings_stay_as_they_are",
    ),
}
