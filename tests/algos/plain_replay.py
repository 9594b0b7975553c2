"""SAC on invented rollouts, and the batches of its updates drawn again, plainly, in float64."""

import functools
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import numpy as np
from gymnasium import spaces
from plain_networks import double
from tiny import tiny

from purerl import registry
from purerl.types import EnvSpec, Transition

OBSERVATIONS = spaces.Box(-np.inf, np.inf, (3,), np.float32)
BOX = EnvSpec("invented", OBSERVATIONS, spaces.Box(-2.0, 5.0, (2,), np.float32))
DISCRETE = EnvSpec("invented", OBSERVATIONS, spaces.Discrete(3))
FIELDS = {
    "num_envs": 3,
    "buffer_size": 24,
    "batch_size": 16,
    "updates_per_step": 2,
    "total_timesteps": 200,
    "hidden_sizes": (7, 6),
    "learning_rate": 0.01,
    "tau": 0.3,
    "gamma": 0.9,
}
WRITES, UPDATES = 11, 3
"""Rollouts, and how many of them, the last ones, have an update."""
KEYS = jax.random.split(jax.random.key(6), UPDATES)


def rollout(seed: int, steps: int, num_envs: int, space: spaces.Space) -> Transition:
    """Return a rollout `[T, N]` whose episodes end often, and in all ways."""
    noise, lead = np.random.default_rng(seed), (steps, num_envs)
    obs, next_obs = noise.normal(size=(2, *lead, 3)).astype(np.float32)
    action = noise.uniform(-1, 1, (*lead, 2)).astype(np.float32)
    if isinstance(space, spaces.Discrete):
        action = noise.integers(0, space.n, lead, np.int32)
    reward = noise.normal(size=lead).astype(np.float32)
    kind = (3 * (seed * steps * num_envs + np.arange(steps * num_envs)) % 7).reshape(lead)
    return Transition(obs, action, reward, next_obs, (kind == 1) | (kind == 3), (kind == 2) | (kind == 3))


class Play:
    """SAC and its states before and after each of the last updates of a short history."""

    def __init__(self, spec: EnvSpec = BOX, weights: int = 1, **fields: Any):
        env = "pendulum" if spec is BOX else "cartpole"
        self.cfg: Any = tiny("sac", env, **(FIELDS | fields))
        self.space, self.weights = spec.action_space, weights  # the key of the first ones
        self.algo = registry.algorithm_module(self.cfg).make(self.cfg, spec)
        self.num_updates = Fraction(self.cfg.updates_per_step).numerator
        shape = self.algo.num_steps, self.cfg.num_envs
        self.history = [rollout(seed, *shape, self.space) for seed in range(WRITES)]
        self.steps = [i * shape[0] * shape[1] for i in range(WRITES)][-UPDATES:]

    @functools.cached_property
    def trace(self) -> tuple[Any, Any, Any]:
        """`(first state, the first and those after each update, metrics of each update)`, `[UPDATES]`."""
        stack = lambda rollouts: jax.tree.map(lambda *leaves: np.stack(leaves), *rollouts)
        warmup, rows = stack(self.history[:-UPDATES]), stack(self.history[-UPDATES:])

        @jax.jit
        def play(warmup, *rows):
            def step(state, row):
                new, metrics = self.algo.update(state, *row)
                return new, (new, metrics)

            fresh = self.algo.init(jax.random.key(self.weights))
            start, _ = jax.lax.scan(lambda state, row: (self.algo.observe(state, row), ()), fresh, warmup)
            return fresh, start, *jax.lax.scan(step, start, rows)[1]

        fresh, start, states, metrics = play(warmup, rows, KEYS, np.array(self.steps, np.int32))
        both = lambda first, rest: np.concatenate([np.asarray(first)[None], rest])
        return fresh, jax.tree.map(both, start, states), metrics

    def state(self, i: int) -> Any:
        """Return the state after `i` updates; of the last one for -1."""
        return jax.tree.map(lambda leaf: leaf[i], self.trace[1])

    def metrics(self, i: int) -> dict[str, float]:
        return {name: float(value[i]) for name, value in self.trace[2].items()}


# The replay buffer


class Rows(NamedTuple):
    """A batch in float64."""

    index: np.ndarray
    weight: np.ndarray
    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    next_obs: np.ndarray
    discount: np.ndarray


