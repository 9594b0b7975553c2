"""What `check_env` lets pass, and what it says of each way to break the contract."""

import re
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from environments import clock
from gymnasium import spaces
from probes import probe

import purerl
from purerl import registry
from purerl.envs.check.check import EnvError, check_env
from purerl.types import EnvFunctions

LIMIT = 5
NAMES = ("obs", "state", "reward", "terminated", "truncated", "info")


# A good environment, and how to break it


class Params(NamedTuple):
    speed: float = 0.1
    goal: float = 0.6


class State(NamedTuple):
    position: jax.Array
    time: jax.Array


def observe(state):
    return jnp.append(state.position, jnp.minimum(state.time / LIMIT, 1.0)).astype(jnp.float32)


def reset(key, params=None, needed=True):
    position = jax.random.key_data(key) / 2.0**32 - 0.5  # as good as random, and quick to compile
    state = State(position.astype(jnp.float32), jnp.int32(0))
    return observe(state), state


def step(key, state, action, params=None):
    params = Params() if params is None else params
    position = jnp.clip(state.position + params.speed * action, -1.0, 1.0).astype(jnp.float32)
    state = State(position, state.time + 1)
    reward = -jnp.sum(jnp.square(position))
    return observe(state), state, reward, position[0] > params.goal, state.time >= LIMIT, {"x": position[0]}


WALK = EnvFunctions(
    "walk", reset, step, spaces.Box(-1.0, 1.0, (3,)), spaces.Box(-1.0, 1.0, (2,)), LIMIT, Params()
)
"""Towards a goal, on a square; most episodes of random actions run out of time."""


def stepping(**changes):
    """WALK whose step returns `changes[name](value)` for its value of that name."""

    def changed(key, state, action, params=None):
        values = zip(NAMES, step(key, state, action, params), strict=True)
        return tuple(changes[name](value) if name in changes else value for name, value in values)

    return WALK._replace(step=changed)


def resetting(obs=lambda obs: obs, state=lambda state: state, env=WALK):
    """`env` whose reset returns other values."""

    def changed(key, params=None, needed=True):
        values = reset(key)
        return obs(values[0]), state(values[1])

    return env._replace(reset=changed)


def observing(change, **parts):
    """WALK with another observation."""
    return resetting(obs=change, env=stepping(obs=change))._replace(**parts)


def at(time, broken, whole):
    """`broken` where the observation shows that time, else `whole`."""
    return lambda obs: jnp.where(jnp.round(obs[2] * LIMIT) == time, broken, whole(obs))


def without(name):
    return SimpleNamespace(**{part: value for part, value in WALK._asdict().items() if part != name})


# Good ones


def obeying(key, params=None, needed=True):
    blank = jnp.zeros(3), State(jnp.zeros(2), jnp.int32(0))
    return jax.tree.map(lambda value, zero: jnp.where(needed, value, zero), reset(key), blank)


class Car:
    """An environment as a class, with a key in its state and jitted functions."""

    name, max_episode_steps, default_params = "car", LIMIT, ()
    observation_space, action_space = spaces.Box(-1.0, 1.0, (1,), np.float64), spaces.Discrete(3)

    def reset(self, key, params=None, needed=True):
        key, key_place = jax.random.split(key)
        state = {"key": key, "place": jax.random.uniform(key_place, (1,)), "left": jnp.int32(LIMIT)}
        return state["place"], state

    def step(self, key, state, action, params=None):
        place = jnp.clip(state["place"] + 0.1 * (action - 1), -1, 1)
        state = {"key": jax.random.fold_in(state["key"], 1), "place": place, "left": state["left"] - 1}
        return place, state, place[0], jnp.bool(False), state["left"] <= 0, {}


def pixels():
    """uint8 observations, and one step only."""

    def reset(key, params=None, needed=True):
        state = jax.random.bits(key, (4, 4, 1), jnp.uint8)
        return state, state

    def step(key, state, action, params=None):
        return state, state + 1, jnp.float32(action == 1), jnp.bool(True), jnp.bool(True), {}

    space = spaces.Box(0, 255, (4, 4, 1), np.uint8)
    return EnvFunctions("pixels", reset, step, space, spaces.Discrete(2), 1)


