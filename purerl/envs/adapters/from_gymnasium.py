"""Any Gymnasium environment, for `purerl.run`: many copies that step in Python, side by side.

Ends and resets stay apart: copies never reset themselves (`AutoresetMode.DISABLED`), or do so within the
step that ended the episode and return its last observation (`SAME_STEP`). Gymnasium's default, `NEXT_STEP`,
whose step after an end ignores the action, is refused.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from purerl.config import ConfigError, Rule, did_you_mean, validate
from purerl.envs.adapters.gymnasium_spaces import (
    as_ours,
    check_actions,
    copied,
    flattened,
    our_observations,
    unflattened,
)
from purerl.envs.adapters.gymnasium_trial import refuse_running_statistics, try_env
from purerl.spaces import first_choice
from purerl.types import HostEnv, PyTree

PREFIX = "gym:"
ATARI_FRAMES = 108_000
"""Most frames of an Atari game, half an hour: 27,000 steps of four frames."""
MAX_STEPS = 100_000
"""Steps after which the episodes of an evaluation end, of environments without a time limit."""
EXTRAS = {"ale_py": "atari", "box2d": "box2d", "pygame": "render"}
"""Module -> the extra of purerl that installs it."""


def make(env: str, engine: str = "auto", vectorization: str = "sync", **options: Any) -> HostEnv:
    """Return the Gymnasium environment with id `env`; an Atari game with its standard preprocessing.

    That is four stacked frames `[4, 84, 84]` uint8, in grey, each the maximum of the last two of four
    frames with the same action, up to 30 no-ops at the start, and rewards clipped to [-1, 1] in training,
    not in evaluations (Mnih et al. 2015); sticky actions are those of the id, 0.25 in version 5.

    Args:
        env: Gymnasium's id, such as "LunarLander-v3" or "ALE/Breakout-v5".
        engine: only auto, since the environment has its own.
        vectorization: "sync" steps the copies one after the other, "async" each in a process of its own.
        **options: arguments of the environment, and `max_episode_steps`.

    Raises:
        ConfigError: for an unknown id, one with a module path, one that needs an extra that is not
            installed, an invalid option, or spaces that no algorithm can use.
    """
    if engine != "auto":
        raise ConfigError("engine", engine, f"auto, because {PREFIX}{env} has its own")
    if ":" in env:
        what = "an id without a module to import"
        raise ConfigError("env", PREFIX + env, what, "Import the module in Python before.")
    spec = _spec(env)
    if spec.vector_entry_point == "ale_py.vector_env:AtariVectorEnv":
        return _atari(env, spec, vectorization, options)
    make_one = partial(gymnasium.make, env, disable_env_checker=True, **options)
    return from_gymnasium(make_one, name=PREFIX + env, vectorization=vectorization)


def from_gymnasium(
    make_one: Callable[[], gymnasium.Env], *, name: str | None = None, vectorization: str = "sync"
) -> HostEnv:
    """Return your own environment with Gymnasium's interface, in any wrappers, for `purerl.run`.

    Observations that are no Box are flattened, an index one-hot; a Dict with images stays one of these and of
    the other parts, each flattened. Numbers become float32, uint8 stays.

    Args:
        make_one: makes one copy; each copy has its own random numbers.
        name: in messages and logs; by default its id, or its class.
        vectorization: see `make`.

    Raises:
        ConfigError: if it cannot be made, if no algorithm can use its spaces, or if its first reset or step
            returns something else than they say.
    """
    validate("vectorization", vectorization, Rule("choice", options=("sync", "async")))
    if isinstance(make_one, gymnasium.Env | VectorEnv) or not callable(make_one):
        what = f"a function that makes one copy, such as lambda: MyEnv(), got {_kind(make_one)}"
        raise ConfigError("make_one", make_one, what)

    def copy() -> gymnasium.Env:
        env = make_one()
        refuse_running_statistics(env)
        if not isinstance(env, gymnasium.Env):
            what = f"a function that returns a gymnasium.Env, got one that returns {type(env).__name__}"
            raise ConfigError("make_one", make_one, what)
        for space in ("observation_space", "action_space"):
            if not isinstance(getattr(env, space, None), spaces.Space):
                raise ConfigError("env", type(env.unwrapped).__name__, f"an environment with {space}")
        return flattened(env)

    env = _tried(copy, name or "env")
    tried = weakref.ref(env.unwrapped)
    try:
        called: str = name or (f"{PREFIX}{env.spec.id}" if env.spec else type(env.unwrapped).__name__)
        space = our_observations(env.observation_space, called)
        limit = env.spec and env.spec.max_episode_steps
        check_actions(env.action_space, called)
        try_env(unflattened(env), called)
    finally:
        env.close()

    def make_vector(num_envs: int, evaluation: bool) -> HostVector:
        copies = [lambda: Plain(copy())] * num_envs
        mode = AutoresetMode.DISABLED
        if vectorization == "sync":
            vector = SyncVectorEnv(copies, autoreset_mode=mode)
            made = [one.unwrapped for one in vector.envs]
            if len({id(one) for one in (tried(), *made)}) <= num_envs:
                what = "a function that makes a new copy at each call, got the same again"
                raise ConfigError("make_one", make_one, what)
            return HostVector(vector, space)
        return HostVector(AsyncVectorEnv(copies, context="spawn", autoreset_mode=mode), space)

    return HostEnv(called, space, env.action_space, limit or MAX_STEPS, make_vector)


class Plain(gymnasium.Wrapper):
    """An environment whose observations are its own arrays, and whose infos, which nothing reads, are empty.

    Copies may share an array that they write into; infos may have no common layout, or not fit in a pipe.
    """

    def reset(self, **options: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """Return `(obs, {})`."""
        return copied(self.env.reset(**options)[0]), {}

    def step(self, action: Any) -> tuple[np.ndarray, Any, Any, Any, dict[str, Any]]:
        """Return `(obs, reward, terminated, truncated, {})`."""
        obs, reward, terminated, truncated, _ = self.env.step(action)
        return copied(obs), reward, terminated, truncated, {}


class HostVector:
    """Copies of an environment, stepped together; ended ones wait until `restart`.

    Args:
        vector: in auto-reset mode DISABLED or SAME_STEP.
        space: of one observation, as purerl sees it.
        seeds: converts seeds to the type that `vector.reset` takes.
    """

    def __init__(self, vector: VectorEnv, space: spaces.Space, seeds: Callable[..., Any] = list):
        mode = vector.metadata.get("autoreset_mode")
        assert mode in (AutoresetMode.DISABLED, AutoresetMode.SAME_STEP), mode
        self._seeds = seeds
        self._vector, self._space, self._resets = vector, space, mode == AutoresetMode.SAME_STEP
        actions = vector.single_action_space
        self._first_action = first_choice(actions)
        self._action_dtype = actions.dtype
        self._obs: PyTree = None

    def reset(self, seeds: Sequence[int]) -> PyTree:
        """Begin an episode in every copy, with its own seed; return the observations `[M, *O]`."""
        obs, _ = self._vector.reset(seed=self._seeds(seeds))
        self._obs = as_ours(self._space, obs)
        return self._obs

    def step(self, action: np.ndarray) -> tuple[PyTree, np.ndarray, np.ndarray, np.ndarray]:
        """Take `action [M, *A]`; return `(next_obs, reward, terminated, truncated)`, before any reset."""
        command = (action + self._first_action).astype(self._action_dtype)
        obs, reward, *flags, info = self._vector.step(command)
        terminated, truncated = (np.asarray(flag, bool) for flag in flags)
        self._obs = next_obs = as_ours(self._space, obs)
        if self._resets and (ended := terminated | truncated).any():
            final = as_ours(self._space, info["final_obs"])
            next_obs = np.where(ended.reshape(-1, *[1] * (final.ndim - 1)), final, next_obs)
        return next_obs, np.asarray(reward, np.float32), terminated, truncated

    def restart(self, ended: np.ndarray) -> PyTree:
        """Begin a new episode in the copies that `ended [M]`; return the observations of all, `[M, *O]`."""
        if not self._resets and ended.any():
            obs, _ = self._vector.reset(options={"reset_mask": ended})
            self._obs = as_ours(self._space, obs)
        return self._obs

    def picture(self) -> np.ndarray:
        """Return the picture of the first copy, `[height, width, 3]` uint8: its own, or its observation.

        Raises ConfigError if it has neither.
        """
        if self._vector.render_mode == "rgb_array" and (frames := self._vector.render()) is not None:
            return np.asarray(frames[0], np.uint8)
        stacked = isinstance(self._space, spaces.Box) and self._space.shape[1:] == (84, 84)
        if stacked and self._space.dtype == np.uint8:
            newest = self._obs[0, -1]
            return np.repeat(newest[..., None], 3, axis=-1)
        what = "an environment with pictures: render_mode='rgb_array', or stacked frames"
        raise ConfigError("env", str(self._vector.spec and self._vector.spec.id), what)

    def close(self) -> None:
        """End the copies, and their processes."""
        self._vector.close()


def _kind(value: Any) -> str:
    return "one environment" if isinstance(value, gymnasium.Env | VectorEnv) else f"a {type(value).__name__}"


def _spec(env: str) -> Any:
    """Return Gymnasium's entry for `env`. Raise ConfigError for an unknown id."""
    if env.startswith("ALE/"):
        _import_atari(env)
    try:
        return gymnasium.spec(env)
    except gymnasium.error.Error:
        hint = did_you_mean(env, gymnasium.registry).replace("mean ", f"mean {PREFIX}")
        raise ConfigError("env", PREFIX + env, "an id that Gymnasium has", hint) from None


