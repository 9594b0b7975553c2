"""One directory per seed: `config.json`, `progress.txt` and `metrics.jsonl`."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

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


class SeedLog:
    """The files of one seed. Every row is written and flushed as a whole line.

    Args:
        directory: made if it is missing.
        config: what `config.json` holds.

    Raises:
        FileExistsError: if the directory already holds a run.
    """

    def __init__(self, directory: Path, config: Mapping[str, Any]):
        directory.mkdir(parents=True, exist_ok=True)
        self._progress: IO[str] = (directory / "progress.txt").open("x", encoding="utf-8", newline="\n")
        self._metrics: IO[str] = (directory / "metrics.jsonl").open("x", encoding="utf-8", newline="\n")
        write_json(directory / "config.json", config)
        self._columns: list[str] = []

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

    def close(self) -> None:
        """Close both files."""
        self._progress.close()
        self._metrics.close()


def _cell(value: float) -> str:
    if not math.isfinite(value):
        return ""
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else f"{value:.6g}"


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write `values` to `path`, whole or not at all."""
    temporary = path.with_suffix(f".tmp-{os.getpid()}")
    with temporary.open("w", encoding="utf-8", newline="\n") as file:
        json.dump(values, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
