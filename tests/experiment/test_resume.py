"""Runs that are stopped, in every phase and by every means, end with the bits of one that never was."""

import functools
import hashlib
import itertools
import json
import os
import shutil
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import lab
import numpy as np
import pytest
from lab import CASES, EVERY, assert_same, contents, fail, go, newest, once, rows_of, step_of, stop, stops
from tiny import same_bits, tiny

import purerl
from purerl import ConfigError, programs
from purerl.experiment import checkpoint, loop
from purerl.experiment.population import Population
from purerl.experiment.signals import SIGNALS, Interrupted, Interrupts, SecondEndsAtOnce
from purerl.experiment.store import Store

MUTANTS = {
    "an evaluation is waited for": (
        "experiment/loop.py",
        ", self._interrupts.leaving():",
        ":",
        "test_what_takes_long_is_said_before",
    ),
    "no checkpoint by time": (
        "experiment/loop.py",
        " or time.monotonic() >= self._due[1]",
        "",
        "test_checkpoints_by_time",
    ),
    "a row in use is not stored": (
        "experiment/store.py",
        "int(np.asarray(replay.size).max()) + num_envs",
        "int(np.asarray(replay.size).max()) - num_envs",
        "test_signals_in_every_phase[sac-1]",
    ),
    "checkpoint before its row": (
        "experiment/loop.py",
        "self._is_due(snapshot.step) and not self._population.has_row(snapshot)",
        "self._is_due(snapshot.step)",
        "test_a_checkpoint_has_the_row_that_ends_with_it",
    ),
    "old hyperparameters": (
        "experiment/population.py",
        "snapshot.hyper if self.pbt else self.members.hyper(self.cfg)",
        "snapshot.hyper",
        "test_changes_are_used_and_recorded",
    ),
}


def twice():
    stop()
    stop()


# Signals


@pytest.mark.parametrize("case", EVERY)
def test_signals_in_every_phase(case, whole, tmp_path):
    """Ctrl-C, SIGTERM and SIGHUP end a run cleanly wherever they meet it, repeatedly, and lose nothing."""
    expected, path = whole(case), tmp_path / "run"
    before = [signal.getsignal(number) for number in SIGNALS]
    for i, (phase, step) in enumerate(stops(case).items()):
        signum = SIGNALS[i % len(SIGNALS)]
        with pytest.MonkeyPatch.context() as patch:
            once(patch, phase, step, functools.partial(stop, signum))
            with pytest.raises(Interrupted) as caught:
                go(case, path, resume=i > 0)
        message, saved = str(caught.value), step_of(path)
        assert caught.value.signum == signum and message.startswith(signal.Signals(signum).name), phase
        assert message.endswith(f"saved at step {saved:,} in {path}"), phase
        assert step <= saved <= step + 320, phase
        assert [signal.getsignal(number) for number in SIGNALS] == before
    assert_same(go(case, path, resume=True), expected)


def test_a_signal_during_compilation(tmp_path, monkeypatch):
    """It ends the run between two compilations, and there is nothing to save yet."""
    compiled, compile_one = [], jax.stages.Lowered.compile
    compile_and_stop = lambda lowered: (stop(), compiled.append(lowered), compile_one(lowered))[-1]
    monkeypatch.setattr(jax.stages.Lowered, "compile", compile_and_stop)
    with pytest.raises(Interrupted, match="SIGTERM: nothing to save yet"):
        go("sac-1", tmp_path, gamma=0.5)  # which this process has not compiled
    assert len(compiled) == 1


@pytest.mark.parametrize(("phase", "step"), [("compile", 0), ("saving", 520)])
def test_a_signal_at_either_end_of_a_run(phase, step, whole, tmp_path, monkeypatch):
    """It is not swallowed: otherwise the next of a series of runs would begin."""
    expected, compile_all = whole("sac-1"), Population.compile
    with monkeypatch.context() as patch:
        if phase == "compile":
            patch.setattr(Population, "compile", lambda *args: (compile_all(*args), stop()))
        else:
            once(patch, phase, step, stop)
        with pytest.raises(Interrupted, match=f"saved at step {step}"):
            go("sac-1", tmp_path)
    assert_same(go("sac-1", tmp_path, resume=True), expected)


@pytest.mark.parametrize(("phase", "step"), [("training", 200), ("saving", 300)])
def test_a_second_signal_does_not_wait(phase, step, whole, tmp_path):
    """It ends the run at once, without a save; the older checkpoint stays."""
    expected = whole("sac-1")
    with pytest.MonkeyPatch.context() as patch:
        once(patch, phase, step, twice)
        with pytest.raises(KeyboardInterrupt) as caught:
            go("sac-1", tmp_path)
    assert type(caught.value) is KeyboardInterrupt
    assert lab.names_in(tmp_path / "checkpoints") == ["step-000000000160-0001"]
    assert_same(go("sac-1", tmp_path, resume=True), expected)


