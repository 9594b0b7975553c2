"""A window that shows a trained policy live, episode after episode, until it is closed."""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from purerl.config import ConfigError, Rule, validate
from purerl.types import Env, HostEnv
from purerl.workbench.episodes import Frame, Player, make_player

KEYS = "space: pause   + -: speed   n: next   q: quit"
BAR = 40
"""Pixels below the picture, for two lines of text."""
SLOWEST, FASTEST = 1 / 16, 64.0
"""Factors of the speed."""
PATIENCE_SECONDS = 0.1
"""Time without a new picture after which there is one, also while the steps are late."""
LATE_SECONDS = 1.0
"""Most that the steps may be late: beyond it the window shows them more slowly."""
IDLE_SECONDS = 0.02
"""Time between two looks at the keys while nothing moves."""
INSTEAD = "Without one, write a film: purerl play RUN --out film.mp4."


class Closed(Exception):
    """The window was closed."""


@jax.transfer_guard("allow")
def watch(
    run_dir: str | os.PathLike[str],
    *,
    member: int = 0,
    episodes: int | None = None,
    max_steps: int = 1000,
    best: bool = False,
    itr: int | None = None,
    stochastic: bool = False,
    seed: int = 0,
    fps: int = 30,
    width: int = 480,
    height: int = 480,
    camera: Any = None,
    env: Env | HostEnv | None = None,
    networks: Mapping[str, Any] | None = None,
) -> list[float]:
    """Show a member's policy in a window; return the undiscounted return of each episode, as far as shown.

    Space pauses, + and - change the speed, n or the right arrow goes to the next episode, q or Escape quits.
    The episodes are those of `record_video`. At a speed that pictures cannot follow, some are left out.

    Args:
        run_dir: the `logdir` of `purerl.run`.
        member: index of the member.
        episodes: number of episodes; None goes on until the window is closed.
        max_steps: longest part of an episode that is shown.
        best: the policy of the best evaluation, in place of the newest.
        itr: the policy of this epoch, which the run has kept, in place of the newest.
        stochastic: act as in training, with exploration.
        seed: root of the random numbers.
        fps: steps of the environment per second, at speed 1.
        width: of a picture, in pixels; those of an environment that steps in Python have its own size. The
            window can be resized.
        height: of a picture, in pixels.
        camera: as in the environment's `render`.
        env: the task; the run's own if None.
        networks: those the run was trained with, if not the algorithm's own.

    Raises:
        ConfigError: for an argument that is not allowed, an environment without pictures, or where there is
            no display.
        CheckpointError: if there is no checkpoint that can be read.
    """
    validate("episodes", episodes, Rule("count", 1, 100_000, optional=True))
    validate("fps", fps, Rule("count", 1, 240))
    validate("seed", seed, Rule("count", 0, 2**32 - 1))
    pygame = _open_display()
    returns: list[float] = []
    try:
        asked: dict[str, Any] = {"member": member, "max_steps": max_steps, "best": best, "itr": itr}
        asked |= {"stochastic": stochastic, "width": width, "height": height, "camera": camera}
        player = make_player(run_dir, **asked, env=env, networks=networks)
        try:
            window = Window(pygame, player.title, width, height, fps)
            window.wait_for(player)
            for i in itertools.count() if episodes is None else range(episodes):
                returns.append(0.0)
                for total in window.show(player.episode(seed, i, stochastic), i + 1):
                    returns[-1] = total
        finally:
            player.close()
    except Closed:
        pass
    finally:
        pygame.quit()
    return returns


def _open_display() -> Any:
    """Return pygame, its display begun. Raises ConfigError without the package, or without a display."""
    try:
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        import pygame
    except ImportError as error:
        hint = f'Try pip install "purerl[render]". {INSTEAD}'
        raise ConfigError("window", "pygame", "an installed package", hint) from error
    named = [name for name in ("SDL_VIDEODRIVER", "SDL_VIDEO_DRIVER") if os.environ.get(name)]
    screens = [name for name in ("DISPLAY", "WAYLAND_DISPLAY") if os.environ.get(name)]
    reason = "neither DISPLAY nor WAYLAND_DISPLAY is set"
    if named or screens or not sys.platform.startswith("linux"):
        try:
            pygame.display.init()
            driver = pygame.display.get_driver()
            if named or driver not in ("offscreen", "dummy"):  # where SDL finds no other
                pygame.font.init()
                return pygame
            reason = f"none answers at {' or '.join(os.environ[name] for name in screens)}"
        except pygame.error as error:
            reason = str(error)
        pygame.quit()
    raise ConfigError("window", True, f"a display, and {reason}", INSTEAD)


