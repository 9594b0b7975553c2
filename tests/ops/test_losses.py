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


def policy_gradient_rows(logits, actions):
    """Log-probabilities of `actions` under rows of `logits`."""
    return jnp.take_along_axis(jax.nn.log_softmax(logits), actions[:, None], axis=1)[:, 0]


@pytest.mark.parametrize(
    ("shift", "sign", "actions", "expected"),
    [(0.0, 1, [0, 1, 2], 0.0788835088), (1.0, -1, [0, 0, 0], 0.327200909)],
)
def test_policy_gradient_equals_rlax(shift, sign, actions, expected):
    """Its published numbers: the mean over rows, negated. rlax's weights go into the advantage."""
    weighted = sign * jnp.array([0.3, 0.2, 0.1]) * (jnp.array([-2.0, 2.0, 0.0]) - shift)
    loss = losses.policy_gradient(policy_gradient_rows(LOGITS + shift, jnp.array(actions)), weighted)
    assert loss == pytest.approx(expected, abs=1e-5)


def test_policy_gradient_of_a_softmax_bandit_is_exact():
    """Each action as often as the policy draws it: descending goes up `pi_k (r_k - sum pi r)`."""
    counts, reward = np.array([5, 3, 2]), np.array([1.0, -2.0, 4.0])
    draws = jnp.asarray(np.repeat(np.arange(3), counts))
    logits = jnp.log(jnp.float32(counts))
    loss = lambda logits: losses.policy_gradient(
        jax.nn.log_softmax(logits)[draws], jnp.float32(reward)[draws]
    )
    pi = counts / counts.sum()
    np.testing.assert_allclose(-jax.grad(loss)(logits), pi * (reward - pi @ reward), atol=1e-6)


def test_policy_gradient_leaves_the_advantage_alone():
    """A critic that shares parameters with the policy must not learn from the policy's loss."""
    log_prob, advantage = jnp.array([-1.0, -2.0]), jnp.array([3.0, -5.0])
    gradients = jax.grad(losses.policy_gradient, argnums=(0, 1))(log_prob, advantage)
    np.testing.assert_array_equal(gradients[0], -advantage / 2)
    np.testing.assert_array_equal(gradients[1], [0.0, 0.0])


def test_surrogate_by_hand():
    """Ratios 2, 1 and 1/4: the mean of ratio times advantage, negated, without a clip."""
    old = jnp.array([-1.0, -2.0, -0.5])
    new, advantage = old + jnp.log(jnp.array([2.0, 1.0, 0.25])), jnp.array([3.0, -5.0, 8.0])
    loss, gradient = jax.value_and_grad(losses.surrogate)(new, old, advantage)
    assert loss == pytest.approx(-(6 - 5 + 2) / 3, rel=1e-5)
    np.testing.assert_allclose(gradient, -np.array([6, -5, 2]) / 3, rtol=1e-5)


def test_surrogate_starts_out_as_the_policy_gradient():
    """If the policies agree, the loss is minus the mean advantage, and the gradients are one."""
    old, advantage = jnp.linspace(-3.0, 0.0, 7), jnp.linspace(-1.0, 2.0, 7)
    loss, gradient = jax.value_and_grad(losses.surrogate)(old, old, advantage)
    assert loss == pytest.approx(-0.5, rel=1e-5)
    np.testing.assert_allclose(gradient, jax.grad(losses.policy_gradient)(old, advantage), rtol=1e-6)


@pytest.mark.parametrize("loss", [losses.surrogate, lambda *row: losses.clipped_surrogate(*row, 0.2)])
def test_ratios_that_overflow_leave_finite_gradients(loss):
    """exp(200) is infinite in float32, and infinity times 0 is NaN."""
    rows = jnp.array([200.0, -200.0, 0.0]), jnp.array([0.0, 0.0, 0.0]), jnp.array([0.0, -1.0, 1.0])
    value, gradient = jax.value_and_grad(loss)(*rows)
    assert jnp.isfinite(value) and jnp.isfinite(gradient).all()


@pytest.mark.parametrize(("sign", "expected"), [(1, -0.17117467), (-1, 0.19333333)])
def test_clipped_surrogate_equals_rlax(sign, expected):
    """The minimum, not the maximum, and the loss, not the objective."""
    advantage = sign * jnp.array([0.3, 0.2, 0.1])
    loss = losses.clipped_surrogate(LOG_PROB, OLD_LOG_PROB, advantage, 0.2)
    assert loss == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("clip_eps", [0.1, 0.3])
