"""Helpers that off-policy methods call: settings, the learner, gradient steps on replayed batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax
from gymnasium import spaces

from purerl.config import Config, ConfigError, choice, count, real, sizes, text
from purerl.networks import ACTIVATIONS
from purerl.ops.arrays import lenient
from purerl.replay import uniform
from purerl.replay.uniform import Batch
from purerl.rollout import is_bounded
from purerl.spaces import dtype_of
from purerl.types import Algorithm, Array, EnvSpec, Key, MaskedMetrics, PyTree, Transition


@dataclasses.dataclass(frozen=True, kw_only=True)
class OffPolicyConfig(Config):
    """Hyperparameters of every off-policy method."""

    env: str = text("pendulum")
    """Environment id, as `purerl.make_env` takes it."""
    learning_rate: float = real(3e-4, above=0)
    """Step size of Adam."""
    gamma: float = real(0.99, low=0, high=1)
    """Discount factor."""
    tau: float = real(0.005, above=0, high=1)
    """Fraction by which target networks approach their networks at each of their updates."""
    batch_size: int = count(256)
    """Transitions per gradient step."""
    buffer_size: int = count(1_000_000)
    """Transitions that the replay buffer holds; never more than total_timesteps."""
    learning_starts: int = count(1_000, low=0)
    """Environment steps with uniform actions before the first gradient step."""
    updates_per_step: int = count(1)
    """Gradient steps per step of all environments."""
    hidden_sizes: tuple[int, ...] = sizes((256, 256))
    """Widths of the hidden layers of all networks."""
    activation: str = choice("relu", ACTIVATIONS)
    """Nonlinearity of the hidden layers."""


class Learner(NamedTuple):
    """Networks in training, each part by the network's name."""

    params: dict[str, PyTree]
    target: dict[str, PyTree]
    """Slowly following copies of some of `params`."""
    opt_state: dict[str, optax.OptState]


class State(NamedTuple):
    """State of an off-policy algorithm."""

    learner: Learner
    replay: uniform.State


GradientStep = Callable[[Learner, Batch, Key, Array], tuple[Learner, Array, Mapping[str, Array]]]
"""`(learner, batch [B, ...], key, index) -> (learner, td_error [B], metrics)`.

`index` numbers the gradient steps. It is never batched, so `lax.cond` on it stays a branch.
"""


class Buffer(Protocol):
    """Functions of a replay buffer, such as the module `purerl.replay.uniform`."""

    @property
    def init(self) -> Callable[[Transition, int], Any]: ...
    @property
    def add(self) -> Callable[[Any, Transition], Any]: ...
    @property
    def sample(self) -> Callable[[Any, Key, int], Batch]: ...
    @property
    def update(self) -> Callable[[Any, Array, Array], Any]: ...


def validate(cfg: OffPolicyConfig, spec: EnvSpec) -> None:
    """Raise ConfigError unless actions are a flat, bounded Box and `validate_replay` passes."""
    space = spec.action_space
    if not is_bounded(space) or len(space.shape) != 1:
        what = f"an environment with continuous actions, a flat Box with finite bounds, got {space}"
        hint = "Use ppo for discrete actions." if isinstance(space, spaces.Discrete) else ""
        raise ConfigError("env", spec.name, what, hint)
    validate_replay(cfg)


def validate_replay(cfg: OffPolicyConfig) -> None:
    """Raise ConfigError if the run ends before learning starts, or a batch exceeds the replay buffer."""
    if cfg.learning_starts >= cfg.total_timesteps:
        what = f"a whole number below total_timesteps = {cfg.total_timesteps:,}"
        raise ConfigError("learning_starts", cfg.learning_starts, what, "Otherwise nothing is learned.")
    if cfg.batch_size > cfg.buffer_size:
        what = f"a whole number, at most buffer_size = {cfg.buffer_size:,}"
        raise ConfigError("batch_size", cfg.batch_size, what)


def example(spec: EnvSpec) -> tuple[Array, Array]:
    """Return `obs [1, O]` and `action [1, A]` of zeros, for the initialisation of networks."""
    obs, action = (jnp.zeros((1, *space.shape), dtype_of(space)) for space in spec[1:])
    return obs, action


def init_learner(
    params: dict[str, PyTree], targets: tuple[str, ...], optimizer: optax.GradientTransformation
) -> Learner:
    """Return a learner of `params` by network, with target networks for the `targets` among them."""
    target = {name: jax.tree.map(jnp.copy, params[name]) for name in targets}
    return Learner(params, target, {name: optimizer.init(part) for name, part in params.items()})


def descend(
    learner: Learner, name: str, optimizer: optax.GradientTransformation, gradient: PyTree
) -> Learner:
    """Take a step of `optimizer` on the network `name`."""
    steps, opt_state = lenient(optimizer.update)(gradient, learner.opt_state[name])
    params = optax.apply_updates(learner.params[name], steps)
    return learner._replace(
        params=learner.params | {name: params}, opt_state=learner.opt_state | {name: opt_state}
    )


