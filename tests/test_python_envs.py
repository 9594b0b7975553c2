"""Training on environments that step in Python: the same as on those inside the program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from environments import Ladder, ladder
from tiny import assert_close, tiny

import purerl
from purerl import python_envs
from purerl.config import ConfigError
from purerl.envs.adapters import from_gymnasium as adapter
from purerl.envs.adapters.from_gymnasium import from_gymnasium
from purerl.experiment import runner
from purerl.experiment.display import Display
from purerl.members import Members
from purerl.programs import make_pieces, make_programs
from purerl.python_envs import Vector
from purerl.train import make_driver

MUTANTS = {
    "returns go on into new episodes": (
        "python_envs.py",
        "learned._replace(replay=end_episodes(replay))",
        "learned._replace(replay=replay)",
        "test_no_return_reaches_into_the_new_episodes_of_a_resumed_run[td3]",
    ),
    "a copy of all rows": (
        "python_envs.py",
        "end_episodes = jax.vmap(partial(ring.end_episodes, num_envs=driver.algo.num_envs))",
        "end_episodes = jax.jit(jax.vmap(partial(ring.end_episodes, num_envs=driver.algo.num_envs)))",
        "test_a_run_begins_without_a_copy_of_its_replay_buffer",
    ),
    "only the first environment begins again": (
        "replay/ring.py",
        "(state.head - 1 - jnp.arange(num_envs, dtype=jnp.int32))",
        "(state.head - num_envs + 0 * jnp.arange(num_envs, dtype=jnp.int32))",
        "test_no_return_reaches_into_the_new_episodes_of_a_resumed_run[td3]",
    ),
    "the memory of acting is taken for that of a loop": (
        "programs.py",
        "return max(known, key=working_bytes, default=None)",
        "return min(known, key=working_bytes, default=None)",
        "test_programs_that_do_not_fit_are_refused_before_a_step",
    ),
    "evaluations without end are silent": (
        "python_envs.py",
        "if t + 1 == LONG_EVALUATION < limit:",
        "if t + 1 == limit < limit:",
        "test_an_evaluation_without_end_says_so",
    ),
}
ON_POLICY = {"total_timesteps": 96, "num_steps": 8, "log_interval": 32, "eval_interval": 48}
SAC = {"total_timesteps": 76, "learning_starts": 16, "log_interval": 20, "eval_interval": 20}
SAC |= {"batch_size": 8, "buffer_size": 76}


def run(algo, fields, seeds=2, **kwargs):
    cfg = tiny(algo, **{"env": "ladder", "env_kwargs": {}, "learning_rate": 3e-4} | fields)
    return purerl.run(cfg, seeds, progress=False, **kwargs)


@pytest.mark.parametrize(
    ("algo", "fields"),
    [
        pytest.param("ppo", ON_POLICY, id="ppo"),
        pytest.param("recurrent_ppo", ON_POLICY, marks=pytest.mark.slow, id="recurrent_ppo"),
        pytest.param("sac", SAC | {"eval_stochastic": True}, marks=pytest.mark.slow, id="sac"),
        pytest.param("sac", SAC | {"sweep": {"gamma": [0.9, 0.99]}}, marks=pytest.mark.slow, id="sweep"),
    ],
)
def test_it_is_the_training_inside_the_program(algo, fields):
    """The same keys, actions, carries, updates, evaluations and best policies as of the functional twin."""
    sweep = fields.pop("sweep", None)
    here, there = (
        run(algo, fields, sweep=sweep, env=env) for env in (ladder(), from_gymnasium(Ladder, name="ladder"))
    )
    assert (here.steps == there.steps).all()
    assert all(np.isfinite(here.metrics[name]).any() for name in ("episode/return", "eval/return"))
    for name, values in here.metrics.items():
        np.testing.assert_allclose(there.metrics[name], values, rtol=2e-3, atol=2e-4, err_msg=name)
    ours, theirs = ((r.state.algo, r.state.carry, r.state.env[1:]) for r in (here, there))
    assert_close(theirs, ours, rtol=2e-3, atol=2e-4)


@pytest.mark.slow
def test_every_step_is_stored():
    """As many transitions as the environments stepped, and no step between."""
    env = from_gymnasium(Ladder)
    Ladder.made.clear()  # the trial of the environment itself
    stored = run("sac", SAC | {"eval_interval": 0}, env=env).state.algo.replay.size
    assert stored.tolist() == [76, 76] and [env.steps for env in Ladder.made if env.steps] == [38] * 4


@pytest.mark.parametrize("algo", ["td3", pytest.param("recurrent_sac", marks=pytest.mark.slow)])
def test_no_return_reaches_into_the_new_episodes_of_a_resumed_run(algo, tmp_path):
    """The newest row of each environment has a flag then: its state was not saved, and it begins again."""
    env, fields = from_gymnasium(Ladder, name="ladder"), SAC | {"eval_interval": 0, "buffer_size": 40}
    first = run(algo, fields | {"total_timesteps": 56}, env=env, logdir=tmp_path)
    longer = run(algo, fields, env=env, logdir=tmp_path, resume=True, allow_changes=True)
    before, after = (np.asarray(r.state.algo.replay.rows.truncated) for r in (first, longer))
    newest, others = [14, 15], [*range(14), *range(36, 40)]  # after 56 steps; rows of the first run
    assert not before[:, newest].any() and after[:, newest].all()
    np.testing.assert_array_equal(before[:, others], after[:, others])


def test_a_run_begins_without_a_copy_of_its_replay_buffer():
    """Of its arrays only the flags of the newest rows are other ones."""
    env, members = from_gymnasium(Ladder, name="ladder"), Members(2)
    cfg = tiny("td3", **({"env": "ladder", "env_kwargs": {}} | SAC))
    driver = make_driver(cfg, python_envs.outline(env))
    pieces = make_pieces(driver.schedule, members.size)
    programs = make_programs(driver, members, pieces)
    state = programs.start(members.keys(cfg), members.hyper(cfg))[0]
    entered = python_envs.replace_steps(programs, driver, env, members, pieces).enter(state, jnp.int32(0))
    before, after = (s.algo.replay.rows._asdict() for s in (state, entered))
    place = lambda leaf: leaf.unsafe_buffer_pointer()
    same = {name for name in before if name != "extras" and place(before[name]) == place(after[name])}
    assert same == {"obs", "action", "reward", "next_obs", "terminated"}


def test_programs_that_do_not_fit_are_refused_before_a_step(monkeypatch):
    """They are compiled ahead, and the largest is that of an update: here some 2 MB of gradients."""
    env, shown = from_gymnasium(Ladder, name="ladder"), []
    Ladder.made.clear()
    answers = iter([10**10, 10**6])
    monkeypatch.setattr(runner, "available_bytes", lambda devices: next(answers))
    monkeypatch.setattr(Display, "compiled", lambda self, seconds, needed: shown.append(needed))
    with pytest.raises(ConfigError, match="programs need"):
        run("ppo", ON_POLICY | {"hidden_sizes": (256, 256)}, env=env)
    assert shown[0] > 10**6 and not any(env.steps for env in Ladder.made)


class Broken(Ladder):
    """Ladder whose third step gives NaN."""

    def step(self, action):
        obs, reward, *rest = super().step(action)
        return (obs, np.nan, *rest) if self.time == 3 else (obs, reward, *rest)


def test_nan_ends_its_episode_and_reaches_no_update():
    """The observation before stands in for the one with NaN, and the reward is 0."""
    vector = Vector(from_gymnasium(Broken), 1, 2, evaluation=False)
    obs = vector.reset(jax.random.split(jax.random.key(0), 1))
    for time in (1, 2, 3):
        before = obs
        obs, reward, terminated, truncated, broken = vector.step(obs, jnp.ones((1, 2, 1)))
        assert (broken == (time == 3)).all() and (terminated == (time == 3)).all() and not truncated.any()
    assert (reward == 0).all() and np.isfinite(obs).all() and obs.shape == before.shape == (1, 2, 3)
    assert (vector.restart(terminated) == 0).all()
    vector.close()


class Endless(Ladder):
    """Ladder whose episodes do not end, and have no time limit."""

    spec = None

    def step(self, action):
        obs, reward, *_ = super().step(action)
        self.time, self.dead = 1, False
        return obs, reward, False, False, {}


def test_an_evaluation_without_end_says_so(monkeypatch, caplog):
    """After some steps, and where it ends: at the limit, with the return so far."""
    monkeypatch.setattr(python_envs, "LONG_EVALUATION", 5)
    monkeypatch.setattr(python_envs, "keep_best", lambda state, tallies, best, step, played: played)
    monkeypatch.setattr(adapter, "MAX_STEPS", 12)
    env, members = from_gymnasium(Endless), Members(1)
    cfg = tiny("a2c", "cartpole", normalize_obs=False)
    driver = make_driver(cfg, python_envs.outline(env))
    state = jax.jit(jax.vmap(lambda key: driver.init(key, {})))(members.keys(cfg))
    vector = Vector(env, 1, cfg.eval_episodes, evaluation=True)
    evaluate = python_envs.evaluation_loop(driver, members, vector, env.max_episode_steps)
    played = evaluate(state, None, None, jnp.int32(0), members.hyper(cfg))
    assert played["eval/length"].mean == 12
    assert caplog.messages == [
        "Endless: 3 of 3 episodes of an evaluation go on after 5 steps; it ends at step 12. Tasks without an "
        "end need a time limit: max_episode_steps, or a TimeLimit."
    ]


def test_each_member_and_each_copy_has_its_own_random_numbers():
    env = purerl.make_env("gym:Pendulum-v1")
    keys = jax.random.split(jax.random.key(0), 2)
    vector, alone = (Vector(env, members, 3, evaluation=False) for members in (2, 1))
    first, again = vector.reset(keys), vector.reset(keys)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(alone.reset(keys[1:]), first[1:])
    assert len(np.unique(first.reshape(6, 3), axis=0)) == 6
    vector.close()
    alone.close()
