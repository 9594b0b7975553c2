"""Ids of gymnax, brax and Playground, on stand-ins for the libraries."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
from library_envs import OldWalk, Slide, WalkParams

from purerl.config import ConfigError
from purerl.envs.adapters.from_brax import make_brax, make_playground
from purerl.envs.adapters.from_gymnax import make_gymnax


def library(name, **contents):
    module = ModuleType(name)
    vars(module).update(contents)
    return module


def load(env, config_overrides):
    slide = Slide()
    slide._config = SimpleNamespace(**{"episode_length": 50, "impl": "warp", "noise": 0.0} | config_overrides)
    if set(vars(slide._config)) - {"episode_length", "impl", "noise"}:
        raise KeyError("no such entry")
    return slide


class ScaledWalk(OldWalk):
    def __init__(self, scale: float = 1.0):
        self.scale = scale


@pytest.fixture
def libraries(monkeypatch):
    def make(env, **kwargs):
        walk = ScaledWalk(**kwargs)
        return walk, walk.default_params

    envs = library("brax.envs", _envs={"slide": Slide}, get_environment=lambda env, **kwargs: Slide(**kwargs))
    registry = SimpleNamespace(
        ALL_ENVS=("SlideFar",), load=load, get_default_config=lambda _: {"impl": "warp", "episode_length": 50}
    )
    modules = {
        "gymnax": library("gymnax", make=make, registered_envs=["Walk-v0"]),
        "brax": library("brax", envs=envs),
        "brax.envs": envs,
        "mujoco_playground": library("mujoco_playground", registry=registry),
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)


MAKERS = {
    "gymnax": (make_gymnax, "Walk-v0", "gymnax", "gymnax"),
    "brax": (make_brax, "slide", "brax", "brax"),
    "playground": (make_playground, "SlideFar", "mujoco_playground", "playground"),
}


@pytest.mark.parametrize("name", MAKERS)
def test_ids(name, libraries):
    make, env, *_ = MAKERS[name]
    made = make(env, engine="auto", max_episode_steps=7)
    assert (made.name, made.max_episode_steps) == (f"{name}:{env}", 7)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize(
    ("arguments", "field", "says"),
    [
        (dict(env=lambda known: known[:-1]), "env", "Did you mean {name}:{known}"),
        (dict(env=lambda known: f"os:{known}"), "env", "without a module or a path"),
        (dict(env=lambda known: f"../{known}"), "env", "without a module or a path"),
        (dict(env=lambda known: ""), "env", "without a module or a path"),
        (dict(env=lambda known: 3), "env", "without a module or a path"),
        (dict(engine="mujoco"), "engine", "auto, "),
        (dict(max_episode_steps=0), "max_episode_steps", "at least 1"),
        (dict(nosuch=1), "env", "can be made with these options, got"),
    ],
    ids=["near", "module", "path", "empty", "number", "engine", "limit", "option"],
)
def test_invalid_ids_and_options(name, arguments, field, says, libraries):
    make, known, *_ = MAKERS[name]
    arguments = {"env": lambda known: known} | arguments
    with pytest.raises(ConfigError, match=says.format(name=name, known=known)) as caught:
        make(arguments.pop("env")(known), **arguments)
    assert caught.value.field == field


@pytest.mark.parametrize("name", MAKERS)
def test_missing_library(name, monkeypatch):
    make, env, module, package = MAKERS[name]
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=f"env = '{name}:{env}'.* pip install {package}"):
        make(env)


def test_gymnax_options(libraries):
    env = make_gymnax("Walk-v0", goal=5.0, scale=2.0)
    assert env.default_params == WalkParams(goal=5.0)
    with pytest.raises(ConfigError, match="goal = 'far'"):
        make_gymnax("Walk-v0", goal="far")


def test_playground_options(libraries, monkeypatch):
    """Physics is JAX's by default; `max_episode_steps` is also the task's own `episode_length`."""
    seen = []
    registry = sys.modules["mujoco_playground"].registry
    monkeypatch.setattr(
        registry,
        "load",
        lambda env, config_overrides: seen.append(config_overrides) or load(env, config_overrides),
    )
    assert make_playground("SlideFar").max_episode_steps == 50
    make_playground("SlideFar", impl="warp", noise=0.5, max_episode_steps=9)
    assert seen == [{"impl": "jax"}, {"impl": "warp", "noise": 0.5, "episode_length": 9}]
