"""Distance of one environment step on MJX from the same step on C MuJoCo, task by task.

    NPROC=8 python benchmarks/fidelity.py --out benchmarks/results/fidelity.json

Both engines start from the same states, which a random policy visited on C MuJoCo, rounded to
float32, and take the same random action. `TOLERANCES` was fixed before the recorded run; docs/mujoco.md
has the table with the reasons. NPROC gives XLA more threads than a small machine has cores: MJX's
factorisations can wait for one another for ever on two.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import machine
import numpy as np

import purerl
from purerl.envs.mujoco.engine.physics import Physics
from purerl.envs.mujoco.options import ASSETS

NUM_STATES = 300
EVERY = 7
"""Steps between two states that are looked at."""

QUANTITIES = ("qpos", "qvel", "obs", "reward")
"""Compared quantities: absolute differences, of an array the largest, in the task's own units."""

TOLERANCES: dict[str, dict[str, tuple[float, float]]] = {
    "ant": {"qpos": (1e-6, 1e-4), "qvel": (1e-5, 5e-3), "obs": (1e-5, 0.05), "reward": (1e-5, 1e-3)},
    "ant-elliptic": {"qpos": (1e-6, 1e-4), "qvel": (1e-5, 5e-3), "obs": (1e-5, 0.05), "reward": (1e-5, 1e-3)},
    "half_cheetah": {"qpos": (1e-6, 1e-4), "qvel": (5e-5, 5e-3), "obs": (5e-5, 5e-3), "reward": (3e-6, 1e-4)},
    "hopper": {"qpos": (1e-7, 2e-6), "qvel": (3e-6, 5e-5), "obs": (3e-6, 5e-5), "reward": (5e-7, 1e-5)},
    "humanoid": {"qpos": (1e-6, 1e-5), "qvel": (5e-5, 1e-3), "obs": (1e-4, 0.2), "reward": (1e-5, 5e-4)},
    "humanoid_standup": {
        "qpos": (1e-6, 1e-4),
        "qvel": (5e-5, 2e-2),
        "obs": (5e-3, 10.0),
        "reward": (2e-5, 5e-4),
    },
    "inverted_double_pendulum": {
        **{"qpos": (2e-7, 1e-6), "qvel": (3e-6, 2e-5)},
        **{"obs": (3e-6, 2e-5), "reward": (1e-6, 5e-6)},
    },
    "inverted_pendulum": {"qpos": (2e-8, 2e-7), "qvel": (1e-6, 5e-6), "obs": (1e-6, 5e-6), "reward": (0, 0)},
    "pusher": {"qpos": (1e-6, 5e-6), "qvel": (2e-6, 2e-4), "obs": (2e-6, 2e-4), "reward": (5e-7, 2e-6)},
    "reacher": {"qpos": (5e-7, 1e-5), "qvel": (1e-6, 1e-3), "obs": (2e-6, 1e-3), "reward": (2e-7, 2e-6)},
    "swimmer": {"qpos": (5e-7, 2e-6), "qvel": (3e-6, 5e-5), "obs": (3e-6, 5e-5), "reward": (1e-6, 1e-5)},
    "walker2d": {"qpos": (1e-6, 5e-6), "qvel": (1e-4, 1e-3), "obs": (1e-4, 1e-3), "reward": (5e-6, 5e-5)},
}
"""task -> quantity -> the largest median and the largest maximum. Some five times what states of other
random numbers gave; `ant-elliptic` is ant with elliptic friction cones on both engines."""


def compare(task: str, num_states: int = NUM_STATES, **kwargs: Any) -> dict[str, Any]:
    """Differences between the engines after one step.

    Returns for each quantity its median, its 99th percentile and its maximum over the states, the
    number of states in which `terminated` differs, and the number whose simulation broke down.
    """
    c, mjx = (purerl.make_env(task, engine=engine, **kwargs) for engine in ("mujoco", "mjx"))
    physics, actions = visited(c, num_states)
    results = []
    for env in (c, mjx):
        _, state = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), num_states))
        state = state._replace(physics=_moved(state.physics, physics))
        step = jax.jit(jax.vmap(env.step, in_axes=(None, 0, 0)))
        obs, state, reward, terminated, _, info = step(jax.random.key(0), state, actions)
        values = {"qpos": state.physics.qpos, "qvel": state.physics.qvel, "obs": obs, "reward": reward}
        results.append(jax.tree.map(np.asarray, (values, terminated, info["diverged"])))
    (ours, ours_ended, ours_broke), (theirs, theirs_ended, theirs_broke) = results
    report: dict[str, Any] = {"task": task, "states": num_states, **kwargs}
    for name in QUANTITIES:
        error = np.abs(ours[name].astype(np.float64) - theirs[name]).reshape(num_states, -1).max(1)
        spread = np.median(error), np.quantile(error, 0.99), error.max()
        report[name] = dict(
            zip(("median", "p99", "max"), (float(f"{value:.2g}") for value in spread), strict=True)
        )
    report["terminated_differs"] = int((ours_ended != theirs_ended).sum())
    report["diverged"] = int(ours_broke.sum() + theirs_broke.sum())
    return report


