"""Containers that pass between environments, algorithms and the training loop.

Axes, in the order in which they appear:

| letter | meaning                                        |
|--------|------------------------------------------------|
| `S`    | seeds, where a run holds several (outermost)   |
| `T`    | time steps of one rollout                      |
| `N`    | environments stepped side by side              |
| `B`    | rows of a batch or minibatch                   |
| `O`    | shape of the observation, or of each of a dict |
| `A`    | the action's own shape, `()` for a discrete one |

All containers are immutable. Functions of the library are written for one seed; `jax.vmap` adds the `S`
axis from outside.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

Array = jax.Array
Key = jax.Array
"""A typed PRNG key, as `jax.random.key` makes it."""
PyTree = Any
Metrics = dict[str, Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class MaskedMetrics(Mapping[str, Any]):
    """Metrics by name, of which some may lack a value: NaN for a reader, and a flag beside it in a program.

    So a program returns no NaN where a value is only missing, and `jax_debug_nans` finds those of a fault.
    Values are NumPy arrays, or traced ones in a program.
    """

    numbers: dict[str, Array]
    """Unspecified, but finite, where there is no value."""
    known: dict[str, Array]
    """Bool arrays of the same shapes, False where there is no value. A name without one always has one."""

    @staticmethod
    def of(metrics: Mapping[str, Array]) -> MaskedMetrics:
        """Return `metrics` with flags: without any, unless it has them."""
        return metrics if isinstance(metrics, MaskedMetrics) else MaskedMetrics(dict(metrics), {})

    def __getitem__(self, name: str) -> Any:
        number, known = self.numbers[name], self.known.get(name, True)
        if isinstance(number, jax.ShapeDtypeStruct):
            return number
        if isinstance(number, Tracer) or isinstance(known, Tracer):
            return number if known is True else jnp.where(known, number, jnp.nan)
        return np.asarray(number) if known is True else np.where(known, number, np.float32(np.nan))

    def __or__(self, other: Mapping[str, Array]) -> MaskedMetrics:
        """Return both; where names agree, those of `other`."""
        more = MaskedMetrics.of(other)
        known = {name: flags for name, flags in self.known.items() if name not in more}
        return MaskedMetrics(self.numbers | more.numbers, known | more.known)

    def __iter__(self) -> Iterator[str]:
        return iter(self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)

    def __repr__(self) -> str:
        shapes = {str(list(np.shape(value))) for value in self.numbers.values()}
        return f"MaskedMetrics({len(self)} metrics of shape {' or '.join(sorted(shapes))}: {', '.join(self)})"


class Transition(NamedTuple):
    """One environment step, or any batch of them; every leaf shares the leading axes.

    `next_obs` is the observation after the step and *before* any reset, so that the target
    `reward + gamma * (1 - terminated) * V(next_obs)` holds at every step, also at a time limit (Pardo et
    al. 2018, arXiv:1712.00378).
    """

    obs: PyTree
    """`[..., O]` float32 (uint8 for pixels)."""
    action: Array
    """`[..., A]` output of the policy: float32 in [-1, 1] units, or int32 indices."""
    reward: Array
    """`[...]` float32."""
    next_obs: PyTree
    """`[..., O]` as `obs`."""
    terminated: Array
    """`[...]` bool: the task ended; no bootstrap."""
    truncated: Array
    """`[...]` bool: a time limit ended the episode; bootstrap as usual. Both flags can be true."""
    extras: PyTree = ()
    """Further outputs of `act` with `explore=True` for `update`, such as `{"log_prob": [...]}`.

    `()` in warm-up, where actions are uniform; therefore `observe` must not read it.
    """


class EnvSpec(NamedTuple):
    """Facts of an environment that an algorithm may use."""

    name: str
    observation_space: Any
    """A `gymnasium.spaces.Box`, or a Dict of such, whose observations are dicts of arrays."""
    action_space: Any
    """A Box, Discrete, MultiDiscrete or MultiBinary of `gymnasium.spaces`."""


class Env(Protocol):
    """Environment as pure functions of one unbatched state; `jax.vmap` batches them.

    Any object with these attributes is an environment. purerl's own environments are `EnvFunctions`.
    """

    @property
    def name(self) -> str: ...
    @property
    def observation_space(self) -> Any: ...
    @property
    def action_space(self) -> Any: ...
    @property
    def default_params(self) -> PyTree: ...
    @property
    def max_episode_steps(self) -> int: ...
    @property
    def reset(self) -> Callable[..., tuple[Array, PyTree]]: ...
    @property
    def step(self) -> Callable[..., tuple[Array, PyTree, Array, Array, Array, Metrics]]: ...


class EnvFunctions(NamedTuple):
    """Tuple of functions that is an `Env`.

    | call                                    | returns                                             |
    |-----------------------------------------|-----------------------------------------------------|
    | `reset(key, params=None, needed=True)`  | `(obs, state)`                                      |
    | `step(key, state, action, params=None)` | `(obs, state, reward, terminated, truncated, info)` |

    With `needed` False the result of `reset` is unspecified, and costs nothing on an engine that can skip
    the work. `step` never resets. `action` is in the units of `action_space`. `params=None` means
    `default_params`.
    """

    name: str
    reset: Callable[..., tuple[Array, PyTree]]
    step: Callable[..., tuple[Array, PyTree, Array, Array, Array, Metrics]]
    observation_space: Any
    action_space: Any
    max_episode_steps: int
    default_params: PyTree = ()
    render: Callable[..., Any] | None = None
    """Images of states, or None if there are none. Optional for every `Env`.

    `render(states, *, width=..., height=..., camera=None) -> [..., height, width, 3]` uint8, for states
    with any leading axes: a single state, or `[T, N]` of a rollout. Runs on the host, is never traced and
    changes no state. Default sizes and the meaning of `camera` depend on the environment; None is its
    default view.
    """


class HostEnv(NamedTuple):
    """Environment that steps in Python, such as one of Gymnasium; only `purerl.run` trains on it.

    `make_vector` returns copies of it with `reset` and `step`.
    """

    name: str
    observation_space: Any
    """A `gymnasium.spaces.Box`, float32 or uint8, or a Dict of such."""
    action_space: Any
    max_episode_steps: int
    """Most steps of an evaluation's episode."""
    make_vector: Callable[[int, bool], Any]
    """`(num_envs, evaluation) -> copies`, as `purerl.envs.adapters.from_gymnasium.HostVector`."""


