"""Files that neither a kill nor a power cut can spoil, and the disk's errors in our words."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from mwa_client.errors import DirectoryUnusable, DiskFull


def write_safely(path: Path, text: str, sync: bool = True) -> None:
    """Write a small file so that it is at any moment the old one or the new one, never half of it.

    Without `sync` that is so for a kill; a power cut can leave it empty.
    """
    temporary = path.with_name(path.name + ".new")
    with temporary.open("w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
        file.flush()
        if sync:
            os.fsync(file.fileno())
    temporary.replace(path)
    if sync:
        sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Bring a directory's entries to the disk, so that a power cut does not undo a rename."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems cannot sync a directory; then there is no more to be had.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def free_bytes(directory: Path) -> float:
    """Return how many bytes there is room for; infinite where the system does not say. Knows no quotas."""
    with disk_errors(directory):
        state = os.statvfs(directory)
    return float(state.f_bavail * state.f_frsize) if state.f_blocks else float("inf")


@cache
def boot_id() -> str:
    """Return what names this boot of this machine; empty where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what the operating system says about a file into one of our errors.

    Raises
    ------
    DiskFull
        No room, or no quota.
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
        raise DirectoryUnusable(
            f"Cannot write {path}: {error.strerror or error}.",
            "Check the directory's permissions, or choose another with --dir.",
        ) from error
