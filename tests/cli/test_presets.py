"""The data file of settings: each works, says what the algorithms do, and gives way to what a user says."""

import json

import pytest

import purerl
from purerl import registry
from purerl.config import ConfigError, to_dict
from purerl.experiment import cli, presets
from purerl.experiment.config_file import read_config
from purerl.make import env_of, spec_of, validate

NAMES = list(presets.read_presets())
RUN = ("algo", "env", "engine", "env_kwargs", "seed", "total_timesteps")
"""What says what is run, rather than how."""


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_fits_its_task(name):
    cfg = purerl.from_preset(name)
    validate(cfg, spec_of(env_of(cfg)))


@pytest.mark.parametrize("algo", registry.ALGORITHMS)
def test_the_defaults_in_the_file_are_those_of_the_config(algo):
    written = read_config(presets.FILE)["defaults"]
    assert set(written) == set(registry.ALGORITHMS)
    expected = {name: value for name, value in to_dict(purerl.make_config(algo)).items() if name not in RUN}
    assert written[algo] == expected


def test_the_on_policy_family_has_settings_for_five_mujoco_tasks():
    tasks = ("half_cheetah", "hopper", "walker2d", "inverted_double_pendulum", "swimmer")
    assert {f"{algo}-{task}" for algo in ("ppo", "trpo", "a2c", "vpg") for task in tasks} <= set(NAMES)
    for name in NAMES:
        algo, dash, task = name.partition("-")
        cfg = purerl.from_preset(name)
        assert not dash or (cfg.algo, cfg.env) == (algo, task.partition("-")[0])


def test_fields_win_over_a_preset():
    cfg = purerl.from_preset("ppo-half_cheetah", gamma=0.5, env="hopper")
    assert (cfg.gamma, cfg.env, cfg.num_envs) == (0.5, "hopper", 64)
    assert purerl.from_preset("ppo_penalty").clip_eps is None


def test_the_command_line_wins_over_the_file_and_the_file_over_the_preset(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"num_envs": 32, "num_steps": 64}))
    _, plain = cli.parse(["--preset", "ppo-half_cheetah"])
    assert plain == purerl.from_preset("ppo-half_cheetah")
    words = ["--preset", "ppo-half_cheetah", "--config", str(path), "--num-steps", "128"]
    cfg = cli.parse(words)[1]
    assert (cfg.env, cfg.num_envs, cfg.num_steps, cfg.vf_coef) == ("half_cheetah", 32, 128, 0.25)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("--preset ppo-halfcheetah", ["preset = 'ppo-halfcheetah'", "Did you mean ppo-half_cheetah?"]),
        ("--preset ppo-hopper --algo sac", ["preset = 'ppo-hopper'", "made for ppo", "algo is sac"]),
        ("--preset ppo-hopper --resume runs/none", ["preset = 'ppo-hopper'", "has its own"]),
        ("--preset ppo-hopper --gama 1", ["gama", "Did you mean gamma?"]),
    ],
)
def test_what_cannot_be_meant_is_refused(words, parts):
    with pytest.raises(ConfigError) as error:
        cli.parse(words.split())
    for part in parts:
        assert part in str(error.value)


def test_an_unknown_preset_is_refused_in_a_notebook_too():
    with pytest.raises(ConfigError, match="Did you mean trpo-hopper"):
        purerl.from_preset("trpo-hoper")
    with pytest.raises(ConfigError, match="gama"):
        purerl.from_preset("trpo-hopper", gama=0.9)
