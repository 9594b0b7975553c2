"""Runs that are stopped, in every phase and by every means, end with the bits of one that never was."""

import errno
import functools
import hashlib
import itertools
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import victim
from jax.experimental.compilation_cache import compilation_cache

import purerl
from purerl import ConfigError
from purerl.config import to_dict
from purerl.experiment import checkpoint, program
from purerl.experiment.checkpoint import CheckpointError, newest_first, read_manifest
from purerl.experiment.console import Display
from purerl.experiment.directory import RunDirectory
from purerl.experiment.interrupts import SIGNALS, Interrupted, Interrupts, SecondEndsAtOnce
from purerl.experiment.logger import SeedLog
from purerl.experiment.program import Pieces, Program
from purerl.train import make_driver

CASES = list(victim.CASES)
RECORDED = "PURERL_KILLS" in os.environ
KILLS = int(os.environ.get("PURERL_KILLS", "5"))
"""SIGKILLs of each case that is killed: every case with 100 for the record, two with a few otherwise.

    XLA_FLAGS= PURERL_KILLS=100 pytest -s tests/experiment/test_resume.py -k kills
"""
CHEETAH = dict(algo="sac", env="half_cheetah", total_timesteps=40, learning_starts=0, batch_size=4)
CHEETAH |= dict(log_interval=20, eval_interval=0, hidden_sizes=(4,))


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Several pieces a row; and each program is traced once here, and compiled once for all processes."""
    path = tmp_path_factory.mktemp("cache")
    settings = {"jax_compilation_cache_dir": str(path), "jax_persistent_cache_min_compile_time_secs": 0.0}
    before = {name: jax.config.values[name] for name in settings}
    make = program.make_functions
    traced = functools.cache(lambda cfg, *rest: make(make_driver(cfg), cfg, *rest))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "make_functions", lambda driver, *args: traced(*args))
        patch.setattr(program, "PIECE_ITERATIONS", victim.PIECE_ITERATIONS)
        for values in (settings, before):
            compilation_cache.reset_cache()
            for name, value in values.items():
                jax.config.update(name, value)
            if values is settings:
                yield {name.upper(): str(value) for name, value in settings.items()}


@pytest.fixture(autouse=True)
def heard():
    """Ctrl-C reaches these tests, even where a script runs them in its background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run of a case that nothing stopped."""
    path = tmp_path_factory.mktemp("whole")
    return functools.cache(lambda case: go(case, path / case))


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """The directory of a run of a case that was stopped within a row; to be copied."""

    def begin(case):
        path = tmp_path_factory.mktemp("stopped") / case
        with pytest.MonkeyPatch.context() as patch:
            once(patch, "training", stops(case)["training"], stop)
            with pytest.raises(Interrupted):
                go(case, path)
        return path

    return functools.cache(begin)


@pytest.fixture
def halfway(stopped, tmp_path):
    """A copy of it: one row is logged, and the second under way."""
    return lambda case: Path(shutil.copytree(stopped(case), tmp_path / case))


def go(case, path, resume=False, progress=False, allow_changes=False, **changes):
    """Start the run of a case, or go on with it."""
    cfg, seeds = victim.config(case, **changes)
    return purerl.run(cfg, seeds, path, resume=resume, progress=progress, allow_changes=allow_changes)


def stop(signum=signal.SIGTERM):
    signal.raise_signal(signum)


def twice():
    stop()
    stop()


# Where a phase can be met, and at which step that is.
PHASES = {
    "compilation": (jax.stages.Lowered, "compile", lambda *args: 0),
    "warm-up": (Program, "advance", lambda program, snapshot: snapshot.step),
    "training": (Program, "advance", lambda program, snapshot: snapshot.step),
    "evaluation": (Program, "finish_row", lambda program, snapshot: snapshot.step),
    "logging": (SeedLog, "write", lambda log, row: row["step"]),
    "saving": (checkpoint, "write_sealed", lambda path, values: values["step"]),
}


def stops(case):
    """By phase, the step from which on to stop; each lies within a row, or at its end, as it should."""
    if case.startswith("sac"):
        steps = {"warm-up": 30, "training": 140, "evaluation": 220, "logging": 320, "saving": 400}
    else:
        steps = {"training": 640, "evaluation": 1280, "logging": 1920, "saving": 2000}
    return {"compilation": 0} | steps


def once(patch, phase, step, act):
    """Have `act` called when that phase is next met, from `step` on."""
    owner, name, step_of = PHASES[phase]
    original, left = getattr(owner, name), [act]

    def wrapped(*args, **kwargs):
        if left and step_of(*args) >= step:
            left.pop()()
        return original(*args, **kwargs)

    patch.setattr(owner, name, wrapped)


def newest(path) -> Any:
    """The manifest of the newest checkpoint, or None."""
    found = newest_first(Path(path) / "checkpoints")
    return read_manifest(found[0]) if found else None


def rows_of(path):
    """What the logs hold but for the time, of every seed."""
    read = {}
    for log in sorted(Path(path).glob("seed*/*")):
        if log.name == "metrics.jsonl":
            read[log] = [json.loads(line) for line in log.read_text().splitlines()]
        elif log.name == "progress.txt":
            header, *lines = (line.split("\t") for line in log.read_text().split("\n")[:-1])
            read[log] = [dict(zip(header, line, strict=True)) for line in lines]
    untimed = lambda row: {name: value for name, value in row.items() if name.lower() != "time"}
    return {str(log.relative_to(path)): [untimed(row) for row in rows] for log, rows in read.items()}


def assert_same(run, whole):
    """Every bit of the state, every row, and all that `run` returns, but for the time."""
    saved, expected = newest(run.logdir), newest(whole.logdir)
    assert saved.arrays == expected.arrays
    assert {**saved.record, "elapsed": 0} == {**expected.record, "elapsed": 0}
    assert rows_of(run.logdir) == rows_of(whole.logdir)
    assert run.metrics.keys() == whole.metrics.keys()
    for name, values in whole.metrics.items():
        np.testing.assert_array_equal(run.metrics[name], values, err_msg=name, strict=True)
    np.testing.assert_array_equal(run.steps, whole.steps)
    np.testing.assert_array_equal(run.diverged_at, whole.diverged_at)
    assert bits(run.state) == bits(whole.state)


def bits(tree):
    """The bytes of every array, by its name."""
    is_key = lambda leaf: jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {
        jax.tree_util.keystr(path): np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf).tobytes()
        for path, leaf in leaves
    }


def contents(path):
    """Every file of a run but the lock."""
    files = (file for file in Path(path).rglob("*") if file.is_file() and file.name != "lock")
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


@contextmanager
def python(*command, **options) -> Any:
    """Another process, which can be talked to, and does not outlive the block."""
    options |= dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with subprocess.Popen([sys.executable, *command], **options) as process:
        try:
            yield process
        finally:
            process.kill()


def fail(*args, **kwargs):
    raise AssertionError("this was not to be called")


@pytest.mark.parametrize("case", CASES)
def test_signals_in_every_phase(case, whole, tmp_path):
    """SIGTERM and Ctrl-C end a run cleanly wherever they meet it, again and again, and lose nothing."""
    before = [signal.getsignal(number) for number in SIGNALS]
    for i, (phase, step) in enumerate(stops(case).items()):
        signum = SIGNALS[i % 2]
        with pytest.MonkeyPatch.context() as patch:
            once(patch, phase, step, functools.partial(stop, signum))
            with pytest.raises(Interrupted) as caught:
                go(case, tmp_path, resume=i > 0)
        message, saved = str(caught.value), newest(tmp_path)
        assert caught.value.signum == signum and message.startswith(signal.Signals(signum).name), phase
        if phase == "compilation":
            assert "nothing to save yet" in message and saved is None
        else:
            assert message.endswith(f"saved at step {saved.step:,} in {tmp_path}"), phase
            assert step <= saved.step <= step + 320, phase
        assert [signal.getsignal(number) for number in SIGNALS] == before
    assert_same(go(case, tmp_path, resume=True), whole(case))


def test_a_signal_at_the_very_end_is_not_swallowed(whole, tmp_path):
    """Who stops a series of runs during the last save of one must not see the next one start."""
    with pytest.MonkeyPatch.context() as patch:
        once(patch, "saving", 520, stop)
        with pytest.raises(Interrupted, match="saved at step 520"):
            go("sac-1", tmp_path)
    assert_same(go("sac-1", tmp_path, resume=True), whole("sac-1"))


@pytest.mark.parametrize(("phase", "step"), [("training", 200), ("saving", 300)])
def test_a_second_signal_does_not_wait(phase, step, whole, tmp_path):
    """Whoever presses Ctrl-C twice is not told to wait for a save, and loses no older one."""
    with pytest.MonkeyPatch.context() as patch:
        once(patch, phase, step, twice)
        with pytest.raises(KeyboardInterrupt) as caught:
            go("sac-1", tmp_path)
    assert type(caught.value) is KeyboardInterrupt and newest(tmp_path).step == 160
    assert [entry.name for entry in (tmp_path / "checkpoints").iterdir()] == ["step-000000000160"]
    assert_same(go("sac-1", tmp_path, resume=True), whole("sac-1"))


def test_a_signal_before_the_first_step(whole, tmp_path):
    """It may come when nothing is left to compile, and nothing is trained yet."""
    compile_all = Program.compile
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Program, "compile", lambda *args: (compile_all(*args), stop()))
        with pytest.raises(Interrupted, match="saved at step 0"):
            go("sac-1", tmp_path)
    assert_same(go("sac-1", tmp_path, resume=True), whole("sac-1"))


def test_a_run_in_a_thread_leaves_signals_alone(whole, tmp_path):
    """Only the main thread may set handlers; elsewhere that would be an error."""
    with ThreadPoolExecutor(1) as pool:
        assert_same(pool.submit(go, "sac-1", tmp_path).result(), whole("sac-1"))


def test_a_run_that_was_good_enough_can_go_on(whole, tmp_path):
    """Stopped early because of its return, it is as exact as stopped by a signal."""
    cfg, seeds = victim.config("sac-1")
    early = purerl.run(cfg, seeds, tmp_path, stop_at_return=-1e5, progress=False)
    assert early.steps.tolist() == [120, 220] == [120, newest(tmp_path).step]
    assert_same(go("sac-1", tmp_path, resume=True), whole("sac-1"))


def test_signals_that_are_ignored_stay_ignored():
    """A run started with nohup, or in the background of a script, outlives a Ctrl-C meant for others."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            signal.raise_signal(signal.SIGINT)
            assert interrupts.pending is None
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_every_array_is_the_same_and_another_seed_has_others(whole, halfway):
    """Compared as arrays, so that the checksums are not their own witness; and the comparison can fail."""
    resumed = go("sac-1", halfway("sac-1"), resume=True)
    other = go("sac-1", resumed.logdir.with_name("other"), seed=1)
    for best in (False, True):
        state, expected, wrong = (
            bits(purerl.load(run.logdir, best=best)[1]) for run in (resumed, whole("sac-1"), other)
        )
        assert state == expected and len(state) > 20
        assert wrong.keys() == expected.keys() and wrong != expected
    assert newest(other.logdir).arrays != newest(resumed.logdir).arrays


