"""Breakout, Asterix and Freeway against the original MinAtar, step for step.

The quick tests replay 2,000 moves, the slow ones 10,000 in which every rule occurs.
"""

import itertools
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from minatar_oracle import assert_replays, make_original, play_original, random_player
from scipy import stats

from purerl.config import ConfigError
from purerl.envs.minatar import asterix, breakout, freeway
from purerl.envs.minatar.game import DOWN, EMPTY, FIRE, LEFT, NOOP, RIGHT, UP, palette
from purerl.envs.wrappers import Sticky

GAMES = {"breakout": breakout, "asterix": asterix, "freeway": freeway}
SEEN = 1e-4
"""A p-value below this is a failure: keys are fixed."""


def breakout_player(original, rng):
    """Move under the ball or under its next place, mostly."""
    if rng.random() < 0.02:
        return random_player(original, rng)
    gap = original.ball_x + (rng.random() < 0.4) * [-1, 1, 1, -1][original.ball_dir] - original.pos
    return RIGHT if gap > 0 else LEFT if gap < 0 else rng.choice([NOOP, UP, DOWN, FIRE])


def breakout_fresh(original):
    speed_x, speed_y = [(-1, -1), (1, -1), (1, 1), (-1, 1)][original.ball_dir]
    numbers = (original.pos, original.ball_x, original.ball_y, original.last_x, original.last_y)
    assert original.brick_map[1:4].all() and original.brick_map.sum() == 30
    bricks = np.int32(breakout.ALL_BRICKS)
    return breakout.State(*map(np.int32, (*numbers, speed_x, speed_y)), bricks, np.bool_(False), np.int32(0))


def asterix_danger(original, x, y):
    """Return True if an enemy may be in that cell in this move or in the next two."""
    thing = original.entities[y - 1]
    if thing is None:
        return x in (0, 9) and original.spawn_timer <= 1
    ahead = (x - thing[0]) * (1 if thing[2] else -1)
    return not thing[3] and 0 <= ahead <= 2


def asterix_player(original, rng):
    """Avoid enemies if possible, mostly."""
    if rng.random() < 0.02:
        return random_player(original, rng)
    safe = []
    for action, (dx, dy) in enumerate([(0, 0), (-1, 0), (0, -1), (1, 0), (0, 1)]):
        x, y = min(max(original.player_x + dx, 0), 9), min(max(original.player_y + dy, 1), 8)
        safe += [action] * (not asterix_danger(original, x, y))
    return rng.choice(safe) if safe else random_player(original, rng)


def asterix_draws(calls):
    """Return Draws; the original draws a row by number, and only if there is a free one."""
    if not calls:
        return asterix.Draws(np.bool_(False), np.bool_(False), np.float32(0))
    right, gold, *place = calls
    slot = (place[0].value + 0.5) / place[0].args[0] if place else 0
    return asterix.Draws(np.bool_(right.value < 1 / 2), np.bool_(gold.value < 1 / 3), np.float32(slot))


def asterix_fresh(original):
    assert original.entities == [None] * 8
    nowhere = np.zeros(8, bool)
    player = np.int32(original.player_x), np.int32(original.player_y)
    timers = np.int32(original.spawn_timer), np.int32(original.move_timer)
    return asterix.State(*player, nowhere, np.zeros(8, np.int32), nowhere, nowhere, *timers, np.int32(0))


def freeway_player(original, rng):
    return UP if rng.random() < 0.9 else random_player(original, rng)


def freeway_draws(calls):
    if not calls:
        return freeway.Draws(np.ones(8, np.int32))
    speeds, sides = calls
    return freeway.Draws(np.where(sides.value > 0.5, speeds.value, -speeds.value).astype(np.int32))


def freeway_fresh(original):
    x, rows, wait, velocity = np.array(original.cars, np.int32).T
    np.testing.assert_array_equal(rows, np.arange(1, 9))
    numbers = np.int32(original.pos), np.int32(original.move_timer)
    return freeway.State(*numbers, x, velocity, wait, np.int32(0))


PLAYED = {
    "breakout": (breakout_player, lambda calls: (), breakout_fresh, lambda o: int(o.brick_map.sum())),
    "asterix": (asterix_player, asterix_draws, asterix_fresh, lambda o: (o.spawn_speed, o.move_speed)),
    "freeway": (freeway_player, freeway_draws, freeway_fresh, lambda o: o.pos),
}


@cache
def recorded(name, steps=10_000, ramping=True):
    player, draws, fresh, watch = PLAYED[name]
    return play_original(name, player, draws, fresh, watch, steps=steps, ramping=ramping)


