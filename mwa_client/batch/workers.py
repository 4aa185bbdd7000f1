"""A small pool of threads whose results go into the inbox of the loop."""

from __future__ import annotations

import queue
import threading
import time
from typing import Any, Callable

from mwa_client.memory import has_spare_memory
from mwa_client.threads import has_started


class Workers:
    """A small pool of threads that run callables and put what they return into an inbox.

    The threads are daemons, so that one that hangs in a dead connection cannot keep the program from ending.
    Where the system allows no more threads, or has no memory to spare for what they do, the existing ones do
    all the work; where it allows none, `give` does the work itself.

    Parameters
    ----------
    most : int
        The number of threads; each is started when it is first needed.
    inbox : queue.Queue
        Where the results go; None is no result.
    """

    def __init__(self, most: int, inbox: queue.Queue[Any]) -> None:
        self._most = most
        self._inbox = inbox
        self._work: queue.Queue[Callable[[], object] | None] = queue.Queue()
        self._threads: list[threading.Thread] = []

    def give(self, work: Callable[[], object]) -> None:
        """Let a thread run `work`; what it returns, or the exception it raises, goes into the inbox."""
        if len(self._threads) < self._most and (not self._threads or has_spare_memory()):
            thread = threading.Thread(target=self._run, name="worker", daemon=True)
            if has_started(thread):
                self._threads.append(thread)
        if self._threads:
            self._work.put(work)
        else:
            self._do(work)

    def finish(self, deadline: float) -> None:
        """Tell the threads to end, and wait for them until `deadline`, by `time.monotonic`."""
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
            except BaseException as error:  # A mistake in this program: raise it in the loop's thread.
                self._inbox.put(error)

    def _do(self, work: Callable[[], object]) -> None:
        message = work()
        if message is not None:
            self._inbox.put(message)