def test_clipped_surrogate_is_flat_beyond_the_clip(clip_eps):
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


@pytest.mark.parametrize(
    ("value", "old_value", "target", "expected"),
    [
        (1.0, 0.0, 2.0, 1.62),  # clipped to 0.2, which is further from the target
        (4.0, 5.0, 3.0, 1.62),
        (0.1, 0.0, 2.0, 0.5 * 1.9**2),  # within the clip both are one
        (1.0, 0.0, -2.0, 4.5),  # the wrong way: the clip must not hide it
    ],
)
def test_clipped_value_loss_by_hand(value, old_value, target, expected):
    """Half of the larger square; the maximum, not the minimum."""
    rows = (jnp.array([x]) for x in (value, old_value, target))
    assert losses.clipped_value_loss(*rows, 0.2) == pytest.approx(expected, rel=1e-5)


def test_clipped_value_loss_is_flat_beyond_the_clip():
    """A value beyond the clip towards its target rests; all others are pulled as by the plain loss."""
    value, old_value = jnp.array([1.0, 0.1, 1.0, -1.0]), jnp.zeros(4)
    target = jnp.array([2.0, 2.0, -2.0, -2.0])
    gradient = 4 * jax.grad(losses.clipped_value_loss)(value, old_value, target, 0.2)
    np.testing.assert_allclose(gradient, [0.0, -1.9, 3.0, 0.0], rtol=1e-5)


@pytest.mark.parametrize(
    ("kl", "factor"), [(0.0, 0.5), (0.0066, 0.5), (0.0067, 1), (0.01, 1), (0.0149, 1), (0.0151, 2), (9.0, 2)]
)
def test_the_coefficient_follows_the_kl(kl, factor):
    """Too far a step doubles the penalty, too short a one halves it; the target is 0.01."""
    assert losses.adapted_coefficient(jnp.float32(0.3), jnp.float32(kl), 0.01) == jnp.float32(0.3 * factor)


@pytest.mark.parametrize("kl", [0.0, 1.0, jnp.inf])
def test_the_coefficient_stays_finite_and_recovers(kl):
    """After 1,000 updates to one side it is not 0 or infinite, and 41 to the other side bring it back."""
    adapt = lambda kl: lambda _, coef: losses.adapted_coefficient(coef, jnp.float32(kl), 0.01)
    coef = jax.lax.fori_loop(0, 1000, adapt(kl), jnp.float32(1.0))
    assert 1e-7 < coef < 1e7 and not 0.1 < coef < 10
    back = jax.lax.fori_loop(0, 41, adapt(0.0 if kl else 1.0), coef)
    assert back < 1e-5 if kl else back > 1e5


def test_a_kl_that_is_not_a_number_changes_nothing():
    """One broken update must not leave its mark in the coefficient."""
    assert losses.adapted_coefficient(jnp.float32(0.3), jnp.float32(jnp.nan), 0.01) == jnp.float32(0.3)


@pytest.mark.parametrize("name", ["policy_gradient", "surrogate", "clipped_value_loss"])
def test_losses_refuse_a_stray_axis(name):
    """A column of shape [B, 1] must not become [B, B]."""
    flat, tall = jnp.zeros(3), jnp.zeros((3, 1))
    rows = {"policy_gradient": (flat, tall), "surrogate": (flat, flat, tall)}.get(
        name, (flat, tall, flat, 0.2)
    )
    with pytest.raises(AssertionError):
        getattr(losses, name)(*rows)


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
def test_standardize_without_spread_gives_0(x):
    """One advantage, or all alike: 0, and neither 0 / 0 nor the NaN of ddof 1."""
    x = jnp.array(x)
    np.testing.assert_allclose(losses.standardize(x), jnp.zeros_like(x), atol=1e-6)
    gradient = jax.grad(lambda x: (losses.standardize(x) ** 2).sum())(x)
    assert jnp.isfinite(gradient).all()


@pytest.mark.parametrize("value", [0.1, 12.345, 1234.567])
@pytest.mark.parametrize("rows", [3, 100, 1000])
def test_standardize_a_constant_that_rounds(value, rows):
    """A mean that is one rounding off the constant must not come out as a deviation of 1."""
    np.testing.assert_allclose(losses.standardize(jnp.full(rows, value)), 0.0, atol=0.02)


