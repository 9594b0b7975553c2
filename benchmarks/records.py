"""Records of learning runs: JSON files with the protocol, the evaluations of every seed, and the machine."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import successes
from protocols import Protocol

import purerl
from purerl.config import to_dict

RESULTS = Path(__file__).parent / "results" / "learning"


def make_record(
    name: str, protocol: Protocol, cfg: purerl.Config, run: Any, before: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the record of a finished run.

    Args:
        name: of the protocol.
        protocol: fixed before the run.
        cfg: its configuration.
        run: from `purerl.run`.
        before: the machine, from `machine.describe`, and more keys to record.
    """
    evaluated = np.isfinite(run.metrics["eval/return"]).any(0)
    steps = run.steps[evaluated]
    returns = {
        kind: run.metrics[f"{kind}/return"][:, evaluated]
        for kind in ("eval", "eval_stochastic")
        if f"{kind}/return" in run.metrics
    }
    reached = [steps[row >= protocol.bar] if protocol.bar is not None else row[:0] for row in returns["eval"]]
    rates = _success_rates(protocol, cfg, run) if protocol.success is not None else []
    finals = returns["eval"][:, -protocol.last :].mean(axis=1) if protocol.last else np.array([])
    values = {kind: values_at(protocol, cfg, steps, rows) for kind, rows in returns.items()}
    if protocol.last:
        judged = finals if protocol.bar_at is None else values["eval"][protocol.bar_at]
        good = [bool(judged.mean() >= (protocol.bar or 0.0))]
    elif protocol.success is not None:
        good = [row.size > 0 and rate >= protocol.success for row, rate in zip(reached, rates, strict=True)]
    else:
        good = [row.size > 0 for row in reached]
    record = {
        "command": f"python benchmarks/learning.py {name}",
        "date": time.strftime("%Y-%m-%d"),
        "protocol": protocol._asdict(),
        "steps": steps.tolist(),
        "eval_return": plain(returns["eval"], 2),
        "last_episode_return": plain(run.metrics["episode/return"][:, -1], 2),
        "first_step_at_bar": [int(row[0]) if row.size else None for row in reached],
        "success": plain(rates, 3),
        "final_returns": plain(finals, 1),
        "passed": all(good) if protocol.bar is not None else None,
        "config": to_dict(cfg),
        "compile_seconds": round(run.compile_seconds, 1),
        "run_seconds": round(run.run_seconds, 1),
        "steps_per_second": round(protocol.seeds * int(run.steps[-1]) / run.run_seconds, 1),
        "diverged_at": run.diverged_at.tolist(),
        **before,
    }
    if "eval_stochastic" in returns:
        record["eval_stochastic_return"] = plain(returns["eval_stochastic"], 2)
    if protocol.read_at:
        record["values"] = {
            kind: {str(step): plain(of_seeds, 2) for step, of_seeds in by_step.items()}
            for kind, by_step in values.items()
        }
    return record


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
    return [successes.of_seed(cfg, env, run.state, i, keys[i], 500) for i in range(protocol.seeds)]


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
