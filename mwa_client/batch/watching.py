"""Listings: one for all rows at each poll, and what it says of each row's job."""

from __future__ import annotations

import queue
from collections import Counter
from typing import Any, Callable

from mwa_client.asvo.job import Job, JobState
from mwa_client.asvo.job_filter import created_at, kind_of
from mwa_client.asvo.session import Session
from mwa_client.batch.finding import Finder
from mwa_client.batch.losing import RESUBMIT, LostJobs, why_lost
from mwa_client.batch.open_files import OpenFiles
from mwa_client.batch.products import bytes_to_come, name_files
from mwa_client.batch.records import Product
from mwa_client.batch.rows import AT_WORK, Row, Stage
from mwa_client.batch.submitting import LISTINGS_BEFORE_RETRY, Submitting, may_pass
from mwa_client.batch.updates import RowUpdates
from mwa_client.batch.workers import Workers
from mwa_client.errors import (
    JobFailed,
    LoginRefused,
    MwaClientError,
    OutOfDescriptors,
    ServiceRefused,
    WrongInterface,
)
from mwa_client.formatting import as_sentence, trying_again
from mwa_client.jobs.keys import ApiVersion
from mwa_client.jobs.listed import contradicts
from mwa_client.jobs.request import JobRequest
from mwa_client.light_dataclasses import dataclass
from mwa_client.timing import PollTimes
from mwa_client.transfer.delivered import DeliveryRoots

MISSING_LISTINGS = 3
"""Listings in a row without a job, or without a ready job's product, after which it can count as lost."""
MISSING_TIME = 600.0
"""Seconds that must have passed as well: a listing can lag, or be empty for a while."""
LOOK_FIRST = (
    "The same command looks for it again. Check the service's web site, too: only if it is not there "
    "either, run with --allow-resubmit to have it made again."
)


@dataclass(frozen=True)
class Listed:
    """What the thread that lists the jobs has to tell.

    Attributes
    ----------
    begun : float
        When the listing was asked for, by the clock for intervals.
    outcome : dict of int to Job, or MwaClientError
        The jobs by their ids.
    """

    begun: float
    outcome: dict[int, Job] | MwaClientError


