"""DDPG with Ornstein-Uhlenbeck noise (Lillicrap et al. 2016, arXiv:1509.02971, algorithm 1).

`y = r + gamma (1 - terminated) Q'(s', pi'(s'))`; the actor ascends `Q(s, pi(s))`; each environment's
noise `x += -theta x dt + sigma sqrt(dt) N(0, 1)` is the carry, fresh in every episode.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from purerl import networks as nets
from purerl.algos import off_policy
from purerl.config import Config, ConfigError, count, real, sizes
from purerl.ops.losses import half_mean_square, soft_td_target
from purerl.replay import ring
from purerl.rollout import is_bounded
from purerl.types import Algorithm, EnvSpec, Network, PyTree


@dataclasses.dataclass(frozen=True, kw_only=True)
class DDPGConfig(Config):
    """Hyperparameters of DDPG."""

    algo: ClassVar[str] = "ddpg_ou"

    learning_rate: float = real(1e-3, above=0)
    """Adam step size of actor and critic."""
    gamma: float = real(0.99, low=0, high=1)
    """Discount."""
    tau: float = real(0.005, above=0, high=1)
    """Share of the networks that moves into their targets at each gradient step."""
    noise_theta: float = real(0.15, low=0)
    """Rate at which the noise returns to 0, per second."""
    noise_sigma: float = real(0.2, low=0)
    """Strength of the noise, per square root of a second."""
    noise_dt: float = real(0.01, above=0)
    """Seconds per step, as far as the noise is concerned."""
    batch_size: int = count(64)
    """Transitions per gradient step."""
    buffer_size: int = count(1_000_000)
    """Transitions that replay holds."""
    learning_starts: int = count(1_000)
    """Environment steps with uniform actions before the first gradient step."""
    hidden_sizes: tuple[int, ...] = sizes((64, 64))
    """Widths of the hidden layers."""


class Learner(NamedTuple):
    """What a gradient step changes."""

    params: dict[str, PyTree]
    """Of `pi` and `q`."""
    target: dict[str, PyTree]
    opt_state: dict[str, optax.OptState]


class State(NamedTuple):
    """All that DDPG remembers; the noise is the actor's carry."""

    learner: Learner
    replay: ring.State


def validate(cfg: DDPGConfig, spec: EnvSpec) -> None:
    """Raises ConfigError where `cfg` does not fit `spec`."""
    if not is_bounded(spec.action_space):
        raise ConfigError("env", cfg.env, f"ddpg_ou needs bounded actions, not {spec.action_space}")


def default_networks(cfg: DDPGConfig, spec: EnvSpec) -> dict[str, Network]:
    """`pi: obs [B, O] -> [B, A]`, before the tanh, and `q: obs, action -> [B]`."""
    pi = nets.MLP(cfg.hidden_sizes, spec.action_space.shape[0], "tanh")
    return {"pi": nets.network(pi), "q": nets.network(nets.Scalar(nets.MLP(cfg.hidden_sizes, 1, "tanh")))}


def make(cfg: DDPGConfig, spec: EnvSpec, networks: dict[str, Any] | None = None) -> Algorithm:
    """DDPG for `spec`; the real-valued fields of `cfg` may be traced."""
    chosen = nets.choose(default_networks(cfg, spec), networks)
    pi, q = chosen["pi"], chosen["q"]
    adam = optax.adam(cfg.learning_rate)

    def policy(params, obs):
        return jnp.tanh(pi.apply(params["pi"], obs))

    def critic_loss(q_params, learner: Learner, batch: off_policy.Row):
        next_q = q.apply(learner.target["q"], batch.next_obs, policy(learner.target, batch.next_obs))
        no_entropy = jnp.zeros_like(next_q)
        target = soft_td_target(batch.reward, batch.terminated, next_q, no_entropy, 0.0, cfg.gamma)
        return half_mean_square(q.apply(q_params, batch.obs, batch.action) - target)

    def actor_loss(pi_params, learner: Learner, batch: off_policy.Row):
        action = policy({"pi": pi_params}, batch.obs)
        return -q.apply(learner.params["q"], batch.obs, action).mean()

    def gradient_step(learner: Learner, batch: off_policy.Row, key, index):
        metrics = {}
        for name, loss in (("q", critic_loss), ("pi", actor_loss)):
            metrics[f"{name}/loss"], gradient = jax.value_and_grad(loss)(learner.params[name], learner, batch)
            steps, opt_state = adam.update(gradient, learner.opt_state[name])
            params = learner.params | {name: optax.apply_updates(learner.params[name], steps)}
            learner = learner._replace(params=params, opt_state=learner.opt_state | {name: opt_state})
        target = optax.incremental_update(learner.params, learner.target, cfg.tau)
        return learner._replace(target=target), metrics

    def init(key) -> State:
        key_pi, key_q = jax.random.split(key)
        obs, action = (jnp.zeros((1, *s.shape)) for s in (spec.observation_space, spec.action_space))
        params = {"pi": pi.init(key_pi, obs), "q": q.init(key_q, obs, action)}
        opt_state = {name: adam.init(part) for name, part in params.items()}
        learner = Learner(params, jax.tree.map(jnp.copy, params), opt_state)
        return State(learner, off_policy.init_replay(spec, off_policy.capacity(cfg, cfg.buffer_size)))

    def init_carry(num_envs: int):
        return jnp.zeros((num_envs, *spec.action_space.shape))

    def act(state: State, carry, obs, key, step, *, explore: bool):
        action = policy(state.learner.params, obs)
        if not explore:
            return action, carry, ()
        jump = cfg.noise_sigma * jnp.sqrt(cfg.noise_dt) * jax.random.normal(key, carry.shape)
        noise = carry - cfg.noise_theta * carry * cfg.noise_dt + jump
        return jnp.clip(action + noise, -1.0, 1.0), noise, ()

    def observe(state: State, transition) -> State:
        return state._replace(replay=ring.add(state.replay, off_policy.rows(transition)))

    def update(state: State, transition, key, step):
        state = observe(state, transition)
        first = step // cfg.num_envs
        counts = {"num_updates": 1, "batch_size": cfg.batch_size}
        learner, metrics = off_policy.replay_updates(
            gradient_step, state.learner, state.replay, key, first, **counts
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
        init_carry=init_carry,
    )
