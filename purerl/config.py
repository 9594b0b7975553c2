"""Configurations: frozen dataclasses whose fields each have a rule.

A field made by `real` is a *leaf*: a number that may be a traced value, so that one compiled program
serves many learning rates. Every other field is *static*: a shape, a switch or a name, hashable, and
part of the program. `None` in an optional real field switches the feature off, which is static.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

import jax
import numpy as np
from flax.core import FrozenDict
from jax.core import Tracer

from purerl.errors import ConfigError, did_you_mean
from purerl.shown import plain

INT32_STEPS = 2_000_000_000
"""Largest step count: steps are int32 inside the program and must not overflow within a chunk."""
MAX_INTERVAL = 100_000_000
"""Most environment steps per row of metrics: totals are rounded up by at most this and stay int32."""
MAX_LAYERS = 32
MAX_DENOMINATOR = 1_000
VMAP = "To train with each of several values, vmap: jax.vmap(train, in_axes=(None, 0))(key, hyper)."


class Rule(NamedTuple):
    """Allowed values of a field or an argument, as in `Rule("count", low=1)`."""

    kind: Literal["real", "count", "ratio", "switch", "choice", "text", "sizes", "mapping"]
    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False
    options: tuple[str, ...] = ()
    optional: bool = False


def _field(default: Any, rule: Rule) -> Any:
    return dataclasses.field(default=default, metadata={"rule": rule})


def real(
    default: float | None,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    above: float | None = None,
    below: float | None = None,
    optional: bool = False,
) -> Any:
    """Return a field for a vmappable real number in `[low, high]`; `above` and `below` are exclusive."""
    low, high = low if above is None else above, high if below is None else below
    return _field(default, Rule("real", low, high, above is not None, below is not None, optional=optional))


def count(default: int | None, *, low: int = 1, high: int = INT32_STEPS, optional: bool = False) -> Any:
    """Return a field for a static whole number in `[low, high]`."""
    return _field(default, Rule("count", low, high, optional=optional))


def ratio(default: float) -> Any:
    """Return a field for a static positive number, taken as a fraction with a denominator up to 1,000."""
    return _field(default, Rule("ratio", low=1 / MAX_DENOMINATOR, high=65_536))


def as_fraction(value: float) -> Fraction:
    """Return the value of a `ratio` as a fraction: 1/3 for 0.3333."""
    return Fraction(value).limit_denominator(MAX_DENOMINATOR)


def switch(default: bool) -> Any:
    """Return a field for a static bool."""
    return _field(default, Rule("switch"))


def choice(default: str, options: Iterable[str]) -> Any:
    """Return a field for a static name among `options`."""
    return _field(default, Rule("choice", options=tuple(options)))


def text(default: str | None, *, optional: bool = False) -> Any:
    """Return a field for a static string."""
    return _field(default, Rule("text", optional=optional))


def sizes(default: tuple[int, ...]) -> Any:
    """Return a field for a static tuple of positive whole numbers, the widths of hidden layers."""
    return _field(default, Rule("sizes", low=1, high=65_536))


def mapping() -> Any:
    """Return a field for a static mapping from names to plain values, empty by default."""
    return _field(FrozenDict(), Rule("mapping"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Fields of every algorithm; each algorithm's own Config adds its hyperparameters."""

    algo: ClassVar[str]
    """The algorithm's registry id."""

    env: str = text("cartpole")
    """Environment id, as `purerl.make_env` takes it."""
    engine: str = choice("auto", ("auto", "mujoco", "mjx"))
    """Physics engine of a MuJoCo task; auto picks C MuJoCo on a CPU. Other tasks take only auto."""
    env_kwargs: Mapping[str, Any] = mapping()
    """Keyword arguments of the environment, e.g. reward weights."""
    seed: int = count(0, low=0, high=2**32 - 1)
    """Root seed; seed i of a run uses fold_in(key(seed), i)."""
    total_timesteps: int = count(1_000_000)
    """Environment steps per seed, warm-up included, summed over num_envs; rounded up to whole rows."""
    num_envs: int = count(1, high=2**20)
    """Environments per seed, stepped in parallel."""
    log_interval: int = count(1_000, high=MAX_INTERVAL)
    """Environment steps between two rows of metrics; rounded up to whole updates."""
    eval_interval: int = count(10_000, low=0)
    """Environment steps between two evaluations of the deterministic policy; 0 for none."""
    eval_episodes: int = count(10, high=2**16)
    """Whole episodes per evaluation."""
    eval_stochastic: bool = switch(False)
    """Evaluate the exploring policy too, under `eval_stochastic/`."""
    checkpoint_minutes: int = count(10, low=0)
    """Minutes between two checkpoints of a run with a directory; 0 for none by time."""
    checkpoint_interval: int = count(0, low=0)
    """Environment steps between two checkpoints, beside those by time; 0 for none by steps."""
    snapshot_interval: int = count(0, low=0)
    """Environment steps between two policies that a run keeps for good; 0 keeps the newest and the best."""


