"""A policy as one Python file that needs NumPy alone: for robots, and for machines without JAX."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence

import numpy as np

from purerl.config import ConfigError
from purerl.workbench.straight_line import Program, Ref, Step, Value

LINE = 100
"""Columns of encoded numbers."""

UNARY = {
    **{
        name: f"np.{name}({{}})"
        for name in ("tanh", "exp", "log", "sqrt", "cos", "sin", "abs", "sign", "floor", "ceil")
    },
    **{name: f"np.{name}({{}})" for name in ("log1p", "expm1", "square", "exp2", "tan")},
    "neg": "-{}",
    "not": "~{}",
    "is_finite": "np.isfinite({})",
    "rsqrt": "np.float32(1) / np.sqrt({})",
    "logistic": "np.float32(0.5) * (np.tanh(np.float32(0.5) * {}) + np.float32(1))",
}
BINARY = {
    **{
        "add": "{} + {}",
        "sub": "{} - {}",
        "mul": "{} * {}",
        "max": "np.maximum({}, {})",
        "min": "np.minimum({}, {})",
    },
    **{
        "gt": "{} > {}",
        "lt": "{} < {}",
        "ge": "{} >= {}",
        "le": "{} <= {}",
        "eq": "{} == {}",
        "ne": "{} != {}",
    },
    **{"and": "{} & {}", "or": "{} | {}", "xor": "{} ^ {}", "pow": "{} ** {}", "add_any": "{} + {}"},
    **{"atan2": "np.arctan2({}, {})", "rem": "np.fmod({}, {})"},
}
REDUCTIONS = {"reduce_sum": "sum", "reduce_max": "max", "reduce_min": "min", "reduce_prod": "prod"}
REDUCTIONS |= {"reduce_and": "all", "reduce_or": "any"}


def source(program: Program, about: str, carry_leaves: Sequence[np.ndarray]) -> str:
    """Return the Python file of a policy.

    Args:
        program: of `(obs [1, *O], *carry) -> (action [1, *A], *carry)`, without random numbers.
        about: the first line of its documentation.
        carry_leaves: the carry at an episode's start, each with an axis of one environment.

    Raises:
        ConfigError: for a step that NumPy has no word for here.
    """
    constants: list[np.ndarray] = []

    def word(value: Value) -> str:
        if isinstance(value, Ref):
            return f"x{value.index}"
        if value.ndim == 0:
            if value.dtype == bool:
                return repr(bool(value))
            number = repr(value.item()) if np.isfinite(value) else f'"{value.item()}"'
            return f"np.{value.dtype.name}({number})"
        for i, known in enumerate(constants):
            if known is value:
                return f"C[{i}]"
        constants.append(value)
        return f"C[{len(constants) - 1}]"

    lines = [line for step in program.steps for line in _lines(step, word)]
    obs, *carry = program.inputs
    action, *after = map(word, program.outputs)
    head = [f"x{obs.index} = np.asarray(obs, np.{obs.dtype.name}).reshape{obs.shape!r}"]
    if carry:
        names = ", ".join(f"x{ref.index}" for ref in carry)
        head.append(f"{names}, = START if carry is None else carry")
    shape = tuple(int(n) for n in obs.shape[1:])
    out = program.outputs[0]
    body = "\n".join(
        f"    {line}"
        for line in [*head, *lines, f"return {action}[0], ({', '.join(after)}{',' if after else ''})"]
    )
    start = ", ".join(_encoded(leaf) for leaf in carry_leaves) + ("," if carry_leaves else "")
    arrays = ",\n    ".join(_encoded(value) for value in constants)
    return TEMPLATE.format(
        about=about,
        obs=f"{list(shape)} {obs.dtype.name}",
        action=f"{list(out.shape[1:])} {out.dtype.name}",
        arrays=f"\n    {arrays},\n" if constants else "",
        start=start,
        body=body,
        shape=shape,
        dtype=obs.dtype.name,
    )


TEMPLATE = '''"""{about}

NumPy is all it needs.

    action, carry = act(obs)         # at an episode's start
    action, carry = act(obs, carry)  # afterwards

