"""Evaluation of the policies of a run: the right policy, the right task, the same numbers again."""

from pathlib import Path

import jax
import numpy as np
import pytest
from tiny import tiny

import purerl
from purerl import evaluate as inside
from purerl.cli.evaluate import EvalOptions, describe
from purerl.cli.evaluate import _task as evaluate_task
from purerl.cli.main import command
from purerl.config import ConfigError
from purerl.train import evaluation_key
from purerl.workbench.evaluation import Evaluation, evaluate_run

MUTANTS = {
    "every member plays the first policy": (
        "workbench/evaluation.py",
        "arguments = state.algo, roots",
        "arguments = jax.tree.map(lambda leaf: leaf[:1].repeat(members.size, 0), state.algo), roots",
        "test_the_policy_of_every_member_is_played",
    ),
    "exploration is forgotten in Python": (
        "workbench/evaluation.py",
        "progress = episodes_loop(",
        "stochastic = False; progress = episodes_loop(",
        "test_a_policy_plays_in_gymnasium",
    ),
    "the newest for the best": (
        "workbench/evaluation.py",
        "load(run_dir, best=best,",
        "load(run_dir, best=False,",
        "test_the_best_policy_is_played",
    ),
    "a seed of its own": (
        "workbench/evaluation.py",
        "jax.random.key(seed)]",
        "jax.random.key(0)]",
        "test_the_same_arguments_give_the_same_bits",
    ),
    "any task": (
        "experiment/loading.py",
        "if env is None or not without_env:",
        "if True:",
        "test_a_task_that_does_not_fit_is_refused",
    ),
    "replay is read": (
        "experiment/loading.py",
        "without_env = best or policy_only or kept",
        "without_env = best or kept",
        "test_a_policy_is_read_without_the_replay_buffer",
    ),
}
EPISODES = 4


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """Two learning rates and two seeds of PPO on a cartpole whose episodes have up to 50 steps."""
    path = tmp_path_factory.mktemp("run") / "run"
    fields = dict(total_timesteps=2048, num_steps=32, log_interval=64, eval_interval=64)
    cfg = tiny("ppo", "cartpole", env_kwargs={"max_episode_steps": 50}, **fields)
    purerl.run(cfg, 2, path, sweep={"learning_rate": [1e-3, 1e-2]}, progress=False)
    return path


def test_the_policy_of_every_member_is_played(run_dir):
    """As `make_policy` and `evaluate` play it, from the same key."""
    done = evaluate_run(run_dir, EPISODES, seed=3)
    cfg, state = purerl.load(run_dir)
    env = purerl.make_env(cfg.env, **cfg.env_kwargs)
    assert done.returns.shape == done.lengths.shape == (4, EPISODES) and not done.diverged.any()
    for i in range(4):
        policy = purerl.make_policy(cfg, state, member=i)
        key = evaluation_key(jax.random.key(3), np.int32(cfg.total_timesteps), False)
        returns, lengths = jax.jit(lambda k, p=policy: inside.evaluate(env, p, k, EPISODES))(key)
        np.testing.assert_array_equal(done.returns[i], returns)
        np.testing.assert_array_equal(done.lengths[i], lengths)
    assert len({tuple(row) for row in done.returns.tolist()}) > 1


