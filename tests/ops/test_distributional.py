"""Distributions over atoms against plain loops in float64 and against published numbers."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from purerl.ops import distributional
from purerl.ops.distributional import atoms, cross_entropy

pytestmark = pytest.mark.usefixtures("strict_ranks")
FORMS = {"on a CPU": "cpu", "elsewhere": "default"}


@pytest.fixture(params=FORMS.values(), ids=FORMS)
def project(request, monkeypatch):
    """`project` in the form for a CPU, and in the one for all other devices."""
    choose = lambda *args, **forms: forms[request.param](*args)
    monkeypatch.setattr(jax.lax, "platform_dependent", choose)
    return jax.jit(partial(distributional.project))  # another function for each form: traces are cached


def plain(probs, places, support):
    """Share out the mass of one atom after the other, `[R, K], [R, K], [M] -> [R, M]`."""
    found = np.zeros((len(probs), len(support)))
    for row, (masses, values) in enumerate(zip(probs, places, strict=True)):
        for mass, value in zip(masses, np.clip(values, support[0], support[-1]), strict=True):
            for i in range(len(support) - 1):
                low, high = support[i], support[i + 1]
                if low <= value <= high:
                    found[row, i] += mass * (high - value) / (high - low)
                    found[row, i + 1] += mass * (value - low) / (high - low)
                    break
    return found


def distributions(rows, count, seed=0):
    logits = 2 * np.random.default_rng(seed).normal(size=(rows, count))
    return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)


def test_projection_equals_a_loop(project):
    """Places in any order, many beyond the ends, and another number of atoms; leading axes of any kind."""
    probs = distributions(300, 7)
    places = np.random.default_rng(1).normal(0.5, 3, probs.shape)
    support = np.linspace(-2, 3, 11)
    expected = plain(probs, places, support)
    for lead in ((300,), (3, 1, 100)):
        rows = (jnp.float32(x).reshape(*lead, 7) for x in (probs, places))
        found = project(*rows, jnp.float32(support))
        assert found.shape == (*lead, 11) and found.dtype == jnp.float32
        np.testing.assert_allclose(found.reshape(300, 11), expected, 1e-5, 2e-6)


def test_no_mass_is_lost(project):
    """Places on atoms, all at one, at the ends, beyond them by however much, and one with all of the mass."""
    support = np.linspace(-5, 5, 101)
    probs, one = distributions(6, 101, 2), np.eye(101)[[0, 40, 100]]
    places = np.stack(
        [support, 0 * support, 0 * support + 0.03, 0 * support + 5, 1e30 * support, support[::-1]]
    )
    probs, places = np.concatenate([probs, one]), np.concatenate([places, 0.99 * support + [[0], [1], [9e9]]])
    found = np.float64(project(*map(jnp.float32, (probs, places, support))))
    np.testing.assert_allclose(found.sum(-1), 1, 1e-5)
    assert found.min() >= 0
    np.testing.assert_allclose(found[0], probs[0], 1e-3, 1e-5)
    np.testing.assert_allclose(found[1, 50], 1, 1e-5)
    np.testing.assert_allclose(found[2, [50, 51]], [0.7, 0.3], 1e-4)
    assert found[3, 100] == pytest.approx(1)
    np.testing.assert_allclose(found[4, [0, 100]], [probs[4, :50].sum(), probs[4, 51:].sum()], 1e-4)
    np.testing.assert_allclose(found[5], probs[5, ::-1], 1e-3, 1e-5)
    inside = np.abs(places).max(-1) <= 5
    assert inside.sum() > 4
    np.testing.assert_allclose(found[inside] @ support, (probs * places).sum(-1)[inside], 1e-4, 1e-5)


def test_projections_of_dopamine(project):
    """Its published cases, of the Rainbow agent."""
    support = [[0, 2, 4, 6, 8], [1, 3, 4, 5, 6], [0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [3, 4, 5, 6, 7]]
    probs = [[0.1, 0.6, 0.1, 0.1, 0.1], [0.1, 0.2, 0.5, 0.1, 0.1], *[[0.1, 0.2, 0.1, 0.3, 0.3]] * 3]
    expected = [[0.8, 0, 0.1, 0, 0.1], [0.8, 0.1, 0.1, 0, 0]]
    found = project(jnp.array(probs), jnp.float32(support), jnp.arange(4.0, 9.0))
    np.testing.assert_allclose(found[:2], expected, atol=1e-6)
    expected = [[0.7, 0.3, 0, 0, 0], [0.9, 0.1, 0, 0, 0], [0.1, 0.2, 0.1, 0.3, 0.3]]
    found = project(jnp.array(probs), jnp.float32(support), jnp.arange(3.0, 8.0))
    np.testing.assert_allclose(found[2:], expected, atol=1e-6)
    wide = project(
        jnp.array([[0.1, 0.2, 0.2, 0.2, 0.3], [0.1, 0.2, 0.4, 0.1, 0.2]]),
        jnp.float32([[0, 2, 4, 6, 8], [8, 9, 10, 12, 14]]),
        4 * jnp.arange(5.0),
    )
    np.testing.assert_allclose(wide, [[0.2, 0.4, 0.4, 0, 0], [0, 0, 0.45, 0.45, 0.1]], atol=1e-6)


def test_projections_of_rlax(project):
    """Its published case: masses of any sign, eight atoms onto four."""
    old, new = np.arange(-1, 1, 0.25, np.float32), np.arange(-1, 1, 0.5, np.float32)
    odd = np.arange(8) % 2 == 1
    first = project(jnp.array([old * odd]), jnp.array([old]), new)
    second = project(jnp.array([(old + 1) * ~odd]), jnp.array([old + 1]), new + 1)
    np.testing.assert_allclose(first, [[-0.375, -0.5, 0, 0.875]], atol=1e-6)
    np.testing.assert_allclose(second, [[0, 0.5, 1, 1.5]], atol=1e-6)


def test_losses_of_rlax(project):
    """Its published numbers of categorical TD learning: projection and cross-entropy at once."""
    support = jnp.array([0.5, 1.0, 1.5])
    logits = jnp.array([[0, 9, 0], [9, 0, 9], [0, 9, 0], [9, 9, 0], [9, 0, 9.0]])
    reward, discount = jnp.array([0.5, 0, 0.5, 0.8, -0.1]), jnp.array([0.8, 1, 0.8, 0, 1])
    ahead = jax.nn.softmax(jnp.array([[0, 0, 9], [1, 1, 1], [0, 0, 9], [1, 1, 1], [0, 9, 9.0]]))
    target = project(ahead, reward[:, None] + discount[:, None] * support[None], support)
    expected = [8.998915, 3.6932087, 8.998915, 0.69320893, 5.1929307]
    np.testing.assert_allclose(cross_entropy(logits, target), expected, rtol=1e-4)


def test_a_place_that_is_not_a_number_shows(project):
    """A mass that vanished would leave a loss of 0."""
    places = jnp.array([[jnp.nan, 0.0, 0.5]])
    found = project(jnp.full((1, 3), 1 / 3), places, jnp.array([-1.0, 0.0, 1.0]))
    assert jnp.isnan(found).any()


def test_the_form_for_this_device_is_taken():
    """Under `jit` and `vmap`, with one support or one for each member."""
    probs, places = distributions(8, 5), np.random.default_rng(3).normal(size=(8, 5))
    support = np.linspace(-1, 1, 5)
    expected = plain(probs, places, support)
    rows = [jnp.float32(x) for x in (probs, places)]
    found = jax.jit(jax.vmap(distributional.project, (0, 0, None)))(*rows, jnp.float32(support))
    np.testing.assert_allclose(found, expected, 1e-5, 2e-6)
    each = jnp.tile(jnp.float32(support), (8, 1)) * jnp.arange(1.0, 9.0)[:, None]
    found = jax.jit(jax.vmap(distributional.project))(*rows, each)
    expected = [plain(probs[i : i + 1], places[i : i + 1], support * (i + 1))[0] for i in range(8)]
    np.testing.assert_allclose(found, expected, 1e-5, 2e-6)


def test_cross_entropy_is_exact_however_large_the_logits():
    """And its gradient is the difference of both distributions."""
    logits = np.random.default_rng(4).normal(size=(2, 5, 7))
    logits[0, 0], logits[1, 1] = 1e4 * np.eye(7)[2], -1e4
    probs = distributions(10, 7).reshape(2, 5, 7)
    shifted = logits - logits.max(-1, keepdims=True)
    log_probs = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    found = cross_entropy(jnp.float32(logits), jnp.float32(probs))
    np.testing.assert_allclose(found, -(probs * log_probs).sum(-1), 1e-5)
    gradient = jax.grad(lambda x: cross_entropy(x, jnp.float32(probs)).sum())(jnp.float32(logits))
    np.testing.assert_allclose(gradient, np.exp(log_probs) - probs, 1e-4, 1e-6)


def test_the_mean_is_that_of_a_softmax():
    logits, support = np.random.default_rng(5).normal(size=(2, 3, 4)), np.array([-2.0, 0, 1, 7])
    probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    found = distributional.mean(jnp.float32(logits), jnp.float32(support))
    np.testing.assert_allclose(found, probs @ support, 1e-5, 1e-6)


@pytest.mark.parametrize("count", [2, 3, 101])
def test_atoms_go_from_end_to_end(count):
    """Exactly, also of values that float32 rounds, and where they are traced."""
    found = atoms(-0.1, 0.7, count)
    np.testing.assert_allclose(found, np.linspace(-0.1, 0.7, count), 1e-6, 1e-7)
    assert found.dtype == jnp.float32 and found[0] == jnp.float32(-0.1)
    traced = jax.jit(lambda low, high: atoms(low, high, count))(jnp.float32(-0.1), jnp.float32(0.7))
    np.testing.assert_allclose(found, traced, 1e-6)


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (2.0, -2.0)])
def test_atoms_without_a_width_are_no_numbers(low, high):
    """So that a member of a sweep diverges rather than learn nonsense."""
    assert jnp.isnan(atoms(low, high, 5)).all()
    assert jnp.isnan(
        jax.vmap(partial(atoms, count=3))(jnp.array([low, 0.0]), jnp.array([high, 1.0]))[0]
    ).all()


def test_a_stray_axis_is_refused():
    row = jnp.ones((2, 3))
    with pytest.raises(AssertionError):
        distributional.project(row, row[:1], row[0])
    with pytest.raises(AssertionError):
        cross_entropy(row, row[:1])


@pytest.mark.parametrize("delta", [0.3, 1.0, 4.0])
def test_quantile_losses_of_rlax(delta):
    """Row by row; its mean is over the targets and its sum over the quantiles, too."""
    noise = np.random.default_rng(0)
    values, targets = (noise.normal(0, 2, (7, size)).astype(np.float32) for size in (5, 4))
    fractions = noise.uniform(0.01, 0.99, (7, 5)).astype(np.float32)
    found = distributional.quantile_huber(values, fractions, targets, delta)
    for row in range(7):
        expected = rlax.quantile_regression_loss(values[row], fractions[row], targets[row], delta)
        np.testing.assert_allclose(found[row], expected / delta, rtol=1e-5)


def test_quantile_losses_by_hand():
    """Errors 2 and -1 of a value 1 at the fraction 0.25, with delta 1: (0.25 * 1.5 + 0.75 * 0.5) / 2."""
    found = distributional.quantile_huber(*map(jnp.float32, ([1.0], [0.25], [3.0, 0.0])), 1.0)
    np.testing.assert_allclose(found, 0.375, rtol=1e-6)


MUTANTS = {
    "scattered: shares are swapped": (
        "ops/distributional.py",
        ".add(mass * (1.0 - above))\n        .at[row, below + 1]\n        .add(mass * above)",
        ".add(mass * above)\n        .at[row, below + 1]\n        .add(mass * (1.0 - above))",
        "test_projection_equals_a_loop[on a CPU]",
    ),
    "scattered: of equal places the last counts": (
        "ops/distributional.py",
        ".add(mass * (1.0 - above))",
        ".set(mass * (1.0 - above))",
        "test_no_mass_is_lost[on a CPU]",
    ),
    "scattered: to the nearest atom": (
        "ops/distributional.py",
        "above = place - below.astype(jnp.float32)",
        "above = jnp.round(place - below.astype(jnp.float32))",
        "test_projections_of_dopamine[on a CPU]",
    ),
    "scattered: mass on an atom is lost": (
        "ops/distributional.py",
        ".add(mass * (1.0 - above))",
        ".add(mass * jnp.where(above == 0, 0.0, 1.0 - above))",
        "test_no_mass_is_lost[on a CPU]",
    ),
    "scattered: rows are one": (
        "ops/distributional.py",
        "jnp.arange(len(mass), dtype=jnp.int32)[:, None]",
        "jnp.zeros((len(mass), 1), jnp.int32)",
        "test_losses_of_rlax[on a CPU]",
    ),
    "dense: far atoms get a negative share": (
        "ops/distributional.py",
        "jnp.maximum(1.0 - jnp.abs(place[..., None, :] - index), 0.0)",
        "(1.0 - jnp.abs(place[..., None, :] - index))",
        "test_projection_equals_a_loop[elsewhere]",
    ),
    "dense: mass on an atom is lost": (
        "ops/distributional.py",
        "return (share * probs[..., None, :]).sum(-1)",
        "return (jnp.where(share == 1, 0.0, share) * probs[..., None, :]).sum(-1)",
        "test_no_mass_is_lost[elsewhere]",
    ),
    "dense: sums over the wrong atoms": (
        "ops/distributional.py",
        "return (share * probs[..., None, :]).sum(-1)",
        "return (share * probs[..., None, :]).sum(-2)",
        "test_projection_equals_a_loop[elsewhere]",
    ),
    "places beyond the ends": (
        "ops/distributional.py",
        "(jnp.clip(target_support, low, high) - low)",
        "(target_support - low)",
        "test_no_mass_is_lost",
    ),
    "places in units of the support": (
        "ops/distributional.py",
        " / (high - low) * (len(support) - 1)",
        " * (len(support) - 1)",
        "test_projections_of_rlax",
    ),
    "one place too many": (
        "ops/distributional.py",
        "* (len(support) - 1)\n",
        "* len(support)\n",
        "test_the_form_for_this_device_is_taken",
    ),
    "any shape is projected": (
        "ops/distributional.py",
        "    chex.assert_equal_shape([probs, target_support])\n",
        "",
        "test_a_stray_axis_is_refused",
    ),
    "the logarithm of a softmax": (
        "ops/distributional.py",
        "jax.nn.log_softmax(logits)",
        "jnp.log(jax.nn.softmax(logits))",
        "test_cross_entropy_is_exact_however_large_the_logits",
    ),
    "cross-entropy: of any shape": (
        "ops/distributional.py",
        "    chex.assert_equal_shape([logits, probs])\n",
        "",
        "test_a_stray_axis_is_refused",
    ),
    "the mean of logits": (
        "ops/distributional.py",
        "(jax.nn.softmax(logits) * to_rank",
        "(logits * to_rank",
        "test_the_mean_is_that_of_a_softmax",
    ),
    "atoms without the last": (
        "ops/distributional.py",
        "jnp.linspace(0.0, 1.0, count, dtype=jnp.float32)",
        "jnp.linspace(0.0, 1.0, count, endpoint=False, dtype=jnp.float32)",
        "test_atoms_go_from_end_to_end",
    ),
    "atoms of any order": (
        "ops/distributional.py",
        "jnp.where(low < high, high - low, jnp.nan)",
        "high - low",
        "test_atoms_without_a_width_are_no_numbers",
    ),
}
