"""Gymnasium's environments as purerl's: spaces, restarts, Atari, and errors."""

import sys

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import purerl
from purerl.config import ConfigError
from purerl.envs.adapters.from_gymnasium import HostVector, from_gymnasium
from purerl.rollout import env_action


class Clock(gymnasium.Env):
    """The observation is the time; the length of an episode is drawn from the seed."""

    observation_space = spaces.Box(0, 100, (1,), np.float64)
    action_space = spaces.Discrete(3, start=5)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time, self.length = 0, int(self.np_random.integers(2, 6))
        return np.array([0.0]), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.time += 1
        return np.array([float(self.time)]), float(action), self.time >= self.length, False, {}


def test_copies_restart_where_they_ended():
    """Every step and every restart of a copy is one of its own environment; the others go on."""
    vector = from_gymnasium(Clock).make_vector(3, False)
    obs, alone = vector.reset([7, 8, 9]), [Clock() for _ in range(3)]
    want = [env.reset(seed=seed)[0] for env, seed in zip(alone, [7, 8, 9], strict=True)]
    np.testing.assert_array_equal(obs, want)
    ends, rng = 0, np.random.default_rng(0)
    for _ in range(60):
        action = rng.integers(0, 3, 3)
        next_obs, reward, terminated, truncated = vector.step(action)
        rows = [env.step(5 + a) for env, a in zip(alone, action, strict=True)]
        np.testing.assert_array_equal(next_obs, [row[0] for row in rows])
        np.testing.assert_array_equal(reward, 5 + action)
        np.testing.assert_array_equal(terminated, [row[2] for row in rows])
        ends += terminated.sum()
        obs = vector.restart(terminated | truncated)
        fresh = [env.reset()[0] if row[2] else row[0] for env, row in zip(alone, rows, strict=True)]
        np.testing.assert_array_equal(obs, fresh)
    assert ends > 20 and (next_obs.dtype, reward.dtype) == (np.float32, np.float32)
    vector.close()


def test_returned_arrays_are_not_overwritten():
    """Gymnasium may write into its arrays again; returned observations stay."""
    space = spaces.Box(0, 100, (1,))  # purerl's dtype too, so no conversion makes a copy
    single = lambda: gymnasium.wrappers.TransformObservation(Clock(), np.float32, space)
    copies = SyncVectorEnv([single], copy=False, autoreset_mode=AutoresetMode.DISABLED)
    vector = HostVector(copies, space)
    obs = vector.reset([0])
    shown, *_ = vector.step(np.zeros(1, int))
    vector.step(np.zeros(1, int))
    assert obs == 0 and shown == 1
    vector.close()


def test_flags_may_be_numbers():
    """Programs are compiled for truth values before the first step."""

    class Numbers(SyncVectorEnv):
        def step(self, actions):
            obs, reward, terminated, truncated, info = super().step(actions)
            return obs, reward, terminated.astype(np.uint8), truncated.astype(np.int64), info

    vector = HostVector(Numbers([Clock] * 2, autoreset_mode=AutoresetMode.DISABLED), Clock.observation_space)
    vector.reset([7, 8])
    ends = 0
    for _ in range(6):
        _, _, terminated, truncated = vector.step(np.zeros(2, int))
        assert terminated.dtype == truncated.dtype == bool
        vector.restart(terminated | truncated)
        ends += terminated.sum()
    assert ends >= 2
    vector.close()


def test_a_trial_resets_as_a_vector_does():
    """At the start, and where episodes end."""
    calls = []

    class Heard(Clock):
        def reset(self, **options):
            calls.append({name: type(value) for name, value in options.items()})
            return super().reset(**options)

    env = from_gymnasium(Heard)
    tried = calls.copy()
    calls.clear()
    vector = env.make_vector(1, False)
    vector.reset([0])
    vector.restart(np.array([True]))
    assert tried == calls and len(calls) == 2
    vector.close()


def test_copies_may_write_into_one_array_and_give_any_infos():
    """Each copy keeps its own observation, and infos without a common layout disturb nothing."""
    shared = np.zeros(1)

    class Odd(Clock):
        def step(self, action):
            shared[:] = super().step(action)[0]
            return shared, float(action), False, False, {"path": np.zeros(int(action)), 0: lambda: None}

        def reset(self, **options):
            super().reset(**options)
            shared[:] = options["seed"] or 0
            return shared, {"path": np.zeros(1 + int(shared[0]))}

    vector = from_gymnasium(Odd).make_vector(2, False)
    assert vector.reset([1, 2]).tolist() == [[1], [2]]
    for time in (1, 2):
        assert vector.step(np.array([1, 2]))[0].tolist() == [[time], [time]]
    assert vector.restart(np.array([True, False])).tolist() == [[0], [2]]
    vector.close()


