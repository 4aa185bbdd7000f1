"""The product of a ready job: the name of each file in the download directory, and how it is fetched."""

from __future__ import annotations

import stat
from dataclasses import field
from typing import Callable

from mwa_client.asvo.job import Delivery, Job, ProductFile
from mwa_client.asvo.session import Session
from mwa_client.batch.records import FetchedProduct, ProductFiles, RefusedArchive
from mwa_client.batch.unpacking import (
    NothingToFetch,
    fetch_and_unpack,
    is_unpackable,
    missing_as_file,
    missing_of_unpacked,
)
from mwa_client.directory.trees import tree_size
from mwa_client.errors import JobFailed, TransferFailed
from mwa_client.light_dataclasses import dataclass
from mwa_client.transfer.common import Transfers
from mwa_client.transfer.delivered import DeliveryRoots, is_readable
from mwa_client.transfer.download import Downloader
from mwa_client.transfer.files import DownloadDirectory, ExpectedFile, FetchedFile
from mwa_client.transfer.folder import FolderCopier
from mwa_client.transfer.names import safe_name
from mwa_client.transfer.part_file import bytes_in_part
from mwa_client.transfer.ranges import Source
from mwa_client.transfer.unpacking.members import UnpackRefused

FOLDER_DELIVERIES = tuple(delivery.value for delivery in Delivery if delivery.is_folder)


def name_files(
    job: Job, place: DownloadDirectory, asked: str, roots: DeliveryRoots
) -> tuple[tuple[ExpectedFile, ProductFile], ...]:
    """Return each file of a ready job, with its name in the directory and the size and SHA-1 it must have.

    Parameters
    ----------
    job : Job
        The job.
    place : DownloadDirectory
        Where its files go.
    asked : str
        The delivery that was asked for: ``acacia``, ``scratch``, ``dug``.
    roots : DeliveryRoots
        Where deliveries to file systems may be.

    Raises
    ------
    JobFailed
        The service names a path of this host that cannot be the product.
    """
    named: dict[str, tuple[ExpectedFile, ProductFile]] = {}
    for file, name in zip(job.product, _different_names(job)):
        if file.delivery.is_folder:
            _check_path(file, asked, place, roots)
        claimed = place.names.claim(name, job.job_id, job.obs_id)
        while claimed in named:
            claimed = place.names.claim_another(claimed, job.job_id)
        # A size of 0 without a SHA-1 most likely means that the size is unknown: the server will tell it.
        size = file.size if file.size or file.sha1 else None
        named[claimed] = ExpectedFile(job.job_id, claimed, size, file.sha1, job.obs_id), file
    return tuple(named.values())


def _different_names(job: Job) -> list[str]:
    """Return a safe name for each file of a product; they differ even if case is ignored."""
    names: list[str] = []
    taken: set[str] = set()
    spare = len(job.product)  # Counts up, because many files of a product can have one name.
    for number, file in enumerate(job.product, start=1):
        name = safe_name(file.name, job.obs_id, job.job_id)
        if file.delivery.is_folder and job.obs_id is not None and name == str(job.job_id):
            name = f"{job.obs_id}_{name}"
        candidate = name
        # A file whose name is taken in the directory gets its job id as a prefix: keep that name free, too.
        while taken & (both := {candidate.casefold(), f"{job.job_id}_{candidate}".casefold()}):
            candidate, number = f"{number}_{name}", (spare := spare + 1)
        taken |= both
        names.append(candidate)
    return names


def _check_path(file: ProductFile, asked: str, place: DownloadDirectory, roots: DeliveryRoots) -> None:
    """Refuse a path on this host if no delivery to a file system was asked for, or if none can be there."""
    if asked not in FOLDER_DELIVERIES:
        raise JobFailed(
            f"The service says that the product is at {file.path}, but delivery={asked} was asked for.",
            "Nothing was copied. Tell the archive's help desk.",
        )
    roots.check(file.path, place.path)


