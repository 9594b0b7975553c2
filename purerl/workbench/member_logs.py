"""Logs of members below given directories, of purerl and of Spinning Up, grouped to settings.

Every directory with a `progress.txt` is a member; its `config.json`, if there is one, says its setting.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from purerl.config import ConfigError
from purerl.config_file import RECORDED
from purerl.experiment.untrusted import JSON_LIMIT, one_line
from purerl.files import DamagedFile, open_regular
from purerl.shown import shorten
from purerl.user_paths import user_path

LOG_LIMIT = 2**26
"""Bytes of the largest progress.txt."""
SAME_SETTING = {"seed", "first_seed", "logger_kwargs", "logger", *RECORDED}
"""Entries of config.json in which the members of a setting may differ."""
MAX_LABEL = 80
"""Characters of the longest label."""


class Log(NamedTuple):
    """The log of a member."""

    path: Path
    """Its directory."""
    config: dict[str, Any]
    columns: dict[str, np.ndarray]
    """Every column of progress.txt, `[rows]` float64, NaN where a row has no value."""


class Setting(NamedTuple):
    """Members that differ in their seed only."""

    label: str
    logs: list[Log]


def find_settings(
    logdirs: Sequence[str | os.PathLike[str]],
    legend: Sequence[str] = (),
    select: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> list[Setting]:
    """Read all logs below some directories, and return their settings.

    Args:
        logdirs: directories, or beginnings of their names: `runs/ppo` means every `runs/ppo*` where there is
            no `runs/ppo`. A member below two of them counts for the first.
        legend: a label for each directory; by default the label is `exp_name`, and what else differs.
        select: texts that must all occur in a member's path.
        exclude: texts of which none may occur in it.

    Raises:
        ConfigError: if there is no log, or the labels are not as many as the directories.
        DamagedFile: for a log that cannot be read; the message names file and line.
    """
    found: dict[Path, list[Path]] = {}
    seen: set[str] = set()
    for directory in (path for given in logdirs for path in _matches(given)):
        wanted = (path for path in _members_below(directory) if _wanted(str(path), select, exclude))
        if paths := [path for path in wanted if os.path.realpath(path) not in seen]:
            found[directory] = paths
            seen |= {os.path.realpath(path) for path in paths}
    if not found:
        narrower = " that --select and --exclude leave over" if select or exclude else ""
        shown = list(map(str, logdirs))
        raise ConfigError(
            "logdir", shown[0] if len(shown) == 1 else shown, f"runs, with a progress.txt{narrower}"
        )
    if legend and len(legend) != len(found):
        names = ", ".join(map(str, found))
        raise ConfigError(
            "legend", list(legend), f"{len(found)} labels, one for each of {shorten(names, 300)}"
        )
    logs = {directory: [read_log(path) for path in paths] for directory, paths in found.items()}
    if not legend:
        return _grouped([log for group in logs.values() for log in group])
    labelled: dict[str, list[Log]] = {}
    for label, group in zip(legend, logs.values(), strict=True):  # equal labels are one setting
        labelled.setdefault(label, []).extend(group)
    return [Setting(shorten(one_line(label), MAX_LABEL), group) for label, group in labelled.items()]


def read_log(path: Path) -> Log:
    """Read the log in a directory.

    A last line without its end, of a run that goes on or was killed, is left out. Raises DamagedFile, with
    file and line, if something is damaged, and FileNotFoundError if there is no log.
    """
    file = path / "progress.txt"
    *lines, _ = _read(file, LOG_LIMIT).split("\n")
    names = lines[0].rstrip("\r").split("\t") if lines else []
    if not all(names) or len(set(names)) < len(names):
        raise DamagedFile(one_line(f"{file}, line 1: the names of the columns are empty or repeated"))
    rows = [_numbers(line.rstrip("\r"), names, f"{file}, line {i}") for i, line in enumerate(lines[1:], 2)]
    table = np.array(rows, float).reshape(len(rows), len(names))
    config = {}
    if os.path.lexists(path / "config.json"):
        try:
            config = json.loads(_read(path / "config.json", JSON_LIMIT))
            if not isinstance(config, dict):
                raise ValueError("expected an object")
        except (ValueError, RecursionError) as error:
            raise DamagedFile(one_line(f"{path / 'config.json'} is not a JSON object: {error}")) from error
    return Log(path, config, dict(zip(names, table.T, strict=True)))


def separate(settings: Sequence[Setting]) -> list[Setting]:
    """Return every member as a setting of its own, labelled with its seed."""
    single = []
    for setting in settings:
        for i, log in enumerate(setting.logs):
            seed = log.config.get("seed_index", log.config.get("seed", i))
            single.append(Setting(shorten(f"{setting.label} seed {seed}", MAX_LABEL), [log]))
    return single


def repeated_seeds(setting: Setting) -> list[str]:
    """Return the seeds that a setting has more than once, so that they count twice."""
    seeds = [
        (log.config["seed"], log.config.get("seed_index")) for log in setting.logs if "seed" in log.config
    ]
    return sorted({str(s if i is None else i) for s, i in seeds if seeds.count((s, i)) > 1})


def _matches(given: str | os.PathLike[str]) -> list[Path]:
    """Return the directory, or those whose names begin so."""
    path = user_path("logdir", given)
    if path.is_dir():
        return [path]
    if not path.parent.is_dir():
        return []
    return sorted(p for p in path.parent.iterdir() if p.name.startswith(path.name) and p.is_dir())


def _members_below(directory: Path) -> list[Path]:
    found = []
    for root, folders, files in os.walk(directory):  # which follows no link
        folders[:] = sorted(name for name in folders if name not in ("checkpoints", "policies"))
        found += [Path(root)] if "progress.txt" in files else []
    return found


def _wanted(path: str, select: Sequence[str], exclude: Sequence[str]) -> bool:
    return all(text in path for text in select) and not any(text in path for text in exclude)


def _read(path: Path, limit: int) -> str:
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise DamagedFile(f"{path} has more than {limit:,} bytes")
    return content.decode("utf-8", errors="replace")


def _numbers(line: str, names: list[str], where: str) -> list[float]:
    cells = line.split("\t")
    if len(cells) != len(names):
        raise DamagedFile(one_line(f"{where}: {len(cells)} values in {len(names)} columns"))
    try:
        return [float(cell or "nan") for cell in cells]
    except ValueError as error:
        raise DamagedFile(one_line(f"{where}: {shorten(str(error))}")) from error


def _grouped(logs: list[Log]) -> list[Setting]:
    """Return settings by `exp_name` and by what else differs between the configurations of that name."""
    named: dict[str, list[Log]] = {}
    for log in logs:
        named.setdefault(str(log.config.get("exp_name") or "exp"), []).append(log)
    settings = []
    for name, group in named.items():
        texts = [{n: _text(v) for n, v in log.config.items() if n not in SAME_SETTING} for log in group]
        known = dict.fromkeys(n for text in texts for n in text)
        differ = [n for n in known if len({text.get(n, "") for text in texts}) > 1]
        apart: dict[str, list[Log]] = {}
        for log, text in sorted(zip(group, texts, strict=True), key=lambda pair: _order(pair[0], differ)):
            label = " ".join([name, *(f"{n}={text[n]}" for n in differ if text.get(n))])
            apart.setdefault(label, []).append(log)
        settings += [Setting(shorten(one_line(label), MAX_LABEL), logs) for label, logs in apart.items()]
    return settings


def _text(value: Any) -> str:
    """Return a value of config.json as a label shows it; empty for one with an address in memory."""
    text = json.dumps(value, sort_keys=True).strip('"')
    return "" if " at 0x" in text else text


def _order(log: Log, names: list[str]) -> list[tuple[int, float, str]]:
    values = [log.config.get(name) for name in names]
    real = lambda value: type(value) in (int, float)
    return [(0, value, "") if real(value) else (1, 0.0, str(value)) for value in values]  # type: ignore
