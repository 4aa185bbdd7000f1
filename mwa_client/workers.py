"""A few threads that do what they are given, and tell what comes of it."""

from __future__ import annotations

import queue
import threading
import time
from typing import Any, Callable


class Workers:
    """A few threads that do what they are given and put what comes of it into an inbox.

    They are daemons, so that one that hangs in a dead connection cannot keep the program from ending.

    Parameters
    ----------
    most : int
        Threads; they are started as they are needed.
    inbox : queue.Queue
        Where what comes of the work goes; None does not.
    """

    def __init__(self, most: int, inbox: queue.Queue[Any]) -> None:
        self._most = most
        self._inbox = inbox
        self._work: queue.Queue[Callable[[], object] | None] = queue.Queue()
        self._threads: list[threading.Thread] = []

    def give(self, work: Callable[[], object]) -> None:
        """Have something done; what it returns, or the error it raises, goes into the inbox."""
        self._work.put(work)
        if len(self._threads) < self._most:
            thread = threading.Thread(target=self._run, daemon=True)
            try:
                thread.start()
            except (RuntimeError, MemoryError):
                if not self._threads:
                    raise
                return  # No more threads to be had: those that are there do it, one thing after the other.
            self._threads.append(thread)

    def finish(self, deadline: float) -> None:
        """Let the threads go, and wait until `deadline` for those that have something to put down."""
        for _ in self._threads:
            self._work.put(None)
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0.0))

    def _run(self) -> None:
        while True:
            work = self._work.get()
            if work is None:
                return
            try:
                message: object = work()
            except BaseException as error:  # A mistake in this program: let the loop's thread die of it.
                message = error
            if message is not None:
                self._inbox.put(message)
