"""The few compiled programs of one tiny run, which a whole battery of tests then calls.

Each function is traced once: its equations, its lowered text and its executable all come from that trace.
"""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from tiny import lane, on_device, plain, seed_keys

import purerl
from purerl.config import Config, leaves
from purerl.types import Transition

SEEDS = 4


class Program:
    """A function that is traced once; calls run what that trace compiled to."""

    def __init__(self, function: Callable, *args: Any, donate: tuple = (), options: dict | None = None):
        self.traced = jax.jit(function, donate_argnums=donate).trace(*args)
        self.lowered = self.traced.lower()
        self.run = self.lowered.compile(compiler_options=options)

    def __call__(self, *args: Any) -> Any:
        return self.run(*args)


class Trained(NamedTuple):
    """States and tallies of a run, each leaf `[SEEDS, ...]`."""

    start: Any
    """After the warm-up."""
    states: list
    """After each row."""
    tallies: list


class Lab:
    """The programs of a tiny run of SEEDS members side by side, with every leaf of the config batched."""

    def __init__(self, cfg: Config, options: dict | None = None):
        """Compile the programs with these compiler options, and train all rows once, with the defaults."""
        self.cfg, self.driver = cfg, purerl.make_driver(cfg)
        self.algo, self.schedule = self.driver.algo, self.driver.schedule
        self.space = self.driver.env.action_space
        self.keys = seed_keys(*range(SEEDS))
        hyper, step = self.hyper(), self.step(0)
        batched = (0, None, 0)
        self.copy = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))
        self.start = Program(jax.vmap(self.plain_start), self.keys, hyper, options=options)
        first = self.start(self.keys, hyper)
        chunk = jax.vmap(self.plain_chunk, in_axes=batched)
        self.chunk = Program(chunk, first, step, hyper, donate=(0,), options=options)
        evaluate = jax.vmap(self.driver.evaluate, in_axes=batched)
        self.evaluate = Program(evaluate, first, step, hyper, options=options)
        self.baseline = self.train(self.keys)
        last = self.baseline.states[-1]
        self.single = on_device(lane(last, 0), last)
        self.transition = jax.jit(self.make_transition)(jax.random.key(1))

    def plain_start(self, key, hyper):
        """Return the state of one member after its warm-up."""
        state, schedule = self.driver.init(key, hyper), self.schedule
        if schedule.warmup_steps:
            iterations = schedule.warmup_steps // schedule.iteration_steps
            state, _ = self.driver.warmup(state, jnp.int32(0), hyper, iterations)
        return state

    def plain_chunk(self, state, step, hyper):
        """Train one member for a row."""
        return self.driver.chunk(state, step, hyper, self.schedule.iterations)

    @property
    def programs(self) -> dict[str, Program]:
        return {"start": self.start, "chunk": self.chunk, "evaluate": self.evaluate}

    @property
    def plain(self) -> dict[str, tuple]:
        """The functions of one member, and arguments for them."""
        args = (self.single, self.step(0), {})
        return {
            "start": (self.plain_start, (self.keys[0], {})),
            "chunk": (self.plain_chunk, args),
            "evaluate": (self.driver.evaluate, args),
        }

    def hyper(self, **changes):
        """Return every real-valued field `[SEEDS]`, with these changes."""
        defaults = {name: np.full(SEEDS, value) for name, value in leaves(self.cfg).items()}
        return {name: jnp.asarray(value, jnp.float32) for name, value in (defaults | changes).items()}

    def step(self, row):
        """Return the step at which a row begins."""
        return jnp.int32(self.schedule.warmup_steps + row * self.schedule.row_steps)

    def row(self, state, row, hyper=None):
        """Train a row from `state`, which stays usable."""
        return self.chunk(self.copy(state), self.step(row), self.hyper() if hyper is None else hyper)

    def train(self, keys, hyper=None) -> Trained:
        """Train all rows."""
        hyper = self.hyper() if hyper is None else hyper
        start = state = self.start(keys, hyper)
        states, tallies = [], []
        for row in range(self.schedule.rows):
            state, tally = self.row(state, row, hyper)
            states.append(state)
            tallies.append(tally)
        return Trained(start, states, tallies)

    def carry(self):
        """Return the carry of fresh episodes."""
        return self.algo.init_carry(self.algo.num_envs)

    def act(self, explore):
        """Return `act` at step 0."""
        return lambda *args: self.algo.act(*args, jnp.int32(0), explore=explore)

    def make_transition(self, key) -> Transition:
        """Return a rollout `[T, N]` of noise, with the extras that this algorithm's `act` makes."""
        space, lead = self.driver.env.observation_space, (self.algo.num_steps, self.algo.num_envs)
        keys = jax.random.split(key, 6)
        obs, next_obs = (jax.random.normal(k, (*lead, *space.shape)) for k in keys[:2])
        shapes = jax.eval_shape(self.act(True), self.single.algo, self.carry(), obs[0], key)[2]
        noise = lambda leaf: -jnp.abs(jax.random.normal(keys[2], lead + leaf.shape[1:]))
        extras = jax.tree.map(noise, shapes)
        if isinstance(self.space, spaces.Discrete):
            actions = jax.random.randint(keys[3], lead, 0, int(self.space.n))
        else:
            actions = jax.random.uniform(keys[3], (*lead, *self.space.shape), minval=-1.0)
        ends = jax.random.bernoulli(keys[4], 0.3, (2, *lead))
        return Transition(obs, actions, jax.random.normal(keys[5], lead), next_obs, *ends, extras)


def avals(tree):
    """Return the structure, and what jit looks at in each leaf."""
    kinds = [(leaf.shape, leaf.dtype, getattr(leaf, "weak_type", False)) for leaf in jax.tree.leaves(tree)]
    return jax.tree.structure(tree), kinds


def changed_floats(tree, change, where=lambda path: True):
    """Return `tree` with `change` applied to the float leaves whose path satisfies `where`."""

    def one(path, leaf):
        is_float = jnp.issubdtype(leaf.dtype, jnp.floating)
        return jnp.asarray(change(plain(leaf))) if is_float and where(jax.tree_util.keystr(path)) else leaf

    return jax.tree.map_with_path(one, tree)


def equations(jaxpr):
    """Yield every equation of `jaxpr`, those of its inner programs included."""
    inner = lambda value: hasattr(getattr(value, "jaxpr", value), "eqns")
    for equation in jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=inner):
            if inner(value):
                yield from equations(getattr(value, "jaxpr", value))


def pairs():
    """Return every pair of members."""
    return itertools.combinations(range(SEEDS), 2)
