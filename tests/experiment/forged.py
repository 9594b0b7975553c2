"""The smallest forgeries of a run's directory, one of each kind, for readers that must refuse them."""

import hashlib
import json
import math
import os
import shutil

import numpy as np


def reseal(path, change):
    """Change the values of a sealed file, which then has the right checksum again."""
    values = json.loads(path.read_text())
    values.pop("sha256")
    values = change(values)
    seal = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(values | {"sha256": seal}))


def manifest(**values):
    """Return a function that gives the newest checkpoint's manifest other values."""
    return lambda run: reseal(newest(run) / "manifest.json", lambda old: old | values)


def entries(change):
    """Return a function that changes the manifest's list of arrays."""
    arrays = lambda old: old | {"arrays": change(old["arrays"])}
    return lambda run: reseal(newest(run) / "manifest.json", arrays)


def first(**values):
    """Return a function that changes the entry of the first array."""
    return entries(lambda arrays: [arrays[0] | values, *arrays[1:]])


def place(name=None, **values):
    """Return a function that changes the record in the manifest, and the checkpoint's name."""

    def spoil(run):
        change = lambda old: old | {"record": old["record"] | values}
        reseal(newest(run) / "manifest.json", change)
        newest(run).rename(run / "checkpoints" / (name or newest(run).name))

    return spoil


def newest(run):
    return max((run / "checkpoints").glob("step-*"))


def whole_file(name, change):
    """Return a function that gives a file of the newest checkpoint other bytes."""

    def spoil(run):
        path = newest(run) / name
        path.write_bytes(change(path.read_bytes()))

    return spoil


def in_place_of(name, make):
    """Return a function that puts something else where the file is."""

    def spoil(run):
        path = newest(run) / name
        shutil.move(path, run / "moved")
        make(path, run / "moved")

    return spoil


def numbers(part, value):
    """Return a function that fills the float arrays of `part` with a number, checksums included."""

    def spoil(run):
        path = newest(run) / "arrays.bin"
        content = bytearray(path.read_bytes())
        values = json.loads((newest(run) / "manifest.json").read_text())
        for entry in values["arrays"]:
            if part in entry["name"] and entry["dtype"] == "float32":
                array = np.full(entry["shape"], value, np.float32).tobytes()
                content[entry["start"] : entry["start"] + len(array)] = array
                entry["sha256"] = hashlib.sha256(array).hexdigest()
        path.write_bytes(content)
        entries(lambda _: values["arrays"])(run)

    return spoil


DEEP = b'{"a": ' + b"[" * 200_000
AXES = [10**8] * 20_000
LINK = lambda path, moved: path.symlink_to(moved)

DAMAGED = {
    "a changed byte": (whole_file("arrays.bin", lambda b: bytes([b[0] ^ 1]) + b[1:]), "checksum of"),
    "a changed letter": (whole_file("manifest.json", lambda b: b.replace(b"step", b"stfp", 1)), "checksum"),
    "a truncated file": (whole_file("arrays.bin", lambda b: b[:-1]), "too short"),
    "truncated JSON": (whole_file("manifest.json", lambda b: b[: len(b) // 2]), "not JSON"),
    "a missing file": (lambda run: (newest(run) / "arrays.bin").unlink(), "No such file"),
    "a missing manifest": (lambda run: (newest(run) / "manifest.json").unlink(), "No such file"),
    "a link": (in_place_of("arrays.bin", LINK), "cannot be opened"),
    "a linked manifest": (in_place_of("manifest.json", LINK), "cannot be opened"),
    "a linked checkpoint": (in_place_of("", LINK), "link"),
    "a pipe": (in_place_of("arrays.bin", lambda path, _: os.mkfifo(path)), "not a regular file"),
    "a folder": (in_place_of("manifest.json", lambda path, _: path.mkdir()), "not a regular file"),
    "oversized JSON": (whole_file("manifest.json", lambda b: b + b" " * 2**21), "more than"),
    "NaN": (whole_file("manifest.json", lambda b: b'{"step": NaN}'), "NaN"),
    "an infinite number": (whole_file("manifest.json", lambda b: b'{"step": 1e999}'), "was changed"),
    "5,000 digits": (whole_file("manifest.json", lambda b: b'{"step": ' + b"9" * 5_000 + b"}"), "not JSON"),
    "deep nesting": (whole_file("manifest.json", lambda b: DEEP), "not JSON"),
    "bytes without a code": (whole_file("manifest.json", lambda b: b'{"\xff": 1}'), "not JSON"),
    "a list": (whole_file("manifest.json", lambda b: b"[1]"), "not JSON"),
    "an array twice": (entries(lambda arrays: [*arrays, arrays[0]]), "twice"),
    "entries of text": (entries(lambda arrays: ["x"]), "cannot be used"),
    "no entries": (manifest(arrays=None), "cannot be used"),
    "no record": (manifest(record=None), "cannot be used"),
    "a shape of text": (first(shape="x"), "another type"),
    "a start before the file": (first(start=-1), "too short"),
    "a start beyond the file": (first(start=10**30), "too short"),
    "rows beyond the array": (first(rows=10**9), "rows of"),
    "rows below none": (first(rows=-1), "rows of"),
    "rows of text": (first(rows="4"), "another type"),
    "another checksum": (first(sha256="\x1b[31m"), "checksum of"),
    "a step under another name": (place(step=48), "of step 48"),
    "a negative step": (place(step=-16), "no step"),
    "a step of text": (place(step="32"), "no step"),
    "a step of true": (place(step=True), "no step"),
    "rows as a float": (place(rows=2.0), "no rows"),
    "infinite time": (place(elapsed=math.inf), "no elapsed"),
    "negative time": (place(elapsed=-1.0), "no elapsed"),
    "a record without seeds": (place(seeds=None), "lacks the field seeds"),
    "NaN in a healthy member": (numbers("['state'].algo", math.nan), "not finite"),
    "infinity in a best policy": (numbers("['best'].algo", math.inf), "not finite"),
}
"""Damage: a function of a run's directory, and a word of the reason; the checkpoint before it is taken."""
MISFITS = {
    "a missing array": (entries(lambda arrays: arrays[1:]), "has no array"),
    "an extra array": (entries(lambda arrays: [*arrays, arrays[0] | {"name": "\x1b[31m\n"}]), r"\x1b[31m\n"),
    "another type": (first(dtype="int32"), "expected"),
    "another shape": (first(shape=[2**40]), "expected"),
    "20,000 axes": (first(shape=AXES), "expected"),
    "a newer format": (manifest(format=4, versions={"purerl": "9.9"}), "format 4, written by"),
    "no format": (manifest(format=None), "format None"),
    "another run": (place(seeds=3), "another run"),
    "fewer rows than its step": (place("step-000000000032-0000", rows=0), "never is"),
    "more rows than its step": (place("step-000000000032-0003", rows=3), "never is"),
    "a step beyond the end": (place("step-000000000080-0005", step=80, rows=5), "never is"),
    "a step within a piece": (place("step-000000000040-0002", step=40), "never is"),
}
"""Sound checkpoints of something else, which are errors: an older one would hide them."""
