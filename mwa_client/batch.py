"""The polling loop: every row is submitted, watched and fetched, until it is complete or has failed.

One thread decides; a few others submit and download, and send it what happens through one queue.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Callable, Union

from mwa_client.asvo.job import Job, JobState, ProductFile
from mwa_client.asvo.session import Session, Submission
from mwa_client.disk import free_bytes
from mwa_client.errors import (
    BadReply,
    DirectoryBusy,
    DiskFull,
    InternalError,
    JobFailed,
    JobLimitReached,
    LoginRefused,
    MwaClientError,
    ProductGone,
    ServiceOutage,
    ServiceUnavailable,
    SessionLost,
    Stopped,
)
from mwa_client.events import (
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
from mwa_client.jobfile import JobRequest, identity_of
from mwa_client.jobkeys import Api
from mwa_client.ledger import Fetched, Ledger
from mwa_client.pace import FIRST_POLL, LAST_POLL, Clock, Outage, PollTimes
from mwa_client.products import bytes_to_come, fetch_all, name_files
from mwa_client.rows import ListedJob, Row, Stage
from mwa_client.transfer.connections import Connections
from mwa_client.transfer.partial import Wanted
from mwa_client.transfer.product import Progress, Setback
from mwa_client.words import size_in_words
from mwa_client.workers import Workers

SUBMITTERS = 4
LAST_MOMENTS = 1.0
"""Seconds in which the workers can put down what they hold when the work ends early."""
MISSING_LISTINGS = 3
"""Listings in a row without a job, or without a ready job's product, after which it counts as lost."""
UNCLEAR_SUBMISSIONS = 5
"""Submissions of one row whose answers made no sense and that made no job, after which the row fails."""
SETTLING = 5.0
"""Seconds for which a job may be on its way into the listing after the client that wanted it was killed."""
RESUBMIT = "Look at it on the service's web site; to have it made anew, run again with --allow-resubmit."


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
    """

    parallel: int = 4
    poll: float | None = None
    give_up_after: float | None = None
    connections: int = 8


@dataclass(frozen=True)
class _SubmissionEnded:
    row: Row
    outcome: Submission | MwaClientError | None
    """None: it was not sent, because others were refused meanwhile."""


@dataclass(frozen=True)
class _DownloadEnded:
    row: Row
    outcome: Fetched | MwaClientError


_Message = Union[_SubmissionEnded, _DownloadEnded, Progress, Setback, BaseException]


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
    free_bytes : callable
        Says for how many bytes there is room in a directory.
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
        check: Callable[[Api], None] = lambda api: None,
        only_submit: bool = False,
        once: bool = False,
        free_bytes: Callable[[Path], float] = free_bytes,
    ) -> None:
        self._rows = [Row(request) for request in requests]
        self._open_session = open_session
        self._ledger = ledger
        self._clock = clock
        self._listen = listen
        self._pacing = pacing
        self._only_submit = only_submit
        self._once = once
        self._free_bytes = free_bytes
        self._check: Callable[[Api], None] | None = check
        self._inbox: queue.Queue[_Message] = queue.Queue()
        self._stop = threading.Event()
        self._hold = threading.Event()
        self._has_told_why = False
        self._submitters = Workers(SUBMITTERS, self._inbox)
        self._newest_listed = 0
        self._to_submit: deque[Row] = deque()
        self._in_hand: deque[Row] = deque()
        self._answered: dict[int, _SubmissionEnded] = {}
        self._downloaders = Workers(pacing.parallel, self._inbox)
        self._connections = Connections(pacing.connections)
        self._polls = PollTimes(clock, pacing.poll)
        self._unanswered = Outage(clock, first=pacing.poll or FIRST_POLL)
        self._listing: dict[int, Job] = {}
        self._has_polled = False
        self._has_given_up = False
        self._disk_full: DiskFull | None = None
        self._no_more = False
        self._counted: Counts | None = None

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
        started = self._clock.monotonic()
        try:
            self._recall()
            while not self._is_over(started):
                self._ledger.guard()
                if self._polls.due() and self._needs_listing():
                    self._poll()
                self._start_downloads()
                self._tell_counts()
                self._wait_for_messages(started)
        finally:
            self._finish()

    @cached_property
    def _session(self) -> Session:
        """The session, opened by the first listing."""
        return self._open_session()

    # --- The beginning and the end --------------------------------------------------------------------

    def _recall(self) -> None:
        """Settle the rows that an earlier run has completed; take up the jobs of the others."""
        for row in self._rows:
            identity = row.request.identity
            row.job_id = self._ledger.row(identity).job_id
            row.from_before = row.job_id is not None
            if isinstance(row.request, ListedJob):
                self._recall_listed(row, row.request)
                identity = row.request.identity
            fetched = self._ledger.complete(identity, row.job_id)
            if fetched is not None:
                self._complete(row, fetched, from_before=True)
            elif row.job_id is not None:
                self._has_job(row, row.job_id, found=True)

    def _recall_listed(self, row: Row, request: ListedJob) -> None:
        """Take up a listed job; where another job is known for the same, this one goes by its id."""
        if row.job_id not in (None, request.job_id):
            row.request = replace(request, identity=f"job {request.job_id}")
        row.job_id = request.job_id

    def _is_over(self, started: float) -> bool:
        if all(row.stage.is_settled or self._is_enough(row) for row in self._rows):
            return True
        if self._is_last_pass() and not any(row.stage.is_at_work for row in self._rows):
            return not self._startable()
        limit = self._pacing.give_up_after
        self._has_given_up = limit is not None and self._clock.monotonic() - started >= limit
        return self._has_given_up

    def _is_last_pass(self) -> bool:
        """Say whether what is at work now, and what is ready, is all that this run will do."""
        return self._disk_full is not None or (self._once and self._has_polled)

    def _is_enough(self, row: Row) -> bool:
        return self._only_submit and row.stage in (Stage.WATCHED, Stage.READY)

    def _wait_for_messages(self, started: float) -> None:
        """Sleep until a worker has something to say or the next listing is due; take all that came."""
        if self._is_over(started):
            return
        waiting = self._polls.remaining() if self._needs_listing() else LAST_POLL
        if self._pacing.give_up_after is not None:
            left = started + self._pacing.give_up_after - self._clock.monotonic()
            waiting = min(waiting, max(left, 0.0))
        message = self._clock.receive(self._inbox, waiting)
        while message is not None:
            self._take(message)
            message = None if self._inbox.empty() else self._inbox.get()

    def _finish(self) -> None:
        """Let the workers go, and keep what they have just brought about."""
        self._stop.set()
        deadline = time.monotonic() + LAST_MOMENTS
        self._submitters.finish(deadline)
        self._downloaders.finish(deadline)
        left: list[_Message] = list(self._answered.values())
        while not self._inbox.empty():
            left.append(self._inbox.get())
        for message in left:
            if isinstance(message, _SubmissionEnded) and isinstance(message.outcome, Submission):
                self._has_job(message.row, message.outcome.job_id, found=message.outcome.existed)
            elif isinstance(message, _DownloadEnded) and isinstance(message.outcome, Fetched):
                self._end_download(message.row, message.outcome)

    def _summary(self, error: MwaClientError | None = None) -> Summary:
        left = [row for row in self._rows if not row.stage.is_settled]
        pending = tuple(row.name for row in left if not self._is_enough(row))
        summary = Summary(
            directory=self._ledger.place.directory,
            complete=tuple(row.result for row in self._rows if isinstance(row.result, Complete)),
            failed=tuple(row.result for row in self._rows if isinstance(row.result, RowFailed)),
            submitted=tuple(row.name for row in left if self._is_enough(row)),
            pending=pending,
            why_pending=self._why_pending(error) if pending else "",
            error=error,
        )
        self._listen(summary)
        return summary

    def _why_pending(self, error: MwaClientError | None) -> str:
        if error is not None:
            return "The run ended before the others were finished."
        if self._disk_full is not None:
            return str(self._disk_full)
        if self._has_given_up:
            return "The time given with --give-up-after is over."
        if self._polls.outage.is_on:
            return "The service did not answer; the next run asks again."
        if self._at(Stage.WANTED):
            return "Not all rows could be submitted; the next run tries again."
        return "The service is at work on the others; the next run looks again."

    # --- Listing --------------------------------------------------------------------------------------

    def _needs_listing(self) -> bool:
        if self._once and self._has_polled:
            return False
        return any(row.stage in (Stage.WANTED, Stage.WATCHED) for row in self._rows)

    def _poll(self) -> None:
        """List the jobs once, for all rows; wait out what passes."""
        self._has_polled = True
        self._counted = None  # So that the display hears from us now and then, though nothing changes.
        try:
            known = [row.job_id for row in self._at(Stage.WATCHED) if row.job_id is not None]
            self._listing = self._session.jobs(known)
        except (ServiceUnavailable, SessionLost) as error:
            # A session that is lost again right after the login is the service's trouble, not the user's.
            is_first = not self._polls.outage.is_on
            waiting = self._polls.failed(getattr(error, "retry_after", None))
            if is_first:
                more = "" if self._once else f" Trying again in {waiting:.0f} s, until it answers."
                self._listen(Notice(f"{error.what}{more}"))
            return
        if self._polls.outage.is_on:
            self._listen(Notice("The service answers again."))
        if self._check is not None:
            self._check(self._session.api)
            self._check = None
        news = [self._watch(row) for row in self._at(Stage.WATCHED)]
        news += [self._watch(row) for row in self._find_jobs()]
        has_submitted = self._submit_wanted()
        self._polls.succeeded(any(news) or has_submitted)

    def _find_jobs(self) -> list[Row]:
        """Give the rows that are not submitted the listed jobs that ask for the same; return those rows."""
        wanted = self._at(Stage.WANTED)
        observations: dict[int | None, list[Job]] = {row.request.obs_id: [] for row in wanted}
        for job in self._listing.values():
            if job.obs_id in observations:
                observations[job.obs_id].append(job)
        for row in wanted:
            job_id = self._same_job(row, observations[row.request.obs_id])
            if job_id is not None:
                self._has_job(row, job_id, found=True)
        return [row for row in wanted if row.stage is Stage.WATCHED]

    def _same_job(self, row: Row, jobs: Iterable[Job]) -> int | None:
        """Return a listed job that asks for the same: a ready one if there is one, else the newest."""
        same = [
            job
            for job in jobs
            if not job.state.is_lost
            and job.job_type is not None
            and identity_of(job.job_type, job.parameters, self._session.api) == row.request.identity
            and self._may_attach(row, job)
        ]
        best = max(same, key=lambda job: (job.state.is_ready, job.job_id), default=None)
        return None if best is None else best.job_id

    def _may_attach(self, row: Row, job: Job) -> bool:
        """Say whether a job can be this row's: where the user wants a new one, only if it was made for it."""
        if row.lost_job is not None and job.state.is_ready and job.job_id <= row.lost_job:
            return False  # Where its product is gone, those of older jobs are.
        if not row.request.allow_resubmit:
            return True
        after = self._ledger.row(row.request.identity).intended_after
        return after is not None and job.job_id > after

    def _watch(self, row: Row) -> bool:
        """Look at what the listing says about a row's job; return whether that is news."""
        job = self._listing.get(row.job_id or -1)
        if job is None or (job.state.is_ready and not job.product):
            return self._is_missing(row, job)
        row.missing = 0
        row.job = job
        is_news = row.label != job.label
        if is_news:
            self._ledger.changed(row.request.identity, job.job_id, job.state_word)
        if job.state is not JobState.ERROR:  # That is told once, with the reason.
            self._show(row, job.label)
        if job.state.is_lost:
            # An expired product is gone, and the user still wants it.
            self._lose(row, _lost(job), is_wanted_anew=job.state is JobState.EXPIRED)
        elif job.state.is_ready:
            row.stage = Stage.READY
            row.files = name_files(job, self._ledger)
            row.to_come = bytes_to_come(row.files, self._ledger.place)
        return is_news

    def _is_missing(self, row: Row, job: Job | None) -> bool:
        row.missing += 1
        if row.missing < MISSING_LISTINGS:
            return False
        what = "is ready, but has no product" if job else "is no longer listed by the service"
        self._lose(row, JobFailed(f"The job {what}.", RESUBMIT))
        return True

    def _lose(self, row: Row, error: MwaClientError, *, is_wanted_anew: bool = False) -> None:
        """Submit a row anew whose job will bring nothing, if that is wanted, once in a run; else fail it."""
        is_wanted_anew |= row.request.allow_resubmit and row.from_before
        can_be_made = isinstance(row.request, JobRequest) and not row.was_renewed
        if not (is_wanted_anew and can_be_made):
            self._fail(row, error)
            return
        self._listen(Notice(f"Submitting line {row.request.line} anew: {error.what}"))
        self._ledger.forget_job(row.request.identity)
        row.was_renewed, row.lost_job = True, row.job_id
        row.job_id, row.job, row.stage = None, None, Stage.WANTED

    # --- Submitting -----------------------------------------------------------------------------------

    def _submit_wanted(self) -> bool:
        """Have the rows submitted that have no job; after a refusal of all, a few to try."""
        if not self._unanswered.is_due():
            return False
        self._hold.clear()
        self._newest_listed = max(self._listing, default=0)
        # Those that were put off go last: what stands in the way of one may not stand in the way of all.
        wanted = [row for row in self._at(Stage.WANTED) if not self._is_on_its_way(row)]
        wanted.sort(key=lambda row: row.put_off)
        self._to_submit = deque(wanted[:SUBMITTERS] if self._unanswered.is_on else wanted)
        self._submit_next()
        return bool(wanted)

    def _submit_next(self) -> None:
        """Hand a few rows more to the submitters: what is intended is recorded just before it is done."""
        if self._hold.is_set():
            self._to_submit.clear()
        while self._to_submit and len(self._in_hand) - len(self._answered) < 2 * SUBMITTERS:
            row = self._to_submit.popleft()
            if row.stage is not Stage.WANTED:
                continue  # A listing has had its job meanwhile.
            row.stage = Stage.SUBMITTING
            self._in_hand.append(row)
            self._submitters.give(self._submission(row))

    def _is_on_its_way(self, row: Row) -> bool:
        """Say whether a submission that an earlier run was killed over may still become a job."""
        at = self._ledger.row(row.request.identity).intended_at
        return row.put_off == 0 and at is not None and 0 <= self._clock.now() - at < SETTLING

    def _submission(self, row: Row) -> Callable[[], _Message | None]:
        request = row.request
        assert isinstance(request, JobRequest)
        parameters = request.parameters(self._session.api)
        # The service may take an expired job for the same one: then only a new one helps.
        allow_resubmit = request.allow_resubmit or row.was_renewed
        self._ledger.intend(request.identity, after=self._newest_listed)

        def submit() -> _Message | None:
            if self._stop.is_set() or self._hold.is_set():
                return _SubmissionEnded(row, None)
            try:
                outcome = self._session.submit(request.job_type, parameters, allow_resubmit=allow_resubmit)
            except MwaClientError as error:
                if _concerns_all_rows(error):
                    self._hold.set()
                return _SubmissionEnded(row, error)
            except Exception as error:
                # Whether the job was made is not known; the next run looks for it before it submits.
                return _SubmissionEnded(row, InternalError.of(error))
            return _SubmissionEnded(row, outcome)

        return submit

    def _take_answer(self, answer: _SubmissionEnded) -> None:
        """Take the answers to submissions in the order of the file, whichever comes first."""
        self._answered[id(answer.row)] = answer
        while self._in_hand and id(self._in_hand[0]) in self._answered:
            next_one = self._answered.pop(id(self._in_hand.popleft()))
            self._end_submission(next_one.row, next_one.outcome)
        self._submit_next()

    def _end_submission(self, row: Row, outcome: Submission | MwaClientError | None) -> None:
        if outcome is None:
            row.stage = Stage.WANTED
        elif isinstance(outcome, Submission):
            self._has_job(row, outcome.job_id, found=outcome.existed)
        elif isinstance(outcome, LoginRefused):
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
        row.stage = Stage.WANTED
        row.put_off += 1
        row.unclear += isinstance(error, BadReply)
        if row.unclear >= UNCLEAR_SUBMISSIONS:
            self._fail(row, JobFailed(f"Not submitted: {error.what}", "Run the command again later."))
            return
        if not self._has_told_why:
            self._has_told_why = True
            self._listen(Notice(error.what if self._once else _why_not_submitted(error)))
        self._unanswered.failed(error.retry_after)

    def _has_job(self, row: Row, job_id: int, *, found: bool) -> None:
        row.job_id = job_id
        row.stage = Stage.WATCHED
        row.missing = 0
        self._ledger.submitted(row.request.identity, job_id)
        self._listen(Submitted(row.name, found))
        if not found:
            self._show(row, JobState.QUEUED.label)
        if self._unanswered.is_on:
            self._unanswered.end()
        if self._has_told_why and not (self._at(Stage.WANTED) or self._at(Stage.SUBMITTING)):
            self._has_told_why = False
            self._listen(Notice("All jobs are submitted now."))

    # --- Downloading ----------------------------------------------------------------------------------

    def _start_downloads(self) -> None:
        slots = self._pacing.parallel - len(self._at(Stage.DOWNLOADING))
        if slots <= 0:
            return  # There may be thousands of ready rows, and this is asked again and again.
        for row in self._startable()[:slots]:
            row.stage = Stage.DOWNLOADING
            self._downloaders.give(self._download(row))

    def _startable(self) -> list[Row]:
        """Return the ready rows that there is room for: if not all, then those that expire first."""
        ready = [] if self._only_submit or self._no_more else self._at(Stage.READY)
        if not ready:
            return []
        place = self._ledger.place
        running = sum(bytes_to_come(row.files, place) for row in self._at(Stage.DOWNLOADING))
        free = room = self._free_bytes(place.directory) - running
        needed = sum(row.to_come for row in ready)
        if needed <= free:
            return ready
        fitting = []
        for row in sorted(ready, key=_expiry):
            if row.to_come <= room:
                room -= row.to_come
                fitting.append(row)
        error = _no_room(place.directory, len(ready), needed, max(free, 0.0))
        self._tell_disk_full(error, " Fetching what fits, the soonest to expire first." if fitting else "")
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
                self._listen(Downloading(row.name, wanted.name, wanted.size))
        row.label = "Downloading"

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

    def _fetch(self, job: Job, files: Sequence[tuple[Wanted, ProductFile]]) -> Fetched:
        """Bring a job's files into the directory; of what this host cannot see, say where it is."""
        means = (self._ledger.place, self._clock, self._stop, self._inbox.put, self._connections)
        return fetch_all(job, files, self._session, *means)

    def _end_download(self, row: Row, outcome: Fetched | MwaClientError) -> None:
        if isinstance(outcome, Fetched):
            self._ledger.finished(row.request.identity, row.job_id or 0, outcome)
            self._complete(row, outcome, from_before=False)
        elif isinstance(outcome, DiskFull):
            # No room or no quota, whatever the disk says: nothing more is begun.
            row.stage = Stage.READY
            self._no_more = True
            self._tell_disk_full(outcome)
        elif isinstance(outcome, (LoginRefused, DirectoryBusy)):
            raise outcome
        elif isinstance(outcome, ProductGone):
            # v2 has no word for a job that has expired: it is complete, and its product is gone.
            self._lose(row, outcome, is_wanted_anew=_expiry(row) < self._clock.now())
            if row.stage is Stage.WANTED:
                self._has_polled = False  # One pass submits what is missing, and now this is.
        else:
            self._fail(row, outcome)

    # --- Small steps ----------------------------------------------------------------------------------

    def _at(self, stage: Stage) -> list[Row]:
        return [row for row in self._rows if row.stage is stage]

    def _take(self, message: _Message) -> None:
        if isinstance(message, _SubmissionEnded):
            self._take_answer(message)
        elif isinstance(message, _DownloadEnded):
            self._end_download(message.row, message.outcome)
        elif isinstance(message, BaseException):
            raise message
        else:
            self._listen(message)

    def _show(self, row: Row, label: str) -> bool:
        """Tell a row's state, if it is another than before."""
        if row.label == label:
            return False
        row.label = label
        self._listen(StateChanged(row.name, label))
        return True

    def _complete(self, row: Row, fetched: Fetched, *, from_before: bool) -> None:
        row.stage = Stage.COMPLETE
        row.label = "Download Complete"
        place = self._ledger.place.directory
        row.result = Complete(row.name, fetched.files, from_before, fetched.elsewhere, place)
        self._listen(row.result)

    def _fail(self, row: Row, error: MwaClientError) -> None:
        row.stage = Stage.FAILED
        row.label = "Error"
        row.result = RowFailed(row.name, error)
        self._listen(row.result)

    def _tell_counts(self) -> None:
        labels = Counter(row.label for row in self._rows)
        done = sum(row.stage.is_settled for row in self._rows)
        counts = Counts(len(self._rows), done, tuple(labels.items()))
        if counts != self._counted:
            self._counted = counts
            self._listen(counts)


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
    words = [size_in_words(int(size)) for size in (needed, free, needed - free)]
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
    said = f": {job.error_text}" if job.error_text else ", and the service does not say why."
    return JobFailed(f"The job failed at the service{said}", RESUBMIT)
