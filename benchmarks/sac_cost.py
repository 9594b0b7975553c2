"""Cost of a gradient step of SAC with each switch, relative to that of plain SAC of the same widths.

Sizes are half_cheetah's, with batches of 256 from a full replay buffer of 100,000 invented rows. A call takes
24 gradient steps. The programs take turns, and before each plain SAC takes one, so that a change in the
machine's load meets both; what counts is the median over the turns of the ratio to the call before. The same
ratio is given of the fastest calls and of processor time, which a busy machine disturbs less.

    python benchmarks/sac_cost.py --out benchmarks/results/sac_cost.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import machine
from throughput import rounded, significant

import purerl
from purerl.types import Transition

UPDATES, ROWS, PLAIN = 24, 100_000, "plain"
CATEGORICAL = {"critic": "categorical", "normalize_reward": True}
SWITCHES: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "layer": {"norm": "layer"},
    "batch": {"norm": "batch"},
    "reward": {"normalize_reward": True},
    "categorical": CATEGORICAL,
    "actor 2": {"actor_every": 2},
    "actor 3": {"actor_every": 3},
    "batch, categorical": {"norm": "batch"} | CATEGORICAL,
    "batch, categorical, actor 2": {"norm": "batch", "actor_every": 2} | CATEGORICAL,
    "batch, categorical, actor 3": {"norm": "batch", "actor_every": 3} | CATEGORICAL,
    "3-step": {"n_step": 3},
    "prioritised": {"prioritised": True},
}
"""Fields by the name of a row. The other switches change nothing that a gradient step computes."""


class Call(NamedTuple):
    """Milliseconds of one gradient step."""

    wall: float
    cpu: float
    """Processor time of all cores together."""


def program(fields: dict[str, Any]) -> Callable[[], Call]:
    """A function that takes UPDATES gradient steps."""
    cfg = purerl.make_config(
        "sac", env="half_cheetah", total_timesteps=ROWS, updates_per_step=UPDATES, **fields
    )
    env, algo = purerl.make_env(cfg.env), purerl.make_algorithm(cfg)

    def invented(key: jax.Array, steps: int) -> Transition:
        normal = lambda i, *size: jax.random.normal(jax.random.fold_in(key, i), (steps, 1, *size))
        obs, next_obs = (normal(i, *env.observation_space.shape) for i in (0, 1))
        action, never = jnp.tanh(normal(2, *env.action_space.shape)), jnp.zeros((steps, 1), bool)
        return Transition(obs, action, normal(3), next_obs, never, never)

    update = jax.jit(lambda *args: algo.update(*args, jnp.int32(0))[0], donate_argnums=0)
    key = jax.random.key(0)
    rollout = invented(key, 1)
    full = jax.jit(lambda key: algo.observe(algo.init(key), invented(key, ROWS)))(key)
    state = [jax.block_until_ready(update(full, rollout, key))]

    def call() -> Call:
        wall, cpu = time.perf_counter(), time.process_time()
        state[0] = jax.block_until_ready(update(state[0], rollout, key))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        return Call(wall / UPDATES * 1e3, cpu / UPDATES * 1e3)

    return call


class Turn(NamedTuple):
    """A call of plain SAC and the one of the program after it."""

    plain: Call
    switched: Call


def ratio(turns: list[Turn], of: str) -> float:
    """The median over the turns of the program's milliseconds over those of plain SAC."""
    return round(statistics.median(getattr(turn.switched, of) / getattr(turn.plain, of) for turn in turns), 2)


def result(width: int, name: str, taken: dict[tuple[int, str], list[Turn]], widest: int) -> dict[str, Any]:
    """The entry of one program."""
    turns = taken[width, name]
    over = zip(turns, taken[widest, name], strict=True)
    return {
        "switches": name,
        "width": width,
        "fields": SWITCHES[name],
        "milliseconds": significant(statistics.median(turn.switched.wall for turn in turns)),
        "cost": ratio(turns, "wall"),
        "cost of fastest calls": round(
            min(turn.switched.wall for turn in turns) / min(turn.plain.wall for turn in turns), 2
        ),
        "cost of processor time": ratio(turns, "cpu"),
        f"processor time over plain {widest}": round(
            statistics.median(one.switched.cpu / wide.plain.cpu for one, wide in over), 2
        ),
        "milliseconds of turns": [[significant(call.wall) for call in turn] for turn in turns],
    }


def main() -> None:
    """Measure in turns, print the costs and write them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=21)
    parser.add_argument("--widths", type=int, nargs="+", default=[256, 128], help="of both hidden layers")
    parser.add_argument("--out", type=machine.out_file)
    arguments = parser.parse_args()
    cases = [(width, name) for width in arguments.widths for name in SWITCHES]
    programs = {
        (width, name): program(SWITCHES[name] | {"hidden_sizes": (width, width)}) for width, name in cases
    }
    taken: dict[tuple[int, str], list[Turn]] = {case: [] for case in cases}
    loads = [rounded(os.getloadavg())]
    for _ in range(arguments.turns):
        for width, name in cases:
            taken[width, name].append(Turn(programs[width, PLAIN](), programs[width, name]()))
        loads.append(rounded(os.getloadavg()))
    results = [result(*case, taken, max(arguments.widths)) for case in cases]
    for entry in results:
        print({key: value for key, value in entry.items() if key not in ("fields", "milliseconds of turns")})
    record = {
        "command": f"python benchmarks/sac_cost.py --turns {arguments.turns}"
        f" --widths {' '.join(map(str, arguments.widths))}",
        "date": time.strftime("%Y-%m-%d"),
        "load_averages": loads,
        "machine": machine.describe(),
        "results": results,
    }
    if arguments.out:
        arguments.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
