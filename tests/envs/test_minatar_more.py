"""Space Invaders and Seaquest against the original, move for move, and their random draws."""

from functools import cache
from itertools import combinations
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from minatar_oracle import assert_replays, make_original, play_original
from scipy import stats

from purerl.envs.minatar import seaquest, space_invaders
from purerl.envs.minatar.game import DOWN, FIRE, LEFT, NOOP, RIGHT, UP

GAMES = {"space_invaders": space_invaders, "seaquest": seaquest}
HIGH = 0.99
"""A random number of the original without effect."""


def invaders_state(original):
    """Return the original's boards and timers as a State."""
    boards = (original.alien_map, original.f_bullet_map, original.e_bullet_map)
    numbers = (
        original.pos,
        original.alien_dir > 0,
        original.enemy_move_interval,
        original.alien_move_timer,
        original.alien_shot_timer,
        original.shot_timer,
        0,
    )
    rows = [(board.astype(np.int32) << np.arange(10)).sum(1).astype(np.int32) for board in boards]
    numbers = [np.bool_(n) if isinstance(n, bool | np.bool_) else np.int32(n) for n in numbers]
    return space_invaders.State(*rows, *numbers)


def gunner(original, rng):
    """Avoid bombs, stay below the aliens, and fire where one will be; sometimes act randomly."""
    if rng.random() < 0.02:
        return rng.integers(6)
    aliens, bombs = original.alien_map, original.e_bullet_map[6:9].T @ [20, 50, 100]
    interval = max(1, min(original.enemy_move_interval, aliens.sum()))
    drift = (9 - aliens.any(1).nonzero()[0].max()) // interval * original.alien_dir
    ahead = np.clip(aliens.any(0).nonzero()[0] + drift, 0, 9)
    away = abs(ahead - np.arange(10)[:, None]).min(1)

    def cost(action):
        column = min(max(original.pos + (action == RIGHT) - (action == LEFT), 0), 9)
        hits = action == FIRE and original.shot_timer == 0 and away[column] == 0
        return bombs[column] + away[column] - 2 * hits + 0.3 * rng.random()

    return min(range(6), key=cost)


def seaquest_draws(calls):
    """Return the original's three numbers of an enemy and two of a diver as Draws."""
    values = [call.value for call in calls]
    right, kind, row = values[:3] if len(values) in (3, 5) else (HIGH, HIGH, 1)
    diver_right, diver_row = values[-2:] if len(values) in (2, 5) else (HIGH, 1)
    return seaquest.Draws(
        np.bool_(right < 1 / 2),
        np.bool_(kind < 1 / 3),
        np.int32(row),
        np.bool_(diver_right < 1 / 2),
        np.int32(diver_row),
    )


def seaquest_start(original=None):
    return jax.device_get(seaquest.start(jax.random.key(0)))


def in_danger(sea):
    """Return the cells that are deadly in the next moves."""
    cells = set()
    for x, y, right, *timers in sea.e_fish + sea.e_subs + [[*bullet, 0] for bullet in sea.e_bullets]:
        ahead = 1 if right else -1
        cells |= {(x, y), (x + ahead, y)} if timers[0] <= 1 else {(x, y)}
        if timers[-1] <= 1:
            cells |= {(x + ahead, y), (x + 2 * ahead, y)}
    return cells


