"""Ctrl-C, SIGTERM and SIGHUP: the first requests a clean end, the second ends at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def ends_at_once(signum: int) -> bool:
    """Return True if this signal, as a second one, ends at once.

    SIGHUP does not: as a terminal is closed the shell sends one and the kernel another.
    """
    return signum in SIGNALS and signum != signal.SIGHUP


class Interrupted(KeyboardInterrupt):
    """The early end of a run after a signal; its newest checkpoint holds all that was trained."""

    def __init__(self, signum: int, message: str):
        self.signum = signum
        super().__init__(message)


class Interrupts(AbstractContextManager):
    """The first signal, in `pending`; the second raises KeyboardInterrupt. Main thread only.

    `say` prints a line: a signal is answered at once.
    """

    def __init__(self, say: Callable[[str], None]):
        self.pending: int | None = None
        self._say, self._may_leave = say, False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        """Take over the signals that are not ignored."""
        if threading.current_thread() is threading.main_thread():
            heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
            self._previous = {number: signal.signal(number, self._note) for number in heard}
        return self

    def __exit__(self, *error: object) -> None:
        """Restore the previous handlers."""
        for number, handler in self._previous.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None: that of a library, which Python lacks

    @contextmanager
    def leaving(self) -> Iterator[None]:
        """Let the first signal raise Interrupted within the block, of which nothing need be saved."""
        self._may_leave = True
        try:
            yield
        finally:
            self._may_leave = False

    def check(self) -> None:
        """Raise Interrupted after a signal, while there is nothing to save yet."""
        if self.pending:
            raise Interrupted(self.pending, f"{signal.Signals(self.pending).name}: nothing to save yet")

    def _note(self, signum: int, frame: object) -> None:
        if self.pending is not None:
            if ends_at_once(signum):
                raise KeyboardInterrupt(signum)
            return
        self.pending = signum
        text = f"{signal.Signals(signum).name}: ending cleanly; once more ends at once"
        threading.Thread(target=self._say, args=(text,)).start()  # here it might interrupt another print
        if self._may_leave:
            self.check()


def answering(function: Callable[[], T]) -> T:
    """Return `function()`, which may stay in compiled code for long, while signals are answered.

    Python's handlers run between two of its own instructions, in the main thread: so that waits here.
    """
    done, results, errors = threading.Event(), [], []

    def work() -> None:
        try:
            results.append(function())
        except BaseException as error:
            errors.append(error)
        done.set()

    threading.Thread(target=work, daemon=True).start()
    done.wait()
    if errors:
        raise errors[0]
    return results[0]


class SecondEndsAtOnce(AbstractContextManager):
    """A watch that ends the process at the second signal, even while compiled code runs; for commands.

    Python runs a signal's handler only between two of its own instructions, and a compilation delays it
    for seconds. The wake-up pipe is written by the signal itself; a thread reads it.
    """

    def __enter__(self) -> SecondEndsAtOnce:
        """Start the watch."""
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._previous = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop the watch."""
        signal.set_wakeup_fd(self._previous)
        os.close(self._writer)  # the watcher reads the end of the pipe, and ends

    def _watch(self) -> None:
        pending = False
        while byte := os.read(self._reader, 1):
            if pending and ends_at_once(byte[0]):
                os._exit(128 + byte[0])
            pending = pending or byte[0] in SIGNALS
        os.close(self._reader)
