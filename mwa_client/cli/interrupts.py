"""Ctrl-C, SIGTERM and SIGHUP: the program stops its work in good order, and ends within two seconds.

The first signal is raised as an exception in the main thread; later ones are ignored.
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
"""Seconds in which the work must stop. After that the process ends, even where a look-up or a disk hangs."""
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
        return f"{self._word}. Everything so far is kept: run the same command again to continue."


class _State:
    """Which signals have come. Signals concern the whole process, so the state is the process's, too.

    Attributes
    ----------
    is_raised : bool
        A signal was raised as an exception.
    blocks : int
        How many `interrupts_held_back` blocks the main thread is in.
    pending : int or None
        The signal that came in such a block, to be raised at its end.
    """

    is_raised = False
    blocks = 0
    pending: int | None = None


@contextmanager
def interrupts_caught() -> Iterator[None]:
    """Raise `Interrupted` in the main thread when a signal wants the program to end.

    A signal that the program was started to ignore (nohup) stays ignored. If the block does not end
    within `GRACE` seconds of the signal, the process ends all the same. After the block the earlier handlers
    are back; if a signal was raised, all are ignored instead, because the program is about to end.
    """
    before = {number: signal.getsignal(number) for number in SIGNALS}
    ours = [n for n, handler in before.items() if handler in (signal.SIG_DFL, signal.default_int_handler)]
    _State.is_raised, _State.blocks, _State.pending = False, 0, None
    with _watchdog(ours):
        for number in ours:
            signal.signal(number, _on_signal)
        try:
            yield
        finally:
            for number in ours:
                signal.signal(number, signal.SIG_IGN if _State.is_raised else before[number])


@contextmanager
def _watchdog(signals: Collection[int]) -> Iterator[None]:
    """Have a thread end the process if the main thread does not end within `GRACE` seconds of a signal."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    if not has_started(threading.Thread(target=_end_if_stuck, args=(read_end, signals), daemon=True)):
        # No thread can be started: then a main thread that hangs is not ended.
        os.close(read_end)
        os.close(write_end)
        yield
        return
    wakeup_before = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup_before)
        os.close(write_end)


@contextmanager
def interrupts_held_back() -> Iterator[None]:
    """Let no interrupt come within the block; one that would have comes at its end."""
    _State.blocks += 1
    try:
        yield
    finally:
        _State.blocks -= 1
    if _State.pending is not None and not _State.blocks:
        number, _State.pending = _State.pending, None
        _raise(number)


def _on_signal(number: int, frame: FrameType | None) -> None:
    if _State.blocks:
        _State.pending = number
    else:
        _raise(number)


def _raise(number: int) -> None:
    if not _State.is_raised:
        _State.is_raised = True
        raise Interrupted(number)


def _end_if_stuck(read_end: int, signals: Collection[int]) -> None:
    """Wait for a signal, and end the process if the main thread does not.

    The main thread may hang in a system call (looking up a name, say) in which no exception reaches it.
    """
    with os.fdopen(read_end, "rb", buffering=0) as pipe:
        # Python writes the number of each signal into the pipe, which is closed when the work has ended.
        number = next((byte[0] for byte in iter(lambda: pipe.read(1), b"") if byte[0] in signals), None)
        deadline = time.monotonic() + GRACE
        while number is not None and select.select([pipe], [], [], max(deadline - time.monotonic(), 0.0))[0]:
            if not pipe.read(1):
                return
    if number is not None:
        _end_at_once(number)


def _end_at_once(number: int) -> None:
    interrupted = Interrupted(number)
    with suppress(OSError, ValueError):
        screen = sys.stderr.fileno()
        clean = "\r\x1b[J" if os.isatty(screen) else ""
        if select.select([], [screen], [], 0)[1]:  # Writing to a stopped terminal (Ctrl-S) would block.
            os.write(screen, f"{clean}{interrupted}\n".encode())
    os._exit(interrupted.exit_status)
