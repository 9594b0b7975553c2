"""Other libraries' training beside ours: a child process that trains when told to, and waits otherwise.

SBX and Stable-Baselines3, with the hyperparameters of one of our configs, on Gymnasium's environments.
They are installed in an interpreter of their own, and left at their own defaults elsewhere: neither
normalises observations, and both step their environments in Python.
"""

from __future__ import annotations

import json
import subprocess
from typing import Any

from purerl.config import Config

LIBRARIES = {"sbx": "sbx", "sb3": "stable_baselines3"}
"""Module by short name."""

GYMNASIUM_IDS = {
    "ant": "Ant-v5",
    "cartpole": "CartPole-v1",
    "half_cheetah": "HalfCheetah-v5",
    "pendulum": "Pendulum-v1",
}

BEGIN = 2_000
"""Steps before the first measurement: the warm-up, and everything compiled."""

CHILD = """
import importlib, importlib.metadata, json, sys, time
from stable_baselines3.common.env_util import make_vec_env

module, algo, env, num_envs, fields, begin = json.loads(sys.argv[1])
envs = make_vec_env(env, n_envs=num_envs, seed=0)
model = getattr(importlib.import_module(module), algo)("MlpPolicy", envs, seed=0, **fields)
model.learn(begin)
wanted = {"sbx-rl", "stable-baselines3", "torch", "jax", "gymnasium", "mujoco"}
found = importlib.metadata.distributions()
versions = {d.name.replace("_", "-"): d.version for d in found if d.name.replace("_", "-") in wanted}
print("answer", json.dumps(versions), flush=True)
for line in sys.stdin:
    before, began = model.num_timesteps, time.perf_counter()
    model.learn(int(line), reset_num_timesteps=False)
    print("answer", (model.num_timesteps - before) / (time.perf_counter() - began), flush=True)
"""


def matching_fields(cfg: Config) -> dict[str, Any] | None:
    """The arguments that make a peer's algorithm do the work of `cfg`; None where they have no such one."""
    if cfg.env not in GYMNASIUM_IDS or cfg.algo not in ("ppo", "sac"):
        return None
    ours: Any = cfg
    fields = {name: getattr(ours, name) for name in ("learning_rate", "gamma")}
    fields["policy_kwargs"] = {"net_arch": list(ours.hidden_sizes)}
    if cfg.algo == "sac":
        return fields | {
            "tau": ours.tau,
            "batch_size": ours.batch_size,
            "buffer_size": min(ours.buffer_size, ours.total_timesteps),
            "learning_starts": ours.learning_starts,
            "gradient_steps": ours.updates_per_step,
            "ent_coef": "auto" if ours.ent_coef is None else ours.ent_coef,
        }
    return fields | {
        "n_steps": ours.num_steps,
        "batch_size": ours.num_envs * ours.num_steps // ours.num_minibatches,
        "n_epochs": ours.num_epochs,
        "gae_lambda": ours.gae_lambda,
        "clip_range": ours.clip_eps,
        "ent_coef": ours.ent_coef,
        "vf_coef": ours.vf_coef,
        "max_grad_norm": ours.max_grad_norm or 1e9,
    }


class Peer:
    """One seed of a peer's training, past its warm-up and its compilation."""

    def __init__(self, library: str, python: str, cfg: Config):
        """Start `library`, a key of LIBRARIES, in the interpreter `python`; `cfg` has a counterpart there."""
        self.fields = matching_fields(cfg)
        names = [LIBRARIES[library], cfg.algo.upper(), GYMNASIUM_IDS[cfg.env]]
        wanted = [*names, cfg.num_envs, self.fields, BEGIN]
        self.child = subprocess.Popen(
            [python, "-c", CHILD, json.dumps(wanted)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.versions: dict[str, str] = json.loads(self._answer())

    def measure(self, steps: int) -> float:
        """Environment steps per second while it trains `steps` more (or a whole rollout, if that is more)."""
        assert self.child.stdin
        self.child.stdin.write(f"{steps}\n")
        self.child.stdin.flush()
        return float(self._answer())

    def close(self) -> None:
        """End the process."""
        self.child.communicate()

    def _answer(self) -> str:
        assert self.child.stdout
        for line in self.child.stdout:  # the library may print lines of its own
            if line.startswith("answer "):
                return line.removeprefix("answer ")
        raise RuntimeError("the peer ended early; what it printed is above")
