"""Stochastic policies of soft methods, over bounded boxes and over discrete actions, in one form.

A soft value is an expectation over actions. Over K discrete actions it is exact; in a box it is that of one
drawn action, with K = 1 and probability 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from purerl.config import ConfigError, refuse_unused
from purerl.distributions import squashed_sample_and_log_prob
from purerl.types import Array, Key, PyTree


class Actions(NamedTuple):
    """Actions over which the expectation of each row goes."""

    action: Array | None
    """`[B, A]` drawn actions; None for all of a discrete space."""
    probability: Array
    """`[B, K]`."""
    log_prob: Array
    """`[B, K]`."""


class SoftPolicy(NamedTuple):
    """Pure functions of the outputs of a policy network."""

    num_outputs: int
    """Outputs of the network's last layer."""
    target_entropy: float
    """Entropy, in nats, that a learned temperature aims at by default."""
    largest_entropy: float
    """Entropy of uniform actions; a temperature that aims at it grows without end."""
    actions: Callable[[PyTree, Key], Actions]
    """`(outputs, key) -> Actions`."""
    inputs: Callable[[Array, Array | None], tuple[Array, ...]]
    """`(obs [B, O], action) -> inputs` of a critic."""
    at: Callable[[Array, Array], Array]
    """`(out, action [B, ...]) -> [2, B, ...]`: the part of the critics' outputs for a stored action."""
    values: Callable[[Array], Array]
    """`value [B] or [B, K] -> [B, K]` of the K actions."""
    mode: Callable[[PyTree], Array]
    """`outputs -> action` of the deterministic policy."""
    explore: Callable[[PyTree, Key, PyTree], tuple[Array, PyTree]]
    """`(outputs, key, carry) -> (action, carry)`."""
    init_carry: Callable[[int], PyTree]
    """`num_envs -> carry` of `explore`: noise that is held, or `()`."""


class Held(NamedTuple):
    """Noise that is held for several steps; zeros are a fresh start."""

    noise: Array
    """`[N, A]` standard normal."""
    left: Array
    """`[N]` int32: further steps for which it is held."""


def squashed_normal(space: spaces.Box, noise_repeat: int) -> SoftPolicy:
    """Return `tanh(u)`, `u ~ N(mean, exp(log_std))`, with outputs `(mean, log_std)`, each `[B, A]`.

    Exploration holds its standard normal noise for `k` steps, drawn with a probability proportional to
    `1 / k^2` from 1 to `noise_repeat`.
    """
    size = space.shape[0]
    chances = -2.0 * np.log(np.arange(1, noise_repeat + 1, dtype=np.float32))

    def actions(outputs: PyTree, key: Key) -> Actions:
        action, log_prob = squashed_sample_and_log_prob(*outputs, key=key)
        return Actions(action, jnp.ones_like(log_prob)[:, None], log_prob[:, None])

    def explore(outputs: PyTree, key: Key, carry: PyTree) -> tuple[Array, PyTree]:
        mean, log_std = outputs
        if noise_repeat == 1:
            noise = jax.random.normal(key, mean.shape, mean.dtype)
        else:
            key_noise, key_steps = jax.random.split(key)
            fresh, rows = carry.left == 0, len(mean)
            noise = jax.random.normal(key_noise, mean.shape, mean.dtype)
            noise = jnp.where(fresh[:, None], noise, carry.noise)
            more = jax.random.categorical(key_steps, chances, shape=(rows,)).astype(jnp.int32)
            carry = Held(noise, jnp.where(fresh, more, carry.left - 1))
        return jnp.tanh(mean + jnp.exp(log_std) * noise), carry

    def init_carry(num_envs: int) -> PyTree:
        if noise_repeat == 1:
            return ()
        return Held(jnp.zeros((num_envs, size), jnp.float32), jnp.zeros(num_envs, jnp.int32))

    return SoftPolicy(
        num_outputs=2 * size,
        target_entropy=-float(size),
        largest_entropy=size * math.log(2),
        actions=actions,
        inputs=lambda *inputs: inputs,
        at=lambda out, action: out,
        values=lambda value: value[:, None],
        mode=lambda outputs: jnp.tanh(outputs[0]),
        explore=explore,
        init_carry=init_carry,
    )


