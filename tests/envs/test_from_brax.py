"""Environments of brax and Playground as purerl's, on a tiny one with their interface.

The libraries' own are in tests/adapters, which needs them installed.
"""

import copy
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from library_envs import KEY, Slide, play

import purerl
from purerl.config import ConfigError
from purerl.envs.adapters.from_brax import from_brax, from_playground

STILL, FAR = np.zeros(2, np.float32), np.array([3.5, 0], np.float32)


@pytest.mark.slow
def test_brax_contract():
    purerl.check_env(from_brax(Slide(), max_episode_steps=5))


def test_brax_attributes():
    env = from_brax(Slide(), max_episode_steps=5)
    assert (env.name, env.max_episode_steps, env.default_params) == ("Slide", 5, ())
    assert env.action_space == spaces.Box(-1, 1, (2,), np.float32)
    assert env.observation_space == spaces.Box(-np.inf, np.inf, (2,), np.float32)
    assert from_brax(Slide()).max_episode_steps == 1000


def test_brax_step_is_pure():
    """The same step from the same state gives the same, also outside of a trace."""
    env = from_brax(Slide())
    _, state = env.reset(KEY)
    before = copy.deepcopy(jax.tree.map(np.asarray, state))
    twice = [env.step(KEY, state, STILL)[0] for _ in range(2)]
    np.testing.assert_array_equal(*twice)
    jax.tree.map(np.testing.assert_array_equal, before, jax.tree.map(np.asarray, state))


def test_brax_flags():
    """The time limit, the task's end, and both at once."""
    slide = Slide()
    actions = np.stack([[STILL] * 4, [STILL, FAR, STILL, STILL], [STILL, STILL, STILL, FAR]])
    first, obs, reward, *flags = play(from_brax(slide, max_episode_steps=4), actions)
    assert flags[0].tolist() == [[0, 0, 0, 0], [0, 1, 1, 1], [0, 0, 0, 1]]
    assert flags[1].tolist() == [[0, 0, 0, 1]] * 3
    state = slide.reset(jax.random.key_data(KEY))
    np.testing.assert_allclose(first[0], state.obs)
    for action, seen, earned in zip(actions[2], obs[2], reward[2], strict=True):
        state = slide.step(state, action)
        np.testing.assert_allclose(seen, state.obs, rtol=1e-6)
        np.testing.assert_allclose(earned, state.reward, rtol=1e-6)


def test_brax_resets_only_where_needed():
    """Two of 64 environments at a time; every start is a fresh draw."""
    slide = Slide()
    env, keys = from_brax(slide), jax.random.split(KEY, 64)
    reset = jax.jit(jax.vmap(env.reset, (0, None, 0)))
    for needed, runs in ((np.arange(64) < 3, 4), (np.zeros(64, bool), 0), (np.ones(64, bool), 64)):
        slide.resets.clear()
        obs, state = jax.block_until_ready(reset(keys, None, needed))
        jax.effects_barrier()
        assert len(slide.resets) == runs
        expected = jax.vmap(lambda key: jax.random.uniform(key, (2,)))(keys)
        np.testing.assert_allclose(obs[needed], expected[needed], rtol=1e-6)
        assert not np.asarray(state.time).any() and len(np.unique(obs[needed], axis=0)) == needed.sum()


def test_obs_key():
    def observe(q):
        return {"state": q, "privileged_state": jnp.append(q, 7.0), "pixels": jnp.full((2, 2), 9, jnp.uint8)}

    assert from_brax(Slide(observe)).observation_space.shape == (2,)
    assert play(from_brax(Slide(observe), obs_key="privileged_state"), [[STILL]])[1][0, 0, 2] == 7
    pixels = from_brax(Slide(observe), obs_key="pixels")
    assert pixels.observation_space == spaces.Box(0, 255, (2, 2), np.uint8)
    with pytest.raises(ConfigError, match=r"obs_key = 'stat'.* Did you mean state"):
        from_brax(Slide(observe), obs_key="stat")


class AutoResetWrapper:
    def __init__(self, env):
        self.env = env

    def __getattr__(self, name):
        return getattr(self.env, name)


class Outer(AutoResetWrapper):
    pass


class Batch(Slide):
    def reset(self, key):
        return jax.vmap(super().reset)(jax.random.split(key, 3))


class NoState(Slide):
    def reset(self, key):
        return SimpleNamespace(obs=jnp.zeros(2))


@pytest.mark.parametrize("adapt", [from_brax, partial(from_playground, max_episode_steps=3)])
@pytest.mark.parametrize(
    ("env", "says"),
    [
        (AutoResetWrapper(Slide()), "got one in a AutoResetWrapper"),
        (Outer(Slide()), "got one in a AutoResetWrapper"),
        (
            type("Mine", (), {"env": None, "__init__": lambda self: vars(self).update(env=Outer(Slide()))})(),
            "AutoReset",
        ),
        (Batch(), r"shapes \(3,\) and \(3,\)"),
    ],
    ids=["wrapper", "subclass", "inside", "batch"],
)
def test_invalid_brax_environments(adapt, env, says):
    with pytest.raises(ConfigError, match=says):
        adapt(env)


def test_playground_time_limit():
    slide = Slide()
    with pytest.raises(ConfigError, match="no episode_length"):
        from_playground(slide)
    slide._config = SimpleNamespace(episode_length=3)
    *_, terminated, truncated = play(from_playground(slide), [[STILL] * 3])
    assert truncated.tolist() == [[False, False, True]] and not terminated.any()
    assert from_playground(slide, max_episode_steps=8, name="slide").max_episode_steps == 8
