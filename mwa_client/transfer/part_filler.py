"""Bring the bytes of a product into its part: fetched, resumed, retried, and checked."""

from __future__ import annotations

import threading

from mwa_client.errors import OutOfDescriptors, ServiceUnavailable, TransferFailed, VerificationFailed
from mwa_client.transfer import ranges
from mwa_client.transfer.common import LEAST_WAIT, ProgressReporter, Retries, Transfers
from mwa_client.transfer.connections import TransferCounter
from mwa_client.transfer.events import Setback
from mwa_client.transfer.files import ExpectedFile
from mwa_client.transfer.parallel import ParallelReader
from mwa_client.transfer.part_hash import PartBroken
from mwa_client.transfer.product_part import ProductPart
from mwa_client.transfer.receiving import FetchContext
from mwa_client.transfer.segments import Segment
from mwa_client.transfer.throttle import RequestThrottle, pause_of
from mwa_client.transfer.tuner import ConnectionTuner

TRIES_WITHOUT_PROGRESS = 12
"""Tries in a row that bring no byte, with waits from 1 s to 5 min between them (about 20 min in all)."""
WRONG_ANSWERS = 2
"""Wrong answers in a row to requests for ranges after which the whole file is asked for."""
ENDING = 5.0
"""Seconds in which connections end that have been told to."""
GLANCE = 4096
"""Bytes that are compared to tell a product from somebody's web page."""
THROWN_AWAY = (
    "It was discarded. Run the same command again; if this happens again, tell the archive's help desk."
)


