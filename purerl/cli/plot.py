"""`purerl plot`: learning curves of runs, in files and as a table."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from typing import NoReturn

from purerl.cli.options import WIDTH
from purerl.config import ConfigError, did_you_mean
from purerl.experiment.logs import SPINNING_UP
from purerl.experiment.untrusted import one_line
from purerl.shown import shorten
from purerl.workbench.curves import ESTIMATORS, Curve, Line, diverged, make_curve, summarise
from purerl.workbench.member_logs import Setting, find_settings, repeated_seeds, separate
from purerl.workbench.plot import curves_figure, outputs, save
from purerl.workbench.table import aligned

NAMES = {
    "TotalEnvInteracts": "environment steps",
    "Epoch": "row of the log",
    "Time": "seconds of training",
    "AverageTestEpRet": "return of evaluations",
    "AverageEpRet": "return of training episodes",
    "TestEpLen": "length of evaluated episodes, steps",
    "EpLen": "length of training episodes, steps",
}
"""Labels of axes for columns whose names need one."""
ESTIMATORS_IN_WORDS = {"mean": "mean", "iqm": "interquartile mean", "median": "median"}
MAX_PANELS, MAX_TITLE = 16, 80


def plot(argv: Sequence[str]) -> int:
    """Draw the learning curves of the runs that `argv` names, print a table, and return 0.

    Raises:
        ConfigError: for an option that cannot work, before anything is written.
        DamagedFile: for a log or configuration that is not as it was written.
        OSError: for a file that cannot be read or written.
        SystemExit: with 0, once `--help` is shown.
    """
    options = parse(argv)
    files = outputs(options.out)
    settings = find_settings(options.logdir, options.legend, options.select, options.exclude)
    notes = [note for setting in settings for note in _members_notes(setting)]
    bad = sum(diverged(log) for setting in settings for log in setting.logs)
    settings = separate(settings) if options.count else settings
    settings = [setting for setting in settings if not all(map(diverged, setting.logs))]
    if not settings:
        raise ConfigError("logdir", options.logdir, "at least one member that has not diverged")
    panels: dict[str, list[Line]] = {}
    for y in dict.fromkeys(options.value):
        curves = [make_curve(setting, options.xaxis, y, options.smooth) for setting in settings]
        notes += [note for curve in curves for note in _ends(curve) if note not in notes]
        label = " or ".join(dict.fromkeys(NAMES.get(curve.column, curve.column) for curve in curves))
        panels[label] = [summarise(curve, options.est) for curve in curves]
    across: str = SPINNING_UP.get(options.xaxis) or options.xaxis
    x_label = NAMES.get(across, across)
    title = _title(options, settings, next(iter(panels.values())), bad)
    figure = curves_figure({label: _counted(lines) for label, lines in panels.items()}, x_label, title)
    save(figure, files)
    for label, lines in panels.items():
        print(_table(label, x_label, lines, options.est))
    print(*map(one_line, notes), f"Written: {', '.join(map(str, files))}", sep="\n")
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise ConfigError, whose exit code the command chooses."""
        raise ConfigError("purerl plot", message, "LOGDIR and options as --help shows them")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="purerl plot",
        usage="%(prog)s LOGDIR [LOGDIR ...] [--option value ...]",
        description="Draw learning curves of runs of purerl or Spinning Up. Members of a run that differ in "
        "their seed only are one curve: a statistic over seeds, and its 95% bootstrap interval, shaded.",
        formatter_class=functools.partial(argparse.HelpFormatter, max_help_position=26, width=WIDTH),
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--help-all", action="help", help=argparse.SUPPRESS)  # which other verbs have
    add(
        "logdir",
        nargs="*",
        metavar="LOGDIR",
        help="directory with runs below it, or the beginning of its name",
    )
    add(
        "-x",
        "--xaxis",
        default="TotalEnvInteracts",
        metavar="COLUMN",
        help="of the x-axis (default: %(default)s)",
    )
    add(
        "-y",
        "--value",
        nargs="+",
        default=["Performance"],
        metavar="COLUMN",
        help="of the y-axis, one panel each: columns of progress.txt, metrics such as eval/return, or "
        "Performance: the return of evaluations, or else of training episodes (default: Performance)",
    )
    add(
        "-s",
        "--smooth",
        default="1",
        metavar="ROWS",
        help="average over windows of so many rows (default: 1)",
    )
    add(
        "--select", nargs="+", default=[], metavar="TEXT", help="only members with all of these in their path"
    )
    add("--exclude", nargs="+", default=[], metavar="TEXT", help="no members with any of these in their path")
    add("-l", "--legend", nargs="+", default=[], metavar="LABEL", help="one for each directory")
    add("--count", action="store_true", help="a curve for every member")
    add("--est", default="mean", metavar="|".join(ESTIMATORS), help="statistic over members (default: mean)")
    add(
        "--out",
        metavar="PATH",
        help="file.png or file.svg, or file for both (default: plot.png and plot.svg)",
    )
    add("--title", metavar="TEXT", help="above the line that says statistic and number of seeds")
    return parser


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the options. Raises ConfigError for one that is unknown or has a bad value."""
    parser = _parser()
    options, rest = parser.parse_known_intermixed_args(argv)
    if rest:
        known = [name for action in parser._actions for name in action.option_strings]
        raise ConfigError("argument", rest[0], "an option of purerl plot", did_you_mean(rest[0], known))
    if not options.logdir:
        hint = "Give the directories first: what follows -y, -l, --select and --exclude belongs to these."
        raise ConfigError("logdir", [], "at least one directory with runs below it", hint)
    if not (options.smooth.isascii() and options.smooth.isdigit() and int(options.smooth) >= 1):
        raise ConfigError("smooth", options.smooth, "a whole number of rows, at least 1")
    if options.est not in ESTIMATORS:
        raise ConfigError("est", options.est, f"one of {', '.join(ESTIMATORS)}")
    if len(options.value) > MAX_PANELS:
        raise ConfigError("value", len(options.value), f"at most {MAX_PANELS} columns")
    options.smooth = int(options.smooth)
    return options


def _members_notes(setting: Setting) -> list[str]:
    """Return sentences about members that are left out, and about those that may count twice."""
    notes = []
    if bad := [log.path.name for log in setting.logs if diverged(log)]:
        names = shorten(", ".join(bad))
        notes.append(
            f"{setting.label}: {len(bad)} of {len(setting.logs)} members diverged, left out: {names}"
        )
    if twice := repeated_seeds(setting):
        what = "is there twice, and counts twice; --legend tells directories apart"
        notes.append(f"{setting.label}: seed {shorten(', '.join(twice))} {what}")
    return notes


def _ends(curve: Curve) -> list[str]:
    """Return a sentence if some members are longer than the curve."""
    if curve.longest <= curve.x[-1]:
        return []
    end, longest = f"{curve.x[-1]:,.0f}", f"{curve.longest:,.0f}"
    return [f"{curve.label}: ends at {end}, as its shortest member does; its longest goes to {longest}"]


def _title(options: argparse.Namespace, settings: Sequence[Setting], lines: Sequence[Line], bad: int) -> str:
    """Return the title; its last line has the statistic, the number of seeds and that of diverged ones."""
    numbers = sorted({line.members for line in lines})
    seeds = (
        "1 seed" if numbers == [1] else f"{' to '.join(map(str, sorted({numbers[0], numbers[-1]})))} seeds"
    )
    seeds += " each" if len(lines) > 1 and len(numbers) == 1 else ""
    line = f"{len(lines)} seeds, each a curve" if options.count and len(lines) > 1 else seeds
    if numbers[-1] > 1:
        line = f"{ESTIMATORS_IN_WORDS[options.est]} of {seeds}, with 95% bootstrap interval"
    line += f", without {bad} diverged" if bad else ""
    title = options.title or (settings[0].label if len(settings) == 1 else "")
    return "\n".join(part for part in (shorten(one_line(title), MAX_TITLE), line) if part)


def _counted(lines: Sequence[Line]) -> list[Line]:
    """Return the lines with the number of seeds in their labels, where it differs."""
    if len({line.members for line in lines}) == 1:
        return list(lines)
    seeds = lambda number: "1 seed" if number == 1 else f"{number} seeds"
    return [line._replace(label=f"{line.label} ({seeds(line.members)})") for line in lines]


def _table(label: str, x_label: str, lines: Sequence[Line], estimator: str) -> str:
    """Return the last values of the lines, one row each."""
    rows = [("setting", "seeds", x_label, f"{estimator} [95% interval]")]
    for line in lines:
        ends = f" [{line.low[-1]:,.4g}, {line.high[-1]:,.4g}]" if line.members > 1 else ""
        rows.append((line.label, str(line.members), f"{line.x[-1]:,.0f}", f"{line.y[-1]:,.4g}{ends}"))
    return "\n".join([f"{label}, last value", *aligned(rows)])
