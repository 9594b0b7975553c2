"""Environments made of other environments: each function takes an `Env` and gives one back."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from purerl.types import Env, EnvFunctions


def mask_observation(env: Env, keep: Sequence[bool]) -> EnvFunctions:
    """`env` with the entries of its observation `[O]` that are not kept always 0.

    What is left hides the state, so that only a policy with a memory can tell it. The shape stays.

    Args:
        env: with observations `[O]`, O = len(keep).
        keep: which entries show.

    Raises:
        ValueError: if there is not one of `keep` for each entry.
    """
    shown, space = np.asarray(keep, bool), env.observation_space
    if shown.shape != space.shape:
        raise ValueError(f"keep has shape {shown.shape}, and the observations of {env.name} {space.shape}")
    low, high = (np.where(shown, bound, 0.0).astype(np.float32) for bound in (space.low, space.high))

    def masked(obs):
        return jnp.where(shown, obs, 0.0)

    def reset(key, params=None, needed=True):
        obs, state = env.reset(key, params, needed)
        return masked(obs), state

    def step(key, state, action, params=None):
        obs, state, reward, terminated, truncated, info = env.step(key, state, action, params)
        return masked(obs), state, reward, terminated, truncated, info

    return EnvFunctions(
        env.name,
        reset,
        step,
        spaces.Box(low, high),
        env.action_space,
        env.max_episode_steps,
        env.default_params,
        getattr(env, "render", None),
    )