class Window:
    """The window, and the clock and the keys of what it shows.

    `clock` gives seconds, `sleep` lets them pass. Raises `Closed` once it is closed.
    """

    def __init__(
        self,
        pygame: Any,
        title: str,
        width: int,
        height: int,
        fps: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self._pygame, self._fps = pygame, fps
        self._clock, self._sleep = clock, sleep
        self._size = (0, 0)
        self._picture = np.zeros((height, width, 3), np.uint8)
        self._font = pygame.font.Font(None, 20)
        self.speed, self.paused, self.next = 1.0, False, False
        self._text = "compiling"
        pygame.display.set_caption(title)
        self._draw()

    def wait_for(self, player: Player) -> None:
        """Compile what the player needs in another thread, and answer the system in the meantime."""
        errors: list[BaseException] = []

        def work() -> None:
            try:
                with jax.transfer_guard("allow"):
                    player.prepare()
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        while thread.is_alive():
            self._answer()
            thread.join(IDLE_SECONDS)
        if errors:
            raise errors[0]
        self.next = False

    def show(self, frames: Iterator[Frame], episode: int) -> Iterator[float]:
        """Show an episode, and yield its return after every step."""
        due, drawn = self._clock(), -np.inf
        for frame in frames:
            now, period = self._clock(), 1 / (self._fps * self.speed)
            due = max(due, now - LATE_SECONDS)
            self._text = f"episode {episode}   step {frame.step}   return {frame.total:,.1f}"
            yield frame.total
            if frame.draw and (now - due < period or now - drawn >= PATIENCE_SECONDS):
                self._picture = frame.draw()
                self._draw()
                drawn = self._clock()
            due += period
            self._pass(due)
            while self.paused and not self.next:
                due = self._clock() + IDLE_SECONDS
                self._pass(due)
            if self.next:
                self.next = False
                return

    def _pass(self, due: float) -> None:
        """Answer keys until the time `due`."""
        while True:
            self._answer()
            left = due - self._clock()
            if left <= 0 or self.next:
                return
            self._sleep(min(left, IDLE_SECONDS))

    def _answer(self) -> None:
        """Answer the keys since the last call."""
        pygame = self._pygame
        for event in pygame.event.get():
            key = event.key if event.type == pygame.KEYDOWN else None
            if event.type == pygame.QUIT or key in (pygame.K_q, pygame.K_ESCAPE):
                raise Closed
            if key == pygame.K_SPACE:
                self.paused = not self.paused
            elif key in (pygame.K_PLUS, pygame.K_EQUALS, pygame.K_KP_PLUS, pygame.K_UP):
                self.speed = min(2 * self.speed, FASTEST)
            elif key in (pygame.K_MINUS, pygame.K_KP_MINUS, pygame.K_DOWN):
                self.speed = max(self.speed / 2, SLOWEST)
            elif key in (pygame.K_n, pygame.K_RIGHT):
                self.next, self.paused = True, False
            if event.type in (pygame.KEYDOWN, pygame.VIDEORESIZE, pygame.WINDOWEXPOSED):
                self._draw()

    def _draw(self) -> None:
        """Draw the picture, as large as fits, and the text below it."""
        pygame, (height, width) = self._pygame, self._picture.shape[:2]
        if self._size != (width, height):
            self._size = width, height
            pygame.display.set_mode((width, height + BAR), pygame.RESIZABLE)
        screen: Any = pygame.display.get_surface()
        across, down = screen.get_width(), max(screen.get_height() - BAR, 1)
        factor = min(across / width, down / height)
        size = max(1, round(factor * width)), max(1, round(factor * height))
        surface = pygame.image.frombuffer(np.ascontiguousarray(self._picture), (width, height), "RGB")
        if size != (width, height):
            surface = pygame.transform.scale(surface, size)
        screen.fill("black")
        screen.blit(surface, ((across - size[0]) // 2, (down - size[1]) // 2))
        state = f"{self._text}   x{self.speed:g}" + "   paused" * self.paused
        screen.blit(self._font.render(state, True, "white"), (6, down + 4))
        screen.blit(self._font.render(KEYS, True, "gray"), (6, down + 22))
        pygame.display.flip()
