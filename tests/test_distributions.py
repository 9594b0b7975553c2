"""Densities against closed forms in float64, also where tanh has long reached 1 in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from scipy import stats

from purerl import distributions

squashed = jax.jit(distributions.squashed_sample_and_log_prob)


def noise_of(mean, key):
    """The standard normal draw behind a sample: mean and spread only shift and stretch it."""
    zeros = jnp.zeros_like(mean)
    return np.asarray(distributions.diagonal_normal(zeros, zeros).sample(seed=key), np.float64)


def log_slope(u):
    """log d tanh(u) / du in float64, without the cancellation of log(1 - tanh(u)**2)."""
    return 2 * (np.log(2) - u - np.logaddexp(0, -2 * u))


@pytest.mark.parametrize("log_std", [-20.0, -5.0, 0.0, 2.0])
def test_squashed_log_prob_however_far_out(log_std):
    """log(1 - tanh(u)**2 + 1e-6), or atanh of the action, is wrong from u = 7 and NaN at 9."""
    mean, key = jnp.linspace(-20.0, 20.0, 161)[:, None], jax.random.key(0)
    action, log_prob = squashed(mean, jnp.full_like(mean, log_std), key)
    noise = noise_of(mean, key)
    u = np.asarray(mean) + np.exp(log_std) * noise
    assert jnp.abs(action).max() <= 1.0
    np.testing.assert_allclose(action, np.tanh(u), atol=1e-6)
    expected = stats.norm.logpdf(noise) - log_std - log_slope(u)
    np.testing.assert_allclose(log_prob, expected[:, 0], rtol=1e-6, atol=2e-5)


def test_squashed_log_prob_by_hand():
    """At u = 8 the slope's logarithm is -14.613706; an added 1e-6 makes it -13.815511."""
    mean, key = jnp.array([8.0]), jax.random.key(0)
    _, log_prob = squashed(mean, jnp.array([-20.0]), key)
    slope = stats.norm.logpdf(noise_of(mean, key)).item() + 20 - float(log_prob)
    assert slope == pytest.approx(-14.613706, abs=1e-4)


@pytest.mark.parametrize("log_std", [-20.0, -5.0, -0.5, 1.0])
def test_squashed_gradient_however_far_out(log_std):
    """At u from -20 to 20: d log_prob = 2 tanh(u) du - d log_std, and d action = (1 - tanh(u)^2) du.

    The density of the draw itself does not move.
    """
    u, key, std = np.linspace(-20.0, 20.0, 321)[:, None], jax.random.key(1), np.exp(log_std)
    noise = noise_of(jnp.zeros((321, 1)), key)
    sums = lambda *parameters: tuple(leaf.sum() for leaf in squashed(*parameters, key))
    parameters = jnp.float32(u - std * noise), jnp.full((321, 1), log_std)
    got = jax.jit(jax.jacrev(sums, argnums=(0, 1)))(*parameters)
    slope, bend = np.exp(log_slope(u)), 2 * np.tanh(u)
    expected = (slope, slope * std * noise), (bend, bend * std * noise - 1)
    for found, exact in zip(got, expected, strict=True):
        np.testing.assert_allclose(found, exact, rtol=1e-5, atol=2e-5)


def test_squashed_density_integrates_to_1():
    """Over the action, the exponential of the log-probability is a density: no term is missing.

    Up to a deviation of 1; beyond it the density has peaks at the ends of the range.
    """
    cases = [(mean, std) for std in (1.0, 0.7, 0.3, 0.1, 0.01) for mean in (-2.0, -0.4, 0.0, 0.9)]
    rows, key = jnp.zeros((20_000, 1)), jax.random.key(2)
    draw = jax.jit(jax.vmap(lambda mean, std: squashed(rows + mean, rows + jnp.log(std), key)))
    for action, log_prob, case in zip(*draw(*np.float32(cases).T), cases, strict=True):
        order = np.argsort(action[:, 0])
        x, density = np.float64(action[order, 0]), np.exp(np.float64(log_prob[order]))
        assert np.trapezoid(density, x) == pytest.approx(1.0, abs=3e-4), case
        if case in ((1.0, 0.0), (0.7, -0.4)):
            # Importance weights say the same without a grid: E[1 / density] is the length of (-1, 1).
            inside = np.abs(x) < 0.9
            assert (inside / density).mean() == pytest.approx(1.8, rel=0.05)


def test_squashed_log_prob_sums_over_the_action():
    """One log-density per row, the sum over its dimensions: not their mean, and not one each."""
    mean = jnp.array([[0.5, -1.0, 3.0], [0.0, 0.1, 0.2]])
    log_std, key = jnp.array([[0.0, -1.0, 0.5], [-2.0, 0.0, 1.0]]), jax.random.key(4)
    action, log_prob = squashed(mean, log_std, key)
    assert action.shape == (2, 3) and log_prob.shape == (2,)
    noise = noise_of(mean, key)
    u = np.asarray(mean) + np.exp(log_std) * noise
    each = stats.norm.logpdf(noise) - log_std - log_slope(u)
    np.testing.assert_allclose(log_prob, each.sum(-1), rtol=1e-5)


