"""The directory of a run: what it is, its logs and its checkpoints, and the lock on them.

RUN/run.json                      the configuration, the number of seeds, later changes; sealed
RUN/seed0/ ...                    config.json, progress.txt, metrics.jsonl of each seed
RUN/checkpoints/step-.../         the newest two snapshots
RUN/lock                          held by the process that trains
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purerl.config import ConfigError
from purerl.experiment import checkpoint
from purerl.experiment.checkpoint import CheckpointError, Manifest, SchemaError
from purerl.experiment.files import DamagedFile, read_sealed, write_sealed
from purerl.experiment.logger import SeedLog
from purerl.experiment.program import Snapshot
from purerl.train import split_memory

logger = logging.getLogger("purerl")
RECORD_FIELDS = {"config": dict, "seeds": int, "pieces": list, "changes": list}
"""What `run.json` holds at least, and what `Manifest.record` holds beside a snapshot's place."""


class Lock:
    """Keeps a second process out of a run's directory. It dies with its process, however that ends.

    Raises:
        ConfigError: if another process has it.
    """

    def __init__(self, directory: Path):
        self._number = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(self._number, 200).decode(errors="replace").strip()
            os.close(self._number)
            what = f"another run is writing there ({holder}); end it, or choose another directory"
            raise ConfigError("logdir", str(directory), what) from None
        os.ftruncate(self._number, 0)
        os.write(self._number, f"process {os.getpid()} on {socket.gethostname()}\n".encode())

    def close(self) -> None:
        """Let others in."""
        os.close(self._number)


def read_record(path: Path) -> dict[str, Any]:
    """What the run in `path` is: the contents of its run.json, or of a checkpoint if that is damaged.

    Raises:
        ConfigError: if there is no run, or none that can be read.
    """
    try:
        return _checked(read_sealed(path / "run.json"), path / "run.json")
    except (OSError, DamagedFile) as error:
        reason = error
    for candidate in checkpoint.newest_first(path / "checkpoints"):
        with suppress(CheckpointError, DamagedFile):
            record = _checked(checkpoint.read_manifest(candidate).record, candidate)
            logger.warning("%s; the record of %s is taken instead", reason, candidate)
            return {name: record[name] for name in RECORD_FIELDS}
    raise ConfigError("resume", str(path), f"it must be the directory of a run: {reason}")


def _checked(record: dict[str, Any], path: Path) -> dict[str, Any]:
    for name, kind in RECORD_FIELDS.items():
        if type(record.get(name)) is not kind:
            raise DamagedFile(f"{path} has no {name} as a run has it")
    pieces = record["pieces"]
    if not 1 <= record["seeds"] <= 2**16 or [type(n) for n in pieces] != [int, int] or min(pieces) < 1:
        raise DamagedFile(f"{path} holds numbers that no run has")
    return record


def holds_a_run(path: Path) -> bool:
    """Whether anything of a run is in `path`."""
    parts = [path / "run.json", *checkpoint.newest_first(path / "checkpoints"), *path.glob("seed*/*")]
    return any(part.exists() for part in parts)


