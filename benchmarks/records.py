"""Records of learning runs: JSON files with the protocol, the evaluations of every seed, and the machine."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import successes
from protocols import Protocol

import purerl
from purerl.config import to_dict

RESULTS = Path(__file__).parent / "results" / "learning"
KINDS = ("eval", "eval_stochastic")
"""Kinds of evaluation, of which the second one need not be there."""
PER_SEED = (
    "eval_return",
    "eval_stochastic_return",
    "last_episode_return",
    "success",
    "diverged_at",
    "sessions",
)
"""Keys of a record that have an entry for each seed, or some for each."""


def make_record(
    name: str, protocol: Protocol, cfg: purerl.Config, run: Any, before: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the record of a finished run, of all seeds of a protocol or of some.

    Args:
        name: of the protocol.
        protocol: fixed before the run.
        cfg: its configuration.
        run: from `purerl.run`.
        before: the machine, from `machine.describe`, and more keys to record.
    """
    evaluated = np.isfinite(run.metrics["eval/return"]).any(0)
    returns = {
        f"{kind}_return": plain(run.metrics[f"{kind}/return"][:, evaluated], 2)
        for kind in KINDS
        if f"{kind}/return" in run.metrics
    }
    measured = {
        "command": f"python benchmarks/learning.py {name}",
        "date": time.strftime("%Y-%m-%d"),
        "protocol": protocol._asdict(),
        "steps": run.steps[evaluated].tolist(),
        **returns,
        "last_episode_return": plain(run.metrics["episode/return"][:, -1], 2),
        "success": plain(_success_rates(protocol, cfg, run), 3) if protocol.success is not None else [],
        "config": to_dict(cfg),
        "compile_seconds": round(run.compile_seconds, 1),
        "run_seconds": round(run.run_seconds, 1),
        "steps_per_second": round(len(run.diverged_at) * int(run.steps[-1]) / run.run_seconds, 1),
        "diverged_at": run.diverged_at.tolist(),
    }
    return measured | _judged(protocol, cfg, measured) | before


def join(protocol: Protocol, cfg: purerl.Config, parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the record of a protocol from those of its seeds, each trained by itself."""
    of_seeds = [key for key in PER_SEED if key in parts[0]]
    measured = dict(parts[-1]) | {key: [value for part in parts for value in part[key]] for key in of_seeds}
    for key in ("compile_seconds", "run_seconds"):
        measured[key] = round(sum(part[key] for part in parts), 1)
    steps = sum(part["steps_per_second"] * part["run_seconds"] for part in parts)
    measured["steps_per_second"] = round(steps / measured["run_seconds"], 1)
    measured["peak_bytes"] = max(part["peak_bytes"] for part in parts)
    return measured | _judged(protocol, cfg, measured)


def _judged(protocol: Protocol, cfg: purerl.Config, measured: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a protocol asks of the evaluations of all seeds in `measured`."""
    steps = np.array(measured["steps"])
    returns = {
        kind: np.array(measured[f"{kind}_return"], float) for kind in KINDS if f"{kind}_return" in measured
    }
    reached = [steps[row >= protocol.bar] if protocol.bar is not None else row[:0] for row in returns["eval"]]
    finals = returns["eval"][:, -protocol.last :].mean(axis=1) if protocol.last else np.array([])
    values = {kind: values_at(protocol, cfg, steps, rows) for kind, rows in returns.items()}
    if protocol.last:
        at_bar = finals if protocol.bar_at is None else values["eval"][protocol.bar_at]
        good = [bool(at_bar.mean() >= (protocol.bar or 0.0))]
    elif protocol.success is not None:
        rates = measured["success"]
        good = [row.size > 0 and rate >= protocol.success for row, rate in zip(reached, rates, strict=True)]
    else:
        good = [row.size > 0 for row in reached]
    judged = {
        "first_step_at_bar": [int(row[0]) if row.size else None for row in reached],
        "final_returns": plain(finals, 1),
        "passed": all(good) if protocol.bar is not None else None,
    }
    if protocol.read_at:
        judged["values"] = {
            kind: {str(step): plain(of_seeds, 2) for step, of_seeds in by_step.items()}
            for kind, by_step in values.items()
        }
    return judged


def values_at(
    protocol: Protocol, cfg: purerl.Config, steps: np.ndarray, returns: np.ndarray
) -> dict[int, np.ndarray]:
    """Return each seed's mean of the `last` evaluations up to each step in `read_at`.

    An evaluation belongs to the multiple of `eval_interval` that the row before it passed.

    Args:
        protocol: says how many evaluations, and at which steps.
        cfg: says how often they come.
        steps: `[E]`, of the evaluations.
        returns: `[S, E]`.
    """
    due = steps // cfg.eval_interval * cfg.eval_interval
    return {at: returns[:, due <= at][:, -protocol.last :].mean(axis=1) for at in protocol.read_at}


def plain(values: Any, digits: int) -> Any:
    """Return numbers as rounded JSON values, None for those that are not finite."""
    if isinstance(values, np.ndarray | list | tuple):
        return [plain(value, digits) for value in values]
    return round(float(values), digits) if np.isfinite(values) else None


def _success_rates(protocol: Protocol, cfg: purerl.Config, run: Any) -> list[float]:
    env = purerl.make_env(protocol.env)
    keys = jax.random.split(jax.random.key(1_000), protocol.seeds)
    indices = [member["seed_index"] for member in run.members]
    return [successes.of_seed(cfg, env, run.state, i, keys[of], 500) for i, of in enumerate(indices)]


def revision() -> dict[str, Any]:
    """Return the git revision of this checkout, and True under `modified` if its files differ from it."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":!results")
        return {"commit": git("rev-parse", "HEAD"), "modified": bool(changed)}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "modified": None}


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file that is whole or not there, whenever the process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(json.dumps(value, indent=1, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def table(protocols: Mapping[str, Protocol], results: Path = RESULTS) -> str:
    """Return the last evaluations of the on-policy family as a table in Markdown."""
    lines = [
        "| algorithm | task | mean | deviation over seeds | each seed | published |",
        "|---|---|---|---|---|---|",
    ]
    for name, protocol in protocols.items():
        path = results / f"{name}.json"
        if not protocol.last or not path.exists():
            continue
        finals = np.array(json.loads(path.read_text())["final_returns"], float)
        show = f"{{:,.{int(np.nanmax(np.abs(finals)) < 100)}f}}".format
        each = ", ".join(map(show, np.sort(finals)))
        bar = "-" if protocol.bar is None else show(protocol.bar)
        cells = (protocol.algo, protocol.env, show(finals.mean()), show(finals.std()), each, bar)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
