"""The host's side of a run: piece after piece, a log at the end of every row, a checkpoint when due."""

from __future__ import annotations

import math
import signal
import time

import numpy as np

from purerl.experiment.checkpoint import CheckpointError
from purerl.experiment.console import Display
from purerl.experiment.directory import RunDirectory
from purerl.experiment.interrupts import Interrupted, Interrupts
from purerl.experiment.program import Program, Snapshot

Row = dict[str, np.ndarray]
"""One row of metrics, each `[S]`; also `epoch`, `step` and `time`."""


class Loop:
    """Takes a run to its end.

    Args:
        program: the compiled pieces.
        directory: where to log and to save; None for nowhere.
        display: what a person sees.
        interrupts: who may want an early end.
        rows: those that are logged already.
        stop_at_return: see `purerl.run`.
    """

    def __init__(
        self,
        program: Program,
        directory: RunDirectory | None,
        display: Display,
        interrupts: Interrupts,
        rows: list[Row],
        stop_at_return: float | None,
    ):
        self._program, self._directory, self._display = program, directory, display
        self._interrupts, self._stop_at_return = interrupts, stop_at_return
        self.rows = rows
        self.latest: Row = {}
        """The last known value of each metric."""
        self.headline = "eval/return" if program.cfg.eval_interval else "episode/return"
        for row in rows:
            self._remember(row)

    def train(self, snapshot: Snapshot) -> Snapshot:
        """Go on from `snapshot`, whose arrays are donated, to the end of the run.

        Whatever goes wrong, what is trained by then is saved, if it can be.

        Raises:
            Interrupted: after a signal, once the run is saved.
            CheckpointError: if the last checkpoint cannot be written.
        """
        began = time.monotonic() - snapshot.elapsed
        due = self._next_due(snapshot.step)
        self._display.step(snapshot.step)
        try:
            while not (self._interrupts.pending or self._is_over(snapshot)):
                if self._program.has_row(snapshot):
                    snapshot = self._finish_row(snapshot)
                else:
                    trained = self._program.advance(snapshot)
                    snapshot = trained._replace(elapsed=time.monotonic() - began)
                    self._show(snapshot)
                if snapshot.step >= due and not self._program.has_row(snapshot):
                    due = self._next_due(snapshot.step)
                    self._save_or_warn(snapshot)
        except Exception:
            if not snapshot.state.diverged_at.is_deleted():
                self._save_or_warn(snapshot)
            raise
        self._save(snapshot)
        if self._interrupts.pending:
            raise self._interrupted(snapshot)
        return snapshot

    def _next_due(self, step: int) -> float:
        """The step after `step` from which on a checkpoint is due."""
        interval = self._program.cfg.checkpoint_interval
        return (step // interval + 1) * interval if interval else math.inf

    def _is_over(self, snapshot: Snapshot) -> bool:
        """Whether nothing is left to do: at the end, or once every seed has diverged or is good enough."""
        if self._program.is_done(snapshot):
            return True
        if self._program.has_row(snapshot) or not self.latest:
            return False
        enough = np.inf if self._stop_at_return is None else self._stop_at_return
        return bool(((self.latest["seed/diverged"] > 0) | (self.latest[self.headline] >= enough)).all())

    def _finish_row(self, snapshot: Snapshot) -> Snapshot:
        finished, row = self._program.finish_row(snapshot)
        seeds = self._program.seeds
        facts = {"epoch": finished.rows, "step": finished.step, "time": finished.elapsed}
        row = {name: np.full(seeds, value) for name, value in facts.items()} | row
        if self._directory:
            self._directory.log(
                [{n: v[i].item() for n, v in row.items()} | {"seed": i} for i in range(seeds)]
            )
        self.rows.append(row)
        self._remember(row)
        self._display.row(finished.step, self.latest)  # after the logs: what is shown is on disk
        return finished

    def _remember(self, row: Row) -> None:
        old = self.latest
        self.latest = {name: np.where(np.isfinite(new), new, old.get(name, new)) for name, new in row.items()}

    def _show(self, snapshot: Snapshot) -> None:
        self._display.step(snapshot.step)
        diverged_at = np.asarray(snapshot.state.diverged_at)
        for seed in np.flatnonzero(diverged_at == snapshot.step):
            what = "is no longer finite; the seed stays as it was before, the others go on"
            self._display.say(f"seed {seed} has diverged by step {snapshot.step:,}: what it learned {what}")

    def _interrupted(self, snapshot: Snapshot) -> Interrupted:
        number = self._interrupts.pending or 0
        where = (
            f"saved at step {snapshot.step:,} in {self._directory.path}" if self._directory else "not saved"
        )
        return Interrupted(number, f"{signal.Signals(number).name}: {where}")

    def _save(self, snapshot: Snapshot) -> None:
        if self._directory:
            self._directory.save(snapshot)

    def _save_or_warn(self, snapshot: Snapshot) -> None:
        try:
            self._save(snapshot)
        except CheckpointError as error:
            self._display.say(f"no checkpoint of step {snapshot.step:,}: {error}")
