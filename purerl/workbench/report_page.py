"""The HTML of a report: sections and tables, with the style, the script and the data of the figure inside.

Every text is escaped where it becomes HTML, since names and configurations of a run may be untrusted. The
page's own Content-Security-Policy lets no other script run and nothing be loaded.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from purerl.experiment.untrusted import one_line
from purerl.workbench.curves import diverged
from purerl.workbench.plot import COLOURS, MARKERS, STYLES
from purerl.workbench.report_curves import FIRST, Charts, seed_of
from purerl.workbench.report_facts import Run, differences, facts_of
from purerl.workbench.report_html import Html, escape, interval, table, warning
from purerl.workbench.report_sections import section

DASHES = {"-": "", "--": "6,2.6", "-.": "10,2.6,1.6,2.6", ":": "1.6,2.6"}
"""Dash arrays of Matplotlib's named styles, for lines of the page's width."""
STEPS = 10
"""Rows of the table in the place of the figure, where scripts do not run."""


def page(title: str, runs: Sequence[Run], charts: Charts, notes: Sequence[str]) -> str:
    """Return the page of some runs; the settings of `charts` are those of all runs, in order."""
    style, script = _colours() + _file("report.css"), _file("report.js")
    policy = f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; media-src data:"
    labels = [setting.label for run in runs for setting in run.settings]
    body = [f"<h1>{escape(title)}</h1>", *(warning(note) for note in notes)]
    body += [_overview(runs, charts)] if len(runs) > 1 else []
    body += [_figure(labels, charts)] if charts else []
    first = 0
    for i, run in enumerate(runs):
        body.append(section(i, run, charts, first))
        first += len(run.settings)
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            '<head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>",
            f"<style>{style}</style></head>",
            "<body><main>",
            *body,
            "</main>",
            f'<script type="application/json" id="data">{_data(runs, charts)}</script>' if charts else "",
            f"<script>{script}</script>" if charts else "",
            "</body></html>\n",
        ]
    )


def _file(name: str) -> str:
    return "\n" + Path(__file__).with_name(name).read_text("utf-8")


def _hash(text: str) -> str:
    """Return the source expression of a policy that allows exactly this inline text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _colours() -> str:
    """Return the classes of the figure's colours; black is white on a dark page."""
    rules = [f".c{i} {{ --c: {colour}; }}" for i, colour in enumerate(COLOURS)]
    dark = f".c{COLOURS.index('#000000')} {{ --c: #ffffff; }}"
    return "\n".join(["", *rules, f"@media (prefers-color-scheme: dark) {{ {dark} }}"])


def _data(runs: Sequence[Run], charts: Charts) -> str:
    """Return the data of the figure as JSON in which no character can end a script or begin markup."""
    settings = []
    for i, setting in enumerate(setting for run in runs for setting in run.settings):
        style = STYLES[i % len(STYLES)]
        dash = DASHES[style] if isinstance(style, str) else ",".join(f"{1.6 * n:g}" for n in style[1])
        look = {"colour": f"c{i % len(COLOURS)}", "dash": dash}
        look["marker"] = MARKERS[(i + i // 35) % len(MARKERS)]
        members = [seed_of(log) for log in setting.logs if not diverged(log)]
        settings.append({"label": setting.label, "members": members, **look})
    metrics = [
        {"name": one_line(name), "lines": [{"setting": i, **line._asdict()} for i, line in lines.items()]}
        for name, lines in charts.items()
    ]
    text = json.dumps({"settings": settings, "metrics": metrics}, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _figure(labels: Sequence[str], charts: Charts) -> str:
    name, lines = next(iter(charts.items()))
    rows = []
    for i, line in lines.items():
        for j in np.unique(np.linspace(0, len(line.x) - 1, STEPS).round().astype(int)):
            rows.append([labels[i], f"{line.x[j]:,.0f}", interval(line, j)])
    caption = f"{name}, mean over seeds with its 95% bootstrap interval; the figure needs JavaScript"
    plain = table(["setting", "step", name], rows, caption)
    return f"""<figure id="figure" hidden>
<div class="controls"><label>metric <select id="metric"></select></label>
<label><input type="checkbox" id="every-seed"> every seed</label></div>
<svg id="plot" tabindex="0" role="slider" aria-label="Learning curves: arrow keys move along the steps"></svg>
<ul id="legend" aria-label="curves, shown or hidden"></ul>
<div class="scroll tall" tabindex="0" role="region" aria-label="values at the cursor"><table><thead><tr>
<th scope="col">curve</th><th scope="col">step</th><th scope="col">mean</th><th scope="col">95% interval</th>
<th scope="col">every seed</th></tr></thead><tbody id="reading"></tbody></table></div>
<figcaption>Mean over seeds, with its 95% bootstrap interval shaded. Point at the figure, touch it or use the
arrow keys to read values; a curve's name hides and shows it.</figcaption></figure>
<noscript>{plain}</noscript>"""


def _overview(runs: Sequence[Run], charts: Charts) -> str:
    """Return the table of all runs: results, speed, and the fields in which they differ."""
    differ, rows, first = differences(runs), [], 0
    shown = [name for name in FIRST[:2] if name in charts]
    for i, run in enumerate(runs):
        facts = facts_of(run)
        mine = range(first, first + len(run.settings))
        best = [[charts[name][j] for j in mine if j in charts[name]] for name in shown]
        values = ["; ".join(interval(line, -1) for line in lines) for lines in best]
        fields = [row[i] for row in differ.values()]
        link = Html(f'<a href="#run{i}">{escape(run.name)}</a>')
        rows.append([link, facts["members"], *values, facts.get("steps/s, all members", ""), *fields])
        first += len(run.settings)
    head = ["run", "members", *shown, "steps/s", *differ]
    return "<h2>Runs</h2>\n" + table(head, rows, "last values, and the fields in which the runs differ")
