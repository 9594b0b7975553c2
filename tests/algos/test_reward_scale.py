"""Scale of rewards of off-policy methods, by the returns of a stream."""

import jax
import numpy as np

from purerl import normalize
from purerl.types import Transition


def observed(reward, terminated, truncated, rollouts):
    """Return the statistics of a stream `[T, N]` that comes in several rollouts, with gamma = 0.9."""

    def observe(known, row):
        return normalize.observe_returns(known, Transition((), (), row[0], (), *row[1:]), 0.9), ()

    cut = lambda leaf: leaf.reshape(rollouts, -1, *leaf.shape[1:])
    known = normalize.init_returns(reward.shape[1])
    return jax.lax.scan(observe, known, jax.tree.map(cut, (reward, terminated, truncated)))[0]


def test_rewards_are_scaled_by_deviation_or_largest_return():
    """The deviation where rewards are dense, a fifth of the largest return where they are rare."""
    draw, shape = np.random.default_rng(1), (4, 60, 3)
    size = np.array([1, 1e3, 1, 1e3])[:, None, None] * (
        draw.random(shape) < [[[1]], [[1]], [[0.02]], [[0.02]]]
    )
    reward, (terminated, truncated) = (
        np.float32(draw.normal(size=shape) * size),
        draw.random((2, *shape)) < 0.1,
    )
    found, so_far = np.zeros(shape), np.zeros((4, 3))
    for t in range(60):
        found[:, t] = np.float64(reward[:, t]) + 0.9 * so_far
        so_far = np.where(terminated[:, t] | truncated[:, t], 0, found[:, t])
    deviation, bound = np.sqrt(found.var((1, 2)) + 1e-8), np.abs(found).max((1, 2)) / 5
    assert (deviation > bound).tolist() == [True, True, False, False]
    for rollouts in (1, 15):
        look = lambda *stream, rollouts=rollouts: observed(*stream, rollouts)
        known = jax.jit(jax.vmap(look))(reward, terminated, truncated)
        scale = jax.vmap(normalize.reward_scale)(known)
        np.testing.assert_allclose(scale, np.maximum(deviation, bound), 1e-5)
        np.testing.assert_allclose(known.so_far, so_far, 1e-5, 1e-4)


def test_no_scaled_return_exceeds_the_bound():
    """Not the first reward of all, nor one that dwarfs the others; and rewards of 0 stay so."""
    for rewards in ([7.0], [-7.0], [0.1, -1e6], [0.0]):
        reward, off = np.float32(rewards)[:, None], np.zeros((len(rewards), 1), bool)
        scale = normalize.reward_scale(observed(reward, off, off, 1))
        assert np.abs(reward).max() / scale <= normalize.RETURN_BOUND * (1 + 1e-6)
        assert scale > 0


MUTANTS = {
    "a return goes on after a time limit": (
        "normalize.py",
        "ended = transition.terminated | transition.truncated\n    sums, so_far = returns.discounted_so_far("
        "transition.reward, ended, gamma,",
        "ended = transition.terminated\n    sums, so_far = returns.discounted_so_far("
        "transition.reward, ended, gamma,",
        "test_rewards_are_scaled_by_deviation_or_largest_return",
    ),
    "returns start over in each rollout": (
        "normalize.py",
        "transition.reward, ended, gamma, known.so_far)",
        "transition.reward, ended, gamma, 0.0 * known.so_far)",
        "test_rewards_are_scaled_by_deviation_or_largest_return",
    ),
    "the largest return is that of the last rollout": (
        "normalize.py",
        "jnp.maximum(known.largest, jnp.abs(sums).max())",
        "jnp.abs(sums).max()",
        "test_rewards_are_scaled_by_deviation_or_largest_return",
    ),
    "the largest return has a sign": (
        "normalize.py",
        "jnp.abs(sums).max()",
        "sums.max()",
        "test_no_scaled_return_exceeds_the_bound",
    ),
    "the deviation alone": (
        "normalize.py",
        "jnp.maximum(deviation, known.largest / RETURN_BOUND)",
        "deviation",
        "test_rewards_are_scaled_by_deviation_or_largest_return",
    ),
}
