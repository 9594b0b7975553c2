"""PQN: an update is the plain one, with lambda-returns by a loop and RAdam by its formulas; exploration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from tiny import tiny

import purerl
from purerl.algos import pqn
from purerl.algos.on_policy import permutation
from purerl.config import ConfigError
from purerl.types import EnvSpec, Transition

SPEC = EnvSpec("invented", spaces.Box(-np.inf, np.inf, (3,), np.float32), spaces.Discrete(4))
STEPS, ENVS = 4, 3
FIELDS = {
    "num_envs": ENVS,
    "num_steps": STEPS,
    "num_epochs": 2,
    "num_minibatches": 3,
    "total_timesteps": 120,
    "hidden_sizes": (7, 6),
    "learning_rate": 0.02,
    "gamma": 0.9,
    "td_lambda": 0.7,
}
KEY = jax.random.key(5)


def made(**fields):
    cfg = tiny("pqn", "cartpole", **(FIELDS | fields))
    return cfg, pqn.make(cfg, SPEC), pqn.default_networks(cfg, SPEC)["q"]


def rollout(seed):
    """Return `[T, N]` steps whose episodes end often and in both ways."""
    noise, lead = np.random.default_rng(seed), (STEPS, ENVS)
    obs, next_obs = noise.normal(size=(2, *lead, 3)).astype(np.float32)
    action = noise.integers(0, 4, lead).astype(np.int32)
    reward = noise.normal(size=lead).astype(np.float32)
    kind = noise.integers(0, 5, lead)
    return Transition(obs, action, reward, next_obs, kind == 1, kind == 2, {})


def after(algo, updates):
    """Return the state after so many updates; RAdam is plain momentum in its first five steps."""
    state, update = jax.jit(algo.init)(jax.random.key(1)), jax.jit(algo.update)
    for i in range(updates):
        state, _ = update(state, rollout(i), jax.random.key(i), jnp.int32(i * STEPS * ENVS))
    return state


class Plain:
    """The update once more, in float64 but for the network's own passes."""

    def __init__(self, cfg, q, state):
        self.cfg, self.q, self.params = cfg, q, state.params
        is_adam = lambda part: hasattr(part, "mu")
        adam = next(filter(is_adam, jax.tree.leaves(state.opt_state, is_leaf=is_adam)))
        self.count, self.first, self.second = int(adam.count), adam.mu, adam.nu

    def returns(self, rows):
        """Return the lambda-returns `[T, N]`, each environment by itself from its last step back."""
        cfg, out = self.cfg, np.zeros((STEPS, ENVS))
        for n in range(ENVS):
            following = None
            for t in reversed(range(STEPS)):
                ahead = float(self.q.apply(self.params, rows.next_obs[t, n][None])[0].max())
                if rows.terminated[t, n]:
                    future = 0.0
                elif rows.truncated[t, n] or following is None:
                    future = ahead
                else:
                    future = (1 - cfg.td_lambda) * ahead + cfg.td_lambda * following
                following = out[t, n] = rows.reward[t, n] + cfg.gamma * future
        return out

    def step(self, obs, action, target, rate):
        def loss(params):
            values = jnp.stack(
                [self.q.apply(params, o[None])[0, a] for o, a in zip(obs, action, strict=True)]
            )
            return ((values - target) ** 2).mean() / 2, values.mean()

        (error, value), gradient = jax.value_and_grad(loss, has_aux=True)(self.params)
        gradient = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), gradient)
        norm = np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(gradient)))
        if norm > self.cfg.max_grad_norm:
            gradient = jax.tree.map(lambda leaf: leaf * self.cfg.max_grad_norm / norm, gradient)
        self.count += 1
        self.first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, self.first, gradient)
        self.second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, self.second, gradient)
        power = 0.999**self.count
        most = 2 / (1 - 0.999) - 1
        length = most - 2 * self.count * power / (1 - power)  # Liu et al. 2020, arXiv:1908.03265, alg. 2

        def moved(leaf, m, v):
            m = m / (1 - 0.9**self.count)
            if length < 5:
                return jnp.float32(leaf - rate * m)
            v = np.sqrt(v / (1 - power)) + 1e-8
            factor = (length - 4) * (length - 2) * most / ((most - 4) * (most - 2) * length)
            return jnp.float32(leaf - rate * np.sqrt(factor) * m / v)

        self.params = jax.tree.map(moved, self.params, self.first, self.second)
        return {"q/loss": error, "q/mean": value}