class Diver:
    """Pick up divers, shoot enemies ahead and surface in time; in some episodes with a variation."""

    whim = ""

    def __call__(self, sea, rng):
        if sea.oxygen == 200 and sea.surface and sea.e_spawn_timer == 20:
            self.whim = rng.choice(["", "stays below", "comes up with nobody", "bobs"])
        if rng.random() < 0.02:
            return rng.integers(6)
        deadly, (goal_x, goal_y) = in_danger(sea), self.goal(sea)
        if sea.diver_count == 0 and not self.whim:
            deadly |= {(x, 0) for x in range(10)}
        enemies, ahead = sea.e_fish + sea.e_subs, 1 if sea.sub_or else -1
        target = any(y == sea.sub_y and (x - sea.sub_x) * ahead > 0 for x, y, *_ in enemies)

        def cost(action):
            x = min(max(sea.sub_x + (action == RIGHT) - (action == LEFT), 0), 9)
            y = min(max(sea.sub_y + (action == DOWN) - (action == UP), 0), 8)
            near = sum(5 for enemy in enemies if enemy[1] == y and abs(enemy[0] - x) <= 1)
            fires = (-3 if target and sea.shot_timer == 0 else 1) * (action == FIRE)
            away = abs(x - goal_x) + abs(y - goal_y)
            return away + 100 * ((x, y) in deadly) + near + fires + rng.random() / 2

        return min(range(6), key=cost)

    def goal(self, sea):
        """Return the cell to move to."""
        low = sea.diver_count and sea.oxygen < 30 + sea.sub_y and self.whim != "stays below"
        rash = self.whim == "comes up with nobody" and sea.diver_count == 0 and sea.oxygen < 190
        bold = self.whim == "bobs" and -30 < sea.diver_count < 0 and not sea.surface
        if sea.diver_count == 6 or low or rash or bold:
            return sea.sub_x, 0
        near = min(sea.divers, key=lambda d: abs(d[0] - sea.sub_x) + abs(d[1] - sea.sub_y), default=(4, 4))
        return near[:2]


class Sight(NamedTuple):
    """Numbers of the original's Seaquest after each move."""

    ramp: int
    spawn: int
    move: int
    crew: int
    oxygen: int
    surfaced: bool
    bullets: int


def sight(sea):
    return Sight(
        sea.ramp_index,
        sea.e_spawn_speed,
        sea.move_speed,
        sea.diver_count,
        sea.oxygen,
        sea.surface,
        len(sea.e_bullets),
    )


def test_moves_of_space_invaders():
    record = play_original("space_invaders", gunner, lambda calls: (), invaders_state, steps=2_000)
    assert_replays(space_invaders.GAME, record)
    assert record.ended.any() and record.reward.sum() > 20


@pytest.mark.slow
def test_ten_thousand_moves_of_space_invaders():
    """Wave after wave, to the fastest; bombs among the ends."""

    def watch(original):
        return original.ramp_index, original.enemy_move_interval, original.alien_map.sum() == 24

    record = play_original("space_invaders", gunner, lambda calls: (), invaders_state, watch)
    assert_replays(space_invaders.GAME, record)
    ramp, interval, full = record.watched
    assert (ramp.max(), interval.min()) == (6, 6) and set(ramp) == set(range(7))
    assert record.ended.sum() > 10 and full.sum() > 20 and record.reward.max() >= 1


def test_any_board_of_space_invaders():
    """One move from rare boards: landings, ties, many hits, bombs on top of bombs."""
    rng, original, rows, theirs = np.random.default_rng(0), make_original("space_invaders"), [], []
    for _ in range(2000):
        original.terminal = False
        aliens = rng.random((10, 10)) < rng.choice([0.02, 0.1, 0.4])
        aliens[:, : rng.integers(5)] = aliens[:, 10 - rng.integers(5) :] = False
        aliens[rng.integers(10), 5] = True
        original.alien_map = aliens.astype(float)
        original.f_bullet_map, original.e_bullet_map = (rng.random((2, 10, 10)) < 0.1).astype(float)
        original.pos, original.alien_dir = rng.integers(10), rng.choice([-1, 1])
        original.enemy_move_interval, original.alien_move_timer = rng.integers(6, 13), rng.integers(2)
        original.alien_shot_timer, original.shot_timer = rng.integers(2, size=2)
        before, action = invaders_state(original), rng.integers(6)
        reward, ended = original.act(action)
        rows.append((before, np.int32(action)))
        theirs.append((invaders_state(original), float(reward), bool(ended), original.state()))
    state, reward, ended, obs = jax.tree.map(lambda *leaves: np.stack(leaves), *theirs)

    @jax.jit
    @jax.vmap
    def ours(state, action):
        state, reward, terminated = space_invaders.play(state, action, (), True)
        return state, reward, terminated, space_invaders.observe(state)

    got = ours(*jax.tree.map(lambda *leaves: np.stack(leaves), *rows))
    jax.tree.map(np.testing.assert_array_equal, got, (state._replace(time=got[0].time), reward, ended, obs))
    assert 0.1 < ended.mean() < 0.9 and reward.max() >= 3


