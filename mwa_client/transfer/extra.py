"""The further connections of a download: how many there are besides that of its own thread, and what they do.

All of them are optional: whatever goes wrong with one, it only ends, and what it has not fetched is for the
others.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from mwa_client.descriptors import free_descriptors
from mwa_client.errors import MwaClientError, ServiceUnavailable
from mwa_client.memory import has_spare_memory
from mwa_client.threads import has_started
from mwa_client.transfer import ranges
from mwa_client.transfer.connections import LONG_ANSWER, Connection
from mwa_client.transfer.receiving import CHECK_INTERVAL, Receiver
from mwa_client.transfer.segments import ENDLESS, Segment
from mwa_client.transfer.throttle import pause_of
from mwa_client.transfer.tuner import Measured

EXTRA_WRITE_SIZE = 1 << 18
"""Bytes that each further connection writes at a time, and can lose in a kill."""
ADJUST_INTERVAL = 0.01
"""Seconds between two looks at how many connections there should be."""
PATIENT_FOR = 1.0
"""Seconds for which a download takes no more than its share, so that others which begin now get theirs."""
UNANSWERED = 10.0
"""Seconds without an answer after which a further connection is cancelled."""
MUCH = 32 << 20
"""Bytes for which it is worthwhile to find out whether the line is long before the first answer is here."""
SOON = 0.03
"""Seconds in which the first answer comes where the line is short."""
DESCRIPTORS = 8
"""Open files that must be left for all else when a connection is added."""


class ExtraConnections:
    """Adds connections to a download, and lets them end, as it helps.

    Parameters
    ----------
    receiver : Receiver
        What puts their bytes into the part file.

    Attributes
    ----------
    can_be_mixed : bool
        Whether the server sends ranges, all of one version of the file.
    was_asked : bool
        Whether the first request of the download has gone out.
    """

    def __init__(self, receiver: Receiver) -> None:
        self.can_be_mixed = self.was_asked = False
        self._receiver = receiver
        self._context = receiver.context
        self._plan = receiver.plan
        self._changed = receiver.changed
        self._clock = receiver.context.transfers.clock
        self._budget = receiver.context.transfers.connections
        self._began = self._clock.monotonic()
        self._adjusted_at = float("-inf")

    def watch_first_answer(self) -> None:
        """Let further connections ask at once if the answer to the first request takes long."""
        with self._changed:
            is_worthwhile, self.was_asked = self.will_follow, True
        if is_worthwhile and has_spare_memory():
            thread = threading.Thread(target=self._wait_for_first_answer, name="download", daemon=True)
            has_started(thread)

    @property
    def will_follow(self) -> bool:
        """Whether the first request is still to go out, and others will probably follow it at once.

        Then it asks for no more than its part: a connection whose answer ends can be used again.
        """
        has_sha1 = self._context.expected.sha1 is not None
        is_much = has_sha1 and self._plan.size != ENDLESS and self._plan.left >= MUCH
        return not self.was_asked and is_much and self._context.tuner.most > 1

    def choose(self, connection: Connection) -> Segment | None:
        """Return what a connection should ask for; None if others already fetch all that is left."""
        is_alone = connection.is_first and not self._others and not self.will_follow
        return self._plan.choose(connection, self._sharers, takes_all=is_alone)

    def adjust(self) -> None:
        """Add or dismiss connections, as it helps; needs the lock."""
        now = self._clock.monotonic()
        is_due = now - self._adjusted_at >= ADJUST_INTERVAL
        if not is_due or self._receiver.is_over or not self.can_be_mixed or self._plan.size == ENDLESS:
            return
        self._adjusted_at = now
        self._context.tuner.update(self._measured())
        self._dismiss_surplus()
        late = now - max(UNANSWERED, 5 * self._context.counter.answer_time)
        self.cancel_unanswered(each for each in self._others if each.is_dismissed or each.requested_at < late)
        self._add_missing(now)
        self._changed.notify_all()

    def dismiss_all(self) -> None:
        """Tell all further connections to end; needs the lock."""
        for connection in self._others:
            connection.is_dismissed = True

    def cancel_unanswered(self, connections: Iterable[Connection] | None = None) -> None:
        """End the requests of connections that were not answered yet, so that nobody waits for them."""
        cancel = getattr(self._context.source, "cancel", None)
        for each in self._others if connections is None else connections:
            if cancel is not None and each.thread is not None and not each.received:
                cancel(each.thread)

    # --- How many; all of it with the lock held -------------------------------------------------------

    @property
    def _others(self) -> list[Connection]:
        return self._plan.connections[1:]

    @property
    def _sharers(self) -> int:
        """Among how many connections the rest of the file is shared out."""
        share = self._budget.share
        wanted = share if self.will_follow else min(self._context.tuner.target, share)
        return max(wanted, len(self._plan.connections))

    def _measured(self) -> Measured:
        counter, connections = self._context.counter, self._plan.connections
        receiving = sum(each.is_receiving and not each.is_paused for each in connections)
        fastest = max(each.fastest for each in connections)
        return Measured(
            receiving, counter.received, counter.waited, self._plan.left, counter.answer_time, fastest
        )

    def _dismiss_surplus(self) -> None:
        """Dismiss connections where fewer are better, or others need them; pause some during a trial."""
        tuner, budget = self._context.tuner, self._budget
        staying = [each for each in self._others if not each.is_dismissed]
        has_left = len(staying) < len(self._others)
        is_too_much = budget.is_short or (len(staying) >= budget.share and budget.is_wanted)
        if len(staying) + 1 > tuner.target or (is_too_much and not has_left):
            for connection in staying[max(tuner.target - 1, 0) :] or staying[-1:]:
                connection.is_dismissed = True
        for number, connection in enumerate(staying, start=1):
            connection.is_paused = number >= tuner.active

    def _add_missing(self, now: float) -> None:
        tuner, budget = self._context.tuner, self._budget
        share, most = budget.share, tuner.target
        if now - self._began < PATIENT_FOR or budget.is_wanted:
            most = min(most, share)
        while len(self._plan.connections) < most and self._has_added():
            pass
        budget.note_need(tuner, len(self._plan.connections) < min(tuner.target, share))

    def _has_added(self) -> bool:
        """Add a connection if there is something for it to fetch, and it can be had; say whether it was."""
        throttle, tuner = self._context.throttle, self._context.tuner
        if not throttle.allows_request() or not self._budget.try_acquire():
            return False
        connection = Connection()
        self._plan.limit_first(self._sharers)
        segment = self.choose(connection)
        if segment is not None:
            connection.thread = threading.Thread(
                target=self._run, args=(connection, segment), name="download", daemon=True
            )
            # Others must still get what they need.
            has_spare = free_descriptors(DESCRIPTORS) == DESCRIPTORS and has_spare_memory()
            if has_spare and has_started(connection.thread):
                self._note_request()
                self._plan.connections.append(connection)
                return True
            # The system gives no more descriptors, threads or memory: make do with the connections there are.
            self._receiver.release(segment, segment.position)
            tuner.refused(len(self._plan.connections))
        self._budget.release()
        return False

    def _note_request(self) -> None:
        self._context.throttle.note_request()
        self._context.counter.requests += 1

    # --- In their threads -----------------------------------------------------------------------------

    def _wait_for_first_answer(self) -> None:
        counter = self._context.counter
        with self._changed:
            if self._changed.wait_for(lambda: counter.has_answer or self._receiver.is_over, SOON):
                return
            counter.answer_time = LONG_ANSWER
            # Whether the server sends ranges is not known yet; each connection finds out.
            self.can_be_mixed = True
            self._context.tuner.expect_long_line(self._plan.left)
            self.adjust()

    def _run(self, connection: Connection, segment: Segment | None) -> None:
        try:
            while segment is not None:
                self._fetch(connection, segment)
                segment = self._next_for(connection)
        except (MwaClientError, MemoryError):
            pass  # The others go on; if it concerns them as well, they will meet the same error.
        except BaseException as error:
            self._receiver.mistake = error
        finally:
            with self._changed:
                self._plan.connections.remove(connection)
                self._changed.notify_all()
            self._budget.release()

    def _next_for(self, connection: Connection) -> Segment | None:
        """Return what a connection is to fetch next; None if it is not needed any more."""
        throttle = self._context.throttle
        with self._changed:
            while not (self._receiver.is_over or connection.is_dismissed):
                if throttle.allows_request():
                    segment = self.choose(connection)
                    if segment is not None:
                        self._note_request()
                    if segment is not None or not self._plan.is_far_ahead:
                        return segment
                if not self._plan.left:
                    break
                self.adjust()
                self._changed.wait(CHECK_INTERVAL)
            return None

    def _fetch(self, connection: Connection, segment: Segment) -> None:
        """Fetch a segment, or as much of it as the server sends."""
        try:
            self._request(segment)
        except MwaClientError as error:
            with self._changed:
                self._context.throttle.failed(pause_of(error))
                connection.is_receiving = False
                if not connection.received:
                    # The others may be answered all the same.
                    self._make_do_without(connection)
                    raise
        except MemoryError:
            with self._changed:
                self._make_do_without(connection)  # The next would have no more, and each asks the server.
            raise
        finally:
            with self._changed:
                self._receiver.release(segment, segment.position)

    def _make_do_without(self, connection: Connection) -> None:
        """Be content with the other connections for a while; needs the lock."""
        self._context.tuner.refused(sum(not each.is_dismissed for each in self._others))
        connection.is_dismissed = True

    def _request(self, segment: Segment) -> None:
        part, has_sha1 = self._context.part, self._context.expected.sha1 is not None
        etag = part.etag
        # Where the SHA-1 is known, it decides; two servers of one store may have different tags.
        condition = "" if has_sha1 else etag
        start, end, size = segment.position, segment.end, self._plan.size
        with ranges.open_range(self._context.source, start, size, condition, end=end) as reply:
            if reply.start != start or (not has_sha1 and reply.etag != etag):
                raise ServiceUnavailable("The server did not send the range that was asked for.")
            self._receiver.receive(segment, reply, part.writer(start, EXTRA_WRITE_SIZE))
