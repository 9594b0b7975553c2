"""Naive deep Q-learning, and what a replay buffer and a target network repair.

Run as `python docs/examples/deep_q.py`. Q-learning's table becomes a network, with one gradient step on
`(r + gamma max Q(s', .) - Q(s, a))^2` for each step of cartpole. From the latest step alone, the network
forgets what it has not met lately: replay repairs that. Its targets move with every gradient step and run
away, though no return is worth more than `1 / (1 - gamma)` = 100: a copy that stands still for a while
repairs that. DQN (Mnih et al. 2015) has both, and purerl's `dqn` what came later.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

import purerl
from purerl.rollout import start, uniform_action, unroll

ENV, GAMMA, ADAM = purerl.make_env("cartpole"), 0.99, optax.adam(5e-4)
Q = nn.Sequential([nn.Dense(64), nn.relu, nn.Dense(64), nn.relu, nn.Dense(2)])  # obs [B, 4] -> [B, 2]


def loss(params, fixed, rows):
    """Return the mean squared error of `rows [B]` with targets by the network `fixed`."""
    goal = rows.reward + GAMMA * jnp.where(rows.terminated, 0, Q.apply(fixed, rows.next_obs).max(1))
    return ((Q.apply(params, rows.obs)[jnp.arange(len(goal)), rows.action] - goal) ** 2).mean()


def learn(key, steps, replay, target, batch=64, period=100):
    """Return, after each step, the return of the last whole episode and the value of the state, `[steps]`."""

    def step(loop, inputs):
        params, copy, adam, vector, memory, last = loop
        time, (key_env, key_chance, key_batch) = inputs[0], jax.random.split(inputs[1], 3)
        random = jax.random.uniform(key_chance) < jnp.maximum(1 - time / (0.2 * steps), 0.05)

        def policy(carry, obs, key):
            greedy = Q.apply(params, obs).argmax(1)
            return jnp.where(random, uniform_action(ENV.action_space, key, 1), greedy), carry, ()

        vector, _, seen, episodes = unroll(ENV, policy, vector, (), key_env, 1)
        memory = jax.tree.map(lambda kept, new: kept.at[time].set(new[0, 0]), memory, seen)
        rows = jax.random.randint(key_batch, (batch,), 0, time + 1) if replay else time[None]
        rows = jax.tree.map(lambda leaf: leaf[rows], memory)
        change, adam = ADAM.update(jax.grad(loss)(params, copy if target else params, rows), adam)
        params = optax.apply_updates(params, change)
        copy = jax.tree.map(lambda new, old: jnp.where(time % period == 0, new, old), params, copy)
        last = jnp.where(episodes.ended[0, 0], episodes.returns[0, 0], last)
        return (params, copy, adam, vector, memory, last), (last, Q.apply(params, vector.obs).max())

    key_init, key_env, key_steps = jax.random.split(key, 3)
    params, vector = Q.init(key_init, jnp.zeros((1, 4))), start(ENV, key_env, 1)
    still = lambda carry, obs, key: (jnp.zeros(1, jnp.int32), carry, ())
    _, _, first, _ = unroll(ENV, still, vector, (), key_env, steps)  # only the shapes are taken
    memory = jax.tree.map(lambda leaf: jnp.zeros_like(leaf[:, 0]), first)
    loop = params, params, ADAM.init(params), vector, memory, jnp.zeros(())
    return jax.lax.scan(step, loop, (jnp.arange(steps), jax.random.split(key_steps, steps)))[1]


if __name__ == "__main__":
    keys = jax.random.split(jax.random.key(0), 5)
    print("means of 5 seeds by quarters of 40,000 steps:    return                value of the state")
    for name, *parts in (("naive", 0, 0), ("with replay", 1, 0), ("and a target network", 1, 1)):
        run = jax.jit(jax.vmap(lambda key, parts=parts: learn(key, 40_000, *parts)))
        quarters = (x.reshape(5, 4, -1).mean((0, 2)) for x in run(keys))
        print(f"{name:44}" + " | ".join("".join(f"{x:6.0f}" for x in of) for of in quarters))