class Network(NamedTuple):
    """Network as a pair of pure functions, such as `(module.init, module.apply)` of flax.linen.

    One with statistics of its batches has two more.
    """

    init: Callable[..., PyTree]
    """`init(key, *example_inputs) -> params`."""
    apply: Callable[..., Any]
    """`apply(params, *inputs) -> outputs`."""
    train: Callable[..., tuple[Any, PyTree]] | None = None
    """`train(params, *inputs) -> (outputs, statistics)`: with the statistics of this batch."""
    settle: Callable[[PyTree, PyTree], PyTree] | None = None
    """`settle(params, statistics) -> params`: after an optimiser's step on `params`."""


class Algorithm(NamedTuple):
    """Learning algorithm as a tuple of pure functions and three static numbers for the driver.

    | call                                               | returns                                   |
    |----------------------------------------------------|-------------------------------------------|
    | `init(key)`                                        | State: parameters, optimiser, replay, ... |
    | `act(state, carry, obs[N, O], key, step, explore=)`| `(action[N, A], carry, extras)`           |
    | `observe(state, Transition[T, N])`                 | State: store, update the normalizer       |
    | `update(state, Transition[T, N], key, step)`       | `(State, metrics)`: observe, then learn   |
    | `init_carry(num_envs)`                             | Carry: RNN state or noise; zeros if fresh |

    Build one with keywords. `explore` is a Python bool. `step` counts the environment steps that the
    member has taken before this rollout, for schedules. It is never batched, so `lax.cond` on it stays a
    branch under `vmap`.

    A State with a replay buffer has it in a field named `replay`: it is large, and therefore never copied,
    selected from or read as a whole, and not part of a policy. All other fields of a State are small, and
    finite unless the member has diverged. `act` does not read `replay`.
    """

    init: Callable[[Key], PyTree]
    act: Callable[..., tuple[Array, PyTree, PyTree]]
    observe: Callable[[PyTree, Transition], PyTree]
    update: Callable[[PyTree, Transition, Key, Array], tuple[PyTree, Mapping[str, Array]]]
    num_envs: int
    num_steps: int
    warmup_steps: int = 0
    """Environment steps with uniform actions before the first update; they count in the total."""
    init_carry: Callable[[int], PyTree] = lambda num_envs: ()


class TrainState(NamedTuple):
    """Complete state of one member's training, beside the unbatched integer `step`."""

    algo: PyTree
    """State of the algorithm."""
    env: PyTree
    """`rollout.VectorState`: environment states, observations, episode tallies, each `[N, ...]`."""
    carry: PyTree
    """RNN state or noise of the actor, `[N, ...]`."""
    key: Key
    """Root key of the member. It never changes: each use folds in a purpose and `step`."""
    diverged_at: Array
    """Scalar int32: first check at which a learned number was not finite; -1 before."""

    def __repr__(self) -> str:
        """Return the size of each part: the numbers themselves may be gigabytes."""
        return f"TrainState({', '.join(f'{name}: {_size(part)}' for name, part in self._asdict().items())})"


class TrainOutput(NamedTuple):
    """Result of a whole training run."""

    state: TrainState
    metrics: MaskedMetrics
    """One row per log interval: each value `[rows]`, NaN where an interval has none."""

    def __repr__(self) -> str:
        """Return the last returns, and the sizes of state and metrics."""
        last = [f"{name} {_last(self.metrics[name])}" for name in RETURNS if name in self.metrics]
        return f"TrainOutput({', '.join(last)},\n  state={self.state},\n  metrics={self.metrics})"


RETURNS = ("episode/return", "eval/return")


def _size(tree: PyTree) -> str:
    """Return the number of arrays in `tree`, and their bytes."""
    leaves = jax.tree.leaves(tree)
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    number = f"{len(leaves)} array{'s' * (len(leaves) > 1)}"
    return f"{number} of {size / 1e6:,.1f} MB" if size >= 1e5 else f"{number} of {size:,} bytes"


def _last(values: Any) -> str:
    """Return the mean of the last numbers of all members in `values [..., rows]`, and their range."""
    if isinstance(values, Tracer | jax.ShapeDtypeStruct):
        return f"{list(values.shape)}"
    rows = values.reshape(-1, values.shape[-1])
    known = np.array([row[np.isfinite(row)][-1] for row in rows if np.isfinite(row).any()])
    if not known.size:
        return "without a value"
    spread = f" ({known.min():,.1f} to {known.max():,.1f})" if known.size > 1 else ""
    return f"{known.mean():,.1f}{spread}"
