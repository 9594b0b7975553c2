"""Fully connected layers, plain or normalised."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.initializers import lecun_normal

from purerl.types import Array

ACTIVATIONS = {"relu": nn.relu, "tanh": nn.tanh, "silu": nn.silu, "gelu": nn.gelu}
Initializer = Callable[..., Array]
LECUN: Initializer = lecun_normal()
"""Initialisation of flax's own layers."""
MOMENTUM, EPSILON = 0.99, 1e-3
"""Weight of the running statistics at each pass in training, and what is added to variances."""


class MLP(nn.Module):
    """Fully connected layers over the concatenated inputs: `[B, ...], ... -> [B, out]`.

    If `out` is None there is no last layer, and the output is that of the last hidden layer, `[B, H]`.
    """

    hidden_sizes: tuple[int, ...]
    out: int | None
    activation: str
    hidden_init: Initializer = LECUN
    out_init: Initializer = LECUN
    layer_norm: bool = False
    """Normalise each hidden layer before its nonlinearity (Ba et al. 2016, arXiv:1607.06450)."""

    @nn.compact
    def __call__(self, *inputs: Array) -> Array:
        """Apply the layers."""
        x = jnp.concatenate([part.reshape(part.shape[0], -1) for part in inputs], axis=-1)
        for size in self.hidden_sizes:
            x = nn.Dense(size, kernel_init=self.hidden_init)(x)
            x = ACTIVATIONS[self.activation](nn.LayerNorm()(x) if self.layer_norm else x)
        return x if self.out is None else nn.Dense(self.out, kernel_init=self.out_init)(x)


class BatchNormMLP(nn.Module):
    """Fully connected layers without biases, each normalised over the batch: `[B, ...], ... -> [B, out]`.

    Palenicek et al. 2025, arXiv:2509.25174 (XQC), after Bhatt et al. 2024, arXiv:1902.05605 (CrossQ). The
    inputs are normalised too; the last layer is not, and has a bias. Applied with `batch_stats` mutable it
    uses the statistics of the batch, and else the running ones.
    """

    hidden_sizes: tuple[int, ...]
    out: int | None
    activation: str
    kernel_init: Initializer = LECUN

    @nn.compact
    def __call__(self, *inputs: Array) -> Array:
        """Apply the layers."""
        running = not self.is_mutable_collection("batch_stats")

        def norm(x: Array, offset: bool = True) -> Array:
            options: Any = {"momentum": MOMENTUM, "epsilon": EPSILON, "use_fast_variance": False}
            return nn.BatchNorm(running, use_bias=offset, **options)(x)

        # The next normalisation would take an offset of the inputs away: its gradient were rounding alone.
        x = norm(jnp.concatenate([part.reshape(part.shape[0], -1) for part in inputs], axis=-1), offset=False)
        for size in self.hidden_sizes:
            x = nn.Dense(size, use_bias=False, kernel_init=self.kernel_init)(x)
            x = ACTIVATIONS[self.activation](norm(x))
        return x if self.out is None else nn.Dense(self.out, kernel_init=self.kernel_init)(x)
