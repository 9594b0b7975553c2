"""Training on environments that step in Python, between the driver's jitted `plan`, `act` and `learn`.

Keys and order of work are those of environments inside the program.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purerl import evaluate as evaluation
from purerl import metrics, rollout
from purerl.health import settle, split_replay
from purerl.make import spec_of
from purerl.members import Members
from purerl.metrics import Tallies
from purerl.programs import Best, HostLoop, Pieces, Programs, keep_best, over_members
from purerl.replay import ring
from purerl.rollout import Episodes, VectorState, env_action
from purerl.spaces import zeros
from purerl.train import Driver, Phase, evaluated, evaluation_key, streams
from purerl.types import Array, EnvFunctions, HostEnv, Key, PyTree, TrainState, Transition

PYTHON_PIECE_STEPS = 1_000
"""`PIECE_STEPS` of environments that are slow."""
MAX_SEED = 2**31 - 1
LONG_EVALUATION = 10_000
"""Steps of an evaluation after which a message says that episodes have not ended: seconds to minutes."""

logger = logging.getLogger("purerl")


def outline(env: HostEnv) -> EnvFunctions:
    """Return functions with the shapes of `env`, all of whose values are zeros: to plan a run."""
    space = env.observation_space
    obs = zeros(space)

    def reset(key: Key, params: PyTree = None, needed: Array | bool = True):
        return obs, ()

    def step(key: Key, state: PyTree, action: Array, params: PyTree = None):
        return obs, (), jnp.float32(0), jnp.bool_(False), jnp.bool_(False), {}

    return EnvFunctions(env.name, reset, step, space, spec_of(env).action_space, env.max_episode_steps)


class Vector:
    """Environments of all members, `[S, N]` of them, made when they are first needed."""

    def __init__(self, env: HostEnv, members: int, num_envs: int, evaluation: bool):
        self._make = lambda: env.make_vector(members * num_envs, evaluation)
        self._shape, self._vector = (members, num_envs), None
        self._draw = jax.jit(
            jax.vmap(lambda key: jax.random.randint(key, (num_envs,), 0, MAX_SEED, jnp.int32))
        )

    def reset(self, keys: Key) -> PyTree:
        """Begin new episodes everywhere, from a key of each member `[S]`: observations `[S, N, O]`."""
        self._vector = self._vector or self._make()
        return self._grouped(self._vector.reset(np.asarray(self._draw(keys)).ravel().tolist()))

    def step(self, obs: PyTree, action: Array) -> tuple[Any, ...]:
        """Step with `action [S, N, A]` at `obs [S, N, O]`, contained as in a rollout, without a reset."""
        assert self._vector
        flat = np.asarray(action).reshape(-1, *action.shape[2:])
        next_obs, reward, terminated, truncated = map(self._grouped, self._vector.step(flat))
        broken = np.zeros(self._shape, np.float32)
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((reward, next_obs))):
            contain = jax.vmap(rollout.contain)
            contained = contain(*jax.tree.map(jnp.asarray, (obs, next_obs, reward, terminated)))
            next_obs, reward, terminated, broken = jax.tree.map(np.array, contained)
        return next_obs, reward, terminated, truncated, broken

    def restart(self, ended: np.ndarray) -> PyTree:
        """Begin new episodes where `ended [S, N]`; return the observations of all, `[S, N, O]`."""
        assert self._vector
        return self._grouped(self._vector.restart(ended.ravel()))

    def close(self) -> None:
        """Close the environments, if they were made."""
        if self._vector:
            self._vector.close()

    def _grouped(self, rows: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: leaf.reshape(*self._shape, *leaf.shape[1:]), rows)


def replace_steps(
    programs: Programs, driver: Driver, env: HostEnv, members: Members, pieces: Pieces
) -> Programs:
    """Return `programs` of the `outline` of `env`, those that step it replaced by loops in Python."""
    trained = Vector(env, members.size, driver.algo.num_envs, evaluation=False)
    evaluating = Vector(env, members.size, driver.cfg.eval_episodes, evaluation=True)
    env_key = jax.jit(jax.vmap(lambda root, step: jax.random.fold_in(streams(root).env, step), (0, None)))
    # Not jitted: a program would copy the rows of all members, and only their flags change.
    end_episodes = jax.vmap(partial(ring.end_episodes, num_envs=driver.algo.num_envs))

    def enter(state: TrainState, step: Array) -> TrainState:
        """Begin new episodes in every environment, also where a run goes on."""
        vector, carry = jax.tree.map(jnp.zeros_like, (state.env, state.carry))
        obs = jax.tree.map(jnp.asarray, trained.reset(env_key(state.key, step)))
        learned, replay = split_replay(state.algo)
        if isinstance(replay, ring.State):
            state = state._replace(algo=learned._replace(replay=end_episodes(replay)))
        return state._replace(env=vector._replace(obs=obs), carry=carry)

    def close() -> None:
        trained.close()
        evaluating.close()

    return programs._replace(
        warmup=training_loop(driver, members, driver.warming, pieces.warmup, trained),
        chunk=training_loop(driver, members, driver.training, pieces.train, trained),
        evaluate=evaluation_loop(driver, members, evaluating, env.max_episode_steps),
        enter=enter,
        close=close,
    )


def mapped(members: Members, function: Callable[..., Any], *in_axes: Any, donate: tuple[int, ...] = ()):
    """Return a function of one member, jitted for all."""
    return jax.jit(over_members(function, in_axes, members.size), donate_argnums=donate)


def training_loop(driver: Driver, members: Members, phase: Phase, iterations: int, envs: Vector) -> HostLoop:
    """Return `(state, tallies, step, hyper) -> (state, tallies)`: iterations of a rollout, learned from."""
    algo, iteration_steps = driver.algo, driver.schedule.iteration_steps

    def plan_one(root: Key, step: Array) -> tuple[Key, Key]:
        key_rollout, key_update = phase.plan(root, step)
        return rollout.step_keys(key_rollout, algo.num_steps, algo.num_envs).act, key_update

    def act_one(learned, carry, obs, keys, t, step, hyper):
        action, carry, extras = phase.act(learned, carry, obs, keys[t], step, hyper)
        return action, env_action(driver.env.action_space, action), carry, extras

    def learn_one(state: TrainState, tallies: Tallies, seen: Any, key: Key, step: Array, hyper: Any):
        transition, episodes = seen
        after, report = phase.learn(state, transition, key, step, hyper)
        report = {name: value[None] for name, value in report.items()}
        state, more = settle(state, after, episodes, report, step + iteration_steps)
        return state, metrics.merge(tallies, more)

    def see_one(state: TrainState, step: Array, hyper: Any):  # for its shapes
        policy = lambda carry, obs, key: phase.act(state.algo, carry, obs, key, step, hyper)
        return rollout.unroll(driver.env, policy, state.env, state.carry, state.key, algo.num_steps)[2:]

    axes = members.axes(driver.cfg)
    plan = mapped(members, plan_one, 0, None)
    act = mapped(members, act_one, 0, 0, 0, 0, None, None, axes)
    learn = mapped(members, learn_one, 0, 0, 0, 0, None, axes, donate=(0, 1))
    see = mapped(members, see_one, 0, None, axes)

    def shapes_of(state: TrainState, tallies: Tallies, step: Any, hyper: Any):
        keys, key_update = jax.eval_shape(plan, state.key, step)
        learned, seen = split_replay(state.algo)[0], jax.eval_shape(see, state, step, hyper)
        acting = learned, state.carry, state.env.obs, keys, step, step, hyper
        return (state.key, step), acting, (state, tallies, seen, key_update, step, hyper)

    def run(functions, state: TrainState, tallies: Tallies, step: Array, hyper: Any):
        plan, act, learn = functions
        for i in range(iterations):
            now = step + i * iteration_steps
            keys, key_update = plan(state.key, now)
            state, seen = unroll(envs, act, state, algo.num_steps, keys, now, hyper)
            state, tallies = learn(state, tallies, seen, key_update, now, hyper)
        return state, tallies

    return HostLoop(run, (plan, act, learn), shapes_of)


def unroll(
    envs: Vector,
    act: Callable[..., Any],
    state: TrainState,
    num_steps: int,
    keys: Key,
    step: Array,
    hyper: Any,
):
    """Step all environments T times with `keys [S, T]`.

    Returns `(state, (Transition, Episodes))`, the leaves of the last two `[S, T, N, ...]`.
    """
    on_host: Any = VectorState  # NumPy arrays in the places of JAX's
    vector = on_host((), *jax.tree.map(np.asarray, state.env[1:]))
    learned, carry = split_replay(state.algo)[0], state.carry
    rows: list[Any] = []
    for t in range(num_steps):
        action, command, carry, extras = act(learned, carry, vector.obs, keys, np.int32(t), step, hyper)
        next_obs, reward, terminated, truncated, broken = envs.step(vector.obs, command)
        ended = terminated | truncated
        episodes, returns, lengths = rollout.count_step(vector, reward, ended, broken, np.where)
        transition = vector.obs, action, reward, next_obs, terminated, truncated, extras
        rows.append((transition, tuple(episodes)))
        vector = on_host((), envs.restart(ended), returns, lengths)
        carry = _cleared(ended, carry) if ended.any() else carry
    transition, episodes = jax.tree.map(lambda *leaves: np.stack(leaves, axis=1), *rows)
    state = state._replace(env=jax.tree.map(jnp.asarray, vector), carry=carry)
    return state, (Transition(*transition), Episodes(*episodes))


def evaluation_loop(driver: Driver, members: Members, envs: Vector, limit: int) -> HostLoop:
    """Return `(state, tallies, best, step, hyper) -> (tallies, best)`: whole episodes of every policy."""
    cfg, policies = driver.cfg, evaluated(driver.cfg)
    plays = [
        episodes_loop(driver, members, envs, limit, cfg.eval_episodes, explore)
        for explore in policies.values()
    ]

    def tally(name: str, diverged_at: Array, progress: evaluation.Progress) -> Tallies:
        played = metrics.evaluation_tallies(name, progress.returns, progress.lengths)
        return metrics.only_where(diverged_at < 0, played)

    @jax.jit
    def keep(state: TrainState, tallies: Tallies, best: Best, step: Array, played: list):
        more = {}
        for name, progress in zip(policies, played, strict=True):
            more |= jax.vmap(partial(tally, name))(state.diverged_at, progress)
        return keep_best(state, tallies, best, step, more)

    def shapes_of(state: TrainState, tallies: Tallies, best: Best, step: Any, hyper: Any):
        playing = split_replay(state.algo)[0], state.key, step, hyper
        progress = evaluation.begin(members.size, cfg.eval_episodes)
        return *[playing] * len(plays), (state, tallies, best, step, [progress] * len(plays))

    def run(functions, state: TrainState, tallies: Tallies, best: Best, step: Array, hyper: Any):
        *plays, keep = functions
        learned = split_replay(state.algo)[0]
        return keep(state, tallies, best, step, [play(learned, state.key, step, hyper) for play in plays])

    return HostLoop(run, (*plays, keep), shapes_of)


def episodes_loop(
    driver: Driver, members: Members, envs: Vector, limit: int, episodes: int, explore: bool
) -> HostLoop:
    """Return `(learned, roots [S], step, hyper) -> Progress [S, E]`: whole episodes of every policy.

    An episode that has not ended after `limit` steps counts as it is, and a message says early that it may.
    """
    axes = members.axes(driver.cfg)

    def reset_key(root: Key, step: Array) -> Key:
        return evaluation.keys_of(evaluation_key(root, step, explore))[0]

    def act_one(learned, carry, obs, root, t, step, hyper):
        policy = evaluation.policy_of(driver.make_algorithm(hyper), learned, driver.env, step, explore)
        _, key_steps = evaluation.keys_of(evaluation_key(root, step, explore))
        return policy.act(carry, obs, evaluation.keys_at(key_steps, t)[0])

    rows = lambda leaf: np.zeros((members.size, episodes, *leaf.shape), leaf.dtype)
    no_obs = jax.tree.map(rows, zeros(driver.env.observation_space))
    no_carry = jax.tree.map(
        lambda leaf: np.zeros((members.size, *leaf.shape), leaf.dtype), driver.algo.init_carry(episodes)
    )

    def shapes_of(learned: PyTree, roots: Key, step: Any, hyper: Any):
        return (roots, step), (learned, no_carry, no_obs, roots, step, step, hyper)

    def play(functions, learned: PyTree, roots: Key, step: Array, hyper: Any) -> evaluation.Progress:
        reset_keys, act = functions
        obs, carry = envs.reset(reset_keys(roots, step)), no_carry
        progress = evaluation.begin(members.size, episodes)
        for t in range(limit):
            command, carry = act(learned, carry, obs, roots, np.int32(t), step, hyper)
            _, reward, terminated, truncated, _ = envs.step(obs, command)
            progress = evaluation.count_step(progress, reward, terminated | truncated, np.where)
            if not progress.alive.any():
                break
            if t + 1 == LONG_EVALUATION < limit:
                logger.warning(
                    f"{driver.env.name}: {progress.alive.sum()} of {progress.alive.size} episodes of an "
                    f"evaluation go on after {t + 1:,} steps; it ends at step {limit:,}. "
                    "Tasks without an end need a time limit: max_episode_steps, or a TimeLimit."
                )
            obs = envs.restart(terminated | truncated)
        return progress

    functions = mapped(members, reset_key, 0, None), mapped(members, act_one, 0, 0, 0, 0, None, None, axes)
    return HostLoop(play, functions, shapes_of)


def _cleared(ended: np.ndarray, carry: PyTree) -> PyTree:
    """Return `carry [S, N, ...]` with zeros in the rows that ended."""
    rows = lambda leaf: ended.reshape(ended.shape + (1,) * (leaf.ndim - 2))
    return jax.tree.map(lambda leaf: np.where(rows(leaf), np.zeros_like(leaf), leaf), carry)