class Memory:
    """Returns over several steps, drawn from the newest rows of a stream, and their priorities."""

    def __init__(self, play: Play, update: int):
        cfg = self.cfg = play.cfg
        seen = play.history[: WRITES - UPDATES + update + 1]
        self.stream = [jax.tree.map(lambda leaf, t=t: leaf[t], r) for r in seen for t in range(len(r.reward))]
        self.capacity = len(play.trace[0].replay.rows.reward)
        places = [(t, n) for t in range(len(self.stream)) for n in range(cfg.num_envs)]
        self.slots = {i % self.capacity: place for i, place in enumerate(places)}
        self.scale = self.reward_scale() if cfg.normalize_reward else 1.0
        self.step = play.steps[update]
        if cfg.prioritised:
            before = play.state(update).replay
            self.priority = double(before.priority.levels[0]).reshape(-1)[: self.capacity]
            self.largest = float(before.priority.largest)
            new = int(before.head) + np.arange(len(seen[-1].reward) * cfg.num_envs)
            self.priority[new] = self.largest

    def reward_scale(self) -> float:
        """Return `max(deviation of G, max |G| / 5)`, with G the discounted return of an episode so far."""
        found, so_far = [], np.zeros(self.cfg.num_envs)
        for row in self.stream:
            so_far = double(row.reward) + self.cfg.gamma * so_far
            found.append(so_far)
            so_far = np.where(row.terminated | row.truncated, 0, so_far)
        return max(np.std(found), np.abs(found).max() / 5)

    def follow(self, t: int, n: int) -> tuple[float, float, int]:
        """Return the discounted rewards from a step on, the discount behind them, and their last step."""
        total, discount = 0.0, 1.0
        for k in range(self.cfg.n_step):
            row = self.stream[t + k]
            total += discount * float(row.reward[n])
            discount *= self.cfg.gamma
            if row.terminated[n]:
                return total, 0.0, t + k
            if row.truncated[n] or t + k == len(self.stream) - 1:
                break
        return total, discount, t + k

    def draw(self, key: jax.Array) -> Rows:
        size, weight = self.cfg.batch_size, np.ones(self.cfg.batch_size)
        if self.cfg.prioritised:
            index = self.by_priority(key, size)
            done = self.step / self.cfg.total_timesteps
            beta = self.cfg.priority_beta * (1 - done) + done
            weight = (self.capacity * self.priority[index] / self.priority.sum()) ** -beta
        else:
            index = np.asarray(jax.random.bits(key, (size,), np.uint32)) % self.capacity
        places = [self.slots[i] for i in index]
        rows = [self.stream[t] for t, _ in places]
        total, discount, last = zip(*(self.follow(*place) for place in places), strict=True)
        return Rows(
            index,
            weight / weight.max(),
            double([row.obs[n] for row, (_, n) in zip(rows, places, strict=True)]),
            np.array([row.action[n] for row, (_, n) in zip(rows, places, strict=True)]),
            double(total) / self.scale,
            double([self.stream[t].next_obs[n] for t, (_, n) in zip(last, places, strict=True)]),
            double(discount),
        )

    def by_priority(self, key: jax.Array, size: int) -> np.ndarray:
        """Draw a block of 16 rows, and a row of it, each by a uniform number of its own."""
        blocks = np.zeros(-(-self.capacity // 16) * 16)
        blocks[: self.capacity] = self.priority
        blocks, found = blocks.reshape(-1, 16), np.zeros(size, int)
        levels = [blocks.sum(1)[None], blocks] if len(blocks) > 1 else [blocks]
        for level, uniform in zip(levels, double(jax.random.uniform(key, (len(levels), size))), strict=True):
            sums = np.cumsum(level[found], axis=1)
            found = len(level[0]) * found + (sums <= (uniform * sums[:, -1])[:, None]).sum(1)
        return found

    def give_back(self, index: np.ndarray, error: np.ndarray) -> None:
        if self.cfg.prioritised:
            new = (np.abs(error) + 1e-6) ** self.cfg.priority_alpha
            for i in set(index.tolist()):
                self.priority[i] = new[index == i].max()
            self.largest = max(self.largest, new.max())
