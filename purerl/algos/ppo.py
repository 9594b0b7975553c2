"""Proximal Policy Optimisation with the clipped objective (Schulman et al. 2017, arXiv:1707.06347).

Advantages by GAE (eq. 11 and 12), then epochs of minibatches on
`-mean min(ratio A, clip(ratio, 1 - eps, 1 + eps) A) + c_v (V - target)^2 / 2 - c_e entropy`  (eq. 7 and 9).

Choices: separate actor and critic; advantages standardised per minibatch; gradients clipped by their
global norm; orthogonal initialisation with a small last policy layer; a continuous policy is a normal
with one learned spread, in units where [-1, 1] spans the action's range. Observations are normalised
by statistics that change only after the update, so that the first minibatch has ratio 1 exactly.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from gymnasium import spaces

from purerl import networks as nets
from purerl.algos.on_policy import flatten_time, minibatch_epochs
from purerl.config import MAX_INTERVAL, Config, ConfigError, choice, count, real, sizes, switch
from purerl.distributions import of_outputs
from purerl.ops import losses, returns, statistics
from purerl.ops.initializers import orthogonal
from purerl.types import Algorithm, Array, EnvSpec, Network, PyTree


@dataclasses.dataclass(frozen=True, kw_only=True)
class PPOConfig(Config):
    """Hyperparameters of PPO; the defaults are the paper's for MuJoCo, on 8 environments."""

    algo: ClassVar[str] = "ppo"

    num_envs: int = count(8, high=2**20)
    """Environments that each seed steps side by side."""
    log_interval: int = count(10_000, high=MAX_INTERVAL)
    """Environment steps between two rows of metrics; rounded up to whole updates."""
    eval_interval: int = count(50_000, low=0)
    """Environment steps between two evaluations of the deterministic policy; 0 switches them off."""
    checkpoint_interval: int = count(250_000, low=0)
    """Environment steps between two checkpoints of a run that has a directory; 0 saves at the end only."""
    num_steps: int = count(256)
    """Steps of each environment per update."""
    num_epochs: int = count(10)
    """Passes over the rollout per update."""
    num_minibatches: int = count(32)
    """Gradient steps per pass; must divide num_envs * num_steps."""
    learning_rate: float = real(3e-4, above=0)
    """Adam step size."""
    anneal_lr: bool = switch(True)
    """Let the step size fall linearly to 0 over total_timesteps; it is 0 in what they round up by."""
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
    max_grad_norm: float | None = real(0.5, above=0, optional=True)
    """Largest global norm of a gradient; None leaves it as it is."""
    normalize_obs: bool = switch(True)
    """Standardise observations by their running mean and variance."""
    hidden_sizes: tuple[int, ...] = sizes((64, 64))
    """Widths of the hidden layers of actor and critic."""
    activation: str = choice("tanh", nets.ACTIVATIONS)
    """Nonlinearity of the hidden layers."""


MAX_ROWS = 2**25
"""Transitions of a rollout: totals are rounded up by as much, and are still int32 then."""


class Learner(NamedTuple):
    """What a gradient step changes."""

    params: dict[str, PyTree]
    """Of the policy `pi` and the value function `v`."""
    opt_state: optax.OptState


class State(NamedTuple):
    """All that PPO remembers."""

    learner: Learner
    obs_moments: statistics.RunningMoments
    """Of every observation an update has seen; what `act` normalises by."""


class Batch(NamedTuple):
    """What a gradient step needs, each leaf `[B, ...]`."""

    obs: Array
    action: Array
    log_prob: Array
    advantage: Array
    target: Array


def validate(cfg: PPOConfig, spec: EnvSpec) -> None:
    """Raises ConfigError where `cfg` does not fit `spec`."""
    space = spec.action_space
    if not isinstance(space, spaces.Discrete) and not (
        isinstance(space, spaces.Box) and len(space.shape) == 1
    ):
        what = f"ppo needs a Discrete or a flat Box action space, and {spec.name} has {space}"
        raise ConfigError("env", cfg.env, what)
    rows = cfg.num_envs * cfg.num_steps
    if rows % cfg.num_minibatches:
        what = f"it must divide num_envs * num_steps = {cfg.num_envs} * {cfg.num_steps} = {rows:,}"
        raise ConfigError("num_minibatches", cfg.num_minibatches, what)
    if rows > MAX_ROWS:
        what = f"num_envs * num_steps = {rows:,} must be at most {MAX_ROWS:,}"
        raise ConfigError("num_steps", cfg.num_steps, what)


