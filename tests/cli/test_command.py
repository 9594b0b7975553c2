"""The command that trains: exit codes, runs of the script, and the compilation cache."""

import json
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from tiny import tiny_fields

from purerl.cli import compilation_cache, configure
from purerl.cli.configure import parse
from purerl.cli.main import command
from purerl.config import ConfigError
from purerl.experiment.signals import Interrupted
from purerl.experiment.untrusted import CheckpointError

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        ([-1, -1], 0),
        ([-1, 40], 3),
        (ConfigError("x", 1, "2"), 2),
        (CheckpointError("damaged"), 1),
        (OSError(28, "full"), 1),
        (Interrupted(15, "SIGTERM: saved"), 143),
        (KeyboardInterrupt(), 130),
        (KeyboardInterrupt(15), 143),
    ],
    ids=str,
)
def test_exit_codes(outcome, code, monkeypatch, capsys):
    def run(*args, **kwargs):
        if isinstance(outcome, BaseException):
            raise outcome
        return SimpleNamespace(diverged_at=np.array(outcome), metrics={}, logdir=None)

    monkeypatch.setattr(import_module("purerl.cli.train"), "run", run)
    assert command(["train", "--compilation-cache", "none"]) == code
    assert (capsys.readouterr().err == "") == isinstance(outcome, list)


def test_every_option_of_the_run_reaches_it(monkeypatch):
    calls = []
    done = SimpleNamespace(diverged_at=np.zeros(1), metrics={}, logdir=None)
    run = lambda *args, **options: calls.append((*args, options)) or done
    monkeypatch.setattr(import_module("purerl.cli.train"), "run", run)
    record = {"seeds": 3, "first_seed": 7, "config": {"algo": "sac"}}
    monkeypatch.setattr(configure, "read_record", lambda path: record)
    words = "--seeds 2 --first-seed 4 --logdir a --allow-changes --stop-at-return 5 --quiet"
    words += " --tensorboard --wandb p --devices 2"
    command(["train", *words.split(), "--compilation-cache", "none"])
    command(["resume", "b", "--compilation-cache", "none"])
    given = {"first_seed": 4, "resume": False, "allow_changes": True, "stop_at_return": 5.0}
    given |= {"exp_name": None, "sinks": ["tensorboard", "wandb:p"], "devices": 2}
    plain = {"first_seed": 7, "resume": True, "allow_changes": False, "stop_at_return": None}
    plain |= {"exp_name": None, "sinks": [], "devices": None}
    assert calls == [
        (parse([])[1], 2, "a", given | {"progress": False}),
        (parse(["--algo", "sac"])[1], 3, "b", plain | {"progress": True}),
    ]


def script(directory, *argv, **environment):
    """Run scripts/train.py in a process of its own, without a terminal."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "XDG_CACHE_HOME": str(directory)} | environment
    command = [sys.executable, str(REPOSITORY / "scripts" / "train.py"), *argv]
    return subprocess.run(
        command, check=False, cwd=directory, env=environment, capture_output=True, text=True, timeout=300
    )


def test_the_script_trains(tmp_path):
    """Exit code 0, a directory per seed, a record that is a config file, and plain lines for a log."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"algo": "a2c", **tiny_fields("a2c", "cartpole", eval_interval=0)}))
    process = script(tmp_path, "--config", "config.json", "--seeds", "2")
    assert process.returncode == 0, process.stderr
    assert "\x1b" not in process.stderr and re.search(r"(\d+) of \1 steps +[\d,]+ steps/s", process.stderr)
    seeds = sorted(tmp_path.glob("runs/a2c-cartpole-*/seed*"))
    assert [seed.name for seed in seeds] == ["seed0", "seed1"]
    for seed in seeds:
        last = json.loads((seed / "metrics.jsonl").read_text().splitlines()[-1])
        assert last["step"] >= 40 and last["v/loss"] is not None
    assert parse(["--config", str(seeds[1] / "config.json")])[1] == parse(["--config", str(path)])[1]


@pytest.mark.slow
def test_the_script_refuses_in_one_line(tmp_path):
    """In the plainest locale."""
    process = script(tmp_path, b"--env=\xff\x1b", LC_ALL="C", PYTHONUTF8="0")
    assert (process.returncode, process.stdout, list(tmp_path.iterdir())) == (2, "", [])
    assert process.stderr.startswith(r"error: env = '\udcff\x1b': expected ")
    assert process.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_second_process_compiles_nothing(tmp_path):
    """No program may hold an address, a counter or anything else of its process, the engine included."""
    words = "--algo sac --env half_cheetah --total-timesteps 60 --learning-starts 40 --log-interval 20"
    words += " --eval-interval 0 --hidden-sizes 8 --batch-size 4 --quiet --compilation-cache cache"
    compiled = []
    for run in ("one", "two"):
        process = script(tmp_path, *words.split(), "--logdir", run, JAX_EXPLAIN_CACHE_MISSES="1")
        assert process.returncode == 0, process.stderr
        compiled.append(process.stderr.count("PERSISTENT COMPILATION CACHE MISS"))
    assert compiled[0] >= 4 and compiled[1] == 0


def test_the_directory_of_the_cache(tmp_path, monkeypatch):
    """None for `none`; for `auto` that of the variable, or one in the user's cache; or the one given."""
    changes = {}
    monkeypatch.setattr(jax.config, "update", changes.__setitem__)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "theirs"))
    for where in ("none", "auto"):
        compilation_cache.use_compilation_cache(where)
    assert changes == {}
    compilation_cache.use_compilation_cache("ours")
    assert changes.pop("jax_compilation_cache_dir") == "ours" and set(changes.values()) == {0.0}
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    compilation_cache.use_compilation_cache("auto")
    assert Path(changes["jax_compilation_cache_dir"]).parent == tmp_path / "purerl" / "xla"
    monkeypatch.setenv("XDG_CACHE_HOME", "~/theirs")  # from a file of variables, which no shell has read
    monkeypatch.setenv("HOME", str(tmp_path))
    compilation_cache.use_compilation_cache("auto")
    assert Path(changes["jax_compilation_cache_dir"]).parents[2] == tmp_path / "theirs"
    monkeypatch.setattr(compilation_cache, "_processor", lambda: "another")  # code for one may not suit it
    assert compilation_cache._default() != Path(changes["jax_compilation_cache_dir"])
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # there is no home
    changes.clear()
    compilation_cache.use_compilation_cache("auto")
    assert changes == {}
