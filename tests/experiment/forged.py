"""Run directories made by hand, sound and hostile, and a process that opens the hostile ones.

    python forged.py DIRECTORY

For every case, `purerl.load` and `purerl.run(resume=True)` get a directory of its own in DIRECTORY. A
line of JSON says what came of each: the error, the seconds, the memory, and what was touched.
"""

import collections
import functools
import hashlib
import json
import math
import os
import pickle
import shutil
import signal
import socket
import stat
import sys
import time
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import purerl
from purerl.experiment import checkpoint
from purerl.experiment import run as rim
from purerl.experiment.directory import RunDirectory
from purerl.experiment.program import Pieces, Program
from purerl.train import make_driver

SEEDS = 2
PPO = dict(algo="ppo", env="cartpole", num_envs=2, num_steps=4, num_minibatches=1, num_epochs=1)
PPO |= dict(total_timesteps=64, log_interval=16, eval_interval=32, eval_episodes=1, hidden_sizes=())
SAC = dict(algo="sac", env="pendulum", num_envs=2, total_timesteps=60, learning_starts=20, batch_size=4)
SAC |= dict(log_interval=10, eval_interval=20, eval_episodes=1, hidden_sizes=(4,), buffer_size=40)


class Sound(NamedTuple):
    """What a run directory is made of."""

    program: Program
    record: dict[str, Any]

    def snapshot(self, step, rows):
        """A snapshot of arbitrary numbers, the same for the same step."""
        numbers = np.random.default_rng(step)
        arrays = {name: self._fill(tree, numbers) for name, tree in self.program.shapes.arrays.items()}
        healthy = arrays["state"]._replace(diverged_at=jax.numpy.full(SEEDS, -1))
        return self.program.shapes._replace(**arrays | {"state": healthy}, step=step, rows=rows, elapsed=0.5)

    def _fill(self, tree, numbers):
        def one(leaf):
            if jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                data = numbers.integers(0, 2**32, (*leaf.shape, 2), np.uint32)
                return jax.random.wrap_key_data(jax.numpy.array(data))
            return jax.numpy.array(numbers.normal(size=leaf.shape) * 8, leaf.dtype)

        return jax.tree.map(one, tree)

    def write(self, path, places):
        """A run directory with checkpoints at these `(step, rows)`, and the logs that belong to them."""
        directory = RunDirectory(path)
        directory.write_record(self.record)
        directory.open_logs([{}] * SEEDS, 0)
        names = {"epoch": 1, "step": 16, "time": 0.5} | dict.fromkeys(self.program.metrics, 0.25)
        for _ in range(max(rows for _, rows in places)):
            directory.log([names | {"seed": i} for i in range(SEEDS)])
        for place in places:
            directory.save(self.snapshot(*place))
        directory.close()
        return path


def sound(**fields):
    """The parts of a run with this configuration."""
    cfg = purerl.make_config(**fields)
    program = Program(make_driver(cfg), cfg, SEEDS, Pieces(1, 2 if cfg.algo == "ppo" else 1))
    record = {"config": purerl.config.to_dict(cfg), "seeds": SEEDS, "pieces": list(program.pieces)}
    return Sound(program, record | {"changes": []})


def reseal(path, change):
    """Change the values of a sealed file, which then has the right checksum again."""
    values = json.loads(path.read_text())
    values.pop("sha256", None)
    write_sealed(path, change(values) or values)


def write_sealed(path, values):
    """As purerl does, but whatever it is."""
    seal = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps({**values, "sha256": seal}))


# The cases: each is a function that spoils the sound run in `run`. `outside` must stay as it is.
CASES: dict[str, Any] = {}
REFUSED, ACCEPTED = "refused", "accepted"


class Case(NamedTuple):
    spoil: Any
    load: str
    resume: str


def case(name, load=REFUSED, resume=REFUSED):
    def add(spoil):
        assert name not in CASES
        CASES[name] = Case(spoil, load, resume)

    return add


def only_step(run):
    return next((run / "checkpoints").glob("step-*"))


def find(run, name):
    return run / name if name == "run.json" else only_step(run) / name


