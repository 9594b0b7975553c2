"""Space Invaders: shoot the aliens before they, or their bombs, reach the cannon.

The cannon slides along the bottom row and fires a bullet straight up, at most one every 5 moves. 24 aliens
march sideways as one block; when one of them stands at the wall ahead, all move down by one row instead and
reverse. The interval between two marches is the number of aliens, at most 12 moves. Every 10 moves the alien
nearest to the cannon's column, the lowest one there, drops a bomb. Bullets rise and bombs fall one row per
move, through each other. A bullet on an alien removes both, for a reward of 1; after the last alien 24 new
ones appear, and with `difficulty_ramping` these march at least every 11 moves, the wave after them every 10,
and so on down to 6. The episode ends when a bomb or an alien reaches the cannon, or when the aliens would
march off the bottom.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purerl.envs.minatar.game import FIRE, LEFT, NOOP, RIGHT, SIZE, Game, along, minatar_env
from purerl.types import Array, EnvFunctions, Key

FIRE_INTERVAL = 5
BOMB_INTERVAL = 10
SLOWEST_MARCH, FASTEST_MARCH = 12, 6
LINE = np.arange(SIZE, dtype=np.int32)
BITS = 1 << LINE
"""Bits of the columns in a row of a board."""
BOTTOM = SIZE - 1
WAVE = np.where(LINE < 4, BITS[2:8].sum(), 0).astype(np.int32)


class State(NamedTuple):
    """Three boards, `[10]` int32, a bit for each column of a row; the rest int32 scalars, and one bool."""

    aliens: Array
    bullets: Array
    """The cannon's bullets, moving up."""
    bombs: Array
    """The aliens' bombs, moving down."""
    cannon: Array
    """The cannon's column."""
    rightwards: Array
    """Bool: the aliens march to the right."""
    march_interval: Array
    """Largest number of moves between two marches of this wave."""
    march_timer: Array
    """Moves until the aliens march."""
    bomb_timer: Array
    """Moves until an alien drops a bomb."""
    fire_timer: Array
    """Moves until the cannon may fire."""
    time: Array


def start(key: Key) -> State:
    """Return the only start: a full wave above the middle, marching left."""
    nothing = jnp.zeros(SIZE, jnp.int32)
    return State(
        aliens=jnp.asarray(WAVE),
        bullets=nothing,
        bombs=nothing,
        cannon=jnp.int32(5),
        rightwards=jnp.bool_(False),
        march_interval=jnp.int32(SLOWEST_MARCH),
        march_timer=jnp.int32(SLOWEST_MARCH),
        bomb_timer=jnp.int32(BOMB_INTERVAL),
        fire_timer=jnp.int32(0),
        time=jnp.int32(0),
    )


def draw(key: Key) -> tuple[()]:
    """Return nothing: moves are deterministic."""
    return ()


def play(state: State, action: Array, draws: tuple[()], ramping: bool) -> tuple[State, Array, Array]:
    """Apply the action, bullets and bombs, the march, a new bomb, and hits, in this order."""
    state = _fly(_steer(state, action))
    cannon = jnp.left_shift(1, state.cannon)
    killed = (state.bombs | state.aliens)[BOTTOM] & cannon
    state, landed = _march(state)
    state = _drop_bomb(state)
    killed |= state.aliens[BOTTOM] & cannon
    hits = state.aliens & state.bullets
    aliens = state.aliens & ~hits
    cleared = jnp.all(aliens == 0)
    faster = jnp.maximum(state.march_interval - 1, FASTEST_MARCH) if ramping else state.march_interval
    state = state._replace(
        aliens=jnp.where(cleared, WAVE, aliens),
        bullets=state.bullets & ~hits,
        march_interval=jnp.where(cleared, faster, state.march_interval),
        march_timer=state.march_timer - 1,
        bomb_timer=state.bomb_timer - 1,
        fire_timer=jnp.maximum(state.fire_timer - 1, 0),
        time=state.time + 1,
    )
    return state, _count(hits), (killed != 0) | landed


