"""The record of a run: its configuration and members, and later changes; the contents of run.json."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from purerl.config import Config, ConfigError, from_dict, to_dict
from purerl.experiment.checkpoint import newest_first
from purerl.experiment.untrusted import (
    CANDIDATES,
    FIXED,
    RECORD_FIELDS,
    CheckpointError,
    checked_record,
    read_manifest,
    read_sealed,
)
from purerl.files import DamagedFile
from purerl.members import Members
from purerl.own_parts import check_algorithm
from purerl.programs import Pieces
from purerl.registry import config_class
from purerl.shown import shorten
from purerl.train import Driver

logger = logging.getLogger("purerl")


def make_record(driver: Driver, members: Members, pieces: Pieces, own: dict[str, Any]) -> dict[str, Any]:
    """Return the contents of the run.json of a new run; `own` as `own_parts` returns it."""
    values = {"config": to_dict(driver.cfg), "seeds": members.seeds, "settings": list(members.settings)}
    values |= {"first_seed": members.first_seed}
    return values | {"pieces": list(pieces), "changes": [], "own": own}


def read_record(path: Path, field: str = "resume") -> dict[str, Any]:
    """Read the record of the run in `path`: its run.json, or that of a checkpoint if it is damaged.

    Raises ConfigError about `field` if there is no run, or none that can be read.
    """
    try:
        return checked_record(read_sealed(path / "run.json"), path / "run.json")
    except (OSError, DamagedFile) as error:
        reason = error
    with suppress(CheckpointError):
        for candidate in newest_first(path / "checkpoints")[:CANDIDATES]:
            with suppress(CheckpointError, DamagedFile):
                record = checked_record(read_manifest(candidate).record, candidate)
                logger.warning("%s; the record of %s is taken instead", reason, candidate)
                return {name: record[name] for name in RECORD_FIELDS}
    raise ConfigError(field, str(path), f"the directory of a run: {shorten(str(reason), 300)}")


def config_of(record: dict[str, Any]) -> Config:
    """Return the configuration in a record. Raises ConfigError if this purerl does not know it."""
    check_algorithm(record)
    values = dict(record["config"])
    return from_dict(config_class(values.pop("algo", None)), values)


def members_of(record: dict[str, Any]) -> Members:
    """Return the members in a record."""
    return Members(record["seeds"], tuple(record["settings"]), record["first_seed"])


def changes_of(path: Path, old: dict[str, Any], new: dict[str, Any], allow: bool) -> dict[str, Any]:
    """Return the fields in which `new` differs from the run in `path`. Raises ConfigError if one may not."""
    for name in ("seeds", "first_seed", "settings"):
        if new[name] != old[name]:
            raise ConfigError(name, new[name], f"{shorten(repr(old[name]))}, as the run in {path} has it")
    before = to_dict(config_of(old))
    changed = {name: value for name, value in new["config"].items() if value != before.get(name)}
    for name, value in changed.items():
        what = f"{shorten(repr(before.get(name)))}, as the run in {path} has it"
        if name in FIXED:
            raise ConfigError(name, value, what, "It cannot change.")
        if not allow:
            raise ConfigError(name, value, what, "To go on with another value, allow changes.")
    return changed


def with_changes(old: dict[str, Any], new: dict[str, Any], changed: dict[str, Any]) -> dict[str, Any]:
    """Return the record `old` with the configuration of `new`, and an entry of the changes."""
    if not changed:
        return old
    before = to_dict(config_of(old))
    entry = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "before": {name: before[name] for name in changed}}
    return old | {"config": new["config"], "changes": [*old["changes"], entry | {"after": changed}]}
