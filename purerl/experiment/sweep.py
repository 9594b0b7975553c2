"""Sweeps: settings of real-valued and of static fields, in as few runs as possible.

Real-valued fields and seeds become members of one run. Values of a static field are different programs, and
so different runs: a sweep is a list of parts, each a run in a directory below that of the sweep. A sweep of
one part is itself a run, in the sweep's own directory.

SWEEP/sweep.json            the parts, and those that are done; with a checksum
SWEEP/[PART/]run.json ...   the run of a part
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from purerl.config import Config, ConfigError, from_dict, replace, to_dict
from purerl.devices import MAX_DEVICES
from purerl.experiment.logs import final_return
from purerl.experiment.memory import make_plan
from purerl.experiment.preconditions import check_jax
from purerl.experiment.runner import run
from purerl.experiment.search import Search, Setting, check_search, from_plain, propose, to_plain
from purerl.experiment.untrusted import checked_record, read_sealed, write_sealed
from purerl.files import DamagedFile
from purerl.make import env_for
from purerl.members import Members, make_members
from purerl.pbt import PBT
from purerl.pbt import from_plain as pbt_from_plain
from purerl.pbt import to_plain as pbt_to_plain
from purerl.python_envs import outline
from purerl.registry import config_class
from purerl.shown import plain, shorten
from purerl.train import driver_on
from purerl.types import HostEnv

FILE = "sweep.json"
MAX_PARTS = 4096
NAME = re.compile(r"[\w.=-]{1,200}|")


class Part(NamedTuple):
    """The members of a sweep that one run trains."""

    name: str
    """Directory below that of the sweep; empty if the sweep has no other part."""
    cfg: Config
    members: Members


class Sweep(NamedTuple):
    """The parts of a sweep, and the names of those that are done."""

    parts: tuple[Part, ...]
    done: frozenset[str] = frozenset()
    stop_at_return: float | None = None
    exp_name: str | None = None
    search: Search | None = None
    """Proposes more parts once these are done."""
    pbt: PBT | None = None
    """Population-based training of the one part that such a sweep has."""
    devices: int | str = 1
    """As `run` has them, of every part."""


def make_sweep(
    cfgs: Mapping[str, Config],
    values: Mapping[str, Sequence[float]],
    seeds: int = 1,
    first_seed: int = 0,
    combine: str = "product",
    available: int | None = None,
) -> Sweep:
    """Return the sweep of every one of `cfgs` with every setting of `values`, each with every seed.

    Args:
        cfgs: by name; each is a program of its own.
        values: real-valued field -> its values.
        seeds: of every setting.
        first_seed: index of the first.
        combine: as in `purerl.run`.
        available: bytes that a run may have; a config whose members need more is divided into several runs.

    Raises:
        ConfigError: for anything wrong in any part, before any compilation.
    """
    check_jax()
    parts = []
    for name, cfg in cfgs.items():
        members = make_members(cfg, seeds, values, combine, first_seed)
        pieces = list(_divide(members, _most(cfg, members, available)))
        for i, piece in enumerate(pieces):
            suffix = f"part{i}" if len(pieces) > 1 else ""
            parts.append(Part("_".join(filter(None, (name, suffix))), cfg, piece))
    if len(parts) > MAX_PARTS:
        what = f"at most {MAX_PARTS:,} programs; these values make {len(parts):,}"
        raise ConfigError("sweep", len(parts), what)
    return Sweep(tuple(parts))


def make_search(
    cfg: Config, search: Search, seeds: int = 1, first_seed: int = 0, available: int | None = None
) -> Sweep:
    """Return the first batch of a search with `cfg`, each setting with every seed, as a sweep.

    The arguments are those of `make_sweep`. Raises ConfigError as it does.
    """
    check_search(search, cfg)
    members = _batch(search, [], seeds, first_seed)
    most = _most(cfg, members, available)
    if most < members.size:
        what = f"a batch that fits in memory: {most} members, {members.size} are asked for"
        raise ConfigError("batch", search.batch, what)
    return Sweep((Part("batch0", cfg, members),), search=search)


def _batch(search: Search, results: Sequence[tuple[Setting, float]], seeds: int, first_seed: int) -> Members:
    count = min(search.batch, search.trials - len(results))
    return Members(seeds, tuple(propose(search, count, results)), first_seed)


def _extended(path: Path, sweep: Sweep) -> Sweep:
    """Return `sweep` with the next batch of its search, if all parts are done and trials are left."""
    search = sweep.search
    if search is None or len(sweep.done) < len(sweep.parts):
        return sweep
    results = []
    for part in sweep.parts:
        names = iter(part.members.names)
        for setting in part.members.settings:
            logs = [path / part.name / next(names) / "metrics.jsonl" for _ in part.members.indices]
            results.append((setting, float(np.mean([final_return(log) for log in logs]))))
    if len(results) >= search.trials:
        return sweep
    last = sweep.parts[-1]
    members = _batch(search, results, last.members.seeds, last.members.first_seed)
    return sweep._replace(parts=(*sweep.parts, Part(f"batch{len(sweep.parts)}", last.cfg, members)))


def grid_of(cfg: Config, static: Mapping[str, Sequence[Any]]) -> dict[str, Config]:
    """Return a config for every combination of values of `static` fields, by its directory's name.

    Raises ConfigError for a field or value that `cfg` cannot have.
    """
    cfgs = {}
    for row in itertools.product(*static.values()):
        fields = dict(zip(static, row, strict=True))
        name = "_".join(f"{field}={_word(value)}" for field, value in fields.items())
        if name in cfgs:
            raise ConfigError("sweep", fields, "values that differ from each other")
        cfgs[name] = from_dict(type(cfg), to_dict_without_algo(cfg) | fields)
    return cfgs


def several_values(
    cls: type[Config], values: Mapping[str, list[Any]]
) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
    """Divide fields with several values into those of members, and those of different programs."""
    kinds = {field.name: field.metadata["rule"].kind for field in dataclasses.fields(cls)}
    swept = {n: v for n, v in values.items() if kinds.get(n) == "real" and None not in v}
    return swept, {n: v for n, v in values.items() if n not in swept}


def begin_sweep(path: Path, sweep: Sweep, field: str) -> None:
    """Write a new sweep. Raises ConfigError about `field` if `path` holds a sweep or a run, OSError."""
    if is_sweep(path) or (path / "run.json").exists():
        what = "a directory without a sweep, since nothing is overwritten"
        raise ConfigError(field, str(path), what, f"Go on with that one: purerl resume {path}")
    write_sweep(path, sweep)


def run_sweep(path: Path, sweep: Sweep, *, sinks: Sequence[str] = (), progress: bool = True) -> bool:
    """Train the parts that are not done, one after the other; return True if a member has diverged.

    A part that was stopped goes on from its newest checkpoint. Raises what `purerl.run` raises.
    """
    diverged = False
    while part := next((part for part in sweep.parts if part.name not in sweep.done), None):
        place, members = path / part.name, part.members
        swept = {name: [setting[name] for setting in members.settings] for name in members.settings[0]}
        result = run(
            part.cfg,
            members.seeds,
            place,
            sweep=swept or None,
            combine="zip",
            pbt=sweep.pbt,
            first_seed=members.first_seed,
            stop_at_return=sweep.stop_at_return,
            resume=(place / "run.json").exists(),
            exp_name=sweep.exp_name,
            sinks=sinks,
            devices=sweep.devices,
            progress=progress,
        )
        diverged |= bool((result.diverged_at >= 0).any())
        sweep = _extended(path, sweep._replace(done=sweep.done | {part.name}))
        write_sweep(path, sweep)
    return diverged


def is_sweep(path: Path) -> bool:
    """Return True if `path` is the directory of a sweep."""
    return (path / FILE).is_file()


def write_sweep(path: Path, sweep: Sweep) -> None:
    """Write `sweep` into its directory, whole or not at all. Raises OSError."""
    path.mkdir(parents=True, exist_ok=True)
    parts = [
        {
            "name": part.name,
            "config": to_dict(part.cfg),
            "seeds": part.members.seeds,
            "settings": list(part.members.settings),
            "first_seed": part.members.first_seed,
        }
        for part in sweep.parts
    ]
    values: dict[str, Any] = {"parts": parts, "done": sorted(sweep.done), "exp_name": sweep.exp_name}
    values |= {"stop_at_return": plain(sweep.stop_at_return), "pbt": sweep.pbt and pbt_to_plain(sweep.pbt)}
    values |= {"search": sweep.search and to_plain(sweep.search), "devices": sweep.devices}
    write_sealed(path / FILE, values)


def read_sweep(path: Path, field: str = "run") -> Sweep:
    """Return the sweep in a directory, which may be untrusted. Raises ConfigError about `field`."""
    try:
        values = read_sealed(path / FILE)
        parts = tuple(_part(entry, path / FILE) for entry in values["parts"])
        names = [part.name for part in parts]
        sound = 0 < len(parts) == len(set(names)) <= MAX_PARTS and ("" not in names or len(names) == 1)
        done, stop, name = values["done"], values["stop_at_return"], values["exp_name"]
        sound &= set(done) <= set(names) and type(stop) in (float, type(None))
        devices = values.get("devices", 1)  # the first versions had one
        several = type(devices) is int and 1 <= devices <= MAX_DEVICES
        sound &= type(name) in (str, type(None)) and (several or devices == "all")
        if not sound:
            raise DamagedFile(f"{path / FILE} lists parts that no sweep has")
        search = from_plain(values["search"]) if values["search"] else None
        pbt = pbt_from_plain(values["pbt"]) if values["pbt"] else None
    except (OSError, DamagedFile, KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"the directory of a sweep: {shorten(str(error), 300)}"
        raise ConfigError(field, str(path), what) from error
    return Sweep(parts, frozenset(done), stop, name, search, pbt, devices)


def to_dict_without_algo(cfg: Config) -> dict[str, Any]:
    """Return the fields of `cfg` as plain values, for `from_dict`."""
    return {name: value for name, value in to_dict(cfg).items() if name != "algo"}


def _part(entry: Any, path: Path) -> Part:
    record = checked_record({"pieces": [1, 1], "changes": [], "own": {}} | entry, path)
    name = entry["name"]
    if not (isinstance(name, str) and NAME.fullmatch(name)) or name in (".", ".."):
        raise DamagedFile(f"{path} has a part with an impossible name")
    config = dict(record["config"])
    cfg = from_dict(config_class(config.pop("algo", None)), config)
    for setting in record["settings"]:
        replace(cfg, setting)
    return Part(name, cfg, Members(record["seeds"], tuple(record["settings"]), record["first_seed"]))


def _most(cfg: Config, members: Members, available: int | None) -> int:
    """Return the most members of one run that fit the `available` bytes; at least 1.

    Raises ConfigError if `cfg` or a setting is wrong.
    """
    env = env_for(cfg, None)
    driver = driver_on(cfg, outline(env) if isinstance(env, HostEnv) else env, None)
    for setting in members.settings:
        driver.validate(setting)
    needed = make_plan(driver, members).total
    return members.size if available is None else max(1, int(members.size * available / max(needed, 1)))


def _divide(members: Members, most: int) -> Iterator[Members]:
    """Yield `members` in groups of at most `most`: whole settings if they fit, seeds of one otherwise."""
    if most >= members.seeds:
        step = most // members.seeds
        for i in range(0, len(members.settings), step):
            yield members._replace(settings=members.settings[i : i + step])
        return
    for setting in members.settings:
        for i in range(0, members.seeds, most):
            seeds = min(most, members.seeds - i)
            yield Members(seeds, (setting,), members.first_seed + i)


def _word(value: Any) -> str:
    """Return `value` as a part of a directory's name."""
    text = "x".join(map(str, value)) if isinstance(value, list | tuple) else str(plain(value))
    return re.sub(r"[^\w.-]+", "-", text)[:60]
