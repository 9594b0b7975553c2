"""SAC and TD3 on HalfCheetah beside SBX, the fastest other JAX implementation, in one run.

Both learn with 1 environment, 1 gradient step a step, batch 256 and two layers of 256 units. They take
turns, so that a change in the machine's load meets both; what counts is the median of the ratios.

    python benchmarks/off_policy_speed.py --algo td3 --sbx-python PYTHON_WITH_SBX --out FILE.json

Without `--sbx-python` only the rates of one and of eight seeds are measured. throughput.py says where the
time goes; this compares 1 seed, 8 seeds and SBX turn by turn.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable

import machine
from peers import Peer
from throughput import Bench, config_of, rounded, significant

from purerl.devices import divide_the_cpu


def ours(case: str, seeds: int, devices: int = 1) -> Callable[[int], float]:
    """A function from a number of steps per seed to environment steps per second, summed over seeds."""
    bench = Bench(config_of(case), seeds, devices)

    def measure(steps: int) -> float:
        calls = max(1, round(steps / bench.iterations))
        began = time.perf_counter()
        for _ in range(calls):
            bench.whole()
        return calls * bench.call_steps / (time.perf_counter() - began)

    return measure


def main() -> None:
    """Measure in turns, print the rates and write them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--algo", choices=("sac", "td3"), default="sac")
    parser.add_argument("--sbx-python")
    parser.add_argument("--steps", type=int, default=1_000, help="environment steps per turn")
    parser.add_argument("--devices", type=int, default=1, help="over which the eight seeds are spread")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--out", type=machine.out_file)
    arguments = parser.parse_args()
    divide_the_cpu(arguments.devices)
    case = f"{arguments.algo}-half_cheetah"
    runners = {"purerl, 1 seed": (ours(case, 1), 1), "purerl, 8 seeds": (ours(case, 8, arguments.devices), 8)}
    peer = Peer("sbx", arguments.sbx_python, config_of(case)) if arguments.sbx_python else None
    if peer:
        runners["sbx"] = (peer.measure, 1)
    rates: dict[str, list[float]] = {name: [] for name in runners}
    loads = []
    for turn in range(arguments.turns):
        for name, (measure, seeds) in runners.items():
            rates[name].append(measure(arguments.steps // seeds))
        loads.append(rounded(os.getloadavg()))
        print(
            f"turn {turn}: " + ", ".join(f"{name} {rate[-1]:.0f}" for name, rate in rates.items()), flush=True
        )
    if peer:
        peer.close()

    def ratio(a: str, b: str) -> float:
        return round(statistics.median(x / y for x, y in zip(rates[a], rates[b], strict=True)), 3)

    result = {
        "command": f"python benchmarks/off_policy_speed.py --algo {arguments.algo} --steps {arguments.steps}"
        + f" --devices {arguments.devices}" * (arguments.devices > 1)
        + f" --turns {arguments.turns}"
        + " --sbx-python PYTHON_WITH_SBX" * bool(peer),
        "date": time.strftime("%Y-%m-%d"),
        "steps_per_second": {name: significant(statistics.median(rate)) for name, rate in rates.items()},
        "all_turns": {name: [significant(rate) for rate in row] for name, row in rates.items()},
        "8 seeds over 1 seed": ratio("purerl, 8 seeds", "purerl, 1 seed"),
        "1 seed over sbx": ratio("purerl, 1 seed", "sbx") if peer else None,
        "load_averages": loads,
        "machine": machine.describe(),
        "sbx": peer.versions if peer else None,
    }
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
