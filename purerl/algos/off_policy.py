"""Helpers that off-policy methods call: settings, the learner, gradient steps on replayed batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from gymnasium import spaces

from purerl import normalize
from purerl.algos.learning import GradientStep, Learner, mean_of_known
from purerl.config import (
    Config,
    ConfigError,
    as_fraction,
    choice,
    count,
    ratio,
    real,
    refuse_unused,
    sizes,
    switch,
    text,
)
from purerl.layers import ACTIVATIONS
from purerl.replay import frames, ring
from purerl.replay.buffer import Buffer, make_buffer
from purerl.replay.ring import Batch
from purerl.rollout import is_bounded
from purerl.spaces import algorithm_hint, shapes, zeros
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
    updates_per_step: float = ratio(1)
    """Gradient steps per step of all environments; 0.25 for one every 4 steps."""
    frame_stack: int = count(0, low=0)
    """Frames that an observation stacks on its first or last axis, to be stored once each; 1 to store whole
    observations once, 0 to store them twice, as `obs` and `next_obs`."""
    n_step: int = count(1, high=1_000)
    """Rewards in a target before it bootstraps (Sutton & Barto 2018, eq. 7.1)."""
    prioritised: bool = switch(False)
    """Draw rows by their last TD errors (Schaul et al. 2016, arXiv:1511.05952)."""
    priority_alpha: float | None = real(None, low=0, high=1, optional=True)
    """Exponent of the priorities; 0 draws uniformly. None: 0.6."""
    priority_beta: float | None = real(None, low=0, high=1, optional=True)
    """Exponent of the weights that correct for these draws, at the start; it ends at 1. None: 0.4."""
    normalize_reward: bool = switch(False)
    """Divide rewards by a running scale of discounted returns (see `normalize.reward_scale`)."""
    hidden_sizes: tuple[int, ...] = sizes((256, 256))
    """Widths of the hidden layers of all networks."""
    activation: str = choice("relu", ACTIVATIONS)
    """Nonlinearity of the hidden layers."""


class State(NamedTuple):
    """State of an off-policy algorithm."""

    learner: Learner
    replay: ring.State
    returns: normalize.Returns | tuple[()] = ()
    """Statistics of discounted returns, with `normalize_reward`."""


def validate(cfg: OffPolicyConfig, spec: EnvSpec, *, discrete: bool = False) -> None:
    """Raise ConfigError unless actions are a flat, bounded Box, `validate_replay` passes, and frames fit.

    With `discrete` actions may be Discrete, too.
    """
    space = spec.action_space
    known = discrete and isinstance(space, spaces.Discrete)
    if not known and (not is_bounded(space) or len(space.shape) != 1):
        what = f"an environment with continuous actions, a flat Box with finite bounds, got {space}"
        hint = "" if isinstance(space, spaces.Box) else algorithm_hint(space)
        raise ConfigError("env", spec.name, what, hint)
    validate_replay(cfg)
    shape = spec.observation_space.shape
    if cfg.frame_stack and shape is None:
        raise ConfigError("frame_stack", cfg.frame_stack, "0, since observations are a Dict")
    if cfg.frame_stack and not frames.stack_of(shape, cfg.frame_stack):
        what = f"0, 1, or the length of the first or last axis of observations, got {[*shape]}"
        raise ConfigError("frame_stack", cfg.frame_stack, what)


def validate_replay(cfg: OffPolicyConfig) -> None:
    """Raise ConfigError if the run ends before learning starts, or the replay buffer does not suffice."""
    if not cfg.prioritised:
        refuse_unused(cfg, "prioritised = False", "priority_alpha", "priority_beta")
    if cfg.learning_starts >= cfg.total_timesteps:
        what = f"a whole number below total_timesteps = {cfg.total_timesteps:,}"
        raise ConfigError("learning_starts", cfg.learning_starts, what, "Otherwise nothing is learned.")
    if cfg.batch_size > cfg.buffer_size:
        what = f"a whole number, at most buffer_size = {cfg.buffer_size:,}"
        raise ConfigError("batch_size", cfg.batch_size, what)
    if cfg.n_step * cfg.num_envs > capacity(cfg):
        held = capacity(cfg) // cfg.num_envs
        what = f"at most {held:,}, the steps of an environment that the replay buffer holds"
        raise ConfigError("n_step", cfg.n_step, what, "Raise buffer_size or total_timesteps.")


def example(spec: EnvSpec) -> tuple[PyTree, Array]:
    """Return `obs [1, O]` and `action [1, A]` of zeros, for the initialisation of networks."""
    return zeros(spec.observation_space, 1), zeros(spec.action_space, 1)


def num_steps(cfg: OffPolicyConfig) -> int:
    """Return the steps of all environments between two updates: 1, or more where a step has part of one."""
    return as_fraction(cfg.updates_per_step).denominator


def capacity(cfg: OffPolicyConfig) -> int:
    """Return the rows of the replay buffer: at most the run's steps, rounded up to whole rollouts."""
    rollout = cfg.num_envs * num_steps(cfg)
    return -(-min(cfg.buffer_size, cfg.total_timesteps) // rollout) * rollout


def row(spec: EnvSpec) -> Transition:
    """Return the shapes and dtypes of one transition, without `extras`."""
    like: Any = jax.ShapeDtypeStruct
    obs, action = shapes(spec.observation_space), shapes(spec.action_space)
    return Transition(obs, action, like((), jnp.float32), obs, like((), bool), like((), bool))


def replay_updates(
    gradient_step: GradientStep,
    learner: Learner,
    replay: Any,
    sample: Callable[[Any, Key], Batch],
    give_back: Callable[[Any, Array, Array], Any],
    key: Key,
    first: Array | int,
    num_updates: int,
) -> tuple[Learner, Any, MaskedMetrics]:
    """Take gradient steps, each on a batch of its own, and give the TD errors back to the buffer.

    Of the replay buffer only `priority` is carried from step to step: XLA would copy rows.

    Args:
        gradient_step: applied `num_updates` times.
        learner: changed by the gradient steps.
        replay: state of the buffer, with at least one row.
        sample: `(replay, key) -> Batch`.
        give_back: `(replay, index [B], td_error [B]) -> replay`.
        key: consumed.
        first: index of the first of these gradient steps, scalar int32.
        num_updates: number of gradient steps.

    Returns:
        `(learner, replay, metrics)`; each metric is the mean over the gradient steps that gave it a value.
    """

    def step(loop: tuple[Learner, PyTree], count: Array) -> tuple[tuple[Learner, PyTree], Any]:
        learner, priority = loop
        current = replay._replace(priority=priority)
        key_sample, key_step = jax.random.split(jax.random.fold_in(key, count))
        batch = sample(current, key_sample)
        learner, td_error, metrics = gradient_step(learner, batch, key_step, first + count)
        return (learner, give_back(current, batch.index, td_error).priority), metrics

    counts = jnp.arange(num_updates, dtype=jnp.int32)
    (learner, priority), metrics = jax.lax.scan(step, (learner, replay.priority), counts)
    return learner, replay._replace(priority=priority), mean_of_known(metrics)


def make_off_policy(
    cfg: OffPolicyConfig,
    spec: EnvSpec,
    *,
    init_learner: Callable[[Key], Learner],
    act: Callable[..., tuple[Array, PyTree, PyTree]],
    gradient_step: GradientStep,
    init_carry: Callable[[int], PyTree] = lambda num_envs: (),
    buffer: Buffer | None = None,
) -> Algorithm:
    """Return the algorithm that stores each step of its environments and then takes gradient steps.

    Args:
        cfg: sizes of batches and of the buffer, and the number of gradient steps.
        spec: the environment's spaces.
        init_learner: `key -> Learner`.
        act: as in `Algorithm`, with a `State` of this module.
        gradient_step: see `GradientStep`.
        init_carry: as in `Algorithm`.
        buffer: functions of the replay buffer; those that `cfg` asks for if None.
    """
    memory = make_buffer(cfg, row(spec), capacity(cfg), num_steps(cfg)) if buffer is None else buffer
    steps, num_updates = num_steps(cfg), as_fraction(cfg.updates_per_step).numerator
    rollout = cfg.num_envs * steps

    def init(key: Key) -> State:
        returns = normalize.init_returns(cfg.num_envs) if cfg.normalize_reward else ()
        return State(init_learner(key), memory.init(), returns)

    def observe(state: State, transition: Transition) -> State:
        returns = state.returns and normalize.observe_returns(state.returns, transition, cfg.gamma)
        return state._replace(replay=memory.add(state.replay, transition), returns=returns)

    def update(state: State, transition: Transition, key: Key, step: Array) -> tuple[State, MaskedMetrics]:
        state = observe(state, transition)

        def sample(replay: Any, key: Key) -> Batch:
            batch = memory.sample(replay, key, step)
            if not state.returns:
                return batch
            reward = batch.rows.reward / normalize.reward_scale(state.returns)
            return batch._replace(rows=batch.rows._replace(reward=reward))

        learner, replay, metrics = replay_updates(
            gradient_step,
            state.learner,
            state.replay,
            sample,
            memory.update,
            key,
            step // rollout * num_updates,
            num_updates,
        )
        return state._replace(learner=learner, replay=replay), metrics

    return Algorithm(
        init=init,
        act=act,
        observe=observe,
        update=update,
        num_envs=cfg.num_envs,
        num_steps=steps,
        warmup_steps=-(-cfg.learning_starts // rollout) * rollout,
        init_carry=init_carry,
    )
