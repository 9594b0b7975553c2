"""How much memory a function needs at its fullest moment, from its trace: nothing is compiled.

The walk over the jaxpr follows what XLA:CPU does. Operations run level by level, those that wait for
nothing first. What is elementwise is fused into what reads it, and takes no memory, or else writes over
an operand that nobody needs any more. A loop carries its state in place. Not seen are copies between
layouts, common subexpressions, and how tightly XLA packs its buffers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from purerl.types import PyTree

VIEWS = {"broadcast_in_dim", "iota", "reshape", "squeeze", "expand_dims", "bitcast_convert_type"}
"""Primitives whose results take no memory of their own."""
NOT_ELEMENTWISE = {"dot_general", "sort", "rev", "transpose", "gather", "dynamic_slice", "cumsum", "cumprod"}
"""Primitives that are not, though their shapes may look like it."""
IN_PLACE = {"scan", "while", "cond", "dynamic_update_slice", "scatter", "scatter-add"}
"""Other primitives that write over an operand that nobody needs any more."""


def tree_bytes(tree: PyTree) -> int:
    """Bytes of all arrays in `tree`; they may be `jax.ShapeDtypeStruct`s, and typed keys."""
    return sum(map(_bytes, jax.tree.leaves(tree)))


def peak_bytes(function: Callable[..., Any], state: PyTree, *args: PyTree) -> tuple[int, PyTree]:
    """Bytes that `function(state, *args)` needs at its fullest moment, beside its arguments.

    Args:
        function: is traced, not run.
        state: arrays or `jax.ShapeDtypeStruct`s that a donated loop carries, so updated in place.
        *args: likewise; what was computed just before.

    Returns:
        The bytes, and the shapes of what the function returns.
    """
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(state, *args)
    return _Flat(closed.jaxpr).peak(closed.jaxpr.invars[: len(jax.tree.leaves(state))]), shapes


def _bytes(array: Any) -> int:
    """Bytes of an array, shape or abstract value; what is no array takes none."""
    if not hasattr(array, "dtype"):
        return 0
    is_key = jnp.issubdtype(array.dtype, jax.dtypes.prng_key)
    return array.size * (8 if is_key else array.dtype.itemsize)  # a key is two uint32


class _Step(NamedTuple):
    """One operation on buffers, which are numbers."""

    name: str
    reads: set[int]
    writes: list[int]
    level: int
    """How many operations have to come before."""
    inner: int
    """Bytes that the jaxprs within need at their fullest moment."""
    elementwise: bool


class _Flat:
    """The operations of a jaxpr, all calls inlined."""

    def __init__(self, jaxpr: Jaxpr):
        self._sizes: list[int] = []
        self._levels: list[int] = []
        self._steps: list[_Step] = []
        self._inputs = self._new_all((*jaxpr.constvars, *jaxpr.invars))
        self._results = {number for number in self._add(jaxpr, self._inputs) if number is not None}

    def peak(self, carried: Iterable[Any] = ()) -> int:
        """Bytes at the fullest moment beside the inputs, of which `carried` may be overwritten."""
        steps = self._materialised(sorted(self._steps, key=lambda step: step.level))
        last = {number: i for i, step in enumerate(steps) for number in step.reads}
        held = dict.fromkeys((self._inputs[variable] for variable in carried), 0)
        live = most = 0
        for i, step in enumerate(steps):
            dying = {number for number in step.reads if last[number] == i} & held.keys() - self._results
            for number in step.writes:
                size = self._sizes[number]
                old = next((n for n in dying if self._sizes[n] == size), None)
                if old is None or not (step.elementwise or step.name in IN_PLACE):
                    held[number] = size
                    live += size
                else:
                    held[number] = held.pop(old)
                    dying.remove(old)
            most = max(most, live + step.inner)
            unread = {number for number in step.writes if number not in last} - self._results
            live -= sum(held.pop(number) for number in dying | unread)
        return most

    def _new_all(self, variables: Iterable[Any], level: int = 0) -> dict[Any, int]:
        """Numbers of new buffers for `variables`."""
        numbers = {}
        for variable in variables:
            numbers[variable] = len(self._sizes)
            self._sizes.append(_bytes(variable.aval))
            self._levels.append(level)
        return numbers

    def _add(self, jaxpr: Jaxpr, inputs: Mapping[Any, int | None]) -> list[int | None]:
        """Add the operations of `jaxpr`, whose inputs have these numbers; the numbers of its results."""
        numbers = dict(inputs)

        def number(variable: Any) -> int | None:
            return None if isinstance(variable, Literal) else numbers[variable]

        for eqn in jaxpr.eqns:
            operands, inner = list(map(number, eqn.invars)), _inner_jaxprs(eqn)
            if _is_call(eqn, inner):
                called = self._new_all(inner[0].constvars) | dict(zip(inner[0].invars, operands, strict=True))
                numbers |= dict(zip(eqn.outvars, self._add(inner[0], called), strict=True))
                continue
            reads = {operand for operand in operands if operand is not None}
            level = max((self._levels[n] for n in reads), default=0) + (eqn.primitive.name not in VIEWS)
            results = self._new_all(eqn.outvars, level)
            numbers |= results
            need = max((_Flat(one).peak(_carried(eqn, one)) for one in inner), default=0)
            name, writes = eqn.primitive.name, list(results.values())
            self._steps.append(_Step(name, reads, writes, level, need, _is_elementwise(eqn)))
        return list(map(number, jaxpr.outvars))

    def _materialised(self, steps: list[_Step]) -> list[_Step]:
        """`steps` without views and what is fused into all that read it; these read what those read."""
        needed = set(self._results)
        for step in reversed(steps):
            fuses = step.elementwise or step.name.startswith("reduce_")
            if needed & set(step.writes) if step.name in VIEWS else not fuses:
                needed |= step.reads
        roots: dict[int, set[int]] = {}
        kept = []
        for step in steps:
            reads = set().union(*(roots.get(number, {number}) for number in step.reads))
            if step.name in VIEWS or (step.elementwise and needed.isdisjoint(step.writes)):
                roots |= dict.fromkeys(step.writes, reads)
            else:
                kept.append(step._replace(reads=reads))
        return kept


def _inner_jaxprs(eqn: JaxprEqn) -> list[Jaxpr]:
    """The jaxprs of a call, loop or branch."""
    values = [one for value in eqn.params.values() for one in (value if type(value) is tuple else (value,))]
    opened = [one.jaxpr if isinstance(one, ClosedJaxpr) else one for one in values]
    return [one for one in opened if isinstance(one, Jaxpr)]


def _is_call(eqn: JaxprEqn, inner: list[Jaxpr]) -> bool:
    """Whether `eqn` only calls its one jaxpr."""
    if len(inner) != 1 or eqn.primitive.name == "scan" or len(inner[0].invars) != len(eqn.invars):
        return False
    return all(map(_same_shape, inner[0].invars, eqn.invars))


def _carried(eqn: JaxprEqn, inner: Jaxpr) -> list[Any]:
    """The inputs of a loop's body that its next round replaces.

    Inputs are constants, then what is carried, then slices of what a scan runs over; results are what
    is carried, then slices of what a scan stacks.
    """
    if eqn.primitive.name not in ("scan", "while"):
        return []
    carried = sum(map(_same_shape, inner.outvars, eqn.outvars))
    slices = len(inner.invars) - sum(map(_same_shape, inner.invars[::-1], eqn.invars[::-1]))
    end = len(inner.invars) - slices
    return inner.invars[end - carried : end]


def _same_shape(a: Any, b: Any) -> bool:
    return a.aval.shape == b.aval.shape


def _is_elementwise(eqn: JaxprEqn) -> bool:
    """Whether each number of the one result comes from the numbers at its place in the operands."""
    if eqn.primitive.name in NOT_ELEMENTWISE or len(eqn.outvars) != 1 or _inner_jaxprs(eqn):
        return False
    avals: list[Any] = [variable.aval for variable in eqn.invars + eqn.outvars]
    *shapes, result = [aval.shape for aval in avals]
    return all(shape in ((), result) or _broadcasts(shape, result) for shape in shapes)


def _broadcasts(shape: tuple[int, ...], result: tuple[int, ...]) -> bool:
    return len(shape) == len(result) and all(a in (1, b) for a, b in zip(shape, result, strict=True))
