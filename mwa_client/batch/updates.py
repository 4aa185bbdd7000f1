"""What happens to a row: its stage, the ledger and whoever listens are told together, in this one place."""

from __future__ import annotations

from typing import Callable

from mwa_client.asvo.job_filter import created_at
from mwa_client.batch.estimate import altogether, is_news
from mwa_client.batch.events import (
    Complete,
    Event,
    Expected,
    Notice,
    RowFailed,
    StateChanged,
    Submitted,
)
from mwa_client.batch.in_order import InOrder
from mwa_client.batch.ledger import Ledger
from mwa_client.batch.records import CommandRecord, FetchedProduct
from mwa_client.batch.rows import SUBMITTED, Row, Rows, Stage
from mwa_client.batch.shell import ShellCommand
from mwa_client.errors import MwaClientError
from mwa_client.timing import Clock
from mwa_client.transfer.events import TransferEvent


class RowUpdates:
    """Changes rows, records what must not be forgotten, and tells it.

    Parameters
    ----------
    rows : Rows
        All rows of the batch.
    ledger : Ledger
        What the download directory remembers.
    clock : Clock
        Time.
    listen : callable
        Is told every `Event`, from the loop's thread alone.
    command : ShellCommand, optional
        What is to be run for each product.
    is_fetching : bool
        Products are fetched in this run, and the command is run for them.

    Attributes
    ----------
    new_jobs : set of int
        The jobs that this run has submitted.
    bytes_here : int
        Bytes of the products that are complete.
    in_order : InOrder
        Tells what happens to rows that are being submitted at once in the order of the file.
    """

    def __init__(
        self,
        rows: Rows,
        ledger: Ledger,
        clock: Clock,
        listen: Callable[[Event], None],
        command: ShellCommand | None = None,
        *,
        is_fetching: bool = True,
    ) -> None:
        self.rows = rows
        self.ledger = ledger
        self.clock = clock
        self.listen = listen
        self.command = command if is_fetching else None
        self._is_fetching = is_fetching
        self.new_jobs: set[int] = set()
        self.bytes_here = 0
        self.in_order: InOrder[Row, Event] = InOrder(listen)
        self._holders: dict[int, Row] = {}
        self._is_change_told = False
        self._expected: Expected | None = None

    def notice(self, text: str, *, is_warning: bool = True) -> None:
        """Tell something that concerns no single row, or more than its state."""
        self.listen(Notice(text, is_warning=is_warning))

    def tell_expected(self) -> None:
        """Tell when the jobs that are waited for may be ready, if that is news."""
        now, waits = self.clock.now(), self.ledger.waits
        rows = [(row, row.job) for row in self.rows.at(Stage.WATCHED) if row.job is not None]
        starts = [job.starts_at for _, job in rows]
        ready = [
            waits.ready_at(row.identity, now, made_at=created_at(job), starts_at=job.starts_at)
            for row, job in rows
        ]
        expected = altogether(ready, now, starts)
        if is_news(expected, self._expected, now):
            self._expected = expected
            self.listen(expected)

    def tell(self, row: Row, event: Event) -> None:
        """Tell what happens to a row; rows that are being submitted wait for their turn."""
        self.in_order.tell(row, event)

    def tell_of_transfer(self, event: TransferEvent) -> None:
        """Tell how a download gets on, as something that happens to its row."""
        for row in self.rows.at(Stage.DOWNLOADING):
            if row.job_id == event.job_id:
                self.tell(row, event)
                return
        self.listen(event)

    def holder_of(self, job_id: int) -> Row | None:
        """Return the row that was given this job in this run, and has it still."""
        row = self._holders.get(job_id)
        return row if row is not None and row.job_id == job_id else None

    def attach(self, row: Row, job_id: int, *, found: bool, is_listed: bool = False) -> None:
        """Give a row its job.

        Parameters
        ----------
        found : bool
            The job was there already; it was not submitted just now.
        is_listed : bool
            A listing has the job.
        """
        self.ledger.record_job(row.identity, job_id, is_listed=is_listed)
        row.attach(job_id, self.clock.monotonic())
        self._holders[job_id] = row
        if not found:
            self.new_jobs.add(job_id)
        row.see_state(SUBMITTED)  # What the service does with it, the service says.
        self.tell(row, Submitted(row.name, found))

    def show_state(self, row: Row, label: str) -> None:
        """Tell the state of a row's job, if it is another than before."""
        if row.label != label:
            row.see_state(label)
            self.tell(row, StateChanged(row.name, label))

    def complete(
        self,
        row: Row,
        fetched: FetchedProduct,
        *,
        from_before: bool,
        is_changed: bool = False,
        is_moved: bool = False,
    ) -> None:
        """End a row whose product is here, or have the command run for it first.

        Parameters
        ----------
        from_before : bool
            An earlier run has completed it.
        is_changed : bool
            Somebody has worked on it since.
        is_moved : bool
            It is not here any more, and need not be.
        """
        files, elsewhere, directory = fetched.files, fetched.elsewhere, self.ledger.place.path
        about = (row.name, files, from_before, elsewhere, directory, is_changed, is_moved)
        result = Complete(*about, fetched.fingerprint)
        if self.is_to_follow(row, fetched):
            row.arrive(result)
            self.ledger.record_waiting(row.identity, row.job_id)
        else:
            self._end(row, result, fetched.fingerprint)
            self._tell_change_of_command(row, fetched.fingerprint)
        self.bytes_here += 0 if is_moved else sum(file.size for file in fetched.files)
        self.tell(row, result)

    def finish(self, row: Row) -> None:
        """End a row for whose product the command has been run."""
        assert row.arrived is not None
        self._end(row, row.arrived, row.arrived.fingerprint)

    def known_command(self, row: Row) -> CommandRecord | None:
        """Return what is recorded about the command for the product of a row that has arrived."""
        return None if row.arrived is None else self.ledger.command(row.job_id, row.arrived.fingerprint)

    def is_to_follow(self, row: Row, fetched: FetchedProduct) -> bool:
        """Say whether the command is still to be run for a product."""
        return self.command is not None and not self.has_followed(row.job_id, fetched.fingerprint)

    def has_followed(self, job_id: int | None, fingerprint: str) -> bool:
        """Say whether a command has been run for a product and was successful: then that is done for good."""
        known = self.ledger.command(job_id, fingerprint)
        return known is not None and known.status == 0

    def _end(self, row: Row, result: Complete, fingerprint: str) -> None:
        """End a row that is complete; a run that only submits or waits does not say so of earlier runs."""
        row.complete(result)
        if self._is_fetching:
            has_followed = self.has_followed(row.job_id, fingerprint)
            self.ledger.record_settled(row.identity, row.job_id, has_followed=has_followed)

    def _tell_change_of_command(self, row: Row, fingerprint: str) -> None:
        """Say once that products have had another command: it is not for this program to repeat them."""
        known = self.ledger.command(row.job_id, fingerprint)
        if self.command is None or known is None or known.digest == self.command.digest:
            return
        if not self._is_change_told:
            self._is_change_told = True
            self.notice(
                "The command of --then has changed since earlier runs. Products for which it "
                "succeeded before are left as they are."
            )

    def fail(self, row: Row, error: MwaClientError) -> None:
        """End a row that cannot be completed."""
        result = RowFailed(row.name, error)
        row.fail(result)
        self.ledger.record_failed(row.identity, row.job_id, error)
        self.tell(row, result)
