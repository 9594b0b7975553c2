"""purerl's environments under Gymnasium's interface: its checker, its own vector environment, and by hand."""

from functools import cache, partial
from typing import NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import AS_USERS_DO
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import purerl
from purerl.config import ConfigError
from purerl.envs.adapters.to_gymnasium import compiled_env as programs
from purerl.envs.adapters.to_gymnasium.env import to_gymnasium, to_gymnasium_vector
from purerl.envs.adapters.to_gymnasium.io import Actions
from purerl.envs.functional import functional_env
from purerl.registry import ENVIRONMENTS

MODES = {mode.name.lower(): mode for mode in AutoresetMode}
LATER = ["mountain_car_continuous", "breakout"]
CHECKED = ["cartpole", "pendulum", "half_cheetah"] + [name for name in LATER if name in ENVIRONMENTS]
ROWS = 5


class Params(NamedTuple):
    stride: float = 1.0


class State(NamedTuple):
    """Every kind of leaf: numbers, a key, and an array too large to be packed."""

    x: jax.Array
    key: jax.Array
    board: jax.Array
    time: jax.Array


def make_walk():
    """A random walk, pushed left or right: its arithmetic is exact, so that all programs agree to the bit.

    Also a dict that counts how often its step is traced.
    """
    traces = {"step": 0}

    def observe(state):
        return jnp.stack([state.x, state.time.astype(jnp.float32)])

    def reset(key, params):
        x = (jax.random.bits(key) % 7).astype(jnp.float32) - 3
        state = State(x, key, jnp.full((70, 70), x.astype(jnp.int32) + 3, jnp.uint8), jnp.int32(0))
        return observe(state), state

    def step(key, state, action, params):
        traces["step"] += 1
        chance = jax.random.bits(key) % 3 + jax.random.key_data(state.key)[1] % 2
        x = state.x + params.stride * (chance.astype(jnp.float32) + 2 * action - 2)
        state = State(x, key, state.board + 1, state.time + 1)
        inner = {"double": 2 * x, "board": state.board[0, :2]}
        info = {"far": jnp.abs(x) > 3, "time": state.time, "pair": jnp.stack([x, -x]), "inner": inner}
        return observe(state), state, x / 4, jnp.abs(x) >= 6, info

    def render(states, *, width=4, height=2, camera=None):
        shade = np.asarray(states.x + states.board[..., 0, 0] + 9, np.uint8)
        return np.broadcast_to(shade[..., None, None, None], (*np.shape(states.x), height, width, 3))

    env = functional_env(
        "walk",
        reset=reset,
        step=step,
        observation_space=spaces.Box(-np.inf, np.inf, (2,)),
        action_space=spaces.Discrete(2),
        max_episode_steps=7,
        default_params=Params(),
        render=render,
    )
    return env, traces


@cache
def make(name):
    """The same object each time, so that all tests share its programs."""
    limit = {"cartpole": 12, "half_cheetah": 12}
    options = {"max_episode_steps": limit[name]} if name in limit else {}
    return make_walk()[0] if name == "walk" else purerl.make_env(name, **options)


@pytest.fixture
def walk():
    return make("walk")


@pytest.fixture
def register():
    """Registers `env`, with its vector form, until the test ends; gives its id."""
    ids = []

    def add(env):
        ids.append(f"purerl-test/{env.name}-v0")
        gymnasium.register(
            ids[-1],
            entry_point=to_gymnasium,
            vector_entry_point=to_gymnasium_vector,
            kwargs={"env": env},
        )
        return ids[-1]

    yield add
    for id in ids:
        gymnasium.registry.pop(id)


def key_of(seed, call):
    return jax.random.fold_in(jax.random.key(seed), call)


