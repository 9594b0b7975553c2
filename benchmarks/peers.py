"""Other libraries' training beside ours: a child process that trains on request, and waits otherwise.

Each is installed in an interpreter of its own, gets the hyperparameters of one of our configs, and is left
at its own defaults elsewhere. None of them normalises observations.

- SBX and Stable-Baselines3 on Gymnasium's environments, which they step in Python. One seed.
- purejaxrl's `ppo.py` and `dqn.py` on gymnax's cartpole, and purejaxql's `pqn_minatar.py` on gymnax's MinAtar
  games: as many seeds as ours under one `vmap`. Each is a program of a whole run, compiled before the first
  measurement; every measurement is of whole runs, each from fresh keys. That PPO always clips the value, by
  `clip_eps`. They are no packages: their interpreter needs the folder `purejaxrl`, or `purejaxql` of the
  other repository, on the path (say, in a `.pth` file), `flax`, `distrax`, `flashbax` and `gymnax==0.0.9`.
  The child gives back to jax the name that this gymnax uses, and stands in for what the scripts import
  besides: other worlds, and tools of logging. None of that is in what is timed.
- CleanRL's `dqn_jax.py`. It is a script of a whole run, too, and compiles in each: what is timed is what a
  longer run takes beyond one that ends soon after the warm-up. Its interpreter needs the repository on the
  path, `torch`, `tensorboard`, `tyro` and `gymnasium==0.29.1`.
"""

from __future__ import annotations

import json
import subprocess
from typing import Any

from purerl.config import Config

STABLE = {"sbx": "sbx", "sb3": "stable_baselines3"}
"""Module by short name."""
WHOLE_RUNS = {("purejaxrl", "ppo"): "ppo", ("purejaxrl", "dqn"): "dqn", ("purejaxql", "pqn"): "pqn_minatar"}
"""Module by short name and algorithm."""
LIBRARIES = ("sbx", "sb3", "purejaxrl", "purejaxql", "cleanrl")

GYMNASIUM_IDS = {
    "ant": "Ant-v5",
    "cartpole": "CartPole-v1",
    "half_cheetah": "HalfCheetah-v5",
    "pendulum": "Pendulum-v1",
}
GYMNAX_IDS = {"cartpole": "CartPole-v1", "breakout": "Breakout-MinAtar", "asterix": "Asterix-MinAtar"}

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

JAX_PROGRAM = """
import hashlib, importlib, importlib.metadata, json, sys, time
from unittest import mock
import jax

jax.tree_map = jax.tree.map
worlds = "brax", "brax.envs", "brax.envs.wrappers", "brax.envs.wrappers.training", "navix"
for name in (*worlds, "wandb", "hydra", "omegaconf"):
    sys.modules[name] = mock.MagicMock()

module, config, seeds = json.loads(sys.argv[1])
script = importlib.import_module(module)
train = script.make_train(config)
train = jax.jit(train if seeds == 1 else jax.vmap(train))
run_steps = config["NUM_UPDATES"] * config.get("NUM_STEPS", 1) * config["NUM_ENVS"] * seeds

def run(i):
    keys = jax.random.split(jax.random.PRNGKey(i), seeds)
    jax.block_until_ready(train(keys[0] if seeds == 1 else keys))

run(0)
names = ("jax", "flax", "distrax", "flashbax", "gymnax")
versions = {name: importlib.metadata.version(name) for name in names}
versions[module + ".py"] = "sha256 " + hashlib.sha256(open(script.__file__, "rb").read()).hexdigest()[:12]
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

CLEANRL = """
import hashlib, importlib.metadata, json, os, pathlib, runpy, sys, tempfile, time
import cleanrl_utils

script, flags, warmup, exploration, least = json.loads(sys.argv[1])
script = pathlib.Path(cleanrl_utils.__file__).parents[1] / "cleanrl" / script
os.chdir(tempfile.mkdtemp())

def seconds(steps):
    more = {"total_timesteps": steps, "exploration_fraction": exploration / steps}
    words = [str(word) for name, value in (flags | more).items() for word in ("--" + name, value)]
    sys.argv, began = [str(script), *words], time.perf_counter()
    runpy.run_path(str(script), run_name="__main__")
    return time.perf_counter() - began

names = ("jax", "flax", "torch", "gymnasium")
versions = {name: importlib.metadata.version(name) for name in names}
versions[script.name] = "sha256 " + hashlib.sha256(script.read_bytes()).hexdigest()[:12]
seconds(warmup)
print("answer", json.dumps(versions), flush=True)
for line in sys.stdin:
    steps = max(int(line), least)
    print("answer", steps / (seconds(warmup + steps) - seconds(warmup)), flush=True)
