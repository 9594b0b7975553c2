"""Checkpoints: a pytree of arrays on disk, complete under its name or not there at all.

    DIRECTORY/step-000000012000-0003/arrays.bin      every array, one after the other, little-endian
                                     manifest.json   name, type, shape, place and SHA-256 of each; a record

The name says the step, and the rows of metrics finished by then. A checkpoint is written under another
name, synced to the disk and then renamed. The arrays are streamed in both directions, so that saving a
replay buffer of gigabytes needs no second copy of it; of one that is not full yet, what exists is stored.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import os
import platform
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import jax
import jax.numpy as jnp
import numpy as np

import purerl
from purerl.experiment.atomic import sync_directory
from purerl.experiment.untrusted import (
    FORMAT,
    CheckpointError,
    Manifest,
    SchemaError,
    checkpoint_name,
    write_sealed,
)
from purerl.files import DamagedFile, open_regular
from purerl.shown import shorten
from purerl.types import PyTree

BLOCK = 16 * 2**20
"""Bytes that are hashed and written at a time."""
KEEP = 2
"""Checkpoints that a run keeps, so that one can be damaged."""
NAME = re.compile("step-[0-9]{12}-[0-9]{4,}")
KEYS = {"key<fry>": "threefry2x32", "key<rbg>": "rbg", "key<urbg>": "unsafe_rbg"}
"""Types of keys, and the names of their implementations."""


@dataclasses.dataclass(frozen=True)
class Prefix:
    """An array `[S, capacity, ...]` whose entries from `rows` on, along the second axis, are zeros."""

    array: Any
    rows: int


def save(directory: Path, tree: PyTree, record: Mapping[str, Any], keep: int | None = KEEP) -> None:
    """Write the arrays and keys of `tree` as the checkpoint of `record["step"]`, and keep the newest `keep`.

    None keeps all. Of a `Prefix` only the rows in use are written. One of the same name is replaced. Raises
    CheckpointError if it cannot be written; earlier checkpoints are kept then.
    """
    path = directory / checkpoint_name(record["step"], record["rows"])
    temporary = directory / f".tmp-{path.name}-{os.getpid()}"
    try:
        temporary.mkdir(parents=True)
        sync_directory(directory.parent)
        with (temporary / "arrays.bin").open("xb") as file:
            leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
            arrays = [_write(file, jax.tree_util.keystr(where), leaf) for where, leaf in leaves]
            file.flush()
            os.fsync(file.fileno())
        manifest = {"format": FORMAT, "record": record, "versions": _versions(), "arrays": arrays}
        write_sealed(temporary / "manifest.json", manifest)
        discard(path)
        os.rename(temporary, path)
        sync_directory(directory)
    except OSError as error:
        raise CheckpointError(f"{path} could not be written: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for old in newest_first(directory)[keep:] if keep else ():
        shutil.rmtree(old, ignore_errors=True)  # half of one is damaged, and older than two that are whole


def discard(path: Path) -> None:
    """Remove the checkpoint at `path`, if there is one; no half of it keeps the name. Raises OSError."""
    if not os.path.lexists(path):
        return
    aside = path.with_name(f".tmp-{path.name}-{os.getpid()}-old")
    os.rename(path, aside)
    if aside.is_dir() and not aside.is_symlink():
        shutil.rmtree(aside, ignore_errors=True)
    else:
        aside.unlink()


def size_of(tree: PyTree) -> int:
    """Return the bytes that `save` would write of the arrays of `tree`."""

    def size(leaf: Any) -> int:
        array, used = (leaf.array, leaf.rows / leaf.array.shape[1]) if isinstance(leaf, Prefix) else (leaf, 1)
        return round(used * array.nbytes)

    return sum(map(size, jax.tree.leaves(tree)))


def newest_first(directory: Path) -> list[Path]:
    """Return the checkpoints in `directory`, by name, complete or not.

    Raises CheckpointError if it is a link, which may lead anywhere, or cannot be read.
    """
    if os.path.islink(directory):
        raise CheckpointError(f"{directory} is a link, which is not followed")
    try:
        names = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{directory} cannot be read: {error}") from error
    return [directory / name for name in sorted(filter(NAME.fullmatch, names), reverse=True)]


def load(manifest: Manifest, like: PyTree, *, partly: bool = False) -> PyTree:
    """Read the arrays of a checkpoint in the structure of `like`, which may lack some if `partly`.

    Raises SchemaError if an array is missing, too many, or has another type or shape, before anything is
    allocated, and CheckpointError if the file is not as it was written.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(like)
    wanted = {jax.tree_util.keystr(path): leaf for path, leaf in leaves}
    if not partly and (extra := sorted(manifest.arrays.keys() - wanted.keys())):
        raise SchemaError(f"{manifest.path} holds {shorten(extra[0])}, which is not expected")
    for name, leaf in wanted.items():
        if name not in manifest.arrays:
            raise SchemaError(f"{manifest.path} has no array {name}")
        entry, expected = manifest.arrays[name], {"dtype": str(leaf.dtype), "shape": list(leaf.shape)}
        if found := {key: shorten(str(entry[key])) for key in expected if entry[key] != expected[key]}:
            what = f"expected {leaf.dtype}{list(leaf.shape)}"
            if entry["dtype"] in KEYS and _is_key(leaf):
                what = f"set jax_default_prng_impl to {KEYS[entry['dtype']]}, as it was for this run"
            raise SchemaError(f"{manifest.path} holds {name} as {found}: {what}")
    try:
        with open_regular(manifest.path / "arrays.bin") as file:
            arrays = [_read(file, name, manifest.arrays[name], leaf) for name, leaf in wanted.items()]
    except (OSError, OverflowError, DamagedFile) as error:
        raise CheckpointError(f"{manifest.path} cannot be used: {error}") from error
    return jax.tree_util.tree_unflatten(structure, arrays)


