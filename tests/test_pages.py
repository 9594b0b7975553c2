"""Pages of README and docs: their code runs, their commands are valid, and what they name exists."""

import functools
import importlib.util
import inspect
import json
import os
import re
import subprocess
import sys

import gymnasium
import numpy as np
import pages
import pytest
from pages import PAGES, ROOT, blocks, inline, name_of, prose, rows

import purerl
from purerl import registry
from purerl.cli.configure import names
from purerl.cli.sweep import SweepOptions
from purerl.config import ConfigError
from purerl.envs import wrappers
from purerl.envs.mujoco.options import Setup

RESULTS = ROOT / "benchmarks" / "results"
ELSEWHERE = {"docs/own_robot.md": "test_custom.py", "docs/rendering.md": "test_render.py"}
"""Pages whose Python runs in a test of its own, unshrunk."""
ALONE = {"docs/mujoco.md"}
"""Pages whose Python needs a process with NPROC=8: MJX."""
WITH_PYTHON = [page for page in PAGES if blocks(page, "python") and name_of(page) not in ELSEWHERE]
COMMANDS = list(dict.fromkeys((name_of(page), line) for page in PAGES for line in pages.commands(page)))
each_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", WITH_PYTHON, ids=name_of)
def test_the_python_of_a_page_runs_in_order(page, tmp_path, monkeypatch):
    """In an empty directory, each page in one namespace; configurations are `pages.shrunk`."""
    monkeypatch.chdir(tmp_path)
    if name_of(page) not in ALONE:
        with pages.shrunk():
            pages.run_page(page)
        return
    env = os.environ | {"NPROC": "8", "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))}
    command = [sys.executable, str(ROOT / "tests" / "pages.py"), str(page)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr


def test_the_python_of_pages_defines_its_names(tmp_path):
    """Undefined names and unused imports, found by ruff in the blocks of a page one after the other.

    Blocks may import again what those before them have, so that each can be read alone.
    """
    for page in PAGES:
        code = "\n".join(blocks(page, "python"))
        (tmp_path / f"{name_of(page).replace('/', '-')}.py").write_text(code)
    rules = ["--isolated", "--select", "E9,F", "--ignore", "F811"]
    command = [sys.executable, "-m", "ruff", "check", "-q", *rules, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("code", "fits"),
    [
        ("x = np.zeros((4, 7))  # [4, rows]", True),
        ("x = np.zeros((4, 7))  # [4]", False),
        ("x = np.zeros((4, 7))  # [4, N]: the rest", False),
        ("x = {'a': np.zeros((4, 7)), 'b': np.zeros(4)}  # [4, ...]", True),
        ("np.zeros(4).shape  # (4,)", True),
        ("np.zeros(())  # []", True),
        ("np.zeros(4)  # []", False),
        ("1 + 1  # 3", False),
        ("1 + 1  # two", True),
    ],
)
def test_comments_are_compared(code, fits):
    names = {"N": 6}
    check = functools.partial(pages.run_block, f"import numpy as np\n{code}", names)
    if fits:
        check()
    else:
        with pytest.raises(AssertionError, match="got "):
            check()


@pytest.mark.parametrize(("page", "line"), COMMANDS, ids=[f"{page}: {line}" for page, line in COMMANDS])
def test_a_command_is_valid(page, line):
    """Its script exists and takes these options; a run would not be refused."""
    pages.check_command(line)


@pytest.mark.parametrize(
    "line", ["python scripts/train.py --no-such 1", "python benchmarks/start.py --no-such 1", "no/such 1"]
)
def test_a_command_that_is_not_is_noticed(line, capsys):
    with pytest.raises((AssertionError, ConfigError, SystemExit)):
        pages.check_command(line)


@pytest.mark.parametrize("option", ["--out=no/such/x.json", "--out=~no-such-user/x.json"])
def test_a_result_without_a_directory_is_refused_at_once(option):
    """And not when it is written, hours later."""
    with pytest.raises(SystemExit):
        pages.check_command(f"python benchmarks/start.py {option}")
    pages.check_command("python benchmarks/start.py --out=~/x.json")


@each_page
def test_tables_are_whole(page):
    """A header, a rule and rows of as many cells; a blank line within would end the table."""
    cells = lambda row: len(re.findall(r"(?<!\\)\|", row)) - 1
    for group in re.findall(r"(?:^\|.*\n)+", prose(page), re.MULTILINE):
        header, rule, *rows = group.splitlines()
        assert re.fullmatch(r"(\|:?-+:?)+\|", rule.replace(" ", "")), header
        assert rows and {cells(row) for row in rows} == {cells(header)} == {cells(rule)}, header
    after = re.findall(r"^\|.*\n(?!\||\n)(.+)", prose(page), re.MULTILINE)
    assert not after, "text that a reader takes for a row"


@each_page
def test_links_lead_somewhere(page):
    """To files of the repository, and to headings in them."""
    text = re.sub(r"\$\$[^$]*\$\$|\$[^$]*\$", "", prose(page))  # V(s)[i](t) in an equation is no link
    for target, anchor in re.findall(r"\]\((?!\w+:)([^)#]*)#?([^)]*)\)", text):
        there = page.parent / target if target else page
        assert there.exists(), target
        headings = re.findall(r"^#+ (.+)$", there.read_text("utf-8") if anchor else "", re.MULTILINE)
        assert not anchor or anchor in map(slug, headings), f"{target}#{anchor}"


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@each_page
def test_files_exist(page):
    """Those whose paths the text names, from the repository or from the package."""
    top = "|".join(path.name for path in ROOT.iterdir() if path.is_dir())
    inner = "|".join(path.name for path in (ROOT / "purerl").iterdir() if path.is_dir())
    for code in inline(page):
        if re.fullmatch(rf"(?:{top}|{inner})/[\w./*-]*", code):
            assert any([*ROOT.glob(code.rstrip("/")), *(ROOT / "purerl").glob(code.rstrip("/"))]), code


@each_page
def test_public_names_exist(page):
    """Every `purerl.name`, in the text and in the code."""
    code = [*inline(page), *blocks(page, "python")]
    for name in {name for text in code for name in re.findall(r"\bpurerl\.([a-zA-Z_]+)", text)}:
        assert hasattr(purerl, name) or importlib.util.find_spec(f"purerl.{name}"), name


@each_page
def test_options_exist(page):
    """Every `--option` in the text, commands apart, is one of training, of another verb or of a script."""
    classes = map(registry.config_class, registry.ALGORITHMS)
    fields = names(SweepOptions, *pages.OPTIONS_OF_RUNS.values(), *classes)
    known = {f"--{no}{name.replace('_', '-')}" for name in fields for no in ("", "no-")} | {"--help"}
    files = [*ROOT.glob("[bt]e*s/*.py"), *ROOT.glob("purerl/cli/*.py")]
    scripts = "".join(path.read_text("utf-8") for path in files)
    alone = [code for code in inline(page) if code not in pages.commands(page)]
    for option in {option for code in alone for option in re.findall(r"(?<!\S)--[a-z][\w-]*", code)}:
        assert option in known or f'"{option}"' in scripts, option


def test_every_id_is_in_the_tables():
    """Environments and algorithms of the registry, in README; environments on their page too, by family."""
    readme = prose(ROOT / "README.md")
    lines = "\n".join(line for line in readme.splitlines() if line.startswith("|"))
    for name in (*registry.ALGORITHMS, *registry.ENVIRONMENTS):
        assert re.search(rf"`{name}\b", lines), name
    there = prose(ROOT / "docs" / "environments.md") + prose(ROOT / "docs" / "mujoco.md")
    assert [name for name in registry.ENVIRONMENTS if f"| `{name}` |" not in there] == []


def test_tables_of_environments_are_right():
    """Steps, actions and sizes on their pages, and the Gymnasium tasks that they follow."""
    text = prose(ROOT / "docs" / "environments.md") + prose(ROOT / "docs" / "mujoco.md")
    tables = rows(text, "id")
    assert tables.keys() == registry.ENVIRONMENTS.keys()
    for name, row in tables.items():
        env = purerl.make_env(name)
        shape, space = env.observation_space.shape, env.action_space
        assert int(row["steps"].replace(",", "")) == env.max_episode_steps, name
        if row.get("Gymnasium", "none")[:4] != "none":
            assert gymnasium.spec(row["Gymnasium"]).max_episode_steps == env.max_episode_steps, name
        if "observation" in row:
            assert (int(row["observation"]), int(row["action"])) == (*shape, *space.shape), name
        elif "C" in row:
            assert int(row["C"]) == shape[-1], name
        elif isinstance(space, gymnasium.spaces.Discrete):
            assert int(row["actions"]) == space.n, name
        else:
            assert row["actions"] == f"[{space.low[0]:g}, {space.high[0]:g}]", name


def test_the_table_of_wrappers_is_right():
    """Every function with its required arguments, in their order."""
    known = set()
    for name, function in vars(wrappers).items():
        if inspect.isfunction(function) and function.__module__ == wrappers.__name__ and name[0] != "_":
            known.add(f"{name}({', '.join(inspect.signature(function).parameters)})")
    assert rows(prose(ROOT / "docs" / "environments.md"), "function", "effect").keys() == known


def test_the_tables_of_arguments_are_right():
    """What every MuJoCo task takes, and the functions of a robot of one's own."""
    text = prose(ROOT / "docs" / "mujoco.md")
    named = re.findall(r"\w+", " ".join(rows(text, "argument", "effect")))
    assert {*named, "engine"} == set(Setup._fields)
    robot, known = prose(ROOT / "docs" / "own_robot.md"), inspect.signature(purerl.mujoco_env).parameters
    assert {name.partition("(")[0] for name in rows(robot, "function", "returns")} <= known.keys()


WITH_RETURNS = [page for page in PAGES if rows(prose(page), "task", "final return")]


@pytest.mark.parametrize("page", WITH_RETURNS, ids=name_of)
def test_returns_are_those_of_the_records(page):
    """Mean and deviation, every seed, and the rate, of each task; returns below 10 with a decimal."""
    for task, row in rows(prose(page), "task", "final return").items():
        record = json.loads((RESULTS / "learning" / f"{page.stem}-{task}-1m.json").read_text())
        finals = np.array(record["final_returns"])
        decimals = int(abs(finals.mean()) < 10)
        show = lambda value, decimals=decimals: f"{value:,.{decimals}f}"
        assert row["final return"] == f"{show(finals.mean())} ± {show(finals.std())}", task
        assert row["each seed"] == ", ".join(map(show, sorted(finals))), task
        assert float(row["best published"].replace(",", "")) == pytest.approx(
            record["protocol"]["bar"], abs=0.5 * 0.1**decimals
        ), task
        assert row["steps/s, 10 seeds in sum"] == f"{record['steps_per_second']:,.0f}", task


def test_distances_of_engines_are_those_of_the_record():
    table = rows(prose(ROOT / "docs" / "mujoco.md"), "task", "qpos")
    records = {record["task"]: record for record in results_of("fidelity")}
    assert table.keys() == records.keys()
    for task, row in table.items():
        for column in ("qpos", "qvel", "observation", "reward"):
            known = records[task]["obs" if column == "observation" else column]
            most, median = row[column].strip(")").split(" (")
            assert (float(most), float(median)) == (known["max"], known["median"]), task


def test_speeds_of_physics_are_those_of_the_record():
    """Steps/s and its ratio to Gymnasium with 1 and with 64 environments, and the ratio to `mujoco.batch`."""
    text, found = prose(ROOT / "docs" / "mujoco.md"), {}
    for record in results_of("envs"):
        rate, ratios = record["engines"]["mujoco"]["steps_per_second"], record["ratios"]
        found.setdefault(record["task"], []).append(f"{rate:,} | {ratios['mujoco/gymnasium']:.2f}")
        if record["num_envs"] == 64:
            found[record["task"]].append(f"{ratios['mujoco/batch']:.2f}")
    for task, cells in found.items():
        assert f"| `{task}` | {' | '.join(cells)} |" in text, (task, cells)


def results_of(name: str) -> list[dict]:
    return json.loads((RESULTS / f"{name}.json").read_text("utf-8"))["results"]


MUTANTS = {
    "members of a seed stand together": (
        "members.py",
        "for setting in self.settings for i in self.indices]",
        "for i in self.indices for setting in self.settings]",
        "test_the_python_of_a_page_runs_in_order[docs/runs.md]",
    ),
    "a wrapper has another argument": (
        "envs/wrappers.py",
        "def sticky_actions(env: Env, probability:",
        "def sticky_actions(env: Env, chance:",
        "test_the_table_of_wrappers_is_right",
    ),
    "cartpole is shorter": (
        "envs/classic/cartpole.py",
        "500",
        "200",
        "test_tables_of_environments_are_right",
    ),
    "a public name is forgotten": (
        "__init__.py",
        '"from_brax", "from_playground"',
        '"from_brax",',
        "test_public_names_exist",
    ),
    "an option has another name": (
        "cli/configure.py",
        "    logdir: str | None",
        "    log_dir: str | None",
        "test_a_command_is_valid",
    ),
}
