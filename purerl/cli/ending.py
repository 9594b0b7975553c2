"""The end of `purerl train`: the learning curve in the terminal, and what to type next."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import numpy as np

from purerl.experiment.runner import Run
from purerl.experiment.view import LEVELS, PLAIN_LEVELS, WIDE

HEIGHT, FEWEST = 6, 3
"""Lines of a curve, and points below which there is none."""
KINDS = {"eval/return": "return of evaluations", "episode/return": "return of training episodes"}


def ending(result: Run, plain: bool = False) -> str:
    """Return the curve of a run that has ended, and commands for its directory; `plain` is ASCII alone."""
    width = min(shutil.get_terminal_size().columns, WIDE)
    lines = curve(result, width, plain)
    if result.logdir:
        place = shlex.quote(_short(result.logdir))
        lines += ["", "next:"] if lines else ["next:"]
        lines += [f"  purerl {verb} {place}" for verb in ("plot", "eval", "play", "report", "export")]
    return "\n".join(lines)


def curve(result: Run, width: int, plain: bool = False) -> list[str]:
    """Return lines of at most `width` columns: the mean return over healthy members; [] without points."""
    healthy = result.diverged_at < 0
    known = (name for name in KINDS if np.isfinite(result.metrics.get(name, np.nan)).any())
    name = next(known, "")
    if not name or not healthy.any():
        return []
    returns = result.metrics[name][healthy]
    known = np.isfinite(returns).all(axis=0)
    x, y = result.steps[known], returns.mean(axis=0)[known]
    if len(x) < FEWEST:
        return []
    low, high = y.min(), y.max()
    labels = [f"{high:,.1f}", *[""] * (HEIGHT - 2), f"{low:,.1f}"]
    margin = max(map(len, labels))
    cells = max(8, width - margin - 3)
    heights = (np.interp(np.linspace(x[0], x[-1], cells), x, y) - low) / ((high - low) or 1)
    levels = PLAIN_LEVELS if plain else LEVELS
    rows = [_row(heights * HEIGHT - (HEIGHT - 1 - i), levels, i == HEIGHT - 1) for i in range(HEIGHT)]
    members = f", mean of {healthy.sum()} members" if healthy.sum() > 1 else ""
    axis = f"{x[0]:,}".ljust(cells - len(f"{x[-1]:,}")) + f"{x[-1]:,}"
    lines = [
        f"{label:>{margin}} {'|' if plain else '│'}{row}" for label, row in zip(labels, rows, strict=True)
    ]
    return [f"{KINDS[name]}{members}, over steps:", *lines, " " * (margin + 2) + axis]


def _row(filled: np.ndarray, levels: str, lowest: bool) -> str:
    """Return a line of cells, each filled from 0 to 1; those of the lowest line are never empty."""
    eighths = np.clip(np.round(filled * len(levels)), int(lowest), len(levels)).astype(int)
    return "".join(levels[n - 1] if n else " " for n in eighths).rstrip()


def _short(path: Path) -> str:
    """Return `path` as it is written from the working directory, if it is below that."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)
