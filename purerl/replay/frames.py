"""Ring of transitions whose observations are stacks of frames, with each frame stored once.

An observation is the last k frames of its episode, the newest last. In a running episode `next_obs` is `obs`
with one frame more, and the next `obs` is that `next_obs`: a step adds one frame to those of its environment.
A stack that does not continue the one before it, as after a reset, is written whole. That is found by
comparing bits and not by flags, so that each observation comes back as it was, however stacks are padded.

Each environment has a ring of frames, and those of the N environments lie side by side. In the place of `obs`
and `next_obs` a row has the slot of the newest frame; the others are before it, N slots apart.

There is room for the frames of one long episode, and `SLACK` more. An episode of L steps takes L + k frames;
where episodes are shorter than `k / SLACK` steps, frames run out, and the oldest rows leave before they are
overwritten: the buffer holds the newest `size` rows, all with their frames.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from purerl.replay import prioritised, ring
from purerl.replay.ring import State
from purerl.types import Array, Transition

SLACK = 1 / 16
"""Frames for the resets, in relation to the rows."""


class Stack(NamedTuple):
    """Layout of an observation."""

    num_frames: int
    """k."""
    axis: int
    """Axis of the frames, at least 0; of no meaning for one frame, which is the whole observation."""


class Frames(NamedTuple):
    """Frames of all environments."""

    data: Array
    """`[places * N, *frame]`: the frames of a place of all environments side by side."""
    used: Array
    """Scalar int32: slots of `data` that have been written, which are the first ones."""


def stack_of(shape: tuple[int, ...], num_frames: int) -> Stack | None:
    """Return the layout of observations of `shape`: the first axis of that length, or the last; None without.

    One frame is the whole observation.
    """
    axes = [axis for axis in (0, len(shape) - 1) if len(shape) > 1 and shape[axis] == num_frames]
    return Stack(1, 0) if num_frames == 1 else Stack(num_frames, axes[0]) if axes else None


def init(row: Transition, capacity: int, stack: Stack, num_envs: int, num_steps: int = 1) -> State:
    """Return an empty buffer.

    Args:
        row: arrays or `jax.ShapeDtypeStruct`s of one transition.
        capacity: rows, a multiple of those of a rollout.
        stack: layout of the observations.
        num_envs: N.
        num_steps: T, most steps of a rollout.
    """
    chex.assert_is_divisible(capacity, num_envs)
    slot, rows, k = jax.ShapeDtypeStruct((), jnp.int32), capacity // num_envs, stack.num_frames
    most = 2 * k * num_steps  # of a rollout
    places = rows + k + most + max(int(SLACK * rows), most)
    frame = jax.eval_shape(lambda obs: _frames(obs, stack, 0), row.obs)
    data = jnp.zeros((places * num_envs, *frame.shape[1:]), frame.dtype)
    newest = (k - 1) * num_envs + jnp.arange(num_envs, dtype=jnp.int32)  # as after a stack of zeros
    empty = ring.init(row._replace(obs=slot, next_obs=slot), capacity)
    return empty._replace(frames=Frames(data, jnp.int32(0)), newest=newest)


def add(
    state: State,
    transition: Transition,
    stack: Stack,
    store: Callable[[State, Transition], State] = ring.add,
) -> State:
    """Write a rollout `[T, N, ...]` without its `extras` over the oldest rows.

    Args:
        state: of the buffer.
        transition: the rollout.
        stack: layout of the observations.
        store: `ring.add`, or `prioritised.add` for a buffer with priorities.
    """
    (steps, n), k, data = transition.reward.shape, stack.num_frames, state.frames.data
    places = len(data) // n
    chex.assert_scalar_non_negative(places - 4 * k * steps)  # of this rollout and the next
    obs, next_obs = (_frames(x, stack, 2).astype(data.dtype) for x in (transition.obs, transition.next_obs))
    before = jnp.concatenate([data[_slots(state.newest, k, n, len(data))][None], next_obs[:-1]])
    more = jnp.where(_differ(obs, before), k, 0), jnp.where(_differ(next_obs[:, :, :-1], obs[:, :, 1:]), k, 1)
    more = jnp.stack(more, axis=1).reshape(2 * steps, n)  # new frames of obs, next_obs, obs, ...
    place = (state.newest // n)[None] + jnp.cumsum(more, axis=0)
    newest = place % places * n + jnp.arange(n, dtype=jnp.int32)[None]  # [2 T, N]
    stacks = jnp.stack([obs, next_obs], axis=1).reshape(2 * steps, n, *obs.shape[2:])
    data = data.at[_slots(newest, k, n, len(data))].set(stacks)  # where frames are there already, once more
    used = jnp.minimum((place.max() + 1) * n, len(data))
    state = state._replace(frames=Frames(data, jnp.maximum(state.frames.used, used)), newest=newest[-1])
    state = store(state, transition._replace(obs=newest[0::2], next_obs=newest[1::2]))
    return _without_the_oldest(state, stack, 2 * k * steps)


def whole(state: State, rows: Transition, stack: Stack, num_envs: int) -> Transition:
    """Return `rows [B]` of the buffer with their observations `[B, *O]`."""
    data = state.frames.data

    def stacked(newest: Array) -> Array:
        frames = data[_slots(newest, stack.num_frames, num_envs, len(data))]
        return frames[:, 0] if stack.num_frames == 1 else jnp.moveaxis(frames, 1, 1 + stack.axis)

    return rows._replace(obs=stacked(rows.obs), next_obs=stacked(rows.next_obs))


def _frames(obs: Array, stack: Stack, lead: int) -> Array:
    """Return observations, with `lead` axes before their own, as `[..., k, *frame]`."""
    if stack.num_frames == 1:
        return jnp.expand_dims(obs, lead)
    return jnp.moveaxis(obs, lead + stack.axis, lead)


def _slots(newest: Array, k: int, num_envs: int, slots: int) -> Array:
    """Return the slots `[..., k]` of the stacks with these newest frames `[...]`."""
    back = num_envs * jnp.arange(k - 1, -1, -1, dtype=jnp.int32)
    return (newest[..., None] - back.reshape(*[1] * newest.ndim, k)) % slots


def _differ(a: Array, b: Array) -> Array:
    """Return `[T, N]`: stacks of `a` and `b`, `[T, N, ...]`, differ in some bit."""
    if jnp.issubdtype(a.dtype, jnp.floating):  # where 0 equals -0, and nan nothing
        a, b = (jax.lax.bitcast_convert_type(x, f"uint{8 * x.dtype.itemsize}") for x in (a, b))
    return (a != b).any(axis=tuple(range(2, a.ndim)))


def _without_the_oldest(state: State, stack: Stack, most: int) -> State:
    """Return `state` without the oldest rows that could lose frames in the next rollout.

    That writes at most `most` frames of an environment: so the rows in use are whole even where it is written
    and not counted, for a member that has diverged. Each row has a frame of its own, so that at most `most`
    steps leave at a time, which are the same of all environments.
    """
    capacity, n, slots = len(state.rows.reward), len(state.newest), len(state.frames.data)
    steps = min(most, capacity // n)
    index = (state.head - state.size + jnp.arange(steps * n, dtype=jnp.int32)) % capacity
    age = (state.newest[None] - state.rows.obs[index].reshape(steps, n)) % slots // n  # in frames
    in_use = jnp.arange(steps, dtype=jnp.int32)[:, None] < state.size // n
    left = n * (in_use & (age + stack.num_frames + most > slots // n)).sum(0).max()
    if isinstance(state.priority, prioritised.Priorities):
        levels = state.priority.levels
        own = levels[0].reshape(-1)[index]
        levels = prioritised.set_priorities(levels, index, jnp.where(jnp.arange(steps * n) < left, 0.0, own))
        state = state._replace(priority=state.priority._replace(levels=levels))
    return state._replace(size=state.size - left)
