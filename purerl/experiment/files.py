"""Files that are whole or not there, and files that may come from strangers."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

JSON_LIMIT = 2 * 2**20
"""Bytes of the largest sealed file: some 8,000 arrays fit into a manifest."""
MARKS, DEPTH = 200_000, 16
"""Its most brackets and commas, and its deepest nesting: what takes memory and time to read."""
LOG_LINE = 2**16
"""Bytes of the longest line of a log."""
MESSAGE = 1000
"""Characters of the longest message."""


class DamagedFile(Exception):
    """A file that is not what was written: the message names it and says what is wrong."""


def one_line(text: str) -> str:
    """`text` as a terminal may show it, whatever a stranger has put into it: printable, and not too long."""
    text = text if len(text) <= MESSAGE else text[: MESSAGE - 3] + "..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


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


def read_lines(path: Path, lines: int) -> list[str]:
    """The first `lines` lines of the file at `path`, or all if there are fewer. Raises as `open_regular`."""
    kept = []
    with open_regular(path) as file:
        while len(kept) < lines and (line := file.readline(LOG_LINE + 1)):
            if len(line) > LOG_LINE:
                raise DamagedFile(f"{path} has a line of more than {LOG_LINE:,} bytes")
            kept.append(line.decode("utf-8", errors="replace").rstrip("\n"))
    return kept


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
    temporary.unlink(missing_ok=True)  # of a killed process that had our number
    try:
        with temporary.open("x", encoding="utf-8", newline="\n") as file:  # so it follows no link
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
    """As `write_json`, with a checksum of the values among them, so that `read_sealed` can trust them.

    Raises OSError also where `read_sealed` would refuse them.
    """
    values = {**values, "sha256": _seal(values)}
    try:
        _parse(json.dumps(values, indent=2).encode())
    except ValueError as error:
        raise OSError(errno.EINVAL, f"could not be read again: {error}", str(path)) from error
    write_json(path, values)


def read_sealed(path: Path) -> dict[str, Any]:
    """What `write_sealed` wrote to `path`.

    Raises DamagedFile if it is anything else, FileNotFoundError if there is no such file.
    """
    with open_regular(path) as file:
        content = file.read(JSON_LIMIT + 1)
    try:
        values = _parse(content)
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{path} is not JSON as it was written: {error}") from error
    if values.pop("sha256", None) != _seal(values):
        raise DamagedFile(f"{path} was changed since it was written: its checksum does not fit")
    return values


def _seal(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _parse(content: bytes) -> dict[str, Any]:
    """The JSON object in `content`. Raises ValueError for anything that we do not write."""
    if len(content) > JSON_LIMIT:
        raise ValueError(f"it has more than {JSON_LIMIT:,} bytes")
    if sum(map(content.count, (b"[", b"{", b","))) > MARKS:
        raise ValueError(f"it has more than {MARKS:,} brackets and commas")
    values = json.loads(
        content.decode("utf-8"),
        object_pairs_hook=_no_duplicates,
        parse_int=_short,
        parse_float=_finite,
        parse_constant=_no_nan,
    )
    if not isinstance(values, dict):
        raise ValueError("it holds no object")
    _check_depth(values)
    return values


def _check_depth(values: dict[str, Any]) -> None:
    level: list[Any] = [values]
    for _ in range(DEPTH):
        inner = [item for items in level if isinstance(items, list) for item in items]
        inner += [item for items in level if isinstance(items, dict) for item in items.values()]
        level = inner
    if level:
        raise ValueError(f"it is nested more than {DEPTH - 1} deep")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a name is there twice")
    return values


def _short(text: str) -> int:
    if len(text) > 20:
        raise ValueError("a number has more than 20 digits")
    return int(text)


def _finite(text: str) -> float:
    if len(text) > 40 or not math.isfinite(float(text)):
        raise ValueError("a number is longer or larger than any that is written")
    return float(text)


def _no_nan(text: str) -> float:
    if text == "NaN":
        raise ValueError("a number is none")
    return float(text)
