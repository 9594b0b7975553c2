"""ExperimentGrid: Spinning Up's way to say which values to try, with its names, for algorithms and functions.

grid = purerl.ExperimentGrid("ppo-bench")
grid.add("env", ["cartpole", "acrobot"], "", True)
grid.add("learning_rate", [3e-4, 1e-3])
grid.add("hidden_sizes", [(32,), (64, 64)], "hid")
grid.run("ppo", seeds=4)
"""

from __future__ import annotations

import inspect
import itertools
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from purerl import registry
from purerl.config import Config, ConfigError, from_dict
from purerl.experiment.sweep import begin_sweep, grid_of, make_sweep, run_sweep, several_values
from purerl.machine import available_bytes
from purerl.shown import plain
from purerl.user_paths import user_path
from purerl.workbench.sweep_table import Result, results_of

NAMES = {"env_name": "env"}
"""Spinning Up's names of fields."""
LETTERS = 3
"""Letters of each part of a key in its default shorthand."""


class ExperimentGrid:
    """Values of any number of keys, each combination of which is a variant.

    Args:
        name: beginning of every variant's name.
    """

    def __init__(self, name: str = ""):
        self.name = name
        self._keys: dict[str, tuple[list[Any], str, bool]] = {}

    def add(self, key: str, vals: Any = None, shorthand: str | None = None, in_name: bool = False) -> None:
        """Add a key with its value, or a list of values to try.

        Args:
            key: a field of the algorithm, or an argument of the function; `a:b` is entry `b` of a dict `a`.
            vals: one value, or a list of them; None is a value.
            shorthand: of the key in names; by default the first letters of its parts.
            in_name: put the value into names though there is no other.

        Raises ConfigError for a key that is there already, or an empty list.
        """
        if not isinstance(key, str) or not key or key in self._keys:
            raise ConfigError("key", key, "a name that this grid does not have yet")
        values = vals if isinstance(vals, list) else [vals]
        if not values:
            raise ConfigError(key, vals, "at least one value")
        short = _shorthand(key) if shorthand is None else shorthand
        self._keys[key] = (values, short, in_name)

    def variants(self) -> list[dict[str, Any]]:
        """Return a dict of values for every combination, the last key varying fastest; `a:b` are nested."""
        rows = itertools.product(*(values for values, _, _ in self._keys.values()))
        return [_nested(dict(zip(self._keys, row, strict=True))) for row in rows]

    def variant_name(self, variant: dict[str, Any]) -> str:
        """Return the name of a variant: those keys with their values that tell it from others.

        A key whose values are all bools is named where it is True. `seed` is never named.
        """
        parts = [self.name] if self.name else []
        for key, (values, short, in_name) in self._keys.items():
            if key == "seed" or not (len(values) > 1 or in_name):
                continue
            value = _entry(variant, key)
            if all(isinstance(one, bool) for one in values):
                parts += [short] if value else []
            else:
                parts.append(short + _word(value))
        return "_".join(filter(None, parts)) or "experiment"

    def print(self) -> None:
        """Print keys, shorthands and values, and the number of variants."""
        for key, (values, short, _) in self._keys.items():
            print(f"{key} ({short or 'no shorthand'}): {', '.join(map(str, values))}")
        print(f"{len(self.variants()):,} variants")

    def run(
        self,
        thunk: str | Callable[..., Any],
        *,
        data_dir: str | os.PathLike[str] = "runs",
        datestamp: bool = False,
        seeds: int = 1,
        progress: bool = True,
    ) -> list[Any]:
        """Train every variant of an algorithm, or call a function with every variant.

        Args:
            thunk: an algorithm's id: all variants are one sweep in `data_dir/name`, in as few programs as
                possible, which `purerl resume` goes on with. Or a function, called with the variant's
                values as keywords and, if it takes it, `logger_kwargs`, a dict of `output_dir` and
                `exp_name`: the directory is `data_dir/VARIANT/VARIANT_sSEED`.
            data_dir: where directories are made.
            datestamp: begin their names with the date.
            seeds: of every variant of an algorithm; a function has its own, say as the key `seed`.
            progress: show the live view of an algorithm.

        Returns:
            Results of an algorithm's settings, best first; or what the function returned, in order.

        Raises:
            ConfigError: for a key or value that the algorithm does not have, or a directory that holds a
                run already.
        """
        stamp = time.strftime("%Y-%m-%d_") if datestamp else ""
        place = user_path("data_dir", data_dir)
        if callable(thunk):
            return [self._call(thunk, variant, place, stamp) for variant in self.variants()]
        cfgs, values = self._configs(registry.config_class(thunk))
        sweep = make_sweep(cfgs, values, seeds, available=available_bytes())
        path = place / f"{stamp}{self.name or thunk}"
        sweep = sweep._replace(exp_name=self.name or None)
        begin_sweep(path, sweep, "data_dir")
        run_sweep(path, sweep, progress=progress)
        done = sweep._replace(done=frozenset(part.name for part in sweep.parts))
        results: list[Result] = results_of(path, done)
        return results

    def _configs(self, cls: type[Config]) -> tuple[dict[str, Config], dict[str, list[float]]]:
        """Return a config for each program, and the real-valued fields with their values."""
        columns = {NAMES.get(key, key): values for key, (values, _, _) in self._keys.items()}
        cfg = from_dict(cls, _nested({name: values[0] for name, values in columns.items()}))
        several = {name: values for name, values in columns.items() if len(values) > 1}
        swept, static = several_values(cls, several)
        nested = [name for name in static if ":" in name]
        if nested:
            raise ConfigError(
                nested[0], static[nested[0]], "one value; give dicts as values of the whole field"
            )
        return grid_of(cfg, static), swept

    def _call(self, thunk: Callable[..., Any], variant: dict[str, Any], place: Path, stamp: str) -> Any:
        name = self.variant_name(variant)
        seed = variant.get("seed", 0)
        facts = {"output_dir": str(place / f"{stamp}{name}" / f"{name}_s{seed}"), "exp_name": name}
        parameters = inspect.signature(thunk).parameters.values()
        takes = any(p.name == "logger_kwargs" or p.kind is p.VAR_KEYWORD for p in parameters)
        return thunk(**variant, **({"logger_kwargs": facts} if takes else {}))


def _nested(values: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in values.items():
        *path, last = key.split(":")
        inner = made
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = value
    return made


def _entry(variant: dict[str, Any], key: str) -> Any:
    for part in key.split(":"):
        variant = variant[part]
    return variant


def _shorthand(key: str) -> str:
    """Return the first letters and digits of each part of a key, as Spinning Up abbreviates it."""
    words = [re.match(r"[^\W_]*", part[:LETTERS]) for part in key.split(":")]
    return "-".join(word[0] for word in words if word)


def _word(value: Any) -> str:
    """Return a value as a part of a name: small letters, digits, dots and dashes."""
    name = getattr(value, "__name__", None)
    if isinstance(value, list | tuple):
        return "-".join(map(_word, value))
    return re.sub(r"[^a-z0-9.]+", "-", str(name or plain(value)).lower()).strip("-")
