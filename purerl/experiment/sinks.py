"""Sinks of a run's metrics beside its files: TensorBoard, Weights & Biases, and callables of the user's own.

A sink is a function of one finished row: each metric an array `[S]`, with `epoch`, `step` and `time`, NaN
where there is no value. It may have a `close`, called once at the end. One that fails gets no more rows, as
a line says, and training goes on.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from purerl.config import Config, ConfigError, to_dict
from purerl.experiment.atomic import write_whole
from purerl.members import Members

Row = Mapping[str, np.ndarray]
Sink = Callable[[Row], Any]
KNOWN = ("tensorboard", "wandb")
"""Sinks that have a name."""


class Sinks:
    """The sinks of one run; `say` prints a line.

    Raises ConfigError for one that cannot be made.
    """

    def __init__(
        self,
        wanted: Sequence[str | Sink],
        say: Callable[[str], None],
        *,
        path: Path | None,
        cfg: Config,
        members: Members,
        exp_name: str,
        step: int = 0,
    ):
        self._say, self._sinks = say, []
        make: dict[str, Callable[[str], Sink]] = {
            "tensorboard": lambda _: TensorBoard(path, members.names, step),
            "wandb": lambda project: WandB(project or "purerl", path, cfg, members, exp_name),
        }
        for one in wanted:
            try:
                name, _, argument = one.partition(":") if isinstance(one, str) else ("", "", "")
                self._sinks.append(make[name](argument) if name else one)
            except Exception as error:  # such as of a service that knows no key of the user's
                self.close()
                what = f"a sink that can be opened, got {type(error).__name__}: {error}"
                raise ConfigError("sinks", one, what) from error

    def write(self, row: Row) -> None:
        """Give a finished row to every sink."""
        for sink in [*self._sinks]:
            try:
                sink(row)
            except Exception as error:  # of the user's code, or a service that is away
                self._sinks.remove(sink)
                self._say(f"{_name(sink)} failed, and gets no more rows: {type(error).__name__}: {error}")

    def close(self) -> None:
        """Close all sinks that can be closed."""
        for sink in self._sinks:
            try:
                getattr(sink, "close", lambda: None)()
            except Exception as error:
                self._say(f"{_name(sink)} could not be closed: {type(error).__name__}: {error}")
        self._sinks = []


def check_sinks(wanted: Sequence[Any], path: Path | None) -> None:
    """Raise ConfigError unless each of `wanted` is a function, or names a sink that a run can have."""
    if isinstance(wanted, str) or not isinstance(wanted, Sequence):
        raise ConfigError("sinks", wanted, "a list of functions and names", "Write a list of one.")
    for one in wanted:
        known = isinstance(one, str) and (one == "tensorboard" or one.partition(":")[0] == "wandb")
        if not callable(one) and not known:
            raise ConfigError("sinks", one, "a function of a row, 'tensorboard', or 'wandb:PROJECT'")
        if one == "tensorboard" and path is None:
            raise ConfigError("sinks", one, "a run with a logdir, into which TensorBoard's files go")
        if isinstance(one, str):
            _module(one.partition(":")[0])


class TensorBoard:
    """A directory of events for every member, in the member's own: `tensorboard --logdir RUN` shows all."""

    def __init__(self, path: Path | None, names: Sequence[str], step: int):
        assert path
        writer = _module("tensorboard").SummaryWriter
        purge = step + 1 if step else None  # rows after the checkpoint come again
        suffix = f".{step}"  # files of one second would have one name
        self._writers = [writer(str(path / n), purge_step=purge, filename_suffix=suffix) for n in names]

    def __call__(self, row: Row) -> None:
        for writer, values in zip(self._writers, _by_member(row), strict=True):
            for name, value in values.items():
                writer.add_scalar(name, value, int(row["step"][0]))

    def close(self) -> None:
        """Write what is left, and close the files."""
        for writer in self._writers:
            writer.close()


class WandB:
    """A run of Weights & Biases for every member, all in one group; a resumed run goes on with them."""

    def __init__(self, project: str, path: Path | None, cfg: Config, members: Members, exp_name: str):
        group, run_id = (path.name, _run_id(path)) if path else (exp_name, "")
        self._runs = [
            _module("wandb").init(
                project=project,
                group=group,
                name=f"{exp_name}-{name}",
                id=f"{run_id}-{i}" if path else None,
                resume="allow" if path else None,
                dir=os.fspath(path) if path else None,
                config=to_dict(cfg) | facts,
                reinit="create_new",
            )
            for i, (name, facts) in enumerate(zip(members.names, members.facts, strict=True))
        ]

    def __call__(self, row: Row) -> None:
        for run, values in zip(self._runs, _by_member(row), strict=True):
            run.log(values, step=int(row["step"][0]))

    def close(self) -> None:
        """End the runs."""
        for run in self._runs:
            run.finish()


def _run_id(path: Path) -> str:
    """Return the id of a run at the service, which stays with its directory."""
    place = path / "wandb-id.txt"
    if not place.exists():
        write_whole(place, f"{uuid4().hex}\n")
    return re.sub(r"[^0-9a-f]", "", place.read_text("utf-8")[:64])


def _by_member(row: Row) -> Iterator[dict[str, float]]:
    """Yield the metrics of each member that have a value."""
    for i in range(len(row["step"])):
        yield {name: float(v[i]) for name, v in row.items() if np.isfinite(v[i])}


def _module(name: str) -> Any:
    """Return the package of a sink. Raises ConfigError if it is not installed."""
    try:
        if name == "tensorboard":
            import tensorboardX

            return tensorboardX
        import wandb  # pyright: ignore[reportMissingImports]

        return wandb
    except ImportError as error:
        hint = f'Try pip install "purerl[{name}]".'
        raise ConfigError("sinks", name, "a sink whose package is installed", hint) from error


def _name(sink: Any) -> str:
    return getattr(sink, "__name__", type(sink).__name__)
