"""Copy one file of a delivery: go on where a killed copy ended, and notice if the file changes meanwhile."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mwa_client.directory.disk import disk_errors, length_so_far
from mwa_client.directory.trees import remove_tree
from mwa_client.errors import TransferFailed
from mwa_client.transfer.delivered import Entry, unreadable
from mwa_client.transfer.part_hash import PartBroken

COPY_BLOCK_SIZE = 1 << 20
"""Bytes that are copied at a time."""


class FileCopy:
    """One file of a delivery that is being copied: the file itself, and its copy.

    Attributes
    ----------
    position : int
        Bytes that are copied.
    unsynced : int
        How many of these bytes are not known to be on disk.
    """

    def __init__(self, entry: Entry, root: Path, target: str, position: int) -> None:
        self.position = position
        self.unsynced = 0
        self._entry = entry
        self._path = f"{root}/{entry.name}" if entry.name else str(root)
        self._target_path = target
        self._digest = hashlib.sha1(usedforsecurity=False)
        self._source = self._target = -1

    @property
    def sha1(self) -> str:
        """SHA-1 of the bytes that are copied."""
        return self._digest.hexdigest()

    def __enter__(self) -> FileCopy:
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

    def catch_up(self, sha1: str, check_stop: Callable[[], None]) -> None:
        """Add to the SHA-1 what an earlier run has copied.

        Where that cannot be read back, or is not any more what was copied, the file is begun anew.

        Parameters
        ----------
        sha1 : str
            The SHA-1 of what was copied; empty where that is not known.
        check_stop : callable
            Raises an error if the work is to stop.
        """
        while (position := os.lseek(self._target, 0, os.SEEK_CUR)) < self.position:
            try:
                data = os.read(self._target, min(COPY_BLOCK_SIZE, self.position - position))
            except OSError:
                data = b""
            if not data:
                self._begin_anew()
                return
            self._digest.update(data)
            check_stop()
        if sha1 not in ("", self.sha1):
            self._begin_anew()

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
            raise changed(self._path)
        return count

    def write(self, data: memoryview) -> None:
        """Write these bytes to the copy.

        Raises
        ------
        PartBroken
            It does not have all bytes before them, or has others behind them.
        """
        self._digest.update(data)  # Before the look: what comes between that and the write is not noticed.
        with disk_errors(self._target_path):
            if length_so_far(self._target) != self.position:
                raise PartBroken.because(
                    Path(self._target_path), "another program changed its length while it was being written"
                )
            self.position += len(data)
            self.unsynced += len(data)
            while data:
                data = data[os.write(self._target, data) :]

    def sync(self) -> None:
        """Bring the copy to the disk."""
        with disk_errors(self._target_path):
            os.fsync(self._target)
        self.unsynced = 0

    def finish(self) -> int:
        """Give the copy its permissions, if the source is still as it was; return its inode."""
        self._must_be_unchanged()
        if self.position != self._entry.size:
            raise changed(self._path)
        with disk_errors(self._target_path):
            state = os.fstat(self._target)
            os.fchmod(self._target, state.st_mode & self._entry.permissions)
            return state.st_ino

    def _open(self) -> None:
        with _reading(self._path):
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            self._source = os.open(self._path, flags)
        self._must_be_unchanged()
        if not (self.position and _can_grow(self._target_path, self.position)):
            self.position = 0
        self._open_target()

    def _open_target(self) -> None:
        with disk_errors(self._target_path):
            if not self.position and os.path.lexists(self._target_path):
                remove_tree(Path(self._target_path))
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._target = os.open(self._target_path, flags, self._entry.permissions | 0o600)
            if self.position:
                os.ftruncate(self._target, self.position)
        with _reading(self._path):
            os.lseek(self._source, self.position, os.SEEK_SET)

    def _begin_anew(self) -> None:
        os.close(self._target)
        self._target, self.position = -1, 0
        self._digest = hashlib.sha1(usedforsecurity=False)
        self._open_target()

    def _must_be_unchanged(self) -> None:
        with _reading(self._path):
            state = os.fstat(self._source)
        is_file = stat.S_ISREG(state.st_mode)
        if not is_file or (state.st_size, state.st_mtime_ns) != (self._entry.size, self._entry.mtime_ns):
            raise changed(self._path)


@contextmanager
def _reading(path: str) -> Iterator[None]:
    """Turn an error of the system about a file of the delivery into one of ours."""
    try:
        yield
    except OSError as error:
        raise unreadable(path, error) from error


def _can_grow(path: str, size: int) -> bool:
    """Say whether a file has so many bytes to go on behind, and no second name under which it must stay."""
    try:
        state = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(state.st_mode) and state.st_size >= size and state.st_nlink == 1


def changed(path: str | Path) -> TransferFailed:
    """Return the error for a delivery that changes while it is copied."""
    return TransferFailed(
        f"{path} changed while it was copied.",
        "Run the same command again once nothing is writing there; what was copied is kept.",
    )
