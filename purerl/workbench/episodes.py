"""Episodes of a trained policy as pictures, one at a time: what films and windows show."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purerl import evaluate as inside
from purerl.config import Config, ConfigError, Rule, validate
from purerl.experiment.loading import load
from purerl.experiment.record import members_of, read_record
from purerl.make import env_for, make_env, make_policy
from purerl.train import evaluation_key
from purerl.types import Env, HostEnv, Key
from purerl.user_paths import user_path


class Frame(NamedTuple):
    """A moment of an episode."""

    draw: Callable[[], np.ndarray] | None
    """Returns its picture, `[height, width, 3]` uint8, until the next frame is taken. None at the end of an
    episode in Python, where the environment may show the next one already."""
    step: int
    total: float
    """Undiscounted return so far."""


class Player(NamedTuple):
    """A member's policy on its task, ready to be shown."""

    title: str
    prepare: Callable[[], Any]
    """Compile what an episode needs; in any thread."""
    play: Callable[[Key], Iterator[Frame]]
    """Begin an episode. The key is consumed."""
    close: Callable[[], None]

    def episode(self, seed: int, index: int, stochastic: bool) -> Iterator[Frame]:
        """Begin the episode `index` of those with this `seed`."""
        return self.play(evaluation_key(jax.random.key(seed), jnp.int32(index), stochastic))


def make_player(
    run_dir: str | os.PathLike[str],
    *,
    member: int,
    max_steps: int,
    best: bool,
    itr: int | None,
    stochastic: bool,
    width: int,
    height: int,
    camera: Any,
    env: Env | HostEnv | None,
    networks: Mapping[str, Any] | None,
    block: int = 1,
) -> Player:
    """Return the player of a member of a run; the arguments are those of `record_video`.

    `block` pictures are drawn in one call. Nothing is compiled yet. Raises ConfigError for an argument that
    is not allowed, or an environment without pictures, and CheckpointError if no checkpoint can be read.
    """
    validate("max_steps", max_steps, Rule("count", 1, 100_000))
    for name, value in {"width": width, "height": height}.items():
        validate(name, value, Rule("count", 16, 4096))
    cfg, state = load(run_dir, best=best, itr=itr, policy_only=True, env=env, networks=networks)
    task = _drawn(cfg) if env is None else env_for(cfg, env)
    if not isinstance(task, HostEnv) and getattr(task, "render", None) is None:
        raise ConfigError("env", task.name, "an environment with pictures; this one has no render")
    policy = make_policy(cfg, state, member, task, networks, explore=stochastic)
    name = members_of(read_record(user_path("run_dir", run_dir), "run_dir")).names[member]
    title, length = f"{cfg.algo} on {task.name}, {name}", min(max_steps, task.max_episode_steps)
    if isinstance(task, HostEnv):
        return _host_player(title, task, policy, length)
    view: dict[str, Any] = {"width": width, "height": height}
    view |= {} if camera is None else {"camera": camera}
    return _player(title, task, policy, length, view, block)


def _drawn(cfg: Config) -> Env | HostEnv:
    """Return the environment that `cfg` names; one of Gymnasium's so that it draws itself."""
    if cfg.env.startswith("gym:") and not cfg.env.startswith("gym:ALE/"):
        return make_env(cfg.env, cfg.engine, **{**cfg.env_kwargs, "render_mode": "rgb_array"})
    return env_for(cfg, None)


def _player(
    title: str, env: Any, policy: inside.Policy, length: int, view: Mapping[str, Any], block: int
) -> Player:
    """Return a player whose episodes run inside the program, and are drawn afterwards."""

    def episode(key: Key):
        key_reset, key_steps = inside.keys_of(key)

        def step(loop, time):
            obs, state, carry, alive = loop
            key_act, key_env = inside.keys_at(key_steps, time)
            row = jax.tree.map(lambda leaf: leaf[None], obs)
            action, carry = policy.act(carry, row, key_act)
            obs, state, reward, terminated, truncated, _ = env.step(key_env, state, action[0])
            still = alive & ~(terminated | truncated)
            return (obs, state, carry, still), (state, reward, alive)

        obs, state = env.reset(key_reset)
        loop = obs, state, policy.init(1), jnp.bool_(True)
        return state, jax.lax.scan(step, loop, jnp.arange(length))[1]

    compiled = functools.cache(lambda: jax.jit(episode).lower(jax.random.key(0)).compile())

    def play(key: Key) -> Iterator[Frame]:
        first, (states, rewards, alive) = compiled()(key)
        shown = int(np.asarray(alive).sum())
        totals = np.cumsum(np.asarray(rewards), dtype=float)

        @functools.lru_cache(1)
        def pictures(start: int) -> np.ndarray:
            part = slice(start, min(start + block, shown))
            return env.render(jax.tree.map(lambda leaf: leaf[part], states), **view)

        yield Frame(lambda: env.render(first, **view), 0, 0.0)
        for i in range(shown):
            yield Frame(lambda i=i: pictures(i - i % block)[i % block], i + 1, float(totals[i]))

    return Player(title, compiled, play, lambda: None)


def _host_player(title: str, env: HostEnv, policy: inside.Policy, length: int) -> Player:
    """Return a player on an environment that steps in Python, whose pictures have their own view and size."""
    vector, act = env.make_vector(1, True), jax.jit(policy.act)

    def play(key: Key) -> Iterator[Frame]:
        key_reset, key_steps = inside.keys_of(key)
        seed = int(jax.random.randint(key_reset, (), 0, 2**31 - 1))
        obs, carry, total = vector.reset([seed]), policy.init(1), 0.0
        for time in range(length):
            yield Frame(vector.picture, time, total)
            action, carry = act(carry, obs, inside.keys_at(key_steps, time)[0])
            obs, reward, terminated, truncated = vector.step(np.asarray(action))
            total += float(reward[0])
            if terminated[0] or truncated[0]:
                break
        yield Frame(None, time + 1, total)

    return Player(title, lambda: None, play, vector.close)
