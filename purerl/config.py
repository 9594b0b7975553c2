"""Configurations: frozen dataclasses whose every field says what it allows.

A field made by `real` is a *leaf*: a number that may be a traced value, so that one compiled program
serves many learning rates. Every other field is *static*: a shape, a switch or a name, hashable, and
part of the program. `None` in an optional real field switches the feature off, which is static.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import numbers
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, NamedTuple, TypeVar

import jax
import numpy as np
from flax.core import FrozenDict
from jax.core import Tracer

INT32_STEPS = 2_000_000_000
"""The largest step count: steps are int32 inside the program, and a chunk must not wrap them."""
MAX_INTERVAL = 100_000_000
"""Most steps of a row of metrics: totals are rounded up by as much, and are still int32 then."""
MAX_LAYERS = 32
SHOWN = 80
"""Characters of a value that a message shows."""


class ConfigError(ValueError):
    """A value that cannot work. The message names the field, the value and what is allowed.

    It is one line, whatever was given: names and values may come from strangers, so what does not print
    (line ends, terminal controls) is shown escaped, and what is long is cut.
    """

    def __init__(self, field: str, value: Any, allowed: str, hint: str = ""):
        self.field, self.value = field, value
        message = f"{shorten(field)} = {shorten(_repr(value))} is not allowed: {allowed.rstrip('.')}."
        message += hint and f" {hint}"
        printed = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)
        super().__init__("".join(printed))


def shorten(text: str, limit: int = SHOWN) -> str:
    """`text`, cut to `limit` characters."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _repr(value: Any) -> str:
    try:
        return repr(_plain(value) if isinstance(value, Mapping) else value)
    except Exception:  # an integer of 5,000 digits, a list of lists of lists, a class of the user's own
        return f"<{type(value).__name__} that cannot be shown>"


class Rule(NamedTuple):
    """What one field allows."""

    kind: str
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
    """A vmappable real number in `[low, high]`, or beyond `above` or under `below`, exclusive."""
    return _field(
        default,
        Rule(
            "real",
            low if above is None else above,
            high if below is None else below,
            low_open=above is not None,
            high_open=below is not None,
            optional=optional,
        ),
    )


def count(default: int, *, low: int = 1, high: int = INT32_STEPS) -> Any:
    """A static whole number in `[low, high]`."""
    return _field(default, Rule("count", low, high))


def switch(default: bool) -> Any:
    """A static True or False."""
    return _field(default, Rule("switch"))


def choice(default: str, options: Iterable[str]) -> Any:
    """A static name out of a few."""
    return _field(default, Rule("choice", options=tuple(options)))


def text(default: str | None, *, optional: bool = False) -> Any:
    """A static string."""
    return _field(default, Rule("text", optional=optional))


def sizes(default: tuple[int, ...]) -> Any:
    """A static tuple of positive whole numbers, the widths of hidden layers."""
    return _field(default, Rule("sizes", low=1, high=65_536))


