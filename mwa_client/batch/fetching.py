"""Downloads: which ready rows are fetched next, whether there is room, and what came of each."""

from __future__ import annotations

import queue
import threading
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any, Callable

from mwa_client.asvo.session import Session
from mwa_client.batch.events import Downloading
from mwa_client.batch.open_files import OpenFiles
from mwa_client.batch.products import ProductFetcher, bytes_to_come
from mwa_client.batch.records import FetchedProduct
from mwa_client.batch.rows import Row, Stage
from mwa_client.batch.unpacking import finish_unpacking, prepare_unpacking
from mwa_client.batch.updates import RowUpdates
from mwa_client.batch.watching import Watching
from mwa_client.batch.workers import Workers
from mwa_client.errors import (
    DirectoryBusy,
    DiskFull,
    InternalError,
    LoginRefused,
    MwaClientError,
    OutOfDescriptors,
    ProductGone,
    Stopped,
)
from mwa_client.formatting import format_size
from mwa_client.light_dataclasses import dataclass
from mwa_client.transfer.connections import ConnectionBudget
from mwa_client.transfer.delivered import DeliveryRoots


@dataclass(frozen=True)
class DownloadEnded:
    """What a downloader has to tell."""

    row: Row
    outcome: FetchedProduct | MwaClientError


