"""Progress of a run: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn

PLAIN_SECONDS = 10.0
"""Without a terminal, a line at least this often."""
PATIENCE_SECONDS = 1.5
"""Longest work without an announcing line, where there is no bar to show it."""
PACE_SECONDS = 60.0
"""The rate shown is that of the last minute."""


class Lasting:
    """A text stream that drops what cannot be written: a terminal may be gone, a pipe broken, a disk full."""

    def __init__(self, stream: Any):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):  # ValueError: it was closed
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()


class Display(AbstractContextManager):
    """The display of one run. Step counts are per member; rates are summed over members."""

    def __init__(self, title: str, total_steps: int, num_members: int, enabled: bool = True):
        self._title, self._total, self._members = title, total_steps, num_members
        enabled = enabled and sys.stderr is not None  # it is None where a shell has closed it
        screen: Any = Lasting(sys.stderr) if enabled else None
        self._console = Console(file=screen, quiet=not enabled, highlight=False)
        self._live = self._console.is_terminal and enabled
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TextColumn("{task.fields[facts]}", markup=False),
            console=self._console,
            expand=True,
            transient=True,
            disable=not self._live,
        )
        self._task = self._bar.add_task(title, total=total_steps, facts="")
        self._recent: deque[tuple[float, int]] = deque()
        self._printed = -np.inf
        self._returns = ""

    def __enter__(self) -> Display:
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Remove the bar."""
        self._bar.stop()

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self._console.print(text, soft_wrap=True, markup=False)  # a directory may be named [/x]

    def phase(self, text: str) -> None:
        """Show a stage before the first step."""
        self._bar.update(self._task, facts=text)
        if not self._live:
            self.say(f"{self._title}: {text}")

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Show what may take a while; without a terminal, and if it takes longer than PATIENCE_SECONDS."""
        if not self._live:
            timer = threading.Timer(PATIENCE_SECONDS, self.say, [f"{self._title}: {what}"])
            timer.daemon = True
            timer.start()
        self._bar.update(self._task, facts=what)
        began = time.monotonic()
        try:
            yield
        finally:
            if not self._live:
                timer.cancel()
                if (seconds := time.monotonic() - began) > PATIENCE_SECONDS:
                    self.say(f"{self._title}: {what} took {seconds:.1f} s")

    def step(self, step: int) -> None:
        """Show that the run has reached `step`; the first call starts the clock."""
        now = time.monotonic()
        self._recent.append((now, step))
        while now - self._recent[0][0] > PACE_SECONDS and len(self._recent) > 2:
            self._recent.popleft()
        facts = self._facts()
        self._bar.update(self._task, completed=step, facts=facts)
        if not self._live and now - self._printed >= PLAIN_SECONDS:
            self.say(f"{step:,} of {self._total:,} steps  {facts}")
            self._printed = now

    def row(self, step: int, latest: Mapping[str, np.ndarray]) -> None:
        """Show a finished row of metrics; `latest` holds the last known value of each, `[S]`."""
        shown = {"return": "episode/return", "evaluation": "eval/return"}
        known = {label: latest[name] for label, name in shown.items() if name in latest}
        self._returns = "  ".join(f"{label} {spread(value)}" for label, value in known.items())
        self._printed = -np.inf
        self.step(step)

    def _facts(self) -> str:
        (then, first), (now, last) = self._recent[0], self._recent[-1]
        if last == first:
            return self._returns
        pace = (last - first) / (now - then)
        left = timedelta(seconds=round((self._total - last) / pace))
        return "  ".join(filter(None, (f"{pace * self._members:,.0f} steps/s", self._returns, f"ETA {left}")))


def spread(values: np.ndarray) -> str:
    """Return mean and standard deviation over the members that have a value."""
    known = values[np.isfinite(values)]
    if not known.size:
        return "-"
    return f"{known.mean():,.1f}" + (f" ± {known.std():,.1f}" if known.size > 1 else "")
