"""The comparisons on which other tests rely: each can fail."""

import jax
import jax.numpy as jnp
import pytest
from tiny import assert_close, same_bits

TREE = {
    "key": jax.random.key(0),
    "flags": jnp.array([True, False]),
    "numbers": jnp.array([0.0, 1.0, jnp.nan]),
}
OTHERS = [
    ("key", jax.random.key(1)),
    ("flags", jnp.array([True, True])),
    ("numbers", jnp.array([-0.0, 1.0, jnp.nan])),
    ("numbers", jnp.array([0.0, 1.0, 2.0])),
]


@pytest.mark.parametrize(("name", "other"), OTHERS)
def test_one_bit_is_enough(name, other):
    assert same_bits(TREE, dict(TREE)) and not same_bits(TREE, TREE | {name: other})


def test_closeness_is_of_every_leaf():
    assert_close(TREE, TREE | {"numbers": TREE["numbers"] + 1e-6})
    for name, other in (OTHERS[0], OTHERS[1], OTHERS[3], ("numbers", TREE["numbers"] + 1e-3)):
        with pytest.raises(AssertionError, match=name):
            assert_close(TREE, TREE | {name: other})
    with pytest.raises(AssertionError):
        assert_close(TREE, TREE | {"more": jnp.zeros(1)})
