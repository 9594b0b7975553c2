"""Policies that a run keeps on its way, in the form of checkpoints without replay buffer and environments.

    RUN/policies/step-000000012000-0003     the policy after 12,000 steps, with 3 rows of metrics finished

Its epoch is that of the logs: the number of rows that are finished. Epoch 0 is the untrained policy.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from purerl.config import ConfigError
from purerl.experiment.checkpoint import discard, newest_first
from purerl.experiment.untrusted import CheckpointError
from purerl.health import split_replay
from purerl.shown import shorten
from purerl.types import TrainState

FOLDER = "policies"


class KeptPolicy(NamedTuple):
    """Place of a kept policy in its run."""

    epoch: int
    """Rows of metrics that were finished, as in the logs; 0 for the untrained policy."""
    step: int
    """Environment steps of each member."""


def policy_of(state: TrainState) -> TrainState:
    """Return what is kept of the state of all members."""
    return state._replace(algo=split_replay(state.algo)[0], env=(), carry=())


def policies_in(run: Path) -> dict[KeptPolicy, Path]:
    """Return the policies of the run in the directory `run`, by name, ascending. Raises as `newest_first`."""
    paths = reversed(newest_first(run / FOLDER))
    return {_place(path): path for path in paths}


def policy_at(run: Path, epoch: int) -> Path:
    """Return the directory of the policy of `epoch`. Raises ConfigError if it is not kept."""
    found = policies_in(run)
    for kept, path in found.items():
        if kept.epoch == epoch:
            return path
    if not found:
        what = f"no value, since the run in {run} keeps no policy by its epoch"
        raise ConfigError("itr", epoch, what, "Train with snapshot_interval.")
    nearest = min(found, key=lambda kept: abs(kept.epoch - epoch))
    names = ", ".join(f"{kept.epoch} (step {kept.step:,})" for kept in found)
    what = f"an epoch whose policy is kept: {shorten(names, 300)}"
    raise ConfigError("itr", epoch, what, f"The nearest is {nearest.epoch}.")


def drop_later(run: Path, rows: int) -> None:
    """Remove the policies of epochs after `rows`, which a resumed run repeats. Raises CheckpointError."""
    try:
        for kept, path in policies_in(run).items():
            if kept.epoch > rows:
                discard(path)
    except OSError as error:
        raise CheckpointError(f"a policy in {run / FOLDER} cannot be removed: {error}") from error


def _place(path: Path) -> KeptPolicy:
    _, step, epoch = path.name.split("-")
    return KeptPolicy(int(epoch), int(step))
