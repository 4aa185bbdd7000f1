"""A zip that stands in the directory, complete and verified, becomes a folder: the products of 2018.

A zip has its list of files at its end, so it is not unpacked while it arrives. The rules for what is in it
are those for a tar (`mwa_client.transfer.unpacking.members`).
"""

from __future__ import annotations

import errno
import lzma
import os
import stat
import struct
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from mwa_client.directory.disk import boot_id, disk_errors, free_bytes, sync_file_system
from mwa_client.directory.our_files import state_directory
from mwa_client.errors import DiskFull, VerificationFailed
from mwa_client.formatting import format_size
from mwa_client.transfer.common import ProgressReporter, Transfers
from mwa_client.transfer.files import ExpectedFile, FetchedFile, FetchedFolder
from mwa_client.transfer.part_hash import PartBroken
from mwa_client.transfer.standing import sha1_of_open
from mwa_client.transfer.unpacking.inspection import Inspection
from mwa_client.transfer.unpacking.kept import SumLines, UnpackNote, UnpackPlace, unpack_place
from mwa_client.transfer.unpacking.member_file import MemberFile
from mwa_client.transfer.unpacking.member_folder import MemberFolder, umask
from mwa_client.transfer.unpacking.members import (
    KEPT_BITS,
    LONGEST_PATH_BELOW,
    USUAL_FILE_MODE,
    USUAL_FOLDER_MODE,
    Member,
    MemberKind,
    MemberRefused,
    NoArchive,
    UnpackRefused,
    check_link,
    member_path,
)
from mwa_client.transfer.unpacking.unpacked import (
    changed_since,
    give_folder_name,
    remove_archive,
    remove_unpacking,
)

ZIP_BEGINNINGS = (b"PK\3\4", b"PK\5\6")
"""With what a zip begins: its first file, or the end of an empty one."""
LARGEST_DIRECTORY = 8 << 20
"""The most bytes of a zip's own list of files, which is held in memory: enough for 50,000 files."""
UNZIP_READ_SIZE = 1 << 20
"""Bytes that are read at a time."""
EXTENDED_TIME = 0x5455
"""The extra field with a time in UTC; the usual one is in local time."""
_UNIX = 3
_NOT_THE_DISKS = (None, errno.EINVAL)
"""The numbers of errors that come of a damaged zip: those of bz2, and of places before the beginning."""
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,  # Encrypted, for one; NotImplementedError is one, too.
    ValueError,
    OverflowError,
    struct.error,
)


def is_zip(path: Path) -> bool:
    """Say whether a file begins as a zip does."""
    return beginning_of(path, 4) in ZIP_BEGINNINGS


