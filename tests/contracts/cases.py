"""The tiny runs of the battery: each algorithm of the registry, with its optional parts switched on."""

import dataclasses

from tiny import environments_of, tiny

from purerl import registry
from purerl.config import Config

LAMBDA = {"value_lambda": 0.8}
SWITCHED_ON = {
    "sac": {"target_entropy": -1.0},  # of continuous and discrete actions alike
    "recurrent_sac": {"target_entropy": -1.0},
    "dqn": {"max_grad_norm": 1.0, "updates_per_step": 1.0, "target_period": 2, "huber_delta": 1.0}
    | {"epsilon_start": 1.0, "epsilon_end": 0.5, "epsilon_fraction": 0.9},
    "pqn": {"epsilon_start": 1.0, "epsilon_end": 0.5, "epsilon_fraction": 0.9},
    "a2c": LAMBDA | {"shared_torso": True},
    "ppo": LAMBDA
    | {"normalize_reward": True, "recompute_advantages": True, "early_stop_kl": 0.05, "value_clip_eps": 0.1},
    "recurrent_ppo": LAMBDA,
    "trpo": LAMBDA | {"layer_norm": True, "target_kl": 0.2},  # so far that the search turns back
}
"""Switches and optional real fields that are off by default."""
PRIORITISED = {"prioritised": True, "priority_alpha": 0.6, "priority_beta": 0.4}
REFUSED = {"recurrent_sac": {"priority_alpha", "priority_beta"}}
"""Leaves that an algorithm has and takes no value of."""
VARIANTS = {
    "sac-fixed_temperature": ("sac-pendulum", {"ent_coef": 0.2, "target_entropy": None}),
    "sac-efficient": (
        "sac-pendulum",
        {"norm": "batch", "critic": "categorical", "normalize_reward": True, "actor_every": 2}
        | {"noise_repeat": 4, "init_ent_coef": 0.01, "target_entropy": None, "target_entropy_factor": 0.5}
        | {"v_min": -5.0, "v_max": 5.0},
    ),
    "sac-prioritised": (
        "sac-cartpole",
        PRIORITISED | {"norm": "layer", "n_step": 3, "updates_per_step": 0.5, "target_entropy": None},
    ),
    "recurrent_sac-fixed_temperature": (
        "recurrent_sac-pendulum",
        {"ent_coef": 0.2, "target_entropy": None, "norm": "layer", "updates_per_step": 0.5},
    ),
    "recurrent_sac-categorical": (
        "recurrent_sac-pendulum",
        {"critic": "categorical", "normalize_reward": True, "actor_every": 2, "noise_repeat": 4}
        | {"target_entropy": None, "init_ent_coef": 0.01, "target_entropy_factor": 0.5}
        | {"v_min": -5.0, "v_max": 5.0},
    ),
    "dqn-rainbow": (
        "dqn-cartpole",
        PRIORITISED
        | {"double": True, "dueling": True, "noisy": True, "n_step": 3, "updates_per_step": 0.5}
        | {
            "learning_rate": 1e-3,
            "epsilon_start": None,
            "epsilon_end": None,
            "epsilon_fraction": None,
            "huber_delta": None,
        }
        | {"critic": "categorical", "v_min": -5.0, "v_max": 5.0},
    ),
    "dqn-munchausen": (
        "dqn-cartpole",
        {"critic": "implicit", "num_quantiles": 4, "munchausen": True}
        | {"munchausen_alpha": 0.8, "munchausen_tau": 0.1, "munchausen_clip": 2.0},
    ),
    "dqn-quantile": ("dqn-cartpole", {"critic": "quantile", "num_quantiles": 4, "normalize_reward": True}),
    "ddpg-prioritised": ("ddpg-pendulum", PRIORITISED),
    "td3-prioritised": ("td3-pendulum", PRIORITISED | {"n_step": 3}),
    "ppo-penalty": ("ppo-pendulum", {"clip_eps": None, "kl_penalty_target": 0.05, "early_stop_kl": None}),
}
"""Runs with leaves that the others cannot have, as (case, other fields)."""


def _runs() -> dict[str, Config]:
    """Return every algorithm on every environment that suits it, and the variants."""
    runs = {}
    for algo, cls in zip(registry.ALGORITHMS, map(registry.config_class, registry.ALGORITHMS), strict=True):
        for env in environments_of(cls):
            runs[f"{algo}-{env}"] = tiny(cls, env, **SWITCHED_ON.get(algo, {}))
    return runs | {
        name: dataclasses.replace(runs[case], **fields) for name, (case, fields) in VARIANTS.items()
    }


RUNS = _runs()
FIRST = [f"{algo}-{environments_of(registry.config_class(algo))[0]}" for algo in registry.ALGORITHMS]
"""One run of each algorithm: the quick tests have these."""
