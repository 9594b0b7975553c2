"""A policy as one JavaScript module without dependencies, for web pages and all that runs JavaScript."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from purerl.config import ConfigError
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
}
"""Function of a number by JAX's primitive; a bool is 0 or 1."""
BINARY = {
    **{"add": "a + b", "add_any": "a + b", "sub": "a - b", "mul": "a * b", "pow": "a ** b", "rem": "a % b"},
    **{"max": "Math.max(a, b)", "min": "Math.min(a, b)", "atan2": "Math.atan2(a, b)"},
    **{"gt": "a > b ? 1 : 0", "lt": "a < b ? 1 : 0", "ge": "a >= b ? 1 : 0", "le": "a <= b ? 1 : 0"},
    **{"eq": "a === b ? 1 : 0", "ne": "a !== b ? 1 : 0", "and": "a & b", "or": "a | b", "xor": "a ^ b"},
}
REDUCTIONS = {"reduce_sum": ("a + b", 0), "reduce_prod": ("a * b", 1), "reduce_or": ("a | b", 0)}
REDUCTIONS |= {"reduce_max": ("Math.max(a, b)", "-Infinity"), "reduce_min": ("Math.min(a, b)", "Infinity")}
REDUCTIONS |= {"reduce_and": ("a & b", 1)}
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


def source(program: Program, about: str, carry_leaves: Sequence[np.ndarray]) -> str:
    """Return the JavaScript module of a policy; the arguments are those of `numpy_policy.source`.

    Raises:
        ConfigError: for a step that has no word here.
    """
    tables = Tables([], [])
    word = tables.word
    lines = [line for step in program.steps for line in _lines(step, tables)]
    obs, *carry = program.inputs
    action, *after = map(word, program.outputs)
    head = [f"const x{obs.index} = {_array(obs)}.from(obs);"]
    head += [f"const x{ref.index} = carry[{i}];" for i, ref in enumerate(carry)]
    tail = f"return [{action}, [{', '.join(after)}]];"
    out = program.outputs[0]
    return TEMPLATE.format(
        about=about,
        obs=f"{list(map(int, obs.shape[1:]))} {obs.dtype.name}",
        action=f"{list(map(int, out.shape[1:]))} {out.dtype.name}",
        arrays="".join(f"\n  {_encoded(value)}," for value in tables.constants),
        places="".join(f"\n  Int32Array.from({places})," for places in tables.places),
        start=", ".join(_encoded(leaf) for leaf in carry_leaves),
        body="\n".join(f"  {line}" for line in [*head, *lines, tail]),
    )


TEMPLATE = """\
// {about}
//
// Needs nothing else.
//
//   import {{ act, START }} from "./policy.mjs";
//   let carry = START, action;
//   [action, carry] = act(obs, carry);
//
// obs: a flat array of {obs}. action: a flat array of {action}, in the units of the environment.

const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
const C = [{arrays}
];
const P = [{places}
];
export const START = [{start}];

const map = (Type, size, f, a) => {{
  const out = new Type(size);
  for (let i = 0; i < size; i++) out[i] = f(a[i]);
  return out;
}};
const zip = (Type, size, f, a, b) => {{
  const out = new Type(size), s = a.length > 1 ? 1 : 0, t = b.length > 1 ? 1 : 0;
  for (let i = 0; i < size; i++) out[i] = f(a[i * s], b[i * t]);
  return out;
}};
const pick = (Type, where, a) => {{
  const out = new Type(where.length);
  for (let i = 0; i < where.length; i++) out[i] = a[where[i]];
  return out;
}};
const choose = (Type, size, flags, a, b) => {{
  const out = new Type(size), [r, s, t] = [flags, a, b].map((x) => (x.length > 1 ? 1 : 0));
  for (let i = 0; i < size; i++) out[i] = flags[i * r] ? b[i * t] : a[i * s];
  return out;
}};
// Entry i of the result goes over the entries (i * count, ...) of the order.
const fold = (Type, size, order, f, first, a) => {{
  const out = new Type(size), count = order.length / size;
  for (let i = 0; i < size; i++) {{
    let value = first;
    for (let j = 0; j < count; j++) value = f(value, a[order[i * count + j]]);
    out[i] = value;
  }}
  return out;
}};
const argbest = (size, order, sign, a) => {{
  const out = new Int32Array(size), count = order.length / size;
  for (let i = 0; i < size; i++) {{
    let best = 0;
    for (let j = 1; j < count; j++)
      if (sign * a[order[i * count + j]] > sign * a[order[i * count + best]]) best = j;
    out[i] = best;
  }}
  return out;
}};
const product = (groups, m, k, n, a, b) => {{
  const out = new Float32Array(groups * m * n);
  for (let g = 0; g < groups; g++)
    for (let i = 0; i < m; i++)
      for (let j = 0; j < n; j++) {{
        let sum = 0;
        for (let l = 0; l < k; l++) sum += a[(g * m + i) * k + l] * b[(g * k + l) * n + j];
        out[(g * m + i) * n + j] = sum;
      }}
  return out;
}};
const join = (Type, parts) => {{
  const out = new Type(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {{ out.set(part, at); at += part.length; }}
  return out;
}};

export function act(obs, carry = START) {{
{body}
}}
"""


def _array(value: Value) -> str:
    """Return the kind of array that holds a value. Raises ConfigError for a type without one."""
    if value.dtype.name not in ARRAYS:
        raise ConfigError("to", "javascript", f"a policy without arrays of {value.dtype.name}")
    return ARRAYS[value.dtype.name]


def _encoded(value: np.ndarray) -> str:
    text = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
    rows = [text[i : i + LINE] for i in range(0, len(text), LINE)] or [""]
    joined = " +\n    ".join(f'"{row}"' for row in rows)
    return f"new {_array(value)}(bytes({joined}))"


