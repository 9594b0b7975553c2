"""What on-policy methods share: their settings, normalisation, advantages, and passes over a rollout."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import chex
import jax
import jax.numpy as jnp
import optax

from purerl.config import MAX_INTERVAL, Config, ConfigError, choice, count, real, sizes, switch
from purerl.networks import ACTIVATIONS
from purerl.ops import losses, returns, statistics
from purerl.types import Array, EnvSpec, Key, Metrics, PyTree, Transition

MAX_ROWS = 2**25
"""Transitions of a rollout: totals are rounded up by as much, and are still int32 then."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnPolicyConfig(Config):
    """What can be set of every on-policy method."""

    num_envs: int = count(8, high=2**20)
    """Environments that each seed steps side by side."""
    num_steps: int = count(256)
    """Steps of each environment per update."""
    log_interval: int = count(10_000, high=MAX_INTERVAL)
    """Environment steps between two rows of metrics; rounded up to whole updates."""
    eval_interval: int = count(50_000, low=0)
    """Environment steps between two evaluations of the deterministic policy; 0 switches them off."""
    checkpoint_interval: int = count(250_000, low=0)
    """Environment steps between two checkpoints of a run that has a directory; 0 saves at the end only."""
    gamma: float = real(0.99, low=0, high=1)
    """Discount."""
    gae_lambda: float = real(0.95, low=0, high=1)
    """Trade of bias (0) against variance (1) in the advantages (Schulman et al. 2016, arXiv:1506.02438)."""
    value_lambda: float | None = real(None, low=0, high=1, optional=True)
    """Lambda of the lambda-returns that the critic learns; None takes that of the advantages."""
    max_grad_norm: float | None = real(0.5, above=0, optional=True)
    """Largest global norm of a gradient; None leaves it as it is."""
    normalize_obs: bool = switch(True)
    """Standardise observations by their running mean and variance, which change only after an update."""
    normalize_reward: bool = switch(True)
    """Divide rewards by the running deviation of the discounted return (arXiv:2005.12729, section 3)."""
    hidden_sizes: tuple[int, ...] = sizes((64, 64))
    """Widths of the hidden layers of actor and critic."""
    activation: str = choice("tanh", ACTIVATIONS)
    """Nonlinearity of the hidden layers; tanh did best in arXiv:2006.05990, section 3.2."""
    layer_norm: bool = switch(False)
    """Normalise each hidden layer before its nonlinearity (Ba et al. 2016, arXiv:1607.06450)."""
    state_dependent_std: bool = switch(False)
    """Let the spread of a continuous policy be an output of its network, not one vector for all states
    (compared in arXiv:2006.05990, section 3.2)."""
    init_log_std: float = real(0.0, low=-10, high=2)
    """Logarithm of a continuous policy's first spread, in units where [-1, 1] spans the action's range."""
    pi_init_scale: float = real(0.01, above=0)
    """Scale of the policy's last layer at the start; small, so that it starts alike in every state
    (arXiv:2006.05990, section 3.2)."""


def validate_rollout(cfg: Any) -> None:
    """Raises ConfigError where a rollout is too large, or does not divide into its minibatches."""
    rows = cfg.num_envs * cfg.num_steps
    if rows % getattr(cfg, "num_minibatches", 1):
        what = f"it must divide num_envs * num_steps = {cfg.num_envs} * {cfg.num_steps} = {rows:,}"
        raise ConfigError("num_minibatches", cfg.num_minibatches, what)
    if rows > MAX_ROWS:
        what = f"num_envs * num_steps = {rows:,} must be at most {MAX_ROWS:,}"
        raise ConfigError("num_steps", cfg.num_steps, what)


class Normalizer(NamedTuple):
    """Running statistics of what the environments show and pay."""

    obs: statistics.RunningMoments
    """Of every observation an update has seen."""
    returns: statistics.RunningMoments
    """Of the discounted rewards so far in an episode, at every step."""
    so_far: Array
    """`[N]` those of the episodes that go on."""


def init_normalizer(cfg: OnPolicyConfig, spec: EnvSpec) -> Normalizer:
    """That has seen nothing yet."""
    obs = statistics.init(spec.observation_space.shape)
    return Normalizer(obs, statistics.init(()), jnp.zeros(cfg.num_envs))


def observe(cfg: OnPolicyConfig, normalizer: Normalizer, transition: Transition) -> Normalizer:
    """`normalizer` with a rollout `[T, N]` added."""
    ended = transition.terminated | transition.truncated
    sums, so_far = returns.discounted_so_far(transition.reward, ended, cfg.gamma, normalizer.so_far)
    return Normalizer(
        statistics.update(normalizer.obs, transition.obs),
        statistics.update(normalizer.returns, sums),
        so_far,
    )


def normalize_obs(cfg: OnPolicyConfig, normalizer: Normalizer, obs: Array) -> Array:
    """`obs [..., O]` standardised, if `cfg` says so."""
    return statistics.normalize(normalizer.obs, obs) if cfg.normalize_obs else obs


