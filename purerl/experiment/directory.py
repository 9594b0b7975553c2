"""The directory of a run: what it is, its logs and its checkpoints, and the lock on them.

RUN/run.json                      the configuration, the number of seeds, later changes; sealed
RUN/seed0/ ...                    config.json, progress.txt, metrics.jsonl of each seed
RUN/checkpoints/step-.../         the newest two snapshots
RUN/lock                          held by the process that trains
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import logging
import math
import os
import socket
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purerl.config import ConfigError, shorten
from purerl.envs.mujoco.options import ASSETS
from purerl.experiment import checkpoint
from purerl.experiment.checkpoint import CheckpointError, Manifest, SchemaError
from purerl.experiment.files import DamagedFile, read_sealed, write_sealed
from purerl.experiment.logger import SeedLog
from purerl.experiment.program import Snapshot
from purerl.health import split_replay
from purerl.train import Schedule

logger = logging.getLogger("purerl")
RECORD_FIELDS = {"config": dict, "seeds": int, "pieces": list, "changes": list}
"""What `run.json` holds at least, and what `Manifest.record` holds beside a snapshot's place."""
FIXED = ("algo", "env", "engine", "env_kwargs", "seed")
"""The fields of a configuration that make a run the run it is."""
MAX_PIECE = 10_000
"""Iterations; beyond any that `make_pieces` gives."""
CANDIDATES = 4
"""Checkpoints that are tried, damaged ones included; a run keeps two."""


class Lock:
    """Keeps a second process out of a run's directory. It dies with its process, however that ends.

    Raises:
        ConfigError: if another process has it.
        OSError: if there can be none.
    """

    def __init__(self, directory: Path):
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        self._number = os.open(directory / "lock", flags, 0o644)
        if not stat.S_ISREG(os.fstat(self._number).st_mode):
            os.close(self._number)
            raise OSError(errno.EINVAL, "no regular file", str(directory / "lock"))
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


def read_record(path: Path, field: str = "resume") -> dict[str, Any]:
    """What the run in `path` is: the contents of its run.json, or of a checkpoint if that is damaged.

    Raises:
        ConfigError: if there is no run, or none that can be read; it calls the path `field`.
    """
    try:
        return _checked(read_sealed(path / "run.json"), path / "run.json")
    except (OSError, DamagedFile) as error:
        reason = error
    with suppress(CheckpointError):
        for candidate in checkpoint.newest_first(path / "checkpoints")[:CANDIDATES]:
            with suppress(CheckpointError, DamagedFile):
                record = _checked(checkpoint.read_manifest(candidate).record, candidate)
                logger.warning("%s; the record of %s is taken instead", reason, candidate)
                return {name: record[name] for name in RECORD_FIELDS}
    why = shorten(str(reason), 300)
    raise ConfigError(field, str(path), f"it must be the directory of a run: {why}")


def refuse_files(env: str, env_kwargs: Mapping[str, Any], hint: str) -> None:
    """Raises ConfigError if `env_kwargs`, which may be a stranger's, may name a file or a module to open.

    What another library's environment does with a text is not known, so it gets numbers and switches only.
    """
    if ":" in env:
        for name, value in env_kwargs.items():
            if not isinstance(value, bool | int | float | None):
                what = f"a text that the files of a run name is not given to {shorten(env)}"
                raise ConfigError(name, value, what, hint)
    model = env_kwargs.get("xml_file")
    if model is not None and model not in [asset.name for asset in ASSETS.glob("*.xml")]:
        raise ConfigError("xml_file", model, "a model that the files of a run name is not opened", hint)


