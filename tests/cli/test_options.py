"""The command line: every option does something, every mistake is explained."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from flax.core import FrozenDict

from purerl import registry
from purerl.config import ALIASES, ConfigError
from purerl.experiment import cli, directory
from purerl.experiment.console import Display

REPOSITORY = Path(__file__).parents[2]
TINY = "--env pendulum --total-timesteps 300 --learning-starts 100 --log-interval 100 --eval-interval 0"
TINY = f"--algo sac {TINY} --hidden-sizes 8 --batch-size 8".split()


def test_options_become_fields():
    """Every config field by its own name, with dashes or underscores; optional ones take None."""
    arguments = "--learning-rate 1e-3 --hidden_sizes 32 16 --ent-coef 0.2 --seeds 4 --stop-at-return 5"
    options, cfg = cli.parse([*TINY[:4], *arguments.split()])
    assert (cfg.algo, cfg.env, cfg.learning_rate, cfg.ent_coef) == ("sac", "pendulum", 1e-3, 0.2)
    assert cfg.hidden_sizes == (32, 16) and (options.seeds, options.stop_at_return) == (4, 5.0)
    assert cli.parse([*TINY, "--ent-coef", "None"])[1].ent_coef is None


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        ("--total-timesteps 1e6", "total_timesteps", 1_000_000),
        ("--total-timesteps=1_000_000", "total_timesteps", 1_000_000),
        ("--total-timesteps 2.5e3", "total_timesteps", 2_500),
        ("--num-envs 8.0", "num_envs", 8),
        ("--hidden-sizes 1e2 64", "hidden_sizes", (100, 64)),
        ("--hidden-sizes=32", "hidden_sizes", (32,)),
        ("--gamma 1", "gamma", 1.0),
        ("--learning-rate .5e-3", "learning_rate", 5e-4),
        ("--max-grad-norm none", "max_grad_norm", None),
        ("--anneal-lr", "anneal_lr", True),
        ("--anneal-lr false", "anneal_lr", False),
        ("--anneal-lr=False", "anneal_lr", False),
        ("--no-anneal-lr", "anneal_lr", False),
        ("--no_anneal_lr --anneal_lr True", "anneal_lr", True),
        ("--seed 1 --gamma 0.5 --seed 2", "seed", 2),
        ("--env-kwargs {}", "env_kwargs", {}),
    ],
)
def test_values_are_read_as_people_write_them(words, field, value):
    """Whole numbers in any notation, switches in any form; of an option given twice the last counts."""
    got = getattr(cli.parse(words.split())[1], field)
    assert got == value and type(got) in (type(value), FrozenDict)


@pytest.mark.parametrize("word", ["--no-such", "--lr=1", "-x", "sac", "", "--no-", "=", "---gamma=1"])
def test_words_without_a_meaning_are_refused(word):
    """Wherever they stand."""
    for words in ([word], [word, "--seed", "1"], ["--seed", "1", "--quiet", word]):
        with pytest.raises(ConfigError):
            cli.parse(words)


def test_help_names_every_option_with_its_default(tmp_path, capsys):
    """Also the defaults that a file changes; and nothing is run."""
    path = tmp_path / "config.yaml"
    path.write_text("algo: sac\ngamma: 0.875\nhidden_sizes: [8, 9]\nenv_kwargs: {g: 1}\n")
    with pytest.raises(SystemExit) as caught:
        cli.train(["--config", str(path), "--help"])
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert caught.value.code == 0
    for name in [*vars(cli.RunOptions()), *vars(cli.parse(["--algo", "sac"])[1])]:
        assert f"--{name.replace('_', '-')} " in text
    assert all(default in text for default in ("0.875", "default: 8 9", '{"g": 1}', "default: sac"))


def test_every_alias_leads_to_an_option():
    """And hides none."""
    classes = [cli.RunOptions, *map(registry.config_class, registry.ALGORITHMS)]
    names = {field.name for cls in classes for field in dataclasses.fields(cls)}
    assert set(ALIASES.values()) <= names and not set(ALIASES) & names


def test_env_kwargs_are_json():
    """Keyword arguments of the environment reach it."""
    _, cfg = cli.parse([*TINY, "--env-kwargs", '{"g": 9.81}'])
    assert dict(cfg.env_kwargs) == {"g": 9.81}
    with pytest.raises(ConfigError, match="env_kwargs"):
        cli.parse([*TINY, "--env-kwargs", "g=9.81"])


@pytest.mark.parametrize("suffix", ["json", "yaml", "toml"])
def test_command_line_wins_over_file_wins_over_defaults(tmp_path, suffix):
    """The three sources of a value, in order; 3e-4, which YAML reads as text, is a number."""
    text = {
        "json": '{"algo": "sac", "env": "pendulum", "learning_rate": 3e-4, "gamma": 0.9, "seed": 7}',
        "yaml": "algo: sac\nenv: pendulum\nlearning_rate: 3e-4\ngamma: 0.9\nseed: 7\n",
        "toml": 'algo = "sac"\nenv = "pendulum"\nlearning_rate = 3e-4\ngamma = 0.9\nseed = 7\n',
    }[suffix]
    path = tmp_path / f"config.{suffix}"
    path.write_text(text)
    _, cfg = cli.parse(["--config", str(path), "--gamma", "0.95"])
    assert (cfg.algo, cfg.env, cfg.learning_rate) == ("sac", "pendulum", 3e-4)
    assert (cfg.gamma, cfg.seed, cfg.tau) == (0.95, 7, 0.005)
    assert cli.parse(["--config", str(path), "--gamma", "0.99"])[1].gamma == 0.99  # though a default
    path.write_text('{"gamma": 0.9}' if suffix == "json" else text.replace("sac", "ppo"))
    assert cli.parse(["--config", str(path), "--algo", "sac"])[1].algo == "sac"


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        ("json", '{"total_timesteps": 1e6, "learning_rate": "3e-4", "env_kwargs": {"tau": 2e-2}}'),
        ("json", '{"total_timesteps": "1e6", "learning_rate": 3e-4, "env_kwargs": "{\\"tau\\": 2e-2}"}'),
        ("yaml", "total_timesteps: 1e6\nlearning_rate: 3e-4\nenv_kwargs: {tau: 2e-2}"),
        ("YML", "total_timesteps: 1_000_000\nlearning_rate: '3e-4'\nenv_kwargs:\n  tau: +2.e-2"),
        ("toml", "total_timesteps = 1e6\nlearning_rate = 3e-4\nenv_kwargs.tau = 2e-2"),
        ("toml", "\ufefftotal_timesteps = 1_000_000\nlearning_rate = '3e-4'\n[env_kwargs]\ntau = 2e-2"),
    ],
)
def test_numbers_in_files_are_read_as_people_write_them(tmp_path, suffix, text):
    """In every format, and also among the environment's options."""
    path = tmp_path / f"config.{suffix}"
    path.write_text(text, encoding="utf-8")
    _, cfg = cli.parse(["--config", str(path)])
    assert (cfg.total_timesteps, cfg.learning_rate, cfg.env_kwargs) == (1_000_000, 3e-4, {"tau": 0.02})
    _, cfg = cli.parse(["--config", str(path), "--env-kwargs", '{"gravity": 1}'])
    assert cfg.env_kwargs == {"gravity": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "mapping"),
        ("{", "cannot be read"),
        ('{"lr": 1}', "learning_rate"),
        ('{"gamma": 2}', "gamma"),
    ],
)
def test_bad_files_are_explained(tmp_path, text, message):
    """A file is data from outside: whatever it holds, the answer is a ConfigError."""
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        cli.parse(["--algo", "sac", "--config", str(path)])


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        ("--algo sacc", ["algo = 'sacc'", "Did you mean sac?"]),
        ("--algo sac --env antt", ["env = 'antt'", "Did you mean ant?"]),
        ("--algo sac --env pendulum --lr 3e-4", ["--lr", "Did you mean learning_rate?"]),
        ("--algo sac --env pendulum --clip-eps 0.1", ["--clip-eps", "belongs to ppo"]),
        ("--algo sac --env cartpole", ["Discrete(2)", "Use ppo"]),
        ("--algo ppo --num-minibatches 7", ["num_minibatches = 7", "8 * 256"]),
        ("--algo sac --env pendulum --gamma 1.5", ["gamma = 1.5", "at most 1"]),
        ("--algo sac --env pendulum --learning-rate nan", ["learning_rate = nan"]),
        ("--algo sac --env pendulum --seeds 0", ["seeds = 0", "at least 1"]),
        ("--algo ppo --config nowhere.json", ["config = 'nowhere.json'"]),
    ],
)
def test_mistakes_are_explained(arguments, messages, capsys, tmp_path, monkeypatch):
    """Exit code 2 and one paragraph that names the option, the value and what is allowed."""
    monkeypatch.chdir(tmp_path)
    assert cli.train(arguments.split()) == 2
    error = capsys.readouterr().err
    assert all(message in error for message in messages), error
    assert not list(tmp_path.iterdir()), "a mistake leaves no files"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The script itself, in a process of its own, without a terminal."""
    directory = tmp_path_factory.mktemp("cli")
    command = [sys.executable, str(REPOSITORY / "scripts" / "train.py"), *TINY, "--seeds", "2"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return directory, subprocess.run(
        command, check=False, cwd=directory, env=environment, capture_output=True, text=True, timeout=300
    )


def test_the_script_trains_and_ends_by_itself(trained):
    """The main job in small: exit code 0, a directory per seed, at least one update per seed."""
    directory, process = trained
    assert process.returncode == 0, process.stderr
    seeds = sorted(directory.glob("runs/sac-pendulum-*/seed*"))
    assert [seed.name for seed in seeds] == ["seed0", "seed1"]
    for seed in seeds:
        last = json.loads((seed / "metrics.jsonl").read_text().splitlines()[-1])
        assert last["step"] == 300 and last["q/loss"] is not None
    again = cli.parse(["--config", str(seeds[1] / "config.json")])[1]
    assert again == cli.parse(TINY)[1], "the record of a run is a config file"


def test_without_a_terminal_there_are_plain_lines(trained):
    """Logs of batch jobs must be readable: no control characters, compile time told apart."""
    _, process = trained
    assert "\x1b" not in process.stderr and "compiled in" in process.stderr
    assert "300 of 300 steps" in process.stderr and "steps/s" in process.stderr


def test_a_model_that_a_resumed_run_names_is_not_opened(monkeypatch):
    """Unless it is ours, or the user names it too."""
    record = {"seeds": 1, "config": {"algo": "ppo", "env": "ant", "env_kwargs": {"xml_file": "/dev/zero"}}}
    monkeypatch.setattr(directory, "read_record", lambda path: record)
    with pytest.raises(ConfigError, match=r"xml_file = '/dev/zero' .*is not opened.*--env-kwargs"):
        cli.parse(["--resume", "runs/theirs"])
    given = ["--env-kwargs", json.dumps(record["config"]["env_kwargs"])]
    assert cli.parse(["--resume", "runs/theirs", *given])[1].env_kwargs["xml_file"] == "/dev/zero"
    record["config"]["env_kwargs"] = {"xml_file": "ant.xml"}
    assert cli.parse(["--resume", "runs/ours"])[1].env_kwargs["xml_file"] == "ant.xml"


@pytest.mark.parametrize("live", [False, True])
def test_brackets_in_names_are_no_markup(live, monkeypatch, capsys):
    if live:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", "200")
    with Display("ppo on [/x]", 100, 1) as display:
        display.say("in runs/[/x] and runs/[red]")
        display.phase("compiling [/y]")
    shown = capsys.readouterr().err
    assert "in runs/[/x] and runs/[red]" in shown and "ppo on [/x]" in shown and "compiling [/y]" in shown