def normalize_reward(cfg: OnPolicyConfig, normalizer: Normalizer, reward: Array) -> Array:
    """`reward [...]` scaled, if `cfg` says so, but never centred: that would change the best policy."""
    if not cfg.normalize_reward:
        return reward
    return jnp.clip(reward / jnp.sqrt(normalizer.returns.variance + 1e-8), -10.0, 10.0)


class Estimates(NamedTuple):
    """What a critic makes of a rollout, each `[T * N]`."""

    value: Array
    """Of `obs`."""
    advantage: Array
    target: Array
    """What the value should have been."""


def estimate(
    cfg: OnPolicyConfig,
    value: Callable[[Array], Array],
    normalizer: Normalizer,
    observed: Normalizer,
    transition: Transition,
) -> Estimates:
    """Values, advantages and value targets of a rollout.

    Args:
        cfg: the discount, the lambdas and what is normalised.
        value: `obs [B, O] -> [B]` of normalised observations.
        normalizer: as `act` used it: observations are normalised by it.
        observed: with this rollout added: rewards are scaled by it.
        transition: `[T, N]`.
    """
    shape = transition.reward.shape
    obs, next_obs = (
        normalize_obs(cfg, normalizer, flatten_time(o)) for o in (transition.obs, transition.next_obs)
    )
    values, next_values = value(obs).reshape(shape), value(next_obs).reshape(shape)
    return estimate_from_values(cfg, values, next_values, observed, transition)


def estimate_from_values(
    cfg: OnPolicyConfig, values: Array, next_values: Array, observed: Normalizer, transition: Transition
) -> Estimates:
    """As `estimate`, from the values `[T, N]` of `obs` and `next_obs`."""
    reward = normalize_reward(cfg, observed, transition.reward)
    flags = transition.terminated, transition.truncated
    advantage, target = returns.gae(reward, values, next_values, *flags, cfg.gamma, cfg.gae_lambda)
    if cfg.value_lambda is not None:
        target = returns.lambda_returns(reward, next_values, *flags, cfg.gamma, cfg.value_lambda)
    return flatten_time(Estimates(values, advantage, target))


def remaining(cfg: Config, step: Array | int) -> Array:
    """The share of `total_timesteps` that is left at `step`, from 1 to 0."""
    return jnp.maximum(1.0 - step / cfg.total_timesteps, 0.0)


def clip_gradient(cfg: OnPolicyConfig) -> optax.GradientTransformation:
    """Scaling to `max_grad_norm`, by the global norm; nothing where that is None."""
    return optax.identity() if cfg.max_grad_norm is None else optax.clip_by_global_norm(cfg.max_grad_norm)


def adam(cfg: OnPolicyConfig, learning_rate: float | Array) -> optax.GradientTransformation:
    """Adam with the epsilon of OpenAI's baselines, on clipped gradients."""
    return optax.chain(clip_gradient(cfg), optax.adam(learning_rate, eps=1e-5))


def flatten_time(tree: PyTree) -> PyTree:
    """Merge the two leading axes of every leaf: `[T, N, ...] -> [T * N, ...]`."""
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), tree)


def permutation(key: Key, rows: int) -> Array:
    """The numbers `0..rows - 1` in a random order, `[rows]` int32.

    One sort of words with random bits above and the number itself below: several times faster on a CPU
    than `jax.random.permutation`, which sorts pairs, twice. Two numbers whose random bits agree stay in
    order; of the 4,096 rows up to which it is used, a pair does with probability 2^-20.
    """
    if rows > 2**12:
        return jax.random.permutation(key, rows)
    numbers = jnp.uint32(2 ** (rows - 1).bit_length() - 1)
    words = jax.random.bits(key, (rows,), jnp.uint32) & ~numbers | jnp.arange(rows, dtype=jnp.uint32)
    return (jax.lax.sort(words, is_stable=False) & numbers).astype(jnp.int32)


Learner = TypeVar("Learner")
GradientStep = Callable[[Learner, Any], tuple[Learner, Metrics]]
"""`(learner, minibatch) -> (learner, metrics)`."""


def one_epoch(
    gradient_step: GradientStep, learner: Learner, batch: PyTree, key: Key, *, num_minibatches: int
) -> tuple[Learner, Metrics]:
    """Pass over `batch` once in a new order, one minibatch at a time.

    Args:
        gradient_step: what to do with each minibatch.
        learner: what the gradient steps change.
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


def fit_critic(
    cfg: Any,
    value: Callable[[PyTree, Array], Array],
    critic: tuple[PyTree, optax.OptState],
    obs: Array,
    target: Array,
    key: Key,
) -> tuple[tuple[PyTree, optax.OptState], Metrics]:
    """Several passes of Adam on `(V - target)^2 / 2`, for methods whose policy takes steps of its own.

    Args:
        cfg: `value_learning_rate`, `num_epochs` and `num_minibatches`.
        value: `(params, obs [B, O]) -> [B]`.
        critic: its parameters, and the state of `value_adam(cfg)`.
        obs: `[B, O]`.
        target: `[B]`.
        key: consumed.

    Returns:
        `(critic, metrics)`, the loss a mean over all steps.
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


def value_adam(cfg: Any) -> optax.GradientTransformation:
    """Adam of a critic that is fitted apart from its policy."""
    return adam(cfg, cfg.value_learning_rate)