class Evil:
    """What runs a command as it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch SENTINEL",)


def as_pickle(path):
    path.write_bytes(pickle.dumps(Evil()))


def as_object_array(path):
    with path.open("wb") as file:
        np.save(file, np.array([Evil()], object), allow_pickle=True)


def as_zip(path):
    content = path.read_bytes()
    path.unlink()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../evil", content)


def as_link(path):
    path.rename(path.with_name("real"))
    path.symlink_to("real")


def as_socket(path):
    path.unlink()
    before = Path.cwd()
    os.chdir(path.parent)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(path.name)
    os.chdir(before)


def as_directory(path):
    path.unlink()
    path.mkdir()


def as_device(path):
    path.unlink()
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    except PermissionError:
        path.symlink_to("/dev/zero")


def as_fifo(path):
    path.unlink()
    os.mkfifo(path)


def as_endless(path):
    path.unlink()
    path.symlink_to("/dev/zero")


def as_sparse(path):
    os.truncate(path, 2**40)


WAYS = (as_pickle, as_object_array, as_zip, as_link, as_socket, as_directory, as_device, as_fifo, as_endless)
WAYS += (as_sparse, Path.unlink, lambda path: path.write_bytes(b""))
for name in ("run.json", "manifest.json", "arrays.bin"):
    for way in WAYS:
        # What a run is can also be read in its checkpoints.
        outcome = ACCEPTED if name == "run.json" else REFUSED
        # A name that cannot be written is an error, and loading does not write.
        resume = REFUSED if way is as_directory else outcome
        title = way.__name__ if way.__name__ != "<lambda>" else "empty"
        case(f"{name} {title}", outcome, resume)(lambda run, name=name, way=way: way(find(run, name)))

TEXTS = {
    "nothing": b"",
    "a NaN": b'{"step": NaN}',
    "a number beyond all": b'{"step": 1e999}',
    "a name twice": b'{"format": 1, "format": 1}',
    "200,000 lists in lists": b'{"a": ' + b"[" * 200_000,
    "20,000 objects in objects": b'{"a": ' * 20_000 + b"1" + b"}" * 20_000,
    "900 lists in lists": b'{"a": ' + b"[" * 900 + b"]" * 900 + b"}",
    "5,000 digits": b'{"step": ' + b"9" * 5000 + b"}",
    "a byte-order mark": b"\xef\xbb\xbf{}",
    "half a character": b'{"a": "\xc3"}',
    "a lone surrogate": b'{"a": "\\ud800"}',
    "a list": b"[1, 2]",
    "a number": b"1",
    "null": b"null",
    "3 MB": b'{"a": "' + b"x" * 3_000_000 + b'"}',
    "5 MB of lists": b'{"a": [' + b"[]," * 1_700_000 + b"[]]}",
    "2 MB of objects": b'{"a": [' + b'{"a":0},' * 250_000 + b"{}]}",
    "2 MB of numbers": b'{"a": [' + b"1," * 1_000_000 + b"1]}",
    "control characters": b'{"\\u001b[31m\\n": 1',
}
for title, text in TEXTS.items():

    @case(f"JSON of {title}")
    def spoil(run, text=text):
        for name in ("run.json", "manifest.json"):
            find(run, name).write_bytes(text)


def changed(**values):
    """A case's function: the manifest with other values."""
    return lambda run: reseal(find(run, "manifest.json"), lambda manifest: manifest | values)


for version in (999, "1", True, 0, -1, None, [1], 1.0):
    case(f"format {version!r}")(changed(format=version))
for field in ("format", "step", "record", "versions", "arrays"):
    case(f"manifest without {field}")(
        lambda run, field=field: reseal(find(run, "manifest.json"), lambda m: m.pop(field) and m)
    )
    case(f"manifest of which {field} is a text")(changed(**{field: "\x1b[31m"}))
case("an error that is 300 kB long")(changed(format=999, versions={"\x1b]0;x\x07\n" * 50_000: "1"}))


def entries(change):
    """A case's function: other entries in the manifest."""

    def spoil(run):
        reseal(find(run, "manifest.json"), lambda m: m | {"arrays": change(m["arrays"])})

    return spoil


def one(**values):
    """A case's function: other values for one array of the state."""

    def change(arrays):
        index = next(i for i, entry in enumerate(arrays) if "['state'].algo" in entry["name"])
        return [*arrays[:index], arrays[index] | values, *arrays[index + 1 :]]

    return entries(change)


SIZES = {"-1": -1, "1.5": 1.5, "true": True, "null": None, "text": "2", "2**40": 2**40, "10**19": 10**19}
for title, size in SIZES.items():
    case(f"an array of size {title}")(one(shape=[size]))
