"""Ids of algorithms and environments, each with its module.

A module is imported at the first use of its id.
"""

from __future__ import annotations

import importlib
from functools import partial
from types import ModuleType
from typing import Any

from purerl.config import Config, ConfigError, did_you_mean

ALGORITHMS = {
    "a2c": "purerl.algos.a2c:A2CConfig",
    "ddpg": "purerl.algos.ddpg:DDPGConfig",
    "ppo": "purerl.algos.ppo:PPOConfig",
    "recurrent_ppo": "purerl.algos.recurrent_ppo:RecurrentPPOConfig",
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


def _find(table: dict[str, str], field: str, name: Any) -> Any:
    if not isinstance(name, str) or name not in table:
        hint = did_you_mean(name, table) if isinstance(name, str) else ""
        known = f"one of {', '.join(sorted(table))}"
        if table is ENVIRONMENTS:
            known += f", or an id of another library behind {_prefixes()}"
            hint = hint or _did_you_mean_gymnasiums(name)
        raise ConfigError(field, name, known, hint)
    module, attribute = table[name].split(":")
    return getattr(importlib.import_module(module), attribute)


def _prefixes() -> str:
    return ", ".join(f"{library}:" for library in LIBRARIES)


def _did_you_mean_gymnasiums(name: Any) -> str:
    import gymnasium

    return f"Did you mean gym:{name}?" if isinstance(name, str) and name in gymnasium.registry else ""


def config_class(algo: str) -> type[Config]:
    """Return the Config class of algorithm `algo`. Raises ConfigError for an unknown id."""
    return _find(ALGORITHMS, "algo", algo)


def algorithm_module(cfg: Config) -> ModuleType:
    """Return the module of the algorithm that `cfg` configures."""
    return importlib.import_module(type(cfg).__module__)


def env_factory(env: str) -> Any:
    """Return the factory of environment `env`. Raises ConfigError for an unknown id."""
    library, colon, name = env.partition(":") if isinstance(env, str) else ("", "", "")
    if not colon:
        return _find(ENVIRONMENTS, "env", env)
    if library not in LIBRARIES or not name:
        what = f"an id of another library behind one of {_prefixes()}"
        raise ConfigError("env", env, what, did_you_mean(library, LIBRARIES))
    return partial(_find(LIBRARIES, "env", library), name)
