"""Critics of soft methods, scalar and categorical: targets, losses and errors, row by row."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plain_sac import log_softmax, projected
from tiny import tiny

import purerl
from purerl import config
from purerl.algos import critics
from purerl.algos.soft_policies import Actions
from purerl.config import ConfigError
from purerl.replay.ring import Batch
from purerl.types import Transition

ROWS, ALPHA = 60, 0.4
DRAW = np.random.default_rng(0)
REWARD, LOG_PROB = DRAW.normal(size=(2, ROWS)).astype(np.float32)
DISCOUNT = DRAW.choice([0.0, 0.9, 0.729], ROWS).astype(np.float32)
NEXT = {
    name: DRAW.normal(size=(2, ROWS, *shape)).astype(np.float32)
    for name, shape in {"scalar": (), "categorical": (11,), "discrete": (3,)}.items()
}
OUT, ATOMS = DRAW.normal(size=(2, ROWS, 11)).astype(np.float32), np.linspace(-2, 2, 11)


def batch_of(reward, discount):
    return Batch(Transition((), (), reward, (), (), ()), (), (), discount)


BATCH = batch_of(jnp.asarray(REWARD), jnp.asarray(DISCOUNT))
DRAWN = Actions(None, jnp.ones((ROWS, 1)), jnp.asarray(LOG_PROB)[:, None])
COLUMN = lambda value: value[:, None]


def test_the_target_of_scalars_has_the_smaller_value_and_the_entropy():
    """The value ahead counts for nothing behind an end."""
    found = critics.scalar().target(NEXT["scalar"], BATCH, DRAWN, ALPHA, COLUMN)
    expected = [
        r + g * (min(q) - 0.4 * p)
        for r, g, q, p in zip(REWARD, DISCOUNT, NEXT["scalar"].T, LOG_PROB, strict=True)
    ]
    np.testing.assert_allclose(found, expected, 1e-5, 1e-6)
    np.testing.assert_array_equal(found[DISCOUNT == 0], REWARD[DISCOUNT == 0])


def test_the_target_of_discrete_actions_is_an_expectation():
    """Over the smaller value of each action, and not over the critic with the smaller expectation."""
    logits = np.random.default_rng(1).normal(size=(ROWS, 3))
    log_p = log_softmax(logits)
    ahead = Actions(None, jnp.float32(np.exp(log_p)), jnp.float32(log_p))
    found = critics.scalar().target(NEXT["discrete"], BATCH, ahead, ALPHA, lambda value: value)
    expected = np.zeros(ROWS)
    for b in range(ROWS):
        value = sum(
            np.exp(log_p[b, k]) * (min(NEXT["discrete"][:, b, k]) - 0.4 * log_p[b, k]) for k in range(3)
        )
        expected[b] = REWARD[b] + DISCOUNT[b] * value
    np.testing.assert_allclose(found, expected, 1e-5, 1e-6)


def test_the_target_of_distributions_is_that_of_the_smaller_mean():
    """Moved to `r + discount (z - alpha log pi)`: to the reward alone behind an end."""
    critic = critics.categorical(jnp.float32(ATOMS))
    found = np.asarray(
        jax.jit(critic.target, static_argnums=4)(NEXT["categorical"], BATCH, DRAWN, ALPHA, COLUMN)
    )
    probs = np.exp(log_softmax(np.float64(NEXT["categorical"])))
    smaller = (probs @ ATOMS).argmin(0)
    assert 0 < smaller.sum() < ROWS
    for b in range(ROWS):
        places = REWARD[b] + DISCOUNT[b] * (ATOMS - 0.4 * LOG_PROB[b])
        np.testing.assert_allclose(found[b], projected(probs[smaller[b], b], places, ATOMS), 1e-4, 1e-5)
    np.testing.assert_allclose(found.sum(-1), 1, 1e-5)


def test_losses_and_errors():
    """Of each critic and row; the error that a priority follows is the larger of both."""
    target = np.random.default_rng(2).normal(size=ROWS).astype(np.float32)
    loss, error = critics.scalar().loss(jnp.asarray(OUT[..., 0]), jnp.asarray(target))
    np.testing.assert_allclose(loss, (OUT[..., 0] - target) ** 2 / 2, 1e-5, 1e-6)
    np.testing.assert_allclose(error, np.abs(OUT[..., 0] - target).max(0), 1e-5)
    probs = np.exp(log_softmax(np.float64(OUT[0])))
    loss, error = critics.categorical(jnp.float32(ATOMS)).loss(jnp.asarray(OUT), jnp.float32(probs))
    expected = -(probs * log_softmax(np.float64(OUT))).sum(-1)
    np.testing.assert_allclose(loss, expected, 1e-5)
    np.testing.assert_allclose(error, expected.max(0), 1e-5)


def test_values_are_means():
    value = critics.categorical(jnp.float32(ATOMS)).value(jnp.asarray(OUT))
    np.testing.assert_allclose(value, np.exp(log_softmax(np.float64(OUT))) @ ATOMS, 1e-4, 1e-5)
    assert critics.scalar().value(OUT) is OUT


# Settings


@pytest.mark.parametrize(
    ("env", "fields", "field", "message"),
    [
        ("pendulum", {"v_min": 5.0}, "v_min", "v_min = 5.0: expected a number below v_max = 5.0"),
        ("pendulum", {"v_max": -6}, "v_min", "v_min = -5.0: expected a number below v_max = -6"),
        ("cartpole", {}, "critic", "critic = 'categorical': expected scalar for discrete actions"),
    ],
)
def test_what_a_categorical_critic_cannot_be_is_refused(env, fields, field, message):
    cfg = tiny("sac", env, critic="categorical", **fields)
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        purerl.make_algorithm(cfg)
    assert error.value.field == field


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        ({"v_min": -1.0}, "v_min", "v_min = -1.0: expected None: with critic = scalar it has no effect"),
        ({"num_atoms": 51}, "num_atoms", "expected 101: with critic = scalar it has no effect"),
        ({"priority_beta": 0.5}, "priority_beta", "with prioritised = False it has no effect"),
        ({"ent_coef": 0.1, "init_ent_coef": 0.2}, "init_ent_coef", "with ent_coef = 0.1 it has no effect"),
        (
            {"target_entropy": -1.0, "target_entropy_factor": 2.0},
            "target_entropy_factor",
            "with target_entropy = -1.0 it has no effect",
        ),
    ],
)
def test_a_field_without_effect_is_refused(fields, field, message):
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        purerl.make_algorithm(tiny("sac", "pendulum", **fields))
    assert error.value.field == field


def test_a_batch_of_one_row_has_no_statistics():
    """Its normalised inputs would all be 0."""
    with pytest.raises(ConfigError, match="batch_size = 1: expected at least 2 rows for norm = batch"):
        purerl.make_algorithm(tiny("sac", "pendulum", norm="batch", batch_size=1))
    purerl.make_algorithm(tiny("sac", "pendulum", norm="layer", batch_size=1))


@pytest.mark.parametrize(
    "fields", [{"num_atoms": 1}, {"num_atoms": 10_002}, {"v_min": np.nan}, {"norm": "group"}]
)
def test_fields_have_bounds(fields):
    with pytest.raises(ConfigError):
        tiny("sac", "pendulum", **fields)


def test_ends_in_the_wrong_order_are_refused_in_a_sweep():
    cfg = tiny("sac", "pendulum", critic="categorical", v_min=-5.0)
    with pytest.raises(ConfigError, match=r"v_min = 6.0: expected a number below v_max = 5.0"):
        purerl.run(cfg, 1, sweep={"v_min": [-5.0, 6.0]})


def test_values_of_a_traced_member_with_such_ends_are_no_numbers():
    """So that the gradient of its actor is none, and it diverges; the others learn."""
    cfg = tiny("sac", "pendulum", critic="categorical", num_atoms=11, v_min=-5.0)

    def value(v_min):
        return critics.make_critic(config.replace(cfg, {"v_min": v_min})).value(jnp.asarray(OUT))

    values = jax.vmap(value)(jnp.array([-5.0, 4.9, 5.0, 6.0]))
    assert jnp.isnan(values).all((1, 2)).tolist() == [False, False, True, True]
    assert jnp.isfinite(values[:2]).all()


MUTANTS = {
    "scalar: the larger target": (
        "algos/critics.py",
        "values(next_out.min(0))",
        "values(next_out.max(0))",
        "test_the_target_of_scalars_has_the_smaller_value_and_the_entropy",
    ),
    "scalar: the first critic alone": (
        "algos/critics.py",
        "values(next_out.min(0))",
        "values(next_out[0])",
        "test_the_target_of_discrete_actions_is_an_expectation",
    ),
    "scalar: no half": (
        "algos/critics.py",
        "0.5 * jnp.square(error)",
        "jnp.square(error)",
        "test_losses_and_errors",
    ),
    "scalar: an error has a sign": (
        "algos/critics.py",
        "jnp.abs(error).max(0)",
        "error.max(0)",
        "test_losses_and_errors",
    ),
    "categorical: the larger mean": (
        "algos/critics.py",
        "mean[0] <= mean[1]",
        "mean[0] > mean[1]",
        "test_the_target_of_distributions_is_that_of_the_smaller_mean",
    ),
    "categorical: one critic for the whole batch": (
        "algos/critics.py",
        "(mean[0] <= mean[1])[:, None]",
        "(mean[0].sum() <= mean[1].sum())",
        "test_the_target_of_distributions_is_that_of_the_smaller_mean",
    ),
    "categorical: rewards are discounted": (
        "algos/critics.py",
        "batch.rows.reward[:, None] + batch.discount[:, None] * moved",
        "batch.discount[:, None] * (batch.rows.reward[:, None] + moved)",
        "test_the_target_of_distributions_is_that_of_the_smaller_mean",
    ),
    "categorical: logits for probabilities": (
        "algos/critics.py",
        "distributional.project(probs, moved, support)",
        "distributional.project(next_out[0], moved, support)",
        "test_the_target_of_distributions_is_that_of_the_smaller_mean",
    ),
    "categorical: the smaller error": (
        "algos/critics.py",
        "return rows, rows.max(0)",
        "return rows, rows.min(0)",
        "test_losses_and_errors",
    ),
    "ends of any order": (
        "algos/critics.py",
        "if not low < high:",
        "if not low <= high:",
        "test_what_a_categorical_critic_cannot_be_is_refused",
    ),
    "statistics of one row": (
        "algos/critics.py",
        "cfg.batch_size < 2",
        "False",
        "test_a_batch_of_one_row_has_no_statistics",
    ),
    "distributions of discrete actions": (
        "algos/critics.py",
        "if isinstance(space, spaces.Discrete):",
        "if False:",
        "test_what_a_categorical_critic_cannot_be_is_refused",
    ),
    "scalars have atoms": (
        "algos/critics.py",
        'refuse_unused(cfg, "critic = scalar", "num_atoms", "v_min", "v_max")',
        "pass",
        "test_a_field_without_effect_is_refused",
    ),
    "atoms in the wrong order": (
        "ops/distributional.py",
        "jnp.where(low < high, high - low, jnp.nan)",
        "high - low",
        "test_values_of_a_traced_member_with_such_ends_are_no_numbers",
    ),
}
