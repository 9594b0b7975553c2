"""An environment of purerl as a `gymnasium.Env`.

    gymnasium.register(
        "purerl/cartpole-v0",
        entry_point=purerl.to_gymnasium,
        vector_entry_point=purerl.to_gymnasium_vector,
        kwargs={"env": purerl.make_env("cartpole")},
    )
    env = gymnasium.make("purerl/cartpole-v0")
    envs = gymnasium.make_vec("purerl/cartpole-v0", num_envs=64, autoreset_mode="next_step")

**Seeds.** Seed s is the root `jax.random.key(s)`. Call i after it, resets and steps counted alike from 0,
gets the key `fold_in(root, i)`. A reset without a seed goes on counting. Row i of a vector environment has
seed s + i, so it plays what one environment of seed s + i plays, up to the rounding of another program.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.error import ResetNeeded

from purerl.config import ConfigError
from purerl.envs.adapters.to_gymnasium.compiled_env import Packed, programs_of, roots_of
from purerl.envs.adapters.to_gymnasium.io import Actions, check_spaces, entropy, plain
from purerl.types import Env, PyTree

FPS = 30
"""`metadata["render_fps"]`, frames per second of a video; environments declare none."""


def to_gymnasium(env: Env, *, params: PyTree = None, render_mode: str | None = None) -> gymnasium.Env:
    """Return `env` as a `gymnasium.Env`, with observations and infos in NumPy arrays and Python numbers.

    Actions are in the units of `env.action_space`. `np_random` is seeded as Gymnasium does, and not used.

    Args:
        env: the environment.
        params: its parameters; `env.default_params` if None.
        render_mode: None, or "rgb_array" if `env.render` exists: then `render()` is the picture of the
            state, `[height, width, 3]` uint8.

    Raises:
        ConfigError: for an invalid argument; from `step`, before anything is computed, for an action
            outside the action space; from `reset`, for options, of which there are none.
        gymnasium.error.ResetNeeded: from `step`, before the first reset or after an episode's end.
    """
    return _One(env, params, render_mode)


class _One(gymnasium.Env):
    """See `to_gymnasium`."""

    def __init__(self, env: Env, params: PyTree, render_mode: str | None):
        check_spaces(env)
        self._render = getattr(env, "render", None)
        modes = ["rgb_array"] if self._render else []
        if render_mode is not None and render_mode not in modes:
            what = " or ".join(["None", *modes])
            raise ConfigError("render_mode", render_mode, f"{what} for {env.name}")
        self.render_mode, self.metadata = render_mode, {"render_modes": modes, "render_fps": FPS}
        self.observation_space, self.action_space = env.observation_space, env.action_space
        self._programs, self._params = programs_of(env), jax.tree.map(jnp.asarray, params)
        self._actions = Actions(env.action_space, ())
        self._row: Packed | None = None
        self._ended = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        if options:
            raise ConfigError("options", options, "None or {}, since there are no options")
        super().reset(seed=seed)
        if self._row is None or seed is not None:
            root = roots_of([entropy(self) if seed is None else seed])[0]
            self._row, obs = self._programs.start(root, self._params)
        else:
            self._row, obs = self._programs.restart(self._row, self._params)
        self._ended = False
        return obs.read().astype(self.observation_space.dtype, copy=False), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        if self._row is None or self._ended:
            when = "after the end of an episode" if self._ended else "before calling env.reset()"
            raise ResetNeeded(f"Cannot call env.step() {when}")
        action = self._actions.read(action)
        self._row, out = self._programs.step(self._row, action, self._params)
        obs, reward, terminated, truncated, info = out.read()
        terminated, truncated = bool(terminated), bool(truncated)
        self._ended = terminated or truncated
        obs = obs.astype(self.observation_space.dtype, copy=False)
        return obs, float(reward), terminated, truncated, plain(info)

    def render(self) -> np.ndarray | None:
        if self.render_mode is None or self._render is None:
            gymnasium.logger.warn('Nothing to render: make it with render_mode="rgb_array"')
            return None
        if self._row is None:
            raise ResetNeeded("Cannot call env.render() before calling env.reset()")
        return np.asarray(self._render(self._row.read().state))