class Watching:
    """Polls the service, and brings each row to where the listing says that its job is.

    Parameters
    ----------
    updates : RowUpdates
        Changes the rows.
    session : callable
        Returns the session with the service.
    submitting : Submitting
        Submits what no listing has.
    lost_jobs : LostJobs
        Decides what becomes of rows whose jobs are lost.
    open_files : OpenFiles
        What to do where no connection can be opened.
    polls : PollTimes
        When the next listing is due.
    roots : DeliveryRoots
        Where deliveries to file systems may be.
    check : callable
        Is told which interface the service speaks, once, before anything is submitted.
    once : bool
        One listing is enough.
    unpack : bool
        Products are to be unpacked, which decides for how many bytes there must be room.
    inbox : queue.Queue
        Where each `Listed` goes.

    Attributes
    ----------
    is_listing : bool
        A listing has been asked for and is not here yet.
    has_polled, has_listed : bool
        A listing was asked for in this run; one was answered.
    """

    def __init__(
        self,
        updates: RowUpdates,
        session: Callable[[], Session],
        submitting: Submitting,
        lost_jobs: LostJobs,
        open_files: OpenFiles,
        polls: PollTimes,
        roots: DeliveryRoots,
        check: Callable[[ApiVersion], None],
        *,
        once: bool,
        unpack: bool,
        inbox: queue.Queue[Any],
    ) -> None:
        self.is_listing = self.has_polled = self.has_listed = False
        self.polls = polls
        self._updates = updates
        self._session = session
        self._submitting = submitting
        self._lost_jobs = lost_jobs
        self._open_files = open_files
        self._roots = roots
        self._check = check
        self._once = once
        self._unpack = unpack
        self._worker = Workers(1, inbox)
        self._finder = Finder()

    @property
    def needs_listing(self) -> bool:
        """Whether a listing would be of use, now or when it is due."""
        if self.is_listing or (self._once and self.has_polled):
            return False
        return self._updates.rows.count(Stage.WANTED, Stage.WATCHED) > 0

    def ask_for_listing(self, answer: Listed | None = None) -> None:
        """Have the jobs listed once, for all rows; meanwhile the answers to submissions are taken.

        Where somebody has asked just before, that `answer` is taken.
        """
        self.has_polled = self.is_listing = True
        self.polls.note_asked()
        watched = self._updates.rows.at(Stage.WATCHED)
        known = [row.job_id for row in watched if row.job_id is not None]
        begun, session = self._updates.clock.monotonic(), self._session()

        def list_jobs() -> Listed:
            if answer is not None:
                return answer
            try:
                return Listed(begun, session.jobs(known))
            except MwaClientError as error:
                return Listed(begun, error)

        self._worker.give(list_jobs)

    def look_again(self) -> None:
        """Have a listing soon, even where one was to be enough."""
        self.polls.hurry()
        self.has_polled = False

    def take(self, listed: Listed) -> None:
        """Bring each row to where a listing says that its job is, and submit what it does not have.

        Raises
        ------
        MwaClientError
            The service refuses to list the jobs, or speaks an interface that cannot do what is wanted.
        """
        self.is_listing = False
        if isinstance(listed.outcome, MwaClientError):
            self.note_failure(listed.outcome)
            return
        if self.polls.outage.is_on:
            self._updates.notice("The service answers again.")
        if not self.has_listed:
            self._check(self._session().api)
            self._drop_doubles()
            self._learn_waits(listed.outcome)
        self.has_listed = True
        self._open_files.note_progress()
        listing, rows = listed.outcome, self._updates.rows
        news = [self._watch(row, listing, listed.begun) for row in rows.at(Stage.WATCHED)]
        news += [self._watch(row, listing, listed.begun) for row in self._find_jobs(listing, listed.begun)]
        self._end_unlisted()
        has_submitted = self._submitting.submit_wanted(listing)
        self.polls.succeeded(any(news) or has_submitted)
        self._updates.tell_expected()

    def note_failure(self, error: MwaClientError, *, is_last: bool = False) -> None:
        """Wait out a listing that was not answered, and say so once; raise what will not pass."""
        # A job list that was there before has not gone: what says so stands in between.
        if not (may_pass(error) or (self.has_listed and _is_of_path(error))):
            raise error
        if isinstance(error, OutOfDescriptors) and not self._updates.rows.count(*AT_WORK):
            self._open_files.starve(error)
        is_first = not self.polls.outage.is_on
        waiting = self.polls.failed(getattr(error, "retry_after", None))
        if is_first:
            is_last = is_last or self._once
            self._updates.notice(as_sentence(error.what) if is_last else trying_again(error.what, waiting))

    def finish(self, deadline: float) -> None:
        """Wait until `deadline` for a listing that is under way."""
        self._worker.finish(deadline)

    # --- Rows without a job ---------------------------------------------------------------------------

    def _drop_doubles(self) -> None:
        """Forget rows that ask this interface for the same as others: what tells them apart is not sent."""
        rows = self._updates.rows
        wanted = rows.at(Stage.WANTED)
        if all(self._asked(row) == row.identity for row in wanted):
            return
        asked = {self._asked(row) for row in rows if row.stage is not Stage.WANTED}
        for row in wanted:
            if self._asked(row) in asked:
                rows.drop(row)
            asked.add(self._asked(row))

    def _learn_waits(self, listing: dict[int, Job]) -> None:
        """Learn how long jobs have taken that are ready."""
        for job in listing.values():
            kind, made, completed = kind_of(job), created_at(job), job.completed_at
            if kind and made is not None and completed is not None and completed > made:
                self._updates.ledger.waits.learn_whole(kind, completed - made)

    def _find_jobs(self, listing: dict[int, Job], begun: float) -> list[Row]:
        """Give the rows that are not submitted the listed jobs that are theirs; return those rows."""
        rows, ledger = self._updates.rows, self._updates.ledger
        wanted = rows.at(Stage.WANTED)
        if not wanted:
            return []
        asked = {self._asked(row): row.request.obs_id for row in wanted}
        taken = {row.job_id for row in rows if row.job_id is not None}
        taken |= ledger.jobs_of_others(asked, self._session().api)
        self._finder.read(listing, self._session().api, asked, taken)
        answers = {row: self._answer_to(row) for row in wanted}
        claims = Counter(job.job_id for job in answers.values() if job is not None)
        for row, answer in answers.items():
            # A job that says too little to tell whose it is would be a wrong product for one of them.
            job = answer if answer and claims[answer.job_id] == 1 else self._same_job(row)
            if job is not None:
                self._updates.attach(row, job.job_id, found=True, is_listed=True)
                self._submitting.note_job()
                row.job = job  # It has just been compared with the row.
            elif ledger.row(row.identity).tries and (row.attempts.ended_at or begun) <= begun:
                ledger.record_missed(row.identity, most=LISTINGS_BEFORE_RETRY)
        return [row for row in wanted if row.stage is Stage.WATCHED]

    def _end_unlisted(self) -> None:
        """Fail the rows that were complete before and that nobody has a product for any more."""
        for row in self._updates.rows.at(Stage.WANTED):
            if row.history.end_if_unlisted is not None:
                self._updates.fail(row, row.history.end_if_unlisted)

    def _asked(self, row: Row) -> str:
        """Return what a row asks this service for, in the form in which listed jobs are compared with it."""
        return row.asked_on(self._session().api)

    def _answer_to(self, row: Row) -> Job | None:
        """Return the job that a submission has made whose answer is not known, be it dead or alive."""
        after = self._updates.ledger.row(row.identity).intended_after
        if after is None or not isinstance(row.request, JobRequest):
            return None
        return self._finder.answer(self._asked(row), row.request, max(after, row.history.lost_job or 0))

    def _same_job(self, row: Row) -> Job | None:
        """Return a listed job that asks for the same: a ready one if there is one, else the newest."""
        if row.request.allow_resubmit:
            return None  # A new one is wanted.
        same = [job for job in self._finder.same(self._asked(row)) if not _is_spent(job, row)]
        return max(same, key=lambda job: (job.state.is_ready, job.job_id), default=None)

    # --- Rows with a job ------------------------------------------------------------------------------

    def _watch(self, row: Row, listing: dict[int, Job], begun: float) -> bool:
        """Look at what the listing says about a row's job; return whether that is news."""
        job = listing.get(row.job_id or -1)
        if job is not None and self._let_go_of_anothers(row, job):
            return True
        gone = row.watch.product_gone
        if job is None or (job.state.is_ready and not job.product and gone is None):
            return row.watch.since <= begun and self._note_missing(row, job)
        row.watch.missing_since = None
        self._updates.ledger.record_listed(row.identity)
        row.job = job
        is_news = row.label != job.label
        self._updates.ledger.record_state(row.identity, job.job_id, job.state_word, job.completed_at)
        if job.state is not JobState.ERROR:  # That is told once, with the reason.
            self._updates.show_state(row, job.label)
        if job.state.is_lost:
            # An expired product is gone, and the user still wants it.
            self._lost_jobs.lose(row, why_lost(job), is_wanted_anew=job.state is JobState.EXPIRED)
        elif job.state.is_ready and gone is not None:
            # v2 has no word for a job that has expired: it is complete, and its product is gone.
            has_expired = row.expires_at < self._updates.clock.now()
            self._lost_jobs.lose(row, gone, is_wanted_anew=has_expired)
        elif job.state.is_ready:
            self._make_ready(row, job)
        return is_news

    def _make_ready(self, row: Row, job: Job) -> None:
        """Note what is to be fetched, now that it is there."""
        # A job that was asked for by its id is delivered as its own parameters say.
        place = self._updates.ledger.place
        try:
            files = name_files(job, place, row.request.delivery, self._roots)
        except JobFailed as error:
            self._updates.fail(row, error)
            return
        # It looks at what an earlier run has left.
        to_come = self._open_files.insist(lambda: bytes_to_come(files, place, unpack=self._unpack))
        row.make_ready(Product(files, to_come))

    def _let_go_of_anothers(self, row: Row, job: Job) -> bool:
        """Let a job go that the service lists as another one than the row asks for.

        It was never this row's, or the service has begun its numbers anew. Return whether it was one.
        """
        if not isinstance(row.request, JobRequest) or _has_been_compared(row, job):
            return False
        wrong = contradicts(job, row.request, self._session().api, is_known=True)
        if wrong is None:
            return False
        known = self._updates.ledger.row(row.identity)
        if known.disowned and not known.state:
            # The second one that was never seen to be right: it seems to list all jobs as others.
            what = f"The job that the service made for this row is listed as a different one ({wrong})."
            failure = JobFailed(
                what, "Look at the job on the service's web site, and ask the archive's help desk."
            )
            self._updates.fail(row, failure)
            return True
        place, wrong_job = row.request.place, f"job {job.job_id} does not belong to this row"
        self._updates.notice(f"{place[0].upper()}{place[1:]}: {wrong_job}: it has {wrong}.")
        self._updates.ledger.record_job_disowned(row.identity, job.job_id)
        row.disown()
        return True

    def _note_missing(self, row: Row, job: Job | None) -> bool:
        """Count a listing without a row's job, or without its product; return whether it was one too many."""
        ledger, now = self._updates.ledger, self._updates.clock.monotonic()
        if row.watch.missing_since is None:
            row.watch.missing_since = now - self._age(ledger.row(row.identity).missed_since)
        ledger.record_missed(row.identity, most=MISSING_LISTINGS)
        known = ledger.row(row.identity)
        if known.missed < MISSING_LISTINGS or now - row.watch.missing_since < MISSING_TIME:
            return False
        if job is not None:
            error = JobFailed("The job is ready, but has no product.", RESUBMIT)
        elif known.state:
            error = JobFailed("The job is no longer listed by the service.", LOOK_FIRST)
        else:
            error = JobFailed("The service gave this job id, but has never listed the job.", LOOK_FIRST)
        self._lost_jobs.lose(row, error)
        return True

    def _age(self, time: float | None) -> float:
        """Return how many seconds ago something was that an earlier run may have recorded."""
        return 0.0 if time is None else max(self._updates.clock.now() - time, 0.0)


def _is_of_path(error: MwaClientError) -> bool:
    """Say whether the job list is said not to exist."""
    is_refusal = isinstance(error, ServiceRefused) and not isinstance(error, (LoginRefused, WrongInterface))
    return is_refusal and getattr(error, "status", None) in (404, 405)


def _has_been_compared(row: Row, job: Job) -> bool:
    """Say whether a job is listed as it was the last time, when it was compared with its row."""
    before = row.job
    return before is not None and (before.obs_id, before.job_type, before.parameters) == (
        job.obs_id,
        job.job_type,
        job.parameters,
    )


def _is_spent(job: Job, row: Row) -> bool:
    """Say whether a job will bring nothing: where a row's product is gone, those of older jobs are."""
    lost = row.history.lost_job
    return job.state.is_lost or (lost is not None and job.job_id <= lost and job.state.is_ready)