case("an array of 20,000 axes")(one(shape=[10**8] * 20_000))
AXES = {"name": "x", "dtype": "bool", "shape": [10**8] * 20_000, "sha256": ""}
case("one more array, of 20,000 axes")(entries(lambda arrays: [*arrays, AXES]))
case("an array without a shape")(one(shape=None))
for dtype in ("object", "O", "|V8", ">f4", "float128", "key<rbg>", None, ["bool"], {}, 7, "bool"):
    case(f"an array of type {dtype!r}")(one(dtype=dtype))
for digest in ("", None, 0, "0" * 64, ["a"]):
    case(f"an array with checksum {digest!r}")(one(sha256=digest))
case("an array without a checksum")(entries(lambda a: [{k: a[0][k] for k in ("name", "dtype", "shape")}]))
case("an array with one field more")(one(__class__="os.system"))
NAMES = {"ANSI": "\x1b[2J\x1b[31m", "dots": "../../../x", "NUL": "a\0b", "lines": "a\nb\r"}
for title, evil in NAMES.items():
    case(f"an array whose name has {title}")(one(name=evil))
    more = {"name": evil, "dtype": "bool", "shape": [0], "sha256": hashlib.sha256().hexdigest()}
    # To load takes the arrays it knows by their names, and no others.
    case(f"one more array, whose name has {title}", load=ACCEPTED)(entries(lambda a, more=more: [*a, more]))
case("an array twice")(entries(lambda arrays: [*arrays, arrays[0]]))
case("no array at all")(entries(lambda arrays: []))
case("an array too few")(entries(lambda arrays: arrays[1:]))
case("arrays in another order")(entries(lambda arrays: arrays[::-1]))
case("entries that are none")(entries(lambda arrays: [1, None, "x"]))


@case("10,000 arrays more")
def many(run):
    more = [{"name": f"a{i}", "dtype": "bool", "shape": [10**14], "sha256": ""} for i in range(10_000)]
    entries(lambda arrays: [*arrays, *more])(run)


@case("8 TB, declared consistently")
def enormous(run):
    one(shape=[2**40, 2])(run)
    os.truncate(find(run, "arrays.bin"), 2**42)


def configured(**values):
    """A case's function: another configuration, in the record and in the checkpoint."""

    def update(run):
        of_record(lambda record: record | {"config": record["config"] | values})(run)

    return update


def of_record(change):
    def spoil(run):
        reseal(find(run, "run.json"), change)
        reseal(find(run, "manifest.json"), lambda m: m | {"record": change(m["record"])})

    return spoil


LONG, CODES = "x" * 10**6, "\x1b[31m\n"
for target in ("__class__", "_target_", "__reduce__", "!!python/object/apply:os.system", CODES, LONG):
    case(f"a field {target[:40]!r}")(configured(**{target: "os.system"}))
for target in ("os:system", "../../x", "purerl.make:make_env", "a.b:c", CODES, LONG, None, 3, [], {}):
    case(f"env {str(target)[:40]!r}")(configured(env=target))
    case(f"algo {str(target)[:40]!r}")(configured(algo=target))
case("100,000 layers")(configured(hidden_sizes=[1] * 99_000))
case("32 layers of 65,536")(configured(hidden_sizes=[65_536] * 32))
case("32 layers, all different")(configured(hidden_sizes=[65_536 - i for i in range(32)]))
case("a layer of 10**19")(configured(hidden_sizes=[10**19]))
case("2**20 environments")(configured(num_envs=2**20))
case("2**20 environments of 2**31 steps")(configured(num_envs=2**20, num_steps=2_000_000_000))
case("2 * 10**9 epochs", load=ACCEPTED)(configured(num_epochs=2_000_000_000))
case("2 * 10**9 steps")(configured(total_timesteps=2_000_000_000, log_interval=100_000_000))
case("a learning rate that is a list")(configured(learning_rate=[1e-3]))
case("env_kwargs that name the engine")(configured(env_kwargs={"engine": "x", "env": "ant"}))
case("env_kwargs in env_kwargs")(configured(env_kwargs={"gravity": {"a": [1]}}))
case("env_kwargs that are a list")(configured(env_kwargs=[1]))


def another(**fields):
    """A case's function: the checkpoint of quite another configuration, as far as the record goes."""
    cfg = purerl.make_config(**fields)
    return of_record(lambda record: record | {"config": purerl.config.to_dict(cfg)})


