"""The bytes of a file over several connections, each of which fills a segment of the part file.

The thread of the download is the first of them. The others are optional: whatever goes wrong with one, it
only ends, and what it has not fetched is for the others.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Callable

from mwa_client.errors import MwaClientError, ServiceUnavailable, Stopped
from mwa_client.threads import has_started
from mwa_client.timing import Clock
from mwa_client.transfer import ranges
from mwa_client.transfer.connections import (
    MOMENT,
    ConnectionBudget,
    ConnectionTuner,
    Measured,
    Restraint,
)
from mwa_client.transfer.gaps import Gaps
from mwa_client.transfer.part_file import PartFile, PartWriter

PIECE = 1 << 20
"""Segments are so many bytes long, or a multiple of it."""
SHORT_SEGMENT, LONG_SEGMENT = 4 << 20, 256 << 20
HASH_RATE = 1e9
"""Bytes a second that can be hashed, more or less."""
MOST_OF_IT = 0.85
"""How much of what is left is fetched in the first of two rounds; in the second that can just be hashed."""
USUAL_RATE = 20e6
"""Bytes a second of a connection that was not measured yet."""
WINDOW = 2 << 30
"""How far ahead of the first byte that is missing others may be fetched: what is written out of order is read
again for its SHA-1, and should still be in the machine's memory then."""
LEAST_SPLIT = 1 << 18
"""Of less than this another connection takes a part only where it would take long."""
WRITE_SIZE = 1 << 18
"""Bytes that each further connection writes at a time, and can lose in a kill."""
LOOK = 0.05
"""Seconds between two looks at how many connections there should be."""
RATE_TIME = 0.25
"""Seconds over which the rate of each connection is measured."""
MUCH = 32 << 20
"""Bytes for which it is worthwhile to find out whether the line is long before the first answer is here."""
SOON = 0.03
"""Seconds in which the first answer comes where the line is short."""
LONG_ANSWER, USUAL_ROUND_TRIP = 1.0, 0.1
"""Seconds that an answer on a long line, and a round trip, are thought to take before the first is here."""
LEAST_GAIN = 0.05
"""Seconds that must be gained by taking a part of what another connection fetches."""
PATIENT_FOR = 1.0
"""Seconds for which a download takes no more than its share, so that others which begin now get theirs."""
SILENCE = 2.0
"""Seconds without a byte after which the others may take what a connection has asked for."""
UNANSWERED = 10.0
"""Seconds after which a further connection is given up, if there is no answer."""
SERVED, SERVED_TO_THE_END = 4 << 20, 1 << 16
"""Bytes after which a request counts as one that went well, before its end and at its end."""
SLOWEST, SLOW_FOR = 1000, 60.0
"""A connection with fewer bytes a second than these for so many seconds is replaced if it was faster."""
DESCRIPTORS = 8
"""Open files that must be left for all else when a connection is added."""
ENDLESS = 1 << 62
"""Where a file ends of which nobody knows the size."""


@dataclass(eq=False)
class Line:
    """One connection, and what is known of it."""

    is_first: bool = False
    is_flowing: bool = False
    is_dismissed: bool = False
    is_held_still: bool = False
    thread: threading.Thread | None = None
    asked_at: float = 0.0
    heard_at: float = 0.0
    answer_time: float | None = None
    brought: int = 0
    """Bytes of the present request."""
    rate: float | None = None
    fastest: float = 0.0
    _sampled: tuple[float, int] = (0.0, 0)
    _slow_since: tuple[float, int] = (0.0, 0)

    def ask(self, now: float) -> None:
        """Note that a request goes out."""
        self.asked_at = self.heard_at = now
        self.brought = 0

    def hear(self, count: int, now: float) -> None:
        """Note that bytes have come, or none for a moment."""
        if count and not self.brought:
            self.answer_time = now - self.asked_at
            self._sampled = self._slow_since = (now, 0)
        if count:
            self.heard_at = now
            self.brought += count
        seconds = now - self._sampled[0]
        if self.brought and seconds >= RATE_TIME:
            rate = (self.brought - self._sampled[1]) / seconds
            self.rate = rate if self.rate is None else (self.rate + rate) / 2
            self.fastest = max(self.fastest, self.rate)
            self._sampled = now, self.brought

    def hardly_flows(self, now: float) -> bool:
        """Say whether so little has come for so long that another connection would be better."""
        since, before = self._slow_since
        if not self.brought or now - since < SLOW_FOR:
            return False
        is_slow = self.brought - before < SLOWEST * (now - since) and self.fastest > 10 * SLOWEST
        self._slow_since = now, self.brought
        return is_slow


