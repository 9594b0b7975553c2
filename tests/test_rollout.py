"""The rollout against a plain loop over the same episodes, step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from environments import BOUNDS, LIMIT, clock
from gymnasium import spaces

import purerl
from purerl import metrics, rollout

N, T = 5, 30
TIME, LENGTH, DRAW = range(3)


def policy(carry, obs, key):
    """Act far outside [-1, 1], and count steps in each row of the carry."""
    action = 2 * jax.random.normal(key, (len(obs), 2))
    seen = {"carry": carry, "action": action, "obs": obs}
    return action, {"steps": carry["steps"] + 1, "sum": carry["sum"] + 0.5}, seen


@pytest.fixture(scope="module")
def played():
    """Two rollouts of T steps, the second from where the first stopped, joined in time."""
    env, key = clock(), jax.random.key(0)
    carry = {"steps": jnp.zeros(N, jnp.int32), "sum": jnp.zeros((N, 3))}
    state = rollout.start(env, jax.random.fold_in(key, 0), N)
    unroll = jax.jit(lambda *rest: rollout.unroll(env, policy, *rest, T))
    state, carry, *first = unroll(state, carry, jax.random.fold_in(key, 1))
    state, carry, *second = unroll(state, carry, jax.random.fold_in(key, 2))
    assert unroll._cache_size() == 1  # what comes out can go in again
    joined = jax.tree.map(lambda a, b: np.concatenate([a, b]), first, second)
    return state, carry, *joined


def after(array, last):
    """Return the input of each next step: the rows from 1 on, and the final state."""
    return np.concatenate([array[1:], np.asarray(last)[None]])


def test_next_obs_is_that_of_the_step_and_obs_that_of_the_reset(played):
    """A value must be bootstrapped from the last state of the episode, not from the next start."""
    state, _, steps, episodes = played
    assert episodes.ended.sum() > 4 * N
    assert (steps.next_obs[..., TIME] < 1000).all()
    obs_after = after(steps.obs, state.obs)
    goes_on = ~episodes.ended
    np.testing.assert_array_equal(obs_after[goes_on], steps.next_obs[goes_on])
    assert (obs_after[episodes.ended][:, TIME] == 1000).all()
    assert (obs_after[goes_on][:, TIME] < 1000).all()


def test_flags_are_the_environments(played):
    """Death, time limit, both and neither all arrive as they left, and either one ends."""
    _, _, steps, episodes = played
    time, length = steps.next_obs[..., TIME], steps.next_obs[..., LENGTH]
    np.testing.assert_array_equal(steps.terminated, time >= length)
    np.testing.assert_array_equal(steps.truncated, time >= LIMIT)
    np.testing.assert_array_equal(episodes.ended, steps.terminated | steps.truncated)
    kinds = {(bool(d), bool(t)) for d, t in zip(steps.terminated.flat, steps.truncated.flat, strict=True)}
    assert len(kinds) == 4


def test_every_reset_is_a_fresh_draw(played):
    """A cached first state, or one key for all environments, would repeat its number."""
    state, _, steps, episodes = played
    starts = after(steps.obs, state.obs)[episodes.ended][:, DRAW]
    first = steps.obs[0, :, DRAW]
    assert len(np.unique(np.concatenate([first, starts]))) == N + episodes.ended.sum()


def test_returns_and_lengths_equal_a_plain_loop(played):
    """Tallies go on from one rollout to the next, and start again after each episode."""
    state, _, steps, episodes = played
    for n in range(N):
        total, length = 0.0, 0
        for t in range(2 * T):
            total, length = total + steps.reward[t, n], length + 1
            if episodes.ended[t, n]:
                assert episodes.returns[t, n] == pytest.approx(total, rel=1e-5)
                assert episodes.lengths[t, n] == length == steps.next_obs[t, n, TIME]
                total, length = 0.0, 0
        assert state.episode_return[n] == pytest.approx(total, rel=1e-5)
        assert state.episode_length[n] == length


def test_the_carry_is_zeroed_only_where_an_episode_ended(played):
    """Whatever the shape of the leaf."""
    _, carry, steps, episodes = played
    before = steps.extras["carry"]
    assert before["steps"].dtype == np.int32
    expected = np.where(episodes.ended, 0, before["steps"] + 1)
    np.testing.assert_array_equal(after(before["steps"], carry["steps"]), expected)
    np.testing.assert_array_equal(after(before["sum"], carry["sum"]), 0.5 * expected[..., None].repeat(3, -1))


def test_actions_are_stored_raw_and_applied_in_range(played):
    """Log-probabilities refer to the policy's own output; the task gets it clipped and stretched."""
    _, _, steps, _ = played
    assert (np.abs(steps.action) > 1).any()
    np.testing.assert_array_equal(steps.action, steps.extras["action"])
    np.testing.assert_array_equal(steps.obs, steps.extras["obs"])
    applied = steps.reward - steps.next_obs[..., TIME]
    np.testing.assert_allclose(applied, 1 + 3 * np.clip(steps.action[..., 0], -1, 1), atol=1e-5)


