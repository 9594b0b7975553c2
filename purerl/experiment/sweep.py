"""Sweeps: settings of real-valued and of static fields, in as few runs as possible.

Real-valued fields and seeds become members of one run. Values of a static field are different programs, and
so different runs: a sweep is a list of parts, each a run in a directory below that of the sweep. A sweep of
one part is itself a run, in the sweep's own directory.

SWEEP/sweep.json            the parts, and those that are done; with a checksum
SWEEP/[PART/]run.json ...   the run of a part
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from purerl.config import Config, ConfigError, from_dict, replace, to_dict
from purerl.experiment.memory import make_plan
from purerl.experiment.preconditions import check_jax
from purerl.experiment.runner import run
from purerl.experiment.untrusted import checked_record, read_sealed, write_sealed
from purerl.files import DamagedFile
from purerl.make import env_for
from purerl.members import Members, make_members
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


def run_sweep(path: Path, sweep: Sweep, *, sinks: Sequence[str] = (), progress: bool = True) -> bool:
    """Train the parts that are not done, one after the other; return True if a member has diverged.

    A part that was stopped goes on from its newest checkpoint. Raises what `purerl.run` raises.
    """
    diverged = False
    for part in sweep.parts:
        if part.name in sweep.done:
            continue
        place, members = path / part.name, part.members
        swept = [*members.settings[0]]
        result = run(
            part.cfg,
            members.seeds,
            place,
            sweep={name: [setting[name] for setting in members.settings] for name in swept} or None,
            combine="zip",
            first_seed=members.first_seed,
            stop_at_return=sweep.stop_at_return,
            resume=(place / "run.json").exists(),
            exp_name=sweep.exp_name,
            sinks=sinks,
            progress=progress,
        )
        diverged |= bool((result.diverged_at >= 0).any())
        sweep = sweep._replace(done=sweep.done | {part.name})
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
    values["stop_at_return"] = plain(sweep.stop_at_return)
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
        sound &= type(name) in (str, type(None))
        if not sound:
            raise DamagedFile(f"{path / FILE} lists parts that no sweep has")
    except (OSError, DamagedFile, KeyError, TypeError) as error:
        raise ConfigError(
            field, str(path), f"the directory of a sweep: {shorten(str(error), 300)}"
        ) from error
    return Sweep(parts, frozenset(done), stop, name)


def to_dict_without_algo(cfg: Config) -> dict[str, Any]:
    """Return the fields of `cfg` as plain values, for `from_dict`."""
    return {name: value for name, value in to_dict(cfg).items() if name != "algo"}


def _part(entry: Any, path: Path) -> Part:
    record = checked_record({"pieces": [1, 1], "changes": [], "own": {}} | entry, path)
    if (
        not isinstance(entry["name"], str)
        or not NAME.fullmatch(entry["name"])
        or entry["name"] in (".", "..")
    ):
        raise DamagedFile(f"{path} has a part with an impossible name")
    config = dict(record["config"])
    cfg = from_dict(config_class(config.pop("algo", None)), config)
    for setting in record["settings"]:
        replace(cfg, setting)
    return Part(entry["name"], cfg, Members(record["seeds"], tuple(record["settings"]), record["first_seed"]))


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
