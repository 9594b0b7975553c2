"""One battery for every environment of the registry, on the engine that its task has on this machine.

`check_env`, tried on each in tests/envs/test_check.py, checks the contract; this plays. The quick tests
compile one reset and one step of each environment.
"""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purerl
from purerl.registry import ENVIRONMENTS
from purerl.rollout import env_action, uniform_action

SEEDS, COPIES, STEPS, LIMIT = 2, 32, 120, 5
STARTS = {"asterix": 1, "breakout": 2, "seaquest": 1, "space_invaders": 1}
"""Different first observations of games that do not begin at random."""
ENDLESS = {"freeway", "half_cheetah", "humanoid_standup", "pendulum", "pusher", "reacher", "swimmer"}
"""Only the time limit ends these."""
FAR = {"acrobot", "mountain_car", "mountain_car_continuous", "rover"}
"""Random actions do not reach the end; each has a test of its own for an end at the time limit."""


@cache
def made(name, **options):
    return purerl.make_env(name, **options)


def keys(*shape, seed=0):
    return jax.random.split(jax.random.key(seed), shape)


def actions(env, shape, seed=1):
    flat = uniform_action(env.action_space, jax.random.key(seed), int(np.prod(shape)))
    return env_action(env.action_space, flat).reshape(*shape, *env.action_space.shape)


class Game:
    """`[SEEDS, COPIES]` copies of an environment, stepped beyond the ends of their episodes."""

    def __init__(self, name, steps, **options):
        env = made(name, **options)
        self.many = jax.jit(jax.vmap(jax.vmap(env.step)))
        start = jax.jit(jax.vmap(jax.vmap(env.reset)))
        self.begun, state = start(keys(SEEDS, COPIES))
        self.seen = []
        for time in range(steps):
            step_keys = keys(SEEDS, COPIES, seed=100 + time)
            obs, state, *rest = self.many(step_keys, state, actions(env, (SEEDS, COPIES), seed=time))
            self.seen.append(jax.tree.map(np.asarray, (obs, *rest)))
            if time == 0:
                self.first = jax.tree.map(jnp.copy, state)

    def flags(self, which):
        """Return `[steps, SEEDS * COPIES]`; 2 is terminated, 3 truncated."""
        return np.stack([step[which].ravel() for step in self.seen])


@cache
def short(name):
    """Return a game whose time limit is LIMIT."""
    return Game(name, LIMIT, max_episode_steps=LIMIT)


@cache
def game(name):
    """Return a game of the usual time limit, long enough for an end by other reasons."""
    return Game(name, STEPS if name not in ENDLESS | FAR else 3)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_time_limit_comes_at_its_step(name):
    """Not one step before, whatever else happens; and it is what the environment says it is."""
    assert made(name, max_episode_steps=LIMIT).max_episode_steps == LIMIT
    truncated = short(name).flags(3)
    assert not truncated[:-1].any() and truncated[-1].all()


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_second_step_is_the_same_program(name):
    assert short(name).many._cache_size() == 1


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_every_key_begins_another_episode(name):
    """As far as there is chance in how it begins."""
    copies = SEEDS * COPIES
    obs = np.asarray(short(name).begun).reshape(copies, -1)
    assert len(np.unique(obs, axis=0)) == STARTS.get(name, copies)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_copies_live_different_lives(name):
    """Steps change observations, and different actions lead to different ones."""
    begun, last = (
        np.asarray(obs).reshape(SEEDS * COPIES, -1) for obs in (short(name).begun, short(name).seen[-1][0])
    )
    assert (begun != last).any(axis=1).mean() > 0.5, "some games' objects come later"
    assert len(np.unique(last, axis=0)) > 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_batch_of_batches_is_each_alone(name):
    """Under jit, under vmap and under a vmap of a vmap, one step from one state is the same step."""
    env, played = made(name), game(name)
    chosen = actions(env, (SEEDS, COPIES), seed=1)
    pick = lambda tree: jax.tree.map(lambda leaf: leaf[1, 3], tree)
    got = jax.jit(env.step)(*pick((keys(SEEDS, COPIES, seed=101), played.first, chosen)))
    want = jax.tree.map(lambda leaf: leaf[1, 3], played.seen[1])
    for a, b in zip(jax.tree.leaves((got[0], *got[2:5])), jax.tree.leaves(want[:4]), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(ENVIRONMENTS) - ENDLESS - FAR))
def test_an_end_at_the_time_limit_is_both(name):
    died = game(name).flags(2)
    times = np.where(died.any(axis=0), died.argmax(axis=0), STEPS)
    last = times.min()
    assert last < STEPS, "no episode terminated"
    again = Game(name, last + 1, max_episode_steps=int(last) + 1)
    copy = times.argmin()
    assert again.flags(2)[last, copy] and again.flags(3)[last, copy]
    assert not again.flags(2)[:last, copy].any()


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ENDLESS))
def test_the_endless_never_terminate(name):
    assert not game(name).flags(2).any()


MUTANTS = {
    "worlds: the clock a step late": (
        "envs/functional.py",
        "truncated = state.time >= max_episode_steps",
        "truncated = state.time > max_episode_steps",
        "test_the_time_limit_comes_at_its_step",
    ),
    "worlds: the dead are not out of time": (
        "envs/functional.py",
        "truncated = state.time >= max_episode_steps",
        "truncated = (state.time >= max_episode_steps) & ~jnp.asarray(terminated)",
        "test_an_end_at_the_time_limit_is_both",
    ),
    "worlds: one reset for all": (
        "envs/functional.py",
        "return reset(key, default_params if",
        "return reset(jax.random.key(0), default_params if",
        "test_every_key_begins_another_episode",
    ),
}