def test_every_step_and_row_has_its_own_noise(played):
    """One key for all steps of a rollout, or for both rollouts, would repeat the actions."""
    actions = played[2].action[..., 0]
    assert len(np.unique(actions)) == actions.size


@pytest.mark.parametrize("reports", [True, False])
def test_divergence_is_what_the_engine_reports(reports):
    """And nothing where it reports nothing."""
    env = clock()
    if reports:
        step = env.step
        env = env._replace(step=lambda *a: (*step(*a)[:5], {"diverged": jnp.float32(1)}))
    go = lambda carry, obs, key: (jnp.zeros((2, 2)), carry, ())
    run = lambda key: rollout.unroll(env, go, rollout.start(env, key, 2), (), key, 3)[-1]
    episodes = jax.jit(run)(jax.random.key(1))
    np.testing.assert_array_equal(episodes.diverged, np.full((3, 2), float(reports)))


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ([-1.0, -1.0], [-2.0, 0.0]),
        ([0.0, 0.0], [1.0, 0.5]),
        ([1.0, 1.0], [4.0, 1.0]),
        ([0.5, -0.5], [2.5, 0.25]),
        ([-7.0, 7.0], [-2.0, 1.0]),
        ([np.inf, -np.inf], [4.0, 0.0]),
    ],
)
def test_env_action_clips_then_stretches(action, expected):
    """Each dimension to its own bounds, which need not lie around 0."""
    np.testing.assert_array_equal(rollout.env_action(BOUNDS, jnp.array(action)), expected)


def test_env_action_is_the_identity_on_the_unit_box():
    """Not one bit of an action that needs no change is changed."""
    action = jax.random.uniform(jax.random.key(0), (1000, 3), minval=-1, maxval=1)
    got = rollout.env_action(spaces.Box(-1, 1, (3,)), action)
    np.testing.assert_array_equal(got, action)


def test_env_action_never_leaves_the_box():
    """Rounding at the ends must not carry an action past a bound, where Gymnasium refuses it."""
    rng = np.random.default_rng(0)
    low = rng.uniform(-3, 1, 200).astype(np.float32)
    box = spaces.Box(low, low + rng.uniform(0.1, 4, 200).astype(np.float32))
    for end in (-1.0, 1.0):
        assert box.contains(np.asarray(rollout.env_action(box, jnp.full(200, end))))


@pytest.mark.parametrize(
    ("space", "action"),
    [
        (spaces.Discrete(4), jnp.array([0, 3])),
        (spaces.Box(-np.inf, np.inf, (2,)), jnp.array([-30.0, 0.3])),
        (spaces.Box(np.float32([-1, 0]), np.float32([1, np.inf])), jnp.array([-30.0, 0.3])),
    ],
    ids=["discrete", "unbounded", "half bounded"],
)
def test_env_action_leaves_indices_and_unbounded_boxes_alone(space, action):
    """There is nothing to clip to."""
    got = rollout.env_action(space, action)
    assert got.dtype == action.dtype and (got == action).all()


def test_choices_count_from_the_first():
    """Those of a MultiDiscrete each from its own."""
    action = jnp.array([[0, 2], [1, 0]])
    got = rollout.env_action(spaces.MultiDiscrete([2, 3], start=[5, -1]), action)
    assert got.tolist() == [[5, 1], [6, -1]] and got.dtype == jnp.int32


