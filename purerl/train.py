"""The training loop: roll out, update and evaluate, as pure functions.

`make_driver` returns the functions of one member. `make_train` scans them into a single program;
`purerl.run` calls the same functions from the host, with time for logs and checkpoints in between.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purerl import evaluate as evaluation
from purerl import metrics, registry, rollout
from purerl.arguments import check_key
from purerl.config import Config, ConfigError, replace
from purerl.health import settle, with_learned
from purerl.make import env_for, spec_of, validate
from purerl.metrics import Tallies
from purerl.schedule import Schedule, make_schedule, rounding_note
from purerl.types import (
    Algorithm,
    Array,
    Env,
    HostEnv,
    Key,
    PyTree,
    TrainOutput,
    TrainState,
    Transition,
)

logger = logging.getLogger("purerl")
Hyper = Mapping[str, Any]
"""Values for real-valued fields of the config, by name; they may be traced."""


class Streams(NamedTuple):
    """Independent keys for each purpose, all from a member's root key."""

    init: Key
    env: Key
    warmup: Key
    train: Key
    evaluate: Key


def streams(root: Key) -> Streams:
    """Return the keys of the member with this root."""
    return Streams(*(jax.random.fold_in(root, i) for i in range(len(Streams._fields))))


class Phase(NamedTuple):
    """The parts of an iteration of one member, during warm-up or training.

    The scan below and the loop over environments that step in Python call the same parts.
    """

    plan: Callable[[Key, Array], tuple[Key, Key]]
    """`(root key, step) -> (key of the rollout, key of the update)`."""
    act: Callable[..., tuple[Array, PyTree, PyTree]]
    """`(learned, carry, obs [N, O], key, step, hyper) -> (action [N, A], carry, extras)`."""
    learn: Callable[..., tuple[TrainState, Mapping[str, Array]]]
    """`(state, Transition [T, N], key, step, hyper) -> (state, metrics)`. Who has diverged stores nothing."""


class Driver(NamedTuple):
    """Pure functions of a training run of one member, ready for `jit` and `vmap`.

    `step` is the number of environment steps so far: an unbatched int32 (`in_axes=None`).
    `hyper` holds values for real-valued fields of the config. `warmup` and `chunk` take a static
    number of iterations and may be called in any division of the whole; the bits stay the same.
    """

    cfg: Config
    schedule: Schedule
    env: Env
    algo: Algorithm
    """With the real-valued fields of the config as they are."""
    make_algorithm: Callable[[Hyper], Algorithm]
    """With the real-valued fields of `hyper` in place."""
    validate: Callable[[Hyper], None]
    """Raise ConfigError unless the config with `hyper` in place is sound and fits the environment."""
    init: Callable[[Key, Hyper], TrainState]
    warming: Phase
    """Uniform actions, observed and not learned from."""
    training: Phase
    warmup: Callable[..., tuple[TrainState, Tallies]]
    """`(state, step, hyper, iterations)`: iterations of the first `schedule.warmup_steps`."""
    chunk: Callable[..., tuple[TrainState, Tallies]]
    """`(state, step, hyper, iterations)`: rollouts and updates. A member whose parameters are not finite at
    the end has diverged: it falls back to those of the start, and never learns again."""
    evaluate: Callable[[TrainState, Array, Hyper], Tallies]
    """The policy on whole episodes; depends on nothing but its arguments."""


