"""The display of a run: a live bar on a terminal, plain lines elsewhere."""

import re
import sys
import threading
import types
import xml.etree.ElementTree
from dataclasses import replace
from pathlib import Path

import lab
import numpy as np
import pytest
from rich.cells import cell_len

from purerl.experiment import runner
from purerl.experiment.display import Display
from purerl.experiment.notebook import in_notebook
from purerl.experiment.pace import HISTORY, History, Outlook, clock_time, hours_text, make_outlook
from purerl.experiment.population import Population
from purerl.experiment.view import lines_of, shortened, sparkline, text_of
from purerl.make import make_config
from purerl.schedule import Schedule

WIDTHS = 40, 60, 80, 100, 140
MOMENTS = "start", "compiling", "warm-up", "middle", "end"


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


@pytest.mark.parametrize("needed", [0, 264_000_000])
def test_memory_of_programs_is_said_and_added_to_the_plan(needed, capsys):
    outlook = Outlook(memory=100_000_000)
    with Display("ppo on cartpole", 100, 8, outlook=outlook) as display:
        display.compiled(1.0, needed)
        assert display.view().outlook.memory == 100_000_000 + needed
    said = ["compiled in 1.0 s"] + ["memory: 264 MB more while its programs run"] * bool(needed)
    assert capsys.readouterr().err.splitlines() == said


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


