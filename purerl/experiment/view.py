"""Text of the live view: lines that fit a width, and a sparkline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from rich.cells import cell_len

from purerl.experiment.pace import Outlook, clock_time
from purerl.machine import format_bytes

Line = list[tuple[str, str]]
"""Texts with their styles."""
GAP = "   "
"""Space between the facts of a line."""
WIDE, WIDEST = 100, 140
"""Columns from which on more facts are shown."""
LEVELS, PLAIN_LEVELS = "▁▂▃▄▅▆▇█", ".:-=+*#@"
"""Levels of a sparkline, lowest first."""
CELLS = 60
"""Most cells of a sparkline."""
MIDDLE = 40
"""Fewest columns of a directory beside another fact."""
PLAIN = {"±": "+/-", "…": "..."}
"""ASCII in place of other characters."""


class View(NamedTuple):
    """The facts on show at one moment."""

    title: str
    phase: str
    step: int
    total: int
    members: int
    outlook: Outlook
    elapsed: float
    """Seconds since the display began."""
    compiled: float | None = None
    """Seconds of compilation."""
    rate: float | None = None
    """Steps per second, summed over members."""
    left: float | None = None
    """Seconds."""
    at_least: bool = False
    """True if `left` lacks evaluations, none of which is measured."""
    latest: Mapping[str, np.ndarray] = {}
    """The last known value of each metric, `[S]`."""
    history: Sequence[float] = ()
    """Mean return over members, oldest first."""
    best: tuple[float, int] | None = None
    """Highest mean evaluation, and its step."""
    next_evaluation: int | None = None
    diverged: Sequence[str] = ()
    resident: int | None = None
    """Bytes of the process in memory."""


def lines_of(view: View, width: int, plain: bool = False) -> list[Line]:
    """Return the lines of `view`, each of at most `width` columns, in ASCII where it is `plain`."""
    if plain:
        view = view._replace(title=to_ascii(view.title), diverged=[*map(to_ascii, view.diverged)])
    lines = [_header(view, width, plain), _bar(view, width, plain)]
    lines += _flow(_steps(view, width), width, plain)
    lines += _flow(_returns(view, width), width, plain)
    if len(view.history) > 1:
        _add_sparkline(lines, view.history, width, plain)
    lines += _flow(_evaluations(view), width, plain)
    if view.diverged:
        lines.append([(_diverged(view, width), "bold yellow")])
    return lines + _flow(_files(view, width, plain), width, plain)


def eta(view: View) -> str:
    """Return the time that is left in words."""
    if view.left is None:
        return "ETA measuring"
    return f"ETA {'over ' * view.at_least}{clock_time(view.left)}"


def rate_text(view: View, width: int = WIDEST) -> str:
    """Return the rate in words; empty until it is measured."""
    if view.rate is None:
        return ""
    over = (
        "" if view.members == 1 else " in total" if width < WIDEST else f" summed over {view.members} members"
    )
    return f"{_number(view.rate)} steps/s{over}"


def evaluation_text(view: View) -> str:
    """Return the latest evaluation, or the step of the first; empty where evaluation is off."""
    if "eval/return" in view.latest and view.best:
        return f"evaluation {spread(view.latest['eval/return'])}"
    return f"evaluation first at {view.next_evaluation:,}" if view.next_evaluation else ""


def _number(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 9.95 else f"{rate:.1f}"


def _header(view: View, width: int, plain: bool) -> Line:
    phase = view.phase
    if cell_len(view.title) + len(GAP) + cell_len(phase) > width:
        phase = phase.split()[0] if phase else ""
    title = shortened(view.title, width - cell_len(phase) - len(GAP), plain)
    space = " " * (width - cell_len(title) - cell_len(phase))
    return [(title, "bold"), (space, ""), (phase, "cyan")]


def _bar(view: View, width: int, plain: bool) -> Line:
    share = min(1.0, view.step / view.total)
    percent = f"{math.floor(1000 * share) / 10:5.1f}%"
    cells = max(0, width - len(percent) - len(eta(view)) - 1 - len(GAP))
    done, rest = "#-" if plain else "━─"
    full = int(share * cells)
    bar = [(done * full, "green"), (rest * (cells - full), "dim")]
    return [*bar, (f" {percent}{GAP}", ""), (eta(view), "bold")]


def _steps(view: View, width: int) -> list[str]:
    each = " each" if view.members > 1 else ""
    facts = [f"{view.step:,} / {view.total:,} steps{each}", rate_text(view, width)]
    if view.rate is not None and view.members > 1 and width >= WIDEST:
        facts.append(f"{_number(view.rate / view.members)} steps/s each")
    facts.append(f"elapsed {clock_time(view.elapsed)}")
    if view.compiled is not None and width >= WIDE:
        facts.append(f"compile {view.compiled:.1f} s")
    return facts


def _returns(view: View, width: int) -> list[str]:
    values = view.latest.get("episode/return", np.zeros(0))
    known = values[np.isfinite(values)]
    over = f" over {known.size} members" if known.size > 1 and width > 60 else ""
    facts = [f"return {spread(values)}{over}"]
    if known.size > 1 and width >= WIDEST:
        facts.append(f"lowest {known.min():,.1f}, highest {known.max():,.1f}")
    return facts


def _evaluations(view: View) -> list[str]:
    facts = [evaluation_text(view)]
    if view.best:
        value, step = view.best
        facts.append(f"best {value:,.1f} at {step:,}")
        facts.append(f"next at {view.next_evaluation:,}" if view.next_evaluation else "")
    return facts


def _files(view: View, width: int, plain: bool) -> list[str]:
    memory = f"memory {format_bytes(view.outlook.memory)}" if view.outlook.memory else ""
    if view.resident and width >= WIDE:
        memory += f", process {format_bytes(view.resident)}"
    if not view.outlook.path:
        return [memory, "no files are written"]
    room = width - len("in ") - (len(memory) + len(GAP)) * bool(memory)
    path = to_ascii(view.outlook.path) if plain else view.outlook.path
    if cell_len(path) > room:
        path = shortened(path, room if room >= MIDDLE else width - len("in "), plain)
    return [memory, f"in {path}"]


def _diverged(view: View, width: int) -> str:
    names = list(view.diverged)
    head = f"{len(names)} of {view.members} members diverged" if view.members > 1 else "diverged"
    for shown in range(min(len(names), width), 0, -1):
        more = f" and {len(names) - shown} more" if shown < len(names) else ""
        if cell_len(text := f"{head}: {', '.join(names[:shown])}{more}") <= width:
            return text
    return head


def _flow(facts: Sequence[str], width: int, plain: bool) -> list[Line]:
    """Return `facts` in as few lines as hold them, in order."""
    texts: list[str] = []
    for fact in filter(None, map(to_ascii, facts) if plain else facts):
        if texts and cell_len(texts[-1]) + len(GAP) + cell_len(fact) <= width:
            texts[-1] += GAP + fact
        else:
            texts.append(shortened(fact, width, plain))
    return [[(text, "")] for text in texts]


def _add_sparkline(lines: list[Line], history: Sequence[float], width: int, plain: bool) -> None:
    """Add the curve of returns to the last line, or below it where that has no room."""
    room = width - sum(cell_len(text) for text, _ in lines[-1]) - len(GAP)
    curve = (sparkline(history, min(CELLS, room if room >= 8 else width), plain), "green")
    if room >= 8:
        lines[-1] += [(GAP, ""), curve]
    else:
        lines.append([curve])


def sparkline(values: Sequence[float], cells: int, plain: bool = False) -> str:
    """Return a character per value, of means of neighbours if there are more than `cells`."""
    levels = PLAIN_LEVELS if plain else LEVELS
    parts = np.array_split(np.asarray(values, float), min(cells, len(values)))
    means = np.array([part.mean() for part in parts])
    low, high = means.min(), means.max()
    scaled = (means - low) / (high - low) if high > low else np.full(len(means), 0.5)
    return "".join(levels[i] for i in np.rint(scaled * (len(levels) - 1)).astype(int))


def text_of(view: View, width: int, plain: bool = False) -> list[str]:
    """Return the lines of `view` without their styles."""
    return ["".join(text for text, _ in line).rstrip() for line in lines_of(view, width, plain)]


def spread(values: np.ndarray) -> str:
    """Return mean and standard deviation over the members that have a value."""
    known = values[np.isfinite(values)]
    if not known.size:
        return "-"
    return f"{known.mean():,.1f}" + (f" ± {known.std():,.1f}" if known.size > 1 else "")


def shortened(text: str, width: int, plain: bool = False) -> str:
    """Return `text` with its middle left out, if it has more than `width` columns."""
    if cell_len(text) <= width:
        return text
    mark = "..." if plain else "…"
    room = max(0, width - len(mark))
    head, tail = text[: room // 3], text[room // 3 :]
    while tail and cell_len(head) + cell_len(tail) > room:
        tail = tail[1:]
    return f"{head}{mark}{tail}"


def to_ascii(text: str) -> str:
    """Return `text` with ASCII in the place of every other character."""
    for character, replacement in PLAIN.items():
        text = text.replace(character, replacement)
    return text.encode("ascii", "replace").decode()