obs: {obs}. action: {action}, in the units of the environment. Run as a program, it prints its latency.
"""

import base64

import numpy as np


def _array(text, shape, dtype):
    return np.frombuffer(base64.b64decode(text), dtype).reshape(shape)


C = [{arrays}]
START = ({start})


def act(obs, carry=None):
{body}


if __name__ == "__main__":
    import time

    obs, times = np.zeros({shape}, np.{dtype}), []
    carry = act(obs)[1]
    for _ in range(2000):
        begin = time.perf_counter()
        carry = act(obs, carry)[1]
        times.append(time.perf_counter() - begin)
    times.sort()
    print(f"{{1e6 * times[1000]:.0f}} us a call (median of 2,000; 99% within {{1e6 * times[1980]:.0f}} us)")
'''


def _encoded(value: np.ndarray) -> str:
    text = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
    rows = [text[i : i + LINE] for i in range(0, len(text), LINE)] or [""]
    words = "\n        ".join(f'"{row}"' for row in rows)
    words = f"(\n        {words}\n    )" if len(rows) > 1 else words
    return f'_array({words}, {tuple(map(int, value.shape))}, "{value.dtype.str}")'


def _lines(step: Step, word: Callable[[Value], str]) -> list[str]:
    """Return the statements of a step."""
    inputs, params, out = [word(value) for value in step.inputs], step.params, step.outputs[0]
    if step.op == "split":
        sizes, names = params["sizes"], ", ".join(f"x{ref.index}" for ref in step.outputs)
        cuts = [int(n) for n in np.cumsum(sizes)[:-1]]
        return [f"{names}, = np.split({inputs[0]}, {cuts}, axis={params['axis']})"]
    return [f"x{out.index} = {_expression(step, inputs, out)}"]


def _expression(step: Step, inputs: list[str], out: Ref) -> str:
    op, params, x = step.op, step.params, inputs[0]
    if op in UNARY:
        return UNARY[op].format(x)
    if op in BINARY:
        return BINARY[op].format(*inputs)
    if op in REDUCTIONS:
        return f"{x}.{REDUCTIONS[op]}(axis={tuple(map(int, params['axes']))})"
    shape = tuple(map(int, out.shape))
    if op == "div":
        return f"{x} {'/' if out.dtype.kind == 'f' else '//'} {inputs[1]}"
    if op == "integer_pow":
        return f"{x} ** {params['y']}"
    if op == "clamp":
        return f"np.clip({inputs[1]}, {x}, {inputs[2]})"
    if op == "select_n" and len(inputs) == 3:
        return f"np.where({x}, {inputs[2]}, {inputs[1]})"
    if op == "convert_element_type":
        return f"np.asarray({x}).astype(np.{out.dtype.name})"
    if op in ("reshape", "squeeze", "expand_dims"):
        return f"np.reshape({x}, {shape})"
    if op == "broadcast_in_dim":
        wide = [1] * len(shape)
        for axis, size in zip(params["broadcast_dimensions"], step.inputs[0].shape, strict=True):
            wide[axis] = int(size)
        return f"np.broadcast_to(np.reshape({x}, {tuple(wide)}), {shape})"
    if op == "transpose":
        return f"np.transpose({x}, {tuple(map(int, params['permutation']))})"
    if op == "concatenate":
        return f"np.concatenate([{', '.join(inputs)}], axis={params['dimension']})"
    if op == "slice":
        strides = params["strides"] or (1,) * len(shape)
        bounds = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
        return f"{x}[{', '.join(f'{a}:{b}' + (f':{c}' if c != 1 else '') for a, b, c in bounds)}]"
    if op in ("argmax", "argmin"):
        return f"np.{op}({x}, axis={params['axes'][0]}).astype(np.{out.dtype.name})"
    if op == "dot_general":
        return _product(step, inputs)
    raise ConfigError("to", "numpy", f"a policy without {op}, which is not translated")


def _product(step: Step, inputs: list[str]) -> str:
    """Return a `dot_general` as a matrix product, or else as `einsum`."""
    (left, right), (left_batch, right_batch) = step.params["dimension_numbers"]
    a, b = step.inputs
    if not left_batch and list(left) == [len(a.shape) - 1] and list(right) == [0] and len(b.shape) == 2:
        return f"{inputs[0]} @ {inputs[1]}"
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    names_a = [next(letters) for _ in a.shape]
    names_b = [next(letters) for _ in b.shape]
    for i, j in zip([*left, *left_batch], [*right, *right_batch], strict=True):
        names_b[j] = names_a[i]
    free_a = [n for i, n in enumerate(names_a) if i not in (*left, *left_batch)]
    free_b = [n for i, n in enumerate(names_b) if i not in (*right, *right_batch)]
    result = [names_a[i] for i in left_batch] + free_a + free_b
    return f'np.einsum("{"".join(names_a)},{"".join(names_b)}->{"".join(result)}", {inputs[0]}, {inputs[1]})'