class RunDirectory:
    """Where a run writes. One process at a time has it.

    Args:
        path: made if it is missing.

    Raises:
        ConfigError: if another process has it.
        OSError: if it cannot be written.
    """

    def __init__(self, path: Path):
        path.mkdir(parents=True, exist_ok=True)
        self.path, self.record = path, {}
        self._lock = Lock(path)
        self._logs: list[SeedLog] = []
        self._checkpoints = path / "checkpoints"
        self._saved = -1
        checkpoint.clean(self._checkpoints)

    def write_record(self, record: dict[str, Any]) -> None:
        """Say in run.json what this run is."""
        self.record = record
        write_sealed(self.path / "run.json", record)

    def open_logs(self, configs: list[dict[str, Any]], rows: int) -> list[dict[str, np.ndarray]]:
        """Open every seed's logs behind their first `rows` rows, and return these: each metric `[S]`."""
        self._logs = [SeedLog(self.path / f"seed{i}", config, rows) for i, config in enumerate(configs)]
        per_row = zip(*(log.kept for log in self._logs), strict=True)
        number = lambda value: np.nan if value is None else value
        return [
            {name: np.array([number(one.get(name)) for one in row]) for name in row[0]} for row in per_row
        ]

    def log(self, row: list[dict[str, Any]]) -> None:
        """Append one row to every seed's logs."""
        for log, values in zip(self._logs, row, strict=True):
            log.write(values)

    def is_saved(self, snapshot: Snapshot) -> bool:
        """Whether a checkpoint of this step is there."""
        return snapshot.step == self._saved

    def save(self, snapshot: Snapshot) -> None:
        """Write a checkpoint, if there is none of this step yet. Raises CheckpointError."""
        if self.is_saved(snapshot):
            return
        for log in self._logs:
            log.sync()
        place = {"step": snapshot.step, "rows": snapshot.rows, "elapsed": snapshot.elapsed}
        checkpoint.save(self._checkpoints, snapshot.step, snapshot.arrays, self.record | place)
        self._saved = snapshot.step

    def load(self, like: Snapshot) -> Snapshot | None:
        """The newest checkpoint that is sound, or None if there is none at all. See `load_newest`."""
        found = load_newest(self.path, like.arrays)
        if found is None:
            return None
        manifest, arrays = found
        for path in checkpoint.newest_first(self._checkpoints):
            if path.name > manifest.path.name:  # so that the run can save there again
                os.replace(path, path.with_name(f"damaged-{path.name}-{os.getpid()}"))
        self._saved = manifest.step
        return Snapshot(**arrays, **{name: manifest.record[name] for name in ("step", "rows", "elapsed")})

    def close(self) -> None:
        """Close the logs and let others in."""
        for log in self._logs:
            log.close()
        self._lock.close()


def load_newest(path: Path, like: dict[str, Any], *, partly: bool = False) -> tuple[Manifest, Any] | None:
    """The newest checkpoint of the run in `path` that is sound, as `(manifest, arrays)`; None without any.

    One that is damaged is named in a warning, and the one before it is tried.

    Raises:
        SchemaError: if it is one of another configuration.
        CheckpointError: if all are damaged.
    """
    faults = []
    for candidate in checkpoint.newest_first(path / "checkpoints"):
        try:
            manifest = checkpoint.read_manifest(candidate)
            _check_place(manifest)
            arrays = checkpoint.load(manifest, like, partly=partly)
            _check_sound(manifest, arrays)
        except SchemaError:
            raise
        except CheckpointError as error:
            logger.warning("%s", error)
            faults.append(error)
            continue
        return manifest, arrays
    if faults:
        raise CheckpointError(f"no checkpoint in {path} can be used: " + "; ".join(map(str, faults)))
    return None


def _check_place(manifest: Manifest) -> None:
    """Raises CheckpointError unless the record says where a run stands."""
    record = manifest.record
    kinds = {"step": int, "rows": int, "elapsed": float}
    if any(type(record.get(name)) is not kind or record[name] < 0 for name, kind in kinds.items()):
        raise CheckpointError(f"{manifest.path} does not say where its run stands")
    if record["step"] != manifest.step or manifest.path.name != f"step-{manifest.step:012d}":
        raise CheckpointError(f"{manifest.path} is of step {manifest.step}")


def _check_sound(manifest: Manifest, arrays: dict[str, Any]) -> None:
    """Raises CheckpointError if a seed that is called healthy holds a number that is not finite."""
    state = arrays["state"]
    healthy = np.asarray(state.diverged_at) < 0
    for leaf in jax.tree.leaves(split_memory(state.algo)[0]):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            finite = np.isfinite(np.asarray(leaf)).reshape(len(healthy), -1).all(axis=1)
            if (healthy & ~finite).any():
                raise CheckpointError(f"{manifest.path} holds numbers that are not finite")
