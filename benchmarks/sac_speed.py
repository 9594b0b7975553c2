"""SAC on HalfCheetah beside SBX, the fastest other JAX implementation, in one run.

Both learn with 1 environment, 1 gradient step a step, batch 256 and two layers of 256 units. They take
turns, so that a change in the machine's load meets both; what counts is the median of the ratios.

    python benchmarks/sac_speed.py --sbx-python PYTHON_WITH_SBX --out benchmarks/results/sac_speed.json

Without `--sbx-python` only the rates of one and of eight seeds are measured.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import machine

import purerl
from purerl.config import leaves
from purerl.experiment.program import seed_keys

SBX = """
import sys, time
import gymnasium, sbx
model = sbx.SAC("MlpPolicy", gymnasium.make("HalfCheetah-v5"), learning_starts=1_000, seed=0)
model.learn(2_000)
print("ready", flush=True)
for line in sys.stdin:
    began = time.perf_counter()
    model.learn(int(line), reset_num_timesteps=False)
    print(int(line) / (time.perf_counter() - began), flush=True)
"""


def ours(seeds: int) -> Callable[[int], float]:
    """A function from a number of steps per seed to environment steps per second, summed over seeds."""
    cfg = purerl.make_config("sac", env="half_cheetah", total_timesteps=100_000)
    driver = purerl.make_driver(cfg)
    hyper = {name: jnp.float32(value) for name, value in leaves(cfg).items()}
    length = 100
    chunk = jax.vmap(partial(driver.chunk, iterations=length), in_axes=(0, None, None))
    chunk = jax.jit(chunk, donate_argnums=0)
    keys = seed_keys(cfg, seeds)
    state = jax.jit(jax.vmap(driver.init, in_axes=(0, None)))(keys, hyper)
    state, _ = jax.jit(jax.vmap(driver.warmup, in_axes=(0, None)), donate_argnums=0)(state, hyper)
    step = cfg.learning_starts

    def measure(steps: int) -> float:
        nonlocal state, step
        began = time.perf_counter()
        for _ in range(steps // length):
            state, tallies = chunk(state, jnp.int32(step), hyper)
            jax.block_until_ready(tallies)
            step += length
        return seeds * steps / (time.perf_counter() - began)

    measure(length)  # compiles
    return measure


def sbx(python: str) -> Callable[[int], float]:
    """The same for SBX, in a process of its own that waits while it is not measured."""
    child = subprocess.Popen([python, "-c", SBX], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin and child.stdout

    def answer() -> str:
        for line in child.stdout:  # SBX may print before it
            if line.strip() == "ready" or line[:1].isdigit():
                return line
        raise RuntimeError("SBX ended early")

    answer()

    def measure(steps: int) -> float:
        child.stdin.write(f"{steps}\n")
        child.stdin.flush()
        return float(answer())

    return measure


def main() -> None:
    """Measure in turns, print the rates and write them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sbx-python")
    parser.add_argument("--steps", type=int, default=1_000, help="environment steps per turn")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    runners = {"purerl, 1 seed": (ours(1), 1), "purerl, 8 seeds": (ours(8), 8)}
    if arguments.sbx_python:
        runners["sbx"] = (sbx(arguments.sbx_python), 1)
    rates: dict[str, list[float]] = {name: [] for name in runners}
    loads = []
    for turn in range(arguments.turns):
        for name, (measure, seeds) in runners.items():
            rates[name].append(measure(max(100, arguments.steps // seeds // 100 * 100)))
        loads.append(machine.describe()["load_average"])
        print(
            f"turn {turn}: " + ", ".join(f"{name} {rate[-1]:.0f}" for name, rate in rates.items()), flush=True
        )

    def ratio(a: str, b: str) -> float:
        return round(statistics.median(x / y for x, y in zip(rates[a], rates[b], strict=True)), 3)

    result = {
        "command": f"python benchmarks/sac_speed.py --steps {arguments.steps} --turns {arguments.turns}"
        + " --sbx-python PYTHON_WITH_SBX" * bool(arguments.sbx_python),
        "date": time.strftime("%Y-%m-%d"),
        "steps_per_second": {name: round(statistics.median(rate), 1) for name, rate in rates.items()},
        "all_turns": {name: [round(rate, 1) for rate in row] for name, row in rates.items()},
        "8 seeds over 1 seed": ratio("purerl, 8 seeds", "purerl, 1 seed"),
        "1 seed over sbx": ratio("purerl, 1 seed", "sbx") if "sbx" in rates else None,
        "load_averages": loads,
        "machine": machine.describe(),
    }
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
