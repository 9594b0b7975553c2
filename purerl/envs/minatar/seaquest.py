"""Seaquest: rescue divers and shoot enemies before the air is gone.

The player's submarine is one cell and its tail. It moves one cell per move, faces its last direction, left or
right, and fires a bullet that way, at most one every 5 moves. Below the surface fish and other submarines
enter at the left or the right of a random row, never into a row where others move the other way. They cross
the board, one cell every 6 moves; the submarines fire ahead every 11. A player's bullet removes the enemy
that it hits, for a reward of 1. Divers enter every 30 moves and drift as fast; touching one takes it on
board, at most 6. The air lasts 200 moves. Surfacing renews it at the cost of one diver on board; with 6, all
are set down, for a reward of up to 10, the remaining air in tenths, rounded down. With `difficulty_ramping`
each surfacing makes enemies enter more often, from every 20 moves to every move, and every second one makes
them faster, up to one cell every 3 moves. The episode ends when an enemy or its bullet touches the player,
when the air is gone, or at the surface with no diver on board.

As in the original, surfacing with 6 divers costs one more, so that -1 are on board. At -1 and below, the
surface is safe, without a reward; a diver picked up at -1 makes it 0, and the surface deadly.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purerl.envs.minatar.game import DOWN, FIRE, LEFT, NOOP, RIGHT, SIZE, UP, Game, along, minatar_env
from purerl.envs.minatar.sea import (
    DIVER_INTERVAL,
    GONE,
    NUM_DIVERS,
    OXYGEN,
    SLOWEST_SPAWN,
    Bullets,
    Divers,
    Enemies,
    State,
    is_there,
    observe,
    one_ahead,
    push,
    settle,
    start,
    tenths,
)
from purerl.types import Array, EnvFunctions, Key

FASTEST_SPAWN = 1
SLOWEST_MOVE, FASTEST_MOVE = 5, 2
HARDEST = SLOWEST_SPAWN - FASTEST_SPAWN
FIRE_INTERVAL, ENEMY_FIRE_INTERVAL, DIVER_MOVE_INTERVAL = 5, 10, 5
FULL_BOAT = 6


class Draws(NamedTuple):
    """Random numbers of one move: the next enemy and the next diver, if one is due."""

    right: Array
    """Bool: the enemy moves right, with chance 1/2."""
    is_sub: Array
    """Bool: it is a submarine, with chance 1/3."""
    row: Array
    """Its row, uniform in 1 to 8, int32."""
    diver_right: Array
    """Bool: the diver moves right, with chance 1/2."""
    diver_row: Array
    """The diver's row, uniform in 1 to 8, int32."""


def draw(key: Key) -> Draws:
    """Draw from 32 random bits; the chance 1/3 is exact to 2^-25."""
    bits = jax.random.bits(key, (), jnp.uint32)
    row, diver_row = (1 + (bits >> shift & 7).astype(jnp.int32) for shift in (0, 3))
    is_sub = bits >> 8 < round(2**24 / 3)
    return Draws(bits >> 6 & 1 == 1, is_sub, row, bits >> 7 & 1 == 1, diver_row)


def play(state: State, action: Array, draws: Draws, ramping: bool) -> tuple[State, Array, Array]:
    """Apply arrivals, the action, the player's bullets, divers, enemies, then the air, in this order."""
    state = _steer(_arrive(state, draws), action)
    state, shot = _fire(state)
    state, rammed, touched = _swim(_pick_up(state))
    state, bonus, drowned = _breathe(state, ramping)
    state = state._replace(
        fire_timer=jnp.maximum(state.fire_timer - 1, 0),
        enemy_timer=jnp.maximum(state.enemy_timer - 1, 0),
        diver_timer=jnp.maximum(state.diver_timer - 1, 0),
        time=state.time + 1,
    )
    return state, shot + rammed + bonus, touched | drowned