def test_uniform_action_fills_the_policys_range():
    """Every index of a Discrete space, and [-1, 1] of any Box, whatever its own bounds."""
    key = jax.random.key(0)
    index = rollout.uniform_action(spaces.Discrete(3), key, 400)
    assert index.shape == (400,) and set(index.tolist()) == {0, 1, 2}
    assert np.bincount(index).min() > 100
    several = rollout.uniform_action(spaces.MultiDiscrete([2, 3]), key, 400)
    assert several.shape == (400, 2) and several.dtype == jnp.int32
    assert [len(np.bincount(column)) for column in several.T] == [2, 3]
    assert min(np.bincount(column).min() for column in several.T) > 100
    switches = rollout.uniform_action(spaces.MultiBinary(4), key, 400)
    np.testing.assert_allclose(switches.mean(0), 0.5, atol=0.1)
    action = rollout.uniform_action(BOUNDS, key, 400)
    assert action.shape == (400, 2)
    np.testing.assert_allclose(action.min(0), -1, atol=0.05)
    np.testing.assert_allclose(action.max(0), 1, atol=0.05)


def test_all_environments_start_differently():
    """N environments are N draws, with empty tallies."""
    state = jax.jit(lambda key: rollout.start(clock(), key, 40))(jax.random.key(0))
    assert len(np.unique(state.obs[:, DRAW])) == 40
    assert not state.episode_return.any() and not state.episode_length.any()


SICK = 2
"""The environment whose simulation is broken in what follows."""


def noise(carry, obs, key, size):
    """Each environment's actions depend on nothing but the key."""
    shape = (len(obs),) if size is None else (len(obs), size)
    action = jax.random.randint(key, shape, 0, 2) if size is None else jax.random.normal(key, shape)
    return action, carry, ()


def broken(start):
    """NaN in every number of one environment's state, or in the first position of its MuJoCo row."""
    ill = lambda leaf: leaf.at[SICK].set(jnp.nan) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf
    state = jax.tree.map(ill, start.state)
    if hasattr(state, "physics"):
        bits = np.array(start.state.physics.row)
        bits.view(np.float64)[SICK, 1] = np.nan
        state = start.state._replace(physics=start.state.physics._replace(row=bits))
    return start._replace(state=state)


@pytest.fixture(scope="module", params=["cartpole", "pendulum", "half_cheetah", "clock"])
def breakdown(request):
    """The same rollout twice, with the same keys: sound, and with one environment's state broken."""
    env = clock() if request.param == "clock" else purerl.make_env(request.param)
    size = env.action_space.shape[0] if env.action_space.shape else None
    policy = lambda *args: noise(*args, size)
    start = rollout.start(env, jax.random.key(3), N)
    unroll = jax.jit(lambda start: rollout.unroll(env, policy, start, (), jax.random.key(4), T))
    return env, *(jax.tree.map(np.asarray, unroll(each)) for each in (start, broken(start)))


def test_a_simulation_that_breaks_down_is_ended_and_counted(breakdown):
    """Its episode dies with reward 0, where it last was sound; the next one starts at once, and is sound."""
    _, _, (_, _, steps, episodes) = breakdown
    np.testing.assert_array_equal(episodes.diverged, (np.arange(T * N) == SICK).reshape(T, N))
    assert steps.terminated[0, SICK] and episodes.ended[0, SICK] and steps.reward[0, SICK] == 0
    assert episodes.lengths[0, SICK] == 1 and episodes.returns[0, SICK] == 0
    row = metrics.summarise(metrics.episode_tallies(episodes), jnp.int32(-1))
    assert row["episode/diverged"] == 1


def test_a_simulation_that_breaks_down_leaves_the_others_alone(breakdown):
    """Every other environment keeps every bit, and nothing that is no number is left anywhere."""
    _, sound, ill = breakdown
    others = np.arange(N) != SICK
    for a, b in zip(jax.tree.leaves(sound[2:]), jax.tree.leaves(ill[2:]), strict=True):
        np.testing.assert_array_equal(a[:, others], b[:, others])
    for a, b in zip(jax.tree.leaves(sound[0]), jax.tree.leaves(ill[0]), strict=True):
        np.testing.assert_array_equal(a[others], b[others])
    for leaf in jax.tree.leaves(ill):
        assert np.isfinite(leaf).all()
    assert (ill[2].obs[1:, SICK] != sound[2].obs[1:, SICK]).any(), "it went on as if nothing had happened"


