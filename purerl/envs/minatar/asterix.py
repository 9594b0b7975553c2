"""Asterix: pick up gold, keep clear of enemies, on eight rows that things cross from side to side.

The player walks a cell a move, in the four directions, in all rows but the top and the bottom one. Every ten
moves an enemy or, one time in three, gold comes in from the left or the right, in a row that is free; every
five moves all of them move on by a cell, until they leave the board. To touch gold gives a reward of 1 and
takes it away; to touch an enemy ends the episode. With difficulty ramping, every 102 moves things come in
one move faster, and every 204 they also go one move faster, until both happen at every move.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purerl.envs.minatar.game import DOWN, LEFT, NOOP, RIGHT, SIZE, UP, Game, mark, minatar_env
from purerl.types import Array, EnvFunctions, Key

ROWS = range(1, SIZE - 1)
SPAWN_INTERVAL, MOVE_INTERVAL = 10, 5
"""Moves from one time to the next, at first."""
RAMP_INTERVAL = 102
"""Moves from one ramp to the next: the original counts from 100 down to -1, then ramps."""
SLOTS = -(-(2**32) // (6 * 64))
"""Numbers that a random `slot` may be a share of."""


class State(NamedTuple):
    """A board; scalars are int32, and arrays have one entry for each of the eight ROWS."""

    player_x: Array
    """Column."""
    player_y: Array
    """Row; 0 is the top."""
    present: Array
    """Whether there is something in the row, `[8]` bool; if not, its other entries mean nothing."""
    x: Array
    """Its column, `[8]` int32."""
    right: Array
    """Whether it goes to the right, `[8]` bool."""
    gold: Array
    """Whether it is gold and not an enemy, `[8]` bool."""
    spawn_timer: Array
    """Moves until the next thing comes in."""
    move_timer: Array
    """Moves until all things move."""
    time: Array


class Draws(NamedTuple):
    """What comes in, if something does in this move."""

    right: Array
    """Whether from the left, and goes to the right; bool."""
    gold: Array
    """Bool."""
    slot: Array
    """In [0, 1), float32: the place of its row among those that are free, from the top."""


def start(key: Key) -> State:
    """The player in the middle of an empty board."""
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
    """To either side alike; gold one time in three; in any free row alike."""
    bits = jax.random.bits(key)
    kind, rest = bits % 6, bits // (6 * 64)  # below 2**24, which float32 has exactly
    return Draws(kind < 3, kind % 3 == 0, rest.astype(jnp.float32) / SLOTS)


def play(state: State, action: Array, draws: Draws, ramping: bool) -> tuple[State, Array, Array]:
    """Let something in, move the player, then the things; the player touches them before and after that."""
    ramps = jnp.minimum(state.time // RAMP_INTERVAL, SPAWN_INTERVAL - 1) if ramping else 0
    spawns = state.spawn_timer == 0
    spawned = spawns & _kth_free(state.present, draws.slot)
    x = jnp.where(spawned, jnp.where(draws.right, 0, SIZE - 1), state.x)
    right = jnp.where(spawned, draws.right, state.right)
    gold = jnp.where(spawned, draws.gold, state.gold)
    present = state.present | spawned

    player_x = jnp.clip(state.player_x + (action == RIGHT) - (action == LEFT), 0, SIZE - 1)
    player_y = jnp.clip(state.player_y + (action == DOWN) - (action == UP), ROWS.start, ROWS.stop - 1)
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
    """The row of the share `slot` among those that are free, `[8]` bool; none where none is free."""
    free = (~present).astype(jnp.float32)
    rank = free @ jnp.triu(jnp.ones((len(ROWS), len(ROWS))), 1)  # how many above each are free
    return ~present & (rank == jnp.floor(slot * free.sum()))


def observe(state: State) -> Array:
    """The player, enemies, the cell that each thing has left behind, gold: `[10, 10, 4]` uint8."""
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
    """Asterix.

    `options` are `max_episode_steps`, `sticky_action_prob`, `use_minimal_action_set` and
    `difficulty_ramping`. What they mean, and what is a ConfigError, is told by `minatar_env`. The
    original has no time limit.
    """
    return minatar_env(GAME, engine, **options)
