"""Tiny runs of one algorithm, and the mathematics of the on-policy family once more, plainly.

What is here repeats nothing of `purerl.ops`: loops in Python, formulas in float64 numpy, and losses
written out in `jax.numpy` where a gradient is wanted.
"""

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tiny
from tiny import same_bits

import purerl
from purerl import config, registry, rollout
from purerl.algos import on_policy
from purerl.make import spec_of

ENVIRONMENTS = {"pendulum": {"max_episode_steps": 5}, "cartpole": {"max_episode_steps": 12}}
"""With both kinds of ends within a few steps."""
SMALL = {
    "num_envs": 4,
    "num_steps": 8,
    "total_timesteps": 1000,
    "hidden_sizes": (6,),
    "learning_rate": 0.02,
    "value_learning_rate": 0.03,
    "num_epochs": 1,
    "num_minibatches": 1,
    "normalize_reward": False,
    "anneal_lr": False,
}
KEY = jax.random.key(7)
NEVER = 1e9
"""A limit that nothing reaches."""
assert_close = partial(tiny.assert_close, rtol=1e-4, atol=2e-6)


class Play(NamedTuple):
    """State of a run between two updates."""

    state: Any
    rollout: Any
    carry: Any


class Bench:
    """An algorithm on an environment; the real-valued fields of its config are arguments of `update`."""

    def __init__(self, algo: str, env: str, **fields: Any):
        cls = registry.config_class(algo)
        known = cls.__dataclass_fields__
        values = {name: value for name, value in SMALL.items() if name in known}
        kwargs = ENVIRONMENTS.get(env, {}) | fields.pop("env_kwargs", {})
        self.cfg = purerl.make_config(algo, env=env, env_kwargs=kwargs, **(values | fields))
        self.env = purerl.make_env(env, **kwargs)
        self.spec, self.module = spec_of(self.env), registry.algorithm_module(self.cfg)
        self.algo = purerl.make_algorithm(self.cfg)
        self.begin, self.collect = jax.jit(self.plain_begin), jax.jit(self.plain_collect)
        self._update = jax.jit(self.plain_update)

    def plain_begin(self, key) -> Play:
        start = rollout.start(self.env, key, self.algo.num_envs)
        return Play(self.algo.init(key), start, self.algo.init_carry(self.algo.num_envs))

    def plain_collect(self, play: Play, key):
        policy = partial(self.algo.act, play.state, step=jnp.int32(0), explore=True)
        start, carry, transition, _ = rollout.unroll(
            self.env, policy, play.rollout, play.carry, key, self.algo.num_steps
        )
        return Play(play.state, start, carry), transition

    def plain_update(self, state, transition, key, step, hyper):
        algo = self.module.make(config.replace(self.cfg, hyper), self.spec)
        return algo.update(state, transition, key, step)

    def hyper(self, **changes) -> dict:
        return {k: jnp.float32(v) for k, v in (config.leaves(self.cfg) | changes).items()}

    def update(self, state, transition, key=KEY, step=0, **changes):
        """`(state, metrics)` of one update, with other values of real-valued fields."""
        return self._update(state, transition, key, jnp.int32(step), self.hyper(**changes))

    def played(self, updates: int, seed: int = 0):
        """`(state, history)` after some updates, and the rollouts: one more than there were updates."""
        play, history = self.begin(jax.random.key(seed)), []
        for i in range(updates + 1):
            play, transition = self.collect(play, jax.random.fold_in(KEY, 100 * seed + i))
            history.append(transition)
            if i < updates:
                play = play._replace(state=self.update(play.state, transition)[0])
        return play.state, history


