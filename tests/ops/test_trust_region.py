"""The natural gradient step against explicit matrices, NumPy's solver and searches worked by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from tiny import assert_close, lane, same_bits

from purerl.ops.trust_region import conjugate_gradient, fisher_vector_product, line_search, scale_to_limit

pytestmark = pytest.mark.usefixtures("strict_ranks")

STATES, HIDDEN, ACTIONS, SIZE = 16, 4, 3, 20
OBS = np.random.default_rng(0).normal(size=(STATES, 2)).astype(np.float32)


def init_params(family):
    """Fewer than 100 numbers; a normal policy also learns its deviation."""
    rng = np.random.default_rng(1)
    sizes = {"w0": (2, HIDDEN), "b0": (HIDDEN,), "w1": (HIDDEN, ACTIONS), "b1": (ACTIONS,)}
    params = {name: jnp.float32(rng.normal(size=size)) for name, size in sizes.items()}
    return params | ({"log_std": jnp.array([-0.7, 0.1, 0.4])} if family == "normal" else {})


def outputs(params):
    """Logits or means, `[STATES, ACTIONS]`."""
    one = lambda obs: jnp.tanh(obs @ params["w0"] + params["b0"]) @ params["w1"] + params["b1"]
    return jax.vmap(one)(jnp.asarray(OBS))


def make_mean_kl(family, old):
    """The textbook KL(old || new) of either family, averaged over the states."""

    def categorical(new):
        log_old, log_new = (jax.nn.log_softmax(outputs(params)) for params in (old, new))
        return (jnp.exp(log_old) * (log_old - log_new)).sum(-1).mean()

    def normal(new):
        one = lambda old_mean, mean: (
            new["log_std"]
            - old["log_std"]
            + (jnp.exp(2 * old["log_std"]) + (old_mean - mean) ** 2) / (2 * jnp.exp(2 * new["log_std"]))
            - 0.5
        ).sum()
        return jax.vmap(one)(outputs(old), outputs(new)).mean()

    return {"categorical": categorical, "normal": normal}[family]


def exact_fisher(family, flat, unravel):
    """`E[grad log p grad log p']`, by enumeration or from the normal's own Fisher matrix."""
    jacobian = np.float64(jax.jacobian(lambda x: outputs(unravel(x)))(flat))  # [STATES, ACTIONS, P]
    if family == "categorical":
        log_prob = lambda x: jax.nn.log_softmax(outputs(unravel(x)))
        p, scores = np.exp(np.float64(log_prob(flat))), np.float64(jax.jacobian(log_prob)(flat))
        return np.einsum("sa,sai,saj->ij", p, scores, scores) / STATES
    precision = np.exp(-2 * np.float64(unravel(flat)["log_std"]))
    fisher = np.einsum("a,sai,saj->ij", precision, jacobian, jacobian) / STATES
    is_log_std = ravel_pytree(jax.tree.map(jnp.zeros_like, unravel(flat)) | {"log_std": jnp.ones(ACTIONS)})[0]
    return fisher + 2 * np.diag(is_log_std)


@pytest.fixture(scope="module", params=["categorical", "normal"])
def policy(request):
    """The family, its parameters, and F's columns as the products with unit vectors give them."""
    params = init_params(request.param)
    flat, unravel = ravel_pytree(params)

    @jax.jit
    def columns(params, damping):
        product = fisher_vector_product(make_mean_kl(request.param, params), params, damping)
        return jax.vmap(lambda v: ravel_pytree(product(unravel(v)))[0])(jnp.eye(flat.size))

    return request.param, flat, unravel, columns


def test_fisher_products_are_those_of_the_explicit_matrix(policy):
    """The Hessian of the mean KL, which is also the mean outer product of the scores."""
    family, flat, unravel, columns = policy
    fisher = np.asarray(columns(unravel(flat), 0.0))
    assert flat.size < 100
    old = unravel(flat)
    hessian = jax.jit(jax.hessian(lambda x: make_mean_kl(family, old)(unravel(x))))(flat)
    np.testing.assert_allclose(fisher, hessian, atol=1e-4)
    np.testing.assert_allclose(fisher, exact_fisher(family, flat, unravel), atol=1e-4)
    np.testing.assert_allclose(fisher, fisher.T, atol=1e-5)


