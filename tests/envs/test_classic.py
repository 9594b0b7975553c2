"""The five classic tasks against Gymnasium, step for step."""

from functools import cache
from types import SimpleNamespace

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import purerl
from purerl.config import ConfigError

STEPS = 10_000
HALF = STEPS // 2
PI = np.pi
ULP = dict(rtol=1e-6, atol=2e-7)
# Both sides start each step from the same float32 numbers; they differ by float32 arithmetic. The second half
# of acrobot's rows spins so fast that one step is a turn or two, and rounding grows a thousandfold.
TASKS = {
    "acrobot": SimpleNamespace(
        id="Acrobot-v1",
        tolerance=(dict(rtol=1e-6, atol=2e-6), dict(rtol=3e-4, atol=3e-4)),
        still=jnp.int32(1),
        starts=[(-0.1, 0.1)] * 4,
        shown=[True] * 4 + [False] * 2,
        end=({"theta_1": 3.0}, 0.0),
    ),
    "cartpole": SimpleNamespace(
        id="CartPole-v1",
        tolerance=(dict(rtol=1e-5, atol=1e-6),) * 2,
        still=jnp.int32(0),
        starts=[(-0.05, 0.05)] * 4,
        shown=[True, False] * 2,
        end=({"theta": 1.0}, 1.0),
    ),
    "mountain_car": SimpleNamespace(
        id="MountainCar-v0",
        tolerance=(ULP, ULP),
        still=jnp.int32(1),
        starts=[(-0.6, -0.4)],
        shown=[True, False],
        end=({"position": 0.49, "velocity": 0.07}, -1.0),
    ),
    "mountain_car_continuous": SimpleNamespace(
        id="MountainCarContinuous-v0",
        tolerance=(ULP, ULP),
        still=jnp.zeros(1),
        starts=[(-0.6, -0.4)],
        shown=[True, False],
        end=({"position": 0.44, "velocity": 0.07}, 100.0),
    ),
    "pendulum": SimpleNamespace(
        id="Pendulum-v1",
        tolerance=(dict(rtol=2e-5, atol=3e-5),) * 2,
        still=jnp.zeros(1),
        starts=[(-PI, PI), (-1.0, 1.0)],
        shown=[True, True, False],
        end=None,
    ),
}
each_task = pytest.mark.parametrize("name", TASKS)


def random_states(name, rng):
    """Return `[STEPS, numbers]` float32: half of them typical, half from everywhere and beyond limits."""
    uniform = lambda low, high: rng.uniform(low, high, (HALF, len(high)))
    if name == "cartpole":
        near, far = uniform([-1] * 4, [1] * 4) * [2.4, 3, 0.21, 3], rng.normal(0, [2, 3, 0.3, 3], (HALF, 4))
    elif name == "pendulum":
        near, far = uniform([-PI, -8], [PI, 8]), uniform([-20, -10], [20, 10]).clip([-20, -8], [20, 8])
    elif name == "acrobot":
        near, far = uniform([-1] * 4, [1] * 4), uniform([-1] * 4, [1] * 4) * [PI, PI, 4 * PI, 9 * PI]
        near *= [PI, PI, 3, 6]
    else:  # between the ends, and about them, where the car hits a wall or reaches the goal
        near, far = uniform([-1.2, -0.07], [0.6, 0.07]), uniform([-0.15, -0.07], [0.15, 0.07])
        far[:, 0] += rng.choice([-1.2, 0.5, 0.5], HALF)
    return np.concatenate([near, far]).astype(np.float32)


def random_rows(name, seed):
    """Return states and actions, continuous ones also beyond their bounds."""
    rng = np.random.default_rng(seed)
    states, space = random_states(name, rng), purerl.make_env(name).action_space
    if isinstance(space, gymnasium.spaces.Discrete):
        return states, rng.integers(0, space.n, STEPS)
    return states, rng.uniform(1.5 * space.low, 1.5 * space.high, (STEPS, 1)).astype(np.float32)