class Fetching:
    """Fetches the products of the rows that are ready, a few at a time.

    Parameters
    ----------
    updates : RowUpdates
        Changes the rows.
    session : callable
        Returns the session with the service.
    watching : Watching
        Looks at a job again whose product is gone.
    open_files : OpenFiles
        How many downloads at a time.
    connections : int
        The most connections to fetch products with, over all downloads.
    workers : Workers
        They download.
    roots : DeliveryRoots
        Where deliveries to file systems may be copied from.
    free_bytes : callable
        Says for how many bytes there is room in a directory.
    is_wanted : bool
        False: no product is fetched in this run.
    unpack : bool
        Tars and zips become folders.
    inbox : queue.Queue
        Where each `DownloadEnded` goes, and what the downloads tell on their way.
    stop : threading.Event
        Set when the work is to stop.

    Attributes
    ----------
    disk_full : DiskFull or None
        Why not all that is ready is fetched in this run.
    """

    def __init__(
        self,
        updates: RowUpdates,
        session: Callable[[], Session],
        watching: Watching,
        open_files: OpenFiles,
        connections: int,
        workers: Workers,
        roots: DeliveryRoots,
        free_bytes: Callable[[Path], float],
        *,
        is_wanted: bool,
        unpack: bool,
        inbox: queue.Queue[Any],
        stop: threading.Event,
    ) -> None:
        self.disk_full: DiskFull | None = None
        self._updates = updates
        self._session = session
        self._watching = watching
        self._open_files = open_files
        self._workers = workers
        self._roots = roots
        self._free_bytes = free_bytes
        self._can_begin = is_wanted
        self._unpack = unpack
        self._inbox = inbox
        self._stop = stop
        self._connections = ConnectionBudget(connections)
        prepare_unpacking(updates.ledger.place, unpack=unpack)

    @property
    def has_startable(self) -> bool:
        """Whether a ready row could be fetched now."""
        return self._can_fetch() and bool(self._startable(self._room(), 1))

    def start(self) -> None:
        """Begin with as many downloads as may run at a time; say once where there is no room for all."""
        slots = self._open_files.parallel - self._updates.rows.count(Stage.DOWNLOADING)
        if slots <= 0 or not self._can_fetch():
            return
        room, rows = self._room(), self._updates.rows
        startable = self._startable(room, slots)
        if rows.to_come > room:
            directory, ready = self._updates.ledger.place.path, rows.count(Stage.READY)
            more = " Downloading what fits, the soonest to expire first." if startable else ""
            self._note_disk_full(_no_room(directory, ready, rows.to_come, max(room, 0.0)), more)
        for row in startable:
            self._workers.give(self._download(row))

    def take(self, ended: DownloadEnded) -> None:
        """Bring a row to where its download has led.

        Raises
        ------
        LoginRefused, DirectoryBusy
            Nothing more can be fetched.
        """
        row, outcome = ended.row, ended.outcome
        if isinstance(outcome, FetchedProduct):
            self._open_files.note_progress()
            self._take_product(row, outcome)
        elif isinstance(outcome, DiskFull):
            # No room or no quota, whatever the disk says: nothing more is begun.
            row.put_back()
            self._can_begin = False
            self._note_disk_full(outcome)
        elif isinstance(outcome, OutOfDescriptors):
            row.put_back()
            if self._open_files.do_with_less(outcome):
                self._connections = ConnectionBudget(1)
        elif isinstance(outcome, (LoginRefused, DirectoryBusy)):
            raise outcome
        elif isinstance(outcome, ProductGone):
            # Perhaps its job has expired meanwhile: look before anything is said or made anew.
            row.look_again(outcome)
            self._watching.look_again()
        else:
            self._updates.fail(row, outcome)

    def _take_product(self, row: Row, product: FetchedProduct) -> None:
        """Record a product that has been fetched, and end its row, or have the command run for it first."""
        ledger, job_id = self._updates.ledger, row.job_id or 0
        before = ledger.fetched(row.identity, job_id)
        if before is not None and (before.elsewhere or before.known_as):
            product = replace(product, known_as=before.fingerprint)  # Its command has been run there.
        waits = product.refusal is None and self._updates.is_to_follow(row, product)
        self._open_files.insist(lambda: ledger.record_complete(row.identity, job_id, product, waits=waits))
        finish_unpacking(ledger.place, product)
        if product.refusal is not None:
            self._updates.fail(row, product.refusal)
        else:
            self._updates.complete(row, product, from_before=False)

    def disk_full_now(self) -> DiskFull:
        """Return why products are left to the next run, in the numbers of this moment.

        Since it was first noted, much may have been fetched, and others use the disk as well.
        """
        assert self.disk_full is not None
        directory, rows = self._updates.ledger.place.path, self._updates.rows
        try:
            room = max(self._room(), 0.0)
        except MwaClientError:
            return self.disk_full
        if rows.to_come > room:
            return _no_room(directory, rows.count(Stage.READY), rows.to_come, room)
        was = f"There was no room in {directory} for a while." if self._can_begin else self.disk_full.what
        now = f" Now {format_size(int(room))} is free." if isfinite(room) else ""
        return DiskFull(f"{was}{now}", self.disk_full.remedy)

    def finish(self, deadline: float) -> None:
        """Wait until `deadline` for downloads to put down what they hold."""
        self._workers.finish(deadline)

    # --- Which rows -----------------------------------------------------------------------------------

    def _can_fetch(self) -> bool:
        return self._can_begin and self._updates.rows.count(Stage.READY) > 0

    def _room(self) -> float:
        """Return for how many bytes more there is room, when all that is being fetched is there."""
        place, running = self._updates.ledger.place, self._updates.rows.at(Stage.DOWNLOADING)
        products = [row.product.files for row in running if row.product is not None]
        to_come = sum(bytes_to_come(files, place, unpack=self._unpack) for files in products)
        return self._free_bytes(place.path) - to_come

    def _startable(self, room: float, most: int) -> list[Row]:
        """Return the ready rows that there is room for: if not for all, those that expire first."""
        rows = self._updates.rows
        if rows.to_come <= room:
            return rows.first_at(Stage.READY, most)
        fitting: list[Row] = []
        for row in sorted(rows.at(Stage.READY), key=lambda row: row.expires_at):
            if row.to_come <= room and len(fitting) < most:
                room -= row.to_come
                fitting.append(row)
        return fitting

    def _note_disk_full(self, error: DiskFull, more: str = "") -> None:
        if self.disk_full is None:
            self.disk_full = error
            self._updates.notice(error.what + more)

    # --- One download ---------------------------------------------------------------------------------

    def _download(self, row: Row) -> Callable[[], DownloadEnded | None]:
        """Take the step, and return what a downloader has to do."""
        job_id, product, place = row.job_id, row.product, self._updates.ledger.place
        assert job_id is not None and product is not None
        for wanted, file in product.files:
            if not file.delivery.is_folder:
                event = Downloading(row.name, wanted.name, wanted.size, is_here=product.is_here)
                self._updates.tell(row, event)
        row.download()
        files = [wanted for wanted, _ in product.files]
        self._updates.ledger.record_downloading(row.identity, job_id, files, product.to_come)
        means = (place, self._updates.clock, self._stop, self._inbox.put, self._connections)
        fetcher = ProductFetcher(*means, self._roots, self._unpack)
        session = None if product.is_here else self._session
        if session is not None:
            session()  # Opened here: the workers share it.

        def download() -> DownloadEnded | None:
            try:
                return DownloadEnded(row, fetcher.fetch(job_id, product.files, session))
            except Stopped:
                return None
            except MwaClientError as error:
                return DownloadEnded(row, error)
            except Exception as error:
                return DownloadEnded(row, InternalError.of(error))

        return download


def _no_room(directory: Path, number: int, needed: float, free: float) -> DiskFull:
    words = [format_size(int(size)) for size in (needed, free, needed - free)]
    ready = "a product that is ready needs" if number == 1 else f"{number} products that are ready need"
    return DiskFull(
        f"No room in {directory}: {ready} {words[0]}, and {words[1]} is free: {words[2]} too little.",
        "Make room, then run the same command again; what was downloaded is kept.",
    )
