"""Code on the pages: the Python blocks of a page run in order, and its commands read.

    python tests/pages.py docs/mujoco.md     # in an empty directory: run the page's Python, shrunk

Statements run as written, in one namespace a page. Two kinds of comments behind a statement are checked: a
shape, `# [4, rows]`, where a name that the page does not define stands for any size, and a literal,
`# {"gamma": 0.99}`.
"""

import argparse
import ast
import dataclasses
import importlib.util
import re
import runpy
import shlex
import sys
import tomllib
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from tiny import SMALL

import purerl
from purerl import registry
from purerl.cast import cast
from purerl.cli import configure, plot, report, sweep
from purerl.cli.configure import parse
from purerl.cli.evaluate import EvalOptions
from purerl.cli.export import ExportOptions
from purerl.cli.main import VERBS
from purerl.cli.options import one_directory, read_options
from purerl.cli.play import PlayOptions
from purerl.config import from_dict, to_dict
from purerl.make import env_of, spec_of, validate

ROOT = Path(__file__).parents[1]
OPTIONS_OF_RUNS = {"eval": EvalOptions, "play": PlayOptions, "export": ExportOptions}
OPTIONS_OF_RUNS |= {"report": report.ReportOptions}
"""Verbs of trained runs, with their options."""
FOLDERS = ("docs", "purerl", "benchmarks", "constraints", "scripts", "tests")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
PAGES += [page for folder in FOLDERS for page in sorted((ROOT / folder).rglob("*.md"))]
OPTIONAL = {"gymnax:": "gymnax", "brax:": "brax", "playground:": "mujoco_playground", "equinox": "equinox"}
"""Text in a block -> the module that it needs; without that the block is skipped."""
KEPT = ("learning_rate", "value_learning_rate")
"""Fields of `SMALL` that keep the values on the page."""


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    """Return the fenced blocks in a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    """Return the text outside the fenced blocks."""
    return re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def inline(page: Path) -> list[str]:
    """Return the code in the text: what stands between single backticks, on one line."""
    return re.findall(r"`([^`\n]+)`", prose(page))


def rows(text: str, *header: str) -> dict[str, dict[str, str]]:
    """Return the rows of the tables whose header begins so: cells by column, by the first cell."""
    found = {}
    for group in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        columns, _, *lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in group.splitlines()]
        if tuple(columns[: len(header)]) == header:
            found |= {line[0].strip("`"): dict(zip(columns, line, strict=True)) for line in lines}
    return found


# Python


@contextmanager
def shrunk() -> Iterator[None]:
    """Make configurations that train for 40 steps with networks of 8 units, once those written are valid."""
    limits = {name: value for name, value in SMALL.items() if name not in KEPT}

    def small(make):
        def wrapped(*args, **kwargs):
            cfg = make(*args, **kwargs)
            validate(cfg, spec_of(env_of(cfg)))
            return dataclasses.replace(cfg, **{n: v for n, v in limits.items() if hasattr(cfg, n)})

        return wrapped

    with pytest.MonkeyPatch.context() as patch:
        for name in ("make_config", "from_preset"):
            patch.setattr(purerl, name, small(getattr(purerl, name)), raising=False)
        yield


def lacking(code: str) -> list[str]:
    """Return the modules of OPTIONAL that a block needs and that are not installed."""
    needed = [module for text, module in OPTIONAL.items() if text in code]
    return [module for module in needed if importlib.util.find_spec(module) is None]


def run_page(page: Path) -> dict[str, Any]:
    """Run the Python blocks of a page in order, in the working directory, and return what they define.

    They are the module `my_module`, which a page may import, as from a file of the reader's. A script that
    ends gets `--help`. What is registered is forgotten.
    """
    module = types.ModuleType("my_module")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, module.__name__, module)
        patch.setattr(sys, "argv", ["my_module.py", "--help"])
        for code in blocks(page, "python"):
            if not lacking(code):
                try:
                    run_block(code, vars(module), page.name)
                except SystemExit as end:
                    assert not end.code, code
    registry.OWN_ALGORITHMS.clear()
    registry.OWN_ENVIRONMENTS.clear()
    return vars(module)


def run_block(code: str, names: dict[str, Any], file: str = "block") -> None:
    """Run the statements of a block, and compare their values with the comments behind them."""
    lines = code.splitlines()
    for statement in ast.parse(code).body:
        value = None
        if isinstance(statement, ast.Expr):
            value = eval(compile(ast.Expression(statement.value), file, "eval"), names)
        else:
            exec(compile(ast.Module([statement], []), file, "exec"), names)
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                value = names[statement.targets[0].id]
        comment = lines[(statement.end_lineno or 0) - 1].partition("  # ")[2]
        compare(value, comment, names, ast.unparse(statement))


def compare(value: Any, comment: str, names: dict[str, Any], code: str) -> None:
    """Raise AssertionError if `comment` is a shape or a literal, and not that of `value`."""
    if shape := re.match(r"\[((?:\w+(?:, (?:\w+|\.\.\.))*)?)\]", comment):
        *sizes, last = shape[1].split(", ")
        sizes += [last] if last not in ("", "...") else []
        for leaf in jax.tree.leaves(value):
            got = np.shape(leaf)
            known = [int(s) if s.isdigit() else names.get(s, g) for s, g in zip(sizes, got, strict=False)]
            fits = len(got) >= len(sizes) if last == "..." else len(got) == len(sizes)
            assert fits and list(got[: len(sizes)]) == known, f"{code}: {comment}, got {got}"
        return
    try:
        expected = ast.literal_eval(comment)
    except (SyntaxError, ValueError):
        return
    assert value == expected, f"{code}: {comment}, got {value}"


# Commands


def commands(page: Path) -> list[str]:
    """Return the commands of the page, those in the text too, and the parts of `a && b` apart."""
    lines = [line for code in blocks(page, "bash") for line in code.splitlines()]
    found = [part.strip() for line in lines for part in line.split("&&")]
    known = re.compile(r"([A-Z_]+=\S+ )*(\S+/)?(python3?|purerl) \S")
    return found + [code for code in inline(page) if known.match(code)]


def check_command(line: str) -> None:
    """Raise if a command has an option that does not exist, or would be refused at once."""
    words = shlex.split(line)
    while re.match(r"[A-Z_]+=", words[0]):
        words.pop(0)
    if words[0].endswith("/pip"):
        check_installation(words)
    elif words[0].split("/")[-1] == "purerl":
        check_verb(words[1], words[2:])
    elif not words[0].endswith(("python", "python3")):
        assert (ROOT / words[0]).exists(), words[0]
    elif words[1] == "-m":
        assert importlib.util.find_spec(words[2]), words[2]
    elif words[1] == "scripts/train.py":
        check_training(words[2:])
    else:
        check_script(ROOT / words[1], words[2:])


def check_installation(words: list[str]) -> None:
    """Check that the pins and the extras exist."""
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (extras,) = re.findall(r"\.\[([\w,]+)\]", " ".join(words))
    assert set(extras.split(",")) <= known.keys(), extras
    assert (ROOT / words[words.index("-c") + 1]).exists()


def check_verb(verb: str, argv: list[str]) -> None:
    """Check the options of `purerl VERB`."""
    assert verb in VERBS, verb
    if verb == "train":
        check_training(argv)
    elif verb == "resume":
        check_training(["--resume", *argv])
    elif verb == "sweep":
        for cfg in sweep.parse(argv)[1].values():
            validate(cfg, spec_of(env_of(cfg)))
    elif verb == "plot":
        plot.parse(argv)
    elif verb == "report":
        report.parse(argv)
    elif verb in OPTIONS_OF_RUNS:
        cls = OPTIONS_OF_RUNS[verb]
        given, rest = read_options(argv, cls)
        one_directory(rest, verb, cls)
        from_dict(cls, cast(cls, given))
    else:
        assert verb == "list" and not [word for word in argv if word.startswith("-")]


def check_training(argv: list[str]) -> None:
    """Check that the options of `scripts/train.py`, of a resumed run too, fit the environment."""
    if argv == ["--help"]:
        return
    with pytest.MonkeyPatch.context() as patch:
        record = {"seeds": 1, "first_seed": 0, "config": to_dict(purerl.make_config("ppo"))}
        patch.setattr(configure, "read_record", lambda path: record)
        cfg = parse(argv)[1]
    validate(cfg, spec_of(env_of(cfg)))


class Accepted(Exception):
    """The options of a script are valid."""


def check_script(path: Path, argv: list[str]) -> None:
    """Run a script until its options are read. Raises SystemExit if one is unknown."""
    if "ArgumentParser" not in path.read_text("utf-8"):
        assert not argv, f"{path.name} has no options"
        return
    read = argparse.ArgumentParser.parse_args

    def parse_args(*args, **kwargs):
        read(*args, **kwargs)
        raise Accepted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
        patch.setattr(sys, "argv", [str(path), *argv])
        patch.syspath_prepend(path.parent)
        with pytest.raises(Accepted):
            runpy.run_path(str(path), run_name="__main__")


if __name__ == "__main__":
    with shrunk():
        run_page(Path(sys.argv[1]))
