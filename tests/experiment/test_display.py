"""The display of a run: a live bar on a terminal, plain lines elsewhere."""

import re

import pytest

from purerl.experiment.display import Display

MUTANTS = {
    "the bar stays": ("experiment/display.py", "transient=True", "transient=False", "test_no_bar_stays"),
}


def on_screen(text):
    """Return the lines on a terminal after `text`: it moves up, clears lines, and ignores the rest."""
    lines, row = [""], 0
    for part in re.findall(r"\x1b\[\??[\d;]*[a-zA-Z]|\n|\r|[^\x1b\n\r]+", text):
        if part == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif part == "\r":
            lines[row] = "\r" + lines[row].removeprefix("\r")
        elif part.startswith("\x1b"):
            row -= int(part[2:-1] or 1) if part.endswith("A") else 0
            lines[row] = "" if part.endswith("K") else lines[row]
        else:
            lines[row] = part if lines[row].startswith("\r") else lines[row] + part
    return [line.strip() for line in lines if line.strip()]


def test_no_bar_stays(monkeypatch, capsys):
    """The last line on a terminal is the summary."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    with Display("ppo on cartpole, 8 seeds, a title that is cut off", 100, 8) as display:
        display.say("compiled in 1.0 s")
        display.step(0)
        display.step(50)
        display.say("the summary")
    assert on_screen(capsys.readouterr().err) == ["compiled in 1.0 s", "the summary"]


@pytest.mark.parametrize("live", [False, True])
def test_brackets_in_names_are_no_markup(live, monkeypatch, capsys):
    if live:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", "200")
    with Display("ppo on [/x]", 100, 1) as display:
        display.say("in runs/[/x] and runs/[red]")
        display.phase("compiling [/y]")
    shown = capsys.readouterr().err
    assert "in runs/[/x] and runs/[red]" in shown and "ppo on [/x]" in shown and "compiling [/y]" in shown
