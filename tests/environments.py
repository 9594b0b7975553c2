"""Environments whose every number is known in advance."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from purerl.envs.functional import functional_env

LIMIT = 6
"""Where the clock's episodes are truncated."""
BOUNDS = spaces.Box(np.float32([-2, 0]), np.float32([4, 1]))


class Clock(NamedTuple):
    """The steps taken, the step at which the episode dies, and a number drawn at the reset."""

    time: jax.Array
    length: jax.Array
    draw: jax.Array


def clock(shortest=2, longest=9, action_space=BOUNDS, max_episode_steps=LIMIT):
    """Reward time + action[0]; the observation is `[time, length, draw]`, but `[1000, ...]` at a reset.

    Lengths are uniform in `[shortest, longest]`, so episodes die, run out of time (beyond LIMIT), or
    both (at LIMIT). A step beyond death costs a million.
    """

    def observe(time, state):
        return jnp.stack([time, state.length, state.draw]).astype(jnp.float32)

    def reset(key, params):
        key_length, key_draw = jax.random.split(key)
        length = jax.random.randint(key_length, (), shortest, longest + 1)
        state = Clock(jnp.int32(0), length, jax.random.uniform(key_draw))
        return observe(jnp.float32(1000), state), state

    def step(key, state, action, params):
        state = state._replace(time=state.time + 1)
        reward = jnp.where(state.time > state.length, -1e6, state.time + action.ravel()[0])
        return observe(state.time, state), state, reward, state.time >= state.length, {}

    return functional_env(
        "clock",
        reset=reset,
        step=step,
        observation_space=spaces.Box(0, 1000, (3,)),
        action_space=action_space,
        max_episode_steps=max_episode_steps,
        default_params=(),
    )
