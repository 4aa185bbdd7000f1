"""Products that are unpacked, as the batch sees them: which ones, how, and how much room that takes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from mwa_client.asvo.job import ProductFile
from mwa_client.batch.records import FetchedProduct, ProductFiles
from mwa_client.errors import TransferFailed
from mwa_client.transfer.download import Downloader
from mwa_client.transfer.events import FileNotice
from mwa_client.transfer.files import DownloadDirectory, ExpectedFile, FetchedFile, FetchedFolder
from mwa_client.transfer.names import folder_name, is_tar_name
from mwa_client.transfer.ranges import Source
from mwa_client.transfer.standing import Standing, standing_of_file
from mwa_client.transfer.unpacking.kept import read_unpack_note, unpack_place
from mwa_client.transfer.unpacking.unpacked import bytes_in_unpacking, finish_unpacked, remove_archive

# What reads archives is imported where it is needed: most runs unpack nothing.


class NothingToFetch:
    """Where an archive comes from that must be in the directory already: from nowhere else."""

    def __init__(self, name: str) -> None:
        self._name = name

    def get(self, headers: Mapping[str, str]) -> NoReturn:
        """Say that it has gone."""
        raise _moved_away(self._name)


def prepare_unpacking(place: DownloadDirectory, *, unpack: bool) -> None:
    """Import what unpacks, if a download may need it: later there may be no descriptor left to open it."""
    if unpack or any(place.state_dir.glob("*.unpack")):
        import_module("mwa_client.transfer.unpacking.to_folder")
        import_module("mwa_client.transfer.unpacking.unzip")


def is_unpackable(name: str) -> bool:
    """Say whether a product of this name is unpacked where that is asked for."""
    return folder_name(name) != name


def has_archive(place: DownloadDirectory, fetched: FetchedProduct) -> bool:
    """Say whether a product that is here could be unpacked, and has not been.

    One that is more than single files has been copied from a folder, and is left as it was there.
    """
    if any(file.path.parent != place.path for file in fetched.files):
        return False
    files = (file for file in fetched.files if not isinstance(file, FetchedFolder))
    return any(is_unpackable(file.path.name) and _is_archive(file.path) for file in files)


def _is_archive(path: Path) -> bool:
    from mwa_client.transfer.unpacking.tar_stream import BLOCK, begins_as_tar
    from mwa_client.transfer.unpacking.unzip import beginning_of, is_zip

    return begins_as_tar(beginning_of(path, BLOCK)) or is_zip(path)


def files_here(fetched: FetchedProduct, job_id: int, obs_id: int | None) -> ProductFiles:
    """Return a product that is in the directory as it would be fetched: what is here is not fetched again."""
    return tuple(
        (
            ExpectedFile(
                job_id,
                file.path.name,
                file.size,
                file.sha1 if file.verified else None,
                obs_id,
            ),
            ProductFile(file.path.name, file.size, file.sha1),
        )
        for file in fetched.files
    )


def missing_of_unpacked(wanted: ExpectedFile, place: DownloadDirectory, missing: int) -> int:
    """Return for how many bytes a product that is to be unpacked still needs room.

    Parameters
    ----------
    missing : int
        How many bytes of the archive are not here as a file. One that is, or that must be before it can be
        unpacked, as a zip must, stays until that is done.
    """
    size, here = wanted.size or 0, _bytes_that_stay(wanted, place)
    if here is not None:
        return max(size - here, 0)
    comes_as_file = not is_tar_name(wanted.name) or missing < size
    return max(size - bytes_in_unpacking(place, wanted.name), 0) + (missing if comes_as_file else 0)


def missing_as_file(wanted: ExpectedFile, place: DownloadDirectory, missing: int) -> int:
    """Return for how many bytes a product that stays a file, and may be half unpacked, still needs room.

    Parameters
    ----------
    missing : int
        How many bytes of it are not here as a file.
    """
    here = _bytes_that_stay(wanted, place)
    if here is not None:
        return max((wanted.size or 0) - here, 0)
    return max(missing - bytes_in_unpacking(place, wanted.name), 0)


def _bytes_that_stay(wanted: ExpectedFile, place: DownloadDirectory) -> int | None:
    """Return how many bytes are here of a product that was unpacked to its end, or is made a file again.

    A member loses what the file has of it: together they have as many bytes as before.
    """
    unpacking = unpack_place(place, wanted.name)
    note = read_unpack_note(unpacking)
    if note is not None and note.final is not None and not os.path.lexists(unpacking.members):
        return wanted.size or 0  # It was killed when all but the ledger's line was done.
    return note.synced if note is not None and note.is_repacking else None


def fetch_and_unpack(downloader: Downloader, wanted: ExpectedFile, source: Source) -> FetchedFile:
    """Bring a product into the directory as a folder; one that cannot be unpacked as a file.

    Raises
    ------
    UnpackRefused
        It has a member that is not unpacked; it is there as a file.
    TransferFailed, ProductGone, VerificationFailed, DiskFull, DirectoryUnusable, Stopped
        As `mwa_client.transfer.download.Downloader.fetch`.
    """
    from mwa_client.transfer.unpacking.unzip import is_zip, unzip

    present = _folder_that_is_here(downloader.directory, wanted)
    if present is not None:
        return present
    fetched = downloader.fetch(wanted, source, unpack=True)
    if not isinstance(fetched, FetchedFolder) and is_unpackable(fetched.path.name):
        if is_zip(fetched.path):
            fetched = unzip(fetched, wanted, downloader)
        elif not is_tar_name(fetched.path.name) and _is_archive(fetched.path):
            fetched = downloader.unpack_tar(fetched, wanted)  # It is called a zip.
    if isinstance(fetched, FetchedFolder):
        # A kill may have come between the folder's name and this.
        remove_archive(downloader.directory, wanted)
    elif standing_of_file(fetched) is Standing.GONE:
        raise _moved_away(fetched.path.name)
    else:
        text = f"{fetched.path.name} is neither a tar nor a zip that can be unpacked; it stays as it is."
        downloader.listen(FileNotice(wanted.job_id, wanted.name, text))
    return fetched


def _moved_away(name: str) -> TransferFailed:
    return TransferFailed(
        f"{name} was here to be unpacked, and has been changed or moved away meanwhile.",
        "Run the same command again.",
    )


def finish_unpacking(place: DownloadDirectory, fetched: FetchedProduct) -> None:
    """Remove what was kept of unpacked products, once the ledger says that they are complete."""
    for file in fetched.files:
        if isinstance(file, FetchedFolder):
            finish_unpacked(place, file)


def _folder_that_is_here(place: DownloadDirectory, wanted: ExpectedFile) -> FetchedFolder | None:
    """Return the folder that a product has become before, where it is as we left it."""
    if os.path.lexists(unpack_place(place, wanted.name).path):
        return None  # That was not the end of it: its files may not be in the list of checksums.
    for name in (folder_name(wanted.name), f"{wanted.job_id}_{folder_name(wanted.name)}"):
        for made in place.names.made_by(wanted.job_id, name):
            if (
                isinstance(made, FetchedFolder)
                and wanted.sha1 in (None, made.sha1)
                and standing_of_file(made) is Standing.AS_LEFT
            ):
                return made
    return None
