"""Networks of the value-based methods: action values, or what describes their distributions."""

from __future__ import annotations

from typing import Any, Protocol

import flax.linen as nn
import jax.numpy as jnp

from purerl.layers import MLP
from purerl.networks import torso
from purerl.types import Array, EnvSpec, Key, Network, PyTree

COSINES = 64
"""Cosines that embed a fraction."""


class QConfig(Protocol):
    """Fields of a configuration that `q_network` reads."""

    @property
    def hidden_sizes(self) -> tuple[int, ...]: ...
    @property
    def activation(self) -> str: ...
    @property
    def layer_norm(self) -> bool: ...


class QNetwork(nn.Module):
    """Outputs for every action: `obs [B, *O] -> [B, K, size]`, or `[B, K]` of size 1.

    With `fractions [B, N]` and size 1 they are `[B, K, N]`: these quantiles of the return. Features
    are multiplied by an embedding of the fraction, `relu(W cos(pi i fraction) + b)` (Dabney et al. 2018,
    arXiv:1806.06923, eq. 4).

    With `dueling` there are two streams, `Q(s, a) = V(s) + A(s, a) - mean_a' A(s, a')` (Wang et al. 2016,
    arXiv:1511.06581, eq. 9).
    """

    torso: MLP
    """Without a last layer."""
    stream: MLP
    """Layers of one output; the streams are copies with other numbers of outputs."""
    actions: int
    size: int
    dueling: bool

    @nn.compact
    def __call__(self, obs: Array, fractions: Array | None = None) -> Array:
        """Return the outputs."""
        x = self.torso(obs).astype(jnp.float32)
        if fractions is not None:
            waves = jnp.cos(
                jnp.pi * fractions[..., None] * jnp.arange(COSINES, dtype=jnp.float32)[None, None]
            )
            x = (x[:, None] * nn.relu(nn.Dense(x.shape[1])(waves))).reshape(-1, x.shape[1])
        out = self.stream.clone(out=self.actions * self.size, parent=self, name="advantage")(x)
        out = out.reshape(-1, self.actions, self.size)
        if self.dueling:
            value = self.stream.clone(out=self.size, parent=self, name="value")(x)
            out = value[:, None] + out - out.mean(1, keepdims=True)
        if fractions is None:
            return out[..., 0] if self.size == 1 else out
        return jnp.moveaxis(out.reshape(*fractions.shape, self.actions), 1, 2)


def q_network(
    cfg: QConfig, spec: EnvSpec, size: int = 1, *, dueling: bool = False, noisy: bool = False
) -> Network:
    """Return `q: obs [B, *O] -> [B, K, size]`; its `apply` takes a key by the keyword `noise`.

    The last hidden layer is that of a stream, the others are common to both.
    """
    stream = MLP(cfg.hidden_sizes[-1:], 1, cfg.activation, layer_norm=cfg.layer_norm, noisy=noisy)
    encoder = torso(cfg, spec, norm="layer" if cfg.layer_norm else "none").encoder
    common = stream.clone(hidden_sizes=cfg.hidden_sizes[:-1], out=None, encoder=encoder)
    module = QNetwork(common, stream, int(spec.action_space.n), size, dueling)

    def apply(params: PyTree, *inputs: Array, noise: Key | None = None) -> Any:
        return module.apply(params, *inputs, rngs=None if noise is None else {"noise": noise})

    return Network(module.init, apply)
