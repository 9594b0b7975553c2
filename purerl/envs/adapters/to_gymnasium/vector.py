"""Many environments of purerl side by side as a `gymnasium.vector.VectorEnv`; see `env` for seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from purerl.config import ConfigError, Rule, did_you_mean, validate
from purerl.envs.adapters.to_gymnasium.compiled_env import Row, programs_of, roots_of
from purerl.envs.adapters.to_gymnasium.io import (
    Actions,
    check_spaces,
    entropy,
    final_infos,
    masked,
    observation,
    reset_mask,
    row_seeds,
)
from purerl.types import Env, PyTree

MODES = {mode.name.lower(): mode for mode in AutoresetMode}


def to_gymnasium_vector(
    env: Env, num_envs: int, *, params: PyTree = None, autoreset_mode: str | AutoresetMode = "same_step"
) -> gymnasium.vector.VectorEnv:
    """Return `num_envs` of `env` as one `gymnasium.vector.VectorEnv`: one compiled program a step.

    Rewards are float64, and infos are laid out, as `gymnasium.vector.SyncVectorEnv` has them. A reset,
    automatic or with `options={"reset_mask": [num_envs] bool}`, changes only the rows it is for.
    `seed` of `reset` is that of row 0, the next row's is 1 more; or there is one for each row, where None
    continues the row's own stream.

    Args:
        env: the environment.
        num_envs: number of rows.
        params: parameters of all of them; `env.default_params` if None.
        autoreset_mode: what follows the end of an episode. "same_step": its row is reset in the same
            step, and `info["final_obs"]` and `info["final_info"]` hold what the step led to. "next_step":
            the next step resets it instead of acting, with reward 0. "disabled": it must be reset, with
            a `reset_mask`, before the next step. Or a `gymnasium.vector.AutoresetMode`.

    Raises:
        ConfigError: for an invalid argument; from `step`, before anything is computed, for an action
            outside the action space; from `reset`, for an invalid seed or option.
        gymnasium.error.ResetNeeded: from `step`, before the first reset or, where "disabled", after the
            end of an episode; from `reset`, for a mask before the first reset.
    """
    return _Many(env, num_envs, params, autoreset_mode)


class _Many(gymnasium.vector.VectorEnv):
    """See `to_gymnasium_vector`."""

    def __init__(self, env: Env, num_envs: int, params: PyTree, autoreset_mode: str | AutoresetMode):
        check_spaces(env)
        validate("num_envs", num_envs, Rule("count", 1))
        self.num_envs, self._mode = int(num_envs), _mode(autoreset_mode)
        self.metadata = {"autoreset_mode": self._mode, "render_modes": []}
        self.single_observation_space, self.single_action_space = env.observation_space, env.action_space
        self.observation_space = batch_space(env.observation_space, self.num_envs)
        self.action_space = batch_space(env.action_space, self.num_envs)
        self._params, self._programs = jax.tree.map(jnp.asarray, params), programs_of(env)
        self._actions = Actions(env.action_space, (self.num_envs,))
        self._rows: Row | None = None
        self._obs: Any = None
        """Observations last returned."""
        self._ended = np.zeros(self.num_envs, bool)
        """Rows whose episode ended and was not reset yet."""

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
                self._rows = self._programs.reseed(self._rows, roots, chosen & seeded)
            self._rows, self._obs = self._programs.restart_all(self._rows, self._obs, chosen, self._params)
        self._ended = self._ended & ~chosen
        return observation(self._obs, self.single_observation_space), {}

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        if self._rows is None:
            raise ResetNeeded("Cannot call env.step() before calling env.reset()")
        waiting, space = self._ended, self.single_observation_space
        if self._mode is AutoresetMode.DISABLED and waiting.any():
            raise ResetNeeded(f"Cannot call env.step() before rows {np.flatnonzero(waiting)} are reset")
        actions = self._actions.read(actions, ~waiting)
        step = self._programs.step_all[self._mode]
        self._rows, self._obs, final, out = step(self._rows, actions, waiting, self._params)
        reward, terminated, truncated, info = jax.tree.map(np.array, out)
        ended, live, infos = terminated | truncated, ~waiting, {}
        if self._mode is AutoresetMode.SAME_STEP:
            live = ~ended
            if ended.any():
                infos = final_infos(observation(final, space), info, ended)
        else:
            self._ended = ended
        obs = observation(self._obs, space)
        return obs, reward.astype(np.float64), terminated, truncated, infos | masked(info, live)


def _mode(mode: Any) -> AutoresetMode:
    if isinstance(mode, AutoresetMode):
        return mode
    if not isinstance(mode, str) or mode not in MODES:
        hint = did_you_mean(mode, MODES) if isinstance(mode, str) else ""
        raise ConfigError("autoreset_mode", mode, f"one of {', '.join(MODES)}", hint)
    return MODES[mode]
