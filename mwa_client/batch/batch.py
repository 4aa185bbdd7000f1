"""The polling loop: every row is submitted, watched and fetched, until it is complete or has failed.

One thread decides; a few others submit and download, and send it what happens through one queue.
"""

from __future__ import annotations

import functools
import queue
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Callable

from mwa_client.asvo.session import Session
from mwa_client.batch.events import Asking, Begun, Complete, Counts, Event, RowFailed, Summary
from mwa_client.batch.fetching import DownloadEnded, Fetching
from mwa_client.batch.following import CommandEnded, Following
from mwa_client.batch.ledger import Ledger
from mwa_client.batch.losing import LostJobs
from mwa_client.batch.open_files import OpenFiles
from mwa_client.batch.pacing import Pacing
from mwa_client.batch.recalling import ReadAgain, Recalling
from mwa_client.batch.records import FetchedProduct
from mwa_client.batch.rows import AT_WORK, SETTLED, ListedJob, Rows, Stage
from mwa_client.batch.shell import ShellCommand
from mwa_client.batch.submitting import SUBMITTERS, SubmissionEnded, Submitting
from mwa_client.batch.updates import RowUpdates
from mwa_client.batch.watching import Listed, Watching
from mwa_client.batch.workers import Workers
from mwa_client.directory.disk import free_bytes
from mwa_client.errors import MwaClientError, ServiceUnavailable, ending_of
from mwa_client.jobs.keys import ApiVersion
from mwa_client.jobs.request import JobRequest
from mwa_client.timing import LAST_POLL, Clock, PollTimes
from mwa_client.transfer.delivered import DeliveryRoots

LAST_MOMENTS = 1.0
"""Seconds in which the workers can put down what they hold when the work ends early."""
DELIVERY_ROOTS = DeliveryRoots()


