"""Errors on the way: full disks, errors at a row, and members that diverge."""

import errno
import functools
import itertools
import os
import resource

import jax
import jax.numpy as jnp
import lab
import numpy as np
import pytest
from lab import CASES, assert_same, go, newest, once, rows_of, step_of, stop
from tiny import lane, same_bits

import purerl
from purerl.experiment.display import Display
from purerl.experiment.logs import MemberLog
from purerl.experiment.population import Population
from purerl.experiment.signals import Interrupted
from purerl.experiment.untrusted import CheckpointError

MUTANTS = {
    "no save after an error": (
        "experiment/loop.py",
        "if not snapshot.state.diverged_at.is_deleted():",
        "if False:",
        "test_an_error_at_a_row_loses_no_row",
    ),
}
FAULTY = [pytest.param(case, marks=() if case == "sac-1" else pytest.mark.slow) for case in CASES]


@pytest.mark.parametrize("culprit", [(MemberLog, "write"), (Display, "row"), (Population, "finish_row")])
@pytest.mark.parametrize(
    ("case", "step"), [("sweep", 96), pytest.param("sac-8", 320, marks=pytest.mark.slow)]
)
def test_an_error_at_a_row_loses_no_row(case, step, culprit, whole, tmp_path, monkeypatch):
    """The state between two pieces is saved, and the error comes out as it is."""
    (owner, name), expected = culprit, whole(case)
    error, original, calls = RuntimeError("out of paper"), getattr(owner, name), itertools.count()
    per_row = len(expected.members) if owner is MemberLog else 1

    def raises(*args):
        if next(calls) == 2 * per_row + per_row // 2:
            raise error
        return original(*args)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, raises)
        with pytest.raises(RuntimeError) as caught:
            go(case, tmp_path)
    assert caught.value is error and error.__context__ is None
    place = newest(tmp_path).record
    assert (place["step"], place["rows"]) == (step, 2)
    assert_same(go(case, tmp_path, resume=True), expected)