def test_physics_goes_on_exactly(tmp_path):
    """MuJoCo's own state, which is opaque, warm start included, must be saved with the rest."""
    cfg = purerl.make_config(**CHEETAH)
    whole = purerl.run(cfg, 2, tmp_path / "whole", progress=False)
    with pytest.MonkeyPatch.context() as patch:
        once(patch, "training", 25, stop)
        with pytest.raises(Interrupted):
            purerl.run(cfg, 2, tmp_path / "run", progress=False)
    assert_same(purerl.run(cfg, 2, tmp_path / "run", resume=True, progress=False), whole)


# SIGKILL


def watch(process, path, phase, number, delay):
    """Let a victim train in `path`, and kill it `delay` seconds after it reports `phase` that often.

    Returns what it reported, as `(phase, step, time)`.
    """
    reports = []
    print(path, file=process.stdin, flush=True)
    for line in process.stdout:
        name, step = line.split()
        reports.append((name, int(step), time.monotonic()))
        number -= name == phase
        if name == phase and number == 0:
            time.sleep(delay)
            process.kill()
    process.wait()
    return reports


def plans(case, lives):
    """When to kill, for ever: half at any moment, half early in a phase, so that rare ones are met too."""
    rng = np.random.default_rng(list(map(ord, case)))
    phases = ["save", "train", "evaluate", "log", "compile", *["warmup"] * case.startswith("sac")]
    for phase in itertools.cycle(phases):
        length = 0.06 if phase == "save" else victim.PAUSES[phase] + 0.01
        yield phase, rng.integers(1, 4), rng.uniform(0, length)
        yield "start", 1, rng.uniform(0, np.median(lives))