def test_fisher_is_positive_and_not_small(policy):
    """v'Fv > 0 along 100 directions: a matrix of zeros, as from a stopped gradient, has none."""
    _, flat, unravel, columns = policy
    vectors = np.random.default_rng(2).normal(size=(100, flat.size))
    fisher = np.float64(columns(unravel(flat), 0.0))
    assert np.einsum("vi,ij,vj->v", vectors, fisher, vectors).min() > 0.05


def test_damping_adds_its_multiple_of_the_vector(policy):
    """It goes on F's diagonal, and nowhere else."""
    _, flat, unravel, columns = policy
    plain, damped = (np.asarray(columns(unravel(flat), damping)) for damping in (0.0, 0.25))
    np.testing.assert_allclose(damped - plain, 0.25 * np.eye(flat.size), atol=1e-6)


def test_products_share_the_work_at_params():
    """The KL is evaluated once, however many products are taken."""
    calls = []
    product = fisher_vector_product(lambda x: calls.append(1) or (x**4).sum(), jnp.ones(3), 0.0)
    for _ in range(5):
        np.testing.assert_allclose(product(jnp.arange(3.0)), 12 * np.arange(3))
    assert len(calls) == 1


def spd(seed, largest=10.0):
    """A random symmetric positive definite matrix with eigenvalues from 1 to `largest`."""
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.normal(size=(SIZE, SIZE)))
    return (basis * np.geomspace(1, largest, SIZE) @ basis.T).astype(np.float32), np.float32(
        rng.normal(size=SIZE)
    )


@jax.jit
def solve(matrix, b):
    return conjugate_gradient(lambda v: matrix @ v, b, SIZE)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [1e-20, 1.0, 1e20])
def test_conjugate_gradient_solves(seed, size):
    """As NumPy does, in as many steps as dimensions, whatever the size of the gradient."""
    matrix, b = spd(seed)
    x = np.float64(solve(matrix, b * np.float32(size))) / size
    np.testing.assert_allclose(x, np.linalg.solve(np.float64(matrix), b), atol=2e-5)
    assert np.linalg.norm(np.float64(matrix) @ x - b) < 1e-4 * np.linalg.norm(b)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_conjugate_gradient_takes_a_step_per_eigenvalue(steps):
    """With k different eigenvalues it needs k steps, where descent along residuals goes on."""
    diagonal = jnp.array([1.0, 7.0, 30.0])[jnp.arange(SIZE) % steps]
    b = jnp.asarray(spd(0)[1])
    x = conjugate_gradient(lambda v: diagonal * v, b, steps)
    np.testing.assert_allclose(x, b / diagonal, rtol=1e-4, atol=1e-6)


def test_conjugate_gradient_takes_pytrees():
    """Leaves are parts of one vector, which the matrix couples."""
    matrix, b = spd(7)
    tree, unravel = (
        {"w": b[:12].reshape(3, 4), "b": b[12:]},
        ravel_pytree({"w": np.ones((3, 4)), "b": b[12:]})[1],
    )
    flatten = lambda tree: jnp.concatenate([tree["b"], tree["w"].ravel()])
    x = conjugate_gradient(lambda v: unravel(matrix @ flatten(v)), jax.tree.map(jnp.asarray, tree), SIZE)
    expected = np.linalg.solve(np.float64(matrix), flatten(tree))
    assert x["w"].shape == (3, 4)
    np.testing.assert_allclose(flatten(x), expected, atol=2e-5)


def test_conjugate_gradient_of_0_is_0():
    """A gradient of zeros gives zeros, not 0 / 0, alone and beside one that is not 0."""
    matrix, b = spd(3)
    np.testing.assert_array_equal(solve(matrix, jnp.zeros(SIZE)), np.zeros(SIZE))
    both = jax.vmap(solve, (None, 0))(matrix, jnp.stack([jnp.zeros(SIZE), b]))
    np.testing.assert_array_equal(both[0], np.zeros(SIZE))
    np.testing.assert_allclose(both[1], solve(matrix, b), atol=1e-6)


