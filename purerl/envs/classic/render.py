"""Pictures of recorded states of a classic task, drawn by Gymnasium without a screen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import gymnasium
import jax
import numpy as np
from jax.core import Tracer

from purerl.config import ConfigError, Rule, validate
from purerl.types import PyTree

MAX_SIZE = 4096
"""Largest width and height, pixels."""


@dataclass(frozen=True)
class Pictures:
    """`EnvFunctions.render` of a classic task; two are equal if they draw the same."""

    gymnasium_id: str
    state: type
    """State class of the task; its fields without `time` are Gymnasium's state, in order."""
    attributes: tuple[tuple[str, float], ...]
    """Attributes of Gymnasium's task that change a picture, as `(name, value)`."""

    def __call__(
        self,
        states: PyTree,
        *,
        width: int | None = None,
        height: int | None = None,
        camera: None = None,
    ) -> np.ndarray:
        """Return pictures of states, `[..., height, width, 3]` uint8, drawn on the host.

        Args:
            states: states of this environment, with any leading axes. Parameters given to `step` do not
                show: the picture has those of `make`.
            width: in pixels, at most 4,096; None is Gymnasium's own.
            height: in pixels, at most 4,096; None is Gymnasium's own. Other sizes are Gymnasium's frames
                scaled smoothly.
            camera: None; there is one view only.

        Raises ConfigError for an argument that is not allowed, or if pygame is not installed.
        """
        for name, size in (("width", width), ("height", height)):
            if size is not None:
                validate(name, size, Rule("count", 1, MAX_SIZE))
        if camera is not None:
            raise ConfigError("camera", camera, "None: classic tasks have one view only")
        rows = _read_states(states, self.state)
        pygame = _import_pygame()
        env, screen = _make_gymnasium(pygame, self.gymnasium_id, dict(self.attributes))
        own = screen.get_size()
        size = int(width or own[0]), int(height or own[1])
        frames = np.empty((math.prod(rows.shape[:-1]), size[1], size[0], 3), np.uint8)
        for frame, row in zip(frames, rows.reshape(-1, rows.shape[-1]), strict=True):
            env.state = row
            picture = env.render()  # and draws on `screen`
            if size != own:
                scaled = pygame.transform.smoothscale(screen, size)
                picture = pygame.surfarray.array3d(scaled).swapaxes(0, 1)
            frame[:] = picture
        return frames.reshape(*rows.shape[:-1], *frames.shape[1:])


def _read_states(states: PyTree, kind: type) -> np.ndarray:
    """Return Gymnasium's states, `[..., numbers]` float64. Raises ConfigError for anything else."""
    if not isinstance(states, kind):
        allowed = "states of this environment, from its reset and step"
        raise ConfigError("states", type(states).__name__, allowed)
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(states)):
        raise ConfigError("states", "a traced value", "arrays: pictures are drawn outside jit and vmap")
    *numbers, _ = (np.asarray(field, np.float64) for field in tuple(states))
    if len(shapes := {field.shape for field in numbers}) > 1:
        raise ConfigError("states", sorted(shapes), "the same leading axes in all fields")
    if not all(np.isfinite(field).all() for field in numbers):
        raise ConfigError("states", "a number that is not finite", "finite numbers")
    return np.stack(numbers, -1)


def _import_pygame() -> Any:
    """Return pygame, whose greeting Gymnasium suppresses. Raises ConfigError if it is not installed."""
    try:
        import pygame
    except ImportError as error:
        hint = 'Install it: pip install "purerl[render]".'
        raise ConfigError("render", "pygame", "an installed package", hint) from error
    return pygame


def _make_gymnasium(pygame: Any, gymnasium_id: str, attributes: dict[str, float]) -> tuple[Any, Any]:
    """Return Gymnasium's task and the surface on which it draws.

    The surface is made here because Gymnasium would open a display to make one.
    """
    env: Any = gymnasium.make(gymnasium_id, render_mode="rgb_array").unwrapped
    for name, value in attributes.items():
        setattr(env, name, float(value))
    env.last_u = None  # of pendulum: no arrow for the torque, which is not part of a state
    side = getattr(env, "SCREEN_DIM", None) or getattr(env, "screen_dim", None)
    env.screen = pygame.Surface((side, side) if side else (env.screen_width, env.screen_height))
    return env, env.screen
