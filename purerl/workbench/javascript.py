"""Straight-line programs in JavaScript: every array is flat, and every step one statement.

`source` writes the body of a function; `steps.js` has the functions that it calls.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from purerl.config import ConfigError
from purerl.workbench.javascript_places import order_of, places_of, size_of, windows_of
from purerl.workbench.straight_line import Program, Ref, Step, Value

LINE = 100
"""Columns of encoded numbers."""
UNARY = {
    **{
        name: f"Math.{name}(a)" for name in ("tanh", "exp", "log", "sqrt", "cos", "sin", "tan", "abs", "sign")
    },
    **{name: f"Math.{name}(a)" for name in ("floor", "ceil", "log1p", "expm1")},
    "exp2": "2 ** a",
    "square": "a * a",
    "neg": "-a",
    "not": "a ? 0 : 1",
    "is_finite": "Number.isFinite(a) ? 1 : 0",
    "rsqrt": "1 / Math.sqrt(a)",
    "logistic": "1 / (1 + Math.exp(-a))",
    "erf_inv": "erf_inv(a)",
    "population_count": "count_bits(a)",
}
"""Function of a number by JAX's primitive; a bool is 0 or 1."""
BINARY = {
    **{"add": "a + b", "add_any": "a + b", "sub": "a - b", "mul": "a * b", "pow": "a ** b", "rem": "a % b"},
    **{"max": "Math.max(a, b)", "min": "Math.min(a, b)", "atan2": "Math.atan2(a, b)"},
    **{"gt": "a > b ? 1 : 0", "lt": "a < b ? 1 : 0", "ge": "a >= b ? 1 : 0", "le": "a <= b ? 1 : 0"},
    **{"eq": "a === b ? 1 : 0", "ne": "a !== b ? 1 : 0", "and": "a & b", "or": "a | b", "xor": "a ^ b"},
    "shift_left": "b > 31 ? 0 : a << b",
    "shift_right_logical": "b > 31 ? 0 : a >>> b",
    "shift_right_arithmetic": "a >> Math.min(b, 31)",
}
INTEGER = {"mul": "Math.imul(a, b)", "div": "Math.trunc(a / b)", "not": "~a"}
"""Functions that differ for integers."""
REDUCTIONS = {"reduce_sum": ("a + b", 0), "reduce_prod": ("a * b", 1), "reduce_or": ("a | b", 0)}
REDUCTIONS |= {"reduce_max": ("Math.max(a, b)", "-Infinity"), "reduce_min": ("Math.min(a, b)", "Infinity")}
REDUCTIONS |= {"reduce_and": ("a & b", 1)}
UPDATES = {"scatter": "b", "scatter-add": "a + b", "scatter-mul": "a * b", "scatter_mul": "a * b"}
CALLS = {"mujoco_step": "physics.step", "mujoco_reset": "physics.reset", "random_bits": "draw"}
"""Steps that the caller of a program provides."""
ARRAYS = {"float32": "Float32Array", "int32": "Int32Array", "uint32": "Uint32Array", "uint8": "Uint8Array"}
ARRAYS |= {"bool": "Uint8Array", "int8": "Int8Array", "int16": "Int16Array", "uint16": "Uint16Array"}


class Tables(NamedTuple):
    """Arrays that a module makes once: numbers, and places of entries."""

    constants: list[np.ndarray]
    places: list[list[int]]

    def word(self, value: Value) -> str:
        """Return the name of a value."""
        if isinstance(value, Ref):
            return f"x{value.index}"
        for i, known in enumerate(self.constants):
            if known is value:
                return f"C[{i}]"
        self.constants.append(value)
        return f"C[{len(self.constants) - 1}]"

    def of(self, places: list[int]) -> str:
        """Return the name of a table of places."""
        if places not in self.places:
            self.places.append(places)
        return f"P[{self.places.index(places)}]"

    def source(self) -> str:
        """Return the functions of `steps.js` and the tables, once all programs are written."""
        arrays = "".join(f"\n  {encoded(value)}," for value in self.constants)
        places = "".join(f"\n  Int32Array.from({places})," for places in self.places)
        return f"{text_of('steps.js')}\nconst C = [{arrays}\n];\nconst P = [{places}\n];\n"


