"""The original MinAtar (the `minatar` package) as the oracle of the games, with recorded random numbers.

The original plays; purerl's rules replay its random numbers, and every step must agree:

    def draws(calls):         # the `Call`s of one move, in their order -> Draws of NumPy numbers;
        ...                   # for a move without any: any Draws of the same shapes
    def fresh(original):      # the original's `Env` just after its reset -> State of NumPy numbers
        ...
    def player(original, rng):  # -> one of the six actions; `random_player` is one
        ...
    record = play_original("breakout", player, draws, fresh, watch=lambda original: original.pos)
    assert_replays(breakout.GAME, record)
    assert record.watched.max() == 9  # what `watch` returned after each move, for coverage

An episode that the original ends is followed by a new one. Whole numbers in Draws and State must have the
dtypes of purerl's: `np.int32(3)`, `np.zeros(8, np.int32)`.
"""

from collections.abc import Callable
from functools import cache
from importlib import util
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Call(NamedTuple):
    """One call of the original's `np.random.RandomState`."""

    name: str
    args: tuple
    value: Any


class Recorder:
    """A `np.random.RandomState` that records its calls and results."""

    def __init__(self, seed):
        self.random, self.calls = np.random.RandomState(seed), []

    def __getattr__(self, name):
        def call(*args, **kwargs):
            value = getattr(self.random, name)(*args, **kwargs)
            self.calls.append(Call(name, (*args, *kwargs.values()), np.copy(value)[()]))
            return value

        return call

    def take(self):
        """Return the calls since the last `take`."""
        calls, self.calls = self.calls, []
        return calls


class Record(NamedTuple):
    """T moves of the original; every leaf but those of `first` is `[T, ...]`."""

    first: Any
    """State of the first episode's start."""
    first_obs: Any
    action: Any
    draws: Any
    obs: Any
    """Observation after the move, `[T, 10, 10, C]` bool."""
    reward: Any
    ended: Any
    fresh: Any
    """State of the start of the next episode, where `ended`."""
    next_obs: Any
    """`obs`, or the first one of the next episode where `ended`."""
    watched: Any


@cache
def rules(name: str):
    """Return the original's module of one game without its package, which imports seaborn (seconds)."""
    package = Path(util.find_spec("minatar").origin).parent
    spec = util.spec_from_file_location(f"original_{name}", package / "environments" / f"{name}.py")
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_original(name: str, seed: int = 0, ramping: bool = True):
    """Return the original's rules in their first episode, with a `Recorder`."""
    original = rules(name).Env(ramping=ramping)
    original.random = Recorder(seed)
    original.reset()
    return original


def random_player(original, rng) -> int:
    """Return any of the six actions."""
    return rng.integers(6)


def play_original(
    name: str,
    player: Callable[..., int],
    draws: Callable[[list[Call]], Any],
    fresh: Callable[[Any], Any],
    watch: Callable[[Any], Any] = lambda original: (),
    *,
    steps: int = 10_000,
    seed: int = 0,
    ramping: bool = True,
) -> Record:
    """Return `steps` moves of `player` in the original, episode after episode."""
    rng, original = np.random.default_rng(seed), make_original(name, seed, ramping)
    first, first_obs, rows = fresh(original), original.state(), []
    start = first
    for _ in range(steps):
        action = int(player(original, rng))
        original.random.take()
        reward, ended = original.act(action)
        move = action, draws(original.random.take()), original.state(), float(reward), bool(ended)
        watched = watch(original)
        if ended:
            original.reset()
            start = fresh(original)
        rows.append((*move, start, original.state(), watched))
    return Record(first, first_obs, *jax.tree.map(lambda *leaves: np.stack(leaves), *rows))


def replay(game, record: Record, ramping: bool = True):
    """Return `(first_obs, obs, reward, terminated, time, next_obs)` of purerl's rules on the same moves."""

    def move(state, row):
        state, reward, terminated = game.play(state, row.action, row.draws, ramping)
        obs, time = game.observe(state), state.time
        state = jax.tree.map(lambda new, old: jnp.where(row.ended, new, old), row.fresh, state)
        return state, (obs, jnp.asarray(reward, jnp.float32), terminated, time, game.observe(state))

    def run(record):
        moves = record._replace(first=(), first_obs=(), obs=(), reward=(), next_obs=(), watched=())
        return game.observe(record.first), *jax.lax.scan(move, record.first, moves)[1]

    record = record._replace(action=record.action.astype(np.int32))
    return jax.device_get(jax.jit(run)(record))


def assert_replays(game, record: Record, ramping: bool = True) -> None:
    """Check every observation, reward and end against the original's.

    Where the original ends an episode by a timer, purerl's is `terminated` or at its time limit.
    """
    first_obs, obs, reward, terminated, time, next_obs = replay(game, record, ramping)
    np.testing.assert_array_equal(first_obs, record.first_obs)
    ended = terminated | (time >= game.max_episode_steps)
    for name, ours, theirs in (
        ("observation", obs, record.obs),
        ("reward", reward, record.reward),
        ("end", ended, record.ended),
        ("observation of the next move", next_obs, record.next_obs),
    ):
        assert ours.shape == theirs.shape
        wrong = np.flatnonzero((ours != theirs).reshape(len(ours), -1).any(-1))
        if len(wrong):
            t = wrong[0]
            where = f"action {record.action[t]} in move {time[t]} of an episode, step {t} of all"
            np.testing.assert_array_equal(ours[t], theirs[t], f"{name} differs {len(wrong)} times: {where}")
