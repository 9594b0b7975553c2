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
from purerl import metrics, registry, rollout
from purerl.config import Config, ConfigError, replace
from purerl.make import env_of, spec_of, validate
from purerl.metrics import Tallies
from purerl.rollout import Episodes
from purerl.types import Algorithm, Array, Env, HostEnv, Key, Metrics, PyTree, TrainOutput, TrainState

logger = logging.getLogger("purerl")
Hyper = Mapping[str, Any]
"""Values for real-valued fields of the config, by name; they may be traced."""


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


def rounding_note(cfg: Config, schedule: Schedule) -> str:
    """What became of `total_timesteps`, in words."""
    return (
        f"total_timesteps {cfg.total_timesteps:,} becomes {schedule.total_steps:,}: "
        f"{schedule.warmup_steps:,} of warm-up and {schedule.rows:,} rows of {schedule.row_steps:,} steps"
    )


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


class Driver(NamedTuple):
    """The pieces of a training run of one seed, pure and ready for `jit` and `vmap`.

    `step` is the number of environment steps so far: an unbatched int32 (`in_axes=None`).
    `hyper` holds values for real-valued fields of the config. `warmup` and `chunk` take a static
    number of iterations and may be called in any division of the whole; the bits stay the same.
    """

    schedule: Schedule
    env: Env
    algo: Algorithm
    """With the real-valued fields of the config as they are."""
    algorithm: Callable[[Hyper], Algorithm]
    """With those of `hyper` in place."""
    init: Callable[[Key, Hyper], TrainState]
    warmup: Callable[[TrainState, Array, Hyper, int], tuple[TrainState, Tallies]]
    """Iterations of the first `schedule.warmup_steps`: uniform actions, observed, not learned from."""
    chunk: Callable[[TrainState, Array, Hyper, int], tuple[TrainState, Tallies]]
    """Iterations of rollout and update. If anything learned is no longer finite at its end, the seed
    has diverged: it falls back to what it knew at the chunk's start, and never learns again."""
    evaluate: Callable[[TrainState, Array, Hyper], Tallies]
    """The deterministic policy on whole episodes; depends on nothing but its arguments."""


def make_driver(
    cfg: Config, env: Env | HostEnv | None = None, networks: Mapping[str, Any] | None = None
) -> Driver:
    """The pieces of a training run. Raises ConfigError before anything is traced."""
    env = in_the_program(env_of(cfg) if env is None else env)
    spec = spec_of(env)
    validate(cfg, spec)
    make = registry.algorithm_module(cfg).make

    def algorithm(hyper: Hyper) -> Algorithm:
        return make(replace(cfg, hyper), spec, networks)

    facts = algorithm({})
    schedule = make_schedule(cfg, facts)
    num_envs, num_steps = facts.num_envs, facts.num_steps

    def init(key: Key, hyper: Hyper) -> TrainState:
        keys, algo = streams(key), algorithm(hyper)
        sim = rollout.start(env, keys.env, num_envs)
        return TrainState(algo.init(keys.init), sim, algo.init_carry(num_envs), key, jnp.int32(-1))

    def warmup(state: TrainState, step: Array, hyper: Hyper, iterations: int):
        algo, root = algorithm(hyper), streams(state.key).warmup
        first = step // schedule.iteration_steps

        def uniform(carry, obs, key):
            return rollout.uniform_action(env.action_space, key, num_envs), carry, ()

        def iteration(state: TrainState, i: Array):
            key = jax.random.fold_in(root, first + i)
            sim, carry, transitions, episodes = rollout.unroll(
                env, uniform, state.env, state.carry, key, num_steps
            )
            observed = algo.observe(state.algo, transitions)
            return state._replace(algo=observed, env=sim, carry=carry), episodes

        state, episodes = jax.lax.scan(iteration, state, jnp.arange(iterations))
        return state, metrics.episode_tallies(episodes)

    def chunk(state: TrainState, step: Array, hyper: Hyper, iterations: int):
        algo, root = algorithm(hyper), streams(state.key).train

        def iteration(state: TrainState, i: Array):
            now = step + i * schedule.iteration_steps
            key_rollout, key_update = jax.random.split(jax.random.fold_in(root, now))
            policy = partial(algo.act, state.algo, explore=True)
            sim, carry, transitions, episodes = rollout.unroll(
                env, policy, state.env, state.carry, key_rollout, num_steps
            )
            learned, report = algo.update(state.algo, transitions, key_update, now)
            return state._replace(algo=learned, env=sim, carry=carry), (episodes, report)

        after, (episodes, report) = jax.lax.scan(iteration, state, jnp.arange(iterations))
        return settle(state, after, episodes, report, step + iterations * schedule.iteration_steps)

    def evaluate(state: TrainState, step: Array, hyper: Hyper) -> Tallies:
        policy = evaluation.deterministic_policy(algorithm(hyper), state.algo, env)
        key = jax.random.fold_in(streams(state.key).evaluate, step)
        tallies = metrics.evaluation_tallies(*evaluation.evaluate(env, policy, key, cfg.eval_episodes))
        return metrics.only_where(state.diverged_at < 0, tallies)

    return Driver(schedule, env, facts, algorithm, init, warmup, chunk, evaluate)


