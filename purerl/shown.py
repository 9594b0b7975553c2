"""Values as error messages show them: on one line, briefly, arrays by type and shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

SHOWN = 80
"""Characters of a value in an error message."""
SHOWN_NUMBERS = 8
"""Most numbers of an array that a message shows; of a larger one it has the type and the shape."""


class Words(str):
    """Text that a message shows without quotes, such as the shape of an array."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def shorten(text: str, limit: int = SHOWN) -> str:
    """Return `text`, cut to `limit` characters."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


def shape_of(value: Any) -> Words:
    """Return the type and shape of an array as messages show them, such as float32[2, 3]."""
    dtype = getattr(value, "dtype", None)
    return Words(f"{np.asarray(value).dtype if dtype is None else dtype}{list(np.shape(value))}")


def shapes_of(tree: Any) -> Words:
    """Return the types and shapes of the arrays in a tuple, list or mapping of them."""
    if isinstance(tree, tuple | list):
        return Words(f"({', '.join(map(shapes_of, tree))})")
    if isinstance(tree, Mapping):
        return Words("{" + ", ".join(f"{name!r}: {shapes_of(part)}" for name, part in tree.items()) + "}")
    return shape_of(tree) if hasattr(tree, "shape") else Words(repr(tree))


def plain(value: Any) -> Any:
    """Return `value` with mappings as dicts, tuples as lists, and numbers of NumPy or JAX as Python's."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic | np.ndarray | jax.Array):
        return value.item()
    return value


def shown(value: Any) -> str:
    """Return `value` as Python writes it; traced values and large arrays as their type and shape."""
    try:
        return _shown(value)
    except Exception:  # an integer of 5,000 digits, a list of lists of lists, a class whose __repr__ raises
        return f"<{type(value).__name__} that cannot be shown>"


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        pairs = ((key, list(item) if type(item) is tuple else item) for key, item in value.items())
        return "{" + ", ".join(f"{key!r}: {_shown(item)}" for key, item in pairs) + "}"
    if type(value) is list and any(isinstance(item, Tracer) for item in value):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, tuple) and hasattr(value, "_fields"):  # a state may hold gigabytes
        return f"{type(value).__name__}(...)"
    large = isinstance(value, np.ndarray | jax.Array) and value.size > SHOWN_NUMBERS
    if large or isinstance(value, Tracer):
        return shape_of(value)
    return repr(value)
