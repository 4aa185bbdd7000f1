"""Submissions: which rows are submitted when, and what the answers, or their absence, mean."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from typing import Callable

from mwa_client.asvo.api_client import Submission
from mwa_client.asvo.job import Job
from mwa_client.asvo.session import Session
from mwa_client.batch.duplicates import HOW_TO_HAVE_ANOTHER
from mwa_client.batch.duplicates import submit as submit_job
from mwa_client.batch.pacing import Pacing
from mwa_client.batch.rows import Row, Stage
from mwa_client.batch.updates import RowUpdates
from mwa_client.batch.workers import Workers
from mwa_client.errors import (
    BadReply,
    DirectoryBusy,
    InternalError,
    JobDiffers,
    JobFailed,
    JobLimitReached,
    LoginRefused,
    MwaClientError,
    ServiceOutage,
    ServiceRefused,
    ServiceUnavailable,
    ServiceUnreachable,
    SessionLost,
)
from mwa_client.formatting import format_duration, trying_again
from mwa_client.jobs.request import JobRequest
from mwa_client.light_dataclasses import dataclass
from mwa_client.timing import FIRST_POLL, Outage

SUBMITTERS = 4
"""Submissions at a time."""
UNCLEAR_SUBMISSIONS = 5
"""Submissions of one row whose answers made no sense and that made no job, after which the row fails."""
LISTINGS_BEFORE_RETRY = 2
"""Listings that must not have a job before it is asked for again."""
CORRECT_THE_ROW = "Correct the row or take it out, then run the same command again."


@dataclass(frozen=True)
class SubmissionEnded:
    """What a submitter has to tell.

    Attributes
    ----------
    outcome : Submission or MwaClientError or None
        None: it was not sent, because others were refused meanwhile.
    """

    row: Row
    outcome: Submission | MwaClientError | None


class Submitting:
    """Submits the rows that have no job, a few at a time.

    Parameters
    ----------
    updates : RowUpdates
        Changes the rows.
    session : callable
        Returns the session with the service.
    pacing : Pacing
        How often, how long.
    workers : Workers
        They submit.
    once : bool
        This run makes one pass: what is not submitted now is left to the next run.
    stop : threading.Event
        Set when the work is to stop.
    """

    def __init__(
        self,
        updates: RowUpdates,
        session: Callable[[], Session],
        pacing: Pacing,
        workers: Workers,
        *,
        once: bool,
        stop: threading.Event,
    ) -> None:
        self._updates = updates
        self._session = session
        self._pacing = pacing
        self._once = once
        self._stop = stop
        self._workers = workers
        self._queue: deque[Row] = deque()
        self._hold = threading.Event()
        """Set by a submitter whose refusal concerns all rows: those behind it are not sent."""
        self._outage = Outage(updates.clock, first=pacing.poll or FIRST_POLL)
        self._listing: Mapping[int, Job] = {}
        self._newest_listed = 0
        self._has_told_why = self._has_told_of_earlier = False

    def submit_wanted(self, listing: Mapping[int, Job]) -> bool:
        """Have the rows submitted that have no job; after a refusal of all, a few to try.

        Parameters
        ----------
        listing : mapping of int to Job
            What the service has just listed.

        Returns
        -------
        bool
            Whether there were any.
        """
        self._listing = listing
        if not self._outage.is_due():
            return False
        self._hold.clear()
        self._newest_listed = max(listing, default=0)
        waiting: list[Row] = []
        wanted: list[Row] = []
        for row in self._updates.rows.at(Stage.WANTED):
            (waiting if self._may_still_be_listed(row) else wanted).append(row)
        self._tell_of_an_earlier_run(sum(row.attempts.ended_at is None for row in waiting))
        # Retry deferred rows last, so that one bad row cannot block the rest.
        wanted.sort(key=lambda row: row.attempts.deferred)
        self._queue = deque(wanted[:SUBMITTERS] if self._outage.is_on else wanted)
        self._submit_next()
        return bool(wanted)

    def take(self, answer: SubmissionEnded) -> None:
        """Record the answer to a submission at once; it is told in the order of the file.

        Raises
        ------
        LoginRefused, DirectoryBusy
            Nothing more can be submitted.
        """
        self._end(answer.row, self._unless_of_another(answer.row, answer.outcome))
        self._updates.in_order.end(answer.row)
        self._submit_next()

    def keep(self, answer: SubmissionEnded) -> None:
        """Record what has come of a submission in the last moments of the run."""
        outcome = self._unless_of_another(answer.row, answer.outcome)
        if isinstance(outcome, Submission):
            self._attach(answer.row, outcome)
        elif outcome is None or _has_made_no_job(outcome):
            self._updates.ledger.record_refused(answer.row.identity)

    def note_job(self) -> None:
        """Note that a row has got its job: the service takes submissions, or has taken them."""
        self._outage.end()
        if self._has_told_why and not self._updates.rows.count(Stage.WANTED, Stage.SUBMITTING):
            self._has_told_why = False
            self._updates.notice("All jobs are submitted now.")

    def finish(self, deadline: float) -> None:
        """Wait until `deadline` for the submissions that are under way."""
        self._workers.finish(deadline)

    # --- Which rows, and when -------------------------------------------------------------------------

    def _submit_next(self) -> None:
        """Hand a few rows more to the submitters: what is intended is recorded just before it is done."""
        if self._hold.is_set():
            self._queue.clear()
        while self._queue and self._updates.rows.count(Stage.SUBMITTING) < 2 * SUBMITTERS:
            row = self._queue.popleft()
            if row.stage is not Stage.WANTED:
                continue  # A listing has had its job meanwhile.
            row.submit()
            self._updates.in_order.begin(row)
            self._workers.give(self._submission(row))

    def _may_still_be_listed(self, row: Row) -> bool:
        """Say whether a submission whose answer is not known may still become a job that is listed."""
        known = self._updates.ledger.row(row.identity)
        if not known.tries or known.intended_at is None:
            return False
        passed = self._updates.clock.now() - known.intended_at
        if row.attempts.ended_at is not None:
            passed = self._updates.clock.monotonic() - row.attempts.ended_at
        elif passed < 0:
            passed = float("inf")  # The machine's clock was set; nobody knows how long ago it was.
        # Even a service that notices duplicates makes a second job where the first has failed meanwhile.
        return known.missed < LISTINGS_BEFORE_RETRY or passed < self._pacing.patience

    def _tell_of_an_earlier_run(self, submissions: int) -> None:
        """Say, once, why some rows wait although they have no job."""
        if submissions and not (self._has_told_of_earlier or self._pacing.is_prompt):
            one, several = ("a submission was", "its job"), (f"{submissions} submissions were", "their jobs")
            what, jobs = one if submissions == 1 else several
            self._updates.notice(
                f"An earlier run ended before {what} answered. Looking for {jobs}, for up to "
                f"{format_duration(self._pacing.patience)}, before submitting again."
            )
            self._has_told_of_earlier = True

    # --- One submission -------------------------------------------------------------------------------

    def _submission(self, row: Row) -> Callable[[], SubmissionEnded]:
        """Record the intent, and return what a submitter has to do."""
        request, listed, ledger = row.request, self._listing, self._updates.ledger
        assert isinstance(request, JobRequest)
        # The service may take an expired job for the same one: then only a new one helps.
        allow_resubmit = request.allow_resubmit or row.history.was_renewed
        ledger.record_intent(row.identity, after=max(self._newest_listed, row.history.lost_job or 0))

        def submit() -> SubmissionEnded:
            if self._stop.is_set() or self._hold.is_set():
                return SubmissionEnded(row, None)
            try:
                # While this process was stopped, another client may have taken over and submitted it.
                ledger.check_lock()
                outcome = submit_job(self._session(), request, allow_resubmit=allow_resubmit, listed=listed)
            except MwaClientError as error:
                if _concerns_all_rows(error):
                    self._hold.set()
                return SubmissionEnded(row, _as_meant(error))
            except Exception as error:
                # Whether the job was made is not known; the next run looks for it before it submits.
                return SubmissionEnded(row, InternalError.of(error))
            return SubmissionEnded(row, outcome)

        return submit

    def _end(self, row: Row, outcome: Submission | MwaClientError | None) -> None:
        if isinstance(outcome, Submission):
            self._attach(row, outcome)
            return
        if outcome is None or _has_made_no_job(outcome):
            self._updates.ledger.record_refused(row.identity)
        if outcome is None:
            row.defer()
        elif isinstance(outcome, (LoginRefused, DirectoryBusy)):
            raise outcome
        elif isinstance(outcome, ServiceUnavailable):
            self._leave_to_a_listing(row, outcome)
        elif isinstance(outcome, SessionLost):
            # Lost again right after a login: that says nothing about the row.
            self._leave_to_a_listing(row, BadReply(outcome.what))
        else:
            self._updates.fail(row, outcome)

    def _unless_of_another(
        self, row: Row, outcome: Submission | MwaClientError | None
    ) -> Submission | MwaClientError | None:
        """Return what has come of a submission: not the job of another row, which asks for something else."""
        other = self._updates.holder_of(outcome.job_id) if isinstance(outcome, Submission) else None
        if not isinstance(outcome, Submission) or other is None or other is row:
            return outcome
        if not outcome.existed:
            return BadReply(f"The service gave job {outcome.job_id}, which is the job of {other.name.place}.")
        return JobDiffers(
            f"The service has job {outcome.job_id} for this already, but that is the job of "
            f"{other.name.place}, which asks for something else.",
            HOW_TO_HAVE_ANOTHER,
        )

    def _attach(self, row: Row, submission: Submission) -> None:
        self._updates.attach(row, submission.job_id, found=submission.existed)
        self.note_job()

    def _leave_to_a_listing(self, row: Row, error: ServiceUnavailable) -> None:
        """Wait, and let the next listing tell whether the job was made."""
        row.defer()
        row.attempts.deferred += 1
        row.attempts.ended_at = self._updates.clock.monotonic()
        if isinstance(error, BadReply):
            ledger = self._updates.ledger
            ledger.record_unclear(row.identity)
            if ledger.row(row.identity).unclear >= UNCLEAR_SUBMISSIONS:
                failure = JobFailed(f"Not submitted: {error.what}", "Run the same command again later.")
                self._updates.fail(row, failure)
                return
        waiting = self._outage.failed(error.retry_after)
        if not self._has_told_why:
            self._has_told_why = True
            self._updates.notice(error.what if self._once else _why_not_submitted(error, waiting))


def may_pass(error: MwaClientError) -> bool:
    """Say whether another try of a call to the service may be answered."""
    if isinstance(error, (ServiceUnavailable, SessionLost)):
        # A session that is lost again right after the login is the service's trouble, not the user's.
        return True
    return isinstance(error, ServiceRefused) and not (error.is_own or isinstance(error, LoginRefused))


def _has_made_no_job(error: MwaClientError) -> bool:
    """Say whether a submission has surely made no job: it was refused, or nobody has received it."""
    if isinstance(error, (ServiceRefused, ServiceOutage, JobLimitReached, ServiceUnreachable)):
        return True
    return isinstance(error, ServiceUnavailable) and error.retry_after is not None


def _as_meant(error: MwaClientError) -> MwaClientError:
    """Return what a failed submission means for its row: somebody's web page says nothing about that."""
    if not isinstance(error, ServiceRefused) or isinstance(error, (SessionLost, LoginRefused)):
        return error
    if may_pass(error):
        return BadReply(error.what)
    if not error.remedy:
        return ServiceRefused(error.what, CORRECT_THE_ROW, status=error.status, body=error.body)
    return error


def _concerns_all_rows(error: MwaClientError) -> bool:
    """Say whether a submission failed for a reason that holds for the others too."""
    asks_to_wait = isinstance(error, ServiceUnavailable) and error.retry_after is not None
    return asks_to_wait or isinstance(error, (ServiceOutage, JobLimitReached))


def _why_not_submitted(error: ServiceUnavailable, waiting: float) -> str:
    if isinstance(error, JobLimitReached):
        return f"{error.what} The other rows will be submitted as jobs finish."
    if isinstance(error, ServiceOutage):
        return trying_again(error.what, waiting, until="it ends")
    return f"A submission was not answered: {error.what} Looking for its job before trying again."
