"""Deep Deterministic Policy Gradient, DDPG (Lillicrap et al. 2016, arXiv:1509.02971, algorithm 1).

The critic learns by `y = r + gamma (1 - terminated) Q'(s', pi'(s'))`, the actor ascends `Q(s, pi(s))`, and
both target networks follow at every gradient step. Actions carry noise `x <- (1 - theta) x + sigma N(0, 1)`,
an Ornstein-Uhlenbeck process that is 0 at the start of every episode.

Choices: the settings of Fujimoto et al. 2018, arXiv:1802.09477, with independent noise (`theta` = 1), in the
place of the paper's, which has two learning rates and weight decay; noise is in units where [-1, 1] spans the
range of an action.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax

from purerl import networks as nets
from purerl.algos import off_policy
from purerl.algos.learning import Learner, descend, init_learner, move_targets
from purerl.algos.off_policy import State
from purerl.config import count, real
from purerl.ops.losses import half_mean_square, td_target
from purerl.replay.ring import Batch
from purerl.types import Algorithm, Array, EnvSpec, Network, PyTree


@dataclasses.dataclass(frozen=True, kw_only=True)
class DDPGConfig(off_policy.OffPolicyConfig):
    """Hyperparameters of DDPG; defaults of "OurDDPG" in github.com/sfujim/TD3, but learning_starts."""

    algo: ClassVar[str] = "ddpg"

    learning_starts: int = count(10_000, low=0)
    """Environment steps with uniform actions before the first gradient step (25,000 in that code)."""
    exploration_noise: float = real(0.1, low=0)
    """Standard deviation `sigma` of what a step adds to the noise on actions (0.2 in the paper)."""
    noise_theta: float = real(1.0, low=0, high=1)
    """Fraction `theta` of the noise that a step removes: 1 for independent noise (0.15 in the paper)."""


def validate(cfg: DDPGConfig, spec: EnvSpec) -> None:
    """Raise ConfigError if `cfg` does not fit `spec`."""
    off_policy.validate(cfg, spec)


def default_networks(cfg: DDPGConfig, spec: EnvSpec) -> dict[str, Network]:
    """Return `pi: obs [B, O] -> [B, A]`, before its tanh, and `q: obs, action -> [B]`."""
    pi, q = nets.torso(cfg, spec, spec.action_space.shape[0]), nets.Scalar(nets.torso(cfg, spec, 1))
    return {"pi": nets.network(pi), "q": nets.network(q)}


def make(cfg: DDPGConfig, spec: EnvSpec, networks: dict[str, Any] | None = None) -> Algorithm:
    """Return DDPG for `spec`; the real-valued fields of `cfg` may be traced."""
    chosen = nets.choose(default_networks(cfg, spec), networks)
    pi, q = chosen["pi"], chosen["q"]
    adam = optax.adam(cfg.learning_rate)

    def policy(pi_params: PyTree, obs: Array) -> Array:
        return jnp.tanh(pi.apply(pi_params, obs))

    def critic_loss(q_params: PyTree, target: PyTree, batch: Batch):
        rows = batch.rows
        next_q = q.apply(target["q"], rows.next_obs, policy(target["pi"], rows.next_obs))
        value = q.apply(q_params, rows.obs, rows.action)
        td_error = td_target(rows.reward, batch.discount, next_q) - value
        return half_mean_square(td_error, batch.weight), (td_error, value.mean())

    def actor_loss(pi_params: PyTree, q_params: PyTree, obs: Array) -> Array:
        return -q.apply(q_params, obs, policy(pi_params, obs)).mean()

    def gradient_step(learner: Learner, batch: Batch, key, index):
        params, target = learner.params, learner.target
        (q_loss, aux), gradient = jax.value_and_grad(critic_loss, has_aux=True)(params["q"], target, batch)
        td_error, q_mean = aux
        learner = descend(learner, "q", adam, gradient)
        pi_loss, gradient = jax.value_and_grad(actor_loss)(params["pi"], learner.params["q"], batch.rows.obs)
        learner = descend(learner, "pi", adam, gradient)
        metrics = {"q/loss": q_loss, "q/mean": q_mean, "pi/loss": pi_loss}
        return move_targets(learner, cfg.tau), td_error, metrics

    def fresh_learner(key) -> Learner:
        key_pi, key_q = jax.random.split(key)
        obs, action = off_policy.example(spec)
        params = {"pi": pi.init(key_pi, obs), "q": q.init(key_q, obs, action)}
        return init_learner(params, ("pi", "q"), adam)

    def init_carry(num_envs: int) -> Array:
        return jnp.zeros((num_envs, *spec.action_space.shape), jnp.float32)

    def act(state: State, noise: Array, obs: Array, key, step, *, explore: bool):
        action = policy(state.learner.params["pi"], obs)
        if not explore:
            return action, noise, ()
        jump = cfg.exploration_noise * jax.random.normal(key, noise.shape, noise.dtype)
        noise = (1 - cfg.noise_theta) * noise + jump
        return jnp.clip(action + noise, -1.0, 1.0), noise, ()

    return off_policy.make_off_policy(
        cfg, spec, init_learner=fresh_learner, act=act, gradient_step=gradient_step, init_carry=init_carry
    )
