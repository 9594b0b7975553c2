"""Soft Actor-Critic with a learned temperature (Haarnoja et al. 2018, arXiv:1812.05905).

The policy maximises reward plus `alpha` times its entropy. Twin critics learn by
`y = r + gamma (1 - terminated) [min_i Q'_i(s', a') - alpha log pi(a'|s')]`   (eq. 5 and 6),
the actor minimises `alpha log pi(a|s) - min_i Q_i(s, a)`                      (eq. 9),
and the temperature keeps the entropy near a target                            (eq. 18).

Choices: one Adam per part; the actor sees the critics after their step; `log alpha` is what is
optimised, as in the authors' code; actions leave the policy in [-1, 1].
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax
from gymnasium import spaces

from purerl import networks as nets
from purerl.algos import off_policy
from purerl.config import Config, ConfigError, choice, count, real, sizes
from purerl.distributions import squashed_sample_and_log_prob
from purerl.ops.losses import half_mean_square, soft_td_target, temperature_loss
from purerl.replay import ring
from purerl.rollout import is_bounded
from purerl.types import Algorithm, Array, EnvSpec, Network, PyTree


@dataclasses.dataclass(frozen=True, kw_only=True)
class SACConfig(Config):
    """Hyperparameters of SAC; the defaults are the paper's."""

    algo: ClassVar[str] = "sac"

    learning_rate: float = real(3e-4, above=0)
    """Adam step size of actor, critics and temperature."""
    gamma: float = real(0.99, low=0, high=1)
    """Discount."""
    tau: float = real(0.005, above=0, high=1)
    """Share of the critics that moves into their targets at each gradient step."""
    ent_coef: float | None = real(None, low=0, optional=True)
    """Temperature alpha; None learns it."""
    target_entropy: float | None = real(None, optional=True)
    """Entropy, in nats, that the learned temperature aims at; None means minus the action's size."""
    batch_size: int = count(256)
    """Transitions per gradient step."""
    buffer_size: int = count(1_000_000)
    """Transitions that replay holds; never more than total_timesteps."""
    learning_starts: int = count(1_000, low=0)
    """Environment steps with uniform actions before the first gradient step."""
    updates_per_step: int = count(1)
    """Gradient steps per step of all environments."""
    hidden_sizes: tuple[int, ...] = sizes((256, 256))
    """Widths of the hidden layers of actor and critics."""
    activation: str = choice("relu", nets.ACTIVATIONS)
    """Nonlinearity of the hidden layers."""


class Learner(NamedTuple):
    """What a gradient step changes."""

    params: dict[str, PyTree]
    """Of `pi`, `q` (a pair of critics) and `log_alpha`."""
    target_q: PyTree
    opt_state: dict[str, optax.OptState]


class State(NamedTuple):
    """All that SAC remembers."""

    learner: Learner
    replay: ring.State


def validate(cfg: SACConfig, spec: EnvSpec) -> None:
    """Raises ConfigError where `cfg` does not fit `spec`."""
    if not is_bounded(spec.action_space):
        what = f"sac needs continuous actions with finite bounds, and {spec.name} has {spec.action_space}"
        hint = "Use ppo for discrete actions." if isinstance(spec.action_space, spaces.Discrete) else ""
        raise ConfigError("env", cfg.env, what, hint)
    if cfg.learning_starts >= cfg.total_timesteps:
        what = f"it must be below total_timesteps = {cfg.total_timesteps:,}, or nothing is learned"
        raise ConfigError("learning_starts", cfg.learning_starts, what)
    if cfg.batch_size > cfg.buffer_size:
        what = f"it must be at most buffer_size = {cfg.buffer_size:,}"
        raise ConfigError("batch_size", cfg.batch_size, what)


def default_networks(cfg: SACConfig, spec: EnvSpec) -> dict[str, Network]:
    """`pi: obs [B, O] -> (mean, log_std), [B, A]` and `q: obs, action -> [B]`, one critic."""
    action_size = spec.action_space.shape[0]

    def mlp(out: int) -> nets.MLP:
        return nets.MLP(cfg.hidden_sizes, out, cfg.activation)

    return {
        "pi": nets.network(nets.Gaussian(mlp(2 * action_size), log_std_range=(-20.0, 2.0))),
        "q": nets.network(nets.Scalar(mlp(1))),
    }