class Batch:
    """Many jobs, from what they ask for to verified files.

    Parameters
    ----------
    requests : sequence of JobRequest or ListedJob
        What is wanted, in order.
    open_session : callable
        Opens a session with the service; called when it is first needed, for a finished batch needs none.
    ledger : Ledger
        What the download directory remembers.
    clock : Clock
        Time.
    listen : callable
        Is told every `Event`, from the loop's thread alone.
    pacing : Pacing
        How many at a time, how often, how long.
    check : callable
        Is told which interface the service turned out to speak, before anything is submitted; raises
        `JobFileError` where that one cannot do what is wanted.
    only_submit : bool
        Be content when every row has a job.
    only_wait : bool
        Be content when every row's job is ready for download.
    unpack : bool
        Make folders of tars and zips.
    once : bool
        Be content with one pass: one listing, what can be submitted then, what is ready then.
    is_asked_again : bool
        As for `LostJobs`.
    then : ShellCommand, optional
        What to run for each product once it is complete.
    free_bytes : callable
        Says for how many bytes there is room in a directory.
    roots : DeliveryRoots
        Where deliveries to file systems may be copied from.
    """

    def __init__(
        self,
        requests: Sequence[JobRequest | ListedJob],
        open_session: Callable[[], Session],
        ledger: Ledger,
        clock: Clock,
        listen: Callable[[Event], None],
        pacing: Pacing,
        *,
        check: Callable[[ApiVersion], None] = lambda api: None,
        only_submit: bool = False,
        only_wait: bool = False,
        unpack: bool = False,
        once: bool = False,
        is_asked_again: bool = False,
        then: ShellCommand | None = None,
        free_bytes: Callable[[Path], float] = free_bytes,
        roots: DeliveryRoots = DELIVERY_ROOTS,
    ) -> None:
        self._pacing, self._once, self._only_wait = pacing, once, only_wait
        self._enough = (Stage.WATCHED, Stage.READY) if only_submit else (Stage.READY,) if only_wait else ()
        is_fetching = not self._enough
        self._inbox: queue.Queue[Any] = queue.Queue()
        self._stop = threading.Event()
        self._updates = updates = RowUpdates(
            Rows(requests), ledger, clock, listen, then, is_fetching=is_fetching
        )
        self._counted: tuple[object, ...] | None = None
        self._ends_at = float("inf")
        # The rooms where the work is done; each is given what it works with, and those that it tells.
        session = functools.cache(open_session)
        inbox, stop = self._inbox, self._stop
        lost_jobs = LostJobs(updates, is_asked_again)
        self._open_files = files = OpenFiles(updates, session, pacing.parallel, stop)
        downloaders = Workers(files.parallel, inbox)
        readers = Workers(files.parallel, inbox)  # Of their own: to read a product again can take an hour.
        self._recalling = Recalling(
            updates, lost_jobs, readers, roots, is_fetching=is_fetching, unpack=unpack, stop=stop
        )
        submitters = Workers(SUBMITTERS if files.has_many else 1, inbox)
        self._submitting = Submitting(updates, session, pacing, submitters, once=once, stop=stop)
        polls = PollTimes(clock, pacing.poll)
        self._watching = Watching(
            updates,
            session,
            self._submitting,
            lost_jobs,
            files,
            polls,
            roots,
            check,
            once=once,
            unpack=unpack,
            inbox=inbox,
        )
        means = (files, pacing.connections, downloaders, roots, free_bytes)
        self._fetching = Fetching(
            updates,
            session,
            self._watching,
            *means,
            is_wanted=is_fetching,
            unpack=unpack,
            inbox=inbox,
            stop=stop,
        )
        self._following = Following(updates, pacing.parallel, inbox, stop)

    def run(self, listing: Listed | None = None) -> Summary:
        """Work until every row is complete or has failed, and say how it ended.

        However it ends, the counts and the summary are told, before anything is raised.

        Parameters
        ----------
        listing : Listed, optional
            The one from which the rows were chosen: it need not be asked for again.

        Raises
        ------
        ServiceError
            The service refuses to let us in, or to list the jobs.
        DiskFull, DirectoryUnusable
            The ledger cannot be written.
        DirectoryBusy
            Another client has taken over the directory.
        BaseException
            `listen` has raised it, a signal has, or it is a mistake in this program.
        """
        if self._pacing.give_up_after is not None:
            self._ends_at = self._updates.clock.monotonic() + self._pacing.give_up_after
        try:
            self._updates.listen(Begun(len(self._updates.rows)))
            self._work(listing)
        except BaseException as error:
            with suppress(Exception):  # It may be the listener that has failed.
                self._tell_counts()
                self._summary(ending_of(error))
            raise
        self._tell_counts()
        return self._summary()

    def _work(self, listing: Listed | None) -> None:
        """Go on until nothing is left to do; whatever happens, what was brought about is kept."""
        self._open_files.keep_reserve()
        try:
            self._recalling.recall()
            while not self._is_over():
                self._updates.ledger.check_lock()
                if self._watching.polls.is_due() and self._watching.needs_listing:
                    self._watching.ask_for_listing(listing)
                    listing = None
                    self._counted = None  # So that the display hears from us, though nothing changes.
                self._fetching.start()
                self._following.start()
                self._tell_counts()
                self._wait_for_messages()
        finally:
            self._open_files.give_reserve()
            self._finish()

    def _is_over(self) -> bool:
        rows = self._updates.rows
        if rows.count(*SETTLED) + self._done_enough() == len(rows):
            return True
        if self._is_last_pass() and not (self._watching.is_listing or rows.count(*AT_WORK)):
            return not self._fetching.has_startable
        return self._has_given_up()

    def _has_given_up(self) -> bool:
        return self._updates.clock.monotonic() >= self._ends_at

    def _is_last_pass(self) -> bool:
        """Say whether what is at work now, and what is ready, is all that this run will do."""
        return self._fetching.disk_full is not None or (self._once and self._watching.has_polled)

    def _done_enough(self) -> int:
        """Return how many rows are where no more is wanted of them; their jobs have been looked at."""
        return self._updates.rows.count(*self._enough) if self._watching.has_listed else 0

    def _wait_for_messages(self) -> None:
        """Sleep until a worker has something to say or the next listing is due; take all that came."""
        if self._is_over():
            return
        is_idle = not self._watching.is_listing and self._watching.needs_listing
        waiting = self._watching.polls.remaining() if is_idle else LAST_POLL
        left = max(self._ends_at - self._updates.clock.monotonic(), 0.0)
        is_coming = self._watching.is_listing or self._updates.rows.count(Stage.SUBMITTING) > 0
        message = self._updates.clock.receive(self._inbox, min(waiting, left), is_coming=is_coming)
        while message is not None:
            self._take(message)
            message = None if self._inbox.empty() else self._inbox.get()

    def _take(self, message: Any) -> None:
        """Hand what a worker tells to the room that it concerns."""
        if isinstance(message, Listed):
            self._watching.take(message)
        elif isinstance(message, SubmissionEnded):
            self._submitting.take(message)
        elif isinstance(message, DownloadEnded):
            self._fetching.take(message)
        elif isinstance(message, CommandEnded):
            self._following.take(message)
        elif isinstance(message, ReadAgain):
            self._recalling.take(message)
        elif isinstance(message, BaseException):
            raise message
        else:
            self._updates.tell_of_transfer(message)

    def _finish(self) -> None:
        """Let the workers go, and keep what they have just brought about."""
        self._stop.set()
        deadline = time.monotonic() + LAST_MOMENTS
        # A listing is worth waiting for only where it was the time that ran out, not the work.
        listing = deadline if self._has_given_up() else time.monotonic()
        # The last comes first; whatever is raised by one of them, a second Ctrl-C, say, the others follow.
        with ExitStack() as last:
            last.callback(self._keep_what_has_come)
            last.callback(self._watching.finish, listing)
            for room in (self._following, self._fetching, self._recalling, self._submitting):
                last.callback(room.finish, deadline)
            last.callback(self._updates.in_order.flush)

    def _keep_what_has_come(self) -> None:
        """Keep what the workers have told in the last moments."""
        while not self._inbox.empty():
            message = self._inbox.get()
            if isinstance(message, Listed) and isinstance(message.outcome, ServiceUnavailable):
                self._watching.note_failure(message.outcome, is_last=True)
            elif isinstance(message, SubmissionEnded):
                self._submitting.keep(message)
            elif isinstance(message, DownloadEnded) and isinstance(message.outcome, FetchedProduct):
                self._fetching.take(message)
            elif isinstance(message, CommandEnded):
                self._following.keep(message)
            elif isinstance(message, ReadAgain):
                self._recalling.keep(message)

    def _summary(self, error: MwaClientError | None = None) -> Summary:
        rows = self._updates.rows
        stages = self._enough if self._done_enough() else ()
        enough = tuple(row.name for row in rows if row.stage in stages)
        left = [row for row in rows if row.stage not in (*SETTLED, *stages)]
        summary = Summary(
            directory=self._updates.ledger.place.path,
            complete=tuple(row.result for row in rows if isinstance(row.result, Complete)),
            failed=tuple(row.result for row in rows if isinstance(row.result, RowFailed)),
            submitted=() if self._only_wait else enough,
            ready=enough if self._only_wait else (),
            pending=tuple(row.name for row in left),
            why_pending=self._why_pending(error) if left else "",
            error=error,
            found=sum(row.job_id not in self._updates.new_jobs for row in rows if row.stage in stages),
        )
        self._updates.listen(summary)
        return summary

    def _why_pending(self, error: MwaClientError | None) -> str:
        if error is not None:
            return "The run ended before all rows were finished."
        if self._fetching.disk_full is not None:
            return " ".join(self._fetching.disk_full_now().lines)
        if self._has_given_up():
            return f"The time given with --give-up-after has passed.{self._still_checking()}"
        if self._watching.polls.outage.is_on:
            return "The service did not answer; the next run will ask again."
        if self._updates.rows.count(Stage.WANTED):
            return "Not all rows could be submitted; the next run will try again."
        return "The service has not finished all jobs; the next run will check again."

    def _still_checking(self) -> str:
        """Say what the time was too short for, where a product was read again: the next run begins anew."""
        count = self._updates.rows.count(Stage.CHECKING)
        if not count:
            return ""
        what = (
            "A product that was modified has" if count == 1 else f"{count} products that were modified have"
        )
        return f" {what} to be read again, which takes longer: give the next run more time."

    def _tell_counts(self) -> None:
        rows, polls = self._updates.rows, self._watching.polls
        asking = None
        if polls.asked_at is not None:
            asking = Asking(polls.asked_at, polls.due, polls.outage.since)
        to_come = rows.to_come + sum(row.to_come for row in rows.at(Stage.DOWNLOADING))
        here = self._updates.bytes_here
        counts = Counts(len(rows), rows.count(*SETTLED), rows.labels, here, to_come, asking)
        told = (counts, here, to_come, asking)
        if told != self._counted:
            self._counted = told
            self._updates.listen(counts)