def test_one_environment_for_all_copies_is_refused():
    env = Clock()
    made = from_gymnasium(lambda: env)
    with pytest.raises(ConfigError, match=r"make_one = .* a new copy at each call, got the same again"):
        made.make_vector(1, False)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_actions_are_inside_their_bounds(dtype):
    """Also the least and the greatest, where bounds of 64 bits lie between numbers of 32."""
    rng = np.random.default_rng(0)
    low = rng.uniform(-3, 1, 200).astype(dtype)
    box = spaces.Box(low, low + rng.uniform(0.1, 4, 200).astype(dtype), dtype=dtype)
    heard = []

    class Strict(Clock):
        action_space = box

        def step(self, action):
            assert box.contains(action) and action.dtype == dtype
            heard.append(action)
            return np.array([0.0]), 0.0, False, False, {}

    env = from_gymnasium(Strict)
    vector = env.make_vector(3, False)
    vector.reset([0, 1, 2])
    ends = env_action(box, np.float32([[-2], [0], [2]]) * np.ones(200, np.float32))
    vector.step(np.asarray(ends))
    close = {"rtol": 2e-7} if dtype == np.float64 else {"rtol": 0}
    np.testing.assert_allclose(heard[-3], box.low, **close)
    np.testing.assert_allclose(heard[-1], box.high, **close)
    vector.close()


def test_next_step_mode_is_refused():
    vector = SyncVectorEnv([Clock] * 2, autoreset_mode=AutoresetMode.NEXT_STEP)
    with pytest.raises(AssertionError):
        HostVector(vector, Clock.observation_space)


@pytest.mark.parametrize(
    ("space", "shape", "dtype"),
    [
        (spaces.Box(0, 255, (4, 4, 3), np.uint8), (4, 4, 3), np.uint8),
        (spaces.Box(-np.inf, np.inf, (2,), np.float64), (2,), np.float32),
        (spaces.Box(0, 9, (2,), np.int64), (2,), np.float32),
        (spaces.Discrete(6), (6,), np.float32),
        (spaces.Dict({"a": spaces.Box(0, 1, (2,)), "b": spaces.Discrete(3)}), (5,), np.float32),
        (spaces.MultiBinary(4), (4,), np.float32),
    ],
    ids=str,
)
def test_observations_of_any_space(space, shape, dtype):
    class Shown(Clock):
        observation_space = space

        def reset(self, **options):
            space.seed(0)
            super().reset(**options)
            return space.sample(), {}

        def step(self, action):
            return space.sample(), 0.0, False, False, {}

    env = from_gymnasium(Shown)
    assert (env.observation_space.shape, env.observation_space.dtype) == (shape, dtype)
    vector = env.make_vector(2, False)
    obs = vector.reset([0, 1])
    assert (obs.shape, obs.dtype) == ((2, *shape), dtype)
    if isinstance(space, spaces.Discrete):
        np.testing.assert_array_equal(obs.sum(axis=1), [1, 1])
    vector.close()


def test_ids_and_options():
    env = purerl.make_env("gym:MountainCar-v0", max_episode_steps=33)
    assert (env.name, env.max_episode_steps, env.action_space) == (
        "gym:MountainCar-v0",
        33,
        spaces.Discrete(3),
    )
    vector = env.make_vector(2, False)
    vector.reset([0, 1])
    for step in range(33):
        _, _, terminated, truncated = vector.step(np.ones(2, int))
        assert not terminated.any() and truncated.all() == (step == 32)
    vector.close()
    frozen = purerl.make_env("gym:FrozenLake-v1", is_slippery=False)
    assert frozen.observation_space.shape == (16,)


@pytest.mark.slow
def test_async_equals_sync():
    together, apart = (
        purerl.make_env("gym:CartPole-v1", vectorization=how).make_vector(2, False)
        for how in ("sync", "async")
    )
    np.testing.assert_array_equal(together.reset([1, 2]), apart.reset([1, 2]))
    for _ in range(30):
        a, b = together.step(np.ones(2, int)), apart.step(np.ones(2, int))
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)
        np.testing.assert_array_equal(together.restart(a[2] | a[3])[~a[2]], apart.restart(b[2] | b[3])[~b[2]])
    together.close()
    apart.close()


