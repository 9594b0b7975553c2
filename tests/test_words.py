"""The prose rule of CONTRIBUTING.md: first lines of docstrings, and one word per concept."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

import purerl

PACKAGE = Path(purerl.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
FIRST_WORDS = re.compile(r"(What|Whether|Of|That|Those|How|Where)\b")
BANNED = {
    "nobody": "name the case",
    "somebody": "name the component",
    "whoever": "name the component",
    "strangers?": "untrusted",
    "told": "say what is given or reported",
    "we": "name the component",
    "anew": "again",
    "for ever": "deadlock, or without end",
    "judg\\w*": "evaluate, compare or decide",
    "knobs?": "field",
    "replay memory": "replay buffer",
    "worlds?\\b(?! (?:body|bodies|frame|coordinates|axes|axis)\\b)": "environment",
}
"""Banned words as regular expressions, and the words in their place. MuJoCo's world body stays."""


def docstrings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and text of every docstring: modules, classes, functions, fields and constants."""
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(tree):
        if not isinstance(node, documented):
            continue
        for before, statement in zip([None, *node.body], node.body, strict=False):
            documents = before is None or isinstance(before, ast.AnnAssign | ast.Assign)
            text = statement.value if documents and isinstance(statement, ast.Expr) else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                yield statement.lineno, text.value


def prose(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and text of every comment and every string."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, " ".join(node.value.split())


def first_lines(source: str) -> list[str]:
    """Return `line: text` of every docstring whose first word is against the rule."""
    return [
        f"{line}: {text.strip().splitlines()[0]}"
        for line, text in docstrings(ast.parse(source))
        if FIRST_WORDS.match(text.strip())
    ]


def banned(source: str) -> list[str]:
    """Return `line: found -> replacement` of every banned word in comments and strings."""
    return [
        f"{line}: {found[0]} -> {better}"
        for line, text in prose(source)
        for word, better in BANNED.items()
        if (found := re.search(rf"\b{word}\b", text, re.IGNORECASE))
    ]


@pytest.mark.parametrize("rule", [first_lines, banned], ids=lambda rule: rule.__name__)
def test_the_package_follows_the_prose_rule(rule):
    wrong = [
        f"purerl/{file.relative_to(PACKAGE)}:{line}" for file in FILES for line in rule(file.read_text())
    ]
    assert not wrong, f"{len(wrong)} against the rule:\n" + "\n".join(wrong)


SAMPLE = '''
"""What a module has."""

SIZE = 3
"""Of rows."""


class Row:
    """Where it is."""

    one: int
    """How many."""

    def get(self):
        """That is returned."""
        text = "Whether this is a docstring"
        return text  # nobody is told of the worlds
'''


def test_the_rule_finds_every_kind_of_docstring():
    assert [line.partition(":")[0] for line in first_lines(SAMPLE)] == ["2", "5", "9", "12", "15"]
    assert first_lines('"""Return what is there."""') == []


def test_the_rule_finds_words_in_comments_and_strings():
    assert [line.split(" ->")[0] for line in banned(SAMPLE)] == ["17: nobody", "17: told", "17: worlds"]
    assert banned('error = f"{1} is anew" # in the world frame of MuJoCo, towering') == ["1: anew -> again"]


MUTANTS = {
    "a field is described by what it is": (
        "config.py",
        '"""Root seed; seed i',
        '"""What the root seed is; seed i',
        "test_the_package_follows_the_prose_rule",
    ),
    "an error speaks of us": (
        "shown.py",
        "that cannot be shown",
        "that we cannot show",
        "test_the_package_follows_the_prose_rule",
    ),
}
