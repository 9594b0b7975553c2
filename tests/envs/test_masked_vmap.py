"""A masked vmap runs only the rows that need it, each with its own arguments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import AS_USERS_DO

from purerl.envs.masked_vmap import where_needed
from purerl.envs.mujoco.tasks import half_cheetah


def draw(needed, key, scale):
    """Return different numbers for every key."""
    del needed
    return {"draw": scale * jax.random.uniform(key, (2,)), "row": jnp.stack([scale, scale])}


@pytest.mark.parametrize("rows_at_once", [1, 5, 1000])
@pytest.mark.parametrize("shape", [(), (7,), (2, 3, 2)])
def test_needed_rows_get_their_own_result(shape, rows_at_once):
    keys = jax.random.split(jax.random.key(0), shape)
    some = np.array(jax.random.bernoulli(jax.random.key(1), 0.5, shape))
    if shape:
        some[(0,) * len(shape)] = False  # the row that fills unused places
    scale = jnp.float32(3)  # the same for all rows
    masked, plain = where_needed(draw, lambda num: min(num, rows_at_once)), draw
    for _ in shape:
        masked, plain = (jax.vmap(function, in_axes=(0, 0, None)) for function in (masked, plain))
    masked, every = jax.jit(masked), plain(some, keys, scale)
    for needed in (np.zeros(shape, bool), some, np.ones(shape, bool)):
        rows = masked(needed, keys, scale)
        for name in every:
            np.testing.assert_allclose(rows[name][needed], every[name][needed], rtol=1e-6)
            if rows_at_once < 1000 or not needed.any():
                assert not np.asarray(rows[name])[~needed].any()


def test_number_of_rounds():
    """Eight of 64 rows, four at a time, take two rounds; no rows take none."""
    rounds = []

    def count(needed, x):
        jax.debug.callback(lambda: rounds.append(1))
        return x

    masked = jax.jit(jax.vmap(where_needed(count, lambda num: 4)))
    for num, expected in ((8, 2), (9, 3), (0, 0), (64, 16)):
        rounds.clear()
        jax.block_until_ready(masked(jnp.arange(64) % 64 < num, jnp.arange(64.0)))
        jax.effects_barrier()
        assert len(rounds) in (expected, 4 * expected), "once per round, or once per row of a round"


def test_batched_and_shared_arguments_mix():
    masked = where_needed(lambda needed, a, b: a + 10 * b, lambda num: 2)
    over_a = jax.vmap(masked, in_axes=(None, 0, None))
    both = jax.vmap(over_a, in_axes=(0, None, 0))
    result = both(jnp.array([True, False, True]), jnp.arange(4.0), jnp.arange(3.0))
    expected = np.arange(4.0) + 10 * np.arange(3.0)[:, None]
    np.testing.assert_array_equal(result, expected * [[1], [0], [1]])


@pytest.mark.slow
@pytest.mark.parametrize("num_envs", [1, 8])
def test_unneeded_reset_stays_in_its_branch(num_envs):
    """XLA hoists invariant work out of loops, but not out of branches."""
    env = half_cheetah.make(engine="mujoco", route="native")

    def body(loop, keys):
        obs, state = loop
        obs, state, _, terminated, truncated, _ = jax.vmap(env.step)(keys, state, jnp.zeros((num_envs, 6)))
        ended = terminated | truncated
        fresh = jax.vmap(env.reset, (0, None, 0))(keys, None, ended)
        rows = lambda leaf: ended.reshape(ended.shape + (1,) * (leaf.ndim - 1))
        return jax.tree.map(lambda new, old: jnp.where(rows(new), new, old), fresh, (obs, state)), None

    keys = jax.random.split(jax.random.key(0), (5, num_envs))
    start = jax.vmap(env.reset)(keys[0])
    lowered = jax.jit(lambda start: jax.lax.scan(body, start, keys)[0]).lower(start)
    program = lowered.compile(AS_USERS_DO).as_text()
    computations = program.split("\n\n")
    with_step = [part for part in computations if '"purerl_mujoco_step"' in part]
    with_reset = [part for part in computations if '"purerl_mujoco_reset"' in part]
    assert with_step and with_reset and not set(with_step) & set(with_reset)
