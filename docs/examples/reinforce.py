"""REINFORCE from scratch: climb the gradient of the expected return. `python docs/examples/reinforce.py`.

`grad E[R] = E[sum_t grad log pi(a_t | s_t) (R_t - b)]`, where `R_t` is the return from step t on (Williams
1992). Any `b` that does not depend on the action leaves the mean as it is; the right one shrinks its spread.
"""

import jax
import jax.numpy as jnp
import optax

import purerl
from purerl.rollout import start, unroll

ENV, GAMMA, EPISODES, STEPS = purerl.make_env("cartpole"), 0.99, 16, 500
ADAM = optax.adam(3e-3)


def init(key, sizes=(4, 32, 2)):
    """Return the weights of a small network."""
    keys = jax.random.split(key, len(sizes) - 1)
    shapes = zip(keys, sizes[:-1], sizes[1:], strict=True)
    return [(jax.random.normal(k, (i, o)) / jnp.sqrt(i), jnp.zeros(o)) for k, i, o in shapes]


def log_policy(params, obs):
    """Return the log-probabilities of all actions, `obs [..., 4] -> [..., 2]`."""
    (w, b), (w_out, b_out) = params
    return jax.nn.log_softmax(jnp.tanh(obs @ w + b) @ w_out + b_out)


def first_episodes(params, key):
    """Play episodes side by side; return `(obs, action, reward, alive)`, each `[STEPS, EPISODES, ...]`."""
    key_start, key_steps = jax.random.split(key)
    policy = lambda carry, obs, key: (jax.random.categorical(key, log_policy(params, obs)), carry, ())
    _, _, seen, episodes = unroll(ENV, policy, start(ENV, key_start, EPISODES), (), key_steps, STEPS)
    alive = jnp.cumsum(episodes.ended, axis=0) - episodes.ended == 0
    return seen.obs, seen.action, seen.reward, alive


def returns_to_go(reward, alive):
    """Return `R_t = r_t + gamma R_{t+1}` for each step, `[STEPS, EPISODES]`."""
    step = lambda later, now: (now[0] * now[1] + GAMMA * later,) * 2
    return jax.lax.scan(step, jnp.zeros(EPISODES), (reward, alive), reverse=True)[1]


def learn(key, iterations=150, baseline=True):
    """Return the mean return of the episodes of each iteration, `[iterations]`."""

    def loss(params, obs, action, gain, alive):
        log_prob = jnp.take_along_axis(log_policy(params, obs), action[..., None], axis=-1)[..., 0]
        return -(log_prob * gain * alive).sum() / EPISODES

    def iterate(loop, key):
        params, adam = loop
        obs, action, reward, alive = first_episodes(params, key)
        gain = returns_to_go(reward, alive)
        if baseline:
            gain = gain - (gain * alive).sum() / alive.sum()
        gradient = jax.grad(loss)(params, obs, action, gain, alive)
        change, adam = ADAM.update(gradient, adam)
        return (optax.apply_updates(params, change), adam), (reward * alive).sum() / EPISODES

    key_init, key_steps = jax.random.split(key)
    params = init(key_init)
    return jax.lax.scan(iterate, (params, ADAM.init(params)), jax.random.split(key_steps, iterations))[1]


if __name__ == "__main__":
    keys = jax.random.split(jax.random.key(0), 5)
    for baseline in (False, True):
        runs = jax.jit(jax.vmap(lambda key, b=baseline: learn(key, baseline=b)))(keys)
        print(f"{'mean return as baseline' if baseline else 'no baseline':24}", end="")
        parts = (runs[:, i : i + 30].mean() for i in range(0, 150, 30))
        print("".join(f"{part:7.0f}" for part in parts), "(5 seeds, 30 iterations each)")
