"""`load`: read the configuration and the state of a run; `kept_policies` lists what it kept on its way."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purerl.config import Config, ConfigError, Rule, validate
from purerl.experiment.policies import KeptPolicy, policies_in, policy_at, policy_of
from purerl.experiment.record import config_of, members_of, read_record
from purerl.experiment.store import load_newest, load_one
from purerl.experiment.untrusted import CheckpointError, SchemaError, refuse_files
from purerl.make import env_for
from purerl.members import Members
from purerl.own_parts import check_given
from purerl.programs import Best
from purerl.python_envs import outline
from purerl.train import Driver, driver_on
from purerl.types import Env, HostEnv, TrainState
from purerl.user_paths import user_path


@jax.transfer_guard("allow")
def load(
    run_dir: str | os.PathLike[str],
    *,
    best: bool = False,
    itr: int | None = None,
    policy_only: bool = False,
    env: Env | HostEnv | None = None,
    networks: Mapping[str, Any] | None = None,
) -> tuple[Config, TrainState]:
    """Read the configuration and the newest sound state of the run in `run_dir`, for `purerl.make_policy`.

    Only arrays and plain values are read, of the shapes that the configuration asks for: an untrusted
    directory can execute nothing.

    Args:
        run_dir: the `logdir` of `purerl.run`.
        best: the policy of each member's best evaluation, with the normaliser it had then, in place of
            the newest; such a state has neither a replay buffer nor environments.
        itr: the policy of this epoch, a row of the logs, in place of the newest; a run with
            `snapshot_interval` keeps some. It has neither a replay buffer nor environments.
        policy_only: leave out the replay buffer, which may be gigabytes, and the environments. `env` may
            then be another task with the same observations and actions.
        env: the task, if the run was given one and its name is not registered by `purerl.register_env`, or if
            it has a model file of its own.
        networks: those the run was trained with, if not the algorithm's own.

    Returns:
        `(cfg, state)`, the state of all members: each leaf `[S, ...]`. `cfg` has the fields that no sweep
        varied; those of a member are in its config.json.

    Raises:
        ConfigError: if there is no run, or its configuration does not fit this purerl, or no policy of
            epoch `itr`.
        CheckpointError: if there is no checkpoint that can be read, or no evaluation for `best`.
    """
    path = user_path("run_dir", run_dir)
    for name, value in {"best": best, "policy_only": policy_only}.items():
        validate(name, value, Rule("switch"))
    validate("itr", itr, Rule("count", 0, optional=True))
    if best and itr is not None:
        raise ConfigError("itr", itr, "no value beside best, which names another policy")
    record = read_record(path, "run_dir")
    kept = None if itr is None else policy_at(path, itr)
    check_given(record, env, networks)
    cfg, members = config_of(record), members_of(record)
    if env is None:
        refuse_files(cfg.env, cfg.env_kwargs, "Make the environment, and pass it as env.")
    driver = driver_of(cfg, env_for(cfg, env), networks, members)
    keys, hyper = jax.eval_shape(lambda: (members.keys(cfg), members.hyper(cfg)))
    plain = {name: jax.ShapeDtypeStruct((), value.dtype) for name, value in hyper.items()}
    state = jax.eval_shape(jax.vmap(driver.init, in_axes=(0, None)), keys, plain)  # training is not traced
    without_env = best or policy_only or kept is not None
    if without_env:
        state = policy_of(state)
    arrays: dict[str, Any] = {"state": state}
    if best:
        if not cfg.eval_interval:
            raise CheckpointError(f"{path} has no best policy: its run did not evaluate")
        value: Any = jax.ShapeDtypeStruct(state.diverged_at.shape, jnp.float32)
        arrays = {"state": state._replace(algo=()), "best": Best(state.algo, value, state.diverged_at)}
    try:
        if kept is None:
            found = load_newest(path, record, driver.schedule, arrays, partly=True)
        else:
            found = load_one(kept, record, driver.schedule, arrays, partly=True)
    except SchemaError as error:
        if env is None or not without_env:
            raise
        what = f"a task whose observations and actions are those of the run: {error}"
        raise ConfigError("env", env.name, what) from error
    if found is None:
        raise CheckpointError(f"{path} has no checkpoint yet")
    arrays = found[1]
    if best and (np.asarray(arrays["best"].step) < 0).all():
        raise CheckpointError(f"{path} has no best policy yet: its run has not evaluated")
    return cfg, arrays["state"]._replace(algo=arrays["best"].algo) if best else arrays["state"]


def kept_policies(run_dir: str | os.PathLike[str]) -> list[KeptPolicy]:
    """Return the policies that the run in `run_dir` has kept, ascending: `load` takes their epochs as `itr`.

    Raises ConfigError if there is no run, CheckpointError if its policies cannot be listed.
    """
    path = user_path("run_dir", run_dir)
    read_record(path, "run_dir")
    return list(policies_in(path))


def driver_of(
    cfg: Config, env: Env | HostEnv, networks: Mapping[str, Any] | None, members: Members
) -> Driver:
    """Return the functions of a run's members, on the outline of an environment that steps in Python."""
    env = outline(env) if isinstance(env, HostEnv) else env
    driver = driver_on(cfg, env, networks)
    for setting in members.settings:
        driver.validate(setting)
    return driver
