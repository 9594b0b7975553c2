"""Files of a member: whole rows, fixed columns, nothing overwritten."""

import json
import math

from purerl.experiment.logs import MemberLog


def test_rows_are_on_disk_as_soon_as_they_are_written(tmp_path):
    """A killed run keeps every row it has shown: each is flushed as a whole line."""
    log = MemberLog(tmp_path / "seed0", {"algo": "sac"})
    log.write({"step": 1_000, "episode/return": -12.5, "q/loss": math.nan})
    log.write({"step": 2_000, "episode/return": math.inf, "q/loss": 0.25})
    lines = (tmp_path / "seed0" / "progress.txt").read_text().splitlines()
    assert lines == ["AverageEpRet\tTotalEnvInteracts\tLossQ", "-12.5\t1000\t", "\t2000\t0.25"]
    rows = [json.loads(line) for line in (tmp_path / "seed0" / "metrics.jsonl").read_text().splitlines()]
    assert rows[0] == {"step": 1_000, "episode/return": -12.5, "q/loss": None}
    log.close()


def test_rows_after_the_checkpoint_are_cut_off_and_repeated(tmp_path):
    """A resumed run keeps the rows its checkpoint knows, columns included, and repeats the rest."""
    log = MemberLog(tmp_path, {})
    for step in (1, 2, 3):
        log.write({"step": step, "q/loss": math.nan if step == 1 else step / 7, "custom": step})
    log.close()
    whole = (tmp_path / "progress.txt").read_text(), (tmp_path / "metrics.jsonl").read_text()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "q/l')  # the process died here
    log = MemberLog(tmp_path, {}, rows=1)
    assert log.kept == [{"step": 1, "q/loss": None, "custom": 1}]
    for step in (2, 3):
        log.write({"step": step, "q/loss": step / 7, "custom": step})
    log.close()
    assert whole == ((tmp_path / "progress.txt").read_text(), (tmp_path / "metrics.jsonl").read_text())
