"""A training loop of your own around `init`, `act` and `update`, in 30 lines.

`make_train` is this loop with warm-up, metrics and evaluation. Run it as `python docs/own_loop.py`.
"""

import jax
import jax.numpy as jnp

import purerl
from purerl.rollout import start, unroll


def train(key, iterations=20):
    """PPO on cartpole; returns the state and the mean reward of each rollout `[iterations]`."""
    cfg = purerl.make_config("ppo", env="cartpole", num_envs=8, num_steps=64, num_minibatches=8)
    env = purerl.make_env("cartpole")
    algo = purerl.make_algorithm(cfg, env)
    key_init, key_env, key = jax.random.split(key, 3)

    def iteration(loop, i):
        state, vector, carry = loop
        step = i * algo.num_envs * algo.num_steps  # environment steps so far: schedules follow it
        key_act, key_update = jax.random.split(jax.random.fold_in(key, i))
        policy = lambda carry, obs, key: algo.act(state, carry, obs, key, step, explore=True)
        vector, carry, transitions, episodes = unroll(env, policy, vector, carry, key_act, algo.num_steps)
        state, _ = algo.update(state, transitions, key_update, step)
        ended = jnp.maximum(episodes.ended.sum(), 1)
        return (state, vector, carry), jnp.where(episodes.ended, episodes.returns, 0).sum() / ended

    loop = algo.init(key_init), start(env, key_env, algo.num_envs), algo.init_carry(algo.num_envs)
    (state, _, _), returns = jax.lax.scan(iteration, loop, jnp.arange(iterations))
    return state, returns


if __name__ == "__main__":
    print(jax.jit(train)(jax.random.key(0))[1])
