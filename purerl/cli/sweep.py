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
    base_config,
    devices_of,
    directory_of,
    from_files,
    leftover,
    names,
    sinks_of,
    user_defaults,
)
from purerl.cli.options import help_text, read_values
from purerl.config import Config, ConfigError, choice, count, from_dict
from purerl.devices import choose_devices, divide_the_cpu
from purerl.experiment.search import MAX_TRIALS, SAMPLERS, Search
from purerl.experiment.signals import SecondEndsAtOnce
from purerl.experiment.sweep import (
    Sweep,
    begin_sweep,
    grid_of,
    make_search,
    make_sweep,
    read_sweep,
    run_sweep,
    several_values,
    to_dict_without_algo,
)
from purerl.machine import available_bytes
from purerl.pbt import PBT, check_pbt
from purerl.search_space import Range, parse_range
from purerl.user_paths import user_path
from purerl.workbench.sweep_plot import draw_sweep
from purerl.workbench.sweep_table import describe, results_of

OF_RUNS = ("resume", "allow_changes", "film")
"""Options of a run that a sweep does not have."""
ON_RESUME = ("devices", "quiet", "compilation_cache", "tensorboard", "wandb")
"""Options of a sweep that is resumed."""


@dataclasses.dataclass(frozen=True)
class SweepOptions(RunOptions):
    """Options of the sweep; each option of the algorithm below may have several values."""

    combine: str = choice("product", ("product", "zip"))
    """Try every combination of values, or the first of each field, then the second, and so on."""
    trials: int = count(0, low=0, high=MAX_TRIALS)
    """Settings to draw from ranges, such as --learning-rate 1e-5:1e-2:log --gamma 0.9:0.999."""
    sampler: str = choice("random", SAMPLERS)
    """Draw at random, or by Optuna's tree-structured Parzen estimator from the results so far."""
    batch: int = count(0, low=0, high=MAX_TRIALS)
    """Settings trained at a time, in one program; 0 for all if they are random, 8 otherwise."""
    search_seed: int = count(0, low=0, high=2**31 - 1)
    """Root of the draws."""
    pbt_interval: int = count(0, low=0)
    """Steps of each member between two rounds of population-based training of the trials; 0 for none."""


def sweep(argv: Sequence[str]) -> int:
    """Train every setting that `argv` asks for, and return 3 if a member diverged, 0 otherwise."""
    options, cfgs, values = parse(argv)
    devices = devices_of(options) or 1
    divide_the_cpu(devices)  # before anything uses JAX
    choose_devices(devices, 1)  # which raises an error before a directory is made
    use_compilation_cache(options.compilation_cache)
    made = plan(options, cfgs, values)
    algos, envs = (sorted({part(cfg) for cfg in cfgs.values()}) for part in (_algo, _env))
    path = user_path("logdir", directory_of(options, "-".join(["sweep", *algos, *envs])))
    made = made._replace(stop_at_return=options.stop_at_return, exp_name=options.exp_name, devices=devices)
    begin_sweep(path, made, "logdir")
    return _train(path, made, options)


def plan(
    options: SweepOptions, cfgs: Mapping[str, Config], values: Mapping[str, list[float] | Range]
) -> Sweep:
    """Return the sweep or search that `parse` has read. Raises ConfigError for one that cannot be trained."""
    seeds, available = (options.seeds, options.first_seed), available_bytes()
    space = {name: ends for name, ends in values.items() if isinstance(ends, Range)}
    if not options.trials:
        if space:
            what = "the number of settings to draw from the ranges of " + ", ".join(space)
            raise ConfigError("trials", 0, what, "Add --trials 16.")
        for name in ("batch", "sampler", "search_seed", "pbt_interval"):
            if getattr(options, name) != getattr(SweepOptions(), name):
                raise ConfigError(name, getattr(options, name), "no value without --trials")
        listed: Any = values
        return make_sweep(cfgs, listed, *seeds, options.combine, available)
    if len(space) < len(values) or len(cfgs) > 1 or options.combine != "product":
        what = "ranges of real-valued fields alone, and one value of every other option"
        raise ConfigError("trials", options.trials, what)
    at_once = options.sampler == "random"
    batch = options.batch or (options.trials if at_once else min(8, options.trials))
    if options.pbt_interval and (not at_once or batch < options.trials):
        what = "0, or all trials in one batch of random settings"
        raise ConfigError("pbt_interval", options.pbt_interval, what)
    search = Search(space, options.trials, batch, options.sampler, options.search_seed)
    cfg = next(iter(cfgs.values()))
    made = make_search(cfg, search, *seeds, available)
    if not options.pbt_interval:
        return made
    pbt = PBT(space, options.pbt_interval)
    check_pbt(pbt, cfg, made.parts[0].members.size)
    return made._replace(pbt=pbt)


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
    made = read_sweep(place)
    return _train(place, made._replace(devices=devices_of(options) or made.devices), options)


def parse(argv: Sequence[str]) -> tuple[SweepOptions, dict[str, Config], dict[str, list[float] | Range]]:
    """Return the options, a config for each program by name, and real-valued fields with values or a range.

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
    swept: list[dict[str, list[float] | Range]] = []
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
) -> tuple[dict[str, Config], dict[str, list[float] | Range]]:
    """Return the configs of one algorithm by name, and its swept fields."""
    fields = from_files(options)
    cls = registry.config_class(options.algo or fields.pop("algo", "ppo"))
    fields.pop("algo", None)
    base = base_config(cls, fields)
    if HELP & {*argv}:
        only = None if "--help-all" in argv else COMMON - {*OF_RUNS} | {"combine", "trials", "sampler"}
        shown = dataclasses.replace(options, algo=cls.algo)
        print(help_text("purerl sweep", shown, base, only=only), end="")
        raise SystemExit(0)
    given, rest = read_values(argv, SweepOptions, cls)
    if rest:
        raise leftover(rest, cls)
    kinds = {field.name: field.metadata["rule"].kind for field in dataclasses.fields(cls)}
    ranges = {name: t for name, t in given.items() if kinds.get(name) == "real" and any(":" in x for x in t)}
    space = {name: parse_range(name, " ".join(texts)) for name, texts in ranges.items()}
    given = {name: texts for name, texts in given.items() if name not in space}
    own = {name: _values(cls, name, texts) for name, texts in given.items() if name in names(cls)}
    single = {name: values[0] for name, values in own.items() if len(values) == 1}
    several = {name: values for name, values in own.items() if len(values) > 1}
    swept, static = several_values(cls, several)
    base = from_dict(cls, to_dict_without_algo(base) | single | {n: v[0] for n, v in several.items()})
    return grid_of(base, static), swept | space


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
    print(describe(results, max(m.first_seed + m.seeds for m in members), evolved=made.pbt is not None))
    print(f"\n{_drawn(path)}")
    return 3 if diverged else 0


def _drawn(path: Path) -> str:
    """Draw the curves of the best settings, and return the line that says where; or how to draw them."""
    try:
        return f"Curves of the best settings: {', '.join(map(str, draw_sweep(path)))}"
    except ConfigError:  # without Matplotlib
        return f"Curves of all settings: purerl plot {shlex.quote(str(path))}"


def _algo(cfg: Config) -> str:
    return cfg.algo


def _env(cfg: Config) -> str:
    return cfg.env
