"""The loop on the host: piece after piece, a log at the end of every row, a checkpoint when due."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable

import numpy as np

from purerl.experiment import checkpoint
from purerl.experiment.display import Display
from purerl.experiment.population import Population
from purerl.experiment.signals import Interrupted, Interrupts
from purerl.experiment.store import Store, stored
from purerl.experiment.untrusted import CheckpointError
from purerl.experiment.view import spread
from purerl.machine import format_bytes
from purerl.pbt import PARENT, inherited
from purerl.programs import Snapshot

Row = dict[str, np.ndarray]
"""One row of metrics, each `[S]`; also `epoch`, `step` and `time`."""


class Loop:
    """The course of a run from a snapshot to its end; `rows` are logged already, None stores nothing.

    `outlet` gets each finished row once it is on disk.
    """

    def __init__(
        self,
        population: Population,
        store: Store | None,
        display: Display,
        interrupts: Interrupts,
        rows: list[Row],
        stop_at_return: float | None,
        outlet: Callable[[Row], None] = lambda row: None,
    ):
        self._population, self.store, self._display = population, store, display
        self._interrupts, self._stop_at_return = interrupts, stop_at_return
        self.rows, self._outlet = rows, outlet
        self.latest: Row = {}
        """The last known value of each metric."""
        self.headline = "eval/return" if population.cfg.eval_interval else "episode/return"
        self._scores = np.full(population.members.size, np.nan, np.float32)
        for row in rows:
            self._remember(row)
            self._rank(row)
            display.remember(int(row["step"][0]), self.latest)

    def train(self, snapshot: Snapshot) -> Snapshot:
        """Go on from `snapshot`, whose arrays are donated, to the end of the run.

        After any failure the newest state is saved, if it can be. Raises Interrupted after a signal, once the
        run is saved, and CheckpointError if the last checkpoint cannot be written.
        """
        began = time.monotonic() - snapshot.elapsed
        self._plan_save(snapshot.step)
        self._display.step(snapshot.step)
        if snapshot.step == 0:
            self._keep(snapshot)
        try:
            while not (self._interrupts.pending or self._is_over(snapshot)):
                if self._population.has_row(snapshot):
                    snapshot = self._finish_row(snapshot)
                else:
                    trained = self._population.advance(snapshot)
                    snapshot = trained._replace(elapsed=time.monotonic() - began)
                    self._show(snapshot)
                if self._is_due(snapshot.step) and not self._population.has_row(snapshot):
                    self._save_or_warn(snapshot)
                    self._plan_save(snapshot.step)
        except Interrupted:
            pass  # out of an evaluation, which a resumed run begins again
        except Exception:
            if not snapshot.state.diverged_at.is_deleted():
                self._save_or_warn(snapshot)
            raise
        self._save(snapshot)
        if self._interrupts.pending:
            raise self._interrupted(snapshot)
        return snapshot

    def summary(self, snapshot: Snapshot) -> str:
        """Return one line about the run that ended with `snapshot`."""
        size = self._population.members.size
        rate = snapshot.step * size / max(snapshot.elapsed, 1e-9)
        text = (
            f"{snapshot.step:,} steps each in {snapshot.elapsed:.1f} s ({rate:,.0f} steps/s), "
            f"compiled in {self._population.seconds:.1f} s; return {spread(self.latest[self.headline])}"
        )
        sick = np.flatnonzero(np.asarray(snapshot.state.diverged_at) >= 0)
        if sick.size:
            text += f"; {sick.size} of {size} members diverged: {', '.join(map(str, sick))}"
        return text + (f"; in {self.store.path}" if self.store else "")

    def _plan_save(self, step: int) -> None:
        """Set the step, and the time, from which on the next checkpoint is due."""
        cfg = self._population.cfg
        interval, minutes = cfg.checkpoint_interval or math.inf, cfg.checkpoint_minutes or math.inf
        self._due = (step // interval + 1) * interval, time.monotonic() + 60 * minutes

    def _is_due(self, step: int) -> bool:
        return step >= self._due[0] or time.monotonic() >= self._due[1]

    def _is_over(self, snapshot: Snapshot) -> bool:
        """Return True at the end, or once every member has diverged or reached the wanted return."""
        if self._population.is_done(snapshot):
            return True
        if self._population.has_row(snapshot) or not self.latest:
            return False
        enough = np.inf if self._stop_at_return is None else self._stop_at_return
        return bool(((self.latest["seed/diverged"] > 0) | (self.latest[self.headline] >= enough)).all())

    def _finish_row(self, snapshot: Snapshot) -> Snapshot:
        schedule, step = self._population.schedule, snapshot.step
        evaluates = step > schedule.warmup_steps and schedule.evaluates_at(self._population.cfg, step)
        what = f"{'evaluating' if evaluates else 'finishing the row'} at step {step:,}"
        with self._display.doing(what), self._interrupts.leaving():
            finished, row = self._population.finish_row(snapshot)
        facts = {"epoch": finished.rows, "step": finished.step, "time": finished.elapsed}
        row = {name: np.full(self._population.members.size, value) for name, value in facts.items()} | row
        row |= self._population.hyper_row(finished)
        self._remember(row)
        self._rank(row)
        measured = finished
        if self._evolves(step):
            finished, chosen = self._population.evolve(finished, self._scores)
            row |= chosen
            self._rank(row)
        if self.store:
            self.store.log(row)
        self.rows.append(row)
        if self._is_kept(measured):
            self._keep(measured)
        self._outlet(row)
        self._display.row(finished.step, self.latest)  # after the logs: what is shown is on disk
        return finished

    def _evolves(self, step: int) -> bool:
        """Return True if members go on from each other after the row that ends at `step`."""
        schedule, pbt = self._population.schedule, self._population.pbt
        learns = schedule.warmup_steps < step < schedule.total_steps
        return pbt is not None and learns and schedule.passes(pbt.interval, step)

    def _is_kept(self, snapshot: Snapshot) -> bool:
        """Return True if the policy of `snapshot`, at the end of a row, is kept for good."""
        interval, schedule = self._population.cfg.snapshot_interval, self._population.schedule
        if interval == 0:
            return False
        learned = snapshot.step > schedule.warmup_steps  # until then it is the untrained one
        return (learned and schedule.passes(interval, snapshot.step)) or self._is_over(snapshot)

    def _remember(self, row: Row) -> None:
        old = self.latest
        self.latest = {name: np.where(np.isfinite(new), new, old.get(name, new)) for name, new in row.items()}

    def _rank(self, row: Row) -> None:
        """Update the returns by which `pbt` ranks the members: by a row, and the round after it."""
        if self._population.pbt:
            new = row[self.headline]
            self._scores = inherited(np.where(np.isfinite(new), new, self._scores), row[PARENT])

    def _show(self, snapshot: Snapshot) -> None:
        diverged_at = np.asarray(snapshot.state.diverged_at)
        names = np.array(self._population.members.names)
        self._display.step(snapshot.step, names[diverged_at >= 0])
        for name in names[diverged_at == snapshot.step]:
            what = "its parameters are no longer finite; it stays as it was before, the others go on"
            self._display.say(f"{name} has diverged by step {snapshot.step:,}: {what}")

    def _interrupted(self, snapshot: Snapshot) -> Interrupted:
        number = self._interrupts.pending or 0
        where = f"saved at step {snapshot.step:,} in {self.store.path}" if self.store else "not saved"
        return Interrupted(number, f"{signal.Signals(number).name}: {where}")

    def _save(self, snapshot: Snapshot) -> None:
        if self.store and not self.store.has(snapshot):
            size = checkpoint.size_of(stored(snapshot))
            what = f"saving {format_bytes(size)} at step {snapshot.step:,}"
            if self._interrupts.pending:
                self._display.say(what)
            with self._display.doing(what):
                self.store.save(snapshot)

    def _save_or_warn(self, snapshot: Snapshot) -> None:
        try:
            self._save(snapshot)
        except CheckpointError as error:
            self._display.say(f"no checkpoint of step {snapshot.step:,}: {error}")

    def _keep(self, snapshot: Snapshot) -> None:
        if self.store and self._population.cfg.snapshot_interval:
            try:
                with self._display.doing(f"keeping the policy of epoch {snapshot.rows:,}"):
                    self.store.keep(snapshot)
            except CheckpointError as error:
                self._display.say(f"the policy of epoch {snapshot.rows:,} is not kept: {error}")