@pytest.mark.parametrize("fields", [{}, {"anneal_lr": False, "max_grad_norm": 0.3}], ids=["plain", "clipped"])
def test_an_update_is_the_plain_one(fields):
    cfg, algo, q = made(**fields)
    before, rows, step = after(algo, 2), rollout(7), 48
    found, metrics = jax.jit(algo.update)(before, rows, KEY, jnp.int32(step))
    plain, reports = Plain(cfg, q, before), []
    target = plain.returns(rows).reshape(-1)
    obs, action = rows.obs.reshape(-1, 3), rows.action.reshape(-1)
    rate = cfg.learning_rate * (1 - step / cfg.total_timesteps if cfg.anneal_lr else 1)
    for key in jax.random.split(KEY, cfg.num_epochs):
        for index in np.asarray(permutation(key, STEPS * ENVS)).reshape(cfg.num_minibatches, -1):
            reports.append(plain.step(obs[index], action[index], target[index], rate))
    for a, b in zip(jax.tree.leaves(found.params), jax.tree.leaves(plain.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    for name, value in metrics.items():
        expected = np.mean([report[name] for report in reports])
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)


def test_uniform_actions_come_with_the_chance_of_the_step():
    _, algo, q = made(epsilon_end=0.2, epsilon_fraction=0.5)
    state, obs = after(algo, 1), np.random.default_rng(0).normal(size=(20_000, 3)).astype(np.float32)
    best = np.asarray(q.apply(state.params, obs).argmax(-1))
    act = jax.jit(algo.act, static_argnames="explore")
    for step, chance in ((0, 1.0), (30, 0.6), (120, 0.2)):
        action, _, _ = act(state, (), obs, jax.random.key(step), jnp.int32(step), explore=True)
        assert np.mean(action != best) == pytest.approx(0.75 * chance, abs=0.015)
    greedy, _, _ = act(state, (), obs, jax.random.key(0), jnp.int32(0), explore=False)
    np.testing.assert_array_equal(greedy, best)


def test_every_layer_is_normalised_also_convolutions():
    spec = SPEC._replace(observation_space=spaces.Box(0, 1, (10, 10, 3), np.uint8))
    q = pqn.default_networks(tiny("pqn", "cartpole"), spec)["q"]
    params = q.init(KEY, jnp.zeros((1, 10, 10, 3), jnp.uint8))["params"]
    assert "LayerNorm_0" in params["torso"]["encoder"] and "LayerNorm_0" in params["advantage"]


def test_continuous_actions_and_rollouts_that_do_not_divide_are_refused():
    uneven = {"num_minibatches": 5, "num_steps": 4}
    for env, fields, field in (("pendulum", {}, "env"), ("cartpole", uneven, "num_minibatches")):
        with pytest.raises(ConfigError) as error:
            purerl.make_algorithm(tiny("pqn", env, **fields))
        assert error.value.field == field


MUTANTS = {
    "values of the observation itself": (
        "algos/pqn.py",
        "on_policy.flatten_time(transition.next_obs)",
        "on_policy.flatten_time(transition.obs)",
        "test_an_update_is_the_plain_one[plain]",
    ),
    "the mean over actions": (
        "algos/pqn.py",
        "next_obs).max(-1)",
        "next_obs).mean(-1)",
        "test_an_update_is_the_plain_one[plain]",
    ),
    "a time limit is a death": (
        "algos/pqn.py",
        "next_value.reshape(reward.shape), terminated, truncated",
        "next_value.reshape(reward.shape), terminated | truncated, truncated",
        "test_an_update_is_the_plain_one[plain]",
    ),
    "one pass": (
        "algos/pqn.py",
        "jax.random.split(key, cfg.num_epochs)",
        "jax.random.split(key, cfg.num_epochs)[:1]",
        "test_an_update_is_the_plain_one[plain]",
    ),
    "Adam": (
        "algos/pqn.py",
        "optax.radam(learning_rate)",
        "optax.adam(learning_rate)",
        "test_an_update_is_the_plain_one[plain]",
    ),
    "a step size that stays": (
        "algos/pqn.py",
        "on_policy.remaining(cfg, step) if cfg.anneal_lr else 1.0",
        "1.0",
        "test_an_update_is_the_plain_one[plain]",
    ),
    "gradients without a limit": (
        "algos/pqn.py",
        "optax.chain(on_policy.clip_gradient(cfg), ",
        "optax.chain(",
        "test_an_update_is_the_plain_one[clipped]",
    ),
    "exploring evaluations": (
        "algos/pqn.py",
        "        if explore:\n",
        "        if True:\n",
        "test_uniform_actions_come_with_the_chance_of_the_step",
    ),
    "greedy training": (
        "algos/pqn.py",
        "        if explore:\n",
        "        if False:\n",
        "test_uniform_actions_come_with_the_chance_of_the_step",
    ),
    "convolutions as they are": (
        "algos/q_networks.py",
        'norm="layer" if cfg.layer_norm else "none"',
        'norm="none"',
        "test_every_layer_is_normalised_also_convolutions",
    ),
}
