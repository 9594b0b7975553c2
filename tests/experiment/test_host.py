"""Training on environments that step in Python: what is learned from is what happened, step for step."""

from typing import ClassVar, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

import purerl
from purerl.config import ConfigError
from purerl.envs.adapters.from_gymnasium import from_gymnasium
from purerl.envs.functional import functional_env
from purerl.experiment import cli
from purerl.experiment.host import HOST_PIECE_STEPS
from purerl.experiment.worlds import Worlds
from purerl.types import HostEnv

LIMIT, LIFE = 9, 7
BOX = spaces.Box(-np.ones(3, np.float32), 100 * np.ones(3, np.float32))
ACTIONS = spaces.Box(np.float32([-2]), np.float32([4]))
TINY = {"hidden_sizes": (8,), "eval_episodes": 3}
ON_POLICY = TINY | {"total_timesteps": 96, "num_envs": 2, "num_steps": 8, "log_interval": 32}
ON_POLICY |= {"num_minibatches": 2, "num_epochs": 2, "eval_interval": 48}
SAC = TINY | {
    "total_timesteps": 76,
    "num_envs": 2,
    "learning_starts": 16,
    "batch_size": 8,
    "log_interval": 20,
}
SAC |= {"eval_interval": 20, "buffer_size": 76}


class Steps(NamedTuple):
    level: jax.Array
    time: jax.Array


def after(level, time, action):
    """`(level, reward, terminated)`: dead from LIFE on if what was done adds up to enough."""
    level = level + action
    return level, 0.5 * action + 0.1 * time, (time >= LIFE) & (level > LIFE)


