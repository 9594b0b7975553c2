"""Every algorithm, and environments of every kind, under each of JAX's global switches.

Each is tried in a process of its own, `switches.py`.
"""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import FLAGS
from tiny import seed_keys, tiny

import purerl
from purerl.rollout import uniform_action, unroll

HERE = Path(__file__).parent
EXPLICIT = {"JAX_NUMPY_RANK_PROMOTION": "raise", "JAX_NUMPY_DTYPE_PROMOTION": "strict"}
TWO_DEVICES = {"XLA_FLAGS": FLAGS + " --xla_force_host_platform_device_count=2"}
TRACED = {
    "explicit promotion and rbg": EXPLICIT | {"JAX_DEFAULT_PRNG_IMPL": "rbg"},
    "two devices and unsafe_rbg": TWO_DEVICES | {"JAX_DEFAULT_PRNG_IMPL": "unsafe_rbg"},
}
"""Switches under which a program that is traced is sure to run, or has other random numbers; none hides
a fault that another one shows."""
RUN = {"JAX_ENABLE_X64": "1", "JAX_DEBUG_NANS": "1", "JAX_DEBUG_INFS": "1"}
"""Switches that change a program, or watch it: 64 bits, and a search for NaN and infinity."""
LIMIT = 900
"""Seconds; a process takes 50 to 90 of a processor, on a busy machine several times as long."""
pytestmark = pytest.mark.slow


def go(environment, *out):
    """Run `switches.py` with these environment variables."""
    paths = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    env = os.environ | {"XLA_FLAGS": FLAGS, "PYTHONPATH": paths} | environment
    command = [sys.executable, str(HERE / "switches.py"), *map(str, out)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.mark.parametrize("switch", TRACED)
def test_everything_works(switch):
    go(TRACED[switch])


def test_everything_learns_the_same(tmp_path):
    """To rounding."""
    go({}, tmp_path / "plain.npz")
    go(RUN, tmp_path / "switched.npz")
    plain, found = (np.load(tmp_path / f"{name}.npz") for name in ("plain", "switched"))
    assert sorted(found) == sorted(plain) and len(plain) > 100
    for name in plain:
        assert found[name].dtype == plain[name].dtype, name
        np.testing.assert_allclose(found[name], plain[name], rtol=2e-3, atol=2e-4, err_msg=name)


def test_a_nan_of_a_fault_is_found():
    """A member that breaks down is not put back, as it is without the switch: its gradient is NaN."""
    value = lambda params, obs: jnp.sqrt(0 * params) + 0 * obs[:, 0]
    networks = {"v": (lambda key, obs: jnp.float32(1), value)}
    cfg, key = tiny("a2c", "cartpole", eval_interval=0), seed_keys(0)[0]
    train = lambda: jax.jit(purerl.make_train(cfg, networks=networks))(key)
    assert train().state.diverged_at > 0
    with jax.debug_nans(True), pytest.raises(FloatingPointError):
        train()


def test_a_delayed_update_returns_no_nan():
    """For a loop of one's own around `update`: the actor's loss has a value in every second step only."""
    cfg = tiny("td3", policy_delay=2)
    driver = purerl.make_driver(cfg)
    state = driver.init(jax.random.key(0), {})
    policy = lambda carry, obs, key: (uniform_action(driver.env.action_space, key, cfg.num_envs), carry, ())
    roll = lambda state: unroll(driver.env, policy, state.env, state.carry, jax.random.key(2), 1)[2]
    rows = jax.jit(roll)(state)
    with jax.debug_nans(True):
        _, metrics = jax.jit(driver.algo.update)(state.algo, rows, jax.random.key(1), jnp.int32(0))
    assert np.isnan(metrics["pi/loss"]) and np.isfinite(metrics["q/loss"])


MUTANTS = {
    "a member is put back under the switch": (
        "health.py",
        "if jax.config.jax_debug_nans:",
        "if False:",
        "test_a_nan_of_a_fault_is_found",
    ),
    "a width of JAX's choice": (
        "replay/uniform.py",
        "jnp.ones(batch_size, jnp.float32)",
        "jnp.ones(batch_size)",
        "test_everything_learns_the_same",
    ),
    "a rank too few": (
        "algos/td3.py",
        "batch.discount, next_q)[None]",
        "batch.discount, next_q)",
        "test_everything_works[explicit promotion and rbg]",
    ),
    "an update that was skipped has a loss": (
        "algos/learning.py",
        "dict.fromkeys(metrics, due)",
        "{}",
        "test_a_delayed_update_returns_no_nan",
    ),
}
