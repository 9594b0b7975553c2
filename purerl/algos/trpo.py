"""Trust Region Policy Optimisation (Schulman et al. 2015, arXiv:1502.05477).

Per rollout, `max mean(ratio A)` subject to `mean KL(old || new) <= delta`  (eq. 14): the natural
direction `F^-1 g` by conjugate gradient on Fisher-vector products (appendix C), scaled to where the
quadratic model meets the limit, then a line search on the true surrogate and divergence. The critic then
takes several passes on `(V - target)^2 / 2`.

Choices: rewards divided by the standard deviation of the return; advantages by GAE, standardised over the
rollout; F damped; separate actor and critic, so that F is the policy's alone. If the line search accepts no
step, the policy does not change.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from purerl import normalize
from purerl.algos import on_policy
from purerl.algos.actor_critic import default_networks, make_actor_critic, validate_spaces
from purerl.config import count, real
from purerl.ops import losses, trust_region
from purerl.types import Algorithm, Array, EnvSpec, PyTree, Transition

__all__ = ["TRPOConfig", "default_networks", "make", "validate"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TRPOConfig(on_policy.OnPolicyConfig):
    """Hyperparameters of TRPO."""

    algo: ClassVar[str] = "trpo"

    num_envs: int = count(16, high=2**20)
    """Environments per seed, stepped in parallel."""
    num_steps: int = count(64)
    """Steps of each environment per update."""
    target_kl: float = real(0.01, above=0)
    """Largest mean KL(old || new) of an update, the limit delta."""
    cg_steps: int = count(10)
    """Iterations of conjugate gradient."""
    cg_damping: float = real(0.1, low=0)
    """Number added to the diagonal of the Fisher matrix."""
    backtrack: float = real(0.8, above=0, below=1)
    """Factor by which the line search shortens a rejected step."""
    backtrack_steps: int = count(10)
    """Most steps that the line search tries."""
    num_epochs: int = count(10)
    """Passes of the critic over the rollout per update."""
    num_minibatches: int = count(8)
    """Gradient steps of the critic per pass; must divide num_envs * num_steps."""
    value_learning_rate: float = real(1e-3, above=0)
    """Adam step size of the critic; that of the policy follows from target_kl."""


class State(NamedTuple):
    """State of TRPO between updates."""

    params: PyTree
    """Parameters of the policy `pi` and the value function `v`."""
    opt_state: optax.OptState
    """Optimiser state of the critic."""
    normalizer: normalize.Normalizer


def validate(cfg: TRPOConfig, spec: EnvSpec) -> None:
    """Raise ConfigError if `cfg` does not fit `spec`."""
    validate_spaces(cfg, spec)
    on_policy.validate_rollout(cfg)


def make(cfg: TRPOConfig, spec: EnvSpec, networks: dict[str, Any] | None = None) -> Algorithm:
    """Return TRPO for `spec`; the real-valued fields of `cfg` may be traced."""
    model = make_actor_critic(cfg, spec, networks)

    def value(v_params: PyTree, obs: Array) -> Array:
        return model.value({"v": v_params}, obs)

    def init(key) -> State:
        params = model.init(key)
        opt_state = on_policy.value_adam(cfg).init(params["v"])
        return State(params, opt_state, normalize.init(cfg, spec))

    def act(state: State, carry, obs, key, step, *, explore: bool):
        policy = model.policy(state.params, normalize.normalize_obs(cfg, state.normalizer, obs))
        return (policy.sample_and_log_prob(seed=key)[0] if explore else policy.mode()), carry, {}

    def observe(state: State, transition: Transition) -> State:
        return state._replace(normalizer=normalize.observe(cfg, state.normalizer, transition))

    def improve(pi_params: PyTree, obs: Array, action: Array, advantage: Array):
        """Return the policy after one update, and the metrics."""
        old = model.policy({"pi": pi_params}, obs)
        old_log_prob = old.log_prob(action)

        def surrogate_loss(pi_params: PyTree) -> Array:
            log_prob = model.policy({"pi": pi_params}, obs).log_prob(action)
            return losses.surrogate(log_prob, old_log_prob, advantage)

        def mean_kl(pi_params: PyTree) -> Array:
            return old.kl_divergence(model.policy({"pi": pi_params}, obs)).mean()

        old_loss, gradient = jax.value_and_grad(surrogate_loss)(pi_params)
        fisher = trust_region.fisher_vector_product(mean_kl, pi_params, cfg.cg_damping)
        descent = jax.tree.map(jnp.negative, gradient)
        direction = trust_region.conjugate_gradient(fisher, descent, cfg.cg_steps)
        step = trust_region.scale_to_limit(fisher, direction, cfg.target_kl)

        def accept(candidate: PyTree) -> Array:
            return (mean_kl(candidate) <= cfg.target_kl) & (surrogate_loss(candidate) <= old_loss)

        found, fraction = trust_region.line_search(
            accept, pi_params, step, cfg.backtrack, cfg.backtrack_steps
        )
        new_loss = surrogate_loss(found)
        return found, {
            "pi/loss": new_loss,
            "pi/improvement": old_loss - new_loss,
            "pi/kl": mean_kl(found),
            "pi/entropy": old.entropy().mean(),
            "pi/accepted": (fraction > 0).astype(jnp.float32),
            "pi/step_fraction": fraction,
        }

    def update(state: State, transition: Transition, key, step):
        observed, steps = observe(state, transition), on_policy.flatten_time(transition)
        obs = normalize.normalize_obs(cfg, state.normalizer, steps.obs)
        old_value, advantage, target = on_policy.estimate(
            cfg, partial(value, state.params["v"]), state.normalizer, observed.normalizer, transition
        )
        pi, metrics = improve(state.params["pi"], obs, steps.action, losses.standardize(advantage))

        critic, more = on_policy.fit_critic(
            cfg, value, (state.params["v"], state.opt_state), obs, target, key
        )
        metrics = on_policy.with_explained_variance(metrics | more, old_value, target)
        return State({"pi": pi, "v": critic[0]}, critic[1], observed.normalizer), metrics

    return Algorithm(
        init=init, act=act, observe=observe, update=update, num_envs=cfg.num_envs, num_steps=cfg.num_steps
    )
