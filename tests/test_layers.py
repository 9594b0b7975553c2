"""Layers with batch normalisation: passes, statistics and weights against NumPy in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl import networks
from purerl.layers import BatchNormMLP

KEY = jax.random.key(0)
OBS, ACTION = (np.random.default_rng(size).normal(1.0, 2.0, (9, size)).astype(np.float32) for size in (3, 2))


@functools.cache
def network(out=4, activation="tanh"):
    """Return a network with compiled functions."""
    made = networks.batch_normalized(BatchNormMLP((6, 5), out, activation))
    return made._replace(apply=jax.jit(made.apply), train=jax.jit(made.train), init=jax.jit(made.init))


@functools.cache
def params_of(out=4):
    """Return parameters that all differ: deviations, offsets and statistics as after some training."""
    fresh, draw = network(out).init(KEY, OBS[:1], ACTION[:1]), np.random.default_rng(1)
    change = lambda leaf: leaf * draw.uniform(0.5, 1.5, leaf.shape) + draw.uniform(0.1, 0.3, leaf.shape)
    return jax.tree.map(lambda leaf: jnp.float32(change(leaf)), fresh)


def plain(params, x, batch):
    """Return the output, and the mean and the variance before each normalisation."""
    layers, known, seen = params["params"], params["batch_stats"], []

    def norm(x, i):
        layer, stats = layers[f"BatchNorm_{i}"], known[f"BatchNorm_{i}"]
        seen.append((x.mean(0), x.var(0)))
        mean, variance = seen[-1] if batch else (stats["mean"], stats["var"])
        return (x - mean) / np.sqrt(variance + 1e-3) * layer["scale"] + layer.get("bias", 0.0)

    x = norm(x, 0)
    for i in range(2):
        x = np.tanh(norm(x @ layers[f"Dense_{i}"]["kernel"], i + 1))
    last = layers.get("Dense_2")
    return (x if last is None else x @ last["kernel"] + last["bias"]), seen


def double(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


ROWS = np.concatenate([OBS, ACTION], -1).astype(np.float64)


@pytest.mark.parametrize("out", [4, None])
def test_a_pass_uses_running_statistics_or_those_of_its_batch(out):
    """The first in evaluation, the second in training; without `out` it ends with the last hidden layer."""
    params, net = params_of(out), network(out)
    for batch, found in ((False, net.apply(params, OBS, ACTION)), (True, net.train(params, OBS, ACTION)[0])):
        expected, _ = plain(double(params), ROWS, batch)
        np.testing.assert_allclose(found, expected, 1e-4, 1e-5)
        assert found.shape == (9, out or 5)


def test_running_statistics_take_up_a_hundredth_of_each_batch():
    params = params_of()
    _, new = network().train(params, OBS, ACTION)
    assert set(new) == {"batch_stats"}
    for i, (mean, variance) in enumerate(plain(double(params), ROWS, True)[1]):
        old, layer = (tree["batch_stats"][f"BatchNorm_{i}"] for tree in (double(params), new))
        np.testing.assert_allclose(layer["mean"], 0.99 * old["mean"] + 0.01 * mean, 1e-5, 1e-6)
        np.testing.assert_allclose(layer["var"], 0.99 * old["var"] + 0.01 * variance, 1e-5, 1e-6)


def test_a_network_starts_with_lengths_of_1_and_no_biases():
    """Statistics of 0 and 1, one bias of the last layer, and no offset of the inputs."""
    params = network().init(KEY, OBS[:1], ACTION[:1])
    for layer in params["batch_stats"].values():
        assert (layer["mean"] == 0).all() and (layer["var"] == 1).all()
    layers = {name: sorted(layer) for name, layer in params["params"].items()}
    hidden = {f"Dense_{i}": ["kernel"] for i in range(2)} | {
        f"BatchNorm_{i}": ["bias", "scale"] for i in (1, 2)
    }
    assert layers == hidden | {"BatchNorm_0": ["scale"], "Dense_2": ["bias", "kernel"]}
    for i, size in enumerate([(5, 6), (6, 5), (5, 4)]):
        kernel = np.asarray(params["params"][f"Dense_{i}"]["kernel"])
        assert kernel.shape == size
        np.testing.assert_allclose(np.linalg.norm(kernel, axis=0), 1, 1e-6)


def test_an_optimiser_may_hold_the_statistics():
    """Their gradient is zero in training; that of everything else is none."""
    loss = lambda params: jnp.square(network().train(params, OBS, ACTION)[0]).sum()
    gradient = jax.jit(jax.grad(loss))(params_of())
    assert not any(leaf.any() for leaf in jax.tree.leaves(gradient["batch_stats"]))
    assert all((np.abs(leaf) > 1e-6).any() for leaf in jax.tree.leaves(gradient["params"]))


def test_a_step_is_settled_by_length_and_statistics():
    """Kernels by columns; all other leaves stay, and a kernel of zeros is no division by zero."""
    params = params_of()
    _, new = network().train(params, OBS, ACTION)
    settled = network().settle(params, new)
    assert settled["batch_stats"] is new["batch_stats"]
    for name, layer in params["params"].items():
        for leaf, value in layer.items():
            expected = double(value)
            if leaf == "kernel":
                expected = expected / np.sqrt((expected**2).sum(0))
            np.testing.assert_allclose(settled["params"][name][leaf], expected, 1e-6)
    zeros = networks.with_unit_weights((jax.tree_util.DictKey("kernel"),), jnp.zeros((3, 2)))
    assert (zeros == 0).all()


def test_inputs_far_from_zero_keep_their_deviation():
    """In float32, where the mean of squares minus the square of the mean has no digit left."""
    far = np.float32(1e4 + np.random.default_rng(0).normal(size=(200, 1)))
    statistics = network().train(network().init(KEY, far[:1]), far)[1]["batch_stats"]["BatchNorm_0"]
    assert statistics["var"] == pytest.approx(0.99 + 0.01 * far.astype(np.float64).var(), rel=1e-4)


def test_images_are_flattened_and_normalised():
    images = np.random.default_rng(0).integers(0, 255, (9, 2, 2, 3), np.uint8)
    params = network().init(KEY, images[:1])
    found = network().train(params, images)[0]
    assert found.dtype == jnp.float32
    expected, _ = plain(double(params), images.reshape(9, 12).astype(np.float64), True)
    np.testing.assert_allclose(found, expected, 1e-4, 1e-4)


def test_an_ensemble_trains_its_members_one_by_one():
    """Each with statistics and weights of its own."""
    member = network()
    twins = networks.ensemble(member, 2)
    params = twins.init(KEY, OBS[:1], ACTION[:1])
    out, new = twins.train(params, OBS, ACTION)
    settled = twins.settle(params, new)
    for i in range(2):
        expected, statistics = member.train(params[i], OBS, ACTION)
        np.testing.assert_allclose(out[i], expected, 1e-6)
        expected = member.settle(params[i], statistics)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, 1e-6), settled[i], expected)
    assert (params[0]["params"]["Dense_0"]["kernel"] != params[1]["params"]["Dense_0"]["kernel"]).all()


def test_a_network_without_statistics_has_none_in_training():
    init, apply = (lambda key, x: jnp.ones(3)), (lambda params, x: x @ params)
    plain_one = networks.ensemble(networks.Network(init, apply), 2)
    assert plain_one.train is None and plain_one.settle is None
    out, statistics = networks.in_training(plain_one, (jnp.ones(3), jnp.zeros(3)), OBS)
    np.testing.assert_allclose(out, [OBS.sum(-1), np.zeros(9)], 1e-6)
    assert statistics == ()


MUTANTS = {
    "a pass in training has running statistics": (
        "layers.py",
        'running = not self.is_mutable_collection("batch_stats")',
        "running = True",
        "test_a_pass_uses_running_statistics_or_those_of_its_batch",
    ),
    "normalised behind the nonlinearity": (
        "layers.py",
        "x = ACTIVATIONS[self.activation](norm(x))",
        "x = norm(ACTIVATIONS[self.activation](x))",
        "test_a_pass_uses_running_statistics_or_those_of_its_batch",
    ),
    "inputs are not normalised": (
        "layers.py",
        "x = norm(joined(",
        "x = (lambda x, offset: x)(joined(",
        "test_a_network_starts_with_lengths_of_1_and_no_biases",
    ),
    "inputs have an offset": (
        "layers.py",
        "self.encoder), offset=False)",
        "self.encoder))",
        "test_a_network_starts_with_lengths_of_1_and_no_biases",
    ),
    "running statistics are short of memory": (
        "layers.py",
        "MOMENTUM, EPSILON = 0.99, 1e-3",
        "MOMENTUM, EPSILON = 0.5, 1e-3",
        "test_running_statistics_take_up_a_hundredth_of_each_batch",
    ),
    "another epsilon": (
        "layers.py",
        "MOMENTUM, EPSILON = 0.99, 1e-3",
        "MOMENTUM, EPSILON = 0.99, 1e-5",
        "test_a_pass_uses_running_statistics_or_those_of_its_batch",
    ),
    "a fast variance": (
        "layers.py",
        '"use_fast_variance": False',
        '"use_fast_variance": True',
        "test_inputs_far_from_zero_keep_their_deviation",
    ),
    "all leaves have length 1": (
        "networks.py",
        '    if path[-1].key != "kernel":\n        return leaf\n',
        "",
        "test_a_step_is_settled_by_length_and_statistics",
    ),
    "a division by zero": (
        "networks.py",
        "jnp.maximum(jnp.sqrt(jnp.square(leaf).sum(0, keepdims=True)), 1e-8)",
        "jnp.sqrt(jnp.square(leaf).sum(0, keepdims=True))",
        "test_a_step_is_settled_by_length_and_statistics",
    ),
    "statistics of the first member": (
        "networks.py",
        "return jnp.stack(outputs), statistics",
        "return jnp.stack(outputs), statistics[:1] * 2",
        "test_an_ensemble_trains_its_members_one_by_one",
    ),
    "statistics where there are none": (
        "networks.py",
        "(network.apply(params, *inputs), ()) if network.train is None",
        "(network.apply(params, *inputs), params) if network.train is None",
        "test_a_network_without_statistics_has_none_in_training",
    ),
}
