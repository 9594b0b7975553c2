"""Environments of gymnax, 0.x and 1.x, as purerl's.

The number of values that `step` returns, five or six, tells the two apart. That `step` resets itself and is
only inspected; `step_env`, below it, does not, and is what runs.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from purerl.config import ConfigError, Rule, validate
from purerl.envs.adapters import shared
from purerl.envs.adapters.shared import Timed
from purerl.envs.functional import no_physics_engine
from purerl.types import Array, EnvFunctions, PyTree

LIMIT = "max_steps_in_episode"
"""Parameter that is gymnax's time limit."""
ENDLESS = 2**30
"""Time limit that no episode reaches, and that int32 arithmetic can still add to."""


def from_gymnax(
    env: Any, params: PyTree = None, *, max_episode_steps: int | None = None, name: str | None = None
) -> EnvFunctions:
    """Return gymnax's `env` for `make_train` and `run`.

    gymnax 0.x has one `done` for both ends. A step is `terminated` if the same step would have ended an
    episode without a limit. Discrete observations become one-hot; all that are not uint8 become float32.

    Args:
        env: the environment itself, in none of gymnax's wrappers, which reset it.
        params: its parameters, which `vmap`; its own `default_params` if None.
        max_episode_steps: the step that is truncated; the limit in `params` if None. Parameters given to
            `step` can shorten an episode and not prolong it.
        name: of the environment; its own if None.

    Raises:
        ConfigError: for a wrapped environment, one without a time limit, or one whose spaces or
            returned values are not those of gymnax.
    """
    name = name or str(getattr(env, "name", type(env).__name__))
    for method in ("reset_env", "step_env"):  # a wrapper forwards what it does not have
        if not callable(inspect.getattr_static(env, method, None)):
            what = f"a gymnax environment without wrappers, got one with no {method} of its own"
            raise ConfigError("env", name, what)
    default, limit = _time_limit(name, env.default_params if params is None else params, max_episode_steps)
    action_space, act = _actions(name, env.action_space(default))
    obs, started = jax.eval_shape(env.reset_env, jax.random.key(0), default)
    observation_space, observe = _observations(name, env.observation_space(default), obs)
    dtype = jnp.int32 if isinstance(action_space, spaces.Discrete) else jnp.float32
    still = act(jnp.zeros(action_space.shape, dtype))
    move = _mover(name, env, started, still, default)
    like = shared.same_types(name, started, lambda state: move(jax.random.key(0), state, still, default)[1])

    def reset(key, params=None, needed=True):
        obs, inner = env.reset_env(key, default if params is None else params)
        return observe(obs), Timed(shared.cast(inner, like), jnp.int32(0))

    def step(key, state, action, params=None):
        params = default if params is None else params
        obs, inner, *rest, info = move(key, state.inner, act(action), params)
        reward, terminated, truncated = (jnp.reshape(part, ()) for part in rest)
        time = state.time + 1
        truncated |= time >= jnp.minimum(getattr(params, LIMIT, limit), limit)
        state = Timed(shared.cast(inner, like), time)
        return observe(obs), state, jnp.asarray(reward, jnp.float32), terminated, truncated, info

    return EnvFunctions(name, reset, step, observation_space, action_space, limit, default)


def _time_limit(name: str, params: PyTree, max_episode_steps: int | None) -> tuple[PyTree, int]:
    """Return `params` with the time limit in them, and that limit."""
    if max_episode_steps is not None:
        validate("max_episode_steps", max_episode_steps, Rule("count", 1))
        own = getattr(params, LIMIT, None)
        same = type(own)(max_episode_steps) if isinstance(own, int | float) else max_episode_steps
        return _with_limit(params, same), max_episode_steps
    if not hasattr(params, LIMIT):
        what = f"a number of steps, since the parameters of {name} have no {LIMIT}"
        raise ConfigError("max_episode_steps", None, what)
    return params, int(getattr(params, LIMIT))


def _with_limit(params: PyTree, limit: Any) -> PyTree:
    """Return `params` with that time limit, if they have any."""
    return _replace(params, {LIMIT: limit}) if hasattr(params, LIMIT) else params


def _replace(params: PyTree, changes: Mapping[str, Any]) -> PyTree:
    """Return `params`, a dataclass as in gymnax or a NamedTuple, with `changes`."""
    if hasattr(params, "_replace"):
        return params._replace(**changes)
    return dataclasses.replace(params, **changes)


