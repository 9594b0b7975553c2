"""The command `purerl`: verbs, help, versions, the user's defaults, and names of directories."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import purerl
from purerl.cli.configure import RunOptions, directory_of, parse
from purerl.cli.main import VERBS, command
from purerl.config import ConfigError

MUTANTS = {
    "an unknown verb trains": (
        "cli/main.py",
        '    raise ConfigError("command", name, f"one of {\', \'.join(VERBS)}", hint)',
        '    return _verb("list")',
        "test_an_unknown_verb_is_one_line",
    ),
    "the user's file wins": (
        "cli/configure.py",
        "user_defaults() | cast(RunOptions, given)",
        "cast(RunOptions, given) | user_defaults()",
        "test_defaults_of_the_user",
    ),
    "the user's file sets anything": (
        "cli/configure.py",
        "if name not in USERS:",
        "if False:",
        "test_defaults_that_the_user_cannot_set",
    ),
    "a directory without a date": (
        "cli/configure.py",
        'if options.datestamp else ""',
        'if not options.datestamp else ""',
        "test_the_directory_of_a_run",
    ),
    "logdir and exp_name together": (
        "cli/configure.py",
        "if options.logdir and options.exp_name",
        "if False",
        "test_logdir_excludes_the_parts_of_a_directory",
    ),
}
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A directory of configurations that is the test's own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "purerl"


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"], ["help"]])
def test_the_overview_fits_80_columns(argv, capsys):
    assert command(argv) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert all(f"\n  {verb} " in text for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("flag", ["-h", "--help", "--help-all"])
def test_every_verb_has_help_of_80_columns(verb, flag, capsys):
    try:
        assert command([verb, flag]) == 0
    except SystemExit as end:
        assert end.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: purerl {verb}") and max(map(len, text.splitlines())) <= 80


def test_versions_are_one_line(capsys):
    assert command(["--version"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"purerl {purerl.__version__}, Python 3.") and text.count("\n") == 1
    assert "jax " in text and "mujoco " in text


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        (["trian"], "Did you mean train?"),
        (["--algo", "sac"], "Write: purerl train --algo ..."),
        (["resume"], "as in purerl resume runs/one"),
        (["resume", "--quiet"], "as in purerl resume runs/one"),
        (["resume", "/no/such"], "expected the directory of a run"),
    ],
)
def test_an_unknown_verb_is_one_line(argv, part, capsys):
    assert command(argv) == 2
    out, text = capsys.readouterr()
    assert part in text and text.startswith("error: ") and text.count("\n") == 1 and not out


def test_the_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "purerl", "--version"],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.startswith("purerl ")


def test_the_directory_of_a_run():
    """Data directory, name and date; a given logdir as it is."""
    assert directory_of(RunOptions(logdir="a b"), "ppo-ant") == "a b"
    plain = RunOptions(exp_name="one", data_dir="data", datestamp=False)
    assert directory_of(plain, "ppo-ant") == "data/one"
    name = directory_of(RunOptions(), "dqn-gym:ALE/Pong-v5")
    assert (
        name.startswith("runs/dqn-gym-ALE-Pong-v5-20") and len(name) == len("runs/dqn-gym-ALE-Pong-v5-") + 15
    )


def test_logdir_excludes_the_parts_of_a_directory():
    with pytest.raises(ConfigError, match=r"logdir = 'a': expected no value beside exp_name"):
        parse(["--logdir", "a", "--exp-name", "b"])


def test_defaults_of_the_user(home):
    """They give way to options, and to nothing that a resumed run has recorded."""
    home.mkdir(parents=True)
    (home / "defaults.toml").write_text('data_dir = "elsewhere"\nseeds = 3\nquiet = true\n')
    options = parse(["--seeds", "2"])[0]
    assert (options.data_dir, options.seeds, options.quiet) == ("elsewhere", 2, True)


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("seds = 3", "seds = 3: expected one of data_dir, .*Did you mean seeds"),
        ("learning_rate = 1e-3", "learning_rate = 0.001: expected one of data_dir"),
        ("seeds = 0", "seeds = 0: expected a whole number"),
        ("seeds = [", "a TOML file"),
    ],
)
def test_defaults_that_the_user_cannot_set(home, line, part):
    home.mkdir(parents=True)
    (home / "defaults.toml").write_text(line)
    with pytest.raises(ConfigError, match=part):
        parse([])


def test_short_help_shows_the_first_options_alone(capsys):
    """--help-all has every one, and says which algorithm's."""
    texts = []
    for flag in ("--help", "--help-all"):
        with pytest.raises(SystemExit):
            parse(["--algo", "sac", flag])
        texts.append(capsys.readouterr().out)
    short, long = texts
    assert "--total-timesteps" in short and "--tau" not in short and "--tau" in long
    assert len(short.splitlines()) < 60 < len(long.splitlines()) and "--help-all" in short


def test_resume_is_train_with_its_directory(monkeypatch):
    calls = []
    monkeypatch.setattr(import_module("purerl.cli.train"), "train", lambda argv: calls.append(argv) or 0)
    assert command(["resume", "runs/one", "--quiet"]) == 0
    assert calls == [["--resume", "runs/one", "--quiet"]]


def test_a_diverged_member_has_its_exit_code(monkeypatch):
    done = SimpleNamespace(diverged_at=np.array([-1, 5]), metrics={}, logdir=None)
    monkeypatch.setattr(import_module("purerl.cli.train"), "run", lambda *args, **options: done)
    assert command(["train", "--compilation-cache", "none"]) == 3
