"""Environments that break the contract, and the faults that `check_env` finds: these and no others."""

import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from walk import (
    LIMIT,
    WALK,
    Params,
    State,
    at,
    obeying,
    observe,
    observing,
    reset,
    resetting,
    step,
    stepping,
    without,
)

from purerl.envs.check.check import EnvError, check_env
from purerl.envs.check.interface import check_interface


def counting():
    """A counter on the host, in every observation."""
    count = 0

    def changed(obs):
        nonlocal count
        count += 1
        return obs.at[2].set(count / 100)

    return stepping(obs=changed)


class Leaky:
    """Keeps its state outside of what it returns."""

    name, max_episode_steps, default_params = "leaky", LIMIT, Params()
    observation_space, action_space = WALK.observation_space, WALK.action_space

    def reset(self, key, params=None, needed=True):
        obs, self.state = reset(key)
        return obs, self.state

    def step(self, key, state, action, params=None):
        obs, self.state, *rest = step(key, self.state, action, params)
        return obs, self.state, *rest


def host_counter():
    """The same program each time, whose host function counts."""
    calls = []

    def count(reward):
        calls.append(reward)
        return np.float32(len(calls))

    scalar = jax.ShapeDtypeStruct((), jnp.float32)
    return stepping(reward=lambda r: jax.pure_callback(count, scalar, r, vmap_method="sequential"))


def restarting(derive):
    """Step resets the state that is over with a key derived from its own."""

    def changed(key, state, action, params=None):
        _, state, *rest = step(key, state, action, params)
        _, fresh = reset(derive(key))
        state = jax.tree.map(lambda new, old: jnp.where(state.time >= LIMIT, new, old), fresh, state)
        return observe(state), state, *rest

    return WALK._replace(step=changed)


def first_row_of_all():
    """Under `vmap`, every row gets the first one's reward."""

    @jax.custom_batching.custom_vmap
    def identity(x):
        return x

    identity.def_vmap(lambda size, _, x: (jnp.broadcast_to(x[:1], x.shape), True))
    return stepping(reward=identity)


def unbatchable(reward):
    return jax.pure_callback(lambda r: r, jax.ShapeDtypeStruct(reward.shape, jnp.float32), reward)


def batchable_once():
    """Its rule for `vmap` has none for itself."""

    @jax.custom_batching.custom_vmap
    def identity(x):
        return x

    identity.def_vmap(lambda size, _, x: (unbatchable(x), True))
    return stepping(reward=identity)


class Closed:
    """Its name raises."""

    def __getattr__(self, name):
        return getattr(WALK, name)

    @property
    def name(self):
        raise RuntimeError("not today")


def other_default(speed):
    """None means a speed of its own."""

    def changed(key, state, action, params=None):
        return step(key, state, action, Params(speed) if params is None else params)

    return WALK._replace(step=changed)


def lists():
    """A state that is a tuple after a reset and a list after a step."""

    def changed(key, state, action, params=None):
        obs, state, *rest = step(key, State(*state), action, params)
        return obs, list(state), *rest

    return resetting(state=tuple, env=WALK._replace(step=changed))


def no_default(key, state, action, params=None):
    return step(key, state, action, Params(params.speed))  # type: ignore[union-attr]


def branching_on_needed(key, params=None, needed=True):
    return reset(key) if needed else (jnp.zeros(3), State(jnp.zeros(2), jnp.int32(0)))


def branching(key, state, action, params=None):
    return step(key, state, -action if state.position[0] > 0 else action, params)


def converting(key, state, action, params=None):
    return step(key, state, np.asarray(action), params)


def raising(key, state, action, params=None):
    raise RuntimeError("no such track")


def branching_on_params(key, state, action, params=None):
    return step(key, state, action, params if params is None or params.speed < 1 else None)


