"""Time that the main job takes to its first step: with an empty compilation cache, and started again.

    python benchmarks/start.py --turns 3 --out benchmarks/results/start.json

Each turn starts the command of README.md twice in a process of its own, with a new cache for the turn,
and ends it as soon as it takes its first step. What counts is the median of the ratios.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import machine

SCRIPT = Path(__file__).parents[1] / "scripts" / "train.py"
JOB = "--algo sac --env ant --seeds 8"


def seconds_to_first_step(job: list[str], cache: Path, logdir: Path) -> float:
    """Seconds from the start of the process to the line that it shows when its first step begins."""
    command = [sys.executable, str(SCRIPT), *job, "--compilation-cache", str(cache), "--logdir", str(logdir)]
    began = time.perf_counter()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        shown = []
        for line in process.stderr:
            shown.append(line)
            if line.startswith("0 of "):
                elapsed = time.perf_counter() - began
                process.kill()
                return elapsed
    raise RuntimeError("the job ended before its first step:\n" + "".join(shown))


def main() -> None:
    """Measure in turns, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--job", default=JOB, help="options of scripts/train.py")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--out", type=machine.out_file)
    arguments = parser.parse_args()
    turns = []
    for turn in range(arguments.turns):
        with tempfile.TemporaryDirectory() as folder:
            job, place = arguments.job.split(), Path(folder)
            first, second = (
                seconds_to_first_step(job, place / "cache", place / name) for name in ("first", "second")
            )
        load = machine.describe()["load_average"]
        turns.append({"first": round(first, 2), "second": round(second, 2), "load_average": load})
        print(
            f"turn {turn}: first {first:.1f} s, second {second:.1f} s, ratio {second / first:.2f}", flush=True
        )
    result = {
        "command": f'python benchmarks/start.py --turns {arguments.turns} --job "{arguments.job}"',
        "date": time.strftime("%Y-%m-%d"),
        "second over first": round(statistics.median(t["second"] / t["first"] for t in turns), 3),
        "turns": turns,
        "machine": machine.describe(),
    }
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
