"""Networks with normalised layers, their gradients and Adam, plainly, in float64.

A network is a flat dict from the paths of its parameters, such as "params/torso/Dense_0/kernel", to arrays.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

Net = dict[str, np.ndarray]
Rule = Callable[[dict[str, np.ndarray], np.ndarray], tuple[np.ndarray, Callable]]
"""`(leaves of a layer, x) -> (y, back)`, with `back(gradient of y) -> (gradients of x and of the leaves)`."""


def double(leaf: Any) -> np.ndarray:
    return np.asarray(leaf, np.float64)


def flat(tree: Any) -> Net:
    """Return the leaves of a tree by their paths."""
    name = lambda entry: str(getattr(entry, "key", getattr(entry, "idx", entry)))
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {"/".join(map(name, path)): double(leaf) for path, leaf in leaves}


def member(net: Net, i: int) -> Net:
    """Return one network of an ensemble."""
    return {path[2:]: leaf for path, leaf in net.items() if path.startswith(f"{i}/")}


def ensemble(members: list[Net]) -> Net:
    """Return networks, or their gradients, as one."""
    return {f"{i}/{path}": leaf for i, net in enumerate(members) for path, leaf in net.items()}


# Layers


def dense(layer: dict, x: np.ndarray) -> tuple[np.ndarray, Callable]:
    def back(gradient):
        return gradient @ layer["kernel"].T, {"kernel": x.T @ gradient, "bias": gradient.sum(0)}

    return x @ layer["kernel"] + layer.get("bias", 0.0), back


def relu(layer: dict, x: np.ndarray) -> tuple[np.ndarray, Callable]:
    return np.maximum(x, 0), lambda gradient: (gradient * (x > 0), {})


def normalized(axis: int, epsilon: float) -> Rule:
    """Return a layer with mean 0 and variance 1 over an axis, then a scale and an offset."""

    def apply(layer: dict, x: np.ndarray) -> tuple[np.ndarray, Callable]:
        deviation = np.sqrt(x.var(axis, keepdims=True) + epsilon)
        z = (x - x.mean(axis, keepdims=True)) / deviation

        def back(gradient):
            of_z, mean = gradient * layer["scale"], lambda x: x.mean(axis, keepdims=True)
            of_x = (of_z - mean(of_z) - z * mean(of_z * z)) / deviation
            return of_x, {"scale": (gradient * z).sum(0), "bias": gradient.sum(0)}

        return layer["scale"] * z + layer.get("bias", 0.0), back

    return apply


def running(layer: dict, x: np.ndarray) -> tuple[np.ndarray, Callable]:
    """Normalise with the running statistics."""
    deviation = np.sqrt(layer["var"] + 1e-3)
    z = (x - layer["mean"]) / deviation

    def back(gradient):
        of_layer = {"scale": (gradient * z).sum(0), "bias": gradient.sum(0)}
        return gradient * layer["scale"] / deviation, of_layer

    return layer["scale"] * z + layer.get("bias", 0.0), back


def forward(net: Net, *inputs: np.ndarray, batch: bool = False) -> tuple[np.ndarray, Callable, Net]:
    """Return `(out [B, ...], back, statistics)` of relu layers and a linear one, normalised where `net` is.

    `back(gradient of out) -> (gradients of net and of the inputs)`. With `batch` the statistics of the batch
    normalise, and `statistics` are the running ones after this pass.
    """
    layers: dict[str, dict[str, np.ndarray]] = {}
    for path, leaf in net.items():
        layers.setdefault(path.split("/")[-2], {})[path.split("/")[-1]] = leaf
    x, tape, statistics = np.concatenate(inputs, -1), [], {}

    def apply(name: str, rule: Rule) -> None:
        nonlocal x
        if batch and rule is batch_norm:
            statistics.update({f"{name}/mean": x.mean(0), f"{name}/var": x.var(0)})
        x, back = rule(layers.get(name, {}), x)
        tape.append((name, back))

    batch_norm, layer_norm = normalized(0, 1e-3) if batch else running, normalized(-1, 1e-6)
    depth = sum(name.startswith("Dense") for name in layers)
    if "BatchNorm_0" in layers:
        apply("BatchNorm_0", batch_norm)
    for i in range(depth):
        apply(f"Dense_{i}", dense)
        if i == depth - 1:
            break
        if "LayerNorm_0" in layers:
            apply(f"LayerNorm_{i}", layer_norm)
        if "BatchNorm_0" in layers:
            apply(f"BatchNorm_{i + 1}", batch_norm)
        apply("relu", relu)

    def back(gradient: np.ndarray) -> tuple[Net, np.ndarray]:
        found = {}
        for name, one in tape[::-1]:
            gradient, of_layer = one(gradient)
            found |= {f"{name}/{leaf}": value for leaf, value in of_layer.items()}
        return {path: found.get(ending(path), np.zeros_like(leaf)) for path, leaf in net.items()}, gradient

    ending = lambda path: "/".join(path.split("/")[-2:])
    moved = {
        path: 0.99 * leaf + 0.01 * statistics[ending(path)]
        for path, leaf in net.items()
        if ending(path) in statistics
    }
    return x, back, moved


class Learner:
    """Networks, target networks and Adam, changed in place."""

    def __init__(self, learner: Any, learning_rate: float, tau: float):
        self.params = {name: flat(tree) for name, tree in learner.params.items()}
        self.target = {name: flat(tree) for name, tree in learner.target.items()}
        moments = {name: state[0] for name, state in learner.opt_state.items()}
        self.moments = {name: (flat(m.mu), flat(m.nu), int(m.count)) for name, m in moments.items()}
        self.learning_rate, self.tau = learning_rate, tau

    def descend(self, name: str, gradient: Net, statistics: Net) -> None:
        """Take a step of Adam (Kingma & Ba 2015, arXiv:1412.6980, algorithm 1), store running statistics.

        In networks with batch normalisation the weights into each unit are then of length 1.
        """
        net, (mu, nu, count) = self.params[name], self.moments[name]
        assert set(net) == set(gradient)
        mu = {path: 0.9 * mu[path] + 0.1 * g for path, g in gradient.items()}
        nu = {path: 0.999 * nu[path] + 0.001 * g**2 for path, g in gradient.items()}
        self.moments[name] = mu, nu, count + 1
        m_scale, v_scale = 1 - 0.9 ** (count + 1), 1 - 0.999 ** (count + 1)
        for path in net:
            step = (mu[path] / m_scale) / (np.sqrt(nu[path] / v_scale) + 1e-8)
            net[path] = net[path] - self.learning_rate * step
            if path.endswith("kernel") and any("BatchNorm" in other for other in net):
                net[path] = net[path] / np.linalg.norm(net[path], axis=0)
        net.update(statistics)

    def follow(self) -> None:
        """Move the target networks."""
        for name, net in self.target.items():
            pairs = {path: (leaf, self.params[name][path]) for path, leaf in net.items()}
            self.target[name] = {
                path: (1 - self.tau) * old + self.tau * new for path, (old, new) in pairs.items()
            }
