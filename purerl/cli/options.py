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

from purerl.config import Config, ConfigError, Rule, describe, did_you_mean

WIDTH = 80
"""Columns of the help text."""
METAVARS = {"real": "FLOAT", "count": "INT", "switch": "True|False", "text": "TEXT", "sizes": "INT"}
METAVARS |= {"mapping": "JSON"}
DASHED_VALUE = re.compile(r"-\.?\d|-(inf|nan)$|--$", re.IGNORECASE)
"""Words that begin with a dash and are values: -1, -.5, -1e-3."""
EPILOG = "Dashes and underscores are the same. --no-quiet is --quiet False, as for\nevery switch."
SHIELD = "\0"
"""Prefix that keeps argparse from taking such a word for an option; no real argument contains it."""


def read_options(argv: Sequence[str], *classes: type) -> tuple[dict[str, str], list[str]]:
    """Return the text of each field of `classes` that `argv` sets, and the words left over.

    The last value of a repeated option counts. `--quiet` means True and `--no-quiet` False.

    Raises:
        ConfigError: for an option without its value.
    """
    found, rest = _read(argv, classes, several=False)
    return {name: " ".join(words) for name, words in found.items()}, rest


def read_values(argv: Sequence[str], *classes: type) -> tuple[dict[str, list[str]], list[str]]:
    """Do the same for options with several values each, where `64,64` is one value of `hidden_sizes`."""
    return _read(argv, classes, several=True)


def _read(
    argv: Sequence[str], classes: Sequence[type], several: bool
) -> tuple[dict[str, list[str]], list[str]]:
    rules = {field.name: field.metadata["rule"] for cls in classes for field in dataclasses.fields(cls)}
    switches = {_flag(name) for name, rule in rules.items() if rule.kind == "switch"}
    words = [_prepared(word, switches) for word in argv]
    try:
        found, rest = _parser(classes, several).parse_known_args(words)
    except argparse.ArgumentError as error:
        name = str(error.argument_name).removeprefix("--").replace("-", "_")
        raise ConfigError(name, "", describe(rules[name])) from None
    given = {
        name: [text] if isinstance(text, str) else text or ["True"] for name, text in vars(found).items()
    }
    given = {name: [text.replace(SHIELD, "") for text in texts] for name, texts in given.items()}
    return given, [word.removeprefix(SHIELD) for word in rest]


def help_text(
    command: str,
    *groups: Any,
    only: Collection[str] | None = None,
    usage: str = "%(prog)s [--help] [--option value ...]",
) -> str:
    """Return the help text of `command`: the fields of the dataclass instances `groups`, with their values.

    `only` names those to show, None for all.
    """
    parser = _parser(groups, only=only)
    parser.prog, parser.usage = command, usage
    lines = [parser.format_help(), EPILOG]
    if only is not None:
        lines.append(f"{command} --algo ALGO --help-all shows every option of an algorithm.")
    return "\n".join(lines) + "\n"


def one_directory(words: Sequence[str], verb: str, cls: type) -> str:
    """Return the one word, a directory, that the options `cls` of a verb left over. Raises ConfigError."""
    names = [field.name for field in dataclasses.fields(cls)]
    for word in words:
        if word.startswith("-"):
            hint = did_you_mean(word.lstrip("-").partition("=")[0], names)
            raise ConfigError(word, "", f"one of {', '.join(names)}", hint)
    if len(words) != 1:
        raise ConfigError("run", " ".join(words), f"one directory, as in purerl {verb} runs/one")
    return words[0]


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


def _parser(
    groups: Sequence[Any], several: bool = False, only: Collection[str] | None = None
) -> argparse.ArgumentParser:
    """Return a parser with one option per field of `groups`: dataclasses, or instances to show values."""
    parser = argparse.ArgumentParser(
        formatter_class=functools.partial(argparse.HelpFormatter, max_help_position=26, width=WIDTH),
        argument_default=argparse.SUPPRESS,
        add_help=False,
        allow_abbrev=False,
        exit_on_error=False,
    )
    for group in groups:
        cls = group if isinstance(group, type) else type(group)
        title = f"{cls.algo} options" if issubclass(cls, Config) else "options"
        box = parser.add_argument_group(title, " ".join(str(cls.__doc__).partition("\n\n")[0].split()))
        docs = {} if group is cls else field_docs(cls)  # it takes a tenth of a second, for help only
        for field in dataclasses.fields(cls):
            if only is not None and field.name not in only:
                continue
            rule, default = field.metadata["rule"], _shown(getattr(group, field.name))
            nargs: Any = {"switch": "?", "sizes": "+"}.get(rule.kind)
            if several:
                nargs = "*" if rule.kind == "switch" else "+"
            box.add_argument(
                _flag(field.name),
                nargs=nargs,
                const="True" if nargs == "?" else None,
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