def test_a_run_in_a_thread_leaves_signals_alone(whole, tmp_path):
    """Only the main thread may set handlers; elsewhere that is an error."""
    expected = whole("sac-1")
    with ThreadPoolExecutor(1) as pool:
        assert_same(pool.submit(go, "sac-1", tmp_path).result(), expected)


def test_signals_that_are_ignored_stay_ignored(monkeypatch):
    """A run started with nohup, or in the background of a script, is not ended by Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # restored by the fixture `heard`
    with Interrupts(fail) as interrupts:
        signal.raise_signal(signal.SIGINT)
        assert interrupts.pending is None
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_the_second_signal_ends_a_command_in_compiled_code():
    """The first is answered at once: Python's own handlers would wait until it returns."""
    code = """if True:
        import jax, os
        from purerl.experiment.signals import Interrupts, SecondEndsAtOnce, answering
        loop = jax.jit(lambda first: jax.lax.while_loop(lambda i: i < 9, lambda i: (i + 1) % 7, first))
        with SecondEndsAtOnce(), Interrupts(lambda text: print(text, flush=True)):
            loop(9)
            print("busy", flush=True)
            try:
                answering(lambda: jax.block_until_ready(loop(0)))
            except KeyboardInterrupt as error:  # where Python's handler comes first
                os._exit(128 + error.args[0])
    """
    with lab.process("-c", code) as process:
        assert process.stdout.readline() == "busy\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "SIGINT: ending cleanly; once more ends at once\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 128 + signal.SIGTERM


def test_commands_give_the_wake_up_pipe_back():
    """A leftover would end the process at its next two signals, in whatever it does then."""
    with SecondEndsAtOnce():
        pass
    assert signal.set_wakeup_fd(-1) == -1


# Resume


def test_a_run_that_was_good_enough_can_go_on(whole, tmp_path):
    """Stopped early because of its return, it is as exact as stopped by a signal."""
    expected = whole("sac-1")
    early = go("sac-1", tmp_path, stop_at_return=-1e5)
    assert early.steps.tolist() == [120, 220] == [120, step_of(tmp_path)]
    assert_same(go("sac-1", tmp_path, resume=True), expected)


def test_a_resumed_run_begins_new_episodes(tmp_path, capsys):
    """The rest goes on; episodes cannot be saved, and a message says so."""
    fields = dict(total_timesteps=76, learning_starts=16, log_interval=20, eval_interval=0, batch_size=8)
    cfg = tiny("sac", env="gym:Pendulum-v1", env_kwargs={}, checkpoint_interval=20, **fields)
    with pytest.MonkeyPatch.context() as patch:
        once(patch, "training", 40, stop)
        with pytest.raises(Interrupted):
            purerl.run(cfg, 1, tmp_path / "run", progress=False)
    rest = purerl.run(cfg, 1, tmp_path / "run", resume=True)
    said = capsys.readouterr().err
    assert "gym:Pendulum-v1 cannot be saved: its episodes begin again" in " ".join(said.split())
    assert rest.steps.tolist() == [16, 36, 56, 76] and np.isfinite(rest.metrics["q/loss"][:, 1:]).all()
    cfg, state = purerl.load(tmp_path / "run")
    policy = purerl.make_policy(cfg, state, member=0)
    action, _ = policy.act(policy.init(2), jnp.zeros((2, 3)), jax.random.key(0))
    assert action.shape == (2, 1)


def test_a_finished_run_is_left_as_it_is(whole, finished, monkeypatch):
    path = finished("sweep")
    before = contents(path)
    monkeypatch.setattr(checkpoint, "save", fail)
    monkeypatch.setattr(Population, "advance", fail)
    assert_same(go("sweep", path, resume=True), whole("sweep"))
    assert contents(path) == before


REFUSED = {
    "seeds": {},
    "first_seed": {},
    "algo": {},
    "env": {"env": "mountain_car_continuous"},
    "seed": {"seed": 1},
    "env_kwargs": {"env_kwargs": {"g": 9.0}},
    "learning_rate": {"learning_rate": 0.01},
    "hidden_sizes": {"hidden_sizes": (9,)},
    "num_envs": {"num_envs": 4},
    "log_interval": {"log_interval": 50},
    "eval_interval": {"eval_interval": 0},
}


@pytest.mark.parametrize("field", REFUSED)
def test_what_does_not_fit_is_refused_and_nothing_touched(field, halfway, monkeypatch):
    """It is named before a compilation, and the run stays as it was."""
    path = halfway("sac-1")
    before = contents(path)
    monkeypatch.setattr(jax.stages.Lowered, "compile", fail)
    cfg = CASES["sac-1"].config(**REFUSED[field])
    cfg = purerl.make_config("ppo", env="pendulum") if field == "algo" else cfg
    with pytest.raises(ConfigError) as caught:
        allowed = field != "learning_rate"
        options = {"seeds": 1 + (field == "seeds"), "first_seed": int(field == "first_seed")}
        purerl.run(cfg, logdir=path, resume=True, allow_changes=allowed, progress=False, **options)
    assert caught.value.field == field
    assert contents(path) == before


