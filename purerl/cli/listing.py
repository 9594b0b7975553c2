"""`purerl list`: algorithms, environments, presets and runs by name, a line each."""

from __future__ import annotations

import ast
import dataclasses
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import purerl
from purerl import registry
from purerl.cli.configure import HELP, user_defaults
from purerl.cli.options import help_text, read_options
from purerl.config import ConfigError, did_you_mean, from_dict, text
from purerl.experiment.display import Lasting
from purerl.experiment.logs import final_return
from purerl.experiment.record import read_record
from purerl.files import DamagedFile
from purerl.presets import preset_fields, preset_names
from purerl.shown import shorten
from purerl.user_paths import user_path

KINDS = ("algorithms", "environments", "presets", "runs")
USAGE = "%(prog)s [" + "|".join(KINDS) + "] [WORD ...]"


@dataclasses.dataclass(frozen=True)
class ListOptions:
    """Options of the list."""

    data_dir: str = text("runs")
    """Directory below which runs are looked for."""


def show(argv: Sequence[str]) -> int:
    """Print the names that `argv` asks for, and return 0.

    Raises ConfigError for an unknown option, or words that no name or description contains.
    """
    given, words = read_options([word for word in argv if word not in HELP], ListOptions)
    if HELP & {*argv}:
        print(help_text("purerl list", ListOptions(), usage=USAGE), end="")
        return 0
    folder = from_dict(ListOptions, user_defaults(ListOptions) | given).data_dir
    if wrong := [word for word in words if word.startswith("-")]:
        raise ConfigError("option", wrong[0], "--data-dir, the only one", "See purerl list --help.")
    kinds = [words.pop(0)] if words and words[0] in KINDS else [*KINDS[:-1]]
    everything = {kind: list(_lines(kind, folder)) for kind in kinds}
    found = {
        kind: [line for line in lines if all(word.lower() in " ".join(line).lower() for word in words)]
        for kind, lines in everything.items()
    }
    if words and not any(found.values()):
        names = [name for lines in everything.values() for name, _ in lines]
        what = f"a part of a name or description of {', '.join(kinds)}"
        raise ConfigError("word", " ".join(words), what, did_you_mean(words[0], names))
    blocks = [f"{kind}:\n{_aligned(lines)}" for kind, lines in found.items() if lines]
    print("\n\n".join(blocks) or f"no run in {folder}", file=Lasting(sys.stdout))
    return 0


def _aligned(lines: Sequence[tuple[str, str]]) -> str:
    """Return a line for each name and description, cut to the terminal's width if there is one."""
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000
    width = max(len(name) for name, _ in lines)
    return "\n".join(shorten(f"  {name:<{width}}  {what}", columns).rstrip() for name, what in lines)


def _lines(kind: str, folder: str) -> Iterator[tuple[str, str]]:
    """Yield name and description of everything of a kind."""
    if kind == "algorithms":
        yield from _documented(registry.algorithms())
    elif kind == "environments":
        yield from _documented(registry.environments())
        for prefix, place in registry.LIBRARIES.items():
            yield f"{prefix}:ID", _first_line(place)
    elif kind == "presets":
        for name in preset_names():
            fields = preset_fields(name)
            env = fields.pop("env", "any environment")
            yield name, f"{fields.pop('algo')} on {env}: {', '.join(f'{k} {v}' for k, v in fields.items())}"
    else:
        yield from _runs(user_path("data_dir", folder))


def _documented(table: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, place in sorted(table.items()):
        yield name, _first_line(place) if isinstance(place, str) else "registered by this process"


def _first_line(place: str) -> str:
    """Return the first line of the docstring of the module in "module:attribute", without importing it."""
    parts = place.partition(":")[0].split(".")
    path = Path(purerl.__file__).parent.joinpath(*parts[1:]).with_suffix(".py")
    if parts[0] != "purerl" or not path.exists():
        return f"registered as {place}"
    doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return doc.splitlines()[0].removesuffix(".")


def _runs(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield every run below `folder`, the newest last."""
    files = sorted(folder.glob("**/run.json"), key=lambda path: path.stat().st_mtime)
    for path in (file.parent for file in files):
        try:
            record = read_record(path)
            config, members = record["config"], record["seeds"] * len(record["settings"])
            logs = sorted(path.glob("*seed*/metrics.jsonl"))
            known = f"return {final_return(logs[0]):,.1f} (first member)" if logs else "no row yet"
            what = f"{config.get('algo')} on {config.get('env')}, {members:,} members, {known}"
        except (ConfigError, DamagedFile, OSError) as error:
            what = f"cannot be read: {error}"
        yield str(path), what
