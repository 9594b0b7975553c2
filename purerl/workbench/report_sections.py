"""Sections of a report: facts, last values, evaluations, film, members and configuration of a run."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from purerl.workbench import stats
from purerl.workbench.curves import diverged
from purerl.workbench.evaluation import Evaluation
from purerl.workbench.member_logs import repeated_seeds
from purerl.workbench.report_curves import FIRST, Charts, last_of
from purerl.workbench.report_facts import Field, Run, changes_of, facts_of, fields_of, text_of
from purerl.workbench.report_html import escape, fold, interval, number, table, warning

MANY = 12
"""Rows of the longest table that is not folded."""


def section(i: int, run: Run, charts: Charts, first: int) -> str:
    """Return the section of the i-th run, whose settings have the indices from `first` on in `charts`."""
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts_of(run).items())
    parts = [f'<section id="run{i}"><h2>{escape(run.name)}</h2>', *(warning(note) for note in _notes(run))]
    parts += [f"<dl>{facts}</dl>", _finals(run, charts, first)]
    fields = fields_of(run)
    for part, evaluation in zip(run.parts, run.evaluations, strict=False):  # of all parts, or of none
        parts.append(_evaluation(evaluation, part.relative_to(run.path), len(run.settings) == 1))
    if run.film:
        parts.append(f"<h3>Film</h3><p>{escape(run.film.words)}</p>")
        if run.film.content:
            source = base64.b64encode(run.film.content).decode()
            parts.append(
                f'<video controls loop muted playsinline src="data:video/mp4;base64,{source}"></video>'
            )
    parts += [_members(run, [field for field in fields if len(field.values) > 1]), _config(fields)]
    if changes := changes_of(run):
        parts += ["<h3>Changes on resume</h3>", table(["time", "field", "before", "after"], changes)]
    return "\n".join([*parts, "</section>"])


def _notes(run: Run) -> list[str]:
    """Return sentences about diverged members, repeated seeds and files that could not be read."""
    notes = list(run.notes)
    if bad := [run.member(log) for log in run.logs if diverged(log)]:
        notes.append(f"{len(bad)} of {len(run.logs)} members diverged, left out of curves: {', '.join(bad)}")
    for setting in run.settings:
        if twice := repeated_seeds(setting):
            notes.append(f"{setting.label}: seed {', '.join(twice)} is there twice, and counts twice")
    return notes


def _finals(run: Run, charts: Charts, first: int) -> str:
    """Return the last values of the first metrics, and of all metrics, folded."""
    tables = []
    for names in ([name for name in FIRST if name in charts], list(charts)):
        rows = []
        for i, setting in enumerate(run.settings, first):
            lines = [charts[name].get(i) for name in names]
            there = [line for line in lines if line]
            seeds = len(there[0].seeds) if there else 0
            step = f"{max(line.x[-1] for line in there):,.0f}" if there else ""
            rows.append([setting.label, str(seeds), step, *(interval(line, -1) for line in lines)])
        tables.append((["setting", "seeds", "step", *names], rows))
    (head, rows), (everything, all_rows) = tables
    caption = "Mean over seeds [95% bootstrap interval], each at the last step where all seeds have it"
    turned = [list(row) for row in zip(everything[3:], *(row[3:] for row in all_rows), strict=True)]
    whole = table(["metric", *(row[0] for row in all_rows)], turned)
    return f"<h3>Last values</h3>{table(head, rows, caption)}{fold('Every metric', whole)}"


def _evaluation(done: Evaluation, part: Path, alike: bool) -> str:
    """Return the table of an evaluation, with the mean over members if these differ in their seed only."""
    rows, bad = [], set()
    columns = zip(done.members, done.returns, done.lengths, done.diverged, strict=True)
    for i, (name, returns, lengths, sick) in enumerate(columns):
        spread = (returns.mean(), returns.std(), returns.min(), returns.max(), lengths.mean())
        rows.append([str(part / name), *map(number, map(float, spread)), "diverged" if sick else ""])
        bad |= {i} if sick else set()
    healthy = done.returns[~done.diverged].mean(axis=1)
    caption = f"Returns of {done.returns.shape[1]} fresh episodes of every member"
    if alike and healthy.size > 1:
        low, high = stats.bootstrap_interval(healthy[:, None], stats.mean)
        ends = f"[{number(float(low))}, {number(float(high))}]"
        caption += f"; mean of {healthy.size} members {number(float(healthy.mean()))} {ends}"
    head = ["member", "mean", "standard deviation", "min", "max", "length", ""]
    return f"<h3>Evaluation</h3>{table(head, rows, caption, bad)}"


def _members(run: Run, swept: Sequence[Field]) -> str:
    shown = [name for name in FIRST[:2] if any(np.isfinite(last_of(log, name)) for log in run.logs)]
    rows, bad = [], set()
    for i, log in enumerate(run.logs):
        values = [text_of(log.config[field.name]) if field.name in log.config else "" for field in swept]
        returns = [number(last_of(log, name)) for name in shown]
        step = last_of(log, "step")
        sick = "diverged" if diverged(log) else ""
        rows.append([run.member(log), *values, f"{step:,.0f}" if np.isfinite(step) else "–", *returns, sick])
        bad |= {i} if sick else set()
    head = ["member", *(field.name for field in swept), "step", *shown, ""]
    whole = table(head, rows, "Swept values, and the last values of every member's log", bad)
    return f"<h3>Members</h3>{whole if len(rows) <= MANY else fold(f'{len(rows)} members', whole)}"


def _config(fields: Sequence[Field]) -> str:
    if not fields:
        return ""
    rows = [[("≠ " if f.differs else "") + f.name, ", ".join(f.values), f.default or "–"] for f in fields]
    differ = sum(field.differs for field in fields)
    head, caption = ["field", "value", "default"], "≠ marks fields that differ from the algorithm's defaults"
    if all(field.default is None for field in fields):
        caption = "The defaults of this algorithm are not known here"
    parts = ["<h3>Configuration</h3>", table(head, rows[:differ], caption, kind="differs") if differ else ""]
    rest = table(head, rows[differ:], "" if differ else caption, kind="field")
    return "".join([*parts, fold(f"{len(rows) - differ} other fields", rest) if differ else rest])
