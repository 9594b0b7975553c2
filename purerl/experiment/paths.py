"""Paths as users write them."""

from __future__ import annotations

import os
from pathlib import Path

from purerl.config import ConfigError


def user_path(field: str, path: str | os.PathLike[str]) -> Path:
    """Return `path` with the home directory in the place of a leading `~` or `~user`.

    A shell does that only where a word begins with it, which `--logdir=~/x` does not. Raises ConfigError
    about `field` if `path` is no path or has no such user.
    """
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise ConfigError(field, path, "the path of a file or directory")
    try:
        return Path(path).expanduser()
    except (ValueError, RuntimeError) as error:
        raise ConfigError(field, path, f"the path of a file or directory: {error}") from error
