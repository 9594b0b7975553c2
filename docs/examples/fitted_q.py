"""Fitted Q-iteration: learn from what a random policy met, without a further step in the environment.

Run as `python docs/examples/fitted_q.py`. Each iteration fits `Q(s, a)` to the targets
`r + gamma (1 - terminated) max Q(s', .)` of all transitions at once (Ernst, Geurts and Wehenkel 2005). The
fit is a linear regression on products of two numbers of the observation: a closed form, nothing to tune.
"""

import jax
import jax.numpy as jnp

import purerl
from purerl.evaluate import Policy, evaluate
from purerl.rollout import start, uniform_action, unroll

GAMMA, RIDGE = 0.99, 1e-5
ENV = purerl.make_env("cartpole")


def random_transitions(key, num_envs=64, steps=400):
    """Return what a uniform policy met, `[num_envs * steps]`."""
    key_start, key_steps = jax.random.split(key)
    policy = lambda carry, obs, key: (uniform_action(ENV.action_space, key, num_envs), carry, ())
    _, _, seen, _ = unroll(ENV, policy, start(ENV, key_start, num_envs), (), key_steps, steps)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), seen)


def products(obs):
    """Return 1, each number of `obs [B, O]` and the products of each two, `[B, (O + 1) (O + 2) / 2]`."""
    numbers = jnp.concatenate([jnp.ones((len(obs), 1)), obs], axis=1)
    left, right = jnp.triu_indices(numbers.shape[1])
    return numbers[:, left] * numbers[:, right]


def fitted_q_iteration(key, iterations=200):
    """Return the mean return of the greedy policy after each iteration, `[iterations]`."""
    key_data, key_test = jax.random.split(key)
    data = random_transitions(key_data)
    features = lambda obs: products(obs / data.obs.std(0))
    now, then = features(data.obs), features(data.next_obs)

    def fit(q_target, action):
        """Least squares over the rows of one action: `(F^T F + ridge) w = F^T y`."""
        rows = now * (data.action == action)[:, None] / len(now)
        return jnp.linalg.solve(rows.T @ now + RIDGE * jnp.eye(now.shape[1]), rows.T @ q_target)

    def greedy_return(weights):
        act = lambda carry, obs, key: ((features(obs) @ weights.T).argmax(1), carry)
        return evaluate(ENV, Policy(lambda n: (), act), key_test, 20)[0].mean()

    def iterate(weights, _):
        best_next = (then @ weights.T).max(1)
        target = data.reward + GAMMA * jnp.where(data.terminated, 0, best_next)
        weights = jax.vmap(fit, (None, 0))(target, jnp.arange(2))
        return weights, greedy_return(weights)

    return jax.lax.scan(iterate, jnp.zeros((2, now.shape[1])), None, iterations)[1]


if __name__ == "__main__":
    returns = jax.jit(fitted_q_iteration)(jax.random.key(0))
    for i in range(0, 200, 20):
        print(f"iterations {i + 1:3}-{i + 20:3}: mean return {returns[i : i + 20].mean():5.0f}")