def in_the_program(env: Env | HostEnv) -> Env:
    """`env`, unless it steps in Python. Raises ConfigError then: no compiled program can contain it."""
    if isinstance(env, HostEnv):
        raise ConfigError("env", env.name, "it steps in Python, which only purerl.run can train on")
    return env


def settle(
    before: TrainState, after: TrainState, episodes: Episodes, report: Metrics, step: Array
) -> tuple[TrainState, Tallies]:
    """What one seed makes of some updates, at `step`: its state, frozen where it diverged, and tallies.

    Args:
        before: the state at their start.
        after: the state at their end.
        episodes: `[..., T, N]` of their rollouts.
        report: metrics of the updates, `[iterations]` each.
        step: environment steps by now.
    """
    tallies = metrics.episode_tallies(episodes) | metrics.update_tallies(report)
    after = freeze_if_diverged(before, after, step)
    return after, metrics.only_where(before.diverged_at < 0, tallies)


def split_memory(algo: PyTree) -> tuple[PyTree, PyTree]:
    """An algorithm's State without its replay memory, and that memory; `()` if it has none."""
    if not hasattr(algo, "memory"):
        return algo, ()
    return algo._replace(memory=()), algo.memory


def freeze_if_diverged(before: TrainState, after: TrainState, step: Array) -> TrainState:
    """`after`, unless something in it that is learned is not finite: then `before` goes on.

    A diverged seed stays as it is for good, so that its neighbours in the same program go on. The
    memory is neither looked at nor selected from: it is large, and a select would copy it.
    """
    learned, memory = split_memory(after.algo)
    known, _ = split_memory(before.algo)
    was_healthy = before.diverged_at < 0
    healthy = was_healthy & all_finite(learned)
    kept = jax.tree.map(lambda new, old: jnp.where(healthy, new, old), learned, known)
    return after._replace(
        algo=kept if memory == () else kept._replace(memory=memory),
        diverged_at=jnp.where(healthy | ~was_healthy, before.diverged_at, step),
    )


def all_finite(tree: PyTree) -> Array:
    """Whether every number in the float leaves of `tree` is finite; scalar bool."""
    floats = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.all(jnp.array([jnp.isfinite(leaf).all() for leaf in floats]))


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
            iterations = schedule.warmup_steps // schedule.iteration_steps
            state, tallies = driver.warmup(state, jnp.int32(0), hyper, iterations)
            first = {"step": jnp.int32(schedule.warmup_steps)}
            first |= metrics.summarise(tallies, state.diverged_at)

        def row(state: TrainState, i: Array):
            start = schedule.warmup_steps + i * schedule.row_steps
            end = start + schedule.row_steps
            state, tallies = driver.chunk(state, start, hyper, schedule.iterations)
            if cfg.eval_interval:
                # Closures, not operands: so the branch sees the policy and never the replay memory.
                run = partial(driver.evaluate, state, end, hyper)
                skip = partial(metrics.empty, jax.eval_shape(run))
                tallies |= jax.lax.cond(schedule.evaluates_at(cfg, end), run, skip)
            return state, {"step": end} | metrics.summarise(tallies, state.diverged_at)

        state, rows = jax.lax.scan(row, state, jnp.arange(schedule.rows))
        if first:
            rows = {name: jnp.append(first.get(name, jnp.nan), values) for name, values in rows.items()}
        return TrainOutput(state, rows)

    return train
