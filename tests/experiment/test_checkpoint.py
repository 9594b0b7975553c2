"""Checkpoints: whole or not there, and exact to the bit."""

import errno
import hashlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import lab
import numpy as np
import pytest
from tiny import same_bits

from purerl.experiment import checkpoint
from purerl.experiment.atomic import write_json
from purerl.experiment.checkpoint import newest_first, save
from purerl.experiment.untrusted import CheckpointError, SchemaError, read_manifest

MUTANTS = {
    "renamed before it is synced": (
        "experiment/checkpoint.py",
        "            file.flush()\n            os.fsync(file.fileno())\n",
        "",
        "test_what_has_a_name_is_on_the_disk",
    ),
}
TREE = {"a": jnp.arange(6.0).reshape(2, 3), "b": (jnp.int32(7), jnp.array([True, False]))}
TYPES = ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "bfloat16", "float16", "float32"]


def place(step, rows=0):
    return {"step": step, "rows": rows}


def load(directory, like=TREE, number=0):
    return checkpoint.load(read_manifest(newest_first(directory)[number]), like)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_every_type_comes_back(impl, tmp_path):
    """Keys of each implementation, and numbers of each width, empty and scalar ones too."""
    tree = {name: jnp.ones((2, 0, 3), name) for name in TYPES}
    tree |= {f"{name} scalar": jnp.array(1, name) for name in TYPES}
    tree |= {"key": jax.random.split(jax.random.key(3, impl=impl), 5)}
    tree |= {"bits": jnp.array([np.nan, -0.0, np.inf, 1e-45], jnp.float32)}
    save(tmp_path, tree, place(0))
    found = load(tmp_path, jax.eval_shape(lambda: tree))
    assert same_bits(found, tree)
    assert jax.tree.map(lambda leaf: leaf.dtype, found) == jax.tree.map(lambda leaf: leaf.dtype, tree)


def test_keys_of_another_generator_are_refused_by_its_name(tmp_path):
    save(tmp_path, {"key": jax.random.key(0, impl="unsafe_rbg")}, place(0))
    with pytest.raises(SchemaError, match="set jax_default_prng_impl to unsafe_rbg, as it was"):
        load(tmp_path, {"key": jax.random.key(0, impl="threefry2x32")})


def test_a_bool_is_true_or_false(tmp_path):
    """Other bytes than 0 and 1 would be a third value in compiled code."""
    save(tmp_path, {"a": jnp.array([True, False])}, place(0))
    path = newest_first(tmp_path)[0]
    (path / "arrays.bin").write_bytes(b"\x07\0")
    manifest = read_manifest(path)
    manifest.arrays["['a']"]["sha256"] = hashlib.sha256(b"\x07\0").hexdigest()
    found = checkpoint.load(manifest, {"a": jnp.array([True, False])})
    assert np.asarray(found["a"]).tobytes() == b"\1\0"


def test_rows_in_use_alone_are_stored(tmp_path):
    """Of a replay buffer that is not full; the rest comes back as zeros."""
    tree = {"rows": np.zeros((2, 1000, 3), np.float32), "flags": np.zeros((2, 1000), bool)}
    tree["rows"][:, :4], tree["flags"][1, 3] = np.random.default_rng(0).normal(size=(2, 4, 3)), True
    tree = jax.tree.map(jnp.asarray, tree)
    stored = {name: checkpoint.Prefix(leaf, 4) for name, leaf in tree.items()}
    save(tmp_path, stored, place(3))
    assert (newest_first(tmp_path)[0] / "arrays.bin").stat().st_size == 2 * 4 * (3 * 4 + 1)
    assert checkpoint.size_of(stored) == 2 * 4 * (3 * 4 + 1)
    assert same_bits(load(tmp_path, tree), tree)


def test_part_of_the_arrays_is_found_by_name(tmp_path):
    save(tmp_path, TREE, place(3))
    part = {"b": (jnp.int32(0), jnp.zeros(2, bool))}
    manifest = read_manifest(newest_first(tmp_path)[0])
    assert same_bits(checkpoint.load(manifest, part, partly=True), {"b": TREE["b"]})
    with pytest.raises(SchemaError, match=r"\['a'\], which is not expected"):
        checkpoint.load(manifest, part)


@pytest.mark.parametrize(
    ("tree", "record", "message"),
    [
        ({"a": jnp.complex64(1)}, {}, "complex64"),
        ({}, {"changes": ["x" * 1000] * 3000}, "more than 2,097,152"),
    ],
)
def test_what_cannot_be_read_again_is_not_written(tree, record, message, tmp_path):
    """Otherwise a run would save for days what is refused when it is needed."""
    with pytest.raises(CheckpointError, match=message):
        save(tmp_path, tree, place(0) | record)
    assert list(tmp_path.iterdir()) == []


def test_a_record_may_hold_infinite_bounds(tmp_path):
    """Such as hopper's `healthy_z_range`."""
    values = {"range": [-math.inf, 0.1 + 0.2, math.inf], "word": "π\n"}
    save(tmp_path, {}, place(0) | values)
    assert read_manifest(newest_first(tmp_path)[0]).record == place(0) | values