def bytes_to_come(files: ProductFiles, place: DownloadDirectory, *, unpack: bool = False) -> int:
    """Return for how many bytes there must still be room for these files, as far as their sizes are known.

    Parameters
    ----------
    unpack : bool
        Whether they are to be unpacked.
    """
    to_come = 0
    for wanted, file in files:
        missing = max((wanted.size or 0) - _bytes_there(wanted, place), 0)
        if file.delivery.is_folder:
            to_come += missing if is_readable(file.path) else 0
        elif not is_unpackable(wanted.name):
            to_come += missing
        elif unpack:
            to_come += missing_of_unpacked(wanted, place, missing)
        else:
            to_come += missing_as_file(wanted, place, missing)
    return to_come


def _bytes_there(wanted: ExpectedFile, place: DownloadDirectory) -> int:
    """Return how many bytes of a file or folder are there already, as a part or under its final name."""
    part, final = place.part(wanted.name), place.path / wanted.name
    try:
        if part.exists():
            return bytes_in_part(part) if part.is_file() else tree_size(part)
        state = final.lstat()  # Not stat: it may be the user's link to anything.
    except OSError:
        return 0
    if stat.S_ISDIR(state.st_mode):
        return sum(file.size for file in place.names.made_by(wanted.job_id, wanted.name))
    # A file of another size needs its room until it is replaced, so it saves none.
    return state.st_size if stat.S_ISREG(state.st_mode) and state.st_size == wanted.size else 0


@dataclass(frozen=True)
class ProductFetcher(Transfers):
    """Fetches the products of ready jobs into the directory; the other parameters are those of `Transfers`.

    Attributes
    ----------
    roots : DeliveryRoots
        As for `name_files`.
    unpack : bool
        Whether tars and zips become folders.
    """

    roots: DeliveryRoots = field(default_factory=DeliveryRoots)
    unpack: bool = False

    def fetch(
        self, job_id: int, files: ProductFiles, session: Callable[[], Session] | None
    ) -> FetchedProduct:
        """Fetch the files of a job: download them, or copy what was delivered to a disk.

        Parameters
        ----------
        files : sequence of (ExpectedFile, ProductFile)
            As `name_files` returns them.
        session : callable or None
            Returns the session with the service; None where all is in the directory, and is to be unpacked.

        Returns
        -------
        FetchedProduct
            The files, and the paths of what was delivered to a file system that this host cannot see.

        Raises
        ------
        JobFailed, DiskFull, DirectoryUnusable, Stopped
            As `mwa_client.transfer.download.Downloader.fetch`.
        TransferFailed
            As well: a delivery is not where this host would see it.
        """
        means = (self.directory, self.clock, self.stop, self.listen, self.connections)
        downloader, copier = Downloader(*means), FolderCopier(*means[:-1])
        fetched: list[FetchedFile] = []
        elsewhere: list[str] = []
        refused: list[RefusedArchive] = []
        for wanted, file in files:
            if not file.delivery.is_folder:
                source = NothingToFetch(wanted.name) if session is None else session().source(job_id, file)
                try:
                    fetched.append(self._fetch_file(downloader, wanted, source))
                except UnpackRefused as error:
                    fetched.append(error.kept)
                    refused.append(RefusedArchive(error.kept.path.name, error.member, error.why))
            elif (copied := self._copy_delivery(copier, wanted, file)) is not None:
                fetched += copied
            else:
                elsewhere.append(file.path)
        return FetchedProduct(tuple(fetched), tuple(elsewhere), tuple(refused))

    def _copy_delivery(
        self, copier: FolderCopier, wanted: ExpectedFile, file: ProductFile
    ) -> tuple[FetchedFile, ...] | None:
        """Copy what was delivered to a disk; return None where this host cannot see it."""
        if self.roots.is_visible(file.path):
            # Checked again, because others can write there and the first check may be hours old.
            delivered = self.roots.check(file.path, self.directory.path)
            return copier.copy(wanted, delivered)
        if self.roots.should_be_visible(file.path):
            raise TransferFailed(
                f"{file.path} does not exist, or you may not read it, though this host has its folder.",
                "It may have been purged. Check the delivery, and tell the archive's help desk.",
            )
        return None

    def _fetch_file(self, downloader: Downloader, wanted: ExpectedFile, source: Source) -> FetchedFile:
        if self.unpack:
            return fetch_and_unpack(downloader, wanted, source)
        return downloader.fetch(wanted, source)
