"""Learning runs whose protocol is fixed here, before they run; every seed is reported.

    python benchmarks/learning.py sac-half_cheetah-100k

writes `benchmarks/results/learning/NAME.json`: the protocol, each seed's evaluations, and whether
each seed passed the bar at some evaluation.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import machine
import numpy as np

import purerl


class Protocol(NamedTuple):
    """One learning run and what it must reach."""

    algo: str
    env: str
    seeds: int
    fields: dict[str, Any]
    bar: float
    """Each seed's mean evaluation return must reach this at some evaluation."""


PROTOCOLS = {
    # Classic settings: 1 environment, 1 update a step, the defaults of SACConfig.
    "sac-half_cheetah-100k": Protocol("sac", "half_cheetah", 2, {"total_timesteps": 100_000}, 3_000),
    # One of those two seeds stayed at 1,200; a third, from another root, before anything is changed.
    "sac-half_cheetah-100k-another": Protocol(
        "sac", "half_cheetah", 1, {"total_timesteps": 100_000, "seed": 1}, 3_000
    ),
    "sac-pendulum-20k": Protocol(
        "sac", "pendulum", 3, {"total_timesteps": 20_000, "eval_interval": 2_000, "eval_episodes": 20}, -200
    ),
    "ppo-cartpole-150k": Protocol(
        "ppo", "cartpole", 5, {"total_timesteps": 150_000, "eval_interval": 10_000, "eval_episodes": 20}, 475
    ),
}


def main() -> None:
    """Run the protocol named on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=PROTOCOLS)
    parser.add_argument("--logdir", help="keep the run's logs here")
    arguments = parser.parse_args()
    protocol = PROTOCOLS[arguments.name]
    cfg = purerl.make_config(protocol.algo, env=protocol.env, **protocol.fields)
    began = machine.describe()
    run = purerl.run(cfg, protocol.seeds, arguments.logdir)
    returns, episodes = run.metrics["eval/return"], run.metrics["episode/return"]
    evaluated = np.isfinite(returns[0])
    passed = [run.steps[evaluated][row >= protocol.bar] for row in returns[:, evaluated]]
    result = {
        "command": f"python benchmarks/learning.py {arguments.name}",
        "date": time.strftime("%Y-%m-%d"),
        "protocol": protocol._asdict(),
        "steps": run.steps[evaluated].tolist(),
        "eval_return": returns[:, evaluated].round(2).tolist(),
        "last_episode_return": episodes[:, -1].round(2).tolist(),
        "first_step_at_bar": [int(row[0]) if row.size else None for row in passed],
        "every_seed_passed": all(row.size for row in passed),
        "compile_seconds": round(run.compile_seconds, 1),
        "run_seconds": round(run.run_seconds, 1),
        "steps_per_second": round(protocol.seeds * int(run.steps[-1]) / run.run_seconds, 1),
        "machine": began,
    }
    path = Path(__file__).parent / "results" / "learning" / f"{arguments.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
