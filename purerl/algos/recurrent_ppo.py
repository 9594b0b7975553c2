"""Recurrent PPO, for tasks with partial observations (arXiv:1707.06347, arXiv:1507.06527).

As `ppo`, but policy and value are heads on a gated recurrent unit (Cho et al. 2014, arXiv:1406.1078), which
reads one observation per step and is reset at the start of every episode. An update runs it again over each
environment's rollout, from the RNN state at the first step, and differentiates through time over the whole
rollout; therefore a minibatch consists of whole rollouts of some environments.

Choices: rewards divided by the standard deviation of the return, since the gradients of actor and critic
meet in one RNN; advantages standardised per minibatch; the value of `next_obs` uses the RNN state after
`obs`, also at a time limit.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from purerl import networks as nets
from purerl import normalize
from purerl.algos import on_policy
from purerl.algos.actor_critic import validate_spaces
from purerl.config import ConfigError, count, real, sizes, switch
from purerl.distributions import of_outputs
from purerl.ops import losses
from purerl.spaces import as_floats, zeros
from purerl.types import Algorithm, Array, EnvSpec, Network, PyTree, Transition


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecurrentPPOConfig(on_policy.OnPolicyConfig):
    """Hyperparameters of recurrent PPO."""

    algo: ClassVar[str] = "recurrent_ppo"

    num_envs: int = count(16, high=2**20)
    """Environments per seed, stepped in parallel."""
    num_steps: int = count(64)
    """Steps of each environment per update, and of backpropagation through time."""
    num_epochs: int = count(4)
    """Passes over the rollout per update."""
    num_minibatches: int = count(4)
    """Gradient steps per pass, each on whole rollouts of some environments; must divide num_envs."""
    learning_rate: float = real(1e-3, above=0)
    """Adam step size."""
    anneal_lr: bool = switch(True)
    """Decrease the step size linearly to 0 over total_timesteps."""
    clip_eps: float = real(0.2, above=0)
    """Distance from 1 at which the probability ratio is clipped."""
    ent_coef: float = real(0.0, low=0)
    """Weight of the entropy bonus in the loss."""
    vf_coef: float = real(0.5, low=0)
    """Weight of the value loss."""
    hidden_sizes: tuple[int, ...] = sizes((64,))
    """Widths of the hidden layers between the observation and the RNN."""
    rnn_size: int = count(64, high=65_536)
    """Units of the gated recurrent unit."""


class Learner(NamedTuple):
    """Parameters and optimiser, which a gradient step changes."""

    params: PyTree
    """Parameters of the `core`, and of the heads `pi` and `v`."""
    opt_state: optax.OptState


class State(NamedTuple):
    """State of recurrent PPO between updates; the RNN state is the carry."""

    learner: Learner
    normalizer: normalize.Normalizer


class Sequences(NamedTuple):
    """Rollouts by environment for gradient steps, each leaf `[N, T, ...]` but the first."""

    carry: Array
    """`[N, H]` RNN state before the first observation."""
    obs: Array
    action: Array
    log_prob: Array
    ended: Array
    advantage: Array
    target: Array


def validate(cfg: RecurrentPPOConfig, spec: EnvSpec) -> None:
    """Raise ConfigError if `cfg` does not fit `spec`."""
    validate_spaces(cfg, spec)
    if cfg.num_envs % cfg.num_minibatches:
        raise ConfigError("num_minibatches", cfg.num_minibatches, f"a divisor of num_envs = {cfg.num_envs:,}")
    on_policy.validate_rollout(cfg)


def default_networks(cfg: RecurrentPPOConfig, spec: EnvSpec) -> dict[str, Network]:
    """Return `core: carry [B, H], obs [B, O] -> (carry, features [B, H])`, and `pi` and `v` of features."""
    rnn = nets.RecurrentTorso(cfg.rnn_size, nets.orthogonal_torso(cfg, spec))
    return {"core": nets.network(rnn), **nets.heads(cfg, spec, on_features=True)}


def make(cfg: RecurrentPPOConfig, spec: EnvSpec, networks: dict[str, Any] | None = None) -> Algorithm:
    """Return recurrent PPO for `spec`; the real-valued fields of `cfg` may be traced."""
    chosen = nets.choose(default_networks(cfg, spec), networks)
    core, pi, v = (chosen[name] for name in ("core", "pi", "v"))

    def init_carry(num_envs: int) -> Array:
        return jnp.zeros((num_envs, cfg.rnn_size), jnp.float32)

    def unroll(params: PyTree, carry: Array, obs: Array, ended: Array) -> tuple[Array, Array]:
        """Return features and RNN states after each observation, `[T, N, H]`, with a reset after each end."""

        def step(carry, now):
            obs, ended = now
            after, x = core.apply(params["core"], carry, obs)
            return jnp.where(ended[:, None], 0.0, after), (x, after)

        return jax.lax.scan(step, carry, (obs, ended))[1]

    def loss(params: PyTree, rows: Sequences):
        by_time = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), rows._replace(carry=()))
        x, _ = unroll(params, rows.carry, by_time.obs, by_time.ended)
        x, steps = on_policy.flatten_time((x, by_time))
        policy = of_outputs(spec.action_space, pi.apply(params["pi"], x))
        log_prob, entropy = policy.log_prob(steps.action), policy.entropy().mean()
        advantage = losses.standardize(steps.advantage)
        pi_loss = losses.clipped_surrogate(log_prob, steps.log_prob, advantage, cfg.clip_eps)
        v_loss = losses.half_mean_square(v.apply(params["v"], x) - steps.target)
        metrics = {
            "pi/loss": pi_loss,
            "pi/entropy": entropy,
            "pi/kl": losses.approximate_kl(log_prob, steps.log_prob),
            "pi/clip_fraction": (jnp.abs(jnp.expm1(log_prob - steps.log_prob)) > cfg.clip_eps).mean(),
            "v/loss": v_loss,
        }
        return pi_loss + cfg.vf_coef * v_loss - cfg.ent_coef * entropy, metrics

    def init(key) -> State:
        key_rnn, key_pi, key_v = jax.random.split(key, 3)
        carry, obs = init_carry(1), as_floats(zeros(spec.observation_space, 1))
        params = {"core": core.init(key_rnn, carry, obs)}
        _, x = core.apply(params["core"], carry, obs)
        params |= {"pi": pi.init(key_pi, x), "v": v.init(key_v, x)}
        opt_state = on_policy.adam(cfg, cfg.learning_rate).init(params)
        return State(Learner(params, opt_state), normalize.init(cfg, spec))

    def act(state: State, carry, obs, key, step, *, explore: bool):
        params = state.learner.params
        obs = normalize.normalize_obs(cfg, state.normalizer, obs)
        after, x = core.apply(params["core"], carry, obs)
        policy = of_outputs(spec.action_space, pi.apply(params["pi"], x))
        if not explore:
            return policy.mode(), after, {}
        action, log_prob = policy.sample_and_log_prob(seed=key)
        return action, after, {"log_prob": log_prob, "carry": carry}  # update reads the first carry only

    def observe(state: State, transition: Transition) -> State:
        return state._replace(normalizer=normalize.observe(cfg, state.normalizer, transition))

    def sequences(state: State, observed: State, transition: Transition):
        """Return the rollout by environment, and the estimates `[T * N]`."""
        params, shape = state.learner.params, transition.reward.shape
        obs, next_obs = (
            normalize.normalize_obs(cfg, state.normalizer, o) for o in (transition.obs, transition.next_obs)
        )
        carry, ended = transition.extras["carry"][0], transition.terminated | transition.truncated
        x, after = unroll(params, carry, obs, ended)
        _, next_x = core.apply(params["core"], *on_policy.flatten_time((after, next_obs)))
        values = v.apply(params["v"], on_policy.flatten_time(x)).reshape(shape)
        next_values = v.apply(params["v"], next_x).reshape(shape)
        estimates = on_policy.estimate_from_values(cfg, values, next_values, observed.normalizer, transition)
        advantage, target = estimates.advantage.reshape(shape), estimates.target.reshape(shape)
        log_prob = transition.extras["log_prob"]
        by_time = obs, transition.action, log_prob, ended, advantage, target
        by_env = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), by_time)
        return Sequences(carry, *by_env), estimates

    def update(state: State, transition: Transition, key, step):
        observed = observe(state, transition)
        rows, (value, _, target) = sequences(state, observed, transition)
        left = on_policy.remaining(cfg, step) if cfg.anneal_lr else 1.0
        adam = on_policy.adam(cfg, cfg.learning_rate * left)

        def gradient_step(learner: Learner, minibatch: Sequences):
            gradient, metrics = jax.grad(loss, has_aux=True)(learner.params, minibatch)
            updates, opt_state = adam.update(gradient, learner.opt_state)
            return Learner(optax.apply_updates(learner.params, updates), opt_state), metrics

        def epoch(learner: Learner, key):
            return on_policy.one_epoch(gradient_step, learner, rows, key, num_minibatches=cfg.num_minibatches)

        learner, metrics = jax.lax.scan(epoch, state.learner, jax.random.split(key, cfg.num_epochs))
        metrics = jax.tree.map(jnp.mean, metrics)
        return observed._replace(learner=learner), on_policy.with_explained_variance(metrics, value, target)

    return Algorithm(
        init=init,
        act=act,
        observe=observe,
        update=update,
        num_envs=cfg.num_envs,
        num_steps=cfg.num_steps,
        init_carry=init_carry,
    )
