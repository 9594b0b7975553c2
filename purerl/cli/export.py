"""`purerl export`: a trained policy as a file that other programs read, or alive in a web page."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence

from purerl.cast import cast
from purerl.cli.configure import HELP
from purerl.cli.options import help_text, one_directory, read_options
from purerl.config import ConfigError, choice, count, from_dict, switch, text
from purerl.experiment.display import Lasting
from purerl.machine import format_bytes
from purerl.workbench.export import FORMATS, export_policy
from purerl.workbench.web import export_web


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """Options of the export."""

    to: str = choice("numpy", FORMATS)
    """Format: Python for NumPy alone, JavaScript, ONNX, a program of jax.export, the weights, a web page."""
    out: str | None = text(None, optional=True)
    """File to write, or folder of a web page; by default policy and the suffix of its format, or web."""
    member: int = count(0, low=0)
    """Index of the member: the seed's, without a sweep."""
    best: bool = switch(False)
    """Take the policy of the best evaluation, in place of the newest."""
    itr: int | None = count(None, low=0, optional=True)
    """Take the policy of this epoch, which the run has kept: see --snapshot-interval."""
    mujoco_js: str | None = text(None, optional=True)
    """Folder of the npm package @mujoco/mujoco, for web pages of MuJoCo tasks; by default it is searched."""


def export(argv: Sequence[str]) -> int:
    """Export a policy of the run whose directory is in `argv`, say where it is, and return 0.

    Raises ConfigError for an unknown option, or a policy that the format cannot express.
    """
    if HELP & {*argv}:
        print(help_text("purerl export", ExportOptions(), usage="%(prog)s RUN [--option value ...]"), end="")
        return 0
    given, words = read_options(argv, ExportOptions)
    run = one_directory(words, "export", ExportOptions)
    options = from_dict(ExportOptions, cast(ExportOptions, given))
    which = {"member": options.member, "best": options.best, "itr": options.itr}
    if options.to == "web":
        folder = export_web(run, options.out, mujoco_js=options.mujoco_js, **which)
        size = format_bytes(sum(file.stat().st_size for file in folder.rglob("*")))
        print(f"{folder}: {size}; open {folder}/index.html, or serve the folder", file=Lasting(sys.stdout))
        return 0
    if options.mujoco_js is not None:
        raise ConfigError("mujoco_js", options.mujoco_js, "None, except with --to web")
    path = export_policy(run, options.to, options.out, **which)
    hint = f"; python {path} prints its latency" if options.to == "numpy" else ""
    print(f"{path}: {format_bytes(path.stat().st_size)}{hint}", file=Lasting(sys.stdout))
    return 0
