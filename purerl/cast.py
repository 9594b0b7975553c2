"""Text, of a command line or a file, as the values of fields; it may be untrusted."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from purerl.config import ConfigError, Rule
from purerl.shown import shorten

DEEPEST = 16
"""Levels of nested mappings and lists."""


def cast(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return `values` for the fields of `cls`, with text as the number, switch or mapping it stands for.

    A whole number may be written 1e6. Text without a meaning for its field stays text, which the field's
    rule refuses.

    Raises:
        ConfigError: for text that should be a mapping and is not JSON.
    """
    rules = {field.name: field.metadata["rule"] for field in dataclasses.fields(cls)}
    return {name: _cast(name, rules[name], v) if name in rules else v for name, v in values.items()}


def _cast(name: str, rule: Rule, value: Any) -> Any:
    if rule.kind in ("count", "ratio"):
        number = _whole(value)
        return _real(number) if rule.kind == "ratio" and isinstance(number, str) else number
    if not isinstance(value, str):
        return value
    if rule.kind == "real":
        return None if rule.optional and value.lower() in ("none", "null") else _real(value)
    if rule.kind == "switch":
        return {"true": True, "false": False}.get(value.lower(), value)
    if rule.kind == "sizes":
        sizes = tuple(map(_whole, re.split(r"[,\s]+", value.strip())))
        return sizes if all(isinstance(size, int) for size in sizes) else value
    if rule.kind == "mapping":
        expected = 'a mapping in JSON, such as {"name": 0.5}'
        return checked_mapping(name, value, expected, lambda: parse_json(value))
    return value


def _real(value: str) -> float | str:
    try:
        return float(value)
    except ValueError:
        return value


def _whole(value: Any) -> Any:
    """Return the int of 1000, 1_000, 1e3 or 1000.0, as text or float; every other value unchanged."""
    number = value
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            number = _real(value)
    exact = isinstance(number, float) and number.is_integer() and abs(number) < 2**53
    return int(number) if exact else value


def checked_mapping(field: str, given: str, expected: str, read: Callable[[], Any]) -> dict[str, Any]:
    """Return the result of `read` if it is a mapping. Raises ConfigError about `field` otherwise."""
    try:
        values = read()
        if not isinstance(values, dict):
            raise ValueError("no mapping")
        if _depth(values) > DEEPEST:
            raise RecursionError
    except RecursionError as error:
        raise ConfigError(field, given, f"at most {DEEPEST} levels of nested values") from error
    except Exception as error:  # untrusted text can make a reader raise nearly anything
        reason = " ".join(str(error).split()).rstrip(".")
        raise ConfigError(field, given, expected, f"Found: {shorten(reason, 300)}.") from error
    return values


def _depth(value: Any) -> int:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, parts), default=0)


def parse_json(text: str) -> Any:
    """Return the value in JSON text. Raises ValueError for a name with two values."""
    return json.loads(text, object_pairs_hook=unique)


def unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return `pairs` as a dict. Raises ValueError for a name with two values."""
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise ValueError(f"two values of {shorten(name)!r}")
        values[name] = value
    return values
