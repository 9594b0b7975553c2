"""gymnax's environments as purerl's, on tiny ones with the interfaces of gymnax 0.x and 1.x.

The library's own are in tests/adapters, which needs it installed.
"""

from dataclasses import replace
from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from library_envs import START, STEP_KEYS, NewWalk, OldWalk, WalkParams, play

import purerl
from purerl.config import ConfigError
from purerl.envs.adapters.from_gymnax import from_gymnax

WALKS = {"0.x": OldWalk, "1.x": NewWalk}
RIGHT, LEFT = 1, 0


@pytest.fixture(params=WALKS)
def walk(request):
    return WALKS[request.param]()


@pytest.mark.slow
def test_gymnax_contract(walk):
    purerl.check_env(from_gymnax(walk))


def test_gymnax_attributes(walk):
    env = from_gymnax(walk)
    assert (env.name, env.max_episode_steps, env.default_params) == ("Walk-v0", 6, WalkParams())
    assert env.action_space == spaces.Discrete(2)
    low, high = np.array([-np.inf, 0], np.float32), np.full(2, np.inf, np.float32)
    assert env.observation_space == spaces.Box(low, high)


ENDS = {
    "time is up": ([LEFT] * 6, START + 3.0, [0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1]),
    "the goal": ([RIGHT] * 6, START + 3.4, [0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 0, 1]),
    "both at once": ([LEFT, *[RIGHT] * 5], START + 3.6, [0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 1]),
}


def test_gymnax_done_becomes_two_flags(walk):
    """Also where the environment stores its own `done` in its state."""
    actions, goals, *ends = map(np.array, zip(*ENDS.values(), strict=True))
    params = WalkParams(jnp.array(goals), jnp.full(3, 6))
    first, obs, reward, *flags = play(from_gymnax(walk), actions, params)
    np.testing.assert_array_equal(flags, np.array(ends, bool))
    assert (reward == 1).all() and (first[:, 0] == START).all()
    place = first[:, :1] + np.cumsum(np.where(actions, 1.0, -1.0) + noise(6), 1)
    np.testing.assert_allclose(obs[..., 0], place, rtol=1e-5)  # before any reset
    np.testing.assert_allclose(obs[..., 1], np.tile(np.arange(1, 7) / 6, (3, 1)), rtol=1e-6)


def noise(steps):
    return np.array([0.1 * float(jax.random.uniform(key)) for key in STEP_KEYS[:steps]])


def test_gymnax_time_limit(walk):
    """Set by an argument; `params` of a step shorten an episode and do not prolong it."""
    env = from_gymnax(walk, max_episode_steps=4)
    assert (env.max_episode_steps, env.default_params.max_steps_in_episode) == (4, 4)
    whole = from_gymnax(walk, WalkParams(max_steps_in_episode=6.0), max_episode_steps=4).default_params
    assert type(whole.max_steps_in_episode) is float  # some observation spaces are built from it
    params = WalkParams(jnp.full(3, 3.0), jnp.array([4, 2, 6]))
    *_, terminated, truncated = play(env, [[LEFT] * 4] * 3, params)
    assert truncated.tolist() == [[0, 0, 0, 1], [0, 1, 1, 1], [0, 0, 0, 1]]
    assert not terminated[[0, 2]].any() and not terminated[1, :2].any()
    *_, truncated = play(env, [[LEFT] * 4])
    assert truncated.tolist() == [[0, 0, 0, 1]]


def test_gymnax_without_time_limit(walk):
    class Goal(NamedTuple):
        goal: float = 3.0

    walk.observe = lambda state, params: jnp.array([state.place, 0.0])
    walk.is_terminal = lambda state, params: state.place > params.goal
    walk.is_truncated = lambda state, params: jnp.array(False)
    with pytest.raises(ConfigError, match=r"max_episode_steps = None.* no max_steps_in_episode"):
        from_gymnax(walk, Goal())
    env = from_gymnax(walk, Goal(START + 2.4), max_episode_steps=3)
    *_, terminated, truncated = play(env, [[LEFT] * 3, [RIGHT] * 3])
    assert terminated.tolist() == [[0, 0, 0], [0, 0, 1]] and truncated.tolist() == [[0, 0, 1]] * 2


def test_discrete_observations_become_one_hot():
    walk = NewWalk()
    walk.observation_space = lambda params: SimpleNamespace(n=jnp.int32(9))
    walk.observe = lambda state, params: (state.place + 4).astype(int)
    env = from_gymnax(walk)
    assert env.observation_space == spaces.Box(0, 1, (9,), np.float32)
    first, obs, *_ = play(env, [[LEFT, LEFT]])
    assert first.dtype == np.float32 and obs.sum(-1).tolist() == [[1, 1]]
    assert obs.argmax(-1).tolist() == [[first.argmax() - 1, first.argmax() - 2]]


@pytest.mark.parametrize("shape", [(), (1,), (2,)])
def test_box_actions(shape):
    """A single number has one axis in purerl, and its own shape in gymnax."""
    walk, seen = NewWalk(), []
    walk.action_space = lambda params: SimpleNamespace(
        low=-2.0, high=np.float32(1), shape=shape, dtype=jnp.float32
    )
    walk.move = lambda key, state, action: (
        seen.append(action.shape) or NewWalk.move(walk, key, state, action.sum() > 0)
    )
    env = from_gymnax(walk)
    assert env.action_space == spaces.Box(-2, 1, shape or (1,), np.float32)
    play(env, np.ones((1, 1, *(shape or (1,))), np.float32))
    assert set(seen) == {shape}


def test_uint8_observations_stay():
    walk = NewWalk()
    walk.observation_space = lambda params: SimpleNamespace(low=0, high=255, shape=(2,), dtype=jnp.uint8)
    walk.observe = lambda state, params: jnp.stack([state.place, state.time]).astype(jnp.uint8)
    env = from_gymnax(walk)
    assert env.observation_space == spaces.Box(0, 255, (2,), np.uint8)
    assert play(env, [[RIGHT]])[1].dtype == np.uint8


def wrapped(walk):
    class Wrapper:
        def __getattr__(self, name):
            return getattr(walk, name)

    return Wrapper()


def changed(**attributes):
    walk = NewWalk()
    walk.observe = lambda state, params: jnp.zeros(2)
    vars(walk).update(attributes)
    return walk


def changed_state(**fields):
    return changed(move=lambda key, state, action: replace(state, **fields))


@pytest.mark.parametrize(
    ("walk", "says"),
    [
        (wrapped(NewWalk()), "without wrappers, got one with no reset_env"),
        (changed(step=lambda *_: (1, 2, 3, 4)), "got 4 values"),
        (
            changed(action_space=lambda _: SimpleNamespace(spaces={})),
            "actions that are indices or a box of floats",
        ),
        (
            changed(action_space=lambda _: SimpleNamespace(low=0, high=3, shape=(2,), dtype=np.int32)),
            "actions that are indices or a box of floats",
        ),
        (changed(observation_space=lambda _: SimpleNamespace(spaces={})), "observations that are one array"),
        (changed(observe=lambda state, params: {"place": state.place}), "observations that are one array"),
        (changed_state(over=jnp.zeros(2)), r"got other ones: \.over"),
        (changed_state(over=None), r"got other ones: \.over"),
        (changed_state(over=[]), r"got other ones: \.over"),
    ],
    ids=["wrapped", "values", "actions", "integers", "space", "observation", "shape", "none", "structure"],
)
def test_invalid_gymnax_environments(walk, says):
    with pytest.raises(ConfigError, match=says):
        from_gymnax(walk)
