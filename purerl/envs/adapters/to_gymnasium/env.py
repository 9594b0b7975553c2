"""Environments of purerl as Gymnasium's: `to_gymnasium` makes one, `to_gymnasium_vector` many side by side.

    gymnasium.register(
        "purerl/cartpole-v0",
        entry_point=purerl.to_gymnasium,
        vector_entry_point=purerl.to_gymnasium_vector,
        kwargs={"env": purerl.make_env("cartpole")},
    )
    env = gymnasium.make("purerl/cartpole-v0")
    envs = gymnasium.make_vec("purerl/cartpole-v0", num_envs=64, autoreset_mode="next_step")

**Seeds.** Seed s is the root `jax.random.key(s)`, and call i after it, resets and steps counted alike from 0,
gets the key `fold_in(root, i)`. A reset without a seed goes on counting. Row i of many has seed s + i, so it
plays what one environment of seed s + i plays, up to the rounding of another program.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from purerl.config import ConfigError, count, did_you_mean, validate_value
from purerl.envs.adapters.to_gymnasium.compiled_env import Packed, programs_of, roots_of
from purerl.envs.adapters.to_gymnasium.io import (
    Actions,
    entropy,
    final_infos,
    masked,
    plain,
    reset_mask,
    row_seeds,
)
from purerl.types import Env, PyTree

FPS = 30
"""`metadata["render_fps"]`: how fast a film of the pictures should run. No environment says so."""
MODES = {mode.name.lower(): mode for mode in AutoresetMode}
PARTS = ("name", "observation_space", "action_space", "reset", "step")


def to_gymnasium(env: Env, *, params: PyTree = None, render_mode: str | None = None) -> gymnasium.Env:
    """`env` as a `gymnasium.Env`, with observations and infos in NumPy arrays and Python numbers.

    Actions are in the units of `env.action_space`. `np_random` is seeded as Gymnasium does, and not used.

    Args:
        env: the environment.
        params: its parameters; `env.default_params` if None.
        render_mode: None, or "rgb_array" if `env.render` exists: then `render()` is the picture of the
            state, `[height, width, 3]` uint8.

    Raises:
        ConfigError: for an argument that cannot be; from `step`, before anything is computed, for an
            action that is not in the action space; from `reset`, for options, of which there are none.
        gymnasium.error.ResetNeeded: from `step`, before the first reset or after an episode's end.
    """
    return _One(env, params, render_mode)


def to_gymnasium_vector(
    env: Env, num_envs: int, *, params: PyTree = None, autoreset_mode: str | AutoresetMode = "same_step"
) -> gymnasium.vector.VectorEnv:
    """`num_envs` of `env` as one `gymnasium.vector.VectorEnv`: one compiled program a step.

    Rewards are float64, and infos are laid out, as `gymnasium.vector.SyncVectorEnv` has them. A reset,
    automatic or with `options={"reset_mask": [num_envs] bool}`, changes no row but those that it is for.
    `seed` of `reset` is that of row 0, the next row's is 1 more; or there is one for each row, where None
    goes on with the row's own stream.

    Args:
        env: the environment.
        num_envs: how many rows.
        params: parameters of all of them; `env.default_params` if None.
        autoreset_mode: what follows the end of an episode. "same_step": its row is reset in the same
            step, and `info["final_obs"]` and `info["final_info"]` hold what the step led to. "next_step":
            the next step resets it in place of acting, with reward 0. "disabled": it must be reset, with
            a `reset_mask`, before the next step. Or a `gymnasium.vector.AutoresetMode`.

    Raises:
        ConfigError: for an argument that cannot be; from `step`, before anything is computed, for an
            action that is not in the action space; from `reset`, for a seed or options that cannot be.
        gymnasium.error.ResetNeeded: from `step`, before the first reset or, where "disabled", after the
            end of an episode; from `reset`, for a mask before the first reset.
    """
    return _Many(env, num_envs, params, autoreset_mode)


class _One(gymnasium.Env):
    """See `to_gymnasium`."""

    def __init__(self, env: Env, params: PyTree, render_mode: str | None):
        _check_env(env)
        render = getattr(env, "render", None)
        modes = ["rgb_array"] if render else []
        if render_mode is not None and render_mode not in modes:
            what = "None and rgb_array are" if modes else f"{env.name} has no pictures, so only None is"
            raise ConfigError("render_mode", render_mode, what)
        self.render_mode, self.metadata = render_mode, {"render_modes": modes, "render_fps": FPS}
        self.observation_space, self.action_space = env.observation_space, env.action_space
        self._render, self._programs = render, programs_of(env)
        self._params = jax.tree.map(jnp.asarray, params)
        self._actions = Actions(env.action_space, ())
        self._row: Packed | None = None
        self._ended = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        if options:
            raise ConfigError("options", options, "there are none")
        super().reset(seed=seed)
        if self._row is None or seed is not None:
            root = roots_of([entropy(self) if seed is None else seed])[0]
            self._row, obs = self._programs.start(root, self._params)
        else:
            self._row, obs = self._programs.restart(self._row, self._params)
        self._ended = False
        return _as(self.observation_space, obs.read()), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        if self._row is None or self._ended:
            when = "after the end of an episode" if self._ended else "before calling env.reset()"
            raise ResetNeeded(f"Cannot call env.step() {when}")
        action = self._actions.read(action)
        self._row, out = self._programs.step(self._row, action, self._params)
        obs, reward, terminated, truncated, info = out.read()
        terminated, truncated = bool(terminated), bool(truncated)
        self._ended = terminated or truncated
        return _as(self.observation_space, obs), float(reward), terminated, truncated, plain(info)

    def render(self) -> np.ndarray | None:
        if self.render_mode is None or self._render is None:
            gymnasium.logger.warn('Nothing to render: make it with render_mode="rgb_array"')
            return None
        if self._row is None:
            raise ResetNeeded("Cannot call env.render() before calling env.reset()")
        return np.asarray(self._render(self._row.read().state))


class _Many(gymnasium.vector.VectorEnv):
    """See `to_gymnasium_vector`."""

    def __init__(self, env: Env, num_envs: int, params: PyTree, autoreset_mode: str | AutoresetMode):
        _check_env(env)
        validate_value("num_envs", num_envs, count(1))
        self.num_envs, self._mode = int(num_envs), _mode(autoreset_mode)
        self.metadata = {"autoreset_mode": self._mode, "render_modes": []}
        self.single_observation_space, self.single_action_space = env.observation_space, env.action_space
        self.observation_space = batch_space(env.observation_space, self.num_envs)
        self.action_space = batch_space(env.action_space, self.num_envs)
        self._params, self._programs = jax.tree.map(jnp.asarray, params), programs_of(env)
        self._actions = Actions(env.action_space, (self.num_envs,))
        self._rows: Packed | None = None
        self._obs: Any = None
        """Packed: what was last returned."""
        self._ended = np.zeros(self.num_envs, bool)
        """Whose episode ended and was not reset yet."""

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        seeds, chosen = row_seeds(seed, self.num_envs), reset_mask(options, self.num_envs)
        if self._rows is None and not chosen.all():
            raise ResetNeeded("Cannot reset a part before all rows have been reset once")
        super().reset(seed=seeds[0] if isinstance(seed, int | np.integer) else None)
        if self._rows is None:
            first = entropy(self) if None in seeds else 0
            roots = roots_of([first + i if own is None else own for i, own in enumerate(seeds)])
            self._rows, self._obs = self._programs.start_all(roots, self._params)
        else:
            if seed is not None:
                roots, seeded = roots_of([own or 0 for own in seeds]), [own is not None for own in seeds]
                (self._rows,) = self._programs.reseed(self._rows, roots, chosen & seeded)
            self._rows, self._obs = self._programs.restart_all(self._rows, self._obs, chosen, self._params)
        self._ended = self._ended & ~chosen
        return _as(self.single_observation_space, self._obs.read()), {}

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        if self._rows is None:
            raise ResetNeeded("Cannot call env.step() before calling env.reset()")
        waiting = self._ended
        if self._mode is AutoresetMode.DISABLED and waiting.any():
            raise ResetNeeded(f"Cannot call env.step() before rows {np.flatnonzero(waiting)} are reset")
        actions = self._actions.read(actions, ~waiting)
        step = self._programs.step_all[self._mode]
        self._rows, self._obs, final, out = step(self._rows, actions, waiting, self._params)
        reward, terminated, truncated, info = out.read()
        ended, live, space = terminated | truncated, ~waiting, self.single_observation_space
        infos = {}
        if self._mode is AutoresetMode.SAME_STEP:
            self._ended, live = waiting, ~ended
            if ended.any():
                infos = final_infos(_as(space, final.read()), info, ended)
        else:
            self._ended = ended
        obs = _as(space, self._obs.read())
        return obs, reward.astype(np.float64), terminated, truncated, infos | masked(info, live)


def _check_env(env: Any) -> None:
    missing = [name for name in PARTS if not hasattr(env, name)]
    if missing:
        what = f"an environment of purerl, as purerl.make_env makes them, has {', '.join(PARTS)}"
        raise ConfigError("env", env, what)
    if not isinstance(env.observation_space, spaces.Box):
        raise ConfigError("env", env.name, f"its observations must be a Box, and are {env.observation_space}")
    if not isinstance(env.action_space, spaces.Box | spaces.Discrete):
        raise ConfigError("env", env.name, f"its actions must be a Box or Discrete: {env.action_space}")


def _mode(mode: Any) -> AutoresetMode:
    if isinstance(mode, AutoresetMode):
        return mode
    if not isinstance(mode, str) or mode not in MODES:
        hint = did_you_mean(mode, MODES) if isinstance(mode, str) else ""
        raise ConfigError("autoreset_mode", mode, f"one of {', '.join(MODES)}", hint)
    return MODES[mode]


def _as(space: spaces.Space, array: np.ndarray) -> np.ndarray:
    return array.astype(space.dtype, copy=False)
