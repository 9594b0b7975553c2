"""Proximal Policy Optimisation (Schulman et al. 2017, arXiv:1707.06347), clipped or with a KL penalty.

Advantages by GAE (eq. 11 and 12), then epochs of minibatches on
`-mean min(ratio A, clip(ratio, 1 - eps, 1 + eps) A) + c_v (V - target)^2 / 2 - c_e entropy`  (eq. 7 and 9),
or, with `kl_penalty_target` and without `clip_eps`, on `-mean(ratio A) + beta KL(old || new) + ...`
(eq. 8), where beta doubles or halves after each update to hold the divergence near its target (section 4).

Choices: advantages standardised per minibatch; gradients clipped by their global norm; orthogonal
initialisation with a small last policy layer; a continuous policy is a normal in units where [-1, 1]
is the action range. Observations are normalised by statistics that change only after the update, so that
the first minibatch has ratio 1.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from purerl import normalize
from purerl.algos import on_policy
from purerl.algos.actor_critic import default_networks, make_actor_critic, validate_spaces
from purerl.config import ConfigError, count, real, switch
from purerl.ops import losses
from purerl.types import Algorithm, Array, EnvSpec, PyTree

__all__ = ["PPOConfig", "default_networks", "make", "validate"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PPOConfig(on_policy.OnPolicyConfig):
    """Hyperparameters of PPO; most defaults are those of the paper for MuJoCo, with 8 environments."""

    algo: ClassVar[str] = "ppo"

    num_epochs: int = count(10)
    """Passes over the rollout per update."""
    num_minibatches: int = count(32)
    """Gradient steps per pass; must divide num_envs * num_steps."""
    normalize_reward: bool = switch(False)
    """Divide rewards by the running standard deviation of the return (arXiv:2005.12729, section 3)."""
    learning_rate: float = real(3e-4, above=0)
    """Adam step size."""
    anneal_lr: bool = switch(True)
    """Decrease the step size linearly to 0 over total_timesteps."""
    clip_eps: float | None = real(0.2, above=0, optional=True)
    """Distance from 1 at which the probability ratio is clipped; None for no clipping."""
    anneal_clip: bool = switch(False)
    """Decrease clip_eps linearly to 0 too (the paper's Atari settings, table 5)."""
    kl_penalty_target: float | None = real(None, above=0, optional=True)
    """Target KL of an update for the adaptive penalty; None for no penalty."""
    early_stop_kl: float | None = real(None, above=0, optional=True)
    """Skip the rest of an update once a minibatch's KL exceeds 1.5 times this; None for never."""
    value_clip_eps: float | None = real(None, above=0, optional=True)
    """Largest change of a value that lowers the loss, as in OpenAI baselines; None for no clipping."""
    ent_coef: float = real(0.0, low=0)
    """Weight of the entropy bonus in the loss."""
    vf_coef: float = real(0.5, low=0)
    """Weight of the value loss."""
    shared_torso: bool = switch(False)
    """Use one torso for actor and critic; two do better on MuJoCo (arXiv:2006.05990, section 3.2)."""
    recompute_advantages: bool = switch(False)
    """Estimate the advantages again before every pass (arXiv:2006.05990, section 3.5)."""


class Learner(NamedTuple):
    """Parameters and optimiser, which a gradient step changes."""

    params: PyTree
    """Parameters of the policy `pi`, the value function `v` and, with `shared_torso`, their `torso`."""
    opt_state: optax.OptState


class State(NamedTuple):
    """State of PPO between updates."""

    learner: Learner
    normalizer: normalize.Normalizer
    kl_coef: Array
    """Weight beta of the penalty, adapted after each update; 1 without a penalty."""


class Batch(NamedTuple):
    """Rows of a rollout for gradient steps, each leaf `[B, ...]`."""

    obs: Array
    action: Array
    log_prob: Array
    outputs: PyTree
    """Outputs of the policy that acted; `()` without a penalty."""
    estimates: on_policy.Estimates


def validate(cfg: PPOConfig, spec: EnvSpec) -> None:
    """Raise ConfigError if `cfg` does not fit `spec`."""
    validate_spaces(cfg, spec)
    on_policy.validate_rollout(cfg)
    if cfg.clip_eps is None and cfg.kl_penalty_target is None:
        what = "a number above 0 since kl_penalty_target is None too"
        raise ConfigError("clip_eps", None, what, "One of them must limit the change of the policy.")
    if cfg.clip_eps is None and cfg.anneal_clip:
        raise ConfigError("anneal_clip", True, "False since clip_eps is None")


def make(cfg: PPOConfig, spec: EnvSpec, networks: dict[str, Any] | None = None) -> Algorithm:
    """Return PPO for `spec`; the real-valued fields of `cfg` may be traced."""
    model = make_actor_critic(cfg, spec, networks)

    def loss(params: PyTree, batch: Batch, clip_eps: Array | float | None, kl_coef: Array):
        policy = model.policy(params, batch.obs)
        log_prob, entropy = policy.log_prob(batch.action), policy.entropy().mean()
        old_value, advantage, target = batch.estimates
        advantage, value = losses.standardize(advantage), model.value(params, batch.obs)
        metrics = {"pi/entropy": entropy, "pi/kl": losses.approximate_kl(log_prob, batch.log_prob)}
        if clip_eps is None:
            pi_loss = losses.surrogate(log_prob, batch.log_prob, advantage)
        else:
            pi_loss = losses.clipped_surrogate(log_prob, batch.log_prob, advantage, clip_eps)
            metrics["pi/clip_fraction"] = (jnp.abs(jnp.expm1(log_prob - batch.log_prob)) > clip_eps).mean()
        if cfg.value_clip_eps is None:
            v_loss = losses.half_mean_square(value - target)
        else:
            v_loss = losses.clipped_value_loss(value, old_value, target, cfg.value_clip_eps)
        total = pi_loss + cfg.vf_coef * v_loss - cfg.ent_coef * entropy
        if cfg.kl_penalty_target is not None:
            total += kl_coef * model.distribution(batch.outputs).kl_divergence(policy).mean()
        return total, metrics | {"pi/loss": pi_loss, "v/loss": v_loss}

    def init(key) -> State:
        params = model.init(key)
        opt_state = on_policy.adam(cfg, cfg.learning_rate).init(params)
        return State(Learner(params, opt_state), normalize.init(cfg, spec), jnp.float32(1))

    def act(state: State, carry, obs, key, step, *, explore: bool):
        obs = normalize.normalize_obs(cfg, state.normalizer, obs)
        distribution = model.policy(state.learner.params, obs)
        if not explore:
            return distribution.mode(), carry, {}
        action, log_prob = distribution.sample_and_log_prob(seed=key)
        return action, carry, {"log_prob": log_prob}

    def observe(state: State, transition) -> State:
        return state._replace(normalizer=normalize.observe(cfg, state.normalizer, transition))

    def update(state: State, transition, key, step):
        observed, steps = observe(state, transition), on_policy.flatten_time(transition)
        obs = normalize.normalize_obs(cfg, state.normalizer, steps.obs)
        outputs_of = lambda params: on_policy.in_passes(partial(model.outputs, params), obs)
        outputs = () if cfg.kl_penalty_target is None else outputs_of(state.learner.params)
        left = on_policy.remaining(cfg, step)
        adam = on_policy.adam(cfg, cfg.learning_rate * left if cfg.anneal_lr else cfg.learning_rate)
        clip_eps = cfg.clip_eps * left if cfg.clip_eps is not None and cfg.anneal_clip else cfg.clip_eps

        def estimates(params: PyTree) -> on_policy.Estimates:
            value = partial(model.value, params)
            return on_policy.estimate(cfg, value, state.normalizer, observed.normalizer, transition)

        def gradient_step(loop: tuple[Learner, Array], minibatch: Batch):
            (params, opt_state), going = loop
            gradient, metrics = jax.grad(loss, has_aux=True)(params, minibatch, clip_eps, state.kl_coef)
            updates, opt_state = adam.update(gradient, opt_state)
            learner = Learner(optax.apply_updates(params, updates), opt_state)
            if cfg.early_stop_kl is not None:
                going &= metrics["pi/kl"] <= 1.5 * cfg.early_stop_kl
                learner = jax.tree.map(lambda new, old: jnp.where(going, new, old), learner, loop[0])
                metrics["pi/stopped"] = jnp.float32(~going)
            return (learner, going), metrics

        def epoch(loop: tuple[Learner, Array], key):
            rows = batch
            if cfg.recompute_advantages:  # value clipping keeps the values of the parameters that acted
                again = estimates(loop[0].params)._replace(value=batch.estimates.value)
                rows = batch._replace(estimates=again)
            return on_policy.one_epoch(gradient_step, loop, rows, key, num_minibatches=cfg.num_minibatches)

        batch = Batch(obs, steps.action, steps.extras["log_prob"], outputs, estimates(state.learner.params))
        loop = state.learner, jnp.bool_(True)
        (learner, _), metrics = jax.lax.scan(epoch, loop, jax.random.split(key, cfg.num_epochs))
        metrics = jax.tree.map(jnp.mean, metrics)
        state = observed._replace(learner=learner)
        if cfg.kl_penalty_target is not None:
            metrics["pi/kl_coef"] = state.kl_coef
            new = model.distribution(outputs_of(learner.params))
            kl = model.distribution(outputs).kl_divergence(new).mean()
            state = state._replace(
                kl_coef=losses.adapted_coefficient(state.kl_coef, kl, cfg.kl_penalty_target)
            )
        old_value, _, target = batch.estimates
        return state, on_policy.with_explained_variance(metrics, old_value, target)

    return Algorithm(
        init=init, act=act, observe=observe, update=update, num_envs=cfg.num_envs, num_steps=cfg.num_steps
    )
