"""The networks of an actor and a critic, and the distributions that the actor's outputs mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from purerl import networks as nets
from purerl.config import Config, ConfigError
from purerl.distributions import Distribution, of_outputs
from purerl.ops.initializers import orthogonal
from purerl.types import Array, EnvSpec, Key, Network, PyTree

LOG_STD_RANGE = (-20.0, 2.0)
"""Of a spread that depends on the state: what a network may put out by mistake stays finite."""


class ActorCritic(NamedTuple):
    """What an algorithm asks of its networks; `params` has an entry for each of them."""

    init: Callable[[Key], dict[str, PyTree]]
    outputs: Callable[[PyTree, Array], PyTree]
    """`(params, obs [B, O]) -> logits [B, K]`, or `(mean, log_std)`, each `[B, A]`."""
    distribution: Callable[[PyTree], Distribution]
    """Of such outputs."""
    value: Callable[[PyTree, Array], Array]
    """`(params, obs [B, O]) -> [B]`."""

    def policy(self, params: PyTree, obs: Array) -> Distribution:
        """The distribution over actions at `obs [B, O]`."""
        return self.distribution(self.outputs(params, obs))


def validate_spaces(cfg: Config, spec: EnvSpec) -> None:
    """Raises ConfigError unless actions are an index or a flat row of numbers."""
    space = spec.action_space
    flat = isinstance(space, spaces.Box) and len(space.shape) == 1
    if not isinstance(space, spaces.Discrete) and not flat:
        what = f"{cfg.algo} needs a Discrete or a flat Box action space, and {spec.name} has {space}"
        raise ConfigError("env", cfg.env, what)


def heads(cfg: Any, spec: EnvSpec, hidden_sizes: tuple[int, ...]) -> dict[str, Network]:
    """`pi: [B, ...] -> logits [B, K]` or `(mean, log_std), [B, A]`, and `v: [B, ...] -> [B]`."""

    def mlp(out: int, out_scale: Any) -> nets.MLP:
        init, out_init = orthogonal(np.sqrt(2)), orthogonal(out_scale)
        return nets.MLP(hidden_sizes, out, cfg.activation, init, out_init, cfg.layer_norm)

    space = spec.action_space
    if isinstance(space, spaces.Discrete):
        pi = mlp(int(space.n), cfg.pi_init_scale)
    elif cfg.state_dependent_std:
        pi = nets.Gaussian(mlp(2 * space.shape[0], cfg.pi_init_scale), LOG_STD_RANGE, cfg.init_log_std)
    else:
        pi = nets.FixedSpreadGaussian(mlp(space.shape[0], cfg.pi_init_scale), cfg.init_log_std)
    return {"pi": nets.network(pi), "v": nets.network(nets.Scalar(mlp(1, 1.0)))}


def torso(cfg: Any) -> nets.MLP:
    """The hidden layers alone: `obs [B, O] -> [B, H]`."""
    return nets.MLP(cfg.hidden_sizes, None, cfg.activation, orthogonal(np.sqrt(2)), layer_norm=cfg.layer_norm)


def default_networks(cfg: Any, spec: EnvSpec) -> dict[str, Network]:
    """`pi` and `v`, of observations, or of what a shared `torso: obs -> [B, H]` makes of them."""
    if not getattr(cfg, "shared_torso", False):
        return heads(cfg, spec, cfg.hidden_sizes)
    return {"torso": nets.network(torso(cfg)), **heads(cfg, spec, ())}


def make_actor_critic(cfg: Any, spec: EnvSpec, networks: Mapping[str, Any] | None = None) -> ActorCritic:
    """The functions of an actor and a critic for `spec`, with the user's `networks` in place of ours."""
    chosen = nets.choose(default_networks(cfg, spec), networks)

    def features(params: PyTree, obs: Array) -> Array:
        return chosen["torso"].apply(params["torso"], obs) if "torso" in chosen else obs

    def init(key: Key) -> dict[str, PyTree]:
        keys = dict(zip(chosen, jax.random.split(key, len(chosen)), strict=True))
        obs, params = jnp.zeros((1, *spec.observation_space.shape)), {}
        if "torso" in chosen:
            params["torso"] = chosen["torso"].init(keys["torso"], obs)
        x = features(params, obs)
        return params | {name: chosen[name].init(keys[name], x) for name in ("pi", "v")}

    def outputs(params: PyTree, obs: Array) -> PyTree:
        return chosen["pi"].apply(params["pi"], features(params, obs))

    def distribution(outputs: PyTree) -> Distribution:
        return of_outputs(spec.action_space, outputs)

    def value(params: PyTree, obs: Array) -> Array:
        return chosen["v"].apply(params["v"], features(params, obs))

    return ActorCritic(init, outputs, distribution, value)
