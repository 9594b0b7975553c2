"""Any Gymnasium environment, for `purerl.run`: many copies that step in Python, side by side.

What ends is told apart from what is reset: copies never reset themselves (`AutoresetMode.DISABLED`), or
do so within the step that ended the episode and hand over its last observation (`SAME_STEP`). In
Gymnasium's default, `NEXT_STEP`, the step after an end is filler, with an action that nobody took; it is
never used here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers import FlattenObservation

from purerl.config import ConfigError, choice, did_you_mean, validate_value
from purerl.types import HostEnv

PREFIX = "gym:"
ATARI_FRAMES = 108_000
"""Of an Atari game at most, half an hour: 27,000 steps of four frames."""
MAX_STEPS = 100_000
"""Where an evaluation gives up, of environments without a time limit."""
EXTRAS = {"ale_py": "atari", "box2d": "box2d", "imageio": "video", "pygame": "render"}
"""Which extra of purerl brings a module."""


def make(env: str, engine: str = "auto", vectorization: str = "sync", **options: Any) -> HostEnv:
    """The Gymnasium environment with id `env`; an Atari game comes with its standard preprocessing.

    That is four stacked frames `[4, 84, 84]` uint8, in grey, each the maximum of the last two of four
    frames with the same action, up to 30 no-ops at the start, and rewards clipped to [-1, 1] in training,
    not in evaluations (Mnih et al. 2015); sticky actions are those of the id, 0.25 in version 5.

    Args:
        env: Gymnasium's id, such as "LunarLander-v3" or "ALE/Breakout-v5".
        engine: auto; the environment brings its own.
        vectorization: "sync" steps the copies one after the other, "async" each in a process of its own.
        **options: what `gymnasium.make` passes to it; and `max_episode_steps`.

    Raises:
        ConfigError: for an unknown id, one with a module path, one that needs an extra that is not
            installed, a bad option, or spaces that no algorithm can use.
    """
    if engine != "auto":
        raise ConfigError("engine", engine, f"{PREFIX}{env} brings its own and takes only auto")
    if ":" in env:
        what = "an id may not name a module to import: import it yourself, and leave it out"
        raise ConfigError("env", PREFIX + env, what)
    spec = _spec(env)
    if spec.vector_entry_point == "ale_py.vector_env:AtariVectorEnv":
        return _atari(env, spec, vectorization, options)
    make_one = partial(gymnasium.make, env, disable_env_checker=True, **options)
    return from_gymnasium(make_one, name=PREFIX + env, vectorization=vectorization)


def from_gymnasium(
    make_one: Callable[[], gymnasium.Env], *, name: str | None = None, vectorization: str = "sync"
) -> HostEnv:
    """An environment of your own that follows Gymnasium's interface, wrapped as you like.

    Observations that are no Box are flattened, an index one-hot; numbers become float32, bytes stay bytes.

    Args:
        make_one: makes one copy; each copy has its own random numbers.
        name: what messages and logs call it; by default its id, or its class.
        vectorization: as `make` takes it.

    Raises:
        ConfigError: if it cannot be made, or if no algorithm can use its spaces.
    """
    validate_value("vectorization", vectorization, choice("sync", ("sync", "async")))
    if isinstance(make_one, gymnasium.Env | VectorEnv):
        what = "it must be a function that makes one copy, such as lambda: MyEnv(); a run needs many"
        raise ConfigError("make_one", make_one, what)

    def copy() -> gymnasium.Env:
        env = make_one()
        return env if isinstance(env.observation_space, spaces.Box) else FlattenObservation(env)

    env = _tried(copy, name or "env")
    try:
        called: str = name or (f"{PREFIX}{env.spec.id}" if env.spec else type(env.unwrapped).__name__)
        space, limit = _observations(env.observation_space, called), env.spec and env.spec.max_episode_steps
        _check_actions(env.action_space, called)
    finally:
        env.close()

    def make_vector(num_envs: int, evaluation: bool) -> HostVector:
        copies = [copy] * num_envs
        mode = AutoresetMode.DISABLED
        if vectorization == "sync":
            return HostVector(SyncVectorEnv(copies, autoreset_mode=mode), space)
        return HostVector(AsyncVectorEnv(copies, context="spawn", autoreset_mode=mode), space)

    return HostEnv(called, space, env.action_space, limit or MAX_STEPS, make_vector)


class HostVector:
    """Copies of an environment, stepped together; ended ones stand still until `restart`.

    Args:
        vector: resets nothing by itself, or within the step.
        space: of one observation, as purerl sees it.
        seeds: what `vector.reset` takes its seeds as.
    """

    def __init__(self, vector: VectorEnv, space: spaces.Box, seeds: Callable[..., Any] = list):
        mode = vector.metadata.get("autoreset_mode")
        assert mode in (AutoresetMode.DISABLED, AutoresetMode.SAME_STEP), mode
        self._seeds = seeds
        self._vector, self._space, self._resets = vector, space, mode == AutoresetMode.SAME_STEP
        actions = vector.single_action_space
        self._first_action = actions.start if isinstance(actions, spaces.Discrete) else 0
        self._action_dtype = actions.dtype
        self._obs = np.zeros((vector.num_envs, *space.shape), space.dtype)

    def reset(self, seeds: Sequence[int]) -> np.ndarray:
        """Begin an episode in every copy: `[M, *O]`. Each copy's random numbers come from its seed."""
        obs, _ = self._vector.reset(seed=self._seeds(seeds))
        return self._as_ours(obs)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """What `action [M, *A]` leads to: `(next_obs, reward, terminated, truncated)`, before any reset."""
        command = (action + self._first_action).astype(self._action_dtype)
        obs, reward, terminated, truncated, info = self._vector.step(command)
        self._obs = next_obs = self._as_ours(obs)
        if self._resets and (ended := terminated | truncated).any():
            final = self._as_ours(info["final_obs"])
            next_obs = np.where(ended.reshape(-1, *[1] * (obs.ndim - 1)), final, next_obs)
        return next_obs, np.asarray(reward, np.float32), terminated, truncated

    def restart(self, ended: np.ndarray) -> np.ndarray:
        """Begin a new episode in the copies that `ended [M]` names; the observations of all: `[M, *O]`."""
        if not self._resets and ended.any():
            obs, _ = self._vector.reset(options={"reset_mask": ended})
            self._obs = self._as_ours(obs)
        return self._obs

    def close(self) -> None:
        """End the copies, and their processes."""
        self._vector.close()

    def _as_ours(self, obs: np.ndarray) -> np.ndarray:
        return np.array(obs, self._space.dtype)  # a copy: Gymnasium may write into its own again


