"""Soft Actor-Critic with a learned temperature (Haarnoja et al. 2018, arXiv:1812.05905).

The policy maximises reward plus `alpha` times its entropy. Twin critics learn by
`y = r + gamma (1 - terminated) E_{a' ~ pi}[min_i Q'_i(s', a') - alpha log pi(a'|s')]`   (eq. 5 and 6),
the actor minimises `E_{a ~ pi}[alpha log pi(a|s) - min_i Q_i(s, a)]`                     (eq. 9),
and the temperature keeps the entropy near a target                                       (eq. 18).

The expectation is exact over discrete actions (Christodoulou 2019, arXiv:1910.07207). `norm="batch"` and
`critic="categorical"` are those of Palenicek et al. 2025, arXiv:2509.25174 (XQC).

Choices: one Adam per network; the actor sees the critics after their step; `log alpha` is optimised, as in
the authors' code; actions leave the policy in [-1, 1].
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax
from gymnasium import spaces

from purerl import networks as nets
from purerl.algos import critics, off_policy, soft_policies
from purerl.algos.learning import Learner, descend, every, init_learner, move_targets
from purerl.algos.off_policy import State
from purerl.algos.soft_policies import soft_policy
from purerl.config import count, real
from purerl.ops.losses import soft_value, temperature_loss
from purerl.replay.ring import Batch
from purerl.types import Algorithm, Array, EnvSpec, MaskedMetrics, Network, PyTree


@dataclasses.dataclass(frozen=True, kw_only=True)
class SACConfig(critics.CriticConfig):
    """Hyperparameters of SAC; the defaults are the paper's."""

    algo: ClassVar[str] = "sac"

    ent_coef: float | None = real(None, low=0, optional=True)
    """Temperature alpha; None to learn it."""
    init_ent_coef: float | None = real(None, above=0, optional=True)
    """A learned temperature at the start; None: 1."""
    target_entropy: float | None = real(None, optional=True)
    """Entropy, in nats, that a learned temperature aims at. None: minus the number of actions, or half of
    log K for K discrete ones."""
    target_entropy_factor: float | None = real(None, above=0, optional=True)
    """Factor of that default; None: 1."""
    actor_every: int = count(1)
    """Gradient steps of the critics per step of the actor and the temperature."""
    noise_repeat: int = count(1, high=1_000)
    """Most steps for which exploration holds its noise: `k`, with a chance proportional to `1 / k^2`, as in
    Dabney et al. 2021, arXiv:2006.01782."""


def validate(cfg: SACConfig, spec: EnvSpec) -> None:
    """Raise ConfigError if `cfg` does not fit `spec`."""
    off_policy.validate(cfg, spec, discrete=True)
    critics.validate(cfg, spec.action_space)
    soft_policies.validate(cfg, spec.action_space)


def default_networks(cfg: SACConfig, spec: EnvSpec) -> dict[str, Network]:
    """Return `pi: obs [B, O] -> (mean, log_std), [B, A]` and one critic `q: obs, action -> [B]`.

    For discrete actions `pi: obs -> logits [B, K]`, `q: obs -> [B, K]`; a categorical `q` gives `[B, atoms]`.
    """
    outputs = soft_policy(spec.action_space).num_outputs
    pi, q = nets.torso(cfg, spec, outputs, norm=cfg.norm), partial(nets.torso, cfg, spec, norm=cfg.norm)
    if isinstance(spec.action_space, spaces.Discrete):
        modules = {"pi": pi, "q": q(outputs)}
    else:
        of_actions = q(cfg.num_atoms) if cfg.critic == "categorical" else nets.Scalar(q(1))
        modules = {"pi": nets.Gaussian(pi, nets.LOG_STD_RANGE), "q": of_actions}
    network = nets.batch_normalized if cfg.norm == "batch" else nets.network
    return {name: network(module) for name, module in modules.items()}


