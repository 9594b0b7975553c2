"""MuJoCo Playground's environments through purerl, compared with its own `reset` and `step`."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purerl
from purerl.envs.adapters.from_brax import from_playground

STEPS, LIMIT = 200, 60


def load(name):
    from mujoco_playground import registry

    return registry.load(name, config_overrides={"impl": "jax"})


@pytest.mark.parametrize("name", ["CartpoleBalance", "PointMass"])
def test_steps_equal_playground(name):
    """Observations and rewards through resets by an exact clock."""
    theirs = load(name)
    ours = from_playground(theirs, max_episode_steps=LIMIT)
    keys = jax.random.split(jax.random.key(0), STEPS + 1)
    raw = jax.random.key_data(keys)
    actions = jax.random.uniform(jax.random.key(1), (STEPS, theirs.action_size), minval=-1.0)

    def their_step(carry, draw):
        (state, age), (key, action) = carry, draw
        after = theirs.step(jax.tree.map(lambda leaf: leaf, state), action)
        over = (after.done > 0) | (age + 1 == LIMIT)
        state = jax.tree.map(partial(jnp.where, over), theirs.reset(key), after)
        return (state, jnp.where(over, 0, age + 1)), (after.obs, after.reward, after.done, age + 1 == LIMIT)

    def our_step(state, draw):
        key, action = draw
        obs, after, reward, terminated, truncated, _ = ours.step(key, state, action)
        _, fresh = ours.reset(key, None, terminated | truncated)
        state = jax.tree.map(partial(jnp.where, terminated | truncated), fresh, after)
        return state, (obs, reward, terminated, truncated)

    @jax.jit
    def play():
        begun, (start, state) = theirs.reset(raw[0]), ours.reset(keys[0])
        theirs_seen = jax.lax.scan(their_step, (begun, 0), (raw[1:], actions))[1]
        return begun.obs, start, theirs_seen, jax.lax.scan(our_step, state, (keys[1:], actions))[1]

    begun, start, (obs, reward, done, clock), (seen, earned, terminated, truncated) = play()
    np.testing.assert_array_equal(start, begun)
    np.testing.assert_allclose(seen, obs, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(earned, reward, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(terminated, np.asarray(done) > 0)
    np.testing.assert_array_equal(truncated, clock)
    assert truncated.sum() == STEPS // LIMIT and seen.dtype == earned.dtype == np.float32


def test_contract():
    env = purerl.make_env("playground:CartpoleBalance", max_episode_steps=50)
    purerl.check_env(env)
    assert env.name == "playground:CartpoleBalance"


def test_it_trains():
    kwargs = {"env_kwargs": {"max_episode_steps": 50}}
    cfg = purerl.make_config(
        "ppo", env="playground:CartpoleBalance", total_timesteps=2048, eval_episodes=2, **kwargs
    )
    out = jax.jit(purerl.make_train(cfg))(jax.random.key(0))
    assert out.state.diverged_at == -1 and np.isfinite(out.metrics["eval/return"]).any()


def test_save_and_load(tmp_path):
    cfg = purerl.make_config("ppo", env="playground:CartpoleBalance", total_timesteps=2048, eval_interval=0)
    purerl.run(cfg, logdir=tmp_path / "run", progress=False)
    again, state = purerl.load(tmp_path / "run")
    assert again == cfg and (np.asarray(state.env.state.time) <= 2048 // cfg.num_envs).all()


def test_ids_and_options():
    env = from_playground(load("CartpoleBalance"))
    assert env.max_episode_steps == 1000
    with pytest.raises(purerl.ConfigError, match=r"Did you mean playground:CheetahRun"):
        purerl.make_env("playground:cheetah_run")
    with pytest.raises(purerl.ConfigError, match="can be made with these options"):
        purerl.make_env("playground:CartpoleBalance", sim_td=0.01)
    assert purerl.make_env("playground:CartpoleBalance", sim_dt=0.005).max_episode_steps == 1000


def test_wrappers_are_refused():
    from mujoco_playground import wrapper

    with pytest.raises(purerl.ConfigError, match=r"got one in a BraxAutoResetWrapper"):
        from_playground(wrapper.wrap_for_brax_training(load("CartpoleBalance")))