def beginning_of(path: Path, most: int) -> bytes:
    """Return the first bytes of a file, which is no link; none if it cannot be read."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb", buffering=0) as file:
            return file.read(most) or b""
    except OSError:
        return b""


def unzip(archive: FetchedFile, expected: ExpectedFile, transfers: Transfers) -> FetchedFile:
    """Unpack a zip that stands in the directory, and remove it if it is as we left it.

    Parameters
    ----------
    archive : FetchedFile
        The zip.
    expected : ExpectedFile
        What it was expected to be.
    transfers : Transfers
        The directory, and whether to stop.

    Returns
    -------
    FetchedFile
        The folder; or the archive as it is, where it is no zip after all.

    Raises
    ------
    UnpackRefused
        It has a member that is not unpacked, or is damaged; it stays as it is.
    VerificationFailed
        It is not any more what it was.
    DiskFull, DirectoryUnusable, Stopped
        It is not unpacked yet, and stays.
    """
    expected = replace(expected, name=archive.path.name)
    directory = transfers.directory
    place = unpack_place(directory, expected.name)
    # Nothing of an earlier run is taken up: it takes longer to look what of it is whole than to make it anew.
    remove_unpacking(directory, expected.name, directory.guard)
    try:
        with disk_errors(place.path):
            state_directory(place.path, 0o700)
        folder = _unzip(archive, expected, place, transfers)
    except NoArchive:
        remove_unpacking(directory, expected.name, directory.guard)
        return archive
    except MemberRefused as error:
        remove_unpacking(directory, expected.name, directory.guard)
        raise UnpackRefused(error.member, error.why, archive) from None
    except (PartBroken, VerificationFailed):
        remove_unpacking(directory, expected.name, directory.guard)
        raise
    remove_archive(directory, expected)
    return folder


def _unzip(
    archive: FetchedFile, expected: ExpectedFile, place: UnpackPlace, transfers: Transfers
) -> FetchedFolder:
    with disk_errors(archive.path):
        handle = os.open(archive.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with (
        os.fdopen(handle, "rb") as file,
        _opened(file, archive.path) as packed,
        closing(MemberFolder(place.members, place.path)) as members,
        closing(SumLines(place.sums)) as sums,
    ):
        _check_room(packed, place)
        unzipping = _Unzipping(packed, members, sums, expected, transfers)
        files = unzipping.unpack_all()
        unzipping.inspect(place)
        with disk_errors(place.path):
            _check_archive(handle, archive, transfers.stop)
            own = members.finish()
            sync_file_system(place.path)
    note = UnpackNote(expected.job_id, expected.size, expected.sha1, boot=boot_id())
    return give_folder_name(place, note, expected, archive, files, own, transfers)


class _Unzipping:
    """A zip whose members are being made."""

    def __init__(
        self,
        packed: zipfile.ZipFile,
        members: MemberFolder,
        sums: SumLines,
        expected: ExpectedFile,
        transfers: Transfers,
    ) -> None:
        self._packed = packed
        self._members = members
        self._sums = sums
        self._transfers = transfers
        self._progress = ProgressReporter(transfers, expected, expected.size)
        self._done = 0

    def unpack_all(self) -> int:
        """Make all members; return how many of them are files."""
        files = 0
        for info in self._packed.infolist():
            self._transfers.directory.guard()
            self._transfers.check_stop()
            with _blaming_the_zip(info.orig_filename):
                member = self._member(info)
            self._members.check_free(member)
            if member.kind is MemberKind.FILE:
                self._make_file(info, member)
                files += 1
            else:
                self._members.make(member)
            self._done += info.compress_size
            self._progress.report(self._done)
        return files

    def inspect(self, place: UnpackPlace) -> None:
        """Look at all members once more.

        Raises
        ------
        PartBroken
            They are not what was written.
        """
        inspection = Inspection(self._members, self._sums, place, self._transfers.stop)
        for info in self._packed.infolist():
            self._transfers.check_stop()
            with _blaming_the_zip(info.orig_filename):
                member = self._member(info)
            with disk_errors(place.path):
                inspection.look_at(member)
        inspection.finish()

    def _member(self, info: zipfile.ZipInfo) -> Member:
        if (
            info.external_attr >> 16
            and info.create_system == _UNIX
            and stat.S_ISLNK(info.external_attr >> 16)
        ):
            with self._packed.open(info) as content:
                return member_of_zip(info, content.read(LONGEST_PATH_BELOW + 1))
        return member_of_zip(info)

    def _make_file(self, info: zipfile.ZipInfo, member: Member) -> None:
        with disk_errors(self._members.path):
            line = self._sums.reserve(member.path)
            file = MemberFile(self._members.make_file(member), member, line, self._transfers.stop)
            try:
                for data in self._content(info):
                    file.write(data)
                sha1 = file.finish()
                self._members.finish_file(file.file, member)
            finally:
                file.close()
            self._sums.put(line, sha1, member.path)

    def _content(self, info: zipfile.ZipInfo) -> Iterator[memoryview]:
        """Yield the content of a file, of exactly the size that the zip says."""
        left = info.file_size
        with _blaming_the_zip(info.orig_filename), self._packed.open(info) as content:
            while data := content.read(UNZIP_READ_SIZE):
                left -= len(data)
                if left < 0:
                    break
                self._transfers.check_stop()
                yield memoryview(data)
        if left:
            raise MemberRefused(info.orig_filename, "has another size than the zip says")


def _check_archive(file: int, archive: FetchedFile, stop: threading.Event) -> None:
    """Raise `VerificationFailed` if an open zip is not what was verified; read one that was touched."""
    state = os.fstat(file)
    if (state.st_size, state.st_mtime_ns) != (archive.size, archive.mtime_ns):
        os.lseek(file, 0, os.SEEK_SET)
        if sha1_of_open(file, stop) != archive.sha1:
            raise changed_since(archive.path)


@contextmanager
def _opened(file: BinaryIO, path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip; one that is none, or whose list of files is too large to be held, is not unpacked."""
    with disk_errors(path):
        size = _size_of_directory(file)
        if size is None:
            raise NoArchive(path.name, "is no zip")
        if size > LARGEST_DIRECTORY:
            raise MemberRefused(path.name, "has more files in it than are unpacked from a zip")
        with _blaming_the_zip(path.name):
            packed = zipfile.ZipFile(file)
    with packed:
        yield packed


