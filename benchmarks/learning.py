"""Learning runs whose protocol is fixed here, before they run; every seed is reported.

    python benchmarks/learning.py sac-half_cheetah-100k

writes `benchmarks/results/learning/NAME.json`: the protocol, each seed's evaluations, and whether
each seed passed the bar at some evaluation. Where success is told apart from return, it counts too.

    python benchmarks/learning.py ppo-hopper-1m
    python benchmarks/learning.py --table

The runs of the on-policy family have one bar for the mean over all seeds of their last 10 evaluations,
each of whole episodes of the deterministic policy; the second line prints a table of all that are there.
Their settings are those of `purerl/presets.yaml`, which were tuned on other seeds (root 9000).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import machine
import numpy as np
import successes

import purerl
from purerl.config import to_dict


class Protocol(NamedTuple):
    """One learning run and what it must reach."""

    algo: str
    env: str
    seeds: int
    fields: dict[str, Any]
    bar: float
    """Each seed's mean evaluation return must reach this at some evaluation."""
    success: float | None = None
    """And its last policy must have success in this share of 500 fresh episodes."""
    last: int = 0
    """Instead, the mean over seeds of the mean of this many last evaluations must reach the bar."""


CARTPOLE = {"total_timesteps": 200_000, "eval_interval": 10_000, "eval_episodes": 20}
SWING = {"total_timesteps": 300_000, "gamma": 0.9, "eval_interval": 20_000, "eval_episodes": 20}
MASKED = {"env_kwargs": {"mask_velocity": True}}
WITHOUT_MEMORY = {
    "num_envs": 16,
    "num_steps": 64,
    "num_minibatches": 4,
    "learning_rate": 1e-3,
    "normalize_reward": True,
}
"""What makes PPO's settings those of recurrent PPO's defaults."""
PROTOCOLS = {
    # Classic settings: 1 environment, 1 update a step, the defaults of SACConfig.
    "sac-half_cheetah-100k": Protocol("sac", "half_cheetah", 2, {"total_timesteps": 100_000}, 3_000),
    # One of those two seeds stayed at 1,200; a third, from another root, before anything is changed.
    "sac-half_cheetah-100k-another": Protocol(
        "sac", "half_cheetah", 1, {"total_timesteps": 100_000, "seed": 1}, 3_000
    ),
    "sac-pendulum-20k": Protocol(
        "sac", "pendulum", 3, {"total_timesteps": 20_000, "eval_interval": 2_000, "eval_episodes": 20}, -200
    ),
    "ppo-cartpole-150k": Protocol(
        "ppo", "cartpole", 5, {"total_timesteps": 150_000, "eval_interval": 10_000, "eval_episodes": 20}, 475
    ),
    # The defaults of each algorithm.
    "ppo-cartpole-200k": Protocol("ppo", "cartpole", 5, CARTPOLE, 475),
    "a2c-cartpole-200k": Protocol("a2c", "cartpole", 5, CARTPOLE, 475),
    "trpo-cartpole-200k": Protocol("trpo", "cartpole", 5, CARTPOLE, 475),
    "vpg-cartpole-500k": Protocol("vpg", "cartpole", 5, CARTPOLE | {"total_timesteps": 500_000}, 475),
    # What needs a memory, with one and, from the same settings, without.
    "recurrent_ppo-masked-cartpole-200k": Protocol("recurrent_ppo", "cartpole", 5, CARTPOLE | MASKED, 475),
    "ppo-masked-cartpole-200k": Protocol(
        "ppo",
        "cartpole",
        5,
        CARTPOLE | MASKED | WITHOUT_MEMORY | {"num_epochs": 4},
        475,
    ),
    # The settings of the preset for it, and the same without a memory.
    "recurrent_ppo-masked-pendulum-300k": Protocol(
        "recurrent_ppo", "pendulum", 5, SWING | MASKED | {"num_epochs": 10}, -300
    ),
    "ppo-masked-pendulum-300k": Protocol(
        "ppo",
        "pendulum",
        5,
        SWING | MASKED | WITHOUT_MEMORY | {"num_epochs": 10},
        -300,
    ),
    # Settings that are usual for it elsewhere, untuned by us; Gymnasium calls 200 solved.
    "ppo-gym-lunar_lander-1m": Protocol(
        "ppo",
        "gym:LunarLander-v3",
        3,
        {"total_timesteps": 1_000_000, "num_envs": 16, "num_steps": 1_024, "num_minibatches": 256}
        | {"num_epochs": 4, "gamma": 0.999, "gae_lambda": 0.98, "ent_coef": 0.01}
        | {"log_interval": 16_384, "eval_interval": 50_000, "eval_episodes": 20},
        200,
    ),
    # Settled on other roots (100 to 102), in one or two runs of one seed each.
    "ppo-rover-1m": Protocol(
        "ppo",
        "rover",
        3,
        {"total_timesteps": 1_000_000, "num_envs": 32, "num_steps": 128}
        | {"eval_interval": 200_000, "eval_episodes": 100},
        13,
        0.9,
    ),
    "sac-rover-120k": Protocol(
        "sac",
        "rover",
        3,
        {"total_timesteps": 120_000, "num_envs": 4, "updates_per_step": 2, "learning_starts": 2_000}
        | {"learning_rate": 1e-3, "hidden_sizes": (128, 128), "eval_interval": 20_000, "eval_episodes": 100},
        13,
        0.9,
    ),
}

