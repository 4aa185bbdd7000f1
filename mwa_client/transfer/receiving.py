"""Put what any connection of a download receives into its part file, unless another has come first."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Callable

from mwa_client.errors import ServiceUnavailable
from mwa_client.light_dataclasses import dataclass
from mwa_client.transfer import ranges
from mwa_client.transfer.common import Transfers
from mwa_client.transfer.connections import Connection, TransferCounter
from mwa_client.transfer.files import ExpectedFile
from mwa_client.transfer.part_writer import PartWriter
from mwa_client.transfer.product_part import ProductPart
from mwa_client.transfer.segments import Segment, SegmentPlan
from mwa_client.transfer.throttle import SERVED, RequestThrottle
from mwa_client.transfer.tuner import ConnectionTuner

CHECK_INTERVAL = 0.2
"""Seconds after which a wait looks what has changed."""


@dataclass(frozen=True)
class FetchContext:
    """One file that is being fetched, and all that its connections share.

    Attributes
    ----------
    transfers : Transfers
        What all transfers share.
    expected : ExpectedFile
        What the file must be.
    source : Source
        Where its bytes come from.
    part : ProductPart
        Where they go.
    tuner : ConnectionTuner
        How many connections are worth having.
    throttle : RequestThrottle
        When the further connections may ask.
    counter : TransferCounter
        What was counted and timed so far.
    note_arrival : callable
        Is told when bytes have arrived, from any thread.
    """

    transfers: Transfers
    expected: ExpectedFile
    source: ranges.Source
    part: ProductPart
    tuner: ConnectionTuner
    throttle: RequestThrottle
    counter: TransferCounter
    note_arrival: Callable[[], None] = lambda: None


class Receiver:
    """Puts what the connections of one download receive into its part file.

    Attributes
    ----------
    context : FetchContext
        The file, and all that its connections share.
    plan : SegmentPlan
        Which connection fetches what.
    changed : threading.Condition
        Held for every look at the plan and the counter, and told of each change.
    adjust : callable
        Lets there be more connections or fewer, as it helps; called with `changed` held.
    is_over : bool
        Whether all connections are to end.
    mistake : BaseException or None
        A mistake in this program that a further connection has met: the download must fail with it.
    """

    def __init__(self, context: FetchContext) -> None:
        clock, expected = context.transfers.clock, context.expected
        self.context = context
        part, first = context.part, Connection(is_first=True)
        self.plan = SegmentPlan(clock, context.counter, expected.size, part.gaps, first, part.window)
        self.changed = threading.Condition()
        self.adjust: Callable[[], None] = lambda: None
        self.is_over = False
        self.mistake: BaseException | None = None
        self._clock = clock

    def receive(self, segment: Segment, reply: ranges.RangeResponse, writer: PartWriter) -> None:
        """Put what comes into the part file, until the segment or the response ends.

        The segment may begin behind the response by now, where another connection has fetched its beginning.
        """
        counter, position = self.context.counter, reply.start

        def space() -> memoryview:
            # At least one byte, though the segment ends at once if another connection has come before it.
            return writer.space()[: max(segment.end - position, 1)]

        with self._flushed(segment, writer):
            began = self._clock.monotonic()
            for count in reply.copy_into(space):
                with self.changed:
                    if segment.connection.is_first:
                        counter.waited += self._clock.monotonic() - began
                    skip, taken = self._count(segment, position, count)
                position += count
                # Whatever happens next, what another has fetched before this is not for us to give back.
                writer.skip_to(segment.position - taken)
                if taken:
                    writer.commit(taken, skip)
                if count:
                    self.context.note_arrival()
                if not self._may_go_on(segment, reply, position):
                    return
                began = self._clock.monotonic()

    def release(self, segment: Segment, position: int) -> None:
        """Leave what a segment has from `position` on to whoever comes next; needs the lock."""
        self.plan.release(segment, position)
        self.changed.notify_all()

    @contextmanager
    def _flushed(self, segment: Segment, writer: PartWriter) -> Iterator[None]:
        """Have all written that has come, whatever happens; what could not be written is still missing."""
        try:
            yield
        finally:
            try:
                writer.flush()
            finally:
                with self.changed:
                    self.release(segment, writer.written)

    def _count(self, segment: Segment, position: int, count: int) -> tuple[int, int]:
        """Count bytes that have come for `position`; return how many to skip, and how many to take then."""
        connection, counter = segment.connection, self.context.counter
        counter.received += count
        connection.note_bytes(count, self._clock.monotonic())
        if count:
            connection.is_receiving, counter.requests = True, 0
            # Later requests find a connection that another has left open, as a rule, and are answered sooner.
            counter.shortest_answer = min(counter.shortest_answer, connection.answer_time or 0.0)
            self.plan.claim(segment)
        skip = min(max(segment.position - position, 0), count)
        taken = max(min(count - skip, segment.left), 0)
        segment.position += taken
        counter.present += taken
        if connection.received // SERVED > (connection.received - count) // SERVED:
            self.context.throttle.went_well(SERVED)
        elif taken and not segment.left:
            self.context.throttle.went_well(connection.received % SERVED)
        self.adjust()
        return skip, taken

    def _may_go_on(self, segment: Segment, reply: ranges.RangeResponse, position: int) -> bool:
        """Say whether a connection is to read on from `position`, after a wait where it is paused."""
        connection = segment.connection
        with self.changed:
            while connection.is_paused and not (connection.is_dismissed or self.is_over):
                self.changed.wait(CHECK_INTERVAL)
            if not connection.is_first and (connection.is_dismissed or self.is_over):
                return False
            if connection.is_first and self.mistake is not None:
                raise self.mistake
            if connection.is_too_slow(self._clock.monotonic()):
                raise ServiceUnavailable("The server has almost stopped sending.")
            is_at_end = segment.is_held and not segment.left
            goes_further = reply.end is None or reply.end > segment.end
            # Where others had taken its end, and have left it again, bytes may have been dropped meanwhile.
            can_be_longer = connection.is_first and position == segment.end
            if is_at_end and goes_further and not (can_be_longer and self.plan.extend(segment)):
                connection.must_be_opened = True  # What else comes on it nobody wants.
                return False
        if connection.is_first:
            self.context.part.check()
            self.context.transfers.check_stop()
        return True
