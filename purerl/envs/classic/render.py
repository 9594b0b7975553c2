"""Pictures of recorded states of a classic task: Gymnasium's own, pixel for pixel, without a screen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import gymnasium
import jax
import numpy as np
from jax.core import Tracer

from purerl.config import ConfigError, count, validate_value
from purerl.types import PyTree

MAX_SIZE = 4096
"""Largest width and height, pixels."""


@dataclass(frozen=True)
class Pictures:
    """`EnvFunctions.render` of a classic task; equal where it draws the same."""

    gymnasium_id: str
    state: type
    """Of this task; all its fields but `time` are Gymnasium's state, in this order."""
    attributes: tuple[tuple[str, float], ...]
    """Numbers of Gymnasium's task that a picture shows, as `(name, value)`."""

    def __call__(
        self,
        states: PyTree,
        *,
        width: int | None = None,
        height: int | None = None,
        camera: None = None,
    ) -> np.ndarray:
        """Pictures of states, `[..., height, width, 3]` uint8, drawn on the host.

        Args:
            states: states of this environment, with any leading axes. Parameters given to `step` do not
                show: what is drawn is the task as it was made.
            width: in pixels, at most 4,096; None is Gymnasium's own.
            height: in pixels, at most 4,096; None is Gymnasium's own. Frames of another size are its
                frames scaled smoothly.
            camera: None; there is one view only.

        Raises ConfigError for any of them that cannot be, or if pygame is not installed.
        """
        for name, size in (("width", width), ("height", height)):
            if size is not None:
                validate_value(name, size, count(1, low=1, high=MAX_SIZE))
        if camera is not None:
            raise ConfigError("camera", camera, "classic tasks have one view only, so it must be None")
        rows = _read_states(states, self.state)
        pygame = _import_pygame()
        env, screen = _make_gymnasium(pygame, self.gymnasium_id, dict(self.attributes))
        own = screen.get_size()
        size = int(width or own[0]), int(height or own[1])
        frames = np.empty((math.prod(rows.shape[:-1]), size[1], size[0], 3), np.uint8)
        for frame, row in zip(frames, rows.reshape(-1, rows.shape[-1]), strict=True):
            env.state = row
            picture = env.render()  # which is on the screen, too
            if size != own:
                scaled = pygame.transform.smoothscale(screen, size)
                picture = pygame.surfarray.array3d(scaled).swapaxes(0, 1)
            frame[:] = picture
        return frames.reshape(*rows.shape[:-1], *frames.shape[1:])


def _read_states(states: PyTree, kind: type) -> np.ndarray:
    """`[..., numbers]` float64: what Gymnasium's state is. Raises ConfigError if these are no states."""
    if not isinstance(states, kind):
        what = "it must be states of this environment, as its reset and step return them"
        raise ConfigError("states", type(states).__name__, what)
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(states)):
        raise ConfigError("states", "a traced value", "pictures are drawn on the host, outside jit and vmap")
    *numbers, _ = (np.asarray(field, np.float64) for field in tuple(states))
    if len(shapes := {field.shape for field in numbers}) > 1:
        raise ConfigError("states", sorted(shapes), "all fields must have the same leading axes")
    if not all(np.isfinite(field).all() for field in numbers):
        raise ConfigError("states", "a number that is not finite", "nothing can be drawn there")
    return np.stack(numbers, -1)


def _import_pygame() -> Any:
    """The package, whose greeting Gymnasium keeps back. Raises ConfigError if it is not installed."""
    try:
        import pygame
    except ImportError as error:
        what = 'pictures need pygame, which is not installed: pip install "purerl[render]"'
        raise ConfigError("render", "pygame", what) from error
    return pygame


def _make_gymnasium(pygame: Any, gymnasium_id: str, attributes: dict[str, float]) -> tuple[Any, Any]:
    """Gymnasium's task and the surface that it draws on.

    It gets a surface of ours, for it would open a display to make its own.
    """
    env: Any = gymnasium.make(gymnasium_id, render_mode="rgb_array").unwrapped
    for name, value in attributes.items():
        setattr(env, name, float(value))
    env.last_u = None  # pendulum's: no arrow for a torque, which a state does not have
    side = getattr(env, "SCREEN_DIM", None) or getattr(env, "screen_dim", None)
    env.screen = pygame.Surface((side, side) if side else (env.screen_width, env.screen_height))
    return env, env.screen
