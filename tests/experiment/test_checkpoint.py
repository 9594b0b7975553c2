"""Checkpoints: whole or not there, exact or an error, and nothing but data, whoever wrote them."""

import errno
import hashlib
import json
import logging
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import forged
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purerl
from purerl.config import ConfigError
from purerl.experiment import checkpoint, directory, files
from purerl.experiment.checkpoint import CheckpointError, SchemaError, newest_first, read_manifest, save
from purerl.experiment.directory import RunDirectory, load_newest, read_record
from purerl.experiment.program import Pieces, Program
from purerl.health import split_replay
from purerl.train import make_driver

HERE = Path(__file__).parent
PLACES = [(16, 1), (32, 2)]
"""Step and rows of the two checkpoints of a sound run."""
NAMES = ("arrays.bin", "manifest.json")


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Nobody cuts the power here, so nothing waits for the disk."""
    monkeypatch.setattr(os, "fsync", lambda number: None)


@pytest.fixture(scope="module")
def parts():
    return forged.sound(**forged.PPO)


@pytest.fixture(scope="module")
def original(parts, tmp_path_factory):
    return parts.write(tmp_path_factory.mktemp("sound") / "run", PLACES)


@pytest.fixture(scope="module")
def saved(parts):
    """What each of the two checkpoints holds, as bytes."""
    return {step: as_bytes(parts.snapshot(step, rows).arrays) for step, rows in PLACES}


@pytest.fixture
def run(original, tmp_path):
    return shutil.copytree(original, tmp_path / "run")


def as_bytes(tree):
    """Every array of `tree`, keys too, by its name."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): checkpoint._bytes_of(leaf).tobytes() for path, leaf in leaves}


def newest(run):
    return run / "checkpoints" / "step-000000000032"


def opened(parts, run, part=None):
    """The newest sound checkpoint: of all arrays, as a resumed run reads it, or of `part`, as `load` does."""
    arrays = parts.program.shapes.arrays
    like = {part: arrays[part]} if part else arrays
    found = load_newest(run, parts.record, parts.program.schedule, like, partly=part is not None)
    assert found is not None
    return found


def check(parts, saved, run, caplog):
    """The step of the newest sound checkpoint; its arrays must be those that were saved, to the bit."""
    caplog.clear()
    manifest, arrays = opened(parts, run)
    assert as_bytes(arrays) == saved[manifest.step]
    if manifest.step != 32:
        (warning,) = caplog.messages
        assert str(newest(run)) in warning and warning.isprintable()
    return manifest.step


# What is damaged


@pytest.mark.parametrize("name", NAMES)
def test_a_flipped_byte_is_never_another_value(name, parts, saved, run, caplog):
    """200 of them: the checkpoint is named with the reason and the one before it used, or nothing differs."""
    path, numbers = newest(run) / name, np.random.default_rng(0)
    content = path.read_bytes()
    values, ends = json.loads((newest(run) / "manifest.json").read_text()), []
    for entry in values["arrays"]:
        ends.append((ends[-1] if ends else 0) + checkpoint._size_of(entry))
    for offset in (0, len(content) - 1, *numbers.integers(0, len(content), 198)):
        changed = content[offset] ^ int(numbers.integers(1, 256))
        path.write_bytes(content[:offset] + bytes([changed]) + content[offset + 1 :])
        step = check(parts, saved, run, caplog)
        if name == "arrays.bin":
            culprit = values["arrays"][np.searchsorted(ends, offset, side="right")]["name"]
            assert step == 16 and f"the checksum of {culprit} does not fit" in caplog.text
        elif step == 32:
            assert json.loads(path.read_text()) == values, "only the space between two values may change"
        else:
            assert "not JSON" in caplog.text or "its checksum does not fit" in caplog.text


@pytest.mark.parametrize("name", NAMES)
def test_a_truncated_file_is_never_used(name, parts, saved, run, caplog):
    """At 50 places, the start among them; also a byte too many, and no file at all."""
    path = newest(run) / name
    content = path.read_bytes()
    for length in np.linspace(0, len(content) - 2, 50, dtype=int):  # the last byte of JSON is a line end
        path.write_bytes(content[:length])
        assert check(parts, saved, run, caplog) == 16
    path.write_bytes(content + b"\0")
    assert check(parts, saved, run, caplog) == 16
    path.unlink()
    assert check(parts, saved, run, caplog) == 16
    assert "No such file" in caplog.text