def test_nothing_broken_reaches_the_learner(breakdown):
    """One NaN in a replay buffer or a normaliser would stay."""
    env, _, (_, _, steps, _) = breakdown
    if env.name == "cartpole":
        cfg = purerl.make_config("ppo", num_envs=N, num_steps=T, num_minibatches=1, hidden_sizes=(4,))
        rollouts = [steps]
    else:
        cfg = purerl.make_config("sac", num_envs=N, buffer_size=N * T, batch_size=1, hidden_sizes=(4,))
        rollouts = [jax.tree.map(lambda leaf, t=t: leaf[t : t + 1], steps) for t in range(T)]
    algo = purerl.make_algorithm(cfg, env)
    state = jax.jit(algo.init)(jax.random.key(0))
    for transitions in rollouts:
        state = algo.observe(state, transitions)
    for leaf in jax.tree.leaves(state):
        assert np.isfinite(leaf).all()


@pytest.mark.parametrize(
    "trouble", ["nothing", "reward", "infinite reward", "observation", "infinite observation"]
)
def test_contain(trouble):
    """Any number that is none, alone, ends an episode; and nothing else does."""
    obs, next_obs = jnp.zeros((3, 2)), jnp.ones((3, 2))
    reward, terminated = jnp.ones(3), jnp.array([False, False, True])
    bad = jnp.inf if "infinite" in trouble else jnp.nan
    if "reward" in trouble:
        reward = reward.at[1].set(-bad)
    if "observation" in trouble:
        next_obs = next_obs.at[1, 1].set(-bad)
    ill = trouble != "nothing"
    got = [value.tolist() for value in rollout.contain(obs, next_obs, reward, terminated)]
    middle = [0.0, 0.0] if ill else [1.0, 1.0]
    assert got == [[[1, 1], middle, [1, 1]], [1, 0 if ill else 1, 1], [False, ill, True], [0, float(ill), 0]]


def test_contain_takes_pixels():
    """Whole numbers are always sound, and stay what they are."""
    pixels = jnp.full((2, 4, 4), 255, jnp.uint8)
    got, *_, diverged = rollout.contain(pixels, pixels, jnp.array([1.0, jnp.nan]), jnp.zeros(2, bool))
    assert got.dtype == jnp.uint8 and diverged.tolist() == [0, 1]


