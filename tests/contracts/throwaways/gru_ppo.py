"""PPO with a GRU: the policy's and the value's memory is the carry.

The update runs the network again over the rollout, from the carry that the rollout began with.
Choices: one network for policy and value; whole-batch epochs; no normalisation of observations.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from gymnasium import spaces

from purerl import networks as nets
from purerl.config import Config, ConfigError, count, real
from purerl.distributions import of_outputs
from purerl.ops import losses, returns
from purerl.ops.initializers import orthogonal
from purerl.types import Algorithm, EnvSpec, Network, PyTree, Transition


@dataclasses.dataclass(frozen=True, kw_only=True)
class GRUPPOConfig(Config):
    """Hyperparameters of PPO with a GRU."""

    algo: ClassVar[str] = "gru_ppo"

    num_steps: int = count(16)
    """Steps of each environment per update."""
    num_epochs: int = count(4)
    """Gradient steps per update, each on the whole rollout."""
    learning_rate: float = real(3e-3, above=0)
    """Adam step size."""
    gamma: float = real(0.99, low=0, high=1)
    """Discount."""
    gae_lambda: float = real(0.95, low=0, high=1)
    """Trade of bias (0) against variance (1) in the advantages."""
    clip_eps: float = real(0.2, above=0)
    """How far the probability ratio may move from 1 and still gain."""
    ent_coef: float = real(0.0, low=0)
    """Weight of the entropy bonus."""
    vf_coef: float = real(0.5, low=0)
    """Weight of the value loss."""
    memory_size: int = count(16)
    """Units of the GRU."""


class State(NamedTuple):
    """All that it remembers between updates; what it remembers within an episode is the carry."""

    params: PyTree
    opt_state: optax.OptState


class Recurrent(nn.Module):
    """`memory [B, H], obs [B, O] -> (memory [B, H], policy outputs, value [B])`."""

    size: int
    action_space: spaces.Space

    @nn.compact
    def __call__(self, memory, obs):
        """One step of the GRU, and a linear head for each output."""
        memory, x = nn.GRUCell(self.size, recurrent_kernel_init=orthogonal())(memory, obs)
        value = nn.Dense(1)(x)[:, 0]
        if isinstance(self.action_space, spaces.Discrete):
            return memory, nn.Dense(int(self.action_space.n))(x), value
        mean = nn.Dense(self.action_space.shape[0])(x)
        log_std = self.param("log_std", nn.initializers.zeros, mean.shape[-1:])
        return memory, (mean, jnp.broadcast_to(log_std, mean.shape)), value


def validate(cfg: GRUPPOConfig, spec: EnvSpec) -> None:
    """Raises ConfigError where `cfg` does not fit `spec`."""
    if len(spec.observation_space.shape) != 1:
        raise ConfigError("env", cfg.env, f"gru_ppo needs flat observations, not {spec.observation_space}")


def default_networks(cfg: GRUPPOConfig, spec: EnvSpec) -> dict[str, Network]:
    """`net: memory, obs -> (memory, policy outputs, value)`."""
    return {"net": nets.network(Recurrent(cfg.memory_size, spec.action_space))}


def make(cfg: GRUPPOConfig, spec: EnvSpec, networks: dict[str, Any] | None = None) -> Algorithm:
    """Recurrent PPO for `spec`; the real-valued fields of `cfg` may be traced."""
    net = nets.choose(default_networks(cfg, spec), networks)["net"]
    adam = optax.adam(cfg.learning_rate, eps=1e-5)

    def init_carry(num_envs: int):
        return jnp.zeros((num_envs, cfg.memory_size))

    def init(key) -> State:
        params = net.init(key, init_carry(1), jnp.zeros((1, *spec.observation_space.shape)))
        return State(params, adam.init(params))

    def act(state: State, carry, obs, key, *, explore: bool):
        after, outputs, _ = net.apply(state.params, carry, obs)
        distribution = of_outputs(spec.action_space, outputs)
        if not explore:
            return distribution.mode(), after, {}
        action, log_prob = distribution.sample_and_log_prob(seed=key)
        return action, after, {"log_prob": log_prob, "carry": carry}

    def recall(params, transition: Transition):
        """Policy outputs, values and next values `[T, N]`, remembering as the rollout did."""

        def step(carry, now):
            after, outputs, value = net.apply(params, carry, now.obs)
            next_value = net.apply(params, after, now.next_obs)[2]
            fresh = jnp.where((now.terminated | now.truncated)[:, None], 0.0, after)
            return fresh, (outputs, value, next_value)

        return jax.lax.scan(step, transition.extras["carry"][0], transition)[1]

    def loss(params, transition: Transition, advantage, target):
        outputs, value, _ = recall(params, transition)
        distribution, old = of_outputs(spec.action_space, outputs), transition.extras["log_prob"]
        log_prob, entropy = distribution.log_prob(transition.action), distribution.entropy().mean()
        pi_loss = losses.clipped_surrogate(log_prob, old, losses.standardize(advantage), cfg.clip_eps)
        v_loss = losses.half_mean_square(value - target)
        metrics = {"pi/loss": pi_loss, "pi/entropy": entropy, "v/loss": v_loss}
        return pi_loss + cfg.vf_coef * v_loss - cfg.ent_coef * entropy, metrics

    def update(state: State, transition: Transition, key, step):
        _, value, next_value = recall(state.params, transition)
        flags = transition.terminated, transition.truncated
        advantage, target = returns.gae(
            transition.reward, value, next_value, *flags, cfg.gamma, cfg.gae_lambda
        )

        def epoch(state: State, _):
            gradient, metrics = jax.grad(loss, has_aux=True)(state.params, transition, advantage, target)
            steps, opt_state = adam.update(gradient, state.opt_state)
            return State(optax.apply_updates(state.params, steps), opt_state), metrics

        state, metrics = jax.lax.scan(epoch, state, length=cfg.num_epochs)
        return state, jax.tree.map(jnp.mean, metrics)

    def observe(state: State, transition: Transition) -> State:
        return state

    return Algorithm(init, init_carry, act, observe, update, cfg.num_envs, cfg.num_steps, 0)
