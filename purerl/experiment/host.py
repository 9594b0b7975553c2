"""Training on environments that step in Python: the same `act` and `update`, jitted, and the steps between.

A `Host` stands in for what steps environments among `program.make_functions`, with the same keys and the
same order of work: a rollout, then what is learned from it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purerl import evaluate as evaluation
from purerl import metrics, rollout
from purerl.config import Config
from purerl.experiment.program import Best, Functions, Pieces, keep_best, over_seeds
from purerl.experiment.worlds import Worlds
from purerl.health import split_replay
from purerl.metrics import Tallies
from purerl.rollout import Episodes, env_action
from purerl.train import Driver, settle, streams
from purerl.types import Array, HostEnv, Key, PyTree, TrainState, Transition

HOST_PIECE_STEPS = 1_000
"""`PIECE_STEPS` of environments that are slow."""
Seen = tuple[Transition, Episodes]
"""A rollout `[T, N]`."""


class Parts(NamedTuple):
    """What is computed between the steps, as jitted functions of all seeds."""

    plan_warmup: Callable[..., Any]
    """`(root key, step) -> keys [T]` of an iteration of the warm-up."""
    plan: Callable[..., Any]
    """`(root key, step) -> (keys [T] to act with, key of the update)` of any other."""
    uniform: Callable[..., Any]
    """`(learned, carry, obs, keys, t, hyper) -> (action, the environment's action, carry, extras)`."""
    act: Callable[..., Any]
    """As `uniform`, with what is learned."""
    observe: Callable[..., Any]
    """`(state, tallies, seen, hyper) -> (state, tallies)`; what goes in is donated."""
    learn: Callable[..., Any]
    """`(state, tallies, seen, key, step, hyper) -> (state, tallies)`; likewise."""
    plan_evaluation: Callable[..., Any]
    """`(root key, step) -> (keys of the resets, and to act with)`."""
    judging_act: Callable[..., Any]
    """`(learned, carry, obs, key, t, hyper) -> (the environment's action, carry)`, without exploration."""
    judged: Callable[..., Any]
    """`(diverged_at, returns [E], lengths [E]) -> tallies`."""


def make_parts(driver: Driver, seeds: int) -> Parts:
    """The parts of a run of `driver`."""
    num_envs, num_steps = driver.algo.num_envs, driver.algo.num_steps
    iteration_steps, space = driver.schedule.iteration_steps, driver.env.action_space

    def of_all(function: Callable[..., Any], *in_axes: int | None, donate: tuple[int, ...] = ()):
        return jax.jit(over_seeds(function, in_axes, seeds), donate_argnums=donate)

    def acting_keys(key: Key) -> Key:
        """Those with which a rollout on the device acts."""
        return jax.vmap(lambda key: jax.random.split(key, 3)[0])(jax.random.split(key, num_steps))

    def plan_warmup(root: Key, step: Array) -> Key:
        return acting_keys(jax.random.fold_in(streams(root).warmup, step // iteration_steps))

    def plan(root: Key, step: Array) -> tuple[Key, Key]:
        key_rollout, key_update = jax.random.split(jax.random.fold_in(streams(root).train, step))
        return acting_keys(key_rollout), key_update

    def uniform(learned: PyTree, carry: PyTree, obs: Array, keys: Key, t: Array, hyper: Any):
        action = rollout.uniform_action(space, keys[t], num_envs)
        return action, env_action(space, action), carry, ()

    def act(learned: PyTree, carry: PyTree, obs: Array, keys: Key, t: Array, hyper: Any):
        action, carry, extras = driver.make_algorithm(hyper).act(learned, carry, obs, keys[t], explore=True)
        return action, env_action(space, action), carry, extras

    def observe(state: TrainState, tallies: Tallies, seen: Seen, hyper: Any):
        observed = driver.make_algorithm(hyper).observe(state.algo, seen[0])
        return state._replace(algo=observed), metrics.merge(tallies, metrics.episode_tallies(seen[1]))

    def learn(state: TrainState, tallies: Tallies, seen: Seen, key: Key, step: Array, hyper: Any):
        learned, report = driver.make_algorithm(hyper).update(state.algo, seen[0], key, step)
        report = {name: value[None] for name, value in report.items()}
        after = state._replace(algo=learned)
        state, more = settle(state, after, seen[1], report, step + iteration_steps)
        return state, metrics.merge(tallies, more)

    def plan_evaluation(root: Key, step: Array) -> tuple[Key, Key]:
        key_reset, key_loop = jax.random.split(jax.random.fold_in(streams(root).evaluate, step))
        return key_reset, key_loop

    def judging_act(learned: PyTree, carry: PyTree, obs: Array, key: Key, t: Array, hyper: Any):
        policy = evaluation.deterministic_policy(driver.make_algorithm(hyper), learned, driver.env)
        return policy.act(carry, obs, jax.random.fold_in(key, t))

    def judged(diverged_at: Array, returns: Array, lengths: Array) -> Tallies:
        return metrics.only_where(diverged_at < 0, metrics.evaluation_tallies(returns, lengths))

    acting = (0, 0, 0, 0, None, None)
    return Parts(
        of_all(plan_warmup, 0, None),
        of_all(plan, 0, None),
        of_all(uniform, *acting),
        of_all(act, *acting),
        of_all(observe, 0, 0, 0, None, donate=(0, 1)),
        of_all(learn, 0, 0, 0, 0, None, None, donate=(0, 1)),
        of_all(plan_evaluation, 0, None),
        of_all(judging_act, *acting),
        of_all(judged, 0, 0, 0),
    )


class Host:
    """A run's pieces, on environments that step in Python.

    Args:
        driver: of the `outline` of `env`.
        env: steps in Python.
        cfg: the run's configuration.
        pieces: iterations per call.
        seeds: S.
    """

    def __init__(self, driver: Driver, env: HostEnv, cfg: Config, pieces: Pieces, seeds: int):
        self._driver, self._pieces, self._limit = driver, pieces, env.max_episode_steps
        self._parts = make_parts(driver, seeds)
        self._worlds = Worlds(env, seeds, driver.algo.num_envs, judging=False)
        self._judges = Worlds(env, seeds, cfg.eval_episodes, judging=True)
        blank = lambda: driver.algo.init_carry(cfg.eval_episodes)
        self._blank = jax.tree.map(lambda leaf: np.zeros((seeds, *leaf.shape), leaf.dtype), blank())
        self._env_key = jax.jit(
            jax.vmap(lambda root, step: jax.random.fold_in(streams(root).env, step), (0, None))
        )
        self._keep_best = jax.jit(keep_best)

    def adapt(self, functions: Functions) -> Functions:
        """`functions` with those that step environments replaced by ours."""
        ours = ("warmup", "chunk", "evaluate", "enter", "close")
        return functions._replace(**{name: getattr(self, name) for name in ours})

    def enter(self, state: TrainState, step: Array) -> TrainState:
        """`state` with new episodes in every environment, also where a run goes on."""
        obs = jnp.asarray(self._worlds.reset(self._env_key(state.key, step)))
        env, carry = jax.tree.map(jnp.zeros_like, (state.env, state.carry))
        return state._replace(env=env._replace(obs=obs), carry=carry)

    def warmup(self, state: TrainState, tallies: Tallies, step: Array, hyper: Any):
        """Iterations with uniform actions, observed and not learned from: `(state, tallies)`."""
        for i in range(self._pieces.warmup):
            keys = self._parts.plan_warmup(state.key, step + i * self._driver.schedule.iteration_steps)
            state, seen = self._unroll(state, self._parts.uniform, keys, hyper)
            state, tallies = self._parts.observe(state, tallies, seen, hyper)
        return state, tallies

    def chunk(self, state: TrainState, tallies: Tallies, step: Array, hyper: Any):
        """Iterations of rollout and update: `(state, tallies)`."""
        for i in range(self._pieces.train):
            now = step + i * self._driver.schedule.iteration_steps
            keys, key_update = self._parts.plan(state.key, now)
            state, seen = self._unroll(state, self._parts.act, keys, hyper)
            state, tallies = self._parts.learn(state, tallies, seen, key_update, now, hyper)
        return state, tallies

    def _unroll(self, state: TrainState, choose: Callable[..., Any], keys: Key, hyper: Any):
        """One rollout: the state at its end, and what was seen, each leaf `[S, T, N, ...]`."""
        learned, carry = split_replay(state.algo)[0], state.carry
        obs, returns, lengths = (np.asarray(leaf) for leaf in state.env[1:])
        rows: list[Any] = []  # NumPy arrays in the places of JAX's
        for t in range(self._driver.algo.num_steps):
            action, command, carry, extras = choose(learned, carry, obs, keys, t, hyper)
            next_obs, reward, terminated, truncated, broken = self._worlds.step(obs, command)
            ended, returns, lengths = terminated | truncated, returns + reward, lengths + 1
            transition = obs, action, reward, next_obs, terminated, truncated, extras
            rows.append((transition, (ended, returns, lengths, broken)))
            obs = self._worlds.restart(ended)
            if ended.any():
                going = ~ended
                returns, lengths = returns * going, lengths * going
                carry = _kept(going, carry)
        transition, episodes = jax.tree.map(lambda *leaves: np.stack(leaves, axis=1), *rows)
        seen = Transition(*transition), Episodes(*episodes)
        env = rollout.VectorState((), *map(jnp.asarray, (obs, returns, lengths)))
        return state._replace(env=env, carry=carry), seen

    def evaluate(
        self, state: TrainState, tallies: Tallies, best: Best, step: Array, hyper: Any
    ) -> tuple[Tallies, Best]:
        """Whole episodes of the policy without exploration, side by side: `(tallies, best)`."""
        learned, carry = split_replay(state.algo)[0], self._blank
        key_reset, key_loop = self._parts.plan_evaluation(state.key, step)
        obs = self._judges.reset(key_reset)
        alive = np.ones(obs.shape[:2], bool)
        returns, lengths = np.zeros(alive.shape, np.float32), np.zeros(alive.shape, np.int32)
        for t in range(self._limit):
            command, carry = self._parts.judging_act(learned, carry, obs, key_loop, t, hyper)
            _, reward, terminated, truncated, _ = self._judges.step(obs, command)
            returns, lengths = returns + reward * alive, lengths + alive
            alive &= ~(terminated | truncated)
            if not alive.any():
                break
            obs = self._judges.restart(terminated | truncated)
        return self._keep_best(
            state, tallies, best, step, self._parts.judged(state.diverged_at, returns, lengths)
        )

    def close(self) -> None:
        """End the environments."""
        self._worlds.close()
        self._judges.close()


def _kept(going: np.ndarray, carry: PyTree) -> PyTree:
    """`carry [S, N, ...]` with zeros in the rows that do not go on."""
    rows = lambda leaf: going.reshape(going.shape + (1,) * (leaf.ndim - 2))
    return jax.tree.map(lambda leaf: np.where(rows(leaf), leaf, np.zeros_like(leaf)), carry)