def _size(value: Value) -> int:
    return int(np.prod(value.shape, dtype=int))


def _order(shape: Sequence[int], axes: Sequence[int]) -> list[int]:
    """Return the places of an array's entries, with `axes` last."""
    kept = [axis for axis in range(len(shape)) if axis not in axes]
    places = np.arange(int(np.prod(shape, dtype=int))).reshape(shape)
    return np.transpose(places, [*kept, *axes]).ravel().tolist()


def _lines(step: Step, tables: Tables) -> list[str]:
    """Return the statements of a step."""
    inputs, out = [tables.word(value) for value in step.inputs], step.outputs[0]
    if step.op != "split":
        return [f"const x{out.index} = {_expression(step, inputs, out, tables)};"]
    places = np.arange(_size(step.inputs[0])).reshape(step.inputs[0].shape)
    cuts = np.split(places, np.cumsum(step.params["sizes"])[:-1], axis=step.params["axis"])
    return [
        f"const x{ref.index} = pick({_array(ref)}, {tables.of(cut.ravel().tolist())}, {inputs[0]});"
        for ref, cut in zip(step.outputs, cuts, strict=True)
    ]


def _expression(step: Step, inputs: list[str], out: Ref, tables: Tables) -> str:
    op, params, kind, size = step.op, step.params, _array(out), _size(out)
    first, x = step.inputs[0], inputs[0]
    if op in BINARY or op in ("div", "clamp", "select_n"):
        pairs = zip(step.inputs, inputs, strict=True)
        x, *_ = inputs = [_broadcast(value, name, out, tables) for value, name in pairs]
    if op in UNARY:
        return f"map({kind}, {size}, (a) => {UNARY[op]}, {x})"
    if op in BINARY:
        return f"zip({kind}, {size}, (a, b) => {BINARY[op]}, {x}, {inputs[1]})"
    if op == "div":
        quotient = "a / b" if out.dtype.kind == "f" else "Math.trunc(a / b)"
        return f"zip({kind}, {size}, (a, b) => {quotient}, {x}, {inputs[1]})"
    if op == "integer_pow":
        return f"map({kind}, {size}, (a) => a ** {params['y']}, {x})"
    if op == "clamp":
        lower = f"zip({kind}, {size}, (a, b) => Math.max(a, b), {inputs[1]}, {x})"
        return f"zip({kind}, {size}, (a, b) => Math.min(a, b), {lower}, {inputs[2]})"
    if op == "select_n" and len(inputs) == 3:
        return f"choose({kind}, {size}, {x}, {inputs[1]}, {inputs[2]})"
    if op in REDUCTIONS:
        function, start = REDUCTIONS[op]
        order = tables.of(_order(first.shape, params["axes"]))
        return f"fold({kind}, {size}, {order}, (a, b) => {function}, {start}, {x})"
    if op in ("argmax", "argmin"):
        order = tables.of(_order(first.shape, params["axes"]))
        return f"{kind}.from(argbest({size}, {order}, {1 if op == 'argmax' else -1}, {x}))"
    if op == "convert_element_type":
        return f"map({kind}, {size}, (a) => {'a ? 1 : 0' if out.dtype == bool else 'a'}, {x})"
    if op in ("reshape", "squeeze", "expand_dims"):
        return x
    if op == "dot_general":
        return _product(step, inputs, tables)
    places = _places(step, out)
    given = f"join({kind}, [{', '.join(inputs)}])" if op == "concatenate" else x
    return given if places == list(range(len(places))) else f"pick({kind}, {tables.of(places)}, {given})"


def _broadcast(value: Value, name: str, out: Ref, tables: Tables) -> str:
    """Return a value with the entries of `out`; one that has a single entry stays as it is."""
    if value.shape == out.shape or _size(value) == 1:
        return name
    places = np.broadcast_to(np.arange(_size(value)).reshape(value.shape), out.shape)
    return f"pick({_array(value)}, {tables.of(places.ravel().tolist())}, {name})"


def _places(step: Step, out: Ref) -> list[int]:
    """Return the place in its input of every entry of a step that only moves them."""
    params, shape = step.params, step.inputs[0].shape
    places = np.arange(_size(step.inputs[0])).reshape(shape)
    if step.op == "broadcast_in_dim":
        wide = [1] * len(out.shape)
        for axis, size in zip(params["broadcast_dimensions"], shape, strict=True):
            wide[axis] = size
        places = np.broadcast_to(places.reshape(wide), out.shape)
    elif step.op == "transpose":
        places = np.transpose(places, params["permutation"])
    elif step.op == "slice":
        strides = params["strides"] or (1,) * len(shape)
        bounds = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
        places = places[tuple(slice(*bound) for bound in bounds)]
    elif step.op == "concatenate":
        ends = np.cumsum([0, *map(_size, step.inputs)])
        parts = [np.arange(_size(v)).reshape(v.shape) + e for v, e in zip(step.inputs, ends, strict=False)]
        places = np.concatenate(parts, axis=params["dimension"])
    else:
        raise ConfigError("to", "javascript", f"a policy without {step.op}, which is not translated")
    return places.ravel().tolist()


def _product(step: Step, inputs: list[str], tables: Tables) -> str:
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
            order = np.transpose(np.arange(_size(value)).reshape(value.shape), axes).ravel().tolist()
            words[i] = f"pick({_array(value)}, {tables.of(order)}, {words[i]})"
    counts = [sizes(a, left_batch), sizes(a, free_a), sizes(a, left), sizes(b, free_b)]
    groups, m, k, n = (int(np.prod(count, dtype=int)) for count in counts)
    return f"product({groups}, {m}, {k}, {n}, {words[0]}, {words[1]})"
