"""Break purerl one line at a time, and list the breakages that no test notices.

    python tests/mutants.py [--since REV | --all] [--only TEXT] [--jobs N]

A test file lists its breakages in a literal,

    MUTANTS = {"name": ("ops/returns.py", "old text, which occurs once", "new text", "test_function")}

where the last is a test of that file, with its parameters if one of them is enough. Those of files that
differ from REV (default HEAD, so uncommitted changes) are run, source or test. Each is tried on a copy of
the repository. Exit status 1 if one survives, or no longer fits its source.
"""

from __future__ import annotations

import argparse
import ast
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
TIME_LIMIT = 600
"""Seconds for one test; a mutant that hangs is killed too."""


class Mutant(NamedTuple):
    """A breakage: `new` in the place of `old` in `purerl/{file}`, which `test` must notice."""

    name: str
    file: str
    old: str
    new: str
    test: str
    test_file: str
    """Path below the repository."""


def mutants() -> list[Mutant]:
    """Return the mutants of all test files, read without importing them."""
    found = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "MUTANTS":
                where = str(path.relative_to(ROOT))
                found += [Mutant(name, *rest, where) for name, rest in ast.literal_eval(node.value).items()]
    return found


def fault(mutant: Mutant) -> str:
    """Return the reason why a mutant no longer fits its source; empty if it does."""
    path = ROOT / "purerl" / mutant.file
    if not path.is_file():
        return f"there is no purerl/{mutant.file}"
    if (times := path.read_text().count(mutant.old)) != 1:
        return f"its text occurs {times} times in purerl/{mutant.file}"
    names = {
        node.name
        for node in ast.walk(ast.parse((ROOT / mutant.test_file).read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    known = mutant.test.partition("[")[0] in names
    return "" if known else f"{mutant.test_file} has no {mutant.test}"


def changed_files(since: str) -> set[str]:
    """Return the paths that differ from revision `since`, files that git does not track included."""
    calls = ["git", "diff", "--name-only", since], ["git", "ls-files", "--others", "--exclude-standard"]
    texts = [subprocess.run(c, cwd=ROOT, capture_output=True, text=True, check=True).stdout for c in calls]
    return set("".join(texts).split("\n"))


@contextmanager
def copy_of_the_repository() -> Iterator[Path]:
    """Copy the parts that tests read to a folder of its own."""
    ignore = shutil.ignore_patterns("__pycache__")
    with tempfile.TemporaryDirectory(prefix="mutant-") as scratch:
        for name in ("purerl", "tests", "benchmarks", "docs", "scripts", "constraints"):
            shutil.copytree(ROOT / name, Path(scratch, name), ignore=ignore)
        for name in ("pyproject.toml", "README.md", "CONTRIBUTING.md"):
            shutil.copy(ROOT / name, scratch)
        yield Path(scratch)


def run(repository: Path, *nodes: str) -> tuple[int, str]:
    """Run tests in a copy, slow ones too: pytest's exit status and output; 1 where the time ran out."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "", *nodes]
    env = os.environ | {"PYTHONPATH": str(repository), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=repository, env=env, capture_output=True, text=True, timeout=TIME_LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        return 1, "timed out"
    return done.returncode, done.stdout + done.stderr


def outcome(mutant: Mutant) -> str:
    """Return "killed", "SURVIVED", or the fault of the mutant itself."""
    if reason := fault(mutant):
        return f"BROKEN: {reason}"
    with copy_of_the_repository() as repository:
        path = repository / "purerl" / mutant.file
        path.write_text(path.read_text().replace(mutant.old, mutant.new))
        status, output = run(repository, f"{mutant.test_file}::{mutant.test}")
    return {0: "SURVIVED", 1: "killed"}.get(status, f"BROKEN: pytest gave {status}\n{output[-2000:]}")


def main() -> int:
    """Run the chosen mutants; 0 if every one was killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--since", default="HEAD", metavar="REV", help="take those of files changed since")
    parser.add_argument("--all", action="store_true", help="take all")
    parser.add_argument("--only", default="", metavar="TEXT", help="those with TEXT in name or file")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="tests to run side by side")
    args = parser.parse_args()
    chosen = [mutant for mutant in mutants() if args.only in f"{mutant.test_file}: {mutant.name}"]
    if not args.all:
        changed = changed_files(args.since)
        chosen = [m for m in chosen if f"purerl/{m.file}" in changed or m.test_file in changed]
    tests = sorted({f"{m.test_file}::{m.test}" for m in chosen if not fault(m)})
    if tests:
        with copy_of_the_repository() as repository:
            status, output = run(repository, *tests)
        if status:
            print(output[-4000:], "\nthese tests must pass without a mutant first", sep="")
            return 1
    print(f"{len(tests)} tests pass without a mutant; {len(chosen)} mutants", flush=True)
    survivors, begun = 0, time.monotonic()
    with ThreadPoolExecutor(args.jobs) as pool:
        for mutant, result in zip(chosen, pool.map(outcome, chosen), strict=True):
            survivors += result != "killed"
            seconds = time.monotonic() - begun
            print(f"{seconds:5.0f} s  {result:8}  {mutant.test_file}: {mutant.name}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} killed")
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main())
