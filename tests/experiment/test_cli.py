"""The command line: every option does something, every mistake is explained."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from purerl.config import ConfigError
from purerl.experiment import cli

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


def test_without_a_terminal_there_are_plain_lines(trained):
    """Logs of batch jobs must be readable: no control characters, compile time told apart."""
    _, process = trained
    assert "\x1b" not in process.stderr and "compiled in" in process.stderr
    assert "300 of 300 steps" in process.stderr and "steps/s" in process.stderr
