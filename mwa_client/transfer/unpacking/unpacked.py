"""An unpacked product gets its final name, once, and is known as ours after any crash."""

from __future__ import annotations

import dataclasses
import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Callable

from mwa_client.directory.disk import boot_id, disk_errors, sync_directory, sync_path
from mwa_client.directory.names import name_in_text, name_on_disk
from mwa_client.directory.our_files import open_new
from mwa_client.directory.trees import walk_tree
from mwa_client.errors import VerificationFailed
from mwa_client.transfer.common import Transfers
from mwa_client.transfer.files import DownloadDirectory, ExpectedFile, FetchedFile, FetchedFolder
from mwa_client.transfer.names import folder_name, rename_to_free_name, take_other_name
from mwa_client.transfer.part_file import SYNC_SIZE
from mwa_client.transfer.standing import Standing, standing_of_file
from mwa_client.transfer.unpacking.kept import (
    FinalFolder,
    SumLines,
    UnpackNote,
    UnpackPlace,
    read_unpack_note,
    remove_unpack_place,
    unpack_place,
    write_unpack_note,
)
from mwa_client.transfer.unpacking.member_folder import group_bit
from mwa_client.transfer.unpacking.members import path_text


def give_folder_name(
    place: UnpackPlace,
    note: UnpackNote,
    expected: ExpectedFile,
    archive: FetchedFile,
    files: int,
    own: tuple[int, int | None],
    transfers: Transfers,
) -> FetchedFolder:
    """Give an unpacked folder its final name, or another where that is taken; nothing is replaced.

    Parameters
    ----------
    place : UnpackPlace
        Where it stands; all of it is on the disk.
    note : UnpackNote
        What its note says.
    expected : ExpectedFile
        The archive, as it was expected.
    archive : FetchedFile
        The archive as it came; its path does not count.
    files : int
        How many files the folder has.
    own : tuple of (int, int or None)
        Permissions of the folder itself, and its time where the archive says one.
    transfers : Transfers
        The directory, and who is told of another name.

    Returns
    -------
    FetchedFolder
        The folder. What else is in `place` stays until `finish_unpacked`.
    """
    directory, members = transfers.directory, place.members
    name = directory.names.claim(folder_name(expected.name), expected.job_id, expected.obs_id)
    expected = dataclasses.replace(expected, name=name)
    with disk_errors(members):
        if own[1] is not None:
            os.utime(members, ns=(own[1], own[1]))
        state = members.lstat()
    while True:
        final = FinalFolder(
            expected.name, state.st_ino, own[0], state.st_mtime_ns, files, archive.size, archive.sha1
        )
        folder = _as_fetched(directory, place, final, archive.verified, archive.fetched)
        with disk_errors(members):
            directory.guard()
            _write_final_sums(place, expected.name)
            note = dataclasses.replace(note, boot=boot_id(), is_finishing=True, final=final)
            write_unpack_note(place, note, sync=True)
            directory.names.placing(directory.path, expected.job_id, [folder])
            directory.guard()
            if rename_to_free_name(members, folder.path):
                break
        expected = take_other_name(expected, directory, transfers.listen)
    with disk_errors(folder.path):
        _set_own(folder.path, final)
        sync_directory(directory.path)
        sync_directory(place.path)
    return folder


def renamed_folder(directory: DownloadDirectory, expected: ExpectedFile) -> FetchedFolder | None:
    """Return the folder that a run has given its final name before it was ended, if it stands there."""
    place = unpack_place(directory, expected.name)
    note = read_unpack_note(place)
    if note is None or note.final is None or not note.belongs_to(expected):
        return None
    path = directory.path / name_on_disk(note.final.name)
    with disk_errors(path), suppress(FileNotFoundError):
        # Not by its device: other nodes have another number for the same file system.
        if path.lstat().st_ino == note.final.inode and not os.path.lexists(place.members):
            directory.guard()
            _set_own(path, note.final)
            return _as_fetched(directory, place, note.final, expected.sha1 is not None, 0)
    return None


def finish_unpacked(directory: DownloadDirectory, folder: FetchedFolder) -> None:
    """Remove what was kept of an unpacked product, once it is recorded that it is complete."""
    if folder.sums is not None:
        remove_unpack_place(UnpackPlace(folder.sums.parent), directory.guard)


def remove_unpacking(
    directory: DownloadDirectory, name: str, guard: Callable[[], None] = lambda: None
) -> None:
    """Remove what was unpacked of a product and not finished; a missing one is no error."""
    remove_unpack_place(unpack_place(directory, name), guard)


def bytes_in_unpacking(directory: DownloadDirectory, name: str) -> int:
    """Return how many bytes of a product have been unpacked; 0 where there are none."""
    place = unpack_place(directory, name)
    note = read_unpack_note(place)
    if note is not None and (note.is_finishing or note.synced >= SYNC_SIZE):
        # Where all is here, permissions may let nobody in; where it is much, it may be a million files.
        # What has come since the last flush is less than one window.
        return note.synced
    with disk_errors(place.path), suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        files = (entry for entry in walk_tree(place.members) if entry.is_file(follow_symlinks=False))
        states = (entry.stat(follow_symlinks=False) for entry in files)
        # A file with several names came once.
        return place.kept.lstat().st_size + round(sum(state.st_size / state.st_nlink for state in states))
    return 0


def remove_archive(directory: DownloadDirectory, expected: ExpectedFile) -> None:
    """Remove an archive that was unpacked, if we made it for this job, and it is as we left it."""
    path = directory.path / expected.name
    for made in directory.names.made_by(expected.job_id, expected.name):
        if made.path == path and not isinstance(made, FetchedFolder):
            with disk_errors(path):
                directory.guard()
                if standing_of_file(made) is Standing.AS_LEFT:
                    path.unlink(missing_ok=True)


def changed_since(path: Path) -> VerificationFailed:
    """Return the error for an archive that is not any more what was verified."""
    return VerificationFailed(
        f"{path} has been changed since it was verified.", "Move it away to have it downloaded again."
    )


def _as_fetched(
    directory: DownloadDirectory, place: UnpackPlace, final: FinalFolder, verified: bool, fetched: int
) -> FetchedFolder:
    path = directory.path / name_on_disk(final.name)
    known = path, final.size, final.sha1, verified, fetched, final.mtime_ns
    return FetchedFolder(*known, files=final.files, sums=place.final_sums)


def _set_own(path: Path, final: FinalFolder) -> None:
    """Set the folder's own time and permissions; a folder that is not to be written into cannot be moved.

    It stands where others may be able to write: whatever they put in its place stays as it is.
    """
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except PermissionError:
        return  # They were set before, and came last.
    try:
        state = os.fstat(folder)
        if state.st_ino != final.inode:
            raise OSError(errno.ESTALE, "something else has been put in its place")
        if state.st_mtime_ns != final.mtime_ns:
            os.utime(folder, ns=(final.mtime_ns, final.mtime_ns))
        os.fchmod(folder, final.mode | group_bit(state))
    finally:
        os.close(folder)


def _write_final_sums(place: UnpackPlace, name: str) -> None:
    """Write the list of files anew, with their names below the download directory."""
    lines = SumLines(place.sums)
    try:
        with os.fdopen(open_new(place.final_sums), "wb") as file:
            file.writelines(_final_lines(lines, name_in_text(name)))
        sync_path(place.final_sums)
    finally:
        lines.close()


def _final_lines(lines: SumLines, name: str) -> Iterator[bytes]:
    for _, sha1, path in lines.lines():
        yield f"{sha1}  {name}/{path_text(path)}\n".encode("utf-8", "surrogateescape")
