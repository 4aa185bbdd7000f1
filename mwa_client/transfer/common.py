"""What all transfers of a run share, and what they do in the same way: retry, and tell their progress."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import field
from typing import TypeVar

from mwa_client.errors import ServiceUnavailable, Stopped, TransferFailed
from mwa_client.light_dataclasses import dataclass
from mwa_client.timing import Backoff, Clock
from mwa_client.transfer.connections import ConnectionBudget
from mwa_client.transfer.events import Progress, Setback, TransferEvent
from mwa_client.transfer.files import DownloadDirectory, ExpectedFile

T = TypeVar("T")
LEAST_WAIT = 0.001
"""Seconds that are worth waiting."""
PROGRESS_INTERVAL = 0.1
"""Seconds between two reports of progress."""


@dataclass(frozen=True)
class Transfers:
    """What all transfers of a run share.

    Attributes
    ----------
    directory : DownloadDirectory
        Where files go.
    clock : Clock
        Time, for the waits between tries.
    stop : threading.Event
        Set when the work is to stop.
    listen : callable
        Is told of progress, setbacks, and what else the user should know.
    connections : ConnectionBudget
        How many connections there may be, over all transfers that share this; one if left out.
    """

    directory: DownloadDirectory
    clock: Clock
    stop: threading.Event
    listen: Callable[[TransferEvent], None]
    connections: ConnectionBudget = field(default_factory=lambda: ConnectionBudget(1))

    def check_stop(self) -> None:
        """Raise `Stopped` if the work was told to stop."""
        if self.stop.is_set():
            raise Stopped("The work was told to stop.")


class Retries:
    """The tries of one transfer: longer and longer waits, until it makes progress or fails.

    Parameters
    ----------
    transfers : Transfers
        The clock, the stop signal and the listener.
    expected : ExpectedFile
        What is transferred.
    most : int
        Tries in a row without progress after which the transfer fails.
    longest_wait : float
        Seconds between two tries, at most. The first wait is one second.
    """

    def __init__(self, transfers: Transfers, expected: ExpectedFile, most: int, longest_wait: float) -> None:
        self._transfers = transfers
        self._expected = expected
        self._most = most
        self._backoff = Backoff(transfers.clock, first=1.0, cap=longest_wait)

    def note_progress(self) -> None:
        """Let the next wait be short again, and all tries be left."""
        self._backoff.reset()

    def next_wait(self, error: ServiceUnavailable, failure: TransferFailed, requests: int = 1) -> float:
        """Return how many seconds to wait before the next try, after so many requests in this one.

        Raises
        ------
        TransferFailed
            There were enough tries: this is the `failure` that was passed.
        """
        if self._backoff.tries >= self._most:
            raise failure from error
        return self._backoff.next(error.retry_after, requests)

    def work(self, do: Callable[[], T], remedy: str) -> T:
        """Do something, again and again while it fails with what may pass; return what it returns.

        Raises
        ------
        TransferFailed
            There were enough tries; `remedy` is what the user can do.
        Stopped
            `stop` was set.
        """
        while True:
            try:
                return do()
            except ServiceUnavailable as error:
                self.wait(self.next_wait(error, TransferFailed(error.what, remedy)), error)
                self._transfers.check_stop()

    def wait(self, seconds: float, error: ServiceUnavailable | None = None) -> None:
        """Sleep before the next try; tell the user why, but only once until there is progress."""
        if error is not None and self._backoff.tries == 1:
            expected = self._expected
            self._transfers.listen(Setback(expected.job_id, expected.name, error.what, seconds))
        if seconds > LEAST_WAIT:
            self._transfers.clock.sleep(seconds, self._transfers.stop)


class ProgressReporter:
    """Tells how much of a file is here, now and then. Can be used from several threads.

    Attributes
    ----------
    size : int or None
        Bytes in all, where that is known: that these are here is always told.
    """

    def __init__(self, transfers: Transfers, expected: ExpectedFile, size: int | None) -> None:
        self.size = size
        self._transfers = transfers
        self._expected = expected
        self._lock = threading.Lock()
        self._told_at = float("-inf")

    def report(self, present: int) -> None:
        """Tell that so many bytes are here, if it is time to."""
        now = self._transfers.clock.monotonic()
        with self._lock:
            is_due = now - self._told_at >= PROGRESS_INTERVAL or present == self.size
            self._told_at = now if is_due else self._told_at
        if is_due:
            expected = self._expected
            self._transfers.listen(Progress(expected.job_id, expected.name, present, self.size))
