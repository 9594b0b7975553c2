"""Every requirement and extra in pyproject.toml is used, and every import of the package is a requirement."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
MODULES = {"PyYAML": "yaml", "mujoco-mjx": "mujoco.mjx", "gymnasium[classic-control]": "pygame"}
"""Imported modules of requirements whose names differ."""
USED_OTHERWISE = {
    "jaxlib": "the compiled half of JAX, of the same version range",
    "jax[cuda12]": "a backend that JAX finds",
    "jax[cuda13]": "a backend that JAX finds",
    "jax[tpu]": "a backend that JAX finds",
    "gymnasium[box2d]": "environments of Gymnasium behind `gym:`",
    "gymnasium[mujoco]": "environments of Gymnasium, the reference for ours",
    "pre-commit": "the hooks of .pre-commit-config.yaml",
    "pre-commit-hooks": "the hooks of .pre-commit-config.yaml",
    "pyright[nodejs]": "types, in .ci/run",
    "pytest-xdist": "the option -n of the test command",
    "ruff": "style, in .ci/run",
}
"""Requirements without an import, each with its use."""
NOT_REQUIRED = {"brax", "gymnax", "mujoco_playground", "IPython"}
"""Libraries whose environments are adapted, and whose requirements do not fit ours; and a notebook's own."""
REQUIREMENTS = [("", name) for name in PROJECT["dependencies"]]
REQUIREMENTS += [(extra, name) for extra, names in EXTRAS.items() for name in names]


def name_of(requirement: str) -> str:
    """Return a requirement's name with its extras, without versions."""
    return re.match(r"[\w.-]+(\[[\w,-]+\])?", requirement)[0]


def imports(*places: str) -> set[str]:
    """Return the dotted names that Python files, and those in folders, import or look for by name."""
    found = set()
    files = [ROOT / place for place in places if place.endswith(".py")]
    files += [path for place in places for path in (ROOT / place).rglob("*.py")]
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("find_spec"):
                found |= {word.value for word in node.args if isinstance(word, ast.Constant)}
    return found


@pytest.fixture(scope="module")
def imported():
    """Modules that the package imports, and those of all its programs and tests."""
    package = imports("purerl")
    return package, package | imports("tests", "benchmarks", "scripts", "noxfile.py")


@pytest.mark.parametrize(("extra", "requirement"), REQUIREMENTS, ids=[f"{e}:{r}" for e, r in REQUIREMENTS])
def test_every_requirement_is_used(extra, requirement, imported):
    """By an import of the package, or of the tests for the extra `dev`; exceptions are listed."""
    name = name_of(requirement)
    package, programs = imported
    if name.startswith("purerl["):
        assert set(name[len("purerl[") : -1].split(",")) <= EXTRAS.keys()
        return
    module = MODULES.get(name, name.replace("-", "_"))
    used = programs if extra == "dev" else package
    found = any(dotted == module or dotted.startswith(f"{module}.") for dotted in used)
    assert found != (name in USED_OTHERWISE), f"{name}: import it, list its use, or remove it"


def test_exceptions_are_requirements():
    assert USED_OTHERWISE.keys() | MODULES.keys() <= {name_of(requirement) for _, requirement in REQUIREMENTS}


def test_every_import_is_a_requirement(imported):
    """Not of the tests only: `dev` is not installed with the package."""
    names = {name_of(requirement) for extra, requirement in REQUIREMENTS if extra != "dev"}
    known = {MODULES.get(name, name.replace("-", "_")).partition(".")[0] for name in names}
    roots = {dotted.partition(".")[0] for dotted in imported[0]}
    assert roots - known - set(sys.stdlib_module_names) - {"purerl"} <= NOT_REQUIRED


def test_every_requirement_has_a_floor_and_a_ceiling():
    bounded = [r for _, r in REQUIREMENTS if not r.startswith("purerl[")]
    assert all(re.fullmatch(r"[^<>]+>=[\w.]+,<[\w.]+", requirement) for requirement in bounded)


def test_pins_are_solved_for_every_extra():
    """Except those of accelerators, which exclude each other."""
    extras = re.search(r"extras=\((.*)\)", (ROOT / "constraints" / "update").read_text())[1].split()
    assert set(extras) == EXTRAS.keys() - {"cuda12", "cuda13", "tpu"}
