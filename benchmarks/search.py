"""Population-based training beside random search, at equal steps; protocols fixed before the runs.

    python benchmarks/search.py ppo-cartpole
    python benchmarks/search.py sac-pendulum
    python benchmarks/search.py --table
    python benchmarks/search.py --figure docs/pictures/search.svg

The first two write `benchmarks/results/search/NAME.json` after every repeat, and go on with those that it
lacks. Every repeat is reported, whichever side wins, and nothing is tuned in between.

A repeat is a random search and a run with PBT. Both have 16 members of one seed, which start from the same
16 random settings, weights and random numbers, and train for the same number of steps: they differ from the
first round on. Repeats differ in the settings and in all that is random.

Curves are evaluations of the deterministic policies, by which PBT ranks: the best of the 16 members, and
their mean. The member that is best at the last evaluation (the first of equal ones) is chosen, and plays 100
fresh episodes, as all others do. The bias of the best of 16 is its last evaluation minus its return in
these. A member that has diverged keeps the return of its last evaluation: it is frozen there.

Three measures are compared, paired by repeats, with a 95% bootstrap interval of the mean difference: the
return of the chosen member in fresh episodes (the main one), the mean of all 16 in these, and the best of 16
averaged over all evaluations, which says how soon. A side is better by a measure if its interval excludes 0;
otherwise none is.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import machine
import numpy as np
import records

import purerl
from purerl import PBT, Range
from purerl.cli.compilation_cache import use_compilation_cache
from purerl.config import to_dict
from purerl.experiment.search import Search, propose
from purerl.pbt import to_plain as pbt_to_plain
from purerl.search_space import to_plain
from purerl.workbench import stats
from purerl.workbench.curves import Curve, summarise

RESULTS = Path(__file__).parent / "results" / "search"
MEMBERS = 16
FRESH = 100
"""Episodes, other than those of the evaluations, of every member's last policy."""
ARMS = ("random", "pbt")
LABELS = {"random": "random search", "pbt": "PBT"}
MEASURES = {
    "chosen": "best member, fresh episodes",
    "mean": "mean of 16, fresh episodes",
    "soon": "best of 16 over all evaluations",
    "bias": "bias of the best of 16",
}
AFTERWARDS = {"lead": "the same, of its lead over the mean"}
"""Added once the runs were seen: all members meet the same starts, which are hard or easy for all."""


class Protocol(NamedTuple):
    """One comparison."""

    algo: str
    env: str
    fields: dict[str, Any]
    """Fields of the config; the others are the algorithm's defaults."""
    space: dict[str, Range]
    interval: int
    """Steps of each member between two rounds of PBT, whose other settings are the defaults."""
    repeats: int
    root: int
    """Repeat i has this plus i as the seed of its runs and settings, and 1,000 more for fresh episodes."""


PROTOCOLS = {
    "ppo-cartpole": Protocol(
        "ppo",
        "cartpole",
        {"total_timesteps": 100_000, "log_interval": 10_000, "eval_interval": 10_000, "eval_episodes": 20},
        {
            "learning_rate": Range(1e-5, 1e-2, True),
            "ent_coef": Range(1e-4, 1e-1, True),
            "gamma": Range(0.9, 0.999),
            "gae_lambda": Range(0.8, 1.0),
            "clip_eps": Range(0.05, 0.5),
        },
        10_000,
        10,
        31_000,
    ),
    # Small networks, so that a repeat takes minutes; a temperature that is searched is not learned.
    "sac-pendulum": Protocol(
        "sac",
        "pendulum",
        {"total_timesteps": 10_000, "log_interval": 1_000, "eval_interval": 1_000, "eval_episodes": 20}
        | {"hidden_sizes": (64, 64), "ent_coef": 0.1},
        {
            "learning_rate": Range(3e-5, 3e-2, True),
            "ent_coef": Range(1e-3, 1.0, True),
            "tau": Range(1e-3, 1e-1, True),
            "gamma": Range(0.9, 0.999),
        },
        1_000,
        5,
        33_000,
    ),
}
"""Nothing was trained with these ranges before, and no other run has these roots."""


