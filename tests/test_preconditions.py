"""Preconditions of a run on JAX, the system and the working directory."""

import os
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from tiny import seed_keys, tiny

import purerl
from purerl.cli.main import command
from purerl.config import ConfigError
from purerl.experiment import loading, preconditions, runner
from purerl.experiment.population import Population
from purerl.experiment.preconditions import allow_files, check_jax
from purerl.members import Members

REPOSITORY = Path(__file__).parents[1]
CFG = tiny("a2c", "cartpole", eval_interval=0)


class Reached(Exception):
    """The end of the part of a run that is of interest."""


def reached(*args):
    raise Reached


# JAX's switches


def test_a_run_is_refused_where_nothing_is_compiled(tmp_path, monkeypatch, capsys):
    """At once, in Python and on a command line; `make_train` needs no compilation."""
    monkeypatch.setattr(runner, "env_for", reached)
    with jax.disable_jit():
        with pytest.raises(
            ConfigError, match=r"jax_disable_jit = True: expected False, .*make_train"
        ) as error:
            purerl.run(CFG, logdir=tmp_path / "run")
        assert command(["train", "--logdir", str(tmp_path / "run"), "--compilation-cache", "none"]) == 2
    assert capsys.readouterr().err == f"error: {error.value}\n" and not list(tmp_path.iterdir())


def test_a_guard_of_transfers_lets_a_run_pass(tmp_path, monkeypatch):
    """To its first step; so do loading and a member's policy."""
    monkeypatch.setattr(Population, "compile", lambda *args: None)
    monkeypatch.setattr(runner, "Loop", lambda *args: SimpleNamespace(train=reached))
    state = jax.jit(jax.vmap(lambda key: purerl.make_driver(CFG).init(key, {})))(seed_keys(0, 1))
    with jax.transfer_guard("disallow"):
        with pytest.raises(Reached):
            purerl.run(CFG, 2, progress=False)
        purerl.make_policy(CFG, state, member=1)
        monkeypatch.setattr(loading, "read_record", lambda *args: reached(jnp.int32(len(args))))
        with pytest.raises(Reached):
            purerl.load(tmp_path)


# Platforms


@pytest.mark.parametrize("reason", ["Unable to initialize backend 'cuda': No visible GPU devices.", ""])
def test_a_platform_that_is_not_there(reason, monkeypatch):
    """One sentence with the value; JAX's reason is in it, where it gives one. Another error stays."""
    error = RuntimeError(reason) if reason else AssertionError()
    fake = SimpleNamespace(jax_disable_jit=False, jax_platforms="cuda")

    def devices():
        raise error

    monkeypatch.setattr(preconditions, "jax", SimpleNamespace(config=fake, devices=devices))
    with pytest.raises(
        ConfigError, match=r"JAX_PLATFORMS = 'cuda': expected platforms .* such as cpu"
    ) as caught:
        check_jax()
    assert reason in str(caught.value)
    fake.jax_platforms = None
    with pytest.raises(type(error)) as raised:
        check_jax()
    assert raised.value is error


def test_a_command_on_a_platform_that_is_not_there(tmp_path):
    """Nothing asks JAX for a device before."""
    words = [str(REPOSITORY / "scripts" / "train.py"), "--env", "half_cheetah", "--compilation-cache", "none"]
    env = os.environ | {"PYTHONPATH": str(REPOSITORY), "JAX_PLATFORMS": "abacus"}
    done = subprocess.run(
        [sys.executable, *words], check=False, cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, list(tmp_path.iterdir())) == (2, "", [])
    assert (
        done.stderr.startswith("error: JAX_PLATFORMS = 'abacus': expected ") and done.stderr.count("\n") == 1
    )


# Open files


@pytest.fixture
def few_files():
    """Let this process open 16 files more than it has."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")) + 16, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_run_raises_the_limit_on_open_files(few_files, tmp_path):
    """As far as it needs, with two logs a member; and never lowers it."""
    allow_files(Members(40, ({}, {})))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    allow_files(Members(1))
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == soft < 400
    files = [(tmp_path / str(i)).open("w") for i in range(160)]
    for file in files:
        file.close()


def test_more_logs_than_files_are_refused_before_anything_is_written(few_files, tmp_path, monkeypatch):
    def refuse(*args):
        raise ValueError("not allowed to raise maximum limit")

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    with monkeypatch.context() as patch:  # so that the fixture can put it back
        patch.setattr(resource, "getrlimit", lambda which: (limit, limit))
        patch.setattr(resource, "setrlimit", refuse)
        with pytest.raises(ConfigError, match=rf"seeds = 40: expected .* {limit} files .*`ulimit -n \d+`"):
            purerl.run(CFG, 40, tmp_path / "run", progress=False)
    assert not list(tmp_path.iterdir())


# The working directory


def test_a_run_stays_in_the_directory_where_it_began(tmp_path, monkeypatch):
    """An environment may change it; links stay links."""
    make, opened = runner.env_for, []
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runner, "env_for", lambda *args: (os.chdir("other"), make(*args))[1])
    monkeypatch.setattr(runner, "Store", lambda path: reached(opened.append(path)))
    with pytest.raises(Reached):
        purerl.run(CFG, logdir="link/run")
    assert opened == [tmp_path / "link" / "run"]


MUTANTS = {
    "a run is traced before it cannot be compiled": (
        "experiment/preconditions.py",
        "if jax.config.jax_disable_jit:",
        "if False:",
        "test_a_run_is_refused_where_nothing_is_compiled",
    ),
    "a run makes no transfers": (
        "experiment/runner.py",
        '@jax.transfer_guard("allow")  # of numbers between host and device, by which the loop here works\n',
        "",
        "test_a_guard_of_transfers_lets_a_run_pass",
    ),
    "loading makes no transfers": (
        "experiment/loading.py",
        '@jax.transfer_guard("allow")\n',
        "",
        "test_a_guard_of_transfers_lets_a_run_pass",
    ),
    "a policy makes no transfers": (
        "make.py",
        'jax.transfer_guard("allow")',
        'jax.transfer_guard("disallow")',
        "test_a_guard_of_transfers_lets_a_run_pass",
    ),
    "an error of JAX without words": (
        "experiment/preconditions.py",
        "except (RuntimeError, AssertionError) as error:",
        "except RuntimeError as error:",
        "test_a_platform_that_is_not_there",
    ),
    "every error of JAX is about a platform": (
        "experiment/preconditions.py",
        "        if not platforms:\n            raise\n",
        "",
        "test_a_platform_that_is_not_there",
    ),
    "JAX is asked for devices first": (
        "experiment/runner.py",
        "    check_jax()\n",
        "",
        "test_a_command_on_a_platform_that_is_not_there",
    ),
    "the limit on files stays": (
        "experiment/preconditions.py",
        "        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))\n",
        "        pass\n",
        "test_a_run_raises_the_limit_on_open_files",
    ),
    "files are counted as they are opened": (
        "experiment/runner.py",
        "        allow_files(members)\n",
        "        pass\n",
        "test_more_logs_than_files_are_refused_before_anything_is_written",
    ),
    "a run moves with the working directory": (
        "experiment/runner.py",
        "path and path.absolute()",
        "path",
        "test_a_run_stays_in_the_directory_where_it_began",
    ),
    "links are resolved": (
        "experiment/runner.py",
        "path and path.absolute()",
        "path and path.resolve()",
        "test_a_run_stays_in_the_directory_where_it_began",
    ),
}
