"""A random walk with every kind of leaf, for the tests of `to_gymnasium` and `to_gymnasium_vector`."""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

import purerl
from purerl.envs.functional import functional_env

ROWS = 5


class Params(NamedTuple):
    stride: float = 1.0


class State(NamedTuple):
    """Every kind of leaf: numbers, a key, and a larger array."""

    x: jax.Array
    key: jax.Array
    board: jax.Array
    time: jax.Array


def make_walk():
    """Return a random walk, pushed left or right, and a dict that counts the traces of its step."""
    traces = {"step": 0}

    def observe(state):
        return jnp.stack([state.x, state.time.astype(jnp.float32)])

    def reset(key, params):
        x = (jax.random.bits(key) % 7).astype(jnp.float32) - 3
        state = State(x, key, jnp.full((70, 70), x.astype(jnp.int32) + 3, jnp.uint8), jnp.int32(0))
        return observe(state), state

    def step(key, state, action, params):
        traces["step"] += 1
        chance = jax.random.bits(key) % 3 + jax.random.key_data(state.key)[1] % 2
        x = state.x + params.stride * (chance.astype(jnp.float32) + 2 * action - 2)
        state = State(x, key, state.board + 1, state.time + 1)
        inner = {"double": 2 * x, "board": state.board[0, :2]}
        info = {"far": jnp.abs(x) > 3, "time": state.time, "pair": jnp.stack([x, -x]), "inner": inner}
        return observe(state), state, x / 4, jnp.abs(x) >= 6, info

    def render(states, *, width=4, height=2, camera=None):
        shade = np.asarray(states.x + states.board[..., 0, 0] + 9, np.uint8)
        return np.broadcast_to(shade[..., None, None, None], (*np.shape(states.x), height, width, 3))

    env = functional_env(
        "walk",
        reset=reset,
        step=step,
        observation_space=spaces.Box(-np.inf, np.inf, (2,)),
        action_space=spaces.Discrete(2),
        max_episode_steps=7,
        default_params=Params(),
        render=render,
    )
    return env, traces


@cache
def make(name):
    """Return the environment, the same object each time, so that all tests share its programs."""
    limit = {"cartpole": 12, "half_cheetah": 12}
    options = {"max_episode_steps": limit[name]} if name in limit else {}
    return make_walk()[0] if name == "walk" else purerl.make_env(name, **options)


def key_of(seed, call):
    return jax.random.fold_in(jax.random.key(seed), call)


def same(one, two):
    """Assert that both are equal in structure, types and dtypes, and numbers up to rounding."""
    assert type(one) is type(two), (one, two)
    if isinstance(one, dict):
        assert one.keys() == two.keys()
        for name in one:
            same(one[name], two[name])
    elif isinstance(one, tuple) or (isinstance(one, np.ndarray) and one.dtype == object):
        for a, b in zip(one, two, strict=True):
            same(a, b)
    elif isinstance(one, np.ndarray):
        assert (one.dtype, one.shape) == (two.dtype, two.shape)
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)
    else:
        assert one == two


def play(envs, num_steps, waiting=None):
    """Yield the results of random actions, and of resets by a mask where `envs` resets no row itself.

    `waiting` are rows that ended before.
    """
    random, ended = np.random.default_rng(0), np.zeros(envs.num_envs, bool) if waiting is None else waiting
    mode, space = envs.metadata["autoreset_mode"], envs.single_action_space
    for _ in range(num_steps):
        if mode is AutoresetMode.DISABLED and ended.any():
            yield envs.reset(options={"reset_mask": ended})
        actions = random.uniform(-1, 1, envs.action_space.shape).astype(np.float32)
        if isinstance(space, spaces.Discrete):
            actions = (actions > 0).astype(int)
        if mode is AutoresetMode.NEXT_STEP:
            actions[ended] = 99  # ignored
        result = envs.step(actions)
        ended = result[2] | result[3]
        yield result
