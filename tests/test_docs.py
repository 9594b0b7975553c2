"""Pages of the algorithms against the code: options, defaults, metrics, records.

Nothing is compiled: the names of metrics come from shapes. Code on the pages is run by test_pages.py.
"""

import ast
import dataclasses
import functools
import json
import re
import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from pages import blocks, rows
from tiny import environments_of

import purerl
from purerl import metrics, registry
from purerl.algos.off_policy import OffPolicyConfig
from purerl.algos.on_policy import OnPolicyConfig
from purerl.config import freeze
from purerl.errors import ConfigError
from purerl.experiment.logs import SPINNING_UP
from purerl.make import spec_of, validate
from purerl.rollout import Episodes
from purerl.types import Transition

PAGES = Path(__file__).parents[1] / "docs" / "algos"
INDEX = PAGES / "README.md"
BENCHMARKS = PAGES.parents[1] / "benchmarks"
LEARNING = BENCHMARKS / "results" / "learning"
SHARED = {"Shared options": OnPolicyConfig, "Off-policy options": OffPolicyConfig}
"""Sections of the index with the options of a family."""
ALGORITHMS = sorted(algo for algo in registry.ALGORITHMS if (PAGES / f"{algo}.md").exists())
FILES = [INDEX, *(PAGES / f"{algo}.md" for algo in ALGORITHMS)]
SECTIONS = (
    "Background",
    "Quick facts",
    "Use it",
    "Key equations",
    "Exploration",
    "Pseudocode",
    "Options",
    "Logged metrics",
    "Implementation choices",
    "Results",
    "References",
)


def page(algo: str) -> str:
    return (PAGES / f"{algo}.md").read_text("utf-8")


def section(text: str, heading: str) -> str:
    """Return the text under a heading of the second level."""
    parts = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)
    found = dict(zip(parts[1::2], parts[2::2], strict=True))
    return found[heading]


def table(text: str) -> dict[str, list[str]]:
    """Return the only table in `text`: the other cells of each row by the name in its first cell."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    assert all(len(row) == len(rows[0]) for row in rows), "a cell holds a | of its own"
    names = [row[0].strip("`") for row in rows]
    assert len(set(names)) == len(names), "a name stands twice"
    return dict(zip(names, (row[1:] for row in rows), strict=True))


def documented_defaults(text: str) -> dict[str, object]:
    return {name: freeze(ast.literal_eval(cells[0].strip("`"))) for name, cells in table(text).items()}


def vmappable(text: str) -> set[str]:
    """Return the names in the item `Vmappable`, without the reference to the shared ones."""
    (item,) = re.findall(r"^- Vmappable: (.*?)(?:;\s+and the|\n(?:-|\n))", text, re.MULTILINE | re.DOTALL)
    return set(re.findall(r"`(\w+)`", item))


def fields(cls: type) -> dict[str, dataclasses.Field]:
    return {field.name: field for field in dataclasses.fields(cls)}


def own_fields(algo: str) -> dict[str, dataclasses.Field]:
    """Return the fields that the algorithm does not share with its family, or has with another default."""
    cls = registry.config_class(algo)
    families = (family for family in SHARED.values() if issubclass(cls, family))
    shared = fields(next(families, purerl.Config))
    return {n: f for n, f in fields(cls).items() if n not in shared or f.default != shared[n].default}


def reals(known: dict[str, dataclasses.Field]) -> set[str]:
    return {name for name, field in known.items() if field.metadata["rule"].kind == "real"}


def all_switched_on(algo: str) -> purerl.Config:
    """Return a config with every switch and every optional number set that has an effect, for all metrics."""
    cls, chosen = registry.config_class(algo), {}
    env = environments_of(cls)[-1]  # pendulum, but for methods of discrete actions alone
    for name, field in fields(cls).items():
        if field.metadata["rule"].kind == "switch":
            chosen[name] = True
        elif field.metadata["rule"].kind == "real" and field.default is None:
            chosen[name] = 0.5
    while True:
        cfg = purerl.make_config(algo, env=env, **chosen)
        try:
            validate(cfg, spec_of(purerl.make_env(env)))
        except ConfigError as error:
            del chosen[error.field]
        else:
            return cfg


def reported(cfg: purerl.Config) -> set[str]:
    """Return the keys of an update's metrics, from shapes alone."""
    env = purerl.make_env(cfg.env)
    algo = purerl.make_algorithm(cfg, env)
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(algo.init, key)
    carry = jax.eval_shape(lambda: algo.init_carry(algo.num_envs))
    obs = jax.ShapeDtypeStruct((algo.num_envs, *env.observation_space.shape), jnp.float32)
    act = functools.partial(algo.act, step=0, explore=True)
    action, _, extras = jax.eval_shape(act, state, carry, obs, key)

    def over_time(leaf):
        return jax.ShapeDtypeStruct((algo.num_steps, *leaf.shape), leaf.dtype)

    row = {d: jax.ShapeDtypeStruct((algo.num_envs,), d) for d in (jnp.float32, jnp.bool_)}
    flags = row[jnp.bool_], row[jnp.bool_]
    rollout = jax.tree.map(over_time, Transition(obs, action, row[jnp.float32], obs, *flags, extras))
    step = jax.ShapeDtypeStruct((), jnp.int32)
    return set(jax.eval_shape(algo.update, state, rollout, key, step)[1])


COMMANDS = [line for file in FILES for code in blocks(file, "bash") for line in code.splitlines()]
RECORDED = [line for line in COMMANDS if line.startswith("python benchmarks/learning.py ")]


