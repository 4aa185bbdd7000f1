"""The bytes that a part file lacks, over one connection or several.

The thread of the download is the first of them, and only it tells how the download goes. It asks here what
to fetch next; the others (`mwa_client.transfer.extra`) come and go beside it.
"""

from __future__ import annotations

from mwa_client.transfer import ranges
from mwa_client.transfer.extra import ExtraConnections
from mwa_client.transfer.receiving import CHECK_INTERVAL, FetchContext, Receiver
from mwa_client.transfer.segments import Segment


class ParallelReader:
    """Fills what a part file lacks; for the download's own thread.

    Parameters
    ----------
    context : FetchContext
        The file, and all that its connections share.
    """

    def __init__(self, context: FetchContext) -> None:
        self._context = context
        self._transfers = context.transfers
        self._clock = context.transfers.clock
        self._receiver = Receiver(context)
        self._plan = self._receiver.plan
        self._changed = self._receiver.changed
        self._first = self._plan.connections[0]
        self._extra = ExtraConnections(self._receiver)
        self._receiver.adjust = self._extra.adjust

    @property
    def others_receive(self) -> bool:
        """Whether a further connection brings bytes."""
        with self._changed:
            return self._plan.others_receive

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
            self._context.part.check()
            with self._changed:
                if self._receiver.mistake is not None:
                    raise self._receiver.mistake
                if self._plan.is_complete:
                    return None
                segment = self._extra.choose(self._first)
                if segment is not None:
                    return segment
                self._extra.adjust()
                self._changed.wait(CHECK_INTERVAL)
            self._transfers.check_stop()

    def wait(self, seconds: float) -> float:
        """Wait for `seconds` while further connections bring bytes; return how many seconds are left."""
        until = self._clock.monotonic() + seconds
        while self.others_receive and self._clock.monotonic() < until and not self._transfers.stop.is_set():
            with self._changed:
                self._extra.adjust()
                self._changed.wait(CHECK_INTERVAL)
        with self._changed:
            return max(until - self._clock.monotonic(), 0.0) if self._plan.left else 0.0

    def take_requests(self) -> int:
        """Return how many requests have brought nothing since bytes came last, and forget them."""
        with self._changed:
            count, self._context.counter.requests = self._context.counter.requests, 0
            return count

    def end_of_request(self, segment: Segment) -> int | None:
        """Return where the request for a segment must end; None to ask for the rest of the file."""
        return None if segment.end == self._plan.size else segment.end

    def note_request(self) -> None:
        """Note that the download's own thread asks for something."""
        with self._changed:
            self._first.note_request(self._clock.monotonic())
            self._context.counter.requests += 1
        self._extra.watch_first_answer()

    def claim(self, segment: Segment, reply: ranges.RangeResponse) -> None:
        """Make an answered segment ours, and note what the response says of the file."""
        counter, has_sha1 = self._context.counter, self._context.expected.sha1 is not None
        with self._changed:
            counter.has_answer = self._first.is_receiving = True
            counter.answer_time = self._clock.monotonic() - self._first.requested_at
            if reply.size is not None:
                self._plan.learn_size(reply.size)
            self._extra.can_be_mixed = reply.takes_ranges and bool(reply.etag or has_sha1)
            self._plan.claim(segment)

    def receive(self, segment: Segment, reply: ranges.RangeResponse) -> None:
        """Write what comes into the part file, up to where another connection has been faster."""
        with self._changed:
            self._extra.adjust()
        self._receiver.receive(segment, reply, self._context.part.writer(segment.position))
        if reply.size is None:
            self.learn_size(segment.position)

    def learn_size(self, size: int) -> None:
        """Note where the file ends, if nobody knew it."""
        with self._changed:
            self._plan.learn_size(size)

    def release(self, segment: Segment) -> None:
        """Leave what is not fetched of a segment to whoever comes next."""
        with self._changed:
            self._context.counter.has_answer = True
            self._receiver.release(segment, segment.position)

    def restart(self) -> Segment:
        """Begin anew, for a part file that was emptied; return all of it as one segment."""
        with self._changed:
            self._extra.dismiss_all()
            self._context.counter.present = 0
            return self._plan.restart()

    def close(self, wait: float = 0.0) -> None:
        """Let all further connections end, as soon as they notice; wait for that so many seconds at most."""
        with self._changed:
            self._receiver.is_over = True
            self._changed.notify_all()
            self._extra.cancel_unanswered()
            if wait:
                self._changed.wait_for(lambda: len(self._plan.connections) == 1, wait)