def _move_interval(level: Array) -> Array:
    """Return the moves that an enemy waits between two of its own."""
    return jnp.maximum(SLOWEST_MOVE - level // 2, FASTEST_MOVE)


def _arrive(state: State, draws: Draws) -> State:
    """Add an enemy and a diver, each if it is due; no enemy if others in its row move the other way."""
    enemies, wall = state.enemies, jnp.where(draws.right, 0, SIZE - 1)
    due = state.enemy_timer == 0
    opposed = is_there(enemies.x) & (enemies.y == draws.row) & (enemies.right != draws.right)
    timers = _move_interval(state.level), jnp.int32(ENEMY_FIRE_INTERVAL)
    enemy = Enemies(wall, draws.row, draws.right, draws.is_sub, *timers, jnp.int32(GONE))
    diver_due, diver_wall = state.diver_timer == 0, jnp.where(draws.diver_right, 0, SIZE - 1)
    diver = Divers(diver_wall, draws.diver_row, draws.diver_right, jnp.int32(DIVER_MOVE_INTERVAL))
    return state._replace(
        enemies=settle(enemies, enemy, due & ~jnp.any(opposed)),
        enemy_timer=jnp.where(due, SLOWEST_SPAWN - state.level, state.enemy_timer),
        divers=push(state.divers, diver, diver_due),
        diver_timer=jnp.where(diver_due, DIVER_INTERVAL, state.diver_timer),
    )


def _steer(state: State, action: Array) -> State:
    """Apply the player's action."""
    fires = (action == FIRE) & (state.fire_timer == 0)
    left, right = action == LEFT, action == RIGHT
    return state._replace(
        x=jnp.clip(state.x + along(action, RIGHT, LEFT), 0, SIZE - 1),
        y=jnp.clip(state.y + along(action, DOWN, UP), 0, SIZE - 2),
        right=(state.right | right) & ~left,
        bullets=push(state.bullets, Bullets(state.x, state.y, state.right), fires),
        fire_timer=jnp.where(fires, FIRE_INTERVAL, state.fire_timer),
    )


def _fire(state: State) -> tuple[State, Array]:
    """Move the player's bullets, and count the enemies hit: in one cell a fish first, then the oldest."""
    bullets, enemies = state.bullets, state.enemies
    x = jnp.where(is_there(bullets.x), one_ahead(bullets.x, bullets.right), bullets.x)
    hits = _same_cell(x, bullets.y, enemies) & is_there(enemies.x)[None]
    order = enemies.move_timer + jnp.where(enemies.is_sub, SIZE, 0)  # of a cell, the oldest swims first
    first = jnp.min(jnp.where(hits, order[None], 2 * SIZE), axis=1)
    shot = jnp.any(hits & (order[None] == first[:, None]), axis=0)
    state = state._replace(
        bullets=bullets._replace(x=jnp.where(first < 2 * SIZE, GONE, x)),
        enemies=enemies._replace(x=jnp.where(shot, GONE, enemies.x)),
    )
    return state, jnp.sum(shot, dtype=jnp.int32)


def _same_cell(x: Array, y: Array, enemies: Enemies) -> Array:
    """Return `[2, 30]`: bullet i, at `x [2]` and `y [2]`, is in the cell of enemy j."""
    return (x[:, None] == enemies.x[None]) & (y[:, None] == enemies.y[None])


def _pick_up(state: State) -> State:
    """Take divers that the player touches on board, at most 6, the newest first; the others drift."""
    divers, crew, columns, timers = state.divers, state.crew, [], []
    for i in range(NUM_DIVERS):
        x, timer = divers.x[i], divers.move_timer[i]
        same_row = state.y == divers.y[i]
        met = same_row & (state.x == x) & (crew < FULL_BOAT)
        drifts = is_there(x) & (timer == 0) & ~met
        x = jnp.where(drifts, one_ahead(x, divers.right[i]), x)
        met |= drifts & same_row & (state.x == x) & (crew < FULL_BOAT)
        crew = crew + met.astype(jnp.int32)
        columns.append(jnp.where(met, GONE, x))
        timers.append(jnp.where(timer == 0, DIVER_MOVE_INTERVAL, timer - 1))
    return state._replace(
        crew=crew, divers=divers._replace(x=jnp.stack(columns), move_timer=jnp.stack(timers))
    )


def _swim(state: State) -> tuple[State, Array, Array]:
    """Move enemies and their bullets; count enemies that swim into bullets, and detect a touched player."""
    enemies, bullets = state.enemies, state.bullets
    there, same_row = is_there(enemies.x), enemies.y == state.y
    swims = there & (enemies.move_timer == 0)
    x = jnp.where(swims, one_ahead(enemies.x, enemies.right), enemies.x)
    arrived = same_row & (x == state.x)
    touched = there & (arrived | (same_row & (enemies.x == state.x)))
    hits = _same_cell(bullets.x, bullets.y, enemies._replace(x=x)) & (swims & is_there(x) & ~arrived)[None]
    shot = jnp.any(hits, axis=0)
    # A submarine that was shot or left in this very move may still fire.
    fires = there & enemies.is_sub & (enemies.fire_timer == 0)
    old_x = jnp.where(fires, x, enemies.bullet_x)
    flies = is_there(old_x)
    bullet_x = jnp.where(flies, one_ahead(old_x, enemies.right), old_x)
    touched |= flies & same_row & ((old_x == state.x) | (bullet_x == state.x))
    wait = _move_interval(state.level)
    enemies = enemies._replace(
        x=jnp.where(shot, GONE, x),
        bullet_x=bullet_x,
        move_timer=jnp.where(enemies.move_timer == 0, wait, enemies.move_timer - 1),
        fire_timer=jnp.where(enemies.fire_timer == 0, ENEMY_FIRE_INTERVAL, enemies.fire_timer - 1),
    )
    bullets = bullets._replace(x=jnp.where(jnp.any(hits, axis=1), GONE, bullets.x))
    state = state._replace(enemies=enemies, bullets=bullets)
    return state, jnp.sum(shot, dtype=jnp.int32), jnp.any(touched)


def _breathe(state: State, ramping: bool) -> tuple[State, Array, Array]:
    """Use or renew air; return the reward for it and the termination."""
    below = state.y > 0
    comes_up = ~below & ~state.surfaced
    renews = comes_up & (state.crew != 0)
    delivers = renews & (state.crew == FULL_BOAT)
    drowned = (state.oxygen <= 0) | (comes_up & (state.crew == 0))
    bonus = jnp.where(delivers, tenths(state.oxygen), 0)
    renewal = renews.astype(jnp.int32)
    level = state.level + renewal if ramping else state.level
    state = state._replace(
        oxygen=jnp.where(renews, OXYGEN, state.oxygen - below.astype(jnp.int32)),
        crew=jnp.where(delivers, 0, state.crew) - renewal,
        surfaced=~below & (state.surfaced | renews),
        level=jnp.minimum(level, HARDEST),
    )
    return state, bonus, drowned


GAME = Game(
    name="seaquest",
    channels=(
        "sub_front",
        "sub_back",
        "friendly_bullet",
        "trail",
        "enemy_bullet",
        "enemy_fish",
        "enemy_sub",
        "oxygen_guage",
        "diver_guage",
        "diver",
    ),
    minimal_actions=(NOOP, LEFT, UP, RIGHT, DOWN, FIRE),
    start=start,
    draw=draw,
    play=play,
    observe=observe,
    ramps=True,
)


def make(engine: str = "auto", **options: Any) -> EnvFunctions:
    """Return Seaquest; see `minatar_env` for options and errors."""
    return minatar_env(GAME, engine, **options)
