"""Freeway: cross eight lanes of cars from the bottom to the top, again and again.

The player steps up or down by one cell, and then cannot step for two moves. Each of the eight lanes has a car
that circles the board to the left or to the right, one cell every two to six moves. Reaching the top row
gives a reward of 1, puts the player back to the bottom, and gives every car a new speed and direction. A car
that hits the player puts it back to the bottom.

The original terminates an episode by a timer in its 2,501st move. The observation does not show the timer,
so here it is a time limit: an episode is truncated at `max_episode_steps`, and never terminated.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purerl.envs.minatar.game import DOWN, NOOP, SIZE, UP, Game, along, mark, minatar_env
from purerl.types import Array, EnvFunctions, Key

LANES = range(1, SIZE - 1)
COLUMN = 4
"""The player's column."""
REST = 3
"""Moves from one of the player's steps to the next."""
MAX_SPEED = 5
TIME_LIMIT = 2_501


class State(NamedTuple):
    """A board; scalars are int32, and arrays have one entry for each of the eight LANES."""

    player_y: Array
    """Row; 0 is the top."""
    rest: Array
    """Moves until the player may step again."""
    x: Array
    """The cars' columns, `[8]` int32."""
    velocity: Array
    """`[8]` int32: positive to the right, one cell every 1 + abs(velocity) moves."""
    wait: Array
    """Moves until the car moves, `[8]` int32."""
    time: Array


class Draws(NamedTuple):
    """Random numbers of one move: new velocities, if the cars change them."""

    velocity: Array
    """`[8]` int32 of -5 to -1 and 1 to 5."""


def start(key: Key) -> State:
    """Draw a start: the player at the bottom; all cars at the left side, with random velocities."""
    velocity = draw(key).velocity
    return State(
        player_y=jnp.int32(SIZE - 1),
        rest=jnp.int32(REST),
        x=jnp.zeros(len(LANES), jnp.int32),
        velocity=velocity,
        wait=jnp.abs(velocity),
        time=jnp.int32(0),
    )


def draw(key: Key) -> Draws:
    """Draw one of the ten velocities uniformly in each lane."""
    fours = jax.random.bits(key, (2,), jnp.uint32) % 10_000  # four decimal digits: one number for each lane
    twos = jnp.concatenate([fours // 100, fours % 100])
    number = jnp.concatenate([twos // 10, twos % 10]).astype(jnp.int32)
    return Draws(jnp.where(number < MAX_SPEED, number - MAX_SPEED, number - MAX_SPEED + 1))


def play(state: State, action: Array, draws: Draws, ramping: bool) -> tuple[State, Array, Array]:
    """Move the player, change the velocities if it has crossed, then move the cars."""
    shift = jnp.where(state.rest == 0, along(action, DOWN, UP), 0)
    y = jnp.minimum(state.player_y + shift, SIZE - 1)
    crossed = y == 0
    y = jnp.where(crossed, SIZE - 1, y)
    velocity = jnp.where(crossed, draws.velocity, state.velocity)
    wait = jnp.where(crossed, jnp.abs(velocity), state.wait)

    goes = wait == 0
    x = _around(state.x + jnp.where(goes, jnp.sign(velocity), 0))
    hit = (jnp.arange(LANES.start, LANES.stop) == y) & ((state.x == COLUMN) | (x == COLUMN))
    rest = jnp.where(shift != 0, REST, state.rest)
    state = State(
        player_y=jnp.where(hit.any(), SIZE - 1, y),
        rest=jnp.maximum(rest - 1, 0),
        x=x,
        velocity=velocity,
        wait=jnp.where(goes, jnp.abs(velocity), wait - 1),
        time=state.time + 1,
    )
    return state, crossed.astype(jnp.float32), jnp.bool_(False)


def observe(state: State) -> Array:
    """Return player, cars, and behind each car a mark in the plane of its speed: `[10, 10, 7]` uint8."""
    behind = _around(state.x - jnp.sign(state.velocity))
    plane = 1 + jnp.abs(state.velocity)
    lanes = jnp.arange(LANES.start, LANES.stop)
    return mark(
        len(GAME.channels),
        jnp.concatenate([state.player_y[None], lanes, lanes]),
        jnp.concatenate([jnp.full(1, COLUMN), state.x, behind]),
        jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.ones(len(LANES), jnp.int32), plane]),
    )


def _around(x: Array) -> Array:
    """Return the column `x`, wrapped around the board."""
    return jnp.where(x < 0, SIZE - 1, jnp.where(x == SIZE, 0, x))


GAME = Game(
    name="freeway",
    channels=("player", "car", "speed1", "speed2", "speed3", "speed4", "speed5"),
    minimal_actions=(NOOP, UP, DOWN),
    start=start,
    draw=draw,
    play=play,
    observe=observe,
    ramps=False,
    max_episode_steps=TIME_LIMIT,
)


def make(engine: str = "auto", **options: Any) -> EnvFunctions:
    """Return Freeway; see `minatar_env` for options and errors."""
    return minatar_env(GAME, engine, **options)
