"""Costs of the shell around training: a sweep beside single runs, and logs and the view beside none.

    python benchmarks/workbench_cost.py sweep --out benchmarks/results/sweep.json
    python benchmarks/workbench_cost.py logs --turns 5 --out benchmarks/results/logs_cost.json

`sweep` times whole processes, compilation included: `purerl sweep` with 24 members, and 24 `purerl train` one
after the other, which share a compilation cache that is empty at first. `logs` trains PPO on cartpole in
turns with everything on (the view of a terminal of 80 columns, logs, checkpoints and TensorBoard) and
with everything off, and compares the seconds of training.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

import machine

ROOT = Path(__file__).parents[1]
FIELDS = "--algo ppo --env cartpole --total-timesteps 100000 --eval-interval 0 --quiet"
RATES, DISCOUNTS, SEEDS = ("1e-4", "3e-4", "1e-3"), ("0.98", "0.99"), 4
JOB = """
import json, sys
import purerl
cfg = purerl.make_config("ppo", env="cartpole", total_timesteps=1_000_000, eval_interval=0)
on = sys.argv[1] == "on"
options = dict(logdir=sys.argv[2], sinks=["tensorboard"], progress=True) if on else dict(progress=False)
run = purerl.run(cfg, 1, **options)
print(json.dumps(run.run_seconds))
"""


def timed(words: list[str], folder: Path) -> float:
    """Return the seconds that a command takes in a process of its own."""
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "purerl", *words], cwd=folder, env=env, check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - began


def sweep() -> dict[str, Any]:
    """Return the seconds of one program and of 24."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        values = ["--learning-rate", *RATES, "--gamma", *DISCOUNTS, "--seeds", str(SEEDS)]
        cache = ["--compilation-cache", str(folder / "one")]
        together = timed(["sweep", *FIELDS.split(), *values, *cache, "--logdir", "sweep"], folder)
        cache = ["--compilation-cache", str(folder / "many")]
        apart = []
        for i, (rate, discount, seed) in enumerate(product(RATES, DISCOUNTS, range(SEEDS))):
            fields = ["--learning-rate", rate, "--gamma", discount, "--first-seed", str(seed)]
            apart.append(timed(["train", *FIELDS.split(), *fields, *cache, "--logdir", f"run{i}"], folder))
    ratio = sum(apart) / together
    print(
        f"one program {together:.1f} s, 24 runs {sum(apart):.1f} s (first {apart[0]:.1f}, then "
        f"{statistics.median(apart[1:]):.1f} each): {ratio:.1f} times"
    )
    rounded = [round(seconds, 2) for seconds in apart]
    return {"sweep_seconds": round(together, 2), "runs_seconds": rounded, "ratio": round(ratio, 2)}


def trained(on: bool, folder: Path) -> float:
    """Return the seconds of one training, in a process of its own that takes its output for a terminal."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "80", "FORCE_COLOR": "1"}
    words = [sys.executable, "-c", JOB, "on" if on else "off", str(folder / "run")]
    quiet = subprocess.DEVNULL
    done = subprocess.run(words, env=env, stdout=subprocess.PIPE, stderr=quiet, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def logs(turns: int) -> dict[str, Any]:
    """Return the seconds with everything on and off, in turns."""
    found: dict[str, list[float]] = {"on": [], "off": []}
    for turn in range(turns):
        for name in ("on", "off") if turn % 2 else ("off", "on"):
            with tempfile.TemporaryDirectory() as folder:
                found[name].append(round(trained(name == "on", Path(folder)), 3))
        print(
            f"turn {turn}: {found['on'][-1]:.2f} s with everything, {found['off'][-1]:.2f} s without",
            flush=True,
        )
    ratios = [on / off for on, off in zip(found["on"], found["off"], strict=True)]
    cost = statistics.median(ratios) - 1
    print(f"median cost {100 * cost:.1f} %")
    return {"seconds": found, "median_cost": round(cost, 4)}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("sweep", "logs"))
    parser.add_argument("--turns", type=int, default=5, help="of logs")
    parser.add_argument("--out", type=machine.out_file, help="a JSON file; the terminal without it")
    arguments = parser.parse_args()
    facts = {
        "command": " ".join(["python", "benchmarks/workbench_cost.py", *sys.argv[1:]]),
        "machine": machine.describe(),
    }
    result = facts | (sweep() if arguments.what == "sweep" else logs(arguments.turns))
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
