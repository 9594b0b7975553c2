"""Results of `reset` and `step`: alone, side by side, and over whole episodes of random actions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from purerl.envs.check.interface import PURITY, Check, Task, attempt, fault
from purerl.envs.check.types import IMPL, Result, named, random_actions
from purerl.ops.statistics import LARGEST
from purerl.types import Array, PyTree

STEPS, ROWS = 10_000, 16
"""Most steps of random play in all, and resets that are compared."""
RESTARTS = 8
"""Ended episodes, and different starts, that prove that a step resets itself."""
DERIVED = {
    "key": lambda key: key,
    "jax.random.split(key)[0]": lambda key: jax.random.split(key)[0],
    "jax.random.split(key)[1]": lambda key: jax.random.split(key)[1],
}
"""Keys that a step which resets itself is likely to give to `reset`."""
Numbers = dict[str, np.ndarray]


class Step(NamedTuple):
    """Facts of one step of random play."""

    terminated: Array
    truncated: Array
    reward: Array
    in_space: dict[str, tuple]
    """See `_in_space`."""


def check_behaviour(task: Task, deterministic_reset: bool) -> Check:
    """Check a first step of many rows, and then whole episodes."""
    horizon = task.max_episode_steps or 100
    num_rows = max(2, min(ROWS, STEPS // horizon))
    num_steps = min(horizon, STEPS // num_rows)
    key_reset, key_step, key_action = jax.random.split(jax.random.key(0, impl=IMPL), 3)
    at = np.arange(num_rows * num_steps).reshape(num_rows, num_steps)
    keys, actions = jax.random.split(key_step, STEPS)[at], random_actions(task, key_action, STEPS)[at]
    args = jax.random.split(key_reset, ROWS), keys[_rows(keys), 0], actions[_rows(keys), 0]
    batch = partial(jax.jit(jax.vmap(_first_step(task, task.params))), needed=np.ones(ROWS, bool))
    rows = yield from attempt("vmap(reset) or vmap(step)", lambda: jax.block_until_ready(batch(*args)))
    if rows is None:
        return
    started, moved = rows
    yield from _check_same_results(task, args, _numbers(started, moved))
    yield from _check_in_space(task, "reset", jax.jit(jax.vmap(partial(_in_space, task)))(started.obs))
    if not deterministic_reset and len(_distinct(_numbers(started).values())) == 1:
        hint = "Draw from the key, or allow it by check_env(..., deterministic_reset=True)."
        yield fault("reset", "different starts", f"the same obs and state for {ROWS} different keys", hint)
    play = jax.jit(jax.vmap(_episode(task)))
    begun = jax.tree.map(lambda leaf: leaf[:num_rows], started)
    episodes = yield from attempt("vmap(step)", lambda: jax.block_until_ready(play(begun, keys, actions)))
    if episodes is not None:
        last, steps = episodes[0], jax.tree.map(np.asarray, episodes[1])
        yield from _check_episodes(task, steps)
        yield from _check_no_restart(lambda keys: batch(keys, *args[1:])[0], keys, steps, moved, last)


def _rows(keys: Array) -> np.ndarray:
    """Return the rows of `keys [R, T]`, repeated to ROWS in all."""
    return np.resize(np.arange(len(keys)), ROWS)


def _first_step(task: Task, params: PyTree) -> Callable:
    """Return `(key, key_step, action, needed) -> (Result of reset, Result of step)`."""

    def play(key, key_step, action, needed):
        started = Result(*task.reset(key, params, needed))
        return started, Result(*task.step(key_step, started.state, action, params)[:5])

    return play


def _episode(task: Task) -> Callable:
    """Return `(started, keys [T], actions [T, A]) -> (Result at the first end, Step [T, ...])`."""

    def play(started, keys, actions):
        def step(loop, draws):
            state, ended, last = loop
            obs, state, reward, terminated, truncated, _ = task.step(draws[0], state, draws[1], task.params)
            last = jax.tree.map(partial(jnp.where, ended), last, Result(obs, state))
            facts = Step(terminated, truncated, reward, _in_space(task, obs))
            return (state, ended | terminated | truncated, last), facts

        (_, _, last), steps = jax.lax.scan(step, (started.state, jnp.bool(False), started), (keys, actions))
        return last, steps

    return play


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _numbers(started: Result, moved: Result | None = None) -> Numbers:
    """Return the leaves of a reset's result, and a step's, by name; keys as their data."""
    leaves = named("reset", started) | (named("step", moved) if moved else {})
    data = {name: jax.random.key_data(leaf) if _is_key(leaf) else leaf for name, leaf in leaves.items()}
    return {name: np.asarray(leaf) for name, leaf in data.items()}


def _distinct(leaves: Any) -> set:
    """Return the different rows of `leaves [R, ...]`."""
    leaves = list(leaves)
    return {tuple(leaf[i].tobytes() for leaf in leaves) for i in range(len(leaves[0]))} if leaves else {()}


def _check_same_results(task: Task, args: tuple, rows: Numbers) -> Check:
    """Compare a reset and a step in two calls, in two traces, for both forms of `params`, and in a batch."""
    firsts = [[arg[i] for arg in args] for i in (0, 1)]

    def compiled(params: PyTree) -> Callable:
        function = jax.jit(_first_step(task, params))
        return lambda: [_numbers(*function(*first, True)) for first in firsts]

    run = compiled(task.given)
    alone = yield from attempt("reset or step", run)
    again = alone and (yield from attempt("reset or step, called again,", run))
    if not again:
        return
    pairs = list(zip(alone, again, strict=True))
    changing = [name for name in rows if any(a[name].tobytes() != b[name].tobytes() for a, b in pairs)]
    if changing:
        yield _differing("the same from two calls with the same arguments", changing, alone, again, PURITY)
    batch = [{name: value[i] for name, value in rows.items()} for i in (0, 1)]
    names = [name for name in rows if name not in changing and not _close(name, alone, batch)]
    if not names:
        return  # in traces and for parameters too, since `alone` and `batch` are two of each
    traced = yield from attempt("reset or step, traced again,", compiled(task.given))
    default = traced and (yield from attempt("reset or step", compiled(task.params)))
    if not default:
        return
    for expected, one, two, hint in (
        ("the same from two traces with the same arguments", alone, traced, PURITY),
        ("the same with params=None as with default_params", traced, default, ""),
        ("the same under vmap as alone, with `needed` True in an array", default, batch, ""),
    ):
        if found := [name for name in names if not _close(name, one, two)]:
            yield _differing(expected, found, one, two, hint)
            names = [name for name in names if name not in found]


def _close(name: str, ones: list[Numbers], twos: list[Numbers]) -> bool:
    return all(_near(one[name], two[name], 1e-3) for one, two in zip(ones, twos, strict=True))


def _near(one: np.ndarray, two: np.ndarray, tolerance: float) -> bool:
    """Return True if equal up to rounding, or unsigned integers, which may be the bits of floats."""
    if not jnp.issubdtype(two.dtype, jnp.floating):
        return two.dtype in (np.uint32, np.uint64) or np.array_equal(one, two)
    one, two = one.astype(np.float64), two.astype(np.float64)
    size = np.abs(two, where=np.isfinite(two), out=np.zeros_like(two)).max(initial=0.0)
    return np.allclose(one, two, rtol=0.0, atol=tolerance * size + 1e-6, equal_nan=True)


def _differing(expected: str, names: list[str], ones: list[Numbers], twos: list[Numbers], hint: str) -> str:
    pairs = [(one[name], two[name]) for name in names for one, two in zip(ones, twos, strict=True)]
    gap = max(np.abs(one.astype(float) - two.astype(float)).max() for one, two in pairs)
    return fault(", ".join(names), expected, f"differences of up to {gap:.3g}", hint)


def _in_space(task: Task, obs: PyTree) -> dict[str, tuple[Array, ...]]:
    """Return what `_in_box` says of the array of an observation, or of each of a dict, by name."""
    parts = obs if isinstance(obs, dict) else {"": obs}
    return {name: _in_box(_box(task, name), part) for name, part in parts.items()}


def _box(task: Task, name: str) -> Any:
    """Return the Box of a part of observations, or of all if the name is empty; None if it is unknown."""
    space = task.observation_space
    return space[name] if isinstance(space, spaces.Dict) else space


def _in_box(space: Any, obs: Array) -> tuple[Array, Array, Array, Array]:
    """Return if `obs` is finite, and its element farthest out of bounds: excess, index, value."""
    obs = obs.astype(jnp.float32)
    least = -LARGEST  # finite, for `jax_debug_infs`
    finite, excess = jnp.isfinite(obs), jnp.full(obs.shape, least, jnp.float32)
    if space is not None:
        with np.errstate(over="ignore"):  # bounds beyond float32 become infinite
            low, high = space.low.astype(np.float32), space.high.astype(np.float32)
        excess = jnp.where(finite, jnp.maximum(jnp.maximum(low - obs, obs - high), least), excess)
    excess = jnp.append(excess, jnp.float32(least))  # one more, in case there are no elements
    index = jnp.argmax(excess)
    return finite.all(), excess[index], index, jnp.append(obs, 0.0)[index]


def _check_in_space(task: Task, function: str, parts: dict[str, tuple]) -> Iterator[str]:
    """Check observations, given as `_in_space` returns them."""
    for name, facts in parts.items():
        part = f"[{name!r}]" * bool(name)
        finite, excess, index, value = map(np.asarray, facts)
        if not finite.all():
            yield fault(f"{function}'s obs{part}", "finite numbers", "NaN or infinity")
        worst = excess.argmax()
        if excess[worst] > 1e-5 * (1 + abs(value[worst])):
            space = _box(task, name)
            place = np.unravel_index(index[worst], space.shape)
            inside = f"a number in [{space.low[place]:g}, {space.high[place]:g}] as in observation_space"
            yield fault(f"{function}'s obs{part}{list(map(int, place))}", inside, f"{value[worst]:g}")


def _check_episodes(task: Task, steps: Step) -> Iterator[str]:
    """Check the numbers up to the first end of each row `[R, T]`, and where that end is."""
    ended, horizon = steps.terminated | steps.truncated, task.max_episode_steps
    alive = np.cumsum(ended, 1) - ended == 0
    if not np.isfinite(reward := steps.reward[alive]).all():
        yield fault("step's reward", "a finite number", f"{reward[~np.isfinite(reward)][0]}")
    yield from _check_in_space(task, "step", jax.tree.map(lambda fact: fact[alive], steps.in_space))
    if horizon is None:
        return
    early = (steps.truncated & alive)[:, : horizon - 1].any(0)
    if early.any():
        expected = f"False before step {horizon} = max_episode_steps of an episode"
        yield fault("step's truncated", expected, f"True at step {early.argmax() + 1}")
    if (alive & ~ended)[:, horizon - 1 :].any():
        expected = f"True at step {horizon} = max_episode_steps of an episode"
        yield fault("step's truncated", expected, "False", "The step just made counts.")


def _check_no_restart(
    reset: Callable, keys: Array, steps: Step, moved: Result, last: Result
) -> Iterator[str]:
    """Check that no step at an end returns the start that `reset` draws from the step's own key.

    A step that resets itself does so at every end, with many different starts, and not in first steps; a
    correct environment does not meet all three.
    """
    ended = steps.terminated | steps.truncated
    rows = np.flatnonzero(ended.any(1) & ~ended[:, 0])
    if len(rows) < RESTARTS:
        return
    ends = np.resize(ended.argmax(1), ROWS)
    same = lambda ones, twos: all(_near(one, two, 1e-5) for one, two in zip(ones, twos, strict=True))
    for name, derive in DERIVED.items():
        early = _exact(reset(jax.vmap(derive)(keys[_rows(keys), 0])), rows)
        late = _exact(reset(jax.vmap(derive)(keys[_rows(keys), ends])), rows)
        restarted = same(late, _exact(last, rows)) and not same(early, _exact(moved, rows))
        if restarted and len(_distinct(late)) >= RESTARTS:
            found = f"those of reset({name}), key being its own, at each of {len(rows)} ends"
            yield fault("step", "the obs and state that ended the episode", found, "The rollout resets.")
            return


def _exact(result: Result, rows: np.ndarray) -> list[np.ndarray]:
    """Return `rows` of the obs and state, without keys and bits of floats, which vary with the program."""
    leaves = [leaf for leaf in jax.tree.leaves(result[:2]) if not _is_key(leaf)]
    return [np.asarray(leaf)[rows] for leaf in leaves if leaf.dtype not in (np.uint32, np.uint64)]
