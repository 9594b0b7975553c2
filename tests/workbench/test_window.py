"""The window of a trained policy: its pace, its keys, its pictures, and machines without a display."""

import os
import sys
import threading

import numpy as np
import pytest
from tiny import tiny

import purerl
from purerl.cli.main import command
from purerl.config import ConfigError
from purerl.workbench import window as module
from purerl.workbench.episodes import Frame, Player
from purerl.workbench.video import record_video
from purerl.workbench.window import BAR, Closed, Window, watch

pygame = pytest.importorskip("pygame")
MUTANTS = {
    "twice as fast": (
        "workbench/window.py",
        "1 / (self._fps * self.speed)",
        "1 / (2 * self._fps * self.speed)",
        "test_a_step_takes_its_time",
    ),
    "speed does nothing": (
        "workbench/window.py",
        "1 / (self._fps * self.speed)",
        "1 / self._fps",
        "test_keys_change_the_speed",
    ),
    "nothing is left out": (
        "workbench/window.py",
        "(now - due < period or now - drawn >= PATIENCE_SECONDS)",
        "True",
        "test_pictures_that_are_late_are_left_out",
    ),
    "a still picture where steps are late": (
        "workbench/window.py",
        " or now - drawn >= PATIENCE_SECONDS)",
        ")",
        "test_slow_steps_are_shown",
    ),
    "a pause of one look": (
        "workbench/window.py",
        "while self.paused and not self.next:",
        "if self.paused and not self.next:",
        "test_a_pause_lasts_until_the_next_key",
    ),
    "the next but one": (
        "workbench/window.py",
        "                self.next = False\n                return\n",
        "                return\n",
        "test_an_episode_is_skipped",
    ),
    "the picture is cut": (
        "workbench/window.py",
        "factor = min(across / width, down / height)",
        "factor = max(across / width, down / height)",
        "test_a_picture_fits_a_resized_window",
    ),
    "no display is a display": (
        "workbench/window.py",
        'if named or driver not in ("offscreen", "dummy"):',
        "if driver:",
        "test_without_a_display_nothing_is_compiled",
    ),
    "errors of the compiler are lost": (
        "workbench/window.py",
        "            raise errors[0]\n",
        "            pass\n",
        "test_the_window_answers_while_it_compiles",
    ),
    "other episodes": (
        "workbench/window.py",
        "player.episode(seed, i, stochastic), i + 1)",
        "player.episode(seed, i + 1, stochastic), i + 1)",
        "test_episodes_are_those_of_a_film",
    ),
    "a film beside the window": (
        "cli/play.py",
        "if in_window and out is not None:",
        "if in_window and out == 0:",
        "test_the_command",
    ),
}
SIZE = {"width": 64, "height": 48}


class Time:
    """A clock that only sleeping and working move; `events` are posted at their times."""

    def __init__(self, *events):
        self.now, self.events = 0.0, list(events)

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        while self.events and self.now >= self.events[0][0]:
            key = self.events.pop(0)[1]
            kind = pygame.QUIT if key is None else pygame.KEYDOWN
            pygame.event.post(pygame.event.Event(kind, {} if key is None else {"key": key}))


@pytest.fixture(autouse=True)
def display(monkeypatch):
    """A display without a screen."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    yield
    pygame.quit()


def make_window(time, fps=10):
    module._open_display()
    return Window(pygame, "a title", 64, 48, fps, time.clock, time.sleep)


def frames(count, drawn, time=None, drawing=0.0, stepping=0.0):
    """Yield the frames of an episode whose drawing and stepping take so long."""

    def draw(i):
        drawn.append(i)
        if time:
            time.now += drawing
        return np.full((48, 64, 3), i, np.uint8)

    for i in range(count):
        if time:
            time.now += stepping
        yield Frame(lambda i=i: draw(i), i, 2.0 * i)


def test_a_step_takes_its_time():
    """Every picture is drawn, and the last return is the episode's."""
    time, drawn = Time(), []
    totals = list(make_window(time).show(frames(20, drawn), 1))
    assert time.now == pytest.approx(2.0) and drawn == [*range(20)] and totals[-1] == 38.0


