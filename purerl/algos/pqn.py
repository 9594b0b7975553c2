"""Parallelised Q-learning, PQN (Gallici et al. 2024, arXiv:2407.04811).

Q-learning without a replay buffer and without a target network: many environments make a rollout, and a
normalised network takes several passes over it towards its lambda-returns,
`G_t = r_t + gamma (1 - terminated) [(1 - lambda) max_a Q(s_{t+1}, a) + lambda G_{t+1}]` (section 4.2).

Choices: the values in the returns are those of the network before the passes; a truncated step bootstraps.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax
from gymnasium import spaces

from purerl import networks as nets
from purerl.algos import epsilon_greedy, on_policy
from purerl.algos.off_policy import example
from purerl.algos.q_networks import q_network
from purerl.config import MAX_INTERVAL, ConfigError, choice, count, real, sizes, switch
from purerl.layers import ACTIVATIONS
from purerl.ops import losses, returns
from purerl.ops.arrays import lenient, of_action
from purerl.spaces import algorithm_hint
from purerl.types import Algorithm, Array, EnvSpec, Network, PyTree, Transition


@dataclasses.dataclass(frozen=True, kw_only=True)
class PQNConfig(epsilon_greedy.EpsilonConfig):
    """Hyperparameters of PQN; defaults of the authors' settings for MinAtar, but the sizes of a rollout."""

    algo: ClassVar[str] = "pqn"

    num_envs: int = count(32, high=2**20)
    """Environments per seed, stepped in parallel."""
    num_steps: int = count(32)
    """Steps of each environment per update."""
    num_epochs: int = count(2)
    """Passes over each rollout."""
    num_minibatches: int = count(16)
    """Gradient steps per pass."""
    log_interval: int = count(10_000, high=MAX_INTERVAL)
    """Environment steps between two rows of metrics; rounded up to whole updates."""
    eval_interval: int = count(50_000, low=0)
    """Environment steps between two evaluations of the greedy policy; 0 for none."""
    learning_rate: float = real(5e-4, above=0)
    """Step size of RAdam."""
    anneal_lr: bool = switch(True)
    """Decrease the step size linearly to 0 over total_timesteps."""
    max_grad_norm: float | None = real(10.0, above=0, optional=True)
    """Largest global norm of a gradient; None for no limit."""
    gamma: float = real(0.99, low=0, high=1)
    """Discount factor."""
    td_lambda: float = real(0.65, low=0, high=1)
    """Lambda of the returns: 0 for one-step targets, 1 for the rewards to go."""
    hidden_sizes: tuple[int, ...] = sizes((128,))
    """Widths of the hidden layers."""
    activation: str = choice("relu", ACTIVATIONS)
    """Nonlinearity of the hidden layers."""
    layer_norm: bool = switch(True)
    """Normalise each hidden layer before its nonlinearity; it takes the place of the target network."""


class State(NamedTuple):
    """Parameters and optimiser, which a gradient step changes."""

    params: PyTree
    opt_state: optax.OptState


class Batch(NamedTuple):
    """Rows of a rollout for gradient steps, each leaf `[B, ...]`."""

    obs: Array
    action: Array
    target: Array
    """Lambda-returns."""


def validate(cfg: PQNConfig, spec: EnvSpec) -> None:
    """Raise ConfigError if `cfg` does not fit `spec`."""
    if not isinstance(spec.action_space, spaces.Discrete):
        what = f"an environment with discrete actions, got {spec.action_space}"
        raise ConfigError("env", spec.name, what, algorithm_hint(spec.action_space))
    on_policy.validate_rollout(cfg)


def default_networks(cfg: PQNConfig, spec: EnvSpec) -> dict[str, Network]:
    """Return `q: obs [B, O] -> [B, K]`."""
    return {"q": q_network(cfg, spec)}


def make(cfg: PQNConfig, spec: EnvSpec, networks: dict[str, Any] | None = None) -> Algorithm:
    """Return PQN for `spec`; the real-valued fields of `cfg` may be traced."""
    q = nets.choose(default_networks(cfg, spec), networks)["q"]

    def optimizer(learning_rate) -> optax.GradientTransformation:
        chain = optax.chain(on_policy.clip_gradient(cfg), optax.radam(learning_rate))
        return chain._replace(update=lenient(chain.update))

    def loss(params: PyTree, batch: Batch):
        values = of_action(q.apply(params, batch.obs), batch.action)
        error = losses.half_mean_square(values - batch.target)
        return error, {"q/loss": error, "q/mean": values.mean()}

    def init(key) -> State:
        params = q.init(key, example(spec)[0])
        return State(params, optimizer(0.0).init(params))

    def act(state: State, carry, obs, key, step, *, explore: bool):
        values = q.apply(state.params, obs)
        if explore:
            return epsilon_greedy.epsilon_greedy(cfg, values, key, step), carry, {}
        return values.argmax(-1).astype(jnp.int32), carry, {}

    def observe(state: State, transition: Transition) -> State:
        return state

    def update(state: State, transition: Transition, key, step):
        reward, terminated, truncated = transition.reward, transition.terminated, transition.truncated
        next_obs = on_policy.flatten_time(transition.next_obs)
        next_value = on_policy.in_passes(partial(q.apply, state.params), next_obs).max(-1)
        target = returns.lambda_returns(
            reward, next_value.reshape(reward.shape), terminated, truncated, cfg.gamma, cfg.td_lambda
        )
        batch = on_policy.flatten_time(Batch(transition.obs, transition.action, target))
        left = on_policy.remaining(cfg, step) if cfg.anneal_lr else 1.0
        radam = optimizer(cfg.learning_rate * left)

        def gradient_step(state: State, minibatch: Batch):
            gradient, metrics = jax.grad(loss, has_aux=True)(state.params, minibatch)
            updates, opt_state = radam.update(gradient, state.opt_state)
            return State(optax.apply_updates(state.params, updates), opt_state), metrics

        def epoch(state: State, key):
            return on_policy.one_epoch(gradient_step, state, batch, key, num_minibatches=cfg.num_minibatches)

        state, metrics = jax.lax.scan(epoch, state, jax.random.split(key, cfg.num_epochs))
        return state, jax.tree.map(jnp.mean, metrics)

    return Algorithm(
        init=init, act=act, observe=observe, update=update, num_envs=cfg.num_envs, num_steps=cfg.num_steps
    )