case("another algorithm")(another(**SAC))
case("a replay memory of 70 GB")(another(**SAC | dict(buffer_size=2 * 10**9, total_timesteps=2 * 10**9)))


@case("more than this machine's memory, declared consistently, in a file without content")
def beyond_memory(run):
    large = PPO | dict(hidden_sizes=[65_536] * 8)
    another(**large)(run)
    shapes = jax.tree_util.tree_leaves_with_path(sound(**large).program.shapes.arrays)
    arrays = [
        {"name": jax.tree_util.keystr(path), "dtype": str(leaf.dtype), "shape": leaf.shape, "sha256": ""}
        for path, leaf in shapes
    ]
    entries(lambda _: arrays)(run)
    os.truncate(find(run, "arrays.bin"), sum(map(checkpoint._size_of, arrays)))


case("a model that is a file")(configured(env="ant", env_kwargs={"xml_file": "../outside/model.xml"}))
case("a model that is a list")(configured(env="ant", env_kwargs={"xml_file": ["ant.xml"]}))
case("a config that is a list")(of_record(lambda record: record | {"config": [1]}))
for count in (0, -1, True, 2**16 + 1, "2", None, 3):
    case(f"{count!r} seeds")(of_record(lambda record, count=count: record | {"seeds": count}))
case("65,536 seeds with large networks")(
    of_record(lambda r: r | {"seeds": 2**16, "config": r["config"] | {"hidden_sizes": [65_536] * 2}})
)
for pieces in ([1, 10**12], [1, 3], [1, 0], [1], [1, 2, 3], ["1", 2], [True, 2], [1, 2.0], None, [[1], 2]):
    case(f"pieces {pieces}")(of_record(lambda record, pieces=pieces: record | {"pieces": pieces}))
case("changes that are a text")(of_record(lambda record: record | {"changes": "x"}))
case("1 MB of changes", ACCEPTED, ACCEPTED)(of_record(lambda r: r | {"changes": ["x" * 1000] * 1000}))
case("1 MB of versions", ACCEPTED, ACCEPTED)(
    changed(versions={CODES * 1000 + str(i): "1" for i in range(160)})
)


def placed(name="step-000000000032", **place):
    """A case's function: a checkpoint that says that its run stands elsewhere."""

    def spoil(run):
        change = {"record": json.loads(find(run, "manifest.json").read_text())["record"] | place}
        changed(**change | ({"step": place["step"]} if "step" in place else {}))(run)
        only_step(run).rename(run / "checkpoints" / name)

    return spoil


PLACES = {
    "step 10**30": dict(step=10**30),
    "step 10**18": dict(step=10**18),
    "step -1": dict(step=-1),
    "step as a text": dict(step="32"),
    "step true": dict(step=True),
    "a step under another name": dict(step=48),
    "no step": dict(step=None),
    "fewer rows than before its step": dict(rows=0),
    "more rows than by its step": dict(rows=3),
    "rows -1": dict(rows=-1),
    "10**12 rows": dict(rows=10**12),
    "rows as a number": dict(rows=2.0),
    "elapsed -1": dict(elapsed=-1.0),
    "elapsed as a text": dict(elapsed="1"),
    "elapsed infinite": dict(elapsed=math.inf),
    "elapsed NaN": dict(elapsed=math.nan),
    "a step beyond the end": dict(step=80, rows=5, name="step-000000000080"),
    "a step within a piece": dict(step=40, rows=2, name="step-000000000040"),
    "a step within an iteration": dict(step=33, rows=2, name="step-000000000033"),
}
for title, place in PLACES.items():
    case(title)(placed(**place))
for name in ("step-000000000032x", "step-32", "step-00000000003٢", "checkpoint", "step-000000000032\n"):
    # No checkpoint at all: there is nothing to load, and a run begins.
    case(f"a checkpoint called {name!r}", resume=ACCEPTED)(placed(name=name))


@case("a checkpoint of another run")
def of_another(run):
    reseal(find(run, "run.json"), lambda record: record | {"config": record["config"] | {"seed": 1}})


@case("100 checkpoints, all of them forged")
def hundred(run):
    for i in range(100):
        target = run / "checkpoints" / f"step-{10**6 + i:012d}"
        shutil.copytree(only_step(run), target)
        (target / "manifest.json").write_bytes(TEXTS["3 MB"][: 2**21])