def make(cfg: SACConfig, spec: EnvSpec, networks: dict[str, Any] | None = None) -> Algorithm:
    """SAC for `spec`; the real-valued fields of `cfg` may be traced."""
    chosen = nets.choose(default_networks(cfg, spec), networks)
    pi, q = chosen["pi"], nets.ensemble(chosen["q"], 2)
    adam = optax.adam(cfg.learning_rate)
    target_entropy = -spec.action_space.shape[0] if cfg.target_entropy is None else cfg.target_entropy

    def alpha_of(params: PyTree) -> Array:
        return jnp.exp(params["log_alpha"]) if cfg.ent_coef is None else jnp.asarray(cfg.ent_coef)

    def critic_loss(q_params, learner: Learner, batch: off_policy.Row, key):
        next_action, next_log_prob = squashed_sample_and_log_prob(
            *pi.apply(learner.params["pi"], batch.next_obs), key=key
        )
        next_q = q.apply(learner.target_q, batch.next_obs, next_action).min(0)
        alpha = alpha_of(learner.params)
        target = soft_td_target(batch.reward, batch.terminated, next_q, next_log_prob, alpha, cfg.gamma)
        value = q.apply(q_params, batch.obs, batch.action)  # [2, B]
        loss = 2 * half_mean_square(value - jax.lax.stop_gradient(target))  # the sum over both critics
        return loss, {"q/loss": loss, "q/mean": value.mean()}

    def actor_loss(pi_params, learner: Learner, batch: off_policy.Row, key):
        action, log_prob = squashed_sample_and_log_prob(*pi.apply(pi_params, batch.obs), key=key)
        value = q.apply(learner.params["q"], batch.obs, action).min(0)
        loss = (jax.lax.stop_gradient(alpha_of(learner.params)) * log_prob - value).mean()
        return loss, {"pi/loss": loss, "pi/entropy": -log_prob.mean()}

    def descend(learner: Learner, name: str, gradient: PyTree) -> Learner:
        steps, opt_state = adam.update(gradient, learner.opt_state[name])
        params = optax.apply_updates(learner.params[name], steps)
        return learner._replace(
            params=learner.params | {name: params}, opt_state=learner.opt_state | {name: opt_state}
        )

    def gradient_step(learner: Learner, batch: off_policy.Row, key, index):
        key_critic, key_actor = jax.random.split(key)
        gradient, q_metrics = jax.grad(critic_loss, has_aux=True)(
            learner.params["q"], learner, batch, key_critic
        )
        learner = descend(learner, "q", gradient)
        gradient, pi_metrics = jax.grad(actor_loss, has_aux=True)(
            learner.params["pi"], learner, batch, key_actor
        )
        learner = descend(learner, "pi", gradient)
        metrics = q_metrics | pi_metrics | {"alpha": alpha_of(learner.params)}
        if cfg.ent_coef is None:
            gradient = jax.grad(temperature_loss)(
                learner.params["log_alpha"], pi_metrics["pi/entropy"], target_entropy
            )
            learner = descend(learner, "log_alpha", gradient)
        target_q = optax.incremental_update(learner.params["q"], learner.target_q, cfg.tau)
        return learner._replace(target_q=target_q), metrics

    def init(key) -> State:
        key_pi, key_q = jax.random.split(key)
        obs = jnp.zeros((1, *spec.observation_space.shape), spec.observation_space.dtype)
        action = jnp.zeros((1, *spec.action_space.shape))
        params = {"pi": pi.init(key_pi, obs), "q": q.init(key_q, obs, action)}
        if cfg.ent_coef is None:
            params["log_alpha"] = jnp.zeros(())
        target_q = jax.tree.map(jnp.copy, params["q"])
        learner = Learner(params, target_q, {name: adam.init(part) for name, part in params.items()})
        return State(learner, off_policy.init_replay(spec, off_policy.capacity(cfg, cfg.buffer_size)))

    def act(state: State, carry, obs, key, step, *, explore: bool):
        mean, log_std = pi.apply(state.learner.params["pi"], obs)
        action = squashed_sample_and_log_prob(mean, log_std, key)[0] if explore else jnp.tanh(mean)
        return action, carry, ()

    def observe(state: State, transition) -> State:
        return state._replace(replay=ring.add(state.replay, off_policy.rows(transition)))

    def update(state: State, transition, key, step):
        state = observe(state, transition)
        learner, metrics = off_policy.replay_updates(
            gradient_step,
            state.learner,
            state.replay,
            key,
            first=step // cfg.num_envs * cfg.updates_per_step,
            num_updates=cfg.updates_per_step,
            batch_size=cfg.batch_size,
        )
        return State(learner, state.replay), metrics

    warmup_steps = -(-cfg.learning_starts // cfg.num_envs) * cfg.num_envs
    return Algorithm(
        init=init,
        act=act,
        observe=observe,
        update=update,
        num_envs=cfg.num_envs,
        num_steps=1,
        warmup_steps=warmup_steps,
    )
