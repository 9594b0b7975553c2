"""Gradient steps of SAC beside the matrix products that they cannot do without, in one run.

    python benchmarks/update_floor.py --out benchmarks/results/update_floor.json

The products are those of one SAC gradient step on half_cheetah's shapes (batch 256, two layers of 256):
forward through the actor and both target critics at the next observations, forward and backward through both
critics, forward through the actor and both critics again and backward to the actor; float32, one after the
other in a `lax.scan`, with nothing between them. Both programs take turns; what counts is the median of the
ratios.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import machine

import purerl
from purerl.types import Transition

STEPS = 50
"""Gradient steps of one call."""


def layers(*sizes: int) -> list[tuple[int, int]]:
    """Return the shapes of the kernels of a network."""
    return list(itertools.pairwise(sizes))


def products(cfg: Any, obs: int, action: int) -> list[tuple[int, int, int]]:
    """Return `(rows, inner, columns)` of every product of a gradient step."""
    batch, pi = cfg.batch_size, layers(obs, *cfg.hidden_sizes, 2 * action)
    q = layers(obs + action, *cfg.hidden_sizes, 1)

    def forward(kernels: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
        return [(batch, inputs, outputs) for inputs, outputs in kernels]

    def to_kernels(kernels: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
        return [(inputs, batch, outputs) for inputs, outputs in kernels]

    def to_inputs(kernels: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
        return [(batch, outputs, inputs) for inputs, outputs in kernels]

    critic = forward(q) + to_kernels(q) + to_inputs(q[1:])
    actor = forward(pi) + to_kernels(pi) + to_inputs(pi[1:])
    return forward(pi) + 2 * forward(q) + 2 * critic + actor + 2 * (forward(q) + to_inputs(q))


def bare_products(shapes: list[tuple[int, int, int]]) -> Callable[[], None]:
    """Return a function that takes all products STEPS times."""
    keys = iter(jax.random.split(jax.random.key(0), 2 * len(shapes)))
    left = [jax.random.normal(next(keys), (rows, inner)) for rows, inner, _ in shapes]
    right = [jax.random.normal(next(keys), (inner, columns)) for _, inner, columns in shapes]

    def step(loop: Any, _: None) -> tuple[Any, None]:
        entry, operands = loop
        changed = []
        for a, b in zip(operands, right, strict=True):
            changed.append(a.at[0, 0].set(entry))  # in place: no product begins before the last one ends
            entry = (changed[-1] @ b)[0, 0]
        return (entry, changed), None

    program = jax.jit(lambda loop: jax.lax.scan(step, loop, None, length=STEPS)[0], donate_argnums=0)
    loop = (jnp.float32(0), left)

    def run() -> None:
        nonlocal loop
        loop = jax.block_until_ready(program(loop))

    return run


def gradient_steps(cfg: Any) -> Callable[[], None]:
    """Return a function that takes STEPS gradient steps on a filled replay buffer."""
    algo, env = purerl.make_algorithm(cfg), purerl.make_env(cfg.env)
    obs, action = env.observation_space.shape, env.action_space.shape

    def transition(key: jax.Array) -> Transition:
        x, no = jax.random.normal(key, (1, 1, *obs)), jnp.zeros((1, 1), bool)
        return Transition(x, jnp.tanh(x[..., : action[0]]), x[..., 0], 0.9 * x, no, no)

    def fill(state: Any, key: jax.Array) -> Any:
        add = lambda state, key: (algo.observe(state, transition(key)), None)
        return jax.lax.scan(add, state, jax.random.split(key, 5_000))[0]

    state = jax.jit(fill, donate_argnums=0)(jax.jit(algo.init)(jax.random.key(0)), jax.random.key(1))
    update = jax.jit(lambda *args: algo.update(*args)[0], donate_argnums=0)
    args = transition(jax.random.key(2)), jax.random.key(3), jnp.int32(0)

    def run() -> None:
        nonlocal state
        state = jax.block_until_ready(update(state, *args))

    return run


def main() -> None:
    """Measure in turns, print the rates and write them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--out", type=machine.out_file)
    arguments = parser.parse_args()
    cfg: Any = purerl.make_config(
        "sac", env="half_cheetah", buffer_size=100_000, total_timesteps=100_000, updates_per_step=STEPS
    )
    shapes = products(cfg, 17, 6)
    runs = {"updates": gradient_steps(cfg), "products": bare_products(shapes)}
    for run in runs.values():
        run()
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(arguments.turns):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            rates[name].append(STEPS / (time.perf_counter() - began))
    pairs = zip(rates["updates"], rates["products"], strict=True)
    flops = 2 * sum(rows * inner * columns for rows, inner, columns in shapes)
    result = {
        "command": f"python benchmarks/update_floor.py --turns {arguments.turns}",
        "date": time.strftime("%Y-%m-%d"),
        "per_second": {name: round(statistics.median(rate), 1) for name, rate in rates.items()},
        "updates over products": round(statistics.median(a / b for a, b in pairs), 3),
        "gigaflops of a step": round(flops / 1e9, 3),
        "machine": machine.describe(),
    }
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
