"""The command line: options in, a run out."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import tyro

from purerl import registry
from purerl.config import ALIASES, Config, ConfigError, count, did_you_mean, from_dict, real, switch, text
from purerl.experiment.config_file import cast, read_config
from purerl.experiment.presets import preset_fields


# Each field has a rule, as those of a Config do.
@dataclasses.dataclass(frozen=True)
class RunOptions:
    """What to run, and how."""

    algo: str | None = text(None, optional=True)
    """Algorithm: one of those in purerl/registry.py, such as ppo, which is the default, or sac."""
    preset: str | None = text(None, optional=True)
    """Tuned settings by a name of purerl/presets.yaml, such as ppo-half_cheetah; all else wins over them."""
    config: str | None = text(None, optional=True)
    """JSON, YAML or TOML file of fields; what the command line says wins over it."""
    seeds: int = count(1, high=2**16)
    """Seeds trained side by side in one program."""
    logdir: str | None = text(None, optional=True)
    """Directory of the run, with one directory per seed in it; by default runs/ALGO-ENV-DATE-TIME."""
    resume: str | None = text(None, optional=True)
    """Directory of a run to go on with, from its newest checkpoint; other options must be that run's."""
    allow_changes: bool = switch(False)
    """Let a resumed run go on with other values, where what it saved fits them."""
    stop_at_return: float | None = real(None, optional=True)
    """End early once every seed's latest return, of evaluations where they are on, is at least this."""
    compilation_cache: str = text("auto")
    """Directory that keeps compiled programs; auto is one in the user's cache, none keeps nothing."""
    quiet: bool = switch(False)
    """Show no progress."""


def train(argv: Sequence[str] | None = None) -> int:
    """Parse `argv`, train, and return the exit code.

    0: trained to the end. 1: something could not be read or written. 2: an option that cannot work.
    3: trained to the end, but a seed diverged. 130, 143: ended early by Ctrl-C or SIGTERM.
    """
    try:
        options, cfg = parse(sys.argv[1:] if argv is None else argv)
    except ConfigError as error:
        return _fail(2, error)
    return _train(options, cfg)


def _train(options: RunOptions, cfg: Config) -> int:
    # Only now: errors and --help do not wait for these.
    from purerl.experiment.cache import use_compilation_cache
    from purerl.experiment.checkpoint import CheckpointError
    from purerl.experiment.interrupts import Interrupted, SecondEndsAtOnce
    from purerl.experiment.run import run

    use_compilation_cache(options.compilation_cache)
    try:
        with SecondEndsAtOnce():
            result = run(
                cfg,
                options.seeds,
                options.resume or options.logdir or _new_directory(cfg),
                resume=options.resume is not None,
                allow_changes=options.allow_changes,
                stop_at_return=options.stop_at_return,
                progress=not options.quiet,
            )
    except ConfigError as error:
        return _fail(2, error)
    except (CheckpointError, OSError) as error:
        return _fail(1, error)
    except Interrupted as error:
        return _fail(128 + error.signum, error)
    except KeyboardInterrupt:
        return _fail(130, "interrupted")
    return 3 if (result.diverged_at >= 0).any() else 0


def _new_directory(cfg: Config) -> str:
    name = re.sub(r"[^\w.-]+", "-", f"{cfg.algo}-{cfg.env}")  # ids such as gym:ALE/Breakout-v5
    return f"runs/{name}-{time.strftime('%Y%m%d-%H%M%S')}"


def _fail(code: int, reason: object) -> int:
    print(f"error: {reason}" if code < 128 else reason, file=sys.stderr)
    return code


def parse(argv: Sequence[str]) -> tuple[RunOptions, Config]:
    """The options of `argv`; they win over `--config FILE`, that over `--preset`, and that over defaults.

    Of an option that is given twice, the last value counts. A switch is set by `--quiet` or
    `--quiet True`, and unset by `--no-quiet` or `--quiet False`.

    Raises:
        ConfigError: for an unknown option, a bad value or a bad file.
        SystemExit: for `--help` (0).
    """
    words, _ = _read(RunOptions(), argv, add_help=False)
    first = from_dict(RunOptions, cast(RunOptions, vars(words)))
    seeds, values = 1, preset_fields(first.preset) if first.preset else {}
    made_for = values.get("algo")
    values |= read_config(Path(first.config)) if first.config else {}
    if first.resume:
        seeds, values = _resumed(first)
    algo = values.pop("algo", "ppo") if first.algo is None else first.algo
    if made_for not in (None, algo):
        raise ConfigError("preset", first.preset, f"it is made for {made_for}, and algo is {algo}")
    cls = registry.config_class(algo)
    values.pop("algo", None)
    for name, value in values.items():
        if name not in _names(cls):
            raise _unknown(cls, name, value, _names(cls))
    base = from_dict(cls, cast(cls, values))

    both = dataclasses.make_dataclass("Options", [("run", RunOptions), (algo, cls)])
    default = both(RunOptions(algo=algo, seeds=seeds), base)
    words, unknown = _read(default, [_spelt_out(word, cls) for word in argv])
    if unknown:
        _refuse(unknown, cls)
    options = from_dict(RunOptions, cast(RunOptions, vars(words.run)))
    if options.resume and not any(word.replace("_", "-").startswith("--env-kwargs") for word in argv):
        from purerl.experiment.directory import refuse_files

        refuse_files(base.env, base.env_kwargs, "If the file is yours, give --env-kwargs again.")
    return options, from_dict(cls, cast(cls, vars(getattr(words, algo))))


