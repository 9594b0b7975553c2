"""Files that come from anywhere, opened with care."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import IO


class DamagedFile(Exception):
    """A file that is not as it was written: the message names it and the fault."""


def open_regular(path: Path) -> IO[bytes]:
    """Open `path` if it is a regular file itself: no link, pipe or device. Raises DamagedFile otherwise."""
    try:
        # Opening a pipe would wait for its writer: hence O_NONBLOCK, which files ignore.
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise DamagedFile(f"{path} cannot be opened: {error}") from error
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise DamagedFile(f"{path} is not a regular file")
    return os.fdopen(number, "rb")
