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
from purerl.envs.check.interface import HINTS
from purerl.rollout import env_action, uniform_action
from purerl.shown import Words, shape_of, shapes_of
from purerl.spaces import check_spaces, shapes
from purerl.types import Env, EnvFunctions, EnvSpec, HostEnv, Key, PyTree, TrainOutput, TrainState

ADAPTERS = {
    "gymnax": "purerl.from_gymnax(env)",
    "brax": "purerl.from_brax(env)",
    "mujoco_playground": "purerl.from_playground(env)",
    "gymnasium": "purerl.from_gymnasium(lambda: MyEnv())",
    "gym": "purerl.from_gymnasium(lambda: MyEnv()), once it has Gymnasium's interface",
}
"""Library -> the call that makes its environments purerl's."""
LISTED = "purerl.check_env(env) lists every fault."
RESULTS = ("obs", "state", "reward", "terminated", "truncated", "info")
"""Results of `step`; those of `reset` are the first two."""


def check_config(given: Any) -> None:
    """Raise ConfigError unless `given` is a configuration."""
    if isinstance(given, Config):
        return
    what = 'a config, such as purerl.make_config("ppo", env="cartpole")'
    hint = ""
    if isinstance(given, str):
        what = f'a config, such as purerl.make_config("{given}", env=...)'
    elif isinstance(given, type) and issubclass(given, Config):
        hint = f"Make one: purerl.make_config({given.algo!r}, ...)."
    elif isinstance(given, TrainState):
        hint = "The config comes first, and then the state."
    elif type(given) is tuple and given and isinstance(given[0], Config):
        hint = "purerl.load returns both: cfg, state = purerl.load(run_dir)."
    elif isinstance(given, Mapping):
        hint = "purerl.make_config(algo, **fields) makes one from fields."
    raise ConfigError("cfg", given, what, hint)


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
        raise ConfigError("env", shown, f"{what}; this one has no {', '.join(missing)}", LISTED)


def _is_count(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value > 0)


def _try_env(env: Env) -> None:
    """Trace a reset and a step. Raise ConfigError if they cannot be traced, or return something else.

    Errors in the user's own code pass through.
    """
    key = jax.eval_shape(lambda: jax.random.key(0))

    def action(key: Key) -> Any:
        return env_action(env.action_space, uniform_action(env.action_space, key, 1))[0]

    _, state = _traced(env, "reset", RESULTS[:2], key)
    _, after, *numbers, info = _traced(env, "step", RESULTS, key, state, jax.eval_shape(action, key))
    for name, kinds, value in zip(RESULTS[2:5], ("fiu", "b", "b"), numbers, strict=True):
        if getattr(value, "shape", None) != () or value.dtype.kind not in kinds:
            what = "one bool, of shape ()" if kinds == "b" else "one number, of shape ()"
            raise ConfigError(f"{name} of {env.name}'s step", shapes_of(value), what, LISTED)
    if not isinstance(info, dict):
        raise ConfigError(f"info of {env.name}'s step", shapes_of(info), "a dict", LISTED)
    before, now = _arrays(state), _arrays(after)
    for path in before | now:
        if before.get(path) != now.get(path):
            what = f"{before.get(path, 'nothing')}, as from reset"
            raise ConfigError(
                f"state{path} of {env.name}'s step", now.get(path, Words("nothing")), what, LISTED
            )


def _traced(env: Env, function: str, names: tuple[str, ...], *args: Any) -> tuple:
    """Return the shapes of a call of `reset` or `step`; the first is the observation."""
    try:
        values = jax.eval_shape(getattr(env, function), *args)
    except tuple(HINTS) as error:
        hint = next(hint for kind, hint in HINTS.items() if isinstance(error, kind))
        what = f"a function that JAX can trace, got {type(error).__name__}"
        raise ConfigError(
            f"{function} of {env.name}", Words("a function"), what, f"{hint} {LISTED}"
        ) from error
    if not isinstance(values, tuple | list) or len(values) != len(names):
        got = f"{len(values)} values" if isinstance(values, tuple | list) else type(values).__name__
        what = f"{len(names)} results, ({', '.join(names)})"
        raise ConfigError(f"results of {env.name}'s {function}", Words(got), what, LISTED)
    expected = shapes(env.observation_space)
    shape = lambda leaf: leaf.shape
    if jax.tree.map(shape, values[0]) != jax.tree.map(shape, expected):
        kind = f"an array of shape {expected.shape}" if hasattr(expected, "shape") else shapes_of(expected)
        what = f"{kind}, as in observation_space"
        raise ConfigError(f"obs of {env.name}'s {function}", shapes_of(values[0]), what, LISTED)
    return tuple(values)


def _arrays(tree: PyTree) -> dict[str, Words]:
    """Return the types and shapes of the leaves of `tree` by path."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): shape_of(leaf) for path, leaf in leaves}


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
        {path: kind for path, kind in _arrays(tree).items() if not path.startswith(".replay")}
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
