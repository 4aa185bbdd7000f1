"""A product becomes a verified folder: unpacked while it arrives, or from the archive that stands there."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from mwa_client.directory.disk import disk_errors
from mwa_client.errors import VerificationFailed
from mwa_client.transfer import ranges
from mwa_client.transfer.common import ProgressReporter, Transfers
from mwa_client.transfer.files import DownloadDirectory, ExpectedFile, FetchedFile, FetchedFolder
from mwa_client.transfer.part_file import bytes_in_part
from mwa_client.transfer.part_filler import PartFiller
from mwa_client.transfer.part_hash import PartBroken
from mwa_client.transfer.unpacking.kept import read_unpack_note, unpack_place
from mwa_client.transfer.unpacking.members import MemberRefused
from mwa_client.transfer.unpacking.repack import begin_repacking, repack
from mwa_client.transfer.unpacking.unpack_part import UnpackPart, open_unpacking
from mwa_client.transfer.unpacking.unpacked import changed_since, give_folder_name, remove_unpacking

READ_BLOCK_SIZE = 1 << 20
"""Bytes of an archive on the disk that are read at a time."""


def fetch_unpacked(
    transfers: Transfers, expected: ExpectedFile, source: ranges.Source
) -> FetchedFolder | MemberRefused:
    """Fetch a tar and unpack it on the way.

    Returns
    -------
    FetchedFolder or MemberRefused
        The folder; or why there is none. Then what has come is a part file, from which an ordinary download
        goes on.

    Raises
    ------
    TransferFailed, ProductGone, VerificationFailed, DiskFull, DirectoryUnusable, Stopped
        As for `mwa_client.transfer.download.Downloader.fetch`.
    """
    filler = PartFiller(transfers, expected, source)
    try:
        return _fetch_once(transfers, expected, filler)
    except (VerificationFailed, PartBroken) as error:
        # It was thrown away; once more from zero, in case it was damaged on the way or on the disk.
        filler.tell_of_second_try(error)
        return _fetch_once(transfers, expected, filler)


def _fetch_once(
    transfers: Transfers, expected: ExpectedFile, filler: PartFiller
) -> FetchedFolder | MemberRefused:
    directory = transfers.directory
    place = unpack_place(directory, expected.name)
    try:
        with open_unpacking(place, expected, transfers.stop, directory.guard) as part:
            try:
                sha1 = filler.complete(part)
                archive = FetchedFile(
                    place.path, part.length, sha1, expected.sha1 is not None, filler.received
                )
                return _finish(part, expected, archive, transfers)
            except MemberRefused:
                note = begin_repacking(part)
                raise
    except MemberRefused as error:
        repack(place, note, expected, transfers)
        return error


def unpack_tar_file(
    path: Path, expected: ExpectedFile, archive: FetchedFile, transfers: Transfers
) -> FetchedFolder:
    """Unpack a tar that stands in the directory, complete and verified; it stays as it is.

    Parameters
    ----------
    path : Path
        The tar.
    expected : ExpectedFile
        What it was expected to be.
    archive : FetchedFile
        What it is.
    transfers : Transfers
        The directory, and whether to stop.

    Raises
    ------
    MemberRefused
        It has a member that is not unpacked, or is no tar; nothing of it stays unpacked.
    VerificationFailed
        It is not any more what it was.
    DiskFull, DirectoryUnusable, Stopped
        What was unpacked so far is kept.
    """
    directory = transfers.directory
    place = unpack_place(directory, expected.name)
    wanted = replace(expected, size=archive.size, sha1=archive.sha1)
    try:
        with open_unpacking(place, wanted, transfers.stop, directory.guard) as part:
            _feed_from(path, wanted, part, transfers)
            sha1 = part.sha1()
            if (part.length, sha1) != (archive.size, archive.sha1):
                part.discard()
                raise changed_since(path)
            return _finish(part, wanted, archive, transfers)
    except MemberRefused:
        remove_unpacking(directory, expected.name, directory.guard)
        raise


def _feed_from(path: Path, expected: ExpectedFile, part: UnpackPart, transfers: Transfers) -> None:
    progress = ProgressReporter(transfers, expected, expected.size)
    with disk_errors(path):
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with disk_errors(path):
            os.lseek(file, part.length, os.SEEK_SET)
        while True:
            with disk_errors(path):
                data = os.read(file, READ_BLOCK_SIZE)
            if not data:
                return
            transfers.check_stop()
            part.check()
            part.append(data)
            progress.report(part.length)
    finally:
        os.close(file)


def _finish(
    part: UnpackPart, expected: ExpectedFile, archive: FetchedFile, transfers: Transfers
) -> FetchedFolder:
    files, own = part.files, part.complete()
    return give_folder_name(part.place, part.note, expected, archive, files, own, transfers)


def goes_on_as_file(directory: DownloadDirectory, expected: ExpectedFile) -> bool:
    """Say whether an earlier run has begun to fetch a product as a file, or to make one again of it."""
    place = unpack_place(directory, expected.name)
    note = read_unpack_note(place)
    if note is not None and note.belongs_to(expected):
        return note.is_repacking
    # What was unpacked of another version is of no use: it is thrown away, and unpacking begins anew.
    return bytes_in_part(directory.part(expected.name)) > 0


def give_up_unpacking(transfers: Transfers, expected: ExpectedFile) -> None:
    """Make a part file of what a run with ``--unpack`` has left, for one that does not unpack."""
    place = unpack_place(transfers.directory, expected.name)
    note = read_unpack_note(place)
    if note is not None and note.belongs_to(expected):
        repack(place, note, expected, transfers)
    elif os.path.lexists(place.path):
        remove_unpacking(transfers.directory, expected.name, transfers.directory.guard)
