"""`check_env`: every fault of an environment at once, a sentence each."""

from __future__ import annotations

from purerl.envs.check.behaviour import check_behaviour
from purerl.envs.check.interface import check_interface
from purerl.envs.check.types import check_types
from purerl.types import Env, PyTree


class EnvError(ValueError):
    """An environment that breaks the contract; `faults` has a sentence for each way it does."""

    def __init__(self, faults: list[str]):
        self.faults = tuple(faults)
        super().__init__("\n  - ".join(["invalid environment (fixing these may reveal more):", *faults]))


def check_env(env: Env, params: PyTree = None, *, deterministic_reset: bool = False) -> None:
    """Raise EnvError with everything that is wrong with an environment.

    First the attributes and signatures. Then what `reset` and `step` return when traced: shapes, dtypes, weak
    types, and that they batch under `vmap`, also over `params`. Where these are right, the behaviour:

    - the same arguments give the same results: called twice, traced twice, alone and in a batch, and with
      `params=None` as with `default_params`;
    - different keys give different starts;
    - in up to 10,000 steps of random actions, numbers are finite and within `observation_space`,
      `truncated` comes at `max_episode_steps` and not before, and no episode ends with the start that `reset`
      draws from the step's key or a split of it, as from a step that resets itself.

    No correct environment fails; some faults are beyond random play, such as a time limit that every episode
    ends before, or one beyond 5,000 steps, or a step that resets itself in another way.

    Args:
        env: the environment.
        params: to check it with; if None, those that `default_params` and `params=None` mean.
        deterministic_reset: True if `reset` may give the same start for every key.

    Raises:
        EnvError: if there is any fault; its `faults` has a sentence for each.
    """
    task, faults = check_interface(env, params)
    if all(part is not None for part in (task.reset, task.step, task.action_space)):
        type_faults = [*check_types(task)]
        faults += type_faults or check_behaviour(task, deterministic_reset)
    if faults:
        raise EnvError(faults)
