"""Sources of a configuration: files, presets, recorded runs and options, and their order."""

import json
import os
import re

import pytest

import purerl
from purerl import presets, registry
from purerl.cli import configure
from purerl.cli.configure import parse
from purerl.config import ConfigError
from purerl.config_file import LARGEST, read_config
from purerl.make import env_of, spec_of, validate

PRESETS = re.findall(r"^  ([\w-]+):$", presets.FILE.read_text("utf-8"), re.MULTILINE)
"""Names of the presets, without the reader of the file: a fault in it is no error of collection."""
MUTANTS = {
    "the file wins": ("cli/configure.py", "fields | own)", "own | fields)", "test_order_of_the_sources"),
    "presets win": ("presets.py", "own) | fields)", "fields | own))", "test_order_of_the_sources"),
    "cartpole for all": (
        "algos/off_policy.py",
        'text("pendulum")',
        'text("cartpole")',
        "test_every_algorithm_fits_its_default_environment",
    ),
    "like wins": ("presets.py", "= presets[name] |", "|= presets[name] or", "test_like_inherits"),
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


def test_the_largest_file_is_read(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("env_kwargs: {xs: [" + "1," * (LARGEST // 2 - 12) + "1]}")
    assert len(read_config(path)["env_kwargs"]["xs"]) == LARGEST // 2 - 11


def test_only_regular_files_are_opened(tmp_path):
    """A pipe would block and a device never end; a link to a regular file is followed."""
    os.mkfifo(tmp_path / "pipe.yaml")
    os.mkdir(tmp_path / "folder.yaml")
    (tmp_path / "device.yaml").symlink_to("/dev/zero")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    (tmp_path / "good.json").write_text('{"gamma": 0.5}')
    (tmp_path / "link.json").symlink_to("good.json")
    refused = {"pipe": "regular file", "folder": "regular file", "device": "regular file", "loop": "loop"}
    for name, reason in (refused | {"missing": "No such file"}).items():
        with pytest.raises(ConfigError, match=reason):
            read_config(tmp_path / f"{name}.yaml")
    assert read_config(tmp_path / "link.json") == {"gamma": 0.5}


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


def test_the_presets_can_be_read():
    assert list(read_config(presets.FILE)["presets"]) == PRESETS


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_fits_its_task(name):
    cfg = purerl.from_preset(name)
    validate(cfg, spec_of(env_of(cfg)))
    assert parse(["--preset", name])[1] == cfg


@pytest.mark.parametrize("algo", registry.ALGORITHMS)
def test_every_algorithm_fits_its_default_environment(algo, capsys):
    """`--algo NAME` alone trains, and the help text names the environment."""
    cfg = parse(["--algo", algo])[1]
    validate(cfg, spec_of(env_of(cfg)))
    with pytest.raises(SystemExit):
        parse(["--algo", algo, "--help"])
    assert f"as `purerl.make_env` takes it. (default: {cfg.env})" in " ".join(capsys.readouterr().out.split())


@pytest.fixture
def file(monkeypatch, tmp_path):
    """`file(presets)`: a file of presets in place of the library's."""
    path = tmp_path / "presets.json"
    monkeypatch.setattr(presets, "FILE", path)
    return lambda values: path.write_text(json.dumps({"presets": values}))


def test_like_inherits(file):
    """Through a chain; the nearest value counts."""
    base = {"algo": "ppo", "gamma": 0.5, "seed": 1, "num_envs": 4}
    file({"c": {"like": "b", "seed": 3}, "b": {"like": "a", "gamma": 0.6, "seed": 2}, "a": base})
    assert purerl.from_preset("c") == purerl.make_config("ppo", gamma=0.6, seed=3, num_envs=4)
    assert purerl.from_preset("a") == purerl.make_config(**base)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"one": {"like": "two"}, "too": {}}, "like = 'two': expected one of one, too. Did you mean too?"),
        ({"one": {"like": ["two"]}, "two": {}}, "like = ['two']: expected one of one, two."),
        ({"one": {"like": "one"}}, "like = 'one': expected a preset that is not like one itself."),
        ({"one": {"like": "2"}, "2": {"like": "one"}}, "like = 'one': expected a preset that is not like"),
    ],
)
def test_wrong_inheritance_is_refused(file, values, message):
    file(values)
    with pytest.raises(ConfigError) as error:
        purerl.from_preset("one")
    assert str(error.value).startswith(message)


@pytest.fixture
def saved(monkeypatch):
    """A dict of fields: the config of every recorded run, of three seeds of ppo."""
    config = {"algo": "ppo", "env": "ant", "gamma": 0.5}
    monkeypatch.setattr(configure, "read_record", lambda path: {"seeds": 3, "config": config})
    return config


def test_a_resumed_run_keeps_its_options(saved):
    options, cfg = parse(["--resume", "runs/one", "--total-timesteps", "5"])
    assert (options.seeds, options.resume, options.algo) == (3, "runs/one", "ppo")
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