def move_targets(learner: Learner, tau: float | Array) -> Learner:
    """Move every target network towards its network: `target += tau (params - target)`."""
    online = {name: learner.params[name] for name in learner.target}
    return learner._replace(target=optax.incremental_update(online, learner.target, tau))


def capacity(cfg: OffPolicyConfig) -> int:
    """Return the rows of the replay buffer: at most the run's steps, rounded up to whole vector steps."""
    return -(-min(cfg.buffer_size, cfg.total_timesteps) // cfg.num_envs) * cfg.num_envs


def row(spec: EnvSpec) -> Transition:
    """Return the shapes and dtypes of one transition, without `extras`."""
    like: Any = jax.ShapeDtypeStruct
    obs, action = (like(space.shape, dtype_of(space)) for space in spec[1:])
    return Transition(obs, action, like((), jnp.float32), obs, like((), bool), like((), bool))


def replay_updates(
    gradient_step: GradientStep,
    learner: Learner,
    replay: Any,
    key: Key,
    first: Array | int,
    *,
    num_updates: int,
    batch_size: int,
    buffer: Buffer = uniform,
) -> tuple[Learner, Any, MaskedMetrics]:
    """Take gradient steps, each on a batch of its own, and give the TD errors back to the buffer.

    Of the replay buffer only `priority` is carried from step to step: XLA would copy rows.

    Args:
        gradient_step: applied `num_updates` times.
        learner: changed by the gradient steps.
        replay: state of the buffer, with at least one row.
        key: consumed.
        first: index of the first of these gradient steps, scalar int32.
        num_updates: number of gradient steps.
        batch_size: B.
        buffer: functions of the buffer.

    Returns:
        `(learner, replay, metrics)`; each metric is the mean over the gradient steps that gave it a value.
    """

    def step(loop: tuple[Learner, PyTree], count: Array) -> tuple[tuple[Learner, PyTree], Any]:
        learner, priority = loop
        current = replay._replace(priority=priority)
        key_sample, key_step = jax.random.split(jax.random.fold_in(key, count))
        batch = buffer.sample(current, key_sample, batch_size)
        learner, td_error, metrics = gradient_step(learner, batch, key_step, first + count)
        return (learner, buffer.update(current, batch.index, td_error).priority), metrics

    counts = jnp.arange(num_updates, dtype=jnp.int32)
    (learner, priority), metrics = jax.lax.scan(step, (learner, replay.priority), counts)
    return learner, replay._replace(priority=priority), mean_of_known(metrics)


def mean_of_known(metrics: Mapping[str, Array]) -> MaskedMetrics:
    """Return the mean of each metric `[U]` over the gradient steps that gave it a value."""
    metrics, means = MaskedMetrics.of(metrics), {}
    for name, values in metrics.numbers.items():
        known = jnp.broadcast_to(metrics.known.get(name, True), values.shape)
        means[name] = jnp.where(known, values, 0.0).sum() / jnp.maximum(known.sum(dtype=jnp.float32), 1.0)
    return MaskedMetrics(means, {name: known.any() for name, known in metrics.known.items()})


def make_off_policy(
    cfg: OffPolicyConfig,
    spec: EnvSpec,
    *,
    init_learner: Callable[[Key], Learner],
    act: Callable[..., tuple[Array, PyTree, PyTree]],
    gradient_step: GradientStep,
    init_carry: Callable[[int], PyTree] = lambda num_envs: (),
    buffer: Buffer = uniform,
) -> Algorithm:
    """Return the algorithm that stores each step of its environments and then takes gradient steps.

    Args:
        cfg: sizes of batches and of the buffer, and the number of gradient steps.
        spec: the environment's spaces.
        init_learner: `key -> Learner`.
        act: as in `Algorithm`, with a `State` of this module.
        gradient_step: see `GradientStep`.
        init_carry: as in `Algorithm`.
        buffer: functions of the replay buffer.
    """

    def init(key: Key) -> State:
        return State(init_learner(key), buffer.init(row(spec), capacity(cfg)))

    def observe(state: State, transition: Transition) -> State:
        return state._replace(replay=buffer.add(state.replay, transition))

    def update(state: State, transition: Transition, key: Key, step: Array) -> tuple[State, MaskedMetrics]:
        state = observe(state, transition)
        learner, replay, metrics = replay_updates(
            gradient_step,
            state.learner,
            state.replay,
            key,
            step // cfg.num_envs * cfg.updates_per_step,
            num_updates=cfg.updates_per_step,
            batch_size=cfg.batch_size,
            buffer=buffer,
        )
        return State(learner, replay), metrics

    return Algorithm(
        init=init,
        act=act,
        observe=observe,
        update=update,
        num_envs=cfg.num_envs,
        num_steps=1,
        warmup_steps=-(-cfg.learning_starts // cfg.num_envs) * cfg.num_envs,
        init_carry=init_carry,
    )
