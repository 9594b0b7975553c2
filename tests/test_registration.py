"""Environments and algorithms of the user, from the pages that describe them: recorded, loaded, resumed."""

import importlib
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny import same_bits, tiny_fields

import purerl
from purerl import registry
from purerl.cli.configure import parse
from purerl.cli.main import command
from purerl.config import ConfigError
from purerl.experiment.untrusted import write_sealed

DOCS = Path(__file__).parents[1] / "docs"
FIELDS = tiny_fields("sac", "pendulum", env_kwargs={}, eval_interval=0, checkpoint_interval=16)
"""Of a run of 40 steps."""


def first_block(page: str) -> str:
    return re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)[0]


def sealed_again(path, record):
    write_sealed(path, {name: value for name, value in record.items() if name != "sha256"})


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    """`(point, clipped)`: the first blocks of both pages, as modules of the user."""
    place = tmp_path_factory.mktemp("modules")
    pages = {"my_point": "own_environment.md", "my_clipped": "own_algorithm.md"}
    for name, page in pages.items():
        (place / f"{name}.py").write_text(first_block(page))
    sys.path.insert(0, str(place))
    yield [importlib.import_module(name) for name in pages]
    sys.path.remove(str(place))
    for name in pages:
        del sys.modules[name]


@pytest.fixture(autouse=True)
def nothing_registered():
    yield
    registry.OWN_ALGORITHMS.clear()
    registry.OWN_ENVIRONMENTS.clear()


@pytest.fixture(scope="module")
def run_dir(modules, tmp_path_factory):
    """A run of the user's algorithm on the user's environment, neither of them registered."""
    point, clipped = modules
    path = tmp_path_factory.mktemp("run") / "run"
    cfg = clipped.ClippedSACConfig(**FIELDS | {"hidden_sizes": (8,)})
    purerl.run(cfg, logdir=path, env=point.make_point(), progress=False)
    return path


def registered(modules):
    point, clipped = modules
    purerl.register_env("point", point.make_point)
    purerl.register_algorithm("clipped_sac", clipped.ClippedSACConfig)


def test_the_record_names_what_was_run(run_dir):
    record = json.loads((run_dir / "run.json").read_text())
    names = {name: record["config"][name] for name in ("algo", "env", "engine", "env_kwargs")}
    assert names == {"algo": "clipped_sac", "env": "point", "engine": "auto", "env_kwargs": {}}
    assert record["own"] == {"algorithm": "my_clipped:ClippedSACConfig", "env": "point"}
    assert json.loads((run_dir / "seed0" / "config.json").read_text())["env"] == "point"


def test_what_is_not_registered_is_one_sentence(run_dir, modules, capsys):
    """It says which argument is missing; nothing is imported for it."""
    point, clipped = modules
    algorithm = (
        r"algo = 'clipped_sac': expected .* algorithm of your own, 'my_clipped:ClippedSACConfig': register"
    )
    environment = (
        r"environment of your own, 'point': pass it as env=, or register it before, by purerl.register_env"
    )
    with pytest.raises(ConfigError, match=algorithm):
        purerl.load(run_dir, env=point.make_point())
    assert command(["resume", str(run_dir)]) == 2 and "algorithm of your own" in capsys.readouterr().err
    purerl.register_algorithm("clipped_sac", clipped.ClippedSACConfig)
    with pytest.raises(ConfigError, match=environment):
        purerl.load(run_dir)
    assert command(["resume", str(run_dir)]) == 2 and "environment of your own" in capsys.readouterr().err


def test_it_loads_and_resumes_once_registered(run_dir, modules, tmp_path):
    """Also with the environment as an argument; by place, modules are imported that the process named."""
    point, clipped = modules
    registered(modules)
    cfg, state = purerl.load(run_dir)
    assert type(cfg) is clipped.ClippedSACConfig and cfg.env == "point"
    policy = purerl.make_policy(cfg, state, member=0)
    assert policy.act((), np.zeros((2, 2)), None)[0].shape == (2, 2)
    registry.OWN_ENVIRONMENTS.clear()
    again, same = purerl.load(run_dir, env=point.make_point())
    assert again == cfg and same_bits(state.algo, same.algo)
    purerl.register_env("point", "my_point:make_point")
    purerl.register_algorithm("clipped_sac", "my_clipped:ClippedSACConfig")
    out = purerl.run(cfg, logdir=run_dir, resume=True, progress=False)
    assert same_bits(state.algo, out.state.algo)


def test_a_registered_name_is_known_like_a_built_in_one(modules):
    registered(modules)
    env = purerl.make_env("point", speed=0.1)
    assert env.default_params.speed == 0.1
    cfg = purerl.make_config("clipped_sac", **FIELDS | {"env": "point", "env_kwargs": {"speed": 0.3}})
    assert purerl.make_driver(cfg).env.default_params.speed == 0.3
    _, cfg = parse(["--algo", "clipped_sac", "--env", "point", "--largest-reward", "0.5"])
    assert (cfg.algo, cfg.env, cfg.largest_reward) == ("clipped_sac", "point", 0.5)
    with pytest.raises(ConfigError, match=r"Did you mean clipped_sac\?"):
        parse(["--algo", "cliped_sac"])
    with pytest.raises(ConfigError, match=r"Did you mean point\?"):
        purerl.make_env("poin")


