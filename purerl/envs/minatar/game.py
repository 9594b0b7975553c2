"""The common part of the five MinAtar games: a 10 x 10 board, six sticky actions, and pictures.

Each game is a file with its `State`, its random numbers and its rules. Random numbers are separate from the
rules (`draw`, then `play`), so that a test can replay those of the original.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from jax.core import Tracer

from purerl.config import ConfigError, Rule, did_you_mean, validate
from purerl.envs.functional import functional_env, no_physics_engine
from purerl.envs.wrappers import sticky_actions
from purerl.types import Array, EnvFunctions, Key, PyTree

SIZE = 10
"""Rows and columns of the board."""
NOOP, LEFT, UP, RIGHT, DOWN, FIRE = range(6)
NEVER = 10_000
"""Time limit of games whose original has none: evaluation must end."""
EMPTY = np.array([40, 42, 48], np.uint8)
"""Colour of an empty cell in pictures: dark, and lighter than black."""
PICTURE_SIZES = Rule("count", SIZE, 4096)
"""Width and height of pictures, pixels."""


class Game(NamedTuple):
    """A game as pure functions of one unbatched state."""

    name: str
    """Registry id."""
    channels: tuple[str, ...]
    """Names of the planes of the observation."""
    minimal_actions: tuple[int, ...]
    """The actions that have an effect."""
    start: Callable[[Key], PyTree]
    """`key -> State` of a new episode; a State is a NamedTuple with `time`, int32 0 at first."""
    draw: Callable[[Key], PyTree]
    """`key -> draws`: the random numbers of one move."""
    play: Callable[[PyTree, Array, PyTree, bool], tuple[PyTree, Array, Array]]
    """`(state, action, draws, ramping) -> (state, reward, terminated)`: one move, `time` included."""
    observe: Callable[[PyTree], Array]
    """`state -> [10, 10, C]`, bool or uint8 of zeros and ones."""
    ramps: bool
    """The game can become harder over time."""
    max_episode_steps: int = NEVER


def mark(channels: int, row: Array, column: Array, channel: Array) -> Array:
    """Return the observation `[10, 10, channels]` uint8 that is 1 at K places and 0 elsewhere.

    Args:
        channels: C.
        row: `[K]` int32 from 0 to 9.
        column: `[K]` int32; places outside the board are dropped.
        channel: `[K]` int32 from 0 to C - 1.
    """
    column = jnp.where(column < 0, SIZE, column)  # a negative index would count from the right
    board = jnp.zeros((SIZE, SIZE, channels), jnp.uint8)
    return board.at[row, column, channel].set(1, mode="drop")


def along(action: Array, forwards: int, backwards: int) -> Array:
    """Return 1 if `action` is `forwards`, -1 if it is `backwards`, and 0 otherwise: int32."""
    return jnp.int32(action == forwards) - jnp.int32(action == backwards)


def minatar_env(
    game: Game,
    engine: str = "auto",
    max_episode_steps: int | None = None,
    sticky_action_prob: float = 0.1,
    use_minimal_action_set: bool = False,
    **options: Any,
) -> EnvFunctions:
    """Return `game` as an environment: observations `[10, 10, C]` uint8 of zeros and ones.

    Args:
        game: the rules.
        engine: auto; there is no physics engine.
        max_episode_steps: the step at which an episode is truncated; None for the game's own: 2,501 of
            Freeway, and 10,000 of the others, whose originals have no time limit.
        sticky_action_prob: chance that a step repeats the previous action instead of the given one. The
            first step of an episode may repeat a no-op.
        use_minimal_action_set: offer only the actions that have an effect, instead of all six.
        **options: `difficulty_ramping`, for a game that can become harder: True (default) or False.

    Raises:
        ConfigError: for an unknown option or a value that is not allowed.
    """
    no_physics_engine(game.name, engine)
    names = ["max_episode_steps", "sticky_action_prob", "use_minimal_action_set"]
    names += ["difficulty_ramping"] * game.ramps
    for name, value in options.items():
        if name not in names:
            allowed = f"one of the options of {game.name}: {', '.join(names)}"
            raise ConfigError(name, value, allowed, did_you_mean(name, names))
    ramping = options.get("difficulty_ramping", True)
    for name, value in (
        ("use_minimal_action_set", use_minimal_action_set),
        ("difficulty_ramping", ramping),
    ):
        validate(name, value, Rule("switch"))
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
        render=_make_render(game),
    )
    return sticky_actions(env, sticky_action_prob)


def _make_render(game: Game) -> Callable[..., np.ndarray]:
    """Return `EnvFunctions.render` of a game."""
    look = jax.jit(jax.vmap(game.observe))
    colours = np.concatenate([EMPTY[None], palette(len(game.channels))])

    def render(states: PyTree, *, width: int = 480, height: int = 480, camera: None = None) -> np.ndarray:
        """Return pictures of states, `[..., height, width, 3]` uint8, drawn on the host.

        Each cell of the board is a rectangle in the colour of its last plane that is set, or dark grey.

        Args:
            states: states of this environment, with any leading axes.
            width: in pixels, 10 to 4,096.
            height: in pixels, 10 to 4,096.
            camera: None; a board has one view only.

        Raises ConfigError for an argument that is not allowed.
        """
        validate("width", width, PICTURE_SIZES)
        validate("height", height, PICTURE_SIZES)
        if camera is not None:
            raise ConfigError("camera", camera, f"None, because {game.name} has one view only")
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(states)):
            raise ConfigError("states", "a traced value", "arrays: pictures are drawn outside jit and vmap")
        leading = np.shape(states.time)
        flat = jax.tree.map(lambda leaf: jnp.reshape(leaf, (-1, *np.shape(leaf)[len(leading) :])), states)
        planes = np.asarray(look(flat)) * np.arange(1, len(colours), dtype=np.uint8)
        picture = colours[planes.max(-1)]
        picture = picture[:, _cells(height)[:, None], _cells(width)]
        return picture.reshape(*leading, *picture.shape[1:])

    return render


def _cells(pixels: int) -> np.ndarray:
    """Return the row or column of the board at the centre of each pixel, `[pixels]`."""
    return (2 * np.arange(pixels) + 1) * SIZE // (2 * pixels)


def palette(number: int) -> np.ndarray:
    """Return bright colours `[number, 3]` uint8, their hues evenly spread over the colour wheel."""
    colours = [colorsys.hsv_to_rgb(i / number, 0.6, 1.0) for i in range(number)]
    return np.round(255 * np.array(colours)).astype(np.uint8)