@dataclass(eq=False)
class Segment:
    """A part of the file that a connection fetches, or has asked for.

    Attributes
    ----------
    position : int
        The next byte that is to come.
    end : int
        Behind its last byte. Others can move it nearer.
    own_end : int
        What is behind it was not given to this connection: it goes on there as long as nobody else comes.
    is_held : bool
        Whether it is this connection's own. Before its first byte has come, others may still be at it.
    victim : Segment or None
        Whose end it is to take over, once its first byte has come.
    """

    line: Line
    position: int
    end: int
    own_end: int
    is_held: bool = False
    victim: Segment | None = None

    @property
    def left(self) -> int:
        """Bytes that are still to come."""
        return self.end - self.position


@dataclass
class Reading:
    """What a `ParallelReader` works with."""

    source: ranges.Source
    part: PartFile
    size: int | None
    has_sha1: bool
    budget: ConnectionBudget
    clock: Clock
    stop: threading.Event
    listen: Callable[[int], None] = field(default=lambda there: None)
    """Is told how many bytes are here when some have arrived, from any thread."""


class ParallelReader:
    """Fills what a part file lacks, over one connection or several.

    Parameters
    ----------
    reading : Reading
        What it works with.
    tuner : ConnectionTuner
        How many connections are worth having.
    restraint : Restraint
        When the further ones may ask.

    Attributes
    ----------
    fetched : int
        Bytes that were received so far.
    """

    def __init__(self, reading: Reading, tuner: ConnectionTuner, restraint: Restraint) -> None:
        self.fetched = 0
        self._r = reading
        self._part, self._clock = reading.part, reading.clock
        self._there = reading.part.there
        self._tuner, self._restraint = tuner, restraint
        self._size = ENDLESS if reading.size is None else reading.size
        self._changed = threading.Condition()
        self._first = Line(is_first=True)
        self._others: list[Line] = []
        self._segments: list[Segment] = []
        self._free = self._all_missing()
        """What nobody holds; somebody may have asked for it."""
        self._waited = 0.0
        self._answer_time = 0.0
        self._shortest_answer = LONG_ANSWER
        self._looked = float("-inf")
        self._began = reading.clock.monotonic()
        self._can_be_mixed = self._was_asked = self._was_answered = False
        self._is_over = False
        self._mistake: BaseException | None = None

    # --- For the download's own thread ----------------------------------------------------------------

    @property
    def is_flowing(self) -> bool:
        """Whether a further connection brings bytes."""
        with self._changed:
            return any(each.is_held and not each.line.is_first for each in self._segments)

    def next_segment(self) -> Segment | None:
        """Return what is to be fetched next; wait while others may leave something; None if all is here.

        Raises
        ------
        Stopped
            The work was told to stop.
        PartBroken
            The part file is of no use any more.
        """
        while True:
            self._part.check()
            with self._changed:
                if self._mistake is not None:
                    raise self._mistake
                if not self._free and not any(each.is_held for each in self._segments):
                    return None
                segment = self._choose(self._first)
                if segment is not None:
                    return segment
                self._look()
                self._changed.wait(MOMENT)
            if self._r.stop.is_set():
                raise Stopped("The work was told to stop.")

    def wait(self, seconds: float) -> float:
        """Wait for so long as the others bring something; return how many seconds are still to be waited."""
        until = self._clock.monotonic() + seconds
        while self.is_flowing and self._clock.monotonic() < until and not self._r.stop.is_set():
            with self._changed:
                self._look()
                self._changed.wait(MOMENT)
        with self._changed:
            return max(until - self._clock.monotonic(), 0.0) if self._left() else 0.0

    def end_of_request(self, segment: Segment) -> int | None:
        """Return up to where a segment must be asked for; None for all that there is."""
        return None if segment.end == self._size else segment.end

    def ask(self) -> None:
        """Note that the download's own thread asks for something."""
        with self._changed:
            self._first.ask(self._clock.monotonic())
            awaits_others, self._was_asked = self._awaits_others, True
        if awaits_others:
            has_started(threading.Thread(target=self._expect_long_line, name="download", daemon=True))

    def _expect_long_line(self) -> None:
        """Let the others ask, too, where the first answer is long in coming."""
        with self._changed:
            if self._changed.wait_for(lambda: self._was_answered or self._is_over, SOON):
                return
            self._answer_time = LONG_ANSWER
            # Who answers without ranges is sorted out by each connection.
            self._can_be_mixed = True
            self._tuner.expect_long_line(self._left())
            self._look()

    def hold(self, segment: Segment, stretch: ranges.Stretch) -> None:
        """Note that a segment is answered: what is behind the bytes that were asked for is known now."""
        with self._changed:
            self._was_answered = self._first.is_flowing = True
            self._answer_time = self._clock.monotonic() - self._first.asked_at
            if stretch.size is not None:
                self._learn_size(stretch.size)
            self._can_be_mixed = stretch.takes_ranges and bool(stretch.etag or self._r.has_sha1)
            self._seize(segment)

    def read(self, segment: Segment, stretch: ranges.Stretch) -> None:
        """Fill a segment with what one connection brings, up to where others have come before it."""
        with self._changed:
            self._look()
        self._pour(segment, stretch, self._part.writer(segment.position))
        if stretch.size is None:
            self.learn_size(segment.position)

    def learn_size(self, size: int) -> None:
        """Note where the file ends, if nobody knew it."""
        with self._changed:
            self._learn_size(size)

    def drop(self, segment: Segment) -> None:
        """Leave what is not fetched of a segment to whoever comes next."""
        with self._changed:
            self._was_answered = True
            self._release(segment, segment.position)

    def restart(self) -> Segment:
        """Begin anew, for a part file that was emptied; return all of it as one segment."""
        with self._changed:
            for line in self._others:
                line.is_dismissed = True
            self._there = 0
            self._segments = [Segment(self._first, 0, self._size, self._size, is_held=True)]
            self._free = Gaps()
            return self._segments[0]

    def close(self) -> None:
        """Let all other connections go, as soon as they notice."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
            self._give_up(self._others)

    # --- Who fetches what; all of it with the lock held -----------------------------------------------

    def _all_missing(self) -> Gaps:
        gaps = ((start, self._size if end is None else end) for start, end in self._part.gaps)
        return Gaps(gap for gap in gaps if gap[0] < gap[1])

    def _learn_size(self, size: int) -> None:
        if self._size == ENDLESS:
            self._size = size
            self._free.remove(size, ENDLESS)
            for segment in self._segments:
                segment.end, segment.own_end = min(segment.end, size), min(segment.own_end, size)

    def _left(self) -> int:
        return self._free.total + sum(each.left for each in self._segments if each.is_held)

    @property
    def _awaits_others(self) -> bool:
        """Whether the first request is still to go out, and others will probably follow it at once.

        Then it asks for no more than its part: a connection whose answer ends can be used again.
        """
        is_much = self._r.has_sha1 and self._size != ENDLESS and self._left() >= MUCH
        return not self._was_asked and is_much and self._r.budget.most > 1

    def _choose(self, line: Line) -> Segment | None:
        """Return what a connection should ask for; None if all is in good hands."""
        if not self._left():
            return None
        return self._choose_free(line) or self._choose_part_of_another(line)

    def _choose_free(self, line: Line) -> Segment | None:
        if line.is_first and not self._others and self._free and not self._awaits_others:
            start, end = self._free.first  # Alone: all there is in one go.
            return self._add(Segment(line, start, end, end))
        available = self._available()
        if not available:
            return None
        start, end = available.first
        end = min(end, start + self._length(self._left()))
        return self._add(Segment(line, start, end, end))

    def _available(self) -> Gaps:
        """Return what nobody is about to fetch."""
        now = self._clock.monotonic()
        available = Gaps(self._free)
        for each in self._segments:
            if each.is_held:
                # Who only goes on there is not disturbed until the first byte has come.
                rate = each.line.rate or 0.0
                ahead = each.position + int(rate * self._answer_time) + PIECE
                available.add(max(each.own_end, ahead if each.position >= each.own_end else 0), each.end)
        for each in self._segments:
            if not each.is_held and now - each.line.heard_at < self._patience():
                available.remove(each.position, each.own_end)
        firsts = [each.position for each in self._segments if each.is_held] + [gap[0] for gap in self._free]
        return available.clipped(min(firsts, default=0) + WINDOW)

    def _choose_part_of_another(self, line: Line) -> Segment | None:
        """Return the end of what would take longest, so that both are done at the same time."""
        victims = {each.victim for each in self._segments}
        # Of what somebody has only asked for, too, a part can be taken: several may come at the same time.
        parts = [each for each in self._segments if (each.is_held or each.victim) and each not in victims]
        slowest = max(parts, key=self._seconds_left, default=None)
        if slowest is None or slowest.line is line:
            return None
        answer = self._shortest_answer
        is_little = slowest.left < LEAST_SPLIT
        if self._seconds_left(slowest) < max(2 * answer + LEAST_GAIN, SILENCE if is_little else 0.0):
            return None
        if not slowest.is_held:
            start, end = slowest.position + slowest.left // 2, slowest.end
            slowest.end = slowest.own_end = start
            return self._add(Segment(line, start, end, end, victim=slowest.victim))
        theirs, mine = self._rate_now(slowest.line), line.rate or self._usual_rate()
        until_then = int(theirs * answer)
        rest = slowest.left - until_then
        start = slowest.position + until_then + int(rest * theirs / (theirs + mine))
        return self._add(Segment(line, start, slowest.end, slowest.end, victim=slowest))

    def _add(self, segment: Segment) -> Segment:
        segment.line.ask(self._clock.monotonic())
        self._segments.append(segment)
        return segment

    def _seize(self, segment: Segment) -> None:
        """Take hold of what was asked for, as far as nobody else has it by now; some of it may be none."""
        if segment.is_held:
            return
        segment.is_held = True
        if segment not in self._segments:  # All was begun anew meanwhile.
            segment.end = segment.own_end = segment.position
            return
        victim = segment.victim
        for first, last in self._free:
            if first < segment.end and last > segment.position:
                segment.position, segment.end = max(segment.position, first), min(segment.end, last)
                segment.own_end = min(segment.own_end, segment.end)
                self._free.remove(segment.position, segment.end)
                return
        for each in self._segments:
            if each is segment or not each.is_held or each.line is segment.line:
                continue
            bound = each.position if each is victim else max(each.own_end, each.position)
            start, end = max(segment.position, bound), min(segment.end, each.end)
            if start < end:
                self._free.add(end, each.end)
                each.end, each.own_end = start, min(each.own_end, start)
                segment.position, segment.end, segment.own_end = start, end, end
                return
        segment.end = segment.own_end = segment.position

    def _goes_on(self, segment: Segment) -> bool:
        """Say whether a segment whose end is reached goes on behind it: nobody else has begun there."""
        for first, last in self._free:
            if first == segment.end:
                self._free.remove(first, last)
                segment.own_end, segment.end = segment.end, last
                return True
        return False

    def _release(self, segment: Segment, position: int) -> None:
        if segment in self._segments:
            self._segments.remove(segment)
            if segment.is_held:
                self._there -= segment.position - position
                self._free.add(position, segment.end)
            self._changed.notify_all()

    def _length(self, left: int) -> int:
        """Return how long a segment should be.

        Each round of them costs the wait for an answer. But when the last byte has come, what was fetched out
        of order in the last round must still be hashed. So all that is left is shared out at once where that
        is soon hashed; otherwise most of it, and the rest in a later round.
        """
        share = self._r.budget.share
        lines = max(share if self._awaits_others else min(self._tuner.target, share), 1 + len(self._others))
        length = left / lines
        # On a connection that is open already, an answer takes one round trip; on a new one, three.
        round_trip = self._answer_time / 3 if self._was_answered else USUAL_ROUND_TRIP
        if MOST_OF_IT * (left - length) / HASH_RATE > 2 * round_trip:
            length *= MOST_OF_IT
        length = min(max(int(length), SHORT_SEGMENT), LONG_SEGMENT)
        return -(-length // PIECE) * PIECE

    def _usual_rate(self) -> float:
        rates = [line.rate for line in (self._first, *self._others) if line.rate is not None]
        return max(sum(rates) / len(rates), 1.0) if rates else USUAL_RATE

    def _rate_now(self, line: Line) -> float:
        """Return the bytes a second of a connection; next to nothing where it is silent."""
        if self._clock.monotonic() - line.heard_at >= self._patience():
            return 0.0
        return self._usual_rate() if line.rate is None else line.rate

    def _seconds_left(self, segment: Segment) -> float:
        return segment.left / max(self._rate_now(segment.line), 1.0)

    def _patience(self) -> float:
        return max(SILENCE, 3 * self._answer_time)

    # --- How many; all of it with the lock held -------------------------------------------------------

    def _look(self) -> None:
        """Let there be more connections or fewer, as it helps."""
        now = self._clock.monotonic()
        if now - self._looked < LOOK or self._is_over or not self._can_be_mixed or self._size == ENDLESS:
            return
        self._looked = now
        lines = [self._first, *self._others]
        flowing = sum(line.is_flowing and not line.is_held_still for line in lines)
        fastest = max(line.fastest for line in lines)
        self._tuner.look(
            Measured(flowing, self.fetched, self._waited, self._left(), self._answer_time, fastest)
        )
        staying = [line for line in self._others if not line.is_dismissed]
        has_left = len(staying) < len(self._others)
        share = self._r.budget.share
        is_too_much = self._r.budget.is_short or (len(staying) >= share and self._r.budget.is_wanted)
        if len(staying) + 1 > self._tuner.target or (is_too_much and not has_left):
            for line in staying[max(self._tuner.target - 1, 0) :] or staying[-1:]:
                line.is_dismissed = True
        for number, line in enumerate(staying, start=1):
            line.is_held_still = number >= self._tuner.active
        late = now - max(UNANSWERED, 5 * self._answer_time)
        self._give_up(each for each in self._others if each.is_dismissed or each.asked_at < late)
        most = self._tuner.target
        if now - self._began < PATIENT_FOR or self._r.budget.is_wanted:
            most = min(most, share)
        while len(self._others) + 1 < most and self._add_line():
            pass
        self._r.budget.note_need(self._tuner, len(self._others) + 1 < min(self._tuner.target, share))
        self._changed.notify_all()

    def _give_up(self, lines: Iterable[Line]) -> None:
        """Let those go that were not answered: they are waited for by nobody."""
        give_up = getattr(self._r.source, "give_up", None)
        for line in lines:
            if give_up is not None and line.thread is not None and not line.brought:
                give_up(line.thread)

    def _add_line(self) -> bool:
        """Fetch over one connection more, if there is something for it, and it can be had."""
        if not self._restraint.allows_request() or not self._r.budget.try_acquire():
            return False
        line = Line()
        for each in self._segments:
            if each.line.is_first:
                # The rest is for the others, as soon as they bring something.
                each.own_end = min(each.own_end, each.position + self._length(self._left()))
        segment = self._choose(line)
        if segment is not None:
            line.thread = threading.Thread(
                target=self._run, args=(line, segment), name="download", daemon=True
            )
            if _has_spare_descriptors() and has_started(line.thread):
                self._restraint.note_request()
                self._others.append(line)
                return True
            # No descriptor, no thread, no memory to be had: these are enough.
            self._release(segment, segment.position)
            self._tuner.refused(1 + len(self._others))
        self._r.budget.release()
        return False

    # --- A further connection -------------------------------------------------------------------------

    def _run(self, line: Line, segment: Segment | None) -> None:
        try:
            while segment is not None:
                self._fetch(line, segment)
                segment = self._next_for(line)
        except (MwaClientError, MemoryError):
            pass  # The others go on; what concerns them, too, they will meet themselves.
        except BaseException as error:  # A mistake in this program: let the download die of it.
            self._mistake = error
        finally:
            with self._changed:
                self._others.remove(line)
                self._changed.notify_all()
            self._r.budget.release()

    def _next_for(self, line: Line) -> Segment | None:
        """Return what a connection is to fetch next; None where it is not needed any more."""
        with self._changed:
            while not (self._is_over or line.is_dismissed):
                if self._restraint.allows_request():
                    segment = self._choose(line)
                    if segment is not None:
                        self._restraint.note_request()
                    return segment
                if not self._left():
                    break
                self._look()
                self._changed.wait(MOMENT)
            return None

    def _fetch(self, line: Line, segment: Segment) -> None:
        """Fill a segment, or what can be had of it."""
        try:
            self._ask_for(segment)
        except MwaClientError as error:
            with self._changed:
                self._restraint.failed(getattr(error, "retry_after", None))
                line.is_flowing = False
                if not line.brought:
                    # The others may be answered all the same.
                    self._tuner.refused(sum(not each.is_dismissed for each in self._others))
                    line.is_dismissed = True
                    raise
        finally:
            with self._changed:
                self._release(segment, segment.position)

    def _ask_for(self, segment: Segment) -> None:
        etag = self._part.etag
        # Where the SHA-1 is known, it decides; two servers of one store may have different tags.
        condition = "" if self._r.has_sha1 else etag
        start, end, size = segment.position, segment.end, self._size
        with ranges.open_range(self._r.source, start, size, condition, end=end) as stretch:
            if stretch.start != start or (not self._r.has_sha1 and stretch.etag != etag):
                raise ServiceUnavailable("The server does not send the range asked for.")
            self._pour(segment, stretch, self._part.writer(start, WRITE_SIZE))

    # --- Any connection -------------------------------------------------------------------------------

    def _pour(self, segment: Segment, stretch: ranges.Stretch, writer: PartWriter) -> None:
        """Put what comes into the part file, until the segment or the answer ends."""
        line, at = segment.line, segment.position

        def room() -> memoryview:
            # It may end at once, if another connection has come before it.
            return writer.room()[: max(segment.end - at, 1)]

        with self._written(segment, writer):
            began = self._clock.monotonic()
            for count in stretch.pour(room):
                with self._changed:
                    if line.is_first:
                        self._waited += self._clock.monotonic() - began
                    skip, taken = self._note_arrival(segment, at, count)
                at += count
                if taken:
                    writer.skip_to(segment.position - taken)
                    writer.grow(taken, skip)
                if count:
                    self._r.listen(self._there)
                if not self._may_go_on(segment, stretch):
                    return
                began = self._clock.monotonic()

    @contextmanager
    def _written(self, segment: Segment, writer: PartWriter) -> Iterator[None]:
        """Have all written that has come, whatever happens; what could not be written is still missing."""
        try:
            yield
        finally:
            try:
                writer.flush()
            finally:
                with self._changed:
                    self._release(segment, writer.written)

    def _note_arrival(self, segment: Segment, at: int, count: int) -> tuple[int, int]:
        """Count what has come; return how much of it is of no use, and how much behind that is."""
        line, now = segment.line, self._clock.monotonic()
        self.fetched += count
        line.hear(count, now)
        if count:
            line.is_flowing = True
            # Those that come later find a connection that another has left open, as a rule.
            self._shortest_answer = min(self._shortest_answer, line.answer_time or 0.0)
            self._seize(segment)
        skip = min(max(segment.position - at, 0), count)
        taken = max(min(count - skip, segment.left), 0)
        segment.position += taken
        self._there += taken
        if taken and line.brought >= (SERVED if segment.left else SERVED_TO_THE_END):
            self._restraint.went_well()
        self._look()
        return skip, taken

    def _may_go_on(self, segment: Segment, stretch: ranges.Stretch) -> bool:
        line = segment.line
        with self._changed:
            while line.is_held_still and not (line.is_dismissed or self._is_over):
                self._changed.wait(MOMENT)
            if not line.is_first and (line.is_dismissed or self._is_over):
                return False
            if line.is_first and self._mistake is not None:
                raise self._mistake
            if line.hardly_flows(self._clock.monotonic()):
                raise ServiceUnavailable("The server hardly sends anything any more.")
            is_at_end = segment.is_held and not segment.left
            goes_further = stretch.end is None or stretch.end > segment.end
            if is_at_end and goes_further and not (line.is_first and self._goes_on(segment)):
                return False
        if line.is_first:
            self._part.check()
            if self._r.stop.is_set():
                raise Stopped("The work was told to stop.")
        return True


def _has_spare_descriptors() -> bool:
    """Say whether so many files can still be opened that what is needed will not lack them."""
    taken: list[int] = []
    try:
        for _ in range(DESCRIPTORS):
            taken.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return False
    finally:
        for each in taken:
            with suppress(OSError):
                os.close(each)
    return True
