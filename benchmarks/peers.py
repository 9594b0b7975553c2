"""Other libraries' training beside ours: a child process that trains on request, and waits otherwise.

Each is installed in an interpreter of its own, gets the hyperparameters of one of our configs, and is left
at its own defaults elsewhere. None of them normalises observations.

- SBX and Stable-Baselines3 on Gymnasium's environments, which they step in Python. One seed.
- purejaxrl's `ppo.py` on gymnax's cartpole, as many seeds as ours under one `vmap`. It always clips the
  value, by `clip_eps`. It is a program of a whole run, compiled before the first measurement; every
  measurement is of whole runs, each from fresh keys. It is no package: its interpreter needs the folder
  `purejaxrl` of its repository on the path (say, in a `.pth` file), `flax`, `distrax` and `gymnax==0.0.9`.
  The child gives back to jax the name that this gymnax uses, and stands in for the physics and grid worlds
  that `wrappers.py` imports; neither is in what is timed.
"""

from __future__ import annotations

import json
import subprocess
from typing import Any

from purerl.config import Config

LIBRARIES = {"sbx": "sbx", "sb3": "stable_baselines3", "purejaxrl": "ppo"}
"""Module by short name."""

GYMNASIUM_IDS = {
    "ant": "Ant-v5",
    "cartpole": "CartPole-v1",
    "half_cheetah": "HalfCheetah-v5",
    "pendulum": "Pendulum-v1",
}

BEGIN = 2_000
"""Steps before the first measurement, beyond the warm-up: everything is compiled."""

STABLE_BASELINES = """
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
"""Speaks with `Peer`: versions at first, and for every line, a number of steps, their rate."""

PUREJAXRL = """
import hashlib, importlib.metadata, json, sys, time
from unittest import mock
import jax

jax.tree_map = jax.tree.map
for name in ("brax", "brax.envs", "brax.envs.wrappers", "brax.envs.wrappers.training", "navix"):
    sys.modules[name] = mock.MagicMock()
import ppo

config, seeds = json.loads(sys.argv[1])
train = ppo.make_train(config)
train = jax.jit(train if seeds == 1 else jax.vmap(train))
run_steps = config["NUM_UPDATES"] * config["NUM_STEPS"] * config["NUM_ENVS"] * seeds

def run(i):
    keys = jax.random.split(jax.random.PRNGKey(i), seeds)
    jax.block_until_ready(train(keys[0] if seeds == 1 else keys))

run(0)
versions = {name: importlib.metadata.version(name) for name in ("jax", "flax", "distrax", "gymnax")}
versions["ppo.py"] = "sha256 " + hashlib.sha256(open(ppo.__file__, "rb").read()).hexdigest()[:12]
print("answer", json.dumps(versions), flush=True)
done = 1
for line in sys.stdin:
    runs, began = -(-int(line) // run_steps), time.perf_counter()
    for _ in range(runs):
        run(done)
        done += 1
    print("answer", runs * run_steps / (time.perf_counter() - began), flush=True)
"""
"""As STABLE_BASELINES does, for several seeds."""


def matching_fields(library: str, cfg: Config, seeds: int = 1) -> dict[str, Any] | None:
    """The arguments that make `library` do the work of `seeds` of `cfg`; None where it cannot."""
    if library == "purejaxrl":
        return purejaxrl_fields(cfg)
    if cfg.env not in GYMNASIUM_IDS or cfg.algo not in ("ppo", "sac", "td3") or seeds > 1:
        return None
    ours: Any = cfg
    fields = {name: getattr(ours, name) for name in ("learning_rate", "gamma")}
    fields["policy_kwargs"] = {"net_arch": list(ours.hidden_sizes)}
    if cfg.algo in ("sac", "td3"):
        fields |= {
            "tau": ours.tau,
            "batch_size": ours.batch_size,
            "buffer_size": min(ours.buffer_size, ours.total_timesteps),
            "learning_starts": ours.learning_starts,
            "gradient_steps": ours.updates_per_step,
        }
        if cfg.algo == "sac":
            return fields | {"ent_coef": "auto" if ours.ent_coef is None else ours.ent_coef}
        return fields | {
            "policy_delay": ours.policy_delay,
            "target_policy_noise": ours.target_noise,
            "target_noise_clip": ours.noise_clip,
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


def purejaxrl_fields(cfg: Config) -> dict[str, Any] | None:
    """The `config` of its `ppo.py`, where the networks are 64 x 64; None where that cannot do our work."""
    ours: Any = cfg
    if (cfg.algo, cfg.env) != ("ppo", "cartpole"):
        return None
    if tuple(ours.hidden_sizes) != (64, 64) or ours.activation not in ("tanh", "relu"):
        return None
    return {
        "LR": ours.learning_rate,
        "NUM_ENVS": ours.num_envs,
        "NUM_STEPS": ours.num_steps,
        "TOTAL_TIMESTEPS": ours.total_timesteps,
        "UPDATE_EPOCHS": ours.num_epochs,
        "NUM_MINIBATCHES": ours.num_minibatches,
        "GAMMA": ours.gamma,
        "GAE_LAMBDA": ours.gae_lambda,
        "CLIP_EPS": ours.clip_eps,
        "ENT_COEF": ours.ent_coef,
        "VF_COEF": ours.vf_coef,
        "MAX_GRAD_NORM": ours.max_grad_norm or 1e9,
        "ACTIVATION": ours.activation,
        "ENV_NAME": GYMNASIUM_IDS[cfg.env],
        "ANNEAL_LR": ours.anneal_lr,
        "DEBUG": False,  # it would print every episode
    }


class Peer:
    """A peer's training, past its warm-up and its compilation."""

    def __init__(self, library: str, python: str, cfg: Config, seeds: int = 1):
        """Start `library`, a key of LIBRARIES, in the interpreter `python`; it has `matching_fields`."""
        self.fields = matching_fields(library, cfg, seeds)
        if library == "purejaxrl":
            program, wanted = PUREJAXRL, [self.fields, seeds]
        else:
            names = [LIBRARIES[library], cfg.algo.upper(), GYMNASIUM_IDS[cfg.env]]
            begin = BEGIN + getattr(cfg, "learning_starts", 0)
            program, wanted = STABLE_BASELINES, [*names, cfg.num_envs, self.fields, begin]
        self.child = subprocess.Popen(
            [python, "-c", program, json.dumps(wanted)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.versions: dict[str, str] = json.loads(self._answer())

    def measure(self, steps: int) -> float:
        """Environment steps per second, summed over seeds, while it trains `steps` more.

        More than `steps`, where it can only do whole rollouts, or whole runs.
        """
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
