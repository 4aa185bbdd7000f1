"""What earlier runs have left: products that are here already, and jobs that are at the service."""

from __future__ import annotations

import threading
from dataclasses import replace

from mwa_client.asvo.job import JobState
from mwa_client.batch.losing import LostJobs, was_complete
from mwa_client.batch.products import FOLDER_DELIVERIES, bytes_to_come
from mwa_client.batch.records import FetchedProduct, Product, RowRecord
from mwa_client.batch.rows import ListedJob, Row
from mwa_client.batch.unpacking import files_here, has_archive
from mwa_client.batch.updates import RowUpdates
from mwa_client.batch.workers import Workers
from mwa_client.jobs.request import JobRequest
from mwa_client.light_dataclasses import dataclass
from mwa_client.transfer.delivered import DeliveryRoots
from mwa_client.transfer.files import FetchedFile
from mwa_client.transfer.leftovers import remove_finished
from mwa_client.transfer.standing import Standing, read_again, standing_of


@dataclass(frozen=True)
class ReadAgain:
    """What reading a product again has shown whose times have changed.

    Attributes
    ----------
    files : tuple of FetchedFile or None
        The files as they are now; None: they cannot be read.
    """

    row: Row
    fetched: FetchedProduct
    files: tuple[FetchedFile, ...] | None