def test_a_terminal_without_cursor_gets_lines(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    with Display("ppo on cartpole", 100, 1) as display:
        display.step(0)
        display.row(50, {"episode/return": np.ones(1)})
    shown = capsys.readouterr().err
    assert "50 of 100 steps" in shown and "\x1b" not in shown


class Clock:
    """A clock that is set."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


OUTLOOK = Outlook(
    warmup_steps=10_000,
    evaluations=range(20_000, 1_000_001, 10_000),
    memory=7_200_000_000,
    path="runs/sac-ant-20260101-120000-a-directory-with-a-name-that-is-long-for-any-terminal/",
)


def driven(until="end", outlook=OUTLOOK, members=8, total=1_000_000, **options):
    """Return a display at a moment of a run: 1,000 steps per second of warm-up, 10 of training."""
    clock = Clock()
    display = Display("sac on half_cheetah, 8 seeds", total, members, outlook=outlook, clock=clock, **options)
    returns = np.linspace(-1234.5, 987.6, members)
    row = lambda step, shift, **more: display.row(step, {"episode/return": returns + shift, **more})

    def course():
        yield "start"
        display.phase("compiling")
        clock.now += 12
        yield "compiling"
        display.compiled(12)
        display.step(0)
        clock.now += 5
        display.step(5_000)
        yield "warm-up"
        clock.now += 5
        display.step(10_000)
        row(10_000, -5_000)
        for step in range(10_100, 20_001, 100):
            clock.now += 10
            display.step(step)
            if step % 1000 == 0 and step < 20_000:
                row(step, step - 20_000)
            yield step
        with display.doing("evaluating at step 20,000"):
            clock.now += 20
        row(20_000, 0, **{"eval/return": returns + 10})
        clock.now += 10
        display.step(20_100, ["seed3"])
        yield "middle"
        clock.now += (total - 20_100) / 10
        display.step(total)
        row(total, 10, **{"eval/return": returns})
        yield "end"

    for moment in course():
        if moment == until:
            return display, clock
    raise AssertionError(until)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("width", WIDTHS)
def test_every_line_fits(width, moment, plain):
    """Nothing is cut off: the percentage, the time left and the steps are there at any width."""
    display, _ = driven(moment)
    lines = text_of(display.view(), width, plain)
    text = "\n".join(lines)
    assert max(map(cell_len, lines)) <= width, text
    assert len(lines) <= (7 if width >= 80 else 12), text
    assert re.search(r"[\d.]+%   ETA (measuring|[\d:]+|1d [\d:]+)$", lines[1]), text
    assert re.search(r"^[\d,]+ / 1,000,000 steps each", text, re.MULTILINE), text
    assert text.isascii() if plain else "━" in text or "─" in text
    if moment in ("warm-up", "middle"):
        assert f"{'8,000' if moment == 'warm-up' else '80'} steps/s" in text
    if moment in ("middle", "end"):
        assert "1 of 8 members diverged: seed3" in text and "best -113.5 at 20,000" in text


def test_wider_views_say_more():
    """Every fact of a width is in the next one too."""
    texts = ["\n".join(text_of(driven("middle")[0].view(), width)) for width in (80, 100, 140)]
    facts = "80 steps/s", "elapsed 0:17:32", "return -123.5 ± ", "next at 30,000", "memory 7.2 GB", "in runs/"
    assert all(fact in text for fact in facts for text in texts)
    assert ["compile 12.0 s" in text for text in texts] == [False, True, True]
    assert ["process " in text for text in texts] == [False, True, True]
    assert ["summed over 8 members" in text for text in texts] == [False, False, True]
    assert ["10 steps/s each" in text for text in texts] == [False, False, True]


@pytest.mark.parametrize(
    ("moment", "phase"),
    [
        ("start", "starting"),
        ("compiling", "compiling"),
        ("warm-up", "warm-up to step 10,000"),
        (15_000, "training"),
        ("end", "done"),
    ],
)
def test_the_phase(moment, phase):
    display, _ = driven(moment)
    assert display.view().phase == phase
    with display.doing("saving 6.6 GB at step 1,000"):
        assert text_of(display.view(), 80)[0].endswith("saving 6.6 GB at step 1,000")
        assert text_of(display.view(), 40)[0] == "sac on half_cheetah, 8 seeds      saving"


def test_diverged_members_stand_out():
    display, _ = driven("middle")
    assert ("1 of 8 members diverged: seed3", "bold yellow") in [
        line[0] for line in lines_of(display.view(), 80)
    ]
    view = display.view()._replace(diverged=[f"seed{i}" for i in range(8)])
    assert "8 of 8 members diverged: seed0 and 7 more" in text_of(view, 45)
    assert "8 of 8 members diverged" in text_of(view, 30)


def test_old_values_of_diverged_members_do_not_count():
    """Unless there are no others."""
    display = Display("ppo", 100, 3)
    values = np.array([1.0, 2.0, 30.0])
    for sick, line in (
        ([0, 0, 1], "return 1.5 ± 0.5 over 2 members"),
        ([1, 1, 1], "return 11.0 ± 13.4 over 3"),
    ):
        display.row(50, {"episode/return": values, "seed/diverged": np.array(sick)})
        assert any(text.startswith(line) for text in text_of(display.view(), 80))


@pytest.mark.parametrize("resumed", [False, True])
def test_a_run_shows_its_facts(resumed, halfway, tmp_path, monkeypatch):
    """Of a sweep of 24 members, with an evaluation in every row; a member diverges."""
    path = halfway("sweep") if resumed else tmp_path / "run"
    began, shown = [], []

    class Watched(Display):
        def doing(self, what):
            began.append(what)
            return super().doing(what)

        def row(self, *args):
            super().row(*args)
            shown.append(self.view())

    def diverge(population, snapshot, advance=Population.advance):
        after = advance(population, snapshot)
        state = after.state._replace(diverged_at=after.state.diverged_at.at[2].set(80))
        return after._replace(state=state) if after.step >= 80 else after

    monkeypatch.setattr(runner, "Display", Watched)
    monkeypatch.setattr(Population, "advance", diverge)
    lab.go("sweep", path, resume=resumed)
    first, last = shown[0], shown[-1]
    assert [view.step for view in shown] == list(range(64 if resumed else 32, 161, 32))
    assert [what for what in began if "row" in what] == []
    assert f"evaluating at step {first.step}" in began and any(what.startswith("saving ") for what in began)
    assert first.next_evaluation == first.step + 32 and last.next_evaluation is None
    assert (len(first.history), len(last.history)) == ((2, 5) if resumed else (1, 5))
    assert len(last.diverged) == 1 and last.diverged[0].endswith("seed2")
    assert last.best and last.outlook.memory > 0 and last.outlook.path == str(path)
    assert last.members == 24 and last.total == 160 and last.compiled is not None


def test_the_time_left_has_no_warm_up():
    """It is unknown in the warm-up; then it is that of training, evaluations and the time of each."""
    display, clock = driven("warm-up")
    assert display.view().left is None and display.view().rate == 8_000
    display, clock = driven(10_100)
    view = display.view()
    assert view.left == pytest.approx((1_000_000 - 10_100) / 10) and view.at_least and view.rate == 80
    display, clock = driven("middle")
    view = display.view()
    assert view.left == pytest.approx((1_000_000 - 20_100) / 10 + 98 * 20) and not view.at_least
    clock.now += 60
    assert display.view().left == pytest.approx(view.left - 60)
    assert driven("end")[0].view().left == 0


def test_the_time_left_is_measured_for_some_seconds():
    clock = Clock()
    display = Display("ppo", 1_000, 1, clock=clock)
    display.step(0)
    clock.now += 1
    display.step(10)
    assert (display.view().rate, display.view().left) == (10, None)
    clock.now += 1
    display.step(20)
    assert display.view().left == pytest.approx(98)


def test_checkpoints_are_in_the_time_left():
    """One in 100 steps and one in 60 seconds, of 5 seconds each, and the last one."""
    clock = Clock()
    display = Display("ppo", 1_000, 1, outlook=Outlook(save_steps=100, save_seconds=60.0), clock=clock)
    display.step(0)
    clock.now += 10
    display.step(100)
    with display.doing("saving 1 GB"):
        clock.now += 5
    assert display.view().left == pytest.approx(90 + 5 * (9 + 1 + 1))
    clock.now += 10
    display.step(200)
    assert display.view().rate == 10, "the checkpoint is in the rate"


def test_a_resumed_run_has_the_rate_of_its_own_steps():
    clock = Clock()
    display = Display("ppo", 1_000, 1, outlook=Outlook(evaluations=[500, 1000]), clock=clock)
    display.remember(500, {"eval/return": np.ones(1)})
    display.step(600)
    clock.now += 10
    display.step(700)
    view = display.view()
    assert (view.rate, view.left, view.next_evaluation, view.best) == (10, 30, 1000, (1.0, 500))


def test_the_rate_is_that_of_the_last_minute():
    clock = Clock()
    display = Display("ppo", 10**6, 1, clock=clock)
    step = 0
    for rate in [10] * 100 + [50] * 70:
        display.step(step)
        clock.now += 1
        step += rate
    assert display.view().rate == pytest.approx(50)
    display.row(step - 50, {})
    assert display.view().rate == pytest.approx(50), "a row without steps of its own"


def test_the_next_evaluation():
    """None has been due; then the one after the last that is done; then none."""
    assert "evaluation first at 20,000" in text_of(driven("compiling")[0].view(), 80)
    assert "evaluation first at 20,000" in text_of(driven(20_000)[0].view(), 80)
    line = next(line for line in text_of(driven("middle")[0].view(), 80) if line.startswith("evaluation"))
    assert line == "evaluation -113.5 ± 727.4   best -113.5 at 20,000   next at 30,000"
    line = next(line for line in text_of(driven("end")[0].view(), 80) if line.startswith("evaluation"))
    assert line == "evaluation -123.5 ± 727.4   best -113.5 at 20,000"
    display, _ = driven("middle", OUTLOOK._replace(evaluations=()))
    assert display.view().next_evaluation is None and not display.view().at_least


def test_the_outlook_of_a_run(tmp_path, monkeypatch):
    """Evaluations at the ends of the rows that pass a multiple of their interval, and at the last."""
    cfg = make_config("sac", env="pendulum", eval_interval=100, checkpoint_minutes=2, checkpoint_interval=7)
    schedule = Schedule(warmup_steps=40, iteration_steps=1, iterations=30, rows=8)
    monkeypatch.chdir(tmp_path)
    outlook = make_outlook(cfg, schedule, 5, tmp_path / "runs" / "a")
    by_row = [s for s in range(70, 281, 30) if schedule.evaluates_at(cfg, s)]
    assert list(outlook.evaluations) == by_row == [100, 220, 280]
    assert outlook[2:] == (7, 120.0, 5, "runs/a/")
    assert make_outlook(cfg, schedule, 5)[2:] == (0, 0.0, 5, "")
    assert make_outlook(replace(cfg, eval_interval=0), schedule, 5, Path("/x"))[1] == ()


def test_hours_are_said_once(capsys):
    """A line that stays, after some seconds of training; a short run has none."""
    driven("middle")
    said = capsys.readouterr().err
    assert said.count("\nabout ") == 1
    text = "about 27 hours left, at 80 steps/s summed over the members, evaluations not counted\n"
    assert text in said and "ETA" not in said[: said.index("warm-up") if "warm-up" in said else 0]
    driven("middle", OUTLOOK._replace(evaluations=[20_000]), total=40_000)
    assert "about" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "cells", "line"),
    [
        (range(8), 8, "▁▂▃▄▅▆▇█"),
        ([7, 0, 3.4, 3.6], 9, "█▁▄▅"),
        ([0, 2, 4, 6, 14, 14], 3, "▁▃█"),
        ([5, 5], 9, "▅▅"),
        ([10, 12, 17], 3, "▁▃█"),
    ],
)
def test_a_sparkline(values, cells, line):
    assert sparkline(values, cells) == line
    assert sparkline(values, cells, plain=True) == line.translate(str.maketrans("▁▂▃▄▅▆▇█", ".:-=+*#@"))


def test_a_long_history_is_of_means():
    history, n = History(), 3 * HISTORY + 1
    for i in range(n):
        history.add(i)
    means = history.means()
    assert HISTORY / 2 <= len(means) <= HISTORY
    assert means[:2] == [1.5, 5.5] and means[-1] == n - 1


def test_words_for_times():
    assert [clock_time(s) for s in (0, 59.6, 3_725, 183_845)] == [
        "0:00:00",
        "0:01:00",
        "1:02:05",
        "2d 03:04:05",
    ]
    assert [hours_text(3600 * h) for h in (1.25, 9.4, 9.6, 50)] == [
        "1.2 hours",
        "9.4 hours",
        "10 hours",
        "2.1 days",
    ]


@pytest.mark.parametrize("text", ["a" * 50, "目录" * 20])
def test_a_directory_is_shortened_in_the_middle(text):
    assert shortened(text, 200) == text
    short, plain = shortened(text, 21), shortened(text, 21, plain=True)
    assert 19 <= cell_len(short) <= 21 and 19 <= cell_len(plain) <= 21
    assert short.count("…") == 1 and plain.count("...") == 1 and short[0] == text[0] and short[-1] == text[-1]


def test_names_move_no_cursor(capsys):
    display = Display("ppo\x1b[2J on\nx", 100, 2, outlook=Outlook(path="runs/\x1b[A\udcff"))
    text = "\n".join(text_of(display.view(), 80))
    assert not {"\x1b", "\udcff"} & set(text) and "in runs/?[A?" in text and "ppo?[2J on?x" in text


class Screen:
    """A terminal of an encoding, which records."""

    def __init__(self, encoding):
        self.encoding, self.text = encoding, ""

    def isatty(self):
        return True

    def write(self, text):
        self.text += text

    def flush(self):
        pass


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_terminal_gets_its_encoding(encoding, monkeypatch):
    screen = Screen(encoding)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    display, _ = driven("middle")
    with display:
        display.say("return 1 ± 2")
    assert screen.text.isascii() == (encoding == "ascii")
    assert ("+/-" in screen.text) == (encoding == "ascii")


def test_a_low_terminal_is_left_clean(monkeypatch, capsys):
    """More lines than it has could not be removed."""
    for name, value in {"FORCE_COLOR": "1", "COLUMNS": "60", "LINES": "4", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    display, _ = driven("middle")
    capsys.readouterr()
    with display:
        pass
    shown = capsys.readouterr().err
    assert shown.count("\n") == 2 * 2 + 1 and "ETA" in shown


# Notebooks


@pytest.fixture
def kernel(monkeypatch):
    """A kernel of IPython; the messages that a page gets."""
    messages = []
    shell = types.SimpleNamespace(kernel=object())
    ipython, page = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    ipython.get_ipython = lambda: shell
    page.display = lambda data, **options: messages.append(("new", data, options))
    page.update_display = lambda data, **options: messages.append(("again", data, options))
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", page)
    return types.SimpleNamespace(messages=messages, shell=shell, page=page)


def test_notebooks_are_recognised(kernel, monkeypatch):
    assert in_notebook()
    del kernel.shell.kernel  # IPython on a terminal
    assert not in_notebook()
    monkeypatch.delitem(sys.modules, "IPython")
    assert not in_notebook() and "IPython" not in sys.modules


def test_a_notebook_redraws_one_output(kernel, capsys):
    display, _ = driven("middle")
    with display:
        display.say("a line <&>")
    kinds = [kind for kind, *_ in kernel.messages]
    assert kinds[0] == "new" and set(kinds[1:]) == {"again"}
    assert len({options["display_id"] for *_, options in kernel.messages}) == 1
    data = kernel.messages[-1][1]
    text, svg = data["text/html"].split("</pre>")
    assert "a line &lt;&amp;&gt;" in text and "compiled in 12.0 s" in text and "ETA" in text
    points = xml.etree.ElementTree.fromstring(svg).find("polyline").get("points").split()
    assert len(points) == 11 and points[:2] == ["0.0,65.6", "64.0,110.0"] and points[-1] == "640.0,10.0"
    assert "a line <&>" in data["text/plain"] and "▁" in data["text/plain"]
    assert capsys.readouterr() == ("", ""), "lines are in the output"


def test_a_notebook_is_redrawn_twice_a_second(kernel):
    clock = Clock()
    display = Display("ppo", 1_000, 1, clock=clock)
    for step in range(1_000):
        clock.now += 0.01
        with display.doing("evaluating"):
            display.step(step)
    assert 19 <= len(kernel.messages) <= 21


def test_a_notebook_shows_what_takes_long(kernel, monkeypatch):
    """Also where it was redrawn just before."""
    monkeypatch.setattr("purerl.experiment.display.PATIENCE_SECONDS", 0.01)
    drawn = threading.Event()
    display = Display("ppo", 1_000, 1, clock=Clock())
    display.step(0)
    kernel.page.update_display = lambda data, **options: drawn.set() if "saving" in data["text/plain"] else 0
    with display.doing("saving"):
        assert drawn.wait(10)


def test_a_closed_page_ends_no_run(kernel):
    kernel.page.display = kernel.page.update_display = lambda *args, **options: 1 / 0
    with driven("middle")[0] as display:
        display.say("a line")


MUTANTS = {
    "the view shows the plan alone": (
        "experiment/display.py",
        "self._outlook._replace(memory=self._outlook.memory + needed)",
        "self._outlook._replace(memory=self._outlook.memory)",
        "test_memory_of_programs_is_said_and_added_to_the_plan[264000000]",
    ),
    "old values of diverged members count": (
        "experiment/display.py",
        "np.where(sick, np.nan, values)",
        "values",
        "test_old_values_of_diverged_members_do_not_count",
    ),
    "a resumed run forgets its returns": (
        "experiment/loop.py",
        '            display.remember(int(row["step"][0]), self.latest)\n',
        "",
        "test_a_run_shows_its_facts",
    ),
    "diverged members are not shown": (
        "experiment/loop.py",
        "names[diverged_at >= 0]",
        "names[:0]",
        "test_a_run_shows_its_facts",
    ),
    "no evaluation is known": (
        "experiment/pace.py",
        "ends[schedule.evaluates_at(cfg, ends)] if cfg.eval_interval else ()",
        "()",
        "test_a_run_shows_its_facts",
    ),
    "an evaluation is not named": (
        "experiment/loop.py",
        "step > schedule.warmup_steps and schedule.evaluates_at(self._population.cfg, step)",
        "False",
        "test_a_run_shows_its_facts",
    ),
    "the bar stays": ("experiment/display.py", "transient=True", "transient=False", "test_no_bar_stays"),
    "a terminal that cannot move its cursor gets no lines": (
        "experiment/display.py",
        "self._console.is_interactive",
        "self._console.is_terminal",
        "test_a_terminal_without_cursor_gets_lines",
    ),
    "a long path is not shortened": (
        "experiment/view.py",
        'path = shortened(path, room if room >= MIDDLE else width - len("in "), plain)',
        "pass",
        "test_every_line_fits",
    ),
    "facts are put beside others without room": (
        "experiment/view.py",
        "cell_len(texts[-1]) + len(GAP) + cell_len(fact) <= width",
        "cell_len(texts[-1]) + cell_len(fact) <= width",
        "test_every_line_fits",
    ),
    "the bar takes all": (
        "experiment/view.py",
        "max(0, width - len(percent) - len(eta(view)) - 1 - len(GAP))",
        "width",
        "test_every_line_fits",
    ),
    "ASCII is longer than its line": (
        "experiment/view.py",
        "map(to_ascii, facts) if plain else facts",
        "facts",
        "test_every_line_fits",
    ),
    "the warm-up is in the rate": (
        "experiment/pace.py",
        "self._samples, self.rate = deque([samples[-1]]), None",
        "pass",
        "test_the_time_left_has_no_warm_up",
    ),
    "evaluations take no time": (
        "experiment/pace.py",
        'seconds += self._evaluations_left() * self._mean("evaluating")',
        "pass",
        "test_the_time_left_has_no_warm_up",
    ),
    "evaluations are in the rate": (
        "experiment/pace.py",
        "self._paused += seconds",
        "pass",
        "test_the_time_left_has_no_warm_up",
    ),
    "the time left stands still": (
        "experiment/pace.py",
        "seconds - (self._clock() - then)",
        "seconds",
        "test_the_time_left_has_no_warm_up",
    ),
    "a first call is a measurement": (
        "experiment/pace.py",
        "self.measured >= MEASURING_SECONDS",
        "self.measured >= 0",
        "test_the_time_left_is_measured_for_some_seconds",
    ),
    "checkpoints by time take none": (
        "experiment/pace.py",
        "(int(seconds // minutes) if minutes else 0)",
        "0",
        "test_checkpoints_are_in_the_time_left",
    ),
    "checkpoints by steps take no time": (
        "experiment/pace.py",
        "self._total // every - self.step // every if every else 0",
        "0",
        "test_checkpoints_are_in_the_time_left",
    ),
    "evaluations before a resumed run are due": (
        "experiment/pace.py",
        "            self.evaluated = step\n        elif",
        "            pass\n        elif",
        "test_a_resumed_run_has_the_rate_of_its_own_steps",
    ),
    "the rate is that of the whole run": (
        "experiment/pace.py",
        "            samples.popleft()",
        "            break",
        "test_the_rate_is_that_of_the_last_minute",
    ),
    "the next evaluation is the last one": (
        "experiment/pace.py",
        'index = int(np.searchsorted(self.evaluations, step, side="right"))',
        "index = int(np.searchsorted(self.evaluations, step))",
        "test_the_next_evaluation",
    ),
    "the best is the latest": (
        "experiment/display.py",
        "(self._best is None or evaluation > self._best[0])",
        "True",
        "test_the_next_evaluation",
    ),
    "hours are said with every step": (
        "experiment/display.py",
        "            self._is_long_known = True\n",
        "",
        "test_hours_are_said_once",
    ),
    "minutes are said too": (
        "experiment/display.py",
        " or view.left <= 3600",
        "",
        "test_hours_are_said_once",
    ),
    "a sparkline from zero": (
        "experiment/view.py",
        "(means - low) / (high - low)",
        "means / high",
        "test_a_sparkline",
    ),
    "the first mean of a long history is wrong": (
        "experiment/pace.py",
        "(a + b) / 2",
        "a",
        "test_a_long_history_is_of_means",
    ),
    "a directory moves the cursor": (
        "experiment/display.py",
        "if character.isprintable() else",
        "if True else",
        "test_names_move_no_cursor",
    ),
    "ASCII terminals get Unicode": (
        "experiment/display.py",
        "self._ascii = self._console.options.ascii_only",
        "self._ascii = False",
        "test_a_terminal_gets_its_encoding",
    ),
    "the view is taller than the terminal": (
        "experiment/display.py",
        "texts[: max(1, self._console.height - 1)]",
        "texts",
        "test_a_low_terminal_is_left_clean",
    ),
    "IPython on a terminal is a notebook": (
        "experiment/notebook.py",
        'return getattr(shell, "kernel", None) is not None',
        "return shell is not None",
        "test_notebooks_are_recognised",
    ),
    "every redraw is a new output": (
        "experiment/notebook.py",
        "display if self._drawn is None else update_display",
        "display",
        "test_a_notebook_redraws_one_output",
    ),
    "a notebook is redrawn with every step": (
        "experiment/notebook.py",
        "now - self._drawn < REDRAW_SECONDS",
        "False",
        "test_a_notebook_is_redrawn_twice_a_second",
    ),
    "a closed page ends the run": (
        "experiment/notebook.py",
        "with suppress(Exception):",
        "with suppress(OSError):",
        "test_a_closed_page_ends_no_run",
    ),
    "a diverged member looks like the others": (
        "experiment/view.py",
        '"bold yellow"',
        '""',
        "test_diverged_members_stand_out",
    ),
}