def gymnasium_steps(name, states, actions, **attributes):
    """Return Gymnasium's `(obs, reward, terminated)` of every row."""
    oracle = gymnasium.make(TASKS[name].id).unwrapped
    oracle.reset(seed=0)
    for field, value in attributes.items():
        assert hasattr(oracle, field)
        setattr(oracle, field, value)
    rows = []
    for state, action in zip(states, actions, strict=True):
        oracle.state, oracle.steps_beyond_terminated = state.astype(np.float64), None
        obs, reward, terminated, _, _ = oracle.step(action)
        rows.append((obs, reward, terminated))
    return [np.array(column) for column in zip(*rows, strict=True)]


def state_of(env, states):
    """Return a batched State of rows of numbers."""
    kind = type(jax.eval_shape(env.reset, jax.random.key(0))[1])
    return kind(*jnp.asarray(states).T, jnp.zeros(len(states), jnp.int32))


def our_steps(env, states, actions):
    """Return `(obs, state, reward, terminated, truncated, info)` of the rows in one program."""
    step = jax.jit(jax.vmap(env.step, (None, 0, 0)))
    return step(jax.random.key(0), state_of(env, states), actions)


@cache
def program(name, **options):
    """Return `(params, states, actions) -> result` with static options: one program for all parameters."""
    env = purerl.make_env(name, **options)
    step = jax.jit(jax.vmap(env.step, (None, 0, 0, None)))
    return lambda params, states, actions: step(jax.random.key(0), state_of(env, states), actions, params)


def few_rows(name, seed):
    """Return 500 rows of both halves."""
    return (rows[::20] for rows in random_rows(name, seed))


