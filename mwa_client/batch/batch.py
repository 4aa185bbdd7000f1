"""The polling loop: every row is submitted, watched and fetched, until it is complete or has failed.

One thread decides; a few others submit and download, and send it what happens through one queue.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Callable, Union

from mwa_client.asvo.api_client import Submission
from mwa_client.asvo.job import Job, JobState, ProductFile, clean_text
from mwa_client.asvo.session import Session
from mwa_client.batch.duplicates import submit as submit_job
from mwa_client.batch.events import (
    Begun,
    Complete,
    Counts,
    Downloading,
    Event,
    Notice,
    RowFailed,
    StateChanged,
    Submitted,
    Summary,
)
from mwa_client.batch.finding import Finder
from mwa_client.batch.in_order import InOrder
from mwa_client.batch.ledger import FetchedProduct, Ledger, RowRecord
from mwa_client.batch.products import bytes_to_come, fetch_all, name_files
from mwa_client.batch.rows import AT_WORK, SETTLED, ListedJob, Row, Rows, Stage
from mwa_client.batch.workers import Workers
from mwa_client.descriptors import Reserve, free_descriptors
from mwa_client.directory.disk import free_bytes
from mwa_client.errors import (
    BadReply,
    DirectoryBusy,
    DiskFull,
    InternalError,
    JobFailed,
    JobLimitReached,
    LoginRefused,
    MwaClientError,
    OutOfDescriptors,
    ProductGone,
    ServiceOutage,
    ServiceRefused,
    ServiceUnavailable,
    ServiceUnreachable,
    SessionLost,
    Stopped,
)
from mwa_client.formatting import format_duration, format_size
from mwa_client.jobs.keys import ApiVersion
from mwa_client.jobs.listed import contradicts
from mwa_client.jobs.request import JobRequest
from mwa_client.timing import FIRST_POLL, LAST_POLL, Clock, Outage, PollTimes
from mwa_client.transfer.connections import ConnectionBudget
from mwa_client.transfer.delivered import DeliveryRoots
from mwa_client.transfer.download import TransferEvent
from mwa_client.transfer.files import FetchedFile, Standing, by_name, read_again, standing_of
from mwa_client.transfer.leftovers import remove_leftovers
from mwa_client.transfer.part_file import ExpectedFile

SUBMITTERS = 4
KEPT_BACK = 2
"""Descriptors that are kept for what this loop must write down."""
SHARED, EACH = 6, 4
"""Descriptors that all downloads need together, and each of them: for files, folders and connections."""
MANY = 40
"""With fewer descriptors, rows are submitted one at a time."""
MOMENT, STARVED = 0.5, 5
"""Seconds until the next try of what lacks a descriptor, and tries where nothing else is open."""
MOST_TRIES = 20
"""Tries of what lacks a descriptor, half a second apart, while all else goes on."""
LAST_MOMENTS = 1.0
"""Seconds in which the workers can put down what they hold when the work ends early."""
MISSING_LISTINGS = 3
"""Listings in a row without a job, or without a ready job's product, after which it can count as lost."""
MISSING_TIME = 600.0
"""Seconds that must have passed as well: a listing can lag, or be empty for a while."""
UNCLEAR_SUBMISSIONS = 5
"""Submissions of one row whose answers made no sense and that made no job, after which the row fails."""
SLOWEST_ANSWER, SLOWEST_LISTING = 60.0, 60.0
"""Seconds in which a service that was asked for a job surely makes it, and in which it surely lists it."""
LISTINGS_BEFORE_RETRY = 2
"""Listings that must not have a job before it is asked for again."""
RESUBMIT = "Look at it on the service's web site; to have it made anew, run again with --allow-resubmit."
LOOK_FIRST = (
    "The same command looks for it again. Look for it on the service's web site, too: only if it is not "
    "there either, run with --allow-resubmit to have it made anew."
)


@dataclass(frozen=True)
class Pacing:
    """The few numbers that a person may want to set.

    Attributes
    ----------
    parallel : int
        Downloads at a time.
    poll : float or None
        Seconds between two listings; None: adapt.
    give_up_after : float or None
        Seconds after which to stop with rows still pending; None: never.
    connections : int
        The most connections to fetch products with, over all downloads.
    call_timeout : float
        Seconds after which a call to the service is given up.
    is_prompt : bool
        The service is known to make and list a job at once: it practises in this very process.
    """

    parallel: int = 4
    poll: float | None = None
    give_up_after: float | None = None
    connections: int = 8
    call_timeout: float = 60.0
    is_prompt: bool = False

    @property
    def patience(self) -> float:
        """Seconds that a job may take until it is listed, from when it was asked for."""
        return 0.0 if self.is_prompt else max(self.call_timeout, SLOWEST_ANSWER) + SLOWEST_LISTING


@dataclass(frozen=True)
class _SubmissionEnded:
    row: Row
    outcome: Submission | MwaClientError | None
    """None: it was not sent, because others were refused meanwhile."""


@dataclass(frozen=True)
class _DownloadEnded:
    row: Row
    outcome: FetchedProduct | MwaClientError


@dataclass(frozen=True)
class _Listed:
    begun: float
    """When it was asked for, by the clock for intervals."""
    outcome: dict[int, Job] | MwaClientError


@dataclass(frozen=True)
class _Checked:
    row: Row
    fetched: FetchedProduct
    files: tuple[FetchedFile, ...] | None
    """The files with their new times; None: their bytes have changed."""


