"""Policies kept along a run: which ones, what is in them, resumed runs, full disks, and reading them back."""

import json
import shutil

import forged
import jax
import lab
import numpy as np
import pytest
from lab import go, names_in, once, stop
from test_pbt_runs import RATES, SETTINGS
from test_pbt_runs import config as pbt_config
from tiny import plain, same_bits

import purerl
from purerl import ConfigError
from purerl.cli import main
from purerl.experiment import memory
from purerl.experiment.checkpoint import newest_first
from purerl.experiment.loading import KeptPolicy, kept_policies
from purerl.experiment.loop import Loop
from purerl.experiment.policies import policies_in
from purerl.experiment.population import Population
from purerl.experiment.signals import Interrupted
from purerl.experiment.store import Store, holds_a_run
from purerl.experiment.untrusted import CheckpointError, SchemaError, read_manifest
from purerl.health import split_replay

MUTANTS = {
    "every row": (
        "schedule.py",
        "> (step - self.row_steps) // interval",
        ">= (step - self.row_steps) // interval",
        "test_policies_are_kept_by_their_rows",
    ),
    "not at the end": (
        "experiment/loop.py",
        " or self._is_over(snapshot)\n\n",
        "\n\n",
        "test_policies_are_kept_by_their_rows",
    ),
    "the warm-up counts": (
        "experiment/loop.py",
        "learned = snapshot.step > schedule.warmup_steps",
        "learned = snapshot.step > 0",
        "test_an_early_end_is_kept",
    ),
    "the untrained policy is missed": (
        "experiment/loop.py",
        "if snapshot.step == 0:\n",
        "if snapshot.step < 0:\n",
        "test_policies_are_kept_by_their_rows",
    ),
    "replay buffers are kept": (
        "experiment/policies.py",
        "algo=split_replay(state.algo)[0], env=(), carry=()",
        "env=(), carry=()",
        "test_what_is_kept_is_the_policy_alone",
    ),
    "old ones are removed": (
        "experiment/store.py",
        "self._placed(snapshot), keep=None)",
        "self._placed(snapshot))",
        "test_policies_are_kept_by_their_rows",
    ),
    "later ones stay": (
        "experiment/policies.py",
        "if kept.epoch > rows:",
        "if kept.epoch > rows + 9:",
        "test_later_policies_are_gone_once_a_run_goes_on",
    ),
    "the first stays as it is": (
        "experiment/checkpoint.py",
        "        discard(path)\n        os.rename(temporary, path)",
        "        os.rename(temporary, path)",
        "test_a_policy_of_the_same_epoch_is_replaced",
    ),
    "what comes after the round": (
        "experiment/loop.py",
        "self._keep(measured)",
        "self._keep(finished)",
        "test_the_policy_is_the_one_that_was_evaluated",
    ),
    "the newest in its place": (
        "experiment/loading.py",
        "found = load_one(kept, ",
        "found = load_newest(path, ",
        "test_what_is_kept_is_the_policy_alone",
    ),
    "links are followed": (
        "experiment/untrusted.py",
        'path / "policies", ',
        "",
        "test_links_are_not_followed",
    ),
    "evaluation ignores it": (
        "workbench/evaluation.py",
        "itr=itr, policy_only",
        "policy_only",
        "test_commands_take_an_epoch[eval]",
    ),
    "films ignore it": (
        "workbench/episodes.py",
        "itr=itr, policy_only",
        "policy_only",
        "test_commands_take_an_epoch[play]",
    ),
    "exports ignore it": (
        "workbench/export.py",
        "itr=itr, policy_only",
        "policy_only",
        "test_commands_take_an_epoch[export]",
    ),
    "room is not counted": (
        "experiment/memory.py",
        "needed += most * size",
        "needed += size",
        "test_the_disk_note_counts_them",
    ),
}
CASE, INTERVAL = "sac-1", 200
PLACES = [(0, 0), (2, 220), (4, 420), (5, 520)]
"""Epochs and steps: rows end at 120, the warm-up, 220, 320, 420 and 520."""


