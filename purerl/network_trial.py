"""A trial of a user's networks on the shapes of one and of several observations, before anything compiles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from purerl.config import Config, ConfigError
from purerl.networks import choose
from purerl.pixels import are_pixels
from purerl.shown import Words, shape_of, shapes_of, shorten
from purerl.spaces import CHOICES, shapes, vector_size
from purerl.types import EnvSpec, Network, PyTree

BATCHES = (1, 3)
"""Observations of a trial. A network that drops an axis of length 1 fails the first, one of a fixed batch the
second."""
PAGE = "See docs/networks.md."
STATES = {"batch_stats", "cache"}
"""Collections of flax that are no parameters, also where the user's own `init` calls a module's."""
Shape = jax.ShapeDtypeStruct


def try_networks(cfg: Config, spec: EnvSpec, networks: Any, algorithm: ModuleType) -> None:
    """Raise ConfigError unless the user's `networks` are pairs that give what the algorithm expects.

    Args:
        cfg: the configuration.
        spec: the environment's spaces.
        networks: the user's pairs by name, or None.
        algorithm: the module of the algorithm; one without `default_networks` has no trial.
    """
    if networks is None:
        return
    if not isinstance(networks, Mapping):
        what = 'a mapping from names to pairs of functions, such as {"pi": (module.init, module.apply)}'
        raise ConfigError("networks", Words(f"<{type(networks).__name__}>"), what, PAGE)
    if not hasattr(algorithm, "default_networks"):
        return
    defaults = algorithm.default_networks(cfg, spec)
    choose(defaults, dict.fromkeys(networks, (None, None)))  # the names
    for name, pair in networks.items():
        _check_pair(name, pair)
    for batch in BATCHES:
        _try_batch(cfg, spec, choose(defaults, networks), defaults, list(networks), batch)


def _check_pair(name: str, pair: Any) -> None:
    if isinstance(pair, Network):  # such as one of `default_networks`
        return
    if isinstance(pair, tuple | list) and len(pair) == 2 and all(map(callable, pair)):
        return
    hint = "Of a flax module, give (module.init, module.apply)." if isinstance(pair, nn.Module) else ""
    value = Words(f"<{type(pair).__name__}>")
    if isinstance(pair, tuple | list):
        value = Words(f"({', '.join(type(part).__name__ for part in pair)})")
    what = "a pair of functions (init, apply)"
    raise ConfigError(f"networks[{name!r}]", value, what, hint or PAGE)


def _try_batch(
    cfg: Any,
    spec: EnvSpec,
    chosen: Mapping[str, Network],
    defaults: Mapping[str, Network],
    names: list[str],
    batch: int,
) -> None:
    """Apply the networks to `batch` observations, after `init` with a single one, as algorithms do."""

    def seen(box: Shape) -> Shape:
        scaled = getattr(cfg, "normalize_obs", False) and not are_pixels(box.shape[1:], box.dtype)
        return Shape(box.shape, jnp.float32) if scaled else box

    def obs(size: int) -> PyTree:
        return jax.tree.map(seen, shapes(spec.observation_space, size))

    def action(size: int) -> Shape:
        return shapes(spec.action_space, size)

    def vectors(width: int) -> Callable[[int], Shape]:
        return lambda size: Shape((size, width), jnp.float32)

    inputs: dict[str, tuple[Callable[[int], PyTree], ...]] = {"torso": (obs,)}
    features: Callable[[int], PyTree] = obs
    if "core" in chosen:
        previous = (vectors(vector_size(spec.action_space)),) if "q" in chosen else ()
        inputs["core"] = (vectors(cfg.rnn_size), obs, *previous)
    for name in ("torso", "core"):
        if name in chosen:
            out = _outputs(name, chosen[name], inputs[name], batch)
            _check_features(name, out, batch, cfg)
            features = vectors((out if name == "torso" else out[1]).shape[1])
    of_action = () if isinstance(spec.action_space, CHOICES) else (action,)
    implicit = (vectors(cfg.num_quantiles),) if getattr(cfg, "critic", "") == "implicit" else ()
    inputs |= {"pi": (features,), "v": (features,), "q": (features, *of_action, *implicit)}
    for name in names:
        if name in inputs and name not in ("torso", "core"):
            network = _with_noise(chosen[name]) if getattr(cfg, "noisy", False) else chosen[name]
            out = _outputs(name, network, inputs[name], batch)
            expected = _outputs(name, defaults[name], inputs[name], batch, ours=True)
            if not _alike(out, expected):
                what = _in_words(name, expected, spec)
                raise _wrong(name, out, what, [one(batch) for one in inputs[name]])


def _with_noise(network: Network) -> Network:
    """Return `network` as one that explores calls it."""
    return network._replace(apply=lambda *inputs: network.apply(*inputs, noise=jax.random.key(0)))


def _outputs(
    name: str,
    network: Network,
    inputs: tuple[Callable[[int], PyTree], ...],
    batch: int,
    *,
    ours: bool = False,
) -> Any:
    """Return the shapes that `network` gives for `batch` rows of inputs. Raise ConfigError if it fails."""
    one, many = ([make(size) for make in inputs] for size in (1, batch))
    key = jax.eval_shape(lambda: jax.random.key(0))
    params = _called(name, "init(key", network.init, key, one)
    if not ours and network.settle is None:  # those with statistics of their batches train them knowingly
        _check_params(name, network.init, params)
    return _called(name, "apply(params", network.apply, params, many)


def _called(name: str, call: str, function: Callable[..., Any], first: Any, inputs: list[Shape]) -> Any:
    try:
        return jax.eval_shape(function, first, *inputs)
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        given = ", ".join(map(shapes_of, inputs))
        what = f"a function that can be called as {call}, {given}), got {shorten(reason, 300)}"
        raise ConfigError(f"networks[{name!r}]", Words(call.partition("(")[0]), what, PAGE) from error


def _check_params(name: str, init: Any, params: Any) -> None:
    """Raise ConfigError unless an optimiser may train all that `init` gives."""
    names = list(params) if isinstance(params, Mapping) else []
    of_flax = isinstance(getattr(init, "__self__", None), nn.Module)
    others = [key for key in names if (key != "params" if of_flax else key in STATES and "params" in names)]
    if others:
        what = "the collection params alone, since an optimiser would train the others like parameters"
        raise ConfigError(f"init of networks[{name!r}]", Words(", ".join(map(str, names))), what, PAGE)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            where = f"params{jax.tree_util.keystr(path)} of networks[{name!r}]"
            what = "floats, since an optimiser trains every leaf"
            raise ConfigError(where, shape_of(leaf), what, "Keep other values in the functions.")


def _check_features(name: str, out: Any, batch: int, cfg: Any) -> None:
    if name == "torso":
        if not (_is_rows(out, batch) and len(out.shape) == 2):
            raise _wrong(name, out, "features [B, H]", batch)
        return
    pair = isinstance(out, tuple | list) and len(out) == 2
    fits = pair and all(_is_rows(part, batch) and len(part.shape) == 2 for part in out)
    if not fits or out[0].shape[1] != cfg.rnn_size:
        what = f"(carry [B, {cfg.rnn_size}], features [B, H]), with rnn_size = {cfg.rnn_size}"
        raise _wrong(name, out, what, batch)


def _is_rows(out: Any, batch: int) -> bool:
    floats = isinstance(out, Shape) and jnp.issubdtype(out.dtype, jnp.floating)
    return floats and out.shape[:1] == (batch,)


def _alike(out: Any, expected: Any) -> bool:
    """Return True if `out` has floats in the shapes of `expected`; a list is as good as a tuple."""
    if isinstance(expected, tuple):
        pair = isinstance(out, tuple | list) and len(out) == len(expected)
        return pair and all(map(_alike, out, expected))
    is_array = isinstance(out, Shape) and jnp.issubdtype(out.dtype, jnp.floating)
    return is_array and out.shape == expected.shape


def _in_words(name: str, expected: Any, spec: EnvSpec) -> str:
    """Return the outputs of the default network in words, such as "(mean [B, 2], log_std [B, 2])"."""
    if isinstance(expected, tuple):
        width = expected[0].shape[1]
        return f"(mean [B, {width}], log_std [B, {width}])"
    if len(expected.shape) == 1:
        return "values [B]"
    discrete = isinstance(spec.action_space, CHOICES)
    if len(expected.shape) == 3:
        return f"outputs of all actions [B, {expected.shape[1]}, {expected.shape[2]}]"
    if name == "q":
        kind = "values of all actions" if discrete else "logits of the atoms"
    else:
        kind = "logits" if discrete else "actions"
    return f"{kind} [B, {expected.shape[1]}]"


def _wrong(name: str, out: Any, what: str, inputs: Any) -> ConfigError:
    given = f"{inputs} rows" if isinstance(inputs, int) else ", ".join(map(shapes_of, inputs))
    return ConfigError(f"output of networks[{name!r}]", shapes_of(out), f"{what} for {given}", PAGE)
