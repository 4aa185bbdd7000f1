"""How a product that we put into the directory is found there later: as left, touched, changed or gone."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import os
import stat
import threading
from collections.abc import Sequence
from pathlib import Path

from mwa_client.errors import Stopped
from mwa_client.transfer.files import FetchedFile, FetchedFolder, by_name

FILE_READ_SIZE = 1 << 20
"""Bytes that are read at a time."""


class Standing(enum.Enum):
    """How a product that we put into the directory is found there later."""

    AS_LEFT = "as we left it"
    TOUCHED = "of the same size, but modified at another time: only its bytes can tell"
    CHANGED = "changed since"
    GONE = "moved or removed since"

    # An enum's own hash is written in Python, and a look at a directory has thousands of them.
    __hash__ = object.__hash__


def standing_of(directory: Path, files: Sequence[FetchedFile]) -> Standing:
    """Say how a product is found in the directory, without reading its bytes.

    Parameters
    ----------
    directory : Path
        The download directory.
    files : sequence of FetchedFile
        The product as we left it.
    """
    names = by_name(directory, files)
    if any(not os.path.lexists(directory / name) for name in names):
        return Standing.GONE
    found = {standing_of_file(file) for file in files}
    if found & {Standing.CHANGED, Standing.GONE}:  # A file that is missing from a folder changed the folder.
        return Standing.CHANGED
    if Standing.TOUCHED not in found:
        return Standing.AS_LEFT
    # Who works in a folder goes on working: it is not read again, and noted, each time.
    is_worked_on = len(files) > 1 and any(file.is_changed for file in files)
    return Standing.CHANGED if is_worked_on else Standing.TOUCHED


def read_again(files: Sequence[FetchedFile], stop: threading.Event) -> tuple[FetchedFile, ...] | None:
    """Read a touched product again; return it as it is now, or None where it cannot be read.

    It has its new times, up to the first file whose bytes have changed: then the others need not be read. It
    is begun with the smallest, where one who works in a folder leaves traces first.

    Raises
    ------
    Stopped
        `stop` was set before one file was read; later, what has been read is returned.
    """
    again = {file.path: file for file in files}
    for file in sorted(files, key=lambda file: file.size):
        if standing_of_file(file) is Standing.TOUCHED:
            try:
                mtime_ns = file.path.lstat().st_mtime_ns
                is_changed = sha1_of(file.path, stop) != file.sha1
            except Stopped:
                if tuple(again.values()) == tuple(files):
                    raise
                break
            except OSError:
                return None  # Whoever took away the right to read it has changed it.
            again[file.path] = dataclasses.replace(file, mtime_ns=mtime_ns, is_changed=is_changed)
            if is_changed:
                break
    return tuple(again.values())


def standing_of_file(file: FetchedFile) -> Standing:
    """Say how one file is found, without reading its bytes."""
    is_folder = isinstance(file, FetchedFolder)
    return standing_at(file.path, file.size, file.mtime_ns, is_folder=is_folder, is_changed=file.is_changed)


def standing_at(
    path: Path | str, size: int, mtime_ns: int | None, *, is_folder: bool = False, is_changed: bool = False
) -> Standing:
    """Say how a file, or a folder that was unpacked, is found of which all but its bytes is known.

    The arguments are as of a `FetchedFile`.
    """
    try:
        state = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return Standing.GONE
    except OSError:
        return Standing.CHANGED
    # Sizes and times are the owner's to choose: another user's file is none that we left.
    is_ours = state.st_uid == os.geteuid()
    if is_folder:
        # By its own time alone: its user works in it, and to look at a million files would take minutes; it
        # is never replaced anyway.
        is_as_left = is_ours and stat.S_ISDIR(state.st_mode) and mtime_ns in (None, state.st_mtime_ns)
        return Standing.AS_LEFT if is_as_left else Standing.CHANGED
    if not (is_ours and stat.S_ISREG(state.st_mode) and state.st_size == size):
        return Standing.CHANGED
    if state.st_mtime_ns != mtime_ns:
        return Standing.TOUCHED
    return Standing.CHANGED if is_changed else Standing.AS_LEFT


def sha1_of(path: Path, stop: threading.Event) -> str:
    """Return the SHA-1 of a file, which is no link.

    Raises
    ------
    Stopped
        `stop` was set.
    OSError
        It cannot be read.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return sha1_of_open(handle, stop)
    finally:
        os.close(handle)


def sha1_of_open(file: int, stop: threading.Event) -> str:
    """Return the SHA-1 of an open file, from where it stands; raises as `sha1_of`."""
    digest = hashlib.sha1(usedforsecurity=False)
    while data := os.read(file, FILE_READ_SIZE):
        digest.update(data)
        if stop.is_set():
            raise Stopped("The work was told to stop.")
    return digest.hexdigest()
