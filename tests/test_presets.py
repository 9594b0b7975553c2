"""Configurations by name, and from files."""

import json
import os
import re

import pytest

import purerl
from purerl import presets, registry
from purerl.cli.configure import parse
from purerl.config import ConfigError
from purerl.config_file import LARGEST, read_config
from purerl.make import env_of, spec_of, validate

PRESETS = re.findall(r"^  ([\w-]+):$", presets.FILE.read_text("utf-8"), re.MULTILINE)
"""Names of the presets, without the reader of the file: a fault in it is no error of collection."""
MUTANTS = {
    "cartpole for all": (
        "algos/off_policy.py",
        'text("pendulum")',
        'text("cartpole")',
        "test_every_algorithm_fits_its_default_environment",
    ),
    "like wins": ("presets.py", "= presets[name] |", "|= presets[name] or", "test_like_inherits"),
}


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
