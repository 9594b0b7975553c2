"""Files of a seed: whole rows, fixed columns, nothing overwritten."""

import json
import math

import pytest

from purerl.experiment.logger import SeedLog, write_json


def test_rows_are_on_disk_as_soon_as_they_are_written(tmp_path):
    """A killed run keeps every row it has shown: each is flushed as a whole line."""
    log = SeedLog(tmp_path / "seed0", {"algo": "sac"})
    log.write({"step": 1_000, "episode/return": -12.5, "q/loss": math.nan})
    log.write({"step": 2_000, "episode/return": math.inf, "q/loss": 0.25})
    lines = (tmp_path / "seed0" / "progress.txt").read_text().splitlines()
    assert lines == ["AverageEpRet\tTotalEnvInteracts\tLossQ", "-12.5\t1000\t", "\t2000\t0.25"]
    rows = [json.loads(line) for line in (tmp_path / "seed0" / "metrics.jsonl").read_text().splitlines()]
    assert rows[0] == {"step": 1_000, "episode/return": -12.5, "q/loss": None}
    log.close()


def test_an_existing_log_is_never_opened(tmp_path):
    """Two runs into one directory would mix their rows."""
    SeedLog(tmp_path, {}).close()
    with pytest.raises(FileExistsError):
        SeedLog(tmp_path, {})


def test_json_is_replaced_whole(tmp_path):
    """A value that cannot be written leaves the old file as it was, and no litter counts as one."""
    path = tmp_path / "config.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
