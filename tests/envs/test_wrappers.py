"""Wrappers: each changes its own part and nothing else, alone and composed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from environments import LIMIT, clock
from gymnasium import spaces

import purerl
from purerl import rollout
from purerl.config import ConfigError
from purerl.envs import wrappers
from purerl.envs.wrappers import (
    episode_statistics,
    flatten_observation,
    randomize,
    rescale_observation,
    scale_reward,
    stack_frames,
    sticky_actions,
    time_limit,
)

BUTTONS = spaces.Discrete(5)
"""`clock` rewards the time plus the number of the button."""


def played(env, actions, params=None, seed=0):
    """Return the results of a reset and of a step for each of `actions`: leaves `[T, ...]`."""
    key, keys = jax.random.key(seed), jax.random.split(jax.random.key(seed + 1), len(actions))

    def step(state, inputs):
        obs, state, *rest = env.step(*inputs[:1], state, inputs[1], params)
        return state, (obs, *rest)

    @jax.jit
    def play(actions):
        first, state = env.reset(key, params)
        return first, jax.lax.scan(step, state, (keys, actions))[1]

    return jax.tree.map(np.asarray, play(jnp.asarray(actions)))


def test_time_limit_truncates_and_keeps_terminations():
    env = time_limit(clock(4, 4), 3)
    assert env.max_episode_steps == 3
    _, (_, _, terminated, truncated, _) = played(env, np.zeros((5, 2), np.float32))
    assert truncated.tolist() == [False, False, True, True, True]
    assert terminated.tolist() == [False, False, False, True, True]
    own = time_limit(clock(4, 4), LIMIT + 3)
    assert own.max_episode_steps == LIMIT
    _, (*_, truncated, _) = played(own, np.zeros((7, 2), np.float32))
    assert truncated.tolist() == [False] * 5 + [True, True]


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_sticky_actions_repeat_the_last_executed_one(probability):
    """With their probability; the first may repeat action 0."""
    steps = 4_000
    asked = np.arange(1, steps + 1) % 4 + 1  # never twice the same, and never 0
    done = stuck_to(sticky_actions(clock(9, 9, BUTTONS), probability), asked)
    repeats = done[1:] == done[:-1]
    assert abs(repeats.mean() - probability) < 4 * np.sqrt(probability * (1 - probability) / steps) + 1e-9
    fresh = ~np.concatenate([done[:1] == 0, repeats])
    np.testing.assert_array_equal(done[fresh], asked[fresh])
    assert (done == 0).all() if probability == 1 else (done[0] in (0, asked[0]))


def stuck_to(env, asked):
    """Return the executed actions."""
    key, keys = jax.random.key(0), jax.random.split(jax.random.key(1), len(asked))

    def step(state, inputs):
        state = env.step(inputs[0], state, inputs[1])[1]
        return state, state.last_action

    return np.asarray(
        jax.jit(lambda a: jax.lax.scan(step, env.reset(key)[1], (keys, a))[1])(jnp.int32(asked))
    )


def test_a_sticky_step_executes_the_sticky_action():
    env = sticky_actions(clock(9, 9, BUTTONS), 0.5)
    asked = np.int32([1, 2, 3, 4, 1, 2])
    _, (_, reward, *_) = played(env, asked)
    np.testing.assert_array_equal(reward, np.arange(1, 7) + stuck_to(env, asked))


def test_stacked_frames_end_with_the_newest():
    """As Gymnasium's FrameStackObservation with padding by the first observation."""
    plain, env = clock(9, 9), stack_frames(clock(9, 9), 3)
    actions = np.zeros((5, 2), np.float32)
    (first, seen), (start, stacked) = played(plain, actions), played(env, actions)
    np.testing.assert_array_equal(start, np.stack([first] * 3))
    history = np.stack([first] * 3 + list(seen[0]))
    np.testing.assert_array_equal(stacked[0], np.stack([history[i + 1 : i + 4] for i in range(5)]))
    assert env.observation_space == spaces.Box(0, 1000, (3, 3))
    pixels = stack_frames(purerl.make_env("breakout"), 2).observation_space
    assert (pixels.shape, pixels.dtype) == ((2, 10, 10, 4), np.uint8)


