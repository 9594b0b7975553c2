"""Straight-line code for any number of rows: two traces of a policy, of 2 and of 3 rows, compared.

JAX can trace with a number that has a name, but then moves rows about in ways that other languages lack. Two
plain traces differ in nothing but lengths that depend on the number of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from purerl.config import ConfigError
from purerl.workbench.straight_line import Program, Ref, Step

ROWS = (2, 3)
"""Rows of the two traces. A length `-n` of the program for any number stands for `n` times the rows."""


def for_any_rows(of_two: Program, of_three: Program, to: str) -> Program:
    """Return the program that both are, with lengths of `-n` for `n` times the number of rows.

    An array that is the same for every row has a single one. Raises ConfigError about the format `to` for
    programs that differ in anything else.
    """
    try:
        steps = zip(of_two.steps, of_three.steps, strict=True)
        return Program(
            _merged(of_two.inputs, of_three.inputs),
            tuple(_step(one, other) for one, other in steps),
            _merged(of_two.outputs, of_three.outputs),
        )
    except ValueError as error:
        what = f"a policy that treats every row of observations alike: {error}"
        raise ConfigError("to", to, what) from error


def _step(one: Step, other: Step) -> Step:
    if one.op != other.op or set(one.params) != set(other.params):
        raise ValueError(f"{one.op} of two rows is {other.op} of three")
    params = {name: _merged(value, other.params[name]) for name, value in one.params.items()}
    return Step(one.op, _merged(one.inputs, other.inputs), params, _merged(one.outputs, other.outputs))


def _merged(one: Any, other: Any) -> Any:
    """Return a value that stands for both. Raises ValueError if there is none."""
    if isinstance(one, Ref) and isinstance(other, Ref) and one.index == other.index:
        return one._replace(shape=_merged(one.shape, other.shape))
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return _array(one, other)
    if type(one) is tuple and type(other) is tuple and len(one) == len(other):
        return tuple(_merged(a, b) for a, b in zip(one, other, strict=True))
    if type(one) is int and type(other) is int:
        return _length(one, other)
    if repr(one) != repr(other):
        raise ValueError(f"{one} of two rows is {other} of three")
    return one


def _length(one: int, other: int) -> int:
    two, three = ROWS
    if one != other and one * three != other * two:
        raise ValueError(f"a length of {one} of two rows is {other} of three")
    return one if one == other else -(one // two)


def _array(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the array, or where the shapes differ one that has a single row for all."""
    if one.ndim != other.ndim:
        raise ValueError("a constant has another number of axes")
    differ = [a != b for a, b in zip(one.shape, other.shape, strict=True)]
    if one.dtype.kind == "V" or not any(differ):
        single = one
    else:
        single = one[tuple(slice(0, 1) if axis else slice(None) for axis in differ)]
    alike: Sequence[np.ndarray] = [np.broadcast_to(single, whole.shape) for whole in (one, other)]
    equal = [
        np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(alike, (one, other), strict=True)
    ]
    if not all(equal):
        raise ValueError("a constant has rows that differ")
    return single
