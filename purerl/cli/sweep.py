"""`purerl sweep`: several values of any option, as members of few runs."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from purerl import registry
from purerl.cast import cast
from purerl.cli.compilation_cache import use_compilation_cache
from purerl.cli.configure import (
    COMMON,
    HELP,
    RunOptions,
    directory_of,
    from_files,
    leftover,
    names,
    sinks_of,
    unknown,
    user_defaults,
)
from purerl.cli.options import help_text, read_values
from purerl.config import Config, ConfigError, choice, from_dict
from purerl.experiment.signals import SecondEndsAtOnce
from purerl.experiment.sweep import (
    Sweep,
    grid_of,
    is_sweep,
    make_sweep,
    read_sweep,
    run_sweep,
    to_dict_without_algo,
    write_sweep,
)
from purerl.machine import available_bytes
from purerl.user_paths import user_path
from purerl.workbench.sweep_table import describe, results_of

OF_RUNS = ("resume", "allow_changes")
"""Options of a run that a sweep does not have."""
ON_RESUME = ("quiet", "compilation_cache", "tensorboard", "wandb")
"""Options of a sweep that is resumed."""


@dataclasses.dataclass(frozen=True)
class SweepOptions(RunOptions):
    """Options of the sweep; each option of the algorithm below may have several values."""

    combine: str = choice("product", ("product", "zip"))
    """Try every combination of values, or the first of each field, then the second, and so on."""


def sweep(argv: Sequence[str]) -> int:
    """Train every setting that `argv` asks for, and return 3 if a member diverged, 0 otherwise."""
    options, cfgs, values = parse(argv)
    use_compilation_cache(options.compilation_cache)
    made = make_sweep(cfgs, values, options.seeds, options.first_seed, options.combine, available_bytes())
    algos, envs = (sorted({part(cfg) for cfg in cfgs.values()}) for part in (_algo, _env))
    path = user_path("logdir", directory_of(options, "-".join(["sweep", *algos, *envs])))
    if is_sweep(path) or (path / "run.json").exists():
        what = "a directory without a sweep, since nothing is overwritten"
        raise ConfigError("logdir", str(path), what, f"Go on with that one: purerl resume {path}")
    made = made._replace(stop_at_return=options.stop_at_return, exp_name=options.exp_name)
    write_sweep(path, made)
    return _train(path, made, options)


def resume_sweep(path: str, argv: Sequence[str]) -> int:
    """Go on with the sweep in `path`; return 3 if a member diverged, 0 otherwise."""
    given, rest = read_values(argv, SweepOptions)
    extra = [name for name in given if name not in ON_RESUME]
    if rest or extra:
        what = f"one of {', '.join(ON_RESUME)}, since the sweep has its own of all others"
        raise ConfigError("argument", (rest + extra)[0], what)
    options = from_dict(SweepOptions, user_defaults() | cast(SweepOptions, _single(given)))
    use_compilation_cache(options.compilation_cache)
    place = user_path("run", path)
    return _train(place, read_sweep(place), options)


def parse(argv: Sequence[str]) -> tuple[SweepOptions, dict[str, Config], dict[str, list[float]]]:
    """Return the options, a config for each program by name, and the real-valued fields with their values.

    Raises:
        ConfigError: for an unknown option or a bad value.
        SystemExit: with 0, once help is shown.
    """
    given, _ = read_values(argv, SweepOptions)
    algos = given.pop("algo", [None])
    options = from_dict(SweepOptions, user_defaults() | cast(SweepOptions, _single(given)))
    for name in OF_RUNS:
        if name in given:
            raise ConfigError(name, given[name][0], "no such option of a sweep", "Use: purerl resume SWEEP")
    cfgs: dict[str, Config] = {}
    swept: list[dict[str, list[float]]] = []
    for algo in algos:
        one = dataclasses.replace(options, algo=algo)
        found, values = _of_algorithm(one, argv)
        prefix = f"algo={algo}_" if len(algos) > 1 else ""
        cfgs |= {(prefix + name).rstrip("_"): cfg for name, cfg in found.items()}
        swept.append(values)
    if any(values != swept[0] for values in swept):
        raise ConfigError("algo", algos, "algorithms that all have the swept fields")
    return options, cfgs, swept[0]


def _of_algorithm(
    options: SweepOptions, argv: Sequence[str]
) -> tuple[dict[str, Config], dict[str, list[float]]]:
    """Return the configs of one algorithm by name, and its swept fields."""
    fields = from_files(options)
    cls = registry.config_class(options.algo or fields.pop("algo", "ppo"))
    fields.pop("algo", None)
    for name, value in fields.items():
        if name not in names(cls):
            raise unknown(name, value, cls, names(cls))
    base = from_dict(cls, cast(cls, fields))
    if HELP & {*argv}:
        only = None if "--help-all" in argv else COMMON - {"resume"} | {"combine"}
        shown = dataclasses.replace(options, algo=cls.algo)
        print(help_text("purerl sweep", shown, base, only=only), end="")
        raise SystemExit(0)
    given, rest = read_values(argv, SweepOptions, cls)
    if rest:
        raise leftover(rest, cls)
    own = {name: _values(cls, name, texts) for name, texts in given.items() if name in names(cls)}
    kinds = {field.name: field.metadata["rule"].kind for field in dataclasses.fields(cls)}
    single = {name: values[0] for name, values in own.items() if len(values) == 1}
    several = {name: values for name, values in own.items() if len(values) > 1}
    swept = {name: values for name, values in several.items() if kinds[name] == "real" and None not in values}
    static = {name: values for name, values in several.items() if name not in swept}
    base = from_dict(cls, to_dict_without_algo(base) | single | {n: v[0] for n, v in several.items()})
    return grid_of(base, static), swept


def _values(cls: type[Config], name: str, texts: Sequence[str]) -> list[Any]:
    """Return the value of each text of one option. Raises ConfigError for one against the field's rule."""
    values = [cast(cls, {name: text})[name] for text in texts]
    for value in values:
        from_dict(cls, {name: value})
    return values


def _single(given: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the values of options that take one. Raises ConfigError for several."""
    for name, texts in given.items():
        if len(texts) > 1:
            raise ConfigError(name, " ".join(texts), "one value; options of the algorithm may have several")
    return {name: texts[0] for name, texts in given.items()}


def _train(path: Path, made: Sweep, options: SweepOptions) -> int:
    with SecondEndsAtOnce():
        diverged = run_sweep(path, made, sinks=sinks_of(options), progress=not options.quiet)
    results = results_of(path, read_sweep(path))
    members = [part.members for part in made.parts]
    print(describe(results, max(m.first_seed + m.seeds for m in members)))
    print(f"\nCurves of all settings: purerl plot {shlex.quote(str(path))}")
    return 3 if diverged else 0


def _algo(cfg: Config) -> str:
    return cfg.algo


def _env(cfg: Config) -> str:
    return cfg.env
