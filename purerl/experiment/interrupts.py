"""Ctrl-C and SIGTERM: the first asks for a clean end, the second ends at once."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import AbstractContextManager
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A run ended early because it was asked to. What was trained is in its newest checkpoint."""

    def __init__(self, signum: int, message: str):
        self.signum = signum
        super().__init__(message)


class Interrupts(AbstractContextManager):
    """Notes the first signal, for whoever asks `pending`; the second is a KeyboardInterrupt.

    Only the main thread gets signals; in any other this does nothing.
    """

    def __init__(self):
        self.pending: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        """Take over the signals."""
        if threading.current_thread() is threading.main_thread():
            heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
            self._previous = {number: signal.signal(number, self._note) for number in heard}
        return self

    def __exit__(self, *error: object) -> None:
        """Give them back to whoever had them."""
        for number, handler in self._previous.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None: that of a library, which Python lacks

    def check(self) -> None:
        """Raises Interrupted if an end was asked for. For where there is nothing to save yet."""
        if self.pending:
            raise Interrupted(self.pending, f"{signal.Signals(self.pending).name}: nothing to save yet")

    def _note(self, signum: int, frame: object) -> None:
        if self.pending is not None:
            raise KeyboardInterrupt
        self.pending = signum


class SecondEndsAtOnce(AbstractContextManager):
    """Ends the process at the second signal, even while the main thread is deep in compiled code.

    Python runs a signal's handler only between two of its own instructions, which a compilation
    keeps waiting for seconds. The wake-up pipe is written by the signal itself; a thread reads it.
    For commands, whose process is theirs to end; the main thread only.
    """

    def __enter__(self) -> SecondEndsAtOnce:
        """Start to watch."""
        self._reader, writer = os.pipe()
        os.set_blocking(writer, False)
        self._previous = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        self._writer = writer
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop watching."""
        signal.set_wakeup_fd(self._previous)
        os.close(self._writer)  # the watcher reads the end of the pipe, and ends

    def _watch(self) -> None:
        seen = 0
        while byte := os.read(self._reader, 1):
            seen += byte[0] in SIGNALS
            if seen == 2:
                os._exit(128 + byte[0])
        os.close(self._reader)