@pytest.fixture(scope="module")
def kept(whole, tmp_path_factory):
    """A run that kept policies, with a copy of what was learned by every row."""
    whole(CASE)
    seen, finish_row = {}, Loop._finish_row

    def spy(loop, snapshot):
        seen[snapshot.step] = jax.tree.map(plain, split_replay(snapshot.state.algo)[0])
        return finish_row(loop, snapshot)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "_finish_row", spy)
        run = go(CASE, tmp_path_factory.mktemp("runs") / "kept", snapshot_interval=INTERVAL)
    return run, seen


@pytest.fixture
def copied(kept, tmp_path):
    return shutil.copytree(kept[0].logdir, tmp_path / "run")


def assert_same_policies(path, expected):
    """Compare the policies of two runs, to the bit, and their records but for the time."""
    found, wanted = (
        {place: read_manifest(one) for place, one in policies_in(run).items()} for run in (path, expected)
    )
    assert found.keys() == wanted.keys()
    for place, manifest in wanted.items():
        assert found[place].arrays == manifest.arrays
        assert {**found[place].record, "elapsed": 0} == {**manifest.record, "elapsed": 0}


def test_policies_are_kept_by_their_rows(kept, whole):
    """Those that passed a multiple of the interval, the untrained one and the last; none of the warm-up."""
    run, _ = kept
    assert kept_policies(run.logdir) == [KeptPolicy(*place) for place in PLACES]
    assert kept_policies(whole(CASE).logdir) == []
    assert "policies" not in names_in(whole(CASE).logdir)
    lab.assert_same(
        go(CASE, run.logdir, resume=True, snapshot_interval=INTERVAL), run
    )  # one that is done stays as it is
    assert kept_policies(run.logdir) == [KeptPolicy(*place) for place in PLACES]


def test_what_is_kept_is_the_policy_alone(kept):
    """As it was at the end of its row: without replay buffer, environments and the newest weights."""
    run, seen = kept
    for epoch, step in PLACES[1:]:
        cfg, state = purerl.load(run.logdir, itr=epoch)
        assert same_bits(state.algo, jax.tree.map(jax.numpy.asarray, seen[step]))
        assert (state.env, state.carry) == ((), ()) and cfg.snapshot_interval == INTERVAL
    untrained, best = purerl.load(run.logdir, itr=0)[1], purerl.load(run.logdir, best=True)[1]
    assert jax.tree.structure(untrained) == jax.tree.structure(best)
    assert not same_bits(untrained.algo, best.algo)
    for path in newest_first(run.logdir / "policies"):
        assert not [name for name in read_manifest(path).arrays if "replay" in name or ".env" in name]
    policy = purerl.make_policy(*purerl.load(run.logdir, itr=2), member=0)
    assert np.isfinite(policy.act(policy.init(1), np.zeros((1, 3), np.float32), jax.random.key(0))[0]).all()


def test_an_early_end_is_kept(tmp_path):
    """Although its row passed no multiple of the interval; the warm-up's did, and is the untrained policy."""
    go(CASE, tmp_path, snapshot_interval=120, stop_at_return=-1e5)
    assert kept_policies(tmp_path) == [(0, 0), (2, 220)]


@pytest.mark.parametrize(("phase", "step"), [("training", 30), ("evaluation", 420), ("saving", 450)])
def test_a_resumed_run_has_the_same_policies(phase, step, kept, tmp_path):
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
        once(patch, phase, step, stop)
        go(CASE, tmp_path, snapshot_interval=INTERVAL)
    run = go(CASE, tmp_path, resume=True, snapshot_interval=INTERVAL)
    lab.assert_same(run, kept[0])
    assert_same_policies(tmp_path, kept[0].logdir)