def _write(file: IO[bytes], name: str, leaf: Any) -> dict[str, Any]:
    """Append an array to `file`, and return its entry in the manifest."""
    rows, leaf = (leaf.rows, leaf.array) if isinstance(leaf, Prefix) else (None, leaf)
    if not _is_key(leaf) and leaf.dtype.kind not in "biuf" and leaf.dtype != jnp.bfloat16:
        raise CheckpointError(f"{name}: an array of type {leaf.dtype} cannot be stored")
    start, digest = file.tell(), hashlib.sha256()
    data = np.ascontiguousarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)  # no copy on a CPU
    for content in _parts(data, rows):
        for at in range(0, content.size, BLOCK):
            block = content[at : at + BLOCK].data
            digest.update(block)
            file.write(block)
    kind = {"name": name, "dtype": str(leaf.dtype), "shape": list(leaf.shape), "rows": rows}
    return kind | {"start": start, "sha256": digest.hexdigest()}


def _parts(data: np.ndarray, rows: int | None) -> list[np.ndarray]:
    """Return views of the bytes that are stored: all, or the first `rows` entries of every member."""
    stored = [data] if rows is None else [member[:rows] for member in data]
    return [part.reshape(-1).view(np.uint8) for part in stored]


def _read(file: IO[bytes], name: str, entry: Mapping[str, Any], like: Any) -> jax.Array:
    """Read the array of `entry`, its checksum verified; `like` has its type and shape."""
    data: Any = jax.eval_shape(jax.random.key_data, like) if _is_key(like) else like
    rows, size = entry["rows"], data.size * data.dtype.itemsize
    if rows is not None:
        if data.ndim < 2 or not 0 <= rows <= data.shape[1]:
            raise DamagedFile(f"{name} has {rows} rows of {shorten(str(data.shape))}")
        size = size // max(data.shape[1], 1) * rows
    if not 0 <= entry["start"] <= os.fstat(file.fileno()).st_size - size:  # before anything is allocated
        raise DamagedFile(f"arrays.bin is too short for {name}")
    file.seek(entry["start"])
    values, digest = np.zeros(data.shape, data.dtype), hashlib.sha256()
    for content in _parts(values, rows):
        for at in range(0, content.size, BLOCK):
            block = content[at : at + BLOCK].data
            if file.readinto(block) != len(block):  # type: ignore[attr-defined]
                raise DamagedFile("arrays.bin became shorter while it was read")
            digest.update(block)
    if digest.hexdigest() != entry["sha256"]:
        raise DamagedFile(f"the checksum of {name} does not fit")
    values = values.view(np.uint8) != 0 if data.dtype == np.bool_ else values
    # Waited for, so that one copy exists at a time; not aliased, because a program could not donate it.
    array = jax.device_put(values, may_alias=False).block_until_ready()
    return jax.random.wrap_key_data(array, impl=KEYS[str(like.dtype)]) if _is_key(like) else array


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _versions() -> dict[str, str]:
    """Return the versions that an exact continuation depends on."""
    device = jax.devices()[0]
    return {
        "purerl": purerl.__version__,
        "jax": jax.__version__,
        "jaxlib": importlib.metadata.version("jaxlib"),
        "python": platform.python_version(),
        "device": f"{device.platform}: {device.device_kind}",
        "prng_impl": str(jax.config.jax_default_prng_impl),  # type: ignore[attr-defined]
        "threefry_partitionable": str(jax.config.jax_threefry_partitionable),  # type: ignore[attr-defined]
    }
