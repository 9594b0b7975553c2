"""The configuration that a command line asks for, from all its sources, and errors about unknown names."""

from __future__ import annotations

import dataclasses
import os
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from purerl import registry
from purerl.cast import cast
from purerl.cli.options import DASHED_VALUE, help_text, read_options
from purerl.config import Config, ConfigError, count, did_you_mean, from_dict, real, switch, text
from purerl.config_file import read_config
from purerl.experiment.record import read_record
from purerl.experiment.untrusted import refuse_files
from purerl.field_aliases import ALIASES
from purerl.members import MAX_FIRST_SEED
from purerl.own_parts import check_algorithm
from purerl.presets import preset_fields
from purerl.user_paths import user_config, user_path


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """Options of the run; those of the algorithm follow."""

    algo: str | None = text(None, optional=True)
    """Algorithm, such as sac: purerl list algorithms; ppo unless a preset or file has another."""
    preset: str | None = text(None, optional=True)
    """Tuned settings, such as ppo-half_cheetah: purerl list presets; other options override them."""
    config: str | None = text(None, optional=True)
    """JSON, YAML or TOML file of fields; overrides the preset, and the command line overrides it."""
    seeds: int = count(1, high=2**16)
    """Seeds trained side by side in one program."""
    first_seed: int = count(0, low=0, high=MAX_FIRST_SEED)
    """Index of the first seed; 8 adds seeds to a run that had 0 to 7."""
    logdir: str | None = text(None, optional=True)
    """Directory of the run, with one directory per seed in it; by default DATA_DIR/EXP_NAME-DATE-TIME."""
    exp_name: str | None = text(None, optional=True)
    """Name of the run in its directory, its logs and plots; ALGO-ENV by default."""
    data_dir: str = text("runs")
    """Directory in which the directories of runs are made."""
    datestamp: bool = switch(True)
    """Add date and time to the name of the run's directory."""
    resume: str | None = text(None, optional=True)
    """Directory of a run to continue from its newest checkpoint; other options must agree with that run."""
    allow_changes: bool = switch(False)
    """Let a resumed run continue with other values, where its checkpoint fits them."""
    film: bool = switch(False)
    """Write film.mp4 of the best member's policy into the run's directory at the end."""
    stop_at_return: float | None = real(None, optional=True)
    """End early once every seed's latest return, of evaluations if they are on, is at least this."""
    devices: str | None = text(None, optional=True)
    """Devices over which members are spread evenly, or all; 1 by default. A CPU can be one for each core."""
    tensorboard: bool = switch(False)
    """Write TensorBoard's events into the directory of each member."""
    wandb: str | None = text(None, optional=True)
    """Project of Weights & Biases to log to; each member is a run, all of them one group."""
    compilation_cache: str = text("auto")
    """Directory of compiled programs; auto for one in the user's cache directory, none for no cache."""
    quiet: bool = switch(False)
    """Show no progress."""


HELP = {"-h", "--help", "--help-all"}
COMMON = {"algo", "preset", "config", "seeds", "logdir", "exp_name", "resume", "env", "total_timesteps"}
COMMON |= {"num_envs", "learning_rate", "gamma", "hidden_sizes", "eval_interval", "seed", "film", "devices"}
"""Fields that `--help` shows."""
USERS = ("data_dir", "datestamp", "tensorboard", "wandb", "compilation_cache", "quiet", "seeds", "devices")
"""Options that the user's file of defaults may set."""


def user_defaults(cls: type = RunOptions) -> dict[str, Any]:
    """Return the options of `cls` in `purerl/defaults.toml` of the user's directory of configurations.

    Raises ConfigError for one that it may not set, or a bad value.
    """
    folder = user_config()
    path = folder / "purerl" / "defaults.toml" if folder else None
    if path is None or not path.exists():
        return {}
    fields = cast(RunOptions, read_config(path))
    for name, value in fields.items():
        if name not in USERS:
            raise ConfigError(name, value, f"one of {', '.join(USERS)} in {path}", did_you_mean(name, USERS))
    return {name: value for name, value in fields.items() if name in names(cls)}


def sinks_of(options: RunOptions) -> list[str]:
    """Return the sinks that the options ask for."""
    return ["tensorboard"] * options.tensorboard + ([f"wandb:{options.wandb}"] if options.wandb else [])


def devices_of(options: RunOptions) -> int | str | None:
    """Return the number of devices that the options ask for, "all", or None."""
    given = options.devices
    return int(given) if given and given.isdecimal() else given


def directory_of(options: RunOptions, name: str) -> str:
    """Return the directory of a new run that is called `name` unless it is given another name."""
    if options.logdir:
        return options.logdir
    name = re.sub(r"[^\w.-]+", "-", options.exp_name or name)  # ids such as gym:ALE/Breakout-v5
    stamp = time.strftime("-%Y%m%d-%H%M%S") if options.datestamp else ""
    return os.path.join(options.data_dir, name + stamp)