def _count(board: Array) -> Array:
    """Return the number of objects on the board."""
    return jnp.sum(jax.lax.population_count(board), dtype=jnp.int32)


def _steer(state: State, action: Array) -> State:
    """Apply the player's action."""
    fires = (action == FIRE) & (state.fire_timer == 0)
    bullet = jnp.where(fires, jnp.left_shift(1, state.cannon), 0)
    shift = along(action, RIGHT, LEFT)
    return state._replace(
        cannon=jnp.clip(state.cannon + shift, 0, SIZE - 1),
        bullets=state.bullets | jnp.where(LINE == BOTTOM, bullet, 0),
        fire_timer=jnp.where(fires, FIRE_INTERVAL, state.fire_timer),
    )


def _fly(state: State) -> State:
    """Move bullets up and bombs down by one row; they leave the board at its edges."""
    bullets, bombs = jnp.roll(state.bullets, -1), jnp.roll(state.bombs, 1)
    return state._replace(bullets=jnp.where(LINE == BOTTOM, 0, bullets), bombs=jnp.where(LINE == 0, 0, bombs))


def _march(state: State) -> tuple[State, Array]:
    """Move the aliens if it is time; also return True if they left the bottom."""
    aliens, right = state.aliens, state.rightwards
    marches = state.march_timer == 0
    turns = jnp.any((aliens & jnp.where(right, BITS[-1], BITS[0])) != 0)
    ahead = jnp.where(right, aliens << 1, aliens >> 1)
    marched = jnp.where(turns, jnp.roll(aliens, 1), ahead)
    interval = jnp.minimum(_count(aliens), state.march_interval)
    state = state._replace(
        aliens=jnp.where(marches, marched, aliens),
        rightwards=right ^ (marches & turns),
        march_timer=jnp.where(marches, interval, state.march_timer),
    )
    return state, marches & turns & (aliens[BOTTOM] != 0)


def _drop_bomb(state: State) -> State:
    """Drop a bomb if it is time, from the nearest alien, or the left one of two equally near."""
    drops = state.bomb_timer == 0
    columns = jnp.bitwise_or.reduce(state.aliens)
    order = jnp.where(columns & BITS, jnp.abs(LINE - state.cannon) * SIZE + LINE, SIZE * SIZE)
    nearest = jnp.left_shift(1, jnp.min(order) % SIZE)
    lowest = jnp.max(jnp.where(state.aliens & nearest, LINE, -1))
    return state._replace(
        bombs=state.bombs | jnp.where(drops & (lowest == LINE), nearest, 0),
        bomb_timer=jnp.where(drops, BOMB_INTERVAL, state.bomb_timer),
    )


def observe(state: State) -> Array:
    """Return `[10, 10, 6]` bool; the aliens are also in the plane of their direction."""
    aliens, right = state.aliens, state.rightwards
    cannon = jnp.where(LINE == BOTTOM, jnp.left_shift(1, state.cannon), 0)
    left_going, right_going = jnp.where(right, 0, aliens), jnp.where(right, aliens, 0)
    boards = jnp.stack([cannon, aliens, left_going, right_going, state.bullets, state.bombs])
    return (boards.T[:, None, :] & BITS[None, :, None]) != 0


GAME = Game(
    name="space_invaders",
    channels=("cannon", "alien", "alien_left", "alien_right", "friendly_bullet", "enemy_bullet"),
    minimal_actions=(NOOP, LEFT, RIGHT, FIRE),
    start=start,
    draw=draw,
    play=play,
    observe=observe,
    ramps=True,
)


def make(engine: str = "auto", **options: Any) -> EnvFunctions:
    """Return Space Invaders; see `minatar_env` for options and errors."""
    return minatar_env(GAME, engine, **options)
