"""The sea of Seaquest: its state and its observation.

Bullets, divers and enemies are stored in a fixed number of slots, of which one is always free:

- A player's bullet flies for at most 10 moves, and the next follows after 5: 2 slots.
- A diver drifts for at most 60 moves, and the next follows after 30: 2 slots.
- An enemy crosses in 60 moves at first, and in 30 once the air was renewed 6 times; then enemies enter at
  least 14 moves apart. One per move takes 13 more renewals of two moves each, and the last slow enemy has
  left 7 moves later. Before that there are fewer than 20 enemies, after it at most 30: 30 slots.
- A submarine's bullet shares its slot, even after the submarine has gone. It leaves within 10 moves, the next
  is fired after 11, and it is always ahead of its submarine: it leaves the board first.

The original keeps lists in order of arrival. Among enemies the order only decides which of several in a cell
is hit: the oldest, which is the one that swims first, because later ones never overtake it. (They enter 15
moves apart while their speed changes, and gain at most 3.) For the same reason no two enemies swim into a
cell in one move. If a fish swims into a bullet and then equals the fish before it, the original removes that
one, and the remaining state is the same.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purerl.envs.minatar.game import SIZE
from purerl.types import Array, Key

NUM_ENEMIES, NUM_BULLETS, NUM_DIVERS = 30, 2, 2
SLOWEST_SPAWN, DIVER_INTERVAL, OXYGEN = 20, 30, 200
GONE = -1
"""Column of an empty slot."""
LINE = np.arange(SIZE, dtype=np.int32)
ROW = (1 << SIZE) - 1
"""Bits of all columns."""


class Bullets(NamedTuple):
    """The player's bullets, `[2]` each, the newest first: column, row, and moving right."""

    x: Array
    y: Array
    right: Array


class Divers(NamedTuple):
    """Divers in the sea, `[2]` each, the newest first: column, row, and moving right."""

    x: Array
    y: Array
    right: Array
    move_timer: Array
    """Moves until it drifts."""


class Enemies(NamedTuple):
    """Fish and submarines, `[30]` each: column, row, moving right, and being a submarine."""

    x: Array
    y: Array
    right: Array
    is_sub: Array
    move_timer: Array
    """Moves until it swims."""
    fire_timer: Array
    """Moves until it fires, if it is a submarine."""
    bullet_x: Array
    """The column of its bullet; row and direction are those of the submarine."""


class State(NamedTuple):
    """The player's submarine and the sea; int32 and bool. An empty slot has a column off the board."""

    x: Array
    """The player's column."""
    y: Array
    """The player's row; 0 is the surface."""
    right: Array
    """The player faces right."""
    oxygen: Array
    """Moves until the air is gone."""
    crew: Array
    """Divers on board."""
    surfaced: Array
    """The player is at the surface and has surfaced since its last dive."""
    level: Array
    """Difficulty, 0 to 19."""
    fire_timer: Array
    """Moves until the player may fire."""
    enemy_timer: Array
    """Moves until an enemy enters."""
    diver_timer: Array
    """Moves until a diver enters."""
    bullets: Bullets
    divers: Divers
    enemies: Enemies
    time: Array


def start(key: Key) -> State:
    """Return the only start: at the surface of an empty sea, facing left."""
    bullet, diver, enemy = (jnp.full(n, GONE, jnp.int32) for n in (NUM_BULLETS, NUM_DIVERS, NUM_ENEMIES))
    return State(
        x=jnp.int32(5),
        y=jnp.int32(0),
        right=jnp.bool_(False),
        oxygen=jnp.int32(OXYGEN),
        crew=jnp.int32(0),
        surfaced=jnp.bool_(True),
        level=jnp.int32(0),
        fire_timer=jnp.int32(0),
        enemy_timer=jnp.int32(SLOWEST_SPAWN),
        diver_timer=jnp.int32(DIVER_INTERVAL),
        bullets=Bullets(bullet, bullet, bullet > 0),
        divers=Divers(diver, diver, diver > 0, diver),
        enemies=Enemies(enemy, enemy, enemy > 0, enemy > 0, enemy, enemy, enemy),
        time=jnp.int32(0),
    )


