"""Deep Q-learning, DQN (Mnih et al. 2015, doi:10.1038/nature14236), with every part up to Rainbow.

`Q(s, a)` learns by `y = r + discount Q'(s', argmax_a' Q'(s', a'))` from a target network `Q'`. Switches:

- `double`: `Q` chooses `a'` (van Hasselt et al. 2016, arXiv:1509.06461, eq. 4);
- `dueling` and `noisy`: see `q_networks` and `layers.NoisyDense`; the noise takes the place of epsilon;
- `critic`: the mean, a categorical distribution (C51) or quantiles (QR-DQN, IQN): see `return_models`;
- `munchausen`: `pi' = softmax(Q' / tau)` in the place of the greedy action, with its entropy, and
  `alpha clip(tau log pi'(a|s), -c, 0)` more reward (Vieillard et al. 2020, arXiv:2007.14430, eq. 2);
- `prioritised` and `n_step`: of the replay buffer.

Choices: IQN chooses the next action by the fractions of its target, and acts by evenly spaced ones.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax
from gymnasium import spaces

from purerl import networks as nets
from purerl.algos import epsilon_greedy, off_policy, return_models
from purerl.algos.epsilon_greedy import EpsilonConfig
from purerl.algos.learning import Learner, descend, every, init_learner, move_targets
from purerl.algos.off_policy import State
from purerl.algos.on_policy import clip_gradient
from purerl.algos.q_networks import q_network
from purerl.algos.return_models import Ahead, return_model
from purerl.config import ConfigError, count, ratio, real, refuse_unused, sizes, switch, text
from purerl.ops.arrays import of_action
from purerl.replay.ring import Batch
from purerl.spaces import algorithm_hint, num_rows
from purerl.types import Algorithm, Array, EnvSpec, MaskedMetrics, Network


@dataclasses.dataclass(frozen=True, kw_only=True)
class DQNConfig(return_models.ReturnConfig, EpsilonConfig):
    """Hyperparameters of DQN."""

    algo: ClassVar[str] = "dqn"

    env: str = text("cartpole")
    """Environment id, as `purerl.make_env` takes it."""
    learning_rate: float = real(2.5e-4, above=0)
    """Step size of Adam."""
    adam_eps: float = real(1e-8, above=0)
    """Epsilon of Adam; 1.5e-4 in Rainbow."""
    max_grad_norm: float | None = real(None, above=0, optional=True)
    """Largest global norm of a gradient; None for no limit."""
    batch_size: int = count(128)
    """Transitions per gradient step."""
    updates_per_step: float = ratio(0.25)
    """Gradient steps per step of all environments; 0.25 for one every 4 steps."""
    tau: float = real(1.0, above=0, high=1)
    """Fraction by which the target network approaches its network at each of its updates; 1 copies it."""
    target_period: int = count(250)
    """Gradient steps from one update of the target network to the next."""
    double: bool = switch(False)
    """Choose the next action by the network, and take its value from the target network."""
    dueling: bool = switch(False)
    """Learn the value of a state and the advantages of its actions in two streams."""
    noisy: bool = switch(False)
    """Explore by learned noise on the weights of fully connected layers, in the place of epsilon."""
    munchausen: bool = switch(False)
    """Add the policy's log-probability to rewards, and its entropy to returns."""
    munchausen_alpha: float | None = real(None, low=0, high=1, optional=True)
    """Weight of the log-probability; None: 0.9."""
    munchausen_tau: float | None = real(None, above=0, optional=True)
    """Temperature of the policy; None: 0.03."""
    munchausen_clip: float | None = real(None, low=0, optional=True)
    """Most by which the log-probability, times the temperature, may lower a reward; None: 1."""
    hidden_sizes: tuple[int, ...] = sizes((128, 128))
    """Widths of the hidden layers; the last one is that of each stream."""
    layer_norm: bool = switch(False)
    """Normalise each hidden layer before its nonlinearity (Ba et al. 2016, arXiv:1607.06450)."""


def validate(cfg: DQNConfig, spec: EnvSpec) -> None:
    """Raise ConfigError if `cfg` does not fit `spec`, or has a field without effect."""
    if not isinstance(spec.action_space, spaces.Discrete):
        what = f"an environment with discrete actions, got {spec.action_space}"
        raise ConfigError("env", spec.name, what, algorithm_hint(spec.action_space))
    off_policy.validate(cfg, spec, discrete=True)
    return_models.validate(cfg)
    if cfg.noisy:
        refuse_unused(cfg, "noisy = True", *epsilon_greedy.FIELDS)
    if cfg.munchausen:
        refuse_unused(cfg, "munchausen = True", "double")
    else:
        names = "munchausen_alpha", "munchausen_tau", "munchausen_clip"
        refuse_unused(cfg, "munchausen = False", *names)


