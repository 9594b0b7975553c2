"""Tasks that a web page can draw, and what its scripts need to know of each."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from purerl import registry
from purerl.config import ConfigError
from purerl.envs.minatar import asterix, breakout, freeway, seaquest, space_invaders
from purerl.envs.minatar.game import EMPTY, SIZE, palette
from purerl.types import Env, HostEnv
from purerl.workbench import web_mujoco
from purerl.workbench.javascript_task import TaskCode

GAMES = {module.GAME.name: module.GAME for module in (asterix, breakout, freeway, seaquest, space_invaders)}
MOVES = 12
"""Moves of a MinAtar game a second."""
CLASSIC = {
    "cartpole": (50, "x_dot", 0.6),
    "pendulum": (20, "theta_dot", 3.0),
    "acrobot": (15, "theta_dot_2", 2.0),
    "mountain_car": (30, "velocity", 0.02),
    "mountain_car_continuous": (30, "velocity", 0.02),
}
"""Steps a second, the number of the state that a push changes, and by how much."""
SCRIPTS = {
    "mujoco": ("mujoco_wasm.js", "mujoco.js", "shapes.js", "scene.js", "physics.js", "robot.js"),
    "classic": ("classic.js",),
    "board": ("board.js",),
}
"""Scripts of a kind of page, in the order in which they are loaded."""


def drawn(env: Env | HostEnv) -> Env:
    """Return `env`. Raises ConfigError for a task of another library, before it is translated."""
    if isinstance(env, HostEnv) or ":" in env.name:
        what = "a MuJoCo task, a MinAtar game or classic control; other libraries' tasks stay in Python"
        raise ConfigError("env", env.name, what)
    return env


def facts_of(
    env: Env, code: TaskCode, mujoco_js: str | os.PathLike[str] | None
) -> tuple[str, dict[str, Any], dict[str, str]]:
    """Return `(kind, facts, files)` of a task: its kind of page, what scripts read, and files to add.

    Raises:
        ConfigError: for a task without pictures, or if MuJoCo's package is needed and missing.
    """
    if code.physics is not None:
        opt = code.physics.model.opt
        facts = web_mujoco.facts_of(env.name, code.physics, code.arrays)
        files = web_mujoco.vendored(web_mujoco.find_package(mujoco_js))
        return "mujoco", {"seconds": float(opt.timestep) * code.physics.frame_skip, "mujoco": facts}, files
    place = {name.rpartition(".")[2]: i for i, name in enumerate(code.names)}
    given: Any = env.default_params
    if env.name in CLASSIC and CLASSIC[env.name][1] in place and hasattr(given, "_asdict"):
        rate, name, amount = CLASSIC[env.name]
        params = {key: float(value) for key, value in given._asdict().items()}
        index = {key: i for key, i in place.items() if key != "time"}
        nudge = {"name": name, "amount": amount}
        classic = {"task": env.name, "params": params, "index": index, "nudge": nudge}
        return "classic", {"seconds": 1 / rate, "classic": classic}, {}
    if env.name in GAMES and env.observation_space.shape == (SIZE, SIZE, len(GAMES[env.name].channels)):
        channels = GAMES[env.name].channels
        colours = [_hex(colour) for colour in palette(len(channels))]
        board = {"size": SIZE, "channels": channels, "colours": colours, "empty": _hex(EMPTY)}
        return "board", {"seconds": 1 / MOVES, "board": board}, {}
    known = [*CLASSIC, *GAMES, *(n for n, at in registry.ENVIRONMENTS.items() if ".mujoco." in at)]
    what = f"a task with a MuJoCo model, or one of {', '.join(sorted(known))}, its observations as they are"
    raise ConfigError("env", env.name, what)


def _hex(colour: np.ndarray) -> str:
    return "#" + "".join(f"{int(part):02x}" for part in colour)
