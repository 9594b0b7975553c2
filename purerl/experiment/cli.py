"""The command line: options in, a run out."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro
import yaml

from purerl import registry
from purerl.config import Config, ConfigError, check, did_you_mean, freeze, from_dict


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """What to run, and how."""

    algo: str = "ppo"
    """Algorithm: one of those in purerl/registry.py, such as ppo or sac."""
    config: str | None = None
    """JSON, YAML or TOML file of fields; what the command line says wins over it."""
    env_kwargs: str | None = None
    """Keyword arguments of the environment as JSON, such as '{"reset_noise_scale": 0}'."""
    seeds: int = 1
    """Seeds trained side by side in one program."""
    logdir: str | None = None
    """Directory of the run, with one directory per seed in it; by default runs/ALGO-ENV-DATE-TIME."""
    stop_at_return: float | None = None
    """End early once every seed's latest return, of evaluations where they are on, is at least this."""
    quiet: bool = False
    """Show no progress."""


def train(argv: Sequence[str] | None = None) -> int:
    """Parse `argv`, train, and return the exit code: 0, 2 for a bad option, 130 for Ctrl-C."""
    try:
        options, cfg = parse(sys.argv[1:] if argv is None else argv)
        from purerl.experiment.run import run  # after parsing: errors and --help do not wait for it

        logdir = options.logdir or f"runs/{cfg.algo}-{cfg.env}-{time.strftime('%Y%m%d-%H%M%S')}"
        run(cfg, options.seeds, logdir, stop_at_return=options.stop_at_return, progress=not options.quiet)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; every row shown is in the logs", file=sys.stderr)
        return 130
    return 0


def parse(argv: Sequence[str]) -> tuple[RunOptions, Config]:
    """The options of `argv`. What it says wins over `--config FILE`, which wins over the defaults.

    Raises:
        ConfigError: for an unknown option, a bad value or a bad file.
        SystemExit: for a value of the wrong type (2) or `--help` (0).
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--algo")
    first.add_argument("--config")
    known, _ = first.parse_known_args(argv)
    values = read_config(Path(known.config)) if known.config else {}
    algo = known.algo or values.pop("algo", RunOptions.algo)
    values.pop("algo", None)
    cls = registry.config_class(algo)
    _refuse_unknown(argv, cls)
    base = from_dict(cls, _cast(cls, values))
    both = dataclasses.make_dataclass("Options", [("run", RunOptions), (algo, cls)])
    parsed = tyro.cli(
        both,
        args=list(argv),
        default=both(RunOptions(algo=algo), base),
        config=(tyro.conf.OmitArgPrefixes,),
        prog="train.py",
    )
    options, cfg = parsed.run, getattr(parsed, algo)
    env_kwargs = options.env_kwargs and freeze(_json_mapping("env_kwargs", options.env_kwargs))
    cfg = dataclasses.replace(cfg, env_kwargs=base.env_kwargs if env_kwargs is None else env_kwargs)
    check(cfg)
    return options, cfg


def _refuse_unknown(argv: Sequence[str], cls: type[Config]) -> None:
    """Raises ConfigError for the first option that neither `run` nor the algorithm has."""
    names = [field.name for part in (RunOptions, cls) for field in dataclasses.fields(part)]
    for token in argv:
        name = token.removeprefix("--").partition("=")[0].replace("-", "_")
        if token.startswith("--") and name.removeprefix("no_") not in [*names, "help"]:
            hint = did_you_mean(name, names)
            owners = [
                algo for algo in registry.ALGORITHMS if name in _field_names(registry.config_class(algo))
            ]
            hint = hint or (f"It belongs to {' and '.join(owners)}." if owners else "See --help.")
            raise ConfigError(
                token.partition("=")[0], _value_after(argv, token), f"{cls.algo} has no such option", hint
            )


def _field_names(cls: type[Config]) -> list[str]:
    return [field.name for field in dataclasses.fields(cls)]


def _value_after(argv: Sequence[str], token: str) -> str:
    if "=" in token:
        return token.partition("=")[2]
    following = list(argv)[list(argv).index(token) + 1 :]
    return following[0] if following and not following[0].startswith("--") else ""


def read_config(path: Path) -> dict[str, Any]:
    """The mapping in a JSON, YAML or TOML file, told apart by its suffix.

    Raises:
        ConfigError: if it cannot be read, or holds no mapping.
    """
    readers = {".json": json.loads, ".toml": tomllib.loads, ".yaml": yaml.safe_load, ".yml": yaml.safe_load}
    if path.suffix not in readers:
        raise ConfigError("config", str(path), f"the file must end in {', '.join(readers)}")
    try:
        values = readers[path.suffix](path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError("config", str(path), f"it cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError("config", str(path), "it must hold a mapping from fields to values")
    return {name: value for name, value in values.items() if name not in RECORDED}


RECORDED = ("exp_name", "seed_index", "versions", "device")
"""What a run's own config.json holds beside fields, so that it can be given as `--config`."""


def _cast(cls: type[Config], values: dict[str, Any]) -> dict[str, Any]:
    """Numbers that YAML reads as text, such as 3e-4, as numbers where a field is real."""
    rules = {field.name: field.metadata["rule"] for field in dataclasses.fields(cls)}

    def cast(name: str, value: Any) -> Any:
        if isinstance(value, str) and name in rules and rules[name].kind == "real":
            try:
                return float(value)
            except ValueError:
                return value
        return value

    return {name: cast(name, value) for name, value in values.items()}


def _json_mapping(name: str, text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(name, text, f"it must be JSON: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(name, text, "it must be a JSON object")
    return values
