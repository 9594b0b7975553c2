"""Helpers that on-policy methods call: settings, advantages, optimisers, passes over a rollout."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

import chex
import jax
import jax.numpy as jnp
import optax

from purerl.config import MAX_INTERVAL, Config, ConfigError, choice, count, real, sizes, switch
from purerl.layers import ACTIVATIONS
from purerl.normalize import Normalizer, normalize_obs, normalize_reward
from purerl.ops import losses, returns
from purerl.ops.arrays import lenient
from purerl.types import Array, Key, MaskedMetrics, Metrics, PyTree, Transition

MAX_ROWS = 2**25
"""Most transitions of a rollout: totals are rounded up by at most this and stay int32."""
IMAGE_ROWS = 256
"""Most images of a rollout that go through a network at once: what its kernels cover takes many times the
memory of the images."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnPolicyConfig(Config):
    """Hyperparameters of every on-policy method."""

    num_envs: int = count(8, high=2**20)
    """Environments per seed, stepped in parallel."""
    num_steps: int = count(256)
    """Steps of each environment per update."""
    log_interval: int = count(10_000, high=MAX_INTERVAL)
    """Environment steps between two rows of metrics; rounded up to whole updates."""
    eval_interval: int = count(50_000, low=0)
    """Environment steps between two evaluations of the deterministic policy; 0 for none."""
    gamma: float = real(0.99, low=0, high=1)
    """Discount factor."""
    gae_lambda: float = real(0.95, low=0, high=1)
    """Lambda of the advantages: 0 for least variance, 1 for least bias (arXiv:1506.02438)."""
    value_lambda: float | None = real(None, low=0, high=1, optional=True)
    """Lambda of the critic's targets; None for gae_lambda."""
    max_grad_norm: float | None = real(0.5, above=0, optional=True)
    """Largest global norm of a gradient; None for no limit."""
    normalize_obs: bool = switch(True)
    """Standardise observations by their running mean and variance, which change after each update."""
    normalize_reward: bool = switch(True)
    """Divide rewards by the running standard deviation of the return (arXiv:2005.12729, section 3)."""
    hidden_sizes: tuple[int, ...] = sizes((64, 64))
    """Widths of the hidden layers of actor and critic."""
    activation: str = choice("tanh", ACTIVATIONS)
    """Nonlinearity of the hidden layers; tanh was best in arXiv:2006.05990, section 3.2."""
    layer_norm: bool = switch(False)
    """Normalise each hidden layer before its nonlinearity (Ba et al. 2016, arXiv:1607.06450)."""
    state_dependent_std: bool = switch(False)
    """Make a continuous policy's standard deviation an output of its network, not one learned vector
    (compared in arXiv:2006.05990, section 3.2)."""
    init_log_std: float = real(0.0, low=-10, high=2)
    """Initial log standard deviation of a continuous policy, in units where [-1, 1] is the action range."""
    pi_init_scale: float = real(0.01, above=0)
    """Initial scale of the policy's last layer; small, so that the first policy hardly depends on the state
    (arXiv:2006.05990, section 3.2)."""


class Rollout(Protocol):
    """Fields of a configuration that `validate_rollout` reads; one with minibatches has `num_minibatches`."""

    @property
    def num_envs(self) -> int: ...
    @property
    def num_steps(self) -> int: ...


def validate_rollout(cfg: Rollout) -> None:
    """Raise ConfigError if a rollout is too large, or does not divide into minibatches."""
    rows = cfg.num_envs * cfg.num_steps
    num_minibatches = getattr(cfg, "num_minibatches", 1)
    if rows % num_minibatches:
        what = f"a divisor of num_envs * num_steps = {cfg.num_envs} * {cfg.num_steps} = {rows:,}"
        raise ConfigError("num_minibatches", num_minibatches, what)
    if rows > MAX_ROWS:
        what = f"num_envs * num_steps to be at most {MAX_ROWS:,}, got {rows:,}"
        raise ConfigError("num_steps", cfg.num_steps, what)