def default_networks(cfg: PPOConfig, spec: EnvSpec) -> dict[str, Network]:
    """`pi: obs [B, O] -> logits [B, K]` or `(mean, log_std), [B, A]`, and `v: obs -> [B]`."""

    def mlp(out: int, out_scale: float) -> nets.MLP:
        init, out_init = orthogonal(np.sqrt(2)), orthogonal(out_scale)
        return nets.MLP(cfg.hidden_sizes, out, cfg.activation, init, out_init)

    space = spec.action_space
    discrete = isinstance(space, spaces.Discrete)
    pi = mlp(int(space.n), 0.01) if discrete else nets.FixedSpreadGaussian(mlp(space.shape[0], 0.01))
    return {"pi": nets.network(pi), "v": nets.network(nets.Scalar(mlp(1, 1.0)))}


def make(cfg: PPOConfig, spec: EnvSpec, networks: dict[str, Any] | None = None) -> Algorithm:
    """PPO for `spec`; the real-valued fields of `cfg` may be traced."""
    chosen = nets.choose(default_networks(cfg, spec), networks)
    pi, v = chosen["pi"], chosen["v"]
    clip = optax.identity() if cfg.max_grad_norm is None else optax.clip_by_global_norm(cfg.max_grad_norm)
    adam = optax.chain(clip, optax.scale_by_adam(eps=1e-5))

    def normalize(state: State, obs: Array) -> Array:
        return statistics.normalize(state.obs_moments, obs) if cfg.normalize_obs else obs

    def policy(params: PyTree, obs: Array):
        return of_outputs(spec.action_space, pi.apply(params["pi"], obs))

    def loss(params: PyTree, batch: Batch):
        distribution = policy(params, batch.obs)
        log_prob, entropy = distribution.log_prob(batch.action), distribution.entropy().mean()
        advantage = losses.standardize(batch.advantage)
        pi_loss = losses.clipped_surrogate(log_prob, batch.log_prob, advantage, cfg.clip_eps)
        v_loss = losses.half_mean_square(v.apply(params["v"], batch.obs) - batch.target)
        metrics = {
            "pi/loss": pi_loss,
            "pi/entropy": entropy,
            "pi/kl": losses.approximate_kl(log_prob, batch.log_prob),
            "pi/clip_fraction": (jnp.abs(jnp.expm1(log_prob - batch.log_prob)) > cfg.clip_eps).mean(),
            "v/loss": v_loss,
        }
        return pi_loss + cfg.vf_coef * v_loss - cfg.ent_coef * entropy, metrics

    def init(key) -> State:
        key_pi, key_v = jax.random.split(key)
        obs = jnp.zeros((1, *spec.observation_space.shape))
        params = {"pi": pi.init(key_pi, obs), "v": v.init(key_v, obs)}
        return State(Learner(params, adam.init(params)), statistics.init(spec.observation_space.shape))

    def act(state: State, carry, obs, key, *, explore: bool):
        distribution = policy(state.learner.params, normalize(state, obs))
        if not explore:
            return distribution.mode(), carry, {}
        action, log_prob = distribution.sample_and_log_prob(seed=key)
        return action, carry, {"log_prob": log_prob}

    def observe(state: State, transition) -> State:
        return state._replace(obs_moments=statistics.update(state.obs_moments, transition.obs))

    def advantages(state: State, transition) -> Batch:
        steps = flatten_time(transition)
        obs, next_obs = normalize(state, steps.obs), normalize(state, steps.next_obs)
        shape, params = transition.reward.shape, state.learner.params["v"]
        advantage, target = returns.gae(
            transition.reward,
            v.apply(params, obs).reshape(shape),
            v.apply(params, next_obs).reshape(shape),
            transition.terminated,
            transition.truncated,
            cfg.gamma,
            cfg.gae_lambda,
        )
        return Batch(obs, steps.action, steps.extras["log_prob"], advantage.reshape(-1), target.reshape(-1))

    def update(state: State, transition, key, step):
        batch = advantages(state, transition)
        remaining = 1.0 - step / cfg.total_timesteps if cfg.anneal_lr else 1.0
        step_size = cfg.learning_rate * jnp.maximum(remaining, 0.0)

        def gradient_step(learner: Learner, minibatch: Batch):
            gradient, metrics = jax.grad(loss, has_aux=True)(learner.params, minibatch)
            direction, opt_state = adam.update(gradient, learner.opt_state)
            params = jax.tree.map(lambda param, d: param - step_size * d, learner.params, direction)
            return Learner(params, opt_state), metrics

        learner, metrics = minibatch_epochs(
            gradient_step,
            state.learner,
            batch,
            key,
            num_epochs=cfg.num_epochs,
            num_minibatches=cfg.num_minibatches,
        )
        metrics["v/explained_variance"] = losses.explained_variance(
            batch.target - batch.advantage, batch.target
        )
        return observe(state._replace(learner=learner), transition), metrics

    return Algorithm(init, lambda num_envs: (), act, observe, update, cfg.num_envs, cfg.num_steps, 0)