def test_a_record_imports_nothing(run_dir, tmp_path, monkeypatch):
    """A place in the files of a run is text."""
    (tmp_path / "evil.py").write_text("raise SystemExit('ran')\n")
    monkeypatch.syspath_prepend(tmp_path)
    record = json.loads((run_dir / "run.json").read_text())
    record["own"] = {"algorithm": "evil:Config"}
    forged = tmp_path / "forged"
    forged.mkdir()
    sealed_again(forged / "run.json", record)
    with pytest.raises(ConfigError, match="'evil:Config': register it before"):
        purerl.load(forged)
    record["own"] = {"env": 3}
    sealed_again(forged / "run.json", record)
    with pytest.raises(ConfigError, match="parts of its own that no run has"):
        purerl.load(forged)
    assert "evil" not in sys.modules


def test_texts_of_a_record_are_not_given_to_a_factory(run_dir, modules, tmp_path):
    registered(modules)
    record = json.loads((run_dir / "run.json").read_text())
    record["config"]["env_kwargs"] = {"speed": "/etc/passwd"}
    sealed_again(tmp_path / "run.json", record)
    with pytest.raises(ConfigError, match="speed = '/etc/passwd': expected a number or a switch"):
        purerl.load(tmp_path)


def test_a_run_with_networks_of_ones_own_needs_them_again(run_dir, tmp_path):
    record = json.loads((run_dir / "run.json").read_text())
    record["own"] = {"networks": ["pi", "q"]}
    sealed_again(tmp_path / "run.json", record)
    with pytest.raises(ConfigError, match=r"networks = .*: expected .* networks of your own, q: pass them"):
        purerl.load(tmp_path, networks={"pi": (None, None)})


SHORT = {"total_timesteps": 64, "num_envs": 2, "num_steps": 8, "eval_interval": 0, "log_interval": 64}


class NoMake(purerl.Config):
    algo = "no_make"


def test_what_cannot_be_registered_is_refused(modules):
    point, clipped = modules
    cls = clipped.ClippedSACConfig
    for call, words in {
        lambda: purerl.register_env(
            "ant", point.make_point
        ): "name = 'ant': expected a name that purerl does not",
        lambda: purerl.register_env(
            "my:point", point.make_point
        ): "name = 'my:point': expected a name of letters",
        lambda: purerl.register_env(
            "point", point.make_point()
        ): "Register a function that returns it: lambda: env",
        lambda: purerl.register_env("point", "my_point"): "factory = 'my_point': expected a function",
        lambda: purerl.register_algorithm("sac", cls): "name = 'sac': expected a name that purerl does not",
        lambda: purerl.register_algorithm(
            "other", cls
        ): "Write `algo: ClassVar[str] = 'other'` in ClippedSACConfig",
        lambda: purerl.register_algorithm("x", cls()): "config = ClippedSACConfig(",
        lambda: purerl.register_algorithm("no_make", NoMake): "make(cfg, spec, networks)",
    }.items():
        with pytest.raises(ConfigError) as error:
            call()
        assert words in str(error.value)
    purerl.register_env("still", lambda size=9: point.make_point(size))
    with pytest.raises(ConfigError, match=r"env_kwargs = {'speed': 1}: expected arguments .* of 'still'"):
        purerl.make_env("still", speed=1)
    purerl.register_env("nothing", lambda: None)
    with pytest.raises(ConfigError, match=r"env = <NoneType>: expected an environment"):
        purerl.make_env("nothing")


def test_a_class_cannot_pass_for_another(modules, tmp_path):
    """A subclass that keeps the `algo` of its base would be recorded, and loaded, as that base."""

    class Quick(type(purerl.make_config("ppo"))):
        __module__ = "purerl.algos.ppo"

    with pytest.raises(ConfigError, match=r"Quick.algo = 'ppo': expected an id of its own"):
        purerl.run(Quick(env="cartpole", **SHORT), logdir=tmp_path / "run")


MUTANTS = {
    "a run is recorded on the environment of its config": (
        "experiment/runner.py",
        "        cfg = named_after(cfg, env)\n",
        "        pass\n",
        "test_the_record_names_what_was_run",
    ),
    "a run on an environment of one's own loads without it": (
        "own_parts.py",
        "if name is not None and env is None and name not in OWN_ENVIRONMENTS:",
        "if False:",
        "test_what_is_not_registered_is_one_sentence",
    ),
    "texts go to any factory": (
        "experiment/untrusted.py",
        '(":" in env or env in OWN_ENVIRONMENTS)',
        '":" in env',
        "test_texts_of_a_record_are_not_given_to_a_factory",
    ),
    "a class passes for its base": (
        "own_parts.py",
        "if known and config_class(cls.algo) is not cls:",
        "if False:",
        "test_a_class_cannot_pass_for_another",
    ),
}