def make_phases(
    env: Env, schedule: Schedule, num_envs: int, make_algorithm: Callable[[Hyper], Algorithm]
) -> tuple[Phase, Phase]:
    """Return the parts of an iteration during warm-up, and during training."""

    def plan_warmup(root: Key, step: Array) -> tuple[Key, Key]:
        key = jax.random.fold_in(streams(root).warmup, step // schedule.iteration_steps)
        return key, key  # nothing is learned, so the second is never used

    def act_uniformly(learned: PyTree, carry: PyTree, obs: Array, key: Key, step: Array, hyper: Hyper):
        return rollout.uniform_action(env.action_space, key, num_envs), carry, ()

    def only_observe(state: TrainState, transition: Transition, key: Key, step: Array, hyper: Hyper):
        return with_learned(state, make_algorithm(hyper).observe(state.algo, transition)), {}

    def plan(root: Key, step: Array) -> tuple[Key, Key]:
        key_rollout, key_update = jax.random.split(jax.random.fold_in(streams(root).train, step))
        return key_rollout, key_update

    def act(learned: PyTree, carry: PyTree, obs: Array, key: Key, step: Array, hyper: Hyper):
        action, carry, extras = make_algorithm(hyper).act(learned, carry, obs, key, step, explore=True)
        return rollout.finite_action(action), carry, extras

    def learn(state: TrainState, transition: Transition, key: Key, step: Array, hyper: Hyper):
        learned, report = make_algorithm(hyper).update(state.algo, transition, key, step)
        return with_learned(state, learned), report

    return Phase(plan_warmup, act_uniformly, only_observe), Phase(plan, act, learn)


def make_driver(
    cfg: Config, env: Env | HostEnv | None = None, networks: Mapping[str, Any] | None = None
) -> Driver:
    """Return the functions of a training run. Raises ConfigError before anything is traced."""
    return driver_on(cfg, in_the_program(env_for(cfg, env)), networks)


def driver_on(cfg: Config, env: Env, networks: Mapping[str, Any] | None) -> Driver:
    """Return the driver on an environment of `env_for`, which is not tried again."""
    spec = spec_of(env)
    validate(cfg, spec, networks)
    make = registry.algorithm_module(cfg).make

    def make_algorithm(hyper: Hyper) -> Algorithm:
        return make(replace(cfg, hyper), spec, networks)

    facts = make_algorithm({})
    schedule = make_schedule(cfg, facts)
    num_envs, num_steps = facts.num_envs, facts.num_steps
    warming, training = make_phases(env, schedule, num_envs, make_algorithm)

    def init(key: Key, hyper: Hyper) -> TrainState:
        keys, algo = streams(key), make_algorithm(hyper)
        vector = rollout.start(env, keys.env, num_envs)
        return TrainState(algo.init(keys.init), vector, algo.init_carry(num_envs), key, jnp.int32(-1))

    def iterate(phase: Phase, state: TrainState, step: Array, hyper: Hyper, iterations: int):
        def iteration(state: TrainState, i: Array):
            now = step + i * schedule.iteration_steps
            key_rollout, key_update = phase.plan(state.key, now)
            policy = lambda carry, obs, key: phase.act(state.algo, carry, obs, key, now, hyper)
            vector, carry, transition, episodes = rollout.unroll(
                env, policy, state.env, state.carry, key_rollout, num_steps
            )
            state, report = phase.learn(state, transition, key_update, now, hyper)
            return state._replace(env=vector, carry=carry), (episodes, report)

        after, (episodes, report) = jax.lax.scan(iteration, state, jnp.arange(iterations, dtype=jnp.int32))
        return settle(state, after, episodes, report, step + iterations * schedule.iteration_steps)

    def evaluate(state: TrainState, step: Array, hyper: Hyper) -> Tallies:
        tallies = {}
        for name, explore in evaluated(cfg).items():
            policy = evaluation.policy_of(make_algorithm(hyper), state.algo, env, step, explore)
            key = evaluation_key(state.key, step, explore)
            tallies |= metrics.evaluation_tallies(
                name, *evaluation.evaluate(env, policy, key, cfg.eval_episodes)
            )
        return metrics.only_where(state.diverged_at < 0, tallies)

    return Driver(
        cfg=cfg,
        schedule=schedule,
        env=env,
        algo=facts,
        make_algorithm=make_algorithm,
        validate=lambda hyper: validate(replace(cfg, hyper), spec),
        init=init,
        warming=warming,
        training=training,
        warmup=partial(iterate, warming),
        chunk=partial(iterate, training),
        evaluate=evaluate,
    )


def evaluated(cfg: Config) -> dict[str, bool]:
    """Return the policies that an evaluation plays: the prefix of their metrics, and whether they explore."""
    return {"eval": False} | ({"eval_stochastic": True} if cfg.eval_stochastic else {})


def evaluation_key(root: Key, step: Array, explore: bool) -> Key:
    """Return the key of the evaluation at `step`; that of the exploring policy is another."""
    key = jax.random.fold_in(streams(root).evaluate, step)
    return jax.random.fold_in(key, 1) if explore else key


def in_the_program(env: Env | HostEnv) -> Env:
    """Return `env`. Raises ConfigError if it steps in Python: no compiled program can contain it."""
    if isinstance(env, HostEnv):
        raise ConfigError("env", env.name, "an environment in JAX", "Train with purerl.run instead.")
    return env


def make_train(
    cfg: Config, env: Env | None = None, networks: Mapping[str, Any] | None = None
) -> Callable[..., TrainOutput]:
    """Return a whole training run of one member as one pure function.

    `train(key, hyper=None)` returns a `TrainOutput`: the final state, and metrics with one row per
    log interval (the warm-up, where there is one, is the first). `hyper` overrides real-valued
    fields, so `jax.vmap(train, in_axes=(None, 0))(key, {"learning_rate": rates})` is a sweep.

    Args:
        cfg: from `make_config`.
        env: the task; made from `cfg` if None.
        networks: `(init, apply)` pairs by name, in place of the algorithm's own.

    Raises:
        ConfigError: if `cfg` is wrong in itself or does not fit the environment.
    """
    driver = make_driver(cfg, env, networks)
    schedule = driver.schedule
    if schedule.total_steps != cfg.total_timesteps:
        logger.warning(rounding_note(cfg, schedule))

    def train(key: Key, hyper: Hyper | None = None) -> TrainOutput:
        check_key(key)
        hyper = {} if hyper is None else hyper
        replace(cfg, hyper)  # before anything is traced
        state, first = driver.init(key, hyper), None
        if schedule.warmup_steps:
            iterations = schedule.warmup_steps // schedule.iteration_steps
            state, tallies = driver.warmup(state, jnp.int32(0), hyper, iterations)
            first = metrics.summarise(tallies, state.diverged_at, step=jnp.int32(schedule.warmup_steps))

        def row(state: TrainState, i: Array):
            start = schedule.warmup_steps + i * schedule.row_steps
            end = start + schedule.row_steps
            state, tallies = driver.chunk(state, start, hyper, schedule.iterations)
            if cfg.eval_interval:
                # Closures, not operands: so the branch sees the policy and never the replay buffer.
                run = partial(driver.evaluate, state, end, hyper)
                skip = partial(metrics.empty, jax.eval_shape(run))
                tallies |= jax.lax.cond(schedule.evaluates_at(cfg, end), run, skip)
            return state, metrics.summarise(tallies, state.diverged_at, step=end)

        state, rows = jax.lax.scan(row, state, jnp.arange(schedule.rows, dtype=jnp.int32))
        return TrainOutput(state, metrics.prepend(first, rows) if first else rows)

    return train
