"""How many connections are worth having: each download finds out for itself."""

from __future__ import annotations

from mwa_client.light_dataclasses import dataclass
from mwa_client.timing import Clock

MEASURE = 0.01
"""Seconds over which the rate of one connection is measured, at least."""
MOSTLY = 3 / 4
"""One connection that is waited for less than so much of the time is as fast as this machine takes it."""
LONG_LINE = 0.03
"""Seconds until the first answer from where on the line is long: one connection is slow at first, and more
of them are then worth having before it could be measured."""
LEAST_AHEAD = 12 << 20
"""Bytes that must be missing for more than one connection to be tried."""
LEAST_EACH = 2 << 20
"""Bytes that each connection must have to fetch, or fewer are enough."""
SETTLING = 1.0

ANSWERS_TO_SETTLE = 4
"""Connections are slow at first. A rate is measured so many seconds after their number has changed, or so
many times what the first byte takes on a new one."""
COMPARED = 1.0
"""Seconds over which rates are measured that are to be compared, at least."""
NO_WORSE, BETTER = 0.97, 1.05
"""Fewer connections are enough with so much of the rate; more are worth having from so much on."""
WORTH_A_TRIAL, WORTH_IT_ANYWAY = 20.0, 180.0
"""Seconds that a download must still take for a trial, which may cost a second of it or two: where its
connections seem to be in each other's way, and where they do not."""
FIRST_TRIAL = 60.0

FIRST_REST, LAST_REST = 2.0, 300.0
"""Seconds without another try after connections that were refused or did not help."""


@dataclass(frozen=True)
class Measured:
    """What a download has measured of its connections.

    Attributes
    ----------
    connections : int
        Connections that bring bytes.
    arrived : int
        Bytes that they have brought so far.
    waited : float
        Seconds that the first of them was waited for so far.
    left : int
        Bytes that are still to come.
    answer_time : float
        Seconds until the first byte on a new connection.
    fastest : float
        Bytes a second of the fastest connection at its best.
    """

    connections: int
    arrived: int
    waited: float = 0.0
    left: int = 1 << 40
    answer_time: float = 0.0
    fastest: float = 0.0


class ConnectionTuner:
    """Finds out for one download how many connections are worth having.

    All that there may be are taken as soon as one has shown that the line is long, or slower than this
    machine. Where they do not seem to pay, half of them are held still for a moment; if that costs nothing,
    they go, down to a single one. Later more are tried again, ever more seldom as long as it does not help.

    Attributes
    ----------
    target : int
        How many there should be.
    active : int
        How many of them should be read from, while fewer are tried.
    most : int
        How many there may ever be.
    """

    def __init__(self, clock: Clock, most: int) -> None:
        self._clock = clock
        self.most = most
        self.target = self.active = 1
        self._since: tuple[float, Measured] | None = None
        """When the number of connections changed last."""
        self._window: tuple[float, Measured] | None = None
        self._has_begun = False
        self._rate = 0.0
        """Bytes a second with the present number of connections, where it has settled."""
        self._before: tuple[int, float] | None = None
        """How many there were before more or fewer are tried, and their rate."""
        self._began = clock.monotonic()
        self._next_trial = float("-inf")
        self._trial_rest = FIRST_TRIAL
        self._rest = FIRST_REST
        self._rest_until = float("-inf")

    def update(self, seen: Measured) -> None:
        """Decide anew how many connections there should be; nothing changes if no time has passed."""
        now = self._clock.monotonic()
        if self._since is None or self._since[1].connections != seen.connections:
            self._restart(now, seen)
        if not self._has_begun:
            self._begin(now, seen)
        elif self._has_settled(now, seen):
            self._compare(now, seen)

    def expect_long_line(self, left: int) -> None:
        """Take all connections at once, because the first answer takes long."""
        if not self._has_begun:
            self._has_begun = True
            self._next_trial = self._clock.monotonic()
            self.target = self.active = max(min(self.most, left // LEAST_EACH), 1)

    def refused(self, connections: int) -> None:
        """Use no more than so many connections for a while, because more were not to be had."""
        self.target = self.active = max(connections, 1)
        self._before = None
        self._take_rest()

    def _restart(self, now: float, seen: Measured) -> None:
        self._since, self._window, self._rate = (now, seen), None, 0.0

    def _begin(self, now: float, seen: Measured) -> None:
        """Take all connections at once if one is not enough."""
        assert self._since is not None
        since, then = self._since
        if seen.left < LEAST_AHEAD:
            return
        if seen.answer_time < LONG_LINE:
            if now - since < MEASURE:
                return
            is_waited_for = seen.waited - then.waited >= MOSTLY * (now - since)
            self._restart(now, seen)
            if not is_waited_for:
                return
        self.expect_long_line(seen.left)

    def _has_settled(self, now: float, seen: Measured) -> bool:
        """Measure; say whether there is a rate that can be compared with others."""
        assert self._since is not None
        # Those that were read from before need not get up to speed.
        answers = seen.answer_time * (1 if self.active < self.target else ANSWERS_TO_SETTLE)
        if now - self._since[0] < max(SETTLING / 2, answers):
            return False
        if self._window is None:
            self._window = now, seen
        seconds = now - self._window[0]
        if seconds < max(COMPARED, answers):
            return False
        self._rate = (seen.arrived - self._window[1].arrived) / seconds
        self._window = now, seen
        return True

    def _compare(self, now: float, seen: Measured) -> None:
        if self.active < self.target:
            self._end_trial(now, seen)
        elif self._before is not None and seen.connections > self._before[0]:
            self._judge_more()
        elif self._before is None and self._is_worth_a_trial(now, seen):
            # Held still, not dropped: if they do pay, they go on at full speed.
            self._before = seen.connections, self._rate
            self.active = max(seen.connections // 2, 1)
            self._restart(now, seen)
        elif self.target < self.most and seen.connections == self.target and now >= self._rest_until:
            self._before = seen.connections, self._rate
            self.target = self.active = min(2 * self.target, self.most)
        elif self._before is not None:
            self._before = None  # No more were to be had.

    def _is_worth_a_trial(self, now: float, seen: Measured) -> bool:
        seconds_left = seen.left / max(self._rate, 1.0)
        if seen.connections < 2 or now < self._next_trial or seconds_left < WORTH_A_TRIAL:
            return False
        # Together they bring much less than so many times the best of them: they are in each other's way.
        if self._rate < seen.connections / 3 * seen.fastest:
            return True
        return now - self._began >= FIRST_TRIAL and seconds_left >= WORTH_IT_ANYWAY

    def _end_trial(self, now: float, seen: Measured) -> None:
        assert self._before is not None
        if self._rate >= NO_WORSE * self._before[1]:
            self.target = self.active
            self._take_rest()
        else:
            self.active = self.target
            self._next_trial = now + self._trial_rest
            self._trial_rest = min(2 * self._trial_rest, LAST_REST)
        self._before = None
        self._restart(now, seen)

    def _judge_more(self) -> None:
        assert self._before is not None
        (fewer, slower), self._before = self._before, None
        if self._rate >= BETTER * slower:
            self._rest = FIRST_REST
        else:
            self.target = self.active = fewer
            self._take_rest()

    def _take_rest(self) -> None:
        self._rest_until = self._clock.monotonic() + self._rest
        self._rest = min(2 * self._rest, LAST_REST)
