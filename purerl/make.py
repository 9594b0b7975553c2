"""From names to things: configurations, environments, algorithms and policies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax

from purerl import evaluate as evaluation
from purerl import registry
from purerl.config import Config, ConfigError, check, from_dict
from purerl.types import Algorithm, Env, EnvSpec, HostEnv, TrainState


def make_config(algo: str, **fields: Any) -> Config:
    """A checked configuration of algorithm `algo`.

    Args:
        algo: registry id, such as "sac".
        **fields: any field of that algorithm's config, such as `env="ant"`.

    Raises:
        ConfigError: for an unknown algorithm or field, or a value that is not allowed.
    """
    return from_dict(registry.config_class(algo), fields)


def make_env(env: str, engine: str = "auto", **env_kwargs: Any) -> Env | HostEnv:
    """The environment with id `env`.

    Args:
        env: registry id, such as "ant", or another library's behind its name, such as "gym:LunarLander-v3".
        engine: physics engine of a MuJoCo task: auto, mujoco or mjx.
        **env_kwargs: the task's own options, such as reward weights.

    Raises:
        ConfigError: for an unknown id, engine or option.
    """
    return registry.env_factory(env)(engine=engine, **env_kwargs)


def spec_of(env: Env | HostEnv) -> EnvSpec:
    """What an algorithm may know of `env`."""
    return EnvSpec(env.name, env.observation_space, env.action_space)


def make_algorithm(
    cfg: Config, env: Env | HostEnv | None = None, networks: Mapping[str, Any] | None = None
) -> Algorithm:
    """The algorithm that `cfg` configures, for a training loop of your own.

    Args:
        cfg: from `make_config`.
        env: the task; made from `cfg` if None.
        networks: `(init, apply)` pairs by name, in place of the algorithm's own.

    Raises:
        ConfigError: if `cfg` is wrong in itself or does not fit `env`.
    """
    spec = spec_of(env_of(cfg) if env is None else env)
    validate(cfg, spec)
    return registry.algorithm_module(cfg).make(cfg, spec, networks)


def env_of(cfg: Config) -> Env | HostEnv:
    """The environment that `cfg` names."""
    for name in ("env", "engine"):
        if name in cfg.env_kwargs:
            raise ConfigError("env_kwargs", dict(cfg.env_kwargs), f"{name} is a field of its own")
    return make_env(cfg.env, cfg.engine, **cfg.env_kwargs)


def validate(cfg: Config, spec: EnvSpec) -> None:
    """Raises ConfigError if `cfg` is wrong in itself or does not fit `spec`."""
    check(cfg)
    registry.algorithm_module(cfg).validate(cfg, spec)


def make_policy(
    cfg: Config, state: TrainState, seed: int | None = None, env: Env | HostEnv | None = None, networks=None
):
    """The deterministic policy of a trained state, as `Policy(init, act)`.

    Args:
        cfg: the run's configuration.
        state: a `TrainState` of one seed, or of several stacked.
        seed: which of several; None for a state of one seed.
        env: the task; made from `cfg` if None.
        networks: those the run was trained with.

    Raises:
        ValueError: if `seed` is missing, superfluous or out of range.
    """
    if state.key.ndim:
        num_seeds = state.key.shape[0]
        if seed is None or not 0 <= seed < num_seeds:
            raise ValueError(f"seed = {seed} is not allowed: the state holds seeds 0 to {num_seeds - 1}")
        state = jax.tree.map(lambda leaf: leaf[seed], state)
    elif seed is not None:
        raise ValueError(f"seed = {seed} is not allowed: the state holds a single seed; leave it out")
    env = env_of(cfg) if env is None else env
    return evaluation.deterministic_policy(make_algorithm(cfg, env, networks), state.algo, env)