def test_moves_of_seaquest():
    record = play_original("seaquest", Diver(), seaquest_draws, seaquest_start, sight, steps=2_000)
    assert_replays(seaquest.GAME, record)
    assert record.ended.any() and record.reward.sum() > 20


@pytest.mark.slow
def test_ten_thousand_moves_of_seaquest():
    """To the hardest, with every way of surfacing and every way of ending."""
    record = play_original("seaquest", Diver(), seaquest_draws, seaquest_start, sight)
    assert_replays(seaquest.GAME, record)
    seen, before = record.watched, jax.tree.map(lambda leaf: leaf[:-1], record.watched)
    after = jax.tree.map(lambda leaf: leaf[1:], record.watched)
    same = ~record.ended[:-1]
    assert (seen.ramp.max(), seen.spawn.min(), seen.move.min()) == (19, 1, 2)
    comes_up = same & after.surfaced & ~before.surfaced
    delivers = comes_up & (before.crew >= 5) & (after.crew == -1)
    assert delivers.sum() > 5 and len(set(record.reward[1:][delivers])) > 2
    assert (comes_up & (after.crew < -1)).any() and (comes_up & (after.crew >= 0)).any()
    drowned = record.ended & (seen.oxygen < 0)
    empty = record.ended & ~seen.surfaced & (seen.crew == 0) & record.obs[:, 0, :, 0].any(-1)
    assert drowned.any() and empty.any() and (record.ended & ~drowned & ~empty).any()
    assert seen.bullets.max() > 2 and (record.obs.any((0, 1, 2))).all()


class Scripted:
    """A `RandomState` that returns given numbers."""

    def __init__(self):
        self.values = []

    def rand(self):
        return self.values.pop(0)

    def randint(self, low, high):
        return self.values.pop(0)


def afloat(sea):
    """Return the original's enemies and their bullets, sorted by their fields."""
    fish = [(x, y, right, False, move, 0) for x, y, right, move in sea.e_fish]
    subs = [(x, y, right, True, move, fire) for x, y, right, move, fire in sea.e_subs]
    return sorted(fish + subs), sorted(map(tuple, sea.e_bullets))


def ours_afloat(enemies):
    """Return the same of an `Enemies`."""
    rows = zip(*enemies[:6], strict=True)
    bullets = zip(enemies.bullet_x, enemies.y, enemies.right, strict=True)
    there = [(x, y, right, sub, move, fire * sub) for x, y, right, sub, move, fire in rows if 0 <= x <= 9]
    return sorted(there), sorted(bullet for bullet in bullets if 0 <= bullet[0] <= 9)


@cache
def ghost():
    """Return a program that continues after the end: `(state, actions[T], draws[T]) -> results [T]`."""

    def move(state, row):
        state, reward, terminated = seaquest.play(state, *row, True)
        return state, (state, reward, terminated, seaquest.observe(state))

    run = lambda state, *rows: jax.lax.scan(move, state, rows)[1]
    return jax.jit(run)


