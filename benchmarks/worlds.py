"""Steps per second of our environments in pure JAX beside gymnax's, with random actions.

    python benchmarks/worlds.py --gymnax-python PYTHON_WITH_GYMNAX --out benchmarks/results/worlds.json

Both run one `lax.scan` over a `vmap` of `--num-envs` environments, in which actions are drawn, episodes that
end begin again, and the sum of all rewards is what comes out, so that nothing can be left out. `ours` is the
environment alone, `rollout` is `purerl.rollout.unroll`, whose transitions and episode statistics are used
too. gymnax runs in an interpreter of its own; all take turns, and `ratios` are medians over the turns of
our speed over gymnax's in the same turn. Gymnax's games have rules of their own: see `versions`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import machine

import purerl
from purerl import rollout

GYMNAX_IDS = {
    "acrobot": "Acrobot-v1",
    "asterix": "Asterix-MinAtar",
    "breakout": "Breakout-MinAtar",
    "cartpole": "CartPole-v1",
    "freeway": "Freeway-MinAtar",
    "mountain_car": "MountainCar-v0",
    "pendulum": "Pendulum-v1",
    "space_invaders": "SpaceInvaders-MinAtar",
}

GYMNAX = """
import importlib.metadata, json, sys, time
import jax, jax.numpy as jnp
import gymnax

name, num_envs, num_steps = json.loads(sys.argv[1])
env, params = gymnax.make(name)

def body(loop, key):
    state, total = loop
    key_act, key_step = jax.random.split(key)
    actions = jax.vmap(env.action_space(params).sample)(jax.random.split(key_act, num_envs))
    out = jax.vmap(env.step, (0, 0, 0, None))(jax.random.split(key_step, num_envs), state, actions, params)
    return (out[1], total + out[2].sum() + 1e-9 * out[0].sum()), None

@jax.jit
def run(key):
    key_reset, key_steps = jax.random.split(key)
    state = jax.vmap(env.reset, (0, None))(jax.random.split(key_reset, num_envs), params)[1]
    return jax.lax.scan(body, (state, jnp.float32(0)), jax.random.split(key_steps, num_steps))[0][1]

run(jax.random.PRNGKey(0)).block_until_ready()
print("answer", json.dumps({n: importlib.metadata.version(n) for n in ("gymnax", "jax")}), flush=True)
for line in sys.stdin:
    began = time.perf_counter()
    run(jax.random.PRNGKey(int(line))).block_until_ready()
    print("answer", num_envs * num_steps / (time.perf_counter() - began), flush=True)
