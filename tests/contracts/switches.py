"""A process for `test_switches.py`, under the switches of JAX in its environment variables.

    python switches.py [OUT]

The programs of all algorithms are traced, with two members; with `OUT` they are run too, and what they
learned is written there, an .npz file. Two algorithms also run from the host, and are resumed, loaded and
played.
"""

import dataclasses
import logging
import sys
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
from cases import RUNS
from tiny import plain, seed_keys

import purerl
from purerl import registry
from purerl.envs.check.interface import check_interface
from purerl.envs.check.types import check_types
from purerl.health import split_replay

TRAINED = (
    *("a2c-pendulum", "ddpg-pendulum", "dqn-rainbow", "dqn-munchausen", "ppo-cartpole"),
    *("recurrent_ppo-cartpole", "recurrent_sac-cartpole", "sac-pendulum", "td3-pendulum"),
    *("pqn-cartpole", "trpo-pendulum", "vpg-pendulum"),
)
RESUMED = "ppo-cartpole", "td3-pendulum"
PLAYED = {
    "acrobot": {},
    "cartpole": {},
    "mountain_car": {},
    "mountain_car_continuous": {},
    "pendulum": {},
    "hopper": {"engine": "mujoco"},
    "breakout": {},
}
"""Environments that `check_env` plays, and options; the types of all others on the CPU are checked too."""
WIDE = {"int64", "uint64", "float64"}


def check_leaves(tree):
    """Check that no leaf is wider than 32 bits, and that all are on the default device."""
    for path, leaf in jax.tree.leaves_with_path(tree):
        where = f"{jax.tree_util.keystr(path)}: {leaf.dtype}"
        assert str(leaf.dtype) not in WIDE, where
        assert not isinstance(leaf, jax.Array) or leaf.devices() == {jax.devices()[0]}, where


def train(cfg, runs):
    """Trace the program of members 0 and 1; if it `runs`, return what they learned and their metrics."""
    fields = {"eval_interval": 0} | ({"learning_starts": 0} if hasattr(cfg, "learning_starts") else {})
    train = jax.vmap(purerl.make_train(dataclasses.replace(cfg, **fields)))
    if not runs:
        check_leaves(jax.eval_shape(train, seed_keys(0, 1)))
        return {}
    out = jax.jit(train)(seed_keys(0, 1))
    check_leaves(out)
    assert (out.state.diverged_at < 0).all()
    learned = jax.tree.leaves_with_path(split_replay(out.state.algo)[0])
    numbers = {f"{cfg.algo}{jax.tree_util.keystr(path)}": plain(leaf) for path, leaf in learned}
    return numbers | {f"{cfg.algo} {name}": np.asarray(value) for name, value in out.metrics.items()}


def run_and_resume(cfg, directory):
    """Run members 0 and 1 to the end, and on from there; then load them, and play."""
    check_leaves(jax.eval_shape(purerl.make_train(cfg), jax.random.key(0)))
    short = purerl.run(cfg, 2, directory, progress=False)
    longer = dataclasses.replace(cfg, total_timesteps=cfg.total_timesteps + cfg.log_interval)
    run = purerl.run(longer, 2, directory, resume=True, allow_changes=True, progress=False)
    assert len(run.steps) == len(short.steps) + 1 and (run.diverged_at < 0).all()
    loaded, state = purerl.load(directory)
    policy = purerl.make_policy(loaded, state, member=1)
    obs = jnp.zeros((3, *purerl.make_env(cfg.env).observation_space.shape), jnp.float32)
    played = jax.jit(policy.act)(policy.init(3), obs, jax.random.key(1))
    check_leaves((run.state, run.metrics, state, played))


def check_environments():
    """Check environments of every kind."""
    for name, options in PLAYED.items():
        purerl.check_env(purerl.make_env(name, max_episode_steps=5, **options))
    for name, place in registry.ENVIRONMENTS.items():
        options = {"engine": "mujoco"} if "mujoco" in place else {}
        task, faults = check_interface(purerl.make_env(name, **options), None)
        assert [*faults, *check_types(task)] == [], name


def main(out=None):
    """Go through everything."""
    logging.disable(logging.WARNING)  # totals that are rounded up
    learned = {}
    for name in TRAINED:
        learned |= train(RUNS[name], runs=out is not None)
    if out is not None:
        np.savez(out, **learned)
    check_environments()
    with tempfile.TemporaryDirectory() as scratch:
        for name in RESUMED:
            run_and_resume(RUNS[name], f"{scratch}/{name}")


if __name__ == "__main__":
    main(*sys.argv[1:])
