"""Running statistics of observations and discounted returns, for algorithms of every family."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from purerl.ops import returns, statistics
from purerl.pixels import are_pixels
from purerl.spaces import boxes
from purerl.types import Array, EnvSpec, PyTree, Transition


class Settings(Protocol):
    """Fields of a configuration that normalisation reads."""

    @property
    def num_envs(self) -> int: ...
    @property
    def gamma(self) -> float: ...
    @property
    def normalize_obs(self) -> bool: ...
    @property
    def normalize_reward(self) -> bool: ...


class Normalizer(NamedTuple):
    """Running statistics of observations and discounted returns."""

    obs: PyTree
    """`RunningMoments` of the observations of all updates, one for each array of an observation."""
    returns: statistics.RunningMoments
    """Moments of the discounted return so far in its episode, over all steps."""
    so_far: Array
    """`[N]` discounted return so far of each unfinished episode."""


def init(cfg: Settings, spec: EnvSpec) -> Normalizer:
    """Return empty statistics."""
    obs = jax.tree.map(lambda box: statistics.init(box.shape), boxes(spec.observation_space))
    return Normalizer(obs, statistics.init(()), jnp.zeros(cfg.num_envs, jnp.float32))


def observe(cfg: Settings, normalizer: Normalizer, transition: Transition) -> Normalizer:
    """Return `normalizer` with a rollout `[T, N]` added."""
    ended = transition.terminated | transition.truncated
    sums, so_far = returns.discounted_so_far(transition.reward, ended, cfg.gamma, normalizer.so_far)

    def observed(moments: statistics.RunningMoments, obs: Array) -> statistics.RunningMoments:
        return moments if are_pixels(moments.mean.shape, obs.dtype) else statistics.update(moments, obs)

    return Normalizer(
        jax.tree.map(observed, normalizer.obs, transition.obs, is_leaf=_are_moments),
        statistics.update(normalizer.returns, sums),
        so_far,
    )


def normalize_obs(cfg: Settings, normalizer: Normalizer, obs: PyTree) -> PyTree:
    """Return `obs [..., O]` standardised; as it is without `cfg.normalize_obs`, and images of uint8."""

    def normalized(moments: statistics.RunningMoments, obs: Array) -> Array:
        pixels = are_pixels(moments.mean.shape, obs.dtype)
        return obs if pixels else statistics.normalize(moments, obs)

    if not cfg.normalize_obs:
        return obs
    return jax.tree.map(normalized, normalizer.obs, obs, is_leaf=_are_moments)


def _are_moments(value: PyTree) -> bool:
    return isinstance(value, statistics.RunningMoments)


def normalize_reward(cfg: Settings, normalizer: Normalizer, reward: Array) -> Array:
    """Return `reward [...]` over the deviation of the return, or as it is without `cfg.normalize_reward`.

    Engstrom et al. 2020, arXiv:2005.12729, section 3. Rewards are never centred: that would change which
    policy is best.
    """
    if not cfg.normalize_reward:
        return reward
    return jnp.clip(reward / jnp.sqrt(normalizer.returns.variance + 1e-8), -10.0, 10.0)


class Returns(NamedTuple):
    """Running statistics of discounted returns, from which the scale of rewards follows."""

    moments: statistics.RunningMoments
    """Moments of the discounted return so far in its episode, over all steps."""
    largest: Array
    """Scalar: the largest of these returns by magnitude."""
    so_far: Array
    """`[N]` discounted return so far of each unfinished episode."""


RETURN_BOUND = 5.0
"""No scaled return so far exceeds it: the half-width of a distributional critic's support."""


def init_returns(num_envs: int) -> Returns:
    """Return empty statistics."""
    return Returns(statistics.init(()), jnp.float32(0), jnp.zeros(num_envs, jnp.float32))


def observe_returns(known: Returns, transition: Transition, gamma: float | Array) -> Returns:
    """Return `known` with a rollout `[T, N]` added."""
    ended = transition.terminated | transition.truncated
    sums, so_far = returns.discounted_so_far(transition.reward, ended, gamma, known.so_far)
    largest = jnp.maximum(known.largest, jnp.abs(sums).max())
    return Returns(statistics.update(known.moments, sums), largest, so_far)


def reward_scale(known: Returns) -> Array:
    """Return the scalar by which rewards are divided: `max(deviation of G, max |G| / RETURN_BOUND)`.

    Lee et al. 2025, arXiv:2502.15280 (SimbaV2), with G the discounted return so far in its episode.
    """
    deviation = jnp.sqrt(known.moments.variance + 1e-8)
    return jnp.maximum(deviation, known.largest / RETURN_BOUND)