@pytest.mark.parametrize("case", CASES if RECORDED else ["sac-8", "ppo-1"])
def test_kills_at_random_moments(case, whole, cache, tmp_path, caplog, record_property):
    """SIGKILL cannot be caught: whenever it comes, the newest state loads, and is as new as promised."""
    interval = victim.config(case)[0].checkpoint_interval
    lives, deaths, kills, begun = [5.0], Counter(), 0, time.monotonic()
    path, promised = tmp_path / "0", -1
    with ExitStack() as stack:
        errors = stack.enter_context((tmp_path / "errors").open("w"))
        spawn = functools.partial(python, victim.__file__, case, env=os.environ | cache, stderr=errors)
        waiting = [stack.enter_context(spawn())]
        for plan in plans(case, lives):
            if kills == KILLS:
                break
            waiting.append(stack.enter_context(spawn()))
            process = waiting.pop(0)
            reports = watch(process, path, *plan)
            assert process.returncode in (0, -signal.SIGKILL), (tmp_path / "errors").read_text()
            kills += process.returncode != 0
            deaths[reports[-1][0] if process.returncode else "end"] += 1
            pieces = [(step, moment) for name, step, moment in reports if name in ("warmup", "train")]
            lives += [moment - reports[0][2] + 3 for _, moment in pieces[:1]]  # 3 seconds of training
            due = [step // interval * interval for step, _ in pieces if step >= interval]
            promised = max([promised, *due, *(step for name, step, _ in reports if name == "saved")])
            try:
                purerl.load(path)
                assert newest(path).step >= promised
            except (ConfigError, CheckpointError):
                assert promised == -1
            half = reports[-1][0] == "save" and any(path.glob("checkpoints/.tmp-step-*"))
            deaths["save, half of it on disk"] += half
            assert not [record for record in caplog.records if record.name == "purerl"], "damage was met"
            if process.returncode == 0:  # it was quicker than we: the next one starts anew
                assert_same(go(case, path, resume=True), whole(case))
                path, promised = tmp_path / str(deaths["end"]), -1
    assert_same(go(case, path, resume=(path / "run.json").exists()), whole(case))
    assert not list(path.rglob(".*")), "litter of the killed is left"
    summary = f"{case}: {dict(deaths)} in {time.monotonic() - begun:.0f} s"
    record_property("kills", summary)
    print(summary)


def test_the_second_signal_ends_a_command_deep_in_compiled_code(tmp_path):
    """Python's own handlers wait until compiled code returns, which may take minutes."""
    code = """if True:
        import jax
        from purerl.experiment.interrupts import Interrupts, SecondEndsAtOnce
        loop = jax.jit(lambda first: jax.lax.while_loop(lambda i: i < 9, lambda i: (i + 1) % 7, first))
        with SecondEndsAtOnce(), Interrupts():
            loop(9)
            print("busy", flush=True)
            jax.block_until_ready(loop(0))
    """
    with python("-c", code) as process:
        assert process.stdout.readline() == "busy\n"
        process.send_signal(signal.SIGINT)
        time.sleep(1)
        assert process.poll() is None, "one signal asks for a clean end, and is no end"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=5) == 128 + signal.SIGTERM


