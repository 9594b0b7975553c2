"""Networks of action values against NumPy in float64: streams, fractions, noise, and images."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

from purerl.algos.q_networks import QNetwork, q_network
from purerl.layers import FEW_ROWS, MLP, NoisyDense
from purerl.types import EnvSpec

SPEC = EnvSpec("invented", spaces.Box(-1, 1, (3,), np.float32), spaces.Discrete(4))
OBS = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
SIZE = 5


def network(size=SIZE, spec=SPEC, **fields):
    cfg = {"hidden_sizes": (8, 7), "activation": "tanh", "layer_norm": False}
    switches = {name: fields.pop(name) for name in ("dueling", "noisy") if name in fields}
    return q_network(SimpleNamespace(**(cfg | fields)), spec, size, **switches)


def dense(layer, x):
    return x @ np.asarray(layer["kernel"], np.float64) + np.asarray(layer["bias"], np.float64)


def stream(layers, x):
    return dense(layers["Dense_1"], np.tanh(dense(layers["Dense_0"], x)))


def features(params, obs=OBS):
    return np.tanh(dense(params["torso"]["Dense_0"], np.float64(obs)))


def test_actions_have_outputs_of_their_own():
    q = network()
    params = q.init(jax.random.key(0), OBS[:1])["params"]
    expected = stream(params["advantage"], features(params)).reshape(6, 4, SIZE)
    np.testing.assert_allclose(q.apply({"params": params}, OBS), expected, rtol=1e-5, atol=1e-6)


def test_streams_of_a_dueling_network():
    """The mean of the advantages is taken away, row by row, and from each output by itself."""
    q = network(dueling=True)
    params = q.init(jax.random.key(0), OBS[:1])["params"]
    value, advantage = (stream(params[name], features(params)) for name in ("value", "advantage"))
    advantage = advantage.reshape(6, 4, SIZE)
    expected = value[:, None] + advantage - advantage.mean(1, keepdims=True)
    found = np.asarray(q.apply({"params": params}, OBS))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.mean(1), value, rtol=1e-5, atol=1e-6)
    alone = np.concatenate([q.apply({"params": params}, OBS[i : i + 1]) for i in range(6)])
    np.testing.assert_allclose(found, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dueling", [False, True])
def test_fractions_are_embedded_by_cosines(dueling):
    q = network(1, dueling=dueling)
    at = np.random.default_rng(1).uniform(size=(6, 3)).astype(np.float32)
    params = q.init(jax.random.key(0), OBS[:1], at[:1])["params"]
    waves = np.cos(np.pi * np.arange(64) * np.float64(at)[..., None])
    x = features(params)[:, None] * np.maximum(dense(params["Dense_0"], waves), 0)
    out = stream(params["advantage"], x)  # [B, N, K]
    if dueling:
        out = stream(params["value"], x) + out - out.mean(-1, keepdims=True)
    found = q.apply({"params": params}, OBS, at)
    assert found.shape == (6, 4, 3)
    np.testing.assert_allclose(found, out.transpose(0, 2, 1), rtol=1e-4, atol=1e-5)


def test_noise_of_a_layer():
    """`f(e') f(e)^T` on weights and `f(e)` on biases, the same for all rows; the mean of f(e)^2 is 0.798."""
    layer = NoisyDense(3)
    variables = layer.init(jax.random.key(0), OBS)
    params = variables["params"]
    for name, noise in (("kernel", "weight_noise"), ("bias", "bias_noise")):
        assert np.abs(params[name]).max() <= 3**-0.5
        np.testing.assert_allclose(params[noise], 0.5 / 3**0.5, rtol=1e-6)
    np.testing.assert_allclose(layer.apply(variables, OBS), dense(params, np.float64(OBS)), 1e-5, 1e-6)
    noises = []
    for seed in range(300):
        apply = lambda x, seed=seed: layer.apply(variables, x, rngs={"noise": jax.random.key(seed)})
        bias = np.asarray(apply(np.zeros((1, 3), np.float32)))[0]
        rows = np.asarray(apply(np.eye(3, dtype=np.float32))) - bias
        kernel, offset = (rows - params["kernel"]) / (0.5 / 3**0.5), (bias - params["bias"]) / (0.5 / 3**0.5)
        inputs = (kernel / offset)[:, :1]
        np.testing.assert_allclose(kernel, inputs * offset, rtol=1e-3, atol=1e-3)
        noises.append([*inputs[:, 0], *offset])
    noises = np.array(noises)
    assert np.square(noises).mean() == pytest.approx(np.sqrt(2 / np.pi), rel=0.1)
    assert np.abs(np.corrcoef(noises.T) - np.eye(6)).max() < 0.25
    assert np.abs(noises.mean(0)).max() < 0.2


def test_few_rows_have_the_noise_of_many():
    """Of few rows the weights are not formed; values and gradients are the same."""
    layer, x = NoisyDense(4), np.random.default_rng(2).normal(size=(40, 5)).astype(np.float32)
    assert len(x) > FEW_ROWS * 2
    variables, noise = layer.init(jax.random.key(0), x), {"noise": jax.random.key(1)}

    def outputs(variables, rows):
        return jnp.concatenate([layer.apply(variables, part, rngs=noise) for part in np.split(x, rows)])

    loss = lambda variables, rows: jnp.square(outputs(variables, rows)).sum()
    np.testing.assert_allclose(outputs(variables, 20), outputs(variables, 1), 1e-5, 1e-6)
    few, many = (jax.grad(loss)(variables, rows) for rows in (20, 1))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-4, 1e-5), few, many)


def test_every_layer_has_noise_of_its_own():
    net = MLP((3,), 3, "tanh", noisy=True)
    params = net.init(jax.random.key(0), OBS)["params"]
    first = jax.tree.map(jnp.zeros_like, params)
    first["NoisyDense_0"] |= {"bias_noise": jnp.ones(3)}
    second = jax.tree.map(jnp.zeros_like, params)
    second["NoisyDense_1"] |= {"bias_noise": jnp.ones(3), "kernel": jnp.zeros((3, 3))}
    eye = jax.tree.map(jnp.zeros_like, params)["NoisyDense_1"] | {"kernel": jnp.eye(3)}
    noise = {"noise": jax.random.key(3)}
    a = np.arctanh(net.apply({"params": first | {"NoisyDense_1": eye}}, OBS, rngs=noise)[0])
    b = np.asarray(net.apply({"params": second}, OBS, rngs=noise)[0])
    assert (np.abs(a - b) > 1e-3).any() and (a != 0).any() and (b != 0).any()


def test_a_noisy_network_has_noise_on_every_dense_layer_and_only_with_a_key():
    q = network(noisy=True, dueling=True)
    params = q.init(jax.random.key(0), OBS[:1])
    names = {path[-2].key for path, _ in jax.tree_util.tree_leaves_with_path(params)}
    assert names == {"NoisyDense_0", "NoisyDense_1"}
    quiet, again = q.apply(params, OBS), q.apply(params, OBS)
    one, same, other = (q.apply(params, OBS, noise=jax.random.key(i)) for i in (1, 1, 2))
    np.testing.assert_array_equal(quiet, again)
    np.testing.assert_array_equal(one, same)
    assert (np.asarray(one) != np.asarray(quiet)).all() and (np.asarray(one) != np.asarray(other)).all()


def test_layers_are_shared_up_to_the_last_hidden_one():
    for hidden, shared in (((), ()), ((7,), ()), ((9, 8, 7), (9, 8))):
        q = network(hidden_sizes=hidden, dueling=True)
        params = q.init(jax.random.key(0), OBS[:1])["params"]
        widths = [layer["bias"].shape[0] for layer in params.get("torso", {}).values()]
        assert tuple(widths) == shared
        for name, out in (("value", SIZE), ("advantage", 4 * SIZE)):
            widths = [layer["bias"].shape[0] for layer in params[name].values()]
            assert widths == [*hidden[-1:], out]


def test_images_of_uint8_need_no_layers_before_the_streams():
    spec = SPEC._replace(observation_space=spaces.Box(0, 255, (10, 10, 2), np.uint8))
    q = network(spec=spec, hidden_sizes=(7,))
    obs = np.random.default_rng(0).integers(0, 255, (6, 10, 10, 2)).astype(np.uint8)
    params = q.init(jax.random.key(0), obs[:1])
    assert params["params"]["advantage"]["Dense_0"]["kernel"].shape == (8 * 8 * 16, 7)
    assert q.apply(params, obs).shape == (6, 4, SIZE) and np.abs(q.apply(params, obs)).max() < 10


def test_a_module_of_own_layers():
    """Made by hand: the torso is any MLP without a last layer."""
    torso, mlp = MLP((4,), None, "relu"), MLP((), 1, "relu")
    module = QNetwork(torso=torso, stream=mlp, actions=2, size=1, dueling=False)
    params = module.init(jax.random.key(0), OBS)
    assert module.apply(params, OBS).shape == (6, 2)


MUTANTS = {
    "no mean of advantages": (
        "algos/q_networks.py",
        " + out - out.mean(1, keepdims=True)",
        " + out",
        "test_streams_of_a_dueling_network",
    ),
    "the mean over the batch": (
        "algos/q_networks.py",
        "out.mean(1, keepdims=True)",
        "out.mean((0, 1), keepdims=True)",
        "test_streams_of_a_dueling_network",
    ),
    "a wave is left out": (
        "algos/q_networks.py",
        "jnp.arange(COSINES, ",
        "jnp.arange(1, COSINES + 1, ",
        "test_fractions_are_embedded_by_cosines[False]",
    ),
    "an embedding below 0": (
        "algos/q_networks.py",
        "nn.relu(nn.Dense(x.shape[1])(waves))",
        "nn.Dense(x.shape[1])(waves)",
        "test_fractions_are_embedded_by_cosines[False]",
    ),
    "noise without its square root": (
        "layers.py",
        "e = jnp.sign(e) * jnp.sqrt(jnp.abs(e))",
        "e = e * 1.0",
        "test_noise_of_a_layer",
    ),
    "noise without a sign": (
        "layers.py",
        "e = jnp.sign(e) * jnp.sqrt(jnp.abs(e))",
        "e = jnp.sqrt(jnp.abs(e))",
        "test_noise_of_a_layer",
    ),
    "no noise on the bias": (
        "layers.py",
        "bias = bias + bias_noise * e[inputs:]",
        "bias = bias + 0.0 * bias_noise * e[inputs:]",
        "test_every_layer_has_noise_of_its_own",
    ),
    "one number is the noise of inputs and outputs": (
        "layers.py",
        "jnp.outer(e[:inputs], e[inputs:])",
        "jnp.outer(e[:inputs], e[: self.size])",
        "test_few_rows_have_the_noise_of_many",
    ),
    "noise of the inputs is left out for few rows": (
        "layers.py",
        "noise = (x * to_rank(e[:inputs], x.ndim)) @ weight_noise",
        "noise = x @ weight_noise",
        "test_noise_of_a_layer",
    ),
    "a small first deviation": (
        "layers.py",
        "constant(NOISE * bound)",
        "constant(NOISE * bound**2)",
        "test_noise_of_a_layer",
    ),
}