class Ladder(gymnasium.Env):
    """The same as `ladder`, in Python."""

    observation_space, action_space = BOX, ACTIONS
    spec = gymnasium.envs.registration.EnvSpec("Ladder-v0", max_episode_steps=LIMIT)
    made: ClassVar[list] = []
    steps = 0

    def __init__(self):
        Ladder.made.append(self)

    def _obs(self):
        return np.float32([self.level, self.time, self.time * 0.5])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.level, self.time = np.float32(0), 0
        return self._obs(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        assert not self.over()
        self.time, self.steps = self.time + 1, self.steps + 1
        self.level, reward, self.dead = after(self.level, np.float32(self.time), action[0])
        return self._obs(), reward, bool(self.dead), self.time >= LIMIT, {}

    def over(self):
        return self.time > 0 and (self.dead or self.time >= LIMIT)


def ladder():
    """An environment without chance, so that both routes go through the same."""

    def observe(state):
        return jnp.stack([state.level, state.time, state.time * 0.5]).astype(jnp.float32)

    def reset(key, params):
        state = Steps(jnp.float32(0), jnp.int32(0))
        return observe(state), state

    def step(key, state, action, params):
        time = state.time + 1
        level, reward, terminated = after(state.level, time.astype(jnp.float32), action[0])
        state = Steps(level, time)
        return observe(state), state, reward, terminated, {}

    return functional_env(
        "ladder",
        reset=reset,
        step=step,
        observation_space=BOX,
        action_space=ACTIONS,
        max_episode_steps=LIMIT,
    )


def run(algo, fields, seeds=2, **kwargs):
    cfg = purerl.make_config(algo, **fields)
    return purerl.run(cfg, seeds, progress=False, **kwargs)


@pytest.mark.parametrize(
    ("algo", "fields"),
    [
        ("ppo", ON_POLICY | {"normalize_reward": True}),
        ("recurrent_ppo", ON_POLICY | {"rnn_size": 8}),
        ("sac", SAC),
    ],
    ids=["ppo", "recurrent_ppo", "sac"],
)
def test_it_is_the_training_of_the_device(algo, fields):
    """The same keys, actions, memories, updates, evaluations and best policies as of the functional twin."""
    here, there = (run(algo, fields, env=env) for env in (ladder(), from_gymnasium(Ladder, name="ladder")))
    assert (here.steps == there.steps).all()
    assert (
        np.isfinite(here.metrics["episode/return"]).any() and np.isfinite(here.metrics["eval/return"]).any()
    )
    for name, values in here.metrics.items():
        np.testing.assert_allclose(there.metrics[name], values, rtol=2e-3, atol=2e-4, err_msg=name)
    ours, theirs = (jax.tree.leaves((r.state.algo, r.state.carry, r.state.env[1:])) for r in (here, there))
    for a, b in zip(ours, theirs, strict=True):
        if jnp.issubdtype(a.dtype, jnp.floating):
            np.testing.assert_allclose(b, a, rtol=2e-3, atol=2e-4)


def test_every_transition_that_is_stored_happened():
    """As many as the environments stepped, each from where the one before it led, and no filler between."""
    Ladder.made.clear()
    got = run("sac", SAC | {"eval_interval": 0}, env=from_gymnasium(Ladder))
    copies = [env for env in Ladder.made if env.steps]
    assert len(copies) == 4 and all(env.steps == 38 for env in copies)
    memory = jax.tree.map(np.asarray, got.state.algo.replay)
    assert (memory.size == 76).all()
    for seed in range(2):
        rows = jax.tree.map(lambda leaf, seed=seed: leaf[seed].reshape(38, 2, -1), memory.data)
        for env in range(2):
            obs, next_obs, reward, terminated = (
                getattr(rows, name)[:, env] for name in ("obs", "next_obs", "reward", "terminated")
            )
            action = 1 + 3 * rows.action[:, env, 0]  # from [-1, 1] to the range of the task
            level, time = obs[:, 0], obs[:, 1]
            expected = after(level, time + 1, np.clip(action, -2, 4))
            np.testing.assert_allclose(next_obs[:, 0], expected[0], atol=1e-5)
            np.testing.assert_allclose(reward[:, 0], expected[1], atol=1e-5)
            np.testing.assert_array_equal(terminated[:, 0], expected[2])
            np.testing.assert_array_equal(next_obs[:, 1], time + 1)
            ended = expected[2] | (time + 1 >= LIMIT)
            np.testing.assert_array_equal(obs[1:], np.where(ended[:-1, None], 0, next_obs[:-1]))
            assert ended.sum() >= 3


class Cracked(Ladder):
    """Ladder, whose third step gives what is no number."""

    def step(self, action):
        obs, reward, *rest = super().step(action)
        return (obs, np.nan, *rest) if self.time == 3 else (obs, reward, *rest)


def test_what_is_no_number_ends_its_episode_and_reaches_nobody():
    got = run("ppo", ON_POLICY | {"eval_interval": 0}, env=from_gymnasium(Cracked))
    assert (got.diverged_at == -1).all()
    assert (got.metrics["episode/length"] == 3).all()
    assert (got.metrics["episode/diverged"] > 5).all()
    assert np.isfinite(got.metrics["episode/return"]).all()


class Lottery(Ladder):
    """Ladder with a reward of 1 a step, which any step may be the last of."""

    def step(self, action):
        obs, _, _, truncated, info = super().step(action)
        self.dead = self.np_random.random() < 0.3
        return obs, 1.0, bool(self.dead), truncated, info


def test_an_evaluation_counts_each_episode_to_its_own_end():
    got = run("ppo", ON_POLICY, env=from_gymnasium(Lottery)).metrics
    evaluated = np.isfinite(got["eval/return"])
    assert evaluated.any() and (got["eval/return_max"] > got["eval/return_min"])[evaluated].any()
    for name in ("eval/return", "episode/return"):
        length = got[name.replace("return", "length")]
        np.testing.assert_allclose(got[name], length, rtol=1e-6, err_msg=name)


def test_each_seed_and_each_copy_has_random_numbers_of_its_own():
    env = purerl.make_env("gym:Pendulum-v1")
    keys = jax.random.split(jax.random.key(0), 2)
    worlds = Worlds(env, 2, 3, judging=False)
    first, again = worlds.reset(keys), worlds.reset(keys)
    alone = Worlds(env, 1, 3, judging=False)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(alone.reset(keys[1:]), first[1:])
    assert len(np.unique(first.reshape(6, 3), axis=0)) == 6
    worlds.close()
    alone.close()


def test_a_run_goes_on_with_new_episodes(tmp_path, capsys):
    """What was learned and counted goes on; where the episodes were cannot be known, and that is said."""
    fields = ON_POLICY | {"env": "gym:CartPole-v1", "checkpoint_interval": 32, "num_minibatches": 4}
    whole = run("ppo", fields, logdir=tmp_path / "run", stop_at_return=1.0)
    assert whole.steps[-1] < 96
    cfg = purerl.make_config("ppo", **fields)
    rest = purerl.run(cfg, 2, tmp_path / "run", resume=True)
    said = capsys.readouterr().err
    assert "gym:CartPole-v1 cannot be saved: its episodes begin anew" in " ".join(said.split())
    assert rest.steps.tolist() == [32, 64, 96] and np.isfinite(rest.metrics["pi/entropy"]).all()
    cfg, state = purerl.load(tmp_path / "run")
    policy = purerl.make_policy(cfg, state, member=1)
    action, _ = policy.act(policy.init(2), jnp.zeros((2, 4)), jax.random.key(0))
    assert action.shape == (2,)


def test_pieces_are_short_where_steps_are_slow():
    """A run can be stopped within a second or two."""
    assert HOST_PIECE_STEPS <= 1_000


def test_a_program_cannot_contain_it():
    cfg = purerl.make_config("ppo", env="gym:CartPole-v1")
    for refused in (purerl.make_train, purerl.make_driver):
        with pytest.raises(ConfigError, match=r"env = 'gym:CartPole-v1' .* only purerl.run"):
            refused(cfg)
    assert isinstance(purerl.make_env("gym:CartPole-v1"), HostEnv)
    assert purerl.make_algorithm(cfg).num_envs == 8


def test_a_strangers_texts_reach_no_library(tmp_path):
    """What another library does with a text is not known: a record gives it numbers and switches only."""
    fields = ON_POLICY | {"env": "gym:FrozenLake-v1", "eval_interval": 0, "num_minibatches": 4}
    for name, kwargs in (("plain", {"is_slippery": False}), ("text", {"map_name": "4x4"})):
        run("ppo", fields | {"env_kwargs": kwargs}, seeds=1, logdir=tmp_path / name)
    purerl.load(tmp_path / "plain")
    with pytest.raises(ConfigError, match=r"map_name = '4x4' .* pass it as env"):
        purerl.load(tmp_path / "text")
    with pytest.raises(ConfigError, match=r"give --env-kwargs again"):
        cli.parse(["--resume", str(tmp_path / "text")])
    purerl.load(tmp_path / "text", env=purerl.make_env("gym:FrozenLake-v1", map_name="4x4"))
