"""The directory of the user's caches."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache() -> Path | None:
    """Return XDG_CACHE_HOME, or else `.cache` in the home directory; None where there is neither.

    A leading `~` is the home directory, which no shell expands in a file of variables. A relative path does
    not count, as the XDG Base Directory Specification says.
    """
    for path in (os.environ.get("XDG_CACHE_HOME", ""), "~/.cache"):
        if os.path.isabs(expanded := os.path.expanduser(path)):
            return Path(expanded)
    return None
