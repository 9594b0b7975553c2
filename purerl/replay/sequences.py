"""Windows of consecutive rows of one environment, read from a replay buffer."""

from __future__ import annotations

from functools import partial
from typing import Protocol

import jax
import jax.numpy as jnp

from purerl.replay import ring, uniform
from purerl.replay.buffer import Buffer
from purerl.replay.ring import Batch, State
from purerl.types import Array, Key, Transition


class Settings(Protocol):
    """Fields of a configuration that a buffer of windows reads."""

    @property
    def num_envs(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def gamma(self) -> float: ...
    @property
    def burn_in(self) -> int: ...
    @property
    def sequence_length(self) -> int: ...


def read(state: State, index: Array, num_envs: int, burn_in: int, length: int) -> tuple[Transition, Array]:
    """Return the rows at `index`, with the `burn_in` rows before and the `length - 1` rows after each.

    A window may hold the end of an episode and the start of the next. Its slots before the oldest and after
    the newest row of the environment hold rows of another time: these are outside, and marked as truncated,
    so that no RNN state goes on from there.

    The branch keeps XLA:CPU from copying the whole buffer, as in `n_step.read`.

    Args:
        state: of the buffer.
        index: `[B]` int32, slots in use.
        num_envs: N, environments whose rows lie side by side.
        burn_in: rows of a window before the one at `index`.
        length: the other rows of a window.

    Returns:
        `(rows [T, B, ...], inside [T, B] bool)`, `T = burn_in + length`; zeros from an empty buffer.
    """
    capacity = len(state.rows.reward)

    def gather() -> tuple[Transition, Array]:
        steps = jnp.arange(-burn_in, length, dtype=jnp.int32)[:, None]
        oldest, newest = state.head - state.size, state.head - 1
        before = ((index - oldest) % capacity // num_envs)[None]
        after = ((newest - index) % capacity // num_envs)[None]
        inside = (-before <= steps) & (steps <= after)
        slots = (index[None] + num_envs * steps) % capacity
        rows = jax.tree.map(lambda leaf: leaf[slots], state.rows)
        return rows._replace(truncated=rows.truncated | ~inside), inside

    def blank() -> tuple[Transition, Array]:
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(gather))

    return jax.lax.cond(state.size > 0, gather, blank)


def make_buffer(cfg: Settings, row: Transition, capacity: int) -> Buffer:
    """Return a buffer that draws windows: uniformly, by the first row behind the burn-in.

    So every row is learned from as often as any other in the mean, but for the oldest `sequence_length - 1`
    of an environment. Rows, weight and discount of a batch are `[T, B, ...]`: the weight is 1 inside a window
    and 0 outside, the discount that of one step. TD errors are ignored.

    Args:
        cfg: says how long windows are, and how many a batch has.
        row: of one environment step, as `buffer.make_buffer` takes it.
        capacity: rows, a multiple of those of a rollout.
    """

    def sample(state: State, key: Key, step: Array) -> Batch:
        index, _ = uniform.draw(state, key, cfg.batch_size)
        rows, inside = read(state, index, cfg.num_envs, cfg.burn_in, cfg.sequence_length)
        discount = jnp.where(rows.terminated, 0.0, jnp.float32(cfg.gamma))
        return Batch(rows, index, inside.astype(jnp.float32), discount)

    return Buffer(partial(ring.init, row, capacity), ring.add, sample, lambda state, index, td_error: state)
