"""Q-learning on continuous actions: the best of sampled ones. `python docs/examples/sampled_max_q.py`.

`max_a Q(s, a)` needs all actions; where they are real numbers, the best of some random ones stands in, drawn
anew each time. That is enough where an action has one dimension, as in pendulum, and hopeless with many:
DDPG, TD3 and SAC learn the maximum as a second network, the actor, instead.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

import purerl
from purerl.evaluate import Policy, evaluate
from purerl.rollout import env_action, start, unroll

ENV, GAMMA, TAU, ADAM = purerl.make_env("pendulum"), 0.95, 0.01, optax.adam(1e-3)
Q = nn.Sequential([nn.Dense(64), nn.relu, nn.Dense(64), nn.relu, nn.Dense(1)])


def value(params, obs, action):
    """Return `Q(s, a)`, `obs [..., 3], action [..., 1] -> [...]`."""
    return Q.apply(params, jnp.concatenate([obs, action], -1))[..., 0]


def best(params, obs, key, samples):
    """Return the best of random actions in [-1, 1] and its value, `[B, 1]` and `[B]`."""
    actions = jax.random.uniform(key, (samples, len(obs), 1), minval=-1, maxval=1)
    found = value(params, jnp.broadcast_to(obs, (samples, *obs.shape)), actions)
    return actions[found.argmax(0), jnp.arange(len(obs))], found.max(0)


def learn(key, steps=15_000, batch=64, epsilon=0.1, every=1_000):
    """Return the mean return of 10 episodes of the greedy policy after each `every` steps."""

    def loss(params, target, rows, key):
        goal = rows.reward + GAMMA * jnp.where(rows.terminated, 0, best(target, rows.next_obs, key, 32)[1])
        return ((value(params, rows.obs, rows.action) - goal) ** 2).mean()

    def step(loop, inputs):
        params, target, adam, vector, memory = loop
        time, (key_env, key_chance, key_rows, key_best) = inputs[0], jax.random.split(inputs[1], 4)

        def policy(carry, obs, key):
            explore = jax.random.uniform(key_chance) < epsilon
            return jnp.where(explore, best(params, obs, key, 1)[0], best(params, obs, key, 32)[0]), carry, ()

        vector, _, seen, _ = unroll(ENV, policy, vector, (), key_env, 1)
        memory = jax.tree.map(lambda kept, new: kept.at[time].set(new[0, 0]), memory, seen)
        rows = jax.random.randint(key_rows, (batch,), 0, time + 1)
        rows = jax.tree.map(lambda leaf: leaf[rows], memory)
        change, adam = ADAM.update(jax.grad(loss)(params, target, rows, key_best), adam)
        params = optax.apply_updates(params, change)
        target = optax.incremental_update(params, target, TAU)
        return (params, target, adam, vector, memory), None

    def stage(loop, inputs):
        loop, _ = jax.lax.scan(step, loop, inputs)
        greedy = lambda carry, obs, key: (env_action(ENV.action_space, best(loop[0], obs, key, 32)[0]), carry)
        return loop, evaluate(ENV, Policy(lambda n: (), greedy), jax.random.fold_in(inputs[1][0], 1), 10)[
            0
        ].mean()

    key_init, key_env, key_steps = jax.random.split(key, 3)
    params, vector = Q.init(key_init, jnp.zeros((1, 4))), start(ENV, key_env, 1)
    still = lambda carry, obs, key: (jnp.zeros((1, 1)), carry, ())
    _, _, first, _ = unroll(ENV, still, vector, (), key_env, steps)  # only the shapes are taken
    memory = jax.tree.map(lambda leaf: jnp.zeros_like(leaf[:, 0]), first)
    inputs = jnp.arange(steps), jax.random.split(key_steps, steps)
    inputs = jax.tree.map(lambda leaf: leaf.reshape(steps // every, every), inputs)
    return jax.lax.scan(stage, (params, params, ADAM.init(params), vector, memory), inputs)[1]


if __name__ == "__main__":
    returns = jax.jit(jax.vmap(learn))(jax.random.split(jax.random.key(0), 3))
    for i in range(2, 15, 3):
        print(
            f"{1_000 * (i + 1):6,} steps: mean return of 3 seeds "
            + ", ".join(f"{r:5.0f}" for r in returns[:, i])
        )
