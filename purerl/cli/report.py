"""`purerl report`: one HTML file about runs."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence

from purerl.cast import cast
from purerl.cli.compilation_cache import use_compilation_cache
from purerl.cli.configure import HELP, user_defaults
from purerl.cli.options import help_text, one_directory, read_options
from purerl.config import ConfigError, count, from_dict, switch, text
from purerl.experiment.display import Lasting
from purerl.machine import format_bytes
from purerl.workbench.report import write_report


@dataclasses.dataclass(frozen=True)
class ReportOptions:
    """Options of the report."""

    out: str | None = text(None, optional=True)
    """File to write, .html, or a directory for report.html; None for the first run's directory."""
    evaluate: int = count(0, low=0, high=2**16)
    """Whole episodes of every member for a fresh evaluation."""
    video: bool = switch(False)
    """Show a film of the best member of each run."""
    title: str | None = text(None, optional=True)
    """Heading; None for the names of the runs."""
    compilation_cache: str = text("auto")
    """Directory of compiled programs; auto for one in the user's cache directory, none for no cache."""


def report(argv: Sequence[str]) -> int:
    """Write the report of the runs whose directories are in `argv`, say where it is, and return 0.

    Raises ConfigError for an unknown option, or a directory without runs.
    """
    if HELP & {*argv}:
        usage = "%(prog)s RUN [RUN ...] [--option value ...]"
        print(help_text("purerl report", ReportOptions(), usage=usage), end="")
        return 0
    runs, options = parse(argv)
    use_compilation_cache(options.compilation_cache)
    file = write_report(
        runs, options.out, evaluate=options.evaluate, video=options.video, title=options.title
    )
    print(f"{file}: {format_bytes(file.stat().st_size)}", file=Lasting(sys.stdout))
    return 0


def parse(argv: Sequence[str]) -> tuple[list[str], ReportOptions]:
    """Return the directories and the options in `argv`. Raises ConfigError for an unknown option."""
    given, words = read_options(argv, ReportOptions)
    if not words:
        raise ConfigError("run", "", "at least one directory, as in purerl report runs/one runs/two")
    runs = [one_directory([word], "report", ReportOptions) for word in words]
    return runs, from_dict(ReportOptions, user_defaults(ReportOptions) | cast(ReportOptions, given))
