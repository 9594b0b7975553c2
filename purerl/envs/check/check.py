"""Whether an environment keeps its contract: every fault at once, a sentence for each.

A check yields sentences, and returns what later checks need. The first ones trace the functions and
do not run them; the last ones play a few episodes of random actions.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from jax.core import Tracer

from purerl.rollout import env_action, uniform_action
from purerl.types import Array, Env, Key, PyTree

Check = Generator[str, None, Any]
STEPS, EPISODES, STARTS = 10_000, 8, 16
"""At most so many steps in all, episodes side by side, and keys whose resets are compared."""
LONG = 64
"""Arrays of the state with more numbers are compared as a whole."""
OBS_DTYPES = {"float32": "float32", "float64": "float32", "uint8": "uint8"}
"""dtype of a space -> dtype of its observations; many a space is float64 by neglect."""
PARTS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "name": (lambda value: isinstance(value, str) and value != "", "a non-empty string"),
    "observation_space": (
        lambda value: isinstance(value, spaces.Box) and str(value.dtype) in OBS_DTYPES,
        "a gymnasium.spaces.Box of floats, or of uint8 for pixels",
    ),
    "action_space": (
        lambda value: (
            value.start == 0
            if isinstance(value, spaces.Discrete)
            else isinstance(value, spaces.Box) and str(value.dtype).startswith("float")
        ),
        "a gymnasium.spaces.Box of floats, or a gymnasium.spaces.Discrete that starts at 0",
    ),
    "max_episode_steps": (
        lambda value: isinstance(value, int | np.integer) and not isinstance(value, bool) and value > 0,
        "a positive whole number, the step that is `truncated`",
    ),
    "default_params": (
        lambda value: all(_leaf(leaf).dtype is not None for leaf in jax.tree.leaves(value)),
        "a pytree of numbers and arrays, () if there are none",
    ),
    "reset": (callable, "a function of (key, params=None, needed=True)"),
    "step": (callable, "a function of (key, state, action, params=None)"),
}
"""attribute -> whether a value fits, and what is expected."""
CALLS = {"reset": (("key",), ("params", "needed")), "step": (("key", "state", "action"), ("params",))}
"""function -> its required and its optional arguments."""
PYTHON = (bool, int, float, complex)
TRACER_ERRORS = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)


class EnvError(ValueError):
    """An environment that breaks its contract; `faults` has one sentence for each way it does."""

    def __init__(self, faults: list[str]):
        self.faults = tuple(faults)
        head = "the environment breaks its contract; once this is mended, more may show:"
        super().__init__("\n  - ".join([head, *faults]))


class _Task(NamedTuple):
    """The parts of an environment; None where one is missing or wrong."""

    params: PyTree
    reset: Any
    step: Any
    observation_space: Any
    action_space: Any
    max_episode_steps: Any

    def start(self, key: Key, *needed: Any) -> Any:
        return self.reset(key, self.params, *needed)

    def move(self, key: Key, state: PyTree, action: Array) -> Any:
        return self.step(key, state, action, self.params)

    def random_actions(self, key: Key, num: int) -> Array:
        return env_action(self.action_space, uniform_action(self.action_space, key, num))

    @property
    def takes_needed(self) -> bool:
        return not _refusal(self.reset, ("key", "params", "needed"))


class _Result(NamedTuple):
    """What `reset` returned, or `step` without `info`."""

    obs: Any
    state: Any
    reward: Any = None
    terminated: Any = None
    truncated: Any = None


def check_env(env: Env, params: PyTree = None, *, deterministic_reset: bool = False) -> None:
    """Check all that purerl expects of an environment, and report everything that is wrong at once.

    Checked are the attributes; what `reset` and `step` return, down to shapes, dtypes and weak types;
    that both are pure and batch under `vmap`, also over `params`; and, in up to 10,000 steps of
    random actions, that numbers are finite and within `observation_space`, that `truncated` comes
    at `max_episode_steps` and not before, and that `step` does not reset itself.

    What random play does not reach is not seen, such as a time limit that every episode dies before,
    or one beyond 5,000 steps. A step that resets itself is known by the clocks in the state, which
    all start again after the end: a state without a clock, or episodes of one step, hide it.

    Args:
        env: the environment.
        params: to check it with; `default_params` if None.
        deterministic_reset: whether `reset` may give the same start for every key.

    Raises:
        EnvError: if there is any fault; its `faults` has a sentence for each.
    """
    faults = list(_check(env, params, deterministic_reset))
    if faults:
        raise EnvError(faults)


def _check(env: Env, params: PyTree, deterministic_reset: bool) -> Check:
    parts = yield from _attributes(env)
    default, (fits, expected) = parts.get("default_params"), PARTS["default_params"]
    if not (yield from _attempt("params", partial(fits, params))):
        yield f"params is {_words(params)}; expected {expected}."
        params = None
    task = _Task(default if params is None else params, *map(parts.get, _Task._fields[1:]))
    started = yield from _reset_result(task)
    moved = yield from _step_result(task, started)
    if started is None:
        return
    faults = [*_pure("reset", task.reset, task.start, jax.random.key(0))]
    if moved is not None:
        faults += _pure("step", task.step, task.move, *_step_args(task, started))
    playable = moved is not None and _playable(started, moved)
    if playable:
        faults += _batches(task, started)
    yield from faults
    if playable and not faults:
        like = _arrays(started)
        yield from _none_is_default(task._replace(params=default), like)
        yield from _behaviour(task, like, deterministic_reset)


def _attempt(call: str, function: Callable[[], Any]) -> Check:
    """Returns `function()`, or None where it raises."""
    try:
        return function()
    except Exception as error:
        first, *rest = str(error).splitlines() or [""]
        message = rest[-1] if first.endswith("(most recent call last):") else first.rstrip(".")
        hint = " Use jnp in place of np, and jnp.where of if." if isinstance(error, TRACER_ERRORS) else ""
        yield f"{call} raises {type(error).__name__}: {message}.{hint}"
        return None


# The attributes


def _attributes(env: Env) -> Check:
    """Returns, by name, those that are as they should be."""
    good = {}
    for name, (fits, expected) in PARTS.items():
        try:
            value = getattr(env, name)
            what = None if fits(value) else _words(value)
        except Exception as error:
            what = "missing" if isinstance(error, AttributeError) else f"no use ({_words(error)})"
        if what is not None:
            yield f"{name} is {what}; expected {expected}."
        elif name not in CALLS or (yield from _signature(name, value)):
            good[name] = value
    return good


def _words(value: Any) -> str:
    try:
        return repr(value)
    except Exception:  # it is the user's own
        return f"a {type(value).__name__}"


def _signature(name: str, function: Callable) -> Check:
    """Returns whether `function` takes at least what it must, and `params`."""
    required, optional = CALLS[name]
    calls = ((required, ()), (required + optional, ()), (required, optional))
    refusals = [refusal for call in calls if (refusal := _refusal(function, *call))]
    if refusals:
        yield f"{name} is not {PARTS[name][1]}: {refusals[0]}."
    return not _refusal(function, (*required, "params"))


def _refusal(function: Callable, positional: tuple[str, ...], keywords: tuple[str, ...] = ()) -> str:
    """Why `function` does not take such arguments; empty if it does."""
    try:
        inspect.signature(function).bind(*positional, **dict.fromkeys(keywords))
    except TypeError as error:
        return str(error)
    except ValueError:  # its signature cannot be read
        pass
    return ""


# What the functions return: traced, not run


@dataclasses.dataclass(frozen=True)
class _Leaf:
    """One leaf of a result; `dtype` is None for what is no JAX type."""

    kind: type
    shape: tuple[int, ...] = ()
    dtype: Any = None
    weak: bool = False

    def __str__(self):
        if self.dtype is None or self.kind in PYTHON:
            return f"Python's {self.kind.__name__}"
        return f"{'weakly typed ' if self.weak else ''}{self.dtype}{list(self.shape)}"


def _leaf(value: Any) -> _Leaf:
    try:
        aval = jax.typeof(value)
    except TypeError:
        return _Leaf(type(value))
    return _Leaf(type(value), aval.shape, aval.dtype, aval.weak_type or type(value) in PYTHON)


def _arrays(tree: PyTree, *axes: int) -> PyTree:
    """Leaves as what JAX traces with: strong types, after the leading `axes`."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((*axes, *leaf.shape), leaf.dtype), tree)