FINAL_BARS = {
    "vpg": (496.8, 420.2, 360.9, 429.8, 63.6),
    "a2c": (1882.0, 1212.6, 1145.2, 9123.6, 37.1),
    "trpo": (4402.6, 2020.4, 3699.2, 6731.6, 95.0),
    "ppo": (5708.2, 3022.0, 3673.6, 8763.6, 111.2),
}
"""The best published final returns after 1,000,000 steps: Tianshou's but for Hopper (VPG: Spinning Up, PPO:
Stable-Baselines3 in the MR.Q paper), Walker2d with PPO (ikostrikov), InvertedDoublePendulum with TRPO and
Swimmer (VPG: Spinning Up; TRPO, PPO: OpenAI baselines)."""
FINAL_TASKS = ("half_cheetah", "hopper", "walker2d", "inverted_double_pendulum", "swimmer")
PROTOCOLS |= {
    f"{algo}-{env}-1m": Protocol(
        algo,
        env,
        10,
        {"total_timesteps": 1_000_000, "eval_interval": 20_000, "eval_episodes": 3, "seed": 0},
        bar,
        last=10,
    )
    for algo, bars in FINAL_BARS.items()
    for env, bar in zip(FINAL_TASKS, bars, strict=True)
}
RESULTS = Path(__file__).parent / "results" / "learning"


def config_of(protocol: Protocol) -> purerl.Config:
    """The preset for a run whose last evaluations count, the algorithm's defaults for the others."""
    if protocol.last:
        return purerl.from_preset(f"{protocol.algo}-{protocol.env}", **protocol.fields)
    return purerl.make_config(protocol.algo, env=protocol.env, **protocol.fields)


def table() -> str:
    """The last evaluations of the on-policy family, in Markdown."""
    lines = [
        "| algorithm | task | mean | deviation over seeds | each seed | published |",
        "|---|---|---|---|---|---|",
    ]
    for name, protocol in PROTOCOLS.items():
        path = RESULTS / f"{name}.json"
        if protocol.last and path.exists():
            finals = np.array(json.loads(path.read_text())["final_returns"])
            each = ", ".join(f"{final:,.0f}" for final in np.sort(finals))
            mean, spread = f"{finals.mean():,.0f}", f"{finals.std():,.0f}"
            bar = f"{protocol.bar:,.0f}"
            lines.append(f"| {protocol.algo} | {protocol.env} | {mean} | {spread} | {each} | {bar} |")
    return "\n".join(lines)


def main() -> None:
    """Run the protocol named on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=PROTOCOLS, nargs="?")
    parser.add_argument("--table", action="store_true", help="print what was recorded, and run nothing")
    parser.add_argument("--logdir", help="keep the run's logs here")
    arguments = parser.parse_args()
    if arguments.table or not arguments.name:
        print(table())
        return
    protocol = PROTOCOLS[arguments.name]
    cfg = config_of(protocol)
    began = machine.describe()
    run = purerl.run(cfg, protocol.seeds, arguments.logdir)
    returns, episodes = run.metrics["eval/return"], run.metrics["episode/return"]
    evaluated = np.isfinite(returns[0])
    passed = [run.steps[evaluated][row >= protocol.bar] for row in returns[:, evaluated]]
    good = [row.size > 0 for row in passed]
    rates = []
    if protocol.success is not None:
        env = purerl.make_env(protocol.env)
        keys = jax.random.split(jax.random.key(1_000), protocol.seeds)
        rates = [successes.of_seed(cfg, env, run.state, i, keys[i], 500) for i in range(protocol.seeds)]
        good = [reached and rate >= protocol.success for reached, rate in zip(good, rates, strict=True)]
    finals = returns[:, evaluated][:, -protocol.last :].mean(axis=1) if protocol.last else np.array([])
    if protocol.last:
        good = [bool(finals.mean() >= protocol.bar)]
    result = {
        "command": f"python benchmarks/learning.py {arguments.name}",
        "date": time.strftime("%Y-%m-%d"),
        "protocol": protocol._asdict(),
        "steps": run.steps[evaluated].tolist(),
        "eval_return": returns[:, evaluated].round(2).tolist(),
        "last_episode_return": episodes[:, -1].round(2).tolist(),
        "first_step_at_bar": [int(row[0]) if row.size else None for row in passed],
        "success": np.round(rates, 3).tolist(),
        "final_returns": finals.round(1).tolist(),
        "passed": all(good),
        "config": to_dict(cfg),
        "compile_seconds": round(run.compile_seconds, 1),
        "run_seconds": round(run.run_seconds, 1),
        "steps_per_second": round(protocol.seeds * int(run.steps[-1]) / run.run_seconds, 1),
        "machine": began,
    }
    path = RESULTS / f"{arguments.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