@pytest.fixture
def full_disk(monkeypatch):
    """Return `full_disk(way)`, which lets nothing more be written and returns what undoes it."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    make_room = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, limits)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fill(way):
        if way == "limit":  # the kernel's own: no file may grow beyond this
            resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, limits[1]))
            return make_room
        original = getattr(os, way)
        monkeypatch.setattr(os, way, full)
        return lambda: monkeypatch.setattr(os, way, original)

    yield fill
    make_room()


@pytest.mark.parametrize("way", ["limit", "fsync", "rename", "mkdir"])
@pytest.mark.parametrize("case", FAULTY)
def test_a_full_disk_does_not_end_training(case, way, whole, full_disk, tmp_path, monkeypatch, capsys):
    """A checkpoint that cannot be written is reported; those before it stay, and nothing half is left."""
    expected, room, seen = whole(case), [], []
    interval = CASES[case].config().checkpoint_interval
    steps = [interval, 3 * interval]

    def look_and_make_room():
        seen.extend(lab.names_in(tmp_path / "checkpoints"))
        room[0]()

    once(monkeypatch, "training", steps[0], lambda: room.append(full_disk(way)))
    once(monkeypatch, "training", steps[1], look_and_make_room)
    run = go(case, tmp_path, progress=True)
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("no checkpoint of step") == 2
    assert len(seen) == 1 and seen[0].startswith("step-")
    assert_same(run, expected)


def test_a_full_disk_at_the_end_is_an_error(whole, full_disk, tmp_path, monkeypatch):
    """Without its last checkpoint a run has failed, and can go on later."""
    expected, room = whole("sac-1"), []
    once(monkeypatch, "training", 500, lambda: room.append(full_disk("fsync")))
    with pytest.raises(CheckpointError, match="No space left on device"):
        go("sac-1", tmp_path)
    room[0]()
    assert step_of(tmp_path) == 460
    assert_same(go("sac-1", tmp_path, resume=True), expected)


def test_logs_that_cannot_be_written_end_the_run(whole, tmp_path, monkeypatch):
    """The first error counts, not those of closing the same files; and the lock is released."""
    expected, opened = whole("sac-1"), MemberLog.__init__

    def opened_full(self, *args):
        opened(self, *args)
        os.dup2(os.open("/dev/full", os.O_WRONLY), self._progress.fileno())

    with monkeypatch.context() as patch:
        patch.setattr(MemberLog, "__init__", opened_full)
        with pytest.raises(OSError, match="No space left") as caught:
            go("sac-1", tmp_path)
    assert caught.value.__context__ is None
    assert step_of(tmp_path) == 120
    assert_same(go("sac-1", tmp_path, resume=True), expected)


# Members that diverge


def poisoned(patch, at, members, part):
    """Put NaN into the parameters, or the stored rewards, of some members before the piece from step `at`."""
    advance = Population.advance
    ill = lambda leaf: leaf.at[jnp.array(members)].set(jnp.nan)

    def poison(algo):
        if part == "params":
            learner = algo.learner._replace(params=jax.tree.map(ill, algo.learner.params))
            return algo._replace(learner=learner)
        by_path = lambda path, leaf: ill(leaf) if "reward" in jax.tree_util.keystr(path) else leaf
        return algo._replace(replay=jax.tree_util.tree_map_with_path(by_path, algo.replay))

    def wrapped(population, snapshot):
        if snapshot.step == at:
            snapshot = snapshot._replace(state=snapshot.state._replace(algo=poison(snapshot.state.algo)))
        return advance(population, snapshot)

    patch.setattr(Population, "advance", wrapped)


DIVERGE = [("sac-8", "replay", 260, 4, 2), ("td3-8", "replay", 260, 4, 2), ("ppo-8", "params", 704, 64, 1)]
DIVERGE = [pytest.param(*values, marks=pytest.mark.slow) for values in DIVERGE if values[0] in CASES]


@pytest.mark.parametrize(("case", "part", "at", "piece", "row"), [("sweep", "params", 40, 8, 1), *DIVERGE])
def test_a_member_that_diverges_is_alone(case, part, at, piece, row, whole, tmp_path, monkeypatch, capsys):
    """It is frozen, named and blank from then on; the others keep every bit; and so it is when resumed."""
    clean, ill = whole(case), 1
    size, population = len(clean.members), lab.population_of(case)
    well = np.arange(size) != ill
    poisoned(monkeypatch, at, [ill], part)
    run = go(case, tmp_path / "run", progress=True)
    said = " ".join(capsys.readouterr().err.split())
    assert run.diverged_at.tolist() == [-1 if healthy else at + piece for healthy in well]
    assert f"{population.members.names[ill]} has diverged by step {at + piece:,}" in said
    assert f"1 of {size} members diverged: {ill}" in said
    for name, values in clean.metrics.items():
        np.testing.assert_array_equal(run.metrics[name][well], values[well], err_msg=name)
        np.testing.assert_array_equal(run.metrics[name][ill, :row], values[ill, :row], err_msg=name)
    for name in run.metrics.keys() - {"seed/diverged", "episode/count", "episode/diverged"}:
        assert np.isnan(run.metrics[name][ill, row + 1 :]).all(), name
    assert run.metrics["seed/diverged"][ill].tolist() == [i >= row for i in range(len(run.steps))]
    last = rows_of(run.logdir)[f"{population.members.names[ill]}/progress.txt"][-1]
    assert last["AverageEpRet"] == last["AverageTestEpRet"] == last["LossPi"] == ""
    assert all(same_bits(lane(run.state, i), lane(clean.state, i)) for i in np.flatnonzero(well))
    if part == "replay":  # its parameters were sound, and it falls back to them
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(lane(run.state.algo.learner, ill)))

    once(monkeypatch, "training", at + piece, stop)
    with pytest.raises(Interrupted):
        go(case, tmp_path / "stopped")
    then, last = (lane(purerl.load(path)[1].algo.learner, ill) for path in (tmp_path / "stopped", run.logdir))
    assert same_bits(then, last), "it has learned since"
    assert_same(go(case, tmp_path / "stopped", resume=True), run)


def test_a_run_without_healthy_members_ends_with_its_row(tmp_path, monkeypatch, capsys):
    poisoned(monkeypatch, 48, list(range(24)), "params")
    poisoned(monkeypatch, 40, [0, 5], "params")
    run = go("sweep", tmp_path, progress=True)
    assert run.steps.tolist() == [32, 64] and step_of(tmp_path) == 64
    assert run.diverged_at.tolist() == [48 if member in (0, 5) else 56 for member in range(24)]
    assert "24 of 24 members diverged" in " ".join(capsys.readouterr().err.split())
    assert_same(go("sweep", tmp_path, resume=True), run)
