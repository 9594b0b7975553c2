"""The programs of docs/examples show what they say, in a short form."""

import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
KEYS = jax.random.split(jax.random.key(7), 3)
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))


def load(name):
    """Return the names of a program, without its main part."""
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))


def seeds(function):
    """Return the results of a few seeds."""
    return jax.jit(jax.vmap(function))(KEYS)


def test_every_program_is_short_tested_and_in_the_list():
    listed = (EXAMPLES / "README.md").read_text()
    for name in NAMES:
        assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) <= 80
        assert f"test_{name}" in globals() and f"({name}.py)" in listed and f"**{name}.py.**" in listed


def test_bandit():
    """The more an agent explores with sense, the less its later pulls lose."""
    late = {name: regret[300:].mean() for name, regret in load("bandit")["compare"](600, 300).items()}
    assert late["upper_confidence"] < 0.6 * late["epsilon_greedy"] < 0.4 * late["greedy"]


def test_tabular_q():
    """Q-learning finds the best values along the best path; SARSA falls less often."""
    program = load("tabular_q")
    learn, found = jax.jit(program["learn"], static_argnums=0), {}
    for method in ("Q-learning", "SARSA"):
        q, totals, ended = learn(method, KEYS[0], epsilon=0.1)
        found[method] = q, np.asarray(totals)[np.asarray(ended)][-300:].mean()
    q, late = found["Q-learning"]
    best = program["best_values"](*program["tables"]())
    along = np.array([36, *range(24, 36)])
    np.testing.assert_allclose(q[along].max(1), best[along].max(1), atol=1e-3)
    assert best[36].max() == -13 and program["picture"](q).splitlines()[2] == ">>>>>>>>>>>v"
    assert found["SARSA"][1] > late + 10 and found["SARSA"][0][36].max() < -14


def test_fitted_q():
    """From random episodes of some 20 steps to 10 times as many."""
    returns = seeds(lambda key: load("fitted_q")["fitted_q_iteration"](key, 40))
    assert (returns[:, 30:].mean(1) > 200).all()


def test_reinforce():
    program = load("reinforce")
    reward = jnp.tile(jnp.arange(1.0, 4.0)[:, None], 16)
    alive = jnp.array([1, 1, 0])[:, None] * jnp.ones((3, 16))
    gain = program["returns_to_go"](reward, alive)
    np.testing.assert_allclose(gain[:, 5], [1 + 0.99 * 2, 2, 0], rtol=1e-6)
    returns = seeds(lambda key: program["learn"](key, 60))
    assert (returns[:, -10:].mean(1) > 2.5 * returns[:, :3].mean(1)).all()


def test_gradient_free():
    program = load("gradient_free")
    climbed = seeds(lambda key: program["hill_climbing"](key, 100))
    assert (jnp.diff(climbed, axis=1) >= 0).all() and climbed[:, -1].mean() > -130
    evolved = seeds(lambda key: program["cross_entropy_method"](key, 8))
    assert evolved[:, 0].mean() < -350 and evolved[:, -1].mean() > -200


@pytest.mark.slow
def test_deep_q():
    """Replay learns sooner; without a target network its values pass what is possible."""
    learn = load("deep_q")["learn"]
    run = lambda *parts: seeds(lambda key: learn(key, 10_000, *parts))
    (naive, _), (replay, without), (both, value) = run(0, 0), run(1, 0), run(1, 1)
    assert replay.mean() > 2 * naive.mean() and both.mean() > 2 * naive.mean()
    assert without.max() > 2 * value.max() > 200


@pytest.mark.slow
def test_sampled_max_q():
    returns = seeds(lambda key: load("sampled_max_q")["learn"](key, 6_000))
    assert returns[:, -2:].max(1).mean() > -400
