"""Evaluation of the policies that a run has trained, on its own task or on another with the same spaces."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purerl import evaluate as inside
from purerl.config import Rule, validate
from purerl.experiment.loading import driver_of, load
from purerl.experiment.record import members_of, read_record
from purerl.make import env_for
from purerl.programs import over_members
from purerl.python_envs import Vector, episodes_loop
from purerl.train import evaluation_key
from purerl.types import Env, HostEnv
from purerl.user_paths import user_path


class Evaluation(NamedTuple):
    """Whole episodes of every member of a run."""

    returns: np.ndarray
    """`[S, E]` float32, undiscounted."""
    lengths: np.ndarray
    """`[S, E]` int32, in steps."""
    members: list[str]
    """Directory of each member in that of the run."""
    diverged: np.ndarray
    """`[S]` bool: the member's learning broke down."""


@jax.transfer_guard("allow")
def evaluate_run(
    run_dir: str | os.PathLike[str],
    episodes: int = 10,
    *,
    best: bool = False,
    itr: int | None = None,
    stochastic: bool = False,
    seed: int = 0,
    env: Env | HostEnv | None = None,
    networks: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Play whole episodes with every member's policy of the run in `run_dir`.

    All members meet the same starts and the same noise, so that they are compared on common random numbers.
    The same arguments give the same bits on the same machine and versions.

    Args:
        run_dir: the `logdir` of `purerl.run`.
        episodes: E, played side by side.
        best: the policy of each member's best evaluation, in place of the newest.
        itr: the policy of this epoch, which the run has kept, in place of the newest.
        stochastic: act as in training, with exploration; otherwise deterministically.
        seed: root of the random numbers.
        env: the task; the run's own if None. Another, such as the same robot on the other engine or in
            Gymnasium, must have the same spaces.
        networks: those the run was trained with, if not the algorithm's own.

    Raises:
        ConfigError: if there is no run, or the policy does not fit `env`.
        CheckpointError: if there is no checkpoint that can be read.
    """
    validate("episodes", episodes, Rule("count", 1, 2**16))
    validate("seed", seed, Rule("count", 0, 2**32 - 1))
    for name, value in {"best": best, "stochastic": stochastic}.items():
        validate(name, value, Rule("switch"))
    cfg, state = load(run_dir, best=best, itr=itr, policy_only=True, env=env, networks=networks)
    members = members_of(read_record(user_path("run_dir", run_dir), "run_dir"))
    task = env_for(cfg, env)
    driver = driver_of(cfg, task, networks, members)
    roots = jnp.stack([jax.random.key(seed)] * members.size)
    step, hyper = jnp.int32(driver.schedule.total_steps), members.hyper(cfg)
    arguments = state.algo, roots, step, hyper
    if isinstance(task, HostEnv):
        vector = Vector(task, members.size, episodes, evaluation=True)
        try:
            limit = task.max_episode_steps
            progress = episodes_loop(driver, members, vector, limit, episodes, stochastic)(*arguments)
        finally:
            vector.close()
        returns, lengths = progress.returns, progress.lengths
    else:

        def play(learned, root, step, hyper):
            algo = driver.make_algorithm(hyper)
            policy = inside.policy_of(algo, learned, driver.env, step, stochastic)
            return inside.evaluate(driver.env, policy, evaluation_key(root, step, stochastic), episodes)

        mapped = over_members(play, (0, 0, None, members.axes(cfg)), members.size)
        returns, lengths = jax.jit(mapped)(*arguments)
    return Evaluation(
        np.asarray(returns), np.asarray(lengths), members.names, np.asarray(state.diverged_at) >= 0
    )