def test_keys_change_the_speed():
    time = Time((0.95, pygame.K_PLUS), (0.95, pygame.K_UP), (1.45, pygame.K_MINUS))
    window = make_window(time)
    list(window.show(frames(50, []), 1))
    assert window.speed == 2 and time.now == pytest.approx(1.0 + 0.5 + 20 / 20, abs=0.06)
    for key, limit in ((pygame.K_KP_PLUS, 64), (pygame.K_KP_MINUS, 1 / 16)):
        time.events = [(0, key)] * 20
        list(window.show(frames(3, []), 1))
        assert window.speed == limit


def test_pictures_that_are_late_are_left_out():
    """So that the steps keep their pace."""
    time, drawn = Time(), []
    list(make_window(time).show(frames(50, drawn, time, drawing=0.3), 1))
    assert time.now == pytest.approx(5.0, abs=0.35) and 12 <= len(drawn) <= 18


def test_slow_steps_are_shown():
    """Where the environment itself cannot keep the pace, and the last one without a picture."""
    time, drawn = Time(), []

    def slow():
        yield from frames(10, drawn, time, stepping=0.5)
        yield Frame(None, 10, 7.0)

    assert list(make_window(time).show(slow(), 1))[-1] == 7.0
    assert drawn == [*range(10)]


def test_a_pause_lasts_until_the_next_key():
    time, drawn = Time((0.45, pygame.K_SPACE), (9.0, pygame.K_SPACE)), []
    shown = make_window(time).show(frames(10, drawn), 1)
    steps = [(time.now, total) for total in shown]
    pauses = np.diff([now for now, _ in steps])
    assert len(steps) == 10 and pauses.max() > 8 and np.median(pauses) == pytest.approx(0.1, abs=0.01)


def test_an_episode_is_skipped():
    """Also out of a pause; the next one is shown whole."""
    for events in ([(0.45, pygame.K_n)], [(0.25, pygame.K_SPACE), (0.45, pygame.K_RIGHT)]):
        time, drawn = Time(*events), []
        window = make_window(time)
        list(window.show(frames(10, drawn), 1))
        assert len(drawn) <= 5 and time.now < 0.6
        assert len(list(window.show(frames(4, drawn), 2))) == 4


@pytest.mark.parametrize("key", [pygame.K_q, pygame.K_ESCAPE, None])
def test_it_is_closed(key):
    time, drawn = Time((0.45, key)), []
    with pytest.raises(Closed):
        list(make_window(time).show(frames(10, drawn), 1))
    assert len(drawn) == 5


def seen():
    return pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)


def test_the_picture_and_the_text_are_in_the_window():
    window = make_window(Time())
    picture = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    list(window.show(iter([Frame(lambda: picture, 0, 0.0)]), 1))
    assert seen().shape == (48 + BAR, 64, 3) and pygame.display.get_caption()[0] == "a title"
    np.testing.assert_array_equal(seen()[:48], picture)
    bars = []
    for total in (7.0, 8.0):
        list(window.show(iter([Frame(lambda: np.zeros((30, 400, 3), np.uint8), 1, total)]), 2))
        bars.append(seen()[30:].copy())
        assert bars[-1].shape == (BAR, 400, 3) and bars[-1].max() == 255
    assert (bars[0] != bars[1]).any()


def test_a_picture_fits_a_resized_window():
    """As large as it can be, in its own proportions, in the middle."""
    window = make_window(Time())
    white = np.full((48, 64, 3), 255, np.uint8)
    list(window.show(iter([Frame(lambda: white, 0, 0.0)]), 1))
    for size, inside in (((200, 48), (64, 48)), ((128, 200), (128, 96)), ((20, 1), (1, 1))):
        pygame.display.set_mode((size[0], size[1] + BAR), pygame.RESIZABLE)
        pygame.event.post(pygame.event.Event(pygame.VIDEORESIZE, size=size, w=size[0], h=size[1]))
        window._answer()
        lit = (seen()[: size[1]] == 255).all(axis=-1)
        down, across = np.argwhere(lit).max(axis=0) - np.argwhere(lit).min(axis=0) + 1
        assert (across, down) == inside and lit.sum() == across * down
        assert abs(np.argwhere(lit).mean(axis=0) - (np.array(size[::-1]) - 1) / 2).max() <= 0.5


