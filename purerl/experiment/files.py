"""Files that are whole or not there, and files that may come from strangers."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

JSON_LIMIT = 4 * 2**20
"""Bytes of the largest JSON file that is read."""


class DamagedFile(Exception):
    """A file that is not what was written: the message names it and says what is wrong."""


def open_regular(path: Path) -> IO[bytes]:
    """`path` for reading, if it is a regular file itself: no link, no pipe, no device.

    Raises DamagedFile otherwise, FileNotFoundError if there is none.
    """
    try:
        # Opening a pipe would wait for its writer: hence O_NONBLOCK, which files ignore.
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise DamagedFile(f"{path} cannot be opened: {error}") from error
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise DamagedFile(f"{path} is no regular file")
    return os.fdopen(number, "rb")


def sync_directory(path: Path) -> None:
    """Make the names in `path` as lasting as the files behind them."""
    number = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def write_whole(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write `values` to `path`, whole or not at all."""
    write_whole(path, json.dumps(values, indent=2) + "\n")


def write_sealed(path: Path, values: Mapping[str, Any]) -> None:
    """As `write_json`, with a checksum of the values among them, so that `read_sealed` can trust them."""
    write_json(path, {**values, "sha256": _seal(values)})


def read_sealed(path: Path) -> dict[str, Any]:
    """What `write_sealed` wrote to `path`.

    Raises DamagedFile if it is anything else, FileNotFoundError if there is no such file.
    """
    with open_regular(path) as file:
        content = file.read(JSON_LIMIT + 1)
    if len(content) > JSON_LIMIT:
        raise DamagedFile(f"{path} has more than {JSON_LIMIT:,} bytes")
    try:
        values = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_no_duplicates,
            parse_int=_short,
            parse_float=_short_float,
        )
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{path} is not JSON as it was written: {error}") from error
    if not isinstance(values, dict) or values.pop("sha256", None) != _seal(values):
        raise DamagedFile(f"{path} was changed since it was written: its checksum does not fit")
    return values


def _seal(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a name is there twice")
    return values


def _short(text: str) -> int:
    if len(text) > 20:
        raise ValueError("a number has more than 20 digits")
    return int(text)


def _short_float(text: str) -> float:
    if len(text) > 40:
        raise ValueError("a number has more than 40 characters")
    return float(text)