def nothing_like(a, b) -> bool:
    """Return True if no leaf of `a` equals that of `b`."""
    return all((x != y).any() for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def double(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


# Networks and distributions: `xp` is numpy, or jax.numpy where a gradient is wanted


def layers(tree) -> list:
    tree = tree["params"].get("torso", tree["params"])
    return [tree[f"Dense_{i}"] for i in range(sum(name.startswith("Dense") for name in tree))]


def mlp(tree, x, xp=np):
    *hidden, last = layers(tree)
    for layer in hidden:
        x = xp.tanh(x @ layer["kernel"] + layer["bias"])
    return x @ last["kernel"] + last["bias"]


def features(params, obs, xp=np):
    for layer in layers(params["torso"]) if "torso" in params else []:
        obs = xp.tanh(obs @ layer["kernel"] + layer["bias"])
    return obs


def of_features(pi, x, xp=np):
    """`logits`, or `(mean, log_std)`."""
    last, log_std = mlp(pi, x, xp), pi["params"].get("log_std")
    return last if log_std is None else (last, log_std + 0 * last)


def outputs(params, obs, xp=np):
    return of_features(params["pi"], features(params, obs, xp), xp)


def values(params, obs, xp=np):
    return mlp(params["v"], features(params, obs, xp), xp)[..., 0]


def log_softmax(logits, xp=np):
    return logits - xp.log(xp.exp(logits).sum(-1, keepdims=True))


def log_prob(out, action, xp=np):
    if not isinstance(out, tuple):
        return xp.take_along_axis(log_softmax(out, xp), action[..., None], -1)[..., 0]
    mean, log_std = out
    square = ((action - mean) / xp.exp(log_std)) ** 2
    return -(square / 2 + log_std + xp.log(2 * xp.pi) / 2).sum(-1)


def entropy(out, xp=np):
    if not isinstance(out, tuple):
        return -(xp.exp(log_softmax(out, xp)) * log_softmax(out, xp)).sum(-1)
    return (out[1] + xp.log(2 * xp.pi * xp.e) / 2).sum(-1)


def kl(old, new, xp=np):
    if not isinstance(old, tuple):
        return (xp.exp(log_softmax(old, xp)) * (log_softmax(old, xp) - log_softmax(new, xp))).sum(-1)
    (m0, s0), (m1, s1) = old, new
    return (s1 - s0 + (xp.exp(2 * s0) + (m0 - m1) ** 2) / (2 * xp.exp(2 * s1)) - 0.5).sum(-1)


def mean_kl(before, after, obs) -> float:
    return kl(outputs(double(before), obs), outputs(double(after), obs)).mean()


# Rollouts


def flat(array) -> np.ndarray:
    """`[T, N, ...] -> [T * N, ...]`, row by row."""
    array = np.asarray(array)
    return np.stack([array[t, n] for t in range(array.shape[0]) for n in range(array.shape[1])])


def gae(reward, value, next_value, terminated, truncated, gamma, lambda_):
    advantage = np.zeros(reward.shape)
    for n in range(reward.shape[1]):
        after = 0.0
        for t in reversed(range(reward.shape[0])):
            future = 0.0 if terminated[t, n] else next_value[t, n]
            after = 0.0 if terminated[t, n] or truncated[t, n] else after
            after = reward[t, n] + gamma * future - value[t, n] + gamma * lambda_ * after
            advantage[t, n] = after
    return advantage


def standardized(x):
    return (x - x.mean()) / np.sqrt(x.var() + 1e-8)


class Rollout:
    """The last rollout of a `history`, as an update sees it; the others made its normaliser."""

    def __init__(self, cfg, history, **changes):
        self.cfg = dataclasses.replace(cfg, **changes)
        seen = [double(t.obs).reshape(-1, *t.obs.shape[2:]) for t in history[:-1]]
        self.moments = None
        if cfg.normalize_obs and seen:
            self.moments = np.concatenate(seen).mean(0), np.concatenate(seen).var(0)
        last = history[-1]
        self.time_obs, self.time_next_obs = (self.normalized(double(o)) for o in (last.obs, last.next_obs))
        self.obs, self.action = flat(self.time_obs), flat(last.action)
        self.flags = np.asarray(last.terminated), np.asarray(last.truncated)
        self.reward = double(last.reward)
        if cfg.normalize_reward:
            deviation = np.sqrt(np.concatenate(self.sums_so_far(history)).var() + 1e-8)
            self.reward = np.clip(self.reward / deviation, -10, 10)

    def normalized(self, obs):
        if self.moments is None:
            return obs
        mean, variance = self.moments
        return np.clip((obs - mean) / np.sqrt(variance + 1e-8), -10, 10)

    def sums_so_far(self, history) -> list:
        sums, so_far = [], 0.0
        for transition in history:
            for reward, a, b in zip(*double((transition.reward, *transition[4:6])), strict=True):
                so_far = reward + self.cfg.gamma * so_far
                sums.append(so_far)
                so_far = so_far * (1 - np.maximum(a, b))
        return sums

    def estimates(self, value, next_value):
        """`(value, advantage, target)`, each `[T * N]`, from values `[T, N]`."""
        args, cfg = (self.reward, value, next_value, *self.flags), self.cfg
        advantage = gae(*args, cfg.gamma, cfg.gae_lambda)
        lambda_ = cfg.gae_lambda if cfg.value_lambda is None else cfg.value_lambda
        target = gae(*args, cfg.gamma, lambda_) + value
        return flat(value), flat(advantage), flat(target)

    def estimates_by(self, params):
        params = double(params)
        return self.estimates(values(params, self.time_obs), values(params, self.time_next_obs))


def float32(tree):
    """As what a program takes: floats in float32, indices as they are."""
    kind = lambda leaf: np.float32 if np.issubdtype(leaf.dtype, np.floating) else leaf.dtype
    return jax.tree.map(lambda leaf: np.asarray(leaf, kind(np.asarray(leaf))), tree)


@jax.jit
def adam_step(learning_rate, max_grad_norm, gradient, opt_state, params):
    """`(params, opt_state)` after one step of Adam on a gradient that is clipped by its global norm."""
    clip, adam = optax.clip_by_global_norm(max_grad_norm), optax.adam(learning_rate, eps=1e-5)
    updates, opt_state = optax.chain(clip, adam).update(gradient, opt_state)
    return optax.apply_updates(params, updates), opt_state


@partial(jax.jit, static_argnums=(1, 2))
def permutations(key, epochs, rows):
    return jax.vmap(lambda key: on_policy.permutation(key, rows))(jax.random.split(key, epochs))


def orders(key, epochs, rows, minibatches):
    """`[epochs][minibatches]` rows of each minibatch."""
    return np.asarray(permutations(key, epochs, rows)).reshape(epochs, minibatches, -1)


@jax.jit
@jax.value_and_grad
def critic_loss(v, obs, target):
    return ((values({"v": v}, obs, jnp) - target) ** 2).mean() / 2


def fitted_critic(cfg, v, opt_state, obs, target, key):
    """`(v, opt_state, mean loss)` after the passes of a critic that learns apart from the policy."""
    errors = []
    for order in orders(key, cfg.num_epochs, len(obs), cfg.num_minibatches):
        for index in order:
            error, gradient = critic_loss(v, *float32((obs[index], target[index])))
            v, opt_state = adam_step(cfg.value_learning_rate, cfg.max_grad_norm, gradient, opt_state, v)
            errors.append(error)
    return v, opt_state, np.mean(errors)


def assert_only_the_entropy_bonus_moves(bench, state, transition):
    """A policy over two indices where no step earns anything, and the critic knows it."""
    flat = transition._replace(reward=jnp.zeros_like(transition.reward))
    fresh, *_, last = bench.begin(KEY).state, *layers(state.params["pi"])
    last |= {"bias": last["bias"] + jnp.array([1.0, 0.0])}
    layers_of_pi = state.params["pi"]["params"] | {f"Dense_{len(bench.cfg.hidden_sizes)}": last}
    params = {"pi": {"params": layers_of_pi}, "v": jax.tree.map(jnp.zeros_like, state.params["v"])}
    state = state._replace(params=params, opt_state=fresh.opt_state)
    unmoved, _ = bench.update(state, flat)
    assert same_bits(unmoved.params["pi"], params["pi"])
    entropies = []
    for _ in range(6):
        state, metrics = bench.update(state, flat, ent_coef=1.0)
        entropies.append(float(metrics["pi/entropy"]))
    assert np.diff(entropies).min() > 0
    assert entropies[0] + 0.02 < entropies[-1] <= np.log(2) + 1e-6