def default_networks(cfg: DQNConfig, spec: EnvSpec) -> dict[str, Network]:
    """Return `q: obs [B, O] -> [B, K]`, or `[B, K, M]` of a distribution.

    An implicit one gets `fractions [B, M]`, too.
    """
    size = return_model(cfg).size
    return {"q": q_network(cfg, spec, size, dueling=cfg.dueling, noisy=cfg.noisy)}


def make(cfg: DQNConfig, spec: EnvSpec, networks: dict[str, Any] | None = None) -> Algorithm:
    """Return DQN for `spec`; the real-valued fields of `cfg` may be traced."""
    q, returns = nets.choose(default_networks(cfg, spec), networks)["q"], return_model(cfg)
    adam = optax.chain(clip_gradient(cfg), optax.adam(cfg.learning_rate, eps=cfg.adam_eps))
    alpha = 0.9 if cfg.munchausen_alpha is None else cfg.munchausen_alpha
    tau = 0.03 if cfg.munchausen_tau is None else cfg.munchausen_tau
    most = 1.0 if cfg.munchausen_clip is None else cfg.munchausen_clip

    def inputs(obs, at: Array | None) -> tuple[Array, ...]:
        return (obs,) if at is None else (obs, at)

    def outputs(params, obs, at: Array | None, noise) -> Array:
        more = {"noise": noise} if cfg.noisy else {}
        out = q.apply(params, *inputs(obs, at), **more)
        return out[..., None] if out.ndim == 2 else out

    def scaled_log_prob(out: Array) -> Array:
        return tau * jax.nn.log_softmax(returns.mean(out) / tau)  # [B, K]

    def loss(params, target, batch: Batch, key):
        rows, (key_at, key_next, *noise) = batch.rows, jax.random.split(key, 6)
        at, at_next = (returns.fractions(len(rows.reward), key) for key in (key_at, key_next))
        out = outputs(params, rows.obs, at, noise[0])
        next_out = outputs(target, rows.next_obs, at_next, noise[1])
        if cfg.munchausen:
            log_prob, penalty = map(scaled_log_prob, (outputs(target, rows.obs, at, noise[2]), next_out))
            bonus = jnp.clip(of_action(log_prob, rows.action), -most, 0.0)
            batch = batch._replace(rows=rows._replace(reward=rows.reward + alpha * bonus))
            ahead = Ahead(next_out, jnp.exp(penalty / tau), penalty)
        else:
            chooser = outputs(params, rows.next_obs, at_next, noise[3]) if cfg.double else next_out
            best = of_action(next_out, returns.mean(chooser).argmax(-1))[:, None]
            ahead = Ahead(best, *jnp.stack([jnp.ones_like(best[..., 0]), jnp.zeros_like(best[..., 0])]))
        out = of_action(out, rows.action)
        error, td_error = returns.loss(out, jax.lax.stop_gradient(returns.target(ahead, batch)), at)
        error = (batch.weight * error).mean()
        return error, (td_error, {"q/loss": error, "q/mean": returns.mean(out[:, None]).mean()})

    def copy_target(learner: Learner):
        return move_targets(learner, cfg.tau), {}

    def gradient_step(learner: Learner, batch: Batch, key, index):
        gradient_of = jax.grad(loss, has_aux=True)
        gradient, (td_error, metrics) = gradient_of(learner.params["q"], learner.target["q"], batch, key)
        learner = descend(learner, "q", adam, gradient)
        learner, _ = every(cfg.target_period, index, copy_target, learner)
        return learner, td_error, MaskedMetrics.of(metrics)

    def fresh_learner(key) -> Learner:
        obs, at = off_policy.example(spec)[0], returns.fractions(1, None)
        return init_learner({"q": q.init(key, *inputs(obs, at))}, ("q",), adam)

    def act(state: State, carry, obs, key, step, *, explore: bool):
        at = returns.fractions(num_rows(obs), None)
        values = returns.mean(outputs(state.learner.params["q"], obs, at, key if explore else None))
        if explore and not cfg.noisy:
            return epsilon_greedy.epsilon_greedy(cfg, values, key, step), carry, ()
        return values.argmax(-1).astype(jnp.int32), carry, ()

    return off_policy.make_off_policy(
        cfg, spec, init_learner=fresh_learner, act=act, gradient_step=gradient_step
    )