def clear_of_thresholds(name, params, *both):
    """Return `[rows]`: True unless float32 and float64 may be on different sides of a limit."""
    away = lambda value, limit, margin=1e-6: np.abs(value - limit) > margin
    clear = np.ones(len(both[0]), bool)
    for obs in both:
        first, second = obs[:, 0], obs[:, 1]
        if name == "cartpole":
            clear &= away(abs(first), params.position_limit) & away(abs(obs[:, 2]), params.angle_limit)
        elif name == "acrobot":
            height = -first - (first * obs[:, 2] - second * obs[:, 3])
            clear &= away(height, 1.0, np.repeat([2e-6, 5e-5], [len(obs) // 2, len(obs) - len(obs) // 2]))
        elif name != "pendulum":
            clear &= away(first, params.goal_position) & (away(second, params.goal_velocity) | (first < 0.4))
            clear &= away(first, -1.2) | (second == 0) | (np.abs(first + 1.2) < 1e-7)
    return clear


def assert_same_steps(name, params, got, expected):
    """Check observation, reward and end of every row clear of thresholds. Return the ends."""
    obs, reward, terminated = expected
    got = [np.asarray(got[i]) for i in (0, 2, 3)]
    clear = clear_of_thresholds(name, params, obs, got[0])
    assert clear.mean() > 0.99
    for half, tolerance in zip(np.array_split(np.arange(len(obs)), 2), TASKS[name].tolerance, strict=True):
        rows = half[clear[half]]
        np.testing.assert_allclose(got[0][rows], obs[rows], **tolerance)
        np.testing.assert_allclose(got[1][rows], reward[rows], **tolerance)
    np.testing.assert_array_equal(got[2][clear], terminated[clear])
    return terminated


@each_task
def test_ten_thousand_steps_match_gymnasium(name):
    """Observation, reward and end of random steps from random states."""
    states, actions = random_rows(name, 0)
    env = purerl.make_env(name)
    got = our_steps(env, states, actions)
    ends = assert_same_steps(name, env.default_params, got, gymnasium_steps(name, states, actions))
    assert 0.1 < ends.mean() < 0.9 if name != "pendulum" else not ends.any()
    assert not got[4].any() and got[2].dtype == jnp.float32


CASES = [
    ("acrobot", {"mass_1": 1.3, "mass_2": 0.7}, {"LINK_MASS_1": 1.3, "LINK_MASS_2": 0.7}),
    ("acrobot", {"length_1": 1.2, "center_1": 0.4}, {"LINK_LENGTH_1": 1.2, "LINK_COM_POS_1": 0.4}),
    ("acrobot", {"center_2": 0.6, "moment": 0.8}, {"LINK_COM_POS_2": 0.6, "LINK_MOI": 0.8}),
    ("acrobot", {"torque": 3.0, "dt": 0.1}, {"AVAIL_TORQUE": [-3.0, 0.0, 3.0], "dt": 0.1}),
    ("acrobot", {"book_or_nips": "nips"}, {"book_or_nips": "nips"}),
    ("cartpole", {"gravity": 5.0}, {"gravity": 5.0}),
    ("cartpole", {"force": 3.0, "tau": 0.05}, {"force_mag": 3.0, "tau": 0.05}),
    (
        "cartpole",
        {"half_length": 0.8, "mass_pole": 0.3, "mass_cart": 2.0},
        {"length": 0.8, "masspole": 0.3, "masscart": 2.0, "total_mass": 2.3, "polemass_length": 0.24},
    ),
    (
        "cartpole",
        {"angle_limit": 0.1, "position_limit": 1.5, "sutton_barto_reward": True},
        {"theta_threshold_radians": 0.1, "x_threshold": 1.5, "_sutton_barto_reward": True},
    ),
    ("mountain_car", {"force": 0.003, "gravity": 0.004}, {"force": 0.003, "gravity": 0.004}),
    ("mountain_car", {"goal_position": 0.45, "goal_velocity": 0.03}, None),
    ("mountain_car_continuous", {"power": 0.004}, None),
    ("mountain_car_continuous", {"goal_position": 0.5, "goal_velocity": 0.03}, None),
    ("pendulum", {"g": 5.0, "mass": 2.0}, {"g": 5.0, "m": 2.0}),
    ("pendulum", {"length": 0.7, "dt": 0.02}, {"l": 0.7, "dt": 0.02}),
]
NOT_GYMNASIUMS = {
    "acrobot": {"gravity", "torque_noise_max"},
    "mountain_car_continuous": {"gravity"},
}
"""Parameters without an attribute there, or without an effect on one step: tested below."""


@pytest.mark.parametrize(("name", "ours", "theirs"), CASES)
def test_parameters_match_gymnasiums(name, ours, theirs):
    """Each parameter and each option reaches the equation it belongs to."""
    states, actions = few_rows(name, 1)
    params = purerl.make_env(name, **ours).default_params
    options = {field: value for field, value in ours.items() if field not in params._fields}
    got = program(name, **options)(params, states, actions)
    assert_same_steps(name, params, got, gymnasium_steps(name, states, actions, **(theirs or ours)))


def test_angles_of_acrobot_are_wrapped():
    """For any number of turns in a step: sine and cosine do not show it, and float32 would lose digits."""
    states, actions = few_rows("acrobot", 5)
    params = purerl.make_env("acrobot").default_params
    _, state, *_ = program("acrobot")(params, states, actions)
    turned = np.abs(states[:, :2] + 0.2 * states[:, 2:]).max(0)
    assert (turned > 3 * PI / 2).all() and np.abs(np.array(state[:2])).max() < PI + 1e-6


@each_task
def test_no_parameter_is_left_untested(name):
    """Each field of Params is in a case above, or has a test of its own."""
    tested = {field for case, ours, _ in CASES if case == name for field in ours}
    assert set(purerl.make_env(name).default_params._fields) <= tested | NOT_GYMNASIUMS.get(name, set())


def test_gravity_of_the_continuous_car():
    """Gymnasium has a constant; its other car, with the same engine and goal, has an attribute."""
    states, actions = few_rows("mountain_car", 2)
    params = purerl.make_env("mountain_car_continuous", gravity=0.004).default_params
    got = program("mountain_car_continuous")(params, states, actions[:, None] - np.float32(1))
    obs, terminated = np.asarray(got[0]), np.asarray(got[3])
    other = dict(force=0.0015, gravity=0.004, goal_position=0.45)
    expected, _, ends = gymnasium_steps("mountain_car", states, actions, **other)
    clear = clear_of_thresholds("mountain_car_continuous", params, obs, expected)
    np.testing.assert_allclose(obs[clear], expected[clear], **ULP)
    np.testing.assert_array_equal(terminated[clear], ends[clear])


def test_gravity_of_acrobot_scales_with_units():
    """Masses four times as large in a quarter of the gravity: the same motion at half the speed."""
    states, actions = few_rows("acrobot", 3)
    heavy = {field: 4.0 for field in ("mass_1", "mass_2", "moment")}
    slow = purerl.make_env("acrobot", gravity=9.8 / 4, dt=0.4, **heavy).default_params
    got = program("acrobot")(slow, states * np.float32([1, 1, 0.5, 0.5]), actions)[0][:250]
    expected, *_ = gymnasium_steps("acrobot", states[:250], actions[:250])
    np.testing.assert_allclose(got * np.array([1, 1, 1, 1, 2, 2]), expected, **TASKS["acrobot"].tolerance[0])


def test_torque_noise_has_gymnasiums_distribution():
    """Speeds under a torque in [-1, 3], by Kolmogorov-Smirnov."""
    env, oracle = purerl.make_env("acrobot", torque_noise_max=2.0), gymnasium.make("Acrobot-v1").unwrapped
    oracle.torque_noise_max = 2.0
    oracle.reset(seed=0)
    theirs = []
    for _ in range(1000):
        oracle.state = np.zeros(4)
        theirs.append(oracle.step(2)[0])
    state = jax.tree.map(lambda leaf: leaf[0], state_of(env, np.zeros((1, 4), np.float32)))
    step = jax.jit(jax.vmap(env.step, (0, None, None, None)))
    keys = jax.random.split(jax.random.key(0), 1000)
    ours = np.asarray(step(keys, state, 2, env.default_params)[0])
    assert len(np.unique(ours[:, 5])) > 990
    for column, other in zip(ours.T[4:], np.array(theirs).T[4:], strict=True):
        assert stats.ks_2samp(column, other).pvalue > 1e-3
    without = np.asarray(step(keys, state, 2, env.default_params._replace(torque_noise_max=0.0))[0])
    assert (without == without[0]).all()


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_no_noise_draws_nothing(noise):
    """A draw would cost as much as the rest of the step."""
    env = purerl.make_env("acrobot", torque_noise_max=noise)
    state = jax.eval_shape(env.reset, jax.random.key(0))[1]
    assert ("random_bits" in str(jax.make_jaxpr(env.step)(jax.random.key(0), state, 0))) == (noise > 0)


@each_task
def test_parameters_vmap(name):
    """One program for many parameters, each with its own result."""
    env, key = purerl.make_env(name), jax.random.key(0)
    _, state = env.reset(key)
    field = "g" if name == "pendulum" else "gravity"
    values = jnp.array([0.5, 1.0, 5.0]) * getattr(env.default_params, field)
    axes = env.default_params._replace(**dict.fromkeys(env.default_params._fields))._replace(**{field: 0})
    action = TASKS[name].still
    step = jax.jit(jax.vmap(env.step, (None, None, None, axes)))
    together, *_ = step(key, state, action, env.default_params._replace(**{field: values}))
    alone, *_ = jax.jit(purerl.make_env(name, **{field: float(values[2])}).step)(key, state, action)
    np.testing.assert_allclose(together[2], alone, rtol=1e-5, atol=1e-7)
    assert len(np.unique(np.asarray(together), axis=0)) == 3


@each_task
def test_spaces_and_time_limit_are_gymnasiums(name):
    """Bounds and dtypes of both spaces, and the length of an episode."""
    env, oracle = purerl.make_env(name), gymnasium.make(TASKS[name].id)
    assert env.observation_space == oracle.observation_space
    assert env.action_space == oracle.action_space
    assert env.max_episode_steps == oracle.spec.max_episode_steps
    assert env.name == name


@pytest.mark.parametrize(("name", "limit"), [*((name, None) for name in TASKS), ("cartpole", 7)])
def test_the_time_limit_is_exact(name, limit):
    """Truncated at the limit, not one step before, and also where the task itself ends on it."""
    env = purerl.make_env(name, **({} if limit is None else {"max_episode_steps": limit}))
    last = env.max_episode_steps - 1
    key, action = jax.random.key(0), TASKS[name].still
    step = jax.jit(env.step)
    _, state = env.reset(key)
    assert state.time == 0
    for time, expected in ((last - 1, False), (last, True)):
        _, after, _, terminated, truncated, _ = step(key, state._replace(time=jnp.int32(time)), action)
        assert (bool(terminated), bool(truncated), int(after.time)) == (False, expected, time + 1)
    if TASKS[name].end:
        there, expected = TASKS[name].end
        there = {field: jnp.float32(value) for field, value in there.items()}
        _, _, reward, terminated, truncated, _ = step(
            key, state._replace(time=jnp.int32(last), **there), action
        )
        assert terminated and truncated and reward == expected


@each_task
def test_resets_have_gymnasiums_distribution(name):
    """By Kolmogorov-Smirnov, and with uncorrelated components."""
    env, starts = purerl.make_env(name), TASKS[name].starts
    obs, state = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 1000))
    numbers = np.stack(state[:-1], -1)
    drawn = numbers[:, : len(starts)]
    assert len(np.unique(drawn, axis=0)) == 1000 and not numbers[:, len(starts) :].any()
    for column, (low, high) in zip(drawn.T, starts, strict=True):
        assert stats.kstest(column, stats.uniform(low, high - low).cdf).pvalue > 1e-3
    assert np.abs(np.corrcoef(drawn.T) - np.eye(len(starts))).max() < 0.12
    oracle = gymnasium.make(TASKS[name].id).unwrapped
    for row, seen in zip(numbers[::100], obs[::100], strict=True):
        oracle.state = row
        get = getattr(oracle, "_get_obs", None) or getattr(oracle, "_get_ob", lambda: oracle.state)
        np.testing.assert_allclose(seen, get(), atol=1e-6)


@each_task
def test_one_program_for_all_steps(name):
    """The result of a step is the input of the next without a new trace; observations are float32."""
    env, key = purerl.make_env(name), jax.random.key(0)
    step = jax.jit(env.step)
    obs, state = env.reset(key)
    action = TASKS[name].still
    for _ in range(3):
        new, state, reward, terminated, truncated, _ = step(key, state, action)
        assert (new.shape, new.dtype) == (obs.shape, jnp.float32)
        assert (reward.dtype, terminated.dtype, truncated.dtype) == (jnp.float32, bool, bool)
    assert step._cache_size() == 1


@each_task
def test_masked_velocities_are_0(name):
    """In observations only: the state is the same without the mask."""
    plain, masked = (purerl.make_env(name, mask_velocity=mask) for mask in (False, True))
    states, actions = few_rows(name, 4)
    obs, *rest = program(name)(plain.default_params, states, actions)
    step = jax.jit(jax.vmap(masked.step, (None, 0, 0, None)))
    seen, *other = step(jax.random.key(0), state_of(plain, states), actions, plain.default_params)
    shown = TASKS[name].shown
    assert (np.asarray(obs) != 0).any(0).all(), "there was nothing to hide"
    tolerance = TASKS[name].tolerance[1]  # of two programs
    np.testing.assert_allclose(seen, np.where(shown, obs, 0), **tolerance)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), rest, other)
    hidden = ~np.array(shown)
    assert not masked.reset(jax.random.key(0))[0][hidden].any()
    assert not masked.observation_space.high[hidden].any() and not masked.observation_space.low[hidden].any()


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("acrobot", {"book_or_nips": "nip"}, "Did you mean nips?"),
        ("acrobot", {"book_or_nip": "nips"}, "Did you mean book_or_nips?"),
        ("acrobot", {"torque_noise": 1.0}, "Did you mean torque_noise_max?"),
        ("acrobot", {"max_episode_step": 9}, "Did you mean max_episode_steps?"),
        ("cartpole", {"sutton_barto_reward": 1}, "True or False"),
        ("cartpole", {"sutton_barto_rewards": True}, "Did you mean sutton_barto_reward?"),
        ("mountain_car", {"goal_velocty": 1.0}, "Did you mean goal_velocity?"),
        ("mountain_car", {"engine": "mjx"}, "expected auto"),
        ("mountain_car", {"mask_velocity": "yes"}, "True or False"),
        ("mountain_car", {"power": 0.0015}, "the options of mountain_car: force, gravity"),
        ("mountain_car_continuous", {"power": "strong"}, "a finite number"),
        ("mountain_car_continuous", {"max_episode_steps": 0}, "at least 1"),
        ("pendulum", {"mask_velocty": True}, "Did you mean mask_velocity?"),
    ],
)
def test_options_are_checked(name, options, words):
    """A misspelt option never leaves the default in place."""
    (field,) = options
    with pytest.raises(ConfigError) as error:
        purerl.make_env(name, **options)
    assert error.value.field == field and words in str(error.value)