def test_the_window_answers_while_it_compiles():
    """It can be closed, and an error comes out as it is."""
    wait, error = threading.Event(), ValueError("no such program")

    def fail():
        raise error

    player = lambda prepare: Player("", prepare, lambda key: iter(()), lambda: None)
    window = make_window(Time())
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    with pytest.raises(Closed):
        window.wait_for(player(wait.wait))
    wait.set()
    with pytest.raises(ValueError) as caught:
        window.wait_for(player(fail))
    assert caught.value is error
    window.wait_for(player(lambda: None))


# Runs


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "run"
    purerl.run(tiny("a2c", "cartpole", env_kwargs={"max_episode_steps": 40}), 2, path, progress=False)
    return path


def test_episodes_are_those_of_a_film(run_dir, tmp_path):
    options = dict(member=1, episodes=3, seed=4, stochastic=True, **SIZE)
    film = record_video(run_dir, tmp_path / "film.gif", **options)
    assert watch(run_dir, fps=240, **options) == film.returns
    assert not pygame.display.get_init() and len(set(film.returns)) > 1


def test_gymnasium_is_shown(tmp_path):
    """Episode after episode: its own pictures, whose environments would close the window with themselves."""
    cfg = tiny("a2c", "gym:CartPole-v1", env_kwargs={"max_episode_steps": 9})
    purerl.run(cfg, 1, tmp_path / "run", progress=False)
    film = record_video(tmp_path / "run", tmp_path / "film.gif", episodes=3)
    assert watch(tmp_path / "run", episodes=3, fps=240) == film.returns and max(film.returns) > 1


def test_it_goes_on_until_it_is_closed(run_dir, monkeypatch):
    show, shown = Window.show, []

    def counted(self, frames, episode):
        shown.append(episode)
        if episode == 4:
            pygame.event.post(pygame.event.Event(pygame.QUIT))
        yield from show(self, frames, episode)

    monkeypatch.setattr(Window, "show", counted)
    returns = watch(run_dir, fps=240, max_steps=3, **SIZE)
    assert shown == [1, 2, 3, 4] and returns == [3.0, 3.0, 3.0, 0.0]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems always have one")
@pytest.mark.parametrize("name", [None, "DISPLAY"])
def test_without_a_display_nothing_is_compiled(name, run_dir, monkeypatch, capfd):
    """Neither set, or one that does not answer: a film is the advice."""
    for variable in ("SDL_VIDEODRIVER", "SDL_VIDEO_DRIVER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(variable, raising=False)
    if name:
        monkeypatch.setenv(name, ":987")
    monkeypatch.setattr(module, "make_player", lambda *args, **kwargs: pytest.fail("not expected"))
    what = "none answers at :987" if name else "neither DISPLAY nor WAYLAND_DISPLAY is set"
    with pytest.raises(ConfigError, match=rf"window = True: .*{what}.*--out film\.mp4"):
        watch(run_dir)
    assert command(["play", str(run_dir), "--window", "--compilation-cache", "none"]) == 2
    assert what in capfd.readouterr().err and not pygame.display.get_init()


def test_without_pygame_the_error_names_the_extra(run_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(ConfigError, match=r"purerl\[render\].*--out film\.mp4"):
        watch(run_dir)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"member": 2}, "member = 2"),
        ({"fps": 0}, "fps = 0"),
        ({"episodes": 0}, "episodes = 0"),
        ({"height": 5}, "height = 5"),
        ({"seed": -1}, "seed = -1"),
        ({"camera": "front"}, "camera"),
        ({"itr": 1}, "itr = 1"),
    ],
)
def test_mistakes_are_refused(options, part, run_dir):
    with pytest.raises(ConfigError, match=part):
        watch(run_dir, **options)
    assert not pygame.display.get_init()


def test_the_command(run_dir, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["play", str(run_dir), "--window", "--compilation-cache", "none", "--max-steps", "3"]
    words += ["--episodes", "2", "--fps", "100"]
    assert command(words) == 0
    assert capsys.readouterr().out == "2 episodes, return 3.0, 3.0\n"
    assert command([*words, "--out", "film.gif"]) == 2
    assert "window = True: expected False beside out = 'film.gif'" in capsys.readouterr().err
    assert not os.listdir(tmp_path)