def visited(env: Any, num_states: int) -> tuple[Physics, jax.Array]:
    """States `[num_states, ...]` that a random policy visits on C MuJoCo, and an action for each."""
    num_envs = 20
    num_steps = EVERY * -(-num_states // num_envs)
    low, high = env.action_space.low, env.action_space.high
    key_start, key_action, key_last = jax.random.split(jax.random.key(1), 3)

    def body(state, key):
        key_action, key_reset = jax.random.split(key)
        action = jax.random.uniform(key_action, (num_envs, *low.shape), minval=low, maxval=high)
        _, state, _, terminated, truncated, _ = jax.vmap(env.step, (None, 0, 0))(key, state, action)
        ended = terminated | truncated
        _, fresh = jax.vmap(env.reset, (0, None, 0))(jax.random.split(key_reset, num_envs), None, ended)
        rows = lambda leaf: ended.reshape(ended.shape + (1,) * (leaf.ndim - 1))
        state = jax.tree.map(lambda new, old: jnp.where(rows(new), new, old), fresh, state)
        return state, state.physics

    _, start = jax.vmap(env.reset)(jax.random.split(key_start, num_envs))
    _, physics = jax.jit(lambda state, keys: jax.lax.scan(body, state, keys))(
        start, jax.random.split(key_action, num_steps)
    )
    pick = lambda leaf: np.concatenate(np.asarray(leaf)[EVERY - 1 :: EVERY])[:num_states]
    actions = jax.random.uniform(key_last, (num_states, *low.shape), minval=low, maxval=high)
    return jax.tree.map(pick, physics), actions


def _moved(physics: Physics, to: Physics) -> Physics:
    """The `physics` of either engine, moved to the states `to` of C MuJoCo, rounded to float32."""
    row = np.ascontiguousarray(to.row).view(np.float64).astype(np.float32)
    tracked = np.ascontiguousarray(to.tracked).view(np.float64).astype(np.float32)
    bits = lambda array: array.astype(np.float64).view(np.uint32)
    moved = physics._replace(qpos=to.qpos, qvel=to.qvel)
    if not isinstance(physics.row, dict):
        return moved._replace(row=bits(row), tracked=bits(tracked))
    assert physics.row["act"].size == 0, "no task has activations, which would lie in between"
    nq, nv = to.qpos.shape[1], to.qvel.shape[1]
    warmstart = row[:, 1 + nq + nv :][:, :nv]  # mjSTATE_INTEGRATION: time, qpos, qvel, warm start
    ((name, like),) = physics.tracked.items() if physics.tracked else (("", np.zeros(len(row))),)
    return moved._replace(
        row={**physics.row, "time": row[:, 0], "qacc_warmstart": warmstart},
        tracked={name: tracked.reshape(like.shape)} if name else {},
    )


def elliptic(task: str, folder: str) -> str:
    """A copy of the task's model with elliptic friction cones."""
    text, count = re.subn("<option ", '<option cone="elliptic" ', (ASSETS / f"{task}.xml").read_text())
    assert count == 1
    path = Path(folder, f"{task}_elliptic.xml")
    path.write_text(text)
    return str(path)


def failures(report: dict[str, Any], tolerance: dict[str, tuple[float, float]]) -> list[str]:
    """Return the parts of a comparison that are beyond their tolerance."""
    found = []
    for name, limits in tolerance.items():
        for statistic, limit in zip(("median", "max"), limits, strict=True):
            if not report[name][statistic] <= limit:
                found.append(f"{name}: {statistic} {report[name][statistic]}, at most {limit}")
    counts = {name: report[name] for name in ("terminated_differs", "diverged")}
    return found + [f"{name}: {count}" for name, count in counts.items() if count]


def main() -> None:
    """Compare the tasks that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", default=sorted(TOLERANCES))
    parser.add_argument("--states", type=int, default=NUM_STATES)
    parser.add_argument("--out", type=machine.out_file, help="a JSON file; the terminal without it")
    args = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for task in args.tasks:
            name, _, cone = task.partition("-")
            kwargs = {"xml_file": elliptic(name, folder)} if cone else {}
            began = time.perf_counter()
            report = compare(name, args.states, **kwargs) | {"task": task}
            report.pop("xml_file", None)
            report["seconds"] = round(time.perf_counter() - began, 1)
            report["beyond_tolerance"] = failures(report, TOLERANCES[task])
            results.append(report)
            print(json.dumps(report), flush=True)
    if args.out:
        whole = {
            "command": f"NPROC=8 python benchmarks/fidelity.py --states {args.states}",
            "date": time.strftime("%Y-%m-%d"),
            "machine": machine.describe(),
            "tolerances": TOLERANCES,
            "results": results,
        }
        args.out.write_text(json.dumps(whole, indent=2) + "\n")


if __name__ == "__main__":
    main()
