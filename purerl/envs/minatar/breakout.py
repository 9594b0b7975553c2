"""Breakout: bounce a ball with a paddle into three rows of bricks.

The paddle slides along the bottom row. The ball moves along diagonals, one cell per move, and bounces off
walls, bricks and the paddle: off a paddle in the ball's old column it keeps its horizontal direction; off a
paddle in the ball's new column it returns the way it came. A brick that it bounces off disappears, for a
reward of 1; a brick hit in the very next move is flown through. When the ball reaches the paddle's row with
no brick left, all bricks return. The episode ends when the ball misses the paddle.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purerl.envs.minatar.game import LEFT, NOOP, RIGHT, SIZE, Game, along, mark, minatar_env
from purerl.types import Array, EnvFunctions, Key

BRICK_ROWS = range(1, 4)
ALL_BRICKS = 2 ** (len(BRICK_ROWS) * SIZE) - 1


class State(NamedTuple):
    """A board; fields are int32 scalars unless stated otherwise."""

    paddle: Array
    """The paddle's column."""
    ball_x: Array
    """The ball's column."""
    ball_y: Array
    """The ball's row; 0 is the top."""
    last_x: Array
    """The ball's column one move ago."""
    last_y: Array
    """The ball's row one move ago."""
    speed_x: Array
    """-1 or 1: to the left or to the right."""
    speed_y: Array
    """-1 or 1: up or down."""
    bricks: Array
    """Bit `10 * (row - 1) + column` for each remaining brick."""
    struck: Array
    """Bool: the last move hit a brick."""
    time: Array


def start(key: Key) -> State:
    """Draw a start: the ball at the left or the right wall below the bricks, with equal chance."""
    right = jax.random.bernoulli(key, jnp.float32(0.5))
    x = jnp.where(right, SIZE - 1, 0).astype(jnp.int32)
    y = jnp.int32(3)
    return State(
        paddle=jnp.int32(4),
        ball_x=x,
        ball_y=y,
        last_x=x,
        last_y=y,
        speed_x=jnp.where(right, -1, 1).astype(jnp.int32),
        speed_y=jnp.int32(1),
        bricks=jnp.int32(ALL_BRICKS),
        struck=jnp.bool_(False),
        time=jnp.int32(0),
    )


def draw(key: Key) -> tuple[()]:
    """Return nothing: moves are deterministic."""
    return ()


def play(state: State, action: Array, draws: tuple[()], ramping: bool) -> tuple[State, Array, Array]:
    """Move the paddle, then the ball."""
    paddle = jnp.clip(state.paddle + along(action, RIGHT, LEFT), 0, SIZE - 1)
    aim = state.ball_x + state.speed_x
    x, y = jnp.clip(aim, 0, SIZE - 1), state.ball_y + state.speed_y
    speed_x = jnp.where(x == aim, state.speed_x, -state.speed_x)

    brick = _brick(x, y)
    struck = (state.bricks & brick) != 0
    breaks = struck & ~state.struck
    down = y == SIZE - 1
    under_old, under_new = down & (state.ball_x == paddle), down & (x == paddle)
    turns = breaks | under_old | under_new
    bricks = jnp.where(breaks, state.bricks ^ brick, state.bricks)
    state = State(
        paddle=paddle,
        ball_x=x,
        ball_y=jnp.where(turns, state.ball_y, jnp.maximum(y, 0)),
        last_x=state.ball_x,
        last_y=state.ball_y,
        speed_x=jnp.where(under_new & ~under_old, -speed_x, speed_x),
        speed_y=jnp.where(turns | (y < 0), -state.speed_y, state.speed_y),
        bricks=jnp.where(down & (bricks == 0), ALL_BRICKS, bricks),
        struck=struck,
        time=state.time + 1,
    )
    return state, breaks.astype(jnp.float32), down & ~under_old & ~under_new


def _brick(x: Array, y: Array) -> Array:
    """Return the bit of the brick in column `x` of row `y`; 0 outside the rows of bricks."""
    can_be = (y >= BRICK_ROWS.start) & (y < BRICK_ROWS.stop)
    return jnp.where(can_be, 1 << jnp.where(can_be, SIZE * (y - BRICK_ROWS.start) + x, 0), 0)


def observe(state: State) -> Array:
    """Return paddle, ball, the ball's last cell, and bricks: `[10, 10, 4]` uint8."""
    row = jnp.stack([jnp.int32(SIZE - 1), state.ball_y, state.last_y])
    column = jnp.stack([state.paddle, state.ball_x, state.last_x])
    board = mark(len(GAME.channels), row, column, jnp.arange(3))
    bricks = (state.bricks >> jnp.arange(len(BRICK_ROWS) * SIZE) & 1).reshape(-1, SIZE)
    return board.at[BRICK_ROWS.start : BRICK_ROWS.stop, :, 3].set(bricks.astype(jnp.uint8))


GAME = Game(
    name="breakout",
    channels=("paddle", "ball", "trail", "brick"),
    minimal_actions=(NOOP, LEFT, RIGHT),
    start=start,
    draw=draw,
    play=play,
    observe=observe,
    ramps=False,
)


def make(engine: str = "auto", **options: Any) -> EnvFunctions:
    """Return Breakout; see `minatar_env` for options and errors."""
    return minatar_env(GAME, engine, **options)
