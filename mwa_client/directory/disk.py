"""The disk: how much room it has, how bytes get onto it for good, and its errors in our own words."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from mwa_client.descriptors import OUT_OF_THEM
from mwa_client.errors import DirectoryUnusable, DiskFull, NoFileOpened


def free_bytes(directory: Path) -> float:
    """Return how many bytes there is room for; infinite where the system does not say. Knows no quotas."""
    with disk_errors(directory):
        state = os.statvfs(directory)
    return float(state.f_bavail * state.f_frsize) if state.f_blocks else float("inf")


@contextmanager
def disk_errors(path: str | Path) -> Iterator[None]:
    """Turn what the operating system says about a file into one of our errors.

    Raises
    ------
    DiskFull
        No room, or no quota.
    NoFileOpened
        No more files can be opened.
    DirectoryUnusable
        Anything else.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DiskFull(
                f"No room left to write {path} ({(error.strerror or '').lower()}).",
                "Make room, then run the same command again; what was fetched is kept.",
            ) from error
        if error.errno in OUT_OF_THEM:
            raise NoFileOpened from error
        raise DirectoryUnusable(
            f"Cannot write {path}: {error.strerror or error}.",
            "Check the directory's permissions, or choose another with --dir.",
        ) from error


def sync_path(path: Path) -> None:
    """Bring a file's bytes, or a directory's entries, to the disk."""
    if path.is_dir():
        sync_directory(path)
    else:
        _sync(path)


def sync_directory(directory: Path) -> None:
    """Bring a directory's entries to the disk, so that a power cut does not undo a rename; if that can be.

    Many file systems cannot do it, and each says so in its own way; a directory that we may write need not
    be one that we may open. What stands there is as true as before, it only may not outlive a power cut: the
    next run would see that, and fetch it again. So whatever the system says is passed over, unless it says
    that the directory is not there any more.
    """
    try:
        _sync(directory)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE):
            raise


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@cache
def boot_id() -> str:
    """Return what names this boot of this machine; empty where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
