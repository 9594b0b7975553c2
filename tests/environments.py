"""Environments whose every number is known in advance."""

from typing import ClassVar, NamedTuple

import gymnasium
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


RUNGS, LIFE = 9, 7
HEIGHTS = spaces.Box(-np.ones(3, np.float32), 100 * np.ones(3, np.float32))
LIFTS = spaces.Box(np.float32([-2]), np.float32([4]))


class Climb(NamedTuple):
    level: jax.Array
    time: jax.Array


def after(level, time, action):
    """Return `(level, reward, terminated)`: from LIFE on, a high level ends the episode."""
    level = level + action
    return level, 0.5 * action + 0.1 * time, (time >= LIFE) & (level > LIFE)


class Ladder(gymnasium.Env):
    """The same as `ladder`, in Python."""

    observation_space, action_space = HEIGHTS, LIFTS
    spec = gymnasium.envs.registration.EnvSpec("Ladder-v0", max_episode_steps=RUNGS)
    made: ClassVar[list] = []
    steps = 0

    def __init__(self):
        Ladder.made.append(self)

    def _obs(self):
        return np.float32([self.level, self.time, self.time * 0.5])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.level, self.time = np.float32(0), 0
        return self._obs(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        assert not self.over()
        self.time, self.steps = self.time + 1, self.steps + 1
        self.level, reward, self.dead = after(self.level, np.float32(self.time), action[0])
        return self._obs(), reward, bool(self.dead), self.time >= RUNGS, {}

    def over(self):
        return self.time > 0 and (self.dead or self.time >= RUNGS)


def ladder():
    """An environment without chance, so that both routes go through the same."""

    def observe(state):
        return jnp.stack([state.level, state.time, state.time * 0.5]).astype(jnp.float32)

    def reset(key, params):
        state = Climb(jnp.float32(0), jnp.int32(0))
        return observe(state), state

    def step(key, state, action, params):
        time = state.time + 1
        level, reward, terminated = after(state.level, time.astype(jnp.float32), action[0])
        state = Climb(level, time)
        return observe(state), state, reward, terminated, {}

    return functional_env(
        "ladder",
        reset=reset,
        step=step,
        observation_space=HEIGHTS,
        action_space=LIFTS,
        max_episode_steps=RUNGS,
    )
