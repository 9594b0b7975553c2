"""The view of a run in a notebook: lines, and the curve of returns, in one output that is redrawn."""

from __future__ import annotations

import html
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any
from uuid import uuid4

from purerl.experiment.view import WIDE, View, text_of

REDRAW_SECONDS = 0.5
"""Shortest time between two redraws that no message asks for."""


def in_notebook() -> bool:
    """Return True in a kernel of IPython, which is not imported for this."""
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


class Notebook:
    """One output of a cell, which stays."""

    def __init__(self, clock: Callable[[], float]):
        self._clock, self._id = clock, f"purerl-{uuid4().hex}"
        self._drawn: float | None = None
        self.said: list[str] = []
        """Lines that stay above the view."""

    def draw(self, view: View, at_once: bool = False) -> None:
        """Show `view`; the last redraw is at least REDRAW_SECONDS ago, unless `at_once`."""
        now = self._clock()
        if self._drawn is not None and now - self._drawn < REDRAW_SECONDS and not at_once:
            return
        text = "\n".join([*self.said, *text_of(view, WIDE)])
        data = {"text/plain": text, "text/html": curve_html(view, self.said)}
        with suppress(Exception):  # a page that is closed ends no run
            from IPython.display import display, update_display  # pyright: ignore[reportMissingImports]

            show = display if self._drawn is None else update_display
            show(data, raw=True, display_id=self._id)
        self._drawn = now


def curve_html(view: View, said: Sequence[str]) -> str:
    """Return lasting lines, the view and its curve of returns as HTML."""
    text = "\n".join([*said, "", *text_of(view._replace(history=()), WIDE)])
    return f'<pre style="line-height: 1.3">{html.escape(text)}</pre>{_svg(view.history)}'


def _svg(values: Sequence[float], width: int = 640, height: int = 120) -> str:
    """Return the curve of `values` with their range; empty without two of them."""
    if len(values) < 2:
        return ""
    low, high = min(values), max(values)
    scale = (height - 20) / (high - low) if high > low else 0.0
    x = lambda i: i * width / (len(values) - 1)
    y = lambda value: height - 10 - (value - low) * scale
    points = " ".join(f"{x(i):.1f},{y(value):.1f}" for i, value in enumerate(values))
    labels = "".join(
        f'<text x="{width + 6}" y="{y(value) + 4:.1f}" font-size="11" fill="currentColor">{value:,.1f}</text>'
        for value in {low, high}
    )
    line = f'<polyline points="{points}" fill="none" stroke="#2a9d5c" stroke-width="1.5"/>'
    return f'<svg width="{width + 80}" height="{height}" role="img" aria-label="return">{line}{labels}</svg>'