def _checked(record: dict[str, Any], path: Path) -> dict[str, Any]:
    for name, kind in RECORD_FIELDS.items():
        if type(record.get(name)) is not kind:
            raise DamagedFile(f"{path} has no {name} as a run has it")
    pieces = [n for n in record["pieces"] if type(n) is int and 1 <= n <= MAX_PIECE]
    if not 1 <= record["seeds"] <= 2**16 or len(pieces) != 2 or pieces != record["pieces"]:
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
        _refuse_links(path)
        self.path, self.record = path, {}
        self._lock = Lock(path)
        self._logs: list[SeedLog] = []
        self._checkpoints = path / "checkpoints"
        self._saved = (-1, -1)
        try:  # to remove what a killed process left
            checkpoint.clean(self._checkpoints)
            for litter in (*path.glob(".*.tmp-*"), *path.glob("seed*/.*.tmp-*")):
                litter.unlink()
        except BaseException:
            self.close()
            raise

    def write_record(self, record: dict[str, Any]) -> None:
        """Say in run.json what this run is. Raises CheckpointError if it cannot be written."""
        self.record = record
        try:
            write_sealed(self.path / "run.json", record)
        except OSError as error:
            raise CheckpointError(f"{self.path / 'run.json'} could not be written: {error}") from error

    def open_logs(
        self, configs: list[dict[str, Any]], rows: int, names: Sequence[str] = ()
    ) -> list[dict[str, np.ndarray]]:
        """Open every seed's logs behind their first `rows` rows, and return these: each metric `[S]`.

        Raises CheckpointError if the logs do not hold that many, each with a number or None for all `names`.
        """
        for i, config in enumerate(configs):
            try:
                self._logs.append(SeedLog(self.path / f"seed{i}", config, rows))
            except DamagedFile as error:
                raise CheckpointError(f"the newest checkpoint knows {rows} rows of logs: {error}") from error
            except OSError as error:
                raise CheckpointError(f"the logs in {self.path} cannot be opened: {error}") from error
        per_row = zip(*(log.kept for log in self._logs), strict=True)
        number = lambda value: np.nan if value is None else value
        kept = [
            {name: np.array([number(one.get(name)) for one in row]) for name in row[0]} for row in per_row
        ]
        for row in kept:
            numbers = {name for name, values in row.items() if values.dtype.kind in "if"}
            if not {"epoch", "step", "time", *names} <= numbers:
                raise CheckpointError(f"a metrics.jsonl in {self.path} holds a row that no run has written")
        return kept

    def log(self, row: list[dict[str, Any]]) -> None:
        """Append one row to every seed's logs."""
        for log, values in zip(self._logs, row, strict=True):
            log.write(values)

    def is_saved(self, snapshot: Snapshot) -> bool:
        """Whether this very checkpoint is there; one of the same step may lack the row that ends there."""
        return (snapshot.step, snapshot.rows) == self._saved

    def save(self, snapshot: Snapshot) -> None:
        """Write a checkpoint, if it is not there yet. Raises CheckpointError."""
        if self.is_saved(snapshot):
            return
        try:
            for log in self._logs:
                log.sync()
        except OSError as error:
            raise CheckpointError(f"the logs in {self.path} could not be written: {error}") from error
        place = {"step": snapshot.step, "rows": snapshot.rows, "elapsed": snapshot.elapsed}
        checkpoint.save(self._checkpoints, snapshot.step, snapshot.arrays, self.record | place)
        self._saved = snapshot.step, snapshot.rows

    def load(self, record: dict[str, Any], schedule: Schedule, like: Snapshot) -> Snapshot | None:
        """The newest checkpoint that is sound, or None if there is none at all. See `load_newest`."""
        found = load_newest(self.path, record, schedule, like.arrays)
        if found is None:
            return None
        manifest, arrays = found
        for path in checkpoint.newest_first(self._checkpoints):
            if path.name > manifest.path.name:
                _set_aside(path)
        snapshot = Snapshot(**arrays, **{name: manifest.record[name] for name in ("step", "rows", "elapsed")})
        self._saved = snapshot.step, snapshot.rows
        return snapshot

    def close(self) -> None:
        """Close the logs and let others in."""
        for log in self._logs:
            log.close()
        self._lock.close()


def _refuse_links(path: Path) -> None:
    """Raises OSError where a run would write through a link: it may be a stranger's, and lead anywhere."""
    for part in (path / "checkpoints", *path.glob("seed*")):
        if part.is_symlink():
            raise OSError(errno.ELOOP, "a link", str(part))


