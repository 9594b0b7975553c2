"""Ids of algorithms and environments, each with its module.

A module is imported at the first use of its id. Ids of the user's own are those that this process registered:
no file and no record of a run adds one.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any

from purerl.config import Config, ConfigError, did_you_mean

ALGORITHMS = {
    "a2c": "purerl.algos.a2c:A2CConfig",
    "ddpg": "purerl.algos.ddpg:DDPGConfig",
    "dqn": "purerl.algos.dqn:DQNConfig",
    "ppo": "purerl.algos.ppo:PPOConfig",
    "pqn": "purerl.algos.pqn:PQNConfig",
    "recurrent_ppo": "purerl.algos.recurrent_ppo:RecurrentPPOConfig",
    "recurrent_sac": "purerl.algos.recurrent_sac:RecurrentSACConfig",
    "sac": "purerl.algos.sac:SACConfig",
    "td3": "purerl.algos.td3:TD3Config",
    "trpo": "purerl.algos.trpo:TRPOConfig",
    "vpg": "purerl.algos.vpg:VPGConfig",
}
"""id -> "module:Config class"; the module also holds `make` and `validate`."""

ENVIRONMENTS = {
    "acrobot": "purerl.envs.classic.acrobot:make",
    "ant": "purerl.envs.mujoco.tasks.ant:make",
    "asterix": "purerl.envs.minatar.asterix:make",
    "breakout": "purerl.envs.minatar.breakout:make",
    "cartpole": "purerl.envs.classic.cartpole:make",
    "freeway": "purerl.envs.minatar.freeway:make",
    "half_cheetah": "purerl.envs.mujoco.tasks.half_cheetah:make",
    "hopper": "purerl.envs.mujoco.tasks.hopper:make",
    "humanoid": "purerl.envs.mujoco.tasks.humanoid:make",
    "humanoid_standup": "purerl.envs.mujoco.tasks.humanoid_standup:make",
    "inverted_double_pendulum": "purerl.envs.mujoco.tasks.inverted_double_pendulum:make",
    "inverted_pendulum": "purerl.envs.mujoco.tasks.inverted_pendulum:make",
    "mountain_car": "purerl.envs.classic.mountain_car:make",
    "mountain_car_continuous": "purerl.envs.classic.mountain_car_continuous:make",
    "pendulum": "purerl.envs.classic.pendulum:make",
    "pusher": "purerl.envs.mujoco.tasks.pusher:make",
    "reacher": "purerl.envs.mujoco.tasks.reacher:make",
    "rover": "purerl.envs.mujoco.tasks.rover:make",
    "seaquest": "purerl.envs.minatar.seaquest:make",
    "space_invaders": "purerl.envs.minatar.space_invaders:make",
    "swimmer": "purerl.envs.mujoco.tasks.swimmer:make",
    "walker2d": "purerl.envs.mujoco.tasks.walker2d:make",
}
"""id -> "module:factory"; the factory takes `engine` and the task's own keyword arguments."""

LIBRARIES = {
    "brax": "purerl.envs.adapters.from_brax:make_brax",
    "gym": "purerl.envs.adapters.from_gymnasium:make",
    "gymnax": "purerl.envs.adapters.from_gymnax:make_gymnax",
    "playground": "purerl.envs.adapters.from_brax:make_playground",
}
"""Other libraries' environments: prefix, as in "gym:LunarLander-v3" -> "module:factory"; it takes the
library's own id, and then the arguments of the other factories."""


OWN_ALGORITHMS: dict[str, Any] = {}
"""The user's, of this process: id -> Config class, or "module:Config class"."""
OWN_ENVIRONMENTS: dict[str, Any] = {}
"""The user's, of this process: id -> factory, or "module:factory"; it takes `env_kwargs` as keywords."""


def register_env(name: str, factory: Callable[..., Any] | str) -> None:
    """Make an environment of your own known by name in this process, as `make_env("ant")` is.

    Then `make_config(env=name)`, `purerl.load`, a resumed run and the command line find it.

    Args:
        name: letters, digits, `_`, `-` and `.`; none of purerl's own. A second call replaces the first.
        factory: returns the environment; gets `env_kwargs` as keywords, and `engine` if it is not "auto".
            Or its place, "module:factory", imported at the first use.

    Raises:
        ConfigError: for a name that cannot be used, or a factory that is no function.
    """
    _check_name("name", name, ENVIRONMENTS)
    if not callable(factory) and not _is_place(factory):
        hint = "Register a function that returns it: lambda: env." if hasattr(factory, "step") else ""
        raise ConfigError("factory", factory, 'a function, or "module:function"', hint)
    OWN_ENVIRONMENTS[name] = factory


def register_algorithm(name: str, config: type[Config] | str) -> None:
    """Make an algorithm of your own known by name in this process, as `make_config("sac")` is.

    Args:
        name: the `algo` of the config class; none of purerl's own. A second call replaces the first.
        config: its config class, in whose module is `make`; `validate` and `default_networks` may be those of
            the classes it inherits from. Or its place, "module:Class", imported at the first use.

    Raises:
        ConfigError: for a name that cannot be used, or a class that is no config of that name.
    """
    _check_name("name", name, ALGORITHMS)
    if not _is_place(config):
        _check_class(name, config)
    OWN_ALGORITHMS[name] = config