def test_atari_preprocessing():
    """Four grey uint8 frames of 84 by 84; an end has its own last frames, and is restarted at once."""
    env = purerl.make_env("gym:ALE/Breakout-v5")
    assert env.observation_space == spaces.Box(0, 255, (4, 84, 84), np.uint8)
    assert env.action_space.n == 4 and env.max_episode_steps == 27_000
    vector = env.make_vector(2, False)
    obs, rng = vector.reset([1, 2]), np.random.default_rng(0)
    np.testing.assert_array_equal(obs, vector.reset([1, 2]))
    ends = 0
    for _ in range(400):
        next_obs, reward, terminated, truncated = vector.step(rng.integers(0, 4, 2))
        ended = terminated | truncated
        after = vector.restart(ended)
        np.testing.assert_array_equal(next_obs[~ended], after[~ended])
        for row in np.flatnonzero(ended):
            assert (next_obs[row] != after[row]).any()
            np.testing.assert_array_equal(next_obs[row, :3], obs[row, 1:])  # continues the step before
        obs, ends = after, ends + ended.sum()
        assert set(reward) <= {0.0, 1.0}
    assert ends >= 2 and obs.dtype == np.uint8
    vector.close()


@pytest.mark.parametrize("options", [{"max_episode_steps": 7}, {"max_num_frames_per_episode": 28}])
def test_atari_episodes_end_at_their_limit(options):
    """Where evaluations end, too."""
    env = purerl.make_env("gym:ALE/Pong-v5", **options)
    vector = env.make_vector(1, True)
    vector.reset([0])
    flags = [vector.step(np.array([0]))[2:] for _ in range(7)]
    assert env.max_episode_steps == 7 and np.ravel(flags).tolist() == [False] * 13 + [True]
    vector.close()


def test_atari_rewards_are_clipped_in_training_only():
    """A pill of MsPacman is worth 10."""
    scores = []
    for evaluation in (False, True):
        vector = purerl.make_env("gym:ALE/MsPacman-v5").make_vector(1, evaluation)
        vector.reset([0])
        scores.append(max(vector.step(np.array([i % 5 + 1]))[1][0] for i in range(120)))
        vector.close()
    assert scores[0] == 1 and scores[1] >= 10


def test_lives_end_atari_episodes_in_training_only():
    """Where asked for; an evaluation plays whole games."""
    lengths = []
    for evaluation in (False, True):
        vector = purerl.make_env("gym:ALE/Breakout-v5", episodic_life=True).make_vector(1, evaluation)
        vector.reset([0])
        rng, ends = np.random.default_rng(0), []
        for i in range(200):
            terminated = vector.step(rng.integers(0, 4, 1))[2]
            ends += [i] * int(terminated[0])
            vector.restart(terminated)
        lengths.append(ends)
        vector.close()
    assert len(lengths[0]) >= 5 and lengths[1] == []  # five lives