def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


CALLS = {(Path, "mkdir"): 1, (Path, "open"): 2, (os, "fsync"): 5, (os, "replace"): 1, (os, "rename"): 1}
"""Functions that a save calls, and how often: for arrays, manifest, names and directories."""
FAILURES = [(*call, i) for call, times in CALLS.items() for i in range(times)]


@pytest.mark.parametrize(("owner", "name", "number"), FAILURES, ids=[f"{n}-{i}" for _, n, i in FAILURES])
def test_an_error_at_any_moment_leaves_what_was_there(owner, name, number, tmp_path, monkeypatch):
    """Every call that can fail does once: no litter stays, and what has a name is whole."""
    for step in (1, 2):
        save(tmp_path, TREE, place(step))
    function, calls = getattr(owner, name), []

    def failing(*args, **kwargs):
        ours = not isinstance(args[0], Path) or tmp_path in args[0].parents
        calls.extend([args] * ours)
        return (full if ours and len(calls) == number + 1 else function)(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, failing)
        with pytest.raises(CheckpointError, match=r"step-000000000003-0000 could not .* No space left"):
            save(tmp_path, TREE, place(3))
    names = lab.names_in(tmp_path)
    assert names[:2] == ["step-000000000001-0000", "step-000000000002-0000"]
    assert names[2:] in ([], ["step-000000000003-0000"])
    for i in range(len(names)):
        assert same_bits(load(tmp_path, number=i), TREE)
    save(tmp_path, TREE, place(4))
    assert len(calls) > number, "there are fewer such calls"


def test_what_has_a_name_is_on_the_disk(tmp_path, monkeypatch):
    """A power cut keeps what was synced: first the contents, then the names in it, then its own name."""
    events, rename, replace = [], os.rename, os.replace
    short = lambda path: Path(path).name.replace(f"-{os.getpid()}", "")
    note = lambda old, new: events.append(f"{short(old)} -> {short(new)}")
    sync = lambda number: events.append(f"sync {short(os.readlink(f'/proc/self/fd/{number}'))}")
    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "rename", lambda *names: (note(*names), rename(*names)))
    monkeypatch.setattr(os, "replace", lambda *names: (note(*names), replace(*names)))
    save(tmp_path / "checkpoints", TREE, place(3))
    assert events == [
        f"sync {tmp_path.name}",
        "sync arrays.bin",
        "sync .manifest.json.tmp",
        ".manifest.json.tmp -> manifest.json",
        "sync .tmp-step-000000000003-0000",
        ".tmp-step-000000000003-0000 -> step-000000000003-0000",
        "sync checkpoints",
    ]


def test_the_newest_two_are_kept(tmp_path):
    """Of checkpoints only: what else is there is not counted, used or removed."""
    others = ["step-1", "step-000000000009-0001.bak", "best", "damaged-step-000000000009-0001-0"]
    others += ["step-00000000000٩-0001"]
    for name in others:
        (tmp_path / name).mkdir(parents=True)
    for step, rows in ((3, 1), (7, 1), (7, 2)):  # the one with the row finished is newer
        save(tmp_path, TREE, place(step, rows))
    names = ["step-000000000007-0002", "step-000000000007-0001"]
    assert [path.name for path in newest_first(tmp_path)] == names
    assert {path.name for path in tmp_path.iterdir()} == {*others, *names}
    assert newest_first(tmp_path / "none") == [] and newest_first(tmp_path / "step-1" / "x") == []


def test_json_is_replaced_whole(tmp_path):
    """A value that cannot be written leaves the old file, and a link under the temporary name is not used."""
    (tmp_path / "victim").write_text("untouched")
    (tmp_path / f".x.json.tmp-{os.getpid()}").symlink_to("victim")
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1} and not path.is_symlink()
    assert (tmp_path / "victim").read_text() == "untouched" and lab.names_in(tmp_path) == ["victim", "x.json"]


MEMORY = """
import json, sys
from pathlib import Path
import jax.numpy as jnp
from purerl.experiment import checkpoint, untrusted
tree = {name: jnp.arange(25_000_000, dtype=jnp.float32).block_until_ready() for name in "abcd"}
def memory(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))
def peak(action):
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    kept = action()
    return memory("VmHWM") - before
path = Path(sys.argv[1])
checkpoint.save(path, {"a": jnp.zeros(3)}, {"step": 0, "rows": 0})
saved = peak(lambda: checkpoint.save(path, tree, {"step": 1, "rows": 0}))
manifest = untrusted.read_manifest(checkpoint.newest_first(path)[0])
loaded = peak(lambda: checkpoint.load(manifest, tree))
print(json.dumps([saved, loaded]))
"""


@pytest.mark.slow
def test_memory_is_not_doubled(tmp_path):
    """Of 400 MB in four arrays, saving needs no copy, and loading that of one array at a time."""
    command = [sys.executable, "-c", MEMORY, str(tmp_path)]
    environment = lab.child_environment() | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    saved, loaded = json.loads(done.stdout)
    assert saved < 60
    assert loaded < 400e6 / 2**20 * 1.25 + 60
