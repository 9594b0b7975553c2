"""Random orders, passes over a rollout, and rows that stay together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import workbench as wb
from flax.linen import initializers
from gymnasium import spaces
from workbench import KEY

import purerl
from purerl import normalize
from purerl.algos import on_policy
from purerl.pixels import pixel_encoder
from purerl.programs import working_bytes
from purerl.train import make_driver

MUTANTS = {
    "all images at once": (
        "algos/on_policy.py",
        "if leaves[0].shape[0] <= IMAGE_ROWS or all(",
        "if leaves[0].shape[0] >= IMAGE_ROWS or all(",
        "test_images_go_through_a_network_some_at_a_time",
    ),
    "PQN values all images at once": (
        "algos/pqn.py",
        "on_policy.in_passes(partial(q.apply, state.params), next_obs)",
        "q.apply(state.params, next_obs)",
        "test_a_rollout_of_images_takes_little_memory[pqn]",
    ),
    "PPO's penalty takes all images at once": (
        "algos/ppo.py",
        "on_policy.in_passes(partial(model.outputs, params), obs)",
        "model.outputs(params, obs)",
        "test_a_rollout_of_images_takes_little_memory[penalty]",
    ),
    "PPO values all images at once": (
        "algos/on_policy.py",
        "(in_passes(value, o).reshape(shape) for o in (obs, next_obs))",
        "(value(o).reshape(shape) for o in (obs, next_obs))",
        "test_a_rollout_of_images_takes_little_memory[ppo]",
    ),
}


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8, 9, 4096, 4097])
def test_a_permutation_has_every_number_once(rows):
    order = np.asarray(wb.permutations(KEY, 3, rows))
    assert order.dtype == np.int32
    assert (np.sort(order, -1) == np.arange(rows)).all()
    if rows > 8:
        assert len({one.tobytes() for one in order}) == 3
        assert all(len({*np.flatnonzero(one == np.arange(rows))}) < rows / 2 for one in order)


@pytest.mark.parametrize("rows, limit", [(2, 10.8), (5, 39.3)])
def test_every_number_is_everywhere_equally_often(rows, limit):
    """Chi-square with (rows - 1)^2 degrees of freedom; chance exceeds the limit one time in a thousand."""
    order = np.asarray(wb.permutations(KEY, 20_000, rows))
    found = np.array([[(order[:, place] == number).sum() for number in range(rows)] for place in range(rows)])
    expected = len(order) / rows
    assert (np.square(found - expected) / expected).sum() * (rows - 1) / rows < limit


def test_all_orders_of_four_are_equally_likely():
    order = np.asarray(wb.permutations(KEY, 24_000, 4))
    _, found = np.unique(order, axis=0, return_counts=True)
    assert len(found) == 24
    assert (np.square(found - 1000.0) / 1000.0).sum() < 49.8, "chi-square of 23, one in a thousand"


def test_flattening_takes_the_environments_of_a_step_first():
    ids = np.arange(6 * 5).reshape(6, 5)
    flat = on_policy.flatten_time({"scalar": jnp.asarray(ids), "row": jnp.asarray(np.stack([ids, ids], -1))})
    assert (flat["scalar"] == np.arange(30)).all() and flat["row"].shape == (30, 2)
    assert (flat["row"] == np.arange(30)[:, None]).all()


def working_bytes_of(function, *args):
    return working_bytes(jax.jit(function).lower(*args).compile().memory_analysis())


def test_images_go_through_a_network_some_at_a_time():
    """The values are those of one pass, also of a last pass that is not full; vectors are one product."""
    encoder = pixel_encoder(spaces.Box(0, 1, (10, 10, 4)), initializers.lecun_normal())
    obs = jax.random.uniform(KEY, (7 * on_policy.IMAGE_ROWS + 100, 10, 10, 4))
    params = encoder.init(KEY, obs[:1])
    whole = lambda obs: encoder.apply(params, obs["screen"]).sum(-1)
    passes = lambda obs: on_policy.in_passes(whole, obs)
    parts = {"screen": obs, "speed": obs[:, 0, 0]}
    np.testing.assert_allclose(jax.jit(passes)(parts), whole(parts), rtol=1e-5)
    assert working_bytes_of(passes, parts) < working_bytes_of(whole, parts) / 4
    assert on_policy.in_passes(lambda rows: jnp.full(len(rows), len(rows)), parts["speed"])[0] == len(obs)


@pytest.mark.parametrize(
    ("algo", "penalty"),
    [
        pytest.param("ppo", {}, id="ppo"),
        pytest.param("ppo", {"clip_eps": None, "kl_penalty_target": 0.01}, id="penalty"),
        pytest.param("pqn", {}, id="pqn"),
    ],
)
def test_a_rollout_of_images_takes_little_memory(algo, penalty):
    """An iteration on 4,096 images of breakout: it takes 10 MB, and 117 MB where all are valued at once."""
    fields = {"num_envs": 128, "num_steps": 32, "num_minibatches": 32, "eval_interval": 0} | penalty
    driver = make_driver(purerl.make_config(algo, env="breakout", **fields))
    state = jax.eval_shape(driver.init, KEY, {})
    needed = working_bytes_of(lambda state, step: driver.chunk(state, step, {}, 1), state, jnp.int32(0))
    assert needed < 4e7


def test_an_epoch_takes_each_row_once():
    ids = jnp.arange(24.0).reshape(6, 4)  # t * N + n
    rollout = {"obs": jnp.stack([ids, ids], -1), "action": ids.astype(jnp.int32), "log_prob": ids}
    batch = on_policy.flatten_time(rollout) | {"advantage": jnp.arange(24.0)}

    def look(steps, minibatch):
        return steps + 1, minibatch

    @jax.jit
    def epochs(keys):
        one = lambda steps, key: on_policy.one_epoch(look, steps, batch, key, num_minibatches=4)
        return jax.lax.scan(one, jnp.int32(0), keys)

    steps, seen = epochs(jax.random.split(KEY, 3))
    assert steps == 12 and seen["action"].shape == (3, 4, 6)
    order = np.asarray(seen["action"]).reshape(3, 24)
    assert (np.sort(order, -1) == np.arange(24)).all(), "a row is missing, or comes twice"
    assert len({one.tobytes() for one in order}) == 3, "the same order again"
    for name in ("log_prob", "advantage"):
        assert (seen[name] == seen["action"]).all(), name
    assert (seen["obs"] == seen["action"][..., None]).all()


def test_rewards_are_scaled_and_never_centred():
    """A reward of 1 at every step stays positive, however well it is known."""
    bench = wb.Bench("vpg", "cartpole", normalize_reward=True)
    normalizer = normalize.init(bench.cfg, bench.spec)
    returns = normalizer.returns._replace(count=jnp.uint32(9), mean=jnp.float32(5), variance=jnp.float32(4))
    normalizer = normalizer._replace(returns=returns)
    scaled = normalize.normalize_reward(bench.cfg, normalizer, jnp.array([1.0, -3.0, 100.0, -100.0]))
    np.testing.assert_allclose(scaled, [0.5, -1.5, 10.0, -10.0], rtol=1e-6)


MUTANTS = {
    "permutation: numbers twice": (
        "algos/on_policy.py",
        "jnp.uint32) & ~numbers |",
        "jnp.uint32) & numbers |",
        "test_a_permutation_has_every_number_once",
    ),
    "permutation: in order": (
        "algos/on_policy.py",
        "jax.random.bits(key, (rows,), jnp.uint32) & ~numbers",
        "jnp.uint32(0)",
        "test_every_number_is_everywhere_equally_often",
    ),
    "permutation: two random bits": (
        "algos/on_policy.py",
        "jnp.uint32) & ~numbers |",
        "jnp.uint32) & ~numbers & jnp.uint32(3 << 30) |",
        "test_all_orders_of_four_are_equally_likely",
    ),
    "epoch: in the order of the rollout": (
        "algos/on_policy.py",
        "order = permutation(key, rows)",
        "order = jnp.arange(rows)",
        "test_an_epoch_takes_each_row_once",
    ),
    "epoch: rows drawn with replacement": (
        "algos/on_policy.py",
        "order = permutation(key, rows)",
        "order = jax.random.randint(key, (rows,), 0, rows)",
        "test_an_epoch_takes_each_row_once",
    ),
    "flatten: environments first": (
        "algos/on_policy.py",
        "leaf.reshape(-1, *leaf.shape[2:])",
        "jnp.swapaxes(leaf, 0, 1).reshape(-1, *leaf.shape[2:])",
        "test_flattening_takes_the_environments_of_a_step_first",
    ),
}
