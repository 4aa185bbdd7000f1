"""Who fetches what: a file is shared out in segments, one for each request of a connection."""

from __future__ import annotations

from collections.abc import Iterable

from mwa_client.light_dataclasses import dataclass
from mwa_client.timing import Clock
from mwa_client.transfer.connections import Connection, TransferCounter
from mwa_client.transfer.gaps import Gaps

PIECE = 1 << 16
"""Segments are so many bytes long, or a multiple of it."""
SHORT_SEGMENT, LONG_SEGMENT = 4 << 20, 256 << 20
QUICK_SEGMENT = 16 << 20
"""Segments are no longer where an answer takes no time, and before anybody knows how long it takes."""
MANY_ANSWERS, SOME_ANSWERS = 100, 5
"""A segment should take so many times as long as the wait for its answer; so many towards the end."""
HASH_RATE = 1e9
"""Bytes a second that can be hashed, more or less."""
MOST_OF_IT = 0.85
"""How much of what is left is fetched in the first of two rounds; in the second that can just be hashed."""
USUAL_RATE = 20e6
"""Bytes a second of a connection that was not measured yet."""
USUAL_ROUND_TRIP = 0.1
"""Seconds that a round trip is thought to take before there was a response."""
MUCH_MORE = 1.5
"""The first connection keeps all that it has asked for, up to so many times its share: what is on its way
already would be lost, and the connection with it."""
LEAST_SPLIT = 1 << 18
"""Of less than this another connection takes a part only where it would take long."""
LEAST_GAIN = 0.02
"""Seconds that must be gained by taking a part of what another connection fetches."""
SILENCE = 2.0
"""Seconds without a byte after which the others may take what a connection has asked for."""
ENDLESS = 1 << 62
"""Where a file ends whose size nobody knows."""


@dataclass(eq=False)
class Segment:
    """A part of the file that a connection fetches, or has asked for.

    Attributes
    ----------
    connection : Connection
        Which connection.
    position : int
        The next byte that is to come.
    end : int
        Behind its last byte. Others can move it nearer.
    own_end : int
        What is behind it was not given to this connection: it goes on there as long as nobody else comes.
    is_held : bool
        Whether it is this connection's own. Before its first byte has come, others may still fetch it.
    taken_from : Segment or None
        The segment whose end this one is to take over, once its first byte has come.
    """

    connection: Connection
    position: int
    end: int
    own_end: int
    is_held: bool = False
    taken_from: Segment | None = None

    @property
    def left(self) -> int:
        """Bytes that are still to come."""
        return self.end - self.position


