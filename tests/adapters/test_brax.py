"""brax's environments through purerl, compared with brax's own `reset`, `step` and `EpisodeWrapper`."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purerl
from purerl.envs.adapters.from_brax import from_brax, make_brax

STEPS = 300


def brax_play(env, limit, keys_reset, actions):
    """Play brax's environment with brax's clock, reset with the next key where it ends."""
    from brax.envs.wrappers.training import EpisodeWrapper

    clocked = EpisodeWrapper(env, limit, 1)

    def step(state, draw):
        key, action = draw
        after = clocked.step(state, action)
        fresh = clocked.reset(key)
        state = jax.tree.map(partial(jnp.where, after.done > 0), fresh, after)
        return state, (after.obs, after.reward, after.done, after.info["truncation"])

    raw = jax.random.key_data(keys_reset)
    state = clocked.reset(raw[0])
    return state.obs, *jax.lax.scan(step, state, (raw[1:], actions))[1]


def our_play(env, keys_reset, actions):
    def step(state, draw):
        key, action = draw
        obs, after, reward, terminated, truncated, _ = env.step(key, state, action)
        ended = terminated | truncated
        _, fresh = env.reset(key, None, ended)
        return jax.tree.map(partial(jnp.where, ended), fresh, after), (obs, reward, terminated, truncated)

    obs, state = env.reset(keys_reset[0])
    return obs, *jax.lax.scan(step, state, (keys_reset[1:], actions))[1]


@pytest.mark.parametrize(
    ("name", "backend", "limit"),
    [
        ("fast", None, 25),
        ("hopper", "positional", 25),
        ("inverted_pendulum", "generalized", 7),
        ("inverted_pendulum", "mjx", 7),
    ],
)
def test_steps_equal_brax(name, backend, limit):
    """Observations, rewards, ends and the clock through many resets."""
    from brax import envs

    theirs = envs.get_environment(name, **({"backend": backend} if backend else {}))
    ours = from_brax(theirs, max_episode_steps=limit)
    keys = jax.random.split(jax.random.key(0), STEPS + 1)
    actions = jax.random.uniform(jax.random.key(1), (STEPS, theirs.action_size), minval=-1.0)
    begun, obs, reward, done, truncation = jax.jit(partial(brax_play, theirs, limit))(keys, actions)
    start, seen, earned, terminated, truncated = jax.jit(partial(our_play, ours))(keys, actions)
    np.testing.assert_array_equal(start, begun)
    np.testing.assert_allclose(seen, obs, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(earned, reward, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(terminated | truncated, np.asarray(done) > 0)
    np.testing.assert_array_equal(truncated & ~terminated, np.asarray(truncation) > 0)
    assert seen.dtype == earned.dtype == np.float32 and terminated.dtype == truncated.dtype == bool
    assert truncated.sum() >= 1 and (name == "fast") == (not np.asarray(terminated).any())


def test_termination_at_the_limit():
    """Both flags there, only truncated for a limit one step earlier, only terminated for one step later."""
    keys, push = jax.random.split(jax.random.key(0), 61), jnp.full((60, 1), 0.2)

    def flags(limit):
        env = make_brax("inverted_pendulum", max_episode_steps=limit)
        return map(np.asarray, jax.jit(partial(our_play, env))(keys, push)[3:])

    terminated, truncated = flags(1000)
    death = int(terminated.argmax()) + 1
    assert terminated[death - 1] and not truncated.any() and death > 2
    for limit, dies, expires in ((death - 1, 0, 1), (death, 1, 1), (death + 1, 1, 0)):
        terminated, truncated = flags(limit)
        last = min(limit, death) - 1
        assert not (terminated | truncated)[:last].any()
        assert (int(terminated[last]), int(truncated[last])) == (dies, expires)


def test_contract():
    purerl.check_env(purerl.make_env("brax:inverted_pendulum", max_episode_steps=50))
    purerl.check_env(purerl.make_env("brax:fast", max_episode_steps=50), deterministic_reset=True)


@pytest.mark.parametrize("algo", ["ppo", "sac"])
def test_it_trains(algo):
    kwargs = {"env_kwargs": {"max_episode_steps": 50}}
    cfg = purerl.make_config(
        algo, env="brax:inverted_pendulum", total_timesteps=2048, eval_episodes=2, **kwargs
    )
    out = jax.jit(purerl.make_train(cfg))(jax.random.key(0))
    assert out.state.diverged_at == -1 and np.isfinite(out.metrics["eval/return"]).any()


def test_save_and_load(tmp_path):
    cfg = purerl.make_config("ppo", env="brax:inverted_pendulum", total_timesteps=2048, eval_interval=0)
    purerl.run(cfg, logdir=tmp_path / "run", progress=False)
    again, state = purerl.load(tmp_path / "run")
    assert again == cfg and (np.asarray(state.env.state.time) <= 2048 // cfg.num_envs).all()


def test_wrappers_are_refused():
    from brax import envs

    for options in (
        {},
        {"auto_reset": False},
        {"episode_length": None, "auto_reset": False, "batch_size": 2},
    ):
        with pytest.raises(purerl.ConfigError, match=r"got one in a (AutoReset|Episode|Vmap)Wrapper"):
            from_brax(envs.create("fast", **options))
    assert from_brax(envs.create("fast").unwrapped).name == "Fast"


def test_ids_and_options():
    with pytest.raises(purerl.ConfigError, match=r"Did you mean brax:halfcheetah"):
        purerl.make_env("brax:half_cheetah")
    with pytest.raises(purerl.ConfigError, match="can be made with these options"):
        purerl.make_env("brax:inverted_pendulum", bakend="spring")
    dict_obs = {"obs_mode": "dict_state", "asymmetric_obs": True}
    assert purerl.make_env("brax:fast", **dict_obs).observation_space.shape == (2,)
    assert purerl.make_env("brax:fast", obs_key="privileged_state", **dict_obs).observation_space.shape == (
        4,
    )
