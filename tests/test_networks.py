"""Choice of networks: torsos by observation space, heads on observations or on features."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

from purerl import networks
from purerl.config import ConfigError
from purerl.types import EnvSpec

CFG = SimpleNamespace(
    hidden_sizes=(5, 4),
    activation="tanh",
    layer_norm=False,
    pi_init_scale=0.01,
    state_dependent_std=False,
    init_log_std=-0.5,
)
KEY = jax.random.key(0)


def spec_with(space, action_space=None):
    return EnvSpec("an environment", space, action_space or spaces.Box(-1, 1, (2,)))


def shapes(params):
    return sorted(leaf.shape for leaf in jax.tree.leaves(params) if leaf.ndim == 2)


def test_a_torso_flattens_what_is_no_image():
    torso = networks.torso(CFG, spec_with(spaces.Box(0, 255, (9, 2))))
    tables = jnp.arange(36.0).reshape(2, 9, 2)
    params = torso.init(KEY, tables)
    assert shapes(params) == [(5, 4), (18, 5)]
    flat = networks.torso(CFG, spec_with(spaces.Box(0, 255, (18,)))).apply(params, tables.reshape(2, 18))
    assert (torso.apply(params, tables) == flat).all() and flat.shape == (2, 4)


def test_images_go_through_convolutions_and_then_the_layers():
    """Also those of a critic, which has an action beside them."""
    spec = spec_with(spaces.Box(0, 255, (6, 5, 2), np.uint8))
    images, action = jnp.full((3, 6, 5, 2), 255, jnp.uint8), jnp.ones((3, 2))
    for norm in ("none", "batch"):
        torso = networks.torso(CFG, spec, 1, norm=norm)
        params = torso.init(KEY, images, action)
        assert shapes(params["params"]) == sorted([(18, 16), (4 * 3 * 16 + 2, 5), (5, 4), (4, 1)])
        assert torso.apply(params, images, action).shape == (3, 1)


def test_first_weights_are_uniform_as_published_results_have_them():
    """Within 1 / sqrt(inputs) in every layer, convolutions too, and biases 0."""
    images = spaces.Box(0, 255, (6, 5, 2), np.uint8)
    for space in (images, spaces.Box(-1, 1, (300,))):
        torso = networks.torso(CFG, spec_with(space), 200)
        params = torso.init(KEY, jnp.zeros((1, *space.shape), space.dtype))
        for leaf in jax.tree.leaves(params):
            bound = 1 / np.sqrt(leaf.shape[0])
            if leaf.ndim == 1:
                assert (leaf == 0).all()
            elif leaf.size > 200:
                assert 0.95 * bound < abs(leaf).max() <= bound
                assert leaf.std() == pytest.approx(bound / np.sqrt(3), rel=0.1)


def test_a_torso_refuses_a_space_without_numbers():
    with pytest.raises(ConfigError, match=r"env = 'an environment': expected .* Box .*, got Text"):
        networks.torso(CFG, spec_with(spaces.Text(3)))


@pytest.mark.parametrize(("on_features", "expected"), [(True, [(4, 2)]), (False, [(4, 5), (5, 4), (4, 2)])])
def test_heads_are_linear_on_features_only(on_features, expected):
    spec = spec_with(spaces.Box(-1, 1, (4,)))
    heads = networks.heads(CFG, spec, on_features=on_features)
    params = heads["pi"].init(KEY, jnp.zeros((1, 4)))
    assert shapes(params) == sorted(expected)
    mean, log_std = heads["pi"].apply(params, jnp.zeros((3, 4)))
    assert mean.shape == log_std.shape == (3, 2) and (log_std == -0.5).all()
    value = heads["v"].apply(heads["v"].init(KEY, jnp.zeros((1, 4))), jnp.zeros((3, 4)))
    assert value.shape == (3,)


def test_an_unknown_network_is_refused():
    heads = networks.heads(CFG, spec_with(spaces.Box(-1, 1, (4,))))
    with pytest.raises(ConfigError, match="expected a network of this algorithm: one of pi, v"):
        networks.choose(heads, {"po": heads["pi"]})


MUTANTS = {
    "flax's own first weights": (
        "layers.py",
        'variance_scaling(1 / 3, "fan_in", "uniform")',
        'variance_scaling(1, "fan_in", "truncated_normal")',
        "test_first_weights_are_uniform_as_published_results_have_them",
    ),
    "three times the variance": (
        "layers.py",
        "variance_scaling(1 / 3,",
        "variance_scaling(1,",
        "test_first_weights_are_uniform_as_published_results_have_them",
    ),
    "any space has a torso": (
        "networks.py",
        "if not isinstance(space, spaces.Box | spaces.Dict):",
        "if False:",
        "test_a_torso_refuses_a_space_without_numbers",
    ),
    "a head on features has hidden layers": (
        "networks.py",
        "MLP((), out, cfg.activation,",
        "MLP(cfg.hidden_sizes, out, cfg.activation,",
        "test_heads_are_linear_on_features_only",
    ),
    "a torso ends in a linear layer": (
        "layers.py",
        "return x if self.out is None else dense(self.out, self.out_init)(x)",
        "return dense(self.out or 1, self.out_init)(x)",
        "test_a_torso_flattens_what_is_no_image",
    ),
}
