"""Tabular Q-learning beside SARSA, on the cliff. Run as `python docs/examples/tabular_q.py`.

Gymnasium's CliffWalking: each step costs 1, a step off the cliff 100. Q-learning learns the values of the
best policy, `Q(s, a) += alpha (r + max Q(s', .) - Q(s, a))`, which walks along the edge; SARSA those of the
policy that it follows, exploration included, and keeps away from it. (Sutton and Barto 2018, 6.4 and 6.5.)
"""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

ARROWS = "^>v<"
START, ROWS, COLUMNS = 36, 4, 12


def tables():
    """Return what each action does in each state: next state, reward, and whether it ends, `[S, A]` each."""
    moves = gymnasium.make("CliffWalking-v1").unwrapped.P  # deterministic: one outcome for each
    outcomes = [[moves[s][a][0][1:] for a in range(4)] for s in range(len(moves))]
    return tuple(jnp.array([[o[i] for o in row] for row in outcomes]) for i in range(3))


def best_values(goes, reward, ends, sweeps=100):
    """Return the values `[S, A]` that Q-learning should find, by value iteration: the model is known here."""
    step = lambda _, q: reward + jnp.where(ends, 0, q.max(1)[goes])
    return jax.lax.fori_loop(0, sweeps, step, jnp.zeros(goes.shape))


def learn(method, key, steps=100_000, alpha=0.1, epsilon=0.1):
    """Follow an epsilon-greedy policy; return values `[S, A]`, each step's return so far and end."""
    goes, reward, ends = tables()

    def choose(q, state, key):
        key_chance, key_action = jax.random.split(key)
        random = jax.random.randint(key_action, (), 0, 4)
        return jnp.where(jax.random.uniform(key_chance) < epsilon, random, q[state].argmax())

    def step(loop, key):
        q, state, action, total = loop
        then, r, end = goes[state, action], reward[state, action], ends[state, action]
        next_action = choose(q, then, key)
        value = q[then].max() if method == "Q-learning" else q[then, next_action]
        q = q.at[state, action].add(alpha * (r + jnp.where(end, 0, value) - q[state, action]))
        total = total + r
        begin = (START, choose(q, START, jax.random.fold_in(key, 1)), jnp.zeros(()))
        loop = jax.tree.map(lambda new, old: jnp.where(end, new, old), begin, (then, next_action, total))
        return (q, *loop), (end, total)

    loop = jnp.zeros(goes.shape), jnp.asarray(START), jnp.asarray(0), jnp.zeros(())
    (q, *_), (ended, totals) = jax.lax.scan(step, loop, jax.random.split(key, steps))
    return q, totals, ended


def picture(q):
    """Return the greedy action of every cell, the cliff as dots and the goal as G."""
    cells = [ARROWS[a] for a in np.asarray(q.argmax(1))]
    cells[START + 1 : START + 11], cells[START + 11] = "." * 10, "G"
    return "\n".join("".join(cells[row * COLUMNS : (row + 1) * COLUMNS]) for row in range(ROWS))


if __name__ == "__main__":
    best = best_values(*tables())
    for method in ("Q-learning", "SARSA"):
        q, totals, ended = jax.jit(learn, static_argnums=0)(method, jax.random.key(0))
        late = np.asarray(totals)[np.asarray(ended)][-500:].mean()
        print(f"{method}: last 500 episodes {late:.1f}; value of the start {q[START].max():.2f}", end=" ")
        print(f"(best policy: {best[START].max():.2f})\n{picture(q)}\n")