def _mover(name: str, env: Any, state: PyTree, action: Array, params: PyTree) -> Callable:
    """Return `step_env` with two flags: `(obs, state, reward, terminated, truncated, info)`, both flags bool.

    `state` and `action` are examples.
    """
    returned = len(jax.eval_shape(env.step, jax.random.key(0), state, action, params))
    if returned not in (5, 6):
        what = f"a step that returns 5 values, as in gymnax 0.x, or 6, as in 1.x, got {returned} values"
        raise ConfigError("env", name, what)

    def of_flags(key, state, action, params):
        obs, state, reward, terminated, info = env.step_env(key, state, action, params)
        truncated = env.is_truncated(state, params)
        return obs, state, reward, jnp.asarray(terminated, bool), jnp.asarray(truncated, bool), info

    def of_done(key, state, action, params):
        # With and without the limit; `vmap` computes once what does not depend on it. `is_terminal` of the
        # state cannot replace this: some environments store in the state that the limit was reached.
        limit = jnp.asarray(getattr(params, LIMIT, ENDLESS))
        pair = jnp.stack([limit, jnp.full_like(limit, ENDLESS)])
        both = jax.vmap(lambda limit: env.step_env(key, state, action, _with_limit(params, limit)))(pair)
        (obs, after, reward, done, info), (*_, terminated, _) = (
            jax.tree.map(lambda leaf, i=i: leaf[i], both) for i in (0, 1)
        )
        done, terminated = jnp.asarray(done, bool), jnp.asarray(terminated, bool)
        return obs, after, reward, terminated, done & ~terminated, info

    return of_flags if returned == 6 else of_done


def _actions(name: str, theirs: Any) -> tuple[spaces.Space, Callable[[Array], Array]]:
    """Return the action space, and the function from its actions to gymnax's."""
    if hasattr(theirs, "n"):
        return spaces.Discrete(int(theirs.n)), lambda action: action
    if not hasattr(theirs, "low") or not np.issubdtype(np.dtype(theirs.dtype), np.floating):
        raise ConfigError("env", name, f"actions that are indices or a box of floats, got {theirs}")
    space = shared.box(theirs.low, theirs.high, tuple(theirs.shape) or (1,))
    return space, lambda action: jnp.reshape(action, theirs.shape)


def _observations(name: str, theirs: Any, obs: Any) -> tuple[spaces.Box, Callable[[Array], Array]]:
    """Return the observation space, and the function from gymnax's observations, such as `obs`, to it."""
    if hasattr(theirs, "n"):
        categories = int(theirs.n)
        return shared.box(0, 1, (*obs.shape, categories)), lambda obs: jax.nn.one_hot(obs, categories)
    if not hasattr(theirs, "low") or not hasattr(obs, "shape"):
        raise ConfigError("env", name, f"observations that are one array, got {theirs}")
    return shared.box(theirs.low, theirs.high, obs.shape, obs.dtype), shared.as_observation


def make_gymnax(
    env: str, engine: str = "auto", *, max_episode_steps: int | None = None, **kwargs: Any
) -> EnvFunctions:
    """Return gymnax's environment with id `env`, such as "CartPole-v1".

    Args:
        env: one of `gymnax.registered_envs`.
        engine: only auto.
        max_episode_steps: the step that is truncated; gymnax's own limit if None.
        **kwargs: parameters of the environment, and arguments of its class.

    Raises:
        ConfigError: for an unknown id or argument, or if gymnax is not installed.
    """
    name = shared.name_of("gymnax", env)
    no_physics_engine(name, engine)
    try:
        from gymnax import make, registered_envs  # type: ignore
    except ImportError as error:
        raise shared.missing(name, "gymnax", error) from error
    shared.known_id("gymnax", env, registered_envs)
    default = shared.made(name, lambda: make(env))[1]
    fields = {field: value for field, value in kwargs.items() if hasattr(default, field)}
    options = {option: value for option, value in kwargs.items() if option not in fields}
    for field, value in fields.items():
        rule = Rule("switch" if isinstance(getattr(default, field), bool) else "real")
        validate(field, value, rule)
    made, params = shared.made(name, lambda: make(env, **options))
    return from_gymnax(made, _replace(params, fields), max_episode_steps=max_episode_steps, name=name)
