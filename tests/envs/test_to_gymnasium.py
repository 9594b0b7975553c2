"""purerl's environments as `gymnasium.Env`: Gymnasium's checker, the documented keys, and refusals."""

from functools import partial

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import AS_USERS_DO
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from gymnasium_walk import ROWS, Params, key_of, make, make_walk, play, same

from purerl.config import ConfigError
from purerl.envs.adapters.to_gymnasium import compiled_env
from purerl.envs.adapters.to_gymnasium.env import to_gymnasium
from purerl.envs.adapters.to_gymnasium.io import Actions
from purerl.envs.adapters.to_gymnasium.vector import to_gymnasium_vector

CHECKED = ["cartpole", "half_cheetah", "pendulum", "mountain_car_continuous", "breakout"]


@pytest.fixture
def walk():
    return make("walk")


@pytest.fixture
def register():
    """Register an environment, with its vector form, until the test ends; return its id."""
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


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in CHECKED[:2] else pytest.mark.slow) for name in CHECKED]
)
def test_gymnasium_checker(name, register):
    """With a spec, so that the checker makes others, closes them, and compares seeds."""
    env = make(name)
    one = gymnasium.make(register(env)).unwrapped
    assert one.spec is not None and one.metadata["render_modes"] == (["rgb_array"] if env.render else [])
    check_env(one, skip_render_check=True)


def test_gymnasium_checker_on_pictures(walk, register):
    check_env(gymnasium.make(register(walk), render_mode="rgb_array").unwrapped)


@pytest.mark.parametrize("name", ["walk", "cartpole", pytest.param("half_cheetah", marks=pytest.mark.slow)])
def test_steps_equal_the_functions(name, monkeypatch):
    """Under the documented keys; a reset without a seed goes on with them."""
    with monkeypatch.context() as patch:  # not while they are traced: the options are for outermost programs
        patch.setattr(jax, "jit", partial(jax.jit, compiler_options=AS_USERS_DO))
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


def test_returned_types(walk):
    """NumPy arrays of the space's dtype, in the space, writable, in memory of their own; Python scalars."""
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
        first[:] = obs[:] = info["pair"][:] = 99  # the environment does not see it
        assert one.step(1)[0][1] == 2


def test_seeds(walk):
    """The same seed repeats; no seed goes on; a seed that was never given can be looked up."""
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


def test_reset_needed(walk):
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


def test_both_flags_end_an_episode(walk):
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


def test_pictures_show_the_current_state(walk):
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


def test_gymnasium_wrappers(walk):
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


def test_registered(walk, register):
    id = register(walk)
    one, many = gymnasium.make(id), gymnasium.make_vec(id, num_envs=3, autoreset_mode="next_step")
    assert many.num_envs == 3 and many.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    same(one.reset(seed=4)[0], many.reset(seed=2)[0][2])
    assert one.unwrapped.spec.id == many.spec.id == id


def test_adapters_share_programs():
    """Several adapters of one environment trace once, and no step traces again."""
    env, traces = make_walk()
    for _ in range(3):
        one = to_gymnasium(env)
        for seed in (0, None):
            one.reset(seed=seed)
            for action in (0, np.int64(1), np.int32(1)):
                one.step(action)
    assert traces["step"] == 1


@pytest.mark.parametrize("params", [None, Params(3.0)])
def test_params(walk, params):
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
        same(one.step(1)[0], np.asarray(expected))
        same(rows[seed], np.asarray(expected))
    assert len(np.unique(rows[:, 0])) > 1


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
def test_invalid_actions(name, bad, good):
    """Refused with the field, the value and what is allowed; the episode then goes on undisturbed."""
    env = make(name)
    one, undisturbed = to_gymnasium(env), to_gymnasium(env)
    one.reset(seed=0), undisturbed.reset(seed=0)
    for action in bad:
        with pytest.raises(ConfigError, match=r"action = .* from (0 to 1|-2.0 to 2.0)") as error:
            one.step(action)
        assert error.value.field == "action"
    same(one.step(good), undisturbed.step(good))


def test_bounds_are_valid_actions():
    """In float32; and every finite number is in an unbounded space."""
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


def test_several_choices_are_valid_actions():
    """Each within its own bounds; NumPy's own integers are welcome, and anything else is refused."""
    several, switches = spaces.MultiDiscrete([2, 5], start=[0, 3]), spaces.MultiBinary(3)
    for space, wrong in ((several, ([0, 8], [2, 3], [0.0, 3.0], [0])), (switches, ([0, 1, 2], [0, 1]))):
        read = Actions(space, ()).read
        for seed in range(5):
            space.seed(seed)
            action = space.sample()
            assert read(action).dtype == np.int32 and (read(action) == action).all()
        for action in wrong:
            with pytest.raises(ConfigError, match="action"):
                read(np.array(action))


def test_invalid_arguments(walk):
    with pytest.raises(ConfigError, match="options"):
        to_gymnasium(walk).reset(options={"low": 0})
    for part in ({"action_space": spaces.Text(2)}, {"observation_space": spaces.Discrete(2)}):
        with pytest.raises(ConfigError, match="walk"):
            to_gymnasium(walk._replace(**part))
    with pytest.raises(ConfigError, match="make_env"):
        to_gymnasium(gymnasium.make("CartPole-v1"))


# Programs


def test_packing():
    """Every dtype, keys of two kinds and no numbers at all; outside a program aligned and writable."""
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
    pack, unpack = jax.jit(compiled_env.pack), jax.jit(lambda packed: packed.unpack())
    packed = pack(tree)
    for result in (packed.read(), unpack(packed)):
        for (path, one), two in zip(jax.tree.leaves_with_path(tree), jax.tree.leaves(result), strict=True):
            assert jnp.asarray(one).dtype == two.dtype, path
            np.testing.assert_array_equal(np.asarray(one), np.asarray(two), err_msg=str(path))
    assert all(leaf.flags.aligned and leaf.flags.writeable for leaf in jax.tree.leaves(packed.read()))
    for result in (pack(keys).read(), unpack(pack(keys))):
        for one, two in zip(jax.tree.leaves(keys), jax.tree.leaves(result), strict=True):
            assert one.dtype == two.dtype and (jax.random.key_data(one) == jax.random.key_data(two)).all()


def test_root_of_a_seed():
    """Its key, up to 32 bits; more bits make other roots, and other seeds do not matter."""
    seeds = [0, 5, 2**31 + 1, 2**32 - 1, 5 + 2**32, 5 + 2**64, 5 + 2**32 + 2**64]
    data = np.asarray(jax.random.key_data(compiled_env.roots_of(seeds)))
    for seed, row in zip(seeds[:4], data, strict=False):
        np.testing.assert_array_equal(row, jax.random.key_data(jax.random.key(seed)))
    assert len(np.unique(data, axis=0)) == len(seeds)
    for seed, row in zip(seeds, data, strict=True):
        np.testing.assert_array_equal(row, jax.random.key_data(compiled_env.roots_of([seed]))[0])
