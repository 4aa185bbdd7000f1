"""What happens to a row: its stage, the ledger and whoever listens are told together, in this one place."""

from __future__ import annotations

from typing import Callable

from mwa_client.batch.events import Complete, Event, Notice, RowFailed, StateChanged, Submitted
from mwa_client.batch.history import SUBMITTED
from mwa_client.batch.in_order import InOrder
from mwa_client.batch.ledger import Ledger
from mwa_client.batch.records import FetchedProduct
from mwa_client.batch.rows import Row, Rows, Stage
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

    Attributes
    ----------
    new_jobs : set of int
        The jobs that this run has submitted.
    bytes_here : int
        Bytes of the products that are complete.
    in_order : InOrder
        Tells what happens to rows that are being submitted at once in the order of the file.
    """

    def __init__(self, rows: Rows, ledger: Ledger, clock: Clock, listen: Callable[[Event], None]) -> None:
        self.rows = rows
        self.ledger = ledger
        self.clock = clock
        self.listen = listen
        self.new_jobs: set[int] = set()
        self.bytes_here = 0
        self.in_order: InOrder[Row, Event] = InOrder(listen)

    def notice(self, text: str, *, is_warning: bool = True) -> None:
        """Tell something that concerns no single row, or more than its state."""
        self.listen(Notice(text, is_warning=is_warning))

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
        self, row: Row, fetched: FetchedProduct, *, from_before: bool, is_changed: bool = False
    ) -> None:
        """End a row whose product is here, or at the place where it was asked for.

        Parameters
        ----------
        from_before : bool
            An earlier run has completed it.
        is_changed : bool
            Somebody has worked on it since.
        """
        directory = self.ledger.place.path
        result = Complete(row.name, fetched.files, from_before, fetched.elsewhere, directory, is_changed)
        row.complete(result)
        self.bytes_here += sum(file.size for file in fetched.files)
        self.tell(row, result)

    def fail(self, row: Row, error: MwaClientError) -> None:
        """End a row that cannot be completed."""
        result = RowFailed(row.name, error)
        row.fail(result)
        self.ledger.record_failed(row.identity, row.job_id, error)
        self.tell(row, result)
