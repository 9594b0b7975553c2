"""What the five MinAtar games share: a 10 x 10 board, six actions that may stick, and pictures.

Every game is a file that reads as its rules: what a `State` holds, what may be drawn at random, and what a
move does. Chance is kept apart from the rules (`draw`, then `play`), so that a test can play the original's
draws.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from purerl.config import ConfigError, did_you_mean, switch, validate_value
from purerl.envs.functional import functional_env, no_physics_engine
from purerl.envs.wrappers import sticky_actions
from purerl.types import Array, EnvFunctions, Key, PyTree

SIZE = 10
"""Rows and columns of the board."""
NOOP, LEFT, UP, RIGHT, DOWN, FIRE = range(6)
NEVER = 10_000
"""The time limit of games that have none: evaluation must end."""


class Game(NamedTuple):
    """A game as pure functions of one unbatched state."""

    name: str
    """Registry id."""
    channels: tuple[str, ...]
    """What each plane of the observation shows."""
    minimal_actions: tuple[int, ...]
    """The actions that do something here."""
    start: Callable[[Key], PyTree]
    """`key -> State` of a new episode; a State is a NamedTuple with `time`, int32 0 at first."""
    draw: Callable[[Key], PyTree]
    """`key -> draws`: all that chance decides in one move."""
    play: Callable[[PyTree, Array, PyTree, bool], tuple[PyTree, Array, Array]]
    """`(state, action, draws, ramping) -> (state, reward, terminated)`: one move, `time` included."""
    observe: Callable[[PyTree], Array]
    """`state -> [10, 10, C]` bool."""
    ramps: bool
    """Whether the game can become harder as it goes."""
    max_episode_steps: int = NEVER


def minatar_env(
    game: Game,
    engine: str = "auto",
    max_episode_steps: int | None = None,
    sticky_action_prob: float = 0.1,
    use_minimal_action_set: bool = False,
    **options: Any,
) -> EnvFunctions:
    """`game` as an environment: observations `[10, 10, C]` uint8 of zeros and ones.

    Args:
        game: the rules.
        engine: auto; there is no physics engine.
        max_episode_steps: the step at which an episode is truncated; None for the game's own.
        sticky_action_prob: chance that a step repeats the action of the step before it, in place of the
            one it was given. The first step of an episode may repeat a no-op.
        use_minimal_action_set: take only the actions that do something; all six otherwise.
        **options: `difficulty_ramping`, True or False, of a game that can become harder.

    Raises:
        ConfigError: for an unknown option or a value that is not allowed.
    """
    no_physics_engine(game.name, engine)
    names = ["max_episode_steps", "sticky_action_prob", "use_minimal_action_set"]
    names += ["difficulty_ramping"] * game.ramps
    for name, value in options.items():
        if name not in names:
            what = f"the options of {game.name} are {', '.join(names)}"
            raise ConfigError(name, value, what, did_you_mean(name, names))
    ramping = options.get("difficulty_ramping", True)
    for name, value in (
        ("use_minimal_action_set", use_minimal_action_set),
        ("difficulty_ramping", ramping),
    ):
        validate_value(name, value, switch(True))
    actions = jnp.array(game.minimal_actions if use_minimal_action_set else range(6))

    def observe(state: PyTree) -> Array:
        return game.observe(state).astype(jnp.uint8)

    def reset(key: Key, params: PyTree):
        state = game.start(key)
        return observe(state), state

    def step(key: Key, state: PyTree, action: Array, params: PyTree):
        state, reward, terminated = game.play(state, actions[action], game.draw(key), bool(ramping))
        return observe(state), state, reward, terminated, {}

    env = functional_env(
        game.name,
        reset=reset,
        step=step,
        observation_space=spaces.Box(0, 1, (SIZE, SIZE, len(game.channels)), np.uint8),
        action_space=spaces.Discrete(len(actions)),
        max_episode_steps=game.max_episode_steps if max_episode_steps is None else max_episode_steps,
    )
    return sticky_actions(env, sticky_action_prob)
