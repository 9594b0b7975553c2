"""Epsilon-greedy actions, with a chance that decreases over the run."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from purerl.config import Config, real
from purerl.types import Array, Key


@dataclasses.dataclass(frozen=True, kw_only=True)
class EpsilonConfig(Config):
    """Fields of the schedule."""

    epsilon_start: float | None = real(None, low=0, high=1, optional=True)
    """Chance of a uniform action at step 0; None: 1."""
    epsilon_end: float | None = real(None, low=0, high=1, optional=True)
    """The same at the end of its linear decrease; None: 0.05."""
    epsilon_fraction: float | None = real(None, above=0, high=1, optional=True)
    """Share of total_timesteps that the decrease takes; None: 0.1."""


FIELDS = tuple(field.name for field in dataclasses.fields(EpsilonConfig) if field.name.startswith("epsilon"))
"""Names of the schedule's fields."""


def epsilon(cfg: EpsilonConfig, step: Array | int) -> Array:
    """Return the chance of a uniform action after `step` environment steps, scalar."""
    start = 1.0 if cfg.epsilon_start is None else cfg.epsilon_start
    end = 0.05 if cfg.epsilon_end is None else cfg.epsilon_end
    share = 0.1 if cfg.epsilon_fraction is None else cfg.epsilon_fraction
    done = jnp.clip(jnp.asarray(step, jnp.float32) / (share * cfg.total_timesteps), 0.0, 1.0)
    return start + done * (end - start)


def epsilon_greedy(cfg: EpsilonConfig, values: Array, key: Key, step: Array | int) -> Array:
    """Return the action with the best of `values [N, K]`, or with chance epsilon any action, `[N]` int32."""
    rows, actions = values.shape
    chance, share = jax.random.uniform(key, (2, rows), jnp.float32)
    uniform = (share * actions).astype(jnp.int32)
    return jnp.where(chance < epsilon(cfg, step), uniform, values.argmax(-1).astype(jnp.int32))
