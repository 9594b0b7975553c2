"""Layers of imports, forbidden names in the source, and packages that an import must not load."""

import ast
import importlib
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import purerl

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "purerl").rglob("*.py"))
PROGRAMS = sorted([*ROOT.glob("scripts/*.py"), *ROOT.glob("benchmarks/*.py")])
LAYERS = (
    {"types"},
    {"ops", "field_aliases", "shown", "machine", "files", "layers"},
    {"errors"},
    {"config", "normalize", "pixels", "spaces"},
    {
        "registry",
        "user_paths",
        "cast",
        "devices",
        "replay",
        "networks",
        "distributions",
        "rollout",
        "evaluate",
        "members",
        "search_space",
        "pbt",
        "schedule",
    },
    {"algos", "envs"},
    {"make", "metrics", "arguments", "network_trial", "own_parts", "config_file"},
    {"presets"},
    {"health"},
    {"train"},
    {"programs"},
    {"python_envs"},
    {"experiment"},
    {"workbench"},
    {"cli"},
    {"__main__"},
)
"""A module imports from its own layer or a lower one; `algos` and `envs` not from each other."""
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
RUNNERS = {"pickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "torch", "builtins"}
RUNNERS |= {"code", "codeop", "imp", "pty", "runpy", "xmlrpc", "multiprocessing"}
"""Modules that run code from files, or give other names to functions that do."""
RUNS = re.compile(
    r"(.*\.)?(eval|exec|execfile|getoutput|getstatusoutput|popen|pythonapi|read_array"
    r"|.*deserialize.*|.*pickle.*|exec_module|load_module|.*_from_spec|spec_from_.*"
    r"|unsafe_load(_all)?|full_load(_all)?|FullLoader|UnsafeLoader"
    r"|__(import|builtins|subclasses|globals|code|reduce|reduce_ex|setstate|getattribute)__)"
    r"|compile|os\.(system|(exec|spawn|posix_spawn).*)|(jax\.)?numpy\.load|yaml\.(C?Loader|load|load_all)"
)
"""Names that run code given to them. `re.compile` is none of them, and `jax.eval_shape` neither."""
NAMESPACE = re.compile(r"vars|dict__|globals|locals|builtins|modules")
"""Mappings from names to functions."""
DOORS = {
    "importlib.import_module": {"purerl/__init__.py", "purerl/registry.py"},
    "subprocess": {"purerl/envs/mujoco/engine/build.py"},
    "ctypes": {
        f"purerl/envs/mujoco/{name}.py"
        for name in ("engine/build", "engine/callback", "engine/ffi", "opengl")
    },
}
"""Modules that only these files may use, and programs beside the package."""
HEAVY = ("distrax", "mujoco", "mujoco.mjx", "matplotlib", "rich", "gymnasium.envs.mujoco", "yaml")


def part_of(path: Path) -> str:
    return path.relative_to(ROOT / "purerl").with_suffix("").parts[0]


def imports(path: Path) -> set[str]:
    """Return the dotted names that `path` imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where a name lives"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def inner(path: Path) -> set[str]:
    """Return the parts of purerl that `path` imports."""
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


def runs_code(source: str, where: str = "") -> list[str]:
    """Return the expressions in `source`, the file `where`, that can run code from data."""
    nodes = list(ast.walk(ast.parse(source)))
    meant, modules = {}, set()
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                name = f"{node.module}.{alias.name}" if isinstance(node, ast.ImportFrom) else alias.name
                modules.add(name)
                short = alias.asname or (
                    alias.name if isinstance(node, ast.ImportFrom) else name.split(".")[0]
                )
                meant[short] = name if alias.asname or isinstance(node, ast.ImportFrom) else short

    def full(node: ast.AST) -> str:
        """Return the dotted name behind `node`, whatever its name here."""
        if isinstance(node, ast.Attribute):
            return f"{full(node.value)}.{node.attr}"
        return meant.get(node.id, node.id) if isinstance(node, ast.Name) else "()"

    names = modules | {full(node) for node in nodes if isinstance(node, ast.Name | ast.Attribute)}
    names |= {f"().{node.name}" for node in nodes if isinstance(node, ast.FunctionDef)}
    names |= _looked_up(nodes)
    found = [name for name in names if "\n" not in name and " " not in name and RUNS.fullmatch(name)]
    found += [name for name in modules if name.split(".")[0] in RUNNERS]
    for door, files in DOORS.items():
        if where.startswith("purerl") and where not in files:
            found += [name for name in names if name == door or name.startswith(f"{door}.")]
    for node in nodes:
        if isinstance(node, ast.Call):
            found += [
                ast.unparse(node) for keyword in node.keywords if not _is_plain(full(node.func), keyword)
            ]
            of_module = node.args and isinstance(node.args[0], ast.Name) and node.args[0].id in meant
            found += [ast.unparse(node)] * (full(node.func) in ("getattr", "vars") and bool(of_module))
    return found


def _looked_up(nodes: list[ast.AST]) -> set[str]:
    """Return the strings in look-ups such as `getattr(module, "eval")` and `vars(module)["eval"]`."""
    found = set()
    for node in nodes:
        where = []
        if isinstance(node, ast.Subscript) and NAMESPACE.search(ast.unparse(node.value)):
            where = [node.slice]
        elif isinstance(node, ast.Call) and "attr" in ast.unparse(node.func):
            where = node.args
        found |= {n.value for n in where if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    return found - {"compile"}


def _is_plain(function: str, keyword: ast.keyword) -> bool:
    """Return True if a keyword argument can ask neither for a shell nor for pickles."""
    if keyword.arg in ("shell", "allow_pickle"):
        return isinstance(keyword.value, ast.Constant) and keyword.value.value is False
    return keyword.arg is not None or not function.startswith("subprocess")


@pytest.mark.parametrize("path", FILES + PROGRAMS, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_runs_code_from_files(path):
    """An untrusted checkpoint, configuration or option is data, and nothing here can run it."""
    assert runs_code(path.read_text(), path.relative_to(ROOT).as_posix()) == []


HARMFUL = """
import pickle
import cloudpickle as safe
from joblib import load
from torch import load as restore
import builtins
eval(text)
run = eval
map(exec, lines)
compile(text, "x", "exec")
__import__(name)
__builtins__["x"]
getattr(numbers, "eval")
vars(numbers)["eval"]
operator.attrgetter("exec")(numbers)
import os; os.system(text)
import os as files; files.popen(text)
from os import system
from os import execvp as go
import os; getattr(os, text)
import os; vars(os)[text]
import sys; sys.modules["os"].system(text) if sys.modules["os"].popen else 0
"".__class__.__mro__[1].__subclasses__()
function.__globals__["x"]
import importlib; importlib.import_module(text)
from importlib import import_module as get
import importlib.util; importlib.util.spec_from_file_location("a", text)
import subprocess
from subprocess import run
import ctypes
import numpy as np; np.load(path)
import jax.numpy as jnp; jnp.load(path)
import numpy as np; np.lib.format.read_array(file, True)
read(path, allow_pickle=True)
read(path, allow_pickle=trusted)
run(command, shell=True)
run(command, shell=1)
import pandas; pandas.read_pickle(path)
import yaml; yaml.load(text, yaml.SafeLoader)
import yaml; yaml.unsafe_load(text)
import yaml; make(yaml.Loader)
from yaml import FullLoader
from yaml import load as parse
def __reduce__(self): ...
jax.tree_util.PyTreeDef.deserialize_using_proto(registry, text)
from jax.experimental.serialize_executable import deserialize_and_load
""".strip().splitlines()
HARMLESS = """
import re; re.compile(text)
jitted.lower(x).compile()
jax.eval_shape(function)
from purerl import evaluate
read(path, allow_pickle=False)
getattr(value, name)
import platform; platform.system()
import importlib.metadata; importlib.metadata.version("jax")
import yaml; yaml.SafeLoader(text)
"nothing here evals or unpickles, as pickle would"
{"eval/return": 1}
{"eval": False}
curves["eval"]
""".strip().splitlines()


@pytest.mark.parametrize("line", HARMFUL)
def test_the_scan_finds_code_that_runs_data(line):
    """Also behind another name, and before any call."""
    assert runs_code(line, "purerl/x.py")


@pytest.mark.parametrize("line", HARMLESS)
def test_the_scan_lets_similar_names_pass(line):
    """A scan with false alarms would be switched off."""
    assert runs_code(line, "purerl/x.py") == []


def test_programs_may_start_others_without_a_shell():
    """Benchmarks run other libraries, each in its own process."""
    assert runs_code("import subprocess; subprocess.run(['x'])", "benchmarks/x.py") == []
    assert runs_code("import subprocess; subprocess.run('x', shell=True)", "benchmarks/x.py")
    assert runs_code("import subprocess; subprocess.run('x', **options)", "benchmarks/x.py")
    assert runs_code("import subprocess; subprocess.getoutput('x')", "benchmarks/x.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_old_or_forbidden_of_jax_is_used(path):
    if part_of(path) == "experiment":
        pytest.skip("outside of compiled programs")
    nodes = ast.walk(ast.parse(path.read_text()))
    names = {ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute)}
    forbidden = {"jax.pmap", "jax.tree_map", "jax.random.PRNGKey", "jnp.linalg.qr", "jnp.linalg.svd"}
    forbidden |= {"jnp.linalg.cholesky", "jnp.linalg.inv", "jnp.linalg.solve", "jnp.fft", "np.random.rand"}
    assert not names & forbidden
    assert not {"orthogonal"} & {n.rsplit(".")[-1] for n in imports(path) if n.startswith(("flax", "jax"))}


@pytest.mark.parametrize("call", ["", "purerl.make_config('sac', env='pendulum')"], ids=["import", "config"])
def test_heavy_packages_wait_until_they_are_needed(call):
    heavy = HEAVY if not call else set(HEAVY) - {"rich", "yaml"}  # flax itself loads them
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
