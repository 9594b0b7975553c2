"""Success rates of policies: the share of episodes with `info["success"]`.

    python benchmarks/successes.py

writes `benchmarks/results/rover_baselines.json`: what the rover reaches by chance, and by driving
straight at the goal as if nothing stood between.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import machine
import numpy as np

import purerl


def success_rate(env: Any, act: Callable, key: Any, num_episodes: int) -> float:
    """The share of `num_episodes` fresh episodes in which `act(obs [N, O], key)` has success."""

    def step(loop, key):
        obs, state, alive, reached = loop
        key_act, key_step = jax.random.split(key)
        obs, state, _, terminated, truncated, info = jax.vmap(env.step)(
            jax.random.split(key_step, num_episodes), state, act(obs, key_act)
        )
        reached |= alive & (info["success"] > 0)
        return (obs, state, alive & ~(terminated | truncated), reached), None

    @jax.jit
    def play(key):
        key_reset, key_loop = jax.random.split(key)
        obs, state = jax.vmap(env.reset)(jax.random.split(key_reset, num_episodes))
        flags = jnp.ones(num_episodes, bool), jnp.zeros(num_episodes, bool)
        keys = jax.random.split(key_loop, env.max_episode_steps)
        return jax.lax.scan(step, (obs, state, *flags), keys)[0][-1].mean()

    return float(play(key))


def of_seed(cfg: Any, env: Any, state: Any, seed: int, key: Any, num_episodes: int) -> float:
    """The success rate of what one seed of a run has learned, without exploration noise."""
    policy = purerl.make_policy(cfg, state, seed=seed, env=env)
    act = lambda obs, key: policy.act(policy.init(num_episodes), obs, key)[0]  # a policy without RNN state
    return success_rate(env, act, key, num_episodes)


def by_chance(obs, key):
    """Wheel speeds `[N, 2]`, uniform in their range."""
    return 10 * jax.random.uniform(key, (len(obs), 2), minval=-1.0)


def straight_at_the_goal(obs, key):
    """Turn towards the goal, drive on while it is ahead, and see no pillar."""
    bearing, turning = jnp.arctan2(obs[:, 18], obs[:, 17]), 5 * obs[:, 20]
    ahead, turn = (obs[:, 17] > 0.9).astype(jnp.float32), 0.4 * bearing - 0.1 * turning
    return 10 * jnp.clip(jnp.stack([ahead - turn, ahead + turn], 1), -1, 1)


def main() -> None:
    """Measure both."""
    env, result = purerl.make_env("rover"), {}
    for name, act in {"by chance": by_chance, "straight at the goal": straight_at_the_goal}.items():
        rates = [success_rate(env, act, jax.random.key(i), 500) for i in range(3)]
        result[name] = np.round(rates, 3).tolist()
    what = {"command": "python benchmarks/successes.py", "date": time.strftime("%Y-%m-%d"), "episodes": 500}
    result = {**what, "success": result, "machine": machine.describe()}
    path = Path(__file__).parent / "results" / "rover_baselines.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
