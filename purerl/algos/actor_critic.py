"""Actor and critic of the on-policy methods: networks, and the distribution of their outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from gymnasium import spaces

from purerl import networks as nets
from purerl.algos.on_policy import OnPolicyConfig
from purerl.config import Config, ConfigError
from purerl.distributions import Distribution, of_outputs
from purerl.spaces import ACTIONS, CHOICES, as_floats, zeros
from purerl.types import Array, EnvSpec, Key, Network, PyTree


class ActorCritic(NamedTuple):
    """Functions of the actor and the critic; `params` has one entry per network."""

    init: Callable[[Key], dict[str, PyTree]]
    outputs: Callable[[PyTree, Array], PyTree]
    """`(params, obs [B, O]) -> logits [B, K]`, or `(mean, log_std)`, each `[B, A]`."""
    distribution: Callable[[PyTree], Distribution]
    """`outputs -> distribution` over actions."""
    value: Callable[[PyTree, Array], Array]
    """`(params, obs [B, O]) -> [B]`."""

    def policy(self, params: PyTree, obs: Array) -> Distribution:
        """Return the distribution over actions at `obs [B, O]`."""
        return self.distribution(self.outputs(params, obs))


def validate_spaces(cfg: Config, spec: EnvSpec) -> None:
    """Raise ConfigError if the action space is neither one of choices nor a flat Box."""
    space = spec.action_space
    flat = isinstance(space, spaces.Box) and len(space.shape) == 1
    if not isinstance(space, CHOICES) and not flat:
        what = f"an environment with {ACTIONS} action space, got {space}"
        raise ConfigError("env", spec.name, what)


def default_networks(cfg: OnPolicyConfig, spec: EnvSpec) -> dict[str, Network]:
    """Return `pi` and `v`; with `cfg.shared_torso` on the features of a common `torso: obs -> [B, H]`."""
    if not getattr(cfg, "shared_torso", False):
        return nets.heads(cfg, spec)
    return {
        "torso": nets.network(nets.orthogonal_torso(cfg, spec)),
        **nets.heads(cfg, spec, on_features=True),
    }


def make_actor_critic(
    cfg: OnPolicyConfig, spec: EnvSpec, networks: Mapping[str, Any] | None = None
) -> ActorCritic:
    """Return the functions of an actor and a critic for `spec`; the user's `networks` replace the default."""
    chosen = nets.choose(default_networks(cfg, spec), networks)

    def features(params: PyTree, obs: Array) -> Array:
        return chosen["torso"].apply(params["torso"], obs) if "torso" in chosen else obs

    def init(key: Key) -> dict[str, PyTree]:
        keys = dict(zip(chosen, jax.random.split(key, len(chosen)), strict=True))
        obs, params = as_floats(zeros(spec.observation_space, 1)), {}
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