def _set_aside(path: Path) -> None:
    """Rename a damaged checkpoint, so that the run can save there again. Raises CheckpointError."""
    names = (path.with_name(f"damaged-{path.name}-{i}") for i in itertools.count())
    try:
        os.replace(path, next(name for name in names if not os.path.lexists(name)))
    except OSError as error:
        raise CheckpointError(f"{path} is damaged, and cannot be renamed: {error}") from error


def load_newest(
    path: Path, record: dict[str, Any], schedule: Schedule, like: dict[str, Any], *, partly: bool = False
) -> tuple[Manifest, Any] | None:
    """The newest checkpoint of a run that is sound, as `(manifest, arrays)`; None without any.

    One that is damaged is named in a warning, and the one before it is tried.

    Args:
        path: the run's directory.
        record: from `read_record`.
        schedule: of the run.
        like: what the arrays look like.
        partly: see `checkpoint.load`.

    Raises:
        SchemaError: if it is one of another configuration.
        CheckpointError: if all are damaged.
    """
    faults = []
    for candidate in checkpoint.newest_first(path / "checkpoints")[:CANDIDATES]:
        try:
            manifest = checkpoint.read_manifest(candidate)
            _check_place(manifest, record, schedule)
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


def _check_place(manifest: Manifest, record: dict[str, Any], schedule: Schedule) -> None:
    """Raises CheckpointError unless a run of that record and schedule can stand where the manifest says."""
    place, path = manifest.record, manifest.path
    kinds = {"step": int, "rows": int, "elapsed": float}
    for name, kind in kinds.items():
        if type(place.get(name)) is not kind or not 0 <= place[name] < math.inf:
            raise CheckpointError(f"{path} does not say where its run stands")
    if place["step"] != manifest.step or path.name != f"step-{manifest.step:012d}":
        raise CheckpointError(f"{path} is of step {manifest.step}")
    try:
        same = _identity(_checked(place, path)) == _identity(record)
    except DamagedFile as error:
        raise CheckpointError(str(error)) from error
    if not same:
        raise SchemaError(f"{path} is of another run")
    if not _can_stand(schedule, record["pieces"], place["step"], place["rows"]):
        where = f"at step {place['step']:,} with {place['rows']:,} rows of metrics"
        raise SchemaError(f"{path} is {where}, and no run of this configuration is ever saved there")


def _identity(record: dict[str, Any]) -> Any:
    return record["seeds"], list(record["pieces"]), [record["config"].get(name) for name in FIXED]


def _can_stand(schedule: Schedule, pieces: list[int], step: int, rows: int) -> bool:
    """Whether a run is saved there: after a piece, and before or after it finishes a row that ends there."""
    warmup, train = (piece * schedule.iteration_steps for piece in pieces)
    if schedule.warmup_steps % warmup or schedule.row_steps % train:
        return False
    learned = step - schedule.warmup_steps
    if learned < 0:
        return step % warmup == 0 and rows == 0
    finished = bool(schedule.warmup_steps) + learned // schedule.row_steps
    unfinished = learned % schedule.row_steps == 0 and finished > 0
    return step <= schedule.total_steps and learned % train == 0 and finished - unfinished <= rows <= finished


def _check_sound(manifest: Manifest, arrays: dict[str, Any]) -> None:
    """Raises CheckpointError where a seed that is called healthy, or a best policy, is not finite."""
    state, best = arrays["state"], arrays.get("best")
    _check_finite(manifest, split_replay(state.algo)[0], np.asarray(state.diverged_at) < 0)
    if best:
        _check_finite(manifest, best.algo, np.asarray(best.step) >= 0)


def _check_finite(manifest: Manifest, tree: Any, seeds: np.ndarray) -> None:
    """Raises CheckpointError if `tree` holds a number that is not finite, for any of the `seeds [S]`."""
    for leaf in jax.tree.leaves(tree):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            finite = np.isfinite(np.asarray(leaf)).reshape(len(seeds), -1).all(axis=1)
            if (seeds & ~finite).any():
                raise CheckpointError(f"{manifest.path} holds numbers that are not finite")