def _named(whose: str, result: _Result) -> dict[str, Any]:
    """Leaves by the names that the sentences call them."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(result)
    return {f"{whose}'s {jax.tree_util.keystr(path)[1:]}": leaf for path, leaf in leaves}


def _kind(value: Any) -> str:
    return str(value) if isinstance(value, _Leaf) else f"a {type(value).__name__}"


def _trace(function: Callable, *args: Any) -> tuple[PyTree, tuple]:
    """The result, with `_Leaf`s for leaves, and the program: jaxpr and constants of a new trace."""
    results = []

    def unknown_to_any_cache(*args):
        result = function(*args)
        results.append(jax.tree.map(_leaf, result))
        return [leaf for leaf in jax.tree.leaves(result) if _leaf(leaf).dtype is not None]

    jaxpr = jax.make_jaxpr(unknown_to_any_cache)(*args)
    return results[0], (str(jaxpr), *(_plain(const).tobytes() for const in jaxpr.consts))


def _call(name: str, expected: str, function: Callable, *args: Any) -> Check:
    """Returns the parts of what `function(*args)` returns, or None if they are no use."""
    trace = yield from _attempt(name, partial(_trace, function, *args))
    if trace is None:
        legacy = jax.random.key_data(args[0])
        if not [*_attempt(name, partial(_trace, function, legacy, *args[1:]))]:
            yield f"{name} takes only a legacy uint32 key; it gets a typed one, as jax.random.key makes it."
        return None
    result, _ = trace
    found = f"{len(result)} values" if isinstance(result, tuple | list) else _kind(result)
    if found == f"{expected.count(',') + 1} values":
        return result
    yield f"{name} returns {found}; expected {expected}."
    return None


def _reset_result(task: _Task) -> Check:
    """Returns a `_Result` of leaves, or None."""
    if task.reset is None:
        return None
    needed = (True,) if task.takes_needed else ()  # traced, as in a rollout
    result = yield from _call("reset", "(obs, state)", task.start, jax.random.key(0), *needed)
    if result is None:
        return None
    started = _Result(*result)
    yield from _in_shape(started.obs, task.observation_space)
    yield from _typed("reset", started)
    return started


def _step_result(task: _Task, started: _Result | None) -> Check:
    """Returns a `_Result` of leaves, or None."""
    if started is None or not _known(started) or task.step is None or task.action_space is None:
        return None
    six = "(obs, state, reward, terminated, truncated, info)"
    result = yield from _call("step", six, task.move, *_step_args(task, started))
    if result is None:
        return None
    *parts, info = result
    yield from _same("step", _Result(*parts[:2]), "but reset's", started)
    yield from _typed("step", _Result(*parts[:2]))
    for name, leaf in zip(("reward", "terminated", "truncated"), parts[2:], strict=True):
        dtype = "float32" if name == "reward" else "bool"
        if not isinstance(leaf, _Leaf) or leaf.weak or (str(leaf.dtype), leaf.shape) != (dtype, ()):
            yield f"step's {name} is {_kind(leaf)}; expected {dtype}[]: jnp.asarray({name}, {dtype!r})."
    if not isinstance(info, dict):
        yield f"step's info is {_kind(info)}; expected a dict."
        info = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(info)[0]:
        if leaf.dtype is None:
            yield f"step's info{jax.tree_util.keystr(path)} is {leaf}; expected an array or a number."
    return _Result(*parts)


def _in_shape(obs: Any, space: Any) -> Iterator[str]:
    """The observation is one array, as the space has it."""
    if not isinstance(obs, _Leaf):
        yield f"reset's obs is {_kind(obs)}; expected one array."
    elif obs.dtype is not None:
        allowed = [OBS_DTYPES[str(space.dtype)]] if space else ["float32", "uint8"]
        if str(obs.dtype) not in allowed:
            yield f"reset's obs is {obs}; expected {' or '.join(allowed)}, to fit observation_space."
        if space and obs.shape != space.shape:
            yield f"reset's obs has shape {obs.shape}, but observation_space has {space.shape}."


def _typed(function: str, result: _Result) -> Iterator[str]:
    """Every leaf is an array with a type of its own: a weak one changes, and programs trace again."""
    for name, leaf in _named(function, result).items():
        if leaf.dtype is None:
            yield f"{name} is {leaf}; expected an array."
        elif leaf.weak:
            yield f"{name} is {leaf}; expected a strong type: jnp.asarray(..., {str(leaf.dtype)!r})."


def _same(function: str, result: _Result, other: str, expected: _Result) -> Iterator[str]:
    """Trees, shapes and dtypes agree."""
    trees = [_named(function, tree) for tree in (result, expected)]
    ours, theirs = (
        {name: f"{leaf.dtype}{list(leaf.shape)}" for name, leaf in tree.items()} for tree in trees
    )
    names = [name for name in theirs | ours if ours.get(name) != theirs.get(name)]
    for name in names:
        yield f"{name} is {ours.get(name, 'missing')}, {other} is {theirs.get(name, 'missing')}."
    one, two = (jax.tree.structure(tree.state) for tree in (result, expected))
    if not names and one != two:
        yield f"{function}'s state is the tree {one}, {other} is {two}."


def _known(tree: PyTree) -> bool:
    return all(leaf.dtype is not None for leaf in jax.tree.leaves(tree))


def _playable(started: _Result, moved: _Result) -> bool:
    """Whether a step can follow a step, and its reward and flags can be read."""
    return (
        _known(moved)
        and isinstance(started.obs, _Leaf)
        and not [*_same("", _Result(*moved[:2]), "", started)]
        and all(isinstance(leaf, _Leaf) and leaf.shape == () for leaf in moved[2:])
    )


def _step_args(task: _Task, started: _Result) -> tuple[Key, PyTree, Array]:
    """What a step is traced with."""
    key = jax.random.key(0)
    action = jax.eval_shape(lambda key: task.random_actions(key, 1)[0], key)
    return key, _arrays(started.state), action


def _pure(name: str, function: Callable, call: Callable, *args: Any) -> Iterator[str]:
    """`call(*args)`, which is to call `function`, changes nothing, and does the same each time."""
    before = _reachable(function)
    traces = yield from _attempt(f"{name}, again,", lambda: [_trace(call, *args) for _ in range(2)])
    after = _reachable(function)
    changed = [name for name in after if after[name] != before.get(name) or "Tracer(" in after[name]]
    if changed or (traces and traces[0][1] != traces[1][1]):
        what = f"it changes {', '.join(changed)}" if changed else "every trace gives another program"
        yield f"{name} is not pure: {what}; what changes belongs in the state, and chance comes from the key."


def _reachable(function: Any) -> dict[str, str]:
    """The variables that `function` reaches outside itself, by name, in words."""
    values, functions = {}, [function]
    for item in functions:  # grows by the functions that these call
        inner = inspect.unwrap(item)
        owner = inner.__self__ if inspect.ismethod(inner) else inner
        values |= {f"self.{name}": value for name, value in getattr(owner, "__dict__", {}).items()}
        if inspect.isfunction(inner) or inspect.ismethod(inner):
            with contextlib.suppress(ValueError):  # a variable without a value yet
                nonlocals, names, *_ = inspect.getclosurevars(inner)
                functions += [f for f in nonlocals.values() if inspect.isroutine(f) and f not in functions]
                values |= {**names, **nonlocals}
    return {name: _words(value) for name, value in values.items()}


def _batches(task: _Task, started: _Result) -> Iterator[str]:
    """One more axis, two more axes, and an axis of the parameters."""
    args = _step_args(task, started)
    calls = {
        "reset": (lambda params, key: task.reset(key, params), args[:1]),
        "step": (lambda params, *args: task.step(*args, params)[:5], args),
    }
    params = jax.tree.map(_leaf, task.params)
    for name, (function, args) in calls.items():
        batch = jax.vmap(partial(function, task.params))
        tries = [(f"vmap({name})", batch, _arrays(args, 2))]
        tries += [(f"vmap(vmap({name}))", jax.vmap(batch), _arrays(args, 2, 3))]
        if jax.tree.leaves(params):
            over = jax.vmap(function, (0, *[None] * len(args)))
            tries += [(f"vmap({name}) over params", over, (_arrays(params, 2), *args))]
        faults = ([*_attempt(call, partial(jax.eval_shape, f, *args))] for call, f, args in tries)
        yield from next(filter(None, faults), [])  # one such sentence is enough


# What the functions compute


def _strong(task: _Task, like: _Result) -> tuple[Callable, Callable]:
    """`start(key, *needed)` and `move(key, state, action)`, of types as in `like` whatever the task's."""

    def cast(obs, state):
        return jax.tree.map(lambda leaf, to: jnp.asarray(leaf, to.dtype), _Result(obs, state), like)

    def start(key, *needed):
        return cast(*task.start(key, *needed))

    def move(key, state, action):
        obs, state, reward, terminated, truncated, _ = task.move(key, state, action)
        return cast(obs, state)._replace(
            reward=jnp.asarray(reward, jnp.float32),
            terminated=jnp.asarray(terminated, bool),
            truncated=jnp.asarray(truncated, bool),
        )

    return start, move


