"""Ranges of real-valued fields, for searches and populations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from purerl.config import Config, ConfigError, replace


class Range(NamedTuple):
    """Numbers from `low` to `high`, uniform, or uniform in their logarithm."""

    low: float
    high: float
    log: bool = False


def parse_range(name: str, text: str) -> Range:
    """Return the range in `low:high` or `low:high:log`. Raises ConfigError about the field `name`."""
    parts = text.split(":")
    try:
        low, high = map(float, parts[:2])
    except ValueError:
        low = high = math.nan
    made = Range(low, high, parts[2:] == ["log"])
    if len(parts) > 3 or (len(parts) == 3 and not made.log) or not is_range(made):
        what = "a range such as 0.9:0.999, or 1e-5:1e-2:log for one that is uniform in the logarithm"
        raise ConfigError(name, text, what)
    return made


def is_range(ends: Range) -> bool:
    """Return True if `ends` are finite and in order, and above 0 for a logarithm."""
    return math.isfinite(ends.high - ends.low) and ends.low < ends.high and not (ends.log and ends.low <= 0)


def check_space(space: Mapping[str, Range], cfg: Config) -> None:
    """Raise ConfigError unless each of `space` is a range of a real-valued field of `cfg`."""
    for name, ends in space.items():
        if not isinstance(ends, Range) or not is_range(ends):
            raise ConfigError(name, ends, "a Range with low below high, and above 0 for a logarithm")
        for value in (ends.low, ends.high):
            replace(cfg, {name: value})


def to_plain(space: Mapping[str, Range]) -> dict[str, list[Any]]:
    """Return ranges as plain values."""
    return {name: list(ends) for name, ends in space.items()}


def from_plain(values: Any) -> dict[str, Range]:
    """Return the ranges in values of `to_plain`, which may be untrusted.

    Raises TypeError, ValueError or AttributeError for anything else.
    """
    return {str(name): Range(float(low), float(high), bool(log)) for name, (low, high, log) in values.items()}
