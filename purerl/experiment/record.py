"""The record of a run: its configuration and members, and later changes; the contents of run.json."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from purerl.config import Config, ConfigError, from_dict, shorten, to_dict
from purerl.experiment.checkpoint import newest_first
from purerl.experiment.untrusted import (
    CANDIDATES,
    FIXED,
    RECORD_FIELDS,
    CheckpointError,
    DamagedFile,
    checked_record,
    read_manifest,
    read_sealed,
)
from purerl.members import Members
from purerl.programs import Pieces
from purerl.registry import ALGORITHMS, OWN_ALGORITHMS, OWN_ENVIRONMENTS, algorithms, config_class
from purerl.train import Driver

logger = logging.getLogger("purerl")


def make_record(driver: Driver, members: Members, pieces: Pieces, own: dict[str, Any]) -> dict[str, Any]:
    """Return the contents of the run.json of a new run; `own` as `own_parts` returns it."""
    values = {"config": to_dict(driver.cfg), "seeds": members.seeds, "settings": list(members.settings)}
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


def own_parts(cfg: Config, env: Any, networks: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the parts of a run that the user's code makes, for its record: names only, never imported.

    Args:
        cfg: the configuration.
        env: an environment that was passed as an object, or None.
        networks: the user's networks, or None.

    Raises:
        ConfigError: if a config class of the user has the `algo` of another class.
    """
    cls, known = type(cfg), cfg.algo in algorithms()
    own: dict[str, Any] = {}
    if known and config_class(cfg.algo) is not cls:
        what = (
            f"an id of its own, since {cls.__name__} is another class than {config_class(cfg.algo).__name__}"
        )
        raise ConfigError(f"{cls.__name__}.algo", cfg.algo, what)
    if cfg.algo not in ALGORITHMS:
        own["algorithm"] = f"{cls.__module__}:{cls.__qualname__}"
    if env is not None:
        own["env"] = env.name
    return own | ({"networks": sorted(networks)} if networks else {})


def check_algorithm(record: dict[str, Any]) -> None:
    """Raise ConfigError if the run's algorithm is the user's, and this process has not registered it."""
    algo, place = record["config"].get("algo"), record.get("own", {}).get("algorithm")
    if place and algo not in OWN_ALGORITHMS:
        what = "an algorithm that this process knows"
        cls = place.rpartition(":")[2]
        hint = (
            f"This run was trained by an algorithm of your own, {shorten(place)!r}: register it before, by "
        )
        raise ConfigError("algo", algo, what, hint + f"purerl.register_algorithm({algo!r}, {shorten(cls)}).")


def check_given(record: dict[str, Any], env: Any, networks: Mapping[str, Any] | None) -> None:
    """Raise ConfigError if an environment or networks of the user that a run was trained with are missing."""
    own = record.get("own", {})
    name, needed = own.get("env"), own.get("networks", [])
    if name is not None and env is None and name not in OWN_ENVIRONMENTS:
        name = shorten(name)
        hint = (
            f"This run was trained on an environment of your own, {name!r}: pass it as env=, or register it "
        )
        raise ConfigError(
            "env", None, "an environment", hint + f"before, by purerl.register_env({name!r}, ...)."
        )
    missing = [str(name) for name in needed if name not in (networks or {})]
    if missing:
        names = shorten(", ".join(missing))
        hint = f"This run was trained with networks of your own, {names}: pass them as networks=."
        raise ConfigError("networks", networks, "a mapping with all of them", hint)


def config_of(record: dict[str, Any]) -> Config:
    """Return the configuration in a record. Raises ConfigError if this purerl does not know it."""
    check_algorithm(record)
    values = dict(record["config"])
    return from_dict(config_class(values.pop("algo", None)), values)


def members_of(record: dict[str, Any]) -> Members:
    """Return the members in a record."""
    return Members(record["seeds"], tuple(record["settings"]))


def changes_of(path: Path, old: dict[str, Any], new: dict[str, Any], allow: bool) -> dict[str, Any]:
    """Return the fields in which `new` differs from the run in `path`. Raises ConfigError if one may not."""
    for name in ("seeds", "settings"):
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