def test_changes_are_used_and_recorded(whole, halfway):
    """More steps, annealed towards the new end, and another coefficient; the same again is no change."""
    path, first = halfway("sweep"), rows_of(whole("sweep").logdir)
    changes = {"total_timesteps": 192, "ent_coef": 0.5}
    before = {name: getattr(CASES["sweep"].config(), name) for name in changes}
    run = go("sweep", path, resume=True, allow_changes=True, **changes)
    assert run.steps.tolist() == [32, 64, 96, 128, 160, 192]
    used = newest(path).arrays["['hyper']['ent_coef']"]["sha256"]
    assert used == hashlib.sha256(np.float32(0.5).tobytes()).hexdigest()
    for name, rows in rows_of(path).items():
        assert rows[0] == first[name][0] and rows[1] != first[name][1], name
    (change,) = json.loads((path / "run.json").read_text())["changes"]
    assert change["before"] == before and change["after"] == changes
    configs = [json.loads(config.read_text()) for config in path.glob("*seed*/config.json")]
    assert len(configs) == 24 and all(config == config | changes for config in configs)
    assert same_bits(go("sweep", path, resume=True, **changes).state, run.state)
    population = lab.population_of("sweep", **changes)
    snapshot = jax.tree.map(jnp.copy, population.start()._replace(state=run.state, step=192))
    last = population.advance(snapshot).state.algo.learner.params
    assert same_bits(last, run.state.algo.learner.params), "the step size at the new end is 0"
    snapshot = jax.tree.map(jnp.copy, population.start()._replace(state=run.state, step=152))
    assert not same_bits(population.advance(snapshot).state.algo.learner.params, last)


def test_a_run_that_saved_nothing_starts_again(whole, halfway):
    """Killed before its first checkpoint, a run has rows that no checkpoint knows."""
    path = halfway("sac-1")
    shutil.rmtree(path / "checkpoints")
    assert_same(go("sac-1", path, resume=True), whole("sac-1"))


def test_pieces_of_another_size(whole, halfway, monkeypatch):
    """A resumed run keeps the division into calls that it began with."""
    expected, path = whole("sac-1"), halfway("sac-1")
    monkeypatch.setattr(programs, "PIECE_ITERATIONS", 5)
    assert_same(go("sac-1", path, resume=True), expected)
    assert newest(path).record["pieces"] == [15, 10]
    population = lab.population_of("sac-1")
    assert programs.make_pieces(population.schedule, 1) == (5, 5), "a new run has others"


def test_a_checkpoint_has_the_row_that_ends_with_it(whole, tmp_path):
    """So the best policy of a killed run is the best of its logs."""
    whole("sweep")
    with pytest.MonkeyPatch.context() as patch:
        once(patch, "training", 96, twice)
        with pytest.raises(KeyboardInterrupt):
            go("sweep", tmp_path)
    saved = newest(tmp_path)
    assert (saved.record["step"], saved.record["rows"]) == (96, 3)


def test_checkpoints_by_time(whole, tmp_path, monkeypatch):
    """Ten minutes after the last one, by a clock that goes on by four at every look."""
    whole("sweep")
    saved, clock, save = [], itertools.count(step=240.0), Store.save
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(Store, "save", lambda self, at: (saved.append(at.step), save(self, at)))
    run = go("sweep", tmp_path, checkpoint_interval=0, checkpoint_minutes=10)
    assert len(saved) > 3 and saved[-1] == 160 and step_of(tmp_path) == 160
    assert same_bits(run.state, whole("sweep").state)


def test_what_takes_long_is_said_before(whole, halfway, capsys):
    """A stop, a save with its size, an evaluation that is left."""
    whole("sweep")
    path = halfway("sweep")
    with pytest.MonkeyPatch.context() as patch:
        once(patch, "evaluation", 64, stop)
        with pytest.raises(Interrupted):
            go("sweep", path, resume=True, progress=True)
    said = " ".join(capsys.readouterr().err.split())
    order = ["disk: a checkpoint every", "SIGTERM: ending cleanly", "saving ", "kB at step 64"]
    places = [said.index(words) for words in order]
    assert places == sorted(places)
    assert newest(path).record["rows"] == 1, "the evaluation at step 64 was left"


def test_the_clock_goes_on(halfway, monkeypatch):
    """The time column is that of training, however often it was interrupted."""
    load: Any = Store.load
    monkeypatch.setattr(Store, "load", lambda *args: load(*args)._replace(elapsed=5000.0))
    run = go("sac-1", halfway("sac-1"), resume=True)
    rows = (run.logdir / "seed0" / "metrics.jsonl").read_text().splitlines()
    times = [json.loads(row)["time"] for row in rows]
    assert times[0] < 5000 < times[1] < run.run_seconds < 6000


def test_a_directory_has_one_run_at_a_time(whole, tmp_path):
    """The second is refused by name, and the first does not notice."""
    expected, refusals = whole("sac-1"), []

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
    assert_same(run, expected)