def config_of(protocol: Protocol, repeat: int) -> purerl.Config:
    """Return the configuration of both runs of a repeat."""
    return purerl.make_config(protocol.algo, env=protocol.env, seed=protocol.root + repeat, **protocol.fields)


def settings_of(protocol: Protocol, repeat: int) -> dict[str, list[float]]:
    """Return the first settings of a repeat, those of `purerl sweep --trials 16 --search-seed SEED`."""
    search = Search(protocol.space, MEMBERS, MEMBERS, seed=protocol.root + repeat)
    found = propose(search, MEMBERS, [])
    return {name: [setting[name] for setting in found] for name in protocol.space}


def train(protocol: Protocol, repeat: int, arm: str) -> dict[str, Any]:
    """Return what one run of a repeat did, `arm` being that of a random search or of PBT."""
    cfg, first = config_of(protocol, repeat), settings_of(protocol, repeat)
    rounds = PBT(protocol.space, protocol.interval) if arm == "pbt" else None
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "run"
        run = purerl.run(cfg, 1, path, sweep=first, combine="zip", pbt=rounds, progress=False)
        fresh = purerl.evaluate_run(path, FRESH, seed=protocol.root + 1_000 + repeat).returns.mean(axis=1)
    returns = forward_filled(run.metrics["eval/return"])
    evaluated = np.isfinite(run.metrics["eval/return"]).any(axis=0)
    found = {
        "steps": run.steps[evaluated].tolist(),
        "eval_return": records.plain(returns[:, evaluated], 2),
        "fresh_return": records.plain(fresh, 2),
        "steps_in_all": MEMBERS * int(run.steps[-1]),
        "diverged_at": run.diverged_at.tolist(),
        "seconds": round(run.run_seconds, 1),
    }
    if rounds:
        parents = run.metrics["pbt/parent"][:, evaluated]
        last = {name: run.metrics[f"hyper/{name}"][:, -1] for name in protocol.space}
        found["parent"] = [[None if np.isnan(one) else int(one) for one in row] for row in parents]
        found["last_settings"] = {name: [float(f"{v:.4g}") for v in of] for name, of in last.items()}
    return found


def forward_filled(returns: np.ndarray) -> np.ndarray:
    """Return `returns [S, rows]` with the last known value of a member where it has none."""
    known = np.isfinite(returns)
    last = np.maximum.accumulate(np.where(known, np.arange(returns.shape[1]), 0), axis=1)
    return np.take_along_axis(returns, last, axis=1)


def measure(arm: Mapping[str, Any]) -> dict[str, float]:
    """Return the measures of one run of a repeat."""
    returns = np.array([[np.nan if r is None else r for r in row] for row in arm["eval_return"]])
    fresh = np.array(arm["fresh_return"])
    best = int(np.nanargmax(returns[:, -1]))
    return {
        "chosen": fresh[best],
        "mean": fresh.mean(),
        "soon": np.nanmax(returns, axis=0).mean(),
        "bias": returns[best, -1] - fresh[best],
        "lead": returns[best, -1] - np.nanmean(returns[:, -1]) - (fresh[best] - fresh.mean()),
    }