"""
"""As STABLE_BASELINES does, for at least `least` steps, so that the difference is more than noise."""


def matching_fields(library: str, cfg: Config, seeds: int = 1) -> dict[str, Any] | None:
    """The arguments that make `library` do the work of `seeds` of `cfg`; None where it cannot."""
    if library in ("purejaxrl", "purejaxql"):
        fields_of = {"ppo": ppo_fields, "dqn": dqn_fields, "pqn": pqn_fields}
        known = (library, cfg.algo) in WHOLE_RUNS and cfg.env in GYMNAX_IDS
        return fields_of[cfg.algo](cfg) if known else None
    if cfg.env not in GYMNASIUM_IDS or seeds > 1:
        return None
    ours: Any = cfg
    if library == "cleanrl":
        return cleanrl_fields(ours) if cfg.algo == "dqn" else None
    if cfg.algo not in ("ppo", "sac", "td3", "dqn") or (library, cfg.algo) == ("sbx", "dqn"):
        return None
    fields = {name: getattr(ours, name) for name in ("learning_rate", "gamma")}
    fields["policy_kwargs"] = {"net_arch": list(ours.hidden_sizes)}
    if cfg.algo == "dqn":
        return fields | {
            "tau": ours.tau,
            "batch_size": ours.batch_size,
            "buffer_size": ours.buffer_size,
            "learning_starts": ours.learning_starts,
            "train_freq": round(1 / ours.updates_per_step),
            "target_update_interval": round(ours.target_period / ours.updates_per_step),
            "exploration_final_eps": 0.05,
        }
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


def cleanrl_fields(ours: Any) -> dict[str, Any] | None:
    """The options of CleanRL's `dqn_jax.py`; None where its network or its steps are others."""
    if tuple(ours.hidden_sizes) != (120, 84) or ours.num_envs > 1:
        return None
    return {
        "learning_rate": ours.learning_rate,
        "buffer_size": ours.buffer_size,
        "gamma": ours.gamma,
        "tau": ours.tau,
        "target_network_frequency": round(ours.target_period / ours.updates_per_step),
        "batch_size": ours.batch_size,
        "learning_starts": ours.learning_starts,
        "train_frequency": round(1 / ours.updates_per_step),
    }


def dqn_fields(ours: Any) -> dict[str, Any] | None:
    """The `config` of purejaxrl's `dqn.py`; None where its network is another, or its rhythm."""
    if tuple(ours.hidden_sizes) != (120, 84) or ours.updates_per_step != 1:
        return None
    return {
        "NUM_ENVS": ours.num_envs,
        "BUFFER_SIZE": ours.buffer_size,
        "BUFFER_BATCH_SIZE": ours.batch_size,
        "TOTAL_TIMESTEPS": ours.total_timesteps,
        "EPSILON_START": 1.0,
        "EPSILON_FINISH": 0.05,
        "EPSILON_ANNEAL_TIME": ours.epsilon_fraction * ours.total_timesteps,
        "TARGET_UPDATE_INTERVAL": ours.target_period * ours.num_envs,
        "LR": ours.learning_rate,
        "LEARNING_STARTS": ours.learning_starts,
        "TRAINING_INTERVAL": ours.num_envs,
        "GAMMA": ours.gamma,
        "TAU": ours.tau,
        "ENV_NAME": GYMNAX_IDS[ours.env],
        "WANDB_MODE": "disabled",
    }


def pqn_fields(ours: Any) -> dict[str, Any] | None:
    """The `config` of purejaxql's `pqn_minatar.py`; None where its network is another."""
    if tuple(ours.hidden_sizes) != (128,) or ours.env == "cartpole":
        return None
    return {
        "TOTAL_TIMESTEPS": ours.total_timesteps,
        "TOTAL_TIMESTEPS_DECAY": ours.total_timesteps,
        "NUM_ENVS": ours.num_envs,
        "NUM_STEPS": ours.num_steps,
        "EPS_START": 1.0,
        "EPS_FINISH": 0.05,
        "EPS_DECAY": 0.1,
        "NUM_MINIBATCHES": ours.num_minibatches,
        "NUM_EPOCHS": ours.num_epochs,
        "NORM_TYPE": "layer_norm",
        "LR": ours.learning_rate,
        "MAX_GRAD_NORM": ours.max_grad_norm or 1e9,
        "LR_LINEAR_DECAY": ours.anneal_lr,
        "GAMMA": ours.gamma,
        "LAMBDA": ours.td_lambda,
        "ENV_NAME": GYMNAX_IDS[ours.env],
        "TEST_DURING_TRAINING": False,
        "WANDB_MODE": "disabled",
    }


def ppo_fields(ours: Any) -> dict[str, Any] | None:
    """The `config` of purejaxrl's `ppo.py`, where networks are 64 x 64; None where it cannot do our work."""
    if ours.env != "cartpole":
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
        "ENV_NAME": GYMNAX_IDS[ours.env],
        "ANNEAL_LR": ours.anneal_lr,
        "DEBUG": False,  # it would print every episode
    }


class Peer:
    """A peer's training, past its warm-up and its compilation."""

    def __init__(self, library: str, python: str, cfg: Config, seeds: int = 1):
        """Start `library`, a key of LIBRARIES, in the interpreter `python`; it has `matching_fields`."""
        self.fields = matching_fields(library, cfg, seeds)
        if (library, cfg.algo) in WHOLE_RUNS:
            program, wanted = JAX_PROGRAM, [WHOLE_RUNS[library, cfg.algo], self.fields, seeds]
        elif library == "cleanrl":
            warmup = getattr(cfg, "learning_starts", 0) + BEGIN
            explored = getattr(cfg, "epsilon_fraction", 0.0) * cfg.total_timesteps
            program, wanted = CLEANRL, ["dqn_jax.py", self.fields, warmup, explored, 20_000]
        else:
            names = [STABLE[library], cfg.algo.upper(), GYMNASIUM_IDS[cfg.env]]
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