def test_run_json_can_be_read_from_a_checkpoint(parts, run, caplog):
    """200 flipped bytes and 50 truncations of run.json: the same record, or the one of a checkpoint."""
    path, numbers = run / "run.json", np.random.default_rng(1)
    content = path.read_bytes()
    for offset in (0, len(content) - 1, *numbers.integers(0, len(content), 198)):
        changed = content[offset] ^ int(numbers.integers(1, 256))
        path.write_bytes(content[:offset] + bytes([changed]) + content[offset + 1 :])
        assert read_record(run) == parts.record
    for length in np.linspace(0, len(content) - 2, 50, dtype=int):
        caplog.clear()
        path.write_bytes(content[:length])
        assert read_record(run) == parts.record
        assert str(path) in caplog.text and str(newest(run)) in caplog.text


def swap_in_the_file(run):
    path, entries = newest(run) / "arrays.bin", read_manifest(newest(run)).arrays
    sizes = [checkpoint._size_of(entry) for entry in entries]
    shapes = [(entry["shape"], entry["dtype"]) for entry in entries]
    i, j = next(
        (i, j)
        for i in range(len(entries))
        for j in range(i)
        if shapes[i] == shapes[j] and entries[i]["sha256"] != entries[j]["sha256"]
    )
    content, (a, b) = bytearray(path.read_bytes()), (sum(sizes[:i]), sum(sizes[:j]))
    size = sizes[i]
    content[a : a + size], content[b : b + size] = content[b : b + size], content[a : a + size]
    path.write_bytes(content)


def reseal_arrays(change):
    def damage(run):
        forged.reseal(newest(run) / "manifest.json", lambda m: m | {"arrays": change(m["arrays"])})

    return damage


def swap_entries(arrays):
    i, j = (next(i for i, a in enumerate(arrays) if part in a["name"]) for part in (".mu['v']", ".nu['v']"))
    arrays[i], arrays[j] = arrays[j], arrays[i]
    return arrays


FORGED = {
    "two arrays swapped in the file": swap_in_the_file,
    "two entries swapped": reseal_arrays(swap_entries),
    "a name twice": reseal_arrays(lambda arrays: [*arrays, arrays[0]]),
    "a negative size": reseal_arrays(lambda arrays: [arrays[0] | {"shape": [-1]}, *arrays[1:]]),
    "another byte order": reseal_arrays(lambda arrays: [arrays[0] | {"dtype": ">f4"}, *arrays[1:]]),
}
MISFITS = {
    "an array less": (lambda arrays: arrays[1:], "has no array"),
    "an array more": (lambda arrays: [*arrays, arrays[0] | {"name": "\x1b[31m\n"}], r"\\x1b\[31m\\n"),
    "another type": (
        lambda arrays: [arrays[0] | {"dtype": "int32"}, *arrays[1:]],
        "int32.*float32.*expected",
    ),
    "another shape": (lambda arrays: [arrays[0] | {"shape": [1]}, *arrays[1:]], "float32.*expected"),
}


@pytest.mark.parametrize("name", FORGED)
def test_what_is_not_as_it_was_written_is_passed_over(name, parts, saved, run, caplog):
    """Arrays and entries that changed places are other values under a known name."""
    FORGED[name](run)
    assert check(parts, saved, run, caplog) == 16


@pytest.mark.parametrize("name", MISFITS)
def test_what_belongs_to_something_else_is_an_error(name, parts, run):
    """A sound checkpoint of another schema is no damage: an older one would only hide it."""
    change, message = MISFITS[name]
    reseal_arrays(change)(run)
    with pytest.raises(SchemaError, match=message) as caught:
        opened(parts, run)
    assert str(newest(run)) in str(caught.value) and str(caught.value).isprintable()


@pytest.mark.parametrize("name", NAMES)
def test_nothing_sound_is_an_error(name, parts, run):
    """With all checkpoints damaged, the error names each of them."""
    for path in newest_first(run / "checkpoints"):
        (path / name).write_bytes(b"{}")
    with pytest.raises(CheckpointError, match=r"step-000000000032 .*step-000000000016 "):
        opened(parts, run)


def test_what_is_damaged_is_set_aside_as_a_run_goes_on(parts, saved, run):
    """So that the run can save at this step again, as often as it happens; nothing is removed."""
    for attempt in range(2):
        (newest(run) / "arrays.bin").write_bytes(b"")
        held = RunDirectory(run)
        snapshot = held.load(parts.record, parts.program.schedule, parts.program.shapes)
        assert snapshot is not None and (snapshot.step, snapshot.rows) == (16, 1)
        assert as_bytes(snapshot.arrays) == saved[16]
        assert (run / "checkpoints" / f"damaged-step-000000000032-{attempt}").is_dir()
        held.record = parts.record
        held.save(parts.snapshot(32, 2))
        held.close()
    assert opened(parts, run)[0].step == 32


