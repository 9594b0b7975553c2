"""A policy or a task as straight-line code: its equations one after the other, with numbers for weights.

JAX traces the function; calls are inlined, what no output needs is dropped, and everything that depends on
weights alone is computed here once. The rest are a few dozen kinds of steps, which other languages have too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purerl.types import PyTree

CALLS = (
    "jit",
    "pjit",
    "closed_call",
    "core_call",
    "custom_jvp_call",
    "custom_vjp_call",
    "remat2",
    "checkpoint",
)
"""Primitives that stand for the equations inside them."""
OUTSIDE = ("mujoco_step", "mujoco_reset")
"""Steps outside the program, which depend on more than their inputs."""
IDENTITIES = ("stop_gradient", "copy", "copy_p", "optimization_barrier", "reduce_precision")


class Ref(NamedTuple):
    """A value that is known only when the policy acts."""

    index: int
    shape: tuple[int, ...]
    dtype: np.dtype


Value = Ref | np.ndarray


class Step(NamedTuple):
    """One operation on arrays."""

    op: str
    """Name of JAX's primitive."""
    inputs: tuple[Value, ...]
    params: dict[str, Any]
    outputs: tuple[Ref, ...]


class Program(NamedTuple):
    """Steps from inputs to outputs; both are flat, in the order of their pytrees' leaves."""

    inputs: tuple[Ref, ...]
    steps: tuple[Step, ...]
    outputs: tuple[Value, ...]


def straight_line(function: Callable[..., PyTree], *args: PyTree) -> Program:
    """Return the program of `function` on arguments like `args`: arrays, or pytrees of them."""
    closed = jax.make_jaxpr(function)(*args)
    count = iter(range(2**31))
    inputs = tuple(_ref(count, var.aval) for var in closed.jaxpr.invars)
    steps: list[Step] = []
    outputs = _inline(closed.jaxpr, [np.asarray(c) for c in closed.consts], inputs, steps, count)
    return _renumbered(Program(inputs, _needed(steps, outputs), tuple(outputs)))


def with_draws(program: Program) -> Program:
    """Return `program` with random bits that come from outside, in the place of those of JAX's keys.

    Every draw is a step `random_bits` without inputs; its `params` are those of JAX. Since no key is used
    twice, independent draws have the same distribution.
    """
    steps = [s._replace(inputs=()) if s.op == "random_bits" else s for s in program.steps]
    kept = _needed(steps, program.outputs)
    used = {value.index for step in kept for value in step.inputs if isinstance(value, Ref)}
    used |= {value.index for value in program.outputs if isinstance(value, Ref)}
    inputs = tuple(ref for ref in program.inputs if ref.index in used or ref.dtype != np.dtype("O"))
    return _renumbered(Program(inputs, kept, program.outputs))


def _inline(
    jaxpr: Any, consts: Sequence[Value], args: Sequence[Value], steps: list[Step], count: Any
) -> list[Value]:
    """Append the steps of `jaxpr` on `args` to `steps`, and return its results."""
    known: dict[Any, Value] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))
    read = lambda atom: np.asarray(atom.val, atom.aval.dtype) if hasattr(atom, "val") else known[atom]
    for eqn in jaxpr.eqns:
        values, name = [read(atom) for atom in eqn.invars], eqn.primitive.name
        if name in CALLS:
            inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr", eqn.params.get("fun_jaxpr")))
            body, own = getattr(inner, "jaxpr", inner), getattr(inner, "consts", ())
            results = _inline(body, [np.asarray(c) for c in own], values, steps, count)
        elif name in IDENTITIES:
            results = values
        elif (same := _unchanged(name, values, eqn.outvars[0].aval.shape)) is not None:
            results = [same]
        elif name not in OUTSIDE and not any(isinstance(value, Ref) for value in values):
            found = eqn.primitive.bind(*values, **eqn.params)
            results = [np.asarray(one) for one in (found if eqn.primitive.multiple_results else [found])]
        else:
            refs = tuple(_ref(count, var.aval) for var in eqn.outvars)
            steps.append(Step(name, tuple(values), dict(eqn.params), refs))
            results = refs
        known |= dict(zip(eqn.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _unchanged(name: str, values: Sequence[Value], shape: tuple[int, ...]) -> Value | None:
    """Return the value that a step passes on as it is, such as the larger of x and -inf; None without one."""
    if not values:
        return None
    first, last = values[0], values[-1]
    if name in ("broadcast_in_dim", "reshape", "squeeze") and first.shape == shape:
        return first
    if name == "select_n" and isinstance(first, np.ndarray) and len({*first.ravel().tolist()}) == 1:
        return values[1 + int(first.ravel()[0])]
    lowest = name == "max" and isinstance(first, np.ndarray) and np.isneginf(first).all()
    return last if lowest and last.shape == shape else None


def _needed(steps: Sequence[Step], outputs: Sequence[Value]) -> tuple[Step, ...]:
    """Return the steps that `outputs` depend on."""
    live, kept = {value.index for value in outputs if isinstance(value, Ref)}, []
    for step in reversed(steps):
        if any(ref.index in live for ref in step.outputs):
            kept.append(step)
            live |= {value.index for value in step.inputs if isinstance(value, Ref)}
    return tuple(reversed(kept))


def _renumbered(program: Program) -> Program:
    """Return `program` with its references counted without gaps."""
    refs = [*program.inputs, *(ref for step in program.steps for ref in step.outputs)]
    place = {ref.index: i for i, ref in enumerate(refs)}

    def again(value: Any) -> Any:
        return value._replace(index=place[value.index]) if isinstance(value, Ref) else value

    many = lambda values: tuple(map(again, values))
    steps = tuple(s._replace(inputs=many(s.inputs), outputs=many(s.outputs)) for s in program.steps)
    return Program(many(program.inputs), steps, many(program.outputs))


def _ref(count: Any, aval: Any) -> Ref:
    dtype = np.dtype("O") if jnp.issubdtype(aval.dtype, jax.dtypes.extended) else np.dtype(aval.dtype)
    return Ref(next(count), tuple(aval.shape), dtype)