def _first_step(task: _Task, like: _Result) -> Callable:
    """`(key, key_step, action, *needed)` -> what a reset and a step return; keys are numbers."""
    start, move = _strong(task, like)

    def play(key, key_step, action, *needed):
        started = start(jax.random.wrap_key_data(key), *needed)
        return started, move(jax.random.wrap_key_data(key_step), started.state, action)

    return play


class _Step(NamedTuple):
    """One step of random play."""

    terminated: Array
    truncated: Array
    reward_finite: Array
    in_space: tuple
    as_first: Array
    """Where the state is what it was after the first step of the first episode; see `_equal`."""


def _episode(task: _Task, like: _Result) -> Callable:
    """`(state, first, bounds, keys [T], actions [T, A]) -> _Step [T, ...]`, on and on past the end."""
    _, move = _strong(task, like)

    def play(state, first, bounds, keys, actions):
        def step(state, draws):
            key, action = draws
            moved = move(jax.random.wrap_key_data(key), state, action)
            obs, state, reward, terminated, truncated = moved
            facts = _in_space(obs, bounds), _equal(_plain(state), first)
            return state, _Step(terminated, truncated, jnp.isfinite(reward), *facts)

        return jax.lax.scan(step, state, (keys, actions))[1]

    return play


def _equal(one: PyTree, two: PyTree) -> Array:
    """`[D]` which numbers are equal: long arrays count as one, and flags not at all."""
    pairs = zip(*map(jax.tree.leaves, (one, two)), strict=True)
    same = [a == b if a.size <= LONG else (a == b).all() for a, b in pairs if a.dtype != bool]
    return jnp.concatenate([jnp.zeros(0, bool), *map(jnp.ravel, same)])


