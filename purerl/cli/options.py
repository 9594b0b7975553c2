"""Command-line options made of dataclass fields: their grammar and their help text.

An option is a field with a `purerl.config.Rule`. argparse splits the words and lays out the help text;
values stay text, which `purerl.cast` reads as it reads text in a file.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import functools
import inspect
import itertools
import json
import re
import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from purerl.config import Config, ConfigError, Rule, describe

WIDTH = 80
"""Columns of the help text."""
METAVARS = {"real": "FLOAT", "count": "INT", "switch": "True|False", "text": "TEXT", "sizes": "INT"}
METAVARS |= {"mapping": "JSON"}
DASHED_VALUE = re.compile(r"-\.?\d|-(inf|nan)$|--$", re.IGNORECASE)
"""Words that begin with a dash and are values: -1, -.5, -1e-3."""
SHIELD = "\0"
"""Prefix that keeps argparse from taking such a word for an option; no real argument contains it."""


def read_options(argv: Sequence[str], *classes: type) -> tuple[dict[str, str], list[str]]:
    """Return the text of each field of `classes` that `argv` sets, and the words left over.

    The last value of a repeated option counts. `--quiet` means True and `--no-quiet` False.

    Raises:
        ConfigError: for an option without its value.
    """
    rules = {field.name: field.metadata["rule"] for cls in classes for field in dataclasses.fields(cls)}
    switches = {_flag(name) for name, rule in rules.items() if rule.kind == "switch"}
    try:
        found, rest = _parser(classes).parse_known_args([_prepared(word, switches) for word in argv])
    except argparse.ArgumentError as error:
        name = str(error.argument_name).removeprefix("--").replace("-", "_")
        raise ConfigError(name, "", describe(rules[name])) from None
    given = {name: text if isinstance(text, str) else " ".join(text) for name, text in vars(found).items()}
    given = {name: text.replace(SHIELD, "") for name, text in given.items()}
    return given, [word.removeprefix(SHIELD) for word in rest]


def help_text(*groups: Any) -> str:
    """Return the help text: every field of the dataclass instances `groups`, with its value."""
    return _parser(groups).format_help()


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _prepared(word: str, switches: Collection[str]) -> str:
    """Return `word` with dashes for underscores in its option, and `--no-quiet` as `--quiet=False`."""
    if DASHED_VALUE.match(word):
        return SHIELD + word
    if not word.startswith("--"):
        return word
    flag, equals, value = word.partition("=")
    flag = flag.replace("_", "-")
    negated = f"--{flag.removeprefix('--no-')}"
    return f"{negated}=False" if negated in switches and not equals else flag + equals + value


def _parser(groups: Sequence[Any]) -> argparse.ArgumentParser:
    """Return a parser with one option per field of `groups`: dataclasses, or instances to show values."""
    parser = argparse.ArgumentParser(
        usage="%(prog)s [--help] [--option value ...]",
        epilog="Dashes and underscores are the same. --no-quiet is --quiet False, for every switch.",
        formatter_class=functools.partial(argparse.HelpFormatter, max_help_position=26, width=WIDTH),
        argument_default=argparse.SUPPRESS,
        add_help=False,
        allow_abbrev=False,
        exit_on_error=False,
    )
    for group in groups:
        cls = group if isinstance(group, type) else type(group)
        title = f"{cls.algo} options" if issubclass(cls, Config) else "run options"
        box = parser.add_argument_group(title, " ".join(str(cls.__doc__).partition("\n\n")[0].split()))
        docs = {} if group is cls else field_docs(cls)  # it takes a tenth of a second, for help only
        for field in dataclasses.fields(cls):
            rule, default = field.metadata["rule"], _shown(getattr(group, field.name))
            box.add_argument(
                _flag(field.name),
                nargs={"switch": "?", "sizes": "+"}.get(rule.kind),
                const="True" if rule.kind == "switch" else None,
                metavar=_metavar(rule),
                help=f"{docs.get(field.name)} (default: {default})".replace("%", "%%"),
            )
    return parser


def _metavar(rule: Rule) -> str:
    optional = "|None" if rule.optional and rule.kind == "real" else ""
    return METAVARS.get(rule.kind, "|".join(rule.options)) + optional


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return json.dumps(dict(value), default=str)
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


@functools.cache
def field_docs(cls: type) -> dict[str, str]:
    """Return the docstring of each field of a dataclass, read from its source and that of its bases."""
    docs = {}
    for base in reversed(cls.__mro__[:-1]):
        tree: Any = ast.parse(textwrap.dedent(inspect.getsource(base)))
        for field, after in itertools.pairwise(tree.body[0].body):
            if isinstance(field, ast.AnnAssign) and isinstance(after, ast.Expr):
                docs[ast.unparse(field.target)] = " ".join(ast.literal_eval(after.value).split())
    return docs