def same(one, two, exact=True):
    """Equal in structure, types, dtypes and numbers."""
    assert type(one) is type(two), (one, two)
    if isinstance(one, dict):
        assert one.keys() == two.keys()
        for name in one:
            same(one[name], two[name], exact)
    elif isinstance(one, tuple) or (isinstance(one, np.ndarray) and one.dtype == object):
        for a, b in zip(one, two, strict=True):
            same(a, b, exact)
    elif isinstance(one, np.ndarray):
        assert (one.dtype, one.shape) == (two.dtype, two.shape)
        np.testing.assert_allclose(one, two, rtol=0 if exact else 1e-4, atol=0 if exact else 1e-5)
    else:
        assert one == two


# One


@pytest.mark.parametrize("name", CHECKED)
def test_gymnasiums_checker_finds_nothing(name, register):
    """With a spec, so that it makes others, closes them, and compares seeds."""
    env = make(name)
    one = gymnasium.make(register(env)).unwrapped
    assert one.spec is not None and one.metadata["render_modes"] == (["rgb_array"] if env.render else [])
    check_env(one, skip_render_check=True)


def test_gymnasiums_checker_finds_nothing_in_pictures(walk, register):
    check_env(gymnasium.make(register(walk), render_mode="rgb_array").unwrapped)


@pytest.mark.parametrize("name", ["walk", "cartpole", "half_cheetah"])
def test_steps_are_those_of_the_functions(name, monkeypatch):
    """Under the keys that are documented; a reset without a seed goes on with them."""
    monkeypatch.setattr(jax, "jit", partial(jax.jit, compiler_options=AS_USERS_DO))
    env = make.__wrapped__(name)  # one that has no programs yet
    reset, step = (jax.jit(function) for function in (env.reset, env.step))
    one, random = to_gymnasium(env), np.random.default_rng(0)
    for seed in (3, 4):
        calls = iter(range(1000))
        for given in (seed, None):
            obs, info = one.reset(seed=given)
            expected, state = reset(key_of(seed, next(calls)))
            np.testing.assert_allclose(obs, expected, rtol=1e-6)
            assert info == {}
            ended = False
            while not ended:
                action = random.uniform(-1, 1, 6) if name == "half_cheetah" else random.integers(2)
                obs, reward, terminated, truncated, info = one.step(action)
                sent = jnp.asarray(action, jnp.float32 if name == "half_cheetah" else jnp.int32)
                expected, state, *others, infos = step(key_of(seed, next(calls)), state, sent)
                np.testing.assert_allclose(obs, expected, rtol=1e-5, atol=0 if name == "walk" else 1e-5)
                np.testing.assert_allclose((reward, terminated, truncated), np.stack(others), rtol=1e-6)
                assert info.keys() == infos.keys()
                jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), info, dict(infos))
                ended = terminated or truncated


def test_everything_returned_is_numpys_or_pythons_own(walk):
    """Of the space's dtype, in the space, writable, and never twice the same memory."""
    wide = walk._replace(observation_space=spaces.Box(-np.inf, np.inf, (2,), np.float64))
    for env, dtype in ((walk, np.float32), (wide, np.float64)):
        one = to_gymnasium(env)
        first, _ = one.reset(seed=0)
        obs, reward, terminated, truncated, info = one.step(1)
        assert obs.dtype == dtype and obs in one.observation_space and obs.flags.writeable
        assert not np.shares_memory(first, obs)
        assert [type(value) for value in (obs, reward, terminated, truncated)] == [
            np.ndarray,
            float,
            bool,
            bool,
        ]
        assert [type(info[name]) for name in ("far", "time", "pair")] == [bool, int, np.ndarray]
        assert type(info["inner"]["double"]) is float and info["inner"]["board"].dtype == np.uint8
        first[:] = obs[:] = info["pair"][:] = 99  # changes nothing for the environment
        assert one.step(1)[0][1] == 2


