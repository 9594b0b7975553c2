"""Facts of a run for its report: configuration beside the defaults, changes, machine, speed and size."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from purerl.config import ConfigError, to_dict
from purerl.machine import format_bytes
from purerl.registry import config_class
from purerl.shown import shorten
from purerl.workbench.evaluation import Evaluation
from purerl.workbench.member_logs import SAME_SETTING, Log, Setting
from purerl.workbench.report_curves import last_of

TASK = {"algorithm": "algo", "environment": "env"}
"""Facts that are fields."""
MAX_TEXT = 300
"""Characters of the longest value of a field."""


class Film(NamedTuple):
    """A film for a page, or the reason why there is none."""

    content: bytes
    """Bytes of an MP4 file; empty without a film."""
    words: str


class Run(NamedTuple):
    """A directory that was given, with the members below it."""

    name: str
    path: Path
    settings: list[Setting]
    parts: list[Path]
    """Directories with a `run.json`: the run's own, or those of the parts of a sweep."""
    changes: list[dict[str, Any]]
    """Changes of configuration on resume, as the records have them."""
    size: int
    """Bytes of all checkpoints."""
    notes: list[str]
    """Sentences about what could not be read."""
    evaluations: Sequence[Evaluation] = ()
    """One for each part."""
    film: Film | None = None

    @property
    def logs(self) -> list[Log]:
        """Logs of all members."""
        return [log for setting in self.settings for log in setting.logs]

    def member(self, log: Log) -> str:
        """Return the name of a member: its directory below that of the run."""
        return str(log.path.relative_to(self.path))


class Field(NamedTuple):
    """A field of a configuration, as texts."""

    name: str
    values: list[str]
    """Values of the members, each once; several where the field is swept."""
    default: str | None
    """None where the algorithm or the field is unknown."""

    @property
    def differs(self) -> bool:
        """True if a member has another value than the default."""
        return self.default is not None and self.values != [self.default]


def fields_of(run: Run) -> list[Field]:
    """Return the fields of a run, first those that differ from the algorithm's defaults."""
    configs = [log.config for log in run.logs]
    defaults = [defaults_of(config.get("algo")) for config in configs]
    hidden = SAME_SETTING - {"seed"}
    fields = []
    for name in dict.fromkeys(name for config in configs for name in config if name not in hidden):
        values = dict.fromkeys(text_of(config[name]) for config in configs if name in config)
        known = dict.fromkeys(text_of(one[name]) for one in defaults if name in one)
        fields.append(Field(name, [*values], " or ".join(known) if known else None))
    return sorted(fields, key=lambda field: not field.differs)


def defaults_of(algo: Any) -> dict[str, Any]:
    """Return the default of every field of an algorithm; empty for an unknown one."""
    try:
        cls = config_class(algo) if isinstance(algo, str) else None
    except ConfigError:
        return {}
    return to_dict(cls()) if cls else {}


def text_of(value: Any) -> str:
    """Return a value of a configuration as text."""
    return shorten(value if isinstance(value, str) else json.dumps(value, sort_keys=True), MAX_TEXT)


def facts_of(run: Run) -> dict[str, str]:
    """Return facts about a run by their names, in words."""
    logs = run.logs
    seeds = f"{len(logs)} in {len(run.settings)} settings" if len(run.settings) > 1 else f"{len(logs)}"
    facts = {name: _each(log.config.get(field) for log in logs) for name, field in TASK.items()}
    facts |= {"members": seeds} | speed_of(logs)
    facts["checkpoints on disk"] = format_bytes(run.size)
    facts["device"] = _each(log.config.get("device") for log in logs)
    versions = (log.config.get("versions") for log in logs)
    words = [
        ", ".join(f"{k} {text_of(v)}" for k, v in one.items()) for one in versions if isinstance(one, dict)
    ]
    facts["versions"] = _each(words)
    facts["directory"] = str(run.path)
    return {name: text for name, text in facts.items() if text}


def speed_of(logs: Sequence[Log]) -> dict[str, str]:
    """Return steps, run time and steps/s: of the members of a directory together, of directories in turn."""
    together: dict[Path, list[Log]] = {}
    for log in logs:
        together.setdefault(log.path.parent, []).append(log)
    steps = np.array([sum(last_of(log, "step") for log in group) for group in together.values()])
    times = np.array([max(last_of(log, "time") for log in group) for group in together.values()])
    facts = {}
    if np.isfinite(steps).all():
        facts["environment steps, all members"] = f"{steps.sum():,.0f}"
    if np.isfinite(times).all() and times.sum() > 0:
        facts["run time"] = duration(times.sum())
        if np.isfinite(steps).all():
            facts["steps/s, all members"] = f"{steps.sum() / times.sum():,.0f}"
    return facts


def duration(seconds: float) -> str:
    """Return a time in words, such as 2 h 05 min."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"


def changes_of(run: Run) -> list[list[str]]:
    """Return rows of the changes on resume: time, field, before and after."""
    rows = []
    for change in run.changes:
        before, after = (change.get(name) for name in ("before", "after"))
        before, after = (one if isinstance(one, dict) else {} for one in (before, after))
        for name in dict.fromkeys([*before, *after]):
            pair = [text_of(one[name]) if name in one else "" for one in (before, after)]
            rows.append([text_of(change.get("time")), name, *pair])
    return rows


def differences(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Return the fields that all of some runs have and in which they differ, with the text of every run."""
    known: list[Mapping[str, str]] = [{f.name: ", ".join(f.values) for f in fields_of(run)} for run in runs]
    names = sorted(known[0], key=lambda name: name not in TASK.values())
    texts = {name: [fields.get(name) for fields in known] for name in names}
    return {name: [str(t) for t in row] for name, row in texts.items() if None not in row and len({*row}) > 1}


def _each(values: Any) -> str:
    """Return every value once, in words."""
    return "; ".join(dict.fromkeys(text_of(value) for value in values if value is not None))