def test_commands_give_the_wake_up_pipe_back():
    """A leftover would end the process at its next two signals, in whatever it does then."""
    with SecondEndsAtOnce():
        pass
    assert signal.set_wakeup_fd(-1) == -1


# Going on, or not


def test_a_finished_run_is_left_as_it_is(whole, tmp_path, monkeypatch):
    """A scheduler may start a run again that had just finished."""
    path = shutil.copytree(whole("sac-8").logdir, tmp_path / "run")
    before = contents(path)
    monkeypatch.setattr(checkpoint, "save", fail)
    monkeypatch.setattr(Program, "advance", fail)
    assert_same(go("sac-8", path, resume=True), whole("sac-8"))
    assert contents(path) == before


REFUSED = [
    ("seeds", {}),
    ("algo", {}),
    ("env", {"env": "half_cheetah"}),
    ("seed", {"seed": 1}),
    ("env_kwargs", {"env_kwargs": {"g": 9.0}}),
    ("learning_rate", {"learning_rate": 0.01}),
    ("hidden_sizes", {"hidden_sizes": (9,)}),
    ("buffer_size", {"buffer_size": 100}),
    ("num_envs", {"num_envs": 4}),
    ("learning_starts", {"learning_starts": 100}),
    ("log_interval", {"log_interval": 50}),
    ("eval_interval", {"eval_interval": 0}),
]


