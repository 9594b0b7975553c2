"""Runs from anywhere: damage is passed over, misfits are errors, and nothing in them is executed."""

import json
import os
import shutil
from pathlib import Path

import forged
import jax
import jax.numpy as jnp
import lab
import numpy as np
import pytest
from forged import newest, reseal
from lab import fail, once, stop
from tiny import same_bits, tiny

import purerl
from purerl import ConfigError
from purerl.experiment import checkpoint, store
from purerl.experiment.checkpoint import newest_first
from purerl.experiment.population import Population
from purerl.experiment.record import read_record
from purerl.experiment.signals import Interrupted
from purerl.experiment.store import Store, load_newest
from purerl.experiment.untrusted import CheckpointError, SchemaError, read_manifest

MUTANTS = {
    "any checksum of arrays": (
        "experiment/checkpoint.py",
        'if digest.hexdigest() != entry["sha256"]:',
        "if not digest.hexdigest():",
        "test_a_damaged_checkpoint_is_passed_over",
    ),
    "links are followed": (
        "files.py",
        "os.O_RDONLY | os.O_NOFOLLOW",
        "os.O_RDONLY",
        "test_a_damaged_checkpoint_is_passed_over",
    ),
    "linked checkpoints are followed": (
        "experiment/checkpoint.py",
        "if os.path.islink(directory):",
        "if not directory.name:",
        "test_linked_checkpoints_are_not_read",
    ),
    "any place": (
        "experiment/untrusted.py",
        "if not fits or not complete - 1 <= rows <= complete:",
        "if not fits and not complete - 1 <= rows <= complete:",
        "test_a_misfit_is_an_error",
    ),
}
CFG = tiny("ppo", "cartpole", total_timesteps=64, checkpoint_interval=16, hidden_sizes=())


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """The directory of a run of two members that was stopped, with checkpoints of the steps 16 and 32."""
    path = tmp_path_factory.mktemp("sound") / "run"
    with pytest.MonkeyPatch.context() as patch:
        once(patch, "logging", 32, stop)
        with pytest.raises(Interrupted):
            purerl.run(CFG, 2, path, progress=False)
    return path


@pytest.fixture(scope="module")
def population(original):
    return next(one for one in lab.KNOWN.values() if isinstance(one, Population) and one.cfg == CFG)


@pytest.fixture(scope="module")
def known(original, population):
    """The arrays of both checkpoints, by step."""
    manifests = map(read_manifest, newest_first(original / "checkpoints"))
    return {m.record["step"]: checkpoint.load(m, population.shapes.arrays) for m in manifests}


@pytest.fixture
def run(original, tmp_path):
    return Path(shutil.copytree(original, tmp_path / "run"))


@pytest.fixture
def opened(original, population, known):
    """Read the newest sound checkpoint as a resumed run does; return its step, its arrays compared."""
    record = read_record(original)

    def read(run):
        manifest, arrays = load_newest(run, record, population.schedule, population.shapes.arrays)
        step = manifest.record["step"]
        assert same_bits(arrays, known[step])
        return step

    return read


def test_a_sound_run_is_read_from_its_newest_checkpoint(run, opened, caplog):
    assert opened(run) == 32 and not caplog.messages


@pytest.mark.parametrize("name", forged.DAMAGED)
def test_a_damaged_checkpoint_is_passed_over(name, run, opened, caplog):
    """It is named with the reason, in one printable line, and the checkpoint before it is taken."""
    spoil, reason = forged.DAMAGED[name]
    path = newest(run)
    spoil(run)
    assert opened(run) == 16
    (warning,) = caplog.messages
    assert str(path) in warning and reason in warning
    assert warning.isprintable() and len(warning) <= 1000


@pytest.mark.parametrize("name", forged.MISFITS)
def test_a_misfit_is_an_error(name, run, opened):
    """A sound checkpoint of something else is no damage."""
    spoil, reason = forged.MISFITS[name]
    spoil(run)
    with pytest.raises(SchemaError) as caught:
        opened(run)
    message = str(caught.value)
    assert reason in message and message.isprintable() and len(message) <= 1000