def _check_name(field: str, name: Any, known: Mapping[str, str]) -> None:
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][\w.-]*", name):
        raise ConfigError(field, name, "a name of letters, digits, _, - and .")
    if name in known:
        raise ConfigError(field, name, "a name that purerl does not have itself")


def _is_place(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[\w.]+:\w+", value) is not None


def _check_class(name: str, config: Any) -> None:
    """Raise ConfigError unless `config` is a Config class whose `algo` is `name`, with a `make`."""
    if not (isinstance(config, type) and issubclass(config, Config)):
        raise ConfigError("config", config, 'a subclass of purerl.Config, or "module:Class"')
    if getattr(config, "algo", None) != name:
        found = getattr(config, "algo", None)
        hint = f"Write `algo: ClassVar[str] = {name!r}` in {config.__name__}."
        raise ConfigError(f"{config.__name__}.algo", found, f"{name!r}, the name it is registered by", hint)
    _parts(config)


def _find(table: Mapping[str, Any], field: str, name: Any) -> Any:
    if not isinstance(name, str) or name not in table:
        hint = did_you_mean(name, table) if isinstance(name, str) else ""
        known = f"one of {', '.join(sorted(table))}"
        if field == "env":
            known += f", or an id of another library behind {_prefixes()}"
            hint = hint or _did_you_mean_gymnasiums(name)
        raise ConfigError(field, name, known, hint)
    return table[name] if callable(table[name]) else find_place(field, table[name])


def find_place(field: str, place: str) -> Any:
    """Return what is at "module:attribute". Raises ConfigError about `field` if it is not there."""
    module, attribute = place.split(":")
    found = importlib.import_module(module)
    if not hasattr(found, attribute):
        raise ConfigError(field, place, f"a place that exists; {module} has no {attribute}")
    return getattr(found, attribute)


def _prefixes() -> str:
    return ", ".join(f"{library}:" for library in LIBRARIES)


def _did_you_mean_gymnasiums(name: Any) -> str:
    import gymnasium

    return f"Did you mean gym:{name}?" if isinstance(name, str) and name in gymnasium.registry else ""


def algorithms() -> dict[str, Any]:
    """Return every algorithm that this process knows, those of the user included."""
    return ALGORITHMS | OWN_ALGORITHMS


def environments() -> dict[str, Any]:
    """Return every environment that has a name in this process, those of the user included."""
    return ENVIRONMENTS | OWN_ENVIRONMENTS


def config_class(algo: str) -> type[Config]:
    """Return the Config class of algorithm `algo`. Raises ConfigError for an unknown id."""
    found = _find(algorithms(), "algo", algo)
    if algo in OWN_ALGORITHMS:
        _check_class(algo, found)
    return found


def algorithm_module(cfg: Config) -> Any:
    """Return the namespace with `make` and `validate` of the algorithm that `cfg` configures: its module.

    For a class of the user, each function is that of the first module among those of the class and of its
    bases that has one. Raises ConfigError if none has `make`.
    """
    return _parts(type(cfg))


def _parts(cls: type[Config]) -> Any:
    own = importlib.import_module(cls.__module__)
    if own.__name__.startswith("purerl.algos."):
        return own
    bases = cls.__mro__[: cls.__mro__.index(Config)]
    modules = [importlib.import_module(base.__module__) for base in bases]
    parts: dict[str, Any] = {"validate": lambda cfg, spec: None}
    for module in reversed(modules):
        names = [name for name in ("make", "validate", "default_networks") if hasattr(module, name)]
        parts |= {name: getattr(module, name) for name in names}
    if "make" not in parts:
        what = f"a config whose module defines make(cfg, spec, networks); {own.__name__} does not"
        raise ConfigError("cfg", cls, what, "See docs/own_algorithm.md.")
    return SimpleNamespace(**parts)


def env_factory(env: str) -> Any:
    """Return the factory of environment `env`. Raises ConfigError for an unknown id."""
    library, colon, name = env.partition(":") if isinstance(env, str) else ("", "", "")
    if not colon:
        factory = _find(environments(), "env", env)
        return partial(_make_own, env, factory) if env in OWN_ENVIRONMENTS else factory
    if library not in LIBRARIES or not name:
        what = f"an id of another library behind one of {_prefixes()}"
        raise ConfigError("env", env, what, did_you_mean(library, LIBRARIES))
    return partial(_find(LIBRARIES, "env", library), name)


def _make_own(name: str, factory: Callable[..., Any], engine: str = "auto", **options: Any) -> Any:
    """Return a user's environment. Raises ConfigError for arguments that its factory does not have."""
    given = options if engine == "auto" else options | {"engine": engine}
    try:
        inspect.signature(factory).bind(**given)
    except TypeError as error:
        raise ConfigError("env_kwargs", given, f"arguments of the factory of {name!r}: {error}") from error
    return factory(**given)