@pytest.mark.parametrize(("field", "changes"), REFUSED, ids=[field for field, _ in REFUSED])
def test_what_does_not_fit_is_refused_and_nothing_touched(field, changes, halfway, monkeypatch):
    """What cannot go on exactly says so by name, before a compilation, and spoils nothing."""
    path = halfway("sac-1")
    before = contents(path)
    monkeypatch.setattr(jax.stages.Lowered, "compile", fail)
    cfg, seeds = victim.config("sac-1", **changes)
    cfg = purerl.make_config("ppo", env="pendulum") if field == "algo" else cfg
    with pytest.raises(ConfigError) as caught:
        allowed = field != "learning_rate"
        purerl.run(cfg, seeds + (field == "seeds"), path, resume=True, allow_changes=allowed, progress=False)
    assert caught.value.field == field
    assert contents(path) == before


def test_evaluation_cannot_begin_later(tmp_path):
    """A run without evaluation has no tallies and no best policy for one."""
    cfg, seeds = victim.config("sac-1", eval_interval=0)
    directory = RunDirectory(tmp_path)
    directory.write_record({"config": to_dict(cfg), "seeds": seeds, "pieces": [15, 10], "changes": []})
    directory.close()
    with pytest.raises(ConfigError, match=r"eval_interval = 200 is not allowed: .*does not fit"):
        go("sac-1", tmp_path, resume=True, allow_changes=True)


def test_another_learning_rate_is_used_and_recorded(whole, halfway):
    """What was changed on the way can be read later; and a change that has no effect is none."""
    path, first = halfway("ppo-8"), rows_of(whole("ppo-8").logdir)
    run = go("ppo-8", path, resume=True, allow_changes=True, learning_rate=0.01)
    changed = rows_of(path)
    for name, rows in first.items():
        assert changed[name][0] == rows[0] and changed[name][1] != rows[1], name
    (change,) = json.loads((path / "run.json").read_text())["changes"]
    assert change["before"] == {"learning_rate": 3e-4} and change["after"] == {"learning_rate": 0.01}
    for i in range(8):
        assert json.loads((path / f"seed{i}" / "config.json").read_text())["learning_rate"] == 0.01
    again = go("ppo-8", path, resume=True, learning_rate=0.01)
    assert bits(again.state) == bits(run.state)


def test_more_steps_follow_the_new_schedule(whole, tmp_path):
    """A run that is longer than planned is annealed towards its new end, from the step where it is."""
    case, total = "ppo-1", 2560 + 1280
    path = shutil.copytree(whole(case).logdir, tmp_path / "run")
    run = go(case, path, resume=True, allow_changes=True, total_timesteps=total)
    assert run.steps.tolist() == [640, 1280, 1920, 2560, 3200, 3840]

    cfg, seeds = victim.config(case, total_timesteps=total)
    planned = Program(make_driver(cfg), cfg, seeds, Pieces(1, 10))
    planned.compile()
    snapshot = planned.start()._replace(state=whole(case).state, step=2560)
    while snapshot.step < total:
        known = bits(snapshot.state.algo.learner.params)
        snapshot = planned.advance(jax.tree.map(jnp.copy, snapshot))
        assert bits(snapshot.state.algo.learner.params) != known, "the step size of the old end is 0 here"
    assert bits(snapshot.state) == bits(run.state)


def test_there_must_be_a_run(tmp_path):
    """A mistyped directory must not start a new run under another name."""
    for path in (tmp_path / "none", tmp_path, None):
        with pytest.raises(ConfigError, match="directory"):
            go("sac-1", path, resume=True)
    assert not (tmp_path / "none").exists()