class SegmentPlan:
    """Which connection fetches which part of a file. Whoever uses it holds the reader's lock.

    Parameters
    ----------
    clock : Clock
        Tells how long a connection was silent.
    counter : TransferCounter
        How long responses take.
    size : int or None
        The file's size, where it is known.
    missing : iterable of (int, int or None)
        What is to be fetched.
    first : Connection
        That of the download's own thread.
    window : int
        How far ahead of the first byte that is missing others may be fetched.

    Attributes
    ----------
    size : int
        The file's size, or `ENDLESS`.
    free : Gaps
        What nobody holds; somebody may have asked for it.
    connections : list of Connection
        All that there are; the first is that of the download's own thread.
    """

    def __init__(
        self,
        clock: Clock,
        counter: TransferCounter,
        size: int | None,
        missing: Iterable[tuple[int, int | None]],
        first: Connection,
        window: int = ENDLESS,
    ) -> None:
        self._clock = clock
        self._counter = counter
        self.size = ENDLESS if size is None else size
        gaps = ((start, self.size if end is None else end) for start, end in missing)
        self.free = Gaps(gap for gap in gaps if gap[0] < gap[1])
        self.connections = [first]
        self._segments: list[Segment] = []
        self._window = window

    @property
    def left(self) -> int:
        """Bytes that are still to come."""
        return self.free.total + sum(each.left for each in self._segments if each.is_held)

    @property
    def is_complete(self) -> bool:
        """Whether there is nothing left that anybody fetches or could fetch."""
        return not self.free and not any(each.is_held for each in self._segments)

    @property
    def others_receive(self) -> bool:
        """Whether a connection other than the first brings bytes."""
        return any(each.is_held and not each.connection.is_first for each in self._segments)

    @property
    def patience(self) -> float:
        """Seconds without a byte after which a connection counts as silent."""
        return max(SILENCE, 3 * self._counter.answer_time)

    @property
    def is_far_ahead(self) -> bool:
        """Whether there is something that nobody fetches, but only beyond the window."""
        return bool(self.free) and self.free.first[0] >= self._window_end

    @property
    def _window_end(self) -> int:
        firsts = [each.position for each in self._segments if each.is_held] + [gap[0] for gap in self.free]
        return min(firsts, default=0) + self._window

    def learn_size(self, size: int) -> None:
        """Note where the file ends, if nobody knew it."""
        if self.size == ENDLESS:
            self.size = size
            self.free.remove(size, ENDLESS)
            for segment in self._segments:
                segment.end, segment.own_end = min(segment.end, size), min(segment.own_end, size)

    def restart(self) -> Segment:
        """Give the whole file to the first connection, and nothing to the others."""
        for each in self._segments:
            each.end = each.own_end = each.position
        self._segments = [Segment(self.connections[0], 0, self.size, self.size, is_held=True)]
        self.free = Gaps()
        return self._segments[0]

    # --- What a connection should ask for -------------------------------------------------------------

    def choose(self, connection: Connection, sharers: int, *, takes_all: bool = False) -> Segment | None:
        """Return what a connection should ask for; None if others already fetch all that is left.

        Parameters
        ----------
        sharers : int
            Among how many connections the rest is shared out.
        takes_all : bool
            Whether it may ask for all there is up to the next gap, because it is alone.
        """
        if not self.left:
            return None
        if takes_all and self.free:
            start, end = self.free.first
            return self._add(Segment(connection, start, end, end))
        available = self._available()
        if not available:
            return self._choose_part_of_another(connection)
        start, end = available.first
        end = min(end, start + self.length(sharers))
        return self._add(Segment(connection, start, end, end))

    def limit_first(self, sharers: int) -> None:
        """Let the first connection keep only its share; the rest is for others when they bring something."""
        share = self.length(sharers)
        for each in self._segments:
            if each.connection.is_first and each.left > MUCH_MORE * share:
                each.own_end = min(each.own_end, each.position + share)

    def length(self, sharers: int) -> int:
        """Return how long a segment should be.

        Each round of them costs the wait for an answer. But when the last byte has come, what was fetched out
        of order in the last round must still be hashed. So all that is left is shared out at once where that
        is soon hashed; otherwise most of it, and the rest in a later round. Where answers take no time, short
        segments let the hash keep up, and all connections end at the same moment.
        """
        left, counter, round_trip = self.left, self._counter, self._round_trip
        length = left / sharers
        if MOST_OF_IT * (left - length) / HASH_RATE > 2 * round_trip:
            length *= MOST_OF_IT
        meanwhile = round_trip * self._usual_rate()
        least = min(SHORT_SEGMENT, SOME_ANSWERS * meanwhile)
        most = min(LONG_SEGMENT, max(QUICK_SEGMENT, MANY_ANSWERS * meanwhile), self._window // sharers)
        if not counter.has_answer and not self._segments:
            most = min(most, QUICK_SEGMENT)  # Then it is known how long an answer takes.
        length = max(int(min(max(length, least), most)), 1)
        return -(-length // PIECE) * PIECE

    @property
    def _round_trip(self) -> float:
        """Seconds that the answer to a request takes on a connection that is open already."""
        if not self._counter.has_answer:
            return USUAL_ROUND_TRIP
        # On a new one it takes three round trips.
        return min(self._counter.answer_time / 3, self._counter.shortest_answer)

    def _add(self, segment: Segment) -> Segment:
        segment.connection.note_request(self._clock.monotonic())
        self._segments.append(segment)
        return segment

    def _available(self) -> Gaps:
        """Return the bytes that no connection is about to fetch."""
        now = self._clock.monotonic()
        available = Gaps(self.free)
        for each in self._segments:
            if each.is_held:
                # Who only goes on there is not disturbed until the first byte has come.
                rate = each.connection.rate or 0.0
                ahead = each.position + int(rate * self._counter.answer_time) + PIECE
                available.add(max(each.own_end, ahead if each.position >= each.own_end else 0), each.end)
        for each in self._segments:
            if not each.is_held and now - each.connection.last_byte_at < self.patience:
                available.remove(each.position, each.own_end)
        return available.clipped(self._window_end)

    def _choose_part_of_another(self, connection: Connection) -> Segment | None:
        """Return the end of the segment that would take longest, so that both are done at the same time."""
        # No longer than until the answer is here: who has taken a part may itself be slow.
        being_split = {each.taken_from for each in self._segments if not each.is_held}
        # Several connections may come at once, so that what was only asked for can be split as well.
        parts = [
            each for each in self._segments if (each.is_held or each.taken_from) and each not in being_split
        ]
        slowest = max(parts, key=self._seconds_left, default=None)
        if slowest is None or slowest.connection is connection:
            return None
        answer = self._answer_time_of(connection)
        is_little = slowest.left < LEAST_SPLIT
        if self._seconds_left(slowest) < max(2 * answer + LEAST_GAIN, SILENCE if is_little else 0.0):
            return None
        end = min(slowest.end, self._window_end)
        if not slowest.is_held:
            start = slowest.position + (end - slowest.position) // 2
            slowest.end = slowest.own_end = start
            return self._add(Segment(connection, start, end, end, taken_from=slowest.taken_from))
        theirs, mine = self._rate_now(slowest.connection), connection.rate or self._usual_rate()
        until_answer = int(theirs * answer)
        rest = end - slowest.position - until_answer
        start = slowest.position + until_answer + int(rest * theirs / (theirs + mine))
        if start >= end:
            return None
        return self._add(Segment(connection, start, end, end, taken_from=slowest))

    # --- Once the answer is here ----------------------------------------------------------------------

    def claim(self, segment: Segment) -> None:
        """Make a segment its connection's own, as far as nobody else has it by now; that can be nothing."""
        if segment.is_held:
            return
        segment.is_held = True
        # Where all was begun anew meanwhile, the plan does not have it any more.
        if segment in self._segments and (self._claim_free(segment) or self._claim_from_another(segment)):
            return
        segment.end = segment.own_end = segment.position

    def _claim_free(self, segment: Segment) -> bool:
        for first, last in self.free:
            if first < segment.end and last > segment.position:
                segment.position, segment.end = max(segment.position, first), min(segment.end, last)
                segment.own_end = min(segment.own_end, segment.end)
                self.free.remove(segment.position, segment.end)
                return True
        return False

    def _claim_from_another(self, segment: Segment) -> bool:
        for each in self._segments:
            if each is segment or not each.is_held or each.connection is segment.connection:
                continue
            bound = each.position if each is segment.taken_from else max(each.own_end, each.position)
            start, end = max(segment.position, bound), min(segment.end, each.end)
            if start < end:
                self.free.add(end, each.end)
                each.end, each.own_end = start, min(each.own_end, start)
                segment.position, segment.end, segment.own_end = start, end, end
                return True
        return False

    def extend(self, segment: Segment) -> bool:
        """Let a segment go on behind its end if no other connection has begun there; say whether it does."""
        for first, last in self.free:
            last = min(last, self._window_end)
            if first == segment.end and first < last:
                self.free.remove(first, last)
                segment.own_end, segment.end = segment.end, last
                return True
        return False

    def release(self, segment: Segment, position: int) -> None:
        """Leave what a segment has from `position` on to whoever comes next."""
        if segment in self._segments:
            self._segments.remove(segment)
            if segment.is_held:
                self._counter.present -= segment.position - position
                self.free.add(position, segment.end)

    def _answer_time_of(self, connection: Connection) -> float:
        """Return the seconds until a connection's next request is answered at full speed.

        A new line takes three round trips until the first byte, and is slow for about as long again.
        """
        counter = self._counter
        return 2 * counter.answer_time if connection.must_be_opened else counter.shortest_answer

    # --- How fast -------------------------------------------------------------------------------------

    def _usual_rate(self) -> float:
        rates = [each.rate for each in self.connections if each.rate is not None]
        return max(sum(rates) / len(rates), 1.0) if rates else USUAL_RATE

    def _rate_now(self, connection: Connection) -> float:
        """Return the bytes a second of a connection; zero where it is silent."""
        if self._clock.monotonic() - connection.last_byte_at >= self.patience:
            return 0.0
        return self._usual_rate() if connection.rate is None else connection.rate

    def _seconds_left(self, segment: Segment) -> float:
        return segment.left / max(self._rate_now(segment.connection), 1.0)
