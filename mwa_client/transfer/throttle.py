"""When a host may be asked: pauses that it has asked for, and restraint towards one that fails.

Both hold for all connections of all downloads to that host.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Callable

from mwa_client.errors import LinkNotRenewed, MwaClientError
from mwa_client.timing import Clock

if TYPE_CHECKING:
    from mwa_client.transfer.connections import ConnectionBudget

FIRST_TROUBLE, LAST_TROUBLE = 2.0, 16.0
"""Seconds between the requests of further connections to a host after one has failed, and after many have."""
TRIES_APART = 0.5
"""Seconds between two downloads that try again after a failure."""
SERVED = 4 << 20
"""Bytes without a failure after which trouble grows less: in one request, or in several that went well."""


class HostPace:
    """What one host has asked for, and how it has served us. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left_alone_until = float("-inf")
        self._trouble = 0.0
        """Seconds between two requests of further connections; zero while all is well."""
        self._due = float("-inf")
        self._served = 0
        """Bytes that were served well since the last failure, and have not made any trouble less yet."""
        self._is_tried = False
        """Whether a further connection has asked since the last failure."""
        self._tries: list[float] = []
        """When downloads will try again."""

    def failed(self, now: float, retry_after: float | None) -> None:
        """Note that a request has failed; those that fail together count as one."""
        with self._lock:
            self._served = 0
            if self._is_tried or now >= self._due:
                self._is_tried = False
                self._trouble = min(max(2 * self._trouble, FIRST_TROUBLE), LAST_TROUBLE)
                self._due = now + self._trouble
            if retry_after:
                self._left_alone_until = max(self._left_alone_until, now + retry_after)

    def went_well(self, now: float, count: int) -> None:
        """Note bytes that were served well: enough of them end a first trouble, and halve a greater one."""
        with self._lock:
            self._served += count
            if self._served < SERVED:
                return
            self._served = 0
            self._trouble = self._trouble / 2 if self._trouble > FIRST_TROUBLE else 0.0
            self._due = min(self._due, now + self._trouble)

    def note_request(self, now: float) -> None:
        """Note that a further connection asks for something."""
        with self._lock:
            self._due, self._is_tried = max(self._due, now + self._trouble), True

    def allows_request(self, now: float) -> bool:
        """Say whether a further connection may ask now."""
        with self._lock:
            return now >= max(self._due, self._left_alone_until)

    def pause(self, now: float) -> float:
        """Return for how many seconds the host has asked to get no request."""
        with self._lock:
            return max(self._left_alone_until - now, 0.0)

    def plan_try(self, now: float, seconds: float) -> float:
        """Return in how many seconds a download may try again: not together with others that wait."""
        with self._lock:
            self._tries = [each for each in self._tries if each > now - TRIES_APART]
            when = now + seconds
            for each in sorted(self._tries):
                if abs(each - when) < TRIES_APART:
                    when = each + TRIES_APART
            self._tries.append(when)
            return when - now


def pause_of(error: MwaClientError) -> float | None:
    """Return for how many seconds the host itself has asked to be left alone."""
    return None if isinstance(error, LinkNotRenewed) else getattr(error, "retry_after", None)


class RequestThrottle:
    """Decides when the further connections of a product may send a request.

    A server that fails is not to be asked more often because there are more connections: after a failure
    they ask one at a time, with pauses that grow, until one of them is served well.

    Parameters
    ----------
    clock : Clock
        Time.
    budget : ConnectionBudget
        Knows when each host may be asked.
    host : callable
        Returns which host sends the product: a fresh link can lead to another.
    """

    def __init__(self, clock: Clock, budget: ConnectionBudget, host: Callable[[], str]) -> None:
        self._clock = clock
        self._budget = budget
        self._host = host

    @property
    def _pace(self) -> HostPace:
        return self._budget.pace_of(self._host())

    def failed(self, retry_after: float | None) -> None:
        """Note that a request has failed, of whichever connection."""
        self._pace.failed(self._clock.monotonic(), retry_after)

    def went_well(self, count: int) -> None:
        """Note so many bytes of a request that was answered in full, or in a good part of it."""
        self._pace.went_well(self._clock.monotonic(), count)

    def plan_try(self, seconds: float) -> float:
        """Return in how many seconds the download may try again, so many or somewhat more."""
        return self._pace.plan_try(self._clock.monotonic(), seconds)

    def allows_request(self) -> bool:
        """Say whether a request may go out now."""
        return self._pace.allows_request(self._clock.monotonic())

    def note_request(self) -> None:
        """Note that a request goes out."""
        self._pace.note_request(self._clock.monotonic())

    def pause(self) -> float:
        """Return for how many seconds the host has asked to be left alone."""
        return self._pace.pause(self._clock.monotonic())