def missing(module, monkeypatch):
    for name in [name for name in sys.modules if name == module or name.startswith(f"{module}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    for name in [name for name in sys.modules if name.startswith("gymnasium.envs.box2d")]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.parametrize(
    ("env", "module", "extra"),
    [("gym:LunarLander-v3", "Box2D", "box2d"), ("gym:ALE/Breakout-v5", "ale_py", "atari")],
)
def test_missing_extra_is_named(env, module, extra, monkeypatch):
    missing(module, monkeypatch)
    with pytest.raises(ConfigError) as error:
        purerl.make_env(env)
    assert f'pip install "purerl[{extra}]"' in str(error.value) and error.value.field == "env"


def atari(**options):
    return purerl.make_env("gym:ALE/Pong-v5", **options)


class NoNumbers(Clock):
    action_space = spaces.Box(0, 3, (2,), np.int32)


@pytest.mark.parametrize(
    ("make", "field", "words"),
    [
        (lambda: purerl.make_env("gym:LunarLandr-v3"), "env", "Did you mean gym:LunarLander-v3?"),
        (lambda: purerl.make_env("gym:CartPole-v9"), "env", "Did you mean gym:CartPole-v1?"),
        (lambda: purerl.make_env("LunarLander-v3"), "env", "Did you mean gym:LunarLander-v3?"),
        (lambda: purerl.make_env("gym:os:system"), "env", "without a module to import"),
        (lambda: purerl.make_env("gymnasium:CartPole-v1"), "env", "behind one of brax:, gym:, gymnax:"),
        (lambda: purerl.make_env("gym:"), "env", "behind one of"),
        (lambda: purerl.make_env("gym:CartPole-v1", engine="mjx"), "engine", "auto, because"),
        (lambda: purerl.make_env("gym:CartPole-v1", gravity=3), "env", "gravity"),
        (
            lambda: purerl.make_env("gym:CartPole-v1", vectorization="asink"),
            "vectorization",
            "Did you mean async?",
        ),
        (lambda: purerl.make_env("gym:ALE/Pong-v5", vectorization="async"), "vectorization", "one of sync"),
        (lambda: atari(max_episode_steps=0), "max_episode_steps", "at least 1"),
        (lambda: atari(max_num_frames_per_episode=0), "max_num_frames_per_episode", "at least 4"),
        (lambda: atari(frameskip=0), "frameskip", "at least 1"),
        (
            lambda: from_gymnasium(NoNumbers),
            "env",
            "a MultiBinary or a Box of real numbers, got Box(0, 3",
        ),
        (lambda: from_gymnasium(Clock()), "make_one", "lambda: MyEnv()"),
    ],
)
def test_invalid_arguments(make, field, words):
    with pytest.raises(ConfigError) as error:
        make()
    assert error.value.field == field and words in str(error.value)


def test_an_untrusted_id_imports_nothing(tmp_path, monkeypatch):
    """Gymnasium itself would import the module before it looks for the environment."""
    (tmp_path / "untrusted.py").write_text("raise SystemExit('ran')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="without a module to import"):
        purerl.make_env("gym:untrusted:Evil-v0")
    assert "untrusted" not in sys.modules


MUTANTS = {
    "flags as they come": (
        "envs/adapters/from_gymnasium.py",
        "(np.asarray(flag, bool) for flag in flags)",
        "(np.asarray(flag) for flag in flags)",
        "test_flags_may_be_numbers",
    ),
    "a trial resets with a seed only": (
        "envs/adapters/gymnasium_trial.py",
        "_try_reset(env, name, seed=0, options=None)",
        "env.reset(seed=0)",
        "test_a_trial_resets_as_a_vector_does",
    ),
    "a trial is no restart": (
        "envs/adapters/gymnasium_trial.py",
        "    _try_reset(env, name, seed=None, options={})\n",
        "",
        "test_a_trial_resets_as_a_vector_does",
    ),
    "infos are laid out": (
        "envs/adapters/from_gymnasium.py",
        "obs, reward, terminated, truncated, _ = self.env.step(action)\n"
        "        return copied(obs), reward, terminated, truncated, {}",
        "return self.env.step(action)",
        "test_copies_may_write_into_one_array_and_give_any_infos",
    ),
    "copies share an array": (
        "envs/adapters/from_gymnasium.py",
        "return copied(obs), reward",
        "return obs, reward",
        "test_copies_may_write_into_one_array_and_give_any_infos",
    ),
    "copies share an array at a reset": (
        "envs/adapters/from_gymnasium.py",
        "return copied(self.env.reset(**options)[0]), {}",
        "return self.env.reset(**options)[0], {}",
        "test_copies_may_write_into_one_array_and_give_any_infos",
    ),
    "all copies are one": (
        "envs/adapters/from_gymnasium.py",
        "(tried(), *made)}) <= num_envs",
        "made}) < num_envs",
        "test_one_environment_for_all_copies_is_refused",
    ),
    "the least action is below its bound": (
        "spaces.py",
        "low = np.where(low < space.low, np.nextafter(low, np.float32(np.inf)), low)",
        "pass",
        "test_actions_are_inside_their_bounds",
    ),
    "the greatest action is above its bound": (
        "spaces.py",
        "high = np.where(high > space.high, np.nextafter(high, np.float32(-np.inf)), high)",
        "pass",
        "test_actions_are_inside_their_bounds",
    ),
    "an Atari game without frames": (
        "envs/adapters/from_gymnasium.py",
        'Rule("count", skip)',
        'Rule("count", 0)',
        "test_invalid_arguments",
    ),
    "an evaluation of an Atari game ends with a life": (
        "envs/adapters/from_gymnasium.py",
        ', "episodic_life": False',
        "",
        "test_lives_end_atari_episodes_in_training_only",
    ),
    "Atari's steps are frames": (
        "envs/adapters/from_gymnasium.py",
        "steps * skip)",
        "steps)",
        "test_atari_episodes_end_at_their_limit",
    ),
}