def test_squashed_samples_are_independent():
    """Rows and dimensions get noise of their own, and keys decide it."""
    zeros = jnp.zeros((50, 4))
    action, again, other = (squashed(zeros, zeros, jax.random.key(k))[0] for k in (0, 0, 1))
    assert len(np.unique(action)) == action.size
    assert (action == again).all() and (action != other).all()


def test_normal_log_prob_entropy_and_mode():
    """Sums over the action's dimensions, with log_std and not std as the parameter."""
    mean, log_std = jnp.array([[0.5, -2.0], [1.0, 0.0]]), jnp.array([[-1.0, 0.7], [0.0, 2.0]])
    x = jnp.array([[0.0, 1.0], [-1.0, 3.0]])
    got = distributions.diagonal_normal(mean, log_std)
    exact = stats.norm(np.asarray(mean), np.exp(log_std))
    np.testing.assert_allclose(got.log_prob(x), exact.logpdf(x).sum(-1), rtol=1e-5)
    entropy = (np.asarray(log_std) + 0.5 * np.log(2 * np.pi * np.e)).sum(-1)
    np.testing.assert_allclose(got.entropy(), entropy, rtol=1e-5)
    np.testing.assert_array_equal(got.mode(), mean)


def test_normal_samples_match_their_density():
    """Minus the mean log-probability of its own samples is the entropy."""
    mean, log_std = jnp.full((50_000, 2), 3.0), jnp.tile(jnp.array([-1.0, 1.0]), (50_000, 1))
    normal = distributions.diagonal_normal(mean, log_std)
    sample, log_prob = normal.sample_and_log_prob(seed=jax.random.key(0))
    np.testing.assert_allclose(sample.std(0), np.exp([-1, 1]), rtol=0.02)
    assert -log_prob.mean() == pytest.approx(float(normal.entropy()[0]), abs=0.02)


