"""How fast bytes come."""

from __future__ import annotations

SHORTEST_LOOK = 0.1
"""Seconds between two looks at how much has come."""
NEWEST_WEIGHT = 0.3
"""How much the newest look counts for the rate: little enough that it does not jump."""
STEADY_AFTER = 3.0
"""Seconds after which a rate says how long the rest will take; a connection begins slowly."""


class Rate:
    """Bytes a second, smoothed.

    Parameters
    ----------
    now : float
        The time, by the clock for intervals.
    done : int
        Bytes that are there already: they must not count.
    """

    def __init__(self, now: float, done: int) -> None:
        self.value: float | None = None
        self._began = self._last = now
        self._done = done

    @property
    def is_steady(self) -> bool:
        """Whether it was measured for long enough to say how long the rest will take."""
        return self._last - self._began >= STEADY_AFTER

    def look(self, now: float, done: int) -> None:
        """Take notice of how many bytes are there now."""
        passed = now - self._last
        if passed < SHORTEST_LOOK:
            return
        rate = max(done - self._done, 0) / passed
        self.value = rate if self.value is None else NEWEST_WEIGHT * rate + (1 - NEWEST_WEIGHT) * self.value
        self._last, self._done = now, done
