"""The display of a run: a live bar on a terminal, plain lines elsewhere."""

import pytest

from purerl.experiment.display import Display


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