def test_a_run_that_saved_nothing_starts_again(whole, halfway):
    """Killed before its first checkpoint, a run has rows of which no state knows."""
    path = halfway("sac-1")
    shutil.rmtree(path / "checkpoints")
    assert_same(go("sac-1", path, resume=True), whole("sac-1"))


def test_what_a_killed_process_left_is_cleared_away(whole, halfway):
    """Rows are logged at once, and checkpoints are rare: what the state does not know is cut off."""
    path = halfway("sac-8")
    for log in path.glob("seed*/*[lt]"):
        with log.open("a") as file:
            file.write(log.read_text().splitlines()[-1] + "\nhalf a ro")
    litter = path / "seed3" / ".config.json.tmp-123", path / ".run.json.tmp-45"
    for file in litter:
        file.write_text("half a fi")
    (path / "checkpoints" / ".tmp-step-000000000300-123").mkdir()
    run = go("sac-8", path, resume=True)
    assert not list(path.rglob(".*"))
    assert_same(run, whole("sac-8"))


def test_pieces_of_another_size(whole, halfway, tmp_path, monkeypatch):
    """How much is done at a time changes no bit; and a run keeps to what it began with."""
    case = "sac-1"
    expected, path = whole(case), halfway(case)
    monkeypatch.setattr(program, "PIECE_ITERATIONS", 5)
    assert_same(go(case, path, resume=True), expected)
    run = go(case, tmp_path / "other")
    assert newest(run.logdir).record["pieces"] != newest(path).record["pieces"]
    assert bits(run.state) == bits(expected.state)


def test_a_checkpoint_has_the_row_that_ends_with_it(tmp_path):
    """So the best policy of a run that was killed is the best of its logs."""
    with pytest.MonkeyPatch.context() as patch:
        once(patch, "training", 1280, twice)
        with pytest.raises(KeyboardInterrupt):
            go("ppo-1", tmp_path)
    saved = newest(tmp_path)
    assert (saved.step, saved.record["rows"]) == (1280, 2)
    arrays = {entry["name"]: entry["sha256"] for entry in saved.arrays}
    evaluated = hashlib.sha256(np.array([1280], np.int32).tobytes()).hexdigest()
    assert arrays["['best'].step"] == evaluated


def test_the_clock_goes_on(halfway, monkeypatch):
    """The time column is that of training, however often it was interrupted."""
    load: Any = RunDirectory.load
    monkeypatch.setattr(RunDirectory, "load", lambda *args: load(*args)._replace(elapsed=5000.0))
    run = go("ppo-1", halfway("ppo-1"), resume=True)
    rows = (run.logdir / "seed0" / "metrics.jsonl").read_text().splitlines()
    times = [json.loads(row)["time"] for row in rows]
    assert times[0] < 5000 < times[1] < run.run_seconds < 6000


@pytest.mark.parametrize("damage", ["", '{"step": 1\n', "[1]\n", '{"step": "many"}\n', "\xff\n"])
@pytest.mark.parametrize("name", ["metrics.jsonl", "progress.txt"])
def test_rows_that_are_gone_are_an_error(name, damage, halfway):
    """Logs that someone emptied or edited cannot be continued; the run says which."""
    path = halfway("ppo-1")
    (path / "seed0" / name).write_bytes(damage.encode("latin-1"))
    with pytest.raises(CheckpointError, match=name):
        go("ppo-1", path, resume=True)


def test_a_directory_has_one_run_at_a_time(whole, tmp_path):
    """Two writers would mix their rows; the first is not to notice the second."""
    refusals = []

    def intrude():
        for resume in (False, True):
            with pytest.raises(ConfigError) as caught:
                go("sac-1", tmp_path, resume)
            refusals.append(str(caught.value))

    with pytest.MonkeyPatch.context() as patch:
        once(patch, "training", 300, intrude)
        run = go("sac-1", tmp_path)
    assert all(f"process {os.getpid()} on {socket.gethostname()}" in text for text in refusals)
    assert len(refusals) == 2
    assert_same(run, whole("sac-1"))


