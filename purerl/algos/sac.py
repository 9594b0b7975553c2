"""Soft Actor-Critic with a learned temperature (Haarnoja et al. 2018, arXiv:1812.05905).

The policy maximises reward plus `alpha` times its entropy. Twin critics learn by
`y = r + gamma (1 - terminated) [min_i Q'_i(s', a') - alpha log pi(a'|s')]`   (eq. 5 and 6),
the actor minimises `alpha log pi(a|s) - min_i Q_i(s, a)`                      (eq. 9),
and the temperature keeps the entropy near a target                            (eq. 18).

Choices: one Adam per network; the actor sees the critics after their step; `log alpha` is optimised, as in
the authors' code; actions leave the policy in [-1, 1].
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax

from purerl import networks as nets
from purerl.algos import off_policy
from purerl.algos.off_policy import Learner, State
from purerl.config import real
from purerl.distributions import squashed_sample_and_log_prob
from purerl.ops.losses import half_mean_square, soft_td_target, temperature_loss
from purerl.replay.uniform import Batch
from purerl.types import Algorithm, Array, EnvSpec, Network, PyTree


@dataclasses.dataclass(frozen=True, kw_only=True)
class SACConfig(off_policy.OffPolicyConfig):
    """Hyperparameters of SAC; the defaults are the paper's."""

    algo: ClassVar[str] = "sac"

    ent_coef: float | None = real(None, low=0, optional=True)
    """Temperature alpha; None to learn it."""
    target_entropy: float | None = real(None, optional=True)
    """Entropy, in nats, that a learned temperature aims at; None for minus the number of actions."""


def validate(cfg: SACConfig, spec: EnvSpec) -> None:
    """Raise ConfigError if `cfg` does not fit `spec`."""
    off_policy.validate(cfg, spec)


def default_networks(cfg: SACConfig, spec: EnvSpec) -> dict[str, Network]:
    """Return `pi: obs [B, O] -> (mean, log_std), [B, A]` and one critic `q: obs, action -> [B]`."""
    pi = nets.Gaussian(nets.torso(cfg, spec, 2 * spec.action_space.shape[0]), nets.LOG_STD_RANGE)
    return {"pi": nets.network(pi), "q": nets.network(nets.Scalar(nets.torso(cfg, spec, 1)))}


def make(cfg: SACConfig, spec: EnvSpec, networks: dict[str, Any] | None = None) -> Algorithm:
    """Return SAC for `spec`; the real-valued fields of `cfg` may be traced."""
    chosen = nets.choose(default_networks(cfg, spec), networks)
    pi, q = chosen["pi"], nets.ensemble(chosen["q"], 2)
    adam = optax.adam(cfg.learning_rate)
    target_entropy = -spec.action_space.shape[0] if cfg.target_entropy is None else cfg.target_entropy

    def alpha_of(params: PyTree) -> Array:
        return jnp.exp(params["log_alpha"]) if cfg.ent_coef is None else jnp.float32(cfg.ent_coef)

    def critic_loss(q_params, learner: Learner, batch: Batch, key):
        rows, alpha = batch.rows, alpha_of(learner.params)
        next_action, next_log_prob = squashed_sample_and_log_prob(
            *pi.apply(learner.params["pi"], rows.next_obs), key=key
        )
        next_q = q.apply(learner.target["q"], rows.next_obs, next_action).min(0)
        target = soft_td_target(rows.reward, rows.terminated, next_q, next_log_prob, alpha, cfg.gamma)
        value = q.apply(q_params, rows.obs, rows.action)  # [2, B]
        error = value - jax.lax.stop_gradient(target)[None]
        loss = 2 * half_mean_square(error, batch.weight)  # the sum over both critics
        return loss, (jnp.abs(error).max(0), {"q/loss": loss, "q/mean": value.mean()})

    def actor_loss(pi_params, learner: Learner, batch: Batch, key):
        action, log_prob = squashed_sample_and_log_prob(*pi.apply(pi_params, batch.rows.obs), key=key)
        value = q.apply(learner.params["q"], batch.rows.obs, action).min(0)
        loss = (jax.lax.stop_gradient(alpha_of(learner.params)) * log_prob - value).mean()
        return loss, {"pi/loss": loss, "pi/entropy": -log_prob.mean()}

    def gradient_step(learner: Learner, batch: Batch, key, index):
        key_critic, key_actor = jax.random.split(key)
        gradient, (td_error, q_metrics) = jax.grad(critic_loss, has_aux=True)(
            learner.params["q"], learner, batch, key_critic
        )
        learner = off_policy.descend(learner, "q", adam, gradient)
        gradient, pi_metrics = jax.grad(actor_loss, has_aux=True)(
            learner.params["pi"], learner, batch, key_actor
        )
        learner = off_policy.descend(learner, "pi", adam, gradient)
        metrics = q_metrics | pi_metrics | {"pi/alpha": alpha_of(learner.params)}
        if cfg.ent_coef is None:
            gradient = jax.grad(temperature_loss)(
                learner.params["log_alpha"], pi_metrics["pi/entropy"], target_entropy
            )
            learner = off_policy.descend(learner, "log_alpha", adam, gradient)
        return off_policy.move_targets(learner, cfg.tau), td_error, metrics

    def init_learner(key) -> Learner:
        key_pi, key_q = jax.random.split(key)
        obs, action = off_policy.example(spec)
        params = {"pi": pi.init(key_pi, obs), "q": q.init(key_q, obs, action)}
        if cfg.ent_coef is None:
            params["log_alpha"] = jnp.float32(0)
        return off_policy.init_learner(params, ("q",), adam)

    def act(state: State, carry, obs, key, step, *, explore: bool):
        mean, log_std = pi.apply(state.learner.params["pi"], obs)
        action = squashed_sample_and_log_prob(mean, log_std, key)[0] if explore else jnp.tanh(mean)
        return action, carry, ()

    return off_policy.make_off_policy(
        cfg, spec, init_learner=init_learner, act=act, gradient_step=gradient_step
    )
