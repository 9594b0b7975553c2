"""The training loop: its phases and steps, and the environments, networks and loops that users bring."""

import runpy
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import spy
from environments import clock
from gymnasium import spaces
from tiny import assert_close, plain, same_bits, tiny, tiny_fields

import purerl
from purerl import rollout
from purerl.train import evaluation_key, streams
from purerl.types import Network

SAC = tiny("sac", eval_interval=0, hidden_sizes=(4,), buffer_size=40)
UNIT = spaces.Box(-1.0, 1.0, (1,))


# Steps


@pytest.fixture(scope="module")
def watched():
    """A run of 12 steps of warm-up and 24 of training, in rows of 12, each of two rollouts."""
    cfg = spy.SpyConfig(
        num_envs=2, num_steps=3, learning_starts=12, total_timesteps=36, log_interval=12, eval_interval=12
    )
    env = clock(4, 4, action_space=UNIT)
    return cfg, env, jax.jit(purerl.make_train(cfg, env))(jax.random.key(0))


def test_act_and_update_get_the_step_of_the_rollout(watched):
    """Environment steps so far, warm-up included; all environments and all time steps get the same."""
    _, _, out = watched
    assert list(out.metrics["step"]) == [12, 24, 36]
    for name in ("seen/act_first", "seen/act_last", "seen/update"):
        np.testing.assert_allclose(out.metrics[name], [np.nan, (12 + 18) / 2, (24 + 30) / 2])


def test_a_chunk_gets_the_step_it_is_called_with(watched):
    cfg, env, _ = watched
    driver = purerl.make_driver(cfg, env)
    state = driver.init(jax.random.key(0), {})
    chunk = jax.jit(driver.chunk, static_argnums=3)
    _, tallies = chunk(state, jnp.int32(300), {}, 1)
    steps = [tallies[name].mean for name in ("seen/act_first", "seen/act_last", "seen/update")]
    assert steps == [300, 300, 300]
    _, tallies = chunk(state, jnp.int32(300), {}, 3)
    assert [tallies["seen/update"].low, tallies["seen/update"].high] == [300, 312]


def test_an_evaluation_acts_at_its_own_step(watched):
    """An episode of four steps pays 1 + 2 + 3 + 4, and the action, step / 1000, at each."""
    _, _, out = watched
    expected = [np.nan, *(10 + 4 * step / 1000 for step in (24, 36))]
    np.testing.assert_allclose(out.metrics["eval/return"], expected, rtol=1e-6)


def test_the_final_policy_acts_at_the_last_step(watched):
    cfg, env, out = watched
    policy = purerl.make_policy(cfg, out.state, env=env)
    action, _ = policy.act(policy.init(2), jnp.zeros((2, 3)), jax.random.key(0))
    np.testing.assert_allclose(action, 0.036, rtol=1e-6)


def test_warm_up_draws_uniform_actions_without_the_policy(watched):
    cfg, env, out = watched
    assert spy.rows(out.state.algo) == [6, 2]
    driver = purerl.make_driver(cfg, env)
    act = jax.jit(driver.warming.act)
    key, obs = jax.random.key(5), jnp.zeros((2, 3))
    first, later = (act(None, (), obs, key, jnp.int32(step), {})[0] for step in (0, 6))
    assert same_bits(first, later)
    assert_close(first, rollout.uniform_action(UNIT, key, 2), rtol=1e-6)
    keys = [driver.warming.plan(key, jnp.int32(step))[0] for step in (0, 6)]
    assert not same_bits(*keys)


def test_totals_round_up_and_say_so(caplog):
    """Rows are whole: 50 steps in rows of 16 after 8 of warm-up make 56."""
    cfg = tiny("sac", eval_interval=0, total_timesteps=50)
    steps = jax.eval_shape(purerl.make_train(cfg), jax.random.key(0)).metrics["step"]
    assert steps.shape == (4,) and "50 becomes 56" in caplog.text
    assert purerl.make_driver(cfg).schedule.total_steps == 56


# Evaluations


