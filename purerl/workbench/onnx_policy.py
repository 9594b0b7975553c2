"""A policy as an ONNX model, for the runtimes of robots, telephones, games and accelerators."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from purerl.config import ConfigError
from purerl.workbench.onnx_graph import Graph
from purerl.workbench.straight_line import Program, Ref, Step

UNARY = {
    **{name: name.title() for name in ("tanh", "exp", "log", "sqrt", "cos", "sin", "tan", "abs", "sign")},
    **{"floor": "Floor", "ceil": "Ceil", "neg": "Neg", "logistic": "Sigmoid"},
}
"""ONNX's operator by JAX's primitive."""
BINARY = {
    **{"add": "Add", "add_any": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "pow": "Pow"},
    **{"max": "Max", "min": "Min", "gt": "Greater", "lt": "Less", "ge": "GreaterOrEqual"},
    **{"le": "LessOrEqual", "eq": "Equal"},
}
LOGICAL = {"and": "And", "or": "Or", "xor": "Xor", "not": "Not"}
"""Operators of bools; those of whole numbers are called the same after `Bitwise`."""
REDUCTIONS = {"reduce_sum": "ReduceSum", "reduce_max": "ReduceMax", "reduce_min": "ReduceMin"}
REDUCTIONS |= {"reduce_prod": "ReduceProd", "reduce_or": "ReduceMax", "reduce_and": "ReduceMin"}
END = 2**63 - 1
"""End of a slice to the last row."""


def model(program: Program, about: str, metadata: Mapping[str, str]) -> bytes:
    """Return the ONNX file of a policy.

    The inputs are `obs [rows, *O]`, `carry_0`, ...; the outputs `action [rows, *A]`, `next_carry_0`, ...,
    since a name stands for one value in ONNX.

    Args:
        program: of `any_rows.for_any_rows`, of `(obs, *carry) -> (action, *carry)`, without random numbers.
        about: the first line of its documentation.
        metadata: texts by name, for the file's metadata.

    Raises:
        ConfigError: for a step that has no word here, or if the package onnx is not installed.
    """
    graph = Graph()
    inputs = dict(zip(_names("obs", "carry", len(program.inputs)), program.inputs, strict=True))
    outputs = dict(zip(_names("action", "next_carry", len(program.outputs)), program.outputs, strict=True))
    for name, ref in inputs.items():
        graph.name(ref, name)
    for step in program.steps:
        names = [graph.word(value) for value in step.inputs]
        for ref, name in zip(step.outputs, _results(step, names, graph), strict=True):
            graph.name(ref, name)
    return graph.finished(about, metadata, inputs, outputs)


def _names(first: str, others: str, count: int) -> list[str]:
    return [first, *(f"{others}_{i}" for i in range(count - 1))]


def _results(step: Step, inputs: list[str], graph: Graph) -> list[str]:
    """Add the nodes of a step, and return the names of its results."""
    if step.op != "split":
        return [_result(step, inputs, step.outputs[0], graph)]
    sizes = graph.numbers([int(n) for n in step.params["sizes"]])
    return graph.add_several("Split", [*inputs, sizes], len(step.outputs), axis=int(step.params["axis"]))


def _result(step: Step, inputs: list[str], out: Ref, graph: Graph) -> str:
    op, params, x, first = step.op, step.params, inputs[0], step.inputs[0]
    if op in UNARY:
        return graph.add(UNARY[op], x)
    if op in BINARY:
        return graph.add(BINARY[op], *inputs)
    if op in LOGICAL:
        return graph.add(("" if first.dtype == bool else "Bitwise") + LOGICAL[op], *inputs)
    if op in REDUCTIONS:
        return _reduced(step, x, out, graph)
    if op in ("reshape", "squeeze", "expand_dims"):
        return graph.reshape(x, out.shape)
    if op == "ne":
        return graph.add("Not", graph.add("Equal", *inputs))
    if op == "rem":
        return graph.add("Mod", *inputs, fmod=1)
    if op == "clamp":
        return graph.add("Min", graph.add("Max", inputs[1], x), inputs[2])
    if op == "select_n" and len(inputs) == 3 and first.dtype == bool:
        return graph.add("Where", x, inputs[2], inputs[1])
    if op == "convert_element_type":
        return graph.cast(x, out.dtype)
    if op == "broadcast_in_dim":
        wide = [1] * len(out.shape)
        for axis, size in zip(params["broadcast_dimensions"], first.shape, strict=True):
            wide[axis] = size
        return graph.expand(x if wide == list(first.shape) else graph.reshape(x, wide), wide, out.shape)
    if op == "transpose":
        return graph.add("Transpose", x, perm=[int(axis) for axis in params["permutation"]])
    if op == "concatenate":
        return _joined(step, inputs, out, graph)
    if op == "slice":
        strides = params["strides"] or (1,) * len(out.shape)
        ends = [END if n < 0 else int(n) for n in params["limit_indices"]]
        parts = (params["start_indices"], ends, range(len(ends)), strides)
        return graph.add("Slice", x, *(graph.numbers([int(n) for n in part]) for part in parts))
    if op in ("argmax", "argmin"):
        name = {"argmax": "ArgMax", "argmin": "ArgMin"}[op]
        return graph.cast(graph.add(name, x, axis=int(params["axes"][0]), keepdims=0), out.dtype)
    if op == "dot_general":
        return _product(step, inputs, graph)
    return _composed(step, x, graph)


def _composed(step: Step, x: str, graph: Graph) -> str:
    """Return a function that ONNX has no operator for, from others; exact where its argument is small."""
    op, dtype = step.op, step.inputs[0].dtype
    number = lambda value: graph.word(np.asarray(value, dtype))
    if op == "square":
        return graph.add("Mul", x, x)
    if op == "integer_pow":
        return graph.add("Pow", x, number(step.params["y"]))
    if op == "exp2":
        return graph.add("Pow", number(2), x)
    if op == "rsqrt":
        return graph.add("Div", number(1), graph.add("Sqrt", x))
    if op == "is_finite":
        return graph.add("Not", graph.add("Or", graph.add("IsNaN", x), graph.add("IsInf", x)))
    if op == "expm1":  # tanh(x / 2) (exp(x) + 1)
        half = graph.add("Tanh", graph.add("Mul", number(0.5), x))
        return graph.add("Mul", half, graph.add("Add", graph.add("Exp", x), number(1)))
    if op == "log1p":  # x log(u) / (u - 1), where u is 1 + x as it was rounded
        u = graph.add("Add", x, number(1))
        tiny = graph.add("Equal", u, number(1))
        below = graph.add("Where", tiny, number(1), graph.add("Sub", u, number(1)))
        ratio = graph.add("Div", graph.add("Log", u), below)
        return graph.add("Where", tiny, x, graph.add("Mul", x, ratio))
    raise ConfigError("to", "onnx", f"a policy without {op}, which is not translated")


def _reduced(step: Step, x: str, out: Ref, graph: Graph) -> str:
    axes, flags = graph.numbers([int(axis) for axis in step.params["axes"]]), out.dtype == bool
    x = graph.cast(x, np.int32) if flags else x
    found = graph.add(REDUCTIONS[step.op], x, axes, keepdims=0)
    return graph.cast(found, np.dtype(bool)) if flags else found


def _joined(step: Step, inputs: list[str], out: Ref, graph: Graph) -> str:
    """Return a concatenation, for which a constant with one row for all gets every row."""
    axis, parts = int(step.params["dimension"]), []
    for value, name in zip(step.inputs, inputs, strict=True):
        wanted = (*out.shape[:axis], value.shape[axis], *out.shape[axis + 1 :])
        parts.append(name if isinstance(value, Ref) else graph.expand(name, value.shape, wanted))
    return graph.add("Concat", *parts, axis=axis)


def _product(step: Step, inputs: list[str], graph: Graph) -> str:
    """Return a `dot_general` as a product of matrices, or else as an einsum."""
    (left, right), (left_batch, right_batch) = step.params["dimension_numbers"]
    a, b = step.inputs
    if not left_batch and list(left) == [len(a.shape) - 1] and list(right) == [0] and len(b.shape) == 2:
        return graph.add("MatMul", *inputs)
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    names_a, names_b = [next(letters) for _ in a.shape], [next(letters) for _ in b.shape]
    for i, j in zip([*left, *left_batch], [*right, *right_batch], strict=True):
        names_b[j] = names_a[i]
    free_a = [n for i, n in enumerate(names_a) if i not in (*left, *left_batch)]
    free_b = [n for j, n in enumerate(names_b) if j not in (*right, *right_batch)]
    result = [names_a[i] for i in left_batch] + free_a + free_b
    equation = f"{''.join(names_a)},{''.join(names_b)}->{''.join(result)}"
    return graph.add("Einsum", *inputs, equation=equation)
