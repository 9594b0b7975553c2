"""Pieces of HTML for a report: text that is escaped, and tables in boxes that scroll."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from purerl.experiment.untrusted import one_line
from purerl.workbench.report_curves import Chart


class Html(str):
    """Text that is HTML already; all other text is escaped."""

    __slots__ = ()


def escape(text: Any) -> str:
    """Return text as HTML: characters of markup escaped, those that cannot be printed written as escapes."""
    return text if isinstance(text, Html) else html.escape(one_line(str(text)))


def number(value: float) -> str:
    """Return a number as tables show it: four digits, or one decimal above 1,000; a dash for none."""
    if not np.isfinite(value):
        return "–"
    return f"{value:,.1f}".removesuffix(".0") if abs(value) >= 1000 else f"{value:.4g}"


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    caption: str = "",
    marked: Iterable[int] | None = None,
    kind: str = "",
) -> str:
    """Return a table in a box that scrolls.

    Args:
        head: names of the columns.
        rows: cells; the first is the name of its row.
        caption: above the table.
        marked: indices of the rows in the colour of warnings.
        kind: class of the other rows; with one, long values are wrapped.
    """
    bad = set(marked or ())
    lines = []
    for i, (first, *cells) in enumerate(rows):
        name = "bad" if i in bad else kind
        begin = f'<tr class="{name}">' if name else "<tr>"
        rest = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        lines.append(f'{begin}<th scope="row">{escape(first)}</th>{rest}</tr>')
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    label = escape(caption or f"table by {head[0]}")
    text = f'<p class="soft">{escape(caption)}</p>' if caption else ""
    box = f'<div class="scroll tall" tabindex="0" role="region" aria-label="{label}">'
    return f"{text}{box}<table><thead><tr>{top}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>\n"


def fold(summary: str, content: str) -> str:
    """Return content that is HTML behind a line that shows it."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>\n"


def warning(text: str) -> str:
    """Return a sentence in the colour of warnings."""
    return f'<p class="warn">{escape(text)}</p>'


def interval(line: Chart | None, i: int) -> str:
    """Return the i-th mean of a curve with its interval, as text; a dash without a curve."""
    if line is None:
        return "–"
    ends = f" [{number(line.low[i])}, {number(line.high[i])}]" if len(line.seeds) > 1 else ""
    return number(line.y[i]) + ends
