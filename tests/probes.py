"""Probe environments: so small that the value of every state and the best action are known.

The first five are Andy Jones's ("Debugging RL, without the agonizing pain"), as rejax uses them; the
rings tell a time limit from a death, and `far` shows whose observation is bootstrapped. All share
their spaces, so that `one_of` can pick one by a traced index: one compiled program learns them all.

Observations are `[4]` float32. An action counts as a score: 0 and 1 of a Discrete space as -1 and 1,
the only entry of a Box action as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from gymnasium import spaces

from purerl.types import EnvFunctions

OBSERVATIONS = spaces.Box(-1e4, 1e4, (4,))
DISCRETE, CONTINUOUS = spaces.Discrete(2), spaces.Box(-1.0, 1.0, (1,))
FAR = 1000.0
RING_STEPS = 8


class State(NamedTuple):
    signal: jax.Array
    """-1 or 1, drawn at the reset."""
    time: jax.Array


class Probe(NamedTuple):
    observe: Callable
    """`(signal, time) -> obs [4]`."""
    reward: Callable
    """`(signal, time, match) -> reward`; `match(target)` is the action's score times -1 or 1."""
    length: int = 1
    terminates: bool = True
    truncates: bool = False


def nothing(signal, time):
    return jnp.zeros(4)


def only_signal(signal, time):
    return jnp.zeros(4).at[0].set(signal)


def position(signal, time):
    return jax.nn.one_hot(time % 4, 4)


def far_then_near(signal, time):
    return jnp.where(time == 0, FAR * jax.nn.one_hot(3, 4), jax.nn.one_hot((time - 1) % 3, 4))


def one(signal, time, match):
    return 1.0


PROBES = {
    "constant": Probe(nothing, one),
    "follow": Probe(only_signal, lambda signal, time, match: signal),
    "delay": Probe(position, lambda signal, time, match: time == 1, length=2),
    "act": Probe(nothing, lambda signal, time, match: match(1.0)),
    "match": Probe(only_signal, lambda signal, time, match: match(signal)),
    "ring": Probe(position, one, RING_STEPS, terminates=False, truncates=True),
    "ring_terminated": Probe(position, one, RING_STEPS),
    "ring_both": Probe(position, one, RING_STEPS, truncates=True),
    "far": Probe(far_then_near, lambda signal, time, match: 10.0 * (time == 0), RING_STEPS, False, True),
    "remember": Probe(
        lambda signal, time: only_signal(signal * (time == 0), time),
        lambda signal, time, match: jnp.where(time == 1, match(signal), 0.0),
        length=2,
    ),
}
"""`delay`: reward 1 on the second step. `remember`: the second step's action must match the signal
that only the first step showed, so a policy without a carry earns 0 in the mean (Discrete), and its
value is 0 as well. `far`: reward 10 on the first step, whose observation is 1000 away."""


def one_of(names: Sequence[str], index, action_space: spaces.Space) -> EnvFunctions:
    """The probe `names[index]`; `index` may be traced."""
    probes = [PROBES[name] for name in names]
    _, _, *columns = zip(*probes, strict=True)
    length, terminates, truncates = (jnp.array(column)[index] for column in columns)

    def observe(state):
        branches = [lambda s, probe=probe: probe.observe(*s) for probe in probes]
        return jax.lax.switch(index, branches, state)

    def reset(key, params=None, needed=True):
        state = State(jax.random.rademacher(key, (), jnp.float32), jnp.int32(0))
        return observe(state), state

    def step(key, state, action, params=None):
        discrete = isinstance(action_space, spaces.Discrete)

        def match(target):
            return target * (2.0 * action - 1.0 if discrete else action[0])

        branches = [
            lambda s, probe=probe: jnp.asarray(probe.reward(*s, match), jnp.float32) for probe in probes
        ]
        reward = jax.lax.switch(index, branches, state)
        state = state._replace(time=state.time + 1)
        ended = state.time >= length
        return observe(state), state, reward, ended & terminates, ended & truncates, {}

    name = "probe" if isinstance(index, jax.core.Tracer) else names[index]
    return EnvFunctions(name, reset, step, OBSERVATIONS, action_space, RING_STEPS)


def probe(name: str, action_space: spaces.Space = DISCRETE) -> EnvFunctions:
    """The probe `name` alone."""
    return one_of([name], 0, action_space)


def values(
    name: str, gamma: float, *, monte_carlo: bool = False, recurrent: bool = False
) -> list[tuple[list[float], float]]:
    """Return pairs of an observation and its value under the best policy.

    If `recurrent`, only of first observations: later ones are not all that the policy knows.

    A ring whose eighth step is a death shows each observation at two times, so what is learned is
    the mean of two returns (Monte Carlo), or the fixed point of the one-step equation in which the
    last observation survives every other time.
    """
    start = [1.0, 0.0, 0.0, 0.0]
    annuity = lambda steps: (1 - gamma**steps) / (1 - gamma)
    dies = (annuity(8) + annuity(4)) / 2 if monte_carlo else annuity(4) / (1 - gamma**4 / 2)
    if recurrent and name in ("ring_terminated", "ring_both"):
        return [(start, annuity(8))]
    known = {
        "constant": [([0.0] * 4, 1.0)],
        "follow": [([-1.0, 0.0, 0.0, 0.0], -1.0), (start, 1.0)],
        "delay": [(start, gamma), ([0.0, 1.0, 0.0, 0.0], 1.0)],
        "act": [([0.0] * 4, 1.0)],
        "match": [([-1.0, 0.0, 0.0, 0.0], 1.0), (start, 1.0)],
        "ring": [(start, 1 / (1 - gamma))],
        "ring_terminated": [(start, dies)],
        "ring_both": [(start, dies)],
        "far": [([0.0, 0.0, 0.0, FAR], 10.0)] + [([float(i == j) for j in range(4)], 0.0) for i in range(3)],
        "remember": [(start, gamma)],
    }[name]
    return known[:1] if recurrent and name in ("delay", "far") else known
