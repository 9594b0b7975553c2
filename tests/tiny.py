"""Tiny configurations, and comparisons of trees: the one place that tests take them from.

    from tiny import SMALL, assert_close, same_bits, tiny

    cfg = tiny("ppo", "cartpole", num_steps=8)   # a Config: 40 steps in rows of 16, networks of 8 units
    cfg = tiny("sac")                            # on the first environment of ENVIRONMENTS that suits it
    fields = tiny_fields("sac", "pendulum")      # the same as a dict, for `make_config` or a command line

`tiny` sets the fields of `SMALL` that the algorithm has; keyword arguments override them. Compare bits
(`same_bits`) only between calls of one compiled program; between programs use `assert_close`, with a
tolerance that a breakage exceeds.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import purerl
from purerl import registry
from purerl.config import Config, ConfigError, from_dict
from purerl.make import spec_of

CAPACITY = 22
"""Rows of the replay buffer: a size that no other axis has, and fewer than the run makes."""
SMALL = {
    "num_envs": 2,
    "num_steps": 4,
    "num_epochs": 2,
    "num_minibatches": 2,
    "total_timesteps": 40,
    "log_interval": 16,
    "eval_interval": 16,
    "eval_episodes": 3,
    "learning_rate": 0.03,
    "value_learning_rate": 0.03,
    "learning_starts": 8,
    "batch_size": 4,
    "buffer_size": CAPACITY,
    "hidden_sizes": (8,),
    "rnn_size": 8,
    "burn_in": 2,
    "sequence_length": 3,
}
"""Fields of the tiny runs, for the algorithms that have them."""
ENVIRONMENTS = {
    "cartpole": {"angle_limit": 0.05, "max_episode_steps": 7},
    "pendulum": {"max_episode_steps": 5},
}
"""Keyword arguments with which episodes end within a few steps, cartpole's both ways."""


def tiny_fields(algo: str | type[Config], env: str | None = None, **fields: Any) -> dict[str, Any]:
    """Return the fields of `tiny` as a dict, without `algo`."""
    cls = registry.config_class(algo) if isinstance(algo, str) else algo
    env = environments_of(cls)[0] if env is None else env
    known = {field.name for field in dataclasses.fields(cls)}
    values = {name: value for name, value in SMALL.items() if name in known}
    return values | {"env": env, "env_kwargs": dict(ENVIRONMENTS.get(env, {}))} | fields


def tiny(algo: str | type[Config], env: str | None = None, **fields: Any) -> Config:
    """Return the Config of a tiny run of `algo` on `env`, with other `fields` if given."""
    cls = registry.config_class(algo) if isinstance(algo, str) else algo
    return from_dict(cls, tiny_fields(cls, env, **fields))


@functools.cache
def environments_of(cls: type[Config]) -> tuple[str, ...]:
    """Return the names in ENVIRONMENTS whose actions suit the algorithm, its default first."""
    names = sorted(ENVIRONMENTS, key=lambda env: env != cls.__dataclass_fields__["env"].default)
    found = tuple(env for env in names if _suits(tiny(cls, env)))
    assert found, f"{cls.algo} suits none of {', '.join(ENVIRONMENTS)}"
    return found


def _suits(cfg: Config) -> bool:
    try:
        registry.algorithm_module(cfg).validate(cfg, spec_of(purerl.make_env(cfg.env)))
    except ConfigError as error:
        assert error.field == "env", error
        return False
    return True


# Trees


def is_key(leaf: Any) -> bool:
    """Return True for a typed random key."""
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def plain(leaf: Any) -> np.ndarray:
    """Return an array or a key as a NumPy array."""
    return np.asarray(jax.random.key_data(leaf) if isinstance(leaf, jax.Array) and is_key(leaf) else leaf)


def lane(tree: Any, i: int) -> Any:
    """Return member `i` of `tree [S, ...]` in NumPy: an eager JAX operation compiles for every shape."""
    return jax.tree.map(lambda leaf: plain(leaf)[i], tree)


def on_device(tree: Any, like: Any) -> Any:
    """Return `tree`, as `lane` or `plain` make it, as arrays and keys again, as in `like`."""

    def wrap(leaf: Any, like: Any) -> Any:
        array = jnp.asarray(leaf)
        return jax.random.wrap_key_data(array, impl=jax.random.key_impl(like)) if is_key(like) else array

    return jax.tree.map(wrap, tree, like)


def seed_keys(*seeds: int, root: int = 0) -> jax.Array:
    """Return the root keys `[S]` of these members of a run whose `seed` is `root`."""
    return jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(root), seed))(jnp.array(seeds))


def same_bits(a: Any, b: Any) -> bool:
    """Return True if two trees agree in every bit. For calls of one compiled program only."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(plain(x).tobytes() == plain(y).tobytes() for x, y in pairs)


def assert_close(a: Any, b: Any, rtol: float = 2e-4, atol: float = 2e-5) -> None:
    """Raise AssertionError with the leaf's path where two trees differ by more than rounding."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for (path, x), y in zip(jax.tree.leaves_with_path(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(plain(x), plain(y), rtol, atol, err_msg=jax.tree_util.keystr(path))