def mapping() -> Any:
    """A static mapping from names to plain values, empty by default."""
    return _field(FrozenDict(), Rule("mapping"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The fields every algorithm has; each algorithm's own Config adds its hyperparameters."""

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
    """Environments that each seed steps side by side."""
    log_interval: int = count(1_000, high=MAX_INTERVAL)
    """Environment steps between two rows of metrics; rounded up to whole updates."""
    eval_interval: int = count(10_000, low=0)
    """Environment steps between two evaluations of the deterministic policy; 0 switches them off."""
    eval_episodes: int = count(10, high=2**16)
    """Whole episodes per evaluation."""
    eval_stochastic: bool = switch(False)
    """Evaluate the exploring policy too, under `eval_stochastic/`, beside the deterministic one."""
    checkpoint_interval: int = count(20_000, low=0)
    """Environment steps between two checkpoints of a run that has a directory; 0 saves at the end only."""


ConfigT = TypeVar("ConfigT", bound=Config)
T = TypeVar("T")


def leaves(cfg: Config) -> dict[str, Any]:
    """The vmappable fields of `cfg` that are switched on, by name."""
    return {
        field.name: value
        for field in dataclasses.fields(cfg)
        if field.metadata["rule"].kind == "real" and (value := getattr(cfg, field.name)) is not None
    }


def replace(cfg: ConfigT, hyper: Mapping[str, Any]) -> ConfigT:
    """`cfg` with the leaves of `hyper` in place; the values may be traced.

    Raises ConfigError for a name that is not a leaf of `cfg`, or a concrete value it does not allow.
    """
    allowed = leaves(cfg)
    fields = {field.name: field for field in dataclasses.fields(cfg)}
    for name, value in hyper.items():
        if name not in allowed:
            what = f"hyper takes the real-valued fields {', '.join(sorted(allowed))}"
            raise ConfigError(name, value, what, did_you_mean(name, allowed))
        validate_value(name, value, fields[name])
    return dataclasses.replace(cfg, **hyper)


def freeze(value: Any) -> Any:
    """`value` with lists and arrays turned into tuples, and mappings into hashable ones."""
    if isinstance(value, Mapping):
        return FrozenDict({str(key): freeze(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return tuple(freeze(item) for item in value)
    if isinstance(value, np.ndarray | jax.Array) and not isinstance(value, Tracer):
        return freeze(value.tolist()) if hasattr(value, "tolist") else value  # a key array has none
    return value


def check(cfg: Any) -> None:
    """Check every field of `cfg` against its own rule. Raises ConfigError for the first that fails.

    `cfg` is a Config, or another dataclass whose fields have rules.
    """
    for field in dataclasses.fields(cfg):
        validate_value(field.name, getattr(cfg, field.name), field)


def validate_value(name: str, value: Any, field: dataclasses.Field) -> None:
    """Raises ConfigError unless `value` is what `field`, made by `real`, `count` ..., allows."""
    rule = field.metadata["rule"]
    if not _allows(rule, value):
        hint = did_you_mean(value, rule.options) if isinstance(value, str) else ""
        if rule.kind == "sizes" and isinstance(value, str):
            hint = "Write 64 64 on a command line and [64, 64] in a file."
        raise ConfigError(name, value, describe(rule), hint)


def _allows(rule: Rule, value: Any) -> bool:
    if value is None:
        return rule.optional
    if rule.kind == "real":
        return isinstance(value, Tracer) or (_is_real(value) and _within(rule, np.float32(value)))
    if rule.kind == "count":
        return isinstance(value, numbers.Integral) and not isinstance(value, bool) and _within(rule, value)
    if rule.kind == "switch":
        return isinstance(value, bool | np.bool_)
    if rule.kind == "choice":
        return value in rule.options if isinstance(value, str) else False
    if rule.kind == "text":
        return isinstance(value, str) and bool(value)
    if rule.kind == "sizes":
        one = Rule("count", rule.low, rule.high)
        fits = isinstance(value, tuple) and len(value) <= MAX_LAYERS
        return fits and all(_allows(one, size) for size in value)
    return isinstance(value, FrozenDict)


def _is_real(value: Any) -> bool:
    if isinstance(value, bool | np.bool_ | str | tuple):
        return False
    try:
        array = np.asarray(value)
    except TypeError:  # a key array
        return False
    with np.errstate(over="ignore"):  # what float32 cannot hold is not finite to the program
        return array.shape == () and array.dtype.kind in "fiu" and bool(np.isfinite(np.float32(array)))


def _within(rule: Rule, value: Any) -> bool:
    above = value > rule.low if rule.low_open else value >= rule.low
    below = value < rule.high if rule.high_open else value <= rule.high
    return above and below


def describe(rule: Rule) -> str:
    """What `rule` allows, in words."""
    if rule.kind == "choice":
        return "one of " + ", ".join(rule.options)
    words = {
        "real": "a finite number",
        "count": "a whole number",
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


ALIASES = {
    "algorithm": "algo",
    "agent": "algo",
    "env_id": "env",
    "env_name": "env",
    "environment": "env",
    "task": "env",
    "backend": "engine",
    "num_seeds": "seeds",
    "n_seeds": "seeds",
    "random_seed": "seed",
    "log_dir": "logdir",
    "output_dir": "logdir",
    "lr": "learning_rate",
    "step_size": "learning_rate",
    "lr_decay": "anneal_lr",
    "alpha": "ent_coef",
    "temperature": "ent_coef",
    "entropy_coef": "ent_coef",
    "entropy_cost": "ent_coef",
    "value_coef": "vf_coef",
    "discount": "gamma",
    "discounting": "gamma",
    "steps": "total_timesteps",
    "timesteps": "total_timesteps",
    "total_steps": "total_timesteps",
    "max_steps": "total_timesteps",
    "num_timesteps": "total_timesteps",
    "eval_freq": "eval_interval",
    "n_eval_episodes": "eval_episodes",
    "polyak": "tau",
    "lam": "gae_lambda",
    "lambda": "gae_lambda",
    "clip_ratio": "clip_eps",
    "clip_range": "clip_eps",
    "clip_coef": "clip_eps",
    "grad_clip": "max_grad_norm",
    "n_envs": "num_envs",
    "n_steps": "num_steps",
    "rollout_length": "num_steps",
    "unroll_length": "num_steps",
    "epochs": "num_epochs",
    "update_epochs": "num_epochs",
    "minibatches": "num_minibatches",
    "n_minibatches": "num_minibatches",
    "start_steps": "learning_starts",
    "warmup_steps": "learning_starts",
    "replay_size": "buffer_size",
    "train_freq": "updates_per_step",
    "gradient_steps": "updates_per_step",
    "utd_ratio": "updates_per_step",
    "hidden_dims": "hidden_sizes",
    "net_arch": "hidden_sizes",
    "layers": "hidden_sizes",
}
"""What other libraries call a field of ours; used in error messages only."""


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """A sentence that names the nearest of `allowed`, or nothing if none is near."""
    allowed = list(allowed)
    plain = name.replace("-", "_").lower()
    near = [ALIASES[plain]] if ALIASES.get(plain) in allowed else difflib.get_close_matches(plain, allowed, 1)
    return f"Did you mean {near[0]}?" if near else ""


def to_dict(cfg: Config) -> dict[str, Any]:
    """`cfg` as plain JSON-ready values; `purerl.make_config(**to_dict(cfg)) == cfg`."""
    values = {field.name: _plain(getattr(cfg, field.name)) for field in dataclasses.fields(cfg)}
    return {"algo": cfg.algo} | values


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic | np.ndarray | jax.Array):
        return value.item()
    return value


def from_dict(cls: type[T], values: Mapping[str, Any]) -> T:
    """A `cls` from plain values, checked. Raises ConfigError for an unknown field or a bad value."""
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for name, value in values.items():
        if name not in names:
            what = f"{cls.__name__} has no such field; its fields are {', '.join(names)}"
            raise ConfigError(name, value, what, did_you_mean(name, names))
    cfg = cls(**{name: freeze(value) for name, value in values.items()})
    check(cfg)
    return cfg
