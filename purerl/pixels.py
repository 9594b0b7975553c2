"""Convolutions for observations that are images."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from purerl.spaces import boxes
from purerl.types import Array


class Layer(NamedTuple):
    """Sizes of a convolution without padding."""

    features: int
    size: int
    """Rows and columns of a kernel."""
    stride: int


NATURE = (Layer(32, 8, 4), Layer(64, 4, 2), Layer(64, 3, 1))
"""Mnih et al. 2015, doi:10.1038/nature14236; it needs at least 36 rows and columns."""
MINATAR = (Layer(16, 3, 1),)
"""Young & Tian 2019, arXiv:1903.03176; it needs at least 3 rows and columns."""


class PixelEncoder(nn.Module):
    """Convolutions, each with a ReLU, over images: `obs [B, *O] -> [B, F]`."""

    layers: tuple[Layer, ...]
    scale: float
    """Factor of the pixels."""
    channels_first: bool
    kernel_init: nn.initializers.Initializer
    layer_norm: bool = False
    """Normalise the channels of each pixel before their ReLU."""

    @nn.compact
    def __call__(self, obs: Array) -> Array:
        """Apply the layers and flatten the result."""
        x = obs.astype(jnp.float32) * self.scale
        x = jnp.moveaxis(x, 1, -1) if self.channels_first else x
        for layer in self.layers:
            x = nn.Dense(layer.features, kernel_init=self.kernel_init)(patches(x, layer))
            x = nn.relu(nn.LayerNorm()(x) if self.layer_norm else x)
        return x.reshape(x.shape[0], -1)


def patches(x: Array, layer: Layer) -> Array:
    """Return what the kernel at each place covers: `[B, H, W, C] -> [B, H', W', size * size * C]`.

    A dense layer over patches is a convolution, and one matrix product: members under `vmap`, each with a
    kernel of its own, then remain a batch of products.
    """
    size, stride = layer.size, layer.stride
    rows, columns = (stride * ((length - size) // stride) + 1 for length in x.shape[1:3])
    corners = itertools.product(range(size), repeat=2)
    covered = [x[:, i : i + rows : stride, j : j + columns : stride] for i, j in corners]
    return jnp.concatenate(covered, axis=-1)


class PartsEncoder(nn.Module):
    """Parts of an observation side by side, images behind convolutions: `{name: [B, ...]} -> [B, F]`."""

    images: Mapping[str, PixelEncoder]

    def __call__(self, obs: Mapping[str, Array]) -> Array:
        """Encode each part, in the order of their names."""
        parts = {name: self.images[name](part) if name in self.images else part for name, part in obs.items()}
        flat = [part.reshape(part.shape[0], -1) for part in (parts[name] for name in sorted(parts))]
        return jnp.concatenate([part.astype(jnp.float32) for part in flat], axis=-1)


def encoder_of(
    space: spaces.Space, kernel_init: nn.initializers.Initializer, layer_norm: bool = False
) -> PixelEncoder | PartsEncoder | None:
    """Return the network in front of the layers: `pixel_encoder`, or one for the parts of a Dict."""
    if not isinstance(space, spaces.Dict):
        assert isinstance(space, spaces.Box)
        return pixel_encoder(space, kernel_init, layer_norm)
    found = {name: pixel_encoder(box, kernel_init, layer_norm) for name, box in boxes(space).items()}
    return PartsEncoder({name: encoder for name, encoder in found.items() if encoder})


def pixel_encoder(
    space: spaces.Box, kernel_init: nn.initializers.Initializer, layer_norm: bool = False
) -> PixelEncoder | None:
    """Return the convolutions for observations of `space`; None if these are no images.

    An image has three axes, of which the channels are the last one, or the first one where that is shorter
    than both others. From 36 pixels on it has NATURE's layers, below that MINATAR's, and below 3 none. Pixels
    of uint8 are divided by the greatest value in their bounds.
    """
    if len(space.shape) != 3:
        return None
    channels_first = space.shape[0] < min(space.shape[1:])
    shortest = min(space.shape[1:] if channels_first else space.shape[:2])
    layers = NATURE if shortest >= 36 else MINATAR if shortest >= 3 else ()
    scale = 1.0 / max(float(space.high.max()), 1.0) if are_pixels(space.shape, space.dtype) else 1.0
    return PixelEncoder(layers, scale, channels_first, kernel_init, layer_norm)


def are_pixels(shape: tuple[int, ...], dtype: Any) -> bool:
    """Return True if observations are images of uint8, which a `PixelEncoder` scales."""
    return len(shape) == 3 and dtype == np.uint8
