"""Bandits: what exploration costs, and what it finds. Run as `python docs/examples/bandit.py`.

Each of 1,000 bandits has 10 arms with means from a normal distribution, and pulls give the mean plus normal
noise. An agent knows only the running mean of what each arm gave. (Sutton and Barto 2018, chapter 2.)
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

ARMS = 10


class Arms(NamedTuple):
    """What an agent knows: `[ARMS]` each."""

    pulls: jax.Array
    mean: jax.Array


def greedy(arms, key, time):
    """Pull what was best so far: the first lucky arm is kept for ever."""
    return arms.mean.argmax()


def epsilon_greedy(arms, key, time):
    """The same, but one pull in ten is random, for ever."""
    key_chance, key_arm = jax.random.split(key)
    random = jax.random.randint(key_arm, (), 0, ARMS)
    return jnp.where(jax.random.uniform(key_chance) < 0.1, random, arms.mean.argmax())


def upper_confidence(arms, key, time):
    """Pull the arm that could be the best: each has a bonus that shrinks with its pulls (UCB1)."""
    bonus = jnp.sqrt(2 * jnp.log(time + 1) / jnp.maximum(arms.pulls, 1))
    return jnp.where(arms.pulls == 0, jnp.inf, arms.mean + bonus).argmax()


def play(choose, key, steps):
    """Play one bandit; return how far the mean of each pulled arm is from the best mean, `[steps]`."""
    key_means, key_steps = jax.random.split(key)
    means = jax.random.normal(key_means, (ARMS,))

    def pull(arms, inputs):
        time, key = inputs
        key_choice, key_reward = jax.random.split(key)
        arm = choose(arms, key_choice, time)
        reward = means[arm] + jax.random.normal(key_reward)
        pulls = arms.pulls.at[arm].add(1)
        mean = arms.mean.at[arm].add((reward - arms.mean[arm]) / pulls[arm])
        return Arms(pulls, mean), means.max() - means[arm]

    inputs = jnp.arange(steps), jax.random.split(key_steps, steps)
    return jax.lax.scan(pull, Arms(jnp.zeros(ARMS), jnp.zeros(ARMS)), inputs)[1]


def compare(steps=1_000, bandits=1_000):
    """Return the regret of each pull, averaged over the same bandits, `[steps]` by the agent's name."""
    keys = jax.random.split(jax.random.key(0), bandits)
    agents = (greedy, epsilon_greedy, upper_confidence)
    run = lambda agent: jax.jit(jax.vmap(lambda key: play(agent, key, steps)))(keys).mean(0)
    return {agent.__name__: run(agent) for agent in agents}


if __name__ == "__main__":
    print("mean regret per pull      pulls 1-100   101-500   501-1,000")
    for name, regret in compare().items():
        parts = regret[:100].mean(), regret[100:500].mean(), regret[500:].mean()
        print(f"{name:24}" + "".join(f"{part:12.3f}" for part in parts))
