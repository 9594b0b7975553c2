"""Tiny runs to stop, damage and resume, and the comparisons of them."""

import csv
import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache
from tiny import same_bits, tiny

import purerl
from purerl import programs
from purerl.experiment import checkpoint, loading, runner
from purerl.experiment.checkpoint import newest_first
from purerl.experiment.logs import MemberLog
from purerl.experiment.population import Population
from purerl.experiment.runner import Run
from purerl.experiment.untrusted import Manifest, read_manifest
from purerl.types import HostEnv

HERE = Path(__file__).parent
PIECE_ITERATIONS = 16
"""Few, so that a row of metrics takes several pieces."""
OFF_POLICY = dict(total_timesteps=520, learning_starts=120, batch_size=8, buffer_size=200)  # which wraps
OFF_POLICY |= dict(log_interval=100, eval_interval=200, eval_episodes=2, checkpoint_interval=150)
PHYSICS = OFF_POLICY | dict(env="half_cheetah", env_kwargs={"max_episode_steps": 50})  # of C MuJoCo
ON_POLICY = dict(num_envs=4, num_steps=8, total_timesteps=2560, normalize_obs=True, anneal_lr=True)
ON_POLICY |= dict(log_interval=640, eval_interval=1280, eval_episodes=2, checkpoint_interval=320)
SWEPT = dict(total_timesteps=160, log_interval=32, eval_interval=32, checkpoint_interval=24)
SWEPT |= dict(hidden_sizes=(4,), normalize_obs=True, anneal_lr=True)
SWEEP = {"learning_rate": [1e-4, 1e-3, 3e-3, 1e-2], "gamma": [0.9, 0.99]}


class Case(NamedTuple):
    """A run to try: the Config, the seeds and the sweep."""

    algo: str
    fields: dict[str, Any]
    seeds: int
    sweep: Mapping[str, Any] | None = None

    def config(self, **changes: Any):
        return tiny(self.algo, **{"learning_rate": 1e-3} | self.fields | changes)


CASES = {
    f"{algo}-{seeds}": Case(algo, fields, seeds)
    for algo, fields in (("sac", OFF_POLICY), ("td3", PHYSICS), ("ppo", ON_POLICY))
    for seeds in (1, 8)
}
SWEEP_CASE = CASES["sweep"] = Case("ppo", SWEPT, 3, SWEEP)
QUICK = ("sac-1", "sweep")
"""Cases of the quick tier; the others are slow."""
EVERY = [pytest.param(case, marks=() if case in QUICK else pytest.mark.slow) for case in CASES]


def go(case: str, path: Path | None, resume: bool = False, progress: bool = False, **changes: Any):
    """Start the run of a case, or resume it, with other fields of the Config if given."""
    options = {name: changes.pop(name) for name in ("allow_changes", "stop_at_return") if name in changes}
    cfg, (*_, seeds, sweep) = CASES[case].config(**changes), CASES[case]
    options |= {"sweep": None if resume else sweep, "resume": resume, "progress": progress}
    return purerl.run(cfg, seeds, path, **options)


# One compilation for many runs

KNOWN: dict[Any, Any] = {}
"""Drivers and compiled populations of this process, by configuration, members and pieces."""


def population_of(case: str, **changes: Any) -> Population:
    """Return the one that this process has trained of a case."""
    cfg, seeds = CASES[case].config(**changes), CASES[case].seeds
    known = [value for value in KNOWN.values() if isinstance(value, Population)]
    (one,) = (one for one in known if one.cfg == cfg and one.members.seeds == seeds)
    return one


def remembered(function):
    """Return `function` with its results repeated, where the Config names the environment."""

    @functools.wraps(function)
    def wrapped(first, env, *rest):
        cfg = first if isinstance(first, purerl.config.Config) else first.cfg
        if env.name != cfg.env or isinstance(env, HostEnv):  # made by a test, or closed after a run
            return function(first, env, *rest)
        key = function.__name__, cfg, repr(rest)
        if key not in KNOWN:
            KNOWN[key] = function(first, env, *rest)
        return KNOWN[key]

    return wrapped


def compile_once(compile_all):
    """Return `Population.compile` that does nothing the second time."""

    def wrapped(self, poll=lambda: None):
        poll()
        if not hasattr(self, "_finish"):
            compile_all(self, poll)

    return wrapped


@contextmanager
def shared_programs(cache: Path):
    """Compile each population once in this process, and once for all processes that use `cache`."""
    settings = cache_settings(cache)
    before = {name: jax.config.values[name] for name in settings}
    with pytest.MonkeyPatch.context() as patch:
        driver_of = remembered(loading.driver_of)
        patch.setattr(runner, "driver_of", driver_of)
        patch.setattr(loading, "driver_of", driver_of)
        patch.setattr(runner, "_population", remembered(runner._population))
        patch.setattr(Population, "compile", compile_once(Population.compile))
        patch.setattr(programs, "PIECE_ITERATIONS", PIECE_ITERATIONS)
        for values in (settings, before):
            compilation_cache.reset_cache()
            for name, value in values.items():
                jax.config.update(name, value)
            if values is settings:
                yield


