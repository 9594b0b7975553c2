"""Files that come from anywhere."""

from pathlib import Path

import pytest

from purerl.files import DamagedFile, open_regular


def test_a_device_is_not_opened():
    """It may have no end."""
    with pytest.raises(DamagedFile, match="not a regular file"):
        open_regular(Path("/dev/zero"))