def make(cfg: SACConfig, spec: EnvSpec, networks: dict[str, Any] | None = None) -> Algorithm:
    """Return SAC for `spec`; the real-valued fields of `cfg` may be traced."""
    chosen = nets.choose(default_networks(cfg, spec), networks)
    pi, q = chosen["pi"], nets.ensemble(chosen["q"], 2)
    policy, critic = soft_policy(spec.action_space, cfg.noise_repeat), critics.make_critic(cfg)
    target_entropy = soft_policies.target_entropy(cfg, spec.action_space)
    adam = optax.adam(cfg.learning_rate)

    def alpha_of(params: PyTree) -> Array:
        return jnp.exp(params["log_alpha"]) if cfg.ent_coef is None else jnp.float32(cfg.ent_coef)

    def critic_loss(q_params, learner: Learner, batch: Batch, key):
        rows, alpha = batch.rows, alpha_of(learner.params)
        ahead = policy.actions(pi.apply(learner.params["pi"], rows.next_obs), key)
        now, then = policy.inputs(rows.obs, rows.action), policy.inputs(rows.next_obs, ahead.action)
        out, next_out, statistics = critics.outputs(q, q_params, learner.target["q"], now, then)
        out, target = policy.at(out, rows.action), critic.target(next_out, batch, ahead, alpha, policy.values)
        loss, td_error = critic.loss(out, jax.lax.stop_gradient(target))  # [2, B], [B]
        loss = (loss * batch.weight[None]).mean(1).sum()
        return loss, (td_error, statistics, {"q/loss": loss, "q/mean": critic.value(out).mean()})

    def actor_loss(pi_params, learner: Learner, obs, key):
        outputs, statistics = nets.in_training(pi, pi_params, obs)
        action, probability, log_prob = policy.actions(outputs, key)
        value = critic.value(q.apply(learner.params["q"], *policy.inputs(obs, action))).min(0)
        alpha = jax.lax.stop_gradient(alpha_of(learner.params))
        loss = -soft_value(policy.values(value), probability, log_prob, alpha).mean()
        entropy = -(probability * log_prob).sum(-1).mean()
        return loss, (statistics, {"pi/loss": loss, "pi/entropy": entropy})

    def learn_policy(learner: Learner, obs, key):
        gradient_of = jax.grad(actor_loss, has_aux=True)
        gradient, (statistics, metrics) = gradient_of(learner.params["pi"], learner, obs, key)
        learner = descend(learner, "pi", adam, gradient, pi, statistics)
        if cfg.ent_coef is None:
            log_alpha, entropy = learner.params["log_alpha"], metrics["pi/entropy"]
            gradient = jax.grad(temperature_loss)(log_alpha, entropy, target_entropy)
            learner = descend(learner, "log_alpha", adam, gradient)
        return learner, metrics

    def gradient_step(learner: Learner, batch: Batch, key, index):
        key_critic, key_actor = jax.random.split(key)
        gradient_of, alpha = jax.grad(critic_loss, has_aux=True), alpha_of(learner.params)
        gradient, (td_error, statistics, metrics) = gradient_of(
            learner.params["q"], learner, batch, key_critic
        )
        learner = descend(learner, "q", adam, gradient, q, statistics)
        learner, more = every(cfg.actor_every, index, learn_policy, learner, batch.rows.obs, key_actor)
        metrics = MaskedMetrics.of(metrics | {"pi/alpha": alpha}) | more
        return move_targets(learner, cfg.tau), td_error, metrics

    def fresh_learner(key) -> Learner:
        key_pi, key_q = jax.random.split(key)
        obs, action = off_policy.example(spec)
        params = {"pi": pi.init(key_pi, obs), "q": q.init(key_q, *policy.inputs(obs, action))}
        if cfg.ent_coef is None:
            params["log_alpha"] = soft_policies.init_log_alpha(cfg)
        return init_learner(params, ("q",), adam)

    def act(state: State, carry, obs, key, step, *, explore: bool):
        outputs = pi.apply(state.learner.params["pi"], obs)
        action, carry = policy.explore(outputs, key, carry) if explore else (policy.mode(outputs), carry)
        return action, carry, ()

    carry = policy.init_carry
    return off_policy.make_off_policy(
        cfg, spec, init_learner=fresh_learner, act=act, gradient_step=gradient_step, init_carry=carry
    )
