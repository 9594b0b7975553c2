"""The end of `purerl train`: a curve in the terminal, and what to type next."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from purerl.cli.ending import curve, ending
from purerl.cli.main import command
from purerl.config import ConfigError
from purerl.experiment.logs import MemberLog
from purerl.experiment.runner import Run
from purerl.workbench.video import Film

MUTANTS = {
    "the curve is upside down": (
        "cli/ending.py",
        "heights * HEIGHT - (HEIGHT - 1 - i)",
        "heights * HEIGHT - i",
        "test_the_curve_rises_with_the_return",
    ),
    "members that diverged count": (
        "cli/ending.py",
        "result.metrics[name][healthy]",
        "result.metrics[name]",
        "test_the_curve_is_of_healthy_members_and_known_rows",
    ),
    "rows are evenly spaced": (
        "cli/ending.py",
        "np.interp(np.linspace(x[0], x[-1], cells), x, y)",
        "np.interp(np.linspace(0, len(x) - 1, cells), np.arange(len(x)), y)",
        "test_the_axis_is_that_of_steps",
    ),
    "the film is of a member that diverged": (
        "cli/train.py",
        "np.nan_to_num(returns, nan=-np.inf)",
        "np.nan_to_num(returns, nan=np.inf)",
        "test_the_film_is_of_the_best_member",
    ),
    "a driver that fails is a failure of the training": (
        "cli/train.py",
        "except Exception as error:",
        "except ConfigError as error:",
        "test_the_film_is_of_the_best_member",
    ),
    "quiet is not quiet": (
        "cli/train.py",
        "if not options.quiet and sys.stderr",
        "if sys.stderr",
        "test_train_ends_with_it_unless_it_is_quiet",
    ),
}


def run_of(returns, steps=None, diverged=(), name="eval/return", logdir=None):
    returns = np.atleast_2d(np.asarray(returns, np.float32))
    steps = np.arange(1, returns.shape[1] + 1) * 1000 if steps is None else np.asarray(steps)
    sick = np.array([5 if i in diverged else -1 for i in range(len(returns))])
    return Run(None, {name: returns}, steps, sick, [{}] * len(returns), logdir, 1.0, 1.0)


def test_the_curve_rises_with_the_return():
    head, *rows, axis = curve(run_of([1, 2, 3, 4, 5]), 48)
    assert head == "return of evaluations, over steps:"
    assert rows[0].startswith("5.0 │") and rows[-1].startswith("1.0 │")
    filled = [len(row[5:].strip()) for row in rows]
    assert filled == sorted(filled) and filled[-1] == 48 - 6
    assert rows[0][-1] == "█" and rows[-1][5] == "▁" and not rows[0][5:30].strip()
    assert axis.split() == ["1,000", "5,000"] and max(map(len, [head, *rows, axis])) <= 48


def test_the_curve_is_of_healthy_members_and_known_rows():
    nan = np.nan
    lines = curve(run_of([[nan, 1, 2, 3], [nan, 3, 4, 5], [nan, 90, 90, 90]], diverged=[2]), 60)
    assert lines[0] == "return of evaluations, mean of 2 members, over steps:"
    assert lines[1].startswith("4.0") and lines[-2].startswith("2.0") and lines[-1].split()[0] == "2,000"


def test_the_axis_is_that_of_steps():
    """Where rows are closer together at the end, the curve has its rise late."""
    top = curve(run_of([0, 100, 100, 100, 100], steps=[0, 800, 900, 950, 1000]), 60)[1]
    assert 30 < len(top) - len(top[7:].lstrip()) < 50


def test_flat_short_and_plain_curves():
    assert curve(run_of([7, 7, 7]), 40)[1].startswith("7.0")
    assert curve(run_of([1, 2]), 40) == [] and curve(run_of([np.nan] * 9), 40) == []
    assert curve(run_of([[1, 2, 3]], diverged=[0]), 40) == []
    assert curve(run_of([1, 2, 3], name="episode/return"), 40)[0].startswith("return of training episodes")
    assert "\n".join(curve(run_of([1, 5, 3]), 40, plain=True)).isascii()


def test_the_next_commands_are_of_its_directory(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    text = ending(run_of([1, 2], logdir=tmp_path / "my runs" / "one"))
    assert text.startswith("next:\n  purerl plot 'my runs/one'\n  purerl eval")
    assert str(Path("/elsewhere/two")) in ending(run_of([1, 2], logdir=Path("/elsewhere/two")))
    assert ending(run_of([1, 2])) == ""


@pytest.mark.parametrize("quiet", [False, True])
def test_train_ends_with_it_unless_it_is_quiet(monkeypatch, tmp_path, capfd, quiet):
    results = [run_of([1, 2, 3], logdir=tmp_path / "one")]
    monkeypatch.setattr("purerl.cli.train.run", lambda *args, **kwargs: results[0])
    words = ["--compilation-cache", "none", "--logdir", str(tmp_path / "one")] + ["--quiet"] * quiet
    assert command(["train", *words]) == 0
    err = capfd.readouterr().err
    assert ("return of evaluations" in err) == ("purerl plot" in err) == (not quiet)


def test_the_film_is_of_the_best_member(monkeypatch, tmp_path, capfd):
    """The healthy one with the highest final return; what a film lacks is no failure of the training."""
    run = tmp_path / "one"
    for seed, (last, diverged) in enumerate([(3.0, 0.0), (6.0, 0.0), (9.0, 1.0)]):
        log = MemberLog(run / f"seed{seed}", {})
        row = {"epoch": 1, "step": 8, "episode/return": last, "episode/length": 5.0}
        log.write(row | {"seed/diverged": diverged})
        log.close()
    names = SimpleNamespace(names=["seed0", "seed1", "seed2"])
    monkeypatch.setattr("purerl.cli.train.read_record", lambda *args: {})
    monkeypatch.setattr("purerl.cli.train.members_of", lambda record: names)
    monkeypatch.setattr("purerl.cli.train.run", lambda *args, **kwargs: run_of([1, 2, 3], logdir=run))
    asked = []

    def film(run, path, member):
        asked.append((run, path, member))
        if len(asked) > 1:
            raise [ConfigError("env", "rover", "pictures"), RuntimeError("no OpenGL")][len(asked) - 2]
        return Film(path, 7, [6.0])

    monkeypatch.setattr("purerl.cli.train.record_video", film)
    words = ["train", "--film", "--quiet", "--compilation-cache", "none", "--logdir", str(run)]
    assert [command(words) for _ in range(3)] == [0, 0, 0]
    assert asked[0] == (run, run / "film.mp4", 1)
    assert capfd.readouterr().err.splitlines() == [
        f"{run / 'film.mp4'}: 7 frames, return 6.0",
        "no film: env = 'rover': expected pictures.",
        "no film: no OpenGL",
    ]
    missing = ConfigError("path", "", "an installed imageio")
    monkeypatch.setattr("purerl.cli.train.film_writer", lambda: (_ for _ in ()).throw(missing))
    assert command(words) == 2 and len(asked) == 3
    assert command(["sweep", "--film", "--learning-rate", "1", "2"]) == 2