class Recalling:
    """Takes up what the ledger knows of each row, before anything is asked of the service.

    Parameters
    ----------
    updates : RowUpdates
        Changes the rows.
    lost_jobs : LostJobs
        Removes what was fetched for jobs that are lost.
    workers : Workers
        They read files again.
    roots : DeliveryRoots
        Where deliveries to file systems may be copied from.
    is_fetching : bool
        Products are fetched in this run.
    unpack : bool
        Tars and zips become folders, those of earlier runs, too.
    stop : threading.Event
        Set when the work is to stop.
    """

    def __init__(
        self,
        updates: RowUpdates,
        lost_jobs: LostJobs,
        workers: Workers,
        roots: DeliveryRoots,
        *,
        is_fetching: bool,
        unpack: bool,
        stop: threading.Event,
    ) -> None:
        self._updates = updates
        self._ledger = updates.ledger
        self._lost_jobs = lost_jobs
        self._workers = workers
        self._roots = roots
        self._is_fetching = is_fetching
        self._unpack = unpack
        self._stop = stop

    def recall(self) -> None:
        """Settle the rows that an earlier run has completed; take up the jobs of the others."""
        self._lost_jobs.remove_leftovers(self._ledger.jobs_given_up())
        remove_finished(self._ledger.place, self._ledger.complete_folders)
        for row in self._updates.rows:
            if isinstance(row.request, JobRequest) and row.request.former_identity:
                self._rename(row.request.former_identity, row.identity)
            row.job_id = self._ledger.row(row.identity).job_id
            row.history.has_earlier_job = row.job_id is not None
            if isinstance(row.request, ListedJob):
                _recall_listed(row, row.request)
            fetched = self._ledger.fetched(row.identity, row.job_id)
            if fetched is not None:
                self._recall_product(row, fetched)
            elif row.job_id is not None:
                self._updates.attach(row, row.job_id, found=True)

    def take(self, read: ReadAgain) -> None:
        """Take what reading a product again has shown."""
        row, fetched = read.row, read.fetched
        if read.files is None:
            self._settle_product(row, fetched, Standing.CHANGED)
            return
        fetched = self.keep(read)
        is_changed = any(file.is_changed for file in fetched.files)
        self._settle_product(row, fetched, Standing.CHANGED if is_changed else Standing.AS_LEFT)

    def keep(self, read: ReadAgain) -> FetchedProduct:
        """Record what reading a product again has shown, so that no later run has to read it; return it."""
        if read.files is None:
            return read.fetched
        fetched = replace(read.fetched, files=read.files)
        self._ledger.record_read(read.row.identity, read.row.job_id or 0, fetched)
        return fetched

    def finish(self, deadline: float) -> None:
        """Wait until `deadline` for what is being read to be put down."""
        self._workers.finish(deadline)

    def _recall_product(self, row: Row, fetched: FetchedProduct) -> None:
        """Look how a product stands in the directory that an earlier run has completed."""
        standing = standing_of(self._ledger.place.path, fetched.files)
        if standing is Standing.TOUCHED and self._is_to_be_read(row, fetched):
            row.check()
            self._workers.give(lambda: ReadAgain(row, fetched, read_again(fetched.files, self._stop)))
        else:
            self._settle_product(row, fetched, standing)

    def _settle_product(self, row: Row, fetched: FetchedProduct, standing: Standing) -> None:
        """Leave alone what an earlier run has completed, or fetch it again where there is a reason to."""
        assert row.job_id is not None
        is_changed = standing in (Standing.TOUCHED, Standing.CHANGED)
        if standing is not Standing.AS_LEFT and self._is_done_with(row, fetched):
            is_moved = standing is Standing.GONE
            self._updates.complete(row, fetched, from_before=True, is_changed=is_changed, is_moved=is_moved)
            return
        is_here_now = any(map(self._roots.is_visible, fetched.elsewhere))
        is_wanted_anew = standing is Standing.CHANGED and row.request.allow_resubmit
        if not (standing is Standing.GONE or is_here_now or is_wanted_anew):
            if is_changed or not self._has_to_unpack(row, fetched):
                self._updates.complete(row, fetched, from_before=True, is_changed=is_changed)
            return
        row.history.fetched = fetched
        if standing is Standing.GONE and self._is_fetching:
            place, what = row.name.place, was_complete(row, self._ledger)
            where = f"{place[0].upper()}{place[1:]}: " if place else ""
            again = "It will be downloaded again, if the service still has it."
            self._updates.notice(f"{where}{what} {again}", is_warning=False)
        self._updates.attach(row, row.job_id, found=True)

    def _is_to_be_read(self, row: Row, fetched: FetchedProduct) -> bool:
        """Say whether it matters if a product that was modified still has its bytes.

        What the user's command does to it is the command's own affair, also where it is to be run again.
        """
        if self._is_done_with(row, fetched) or not self._is_fetching:
            return False
        is_begun = self._ledger.command(row.job_id, fetched.fingerprint) is not None
        return row.request.allow_resubmit or self._updates.command is None or not is_begun

    def _is_done_with(self, row: Row, fetched: FetchedProduct) -> bool:
        """Say whether it does not matter any more what has become of a product.

        The user's command was successful for it, and may have moved it, say. But who names a job and no
        command wants its product.
        """
        is_wanted_again = isinstance(row.request, ListedJob) and self._updates.command is None
        return not is_wanted_again and self._updates.has_followed(row.job_id, fetched.fingerprint)

    def _has_to_unpack(self, row: Row, fetched: FetchedProduct) -> bool:
        """Have a product unpacked that was not, if that is wanted now; fail the row where it cannot be.

        What was refused once is not looked at again. Return whether it was one or the other.
        """
        if not self._unpack or not self._is_fetching or row.request.delivery in FOLDER_DELIVERIES:
            return False
        if fetched.refusal is not None:
            self._updates.fail(row, fetched.refusal)
            return True
        place = self._ledger.place
        if not has_archive(place, fetched):
            return False
        files = files_here(fetched, row.job_id or 0, row.request.obs_id)
        row.see_state(JobState.READY.label)
        row.make_ready(Product(files, bytes_to_come(files, place, unpack=True), is_here=True))
        return True

    def _rename(self, former: str, identity: str) -> None:
        """Keep what an earlier version of this program remembered of a row by another name."""
        known = self._ledger.row(former)
        if self._ledger.row(identity) != RowRecord():
            return
        if known.job_id is not None:
            self._ledger.record_job(identity, known.job_id)
        elif known.intended_after is not None:
            self._ledger.record_intent(identity, after=known.intended_after)
        if known.job_id is not None and known.fetched is not None:
            self._ledger.record_complete(identity, known.job_id, known.fetched)


def _recall_listed(row: Row, request: ListedJob) -> None:
    """Take up a listed job; where another job is known for the same, this one goes by its id."""
    if row.job_id not in (None, request.job_id):
        row.identity = f"job {request.job_id}"
    row.job_id = request.job_id
