"""The directory of a run: logs behind a checkpoint, damage that is set aside, litter that is removed."""

import json
import os
import shutil

import pytest
from lab import CASES, assert_same, go, names_in, newest, step_of

from purerl import ConfigError
from purerl.config import to_dict
from purerl.experiment.checkpoint import newest_first
from purerl.experiment.store import Store, holds_a_run
from purerl.experiment.untrusted import CheckpointError

MUTANTS = {
    "damage stays in the way": (
        "experiment/store.py",
        "                _set_aside(path)\n",
        "                pass\n",
        "test_damage_is_set_aside_as_a_run_goes_on",
    ),
}


def test_damage_is_set_aside_as_a_run_goes_on(whole, finished):
    """The run repeats the steps of the damaged checkpoint and saves there again; nothing is removed."""
    path = finished("sac-1")
    name = newest(path).path.name
    for attempt in range(2):
        (path / "checkpoints" / name / "arrays.bin").write_bytes(b"")
        assert_same(go("sac-1", path, resume=True), whole("sac-1"))
        assert (path / "checkpoints" / f"damaged-{name}-{attempt}").is_dir()


def test_litter_of_killed_processes_is_removed(halfway):
    """By the next run, which holds the lock; a reader removes nothing."""
    path = halfway("sweep")
    litter = [path / ".run.json.tmp-1", path / NAME / ".config.json.tmp-123"]
    for file in litter:
        file.write_text("half a fi")
    litter.append(path / "checkpoints" / ".tmp-step-000000000300-0001-123")
    shutil.copytree(newest(path).path, litter[-1])
    before = names_in(path / "checkpoints")
    assert newest_first(path / "checkpoints") and all(entry.exists() for entry in litter)
    Store(path).close()
    assert not list(path.rglob(".*"))
    assert names_in(path / "checkpoints") == [name for name in before if not name.startswith(".")]


NAME = "learning_rate=0.0001_gamma=0.9_seed0"
"""The first member of the sweep."""
BROKEN = ["", '{"step": 1\n', "[1]\n", '{"step": "many"}\n', '{"step": 1}\n', "\xff\n"]
CHANGED = [("metrics.jsonl", text) for text in BROKEN] + [("progress.txt", "Epoch\tTime\n")]


@pytest.mark.parametrize(("name", "damage"), CHANGED)
def test_logs_that_were_changed_are_an_error(name, damage, halfway):
    """Rows that a checkpoint knows must be there; the message names the file."""
    path = halfway("sweep")
    (path / NAME / name).write_bytes(damage.encode("latin-1"))
    with pytest.raises(CheckpointError, match=name):
        go("sweep", path, resume=True)


def test_a_directory_with_a_run_is_not_begun_again(halfway, tmp_path):
    """Also where only its logs or its checkpoints are left; and nothing is touched."""
    path = halfway("sweep")
    for part in ("run.json", "checkpoints"):
        with pytest.raises(ConfigError, match="expected a directory without a run"):
            go("sweep", path)
        shutil.move(path / part, tmp_path / part)
    assert holds_a_run(path) and (path / NAME / "metrics.jsonl").stat().st_size
    assert not holds_a_run(tmp_path / "none")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_is_read_only(halfway):
    path = halfway("sweep")
    path.chmod(0o555)
    try:
        with pytest.raises(CheckpointError, match=r"run\.json could not be written: .*Permission denied"):
            go("sweep", path, resume=True)
        (path / "lock").chmod(0o444)
        with pytest.raises(ConfigError, match=r"logdir = .*Permission denied"):
            go("sweep", path, resume=True)
    finally:
        path.chmod(0o755)


def test_the_record_says_what_is_trained(halfway):
    path = halfway("sweep")
    record = json.loads((path / "run.json").read_text())
    members = {"seeds": 3, "first_seed": 0, "settings": record["settings"], "devices": 1}
    assert record.keys() == {*members, "config", "pieces", "changes", "own", "exp_name", "pbt", "sha256"}
    assert record == record | members and (len(record["settings"]), record["changes"]) == (8, [])
    assert record["settings"][1] == {"learning_rate": 1e-4, "gamma": 0.99}
    assert record["config"] == json.loads(json.dumps(to_dict(CASES["sweep"].config())))
    assert newest(path).record.keys() == record.keys() - {"sha256"} | {"step", "rows", "elapsed"}
    assert step_of(path) == 48