def day():
    """A clock that goes round in an episode's time, beside one that does not; its state is one array."""

    def observe(state):
        return state / jnp.array([24.0, 100.0, 1.0])

    def reset(key, params=None, needed=True):
        state = jnp.zeros(3).at[2].set(jax.random.uniform(key))
        return observe(state), state

    def step(key, state, action, params=None):
        state = state.at[:2].add(1.0)
        state = state.at[0].set(state[0] % 24)
        return observe(state), state, state[2], jnp.bool(False), state[1] == 24, {}

    return EnvFunctions("day", reset, step, spaces.Box(0.0, 1.0, (3,)), spaces.Box(-9.0, np.inf, ()), 24)


def cold():
    """WALK with a table that its first use fills, and truncation that death forestalls."""
    table = {}

    def cached(key, state, action, params=None):
        table.setdefault("half", 0.5)
        *values, terminated, truncated, info = step(key, state, action, params)
        return *values, terminated, truncated & ~terminated, info

    return WALK._replace(step=cached)


def hidden_clock():
    """Its clock is one of many numbers, most of which are drawn; another number never changes."""

    def hidden(state):
        numbers = jnp.concatenate([state.position, jnp.zeros(70)]).at[-1].set(state.time)
        return {"numbers": numbers, "constant": jnp.float32(1)}

    def changed(key, state, action, params=None):
        state = State(state["numbers"][:2], state["numbers"][-1].astype(jnp.int32))
        obs, state, *rest = step(key, state, action, params)
        return obs, hidden(state), *rest

    return resetting(state=hidden, env=WALK._replace(step=changed))


def none_in_another_way():
    """Another program for None, and the same numbers."""

    def changed(key, state, action, params=None):
        return step(key, state, action if params is None else 1.0 * action, params)

    return WALK._replace(step=changed)


def rotten():
    """Nothing is to be had beyond the end."""

    def changed(key, state, action, params=None):
        values = step(key, state, action, params)
        return jax.tree.map(lambda x: jnp.where(state.time < LIMIT, x, x * jnp.nan).astype(x.dtype), values)

    return WALK._replace(step=changed)


def host_function():
    """A host function that is made anew at each trace."""

    def changed(reward):
        scalar = jax.ShapeDtypeStruct((), jnp.float32)
        return jax.pure_callback(lambda reward: 2 * reward, scalar, reward, vmap_method="expand_dims")

    return stepping(reward=changed)


GOOD = {
    "walk": lambda: WALK,
    "class": Car,
    "pixels": pixels,
    "day": day,
    "table": cold,
    "hidden clock": hidden_clock,
    "host function": host_function,
    "rotten beyond the end": rotten,
    "None in another way": none_in_another_way,
    "rounding at the bounds": lambda: observing(lambda obs: obs.at[2].set(1 + 1e-6)),
    "clock": clock,
    "needed is obeyed": lambda: WALK._replace(reset=obeying),
    "key used in part": lambda: resetting(state=lambda state: state._replace(position=jnp.ones(2))),
    "beyond what is played": lambda: stepping(truncated=jnp.zeros_like)._replace(max_episode_steps=10**9),
}


@pytest.mark.parametrize("name", registry.ENVIRONMENTS)
def test_every_registered_environment_passes(name):
    check_env(purerl.make_env(name), deterministic_reset=name in ("asterix", "seaquest", "space_invaders"))


@pytest.mark.parametrize("name", GOOD)
def test_a_good_environment_passes(name):
    check_env(GOOD[name]())


@pytest.mark.parametrize("name", ["delay", "ring"])
def test_a_probe_passes(name):
    check_env(probe(name))


