"""gymnax's environments through purerl, compared with gymnax's own loop, for both of its interfaces."""

from functools import partial
from importlib.metadata import version

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purerl
from purerl.envs.adapters.from_gymnax import from_gymnax
from purerl.rollout import env_action, uniform_action

COPIES, STEPS, LIMIT = 4, 400, 40
OLD = version("gymnax").startswith("0.")
IDS = ["CartPole-v1", "Pendulum-v1", "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0"]
IDS += [f"{name}-MinAtar" for name in ("Asterix", "Breakout", "Freeway", "SpaceInvaders")]
IDS += [f"{name}-bsuite" for name in ("Catch", "DeepSea", "MemoryChain", "UmbrellaChain", "DiscountingChain")]
IDS += [f"{name}-misc" for name in ("FourRooms", "MetaMaze", "PointRobot", "BernoulliBandit")]
IDS += [f"{name}-misc" for name in ("GaussianBandit", "Reacher", "Swimmer", "Pong")]
IDS += [] if OLD else ["FrozenLake-misc", "Seaquest-MinAtar", "SimpleBandit-bsuite"]
"""All but MNISTBandit, which downloads its digits, and in 0.x SimpleBandit, whose reset fails."""
MORTAL = ["CartPole-v1", "Asterix-MinAtar", "Breakout-MinAtar", "Catch-bsuite"]
ALWAYS_THE_SAME = ["DeepSea-bsuite", "FourRooms-misc"]
"""Environments with one start."""
WRONG_BOUNDS = ["GaussianBandit-misc", "MemoryChain-bsuite", "MetaMaze-misc"]
"""Environments whose observations leave the declared space."""


def gymnax_make(name, limit):
    import gymnax

    env, params = gymnax.make(name)
    return env, params.replace(max_steps_in_episode=type(params.max_steps_in_episode)(limit))


def draws(env, num_copies, num_steps):
    """Keys `[N]` and `[T, N]`, and actions `[T, N, A]` in the environment's units."""
    actions = uniform_action(env.action_space, jax.random.key(1), num_copies * num_steps)
    actions = env_action(env.action_space, actions).reshape(num_steps, num_copies, *actions.shape[1:])
    keys = jax.random.split(jax.random.key(2), (num_steps, num_copies))
    return jax.random.split(jax.random.key(0), num_copies), keys, actions


def gymnax_play(env, params, keys_reset, keys, actions):
    """Play gymnax's own loop, resets included; return the results of `step` without state, `[T, N, ...]`."""

    def step(state, draw):
        obs, state, reward, *flags, info = jax.vmap(env.step, (0, 0, 0, None))(
            draw[0], state, draw[1], params
        )
        return state, (obs, info.get("final_observation", obs), reward, *flags)

    obs, state = jax.vmap(env.reset, (0, None))(keys_reset, params)
    return obs, jax.lax.scan(step, state, (keys, actions))[1]


def our_play(env, keys_reset, keys, actions):
    """Play the same through purerl, with gymnax's division of keys; `final` is before any reset."""

    def one(key, state, action):
        key_step, key_reset = jax.random.split(key)
        final, state, reward, terminated, truncated, _ = env.step(key_step, state, action)
        ended = terminated | truncated
        fresh = env.reset(key_reset, None, ended)
        obs, state = jax.tree.map(partial(jnp.where, ended), fresh, (final, state))
        return state, (obs, reward, terminated, truncated, final)

    obs, state = jax.vmap(env.reset)(keys_reset)
    return obs, jax.lax.scan(
        lambda state, draw: jax.vmap(one)(draw[0], state, draw[1]), state, (keys, actions)
    )[1]