def assert_share(hits, trials, share):
    assert stats.binomtest(int(hits), trials, share).pvalue > SEEN


def uniform_pvalue(values, options):
    return stats.chisquare([np.sum(values == option) for option in options]).pvalue


@pytest.mark.parametrize("name", GAMES)
def test_moves_match_the_original(name):
    """Observation, reward and end of every move."""
    record = recorded(name, steps=2_000)
    assert_replays(GAMES[name].GAME, record)
    assert record.reward.sum() > 5 and (record.ended.any() or name == "freeway")


@pytest.mark.slow
@pytest.mark.parametrize("name", GAMES)
def test_ten_thousand_moves_match_the_original(name):
    """In episodes in which every rule occurs."""
    record = recorded(name)
    assert_replays(GAMES[name].GAME, record)
    if name == "breakout":
        refilled = (record.watched[1:] == 30) & (record.watched[:-1] == 0) & ~record.ended[:-1]
        assert refilled.sum() >= 3 and record.ended.sum() > 20
    elif name == "asterix":
        spawn_speed, move_speed = record.watched
        assert set(spawn_speed) == set(range(1, 11)) and set(move_speed) == set(range(1, 6))
        assert record.ended.sum() > 10 and record.reward.sum() > 100
    else:
        down = (np.diff(record.watched) > 1) & (record.reward[1:] == 0) & ~record.ended[:-1]
        assert down.sum() > 50 and record.reward.sum() > 50 and record.ended.sum() == 3


def test_a_game_without_ramping_stays_the_same():
    """Asterix without ramping against the original, for longer than five ramps take."""
    record = recorded("asterix", steps=2_000, ramping=False)
    assert record.watched[0].min() == 10 and np.diff(np.flatnonzero(record.ended)).max(initial=0) > 510
    assert_replays(asterix.GAME, record, ramping=False)
    env = asterix.make(difficulty_ramping=False, sticky_action_prob=0.0)
    step = jax.jit(env.step)
    _, state = env.reset(jax.random.key(0))
    due = state.inner._replace(time=jnp.int32(900), spawn_timer=jnp.int32(0), move_timer=jnp.int32(0))
    _, after, *_ = step(jax.random.key(1), state._replace(inner=due), NOOP)
    assert (after.inner.spawn_timer, after.inner.move_timer) == (9, 4)


@pytest.mark.parametrize("name", GAMES)
def test_starts_match_the_original(name):
    """Every field of the first state; of random starts, each one of the original's."""
    theirs = recorded(name, steps=2_000).fresh
    keys = jax.random.split(jax.random.key(0), 2_000)
    ours = jax.device_get(jax.jit(jax.vmap(GAMES[name].GAME.start))(keys))
    if name == "freeway":  # the random speeds have a test of their own
        np.testing.assert_array_equal(ours.wait, np.abs(ours.velocity))
        ours, theirs = (state._replace(velocity=state.time, wait=state.time) for state in (ours, theirs))
    ours_all, theirs_all = (
        {tuple(leaf.tobytes() for leaf in row) for row in zip(*state, strict=True)}
        for state in (ours, theirs)
    )
    assert ours_all == theirs_all and len(ours_all) == {"breakout": 2, "asterix": 1, "freeway": 1}[name]
    assert [leaf.dtype for leaf in ours] == [leaf.dtype for leaf in theirs]
    if name == "breakout":
        assert_share((ours.ball_x == 0).sum(), 2_000, 1 / 2)


def test_draws_of_asterix():
    """Sides, gold and rows have the original's distribution, and are independent."""
    draws = jax.device_get(jax.vmap(asterix.draw)(jax.random.split(jax.random.key(1), 20_000)))
    assert_share(draws.right.sum(), 20_000, 1 / 2)
    assert_share(draws.gold.sum(), 20_000, 1 / 3)
    due = asterix.start(jax.random.key(0))._replace(spawn_timer=jnp.int32(0))
    spawn = jax.jit(jax.vmap(lambda state, draws: asterix.play(state, NOOP, draws, True)[0], (None, 0)))
    for free in (range(8), (0, 3, 7), (5,), ()):
        present = ~np.isin(np.arange(8), free)
        new = np.asarray(spawn(due._replace(present=present), draws).present) & ~present
        assert (new.sum(-1) == bool(free)).all()
        row = new.argmax(-1)
        assert set(row[new.any(-1)]) == set(free)
        assert len(free) < 2 or uniform_pvalue(row, free) > SEEN
        if len(free) == 8:
            counts = np.zeros((2, 2, 8))
            np.add.at(counts, (draws.right.astype(int), draws.gold.astype(int), row), 1)
            assert stats.chi2_contingency(counts).pvalue > SEEN