def killed(path, step):
    """Begin a run that ends at once at `step`, without a save."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        once(patch, "training", step, lambda: (stop(), stop()))
        go(CASE, path, snapshot_interval=INTERVAL)


def test_later_policies_are_gone_once_a_run_goes_on(kept, tmp_path):
    """They are repeated, as the rows of the logs are; a damaged one is in nothing's way."""
    path = tmp_path / "run"
    killed(path, 430)
    assert [place.epoch for place in kept_policies(path)] == [0, 2, 4] and lab.step_of(path) < 420
    later = newest_first(path / "policies")[0]
    (later / "arrays.bin").write_bytes(b"")
    shutil.copytree(later, path / "policies" / f".tmp-{later.name}-1")
    shutil.copytree(path, tmp_path / "other")
    lab.assert_same(go(CASE, path, resume=True, snapshot_interval=INTERVAL), kept[0])
    assert_same_policies(path, kept[0].logdir)
    assert len(names_in(path / "policies")) == len(PLACES)
    go(CASE, tmp_path / "other", resume=True, snapshot_interval=0, allow_changes=True)
    assert [place.epoch for place in kept_policies(tmp_path / "other")] == [0, 2]


def test_a_policy_of_the_same_epoch_is_replaced(kept, tmp_path):
    """A run that was stopped before its first step keeps the untrained policy again."""
    compile_all = Population.compile
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(Population, "compile", lambda *args: (compile_all(*args), stop()))
        go(CASE, tmp_path, snapshot_interval=INTERVAL)
    (first,) = newest_first(tmp_path / "policies")
    (first / "arrays.bin").write_bytes(b"")
    go(CASE, tmp_path, resume=True, snapshot_interval=INTERVAL)
    assert_same_policies(tmp_path, kept[0].logdir)
    assert purerl.load(tmp_path, itr=0) and len(names_in(tmp_path / "policies")) == len(PLACES)


def test_a_policy_that_cannot_be_written_ends_nothing(kept, tmp_path, capsys):
    """It is reported; the training and its checkpoints go on."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "policies").write_text("in the way")
    run = go(CASE, tmp_path / "run", progress=True, snapshot_interval=INTERVAL)
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("is not kept") == len(PLACES) and "the policy of epoch 2 is not kept" in said
    lab.assert_same(run, kept[0])
    assert kept_policies(run.logdir) == []


def test_the_policy_is_the_one_that_was_evaluated(tmp_path, monkeypatch):
    """Where members go on from each other after the row, that before they do."""
    before, evolve = {}, Population.evolve

    def spy(self, snapshot, score):
        before[snapshot.rows] = jax.tree.map(plain, split_replay(snapshot.state.algo)[0])
        return evolve(self, snapshot, score)

    monkeypatch.setattr(Population, "evolve", spy)
    cfg, sweep = pbt_config("a2c", snapshot_interval=32), {"learning_rate": RATES}
    run = purerl.run(cfg, 1, tmp_path / "run", sweep=sweep, pbt=SETTINGS, progress=False)
    assert np.isfinite(run.metrics["pbt/parent"]).any() and len(before) > 3
    for epoch, algo in before.items():
        found = purerl.load(run.logdir, itr=epoch)[1].algo
        assert same_bits(found, jax.tree.map(jax.numpy.asarray, algo))


# Reading


def test_an_epoch_that_is_not_kept_is_named_with_those_that_are(kept, whole):
    path = kept[0].logdir
    every = r"0 \(step 0\), 2 \(step 220\), 4 \(step 420\), 5 \(step 520\)\. The nearest is"
    for epoch, nearest in ((1, "0"), (3, "2"), (99, "5")):
        with pytest.raises(ConfigError, match=f"itr = {epoch}: expected an epoch .*: {every} {nearest}"):
            purerl.load(path, itr=epoch)
    with pytest.raises(ConfigError, match=r"keeps no policy by its epoch\. Train with snapshot_interval"):
        purerl.load(whole(CASE).logdir, itr=0)
    with pytest.raises(ConfigError, match="itr = 2: expected no value beside best"):
        purerl.load(path, itr=2, best=True)
    for value in (-1, True, 2.0, "2"):
        with pytest.raises(ConfigError, match="a whole number, at least 0"):
            purerl.load(path, itr=value)


@pytest.mark.parametrize("name", ["a changed byte", "a truncated file", "a missing manifest", "a link"])
def test_a_damaged_policy_is_an_error(name, copied, monkeypatch):
    """Another epoch's would be another policy."""
    monkeypatch.setattr(forged, "newest", lambda run: max((run / "policies").glob("step-*")))
    spoil, reason = forged.DAMAGED[name]
    spoil(copied)
    with pytest.raises(CheckpointError, match=reason):
        purerl.load(copied, itr=5)
    assert purerl.load(copied, itr=4) and purerl.load(copied)