def test_the_given_parameters_are_those_that_are_checked():
    def fast(key, state, action, params=None):
        params = Params() if params is None else params
        obs, *rest = step(key, state, action, params)
        return jnp.where(params.speed > 1, 2.0, obs), *rest

    env = WALK._replace(step=fast)
    check_env(env)
    with pytest.raises(EnvError, match=r"step's obs\[0\] is 2, but observation_space has \[-1, 1\]"):
        check_env(env, Params(speed=2.0))


def test_given_parameters_of_the_wrong_kind():
    with pytest.raises(EnvError, match=r"params is \{'speed': 'fast'\}; expected a pytree of"):
        check_env(WALK, {"speed": "fast"})


def test_the_message_lists_what_the_error_holds():
    with pytest.raises(EnvError, match="breaks its contract") as caught:
        check_env(SimpleNamespace(name="", max_episode_steps=None))  # type: ignore[arg-type]
    assert isinstance(caught.value, ValueError)
    assert len(caught.value.faults) == 7
    assert all(f"\n  - {fault}" in str(caught.value) for fault in caught.value.faults)


# Broken ones


def counting():
    """A counter on the host, in every observation."""
    count = 0

    def changed(obs):
        nonlocal count
        count += 1
        return obs.at[2].set(count / 100)

    return stepping(obs=changed)


def logging():
    """A list on the host, which nothing depends on."""
    log = []

    def changed(key, params=None, needed=True):
        log.append("reset")
        return reset(key)

    return WALK._replace(reset=changed)


class Leaky:
    """Keeps its last state to itself."""

    name, max_episode_steps, default_params = "leaky", LIMIT, Params()
    observation_space, action_space = WALK.observation_space, WALK.action_space
    step = staticmethod(step)

    def reset(self, key, params=None, needed=True):
        obs, self.state = reset(key)
        return obs, self.state


def calling_back():
    """The same program each time, but a host function in it counts."""
    calls = []

    def count(reward):
        calls.append(reward)
        return np.float32(len(calls))

    scalar = jax.ShapeDtypeStruct((), jnp.float32)
    return stepping(reward=lambda r: jax.pure_callback(count, scalar, r, vmap_method="sequential"))


def restarting(delay=0):
    """Step resets the state that is over, or that was over before it."""

    def changed(key, state, action, params=None):
        def fresh(over, state):
            return jax.tree.map(lambda new, old: jnp.where(over, new, old), reset(key)[1], state)

        state = fresh((state.time >= LIMIT) & (delay == 1), state)
        obs, state, *rest = step(key, state, action, params)
        state = fresh((state.time >= LIMIT) & (delay == 0), state)
        return (obs if delay else observe(state)), state, *rest

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
    """Does not say its name."""

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


def without_needed(key, params=None):
    return reset(key)


def branching_on_needed(key, params=None, needed=True):
    return reset(key) if needed else (jnp.zeros(3), State(jnp.zeros(2), jnp.int32(0)))


def legacy(key, params=None, needed=True):
    return reset(jax.random.wrap_key_data(key))


def branching(key, state, action, params=None):
    return step(key, state, -action if state.position[0] > 0 else action, params)


def converting(key, state, action, params=None):
    return step(key, state, np.asarray(action), params)


def raising(key, state, action, params=None):
    raise RuntimeError("no such track")


def branching_on_params(key, state, action, params=None):
    return step(key, state, action, params if params is None or params.speed < 1 else None)


