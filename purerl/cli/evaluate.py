"""`purerl eval`: whole episodes with the policies of a run."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from purerl.cast import cast
from purerl.cli.compilation_cache import use_compilation_cache
from purerl.cli.configure import HELP, user_defaults
from purerl.cli.options import help_text, one_directory, read_options
from purerl.config import choice, count, from_dict, mapping, switch, text
from purerl.experiment.display import Lasting
from purerl.experiment.record import config_of, read_record
from purerl.experiment.untrusted import refuse_files
from purerl.make import make_env
from purerl.types import Env, HostEnv
from purerl.user_paths import user_path
from purerl.workbench import stats
from purerl.workbench.evaluation import Evaluation, evaluate_run
from purerl.workbench.table import aligned


@dataclasses.dataclass(frozen=True)
class EvalOptions:
    """Options of the evaluation."""

    episodes: int = count(20, high=2**16)
    """Whole episodes of every member, played side by side."""
    best: bool = switch(False)
    """Play the policy of each member's best evaluation, in place of the newest."""
    itr: int | None = count(None, low=0, optional=True)
    """Play the policy of this epoch, which the run has kept: see --snapshot-interval."""
    stochastic: bool = switch(False)
    """Act with exploration, as in training."""
    seed: int = count(0, low=0, high=2**32 - 1)
    """Root of the random numbers, which are the same for all members."""
    env: str | None = text(None, optional=True)
    """Another task with the same spaces, such as gym:HalfCheetah-v5 for half_cheetah."""
    engine: str = choice("auto", ("auto", "mujoco", "mjx"))
    """Physics engine of a MuJoCo task; auto for the run's own."""
    env_kwargs: Mapping[str, Any] = mapping()
    """Keyword arguments of the task, in place of the run's."""
    compilation_cache: str = text("auto")
    """Directory of compiled programs; auto for one in the user's cache directory, none for no cache."""


def evaluate(argv: Sequence[str]) -> int:
    """Evaluate the run whose directory is in `argv`, print a table, and return 0.

    Raises ConfigError for an unknown option, or a run or task that does not fit.
    """
    if HELP & {*argv}:
        print(help_text("purerl eval", EvalOptions(), usage="%(prog)s RUN [--option value ...]"), end="")
        return 0
    given, words = read_options(argv, EvalOptions)
    run = one_directory(words, "eval", EvalOptions)
    options = from_dict(EvalOptions, user_defaults(EvalOptions) | cast(EvalOptions, given))
    use_compilation_cache(options.compilation_cache)
    done = evaluate_run(
        run,
        options.episodes,
        best=options.best,
        itr=options.itr,
        stochastic=options.stochastic,
        seed=options.seed,
        env=_task(run, options),
    )
    print(describe(done), file=Lasting(sys.stdout))
    return 0


def describe(done: Evaluation) -> str:
    """Return the table of an evaluation: a line for each member, and the mean over those that are healthy."""
    head = ["member", "mean", "std", "min", "max", "length"]
    rows = [
        [name, *(f"{value:,.1f}" for value in (r.mean(), r.std(), r.min(), r.max(), length.mean()))]
        for name, r, length in zip(done.members, done.returns, done.lengths, strict=True)
    ]
    marked = [[*row, "diverged" if sick else ""] for row, sick in zip(rows, done.diverged, strict=True)]
    lines = [line.rstrip() for line in aligned([[*head, ""], *marked])]
    healthy = done.returns[~done.diverged].mean(axis=1)
    if healthy.size > 1:
        low, high = stats.bootstrap_interval(healthy[:, None], stats.mean)
        lines.append(
            f"mean of {healthy.size} members {healthy.mean():,.1f}, 95% interval {low:,.1f} to {high:,.1f}"
        )
    return "\n".join([f"return of {done.returns.shape[1]} episodes:", *lines])


def _task(run: str, options: EvalOptions) -> Env | HostEnv | None:
    """Return the task that the options ask for; None for the run's own."""
    if options.env is None and options.engine == "auto" and not options.env_kwargs:
        return None
    cfg = config_of(read_record(user_path("run", run), "run"))
    same = options.env in (None, cfg.env)
    kwargs = options.env_kwargs or (cfg.env_kwargs if same else {})
    if not options.env_kwargs:
        refuse_files(cfg.env, kwargs, "If the file is yours, give --env-kwargs.")
    engine = cfg.engine if options.engine == "auto" and same else options.engine
    return make_env(options.env or cfg.env, engine, **kwargs)