def cache_settings(cache: Path) -> dict[str, Any]:
    return {"jax_compilation_cache_dir": str(cache), "jax_persistent_cache_min_compile_time_secs": 0.0}


def child_environment(cache: Path | None = None) -> dict[str, str]:
    """Return the environment of a process that imports this purerl and these tests."""
    paths = [str(Path(purerl.__file__).parents[1]), str(HERE.parent), str(HERE)]
    settings = cache_settings(cache) if cache else {}
    values = {name.upper(): str(value) for name, value in settings.items()}
    return os.environ | values | {"PYTHONPATH": os.pathsep.join(paths)}


@contextmanager
def process(*arguments: str, cache: Path | None = None, errors: Any = None) -> Iterator[Any]:
    """Start a Python that can be talked to, and does not outlive the block."""
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True)
    with subprocess.Popen([sys.executable, *arguments], env=child_environment(cache), **pipes) as started:
        try:
            yield started
        finally:
            started.kill()


# Stops

PHASES = {
    "warm-up": (Population, "advance", lambda population, snapshot: snapshot.step),
    "training": (Population, "advance", lambda population, snapshot: snapshot.step),
    "evaluation": (Population, "finish_row", lambda population, snapshot: snapshot.step),
    "logging": (MemberLog, "write", lambda log, row: row["step"]),
    "saving": (checkpoint, "write_sealed", lambda path, values: values["record"]["step"]),
}
"""Functions that a phase calls, and the step with which they are called."""


def stops(case: str) -> dict[str, int]:
    """Return a step of every phase that a run of the case has: within a row, or at its end."""
    if case == "sweep":
        return {"training": 40, "evaluation": 64, "logging": 96, "saving": 120}
    if "learning_starts" in CASES[case].fields:
        return {"warm-up": 30, "training": 140, "evaluation": 220, "logging": 320, "saving": 400}
    return {"training": 640, "evaluation": 1280, "logging": 1920, "saving": 2000}


def once(patch: pytest.MonkeyPatch, phase: str, step: int, act: Any) -> None:
    """Call `act` when the phase is next met, from `step` on."""
    owner, name, step_of = PHASES[phase]
    original, left = getattr(owner, name), [act]

    def wrapped(*args, **kwargs):
        if left and step_of(*args) >= step:
            left.pop()()
        return original(*args, **kwargs)

    patch.setattr(owner, name, wrapped)


def stop(signum: int = signal.SIGTERM) -> None:
    signal.raise_signal(signum)


def fail(*args, **kwargs):
    raise AssertionError("not expected to be called")


# Comparisons


def newest(path: Path) -> Manifest:
    """Return the manifest of the newest checkpoint."""
    return read_manifest(newest_first(Path(path) / "checkpoints")[0])


def step_of(path: Path) -> int:
    """Return the step of the newest checkpoint."""
    return newest(path).record["step"]


def rows_of(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the rows in every member's logs, without the time."""
    read = {}
    for log in sorted(Path(path).glob("*seed*/[mp]*")):
        lines = log.read_text().splitlines()
        rows = map(json.loads, lines) if log.suffix == ".jsonl" else csv.DictReader(lines, delimiter="\t")
        read[str(log.relative_to(path))] = [
            {name: value for name, value in row.items() if name.lower() != "time"} for row in rows
        ]
    return read


def assert_same(run: Run, whole: Run) -> None:
    """Compare checkpoints, logs and all that `run` returns but for the time, to the bit."""
    saved, expected = newest(run.logdir), newest(whole.logdir)
    assert saved.arrays == expected.arrays
    assert {**saved.record, "elapsed": 0} == {**expected.record, "elapsed": 0}
    assert rows_of(run.logdir) == rows_of(whole.logdir)
    assert run.metrics.keys() == whole.metrics.keys()
    for name, values in whole.metrics.items():
        np.testing.assert_array_equal(run.metrics[name], values, err_msg=name, strict=True)
    np.testing.assert_array_equal(run.steps, whole.steps)
    np.testing.assert_array_equal(run.diverged_at, whole.diverged_at)
    assert run.members == whole.members and same_bits(run.state, whole.state)


def contents(path: Path) -> dict[str, bytes]:
    """Return every file of a run but the lock."""
    files = (file for file in Path(path).rglob("*") if file.is_file() and file.name != "lock")
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def names_in(path: Path) -> list[str]:
    return sorted(entry.name for entry in Path(path).iterdir())