FOREIGN = {"position": jnp.zeros(2), "track": object()}
IMPURE = "is not pure: every trace gives another program"
SPACE = r"but observation_space has \[-1, 1\]"
BROKEN = {
    # Attributes
    "no name": (without("name"), "^name is missing; expected a non-empty string"),
    "no action_space": (without("action_space"), "^action_space is missing"),
    "no step": (without("step"), "^step is missing"),
    "no reset": (without("reset"), "^reset is missing"),
    "no default_params": (without("default_params"), "^default_params is missing"),
    "name is a number": (WALK._replace(name=3), "^name is 3; expected a non-empty string"),
    "a name that raises": (Closed, r"^name is no use \(RuntimeError\('not today'\)\); expected"),
    "no time limit": (WALK._replace(max_episode_steps=None), "^max_episode_steps is None; expected a posit"),
    "a time limit of True": (WALK._replace(max_episode_steps=True), "^max_episode_steps is True"),
    "a discrete observation": (
        WALK._replace(observation_space=spaces.Discrete(3)),
        r"^observation_space is Discrete\(3\); expected a gymnasium.spaces.Box",
    ),
    "a space of integers": (
        WALK._replace(observation_space=spaces.Box(-1, 1, (3,), np.int64)),
        "^observation_space is Box.*; expected",
    ),
    "many discrete actions": (
        WALK._replace(action_space=spaces.MultiDiscrete([2, 2])),
        "^action_space is MultiDiscrete.*; expected a gymnasium.spaces.Box of floats, or",
    ),
    "actions from 1": (
        WALK._replace(action_space=spaces.Discrete(2, start=1)),
        "^action_space is Discrete.*that starts at 0",
    ),
    "params with a name": (
        WALK._replace(default_params={"track": "oval"}),
        "^default_params is {'track': 'oval'}; expected a pytree",
    ),
    "step is a number": (WALK._replace(step=3), "^step is 3; expected a function of"),
    "reset without needed": (
        WALK._replace(reset=without_needed),
        r"^reset is not a function of \(key, params=None, needed=True\): too many positional arguments",
    ),
    "step without params": (
        WALK._replace(step=lambda key, state, action: step(key, state, action, None)),
        r"^step is not a function of \(key, state, action, params=None\): too many positional arguments",
    ),
    "reset by other names": (
        WALK._replace(reset=lambda key, parameters=None, needed=True: reset(key)),
        "^reset is not a function of .*: got an unexpected keyword argument 'params'",
    ),
    # What comes back
    "integer observations": (
        observing(lambda obs: obs.astype(jnp.int32)),
        r"^reset's obs is int32\[3\]; expected float32",
    ),
    "observations of another type than the space": (
        observing(lambda obs: obs.astype(jnp.uint8)),
        r"^reset's obs is uint8\[3\]; expected float32",
    ),
    "observations of another shape than the space": (
        WALK._replace(observation_space=spaces.Box(-1.0, 1.0, (4,))),
        r"^reset's obs has shape \(3,\), but observation_space has \(4,\)",
    ),
    "observations change shape": (
        stepping(obs=lambda obs: obs[:2]),
        r"^step's obs is float32\[2\], but reset's is float32\[3\]",
    ),
    "observations change type": (
        stepping(obs=lambda obs: obs.astype(jnp.int32)),
        r"^step's obs is int32\[3\], but reset's is float32\[3\]",
    ),
    "observations in a dict": (
        observing(lambda obs: {"here": obs}),
        "^reset's obs is a dict; expected one array",
    ),
    "integer reward": (stepping(reward=jnp.int32), r"^step's reward is int32\[\]; expected float32\[\]"),
    "Python's reward": (
        stepping(reward=lambda _: 1.0),
        r"^step's reward is Python's float; expected float32",
    ),
    "weak reward": (
        stepping(reward=lambda reward: jnp.where(reward > -0.5, 1.0, 0.0)),
        r"^step's reward is weakly typed float32\[\]; expected float32\[\]: jnp.asarray\(reward, 'float32'\)",
    ),
    "rewards": (stepping(reward=jnp.atleast_1d), r"^step's reward is float32\[1\]; expected float32\[\]"),
    "Python's terminated": (stepping(terminated=lambda _: False), "^step's terminated is Python's bool; exp"),
    "integer truncated": (
        stepping(truncated=jnp.int32),
        r"^step's truncated is int32\[\]; expected bool\[\]",
    ),
    "a dict of terminated": (
        stepping(terminated=lambda t: {"t": t}),
        "^step's terminated is a dict; expected",
    ),
    "state changes type": (
        stepping(state=lambda state: state._replace(time=state.time.astype(jnp.float32))),
        r"^step's state\.time is float32\[\], but reset's is int32\[\]",
    ),
    "state changes shape": (
        stepping(state=lambda state: state._replace(position=state.position[:1])),
        r"^step's state\.position is float32\[1\], but reset's is float32\[2\]",
    ),
    "state gains a leaf": (
        stepping(state=lambda state: state._replace(position={"x": state.position, "y": state.time})),
        r"^step's state\.position is missing, but reset's is float32\[2\]",
        r"^step's state\.position\['x'\] is float32\[2\], but reset's is missing",
        r"^step's state\.position\['y'\] is int32\[\], but reset's is missing",
    ),
    "state changes its tree": (
        lists,
        r"^step's state is the tree PyTreeDef\(\[.*\]\), but reset's is PyTree",
    ),
    "weak state": (
        resetting(state=lambda state: state._replace(time=jnp.asarray(0))),
        r"^reset's state\.time is weakly typed int32\[\]; expected a strong type: .*'int32'",
    ),
    "Python's state": (
        resetting(state=lambda state: state._replace(time=0)),
        r"^reset's state\.time is Python's int; expected a strong type",
    ),
    "weak observation": (
        observing(lambda obs: jnp.asarray(0.5) * jnp.asarray([0, 0, 1])),
        r"^reset's obs is weakly typed float32\[3\]; expected a strong type",
        r"^step's obs is weakly typed float32\[3\]; expected a strong type",
    ),
    "an object in the state": (
        resetting(state=lambda _: FOREIGN),
        r"^reset's state\['track'\] is Python's object; expected an array",
    ),
    "a name in info": (
        stepping(info=lambda _: {"track": "oval"}),
        r"^step's info\['track'\] is Python's str; expected an array",
    ),
    "info in a list": (stepping(info=lambda _: []), "^step's info is a list; expected a dict"),
    "five values": (
        WALK._replace(step=lambda key, state, action, params=None: step(key, state, action, params)[:5]),
        r"^step returns 5 values; expected \(obs, state, reward, terminated, truncated, info\)",
    ),
    "reset forgets the state": (
        WALK._replace(reset=lambda key, params=None, needed=True: reset(key)[0]),
        r"^reset returns float32\[3\]; expected \(obs, state\)",
    ),
    "reset returns nothing": (
        WALK._replace(reset=lambda key, params=None, needed=True: None),
        r"^reset returns a NoneType; expected \(obs, state\)",
    ),
    # Exceptions, and what cannot be traced or batched
    "raises": (WALK._replace(step=raising), r"^step raises RuntimeError: no such track\.$"),
    "if": (
        WALK._replace(step=branching),
        "^step raises TracerBoolConversionError: Attempted boolean conversion.*jnp.where of if",
    ),
    "np": (WALK._replace(step=converting), "^step raises TracerArrayConversionError.*jnp in place of np"),
    "if needed": (WALK._replace(reset=branching_on_needed), "^reset raises TracerBoolConversionError"),
    "legacy keys": (
        WALK._replace(reset=legacy),
        "^reset raises TypeError",
        "^reset takes only a legacy uint32 key; it gets a typed one",
    ),
    "no vmap of vmap": (batchable_once, r"^vmap\(vmap\(step\)\) raises NotImplementedError"),
    "a traced needed is not True": (
        WALK._replace(reset=lambda key, params=None, needed=True: obeying(key, params, needed is True)),
        "^reset's obs, reset's state.position, step's obs.* differ under vmap, with `needed` true",
    ),
    "no vmap": (stepping(reward=unbatchable), r"^vmap\(step\) raises "),
    "rows mixed by vmap": (
        first_row_of_all,
        "^step's reward differ under vmap",
    ),
    "no vmap over params": (
        WALK._replace(step=branching_on_params),
        r"^vmap\(step\) over params raises TracerBoolConversionError",
    ),
    # Parameters
    "None means nothing": (
        WALK._replace(step=no_default),
        "^with params=None, reset or step raises AttributeError: 'NoneType' object has no attribute 'speed'",
    ),
    "None means other parameters": (
        lambda: other_default(0.12),
        "^with params=None, step's obs, step's reward, step's state.position differ from those with d",
    ),
    # Purity
    "a counter on the host": (counting, f"^step {IMPURE}; what changes belongs in the state"),
    "a list on the host": (logging, "^reset is not pure: it changes log; what changes belongs in the state"),
    "a state on the host": (Leaky, r"^reset is not pure: it changes self\.state"),
    "NumPy's random numbers": (
        resetting(obs=lambda obs: obs.at[0].set(np.random.default_rng().uniform())),
        f"^reset {IMPURE}",
    ),
    "NumPy's random arrays": (
        stepping(obs=lambda obs: obs.at[:2].set(np.random.default_rng().uniform(size=2))),
        f"^step {IMPURE}",
    ),
    "a host function that counts": (
        calling_back,
        "^step's reward differ between two calls with the same arguments",
    ),
    # Behaviour
    "one start for every key": (
        WALK._replace(reset=lambda key, params=None, needed=True: reset(jax.random.key(3))),
        "^reset gives the same obs and state for 16 different keys: .*deterministic_reset=True",
    ),
    "NaN": (stepping(obs=at(3, jnp.nan, jnp.asarray)), "^step's obs is not finite"),
    "an infinite start": (resetting(obs=lambda obs: obs.at[0].set(jnp.inf)), "^reset's obs is not finite"),
    "NaN rewards": (
        stepping(reward=lambda reward: jnp.log(reward + 0.5)),
        "^step's reward is not finite",
    ),
    "out of the space": (
        stepping(obs=at(3, 1.5, jnp.asarray)),
        rf"^step's obs\[0\] is 1.5, {SPACE}",
    ),
    "a start out of the space": (
        resetting(obs=lambda obs: obs.at[1].set(-7)),
        rf"^reset's obs\[1\] is -7, {SPACE}",
    ),
    "no time limit in step": (
        stepping(truncated=jnp.zeros_like),
        "^step's truncated is false at step 5 = max_episode_steps",
    ),
    "truncated one step late": (
        WALK._replace(max_episode_steps=LIMIT - 1),
        "^step's truncated is false at step 4 = max_episode_steps",
    ),
    "truncated one step early": (
        WALK._replace(max_episode_steps=LIMIT + 1),
        "^step's truncated is true at step 5, before max_episode_steps = 6",
    ),
    "step resets": (restarting, "^step resets itself"),
    "step resets what was over": (lambda: restarting(delay=1), "^step resets itself"),
    # Several at once
    "two faults": (
        stepping(reward=jnp.int32, truncated=jnp.zeros_like),
        r"^step's reward is int32\[\]; expected float32\[\]",
        "^step's truncated is false at step 5",
    ),
    "three faults": (
        observing(lambda obs: obs * jnp.nan, name="", max_episode_steps=None),
        "^name is ''",
        "^max_episode_steps is None",
        "^reset's obs is not finite",
        "^step's obs is not finite",
    ),
}


def faults_of(env: Any, **kwargs):
    made: Any = env() if callable(env) else env
    with pytest.raises(EnvError) as caught:
        check_env(made, **kwargs)
    return caught.value.faults


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_environment_is_told_how(name):
    """These sentences and no others."""
    env, *sentences = BROKEN[name]
    faults = faults_of(env)
    assert len(faults) == len(sentences), faults
    for fault, sentence in zip(faults, sentences, strict=True):
        assert re.search(sentence, fault), faults


def test_one_start_for_every_key_can_be_allowed():
    env = BROKEN["one start for every key"][0]
    check_env(env, deterministic_reset=True)
    broken = env._replace(name="")
    assert len(faults_of(broken, deterministic_reset=True)) == 1


def test_float64_observations():
    with jax.enable_x64(True):
        check_env(WALK)
        faults = faults_of(observing(lambda obs: obs.astype(jnp.float64)))
    assert [fault[:35] for fault in faults] == ["reset's obs is float64[3]; expected"]
