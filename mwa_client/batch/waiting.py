"""Waiting for one job, for a Python program that wants nothing else of the batch."""

from __future__ import annotations

import threading
from typing import Callable

from mwa_client.asvo.job import Job, JobState
from mwa_client.asvo.job_filter import not_listed
from mwa_client.asvo.session import Session
from mwa_client.batch.losing import why_lost
from mwa_client.batch.submitting import may_pass
from mwa_client.batch.watching import MISSING_LISTINGS, MISSING_TIME
from mwa_client.errors import JobFailed, MwaClientError, NotFinished
from mwa_client.formatting import trying_again
from mwa_client.timing import Clock, PollTimes


def wait_until_ready(
    session: Session,
    job_id: int,
    clock: Clock,
    *,
    ends: float = float("inf"),
    is_new: bool = False,
    tell: Callable[[str], None] = lambda text: None,
    show: Callable[[Job], None] = lambda job: None,
) -> Job:
    """Ask for a job until its product is ready, less and less often while nothing changes.

    Parameters
    ----------
    session : Session
        The service.
    job_id : int
        The job.
    clock : Clock
        Time.
    ends : float
        When to give up, by the clock for intervals.
    is_new : bool
        It has just been submitted: a listing that lags is no reason to say that there is no such job.
    tell : callable
        Is told of an outage of the service, once, and of its end.
    show : callable
        Is told the job whenever its state has changed.

    Raises
    ------
    JobFailed
        The job has failed, was cancelled or has expired, or is not listed any more.
    NotFinished
        The time is over.
    ServiceRefused
        The service lists no such job, or does not let the user in.
    """
    polls, label, missed, missing_since = PollTimes(clock, None), "", 0, clock.monotonic()
    while True:
        try:
            job = session.jobs(known=(job_id,)).get(job_id)
        except MwaClientError as error:
            if not may_pass(error):
                raise
            _note_outage(polls, error, tell)
        else:
            if polls.outage.is_on:
                tell("The service answers again.")
            if job is None:
                missed += 1
                _check_missing(
                    job_id, missed, clock.monotonic() - missing_since, is_known=is_new or bool(label)
                )
            else:
                missed, missing_since = 0, clock.monotonic()
                if job.label != label:
                    show(job)
                _check_lost(job, clock.now())
                if job.state.is_ready and job.product:
                    return job
            polls.succeeded(job is not None and job.label != label)
            label = label if job is None else job.label
        if clock.monotonic() + polls.remaining() > ends:
            raise NotFinished(f"Job {job_id} is not ready yet: {label or 'Not listed'}.", "Wait again later.")
        clock.sleep(polls.remaining(), threading.Event())


def _check_lost(job: Job, now: float) -> None:
    """Raise if there will be no product."""
    # v2 has no word for a job that has expired: it stays complete.
    if job.state is JobState.EXPIRED or (job.expires_at is not None and job.expires_at < now):
        raise JobFailed(f"Job {job.job_id} has expired.", "Submit it again to have it made again.")
    if job.state.is_lost:
        remedy = (
            "Look at it on the service's web site; to have it made again, submit it with allow_resubmit=true."
        )
        raise JobFailed(f"Job {job.job_id}: {why_lost(job).what}", remedy)


def _note_outage(polls: PollTimes, error: MwaClientError, tell: Callable[[str], None]) -> None:
    is_first = not polls.outage.is_on
    waiting = polls.failed(getattr(error, "retry_after", None))
    if is_first:
        tell(trying_again(error.what, waiting))


def _check_missing(job_id: int, listings: int, seconds: float, *, is_known: bool) -> None:
    """Raise if a job has been missing for too long."""
    if not is_known:
        raise not_listed(job_id)
    if listings >= MISSING_LISTINGS and seconds >= MISSING_TIME:
        raise JobFailed(f"Job {job_id} is no longer listed by the service.", "Look for it on its web site.")