def _resumed(options: RunOptions) -> tuple[int, dict[str, Any]]:
    """How many seeds the run to resume has, and the fields of its config. Raises ConfigError."""
    from purerl.experiment.directory import read_record

    for name in ("config", "logdir", "preset"):
        if getattr(options, name) is not None:
            raise ConfigError(name, getattr(options, name), f"the run in {options.resume} has its own")
    record = read_record(Path(str(options.resume)))
    algo = record["config"].get("algo")
    if options.algo not in (None, algo):
        what = f"the run in {options.resume} has {algo!r}, and that cannot change"
        raise ConfigError("algo", options.algo, what)
    return record["seeds"], dict(record["config"])


TEXT = tyro.constructors.ConstructorRegistry()


@TEXT.primitive_rule
def _as_text(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec | None:
    """Tyro hands every value on as text, however many words it has: what is wrong with it, we say."""
    if dataclasses.is_dataclass(info.type):
        return None
    bare = ["True"] if info.type is bool else []  # --quiet alone
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs="*",
        metavar=METAVARS.get(info.type_origin, METAVARS.get(info.type, "TEXT")),
        instance_from_str=lambda words: " ".join(words or bare),
        is_instance=lambda value: True,
        str_from_instance=_default_words,
    )


METAVARS = {
    bool: "[True|False]",
    int: "INT",
    float: "FLOAT",
    float | None: "FLOAT|None",
    tuple: "INT INT ...",
    Mapping: "JSON",
}


def _default_words(value: Any) -> list[str]:
    """How --help writes a default."""
    if isinstance(value, Mapping):
        return [json.dumps(dict(value), default=str)]
    return [str(item) for item in (value if isinstance(value, tuple) else (value,))]


def _read(default: Any, argv: Sequence[str], **settings: Any) -> tuple[Any, list[str]]:
    """`default` with the values of `argv` as text in their places, and the words that have none."""
    values, (_, *unknown) = tyro.cli(
        type(default),
        args=["", *argv],  # after any first word, tyro takes no orders of its own (--tyro-...)
        default=default,
        return_unknown_args=True,
        registry=TEXT,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagConversionOff),
        prog="train.py",
        **settings,
    )
    return values, unknown


def _names(*classes: type) -> list[str]:
    return [field.name for cls in classes for field in dataclasses.fields(cls)]


def _spelt_out(word: str, cls: type[Config]) -> str:
    """`--no-quiet` as `--quiet=False`; any other word as it is."""
    prefix, name = word[:5].replace("_", "-"), word[5:].replace("-", "_")
    fields = [*dataclasses.fields(RunOptions), *dataclasses.fields(cls)]
    switches = [field.name for field in fields if field.metadata["rule"].kind == "switch"]
    return f"--{name}=False" if prefix == "--no-" and name in switches else word


def _refuse(unknown: list[str], cls: type[Config]) -> NoReturn:
    """Raises ConfigError about the first of the words that are no option of ours, and no value of one."""
    word, *rest = unknown
    name, equals, value = word.partition("=")
    names = _names(RunOptions, cls)
    if word.startswith("-"):
        value = value if equals else next((after for after in rest[:1] if not after.startswith("--")), "")
        raise _unknown(cls, name, value, names)
    named = [f"{field} {word}" for field, table in TABLES.items() if word in table]
    named += [word] if equals and name in names else []
    hint = f"Did you mean --{named[0]}?" if named else ""
    raise ConfigError("argument", word, "a value comes after the name of its option, as in --env ant", hint)


TABLES = {"algo": registry.ALGORITHMS, "env": registry.ENVIRONMENTS}


def _unknown(cls: type[Config], name: str, value: Any, names: list[str]) -> ConfigError:
    """What is wrong with an option or field that is none of `names`."""
    plain = name.lstrip("-").replace("-", "_").lower()
    field = ALIASES.get(plain, plain)
    owners = [algo for algo in registry.ALGORITHMS if field in _names(registry.config_class(algo))]
    if field in _names(RunOptions) and field not in names:
        hint = f"{field} is an option of the command line."
    elif owners and cls.algo not in owners:
        hint = f"{field} belongs to {', '.join(owners)}."
    else:
        hint = did_you_mean(plain, names) or "See --help."
    return ConfigError(name, value, f"{cls.algo} has no such option", hint)
