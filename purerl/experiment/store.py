"""The directory of a run: its record, its logs and its checkpoints, and the lock on them.

RUN/run.json                      configuration, seeds, swept settings, later changes; with a checksum
RUN/seed0/ ...                    config.json, progress.txt, metrics.jsonl of each member
RUN/checkpoints/step-.../         the newest two snapshots
RUN/policies/step-.../            policies kept on the way
RUN/lock                          held by the process that trains
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import logging
import os
import shutil
import socket
import stat
from pathlib import Path
from typing import Any

import jax
import numpy as np

from purerl.config import Config, ConfigError, to_dict
from purerl.experiment import checkpoint, policies
from purerl.experiment.logs import MemberLog
from purerl.experiment.population import Population
from purerl.experiment.provenance import provenance
from purerl.experiment.untrusted import (
    CANDIDATES,
    CheckpointError,
    Manifest,
    SchemaError,
    check_place,
    check_sound,
    read_manifest,
    refuse_links,
    write_sealed,
)
from purerl.files import DamagedFile
from purerl.health import split_replay
from purerl.programs import Snapshot
from purerl.schedule import Schedule

logger = logging.getLogger("purerl")


def lock(directory: Path) -> int:
    """Lock a run's directory for this process, as long as it lives, and return the file descriptor.

    Raises ConfigError if another process has the lock, OSError if there can be none.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    number = os.open(directory / "lock", flags, 0o644)
    try:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(directory / "lock"))
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(number, 200).decode(errors="replace").strip()
        os.close(number)
        what = f"a directory that no other run writes in; {holder} does"
        raise ConfigError("logdir", str(directory), what, "End it, or choose another.") from None
    except OSError:
        os.close(number)
        raise
    os.ftruncate(number, 0)
    os.write(number, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    return number


def holds_a_run(path: Path) -> bool:
    """Return True if anything of a run is in `path`."""
    saved = [one for name in ("checkpoints", policies.FOLDER) for one in checkpoint.newest_first(path / name)]
    return any(part.exists() for part in [path / "run.json", *saved, *path.glob("*seed*/*")])


class Store:
    """The files that a run writes, in a directory that one process at a time has.

    Raises ConfigError if another process has it, OSError if it cannot be written.
    """

    def __init__(self, path: Path):
        path.mkdir(parents=True, exist_ok=True)
        refuse_links(path)
        self.path, self.record = path, {}
        self._lock = lock(path)
        self._logs: list[MemberLog] = []
        self._facts: list[dict[str, Any]] = []
        self._checkpoints = path / "checkpoints"
        self._saved = (-1, -1)
        try:  # to remove what a killed process left
            for litter in (*path.glob(".*.tmp-*"), *path.glob("*seed*/.*.tmp-*")):
                litter.unlink()
            for folder in (self._checkpoints, path / policies.FOLDER):
                for litter in folder.glob(".tmp-*"):
                    shutil.rmtree(litter, ignore_errors=True)  # which follows no link
        except BaseException:
            self.close()
            raise

    def write_record(self, record: dict[str, Any]) -> None:
        """Write run.json. Raises CheckpointError if it cannot be written."""
        self.record = record
        try:
            write_sealed(self.path / "run.json", record)
        except OSError as error:
            raise CheckpointError(f"{self.path / 'run.json'} could not be written: {error}") from error

    def open_logs(self, population: Population, rows: int) -> list[dict[str, np.ndarray]]:
        """Open the logs of all members behind their first `rows` rows, and return these: each metric `[S]`.

        Policies that were kept after these rows are removed: the run repeats them. Raises CheckpointError if
        the logs do not hold that many rows, each with a number or None for every metric.
        """
        members, self._facts = population.members, population.members.facts
        made = provenance()
        configs = [cfg for cfg in members.configs(population.cfg) for _ in range(members.seeds)]
        try:
            for name, cfg, facts in zip(members.names, configs, self._facts, strict=True):
                config = _config_json(cfg, self.record["exp_name"], facts["seed_index"], made)
                self._logs.append(MemberLog(self.path / name, config, rows))
        except DamagedFile as error:
            raise CheckpointError(f"the newest checkpoint knows {rows} rows of logs: {error}") from error
        except OSError as error:
            raise CheckpointError(f"the logs in {self.path} cannot be opened: {error}") from error
        names = ["epoch", "step", "time", *population.metrics]
        try:
            number = lambda value: np.nan if value is None else value
            per_row = zip(*(log.kept for log in self._logs), strict=True)
            kept = [{name: np.array([number(one[name]) for one in row]) for name in names} for row in per_row]
        except KeyError as error:
            raise CheckpointError(f"a metrics.jsonl in {self.path} has a row without {error}") from error
        policies.drop_later(self.path, rows)
        return kept

    def log(self, row: dict[str, np.ndarray]) -> None:
        """Append a row, each metric `[S]`, to the logs of all members."""
        for i, (log, facts) in enumerate(zip(self._logs, self._facts, strict=True)):
            log.write({name: v[i].item() for name, v in row.items()} | {"seed": facts["seed_index"]})

    def has(self, snapshot: Snapshot) -> bool:
        """Return True if the newest checkpoint is that of `snapshot`."""
        return (snapshot.step, snapshot.rows) == self._saved

    def save(self, snapshot: Snapshot) -> None:
        """Write a checkpoint. Raises CheckpointError."""
        try:
            for log in self._logs:
                log.sync()
        except OSError as error:
            raise CheckpointError(f"the logs in {self.path} could not be written: {error}") from error
        checkpoint.save(self._checkpoints, stored(snapshot), self._placed(snapshot))
        self._saved = snapshot.step, snapshot.rows

    def keep(self, snapshot: Snapshot) -> None:
        """Keep the policies of all members for good. Raises CheckpointError."""
        tree = {"state": policies.policy_of(snapshot.state)}
        checkpoint.save(self.path / policies.FOLDER, tree, self._placed(snapshot), keep=None)

    def _placed(self, snapshot: Snapshot) -> dict[str, Any]:
        """Return the record with the place of `snapshot` in the run."""
        return self.record | {name: getattr(snapshot, name) for name in ("step", "rows", "elapsed")}

    def load(self, record: dict[str, Any], population: Population) -> Snapshot | None:
        """Read the newest sound checkpoint; None if there is none at all. See `load_newest`."""
        found = load_newest(self.path, record, population.schedule, population.shapes.arrays)
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
        """Close the logs and release the lock."""
        for log in self._logs:
            log.close()
        os.close(self._lock)


def _config_json(cfg: Config, exp_name: str, seed_index: int, facts: dict[str, Any]) -> dict[str, Any]:
    """Return the contents of a member's config.json: every field, its seed, and how it was made."""
    return to_dict(cfg) | {"exp_name": exp_name, "seed_index": seed_index} | facts


def stored(snapshot: Snapshot) -> dict[str, Any]:
    """Return the arrays of a checkpoint of `snapshot`: of a replay buffer what has been written."""
    arrays, state = snapshot.arrays, snapshot.state
    _, replay = split_replay(state.algo)
    if replay == ():
        return arrays
    num_envs = state.env.episode_length.shape[1]
    used = int(np.asarray(replay.size).max()) + num_envs  # a diverged member writes beyond its last row
    cut = lambda leaf: checkpoint.Prefix(leaf, min(used, leaf.shape[1]))
    if getattr(replay, "frames", ()):
        written, slots = int(np.asarray(replay.frames.used).max()), replay.frames.data.shape[1]
        data = checkpoint.Prefix(replay.frames.data, written)
        replay = replay._replace(frames=replay.frames._replace(data=data))
        used = used if written < slots else slots  # since then rows may leave early
    algo = state.algo._replace(replay=replay._replace(rows=jax.tree.map(cut, replay.rows)))
    return arrays | {"state": state._replace(algo=algo)}


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
    """Read the newest sound checkpoint of a run as `(manifest, arrays)`; None without any.

    A damaged one is named in a warning, and the one before it is tried. Raises SchemaError for one of another
    configuration, CheckpointError if all are damaged. `like` and `partly` are those of `checkpoint.load`.
    """
    faults = []
    for candidate in checkpoint.newest_first(path / "checkpoints")[:CANDIDATES]:
        try:
            return load_one(candidate, record, schedule, like, partly=partly)
        except SchemaError:
            raise
        except CheckpointError as error:
            logger.warning("%s", error)
            faults.append(error)
    if faults:
        raise CheckpointError(f"no checkpoint in {path} can be used: " + "; ".join(map(str, faults)))
    return None


def load_one(
    path: Path, record: dict[str, Any], schedule: Schedule, like: dict[str, Any], *, partly: bool = False
) -> tuple[Manifest, Any]:
    """Read the checkpoint, or kept policy, at `path`. Raises SchemaError or CheckpointError."""
    manifest = read_manifest(path)
    check_place(manifest, record, schedule)
    arrays = checkpoint.load(manifest, like, partly=partly)
    check_sound(manifest, arrays)
    return manifest, arrays
