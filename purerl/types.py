"""The vocabulary of purerl: what flows between environments, algorithms and the training loop.

Axes, in the order in which they appear:

| letter | meaning                                        |
|--------|------------------------------------------------|
| `S`    | seeds, where a run holds several (outermost)   |
| `T`    | time steps of one rollout                      |
| `N`    | environments stepped side by side              |
| `B`    | rows of a batch or minibatch                   |
| `O`    | the observation's own shape, e.g. `(17,)`      |
| `A`    | the action's own shape, `()` for a discrete one |

Everything here is a plain immutable container. Functions of the library are written for one seed;
`jax.vmap` adds the `S` axis from outside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax

Array = jax.Array
Key = jax.Array
"""A typed PRNG key, as `jax.random.key` makes it."""
PyTree = Any
Metrics = dict[str, Array]


class Transition(NamedTuple):
    """One environment step, or any batch of them; every leaf shares the leading axes.

    `next_obs` is the observation the step led to, *before* any reset, so that
    `reward + gamma * (1 - terminated) * V(next_obs)` is right at every step, also where a time
    limit cut the episode (Pardo et al. 2018, arXiv:1712.00378).
    """

    obs: Array
    """`[..., O]` float32 (uint8 for pixels)."""
    action: Array
    """`[..., A]` the policy's own output: float32 in [-1, 1] units, or an int32 index."""
    reward: Array
    """`[...]` float32."""
    next_obs: Array
    """`[..., O]` as `obs`."""
    terminated: Array
    """`[...]` bool: the task itself ended; nothing follows, so nothing is bootstrapped."""
    truncated: Array
    """`[...]` bool: the clock ended the episode; the future still has value. Both can be true."""
    extras: PyTree = ()
    """What `act` with `explore=True` wants to see again in `update`, e.g. `{"log_prob": [...]}`.

    `()` in warm-up, where nobody acted: `observe` may not read it.
    """


class EnvSpec(NamedTuple):
    """What an algorithm may know of its environment."""

    name: str
    observation_space: Any
    """A `gymnasium.spaces.Box`."""
    action_space: Any
    """A `gymnasium.spaces.Box` or `gymnasium.spaces.Discrete`."""


class Env(Protocol):
    """A task as pure functions of one unbatched state; `jax.vmap` makes many.

    Any object with these attributes is an environment. `EnvFunctions` is the container that
    purerl's own environments use.
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
    """An `Env` as a tuple of functions.

    | call                                    | returns                                             |
    |-----------------------------------------|-----------------------------------------------------|
    | `reset(key, params=None, needed=True)`  | `(obs, state)`                                      |
    | `step(key, state, action, params=None)` | `(obs, state, reward, terminated, truncated, info)` |

    `reset` is unspecified where `needed` is False, and free where the engine can skip the work.
    `step` never resets itself. `action` is in the units of `action_space`. `params=None` means
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
    """Pictures of states, for a person to look at; None if there are none. Any `Env` may have it.

    `render(states, *, width=..., height=..., camera=None) -> [..., height, width, 3]` uint8, for states
    with any leading axes: one alone, or `[T, N]` of a rollout. Runs on the host and is never traced;
    no state changes. A size left out is the world's usual one. What a `camera` is depends on the world;
    None is the usual view, and the only one of worlds that have no other.
    """


class HostEnv(NamedTuple):
    """A task that steps in Python, such as a Gymnasium environment: only `purerl.run` trains on it.

    It has no `reset` and `step` of its own; `make_vector` makes copies that have.
    """

    name: str
    observation_space: Any
    """A `gymnasium.spaces.Box`, float32 or uint8."""
    action_space: Any
    max_episode_steps: int
    """Steps after which an evaluation gives up an episode."""
    make_vector: Callable[[int, bool], Any]
    """`(num_envs, evaluation) -> copies`, as `purerl.envs.adapters.from_gymnasium.HostVector`."""


class Network(NamedTuple):
    """A network as a pair of pure functions; flax.linen's `(module.init, module.apply)` is one."""

    init: Callable[..., PyTree]
    """`init(key, *example_inputs) -> params`."""
    apply: Callable[..., Any]
    """`apply(params, *inputs) -> outputs`."""


class Algorithm(NamedTuple):
    """A learning algorithm as a tuple of pure functions and three static facts for the driver.

    | call                                               | returns                                   |
    |----------------------------------------------------|-------------------------------------------|
    | `init(key)`                                        | State: parameters, optimiser, replay, ... |
    | `act(state, carry, obs[N, O], key, step, explore=)`| `(action[N, A], carry, extras)`           |
    | `observe(state, Transition[T, N])`                 | State: store, update the normaliser       |
    | `update(state, Transition[T, N], key, step)`       | `(State, metrics)`: observe, then learn   |
    | `init_carry(num_envs)`                             | Carry: RNN state or noise; zeros if fresh |

    Build one with keywords. `explore` is a Python bool. `step` counts the environment steps that the
    member has taken before this rollout, for schedules. It is never batched, so `lax.cond` on it stays a
    branch under `vmap`.

    A State with a replay buffer has it in a field named `replay`: large, and therefore never copied,
    selected from or read as a whole, and not part of a policy. Everything else in a State is small,
    and finite as long as learning is healthy. `act` reads nothing of `replay`.
    """

    init: Callable[[Key], PyTree]
    act: Callable[..., tuple[Array, PyTree, PyTree]]
    observe: Callable[[PyTree, Transition], PyTree]
    update: Callable[[PyTree, Transition, Key, Array], tuple[PyTree, Metrics]]
    num_envs: int
    num_steps: int
    warmup_steps: int = 0
    """Environment steps with uniform actions before the first update; they count in the total."""
    init_carry: Callable[[int], PyTree] = lambda num_envs: ()


class TrainState(NamedTuple):
    """Everything the next step of one seed needs, beside the unbatched integer `step`."""

    algo: PyTree
    """The algorithm's own State."""
    env: PyTree
    """The rollout's state: environment states, observations, episode tallies, each `[N, ...]`."""
    carry: PyTree
    """The actor's memory, `[N, ...]`."""
    key: Key
    """The seed's root key. It never changes: each use folds in a purpose and `step`."""
    diverged_at: Array
    """Scalar int32: the step by which something learned was no longer finite; -1 while healthy."""


class TrainOutput(NamedTuple):
    """What a whole training run returns."""

    state: TrainState
    metrics: Metrics
    """One row per log interval: each value `[rows]`, NaN where an interval has none."""