def test_numbers_that_are_not_finite_are_damage(parts, run):
    """No healthy seed has them, and no best policy; a seed that has diverged may."""
    for part, places in (("state", ["diverged_at"]), ("best", ["step"])):
        for value in (np.nan, np.inf):
            snapshot = parts.snapshot(48, 3)
            tree = getattr(snapshot, part)
            broken = jax.tree.map(
                lambda leaf, value=value: leaf.at[1].set(value) if leaf.dtype == jnp.float32 else leaf,
                tree.algo,
            )
            for health in (-1, 16):  # of a seed: healthy, diverged; of a policy: none yet, one of step 16
                marks = dict.fromkeys(places, jnp.array([-1, health]))
                arrays = snapshot.arrays | {part: tree._replace(algo=broken, **marks)}
                path = save(
                    run / "checkpoints", 48, arrays, parts.record | dict(step=48, rows=3, elapsed=1.0)
                )
                assert opened(parts, run)[0].step == (48 if (health < 0) == (part == "best") else 32)
                shutil.rmtree(path)


def test_a_manifest_that_is_exchanged_meanwhile_does_not_count(parts, saved, run):
    """Names, sizes and checksums are those of the one manifest that was read."""
    manifest, like = read_manifest(newest(run)), parts.program.shapes.arrays
    shutil.copytree(run / "checkpoints" / "step-000000000016", newest(run), dirs_exist_ok=True)
    with pytest.raises(CheckpointError, match="checksum"):
        checkpoint.load(manifest, like)


# What a stranger may send