def test_conjugate_gradient_stays_finite_after_the_solution():
    """A residual that has vanished, or rounds to nothing, does not spoil what was found."""
    for matrix in (np.eye(SIZE, dtype=np.float32), spd(4)[0], 1e3 * spd(4)[0]):
        b = jnp.asarray(spd(4)[1])
        x = conjugate_gradient(lambda v, matrix=matrix: matrix @ v, b, 1000)
        np.testing.assert_allclose(x, np.linalg.solve(np.float64(matrix), b), rtol=1e-4, atol=2e-5)


def test_conjugate_gradient_stops_at_curvature_below_0():
    """Along a direction that bends downwards there is no minimum to go to; what went before stays."""
    diagonal, b = jnp.array([3.0, 4.0, -0.5]), jnp.array([1.0, 0.5, 0.5])
    run = lambda b: conjugate_gradient(lambda v: diagonal * v, b, 6)
    np.testing.assert_array_equal(run(jnp.array([0.0, 0.0, 1.0])), [0.0, 0.0, 0.0])
    # b'b / b'Ab is the first step. The second would go up, and those after it down again, far away.
    np.testing.assert_allclose(run(b), b * 1.5 / 3.875, rtol=1e-5)


def test_conjugate_gradient_keeps_nan():
    """A broken gradient or matrix shows, and does not become a step of 0."""
    nan = lambda v: jnp.nan * v
    assert jnp.isnan(conjugate_gradient(lambda v: v, jnp.array([1.0, jnp.nan]), 3)).any()
    assert jnp.isnan(conjugate_gradient(nan, jnp.ones(2), 3)).any()
    assert jnp.isnan(scale_to_limit(nan, jnp.ones(2), 0.01)).all()


@pytest.mark.parametrize("limit", [1e-4, 0.01, 2.0])
@pytest.mark.parametrize("size", [1e-25, 1.0, 1e25])
def test_the_step_has_the_length_that_the_limit_allows(limit, size):
    """s'Fs / 2 is the limit, and s points where the direction does."""
    matrix, x = spd(5)
    step = np.float64(scale_to_limit(lambda v: matrix @ v, jnp.asarray(x * np.float32(size)), limit))
    assert 0.5 * step @ matrix @ step == pytest.approx(limit, rel=1e-4)
    np.testing.assert_allclose(step / np.linalg.norm(step), x / np.linalg.norm(x), atol=1e-5)


def test_the_kl_of_the_step_is_nearly_the_limit(policy):
    """All of it together: natural gradient, scaled, has the KL that it was scaled to."""
    family, flat, unravel, _ = policy
    params, limit = unravel(flat), 1e-4
    mean_kl = make_mean_kl(family, params)
    weight = jnp.float32(np.random.default_rng(3).normal(size=(STATES, ACTIONS)))
    gradient = jax.grad(lambda params: (jax.nn.log_softmax(outputs(params)) * weight).mean())(params)

    @jax.jit
    def natural(params):
        product = fisher_vector_product(mean_kl, params, 0.1)
        direction = conjugate_gradient(product, gradient, 20)
        return scale_to_limit(fisher_vector_product(mean_kl, params, 0.0), direction, limit)

    step = natural(params)
    kl = mean_kl(jax.tree.map(jnp.add, params, step))
    assert kl == pytest.approx(limit, rel=0.1)
    assert np.dot(ravel_pytree(step)[0], ravel_pytree(gradient)[0]) > 0


@pytest.mark.parametrize("curvature", [1.0, 0.0, -1.0])
def test_scale_to_limit_without_a_direction_gives_0(curvature):
    """A direction of 0, or one without positive curvature, gives exactly 0."""
    zero = {"a": jnp.zeros(2), "b": jnp.zeros(())}
    direction = zero if curvature > 0 else jax.tree.map(jnp.ones_like, zero)
    step = scale_to_limit(lambda v: jax.tree.map(lambda leaf: curvature * leaf, v), direction, 0.01)
    assert all((np.asarray(leaf) == 0).all() for leaf in jax.tree.leaves(step))


