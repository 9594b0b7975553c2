"""Members of a run: every setting of the swept fields, with every seed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purerl.config import Config, ConfigError, leaves, replace
from purerl.types import Array, Key

MAX_MEMBERS = 2**16
MAX_FIRST_SEED = 2**30
MAX_NAME = 200
"""Characters of a directory's name."""


class Members(NamedTuple):
    """S members, setting by setting, each setting with all seeds."""

    seeds: int
    """Seeds of each setting: seed i starts from `fold_in(key(cfg.seed), i)`, whatever the setting."""
    settings: tuple[dict[str, float], ...] = ({},)
    """Values of the swept fields; one empty setting where nothing is swept."""
    first_seed: int = 0
    """Index i of the first of them; the others follow it."""

    @property
    def size(self) -> int:
        """Number of members, S."""
        return self.seeds * len(self.settings)

    @property
    def indices(self) -> range:
        """Indices of the seeds of each setting."""
        return range(self.first_seed, self.first_seed + self.seeds)

    @property
    def facts(self) -> list[dict[str, Any]]:
        """`seed_index` and the values of the swept fields of every member."""
        return [{"seed_index": i, **setting} for setting in self.settings for i in self.indices]

    @property
    def names(self) -> list[str]:
        """Directory of every member: `seed0`, or `learning_rate=0.001_gamma=0.98_seed0` in a sweep."""
        prefixes = ["".join(f"{name}={value!r}_" for name, value in s.items()) for s in self.settings]
        if max(map(len, prefixes)) > MAX_NAME:
            prefixes = [f"setting{i}_" for i in range(len(self.settings))]
        return [f"{prefix}seed{i}" for prefix in prefixes for i in self.indices]

    def describe(self) -> str:
        """Return their number in words."""
        seeds = "1 seed" if self.seeds == 1 else f"{self.seeds} seeds"
        return seeds if self.settings == ({},) else f"{len(self.settings)} settings x {seeds}"

    def keys(self, cfg: Config) -> Key:
        """Return the root key of every member, `[S]`; equal for equal seed indices."""
        root, index = jax.random.key(cfg.seed), np.tile(self.indices, len(self.settings))
        return jax.vmap(lambda i: jax.random.fold_in(root, i))(jnp.asarray(index, jnp.int32))

    def hyper(self, cfg: Config) -> dict[str, Array]:
        """Return the real-valued fields: float32 scalars where all members agree, `[S]` elsewhere."""
        hyper = {}
        for name, default in leaves(cfg).items():
            values = np.array([setting.get(name, default) for setting in self.settings], np.float32)
            agree = (values == values[0]).all()
            hyper[name] = jnp.asarray(values[0] if agree else np.repeat(values, self.seeds))
        return hyper

    def axes(self, cfg: Config) -> dict[str, int | None]:
        """Return the `vmap` axis of every field of `hyper`: 0, or None for a scalar."""
        shapes = jax.eval_shape(lambda: self.hyper(cfg))
        return {name: 0 if value.ndim else None for name, value in shapes.items()}

    def configs(self, cfg: Config) -> list[Config]:
        """Return the configuration of every setting."""
        return [replace(cfg, setting) for setting in self.settings]


def make_members(
    cfg: Config,
    seeds: int,
    sweep: Mapping[str, Sequence[float]] | None = None,
    combine: str = "product",
    first_seed: int = 0,
) -> Members:
    """Return the members of a sweep over real-valued fields.

    Args:
        cfg: gives the fields that are not swept.
        seeds: of every setting.
        sweep: field -> its values.
        combine: "product" takes every combination of values, the last field varying fastest; "zip" takes
            the first values of all fields, then the second, and so on.
        first_seed: index of the first seed.

    Raises:
        ConfigError: for a field that cannot be swept, a value that it does not allow, or unequal lengths.
    """
    if combine not in ("product", "zip"):
        raise ConfigError("combine", combine, "one of product, zip")
    if sweep is not None and not isinstance(sweep, Mapping):
        raise ConfigError("sweep", sweep, "a mapping from real-valued fields to lists of values")
    columns = {name: _values(cfg, name, values) for name, values in (sweep or {}).items()}
    if combine == "zip" and len({len(values) for values in columns.values()}) > 1:
        lengths = ", ".join(f"{name} has {len(values)}" for name, values in columns.items())
        raise ConfigError("sweep", sweep, f"as many values of every field to zip; {lengths}")
    together = itertools.product if combine == "product" else zip
    rows = together(*columns.values()) if columns else [()]
    settings = [dict(zip(columns, row, strict=True)) for row in rows]
    if seeds * len(settings) > MAX_MEMBERS:
        what = f"at most {MAX_MEMBERS:,} members; {len(settings):,} settings x {seeds:,} seeds are more"
        raise ConfigError("seeds", seeds, what)
    distinct = {tuple(np.array([*setting.values()], np.float32).tolist()) for setting in settings}
    if len(distinct) < len(settings):
        raise ConfigError("sweep", sweep, "settings that differ from each other as float32 numbers")
    return Members(seeds, tuple(settings), first_seed)


def _values(cfg: Config, name: str, given: Any) -> list[float]:
    """Return the values of one swept field as floats. Raises ConfigError for what cannot be one."""
    try:
        values = None if isinstance(given, str | Mapping) else list(given)
    except TypeError:  # a single number
        values = None
    if values is None or any(isinstance(v, list | tuple) or getattr(v, "ndim", 0) for v in values):
        raise ConfigError(f"sweep[{name}]", given, "a list of numbers")
    if not values:
        raise ConfigError(f"sweep[{name}]", given, "at least one value")
    for value in values:
        replace(cfg, {name: value})
    return [float(value) for value in values]
