"""Returns over several steps, read from the ring, against plain loops over each environment's own stream."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl.ops import returns
from purerl.replay import n_step, ring
from purerl.types import Transition

pytestmark = pytest.mark.usefixtures("strict_ranks")
GAMMA = 0.9
STREAMS = 125
"""Of each of the eight shapes below: 1,000 in all."""
ROW = Transition(jnp.zeros(1), jnp.zeros(1), jnp.float32(0), jnp.zeros(1), jnp.bool(0), jnp.bool(0))


def plain(rewards, terminated, truncated, n):
    """Return the sum, the discount and the number of steps of the return from the first row of a stream."""
    total, factor = 0.0, 1.0
    for k, (reward, dead, cut) in enumerate(zip(rewards[:n], terminated, truncated, strict=False), 1):
        total, factor = total + factor * reward, factor * GAMMA
        if dead:
            return total, 0.0, k
        if cut:
            break
    return total, factor, k


def streams(seed, steps, envs):
    """Return transitions `[STREAMS, steps, envs]` with numbered observations and ends of both kinds."""
    noise, lead = np.random.default_rng(seed), (STREAMS, steps, envs)
    number = np.broadcast_to(np.arange(steps)[:, None] * 100.0 + np.arange(envs), lead)[..., None]
    ends = noise.random((2, *lead)) < 0.15
    reward = noise.normal(size=lead)
    obs = number.astype(np.float32)
    return Transition(obs, obs + 0.25, reward.astype(np.float32), obs + 0.5, *ends)


@pytest.mark.parametrize(
    ("envs", "rollout", "n", "writes"),
    [
        (1, 1, 1, 89),
        (1, 1, 3, 89),
        (2, 1, 2, 44),
        (2, 3, 6, 15),
        (3, 2, 4, 15),
        (5, 1, 5, 22),
        (8, 1, 3, 11),
        (4, 1, 6, 3),
    ],
)
def test_returns_are_those_of_the_streams(envs, rollout, n, writes):
    """After 3.7 turns of the ring, and before the first; rollouts of several steps; every row in use."""
    capacity = 24 if 24 % (envs * rollout) == 0 else 30
    steps = writes * rollout
    whole = streams(envs + 10 * n, steps, envs)

    def fill_and_read(whole):
        state = ring.init(ROW, capacity)
        for i in range(0, steps, rollout):
            state = ring.add(state, jax.tree.map(lambda leaf, i=i: leaf[i : i + rollout], whole))
        index = jnp.arange(capacity, dtype=jnp.int32)
        return n_step.read(state, index, envs, n, GAMMA)

    rows, discount = jax.tree.map(np.asarray, jax.jit(jax.vmap(fill_and_read))(whole))
    held = min(capacity // envs, steps)
    for age in range(held):  # from the newest step back
        step = steps - 1 - age
        for env in range(envs):
            slot = (step * envs + env) % capacity
            for s in range(STREAMS):
                stream = [np.asarray(leaf)[s, step:, env] for leaf in (whole.reward, *whole[4:6])]
                total, factor, k = plain(*stream, n)
                last = step + k - 1
                np.testing.assert_allclose(rows.reward[s, slot], total, 1e-5, 1e-5)
                np.testing.assert_allclose(discount[s, slot], factor, 1e-5)
                assert rows.obs[s, slot] == whole.obs[s, step, env]
                assert rows.action[s, slot] == whole.action[s, step, env]
                assert rows.next_obs[s, slot] == whole.next_obs[s, last, env]
                assert rows.terminated[s, slot] == whole.terminated[s, last, env]
                assert rows.truncated[s, slot] == whole.truncated[s, last, env]


@pytest.mark.parametrize("n", [1, 2, 3, 9])
def test_sums_from_every_step_are_those_of_a_loop(n):
    noise = np.random.default_rng(n)
    reward, ends = noise.normal(size=(7, 40)).astype(np.float32), noise.random((2, 7, 40)) < 0.2
    total, discount, last = jax.jit(returns.n_step, static_argnums=4)(reward, *ends, GAMMA, n)
    for t in range(7):
        for i in range(40):
            expected, factor, k = plain(reward[t:, i], ends[0, t:, i], ends[1, t:, i], n)
            np.testing.assert_allclose(total[t, i], expected, 1e-5, 1e-5)
            np.testing.assert_allclose(discount[t, i], factor, 1e-5)
            assert last[t, i] == t + k - 1


def test_sums_by_hand():
    """Rewards 1, 2, 4, 8 and gamma 1/2, with a time limit, a death, or both on the second step."""
    reward, no, second = jnp.array([1.0, 2.0, 4.0, 8.0]), jnp.zeros(4, bool), jnp.arange(4) == 1
    for terminated, truncated, discount in (
        (no, no, 1 / 8),
        (no, second, 1 / 4),
        (second, no, 0),
        (second, second, 0),
    ):
        total, factor, last = returns.n_step(reward, terminated, truncated, 0.5, 3)
        ended = bool((terminated | truncated).any())
        assert (
            total[0] == (2.0 if ended else 3.0) and factor[0] == discount and last[0] == (1 if ended else 2)
        )
        assert total[2] == 8.0 and factor[2] == 1 / 4 and last[2] == 3  # the data end


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (1, [2.6, 4, 4.4, 5.3, 6.2, 8, 8, 8.9, 9.8, 12]),
        (2, [3.4, 4, 5.53, 6.62, 7.8, 8, 9.89, 10.98, 12.2, 12]),
        (10, [3.4, 4, 5.678, 6.78, 7.8, 8, 10.122, 11.22, 12.2, 12]),
    ],
)
def test_returns_are_those_of_tianshou(n, expected):
    """Numbers of its `test_returns.py`: rewards 1 to 12 in a ring of 10, and every fourth step terminates.

    The value of a step is minus the reward of the next, and gamma is 0.1.
    """
    reward = np.arange(1, 13, dtype=np.float32)[:, None]
    dead = reward % 4 == 0
    stream = Transition(
        reward[..., None], reward[..., None], reward, -1 - reward[..., None], dead, dead & False
    )
    state = ring.init(ROW, 10)
    for t in range(12):
        state = ring.add(state, jax.tree.map(lambda leaf, t=t: leaf[t : t + 1], stream))
    rows, discount = n_step.read(state, jnp.int32([2, 3, 4, 5, 6, 7, 8, 9, 0, 1]), 1, n, 0.1)
    np.testing.assert_allclose(rows.reward + discount * rows.next_obs[:, 0], expected, rtol=1e-6)


@pytest.mark.parametrize("n", [1, 3])
def test_an_empty_buffer_gives_zeros(n):
    state = ring.init(ROW, 12)
    found = n_step.read(state, jnp.zeros(5, jnp.int32), 2, n, 0.9)
    assert not any(leaf.any() for leaf in jax.tree.leaves(found))


MUTANTS = {
    "the ring is not closed": (
        "replay/n_step.py",
        "window = (index[None] + num_envs * steps) % capacity",
        "window = jnp.minimum(index[None] + num_envs * steps, capacity - 1)",
        "test_returns_are_those_of_the_streams",
    ),
    "the next environment's row": (
        "replay/n_step.py",
        "window = (index[None] + num_envs * steps)",
        "window = (index[None] + steps)",
        "test_returns_are_those_of_the_streams",
    ),
    "a return goes on into the oldest row": (
        "replay/n_step.py",
        "truncated | newest, gamma",
        "truncated, gamma",
        "test_returns_are_those_of_the_streams",
    ),
    "the newest row is one of any environment": (
        "replay/n_step.py",
        "% capacity // num_envs)[None]",
        "% capacity)[None]",
        "test_returns_are_those_of_the_streams",
    ),
    "the next observation is that of the first step": (
        "replay/n_step.py",
        "rows_at(state.rows.next_obs, of_last(window))",
        "rows_at(state.rows.next_obs, index)",
        "test_returns_are_those_of_the_streams",
    ),
    "flags of the first step": (
        "replay/n_step.py",
        "of_last(truncated)",
        "truncated[0]",
        "test_returns_are_those_of_the_streams",
    ),
    "a sum goes on after a time limit": (
        "ops/returns.py",
        "ended = (terminated | truncated).at[-1].set(True)  # no sum",
        "ended = terminated.at[-1].set(True)  # no sum",
        "test_sums_by_hand",
    ),
    "one discount for all": (
        "ops/returns.py",
        "discount = jnp.where(running, discount * gamma, discount)",
        "discount = jnp.full_like(discount, gamma)",
        "test_sums_by_hand",
    ),
    "a death goes on": (
        "ops/returns.py",
        "return total, jnp.where(dead, 0.0, discount), row + steps",
        "return total, discount, row + steps",
        "test_sums_by_hand",
    ),
    "rewards without a discount": (
        "ops/returns.py",
        "total += jnp.where(running, discount * ahead(reward), 0.0)",
        "total += jnp.where(running, ahead(reward), 0.0)",
        "test_sums_by_hand",
    ),
    "an empty buffer has a future": (
        "replay/n_step.py",
        "jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(gather)",
        "jnp.ones(leaf.shape, leaf.dtype), jax.eval_shape(gather)",
        "test_an_empty_buffer_gives_zeros",
    ),
    "the discount of one step": (
        "ops/returns.py",
        "discount = jnp.where(running, discount * gamma, discount)",
        "discount = jnp.where(running, jnp.full_like(discount, gamma), discount)",
        "test_returns_are_those_of_tianshou",
    ),
}