def test_categorical_log_prob_entropy_and_mode():
    """Logits need not be normalised, and the entropy is the sum of -p log p."""
    logits = jnp.array([[1.0, 2.0, 3.0], [105.0, 100.0, 100.0]])
    p = np.exp(np.float64(logits) - np.max(logits, -1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    got = distributions.categorical(logits)
    np.testing.assert_allclose(got.log_prob(jnp.array([0, 2])), np.log(p[[0, 1], [0, 2]]), rtol=1e-5)
    np.testing.assert_allclose(got.entropy(), -(p * np.log(p)).sum(-1), rtol=1e-5)
    assert got.mode().tolist() == [2, 0]


CHOICES = {
    "MultiDiscrete": (spaces.MultiDiscrete([3, 3, 2]), 8),
    "MultiBinary": (spaces.MultiBinary(3), 3),
}


@pytest.mark.parametrize("name", CHOICES)
def test_several_choices_by_enumeration(name):
    """Probabilities of all actions sum to 1; entropy, divergence and mode are those of that table."""
    space, outputs = CHOICES[name]
    logits, others = jax.random.normal(jax.random.key(0), (2, 5, outputs)) * 1.5
    sizes = getattr(space, "nvec", np.full(3, 2))
    actions = jnp.array(list(np.ndindex(*sizes)))
    policy, other = (distributions.of_outputs(space, x) for x in (logits, others))
    p, q = (np.exp(np.stack([d.log_prob(jnp.tile(a, (5, 1))) for a in actions])) for d in (policy, other))
    np.testing.assert_allclose(p.sum(0), 1, rtol=1e-5)
    np.testing.assert_allclose(policy.entropy(), -(p * np.log(p)).sum(0), rtol=1e-5)
    np.testing.assert_allclose(policy.kl_divergence(other), (p * np.log(p / q)).sum(0), rtol=1e-4)
    np.testing.assert_array_equal(policy.mode(), actions[p.argmax(0)])
    first = np.exp(np.asarray(logits)[:, : sizes[0]]) if name == "MultiDiscrete" else None
    if first is not None:  # the first choice has the first logits
        chance = [p[np.asarray(actions)[:, 0] == i].sum(0) for i in range(sizes[0])]
        np.testing.assert_allclose(np.stack(chance, -1), first / first.sum(-1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize("name", CHOICES)
def test_several_choices_are_drawn_by_their_probabilities(name):
    """Each choice by its own chance, independently of the others."""
    space, outputs = CHOICES[name]
    logits = jnp.linspace(-1.0, 1.0, outputs)
    policy = distributions.of_outputs(space, jnp.tile(logits, (20_000, 1)))
    drawn, log_prob = policy.sample_and_log_prob(seed=jax.random.key(1))
    assert (
        drawn.shape == (20_000, 3)
        and drawn.dtype == jnp.int32
        and space.contains(np.asarray(drawn[0], space.dtype))
    )
    np.testing.assert_allclose(log_prob, policy.log_prob(drawn), rtol=1e-5)
    seen, counts = np.unique(np.asarray(drawn), axis=0, return_counts=True)
    own = distributions.of_outputs(space, jnp.tile(logits, (len(seen), 1)))
    np.testing.assert_allclose(counts / 20_000, np.exp(own.log_prob(jnp.asarray(seen))), atol=0.012)


def test_outputs_mean_what_the_space_says():
    """Logits for a Discrete space, mean and log_std for a Box."""
    key, zeros = jax.random.key(0), jnp.zeros((5, 3))
    index = distributions.of_outputs(spaces.Discrete(3), zeros).sample(seed=key)
    assert index.shape == (5,) and jnp.issubdtype(index.dtype, jnp.integer)
    normal = distributions.of_outputs(spaces.Box(-1, 1, (3,)), (zeros, zeros))
    assert normal.sample(seed=key).shape == (5, 3)
    assert normal.log_prob(zeros).shape == (5,)


MUTANTS = {
    "normal: log_std is std": (
        "distributions.py",
        "(mean, jnp.exp(log_std))",
        "(mean, log_std)",
        "test_normal_log_prob_entropy_and_mode",
    ),
    "choices: the first one's probability": (
        "distributions.py",
        "part.log_prob(value[..., i]) for i, part",
        "part.log_prob(value[..., 0]) for i, part",
        "test_several_choices_by_enumeration[MultiDiscrete]",
    ),
    "choices: one draw for all": (
        "distributions.py",
        "keys = jax.random.split(seed, len(self._parts))",
        "keys = [seed] * len(self._parts)",
        "test_several_choices_are_drawn_by_their_probabilities[MultiDiscrete]",
    ),
    "switches: the first one alone": (
        "distributions.py",
        "distrax.Independent(bernoulli, 1)",
        "bernoulli",
        "test_several_choices_by_enumeration[MultiBinary]",
    ),
    "squash: added 1e-6": (
        "distributions.py",
        "return Lenient(squashed).sample_and_log_prob(seed=key)",
        "return (lambda u, p: (jnp.tanh(u), p - jnp.log(1 - jnp.tanh(u) ** 2 + "
        "1e-6).sum(-1)))(*diagonal_normal(mean, log_std).sample_and_log_prob(se"
        "ed=key))",
        "test_squashed_log_prob_by_hand",
    ),
    "squash: 1 - tanh**2": (
        "distributions.py",
        "return Lenient(squashed).sample_and_log_prob(seed=key)",
        "return (lambda u, p: (jnp.tanh(u), p - jnp.log(1 - jnp.tanh(u) ** 2).s"
        "um(-1)))(*diagonal_normal(mean, log_std).sample_and_log_prob(seed=key)"
        ")",
        "test_squashed_log_prob_however_far_out",
    ),
    "squash: no correction": (
        "distributions.py",
        "return Lenient(squashed).sample_and_log_prob(seed=key)",
        "return (lambda u, p: (jnp.tanh(u), p))(*diagonal_normal(mean, log_std)"
        ".sample_and_log_prob(seed=key))",
        "test_squashed_density_integrates_to_1",
    ),
    "squash: deviation beside the draw": (
        "distributions.py",
        "return Lenient(squashed).sample_and_log_prob(seed=key)",
        "return (lambda a, p: (a, p + 1e-3 * log_std.sum(-1)))("
        "*Lenient(squashed).sample_and_log_prob(seed=key))",
        "test_squashed_density_integrates_to_1",
    ),
    "squash: the slope has a floor": (
        "distributions.py",
        "return Lenient(squashed).sample_and_log_prob(seed=key)",
        "return (lambda u, p: (jnp.tanh(u), p - jnp.log(jnp.maximum(1 - jnp.tanh(u) ** 2, 1e-6)).sum(-1)))("
        "*diagonal_normal(mean, log_std).sample_and_log_prob(seed=key))",
        "test_squashed_gradient_however_far_out",
    ),
    "squash: the density moves with the policy": (
        "distributions.py",
        "return Lenient(squashed).sample_and_log_prob(seed=key)",
        "return (lambda a, p: (a, p + 0.01 * (mean - __import__('jax').lax.stop_gradient(mean)).sum(-1)))("
        "*Lenient(squashed).sample_and_log_prob(seed=key))",
        "test_squashed_gradient_however_far_out",
    ),
    "squash: mean over the action": (
        "distributions.py",
        "return Lenient(squashed).sample_and_log_prob(seed=key)",
        "return (lambda u, p: (jnp.tanh(u), p - (2 * (jnp.log(2.0) - u + jnp.lo"
        "g(1 / (1 + jnp.exp(-2 * u))))).mean(-1)))(*diagonal_normal(mean, log_s"
        "td).sample_and_log_prob(seed=key))",
        "test_squashed_log_prob_sums_over_the_action",
    ),
    "squash: not squashed": (
        "distributions.py",
        "distrax.Block(distrax.Tanh(), 1)",
        "distrax.Block(distrax.Lambda(lambda x: x), 1)",
        "test_squashed_log_prob_however_far_out",
    ),
}
