"""An algorithm that learns nothing and reports the `step` with which its functions are called.

A policy of it plays `step / 1000`, exploring or not; update metrics hold the steps of all actions. It is no
algorithm of the registry: `make_driver` and `make_train` find this module by the class of the config.
"""

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from tiny import plain

from purerl.config import Config, count
from purerl.types import Algorithm


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpyConfig(Config):
    algo: ClassVar[str] = "spy"
    num_steps: int = count(3)
    learning_starts: int = count(0, low=0)


class State(NamedTuple):
    observed: jax.Array
    """Rollouts that `observe` saw."""
    warm: jax.Array
    """Rollouts among them without extras, which no policy made."""


def validate(cfg, spec):
    pass


def make(cfg, spec, networks=None):
    def act(state, carry, obs, key, step, *, explore):
        assert jnp.shape(step) == (), "the step is never batched"
        action = jnp.full((len(obs), *spec.action_space.shape), step / 1000)
        return action, carry, {"step": jnp.full(len(obs), step)}

    def observe(state, transition):
        return State(state.observed + 1, state.warm + (transition.extras == ()))

    def update(state, transition, key, step):
        seen = transition.extras["step"]
        steps = {"seen/act_first": seen.min(), "seen/act_last": seen.max(), "seen/update": step}
        return observe(state, transition), {name: jnp.float32(value) for name, value in steps.items()}

    return Algorithm(
        init=lambda key: State(jnp.int32(0), jnp.int32(0)),
        act=act,
        observe=observe,
        update=update,
        num_envs=cfg.num_envs,
        num_steps=cfg.num_steps,
        warmup_steps=cfg.learning_starts,
    )


def rows(state) -> list[int]:
    """Return `[rollouts observed, of them in the warm-up]`."""
    return [int(plain(leaf)) for leaf in state]