START = {"w": jnp.array([0.1, -0.0, 1e-30, 3.0]), "b": jnp.array(-7.7)}
STEP = {"w": jnp.array([0.3, 1.0, 0.0, -2.0]), "b": jnp.array(1.1)}


def taken(candidate):
    """The fraction of STEP by which `candidate` is away from START."""
    return (candidate["b"] - START["b"]) / STEP["b"]


@pytest.mark.parametrize(
    ("largest", "backtrack", "fraction"),
    [(2.0, 0.5, 1.0), (0.3, 0.5, 0.25), (0.3, 0.8, 0.8**6), (0.55, 0.5, 0.5)],
)
def test_the_first_fraction_that_passes_is_taken(largest, backtrack, fraction):
    """1, 1/2, 1/4, ...: no smaller one than needed, and none that does not pass."""
    search = jax.jit(lambda x: line_search(lambda new: taken(new) <= x, START, STEP, backtrack, 10))
    params, got = search(largest)
    assert got.dtype == jnp.float32 and got == pytest.approx(fraction, rel=1e-6)
    expected = jax.tree.map(lambda x, s: x + np.float32(fraction) * s, START, STEP)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), params, expected)


def test_params_stay_where_no_fraction_passes():
    """Also -0.0 and what rounds; the fraction says so with 0."""
    for accept in (lambda new: jnp.bool_(False), lambda new: taken(new) < 1e-3):
        params, fraction = jax.jit(lambda accept=accept: line_search(accept, START, STEP, 0.5, 5))()
        assert fraction == 0.0
        assert same_bits(params, START)


def test_a_step_that_is_not_a_number_is_not_taken():
    """Comparisons with NaN are false, so that such a candidate does not pass."""
    step = jax.tree.map(lambda leaf: leaf * jnp.nan, STEP)
    params, fraction = line_search(lambda new: taken(new) <= 2.0, START, step, 0.5, 5)
    assert fraction == 0.0
    assert same_bits(params, START)


@pytest.mark.parametrize(("num_steps", "fraction"), [(0, 0.0), (3, 0.0), (4, 0.125), (9, 0.125)])
def test_no_more_tries_than_allowed(num_steps, fraction):
    """1/8 is the fourth try; after it passed there is no other."""
    tried = []

    def accept(candidate):
        tried.append(float(taken(candidate)))
        return taken(candidate) < 0.2

    with jax.disable_jit():
        _, got = line_search(accept, START, STEP, 0.5, num_steps)
    assert got == fraction
    np.testing.assert_allclose(tried, 0.5 ** np.arange(min(num_steps, 4)), rtol=1e-5)


def test_members_search_on_their_own():
    """Some pass at once, some late, some never; each ends where it does alone."""
    largest = jnp.array([2.0, 0.3, 0.0, 0.06, jnp.nan, 0.6])
    search = jax.jit(lambda x: line_search(lambda new: taken(new) <= x, START, STEP, 0.5, 6))
    params, fraction = jax.jit(jax.vmap(search))(largest)
    np.testing.assert_array_equal(fraction, [1, 0.25, 0, 0.03125, 0, 0.5])
    for i, x in enumerate(largest):
        assert_close(lane(params, i), search(x)[0], rtol=1e-6, atol=0)
        assert fraction[i] > 0 or same_bits(lane(params, i), START)


def test_shapes_must_agree():
    """A vector of another tree or shape is refused before it broadcasts."""
    with pytest.raises(AssertionError):
        line_search(lambda new: jnp.bool_(True), jnp.zeros(3), jnp.zeros((1,)), 0.5, 3)
    with pytest.raises(AssertionError):
        fisher_vector_product(lambda x: (x**2).sum(), jnp.zeros(3), 0.1)(jnp.zeros(1))


