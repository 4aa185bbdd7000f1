"""The disk: how much room it has, how bytes get onto it for good, and its errors in our own words."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from mwa_client.descriptors import OUT_OF_THEM
from mwa_client.errors import DirectoryUnusable, DiskFull, NoFileOpened

NOTHING_THERE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)
"""What the system says where there is no file to be read. After any other error there may well be one."""


def free_bytes(directory: Path) -> float:
    """Return how many bytes there is room for, quotas aside; infinite where the system does not say."""
    with disk_errors(directory):
        state = os.statvfs(directory)
    return float(state.f_bavail * state.f_frsize) if state.f_blocks else float("inf")


@contextmanager
def disk_errors(path: str | Path) -> Iterator[None]:
    """Turn an error of the operating system about a file into one of our own.

    Raises
    ------
    DiskFull
        The disk is full, or the user's quota is.
    NoFileOpened
        This process cannot open any more files.
    DirectoryUnusable
        Any other error.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DiskFull(
                f"No room left to write {path} ({_what_is_full(path, error)}).",
                "Make room, then run the same command again; what was downloaded is kept.",
            ) from error
        if error.errno in OUT_OF_THEM:
            raise NoFileOpened from error
        what = (
            "There is a file where a directory must be"
            if error.errno == errno.ENOTDIR
            else "Check the directory's permissions"
        )
        raise DirectoryUnusable(
            f"Cannot write {path}: {error.strerror or error}.", f"{what}, or choose another with --dir."
        ) from error


def write_all(file: int, data: bytes) -> None:
    """Write all of some bytes to an open file.

    A disk that fills up takes the beginning of a write, and says so only of the rest.
    """
    with memoryview(data) as rest:
        written = 0
        while written < len(rest):
            written += os.write(file, rest[written:])


def length_so_far(file: int) -> int:
    """Return how long an open file is that is being written; its position is at the end then.

    `os.fstat` tells times as well, and to know them NFS first brings to the server all that was written.
    """
    return os.lseek(file, 0, os.SEEK_END)


def is_in_place(file: int, path: Path) -> bool:
    """Say whether an open file or folder is still what has its name."""
    return os.path.lexists(path) and os.path.samestat(os.fstat(file), path.lstat())


def _what_is_full(path: str | Path, error: OSError) -> str:
    """Return what there is no room for: where files are many and small, it may be their number."""
    with suppress(OSError):
        state = os.statvfs(path if os.path.lexists(path) else Path(path).parent)
        if error.errno == errno.ENOSPC and state.f_files and not state.f_favail and state.f_bavail:
            return "the file system can hold no more files, however small"
    return (error.strerror or "").lower()


def sync_path(path: Path) -> None:
    """Flush a file's bytes, or a directory's entries, to the disk."""
    if path.is_dir():
        sync_directory(path)
    else:
        _sync(path)


def sync_directory(directory: Path) -> None:
    """Flush a directory's entries to the disk, where possible, so that a power cut undoes no rename.

    Many file systems cannot do it, each with an error of its own, and a directory that we may write is not
    always one that we may open. Without the flush, a power cut may lose the rename; the next run would see
    that, and fetch the file again. So every error is ignored, except that the directory does not exist.
    """
    try:
        _sync(directory)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE):
            raise


def sync_file_system(path: Path) -> None:
    """Flush all that was written to the file system of a path, where its files are too many to flush each.

    Where the system has no call for that, all its file systems are flushed.
    """
    import ctypes  # Rarely needed, and not free to load.

    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        sync = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
        if sync is None or sync(handle) != 0:
            os.sync()
    finally:
        os.close(handle)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@cache
def boot_id() -> str:
    """Return the system's id of this boot of this machine; empty where it has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
