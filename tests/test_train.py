"""What users bring to `make_train`: environments, networks and loops of their own."""

import runpy
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purerl
from purerl.types import Network

TINY = dict(env="pendulum", total_timesteps=64, learning_starts=32, log_interval=32, eval_interval=0)
TINY |= dict(hidden_sizes=(4,), batch_size=4)


def train(**arguments):
    cfg = purerl.make_config("sac", **TINY)
    return jax.jit(purerl.make_train(cfg, **arguments))(jax.random.key(0))


def test_an_environment_of_ones_own():
    """A user's Env object is used as it is, whatever `cfg.env` says."""
    env = purerl.make_env("pendulum")
    calm = env._replace(step=lambda *args: (*env.step(*args)[:2], jnp.float32(0), *env.step(*args)[3:]))
    out = train(env=calm._replace(max_episode_steps=8))
    assert np.isfinite(out.metrics["q/loss"][1]) and out.state.algo.replay.data.reward.any() == False  # noqa: E712


def test_networks_of_ones_own():
    """An `(init, apply)` pair takes the place of the algorithm's network of that name, and only that."""

    class Linear(nn.Module):
        @nn.compact
        def __call__(self, obs):
            mean = nn.Dense(1, name="mine")(obs)
            return mean, jnp.zeros_like(mean)

    params = train(networks={"pi": (Linear().init, Linear().apply)}).state.algo.learner.params
    assert set(params["pi"]["params"]) == {"mine"} and "torso" in params["q"][0]["params"]
    bare = Network(lambda key, obs: {"w": jnp.zeros((3, 1))}, lambda p, obs: (obs @ p["w"], obs @ p["w"]))
    assert set(train(networks={"pi": bare}).state.algo.learner.params["pi"]) == {"w"}


def test_a_network_that_the_algorithm_has_not_is_refused():
    """A misspelt name would be ignored in silence."""
    with pytest.raises(purerl.ConfigError, match=r"networks = 'qq' .* pi, q.* Did you mean q"):
        train(networks={"qq": (None, None)})


def test_the_loop_in_the_docs_learns():
    """The 30-line example is run as it stands."""
    example = runpy.run_path(str(Path(__file__).parents[1] / "docs" / "own_loop.py"))
    _, returns = jax.jit(example["train"])(jax.random.key(0))
    assert float(returns[-4:].mean()) > 2 * float(returns[:2].mean())


def test_totals_round_up_and_say_so(caplog):
    """Rows are whole: 100 steps in rows of 32 after 32 of warm-up make 128."""
    cfg = purerl.make_config("sac", **TINY | {"total_timesteps": 100})
    steps = jax.eval_shape(purerl.make_train(cfg), jax.random.key(0)).metrics["step"]
    assert steps.shape == (4,) and "100 becomes 128" in caplog.text
    assert purerl.make_driver(cfg).schedule.total_steps == 128
