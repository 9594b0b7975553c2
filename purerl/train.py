"""The training loop, once: roll out, update, and now and then evaluate, as pure functions.

`make_driver` gives the pieces, each for one seed. `make_train` scans them into a single program;
`purerl.run` calls the same pieces from the host, so that there is time for logs between them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purerl import evaluate as evaluation
from purerl import registry, rollout
from purerl.config import Config, ConfigError, check, from_dict, replace
from purerl.ops import statistics
from purerl.types import Algorithm, Array, Env, EnvSpec, Key, Metrics, TrainOutput, TrainState

logger = logging.getLogger("purerl")
Hyper = Mapping[str, Any]
"""Values for real-valued fields of the config, by name; they may be traced."""
Tallies = dict[str, statistics.Tally]


def make_config(algo: str, **fields: Any) -> Config:
    """A checked configuration of algorithm `algo`.

    Args:
        algo: registry id, such as "sac".
        **fields: any field of that algorithm's config, such as `env="ant"`.

    Raises:
        ConfigError: for an unknown algorithm or field, or a value that is not allowed.
    """
    return from_dict(registry.config_class(algo), fields)


def make_env(env: str, engine: str = "auto", **env_kwargs: Any) -> Env:
    """The environment with id `env`.

    Args:
        env: registry id, such as "ant".
        engine: physics engine of a MuJoCo task: auto, mujoco or mjx.
        **env_kwargs: the task's own options, such as reward weights.

    Raises:
        ConfigError: for an unknown id, engine or option.
    """
    return registry.env_factory(env)(engine=engine, **env_kwargs)


def spec_of(env: Env) -> EnvSpec:
    """What an algorithm may know of `env`."""
    return EnvSpec(env.name, env.observation_space, env.action_space)


def make_algorithm(
    cfg: Config, env: Env | None = None, networks: Mapping[str, Any] | None = None
) -> Algorithm:
    """The algorithm that `cfg` configures, for a training loop of your own.

    Args:
        cfg: from `make_config`.
        env: the task; made from `cfg` if None.
        networks: `(init, apply)` pairs by name, in place of the algorithm's own.

    Raises:
        ConfigError: if `cfg` is wrong in itself or does not fit `env`.
    """
    spec = spec_of(_env_of(cfg) if env is None else env)
    _validate(cfg, spec)
    return registry.algorithm_module(cfg).make(cfg, spec, networks)


def _env_of(cfg: Config) -> Env:
    for name in ("env", "engine"):
        if name in cfg.env_kwargs:
            raise ConfigError("env_kwargs", dict(cfg.env_kwargs), f"{name} is a field of its own")
    return make_env(cfg.env, cfg.engine, **cfg.env_kwargs)


def _validate(cfg: Config, spec: EnvSpec) -> None:
    check(cfg)
    registry.algorithm_module(cfg).validate(cfg, spec)


class Schedule(NamedTuple):
    """How one seed's steps divide: warm-up, then `rows` rows of `iterations` updates each."""

    warmup_steps: int
    iteration_steps: int
    """Environment steps of one rollout and update."""
    iterations: int
    """Rollouts and updates per row of metrics."""
    rows: int

    @property
    def row_steps(self) -> int:
        """Environment steps per row of metrics."""
        return self.iterations * self.iteration_steps

    @property
    def total_steps(self) -> int:
        """Environment steps in all."""
        return self.warmup_steps + self.rows * self.row_steps

    def evaluates_at(self, cfg: Config, step: Any) -> Any:
        """Whether the row that ends at `step` passed a multiple of `eval_interval`, or is the last."""
        if cfg.eval_interval == 0:
            return False
        passed = step // cfg.eval_interval > (step - self.row_steps) // cfg.eval_interval
        return passed | (step >= self.total_steps)