_Message = Union[_Listed, _SubmissionEnded, _DownloadEnded, _Checked, TransferEvent, BaseException]
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
    once : bool
        Be content with one pass: one listing, what can be submitted then, what is ready then.
    is_asked_again : bool
        A person asks with this very run for new jobs in the place of failed ones, where a row allows it.
        Otherwise each row has asked for one once and for all.
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
        once: bool = False,
        is_asked_again: bool = False,
        free_bytes: Callable[[Path], float] = free_bytes,
        roots: DeliveryRoots = DELIVERY_ROOTS,
    ) -> None:
        self._rows = Rows(requests)
        self._open_session = open_session
        self._ledger = ledger
        self._clock = clock
        self._listen = listen
        self._in_order: InOrder[Row, Event] = InOrder(listen)
        self._pacing = pacing
        self._only_submit = only_submit
        self._once = once
        self._is_asked_again = is_asked_again
        self._free_bytes = free_bytes
        self._roots = roots
        self._check: Callable[[ApiVersion], None] | None = check
        self._inbox: queue.Queue[_Message] = queue.Queue()
        self._stop = threading.Event()
        self._hold = threading.Event()
        self._has_told_why = self._has_told_of_earlier = False
        free = free_descriptors(max(SHARED + EACH * min(pacing.parallel, 256), MANY))
        self._parallel = min(pacing.parallel, max((free - SHARED) // EACH, 1))
        self._reserve = Reserve(KEPT_BACK)
        self._starved = 0
        self._lister = Workers(1, self._inbox)
        self._submitters = Workers(SUBMITTERS if free >= MANY else 1, self._inbox)
        self._downloaders = Workers(self._parallel, self._inbox)
        self._newest_listed = 0
        self._to_submit: deque[Row] = deque()
        self._connections = ConnectionBudget(pacing.connections)
        self._polls = PollTimes(clock, pacing.poll)
        self._unanswered = Outage(clock, first=pacing.poll or FIRST_POLL)
        self._listing: dict[int, Job] = {}
        self._finder = Finder()
        self._is_listing = False
        self._has_polled = False
        self._has_listed = False
        self._disk_full: DiskFull | None = None
        self._no_more = False
        self._counted: Counts | None = None
        self._ends_at = float("inf")

    def run(self) -> Summary:
        """Work until every row is complete or has failed, and say how it ended.

        Raises
        ------
        ServiceError
            The service refuses to let us in, or to list the jobs.
        DiskFull, DirectoryUnusable
            The ledger cannot be written.
        DirectoryBusy
            Another client has taken over the directory.
        Exception
            `listen` has raised it, or it is a mistake in this program; the summary was told before.
        """
        if self._pacing.give_up_after is not None:
            self._ends_at = self._clock.monotonic() + self._pacing.give_up_after
        self._listen(Begun(len(self._rows)))
        try:
            self._work()
        except MwaClientError:
            raise
        except Exception as error:
            with suppress(Exception):  # It may be the listener that has failed.
                self._tell_counts()
                self._summary(InternalError.of(error))
            raise
        self._tell_counts()
        return self._summary()

    def _work(self) -> None:
        """Go on until nothing is left to do; whatever happens, what was brought about is kept."""
        self._reserve.take()
        try:
            self._recall()
            while not self._is_over():
                self._ledger.guard()
                if self._polls.due() and self._needs_listing():
                    self._ask_for_listing()
                self._start_downloads()
                self._tell_counts()
                self._wait_for_messages()
        finally:
            self._reserve.give()
            self._finish()

    @cached_property
    def _session(self) -> Session:
        """The session, opened by the first listing."""
        return self._open_session()

    # --- The beginning and the end --------------------------------------------------------------------

    def _recall(self) -> None:
        """Settle the rows that an earlier run has completed; take up the jobs of the others."""
        self._remove_leftovers(self._ledger.given_up())
        for row in self._rows:
            if isinstance(row.request, JobRequest) and row.request.former_identity:
                self._rename(row.request.former_identity, row.identity)
            row.job_id = self._ledger.row(row.identity).job_id
            row.from_before = row.job_id is not None
            if isinstance(row.request, ListedJob):
                self._recall_listed(row, row.request)
            fetched = self._ledger.fetched(row.identity, row.job_id)
            if fetched is not None:
                self._recall_product(row, fetched)
            elif row.job_id is not None:
                self._has_job(row, row.job_id, found=True)

    def _recall_product(self, row: Row, fetched: FetchedProduct) -> None:
        """Look how a product stands in the directory that an earlier run has completed."""
        standing = standing_of(self._ledger.place.directory, fetched.files)
        if standing is Standing.TOUCHED:
            row.check()
            self._downloaders.give(lambda: _Checked(row, fetched, read_again(fetched.files, self._stop)))
        else:
            self._settle_product(row, fetched, standing)

    def _settle_product(self, row: Row, fetched: FetchedProduct, standing: Standing) -> None:
        """Leave alone what an earlier run has completed, or fetch it again where there is a reason to."""
        assert row.job_id is not None
        is_changed = standing is Standing.CHANGED
        is_here_now = any(map(self._roots.is_visible, fetched.elsewhere))
        if not (standing is Standing.GONE or is_here_now or (is_changed and row.request.allow_resubmit)):
            self._complete(row, fetched, from_before=True, is_changed=is_changed)
            return
        row.fetched_before = fetched
        if standing is Standing.GONE and not self._only_submit:
            self._listen(Notice(f"{self._was_complete(row)} It is fetched again.", is_warning=False))
        self._has_job(row, row.job_id, found=True)

    def _take_check(self, checked: _Checked) -> None:
        """Take what reading a touched product again has shown."""
        row, fetched = checked.row, checked.fetched
        if checked.files is None:
            self._settle_product(row, fetched, Standing.CHANGED)
            return
        fetched = replace(fetched, files=checked.files)
        self._ledger.finished(row.identity, row.job_id or 0, fetched)
        self._settle_product(row, fetched, Standing.AS_LEFT)

    def _was_complete(self, row: Row) -> str:
        """Say that a row was complete once and its product has been moved away."""
        at = self._ledger.row(row.identity).completed_at
        when = "" if at is None else time.strftime(" on %Y-%m-%d %H:%M UTC", time.gmtime(at))
        files = row.fetched_before.files if row.fetched_before is not None else ()
        names = ", ".join(by_name(self._ledger.place.directory, files))
        line = f"Line {row.request.line}: " if row.request.line else ""
        return f"{line}{names} was complete{when}, and has been moved or removed since."

    def _rename(self, former: str, identity: str) -> None:
        """Keep what an earlier version of this program remembered of a row by another name."""
        known = self._ledger.row(former)
        if self._ledger.row(identity) != RowRecord():
            return
        if known.job_id is not None:
            self._ledger.submitted(identity, known.job_id)
        elif known.intended_after is not None:
            self._ledger.intend(identity, after=known.intended_after)
        if known.job_id is not None and known.fetched is not None:
            self._ledger.finished(identity, known.job_id, known.fetched)

    def _recall_listed(self, row: Row, request: ListedJob) -> None:
        """Take up a listed job; where another job is known for the same, this one goes by its id."""
        if row.job_id not in (None, request.job_id):
            row.identity = f"job {request.job_id}"
        row.job_id = request.job_id

    def _is_over(self) -> bool:
        if self._rows.count(*SETTLED) + self._enough() == len(self._rows):
            return True
        if self._is_last_pass() and not (self._is_listing or self._rows.count(*AT_WORK)):
            return not self._startable(self._room(), 1)
        return self._has_given_up()

    def _has_given_up(self) -> bool:
        return self._clock.monotonic() >= self._ends_at

    def _is_last_pass(self) -> bool:
        """Say whether what is at work now, and what is ready, is all that this run will do."""
        return self._disk_full is not None or (self._once and self._has_polled)

    def _enough(self) -> int:
        """Return how many rows are where no more is wanted of them: they have jobs that were looked at."""
        if not (self._only_submit and self._has_listed):
            return 0
        return self._rows.count(Stage.WATCHED, Stage.READY)

    def _wait_for_messages(self) -> None:
        """Sleep until a worker has something to say or the next listing is due; take all that came."""
        if self._is_over():
            return
        if self._is_listing:
            waiting = LAST_POLL
        else:
            waiting = self._polls.remaining() if self._needs_listing() else LAST_POLL
        left = max(self._ends_at - self._clock.monotonic(), 0.0)
        message = self._clock.receive(
            self._inbox,
            min(waiting, left),
            is_coming=self._is_listing or self._rows.count(Stage.SUBMITTING) > 0,
        )
        while message is not None:
            self._take(message)
            message = None if self._inbox.empty() else self._inbox.get()

    def _finish(self) -> None:
        """Let the workers go, and keep what they have just brought about."""
        self._stop.set()
        self._in_order.flush()
        deadline = time.monotonic() + LAST_MOMENTS
        self._submitters.finish(deadline)
        self._downloaders.finish(deadline)
        if self._has_given_up():
            self._lister.finish(deadline)
        while not self._inbox.empty():
            message = self._inbox.get()
            if isinstance(message, _Listed) and isinstance(message.outcome, ServiceUnavailable):
                self._listing_failed(message.outcome)
            elif isinstance(message, _SubmissionEnded):
                self._keep_submission(message.row, message.outcome)
            elif isinstance(message, _DownloadEnded) and isinstance(message.outcome, FetchedProduct):
                self._end_download(message.row, message.outcome)

    def _keep_submission(self, row: Row, outcome: Submission | MwaClientError | None) -> None:
        """Record what has come of a submission in the last moments."""
        if isinstance(outcome, Submission):
            self._has_job(row, outcome.job_id, found=outcome.existed)
        elif outcome is None or _has_made_no_job(outcome):
            self._ledger.withdraw(row.identity)

    def _summary(self, error: MwaClientError | None = None) -> Summary:
        stages = (Stage.WATCHED, Stage.READY) if self._enough() else ()
        submitted = [row for row in self._rows if row.stage in stages]
        left = [row for row in self._rows if row.stage not in (*SETTLED, *stages)]
        summary = Summary(
            directory=self._ledger.place.directory,
            complete=tuple(row.result for row in self._rows if isinstance(row.result, Complete)),
            failed=tuple(row.result for row in self._rows if isinstance(row.result, RowFailed)),
            submitted=tuple(row.name for row in submitted),
            pending=tuple(row.name for row in left),
            why_pending=self._why_pending(error) if left else "",
            error=error,
        )
        self._listen(summary)
        return summary

    def _why_pending(self, error: MwaClientError | None) -> str:
        if error is not None:
            return "The run ended before the others were finished."
        if self._disk_full is not None:
            return " ".join(self._disk_full.lines)
        if self._has_given_up():
            return "The time given with --give-up-after is over."
        if self._polls.outage.is_on:
            return "The service did not answer; the next run asks again."
        if self._rows.count(Stage.WANTED):
            return "Not all rows could be submitted; the next run tries again."
        return "The service is at work on the others; the next run looks again."

    # --- Listing --------------------------------------------------------------------------------------

    def _needs_listing(self) -> bool:
        if self._is_listing or (self._once and self._has_polled):
            return False
        return self._rows.count(Stage.WANTED, Stage.WATCHED) > 0

    def _ask_for_listing(self) -> None:
        """Have the jobs listed once, for all rows; meanwhile the answers to submissions are taken."""
        self._has_polled = self._is_listing = True
        self._counted = None  # So that the display hears from us now and then, though nothing changes.
        known = [row.job_id for row in self._rows.at(Stage.WATCHED) if row.job_id is not None]
        begun, session = self._clock.monotonic(), self._session

        def list_jobs() -> _Message:
            try:
                return _Listed(begun, session.jobs(known))
            except MwaClientError as error:
                return _Listed(begun, error)

        self._lister.give(list_jobs)

    def _take_listing(self, listed: _Listed) -> None:
        """Look at what a listing says of each row; wait out what passes."""
        self._is_listing = False
        if isinstance(listed.outcome, MwaClientError):
            self._listing_failed(listed.outcome)
            return
        if self._polls.outage.is_on:
            self._listen(Notice("The service answers again."))
        if self._check is not None:
            self._check(self._session.api)
            self._check = None
            self._drop_doubles()
        self._listing, self._has_listed, self._starved = listed.outcome, True, 0
        news = [self._watch(row, listed.begun) for row in self._rows.at(Stage.WATCHED)]
        news += [self._watch(row, listed.begun) for row in self._find_jobs(listed.begun)]
        self._end_unlisted()
        has_submitted = self._submit_wanted()
        self._polls.succeeded(any(news) or has_submitted)

    def _drop_doubles(self) -> None:
        """Forget rows that ask this interface for the same as others: what tells them apart is not sent."""
        wanted = self._rows.at(Stage.WANTED)
        if all(self._asked(row) == row.identity for row in wanted):
            return
        asked = {self._asked(row) for row in self._rows if row.stage is not Stage.WANTED}
        for row in wanted:
            if self._asked(row) in asked:
                self._rows.drop(row)
            asked.add(self._asked(row))

    def _listing_failed(self, error: MwaClientError) -> None:
        if not _may_pass(error):
            raise error
        if isinstance(error, OutOfDescriptors) and not self._rows.count(*AT_WORK):
            self._starve(error)
        is_first = not self._polls.outage.is_on
        waiting = self._polls.failed(getattr(error, "retry_after", None))
        if is_first:
            is_last = self._once or self._stop.is_set()
            more = "" if is_last else f" Trying again in {waiting:.0f} s, until it answers."
            self._listen(Notice(f"{error.what}{more}"))

    def _find_jobs(self, begun: float) -> list[Row]:
        """Give the rows that are not submitted the listed jobs that are theirs; return those rows."""
        wanted = self._rows.at(Stage.WANTED)
        if not wanted:
            return []
        taken = {row.job_id for row in self._rows if row.job_id is not None}
        asked = {self._asked(row): row.request.obs_id for row in wanted}
        self._finder.read(self._listing, self._session.api, asked, taken)
        answers = {row: self._answer_to(row) for row in wanted}
        claims = Counter(job.job_id for job in answers.values() if job is not None)
        for row, answer in answers.items():
            # A job that says too little to tell whose it is would be a wrong product for one of them.
            job = answer if answer and claims[answer.job_id] == 1 else self._same_job(row)
            if job is not None:
                self._has_job(row, job.job_id, found=True, is_listed=True)
                row.job = job  # It has just been compared with the row.
            elif self._ledger.row(row.identity).tries and (row.tried or begun) <= begun:
                self._ledger.missed(row.identity, most=LISTINGS_BEFORE_RETRY)
        return [row for row in wanted if row.stage is Stage.WATCHED]

    def _end_unlisted(self) -> None:
        """Fail the rows that were complete before and that nobody has a product for any more."""
        for row in self._rows.at(Stage.WANTED):
            if row.end_if_unlisted is not None:
                self._fail(row, row.end_if_unlisted)

    def _asked(self, row: Row) -> str:
        """Return what a row asks this service for, in the form in which listed jobs are compared with it."""
        return row.asked_on(self._session.api)

    def _answer_to(self, row: Row) -> Job | None:
        """Return the job that a submission has made whose answer is not known, be it dead or alive."""
        after = self._ledger.row(row.identity).intended_after
        if after is None or not isinstance(row.request, JobRequest):
            return None
        return self._finder.answer(self._asked(row), row.request, max(after, row.lost_job or 0))

    def _same_job(self, row: Row) -> Job | None:
        """Return a listed job that asks for the same: a ready one if there is one, else the newest."""
        if row.request.allow_resubmit:
            return None  # A new one is wanted.
        same = [job for job in self._finder.same(self._asked(row)) if not _is_spent(job, row)]
        return max(same, key=lambda job: (job.state.is_ready, job.job_id), default=None)

    def _watch(self, row: Row, begun: float) -> bool:
        """Look at what the listing says about a row's job; return whether that is news."""
        job = self._listing.get(row.job_id or -1)
        if job is not None and self._let_go_of_anothers(row, job):
            return True
        if job is None or (job.state.is_ready and not job.product and row.gone is None):
            return row.attached <= begun and self._note_missing(row, job)
        row.missing_since = None
        self._ledger.listed(row.identity)
        row.job = job
        is_news = row.label != job.label
        self._ledger.changed(row.identity, job.job_id, job.state_word)
        if job.state is not JobState.ERROR:  # That is told once, with the reason.
            self._show(row, job.label)
        if job.state.is_lost:
            # An expired product is gone, and the user still wants it.
            self._lose(row, _lost(job), is_wanted_anew=job.state is JobState.EXPIRED)
        elif job.state.is_ready and row.gone is not None:
            # v2 has no word for a job that has expired: it is complete, and its product is gone.
            self._lose(row, row.gone, is_wanted_anew=_expiry(row) < self._clock.now())
        elif job.state.is_ready:
            self._make_ready(row, job)
        return is_news

    def _make_ready(self, row: Row, job: Job) -> None:
        """Note what is to be fetched, now that it is there."""
        # A job that was asked for by its id is delivered as its own parameters say.
        place = self._ledger.place
        try:
            files = name_files(job, place, row.request.delivery, self._roots)
        except JobFailed as error:
            self._fail(row, error)
            return
        row.ready(files, bytes_to_come(files, place))

    def _let_go_of_anothers(self, row: Row, job: Job) -> bool:
        """Let a job go that the service lists as another one than the row asks for.

        It was never this row's, or the service has begun its numbers anew. Return whether it was one.
        """
        if not isinstance(row.request, JobRequest) or _has_been_compared(row, job):
            return False
        wrong = contradicts(job, row.request, self._session.api, is_known=True)
        if wrong is None:
            return False
        known = self._ledger.row(row.identity)
        if known.disowned and not known.state:
            # The second one that was never seen to be right: it seems to list all jobs as others.
            what = f"The service lists the job that it made for this row as another one ({wrong})."
            self._fail(row, JobFailed(what, "Look at the job on its web site, and ask its help desk."))
            return True
        self._listen(Notice(f"Line {row.request.line}: job {job.job_id} is not this row's: it has {wrong}."))
        self._ledger.disown(row.identity, job.job_id)
        row.disown()
        return True

    def _note_missing(self, row: Row, job: Job | None) -> bool:
        """Count a listing without a row's job, or without its product; return whether it was one too many."""
        now = self._clock.monotonic()
        if row.missing_since is None:
            row.missing_since = now - self._age(self._ledger.row(row.identity).missed_since)
        self._ledger.missed(row.identity, most=MISSING_LISTINGS)
        known = self._ledger.row(row.identity)
        if known.missed < MISSING_LISTINGS or now - row.missing_since < MISSING_TIME:
            return False
        if job is not None:
            error = JobFailed("The job is ready, but has no product.", RESUBMIT)
        elif known.state:
            error = JobFailed("The job is no longer listed by the service.", LOOK_FIRST)
        else:
            error = JobFailed("The service gave this job's number, and has not listed it.", LOOK_FIRST)
        self._lose(row, error)
        return True

    def _age(self, time: float | None) -> float:
        """Return how many seconds ago something was that an earlier run may have recorded."""
        return 0.0 if time is None else max(self._clock.now() - time, 0.0)

    def _lose(self, row: Row, error: MwaClientError, *, is_wanted_anew: bool = False) -> None:
        """Submit a row anew whose job will bring nothing, if that is wanted, once in a run; else fail it."""
        if row.fetched_before is not None and not row.request.allow_resubmit:
            self._lose_again(row, row.fetched_before, error)
            return
        is_asked_for = not is_wanted_anew and self._is_asked_for_anew(row)
        can_be_made = isinstance(row.request, JobRequest) and not row.was_renewed
        if not ((is_wanted_anew or is_asked_for) and can_be_made):
            if row.job is not None and row.job.state.is_lost:
                self._remove_leftovers({row.job.job_id})
            self._fail(row, error)
            return
        self._listen(Notice(f"Submitting line {row.request.line} anew: {error.what}"))
        self._ledger.forget_job(row.identity, is_asked_for=is_asked_for)
        row.renew()
        self._remove_leftovers(self._ledger.given_up() & {row.lost_job})

    def _remove_leftovers(self, lost: Collection[int]) -> None:
        """Remove what was fetched for lost jobs and not finished, and say so."""
        for leftover in remove_leftovers(self._ledger.place, lost):
            if not leftover.size:
                continue
            what = f"{format_size(leftover.size)} of {leftover.name}"
            why = f"job {leftover.job_id} is lost, and nothing can go on from there"
            self._listen(Notice(f"Removed {what}: {why}.", is_warning=False))

    def _is_asked_for_anew(self, row: Row) -> bool:
        """Say whether the user wants a new job in the place of one that failed; asking once brings one."""
        if not (row.request.allow_resubmit and row.from_before):
            return False
        return self._is_asked_again or self._ledger.row(row.identity).renewals == 0

    def _lose_again(self, row: Row, fetched: FetchedProduct, error: MwaClientError) -> None:
        """End a row that was complete once: nobody pays twice for a product, unless the user says so."""
        if not fetched.files:  # It was delivered elsewhere, and nothing has changed about that.
            self._complete(row, fetched, from_before=True)
            return
        what = f"{self._was_complete(row)} The service does not have it any more: {error.what}"
        remedy = (
            "If you have it, take the row out of the job file; to have it made anew, run again with "
            "--allow-resubmit."
        )
        failure = JobFailed(what, remedy)
        if isinstance(row.request, ListedJob):
            self._fail(row, failure)
            return
        row.renew()
        row.end_if_unlisted = failure

    # --- Submitting -----------------------------------------------------------------------------------

    def _submit_wanted(self) -> bool:
        """Have the rows submitted that have no job; after a refusal of all, a few to try."""
        if not self._unanswered.is_due():
            return False
        self._hold.clear()
        self._newest_listed = max(self._listing, default=0)
        # Those that were put off go last: what stands in the way of one may not stand in the way of all.
        waiting: list[Row] = []
        wanted: list[Row] = []
        for row in self._rows.at(Stage.WANTED):
            (waiting if self._is_on_its_way(row) else wanted).append(row)
        self._tell_of_an_earlier_run(sum(row.tried is None for row in waiting))
        wanted.sort(key=lambda row: row.put_off)
        self._to_submit = deque(wanted[:SUBMITTERS] if self._unanswered.is_on else wanted)
        self._submit_next()
        return bool(wanted)

    def _submit_next(self) -> None:
        """Hand a few rows more to the submitters: what is intended is recorded just before it is done."""
        if self._hold.is_set():
            self._to_submit.clear()
        while self._to_submit and self._rows.count(Stage.SUBMITTING) < 2 * SUBMITTERS:
            row = self._to_submit.popleft()
            if row.stage is not Stage.WANTED:
                continue  # A listing has had its job meanwhile.
            row.submit()
            self._in_order.begin(row)
            self._submitters.give(self._submission(row))

    def _tell_of_an_earlier_run(self, submissions: int) -> None:
        """Say, once, why some rows wait although they have no job."""
        if submissions and not (self._has_told_of_earlier or self._pacing.is_prompt):
            what = "a submission" if submissions == 1 else f"{submissions} submissions"
            self._listen(
                Notice(
                    f"An earlier run ended before {what} was answered. Looking for what came of it, for up "
                    f"to {format_duration(self._pacing.patience)}, before submitting again."
                )
            )
            self._has_told_of_earlier = True

    def _is_on_its_way(self, row: Row) -> bool:
        """Say whether a submission whose answer is not known may still become a job that is listed."""
        known = self._ledger.row(row.identity)
        if not known.tries or known.intended_at is None:
            return False
        passed = self._clock.now() - known.intended_at
        if row.tried is not None:
            passed = self._clock.monotonic() - row.tried
        elif passed < 0:
            passed = float("inf")  # The machine's clock was set; nobody knows how long ago it was.
        # Even a service that notices duplicates makes a second job where the first has failed meanwhile.
        return known.missed < LISTINGS_BEFORE_RETRY or passed < self._pacing.patience

    def _wants_a_new_one(self, row: Row) -> bool:
        # The service may take an expired job for the same one: then only a new one helps.
        return row.request.allow_resubmit or row.was_renewed

    def _submission(self, row: Row) -> Callable[[], _Message | None]:
        request = row.request
        assert isinstance(request, JobRequest)
        allow_resubmit, listed = self._wants_a_new_one(row), self._listing
        self._ledger.intend(row.identity, after=max(self._newest_listed, row.lost_job or 0))

        def submit() -> _Message | None:
            if self._stop.is_set() or self._hold.is_set():
                return _SubmissionEnded(row, None)
            try:
                # While this process was stopped, another client may have taken over and submitted it.
                self._ledger.guard()
                outcome = submit_job(self._session, request, allow_resubmit=allow_resubmit, listed=listed)
            except MwaClientError as error:
                if _concerns_all_rows(error):
                    self._hold.set()
                return _SubmissionEnded(row, _as_meant(error))
            except Exception as error:
                # Whether the job was made is not known; the next run looks for it before it submits.
                return _SubmissionEnded(row, InternalError.of(error))
            return _SubmissionEnded(row, outcome)

        return submit

    def _take_answer(self, answer: _SubmissionEnded) -> None:
        """Record the answer to a submission at once; it is told in the order of the file."""
        self._end_submission(answer.row, answer.outcome)
        self._in_order.end(answer.row)
        self._submit_next()

    def _end_submission(self, row: Row, outcome: Submission | MwaClientError | None) -> None:
        if isinstance(outcome, Submission):
            self._has_job(row, outcome.job_id, found=outcome.existed)
            return
        if outcome is None or _has_made_no_job(outcome):
            self._ledger.withdraw(row.identity)
        if outcome is None:
            row.defer()
        elif isinstance(outcome, (LoginRefused, DirectoryBusy)):
            raise outcome
        elif isinstance(outcome, ServiceUnavailable):
            self._submission_unclear(row, outcome)
        elif isinstance(outcome, SessionLost):
            # Lost again right after a login: that says nothing about the row.
            self._submission_unclear(row, BadReply(outcome.what))
        else:
            self._fail(row, outcome)

    def _submission_unclear(self, row: Row, error: ServiceUnavailable) -> None:
        """Wait, and let the next listing tell whether the job was made."""
        row.defer()
        row.put_off += 1
        row.tried = self._clock.monotonic()
        if isinstance(error, BadReply):
            self._ledger.unclear(row.identity)
            if self._ledger.row(row.identity).unclear >= UNCLEAR_SUBMISSIONS:
                self._fail(row, JobFailed(f"Not submitted: {error.what}", "Run the command again later."))
                return
        if not self._has_told_why:
            self._has_told_why = True
            self._listen(Notice(error.what if self._once else _why_not_submitted(error)))
        self._unanswered.failed(error.retry_after)

    def _has_job(self, row: Row, job_id: int, *, found: bool, is_listed: bool = False) -> None:
        self._ledger.submitted(row.identity, job_id, is_listed=is_listed)
        row.attach(job_id, self._clock.monotonic())
        self._tell(row, Submitted(row.name, found))
        if not found:
            self._show(row, JobState.QUEUED.label)
        if self._unanswered.is_on:
            self._unanswered.end()
        if self._has_told_why and not self._rows.count(Stage.WANTED, Stage.SUBMITTING):
            self._has_told_why = False
            self._listen(Notice("All jobs are submitted now."))

    # --- Downloading ----------------------------------------------------------------------------------

    def _start_downloads(self) -> None:
        slots = self._parallel - self._rows.count(Stage.DOWNLOADING)
        if slots <= 0:
            return
        room = self._room()
        startable = self._startable(room, slots)
        if self._can_fetch() and self._rows.to_come > room:
            ready, needed = self._rows.count(Stage.READY), self._rows.to_come
            error = _no_room(self._ledger.place.directory, ready, needed, max(room, 0.0))
            more = " Fetching what fits, the soonest to expire first." if startable else ""
            self._tell_disk_full(error, more)
        for row in startable:
            self._downloaders.give(self._download(row))

    def _can_fetch(self) -> bool:
        return not (self._only_submit or self._no_more) and self._rows.count(Stage.READY) > 0

    def _room(self) -> float:
        """Return for how many bytes more there is room, when all that is being fetched is there."""
        place = self._ledger.place
        running = sum(bytes_to_come(row.files, place) for row in self._rows.at(Stage.DOWNLOADING))
        return self._free_bytes(place.directory) - running

    def _startable(self, room: float, most: int) -> list[Row]:
        """Return the ready rows that there is room for: if not for all, those that expire first."""
        if not self._can_fetch():
            return []
        if self._rows.to_come <= room:
            return self._rows.first_at(Stage.READY, most)
        fitting: list[Row] = []
        for row in sorted(self._rows.at(Stage.READY), key=_expiry):
            if row.to_come <= room and len(fitting) < most:
                room -= row.to_come
                fitting.append(row)
        return fitting

    def _tell_disk_full(self, error: DiskFull, more: str = "") -> None:
        if self._disk_full is None:
            self._disk_full = error
            self._listen(Notice(error.what + more))

    def _download(self, row: Row) -> Callable[[], _Message | None]:
        job, files = row.job, row.files
        assert job is not None
        for wanted, file in files:
            if not file.delivery.is_folder:
                self._tell(row, Downloading(row.name, wanted.name, wanted.size))
        row.download()

        def download() -> _Message | None:
            try:
                return _DownloadEnded(row, self._fetch(job, files))
            except Stopped:
                return None
            except MwaClientError as error:
                return _DownloadEnded(row, error)
            except Exception as error:
                return _DownloadEnded(row, InternalError.of(error))

        return download

    def _fetch(self, job: Job, files: Sequence[tuple[ExpectedFile, ProductFile]]) -> FetchedProduct:
        """Bring a job's files into the directory; of what this host cannot see, say where it is."""
        means = (self._ledger.place, self._clock, self._stop, self._inbox.put, self._connections, self._roots)
        return fetch_all(job, files, self._session, *means)

    def _end_download(self, row: Row, outcome: FetchedProduct | MwaClientError) -> None:
        if isinstance(outcome, FetchedProduct):
            self._starved = 0
            self._write_down(lambda: self._ledger.finished(row.identity, row.job_id or 0, outcome))
            self._complete(row, outcome, from_before=False)
        elif isinstance(outcome, DiskFull):
            # No room or no quota, whatever the disk says: nothing more is begun.
            row.put_back()
            self._no_more = True
            self._tell_disk_full(outcome)
        elif isinstance(outcome, OutOfDescriptors):
            row.put_back()
            self._do_with_less(outcome)
        elif isinstance(outcome, (LoginRefused, DirectoryBusy)):
            raise outcome
        elif isinstance(outcome, ProductGone):
            # Perhaps its job has expired meanwhile: look before anything is said or made anew.
            row.look_again(outcome)
            self._polls.hurry()
            self._has_polled = False
        else:
            self._fail(row, outcome)

    def _do_with_less(self, error: OutOfDescriptors) -> None:
        """Let no more be open at a time than what is at work now; if that is nothing, the least there is."""
        self._session.close_idle()
        at_work = self._rows.count(Stage.DOWNLOADING)
        if self._parallel > max(at_work, 1):
            self._parallel = max(at_work, 1)
            self._listen(Notice(f"{error.what} Fetching fewer products at a time."))
        elif not at_work:
            self._connections = ConnectionBudget(1)
            self._starve(error)

    def _starve(self, error: OutOfDescriptors) -> None:
        """Wait a moment, where nothing else is at work that would let go of a descriptor; not for ever."""
        self._starved += 1
        self._reserve.give()
        if self._starved > STARVED:
            raise error
        self._clock.sleep(MOMENT, self._stop)

    def _write_down(self, write: Callable[[], None]) -> None:
        """Write what must be written, with the descriptors that are kept back where it lacks one."""
        for left in reversed(range(MOST_TRIES)):
            try:
                write()
                break
            except OutOfDescriptors:
                if not left:
                    raise
                self._reserve.give()
                self._session.close_idle()
                if left < MOST_TRIES - 1:
                    self._clock.sleep(MOMENT, self._stop)
        self._reserve.take()

    # --- Small steps ----------------------------------------------------------------------------------

    def _take(self, message: _Message) -> None:
        if isinstance(message, _Listed):
            self._take_listing(message)
        elif isinstance(message, _SubmissionEnded):
            self._take_answer(message)
        elif isinstance(message, _DownloadEnded):
            self._end_download(message.row, message.outcome)
        elif isinstance(message, _Checked):
            self._take_check(message)
        elif isinstance(message, BaseException):
            raise message
        else:
            self._tell_of_transfer(message)

    def _tell(self, row: Row, event: Event) -> None:
        """Tell what happens to a row; rows that are being submitted wait for their turn."""
        self._in_order.tell(row, event)

    def _tell_of_transfer(self, event: TransferEvent) -> None:
        for row in self._rows.at(Stage.DOWNLOADING):
            if row.job_id == event.job_id:
                self._tell(row, event)
                return
        self._listen(event)

    def _show(self, row: Row, label: str) -> None:
        """Tell a row's state, if it is another than before."""
        if row.label != label:
            row.label = label
            self._tell(row, StateChanged(row.name, label))

    def _complete(
        self, row: Row, fetched: FetchedProduct, *, from_before: bool, is_changed: bool = False
    ) -> None:
        place = self._ledger.place.directory
        result = Complete(row.name, fetched.files, from_before, fetched.elsewhere, place, is_changed)
        row.complete(result)
        self._tell(row, result)

    def _fail(self, row: Row, error: MwaClientError) -> None:
        result = RowFailed(row.name, error)
        row.fail(result)
        self._tell(row, result)

    def _tell_counts(self) -> None:
        counts = Counts(len(self._rows), self._rows.count(*SETTLED), self._rows.labels)
        if counts != self._counted:
            self._counted = counts
            self._listen(counts)


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
    is_older = row.lost_job is not None and job.job_id <= row.lost_job
    return job.state.is_lost or (is_older and job.state.is_ready)


def _has_made_no_job(error: MwaClientError) -> bool:
    """Say whether a submission has surely made no job: it was refused, or nobody has received it."""
    if isinstance(error, (ServiceRefused, ServiceOutage, JobLimitReached, ServiceUnreachable)):
        return True
    return isinstance(error, ServiceUnavailable) and error.retry_after is not None


def _may_pass(error: MwaClientError) -> bool:
    """Say whether another try may be answered."""
    if isinstance(error, (ServiceUnavailable, SessionLost)):
        # A session that is lost again right after the login is the service's trouble, not the user's.
        return True
    return isinstance(error, ServiceRefused) and not (error.is_own or isinstance(error, LoginRefused))


def _as_meant(error: MwaClientError) -> MwaClientError:
    """Return what a failed submission means: somebody's web page says nothing about the row."""
    is_page = isinstance(error, ServiceRefused) and not isinstance(error, SessionLost) and _may_pass(error)
    return BadReply(error.what) if is_page else error


def _concerns_all_rows(error: MwaClientError) -> bool:
    """Say whether a submission failed for a reason that holds for the others too."""
    asks_to_wait = isinstance(error, ServiceUnavailable) and error.retry_after is not None
    return asks_to_wait or isinstance(error, (ServiceOutage, JobLimitReached))


def _why_not_submitted(error: ServiceUnavailable) -> str:
    if isinstance(error, JobLimitReached):
        return f"{error.what} The other rows are submitted as jobs finish."
    if isinstance(error, ServiceOutage):
        return f"{error.what} Trying again until it is over."
    return f"A submission was not answered: {error.what} Looking for its job before trying again."


def _expiry(row: Row) -> float:
    expires_at = None if row.job is None else row.job.expires_at
    return float("inf") if expires_at is None else expires_at


def _no_room(directory: Path, number: int, needed: float, free: float) -> DiskFull:
    words = [format_size(int(size)) for size in (needed, free, needed - free)]
    ready = "a product that is ready needs" if number == 1 else f"{number} products that are ready need"
    return DiskFull(
        f"No room in {directory}: {ready} {words[0]}, {words[1]} are free, {words[2]} are missing.",
        "Make room, then run the same command again; what was fetched is kept.",
    )


def _lost(job: Job) -> JobFailed:
    if job.state is JobState.EXPIRED:
        return JobFailed("The job has expired.", "Run the command again to have it made anew.")
    if job.state is JobState.CANCELLED:
        return JobFailed("The job was cancelled.", RESUBMIT)
    code = clean_text(job.raw.get("error_code"), 60)
    quoted = f" (error_code {code})" if code else ""
    said = f": {job.error_text}{quoted}" if job.error_text else f", and the service does not say why{quoted}."
    return JobFailed(f"The job failed at the service{said}", RESUBMIT)
