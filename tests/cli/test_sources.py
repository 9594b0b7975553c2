"""Sources of a configuration: files, presets, recorded runs and options, and their order."""

import json

import pytest

import purerl
from purerl.cli import configure
from purerl.cli.configure import parse
from purerl.config import ConfigError

MUTANTS = {
    "the file wins": ("cli/configure.py", "fields | own)", "own | fields)", "test_order_of_the_sources"),
    "presets win": ("presets.py", "own) | fields)", "fields | own))", "test_order_of_the_sources"),
}


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
def test_files_in_any_notation(tmp_path, suffix, text):
    path = tmp_path / f"config.{suffix}"
    path.write_text(text, encoding="utf-8")
    fields = {"total_timesteps": 1_000_000, "learning_rate": 3e-4, "env_kwargs": {"tau": 0.02}}
    assert parse(["--config", str(path)])[1] == purerl.make_config("ppo", **fields)


def test_order_of_the_sources(tmp_path):
    """Options override the file, that the preset, and that the defaults."""
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"algo": "sac", "num_envs": 32, "gamma": 0.9}))
    cfg = parse(["--config", str(path), "--gamma", "0.99"])[1]  # the default of gamma
    assert cfg == purerl.make_config("sac", num_envs=32)
    cfg = parse(["--config", str(path), "--algo", "ppo"])[1]
    assert cfg == purerl.make_config("ppo", num_envs=32, gamma=0.9)
    path.write_text(json.dumps({"num_envs": 32, "num_steps": 64}))
    words = ["--preset", "ppo-half_cheetah", "--config", str(path), "--num-steps", "128"]
    assert parse(words)[1] == purerl.from_preset("ppo-half_cheetah", num_envs=32, num_steps=128)


@pytest.fixture
def saved(monkeypatch):
    """A dict of fields: the config of every recorded run, of three seeds of ppo."""
    config = {"algo": "ppo", "env": "ant", "gamma": 0.5}
    members = {"seeds": 3, "first_seed": 6}
    monkeypatch.setattr(configure, "read_record", lambda path: members | {"config": config})
    return config


def test_a_resumed_run_keeps_its_options(saved):
    options, cfg = parse(["--resume", "runs/one", "--total-timesteps", "5"])
    assert (options.seeds, options.first_seed, options.resume, options.algo) == (3, 6, "runs/one", "ppo")
    assert cfg == purerl.make_config(**saved, total_timesteps=5)
    assert parse(["--resume", "runs/one", "--seeds", "4"])[0].seeds == 4  # for `run` to refuse
    for words in ("--algo sac", "--logdir x", "--config x.json", "--preset ppo-hopper"):
        with pytest.raises(ConfigError, match="runs/one"):
            parse(["--resume", "runs/one", *words.split()])


def test_files_named_by_a_resumed_run_are_not_opened(saved):
    """Except those of purerl, and those that the command line names too."""
    saved["env_kwargs"] = {"xml_file": "/dev/zero"}
    with pytest.raises(ConfigError, match=r"xml_file = '/dev/zero': .*--env-kwargs"):
        parse(["--resume", "runs/theirs"])
    given = ["--env_kwargs", json.dumps(saved["env_kwargs"])]
    assert parse(["--resume", "runs/theirs", *given])[1].env_kwargs["xml_file"] == "/dev/zero"
    saved["env_kwargs"] = {"xml_file": "ant.xml"}
    assert parse(["--resume", "runs/ours"])[1].env_kwargs["xml_file"] == "ant.xml"