@pytest.fixture(scope="module")
def came_of():
    """What came of every hostile directory, opened by a process of its own; in memory where possible."""
    fast = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=fast) as where:
        command = [sys.executable, HERE / "forged.py", where]
        done = subprocess.run(command, env=child(), capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


def child():
    """The environment of a process that imports this very purerl."""
    path = os.pathsep.join([str(Path(purerl.__file__).parents[1]), str(HERE)])
    return os.environ | {"PYTHONPATH": path, "JAX_PLATFORMS": "cpu", "PYTHONWARNINGS": "ignore"}


@pytest.mark.parametrize("way", ["load", "resume"])
@pytest.mark.parametrize("name", forged.CASES)
def test_a_hostile_directory_is_an_error_and_nothing_else(name, way, came_of):
    """One line, at once, in little memory; nothing is run, and nothing written outside the directory."""
    found = came_of[name][way]
    if getattr(forged.CASES[name], way) == forged.ACCEPTED:
        assert found["error"] is None
    else:
        kind, message = found["error"]
        assert kind in ("CheckpointError", "SchemaError", "ConfigError")
        assert message.isprintable() and len(message) < 2000
    assert not found["sentinel"] and found["touched"] == []
    assert found["seconds"] < 2 and found["mebibytes"] < 256


def test_of_many_forged_checkpoints_few_are_opened(parts, run, monkeypatch):
    """A run keeps two; a thousand that are damaged would cost a thousand times the time of one."""
    for step in range(100, 200):
        (run / "checkpoints" / f"step-{step:012d}").mkdir()
    tried, read = [], read_manifest
    monkeypatch.setattr(checkpoint, "read_manifest", lambda path: tried.append(path) or read(path))
    with pytest.raises(CheckpointError, match="no checkpoint"):
        opened(parts, run)
    assert len(tried) == directory.CANDIDATES


JSON = {
    "a name twice": ('{"a": 2, "a": 1, "sha256": "%s"}', {"a": 1}),
    "a number beyond all": ('{"a": 1e999, "sha256": "%s"}', {"a": math.inf}),
    "a number of 400 digits": ('{"a": 0.' + "3" * 400 + ', "sha256": "%s"}', {"a": 1 / 3}),
}


@pytest.mark.parametrize("name", JSON)
def test_json_that_nobody_here_writes(name, tmp_path):
    """One value, one spelling: a right checksum does not help."""
    text, values = JSON[name]
    (tmp_path / "x.json").write_text(text % files._seal(values))
    with pytest.raises(files.DamagedFile, match="not JSON as it was written"):
        files.read_sealed(tmp_path / "x.json")


@pytest.mark.parametrize("way", [forged.as_fifo, forged.as_directory, forged.as_device, forged.as_socket])
def test_only_regular_files_are_opened(way, tmp_path):
    """A pipe would wait for its writer, and a device can be anything."""
    (tmp_path / "x").touch()
    way(tmp_path / "x")
    with pytest.raises(files.DamagedFile, match=r"no regular file|cannot be opened"):
        files.open_regular(tmp_path / "x")


def test_a_bool_is_true_or_false(tmp_path):
    """Whatever byte a file has for it."""
    path = save(tmp_path, 0, {"a": jnp.array([True, False])}, {})
    (path / "arrays.bin").write_bytes(b"\x07\0")
    digest = hashlib.sha256(b"\x07\0").hexdigest()
    forged.reseal(path / "manifest.json", lambda m: m | {"arrays": [m["arrays"][0] | {"sha256": digest}]})
    found = load(path, {"a": jnp.array([True, False])})
    assert as_bytes(found) == {"['a']": b"\1\0"}


def test_a_newer_format_is_named_with_both_versions(parts, run):
    """The message says what wrote it and what reads it here."""
    forged.reseal(newest(run) / "manifest.json", lambda m: m | {"format": 2, "versions": {"purerl": "9.9"}})
    with pytest.raises(SchemaError, match=rf"format 2.*9\.9.*purerl {purerl.__version__} reads up to 1"):
        opened(parts, run)


PATHS = {
    "nothing": "",
    "home": "~",
    "no such": "no/such",
    "a file": "file",
    "NUL": "a\0b",
    "long": "a" * 5000,
}


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_what_is_no_directory_of_a_run_is_an_error(path, tmp_path, monkeypatch):
    """Whatever is given as a path, the message is ours."""
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises((ConfigError, CheckpointError)) as caught:
        purerl.load(path)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 2000
    if path:
        with pytest.raises(ConfigError, match="resume = "):
            purerl.run(purerl.make_config("ppo"), logdir=path, resume=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_directory_that_is_read_only(parts, saved, run, caplog):
    """What it holds can be loaded, and cannot be continued or added to."""
    for path in (run, run / "checkpoints"):
        path.chmod(0o555)
    try:
        assert check(parts, saved, run, caplog) == 32
        with pytest.raises(CheckpointError, match=r"run\.json could not be written: .*Permission denied"):
            purerl.run(purerl.make_config(**forged.PPO), forged.SEEDS, run, resume=True)
        (run / "lock").chmod(0o444)
        with pytest.raises(ConfigError, match=r"logdir = .*Permission denied"):
            purerl.run(purerl.make_config(**forged.PPO), forged.SEEDS, run, resume=True)
        with pytest.raises(CheckpointError, match="Permission denied"):
            save(run / "checkpoints", 48, {}, {})
    finally:
        for path in (run, run / "checkpoints"):
            path.chmod(0o755)


def test_a_model_of_ones_own_comes_as_an_environment(parts, run, tmp_path):
    """A run's files may be a stranger's: the model that they name is not opened, one that is given is."""
    named = {"config": parts.record["config"] | {"env": "ant", "env_kwargs": {"xml_file": "/dev/zero"}}}
    forged.write_sealed(run / "run.json", parts.record | named)
    with pytest.raises(ConfigError, match=r"xml_file = '/dev/zero' .*pass it as env"):
        purerl.load(run)
    with pytest.raises(SchemaError, match="another run"):
        purerl.load(run, env=purerl.make_env("cartpole"))


# Nonsense that is well formed


class Nonsense(NamedTuple):
    where: str
    value: float


NONSENSE = {
    "negative second moments": Nonsense(".nu", -1.0),
    "an update of number -1": Nonsense(".count", -1),
    "a place beyond the ring": Nonsense(".replay.head", 10**6),
    "a place before the ring": Nonsense(".replay.head", -5),
    "more rows than the ring has": Nonsense(".replay.size", 2**31 - 1),
    "fewer rows than none": Nonsense(".replay.size", -1),
    "NaN in the memory": Nonsense(".replay.data", math.nan),
    "infinity in the environments": Nonsense(".env", math.inf),
    "NaN in the environments": Nonsense(".env", math.nan),
    "episodes that began in the future": Nonsense("time", -(2**31)),
    "episodes without an end": Nonsense("episode_length", 2**31 - 1),
    "parameters of 1e38": Nonsense(".params", 1e38),
    "a temperature of e**88": Nonsense("log_alpha", 88.0),
    "a step of divergence": Nonsense("diverged_at", 10**9),
    "a tally of nonsense": Nonsense("tallies", math.nan),
}


@pytest.fixture(scope="module")
def warm():
    """A compiled program, and a snapshot of two seeds that have begun to learn."""
    cfg = purerl.make_config(**forged.SAC | dict(eval_interval=0, learning_starts=0, hidden_sizes=()))
    program = Program(make_driver(cfg), cfg, 2, Pieces(1, 5))
    program.compile()
    return program, program.advance(program.start())


def steps_from(warm, change):
    """Arrays after two more pieces and the row between them, from that snapshot with `change` applied."""
    program, snapshot = warm
    arrays = jax.tree_util.tree_map_with_path(change, snapshot.arrays)
    snapshot = snapshot._replace(**jax.tree.map(jnp.copy, arrays))
    snapshot, _ = program.finish_row(program.advance(snapshot))
    return program.advance(snapshot).arrays


@pytest.fixture(scope="module")
def clean(warm):
    return steps_from(warm, lambda path, leaf: leaf)


@pytest.mark.parametrize("name", NONSENSE)
def test_a_seed_of_nonsense_harms_no_other(name, warm, clean):
    """Numbers that no check knows go through the program: it neither stops nor mixes them with others."""
    where, value = NONSENSE[name]
    changed = []

    def change(path, leaf):
        key = jax.tree_util.keystr(path)
        fits = jnp.issubdtype(leaf.dtype, jnp.floating) or math.isfinite(value)
        if where not in key or not fits or jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return leaf
        changed.append(key)
        return leaf.at[0].set(np.float64(value).astype(leaf.dtype)) if leaf.ndim else leaf

    arrays = steps_from(warm, change)
    assert changed
    other = lambda tree: as_bytes(jax.tree.map(lambda leaf: leaf[1:], tree))
    assert other({k: arrays[k] for k in ("state", "tallies")}) == other(
        {k: clean[k] for k in ("state", "tallies")}
    )
    learned = split_replay(arrays["state"].algo)[0]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(learned))


ROWS = """
import jax, jax.numpy as jnp, numpy as np, purerl
from purerl import rollout
env, numbers = purerl.make_env("half_cheetah"), np.random.default_rng(0)
start = rollout.start(env, jax.random.key(0), 8).state
step = jax.jit(jax.vmap(env.step))
keys, action = jax.random.split(jax.random.key(1), 8), jnp.ones((8, 6))
sound = np.asarray(start.physics.row).view(np.float64)
for attempt in range(100):
    row = sound.copy()
    where = numbers.random(row.shape) < 0.2
    row[where] = (numbers.normal(size=row.shape) * 10 ** numbers.uniform(-9, 99, row.shape))[where]
    row[numbers.random(row.shape) < 0.02 * (attempt % 3)] = (np.nan, np.inf, -np.inf)[attempt % 3]
    bits = lambda like: numbers.integers(0, 2**32, like.shape, np.uint32)
    row = row.view(np.uint32) if attempt % 2 else bits(start.physics.row)
    tracked = bits(start.physics.tracked)
    row[4:], tracked[4:] = start.physics.row[4:], start.physics.tracked[4:]
    state = start._replace(physics=start.physics._replace(row=jnp.array(row), tracked=jnp.array(tracked)))
    seen = []
    for _ in range(3):
        obs, state, reward, *_ = step(keys, state, action)
        assert np.isfinite(obs).all() and np.isfinite(reward).all()
        seen.append(np.asarray(obs[4:]))
    if attempt:
        assert (np.array(seen) == known).all()
    known = np.array(seen)
print("survived")
"""


def test_no_row_of_bits_ends_the_process_of_the_physics_engine():
    """C MuJoCo gets back a checkpoint's opaque rows: no bits crash it, hang it or reach a neighbour."""
    done = subprocess.run(
        [sys.executable, "-c", ROWS], env=child(), capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stdout) == (0, "survived\n"), done.stderr[-2000:]


# Memory

MEMORY = """
import json, sys
from pathlib import Path
import jax.numpy as jnp
from forged import memory
from purerl.experiment import checkpoint
tree = {name: jnp.arange(25_000_000, dtype=jnp.float32).block_until_ready() for name in "abcd"}
def peak(action):
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    kept = action()
    return memory("VmHWM") - before
path = Path(sys.argv[1])
checkpoint.save(path, 0, {"a": jnp.zeros(3)}, {})
saved = peak(lambda: checkpoint.save(path, 1, tree, {}))
manifest = checkpoint.read_manifest(checkpoint.newest_first(path)[0])
loaded = peak(lambda: checkpoint.load(manifest, tree))
print(json.dumps([saved, loaded]))
"""


def test_memory_is_not_doubled(tmp_path, record_property):
    """Of 400 MB in four arrays, saving needs no copy, and loading one of a single array beside the result."""
    command = [sys.executable, "-c", MEMORY, str(tmp_path)]
    done = subprocess.run(command, env=child(), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    saved, loaded = json.loads(done.stdout)
    record_property("mebibytes", [saved, loaded])
    whole = 400e6 / 2**20
    assert saved < 60
    assert loaded < whole * 1.25 + 60


# Saving

TREE = {"a": jnp.arange(6.0).reshape(2, 3), "b": (jnp.int32(7), jnp.array([True, False]))}
OTHER = jax.tree.map(lambda leaf: leaf[..., ::-1] if leaf.ndim else leaf + 1, TREE)


def load(path, like=TREE):
    return checkpoint.load(read_manifest(path), like)


def steps(where):
    return [int(path.name.removeprefix("step-")) for path in newest_first(where)]


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_every_type_comes_back(impl, tmp_path):
    """Keys of each implementation, and numbers of each width, empty and scalar ones too."""
    tree = {name: jnp.ones((2, 0, 3), name) for name in checkpoint.NUMBERS if "64" not in name}
    tree |= {f"{name} scalar": jnp.array(1, name) for name in tree}
    tree["key"] = jax.random.split(jax.random.key(3, impl=impl), 5)
    tree["bits"] = jnp.array([np.nan, -0.0, np.inf, 1e-45], jnp.float32)
    found = load(save(tmp_path, 0, tree, {}), jax.eval_shape(lambda: tree))
    assert as_bytes(found) == as_bytes(tree)
    assert {name: leaf.dtype for name, leaf in found.items()} == {
        name: leaf.dtype for name, leaf in tree.items()
    }


@pytest.mark.parametrize(
    ("tree", "record", "message"),
    [
        ({"a": jnp.complex64(1)}, {}, "complex64"),
        ({}, {"elapsed": math.nan}, "could not be read again"),
        ({}, {"changes": ["x" * 1000] * 3000}, "more than 2,097,152 bytes"),
        ({}, {"changes": [[]] * 200_000}, "brackets"),
        ({}, {"changes": [[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]}, "nested"),
        ({}, {"seeds": 10**30}, "digits"),
    ],
)
def test_what_could_not_be_read_again_is_not_written(tree, record, message, tmp_path):
    """Else a run would save for days, and its checkpoints be refused when they are needed."""
    with pytest.raises(CheckpointError, match=message):
        save(tmp_path, 0, tree, record)
    assert list(tmp_path.iterdir()) == []


def test_numbers_that_a_record_may_hold(tmp_path):
    """The bounds of a task can be infinite."""
    record = {"range": [-math.inf, 0.1 + 0.2, math.inf], "one": 1, "half": 5e-324, "word": "π\n"}
    assert read_manifest(save(tmp_path, 0, {}, record)).record == record


class Full:
    """A file on a disk without room."""

    def __init__(self, file):
        self.file = file

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def write(self, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


CALLS = {(Path, "mkdir"): 1, (Path, "open"): 2, (os, "fsync"): 5, (os, "replace"): 3}
"""What a save asks the system for, and how often: for arrays, manifest, names and directories."""
FAILURES = [(*call, i) for call, times in CALLS.items() for i in range(times)]
FAILURES += [(Path, "write", i) for i in range(2)]


@pytest.mark.parametrize("there", [False, True], ids=["new", "again"])
@pytest.mark.parametrize(("owner", "name", "number"), FAILURES, ids=[f"{n}-{i}" for _, n, i in FAILURES])
def test_an_error_at_any_moment_leaves_what_was_there(owner, name, number, there, tmp_path, monkeypatch):
    """Every call that can fail does once: the error is ours, no litter stays, what has a name is whole."""
    for step in (1, 2, 3)[: 2 + there]:
        save(tmp_path, step, TREE, {}, keep=9)
    called, calls = name.replace("write", "open"), []
    function = getattr(owner, called)

    def fail(*args, **kwargs):
        ours = not isinstance(args[0], Path) or tmp_path in args[0].parents
        calls.extend([args] * ours)
        if not ours or len(calls) != number + 1:
            return function(*args, **kwargs)
        if name == "write":
            return Full(function(*args, **kwargs))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(owner, called, fail)
        if (name, number, there) == ("replace", 2, False):  # there is no old one to be renamed
            save(tmp_path, 3, OTHER, {}, keep=9)
        else:
            with pytest.raises(CheckpointError, match=r"step-000000000003 could not .* No space left"):
                save(tmp_path, 3, OTHER, {}, keep=9)
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith("step-")] == []
    assert steps(tmp_path)[-2:] == [2, 1]
    for path in newest_first(tmp_path):
        expected = [as_bytes(TREE), as_bytes(OTHER)] if path.name.endswith("3") else [as_bytes(TREE)]
        assert as_bytes(load(path)) in expected
    if there:
        assert steps(tmp_path)[0] == 3


def test_what_has_a_name_is_on_the_disk(tmp_path, monkeypatch):
    """A power cut keeps what was synced: first the contents, then the names in it, then its own name."""
    events, replace = [], os.replace
    short = lambda path: Path(path).name.replace(f"-{os.getpid()}", "")

    def sync(number):
        events.append(f"sync {short(os.readlink(f'/proc/self/fd/{number}'))}")

    def rename(old, new):
        events.append(f"{short(old)} -> {short(new)}")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", rename)
    save(tmp_path / "checkpoints", 3, TREE, {})
    assert events == [
        f"sync {tmp_path.name}",
        "sync arrays.bin",
        "sync .manifest.json.tmp",
        ".manifest.json.tmp -> manifest.json",
        "sync .tmp-step-000000000003",
        ".tmp-step-000000000003 -> step-000000000003",
        "sync checkpoints",
    ]


def test_a_full_disk_is_an_error_of_ours(tmp_path):
    """The system's own limit on files, met in the middle of the arrays."""
    save(tmp_path, 1, TREE, {})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, limits[1]))
    try:
        with pytest.raises(CheckpointError, match="File too large"):
            save(tmp_path, 2, {"a": jnp.zeros(2**16)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == ["step-000000000001"]


@pytest.mark.parametrize("where", ["/proc/no", "/dev/null", "file"])
def test_where_nothing_can_be_written(where, tmp_path):
    """Root, too, is refused there."""
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="could not be written"):
        save(tmp_path / where, 1, TREE, {})


def test_the_newest_stay(tmp_path):
    """Two are kept, of checkpoints only: what else is there is not counted, used or removed."""
    strangers = [
        "step-1",
        "step-000000000009.bak",
        "best",
        "damaged-step-000000000009-0",
        "step-00000000000٩",
    ]
    for name in strangers:
        (tmp_path / name).mkdir(parents=True)
    for step in (3, 7, 12):
        save(tmp_path, step, TREE, {})
    assert steps(tmp_path) == [12, 7]
    assert {path.name for path in tmp_path.iterdir()} > set(strangers)
    assert newest_first(tmp_path / "none") == [] and newest_first(tmp_path / "step-1" / "x") == []


def test_one_of_the_same_step_is_replaced(tmp_path):
    """A row that ends at a checkpoint's step is finished after it."""
    save(tmp_path, 3, TREE, {"rows": 1})
    path = save(tmp_path, 3, OTHER, {"rows": 2})
    assert as_bytes(load(path)) == as_bytes(OTHER) and read_manifest(path).record == {"rows": 2}
    assert os.listdir(tmp_path) == [path.name]


def test_what_a_killed_process_left_is_removed_by_the_next_run(parts, run):
    """Only by who holds the lock: a reader must not take away what a run is about to write."""
    litter = [
        run / "checkpoints" / f".tmp-{name}" for name in ("step-000000000048-1", "old-step-000000000016-1")
    ]
    for path in litter:
        shutil.copytree(newest(run), path)
    litter += [run / ".run.json.tmp-1", run / "seed0" / ".config.json.tmp-1"]
    for path in litter[2:]:
        path.touch()
    opened(parts, run)
    assert all(path.exists() for path in litter)
    RunDirectory(run).close()
    assert not any(path.exists() for path in litter)
    assert steps(run / "checkpoints") == [32, 16]


def test_a_kill_between_two_renames_loses_nothing(tmp_path):
    """As one is replaced there is a moment without a checkpoint of that name; the next run gives it back."""
    for step in (1, 2, 3):
        save(tmp_path, step, TREE, {}, keep=9)
    save(tmp_path, 4, OTHER, {}, keep=9).rename(tmp_path / ".tmp-step-000000000003-1")
    for step in (1, 3):
        path = tmp_path / f"step-00000000000{step}"
        path.rename(tmp_path / f".tmp-old-{path.name}-1")
    checkpoint.clean(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["step-000000000002", "step-000000000003"]
    assert as_bytes(load(tmp_path / "step-000000000003")) == as_bytes(TREE)


def test_a_file_is_not_written_through_a_link(tmp_path):
    """Somebody may have put one under the name of our temporary file."""
    (tmp_path / "victim").write_text("untouched")
    (tmp_path / f".x.json.tmp-{os.getpid()}").symlink_to("victim")
    files.write_json(tmp_path / "x.json", {"a": 1})
    assert (tmp_path / "victim").read_text() == "untouched"
    assert sorted(os.listdir(tmp_path)) == ["victim", "x.json"]
    assert not (tmp_path / "x.json").is_symlink()


def test_a_lock_that_is_no_file_is_refused(tmp_path):
    """Its file is emptied and written, maybe through a link; and the next try must not be locked out."""
    (tmp_path / "victim").write_text("untouched")
    (tmp_path / "lock").symlink_to("victim")
    for _ in range(2):
        with pytest.raises(OSError, match="symbolic links"):
            RunDirectory(tmp_path)
    assert (tmp_path / "victim").read_text() == "untouched"
    (tmp_path / "lock").unlink()
    (tmp_path / ".x.tmp-1").mkdir()  # which cannot be unlinked
    for _ in range(2):
        with pytest.raises(OSError, match=r"x\.tmp-1"):
            RunDirectory(tmp_path)


# Where a run can stand

WARM = forged.SAC | dict(total_timesteps=60, learning_starts=20, log_interval=20, num_envs=2)


def stands(step, rows, pieces=(5, 2), **fields):
    schedule = make_driver(purerl.make_config(**WARM | fields)).schedule
    return directory._can_stand(schedule, list(pieces), step, rows)


def test_places_where_a_run_can_stand():
    """After each piece; at the end of a row, before or after it is finished; nowhere else."""
    # A warm-up of 20 steps in two pieces, then two rows of 20 steps in five pieces each.
    expected = {(step, 0) for step in (0, 10, 20)} | {(20, 1)}
    expected |= {(step, 1) for step in (24, 28, 32, 36, 40)} | {(40, 2)}
    expected |= {(step, 2) for step in (44, 48, 52, 56, 60)} | {(60, 3)}
    found = {(step, rows) for step in range(-2, 80) for rows in range(-1, 6) if stands(step, rows)}
    assert found == expected
    cold = {(s, r) for s in range(30) for r in range(3) if stands(s, r, (1, 5), learning_starts=0)}
    assert cold == {(0, 0), (10, 0), (20, 0), (20, 1)}
    assert not stands(40, 1, (3, 2)) and not stands(40, 1, (5, 3))


def test_a_checkpoint_of_another_run_is_refused(parts, run, caplog):
    """It fits to the last array, and still would continue something else."""
    other = parts.record | {"config": parts.record["config"] | {"seed": 5}}
    place = {"step": 32, "rows": 2, "elapsed": 0.5}
    forged.reseal(newest(run) / "manifest.json", lambda manifest: manifest | {"record": other | place})
    with pytest.raises(SchemaError, match="step-000000000032 is of another run"):
        opened(parts, run)
    with caplog.at_level(logging.WARNING), pytest.raises(CheckpointError):
        purerl.load(run)


# What is printed


@pytest.mark.parametrize("text", ["\x1b[31m\n", "\x9b", "a\0b", "\ud800", "‮", "x" * 10**6])
def test_errors_are_one_line_for_a_terminal(text):
    """Names and values may be a stranger's: what does not print is escaped, and what is long is cut."""
    message = str(SchemaError(f"{text} is wrong"))
    assert message.isprintable() and message.encode() and len(message) <= 1100


def test_a_seal_is_of_the_values(tmp_path):
    """The checksum covers every value, whatever the spaces between them."""
    path = tmp_path / "x.json"
    files.write_sealed(path, {"b": 1, "a": [1.5, "π"]})
    values = json.loads(path.read_text())
    assert files.read_sealed(path) == {"b": 1, "a": [1.5, "π"]}
    path.write_text(json.dumps(values))
    assert files.read_sealed(path) == {"b": 1, "a": [1.5, "π"]}
    path.write_text(json.dumps(values | {"b": 2}))
    with pytest.raises(files.DamagedFile, match="checksum"):
        files.read_sealed(path)
    assert values["sha256"] == hashlib.sha256(b'{"a": [1.5, "\\u03c0"], "b": 1}').hexdigest()
