"""Advantage actor-critic (Mnih et al. 2016, arXiv:1602.01783, the synchronous form).

After every few steps of all environments, one gradient step on
`-mean(log pi(a|s) A) + c_v (V - target)^2 / 2 - c_e entropy`, where the advantage is that of n-step
returns (gae_lambda = 1 bootstraps each from the end of the rollout, as in the paper).

Choices: rewards divided by the standard deviation of the return; RMSProp with one set of statistics, or
Adam; separate actor and critic unless `shared_torso`; gradients clipped by their global norm.
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
from purerl.config import choice, count, real, switch
from purerl.ops import losses
from purerl.types import Algorithm, EnvSpec, PyTree, Transition

__all__ = ["A2CConfig", "default_networks", "make", "validate"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class A2CConfig(on_policy.OnPolicyConfig):
    """Hyperparameters of A2C."""

    algo: ClassVar[str] = "a2c"

    num_envs: int = count(16, high=2**20)
    """Environments per seed, stepped in parallel."""
    num_steps: int = count(8)
    """Steps of each environment per update."""
    learning_rate: float = real(2e-3, above=0)
    """Step size."""
    anneal_lr: bool = switch(True)
    """Decrease the step size linearly to 0 over total_timesteps."""
    optimizer: str = choice("rmsprop", ("rmsprop", "adam"))
    """Gradient transformation."""
    gae_lambda: float = real(1.0, low=0, high=1)
    """Lambda of the advantages; 1 for n-step returns."""
    normalize_advantage: bool = switch(False)
    """Standardise the advantages of each update."""
    ent_coef: float = real(0.0, low=0)
    """Weight of the entropy bonus in the loss."""
    vf_coef: float = real(0.5, low=0)
    """Weight of the value loss."""
    shared_torso: bool = switch(False)
    """Use one torso for actor and critic, as in the paper."""


class State(NamedTuple):
    """State of A2C between updates."""

    params: PyTree
    """Parameters of the policy `pi`, the value function `v` and, with `shared_torso`, their `torso`."""
    opt_state: optax.OptState
    normalizer: normalize.Normalizer


def validate(cfg: A2CConfig, spec: EnvSpec) -> None:
    """Raise ConfigError if `cfg` does not fit `spec`."""
    validate_spaces(cfg, spec)
    on_policy.validate_rollout(cfg)


def make(cfg: A2CConfig, spec: EnvSpec, networks: dict[str, Any] | None = None) -> Algorithm:
    """Return A2C for `spec`; the real-valued fields of `cfg` may be traced."""
    model = make_actor_critic(cfg, spec, networks)

    def optimizer(learning_rate) -> optax.GradientTransformation:
        if cfg.optimizer == "adam":
            return on_policy.adam(cfg, learning_rate)
        rmsprop = optax.rmsprop(learning_rate, decay=0.99, eps=1e-5)
        return optax.chain(on_policy.clip_gradient(cfg), rmsprop)

    def loss(params: PyTree, obs, action, estimates: on_policy.Estimates):
        policy = model.policy(params, obs)
        entropy, advantage = policy.entropy().mean(), estimates.advantage
        advantage = losses.standardize(advantage) if cfg.normalize_advantage else advantage
        pi_loss = losses.policy_gradient(policy.log_prob(action), advantage)
        v_loss = losses.half_mean_square(model.value(params, obs) - estimates.target)
        metrics = {"pi/loss": pi_loss, "pi/entropy": entropy, "v/loss": v_loss}
        return pi_loss + cfg.vf_coef * v_loss - cfg.ent_coef * entropy, metrics

    def init(key) -> State:
        params = model.init(key)
        return State(params, optimizer(0.0).init(params), normalize.init(cfg, spec))

    def act(state: State, carry, obs, key, step, *, explore: bool):
        policy = model.policy(state.params, normalize.normalize_obs(cfg, state.normalizer, obs))
        return (policy.sample_and_log_prob(seed=key)[0] if explore else policy.mode()), carry, {}

    def observe(state: State, transition: Transition) -> State:
        return state._replace(normalizer=normalize.observe(cfg, state.normalizer, transition))

    def update(state: State, transition: Transition, key, step):
        observed, steps = observe(state, transition), on_policy.flatten_time(transition)
        obs = normalize.normalize_obs(cfg, state.normalizer, steps.obs)
        value = partial(model.value, state.params)
        estimates = on_policy.estimate(cfg, value, state.normalizer, observed.normalizer, transition)
        left = on_policy.remaining(cfg, step) if cfg.anneal_lr else 1.0
        gradient, metrics = jax.grad(loss, has_aux=True)(state.params, obs, steps.action, estimates)
        updates, opt_state = optimizer(cfg.learning_rate * left).update(gradient, state.opt_state)
        metrics = on_policy.with_explained_variance(metrics, estimates.value, estimates.target)
        return State(optax.apply_updates(state.params, updates), opt_state, observed.normalizer), metrics

    return Algorithm(
        init=init, act=act, observe=observe, update=update, num_envs=cfg.num_envs, num_steps=cfg.num_steps
    )
