"""Tiny environments with the interfaces of gymnax, brax and Playground, for the tests of the adapters."""

from dataclasses import dataclass, field, replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

KEY = jax.random.key(0)
STEP_KEYS = jax.random.split(jax.random.key(1), 8)
START = int(jax.random.randint(KEY, (), 0, 2))


def struct(cls, eq=True):
    """Make `cls` a frozen dataclass that is a pytree, as flax does."""
    cls = dataclass(frozen=True, eq=eq)(cls)
    return jax.tree_util.register_dataclass(cls, list(cls.__dataclass_fields__), [])


def play(env, actions, params=None):
    """Return rows of play `[R, T, ...]`, past any end: `(first obs, obs, reward, terminated, truncated)`."""

    def step(params, state, draw):
        obs, state, reward, terminated, truncated, _ = env.step(*draw[:1], state, draw[1], params)
        return state, (obs, reward, terminated, truncated)

    def run(actions, params):
        obs, state = env.reset(KEY, params)
        return obs, jax.lax.scan(partial(step, params), state, (STEP_KEYS[: len(actions)], actions))[1]

    first, rows = jax.jit(jax.vmap(run))(jnp.asarray(actions), params)
    return np.asarray(first), *map(np.asarray, rows)


@struct
class Walk:
    """A step to the right or the left; `over` stores the end, limit included, as MinAtar's games do."""

    place: Any
    over: Any
    time: Any


@struct
class WalkParams:
    goal: Any = 3.0
    max_steps_in_episode: Any = 6


class OldWalk:
    """Interface of gymnax 0.x: one `done`, and numbers of any type."""

    name = "Walk-v0"
    default_params = WalkParams()

    def observation_space(self, params):
        return SimpleNamespace(
            low=jnp.array([-3.4028235e38, 0]), high=3.4028235e38, shape=(2,), dtype=jnp.float32
        )

    def action_space(self, params):
        return SimpleNamespace(n=2, shape=(), dtype=np.int64)

    def reset_env(self, key, params):
        state = Walk(jax.random.randint(key, (), 0, 2), False, 0)  # an integer, until the first step
        return self.observe(state, params), state

    def observe(self, state, params):
        return jnp.array([state.place, state.time / params.max_steps_in_episode])

    def move(self, key, state, action):
        noise = 0.1 * jax.random.uniform(key)
        return replace(
            state, place=state.place + jnp.where(action == 1, 1.0, -1.0) + noise, time=state.time + 1
        )

    def is_terminal(self, state, params):
        return state.over | (state.place > params.goal) | (state.time >= params.max_steps_in_episode)

    def step_env(self, key, state, action, params):
        state = self.move(key, state, action)
        done = self.is_terminal(state, params)
        return self.observe(state, params), replace(state, over=done), 1, done, {"discount": 1.0 - done}

    def step(self, key, state, action, params):
        """Reset itself, so that its results may not be used."""
        _, _, reward, done, info = self.step_env(key, state, action, params)
        return *self.reset_env(key, params), reward, done, info


class NewWalk(OldWalk):
    """Interface of gymnax 1.x: `step_env` has the task's end, `is_truncated` the clock's."""

    def is_truncated(self, state, params):
        return state.time >= params.max_steps_in_episode

    def step_env(self, key, state, action, params):
        state = self.move(key, state, action)
        return self.observe(state, params), state, 1.0, state.place > params.goal, {"discount": 1}

    def step(self, key, state, action, params):
        _, after, reward, terminated, info = self.step_env(key, state, action, params)
        return *self.reset_env(key, params), reward, terminated, self.is_truncated(after, params), info


@partial(struct, eq=False)
class Physics:
    """It cannot be compared, like some of the libraries' own."""

    q: Any
    clock: Any


@struct
class State:
    physics: Any
    obs: Any
    reward: Any
    done: Any
    metrics: dict = field(default_factory=dict)
    info: dict = field(default_factory=dict)


class Slide:
    """Moves by its action and some noise, whose key it keeps; writes into the dicts that it gets."""

    action_size = 2

    def __init__(self, observe=lambda q: q):
        self.observe, self.resets = observe, []

    def reset(self, key):
        assert key.dtype == jnp.uint32, "a raw key"
        q = jax.random.uniform(key, (2,))
        jax.debug.callback(lambda _: self.resets.append(1), q)
        zero = jnp.zeros(())
        return State(Physics(q, 0), self.observe(q), zero, zero, {"q": zero}, {"key": key})

    def step(self, state, action):
        key, key_noise = jax.random.split(state.info["key"])
        state.info["key"] = key
        q = state.physics.q + action + 0.1 * jax.random.uniform(key_noise, (2,))
        state.metrics.update(q=q[0])
        physics = Physics(q, state.physics.clock + 1)
        # A Python float if not batched.
        done = jnp.where(q[0] > 3.0, 1.0, 0.0) if state.physics.q.ndim else 0.0
        return replace(state, physics=physics, obs=self.observe(q), reward=q.sum(), done=done)