def _in_space(obs: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array, Array, Array]:
    """Whether `obs` is finite, and which element is farthest out of bounds: excess, index, value."""
    obs, (low, high) = obs.astype(jnp.float32), bounds
    finite = jnp.isfinite(obs)
    excess = jnp.where(finite, jnp.maximum(low - obs, obs - high), -jnp.inf)
    excess = jnp.append(excess, -jnp.inf)  # one more, lest there be none
    index = jnp.argmax(excess)
    return finite.all(), excess[index], index, jnp.append(obs, 0.0)[index]


_all_in_space = jax.jit(jax.vmap(_in_space, (0, None)))


def _bounds(space: Any, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Of an observation, float32; infinite if the space does not tell."""
    if space is None or space.shape != shape:
        return np.full(shape, -np.inf, np.float32), np.full(shape, np.inf, np.float32)
    with np.errstate(over="ignore"):  # beyond float32 is as good as infinite
        return space.low.astype(np.float32), space.high.astype(np.float32)


def _plain(tree: PyTree) -> PyTree:
    """`tree` as numbers, keys too; outside a trace, NumPy's."""

    def plain(leaf):
        leaf = jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
        return leaf if isinstance(leaf, Tracer) else np.asarray(leaf)

    return jax.tree.map(plain, tree)


def _numbers(started: _Result, moved: _Result) -> dict[str, np.ndarray]:
    return _plain({**_named("reset", started), **_named("step", moved)})


def _draws(task: _Task) -> tuple[np.ndarray, np.ndarray]:
    """Keys `[STARTS + STEPS, ...]`, as numbers, and actions `[STEPS, A]`."""
    key = jax.random.key(0)
    shape = (STARTS + STEPS, *jax.random.key_data(key).shape)
    keys = np.random.default_rng(0).integers(2**32, size=shape, dtype=np.uint32)
    return keys, np.asarray(task.random_actions(key, STEPS))


def _none_is_default(task: _Task, like: _Result) -> Check:
    """Here `task.params` are the defaults."""
    keys, actions = _draws(task)
    none, default = (_first_step(task._replace(params=params), like) for params in (None, task.params))
    args = keys[0], keys[1], actions[0]
    one = yield from _attempt("with params=None, reset or step", partial(_trace, none, *args))
    two = yield from _attempt("with params=default_params, reset or step", partial(_trace, default, *args))
    if one is None or two is None or one[1] == two[1]:  # as a rule the programs are equal
        return
    pair = yield from _attempt(
        "reset or step", lambda: [_numbers(*jax.jit(f)(*args)) for f in (none, default)]
    )
    if pair and (names := [name for name in pair[1] if not _close(pair[0][name], pair[1][name])]):
        yield f"with params=None, {', '.join(names)} differ from those with default_params, which None means."


def _close(one: np.ndarray, two: np.ndarray) -> bool:
    """Equal up to rounding. Long unsigned integers pass: they may be the bits of floats."""
    if one.shape != two.shape:
        return False
    if not jnp.issubdtype(two.dtype, jnp.floating):
        return two.dtype in (np.uint32, np.uint64) or np.array_equal(one, two)
    one, two = one.astype(np.float64), two.astype(np.float64)
    size = np.abs(two, where=np.isfinite(two), out=np.zeros_like(two)).max(initial=0.0)
    return np.allclose(one, two, rtol=0.0, atol=1e-3 * size + 1e-6, equal_nan=True)


def _behaviour(task: _Task, like: _Result, deterministic_reset: bool) -> Check:
    """What a reset and a step compute, alone and side by side, and how episodes go on."""
    horizon, bounds = task.max_episode_steps or 100, _bounds(task.observation_space, like.obs.shape)
    num = max(2, min(EPISODES, STEPS // (horizon + 1)))
    steps = min(horizon + 1, STEPS // num)
    draws, actions = _draws(task)
    starts, keys = draws[:STARTS], draws[STARTS : STARTS + num * steps].reshape(num, steps, -1)
    actions = actions[: num * steps].reshape(num, steps, *actions.shape[1:])
    args = starts[:num], keys[:, 0], actions[:, 0], *([np.ones(num, bool)] * task.takes_needed)
    alone, batch = jax.jit(_first_step(task, like)), jax.jit(jax.vmap(_first_step(task, like)))
    play = jax.jit(jax.vmap(_episode(task, like), (0, None, None, 0, 0)))

    def run(i):
        return _numbers(*alone(starts[i], keys[i % num, 0], actions[i % num, 0]))

    runs = yield from _attempt("reset or step", lambda: [run(i) for i in (*range(STARTS), 0)])
    if runs is None:
        return
    rows = yield from _attempt("vmap(reset) or vmap(step)", lambda: jax.block_until_ready(batch(*args)))
    if rows is None:
        return
    *runs, again = runs
    yield from _compared(runs, again, _numbers(*rows), deterministic_reset)
    obs = np.stack([run["reset's obs"] for run in runs])
    yield from _observed("reset", bounds, *map(np.asarray, _all_in_space(obs, bounds)))
    first = jax.tree.map(lambda leaf: leaf[0], _plain(rows[1].state))
    args = rows[0].state, first, bounds, keys, actions
    episodes = yield from _attempt("vmap(step)", lambda: _plain(play(*args)))
    if episodes is not None:
        yield from _lived(episodes, bounds, task.max_episode_steps)


def _compared(runs: list[dict], again: dict, rows: dict, deterministic_reset: bool) -> Iterator[str]:
    """The same key gives the same bits, a batch gives the same rows, other keys give other starts."""
    changing = [name for name in again if runs[0][name].tobytes() != again[name].tobytes()]
    if changing:
        yield f"{', '.join(changing)} differ between two calls with the same arguments."
    same = [name for name in rows if all(map(_close, rows[name], [run[name] for run in runs]))]
    if other := [name for name in rows if name not in (*changing, *same)]:
        yield f"{', '.join(other)} differ under vmap, with `needed` true, from what is returned alone."
    starts = {tuple(run[name].tobytes() for name in run if name.startswith("reset")) for run in runs}
    if len(starts) == 1 and not deterministic_reset:
        advice = "draw from the key, or allow it by check_env(..., deterministic_reset=True)"
        yield f"reset gives the same obs and state for {STARTS} different keys: {advice}."


def _observed(function: str, bounds: Any, finite: Any, excess: Any, index: Any, value: Any) -> Iterator[str]:
    """Observations, as `_in_space` sees them."""
    if not finite.all():
        yield f"{function}'s obs is not finite."
    worst = excess.argmax()
    if excess[worst] > 1e-5 * (1 + abs(value[worst])):
        low, high = (bound.flat[index[worst]] for bound in bounds)
        place = list(map(int, np.unravel_index(index[worst], bounds[0].shape)))
        there = f"observation_space has [{low:g}, {high:g}]"
        yield f"{function}'s obs{place} is {value[worst]:g}, but {there}."


def _lived(episodes: _Step, bounds: Any, horizon: int | None) -> Iterator[str]:
    """Numbers up to the ends of the episodes, and where these are."""
    ended = episodes.terminated | episodes.truncated
    alive = np.cumsum(ended, 1) - ended == 0
    if not episodes.reward_finite[alive].all():
        yield "step's reward is not finite."
    yield from _observed("step", bounds, *(fact[alive] for fact in episodes.in_space))
    early = (episodes.truncated & alive)[:, : (horizon or 1) - 1].any(0)
    if early.any():
        yield f"step's truncated is true at step {early.argmax() + 1}, before max_episode_steps = {horizon}."
    if horizon and (alive & ~ended)[:, horizon - 1 : horizon].any():
        advice = "expected true, since the step just made counts"
        yield f"step's truncated is false at step {horizon} = max_episode_steps of an episode; {advice}."
    if any(_restarts(episodes.as_first, alive, alive & flag) for flag in episodes[:2]):
        advice = "return what ended the episode, and leave it to the rollout to reset"
        yield f"step resets itself: past an end, the clocks in its state run as in a new episode; {advice}."


def _restarts(as_first: Any, alive: Any, ends: Any) -> bool:
    """Whether, one step past their `ends [N, T]`, episodes count their steps anew.

    A clock is a number of the state that is the same after the first step of every episode, and not
    again before the end. All of them must agree: one alone may count the hours of a day.
    """
    rows = ends[:, 1:-1].any(1)
    if rows.sum() < 2:
        return False
    as_first, past = as_first[rows], ends[rows].argmax(1) + 1
    again = (as_first & alive[rows, :, None])[:, 1:].any((0, 1))
    clocks = as_first[:, 0].all(0) & ~again
    return bool(clocks.any() and as_first[np.arange(len(past)), past][:, clocks].all())
