"""Asterix: collect gold and avoid enemies, on eight rows that objects cross from side to side.

The player walks one cell per move, in four directions, in all rows except the top and the bottom one. Every
ten moves an enemy or, with chance 1/3, gold enters from the left or the right, in a free row; every five
moves all objects move by one cell, until they leave the board. Touching gold gives a reward of 1 and removes
it; touching an enemy ends the episode. With difficulty ramping, every 102 moves the interval between entries
becomes one move shorter, and every 204 that between motions, until both happen at every move.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purerl.envs.minatar.game import DOWN, LEFT, NOOP, RIGHT, SIZE, UP, Game, along, mark, minatar_env
from purerl.types import Array, EnvFunctions, Key

ROWS = range(1, SIZE - 1)
SPAWN_INTERVAL, MOVE_INTERVAL = 10, 5
"""Initial intervals, in moves."""
RAMP_INTERVAL = 102
"""Moves from one ramp to the next: the original counts from 100 down to -1, then ramps."""
SLOTS = -(-(2**32) // (6 * 64))
"""Number of values of a random `slot`."""


class State(NamedTuple):
    """A board; scalars are int32, and arrays have one entry for each of the eight ROWS."""

    player_x: Array
    """Column."""
    player_y: Array
    """Row; 0 is the top."""
    present: Array
    """`[8]` bool: an object is in the row; otherwise its other entries are unspecified."""
    x: Array
    """The object's column, `[8]` int32."""
    right: Array
    """`[8]` bool: it moves to the right."""
    gold: Array
    """`[8]` bool: it is gold, not an enemy."""
    spawn_timer: Array
    """Moves until the next object enters."""
    move_timer: Array
    """Moves until all objects move."""
    time: Array


class Draws(NamedTuple):
    """Random numbers of one move: the object that enters, if one is due."""

    right: Array
    """Bool: it enters on the left and moves to the right."""
    gold: Array
    """Bool: it is gold."""
    slot: Array
    """In [0, 1), float32: its row as a fraction of the free rows, from the top."""


def start(key: Key) -> State:
    """Return the player in the middle of an empty board."""
    nowhere = jnp.zeros(len(ROWS), bool)
    return State(
        player_x=jnp.int32(5),
        player_y=jnp.int32(5),
        present=nowhere,
        x=jnp.zeros(len(ROWS), jnp.int32),
        right=nowhere,
        gold=nowhere,
        spawn_timer=jnp.int32(SPAWN_INTERVAL),
        move_timer=jnp.int32(MOVE_INTERVAL),
        time=jnp.int32(0),
    )


def draw(key: Key) -> Draws:
    """Draw a direction uniformly, gold with chance 1/3, and a free row uniformly."""
    bits = jax.random.bits(key, (), jnp.uint32)
    kind, rest = bits % 6, bits // (6 * 64)  # below 2**24, which float32 has exactly
    return Draws(kind < 3, kind % 3 == 0, rest.astype(jnp.float32) / SLOTS)


def play(state: State, action: Array, draws: Draws, ramping: bool) -> tuple[State, Array, Array]:
    """Add an object, move the player, then the objects; the player touches them before and after that."""
    ramps = jnp.minimum(state.time // RAMP_INTERVAL, SPAWN_INTERVAL - 1) if ramping else 0
    spawns = state.spawn_timer == 0
    spawned = spawns & _kth_free(state.present, draws.slot)
    x = jnp.where(spawned, jnp.where(draws.right, 0, SIZE - 1), state.x)
    right = jnp.where(spawned, draws.right, state.right)
    gold = jnp.where(spawned, draws.gold, state.gold)
    present = state.present | spawned

    player_x = jnp.clip(state.player_x + along(action, RIGHT, LEFT), 0, SIZE - 1)
    player_y = jnp.clip(state.player_y + along(action, DOWN, UP), ROWS.start, ROWS.stop - 1)
    in_row = jnp.arange(ROWS.start, ROWS.stop) == player_y
    touched = present & in_row & (x == player_x)
    present &= ~(touched & gold)
    moves = state.move_timer == 0
    x = jnp.where(moves, x + jnp.where(right, 1, -1), x)
    present &= (x >= 0) & (x < SIZE)
    run_into = moves & present & in_row & (x == player_x)
    present &= ~(run_into & gold)

    touched |= run_into
    state = State(
        player_x=player_x,
        player_y=player_y,
        present=present,
        x=x,
        right=right,
        gold=gold,
        spawn_timer=jnp.where(spawns, SPAWN_INTERVAL - ramps, state.spawn_timer) - 1,
        move_timer=jnp.where(moves, MOVE_INTERVAL - ramps // 2, state.move_timer) - 1,
        time=state.time + 1,
    )
    return state, (touched & gold).any().astype(jnp.float32), (touched & ~gold).any()


def _kth_free(present: Array, slot: Array) -> Array:
    """Return the free row at the fraction `slot`, one-hot `[8]` bool; no row where none is free."""
    free = (~present).astype(jnp.float32)
    rank = free @ jnp.triu(jnp.ones((len(ROWS), len(ROWS)), jnp.float32), 1)  # how many above each are free
    return ~present & (rank == jnp.floor(slot * free.sum()))


def observe(state: State) -> Array:
    """Return player, enemies, the cell behind each object, and gold: `[10, 10, 4]` uint8."""
    thing = jnp.where(state.present, state.x, SIZE)
    behind = jnp.where(state.present, state.x + jnp.where(state.right, -1, 1), SIZE)
    rows = jnp.arange(ROWS.start, ROWS.stop)
    return mark(
        len(GAME.channels),
        jnp.concatenate([state.player_y[None], rows, rows]),
        jnp.concatenate([state.player_x[None], thing, behind]),
        jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.where(state.gold, 3, 1), jnp.full(len(ROWS), 2)]),
    )


GAME = Game(
    name="asterix",
    channels=("player", "enemy", "trail", "gold"),
    minimal_actions=(NOOP, LEFT, UP, RIGHT, DOWN),
    start=start,
    draw=draw,
    play=play,
    observe=observe,
    ramps=True,
)


def make(engine: str = "auto", **options: Any) -> EnvFunctions:
    """Return Asterix; see `minatar_env` for options and errors."""
    return minatar_env(GAME, engine, **options)
