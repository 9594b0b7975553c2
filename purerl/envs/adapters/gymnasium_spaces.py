"""Spaces of Gymnasium as algorithms take them: Boxes of float32 or uint8, one or a Dict of them."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import FlattenObservation, TransformObservation

from purerl.config import ConfigError
from purerl.pixels import are_pixels
from purerl.spaces import CHOICES
from purerl.types import PyTree


class Parts(TransformObservation):
    """An environment with a Dict of Boxes: images as they are, and each other part flattened."""

    def __init__(self, env: gymnasium.Env, images: list[str]):
        whole = env.observation_space
        assert isinstance(whole, spaces.Dict)

        def convert(obs: Any) -> dict[str, Any]:
            return {n: obs[n] if n in images else spaces.flatten(part, obs[n]) for n, part in whole.items()}

        flat = {n: part if n in images else spaces.flatten_space(part) for n, part in whole.items()}
        super().__init__(env, convert, spaces.Dict(flat))


def flattened(env: gymnasium.Env) -> gymnasium.Env:
    """Return `env` with observations in a Box, or in a Dict of Boxes where parts of its Dict are images."""
    space = env.observation_space
    if isinstance(space, spaces.Box):
        return env
    images = _images(space)
    return Parts(env, images) if images else FlattenObservation(env)


def _images(space: spaces.Space) -> list[str]:
    """Return the parts of a Dict that are images of uint8."""
    parts = space.spaces.items() if isinstance(space, spaces.Dict) else ()
    return [name for name, part in parts if part.shape is not None and are_pixels(part.shape, part.dtype)]


def unflattened(env: gymnasium.Env) -> gymnasium.Env:
    """Return what `flattened` was given."""
    return env.env if isinstance(env, FlattenObservation | Parts) else env


def our_observations(space: spaces.Space, name: str) -> Any:
    """Return `space` as uint8 or float32. Raise ConfigError if it is neither a Box nor a Dict of such."""
    if isinstance(space, spaces.Dict):
        return spaces.Dict({key: our_observations(part, name) for key, part in space.items()})
    if not isinstance(space, spaces.Box):
        raise ConfigError("env", name, f"observations in a Box, got {space}")
    if space.dtype == np.uint8:
        return space
    with np.errstate(over="ignore"):  # bounds beyond float32 become infinite
        return spaces.Box(space.low.astype(np.float32), space.high.astype(np.float32))


def as_ours(space: spaces.Space, obs: Any) -> PyTree:
    """Return copies of the arrays of `obs`, into which Gymnasium may write, in the dtypes of `space`."""
    if isinstance(space, spaces.Dict):
        return {name: np.array(obs[name], box.dtype) for name, box in space.items()}
    return np.array(obs, space.dtype)


def copied(obs: Any) -> Any:
    """Return copies of the arrays of `obs`, in their own dtypes."""
    return {name: np.array(part) for name, part in obs.items()} if isinstance(obs, dict) else np.array(obs)


def check_actions(space: spaces.Space, name: str) -> None:
    """Raise ConfigError unless actions are choices or real numbers."""
    real = isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating)
    if not (isinstance(space, CHOICES) or real):
        what = f"actions in a Discrete, a MultiDiscrete, a MultiBinary or a Box of real numbers, got {space}"
        raise ConfigError("env", name, what, "A gymnasium.wrappers.TransformAction may convert them.")
