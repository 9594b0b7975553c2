"""Off-policy updates once more, plainly: networks, their gradients and Adam by hand in float64.

A `Case` fills the replay buffer of an algorithm on an invented environment, takes an update, and draws the
same rows and noises again with the same keys. Nothing here calls `purerl.ops` or `purerl.algos`.
"""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from tiny import tiny

from purerl import registry
from purerl.replay import ring, uniform
from purerl.types import EnvSpec, Transition

SPEC = EnvSpec(
    "invented", spaces.Box(-np.inf, np.inf, (3,), np.float32), spaces.Box(-2.0, 5.0, (2,), np.float32)
)
NUM_ENVS, CAPACITY, BATCH, UPDATES = 3, 18, 16, 2
FIELDS = {
    "num_envs": NUM_ENVS,
    "buffer_size": CAPACITY,
    "batch_size": BATCH,
    "updates_per_step": UPDATES,
    "hidden_sizes": (7, 6),
    "learning_rate": 0.01,
    "tau": 0.3,
    "gamma": 0.9,
}
KEY, STEP = jax.random.key(5), NUM_ENVS * 5
FIRST = 5 * UPDATES
"""Index of the first gradient step of an update at STEP."""


def transition(seed: int) -> Transition:
    """Return one step `[1, N]` of the environments, whose episodes end often and in both ways."""
    noise, lead = np.random.default_rng(seed), (1, NUM_ENVS)
    obs, next_obs = noise.normal(size=(2, *lead, 3)).astype(np.float32)
    action = noise.uniform(-1, 1, (*lead, 2)).astype(np.float32)
    reward = noise.normal(size=lead).astype(np.float32)
    kind = (seed * NUM_ENVS + np.arange(NUM_ENVS)[None]) % 4
    return Transition(obs, action, reward, next_obs, kind % 2 == 1, kind >= 2)


HISTORY = [transition(seed) for seed in range(10)]


class Case:
    """An algorithm before and after the last update of a short history, and the draws of that update."""

    def __init__(self, algo: str, **fields: Any):
        self.cfg = tiny(algo, "pendulum", **(FIELDS | fields))
        self.module = registry.algorithm_module(self.cfg)
        self.algo = self.module.make(self.cfg, SPEC)
        self.fresh = jax.jit(self.algo.init)(jax.random.key(1))

    @functools.cached_property
    def updates(self) -> tuple[Any, Any, dict[str, jax.Array]]:
        """`(state before, state after, metrics)` of the last update."""
        observe, update, state = jax.jit(self.algo.observe), jax.jit(self.algo.update), self.fresh
        for step in HISTORY[:-3]:
            state = observe(state, step)
        for i, step in enumerate(HISTORY[-3:-1]):  # so that Adam's moments are those of several steps
            state, _ = update(state, step, jax.random.key(i), jnp.int32(0))
        return state, *update(state, HISTORY[-1], KEY, jnp.int32(STEP))

    def draws(self) -> Iterator["Drawn"]:
        """Yield the rows of each gradient step, with weights and the key of its noise."""
        slots: list[Any] = [None] * CAPACITY
        for i, step in enumerate(HISTORY):
            for n in range(NUM_ENVS):
                slots[(i * NUM_ENVS + n) % CAPACITY] = jax.tree.map(lambda leaf, n=n: leaf[0, n], step)
        for count in range(UPDATES):
            key_sample, key_step = jax.random.split(jax.random.fold_in(KEY, count))
            index = np.asarray(jax.random.bits(key_sample, (BATCH,), jnp.uint32)) % CAPACITY
            rows = jax.tree.map(lambda *leaves: np.stack(leaves), *(slots[i] for i in index))
            assert len({*zip(rows.terminated.tolist(), rows.truncated.tolist(), strict=True)}) == 4
            weight = weight_of(index) if hasattr(self.fresh.replay.priority, "shape") else np.ones(BATCH)
            yield Drawn(index, rows, weight, key_step)

    def check(self, plain: "Learner", metrics: list[dict[str, float]]) -> None:
        """Raise AssertionError unless networks and metrics after the update are the plain ones."""
        before, after, found = self.updates
        for name, net in plain.params.items():
            close(arrays(after.learner.params[name]), net, name)
            old = arrays(before.learner.params[name])
            moved = [np.abs(leaf - before).max() for leaf, before in zip(net, old, strict=True)]
            assert min(moved) > 1e-4, f"{name} hardly moved"
        assert set(after.learner.target) == set(plain.target)
        for name, net in plain.target.items():
            close(arrays(after.learner.target[name]), net, f"target {name}")
        assert {*found} == {name for step in metrics for name in step}
        for name, value in found.items():
            expected = np.mean([step[name] for step in metrics if name in step])
            np.testing.assert_allclose(value, expected, 1e-4, 1e-5, err_msg=name)

    def check_errors(self, errors: dict[int, float]) -> None:
        """Raise AssertionError unless the buffer of `use_weights` was given these TD errors by slot."""
        priority = np.asarray(self.updates[1].replay.priority)
        np.testing.assert_allclose(priority[[*errors]], [*errors.values()], 1e-5, 1e-5)


class Drawn:
    """Rows of a batch in float64, with their slots, their weights and the key of the step's noise."""

    def __init__(self, index: np.ndarray, rows: Transition, weight: np.ndarray, key: jax.Array):
        self.index, self.weight, self.key = index, weight, key
        self.obs, self.action, self.reward, self.next_obs = map(double, rows[:4])
        self.future = 1.0 - double(rows.terminated)
        """1 where the task goes on, whether its time is up or not."""