def test_seeds(walk):
    """Same seed, same everything; without one the stream goes on; none at all can be looked up."""
    one = to_gymnasium(walk)

    def play(seed):
        obs = [one.reset(seed=seed)[0], one.step(1)[0], one.reset()[0], one.step(0)[0], one.reset()[0]]
        return np.stack(obs)

    runs = [play(seed) for seed in (0, 1, 2**32, 5 * 2**64 + 1)]
    assert one.np_random_seed == 5 * 2**64 + 1
    np.testing.assert_array_equal(runs[0], play(0))
    assert len({run.tobytes() for run in runs}) == 4
    assert len({obs.tobytes() for obs in play(0)[::2]}) > 1, "a new episode, not the same again"
    fresh = to_gymnasium(walk)
    first = [fresh.reset()[0], fresh.step(1)[0]]
    again = to_gymnasium(walk)
    np.testing.assert_array_equal(first, [again.reset(seed=fresh.np_random_seed)[0], again.step(1)[0]])
    starts = set()
    for _ in range(8):
        fresh = to_gymnasium(walk)
        starts.add(np.stack([fresh.reset()[0] for _ in range(8)]).tobytes())
    assert len(starts) == 8
    own = to_gymnasium(walk)
    own.np_random = np.random.default_rng(0)
    own.reset()
    with pytest.raises(gymnasium.error.Error, match="Seed"):
        own.reset(seed=-1)


def test_a_reset_is_needed_first_and_after_the_end(walk):
    one = to_gymnasium(walk, render_mode="rgb_array")
    for call in (lambda: one.step(0), one.render):
        with pytest.raises(ResetNeeded, match="before"):
            call()
    one.reset(seed=0)
    ended = False
    while not ended:
        _, _, terminated, truncated, _ = one.step(0)
        ended = terminated or truncated
    with pytest.raises(ResetNeeded, match="after the end"):
        one.step(0)
    assert one.render().shape == (2, 4, 3)  # of the last state
    one.reset()
    one.step(0)


