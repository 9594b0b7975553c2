"""Returns over several steps, read from a replay buffer."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from purerl.ops import returns
from purerl.replay.ring import State
from purerl.types import Array, Transition


def read(
    state: State,
    index: Array,
    num_envs: int,
    n: int,
    gamma: float | Array,
    whole: Callable[[State, Transition], Transition] = lambda state, rows: rows,
) -> tuple[Transition, Array]:
    """Return the rows at `index` with the sum of up to `n` rewards; zeros from an empty buffer.

    A return ends with its episode, for either reason, and with the newest row of its environment: what
    follows there in the ring is the oldest one, of another time.

    The branch also keeps XLA:CPU from fusing the write before it into this gather, for which it would copy
    the whole buffer at every step.

    Args:
        state: of the buffer.
        index: `[B]` int32, slots in use.
        num_envs: N, environments whose rows lie side by side.
        n: most rewards of a return.
        gamma: discount.
        whole: completes the rows of a storage that keeps parts of them elsewhere.

    Returns:
        `(rows, discount)` as in `Batch`.
    """
    capacity = len(state.rows.reward)

    def gather() -> tuple[Transition, Array]:
        steps = jnp.arange(n, dtype=jnp.int32)[:, None]
        window = (index[None] + num_envs * steps) % capacity  # [n, B]
        newest = steps == ((state.head - 1 - index) % capacity // num_envs)[None]
        reward, terminated, truncated = (
            leaf[window] for leaf in (state.rows.reward, state.rows.terminated, state.rows.truncated)
        )
        total, discount, last = returns.n_step(reward, terminated, truncated | newest, gamma, n)
        rows_at = lambda tree, slots: jax.tree.map(lambda leaf: leaf[slots], tree)
        of_last = lambda leaf: jnp.take_along_axis(leaf, last[:1], axis=0)[0]
        rows = Transition(
            rows_at(state.rows.obs, index),
            state.rows.action[index],
            total[0],
            rows_at(state.rows.next_obs, of_last(window)),
            of_last(terminated),
            of_last(truncated),
        )
        return whole(state, rows), discount[0]

    def blank() -> tuple[Transition, Array]:
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(gather))

    return jax.lax.cond(state.size > 0, gather, blank)