def softmax(space: spaces.Discrete) -> SoftPolicy:
    """Return the policy over the K actions of `space` with outputs `logits [B, K]`.

    Christodoulou 2019, arXiv:1910.07207. Its target entropy, 0.98 log K, leaves a policy nearly uniform; here
    it is half of log K.
    """

    def actions(logits: PyTree, key: Key) -> Actions:
        log_prob = jax.nn.log_softmax(logits)
        return Actions(None, jnp.exp(log_prob), log_prob)

    def at(out: Array, action: Array) -> Array:
        return jnp.take_along_axis(out, action[None, :, None], -1)[..., 0]

    def explore(logits: PyTree, key: Key, carry: PyTree) -> tuple[Array, PyTree]:
        return jax.random.categorical(key, logits).astype(jnp.int32), carry

    return SoftPolicy(
        num_outputs=int(space.n),
        target_entropy=0.5 * math.log(space.n),
        largest_entropy=math.log(space.n),
        actions=actions,
        inputs=lambda obs, action: (obs,),
        at=at,
        values=lambda value: value,
        mode=lambda logits: jnp.argmax(logits, -1).astype(jnp.int32),
        explore=explore,
        init_carry=lambda num_envs: (),
    )


def soft_policy(space: spaces.Space, noise_repeat: int = 1) -> SoftPolicy:
    """Return the policy for a Discrete space or a bounded Box."""
    if isinstance(space, spaces.Discrete):
        return softmax(space)
    assert isinstance(space, spaces.Box)
    return squashed_normal(space, noise_repeat)


class Settings(Protocol):
    """Fields of a configuration that a soft policy reads."""

    @property
    def init_ent_coef(self) -> float | None: ...
    @property
    def target_entropy(self) -> float | None: ...
    @property
    def target_entropy_factor(self) -> float | None: ...
    @property
    def noise_repeat(self) -> int: ...


def init_log_alpha(cfg: Settings) -> Array:
    """Return the logarithm of a learned temperature at the start."""
    return jnp.log(jnp.float32(1.0 if cfg.init_ent_coef is None else cfg.init_ent_coef))


def target_entropy(cfg: Settings, space: spaces.Space) -> float:
    """Return the entropy, in nats, that a learned temperature aims at."""
    if cfg.target_entropy is not None:
        return cfg.target_entropy
    factor = 1.0 if cfg.target_entropy_factor is None else cfg.target_entropy_factor
    return factor * soft_policy(space).target_entropy


def validate(cfg: Any, space: spaces.Space) -> None:
    """Raise ConfigError for a field without effect, or if the policy is to be more than uniform."""
    if isinstance(space, spaces.Discrete):
        refuse_unused(cfg, "discrete actions", "noise_repeat")
    if cfg.ent_coef is not None:
        fixed = ("init_ent_coef", "target_entropy", "target_entropy_factor")
        refuse_unused(cfg, f"ent_coef = {cfg.ent_coef}", *fixed)
        return
    if cfg.target_entropy is not None:
        refuse_unused(cfg, f"target_entropy = {cfg.target_entropy}", "target_entropy_factor")
    target, limit = target_entropy(cfg, space), soft_policy(space).largest_entropy
    if target >= limit:
        name = "target_entropy_factor" if cfg.target_entropy is None else "target_entropy"
        kind = "log K" if isinstance(space, spaces.Discrete) else "A log 2"
        what = f"a target below {kind} = {limit:.4g}, the entropy of uniform actions; it is {target:.4g}"
        raise ConfigError(name, getattr(cfg, name), what)