def assert_ghost_as_original(crew, actions, draws):
    """Continue both after the end from `crew` divers; return the largest number of enemies and bullets."""
    sea, most = make_original("seaquest"), (0, 0)
    sea.random, sea.diver_count = Scripted(), crew
    start = seaquest_start()._replace(crew=np.int32(crew))
    states, rewards, ended, obs = jax.device_get(ghost()(start, actions, draws))
    for t, action in enumerate(actions):
        sea.terminal, sea.random.values = False, []
        right, kind, row, diver_right, diver_row = (leaf[t] for leaf in draws)
        if sea.e_spawn_timer == 0:
            sea.random.values += [0.5 - 0.1 * right, 0.34 - 0.1 * kind, row]
        if sea.d_spawn_timer == 0:
            sea.random.values += [0.5 - 0.1 * diver_right, diver_row]
        assert sea.act(action) == (rewards[t], ended[t]) and not sea.random.values, t
        np.testing.assert_array_equal(obs[t], sea.state(), f"move {t}")
        theirs = afloat(sea)
        assert ours_afloat(jax.tree.map(lambda leaf, t=t: leaf[t], states.enemies)) == theirs, t
        most = max(most[0], len(theirs[0])), max(most[1], len(theirs[1]))
    return most, states, obs


def any_draws(rng, steps):
    return seaquest.Draws(
        rng.random(steps) < 1 / 2,
        rng.random(steps) < 1 / 3,
        rng.integers(1, 9, steps).astype(np.int32),
        rng.random(steps) < 1 / 2,
        rng.integers(1, 9, steps).astype(np.int32),
    )


GHOST_STEPS = 1500


@pytest.mark.parametrize("crowd", ["of submarines", "in two rows"])
@pytest.mark.slow
def test_slots_suffice_at_the_highest_difficulty(crowd):
    """As early as possible an enemy per move; then several per cell, in front of the player."""
    rng = np.random.default_rng(0)
    draws = any_draws(rng, GHOST_STEPS)._replace(right=np.ones(GHOST_STEPS, bool))
    actions = np.full(GHOST_STEPS, NOOP, np.int32)
    actions[130:180] = [DOWN, UP] * 25
    if crowd == "of submarines":
        draws = draws._replace(is_sub=draws.right)
        actions[180:-300] = rng.choice([LEFT, UP, RIGHT, DOWN, FIRE], GHOST_STEPS - 480)
    else:
        draws = draws._replace(row=rng.integers(4, 6, GHOST_STEPS).astype(np.int32))
        actions[180:189] = [DOWN] * 4 + [RIGHT] * 4 + [LEFT]
        actions[190:] = FIRE
        actions[200::40], actions[220::40] = DOWN, UP
    most, states, _ = assert_ghost_as_original(-1, actions, draws)
    assert states.level[180] == 19
    # Each stays for 30 moves and is gone at the end of the last: 30 within a move.
    assert most == (29, 8) if crowd == "of submarines" else most[0] > 15


@pytest.mark.slow
def test_the_newest_of_two_divers_takes_the_last_place():
    """Two divers drift into the player's cell in the same move, and there is one place left."""
    draws = any_draws(np.random.default_rng(0), GHOST_STEPS)
    odd = np.arange(GHOST_STEPS) // 30 % 2 == 1
    draws = draws._replace(diver_row=np.full(GHOST_STEPS, 4, np.int32), diver_right=odd)
    actions = np.full(GHOST_STEPS, NOOP, np.int32)
    actions[:6] = [RIGHT, RIGHT, DOWN, DOWN, DOWN, DOWN]
    _, states, obs = assert_ghost_as_original(5, actions, draws)
    last = np.flatnonzero(states.crew == 6)[0]
    assert obs[last, 4, 7, [0, 9]].all() and states.crew[last - 1] == 5


