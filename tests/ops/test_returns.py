"""Advantages against a plain loop, against rlax, and against rows worked out by hand."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from purerl.ops.returns import gae

pytestmark = pytest.mark.usefixtures("strict_ranks")

CASES, STEPS = 64, 40
ENDINGS = {"no end": (0, 0), "deaths": (0.2, 0), "time limits": (0, 0.2), "both": (0.3, 0.3)}


def loop(reward, value, next_value, terminated, truncated, gamma, gae_lambda):
    """The definition, one row at a time, in float64."""
    advantage, following = np.zeros(len(reward)), 0.0
    for t in reversed(range(len(reward))):
        future = 0.0 if terminated[t] else next_value[t]
        following = 0.0 if terminated[t] or truncated[t] else following
        following = reward[t] + gamma * future - value[t] + gamma * gae_lambda * following
        advantage[t] = following
    return advantage


@pytest.fixture(scope="module")
def batched_gae():
    """One program for every random case: the leading axis is the case."""
    return jax.jit(jax.vmap(gae))


@pytest.mark.parametrize("ending", ENDINGS)
def test_equals_the_plain_loop(batched_gae, ending):
    """Deaths and time limits are not the same, and neither lets anything through."""
    rng = np.random.default_rng(list(ENDINGS).index(ending))
    reward, value, next_value = rng.normal(size=(3, CASES, STEPS)).astype(np.float32)
    terminated, truncated = (rng.random((CASES, STEPS)) < rate for rate in ENDINGS[ending])
    gamma, gae_lambda = rng.choice([0, 0.5, 0.9, 0.99, 1], (2, CASES)).astype(np.float32)
    rows = (reward, value, next_value, terminated, truncated, gamma, gae_lambda)
    advantage, target = batched_gae(*rows)
    expected = np.array([loop(*row) for row in zip(*rows, strict=True)])
    np.testing.assert_allclose(advantage, expected, rtol=1e-5, atol=3e-5)
    np.testing.assert_allclose(target, expected + value, rtol=1e-5, atol=3e-5)


def test_equals_rlax_on_every_episode():
    """Our masks do what cutting the rollout into episodes by hand does."""
    gamma, gae_lambda, rng = 0.97, 0.9, np.random.default_rng(5)
    reward, value, final = rng.normal(size=(3, STEPS)).astype(np.float32)
    terminated, truncated = rng.random((2, STEPS)) < 0.12
    ended = terminated | truncated
    assert terminated.sum() > 2 and truncated.sum() > 2
    next_value = np.where(ended, final, np.append(value[1:], final[-1]))

    def alone(start, stop):
        """The episode at the end of a row of zeros, so that all have one shape."""
        row = lambda x: np.pad(x[start:stop], (STEPS - stop + start, 0))
        discount = gamma * (1 - terminated)
        return row(reward), row(discount), np.append(row(value), next_value[stop - 1])

    bounds = [0, *np.flatnonzero(ended[:-1]) + 1, STEPS]
    spans = list(itertools.pairwise(bounds))
    rewards, discounts, values = map(np.stack, zip(*[alone(*s) for s in spans], strict=True))
    oracle = jax.vmap(rlax.truncated_generalized_advantage_estimation, (0, 0, None, 0))
    rows = oracle(*map(jnp.float32, (rewards, discounts, gae_lambda, values)))
    expected = np.concatenate([row[a - b :] for row, (a, b) in zip(rows, spans, strict=True)])
    advantage, _ = gae(reward, value, next_value, terminated, truncated, gamma, gae_lambda)
    np.testing.assert_allclose(advantage, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("terminated", "truncated", "advantage"),
    [(False, False, 4.0), (True, False, -1.0), (False, True, 4.0), (True, True, -1.0)],
)
def test_one_row_by_hand(terminated, truncated, advantage):
    """r = 1, V = 2, V' = 10, gamma = 1/2: only a death drops V', and it wins over a time limit."""
    row = [jnp.array([x]) for x in (1.0, 2.0, 10.0, terminated, truncated)]
    got, target = gae(*row, 0.5, 0.9)
    assert (got.item(), target.item()) == (advantage, advantage + 2.0)


@pytest.mark.parametrize("flag", ["terminated", "truncated"])
def test_nothing_leaks_across_the_end_of_an_episode(flag):
    """The step that ends an episode still feeds those before it, and hears none after it."""
    reward, flags = jnp.array([0.0, 0.0, 0.0, 1000.0]), jnp.array([False, True, False, False])
    zeros, never = jnp.zeros(4), jnp.zeros(4, bool)
    ends = {"terminated": never, "truncated": never} | {flag: flags}
    run = lambda reward: gae(reward, zeros, zeros, **ends, gamma=1.0, gae_lambda=1.0)[0]
    np.testing.assert_array_equal(run(reward), [0, 0, 1000, 1000])
    np.testing.assert_array_equal(run(reward.at[1].set(1.0)), [1, 1, 1000, 1000])


def test_the_right_values_leave_no_advantage():
    """Reward 1 for ever, cut every 8 steps: V = 1 / (1 - gamma) = 50 has no error anywhere."""
    value = jnp.full((24, 3), 50.0)
    truncated = jnp.broadcast_to((jnp.arange(24) % 8 == 7)[:, None], value.shape)
    never = jnp.zeros_like(truncated)
    advantage, _ = gae(jnp.ones_like(value), value, value, never, truncated, 0.98, 0.95)
    np.testing.assert_allclose(advantage, 0.0, atol=1e-4)


def test_trailing_axes_are_separate_columns():
    """Environments do not mix, whatever the axes after time."""
    rng = np.random.default_rng(1)
    reward, value, next_value = rng.normal(size=(3, 9, 2, 3)).astype(np.float32)
    terminated, truncated = rng.random((2, 9, 2, 3)) < 0.2
    rows = (reward, value, next_value, terminated, truncated)
    advantage, target = gae(*rows, 0.9, 0.8)
    assert advantage.shape == target.shape == (9, 2, 3)
    for i in np.ndindex(2, 3):
        column = loop(*(row[:, *i] for row in rows), 0.9, 0.8)
        np.testing.assert_allclose(advantage[:, *i], column, rtol=1e-5, atol=1e-5)


def test_a_stray_axis_is_refused():
    """A value of shape [T, 1] must not become [T, T]."""
    flat, tall = jnp.zeros(5), jnp.zeros((5, 1))
    with pytest.raises(AssertionError):
        gae(flat, tall, flat, flat > 1, flat > 1, 0.9, 0.9)
