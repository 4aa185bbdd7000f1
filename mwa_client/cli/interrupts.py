"""Ctrl-C, SIGTERM and SIGHUP: everything is put down in order, and the program ends within two seconds.

The first one is raised in the main thread; those that follow change nothing, for the end is near.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from mwa_client.errors import ExitStatus
from mwa_client.threads import has_started

GRACE = 1.6
"""Seconds in which the work must be put down; whatever hangs then (a name look-up, a disk) is left."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """The user or the system wants the program to end.

    Parameters
    ----------
    number : int
        The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        is_ctrl_c = number == signal.SIGINT
        self.exit_status = ExitStatus.INTERRUPTED if is_ctrl_c else ExitStatus.TERMINATED
        self._word = "Interrupted" if is_ctrl_c else "Terminated"

    def __str__(self) -> str:
        return f"{self._word}. Everything so far is kept: run the same command again to go on."


class _Ending:
    """Whether the program has been told to end. There is one main thread, so there is one of these."""

    raised = False
    held_back = 0
    waiting: int | None = None


@contextmanager
def interrupts_caught() -> Iterator[None]:
    """Raise `Interrupted` in the main thread when a signal wants the program to end.

    A signal that the program was started to ignore (nohup) stays ignored. If the block does not end
    within `GRACE` seconds of the signal, the process ends all the same. After the block all signals mean
    what they meant before; if one was raised, they are ignored, for then the program is about to end.
    """
    before = {number: signal.getsignal(number) for number in SIGNALS}
    ours = [n for n, handler in before.items() if handler in (signal.SIG_DFL, signal.default_int_handler)]
    _Ending.raised, _Ending.held_back, _Ending.waiting = False, 0, None
    with _end_seen_to(ours):
        for number in ours:
            signal.signal(number, _hear)
        try:
            yield
        finally:
            for number in ours:
                signal.signal(number, signal.SIG_IGN if _Ending.raised else before[number])


@contextmanager
def _end_seen_to(signals: Collection[int]) -> Iterator[None]:
    """Have a thread wait for these signals, while there is one to be had for it."""
    ear, mouth = os.pipe()
    os.set_blocking(mouth, False)
    if not has_started(threading.Thread(target=_see_to_the_end, args=(ear, signals), daemon=True)):
        # Only a main thread that hangs is missed then.
        os.close(ear)
        os.close(mouth)
        yield
        return
    wakeup_before = signal.set_wakeup_fd(mouth, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup_before)
        os.close(mouth)


@contextmanager
def interrupts_held_back() -> Iterator[None]:
    """Let no interrupt come in the middle of what is done here; it comes at the end of it."""
    _Ending.held_back += 1
    try:
        yield
    finally:
        _Ending.held_back -= 1
    if _Ending.waiting is not None and not _Ending.held_back:
        number, _Ending.waiting = _Ending.waiting, None
        _raise(number)


def _hear(number: int, frame: FrameType | None) -> None:
    if _Ending.held_back:
        _Ending.waiting = number
    else:
        _raise(number)


def _raise(number: int) -> None:
    if not _Ending.raised:
        _Ending.raised = True
        raise Interrupted(number)


def _see_to_the_end(ear: int, signals: Collection[int]) -> None:
    """Wait for a signal, in a thread of its own; end the process if the main thread does not.

    The main thread may hang in a system call (looking up a name, say) in which no exception reaches it.
    """
    with os.fdopen(ear, "rb", buffering=0) as heard:
        # Python writes the number of each signal; the end of the file is the end of the work.
        number = next((byte[0] for byte in iter(lambda: heard.read(1), b"") if byte[0] in signals), None)
        deadline = time.monotonic() + GRACE
        while number is not None and select.select([heard], [], [], max(deadline - time.monotonic(), 0.0))[0]:
            if not heard.read(1):
                return
    if number is not None:
        _end_at_once(number)


def _end_at_once(number: int) -> None:
    interrupted = Interrupted(number)
    with suppress(OSError, ValueError):
        screen = sys.stderr.fileno()
        clean = "\r\x1b[J" if os.isatty(screen) else ""
        if select.select([], [screen], [], 0)[1]:  # A terminal that is held (Ctrl-S) would hold us too.
            os.write(screen, f"{clean}{interrupted}\n".encode())
    os._exit(interrupted.exit_status)
