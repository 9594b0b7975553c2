"""Streams of transitions whose observations are stacks of frames, and the plain reading of their rows."""

import math
from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purerl.replay import frames
from purerl.replay.buffer import make_buffer
from purerl.types import Transition

GAMMA = 0.5


class Case(NamedTuple):
    """A stream of transitions, and the layout of its observations."""

    envs: int
    steps: int
    k: int
    shape: tuple = (2, 2)
    axis: int = 0
    length: int = 9
    """Most steps of an episode."""
    dtype: type = np.uint8
    rows: int = 12
    """Of each environment."""

    @property
    def stack(self):
        return frames.Stack(self.k, self.axis)

    @property
    def capacity(self):
        return self.rows * self.envs


def stream(case, seed=0):
    """Return transitions `[writes, T, N]` of 3.7 wraps, as environments in Python give them.

    Episodes end at random in both ways, some without a flag, as where environments begin again on a resume;
    after some steps `next_obs` is `obs`, as after a reward that is not finite. Stacks begin padded with the
    first frame, with zeros, or with frames of their own. Frames are few, so that they are often the same.
    """
    noise, writes = np.random.default_rng(seed), math.ceil(3.7 * case.rows / case.steps)
    kinds = np.array([0, 1, 255]) if case.dtype == np.uint8 else np.array([0.0, -0.0, np.nan, 1.0])
    frame = lambda: noise.choice(kinds, case.shape).astype(case.dtype)
    whole = lambda stack: np.stack(stack, case.axis) if case.k > 1 else stack[0]
    rows = []
    for _ in range(case.envs):
        stack, left = None, 0
        for _ in range(writes * case.steps):
            if not left:
                first, padding, left = frame(), noise.integers(3), noise.integers(1, case.length + 1)
                pads = [lambda: first, lambda: np.zeros_like(first), frame]  # noqa: B023
                stack = [pads[padding]() for _ in range(case.k - 1)] + [first]
            left -= 1
            obs, stack = stack, stack if noise.random() < 0.05 else [*stack[1:], frame()]
            ends = noise.choice([[0, 0], [0, 1], [1, 0], [1, 1]]) if left == 0 else [0, 0]
            rows.append((whole(obs), noise.normal(), whole(stack), *ends))
    lead = lambda leaf: np.moveaxis(leaf.reshape(case.envs, writes, case.steps, *leaf.shape[1:]), 0, 2)
    obs, reward, next_obs, terminated, truncated = (lead(np.stack(leaf)) for leaf in zip(*rows, strict=True))
    reward = reward.astype(np.float32)
    return Transition(obs, reward * 2, reward, next_obs, terminated == 1, truncated == 1, {"extra": reward})


def row_of(obs, dtype=np.uint8):
    """Return the shapes and dtypes of a row with observations of this shape."""
    like = jax.ShapeDtypeStruct
    obs, number, flag = like(obs, dtype), like((), jnp.float32), like((), bool)
    return Transition(obs, number, number, obs, flag, flag)


def buffer_of(case, **settings):
    """Return the replay buffer of a case; `settings` are fields of a configuration."""
    known = dict(num_envs=case.envs, frame_stack=case.k, n_step=1, prioritised=False, batch_size=300)
    known |= dict(gamma=GAMMA, total_timesteps=1000, priority_alpha=0.6, priority_beta=0.4)
    shape = np.insert(case.shape, case.axis, case.k) if case.k > 1 else case.shape
    row = row_of(tuple(shape), case.dtype)
    return make_buffer(SimpleNamespace(**known | settings), row, case.capacity, case.steps)


def by_time(new):
    """Return transitions `[writes, T, N]` without `extras` as `[time, N]`."""
    return Transition(*(leaf.reshape(-1, *leaf.shape[2:]) for leaf in new[:-1]))


def check(rows, discount, old, time, length):
    """Raise AssertionError unless rows `[N]` start at `time` and end up to `length` steps later."""
    for env in range(len(discount)):
        total, factor, last = 0.0, 1.0, time
        for last in range(time, time + length):
            total, factor = total + factor * old.reward[last, env], factor * GAMMA
            if old.terminated[last, env] or old.truncated[last, env]:
                break
        for name in ("obs", "action"):
            same(getattr(rows, name)[env], getattr(old, name)[time, env])
        for name in ("next_obs", "terminated", "truncated"):
            same(getattr(rows, name)[env], getattr(old, name)[last, env])
        np.testing.assert_allclose(rows.reward[env], total, 1e-5, 1e-6)
        np.testing.assert_allclose(discount[env], 0 if old.terminated[last, env] else factor)


def same(a, b):
    assert a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
