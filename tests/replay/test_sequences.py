"""Windows of a replay buffer against a plain list of rows for each environment."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from purerl.replay import ring, sequences
from purerl.types import Transition

pytestmark = pytest.mark.usefixtures("strict_ranks")

MUTANTS = {
    "windows of the environment beside": (
        "replay/sequences.py",
        "index[None] + num_envs * steps",
        "index[None] + steps",
        "test_windows_are_those_of_a_plain_list",
    ),
    "the burn-in begins late": (
        "replay/sequences.py",
        "jnp.arange(-burn_in, length,",
        "jnp.arange(1 - burn_in, length + 1,",
        "test_windows_are_those_of_a_plain_list",
    ),
    "a window goes on behind the newest row": (
        "replay/sequences.py",
        "(-before <= steps) & (steps <= after)",
        "(-before <= steps) & (steps <= after + 1)",
        "test_windows_are_those_of_a_plain_list",
    ),
    "a window begins before the oldest row": (
        "replay/sequences.py",
        "(-before <= steps) & (steps <= after)",
        "steps <= after",
        "test_windows_are_those_of_a_plain_list",
    ),
    "the oldest row is that of a full ring": (
        "replay/sequences.py",
        "state.head - state.size, state.head - 1",
        "state.head, state.head - 1",
        "test_windows_are_those_of_a_plain_list",
    ),
    "rows outside are like others": (
        "replay/sequences.py",
        "rows._replace(truncated=rows.truncated | ~inside)",
        "rows",
        "test_windows_are_those_of_a_plain_list",
    ),
    "the mask is forgotten": (
        "replay/sequences.py",
        "inside.astype(jnp.float32)",
        "jnp.ones_like(inside, jnp.float32)",
        "test_a_batch_weighs_the_rows_inside",
    ),
    "a time limit is a death": (
        "replay/sequences.py",
        "jnp.where(rows.terminated, 0.0,",
        "jnp.where(rows.terminated | rows.truncated, 0.0,",
        "test_a_batch_weighs_the_rows_inside",
    ),
    "one environment is never drawn": (
        "replay/sequences.py",
        "index, _ = uniform.draw(state, key, cfg.batch_size)",
        "index = uniform.draw(state, key, cfg.batch_size)[0] // cfg.num_envs * cfg.num_envs",
        "test_windows_are_drawn_uniformly",
    ),
    "an empty buffer is read": (
        "replay/sequences.py",
        "jax.lax.cond(state.size > 0, gather, blank)",
        "gather()",
        "test_an_empty_buffer_gives_zeros",
    ),
}
STEPS = 10
"""Rows that a buffer holds of each environment."""
ROW = Transition(jnp.zeros(2), jnp.zeros(1), jnp.float32(0), jnp.zeros(2), jnp.bool(0), jnp.bool(0))
add, read = jax.jit(ring.add), jax.jit(sequences.read, static_argnums=(2, 3, 4))


def step(time, envs):
    """Return a step `[1, N]` of noise, numbered by its observation, with both flags at random."""
    noise = np.random.default_rng(1_000 * envs + time)
    obs = np.stack([np.full(envs, time), np.arange(envs)], -1).astype(np.float32)[None]
    action, reward = noise.normal(size=(1, envs, 1)).astype(np.float32), noise.normal(size=(1, envs))
    return Transition(obs, action, reward.astype(np.float32), obs + 0.5, *noise.random((2, 1, envs)) < 0.3)


def filled(writes, envs):
    """Return a buffer after some steps, and the last rows of each environment, the oldest first."""
    state, held = ring.init(ROW, STEPS * envs), [[] for _ in range(envs)]
    for time in range(writes):
        state = add(state, step(time, envs))
        for n, rows in enumerate(held):
            rows.append(jax.tree.map(lambda leaf, n=n: leaf[0, n], step(time, envs)))
    return state, [rows[-STEPS:] for rows in held]


@pytest.mark.parametrize("writes", [1, 4, 10, 13, 37], ids=lambda n: f"after {n / STEPS} wraps")
@pytest.mark.parametrize("envs", [1, 2, 3, 4])
def test_windows_are_those_of_a_plain_list(envs, writes):
    """From every slot in use; what lies outside is marked."""
    state, held = filled(writes, envs)
    for burn_in, length in [(0, 1), (3, 4), (2, 8)]:
        index = jnp.arange(state.size)
        rows, inside = jax.tree.map(np.asarray, read(state, index, envs, burn_in, length))
        assert inside.shape == (burn_in + length, state.size) == rows.reward.shape
        for b, (time, n) in enumerate(np.asarray(state.rows.obs)[index].astype(int)):
            at = [row.obs[0] for row in held[n]].index(time)
            for t in range(burn_in + length):
                now = at - burn_in + t
                assert inside[t, b] == (0 <= now < len(held[n]))
                if inside[t, b]:
                    pairs = zip(rows[:-1], held[n][now][:-1], strict=True)
                    assert all((leaf[t, b] == known).all() for leaf, known in pairs)
                else:
                    assert rows.truncated[t, b], "an RNN state would go on"


def buffer(envs, batch_size=64, burn_in=2, length=3):
    """Return the buffer of an algorithm."""
    cfg = SimpleNamespace(
        num_envs=envs, batch_size=batch_size, gamma=0.9, burn_in=burn_in, sequence_length=length
    )
    return sequences.make_buffer(cfg, ROW, STEPS * envs)


@pytest.mark.parametrize("writes", [6, 13])
def test_a_batch_weighs_the_rows_inside(writes):
    memory, (state, _) = buffer(3), filled(writes, 3)
    batch = jax.jit(memory.sample)(state, jax.random.key(0), jnp.int32(0))
    rows, inside = read(state, batch.index, 3, 2, 3)
    assert batch.weight.dtype == jnp.float32 and (batch.weight == inside).all() and not inside.all()
    assert batch.weight[2].all(), "the drawn row"
    np.testing.assert_array_equal(batch.rows.obs, rows.obs)
    expected = np.where(np.asarray(rows.terminated), np.float32(0), np.float32(0.9))
    np.testing.assert_array_equal(batch.discount, expected)
    lone = rows.truncated & ~rows.terminated & inside
    assert lone.any() and (rows.terminated & inside).any()
    assert memory.update(state, batch.index, batch.weight) is state


@pytest.mark.parametrize("writes", [6, 17])
def test_windows_are_drawn_uniformly(writes):
    """By a chi-square over all slots in use."""
    state, _ = filled(writes, 3)
    index = jax.jit(buffer(3, 20_000).sample)(state, jax.random.key(2), jnp.int32(0)).index
    counts = np.bincount(index, minlength=int(state.size))
    assert len(counts) == state.size and stats.chisquare(counts).pvalue > 1e-3


def test_all_but_the_oldest_rows_are_learned_from_equally_often():
    """Over windows from every slot, each is in the learned part `length` times."""
    state, held = filled(13, 2)
    rows, inside = read(state, jnp.arange(state.size), 2, 2, 3)
    for n, known in enumerate(held):
        found = np.asarray(rows.obs)[2:][np.asarray(inside)[2:] & (np.asarray(rows.obs)[2:, :, 1] == n)]
        counts = [(found[:, 0] == row.obs[0]).sum() for row in known]
        assert counts == [1, 2] + [3] * (STEPS - 2)


def test_an_empty_buffer_gives_zeros():
    batch = buffer(2).sample(ring.init(ROW, STEPS * 2), jax.random.key(0), jnp.int32(0))
    assert not any(leaf.any() for leaf in jax.tree.leaves((batch.rows, batch.weight)))


def test_members_under_vmap_have_their_own_windows():
    """Also where their heads and sizes differ."""
    states = [filled(writes, 3)[0] for writes in (2, 10, 17)]
    keys, sample = jax.random.split(jax.random.key(0), 3), buffer(3).sample
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    batches = jax.jit(jax.vmap(sample, in_axes=(0, 0, None)))(stacked, keys, jnp.int32(0))
    for member, state in enumerate(states):
        alone = sample(state, keys[member], jnp.int32(0))
        for found, expected in zip(jax.tree.leaves(batches), jax.tree.leaves(alone), strict=True):
            np.testing.assert_array_equal(found[member], expected)
