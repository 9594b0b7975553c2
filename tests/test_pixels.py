"""Convolutions by patches against XLA's, the choice of layers by the space, and pixels between 0 and 1."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from tiny import tiny

from purerl import normalize
from purerl.algos import ppo
from purerl.layers import UNIFORM
from purerl.pixels import MINATAR, NATURE, Layer, patches, pixel_encoder
from purerl.types import EnvSpec, Transition


def image(*shape, high=255, dtype=np.uint8):
    return spaces.Box(0, high, shape, dtype)


@pytest.mark.parametrize("layer", [*NATURE, *MINATAR, Layer(5, 2, 3)])
def test_a_dense_layer_over_patches_is_a_convolution(layer):
    noise = np.random.default_rng(0)
    x = noise.normal(size=(2, 21, 18, 3)).astype(np.float32)
    kernel = noise.normal(size=(layer.size, layer.size, 3, layer.features)).astype(np.float32)
    numbers = ("NHWC", "HWIO", "NHWC")
    stride = (layer.stride, layer.stride)
    expected = jax.lax.conv_general_dilated(x, kernel, stride, "VALID", dimension_numbers=numbers)
    found = patches(x, layer) @ kernel.reshape(-1, layer.features)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("space", "layers", "features", "channels_first"),
    [
        (image(84, 84, 4), NATURE, 7 * 7 * 64, False),
        (image(4, 84, 84), NATURE, 7 * 7 * 64, True),
        (image(84, 84, 1), NATURE, 7 * 7 * 64, False),
        (image(36, 40, 3), NATURE, 1 * 1 * 64, False),
        (image(35, 40, 3), MINATAR, 33 * 38 * 16, False),
        (image(10, 10, 4, high=1), MINATAR, 8 * 8 * 16, False),
        (image(10, 10, 10, high=1), MINATAR, 8 * 8 * 16, False),
        (image(3, 3, 5), MINATAR, 16, False),
        (image(2, 2, 3), (), 12, False),
    ],
)
def test_layers_follow_the_space(space, layers, features, channels_first):
    encoder = pixel_encoder(space, UNIFORM)
    assert (encoder.layers, encoder.channels_first) == (layers, channels_first)
    obs = jnp.zeros((2, *space.shape), jnp.uint8)
    found = jax.eval_shape(lambda: encoder.init_with_output(jax.random.key(0), obs)[0])
    assert found.shape == (2, features) and found.dtype == jnp.float32


@pytest.mark.parametrize("shape", [(), (5,), (84, 84), (4, 84, 84, 3)])
def test_only_three_axes_are_an_image(shape):
    assert pixel_encoder(image(*shape), UNIFORM) is None


def test_channels_first_are_moved():
    noise = np.random.default_rng(0).integers(0, 255, (2, 10, 11, 3)).astype(np.uint8)
    last, first = pixel_encoder(image(10, 11, 3), UNIFORM), pixel_encoder(image(3, 10, 11), UNIFORM)
    params = last.init(jax.random.key(0), noise)
    np.testing.assert_array_equal(last.apply(params, noise), first.apply(params, noise.transpose(0, 3, 1, 2)))


@pytest.mark.parametrize(
    ("high", "dtype", "seen"), [(255, np.uint8, 1), (1, np.uint8, 1), (3, np.float32, 3)]
)
def test_pixels_of_uint8_are_between_0_and_1(high, dtype, seen):
    """Without layers the features are the pixels."""
    encoder = pixel_encoder(image(2, 2, 2, high=high, dtype=dtype), UNIFORM)
    found = encoder.apply({}, np.full((1, 2, 2, 2), high, dtype))
    np.testing.assert_allclose(found, seen, rtol=1e-6)


def test_images_of_uint8_are_not_standardised():
    """A network scales them; numbers of uint8 without places, such as a memory, are standardised."""
    for shape, scaled in (((10, 10, 3), False), ((7,), True)):
        space = image(*shape)
        cfg, spec = tiny("ppo", "cartpole", normalize_obs=True), EnvSpec("x", space, spaces.Discrete(2))
        obs = np.random.default_rng(0).integers(0, 255, (4, 2, *shape)).astype(np.uint8)
        reward, flags = np.zeros((4, 2), np.float32), np.zeros((4, 2), bool)
        rows = Transition(obs, np.zeros((4, 2), np.int32), reward, obs, flags, flags)
        normalizer = normalize.observe(cfg, normalize.init(cfg, spec), rows)
        found = normalize.normalize_obs(cfg, normalizer, jnp.asarray(obs[0]))
        assert (found.dtype == jnp.float32) == scaled
        assert bool(normalizer.obs.mean.any()) == scaled
        if not scaled:
            np.testing.assert_array_equal(found, obs[0])


def test_every_on_policy_policy_sees_scaled_pixels():
    """White images give no larger outputs than images of ones give in units of [0, 1]."""
    spec = EnvSpec("x", image(10, 10, 3), spaces.Discrete(2))
    algo = ppo.make(tiny("ppo", "cartpole", normalize_obs=True, pi_init_scale=1.0), spec)
    state = algo.init(jax.random.key(0))
    params = state.learner.params["pi"]
    white = jnp.full((2, 10, 10, 3), 255, jnp.uint8)
    net = ppo.default_networks(tiny("ppo", "cartpole", pi_init_scale=1.0), spec)["pi"]
    ones = ppo.default_networks(
        tiny("ppo", "cartpole", pi_init_scale=1.0), spec._replace(observation_space=image(10, 10, 3, high=1))
    )["pi"]
    np.testing.assert_allclose(net.apply(params, white), ones.apply(params, white // 255), rtol=1e-5)


MUTANTS = {
    "pixels as they are": (
        "pixels.py",
        "obs.astype(jnp.float32) * self.scale",
        "obs.astype(jnp.float32)",
        "test_pixels_of_uint8_are_between_0_and_1",
    ),
    "channels stay first": (
        "pixels.py",
        "jnp.moveaxis(x, 1, -1) if self.channels_first",
        "x if self.channels_first",
        "test_channels_first_are_moved",
    ),
    "a stride of one": (
        "pixels.py",
        "j : j + columns : stride]",
        "j : j + columns]",
        "test_a_dense_layer_over_patches_is_a_convolution",
    ),
    "kernels are turned": (
        "pixels.py",
        "x[:, i : i + rows : stride, j : j + columns : stride] for i, j",
        "x[:, i : i + rows : stride, j : j + columns : stride] for j, i",
        "test_a_dense_layer_over_patches_is_a_convolution",
    ),
    "images are standardised": (
        "normalize.py",
        "return obs if pixels else statistics",
        "return statistics",
        "test_images_of_uint8_are_not_standardised",
    ),
}
