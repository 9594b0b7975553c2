"""Checks of the arguments of the public functions, before anything is traced."""

from __future__ import annotations

from collections.abc import Mapping
from functools import wraps
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

from purerl.config import Config, ConfigError, Rule, validate
from purerl.rollout import env_action, uniform_action
from purerl.shown import Words, shape_of, shapes_of
from purerl.spaces import check_spaces
from purerl.types import Env, EnvFunctions, EnvSpec, HostEnv, Key, PyTree, TrainOutput, TrainState

ADAPTERS = {
    "gymnax": "purerl.from_gymnax(env)",
    "brax": "purerl.from_brax(env)",
    "mujoco_playground": "purerl.from_playground(env)",
    "gymnasium": "purerl.from_gymnasium(lambda: MyEnv())",
    "gym": "purerl.from_gymnasium(lambda: MyEnv()), once it has Gymnasium's interface",
}
"""Library -> the call that makes its environments purerl's."""
RESULTS = ("obs", "state", "reward", "terminated", "truncated", "info")
"""Results of `step`; those of `reset` are the first two."""


def check_config(cfg: Any) -> None:
    """Raise ConfigError unless `cfg` is a configuration."""
    if isinstance(cfg, Config):
        return
    what = 'a config, such as purerl.make_config("ppo", env="cartpole")'
    hint = ""
    if isinstance(cfg, str):
        what = f'a config, such as purerl.make_config("{cfg}", env=...)'
    elif isinstance(cfg, type) and issubclass(cfg, Config):
        hint = f"Make one: purerl.make_config({cfg.algo!r}, ...)."
    elif isinstance(cfg, TrainState):
        hint = "The config comes first, and then the state."
    elif type(cfg) is tuple and cfg and isinstance(cfg[0], Config):
        hint = "purerl.load returns both: cfg, state = purerl.load(run_dir)."
    elif isinstance(cfg, Mapping):
        hint = "purerl.make_config(algo, **fields) makes one from fields."
    raise ConfigError("cfg", cfg, what, hint)


def check_env(env: Any) -> None:
    """Raise ConfigError unless `env` is an environment whose `reset` and `step` return what they should.

    Both are traced once, except those of MuJoCo tasks, which are checked when they are made.
    """
    _check_kind(env)
    name = env.name
    for attribute, fits, what in (
        ("name", isinstance(name, str) and name != "", "a non-empty string"),
        ("max_episode_steps", _is_count(env.max_episode_steps), "a positive whole number"),
    ):
        if not fits:
            raise ConfigError(f"env.{attribute}", getattr(env, attribute), what)
    if isinstance(env, HostEnv):
        return
    check_spaces(EnvSpec(name, env.observation_space, env.action_space))
    for attribute in ("reset", "step"):
        if not callable(getattr(env, attribute)):
            raise ConfigError(f"env.{attribute}", getattr(env, attribute), "a function")
    if not str(getattr(env.step, "__module__", "")).startswith("purerl.envs.mujoco"):
        _try_env(env)


def _check_kind(env: Any) -> None:
    """Raise ConfigError unless `env` has the attributes of an environment, with the reason if it is known."""
    what = "an environment, such as purerl.make_env('cartpole')"
    shown: Any = env
    if isinstance(env, str):
        hint = f'A name goes into the config: purerl.make_config("ppo", env={env!r}).'
        raise ConfigError("env", env, what, hint)
    kind = env if isinstance(env, type) else type(env)
    if not isinstance(env, str | EnvFunctions | HostEnv):
        shown = Words(f"<{'class ' if env is kind else ''}{kind.__name__}>")
    libraries = {base.__module__.partition(".")[0] for base in kind.__mro__}
    found = [library for library in ADAPTERS if library in libraries]
    if isinstance(env, gymnasium.Env | gymnasium.vector.VectorEnv) and not found:
        found = ["gymnasium"]
    if found:
        raise ConfigError("env", shown, what, f"For this one use {ADAPTERS[found[0]]}.")
    if isinstance(env, type):
        raise ConfigError("env", shown, what, f"This is a class; an instance may be {kind.__name__}().")
    needed = ("name", "observation_space", "action_space", "max_episode_steps")
    needed += ("make_vector",) if isinstance(env, HostEnv) else ("reset", "step")
    missing = [attribute for attribute in needed if not hasattr(env, attribute)]
    if len(missing) == len(needed) and callable(env):
        raise ConfigError("env", shown, what, "This is a function; call it if it makes one.")
    if missing:
        hint = "purerl.check_env(env) lists every fault of an environment of your own."
        raise ConfigError("env", shown, f"{what}; this one has no {', '.join(missing)}", hint)


