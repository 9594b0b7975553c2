"""purerl: deep reinforcement learning as pure functions in JAX."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "purerl.config": ("Config", "ConfigError"),
    "purerl.envs.adapters.from_brax": ("from_brax", "from_playground"),
    "purerl.envs.adapters.from_gymnasium": ("from_gymnasium",),
    "purerl.envs.adapters.from_gymnax": ("from_gymnax",),
    "purerl.envs.adapters.to_gymnasium.env": ("to_gymnasium",),
    "purerl.envs.adapters.to_gymnasium.vector": ("to_gymnasium_vector",),
    "purerl.envs.check.check": ("EnvError", "check_env"),
    "purerl.envs.mujoco.custom": ("mujoco_env",),
    "purerl.evaluate": ("Policy",),
    "purerl.workbench.evaluation": ("Evaluation", "evaluate_run"),
    "purerl.workbench.export": ("export_policy",),
    "purerl.experiment.loading": ("kept_policies", "load"),
    "purerl.workbench.logger": ("EpochLogger", "Logger"),
    "purerl.experiment.untrusted": ("CheckpointError",),
    "purerl.workbench.grid": ("ExperimentGrid",),
    "purerl.workbench.report": ("write_report",),
    "purerl.workbench.video": ("record_video",),
    "purerl.workbench.window": ("watch",),
    "purerl.pbt": ("PBT",),
    "purerl.presets": ("from_preset",),
    "purerl.search_space": ("Range",),
    "purerl.experiment.runner": ("run",),
    "purerl.make": ("make_algorithm", "make_config", "make_env", "make_policy"),
    "purerl.registry": ("register_algorithm", "register_env"),
    "purerl.train": ("make_driver", "make_train"),
    "purerl.types": (
        "Algorithm",
        "Env",
        "EnvFunctions",
        "EnvSpec",
        "HostEnv",
        "Network",
        "TrainOutput",
        "TrainState",
        "Transition",
    ),
}
_MODULE_OF = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562), so that `import purerl` stays light."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'purerl' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
