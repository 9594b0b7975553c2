"""Policies that leave: a trained policy as files that other programs read, without purerl."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

import purerl
from purerl.config import ConfigError, Rule, to_dict, validate
from purerl.evaluate import Policy
from purerl.experiment.atomic import write_whole
from purerl.experiment.loading import load
from purerl.experiment.record import members_of, read_record
from purerl.make import env_for, make_policy
from purerl.spaces import shapes
from purerl.types import Env, HostEnv
from purerl.user_paths import user_path
from purerl.workbench.named_arrays import named_arrays
from purerl.workbench.policy_code import WRITERS, code, onnx_model
from purerl.workbench.web import export_web

FORMATS = {"numpy": ".py", "javascript": ".mjs", "onnx": ".onnx", "stablehlo": ".stablehlo"}
FORMATS |= {"safetensors": ".safetensors", "web": ""}
"""Format -> suffix of its file; a web page is a folder."""
PLATFORMS = ("cpu", "cuda")


@jax.transfer_guard("allow")
def export_policy(
    run_dir: str | os.PathLike[str],
    to: str = "numpy",
    path: str | os.PathLike[str] | None = None,
    *,
    member: int = 0,
    best: bool = False,
    itr: int | None = None,
    env: Env | HostEnv | None = None,
    networks: Mapping[str, Any] | None = None,
) -> Path:
    """Write the deterministic policy of a member of a run to one file, and return its path.

    | `to`        | the file                                                                               |
    |-------------|----------------------------------------------------------------------------------------|
    | numpy       | Python with the weights in it: `act(obs [*O], carry) -> (action, carry)`, NumPy alone  |
    | javascript  | a module with the weights in it, and the same function on flat arrays                  |
    | onnx        | an ONNX model: `obs [rows, *O], carry_0, ... -> action [rows, *A], next_carry_0, ...`, |
    |             | where each carry is zeros at an episode's start                                        |
    | stablehlo   | of `jax.export`, for a CPU and CUDA: `(carry, obs [B, *O]) -> (action [B, *A], carry)`, |
    |             | where the carry is a tuple of arrays, of zeros at an episode's start                   |
    | safetensors | the learned arrays by name, with the configuration in the file's metadata              |
    | web         | a folder with a web page in which the agent acts live: see `web.export_web`            |

    Args:
        run_dir: the `logdir` of `purerl.run`.
        to: the format.
        path: of the file; `policy` and the format's suffix by default. Of a web page: the folder, `web`.
        member: index of the member.
        best: the policy of the best evaluation, in place of the newest.
        itr: the policy of this epoch, which the run has kept, in place of the newest.
        env: the task, if the run was given one.
        networks: those the run was trained with, if not the algorithm's own.

    Raises:
        ConfigError: for an argument that is not allowed, or a policy that the format cannot express.
        CheckpointError: if there is no checkpoint that can be read.
    """
    validate("to", to, Rule("choice", options=tuple(FORMATS)))
    if to == "web":
        return export_web(run_dir, path, member=member, best=best, itr=itr, env=env, networks=networks)
    place = user_path("path", path or f"policy{FORMATS[to]}")
    if not place.parent.is_dir():
        raise ConfigError("path", str(place), "a file in a directory that exists")
    cfg, state = load(run_dir, best=best, itr=itr, policy_only=True, env=env, networks=networks)
    task = env_for(cfg, env)
    policy = make_policy(cfg, state, member, task, networks)
    name = members_of(read_record(user_path("run_dir", run_dir), "run_dir")).names[member]
    about = f"Policy of {cfg.algo} on {task.name} ({name}), exported by purerl {purerl.__version__}."
    if to in WRITERS:
        content: str | bytes = code(policy, task, about, to)
    elif to == "onnx":
        content = onnx_model(policy, task, about, json.dumps(to_dict(cfg)))
    elif to == "stablehlo":
        content = _stablehlo(policy, task)
    else:
        learned = jax.tree.map(lambda leaf: leaf[member], state.algo)
        content = _safetensors(learned, {"about": about, "config": json.dumps(to_dict(cfg))})
    write_whole(place, content)
    return place


def _stablehlo(policy: Policy, env: Env | HostEnv) -> bytes:
    export, key = _package("jax.export", "flatbuffers"), jax.random.key(0)
    (rows,) = export.symbolic_shape("b")
    wide = lambda leaf: jax.ShapeDtypeStruct((rows, *leaf.shape[1:]), leaf.dtype)
    obs = jax.tree.map(wide, shapes(env.observation_space, 1))
    carry, structure = jax.tree.flatten(jax.tree.map(wide, policy.init(1)))

    def act(carry: tuple[Any, ...], obs: Any) -> tuple[Any, tuple[Any, ...]]:
        action, after = policy.act(jax.tree.unflatten(structure, carry), obs, key)
        return action, tuple(jax.tree.leaves(after))

    return bytes(export.export(jax.jit(act), platforms=PLATFORMS)(tuple(carry), obs).serialize())


def _safetensors(learned: Any, metadata: dict[str, str]) -> bytes:
    """Return the file of the arrays of a pytree by name."""
    return _package("safetensors.numpy", "safetensors").save(named_arrays(learned), metadata=metadata)


def _package(module: str, needed: str) -> Any:
    """Return a module of the extra `export`. Raises ConfigError if the package it needs is not installed."""
    try:
        if needed == "flatbuffers":
            import flatbuffers  # noqa: F401
            from jax import export

            return export
        import safetensors.numpy

        return safetensors.numpy
    except ImportError as error:
        what = f"a format whose packages are installed, got none of {needed}"
        raise ConfigError("to", module, what, 'Try pip install "purerl[export]".') from error