def text_of(name: str) -> str:
    """Return a file that lies beside this one."""
    return Path(__file__).with_name(name).read_text("utf-8")


def source(program: Program, tables: Tables) -> list[str]:
    """Return the statements of a program, whose inputs are known as `x0`, `x1` and so on.

    Raises:
        ConfigError: for a step that has no word here.
    """
    return [line for step in program.steps for line in _lines(step, tables)]


def array_of(value: Value) -> str:
    """Return the kind of array that holds a value. Raises ConfigError for a type without one."""
    if value.dtype.name not in ARRAYS:
        raise ConfigError("to", "javascript", f"a policy or task without arrays of {value.dtype.name}")
    return ARRAYS[value.dtype.name]


def encoded(value: np.ndarray) -> str:
    """Return a constant as an expression."""
    text = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
    rows = [text[i : i + LINE] for i in range(0, len(text), LINE)] or [""]
    joined = " +\n    ".join(f'"{row}"' for row in rows)
    return f"new {array_of(value)}(bytes({joined}))"


def _lines(step: Step, tables: Tables) -> list[str]:
    """Return the statements of a step."""
    inputs, out = [tables.word(value) for value in step.inputs], step.outputs[0]
    if step.op == "random_bits":
        if step.params["bit_width"] != 32:
            raise ConfigError("to", "javascript", "a task that draws 32 random bits at a time")
        return [f"const x{out.index} = draw({size_of(out)});"]
    if step.op in CALLS:
        names = ", ".join(f"x{ref.index}" for ref in step.outputs)
        return [f"const [{names}] = {CALLS[step.op]}({', '.join(inputs)});"]
    if step.op == "sort" and step.params["num_keys"] == 1:
        axis, names = step.params["dimension"], ", ".join(f"x{ref.index}" for ref in step.outputs)
        order = tables.of(order_of(out.shape, [axis]))
        return [f"const [{names}] = sort({order}, {out.shape[axis]}, [{', '.join(inputs)}]);"]
    if step.op != "split":
        return [f"const x{out.index} = {_expression(step, inputs, out, tables)};"]
    places = np.arange(size_of(step.inputs[0])).reshape(step.inputs[0].shape)
    cuts = np.split(places, np.cumsum(step.params["sizes"])[:-1], axis=step.params["axis"])
    return [
        f"const x{ref.index} = pick({array_of(ref)}, {tables.of(cut.ravel().tolist())}, {inputs[0]});"
        for ref, cut in zip(step.outputs, cuts, strict=True)
    ]


