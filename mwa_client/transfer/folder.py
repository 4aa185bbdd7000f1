"""A product that was delivered to a file system which this host can see: copied, never moved.

The copy grows beside the ledger and gets its name at the end; a killed copy is continued. Links are copied
as links, modes are never widened, and a delivery that changes under our hands is not called a product.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mwa_client.directory.disk import disk_errors, sync_directory, sync_path
from mwa_client.directory.trees import remove_tree, walk_tree
from mwa_client.errors import ServiceUnavailable, Stopped, TransferFailed
from mwa_client.timing import Backoff, Clock
from mwa_client.transfer.delivered import Entry, entries_of, unreadable
from mwa_client.transfer.download import PROGRESS_INTERVAL, Progress, Setback, TransferEvent
from mwa_client.transfer.files import (
    DownloadDirectory,
    FetchedFile,
    Standing,
    rename_to_free_name,
    standing_of,
    take_other_name,
)
from mwa_client.transfer.journal import Copied, Journal
from mwa_client.transfer.part_file import ExpectedFile

if TYPE_CHECKING:
    pass

READ_SIZE = 1 << 20
"""Bytes that are copied at a time."""
SYNC_SIZE = 64 << 20
"""Bytes of one file after which it is flushed to disk: what a power cut can cost."""
FEW_FILES = 100
"""So many files are flushed to disk one by one; for more, the system is asked to write all that it has."""
TRIES = 6
"""Tries in a row to read on where a file system has failed, with waits from 1 s to 1 min between them."""


def copy(
    wanted: ExpectedFile,
    source: Path,
    place: DownloadDirectory,
    clock: Clock,
    stop: threading.Event,
    listen: Callable[[TransferEvent], None],
) -> tuple[FetchedFile, ...]:
    """Copy a delivered file or folder into the directory under its final name.

    Parameters
    ----------
    wanted : ExpectedFile
        The job, the final name, and the size of all files together.
    source : Path
        What was delivered. It is only read.
    place, clock, stop, listen
        As for `mwa_client.transfer.download.fetch`.

    Returns
    -------
    tuple of FetchedFile
        The files under the final name.

    Raises
    ------
    TransferFailed
        The source cannot be read, has no files or not the size that the service says, has gone, changes
        while it is copied, or has a link that leads out of it.
    DiskFull, DirectoryUnusable, Stopped
        As for `mwa_client.transfer.download.fetch`.
    """
    there = place.names.made_by(wanted.job_id, wanted.name)
    if there and standing_of(place.directory, there) is Standing.AS_LEFT:
        _forget(wanted, place)  # A run that was killed in its last moment may have left something.
        return there
    entries = entries_of(source)
    _check_size(wanted, source, entries)
    with _Copy(wanted, source, place, clock, stop, listen) as copying:
        copying.copy_all(entries)
        if entries_of(source) != entries:
            raise _changed(source)
        return copying.settle(entries)


def _forget(wanted: ExpectedFile, place: DownloadDirectory) -> None:
    with disk_errors(place.memory):
        remove_tree(place.part(wanted.name))
        journal_path(place, wanted.name).unlink(missing_ok=True)


def journal_path(place: DownloadDirectory, name: str) -> Path:
    """Return where it is noted how far the copy of a folder is."""
    return place.memory / f"{name}.copied"


# --- The source ---------------------------------------------------------------------------------------


def _check_size(wanted: ExpectedFile, source: Path, entries: list[Entry]) -> None:
    size = sum(entry.size for entry in entries)
    if wanted.size not in (None, size):
        raise TransferFailed(
            f"{source} has {size} bytes, but the service says {wanted.size}.",
            "Part of it may have been purged. Look at the delivery, and tell the archive's help desk.",
        )


def _changed(path: str | Path) -> TransferFailed:
    return TransferFailed(
        f"{path} changed while it was copied.",
        "Run the command again when nobody writes there any more; what was copied is kept.",
    )


class _Copy:
    """A copy on its way."""

    def __init__(
        self,
        wanted: ExpectedFile,
        source: Path,
        place: DownloadDirectory,
        clock: Clock,
        stop: threading.Event,
        listen: Callable[[TransferEvent], None],
    ) -> None:
        self._wanted = wanted
        self._source = source
        self._place = place
        self._clock = clock
        self._stop = stop
        self._listen = listen
        self._target = place.part(wanted.name)
        self._backoff = Backoff(clock, first=1.0, cap=60.0)
        self._buffer = memoryview(bytearray(READ_SIZE))
        self._fetched: dict[str, int] = {}
        self._modes: list[tuple[Path, int]] = []
        self._size = self._done = 0
        self._told = float("-inf")
        with disk_errors(self._target):
            place.guard()
            self._journal = Journal(journal_path(place, wanted.name), wanted.job_id, source)
            if not self._journal.is_continued:
                remove_tree(self._target)

    def __enter__(self) -> _Copy:
        return self

    def __exit__(self, *exception: object) -> None:
        self._journal.close()

    def copy_all(self, entries: list[Entry]) -> None:
        """Copy what is missing."""
        self._size = sum(entry.size for entry in entries)
        for entry in entries:
            self._place.guard()
            self._heed_stop()
            if entry.is_file:
                self._copy_file(entry)
            elif entry.target:
                self._copy_link(entry)
            else:
                self._make_folder(entry)
        if self._journal.is_continued:
            self._remove_strays({entry.name for entry in entries})

    def settle(self, entries: list[Entry]) -> tuple[FetchedFile, ...]:
        """Bring the copy to the disk, and give it its final name."""
        with disk_errors(self._target):
            self._sync(entries)
            for path, mode in reversed(self._modes[1:]):
                path.chmod(mode)
            files = self._rename(entries)
            sync_directory(self._place.directory)
            journal_path(self._place, self._wanted.name).unlink(missing_ok=True)
        return files

    def _rename(self, entries: list[Entry]) -> tuple[FetchedFile, ...]:
        """Give the copy its final name, or another one where something has that; nothing is replaced."""
        wanted = self._wanted
        while True:
            final = self._place.directory / wanted.name
            files = tuple(self._file(final, entry) for entry in entries if entry.is_file)
            self._place.guard()
            self._place.names.placing(self._place.directory, wanted.job_id, files)
            if rename_to_free_name(self._target, final):
                for _, mode in self._modes[:1]:
                    final.chmod(mode)  # Not before: a folder that is not to be written into cannot be moved.
                return files
            wanted = take_other_name(wanted, self._place, self._listen)

    def _file(self, final: Path, entry: Entry) -> FetchedFile:
        path, mtime_ns = final / entry.name, os.lstat(self._path(entry)).st_mtime_ns
        sha1, fetched = self._journal.copied(entry).sha1, self._fetched.get(entry.name, 0)
        return FetchedFile(path, entry.size, sha1, False, fetched, mtime_ns)

    def _path(self, entry: Entry) -> str:
        # As text: a delivery can have twenty thousand files, and a Path is slow to make.
        return f"{self._target}/{entry.name}" if entry.name else str(self._target)

    def _sync(self, entries: list[Entry]) -> None:
        """Bring all to the disk that is not known to be there."""
        unsynced = [entry for entry in entries if entry.is_file and not self._journal.copied(entry).synced]
        if len(unsynced) > FEW_FILES:
            os.sync()  # One by one, twenty thousand files would take half a minute.
            return
        for path in [*map(self._path, unsynced), *(str(path) for path, _ in self._modes)]:
            sync_path(Path(path))

    # --- One entry ---

    def _make_folder(self, entry: Entry) -> None:
        path = Path(self._path(entry))
        with disk_errors(path):
            # Until the copy is finished we must be able to write there.
            if path.is_dir() and not path.is_symlink():
                path.chmod(stat.S_IMODE(path.lstat().st_mode) | 0o700)
            else:
                path.unlink(missing_ok=True)
                path.mkdir(entry.permissions | 0o700)
            self._modes.append((path, stat.S_IMODE(path.lstat().st_mode) & entry.permissions))

    def _copy_link(self, entry: Entry) -> None:
        path = Path(self._path(entry))
        with disk_errors(path):
            if not (path.is_symlink() and str(path.readlink()) == entry.target):
                remove_tree(path)
                path.symlink_to(entry.target)

    def _copy_file(self, entry: Entry) -> None:
        copied = self._journal.copied(entry)
        is_there = bool(copied.sha1) and _has_size(self._path(entry), entry.size)
        while not is_there:
            try:
                self._copy_content(entry)
                is_there = True
            except ServiceUnavailable as error:
                self._wait(entry, error)
        self._done += entry.size
        self._tell(self._done)

    def _copy_content(self, entry: Entry) -> None:
        """Copy the bytes of a file, from where its copy ends."""
        copied = self._journal.copied(entry)
        with _FileCopy(entry, self._source, self._path(entry), 0 if copied.sha1 else copied.count) as file:
            file.catch_up(self._heed_stop)
            while count := file.read_into(self._buffer):
                self._place.guard()
                file.write(self._buffer[:count])
                self._fetched[entry.name] = self._fetched.get(entry.name, 0) + count
                if file.unsynced >= SYNC_SIZE:
                    file.sync()
                    self._note(entry, file.position)
                self._backoff.reset()
                self._tell(self._done + file.position)
                self._heed_stop()
            sha1, is_large = file.finish(), entry.size >= SYNC_SIZE
            if is_large:
                file.sync()
            self._note(entry, entry.size, sha1, synced=is_large)

    def _note(self, entry: Entry, count: int, sha1: str = "", *, synced: bool = True) -> None:
        self._journal.note(entry.name, Copied(entry.size, entry.mtime_ns, count, sha1, synced))

    # --- Small steps ---

    def _remove_strays(self, names: set[str]) -> None:
        """Remove from the copy what an earlier run has copied and is not in the delivery any more."""
        with disk_errors(self._target):
            if self._target.is_dir() and not self._target.is_symlink():
                start = len(str(self._target)) + 1
                strays = [one.path for one in walk_tree(self._target) if one.path[start:] not in names]
                for stray in reversed(strays):
                    remove_tree(Path(stray))

    def _wait(self, entry: Entry, error: ServiceUnavailable) -> None:
        """Wait before reading on: file systems of clusters hang and come back as networks do."""
        if self._backoff.tries >= TRIES:
            raise TransferFailed(
                error.what, "What was copied is kept: run the command again to go on."
            ) from error
        is_first = self._backoff.tries == 0
        waiting = self._backoff.next()
        if is_first:
            self._listen(Setback(self._wanted.job_id, self._wanted.name, error.what, waiting))
        self._clock.sleep(waiting, self._stop)
        self._heed_stop()

    def _heed_stop(self) -> None:
        if self._stop.is_set():
            raise Stopped("The work was told to stop.")

    def _tell(self, done: int) -> None:
        now = self._clock.monotonic()
        if now - self._told >= PROGRESS_INTERVAL or done == self._size:
            self._told = now
            self._listen(Progress(self._wanted.job_id, self._wanted.name, done, self._size))


class _FileCopy:
    """One file of a delivery on its way: the file itself, and its copy.

    Attributes
    ----------
    position : int
        Bytes that are copied.
    unsynced : int
        Those of them that are not known to be on disk.
    """

    def __init__(self, entry: Entry, root: Path, target: str, position: int) -> None:
        self.position = position
        self.unsynced = 0
        self._entry = entry
        self._path = f"{root}/{entry.name}" if entry.name else str(root)
        self._target_path = target
        self._digest = hashlib.sha1(usedforsecurity=False)
        self._source = self._target = -1

    def __enter__(self) -> _FileCopy:
        try:
            self._open()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        for file in (self._source, self._target):
            if file >= 0:
                os.close(file)

    def catch_up(self, heed_stop: Callable[[], None]) -> None:
        """Take what an earlier run has copied into the SHA-1."""
        with disk_errors(self._target_path):
            while os.lseek(self._target, 0, os.SEEK_CUR) < self.position:
                self._digest.update(os.read(self._target, READ_SIZE))
                heed_stop()

    def read_into(self, room: memoryview) -> int:
        """Read the next bytes; 0 at the end.

        Raises
        ------
        ServiceUnavailable
            They cannot be read for the moment.
        TransferFailed
            They cannot be read, or are more than there were.
        """
        with _reading(self._path):
            count = os.readv(self._source, [room])
        if self.position + count > self._entry.size:
            raise _changed(self._path)
        return count

    def write(self, data: memoryview) -> None:
        """Write these bytes to the copy."""
        self._digest.update(data)
        self.position += len(data)
        self.unsynced += len(data)
        with disk_errors(self._target_path):
            while data:
                data = data[os.write(self._target, data) :]

    def sync(self) -> None:
        """Bring the copy to the disk."""
        with disk_errors(self._target_path):
            os.fsync(self._target)
        self.unsynced = 0

    def finish(self) -> str:
        """Give the copy its permissions, and return its SHA-1, if the source is still as it was."""
        self._must_be_unchanged()
        if self.position != self._entry.size:
            raise _changed(self._path)
        with disk_errors(self._target_path):
            os.fchmod(self._target, os.fstat(self._target).st_mode & self._entry.permissions)
        return self._digest.hexdigest()

    def _open(self) -> None:
        with _reading(self._path):
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            self._source = os.open(self._path, flags)
        self._must_be_unchanged()
        with disk_errors(self._target_path):
            if not self.position or not _has_size(self._target_path, self.position, or_more=True):
                self.position = 0
                if os.path.lexists(self._target_path):
                    remove_tree(Path(self._target_path))
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._target = os.open(self._target_path, flags, self._entry.permissions | 0o600)
            if self.position:
                os.ftruncate(self._target, self.position)
        with _reading(self._path):
            os.lseek(self._source, self.position, os.SEEK_SET)

    def _must_be_unchanged(self) -> None:
        with _reading(self._path):
            state = os.fstat(self._source)
        is_file = stat.S_ISREG(state.st_mode)
        if not is_file or (state.st_size, state.st_mtime_ns) != (self._entry.size, self._entry.mtime_ns):
            raise _changed(self._path)


@contextmanager
def _reading(path: str) -> Iterator[None]:
    """Turn what the system says about a file of the delivery into one of our errors."""
    try:
        yield
    except OSError as error:
        if error.errno in (
            errno.EIO,
            errno.ESTALE,
            errno.ETIMEDOUT,
            errno.EAGAIN,
            errno.ENOTCONN,
            errno.ESHUTDOWN,
        ):
            raise ServiceUnavailable(f"Reading {path} failed ({error.strerror}).") from error
        raise unreadable(path, error) from error


def _has_size(path: str, size: int, *, or_more: bool = False) -> bool:
    try:
        state = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(state.st_mode) and (state.st_size == size or (or_more and state.st_size > size))
