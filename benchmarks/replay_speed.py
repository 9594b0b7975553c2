"""Replay buffers beside flashbax's: write one transition, draw a batch, give priorities back.

    python benchmarks/replay_speed.py --flashbax-python PYTHON_WITH_FLASHBAX

Transitions have observations of 17 numbers and actions of 6. Each library runs in a process of its own, which
waits while the others run, and compiles the same `lax.scan` for each case. An iteration writes one random
transition, draws 256 rows with their weights, and gives 256 errors back if the case is prioritised; as in
training, these errors do not depend on the weights, unless `--weighted-errors` says so. The state is donated,
and the buffer is full before the first measurement. With seeds the scan is under `vmap`, and each seed has a
buffer of `capacity` rows.

flashbax has two buffers of transitions, and both are measured. Its item buffer stores `next_obs` as ours
does. Its flat buffer stores it once, as the next row's `obs`: another one, where an episode ends.

A turn calls each program once, one after the other, so that a change in the machine's load meets all. What
counts is the median over the turns, of seconds and of the ratio of theirs to ours. A busy machine disturbs
processor time less, so that its ratio is given, too.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import machine

CASES = {
    "uniform, 1 seed": (False, 1, 1_000_000),
    "uniform, 8 seeds": (False, 8, 100_000),
    "prioritised, 1 seed": (True, 1, 1_000_000),
    "prioritised, 8 seeds": (True, 8, 100_000),
}
"""Prioritised, seeds, and rows of the buffer of each seed."""
LIBRARIES = ("purerl", "flashbax item", "flashbax flat")
BATCH, OBS, ACTION, GAMMA, ALPHA, BETA = 256, 17, 6, 0.99, 0.6, 0.4
ITERATIONS = 2_000
"""Iterations of one call, summed over seeds: some tenths of a second."""
Row = dict[str, jax.Array]


class Buffer(NamedTuple):
    """Functions of a buffer, as the loop calls them."""

    init: Callable[[], Any]
    add: Callable[[Any, Row], Any]
    """`(state, row)`: one transition without leading axes."""
    sample: Callable[[Any, jax.Array], tuple[Row, jax.Array, jax.Array]]
    """`(state, key) -> (rows, index, weight)`."""
    update: Callable[[Any, jax.Array, jax.Array], Any]
    """`(state, index, td_error)`."""


def random_row(key: jax.Array) -> Row:
    """Return a transition, most of which end nothing."""
    noise = jax.random.normal(key, (2 * OBS + ACTION + 1,))
    obs, action, reward, next_obs = jnp.split(noise, (OBS, OBS + ACTION, OBS + ACTION + 1))
    row = {"obs": obs, "action": action, "reward": reward[0], "next_obs": next_obs}
    return row | {"terminated": obs[0] > 2, "truncated": obs[1] > 2}


def purerl_buffer(prioritised: bool, capacity: int) -> Buffer:
    """Return the buffer of purerl with one-step returns."""
    from types import SimpleNamespace

    from purerl.replay.buffer import make_buffer
    from purerl.types import Transition

    cfg = SimpleNamespace(
        num_envs=1,
        batch_size=BATCH,
        total_timesteps=capacity,
        gamma=GAMMA,
        n_step=1,
        prioritised=prioritised,
        frame_stack=0,
        priority_alpha=ALPHA,
        priority_beta=BETA,
    )
    like = jax.eval_shape(lambda: random_row(jax.random.key(0)))
    buffer = make_buffer(cfg, Transition(**like), capacity)

    def add(state, row):
        return buffer.add(state, Transition(**jax.tree.map(lambda leaf: leaf[None, None], row)))

    def sample(state, key):
        batch = buffer.sample(state, key, jnp.int32(0))
        return batch.rows._asdict() | {"discount": batch.discount}, batch.index, batch.weight

    return Buffer(buffer.init, add, sample, buffer.update)


def flashbax_buffer(prioritised: bool, capacity: int, *, flat: bool) -> Buffer:
    """Return a buffer of flashbax, with the weights and the discount that ours returns."""
    import flashbax  # pyright: ignore[reportMissingImports]

    makers = {
        (False, False): flashbax.make_item_buffer,
        (False, True): flashbax.make_flat_buffer,
        (True, False): flashbax.make_prioritised_item_buffer,
        (True, True): flashbax.make_prioritised_flat_buffer,
    }
    more = {"priority_exponent": ALPHA, "device": jax.default_backend()} if prioritised else {}
    make = makers[prioritised, flat]
    buffer = make(max_length=capacity, min_length=1, sample_batch_size=BATCH, **more)
    stored = lambda row: {name: leaf for name, leaf in row.items() if not flat or name != "next_obs"}

    def sample(state, key):
        drawn = buffer.sample(state, key)
        rows = drawn.experience
        if flat:
            rows = rows.first | {"next_obs": rows.second["obs"]}
        rows = rows | {"discount": jnp.where(rows["terminated"], 0.0, GAMMA)}
        if not prioritised:
            return rows, jnp.zeros(BATCH, jnp.int32), jnp.ones(BATCH)
        weight = drawn.probabilities**-BETA
        return rows, drawn.indices, weight / weight.max()

    def update(state, index, td_error):
        return buffer.set_priorities(state, index, jnp.abs(td_error) + 1e-6) if prioritised else state

    return Buffer(
        lambda: buffer.init(stored(random_row(jax.random.key(0)))),
        lambda state, row: buffer.add(state, stored(row)),
        sample,
        update,
    )


class Program:
    """The loop of a case, compiled, with a full buffer."""

    def __init__(self, library: str, case: str, weighted: bool = False):
        """Make, fill and warm the buffer of `library`, one of LIBRARIES, for a key of CASES.

        With `weighted` the errors are those times the weights.
        """
        prioritised, seeds, capacity = CASES[case]
        make = purerl_buffer if library == "purerl" else partial(flashbax_buffer, flat="flat" in library)
        buffer = make(prioritised, capacity)
        self.seeds, self.calls, self.iterations = seeds, 0, ITERATIONS // seeds

        def fill(state, key):
            add = lambda state, key: (buffer.add(state, random_row(key)), None)
            return jax.lax.scan(add, state, jax.random.split(key, capacity))[0]

        def iteration(carry, key):
            state, _ = carry
            key_row, key_sample = jax.random.split(key)
            state = buffer.add(state, random_row(key_row))
            rows, index, weight = drawn = buffer.sample(state, key_sample)
            td_error = (rows["reward"] + rows["discount"]) * (weight if weighted else 1.0)
            return (buffer.update(state, index, td_error), drawn), None

        def loop(carry, key):
            return jax.lax.scan(iteration, carry, jax.random.split(key, self.iterations))[0]

        over_seeds = lambda function: function if seeds == 1 else jax.vmap(function)
        state = jax.jit(over_seeds(lambda key: buffer.init()))(self._keys())
        state = jax.jit(over_seeds(fill), donate_argnums=0)(state, self._keys())
        self.carry = state, jax.jit(over_seeds(buffer.sample))(state, self._keys())
        self.loop = jax.jit(over_seeds(loop), donate_argnums=0)
        self.seconds()

    def _keys(self) -> jax.Array:
        self.calls += 1
        key = jax.random.key(self.calls)
        return key if self.seeds == 1 else jax.random.split(key, self.seeds)

    def seconds(self) -> tuple[float, float]:
        """Return the seconds of an iteration, by the clock and of processor time."""
        keys = self._keys()
        wall, cpu = time.perf_counter(), time.process_time()
        self.carry = jax.block_until_ready(self.loop(self.carry, keys))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        return wall / self.iterations, cpu / self.iterations


def serve(library: str, case: str, weighted: str) -> None:
    """Compile, print the versions, and answer every line with the seconds of one call."""
    program = Program(library, case, weighted == "True")
    names = ("flashbax", "jax", "jaxlib") if "flashbax" in library else ("jax", "jaxlib")
    print("answer", json.dumps({name: importlib.metadata.version(name) for name in names}), flush=True)
    for _ in sys.stdin:
        print("answer", json.dumps(program.seconds()), flush=True)


class Child:
    """A process that serves."""

    def __init__(self, python: str, library: str, case: str, weighted: bool):
        command = [python, __file__, "--serve", library, case, str(weighted)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.versions = self._answer()

    def seconds(self) -> tuple[float, float]:
        """Return the seconds of an iteration, by the clock and of processor time."""
        assert self.process.stdin
        print(file=self.process.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self.process.communicate()

    def _answer(self) -> Any:
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith("answer "):
                return json.loads(line.removeprefix("answer "))
        raise RuntimeError("the process ended early; what it printed is above")


def measure(case: str, turns: int, pythons: dict[str, str], weighted: bool = False) -> dict[str, Any]:
    """Return the entry of a case; `pythons` are the interpreters of the libraries."""
    children = {library: Child(python, library, case, weighted) for library, python in pythons.items()}
    taken = []
    for _ in range(turns):
        taken.append({library: child.seconds() for library, child in children.items()})
    for child in children.values():
        child.close()

    def micro(library: str, clock: int) -> list[float]:
        return [float(f"{1e6 * turn[library][clock]:.4g}") for turn in taken]

    def ratio(library: str, clock: int) -> float:
        pairs = zip(micro(library, clock), micro("purerl", clock), strict=True)
        return round(statistics.median(theirs / ours for theirs, ours in pairs), 2)

    peers = [library for library in children if library != "purerl"]
    prioritised, seeds, capacity = CASES[case]
    return {
        "case": case,
        "prioritised": prioritised,
        "seeds": seeds,
        "capacity": capacity,
        "microseconds": {library: statistics.median(micro(library, 0)) for library in children},
        "over_purerl": {library: ratio(library, 0) for library in peers},
        "over_purerl_in_cpu_seconds": {library: ratio(library, 1) for library in peers},
        "microseconds_of_turns": {library: micro(library, 0) for library in children},
        "cpu_microseconds_of_turns": {library: micro(library, 1) for library in children},
        "versions": {library: child.versions for library, child in children.items()},
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--flashbax-python", help="an interpreter that has flashbax")
    parser.add_argument("--out", type=machine.out_file, help="a JSON file; the terminal without it")
    parser.add_argument("--weighted-errors", action="store_true", help="errors times weights: see above")
    parser.add_argument("--serve", nargs=3, metavar=("LIBRARY", "CASE", "WEIGHTED"), help="be a process")
    arguments = parser.parse_args(argv)
    if arguments.serve:
        return serve(*arguments.serve)
    peer = arguments.flashbax_python
    pythons = {library: sys.executable if library == "purerl" else peer for library in LIBRARIES}
    pythons = {library: python for library, python in pythons.items() if python}
    report: dict[str, Any] = {
        "command": f"python benchmarks/replay_speed.py --turns {arguments.turns}"
        + " --weighted-errors" * arguments.weighted_errors
        + " --flashbax-python PYTHON_WITH_FLASHBAX" * bool(peer),
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine.describe(),
        "results": [],
    }
    for case in arguments.cases:
        entry = measure(case, arguments.turns, pythons, arguments.weighted_errors)
        report["results"].append(entry)
        print(case, *(entry[name] for name in ("microseconds", "over_purerl", "over_purerl_in_cpu_seconds")))
        if arguments.out:
            arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    if not arguments.out:
        print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