class Estimates(NamedTuple):
    """Values, advantages and value targets of a rollout, each `[T * N]`."""

    value: Array
    """Values of `obs`."""
    advantage: Array
    target: Array
    """Targets of the values of `obs`."""


def estimate(
    cfg: OnPolicyConfig,
    value: Callable[[Array], Array],
    normalizer: Normalizer,
    observed: Normalizer,
    transition: Transition,
) -> Estimates:
    """Return the values, advantages and value targets of a rollout.

    Args:
        cfg: discount, lambdas and switches of normalisation.
        value: `obs [B, O] -> [B]` for normalised observations.
        normalizer: the statistics `act` used, for observations.
        observed: the statistics with this rollout added, for rewards.
        transition: `[T, N]`.
    """
    shape = transition.reward.shape
    obs, next_obs = (
        normalize_obs(cfg, normalizer, flatten_time(o)) for o in (transition.obs, transition.next_obs)
    )
    values, next_values = (in_passes(value, o).reshape(shape) for o in (obs, next_obs))
    return estimate_from_values(cfg, values, next_values, observed, transition)


def estimate_from_values(
    cfg: OnPolicyConfig, values: Array, next_values: Array, observed: Normalizer, transition: Transition
) -> Estimates:
    """Return the same as `estimate`, from the values `[T, N]` of `obs` and `next_obs`."""
    reward = normalize_reward(cfg, observed, transition.reward)
    flags = transition.terminated, transition.truncated
    advantage, target = returns.gae(reward, values, next_values, *flags, cfg.gamma, cfg.gae_lambda)
    if cfg.value_lambda is not None:
        target = returns.lambda_returns(reward, next_values, *flags, cfg.gamma, cfg.value_lambda)
    return flatten_time(Estimates(values, advantage, target))


def remaining(cfg: Config, step: Array | int) -> Array:
    """Return the share of `total_timesteps` left at `step`, from 1 to 0."""
    return jnp.maximum(1.0 - step / cfg.total_timesteps, 0.0)


def with_explained_variance(metrics: Metrics, value: Array, target: Array) -> MaskedMetrics:
    """Return `metrics` with that of the critic's `value [...]`; it has none for a constant `target [...]`."""
    name = "v/explained_variance"
    explained = losses.explained_variance(value, target)
    return MaskedMetrics(metrics | {name: explained}, {name: target.var() > 0})


class Clipped(Protocol):
    """Fields of a configuration that `clip_gradient` and `adam` read."""

    @property
    def max_grad_norm(self) -> float | None: ...


def clip_gradient(cfg: Clipped) -> optax.GradientTransformation:
    """Return gradient clipping to the global norm `max_grad_norm`, the identity if that is None."""
    return optax.identity() if cfg.max_grad_norm is None else optax.clip_by_global_norm(cfg.max_grad_norm)


def adam(cfg: Clipped, learning_rate: float | Array) -> optax.GradientTransformation:
    """Return Adam on clipped gradients, with the epsilon of OpenAI's baselines."""
    chain = optax.chain(clip_gradient(cfg), optax.adam(learning_rate, eps=1e-5))
    return chain._replace(update=lenient(chain.update))


Outputs = TypeVar("Outputs")


def in_passes(function: Callable[[PyTree], Outputs], obs: PyTree) -> Outputs:
    """Return `function(obs)` of rows `[B, ...]`, each mapped by itself: of images IMAGE_ROWS at a time."""
    leaves = jax.tree.leaves(obs)
    if leaves[0].shape[0] <= IMAGE_ROWS or all(leaf.ndim < 4 for leaf in leaves):
        return function(obs)

    def one(row: PyTree) -> Outputs:
        return jax.tree.map(lambda leaf: leaf[0], function(jax.tree.map(lambda leaf: leaf[None], row)))

    return jax.lax.map(one, obs, batch_size=IMAGE_ROWS)


def flatten_time(tree: PyTree) -> PyTree:
    """Merge the two leading axes of every leaf: `[T, N, ...] -> [T * N, ...]`."""
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), tree)