def test_a_lock_dies_with_its_process(halfway, whole):
    """Another process is named, with its host; and one that was killed is no obstacle."""
    path = halfway("sac-1")
    code = f"""if True:
        import pathlib, sys
        from purerl.experiment.directory import RunDirectory
        directory = RunDirectory(pathlib.Path({str(path)!r}))
        print("held", flush=True)
        sys.stdin.read()
    """
    with python("-c", code) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match=rf"logdir = .*process {process.pid} on {socket.gethostname()}"):
            go("sac-1", path, resume=True)
        process.kill()
    assert_same(go("sac-1", path, resume=True), whole("sac-1"))


# What goes wrong on the way


@pytest.mark.parametrize("culprit", [(SeedLog, "write", 3), (Display, "row", 3), (Program, "finish_row", 5)])
def test_an_error_at_a_row_loses_none(culprit, whole, tmp_path, monkeypatch):
    """Whatever raises between two pieces, the last one is saved, and the error comes out as it is."""
    owner, name, row = culprit
    error, original, calls = RuntimeError("the pen is dry"), getattr(owner, name), itertools.count()
    per_row = 8 if owner is SeedLog else 1

    def raises(*args):
        if next(calls) == (row - 1) * per_row + per_row // 2:
            raise error
        return original(*args)

    monkeypatch.setattr(owner, name, raises)
    with pytest.raises(RuntimeError) as caught:
        go("sac-8", tmp_path)
    assert caught.value is error and error.__context__ is None
    assert newest(tmp_path).step == 120 + 100 * (row - 1) and newest(tmp_path).record["rows"] == row - 1
    assert_same(go("sac-8", tmp_path, resume=True), whole("sac-8"))


