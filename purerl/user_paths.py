"""Directories of the user: paths as they are written, and where caches are kept."""

from __future__ import annotations

import os
from pathlib import Path

from purerl.config import ConfigError


def user_cache() -> Path | None:
    """Return XDG_CACHE_HOME, or else `.cache` in the home directory; None where there is neither."""
    return _first_of("XDG_CACHE_HOME", "~/.cache")


def user_config() -> Path | None:
    """Return XDG_CONFIG_HOME, or else `.config` in the home directory; None where there is neither."""
    return _first_of("XDG_CONFIG_HOME", "~/.config")


def _first_of(variable: str, default: str) -> Path | None:
    """Return the directory in an environment variable, or else `default`.

    A leading `~` is the home directory, which no shell expands in a file of variables. A relative path does
    not count, as the XDG Base Directory Specification says.
    """
    for path in (os.environ.get(variable, ""), default):
        if os.path.isabs(expanded := os.path.expanduser(path)):
            return Path(expanded)
    return None


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