def test_a_policy_of_another_run_is_an_error(copied):
    path = newest_first(copied / "policies")[0]
    change = lambda old: old | {"record": old["record"] | {"seeds": 3}}
    forged.reseal(path / "manifest.json", change)
    with pytest.raises(SchemaError, match="another run"):
        purerl.load(copied, itr=5)
    path.rename(path.with_name("step-000000000521-0006"))
    with pytest.raises(CheckpointError, match="is of step 520 with 5 rows"):
        purerl.load(copied, itr=6)


def test_links_are_not_followed(copied, tmp_path):
    """Neither by a reader nor by a run."""
    shutil.move(copied / "policies", tmp_path / "moved")
    (copied / "policies").symlink_to(tmp_path / "moved")
    for read in (kept_policies, lambda path: purerl.load(path, itr=2)):
        with pytest.raises(CheckpointError, match="policies is a link"):
            read(copied)
    with pytest.raises(OSError, match="a link"):
        Store(copied)


def test_policies_alone_are_a_run(copied, tmp_path):
    """Nothing begins over them."""
    (tmp_path / "left").mkdir()
    shutil.move(copied / "policies", tmp_path / "left" / "policies")
    assert holds_a_run(tmp_path / "left")


def test_the_disk_note_counts_them(kept, monkeypatch):
    population = lab.population_of(CASE, snapshot_interval=INTERVAL)
    facts = population.shapes, population.cfg, population.schedule
    path, largest = kept[0].logdir, memory.tree_bytes(population.shapes.arrays)
    size = sum(file.stat().st_size for file in path.glob("policies/*-0005/arrays.bin"))
    for room, fits in ((3 * largest + 4 * size, True), (3 * largest + 4 * size - 1, False)):
        usage = type("Usage", (), {"free": room})
        monkeypatch.setattr(memory.shutil, "disk_usage", lambda _, usage=usage: usage)
        note = memory.disk_note(path, *facts)
        assert f"; at most 4 policies of {memory.format_bytes(size)}" in note
        assert ("may not fit" in note) != fits


@pytest.mark.parametrize("verb", ["eval", "play", "export"])
def test_commands_take_an_epoch(verb, kept, tmp_path, capsys):
    """Each plays or writes the policy of that epoch."""
    options = {
        "eval": ["--episodes", "2", "--compilation-cache", "none"],
        "play": ["--max-steps", "20", "--width", "16", "--height", "16", "--compilation-cache", "none"],
        "export": ["--to", "numpy"],
    }[verb]
    found = []
    for epoch in ("0", "5", None):
        words = [verb, str(kept[0].logdir), *options, *(["--itr", epoch] if epoch else [])]
        suffix = {"eval": "", "play": ".gif", "export": ".py"}[verb]
        out = tmp_path / f"{epoch}{suffix}"
        assert main.command([*words, *(["--out", str(out)] if suffix else [])]) == 0
        said = capsys.readouterr().out.replace(str(out), "")
        found.append(out.read_bytes() if verb == "export" else said)
    assert found[0] != found[1] == found[2]
    assert main.command([verb, str(kept[0].logdir), "--itr", "3"]) == 2
    assert "The nearest is 2." in capsys.readouterr().err


def test_a_run_of_before_has_no_interval(whole, tmp_path):
    """Its record lacks the field; it goes on, and may begin to keep policies."""
    path = shutil.copytree(whole(CASE).logdir, tmp_path / "old")
    without = lambda old: {name: value for name, value in old.items() if name != "snapshot_interval"}
    forged.reseal(path / "run.json", lambda old: old | {"config": without(old["config"])})
    assert purerl.load(path)[0].snapshot_interval == 0
    go(CASE, path, resume=True, allow_changes=True, snapshot_interval=INTERVAL)
    assert json.loads((path / "run.json").read_text())["config"]["snapshot_interval"] == INTERVAL