@pytest.mark.slow
def test_a_submarine_hit_by_a_bullet_may_still_fire():
    """Both in one move happens only to submarines that entered before enemies became faster."""
    draws = any_draws(np.random.default_rng(0), GHOST_STEPS)
    for leaf, value in zip(draws, (True, True, 4, True, 1), strict=True):
        leaf[20] = value
    actions = np.full(GHOST_STEPS, NOOP, np.int32)
    actions[17:29] = [DOWN, UP, DOWN, UP, DOWN, DOWN, DOWN, DOWN, NOOP, NOOP, NOOP, FIRE]
    _, _, obs = assert_ghost_as_original(-1, actions, draws)
    bullet, enemy_bullet, sub = obs[29:31, 4, :, [2, 4, 6]]
    assert bullet[0, 3] and sub[0, 1] and not bullet[1].any() and not sub[1].any()
    assert not enemy_bullet[0].any() and enemy_bullet[1, 3]


def test_draws_of_seaquest():
    """Direction, kind and row of an enemy and of a diver have the original's chances and are independent."""
    count = 20_000
    draws = jax.jit(jax.vmap(seaquest.draw))(jax.random.split(jax.random.key(0), count))
    draws = jax.device_get(draws)
    for happens, chance in ((draws.right, 1 / 2), (draws.is_sub, 1 / 3), (draws.diver_right, 1 / 2)):
        assert stats.binomtest(int(happens.sum()), count, chance).pvalue > 1e-3
    for row in (draws.row, draws.diver_row):
        assert set(row) == set(range(1, 9)) and stats.chisquare(np.bincount(row)[1:]).pvalue > 1e-3
    for one, other in combinations(draws, 2):
        assert stats.chi2_contingency(stats.contingency.crosstab(one, other).count).pvalue > 1e-3


@cache
def tame(name):
    """Return the environment without sticky actions and ramping, and its step."""
    env = GAMES[name].make(difficulty_ramping=False, sticky_action_prob=0.0)
    return env, jax.jit(env.step)


@pytest.mark.parametrize("name", GAMES)
def test_the_environment(name):
    """Planes and actions of the original; types of the step, its limit, one program for all steps."""
    original, game, (env, step) = make_original(name), GAMES[name].GAME, tame(name)
    assert game.channels == tuple(original.channels) and game.name == name
    assert list(game.minimal_actions) == original.minimal_action_set()
    assert env.observation_space.shape == tuple(original.state_shape()) and env.action_space.n == 6
    assert GAMES[name].make(use_minimal_action_set=True).action_space.n == len(game.minimal_actions)
    key, programs = jax.random.key(0), set()
    obs, state = env.reset(key)
    assert np.asarray(obs) in env.observation_space and state.inner.time == 0
    np.testing.assert_array_equal(obs, original.state())
    for time, expected in ((9998, False), (9999, True)):
        state = state._replace(inner=state.inner._replace(time=jnp.int32(time)))
        obs, state, reward, terminated, truncated, _ = step(key, state, jnp.int32(NOOP))
        programs.add(step._cache_size())
        assert (bool(terminated), bool(truncated), int(state.inner.time)) == (False, expected, time + 1)
        assert np.asarray(obs) in env.observation_space and reward.dtype == jnp.float32
    assert len(programs) == 1


def about_to_be_harder(name, state):
    """Return `state` just before the wave is cleared or the air renewed, and the action for it."""
    if name == "seaquest":
        return state._replace(y=jnp.int32(1), crew=jnp.int32(3), surfaced=jnp.bool_(False)), UP
    alien, bullet = (jnp.zeros(10, jnp.int32).at[row].set(1 << 4) for row in (2, 3))
    return state._replace(aliens=alien, bullets=bullet), NOOP


@pytest.mark.parametrize("name", GAMES)
def test_no_ramping_without_difficulty_ramping(name):
    env, step = tame(name)
    _, state = env.reset(jax.random.key(0))
    inner, action = about_to_be_harder(name, state.inner)
    after = step(jax.random.key(1), state._replace(inner=inner), jnp.int32(action))[1].inner
    if name == "seaquest":
        assert (after.crew, after.oxygen, after.level) == (2, 200, 0)
    else:
        assert (after.aliens != 0).sum() == 4 and after.march_interval == 12