@pytest.mark.slow
@pytest.mark.parametrize("name", ["arrays.bin", "manifest.json"])
def test_no_changed_byte_is_another_value(name, run, opened, caplog):
    """200 bytes and 50 lengths: the checkpoint before is taken, or all values are as they were."""
    path, numbers = newest(run) / name, np.random.default_rng(0)
    content = path.read_bytes()
    for offset in (0, len(content) - 1, *numbers.integers(0, len(content), 198)):
        changed = content[offset] ^ int(numbers.integers(1, 256))
        path.write_bytes(content[:offset] + bytes([changed]) + content[offset + 1 :])
        assert opened(run) == 16 or (
            name == "manifest.json" and json.loads(path.read_text()) == json.loads(content)
        )
    for length in np.linspace(0, len(content) - 2, 50, dtype=int):  # the last byte of JSON is a line end
        path.write_bytes(content[:length])
        assert opened(run) == 16
    path.write_bytes(content)
    assert opened(run) == 32


def test_without_a_sound_checkpoint_all_are_named(run, opened):
    for path in newest_first(run / "checkpoints"):
        (path / "manifest.json").write_bytes(b"{}")
    with pytest.raises(CheckpointError, match=r"step-000000000032-0002 .*step-000000000016-0001 "):
        opened(run)


def test_of_many_forged_checkpoints_few_are_opened(run, opened, monkeypatch):
    for step in range(100, 120):
        (run / "checkpoints" / f"step-{step:012d}-0009").mkdir()
    tried, read = [], read_manifest
    monkeypatch.setattr(store, "read_manifest", lambda path: tried.append(path) or read(path))
    with pytest.raises(CheckpointError, match="no checkpoint"):
        opened(run)
    assert len(tried) == 4


@pytest.mark.parametrize(("part", "mark", "value"), [("state", "diverged_at", 16), ("best", "step", -1)])
def test_a_diverged_member_may_hold_nan(part, mark, value, run, population, known):
    """And so may a best policy of no evaluation."""
    tree, record = known[32][part], read_record(run)
    ill = lambda leaf: leaf.at[1].set(jnp.nan) if leaf.dtype == jnp.float32 else leaf
    tree = tree._replace(**{"algo": jax.tree.map(ill, tree.algo), mark: jnp.array([-1, value])})
    place = record | {"step": 48, "rows": 3, "elapsed": 1.0}
    checkpoint.save(run / "checkpoints", known[32] | {part: tree}, place)
    manifest, _ = load_newest(run, record, population.schedule, population.shapes.arrays)
    assert manifest.record["step"] == 48


# The record


RECORDS = {
    "unknown algorithm": (dict(algo="os:system"), "algo"),
    "algorithm of no text": (dict(algo=[1]), "algo"),
    "unknown field": (dict(__class__="os.system"), "__class__"),
    "unknown environment": (dict(env="../../x"), "env"),
    "a module as environment": (dict(env="os:system"), "env"),
    "a layer of 10**19": (dict(hidden_sizes=[10**19]), "hidden_sizes"),
    "100,000 layers": (dict(hidden_sizes=[1] * 99_000), "hidden_sizes"),
    "escapes": (dict(env="\x1b[31m\n"), "env"),
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_forged_configuration_is_an_error(name, run, monkeypatch):
    """Before anything is traced."""
    values, field = RECORDS[name]
    monkeypatch.setattr(jax, "eval_shape", fail)
    change = lambda old: old | {"config": old["config"] | values}
    reseal(run / "run.json", change)
    with pytest.raises(ConfigError) as caught:
        purerl.load(run)
    assert caught.value.field == field and str(caught.value).isprintable() and len(str(caught.value)) < 2000


SETTINGS = [[{"../../x": 1.0}], [{"gamma": 2.0}], [{"num_envs": 2.0}], [{"gamma": "0.9"}], [], [{}] * 2**16]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: str(settings)[:20])
def test_forged_settings_are_an_error(settings, run):
    """They name directories, and their values go into programs."""
    reseal(run / "run.json", lambda old: old | {"settings": settings})
    for path in newest_first(run / "checkpoints"):
        reseal(path / "manifest.json", lambda old: old | {"record": old["record"] | {"settings": settings}})
    for read in (purerl.load, lambda path: purerl.run(CFG, 2, path, resume=True, progress=False)):
        with pytest.raises(ConfigError) as caught:
            read(run)
        assert str(caught.value).isprintable()
    assert {path.name for path in run.iterdir() if path.is_dir()} == {"seed0", "seed1", "checkpoints"}