def make_schedule(cfg: Config, algo: Algorithm) -> Schedule:
    """The schedule of a run; totals are rounded up to whole rows."""
    iteration_steps = algo.num_envs * algo.num_steps
    wanted = max(cfg.total_timesteps - algo.warmup_steps, 1)
    iterations = -(-min(cfg.log_interval, wanted) // iteration_steps)
    rows = -(-wanted // (iterations * iteration_steps))
    return Schedule(algo.warmup_steps, iteration_steps, iterations, rows)


class Driver(NamedTuple):
    """The pieces of a training run of one seed, pure and ready for `jit` and `vmap`.

    `step` is the number of environment steps so far: an unbatched int32 (`in_axes=None`).
    `hyper` holds values for real-valued fields of the config.
    """

    schedule: Schedule
    env: Env
    init: Callable[[Key, Hyper], TrainState]
    warmup: Callable[[TrainState, Hyper], tuple[TrainState, Tallies]]
    """The first `schedule.warmup_steps`: uniform actions, observed but not learned from."""
    chunk: Callable[[TrainState, Array, Hyper, int], tuple[TrainState, Tallies]]
    """A static number of iterations from `step` on."""
    evaluate: Callable[[TrainState, Array, Hyper], Tallies]
    """The deterministic policy on whole episodes; depends on nothing but its arguments."""


class Streams(NamedTuple):
    """Independent keys for each purpose, all from the seed's root key."""

    init: Key
    env: Key
    warmup: Key
    train: Key
    evaluate: Key


def streams(root: Key) -> Streams:
    """The keys of the seed with this root."""
    return Streams(*(jax.random.fold_in(root, i) for i in range(len(Streams._fields))))


def make_driver(cfg: Config, env: Env | None = None, networks: Mapping[str, Any] | None = None) -> Driver:
    """The pieces of a training run. Raises ConfigError before anything is traced."""
    env = _env_of(cfg) if env is None else env
    spec = spec_of(env)
    _validate(cfg, spec)
    make = registry.algorithm_module(cfg).make

    def algorithm(hyper: Hyper) -> Algorithm:
        return make(replace(cfg, hyper), spec, networks)

    facts = algorithm({})
    schedule = make_schedule(cfg, facts)
    num_envs, num_steps = facts.num_envs, facts.num_steps

    def init(key: Key, hyper: Hyper) -> TrainState:
        keys, algo = streams(key), algorithm(hyper)
        return TrainState(
            algo.init(keys.init), rollout.start(env, keys.env, num_envs), algo.init_carry(num_envs), key
        )

    def warmup(state: TrainState, hyper: Hyper) -> tuple[TrainState, Tallies]:
        algo, root = algorithm(hyper), streams(state.key).warmup

        def uniform(carry, obs, key):
            return rollout.uniform_action(env.action_space, key, num_envs), carry, ()

        def iteration(state: TrainState, i: Array):
            sim, carry, transitions, episodes = rollout.unroll(
                env, uniform, state.env, state.carry, jax.random.fold_in(root, i), num_steps
            )
            return TrainState(algo.observe(state.algo, transitions), sim, carry, state.key), episodes

        iterations = schedule.warmup_steps // schedule.iteration_steps
        state, episodes = jax.lax.scan(iteration, state, jnp.arange(iterations))
        return state, _episode_tallies(episodes)

    def chunk(state: TrainState, step: Array, hyper: Hyper, iterations: int) -> tuple[TrainState, Tallies]:
        algo, root = algorithm(hyper), streams(state.key).train

        def iteration(state: TrainState, i: Array):
            now = step + i * schedule.iteration_steps
            key_rollout, key_update = jax.random.split(jax.random.fold_in(root, now))
            policy = partial(algo.act, state.algo, explore=True)
            sim, carry, transitions, episodes = rollout.unroll(
                env, policy, state.env, state.carry, key_rollout, num_steps
            )
            learned, metrics = algo.update(state.algo, transitions, key_update, now)
            return TrainState(learned, sim, carry, state.key), (episodes, metrics)

        state, (episodes, metrics) = jax.lax.scan(iteration, state, jnp.arange(iterations))
        updates = {name: statistics.tally(value, jnp.isfinite(value)) for name, value in metrics.items()}
        return state, _episode_tallies(episodes) | updates

    def evaluate(state: TrainState, step: Array, hyper: Hyper) -> Tallies:
        policy = evaluation.deterministic_policy(algorithm(hyper), state.algo, env)
        key = jax.random.fold_in(streams(state.key).evaluate, step)
        returns, lengths = evaluation.evaluate(env, policy, key, cfg.eval_episodes)
        every = jnp.ones_like(returns, bool)
        return {
            "eval/return": statistics.tally(returns, every),
            "eval/length": statistics.tally(lengths.astype(jnp.float32), every),
        }

    return Driver(schedule, env, init, warmup, chunk, evaluate)


def _episode_tallies(episodes: rollout.Episodes) -> Tallies:
    return {
        "episode/return": statistics.tally(episodes.returns, episodes.ended),
        "episode/length": statistics.tally(episodes.lengths.astype(jnp.float32), episodes.ended),
        "episode/diverged": statistics.tally(episodes.diverged, jnp.ones_like(episodes.ended)),
    }


def summarise(tallies: Tallies) -> Metrics:
    """One row of metrics: means under their own names, and the spread of returns beside them."""
    row = {name: jnp.where(tally.count > 0, tally.mean, jnp.nan) for name, tally in tallies.items()}
    for name in ("episode/return", "eval/return"):
        if name in tallies:
            tally, known = tallies[name], tallies[name].count > 0
            row[f"{name}_std"] = jnp.where(known, jnp.sqrt(tally.variance), jnp.nan)
            row[f"{name}_min"] = jnp.where(known, tally.low, jnp.nan)
            row[f"{name}_max"] = jnp.where(known, tally.high, jnp.nan)
    row["episode/count"] = tallies["episode/return"].count.astype(jnp.float32)
    diverged = tallies["episode/diverged"]
    row["episode/diverged"] = jnp.round(diverged.mean * diverged.count)
    return row


def make_train(
    cfg: Config, env: Env | None = None, networks: Mapping[str, Any] | None = None
) -> Callable[..., TrainOutput]:
    """A whole training run of one seed as one pure function.

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
        hyper = dict(hyper or {})
        state, first = driver.init(key, hyper), {}
        if schedule.warmup_steps:
            state, tallies = driver.warmup(state, hyper)
            first = {"step": jnp.int32(schedule.warmup_steps)} | summarise(tallies)

        def row(state: TrainState, i: Array):
            start = schedule.warmup_steps + i * schedule.row_steps
            end = start + schedule.row_steps
            state, tallies = driver.chunk(state, start, hyper, schedule.iterations)
            if cfg.eval_interval:
                # Closures, not operands: so the branch sees the policy and never the replay memory.
                run = partial(driver.evaluate, state, end, hyper)
                skip = partial(_empty_like, jax.eval_shape(run))
                tallies |= jax.lax.cond(schedule.evaluates_at(cfg, end), run, skip)
            return state, {"step": end} | summarise(tallies)

        state, rows = jax.lax.scan(row, state, jnp.arange(schedule.rows))
        if first:
            rows = {name: jnp.append(first.get(name, jnp.nan), values) for name, values in rows.items()}
        return TrainOutput(state, rows)

    return train


def _empty_like(tallies: Tallies) -> Tallies:
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), tallies)


def rounding_note(cfg: Config, schedule: Schedule) -> str:
    """What became of `total_timesteps`, in words."""
    return (
        f"total_timesteps {cfg.total_timesteps:,} becomes {schedule.total_steps:,}: "
        f"{schedule.warmup_steps:,} of warm-up and {schedule.rows:,} rows of {schedule.row_steps:,} steps"
    )


def make_policy(
    cfg: Config, state: TrainState, seed: int | None = None, env: Env | None = None, networks=None
):
    """The deterministic policy of a trained state, as `Policy(init, act)`.

    Args:
        cfg: the run's configuration.
        state: a `TrainState` of one seed, or of several stacked.
        seed: which of several; None for a state of one seed.
        env: the task; made from `cfg` if None.
        networks: those the run was trained with.

    Raises:
        ValueError: if `seed` is missing, superfluous or out of range.
    """
    if state.key.ndim:
        num_seeds = state.key.shape[0]
        if seed is None or not 0 <= seed < num_seeds:
            raise ValueError(f"seed = {seed} is not allowed: the state holds seeds 0 to {num_seeds - 1}")
        state = jax.tree.map(lambda leaf: leaf[seed], state)
    elif seed is not None:
        raise ValueError(f"seed = {seed} is not allowed: the state holds a single seed; leave it out")
    env = _env_of(cfg) if env is None else env
    return evaluation.deterministic_policy(make_algorithm(cfg, env, networks), state.algo, env)
