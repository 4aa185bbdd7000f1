"""A run on a terminal: its clock moves while nothing happens; it can be stopped (Ctrl-Z) and continued."""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Callable, TypeVar

from mwa_client.timing import SystemClock

T = TypeVar("T")
TICK = 1.0
"""Seconds after which the screen is drawn again while nothing happens."""


class TickingClock(SystemClock):
    """The clock of the machine, which calls a function every second while the loop waits.

    Parameters
    ----------
    tick : callable
        Is called in the thread that waits, so it needs no lock.
    """

    def __init__(self, tick: Callable[[], None]) -> None:
        self._tick = tick

    def receive(self, inbox: queue.Queue[T], seconds: float, *, is_coming: bool = False) -> T | None:
        """Return the next thing in `inbox`, or None when nothing came for so many seconds."""
        ends = self.monotonic() + seconds
        while True:
            left = ends - self.monotonic()
            message = super().receive(inbox, min(left, TICK))
            if message is not None or left <= TICK:
                return message
            self._tick()


class Stopping:
    """Leaves a clean screen when the user stops the program with Ctrl-Z, and draws it again after ``fg``.

    Parameters
    ----------
    pause, resume : callable
        Take what is drawn off the screen; draw it again.
    """

    def __init__(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self._pause = pause
        self._resume = resume
        self._is_drawing = False
        self._is_asked = False

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """Do not stop within the block, in which the screen is drawn; stop at its end if that was asked."""
        self._is_drawing = True
        try:
            yield
        finally:
            self._is_drawing = False
        if self._is_asked:
            self._stop()

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Take care of Ctrl-Z within the block, unless the program was started to ignore it."""
        is_ours = (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL
        )
        if not is_ours:
            yield
            return
        signal.signal(signal.SIGTSTP, self._on_signal)
        try:
            yield
        finally:
            signal.signal(signal.SIGTSTP, signal.SIG_DFL)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._is_asked = True
        if not self._is_drawing:
            self._stop()

    def _stop(self) -> None:
        self._is_asked = False
        self._pause()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)  # The program stands still here, until it is continued.
        signal.signal(signal.SIGTSTP, self._on_signal)
        self._resume()
