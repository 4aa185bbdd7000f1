"""Time as the program sees it: one clock to read and wait on, and how long to wait between tries.

It is passed in everywhere, so that a test lives through a week in a second.
"""

from __future__ import annotations

import email.utils
import queue
import random
import re
import threading
import time
from collections.abc import Mapping
from typing import Protocol, TypeVar

T = TypeVar("T")

MOST_RETRY_AFTER = 3600.0
"""Seconds that another side can make us wait before we ask again: it may have erred by a few digits."""


class Clock(Protocol):
    """Time, waiting and chance, as the program needs them."""

    def now(self) -> float:
        """Return seconds since 1970 UTC: for records, never for intervals."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never jump: for intervals."""
        ...

    def sleep(self, seconds: float, stop: threading.Event) -> None:
        """Wait, or less when `stop` is set."""
        ...

    def receive(self, inbox: queue.Queue[T], seconds: float) -> T | None:
        """Return the next thing in `inbox`, or None when nothing came for so many seconds."""
        ...

    def chance(self) -> float:
        """Return a random number from 0 to 1, for jitter."""
        ...


class SystemClock:
    """The clock of the machine."""

    def now(self) -> float:
        """Return seconds since 1970 UTC."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds that never jump."""
        return time.monotonic()

    def sleep(self, seconds: float, stop: threading.Event) -> None:
        """Wait, or less when `stop` is set."""
        stop.wait(seconds)

    def receive(self, inbox: queue.Queue[T], seconds: float) -> T | None:
        """Return the next thing in `inbox`, or None when nothing came for so many seconds."""
        try:
            return inbox.get(timeout=max(seconds, 0.0))
        except queue.Empty:
            return None

    def chance(self) -> float:
        """Return a random number from 0 to 1."""
        return random.random()


class Backoff:
    """Waiting times that double from `first` to `cap` seconds, with jitter.

    Jitter takes off up to half, so that many clients do not come back in the same instant.
    """

    def __init__(self, clock: Clock, first: float, cap: float) -> None:
        self._clock = clock
        self._first = first
        self._cap = cap
        self.tries = 0

    def reset(self) -> None:
        """Start again from the shortest time: something went well."""
        self.tries = 0

    def next(self, at_least: float | None = None) -> float:
        """Return how many seconds to wait before the next try.

        Parameters
        ----------
        at_least : float, optional
            What the other side asked for (``Retry-After``), in seconds.
        """
        doubled = self._first * 2.0 ** min(self.tries, 60)
        self.tries += 1
        waiting = min(doubled, self._cap) * (1.0 - self._clock.chance() / 2.0)
        return max(waiting, at_least or 0.0)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for (a number or a date), or None."""
    value = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", value):
        return min(float(value), MOST_RETRY_AFTER)
    try:
        when = email.utils.parsedate_to_datetime(value).timestamp()
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return min(max(when - time.time(), 0.0), MOST_RETRY_AFTER)
