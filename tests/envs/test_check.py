"""Correct environments that `check_env` accepts, and its arguments."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from environments import clock
from gymnasium import spaces
from probes import probe
from walk import LIMIT, WALK, Params, obeying, observing, reset, resetting, step, stepping

import purerl
from purerl import registry
from purerl.envs.check.check import EnvError, check_env
from purerl.types import EnvFunctions

slow = pytest.mark.slow


class Car:
    """An environment as a class, with a key in its state."""

    name, max_episode_steps, default_params = "car", LIMIT, ()
    observation_space, action_space = spaces.Box(-1.0, 1.0, (1,), np.float64), spaces.Discrete(3)

    def reset(self, key, params=None, needed=True):
        key, key_place = jax.random.split(key)
        state = {"key": key, "place": jax.random.uniform(key_place, (1,)), "left": jnp.int32(LIMIT)}
        return state["place"], state

    def step(self, key, state, action, params=None):
        place = jnp.clip(state["place"] + 0.1 * (action - 1), -1, 1)
        state = {"key": jax.random.fold_in(state["key"], 1), "place": place, "left": state["left"] - 1}
        return place, state, place[0], False, state["left"] <= 0, {}


def pixels():
    """uint8 observations, one step, and a Python bool."""

    def reset(key, params=None, needed=True):
        state = jax.random.bits(key, (4, 4, 1), jnp.uint8)
        return state, state

    def step(key, state, action, params=None):
        return state, state + 1, jnp.float32(action == 1), True, True, {}

    space = spaces.Box(0, 255, (4, 4, 1), np.uint8)
    return EnvFunctions("pixels", reset, step, space, spaces.Discrete(2), 1)


def bandit(num_steps):
    """A new context in every observation, drawn as `reset` draws it from its key; no clock in the state."""

    def draw(key):
        context = jax.random.uniform(key, (2,))
        return context, context

    def step(key, state, action, params=None):
        obs, state = draw(key)
        ended = jnp.bool(True) if num_steps == 1 else state[0] < 0.2
        return obs, state, state[0], ended, jnp.bool(num_steps == 1), {}

    reset = lambda key, params=None, needed=True: draw(key)
    space = spaces.Box(0.0, 1.0, (2,))
    limit = 1 if num_steps == 1 else 500  # which chance never reaches
    return EnvFunctions("bandit", reset, step, space, spaces.Discrete(2), limit)


def tour():
    """A way round a circle that ends where it began; starts differ only by a key in the state."""

    def reset(key, params=None, needed=True):
        return jnp.zeros(1), {"key": key, "place": jnp.int32(0)}

    def step(key, state, action, params=None):
        state = state | {"place": (state["place"] + 1) % 4}
        home = state["place"] == 0
        return state["place"].astype(jnp.float32)[None], state, jnp.float32(0), home, home, {}

    return EnvFunctions("tour", reset, step, spaces.Box(0.0, 4.0, (1,)), spaces.Discrete(2), 4)


def caching():
    """A table that the first use fills, and truncation that excludes termination."""
    table = {}

    def changed(key, state, action, params=None):
        table.setdefault("half", 0.5)
        *values, terminated, truncated, info = step(key, state, action, params)
        return *values, terminated, truncated & ~terminated, info

    return WALK._replace(step=changed)


def none_in_another_way():
    """Another program for None, and the same numbers."""

    def changed(key, state, action, params=None):
        return step(key, state, action if params is None else 1.0 * action, params)

    return WALK._replace(step=changed)


def nan_past_the_end():
    def changed(key, state, action, params=None):
        values = step(key, state, action, params)
        return jax.tree.map(lambda x: jnp.where(state.time < LIMIT, x, x * jnp.nan).astype(x.dtype), values)

    return WALK._replace(step=changed)


def host_function():
    """A host function that every trace makes again."""

    def changed(reward):
        scalar = jax.ShapeDtypeStruct((), jnp.float32)
        return jax.pure_callback(lambda reward: 2 * reward, scalar, reward, vmap_method="expand_dims")

    return stepping(reward=changed)


def logging():
    """A list on the host on which no result depends."""
    log = []

    def changed(key, params=None, needed=True):
        log.append("reset")
        return reset(key)

    return WALK._replace(reset=changed)


GOOD = {
    "walk": lambda: WALK,
    "class": Car,
    "pixels": pixels,
    "tour": tour,
    "bandit of one step": lambda: bandit(1),
    "bandit of many steps": lambda: bandit(2),
    "caching": caching,
    "host function": host_function,
    "logging": logging,
    "NaN past the end": nan_past_the_end,
    "None in another way": none_in_another_way,
    "rounding at the bounds": lambda: observing(lambda obs: obs.at[2].set(1 + 1e-6)),
    "clock": clock,
    "needed is obeyed": lambda: WALK._replace(reset=obeying),
    "key used in part": lambda: resetting(state=lambda state: state._replace(position=jnp.ones(2))),
    "beyond what is played": lambda: stepping(truncated=jnp.zeros_like)._replace(max_episode_steps=10**9),
}
QUICK = {"walk", "class", "pixels", "tour", "bandit of many steps", "NaN past the end"}


def tier(names, quick):
    return [pytest.param(name, marks=() if name in quick else slow) for name in names]


@pytest.mark.parametrize("name", tier(registry.ENVIRONMENTS, {"pendulum", "half_cheetah"}))
def test_registered(name):
    check_env(purerl.make_env(name), deterministic_reset=name in ("asterix", "seaquest", "space_invaders"))


@pytest.mark.parametrize("name", tier(GOOD, QUICK))
def test_correct(name):
    check_env(GOOD[name]())


@slow
@pytest.mark.parametrize("name", ["delay", "ring"])
def test_probes(name):
    check_env(probe(name))


@slow
def test_given_params():
    def fast(key, state, action, params=None):
        params = Params() if params is None else params
        obs, *rest = step(key, state, action, params)
        return jnp.where(params.speed > 1, 2.0, obs), *rest

    env = WALK._replace(step=fast)
    check_env(env)
    with pytest.raises(EnvError, match=r"step's obs\[0\]: expected a number in \[-1, 1\] .* got 2"):
        check_env(env, Params(speed=2.0))


def test_given_params_of_wrong_type():
    env = WALK._replace(step=3)  # nothing runs
    with pytest.raises(EnvError, match=r"params: expected a pytree of .* got \{'speed': 'fast'\}"):
        check_env(env, {"speed": "fast"})


def test_message_lists_all_faults():
    with pytest.raises(EnvError, match="invalid environment") as caught:
        check_env(SimpleNamespace(name="", max_episode_steps=None))  # type: ignore[arg-type]
    assert isinstance(caught.value, ValueError)
    assert len(caught.value.faults) == 7
    assert all(f"\n  - {fault}" in str(caught.value) for fault in caught.value.faults)


def test_deterministic_reset_can_be_allowed():
    env = WALK._replace(reset=lambda key, params=None, needed=True: reset(jax.random.key(3)))
    check_env(env, deterministic_reset=True)
    with pytest.raises(EnvError) as caught:
        check_env(env._replace(name=""), deterministic_reset=True)
    assert len(caught.value.faults) == 1


@slow
def test_float64():
    with jax.enable_x64(True):
        check_env(WALK)
        with pytest.raises(EnvError) as caught:
            check_env(observing(lambda obs: obs.astype(jnp.float64)))
    (fault,) = caught.value.faults
    assert fault.startswith("reset's obs: expected float32")