MUTANTS = {
    "fisher: no damping": (
        "ops/trust_region.py",
        "fv + damping * v",
        "fv",
        "test_damping_adds_its_multiple_of_the_vector",
    ),
    "fisher: damping stretches": (
        "ops/trust_region.py",
        "fv + damping * v",
        "fv + damping * fv",
        "test_damping_adds_its_multiple_of_the_vector",
    ),
    "fisher: both stopped": (
        "ops/trust_region.py",
        "jax.grad(mean_kl), params)",
        "jax.grad(lambda x: mean_kl(jax.lax.stop_gradient(x))), params)",
        "test_fisher_is_positive_and_not_small",
    ),
    "fisher: wrong sign": (
        "ops/trust_region.py",
        "jax.grad(mean_kl), params)",
        "jax.grad(lambda x: -mean_kl(x)), params)",
        "test_fisher_is_positive_and_not_small",
    ),
    "fisher: half of it": (
        "ops/trust_region.py",
        "fv + damping * v",
        "0.5 * fv + damping * v",
        "test_fisher_products_are_those_of_the_explicit_matrix",
    ),
    "fisher: elsewhere": (
        "ops/trust_region.py",
        "jax.grad(mean_kl), params)",
        "jax.grad(mean_kl), jax.tree.map(lambda x: 0.9 * x, params))",
        "test_fisher_products_are_those_of_the_explicit_matrix",
    ),
    "fisher: the KL anew for every product": (
        "ops/trust_region.py",
        "hessian_product(vector), vector)",
        "jax.jvp(jax.grad(mean_kl), (params,), (vector,))[1], vector)",
        "test_products_share_the_work_at_params",
    ),
    "fisher: any shape": (
        "ops/trust_region.py",
        "        chex.assert_trees_all_equal_shapes(params, vector)\n",
        "",
        "test_shapes_must_agree",
    ),
    "cg: steepest descent": (
        "ops/trust_region.py",
        "_add(residual, beta, direction))",
        "residual)",
        "test_conjugate_gradient_takes_a_step_per_eigenvalue",
    ),
    "cg: beta turned round": (
        "ops/trust_region.py",
        "new_square / jnp.where(stop, 1.0, square)",
        "square / jnp.where(stop, 1.0, new_square)",
        "test_conjugate_gradient_solves",
    ),
    "cg: the residual grows": (
        "ops/trust_region.py",
        "_add(residual, -alpha, product)",
        "_add(residual, alpha, product)",
        "test_conjugate_gradient_solves",
    ),
    "cg: one step short": (
        "ops/trust_region.py",
        "fori_loop(0, num_iters",
        "fori_loop(1, num_iters",
        "test_conjugate_gradient_takes_a_step_per_eigenvalue",
    ),
    "cg: one leaf for all": (
        "ops/trust_region.py",
        "jnp.stack(jax.tree.leaves(products)).sum()",
        "jax.tree.leaves(products)[0]",
        "test_conjugate_gradient_takes_pytrees",
    ),
    "cg: squares underflow": (
        "ops/trust_region.py",
        "residual, scale = _over_largest(b)",
        "residual, scale = b, 1.0",
        "test_conjugate_gradient_solves",
    ),
    "cg: of length 1 for ever": (
        "ops/trust_region.py",
        "lambda leaf: scale * leaf, x)",
        "lambda leaf: leaf, x)",
        "test_conjugate_gradient_solves",
    ),
    "cg: 0 / 0 at once": (
        "ops/trust_region.py",
        "jnp.where(largest < jnp.finfo(jnp.float32).tiny, 1.0, largest)",
        "largest",
        "test_conjugate_gradient_of_0_is_0",
    ),
    "cg: 0 / 0 at the solution": (
        "ops/trust_region.py",
        "stop = (curvature <= 0) | (square <= 0)",
        "stop = curvature < 0",
        "test_conjugate_gradient_stays_finite_after_the_solution",
    ),
    "cg: the residual underflows first": (
        "ops/trust_region.py",
        "stop = (curvature <= 0) | (square <= 0)",
        "stop = curvature <= 0",
        "test_conjugate_gradient_stays_finite_after_the_solution",
    ),
    "cg: up a hill": (
        "ops/trust_region.py",
        "stop = (curvature <= 0) | (square <= 0)",
        "stop = (curvature == 0) | (square <= 0)",
        "test_conjugate_gradient_stops_at_curvature_below_0",
    ),
    "cg: goes on beyond a hill": (
        "ops/trust_region.py",
        "jnp.where(stop, 0.0, p)",
        "p",
        "test_conjugate_gradient_stops_at_curvature_below_0",
    ),
    "cg: hides a NaN": (
        "ops/trust_region.py",
        "stop = (curvature <= 0) | (square <= 0)",
        "stop = ~(curvature > 0) | ~(square > 0)",
        "test_conjugate_gradient_keeps_nan",
    ),
    "limit: no 2": (
        "ops/trust_region.py",
        "jnp.sqrt(2.0 * limit /",
        "jnp.sqrt(limit /",
        "test_the_step_has_the_length_that_the_limit_allows",
    ),
    "limit: no root": (
        "ops/trust_region.py",
        "jnp.sqrt(2.0 * limit /",
        "(2.0 * limit /",
        "test_the_kl_of_the_step_is_nearly_the_limit",
    ),
    "limit: curvature underflows": (
        "ops/trust_region.py",
        "    direction, _ = _over_largest(direction)\n",
        "",
        "test_the_step_has_the_length_that_the_limit_allows",
    ),
    "limit: without curvature": (
        "ops/trust_region.py",
        "flat = curvature <= 0",
        "flat = jnp.bool_(False)",
        "test_scale_to_limit_without_a_direction_gives_0",
    ),
    "limit: hides a NaN": (
        "ops/trust_region.py",
        "flat = curvature <= 0",
        "flat = ~(curvature > 0)",
        "test_conjugate_gradient_keeps_nan",
    ),
    "search: skips the whole step": (
        "ops/trust_region.py",
        "jnp.float32(backtrack) ** tries",
        "jnp.float32(backtrack) ** (tries + 1)",
        "test_the_first_fraction_that_passes_is_taken",
    ),
    "search: one try too many": (
        "ops/trust_region.py",
        "tries < num_steps",
        "tries <= num_steps",
        "test_no_more_tries_than_allowed",
    ),
    "search: down to the smallest": (
        "ops/trust_region.py",
        "~accepted & (tries",
        "(tries",
        "test_the_first_fraction_that_passes_is_taken",
    ),
    "search: goes on after a success": (
        "ops/trust_region.py",
        "~accepted & (tries",
        "(tries",
        "test_no_more_tries_than_allowed",
    ),
    "search: skips every other": (
        "ops/trust_region.py",
        "return tries + 1, accepted",
        "return tries + 2, accepted",
        "test_the_first_fraction_that_passes_is_taken",
    ),
    "search: the last try stays": (
        "ops/trust_region.py",
        "jnp.where(accepted, new, old)",
        "new",
        "test_params_stay_where_no_fraction_passes",
    ),
    "search: nearly as before": (
        "ops/trust_region.py",
        "jnp.where(accepted, new, old)",
        "old + accepted * (new - old)",
        "test_params_stay_where_no_fraction_passes",
    ),
    "search: 0 times NaN": (
        "ops/trust_region.py",
        "jnp.where(accepted, new, old)",
        "accepted * new + (1.0 - accepted) * old",
        "test_a_step_that_is_not_a_number_is_not_taken",
    ),
    "search: a failure has a fraction": (
        "ops/trust_region.py",
        "jnp.where(accepted, fraction, 0.0)",
        "fraction",
        "test_members_search_on_their_own",
    ),
    "search: against the step": (
        "ops/trust_region.py",
        "candidate = _add(params, fraction, step)",
        "candidate = _add(params, -fraction, step)",
        "test_members_search_on_their_own",
    ),
    "search: any shape": (
        "ops/trust_region.py",
        "    chex.assert_trees_all_equal_shapes(params, step)\n",
        "",
        "test_shapes_must_agree",
    ),
}
