"""Twin Delayed Deep Deterministic policy gradient, TD3 (Fujimoto et al. 2018, arXiv:1802.09477).

Twin critics learn from the smaller of their targets, at a target action with clipped noise,
`y = r + gamma (1 - terminated) min_i Q'_i(s', clip(pi'(s') + clip(eps, -c, c), -1, 1))`, `eps ~ N(0, sigma)`
(algorithm 1 and eq. 14). Every `policy_delay`-th gradient step the actor ascends `Q_1(s, pi(s))` and all
target networks move.

Choices: noises are in units where [-1, 1] spans the range of an action.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax

from purerl import networks as nets
from purerl.algos import off_policy
from purerl.algos.learning import Learner, descend, every, init_learner, move_targets
from purerl.algos.off_policy import State
from purerl.config import count, real
from purerl.ops.losses import half_mean_square, td_target
from purerl.replay.ring import Batch
from purerl.types import Algorithm, EnvSpec, MaskedMetrics, Network


@dataclasses.dataclass(frozen=True, kw_only=True)
class TD3Config(off_policy.OffPolicyConfig):
    """Hyperparameters of TD3; defaults of the authors' code (github.com/sfujim/TD3), but learning_starts."""

    algo: ClassVar[str] = "td3"

    learning_starts: int = count(10_000, low=0)
    """Environment steps with uniform actions before the first gradient step (25,000 in the authors' code)."""
    policy_delay: int = count(2)
    """Gradient steps of the critics per step of the actor and the target networks."""
    target_noise: float = real(0.2, low=0)
    """Standard deviation of the noise on target actions."""
    noise_clip: float = real(0.5, low=0)
    """Largest noise on target actions."""
    exploration_noise: float = real(0.1, low=0)
    """Standard deviation of the noise on actions."""


def validate(cfg: TD3Config, spec: EnvSpec) -> None:
    """Raise ConfigError if `cfg` does not fit `spec`."""
    off_policy.validate(cfg, spec)


def default_networks(cfg: TD3Config, spec: EnvSpec) -> dict[str, Network]:
    """Return `pi: obs [B, O] -> [B, A]`, before its tanh, and one critic `q: obs, action -> [B]`."""
    pi, q = nets.torso(cfg, spec, spec.action_space.shape[0]), nets.Scalar(nets.torso(cfg, spec, 1))
    return {"pi": nets.network(pi), "q": nets.network(q)}


def make(cfg: TD3Config, spec: EnvSpec, networks: dict[str, Any] | None = None) -> Algorithm:
    """Return TD3 for `spec`; the real-valued fields of `cfg` may be traced."""
    chosen = nets.choose(default_networks(cfg, spec), networks)
    pi, q = chosen["pi"], nets.ensemble(chosen["q"], 2)
    adam = optax.adam(cfg.learning_rate)

    def critic_loss(q_params, target, batch: Batch, key):
        rows = batch.rows
        noise = cfg.target_noise * jax.random.normal(key, rows.action.shape, rows.action.dtype)
        noise = jnp.clip(noise, -cfg.noise_clip, cfg.noise_clip)
        next_action = jnp.clip(jnp.tanh(pi.apply(target["pi"], rows.next_obs)) + noise, -1.0, 1.0)
        next_q = q.apply(target["q"], rows.next_obs, next_action).min(0)
        value = q.apply(q_params, rows.obs, rows.action)  # [2, B]
        error = value - td_target(rows.reward, batch.discount, next_q)[None]
        loss = 2 * half_mean_square(error, batch.weight)  # the sum over both critics
        return loss, (jnp.abs(error).max(0), {"q/loss": loss, "q/mean": value.mean()})

    def actor_loss(pi_params, q_params, obs):
        return -q.apply(q_params, obs, jnp.tanh(pi.apply(pi_params, obs)))[0].mean()

    def delayed(learner: Learner, obs):
        loss, gradient = jax.value_and_grad(actor_loss)(learner.params["pi"], learner.params["q"], obs)
        learner = descend(learner, "pi", adam, gradient)
        return move_targets(learner, cfg.tau), {"pi/loss": loss}

    def gradient_step(learner: Learner, batch: Batch, key, index):
        gradient, (td_error, metrics) = jax.grad(critic_loss, has_aux=True)(
            learner.params["q"], learner.target, batch, key
        )
        learner = descend(learner, "q", adam, gradient)
        learner, late = every(cfg.policy_delay, index, delayed, learner, batch.rows.obs)
        return learner, td_error, MaskedMetrics.of(metrics) | late

    def fresh_learner(key) -> Learner:
        key_pi, key_q = jax.random.split(key)
        obs, action = off_policy.example(spec)
        params = {"pi": pi.init(key_pi, obs), "q": q.init(key_q, obs, action)}
        return init_learner(params, ("pi", "q"), adam)

    def act(state: State, carry, obs, key, step, *, explore: bool):
        action = jnp.tanh(pi.apply(state.learner.params["pi"], obs))
        if explore:
            noise = cfg.exploration_noise * jax.random.normal(key, action.shape, action.dtype)
            action = jnp.clip(action + noise, -1.0, 1.0)
        return action, carry, ()

    return off_policy.make_off_policy(
        cfg, spec, init_learner=fresh_learner, act=act, gradient_step=gradient_step
    )
