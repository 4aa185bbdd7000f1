"""Connections: how many there may be, and how fast each of them is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from mwa_client.errors import Stopped
from mwa_client.light_dataclasses import dataclass
from mwa_client.transfer.throttle import HostPace

STOP_CHECK_INTERVAL = 0.5
"""Seconds after which a wait looks whether the work was told to stop."""
LONG_ANSWER = 1.0
"""Seconds that an answer on a long line is thought to take before the first is here."""
RATE_TIME = 0.25
"""Seconds over which the rate of each connection is measured."""
SLOWEST, SLOW_FOR = 1000, 60.0
"""A connection with fewer bytes a second than these for so many seconds is replaced if it was faster."""


class ConnectionBudget:
    """How many connections may be open for all downloads together.

    It also knows when each host may be asked, since that holds for all connections to it.

    Parameters
    ----------
    most : int
        How many.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._free = most
        self._waiting = 0
        self._changed = threading.Condition()
        self._paces: dict[str, HostPace] = {}
        self._downloads: dict[object, bool] = {}
        """Each download, and whether it could use more connections than it has, up to its share."""

    @contextmanager
    def joined(self, download: object) -> Iterator[None]:
        """Let a download have a share from now on, until it has ended."""
        with self._changed:
            self._downloads[download] = False
        try:
            yield
        finally:
            with self._changed:
                self._downloads.pop(download, None)

    def note_need(self, download: object, has_too_few: bool) -> None:
        """Note whether a download could use more connections than it has, up to its share."""
        with self._changed:
            if download in self._downloads:
                self._downloads[download] = has_too_few

    @property
    def share(self) -> int:
        """How many connections each download has when they are shared out evenly."""
        with self._changed:
            return max(self.most // max(len(self._downloads), 1), 1)

    @property
    def is_wanted(self) -> bool:
        """Whether a download has less than its share and could use more."""
        with self._changed:
            return any(self._downloads.values())

    @property
    def free(self) -> int:
        """How many connections can still be taken."""
        return self._free

    @property
    def is_short(self) -> bool:
        """Whether a download waits for its first connection."""
        return self._waiting > 0

    def acquire(self, stop: threading.Event) -> None:
        """Take a download's first connection; wait until there is one.

        Raises
        ------
        Stopped
            `stop` was set.
        """
        with self._changed:
            self._waiting += 1
            try:
                while not self._free:
                    if stop.is_set():
                        raise Stopped("The work was told to stop.")
                    self._changed.wait(STOP_CHECK_INTERVAL)
                self._free -= 1
            finally:
                self._waiting -= 1

    def try_acquire(self) -> bool:
        """Take one more connection if one is free and no download waits for its first; say if it was."""
        with self._changed:
            if self._waiting or not self._free:
                return False
            self._free -= 1
            return True

    def release(self) -> None:
        """Give a connection back."""
        with self._changed:
            self._free += 1
            self._changed.notify()

    def pace_of(self, host: str) -> HostPace:
        """Return when a host may be asked."""
        with self._changed:
            return self._paces.setdefault(host, HostPace())


@dataclass(eq=False)
class Connection:
    """One connection of a download, and what is known of it.

    Attributes
    ----------
    is_first : bool
        Whether it is that of the download's own thread, which every download has.
    is_receiving : bool
        Whether bytes have come, and no request has failed since.
    is_dismissed : bool
        Whether it is to end as soon as it notices.
    is_paused : bool
        Whether nothing is read from it, to see if fewer connections are enough.
    must_be_opened : bool
        Whether the next request has to wait for a new line: there was none yet, or its answer was cut short.
    requested_at, last_byte_at : float
        When the present request went out, and when bytes came last.
    answer_time : float or None
        Seconds from a request to its first byte.
    received : int
        Bytes of the present request.
    rate, fastest : float
        Bytes a second at present, and at its best.
    """

    is_first: bool = False
    is_receiving: bool = False
    is_dismissed: bool = False
    is_paused: bool = False
    must_be_opened: bool = True
    thread: threading.Thread | None = None
    requested_at: float = 0.0
    last_byte_at: float = 0.0
    answer_time: float | None = None
    received: int = 0
    rate: float | None = None
    fastest: float = 0.0
    _sampled: tuple[float, int] = (0.0, 0)
    _slow_since: tuple[float, int] = (0.0, 0)

    def note_request(self, now: float) -> None:
        """Note that a request goes out."""
        self.requested_at = self.last_byte_at = now
        self.received = 0

    def note_bytes(self, count: int, now: float) -> None:
        """Note that bytes have come, or none for a moment."""
        if count and not self.received:
            self.must_be_opened = False
            self.answer_time = now - self.requested_at
            self._sampled = self._slow_since = (now, 0)
        if count:
            self.last_byte_at = now
            self.received += count
        seconds = now - self._sampled[0]
        if self.received and seconds >= RATE_TIME:
            rate = (self.received - self._sampled[1]) / seconds
            self.rate = rate if self.rate is None else (self.rate + rate) / 2
            self.fastest = max(self.fastest, self.rate)
            self._sampled = now, self.received

    def is_too_slow(self, now: float) -> bool:
        """Say whether a connection that was fast has brought next to nothing for a minute."""
        since, before = self._slow_since
        if not self.received or now - since < SLOW_FOR:
            return False
        is_slow = self.received - before < SLOWEST * (now - since) and self.fastest > 10 * SLOWEST
        self._slow_since = now, self.received
        return is_slow


@dataclass
class TransferCounter:
    """What was counted and timed of a download so far.

    Attributes
    ----------
    present : int
        Bytes of the file that are here, whether from this run or an earlier one.
    received : int
        Bytes that this run took from the network.
    waited : float
        Seconds that the download's own thread has waited for bytes.
    answer_time : float
        Seconds until the first response, on a new connection.
    shortest_answer : float
        Seconds from a request to its first byte, at best; a guess before there was one.
    has_answer : bool
        Whether there was a response, or the first request has failed.
    requests : int
        Requests since bytes came last, or since the download has begun to wait for the next try.
    """

    present: int = 0
    received: int = 0
    waited: float = 0.0
    answer_time: float = 0.0
    shortest_answer: float = LONG_ANSWER
    has_answer: bool = False
    requests: int = 0
