"""TD3: twin critics, smoothed targets, delayed actor (Fujimoto et al. 2018, arXiv:1802.09477).

`y = r + gamma (1 - terminated) min_i Q'_i(s', clip(pi'(s') + clip(eps, -c, c), -1, 1))`, section 5;
every `policy_delay`-th gradient step the actor ascends `Q_1(s, pi(s))` and the targets move.
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
class TD3Config(Config):
    """Hyperparameters of TD3."""

    algo: ClassVar[str] = "td3"

    learning_rate: float = real(1e-3, above=0)
    """Adam step size of actor and critics."""
    gamma: float = real(0.99, low=0, high=1)
    """Discount."""
    tau: float = real(0.005, above=0, high=1)
    """Share of the networks that moves into their targets at each delayed step."""
    policy_delay: int = count(2)
    """Critic steps per actor step."""
    target_noise: float = real(0.2, low=0)
    """Standard deviation of the noise on target actions, in units of [-1, 1]."""
    noise_clip: float = real(0.5, low=0)
    """Largest such noise."""
    exploration_noise: float = real(0.1, low=0)
    """Standard deviation of the noise on actions."""
    batch_size: int = count(64)
    """Transitions per gradient step."""
    buffer_size: int = count(1_000_000)
    """Transitions that replay holds."""
    learning_starts: int = count(1_000)
    """Environment steps with uniform actions before the first gradient step."""
    updates_per_step: int = count(1)
    """Gradient steps per step of all environments."""
    hidden_sizes: tuple[int, ...] = sizes((64, 64))
    """Widths of the hidden layers."""


class Learner(NamedTuple):
    """What a gradient step changes."""

    params: dict[str, PyTree]
    """Of `pi` and `q` (a pair of critics)."""
    target: dict[str, PyTree]
    opt_state: dict[str, optax.OptState]


class State(NamedTuple):
    """All that TD3 remembers."""

    learner: Learner
    replay: ring.State


def validate(cfg: TD3Config, spec: EnvSpec) -> None:
    """Raises ConfigError where `cfg` does not fit `spec`."""
    if not is_bounded(spec.action_space):
        raise ConfigError("env", cfg.env, f"td3 needs bounded actions, not {spec.action_space}")


def default_networks(cfg: TD3Config, spec: EnvSpec) -> dict[str, Network]:
    """`pi: obs [B, O] -> [B, A]`, before the tanh, and `q: obs, action -> [B]`, one critic."""
    pi = nets.MLP(cfg.hidden_sizes, spec.action_space.shape[0], "tanh")
    return {"pi": nets.network(pi), "q": nets.network(nets.Scalar(nets.MLP(cfg.hidden_sizes, 1, "tanh")))}


def make(cfg: TD3Config, spec: EnvSpec, networks: dict[str, Any] | None = None) -> Algorithm:
    """TD3 for `spec`; the real-valued fields of `cfg` may be traced."""
    chosen = nets.choose(default_networks(cfg, spec), networks)
    pi, q = chosen["pi"], nets.ensemble(chosen["q"], 2)
    adam = optax.adam(cfg.learning_rate)

    def policy(params, obs):
        return jnp.tanh(pi.apply(params["pi"], obs))

    def critic_loss(q_params, learner: Learner, batch: off_policy.Row, key):
        noise = cfg.target_noise * jax.random.normal(key, batch.action.shape)
        noise = jnp.clip(noise, -cfg.noise_clip, cfg.noise_clip)
        next_action = jnp.clip(policy(learner.target, batch.next_obs) + noise, -1.0, 1.0)
        next_q = q.apply(learner.target["q"], batch.next_obs, next_action).min(0)
        no_entropy = jnp.zeros_like(next_q)
        target = soft_td_target(batch.reward, batch.terminated, next_q, no_entropy, 0.0, cfg.gamma)
        return 2 * half_mean_square(q.apply(q_params, batch.obs, batch.action) - target)

    def actor_loss(pi_params, learner: Learner, batch: off_policy.Row):
        action = policy({"pi": pi_params}, batch.obs)
        return -q.apply(learner.params["q"], batch.obs, action)[0].mean()

    def descend(learner: Learner, name: str, gradient) -> Learner:
        steps, opt_state = adam.update(gradient, learner.opt_state[name])
        params = learner.params | {name: optax.apply_updates(learner.params[name], steps)}
        return learner._replace(params=params, opt_state=learner.opt_state | {name: opt_state})

    def gradient_step(learner: Learner, batch: off_policy.Row, key, index):
        q_loss, gradient = jax.value_and_grad(critic_loss)(learner.params["q"], learner, batch, key)
        learner = descend(learner, "q", gradient)

        def delayed(learner: Learner):
            pi_loss, gradient = jax.value_and_grad(actor_loss)(learner.params["pi"], learner, batch)
            learner = descend(learner, "pi", gradient)
            target = optax.incremental_update(learner.params, learner.target, cfg.tau)
            return learner._replace(target=target), pi_loss

        due = index % cfg.policy_delay == 0
        learner, pi_loss = jax.lax.cond(due, delayed, lambda same: (same, jnp.nan), learner)
        return learner, {"q/loss": q_loss, "pi/loss": pi_loss}

    def init(key) -> State:
        key_pi, key_q = jax.random.split(key)
        obs, action = (jnp.zeros((1, *s.shape)) for s in (spec.observation_space, spec.action_space))
        params = {"pi": pi.init(key_pi, obs), "q": q.init(key_q, obs, action)}
        opt_state = {name: adam.init(part) for name, part in params.items()}
        learner = Learner(params, jax.tree.map(jnp.copy, params), opt_state)
        return State(learner, off_policy.init_replay(spec, off_policy.capacity(cfg, cfg.buffer_size)))

    def act(state: State, carry, obs, key, step, *, explore: bool):
        action = policy(state.learner.params, obs)
        if explore:
            noise = cfg.exploration_noise * jax.random.normal(key, action.shape)
            action = jnp.clip(action + noise, -1.0, 1.0)
        return action, carry, ()

    def observe(state: State, transition) -> State:
        return state._replace(replay=ring.add(state.replay, off_policy.rows(transition)))

    def update(state: State, transition, key, step):
        state = observe(state, transition)
        first = step // cfg.num_envs * cfg.updates_per_step
        counts = {"num_updates": cfg.updates_per_step, "batch_size": cfg.batch_size}
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
    )