def test_statistics_of_the_episode_so_far():
    env = episode_statistics(clock(9, 9))
    _, (_, reward, _, _, info) = played(env, np.ones((5, 2), np.float32))
    np.testing.assert_allclose(info["episode_return"], np.cumsum(reward))
    np.testing.assert_array_equal(info["episode_length"], np.arange(1, 6))
    assert info["episode_return"].dtype == np.float32 and info["episode_length"].dtype == np.int32
    assert env.reset(jax.random.key(0))[1].episode_return == 0


def test_statistics_keep_info():
    env = episode_statistics(purerl.make_env("rover"))
    info = jax.eval_shape(env.step, *example(env))[-1]
    assert set(info) > {"episode_return", "episode_length"}


def example(env):
    key = jax.random.key(0)
    state = jax.eval_shape(env.reset, key)[1]
    action = jax.ShapeDtypeStruct(env.action_space.shape, env.action_space.dtype)
    return key, state, action


def test_every_episode_draws_its_own_parameters():
    """Each reset draws parameters, uses them, and the steps of the episode keep them."""
    base = purerl.make_env("pendulum")

    def sample(key):
        return base.default_params._replace(g=jax.random.uniform(key, minval=5.0, maxval=15.0))

    env = randomize(base, sample)
    _, state = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 500))
    assert len(np.unique(state.params.g)) > 495 and 5 <= state.params.g.min() < state.params.g.max() <= 15
    assert abs(state.params.g.mean() - 10) < 0.5
    keys, action = jax.random.split(jax.random.key(1), 500), jnp.zeros((500, 1))
    got = jax.jit(jax.vmap(env.step))(keys, state, action)
    want = jax.jit(jax.vmap(base.step))(keys, state.inner, action, state.params)
    np.testing.assert_allclose(got[0], want[0], rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(got[1].params.g, state.params.g)


def test_params_vmap():
    env = purerl.make_env("cartpole")
    params = jax.vmap(lambda g: env.default_params._replace(gravity=g))(jnp.array([1.0, 10.0]))
    params = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (2,)), params)
    keys = jax.random.split(jax.random.key(0), 2)
    _, state = jax.vmap(env.reset)(jnp.stack([keys[0]] * 2), params)
    obs = jax.vmap(env.step)(keys, state, jnp.int32([0, 0]), params)[0]
    assert obs[0, 3] != obs[1, 3] and obs[0, 0] == obs[1, 0]


def test_flattened_observations():
    env = flatten_observation(purerl.make_env("breakout"))
    obs, state = env.reset(jax.random.key(0))
    whole, _ = purerl.make_env("breakout").reset(jax.random.key(0))
    np.testing.assert_array_equal(obs, whole.ravel())
    after, *_ = env.step(jax.random.key(1), state, jnp.int32(1))
    assert obs.shape == after.shape == env.observation_space.shape == (400,)
    assert obs.dtype == env.observation_space.dtype == np.uint8


def test_rescaled_observations():
    """The ends of each entry's own range become the ends of the new one."""
    pendulum = purerl.make_env("pendulum")
    env = rescale_observation(pendulum, 0.0, 2.0)
    plain, _ = pendulum.reset(jax.random.key(0))
    obs, _ = env.reset(jax.random.key(0))
    np.testing.assert_allclose(obs, (plain / np.float32([1, 1, 8]) + 1), rtol=1e-6)
    assert env.observation_space == spaces.Box(0, 2, (3,))
    pixels = rescale_observation(purerl.make_env("breakout"), 0, 1)
    obs, _ = pixels.reset(jax.random.key(0))
    assert obs.dtype == jnp.float32 and set(np.unique(obs)) == {0.0, 1.0}