@pytest.mark.parametrize(
    ("field", "of_old", "wrong"),
    [("first_seed", 0, (-1, 2**31, 1.0, None)), ("devices", 1, (0, 2**16, 1.0, "all"))],
)
def test_a_younger_field_is_in_range_or_as_in_old_records(field, of_old, wrong, run):
    reseal(run / "run.json", lambda old: {name: old[name] for name in old.keys() - {field}})
    assert read_record(run)[field] == of_old
    shutil.rmtree(run / "checkpoints")
    for value in wrong:
        reseal(run / "run.json", lambda old, value=value: old | {field: value})
        with pytest.raises(ConfigError, match="directory of a run"):
            read_record(run)


def test_a_damaged_record_is_taken_from_a_checkpoint(original, run, caplog):
    for content in (b"", b"[1]", b"{}", forged.DEEP):
        caplog.clear()
        (run / "run.json").write_bytes(content)
        assert read_record(run) == read_record(original)
        assert str(run / "run.json") in caplog.text and str(newest(run)) in caplog.text
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(ConfigError, match=r"resume = .*expected the directory of a run"):
        read_record(run)


@pytest.mark.parametrize("path", ["", ".", "no/such", "file", "a\0b", "a" * 5000], ids=ascii)
def test_what_is_no_directory_of_a_run_is_an_error(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises((ConfigError, CheckpointError)) as caught:
        purerl.load(path)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 2000
    with pytest.raises(ConfigError, match="directory"):
        purerl.run(CFG, logdir=path or None, resume=True)
    assert [entry.name for entry in Path().iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("env", "name", "value"),
    [("ant", "xml_file", "/dev/zero"), ("gym:FrozenLake-v1", "map_name", "4x4")],
)
def test_texts_of_a_record_reach_no_library(env, name, value, run):
    """It may open what a text names: an environment is given then, and must be that of the checkpoint."""
    named = lambda old: old | {"config": old["config"] | {"env": env, "env_kwargs": {name: value}}}
    reseal(run / "run.json", named)
    with pytest.raises(ConfigError, match=rf"{name} = '{value}': .*pass it as env"):
        purerl.load(run)
    given = purerl.make_env("cartpole", **CFG.env_kwargs)
    with pytest.raises(SchemaError, match="another run"):
        purerl.load(run, env=given)
    reseal(newest(run) / "manifest.json", lambda old: old | {"record": named(old["record"])})
    assert purerl.load(run, env=given)[0].env == env


# Files


@pytest.mark.parametrize("text", ["\x1b[31m\n", "\x9b", "a\0b", "\ud800", "‮", "x" * 10**6])
def test_errors_are_one_line_for_a_terminal(text):
    message = str(SchemaError(f"{text} is wrong"))
    assert message.isprintable() and message.encode() and len(message) <= 1000


def test_linked_checkpoints_are_not_read(run, tmp_path):
    """Nor in the place of a damaged run.json; the run's own directory may be a link."""
    shutil.move(run / "checkpoints", tmp_path / "moved")
    (run / "checkpoints").symlink_to(tmp_path / "moved")
    with pytest.raises(CheckpointError, match="checkpoints is a link"):
        purerl.load(run)
    (run / "run.json").write_text("")
    with pytest.raises(ConfigError, match="the directory of a run"):
        purerl.load(run)
    (run / "checkpoints").unlink()
    shutil.move(tmp_path / "moved", run / "checkpoints")
    (tmp_path / "link").symlink_to(run)
    assert purerl.load(tmp_path / "link")[0] == CFG


def test_a_store_writes_through_no_link(run, tmp_path):
    """A lock, a member or the checkpoints may lead out of the directory."""
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    for name in ("lock", "seed0", "checkpoints"):
        shutil.move(run / name, run / "moved")
        (run / name).symlink_to(victim)
        for _ in range(2):  # the first failure does not keep the lock
            with pytest.raises(OSError, match="link"):
                Store(run)
        (run / name).unlink()
        shutil.move(run / "moved", run / name)
    for name in ("run.json", "seed0/config.json", "seed0/metrics.jsonl"):
        (run / name).with_name(f".{Path(name).name}.tmp-{os.getpid()}").symlink_to(victim)
    Store(run).close()
    assert victim.read_text() == "untouched" and not list(run.rglob(".*"))
