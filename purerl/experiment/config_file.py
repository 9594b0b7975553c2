"""What people write down, in files and on the command line, as the values that it means.

A file may come from a stranger: nothing in it is run, nothing in it expands, and whatever is wrong
with it is a ConfigError.
"""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from purerl.config import ConfigError, Rule, shorten
from purerl.experiment.files import open_regular

LARGEST = 2**15
"""Bytes of a config file; the slowest reader, that of YAML, takes half a second for them."""
DEEPEST = 16
"""Mappings and lists within each other."""
RECORDED = ("exp_name", "seed_index", "versions", "device")
"""What a run's own config.json holds beside fields, so that it can be given as `--config`."""


def read_config(path: Path) -> dict[str, Any]:
    """The mapping in a JSON, YAML or TOML file, told apart by its suffix.

    Raises:
        ConfigError: if it cannot be read, or holds no mapping.
    """
    readers = {".json": _json, ".toml": _toml, ".yaml": _yaml, ".yml": _yaml}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ConfigError("config", str(path), f"the file must end in {', '.join(readers)}")
    values = _mapping("config", str(path), lambda: reader(_text(path)), "it cannot be read")
    return {name: value for name, value in values.items() if name not in RECORDED}


def _text(path: Path) -> str:
    with open_regular(path.resolve()) as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ValueError(f"it has more than {LARGEST:,} bytes")
    return content.decode("utf-8-sig")


def _mapping(field: str, given: str, read: Callable[[], Any], wrong: str) -> dict[str, Any]:
    """What `read` returns, if that is a mapping. Raises ConfigError about `field` otherwise."""
    try:
        values = read()
        if not isinstance(values, dict):
            raise ValueError("it must hold a mapping from names to values")
        if _depth(values) > DEEPEST:
            raise RecursionError
    except RecursionError as error:
        raise ConfigError(field, given, f"it is nested deeper than {DEEPEST} levels") from error
    except Exception as error:  # what a stranger wrote can make a reader raise nearly anything
        reason = " ".join(str(error).split())
        raise ConfigError(field, given, f"{wrong}: {shorten(reason, 300)}") from error
    return values


def _depth(value: Any) -> int:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, parts), default=0)


def _toml(text: str) -> Any:
    if max(line.count(".") for line in text.split("\n")) > 100:  # tomllib's time grows as their square
        raise ValueError("a line has more than 100 dots")
    return tomllib.loads(text)


def _json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_unique)


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise ValueError(f"{shorten(name)!r} is there twice")
        values[name] = value
    return values


def _yaml(text: str) -> Any:
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    """Safe YAML whose names are distinct strings, and without aliases: a few lines of those can expand
    to more than any memory.
    """

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise ValueError("a YAML alias (*name) is not allowed; write its value out")
        self.depth += 1
        if self.depth > DEEPEST:  # here already: each level costs PyYAML milliseconds
            raise RecursionError
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        for name, _ in node.value:
            if name.tag != "tag:yaml.org,2002:str":
                raise ValueError(f"line {name.start_mark.line + 1}: a name must be a string; quote it")
        _unique((name.value, None) for name, _ in node.value)
        return super().construct_mapping(node, deep)


# YAML 1.1 takes 3e-4 for text; 1.2 and everybody who writes it take it for a number.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def cast(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` for the fields of `cls`, with text as the number, switch or mapping that it means.

    All values on a command line are text. 1e6 is a whole number there and in a file. Text that means
    nothing to its field stays as it is, for the field to refuse.

    Raises:
        ConfigError: for text in place of a mapping that is not JSON.
    """
    rules = {field.name: field.metadata["rule"] for field in dataclasses.fields(cls)}
    return {
        name: _meant(name, rules[name], value) if name in rules else value for name, value in values.items()
    }


def _meant(name: str, rule: Rule, value: Any) -> Any:
    if rule.kind == "count":
        return _whole(value)
    if not isinstance(value, str):
        return value
    if rule.kind == "real":
        return None if rule.optional and value.lower() in ("none", "null") else _real(value)
    if rule.kind == "switch":
        return {"true": True, "false": False}.get(value.lower(), value)
    if rule.kind == "sizes":
        sizes = tuple(map(_whole, value.split()))
        return sizes if sizes and all(isinstance(size, int) for size in sizes) else value
    if rule.kind == "mapping":
        return _mapping(name, value, lambda: _json(value), 'it must be JSON, such as {"name": 0.5}')
    return value


def _real(value: str) -> float | str:
    try:
        return float(value)
    except ValueError:
        return value


def _whole(value: Any) -> Any:
    """The int of 1000, 1_000, 1e3 and 1000.0, as text or as a float; anything else as it is."""
    number = value
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            number = _real(value)
    exact = isinstance(number, float) and number.is_integer() and abs(number) < 2**53
    return int(number) if exact else value
