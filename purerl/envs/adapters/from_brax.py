"""Environments of brax and MuJoCo Playground, whose `reset` and `step` return a State, as purerl's.

Such a State holds the observation, the reward and `done` beside the physics. `done` means that the task
ended; the clock is purerl's. Their keys are raw uint32 ones, which some keep in the State. A `step` may
write into the dicts of the State that it takes, and therefore gets copies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from purerl.config import ConfigError, Rule, did_you_mean, validate
from purerl.envs.adapters import shared
from purerl.envs.adapters.shared import Timed
from purerl.envs.functional import no_physics_engine
from purerl.envs.masked_vmap import where_needed
from purerl.types import Array, EnvFunctions, PyTree

RESET_SHARE = 32
"""A reset runs one in 32 environments at a time, since each costs physics."""
TRAINING_WRAPPERS = {
    "AutoResetWrapper",
    "BraxAutoResetWrapper",
    "BraxDomainRandomizationVmapWrapper",
    "DomainRandomizationVmapWrapper",
    "EpisodeWrapper",
    "EvalWrapper",
    "VmapWrapper",
}
"""Wrappers that brax's own training puts around an environment."""
FIELDS = ("obs", "reward", "done", "metrics", "info")
"""Fields by which a State is recognised."""


def from_brax(
    env: Any, *, max_episode_steps: int = 1000, name: str | None = None, obs_key: str = "state"
) -> EnvFunctions:
    """Return brax's `env` for `make_train` and `run`.

    Actions are in [-1, 1], as brax's own training has them. Every reset is a fresh draw; under `vmap`
    it costs no physics where no episode ended. Matrices are multiplied in full float32.

    Args:
        env: the environment in none of brax's training wrappers, such as
            `brax.envs.get_environment("ant")`.
        max_episode_steps: the step that is truncated.
        name: of the environment; that of its class if None.
        obs_key: entry of the observation that is seen, if it is a dict.

    Raises:
        ConfigError: for an environment in a training wrapper, or one that returns no State.
    """
    name = name or type(env).__name__
    validate("max_episode_steps", max_episode_steps, Rule("count", 1))
    _refuse_wrapped(name, env)
    size = int(env.action_size)
    still = jnp.zeros(size)

    def start(key):
        with jax.default_matmul_precision("highest"):  # a GPU's TF32 breaks physics
            return env.reset(key)

    def move(state, action):
        with jax.default_matmul_precision("highest"):
            return env.step(jax.tree.map(lambda leaf: leaf, state), action)

    started = jax.eval_shape(start, jax.eval_shape(_raw, jax.random.key(0)))
    space = _observation_space(name, started, obs_key)
    like = shared.same_types(name, started, lambda state: move(state, still))

    def place(needed: Array, key: Array) -> PyTree:
        del needed  # read by `where_needed`
        return shared.cast(start(_raw(key)), like)

    place = where_needed(place, lambda num_envs: -(-num_envs // RESET_SHARE))

    def observe(state):
        return shared.as_observation(_part(state.obs, obs_key))

    def reset(key, params=None, needed=True):
        state = place(jnp.asarray(needed), key)
        return observe(state), Timed(state, jnp.int32(0))

    def step(key, state, action, params=None):
        inner, time = shared.cast(move(state.inner, action), like), state.time + 1
        terminated, truncated = inner.done.astype(bool), time >= max_episode_steps
        reward, info = inner.reward.astype(jnp.float32), dict(inner.metrics)
        return observe(inner), Timed(inner, time), reward, terminated, truncated, info

    return EnvFunctions(name, reset, step, space, shared.box(-1, 1, (size,)), max_episode_steps)


def from_playground(
    env: Any, *, max_episode_steps: int | None = None, name: str | None = None, obs_key: str = "state"
) -> EnvFunctions:
    """Return MuJoCo Playground's `env`, such as `registry.load("CartpoleBalance")`; see `from_brax`.

    Args:
        env: the environment in none of the wrappers for training.
        max_episode_steps: the step that is truncated; `episode_length` of its config if None.
        name: of the environment; that of its class if None.
        obs_key: entry of the observation that is seen, if it is a dict.

    Raises:
        ConfigError: as `from_brax`, and if there is no time limit.
    """
    name = name or type(env).__name__
    _refuse_wrapped(name, env)
    if max_episode_steps is None:
        max_episode_steps = getattr(getattr(env, "_config", None), "episode_length", None)
    if max_episode_steps is None:
        what = f"a number of steps, since the config of {name} has no episode_length"
        raise ConfigError("max_episode_steps", None, what)
    return from_brax(env, max_episode_steps=max_episode_steps, name=name, obs_key=obs_key)


def _raw(key: Array) -> Array:
    return jax.random.key_data(key)


def _part(obs: Any, obs_key: str) -> Any:
    return obs[obs_key] if isinstance(obs, Mapping) else obs


def _refuse_wrapped(name: str, env: Any) -> None:
    """Raise ConfigError if `env`, or an environment in it, is in a training wrapper."""
    inner = env
    while inner is not None:
        if wrappers := TRAINING_WRAPPERS.intersection(cls.__name__ for cls in type(inner).__mro__):
            what = f"an environment without training wrappers, got one in a {min(wrappers)}"
            raise ConfigError("env", name, what, "purerl resets and truncates itself.")
        inner = getattr(inner, "__dict__", {}).get("env")


def _observation_space(name: str, state: Any, obs_key: str) -> spaces.Box:
    """Return the space of the observations of `state`, unbounded since brax declares no bounds.

    Raises ConfigError if `state` is not a State of one environment.
    """
    if lacks := [field for field in FIELDS if not hasattr(state, field)]:
        what = f"a reset that returns a State, got a {type(state).__name__} without {', '.join(lacks)}"
        raise ConfigError("env", name, what)
    if state.reward.shape or state.done.shape:
        shapes = f"{state.reward.shape} and {state.done.shape}"
        what = f"a reward and a done that are one number each, got shapes {shapes}"
        raise ConfigError("env", name, what)
    if isinstance(state.obs, Mapping) and obs_key not in state.obs:
        what = f"one of {', '.join(state.obs)}, the observations of {name}"
        raise ConfigError("obs_key", obs_key, what, did_you_mean(obs_key, state.obs))
    obs = _part(state.obs, obs_key)
    low, high = (0, 255) if obs.dtype == jnp.uint8 else (-np.inf, np.inf)
    return shared.box(low, high, obs.shape, obs.dtype)


def make_brax(
    env: str, engine: str = "auto", *, max_episode_steps: int = 1000, obs_key: str = "state", **kwargs: Any
) -> EnvFunctions:
    """Return brax's environment with id `env`, such as "ant".

    Args:
        env: a name that `brax.envs.get_environment` takes.
        engine: only auto; brax's own physics engines are chosen by `backend`.
        max_episode_steps: the step that is truncated.
        obs_key: see `from_brax`.
        **kwargs: arguments of the environment's class, such as `backend="mjx"`.

    Raises:
        ConfigError: for an unknown id or argument, or if brax is not installed.
    """
    name = shared.name_of("brax", env)
    no_physics_engine(name, engine)
    try:
        from brax import envs  # type: ignore
    except ImportError as error:
        raise shared.missing(name, "brax", error) from error
    shared.known_id("brax", env, envs._envs)
    made = shared.made(name, lambda: envs.get_environment(env, **kwargs))
    return from_brax(made, max_episode_steps=max_episode_steps, name=name, obs_key=obs_key)


def make_playground(
    env: str,
    engine: str = "auto",
    *,
    max_episode_steps: int | None = None,
    obs_key: str = "state",
    **overrides: Any,
) -> EnvFunctions:
    """Return MuJoCo Playground's environment with id `env`, such as "CartpoleBalance".

    Physics is MJX's in JAX, which runs everywhere; `impl="warp"` is Playground's own default.
    Playground downloads a robot of MuJoCo Menagerie when it is first used.

    Args:
        env: one of `mujoco_playground.registry.ALL_ENVS`.
        engine: only auto; see `impl`.
        max_episode_steps: the step that is truncated; `episode_length` of the config if None.
        obs_key: see `from_brax`.
        **overrides: entries of the environment's config, a nested one as "reward_config.scales".

    Raises:
        ConfigError: for an unknown id or entry, or if Playground is not installed.
    """
    name = shared.name_of("playground", env)
    no_physics_engine(name, engine)
    try:
        from mujoco_playground import registry  # type: ignore
    except ImportError as error:
        raise shared.missing(name, "playground", error) from error
    shared.known_id("playground", env, registry.ALL_ENVS)
    entries = registry.get_default_config(env)
    if max_episode_steps is not None:  # some tasks read their own limit
        validate("max_episode_steps", max_episode_steps, Rule("count", 1))
        overrides["episode_length"] = max_episode_steps
    defaults = {"impl": "jax"} if "impl" in entries else {}
    made = shared.made(name, lambda: registry.load(env, config_overrides=defaults | overrides))
    return from_playground(made, max_episode_steps=max_episode_steps, name=name, obs_key=obs_key)
