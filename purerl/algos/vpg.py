"""Vanilla policy gradient: REINFORCE (Williams 1992) with a learned baseline and GAE.

One ascent step on `mean(log pi(a|s) A)` per rollout, whose gradient is that of the expected return
(Sutton et al. 2000; Schulman et al. 2016, arXiv:1506.02438, eq. 1 and 16), then several passes of the
critic on `(V - target)^2 / 2`, where the target is the bootstrapped reward-to-go.

Choices: rewards divided by the standard deviation of the return; advantages standardised over the rollout;
separate actor and critic, each with its own Adam. The advantages come from the critic before its passes:
afterwards it has been fitted to these returns.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import optax

from purerl import normalize
from purerl.algos import on_policy
from purerl.algos.actor_critic import default_networks, make_actor_critic, validate_spaces
from purerl.config import count, real, switch
from purerl.ops import losses
from purerl.types import Algorithm, Array, EnvSpec, PyTree, Transition

__all__ = ["VPGConfig", "default_networks", "make", "validate"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class VPGConfig(on_policy.OnPolicyConfig):
    """Hyperparameters of VPG."""

    algo: ClassVar[str] = "vpg"

    num_envs: int = count(16, high=2**20)
    """Environments per seed, stepped in parallel."""
    num_steps: int = count(64)
    """Steps of each environment per update."""
    num_epochs: int = count(10)
    """Passes of the critic over the rollout per update; the policy takes a single step."""
    num_minibatches: int = count(8)
    """Gradient steps of the critic per pass; must divide num_envs * num_steps."""
    learning_rate: float = real(3e-3, above=0)
    """Adam step size of the policy."""
    value_learning_rate: float = real(1e-3, above=0)
    """Adam step size of the critic."""
    anneal_lr: bool = switch(True)
    """Decrease the policy's step size linearly to 0 over total_timesteps."""
    gae_lambda: float = real(0.97, low=0, high=1)
    """Lambda of the advantages: 0 for least variance, 1 for least bias (arXiv:1506.02438)."""
    value_lambda: float | None = real(1.0, low=0, high=1, optional=True)
    """Lambda of the critic's targets; 1 for the reward-to-go, None for gae_lambda."""
    ent_coef: float = real(0.0, low=0)
    """Weight of the entropy bonus in the loss."""


class State(NamedTuple):
    """State of VPG between updates."""

    params: PyTree
    """Parameters of the policy `pi` and the value function `v`."""
    opt_state: dict[str, optax.OptState]
    normalizer: normalize.Normalizer


def validate(cfg: VPGConfig, spec: EnvSpec) -> None:
    """Raise ConfigError if `cfg` does not fit `spec`."""
    validate_spaces(cfg, spec)
    on_policy.validate_rollout(cfg)


def make(cfg: VPGConfig, spec: EnvSpec, networks: dict[str, Any] | None = None) -> Algorithm:
    """Return VPG for `spec`; the real-valued fields of `cfg` may be traced."""
    model = make_actor_critic(cfg, spec, networks)

    def value(v_params: PyTree, obs: Array) -> Array:
        return model.value({"v": v_params}, obs)

    def pi_loss(pi_params: PyTree, obs: Array, action: Array, advantage: Array):
        policy = model.policy({"pi": pi_params}, obs)
        entropy = policy.entropy().mean()
        loss = losses.policy_gradient(policy.log_prob(action), advantage)
        return loss - cfg.ent_coef * entropy, {"pi/loss": loss, "pi/entropy": entropy}

    def init(key) -> State:
        params = model.init(key)
        opt_state = {name: on_policy.adam(cfg, 0.0).init(params[name]) for name in ("pi", "v")}
        return State(params, opt_state, normalize.init(cfg, spec))

    def act(state: State, carry, obs, key, step, *, explore: bool):
        policy = model.policy(state.params, normalize.normalize_obs(cfg, state.normalizer, obs))
        return (policy.sample_and_log_prob(seed=key)[0] if explore else policy.mode()), carry, {}

    def observe(state: State, transition: Transition) -> State:
        return state._replace(normalizer=normalize.observe(cfg, state.normalizer, transition))

    def ascend(state: State, obs: Array, action: Array, advantage: Array, step):
        """Return the policy and its optimiser after one step, and the metrics."""
        params, opt_state = state.params["pi"], state.opt_state["pi"]
        left = on_policy.remaining(cfg, step) if cfg.anneal_lr else 1.0
        gradient, metrics = jax.grad(pi_loss, has_aux=True)(params, obs, action, advantage)
        updates, opt_state = on_policy.adam(cfg, cfg.learning_rate * left).update(gradient, opt_state)
        after = optax.apply_updates(params, updates)
        old, new = (model.policy({"pi": pi}, obs) for pi in (params, after))
        return after, opt_state, metrics | {"pi/kl": old.kl_divergence(new).mean()}

    def update(state: State, transition: Transition, key, step):
        observed, steps = observe(state, transition), on_policy.flatten_time(transition)
        obs = normalize.normalize_obs(cfg, state.normalizer, steps.obs)
        old_value, advantage, target = on_policy.estimate(
            cfg, partial(value, state.params["v"]), state.normalizer, observed.normalizer, transition
        )
        pi, pi_opt, metrics = ascend(state, obs, steps.action, losses.standardize(advantage), step)
        critic = state.params["v"], state.opt_state["v"]
        (v, v_opt), more = on_policy.fit_critic(cfg, value, critic, obs, target, key)
        metrics = on_policy.with_explained_variance(metrics | more, old_value, target)
        return State({"pi": pi, "v": v}, {"pi": pi_opt, "v": v_opt}, observed.normalizer), metrics

    return Algorithm(
        init=init, act=act, observe=observe, update=update, num_envs=cfg.num_envs, num_steps=cfg.num_steps
    )