def compare(record: Mapping[str, Any], measures: Iterable[str] = MEASURES) -> dict[str, dict[str, Any]]:
    """Return for each of `measures` the mean over repeats of both sides, and the paired difference."""
    found = {}
    for name in measures:
        sides = {arm: np.array([measure(one[arm])[name] for one in record["repeats"]]) for arm in ARMS}
        difference = sides["pbt"] - sides["random"]
        low, high = stats.bootstrap_interval(difference[:, None], stats.mean)
        counts = [int(np.sum(np.sign(difference) == sign)) for sign in (1, 0, -1)]
        found[name] = {
            **{arm: round(float(values.mean()), 2) for arm, values in sides.items()},
            "difference": round(float(difference.mean()), 2),
            "interval": [round(float(low), 2), round(float(high), 2)],
            "pbt_higher_equal_lower": counts,
        }
    return found


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the comparisons, by the name of their protocol, as a table in Markdown."""
    lines = [
        "| task | measure | random search | PBT | difference, 95% interval | PBT higher, equal, lower |",
        "|---|---|---|---|---|---|",
    ]
    names = MEASURES | AFTERWARDS
    for name, record in found.items():
        for key, one in compare(record, names).items():
            values = [one[part] for part in ("random", "pbt", "difference")] + one["interval"]
            random, pbt, difference, low, high = (round(value, 1) + 0.0 for value in values)  # without -0
            change = f"{difference:+,.1f} ({low:+,.1f} to {high:+,.1f})"
            counts = ", ".join(map(str, one["pbt_higher_equal_lower"]))
            cells = (name, names[key], f"{random:,.1f}", f"{pbt:,.1f}", change, counts)
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def lines_of(record: Mapping[str, Any]) -> list[Any]:
    """Return the lines of the figure: the best of 16 and the mean of 16 of both sides, over repeats."""
    found = []
    for over, function in (("best", np.nanmax), ("mean", np.nanmean)):
        for arm in ARMS:
            runs = [one[arm] for one in record["repeats"]]
            curves = np.array([function(np.array(run["eval_return"], float), axis=0) for run in runs])
            steps = np.array(runs[0]["steps"], float)
            label = f"{LABELS[arm]}, {over} of {MEMBERS}"
            found.append(summarise(Curve(label, "", steps, curves, steps[-1])))
    return found


def figure(found: Mapping[str, Mapping[str, Any]]) -> Any:
    """Return the curves of all comparisons, a panel each."""
    from purerl.workbench.plot import curves_figure

    panels = {f"{name}: return of evaluations": lines_of(record) for name, record in found.items()}
    return curves_figure(panels, "environment steps of a member", "Mean over repeats, 95% intervals")


def read(results: Path = RESULTS) -> dict[str, Any]:
    """Return the records that are there, by name."""
    paths = {name: results / f"{name}.json" for name in PROTOCOLS}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}


def repeat_of(protocol: Protocol, repeat: int) -> dict[str, Any]:
    """Train both sides of a repeat, each first in every second one, and return what they did."""
    facts = {"revision": records.revision(), "machine": machine.describe()}
    arms = {arm: train(protocol, repeat, arm) for arm in (ARMS if repeat % 2 else ARMS[::-1])}
    first = [[row[0] for row in arms[arm]["eval_return"]] for arm in ARMS]
    facts |= {"date": time.strftime("%Y-%m-%d"), "equal_before_the_first_round": first[0] == first[1]}
    return {"first_settings": settings_of(protocol, repeat), **arms, **facts}


def run(name: str, protocol: Protocol, results: Path = RESULTS) -> dict[str, Any]:
    """Train the repeats of a protocol that its record lacks, and return the record."""
    path = results / f"{name}.json"
    repeats = json.loads(path.read_text())["repeats"] if path.exists() else []
    for repeat in range(len(repeats), protocol.repeats):
        repeats.append(repeat_of(protocol, repeat))
        record = {
            "command": f"python benchmarks/search.py {name}",
            "protocol": protocol._asdict() | {"space": to_plain(protocol.space)},
            "config": to_dict(config_of(protocol, 0)),
            "pbt": pbt_to_plain(PBT(protocol.space, protocol.interval)),
            "repeats": repeats,
        }
        records.write_json(path, record | {"comparison": compare(record)})
        done = {arm: records.plain([*measure(repeats[-1][arm]).values()], 1) for arm in ARMS}
        print(f"{name}, repeat {repeat}: {', '.join(MEASURES)}: {done}", flush=True)
    return json.loads(path.read_text())


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", choices=[*PROTOCOLS, []], metavar="NAME", help="protocol to run")
    parser.add_argument("--table", action="store_true", help="print what was recorded, and run nothing")
    parser.add_argument("--figure", type=machine.out_file, help="draw what was recorded into this file")
    arguments = parser.parse_args()
    if bool(arguments.names) + arguments.table + bool(arguments.figure) != 1:
        parser.error("one of NAME, --table and --figure")
    if arguments.table:
        print(table(read()))
    if arguments.figure:
        from purerl.workbench.plot import outputs, save

        save(figure(read()), outputs(arguments.figure))
    with tempfile.TemporaryDirectory() as cache:
        use_compilation_cache(cache)
        for name in arguments.names:
            run(name, PROTOCOLS[name])
    return 0


if __name__ == "__main__":
    sys.exit(main())
