"""A trained policy as code of another language: straight-line code, written by one of the writers."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

import purerl
from purerl.config import ConfigError
from purerl.evaluate import Policy
from purerl.spaces import shapes
from purerl.types import Env, HostEnv
from purerl.workbench import javascript_policy, numpy_policy, onnx_policy
from purerl.workbench.any_rows import ROWS, for_any_rows
from purerl.workbench.straight_line import Program, Ref, straight_line

WRITERS: dict[str, Any] = {"numpy": numpy_policy, "javascript": javascript_policy}
"""Languages with straight-line code."""


def code(policy: Policy, env: Env | HostEnv, about: str, to: str = "numpy") -> str:
    """Return a policy on `env` as a program of a language; `about` is the first line of its documentation.

    Raises ConfigError if its actions are random, or for a step that is not translated.
    """
    start = [np.asarray(leaf) for leaf in jax.tree.leaves(policy.init(1))]
    return WRITERS[to].source(lines_of(policy, env, to), about, start)


def onnx_model(policy: Policy, env: Env | HostEnv, about: str, config: str) -> bytes:
    """Return a policy on `env` as an ONNX model, with `about` and `config` in its metadata.

    Raises ConfigError if its actions are random, or for a step that is not translated.
    """
    program = for_any_rows(*(lines_of(policy, env, "onnx", rows) for rows in ROWS), to="onnx")
    facts = {"about": about, "purerl": purerl.__version__, "config": config}
    return onnx_policy.model(program, about, facts)


def lines_of(policy: Policy, env: Env | HostEnv, to: str, rows: int = 1) -> Program:
    """Return a policy on `env` as straight-line code, `(obs [rows, *O], *carry) -> (action, *carry)`.

    Raises ConfigError about the format `to` if its actions are random.
    """
    carry, obs = policy.init(rows), shapes(env.observation_space, rows)
    if isinstance(obs, dict):
        raise ConfigError("to", to, "stablehlo or safetensors, since observations are a dict of arrays")
    key = jax.eval_shape(lambda: jax.random.key(0))
    made = straight_line(lambda obs, carry, key: policy.act(carry, obs, key), obs, carry, key)
    *inputs, drawn = made.inputs
    if any(
        isinstance(value, Ref) and value.index == drawn.index for step in made.steps for value in step.inputs
    ):
        raise ConfigError("to", to, "a deterministic policy; this one draws random numbers")
    return made._replace(inputs=tuple(inputs))
