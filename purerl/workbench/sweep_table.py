"""Results of a sweep: final returns by setting, the sensitivity to each field, and what to do next."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from purerl.config import Config, replace, to_dict
from purerl.experiment.logs import final_return
from purerl.experiment.sweep import Sweep
from purerl.workbench import stats
from purerl.workbench.table import aligned

SHOWN_SETTINGS = 20


class Result(NamedTuple):
    """Final returns of one setting."""

    setting: dict[str, Any]
    """Values of the fields in which the settings of the sweep differ."""
    cfg: Config
    returns: np.ndarray
    """`[seeds]`; NaN for a member without any, or one that has diverged."""

    @property
    def mean(self) -> float:
        """Mean over seeds; -inf if a seed has no return, so that such a setting is last."""
        return float(self.returns.mean()) if np.isfinite(self.returns).all() else -math.inf


def results_of(path: Path, sweep: Sweep) -> list[Result]:
    """Return the results of the parts of `sweep` that are done, best first, from their logs in `path`.

    Raises OSError or DamagedFile if a log cannot be read.
    """
    varied = _varied([part.cfg for part in sweep.parts])
    found: dict[str, Result] = {}
    for part in sweep.parts:
        if part.name not in sweep.done:
            continue
        names = iter(part.members.names)
        for setting in part.members.settings:
            cfg = replace(part.cfg, setting)
            values = {name: to_dict(cfg).get(name) for name in varied} | setting
            logs = [path / part.name / next(names) / "metrics.jsonl" for _ in part.members.indices]
            returns = np.array([final_return(log) for log in logs])
            key = json.dumps(values, sort_keys=True)
            if key in found:  # seeds of one setting may be in several runs
                returns = np.concatenate([found[key].returns, returns])
            found[key] = Result(values, cfg, returns)
    return sorted(found.values(), key=lambda result: -result.mean)


def describe(results: Sequence[Result], first_seed: int, evolved: bool = False) -> str:
    """Return the table of settings, the sensitivity to each field, and the command that repeats the best.

    `results` are best first; `first_seed` is the index of the first seed that is not among them. Where the
    settings have `evolved`, the table alone is of use.
    """
    names = list(results[0].setting)
    head = [*names, "return", "95% interval", "seeds"]
    rows = [[_word(r.setting[name]) for name in names] + _numbers(r) for r in results[:SHOWN_SETTINGS]]
    lines = ["Final return by setting, best first:", *aligned([head, *rows])]
    if len(results) > SHOWN_SETTINGS:
        lines.append(f"... and {len(results) - SHOWN_SETTINGS:,} more")
    if evolved:
        lines += ["", "These are the first values. Members went on from each other, and values changed:"]
        return "\n".join([*lines, "hyper/ and pbt/parent in each metrics.jsonl have their course."])
    if len(results) > 1:
        lines += ["", "Mean return by value of each field, over all other values:"]
        lines += aligned([row for name in names for row in _sensitivity(name, results)])
    best = results[0]
    if len(results) > 1 and math.isfinite(best.mean):
        lines += [
            "",
            f"The best of {len(results):,} settings looks better than it is: it was chosen on these seeds.",
            "Train it on others before you report it:",
            f"  {command_of(best.cfg, first_seed, max(5, best.returns.size), best.setting)}",
        ]
    return "\n".join(lines)


def command_of(cfg: Config, first_seed: int, seeds: int, named: Collection[str] = ()) -> str:
    """Return the command that trains `cfg` with fresh seeds: fields `named`, and those off their defaults."""
    words = ["purerl", "train", "--algo", cfg.algo, "--env", cfg.env]
    defaults = {field.name: field.default for field in dataclasses.fields(cfg)}
    for name, value in to_dict(cfg).items():
        if name in ("algo", "env") or (getattr(cfg, name) == defaults[name] and name not in named):
            continue
        text = json.dumps(value) if isinstance(value, dict) else ",".join(map(str, _as_list(value)))
        words += [f"--{name.replace('_', '-')}", shlex.quote(text)]
    return " ".join([*words, "--first-seed", str(first_seed), "--seeds", str(seeds)])


def _varied(cfgs: Sequence[Config]) -> list[str]:
    """Return the fields in which `cfgs` differ."""
    values = [to_dict(cfg) for cfg in cfgs]
    names = dict.fromkeys(name for fields in values for name in fields)
    return [name for name in names if any(fields.get(name) != values[0].get(name) for fields in values)]


def _numbers(result: Result) -> list[str]:
    known = result.returns[np.isfinite(result.returns)]
    lost = result.returns.size - known.size
    seeds = f"{known.size}" + (f", {lost} without a return" if lost else "")
    if not known.size:
        return ["-", "-", seeds]
    interval = "-"
    if known.size > 1:
        low, high = stats.bootstrap_interval(known[:, None], stats.mean)
        interval = f"{low:,.1f} to {high:,.1f}"
    return [f"{known.mean():,.1f}", interval, seeds]


def _sensitivity(name: str, results: Sequence[Result]) -> list[list[str]]:
    """Return the rows `name, value, mean` of a field that has several values."""
    values = list(dict.fromkeys(_word(r.setting[name]) for r in results))
    if len(values) < 2:
        return []
    by_value = {v: [r.returns for r in results if _word(r.setting[name]) == v] for v in values}
    means = {value: np.concatenate(returns) for value, returns in by_value.items()}
    rows = [(value, float(np.nanmean(r))) for value, r in means.items() if np.isfinite(r).any()]
    rows.sort(key=lambda row: -row[1])
    return [[name if i == 0 else "", value, f"{mean:,.1f}"] for i, (value, mean) in enumerate(rows)]


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _word(value: Any) -> str:
    return (
        ",".join(map(str, value))
        if isinstance(value, list)
        else f"{value:g}"
        if type(value) is float
        else str(value)
    )
