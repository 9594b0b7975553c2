"""Advantages against a plain loop, against rlax, and against rows worked out by hand."""

import itertools

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from purerl.ops.returns import discounted_so_far, gae, lambda_returns, n_step

pytestmark = pytest.mark.usefixtures("strict_ranks")

CASES, STEPS = 250, 40
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


def random_cases(ending):
    """`CASES` rollouts that end as `ENDINGS` says, with a gamma and a lambda for each."""
    rng = np.random.default_rng(list(ENDINGS).index(ending))
    reward, value, final = rng.normal(size=(3, CASES, STEPS)).astype(np.float32)
    terminated, truncated = (rng.random((CASES, STEPS)) < rate for rate in ENDINGS[ending])
    gamma, gae_lambda = rng.choice([0, 0.5, 0.9, 0.99, 1], (2, CASES)).astype(np.float32)
    return reward, value, final, terminated, truncated, gamma, gae_lambda


def consistent(value, final, terminated, truncated):
    """Values of `next_obs`: of the row after, and `final` where an episode or the rollout ends."""
    following = np.append(value[..., 1:], final[..., -1:], axis=-1)
    return np.where(terminated | truncated, final, following)


@pytest.mark.parametrize("ending", ENDINGS)
def test_equals_the_plain_loop(batched_gae, ending):
    """Deaths and time limits are not the same, and neither lets anything through."""
    rows = random_cases(ending)  # values of next_obs are unrelated to those of the row after
    advantage, target = batched_gae(*rows)
    expected = np.array([loop(*row) for row in zip(*rows, strict=True)])
    np.testing.assert_allclose(advantage, expected, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(target, expected + rows[1], rtol=1e-5, atol=1e-4)


def test_equals_rlax_on_every_episode(batched_gae):
    """Our masks do what cutting 1,000 rollouts into episodes by hand does."""
    cases = [np.concatenate(rows) for rows in zip(*map(random_cases, ENDINGS), strict=True)]
    reward, value, final, terminated, truncated, gamma, gae_lambda = cases
    ended = terminated | truncated
    next_value = consistent(value, final, terminated, truncated)
    spans = [
        (case, *span)
        for case in range(len(reward))
        for span in itertools.pairwise([0, *np.flatnonzero(ended[case, :-1]) + 1, STEPS])
    ]
    assert len(reward) == 1000 and len(spans) > 8000
    # Each episode stands at the end of a row of zeros, so that all have one shape.
    rewards, discounts, values = (np.zeros((len(spans), n), np.float32) for n in (STEPS, STEPS, STEPS + 1))
    for row, (case, start, stop) in enumerate(spans):
        at = slice(STEPS - (stop - start), STEPS)
        rewards[row, at], values[row, at] = reward[case, start:stop], value[case, start:stop]
        discounts[row, at] = gamma[case] * ~terminated[case, start:stop]
        values[row, -1] = next_value[case, stop - 1]
    lambdas = gae_lambda[[case for case, *_ in spans]]
    oracle = jax.jit(jax.vmap(rlax.truncated_generalized_advantage_estimation))
    rows = np.asarray(oracle(rewards, discounts, lambdas, values))
    expected = np.concatenate([row[a - b :] for row, (_, a, b) in zip(rows, spans, strict=True)])
    advantage, _ = batched_gae(reward, value, next_value, terminated, truncated, gamma, gae_lambda)
    np.testing.assert_allclose(advantage.ravel(), expected, rtol=1e-5, atol=1e-4)


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


@pytest.fixture(scope="module")
def batched_returns():
    """One program for every random case: the leading axis is the case."""
    return jax.jit(jax.vmap(lambda_returns))


@pytest.mark.parametrize("ending", ENDINGS)
def test_lambda_returns_equal_the_plain_loop(batched_returns, ending):
    """Also where the value of `next_obs` is not that of the row after."""

    def plain(reward, next_value, terminated, truncated, gamma, lambda_):
        target = np.zeros(STEPS)
        for t in reversed(range(STEPS)):
            alone = truncated[t] or t == STEPS - 1
            future = next_value[t]
            if not alone:
                future = (1 - lambda_) * next_value[t] + lambda_ * target[t + 1]
            target[t] = reward[t] + (0 if terminated[t] else gamma * future)
        return target

    reward, _, *rows = random_cases(ending)
    target = batched_returns(reward, *rows)
    expected = np.array([plain(*row) for row in zip(reward, *rows, strict=True)])
    np.testing.assert_allclose(target, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("ending", ENDINGS)
def test_lambda_returns_are_the_targets_of_gae(batched_gae, batched_returns, ending):
    """If the values agree from row to row, as one network's do."""
    reward, value, final, *ends, gamma, lambda_ = random_cases(ending)
    next_value = consistent(value, final, *ends)
    _, expected = batched_gae(reward, value, next_value, *ends, gamma, lambda_)
    target = batched_returns(reward, next_value, *ends, gamma, lambda_)
    np.testing.assert_allclose(target, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("lambda_", "target"),
    [
        (0.0, [11.0, 1.0, 21.0, 31.0, 41.0, 51.0]),
        (1.0, [1.5, 1.0, 21.0, 1 + 26.5 / 2, 26.5, 51.0]),
        (0.5, [1 + (20 + 1) / 4, 1.0, 21.0, 1 + (60 + 1 + (80 + 51) / 4) / 4, 1 + (80 + 51) / 4, 51.0]),
    ],
)
def test_lambda_returns_by_hand(lambda_, target):
    """A death at the time limit, a time limit, and an episode that outlasts the rollout.

    Rewards are 1 and gamma is 1/2.
    """
    next_value = jnp.array([20.0, 20.0, 40.0, 60.0, 80.0, 100.0])
    terminated = jnp.array([False, True, False, False, False, False])
    truncated = jnp.array([False, True, True, False, False, False])
    got = lambda_returns(jnp.ones(6), next_value, terminated, truncated, 0.5, lambda_)
    np.testing.assert_allclose(got, target, rtol=1e-6)


def test_lambda_returns_stop_at_an_end():
    """Not even a NaN: what a death leads to, and what follows a time limit, is not looked at."""
    nan = jnp.nan
    reward, next_value = jnp.array([1.0, 1.0, nan]), jnp.array([nan, 20.0, nan])
    first, second = jnp.array([True, False, False]), jnp.array([False, True, False])
    target = lambda_returns(reward, next_value, first, second, 0.5, 0.9)
    np.testing.assert_allclose(target[:2], [1.0, 11.0])


def test_lambda_returns_refuse_a_stray_axis():
    """A value of shape [T, 1] must not become [T, T]."""
    flat, tall = jnp.zeros(5), jnp.zeros((5, 1))
    with pytest.raises(AssertionError):
        lambda_returns(flat, tall, flat > 1, flat > 1, 0.9, 0.9)


def stream(rate, steps=60, envs=3):
    rng = np.random.default_rng(8)
    return rng.normal(1, 2, (steps, envs)).astype(np.float32), rng.random((steps, envs)) < rate


@pytest.mark.parametrize("cut", [1, 17, 30, 59])
def test_sums_so_far_however_the_stream_is_cut(cut):
    """Two rollouts in a row are one, and both are the plain loop's."""
    reward, ended = stream(0.2)
    assert ended[:, 0].any() and not ended[cut - 1].all()
    before = np.array([0.5, -1.0, 3.0], np.float32)
    expected, carried = np.zeros(reward.shape), np.float64(before)
    for t in range(len(reward)):
        expected[t] = reward[t] + 0.9 * carried
        carried = np.where(ended[t], 0, expected[t])
    run = jax.jit(discounted_so_far)
    first, between = run(reward[:cut], ended[:cut], 0.9, before)
    second, after = run(reward[cut:], ended[cut:], 0.9, between)
    np.testing.assert_allclose(jnp.concatenate([first, second]), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(after, carried, rtol=1e-5, atol=1e-5)


def test_sums_so_far_by_hand():
    """Reward 1, gamma 1/2: the step that ends an episode is its last, and the next one starts from 0."""
    ended = jnp.array([False, False, True, False])[:, None]
    sums, after = discounted_so_far(jnp.ones((4, 1)), ended, 0.5, jnp.array([4.0]))
    np.testing.assert_array_equal(sums[:, 0], [3.0, 2.5, 2.25, 1.0])
    assert after.item() == 1.0
    assert discounted_so_far(jnp.ones((1, 1)), jnp.ones((1, 1), bool), 0.5, jnp.zeros(1))[1].item() == 0.0


class Rewards(gymnasium.Env):
    """Nothing but a list of rewards, without an end."""

    action_space = observation_space = gymnasium.spaces.Discrete(1)

    def __init__(self, rewards):
        self.rewards = iter(rewards)

    def step(self, action):
        return 0, next(self.rewards), False, False, {}


def test_sums_so_far_are_gymnasiums():
    """So is their variance, as long as nothing ends: its wrapper does not cut at time limits."""
    reward, ended = stream(0.0, steps=2000, envs=1)
    env = gymnasium.wrappers.NormalizeReward(Rewards(reward[:, 0].tolist()), gamma=0.95)
    expected = [(env.step(0), env.discounted_reward.item())[1] for _ in reward]
    sums, _ = discounted_so_far(reward, ended, 0.95, jnp.zeros(1))
    np.testing.assert_allclose(sums[:, 0], expected, rtol=1e-4, atol=1e-4)
    assert sums.var() == pytest.approx(env.return_rms.var.item(), rel=1e-3)


def test_sums_so_far_refuse_a_stray_axis():
    """The carried sum has no time axis, and every environment has its own."""
    reward, never = jnp.zeros((5, 2)), jnp.zeros((5, 2), bool)
    for before in (jnp.zeros(()), jnp.zeros(1), jnp.zeros((1, 2))):
        with pytest.raises(AssertionError):
            discounted_so_far(reward, never, 0.9, before)


@pytest.mark.parametrize(
    ("n", "sums", "discounts", "last"),
    [
        (1, [1, 2, 4, 8, 16, 32], [1 / 2, 1 / 2, 1 / 2, 0, 1 / 2, 1 / 2], [0, 1, 2, 3, 4, 5]),
        (3, [2, 2, 8, 8, 32, 32], [1 / 4, 1 / 2, 0, 0, 1 / 4, 1 / 2], [1, 1, 3, 3, 5, 5]),
        (9, [2, 2, 8, 8, 32, 32], [1 / 4, 1 / 2, 0, 0, 1 / 4, 1 / 2], [1, 1, 3, 3, 5, 5]),
    ],
)
def test_n_step_returns_by_hand(n, sums, discounts, last):
    """Rewards 1, 2, 4, ..., gamma 1/2; a time limit at step 1, a death at it at step 3, then the last row.

    Where a sum of 3 is cut at the second step, the value behind it counts gamma^2.
    """
    reward = 2.0 ** jnp.arange(6)
    terminated, truncated = jnp.arange(6) == 3, (jnp.arange(6) == 1) | (jnp.arange(6) == 3)
    found = n_step(reward, terminated, truncated, 0.5, n)
    for value, expected in zip(found, (sums, discounts, last), strict=True):
        np.testing.assert_array_equal(value, expected)
    assert found[2].dtype == jnp.int32


def test_n_step_returns_look_no_further_than_an_end():
    """Not even at a NaN, whatever the reason of the end, and whatever the axes after time."""
    reward = jnp.array([1.0, 2.0, jnp.nan, jnp.nan])[:, None, None] * jnp.ones((1, 2, 3))
    flags = jnp.zeros((4, 2, 3), bool).at[1].set(True)
    for ends, discount in (((flags, ~flags & False), 0.0), ((~flags & False, flags), 0.25)):
        total, factor, last = n_step(reward, *ends, 0.5, 4)
        assert total.shape == factor.shape == last.shape == (4, 2, 3)
        np.testing.assert_array_equal(total[0], np.full((2, 3), 2.0))
        np.testing.assert_array_equal(factor[0], np.full((2, 3), discount))


def test_n_step_returns_refuse_a_stray_axis():
    """A flag of shape [T, 1] must not become [T, T]."""
    flat, tall = jnp.zeros(5), jnp.zeros((5, 1), bool)
    with pytest.raises(AssertionError):
        n_step(flat, tall, tall, 0.9, 2)


MUTANTS = {
    "n-step: gamma of one step": (
        "ops/returns.py",
        "discount = jnp.where(running, discount * gamma, discount)",
        "discount = jnp.where(running, jnp.full_like(discount, gamma), discount)",
        "test_n_step_returns_by_hand",
    ),
    "n-step: gamma goes on behind the end": (
        "ops/returns.py",
        "discount = jnp.where(running, discount * gamma, discount)",
        "discount = discount * gamma",
        "test_n_step_returns_by_hand",
    ),
    "n-step: a death at the time limit is none": (
        "ops/returns.py",
        "dead |= running & ahead(terminated)",
        "dead |= running & ahead(terminated & ~truncated)",
        "test_n_step_returns_by_hand",
    ),
    "n-step: a death behind the end counts": (
        "ops/returns.py",
        "dead |= running & ahead(terminated)",
        "dead |= ahead(terminated)",
        "test_n_step_returns_by_hand",
    ),
    "n-step: the last row is followed by the first": (
        "ops/returns.py",
        "(terminated | truncated).at[-1].set(True)  # no sum",
        "terminated | truncated  # no sum",
        "test_n_step_returns_by_hand",
    ),
    "n-step: 0 times NaN": (
        "ops/returns.py",
        "total += jnp.where(running, discount * ahead(reward), 0.0)",
        "total += running * discount * ahead(reward)",
        "test_n_step_returns_look_no_further_than_an_end",
    ),
    "n-step: the last step is one behind": (
        "ops/returns.py",
        "steps = jnp.full(reward.shape, -1, jnp.int32)",
        "steps = jnp.full(reward.shape, 0, jnp.int32)",
        "test_n_step_returns_by_hand",
    ),
    "n-step: any shape": (
        "ops/returns.py",
        "    chex.assert_equal_shape([reward, terminated, truncated])\n    ended",
        "    ended",
        "test_n_step_returns_refuse_a_stray_axis",
    ),
    "gae: a time limit is a death": (
        "ops/returns.py",
        "jnp.where(terminated, 0.0, next_value)",
        "jnp.where(terminated | truncated, 0.0, next_value)",
        "test_one_row_by_hand",
    ),
    "gae: a death at the time limit is none": (
        "ops/returns.py",
        "jnp.where(terminated, 0.0, next_value)",
        "jnp.where(terminated & ~truncated, 0.0, next_value)",
        "test_one_row_by_hand",
    ),
    "gae: bootstraps from the value before": (
        "ops/returns.py",
        "jnp.where(terminated, 0.0, next_value)",
        "jnp.where(terminated, 0.0, value)",
        "test_one_row_by_hand",
    ),
    "gae: leaks across a time limit": (
        "ops/returns.py",
        "jnp.where(terminated | truncated, 0.0, 1.0)",
        "jnp.where(terminated, 0.0, 1.0)",
        "test_nothing_leaks_across_the_end_of_an_episode",
    ),
    "gae: leaks across a death": (
        "ops/returns.py",
        "jnp.where(terminated | truncated, 0.0, 1.0)",
        "jnp.where(truncated, 0.0, 1.0)",
        "test_nothing_leaks_across_the_end_of_an_episode",
    ),
    "gae: cuts one step early": (
        "ops/returns.py",
        "jnp.where(terminated | truncated, 0.0, 1.0)",
        "jnp.roll(jnp.where(terminated | truncated, 0.0, 1.0), -1, 0)",
        "test_nothing_leaks_across_the_end_of_an_episode",
    ),
    "gae: without lambda": (
        "ops/returns.py",
        "gamma * gae_lambda *",
        "gamma *",
        "test_equals_the_plain_loop",
    ),
    "gae: runs forwards": (
        "ops/returns.py",
        "(delta, decay), reverse=True",
        "(delta, decay)",
        "test_equals_rlax_on_every_episode",
    ),
    "gae: target of the next state": (
        "ops/returns.py",
        "advantage + value",
        "advantage + next_value",
        "test_one_row_by_hand",
    ),
    "lambda return: a time limit is a death": (
        "ops/returns.py",
        "jnp.where(terminated, 0.0, future)",
        "jnp.where(terminated | truncated, 0.0, future)",
        "test_lambda_returns_by_hand",
    ),
    "lambda return: a death at the time limit is none": (
        "ops/returns.py",
        "jnp.where(terminated, 0.0, future)",
        "jnp.where(terminated & ~truncated, 0.0, future)",
        "test_lambda_returns_by_hand",
    ),
    "lambda return: the dead go on": (
        "ops/returns.py",
        "jnp.where(terminated, 0.0, future)",
        "future",
        "test_lambda_returns_by_hand",
    ),
    "lambda return: 0 times NaN": (
        "ops/returns.py",
        "jnp.where(terminated, 0.0, future)",
        "(1.0 - terminated) * future",
        "test_lambda_returns_stop_at_an_end",
    ),
    "lambda return: leaks across a time limit": (
        "ops/returns.py",
        "jnp.where(truncated, next_value, mixed)",
        "mixed",
        "test_lambda_returns_equal_the_plain_loop",
    ),
    "lambda return: cuts one step early": (
        "ops/returns.py",
        "rows = (reward, next_value, terminated, truncated)",
        "rows = (reward, next_value, terminated, jnp.roll(truncated, -1, 0))",
        "test_lambda_returns_are_the_targets_of_gae",
    ),
    "lambda return: lambda turned round": (
        "ops/returns.py",
        "(1.0 - lambda_) * next_value + lambda_ * following",
        "lambda_ * next_value + (1.0 - lambda_) * following",
        "test_lambda_returns_are_the_targets_of_gae",
    ),
    "lambda return: nothing after the rollout": (
        "ops/returns.py",
        "jnp.asarray(next_value[-1]), rows",
        "jnp.zeros_like(next_value[-1]), rows",
        "test_lambda_returns_by_hand",
    ),
    "lambda return: runs forwards": (
        "ops/returns.py",
        "rows, reverse=True",
        "rows",
        "test_lambda_returns_equal_the_plain_loop",
    ),
    "lambda return: any shape": (
        "ops/returns.py",
        "    chex.assert_equal_shape([reward, next_value, terminated, truncated])\n",
        "",
        "test_lambda_returns_refuse_a_stray_axis",
    ),
    "so far: never starts anew": (
        "ops/returns.py",
        "return jnp.where(ended, 0.0, so_far), so_far",
        "return so_far, so_far",
        "test_sums_so_far_by_hand",
    ),
    "so far: starts anew a step early": (
        "ops/returns.py",
        "return jnp.where(ended, 0.0, so_far), so_far",
        "return so_far * ~ended, so_far * ~ended",
        "test_sums_so_far_by_hand",
    ),
    "so far: every rollout starts anew": (
        "ops/returns.py",
        "jnp.asarray(before), (reward, ended)",
        "jnp.zeros_like(before), (reward, ended)",
        "test_sums_so_far_however_the_stream_is_cut",
    ),
    "so far: discounts the present": (
        "ops/returns.py",
        "reward + gamma * before",
        "gamma * (reward + before)",
        "test_sums_so_far_are_gymnasiums",
    ),
    "so far: runs backwards": (
        "ops/returns.py",
        "(reward, ended))\n    return sums",
        "(reward, ended), reverse=True)\n    return sums",
        "test_sums_so_far_are_gymnasiums",
    ),
    "so far: any shape": (
        "ops/returns.py",
        "    chex.assert_equal_shape([reward[0], before])\n",
        "",
        "test_sums_so_far_refuse_a_stray_axis",
    ),
}
