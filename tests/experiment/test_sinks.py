"""Sinks beside the files: TensorBoard, Weights & Biases, callables; and the name of an experiment."""

import json
import struct
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from tiny import tiny

import purerl
from purerl.config import ConfigError
from purerl.experiment import record

MUTANTS = {
    "a failing sink ends the run": (
        "experiment/sinks.py",
        "            except Exception as error:  # of the user's code, or a service that is away",
        "            except KeyError as error:",
        "test_a_sink_that_fails_ends_nothing",
    ),
    "a failing sink goes on": (
        "experiment/sinks.py",
        "                self._sinks.remove(sink)\n",
        "",
        "test_a_sink_that_fails_ends_nothing",
    ),
    "what was opened stays open": (
        "experiment/sinks.py",
        "                self.close()\n                what",
        "                what",
        "test_a_sink_that_cannot_be_opened_is_refused",
    ),
    "sinks stay open": (
        "experiment/runner.py",
        "        stack.callback(outlets.close)\n",
        "",
        "test_a_callable_gets_every_row",
    ),
    "the first member's metrics": (
        "experiment/sinks.py",
        "float(v[i])",
        "float(v[0])",
        "test_tensorboard_has_a_series_for_every_member",
    ),
    "a name is forgotten on resume": (
        "experiment/store.py",
        'self.record["exp_name"]',
        'f"{cfg.algo}-{population.env_name}"',
        "test_the_name_of_an_experiment_stays",
    ),
    "the row of the checkpoint is dropped": (
        "experiment/sinks.py",
        "step + 1 if step else None",
        "step or None",
        "test_tensorboard_goes_on_after_a_resume",
    ),
}


