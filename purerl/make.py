"""Constructors by name: configurations, environments, algorithms and policies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax

from purerl import evaluate as evaluation
from purerl import registry
from purerl.config import Config, ConfigError, check, from_dict
from purerl.types import Algorithm, Env, EnvSpec, HostEnv, TrainState


def make_config(algo: str, **fields: Any) -> Config:
    """Return a checked configuration of algorithm `algo`.

    Args:
        algo: registry id, such as "sac".
        **fields: any field of that algorithm's config, such as `env="ant"`.

    Raises:
        ConfigError: for an unknown algorithm or field, or a value that is not allowed.
    """
    return from_dict(registry.config_class(algo), fields)


def make_env(env: str, engine: str = "auto", **env_kwargs: Any) -> Env | HostEnv:
    """Return the environment with id `env`.

    Args:
        env: registry id, such as "ant", or another library's behind its name, such as "gym:LunarLander-v3".
        engine: physics engine of a MuJoCo task: auto, mujoco or mjx.
        **env_kwargs: the task's own options, such as reward weights.

    Raises:
        ConfigError: for an unknown id, engine or option.
    """
    return registry.env_factory(env)(engine=engine, **env_kwargs)


def spec_of(env: Env | HostEnv) -> EnvSpec:
    """Return the facts of `env` that an algorithm may use."""
    return EnvSpec(env.name, env.observation_space, env.action_space)


def make_algorithm(
    cfg: Config, env: Env | HostEnv | None = None, networks: Mapping[str, Any] | None = None
) -> Algorithm:
    """Return the algorithm that `cfg` configures, for a training loop of your own.

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
    """Return the environment that `cfg` names."""
    for name in ("env", "engine"):
        if name in cfg.env_kwargs:
            raise ConfigError("env_kwargs", dict(cfg.env_kwargs), f"options without {name}, which is a field")
    return make_env(cfg.env, cfg.engine, **cfg.env_kwargs)


def validate(cfg: Config, spec: EnvSpec) -> None:
    """Raise ConfigError if `cfg` is wrong in itself or does not fit `spec`."""
    check(cfg)
    registry.algorithm_module(cfg).validate(cfg, spec)


def make_policy(
    cfg: Config, state: TrainState, member: int | None = None, env: Env | HostEnv | None = None, networks=None
):
    """Return the deterministic policy of a trained state, as `Policy(init, act)`.

    Args:
        cfg: the run's configuration.
        state: a `TrainState` of one member, or of several stacked.
        member: index into those stacked (without a sweep, the seed's); None for a state of one member.
        env: the task; made from `cfg` if None.
        networks: those the run was trained with.

    Raises:
        ConfigError: if `member` is missing, superfluous or out of range.
    """
    if state.key.ndim:
        members = state.key.shape[0]
        if member is None or not 0 <= member < members:
            what = f"0 to {members - 1}" if members > 1 else "0"
            raise ConfigError("member", member, what, f"The state holds {members} stacked members.")
        state = jax.tree.map(lambda leaf: leaf[member], state)
    elif member is not None:
        raise ConfigError("member", member, "None", "The state holds a single member.")
    env = env_of(cfg) if env is None else env
    algo = make_algorithm(cfg, env, networks)
    return evaluation.policy_of(algo, state.algo, env, step=cfg.total_timesteps)
