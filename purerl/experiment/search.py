"""Search over real-valued fields: random settings, or those that Optuna proposes from the results so far.

A batch of trials is a set of members that one program trains. Proposals are a function of the seed and of the
results so far alone, so that a search that is resumed goes on as if it had never stopped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from purerl import search_space
from purerl.config import Config, ConfigError
from purerl.search_space import Range, check_space

Setting = dict[str, float]
SAMPLERS = ("random", "tpe")
MAX_TRIALS = 2**16


class Search(NamedTuple):
    """A search, and how far it has come is in the sweep that it makes."""

    space: dict[str, Range]
    trials: int
    """Settings in all."""
    batch: int
    """Settings that are trained at a time, before the sampler learns their results."""
    sampler: str = "random"
    """random; or tpe, Optuna's tree-structured Parzen estimator (extra `tune`)."""
    seed: int = 0


def check_search(search: Search, cfg: Config) -> None:
    """Raise ConfigError if a range is not one of `cfg`, or the sampler's package is not installed."""
    if not search.space:
        raise ConfigError("trials", search.trials, "at least one range to search, as in --gamma 0.9:0.999")
    check_space(search.space, cfg)
    if search.sampler == "tpe":
        _optuna()


def propose(search: Search, count: int, results: Sequence[tuple[Setting, float]]) -> list[Setting]:
    """Return `count` settings.

    Args:
        search: its ranges, sampler and seed.
        count: number of settings.
        results: settings so far, with their returns; NaN for one that has failed.
    """
    if search.sampler == "tpe":
        return _from_optuna(search, count, results)
    rng = np.random.default_rng([search.seed, len(results)])
    draws = rng.uniform(size=(count, len(search.space)))
    return [
        {name: _at(ends, draw) for (name, ends), draw in zip(search.space.items(), row, strict=True)}
        for row in draws
    ]


def _at(ends: Range, draw: float) -> float:
    """Return the number at the share `draw` of a range."""
    if ends.log:
        return float(math.exp(math.log(ends.low) + draw * (math.log(ends.high) - math.log(ends.low))))
    return float(ends.low + draw * (ends.high - ends.low))


def _from_optuna(search: Search, count: int, results: Sequence[tuple[Setting, float]]) -> list[Setting]:
    optuna = _optuna()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(
        seed=search.seed + len(results), n_startup_trials=search.batch, constant_liar=True
    )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    space: dict[str, Any] = {
        name: optuna.distributions.FloatDistribution(low, high, log=log)
        for name, (low, high, log) in search.space.items()
    }
    states = optuna.trial.TrialState
    for setting, value in results:
        known = {"value": value} if math.isfinite(value) else {"state": states.FAIL}
        study.add_trial(optuna.trial.create_trial(params=setting, distributions=space, **known))
    return [dict(study.ask(space).params) for _ in range(count)]


def _optuna() -> Any:
    """Return the package of the sampler. Raises ConfigError if it is not installed."""
    try:
        import optuna
    except ImportError as error:
        hint = 'Try pip install "purerl[tune]".'
        raise ConfigError("sampler", "tpe", "a sampler whose package is installed", hint) from error
    return optuna


def to_plain(search: Search) -> dict[str, Any]:
    """Return `search` as plain values."""
    return search._asdict() | {"space": search_space.to_plain(search.space)}


def from_plain(values: Mapping[str, Any]) -> Search:
    """Return the search in values of `to_plain`, which may be untrusted. Raises TypeError or ValueError."""
    search = Search(**{**values, "space": search_space.from_plain(values["space"])})
    counts = all(type(n) is int and 1 <= n <= MAX_TRIALS for n in (search.trials, search.batch))
    if not counts or search.sampler not in SAMPLERS or type(search.seed) is not int or search.seed < 0:
        raise ValueError("a search that none is")
    return search
