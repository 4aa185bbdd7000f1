"""Time as the program sees it: one clock to read and wait on, and how long to wait between tries.

It is passed in everywhere, so that a test lives through a week in a second.
"""

from __future__ import annotations

import datetime
import queue
import random
import re
import threading
import time
from collections.abc import Mapping
from typing import Protocol, TypeVar

T = TypeVar("T")

FIRST_POLL, LAST_POLL = 5.0, 60.0
"""Seconds between two listings: the first while things change, growing to the last while nothing does."""
LONGEST_OUTAGE_WAIT = 300.0
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

    def receive(self, inbox: queue.Queue[T], seconds: float, *, is_coming: bool = False) -> T | None:
        """Return the next thing in `inbox`, or None when nothing came for so many seconds.

        With `is_coming` an answer is on its way: a clock that makes time pass lets it come first.
        """
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

    def receive(self, inbox: queue.Queue[T], seconds: float, *, is_coming: bool = False) -> T | None:
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
        self._doublings = 0
        self.tries = 0

    def reset(self) -> None:
        """Start again from the shortest time: something went well."""
        self.tries = self._doublings = 0

    def next(self, at_least: float | None = None, requests: int = 1) -> float:
        """Return how many seconds to wait before the next try.

        Parameters
        ----------
        at_least : float, optional
            What the other side asked for (``Retry-After``), in seconds.
        requests : int
            How many requests failed in this try. Several are made up for by a longer wait, so that in the end
            there are no more than twice as many as with one in each try.
        """
        self._doublings += max((requests // 2).bit_length() - 1, 0)
        doubled = self._first * 2.0 ** min(self._doublings, 60)
        self._doublings += 1
        self.tries += 1
        waiting = min(doubled, self._cap) * (1.0 - self._clock.chance() / 2.0)
        return max(waiting, at_least or 0.0)


class Outage:
    """A time without usable answers: each try fails later than the last, until one is answered."""

    def __init__(self, clock: Clock, first: float) -> None:
        self._clock = clock
        self._backoff = Backoff(clock, first=first, cap=LONGEST_OUTAGE_WAIT)
        self._due = float("-inf")
        self.since: float | None = None
        """When the first try without an answer ended; None while the tries are answered."""

    @property
    def is_on(self) -> bool:
        """Whether the last try had no usable answer."""
        return self._backoff.tries > 0

    def is_due(self) -> bool:
        """Say whether it is time for another try."""
        return self._clock.monotonic() >= self._due

    def failed(self, retry_after: float | None) -> float:
        """Return how many seconds to wait; tries that fail together count as one."""
        now = self._clock.monotonic()
        self.since = now if self.since is None else self.since
        waiting = self._backoff.next(retry_after) if self.is_due() else retry_after or 0.0
        self._due = max(self._due, now + waiting)
        return self._due - now

    def end(self) -> None:
        """Note that a try was answered."""
        self._backoff.reset()
        self._due = float("-inf")
        self.since = None


class PollTimes:
    """When the next listing is due: soon while things change, seldom while nothing does."""

    def __init__(self, clock: Clock, fixed: float | None) -> None:
        self._clock = clock
        self._fixed = fixed
        self._interval = FIRST_POLL
        self._due = float("-inf")
        self.outage = Outage(clock, first=fixed or FIRST_POLL)
        self.asked_at: float | None = None

    @property
    def due(self) -> float:
        """When the next listing is due, by the clock for intervals."""
        return self._due

    def note_asked(self) -> None:
        """Note that a listing is asked for now."""
        self.asked_at = self._clock.monotonic()

    def is_due(self) -> bool:
        """Say whether it is time for a listing."""
        return self._clock.monotonic() >= self._due

    def remaining(self) -> float:
        """Return the seconds until the next listing, never quite nothing."""
        return max(self._due - self._clock.monotonic(), 0.05)

    def hurry(self) -> None:
        """Have the next listing soon, unless the service does not answer."""
        if not self.outage.is_on:
            self._due = min(self._due, self._clock.monotonic() + (self._fixed or FIRST_POLL))

    def succeeded(self, has_changed: bool) -> None:
        """Note a listing that was answered, and whether it had news."""
        self.outage.end()
        self._interval = FIRST_POLL if has_changed else min(self._interval * 1.3, LAST_POLL)
        jittered = self._interval * (0.9 + 0.2 * self._clock.chance())
        self._due = self._clock.monotonic() + (self._fixed or jittered)

    def failed(self, retry_after: float | None) -> float:
        """Note a listing that was not answered; return how many seconds to wait."""
        waiting = self.outage.failed(retry_after)
        self._due = self._clock.monotonic() + waiting
        return waiting


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for (a number or a date), or None."""
    value = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", value):
        return min(float(value), MOST_RETRY_AFTER)
    when = _date(value) if value else None
    if when is None:
        return None
    # By the other side's clock where it tells it: ours may be wrong.
    return min(max(when - (_date(headers.get("Date", "")) or time.time()), 0.0), MOST_RETRY_AFTER)


def _date(value: str) -> float | None:
    """Return an HTTP date in seconds since 1970, or None where it is none."""
    import email.utils  # Takes a while, and few servers name a date.

    try:
        when = email.utils.parsedate_to_datetime(value)
        # A date without a zone, of an old kind, is UTC as well.
        return (when if when.tzinfo else when.replace(tzinfo=datetime.timezone.utc)).timestamp()
    except (TypeError, ValueError, IndexError, OverflowError):
        return None


def read_time(text: object) -> float | None:
    """Return an ISO 8601 time, UTC where it names no zone, in seconds since 1970; None if it is none."""
    try:
        when = datetime.datetime.fromisoformat(text.replace("Z", "")) if isinstance(text, str) else None
    except ValueError:
        when = None
    if when is None:
        return None
    return (when if when.tzinfo else when.replace(tzinfo=datetime.timezone.utc)).timestamp()
