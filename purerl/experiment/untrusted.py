"""Guards of everything that is read from a run's directory, which may be damaged or come from anywhere.

Only data is read: JSON with a checksum, and arrays whose names, types and shapes the reader expects and
compares before it allocates anything. Links, pipes and devices are refused, sizes are limited, and every
refusal is one printable line. Nothing here can execute what it reads.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import purerl
from purerl.devices import MAX_DEVICES
from purerl.errors import ConfigError
from purerl.experiment.atomic import write_json
from purerl.files import DamagedFile, open_regular
from purerl.health import split_replay
from purerl.members import MAX_FIRST_SEED
from purerl.registry import OWN_ENVIRONMENTS
from purerl.schedule import Schedule
from purerl.shown import shorten

FORMAT = 3
"""Version of the layout on disk. A reader refuses others."""
JSON_LIMIT = 2 * 2**20
"""Bytes of the largest JSON file: some 8,000 arrays fit into a manifest."""
LOG_LINE = 2**16
"""Bytes of the longest line of a log."""
CANDIDATES = 4
"""Checkpoints that are tried, damaged ones included; a run keeps two."""
MESSAGE = 1000
"""Characters of the longest message."""
RECORD_FIELDS = {"config": dict, "seeds": int, "settings": list, "pieces": list, "changes": list}
RECORD_FIELDS |= {"first_seed": int, "own": dict, "exp_name": str, "pbt": dict, "devices": int}
"""Fields of `run.json`, which every checkpoint repeats."""
OWN_PARTS = {"algorithm": str, "env": str, "networks": list}
"""Parts of a run that the user's code made, in the field `own`: a class's place, a name, names."""
FIXED = ("algo", "env", "engine", "env_kwargs", "seed")
"""Fields of a configuration that cannot change on resume."""


class CheckpointError(Exception):
    """A checkpoint that cannot be written or is damaged; the message, one line, names it and the reason."""

    def __init__(self, message: str):
        super().__init__(one_line(message))


class SchemaError(CheckpointError):
    """A sound checkpoint of something else: another configuration, or another version of the code."""


class Manifest(NamedTuple):
    """Description of a checkpoint, read before its arrays."""

    path: Path
    record: dict[str, Any]
    """The run's record, with the snapshot's `step`, `rows` and `elapsed`."""
    arrays: dict[str, dict[str, Any]]
    """By name: `dtype`, `shape`, `start` in the file, `sha256`, and `rows`: see `checkpoint.Prefix`."""


def one_line(text: str) -> str:
    """Escape `text` for a terminal: printable, and at most MESSAGE characters."""
    text = text if len(text) <= MESSAGE else text[: MESSAGE - 3] + "..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def read_lines(path: Path, lines: int) -> list[str]:
    """Read the first `lines` lines of a file, or all if there are fewer. Raises as `open_regular`."""
    kept = []
    with open_regular(path) as file:
        while len(kept) < lines and (line := file.readline(LOG_LINE + 1)):
            if len(line) > LOG_LINE:
                raise DamagedFile(f"{path} has a line of more than {LOG_LINE:,} bytes")
            kept.append(line.decode("utf-8", errors="replace").rstrip("\n"))
    return kept


def refuse_links(path: Path) -> None:
    """Raise OSError where a run in `path` would write through a link, which may lead anywhere."""
    for part in (path / "checkpoints", path / "policies", *path.glob("*seed*")):
        if part.is_symlink():
            raise OSError(errno.ELOOP, "a link", str(part))


def refuse_files(env: str, env_kwargs: Mapping[str, Any], hint: str) -> None:
    """Raise ConfigError if `env_kwargs` from a run's files may name a file or a module to open.

    What an environment of another library or of the user does with a text is unknown, so it gets numbers and
    switches only.
    """
    own = [asset.name for asset in Path(purerl.__file__).parent.glob("envs/mujoco/assets/*.xml")]
    for name, value in env_kwargs.items():
        if (":" in env or env in OWN_ENVIRONMENTS) and not isinstance(value, bool | int | float | None):
            what = f"a number or a switch: a text from the files of a run is not given to {shorten(env)}"
            raise ConfigError(name, value, what, hint)
        if name == "xml_file" and value is not None and value not in own:
            what = "a model of purerl: one that the files of a run name is not opened"
            raise ConfigError(name, value, what, hint)


def write_sealed(path: Path, values: Mapping[str, Any]) -> None:
    """Write `values` to `path`, whole or not at all, with their checksum. Raises OSError."""
    values = {**values, "sha256": _seal(values)}
    if len(json.dumps(values, indent=2)) > JSON_LIMIT:
        raise OSError(errno.EFBIG, f"more than {JSON_LIMIT:,} bytes of JSON", str(path))
    write_json(path, values)


def read_sealed(path: Path) -> dict[str, Any]:
    """Read values of `write_sealed`. Raises DamagedFile for anything else, FileNotFoundError."""
    with open_regular(path) as file:
        content = file.read(JSON_LIMIT + 1)
    if len(content) > JSON_LIMIT:
        raise DamagedFile(f"{path} has more than {JSON_LIMIT:,} bytes")
    try:
        values = json.loads(content.decode("utf-8"), parse_constant=_constant)
        if not isinstance(values, dict):
            raise ValueError("expected an object")
        sound = values.pop("sha256", None) == _seal(values)
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{path} is not JSON as it was written: {error}") from error
    if not sound:
        raise DamagedFile(f"{path} was changed since it was written: its checksum does not fit")
    return values


def _seal(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _constant(text: str) -> float:
    if text == "NaN":
        raise ValueError("NaN is not allowed")
    return float(text)


def checked_record(record: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return a run's record. Raises DamagedFile unless its fields have the types and ranges of a run."""
    younger = {"first_seed": 0, "own": {}, "exp_name": "", "pbt": {}, "devices": 1}  # than the first versions
    record = record | {name: record.get(name, default) for name, default in younger.items()}
    for name, kind in RECORD_FIELDS.items():
        if type(record.get(name)) is not kind:
            raise DamagedFile(f"{path} lacks the field {name} of a run")
    if any(type(value) is not OWN_PARTS.get(name) for name, value in record["own"].items()):
        raise DamagedFile(f"{path} has parts of its own that no run has")
    settings = record["settings"]
    if not all(isinstance(s, dict) and all(type(v) is float for v in s.values()) for s in settings):
        raise DamagedFile(f"{path} has settings that no run has")
    pieces = [n for n in record["pieces"] if type(n) is int and n >= 1]
    seeds, first = record["seeds"], record["first_seed"]
    counted = seeds >= 1 and 1 <= seeds * len(settings) <= 2**16 and 0 <= first <= MAX_FIRST_SEED
    if not counted or len(pieces) != 2 or not 1 <= record["devices"] <= MAX_DEVICES:
        raise DamagedFile(f"{path} has seeds, settings, pieces or devices out of range")
    return record


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of the checkpoint at `path`.

    Raises CheckpointError if it is damaged, SchemaError if it has another format.
    """
    try:
        if path.is_symlink():
            raise DamagedFile(f"{path} is a link")
        values = read_sealed(path / "manifest.json")
        if values.get("format") != FORMAT:
            writer = shorten(str(values.get("versions")))
            known = f"purerl {purerl.__version__} reads format {FORMAT}"
            raise SchemaError(f"{path} has format {values.get('format')}, written by {writer}; {known}")
        arrays = {entry["name"]: entry for entry in values["arrays"]}
        kinds = {"dtype": [str], "shape": [list], "start": [int], "sha256": [str], "rows": [int, type(None)]}
        sound = [type(entry[key]) in kind for entry in arrays.values() for key, kind in kinds.items()]
        if not all(sound) or len(arrays) != len(values["arrays"]) or type(values["record"]) is not dict:
            raise TypeError("an entry of another type, or twice")
    except (OSError, DamagedFile, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be used: {error!r}") from error
    return Manifest(path, values["record"], arrays)


def checkpoint_name(step: int, rows: int) -> str:
    """Return the name of the checkpoint of `step`, with `rows` rows of metrics finished."""
    return f"step-{step:012d}-{rows:04d}"


def check_place(manifest: Manifest, record: dict[str, Any], schedule: Schedule) -> None:
    """Raise CheckpointError unless the manifest is of the run with that record, at a step of its schedule."""
    place, path = manifest.record, manifest.path
    for field, kind in {"step": int, "rows": int, "elapsed": float}.items():
        if type(place.get(field)) is not kind or not 0 <= place[field] < math.inf:
            raise CheckpointError(f"{path} has no {field} of a run")
    step, rows = place["step"], place["rows"]
    if path.name != checkpoint_name(step, rows):
        raise CheckpointError(f"{path} is of step {step:,} with {rows:,} rows of metrics")
    try:
        same = _identity(checked_record(place, path)) == _identity(record)
    except DamagedFile as error:
        raise CheckpointError(str(error)) from error
    if not same:
        raise SchemaError(f"{path} is of another run")
    warmup, train = (piece * schedule.iteration_steps for piece in record["pieces"])
    complete, learned = schedule.rows_by(step), step - schedule.warmup_steps
    fits = schedule.warmup_steps % warmup == schedule.row_steps % train == 0 and step <= schedule.total_steps
    fits = fits and (learned % train if learned > 0 else step % warmup) == 0
    if not fits or not complete - 1 <= rows <= complete:
        where = f"at step {step:,} with {rows:,} rows of metrics"
        raise SchemaError(f"{path} is {where}, which a run of this configuration never is")


def _identity(record: dict[str, Any]) -> Any:
    fixed = [record["config"].get(name) for name in FIXED]
    members = record["seeds"], record["first_seed"], record["settings"]
    return members, list(record["pieces"]), fixed


def check_sound(manifest: Manifest, arrays: dict[str, Any]) -> None:
    """Raise CheckpointError where a healthy member, or a best policy, is not finite."""
    state, best = arrays["state"], arrays.get("best")
    _check_finite(manifest, split_replay(state.algo)[0], np.asarray(state.diverged_at) < 0)
    if best:
        _check_finite(manifest, best.algo, np.asarray(best.step) >= 0)


def _check_finite(manifest: Manifest, tree: Any, members: np.ndarray) -> None:
    for leaf in jax.tree.leaves(tree):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            finite = np.isfinite(np.asarray(leaf)).reshape(len(members), -1).all(axis=1)
            if (members & ~finite).any():
                raise CheckpointError(f"{manifest.path} holds numbers that are not finite")
