"""Hill climbing and the cross-entropy method: search for a policy without any gradient.

Run as `python docs/examples/gradient_free.py`. A linear policy of acrobot has 21 weights: few enough to
guess, try, and keep what is better. Hill climbing moves one guess; the cross-entropy method (Rubinstein
1999) moves a normal distribution of guesses to the best of them. Neither knows that an episode has steps.
"""

import jax
import jax.numpy as jnp

import purerl
from purerl.evaluate import Policy, evaluate

ENV, WEIGHTS = purerl.make_env("acrobot"), (7, 3)


def score(weights, key, episodes=4):
    """Return the mean return of the linear policy `argmax [obs, 1] weights`."""
    act = lambda carry, obs, key: ((obs @ weights[:-1] + weights[-1]).argmax(-1), carry)
    return evaluate(ENV, Policy(lambda n: (), act), key, episodes)[0].mean()


def hill_climbing(key, tries=600, spread=0.5):
    """Return the score of the weights held after each try, `[tries]`."""

    def attempt(held, key):
        weights, best = held
        key_step, key_score = jax.random.split(key)
        other = weights + spread * jax.random.normal(key_step, WEIGHTS)
        value = score(other, key_score)
        better = value >= best
        held = jnp.where(better, other, weights), jnp.where(better, value, best)
        return held, held[1]

    held = jnp.zeros(WEIGHTS), jnp.float32(-jnp.inf)
    return jax.lax.scan(attempt, held, jax.random.split(key, tries))[1]


def cross_entropy_method(key, generations=12, guesses=50, elite=10, floor=0.1):
    """Return the mean score of the guesses of each generation, `[generations]`."""

    def generation(normal, key):
        mean, deviation = normal
        key_guess, key_score = jax.random.split(key)
        weights = mean + deviation * jax.random.normal(key_guess, (guesses, *WEIGHTS))
        scores = jax.vmap(score)(weights, jax.random.split(key_score, guesses))
        best = weights[jnp.argsort(-scores)[:elite]]
        return (best.mean(0), best.std(0) + floor), scores.mean()

    normal = jnp.zeros(WEIGHTS), jnp.ones(WEIGHTS)
    return jax.lax.scan(generation, normal, jax.random.split(key, generations))[1]


if __name__ == "__main__":
    keys = jax.random.split(jax.random.key(0), 5)
    climbed = jax.jit(jax.vmap(hill_climbing))(keys).mean(0)
    evolved = jax.jit(jax.vmap(cross_entropy_method))(keys).mean(0)
    print("policies tried    hill climbing, its best    cross-entropy method, mean   (5 seeds)")
    for i in range(2, 12, 3):
        print(f"{50 * (i + 1):14}{climbed[50 * (i + 1) - 1]:27.0f}{evolved[i]:31.0f}")