class PartFiller:
    """Brings the bytes of one product into its part, over as many connections as it takes, and checks them.

    Parameters
    ----------
    transfers : Transfers
        What all transfers share.
    expected : ExpectedFile
        What the product must be.
    source : Source
        Where its bytes come from.
    """

    def __init__(self, transfers: Transfers, expected: ExpectedFile, source: ranges.Source) -> None:
        clock, budget = transfers.clock, transfers.connections
        self._transfers = transfers
        self._expected = expected
        self._source = source
        self._budget = budget
        self._has_connection = False
        self._tuner = ConnectionTuner(clock, budget.most)
        self._throttle = RequestThrottle(clock, budget, lambda: str(getattr(source, "host", "")))
        self._retries = Retries(transfers, expected, TRIES_WITHOUT_PROGRESS, longest_wait=300.0)
        self._progress = ProgressReporter(transfers, expected, expected.size)
        self._counter = TransferCounter()
        self._wrong_answers = 0
        self._has_had_range = False
        self._is_second_try = False
        self._lock = threading.Lock()
        self._furthest = 0
        """The most bytes that were ever here in this try."""

    @property
    def received(self) -> int:
        """Bytes that were taken from the network."""
        return self._counter.received

    def complete(self, part: ProductPart) -> str:
        """Bring what is missing, and check the whole; return its SHA-1.

        Raises
        ------
        VerificationFailed, PartBroken
            It was thrown away, since it is not what was expected, or cannot be read.
        """
        self._furthest = 0
        with self._budget.joined(self._tuner):
            self._progress.report(part.present)
            try:
                self._fill(part)
                sha1 = part.sha1()
                self._verify(part, sha1)
            except (PartBroken, VerificationFailed) as error:
                part.discard()
                self.tell_of_second_try(error)
                raise
            return sha1

    def tell_of_second_try(self, error: PartBroken | VerificationFailed) -> None:
        """Say why a product is fetched anew; at the second time the error itself says it.

        It then comes over one connection: another server with other bytes may have answered the rest.
        """
        if not self._is_second_try:
            self._is_second_try = True
            self._tuner = ConnectionTuner(self._transfers.clock, 1)
            expected, what = self._expected, f"{error.what} Downloading it again."
            self._transfers.listen(Setback(expected.job_id, expected.name, what, 0.0))

    def _verify(self, part: ProductPart, sha1: str) -> None:
        """Raise an error if the bytes are not what was expected."""
        expected, twice = self._expected, ", twice" if self._is_second_try else ""
        wrong = ""
        if expected.size not in (None, part.length):
            wrong = f"size{twice}: it has {part.length} bytes, the service says {expected.size}"
        if expected.sha1 not in (None, sha1):
            wrong = f"SHA-1{twice}: it is {sha1}, the service says {expected.sha1}"
        if wrong:
            raise VerificationFailed(f"{expected.name} arrived with a wrong {wrong}.", THROWN_AWAY)

    def _fill(self, part: ProductPart) -> None:
        """Bring what is missing, over as many connections as it takes, or as there is memory for."""
        try:
            self._fill_once(part)
        except MemoryError:
            if self._tuner.most == 1:
                raise
            self._budget.note_need(self._tuner, has_too_few=False)
            self._tuner = ConnectionTuner(self._transfers.clock, 1)
            self._fill_once(part)

    def _fill_once(self, part: ProductPart) -> None:
        self._counter = TransferCounter(part.present, self._counter.received)
        reader = ParallelReader(
            FetchContext(
                self._transfers,
                self._expected,
                self._source,
                part,
                self._tuner,
                self._throttle,
                self._counter,
                self._note_arrival,
            )
        )
        try:
            self._fetch_segments(part, reader)
        except MemoryError:
            reader.close(wait=ENDING)  # What the others had is needed.
            raise
        finally:
            reader.close()
            self._release_connection()

    def _fetch_segments(self, part: ProductPart, reader: ParallelReader) -> None:
        while True:
            self._transfers.check_stop()
            try:
                segment = reader.next_segment()
                if segment is None:
                    return
                self._fetch(part, reader, segment)
            except OutOfDescriptors:
                raise  # Whoever gives the work knows what else is open.
            except ranges.WrongSize as error:
                raise VerificationFailed(
                    f"{self._expected.name} has a wrong size: {error.what}",
                    THROWN_AWAY,
                ) from error
            except ranges.WrongAnswer as error:
                self._wrong_answers += 1
                self._wait(reader, ServiceUnavailable(error.what))
            except ServiceUnavailable as error:
                self._wait(reader, error)

    def _fetch(self, part: ProductPart, reader: ParallelReader, segment: Segment) -> None:
        """Bring a segment over this thread's own connection."""
        try:
            self._take_turn()
            reader.note_request()
            try:
                self._ask_for(part, reader, segment, part.etag)
            except ranges.EmptyRange:
                if self._expected.size is not None or not self._ends_at(segment.position):
                    raise
                reader.learn_size(segment.position)
        finally:
            reader.release(segment)

    def _ask_for(self, part: ProductPart, reader: ParallelReader, segment: Segment, condition: str) -> None:
        # Where ranges were answered wrongly again and again, only the whole file will do.
        whole = self._wrong_answers >= WRONG_ANSWERS
        start, end = segment.position, reader.end_of_request(segment)
        with ranges.open_range(
            self._source, start, self._expected.size, condition, end=end, whole=whole
        ) as reply:
            if reply.start == start or not self._differs_only_in_etag(condition, reply):
                segment, reply = self._prepare(part, reader, segment, reply)
                reader.claim(segment, reply)
                reader.receive(segment, reply)
                return
        # What is there is still of use; at the end the SHA-1 will tell.
        part.note_etag("")
        self._ask_for(part, reader, segment, "")

    def _differs_only_in_etag(self, condition: str, reply: ranges.RangeResponse) -> bool:
        """Say whether the server sends the whole file only because its ETag has changed."""
        return bool(condition and self._expected.sha1) and reply.etag != condition

    def _ends_at(self, size: int) -> bool:
        """Ask the server for our last byte, and say whether it is the last one of its file."""
        with ranges.open_range(self._source, size - 1, None, "", end=size) as reply:
            return reply.start == size - 1 and reply.size == size

    def _prepare(
        self, part: ProductPart, reader: ParallelReader, segment: Segment, reply: ranges.RangeResponse
    ) -> tuple[Segment, ranges.RangeResponse]:
        """Throw away the bytes that are here where they and those about to come are of different versions."""
        has_changed = bool(part.etag and reply.etag and part.etag != reply.etag)
        if has_changed and self._expected.sha1:
            part.note_etag("")
            has_changed = False
        if reply.size is None and self._expected.sha1 is None:
            raise TransferFailed(
                f"{self._expected.name} cannot be verified: its size is not known.",
                "Tell the archive's help desk.",
            )
        if reply.start != segment.position:
            if self._has_had_range and not has_changed and self._wrong_answers < WRONG_ANSWERS:
                # What is here is not thrown away for one answer of a server that does send ranges.
                raise ranges.WrongAnswer("The server did not send the range that was asked for.")
            reply = self._checked_whole(part, reader, reply)
        elif not has_changed:
            self._has_had_range = self._has_had_range or reply.response.status == 206
            if not part.present:
                part.note_etag(reply.etag)
            return segment, reply
        restarted = reader.restart()
        part.restart(reply.etag)
        if has_changed and reply.start:
            reader.release(restarted)
            raise ServiceUnavailable("The file on the server has changed.")
        return restarted, reply

    def _checked_whole(
        self, part: ProductPart, reader: ParallelReader, reply: ranges.RangeResponse
    ) -> ranges.RangeResponse:
        """Return the response in place of a range if it is the whole file; otherwise raise an error."""
        if reader.others_receive:
            raise ServiceUnavailable("The server did not send the range that was asked for.")
        if reply.tells_length or (part.etag and part.etag == reply.etag):
            return reply
        beginning = part.beginning(GLANCE)
        seen, reply = reply.peek(len(beginning))
        if seen != beginning or not beginning:
            raise ServiceUnavailable("The server sent something other than the product.")
        return reply

    def _take_turn(self) -> None:
        """Wait until there is a connection, and as long as the host has asked for on any connection.

        While one is waited for, another download can have been asked to leave the host alone.
        """
        pause = self._throttle.pause()
        while pause > LEAST_WAIT or not self._has_connection:
            if pause > LEAST_WAIT:
                self._release_connection()
                self._transfers.clock.sleep(pause, self._transfers.stop)
                self._transfers.check_stop()
            else:
                self._budget.acquire(self._transfers.stop)
                self._has_connection = True
            pause = self._throttle.pause()

    def _release_connection(self) -> None:
        if self._has_connection:
            self._has_connection = False
            self._budget.release()

    def _note_arrival(self) -> None:
        present = self._counter.present
        with self._lock:
            if present > self._furthest:
                # Progress is what was not there before: a server that begins again each time makes none.
                self._furthest = present
                self._wrong_answers = 0
                self._retries.note_progress()
        self._progress.report(present)

    def _wait(self, reader: ParallelReader, error: ServiceUnavailable) -> None:
        """Wait before the next try, longer each time that no byte has come."""
        failure = TransferFailed(
            f"{self._expected.name} could not be downloaded: {error.what}",
            "What has arrived is kept: run the same command again to continue.",
        )
        seconds = self._throttle.plan_try(self._retries.next_wait(error, failure, reader.take_requests()))
        self._throttle.failed(pause_of(error))
        self._release_connection()
        if reader.others_receive:
            self._retries.wait(reader.wait(seconds))
        else:
            self._retries.wait(seconds, error)