def test_speeds_of_freeway():
    """All ten in every lane, independent of each other, at the start and after each crossing."""
    keys = jax.random.split(jax.random.key(2), 10_000)
    drawn = jax.device_get(jax.vmap(freeway.draw)(keys).velocity)
    options = [*range(-5, 0), *range(1, 6)]
    for lane in drawn.T:
        assert uniform_pvalue(lane, options) > SEEN
    for one, other in zip(*np.triu_indices(8, 1), strict=True):
        counts = np.histogram2d(drawn[:, one], drawn[:, other], bins=[np.array([*options, 6]) - 0.5] * 2)[0]
        assert stats.chi2_contingency(counts).pvalue > SEEN
    np.testing.assert_array_equal(jax.vmap(freeway.start)(keys).velocity, drawn)


def test_actions_stick():
    """Each step draws by itself, and the first may repeat a no-op."""

    def two_steps(probability, keys):
        env = breakout.make(sticky_action_prob=probability)
        state = env.reset(keys[0])[1]
        for key, action in zip(keys, (RIGHT, LEFT), strict=True):
            _, state, *_ = env.step(key, state, action)
            yield state.inner.paddle

    keys, probabilities = jax.random.split(jax.random.key(1), (4_000, 2)), [0.0, 0.25, 1.0]
    run = jax.vmap(jax.vmap(lambda *args: tuple(two_steps(*args)), (None, 0)), (0, None))
    columns = jax.jit(run)(jnp.array(probabilities), keys)
    for probability, once, twice in zip(probabilities, *map(np.asarray, columns), strict=True):
        stuck, stuck_again = once == 4, twice - once == once - 4
        assert set(once) <= {4, 5} and ((twice - once == -1) | stuck_again).all()
        assert_share(stuck.sum(), 4_000, probability)
        assert_share(stuck_again.sum(), 4_000, probability)
        assert_share((stuck & stuck_again).sum(), 4_000, probability**2)


@pytest.mark.parametrize("name", GAMES)
def test_minimal_actions_match_the_original(name):
    """Their indices, and the effect of action i of the small set."""
    game, minimal = GAMES[name].GAME, make_original(name).minimal_action_set()
    assert list(game.minimal_actions) == minimal
    assert GAMES[name].make().action_space.n == 6
    env = GAMES[name].make(use_minimal_action_set=True, sticky_action_prob=0.0)
    assert env.action_space.n == len(minimal)
    key = jax.random.key(0)
    state = game.start(key)
    if name == "freeway":  # a state in which the player may step up and down
        state = state._replace(rest=jnp.int32(0), player_y=jnp.int32(5))

    def play(action):
        return game.observe(game.play(state, action, game.draw(key), True)[0])

    step = jax.vmap(lambda action: env.step(key, Sticky(state, jnp.int32(0)), action)[0])
    both = jax.jit(lambda few: (step(few), jax.vmap(play)(jnp.arange(6))))
    ours, all_six = map(np.asarray, both(jnp.arange(len(minimal))))
    np.testing.assert_array_equal(ours, all_six[minimal])
    assert len(np.unique(ours, axis=0)) == len(minimal)
    for action in set(range(6)) - set(minimal):
        np.testing.assert_array_equal(all_six[action], all_six[NOOP])


@pytest.mark.parametrize("name", GAMES)
@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"sticky_action_probability": 0.1}, "sticky_action_prob"),
        ({"difficulty_rampin": True}, None),
        ({"sticky_action_prob": 1.5}, "at most 1"),
        ({"use_minimal_action_set": 1}, "True or False"),
        ({"difficulty_ramping": 0}, None),
        ({"max_episode_steps": 0}, "at least 1"),
        ({"engine": "mjx"}, "pure JAX"),
    ],
)
def test_bad_options_raise(name, options, match):
    """With the nearest name; a game that does not ramp has no switch for it."""
    if match is None:
        ramps = name == "asterix"
        match = (
            "the options of" if not ramps else "difficulty_ramping" if True in options.values() else "True or"
        )
    with pytest.raises(ConfigError, match=match) as error:
        GAMES[name].make(**options)
    assert error.value.field == next(iter(options))
    if "sticky_action_probability" in options:
        assert "Did you mean sticky_action_prob?" in str(error.value)


