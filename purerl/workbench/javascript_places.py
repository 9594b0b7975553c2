"""Places of entries in flat arrays: steps that only move entries, and windows at places known later."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from purerl.config import ConfigError
from purerl.workbench.straight_line import Ref, Step, Value


class Windows(NamedTuple):
    """Windows of an array, at places that a step reads from another."""

    count: int
    """Number of windows."""
    axes: list[list[int]]
    """For each number of a place, `[entries from one index to the next, last index allowed]`."""
    offsets: list[int]
    """Distances of a window's entries from its first."""
    order: list[int]
    """Places of the entries, window after window, in the result of a gather or the updates of a scatter."""
    clip: bool
    """Move a window that would leave the array inside; otherwise leave it out."""


def size_of(value: Value) -> int:
    """Return the number of entries."""
    return int(np.prod(value.shape, dtype=int))


def order_of(shape: Sequence[int], axes: Sequence[int]) -> list[int]:
    """Return the places of an array's entries, with `axes` last."""
    kept = [axis for axis in range(len(shape)) if axis not in axes]
    return np.transpose(_places(shape), [*kept, *axes]).ravel().tolist()


def places_of(step: Step, out: Ref) -> list[int]:
    """Return the place in its input of every entry of a step that only moves them.

    Raises:
        ConfigError: for any other step.
    """
    params, shape = step.params, step.inputs[0].shape
    places = _places(shape)
    if step.op == "broadcast_in_dim":
        wide = [1] * len(out.shape)
        for axis, size in zip(params["broadcast_dimensions"], shape, strict=True):
            wide[axis] = size
        places = np.broadcast_to(places.reshape(wide), out.shape)
    elif step.op == "transpose":
        places = np.transpose(places, params["permutation"])
    elif step.op == "rev":
        places = np.flip(places, params["dimensions"])
    elif step.op == "slice":
        strides = params["strides"] or (1,) * len(shape)
        bounds = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
        places = places[tuple(slice(*bound) for bound in bounds)]
    elif step.op in ("concatenate", "stack"):
        ends = np.cumsum([0, *map(size_of, step.inputs)])
        parts = [_places(v.shape) + e for v, e in zip(step.inputs, ends, strict=False)]
        stacks = step.op == "stack"
        places = np.stack(parts, params["axis"]) if stacks else np.concatenate(parts, params["dimension"])
    else:
        allowed = f"a policy or task without {step.op}, which is not translated"
        raise ConfigError("to", "javascript", allowed)
    return places.ravel().tolist()


def windows_of(step: Step, out: Ref) -> Windows:
    """Return the windows of a `gather`, a `dynamic_slice`, or a `scatter`.

    Raises:
        ConfigError: for batched indices, or a mode that is not translated.
    """
    shape, rank = step.inputs[0].shape, len(step.inputs[0].shape)
    strides = [size_of(Ref(0, shape[axis + 1 :], out.dtype)) for axis in range(rank)]
    if step.op == "dynamic_slice":
        sizes = tuple(step.params["slice_sizes"])
        axes = [[strides[axis], shape[axis] - sizes[axis]] for axis in range(rank)]
        return Windows(1, axes, _offsets(sizes, strides), list(range(size_of(out))), True)
    numbers, moved = step.params["dimension_numbers"], step.op != "gather"
    if numbers.operand_batching_dims:
        raise ConfigError("to", "javascript", f"a policy or task without batched indices in {step.op}")
    if moved:
        dropped, named = numbers.inserted_window_dims, numbers.scatter_dims_to_operand_dims
        window_axes, whole = numbers.update_window_dims, step.inputs[2].shape
        kept = iter([whole[axis] for axis in window_axes])
        sizes = tuple(1 if axis in dropped else next(kept) for axis in range(rank))
    else:
        named, window_axes = numbers.start_index_map, numbers.offset_dims
        sizes, whole = tuple(step.params["slice_sizes"]), out.shape
    batch = [axis for axis in range(len(whole)) if axis not in window_axes]
    order = np.transpose(_places(whole), [*batch, *window_axes]).ravel().tolist()
    axes = [[strides[axis], shape[axis] - sizes[axis]] for axis in named]
    count = int(np.prod([whole[axis] for axis in batch], dtype=int))
    # A gather whose places are promised to be inside the array is clipped, as JAX does it on a CPU.
    clip = step.params["mode"].name in (("CLIP",) if moved else ("CLIP", "PROMISE_IN_BOUNDS"))
    return Windows(count, axes, _offsets(sizes, strides), order, clip)


def _places(shape: Sequence[int]) -> np.ndarray:
    return np.arange(int(np.prod(shape, dtype=int))).reshape(shape)


def _offsets(sizes: Sequence[int], strides: Sequence[int]) -> list[int]:
    """Return the distance of every entry of a window from its first, in an array with `strides`."""
    grid = np.indices(sizes).reshape(len(sizes), -1)
    return (np.array(strides, int).reshape(-1, 1) * grid).sum(0).tolist()
