"""Reports of runs: one HTML file with curves, configuration, speed, evaluations and a film."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from purerl.config import ConfigError, Rule, validate
from purerl.experiment.atomic import write_whole
from purerl.experiment.record import members_of, read_record
from purerl.experiment.untrusted import one_line
from purerl.shown import shorten
from purerl.user_paths import user_path
from purerl.workbench.curves import diverged
from purerl.workbench.evaluation import Evaluation, evaluate_run
from purerl.workbench.member_logs import MAX_LABEL, Log, Setting, find_settings
from purerl.workbench.report_curves import charts_of, last_of
from purerl.workbench.report_facts import Film, Run
from purerl.workbench.report_page import page
from purerl.workbench.video import record_video

SUFFIXES = (".html", ".htm")
MAX_FRAMES = 300
"""Frames of the film: ten seconds, some hundred kilobytes."""
MAX_TITLE = 200


def write_report(
    runs: Sequence[str | os.PathLike[str]],
    path: str | os.PathLike[str] | None = None,
    *,
    evaluate: int = 0,
    video: bool = False,
    title: str | None = None,
) -> Path:
    """Write one HTML file about some runs, which needs no server, no network and no other file.

    Args:
        runs: directories of runs, sweeps or Spinning Up; each has a section, and all share a figure.
        path: of the file, or a directory for `report.html` in it; None for that of the first run.
        evaluate: episodes that every member plays for a fresh evaluation; 0 for none.
        video: show an episode of the best member of each run, as far as its environment has pictures.
        title: heading; by default the names of the runs.

    Returns:
        Path of the file, which is whole or not there.

    Raises:
        ConfigError: for an argument that is not allowed, or a directory without runs.
        CheckpointError: if there is no checkpoint to evaluate.
        DamagedFile: for a log that is not as it was written.
        OSError: for a file that cannot be read or written.
    """
    validate("evaluate", evaluate, Rule("count", 0, 2**16))
    validate("video", video, Rule("switch"))
    validate("title", title, Rule("text", optional=True))
    if isinstance(runs, str | os.PathLike) or not runs:
        raise ConfigError("runs", runs, "directories of runs, at least one")
    directories = [_directory(run) for run in runs]
    if twice := [str(run) for run, times in Counter(map(os.path.realpath, directories)).items() if times > 1]:
        raise ConfigError("runs", twice[0], "directories that differ from each other")
    file = _place(directories[0] if path is None else user_path("out", path))
    found = _labelled([_read(directory) for directory in directories])
    charts, notes = charts_of([setting for run in found for setting in run.settings])
    if evaluate:
        found = [run._replace(evaluations=_evaluations(run, evaluate)) for run in found]
    if video:
        found = [run._replace(film=_film(run)) for run in found]
    heading = shorten(one_line(title or ", ".join(run.name for run in found)), MAX_TITLE)
    write_whole(file, page(heading, found, charts, notes))
    return file


def _directory(given: str | os.PathLike[str]) -> Path:
    path = user_path("runs", given)
    if not path.is_dir():
        raise ConfigError("runs", str(given), "a directory")
    return path


def _place(given: Path) -> Path:
    """Return the file to write. Raises ConfigError for one that cannot be, before anything is computed."""
    file = given / "report.html" if given.is_dir() else given
    if file.suffix.lower() not in SUFFIXES:
        raise ConfigError("out", str(given), f"a directory, or a file that ends in {' or '.join(SUFFIXES)}")
    if not file.parent.is_dir():
        raise ConfigError("out", str(given), f"a file in a directory that exists; {file.parent} does not")
    return file


def _read(path: Path) -> Run:
    """Return what is known of a run from its files."""
    settings, notes, changes = find_settings([path]), [], []
    places = sorted({log.path.parent for setting in settings for log in setting.logs})
    parts = [place for place in places if os.path.lexists(place / "run.json")]
    for part in parts:
        try:
            changes += [change for change in read_record(part, "run")["changes"] if isinstance(change, dict)]
        except ConfigError as error:
            notes.append(str(error))
    size = sum(_size(place / "checkpoints") for place in places)
    return Run(path.resolve().name, path, settings, parts, changes, size, notes)


def _size(folder: Path) -> int:
    """Return the bytes of the files in a folder; links are not followed."""
    if folder.is_symlink():
        return 0
    files = (Path(root, name) for root, _, names in os.walk(folder) for name in names)
    return sum(file.lstat().st_size for file in files)


def _labelled(runs: list[Run]) -> list[Run]:
    """Return the runs with settings whose labels differ, also between runs."""
    labels = Counter(setting.label for run in runs for setting in run.settings)
    names = Counter(run.name for run in runs)

    def relabelled(run: Run, setting: Setting) -> Setting:
        if labels[setting.label] == 1:
            return setting
        where = run.name if names[run.name] == 1 else str(run.path)
        return setting._replace(label=shorten(one_line(f"{setting.label} ({where})"), MAX_LABEL))

    return [run._replace(settings=[relabelled(run, one) for one in run.settings]) for run in runs]


def _evaluations(run: Run, episodes: int) -> list[Evaluation]:
    if not run.parts:
        raise ConfigError("evaluate", episodes, f"0 for {run.path}, which has no run.json of purerl")
    return [evaluate_run(part, episodes) for part in run.parts]


class _Candidate(NamedTuple):
    """A member of which a film may be made."""

    part: Path
    index: int
    name: str
    score: float


def _film(run: Run) -> Film:
    """Return a film of the best member of a run, or the reason why there is none."""
    try:
        best = max(_candidates(run), key=lambda one: one.score, default=None)
        if best is None:
            return Film(b"", "There is no film: no member has both a return and a run.json.")
        with tempfile.TemporaryDirectory(prefix="purerl-report-") as folder:
            made = Path(folder, "film.mp4")
            film = record_video(best.part, made, member=best.index, max_steps=MAX_FRAMES - 1)
            content = made.read_bytes()
    except Exception as error:  # drivers, encoders and other libraries raise many kinds
        return Film(b"", f"There is no film: {str(error) or type(error).__name__}")
    end = ", its beginning" if film.frames >= MAX_FRAMES else ""
    words = f"One episode{end}: {film.frames:,} frames, return {film.returns[0]:,.4g}."
    return Film(content, f"{best.name}, the best member. {words}")


def _candidates(run: Run) -> list[_Candidate]:
    """Return the healthy members with their returns: of the fresh evaluation, else the last of the logs."""
    logs: dict[Path, Log] = {log.path: log for setting in run.settings for log in setting.logs}
    found = []
    for i, part in enumerate(run.parts):
        names = members_of(read_record(part, "run")).names
        for index, name in enumerate(names):
            log = logs.get(part / name)
            score: Any = np.nan
            if log is not None and not diverged(log):
                returns = (last_of(log, metric) for metric in ("eval/return", "episode/return"))
                score = next((value for value in returns if np.isfinite(value)), np.nan)
            if run.evaluations and np.isfinite(score):
                score = float(run.evaluations[i].returns[index].mean())
            found.append(_Candidate(part, index, str(part.relative_to(run.path) / name), score))
    return [one for one in found if np.isfinite(one.score)]