def _spec(env: str) -> Any:
    """Gymnasium's entry for `env`. Raises ConfigError."""
    if env.startswith("ALE/"):
        _import_atari(env)
    try:
        return gymnasium.spec(env)
    except gymnasium.error.Error:
        hint = did_you_mean(env, gymnasium.registry)
        hint = hint.replace("Did you mean ", f"Did you mean {PREFIX}")
        raise ConfigError("env", PREFIX + env, "Gymnasium has no such environment", hint) from None


def _import_atari(env: str) -> None:
    try:
        import ale_py
    except ImportError as error:
        raise _missing("ale_py", PREFIX + env) from error
    gymnasium.register_envs(ale_py)


def _atari(env: str, spec: Any, vectorization: str, options: dict[str, Any]) -> HostEnv:
    """An Atari game, vectorised and preprocessed by the emulator's own threads."""
    validate_value("vectorization", vectorization, choice("sync", ("sync",)))

    def vector(num_envs: int, **more: Any) -> VectorEnv:
        settings: dict[str, Any] = {"autoreset_mode": AutoresetMode.SAME_STEP} | options | more
        return gymnasium.make_vec(env, num_envs, vectorization_mode="vector_entry_point", **settings)

    one = _tried(partial(vector, 1), PREFIX + env)
    space, actions = one.single_observation_space, one.single_action_space
    one.close()
    settings = spec.kwargs | options
    limit = settings.get("max_num_frames_per_episode", ATARI_FRAMES) // settings["frameskip"]

    def make_vector(num_envs: int, evaluation: bool) -> HostVector:
        scores = {"reward_clipping": False} if evaluation else {}
        return HostVector(vector(num_envs, **scores), _observations(space, env), np.array)

    return HostEnv(PREFIX + env, _observations(space, env), actions, limit, make_vector)


def _tried(make_one: Callable[[], Any], name: str) -> Any:
    """What `make_one` makes. Raises ConfigError with the reason if it cannot."""
    try:
        return make_one()
    except (ImportError, gymnasium.error.DependencyNotInstalled) as error:
        missing = getattr(error, "name", None) or getattr(error.__cause__, "name", None)
        raise _missing(missing, name, str(error)) from error
    except (TypeError, ValueError, AssertionError, gymnasium.error.Error) as error:
        raise ConfigError("env", name, f"it cannot be made with these options: {error}") from error


def _missing(module: str | None, name: str, why: str = "") -> ConfigError:
    root = (module or "").partition(".")[0].lower()
    if extra := EXTRAS.get(root):
        return ConfigError("env", name, f'it needs the extra {extra}: pip install "purerl[{extra}]"')
    return ConfigError("env", name, f"it needs a package that is not installed: {why or root}")


def _observations(space: spaces.Space, name: str) -> spaces.Box:
    """`space` as purerl sees it: bytes, or float32. Raises ConfigError if it is no Box."""
    if not isinstance(space, spaces.Box):
        raise ConfigError("env", name, f"its observations must be a Box, and are {space}")
    if space.dtype == np.uint8:
        return space
    with np.errstate(over="ignore"):  # what float32 cannot hold is unbounded to it
        return spaces.Box(space.low.astype(np.float32), space.high.astype(np.float32))


def _check_actions(space: spaces.Space, name: str) -> None:
    """Raises ConfigError unless actions are an index or real numbers."""
    real = isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating)
    if not (isinstance(space, spaces.Discrete) or real):
        what = f"its actions must be a Discrete or a Box of real numbers, and are {space}"
        raise ConfigError("env", name, what, "A gymnasium.wrappers.TransformAction may make them so.")