MUTANTS = {
    "rollout: stores the clipped action": (
        "rollout.py",
        "Transition(vector.obs, action,",
        "Transition(vector.obs, env_action(env.action_space, action),",
        "test_actions_are_stored_raw_and_applied_in_range",
    ),
    "rollout: return is not reset": (
        "rollout.py",
        "where(ended, np.float32(0), returns)",
        "returns",
        "test_returns_and_lengths_equal_a_plain_loop",
    ),
    "rollout: length is not reset": (
        "rollout.py",
        "where(ended, np.int32(0), lengths)",
        "lengths",
        "test_returns_and_lengths_equal_a_plain_loop",
    ),
    "rollout: next_obs of the reset": (
        "rollout.py",
        "action, reward, next_obs,",
        "action, reward, _where(ended, fresh_obs, next_obs),",
        "test_next_obs_is_that_of_the_step_and_obs_that_of_the_reset",
    ),
    "rollout: never starts again": (
        "rollout.py",
        "_where(ended, new, old), fresh_obs, next_obs)",
        "old, fresh_obs, next_obs)",
        "test_next_obs_is_that_of_the_step_and_obs_that_of_the_reset",
    ),
    "rollout: one reset for ever": (
        "rollout.py",
        "jax.random.split(key_reset, num_envs)",
        "jax.random.split(jax.random.key(0), num_envs)",
        "test_every_reset_is_a_fresh_draw",
    ),
    "rollout: one reset for all": (
        "rollout.py",
        "jax.random.split(key_reset, num_envs)",
        "jnp.broadcast_to(key_reset, (num_envs,))",
        "test_every_reset_is_a_fresh_draw",
    ),
    "rollout: one start for all": (
        "rollout.py",
        "(env.reset)(jax.random.split(key, num_envs))",
        "(env.reset)(jnp.broadcast_to(key, (num_envs,)))",
        "test_all_environments_start_differently",
    ),
    "rollout: one key for all steps": (
        "rollout.py",
        "jax.random.split(key, num_steps)",
        "jnp.broadcast_to(key, (num_steps,))",
        "test_every_step_and_row_has_its_own_noise",
    ),
    "rollout: goes on after a time limit": (
        "rollout.py",
        "ended = terminated | truncated",
        "ended = terminated",
        "test_flags_are_the_environments",
    ),
    "rollout: flags swapped": (
        "rollout.py",
        "next_obs, terminated, truncated)\n",
        "next_obs, truncated, terminated)\n",
        "test_flags_are_the_environments",
    ),
    "rollout: memory survives a time limit": (
        "rollout.py",
        "_where(episodes.ended, jnp.zeros_like(leaf)",
        "_where(transition.terminated, jnp.zeros_like(leaf)",
        "test_the_carry_is_zeroed_only_where_an_episode_ended",
    ),
    "rollout: memory is zeroed for all": (
        "rollout.py",
        "_where(episodes.ended, jnp.zeros_like(leaf)",
        "_where(episodes.ended.any()[None], jnp.zeros_like(leaf)",
        "test_the_carry_is_zeroed_only_where_an_episode_ended",
    ),
    "rollout: return without the last reward": (
        "rollout.py",
        "Episodes(ended, returns,",
        "Episodes(ended, rollout.episode_return,",
        "test_returns_and_lengths_equal_a_plain_loop",
    ),
    "action: not clipped": (
        "rollout.py",
        "return jnp.clip(stretched, *(to_rank(bound, action.ndim) for bound in float32_bounds(space)))",
        "return stretched",
        "test_env_action_clips_then_stretches",
    ),
    "action: box around 0": (
        "rollout.py",
        "np.float32((high + low) / 2) + ",
        "",
        "test_env_action_clips_then_stretches",
    ),
    "action: half bounded is bounded": (
        "rollout.py",
        "bool(space.is_bounded())",
        'bool(space.is_bounded("below"))',
        "test_env_action_leaves_indices_and_unbounded_boxes_alone",
    ),
    "warm-up: half the range": (
        "rollout.py",
        "jnp.float32, -1.0, 1.0",
        "jnp.float32, 0.0, 1.0",
        "test_uniform_action_fills_the_policys_range",
    ),
    "contain: only rewards are looked at": (
        "rollout.py",
        "if jnp.issubdtype(part.dtype, jnp.floating):",
        "if False:",
        "test_contain",
    ),
    "contain: infinity is sound": (
        "rollout.py",
        "sound = jnp.isfinite(reward)",
        "sound = ~jnp.isnan(reward)",
        "test_contain",
    ),
    "contain: one number is enough": (
        "rollout.py",
        "jnp.isfinite(part).all(",
        "jnp.isfinite(part).any(",
        "test_contain",
    ),
    "contain: the observation stays": (
        "rollout.py",
        "_where(sound, new, old), next_obs, obs)",
        "new, next_obs, obs)",
        "test_nothing_broken_reaches_the_learner",
    ),
    "contain: the reward stays": (
        "rollout.py",
        "jnp.where(sound, reward, 0.0)",
        "reward",
        "test_nothing_broken_reaches_the_learner",
    ),
    "contain: the episode goes on": (
        "rollout.py",
        "terminated | ~sound, 1.0",
        "terminated, 1.0",
        "test_a_simulation_that_breaks_down_is_ended_and_counted",
    ),
    "contain: nothing is counted": (
        "rollout.py",
        "1.0 - sound.astype(jnp.float32)",
        "0.0 * sound.astype(jnp.float32)",
        "test_a_simulation_that_breaks_down_is_ended_and_counted",
    ),
    "contain: one ends all": (
        "rollout.py",
        "sound &= jnp.isfinite(part).all(axis=tuple(range(1, part.ndim)))",
        "sound &= jnp.isfinite(part).all()",
        "test_a_simulation_that_breaks_down_leaves_the_others_alone",
    ),
}
