"""Jobs that will bring no product: whether the row gets a new one, and what was fetched for the old one."""

from __future__ import annotations

import time
from collections.abc import Collection

from mwa_client.asvo.job import Job, JobState, clean_text
from mwa_client.batch.ledger import Ledger
from mwa_client.batch.records import FetchedProduct
from mwa_client.batch.rows import ListedJob, Row
from mwa_client.batch.updates import RowUpdates
from mwa_client.errors import JobFailed, MwaClientError
from mwa_client.formatting import format_size
from mwa_client.jobs.request import JobRequest
from mwa_client.transfer.files import by_name
from mwa_client.transfer.leftovers import remove_leftovers

RESUBMIT = "Look at it on the service's web site; to have it made again, run with --allow-resubmit."
NEVER_SUBMITTED = (
    "Look at it on the service's web site. -w submits nothing: to have it made again, give what it asks "
    "for as a row, with --csv or --job."
)


class LostJobs:
    """Decides what becomes of a row whose job is lost.

    Parameters
    ----------
    updates : RowUpdates
        Changes the rows.
    is_asked_again : bool
        A person asks with this very run for new jobs in the place of failed ones, where a row allows it.
        Otherwise each row has asked for one once and for all.
    """

    def __init__(self, updates: RowUpdates, is_asked_again: bool) -> None:
        self._updates = updates
        self._ledger = updates.ledger
        self._is_asked_again = is_asked_again

    def lose(self, row: Row, error: MwaClientError, *, is_wanted_anew: bool = False) -> None:
        """Have a new job submitted in the place of a lost one, once in a run, or fail the row.

        Parameters
        ----------
        error : MwaClientError
            What happened to the job.
        is_wanted_anew : bool
            Nobody has to be asked: the job was right, and only its product has expired.
        """
        if row.history.fetched is not None and not row.request.allow_resubmit:
            self._lose_again(row, row.history.fetched, error)
            return
        is_asked_for = not is_wanted_anew and self._is_asked_for_anew(row)
        can_be_made = isinstance(row.request, JobRequest) and not row.history.was_renewed
        if not ((is_wanted_anew or is_asked_for) and can_be_made):
            if row.job is not None and row.job.state.is_lost:
                self.remove_leftovers({row.job.job_id})
            self._updates.fail(row, _as_for(row, error))
            return
        self._updates.notice(f"Resubmitting {row.name.place}: {error.what}")
        self._ledger.record_job_given_up(row.identity, is_asked_for=is_asked_for)
        row.renew()
        self.remove_leftovers(self._ledger.jobs_given_up() & {row.history.lost_job})

    def remove_leftovers(self, lost: Collection[int | None]) -> None:
        """Remove what was fetched for lost jobs and not finished, and say so."""
        jobs = {job_id for job_id in lost if job_id is not None}
        for leftover in remove_leftovers(self._ledger.place, jobs):
            if not leftover.size:
                continue
            what = f"{format_size(leftover.size)} of {leftover.name}"
            why = f"job {leftover.job_id} is lost, so its download cannot be continued"
            self._updates.notice(f"Removed {what}: {why}.", is_warning=False)

    def _is_asked_for_anew(self, row: Row) -> bool:
        """Say whether the user wants a new job in the place of one that failed; asking once brings one."""
        if not (row.request.allow_resubmit and row.history.has_earlier_job):
            return False
        return self._is_asked_again or self._ledger.row(row.identity).renewals == 0

    def _lose_again(self, row: Row, fetched: FetchedProduct, error: MwaClientError) -> None:
        """End a row that was complete once: nobody pays twice for a product, unless the user says so."""
        if not fetched.files:  # It was delivered elsewhere, and nothing has changed about that.
            self._updates.complete(row, fetched, from_before=True)
            return
        what = f"{was_complete(row, self._ledger)} The service no longer has it: {error.what}"
        remedy = (
            "If you still have it, remove the row from the job file; to have it made again, run with "
            "--allow-resubmit."
        )
        failure = JobFailed(what, remedy)
        if isinstance(row.request, ListedJob):
            self._updates.fail(row, _as_for(row, failure))
            return
        row.renew()
        row.history.end_if_unlisted = failure


def _as_for(row: Row, error: MwaClientError) -> MwaClientError:
    """Return why a job is lost as it is for a row: one that is never submitted cannot have another job."""
    return JobFailed(error.what, NEVER_SUBMITTED) if isinstance(row.request, ListedJob) else error


def was_complete(row: Row, ledger: Ledger) -> str:
    """Say that a row was complete once and its product has been moved away."""
    at = ledger.row(row.identity).completed_at
    when = "" if at is None else time.strftime(" on %Y-%m-%d %H:%M UTC", time.gmtime(at))
    files = row.history.fetched.files if row.history.fetched is not None else ()
    names = ", ".join(by_name(ledger.place.path, files))
    return f"{names} was complete{when}, and has been moved or removed since."


def why_lost(job: Job) -> JobFailed:
    """Return what happened to a job that failed, was cancelled or has expired."""
    if job.state is JobState.EXPIRED:
        return JobFailed("The job has expired.", "Run the same command again to have it made again.")
    if job.state is JobState.CANCELLED:
        return JobFailed("The job was cancelled.", RESUBMIT)
    code = clean_text(job.raw.get("error_code"), 60)
    quoted = f" (error_code {code})" if code else ""
    said = f": {job.error_text}{quoted}" if job.error_text else f", and the service does not say why{quoted}."
    return JobFailed(f"The job failed at the service{said}", RESUBMIT)