def close(ours, theirs):
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", IDS)
def test_steps_equal_gymnax(name):
    """Observations, rewards and ends through many resets; the clock is exact."""
    theirs, params = gymnax_make(name, LIMIT)
    ours = from_gymnax(theirs, max_episode_steps=LIMIT)
    given = draws(ours, COPIES, STEPS)
    begun, (obs, last, reward, *flags) = jax.jit(gymnax_play, static_argnums=0)(theirs, params, *given)
    start, (seen, earned, terminated, truncated, final) = jax.jit(partial(our_play, ours))(*given)
    if name == "FrozenLake-misc":
        begun, obs, last = (jax.nn.one_hot(index, 16) for index in (begun, obs, last))
    ended = np.asarray(terminated | truncated)
    assert ended.sum() >= COPIES * (STEPS // LIMIT)
    np.testing.assert_array_equal(start, begun)
    close(seen, obs)
    close(earned, np.reshape(reward, ended.shape))
    if OLD:
        np.testing.assert_array_equal(ended, np.reshape(flags, ended.shape))
    else:
        np.testing.assert_array_equal([terminated, truncated], flags)
        close(final, last)
    age = np.zeros(COPIES, int)
    for t in range(STEPS):
        age += 1
        np.testing.assert_array_equal(truncated[t], age == LIMIT)
        age[ended[t]] = 0


@pytest.mark.parametrize("name", MORTAL)
def test_termination_at_the_limit(name):
    """Both flags there, only truncated for a limit one step earlier, only terminated for one step later."""
    theirs, params = gymnax_make(name, 10**6)
    (key_reset,), keys, actions = draws(from_gymnax(theirs, params), 1, 300)

    def their_step(state, draw):
        obs, state, _, done, _ = theirs.step_env(draw[0], state, draw[1], params)
        return state, (obs, done)

    _, state = theirs.reset_env(key_reset, params)
    obs, done = jax.jit(partial(jax.lax.scan, their_step))(state, (keys[:, 0], actions[:, 0]))[1]
    death = int(np.argmax(done)) + 1
    assert done[death - 1] and death > 2
    for limit, dies, expires in ((death - 1, 0, 1), (death, 1, 1), (death + 1, 1, 0)):
        ours = from_gymnax(theirs, max_episode_steps=limit)

        def our_step(state, draw, ours=ours):
            obs, state, _, terminated, truncated, _ = ours.step(draw[0], state, draw[1])
            return state, (obs, terminated, truncated)

        _, state = ours.reset(key_reset)
        last = min(limit, death)
        given = keys[:last, 0], actions[:last, 0]
        seen, terminated, truncated = jax.jit(partial(jax.lax.scan, our_step))(state, given)[1]
        close(seen, obs[:last])
        assert not (terminated | truncated)[:-1].any()
        assert (int(terminated[-1]), int(truncated[-1])) == (dies, expires)


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1", "Breakout-MinAtar", *ALWAYS_THE_SAME])
def test_contract(name):
    purerl.check_env(purerl.make_env(f"gymnax:{name}"), deterministic_reset=name in ALWAYS_THE_SAME)


@pytest.mark.parametrize("name", WRONG_BOUNDS)
def test_wrong_bounds_are_the_only_fault(name):
    with pytest.raises(purerl.EnvError) as caught:
        purerl.check_env(purerl.make_env(f"gymnax:{name}"))
    assert all("as in observation_space" in fault for fault in caught.value.faults)


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1", "Breakout-MinAtar"])
def test_it_trains(name):
    cfg = purerl.make_config("ppo", env=f"gymnax:{name}", total_timesteps=4096, eval_episodes=2)
    out = jax.jit(purerl.make_train(cfg))(jax.random.key(0))
    assert out.state.diverged_at == -1 and np.isfinite(out.metrics["eval/return"]).any()


def test_save_and_load(tmp_path):
    cfg = purerl.make_config("ppo", env="gymnax:Breakout-MinAtar", total_timesteps=2048, eval_episodes=2)
    purerl.run(cfg, logdir=tmp_path / "run", progress=False)
    again, state = purerl.load(tmp_path / "run")
    assert again == cfg and (np.asarray(state.env.state.time) <= 2048 // cfg.num_envs).all()


def test_ids_and_options():
    with pytest.raises(purerl.ConfigError, match=r"Did you mean gymnax:CartPole-v1"):
        purerl.make_env("gymnax:cartpole-v1")
    env = purerl.make_env("gymnax:CartPole-v1", length=0.7, max_episode_steps=9)
    assert (env.default_params.length, env.max_episode_steps) == (0.7, 9)
    with pytest.raises(purerl.ConfigError, match="can be made with these options"):
        purerl.make_env("gymnax:CartPole-v1", lenght=0.7)


@pytest.mark.parametrize("wrapper", ["LogWrapper", "FlattenObservationWrapper"])
def test_wrappers_are_refused(wrapper):
    import gymnax
    from gymnax import wrappers

    with pytest.raises(purerl.ConfigError, match="without wrappers"):
        from_gymnax(getattr(wrappers, wrapper)(gymnax.make("CartPole-v1")[0]))


@pytest.mark.slow
def test_ppo_learns_cartpole():
    """Return 400 within 150,000 steps for each of 3 seeds, with the settings of purerl's cartpole."""
    cfg = purerl.make_config(
        "ppo",
        env="gymnax:CartPole-v1",
        seed=2026,
        total_timesteps=150_000,
        eval_interval=10_000,
        eval_episodes=20,
    )
    keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(cfg.seed)))(jnp.arange(3))
    out = jax.jit(jax.vmap(purerl.make_train(cfg)))(keys)
    returns = np.asarray(out.metrics["eval/return"])
    returns = returns[:, np.isfinite(returns[0])]
    print(returns.round(0).tolist())
    assert (returns.max(axis=1) >= 400).all(), returns.round(0)