def test_explained_variance():
    """1 for the truth, 0 for a constant, negative for worse, and 0 where nothing varies."""
    target = jnp.array([1.0, 2.0, 3.0, 6.0])
    for prediction, expected in (
        (target, 1.0),
        (target + 5.0, 1.0),  # an offset is not variance
        (jnp.zeros(4), 0.0),
        (-target, -3.0),
        (0.5 * target, 0.75),
    ):
        assert losses.explained_variance(prediction, target) == pytest.approx(expected, abs=1e-6)
    assert losses.explained_variance(target, jnp.ones(4)) == 0


def test_half_mean_square():
    """Half the mean over every axis, so that the gradient is the mean error."""
    error = jnp.array([[1.0, 2.0], [3.0, -4.0]])
    loss, gradient = jax.value_and_grad(losses.half_mean_square)(error)
    assert loss == 30 / 8
    np.testing.assert_allclose(gradient, error / 4)


def test_td_target_by_hand():
    """A step, three steps that go on, and an end; behind an end not even a NaN or an infinity counts."""
    reward, discount = jnp.array([1.0, -2.0, 1.0]), jnp.array([0.5, 0.125, 0.0])
    assert losses.td_target(reward, discount, jnp.array([4.0, 8.0, 16.0])).tolist() == [3.0, -1.0, 1.0]
    for unknown in (jnp.nan, jnp.inf):
        found = losses.td_target(reward, discount, jnp.full(3, unknown))
        assert not jnp.isfinite(found[:2]).any() and found[2] == 1.0


def test_half_mean_square_with_weights_by_hand():
    error = jnp.array([[1.0, 2.0], [3.0, 0.0]])
    assert losses.half_mean_square(error) == 14 / 8
    assert losses.half_mean_square(error, jnp.array([[0.5, 2.0]])) == (0.5 + 8 + 4.5) / 8


def test_soft_value_by_hand():
    """Q = 4, log pi = -3, alpha = 0.2: entropy is a bonus. One drawn action, and two of a discrete space."""
    assert losses.soft_value(*(jnp.array([[x]]) for x in (4.0, 1.0, -3.0)), 0.2).tolist() == [
        pytest.approx(4.6)
    ]
    probability = jnp.array([[0.25, 0.75]])
    found = losses.soft_value(jnp.array([[8.0, -4.0]]), probability, jnp.log(probability), 0.5)
    entropy = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    assert found.tolist() == [pytest.approx(2.0 - 3.0 + 0.5 * entropy)]


def test_soft_value_is_the_expectation_over_actions():
    """Row by row; with a temperature of 0 that of the action values alone, also where one has no chance."""
    draw = np.random.default_rng(0)
    q, logits = draw.normal(size=(2, 5, 3))
    logits[0, 1] = -2_000
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    for alpha in (0.0, 0.3):
        found = losses.soft_value(*map(jnp.float32, (q, p, log_p)), alpha)
        expected = [sum(p[b, k] * (q[b, k] - alpha * log_p[b, k]) for k in range(3)) for b in range(5)]
        np.testing.assert_allclose(found, expected, 1e-5, 1e-6)


def test_values_refuse_a_stray_axis():
    """A column must not become a square."""
    flat, tall = jnp.zeros(3), jnp.zeros((3, 1))
    with pytest.raises(AssertionError):
        losses.td_target(flat, flat, tall)
    with pytest.raises(AssertionError):
        losses.soft_value(tall, tall, flat, 0.1)


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


