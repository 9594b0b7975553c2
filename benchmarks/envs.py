"""How many environment steps per second each engine makes, with random actions and auto-reset.

    python benchmarks/envs.py --tasks ant half_cheetah --engines mujoco gymnasium --num-envs 1 64

A purerl environment runs inside one `lax.scan`, with a reset after every step, masked to the
episodes that ended. `gymnasium` is Gymnasium's own loop: `gym.make(id)`, or its synchronous vector
environment for several. Actions are drawn beforehand for both. The cases take turns within each
repeat, so that a busy machine slows all of them alike; `cpu_us` is the processor time of a step of
all environments, which a busy machine disturbs less than the wall clock.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import machine
import numpy as np

from purerl.registry import env_factory

GYMNASIUM_IDS = {"ant": "Ant-v5", "half_cheetah": "HalfCheetah-v5"}


def purerl_case(env: Any, num_envs: int, num_steps: int) -> Callable[[], None]:
    """Run `num_steps` steps of `num_envs` environments; compiled before it is returned."""

    def body(loop, inputs):
        obs, state = loop
        action, keys = inputs
        obs, state, reward, terminated, truncated, _ = jax.vmap(env.step)(keys, state, action)
        ended = terminated | truncated
        fresh = jax.vmap(lambda key, needed: env.reset(key, needed=needed))(keys, ended)
        rows = lambda leaf: ended.reshape(ended.shape + (1,) * (leaf.ndim - 1))
        loop = jax.tree.map(lambda new, old: jnp.where(rows(new), new, old), fresh, (obs, state))
        return loop, reward.sum()

    @jax.jit
    def program(loop, actions, keys):
        return jax.lax.scan(body, loop, (actions, keys))

    key_start, key_action, key_reset = jax.random.split(jax.random.key(0), 3)
    start = jax.jit(jax.vmap(env.reset))(jax.random.split(key_start, num_envs))
    low, high = env.action_space.low, env.action_space.high
    shape = (num_steps, num_envs, *env.action_space.shape)
    actions = jax.random.uniform(key_action, shape, minval=low, maxval=high)
    keys = jax.random.split(key_reset, (num_steps, num_envs))
    run = lambda: jax.block_until_ready(program(start, actions, keys))
    run()
    return run


def gymnasium_case(task: str, num_envs: int, num_steps: int) -> Callable[[], None]:
    """The same number of steps in Gymnasium's own loop."""
    env: Any
    if num_envs == 1:
        env = gymnasium.make(GYMNASIUM_IDS[task])
    else:
        env = gymnasium.make_vec(GYMNASIUM_IDS[task], num_envs, vectorization_mode="sync")
    space: Any = env.action_space if num_envs == 1 else env.single_action_space
    shape = (num_steps, num_envs, *space.shape)
    actions = np.random.default_rng(0).uniform(space.low, space.high, shape).astype(np.float32)

    def run_one() -> None:
        env.reset(seed=0)
        for action in actions[:, 0]:
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()

    def run_many() -> None:  # Gymnasium's vector environments reset themselves
        env.reset(seed=0)
        for action in actions:
            env.step(action)

    run = run_one if num_envs == 1 else run_many
    run()
    return run


def measure(cases: dict, repeats: int) -> dict:
    """(wall seconds, processor seconds) of each repeat of each case, taken in turns."""
    times = {case: [] for case in cases}
    for _ in range(repeats):
        for case, run in cases.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            times[case].append((time.perf_counter() - wall, time.process_time() - cpu))
    return times


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description="Environment steps per second.")
    parser.add_argument("--tasks", nargs="+", default=["ant", "half_cheetah"])
    parser.add_argument("--engines", nargs="+", default=["mujoco", "gymnasium"])
    parser.add_argument("--num-envs", nargs="+", type=int, default=[1, 64])
    parser.add_argument("--steps", type=int, default=6400, help="environment steps of each run")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="a JSON file; the terminal without it")
    args = parser.parse_args()
    out = args.out and args.out.resolve()
    os.chdir(tempfile.mkdtemp())  # MuJoCo appends Gymnasium's warnings to MUJOCO_LOG.TXT

    cases = {}
    for task in args.tasks:
        for num_envs in args.num_envs:
            num_steps = max(1, args.steps // num_envs)
            for engine in args.engines:
                if engine == "gymnasium":
                    run = gymnasium_case(task, num_envs, num_steps)
                else:
                    run = purerl_case(env_factory(task)(engine=engine), num_envs, num_steps)
                cases[task, engine, num_envs, num_steps] = run
    before = machine.describe()
    times = measure(cases, args.repeats)
    results = []
    for (task, engine, num_envs, num_steps), runs in times.items():
        wall, cpu = (statistics.median(column) for column in zip(*runs, strict=True))
        results.append(
            {
                "task": task,
                "engine": engine,
                "num_envs": num_envs,
                "steps_per_second": round(num_envs * num_steps / wall),
                "best_steps_per_second": round(num_envs * num_steps / min(r[0] for r in runs)),
                "wall_us": round(1e6 * wall / num_steps, 2),
                "cpu_us": round(1e6 * cpu / num_steps, 2),
            }
        )
    report = {
        "command": f"python benchmarks/envs.py --tasks {' '.join(args.tasks)}"
        f" --engines {' '.join(args.engines)}"
        f" --num-envs {' '.join(map(str, args.num_envs))} --steps {args.steps} --repeats {args.repeats}",
        "date": time.strftime("%Y-%m-%d"),
        "machine": before | {"load_average_after": os.getloadavg()},
        "results": results,
    }
    text = json.dumps(report, indent=2)
    if out:
        out.write_text(text + "\n")
    else:
        print(text)


if __name__ == "__main__":
    main()
