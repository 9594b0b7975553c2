"""Tuned settings by name, read from `purerl/presets.yaml`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from purerl import registry
from purerl.cast import cast
from purerl.config import Config, ConfigError, did_you_mean
from purerl.config_file import read_config
from purerl.make import make_config

FILE = Path(__file__).with_name("presets.yaml")


def preset_names() -> list[str]:
    """Return the names of all presets."""
    return list(read_config(FILE)["presets"])


def preset_fields(name: str) -> dict[str, Any]:
    """Return the fields of preset `name`: `algo`, its own, and those of the presets it is `like`.

    Raises:
        ConfigError: for an unknown name, or a preset that is like itself.
    """
    presets = read_config(FILE)["presets"]
    source, fields, read = "preset", {}, set()
    while name is not None:
        if not isinstance(name, str) or name not in presets:
            raise ConfigError(source, name, f"one of {', '.join(presets)}", did_you_mean(str(name), presets))
        if name in read:
            raise ConfigError(source, name, f"a preset that is not like {name} itself")
        read.add(name)
        fields = presets[name] | fields
        source, name = "like", fields.pop("like", None)
    return fields


def from_preset(name: str, **fields: Any) -> Config:
    """Return the configuration under `name` in `purerl/presets.yaml`, with `fields` in place of its own.

    Args:
        name: such as "ppo-half_cheetah".
        **fields: any field of that algorithm's config, such as `total_timesteps=3_000_000`.

    Raises:
        ConfigError: for an unknown preset or field, or a value against its rule.
    """
    own = preset_fields(name)
    return make_config(**(cast(registry.config_class(own["algo"]), own) | fields))