MUTANTS = {
    "surrogate: maximum": (
        "ops/losses.py",
        "-jnp.minimum(ratio",
        "-jnp.maximum(ratio",
        "test_clipped_surrogate_equals_rlax",
    ),
    "surrogate: ascends": (
        "ops/losses.py",
        "return -jnp.minimum",
        "return jnp.minimum",
        "test_clipped_surrogate_equals_rlax",
    ),
    "surrogate: ratio upside down": (
        "ops/losses.py",
        "jnp.clip(log_prob - old_log_prob,",
        "jnp.clip(old_log_prob - log_prob,",
        "test_clipped_surrogate_is_flat_beyond_the_clip",
    ),
    "surrogate: clips one side": (
        "ops/losses.py",
        "jnp.clip(ratio, 1.0 - clip_eps, ",
        "jnp.clip(ratio, 0.0, ",
        "test_clipped_surrogate_is_flat_beyond_the_clip",
    ),
    "surrogate: clips everything": (
        "ops/losses.py",
        "jnp.minimum(ratio * advantage, clipped * advantage)",
        "(clipped * advantage)",
        "test_clipped_surrogate_is_flat_beyond_the_clip",
    ),
    "surrogate: infinite ratios": (
        "ops/losses.py",
        "jnp.clip(log_prob - old_log_prob, -20.0, 20.0)",
        "(log_prob - old_log_prob)",
        "test_ratios_that_overflow_leave_finite_gradients",
    ),
    "plain surrogate: ascends": (
        "ops/losses.py",
        "return -(_ratio",
        "return (_ratio",
        "test_surrogate_by_hand",
    ),
    "plain surrogate: the log ratio": (
        "ops/losses.py",
        "(_ratio(log_prob, old_log_prob) * adv",
        "((log_prob - old_log_prob) * adv",
        "test_surrogate_starts_out_as_the_policy_gradient",
    ),
    "plain surrogate: any shape": (
        "ops/losses.py",
        "    chex.assert_equal_shape([log_prob, old_log_prob, advantage])\n    return",
        "    return",
        "test_losses_refuse_a_stray_axis",
    ),
    "policy gradient: ascends": (
        "ops/losses.py",
        "return -(log_prob * jax",
        "return (log_prob * jax",
        "test_policy_gradient_of_a_softmax_bandit_is_exact",
    ),
    "policy gradient: sum": (
        "ops/losses.py",
        "jax.lax.stop_gradient(advantage)).mean()",
        "jax.lax.stop_gradient(advantage)).sum()",
        "test_policy_gradient_equals_rlax",
    ),
    "policy gradient: pulls at the critic": (
        "ops/losses.py",
        "jax.lax.stop_gradient(advantage)",
        "(advantage)",
        "test_policy_gradient_leaves_the_advantage_alone",
    ),
    "policy gradient: any shape": (
        "ops/losses.py",
        "    chex.assert_equal_shape([log_prob, advantage])\n",
        "",
        "test_losses_refuse_a_stray_axis",
    ),
    "value clip: minimum": (
        "ops/losses.py",
        "jnp.maximum(jnp.square(value",
        "jnp.minimum(jnp.square(value",
        "test_clipped_value_loss_by_hand",
    ),
    "value clip: hides the wrong way": (
        "ops/losses.py",
        "jnp.maximum(jnp.square(value - target), jnp.square(clipped - target))",
        "jnp.square(clipped - target)",
        "test_clipped_value_loss_by_hand",
    ),
    "value clip: about 0": (
        "ops/losses.py",
        "jnp.clip(value - old_value, -clip_eps",
        "jnp.clip(value, -clip_eps",
        "test_clipped_value_loss_by_hand",
    ),
    "value clip: not clipped": (
        "ops/losses.py",
        "old_value + jnp.clip(value - old_value, -clip_eps, clip_eps)",
        "value",
        "test_clipped_value_loss_is_flat_beyond_the_clip",
    ),
    "value clip: no half": (
        "ops/losses.py",
        "return 0.5 * larger",
        "return larger",
        "test_clipped_value_loss_by_hand",
    ),
    "value clip: any shape": (
        "ops/losses.py",
        "    chex.assert_equal_shape([value, old_value, target])\n",
        "",
        "test_losses_refuse_a_stray_axis",
    ),
    "coefficient: halves for doubles": (
        "ops/losses.py",
        "jnp.where(kl < kl_target / 1.5, 0.5, jnp.where(kl > kl_target * 1.5, 2.0, 1.0))",
        "jnp.where(kl < kl_target / 1.5, 2.0, jnp.where(kl > kl_target * 1.5, 0.5, 1.0))",
        "test_the_coefficient_follows_the_kl",
    ),
    "coefficient: halves below a half": (
        "ops/losses.py",
        "(kl < kl_target / 1.5",
        "(kl < kl_target / 2.0",
        "test_the_coefficient_follows_the_kl",
    ),
    "coefficient: doubles above the double": (
        "ops/losses.py",
        "kl_target * 1.5",
        "kl_target * 2.0",
        "test_the_coefficient_follows_the_kl",
    ),
    "coefficient: down to 0": (
        "ops/losses.py",
        "jnp.clip(coef * factor, COEFFICIENT_MIN, COEFFICIENT_MAX)",
        "jnp.minimum(coef * factor, COEFFICIENT_MAX)",
        "test_the_coefficient_stays_finite_and_recovers",
    ),
    "coefficient: up to infinity": (
        "ops/losses.py",
        "jnp.clip(coef * factor, COEFFICIENT_MIN, COEFFICIENT_MAX)",
        "jnp.maximum(coef * factor, COEFFICIENT_MIN)",
        "test_the_coefficient_stays_finite_and_recovers",
    ),
    "coefficient: NaN is small": (
        "ops/losses.py",
        "jnp.where(kl < kl_target / 1.5, 0.5, jnp.where(kl > kl_target * 1.5, 2.0, 1.0))",
        "jnp.where(kl > kl_target * 1.5, 2.0, jnp.where(kl >= kl_target / 1.5, 1.0, 0.5))",
        "test_a_kl_that_is_not_a_number_changes_nothing",
    ),
    "kl: the estimator that can be negative": (
        "ops/losses.py",
        "(jnp.expm1(log_ratio) - log_ratio)",
        "(-log_ratio)",
        "test_approximate_kl_is_never_negative",
    ),
    "kl: of new to old": (
        "ops/losses.py",
        "log_ratio = log_prob - old_log_prob",
        "log_ratio = old_log_prob - log_prob",
        "test_approximate_kl_is_of_old_to_new",
    ),
    "standardize: ddof 1": (
        "ops/losses.py",
        "jnp.square(centred).mean()",
        "jnp.square(centred).sum() / (x.size - 1)",
        "test_standardize_without_spread_gives_0",
    ),
    "standardize: no eps": (
        "ops/losses.py",
        ".mean() + eps)",
        ".mean())",
        "test_standardize_without_spread_gives_0",
    ),
    "standardize: divides by the variance": (
        "ops/losses.py",
        "centred * jax.lax.rsqrt(",
        "centred / (",
        "test_standardize_to_mean_0_and_deviation_1",
    ),
    "explained variance: an offset counts": (
        "ops/losses.py",
        "(target - prediction).var() /",
        "jnp.square(target - prediction).mean() /",
        "test_explained_variance",
    ),
    "td target: behind the end": (
        "ops/losses.py",
        "jnp.where(discount == 0, 0.0, discount * next_value)",
        "discount * next_value",
        "test_td_target_by_hand",
    ),
    "td target: not discounted": (
        "ops/losses.py",
        "jnp.where(discount == 0, 0.0, discount * next_value)",
        "jnp.where(discount == 0, 0.0, next_value)",
        "test_td_target_by_hand",
    ),
    "td target: without the reward": (
        "ops/losses.py",
        "return reward + jnp.where(discount == 0",
        "return jnp.where(discount == 0",
        "test_td_target_by_hand",
    ),
    "td target: any shape": (
        "ops/losses.py",
        "    chex.assert_equal_shape([reward, discount, next_value])\n",
        "",
        "test_values_refuse_a_stray_axis",
    ),
    "soft value: entropy is a cost": (
        "ops/losses.py",
        "(probability * (q - alpha * log_prob)).sum(-1)",
        "(probability * (q + alpha * log_prob)).sum(-1)",
        "test_soft_value_by_hand",
    ),
    "soft value: no entropy": (
        "ops/losses.py",
        "(probability * (q - alpha * log_prob)).sum(-1)",
        "(probability * q).sum(-1)",
        "test_soft_value_by_hand",
    ),
    "soft value: the mean of all actions": (
        "ops/losses.py",
        "(probability * (q - alpha * log_prob)).sum(-1)",
        "(q - alpha * log_prob).mean(-1)",
        "test_soft_value_is_the_expectation_over_actions",
    ),
    "soft value: the entropy of equal chances": (
        "ops/losses.py",
        "(probability * (q - alpha * log_prob)).sum(-1)",
        "(probability * q - alpha * log_prob / q.shape[-1]).sum(-1)",
        "test_soft_value_is_the_expectation_over_actions",
    ),
    "soft value: any shape": (
        "ops/losses.py",
        "    chex.assert_equal_shape([q, probability, log_prob])\n",
        "",
        "test_values_refuse_a_stray_axis",
    ),
    "temperature: wrong way": (
        "ops/losses.py",
        "(entropy - target_entropy)",
        "(target_entropy - entropy)",
        "test_temperature_rises_while_entropy_is_short",
    ),
    "temperature: sign of the target": (
        "ops/losses.py",
        "(entropy - target_entropy)",
        "(entropy + target_entropy)",
        "test_temperature_rises_while_entropy_is_short",
    ),
    "temperature: pulls at the policy": (
        "ops/losses.py",
        "jax.lax.stop_gradient(entropy - target_entropy)",
        "(entropy - target_entropy)",
        "test_temperature_loss_leaves_the_policy_alone",
    ),
}
