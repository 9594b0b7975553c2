"""Environment steps per second of each engine, with random actions and auto-reset.

    python benchmarks/envs.py --out benchmarks/results/envs.json

- `mujoco`: our environment on C MuJoCo inside one `lax.scan`, with a reset after every step, masked to
  the episodes that ended; `mjx`: the same on MJX; `mjx-reduced`: with 4 iterations of the solver and 8
  of its line search instead of the task's own.
- `gymnasium`: Gymnasium's own loop over `gym.make(id)`, or its synchronous vector environment for several.
- `batch`: `mujoco.batch` driven from Python: physics alone, without observations, rewards, resets or
  contact forces on bodies (which it does not compute), but with the other fields that the task sees.

Actions are drawn beforehand. What Gymnasium and the batch go through is what `mujoco` went through: the
same actions from the same starts, and a physics that is equal to the bit, so all do the same work. The
cases of one task and one number of environments take turns within each repeat, so that a busy machine
slows all of them alike; `cpu_us` is the processor time of a step of all environments, which a busy
machine disturbs less than the wall clock. `ratios` are medians over the repeats of our speed over the
other's in the same turn.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import machine
import mujoco
import mujoco.batch
import numpy as np

from purerl.registry import env_factory

GYMNASIUM_IDS = {
    "ant": "Ant-v5",
    "half_cheetah": "HalfCheetah-v5",
    "hopper": "Hopper-v5",
    "humanoid": "Humanoid-v5",
    "humanoid_standup": "HumanoidStandup-v5",
    "inverted_double_pendulum": "InvertedDoublePendulum-v5",
    "inverted_pendulum": "InvertedPendulum-v5",
    "pusher": "Pusher-v5",
    "reacher": "Reacher-v5",
    "swimmer": "Swimmer-v5",
    "walker2d": "Walker2d-v5",
}


ENGINES = ("mujoco", "mjx", "mjx-reduced", "gymnasium", "batch")
REDUCED = {"solver_iterations": 4, "ls_iterations": 8}


class Trajectory(NamedTuple):
    """A rollout on C MuJoCo; time first, then environments."""

    action: np.ndarray
    row: np.ndarray
    """The float64 mjSTATE_INTEGRATION before the step."""
    ended: np.ndarray
    """Flags of steps that ended an episode."""
    qpos: np.ndarray
    qvel: np.ndarray
    """States after the step, and after the reset that may follow."""
    fields: tuple[str, ...]
    """Names of what the task sees of the physics beside these."""


def purerl_case(env: Any, num_envs: int, num_steps: int) -> Callable[[], None]:
    """Run `num_steps` steps of `num_envs` environments; compiled before it is returned."""
    program, start, inputs = rollout(env, num_envs, num_steps)
    rewards = jax.jit(lambda start, inputs: program(start, inputs)["reward"])
    run = lambda: jax.block_until_ready(rewards(start, inputs))
    run()
    return run


def rollout(env: Any, num_envs: int, num_steps: int):
    """`(program, start, inputs)`: `program(start, inputs)` is what happened at each step."""

    def body(loop, inputs):
        obs, state = loop
        action, keys = inputs
        before = state.physics.row
        obs, state, reward, terminated, truncated, _ = jax.vmap(env.step)(keys, state, action)
        ended = terminated | truncated
        fresh = jax.vmap(lambda key, needed: env.reset(key, needed=needed))(keys, ended)
        rows = lambda leaf: ended.reshape(ended.shape + (1,) * (leaf.ndim - 1))
        obs, state = jax.tree.map(lambda new, old: jnp.where(rows(new), new, old), fresh, (obs, state))
        seen = {"reward": reward.sum(), "row": before, "ended": ended}
        seen |= {"qpos": state.physics.qpos, "qvel": state.physics.qvel}
        return (obs, state), seen

    key_start, key_action, key_reset = jax.random.split(jax.random.key(0), 3)
    start = jax.jit(jax.vmap(env.reset))(jax.random.split(key_start, num_envs))
    low, high = env.action_space.low, env.action_space.high
    shape = (num_steps, num_envs, *env.action_space.shape)
    actions = jax.random.uniform(key_action, shape, minval=low, maxval=high)
    keys = jax.random.split(key_reset, (num_steps, num_envs))
    program = jax.jit(lambda loop, inputs: jax.lax.scan(body, loop, inputs)[1])
    return program, start, (actions, keys)


def path_of(task: str, num_envs: int, num_steps: int) -> tuple[Trajectory, np.ndarray, np.ndarray]:
    """Our path, and the positions and velocities that it starts from."""
    program, start, inputs = rollout(env_factory(task)(engine="mujoco"), num_envs, num_steps)
    physics = start[1].physics
    fields = {*physics.fields, *physics.change} - {"qpos", "qvel", "cfrc_ext"}
    seen = jax.tree.map(np.asarray, program(start, inputs))
    rows = np.ascontiguousarray(seen["row"]).view(np.float64)
    path = Trajectory(np.asarray(inputs[0]), rows, seen["ended"], seen["qpos"], seen["qvel"], tuple(fields))
    return path, np.asarray(physics.qpos), np.asarray(physics.qvel)


def gymnasium_case(task: str, num_envs: int, num_steps: int) -> Callable[[], None]:
    """The same steps in Gymnasium's own loop."""
    path, *first = path_of(task, num_envs, num_steps)
    name = GYMNASIUM_IDS[task]
    env: Any
    if num_envs == 1:
        env = gymnasium.make(name)
        inner = [env.unwrapped]
    else:
        mode = {"autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP}
        env = gymnasium.make_vec(name, num_envs, vectorization_mode="sync", vector_kwargs=mode)
        inner = [each.unwrapped for each in env.envs]
    for number, each in enumerate(inner):
        _start_from(each, path, first, number)

    def run_one() -> None:
        env.reset(seed=0)
        for action in path.action[:, 0]:
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()

    def run_many() -> None:
        env.reset(seed=0)
        for action in path.action:
            env.step(action)

    run = run_one if num_envs == 1 else run_many
    run()
    for number, each in enumerate(inner):  # the same work was done
        np.testing.assert_array_equal(np.float32(each.data.qpos), path.qpos[-1, number])
    return run


def _start_from(env: Any, path: Trajectory, first: list[np.ndarray], number: int) -> None:
    """Let the resets of a Gymnasium environment lead where ours led, over and over."""
    ends = np.flatnonzero(path.ended[:, number])
    starts = [(first[0][number], first[1][number])]
    starts += [(path.qpos[end, number], path.qvel[end, number]) for end in ends]
    states = itertools.cycle(starts)

    def reset_model():
        env.set_state(*map(np.float64, next(states)))
        return env._get_obs()

    env.reset_model = reset_model


def batch_case(task: str, num_envs: int, num_steps: int) -> Callable[[], None]:
    """The same steps of MuJoCo's own batch of simulations."""
    path, *_ = path_of(task, num_envs, num_steps)
    inner: Any = gymnasium.make(GYMNASIUM_IDS[task]).unwrapped
    batch = mujoco.batch.Batch(inner.model, num_envs)
    ctrl, actions = batch.bind("ctrl"), np.asarray(path.action, np.float64)
    for name in path.fields:
        batch.bind(name)

    def run() -> None:
        for row, action in zip(path.row, actions, strict=True):
            batch.state[:] = row
            ctrl[:] = action
            batch.step(nstep=inner.frame_skip)

    run()
    return run


def make_case(task: str, engine: str, num_envs: int, num_steps: int) -> Callable[[], None]:
    """One engine's way to make `num_steps` steps of `num_envs` environments."""
    if engine == "gymnasium":
        return gymnasium_case(task, num_envs, num_steps)
    if engine == "batch":
        return batch_case(task, num_envs, num_steps)
    engine, _, reduced = engine.partition("-")
    kwargs = REDUCED if reduced else {}
    return purerl_case(env_factory(task)(engine=engine, **kwargs), num_envs, num_steps)


def measure(cases: dict[str, Callable[[], None]], repeats: int) -> dict[str, list[tuple[float, float]]]:
    """(wall seconds, processor seconds) of each repeat of each case, taken in turns."""
    times = {case: [] for case in cases}
    for _ in range(repeats):
        for case, run in cases.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            times[case].append((time.perf_counter() - wall, time.process_time() - cpu))
    return times


def summary(times: dict[str, list[tuple[float, float]]], num_envs: int, num_steps: int) -> dict[str, Any]:
    """Each engine's speed, and the median ratio of the first one's to each other's in the same turn."""
    engines = {}
    for engine, runs in times.items():
        wall, cpu = (statistics.median(column) for column in zip(*runs, strict=True))
        engines[engine] = {
            "steps_per_second": round(num_envs * num_steps / wall),
            "best_steps_per_second": round(num_envs * num_steps / min(run[0] for run in runs)),
            "wall_us": round(1e6 * wall / num_steps, 2),
            "cpu_us": round(1e6 * cpu / num_steps, 2),
        }
    first, *others = times
    ratios = {}
    for other in others:
        turns = zip(times[other], times[first], strict=True)
        ratios[f"{first}/{other}"] = round(statistics.median(a[0] / b[0] for a, b in turns), 2)
    return {"engines": engines, "ratios": ratios}


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", default=sorted(GYMNASIUM_IDS), choices=sorted(GYMNASIUM_IDS))
    parser.add_argument("--engines", nargs="+", default=["mujoco", "gymnasium", "batch"], choices=ENGINES)
    parser.add_argument("--num-envs", nargs="+", type=int, default=[1, 64])
    parser.add_argument("--seconds", type=float, default=0.5, help="about how long each run takes")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=machine.out_file, help="a JSON file; the terminal without it")
    args = parser.parse_args()
    out = args.out and args.out.resolve()
    os.chdir(tempfile.mkdtemp())  # MuJoCo appends Gymnasium's warnings to MUJOCO_LOG.TXT

    before, results = machine.describe(), []
    for task in args.tasks:
        for num_envs in args.num_envs:
            num_steps = steps_in(args.seconds, task, args.engines[0], num_envs)
            cases = {engine: make_case(task, engine, num_envs, num_steps) for engine in args.engines}
            result = {"task": task, "num_envs": num_envs, "num_steps": num_steps}
            results.append(result | summary(measure(cases, args.repeats), num_envs, num_steps))
            print(json.dumps(results[-1]), flush=True)
    if out:
        report = {
            "command": f"python benchmarks/envs.py --tasks {' '.join(args.tasks)}"
            f" --engines {' '.join(args.engines)} --num-envs {' '.join(map(str, args.num_envs))}"
            f" --seconds {args.seconds} --repeats {args.repeats}",
            "date": time.strftime("%Y-%m-%d"),
            "machine": before | {"load_average_after": os.getloadavg()},
            "results": results,
        }
        out.write_text(json.dumps(report, indent=2) + "\n")


def steps_in(seconds: float, task: str, engine: str, num_envs: int) -> int:
    """About how many steps of `num_envs` environments `engine` makes in so many seconds."""
    num_steps = max(8, 256 // num_envs)
    run = make_case(task, engine, num_envs, num_steps)
    began = time.perf_counter()
    run()
    return max(8, round(num_steps * seconds / (time.perf_counter() - began)))


if __name__ == "__main__":
    main()