@pytest.fixture(scope="module")
def evaluated():
    """VPG with evaluations of the greedy policy, and of both."""
    cfgs = (tiny("vpg", "pendulum", num_epochs=1, eval_stochastic=both) for both in (False, True))
    return [jax.jit(purerl.make_train(cfg))(jax.random.key(0)) for cfg in cfgs]


def test_the_exploring_policy_adds_rows_and_changes_nothing(evaluated):
    greedy, both = evaluated
    more = {name for name in both.metrics if name not in greedy.metrics}
    suffixes = {"length", "return", "return_max", "return_min", "return_std"}
    assert more == {f"eval_stochastic/{suffix}" for suffix in suffixes}
    assert_close(greedy.state, both.state)
    assert_close(dict(greedy.metrics), {name: both.metrics[name] for name in greedy.metrics})
    done = np.isfinite(both.metrics["eval/return"])
    assert done.any()
    assert (np.isfinite(both.metrics["eval_stochastic/return"]) == done).all()
    difference = (both.metrics["eval_stochastic/return"] - both.metrics["eval/return"])[done]
    assert (np.abs(difference) > 1e-3).all(), "it plays other episodes"


def test_each_evaluation_has_a_key_of_its_own():
    root = jax.random.key(0)
    keys = [evaluation_key(root, step, explore) for step in (16, 32) for explore in (False, True)]
    assert len({plain(key).tobytes() for key in keys}) == 4
    assert same_bits(keys[0], jax.random.fold_in(streams(root).evaluate, 16))


# Environments, networks and loops of the user


def test_a_users_environment_takes_the_place_of_the_named(watched):
    """An Env object is used as it is, whatever `cfg.env` says."""
    cfg, env, out = watched
    assert cfg.env == "cartpole" and purerl.make_driver(cfg, env).env is env
    np.testing.assert_allclose(out.metrics["episode/length"], 4)
    assert out.state.env.obs.shape == (2, 3)


def test_a_users_network_takes_the_place_of_that_name():
    """An `(init, apply)` pair replaces the algorithm's own, and only that."""

    class Linear(nn.Module):
        @nn.compact
        def __call__(self, obs):
            mean = nn.Dense(1, name="mine")(obs)
            return mean, jnp.zeros_like(mean)

    def params(**networks):
        driver = purerl.make_driver(SAC, networks=networks)
        return jax.eval_shape(driver.init, jax.random.key(0), {}).algo.learner.params

    flax = params(pi=(Linear().init, Linear().apply))
    assert set(flax["pi"]["params"]) == {"mine"} and "torso" in flax["q"][0]["params"]
    bare = Network(lambda key, obs: {"w": jnp.ones((3, 1))}, lambda p, obs: (obs @ p["w"], obs @ p["w"]))
    assert set(params(pi=bare)["pi"]) == {"w"}
    out = jax.jit(purerl.make_train(SAC, networks={"pi": bare}))(jax.random.key(0))
    assert (out.state.algo.learner.params["pi"]["w"] != 1).all()


def test_an_unknown_network_is_refused():
    with pytest.raises(purerl.ConfigError, match=r"networks = 'qq'.* pi, q.* Did you mean q"):
        purerl.make_train(SAC, networks={"qq": (None, None)})


def test_tiny_fields_make_the_same_config():
    assert purerl.make_config("ppo", **tiny_fields("ppo", "pendulum")) == tiny("ppo", "pendulum")


@pytest.mark.slow
def test_the_loop_in_the_docs_learns():
    """The 30-line example is run as it stands."""
    example = runpy.run_path(str(Path(__file__).parents[1] / "docs" / "own_loop.py"))
    _, returns = jax.jit(example["train"])(jax.random.key(0))
    assert float(returns[-4:].mean()) > 2 * float(returns[:2].mean())