def test_the_same_arguments_give_the_same_bits(run_dir):
    one, two, other = (evaluate_run(run_dir, EPISODES, seed=seed).returns for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()


def test_the_best_policy_is_played(run_dir):
    """That of the best evaluation, found in the logs; the newest is another."""
    best, newest = (evaluate_run(run_dir, 64, best=best).returns for best in (True, False))
    assert (best != newest).any()
    cfg, state = purerl.load(run_dir, best=True)
    policy = purerl.make_policy(cfg, state, member=2)
    key = evaluation_key(jax.random.key(0), np.int32(cfg.total_timesteps), False)
    env = purerl.make_env(cfg.env, **cfg.env_kwargs)
    returns = jax.jit(lambda k: inside.evaluate(env, policy, k, 64)[0])(key)
    np.testing.assert_array_equal(best[2], returns)


def test_exploration_is_an_option(run_dir):
    plain, explored = (evaluate_run(run_dir, EPISODES, stochastic=s).returns for s in (False, True))
    assert (plain != explored).any()


def test_a_policy_plays_in_gymnasium(run_dir):
    """A task of Gymnasium with the same spaces, stepped in Python; exploring it is random there, too."""
    env = purerl.make_env("gym:CartPole-v1", max_episode_steps=30)
    done = [evaluate_run(run_dir, EPISODES, env=env, stochastic=s) for s in (False, True)]
    for one in done:
        assert one.returns.shape == (4, EPISODES) and (one.returns == one.lengths).all()
        assert one.lengths.max() <= 30 and one.lengths.min() >= 5
    assert (done[0].returns != done[1].returns).any()
    again = evaluate_run(run_dir, EPISODES, env=env)
    np.testing.assert_array_equal(done[0].returns, again.returns)


def test_a_task_that_does_not_fit_is_refused(run_dir):
    with pytest.raises(ConfigError, match="env = 'acrobot': expected a task whose observations"):
        evaluate_run(run_dir, env=purerl.make_env("acrobot"))
    with pytest.raises(ConfigError, match="episodes = 0"):
        evaluate_run(run_dir, 0)
    with pytest.raises(ConfigError, match="stochastic = 1"):
        evaluate_run(run_dir, stochastic=1)
    with pytest.raises(ConfigError, match="run_dir = '/no/such'"):
        evaluate_run("/no/such")


def test_a_run_on_a_model_file_is_evaluated_with_its_environment(tmp_path):
    """Which is passed; nothing opens a file that a record names, though the engine is another."""
    model = tmp_path / "pendulum.xml"
    model.write_text((Path(purerl.__file__).parent / "envs/mujoco/assets/inverted_pendulum.xml").read_text())
    kwargs = {"xml_file": str(model), "max_episode_steps": 5}
    cfg = tiny("a2c", "inverted_pendulum", env_kwargs=kwargs, eval_interval=0)
    purerl.run(cfg, 1, tmp_path / "run", progress=False)
    with pytest.raises(ConfigError, match="pass it as env"):
        evaluate_run(tmp_path / "run")
    assert (
        evaluate_run(tmp_path / "run", 2, env=purerl.make_env("inverted_pendulum", **kwargs)).lengths.max()
        <= 5
    )
    model.unlink()
    with pytest.raises(ConfigError, match="give --env-kwargs"):
        evaluate_task(str(tmp_path / "run"), EvalOptions(engine="mjx"))


def test_a_policy_is_read_without_the_replay_buffer(tmp_path):
    purerl.run(tiny("sac"), 2, tmp_path / "run", progress=False)
    cfg, whole = purerl.load(tmp_path / "run")
    _, state = purerl.load(tmp_path / "run", policy_only=True)
    assert state.algo.replay == state.env == state.carry == () and whole.algo.replay != ()
    jax.tree.map(
        np.testing.assert_array_equal,
        jax.random.key_data(whole.key),
        jax.random.key_data(state.key),
    )
    for one in (whole, state):
        assert purerl.make_policy(cfg, one, member=1)
    assert evaluate_run(tmp_path / "run", 2).returns.shape == (2, 2)


def test_the_command_prints_a_table(run_dir, capsys):
    words = ["eval", str(run_dir), "--episodes", "4", "--seed", "3", "--compilation-cache", "none"]
    assert command(words) == 0
    text = capsys.readouterr().out
    done = evaluate_run(run_dir, 4, seed=3)
    rows = [line.split() for line in text.splitlines()[2:6]]
    assert [row[0] for row in rows] == done.members
    assert [float(row[1]) for row in rows] == pytest.approx(done.returns.mean(axis=1), abs=0.06)
    assert "mean of 4 members" in text
    assert command([*words, "--env", "gym:CartPole-v1", "--env-kwargs", '{"max_episode_steps": 9}']) == 0
    assert "  9.0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("", "as in purerl eval runs/one"),
        ("a b", "one directory"),
        ("a --episode 3", "Did you mean episodes?"),
        ("a --episodes 0", "episodes = 0"),
        ("/no/such", "the directory of a run"),
        ("/no/such --env acrobot", "the directory of a run"),
    ],
)
def test_mistakes_are_one_line(words, part, capsys):
    assert command(["eval", *words.split()]) == 2
    text = capsys.readouterr().err
    assert part in text and text.count("\n") == 1


def test_a_diverged_member_is_marked_and_not_in_the_mean():
    returns = np.array([[1.0, 3.0], [np.nan, 100.0], [3.0, 5.0]], np.float32)
    text = describe(Evaluation(returns, np.ones((3, 2)), ["a", "b", "c"], np.array([False, True, False])))
    assert text.splitlines()[3].endswith("diverged") and "mean of 2 members 3.0" in text
