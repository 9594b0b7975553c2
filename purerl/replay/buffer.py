"""Replay buffer of an algorithm: a ring of rows, a way to draw them, and the returns that are read."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol

from purerl.replay import frames, n_step, prioritised, ring, uniform
from purerl.replay.ring import Batch, State
from purerl.types import Array, Key, Transition

ALPHA, BETA = 0.6, 0.4
"""Exponents of the priorities, and of the weights at first (Schaul et al. 2016, arXiv:1511.05952)."""


class Buffer(NamedTuple):
    """Pure functions of a replay buffer, with everything static bound."""

    init: Callable[[], State]
    """Return an empty buffer."""
    add: Callable[[State, Transition], State]
    """`(state, rollout [T, N])`: write it over the oldest rows."""
    sample: Callable[[State, Key, Array], Batch]
    """`(state, key, step) -> Batch`; `step` is for schedules, and is never batched."""
    update: Callable[[State, Array, Array], State]
    """`(state, index [B], td_error [B])`: take the errors as new priorities, where there are any."""


class Settings(Protocol):
    """Fields of a configuration that a buffer reads."""

    @property
    def num_envs(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def total_timesteps(self) -> int: ...
    @property
    def gamma(self) -> float: ...
    @property
    def frame_stack(self) -> int: ...
    @property
    def n_step(self) -> int: ...
    @property
    def prioritised(self) -> bool: ...
    @property
    def priority_alpha(self) -> float | None: ...
    @property
    def priority_beta(self) -> float | None: ...


def make_buffer(cfg: Settings, row: Transition, capacity: int, num_steps: int = 1) -> Buffer:
    """Return the buffer for rows like `row`: `jax.ShapeDtypeStruct`s of one transition without `extras`.

    Args:
        cfg: says how observations are stored, how rows are drawn, and how many rewards a return has.
        row: of one environment step.
        capacity: rows, a multiple of those of a rollout.
        num_steps: T, most steps of a rollout.
    """
    init, add = partial(ring.init, row, capacity), prioritised.add if cfg.prioritised else ring.add
    read_rows = n_step.read
    if cfg.frame_stack:
        stack = frames.stack_of(row.obs.shape, cfg.frame_stack)
        assert stack, (row.obs.shape, cfg.frame_stack)
        init = partial(frames.init, row, capacity, stack, cfg.num_envs, num_steps)
        add = partial(frames.add, stack=stack, store=add)
        read_rows = partial(n_step.read, whole=partial(frames.whole, stack=stack, num_envs=cfg.num_envs))

    def read(state: State, index: Array, weight: Array) -> Batch:
        rows, discount = read_rows(state, index, cfg.num_envs, cfg.n_step, cfg.gamma)
        return Batch(rows, index, weight, discount)

    def sample(state: State, key: Key, step: Array) -> Batch:
        return read(state, *uniform.draw(state, key, cfg.batch_size))

    if not cfg.prioritised:
        return Buffer(init, add, sample, uniform.update)

    alpha = ALPHA if cfg.priority_alpha is None else cfg.priority_alpha
    first_beta = BETA if cfg.priority_beta is None else cfg.priority_beta

    def sample_by_priority(state: State, key: Key, step: Array) -> Batch:
        beta = prioritised.annealed(first_beta, step, cfg.total_timesteps)
        return read(state, *prioritised.draw(state, key, cfg.batch_size, beta))

    return Buffer(
        lambda: prioritised.init(init()),
        add,
        sample_by_priority,
        partial(prioritised.update, alpha=alpha),
    )
