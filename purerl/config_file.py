"""Configuration files: JSON, YAML and TOML.

A file may be untrusted: nothing in it is run, nothing in it expands, and every fault is a ConfigError.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

from purerl.cast import checked_mapping, parse_json, unique
from purerl.config import ConfigError
from purerl.files import open_regular

LARGEST = 2**15
"""Bytes of a file; the slowest reader, that of YAML, takes about a second for them."""
RECORDED = ("exp_name", "seed_index", "versions", "device", "flags", "matmul_precision", "git_revision")
"""Entries of a run's config.json beside the fields, which can so be given as `--config`."""


def read_config(path: Path) -> dict[str, Any]:
    """Return the mapping in a JSON, YAML or TOML file, by its suffix.

    Raises:
        ConfigError: if the file cannot be read or holds no mapping.
    """
    readers = {".json": parse_json, ".toml": _toml, ".yaml": _yaml, ".yml": _yaml}
    suffix = path.suffix.lower()
    if suffix not in readers:
        raise ConfigError("config", str(path), f"a file that ends in {', '.join(readers)}")
    expected = f"a {suffix[1:].upper()} file with a mapping from names to values"
    values = checked_mapping("config", str(path), expected, lambda: readers[suffix](_text(path)))
    return {name: value for name, value in values.items() if name not in RECORDED}


def _text(path: Path) -> str:
    with open_regular(path.resolve()) as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ValueError(f"more than {LARGEST:,} bytes")
    return content.decode("utf-8-sig")


def _toml(text: str) -> Any:
    if max(line.count(".") for line in text.split("\n")) > 100:  # tomllib's time grows as their square
        raise ValueError("a line with more than 100 dots")
    return tomllib.loads(text)


def _yaml(text: str) -> Any:
    return _Loader(text).get_single_data()


class _Loader(yaml.SafeLoader):
    """Safe YAML whose names are distinct strings, and without aliases, which expand without limit."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise ValueError("a YAML alias (*name), which is not allowed")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        for name, _ in node.value:
            if name.tag != "tag:yaml.org,2002:str":
                raise ValueError(f"a name that is no string in line {name.start_mark.line + 1}; quote it")
        unique((name.value, None) for name, _ in node.value)
        return super().construct_mapping(node, deep)


# YAML 1.1 reads 3e-4 as text; YAML 1.2 reads a number.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)
