"""What the source must not contain, and what an import must not load."""

import ast
import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

import purerl

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "purerl").rglob("*.py"))
LAYERS = (
    {"types"},
    {"ops", "config"},
    {"registry", "replay", "networks", "distributions", "rollout", "evaluate"},
    {"algos", "envs"},
    {"make", "metrics"},
    {"train"},
    {"experiment"},
)
"""A module imports from its own layer or a lower one; `algos` and `envs` not from each other."""
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
HEAVY = ("distrax", "mujoco", "mujoco.mjx", "orbax", "matplotlib", "tyro", "rich")


def part_of(path: Path) -> str:
    return path.relative_to(ROOT / "purerl").with_suffix("").parts[0]


def imports(path: Path) -> set[str]:
    """Dotted names of what `path` imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where a name lives"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def inner(path: Path) -> set[str]:
    """The parts of purerl that `path` imports."""
    return {name.split(".")[1] for name in imports(path) if name.startswith("purerl.")}


def test_every_part_of_the_package_has_its_layer():
    assert {part_of(path) for path in FILES} - {"__init__"} <= set(LEVEL)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path):
    part = part_of(path)
    if part == "__init__":
        assert not inner(path), "purerl/__init__.py imports lazily"
        return
    known = inner(path) & set(LEVEL)
    assert {name for name in known if LEVEL[name] > LEVEL[part]} == set()
    if part in ("algos", "envs"):
        assert not known & ({"algos", "envs"} - {part})
    if part == "types":
        assert not inner(path)
    if part == "ops":
        assert known <= {"types", "ops"}, "pure mathematics knows no configuration"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_distributions_imports_distrax(path):
    modules = {name.split(".")[0] for name in imports(path)}
    allowed = path == ROOT / "purerl" / "distributions.py"
    assert allowed or not modules & {"distrax", "tensorflow_probability"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_runs_code_from_files(path):
    modules = {name.split(".")[0] for name in imports(path)}
    assert not modules & {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name, keywords = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
        assert name not in ("eval", "exec", "compile", "__import__", "os.system"), name
        assert name not in ("yaml.load", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all"), name
        assert keywords.get("allow_pickle", "False") == "False", ast.unparse(node)
        assert keywords.get("shell", "False") == "False", ast.unparse(node)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_old_or_forbidden_of_jax_is_used(path):
    if part_of(path) == "experiment":
        pytest.skip("the rim may do as it likes")
    nodes = ast.walk(ast.parse(path.read_text()))
    names = {ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute)}
    forbidden = {"jax.pmap", "jax.tree_map", "jax.random.PRNGKey", "jnp.linalg.qr", "jnp.linalg.svd"}
    forbidden |= {"jnp.linalg.cholesky", "jnp.linalg.inv", "jnp.linalg.solve", "jnp.fft", "np.random.rand"}
    assert not names & forbidden
    assert not {"orthogonal"} & {n.rsplit(".")[-1] for n in imports(path) if n.startswith(("flax", "jax"))}


@pytest.mark.parametrize("call", ["", "purerl.make_config('sac', env='pendulum')"], ids=["import", "config"])
def test_heavy_packages_wait_until_they_are_needed(call):
    heavy = HEAVY if not call else set(HEAVY) - {"rich"}  # flax itself loads rich
    report = f"import json, purerl, sys; {call}; print(json.dumps([m for m in {heavy} if m in sys.modules]))"
    report = report.replace("; ;", ";")
    done = subprocess.run(
        [sys.executable, "-c", report], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize("name", purerl.__all__)
def test_every_public_name_is_there_and_documented(name):
    first, value = getattr(purerl, name), getattr(purerl, name)
    assert value is first and not inspect.ismodule(value)
    doc = inspect.getdoc(value)
    assert doc and not doc.startswith(f"{name}(")  # a NamedTuple's own signature is no documentation
    assert importlib.import_module(value.__module__).__doc__


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = purerl.no_such_name
    assert set(purerl.__all__) <= set(dir(purerl))
