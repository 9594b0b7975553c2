"""The display of a run: a live view on a terminal or in a notebook, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from purerl.experiment.notebook import Notebook, in_notebook
from purerl.experiment.pace import LONG_SECONDS, History, Outlook, Pace, hours_text, mean_of
from purerl.experiment.view import (
    View,
    eta,
    evaluation_text,
    lines_of,
    rate_text,
    spread,
    to_ascii,
)
from purerl.machine import format_bytes

PLAIN_SECONDS = 10.0
"""Without a terminal, a line at least this often."""
PATIENCE_SECONDS = 1.5
"""Longest work without an announcing line, where there is no live view to show it."""
REDRAWS_PER_SECOND = 5
UNKNOWN = Outlook()


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
    """The display of one run. Step counts are per member; rates are summed over members.

    `clock` gives seconds.
    """

    def __init__(
        self,
        title: str,
        total_steps: int,
        num_members: int,
        enabled: bool = True,
        outlook: Outlook = UNKNOWN,
        clock: Callable[[], float] = time.monotonic,
    ):
        outlook = outlook._replace(path=_printable(outlook.path))
        self._title, self._total, self._members = _printable(title), total_steps, num_members
        self._outlook, self._clock, self._began = outlook, clock, clock()
        self._pace = Pace(total_steps, outlook, clock)
        self._history, self._latest = History(), {}
        self._best: tuple[float, int] | None = None
        self._stage, self._busy = "starting", ""
        self._compiled: float | None = None
        self._diverged: Sequence[str] = ()
        self._printed, self._is_long_known = -np.inf, False
        enabled = enabled and sys.stderr is not None  # it is None where a shell has closed it
        screen: Any = Lasting(sys.stderr) if enabled else None
        self._console = Console(file=screen, quiet=not enabled, highlight=False, force_jupyter=False)
        self._ascii = self._console.options.ascii_only
        self._notebook = Notebook(clock) if enabled and in_notebook() else None
        self._live = enabled and not self._notebook and self._console.is_interactive
        self._prints = enabled and not self._live and not self._notebook
        self._screen = Live(
            console=self._console,
            auto_refresh=self._live,
            refresh_per_second=REDRAWS_PER_SECOND,
            transient=True,
            get_renderable=self._drawing,
        )

    def __enter__(self) -> Display:
        """Show the view."""
        if self._live:
            self._screen.start(refresh=True)
        self._redraw(at_once=True)
        return self

    def __exit__(self, *error: object) -> None:
        """Remove the view from a terminal; a notebook keeps its last one."""
        if self._live:
            self._screen.stop()
        self._redraw(at_once=True)

    def say(self, text: str) -> None:
        """Print a line that stays."""
        if self._notebook:
            self._notebook.said.append(text)
            self._redraw(at_once=True)
            return
        shown = Text(to_ascii(text) if self._ascii else text, overflow="ignore")  # no path is divided
        self._console.print(shown, soft_wrap=not self._live, crop=False)

    def phase(self, text: str) -> None:
        """Show a stage before the first step."""
        self._stage = text
        self._redraw(at_once=True)
        if self._prints:
            self.say(f"{self._title}: {text}")

    def compiled(self, seconds: float, needed: int = 0) -> None:
        """Show the duration of the compilation, which is over, and the bytes `needed` beside the plan."""
        self._stage, self._compiled = "starting", seconds
        self._outlook = self._outlook._replace(memory=self._outlook.memory + needed)
        self.say(f"compiled in {seconds:.1f} s")
        if needed:
            self.say(f"memory: {format_bytes(needed)} more while its programs run")

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Show what may take a while; "evaluating ..." and "saving ..." stay out of the rate.

        Without a terminal it is a line, if it takes longer than PATIENCE_SECONDS.
        """
        line = f"{self._title}: {what}"
        announce = lambda: self.say(line) if self._prints else self._redraw(at_once=True)
        timer = threading.Timer(PATIENCE_SECONDS, announce)
        timer.daemon = True
        if self._prints or self._notebook:
            timer.start()
        kind, self._busy = what.split()[0], what
        self._redraw()
        began = time.monotonic()
        try:
            with self._pace.apart(kind) if kind in ("evaluating", "saving") else nullcontext():
                yield
        finally:
            timer.cancel()
            self._busy = ""
            if self._prints and (seconds := time.monotonic() - began) > PATIENCE_SECONDS:
                self.say(f"{line} took {seconds:.1f} s")

    def step(self, step: int, diverged: Iterable[str] | None = None) -> None:
        """Show that the run has reached `step`, the first call starts the clock, and who has `diverged`."""
        self._stage = ""
        self._diverged = self._diverged if diverged is None else [*diverged]
        self._pace.reach(step)
        if not self._is_long_known and self._pace.measured >= LONG_SECONDS:
            self._is_long_known = True
            self._say_hours()
        if self._prints and self._clock() - self._printed >= PLAIN_SECONDS:
            self._print_facts()
        self._redraw()

    def remember(self, step: int, latest: Mapping[str, np.ndarray]) -> None:
        """Take a finished row of metrics; `latest` holds the last known value of each, `[S]`.

        Values of diverged members, which are old, count only where there are no others.
        """
        sick = latest.get("seed/diverged", np.zeros(1)) > 0
        shown = {name: latest[name] for name in ("episode/return", "eval/return") if name in latest}
        if not sick.all():
            shown = {name: np.where(sick, np.nan, values) for name, values in shown.items()}
        self._latest = shown
        returns, evaluation = (mean_of(shown.get(name)) for name in ("episode/return", "eval/return"))
        if returns is not None:
            self._history.add(returns)
        if evaluation is not None and (self._best is None or evaluation > self._best[0]):
            self._best = evaluation, step

    def row(self, step: int, latest: Mapping[str, np.ndarray]) -> None:
        """Show a finished row of metrics, as `remember` takes it."""
        self.remember(step, latest)
        self._printed = -np.inf
        self._pace.finish_row(step)
        self.step(step)

    def view(self) -> View:
        """Return the facts of this moment."""
        pace = self._pace
        warmup = f"warm-up to step {self._outlook.warmup_steps:,}"
        stage = warmup if pace.is_warming_up else "training" if pace.step < self._total else "done"
        return View(
            title=self._title,
            phase=self._busy or self._stage or stage,
            step=pace.step,
            total=self._total,
            members=self._members,
            outlook=self._outlook,
            elapsed=self._clock() - self._began,
            compiled=self._compiled,
            rate=None if pace.rate is None else pace.rate * self._members,
            left=pace.left(),
            at_least=pace.lacks_evaluations,
            latest=self._latest,
            history=self._history.means(),
            best=self._best,
            next_evaluation=self._outlook.next_evaluation(pace.evaluated),
            diverged=self._diverged,
            resident=_resident_bytes(),
        )

    def _redraw(self, at_once: bool = False) -> None:
        if self._notebook:
            self._notebook.draw(self.view(), at_once)

    def _drawing(self) -> Group:
        lines = lines_of(self.view(), self._console.width, self._ascii)
        texts = [Text.assemble(*line, no_wrap=True, overflow="crop") for line in lines]
        return Group(*texts[: max(1, self._console.height - 1)])  # a taller view could not be removed

    def _print_facts(self) -> None:
        view = self.view()
        returns = f"return {spread(view.latest['episode/return'])}" if "episode/return" in view.latest else ""
        facts = rate_text(view), returns, evaluation_text(view), eta(view)
        self.say("  ".join([f"{view.step:,} of {view.total:,} steps", *filter(None, facts)]))
        self._printed = self._clock()

    def _say_hours(self) -> None:
        view = self.view()
        if view.left is None or view.left <= 3600:
            return
        over = "" if self._members == 1 else " summed over the members"
        text = f"about {hours_text(view.left)} left, at {view.rate or 0:,.0f} steps/s{over}"
        self.say(text + ", evaluations not counted" * view.at_least)


def _printable(text: str) -> str:
    """Return `text` without characters that move the cursor."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _resident_bytes() -> int | None:
    """Return the memory of this process on Linux, None elsewhere."""
    with suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return None