ConfigT = TypeVar("ConfigT", bound=Config)
T = TypeVar("T")


def refuse_unused(cfg: Config, reason: str, *names: str) -> None:
    """Raise ConfigError for the first of these fields with a value, which for `reason` has no effect."""
    for field in dataclasses.fields(cfg):
        if field.name in names and (value := getattr(cfg, field.name)) != field.default:
            raise ConfigError(field.name, value, f"{field.default}: with {reason} it has no effect")


def leaves(cfg: Config) -> dict[str, Any]:
    """Return the vmappable fields of `cfg` that are not None, by name."""
    return {
        field.name: value
        for field in dataclasses.fields(cfg)
        if field.metadata["rule"].kind == "real" and (value := getattr(cfg, field.name)) is not None
    }


def replace(cfg: ConfigT, hyper: Mapping[str, Any]) -> ConfigT:
    """Return `cfg` with the values of `hyper`, which may be traced.

    Raises ConfigError for a name that is not a leaf of `cfg`, or a value against its rule. Values inside
    `jit` are unknown and pass; those of `vmap` outside it are checked.
    """
    if not isinstance(hyper, Mapping):
        what = "a mapping from real-valued fields to numbers, such as {'learning_rate': 1e-3}"
        raise ConfigError("hyper", hyper, what)
    allowed = leaves(cfg)
    fields = {field.name: field for field in dataclasses.fields(cfg)}
    for name, value in hyper.items():
        if name not in allowed:
            what = f"a real-valued field: one of {', '.join(sorted(allowed))}"
            raise ConfigError(str(name), value, what, did_you_mean(str(name), allowed))
        rule = fields[name].metadata["rule"]
        if isinstance(value, list | tuple) or getattr(value, "shape", ()):
            raise ConfigError(name, value, describe(rule), VMAP)
        validate(name, value, rule)
    as_number = lambda value: value.astype(np.float32) if isinstance(value, jax.Array) else plain(value)
    return dataclasses.replace(cfg, **{name: as_number(value) for name, value in hyper.items()})


