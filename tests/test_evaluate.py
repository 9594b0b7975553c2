"""Evaluation on episodes whose returns and lengths are known in advance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from environments import LIMIT, clock
from tiny import seed_keys, tiny

import purerl
from purerl import ConfigError
from purerl.evaluate import Policy, evaluate, policy_of
from purerl.members import Members
from purerl.types import Algorithm

STILL = Policy(lambda num_envs: (), lambda carry, obs, key: (jnp.zeros((len(obs), 2)), carry))


def play(env, policy, seed, num_episodes):
    return jax.jit(lambda key: evaluate(env, policy, key, num_episodes))(jax.random.key(seed))


@pytest.mark.parametrize("length", [1, 3, LIMIT, LIMIT + 3], ids=["1", "death", "both", "time limit"])
def test_returns_and_lengths_of_known_episodes(length):
    """Rewards 1, 2, 3 ... up to the end, whichever flag it has, and nothing beyond."""
    returns, lengths = play(clock(length, length)._replace(max_episode_steps=50), STILL, 0, 4)
    steps = min(length, LIMIT)  # the task's own limit comes before the evaluator's
    np.testing.assert_array_equal(returns, np.full(4, steps * (steps + 1) / 2))
    np.testing.assert_array_equal(lengths, np.full(4, steps))
    assert (returns.dtype, lengths.dtype) == (jnp.float32, jnp.int32)


def test_episodes_end_one_by_one():
    """One that ended early takes nothing from those that go on: no reward, no step, no NaN."""
    returns, lengths = play(clock(), STILL, 1, 50)
    assert set(lengths.tolist()) == set(range(2, LIMIT + 1))
    np.testing.assert_array_equal(returns, lengths * (lengths + 1) / 2)


def test_only_the_key_decides_the_episodes():
    """Equal keys give equal episodes, other keys others, and more episodes leave the first as they are."""
    few = jax.jit(lambda key: evaluate(clock(), STILL, key, 12)[1])
    first, again, other = (few(jax.random.key(seed)).tolist() for seed in (0, 0, 1))
    assert first == again != other
    assert first == play(clock(), STILL, 0, 20)[1].tolist()[:12]


def test_it_stops_when_all_have_ended():
    """A policy that falls at once costs no time up to the limit."""
    calls = []

    def act(carry, obs, key):
        jax.debug.callback(lambda: calls.append(1))
        return jnp.zeros((len(obs), 2)), carry

    play(clock(3, 3, max_episode_steps=50), STILL._replace(act=act), 0, 2)
    jax.effects_barrier()
    assert len(calls) == 3


def test_the_policy_keeps_its_carry_and_gets_new_keys():
    """The carry of one step is there at the next; noise is not the same at every step."""

    def act(carry, obs, key):
        noise = jax.random.uniform(key, (len(obs),))
        return jnp.stack([10.0 * carry + noise, noise], -1), carry + 1

    returns, _ = play(clock(4, 4), Policy(jnp.zeros, act), 0, 3)
    noise = returns - (1 + 2 + 3 + 4) - 10 * (0 + 1 + 2 + 3)
    assert ((noise > 0) & (noise < 4)).all() and len(np.unique(noise)) == 3
    one, _ = play(clock(1, 1), Policy(jnp.zeros, act), 0, 3)
    assert (np.abs(noise - 4 * (one - 1)) > 1e-3).all()


def test_the_greedy_policy_acts_in_the_range_of_the_task():
    """Exploration noise in evaluation, or an action still in [-1, 1] units, shows at once."""

    def act(state, carry, obs, key, step, *, explore):
        assert explore is False
        return jnp.full((len(obs), 2), state + step), carry + 1, {"log_prob": 0}

    nothing = dict.fromkeys(("init", "observe", "update"))
    algo = Algorithm(**nothing, init_carry=jnp.zeros, act=act, num_envs=1, num_steps=1)
    policy = policy_of(algo, jnp.float32(-5.0), clock(), step=7)
    action, carry = policy.act(policy.init(3), jnp.zeros((3, 3)), jax.random.key(0))
    np.testing.assert_array_equal(action, np.tile([4.0, 1.0], (3, 1)))
    np.testing.assert_array_equal(carry, np.ones(3))


def states_of(cfg, members):
    """Return the initial states of these many members, stacked."""
    init = jax.jit(jax.vmap(purerl.make_driver(cfg).init, in_axes=(0, None)))
    return init(seed_keys(*range(members)), Members(members).hyper(cfg))


def test_policies_of_members():
    """`make_policy` picks one of many members, acts in the environment's units, and refuses a bad member."""
    cfg = tiny("ppo", "cartpole")
    state, obs = states_of(cfg, 3), jax.random.normal(jax.random.key(1), (64, 4))
    policies = [purerl.make_policy(cfg, state, member=member) for member in range(3)]
    actions = [policy.act(policy.init(64), obs, jax.random.key(0))[0] for policy in policies]
    assert actions[0].shape == (64,) and any((actions[0] != other).any() for other in actions[1:])
    for member in (None, 3, -1):
        with pytest.raises(ConfigError, match=r"member = .*expected 0 to 2"):
            purerl.make_policy(cfg, state, member=member)
    single = jax.tree.map(lambda leaf: leaf[1], state)
    assert (purerl.make_policy(cfg, single).act((), obs, None)[0] == actions[1]).all()
    with pytest.raises(ConfigError, match="a single member"):
        purerl.make_policy(cfg, single, member=0)
    cfg = tiny("sac", "pendulum")
    obs = 9 * jax.random.normal(jax.random.key(1), (64, 3))
    command = purerl.make_policy(cfg, states_of(cfg, 1), member=0).act((), obs, None)[0]
    assert command.shape == (64, 1) and 1e-3 < float(abs(command).max()) <= 2.0


MUTANTS = {
    "counts beyond the end": (
        "evaluate.py",
        "where(progress.alive, reward, np.float32(0))",
        "reward",
        "test_episodes_end_one_by_one",
    ),
    "steps beyond the end": (
        "evaluate.py",
        "progress.lengths + progress.alive",
        "progress.lengths + 1",
        "test_episodes_end_one_by_one",
    ),
    "goes on after a time limit": (
        "evaluate.py",
        "count_step(progress, reward, terminated | truncated)",
        "count_step(progress, reward, terminated)",
        "test_returns_and_lengths_of_known_episodes",
    ),
    "the last reward is lost": (
        "evaluate.py",
        "where(progress.alive, reward,",
        "where(progress.alive & ~ended, reward,",
        "test_returns_and_lengths_of_known_episodes",
    ),
    "one key for all steps": (
        "evaluate.py",
        "jax.random.fold_in(key_steps, time)",
        "key_steps",
        "test_the_policy_keeps_its_carry_and_gets_new_keys",
    ),
    "explores": (
        "evaluate.py",
        "step, explore=explore)",
        "step, explore=True)",
        "test_the_greedy_policy_acts_in_the_range_of_the_task",
    ),
    "acts at step 0": (
        "evaluate.py",
        "obs, key, step, explore=explore)",
        "obs, key, 0, explore=explore)",
        "test_the_greedy_policy_acts_in_the_range_of_the_task",
    ),
    "evaluate: always to the limit": (
        "evaluate.py",
        "alive.any() & (time",
        "(time",
        "test_it_stops_when_all_have_ended",
    ),
    "evaluate: in the policy's units": (
        "evaluate.py",
        "return env_action(env.action_space, action), carry",
        "return action, carry",
        "test_the_greedy_policy_acts_in_the_range_of_the_task",
    ),
}