def _size_of_directory(file: BinaryIO) -> int | None:
    """Return how long a zip says that its list of files is; None where it has no end as a zip has."""
    length = file.seek(0, os.SEEK_END)
    start = max(0, length - (1 << 16) - 100)
    file.seek(start)
    data = file.read()
    file.seek(0)
    end = data.rfind(b"PK\5\6")
    if end < 0 or len(data) < end + 22:
        return None
    size = int(struct.unpack_from("<L", data, end + 12)[0])
    if size != 0xFFFFFFFF:
        return size
    end = data.rfind(b"PK\6\6", 0, end)
    return None if end < 0 or len(data) < end + 56 else int(struct.unpack_from("<Q", data, end + 40)[0])


def _check_room(packed: zipfile.ZipFile, place: UnpackPlace) -> None:
    """Raise `DiskFull` where there is no room for all that is in a zip."""
    needed = sum(info.file_size for info in packed.infolist())
    free = free_bytes(place.path)
    if needed > free:
        raise DiskFull(
            f"No room to unpack {place.path.stem}: it holds {format_size(needed)}, "
            f"and {format_size(int(free))} is free.",
            "Make room, then run the same command again; what was downloaded is kept.",
        )


@contextmanager
def _blaming_the_zip(name: str) -> Iterator[None]:
    """Turn what the library says of a damaged zip into a refusal."""
    try:
        yield
    except _DAMAGED as error:
        raise MemberRefused(name, f"cannot be unpacked ({error})") from None
    except OSError as error:
        if error.errno not in _NOT_THE_DISKS:
            raise
        raise MemberRefused(name, f"cannot be unpacked ({error})") from None


def member_of_zip(info: zipfile.ZipInfo, link: bytes = b"") -> Member:
    """Return what a zip says of a member, checked.

    Parameters
    ----------
    info : zipfile.ZipInfo
        What the zip says.
    link : bytes
        The content, where it is a symbolic link.

    Raises
    ------
    MemberRefused
        It is of a kind that is not unpacked, or has a name or a target that leads outside.
    """
    # The library cuts a name off at a zero byte.
    name = info.orig_filename
    path = member_path(name)
    mode = info.external_attr >> 16 if info.create_system == _UNIX else 0
    kind, permissions = stat.S_IFMT(mode), stat.S_IMODE(mode) & KEPT_BITS
    mtime_ns = _mtime(info) * 1_000_000_000
    if kind == stat.S_IFDIR or (kind == 0 and name.endswith("/")):
        permissions = permissions if kind else USUAL_FOLDER_MODE & ~umask()
        return Member(name, path, MemberKind.FOLDER, permissions, mtime_ns)
    if not path or name.endswith("/"):
        raise MemberRefused(name, "has a name that only a folder can have")
    if kind == stat.S_IFLNK:
        check_link(path, link, name)
        return Member(name, path, MemberKind.LINK, permissions, mtime_ns, target=link)
    if kind not in (0, stat.S_IFREG):
        raise MemberRefused(name, "is a device, a FIFO, or of another kind that is not unpacked")
    if not kind:  # A mode without a kind is no more than half said: 0 then means nothing.
        permissions = permissions or USUAL_FILE_MODE & ~umask()
    return Member(name, path, MemberKind.FILE, permissions, mtime_ns, info.file_size)


def _mtime(info: zipfile.ZipInfo) -> int:
    """Return when a member was last modified, in seconds since 1970."""
    extra = info.extra
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        if kind == EXTENDED_TIME and size >= 5 and len(extra) >= 9 and extra[4] & 1:
            return int(struct.unpack_from("<l", extra, 5)[0])
        extra = extra[4 + size :]
    try:
        return int(time.mktime((*info.date_time, 0, 0, -1)))
    except (OverflowError, ValueError):
        return 0
