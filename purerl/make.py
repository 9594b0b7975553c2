"""Constructors by name: configurations, environments, algorithms and policies."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
from flax.core import FrozenDict
from gymnasium.spaces import Discrete, MultiDiscrete

from purerl import evaluate as evaluation
from purerl import registry
from purerl.arguments import (
    check_config,
    check_env,
    check_fits,
    check_member,
    check_state,
    with_default_params,
)
from purerl.config import Config, ConfigError, ConfigT, Rule, check, from_dict
from purerl.config import validate as check_rule
from purerl.network_trial import try_networks
from purerl.spaces import check_spaces
from purerl.types import Algorithm, Env, EnvSpec, HostEnv, TrainState


def make_config(algo: str, **fields: Any) -> Config:
    """Return a checked configuration of algorithm `algo`.

    Args:
        algo: registry id, such as "sac".
        **fields: any field of that algorithm's config, such as `env="ant"`.

    Raises:
        ConfigError: for an unknown algorithm or field, or a value that is not allowed.
    """
    env = fields.get("env")
    if hasattr(env, "action_space"):
        hint = "Pass the environment itself as env to make_train, make_policy or run."
        raise ConfigError("env", env, "a non-empty string", hint)
    return from_dict(registry.config_class(algo), fields)


def make_env(env: str, engine: str = "auto", **env_kwargs: Any) -> Env | HostEnv:
    """Return the environment with id `env`.

    Args:
        env: registry id, such as "ant", or another library's behind its name, such as "gym:LunarLander-v3",
            or one of `register_env`.
        engine: physics engine of a MuJoCo task: auto, mujoco or mjx.
        **env_kwargs: the task's own options, such as reward weights.

    Raises:
        ConfigError: for an unknown id, engine or option.
    """
    made = registry.env_factory(env)(engine=engine, **env_kwargs)
    if env in registry.OWN_ENVIRONMENTS:
        check_env(made)
    return made


def spec_of(env: Env | HostEnv) -> EnvSpec:
    """Return the facts of `env` that an algorithm may use."""
    actions = env.action_space
    if isinstance(env, HostEnv):  # its copies add the start
        if isinstance(actions, Discrete):
            actions = Discrete(actions.n)
        elif isinstance(actions, MultiDiscrete):
            actions = MultiDiscrete(actions.nvec)
    return EnvSpec(env.name, env.observation_space, actions)


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
    return algorithm_on(cfg, env_for(cfg, env), networks)


def algorithm_on(cfg: Config, env: Env | HostEnv, networks: Mapping[str, Any] | None) -> Algorithm:
    """Return the algorithm on an environment of `env_for`, which is not tried again."""
    spec = spec_of(env)
    validate(cfg, spec, networks)
    return registry.algorithm_module(cfg).make(cfg, spec, networks)


def env_for(cfg: Config, env: Env | HostEnv | None) -> Env | HostEnv:
    """Return `env`, or the environment that `cfg` names if it is None.

    Raises ConfigError if either is something else, or the environment does not do what its spaces say.
    """
    check_config(cfg)
    if env is None:
        return env_of(cfg)
    check_env(env)
    return env if isinstance(env, HostEnv) else with_default_params(env)


def named_after(cfg: ConfigT, env: Env | HostEnv) -> ConfigT:
    """Return `cfg` with the name of `env`, which was passed as an object, in place of its own."""
    return dataclasses.replace(cfg, env=env.name, engine="auto", env_kwargs=FrozenDict())


def env_of(cfg: Config) -> Env | HostEnv:
    """Return the environment that `cfg` names."""
    for name in ("env", "engine"):
        if name in cfg.env_kwargs:
            raise ConfigError("env_kwargs", dict(cfg.env_kwargs), f"options without {name}, which is a field")
    return make_env(cfg.env, cfg.engine, **cfg.env_kwargs)


def validate(cfg: Config, spec: EnvSpec, networks: Mapping[str, Any] | None = None) -> None:
    """Raise ConfigError if `cfg` is wrong in itself, or it or a network of the user does not fit `spec`."""
    check(cfg)
    check_spaces(spec)
    algorithm = registry.algorithm_module(cfg)
    algorithm.validate(cfg, spec)
    try_networks(cfg, spec, networks, algorithm)


def make_policy(
    cfg: Config,
    state: TrainState,
    member: int | None = None,
    env: Env | HostEnv | None = None,
    networks: Mapping[str, Any] | None = None,
    explore: bool = False,
) -> evaluation.Policy:
    """Return the policy of a trained state, as `Policy(init, act)`.

    Args:
        cfg: the run's configuration.
        state: a `TrainState` of one member, or of several stacked.
        member: index into those stacked (without a sweep, the seed's); None for a state of one member.
        env: the task; made from `cfg` if None.
        networks: those the run was trained with.
        explore: act as in training, with exploration; otherwise deterministically.

    Raises:
        ConfigError: if `member` is missing, superfluous or out of range, or the state is not one of `cfg`,
            `env` and `networks`.
    """
    check_rule("explore", explore, Rule("switch"))
    env = env_for(cfg, env)
    check_state(state)
    check_member(member, state)
    if member is not None:
        with jax.transfer_guard("allow"):  # of the index
            state = jax.tree.map(lambda leaf: leaf[member], state)
    algo = algorithm_on(cfg, env, networks)
    key = jax.eval_shape(lambda: jax.random.key(0))
    check_fits(state.algo, jax.eval_shape(algo.init, key), cfg.algo)
    return evaluation.policy_of(algo, state.algo, env, cfg.total_timesteps, explore)