def _expression(step: Step, inputs: list[str], out: Ref, tables: Tables) -> str:
    op, params, kind, size = step.op, step.params, array_of(out), size_of(out)
    first, x = step.inputs[0], inputs[0]
    if op in BINARY or op in ("div", "clamp", "select_n"):
        pairs = zip(step.inputs, inputs, strict=True)
        x, *_ = inputs = [_broadcast(value, name, out, tables) for value, name in pairs]
    integer = INTEGER.get(op) if out.dtype.kind in "iu" else None
    if op in UNARY:
        return f"map({kind}, {size}, (a) => {integer or UNARY[op]}, {x})"
    if op in BINARY:
        return f"zip({kind}, {size}, (a, b) => {integer or BINARY[op]}, {x}, {inputs[1]})"
    if op == "div":
        return f"zip({kind}, {size}, (a, b) => {integer or 'a / b'}, {x}, {inputs[1]})"
    if op == "integer_pow":
        return f"map({kind}, {size}, (a) => a ** {params['y']}, {x})"
    if op == "round":
        return f"map({kind}, {size}, {'even' if int(params['rounding_method']) else 'away'}, {x})"
    if op == "clamp":
        lower = f"zip({kind}, {size}, (a, b) => Math.max(a, b), {inputs[1]}, {x})"
        return f"zip({kind}, {size}, (a, b) => Math.min(a, b), {lower}, {inputs[2]})"
    if op == "select_n" and len(inputs) == 3:
        return f"choose({kind}, {size}, {x}, {inputs[1]}, {inputs[2]})"
    if op in REDUCTIONS:
        function, start = REDUCTIONS[op]
        start = -1 if op == "reduce_and" and out.dtype != bool else start
        order = tables.of(order_of(first.shape, params["axes"]))
        return f"fold({kind}, {size}, {order}, (a, b) => {function}, {start}, {x})"
    if op in ("argmax", "argmin"):
        order = tables.of(order_of(first.shape, params["axes"]))
        return f"{kind}.from(argbest({size}, {order}, {1 if op == 'argmax' else -1}, {x}))"
    if op == "convert_element_type":
        return f"map({kind}, {size}, (a) => {'a ? 1 : 0' if out.dtype == bool else 'a'}, {x})"
    if op == "bitcast_convert_type" and first.dtype.itemsize == out.dtype.itemsize:
        return f"bits({kind}, {x})"
    if op in ("reshape", "squeeze", "expand_dims"):
        return x
    if op == "dot_general":
        return _product(step, inputs, tables)
    if op in UPDATES or op in ("gather", "dynamic_slice"):
        return _indexed(step, inputs, kind, out, tables)
    places = places_of(step, out)
    given = f"join({kind}, [{', '.join(inputs)}])" if op in ("concatenate", "stack") else x
    whole = places == list(range(sum(map(size_of, step.inputs))))
    return given if whole else f"pick({kind}, {tables.of(places)}, {given})"


def _broadcast(value: Value, name: str, out: Ref, tables: Tables) -> str:
    """Return a value with the entries of `out`; one that has a single entry stays as it is."""
    if value.shape == out.shape or size_of(value) == 1:
        return name
    places = np.broadcast_to(np.arange(size_of(value)).reshape(value.shape), out.shape)
    return f"pick({array_of(value)}, {tables.of(places.ravel().tolist())}, {name})"


def _indexed(step: Step, inputs: list[str], kind: str, out: Ref, tables: Tables) -> str:
    """Return a step that reads or writes windows of an array at places known only when it runs."""
    found = windows_of(step, out)
    at = f"join(Int32Array, [{', '.join(inputs[1:])}])" if step.op == "dynamic_slice" else inputs[1]
    clip = "true" if found.clip else "false"
    where = f"windows({at}, {found.count}, {found.axes}, {tables.of(found.offsets)}, {clip})"
    order = tables.of(found.order)
    if step.op in UPDATES:
        function = f"(a, b) => {UPDATES[step.op]}"
        return f"scatter({kind}, {where}, {order}, {function}, {inputs[0]}, {inputs[2]})"
    missing: Any = "NaN" if out.dtype.kind == "f" else 0
    return f"gather({kind}, {where}, {order}, {missing}, {inputs[0]})"


def _product(step: Step, inputs: Sequence[str], tables: Tables) -> str:
    """Return a `dot_general` as products of matrices, one for each entry of its batch axes."""
    (left, right), (left_batch, right_batch) = step.params["dimension_numbers"]
    a, b = step.inputs
    sizes = lambda value, axes: [int(value.shape[axis]) for axis in axes]
    free_a = [axis for axis in range(len(a.shape)) if axis not in (*left, *left_batch)]
    free_b = [axis for axis in range(len(b.shape)) if axis not in (*right, *right_batch)]
    words = [inputs[0], inputs[1]]
    orders = [*left_batch, *free_a, *left], [*right_batch, *right, *free_b]
    for i, (value, axes) in enumerate(zip(step.inputs, orders, strict=True)):
        if axes != list(range(len(axes))):
            order = np.transpose(np.arange(size_of(value)).reshape(value.shape), axes).ravel().tolist()
            words[i] = f"pick({array_of(value)}, {tables.of(order)}, {words[i]})"
    counts = [sizes(a, left_batch), sizes(a, free_a), sizes(a, left), sizes(b, free_b)]
    groups, m, k, n = (int(np.prod(count, dtype=int)) for count in counts)
    return f"product({groups}, {m}, {k}, {n}, {words[0]}, {words[1]})"
