"""The tour of docs/tour.md, in its short form."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_tour_can_be_taken(tmp_path):
    """Every command works, and the page has what they print and their pictures."""
    words = [sys.executable, str(ROOT / "scripts" / "tour.py"), "--short", "--out", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=550, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "tour.md").read_text("utf-8")
    for picture in re.findall(r"\]\((pictures/[^)]*)\)", page):
        assert (tmp_path / picture).stat().st_size > 1000
    assert re.search(r"resumed at step [1-9]", page) and "in Gymnasium: " in page and " us a call" in page
    commands = re.findall(r"^purerl (\w+)", page, re.MULTILINE)
    assert {"train", "list", "plot", "sweep", "resume", "eval", "play", "export", "report"} <= set(commands)


def test_the_page_is_that_of_the_script():
    """Its commands are those of the script, in order."""
    page = (ROOT / "docs" / "tour.md").read_text("utf-8")
    source = (ROOT / "scripts" / "tour.py").read_text("utf-8")
    commands = re.findall(r"^```bash\n(.*)\n```", page, re.MULTILINE)
    verbs = [line.split()[1] for line in commands if line.startswith("purerl")]
    assert verbs[:5] == ["train"] * 4 + ["list"] and verbs[-1] == "report" and len(commands) == 13
    assert "Made by `python scripts/tour.py`" in page and "Made by `python scripts/tour.py`" in source
