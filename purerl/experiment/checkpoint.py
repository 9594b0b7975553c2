"""Checkpoints: a pytree of arrays on disk, complete under its name or not there at all.

    DIRECTORY/step-000000012000/arrays.bin      every array, one after the other, little-endian
                                manifest.json   name, type, shape and SHA-256 of each; versions; a record

A checkpoint is written under another name, synced to the disk and then renamed. The arrays are streamed in
both directions, so that saving a replay buffer of gigabytes needs no second copy of it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import math
import os
import platform
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import purerl
from purerl.config import shorten
from purerl.experiment.atomic import sync_directory
from purerl.experiment.untrusted import (
    FORMAT,
    ITEM_BYTES,
    CheckpointError,
    DamagedFile,
    Manifest,
    SchemaError,
    open_regular,
    write_sealed,
)
from purerl.types import PyTree

BLOCK = 16 * 2**20
"""Bytes that are hashed and written at a time."""
NAME = re.compile("step-[0-9]{12}")
KEYS = {"key<fry>": "threefry2x32", "key<rbg>": "rbg", "key<urbg>": "unsafe_rbg"}
"""Types of keys, and the names of their implementations."""


def save(directory: Path, step: int, tree: PyTree, record: Mapping[str, Any], keep: int = 2) -> Path:
    """Write `tree` as the checkpoint of `step`, then remove all but the newest `keep`.

    One of the same step is replaced, between two renames.

    Args:
        directory: where checkpoints are; made if missing.
        step: orders the checkpoints.
        tree: arrays and typed keys, on any device.
        record: JSON-ready values for the manifest.
        keep: number of checkpoints that stay; two, so that one can be damaged.

    Raises:
        CheckpointError: if it cannot be written; earlier checkpoints are kept then.
    """
    path = directory / f"step-{step:012d}"
    temporary = directory / f".tmp-{path.name}-{os.getpid()}"
    try:
        temporary.mkdir(parents=True)
        sync_directory(directory.parent)
        arrays = _write_arrays(temporary / "arrays.bin", tree)
        versions = _versions()
        manifest = {"format": FORMAT, "step": step, "record": record, "versions": versions, "arrays": arrays}
        write_sealed(temporary / "manifest.json", manifest)
        _give_name(temporary, path)
        sync_directory(directory)
    except OSError as error:
        raise CheckpointError(f"{path} could not be written: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for old in newest_first(directory)[keep:]:
        _discard(old)
    return path


def newest_first(directory: Path) -> list[Path]:
    """Return the checkpoints in `directory`, by name, complete or not. Raises CheckpointError."""
    try:
        names = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{directory} cannot be read: {error}") from error
    return [directory / name for name in sorted(filter(NAME.fullmatch, names), reverse=True)]


def clean(directory: Path) -> None:
    """Remove the remains of an interrupted `save`. Needs the run's lock.

    If it was about to replace the newest checkpoint, that one has its name again.
    """
    for old in directory.glob(".tmp-old-*"):
        name = NAME.search(old.name)
        if name and all(name[0] > path.name for path in newest_first(directory)):
            os.replace(old, directory / name[0])
    for entry in directory.glob(".tmp-*"):
        shutil.rmtree(entry, ignore_errors=True)  # which follows no link


def load(manifest: Manifest, like: PyTree, *, partly: bool = False) -> PyTree:
    """Read the arrays of a checkpoint in the structure of `like`.

    Args:
        manifest: from `untrusted.read_manifest`.
        like: arrays, keys or `jax.ShapeDtypeStruct`s.
        partly: `like` may lack some of the arrays; those it has are found by name.

    Raises:
        SchemaError: if an array is missing, too many, or has another type or shape, before anything
            is allocated.
        CheckpointError: if the file is not as it was written.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(like)
    wanted = {jax.tree_util.keystr(path): leaf for path, leaf in leaves}
    entries = {entry["name"]: entry for entry in manifest.arrays}
    if not partly and (extra := sorted(entries.keys() - wanted.keys())):
        raise SchemaError(f"{manifest.path} holds {shorten(extra[0])}, which is not expected")
    for name, leaf in wanted.items():
        if name not in entries:
            raise SchemaError(f"{manifest.path} has no array {name}")
        found = entries[name]["dtype"], tuple(entries[name]["shape"])
        if found != (str(leaf.dtype), leaf.shape):
            what = f"{found[0]}{list(found[1])}, where {leaf.dtype}{list(leaf.shape)} is expected"
            raise SchemaError(f"{manifest.path} holds {name} as {what}")
    try:
        arrays = dict(_read_arrays(manifest, wanted))
    except (OSError, DamagedFile) as error:
        raise CheckpointError(f"{manifest.path} cannot be used: {error}") from error
    return jax.tree_util.tree_unflatten(structure, [arrays[name] for name in wanted])


