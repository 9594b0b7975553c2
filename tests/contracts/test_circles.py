"""No circle of imports between the modules of purerl, wherever in a module the import stands."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def modules(root):
    """Module name -> file, for every module of the package `root / "purerl"`."""
    names = {}
    for path in root.glob("purerl/**/*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def imported(name, path, known):
    """Modules of `known` that `path` imports: also inside functions and under TYPE_CHECKING.

    `from package import module` is an import of the module. Importing a package runs its `__init__`, which
    here contains a docstring, or lazy names in the case of purerl itself.
    """
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {inner if inner in known else node.module for inner in full}
    return (found & set(known)) - {name}


def circle(root):
    """Return one circle of imports as a list of names, or None."""
    known = modules(root)
    graph = {name: imported(name, path, known) for name, path in known.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return None


def test_no_import_circles():
    assert len(modules(ROOT)) > 50
    assert circle(ROOT) is None


@pytest.mark.parametrize(
    "back",
    [
        "import purerl.first",
        "from purerl.first import name",
        "from purerl import first",
        "def function():\n    from purerl import first as other",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from purerl.first import name",
    ],
)
def test_circles_are_found(back, tmp_path):
    package = tmp_path / "purerl"
    package.mkdir()
    (package / "__init__.py").write_text('"""Empty."""\n')
    (package / "first.py").write_text("from purerl.second import name\n")
    (package / "second.py").write_text("name = 1\n")
    assert circle(tmp_path) is None
    (package / "second.py").write_text(back)
    assert set(circle(tmp_path)) == {"purerl.first", "purerl.second"}