"""
"""Speaks as a peer of benchmarks/peers.py does: versions at first, then a rate for every line."""


class Gymnax:
    """Gymnax in the interpreter `python`."""

    def __init__(self, python: str, task: str, num_envs: int, num_steps: int):
        wanted = json.dumps([GYMNAX_IDS[task], num_envs, num_steps])
        self._child = subprocess.Popen(
            [python, "-c", GYMNAX, wanted], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.versions = json.loads(self._answer())

    def __call__(self, seed: int) -> float:
        """Steps per second of one run."""
        assert self._child.stdin
        self._child.stdin.write(f"{seed}\n")
        self._child.stdin.flush()
        return float(self._answer())

    def close(self) -> None:
        """End the process."""
        self._child.communicate()

    def _answer(self) -> str:
        assert self._child.stdout
        for line in self._child.stdout:
            if line.startswith("answer "):
                return line.removeprefix("answer ")
        raise RuntimeError("gymnax ended early; what it printed is above")


def alone(env: Any, num_envs: int, num_steps: int) -> Callable[[int], float]:
    """Our environment in a scan, reset where it ended."""

    def body(loop, key):
        state, total = loop
        key_act, key_step, key_reset = jax.random.split(key, 3)
        action = rollout.uniform_action(env.action_space, key_act, num_envs)
        action = rollout.env_action(env.action_space, action)
        obs, state, reward, terminated, truncated, _ = jax.vmap(env.step)(
            jax.random.split(key_step, num_envs), state, action
        )
        ended = terminated | truncated
        fresh_obs, fresh = jax.vmap(env.reset)(jax.random.split(key_reset, num_envs))
        rows = lambda leaf: ended.reshape(ended.shape + (1,) * (leaf.ndim - 1))
        obs, state = jax.tree.map(
            lambda new, old: jnp.where(rows(new), new, old), (fresh_obs, fresh), (obs, state)
        )
        return (state, total + reward.sum() + 1e-9 * obs.sum()), None

    def run(key):
        key_reset, key_steps = jax.random.split(key)
        state = jax.vmap(env.reset)(jax.random.split(key_reset, num_envs))[1]
        return jax.lax.scan(body, (state, jnp.float32(0)), jax.random.split(key_steps, num_steps))[0][1]

    return timed(jax.jit(run), num_envs * num_steps)


def whole(env: Any, num_envs: int, num_steps: int) -> Callable[[int], float]:
    """The rollout of training, in pieces of 100 steps, as many as are learned from at a time."""

    def policy(carry, obs, key):
        return rollout.uniform_action(env.action_space, key, num_envs), carry, ()

    def body(sim, key):
        sim, _, seen, episodes = rollout.unroll(env, policy, sim, (), key, 100)
        leaves = jax.tree.leaves((seen, episodes))
        return sim, sum(leaf.astype(jnp.float32).sum() for leaf in leaves)

    def run(key):
        key_reset, key_steps = jax.random.split(key)
        sim = rollout.start(env, key_reset, num_envs)
        return jax.lax.scan(body, sim, jax.random.split(key_steps, num_steps // 100))[1]

    return timed(jax.jit(run), num_envs * (num_steps // 100) * 100)


def timed(run: Callable[..., Any], steps: int) -> Callable[[int], float]:
    """Steps per second of `run`, compiled before this returns."""
    jax.block_until_ready(run(jax.random.key(0)))

    def measure(seed: int) -> float:
        began = time.perf_counter()
        jax.block_until_ready(run(jax.random.key(seed)))
        return steps / (time.perf_counter() - began)

    return measure


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", default=["cartpole", "breakout"], help="ids of environments")
    parser.add_argument("--gymnax-python", help="an interpreter that has gymnax")
    parser.add_argument("--num-envs", type=int, default=2_048)
    parser.add_argument("--num-steps", type=int, default=1_000)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--out", type=machine.out_file, help="a JSON file; the terminal without it")
    args = parser.parse_args()
    before, results, sizes = machine.describe(), [], (args.num_envs, args.num_steps)
    for task in args.tasks:
        env = purerl.make_env(task)
        cases: dict[str, Any] = {"ours": alone(env, *sizes), "rollout": whole(env, *sizes)}
        if args.gymnax_python and task in GYMNAX_IDS:
            cases["gymnax"] = Gymnax(args.gymnax_python, task, *sizes)
        rates = {case: [] for case in cases}
        for turn in range(args.turns):
            for case, measure in cases.items():
                rates[case].append(measure(turn))
        result = {
            "task": task,
            "steps_per_second": {c: round(statistics.median(r)) for c, r in rates.items()},
        }
        result["each"] = {case: [round(rate) for rate in each] for case, each in rates.items()}
        if "gymnax" in cases:
            cases["gymnax"].close()
            result["versions"] = cases["gymnax"].versions
            for case in ("ours", "rollout"):
                pairs = zip(rates[case], rates["gymnax"], strict=True)
                result[f"{case}/gymnax"] = round(statistics.median(a / b for a, b in pairs), 2)
        results.append(result)
        print(json.dumps(result), flush=True)
    if args.out:
        tasks = " ".join(args.tasks)
        command = f"python benchmarks/worlds.py --tasks {tasks} --gymnax-python PYTHON_WITH_GYMNAX"
        command += f" --num-envs {args.num_envs} --num-steps {args.num_steps} --turns {args.turns}"
        report = {
            "command": command,
            "date": time.strftime("%Y-%m-%d"),
            "machine": before,
            "results": results,
        }
        args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