def rows_of(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def all_events(directory):
    """Return the events in a directory, read by hand."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(directory.glob("events*")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack("<Q", data[at : at + 8])
            found.append(Event.FromString(data[at + 12 : at + 12 + length]))
            at += length + 16
    return found


def events(directory):
    """Return `(step, tag, value)` of the scalars in a directory of events."""
    return [
        (e.step, value.tag, value.simple_value) for e in all_events(directory) for value in e.summary.value
    ]


def sessions(directory):
    """Return `(step, status)` of the sessions that begin in a directory of events."""
    return [
        (event.step, event.session_log.status)
        for event in all_events(directory)
        if event.HasField("session_log")
    ]


def test_a_callable_gets_every_row(tmp_path):
    """Once it is on disk; and it is closed at the end."""
    seen, closed = [], []

    class Sink:
        def __call__(self, row):
            seen.append({name: values.copy() for name, values in row.items()})
            assert len(rows_of(tmp_path / "run" / "seed1")) == len(seen)

        def close(self):
            closed.append(len(seen))

    run = purerl.run(tiny("a2c"), 2, tmp_path / "run", sinks=[Sink()], progress=False)
    assert len(seen) == len(run.steps) and closed == [len(seen)]
    np.testing.assert_array_equal([row["step"][0] for row in seen], run.steps)
    wanted = run.metrics["episode/return"]
    np.testing.assert_array_equal(np.stack([row["episode/return"] for row in seen], 1), wanted)


def test_a_sink_that_fails_ends_nothing(capsys):
    """A line says so, it gets no more rows, and the others do."""
    calls = []

    def broken(row):
        calls.append("broken")
        raise OSError("away")

    run = purerl.run(tiny("a2c"), 1, sinks=[broken, lambda row: calls.append("fine")])
    assert calls.count("broken") == 1 and calls.count("fine") == len(run.steps) > 1
    assert "broken failed, and gets no more rows: OSError: away" in capsys.readouterr().err


def test_tensorboard_has_a_series_for_every_member(tmp_path):
    """In the member's own directory, the values of its log."""
    purerl.run(tiny("a2c"), 2, tmp_path / "run", sinks=["tensorboard"], progress=False)
    for name in ("seed0", "seed1"):
        rows = rows_of(tmp_path / "run" / name)
        wanted = [(row["step"], row["v/loss"]) for row in rows if row["v/loss"] is not None]
        found = [(step, value) for step, tag, value in events(tmp_path / "run" / name) if tag == "v/loss"]
        assert found == [(step, pytest.approx(value, rel=1e-6)) for step, value in wanted] and wanted


def test_tensorboard_goes_on_after_a_resume(tmp_path):
    """Steps that were logged after the checkpoint are logged again, and the earlier ones purged."""
    from tensorboardX.proto.event_pb2 import SessionLog

    cfg = tiny("a2c")
    purerl.run(cfg, 1, tmp_path / "run", sinks=["tensorboard"], stop_at_return=-1.0, progress=False)
    before = {step for step, _, _ in events(tmp_path / "run" / "seed0")}
    purerl.run(cfg, 1, tmp_path / "run", sinks=["tensorboard"], resume=True, progress=False)
    steps = [step for step, tag, _ in events(tmp_path / "run" / "seed0") if tag == "v/loss"]
    assert len(steps) == len(set(steps)) and set(steps) >= before - {0}
    starts = [step for step, status in sessions(tmp_path / "run" / "seed0") if status == SessionLog.START]
    assert starts == [max(before) + 1]  # a viewer drops what is logged again, and no earlier row


def test_wandb_has_a_run_for_every_member(tmp_path, monkeypatch):
    """All in one group, each with its own configuration; a resumed run goes on with the same ones."""
    made = []

    def init(**options):
        logged = []
        made.append((options, logged))
        finish = lambda: logged.append("finished")
        return SimpleNamespace(log=lambda values, step: logged.append((step, values)), finish=finish)

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    sweep = {"learning_rate": [1e-3, 1e-2]}
    for resume in (False, True):
        options = dict(exp_name="mine", sinks=["wandb:project"], resume=resume, progress=False)
        purerl.run(tiny("a2c"), 1, tmp_path / "run", sweep=None if resume else sweep, **options)
    first, again = made[:2], made[2:]
    assert [o["config"]["learning_rate"] for o, _ in first] == [1e-3, 1e-2]
    for options, logged in first:
        assert (options["project"], options["group"]) == ("project", "run")
        assert options["name"].startswith("mine-learning_rate=") and logged[-1] == "finished"
        assert all(np.isfinite(value) for _, row in logged[:-1] for value in row.values())
    purerl.run(tiny("a2c"), 1, tmp_path / "other" / "run", sinks=["wandb:project"], progress=False)
    assert made.pop()[0]["id"] not in [o["id"] for o, _ in first]  # a directory of the same name
    again = made[2:]
    assert [o["id"] for o, _ in first] == [o["id"] for o, _ in again] and first[0][0]["id"] != first[1][0][
        "id"
    ]
    assert [logged for _, logged in again] == [["finished"]] * 2


def test_a_sink_that_cannot_be_opened_is_refused(tmp_path, monkeypatch):
    """Before the first step, and those that were opened before it are closed."""
    closed = []

    def init(**options):
        raise PermissionError("no key")

    class Sink:
        def __call__(self, row):
            raise AssertionError("called")

        def close(self):
            closed.append(True)

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    with pytest.raises(ConfigError, match=r"sinks = 'wandb:p': expected a sink that can be opened, .*no key"):
        purerl.run(tiny("a2c"), 1, tmp_path / "run", sinks=[Sink(), "wandb:p"], progress=False)
    assert closed == [True]


def test_the_name_of_an_experiment_stays(tmp_path):
    """In config.json of every member, after a resume too; by default that of algorithm and task."""
    names = lambda: [
        json.loads(p.read_text())["exp_name"] for p in sorted(tmp_path.glob("*/seed*/config.json"))
    ]
    purerl.run(tiny("a2c", total_timesteps=24), 2, tmp_path / "one", exp_name="mine", progress=False)
    assert names() == ["mine", "mine"]
    purerl.run(tiny("a2c", total_timesteps=24), 2, tmp_path / "one", resume=True, progress=False)
    with pytest.raises(ConfigError, match="exp_name = 'yours': expected no value"):
        purerl.run(tiny("a2c", total_timesteps=24), 2, tmp_path / "one", exp_name="yours", resume=True)
    purerl.run(tiny("a2c", total_timesteps=24), 1, tmp_path / "two", progress=False)
    assert names() == ["mine", "mine", "a2c-cartpole"]
    assert record.read_record(tmp_path / "one")["exp_name"] == "mine"


@pytest.mark.parametrize(
    ("sinks", "part"),
    [
        ("tensorboard", "Write a list of one"),
        (["tensorbord"], "sinks = 'tensorbord': expected a function of a row"),
        ([3], "sinks = 3"),
        (["tensorboard"], "a run with a logdir"),
    ],
)
def test_what_is_no_sink_is_refused(sinks, part):
    with pytest.raises(ConfigError, match=part):
        purerl.run(tiny("a2c"), sinks=sinks)


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_missing_package_is_named(name, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, {"tensorboard": "tensorboardX", "wandb": "wandb"}[name], None)
    with pytest.raises(ConfigError, match=rf'Try pip install "purerl\[{name}\]"'):
        purerl.run(tiny("a2c"), 1, tmp_path / "run", sinks=[name])
    assert not list(tmp_path.iterdir())