def freeze(value: Any) -> Any:
    """Return `value` with lists and arrays as tuples, and mappings as hashable ones."""
    if isinstance(value, Mapping):
        return FrozenDict({str(key): freeze(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return tuple(freeze(item) for item in value)
    if isinstance(value, np.generic | np.ndarray | jax.Array) and not isinstance(value, Tracer):
        return freeze(value.tolist()) if hasattr(value, "tolist") else value  # a key array has none
    return value


def check(cfg: Any) -> None:
    """Raise ConfigError for the first field of `cfg`, a dataclass with rules, that is against its own."""
    for field in dataclasses.fields(cfg):
        validate(field.name, getattr(cfg, field.name), field.metadata["rule"])


def validate(name: str, value: Any, rule: Rule) -> None:
    """Raise ConfigError about `name` if `value` is against `rule`."""
    wrong = [one for one in _extremes(value) if not _allows(rule, one)]
    if wrong:
        value = wrong[0]
        hint = did_you_mean(value, rule.options) if isinstance(value, str) else ""
        if rule.kind == "sizes" and isinstance(value, str):
            hint = "Write 64 64 on a command line and [64, 64] in a file."
        raise ConfigError(name, value, describe(rule), hint)


def _extremes(value: Any) -> list[Any]:
    """Return the least and the greatest of the numbers that `vmap` maps over; other values as they are."""
    inner: Any = value
    while isinstance(inner, Tracer):
        inner = getattr(inner, "val", None)  # of `vmap`, a concrete array unless it is inside `jit`
    known = isinstance(value, Tracer) and isinstance(inner, np.ndarray | jax.Array) and not value.shape
    if not known or not inner.size or not np.issubdtype(inner.dtype, np.number):
        return [value]
    lanes = np.asarray(inner)
    return [lanes.min().item(), lanes.max().item()]


def _allows(rule: Rule, value: Any) -> bool:
    if value is None:
        return rule.optional
    if rule.kind == "real":
        if isinstance(value, Tracer):
            return value.shape == () and value.dtype.kind in "fiu"
        return _is_real(value) and _within(rule, np.float32(value))
    if rule.kind == "ratio":
        return not isinstance(value, Tracer) and _is_real(value) and _within(rule, value)
    if rule.kind == "count":
        return isinstance(value, numbers.Integral) and not isinstance(value, bool) and _within(rule, value)
    if rule.kind == "switch":
        return isinstance(value, bool | np.bool_)
    if rule.kind == "choice":
        return value in rule.options if isinstance(value, str) else False
    if rule.kind == "text":
        return isinstance(value, str) and bool(value)
    if rule.kind == "sizes":
        fits = isinstance(value, tuple) and len(value) <= MAX_LAYERS
        return fits and all(_allows(rule._replace(kind="count"), size) for size in value)
    return isinstance(value, FrozenDict)


def _is_real(value: Any) -> bool:
    if isinstance(value, bool | np.bool_ | str | tuple):
        return False
    try:
        array = np.asarray(value)
    except TypeError:  # a key array
        return False
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes inf
        return array.shape == () and array.dtype.kind in "fiu" and bool(np.isfinite(np.float32(array)))


def _within(rule: Rule, value: Any) -> bool:
    above = value > rule.low if rule.low_open else value >= rule.low
    below = value < rule.high if rule.high_open else value <= rule.high
    return above and below


def describe(rule: Rule) -> str:
    """Return the allowed values of `rule` in words, such as 'a whole number, at least 1'."""
    if rule.kind == "choice":
        return "one of " + ", ".join(rule.options)
    words = {
        "real": "a finite number",
        "count": "a whole number",
        "ratio": "a whole number or a fraction",
        "switch": "True or False",
        "text": "a non-empty string",
        "sizes": f"a tuple of at most {MAX_LAYERS} whole numbers",
        "mapping": "a mapping from names to values",
    }[rule.kind]
    if math.isfinite(rule.low):
        words += f", {'above' if rule.low_open else 'at least'} {rule.low:,}"
    if math.isfinite(rule.high):
        words += f", {'below' if rule.high_open else 'at most'} {rule.high:,}"
    return words + (", or None to switch it off" if rule.optional and rule.kind == "real" else "")


def to_dict(cfg: Config) -> dict[str, Any]:
    """Return `cfg` as plain JSON-ready values; `purerl.make_config(**to_dict(cfg)) == cfg`."""
    values = {field.name: plain(getattr(cfg, field.name)) for field in dataclasses.fields(cfg)}
    return {"algo": cfg.algo} | values


def from_dict(cls: type[T], values: Mapping[str, Any]) -> T:
    """Return a checked `cls` from plain values. Raises ConfigError for an unknown field or a bad value."""
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for name, value in values.items():
        if name not in names:
            what = f"a field of {cls.__name__}: one of {', '.join(names)}"
            raise ConfigError(name, value, what, did_you_mean(name, names))
    cfg = cls(**{name: freeze(value) for name, value in values.items()})
    check(cfg)
    return cfg
