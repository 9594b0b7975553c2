"""The loop that off-policy algorithms share: gradient steps on batches from a replay memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from purerl.config import Config
from purerl.replay import ring
from purerl.types import Array, EnvSpec, Key, Metrics, Transition

Learner = TypeVar("Learner")


class Row(NamedTuple):
    """What replay keeps of a transition. Truncation is not needed: `next_obs` is the true one."""

    obs: Array
    action: Array
    reward: Array
    next_obs: Array
    terminated: Array


def rows(transition: Transition) -> Row:
    """The rows of a rollout `[T, N, ...]` in order of time, each leaf `[T * N, ...]`."""
    kept = Row(*(getattr(transition, name) for name in Row._fields))
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), kept)


def init_replay(spec: EnvSpec, capacity: int) -> ring.State:
    """An empty memory for the transitions of `spec`."""

    def like(shape, dtype) -> Any:  # a Discrete space is int64 and a Box may be float64: as JAX has them
        return jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(dtype))

    obs = like(spec.observation_space.shape, spec.observation_space.dtype)
    action = like(spec.action_space.shape, spec.action_space.dtype)
    return ring.init(Row(obs, action, like((), jnp.float32), obs, like((), bool)), capacity)


def capacity(cfg: Config, buffer_size: int) -> int:
    """Rows that a memory needs: never more than the run has steps, and whole vector steps."""
    return -(-min(buffer_size, cfg.total_timesteps) // cfg.num_envs) * cfg.num_envs


def replay_updates(
    gradient_step: Callable[[Learner, Row, Key, Array], tuple[Learner, Metrics]],
    learner: Learner,
    memory: ring.State,
    key: Key,
    first: Array,
    *,
    num_updates: int,
    batch_size: int,
) -> tuple[Learner, Metrics]:
    """Take `num_updates` gradient steps, each on a fresh uniform batch.

    The memory is read, never carried, so that nothing can make XLA copy it.

    Args:
        gradient_step: `(learner, batch [B, ...], key, index) -> (learner, metrics)`; `index` numbers the
            gradient steps and is never batched, so `lax.cond` on it stays a branch.
        learner: what the gradient steps change.
        memory: at least one row.
        key: consumed.
        first: index of the first of these gradient steps, scalar int32.
        num_updates: how many.
        batch_size: B.

    Returns:
        `(learner, metrics)`, each metric the mean over those gradient steps that have one: NaN says
        that a step has none.
    """

    def step(learner, count):
        key_sample, key_step = jax.random.split(jax.random.fold_in(key, count))
        batch = ring.sample(memory, key_sample, batch_size)
        return gradient_step(learner, batch, key_step, first + count)

    learner, metrics = jax.lax.scan(step, learner, jnp.arange(num_updates))
    return learner, jax.tree.map(jnp.nanmean, metrics)
