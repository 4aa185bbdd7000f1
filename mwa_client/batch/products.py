"""The product of a ready job: under which names it is to stand, and how each file gets there."""

from __future__ import annotations

import stat
import threading
from collections.abc import Iterable, Sequence
from typing import Callable

from mwa_client.asvo.job import Delivery, Job, ProductFile
from mwa_client.asvo.session import Session
from mwa_client.batch.ledger import FetchedProduct
from mwa_client.directory.disk import tree_size
from mwa_client.errors import JobFailed, TransferFailed
from mwa_client.timing import Clock
from mwa_client.transfer import folder
from mwa_client.transfer.connections import ConnectionBudget
from mwa_client.transfer.delivered import DeliveryRoots, is_readable
from mwa_client.transfer.download import TransferEvent, fetch, safe_name
from mwa_client.transfer.files import DownloadDirectory, FetchedFile
from mwa_client.transfer.part_file import ExpectedFile, bytes_in_part

FOLDER_DELIVERIES = tuple(delivery.value for delivery in Delivery if delivery.is_folder)


def name_files(
    job: Job, place: DownloadDirectory, asked: str, roots: DeliveryRoots
) -> tuple[tuple[ExpectedFile, ProductFile], ...]:
    """Return each file of a ready job with what it must be under which name in the directory.

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
        claimed = place.names.claim(name, job.job_id)
        while claimed in named:
            claimed = place.names.claim_another(claimed, job.job_id)
        # Nothing at all, and no SHA-1 of it either: more likely that nobody knows the size. Ask the server.
        size = file.size if file.size or file.sha1 else None
        named[claimed] = ExpectedFile(job.job_id, claimed, size, file.sha1, job.obs_id), file
    return tuple(named.values())


def _different_names(job: Job) -> list[str]:
    """Return a safe name for each file of a product, of which no two are the same, in whatever case."""
    names: list[str] = []
    taken: set[str] = set()
    spare = len(job.product)  # It only grows: a product can have many files of one name.
    for number, file in enumerate(job.product, start=1):
        name = safe_name(file.name, job.obs_id, job.job_id)
        if file.delivery.is_folder and job.obs_id is not None and name == str(job.job_id):
            name = f"{job.obs_id}_{name}"
        candidate = name
        # Nor the name that another one gets where its own stands in the directory already.
        while taken & (both := {candidate.casefold(), f"{job.job_id}_{candidate}".casefold()}):
            candidate, number = f"{number}_{name}", (spare := spare + 1)
        taken |= both
        names.append(candidate)
    return names


def _check_path(file: ProductFile, asked: str, place: DownloadDirectory, roots: DeliveryRoots) -> None:
    """Refuse a path on this host that nobody has asked for, or where no delivery can be."""
    if asked not in FOLDER_DELIVERIES:
        raise JobFailed(
            f"The service says that the product is at {file.path}, but delivery={asked} was asked for.",
            "Nothing was copied. Tell the archive's help desk.",
        )
    roots.check(file.path, place.directory)


def bytes_to_come(files: Iterable[tuple[ExpectedFile, ProductFile]], place: DownloadDirectory) -> int:
    """Return for how many bytes these files need room in the directory, as far as their sizes are known."""
    return sum(
        max((wanted.size or 0) - _bytes_there(wanted, place), 0)
        for wanted, file in files
        if not file.delivery.is_folder or is_readable(file.path)
    )


def _bytes_there(wanted: ExpectedFile, place: DownloadDirectory) -> int:
    """Return how much of a file or folder an earlier run has left, in the part or under the final name."""
    part, final = place.part(wanted.name), place.directory / wanted.name
    try:
        if part.exists():
            return bytes_in_part(part) if part.is_file() else tree_size(part)
        state = final.lstat()  # It may be the user's, and a link to anything.
    except OSError:
        return 0
    if stat.S_ISDIR(state.st_mode):
        return sum(file.size for file in place.names.made_by(wanted.job_id, wanted.name))
    # A smaller file that an older client has left there stays until it is replaced.
    return state.st_size if stat.S_ISREG(state.st_mode) and state.st_size == wanted.size else 0


def fetch_all(
    job: Job,
    files: Sequence[tuple[ExpectedFile, ProductFile]],
    session: Session,
    place: DownloadDirectory,
    clock: Clock,
    stop: threading.Event,
    listen: Callable[[TransferEvent], None],
    connections: ConnectionBudget,
    roots: DeliveryRoots,
) -> FetchedProduct:
    """Bring the files of a ready job into the directory, each the way that its delivery asks for.

    Parameters
    ----------
    files : sequence of (ExpectedFile, ProductFile)
        As `name_files` returns them.
    place, clock, stop, listen, connections
        As for `mwa_client.transfer.download.fetch`.
    roots : DeliveryRoots
        As for `name_files`.

    Returns
    -------
    FetchedProduct
        The files, and the places of what was delivered to a file system that this host cannot see.

    Raises
    ------
    JobFailed, DiskFull, DirectoryUnusable, Stopped
        As `mwa_client.transfer.download.fetch`.
    TransferFailed
        As well: a delivery is not where this host would see it.
    """
    fetched: list[FetchedFile] = []
    elsewhere: list[str] = []
    for wanted, file in files:
        if not file.delivery.is_folder:
            source = session.source(job.job_id, file)
            fetched.append(fetch(wanted, source, place, clock, stop, listen, connections))
        elif roots.is_visible(file.path):
            # Once more: others can write there, and hours may have passed since it was looked at.
            delivered = roots.check(file.path, place.directory)
            fetched += folder.copy(wanted, delivered, place, clock, stop, listen)
        elif roots.should_be_visible(file.path):
            raise TransferFailed(
                f"{file.path} is not there, or not for you to read, though this host has the folder above.",
                "It may have been purged. Look at the delivery, and tell the archive's help desk.",
            )
        else:
            elsewhere.append(file.path)
    return FetchedProduct(tuple(fetched), tuple(elsewhere))
