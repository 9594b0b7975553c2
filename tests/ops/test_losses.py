"""Losses against rlax's numbers, closed forms and rows worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl.ops import losses

pytestmark = pytest.mark.usefixtures("strict_ranks")

# Actions 0, 1, 2 under three pairs of logits, as in rlax's test of the clipped surrogate.
LOGITS = jnp.array([[1.0, 1.0, 1.0], [2.0, 0.0, 0.0], [-1.0, -2.0, -3.0]])
OLD_LOGITS = jnp.array([[1.0, 1.0, 1.0], [2.0, 0.0, 0.0], [-3.0, -2.0, -1.0]])
LOG_PROB, OLD_LOG_PROB = (jnp.diag(jax.nn.log_softmax(x)) for x in (LOGITS, OLD_LOGITS))


@pytest.mark.parametrize(("sign", "expected"), [(1, -0.17117467), (-1, 0.19333333)])
def test_clipped_surrogate_equals_rlax(sign, expected):
    """The minimum, not the maximum, and the loss, not the objective."""
    advantage = sign * jnp.array([0.3, 0.2, 0.1])
    loss = losses.clipped_surrogate(LOG_PROB, OLD_LOG_PROB, advantage, 0.2)
    assert loss == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("clip_eps", [0.1, 0.3])
def test_clipped_surrogate_stops_pushing_where_it_has_gained(clip_eps):
    """The gradient is zero for A > 0 above 1 + eps and A < 0 below 1 - eps, and -ratio A else."""
    ratio, advantage = (x.ravel() for x in np.meshgrid([0.05, 0.5, 0.95, 1, 1.05, 1.5, 5], [2, -3]))
    old = jnp.linspace(-2.0, 1.0, ratio.size)
    loss = lambda new: losses.clipped_surrogate(new, old, jnp.float32(advantage), clip_eps)
    gradient = jax.grad(loss)(old + jnp.log(jnp.float32(ratio))) * ratio.size
    gained = np.where(advantage > 0, ratio > 1 + clip_eps, ratio < 1 - clip_eps)
    assert gained.any() and not gained.all()
    np.testing.assert_array_equal(gradient[gained], 0.0)
    np.testing.assert_allclose(gradient[~gained], -(ratio * advantage)[~gained], rtol=1e-5)


def test_clipped_surrogate_refuses_a_stray_axis():
    """An advantage of shape [B, 1] must not become [B, B]."""
    with pytest.raises(AssertionError):
        losses.clipped_surrogate(jnp.zeros(3), jnp.zeros(3), jnp.zeros((3, 1)), 0.2)


def test_approximate_kl_is_never_negative():
    """The estimator of every single sample is at least 0, also where rounding decides."""
    size = np.logspace(-12, 1.5, 20_001, dtype=np.float32)
    ratios = jnp.concatenate([size, -size])[:, None]
    each = jax.vmap(losses.approximate_kl)(ratios, jnp.zeros_like(ratios))
    assert each.min() >= 0.0
    assert losses.approximate_kl(ratios[:, 0], ratios[:, 0]) == 0.0


def test_approximate_kl_is_of_old_to_new():
    """Over samples of the old policy it averages to KL(old || new), and not to the reverse."""
    old, new = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.3, 0.6])
    draws = np.repeat(np.arange(3), (1000 * old).astype(int))  # each action as often as it is drawn
    kl = losses.approximate_kl(jnp.log(new)[draws], jnp.log(old)[draws])
    forward, reverse = (old * np.log(old / new)).sum(), (new * np.log(new / old)).sum()
    assert kl == pytest.approx(forward, rel=1e-5)
    assert abs(forward - reverse) > 0.05


def test_standardize_to_mean_0_and_deviation_1():
    """The deviation is the population's (ddof 0), at any scale above 1e-3."""
    for scale in (1e-2, 1.0, 1e4):
        x = scale * (3 + np.random.default_rng(0).normal(size=6)).astype(np.float32)
        expected = (x - x.mean()) / x.std()
        np.testing.assert_allclose(losses.standardize(x), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("x", [[3.0], [0.0, 0.0], [-7.5] * 4, [5.0], [1e-9] * 3])
def test_standardize_without_spread_gives_zero_and_a_finite_gradient(x):
    """One advantage, or all alike: 0, and neither 0 / 0 nor the NaN of ddof 1."""
    x = jnp.array(x)
    np.testing.assert_array_equal(losses.standardize(x), jnp.zeros_like(x))
    gradient = jax.grad(lambda x: (losses.standardize(x) ** 2).sum())(x)
    assert jnp.isfinite(gradient).all()


@pytest.mark.parametrize("value", [0.1, 12.345, 1234.567])
@pytest.mark.parametrize("rows", [3, 100, 1000])
def test_standardize_a_constant_that_rounds(value, rows):
    """A mean that is one rounding off the constant must not come out as a deviation of 1."""
    np.testing.assert_allclose(losses.standardize(jnp.full(rows, value)), 0.0, atol=0.02)


def test_explained_variance():
    """1 for the truth, 0 for a constant, negative for worse, and NaN where nothing varies."""
    target = jnp.array([1.0, 2.0, 3.0, 6.0])
    for prediction, expected in (
        (target, 1.0),
        (target + 5.0, 1.0),  # an offset is not variance
        (jnp.zeros(4), 0.0),
        (-target, -3.0),
        (0.5 * target, 0.75),
    ):
        assert losses.explained_variance(prediction, target) == pytest.approx(expected, abs=1e-6)
    assert jnp.isnan(losses.explained_variance(target, jnp.ones(4)))


def test_half_mean_square():
    """Half the mean over every axis, so that the gradient is the mean error."""
    error = jnp.array([[1.0, 2.0], [3.0, -4.0]])
    loss, gradient = jax.value_and_grad(losses.half_mean_square)(error)
    assert loss == 30 / 8
    np.testing.assert_allclose(gradient, error / 4)


@pytest.mark.parametrize(("terminated", "target"), [(False, 1 + 0.5 * (4 + 0.2 * 3)), (True, 1.0)])
def test_soft_td_target_by_hand(terminated, target):
    """r = 1, Q' = 4, log pi = -3, alpha = 0.2, gamma = 1/2: entropy is a bonus, until death."""
    row = [jnp.array([x]) for x in (1.0, terminated, 4.0, -3.0)]
    assert losses.soft_td_target(*row, 0.2, 0.5).item() == pytest.approx(target)


def test_soft_td_target_of_a_death_ignores_what_follows():
    """Neither value nor entropy of a state beyond the end, not even a NaN."""
    nan = jnp.array([jnp.nan])
    dead = jnp.array([True])
    assert losses.soft_td_target(jnp.ones(1), dead, nan, nan, 0.2, 0.9).item() == 1.0


@pytest.mark.parametrize(("log_prob", "direction"), [(3.0, 1), (1.0, -1), (2.0, 0)])
def test_temperature_rises_while_entropy_is_short(log_prob, direction):
    """With a target of -2 nats, a log-probability of 3 is too sure and one of 1 too random."""
    gradient = jax.grad(losses.temperature_loss)(jnp.array(-1.3), jnp.array(-log_prob), -2.0)
    assert jnp.sign(-gradient) == direction


def test_temperature_loss_leaves_the_policy_alone():
    """No gradient into the entropy, and one into log alpha that does not shrink with alpha."""
    log_alpha, entropy = jnp.array(-20.0), jnp.array(0.5)
    gradients = jax.grad(losses.temperature_loss, argnums=(0, 1))(log_alpha, entropy, -1.0)
    assert gradients == (1.5, 0.0)
