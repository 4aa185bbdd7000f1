"""A few threads that do what they are given, and tell what comes of it."""

from __future__ import annotations

import queue
import threading
import time
from typing import Any, Callable

from mwa_client.threads import has_started


class Workers:
    """A few threads that do what they are given and put what comes of it into an inbox.

    They are daemons, so that one that hangs in a dead connection cannot keep the program from ending. Where
    the system gives no more threads, those that are there do all of it; where it gives none, whoever gives
    the work does it.

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
        if len(self._threads) < self._most:
            thread = threading.Thread(target=self._run, daemon=True)
            if has_started(thread):
                self._threads.append(thread)
        if self._threads:
            self._work.put(work)
        else:
            self._do(work)

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
                self._do(work)
            except BaseException as error:  # A mistake in this program: let the loop's thread die of it.
                self._inbox.put(error)

    def _do(self, work: Callable[[], object]) -> None:
        message = work()
        if message is not None:
            self._inbox.put(message)