def test_both_kinds_of_end_end_the_episode(walk):
    """Each alone, and told apart."""
    one, seen = to_gymnasium(walk), set()
    for seed in range(12):
        one.reset(seed=seed)
        ends = (False, False)
        while not any(ends):
            ends = one.step(1 if seed % 2 else seed // 2 % 2)[2:4]
        seen.add(ends)
        with pytest.raises(ResetNeeded):
            one.step(0)
    assert {(True, False), (False, True)} <= seen


def test_pictures_are_of_the_state_it_is_in(walk):
    one = to_gymnasium(walk, render_mode="rgb_array")
    obs, _ = one.reset(seed=0)
    board = obs[0] + 3
    for step in range(3):
        frame = one.render()
        assert (frame.dtype, frame.shape) == (np.uint8, (2, 4, 3))
        assert (frame == obs[0] + board + step + 9).all()
        obs = one.step(1)[0]
    assert one.metadata["render_modes"] == ["rgb_array"] and one.metadata["render_fps"] > 0
    with pytest.warns(UserWarning, match="rgb_array"):
        assert to_gymnasium(walk).render() is None
    without = walk._replace(render=None)
    assert to_gymnasium(without).metadata["render_modes"] == []
    for env, mode in ((without, "rgb_array"), (walk, "human"), (walk, "ansi")):
        with pytest.raises(ConfigError, match="render_mode") as error:
            to_gymnasium(env, render_mode=mode)
        assert error.value.field == "render_mode"


def test_gymnasiums_wrappers_go_around_it(walk):
    """Without a spec too."""
    wrappers = gymnasium.wrappers
    pendulum = to_gymnasium(make("pendulum"))
    scaled = wrappers.RescaleAction(pendulum, np.float32(-1), np.float32(1))
    env = wrappers.NormalizeObservation(wrappers.RecordEpisodeStatistics(wrappers.TimeLimit(scaled, 3)))
    with env:
        env.reset(seed=0)
        for _ in range(3):
            *_, truncated, info = env.step(np.float32([0.5]))
        assert truncated and info["episode"]["l"] == 3 and env.spec is None
    envs = wrappers.vector.RecordEpisodeStatistics(to_gymnasium_vector(walk, ROWS))
    envs.reset(seed=0)
    lengths = [info["episode"]["l"][info["_episode"]] for *_, info in play(envs, 8) if "episode" in info]
    assert np.concatenate(lengths).min() > 0 and np.concatenate(lengths).max() <= 7
    envs.close()


def test_it_can_be_registered(walk, register):
    id = register(walk)
    one, many = gymnasium.make(id), gymnasium.make_vec(id, num_envs=3, autoreset_mode="next_step")
    assert many.num_envs == 3 and many.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    np.testing.assert_array_equal(one.reset(seed=4)[0], many.reset(seed=2)[0][2])
    assert one.unwrapped.spec.id == many.spec.id == id


def test_adapters_of_one_environment_share_its_programs():
    """Many single ones, as SyncVectorEnv makes them, trace once, and a step does not trace again."""
    env, traces = make_walk()
    for _ in range(3):
        one = to_gymnasium(env)
        for seed in (0, None):
            one.reset(seed=seed)
            for action in (0, np.int64(1), np.int32(1)):
                one.step(action)
    assert traces["step"] == 1


@pytest.mark.parametrize("params", [None, Params(3.0)])
def test_parameters_reach_the_environment(walk, params):
    reset, step = jax.jit(walk.reset), jax.jit(walk.step)
    one, many = (
        to_gymnasium(walk, params=params),
        to_gymnasium_vector(walk, ROWS, params=params, autoreset_mode="disabled"),
    )
    many.reset(seed=0)
    rows, *_ = many.step(np.ones(ROWS, int))
    for seed in range(ROWS):
        _, state = reset(key_of(seed, 0))
        expected, *_ = step(key_of(seed, 1), state, 1, params or Params(1.0))
        one.reset(seed=seed)
        np.testing.assert_array_equal(one.step(1)[0], expected)
        np.testing.assert_array_equal(rows[seed], expected)
    assert len(np.unique(rows[:, 0])) > 1


# Many


def play(envs, num_steps, waiting=None):
    """What random actions lead to. Where nothing else resets a row that ended, a mask does.

    `waiting` are rows that ended before.
    """
    random, ended = np.random.default_rng(0), np.zeros(envs.num_envs, bool) if waiting is None else waiting
    mode, space = envs.metadata["autoreset_mode"], envs.single_action_space
    for _ in range(num_steps):
        if mode is AutoresetMode.DISABLED and ended.any():
            yield envs.reset(options={"reset_mask": ended})
        actions = random.uniform(-1, 1, envs.action_space.shape).astype(np.float32)
        if isinstance(space, spaces.Discrete):
            actions = (actions > 0).astype(int)
        if mode is AutoresetMode.NEXT_STEP:
            actions[ended] = 99  # nobody looks
        result = envs.step(actions)
        ended = result[2] | result[3]
        yield result


@pytest.mark.parametrize(
    ("name", "mode"),
    [*(("walk", mode) for mode in MODES), ("cartpole", "same_step"), ("half_cheetah", "same_step")],
)
def test_rows_are_single_ones_as_gymnasium_vectorises_them(name, mode):
    """Observations, rewards, flags and infos of hundreds of episodes, after resets of every form."""
    env = make(name)
    ours = to_gymnasium_vector(env, ROWS, autoreset_mode=mode)
    theirs = SyncVectorEnv([lambda: to_gymnasium(env)] * ROWS, autoreset_mode=MODES[mode])
    for part in ("num_envs", "observation_space", "action_space", "single_observation_space"):
        assert getattr(ours, part) == getattr(theirs, part)
    assert ours.metadata["autoreset_mode"] is theirs.metadata["autoreset_mode"] is MODES[mode]
    every = np.ones(ROWS, bool)
    some, own = np.arange(ROWS) % 2 == 0, [None, 11, 5, 5, 2**40]
    waiting, ends = ~every, 0
    resets = [(7, every), (None, every), (own, every), (100, some), (None, ~some), (own, some)]
    for seed, mask in resets if name == "walk" else resets[:1]:  # fewer programs
        results = [envs.reset(seed=seed, options={"reset_mask": mask}) for envs in (ours, theirs)]
        same(*results, exact=name == "walk")
        waiting = waiting & ~mask
        steps = {"walk": 80, "cartpole": 300, "half_cheetah": 60}[name]
        for one, two in zip(play(ours, steps, waiting), play(theirs, steps, waiting), strict=True):
            same(one, two, exact=name == "walk")
            ends += (one[2] | one[3]).sum() if len(one) == 5 else 0
        waiting = one[2] | one[3]
    assert ends > {"walk": 300, "cartpole": 100, "half_cheetah": 20}[name]


def test_the_other_rows_go_on_when_one_is_reset(walk):
    """Told to by a mask, or of itself: the rest stands still in a reset, and goes on in a step."""
    many, alone = to_gymnasium_vector(walk, ROWS), [to_gymnasium(walk) for _ in range(ROWS)]
    obs, _ = many.reset(seed=0)
    for row, one in enumerate(alone):
        one.reset(seed=row)
    rows, mask = np.array([0, 2, 3, 4]), np.arange(ROWS) == 1
    for _ in range(3):
        actions = (obs[:, 0] < 0).astype(int)  # back to the middle
        obs, *_ = many.step(actions)
        before = obs.copy()
        obs[:] = 99  # its owner may write into it
        obs, _ = many.reset(options={"reset_mask": mask})
        np.testing.assert_array_equal(obs[rows], before[rows])
        assert obs[1, 1] == 0
        for row in rows:
            np.testing.assert_array_equal(alone[row].step(actions[row])[0], obs[row])
    clock, ends = obs[:, 1], 0
    for obs, _, terminated, truncated, _ in play(many, 60):
        ended = terminated | truncated
        np.testing.assert_array_equal(obs[:, 1], np.where(ended, 0, clock + 1))
        clock, ends = obs[:, 1], ends + (ended.any() and not ended.all())
    assert ends > 20


def test_row_seeds(walk):
    """s, s + 1, ...; a list names each; none goes on; none at all can be looked up."""
    many = to_gymnasium_vector(walk, ROWS)
    first, _ = many.reset(seed=5)
    assert many.np_random_seed == 5
    np.testing.assert_array_equal(many.reset(seed=[7, 5, 2**40, 5, 5])[0][[1, 3]], first[[0, 0]])
    np.testing.assert_array_equal(many.reset(seed=np.int64(5))[0], first)
    on = [many.reset()[0] for _ in range(2)]
    assert (first != on[0]).any() and (on[0] != on[1]).any()
    fresh = to_gymnasium_vector(walk, ROWS)
    start, _ = fresh.reset()
    np.testing.assert_array_equal(many.reset(seed=fresh.np_random_seed)[0], start)
    assert len({to_gymnasium_vector(walk, ROWS).reset()[0].tobytes() for _ in range(4)}) > 1


def test_one_row_that_ends_is_reset_once_in_next_step(walk):
    """The step after an end: reward 0, no flags, no info of that row, and the clock at 0."""
    many = to_gymnasium_vector(walk, ROWS, autoreset_mode="next_step")
    many.reset(seed=0)
    ended, seen = np.zeros(ROWS, bool), 0
    for obs, reward, terminated, truncated, infos in play(many, 60):
        seen += ended.sum()
        assert not reward[ended].any() and not (terminated | truncated)[ended].any()
        assert (obs[ended, 1] == 0).all() and (obs[~ended, 1] > 0).all()
        assert ended.all() or (infos["_time"] == ~ended).all()
        ended = terminated | truncated
    assert seen > 20


# What is refused


DISCRETE = [
    2,
    -1,
    10**30,
    True,
    np.True_,
    1.0,
    np.float32(0),
    "1",
    None,
    [0],
    np.array([1]),
    np.nan,
    [[1], 2],
]
SCALARS = [0.0, "0", None, 1j]
BOX = [*SCALARS, [0, 0], [[0.0]], [2.5], [-2.01], [np.nan], [np.inf], [-np.inf], [1e300], ["0"], [True], [1j]]


@pytest.mark.parametrize(("name", "bad", "good"), [("walk", DISCRETE, np.int64(1)), ("pendulum", BOX, [2])])
def test_an_action_outside_the_space_is_refused_before_anything_happens(name, bad, good):
    """With the field, the value and what is allowed; the episode then goes on as if nothing was."""
    env = make(name)
    one, undisturbed = to_gymnasium(env), to_gymnasium(env)
    one.reset(seed=0), undisturbed.reset(seed=0)
    for action in bad:
        with pytest.raises(ConfigError, match=r"action = .* from (0 to 1|-2.0 to 2.0)") as error:
            one.step(action)
        assert error.value.field == "action"
    same(one.step(good), undisturbed.step(good))


def test_a_row_of_actions_outside_the_space_is_refused_and_named(walk):
    many = to_gymnasium_vector(walk, ROWS)
    many.reset(seed=0)
    for actions in ([0, 1, 2, 1, 0], [0, 0, -1, 0, 1], np.array([0, 0, 2**40, 0, 0])):
        with pytest.raises(ConfigError, match=r"row 2 .* from 0 to 1") as error:
            many.step(np.array(actions))
        assert (error.value.field, error.value.value) == ("action", actions[2])
    good = np.array([0, 1, 1, 0, 1])
    for actions in (good[:4], good[:, None], good > 0, good.astype(float), 1, [0, [1]]):
        with pytest.raises(ConfigError, match=r"must be integers of shape \(5,\) from 0 to 1"):
            many.step(actions)
    assert (many.step(good)[0][:, 1] == 1).all()
    read = Actions(spaces.Box(np.float32([-2, 0]), np.float32([2, 1])), (3,)).read
    for row, bad in (
        (2, [[0, 0], [2, 1], [2, np.nan]]),
        (0, [[0, -0.01], [2, 1], [2, 1]]),
        (1, [[2, 1], [3, 1], [9, 9]]),
    ):
        with pytest.raises(ConfigError, match=f"row {row} "):
            read(np.array(bad), np.ones(3, bool))
        read(np.array(bad), np.arange(3) < row)  # the others are not looked at


def test_the_limits_of_a_space_are_in_it():
    """In float32, whatever float64 makes of them; and an unbounded space has every finite number."""
    read = Actions(spaces.Box(np.float32(-0.7), np.float32(0.7), (1,)), ()).read
    for value in (0.7, -0.7, np.float32(0.7)):
        assert read([value]).dtype == np.float32
    free = Actions(spaces.Box(-np.inf, np.inf, (1,)), ()).read
    np.testing.assert_array_equal(free([3e38]), np.float32([3e38]))
    for value in (np.inf, -np.inf, np.nan, 1e39):
        with pytest.raises(ConfigError):
            free([value])
    large = Actions(spaces.Discrete(1000, start=5), ()).read
    assert [int(large(i)) for i in (5, 1004)] == [5, 1004] and large(5).dtype == np.int32
    for index in (4, 1005):
        with pytest.raises(ConfigError, match="5 to 1004"):
            large(index)


@pytest.mark.parametrize(
    ("field", "arguments", "reset"),
    [
        ("num_envs", {"num_envs": 0}, {}),
        ("num_envs", {"num_envs": 2.0}, {}),
        ("autoreset_mode", {"autoreset_mode": "samestep"}, {}),
        ("autoreset_mode", {"autoreset_mode": None}, {}),
        ("env", {"env": "cartpole"}, {}),
        ("seed", {}, {"seed": -1}),
        ("seed", {}, {"seed": True}),
        ("seed", {}, {"seed": 1.5}),
        ("seed", {}, {"seed": [1]}),
        ("seed", {}, {"seed": [1, "2"]}),
        ("seed", {}, {"seed": [1, -2]}),
        ("options", {}, {"options": {"reset_masks": np.ones(2, bool)}}),
        ("reset_mask", {}, {"options": {"reset_mask": np.zeros(2, bool)}}),
        ("reset_mask", {}, {"options": {"reset_mask": np.ones(3, bool)}}),
        ("reset_mask", {}, {"options": {"reset_mask": np.ones(2)}}),
    ],
)
def test_what_cannot_be_names_its_field(field, arguments, reset, walk):
    with pytest.raises(ConfigError) as error:
        to_gymnasium_vector(**{"env": walk, "num_envs": 2} | arguments).reset(**reset)
    assert error.value.field == field


def test_what_one_environment_cannot_take(walk):
    with pytest.raises(ConfigError, match="options"):
        to_gymnasium(walk).reset(options={"low": 0})
    for part in ({"action_space": spaces.MultiBinary(2)}, {"observation_space": spaces.Discrete(2)}):
        with pytest.raises(ConfigError, match="walk"):
            to_gymnasium(walk._replace(**part))
    with pytest.raises(ConfigError, match="make_env"):
        to_gymnasium(gymnasium.make("CartPole-v1"))


def test_rows_need_a_reset(walk):
    """Before the first step, before a part, and where nothing else resets them."""
    many, still = to_gymnasium_vector(walk, ROWS, autoreset_mode="disabled"), np.zeros(ROWS, int)
    with pytest.raises(ResetNeeded, match="before"):
        many.step(still)
    with pytest.raises(ResetNeeded, match="part"):
        many.reset(options={"reset_mask": np.arange(ROWS) > 0})
    many.reset(seed=0)
    ended = np.zeros(ROWS, bool)
    while not ended.any():
        _, _, terminated, truncated, _ = many.step(still)
        ended = terminated | truncated
    terminated[:] = truncated[:] = False  # its owner may write into it
    assert not ended.all()
    for mask in (None, ~ended):
        if mask is not None:
            many.reset(options={"reset_mask": mask})
        with pytest.raises(ResetNeeded, match=str(np.flatnonzero(ended)[0])):
            many.step(still)
    many.reset(options={"reset_mask": ended})
    many.step(still)


# Packing


def test_what_is_packed_comes_out_as_it_went_in():
    """Every dtype, keys of two kinds, nothing, and arrays too large; on the host, aligned and writable."""
    tree = {
        "flag": jnp.array([True, False]),
        "byte": jnp.arange(5, dtype=jnp.uint8),
        "half": jnp.array([1.5, -2], jnp.float16),
        "brain": jnp.array([1.5], jnp.bfloat16),
        "numbers": (jnp.float32(np.nan), jnp.array([[1, -2]], jnp.int16), jnp.uint32(2**32 - 1)),
        "none": jnp.zeros((0, 3)),
        "large": jnp.arange(2000, dtype=jnp.float32),
        "python": 3,
        "empty": (),
    }
    keys = {"key": jax.random.key(3), "keys": jax.random.split(jax.random.key(4, impl="rbg"), 2)}
    pack = jax.jit(programs.pack)
    unpack = jax.jit(lambda packed: packed.unpack())
    packed = pack(tree)
    for result in (packed.read(), unpack(packed)):
        for (path, one), two in zip(jax.tree.leaves_with_path(tree), jax.tree.leaves(result), strict=True):
            assert jnp.asarray(one).dtype == two.dtype, path
            np.testing.assert_array_equal(np.asarray(one), np.asarray(two), err_msg=str(path))
    assert all(leaf.flags.aligned and leaf.flags.writeable for leaf in jax.tree.leaves(packed.read()))
    for one, two in zip(jax.tree.leaves(keys), jax.tree.leaves(unpack(pack(keys))), strict=True):
        assert one.dtype == two.dtype and (jax.random.key_data(one) == jax.random.key_data(two)).all()


def test_the_root_of_a_seed_is_its_key():
    """Up to 32 bits; more bits make other roots, whatever seeds are beside it."""
    seeds = [0, 5, 2**31 + 1, 2**32 - 1, 5 + 2**32, 5 + 2**64, 5 + 2**32 + 2**64]
    data = np.asarray(jax.random.key_data(programs.roots_of(seeds)))
    for seed, row in zip(seeds[:4], data, strict=False):
        np.testing.assert_array_equal(row, jax.random.key_data(jax.random.key(seed)))
    assert len(np.unique(data, axis=0)) == len(seeds)
    for seed, row in zip(seeds, data, strict=True):
        np.testing.assert_array_equal(row, jax.random.key_data(programs.roots_of([seed]))[0])
