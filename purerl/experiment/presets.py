"""Named settings, read from `purerl/presets.yaml`: tuned ones, for algorithms and tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from purerl import registry
from purerl.config import Config, ConfigError, did_you_mean
from purerl.experiment.config_file import cast, read_config
from purerl.make import make_config

FILE = Path(__file__).parents[1] / "presets.yaml"


def read_presets() -> dict[str, dict[str, Any]]:
    """The fields of every preset by its name, with `algo` among them."""
    return read_config(FILE)["presets"]


def preset_fields(name: str) -> dict[str, Any]:
    """The fields of the preset `name`, with `algo` among them. Raises ConfigError for an unknown name."""
    presets = read_presets()
    if name not in presets:
        raise ConfigError("preset", name, f"known are {', '.join(presets)}", did_you_mean(name, presets))
    fields = presets[name]
    return {"algo": fields["algo"]} | cast(registry.config_class(fields["algo"]), fields)


def from_preset(name: str, **fields: Any) -> Config:
    """The configuration that `purerl/presets.yaml` has under `name`, with `fields` in place of its own.

    Args:
        name: such as "ppo-half_cheetah".
        **fields: any field of that algorithm's config, such as `total_timesteps=3_000_000`.

    Raises:
        ConfigError: for an unknown preset or field, or a value that is not allowed.
    """
    return make_config(**(preset_fields(name) | fields))
