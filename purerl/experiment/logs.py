"""Logs of a member: `config.json`, `progress.txt` and `metrics.jsonl` in a directory of its own."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from purerl.experiment.atomic import write_json, write_whole
from purerl.experiment.untrusted import read_lines
from purerl.files import DamagedFile, open_regular

SPINNING_UP = {
    "epoch": "Epoch",
    "episode/return": "AverageEpRet",
    "episode/return_std": "StdEpRet",
    "episode/return_max": "MaxEpRet",
    "episode/return_min": "MinEpRet",
    "eval/return": "AverageTestEpRet",
    "eval/return_std": "StdTestEpRet",
    "eval/return_max": "MaxTestEpRet",
    "eval/return_min": "MinTestEpRet",
    "episode/length": "EpLen",
    "eval/length": "TestEpLen",
    "step": "TotalEnvInteracts",
    "q/mean": "AverageQVals",
    "pi/loss": "LossPi",
    "q/loss": "LossQ",
    "v/loss": "LossV",
    "pi/entropy": "Entropy",
    "pi/kl": "KL",
    "pi/clip_fraction": "ClipFrac",
    "time": "Time",
}
"""The column of progress.txt that each metric feeds; a metric not named here keeps its own name."""


LAST = 0.1
"""Share of a run's rows whose mean is its final return."""


class MemberLog:
    """The files of one member; every row is written and flushed as a whole line.

    The first `rows` rows stay, later ones are cut off, and new rows are appended. Raises DamagedFile if there
    are fewer.
    """

    def __init__(self, directory: Path, config: Mapping[str, Any], rows: int = 0):
        directory.mkdir(parents=True, exist_ok=True)
        write_json(directory / "config.json", config)
        table = _keep_lines(directory / "progress.txt", rows + 1 if rows else 0)
        self.kept = [row_of(line) for line in _keep_lines(directory / "metrics.jsonl", rows)]
        """The rows that stayed, NaN as None."""
        self._columns = _names_of(table[0].split("\t")) if table else []
        self._progress = (directory / "progress.txt").open("a", encoding="utf-8", newline="\n")
        self._metrics = (directory / "metrics.jsonl").open("a", encoding="utf-8", newline="\n")

    def write(self, row: Mapping[str, float]) -> None:
        """Append one row; the first fixes the columns. NaN is blank in the table, null in the JSON."""
        if not self._columns:
            self._columns = [name for name in SPINNING_UP if name in row]
            self._columns += sorted(name for name in row if name not in SPINNING_UP)
            self._progress.write("\t".join(SPINNING_UP.get(name, name) for name in self._columns) + "\n")
        self._progress.write("\t".join(_cell(row[name]) for name in self._columns) + "\n")
        values = {name: value if math.isfinite(value) else None for name, value in row.items()}
        self._metrics.write(json.dumps(values) + "\n")
        self._progress.flush()
        self._metrics.flush()

    def sync(self) -> None:
        """Sync every row so far to the disk."""
        os.fsync(self._progress.fileno())
        os.fsync(self._metrics.fileno())

    def close(self) -> None:
        """Close both files."""
        for file in (self._progress, self._metrics):
            with suppress(OSError):  # `write` has reported it
                file.close()


def _keep_lines(path: Path, lines: int) -> list[str]:
    """Cut the file at `path` after its first `lines` lines, and return them."""
    kept = read_lines(path, lines) if path.exists() else []
    if len(kept) < lines:
        raise DamagedFile(f"{path} has {len(kept)} lines where {lines} were written")
    write_whole(path, "".join(line + "\n" for line in kept))
    return kept


def row_of(line: str) -> dict[str, float | None]:
    """Return the row in a line of metrics.jsonl. Raises DamagedFile if there is none."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{line[:80]!r} in metrics.jsonl is not a row of metrics: {error}") from error
    if not isinstance(row, dict) or any(
        type(value) not in (int, float, type(None)) for value in row.values()
    ):
        raise DamagedFile(f"{line[:80]!r} in metrics.jsonl is not a row of metrics")
    return row


def final_return(log: Path) -> float:
    """Return the mean return of a member's last rows, of evaluations if it has any; NaN without one."""
    rows = []
    with open_regular(log) as file:
        for line in file:
            try:
                rows.append(row_of(line.decode("utf-8")))
            except UnicodeDecodeError as error:
                raise DamagedFile(f"{log} is not text: {error}") from error
    name = "eval/return" if any(row.get("eval/return") is not None for row in rows) else "episode/return"
    last = rows[-max(1, round(LAST * len(rows))) :]
    values = [row[name] for row in last if row.get(name) is not None]
    if not values:  # the last rows may lie between two evaluations
        values = [row[name] for row in rows if row.get(name) is not None][-1:]
    diverged = bool(rows) and bool(rows[-1].get("seed/diverged"))
    return float(np.mean(values, dtype=float)) if values and not diverged else math.nan


def _names_of(columns: list[str]) -> list[str]:
    names = {column: name for name, column in SPINNING_UP.items()}
    return [names.get(column, column) for column in columns]


def _cell(value: float) -> str:
    if not math.isfinite(value):
        return ""
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else f"{value:.6g}"