def test_only_rewards_are_scaled():
    plain, env = clock(9, 9), scale_reward(clock(9, 9), 0.5)
    actions = np.ones((4, 2), np.float32)
    (_, a), (_, b) = played(plain, actions), played(env, actions)
    np.testing.assert_array_equal(b[1], a[1] * 0.5)
    assert b[1].dtype == np.float32
    for i in (0, 2, 3):
        np.testing.assert_array_equal(a[i], b[i])


def test_real_numbers_vmap():
    """One program for many probabilities and scales."""
    rewards = jax.vmap(
        lambda p, scale: scale_reward(sticky_actions(clock(9, 9, BUTTONS), p), scale).step(
            jax.random.key(0),
            sticky_actions(clock(9, 9, BUTTONS), p).reset(jax.random.key(1))[1],
            jnp.int32(4),
        )[2]
    )(jnp.array([0.0, 1.0]), jnp.array([1.0, 3.0]))
    np.testing.assert_array_equal(rewards, [5.0, 3.0])


TOWER = {
    "breakout": lambda env: stack_frames(episode_statistics(sticky_actions(time_limit(env, 50), 0.1)), 4),
    "pendulum": lambda env: scale_reward(
        rescale_observation(randomize(time_limit(env, 9), lambda key: env.default_params)), 0.1
    ),
}


@pytest.mark.parametrize("name", ["pendulum", pytest.param("breakout", marks=pytest.mark.slow)])
def test_wrappers_compose(name):
    """A tower of wrappers passes `check_env`, and never traces twice."""
    env = TOWER[name](purerl.make_env(name))
    purerl.check_env(env)
    sim = rollout.start(env, jax.random.key(0), 3)
    step = jax.jit(
        lambda sim, key: rollout.unroll(
            env, lambda c, o, k: (rollout.uniform_action(env.action_space, k, 3), c, ()), sim, (), key, 60
        )
    )
    sim, _, transition, episodes = step(sim, jax.random.key(1))
    step(sim, jax.random.key(2))
    assert step._cache_size() == 1
    assert episodes.ended.sum() >= 3
    assert transition.obs.shape[2:] == env.observation_space.shape


def test_pictures_are_those_of_the_inner_environment():
    env = purerl.make_env("breakout")
    state = env.reset(jax.random.key(0))[1]
    wrapped = stack_frames(time_limit(env, 5), 2)
    outer = wrapped.reset(jax.random.key(0))[1]
    np.testing.assert_array_equal(
        wrapped.render(outer, width=40, height=40), env.render(state, width=40, height=40)
    )


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: time_limit(clock(), 0), "max_episode_steps"),
        (lambda: sticky_actions(clock(2, 9, BUTTONS), 1.5), "sticky_action_prob"),
        (lambda: sticky_actions(clock(), 0.5), "env"),
        (lambda: stack_frames(clock(), 0), "num_frames"),
        (lambda: rescale_observation(purerl.make_env("cartpole")), "env"),
        (lambda: rescale_observation(clock(), 1.0, 1.0), "low"),
        (lambda: rescale_observation(clock(), 0.0, np.inf), "high"),
        (lambda: scale_reward(clock(), np.nan), "scale"),
        (lambda: randomize(purerl.make_env("pendulum"), lambda key: {"g": 1.0}), "sample"),
    ],
)
def test_bad_arguments_raise(make, field):
    with pytest.raises(ConfigError) as error:
        make()
    assert error.value.field == field


def test_every_wrapper_has_a_test():
    names = {
        name
        for name in vars(wrappers)
        if getattr(vars(wrappers)[name], "__module__", "") == wrappers.__name__
    }
    functions = {name for name in names if name[0].islower()}
    assert functions <= set(globals()) | {"mask_observation", "map_observation"}
