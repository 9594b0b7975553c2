"""A task as JavaScript: `reset` and `step` of an environment, translated from the equations that JAX traces.

Random numbers and the physics of MuJoCo are arguments: `draw(n)` returns n random 32-bit numbers, and
`physics.reset(qpos, qvel)` and `physics.step(ctrl)` the arrays of a `Physics`, in order.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np
from gymnasium.spaces import Box

from purerl.config import ConfigError
from purerl.envs.mujoco.engine.outline import Outline, outlined
from purerl.spaces import shapes
from purerl.types import Env, HostEnv
from purerl.workbench.javascript import Tables, array_of
from purerl.workbench.javascript import source as statements
from purerl.workbench.straight_line import OUTSIDE, Program, straight_line, with_draws


class TaskCode(NamedTuple):
    """A task in JavaScript."""

    script: str
    """Declarations of `reset` and `step`, and what they need."""
    names: tuple[str, ...]
    """Names of the arrays of a state, such as `inner.theta`."""
    physics: Outline | None
    """Physics behind the task; None if it has none."""
    arrays: tuple[str, ...]
    """Names of the arrays of `Physics`, such as `fields.cfrc_ext`, in order."""


def translated(env: Env | HostEnv) -> TaskCode:
    """Return an environment's functions in JavaScript.

    - `reset(draw, physics) -> [obs, state]`
    - `step(state, action, draw, physics) -> [obs, state, reward, terminated, truncated]`

    Every value is a flat array, a state a list of arrays.

    Raises:
        ConfigError: for an environment that steps in Python, or has a step without a word in JavaScript.
    """
    if isinstance(env, HostEnv):
        raise ConfigError("env", env.name, "an environment of JAX; this one steps in Python")
    if not isinstance(env.observation_space, Box):
        raise ConfigError("env", env.name, f"observations of one array, got {env.observation_space}")
    key = jax.eval_shape(lambda: jax.random.key(0))
    _, state = jax.eval_shape(env.reset, key)
    leaves = jax.tree_util.tree_leaves_with_path(state)
    action = shapes(env.action_space)
    with outlined():  # new functions, because JAX remembers the traces of those that it knows
        reset = with_draws(straight_line(lambda key: env.reset(key)[:2], key))
        step = with_draws(straight_line(lambda key, *args: env.step(key, *args)[:5], key, state, action))
    tables = Tables([], [])
    texts = [_reset(reset, tables), _step(step, len(leaves), tables)]
    found = [s.params["physics"] for s in (*reset.steps, *step.steps) if s.op in OUTSIDE]
    physics = found[0] if found else None
    arrays = _names(jax.tree_util.tree_leaves_with_path(physics.shape)) if physics else ()
    return TaskCode("\n".join([tables.source(), *texts]), _names(leaves), physics, arrays)


def _names(leaves: Any) -> tuple[str, ...]:
    return tuple(jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves)


def _reset(program: Program, tables: Tables) -> str:
    _no_keys(program)
    lines = statements(program, tables)
    obs, *state = map(tables.word, program.outputs)
    return _function("reset(draw, physics)", [*lines, f"return [{obs}, [{', '.join(state)}]];"])


def _step(program: Program, num_leaves: int, tables: Tables) -> str:
    _no_keys(program)
    *state, action = program.inputs
    head = [f"const x{ref.index} = state[{i}];" for i, ref in enumerate(state)]
    head.append(f"const x{action.index} = {array_of(action)}.from(action);")
    lines = statements(program, tables)
    obs, *rest = map(tables.word, program.outputs)
    after, ends = rest[:num_leaves], rest[num_leaves:]
    tail = f"return [{obs}, [{', '.join(after)}], {', '.join(f'{word}[0]' for word in ends)}];"
    return _function("step(state, action, draw, physics)", [*head, *lines, tail])


def _function(head: str, lines: list[str]) -> str:
    return f"function {head} {{\n" + "".join(f"  {line}\n" for line in lines) + "}\n"


def _no_keys(program: Program) -> None:
    """Raise ConfigError if a program keeps a key of JAX's."""
    refs = [*program.inputs, *(ref for step in program.steps for ref in step.outputs)]
    if any(ref.dtype == np.dtype("O") for ref in refs):
        raise ConfigError("to", "javascript", "a task whose state and steps keep no key of random numbers")