def _import_atari(env: str) -> None:
    try:
        import ale_py
    except ImportError as error:
        raise _missing("ale_py", PREFIX + env) from error
    gymnasium.register_envs(ale_py)


def _atari(env: str, spec: Any, vectorization: str, options: dict[str, Any]) -> HostEnv:
    """Return an Atari game, vectorised and preprocessed by the emulator's own threads."""
    validate("vectorization", vectorization, Rule("choice", options=("sync",)))
    skip = (spec.kwargs | options)["frameskip"]
    validate("frameskip", skip, Rule("count", 1, ATARI_FRAMES))
    steps = options.pop("max_episode_steps", ATARI_FRAMES // skip)
    validate("max_episode_steps", steps, Rule("count", 1))
    frames = options.setdefault("max_num_frames_per_episode", steps * skip)
    validate("max_num_frames_per_episode", frames, Rule("count", skip))

    def vector(num_envs: int, **more: Any) -> VectorEnv:
        settings: dict[str, Any] = {"autoreset_mode": AutoresetMode.SAME_STEP} | options | more
        return gymnasium.make_vec(env, num_envs, vectorization_mode="vector_entry_point", **settings)

    one = _tried(partial(vector, 1), PREFIX + env)
    space, actions = one.single_observation_space, one.single_action_space
    one.close()

    def make_vector(num_envs: int, evaluation: bool) -> HostVector:
        whole_games = {"reward_clipping": False, "episodic_life": False} if evaluation else {}
        return HostVector(vector(num_envs, **whole_games), our_observations(space, env), np.array)

    return HostEnv(PREFIX + env, our_observations(space, env), actions, frames // skip, make_vector)


def _tried(make_one: Callable[[], Any], name: str) -> Any:
    """Return `make_one()`. Raise ConfigError with the reason if it fails."""
    try:
        return make_one()
    except ConfigError:
        raise
    except (ImportError, gymnasium.error.DependencyNotInstalled) as error:
        missing = getattr(error, "name", None) or getattr(error.__cause__, "name", None)
        raise _missing(missing, name, str(error)) from error
    except (TypeError, ValueError, AssertionError, gymnasium.error.Error) as error:
        what = f"an environment that can be made with these options, got {type(error).__name__}: {error}"
        raise ConfigError("env", name, what) from error


def _missing(module: str | None, name: str, why: str = "") -> ConfigError:
    root = (module or "").partition(".")[0].lower()
    what = f"an environment whose packages are installed, got none of {why or root}"
    extra = EXTRAS.get(root)
    return ConfigError("env", name, what, f'Try pip install "purerl[{extra}]".' if extra else "")
