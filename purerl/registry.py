"""What can be named: ids of algorithms and environments, and where each one lives.

Modules are imported when they are first asked for, so a name costs nothing until it is used.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from purerl.config import Config, ConfigError, did_you_mean

ALGORITHMS = {
    "a2c": "purerl.algos.a2c:A2CConfig",
    "ppo": "purerl.algos.ppo:PPOConfig",
    "recurrent_ppo": "purerl.algos.recurrent_ppo:RecurrentPPOConfig",
    "sac": "purerl.algos.sac:SACConfig",
    "trpo": "purerl.algos.trpo:TRPOConfig",
    "vpg": "purerl.algos.vpg:VPGConfig",
}
"""id -> "module:Config class"; the module also holds `make` and `validate`."""

ENVIRONMENTS = {
    "ant": "purerl.envs.mujoco.ant:make",
    "cartpole": "purerl.envs.classic.cartpole:make",
    "half_cheetah": "purerl.envs.mujoco.half_cheetah:make",
    "hopper": "purerl.envs.mujoco.hopper:make",
    "humanoid": "purerl.envs.mujoco.humanoid:make",
    "humanoid_standup": "purerl.envs.mujoco.humanoid_standup:make",
    "inverted_double_pendulum": "purerl.envs.mujoco.inverted_double_pendulum:make",
    "inverted_pendulum": "purerl.envs.mujoco.inverted_pendulum:make",
    "pendulum": "purerl.envs.classic.pendulum:make",
    "pusher": "purerl.envs.mujoco.pusher:make",
    "reacher": "purerl.envs.mujoco.reacher:make",
    "rover": "purerl.envs.mujoco.rover:make",
    "swimmer": "purerl.envs.mujoco.swimmer:make",
    "walker2d": "purerl.envs.mujoco.walker2d:make",
}
"""id -> "module:factory"; the factory takes `engine` and the task's own keyword arguments."""


def _find(table: dict[str, str], field: str, name: Any) -> Any:
    if not isinstance(name, str) or name not in table:
        hint = did_you_mean(name, table) if isinstance(name, str) else ""
        raise ConfigError(field, name, f"known are {', '.join(sorted(table))}", hint)
    module, attribute = table[name].split(":")
    return getattr(importlib.import_module(module), attribute)


def config_class(algo: str) -> type[Config]:
    """The Config class of algorithm `algo`. Raises ConfigError for an unknown id."""
    return _find(ALGORITHMS, "algo", algo)


def algorithm_module(cfg: Config) -> ModuleType:
    """The module that makes the algorithm which `cfg` configures."""
    return importlib.import_module(type(cfg).__module__)


def env_factory(env: str) -> Any:
    """The factory of environment `env`. Raises ConfigError for an unknown id."""
    return _find(ENVIRONMENTS, "env", env)