ATTRIBUTES = {
    "no name": (without("name"), "^name: expected a non-empty string, got nothing"),
    "no action_space": (without("action_space"), "^action_space: .* got nothing"),
    "no step": (without("step"), "^step: .* got nothing"),
    "no reset": (without("reset"), "^reset: .* got nothing"),
    "number for a name": (WALK._replace(name=3), "^name: expected a non-empty string, got 3"),
    "name that raises": (Closed, r"^name: .* got RuntimeError\('not today'\)"),
    "no time limit": (WALK._replace(max_episode_steps=None), "^max_episode_steps: expected a pos.* got None"),
    "time limit of True": (WALK._replace(max_episode_steps=True), "^max_episode_steps: .* got True"),
    "discrete observation": (
        WALK._replace(observation_space=spaces.Discrete(3)),
        r"^observation_space: expected a gymnasium.spaces.Box .* got Discrete\(3\)",
    ),
    "space of integers": (
        WALK._replace(observation_space=spaces.Box(-1, 1, (3,), np.int64)),
        "^observation_space: .* got Box",
    ),
    "actions from 1": (
        WALK._replace(action_space=spaces.Discrete(2, start=1)),
        "^action_space: .* that starts at 0, .* got Discrete",
    ),
    "params with a string": (
        WALK._replace(default_params={"track": "oval"}),
        "^default_params: expected a pytree .* got {'track': 'oval'}",
    ),
    "number for a step": (WALK._replace(step=3), "^step: expected a function of .* got 3"),
}
TYPES = {
    "reset without needed": (
        WALK._replace(reset=lambda key, params=None: reset(key)),
        "^reset: expected no exception, got TypeError: .* unexpected keyword argument 'needed'",
    ),
    "step without params": (
        WALK._replace(step=lambda key, state, action: step(key, state, action, None)),
        "^step: expected no exception, got TypeError: .* unexpected keyword argument 'params'",
    ),
    "integer obs": (
        observing(lambda obs: obs.astype(jnp.int32)),
        r"^reset's obs: expected float32, .* got int32\[3\]",
    ),
    "obs of another shape than the space": (
        WALK._replace(observation_space=spaces.Box(-1.0, 1.0, (4,))),
        r"^reset's obs: expected shape \(4,\), .* got shape \(3,\)",
    ),
    "obs in a dict": (observing(lambda obs: {"here": obs}), "^reset's obs: expected one array, got a dict"),
    "integer reward": (stepping(reward=jnp.int32), r"^step's reward: expected float32\[\], got int32\[\]"),
    "weak reward": (
        stepping(reward=lambda _: 1.0),
        r"^step's reward: .* got weakly typed float32\[\]. Return jnp.asarray\(reward, 'float32'\)",
    ),
    "array of rewards": (stepping(reward=jnp.atleast_1d), r"^step's reward: .* got float32\[1\]"),
    "integer truncated": (stepping(truncated=jnp.int32), r"^step's truncated: .* bool\[\], got int32\[\]"),
    "dict of terminated": (stepping(terminated=lambda t: {"t": t}), "^step's terminated: .* got a dict"),
    "state changes dtype": (
        stepping(state=lambda state: state._replace(time=state.time.astype(jnp.float32))),
        r"^step's state\.time: expected int32\[\] as from reset, got float32\[\]",
    ),
    "state gains a leaf": (
        stepping(state=lambda state: state._replace(position={"x": state.position, "y": state.time})),
        r"^step's state\.position: expected float32\[2\] as from reset, got nothing",
        r"^step's state\.position\['x'\]: expected nothing as from reset, got float32\[2\]",
        r"^step's state\.position\['y'\]: expected nothing as from reset, got int32\[\]",
    ),
    "state changes its tree": (
        lists,
        r"^step's obs and state: expected the tree PyTreeDef\(.*\) as from reset, got PyTree",
    ),
    "weak state": (
        resetting(state=lambda state: state._replace(time=0)),
        r"^reset's state\.time: expected a strong type, got weakly typed int32\[\].*'int32'",
    ),
    "weak observation": (
        observing(lambda obs: jnp.asarray(0.5) * jnp.asarray([0, 0, 1])),
        r"^reset's obs: expected a strong type, got weakly typed float32\[3\]",
        r"^step's obs: expected a strong type, got weakly typed float32\[3\]",
    ),
    "object in the state": (
        resetting(state=lambda _: {"track": object()}),
        r"^reset: expected no exception, got TypeError: .*\['track'\].* not a valid JAX type",
    ),
    "info in a list": (stepping(info=lambda _: []), "^step's info: expected a dict, got a list"),
    "five values": (
        WALK._replace(step=lambda key, state, action, params=None: step(key, state, action, params)[:5]),
        r"^step: expected \(obs, state, reward, terminated, truncated, info\), got 5 values",
    ),
    "no state": (
        WALK._replace(reset=lambda key, params=None, needed=True: reset(key)[0]),
        r"^reset: expected \(obs, state\), got float32\[3\]",
    ),
    "nothing returned": (
        WALK._replace(reset=lambda key, params=None, needed=True: None),
        r"^reset: expected \(obs, state\), got a NoneType",
    ),
    "exception": (WALK._replace(step=raising), r"^step: .* got RuntimeError: no such track\.$"),
    "if": (
        WALK._replace(step=branching),
        "^step: .* got TracerBoolConversionError: Attempted boolean conversion.* instead of if",
    ),
    "np": (WALK._replace(step=converting), "^step: .* TracerArrayConversionError.* jnp instead of np"),
    "if needed": (WALK._replace(reset=branching_on_needed), "^reset: .* got TracerBoolConversionError"),
    "no vmap": (stepping(reward=unbatchable), r"^vmap\(step\): expected no exception, got "),
    "no vmap of vmap": (batchable_once, r"^vmap\(vmap\(step\)\): .* got NotImplementedError"),
    "no vmap over params": (
        WALK._replace(step=branching_on_params),
        r"^vmap\(step\) over params: .* got TracerBoolConversionError",
    ),
    "name and type": (
        stepping(reward=jnp.int32)._replace(name=""),
        "^name: expected a non-empty string, got ''",
        r"^step's reward: expected float32\[\], got int32\[\]",
    ),
}
TWO_CALLS = "expected the same from two calls with the same arguments"
TWO_TRACES = "expected the same from two traces with the same arguments"
BEHAVIOUR = {
    "None means nothing": (
        WALK._replace(step=no_default),
        "^reset or step: .* got AttributeError: 'NoneType' object has no attribute 'speed'",
    ),
    "None means other parameters": (
        lambda: other_default(0.12),
        "^step's obs, step's state.position, step's reward: expected the same with params=None as with def",
    ),
    "counter on the host": (counting, f"^step's obs: {TWO_TRACES}.* got differences of up to 0.* belongs in"),
    "host function that counts": (host_counter, f"^step's reward: {TWO_CALLS}.* got differences of up to "),
    "state on the host": (
        Leaky,
        r"^vmap\(vmap\(step\)\): .* got UnexpectedTracerError: .* belongs in the state",
    ),
    "NumPy's random numbers": (
        resetting(obs=lambda obs: obs.at[0].set(np.random.default_rng().uniform())),
        f"^reset's obs: {TWO_TRACES}",
    ),
    "needed is True at most": (
        WALK._replace(reset=lambda key, params=None, needed=True: obeying(key, params, needed is True)),
        "^reset: expected different starts",
    ),
    "rows mixed by vmap": (first_row_of_all, "^step's reward: expected the same under vmap as alone"),
    "one start for every key": (
        WALK._replace(reset=lambda key, params=None, needed=True: reset(jax.random.key(3))),
        "^reset: expected different starts, got the same obs and state for 16 different keys.*=True",
    ),
    "NaN obs": (stepping(obs=at(3, jnp.nan, jnp.asarray)), "^step's obs: expected finite .* got NaN"),
    "infinite start": (resetting(obs=lambda obs: obs.at[0].set(jnp.inf)), "^reset's obs: expected finite"),
    "NaN rewards": (
        stepping(reward=lambda reward: jnp.log(reward + 0.5)),
        "^step's reward: expected a finite number, got nan",
    ),
    "out of the space": (
        stepping(obs=at(3, 1.5, jnp.asarray)),
        r"^step's obs\[0\]: expected a number in \[-1, 1\] as in observation_space, got 1.5",
    ),
    "no truncation": (
        stepping(truncated=jnp.zeros_like),
        "^step's truncated: expected True at step 5 = max_episode_steps of an episode, got False",
    ),
    "truncated one step late": (
        WALK._replace(max_episode_steps=LIMIT - 1),
        "^step's truncated: expected True at step 4 = max_episode_steps",
    ),
    "truncated one step early": (
        WALK._replace(max_episode_steps=LIMIT + 1),
        "^step's truncated: expected False before step 6 = max_episode_steps .* got True at step 5",
    ),
    "step resets by its key": (
        lambda: restarting(lambda key: key),
        r"^step: expected the obs and state that ended .* got those of reset\(key\), .* each of \d+ ends",
    ),
    "step resets by a split key": (
        lambda: restarting(lambda key: jax.random.split(key)[1]),
        r"^step: .* got those of reset\(jax.random.split\(key\)\[1\]\)",
    ),
    "several faults": (
        observing(lambda obs: obs * jnp.nan, name="", max_episode_steps=None),
        "^name: .* got ''",
        "^max_episode_steps: .* got None",
        "^reset's obs: expected finite",
        "^step's obs: expected finite",
    ),
}
QUICK = {
    "None means other parameters",
    "counter on the host",
    "rows mixed by vmap",
    "one start for every key",
    "NaN obs",
    "out of the space",
    "no truncation",
    "truncated one step early",
    "step resets by a split key",
}


def expect(faults: Sequence[str], sentences: Sequence[str]):
    assert len(faults) == len(sentences), faults
    for fault, sentence in zip(faults, sentences, strict=True):
        assert re.search(sentence, fault), faults
        assert re.match(r".+: expected .+, got .+", fault), fault


def faults_of(env: Any) -> tuple[str, ...]:
    made: Any = env() if callable(env) else env
    with pytest.raises(EnvError) as caught:
        check_env(made)
    return caught.value.faults


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_attributes(name):
    env, *sentences = ATTRIBUTES[name]
    made: Any = env() if callable(env) else env
    expect(check_interface(made, None)[1], sentences)


@pytest.mark.parametrize(
    "name", ["no action_space", "no step", "no reset", "actions from 1", "number for a step"]
)
def test_missing_parts_end_the_check(name):
    env, *sentences = ATTRIBUTES[name]
    expect(faults_of(env), sentences)


@pytest.mark.parametrize("name", TYPES)
def test_types(name):
    env, *sentences = TYPES[name]
    expect(faults_of(env), sentences)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in BEHAVIOUR]
)
def test_behaviour(name):
    env, *sentences = BEHAVIOUR[name]
    expect(faults_of(env), sentences)