@pytest.fixture
def full_disk(monkeypatch):
    """`full_disk(way)` lets nothing more be written, in one way or another, and gives what undoes it."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    make_room = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, limits)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fill(way):
        if way == "limit":  # the kernel's own: no file may grow beyond this
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
            return make_room
        original = getattr(os, way)
        monkeypatch.setattr(os, way, full)
        return lambda: monkeypatch.setattr(os, way, original)

    yield fill
    make_room()


@pytest.mark.parametrize("way", ["limit", "fsync", "replace", "mkdir"])
def test_a_full_disk_does_not_end_training(way, whole, full_disk, tmp_path, monkeypatch, capsys):
    """A checkpoint that cannot be written is reported; those before it stay, and nothing half is left."""
    room, seen = [], []

    def look_and_make_room():
        seen.extend(entry.name for entry in (tmp_path / "checkpoints").iterdir())
        room[0]()

    once(monkeypatch, "training", 200, lambda: room.append(full_disk(way)))
    once(monkeypatch, "training", 480, look_and_make_room)
    run = go("sac-1", tmp_path, progress=True)
    said = capsys.readouterr().err
    assert "no checkpoint of step 300: " in said and "no checkpoint of step 460: " in said
    assert seen == ["step-000000000160"]
    assert_same(run, whole("sac-1"))


def test_a_full_disk_at_the_end_is_an_error(whole, full_disk, tmp_path, monkeypatch):
    """The last checkpoint is what a run is for: without it, the run has failed, and can go on later."""
    room = []
    once(monkeypatch, "training", 500, lambda: room.append(full_disk("fsync")))
    with pytest.raises(CheckpointError, match="No space left on device"):
        go("sac-1", tmp_path)
    room[0]()
    assert newest(tmp_path).step == 460
    assert_same(go("sac-1", tmp_path, resume=True), whole("sac-1"))


def test_logs_that_cannot_be_written_end_the_run_and_free_the_directory(whole, tmp_path, monkeypatch):
    """The first error counts, not those of closing the same files; and the lock is gone with the run."""

    class Full:
        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def flush(self):
            raise OSError(errno.ENOSPC, "the log's own")

        def close(self):
            self.file.close()
            raise OSError(errno.ENOSPC, "at the end")

    log_of = SeedLog.__init__

    def opened(self, *args):
        log_of(self, *args)
        self._progress = Full(self._progress)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SeedLog, "__init__", opened)
        with pytest.raises(OSError, match="the log's own"):
            go("sac-1", tmp_path)
    assert newest(tmp_path).step == 120
    assert_same(go("sac-1", tmp_path, resume=True), whole("sac-1"))


# Seeds that diverge


def poison(snapshot, seeds, part):
    """NaN in what these seeds know, or in what SAC has stored."""
    ill = lambda leaf: leaf.at[jnp.array(seeds)].set(jnp.nan)
    algo = snapshot.state.algo
    if part == "params":
        algo = algo._replace(learner=algo.learner._replace(params=jax.tree.map(ill, algo.learner.params)))
    else:
        data = algo.replay.data
        algo = algo._replace(replay=algo.replay._replace(data=data._replace(reward=ill(data.reward))))
    return snapshot._replace(state=snapshot.state._replace(algo=algo))


def poisoned(patch, at, seeds, part):
    """Have it done before the piece that begins at step `at`."""
    advance = Program.advance

    def wrapped(program, snapshot):
        snapshot = poison(snapshot, seeds, part) if snapshot.step == at else snapshot
        return advance(program, snapshot)

    patch.setattr(Program, "advance", wrapped)


@pytest.mark.parametrize(
    ("case", "part", "at", "piece", "row"), [("sac-8", "memory", 260, 4, 2), ("ppo-8", "params", 704, 64, 1)]
)
def test_a_seed_that_diverges_is_alone(case, part, at, piece, row, whole, tmp_path, monkeypatch, capsys):
    """It is frozen, named and blank from then on; the others keep every bit; and so it is when resumed."""
    clean, ill = whole(case), 1
    well = np.arange(8) != ill
    poisoned(monkeypatch, at, [ill], part)
    run = go(case, tmp_path / "run", progress=True)
    said = capsys.readouterr().err
    assert run.diverged_at.tolist() == [at + piece if seed == ill else -1 for seed in range(8)]
    assert f"seed {ill} has diverged by step {at + piece:,}" in said
    assert f"1 of 8 seeds diverged: {ill}" in said
    for name, values in clean.metrics.items():
        np.testing.assert_array_equal(run.metrics[name][well], values[well], err_msg=name)
        np.testing.assert_array_equal(run.metrics[name][ill, :row], values[ill, :row], err_msg=name)
    known = ("seed/diverged", "episode/count", "episode/diverged")
    for name in run.metrics.keys() - known:
        assert np.isnan(run.metrics[name][ill, row + 1 :]).all(), name
    assert run.metrics["seed/diverged"][ill].tolist() == [i >= row for i in range(len(run.steps))]
    last = rows_of(run.logdir)[f"seed{ill}/progress.txt"][-1]
    assert last["AverageEpRet"] == last["AverageTestEpRet"] == last["LossPi"] == ""
    select = lambda tree: bits(jax.tree.map(lambda leaf: leaf[well], tree))
    assert select(run.state) == select(clean.state)
    if part == "memory":  # what it knew was sound, and is what it falls back to
        learned = bits(jax.tree.map(lambda leaf: leaf[ill], run.state.algo.learner))
        assert all(np.isfinite(np.frombuffer(leaf, np.float32)).all() for leaf in learned.values())

    once(monkeypatch, "training", at + piece, stop)
    with pytest.raises(Interrupted):
        go(case, tmp_path / "stopped")
    then, last = (
        bits(jax.tree.map(lambda leaf: leaf[ill], purerl.load(logdir)[1].algo.learner))
        for logdir in (tmp_path / "stopped", run.logdir)
    )
    assert then == last, "it has learned something since"
    assert_same(go(case, tmp_path / "stopped", resume=True), run)


def test_a_run_of_which_no_seed_is_left_ends_with_its_row(tmp_path, monkeypatch, capsys):
    """Hours of frozen seeds help nobody; the row that shows it is complete, and the run can be resumed."""
    poisoned(monkeypatch, 768, list(range(8)), "params")
    poisoned(monkeypatch, 704, [0, 5], "params")
    run = go("ppo-8", tmp_path, progress=True)
    assert run.steps.tolist() == [640, 1280] and newest(tmp_path).step == 1280
    assert run.diverged_at.tolist() == [768 if seed in (0, 5) else 832 for seed in range(8)]
    assert "8 of 8 seeds diverged" in capsys.readouterr().err
    assert_same(go("ppo-8", tmp_path, resume=True), run)
