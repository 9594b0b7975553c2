"""Recurrent networks over windows of replayed rows.

Each step of an RNN reads an observation and the action before it. Its `Carry` is zero at the start of an
episode, and at the start of a window.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from purerl.algos import off_policy
from purerl.replay.ring import Batch
from purerl.spaces import as_vector, vector_size
from purerl.types import Array, EnvSpec, Key, Network, PyTree, Transition


class Carry(NamedTuple):
    """Inputs of an RNN from the step before; zeros are a fresh start."""

    rnn: Array
    """`[N, H]` RNN state."""
    action: Array
    """`[N, A]` previous action, as a vector."""


def init_carry(num_envs: int, rnn_size: int, spec: EnvSpec) -> Carry:
    """Return the carry at the start of an episode."""
    sizes = rnn_size, vector_size(spec.action_space)
    return Carry(*(jnp.zeros((num_envs, size), jnp.float32) for size in sizes))


def behind(
    core: Network,
    rnn_size: int,
    burn_in: int,
    spec: EnvSpec,
    head: Network,
    inputs: Callable[..., tuple[Array, ...]],
) -> Network:
    """Return a network over windows: `head` of the features of a `core` of its own.

    `apply(params, rows, ahead, *more)` with rows `[T, B, ...]` returns the outputs `[L * B, ...]` of the
    `L = T - burn_in` rows behind the burn-in at `obs`, or `ahead` at `next_obs`, whose step follows that of
    `obs`. No gradient flows into the burn-in.

    Args:
        core: `carry [B, H], obs [B, O], action [B, A] -> (carry, features)`.
        rnn_size: H.
        burn_in: rows of a window that serve the RNN state alone.
        spec: the environment's spaces.
        head: the network behind it.
        inputs: `(features [B, H], *more) -> inputs` of the head.
    """
    vector = lambda action: as_vector(spec.action_space, action)

    def init(key: Key, *more: Array) -> PyTree:
        key_core, key_head = jax.random.split(key)
        carry, obs = init_carry(1, rnn_size, spec), off_policy.example(spec)[0]
        params = core.init(key_core, carry.rnn, obs, carry.action)
        _, x = core.apply(params, carry.rnn, obs, carry.action)
        return {"core": params, "head": head.init(key_head, *inputs(x, *more))}

    def apply(params: PyTree, rows: Transition, ahead: bool, *more: Array) -> PyTree:
        def step(carry: Carry, row: Transition) -> tuple[Carry, tuple[Array, Array]]:
            after, x = core.apply(params["core"], carry.rnn, row.obs, carry.action)
            ended = (row.terminated | row.truncated)[:, None]
            carry = Carry(after, vector(row.action))
            return jax.tree.map(lambda leaf: jnp.where(ended, 0.0, leaf), carry), (x, after)

        carry = init_carry(rows.reward.shape[1], rnn_size, spec)
        carry, _ = jax.lax.scan(step, carry, jax.tree.map(lambda leaf: leaf[:burn_in], rows))
        rows = jax.tree.map(lambda leaf: leaf[burn_in:], rows)
        _, (x, after) = jax.lax.scan(step, jax.lax.stop_gradient(carry), rows)
        if ahead:
            after, obs, action = flat((after, rows.next_obs, rows.action))
            _, x = core.apply(params["core"], after, obs, vector(action))
        else:
            x = flat(x)
        return head.apply(params["head"], *inputs(x, *more))

    return Network(init, apply)


def flat(tree: PyTree) -> PyTree:
    """Return `tree [L, B, ...]` as `[L * B, ...]`."""
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), tree)


def learned(batch: Batch, burn_in: int) -> Batch:
    """Return the rows behind the burn-in, each leaf `[L * B, ...]`."""
    part = (batch.rows, batch.weight, batch.discount)
    rows, weight, discount = flat(jax.tree.map(lambda leaf: leaf[burn_in:], part))
    return Batch(rows, batch.index, weight, discount)


def mean(x: Array, weight: Array) -> Array:
    """Return the mean of `x [..., B]` over rows whose `weight [B]` is 1; the others are 0."""
    return (x * weight.reshape(*[1] * (x.ndim - 1), -1)).sum(-1) / weight.sum()