def permutation(key: Key, rows: int) -> Array:
    """Return the numbers `0..rows - 1` in a random order, `[rows]` int32.

    Up to 4,096 rows by one sort of words with random bits above and the number below: several times faster
    on a CPU than `jax.random.permutation`, which sorts pairs twice. Two numbers with equal random bits keep
    their order; for a given pair of 4,096 rows this has probability 2^-20.
    """
    if rows > 2**12:
        return jax.random.permutation(key, jnp.arange(rows, dtype=jnp.int32))
    numbers = jnp.uint32(2 ** (rows - 1).bit_length() - 1)
    words = jax.random.bits(key, (rows,), jnp.uint32) & ~numbers | jnp.arange(rows, dtype=jnp.uint32)
    return (jax.lax.sort(words, is_stable=False) & numbers).astype(jnp.int32)


Learner = TypeVar("Learner")
GradientStep = Callable[[Learner, Any], tuple[Learner, Metrics]]
"""`(learner, minibatch) -> (learner, metrics)`."""


def one_epoch(
    gradient_step: GradientStep, learner: Learner, batch: PyTree, key: Key, *, num_minibatches: int
) -> tuple[Learner, Metrics]:
    """Take one gradient step on each minibatch of `batch`, whose rows are shuffled first.

    Args:
        gradient_step: `(learner, minibatch) -> (learner, metrics)`.
        learner: initial state of the gradient steps.
        batch: each leaf `[B, ...]`; every row is used exactly once.
        key: consumed.
        num_minibatches: gradient steps; must divide B.

    Returns:
        `(learner, metrics)`, each metric `[num_minibatches]`.
    """
    rows = jax.tree.leaves(batch)[0].shape[0]
    chex.assert_is_divisible(rows, num_minibatches)
    order = permutation(key, rows).reshape(num_minibatches, -1)

    def step(learner: Learner, index: Array):
        return gradient_step(learner, jax.tree.map(lambda leaf: jnp.take(leaf, index, 0), batch))

    return jax.lax.scan(step, learner, order)


class CriticFit(Clipped, Protocol):
    """Fields of a configuration that `fit_critic` reads."""

    @property
    def value_learning_rate(self) -> float: ...
    @property
    def num_epochs(self) -> int: ...
    @property
    def num_minibatches(self) -> int: ...


def fit_critic(
    cfg: CriticFit,
    value: Callable[[PyTree, Array], Array],
    critic: tuple[PyTree, optax.OptState],
    obs: Array,
    target: Array,
    key: Key,
) -> tuple[tuple[PyTree, optax.OptState], Metrics]:
    """Take `num_epochs` passes of Adam on `(V - target)^2 / 2`, for a critic apart from its policy.

    Args:
        cfg: step size, passes and minibatches.
        value: `(params, obs [B, O]) -> [B]`.
        critic: the parameters, and the state of `value_adam(cfg)`.
        obs: `[B, O]`.
        target: `[B]`.
        key: consumed.

    Returns:
        `(critic, metrics)`; the loss is the mean over all steps.
    """

    def loss(params: PyTree, obs: Array, target: Array) -> Array:
        return losses.half_mean_square(value(params, obs) - target)

    def step(critic, minibatch):
        params, opt_state = critic
        error, gradient = jax.value_and_grad(loss)(params, *minibatch)
        updates, opt_state = value_adam(cfg).update(gradient, opt_state)
        return (optax.apply_updates(params, updates), opt_state), {"v/loss": error}

    def epoch(critic, key):
        return one_epoch(step, critic, (obs, target), key, num_minibatches=cfg.num_minibatches)

    critic, metrics = jax.lax.scan(epoch, critic, jax.random.split(key, cfg.num_epochs))
    return critic, jax.tree.map(jnp.mean, metrics)


def value_adam(cfg: CriticFit) -> optax.GradientTransformation:
    """Return the optimiser of `fit_critic`."""
    return adam(cfg, cfg.value_learning_rate)
