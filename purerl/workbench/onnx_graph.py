"""An ONNX graph under construction: nodes, constants and names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import purerl
from purerl.config import ConfigError
from purerl.workbench.straight_line import Ref, Value

OPSET, IR = 18, 8
"""Versions of the operators and of the file format, from the end of 2022; later runtimes read them too."""


class Graph:
    """The nodes and constants so far.

    Lengths below 0 depend on the number of rows, as in `any_rows`. Raises ConfigError if the package onnx is
    not installed.
    """

    def __init__(self):
        self._onnx, self._nodes, self._constants = _package(), [], []
        self._names: dict[int, str] = {}
        self._known: list[tuple[np.ndarray, str]] = []
        self._rows = ""

    def name(self, ref: Ref, name: str) -> None:
        """Give a name to a value that is known only when the policy acts."""
        self._names[ref.index] = name

    def word(self, value: Value) -> str:
        """Return the name of a value; an array becomes a constant."""
        if isinstance(value, Ref):
            return self._names[value.index]
        for known, name in self._known:
            if known is value:
                return name
        name = f"constant_{len(self._constants)}"
        self._constants.append(self._onnx.numpy_helper.from_array(np.array(value), name))
        self._known.append((value, name))
        return name

    def numbers(self, values: Sequence[int]) -> str:
        """Return the name of a list of whole numbers, such as axes."""
        return self.word(np.asarray(values, np.int64))

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add a node, and return the name of its result."""
        return self.add_several(op, inputs, 1, **attributes)[0]

    def add_several(self, op: str, inputs: Sequence[str], results: int, **attributes: Any) -> list[str]:
        """Add a node, and return the names of its results."""
        names = [f"x_{len(self._nodes)}_{i}" for i in range(results)]
        self._nodes.append(self._onnx.helper.make_node(op, inputs, names, **attributes))
        return names

    def cast(self, x: str, dtype: np.dtype | type) -> str:
        """Return `x` with another type of numbers."""
        return self.add("Cast", x, to=self._type(dtype))

    def reshape(self, x: str, shape: Sequence[int]) -> str:
        """Return `x` with another shape. Raises ConfigError if several of its lengths depend on the rows."""
        if sum(n < 0 for n in shape) > 1:
            raise ConfigError("to", "onnx", f"a policy without the shape {list(shape)}")
        return self.add("Reshape", x, self.numbers([max(int(n), -1) for n in shape]))

    def expand(self, x: str, old: Sequence[int], new: Sequence[int]) -> str:
        """Return `x`, of shape `old`, with axes of length 1 repeated to the shape `new`.

        Raises ConfigError if a length becomes a multiple of the number of rows.
        """
        wanted = [1 if n == o else int(n) for o, n in zip(old, new, strict=True)]
        if min(wanted, default=1) < -1:
            raise ConfigError("to", "onnx", f"a policy without the shape {list(new)}")
        if -1 not in wanted:
            return self.add("Expand", x, self.numbers(wanted)) if {*wanted} - {1} else x
        self._rows = self._rows or self.add("Shape", "obs", start=0, end=1)
        lengths = [self._rows if n < 0 else self.numbers([n]) for n in wanted]
        return self.add("Expand", x, self.add("Concat", *lengths, axis=0))

    def finished(
        self, about: str, metadata: Mapping[str, str], inputs: Mapping[str, Ref], outputs: Mapping[str, Value]
    ) -> bytes:
        """Return the file of a model with these inputs and outputs, checked.

        Raises ConfigError for one with rows on another axis than the first.
        """
        helper = self._onnx.helper
        for name, value in outputs.items():
            x = self.word(value)
            x = x if isinstance(value, Ref) else self.expand(x, value.shape, (-1, *value.shape[1:]))
            self._nodes.append(helper.make_node("Identity", [x], [name]))
        described = [[self._described(*pair) for pair in part.items()] for part in (inputs, outputs)]
        graph = helper.make_graph(self._nodes, "policy", *described, self._constants)
        opsets = [helper.make_opsetid("", OPSET)]
        made = helper.make_model(graph, opset_imports=opsets, ir_version=IR, doc_string=about)
        made.producer_name, made.producer_version = "purerl", purerl.__version__
        helper.set_model_props(made, dict(metadata))
        self._onnx.checker.check_model(made, full_check=True)
        return made.SerializeToString()

    def _described(self, name: str, value: Value) -> Any:
        if min(value.shape[1:], default=1) < 0:
            raise ConfigError("to", "onnx", f"a policy without the shape {list(value.shape)}")
        shape = ["rows", *map(int, value.shape[1:])]
        return self._onnx.helper.make_tensor_value_info(name, self._type(value.dtype), shape)

    def _type(self, dtype: np.dtype | type) -> int:
        return self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def _package() -> Any:
    """Return the package onnx. Raises ConfigError if it is not installed."""
    try:
        import onnx
    except ImportError as error:
        what = "a format whose packages are installed, got none of onnx"
        raise ConfigError("to", "onnx", what, 'Try pip install "purerl[export]".') from error
    return onnx
