"""Frames that are stored once, against a NumPy list of whole transitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from framed import GAMMA, Case, buffer_of, by_time, check, stream
from tiny import lane

from purerl.replay import frames, n_step
from purerl.types import Transition

pytestmark = pytest.mark.usefixtures("strict_ranks")

MUTANTS = {
    "every stack of obs goes on": (
        "replay/frames.py",
        "jnp.where(_differ(obs, before), k, 0)",
        "jnp.where(_differ(obs, before), 0, 0)",
        "test_every_row_in_use_is_exact",
    ),
    "every next_obs goes on": (
        "replay/frames.py",
        "jnp.where(_differ(next_obs[:, :, :-1], obs[:, :, 1:]), k, 1)",
        "jnp.where(_differ(next_obs[:, :, :-1], obs[:, :, 1:]), 1, 1)",
        "test_every_row_in_use_is_exact",
    ),
    "a frame that is the same is none": (
        "replay/frames.py",
        "obs[:, :, 1:]), k, 1)",
        "obs[:, :, 1:]), k, _differ(obs, next_obs))",
        "test_every_row_in_use_is_exact",
    ),
    "numbers are compared, not bits": (
        "replay/frames.py",
        "if jnp.issubdtype(a.dtype, jnp.floating):",
        "if False:",
        "test_every_row_in_use_is_exact",
    ),
    "a rollout's steps are compared with its first": (
        "replay/frames.py",
        "next_obs[:-1]])",
        "next_obs[:1].repeat(steps - 1, 0)])",
        "test_every_row_in_use_is_exact",
    ),
    "one ring for all environments": (
        "replay/frames.py",
        "place % places * n + jnp.arange(n, dtype=jnp.int32)[None]",
        "place % places * n + 0 * jnp.arange(n, dtype=jnp.int32)[None]",
        "test_every_row_in_use_is_exact",
    ),
    "the newest frame first": (
        "replay/frames.py",
        "jnp.moveaxis(frames, 1, 1 + stack.axis)",
        "jnp.moveaxis(frames[:, ::-1], 1, 1 + stack.axis)",
        "test_every_row_in_use_is_exact",
    ),
    "next_obs follows obs": (
        "replay/frames.py",
        "next_obs=stacked(rows.next_obs)",
        "next_obs=stacked((rows.obs + num_envs) % len(data))",
        "test_every_row_in_use_is_exact",
    ),
    "rows stay for all their frames": (
        "replay/frames.py",
        "size=state.size - left)",
        "size=state.size)",
        "test_every_row_in_use_is_exact",
    ),
    "rows leave a frame too late": (
        "replay/frames.py",
        "stack.num_frames + most > slots // n",
        "stack.num_frames + most > slots // n + 1",
        "test_every_row_in_use_is_exact",
    ),
    "the environment with the most room decides": (
        "replay/frames.py",
        ".sum(0).max()",
        ".sum(0).min()",
        "test_every_row_in_use_is_exact",
    ),
    "a row leaves at a time": (
        "replay/frames.py",
        "steps = min(most, capacity // n)",
        "steps = 1",
        "test_every_row_in_use_is_exact",
    ),
    "rows are drawn from the first slot on": (
        "replay/uniform.py",
        "state.head - state.size, 0)",
        "0, 0)",
        "test_only_rows_in_use_are_drawn[uniform]",
    ),
    "rows that have left keep their priority": (
        "replay/frames.py",
        "< left, 0.0, own)",
        "< left, own, own)",
        "test_only_rows_in_use_are_drawn[prioritised]",
    ),
    "the oldest row loses its priority": (
        "replay/frames.py",
        "< left, 0.0, own)",
        "<= left, 0.0, own)",
        "test_only_rows_in_use_are_drawn[prioritised]",
    ),
}

CASES = [
    Case(1, 1, 4),
    Case(3, 1, 4, axis=2),
    Case(2, 3, 2, axis=2, length=40),
    Case(4, 2, 3),
    Case(1, 3, 4, rows=24),
    Case(2, 1, 1, shape=(3,), dtype=np.float32),
    Case(3, 2, 4, length=1),
    Case(1, 1, 2, shape=(1, 2), length=1, axis=2),
]


def rows_in_use(case, new, now):
    """Return how many of the newest steps are in use `[writes]`: frames are counted in Python."""
    most = 2 * case.k * case.steps
    places = case.rows + case.k + most + max(int(case.rows / 16), most)
    frames_of = lambda obs: list(np.moveaxis(obs, case.axis, 0)) if case.k > 1 else [obs]
    same = lambda a, b: all(x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))
    in_use = np.full(now, case.rows)
    for env in range(case.envs):
        written, last, firsts = case.k, frames_of(np.zeros_like(new.obs[0, 0, 0])), []
        for write in range(now):
            for step in range(case.steps):
                obs, then = (frames_of(leaf[write, step, env]) for leaf in (new.obs, new.next_obs))
                written += 0 if same(obs, last) else case.k
                firsts.append(written - case.k)
                written += 1 if same(obs[1:], then[:-1]) else case.k
                last = then
            fits = [written - first + most <= places for first in firsts[: -case.steps]]
            kept = case.steps + sum(np.cumprod(fits[::-1]))
            in_use[write] = min(in_use[write], kept)
    return in_use


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_row_in_use_is_exact(case):
    """After every write: all leaves to the bit, and returns over 1 and 3 steps."""
    new, n = stream(case), case.envs
    writes = len(new.reward)
    whole = lambda state, rows: frames.whole(state, rows, case.stack, n)

    @jax.jit
    def run(state, new):
        def write(state, new):
            state = frames.add(state, new, case.stack)
            index = jnp.arange(case.capacity, dtype=jnp.int32)
            found = [n_step.read(state, index, n, length, GAMMA, whole) for length in (1, 3)]
            return state, (state.size, state.head, found)

        return jax.lax.scan(write, state, new)[1]

    size, head, found = jax.tree.map(np.asarray, run(buffer_of(case).init(), new))
    expected = np.minimum(rows_in_use(case, new, writes), case.steps * np.arange(1, writes + 1))
    np.testing.assert_array_equal(size, expected * n)
    np.testing.assert_array_equal(head, n * case.steps * np.arange(1, writes + 1) % case.capacity)
    assert size[-1] == case.capacity or case.length < 40, "frames run out in a long episode"
    old = by_time(new)
    for write in range(writes):
        now = (write + 1) * case.steps
        for time in range(now - expected[write], now):
            slots = time * n % case.capacity + np.arange(n)
            for (rows, discount), length in zip(found, (1, 3), strict=True):
                read = jax.tree.map(lambda leaf, at=(write, slots): leaf[at], (rows, discount))
                check(*read, old, time, min(length, now - time))


@pytest.mark.parametrize("prioritised", [False, True], ids=["uniform", "prioritised"])
def test_only_rows_in_use_are_drawn(prioritised):
    """By three members, whose episodes are short, of some length, and long."""
    cases = [Case(2, 1, 3, axis=2, length=length) for length in (1, 9, 40)]
    news = [stream(case, seed) for seed, case in enumerate(cases)]
    buffer = buffer_of(cases[0], n_step=3, prioritised=prioritised)

    def member(state, new, key):
        def write(state, step):
            new, key = step
            state = buffer.add(state, new)
            batch = buffer.sample(state, key, jnp.int32(0))
            return buffer.update(state, batch.index, batch.rows.reward), ()

        state = jax.lax.scan(write, state, (new, jax.random.split(key, len(new.reward))))[0]
        return state, buffer.sample(state, key, jnp.int32(0))

    together = lambda *leaves: jnp.stack(leaves)
    states, keys = jax.tree.map(together, *[buffer.init()] * 3), jax.random.split(jax.random.key(0), 3)
    states, batches = jax.jit(jax.vmap(member))(states, jax.tree.map(together, *news), keys)
    assert states.size[0] < states.size[1] < states.size[2] == cases[0].capacity
    for i, (case, new) in enumerate(zip(cases, news, strict=True)):
        state, batch, old = lane(states, i), lane(batches, i), by_time(new)
        times = range(len(old.reward) - state.size // case.envs, len(old.reward))
        time_of = {(t * case.envs + n) % case.capacity: (t, n) for t in times for n in range(case.envs)}
        assert set(batch.index) == time_of.keys() or prioritised
        for row, slot in enumerate(batch.index):
            time, env = time_of[slot]
            alone = Transition(*(leaf[:, env : env + 1] for leaf in old[:-1]))
            rows, discount = jax.tree.map(lambda leaf, row=row: leaf[row : row + 1], batch[0::3])
            check(rows, discount, alone, time, min(3, len(old.reward) - time))
        if prioritised:
            priority = state.priority.levels[0].ravel()
            assert set(np.flatnonzero(priority)) == time_of.keys()
            np.testing.assert_allclose(state.priority.levels[-1].sum(), priority.sum(), 1e-5)