def parse(argv: Sequence[str], command: str = "purerl train") -> tuple[RunOptions, Config]:
    """Return the options and the configuration of `argv`.

    The command line overrides `--config FILE`, that `--preset NAME`, and that the defaults. Options of
    the run may have defaults of the user, see `user_defaults`.

    Raises:
        ConfigError: for an unknown option, a bad value or a bad file.
        SystemExit: with 0, once `--help` or `--help-all` is shown; usage and hints name `command`.
    """
    given, _ = read_options(argv, RunOptions)
    options = from_dict(RunOptions, user_defaults() | cast(RunOptions, given))
    if options.resume:
        fields, seeds = _recorded(options, options.resume)
    else:
        fields, seeds = from_files(options), {}
    if options.logdir and options.exp_name:
        raise ConfigError("logdir", options.logdir, "no value beside exp_name, which names a directory too")
    algo = fields.pop("algo", "ppo")
    cls = registry.config_class(options.algo or algo)
    seeds = {name: value for name, value in seeds.items() if name not in given}
    options = dataclasses.replace(options, algo=cls.algo, **seeds)
    base = base_config(cls, fields)
    if HELP & {*argv}:
        print(help_text(command, options, base, only=None if "--help-all" in argv else COMMON), end="")
        raise SystemExit(0)
    given, rest = read_options(argv, RunOptions, cls)
    if rest:
        raise leftover(rest, cls)
    own = {name: value for name, value in given.items() if name in names(cls)}
    if options.resume and "env_kwargs" not in own:
        refuse_files(base.env, base.env_kwargs, "If the file is yours, give --env-kwargs again.")
    return options, from_dict(cls, cast(cls, fields | own))


def base_config(cls: type[Config], fields: Mapping[str, Any]) -> Config:
    """Return the configuration of the fields of a preset or file. Raises ConfigError for an unknown one."""
    for name, value in fields.items():
        if name not in names(cls):
            raise unknown(name, value, cls, names(cls))
    return from_dict(cls, cast(cls, fields))


def from_files(options: RunOptions) -> dict[str, Any]:
    """Return the fields, `algo` included, of the preset and the file."""
    fields = preset_fields(options.preset) if options.preset else {}
    made_for = fields.get("algo")
    fields |= read_config(user_path("config", options.config)) if options.config else {}
    algo = options.algo or fields.get("algo")
    if made_for not in (None, algo):
        raise ConfigError("preset", options.preset, f"a preset of {algo}", f"This one is of {made_for}.")
    return fields


def _recorded(options: RunOptions, path: str) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the fields, `algo` included, of the run in `path`, and its `seeds` and `first_seed`."""
    for name in ("config", "logdir", "preset", "exp_name"):
        if (value := getattr(options, name)) is not None:
            raise ConfigError(name, value, f"no value, since the run in {path} has its own")
    record = read_record(user_path("resume", path))
    check_algorithm(record)
    algo = record["config"].get("algo")
    if options.algo not in (None, algo):
        raise ConfigError("algo", options.algo, f"{algo!r}, as the run in {path} has it", "It cannot change.")
    return dict(record["config"]), {name: record[name] for name in ("seeds", "first_seed")}


def names(*classes: type) -> list[str]:
    """Return the names of the fields of dataclasses."""
    return [field.name for cls in classes for field in dataclasses.fields(cls)]


def leftover(words: Sequence[str], cls: type[Config]) -> ConfigError:
    """Return the error about the first of the words that `read_options` left over."""
    known = names(RunOptions, cls)
    word, after = (*words, "")[:2]
    name, equals, value = word.partition("=")
    if word.startswith("-") and not DASHED_VALUE.match(word):
        return unknown(name, value if equals or after.startswith("--") else after, cls, known)
    tables = {"algo": registry.algorithms(), "env": registry.environments()}
    meant = [f"{field} {word}" for field, table in tables.items() if word in table]
    meant += [word] if equals and name in known else []
    hint = f"Did you mean --{meant[0]}?" if meant else ""
    return ConfigError("argument", word, "the name of an option before each value, as in --env ant", hint)


def unknown(name: str, value: Any, cls: type[Config], known: Sequence[str]) -> ConfigError:
    """Return the error about an option, or a field of a file, that is none of `known`."""
    plain = name.lstrip("-").replace("-", "_").lower()
    field = ALIASES.get(plain, plain)
    hint = did_you_mean(plain, known) or "See --help."
    if field not in known:
        owners = [algo for algo in registry.algorithms() if field in names(registry.config_class(algo))]
        if owners:
            hint = f"{field} belongs to {', '.join(owners)}."
        elif field in names(RunOptions):
            hint = f"{field} is an option of the command line only."
    return ConfigError(name, value, f"an option of {cls.algo}", hint)