@pytest.mark.parametrize("name", GAMES)
def test_the_time_limit_and_the_spaces(name):
    """Truncated at the limit and not before; observations are in their space; one program for all steps."""
    default, short = GAMES[name].make(), GAMES[name].make(max_episode_steps=7)
    assert short.max_episode_steps == 7 and default.max_episode_steps == (
        2_501 if name == "freeway" else 10_000
    )
    assert default.name == name
    key = jax.random.key(0)
    for env in (default, short) if name == "breakout" else (default,):
        obs, state = env.reset(key)
        assert state.inner.time == 0
        step = jax.jit(env.step)
        for time, expected in ((env.max_episode_steps - 2, False), (env.max_episode_steps - 1, True)):
            late = state._replace(inner=state.inner._replace(time=jnp.int32(time)))
            obs, after, reward, terminated, truncated, _ = step(key, late, jnp.int32(NOOP))
            assert (bool(terminated), bool(truncated)) == (False, expected)
            assert env.observation_space.contains(np.asarray(obs)) and obs.dtype == jnp.uint8
            assert (reward.dtype, terminated.dtype) == (jnp.float32, bool)
        step(key, after, jnp.int32(NOOP))
        assert step._cache_size() == 1
    assert default.observation_space.shape == make_original(name).state().shape


def colours_of(channels):
    """Return the colours of an empty cell and of each plane."""
    return np.array([EMPTY, *palette(channels)])


def luminance(colours):
    """Return the relative luminance of sRGB colours, from 0 to 1 (WCAG 2.1)."""
    share = colours / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


@pytest.mark.parametrize("channels", [4, 6, 7, 10])
def test_colours_are_bright_and_distinct(channels):
    """Each has the contrast to an empty cell that WCAG asks of graphics, 3; no two are near each other."""
    colours = colours_of(channels).astype(float)
    empty, *objects = luminance(colours)
    assert empty > 0.02 and (np.array(objects) + 0.05).min() / (empty + 0.05) > 3
    distances = [np.linalg.norm(a - b) for a, b in itertools.combinations(colours, 2)]
    assert min(distances) > 60


@pytest.mark.parametrize("name", GAMES)
def test_pictures_show_the_topmost_planes(name):
    """As the original's display does; of states `[12, 2]`, of one, in sizes that cells do not divide."""
    record = recorded(name, steps=2_000)
    obs, draws, action = jax.tree.map(lambda rows: rows[:24], (record.obs, record.draws, record.action))
    assert not record.ended[:24].any()

    def move(state, row):
        state = GAMES[name].play(state, *row, True)[0]
        return state, state

    run = jax.jit(lambda *args: jax.lax.scan(move, *args))
    inner = jax.device_get(run(record.first, (action.astype(np.int32), draws))[1])
    states = Sticky(jax.tree.map(lambda leaf: leaf.reshape(12, 2, *leaf.shape[1:]), inner), ())
    env = GAMES[name].make()
    pictures = env.render(states)
    assert isinstance(pictures, np.ndarray)
    assert (pictures.shape, pictures.dtype) == ((12, 2, 480, 480, 3), np.uint8)
    cells = pictures.reshape(24, 10, 48, 10, 48, 3)
    assert (cells == cells[:, :, :1, :, :1]).all()
    topmost = (obs * (np.arange(obs.shape[-1]) + 1)).max(-1)
    np.testing.assert_array_equal(cells[:, :, 0, :, 0], colours_of(obs.shape[-1])[topmost])
    assert pictures.mean() > 45
    alone = env.render(jax.tree.map(lambda leaf: leaf[5, 1], states), width=25, height=10)
    columns = np.floor((np.arange(25) + 0.5) * 10 / 25).astype(int)
    np.testing.assert_array_equal(alone, cells[11, :, 0, :, 0][:, columns])


@pytest.mark.parametrize(
    "options", [{"camera": "track"}, {"width": 9}, {"height": 4097}, {"width": 48.0}, {"height": True}]
)
def test_bad_arguments_of_render_raise(options):
    env = breakout.make()
    _, state = env.reset(jax.random.key(0))
    with pytest.raises(ConfigError) as error:
        env.render(state, **options)
    assert error.value.field == next(iter(options))
    with pytest.raises(ConfigError, match="traced"):
        jax.jit(env.render)(state)


MUTANTS = {
    "dark colours": (
        "envs/minatar/game.py",
        "0.6, 1.0)",
        "0.6, 0.4)",
        "test_colours_are_bright_and_distinct",
    ),
    "an empty cell is black": (
        "envs/minatar/game.py",
        "EMPTY[None]",
        "0 * EMPTY[None]",
        "test_pictures_show_the_topmost_planes[freeway]",
    ),
}
