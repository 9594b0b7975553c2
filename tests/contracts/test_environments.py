"""One battery for every environment of the registry, on the engine that its task has on this machine.

`check_env`, tried on each in tests/envs/test_check.py, looks at the contract's letter; this plays.
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
"""How many ways there are to begin, of games that are not begun at random."""
IMMORTAL = {"freeway", "half_cheetah", "humanoid_standup", "pendulum", "pusher", "reacher", "swimmer"}
"""Only the clock ends these."""
FAR = {"acrobot", "mountain_car", "mountain_car_continuous", "rover"}
"""Random actions do not get there; each has a test of its own for a death at the time limit."""


@cache
def made(name, **options):
    return purerl.make_env(name, **options)


def keys(*shape, seed=0):
    return jax.random.split(jax.random.key(seed), shape)


def actions(env, shape, seed=1):
    flat = uniform_action(env.action_space, jax.random.key(seed), int(np.prod(shape)))
    return env_action(env.action_space, flat).reshape(*shape, *env.action_space.shape)


class Game:
    """`[SEEDS, COPIES]` copies of an environment, for `steps` steps, as if none ever ended."""

    def __init__(self, name, steps, **options):
        env = made(name, **options)
        self.many = jax.jit(jax.vmap(jax.vmap(env.step)))
        start = jax.jit(jax.vmap(jax.vmap(env.reset)))
        self.obs, self.state = start(keys(SEEDS, COPIES))
        self.seen = []
        state = self.state
        for time in range(steps):
            step_keys = keys(SEEDS, COPIES, seed=100 + time)
            obs, state, *rest = self.many(step_keys, state, actions(env, (SEEDS, COPIES), seed=time))
            self.seen.append(jax.tree.map(np.asarray, (obs, *rest)))
            if time == 0:
                self.first = jax.tree.map(jnp.copy, state)

    def flags(self, which):
        """`[steps, SEEDS * COPIES]`; 2 is terminated, 3 truncated."""
        return np.stack([step[which].ravel() for step in self.seen])


@cache
def game(name):
    return Game(name, STEPS if name not in IMMORTAL | FAR else 3)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_batch_of_batches_is_each_alone(name):
    """Under jit, under vmap and under a vmap of a vmap, one step from one state is the same step."""
    env, played = made(name), game(name)
    chosen = actions(env, (SEEDS, COPIES), seed=1)
    pick = lambda tree: jax.tree.map(lambda leaf: leaf[1, 3], tree)
    alone = jax.jit(env.step)
    got = alone(*pick((keys(SEEDS, COPIES, seed=101), played.first, chosen)))
    want = jax.tree.map(lambda leaf: leaf[1, 3], played.seen[1])
    for a, b in zip(jax.tree.leaves((got[0], *got[2:5])), jax.tree.leaves(want[:4]), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_second_step_is_the_same_program(name):
    assert game(name).many._cache_size() == 1


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_thousand_resets_are_a_thousand_states(name):
    """Every key begins another episode, where there is chance in how it begins."""
    reset = jax.jit(jax.vmap(made(name).reset))
    obs = np.asarray(reset(keys(1000))[0]).reshape(1000, -1)
    assert len(np.unique(obs, axis=0)) == STARTS.get(name, 1000)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_time_limit_comes_at_its_step(name):
    """Not one step before, whatever else happens; and it is what the environment says it is."""
    short = Game(name, LIMIT, max_episode_steps=LIMIT)
    assert made(name, max_episode_steps=LIMIT).max_episode_steps == LIMIT
    truncated = short.flags(3)
    assert not truncated[:-1].any() and truncated[-1].all()


@pytest.mark.parametrize("name", sorted(set(ENVIRONMENTS) - IMMORTAL - FAR))
def test_a_death_at_the_time_limit_is_both(name):
    died = game(name).flags(2)
    times = np.where(died.any(axis=0), died.argmax(axis=0), STEPS)
    last = times.min()
    assert last < STEPS, "nobody died"
    again = Game(name, last + 1, max_episode_steps=int(last) + 1)
    copy = times.argmin()
    assert again.flags(2)[last, copy] and again.flags(3)[last, copy]
    assert not again.flags(2)[:last, copy].any()


@pytest.mark.parametrize("name", sorted(IMMORTAL))
def test_the_immortal_never_die(name):
    assert not game(name).flags(2).any()
