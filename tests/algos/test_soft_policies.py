"""Policies of soft methods: noise that is held, discrete actions, target entropies."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from plain_networks import flat, forward
from plain_replay import BOX, DISCRETE
from scipy import stats
from tiny import tiny

import purerl
from purerl import rollout
from purerl.algos import sac, soft_policies
from purerl.config import ConfigError

MOST, SPACE = 16, spaces.Box(-1, 1, (2,), np.float32)


@functools.cache
def explored(num_envs, steps, most=MOST, cut=0):
    """Return `action, noise [T, N, A]` and `left [T, N]` of a policy; rows end after every `cut` steps."""
    policy = soft_policies.squashed_normal(SPACE, most)
    outputs = tuple(jnp.full((num_envs, 2), value) for value in (0.3, -0.5))

    def step(carry, t):
        action, carry = policy.explore(outputs, jax.random.fold_in(jax.random.key(4), t), carry)
        after = carry
        if cut:
            after = jax.tree.map(lambda leaf: leaf.at[::2].mul((t + 1) % cut != 0), carry)
        return after, (action, carry.noise, carry.left)

    run = jax.jit(lambda: jax.lax.scan(step, policy.init_carry(num_envs), jnp.arange(steps))[1])
    return jax.tree.map(np.asarray, run())


def lengths(noise):
    """Return how long each of the first three noises `[T, N, A]` of every environment is held, `[3, N]`."""
    new = (noise[1:] != noise[:-1]).any(-1)
    starts = [np.flatnonzero(np.r_[True, column, True]) for column in new.T]
    return np.array([np.diff(start)[:3] for start in starts]).T


def test_noise_is_held_for_k_steps_by_a_law_of_squares():
    """`k` from 1 to 16, with a chance proportional to `1 / k^2`, also right after another hold."""
    held = lengths(explored(4_000, 3 * MOST + 1)[1])
    chances = 1.0 / np.arange(1, MOST + 1) ** 2
    for row in held:
        found = np.bincount(row, minlength=MOST + 1)[1:]
        assert len(found) == MOST
        assert stats.chisquare(found, chances / chances.sum() * found.sum()).pvalue > 1e-4
    assert abs(stats.spearmanr(held[0], held[1]).statistic) < 0.06


def test_noise_is_standard_normal_and_each_environment_has_its_own():
    """In steps, lengths and numbers."""
    _, noise, left = explored(4_000, 3 * MOST + 1)
    first = noise[0].ravel()
    assert stats.kstest(first, "norm").pvalue > 1e-4 and len(np.unique(first)) > 0.99 * first.size
    assert stats.kstest(noise[-1].ravel(), "norm").pvalue > 1e-4
    assert {*left[0].tolist()} == {*range(MOST)}
    assert abs(np.corrcoef(left[0], np.abs(noise[0]).sum(-1))[0, 1]) < 0.06


def test_actions_are_those_of_the_noise():
    action, noise, left = explored(4_000, 3 * MOST + 1)
    np.testing.assert_allclose(action, np.tanh(0.3 + np.exp(-0.5) * noise), 1e-5, 1e-6)
    assert left.dtype == np.int32 and noise.dtype == action.dtype == np.float32
    held = left[:-1] > 0
    assert (noise[1:][held] == noise[:-1][held]).all() and (left[1:][held] == left[:-1][held] - 1).all()
    assert (noise[1:][~held] != noise[:-1][~held]).mean() > 0.999


def test_a_row_of_zeros_gets_new_noise():
    """And leaves the others alone: even rows end after every third step, odd ones hold theirs."""
    _, noise, left = explored(400, 30, cut=3)
    same = (noise[1:] == noise[:-1]).all(-1)
    ended = np.arange(1, 30) % 3 == 0
    assert not same[ended, ::2].any() and same[ended, 1::2].any(1).all() and same[~ended, ::2].any(1).all()
    assert (same[:, 1::2] == (left[:-1, 1::2] > 0)).all()


def test_episodes_begin_with_noise_of_their_own():
    """In a rollout, where noise may be held for long, and episodes have five steps."""
    env = purerl.make_env("pendulum", max_episode_steps=5)
    policy = soft_policies.squashed_normal(env.action_space, 1_000)
    outputs = (jnp.zeros((60, 1)), jnp.zeros((60, 1)))
    act = lambda carry, obs, key: (*policy.explore(outputs, key, carry), ())
    key = jax.random.key(2)

    @jax.jit
    def roll():
        return rollout.unroll(env, act, rollout.start(env, key, 60), policy.init_carry(60), key, 20)[2]

    action = np.asarray(roll().action)
    same = (action[1:] == action[:-1]).all(-1)
    begins = np.arange(1, 20) % 5 == 0
    assert not same[begins].any() and same[~begins].any(1).all()


@pytest.mark.parametrize("spec", [BOX, DISCRETE], ids=["box", "discrete"])
def test_the_carry_has_a_row_for_each_environment(spec):
    """Zeros; none where noise is not held."""
    env = "pendulum" if spec is BOX else "cartpole"
    assert sac.make(tiny("sac", env), spec).init_carry(7) == ()
    if spec is BOX:
        carry = sac.make(tiny("sac", env, noise_repeat=2), spec).init_carry(7)
        assert [(leaf.shape, str(leaf.dtype)) for leaf in carry] == [((7, 2), "float32"), ((7,), "int32")]
        assert not any(leaf.any() for leaf in carry)


@functools.cache
def acting(noise_repeat, discrete=False):
    """Return the network of a policy, observations `[5, O]`, and `act(carry, key, explore)`."""
    cfg = tiny("sac", "cartpole" if discrete else "pendulum", noise_repeat=noise_repeat)
    algo, obs = (
        sac.make(cfg, DISCRETE if discrete else BOX),
        np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32),
    )
    state = jax.jit(algo.init)(jax.random.key(1))
    act = jax.jit(
        lambda carry, key, explore: algo.act(state, carry, obs, key, 0, explore=explore), static_argnums=2
    )
    return flat(state.learner.params["pi"]), obs, algo.init_carry(5), act


@pytest.mark.parametrize("noise_repeat", [1, 4])
def test_evaluation_ignores_the_noise(noise_repeat):
    """Its actions are tanh of the mean, and its carry stays; those of exploration have a deviation each."""
    pi, obs, carry, act = acting(noise_repeat)
    mean, log_std = np.split(forward(pi, obs)[0], 2, axis=-1)
    for seed in range(2):
        key = jax.random.key(seed)
        action, same, extras = act(carry, key, False)
        np.testing.assert_allclose(action, np.tanh(mean), 1e-5, 1e-6)
        assert jax.tree.all(jax.tree.map(lambda x, y: (x == y).all(), same, carry)) and extras == ()
        action, carry, extras = act(carry, key, True)
        noise = carry.noise if noise_repeat > 1 else jax.random.normal(key, (5, 2))
        np.testing.assert_allclose(action, np.tanh(mean + np.exp(log_std) * noise), 1e-5, 1e-6)
        assert extras == ()


def test_discrete_actions_follow_the_softmax():
    """One of them per row, each with a draw of its own; evaluation takes the likeliest."""
    policy = soft_policies.softmax(spaces.Discrete(3))
    logits = np.float32([[0.0, 1.0, -1.0], [2.0, 0.0, 2.1]])
    rows = jnp.repeat(logits, 5_000, axis=0)
    action, carry = policy.explore(rows, jax.random.key(0), ())
    assert action.shape == (10_000,) and action.dtype == jnp.int32 and carry == ()
    for one, found in zip(logits, np.asarray(action).reshape(2, 5_000), strict=True):
        expected = 5_000 * np.exp(one) / np.exp(one).sum()
        assert stats.chisquare(np.bincount(found, minlength=3), expected, sum_check=False).pvalue > 1e-4
    mode = policy.mode(logits)
    assert mode.tolist() == [1, 2] and mode.dtype == jnp.int32
    pi, obs, _, act = acting(1, discrete=True)
    assert act((), jax.random.key(0), False)[0].tolist() == forward(pi, obs)[0].argmax(-1).tolist()


@pytest.mark.parametrize(
    ("env", "fields", "expected"),
    [
        ("pendulum", {}, -1.0),
        ("pendulum", {"target_entropy_factor": 0.5}, -0.5),
        ("pendulum", {"target_entropy": 0.6, "target_entropy_factor": 0.5}, 0.6),
        ("cartpole", {}, 0.5 * np.log(2)),
        ("cartpole", {"target_entropy_factor": 1.9}, 0.95 * np.log(2)),
        ("cartpole", {"target_entropy": 0.1}, 0.1),
    ],
)
def test_target_entropies(env, fields, expected):
    cfg, space = tiny("sac", env, **fields), purerl.make_env(env).action_space
    purerl.make_algorithm(cfg)
    assert soft_policies.target_entropy(cfg, space) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("env", "field", "value", "message"),
    [
        ("cartpole", "noise_repeat", 2, "noise_repeat = 2: expected 1 for discrete actions"),
        ("cartpole", "target_entropy", 0.7, "a target below log K = 0.6931"),
        ("cartpole", "target_entropy_factor", 2.0, "it is 0.6931"),
        ("pendulum", "target_entropy", 0.7, "a target below A log 2 = 0.6931"),
    ],
)
def test_what_no_policy_can_do_is_refused(env, field, value, message, compiled):
    """Before anything is compiled."""
    cfg = tiny("sac", env, **{field: value})
    compiled.clear()
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        purerl.make_algorithm(cfg)
    assert error.value.field == field and compiled == []


MUTANTS = {
    "noise is never held": (
        "algos/soft_policies.py",
        "fresh, rows = carry.left == 0, len(mean)",
        "fresh, rows = carry.left >= 0, len(mean)",
        "test_noise_is_held_for_k_steps_by_a_law_of_squares",
    ),
    "noise is held for one step more": (
        "algos/soft_policies.py",
        "jnp.where(fresh, more, carry.left - 1)",
        "jnp.where(fresh, more + 1, carry.left - 1)",
        "test_noise_is_held_for_k_steps_by_a_law_of_squares",
    ),
    "chances fall with k": (
        "algos/soft_policies.py",
        "chances = -2.0 * np.log",
        "chances = -1.0 * np.log",
        "test_noise_is_held_for_k_steps_by_a_law_of_squares",
    ),
    "a hold of 0 steps has a chance": (
        "algos/soft_policies.py",
        "np.arange(1, noise_repeat + 1, dtype=np.float32)",
        "np.arange(1, noise_repeat + 2, dtype=np.float32)",
        "test_noise_is_standard_normal_and_each_environment_has_its_own",
    ),
    "one length for all environments": (
        "algos/soft_policies.py",
        "chances, shape=(rows,)).astype(jnp.int32)",
        "chances, shape=(1,)).astype(jnp.int32)",
        "test_noise_is_standard_normal_and_each_environment_has_its_own",
    ),
    "one noise for all environments": (
        "algos/soft_policies.py",
        "noise = jax.random.normal(key_noise, mean.shape, mean.dtype)",
        "noise = 0 * mean + jax.random.normal(key_noise, mean[:1].shape, mean.dtype)",
        "test_noise_is_standard_normal_and_each_environment_has_its_own",
    ),
    "actions of new noise": (
        "algos/soft_policies.py",
        "carry = Held(noise, jnp.where(fresh, more, carry.left - 1))",
        "carry = Held(noise, jnp.where(fresh, more, carry.left - 1))\n"
        "            noise = jax.random.normal(key_noise, mean.shape, mean.dtype)",
        "test_actions_are_those_of_the_noise",
    ),
    "noise has the deviation's logarithm": (
        "algos/soft_policies.py",
        "jnp.tanh(mean + jnp.exp(log_std) * noise), carry",
        "jnp.tanh(mean + log_std * noise), carry",
        "test_actions_are_those_of_the_noise",
    ),
    "noise is not counted down": (
        "algos/soft_policies.py",
        "carry.left - 1)",
        "carry.left)",
        "test_actions_are_those_of_the_noise",
    ),
    "a hold goes on in the next episode": (
        "algos/soft_policies.py",
        "fresh, rows = carry.left == 0, len(mean)",
        "fresh, rows = (carry.left == 0) & (carry.noise != 0).any(-1), len(mean)",
        "test_episodes_begin_with_noise_of_their_own",
    ),
    "evaluation explores": (
        "algos/sac.py",
        "if explore else (policy.mode(outputs), carry)",
        "if True else (policy.mode(outputs), carry)",
        "test_evaluation_ignores_the_noise",
    ),
    "evaluation uses the noise": (
        "algos/soft_policies.py",
        "mode=lambda outputs: jnp.tanh(outputs[0])",
        "mode=lambda outputs: jnp.tanh(outputs[0] + jnp.exp(outputs[1]))",
        "test_evaluation_ignores_the_noise",
    ),
    "all rows draw one action": (
        "algos/soft_policies.py",
        "jax.random.categorical(key, logits).astype",
        "jnp.argmax(logits + jax.random.gumbel(key, logits.shape[-1:]), -1).astype",
        "test_discrete_actions_follow_the_softmax",
    ),
    "discrete evaluation takes the least likely": (
        "algos/soft_policies.py",
        "jnp.argmax(logits, -1)",
        "jnp.argmin(logits, -1)",
        "test_discrete_actions_follow_the_softmax",
    ),
    "a target that is given has the factor": (
        "algos/soft_policies.py",
        "return cfg.target_entropy\n",
        "return cfg.target_entropy_factor * cfg.target_entropy\n",
        "test_target_entropies",
    ),
    "more than the largest entropy": (
        "algos/soft_policies.py",
        "    if target >= limit:",
        "    if target > 2 * limit:",
        "test_what_no_policy_can_do_is_refused",
    ),
    "discrete noise is held": (
        "algos/soft_policies.py",
        'refuse_unused(cfg, "discrete actions", "noise_repeat")',
        "pass",
        "test_what_no_policy_can_do_is_refused",
    ),
    "chances are compiled": (
        "algos/soft_policies.py",
        "chances = -2.0 * np.log(np.arange(1, noise_repeat + 1, dtype=np.float32))",
        "chances = -2.0 * jnp.log(jnp.arange(1, noise_repeat + 1, dtype=jnp.float32))",
        "test_what_no_policy_can_do_is_refused",
    ),
}
