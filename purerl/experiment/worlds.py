"""Environments that step in Python, as a run of many seeds sees them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from purerl import rollout
from purerl.types import Array, EnvFunctions, HostEnv, Key, PyTree

MAX_SEED = 2**31 - 1
Rows = np.ndarray


def outline(env: HostEnv) -> EnvFunctions:
    """The shapes of `env` as functions, all of whose values are zeros: to plan a run before it begins."""
    space = env.observation_space
    obs = jnp.zeros(space.shape, space.dtype)

    def reset(key: Key, params: PyTree = None, needed: Array | bool = True):
        return obs, ()

    def step(key: Key, state: PyTree, action: Array, params: PyTree = None):
        return obs, (), jnp.float32(0), jnp.bool_(False), jnp.bool_(False), {}

    return EnvFunctions(env.name, reset, step, space, env.action_space, env.max_episode_steps)


class Worlds:
    """The environments of all seeds, `[S, N]` of them, made when they are first needed.

    Args:
        env: makes them.
        seeds: S.
        num_envs: N.
        judging: whether they are for evaluations.
    """

    def __init__(self, env: HostEnv, seeds: int, num_envs: int, judging: bool):
        self._make = lambda: env.make_vector(seeds * num_envs, judging)
        self._shape, self._vector = (seeds, num_envs), None
        draw = lambda key: jax.random.randint(key, (num_envs,), 0, MAX_SEED)
        self._draw = jax.jit(jax.vmap(draw))

    def reset(self, keys: Key) -> Rows:
        """New episodes everywhere, from a key for each seed `[S]`: observations `[S, N, O]`."""
        self._vector = self._vector or self._make()
        return self._grouped(self._vector.reset(np.asarray(self._draw(keys)).ravel().tolist()))

    def step(self, obs: Rows, action: Array) -> tuple[Rows, Rows, Rows, Rows, Rows]:
        """What `action [S, N, A]` at `obs [S, N, O]` leads to, before any reset.

        Returns:
            `(next_obs, reward, terminated, truncated, broken)`, contained as a rollout's are.
        """
        assert self._vector
        flat = np.asarray(action).reshape(-1, *action.shape[2:])
        next_obs, reward, terminated, truncated = map(self._grouped, self._vector.step(flat))
        broken = np.zeros(self._shape, np.float32)
        if not (np.isfinite(reward).all() and np.isfinite(next_obs).all()):
            contained = jax.vmap(rollout.contain)(*map(jnp.asarray, (obs, next_obs, reward, terminated)))
            next_obs, reward, terminated, broken = map(np.array, contained)
        return next_obs, reward, terminated, truncated, broken

    def restart(self, ended: Rows) -> Rows:
        """New episodes where `ended [S, N]`; the observations of all, `[S, N, O]`."""
        assert self._vector
        return self._grouped(self._vector.restart(ended.ravel()))

    def close(self) -> None:
        """End those that were made."""
        if self._vector:
            self._vector.close()

    def _grouped(self, rows: Rows) -> Rows:
        return rows.reshape(*self._shape, *rows.shape[1:])