def double(leaf: Any) -> np.ndarray:
    return np.asarray(leaf, np.float64)


def close(a: list, b: list, name: str = "") -> None:
    """Raise AssertionError where two lists of arrays differ by more than 1e-5."""
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x, y, 1e-5, 1e-5, err_msg=name)


# Networks: a list of kernels and biases in turn; several networks are one longer list


def arrays(tree: Any) -> list[np.ndarray]:
    """Return the layers of a network, or of a tuple of networks, or a number, in float64."""
    if isinstance(tree, tuple):
        return [leaf for one in tree for leaf in arrays(one)]
    if not isinstance(tree, dict):
        return [double(tree)]
    layers = tree["params"].get("torso", tree["params"])
    return [double(layers[f"Dense_{i}"][part]) for i in range(len(layers)) for part in ("kernel", "bias")]


def halves(net: list) -> tuple[list, list]:
    """Return the two networks of an ensemble."""
    return net[: len(net) // 2], net[len(net) // 2 :]


def forward(net: list, *inputs: np.ndarray) -> tuple[np.ndarray, list]:
    """Return the output `[B, out]` of relu layers and a linear one, and the input of each."""
    x, seen = np.concatenate(inputs, -1), []
    for kernel, bias in zip(net[::2], net[1::2], strict=True):
        seen.append(x if not seen else np.maximum(x, 0))
        x = seen[-1] @ kernel + bias
    return x, seen


def backward(net: list, seen: list, gradient: np.ndarray) -> tuple[list, np.ndarray]:
    """Return the gradient of the layers, and that of the inputs, from that of the output `[B, out]`."""
    found: list = []
    for kernel, x in zip(net[::2][::-1], seen[::-1], strict=True):
        found = [x.T @ gradient, gradient.sum(0), *found]
        gradient = gradient @ kernel.T
        if x is not seen[0]:
            gradient = gradient * (x > 0)
    return found, gradient


def value(critic: list, obs: np.ndarray, action: np.ndarray) -> np.ndarray:
    return forward(critic, obs, action)[0][:, 0]


def ascent(critic: list, obs: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return `Q(s, a)` and its gradient with respect to the action."""
    out, seen = forward(critic, obs, action)
    return out[:, 0], backward(critic, seen, np.ones_like(out))[1][:, obs.shape[1] :]


class Learner:
    """Networks, target networks and Adam, changed in place."""

    def __init__(self, learner: Any, learning_rate: float, tau: float):
        self.params = {name: arrays(tree) for name, tree in learner.params.items()}
        self.target = {name: arrays(tree) for name, tree in learner.target.items()}
        moments = {name: state[0] for name, state in learner.opt_state.items()}
        self.moments = {name: (arrays(m.mu), arrays(m.nu), int(m.count)) for name, m in moments.items()}
        self.learning_rate, self.tau = learning_rate, tau

    def descend(self, name: str, gradient: list) -> None:
        """Take a step of Adam (Kingma & Ba 2015, arXiv:1412.6980, algorithm 1)."""
        mu, nu, count = self.moments[name]
        mu = [0.9 * m + 0.1 * g for m, g in zip(mu, gradient, strict=True)]
        nu = [0.999 * v + 0.001 * g * g for v, g in zip(nu, gradient, strict=True)]
        self.moments[name] = mu, nu, count + 1
        m_scale, v_scale = 1 - 0.9 ** (count + 1), 1 - 0.999 ** (count + 1)
        self.params[name] = [
            p - self.learning_rate * (m / m_scale) / (np.sqrt(v / v_scale) + 1e-8)
            for p, m, v in zip(self.params[name], mu, nu, strict=True)
        ]

    def fit(self, critics: tuple[list, ...], rows: Drawn, target: np.ndarray) -> tuple[np.ndarray, dict]:
        """Take a step of all critics on `weight (Q - target)^2 / 2`; return their errors and metrics."""
        gradient, values = [], []
        for critic in critics:
            out, seen = forward(critic, rows.obs, rows.action)
            gradient += backward(critic, seen, rows.weight[:, None] * (out - target[:, None]) / BATCH)[0]
            values.append(out[:, 0])
        error = np.stack(values) - target
        self.descend("q", gradient)
        loss = (rows.weight * error**2).mean(-1).sum() / 2
        return error, {"q/loss": loss, "q/mean": np.mean(values)}

    def follow(self) -> None:
        """Move the target networks."""
        for name, net in self.target.items():
            pairs = zip(net, self.params[name], strict=True)
            self.target[name] = [(1 - self.tau) * old + self.tau * new for old, new in pairs]


# A buffer with weights, which keeps the errors that it is given


def weight_of(index: Any) -> Any:
    """Return the weight of the rows in the slots `index`."""
    return 0.25 + index % 5


def use_weights(monkeypatch) -> None:
    """Replace functions of uniform buffers: rows have weights, and priorities are the last TD errors."""
    init, draw = ring.init, uniform.draw

    def weighted(state, key, batch_size):
        index, _ = draw(state, key, batch_size)
        return index, jnp.float32(weight_of(index))

    monkeypatch.setattr(
        ring, "init", lambda row, capacity: init(row, capacity)._replace(priority=jnp.zeros(capacity))
    )
    monkeypatch.setattr(uniform, "draw", weighted)
    monkeypatch.setattr(
        uniform,
        "update",
        lambda state, index, error: state._replace(priority=state.priority.at[index].set(error)),
    )
