"""Atomic writes: a file is whole under its name, or not there at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def sync_directory(path: Path) -> None:
    """Make the names in `path` as lasting as the files behind them."""
    number = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write `content`, text as UTF-8, to `path`, whole or not at all."""
    content = content.encode("utf-8") if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    temporary.unlink(missing_ok=True)  # of a killed process that had the same number
    try:
        with temporary.open("xb") as file:  # so it follows no link
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write `values` to `path` as JSON, whole or not at all."""
    write_whole(path, json.dumps(values, indent=2) + "\n")
