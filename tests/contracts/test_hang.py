"""Vmapped training ends, tried in a process that can be killed.

XLA:CPU runs a batched LAPACK call on the thread pool that waits for it, so a program with one can
stop on a machine with few cores, though not every time: a run that ends proves little, and
`test_no_program_calls_lapack_or_fft` is the surer guard. `PURERL_HANG_REPEATS=20` repeats it.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

LIMIT = 120
"""Seconds; a run takes 25 to 55 on two busy cores, most of them to compile."""
ROOT = Path(__file__).parents[2]
PROGRAM = """
import faulthandler
import sys

faulthandler.dump_traceback_later({limit} - 5, exit=True)

import jax
import jax.numpy as jnp
import purerl

cfg = purerl.make_config(
    "ppo", env="cartpole", num_envs=4, num_steps=16, num_minibatches=4, num_epochs=2,
    total_timesteps=512, log_interval=128, eval_interval=0,
)
train = purerl.make_train(cfg)
rates = {{"learning_rate": jnp.array([1e-4, 3e-4, 1e-3])}}
sweep = jax.vmap(jax.vmap(train, in_axes=(None, 0)), in_axes=(0, None))
out = jax.jit(sweep)(jax.random.split(jax.random.key(int(sys.argv[1])), 4), rates)
assert out.metrics["step"].shape == (4, 3, 4)
print("finished", float(jnp.nanmean(out.metrics["pi/entropy"])))
"""


@pytest.mark.slow
@pytest.mark.parametrize("repeat", range(int(os.environ.get("PURERL_HANG_REPEATS", "1"))))
def test_a_sweep_over_seeds_and_rates_finishes(repeat):
    command = [sys.executable, "-c", PROGRAM.format(limit=LIMIT), str(repeat)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("finished")
