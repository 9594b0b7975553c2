"""The sea of Seaquest: what is in it, and what can be seen of it.

Bullets, divers and enemies lie in a fixed number of slots. There is always one free:

- A bullet of ours flies for at most 10 moves, and the next follows after 5: 2 slots.
- A diver drifts for at most 60 moves, and the next follows after 30: 2 slots.
- An enemy crosses in 60 moves at first and in 30 at last, as soon as the air was renewed 6 times; then one
  comes every 14 moves at most. To one a move it takes 13 renewals more, two moves each: of the slow ones the
  last is gone 7 moves later. Until then fewer than 20 are there, from then on at most 30: 30 slots.
- A submarine's bullet lies in its slot, also when the submarine is gone. It is gone in 10 moves, the next is
  fired after 11, and it is always ahead of where its submarine would be: it leaves the board first.

The original keeps lists, in order of arrival. Of enemies the order decides only which of several in a cell
is hit: the first to come, which is the one that will swim first, since later ones never catch up with it.
(They come 15 moves apart while their speed changes, and gain 3 at most.) For the same reason no two enemies
swim into a cell in one move. Where a fish swims into a bullet and then equals the one before it, the original
takes that one away, and what is left is the same.
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
"""The column of what is no longer there."""
LINE = np.arange(SIZE, dtype=np.int32)
ROW = (1 << SIZE) - 1
"""A bit for each column."""


class Bullets(NamedTuple):
    """Ours, `[2]` each, the newest first: column, row, and whether it goes to the right."""

    x: Array
    y: Array
    right: Array


class Divers(NamedTuple):
    """`[2]` each, the newest first: column, row, and whether it goes to the right."""

    x: Array
    y: Array
    right: Array
    move_timer: Array
    """Moves until it drifts on."""


class Enemies(NamedTuple):
    """Fish and submarines, `[30]` each: column, row, whether it goes to the right, and what it is."""

    x: Array
    y: Array
    right: Array
    is_sub: Array
    move_timer: Array
    """Moves until it swims."""
    fire_timer: Array
    """Moves until it fires, if it is a submarine."""
    bullet_x: Array
    """The column of its bullet; the row and the direction are its own."""


class State(NamedTuple):
    """Our submarine and the sea; int32 and bool. Columns `x` are off the board where nothing is."""

    x: Array
    """Our column."""
    y: Array
    """Our row; 0 is the surface."""
    right: Array
    """Whether we look to the right."""
    oxygen: Array
    """Moves that the air lasts."""
    crew: Array
    """Divers on board."""
    surfaced: Array
    """Whether we have been at the surface since we were last below."""
    level: Array
    """How often it has become harder, 0 to 19."""
    fire_timer: Array
    """Moves until we may fire."""
    enemy_timer: Array
    """Moves until an enemy comes."""
    diver_timer: Array
    """Moves until a diver comes."""
    bullets: Bullets
    divers: Divers
    enemies: Enemies
    time: Array


def start(key: Key) -> State:
    """At the surface of an empty sea, looking to the left; there is no chance in it."""
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
    """Whether the column `x` is one of the board's."""
    return (x >= 0) & (x < SIZE)


def one_ahead(x: Array, right: Array) -> Array:
    """The column before that which looks to the right, or to the left."""
    return x + jnp.where(right, 1, -1)


def push(slots: Any, newest: Any, comes: Array) -> Any:
    """`slots`, arrays `[n]` with the newest first, with one more where it comes; the oldest is dropped."""

    def pushed(old, new):
        return jnp.where(comes, jnp.concatenate([jnp.asarray(new, old.dtype)[None], old[:-1]]), old)

    return jax.tree.map(pushed, slots, newest)


def settle(enemies: Enemies, newest: Enemies, comes: Array) -> Enemies:
    """`enemies` with one more where it comes, in the first free slot; none where no slot is free."""
    index = np.arange(NUM_ENEMIES, dtype=np.int32)
    taken = is_there(enemies.x) | is_there(enemies.bullet_x)
    here = comes & (index == jnp.min(jnp.where(taken, NUM_ENEMIES, index)))
    return jax.tree.map(lambda old, new: jnp.where(here, new, old), enemies, newest)


def tenths(oxygen: Array) -> Array:
    """How many tenths of the air are left, whole ones only."""
    return jnp.maximum(oxygen, 0) // (OXYGEN // 10)


def observe(state: State) -> Array:
    """`[10, 10, 10]` bool; a trail is where an enemy or a diver came from."""
    enemies, divers, bullets = state.enemies, state.divers, state.bullets
    # Three planes in an integer, and above them which way the row goes: all in it go the same way.
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
    return (jnp.stack(planes).T[:, None, :] & (1 << LINE)[:, None]) != 0


def _bit(x: Array) -> Array:
    """The bit of the column `x`, int32; 0 off the board."""
    return jnp.where(is_there(x), 1 << jnp.clip(x, 0, SIZE - 1), 0)


def _behind(columns: Array, right: Array) -> Array:
    """The bits of the columns behind those of `columns`, for who looks to the right, or to the left."""
    return jnp.where(right, columns >> 1, columns << 1 & ROW)


def _rows(y: Array, bits: Array) -> Array:
    """What of `bits` `[n]` is in each row, `[10]`."""
    return jnp.bitwise_or.reduce(jnp.where(LINE[:, None] == y, bits, 0), axis=1)
