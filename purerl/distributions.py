"""Distributions over actions; the only file that imports distrax.

The import takes seconds and happens when the first distribution is made, not with a configuration.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from purerl.ops.arrays import lenient, without_float64
from purerl.types import Array, Key, PyTree

if TYPE_CHECKING:
    import distrax


class Distribution(Protocol):
    """Distribution over actions `[..., A]`; log-probabilities, entropies and divergences are `[...]`."""

    def sample_and_log_prob(self, *, seed: Key) -> tuple[Array, Array]: ...
    def log_prob(self, value: Array) -> Array: ...
    def entropy(self) -> Array: ...
    def mode(self) -> Array: ...
    def kl_divergence(self, other_dist: Distribution) -> Array: ...


class Lenient:
    """Distribution of distrax, whose own arithmetic promotes ranks and dtypes whatever JAX is set to."""

    def __init__(self, inner: Any):
        self._inner = inner

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            inner = [arg._inner if isinstance(arg, Lenient) else arg for arg in args]
            return without_float64(lenient(getattr(self._inner, name))(*inner, **kwargs))

        return call


def categorical(logits: Array) -> Distribution:
    """Return the distribution over the indices `0..K-1` with `logits [..., K]`."""
    import distrax

    return cast(Distribution, Lenient(distrax.Categorical(logits=logits, dtype=jnp.int32)))


class Choices:
    """Several choices at once, each from a distribution `[...]` of its own: actions are `[..., A]`."""

    def __init__(self, parts: Sequence[Distribution]):
        self._parts = parts

    def sample_and_log_prob(self, *, seed: Key) -> tuple[Array, Array]:
        """Return a sample and its log-probability."""
        keys = jax.random.split(seed, len(self._parts))
        drawn = [part.sample_and_log_prob(seed=key) for part, key in zip(self._parts, keys, strict=True)]
        actions, log_probs = zip(*drawn, strict=True)
        return _side_by_side(actions), _total(log_probs)

    def log_prob(self, value: Array) -> Array:
        """Return the sum of the choices' log-probabilities."""
        return _total(part.log_prob(value[..., i]) for i, part in enumerate(self._parts))

    def entropy(self) -> Array:
        """Return the sum of the choices' entropies."""
        return _total(part.entropy() for part in self._parts)

    def mode(self) -> Array:
        """Return the likeliest of each choice."""
        return _side_by_side([part.mode() for part in self._parts])

    def kl_divergence(self, other_dist: Distribution) -> Array:
        """Return the sum of the choices' divergences."""
        assert isinstance(other_dist, Choices)
        pairs = zip(self._parts, other_dist._parts, strict=True)
        return _total(part.kl_divergence(other) for part, other in pairs)


def _side_by_side(actions: Sequence[Array]) -> Array:
    return jnp.concatenate([action[..., None] for action in actions], -1)


def _total(values: Iterable[Array]) -> Array:
    return functools.reduce(jnp.add, values)


def categoricals(logits: Array, sizes: Sequence[int]) -> Distribution:
    """Return independent choices `[..., A]`, the i-th one of `sizes[i]`, with `logits [..., sum(sizes)]`."""
    parts = jnp.split(logits, np.cumsum(sizes)[:-1].tolist(), axis=-1)
    return Choices([categorical(part) for part in parts])


def switches(logits: Array) -> Distribution:
    """Return independent switches `[..., A]` int32, each 1 with the log-odds `logits [..., A]`."""
    import distrax

    bernoulli = distrax.Bernoulli(logits=logits, dtype=jnp.int32)
    return cast(Distribution, Lenient(distrax.Independent(bernoulli, 1)))


def diagonal_normal(mean: Array, log_std: Array) -> distrax.MultivariateNormalDiag:
    """Return independent normals over the last axis; `mean`, `log_std` `[..., A]`."""
    import distrax

    return distrax.MultivariateNormalDiag(mean, jnp.exp(log_std))


def of_outputs(action_space: spaces.Space, outputs: PyTree) -> Distribution:
    """Return the distribution with parameters `outputs`, those of a policy network for `action_space`.

    `outputs` are logits `[..., K]` for a Discrete space, those of all choices side by side for a
    MultiDiscrete, log-odds `[..., A]` for a MultiBinary, and `(mean [..., A], log_std [..., A])` for a Box.
    """
    if isinstance(action_space, spaces.MultiDiscrete):
        return categoricals(outputs, action_space.nvec.tolist())
    if isinstance(action_space, spaces.MultiBinary):
        return switches(outputs)
    if isinstance(action_space, spaces.Discrete):
        return categorical(outputs)
    return cast(Distribution, Lenient(diagonal_normal(*outputs)))


def squashed_sample_and_log_prob(mean: Array, log_std: Array, key: Key) -> tuple[Array, Array]:
    """Return a sample `tanh(u)`, `u ~ N(mean, exp(log_std))`, and its log-density.

    Haarnoja et al. 2018, arXiv:1812.05905, appendix C, eq. 26. Both are returned at once because the
    density of a stored action cannot be recovered: float32 `tanh` reaches 1 at u = 9.

    Args:
        mean: `[..., A]`.
        log_std: `[..., A]`.
        key: consumed.

    Returns:
        `(action [..., A] in [-1, 1], log_prob [...])`.
    """
    import distrax

    squash = distrax.Block(distrax.Tanh(), 1)
    squashed = distrax.Transformed(diagonal_normal(mean, log_std), squash)
    return Lenient(squashed).sample_and_log_prob(seed=key)