def _is_count(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value > 0)


def _try_env(env: Env) -> None:
    """Trace a reset and a step; their errors pass through. Raise ConfigError for results of another form."""
    hint = "purerl.check_env(env) lists every fault."
    key = jax.eval_shape(lambda: jax.random.key(0))

    def checked(function: str, values: Any, names: tuple[str, ...]) -> tuple:
        if not isinstance(values, tuple | list) or len(values) != len(names):
            got = f"{len(values)} values" if isinstance(values, tuple | list) else type(values).__name__
            what = f"{len(names)} results, ({', '.join(names)})"
            raise ConfigError(f"results of {env.name}'s {function}", Words(got), what, hint)
        obs, wanted = values[0], env.observation_space.shape
        if getattr(obs, "shape", None) != wanted:
            what = f"an array of shape {wanted}, as in observation_space"
            raise ConfigError(f"obs of {env.name}'s {function}", shapes_of(obs), what, hint)
        return tuple(values)

    def action(key: Key) -> Any:
        return env_action(env.action_space, uniform_action(env.action_space, key, 1))[0]

    _, state = checked("reset", jax.eval_shape(env.reset, key), RESULTS[:2])
    moved = checked("step", jax.eval_shape(env.step, key, state, jax.eval_shape(action, key)), RESULTS)
    for name, value in zip(RESULTS[2:5], moved[2:5], strict=True):
        if getattr(value, "shape", None) != ():
            raise ConfigError(
                f"{name} of {env.name}'s step", shapes_of(value), "one number, of shape ()", hint
            )


def check_key(key: Any) -> None:
    """Raise ConfigError unless `key` is a single typed random key."""
    is_key = hasattr(key, "dtype") and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    if not is_key:
        value = shape_of(key) if hasattr(key, "dtype") else key
        raise ConfigError("key", value, "a random key, such as jax.random.key(0)")
    if key.shape:
        hint = "One run per key: jax.vmap(train)(keys)."
        raise ConfigError("key", shape_of(key), "a single key, of shape ()", hint)


def check_member(member: Any, state: TrainState) -> None:
    """Raise ConfigError unless `member` picks one of the members in `state`."""
    if not state.key.ndim:
        if member is not None:
            raise ConfigError("member", member, "None", "The state holds a single member.")
        return
    members = state.key.shape[0]
    try:
        validate("member", member, Rule("count", 0, members - 1))
    except ConfigError:
        what = f"0 to {members - 1}" if members > 1 else "0"
        raise ConfigError("member", member, what, f"The state holds {members} stacked members.") from None


def check_state(state: Any) -> None:
    """Raise ConfigError unless `state` is the state of a training run."""
    if isinstance(state, TrainState):
        return
    hint = ""
    if isinstance(state, TrainOutput) or hasattr(state, "state"):
        hint = "Its field state is one: give result.state."
    elif isinstance(state, Config):
        hint = "The config comes first, and then the state."
    what = "a purerl.TrainState, as train, purerl.run and purerl.load return it"
    raise ConfigError("state", state, what, hint)


def check_fits(state: PyTree, expected: PyTree, algo: str) -> None:
    """Raise ConfigError unless an algorithm's State has the arrays that `algo` makes, its replay apart.

    Args:
        state: the State of one member.
        expected: the same as the configuration makes it, as `jax.ShapeDtypeStruct`s.
        algo: the algorithm's id.
    """
    hint = "Give cfg, env and networks as in training."
    if type(state) is not type(expected):
        what = f"a state of {algo}, got one of {type(state).__module__}"
        raise ConfigError("state", Words(type(state).__name__), what, hint)
    ours, theirs = (
        {
            jax.tree_util.keystr(path): shape_of(leaf)
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
            if not jax.tree_util.keystr(path).startswith(".replay")
        }
        for tree in (state, expected)
    )
    for path in theirs | ours:
        if ours.get(path) != theirs.get(path):
            what = f"{theirs.get(path, 'nothing')}, as {algo} has it with this cfg, env and networks"
            raise ConfigError(f"state{path}", ours.get(path, Words("nothing")), what, hint)


def with_default_params(env: Env) -> Env:
    """Return `env` so that `params=None` means its `default_params`, also where these were replaced."""
    if not isinstance(env, EnvFunctions) or not jax.tree.leaves(env.default_params):
        return env

    @wraps(env.reset)
    def reset(key, params=None, needed=True):
        return env.reset(key, env.default_params if params is None else params, needed)

    @wraps(env.step)
    def step(key, state, action, params=None):
        return env.step(key, state, action, env.default_params if params is None else params)

    return env._replace(reset=reset, step=step)
