"""Logs for a training loop of one's own, with the methods and the files of Spinning Up's loggers.

    logger = purerl.EpochLogger("runs/mine", exp_name="mine")
    logger.save_config(dict(lr=1e-3, hidden_sizes=(64, 64)))
    for epoch in range(100):
        ...
        logger.store(EpRet=episode_return, QVals=q)  # as often as there is something
        logger.log_tabular("Epoch", epoch)
        logger.log_tabular("EpRet", with_min_and_max=True)
        logger.log_tabular("QVals", average_only=True)
        logger.dump_tabular()

`purerl plot` and Spinning Up's plotter read the directory.
"""

from __future__ import annotations

import io
import math
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from purerl.config import ConfigError, Rule, validate
from purerl.experiment.atomic import write_json, write_whole
from purerl.experiment.display import Lasting
from purerl.shown import plain, shown
from purerl.types import PyTree
from purerl.user_paths import user_path
from purerl.workbench.named_arrays import named_arrays
from purerl.workbench.table import aligned


class Logger:
    """Writer of `progress.txt`, one row an epoch, and of `config.json`.

    Args:
        output_dir: the directory, which must hold no log yet; made if it is not there. By default a
            directory of its own below `runs`, by date and time.
        output_fname: name of the table.
        exp_name: name of the experiment, by which plotters group runs.
        quiet: print nothing.

    Raises:
        ConfigError: for a directory that holds a log already.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str] | None = None,
        output_fname: str = "progress.txt",
        exp_name: str | None = None,
        quiet: bool = False,
    ):
        validate("quiet", quiet, Rule("switch"))
        path = output_dir or Path("runs", f"{exp_name or 'experiment'}-{time.strftime('%Y%m%d-%H%M%S')}")
        self.output_dir, self.exp_name = user_path("output_dir", path), exp_name
        table = self.output_dir / output_fname
        if table.exists():
            what = f"a directory without {output_fname}, since nothing is overwritten"
            raise ConfigError("output_dir", str(self.output_dir), what)
        self.output_dir.mkdir(parents=True, exist_ok=True)
        self._table = table.open("x", encoding="utf-8", newline="\n")
        self._screen: Any = Lasting(sys.stdout) if not quiet and sys.stdout else None
        self._columns: list[str] = []
        self._row: dict[str, Any] = {}

    def log(self, msg: str, color: str | None = None) -> None:
        """Print a line; `color` is accepted for Spinning Up's sake, and not used."""
        if self._screen:
            print(msg, file=self._screen)

    def log_tabular(self, key: str, val: Any) -> None:
        """Set the value of one column of the row.

        Raises ConfigError for a second value, a name that cannot be a column, or, after the first row, a
        column that it did not have.
        """
        if not isinstance(key, str) or not key or "\t" in key or "\n" in key:
            raise ConfigError("key", key, "the name of a column, without tabs and line breaks")
        if key in self._row:
            raise ConfigError(
                "key", key, "a column that this row does not have yet", "Call dump_tabular first."
            )
        if self._columns and key not in self._columns:
            raise ConfigError("key", key, f"one of the columns of the first row: {', '.join(self._columns)}")
        self._row[key] = plain(np.asarray(val)) if np.ndim(val) == 0 else val

    def dump_tabular(self) -> None:
        """Write the row, and print it; columns without a value stay blank.

        Raises OSError if the row cannot be written.
        """
        if not self._columns:
            self._columns = list(self._row)
            self._table.write("\t".join(self._columns) + "\n")
        self._table.write("\t".join(_cell(self._row.get(name, "")) for name in self._columns) + "\n")
        self._table.flush()
        if self._screen:
            rows = [[name, _cell(self._row.get(name, ""))] for name in self._columns]
            print("\n".join([*aligned(rows), ""]), file=self._screen)
        self._row = {}

    def save_config(self, config: Mapping[str, Any]) -> None:
        """Write `config.json`: `exp_name` and the values of `config`; what JSON has no word for, as text."""
        named = {"exp_name": self.exp_name} if self.exp_name else {}
        write_json(self.output_dir / "config.json", named | {str(k): _jsonable(v) for k, v in config.items()})

    def save_state(self, state: PyTree, itr: int | None = None) -> Path:
        """Write the arrays of a pytree to `state.npz`, or `state{itr}.npz`, by their paths; return the file.

        JAX's keys are written as their bits. `numpy.load` reads it; nothing in it is pickled.
        """
        content, arrays = io.BytesIO(), dict[str, Any](named_arrays(state))
        np.savez(content, **arrays)
        place = self.output_dir / f"state{'' if itr is None else itr}.npz"
        write_whole(place, content.getvalue())
        return place

    def close(self) -> None:
        """Close the table."""
        self._table.close()


class EpochLogger(Logger):
    """Logger that averages what is stored during an epoch."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self._stored: dict[str, list[np.ndarray]] = {}

    def store(self, **values: Any) -> None:
        """Keep numbers or arrays of them until their column is logged."""
        for name, value in values.items():
            array = np.asarray(value, float)
            self._stored.setdefault(name, []).append(array.ravel())

    def log_tabular(
        self, key: str, val: Any = None, with_min_and_max: bool = False, average_only: bool = False
    ) -> None:
        """Set one column to `val`; or, without it, columns of the statistics of what was stored as `key`.

        These are `AverageKEY`, `StdKEY` unless `average_only`, and `MaxKEY` and `MinKEY` if
        `with_min_and_max`. Nothing stored in this epoch leaves them blank.
        """
        if val is not None:
            super().log_tabular(key, val)
            return
        mean, std, low, high = self.get_stats(key)
        super().log_tabular(f"Average{key}", mean)
        if not average_only:
            super().log_tabular(f"Std{key}", std)
        if with_min_and_max:
            super().log_tabular(f"Max{key}", high)
            super().log_tabular(f"Min{key}", low)
        self._stored.pop(key, None)

    def get_stats(self, key: str) -> tuple[float, float, float, float]:
        """Return `(mean, std, min, max)` of what is stored as `key`; NaN if nothing is."""
        values = np.concatenate(self._stored.get(key) or [np.zeros(0)])
        if not values.size:
            return math.nan, math.nan, math.nan, math.nan
        return float(values.mean()), float(values.std()), float(values.min()), float(values.max())


def _cell(value: Any) -> str:
    return "" if isinstance(value, float) and math.isnan(value) else str(value)


def _jsonable(value: Any) -> Any:
    value = plain(value)
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_jsonable(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else shown(value)