def test_a_result_is_shown_in_a_few_lines():
    """Returns of all members and sizes, traced and after `run` too: a cell of a notebook shows it."""
    train = purerl.make_train(tiny("ppo"))
    outs = jax.jit(jax.vmap(train))(jax.random.split(jax.random.key(0), 3))
    last = outs.metrics["eval/return"][:, -1]
    text = repr(outs)
    assert f"eval/return {last.mean():,.1f} ({last.min():,.1f} to {last.max():,.1f})" in text
    assert text.count("\n") == 2 and len(text) < 1200 and "algo: " in text and "of shape [3, 3]" in text
    seen = []
    jax.eval_shape(lambda key: (seen.append(repr(train(key))), key)[1], jax.random.key(0))
    assert seen[0].startswith("TrainOutput(episode/return [3], eval/return [3]")
    run = purerl.run(tiny("ppo"), 2, progress=False)
    assert repr(run).startswith("Run(2 members, logdir=None, TrainOutput(") and len(repr(run)) < 1300
    blank = outs._replace(metrics=outs.metrics | {"eval/return": np.full((3, 3), np.nan)})
    assert "eval/return without a value" in repr(blank)


MUTANTS = {
    "the first row is shown": (
        "types.py",
        "[np.isfinite(row)][-1]",
        "[np.isfinite(row)][0]",
        "test_a_result_is_shown_in_a_few_lines",
    ),
    "act gets the step of the chunk": (
        "train.py",
        "phase.act(state.algo, carry, obs, key, now, hyper)",
        "phase.act(state.algo, carry, obs, key, step, hyper)",
        "test_act_and_update_get_the_step_of_the_rollout",
    ),
    "act gets the step after the rollout": (
        "train.py",
        "phase.act(state.algo, carry, obs, key, now, hyper)",
        "phase.act(state.algo, carry, obs, key, now + schedule.iteration_steps, hyper)",
        "test_a_chunk_gets_the_step_it_is_called_with",
    ),
    "steps of one environment": (
        "train.py",
        "now = step + i * schedule.iteration_steps\n",
        "now = step + i * num_steps\n",
        "test_a_chunk_gets_the_step_it_is_called_with",
    ),
    "update gets the step of the chunk": (
        "train.py",
        "phase.learn(state, transition, key_update, now, hyper)",
        "phase.learn(state, transition, key_update, step, hyper)",
        "test_act_and_update_get_the_step_of_the_rollout",
    ),
    "evaluation at step 0": (
        "train.py",
        "state.algo, env, step, explore)",
        "state.algo, env, 0, explore)",
        "test_an_evaluation_acts_at_its_own_step",
    ),
    "final policy at step 0": (
        "make.py",
        "env, cfg.total_timesteps, explore",
        "env, 0, explore",
        "test_the_final_policy_acts_at_the_last_step",
    ),
    "warm-up acts by the policy": (
        "train.py",
        "return rollout.uniform_action(env.action_space, key, num_envs), carry, ()",
        "return act(learned, carry, obs, key, step, hyper)",
        "test_warm_up_draws_uniform_actions_without_the_policy",
    ),
    "warm-up repeats its noise": (
        "train.py",
        "streams(root).warmup, step // schedule.iteration_steps)",
        "streams(root).warmup, 0)",
        "test_warm_up_draws_uniform_actions_without_the_policy",
    ),
    "warm-up learns": (
        "train.py",
        "make_algorithm(hyper).observe(state.algo, transition)",
        "make_algorithm(hyper).update(state.algo, transition, key, step)[0]",
        "test_warm_up_draws_uniform_actions_without_the_policy",
    ),
    "the second policy is greedy too": (
        "train.py",
        '{"eval_stochastic": True}',
        '{"eval_stochastic": False}',
        "test_the_exploring_policy_adds_rows_and_changes_nothing",
    ),
    "the second policy takes the first key": (
        "train.py",
        "return jax.random.fold_in(key, 1) if explore else key",
        "return key",
        "test_each_evaluation_has_a_key_of_its_own",
    ),
    "an evaluation without rows of its own": (
        "train.py",
        "                name, *evaluation.evaluate",
        '                "eval", *evaluation.evaluate',
        "test_the_exploring_policy_adds_rows_and_changes_nothing",
    ),
    "the named environment is taken": (
        "train.py",
        "in_the_program(env_for(cfg, env))",
        "in_the_program(env_for(cfg, None))",
        "test_a_users_environment_takes_the_place_of_the_named",
    ),
    "rows are rounded down": (
        "schedule.py",
        "rows = -(-wanted //",
        "rows = (wanted //",
        "test_totals_round_up_and_say_so",
    ),
}
