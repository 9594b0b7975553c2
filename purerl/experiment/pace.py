"""Rates of a run and the time that is left: warm-up, training, evaluations and checkpoints apart."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from purerl.config import Config
from purerl.schedule import Schedule

PACE_SECONDS = 60.0
"""The rate is that of the last minute."""
MEASURING_SECONDS = 2.0
"""Training before the first estimate of the time that is left."""
LONG_SECONDS = 10.0
"""Training before the estimate is printed as a line that stays."""
HISTORY = 512
"""Most points of the curve of returns."""


class Outlook(NamedTuple):
    """Parts of a run that are known before its first step."""

    warmup_steps: int = 0
    evaluations: Sequence[int] | np.ndarray = ()
    """Steps of all evaluations, ascending."""
    save_steps: int = 0
    """Steps between checkpoints; 0 where steps do not decide."""
    save_seconds: float = 0.0
    """Seconds between checkpoints; 0 where time does not decide."""
    memory: int = 0
    """Planned bytes."""
    path: str = ""
    """Directory of the run; empty if nothing is written."""

    def next_evaluation(self, step: int) -> int | None:
        """Return the step of the first evaluation after `step`; None if there is none."""
        index = int(np.searchsorted(self.evaluations, step, side="right"))
        return int(self.evaluations[index]) if index < len(self.evaluations) else None


def make_outlook(cfg: Config, schedule: Schedule, memory: int = 0, path: Path | None = None) -> Outlook:
    """Return the outlook of a run that writes to `path`, if it is given."""
    ends = schedule.warmup_steps + schedule.row_steps * np.arange(1, schedule.rows + 1)
    evaluations = ends[schedule.evaluates_at(cfg, ends)] if cfg.eval_interval else ()
    saves = (cfg.checkpoint_interval, 60.0 * cfg.checkpoint_minutes) if path else (0, 0.0)
    where = ""
    if path:
        where = str(path)
        with suppress(OSError, ValueError):  # the working directory is gone, or another one
            where = os.path.join(path.relative_to(Path.cwd()), "")
    return Outlook(schedule.warmup_steps, evaluations, *saves, memory, where)


class Pace:
    """The progress of one process: steps done before it was resumed are in no rate."""

    def __init__(self, total_steps: int, outlook: Outlook, clock: Callable[[], float]):
        self._total, self._outlook, self._clock = total_steps, outlook, clock
        self._samples: deque[tuple[float, int]] = deque()
        self._durations: dict[str, deque[float]] = {}
        self._paused = 0.0
        self._left: tuple[float, float] | None = None
        self.step = 0
        self.evaluated = 0
        """Step up to which every evaluation is done."""
        self.rate: float | None = None
        """Steps of each member per second, without evaluations and checkpoints; None until it is measured."""

    @property
    def is_warming_up(self) -> bool:
        """Return True before the first update."""
        return self.step < self._outlook.warmup_steps

    @property
    def lacks_evaluations(self) -> bool:
        """Return True if evaluations are due and none is measured, so that `left` is too low."""
        return "evaluating" not in self._durations and self._evaluations_left() > 0

    @property
    def measured(self) -> float:
        """Seconds of training that the rate is measured over; 0 in the warm-up."""
        return 0.0 if self.is_warming_up else self._samples[-1][0] - self._samples[0][0]

    def reach(self, step: int) -> None:
        """Note that the run has reached `step`; the first call starts the clock."""
        if not self._samples:
            self.evaluated = step
        elif step == self._samples[-1][1]:
            return
        self.step, samples = step, self._samples
        samples.append((self._clock() - self._paused, step))
        while samples[-1][0] - samples[0][0] > PACE_SECONDS and len(samples) > 2:
            samples.popleft()
        (then, first), (now, last) = samples[0], samples[-1]
        self.rate = (last - first) / (now - then) if now > then and last > first else None
        if first < self._outlook.warmup_steps <= last:
            self._samples, self.rate = deque([samples[-1]]), None
        self._estimate()

    def finish_row(self, step: int) -> None:
        """Note that the row that ends at `step` is finished, its evaluation included."""
        self.evaluated = step
        self._estimate()

    @contextmanager
    def apart(self, kind: str) -> Iterator[None]:
        """Keep the time of the block, "evaluating" or "saving", out of the rate."""
        began = self._clock()
        try:
            yield
        finally:
            seconds = self._clock() - began
            self._paused += seconds
            self._durations.setdefault(kind, deque(maxlen=3)).append(seconds)
            self._estimate()

    def left(self) -> float | None:
        """Return the seconds that are left; None until the rate of training is measured."""
        if self._left is None:
            return None
        then, seconds = self._left
        return max(0.0, seconds - (self._clock() - then))

    def _evaluations_left(self) -> int:
        evaluations = self._outlook.evaluations
        return len(evaluations) - int(np.searchsorted(evaluations, self.evaluated, side="right"))

    def _estimate(self) -> None:
        """Set `_left`; once it is known it stays known."""
        done = self.step >= self._total
        known = self._left is not None or (self._samples and self.measured >= MEASURING_SECONDS)
        if not done and not (known and self.rate):
            return
        seconds = 0.0 if done or not self.rate else (self._total - self.step) / self.rate
        seconds += self._evaluations_left() * self._mean("evaluating")
        every, minutes = self._outlook.save_steps, self._outlook.save_seconds
        saves = 1 + (int(seconds // minutes) if minutes else 0)
        saves += self._total // every - self.step // every if every else 0
        self._left = self._clock(), seconds + saves * self._mean("saving")

    def _mean(self, kind: str) -> float:
        durations: Any = self._durations.get(kind, [0.0])
        return sum(durations) / len(durations)


class History:
    """Means of a growing sequence over equal intervals, of which there are at most HISTORY."""

    def __init__(self) -> None:
        self._means: list[float] = []
        self._open: list[float] = []
        self._interval = 1

    def add(self, value: float) -> None:
        """Append `value`."""
        self._open.append(value)
        if len(self._open) == self._interval:
            self._means.append(sum(self._open) / self._interval)
            self._open = []
        if len(self._means) == HISTORY:
            self._means = [(a + b) / 2 for a, b in zip(self._means[::2], self._means[1::2], strict=True)]
            self._interval *= 2

    def means(self) -> list[float]:
        """Return the mean of every interval, oldest first; the last one may be shorter."""
        rest = self._open
        return [*self._means, *([sum(rest) / len(rest)] if rest else [])]


def mean_of(values: np.ndarray | None) -> float | None:
    """Return the mean of the finite ones among `values`, None if there are none."""
    known = values[np.isfinite(values)] if values is not None else np.zeros(0)
    return float(known.mean()) if known.size else None


def clock_time(seconds: float) -> str:
    """Return a duration as `4:05:06`, or `2d 04:05:06`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return f"{days}d {hour:02}:{minute:02}:{second:02}" if days else f"{hour}:{minute:02}:{second:02}"


def hours_text(seconds: float) -> str:
    """Return a duration of more than an hour in words."""
    hours = seconds / 3600
    if hours >= 48:
        return f"{hours / 24:.1f} days"
    return f"{hours:.0f} hours" if hours >= 9.5 else f"{hours:.1f} hours"
