"""Compare the training speed of two revisions, call by call.

    python benchmarks/same_speed.py --against REV [--out FILE]

A process for this checkout and one for a clone of REV train the same case; they take turns, a call of one
compiled program each, the order changing, so that the machine's load meets both. A row says how fast this
checkout is over REV: by the median of the pairs' ratios, and by the fastest call of each. The exit code is 1
where the median is below 0.97.

    python benchmarks/same_speed.py --against HEAD~3 --cases sac-half_cheetah --seeds 1 --pairs 100
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import machine
import revisions

CASES = ("sac-half_cheetah", "ppo-half_cheetah", "ppo-cartpole")
TOTAL_TIMESTEPS = 100_000
ITERATIONS = {"warm-up": 48, "none": 2}
"""Of a call, over all seeds: a few tenths of a second, by whether the algorithm has a warm-up."""
LEAST = 0.97


def serve(case: str, seeds: int) -> None:
    """Make the program, and say `ready`; then run it for every line of input, and say the seconds."""
    import jax

    import purerl

    algo, _, env = case.partition("-")
    cfg: Any = purerl.make_config(algo, env=env, total_timesteps=TOTAL_TIMESTEPS)
    iterations = ITERATIONS["warm-up" if hasattr(cfg, "learning_starts") else "none"]
    state, advance = revisions.training(cfg, seeds, max(1, iterations // seeds))
    for _ in range(3):
        state = jax.block_until_ready(advance(state))
    print("ready", flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        state = jax.block_until_ready(advance(state))
        print(time.perf_counter() - began, flush=True)


def compare(case: str, seeds: int, pairs: int, checkouts: dict[str, Path]) -> dict[str, Any]:
    """Return the two ratios, and the seconds of all calls."""
    servers = {
        name: revisions.start(__file__, path, "--serve", case, str(seeds)) for name, path in checkouts.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in servers}
    try:
        for server in servers.values():
            _answer(server)
        for order in itertools.islice(itertools.cycle([(*servers,), (*reversed(servers),)]), pairs):
            for name in order:
                print(file=servers[name].stdin, flush=True)
                seconds[name].append(float(_answer(servers[name])))
    finally:
        for server in servers.values():
            server.kill()
            server.communicate()
    here, there = seconds.values()
    return {
        "case": case,
        "seeds": seeds,
        "median ratio": round(statistics.median(b / a for a, b in zip(here, there, strict=True)), 3),
        "ratio of fastest": round(min(there) / min(here), 3),
        "seconds": {name: [float(f"{value:.4g}") for value in row] for name, row in seconds.items()},
    }


def _answer(server: Any) -> str:
    """Return the next line of a server. Raises RuntimeError with its last words if it has ended."""
    if line := server.stdout.readline():
        return line
    raise RuntimeError(server.stderr.read())


def main() -> None:
    """Compare, or do the part of one process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", metavar="REV", help="the revision to compare with")
    parser.add_argument("--cases", nargs="+", metavar="ALGO-ENV", default=CASES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--pairs", type=int, default=40, help="calls of each process")
    parser.add_argument("--out", type=machine.out_file)
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve[0], int(arguments.serve[1]))
        return
    if arguments.against is None:
        parser.error("--against REV is missing")
    rows = []
    with tempfile.TemporaryDirectory() as place:
        there = revisions.clone(arguments.against, Path(place) / "there")
        for case, seeds in itertools.product(arguments.cases, arguments.seeds):
            row = compare(case, seeds, arguments.pairs, {"here": revisions.ROOT, "there": there})
            shown = (f"{name} {value}" for name, value in row.items() if name != "seconds")
            print(", ".join(shown), flush=True)
            rows.append(row)
    if arguments.out:
        command = f"python benchmarks/same_speed.py --against {arguments.against} --pairs {arguments.pairs}"
        facts = {"command": command, "date": time.strftime("%Y-%m-%d"), "machine": machine.describe()}
        arguments.out.write_text(json.dumps(facts | {"rows": rows}, indent=1) + "\n")
    sys.exit(any(row["median ratio"] < LEAST for row in rows))


if __name__ == "__main__":
    main()