def step_as(way):
    def spoil(run):
        path = only_step(run)
        shutil.move(path, run / "moved")
        way(path)

    return spoil


case("a checkpoint that is a link")(step_as(lambda path: path.symlink_to("../moved")))
case("a checkpoint that is a pipe")(step_as(os.mkfifo))
case("a checkpoint that is a file")(step_as(lambda path: path.write_bytes(b"x")))
case("a checkpoint that is a link to nowhere")(step_as(lambda path: path.symlink_to("nowhere")))


def numbers(change):
    """A case's function: other numbers in the arrays, with the right checksums."""

    def spoil(run):
        manifest, content = find(run, "manifest.json"), bytearray(find(run, "arrays.bin").read_bytes())
        start = 0

        def reseal_all(values):
            nonlocal start
            for entry in values["arrays"]:
                end = start + checkpoint._size_of(entry)
                content[start:end] = change(entry, bytes(content[start:end]))
                entry["sha256"] = hashlib.sha256(content[start:end]).hexdigest()
                start = end

        reseal(manifest, reseal_all)
        find(run, "arrays.bin").write_bytes(content)

    return spoil


def poison(part, value):
    def change(entry, content):
        if part in entry["name"] and entry["dtype"] == "float32":
            return np.full(len(content) // 4, value, np.float32).tobytes()
        return content

    return change


for value in (math.nan, math.inf, -math.inf):
    case(f"{value} in what a healthy seed has learned")(numbers(poison("['state'].algo", value)))
case("bools that are neither", ACCEPTED, ACCEPTED)(
    numbers(lambda entry, content: b"\x07" * len(content) if entry["dtype"] == "bool" else content)
)
case("keys of all ones", ACCEPTED, ACCEPTED)(
    numbers(lambda entry, content: b"\xff" * len(content) if "key<" in entry["dtype"] else content)
)


# What a run writes to may lead out of its directory.
def linked(path, target):
    if path.is_dir():
        shutil.move(path, path.with_name("moved"))
    else:
        path.unlink(missing_ok=True)
    path.symlink_to(target)


case("a lock that is a link", load=ACCEPTED)(lambda run: linked(run / "lock", "../outside/victim"))
case("a lock that is a pipe", load=ACCEPTED)(lambda run: as_fifo(run / "lock"))
case("a lock that is a directory", load=ACCEPTED)(lambda run: as_directory(run / "lock"))
case("a lock with control characters", ACCEPTED, ACCEPTED)(lambda run: (run / "lock").write_text("\x1b[2J\n"))
case("a seed that is a link", load=ACCEPTED)(lambda run: linked(run / "seed0", "../outside/seed"))
case("a seed that is a file", load=ACCEPTED)(
    lambda run: shutil.move(run / "seed0", run / "moved") and (run / "seed0").touch()
)


@case("checkpoints that are a link", load=ACCEPTED)
def linked_checkpoints(run):
    shutil.copytree(run / "checkpoints", run.parent / "outside" / "checkpoints")
    linked(run / "checkpoints", "../outside/checkpoints")


@case("temporary files that are links", ACCEPTED, ACCEPTED)
def linked_temporaries(run):
    for name in (".run.json.tmp", "seed0/.config.json.tmp", "seed0/.metrics.jsonl.tmp"):
        (run / f"{name}-{os.getpid()}").symlink_to(run.parent / "outside" / "victim")


for name in ("metrics.jsonl", "progress.txt"):
    # A log that is a link is not followed; of one that does not end, the lines that count are read.
    case(f"{name} as_sparse", ACCEPTED, ACCEPTED)(lambda run, name=name: as_sparse(run / "seed0" / name))
    for way in (as_link, as_fifo, as_endless, as_directory, as_socket):
        case(f"{name} {way.__name__}", load=ACCEPTED)(
            lambda run, name=name, way=way: way(run / "seed0" / name)
        )
    case(f"{name} that is missing", load=ACCEPTED)(lambda run, name=name: (run / "seed0" / name).unlink())


@case("metrics.jsonl of one line without an end", load=ACCEPTED)
def endless_line(run):
    (run / "seed0" / "metrics.jsonl").write_bytes(b"")
    as_sparse(run / "seed0" / "metrics.jsonl")


LINES = {
    "5,000 digits": '{"step": ' + "9" * 5000 + "}",
    "400 digits": '{"step": ' + "9" * 400 + "}",
    "lists in lists": "[" * 60_000,
    "a list": "[1]",
    "too little": '{"step": 1}',
    "texts": '{"step": "\\u001b[31m"}',
    "control characters": "\x1b[31m\x9b",
}
for title, line in LINES.items():
    case(f"metrics.jsonl with {title}", load=ACCEPTED)(
        lambda run, line=line: (run / "seed0" / "metrics.jsonl").write_text(f"{line}\n{line}\n")
    )


class Reached(BaseException):
    """A resumed run was about to compile, which is as far as it goes here."""


def tree_of(path, leave_out=()):
    """What is below `path`, without opening anything but files: names, kinds and contents."""
    found = {}
    for folder, names, files in os.walk(path):
        names[:] = [name for name in names if Path(folder, name) not in leave_out]
        for name in (*names, *files):
            entry = Path(folder, name)
            facts = entry.lstat()
            kind = stat.S_IFMT(facts.st_mode)
            content = os.readlink(entry) if stat.S_ISLNK(kind) else None
            if stat.S_ISREG(kind) and facts.st_size < 10**8:
                content = hashlib.sha256(entry.read_bytes()).hexdigest()
            found[str(entry)] = [kind, facts.st_size if stat.S_ISREG(kind) else 0, content]
    return found


def memory(field):
    """MiB that this process has (VmRSS), or had at most since the last reset (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


class Hang(BaseException):
    """An attempt took longer than anybody waits."""


def hang(*_):
    raise Hang


def attempt(action):
    """What came of it: the error's type and text, the seconds, and the most MiB that the process had."""
    Path("/proc/self/clear_refs").write_text("5")
    began, error = time.monotonic(), None
    signal.alarm(10)
    try:
        action()
    except Reached:
        pass
    except (Exception, Hang) as raised:
        error = [type(raised).__name__, str(raised)]
    finally:
        signal.alarm(0)
    return {"error": error, "seconds": time.monotonic() - began, "mebibytes": memory("VmHWM")}


def traced_once(function):
    """`function(driver, cfg, ...)`, which only traces, called once for each `cfg` and not for every case."""
    known = {}

    def cached(driver, *args):
        if args not in known:
            known[args] = function(driver, *args)
        return known[args]

    return cached


def main(directory):
    """Open every case in a directory of its own, and say what came of it."""
    cfg, parts, where = purerl.make_config(**PPO), sound(**PPO), Path(directory)
    os.chdir(where)
    os.fsync = lambda number: None  # nobody cuts the power here
    parts.write(where / "sound", [(32, 2)])
    outside = where / "sound-outside"
    (outside / "seed").mkdir(parents=True)
    (outside / "victim").write_text("untouched")
    (outside / "model.xml").write_text("<mujoco/>")
    (outside / "seed" / ".mine.tmp-1").write_text("untouched")
    signal.signal(signal.SIGALRM, hang)

    for name in ("Program", "_state_shapes", "make_plan"):
        setattr(rim, name, traced_once(getattr(rim, name)))

    def stop(*_):
        raise Reached

    for name in ("compile", "start"):
        setattr(Program, name, stop)
    actions = {
        "load": purerl.load,
        "resume": lambda path: purerl.run(cfg, SEEDS, path, resume=True, progress=False),
    }

    def examine(name, way):
        home = where / "case"
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(where / "sound", home / "run")
        shutil.copytree(outside, home / "outside")
        CASES[name].spoil(home / "run")
        inside = [] if way == "load" else [home / "run"]
        before = tree_of(where, inside)
        found = attempt(lambda: actions[way](home / "run"))
        after = tree_of(where, inside)
        touched = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
        return found | {"touched": touched, "sentinel": any(where.rglob("SENTINEL"))}

    for way, action in actions.items():  # what is loaded and cached once is not the cases' doing
        action_on = functools.partial(action, where / "sound")
        for _ in range(2):
            if error := attempt(action_on)["error"]:
                raise SystemExit(f"{way} of the sound run: {error}")
    results, baseline = collections.defaultdict(dict), memory("VmRSS")
    for name in CASES:
        for way in actions:
            results[name][way] = result = examine(name, way)
            result["mebibytes"] -= baseline
            for _ in range(3):  # another process may have had the processor
                if result["seconds"] < 1 or result["error"] == ["Hang", ""]:
                    break
                again = examine(name, way)
                result["seconds"] = min(result["seconds"], again["seconds"])
    print(json.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