def is_there(x: Array) -> Array:
    """Return True where the column `x` is on the board."""
    return (x >= 0) & (x < SIZE)


def one_ahead(x: Array, right: Array) -> Array:
    """Return the next column to the right, or to the left."""
    return x + jnp.where(right, 1, -1)


def push(slots: Any, newest: Any, comes: Array) -> Any:
    """Return `slots`, arrays `[n]` with the newest first, with `newest` added if it `comes`."""

    def pushed(old, new):
        return jnp.where(comes, jnp.concatenate([jnp.asarray(new, old.dtype)[None], old[:-1]]), old)

    return jax.tree.map(pushed, slots, newest)


def settle(enemies: Enemies, newest: Enemies, comes: Array) -> Enemies:
    """Return `enemies` with `newest` in the first free slot if it `comes`; unchanged without one."""
    index = np.arange(NUM_ENEMIES, dtype=np.int32)
    taken = is_there(enemies.x) | is_there(enemies.bullet_x)
    here = comes & (index == jnp.min(jnp.where(taken, NUM_ENEMIES, index)))
    return jax.tree.map(lambda old, new: jnp.where(here, new, old), enemies, newest)


def tenths(oxygen: Array) -> Array:
    """Return the remaining air in tenths, rounded down."""
    return jnp.maximum(oxygen, 0) // (OXYGEN // 10)


def observe(state: State) -> Array:
    """Return `[10, 10, 10]` bool; a trail is the cell behind an enemy or a diver."""
    enemies, divers, bullets = state.enemies, state.divers, state.bullets
    # Three planes in an integer, and above them the direction, which all enemies of a row share.
    kind = _bit(enemies.x) << jnp.where(enemies.is_sub, SIZE, 0)
    right = (is_there(enemies.x) & enemies.right).astype(jnp.int32) << 3 * SIZE
    rows = _rows(enemies.y, kind | _bit(enemies.bullet_x) << 2 * SIZE | right)
    fish, subs, enemy_bullets = (rows >> shift & ROW for shift in (0, SIZE, 2 * SIZE))
    trails = _behind(fish | subs, rows >> 3 * SIZE != 0)
    drifting = _bit(divers.x)
    drifting_trails = _rows(divers.y, _behind(drifting, divers.right))
    front, gauge = _bit(state.x), LINE == SIZE - 1
    planes = [
        jnp.where(state.y == LINE, front, 0),
        jnp.where(state.y == LINE, _behind(front, state.right), 0),
        _rows(bullets.y, _bit(bullets.x)),
        trails | drifting_trails,
        enemy_bullets,
        fish,
        subs,
        jnp.where(gauge, (1 << tenths(state.oxygen)) - 1, 0),
        jnp.where(gauge, (1 << SIZE - 1) - (1 << SIZE - 1 - jnp.maximum(state.crew, 0)), 0),
        _rows(divers.y, drifting),
    ]
    return (jnp.stack(planes).T[:, None, :] & (1 << LINE)[None, :, None]) != 0


def _bit(x: Array) -> Array:
    """Return the bit of the column `x`, int32; 0 off the board."""
    return jnp.where(is_there(x), 1 << jnp.clip(x, 0, SIZE - 1), 0)


def _behind(columns: Array, right: Array) -> Array:
    """Return the bits of the columns behind `columns`, seen by an object facing right, or left."""
    return jnp.where(right, columns >> 1, columns << 1 & ROW)


def _rows(y: Array, bits: Array) -> Array:
    """Return the bits `[n]` combined by row `y [n]`, `[10]`."""
    return jnp.bitwise_or.reduce(jnp.where(LINE[:, None] == y[None], bits[None], 0), axis=1)