def test_every_algorithm_has_a_page_in_the_index():
    missing = registry.ALGORITHMS.keys() - set(ALGORITHMS)
    assert not missing, f"docs/algos/{', '.join(sorted(missing))}.md is missing"
    index = INDEX.read_text("utf-8")
    for algo in ALGORITHMS:
        assert f"({algo}.md) | `{algo}` |" in index
    assert {file.stem for file in PAGES.glob("*.md")} == {"README", *registry.ALGORITHMS}


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_a_page_has_its_sections_in_order(algo):
    assert tuple(re.findall(r"^## (.+)$", page(algo), re.MULTILINE)) == SECTIONS
    assert f"`purerl/algos/{algo}.py`" in section(page(algo), "Quick facts")


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_a_page_lists_own_options_with_defaults(algo):
    own = own_fields(algo)
    expected = {name: field.default for name, field in own.items()}
    assert documented_defaults(section(page(algo), "Options")) == expected
    assert vmappable(page(algo)) == reals(own)


@pytest.mark.parametrize("heading", SHARED)
def test_the_index_lists_shared_options_with_defaults(heading):
    shared, text = fields(SHARED[heading]), section(INDEX.read_text("utf-8"), heading)
    assert documented_defaults(text) == {name: field.default for name, field in shared.items()}
    assert vmappable(text) == reals(shared)


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_a_page_names_the_metrics_of_an_update(algo):
    rows = table(section(page(algo), "Logged metrics"))
    default = purerl.make_config(algo, env=environments_of(registry.config_class(algo))[-1])
    assert set(rows) == reported(default) | reported(all_switched_on(algo))


def test_the_index_names_the_metrics_of_every_row():
    def row(episodes: Episodes, returns, lengths, diverged_at):
        tallies = metrics.episode_tallies(episodes) | metrics.evaluation_tallies("eval", returns, lengths)
        return metrics.summarise(tallies, diverged_at)

    real, flag, whole = (jax.ShapeDtypeStruct((4, 2), d) for d in (jnp.float32, jnp.bool_, jnp.int32))
    one = jax.ShapeDtypeStruct((), jnp.int32)
    known = jax.eval_shape(row, Episodes(flag, real, whole, real), real, whole, one)
    rows = table(section(INDEX.read_text("utf-8"), "Common metrics"))
    assert set(rows) == {"step", *known}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_page_names_the_columns_of_spinning_up(file):
    heading = "Common metrics" if file == INDEX else "Logged metrics"
    for name, (_, column) in table(section(file.read_text("utf-8"), heading)).items():
        assert column.strip("`") == SPINNING_UP.get(name, "–"), name


@pytest.mark.parametrize("line", RECORDED)
def test_a_page_names_the_command_of_a_record(line):
    name = line.split()[-1]
    assert json.loads((LEARNING / f"{name}.json").read_text())["command"] == line


def test_published_returns_are_those_of_the_protocols():
    """Of SAC those at 300,000 steps, which other steps follow; of the others at both steps."""
    known = runpy.run_path(str(BENCHMARKS / "protocols.py"))["OFF_POLICY_PUBLISHED"]
    headers = ("task", "published of SAC"), ("task", "published at 100,000 steps", "at 300,000 steps")
    for algo in ("sac", "td3", "ddpg"):
        header, steps = (headers[0], [300_000]) if algo == "sac" else (headers[1], [100_000, 300_000])
        found = {task: [row[name] for name in header[1:]] for task, row in rows(page(algo), *header).items()}
        expected = {env: of for (name, env), of in known.items() if name == algo}
        assert found.keys() == expected.keys()
        for task, cells in found.items():
            assert [cell.split(";")[0] for cell in cells] == [
                f"{expected[task][n][0]:,.0f}" for n in steps
            ], task


def test_costs_of_switches_are_those_of_the_record():
    """Each row of SAC's table: by processor time and by wall clock, at both widths."""
    entries = json.loads((LEARNING.parent / "sac_cost.json").read_text("utf-8"))["results"]
    table = rows(page("sac"), "switches", "processor time, 256")
    for entry in entries:
        switches = [f"{name}={value!r}".replace("'", '"') for name, value in entry["fields"].items()]
        row, width = table[", ".join(switches) or "none"], entry["width"]
        assert row[f"processor time, {width}"] == f"{entry['cost of processor time']:.2f}", switches
        assert row[f"wall clock, {width}"] == f"{entry['cost']:.2f}", switches
        if width == 128:
            over = entry["processor time over plain 256"]
            assert row["128 over plain 256"] == f"{over:.2f}", switches
    assert 2 * len(table) == len(entries)


def test_a_missing_page_is_one_failure(monkeypatch):
    """It names the page; the other tests are collected and run without it."""
    monkeypatch.setitem(registry.ALGORITHMS, "unwritten", registry.ALGORITHMS["sac"])
    collected = runpy.run_path(__file__)
    assert collected["ALGORITHMS"] == ALGORITHMS
    with pytest.raises(AssertionError, match=r"docs/algos/unwritten\.md is missing"):
        collected["test_every_algorithm_has_a_page_in_the_index"]()


MUTANTS = {
    "a default of the off-policy family changes": (
        "algos/off_policy.py",
        "tau: float = real(0.005",
        "tau: float = real(0.01",
        "test_the_index_lists_shared_options_with_defaults",
    ),
    "a default of TD3 changes": (
        "algos/td3.py",
        "policy_delay: int = count(2)",
        "policy_delay: int = count(3)",
        "test_a_page_lists_own_options_with_defaults",
    ),
    "a metric of DDPG has another name": (
        "algos/ddpg.py",
        '"q/mean": q_mean',
        '"q/value": q_mean',
        "test_a_page_names_the_metrics_of_an_update",
    ),
    "a metric of A2C loses its part": (
        "algos/a2c.py",
        '"v/loss": v_loss',
        '"loss": v_loss',
        "test_a_page_names_the_metrics_of_an_update",
    ),
}
