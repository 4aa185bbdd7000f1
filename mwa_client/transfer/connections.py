"""How many connections: a budget that all downloads share, and what each of them finds to be of use."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from mwa_client.errors import Stopped
from mwa_client.pace import Clock

MOMENT = 0.5
"""Seconds after which a wait looks up, to see whether the work was told to stop."""
MEASURE = 0.25
"""Seconds over which a rate is measured, at least."""
ANSWERS_A_MEASURE = 4
"""A rate is measured over so many times what a connection's first byte takes: it is slow at first."""
MOSTLY = 3 / 4
"""One connection that is waited for less than so much of the time is as fast as this machine takes it."""
FIRST_REST, LAST_REST = 2.0, 300.0
"""Seconds without another try after one that did not help."""


class Connections:
    """So many connections may be open for all downloads together.

    Parameters
    ----------
    most : int
        How many.
    """

    def __init__(self, most: int) -> None:
        self._free = most
        self._waiting = 0
        self._changed = threading.Condition()

    @property
    def is_short(self) -> bool:
        """Whether a download waits for its first connection."""
        return self._waiting > 0

    def take(self, stop: threading.Event) -> None:
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
                    self._changed.wait(MOMENT)
                self._free -= 1
            finally:
                self._waiting -= 1

    def take_another(self) -> bool:
        """Take one more, if it can be had at once and nobody waits for a first one."""
        with self._changed:
            if self._waiting or not self._free:
                return False
            self._free -= 1
            return True

    def give_back(self) -> None:
        """Give one back."""
        with self._changed:
            self._free += 1
            self._changed.notify()


class Growth:
    """Finds out for one download how many connections are worth having, by trying more.

    It doubles them as long as that helps, and then tries one more from time to time. It is asked again and
    again; where the clock stands still, it never has an answer.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = _Moment(0, 0, 0.0, clock.monotonic())
        self._before: tuple[int, float] | None = None
        """How many there were before the last were added, and the rate then."""
        self._doubles = True
        self._patience = FIRST_REST
        self._rest_until = float("-inf")

    def advice(self, lines: int, arrived: int, waited: float, answer_time: float = 0.0) -> int:
        """Return how many connections to add; below zero, how many of the last did not help.

        Parameters
        ----------
        lines : int
            Connections that bring bytes now.
        arrived : int
            Bytes that all of them have brought so far.
        waited : float
            Seconds that were spent so far in waiting for them.
        answer_time : float
            Seconds that the first byte took on the newest of them.
        """
        began, now = self._began, _Moment(lines, arrived, waited, self._clock.monotonic())
        seconds = now.time - began.time
        if lines == began.lines and seconds < max(MEASURE, ANSWERS_A_MEASURE * answer_time):
            return 0
        self._began = now
        if lines != began.lines:
            return 0
        rate = (arrived - began.arrived) / seconds
        if self._before is not None and lines > self._before[0]:
            (fewer, slower), self._before = self._before, None
            # Half of what they can bring is enough: they may have to share with strangers.
            if rate < slower * (1 + 0.5 * (lines - fewer) / fewer):
                self.rest()
                return fewer - lines
            self._patience = FIRST_REST
        is_waiting = lines > 1 or waited - began.waited >= MOSTLY * seconds
        if self._before is not None or not is_waiting or now.time < self._rest_until:
            return 0
        self._before = lines, rate
        return lines if self._doubles else 1

    def rest(self) -> None:
        """Try no more for a while: more did not help, were refused, or were not to be had."""
        self._before = None
        self._doubles = False
        self._rest_until = self._clock.monotonic() + self._patience
        self._patience = min(2 * self._patience, LAST_REST)


@dataclass(frozen=True)
class _Moment:
    """What there was at one time."""

    lines: int
    arrived: int
    waited: float
    time: float
