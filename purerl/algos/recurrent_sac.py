"""Recurrent soft actor-critic, for tasks with partial observations (Ni et al. 2022, arXiv:2110.05038).

As `sac`, but the actor and each critic have a gated recurrent unit (Cho et al. 2014, arXiv:1406.1078) for the
observations and actions of an episode, `h = f(h_before, obs, previous action)`, and see `h` in the place of
the state. With `h' = f(h, next_obs, action)` the critics learn by
`y = r + gamma (1 - terminated) E_{a' ~ pi(.|h')}[min_i Q'_i(h', a') - alpha log pi(a'|h')]`.

A batch is windows of consecutive rows. Their RNN states start from zero; the first `burn_in` rows have no
loss and pass no gradient on (Kapturowski et al. 2019, "R2D2", section 3). Within a window every episode
starts from zero, and `h'` follows `h` at every end, as `next_obs` is from before any reset.

Choices: those of `sac`; the previous action is an input, since rows of many policies are replayed.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from gymnasium import spaces

from purerl import networks as nets
from purerl.algos import critics, learning, off_policy, sac, soft_policies, windows
from purerl.algos.learning import Learner, descend, every, move_targets
from purerl.algos.off_policy import State
from purerl.config import ConfigError, count, sizes
from purerl.ops.losses import soft_value, temperature_loss
from purerl.replay import sequences
from purerl.replay.ring import Batch
from purerl.spaces import as_vector
from purerl.types import Algorithm, Array, EnvSpec, MaskedMetrics, Network, PyTree


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecurrentSACConfig(sac.SACConfig):
    """Hyperparameters of recurrent SAC."""

    algo: ClassVar[str] = "recurrent_sac"

    batch_size: int = count(32)
    """Windows per gradient step."""
    burn_in: int = count(8, low=0, high=10_000)
    """Rows at the start of a window that serve the RNN states alone."""
    sequence_length: int = count(16, high=10_000)
    """Rows of a window that are learned from, and steps of backpropagation through time."""
    hidden_sizes: tuple[int, ...] = sizes((64,))
    """Widths of the hidden layers between the inputs and each RNN, and again behind it."""
    rnn_size: int = count(64, high=65_536)
    """Units of each gated recurrent unit."""


def validate(cfg: RecurrentSACConfig, spec: EnvSpec) -> None:
    """Raise ConfigError if `cfg` does not fit `spec`."""
    sac.validate(cfg, spec)
    if cfg.n_step > 1:
        raise ConfigError("n_step", cfg.n_step, "1, since targets of recurrent_sac have one reward")
    if cfg.prioritised:
        raise ConfigError("prioritised", True, "False, since recurrent_sac draws windows uniformly")
    if cfg.norm == "batch":
        raise ConfigError("norm", cfg.norm, "none or layer, since statistics differ along a window")
    held, rows = off_policy.capacity(cfg) // cfg.num_envs, cfg.burn_in + cfg.sequence_length
    if rows > held:
        what = (
            f"with burn_in at most {held:,}, the steps of an environment in the replay buffer, got {rows:,}"
        )
        raise ConfigError("sequence_length", cfg.sequence_length, what, "Raise buffer_size.")


def default_networks(cfg: RecurrentSACConfig, spec: EnvSpec) -> dict[str, Network]:
    """Return `core: carry [B, H], obs [B, O], previous action [B, A] -> (carry, features [B, H])`, `pi`, `q`.

    The heads `pi` and `q` are those of `sac`, on features in the place of `obs`.
    """
    rnn = nets.RecurrentTorso(cfg.rnn_size, nets.torso(cfg, spec, norm=cfg.norm))
    features = spaces.Box(-np.inf, np.inf, (cfg.rnn_size,))
    heads = sac.default_networks(cfg, spec._replace(observation_space=features))
    return {"core": nets.network(rnn), **heads}


def make(cfg: RecurrentSACConfig, spec: EnvSpec, networks: dict[str, Any] | None = None) -> Algorithm:
    """Return recurrent SAC for `spec`; the real-valued fields of `cfg` may be traced."""
    chosen, space = nets.choose(default_networks(cfg, spec), networks), spec.action_space
    policy, critic = soft_policies.soft_policy(space, cfg.noise_repeat), critics.make_critic(cfg)
    behind = partial(windows.behind, chosen["core"], cfg.rnn_size, cfg.burn_in, spec)
    pi, q = behind(chosen["pi"], lambda x: (x,)), nets.ensemble(behind(chosen["q"], policy.inputs), 2)
    target_entropy = soft_policies.target_entropy(cfg, space)
    adam = optax.adam(cfg.learning_rate)

    def alpha_of(params: PyTree) -> Array:
        return jnp.exp(params["log_alpha"]) if cfg.ent_coef is None else jnp.float32(cfg.ent_coef)

    def critic_loss(q_params, learner: Learner, batch: Batch, key):
        rows, learned, alpha = batch.rows, windows.learned(batch, cfg.burn_in), alpha_of(learner.params)
        ahead = policy.actions(pi.apply(learner.params["pi"], rows, True), key)
        out = policy.at(q.apply(q_params, rows, False, learned.rows.action), learned.rows.action)
        next_out = q.apply(learner.target["q"], rows, True, ahead.action)
        target = critic.target(next_out, learned, ahead, alpha, policy.values)
        loss, _ = critic.loss(out, jax.lax.stop_gradient(target))  # [2, L * B]
        loss = windows.mean(loss, learned.weight).sum()
        return loss, {"q/loss": loss, "q/mean": windows.mean(critic.value(out), learned.weight).mean()}

    def actor_loss(pi_params, learner: Learner, batch: Batch, key):
        weight = windows.learned(batch, cfg.burn_in).weight
        action, probability, log_prob = policy.actions(pi.apply(pi_params, batch.rows, False), key)
        value = critic.value(q.apply(learner.params["q"], batch.rows, False, action)).min(0)
        alpha = jax.lax.stop_gradient(alpha_of(learner.params))
        loss = -windows.mean(soft_value(policy.values(value), probability, log_prob, alpha), weight)
        entropy = -windows.mean((probability * log_prob).sum(-1), weight)
        return loss, {"pi/loss": loss, "pi/entropy": entropy}

    def learn_policy(learner: Learner, batch: Batch, key):
        gradient, metrics = jax.grad(actor_loss, has_aux=True)(learner.params["pi"], learner, batch, key)
        learner = descend(learner, "pi", adam, gradient)
        if cfg.ent_coef is None:
            log_alpha, entropy = learner.params["log_alpha"], metrics["pi/entropy"]
            gradient = jax.grad(temperature_loss)(log_alpha, entropy, target_entropy)
            learner = descend(learner, "log_alpha", adam, gradient)
        return learner, metrics

    def gradient_step(learner: Learner, batch: Batch, key, index):
        key_critic, key_actor = jax.random.split(key)
        alpha, gradient_of = alpha_of(learner.params), jax.grad(critic_loss, has_aux=True)
        gradient, metrics = gradient_of(learner.params["q"], learner, batch, key_critic)
        learner = descend(learner, "q", adam, gradient)
        learner, more = every(cfg.actor_every, index, learn_policy, learner, batch, key_actor)
        metrics = MaskedMetrics.of(metrics | {"pi/alpha": alpha}) | more
        no_error = jnp.zeros(cfg.batch_size, jnp.float32)  # windows have no priorities
        return move_targets(learner, cfg.tau), no_error, metrics

    def init_learner(key) -> Learner:
        key_pi, key_q = jax.random.split(key)
        params = {"pi": pi.init(key_pi), "q": q.init(key_q, off_policy.example(spec)[1])}
        if cfg.ent_coef is None:
            params["log_alpha"] = soft_policies.init_log_alpha(cfg)
        return learning.init_learner(params, ("q",), adam)

    def act(state: State, carry, obs, key, step, *, explore: bool):
        (rnn, previous), noise, params = *carry, state.learner.params["pi"]
        rnn, x = chosen["core"].apply(params["core"], rnn, obs, previous)
        outputs = chosen["pi"].apply(params["head"], x)
        action, noise = policy.explore(outputs, key, noise) if explore else (policy.mode(outputs), noise)
        return action, (windows.Carry(rnn, as_vector(space, action)), noise), ()

    def init_carry(num_envs: int):
        return windows.init_carry(num_envs, cfg.rnn_size, spec), policy.init_carry(num_envs)

    parts = {"init_learner": init_learner, "act": act, "gradient_step": gradient_step}
    buffer = sequences.make_buffer(cfg, off_policy.row(spec), off_policy.capacity(cfg))
    return off_policy.make_off_policy(cfg, spec, **parts, init_carry=init_carry, buffer=buffer)