def _write_arrays(path: Path, tree: PyTree) -> list[dict[str, Any]]:
    entries = []
    with path.open("xb") as file:
        for where, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
            if str(leaf.dtype) not in ITEM_BYTES:
                raise CheckpointError(f"{path.parent}: no array of type {leaf.dtype} can be stored")
            digest = hashlib.sha256()
            content = _bytes_of(leaf)
            for start in range(0, content.size, BLOCK):
                block = content[start : start + BLOCK].data
                digest.update(block)
                file.write(block)
            entries.append(
                {
                    "name": jax.tree_util.keystr(where),
                    "dtype": str(leaf.dtype),
                    "shape": list(leaf.shape),
                    "sha256": digest.hexdigest(),
                }
            )
        file.flush()
        os.fsync(file.fileno())
    return entries


def _bytes_of(leaf: Any) -> np.ndarray:
    """Return `leaf` as uint8 `[bytes]`, without a copy where it lies in this machine's memory."""
    data = jax.random.key_data(leaf) if _is_key(leaf) else leaf
    return np.ascontiguousarray(data).reshape(-1).view(np.uint8)


def _read_arrays(manifest: Manifest, wanted: Mapping[str, Any]) -> Iterator[tuple[str, jax.Array]]:
    """Yield every array of `wanted`, its checksum verified; skip the others."""
    sizes = {entry["name"]: _size_of(entry) for entry in manifest.arrays}
    with open_regular(manifest.path / "arrays.bin") as file:
        written, found = sum(sizes.values()), os.fstat(file.fileno()).st_size
        if found != written:
            raise DamagedFile(f"arrays.bin has {found:,} bytes, and {written:,} were written")
        needed = sum(sizes[name] for name in wanted)
        if needed > (memory := os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")):
            raise DamagedFile(f"its arrays need {needed:,} bytes, and this machine has {memory:,}")
        for entry in manifest.arrays:
            size = sizes[entry["name"]]
            if entry["name"] not in wanted:
                file.seek(size, os.SEEK_CUR)
                continue
            content, digest = np.empty(size, np.uint8), hashlib.sha256()
            for start in range(0, size, BLOCK):
                block = content[start : start + BLOCK].data
                if file.readinto(block) != len(block):  # type: ignore[attr-defined]
                    raise DamagedFile("arrays.bin became shorter while it was read")
                digest.update(block)
            if digest.hexdigest() != entry["sha256"]:
                raise DamagedFile(f"the checksum of {entry['name']} does not fit")
            yield entry["name"], _leaf_of(content, wanted[entry["name"]])


def _leaf_of(content: np.ndarray, like: Any) -> jax.Array:
    data = jax.eval_shape(jax.random.key_data, like) if _is_key(like) else like
    values = content != 0 if data.dtype == np.bool_ else content.view(data.dtype)
    # Waited for, so that one copy exists at a time; not aliased, because a program could not donate it.
    array = jax.device_put(values.reshape(data.shape), may_alias=False).block_until_ready()
    return jax.random.wrap_key_data(array, impl=KEYS[str(like.dtype)]) if _is_key(like) else array


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _size_of(entry: Mapping[str, Any]) -> int:
    """Return the bytes of one array, from its type and shape."""
    return math.prod(entry["shape"]) * ITEM_BYTES[entry["dtype"]]


def _give_name(new: Path, path: Path) -> None:
    """Rename `new` to `path`, replacing what is there; restore the old one on failure."""
    old = path.with_name(f".tmp-old-{path.name}-{os.getpid()}")
    there = os.path.lexists(path)
    if there:
        os.replace(path, old)
    try:
        os.replace(new, path)
    except BaseException:
        if there:
            os.replace(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _discard(path: Path) -> None:
    """Remove a checkpoint, its name first, so that a half of it never looks whole."""
    gone = path.with_name(f".tmp-old-{path.name}-{os.getpid()}")
    with suppress(OSError):  # tried again at the next save
        os.replace(path, gone)
    shutil.rmtree(gone, ignore_errors=True)


def _versions() -> dict[str, str]:
    """Return the versions that an exact continuation depends on."""
    device = jax.devices()[0]
    return {
        "purerl": purerl.__version__,
        "jax": jax.__version__,
        "jaxlib": importlib.metadata.version("jaxlib"),
        "python": platform.python_version(),
        "device": f"{device.platform}: {device.device_kind}",
        "threefry_partitionable": str(jax.config.jax_threefry_partitionable),  # type: ignore[attr-defined]
    }
